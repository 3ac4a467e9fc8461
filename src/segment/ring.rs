//! Many direct writes in one system call. Each one by itself is a trip to the device and two switches of the thread: on a virtual disk most of the disk
//! writer's time. Handed over together, the kernel queues them all and knocks at the device once.
//!
//! This is the second module with `unsafe`: the kernel reads the callers' bytes after the submission. Its contract: [`Ring::write`] borrows files and
//! bytes, and returns only when the kernel has answered for every write it took; memory that the kernel keeps at hand stays mapped as long as the ring is.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::arena::ArenaMemory;
use super::disk::AlignedBuffer;
use super::store::WRITE_ALIGN_BYTES;
use super::vital::Vital;

/// Writes in one call; a last page that is not whole is one more.
pub const WRITES_MAX: usize = 512;
const PAGE: usize = WRITE_ALIGN_BYTES as usize;

/// Writes given to the kernel at once. A write for which the time of change has to be noted first is carried out by another thread; setting the length does
/// note it, in ticks of the system's clock: so both come close together.
const SUBMIT_MAX: usize = 32;
/// Pieces of memory that the kernel keeps at hand, each of at most [`KEPT_BYTES_MAX`].
const KEPT_MAX: u32 = 1024;
/// The kernel takes 1 GiB at most.
const KEPT_BYTES_MAX: usize = 512 << 20;

/// Bytes of any length for an aligned offset. The last page goes out padded with zeros.
pub struct Job<'a> {
    pub file: &'a File,
    pub bytes: &'a [u8],
    pub offset: u64,
    /// The file gets this length first. A write that makes the file longer by itself is carried out alone, and waited for.
    pub length: Option<u64>,
}

/// May this process have a ring at all? Containers often forbid it.
///
/// # Errors
/// What the kernel says.
pub fn probe() -> io::Result<()> {
    IoUring::new(2).map(drop)
}

/// Has this process a right that io_uring asks for?
pub fn has_capability(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// A submission queue of the calling thread.
pub struct Ring {
    ring: IoUring,
    /// Room for the padded last page of each write.
    pages: AlignedBuffer,
    /// Addresses of the memory that the kernel keeps at hand, by its number there.
    kept: Vec<Range<usize>>,
    /// Behind `ring`: they are dropped after it.
    memories: Vec<ArenaMemory>,
}

/// As the kernel's iovec.
#[repr(C)]
struct Vector {
    base: *const u8,
    bytes: usize,
}

impl Ring {
    /// # Errors
    /// If io_uring is not permitted, or memory for the queue not to be had.
    pub fn new() -> io::Result<Self> {
        let entries = 2 * WRITES_MAX as u32;
        // Completions are taken when we wait for them, not by interrupting us; kernels before 6.1 do not know that.
        let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries).or_else(|_| IoUring::new(entries))?;
        Ok(Self { ring, pages: AlignedBuffer::new(WRITES_MAX * PAGE), kept: Vec::new(), memories: Vec::new() })
    }

    /// Lets the kernel keep the pages of an arena at hand: else it looks them up at each write, which is half of what a write costs.
    ///
    /// # Errors
    /// Where memory may not be locked without bound: what there is, the ingest cores need. Else what the kernel says; kernels before 5.19 cannot.
    pub fn keep(&mut self, memory: ArenaMemory) -> io::Result<()> {
        if !has_capability(CapabilitySet::IPC_LOCK) && getrlimit(Resource::Memlock).current.is_some() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the limit of locked memory is not infinite"));
        }
        if self.kept.is_empty() {
            self.ring.submitter().register_buffers_sparse(KEPT_MAX)?;
        }
        let parts: Vec<Vector> = memory.parts(KEPT_BYTES_MAX).map(|(base, bytes)| Vector { base, bytes }).collect();
        if self.kept.len() + parts.len() > KEPT_MAX as usize {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        // SAFETY: a `Vector` is laid out as an iovec. What they tell of is mapped as long as `self.memories` holds it, which is longer than the ring lives; the
        // kernel reads there only for writes, whose bytes are borrowed.
        unsafe {
            let vectors = std::slice::from_raw_parts(parts.as_ptr().cast(), parts.len());
            self.ring.submitter().register_buffers_update(self.kept.len() as u32, vectors, None)?;
        }
        self.kept.extend(parts.iter().map(|part| part.base as usize..part.base as usize + part.bytes));
        self.memories.push(memory);
        Ok(())
    }

    /// Carries out all `jobs`, in any order, and says for each how many bytes, padding included, were written.
    ///
    /// # Panics
    /// With more than [`WRITES_MAX`] jobs. Aborts the process if the kernel does not answer for what it took: it may be reading the bytes still.
    pub fn write(&mut self, jobs: &[Job<'_>]) -> Vec<io::Result<usize>> {
        assert!(jobs.len() <= WRITES_MAX, "more writes than the queue holds");
        let Self { ring, pages, kept, .. } = self;
        let mut results: Vec<io::Result<usize>> = jobs.iter().map(|_| Ok(0)).collect();
        let mut left = 0;
        for (index, (job, page)) in jobs.iter().zip(pages.slice(jobs.len() * PAGE).chunks_exact_mut(PAGE)).enumerate() {
            if let Some(length) = job.length
                && let Err(error) = job.file.set_len(length)
            {
                results[index] = Err(error);
                continue;
            }
            let (whole, rest) = job.bytes.split_at(job.bytes.len() - job.bytes.len() % PAGE);
            let page = if rest.is_empty() {
                &[]
            } else {
                page[..rest.len()].copy_from_slice(rest);
                page[rest.len()..].fill(0);
                &*page
            };
            for (bytes, offset) in [(whole, job.offset), (page, job.offset + whole.len() as u64)] {
                if bytes.is_empty() {
                    continue;
                }
                let entry = write(kept, job.file, bytes, offset).user_data(index as u64);
                // SAFETY: the bytes (the jobs' and `self.pages`) and the files stay borrowed until this function returns, which is after the last completion.
                unsafe { ring.submission().push(&entry) }.expect("the queue is empty before, and holds as many");
                left += 1;
                if left % SUBMIT_MAX == 0 {
                    // What it does not take now it takes below.
                    let _ = ring.submit();
                }
            }
        }
        while left > 0 {
            match ring.submit_and_wait(left) {
                Ok(_) => {}
                Err(error) if [Errno::INTR, Errno::AGAIN, Errno::BUSY].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) => {}
                Err(error) => {
                    // Before anything is let go of that the kernel may still read.
                    let _ends_the_process = Vital("writes that the kernel took and does not answer for");
                    panic!("waiting for writes: {error}");
                }
            }
            for completion in ring.completion() {
                let written = usize::try_from(completion.result()).map_err(|_| io::Error::from_raw_os_error(-completion.result()));
                let result = &mut results[completion.user_data() as usize];
                match (result.as_mut(), written) {
                    (Ok(sum), Ok(written)) => *sum += written,
                    (Ok(_), Err(error)) => *result = Err(error),
                    (Err(_), _) => {}
                }
                left -= 1;
            }
        }
        results
    }
}

/// A write of aligned bytes, by the number of the memory they lie in where the kernel keeps it at hand.
fn write(kept: &[Range<usize>], file: &File, bytes: &[u8], offset: u64) -> squeue::Entry {
    let (file, start, len) = (types::Fd(file.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32);
    match kept.iter().position(|memory| memory.contains(&(start as usize))) {
        Some(number) => opcode::WriteFixed::new(file, start, len, number as u16).offset(offset).build(),
        None => opcode::Write::new(file, start, len).offset(offset).build(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::segment::arena::BlockClass;

    #[test]
    fn every_job_is_written_where_it_belongs_and_padded() {
        let folder = tempfile::tempdir().expect("a folder");
        let files: Vec<File> = (0..3)
            .map(|index| {
                let path = folder.path().join(index.to_string());
                std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(path).expect("a file")
            })
            .collect();
        let refused = File::open(folder.path().join("0")).expect("a file that is not open for writing");
        let bytes: Vec<u8> = (0..10_000_u32).map(|index| index as u8).collect();
        let Ok(mut ring) = Ring::new() else { return };
        for round in 0..2_u64 {
            let jobs: Vec<Job<'_>> = files
                .iter()
                .zip([10_000, 8_192, 1])
                .map(|(file, length)| Job { file, bytes: &bytes[..length], offset: round * 12_288, length: Some((round + 1) * 12_288) })
                .chain([Job { file: &refused, bytes: &bytes, offset: 0, length: None }])
                .collect();
            let results = ring.write(&jobs);
            let written: Vec<Option<usize>> = results.iter().map(|result| result.as_ref().ok().copied()).collect();
            assert_eq!(written, [Some(12_288), Some(8_192), Some(4_096), None]);
        }
        for (file, (length, padded)) in files.iter().zip([(10_000, 12_288), (8_192, 8_192), (1, 4_096)]) {
            let mut read = vec![1; padded];
            file.read_exact_at(&mut read, 12_288).expect("written");
            assert_eq!(read[..length], bytes[..length]);
            assert!(read[length..].iter().all(|byte| *byte == 0));
        }
        assert!(ring.write(&[]).is_empty());
    }

    #[test]
    fn what_lies_in_an_arena_is_written_the_same() {
        let (folder, mut arena) = crate::segment::arena::tests::arena(3);
        let file = folder.path().join("file");
        let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(file).expect("a file");
        let Ok(mut ring) = Ring::new() else { return };
        let is_kept = ring.keep(arena.memory().expect("a small one has all of it at once")).is_ok();
        assert_eq!(ring.kept.is_empty(), !is_kept);
        let bytes: Vec<u8> = (0..1_u32 << 20).map(|index| (index / 7) as u8).collect();
        let mut blocks = Vec::new();
        while let Some(mut block) = arena.allocate(BlockClass::Large) {
            block.write(0, &bytes);
            block.seal(bytes.len());
            blocks.push(block);
        }
        let sealed: Vec<_> = blocks.iter().zip([1 << 20, 5_000, 100]).map(|(block, end)| block.sealed_bytes(0, end)).collect();
        let jobs: Vec<Job<'_>> =
            sealed.iter().zip(0..).map(|(bytes, index)| Job { file: &file, bytes: bytes.as_slice(), offset: index << 20, length: None }).collect();
        for (index, (result, job)) in ring.write(&jobs).into_iter().zip(&jobs).enumerate() {
            let padded = job.bytes.len().next_multiple_of(PAGE);
            assert_eq!(result.expect("written"), padded);
            let mut read = vec![1; padded];
            file.read_exact_at(&mut read, (index as u64) << 20).expect("written");
            assert_eq!(read[..job.bytes.len()], bytes[..job.bytes.len()]);
            assert!(read[job.bytes.len()..].iter().all(|byte| *byte == 0));
        }
    }
}
