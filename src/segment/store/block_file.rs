//! An open media file as a chain of arena blocks.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::container::{MediaPath, Pinned, Sink};
use crate::segment::arena::{Block, BlockClass, BlockKind, Pin};
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

    /// Its writer is out of step: what was appended since the last commit is no frame.
    pub(super) fn forget_uncommitted(&mut self) {
        self.position = self.committed.max(self.sealed);
    }

    /// Bytes that can be appended without another block.
    pub(super) fn room(&self) -> usize {
        let tail = self.held.back().map_or(0, |held| held.block.bytes() - (self.position - held.start) as usize);
        tail + self.spare_bytes
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

    /// Adds what was appended to the checksum, all but a draft: it is in the processor's cache still.
    pub(super) fn sum_up(&mut self) {
        self.sum_until(self.position);
    }

    fn sum_until(&mut self, end: u64) {
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

    fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let full = self.held.back().is_none_or(|held| (self.position - held.start) as usize == held.block.bytes());
            if full {
                let block = self.spare.pop_front().expect("room is reserved before a frame is appended");
                self.spare_bytes -= block.bytes();
                match &self.target {
                    Some(Target { media, writer, .. }) => block.describe(BlockKind::Media, (media.folder.get(), media.part, *writer), self.position),
                    None => block.describe(BlockKind::Log, (self.serial.0, 0, 0), self.position),
                }
                self.held.push_back(HeldBlock { block, start: self.position, flushed: 0 });
            }
            let held = self.held.back_mut().expect("a block was just made sure of");
            let at = (self.position - held.start) as usize;
            let count = bytes.len().min(held.block.bytes() - at);
            held.block.write(at, &bytes[..count]);
            self.position += count as u64;
            bytes = &bytes[count..];
        }
    }

    fn draft(&mut self, from: u64) {
        assert!(from >= self.sealed, "a draft of sealed bytes");
        self.sum_until(from);
        let bytes = self.position - from;
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
