//! The sync thread of a data folder: one `syncfs` for all open files, so that a power cut costs at most `durability_ms`.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::Receiver;

use crate::metrics::{DiskMetrics, DiskStep, FileFailure, Metrics};
use crate::segment::faults;
use crate::segment::health::{DiskHealth, Helper};
use crate::units::MonoTime;

use super::nanos;

/// Brings everything that was written to the disk for good.
pub(super) struct Syncer {
    pub(super) path: PathBuf,
    /// When each sync was asked for.
    pub(super) queue: Receiver<MonoTime>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) times: Arc<DiskMetrics>,
    pub(super) health: Arc<DiskHealth>,
    pub(super) clock: fn() -> MonoTime,
}

impl Syncer {
    pub(super) fn run(&self) {
        while let Ok(asked) = self.queue.recv() {
            self.sync(asked);
        }
    }

    /// The folder is opened each time: its disk may have been unmounted and mounted again.
    fn sync_all(&self) -> io::Result<()> {
        let folder = File::open(&self.path)?;
        faults::before(faults::Step::Sync, &self.path)?;
        Ok(rustix::fs::syncfs(&folder)?)
    }

    pub(super) fn sync(&self, asked: MonoTime) {
        let started = Instant::now();
        self.health.begins(Helper::Syncer, (self.clock)());
        // One call for all open files: a journal commit each would cost a flush of the disk for every stream.
        if let Err(error) = self.sync_all() {
            self.health.failed_sync();
            tracing::error!(%error, "syncing the data folder failed");
            self.metrics.file_failed(FileFailure::Sync);
        }
        self.times.record_step(DiskStep::Sync, nanos(started));
        self.health.synced((self.clock)().nanos_since(asked));
        self.health.waits(Helper::Syncer);
    }
}
