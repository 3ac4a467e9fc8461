//! What the threads of one data folder tell each other of its disk: is there space, does it answer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::units::MonoTime;

/// A step of the disk writer that takes longer than this: the disk hangs, and nothing new is begun on it.
pub const STALL_MS: u64 = 5_000;

/// How much is written, and for how long the rest suffices.
#[derive(Debug)]
pub struct DiskHealth {
    /// Space that other programs cannot take; given up for the files that are open when the disk is full all the same.
    ballast: PathBuf,
    full: AtomicBool,
    low: AtomicBool,
    free_bytes: AtomicU64,
    written_bytes: AtomicU64,
    /// Seconds until the reserve is reached at the present rate; `u64::MAX`: never.
    full_in_s: AtomicU64,
    /// When the step began that the writer is at, monotonic nanoseconds; 0: it waits for work.
    busy_since: AtomicU64,
    errors: AtomicU64,
    failed_syncs: AtomicU64,
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
}

impl DiskState {
    pub const fn name(self) -> &'static str {
        match self {
            DiskState::Ok => "ok",
            DiskState::Low => "low",
            DiskState::Full => "full",
            DiskState::Stalled => "stalled",
        }
    }
}

impl DiskHealth {
    /// Of the data folder at `folder`; nothing is known of it yet.
    pub fn new(folder: &Path) -> Self {
        Self {
            ballast: folder.join("ballast"),
            full: AtomicBool::new(false),
            low: AtomicBool::new(false),
            free_bytes: AtomicU64::new(u64::MAX),
            written_bytes: AtomicU64::new(0),
            full_in_s: AtomicU64::new(u64::MAX),
            busy_since: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            failed_syncs: AtomicU64::new(0),
        }
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
        let since = self.busy_since.load(Relaxed);
        since != 0 && now.nanos().saturating_sub(since) > STALL_MS * 1_000_000
    }

    pub fn state(&self, now: MonoTime) -> DiskState {
        match () {
            () if self.is_stalled(now) => DiskState::Stalled,
            () if self.is_full() => DiskState::Full,
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

    pub(super) fn failed(&self) {
        self.errors.fetch_add(1, Relaxed);
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

    /// The writer begins a step.
    pub(super) fn begins(&self, now: MonoTime) {
        self.busy_since.store(now.nanos().max(1), Relaxed);
    }

    /// The writer waits for work.
    pub(super) fn waits(&self) {
        self.busy_since.store(0, Relaxed);
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
