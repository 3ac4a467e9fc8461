//! The retention thread: deletes files whose time has come, removes the bytes of what was deleted, forgets old events.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::catalog::{Catalog, CatalogError};
use crate::segment::finish::FinishSettings;
use crate::segment::remove::remove;
use crate::units::WallTime;

/// How often the thread looks for files whose time has come. It is woken for deletions.
const LOOK: Duration = Duration::from_secs(5);
/// Files deleted in one transaction: other writes wait for that long.
const EXPIRE_BATCH: usize = 100;
/// Removals read at a time.
const REMOVE_BATCH: usize = 256;

/// The running thread; [`Retention::stop`] ends it.
pub struct Retention {
    stopping: Arc<AtomicBool>,
    catalog: Catalog,
    thread: JoinHandle<()>,
}

impl Retention {
    /// Starts the thread; what an earlier run left is removed first.
    ///
    /// # Errors
    /// If there is no thread.
    pub fn start(catalog: Catalog, settings: FinishSettings, clock: fn() -> WallTime) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("retention".to_owned()).spawn({
            let (stopping, catalog) = (Arc::clone(&stopping), catalog.clone());
            move || {
                while !stopping.load(Ordering::SeqCst) {
                    let seen = catalog.removals_seen();
                    if let Err(error) = round(&catalog, &settings, clock, &stopping) {
                        tracing::error!(%error, "expired or deleted files cannot be removed; trying again");
                    }
                    catalog.wait_for_removal(seen, LOOK);
                }
            }
        })?;
        Ok(Self { stopping, catalog, thread })
    }

    /// Returns when the thread has ended; what is left is removed at the next start.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.catalog.stop_waiting_for_removals();
        if self.thread.join().is_err() {
            tracing::error!("the retention thread panicked");
        }
    }
}

/// Everything there is to do now.
fn round(catalog: &Catalog, settings: &FinishSettings, clock: fn() -> WallTime, stopping: &AtomicBool) -> Result<(), CatalogError> {
    let goes_on = || !stopping.load(Ordering::SeqCst);
    while goes_on() {
        let count = catalog.expire(clock(), EXPIRE_BATCH)?;
        if count > 0 {
            tracing::info!(count, "files whose storage time has passed were deleted");
        }
        if count < EXPIRE_BATCH {
            break;
        }
    }
    let mut after = 0;
    while goes_on() {
        let removals = catalog.removals(after, REMOVE_BATCH)?;
        let Some((last, _)) = removals.last() else { break };
        after = *last;
        for (id, removal) in removals {
            match remove(settings, &removal) {
                Ok(()) => catalog.removed(id, clock())?,
                // It stays noted, for the next round.
                Err(error) => tracing::warn!(file_id = %removal.file_id, folder = removal.folder, %error, "a deleted file's bytes cannot be removed"),
            }
        }
    }
    while goes_on() && catalog.purge_events(clock())? > 0 {}
    while goes_on() && catalog.purge_vod_tasks(clock())? > 0 {}
    Ok(())
}
