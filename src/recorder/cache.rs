//! The frames of a stream that are still in memory: from the last key frame on, and whatever an output has not taken yet.
//!
//! Every output reads from here, so a file that begins (at publish, at a split, for a task that joins later) and a file whose storage is busy are the
//! same case: the output is behind, and catches up.

use std::collections::VecDeque;

use crate::media::{Frame, Payload, TagHeader, TrackKind};

/// Beyond this a GOP is not kept for tasks that may join (a 10 s GOP at 6 Mbit/s fits), and a stream whose storage is busy is not read any more.
pub const CACHE_BYTES_MAX: usize = 8 << 20;
/// A GOP is kept until the next one has this age: a task that was asked for a moment ago still begins before that moment.
const KEEP_BEHIND_KEY_MS: i64 = 250;
/// Streams without video: this much audio is kept.
const KEEP_AUDIO_MS: i64 = 1_000;

/// Number of a frame in its publication, counting up.
pub type Sequence = u64;

#[derive(Clone, Copy, Debug)]
struct CachedFrame {
    track: TrackKind,
    key: bool,
    epoch: u32,
    cts_ms: i32,
    dts_ms: i64,
    tag_header: TagHeader,
    /// Position in the publication's media bytes (all frames in a row).
    start: u64,
    len: usize,
}

#[derive(Default, Debug)]
pub struct Cache {
    frames: VecDeque<CachedFrame>,
    bytes: Vec<u8>,
    /// Position of `bytes[0]`.
    bytes_start: u64,
    /// Sequence of `frames[0]`.
    first: Sequence,
    /// Video key frames in the cache.
    keys: VecDeque<Sequence>,
}

impl Cache {
    pub fn push(&mut self, frame: &Frame<'_>, epoch: u32) {
        let sequence = self.end();
        if frame.track == TrackKind::Video && frame.key {
            self.keys.push_back(sequence);
        }
        let start = self.bytes_start + self.bytes.len() as u64;
        for slice in frame.media.slices() {
            self.bytes.extend_from_slice(slice);
        }
        self.frames.push_back(CachedFrame {
            track: frame.track,
            key: frame.key,
            epoch,
            cts_ms: frame.cts_ms,
            dts_ms: frame.dts_ms,
            tag_header: frame.tag_header,
            start,
            len: frame.media.len(),
        });
    }

    /// Sequence of the oldest frame.
    pub fn first(&self) -> Sequence {
        self.first
    }

    /// Sequence behind the newest frame.
    pub fn end(&self) -> Sequence {
        self.first + self.frames.len() as u64
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The frame and its epoch. `sequence` must lie in the cache.
    pub fn get(&self, sequence: Sequence) -> (Frame<'_>, u32) {
        let cached = &self.frames[(sequence - self.first) as usize];
        let start = (cached.start - self.bytes_start) as usize;
        let frame = Frame {
            track: cached.track,
            dts_ms: cached.dts_ms,
            cts_ms: cached.cts_ms,
            key: cached.key,
            tag_header: cached.tag_header,
            media: Payload::contiguous(&self.bytes[start..start + cached.len]),
        };
        (frame, cached.epoch)
    }

    /// Where a task that joins now begins: the newest key frame that is old enough to lie before the moment that was asked for; a stream without
    /// video: the oldest frame.
    pub fn join_point(&self, has_video: bool) -> Sequence {
        if !has_video {
            return self.first;
        }
        self.keys.front().copied().unwrap_or(self.end())
    }

    /// Drops what nobody needs: frames before `needed` that are not part of the GOP kept for tasks.
    pub fn trim(&mut self, needed: Sequence) {
        let Some(newest) = self.frames.back() else { return };
        let newest_dts_ms = newest.dts_ms;
        let keep_from = if let Some(&front) = self.keys.front() {
            let mut keep = front;
            for &key in self.keys.iter().skip(1) {
                let age_ms = newest_dts_ms - self.frames[(key - self.first) as usize].dts_ms;
                // A jump of the timestamps ends what belongs together.
                if !(0..KEEP_BEHIND_KEY_MS).contains(&age_ms) {
                    keep = key;
                }
            }
            keep
        } else if newest.track == TrackKind::Audio {
            let old = |frame: &CachedFrame| !(0..KEEP_AUDIO_MS).contains(&(newest_dts_ms - frame.dts_ms));
            // Looked at only when twice as much has gathered, so that the bytes do not move at every frame.
            if self.frames.front().is_some_and(|frame| (0..2 * KEEP_AUDIO_MS).contains(&(newest_dts_ms - frame.dts_ms))) {
                self.first
            } else {
                self.first + self.frames.iter().take_while(|frame| old(frame)).count() as u64
            }
        } else {
            self.end()
        };
        let keep_from = if self.bytes.len() > CACHE_BYTES_MAX { self.end() } else { keep_from };
        self.drop_before(keep_from.min(needed));
    }

    fn drop_before(&mut self, sequence: Sequence) {
        if sequence <= self.first {
            return;
        }
        let count = (sequence - self.first) as usize;
        let bytes_end = self.frames.get(count).map_or(self.bytes_start + self.bytes.len() as u64, |frame| frame.start);
        self.frames.drain(..count);
        self.first = sequence;
        while self.keys.front().is_some_and(|&key| key < sequence) {
            self.keys.pop_front();
        }
        self.bytes.drain(..(bytes_end - self.bytes_start) as usize);
        self.bytes_start = bytes_end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(track: TrackKind, dts_ms: i64, key: bool, media: &[u8]) -> Frame<'_> {
        Frame { track, dts_ms, cts_ms: 0, key, tag_header: TagHeader::new(&[1]), media: Payload::contiguous(media) }
    }

    #[test]
    fn a_gop_is_kept_until_the_next_one_has_some_age() {
        let mut cache = Cache::default();
        for index in 0..100_i64 {
            let dts_ms = index * 40;
            cache.push(&frame(TrackKind::Video, dts_ms, index % 25 == 0, &index.to_le_bytes()), 0);
            cache.trim(cache.end());
            let (first, _) = cache.get(cache.first());
            assert!(first.key, "the cache begins with a key frame");
            assert!(dts_ms - first.dts_ms < 1_000 + KEEP_BEHIND_KEY_MS);
            assert!(dts_ms < 1_000 || dts_ms - first.dts_ms >= KEEP_BEHIND_KEY_MS - 40);
            let (last, _) = cache.get(cache.end() - 1);
            assert_eq!(last.media.to_vec(), index.to_le_bytes());
        }
    }

    #[test]
    fn what_an_output_needs_stays() {
        let mut cache = Cache::default();
        for index in 0..50_i64 {
            cache.push(&frame(TrackKind::Video, index * 1_000, true, b"xy"), 0);
            cache.trim(3.min(cache.end()));
        }
        assert_eq!(cache.first(), 3);
        cache.trim(cache.end());
        assert_eq!(cache.first(), 48, "the newest key frame has no age yet");
        assert_eq!(cache.bytes(), 4);
    }

    #[test]
    fn audio_alone_keeps_a_second_or_two() {
        let mut cache = Cache::default();
        for index in 0..1_000_i64 {
            cache.push(&frame(TrackKind::Audio, index * 23, true, b"a"), 0);
            cache.trim(cache.end());
            assert!(cache.end() - cache.first() <= 90);
        }
        assert!(cache.end() - cache.first() >= 40);
    }
}
