//! Recovery beside the recording: finishes what the last run left, tries again what a disk does not take yet, and takes in data folders that appear.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded, select};
use rustix::io::Errno;

use crate::disks::Folders;
use crate::segment::Storage;
use crate::segment::health::DiskState;
use crate::segment::patient::Patient;
use crate::segment::recover::{LeftBehind, Recovered};

/// It is looked this often for folders that appear.
const LOOK: Duration = Duration::from_millis(500);
/// What a disk did not take is tried again after this, and then, as long as it does not, after twice the time.
const RETRY_MIN: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The end of a recovery is waited for this long at the stop, if the disks answer; the next start goes on.
const STOP_MAX: Duration = Duration::from_secs(60);

/// What is still to be recovered, for `/healthz` and metrics.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Open recordings of an earlier run.
    recordings: AtomicU64,
    /// Arena files of an earlier run.
    arenas: AtomicU64,
}

impl Waiting {
    /// Recordings and arena files of an earlier run that wait for a disk, if any do.
    pub fn counts(&self) -> Option<(u64, u64)> {
        Some((self.recordings.load(Relaxed), self.arenas.load(Relaxed))).filter(|counts| *counts != (0, 0))
    }
}

/// What the thread works with.
pub struct Parts {
    pub folders: Folders,
    /// What the last run left in each folder; `None`: the folder is not there.
    pub left: Vec<Option<LeftBehind>>,
    /// Finishes what lies in a folder and hands it over.
    pub recover: Recover,
    /// A folder has appeared.
    pub appeared: Box<dyn Fn(&LeftBehind, usize) + Send>,
    pub waiting: Arc<Waiting>,
}

/// See [`Parts`].
pub type Recover = Arc<dyn Fn(usize, &mut LeftBehind) -> Recovered + Send + Sync>;

/// The running thread.
pub struct Recovery {
    stop: Sender<()>,
    /// The folders are locked until it is joined.
    thread: Patient<Folders>,
}

impl Recovery {
    /// # Errors
    /// If there is no thread.
    pub fn start(parts: Parts) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let thread = Patient::spawn("recovery", move || Run::new(parts).run(&stopped))?;
        Ok(Self { stop, thread })
    }

    /// Nothing is begun any more; what runs still feeds the disks.
    pub fn stop(self) -> Stopping {
        drop(self.stop);
        Stopping(self.thread)
    }
}

/// A recovery on its way to its end.
pub struct Stopping(Patient<Folders>);

impl Stopping {
    /// `all_answer`: no disk hangs, so that it is waited for.
    pub fn join(self, all_answer: bool) {
        let patience = if all_answer { STOP_MAX } else { Duration::ZERO };
        if !self.0.ends_within(patience) {
            tracing::warn!("recovery has not ended; the next start goes on");
        } else if self.0.join().is_err() {
            tracing::error!("the recovery thread panicked");
        }
    }
}

struct Run {
    folders: Folders,
    /// `None`: a thread has it, or the folder is not there.
    left: Vec<Option<LeftBehind>>,
    recover: Recover,
    appeared: Box<dyn Fn(&LeftBehind, usize) + Send>,
    waiting: Arc<Waiting>,
    /// What the threads give back.
    give_back: Sender<(usize, LeftBehind)>,
    given_back: Receiver<(usize, LeftBehind)>,
    /// Found in a folder that appeared while a thread was at what it had before.
    late: Vec<(usize, LeftBehind)>,
    running: Vec<JoinHandle<()>>,
    /// Those whose [`LeftBehind`] a thread has, and how many recordings waited in it.
    busy: Vec<Option<usize>>,
    /// As they were at the last look: what has changed is tried at once.
    states: Vec<DiskState>,
    /// See [`Run::count_arenas`].
    arenas: usize,
    next_try: Instant,
    pause: Duration,
}

impl Run {
    fn new(Parts { folders, left, recover, appeared, waiting }: Parts) -> Self {
        let (give_back, given_back) = bounded(left.len());
        let busy = vec![None; left.len()];
        Self {
            folders,
            left,
            recover,
            appeared,
            waiting,
            give_back,
            given_back,
            late: Vec::new(),
            running: Vec::new(),
            busy,
            states: Vec::new(),
            arenas: 0,
            next_try: Instant::now() + RETRY_MIN,
            pause: RETRY_MIN,
        }
    }

    fn run(mut self, stopped: &Receiver<()>) -> Folders {
        self.tell();
        self.begin_all();
        loop {
            select! {
                recv(stopped) -> _ => break,
                recv(self.given_back) -> given => {
                    if let Ok((index, left)) = given {
                        self.take_back(index, left);
                    }
                }
                default(LOOK) => {}
            }
            for (index, left) in self.folders.look() {
                (self.appeared)(&left, index);
                self.late.push((index, left));
            }
            self.note_changes();
            if Instant::now() >= self.next_try && stopped.try_recv() == Err(TryRecvError::Empty) {
                self.try_again();
            }
            self.tell();
        }
        // The disks end when nobody feeds them any more.
        let Self { running, recover, folders, .. } = self;
        drop(recover);
        for thread in running {
            if thread.join().is_err() {
                tracing::error!("a recovery thread panicked");
            }
        }
        folders
    }

    fn storage(&self) -> &Storage {
        &self.folders.storage
    }

    fn try_soon(&mut self) {
        (self.next_try, self.pause) = (Instant::now(), RETRY_MIN);
    }

    /// A disk that is in another state may take what it did not.
    fn note_changes(&mut self) {
        let storage = self.storage();
        let now = (storage.clock)();
        let states: Vec<DiskState> = storage.health.iter().map(|health| health.state(now)).collect();
        if states != self.states || !self.late.is_empty() {
            self.states = states;
            self.try_soon();
        }
    }

    fn take_back(&mut self, index: usize, mut left: LeftBehind) {
        self.note_trouble(index, left.take_trouble());
        if self.busy[index].take().is_some_and(|before| left.waiting() < before) {
            self.try_soon();
        }
        self.left[index] = Some(left);
        self.running.retain(|thread| !thread.is_finished());
    }

    /// Of a full disk its space watch knows.
    fn note_trouble(&self, index: usize, error: Option<io::Error>) {
        let health = &self.storage().health[index];
        let fails = |error: io::Error| matches!(Errno::from_io_error(&error), Some(Errno::IO | Errno::ROFS));
        if error.is_some_and(fails) && !health.is_failing() {
            health.failed();
        }
    }

    /// Arena files that wait; those of the first folder are all.
    fn count_arenas(&mut self) -> usize {
        if let Some(left) = &self.left[0] {
            self.arenas = left.waiting_arenas().len();
        }
        self.arenas
    }

    fn try_again(&mut self) {
        self.next_try = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(RETRY_MAX);
        for (index, late) in std::mem::take(&mut self.late) {
            match &mut self.left[index] {
                _ if self.busy[index].is_some() => self.late.push((index, late)),
                Some(known) => known.join(late),
                none => *none = Some(late),
            }
        }
        let before = self.count_arenas();
        if before > 0 {
            if !self.folders.write_back(&mut self.left) {
                // What waits may belong to a recording in a folder that has just appeared: that must not be finished without it.
                return;
            }
            for index in 0..self.left.len() {
                let trouble = self.left[index].as_mut().and_then(LeftBehind::take_trouble);
                self.note_trouble(index, trouble);
            }
            if self.count_arenas() < before {
                tracing::info!("what the last run had in memory is in its recordings now");
            }
        }
        self.begin_all();
    }

    /// A thread for each folder in which there is something to finish.
    fn begin_all(&mut self) {
        for index in 0..self.left.len() {
            if self.storage().health[index].is_missing() || !self.storage().answers(index) {
                continue;
            }
            let Some(left) = self.left[index].take_if(|left| left.has_work()) else { continue };
            self.busy[index] = Some(left.waiting());
            // Stays here if there is no thread.
            let handed = Arc::new(Mutex::new(Some(left)));
            let (recover, give_back, taken) = (Arc::clone(&self.recover), self.give_back.clone(), Arc::clone(&handed));
            let take = |cell: &Mutex<Option<LeftBehind>>| cell.lock().unwrap_or_else(PoisonError::into_inner).take();
            let thread = std::thread::Builder::new().name(format!("recovery-{index}")).spawn(move || {
                let Some(mut left) = take(&taken) else { return };
                recover(index, &mut left);
                // There is room for each.
                let _ = give_back.send((index, left));
            });
            match thread {
                Ok(thread) => self.running.push(thread),
                Err(error) => {
                    tracing::warn!(%error, "there is no thread to finish what the last run left; trying again");
                    self.busy[index] = None;
                    self.left[index] = take(&handed);
                }
            }
        }
    }

    fn tell(&mut self) {
        // What a thread has is being worked on.
        self.waiting.recordings.store(self.left.iter().flatten().map(|left| left.waiting() as u64).sum(), Relaxed);
        let arenas = self.count_arenas() as u64;
        self.waiting.arenas.store(arenas, Relaxed);
    }
}
