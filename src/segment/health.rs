//! What the threads of one data folder tell each other and the cores of its disk: is there space, does it answer, does it fail.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::units::MonoTime;

/// A step of the disk writer that takes longer than this: the disk hangs, and nothing new is begun on it.
pub const STALL_MS: u64 = 5_000;
/// And longer than this: where there are other disks, they are preferred.
pub const SLOW_MS: u64 = 1_500;

/// And at the stop: nobody waits for a helper of a disk that takes longer over one step.
const HANG_MS: u64 = 10_000;

/// Space that other programs cannot take: a file of this name in the data folder.
const BALLAST_NAME: &str = "ballast";

/// Threads that work on a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Helper {
    Writer = 0,
    Finisher = 1,
    Syncer = 2,
    /// Looks after the space.
    Space = 3,
}

/// How much is written, and for how long the rest suffices.
#[derive(Debug)]
pub struct DiskHealth {
    label: String,
    /// Space that other programs cannot take; given up for the files that are open when the disk is full all the same.
    ballast: PathBuf,
    full: AtomicBool,
    low: AtomicBool,
    free_bytes: AtomicU64,
    written_bytes: AtomicU64,
    /// Seconds until the reserve is reached at the present rate; `u64::MAX`: never.
    full_in_s: AtomicU64,
    /// When the step began that each helper is at, monotonic nanoseconds; 0: it waits for work.
    busy_since: [AtomicU64; 4],
    errors: AtomicU64,
    failed_syncs: AtomicU64,
    /// See [`DiskHealth::sync_nanos`].
    sync_nanos: AtomicU64,
    /// Something has failed, and no write has shown since that it was for once.
    failing: AtomicBool,
    /// The folder is gone, or was never there: its disk is not mounted.
    missing: AtomicBool,
    /// A sentence that says so.
    why_missing: Mutex<String>,
    /// The folder is for the catalog: recordings go elsewhere if they can.
    spared: bool,
    /// Files that are open here, as the cores count them.
    open_files: AtomicU64,
}

/// For metrics and `/healthz`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskState {
    Ok,
    /// Near the reserve: finished files go, if a policy says so.
    Low,
    /// Nothing is recorded until there is space.
    Full,
    /// The disk does not answer.
    Stalled,
    /// The last writes or syncs have failed.
    Failing,
    /// The folder is not there.
    Missing,
}

impl DiskState {
    pub const fn name(self) -> &'static str {
        match self {
            DiskState::Ok => "ok",
            DiskState::Low => "low",
            DiskState::Full => "full",
            DiskState::Stalled => "stalled",
            DiskState::Failing => "failing",
            DiskState::Missing => "missing",
        }
    }
}

impl DiskHealth {
    /// Of the data folder at `folder`; nothing is known of it yet.
    pub fn new(folder: &Path) -> Self {
        Self {
            label: String::new(),
            ballast: folder.join(BALLAST_NAME),
            full: AtomicBool::new(false),
            low: AtomicBool::new(false),
            free_bytes: AtomicU64::new(u64::MAX),
            written_bytes: AtomicU64::new(0),
            full_in_s: AtomicU64::new(u64::MAX),
            busy_since: Default::default(),
            errors: AtomicU64::new(0),
            failed_syncs: AtomicU64::new(0),
            sync_nanos: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            missing: AtomicBool::new(false),
            why_missing: Mutex::default(),
            spared: false,
            open_files: AtomicU64::new(0),
        }
    }

    /// A sync was done so long after it was asked for.
    pub fn synced(&self, nanos: u64) {
        let before = self.sync_nanos.load(Relaxed);
        self.sync_nanos.store(nanos.max(before - before / 8), Relaxed);
    }

    /// From asking for a sync until it is done: the longest time of late.
    pub fn sync_nanos(&self) -> u64 {
        self.sync_nanos.load(Relaxed)
    }

    /// Of the data folder with this label.
    pub fn labeled(self, label: &str) -> Self {
        Self { label: label.to_owned(), ..self }
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    /// Recordings go to other disks as long as one takes them.
    pub fn spared(self) -> Self {
        Self { spared: true, ..self }
    }

    pub fn ballast(&self) -> &Path {
        &self.ballast
    }

    /// Files are to be ended and none to be begun.
    pub fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }

    /// Space is to be made, and none to be taken in advance.
    pub fn is_low(&self) -> bool {
        self.low.load(Relaxed)
    }

    pub fn is_stalled(&self, now: MonoTime) -> bool {
        // A disk that nothing is written to can hang, too.
        [Helper::Writer, Helper::Space].into_iter().any(|helper| self.is_at_it_for(helper, STALL_MS, now))
    }

    /// One of the helpers does not come back from a step.
    pub fn hangs(&self, now: MonoTime) -> bool {
        [Helper::Writer, Helper::Finisher, Helper::Syncer, Helper::Space].into_iter().any(|helper| self.is_at_it_for(helper, HANG_MS, now))
    }

    fn is_at_it_for(&self, helper: Helper, millis: u64, now: MonoTime) -> bool {
        let since = self.busy_since[helper as usize].load(Relaxed);
        since != 0 && now.nanos().saturating_sub(since) > millis * 1_000_000
    }

    /// How long the step has taken so far that has been under way for the longest time, nanoseconds; 0: there is none.
    pub fn busy_nanos(&self, now: MonoTime) -> u64 {
        let begun = self.busy_since.iter().map(|since| since.load(Relaxed)).filter(|since| *since != 0);
        begun.map(|since| now.nanos().saturating_sub(since)).max().unwrap_or(0)
    }

    pub fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }

    pub fn is_missing(&self) -> bool {
        self.missing.load(Relaxed)
    }

    /// Files can begin here.
    pub fn is_open_to_files(&self, now: MonoTime) -> bool {
        !self.is_full() && !self.is_missing() && !self.is_stalled(now)
    }

    /// Files can begin here, and there is no sign that they would not end well.
    pub fn is_well(&self, now: MonoTime) -> bool {
        self.is_open_to_files(now) && !self.is_failing()
    }

    /// The writer is at a step that takes long.
    pub fn is_slow(&self, now: MonoTime) -> bool {
        self.is_at_it_for(Helper::Writer, SLOW_MS, now)
    }

    /// How good this disk is for one more file: the greatest is the best of several. Where all else is alike, each gets files by its free space.
    pub fn fitness(&self, now: MonoTime) -> impl Ord + use<> {
        let room = self.free_bytes().unwrap_or(u64::MAX) / (self.open_files.load(Relaxed) + 1);
        (self.is_open_to_files(now), self.is_well(now), !self.spared, !self.is_slow(now), !self.is_low(), room)
    }

    pub(super) fn file_begins(&self) {
        self.open_files.fetch_add(1, Relaxed);
    }

    pub(super) fn file_ends(&self) {
        self.open_files.fetch_sub(1, Relaxed);
    }

    pub fn state(&self, now: MonoTime) -> DiskState {
        match () {
            () if self.is_missing() => DiskState::Missing,
            () if self.is_stalled(now) => DiskState::Stalled,
            () if self.is_full() => DiskState::Full,
            () if self.is_failing() => DiskState::Failing,
            () if self.is_low() => DiskState::Low,
            () => DiskState::Ok,
        }
    }

    /// Bytes that we may still write; `None`: not looked yet.
    pub fn free_bytes(&self) -> Option<u64> {
        Some(self.free_bytes.load(Relaxed)).filter(|free| *free != u64::MAX)
    }

    /// Seconds until the reserve is reached; `None`: nothing is written, or it was not looked yet.
    pub fn full_in_s(&self) -> Option<u64> {
        Some(self.full_in_s.load(Relaxed)).filter(|seconds| *seconds != u64::MAX)
    }

    /// Failed writes and syncs so far.
    pub fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// A write or sync went wrong.
    pub fn failed(&self) {
        self.errors.fetch_add(1, Relaxed);
        self.failing.store(true, Relaxed);
    }

    /// A write went well after those that failed.
    pub(super) fn recovered(&self) {
        self.failing.store(false, Relaxed);
    }

    /// The folder is not there, for this reason.
    pub fn note_gone(&self, why: String) {
        *self.why_missing.lock().unwrap_or_else(PoisonError::into_inner) = why;
        self.missing.store(true, Relaxed);
    }

    /// The folder is there and its disk can be used.
    pub fn note_back(&self, free_bytes: u64) {
        self.free_bytes.store(free_bytes, Relaxed);
        self.failing.store(false, Relaxed);
        self.missing.store(false, Relaxed);
    }

    /// Why the folder is not there. `None`: it is.
    pub fn why_missing(&self) -> Option<String> {
        self.is_missing().then(|| self.why_missing.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub(super) fn failed_sync(&self) {
        self.failed();
        self.failed_syncs.fetch_add(1, Relaxed);
    }

    pub(super) fn failed_syncs(&self) -> u64 {
        self.failed_syncs.load(Relaxed)
    }

    pub(super) fn wrote(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Relaxed)
    }

    /// A helper begins a step.
    pub(super) fn begins(&self, helper: Helper, now: MonoTime) {
        self.busy_since[helper as usize].store(now.nanos().max(1), Relaxed);
    }

    /// A helper waits for work.
    pub(super) fn waits(&self, helper: Helper) {
        self.busy_since[helper as usize].store(0, Relaxed);
    }

    pub(super) fn note_space(&self, free_bytes: u64, full_in_s: Option<u64>, full: bool, low: bool) {
        self.free_bytes.store(free_bytes, Relaxed);
        self.full_in_s.store(full_in_s.unwrap_or(u64::MAX), Relaxed);
        self.full.store(full, Relaxed);
        self.low.store(low, Relaxed);
    }

    /// A write found no space although there was a reserve: others have taken it. Gives the ballast up; false: it was gone already.
    pub(super) fn no_space(&self) -> bool {
        self.full.store(true, Relaxed);
        self.low.store(true, Relaxed);
        std::fs::remove_file(&self.ballast).is_ok()
    }
}

/// Makes room on the disk of a data folder that nobody works on yet. False: its ballast was gone already.
pub fn give_up_ballast(data_folder: &Path) -> bool {
    std::fs::remove_file(data_folder.join(BALLAST_NAME)).is_ok()
}

/// Does something on the disk of a data folder. Where there is no room for it, the ballast is given up, which is for this, and it is tried once more.
///
/// # Errors
/// Of the last attempt.
pub fn with_ballast<T, E>(data_folder: &Path, is_no_space: impl Fn(&E) -> bool, mut act: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    match act() {
        Err(error) if is_no_space(&error) && give_up_ballast(data_folder) => act(),
        done => done,
    }
}
