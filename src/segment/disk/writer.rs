//! The writer of a data folder: creates files and carries out the cores' writes, many in one call.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};

use crate::domain::Resumptions;
use crate::limits::TMPFS_MAGIC;
use crate::metrics::{DiskMetrics, DiskStep, FileFailure, Metrics};
use crate::segment::arena::Block;
use crate::segment::headers::Head;
use crate::segment::health::{DiskHealth, Helper};
use crate::segment::open::OpenRecordings;
use crate::segment::ring::{Job, Ring, WRITES_MAX};
use crate::segment::store::{BlockWrite, DiskCommand, FileSerial, OpenFile, WRITE_ALIGN_BYTES};
use crate::segment::{faults, finish};
use crate::units::MonoTime;

use super::finisher::FinishCommand;
use super::media_file::{ALLOCATE_BYTES_MIN, AlignedBuffer, OpenOnDisk, create, open_media};
use super::nanos;

/// Writes handed to the kernel in one call, each of which may be cut in two.
pub(super) const BATCH_WRITES_MAX: usize = WRITES_MAX / 2;
/// Bytes handed to the kernel in one call: their blocks come back together.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// The first write of a batch waits for others this long.
const GATHER: Duration = Duration::from_millis(3);
/// It is looked this often whether open files are still there.
const REMOVAL_LOOK: Duration = Duration::from_secs(2);
/// Descriptors on their way to the finisher; beyond them it opens the files anew.
const CLOSING_MAX: usize = 128;

pub(super) struct Writer {
    pub(super) recording: PathBuf,
    pub(super) open: HashMap<FileSerial, OpenOnDisk>,
    /// Those of them that have a descriptor.
    pub(super) descriptors: usize,
    pub(super) descriptors_max: usize,
    /// Files that could not even be created: what comes for them is dropped.
    pub(super) failed: HashSet<FileSerial>,
    pub(super) bounce: AlignedBuffer,
    /// The folder is on a tmpfs: space taken in advance would only be cleared first, and a write is over when the call is.
    /// `None`: no file was created yet; the folder may not even be there.
    pub(super) in_memory: Option<bool>,
    /// `None`: the system has none for us; writes go one by one.
    pub(super) ring: Option<Ring>,
    /// Writes that go out together.
    pub(super) batch: Vec<BlockWrite>,
    pub(super) batch_bytes: usize,
    pub(super) batch_number: u64,
    pub(super) to_finisher: Sender<FinishCommand>,
    /// When each sync was asked for.
    pub(super) to_sync: Sender<MonoTime>,
    pub(super) resumptions: Arc<Mutex<Resumptions>>,
    /// Something was written since the last sync was asked for.
    pub(super) written: bool,
    /// Failed syncs that were noted already.
    pub(super) sync_failures: u64,
    pub(super) next_removal_look: Instant,
    pub(super) health: Arc<DiskHealth>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) times: Arc<DiskMetrics>,
    pub(super) clock: fn() -> MonoTime,
    pub(super) recordings: Arc<OpenRecordings>,
}

impl Writer {
    pub(super) fn run(&mut self, receiver: &Receiver<DiskCommand>) {
        if !rustix::fs::statfs(&self.recording).is_ok_and(|stat| stat.f_type == TMPFS_MAGIC) {
            self.ring = Ring::new().inspect_err(|error| tracing::warn!(%error, "no io_uring for the disk writer: writes go one by one")).ok();
        }
        while let Ok(command) = receiver.recv() {
            // A core sends what it has over its whole pass: a moment later there is more, and it goes out together.
            if matches!(command, DiskCommand::Write(_)) && receiver.len() < BATCH_WRITES_MAX {
                std::thread::sleep(GATHER);
            }
            self.note_failed_sync();
            self.take(command);
            while let Ok(command) = receiver.try_recv() {
                self.take(command);
            }
            self.write_batch();
            self.health.waits(Helper::Writer);
        }
    }

    pub(super) fn take(&mut self, command: DiskCommand) {
        match command {
            DiskCommand::Write(write) => return self.gather(write),
            // Everything else comes behind the writes before it.
            _ => self.write_batch(),
        }
        match command {
            DiskCommand::Write(_) => unreachable!("gathered"),
            DiskCommand::Memory(memory) => {
                if let Some(Err(error)) = self.ring.as_mut().map(|ring| ring.keep(memory)) {
                    tracing::info!(%error, "the memory that is written from is looked up at each write, which costs some CPU (LimitMEMLOCK=infinity)");
                }
            }
            DiskCommand::Open(open) => self.open(*open),
            DiskCommand::Text { folder, name, text } => self.forward(FinishCommand::Text { folder, name, text }),
            DiskCommand::Close { serial, bytes, known, sum, mut tail, headers } => {
                self.failed.remove(&serial);
                if let Some(mut open) = self.open.remove(&serial) {
                    self.descriptors -= usize::from(open.file.is_some());
                    if self.to_finisher.len() > CLOSING_MAX {
                        (open.file, tail) = (None, None);
                    }
                    self.metrics.file_closed();
                    // A file that failed is not what its core thinks.
                    let failed = open.failed.load(Ordering::Relaxed);
                    let (known, checksum, headers) = if failed { (None, None, None) } else { (known, Some(*sum), headers) };
                    let headers = headers.map(|headers| Arc::new(headers.behind(open.head.unwrap_or_default())));
                    // Where writes go through memory it is there.
                    let tail = tail.filter(|_| open.direct && !failed);
                    self.forward(FinishCommand::Close {
                        file: open.file,
                        bytes,
                        path: open.path,
                        link: open.link,
                        known,
                        damage: open.damage,
                        checksum,
                        tail,
                        headers,
                    });
                }
            }
            DiskCommand::EndRecording(end) => self.forward(FinishCommand::EndRecording(end)),
            DiskCommand::PauseRecording(paused) => {
                // From now on another publication may go on with it: what it writes comes behind what is queued already.
                let refused = self.resumptions.lock().unwrap_or_else(PoisonError::into_inner).pause((*paused).clone()).is_err();
                self.forward(FinishCommand::PauseRecording { paused, refused });
            }
            DiskCommand::Sync(asked) => {
                self.note_removed_files();
                if std::mem::take(&mut self.written) {
                    // Full: one waits already, and will cover this.
                    let _ = self.to_sync.try_send(asked);
                }
            }
        }
    }

    /// What a failed sync should have brought to the disk may not be there: the files that were open end, and say so.
    pub(super) fn note_failed_sync(&mut self) {
        let failures = self.health.failed_syncs();
        if failures == self.sync_failures {
            return;
        }
        self.sync_failures = failures;
        for open in self.open.values_mut().filter(|open| !open.failed.load(Ordering::Relaxed)) {
            open.fail(0, open.end, &io::Error::other("a sync of the disk failed"));
        }
    }

    /// What is written to a file that somebody has removed is gone with it: it ends, and another begins.
    fn note_removed_files(&mut self) {
        if Instant::now() < self.next_removal_look {
            return;
        }
        self.next_removal_look = Instant::now() + REMOVAL_LOOK;
        let is_removed = |file: &File| rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink == 0);
        for open in self.open.values_mut().filter(|open| !open.failed.load(Ordering::Relaxed) && open.file.as_ref().is_some_and(is_removed)) {
            tracing::error!(path = %open.path.display(), "somebody has removed a file that is recorded to; another one begins");
            open.fail(0, open.end, &io::Error::other("the file was removed"));
            self.metrics.file_failed(FileFailure::Write);
        }
    }

    fn forward(&self, command: FinishCommand) {
        if self.to_finisher.send(command).is_err() {
            tracing::error!("the finisher is gone; unfinished recordings are finished at the next start");
        }
    }

    fn open(&mut self, command: OpenFile) {
        let OpenFile { serial, open, failed, record } = command;
        self.health.begins(Helper::Writer, (self.clock)());
        let started = Instant::now();
        self.spare_descriptor();
        match create(&self.recording, &open, &mut self.bounce) {
            Ok((file, path, direct)) => {
                let length = open.head.len() as u64;
                let link = open.link.map(|link| finish::media_path(&self.recording, link));
                self.descriptors += 1;
                let in_memory = *self.in_memory.get_or_insert_with(|| rustix::fs::fstatfs(&file).is_ok_and(|stat| stat.f_type == TMPFS_MAGIC));
                let on_disk = OpenOnDisk {
                    file: Some(file),
                    path,
                    direct,
                    allocated: if in_memory { u64::MAX } else { length },
                    allocate_step: ALLOCATE_BYTES_MIN,
                    length,
                    batch: (self.batch_number - 1, 0),
                    failed,
                    link,
                    end: length,
                    damage: None,
                    head: matches!(open.media.extension, "mp4" | "m4s").then(|| Head::of(&open.head)),
                };
                self.open.insert(serial, on_disk);
                open.begin.iter().for_each(|identity| self.recordings.begun(identity));
                for media in [Some(open.media), open.link].into_iter().flatten() {
                    let folder = self.recording.join(media.folder.to_string());
                    self.recordings.goes_on(media.folder, || finish::read_identity(&folder, media.folder).ok());
                }
                self.metrics.file_opened();
            }
            Err(error) => {
                tracing::error!(file_id = %open.media.folder, part = open.media.part, %error, "cannot create the recording");
                self.metrics.file_failed(self.failure(&error, FileFailure::Create));
                // Nothing is left of what never began.
                for identity in &open.begin {
                    let _ = std::fs::remove_dir_all(self.recording.join(identity.file_id.to_string()));
                }
                failed.store(true, Ordering::Relaxed);
                self.failed.insert(serial);
            }
        }
        give_back(Some(record));
        self.written = true;
        self.times.record_step(DiskStep::Open, nanos(started));
    }

    /// Puts a write to those that go out together. They are carried out in any order, so one that touches what another of the same file writes (a page
    /// that was not full) has to wait for it.
    fn gather(&mut self, write: BlockWrite) {
        if let Some(open) = self.open.get_mut(&write.serial) {
            if open.batch.0 == self.batch_number && write.offset < open.batch.1 {
                self.write_batch();
            }
            let end = (write.offset + write.bytes.as_slice().len() as u64).next_multiple_of(WRITE_ALIGN_BYTES);
            self.wake(&write);
            if let Some(open) = self.open.get_mut(&write.serial) {
                open.batch = (self.batch_number, end);
            }
        } else if !self.failed.contains(&write.serial) {
            unreachable!("a write to a file that was never opened");
        }
        self.times.record_queue_wait((self.clock)().nanos_since(write.sent));
        self.batch_bytes += write.bytes.as_slice().len();
        self.batch.push(write);
        if self.batch.len() == BATCH_WRITES_MAX || self.batch_bytes >= BATCH_BYTES_MAX {
            self.write_batch();
        }
    }

    /// Gives the file of a write its descriptor back.
    fn wake(&mut self, write: &BlockWrite) {
        if self.open.get(&write.serial).is_none_or(|open| open.file.is_some() || open.failed.load(Ordering::Relaxed)) {
            return;
        }
        self.spare_descriptor();
        let Some(open) = self.open.get_mut(&write.serial) else { return };
        match open_media(&open.path, open.direct) {
            Ok(file) => {
                open.file = Some(file);
                self.descriptors += 1;
            }
            Err(error) => {
                tracing::error!(path = %open.path.display(), %error, "opening the recording again failed; it ends here");
                open.fail(write.offset, write.offset, &error);
                self.metrics.file_failed(self.failure(&error, FileFailure::Write));
            }
        }
    }

    /// Sees to it that one more file may have a descriptor.
    fn spare_descriptor(&mut self) {
        if self.descriptors < self.descriptors_max {
            return;
        }
        // Those of the batch need theirs until it is written.
        if self.open.values().filter(|open| open.file.is_some()).all(|open| open.batch.0 == self.batch_number) {
            self.write_batch();
        }
        // Many at once, so that they are not looked for at every write.
        let mut idle: Vec<(u64, FileSerial)> = self
            .open
            .iter()
            .filter(|(_, open)| open.file.is_some() && open.batch.0 != self.batch_number)
            .map(|(serial, open)| (open.batch.0, *serial))
            .collect();
        let count = (self.descriptors_max / 4).clamp(1, idle.len().max(1));
        idle.sort_unstable_by_key(|(batch, _)| *batch);
        for (_, serial) in idle.into_iter().take(count) {
            if let Some(open) = self.open.get_mut(&serial) {
                open.file = None;
                self.descriptors -= 1;
            }
        }
    }

    pub(super) fn write_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.health.begins(Helper::Writer, (self.clock)());
        let started = Instant::now();
        let mut batch = std::mem::take(&mut self.batch);
        let together = self.write_together(&batch);
        for (write, written) in batch.iter().zip(together) {
            let data = write.bytes.as_slice();
            let Some(open) = self.open.get_mut(&write.serial) else { continue };
            if !open.takes(write.offset, data) {
                continue;
            }
            if !written {
                self.health.begins(Helper::Writer, (self.clock)());
            }
            match if written { Ok(()) } else { open.write_alone(write.offset, data, &mut self.bounce, &self.health) } {
                Ok(()) => {
                    open.stored(write.offset, data, &self.health);
                    self.written = true;
                    self.metrics.record_recv_to_stored((self.clock)().nanos_since(write.received));
                }
                Err(error) => {
                    let (path, offset, bytes) = (open.path.display(), write.offset, data.len());
                    tracing::error!(%path, offset, bytes, %error, "writing the recording failed; it ends here");
                    open.fail(write.offset, write.offset + data.len() as u64, &error);
                    self.metrics.file_failed(self.failure(&error, FileFailure::Write));
                }
            }
        }
        self.times.record_step(DiskStep::Write, nanos(started));
        for BlockWrite { bytes, release, .. } in batch.drain(..) {
            drop(bytes);
            give_back(release);
        }
        self.batch = batch;
        self.batch_bytes = 0;
        self.batch_number += 1;
    }

    /// Says for each write whether it was carried out. What was not is to be written alone, which also tells why.
    fn write_together(&mut self, batch: &[BlockWrite]) -> Vec<bool> {
        let mut written = vec![false; batch.len()];
        if faults::are_on() {
            return written;
        }
        let low = self.health.is_low();
        let Some(ring) = &mut self.ring else { return written };
        // Place in the batch, the bytes, and the length that the file gets.
        let mut parts = Vec::with_capacity(2 * batch.len());
        for (place, write) in batch.iter().enumerate() {
            let data = write.bytes.as_slice();
            let Some(open) = self.open.get_mut(&write.serial) else { continue };
            if low {
                // No space is taken in advance.
                open.allocate_step = WRITE_ALIGN_BYTES;
            }
            if !(open.direct && open.takes(write.offset, data)) {
                continue;
            }
            let known = open.length.saturating_sub(write.offset).min(data.len() as u64) as usize;
            let Ok(length) = open.make_room(write.offset + data.len() as u64) else { continue };
            written[place] = true;
            // A page that is there already and one that is not yet are different extents: the kernel writes at once to either, but not to both.
            parts
                .extend([(0..known, None), (known..data.len(), length)].into_iter().filter(|(range, _)| !range.is_empty()).map(|part| (place, part)));
        }
        let job = |(place, (range, length)): &(usize, (Range<usize>, Option<u64>))| {
            let BlockWrite { serial, bytes, offset, .. } = &batch[*place];
            Job {
                file: self.open[serial].descriptor(),
                bytes: &bytes.as_slice()[range.clone()],
                offset: offset + range.start as u64,
                length: *length,
            }
        };
        let jobs: Vec<Job<'_>> = parts.iter().map(job).collect();
        for ((place, _), (result, job)) in parts.iter().zip(ring.write(&jobs).into_iter().zip(&jobs)) {
            written[*place] &= result.is_ok_and(|count| count == job.bytes.len().next_multiple_of(WRITE_ALIGN_BYTES as usize));
        }
        written
    }

    /// Counts a failure; what it is called where it happens for want of space.
    fn failure(&self, error: &io::Error, otherwise: FileFailure) -> FileFailure {
        if error.kind() == io::ErrorKind::StorageFull {
            self.health.no_space();
            return FileFailure::DiskFull;
        }
        self.health.failed();
        otherwise
    }
}

/// Returns a block whose content is on the disk to its core. Its header says so first: what a crash leaves is written back, and must not undo what
/// finishing the file changes.
fn give_back(block: Option<(Block, Sender<Block>)>) {
    if let Some((block, core)) = block {
        block.settle();
        // The core's return queue holds every block of its arena; it is gone only when the core is.
        let _ = core.send(block);
    }
}
