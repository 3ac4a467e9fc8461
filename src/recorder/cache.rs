//! The frames of a stream that are still in memory: from the last key frame on, and whatever an output has not taken yet.
//!
//! A frame is copied once, from the receive buffer to where it belongs: into the block of an open file, or, if no file takes it (none is wanted, its
//! tracks are not known yet, the storage is busy), into a log. The cache remembers where that is and keeps the blocks from being used anew. An output
//! that is behind (at publish, at a split, for a task that joins later) reads from here and catches up.

use std::collections::VecDeque;

use super::item::{Between, Item, What};
use crate::container::{Pinned, Store};
use crate::media::{Frame, Payload, TagHeader, TrackKind};

/// Beyond this a GOP is not kept for tasks that may join (a 10 s GOP at 6 Mbit/s fits), and a stream whose storage is busy is not read any more.
pub const CACHE_BYTES_MAX: usize = 8 << 20;
/// A GOP is kept until the next one has this age: a task that was asked for a moment ago still begins before that moment.
const KEEP_BEHIND_KEY_MS: i64 = 250;
/// Streams without video: this much audio is kept.
const KEEP_AUDIO_MS: i64 = 1_000;

/// Beyond so many frames a GOP is not kept, either: of small ones the bytes say little.
const FRAMES_MAX: usize = 1 << 16;
/// What stands between the frames and waits for outputs, at most; it waits in vain as long as no frame comes.
const BETWEEN_MAX: usize = 8192;

/// Number of an [`Item`] in its publication, counting up.
pub type Sequence = u64;

/// A file in whose blocks frames of this cache lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChainId(u32);

/// Where the media bytes of a frame lie.
#[derive(Debug)]
pub enum Place {
    /// From this offset of a file on.
    Chain(ChainId, u64),
    /// There was no free block.
    Heap(Box<[u8]>),
}

impl Place {
    /// What [`Cache::keep`] kept.
    pub fn of(kept: Option<(ChainId, u64)>) -> Self {
        kept.map_or_else(|| Self::Heap(Box::default()), |(id, offset)| Self::Chain(id, offset))
    }
}

/// An item without its media bytes.
#[derive(Clone, Copy, Debug)]
pub struct FrameHead {
    pub what: What,
    /// A video key frame, or audio. Of what is no frame of the first tracks: never.
    pub key: bool,
    pub epoch: u32,
    pub dts_ms: i64,
    cts_ms: i32,
    tag_header: TagHeader,
}

impl FrameHead {
    #[inline]
    pub fn of(frame: &Frame<'_>, epoch: u32) -> Self {
        let (key, dts_ms, cts_ms, tag_header) = (frame.key, frame.dts_ms, frame.cts_ms, frame.tag_header);
        Self { what: What::Frame(frame.track), key, epoch, dts_ms, cts_ms, tag_header }
    }

    pub fn of_between(between: &Between<'_>, epoch: u32) -> Self {
        Self { what: between.what(), key: false, epoch, dts_ms: between.time_ms, cts_ms: 0, tag_header: TagHeader::new(&[]) }
    }

    pub fn pts_ms(&self) -> i64 {
        self.dts_ms.saturating_add(i64::from(self.cts_ms))
    }

    /// The first bytes of its tag body; what follows them are the media bytes.
    pub fn tag_header(&self) -> &[u8] {
        self.tag_header.as_slice()
    }
}

#[derive(Debug)]
struct CachedFrame {
    head: FrameHead,
    place: Place,
    len: usize,
}

/// The pinned blocks of one file, in order.
struct Chain<P> {
    id: ChainId,
    /// Each with the newest frame that has bytes in it.
    pins: VecDeque<(P, Sequence)>,
}

pub struct Cache<P> {
    frames: VecDeque<CachedFrame>,
    chains: Vec<Chain<P>>,
    next_chain: u32,
    /// Media bytes of all frames.
    bytes: usize,
    /// Those of them that lie on the heap.
    heap_bytes: usize,
    /// How many are no frames of the first tracks.
    between: usize,
    /// Sequence of `frames[0]`.
    first: Sequence,
    /// Video key frames in the cache.
    keys: VecDeque<Sequence>,
}

impl<P> Default for Cache<P> {
    fn default() -> Self {
        Self { frames: VecDeque::new(), chains: Vec::new(), next_chain: 0, bytes: 0, heap_bytes: 0, between: 0, first: 0, keys: VecDeque::new() }
    }
}

impl<P: Pinned> Cache<P> {
    /// The name of one more file.
    pub fn new_chain(&mut self) -> ChainId {
        self.next_chain += 1;
        ChainId(self.next_chain)
    }

    /// Is any frame of this file in the cache?
    pub fn holds(&self, id: ChainId) -> bool {
        self.chains.iter().any(|chain| chain.id == id)
    }

    /// Keeps the bytes from `offset` to `end` of `file`, which are the next frame's, in memory. They are not committed yet.
    /// `None`: there are none.
    pub fn keep<S: Store<Pin = P>>(&mut self, id: ChainId, file: &S::File, offset: u64, end: u64, store: &mut S) -> Option<(ChainId, u64)> {
        if offset == end {
            return None;
        }
        let sequence = self.end();
        let index = self.chains.iter().position(|chain| chain.id == id).unwrap_or_else(|| {
            self.chains.push(Chain { id, pins: VecDeque::new() });
            self.chains.len() - 1
        });
        let pins = &mut self.chains[index].pins;
        if let Some((pin, newest)) = pins.back_mut()
            && pin.range().start <= offset
            && end <= pin.range().end
        {
            *newest = sequence;
            return Some((id, offset));
        }
        let pinned = pins.back().map_or(offset, |(pin, _)| pin.range().end.max(offset));
        if pinned < end || pins.is_empty() {
            store.pin(file, pinned, |pin| pins.push_back((pin, sequence)));
        }
        for (pin, newest) in pins.iter_mut().rev() {
            if pin.range().end <= offset {
                break;
            }
            *newest = sequence;
        }
        Some((id, offset))
    }

    /// The next frame, with its media bytes kept where they are. As [`Cache::push`], but what a frame consists of goes to its place piece by piece: to gather
    /// it in between would make the processor wait for the stores to the file before.
    pub fn push_kept(&mut self, frame: &Frame<'_>, epoch: u32, (id, offset): (ChainId, u64)) {
        if frame.track == TrackKind::Video && frame.key {
            self.keys.push_back(self.end());
        }
        let len = frame.media.len();
        self.bytes += len;
        self.frames.push_back(CachedFrame { head: FrameHead::of(frame, epoch), place: Place::Chain(id, offset), len });
    }

    pub fn push(&mut self, head: &FrameHead, len: usize, place: Place) {
        let sequence = self.end();
        match head.what {
            What::Frame(TrackKind::Video) if head.key => self.keys.push_back(sequence),
            What::Frame(_) => {}
            What::Further(_) | What::Data => self.between += 1,
        }
        self.bytes += len;
        if let Place::Heap(bytes) = &place {
            self.heap_bytes += bytes.len();
        }
        self.frames.push_back(CachedFrame { head: *head, place, len });
    }

    /// Is there room for one more item between the frames, with so many bytes? Without, it cannot be kept.
    pub fn has_room_between(&self, len: usize) -> bool {
        self.between < BETWEEN_MAX && self.bytes + len <= 2 * CACHE_BYTES_MAX
    }

    /// A frame that nobody needs and that cannot be kept: what was before it is of no use to anybody who joins.
    pub fn pass(&mut self) {
        let end = self.end();
        self.drop_before(end);
        self.first = end + 1;
    }

    /// Sequence of the oldest frame.
    pub fn first(&self) -> Sequence {
        self.first
    }

    /// Sequence behind the newest frame.
    pub fn end(&self) -> Sequence {
        self.first + self.frames.len() as u64
    }

    /// Do the media bytes of a frame in the cache lie in this file?
    pub fn lies_in(&self, sequence: Sequence, id: ChainId) -> bool {
        matches!(self.frames[(sequence - self.first) as usize].place, Place::Chain(of, _) if of == id)
    }

    /// Drops every frame.
    pub fn clear(&mut self) {
        self.drop_before(self.end());
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// There was no free block for a frame.
    pub fn overflows(&self) -> bool {
        self.heap_bytes > 0
    }

    /// `sequence` must lie in the cache.
    pub fn head(&self, sequence: Sequence) -> &FrameHead {
        &self.frames[(sequence - self.first) as usize].head
    }

    /// An item with its media bytes, copied into `scratch`. `sequence` must lie in the cache.
    pub fn get<'a>(&self, sequence: Sequence, scratch: &'a mut Vec<u8>) -> Item<'a> {
        let cached = &self.frames[(sequence - self.first) as usize];
        scratch.clear();
        match &cached.place {
            Place::Heap(bytes) => scratch.extend_from_slice(bytes),
            Place::Chain(id, offset) => self.copy_out(*id, *offset, cached.len, scratch),
        }
        let FrameHead { what, key, dts_ms, cts_ms, tag_header, .. } = cached.head;
        let between = |track| Item::Between(Between { track, time_ms: dts_ms, body: scratch });
        match what {
            What::Frame(track) => Item::Frame(Frame { track, dts_ms, cts_ms, key, tag_header, media: Payload::contiguous(scratch) }),
            What::Further(track) => between(Some(track)),
            What::Data => between(None),
        }
    }

    /// The oldest frame of the first tracks, and the newest.
    pub fn ends(&self) -> Option<(&FrameHead, &FrameHead)> {
        let is_frame = |frame: &&CachedFrame| frame.head.what.is_frame();
        Some((&self.frames.iter().find(is_frame)?.head, &self.frames.iter().rev().find(is_frame)?.head))
    }

    /// The newest frame of the first tracks.
    pub fn newest(&self) -> Option<&FrameHead> {
        self.frames.iter().rev().find(|frame| frame.head.what.is_frame()).map(|frame| &frame.head)
    }

    fn copy_out(&self, id: ChainId, offset: u64, len: usize, scratch: &mut Vec<u8>) {
        let chain = self.chains.iter().find(|chain| chain.id == id).expect("a chain lives as long as its frames");
        let (mut at, end) = (offset, offset + len as u64);
        for (pin, _) in &chain.pins {
            let range = pin.range();
            if at < end && range.contains(&at) {
                let upto = range.end.min(end);
                pin.copy_to(at, (upto - at) as usize, scratch);
                at = upto;
            }
        }
        assert_eq!(scratch.len(), len, "every byte of a frame in the cache is pinned");
    }

    /// Where a task that joins now begins: the newest key frame that is old enough to lie before the moment that was asked for; a stream without
    /// video: the oldest frame.
    pub fn join_point(&self, has_video: bool) -> Sequence {
        if !has_video {
            return self.first;
        }
        self.keys.front().copied().unwrap_or(self.end())
    }

    /// Drops what nobody needs: frames before `needed` that are not part of the GOP kept for tasks; if memory is tight, also that.
    pub fn trim(&mut self, needed: Sequence, tight: bool) {
        let is_large = self.bytes > CACHE_BYTES_MAX || self.frames.len() > FRAMES_MAX;
        if !tight && !is_large && self.keys.len() == 1 && self.keys.front() == Some(&self.first) {
            // The usual case: a GOP that goes on.
            return;
        }
        let Some(&FrameHead { what: newest, dts_ms: newest_dts_ms, .. }) = self.newest() else {
            // What stands in front of the first frame is kept with it.
            return if tight {
                self.drop_before(needed)
            };
        };
        let keep_from = if tight || is_large {
            self.end()
        } else if let Some(&front) = self.keys.front() {
            let mut keep = front;
            for &key in self.keys.iter().skip(1) {
                let age_ms = newest_dts_ms - self.head(key).dts_ms;
                // A jump of the timestamps ends what belongs together.
                if !(0..KEEP_BEHIND_KEY_MS).contains(&age_ms) {
                    keep = key;
                }
            }
            keep
        } else if newest == What::Frame(TrackKind::Audio) {
            let old = |frame: &CachedFrame| !(0..KEEP_AUDIO_MS).contains(&(newest_dts_ms - frame.head.dts_ms));
            // Looked at only when twice as much has gathered, so that the bytes do not move at every frame.
            if self.frames.front().is_some_and(|frame| (0..2 * KEEP_AUDIO_MS).contains(&(newest_dts_ms - frame.head.dts_ms))) {
                self.first
            } else {
                self.first + self.frames.iter().take_while(|frame| old(frame)).count() as u64
            }
        } else {
            self.end()
        };
        self.drop_before(keep_from.min(needed));
    }

    fn drop_before(&mut self, sequence: Sequence) {
        if sequence <= self.first {
            return;
        }
        for frame in self.frames.drain(..(sequence - self.first) as usize) {
            self.bytes -= frame.len;
            self.between -= usize::from(!frame.head.what.is_frame());
            if let Place::Heap(bytes) = frame.place {
                self.heap_bytes -= bytes.len();
            }
        }
        self.first = sequence;
        while self.keys.front().is_some_and(|&key| key < sequence) {
            self.keys.pop_front();
        }
        self.chains.retain_mut(|chain| {
            while chain.pins.front().is_some_and(|&(_, newest)| newest < sequence) {
                chain.pins.pop_front();
            }
            !chain.pins.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::container::Sink;
    use crate::recorder::tests::MemoryStore;

    fn frame(track: TrackKind, dts_ms: i64, key: bool, media: &[u8]) -> Frame<'_> {
        Frame { track, dts_ms, cts_ms: 0, key, tag_header: TagHeader::new(&[1]), media: Payload::contiguous(media) }
    }

    /// A cache whose frames lie in one log.
    struct Logged {
        store: MemoryStore,
        log: <MemoryStore as Store>::File,
        cache: Cache<<MemoryStore as Store>::Pin>,
        chain: ChainId,
    }

    impl Logged {
        fn new() -> Self {
            let (mut store, mut cache) = (MemoryStore::new(), Cache::default());
            let (log, chain) = (store.open_log(), cache.new_chain());
            Self { store, log, cache, chain }
        }

        fn push(&mut self, frame: &Frame<'_>) {
            let offset = self.log.position();
            frame.media.slices().for_each(|slice| self.log.append(slice));
            let kept = self.cache.keep(self.chain, &self.log, offset, self.log.position(), &mut self.store);
            let place = Place::of(kept);
            self.cache.push(&FrameHead::of(frame, 0), frame.media.len(), place);
        }

        fn media(&self, sequence: Sequence) -> Vec<u8> {
            match self.cache.get(sequence, &mut Vec::new()) {
                Item::Frame(frame) => frame.media.to_vec(),
                Item::Between(between) => between.body.to_vec(),
            }
        }
    }

    #[test]
    fn a_gop_is_kept_until_the_next_one_has_some_age() {
        let mut logged = Logged::new();
        for index in 0..100_i64 {
            let dts_ms = index * 40;
            logged.push(&frame(TrackKind::Video, dts_ms, index % 25 == 0, &index.to_le_bytes()));
            logged.cache.trim(logged.cache.end(), false);
            let first = *logged.cache.head(logged.cache.first());
            assert!(first.key, "the cache begins with a key frame");
            assert!(dts_ms - first.dts_ms < 1_000 + KEEP_BEHIND_KEY_MS);
            assert!(dts_ms < 1_000 || dts_ms - first.dts_ms >= KEEP_BEHIND_KEY_MS - 40);
            assert_eq!(logged.media(logged.cache.first()), (first.dts_ms / 40).to_le_bytes());
            assert_eq!(logged.media(logged.cache.end() - 1), index.to_le_bytes());
            assert!(logged.store.pins() <= 1 + 8 * 33 / MemoryStore::BLOCK_BYTES + 1, "{} blocks are kept", logged.store.pins());
        }
        logged.cache.trim(logged.cache.end(), true);
        assert_eq!((logged.cache.first(), logged.cache.bytes(), logged.store.pins()), (100, 0, 0), "nothing is kept when memory is tight");
        assert!(!logged.cache.holds(logged.chain));
    }

    #[test]
    fn what_an_output_needs_stays() {
        let mut logged = Logged::new();
        for index in 0..50_i64 {
            logged.push(&frame(TrackKind::Video, index * 1_000, true, b"xy"));
            logged.cache.trim(3.min(logged.cache.end()), index % 2 == 0);
        }
        assert_eq!(logged.cache.first(), 3);
        logged.cache.trim(logged.cache.end(), false);
        assert_eq!(logged.cache.first(), 48, "the newest key frame has no age yet");
        assert_eq!(logged.cache.bytes(), 4);
    }

    #[test]
    fn audio_alone_keeps_a_second_or_two() {
        let mut logged = Logged::new();
        for index in 0..1_000_i64 {
            logged.push(&frame(TrackKind::Audio, index * 23, true, b"a"));
            logged.cache.trim(logged.cache.end(), false);
            assert!(logged.cache.end() - logged.cache.first() <= 90);
        }
        assert!(logged.cache.end() - logged.cache.first() >= 40);
    }

    #[test]
    fn frames_that_cross_blocks_and_files_come_back_whole() {
        let mut logged = Logged::new();
        let (mut other, other_chain) = (logged.store.open_log(), logged.cache.new_chain());
        let media_of = |sequence: Sequence| vec![sequence as u8; sequence as usize * 37 % 400];
        for index in 0..60_usize {
            let media = media_of(index as Sequence);
            let frame = frame(TrackKind::Video, index as i64 * 40, index == 0, &media);
            if index % 3 == 1 {
                let offset = other.position();
                other.append(&media);
                let place = Place::of(logged.cache.keep(other_chain, &other, offset, other.position(), &mut logged.store));
                logged.cache.push(&FrameHead::of(&frame, 0), media.len(), place);
            } else if index % 7 == 2 {
                logged.cache.push(&FrameHead::of(&frame, 0), media.len(), Place::Heap(media.clone().into()));
            } else {
                logged.push(&frame);
            }
            logged.cache.trim(index.saturating_sub(20) as u64, true);
            for sequence in logged.cache.first()..logged.cache.end() {
                assert_eq!(logged.media(sequence), media_of(sequence), "frame {sequence} after {index}");
            }
        }
    }
}
