//! Cutting, joining and keeping: files made of recordings without encoding, on a thread of their own.

mod edit;
mod keep;
pub mod recall;
mod store;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use serde_json::Value;

use crate::catalog::{Catalog, MediaRow};
use crate::delivery::Context;
use crate::domain::VodTaskKind;
use crate::units::WallTime;

/// What a [`ClipMaker`] is made with.
pub use crate::segment::{FileIds, Storage, finish::FinishSettings};
pub use edit::{EditWork, Stretch};
pub use keep::{KeepRequest, Kept, describe, keep};

/// Tasks are looked for this often, beside being told of them.
const LOOK: Duration = Duration::from_secs(5);

/// What clips are made with.
pub struct ClipMaker {
    pub catalog: Catalog,
    pub media: Arc<Context>,
    pub storage: Arc<Storage>,
    pub ids: Arc<FileIds>,
    pub clock: fn() -> WallTime,
    /// Begin of addresses in what tasks show.
    pub public_base: String,
    pub app_id: u64,
    /// What a task shows of the file it made: `Output` and `MetaData`.
    pub describe: fn(&MediaRow, &str, u64) -> (Value, Value),
}

/// The running thread of EditMedia.
pub struct Clips {
    pub maker: Arc<ClipMaker>,
    wake: Sender<()>,
    stopping: Arc<AtomicBool>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Clips {
    /// Starts the thread; tasks that an earlier run left are done again.
    ///
    /// # Errors
    /// If there is no thread, or what an earlier run left half-made cannot be removed.
    pub fn start(maker: ClipMaker) -> io::Result<Arc<Self>> {
        store::clear(&maker.storage);
        let maker = Arc::new(maker);
        let (wake, woken) = bounded(1);
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("clips".to_owned()).spawn({
            let (maker, stopping) = (Arc::clone(&maker), Arc::clone(&stopping));
            move || run(&maker, &woken, &stopping)
        })?;
        Ok(Arc::new(Self { maker, wake, stopping, thread: std::sync::Mutex::new(Some(thread)) }))
    }

    /// There is a new task.
    pub fn wake(&self) {
        // Full: it is awake.
        let _ = self.wake.try_send(());
    }

    /// Ends the thread after the task it is at.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake();
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of clips panicked");
        }
    }
}

fn run(maker: &ClipMaker, woken: &Receiver<()>, stopping: &AtomicBool) {
    while !stopping.load(Ordering::SeqCst) {
        match maker.catalog.open_vod_tasks(VodTaskKind::EditMedia, 1) {
            Ok(tasks) => {
                if let Some(task) = tasks.into_iter().next() {
                    edit::carry_out(maker, task);
                    continue;
                }
            }
            Err(error) => tracing::error!(%error, "tasks of EditMedia cannot be read; trying again"),
        }
        if matches!(woken.recv_timeout(LOOK), Err(RecvTimeoutError::Disconnected)) {
            return;
        }
    }
}
