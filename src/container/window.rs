//! Reading a file from front to back for `scan`, through one buffer of fixed size.

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
}
