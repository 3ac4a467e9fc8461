//! The ids of recordings, and on which disk each lies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::segment::disk::DiskHandle;
use crate::units::{FileId, WallTime};

/// Ids that grow with time and never repeat: milliseconds since the epoch times a million, then counting.
pub struct FileIds {
    last: AtomicU64,
    clock: fn() -> WallTime,
}

impl FileIds {
    /// `last`: the greatest id ever given, so that new ones stay above it whatever the clock says.
    pub fn new(last: Option<FileId>, clock: fn() -> WallTime) -> Self {
        Self { last: AtomicU64::new(last.map_or(FileId::MIN, FileId::get)), clock }
    }

    pub fn next(&self) -> FileId {
        let now = u64::try_from((self.clock)().unix_millis()).unwrap_or(0).saturating_mul(1_000_000).min(FileId::MAX / 2);
        let previous = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1))).unwrap_or_else(|last| last);
        FileId::new(now.max(previous + 1)).expect("ids stay below 2^63 for thousands of years")
    }
}

/// The disks that the cores of a process write to, and what lies on which.
#[derive(Clone)]
pub struct Disks {
    pub(super) handles: Vec<DiskHandle>,
    pub(super) places: Arc<Places>,
}

impl Disks {
    /// At least one.
    pub fn new(handles: Vec<DiskHandle>, places: Arc<Places>) -> Self {
        Self { handles, places }
    }
}

impl From<DiskHandle> for Disks {
    fn from(only: DiskHandle) -> Self {
        Self::new(vec![only], Arc::default())
    }
}

/// On which disk the recordings lie that are not in the catalog yet.
#[derive(Default, Debug)]
pub struct Places(Mutex<HashMap<FileId, usize>>);

impl Places {
    pub fn get(&self, recording: FileId) -> Option<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&recording).copied()
    }

    pub fn enter(&self, recording: FileId, disk: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(recording, disk);
    }

    /// The catalog has it, or nothing is left of it.
    pub fn forget(&self, recording: FileId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&recording);
    }
}
