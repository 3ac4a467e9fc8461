//! The consumer of the ingest cores' events: hands them to the catalog, many at once when they come in bursts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, select};

use crate::catalog::Catalog;
use crate::domain::LiveEvent;
use crate::units::WallTime;

/// Events on their way from the cores. When full the cores lose events (never time), counted and logged here.
pub const EVENTS_MAX: usize = 16_384;
/// Events entered in one transaction.
const BATCH_MAX: usize = 256;
/// A catalog that refuses is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// Retries once we are told to stop.
const STOPPING_TRIES_MAX: u32 = 3;

/// Runs until `stop` has no sender any more; what is queued then is still handed over.
///
/// `lost` counts the events that found the queue full.
pub fn run(queue: &Receiver<LiveEvent>, stop: &Receiver<()>, catalog: &Catalog, clock: fn() -> WallTime, lost: &AtomicU64) {
    let mut lost_reported = 0;
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut stopping = false;
    loop {
        if !stopping {
            select! {
                recv(queue) -> event => match event {
                    Ok(event) => batch.push(event),
                    Err(_) => stopping = true,
                },
                recv(stop) -> _ => stopping = true,
            }
        }
        batch.extend(queue.try_iter().take(BATCH_MAX - batch.len()));
        if batch.is_empty() {
            if stopping {
                return;
            }
            continue;
        }
        enter(std::mem::take(&mut batch), stop, catalog, clock, &mut stopping);
        let lost_now = lost.load(Ordering::Relaxed);
        if lost_now != lost_reported {
            tracing::error!(events = lost_now - lost_reported, "stream events are lost: the catalog could not follow");
            lost_reported = lost_now;
        }
    }
}

/// Enters one batch. While the catalog refuses, the queue behind it fills, which is bounded.
fn enter(batch: Vec<LiveEvent>, stop: &Receiver<()>, catalog: &Catalog, clock: fn() -> WallTime, stopping: &mut bool) {
    let mut tries_stopping = 0;
    loop {
        let Err(error) = catalog.enter_live_events(batch.clone(), clock()) else { return };
        if *stopping {
            tries_stopping += 1;
            if tries_stopping >= STOPPING_TRIES_MAX {
                tracing::error!(%error, events = batch.len(), "stream events are lost: the catalog takes nothing");
                return;
            }
        }
        tracing::error!(%error, events = batch.len(), "the catalog takes no stream events; trying again");
        // Ends early when we are told to stop.
        *stopping |= stop.recv_timeout(RETRY).is_err_and(|error| error.is_disconnected());
    }
}
