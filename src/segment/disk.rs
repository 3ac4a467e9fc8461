//! The helper threads of one data folder: the writer (create, allocate, direct writes), the finisher (truncate, index, sync, rename) and the
//! sync thread (one `syncfs` for all open files, so that a power cut costs at most `durability_ms`).

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::fs::{FallocateFlags, OFlags};

use crate::container::{FinishPlan, OpenMedia, RecordingEnd};
use crate::domain::receipt::Damage;
use crate::domain::{FinishedFile, PausedRecording, Policy, RecordingSource, Resumptions};
use crate::limits::TMPFS_MAGIC;
use crate::metrics::{DiskStep, FileFailure, Metrics};
use crate::units::{FileId, MonoTime, TaskId, WallTime};

use super::arena::Block;
use super::checksum::Running;
use super::faults;
use super::finish::{self, Checksum, ClosedFile, ClosedFiles, FinishSettings};
use super::health::DiskHealth;
use super::open::OpenRecordings;
use super::ring::{Job, Ring, WRITES_MAX};
use super::store::{BlockWrite, DiskCommand, FileSerial, OpenFile, Places, WRITE_ALIGN_BYTES};

/// Commands on their way from all cores to one writer: two for each of some thousands of streams a second. When full, commands wait on the core.
const DISK_QUEUE_MAX: usize = 8192;
/// Work on its way from the writer to the finisher. When full, the writer waits.
const FINISH_QUEUE_MAX: usize = 65_536;
/// The same for a [`SteppedDisk`]: few, so that a full queue is nothing rare; and more than it can come to, where nobody could wait.
const STEPPED_QUEUE_MAX: usize = 64;
const STEPPED_FINISH_QUEUE_MAX: usize = 4_096;
/// Preallocation begins with this and doubles, so that a weak stream does not hold a fat one's space.
const ALLOCATE_BYTES_MIN: u64 = 1 << 20;
const ALLOCATE_BYTES_MAX: u64 = 64 << 20;

/// A recording that could not be finished is tried again this often.
const RETRY: Duration = Duration::from_secs(2);
/// Recordings that wait for it.
const UNFINISHED_MAX: usize = 65_536;
/// Writes handed to the kernel in one call, each of which may be cut in two.
const BATCH_WRITES_MAX: usize = WRITES_MAX / 2;
/// Bytes handed to the kernel in one call: their blocks come back together.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// The first write of a batch waits for others this long.
const GATHER: Duration = Duration::from_millis(3);

/// Recordings that are finished together.
const TOGETHER_MIN: usize = 4;
const TOGETHER_MAX: usize = 64;
/// Descriptors on their way to the finisher; beyond them it opens the files anew.
const CLOSING_MAX: usize = 128;

/// Interrupted recordings are looked at this often: their time may be over, their task stopped.
const RESUMPTION_CHECK: Duration = Duration::from_millis(250);

/// At the end a disk that hangs is waited for this long: the stop has to come, and the next start writes what is left.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// How the helper threads of a folder work.
pub struct DiskSettings {
    /// Which of the data folders.
    pub index: usize,
    pub finish: FinishSettings,
    /// Media files that have a descriptor at once, at least 1. More may be open: those that were not written to for the longest time get one again when
    /// they are.
    pub descriptors_max: usize,
    /// Finished recordings go here. Called on the finisher thread; may wait.
    pub finished: Box<dyn FnMut(FinishedFile) + Send>,
    pub metrics: Arc<Metrics>,
    /// The process's monotonic clock.
    pub clock: fn() -> MonoTime,
    pub health: Arc<DiskHealth>,
    /// Where it is noted which recordings are open.
    pub open: Arc<OpenRecordings>,
    /// What came to nothing is taken out of it.
    pub places: Arc<Places>,
    pub resumption: ResumptionSettings,
}

/// What becomes of interrupted recordings.
pub struct ResumptionSettings {
    pub table: Arc<Mutex<Resumptions>>,
    pub policy: Arc<ArcSwap<Policy>>,
    pub wall: fn() -> WallTime,
    /// An interrupted recording is final now: nobody went on with it. Called on the finisher thread.
    pub over: Box<dyn FnMut(&PausedRecording) + Send>,
}

/// The running helper threads.
pub struct Disk {
    sender: Sender<DiskCommand>,
    queue: Receiver<DiskCommand>,
    health: Arc<DiskHealth>,
    threads: Vec<JoinHandle<()>>,
    /// Disconnected when all threads have ended.
    ended: Receiver<()>,
    clock: fn() -> MonoTime,
}

/// Where the cores send their commands, and how the disk is.
#[derive(Clone)]
pub struct DiskHandle {
    pub sender: Sender<DiskCommand>,
    pub health: Arc<DiskHealth>,
}

enum FinishCommand {
    Close {
        /// `None`: it has no descriptor now.
        file: Option<File>,
        bytes: u64,
        path: PathBuf,
        link: Option<PathBuf>,
        plan: Option<Box<FinishPlan>>,
        damage: Option<Damage>,
        checksum: Option<Running>,
    },
    Text {
        folder: FileId,
        name: &'static str,
        text: String,
    },
    EndRecording(RecordingEnd),
    /// `refused`: it is to be finished.
    PauseRecording {
        paused: Box<PausedRecording>,
        refused: bool,
    },
}

impl Disk {
    /// # Errors
    /// If a thread cannot be started or the recording folder cannot be opened.
    pub fn start(settings: DiskSettings) -> io::Result<Self> {
        let (index, clock) = (settings.index, settings.clock);
        let Parts { mut writer, mut finisher, syncer, sender, queue, to_finish: finisher_queue } =
            Parts::new(settings, (DISK_QUEUE_MAX, FINISH_QUEUE_MAX))?;
        let (receiver, health) = (queue.clone(), Arc::clone(&writer.health));
        let (alive, ended) = bounded::<()>(0);
        let threads = vec![
            thread("disk-writer", index, &alive, move || {
                // Dropping the senders in `writer` ends the other threads.
                writer.run(&receiver);
            })?,
            thread("finisher", index, &alive, move || finisher.run(&finisher_queue))?,
            thread("disk-sync", index, &alive, move || syncer.run())?,
        ];
        Ok(Self { sender, queue, health, threads, ended, clock })
    }

    pub fn handle(&self) -> DiskHandle {
        DiskHandle { sender: self.sender.clone(), health: Arc::clone(&self.health) }
    }

    /// Commands waiting for the writer. Does not keep the queue open.
    pub fn queue_depth(&self) -> impl Fn() -> usize + Send + Sync + use<> {
        let queue = self.queue.clone();
        move || queue.len()
    }

    /// Carries out everything queued, then ends the threads. All handles must be gone. False: the disk hangs, and its threads with it; what was for it is
    /// written at the next start.
    pub fn stop(self) -> bool {
        drop(self.sender);
        while self.ended.recv_timeout(STOP_WAIT) == Err(RecvTimeoutError::Timeout) {
            if self.health.is_stalled((self.clock)()) {
                return false;
            }
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a disk thread panicked");
            }
        }
        true
    }
}

/// What the helper threads of a folder work with.
struct Parts {
    writer: Writer,
    finisher: Finisher,
    syncer: Syncer,
    sender: Sender<DiskCommand>,
    queue: Receiver<DiskCommand>,
    to_finish: Receiver<FinishCommand>,
}

impl Parts {
    fn new(settings: DiskSettings, (queue_max, finish_queue_max): (usize, usize)) -> io::Result<Self> {
        let DiskSettings { index, finish, descriptors_max, finished, metrics, clock, health, open, places, resumption } = settings;
        let (sender, receiver) = bounded(queue_max);
        let (to_finisher, finisher_queue) = bounded(finish_queue_max);
        // One sync may wait while another runs: it covers whatever was written until it begins.
        let (to_sync, sync_queue) = bounded(1);
        let recording = finish.recording_folder();
        let folder = File::open(&recording)?;
        let recording_folder = recording.clone();
        let writer = Writer {
            recording,
            open: HashMap::new(),
            descriptors: 0,
            descriptors_max,
            failed: HashSet::new(),
            bounce: AlignedBuffer::new(256 << 10),
            in_memory: rustix::fs::fstatfs(&folder).is_ok_and(|stat| stat.f_type == TMPFS_MAGIC),
            ring: None,
            batch: Vec::with_capacity(BATCH_WRITES_MAX),
            batch_bytes: 0,
            batch_number: 1,
            to_finisher,
            to_sync,
            resumptions: Arc::clone(&resumption.table),
            written: false,
            sync_failures: 0,
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            clock,
            recordings: Arc::clone(&open),
        };
        let finisher = Finisher {
            index,
            settings: finish,
            places,
            closed: HashMap::new(),
            ended: Vec::new(),
            unfinished: VecDeque::new(),
            health: Arc::clone(&health),
            finished,
            metrics: Arc::clone(&metrics),
            recordings: open,
            resumption,
            next_check: Instant::now(),
            next_retry: Instant::now(),
        };
        let syncer = Syncer { folder, path: recording_folder, queue: sync_queue, metrics, health, clock };
        Ok(Self { writer, finisher, syncer, sender, queue: receiver, to_finish: finisher_queue })
    }
}

/// The helper threads' work done step by step on the caller's thread: for simulations, which decide what happens when.
pub struct SteppedDisk(Parts);

impl SteppedDisk {
    /// # Errors
    /// As [`Disk::start`].
    pub fn new(settings: DiskSettings) -> io::Result<Self> {
        Parts::new(settings, (STEPPED_QUEUE_MAX, STEPPED_FINISH_QUEUE_MAX)).map(Self)
    }

    pub fn handle(&self) -> DiskHandle {
        DiskHandle { sender: self.0.sender.clone(), health: Arc::clone(&self.0.writer.health) }
    }

    /// The writer carries out its next command. False: there is none.
    pub fn write(&mut self) -> bool {
        let Ok(command) = self.0.queue.try_recv() else { return false };
        self.0.writer.note_failed_sync();
        self.0.writer.take(command);
        self.0.writer.write_batch();
        self.0.writer.health.waits();
        true
    }

    /// What a death in the middle of the next command leaves: of a write, the first `pages` pages.
    pub fn tear(&mut self, pages: usize) {
        let Ok(DiskCommand::Write(write)) = self.0.queue.try_recv() else { return };
        let Some(open) = self.0.writer.open.get(&write.serial) else { return };
        let data = write.bytes.as_slice();
        let data = &data[..data.len().min(pages * WRITE_ALIGN_BYTES as usize)];
        // Best effort, as a dying process's.
        let _ = open_media(&open.path, false).and_then(|file| file.write_all_at(self.0.writer.bounce.padded(data), write.offset));
    }

    /// The finisher carries out what has gathered for it. False: there is nothing.
    pub fn finish(&mut self) -> bool {
        let Ok(command) = self.0.to_finish.try_recv() else { return false };
        self.0.finisher.carry_out_with(command, &self.0.to_finish);
        true
    }

    /// What the finisher does from time to time.
    pub fn finish_again(&mut self) {
        self.0.finisher.end_paused();
        self.0.finisher.finish_again();
    }

    /// Carries out the sync that is asked for, if one is.
    pub fn sync(&mut self) {
        if let Ok(asked) = self.0.syncer.queue.try_recv() {
            self.0.syncer.sync(asked);
        }
    }

    /// The writer does not come back from a step, or does again.
    pub fn hang(&mut self, hangs: bool) {
        let Writer { health, clock, .. } = &self.0.writer;
        if hangs { health.begins(clock()) } else { health.waits() }
    }

    /// There is space, or none beyond the reserve.
    pub fn note_space(&mut self, full: bool) {
        self.0.writer.health.note_space(if full { 0 } else { 1 << 40 }, None, full, full);
    }
}

/// `alive` is kept for as long as the thread runs.
fn thread(name: &str, index: usize, alive: &Sender<()>, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let name = if index == 0 { name.to_owned() } else { format!("{name}-{index}") };
    let alive = alive.clone();
    std::thread::Builder::new().name(name).spawn(move || {
        body();
        drop(alive);
    })
}

/// Memory that a direct write accepts.
pub struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    pub fn new(bytes: usize) -> Self {
        let memory = vec![0; bytes + WRITE_ALIGN_BYTES as usize];
        let start = memory.as_ptr().align_offset(WRITE_ALIGN_BYTES as usize);
        Self { memory, start }
    }

    fn capacity(&self) -> usize {
        self.memory.len() - WRITE_ALIGN_BYTES as usize
    }

    /// Its first `bytes` bytes.
    pub fn slice(&mut self, bytes: usize) -> &mut [u8] {
        &mut self.memory[self.start..self.start + bytes]
    }

    /// `bytes`, padded with zeros to a whole number of pages.
    fn padded(&mut self, bytes: &[u8]) -> &[u8] {
        let padded = bytes.len().next_multiple_of(WRITE_ALIGN_BYTES as usize);
        let target = self.slice(padded);
        target[..bytes.len()].copy_from_slice(bytes);
        target[bytes.len()..].fill(0);
        target
    }
}

struct OpenOnDisk {
    /// `None`: it was not written to for long, and others need the descriptor.
    file: Option<File>,
    path: PathBuf,
    /// False where the file system refuses O_DIRECT: buffered writes, pushed out by the sync thread.
    direct: bool,
    allocated: u64,
    allocate_step: u64,
    /// As the file system has it: what was written, and the padding of its last page.
    length: u64,
    /// The last batch it takes part in, and the end of its writes there.
    batch: (u64, u64),
    failed: Arc<AtomicBool>,
    /// The same media under the name that an HLS recording has for them.
    link: Option<PathBuf>,
    /// Bytes handed to the disk so far, and until the last sync.
    end: u64,
    damage: Option<Damage>,
    checksum: Running,
}

struct Writer {
    recording: PathBuf,
    open: HashMap<FileSerial, OpenOnDisk>,
    /// Those of them that have a descriptor.
    descriptors: usize,
    descriptors_max: usize,
    /// Files that could not even be created: what comes for them is dropped.
    failed: HashSet<FileSerial>,
    bounce: AlignedBuffer,
    /// The folder is on a tmpfs: space taken in advance would only be cleared first, and a write is over when the call is.
    in_memory: bool,
    /// `None`: the system has none for us; writes go one by one.
    ring: Option<Ring>,
    /// Writes that go out together.
    batch: Vec<BlockWrite>,
    batch_bytes: usize,
    batch_number: u64,
    to_finisher: Sender<FinishCommand>,
    /// When each sync was asked for.
    to_sync: Sender<MonoTime>,
    resumptions: Arc<Mutex<Resumptions>>,
    /// Something was written since the last sync was asked for.
    written: bool,
    /// Failed syncs that were noted already.
    sync_failures: u64,
    health: Arc<DiskHealth>,
    metrics: Arc<Metrics>,
    clock: fn() -> MonoTime,
    recordings: Arc<OpenRecordings>,
}

impl Writer {
    fn run(&mut self, receiver: &Receiver<DiskCommand>) {
        if !self.in_memory {
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
            self.health.waits();
        }
    }

    fn take(&mut self, command: DiskCommand) {
        match command {
            DiskCommand::Write(write) => return self.gather(write),
            // Everything else comes behind the writes before it.
            _ => self.write_batch(),
        }
        match command {
            DiskCommand::Write(_) => unreachable!("gathered"),
            DiskCommand::Open(open) => self.open(*open),
            DiskCommand::Text { folder, name, text } => self.forward(FinishCommand::Text { folder, name, text }),
            DiskCommand::Close { serial, bytes, plan } => {
                self.failed.remove(&serial);
                if let Some(mut open) = self.open.remove(&serial) {
                    self.descriptors -= usize::from(open.file.is_some());
                    if self.to_finisher.len() > CLOSING_MAX {
                        open.file = None;
                    }
                    self.metrics.file_closed();
                    // A file that failed is not what its writer thinks.
                    let plan = plan.filter(|_| !open.failed.load(Ordering::Relaxed));
                    self.forward(FinishCommand::Close {
                        file: open.file,
                        bytes,
                        path: open.path,
                        link: open.link,
                        plan,
                        damage: open.damage,
                        checksum: Some(open.checksum),
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
                if std::mem::take(&mut self.written) {
                    // Full: one waits already, and will cover this.
                    let _ = self.to_sync.try_send(asked);
                }
            }
        }
    }

    /// What a failed sync should have brought to the disk may not be there: the files that were open end, and say so.
    fn note_failed_sync(&mut self) {
        let failures = self.health.failed_syncs();
        if failures == self.sync_failures {
            return;
        }
        self.sync_failures = failures;
        for open in self.open.values_mut().filter(|open| !open.failed.load(Ordering::Relaxed)) {
            open.fail(0, open.end, &io::Error::other("a sync of the disk failed"));
        }
    }

    fn forward(&self, command: FinishCommand) {
        if self.to_finisher.send(command).is_err() {
            tracing::error!("the finisher is gone; unfinished recordings are finished at the next start");
        }
    }

    fn open(&mut self, command: OpenFile) {
        let OpenFile { serial, open, failed, record } = command;
        self.health.begins((self.clock)());
        let started = Instant::now();
        self.spare_descriptor();
        match create(&self.recording, &open, &mut self.bounce) {
            Ok((file, path, direct)) => {
                let length = open.head.len() as u64;
                let link = open.link.map(|link| finish::media_path(&self.recording, link));
                self.descriptors += 1;
                let on_disk = OpenOnDisk {
                    file: Some(file),
                    path,
                    direct,
                    allocated: if self.in_memory { u64::MAX } else { length },
                    allocate_step: ALLOCATE_BYTES_MIN,
                    length,
                    batch: (self.batch_number - 1, 0),
                    failed,
                    link,
                    end: length,
                    damage: None,
                    checksum: Running::new(length),
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
        give_back(record);
        self.written = true;
        self.metrics.record_disk_step(DiskStep::Open, nanos(started));
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
        self.metrics.record_disk_queue_wait((self.clock)().nanos_since(write.sent));
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

    fn write_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.health.begins((self.clock)());
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
                self.health.begins((self.clock)());
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
        self.metrics.record_disk_step(DiskStep::Write, nanos(started));
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
}

impl Writer {
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

impl OpenOnDisk {
    /// A file that has failed takes nothing more: what comes for it belongs to its damage.
    fn takes(&mut self, offset: u64, data: &[u8]) -> bool {
        if let Some(damage) = &mut self.damage {
            damage.bytes = damage.bytes.max((offset + data.len() as u64).saturating_sub(damage.offset));
        }
        !data.is_empty() && !self.failed.load(Ordering::Relaxed)
    }

    fn descriptor(&self) -> &File {
        self.file.as_ref().expect("a file gets its descriptor when a write to it is gathered")
    }

    fn fail(&mut self, from: u64, to: u64, error: &io::Error) {
        self.failed.store(true, Ordering::Relaxed);
        let file = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.damage.get_or_insert(Damage { file, offset: from, bytes: to - from, error: error.to_string() });
    }

    /// Writes alone what was not written together with others. A disk that is full takes what is open: there is ballast for it.
    fn write_alone(&mut self, offset: u64, data: &[u8], bounce: &mut AlignedBuffer, health: &DiskHealth) -> io::Result<()> {
        match self.write(offset, data, bounce) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && health.no_space() => self.write(offset, data, bounce),
            written => written,
        }
    }

    /// `data` is at `offset` in the file.
    fn stored(&mut self, offset: u64, data: &[u8], health: &DiskHealth) {
        let end = offset + data.len() as u64;
        health.wrote(end.saturating_sub(self.end));
        self.end = self.end.max(end);
        self.checksum.update(offset, data);
    }

    /// Space for a write that ends at `end`, and the length that the file has to get for it, if it grows.
    fn make_room(&mut self, end: u64) -> io::Result<Option<u64>> {
        if end > self.allocated {
            self.allocate(end)?;
        }
        let padded = end.next_multiple_of(WRITE_ALIGN_BYTES);
        let longer = padded > self.length;
        self.length = self.length.max(padded);
        Ok(longer.then_some(padded))
    }

    fn write(&mut self, offset: u64, data: &[u8], bounce: &mut AlignedBuffer) -> io::Result<()> {
        faults::before(faults::Step::Write, &self.path)?;
        // The write itself makes the file longer.
        self.make_room(offset + data.len() as u64)?;
        if !self.direct {
            return self.descriptor().write_all_at(data, offset);
        }
        let whole = data.len() - data.len() % WRITE_ALIGN_BYTES as usize;
        // The last, partial page goes out padded from the bounce buffer, in the same call: each call is a trip to the device.
        match write_both_at(self.descriptor(), &data[..whole], bounce.padded(&data[whole..]), offset) {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                // Some file systems take the flag and refuse the write.
                self.file = Some(open_media(&self.path, false)?);
                self.direct = false;
                self.write(offset, data, bounce)
            }
            Err(error) => Err(error),
        }
    }

    fn allocate(&mut self, end: u64) -> io::Result<()> {
        let length = (end - self.allocated).max(self.allocate_step).next_multiple_of(WRITE_ALIGN_BYTES);
        // KEEP_SIZE: the length stays what was written, so that an unfinished file has no tail of zeros for a player.
        match rustix::fs::fallocate(self.descriptor(), FallocateFlags::KEEP_SIZE, self.allocated, length) {
            Ok(()) => {
                self.allocated += length;
                self.allocate_step = (self.allocate_step * 2).min(ALLOCATE_BYTES_MAX);
                Ok(())
            }
            // No room for a whole step, or no such call on this file system: the write itself decides.
            Err(rustix::io::Errno::NOSPC | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                self.allocated = end;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes `first` and `second`, one behind the other.
fn write_both_at(file: &File, mut first: &[u8], mut second: &[u8], mut offset: u64) -> io::Result<()> {
    while !(first.is_empty() && second.is_empty()) {
        let written = match rustix::io::pwritev(file, &[IoSlice::new(first), IoSlice::new(second)], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        offset += written as u64;
        let of_first = written.min(first.len());
        first = &first[of_first..];
        second = &second[written - of_first..];
    }
    Ok(())
}

/// Creates the recording's folders, their identities and small files, and the media file with its head.
fn create(recording: &Path, open: &OpenMedia, bounce: &mut AlignedBuffer) -> io::Result<(File, PathBuf, bool)> {
    faults::before(faults::Step::Create, &finish::media_path(recording, open.media))?;
    for identity in &open.begin {
        let folder = recording.join(identity.file_id.to_string());
        std::fs::create_dir(&folder)?;
        let text = serde_json::to_vec_pretty(identity).map_err(io::Error::other)?;
        std::fs::write(folder.join(finish::IDENTITY_NAME), text)?;
    }
    for small in &open.small_files {
        std::fs::write(recording.join(small.folder.to_string()).join(&small.name), &small.bytes)?;
    }
    let path = finish::media_path(recording, open.media);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    let (file, mut direct) = match options.custom_flags(direct_flag()).open(&path) {
        Ok(file) => (file, true),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            // The failed open may have created the file already.
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
            (file, false)
        }
        Err(error) => return Err(error),
    };
    let mut file = file;
    let step = bounce.capacity();
    for (index, piece) in open.head.chunks(step).enumerate() {
        let offset = (index * step) as u64;
        let result = file.write_all_at(bounce.padded(piece), offset);
        if let Err(error) = result {
            if !direct || error.raw_os_error() != Some(rustix::io::Errno::INVAL.raw_os_error()) {
                return Err(error);
            }
            file = open_media(&path, false)?;
            direct = false;
            file.write_all_at(piece, offset)?;
        }
    }
    if let Some(link) = open.link {
        std::fs::hard_link(&path, finish::media_path(recording, link))?;
    }
    Ok((file, path, direct))
}

fn direct_flag() -> i32 {
    i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default()
}

/// A media file that is there.
fn open_media(path: &Path, direct: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(if direct { direct_flag() } else { 0 }).open(path)
}

struct Finisher {
    index: usize,
    settings: FinishSettings,
    places: Arc<Places>,
    /// Files that are closed and whose recording ends next.
    closed: ClosedFiles,
    /// Recordings to be finished next.
    ended: Vec<RecordingEnd>,
    /// Recordings whose finishing failed.
    unfinished: VecDeque<RecordingEnd>,
    health: Arc<DiskHealth>,
    finished: Box<dyn FnMut(FinishedFile) + Send>,
    metrics: Arc<Metrics>,
    recordings: Arc<OpenRecordings>,
    resumption: ResumptionSettings,
    next_check: Instant,
    next_retry: Instant,
}

impl Finisher {
    fn run(&mut self, queue: &Receiver<FinishCommand>) {
        loop {
            let quiet = self.resumptions().is_quiet();
            let received = queue.recv_deadline(if quiet { Instant::now() + RETRY } else { self.next_check });
            if !quiet && Instant::now() >= self.next_check {
                self.next_check = Instant::now() + RESUMPTION_CHECK;
                self.end_paused();
            }
            if Instant::now() >= self.next_retry {
                self.next_retry = Instant::now() + RETRY;
                self.finish_again();
            }
            let command = match received {
                Ok(command) => command,
                Err(RecvTimeoutError::Timeout) => continue,
                // What is paused goes on after the next start.
                Err(RecvTimeoutError::Disconnected) => return self.finish_again(),
            };
            self.carry_out_with(command, queue);
        }
    }

    /// Carries out what waits, and finishes together the recordings that end together.
    fn carry_out_with(&mut self, command: FinishCommand, queue: &Receiver<FinishCommand>) {
        self.carry_out(command);
        while self.ended.len() < TOGETHER_MAX
            && let Ok(command) = queue.try_recv()
        {
            self.carry_out(command);
        }
        self.end_recordings();
    }

    fn carry_out(&mut self, command: FinishCommand) {
        match command {
            FinishCommand::Close { file, bytes, path, link, plan, damage, checksum } => {
                let started = Instant::now();
                // Cuts the preallocation and the padding of the last page.
                let file = file.map_or_else(|| open_media(&path, false), Ok);
                if let Err(error) = file.and_then(|file| cut(&file, bytes)) {
                    tracing::error!(path = %path.display(), bytes, %error, "truncating the recording failed");
                    self.metrics.file_failed(FileFailure::Write);
                }
                if let Some(link) = &link {
                    self.closed.insert(link.clone(), ClosedFile { damage: damage.clone(), ..ClosedFile::default() });
                }
                self.closed.insert(path, ClosedFile { plan: plan.map(|plan| *plan), damage, checksum: checksum.map(Checksum::Running), link });
                self.metrics.record_disk_step(DiskStep::Resize, nanos(started));
            }
            FinishCommand::Text { folder, name, text } => {
                let path = self.settings.recording_folder().join(folder.to_string()).join(name);
                let appended = OpenOptions::new().append(true).create(true).open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
                if let Err(error) = appended {
                    // The final playlist is built from the media, so this costs only what a viewer sees meanwhile.
                    tracing::warn!(path = %path.display(), %error, "appending to the live playlist failed");
                }
            }
            FinishCommand::EndRecording(end) => self.ended.push(end),
            FinishCommand::PauseRecording { paused, refused } => {
                self.end_recordings();
                self.pause_recording(&paused, refused);
            }
        }
    }

    fn resumptions(&self) -> std::sync::MutexGuard<'_, Resumptions> {
        self.resumption.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything of the recording is in its folder.
    fn pause_recording(&mut self, paused: &PausedRecording, refused: bool) {
        if refused {
            return self.end_for_good(paused);
        }
        tracing::info!(file_id = %paused.file_id, stream = %paused.key, "the stream of a recording is interrupted; its return is awaited");
        if !self.resumptions().settle(paused) {
            return;
        }
        if let Err(error) = finish::note_pause(&self.settings, paused) {
            tracing::warn!(file_id = %paused.file_id, %error, "a restart will not know when the recording was interrupted");
        }
        let policy = self.resumption.policy.load_full();
        if !self.is_awaited(&policy)(paused) {
            // A stream that may not come back is not waited for.
            self.end_paused();
        }
    }

    /// Ends the recordings that nobody goes on with.
    fn end_paused(&mut self) {
        let policy = self.resumption.policy.load_full();
        let is_awaited = self.is_awaited(&policy);
        // Those on another disk are its finisher's.
        let is_ours = |paused: &PausedRecording| self.places.get(paused.file_id).unwrap_or(0) == self.index;
        let over = self.resumptions().take_over(is_ours, is_awaited);
        for paused in over {
            self.end_for_good(&paused);
        }
    }

    /// Which recordings may be gone on with at this moment.
    fn is_awaited<'a>(&self, policy: &'a Policy) -> impl Fn(&PausedRecording) -> bool + use<'a> {
        let now = (self.resumption.wall)();
        let open = OnceCell::<HashSet<&TaskId>>::new();
        move |paused| {
            let takes_more = match &paused.source {
                RecordingSource::Rule(_) => true,
                // Nothing more is recorded into it.
                RecordingSource::Made(_) | RecordingSource::Ring => false,
                RecordingSource::Task(id) | RecordingSource::OlderTask(id) => {
                    let tasks = || policy.tasks.values().flatten().filter(|task| task.is_open(now));
                    open.get_or_init(|| tasks().map(|task| &task.id).collect()).contains(id)
                }
            };
            paused.is_awaited(policy, takes_more, now)
        }
    }

    fn end_for_good(&mut self, paused: &PausedRecording) {
        let PausedRecording { file_id, end, reason, .. } = *paused;
        let receipt = paused.receipt.clone();
        self.ended.push(RecordingEnd { file_id, end, reason, shared_with: None, receipt, claim: None });
        self.end_recordings();
        (self.resumption.over)(paused);
    }

    /// What could not be finished before, for want of space or because of the disk.
    fn finish_again(&mut self) {
        for _ in 0..self.unfinished.len() {
            self.ended.extend(self.unfinished.pop_front());
            self.end_recordings();
        }
    }

    fn end_recordings(&mut self) {
        let ends = std::mem::take(&mut self.ended);
        let started = Instant::now();
        ends.iter().for_each(|end| self.recordings.ended(end.file_id));
        let results = match ends.as_slice() {
            [] => return,
            // The system may have much to write beside ours: for a few of them it is not asked to write all.
            few if few.len() < TOGETHER_MIN => {
                few.iter().map(|end| finish::finish_recording(&self.settings, end.file_id, Some(end), &mut self.closed)).collect()
            }
            many => finish::finish_together(&self.settings, many, &mut self.closed),
        };
        // As if each had been finished by itself.
        let each = nanos(started) / ends.len() as u64;
        for (end, result) in ends.into_iter().zip(results) {
            self.ended(end, result);
            self.metrics.record_disk_step(DiskStep::Finish, each);
        }
    }

    fn ended(&mut self, end: RecordingEnd, result: Result<FinishedFile, finish::FinishError>) {
        match result {
            Ok(file) => {
                self.metrics.file_finished(file.identity.format);
                self.metrics.frames_unwritten(file.receipt.frames().saturating_sub(file.summary.frames()));
                (self.finished)(file);
            }
            Err(finish::FinishError::Empty { file_id }) => {
                self.places.forget(file_id);
                self.metrics.file_failed(FileFailure::Empty);
                // What it was given and the disk did not take has no receipt to stand in.
                let lost = end.receipt.frames();
                if lost > 0 {
                    self.metrics.frames_unwritten(lost);
                    tracing::error!(%file_id, lost, "nothing of the recording reached the disk: its frames are lost");
                } else {
                    tracing::info!(%file_id, "the recording held no frame; nothing is kept");
                }
            }
            Err(error) => {
                self.metrics.file_failed(FileFailure::Finish);
                tracing::error!(file_id = %end.file_id, error = &error as &dyn std::error::Error, "finishing the recording failed; it stays in the recording folder");
                if error.is_no_space() {
                    self.health.no_space();
                }
                // Beyond the bound the next start does it.
                if self.unfinished.len() < UNFINISHED_MAX {
                    self.unfinished.push_back(end);
                }
            }
        }
    }
}

fn nanos(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn cut(file: &File, bytes: u64) -> io::Result<()> {
    if file.metadata()?.len() > bytes {
        file.set_len(bytes)?;
    } else {
        // Nothing to cut from the length, but preallocated space behind it.
        rustix::fs::ftruncate(file, file.metadata()?.len())?;
    }
    Ok(())
}

/// Brings everything that was written to the disk for good.
struct Syncer {
    folder: File,
    path: PathBuf,
    /// When each sync was asked for.
    queue: Receiver<MonoTime>,
    metrics: Arc<Metrics>,
    health: Arc<DiskHealth>,
    clock: fn() -> MonoTime,
}

impl Syncer {
    fn run(&self) {
        while let Ok(asked) = self.queue.recv() {
            self.sync(asked);
        }
    }

    fn sync(&self, asked: MonoTime) {
        let started = Instant::now();
        // One call for all open files: a journal commit each would cost a flush of the disk for every stream.
        if let Err(error) = faults::before(faults::Step::Sync, &self.path).and_then(|()| Ok(rustix::fs::syncfs(&self.folder)?)) {
            self.health.failed_sync();
            tracing::error!(%error, "syncing the data folder failed");
            self.metrics.file_failed(FileFailure::Sync);
        }
        self.metrics.record_disk_step(DiskStep::Sync, nanos(started));
        self.health.synced((self.clock)().nanos_since(asked));
    }
}
