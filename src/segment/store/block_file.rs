//! An open media file as a chain of arena blocks.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::container::{MediaPath, Pinned, Sink};
use crate::segment::arena::{Block, BlockClass, BlockKind, Pin, Progress};
use crate::segment::checksum::Running;
use crate::segment::headers::{BEFORE_BYTES, Headers};
use crate::units::MonoTime;

use super::WRITE_ALIGN_BYTES;
use super::command::FileSerial;

/// A block of an open file that is still in the core's hands.
pub(super) struct HeldBlock {
    pub(super) block: Block,
    /// File offset of its first byte.
    pub(super) start: u64,
    /// Bytes of it already handed to the disk writer.
    pub(super) flushed: usize,
}

impl HeldBlock {
    /// File offset behind its last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.block.bytes() as u64
    }
}

/// One open media file: a chain of blocks from the oldest unsealed byte on. Everything before is on its way to the disk.
pub struct BlockFile {
    /// Where its bytes go; `None`: nowhere, it is a log, whose bytes stay in memory as long as they are pinned.
    pub(super) target: Option<Target>,
    /// Unique in the process.
    pub(super) serial: FileSerial,
    pub(super) held: VecDeque<HeldBlock>,
    pub(super) spare: VecDeque<Block>,
    pub(super) spare_bytes: usize,
    pub(super) position: u64,
    pub(super) sealed: u64,
    /// A log has none.
    pub(super) sum: Option<Box<Running>>,
    /// Everything before is in the checksum, or a draft.
    pub(super) summed: u64,
    /// Of a file in fragments.
    pub(super) headers: Option<Box<Headers>>,
    /// Everything before is complete, and its blocks' headers say so; and the frames that are in it.
    pub(super) committed: u64,
    pub(super) taken: u64,
    /// Receipt of the oldest byte not handed over.
    pub(super) oldest: Option<MonoTime>,
    pub(super) class: BlockClass,
    pub(super) is_measured: bool,
    /// When the bitrate was last looked at, and the position then.
    pub(super) measured: MonoTime,
    pub(super) measured_position: u64,
}

#[derive(Clone)]
pub(super) struct Target {
    pub(super) media: MediaPath,
    /// See [`OpenMedia::writer`].
    pub(super) writer: u64,
    pub(super) failed: Arc<AtomicBool>,
    /// Index of its disk.
    pub(super) disk: usize,
}

/// From this length on what is appended goes past the processor's caches: see [`Block::write_past_caches`].
const PAST_CACHES_BYTES_MIN: usize = 2048;

/// A pinned block of a file.
pub struct BlockPin {
    pub(super) pin: Pin,
    pub(super) start: u64,
}

impl Pinned for BlockPin {
    fn range(&self) -> std::ops::Range<u64> {
        self.start..self.start + self.pin.bytes() as u64
    }

    fn copy_to(&self, offset: u64, len: usize, to: &mut Vec<u8>) {
        self.pin.copy_to((offset - self.start) as usize, len, to);
    }
}

impl BlockFile {
    pub(super) fn disk(&self) -> Option<usize> {
        self.target.as_ref().map(|target| target.disk)
    }

    pub(super) fn begin(target: Option<Target>, serial: FileSerial, position: u64, now: MonoTime) -> Self {
        let sum = target.as_ref().map(|_| Box::new(Running::new(position)));
        let in_fragments = target.as_ref().is_some_and(|target| matches!(target.media.extension, "mp4" | "m4s"));
        Self {
            target,
            serial,
            held: VecDeque::new(),
            spare: VecDeque::new(),
            spare_bytes: 0,
            position,
            sealed: position,
            sum,
            summed: position,
            headers: in_fragments.then(Box::default),
            committed: position,
            taken: 0,
            oldest: None,
            class: BlockClass::Tiny,
            is_measured: false,
            measured: now,
            measured_position: position,
        }
    }

    /// The headers of its blocks say from now on that everything is complete, and that so many frames are taken.
    pub(super) fn describe_progress(&self, taken: u64) {
        // Nearly always, and for every frame: what was appended lies in the last block.
        if let Some(held) = self.held.back().filter(|held| held.start <= self.committed) {
            return held.block.describe_progress(Progress { bytes: (self.position - held.start) as usize, taken });
        }
        // Oldest first: a kill in between leaves the beginning of a frame, never a hole before the end of one.
        let first = self.held.iter().rposition(|held| held.start <= self.committed).unwrap_or(0);
        for held in self.held.range(first..) {
            let bytes = (self.position - held.start).min(held.block.bytes() as u64);
            let taken = if held.start + bytes == self.position { taken } else { self.taken };
            held.block.describe_progress(Progress { bytes: bytes as usize, taken });
        }
    }

    /// Its writer is out of step: what was appended since the last commit is no frame.
    pub(super) fn forget_uncommitted(&mut self) {
        self.position = self.committed.max(self.sealed);
    }

    /// Bytes that can be appended without another block.
    pub(super) fn room(&self) -> usize {
        let tail = self.held.back().map_or(0, |held| held.block.bytes() - (self.position - held.start) as usize);
        tail + self.spare_bytes
    }

    #[inline]
    fn store(&mut self, mut bytes: &[u8], write: impl Fn(&mut Block, usize, &[u8])) {
        loop {
            if let Some(held) = self.held.back_mut() {
                let at = (self.position - held.start) as usize;
                let count = bytes.len().min(held.block.bytes() - at);
                write(&mut held.block, at, &bytes[..count]);
                self.position += count as u64;
                bytes = &bytes[count..];
            }
            if bytes.is_empty() {
                return;
            }
            self.begin_block();
        }
    }

    /// What is appended next begins another block.
    #[cold]
    fn begin_block(&mut self) {
        let block = self.spare.pop_front().expect("room is reserved before a frame is appended");
        self.spare_bytes -= block.bytes();
        match &self.target {
            Some(Target { media, writer, .. }) => block.describe(BlockKind::Media, (media.folder.get(), media.part, *writer), self.position),
            None => block.describe(BlockKind::Log, (self.serial.0, 0, 0), self.position),
        }
        self.held.push_back(HeldBlock { block, start: self.position, flushed: 0 });
    }

    /// The last page, padded with zeros, unless it is whole or on its way to the disk already.
    pub(super) fn tail(&self) -> Option<Box<[u8]>> {
        let start = self.position - self.position % WRITE_ALIGN_BYTES;
        let held = self.held.back().filter(|held| held.start <= start && start < self.position)?;
        let bytes = held.block.read((start - held.start) as usize..(self.position - held.start) as usize);
        let mut page = vec![0; WRITE_ALIGN_BYTES as usize].into_boxed_slice();
        page[..bytes.len()].copy_from_slice(bytes);
        Some(page)
    }

    /// Adds what was appended to the checksum, all but a draft.
    pub(super) fn sum_up(&mut self) {
        self.sum_until(self.position);
    }

    fn sum_until(&mut self, end: u64) {
        self.summed = end;
        let Some(sum) = &mut self.sum else { return };
        if let Some(draft) = sum.draft().filter(|draft| draft.end <= self.sealed) {
            if let Some(headers) = &mut self.headers {
                headers.settle(pieces(&self.held, draft.clone()));
            }
            sum.settle_draft(pieces(&self.held, draft));
        }
        if sum.end() < end {
            pieces(&self.held, sum.end()..end).for_each(|piece| sum.add(piece));
        }
    }
}

/// The bytes of the file in `range`, block by block.
fn pieces(held: &VecDeque<HeldBlock>, range: Range<u64>) -> impl Iterator<Item = &[u8]> {
    let first = held.iter().rposition(|held| held.start <= range.start).unwrap_or(0);
    held.range(first..).map_while(move |held| {
        let (from, to) = (range.start.max(held.start), range.end.min(held.start + held.block.bytes() as u64));
        (from < to).then(|| held.block.read((from - held.start) as usize..(to - held.start) as usize))
    })
}

impl Sink for BlockFile {
    fn position(&self) -> u64 {
        self.position
    }

    fn append(&mut self, bytes: &[u8]) {
        if bytes.len() >= PAST_CACHES_BYTES_MIN && self.sum.is_some() {
            // Summed here, where they come from.
            self.sum_up();
            self.store(bytes, Block::write_past_caches);
            if let Some(sum) = &mut self.sum {
                sum.add(bytes);
            }
            self.summed = self.position;
        } else {
            self.store(bytes, Block::write);
        }
    }

    fn draft(&mut self, from: u64) {
        assert!(from >= self.sealed, "a draft of sealed bytes");
        self.sum_until(from);
        let bytes = self.position - from;
        self.summed = self.position;
        if let Some(sum) = &mut self.sum {
            sum.begin_draft(bytes);
        }
        if let Some(headers) = &mut self.headers {
            let first = self.held.front().map_or(from, |held| held.start.min(from));
            let before = from.saturating_sub(BEFORE_BYTES).max(first);
            headers.begin(before, pieces(&self.held, before..from));
        }
    }

    fn patch(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset >= self.sealed && offset + bytes.len() as u64 <= self.position, "a patch outside the unsealed bytes");
        // Patches go to the newest fragment: look from the end.
        let mut index = self.held.len();
        let mut end = offset + bytes.len() as u64;
        while end > offset {
            index -= 1;
            let held = &mut self.held[index];
            if held.start >= end {
                continue;
            }
            let from = held.start.max(offset);
            held.block.write((from - held.start) as usize, &bytes[(from - offset) as usize..(end - offset) as usize]);
            end = from;
        }
    }

    fn seal(&mut self, offset: u64) {
        assert!(offset >= self.sealed && offset <= self.position, "seal goes forward, inside the file");
        self.sealed = offset;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::container::{FinishPlan, MediaSummary};
    use crate::segment::arena::tests::arena;
    use crate::segment::checksum;
    use crate::units::FileId;

    /// Small and large pieces, fragments whose headers are patched, summed now and then: the file's checksum is that of its bytes.
    #[test]
    fn the_checksum_is_that_of_the_bytes_whatever_pieces_they_came_in() {
        let (_folder, mut arena) = arena(4);
        for (extension, summed_often) in [("flv", true), ("flv", false), ("mp4", true), ("mp4", false)] {
            let media = MediaPath { folder: FileId::new(FileId::MIN).expect("in range"), part: 1, extension };
            let target = Target { media, writer: 1, failed: Arc::default(), disk: 0 };
            let mut file = BlockFile::begin(Some(target), FileSerial(1), 4096, MonoTime::default());
            while let Some(block) = arena.allocate(BlockClass::Tiny) {
                file.spare_bytes += block.bytes();
                file.spare.push_back(block);
            }
            let mut expected = vec![0; 4096];
            for (index, len) in [1, 4095, 4096, 20_000, 700, 5_000, 90_000, 3, 16 << 10, 8_191].into_iter().cycle().take(60).enumerate() {
                if extension == "mp4" && index % 7 == 0 {
                    file.seal(file.position);
                    let from = file.position;
                    file.append(&[b'h'; 300]);
                    file.draft(from);
                    file.append(&[0; 5_000]);
                    file.patch(from + 10, b"patched");
                    expected.extend_from_slice(&[b'h'; 300]);
                    expected[from as usize + 10..][..7].copy_from_slice(b"patched");
                    expected.extend_from_slice(&[0; 5_000]);
                }
                let bytes: Vec<u8> = (0..len).map(|at| (at * 31 + at / 251 + index) as u8).collect();
                file.append(&bytes);
                expected.extend_from_slice(&bytes);
                if summed_often || index % 4 == 0 {
                    file.sum_up();
                }
            }
            file.seal(file.position);
            file.sum_up();
            let bytes: Vec<u8> = pieces(&file.held, 4096..file.position).flatten().copied().collect();
            assert!(bytes == expected[4096..], "the bytes of {extension}");
            let disk = tempfile::tempfile().expect("a file");
            std::os::unix::fs::FileExt::write_all_at(&disk, &expected, 0).expect("written");
            let truncate_to = file.position;
            let plan =
                FinishPlan { truncate_to, insert: None, writes: Vec::new(), append: Vec::new(), torn_bytes: 0, summary: MediaSummary::default() };
            let sum = file.sum.take().expect("media has one").finish(&disk, Path::new("x"), &plan).expect("read").expect("settled");
            assert_eq!((sum.offset, sum.bytes), (4096, expected.len() as u64 - 4096));
            assert_eq!(checksum::check(&disk, &sum).expect("read"), [], "{extension}, summed often: {summed_often}");
            file.held.drain(..).map(|held| held.block).chain(file.spare.drain(..)).for_each(|block| arena.free(block));
        }
    }
}
