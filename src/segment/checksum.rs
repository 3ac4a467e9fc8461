//! Checksums of media files, made from what is appended while it is in the processor's cache: read back from memory, let alone from the disk, they would
//! cost several times as much. Of what was found after a crash they are made when it is in the catalog.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::container::FinishPlan;
use crate::domain::receipt::MediaChecksum;

/// A change or damage of the file is told to within this.
const RUN_BYTES: u64 = 4 << 20;

/// The checksum of a file that grows.
#[derive(Clone)]
pub struct Running {
    start: u64,
    /// Everything before is in `runs` and `run`.
    at: u64,
    /// Of whole runs.
    runs: Vec<u32>,
    run: crc32fast::Hasher,
    /// What begins at `at` and may change still.
    draft: Option<Draft>,
}

/// Bytes that may change, and those behind them that will not.
#[derive(Clone)]
struct Draft {
    bytes: u64,
    /// Of what follows, by run.
    after: Vec<(crc32fast::Hasher, u64)>,
    after_bytes: u64,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Running({}..{})", self.start, self.end())
    }
}

impl Running {
    /// Of the bytes from `start` on: what is before changes when the file is finished.
    pub fn new(start: u64) -> Self {
        Self { start, at: start, runs: Vec::new(), run: crc32fast::Hasher::new(), draft: None }
    }

    /// What comes next in the file.
    pub fn end(&self) -> u64 {
        self.at + self.draft.as_ref().map_or(0, |draft| draft.bytes + draft.after_bytes)
    }

    /// Where a draft lies that was not settled.
    pub fn draft(&self) -> Option<Range<u64>> {
        self.draft.as_ref().map(|draft| self.at..self.at + draft.bytes)
    }

    /// The next `bytes` of the file may change still.
    ///
    /// # Panics
    /// If there is a draft already: a broken invariant of the writer.
    pub fn begin_draft(&mut self, bytes: u64) {
        assert!(self.draft.is_none(), "a second draft");
        self.draft = Some(Draft { bytes, after: Vec::new(), after_bytes: 0 });
    }

    /// The draft is what `pieces` say, for good.
    pub fn settle_draft<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>) {
        let Some(draft) = self.draft.take() else { return };
        pieces.for_each(|piece| self.add(piece));
        for (sum, bytes) in &draft.after {
            self.run.combine(sum);
            self.passed(*bytes);
        }
    }

    /// The file goes on with `data`.
    pub fn add(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let left = RUN_BYTES - (self.end() - self.start) % RUN_BYTES;
            let (now, later) = data.split_at(data.len().min(left as usize));
            let bytes = now.len() as u64;
            match &mut self.draft {
                None => {
                    self.run.update(now);
                    self.passed(bytes);
                }
                Some(draft) => {
                    if draft.after.is_empty() || left == RUN_BYTES {
                        draft.after.push((crc32fast::Hasher::new(), 0));
                    }
                    if let Some((sum, summed)) = draft.after.last_mut() {
                        sum.update(now);
                        *summed += bytes;
                    }
                    draft.after_bytes += bytes;
                }
            }
            data = later;
        }
    }

    /// So much was added to the run.
    fn passed(&mut self, bytes: u64) {
        self.at += bytes;
        if (self.at - self.start).is_multiple_of(RUN_BYTES) {
            self.runs.push(std::mem::take(&mut self.run).finalize());
        }
    }

    /// The checksum of `file`, which has been finished by `plan`. Runs that the plan changed are read.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(mut self, file: &File, path: &Path, plan: &FinishPlan) -> io::Result<Option<MediaChecksum>> {
        let shift = match plan.insert {
            Some(insert) if insert.offset > self.start => return Ok(None),
            Some(insert) => insert.length,
            None => 0,
        };
        if self.draft.is_some() {
            return Ok(None);
        }
        if !(self.at - self.start).is_multiple_of(RUN_BYTES) {
            self.runs.push(self.run.finalize());
        }
        let bytes = self.at.min(plan.truncate_to).saturating_sub(self.start);
        let offset = self.start + shift;
        let torn = (bytes < self.at - self.start).then(|| (offset + bytes.saturating_sub(1), offset + bytes));
        self.runs.truncate(usize::try_from(bytes.div_ceil(RUN_BYTES)).unwrap_or(usize::MAX));
        let written = plan.writes.iter().map(|(at, bytes)| (*at, at + bytes.len() as u64));
        for (from, to) in written.chain(torn) {
            let (from, to) = (from.max(offset), to.min(offset + bytes));
            if from >= to {
                continue;
            }
            for run in (from - offset) / RUN_BYTES..=(to - 1 - offset) / RUN_BYTES {
                self.runs[run as usize] = read_run(file, offset, bytes, run)?;
            }
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Some(MediaChecksum { file, offset, bytes, run_bytes: RUN_BYTES, crc32: self.runs.iter().map(|run| format!("{run:08x}")).collect() }))
    }
}

/// The checksum of a whole file as it lies there. `None`: told to stop, by `pause`, which is called between two runs.
///
/// # Errors
/// What the file system says.
pub fn of_file(path: &Path, mut pause: impl FnMut() -> bool) -> io::Result<Option<MediaChecksum>> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut crc32 = Vec::new();
    for run in 0..bytes.div_ceil(RUN_BYTES) {
        if pause() {
            return Ok(None);
        }
        crc32.push(format!("{:08x}", read_run(&file, 0, bytes, run)?));
        // It is read once: the memory is for those who play.
        let _ = rustix::fs::fadvise(&file, run * RUN_BYTES, std::num::NonZeroU64::new(RUN_BYTES), rustix::fs::Advice::DontNeed);
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Some(MediaChecksum { file, offset: 0, bytes, run_bytes: RUN_BYTES, crc32 }))
}

fn read_run(file: &File, offset: u64, bytes: u64, run: u64) -> io::Result<u32> {
    let begin = run * RUN_BYTES;
    let mut data = vec![0; (bytes - begin).min(RUN_BYTES) as usize];
    file.read_exact_at(&mut data, offset + begin)?;
    Ok(crc32fast::hash(&data))
}

/// Reads a file again. Returns the ranges that are not what was written.
///
/// # Errors
/// What the file system says, also if the file is too short.
pub fn check(file: &File, checksum: &MediaChecksum) -> io::Result<Vec<std::ops::Range<u64>>> {
    let mut different = Vec::new();
    if checksum.run_bytes == 0 || checksum.run_bytes > 1 << 30 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the receipt's runs have no sensible length"));
    }
    let mut data = vec![0; checksum.run_bytes.min(checksum.bytes) as usize];
    for (run, expected) in (0..).zip(&checksum.crc32) {
        let begin = run * checksum.run_bytes;
        let Some(left) = checksum.bytes.checked_sub(begin) else { break };
        let data = &mut data[..left.min(checksum.run_bytes) as usize];
        file.read_exact_at(data, checksum.offset + begin)?;
        if format!("{:08x}", crc32fast::hash(data)) != *expected {
            different.push(checksum.offset + begin..checksum.offset + begin + data.len() as u64);
        }
    }
    Ok(different)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{Insert, MediaSummary};

    /// Written in pieces as a disk writer does, finished with every kind of change: what the receipt says is what a fresh look finds.
    #[test]
    fn a_finished_file_has_the_checksum_of_its_receipt() {
        let media: Vec<u8> = (0..9 << 20_u32).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let head = 8192_u64;
        let end = head + media.len() as u64;
        for (truncate_to, shift, writes) in [
            (end, 0, vec![]),
            (end, 4096, vec![(100, vec![1; 50])]),
            (end, 0, vec![(head - 4, vec![7; 8])]),
            (end - 5, 0, vec![]),
            (end - (3 << 20), 4096, vec![(head + 4096 + (3 << 20), vec![9; 2 << 20])]),
            (head, 0, vec![]),
        ] {
            let mut running = Running::new(head);
            let mut at = 0;
            for (piece, next) in media.chunks(777_777).zip([0, 1, 2].into_iter().cycle()) {
                // Without a draft, with one before the bytes of several chunks, with one across the end of a run.
                let draft_bytes = [0, 1_000, 700_000][next];
                if next < 2 {
                    let draft = running.draft().map(|draft| (draft.start - head) as usize..(draft.end - head) as usize);
                    running.settle_draft(draft.into_iter().flat_map(|draft| media[draft].chunks(300)));
                }
                if draft_bytes > 0 && running.draft().is_none() {
                    running.begin_draft(draft_bytes as u64);
                    assert_eq!(running.draft(), Some(head + at as u64..head + (at + draft_bytes) as u64));
                    running.add(&piece[draft_bytes..]);
                } else {
                    running.add(piece);
                }
                at += piece.len();
                assert_eq!(running.end(), head + at as u64);
            }
            let draft = running.draft().map(|draft| (draft.start - head) as usize..(draft.end - head) as usize);
            running.settle_draft(draft.into_iter().flat_map(|draft| media[draft].chunks(5_000)));
            let mut bytes = vec![0; (head + shift) as usize];
            bytes.extend_from_slice(&media);
            bytes.truncate((truncate_to + shift) as usize);
            for (at, change) in &writes {
                bytes[*at as usize..*at as usize + change.len()].copy_from_slice(change);
            }
            let file = tempfile::tempfile().expect("a file");
            file.write_all_at(&bytes, 0).expect("written");
            let insert = (shift > 0).then_some(Insert { offset: 4096, length: shift });
            let plan = FinishPlan { truncate_to, insert, writes, append: Vec::new(), torn_bytes: 0, summary: MediaSummary::default() };
            let checksum = running.finish(&file, Path::new("/x/media-1.mp4"), &plan).expect("read").expect("a checksum");
            assert_eq!((checksum.offset, checksum.bytes), (head + shift, truncate_to - head));
            assert_eq!(check(&file, &checksum).expect("read"), []);
            if checksum.bytes > 0 {
                let last = checksum.offset + checksum.bytes - 1;
                file.write_all_at(&[!bytes[last as usize]], last).expect("damaged");
                assert_eq!(check(&file, &checksum).expect("read").len(), 1);
            }
        }
        let mut open = Running::new(0);
        open.begin_draft(4096);
        open.add(b"x");
        let plan =
            FinishPlan { truncate_to: 1, insert: None, writes: Vec::new(), append: Vec::new(), torn_bytes: 0, summary: MediaSummary::default() };
        assert_eq!(open.finish(&tempfile::tempfile().expect("a file"), Path::new("x"), &plan).expect("nothing read"), None);
    }
}
