//! The ingest plane: one executor per core, pinned, each with its own listener, its own connections, its own arena. Nothing on it may block.
//!
//! A recorder has no viewer waiting, so it lets bytes gather: one task per core drains all publishing sockets every tick (50 ms) into one receive buffer.
//! Young connections (handshake, commands) are looked at every few milliseconds until they publish. Sockets are found through two edge-triggered
//! epoll lists that nobody sleeps in, so an idle socket costs nothing and a busy one causes no wake-up.

pub mod connection;
pub mod core;
mod nap;
mod pace;
pub mod publish;
mod publishing;
mod reasons;
pub mod tls;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, Sender, bounded};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use crate::domain::{Busy, LiveEvent, LiveStreams, Policy};
use crate::metrics::Metrics;
use crate::recorder::{Now, RecorderSettings};
use crate::segment::CoreStore;
use crate::segment::vital::Vital;
use crate::units::{MonoTime, PublicationId, WallTime};

use nap::{Nap, Waker};
use publish::EndCause;

/// Commands waiting for one core. The senders (calls, other cores) wait for nothing: a full inbox is an error for them.
const INBOX_MAX: usize = 4096;

/// What to do with a second publisher of a live stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DuplicatePublisher {
    /// It takes the name over: reconnecting encoders often leave a half-open socket behind.
    Replace,
    /// It is refused with `NetStream.Publish.BadName`.
    Refuse,
}

#[derive(Clone)]
pub struct IngestSettings {
    pub tick: Duration,
    /// What was received survives a power cut after this.
    pub durability: Duration,
    pub handshake_timeout: Duration,
    pub idle_timeout: Duration,
    pub publishers_max: usize,
    /// Media bytes a second of all publishers together; 0: any number.
    pub bytes_per_second_max: u64,
    /// Publishers for whose connections there are file descriptors.
    pub sockets_max: usize,
    pub duplicate_publisher: DuplicatePublisher,
    pub default_domain: String,
    /// Refuse publications of domains that nobody has added.
    pub added_domains_only: bool,
    pub recorder: RecorderSettings,
    /// How RTMPS is answered; `None` where it is not offered.
    pub tls: Option<Arc<tls::Acceptor>>,
}

/// The two clocks of the process.
#[derive(Clone, Copy)]
pub struct Clock {
    pub mono: fn() -> MonoTime,
    pub wall: fn() -> WallTime,
}

impl Clock {
    pub fn now(self) -> Now {
        Now { mono: (self.mono)(), wall: (self.wall)() }
    }
}

/// Where the cores leave what happened. They wait for nobody: an event that finds the queue full is lost, and counted for the consumer to tell.
#[derive(Clone)]
pub struct EventSender {
    queue: Sender<LiveEvent>,
    lost: Arc<AtomicU64>,
}

impl EventSender {
    /// `lost` counts the events that found the queue full.
    pub fn new(queue: Sender<LiveEvent>, lost: Arc<AtomicU64>) -> Self {
        Self { queue, lost }
    }

    pub fn send(&self, event: LiveEvent) {
        if self.queue.try_send(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the cores share; locked only when publishing begins or ends.
pub struct Shared {
    pub settings: IngestSettings,
    pub policy: Arc<ArcSwap<Policy>>,
    pub live: Arc<Mutex<LiveStreams>>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub events: EventSender,
    /// Says which cores are short of time or memory.
    pub busy: Arc<Busy>,
    publications: AtomicU64,
    /// Media bytes a second of all cores, as last measured.
    pub bytes_per_second: AtomicU64,
    /// When each core last passed its tick, monotonic nanoseconds.
    ticks: Vec<AtomicU64>,
    /// Where each core sleeps.
    naps: Vec<Nap>,
    inboxes: Vec<Sender<CoreCommand>>,
}

impl Shared {
    /// Microseconds since the epoch, counted up when two publications begin in the same one: unique also over restarts.
    fn next_publication(&self) -> PublicationId {
        let now = u64::try_from((self.clock.wall)().unix_micros()).unwrap_or(0);
        let previous =
            self.publications.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1))).unwrap_or_else(|last| last);
        PublicationId(now.max(previous + 1))
    }

    /// Asks a core to end a publication. False: the core's inbox is full.
    pub fn end_publication(&self, core: usize, connection: u64, publication: PublicationId, cause: EndCause) -> bool {
        self.inboxes[core].try_send(CoreCommand::EndPublication { connection, publication, cause }).is_ok()
    }
}

impl Shared {
    fn ticked(&self, core: usize, now: MonoTime) {
        self.ticks[core].store(now.nanos(), Ordering::Relaxed);
    }

    fn passes_ticks(&self, core: usize, limit: Duration) -> bool {
        let now = (self.clock.mono)().nanos();
        now.saturating_sub(self.ticks[core].load(Ordering::Relaxed)) <= limit.as_nanos() as u64
    }

    /// Cores that have not passed their tick within `limit`.
    pub fn standing_still(&self, limit: Duration) -> impl Iterator<Item = usize> {
        (0..self.ticks.len()).filter(move |core| !self.passes_ticks(*core, limit))
    }
}

pub enum CoreCommand {
    EndPublication {
        connection: u64,
        publication: PublicationId,
        cause: EndCause,
    },
    /// Finish every file and end.
    Shutdown,
}

/// Something else that is done on a core, between its passes. It must not block, and says how soon it wants to be called again.
pub type Beside = Box<dyn FnMut(MonoTime) -> Duration + Send>;

/// What one core runs with.
pub struct CoreParts {
    /// The CPU it is pinned to.
    pub cpu: usize,
    pub listener: TcpListener,
    /// For RTMPS.
    pub tls_listener: Option<TcpListener>,
    pub store: CoreStore,
    pub beside: Option<Beside>,
}

/// The running cores.
pub struct Ingest {
    shared: Arc<Shared>,
    cores: Vec<ExecutorJoinHandle<()>>,
    waker: Waker,
}

/// What [`Ingest::start`] takes beside the cores.
pub struct IngestContext {
    pub settings: IngestSettings,
    pub policy: Arc<ArcSwap<Policy>>,
    pub live: Arc<Mutex<LiveStreams>>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub events: EventSender,
    pub busy: Arc<Busy>,
}

#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("starting the executor on CPU {cpu}: {message}")]
    Executor { cpu: usize, message: String },
    #[error("starting the thread that wakes the cores: {source}")]
    Thread { source: std::io::Error },
    #[error("listening on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
}

impl Ingest {
    /// Starts one executor per core.
    ///
    /// # Errors
    /// If an executor cannot be made (locked memory, io_uring not permitted).
    pub fn start(context: IngestContext, parts: Vec<CoreParts>) -> Result<Self, IngestError> {
        let IngestContext { settings, policy, live, metrics, clock, events, busy } = context;
        let (inboxes, receivers): (Vec<_>, Vec<Receiver<CoreCommand>>) = parts.iter().map(|_| bounded(INBOX_MAX)).unzip();
        let ticks = parts.iter().map(|_| AtomicU64::new((clock.mono)().nanos())).collect();
        let shared = Arc::new(Shared {
            settings,
            policy,
            live,
            metrics,
            clock,
            events,
            busy,
            publications: AtomicU64::new(0),
            bytes_per_second: AtomicU64::new(0),
            ticks,
            naps: parts.iter().map(|_| Nap::default()).collect(),
            inboxes,
        });
        let mut cores = Vec::new();
        let mut begun = Vec::new();
        for (index, (part, inbox)) in parts.into_iter().zip(receivers).enumerate() {
            let CoreParts { cpu, listener, tls_listener, store, beside } = part;
            let shared = Arc::clone(&shared);
            let (begins, has_begun) = bounded::<()>(1);
            begun.push((cpu, has_begun));
            let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
                .name(&format!("ingest-{index}"))
                // Sockets are read outside the ring; it carries timers only.
                .io_memory(1 << 20)
                .spawn(move || async move {
                    // Told at once: there is room.
                    let _ = begins.send(());
                    let _vital = Vital("an ingest core");
                    core::run(index, (listener, tls_listener), (store, beside), inbox, shared).await;
                })
                .map_err(|error| IngestError::Executor { cpu, message: error.to_string() })?;
            cores.push(executor);
        }
        // An executor is made on its own thread, and without one nobody takes streams in.
        if let Some(failed) = begun.iter().position(|(_, has_begun)| has_begun.recv().is_err()) {
            let message = cores.swap_remove(failed).join().err().map_or_else(|| "it has ended".to_owned(), |error| error.to_string());
            return Err(IngestError::Executor { cpu: begun[failed].0, message });
        }
        let waker = Waker::start(Arc::clone(&shared)).map_err(|error| IngestError::Thread { source: error })?;
        Ok(Self { shared, cores, waker })
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Finishes every file and ends the executors.
    pub fn stop(self) {
        for inbox in &self.shared.inboxes {
            // The core drains its inbox every tick, so this does not wait for long; it must not be lost.
            if inbox.send(CoreCommand::Shutdown).is_err() {
                tracing::error!("an ingest core is gone already");
            }
        }
        self.shared.naps.iter().for_each(Nap::wake);
        for core in self.cores {
            if let Err(error) = core.join() {
                tracing::error!(%error, "an ingest core ended with an error");
            }
        }
        self.waker.stop();
    }
}

/// Binds `count` listeners to one address, so that the kernel spreads the publishers over the cores.
///
/// # Errors
/// If the address is in use (also by another Capstan: sharing a port with a stranger would split the publishers) or not ours.
pub fn listen(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, IngestError> {
    let failed = |source| IngestError::Listen { address, source };
    let socket = |address: SocketAddr, share: bool| -> std::io::Result<TcpListener> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(share)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        if share {
            socket.listen(1024)?;
        }
        Ok(socket.into())
    };
    // A listener of another program with SO_REUSEPORT would not hinder ours; this probe without it does meet it.
    let probe = socket(address, false).map_err(failed)?;
    let address = probe.local_addr().map_err(failed)?;
    drop(probe);
    (0..count).map(|_| socket(address, true)).collect::<std::io::Result<Vec<TcpListener>>>().map_err(failed)
}
