//! Many direct writes in one system call. Each one by itself is a trip to the device and two switches of the thread: on a virtual disk most of the disk
//! writer's time. Handed over together, the kernel queues them all and knocks at the device once.
//!
//! This is the second module with `unsafe`: the kernel reads the callers' bytes after the submission. Its contract: [`Ring::write`] borrows files and
//! bytes, and returns only when the kernel has answered for every write it took.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};
use rustix::io::Errno;

use super::disk::AlignedBuffer;
use super::store::WRITE_ALIGN_BYTES;
use super::vital::Vital;

/// Writes in one call.
pub const WRITES_MAX: usize = 512;
const PAGE: usize = WRITE_ALIGN_BYTES as usize;

/// Writes given to the kernel at once. A write for which the time of change has to be noted first is carried out by another thread; setting the length does
/// note it, in ticks of the system's clock: so both come close together.
const SUBMIT_MAX: usize = 32;

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

/// A submission queue of the calling thread.
pub struct Ring {
    ring: IoUring,
    /// Room for the padded last page of each write.
    pages: AlignedBuffer,
}

impl Ring {
    /// # Errors
    /// If io_uring is not permitted, or memory for the queue not to be had.
    pub fn new() -> io::Result<Self> {
        let entries = WRITES_MAX as u32;
        // Completions are taken when we wait for them, not by interrupting us; kernels before 6.1 do not know that.
        let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries).or_else(|_| IoUring::new(entries))?;
        Ok(Self { ring, pages: AlignedBuffer::new(WRITES_MAX * PAGE) })
    }

    /// Carries out all `jobs`, in any order, and says for each how many bytes, padding included, were written.
    ///
    /// # Panics
    /// With more than [`WRITES_MAX`] jobs. Aborts the process if the kernel does not answer for what it took: it may be reading the bytes still.
    pub fn write(&mut self, jobs: &[Job<'_>]) -> Vec<io::Result<usize>> {
        assert!(jobs.len() <= WRITES_MAX, "more writes than the queue holds");
        let pages = self.pages.slice(jobs.len() * PAGE);
        let mut vectors = Vec::with_capacity(jobs.len());
        for (job, page) in jobs.iter().zip(pages.chunks_exact_mut(PAGE)) {
            let (whole, rest) = job.bytes.split_at(job.bytes.len() - job.bytes.len() % PAGE);
            page[..rest.len()].copy_from_slice(rest);
            page[rest.len()..].fill(0);
            vectors.push([IoSlice::new(whole), IoSlice::new(if rest.is_empty() { &[] } else { page })]);
        }
        let mut results: Vec<io::Result<usize>> = jobs.iter().map(|_| Err(io::ErrorKind::Other.into())).collect();
        let mut left = 0;
        for (index, (job, vector)) in jobs.iter().zip(&vectors).enumerate() {
            if let Some(length) = job.length
                && let Err(error) = job.file.set_len(length)
            {
                results[index] = Err(error);
                continue;
            }
            let write = opcode::Writev::new(types::Fd(job.file.as_raw_fd()), vector.as_ptr().cast(), vector.len() as u32);
            let entry = write.offset(job.offset).build().user_data(index as u64);
            // SAFETY: an `IoSlice` is laid out as the kernel's iovec; `vectors`, the bytes they point to (the jobs' and `self.pages`) and the files stay
            // borrowed until this function returns, which is after the last completion.
            unsafe { self.ring.submission().push(&entry) }.expect("the queue is empty before, and holds as many");
            left += 1;
            if left % SUBMIT_MAX == 0 {
                // What it does not take now it takes below.
                let _ = self.ring.submit();
            }
        }
        while left > 0 {
            match self.ring.submit_and_wait(left) {
                Ok(_) => {}
                Err(error) if [Errno::INTR, Errno::AGAIN, Errno::BUSY].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) => {}
                Err(error) => {
                    // Before anything is let go of that the kernel may still read.
                    let _ends_the_process = Vital("writes that the kernel took and does not answer for");
                    panic!("waiting for writes: {error}");
                }
            }
            for completion in self.ring.completion() {
                let result = completion.result();
                results[completion.user_data() as usize] = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
                left -= 1;
            }
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

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
}
