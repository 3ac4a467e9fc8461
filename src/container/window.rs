//! Reading a file from front to back for `scan`, through one buffer of fixed size.

use std::cell::RefCell;
use std::io;

use super::{ReadAt, ScanError};

/// Read at once: large enough that the disk streams, small enough for many recoveries at a time.
pub const WINDOW_BYTES: usize = 256 << 10;

/// A window that moves forward over a file.
pub struct Window<'a, R: ReadAt + ?Sized> {
    file: &'a R,
    buffer: Vec<u8>,
    start: u64,
    filled: usize,
}

impl<'a, R: ReadAt + ?Sized> Window<'a, R> {
    pub fn new(file: &'a R) -> Self {
        Self { file, buffer: Vec::new(), start: 0, filled: 0 }
    }

    pub fn file_len(&self) -> u64 {
        self.file.len()
    }

    /// The bytes at `offset`: `count` of them, or fewer where the file ends.
    ///
    /// # Panics
    /// If `count` is more than a window.
    pub fn at(&mut self, offset: u64, count: usize) -> Result<&[u8], ScanError> {
        assert!(count <= WINDOW_BYTES, "{count} bytes do not fit the window");
        let inside = offset >= self.start && offset + count as u64 <= self.start + self.filled as u64;
        if !inside {
            // Not more than the file has: most scans of small files never need the whole window.
            let left = self.file.len().saturating_sub(offset).min(WINDOW_BYTES as u64) as usize;
            self.buffer.resize(left, 0);
            self.filled = self.file.read_at(offset, &mut self.buffer).map_err(|source| ScanError::Read { offset, source })?;
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        let to = (from + count).min(self.filled);
        Ok(&self.buffer[from..to])
    }

    /// The `N` bytes at `offset`; `None` where the file ends before.
    pub fn array<const N: usize>(&mut self, offset: u64) -> Result<Option<[u8; N]>, ScanError> {
        Ok(self.at(offset, N)?.first_chunk().copied())
    }

    /// How much of what lies behind `offset` was written and is lost: up to the last byte that is not 0. What was only preallocated is zeros; a
    /// whole window of them is taken for that.
    pub fn torn_bytes(&mut self, offset: u64) -> Result<u64, ScanError> {
        let mut at = offset;
        let mut torn_end = offset;
        loop {
            let bytes = self.at(at, WINDOW_BYTES)?;
            let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { return Ok(torn_end - offset) };
            torn_end = at + last as u64 + 1;
            at += bytes.len() as u64;
        }
    }

    /// Nothing was written behind `offset`. Cheap where something was.
    pub fn zeros_behind(&mut self, offset: u64) -> Result<bool, ScanError> {
        let near = self.at(offset, PROBE_BYTES)?.iter().all(|byte| *byte == 0);
        Ok(near && self.torn_bytes(offset)? == 0)
    }
}

/// Has everything in `range` reached the disk? Pages that were preallocated and not written are zeros; media are not, for so long.
pub fn is_written<R: ReadAt + ?Sized>(file: &R, range: std::ops::Range<u64>) -> Result<bool, ScanError> {
    let mut page = [0; PROBE_BYTES];
    let mut at = range.start.next_multiple_of(PROBE_BYTES as u64);
    while at + PROBE_BYTES as u64 <= range.end {
        let count = file.read_at(at, &mut page).map_err(|source| ScanError::Read { offset: at, source })?;
        if page[..count].iter().all(|byte| *byte == 0) {
            return Ok(false);
        }
        at += PROBE_BYTES as u64;
    }
    Ok(true)
}

/// Looked at first for anything but zeros.
const PROBE_BYTES: usize = 4096;

/// A file of which small pieces are read that lie close together: each read takes what lies behind it too, for each is a trip to the disk, where it costs no
/// more than its first page.
pub struct Near<'a, R: ReadAt + ?Sized> {
    file: &'a R,
    /// Where what was read last begins, and the bytes.
    last: RefCell<(u64, Vec<u8>)>,
}

/// Read at once: headers of a fragment of some seconds, the head of a file of an hour.
const NEAR_BYTES: usize = 8 << 10;
const NEAR_HEAD_BYTES: usize = 64 << 10;

impl<'a, R: ReadAt + ?Sized> Near<'a, R> {
    pub fn new(file: &'a R) -> Self {
        Self { file, last: RefCell::default() }
    }
}

impl<R: ReadAt + ?Sized> ReadAt for Near<'_, R> {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.file.knows(offset, buffer) {
            return Ok(buffer.len());
        }
        let near = if offset == 0 { NEAR_HEAD_BYTES } else { NEAR_BYTES };
        if buffer.len() >= near {
            return self.file.read_at(offset, buffer);
        }
        let (start, bytes) = &mut *self.last.borrow_mut();
        let is_inside = offset >= *start && offset + buffer.len() as u64 <= *start + bytes.len() as u64;
        if !is_inside {
            bytes.resize(near, 0);
            let count = self.file.read_at(offset, bytes);
            bytes.truncate(*count.as_ref().unwrap_or(&0));
            count?;
            *start = offset;
        }
        let known = bytes.get((offset - *start) as usize..).unwrap_or_default();
        let count = buffer.len().min(known.len());
        buffer[..count].copy_from_slice(&known[..count]);
        Ok(count)
    }
}

/// The file that a plan of ours makes; for the fuzz targets, which check that finishing twice changes nothing.
pub(super) fn apply(plan: &super::FinishPlan, file: &[u8]) -> Vec<u8> {
    assert_eq!(plan.insert, None);
    let mut finished = file[..plan.truncate_to as usize].to_vec();
    for (offset, bytes) in &plan.writes {
        let start = *offset as usize;
        finished[start..start + bytes.len()].copy_from_slice(bytes);
    }
    finished.extend_from_slice(&plan.append);
    finished
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_read_is_the_file_at_any_offset() {
        let file: Vec<u8> = (0..2 * WINDOW_BYTES + 77).map(|at| (at * 7 + at / 256) as u8).collect();
        let mut window = Window::new(file.as_slice());
        let offsets =
            [0, 5, WINDOW_BYTES - 3, WINDOW_BYTES, 10, 2 * WINDOW_BYTES - 1, 2 * WINDOW_BYTES + 70, 2 * WINDOW_BYTES + 77, 3 * WINDOW_BYTES];
        for offset in offsets {
            for count in [0, 1, 8, 4096, WINDOW_BYTES] {
                let from = offset.min(file.len());
                let expected = &file[from..(from + count).min(file.len())];
                assert_eq!(window.at(offset as u64, count).unwrap(), expected, "{count} at {offset}");
            }
        }
        assert_eq!(window.array::<4>(2 * WINDOW_BYTES as u64 + 74).unwrap(), None);
    }

    #[test]
    fn torn_bytes_end_where_preallocation_begins() {
        let mut file = vec![0; 3 * WINDOW_BYTES];
        assert_eq!(Window::new(file.as_slice()).torn_bytes(9).unwrap(), 0);
        file[100] = 1;
        assert_eq!(Window::new(file.as_slice()).torn_bytes(9).unwrap(), 92);
        assert!(!Window::new(file.as_slice()).zeros_behind(9).unwrap() && Window::new(file.as_slice()).zeros_behind(101).unwrap());
        file[WINDOW_BYTES + 50] = 1;
        assert!(!Window::new(file.as_slice()).zeros_behind(101).unwrap());
        assert_eq!(Window::new(file.as_slice()).torn_bytes(9).unwrap(), WINDOW_BYTES as u64 + 42);
        assert_eq!(Window::new(file.as_slice()).torn_bytes(file.len() as u64).unwrap(), 0);
    }

    struct Counting<'a>(&'a [u8], Cell<usize>);

    impl ReadAt for Counting<'_> {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            self.1.set(self.1.get() + 1);
            self.0.read_at(offset, buffer)
        }
    }

    #[test]
    fn what_lies_close_together_is_read_at_once() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        // Reads by offset and length, and how often the file itself is asked.
        for (reads, asked) in [
            (vec![(0, 8), (8_168, 8), (12_264, 8), (60_000, 500)], 1),
            (vec![(70_000, 24), (70_016, 8), (70_016, 3_000), (70_000, 8_192)], 2),
            (vec![(70_000, 24), (78_190, 8), (70_000, 8)], 3),
            (vec![(0, 100_000), (50, 10)], 2),
            (vec![(199_990, 24), (199_990, 10), (300_000, 4)], 2),
        ] {
            let file = Counting(&bytes, Cell::new(0));
            let near = Near::new(&file);
            for (offset, len) in reads {
                let mut found = vec![0; len];
                let count = near.read_at(offset, &mut found).expect("in memory");
                let there = &bytes[bytes.len().min(offset as usize)..bytes.len().min(offset as usize + len)];
                assert_eq!(&found[..count], there, "{len} bytes at {offset}");
            }
            assert_eq!(file.1.get(), asked, "reads of the file");
        }
    }
}
