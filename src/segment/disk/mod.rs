//! The helper threads of one data folder: the writer (create, allocate, direct writes), the finisher (truncate, index, sync, rename) and the
//! sync thread (one `syncfs` for all open files, so that a power cut costs at most `durability_ms`).

mod finisher;
mod media_file;
mod stepped;
mod syncer;
mod writer;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::domain::{FinishedFile, PausedRecording, Policy, Resumptions};
use crate::metrics::Metrics;
use crate::units::{MonoTime, WallTime};

use super::finish::FinishSettings;
use super::health::DiskHealth;
use super::open::OpenRecordings;
use super::store::{DiskCommand, Places};
use super::vital::Vital;

use finisher::{FinishCommand, Finisher};
use syncer::Syncer;
use writer::{BATCH_WRITES_MAX, Writer};

pub use media_file::AlignedBuffer;
pub use stepped::SteppedDisk;

/// Commands on their way from all cores to one writer: two for each of some thousands of streams a second. When full, commands wait on the core.
const DISK_QUEUE_MAX: usize = 8192;
/// Work on its way from the writer to the finisher. When full, the writer waits.
const FINISH_QUEUE_MAX: usize = 65_536;
/// At the end it is looked this often whether the disk hangs: the stop has to come, and the next start writes what is left.
const STOP_LOOK: Duration = Duration::from_secs(1);

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
        while self.ended.recv_timeout(STOP_LOOK) == Err(RecvTimeoutError::Timeout) {
            if self.health.hangs((self.clock)()) {
                return false;
            }
        }
        for thread in self.threads {
            // None of them ends by a panic.
            let _ = thread.join();
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
        let times = metrics.disk(&finish.data_folder.display().to_string());
        let recording = finish.recording_folder();
        let recording_folder = recording.clone();
        let writer = Writer {
            recording,
            open: HashMap::new(),
            descriptors: 0,
            descriptors_max,
            failed: HashSet::new(),
            bounce: AlignedBuffer::new(256 << 10),
            in_memory: None,
            ring: None,
            batch: Vec::with_capacity(BATCH_WRITES_MAX),
            batch_bytes: 0,
            batch_number: 1,
            to_finisher,
            to_sync,
            resumptions: Arc::clone(&resumption.table),
            written: false,
            sync_failures: 0,
            next_removal_look: Instant::now(),
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            times: Arc::clone(&times),
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
            times: Arc::clone(&times),
            recordings: open,
            resumption,
            clock,
            next_check: Instant::now(),
            next_retry: Instant::now(),
        };
        let syncer = Syncer { path: recording_folder, queue: sync_queue, metrics, times, health, clock };
        Ok(Self { writer, finisher, syncer, sender, queue: receiver, to_finish: finisher_queue })
    }
}

/// `alive` is kept for as long as the thread runs.
fn thread(name: &str, index: usize, alive: &Sender<()>, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let name = if index == 0 { name.to_owned() } else { format!("{name}-{index}") };
    let alive = alive.clone();
    std::thread::Builder::new().name(name).spawn(move || {
        let _vital = Vital("a thread of the disk");
        body();
        drop(alive);
    })
}

fn nanos(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
