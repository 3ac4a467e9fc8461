//! Cutting, joining and keeping: files made of recordings, without encoding where that is possible, on threads of their own: what needs the encoder holds
//! up nobody who does not.

mod edit;
mod encode;
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
use crate::domain::join::{JoinFailure, JoinOrder};
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
    /// `None`: nothing is encoded here.
    pub join: Option<Join>,
    /// Attempts of the encoder at one task.
    pub attempts_max: u32,
}

/// Makes one MP4 of stretches of files with the encoder: task and its application, what, folder and name, whether it is to stop, how far it is in percent.
pub type Join =
    Box<dyn Fn((&str, u64), &JoinOrder, (&std::path::Path, &str), &dyn Fn() -> bool, &dyn Fn(u8)) -> Result<(), JoinFailure> + Send + Sync>;

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lane {
    Cut,
    Encode,
}

/// The running threads of EditMedia.
pub struct Clips {
    pub maker: Arc<ClipMaker>,
    wakes: [Sender<()>; 2],
    stopping: Arc<AtomicBool>,
    threads: std::sync::Mutex<Vec<JoinHandle<()>>>,
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
        let (wake_encoder, encoder_woken) = bounded(1);
        let stopping = Arc::new(AtomicBool::new(false));
        let threads = [(Lane::Cut, "clips", woken), (Lane::Encode, "clips-encode", encoder_woken)].map(|(lane, name, woken)| {
            let (maker, stopping, other) = (Arc::clone(&maker), Arc::clone(&stopping), wake_encoder.clone());
            std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&maker, lane, &woken, &stopping, &other))
        });
        let threads = threads.into_iter().collect::<io::Result<Vec<_>>>()?;
        Ok(Arc::new(Self { maker, wakes: [wake, wake_encoder], stopping, threads: std::sync::Mutex::new(threads) }))
    }

    /// There is a new task.
    pub fn wake(&self) {
        for wake in &self.wakes {
            // Full: it is awake.
            let _ = wake.try_send(());
        }
    }

    /// Ends the threads after the tasks they are at; an encoder is stopped, and begins again at the next start.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake();
        for thread in self.threads.lock().unwrap_or_else(std::sync::PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of clips panicked");
            }
        }
    }
}

/// Tasks looked through for those of a lane.
const OPEN_MAX: usize = 1_000;

fn run(maker: &ClipMaker, lane: Lane, woken: &Receiver<()>, stopping: &AtomicBool, wake_encoder: &Sender<()>) {
    while !stopping.load(Ordering::SeqCst) {
        match maker.catalog.open_vod_tasks(VodTaskKind::EditMedia, OPEN_MAX) {
            Ok(tasks) => {
                if let Some(task) = tasks.into_iter().find(|task| edit::lane_of(task) == lane) {
                    match edit::carry_out(maker, lane, task, stopping) {
                        edit::Outcome::Over => {}
                        edit::Outcome::NeedsEncoder => {
                            let _ = wake_encoder.try_send(());
                        }
                        edit::Outcome::Later => {
                            let _ = woken.recv_timeout(LOOK);
                        }
                    }
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
