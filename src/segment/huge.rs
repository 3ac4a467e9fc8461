//! The memory of an arena's file: allocated piece by piece, in huge pages where the system has them.
//!
//! A block of small pages lies scattered over the memory: the disk takes 1 MiB of it in 254 pieces, which is as many as a virtio disk takes at once, and two
//! more in another request. Such a disk writes a quarter less of them than of blocks that lie in one piece.
//!
//! Files on a tmpfs get huge pages only where it is mounted so, which is not ours to decide. But a process may ask for them for a range that it has mapped
//! (`MADV_COLLAPSE`, Linux 6.1), if the mapping begins where a huge page could. Where the range holds a single page yet, that costs less than the 512 small ones.
//!
//! This module has `unsafe` for the one call that no crate wraps. Its contract: advice of this kind changes no byte of the memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::time::Duration;

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::time::{ClockId, clock_gettime};

/// On x86-64, and on ARM with pages of 4 KiB. Where they are larger the system refuses, and the pages are small ones.
pub const HUGE_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4096;
/// A mapping that begins where a huge page could is tried for this often: other threads map, too.
const ALIGN_ATTEMPTS: usize = 8;
/// A range for which there was no huge page may get one the next time.
const COLLAPSE_ATTEMPTS: usize = 2;
/// No more huge pages are asked for once they have taken more of the processor than this all together, and than so much each. Out of free memory in one piece each takes a
/// third of a millisecond, less than its small ones. Where memory is cut up the system has to move other pages first: that takes several milliseconds, a
/// second for the usual arena, and the first streams wait for the processor meanwhile.
const COLLAPSE_TIME: Duration = Duration::from_millis(30);
const COLLAPSE_TIME_EACH: Duration = Duration::from_micros(800);

/// Maps `bytes` of a file, from where a huge page could begin. What is behind the end of the file is not to be touched.
///
/// # Errors
/// What the system says.
pub fn map(file: &File, bytes: usize) -> io::Result<MmapRaw> {
    // The system puts a mapping at the end of a gap: made longer by as much as its begin is off, the next one begins where it should.
    let mut longer = 0;
    let mut attempts = 1;
    loop {
        let map = MmapOptions::new().len(bytes + longer).map_raw(file)?;
        let off = map.as_ptr().addr() % HUGE_BYTES;
        if off == 0 || attempts == ALIGN_ATTEMPTS {
            return Ok(map);
        }
        longer = (longer + off) % HUGE_BYTES;
        attempts += 1;
    }
}

/// Gives a mapped file its memory, from the begin on.
pub struct Filler {
    file: File,
    bytes: usize,
    filled: usize,
    huge: usize,
    /// Time of the processor spent on huge pages.
    spent: Duration,
}

impl Filler {
    /// Of `bytes` of a file that is a hole.
    pub fn new(file: File, bytes: usize) -> Self {
        Self { file, bytes, filled: 0, huge: 0, spent: Duration::ZERO }
    }

    /// So many bytes are there.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// So many of them, from the first on, in huge pages.
    pub fn huge(&self) -> usize {
        self.huge
    }

    pub fn is_full(&self) -> bool {
        self.filled == self.bytes
    }

    /// The next piece. `map` is that of the file.
    ///
    /// # Errors
    /// What the file system says: no room.
    pub fn step(&mut self, map: &MmapRaw) -> io::Result<()> {
        let (from, bytes) = (self.filled, HUGE_BYTES.min(self.bytes - self.filled));
        // A range that is a hole is not collapsed: its first page has to be there.
        self.allocate(from, PAGE_BYTES.min(bytes))?;
        let is_cheap = self.spent < COLLAPSE_TIME + COLLAPSE_TIME_EACH * (from / HUGE_BYTES) as u32;
        if bytes == HUGE_BYTES && self.huge == from && is_cheap {
            let begun = processor_time();
            if (0..COLLAPSE_ATTEMPTS).any(|_| collapse(map, from)) {
                self.huge += bytes;
            }
            self.spent += processor_time().saturating_sub(begun);
        }
        self.allocate(from, bytes)?;
        // Page faults here; none on the ingest core.
        map.advise_range(Advice::PopulateWrite, from, bytes)?;
        self.filled += bytes;
        Ok(())
    }

    /// Not the length alone: touching a hole of a mapped file on a full tmpfs is SIGBUS, not an error.
    fn allocate(&self, from: usize, bytes: usize) -> io::Result<()> {
        Ok(fallocate(&self.file, FallocateFlags::empty(), from as u64, bytes as u64)?)
    }
}

/// Of this thread. How long something took says little where others want the processor, too.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Asks for a huge page at `offset`.
fn collapse(map: &MmapRaw, offset: usize) -> bool {
    assert!(offset + HUGE_BYTES <= map.len(), "a page past the mapping");
    // SAFETY: the range is inside the mapping (asserted), which is borrowed; its bytes stay what they are.
    unsafe { libc::madvise(map.as_mut_ptr().add(offset).cast(), HUGE_BYTES, libc::MADV_COLLAPSE) == 0 }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    /// Wherever the file lies it is allocated, mapped, and the mapping is the file.
    #[test]
    fn all_of_the_file_is_there_in_pages_of_whatever_size() {
        let bytes = (5 << 20) + PAGE_BYTES;
        for folder in [std::env::temp_dir(), "/dev/shm".into()] {
            let Ok(file) = tempfile::tempfile_in(&folder) else { continue };
            file.set_len(bytes as u64).expect("a length");
            let map = map(&file, bytes).expect("mapped");
            let mut filler = Filler::new(file.try_clone().expect("a descriptor"), bytes);
            while !filler.is_full() {
                filler.step(&map).expect("room for 5 MiB");
            }
            let huge = filler.huge();
            assert!(huge.is_multiple_of(HUGE_BYTES) && huge <= bytes && filler.filled() == bytes);
            let allocated = file.metadata().expect("a file");
            assert!(allocated.len() == bytes as u64 && allocated.blocks() * 512 >= bytes as u64, "{}", folder.display());
            for offset in [0, HUGE_BYTES - 1, huge, bytes - 1] {
                // SAFETY: inside the mapping, which nobody else uses.
                unsafe { map.as_mut_ptr().add(offset).write(7) };
                let mut read = [0];
                file.read_exact_at(&mut read, offset as u64).expect("it is there");
                assert_eq!(read, [7], "{offset}");
            }
        }
    }

    #[test]
    fn a_mapping_begins_where_a_huge_page_could() {
        let file = tempfile::tempfile().expect("a file");
        // Others map meanwhile, so now and then one is off.
        let begins = (1..40).map(|pages| map(&file, pages * PAGE_BYTES + (3 << 20)).expect("mapped").as_ptr().addr());
        assert!(begins.filter(|begin| begin.is_multiple_of(HUGE_BYTES)).count() > 20);
    }
}
