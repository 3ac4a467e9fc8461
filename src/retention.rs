//! The retention thread: deletes files whose time has come, removes the bytes of what was deleted, forgets old events. And the eviction thread, which
//! deletes finished files when the disk is nearly full.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};

use crate::catalog::{Catalog, CatalogError};
use crate::segment::Storage;
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
    pub fn start(catalog: Catalog, storage: Arc<Storage>, clock: fn() -> WallTime) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("retention".to_owned()).spawn({
            let (stopping, catalog) = (Arc::clone(&stopping), catalog.clone());
            move || {
                while !stopping.load(Ordering::SeqCst) {
                    let seen = catalog.removals_seen();
                    if let Err(error) = round(&catalog, &storage, clock, &stopping) {
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
fn round(catalog: &Catalog, storage: &Storage, clock: fn() -> WallTime, stopping: &AtomicBool) -> Result<(), CatalogError> {
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
            match storage.remove(&removal) {
                Ok(true) => catalog.removed(id, clock())?,
                Ok(false) => {}
                // It stays noted, for the next round.
                Err(error) => tracing::warn!(file_id = %removal.file_id, folder = removal.folder, %error, "a deleted file's bytes cannot be removed"),
            }
        }
    }
    while goes_on() && catalog.purge_events(clock())? > 0 {}
    while goes_on() && catalog.purge_vod_tasks(clock())? > 0 {}
    Ok(())
}

/// How often it is looked whether there is little space.
const EVICTION_LOOK: Duration = Duration::from_millis(250);
/// Files evicted in one transaction.
const EVICT_BATCH: usize = 64;

/// Makes room by a policy; [`Eviction::stop`] ends it.
pub struct Eviction {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// Which files go first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EvictionOrder {
    Oldest,
    /// Those whose storage time ends first; the others stay.
    Expiring,
}

impl Eviction {
    /// # Errors
    /// If there is no thread.
    pub fn start(catalog: Catalog, storage: Arc<Storage>, reserve_bytes: u64, order: EvictionOrder, clock: fn() -> WallTime) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let thread = std::thread::Builder::new().name("eviction".to_owned()).spawn(move || {
            // Not for every file anew, and no more than has to go.
            let target = reserve_bytes.saturating_mul(2).saturating_add(reserve_bytes / 64);
            let several = storage.health.len() > 1;
            let mut told = vec![false; storage.health.len()];
            while stopped.recv_timeout(EVICTION_LOOK) == Err(RecvTimeoutError::Timeout) {
                for ((disk, folder), told) in storage.health.iter().zip(storage.folders.iter()).zip(&mut told) {
                    let missing = disk.free_bytes().filter(|_| disk.is_low() && !disk.is_missing()).map(|free| target.saturating_sub(free));
                    let Some(missing) = missing else {
                        *told = false;
                        continue;
                    };
                    match evict(&catalog, several.then_some(folder.label.as_str()), missing.max(1), order, clock) {
                        Ok(Some(0)) if !*told => {
                            *told = true;
                            let (missing_mib, folder) = (missing >> 20, folder.path.display());
                            tracing::warn!(missing_mib, %folder, "the disk is nearly full, and there is no finished recording that may go");
                        }
                        Ok(_) => {}
                        Err(error) => tracing::error!(%error, "no room can be made on a disk that is nearly full; trying again"),
                    }
                }
            }
        })?;
        Ok(Self { stop, thread })
    }

    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the eviction thread panicked");
        }
    }
}

/// `label`: of the folder, if there are several. `None`: the bytes of files deleted before are still being removed.
fn evict(catalog: &Catalog, label: Option<&str>, bytes: u64, order: EvictionOrder, clock: fn() -> WallTime) -> Result<Option<usize>, CatalogError> {
    if catalog.is_removing(label)? {
        return Ok(None);
    }
    let count = catalog.evict(label, order == EvictionOrder::Expiring, bytes, EVICT_BATCH, clock())?;
    if count > 0 {
        tracing::warn!(count, ?order, "finished recordings were deleted to make room on a disk that is nearly full");
    }
    Ok(Some(count))
}
