//! The loop of one ingest core.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::Receiver;
use glommio::timer::sleep;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::container::Store as _;
use crate::domain::Policy;
use crate::limits::RECEIVE_BUFFER_BYTES;
use crate::metrics::passes::{Pass, Stage};
use crate::metrics::{ConnectionError, CoreMetrics};
use crate::recorder::Now;
use crate::rtmp::session::{Session, SessionConfig};
use crate::segment::CoreStore;
use crate::segment::vital::contained;
use crate::units::{MonoTime, WallTime};

use super::connection::{Connection, Served, Service};
use super::pace::{LISTS, Pace, Rounds, SLOW_PACES};
use super::publish::EndCause;
use super::publishing::Ending;
use super::reasons::CloseReason;
use super::tls::Tls;
use super::{Beside, CoreCommand, IngestSettings, Shared};

/// Young connections are looked at this often.
const HANDSHAKE_TICK: Duration = Duration::from_millis(4);
/// And sooner after one has spoken: on a near network its next word follows our answer at once.
const HANDSHAKE_TICK_ACTIVE: Duration = Duration::from_micros(250);
/// A connection that has not published after this is looked at with the slow tick only: half-open ones shall not keep the core awake.
const HANDSHAKE_QUICK_MS: u64 = 2_000;
/// Longest pass over the sockets before commands, timers and young connections get their turn.
const PASS_NANOS_MAX: u64 = 10_000_000;
/// Connections accepted in one pass; the rest waits in the kernel's backlog.
const ACCEPT_MAX: usize = 256;
/// After accept has failed (no descriptors, no memory) it is not tried for this long: the error comes back at once and would spin.
const ACCEPT_PAUSE_MS: u64 = 200;
/// Silent connections are looked for this often.
const TIMEOUT_CHECK_MS: u64 = 500;
/// The rate of all cores is measured over this long.
const RATE_MS: u64 = 1_000;
/// Each publisher is looked after this often: waiting outputs, counters, its pace. A weak one, of which there may be thousands, less often.
const LOOK_AFTER_MS: u64 = 400;
const LOOK_AFTER_WEAK_MS: u64 = 1_000;
/// A tick that takes longer is worth a line in the log, one a minute at most.
const SLOW_TICK_NANOS: u64 = 100_000_000;
const SLOW_TICK_LOG_MS: u64 = 60_000;
/// A core that spends more of its time than this with the publishers' sockets is busy.
const BUSY_PERCENT: u64 = 75;
/// Bounds of the time between two flushes, as parts of `record.durability_ms`.
const FLUSH_PERCENT_MAX: u32 = 78;
const FLUSH_PERCENT_MIN: u32 = 30;
/// At the stop, what waits in the sockets is read for this long.
const STOP_READ_MS: u64 = 1_000;
/// Readiness events fetched at once.
const EVENTS_MAX: usize = 1024;
const LISTENER: u64 = u64::MAX;
const TLS_LISTENER: u64 = u64::MAX - 1;

/// Runs until the core is told to shut down.
pub async fn run(
    index: usize,
    listeners: (TcpListener, Option<TcpListener>),
    (store, beside): (CoreStore, Option<Beside>),
    inbox: Receiver<CoreCommand>,
    shared: Arc<Shared>,
) {
    match Core::new(index, listeners, (store, beside), inbox, shared) {
        Ok(mut core) => core.run().await,
        Err(error) => tracing::error!(core = index, %error, "the ingest core cannot watch its sockets"),
    }
}

struct Core {
    index: usize,
    listener: TcpListener,
    tls_listener: Option<TcpListener>,
    store: CoreStore,
    beside: Option<Beside>,
    inbox: Receiver<CoreCommand>,
    shared: Arc<Shared>,
    metrics: CoreMetrics,
    /// The listener and connections that do not publish yet.
    young: rustix::fd::OwnedFd,
    publishers: rustix::fd::OwnedFd,
    /// Publishers at each slow pace, each list read in its own ticks between two flushes.
    slow: [[rustix::fd::OwnedFd; LISTS]; SLOW_PACES],
    rounds: Rounds,
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    /// Makes a token differ from that of an earlier connection in the same place.
    generation: u64,
    /// Publishing connections with something to read, in turn.
    ready: VecDeque<u64>,
    /// Connections whose storage is busy: looked at every tick.
    blocked: Vec<u64>,
    /// Publications that are over and wait for storage.
    ending: Vec<Ending>,
    /// When the rate of all cores was measured, and the bytes received until then.
    measured: (MonoTime, u64),
    buffer: Vec<u8>,
    /// Decrypted input of RTMPS.
    plain: Vec<u8>,
    events: Vec<epoll::Event>,
    /// Connections that do not publish.
    young_count: usize,
    young_until: MonoTime,
    accept_after: MonoTime,
    accept_failing: bool,
    next_tick: MonoTime,
    next_timeout_check: MonoTime,
    /// Publishers whose place modulo [`Core::slices`] is this are looked after in the next tick.
    slice: usize,
    next_flush: MonoTime,
    /// The last tick has flushed.
    sync_due: bool,
    /// Places of publishers with something to flush. Each at most once: [`Connection::to_flush`] says that it is here.
    to_flush: Vec<usize>,
    /// Nanoseconds spent with the publishers' sockets since the last tick, and their share of the time, on average.
    passed: u64,
    load_percent: u64,
    /// In this tick.
    streams_read: u64,
    bytes_read: u64,
    /// A slow tick is not told before.
    next_slow_log: MonoTime,
    /// The policy that the publishers follow.
    policy_version: u64,
    /// When the window of a task of any publisher begins or ends next.
    next_task_check: Option<WallTime>,
}

impl Core {
    fn new(
        index: usize,
        (listener, tls_listener): (TcpListener, Option<TcpListener>),
        (store, beside): (CoreStore, Option<Beside>),
        inbox: Receiver<CoreCommand>,
        shared: Arc<Shared>,
    ) -> std::io::Result<Self> {
        let young = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let publishers = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // Level-triggered: what one pass does not accept is there in the next.
        epoll::add(&young, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        if let Some(tls_listener) = &tls_listener {
            epoll::add(&young, tls_listener, epoll::EventData::new_u64(TLS_LISTENER), epoll::EventFlags::IN)?;
        }
        let metrics = shared.metrics.core(index);
        let list = || epoll::create(epoll::CreateFlags::CLOEXEC);
        let lists = || Ok::<_, Errno>([list()?, list()?, list()?, list()?]);
        let rounds = Rounds::new(shared.settings.tick, flush_period(&shared.settings, 0));
        Ok(Self {
            index,
            listener,
            tls_listener,
            store,
            beside,
            inbox,
            metrics,
            young,
            publishers,
            slow: [lists()?, lists()?, lists()?, lists()?],
            rounds,
            connections: Vec::new(),
            free: Vec::new(),
            generation: 0,
            ready: VecDeque::new(),
            blocked: Vec::new(),
            ending: Vec::new(),
            buffer: vec![0; RECEIVE_BUFFER_BYTES],
            plain: Vec::new(),
            events: Vec::with_capacity(EVENTS_MAX),
            young_count: 0,
            young_until: MonoTime::default(),
            measured: Default::default(),
            accept_after: MonoTime::default(),
            accept_failing: false,
            next_tick: MonoTime::default(),
            next_timeout_check: MonoTime::default(),
            slice: 0,
            next_flush: MonoTime::default(),
            sync_due: false,
            to_flush: Vec::new(),
            passed: 0,
            load_percent: 0,
            streams_read: 0,
            bytes_read: 0,
            next_slow_log: MonoTime::default(),
            policy_version: 0,
            next_task_check: None,
            shared,
        })
    }

    async fn run(&mut self) {
        loop {
            let now = self.shared.clock.now();
            let spoken = self.serve_young(now);
            if now.mono >= self.next_tick {
                let late_nanos = if self.next_tick == MonoTime::default() { 0 } else { now.mono.nanos_since(self.next_tick) };
                self.next_tick = MonoTime::from_nanos(now.mono.nanos() + self.shared.settings.tick.as_nanos() as u64);
                if self.tick(now, late_nanos) {
                    self.shut_down().await;
                    return;
                }
            }
            let beside = self.beside.as_mut().and_then(|beside| contained("what is done beside the publishers", || beside(now.mono)));
            let until_tick = Duration::from_nanos(self.next_tick.nanos_since((self.shared.clock.mono)()));
            let pause = if !self.ready.is_empty() {
                // A flat-out publisher: go round again at once.
                self.drain(now);
                Duration::ZERO
            } else if self.young_count > 0 && now.mono < self.young_until {
                until_tick.min(if spoken { HANDSHAKE_TICK_ACTIVE } else { HANDSHAKE_TICK })
            } else {
                until_tick
            };
            let pause = pause.min(beside.unwrap_or(pause));
            self.shared.naps[self.index].sleep(sleep(pause)).await;
        }
    }

    /// The regular pass. True: shut down.
    fn tick(&mut self, now: Now, late_nanos: u64) -> bool {
        let mut laps = Laps::new(self.shared.clock.mono);
        (self.streams_read, self.bytes_read) = (0, 0);
        self.shared.ticked(self.index, now.mono);
        self.store.tick(now.mono);
        laps.end(Stage::Storage);
        if self.take_commands(now) {
            return true;
        }
        laps.end(Stage::Commands);
        self.ready.extend(self.blocked.drain(..));
        // What is flushed now holds the newest bytes of all, and so does what a task or a call ends now.
        let flush = now.mono >= self.next_flush;
        self.rounds.tick(flush);
        self.fetch_ready(flush || self.looks_after_all(now));
        laps.end(Stage::Poll);
        self.drain(now);
        laps.end(Stage::Drain);
        self.tick_publishers(now);
        laps.end(Stage::LookAfter);
        self.tick_ending(now);
        laps.end(Stage::Endings);
        self.flush_publishers(now);
        laps.end(Stage::Flush);
        if now.mono >= self.next_timeout_check {
            self.next_timeout_check = MonoTime::from_nanos(now.mono.nanos() + TIMEOUT_CHECK_MS * 1_000_000);
            self.check_timeouts(now);
            if self.index == 0 {
                self.measure_rate(now);
            }
        }
        self.metrics.set_blocks(self.store.units_free() as u64, self.store.units_total() as u64);
        self.metrics.set_blocked(self.blocked.len() as u64, now.mono);
        self.tell_load();
        laps.end(Stage::Timeouts);
        self.note_tick(now, late_nanos, &laps);
        false
    }

    /// Keeps in mind how long the tick took, and says so if it was very long.
    fn note_tick(&mut self, now: Now, late_nanos: u64, laps: &Laps) {
        let pass = Pass {
            at: now.wall,
            nanos: laps.last.nanos_since(laps.first),
            stages: laps.stages,
            streams: self.streams_read,
            bytes: self.bytes_read,
            late_nanos,
        };
        self.metrics.record_tick(laps.last, pass);
        if pass.nanos > SLOW_TICK_NANOS && now.mono >= self.next_slow_log {
            self.next_slow_log = MonoTime::from_nanos(now.mono.nanos() + SLOW_TICK_LOG_MS * 1_000_000);
            let (stage, nanos) = pass.slowest_stage();
            tracing::warn!(
                core = self.index,
                ms = pass.nanos / 1_000_000,
                stage = stage.name(),
                stage_ms = nanos / 1_000_000,
                streams = pass.streams,
                bytes = pass.bytes,
                "a slow tick; DescribeAppliancePasses tells of more"
            );
        }
    }

    /// How much comes in on all cores, for who asks to publish.
    fn measure_rate(&mut self, now: Now) {
        let (since, before) = self.measured;
        let elapsed_ms = now.mono.millis_since(since);
        if elapsed_ms >= RATE_MS {
            let bytes = self.shared.metrics.media_bytes();
            self.shared.bytes_per_second.store(bytes.saturating_sub(before) * 1_000 / elapsed_ms, Ordering::Relaxed);
            self.measured = (now.mono, bytes);
        }
    }

    /// Lets others make room when this core is short of memory, or spends most of its time with the sockets.
    fn tell_load(&mut self) {
        let tick = self.shared.settings.tick.as_nanos().max(1) as u64;
        let percent = std::mem::take(&mut self.passed) * 100 / tick;
        // A mean over some ticks: one long pass is no trouble.
        self.load_percent = (self.load_percent * 7 + percent) / 8;
        self.shared.busy.set(self.index, self.store.is_tight() || self.load_percent > BUSY_PERCENT);
    }

    fn take_commands(&mut self, now: Now) -> bool {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                CoreCommand::Shutdown => return true,
                CoreCommand::EndPublication { connection, publication, cause } => {
                    let current = self.connection(connection).and_then(|connection| connection.publication());
                    // The connection may have ended by itself meanwhile, or publish something else.
                    if current == Some(publication) {
                        let reason = match cause {
                            EndCause::Replaced => CloseReason::Replaced,
                            EndCause::Dropped => CloseReason::Dropped,
                            EndCause::Forbidden => CloseReason::Forbidden,
                            _ => CloseReason::Shutdown,
                        };
                        // First what has arrived already: it was sent before the newer publisher took over.
                        self.serve(connection, now);
                        self.close(connection, &reason, now);
                    }
                }
            }
        }
        false
    }

    fn connection(&mut self, token: u64) -> Option<&mut Box<Connection>> {
        connection(&mut self.connections, token)
    }

    /// Accepts, and serves the connections that do not publish yet. True if any had something to say.
    fn serve_young(&mut self, now: Now) -> bool {
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        self.events.clear();
        if let Err(error) = epoll::wait(&self.young, rustix::buffer::spare_capacity(&mut self.events), Some(&zero)) {
            if error != Errno::INTR {
                tracing::error!(core = self.index, %error, "waiting for young connections failed");
            }
            return false;
        }
        let events = std::mem::take(&mut self.events);
        for event in &events {
            let token = event.data.u64();
            if token == LISTENER || token == TLS_LISTENER {
                self.accept(token == TLS_LISTENER, now);
            } else {
                note_hang_up(&mut self.connections, event);
                self.serve(token, now);
            }
        }
        let spoken = !events.is_empty();
        self.events = events;
        spoken
    }

    fn accept(&mut self, tls: bool, now: Now) {
        if now.mono < self.accept_after {
            return;
        }
        for _ in 0..ACCEPT_MAX {
            let listener = self.tls_listener.as_ref().filter(|_| tls).unwrap_or(&self.listener);
            match rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok((socket, address)) => {
                    if self.accept_failing {
                        self.accept_failing = false;
                        tracing::info!(core = self.index, "accepting connections again");
                    }
                    let peer = address.and_then(|address| SocketAddr::try_from(address).ok()).unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
                    self.add(TcpStream::from(socket), peer, tls, now);
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    self.accept_after = MonoTime::from_nanos(now.mono.nanos() + ACCEPT_PAUSE_MS * 1_000_000);
                    self.metrics.connection_error(ConnectionError::Accept);
                    if !self.accept_failing {
                        self.accept_failing = true;
                        tracing::error!(core = self.index, %error, "accepting connections fails; running publications go on (raise LimitNOFILE if descriptors are used up)");
                    }
                    return;
                }
            }
        }
    }

    fn add(&mut self, stream: TcpStream, peer: SocketAddr, tls: bool, now: Now) {
        self.metrics.connection_opened();
        let mut random = [0; 1528];
        if let Err(error) = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()) {
            tracing::error!(%error, "no random bytes for the handshake");
            return;
        }
        let tls = match self.shared.settings.tls.as_ref().filter(|_| tls).map(|acceptor| Tls::new(acceptor.load_full())) {
            Some(Ok(machine)) => Some(Box::new(machine)),
            Some(Err(error)) => return tracing::error!(%error, client = %peer, "TLS cannot be begun"),
            None => None,
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.generation += 1;
        let token = (self.generation << 32) | place as u64;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if let Err(error) = epoll::add(&self.young, &stream, epoll::EventData::new_u64(token), flags) {
            tracing::error!(%error, client = %peer, "the connection cannot be watched");
            self.free.push(place);
            return;
        }
        // Replies are small and awaited by the publisher.
        let _ = stream.set_nodelay(true);
        let session = Session::new(SessionConfig::default(), random);
        self.connections[place] = Some(Box::new(Connection::new((stream, tls), peer, token, session, now.mono)));
        self.young_count += 1;
        self.young_until = MonoTime::from_nanos(now.mono.nanos() + HANDSHAKE_QUICK_MS * 1_000_000);
    }

    /// What a connection that was taken from its place works with, and the receive buffer.
    fn service(&mut self, now: Now) -> (Service<'_>, &mut [u8]) {
        let service = Service {
            core: self.index,
            now,
            store: &mut self.store,
            metrics: &self.metrics,
            shared: &self.shared,
            plain: &mut self.plain,
            ending: &mut self.ending,
        };
        (service, &mut self.buffer)
    }

    /// Reads from one connection, inside a panic boundary: a defect costs this connection, not the core.
    fn serve(&mut self, token: u64, now: Now) {
        let place = token as u32 as usize;
        let Some(mut connection) = self.connections.get_mut(place).and_then(Option::take) else { return };
        if connection.token != token {
            self.connections[place] = Some(connection);
            return;
        }
        let was_publishing = connection.is_publishing();
        let bytes_before = connection.received_bytes();
        let (mut service, buffer) = self.service(now);
        let served = catch_unwind(AssertUnwindSafe(|| connection.serve(buffer, &mut service))).unwrap_or(Err(CloseReason::Panic));
        self.streams_read += 1;
        let bytes = connection.received_bytes() - bytes_before;
        self.bytes_read += bytes;
        let publishing = connection.is_publishing();
        let hurries = connection.hurries(bytes, now.mono);
        if publishing && !was_publishing {
            self.note_task_check(&connection);
        }
        self.note_to_flush(place, &mut connection);
        self.connections[place] = Some(connection);
        match served {
            Ok(served) => {
                if publishing != was_publishing {
                    self.moved(token, publishing);
                } else if hurries {
                    self.watch(token, Pace::Brisk);
                }
                match served {
                    Served::Idle => {}
                    Served::More => self.ready.push_back(token),
                    Served::Blocked => self.blocked.push(token),
                }
            }
            Err(reason) => {
                if publishing != was_publishing {
                    self.moved(token, publishing);
                }
                self.close(token, &reason, now);
            }
        }
    }

    /// A connection began to publish, or ended its publication: the other list watches it now.
    fn moved(&mut self, token: u64, publishing: bool) {
        self.young_count = if publishing { self.young_count.saturating_sub(1) } else { self.young_count + 1 };
        self.watch(token, if publishing { Pace::Brisk } else { Pace::Young });
    }

    /// Puts a connection on the list that is read at its pace.
    fn watch(&mut self, token: u64, pace: Pace) {
        let place = token as u32 as usize;
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else { return };
        let list = |pace: Pace| match pace.slowness() {
            Some(slowness) => &self.slow[slowness][place % LISTS],
            None if pace == Pace::Young => &self.young,
            None => &self.publishers,
        };
        let (from, to) = (list(connection.pace), list(pace));
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let moved =
            epoll::delete(from, &connection.stream).and_then(|()| epoll::add(to, &connection.stream, epoll::EventData::new_u64(token), flags));
        connection.pace = pace;
        if let Err(error) = moved {
            tracing::error!(%error, client = %connection.peer, "the connection cannot be watched");
        }
    }

    /// Puts the publishers that have sent something on the list of those to read: those at slow paces only in their ticks, or all of them.
    fn fetch_ready(&mut self, all: bool) {
        let mut fetch = |list| Self::fetch(self.index, list, &mut self.events, &mut self.connections, &mut self.ready);
        fetch(&self.publishers);
        for (slowness, lists) in self.slow.iter().enumerate() {
            lists.iter().enumerate().filter(|(list, _)| all || self.rounds.reads(slowness, *list)).for_each(|(_, list)| fetch(list));
        }
    }

    fn fetch(
        core: usize,
        list: &rustix::fd::OwnedFd,
        events: &mut Vec<epoll::Event>,
        connections: &mut [Option<Box<Connection>>],
        ready: &mut VecDeque<u64>,
    ) {
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            events.clear();
            match epoll::wait(list, rustix::buffer::spare_capacity(events), Some(&zero)) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!(core, %error, "waiting for publishers failed");
                    return;
                }
            }
            for event in &*events {
                note_hang_up(connections, event);
                ready.push_back(event.data.u64());
            }
            if events.len() < EVENTS_MAX {
                return;
            }
        }
    }

    /// Serves ready connections in turn, for at most a pass.
    fn drain(&mut self, now: Now) {
        let started = (self.shared.clock.mono)();
        let (mut passed, bytes_before) = (0, self.bytes_read);
        // Connections that have more are put behind the others: one fat stream does not starve the rest.
        while let Some(token) = self.ready.pop_front() {
            self.serve(token, Now { mono: MonoTime::from_nanos(now.mono.nanos() + passed), wall: now.wall });
            passed = (self.shared.clock.mono)().nanos_since(started);
            if passed >= PASS_NANOS_MAX {
                break;
            }
        }
        self.passed += passed;
        self.metrics.record_tick_pass(passed);
        self.metrics.drained(self.bytes_read - bytes_before);
    }

    /// A publisher is looked after once in so many ticks.
    fn slices(&self) -> usize {
        (LOOK_AFTER_MS / self.shared.settings.tick.as_millis().max(1) as u64).max(1) as usize
    }

    /// The policy has changed, or a task's window begins or ends.
    fn looks_after_all(&self, now: Now) -> bool {
        self.shared.policy.load().version != self.policy_version || self.next_task_check.is_some_and(|check| now.wall >= check)
    }

    /// Looks after a part of the publishers; after all of them when the policy has changed or a task's window begins or ends.
    fn tick_publishers(&mut self, now: Now) {
        let policy = self.shared.policy.load_full();
        let slices = self.slices();
        self.slice = (self.slice + 1) % slices;
        if self.looks_after_all(now) {
            self.policy_version = policy.version;
            self.next_task_check = None;
            for place in 0..self.connections.len() {
                self.tick_publisher(place, &policy, now);
            }
            return;
        }
        for place in (self.slice..self.connections.len()).step_by(slices) {
            let seldom = |connection: &Connection| connection.pace.is_weak() && now.mono.millis_since(connection.looked_after) < LOOK_AFTER_WEAK_MS;
            if !self.connections[place].as_deref().is_some_and(seldom) {
                self.tick_publisher(place, &policy, now);
            }
        }
        for index in 0..self.blocked.len() {
            let place = self.blocked[index] as u32 as usize;
            if place % slices != self.slice {
                self.tick_publisher(place, &policy, now);
            }
        }
    }

    fn tick_publisher(&mut self, place: usize, policy: &Policy, now: Now) {
        let Some(mut connection) = self.connections.get_mut(place).and_then(Option::take) else { return };
        let token = connection.token;
        let (mut service, _) = self.service(now);
        let result = catch_unwind(AssertUnwindSafe(|| connection.tick(policy, &mut service)));
        self.note_task_check(&connection);
        let (pace, new_pace) = (connection.pace, connection.new_pace(now.mono));
        connection.looked_after = now.mono;
        self.note_to_flush(place, &mut connection);
        self.connections[place] = Some(connection);
        if result.is_err() {
            self.close(token, &CloseReason::Panic, now);
        } else if pace != new_pace {
            self.watch(token, new_pace);
        }
    }

    fn note_to_flush(&mut self, place: usize, connection: &mut Connection) {
        if connection.has_unflushed() && !std::mem::replace(&mut connection.to_flush, true) {
            self.to_flush.push(place);
        }
    }

    fn note_task_check(&mut self, connection: &Connection) {
        if let Some(check) = connection.next_task_check() {
            self.next_task_check = Some(self.next_task_check.map_or(check, |next| next.min(check)));
        }
    }

    /// Every so often everything received is handed to the disk and synced, of all streams together: one tick flushes, and the next, which has brought
    /// the frames that complete what was open, flushes the rest and asks for the sync.
    fn flush_publishers(&mut self, now: Now) {
        let rest = std::mem::take(&mut self.sync_due);
        if !rest {
            if now.mono < self.next_flush {
                return;
            }
            let period = flush_period(&self.shared.settings, self.store.sync_nanos());
            self.next_flush = MonoTime::from_nanos(now.mono.nanos() + period.as_nanos() as u64);
            self.rounds.plan(period, self.connections.len() - self.free.len() - self.young_count);
            self.sync_due = true;
        }
        for index in 0..self.to_flush.len() {
            let place = self.to_flush[index];
            // A connection that was closed has flushed; a new one in its place has nothing here.
            let Some(mut connection) = self.connections[place].take_if(|connection| connection.to_flush) else { continue };
            let token = connection.token;
            let store = &mut self.store;
            let result = catch_unwind(AssertUnwindSafe(|| connection.flush(rest, store)));
            connection.to_flush = !rest;
            self.connections[place] = Some(connection);
            if result.is_err() {
                self.close(token, &CloseReason::Panic, now);
            }
        }
        if rest {
            self.to_flush.clear();
            self.store.sync();
        }
    }

    fn tick_ending(&mut self, now: Now) {
        let (store, metrics, shared) = (&mut self.store, &self.metrics, &self.shared);
        self.ending.retain_mut(|ending| {
            let ended = contained("a publication that is over", || ending.tick(now, store, metrics, shared));
            if ended.is_none() {
                contained("what is left of it", || ending.abandon(now, store));
            }
            !ended.unwrap_or(true)
        });
    }

    fn check_timeouts(&mut self, now: Now) {
        for place in 0..self.connections.len() {
            let due = self.connections[place]
                .as_ref()
                .and_then(|connection| connection.timed_out(now.mono, &self.shared).map(|reason| (connection.token, reason)));
            if let Some((token, reason)) = due {
                self.close(token, &reason, now);
            }
        }
    }

    fn close(&mut self, token: u64, reason: &CloseReason, now: Now) {
        let place = token as u32 as usize;
        let Some(mut connection) = self.connections.get_mut(place).and_then(Option::take) else { return };
        if connection.token != token {
            self.connections[place] = Some(connection);
            return;
        }
        if !connection.is_publishing() {
            self.young_count = self.young_count.saturating_sub(1);
        }
        let (mut service, _) = self.service(now);
        if catch_unwind(AssertUnwindSafe(|| connection.close(reason, &mut service))).is_err() {
            // Now with what is complete in its files.
            let closed = contained(connection.peer, || connection.close(&CloseReason::Panic, &mut service));
            if closed.is_none() {
                tracing::error!(client = %connection.peer, "the connection's files are finished at the next start");
            }
        }
        // Dropping the socket takes it out of both lists.
        self.free.push(place);
    }

    async fn shut_down(&mut self) {
        // What has arrived is recorded first; who sends without end is not waited for.
        let begun = (self.shared.clock.mono)();
        loop {
            let now = self.shared.clock.now();
            self.store.tick(now.mono);
            self.fetch_ready(true);
            if self.ready.is_empty() || now.mono.millis_since(begun) >= STOP_READ_MS {
                break;
            }
            self.drain(now);
        }
        let now = self.shared.clock.now();
        for place in 0..self.connections.len() {
            if let Some(token) = self.connections[place].as_ref().map(|connection| connection.token) {
                self.close(token, &CloseReason::Shutdown, now);
            }
        }
        while self.store.backlog() > 0 || !self.ending.is_empty() {
            let now = self.shared.clock.now();
            self.store.tick(now.mono);
            self.tick_ending(now);
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Time between two flushes. What is received right after one may reach the disk for good only with the next: that one's two ticks, its writes and its sync
/// have to be over by then too. A disk that was slow of late may be so again.
fn flush_period(settings: &IngestSettings, sync_nanos: u64) -> Duration {
    let beside = settings.tick * 3 + Duration::from_nanos(sync_nanos) * 2;
    let longest = settings.durability * FLUSH_PERCENT_MAX / 100;
    settings.durability.saturating_sub(beside).min(longest).max(settings.durability * FLUSH_PERCENT_MIN / 100)
}

/// Where the time of a tick goes.
struct Laps {
    clock: fn() -> MonoTime,
    first: MonoTime,
    last: MonoTime,
    stages: [u64; Stage::ALL.len()],
}

impl Laps {
    fn new(clock: fn() -> MonoTime) -> Self {
        let first = clock();
        Self { clock, first, last: first, stages: [0; Stage::ALL.len()] }
    }

    /// What was done since the last call belongs to `stage`.
    fn end(&mut self, stage: Stage) {
        let now = (self.clock)();
        self.stages[stage as usize] += now.nanos_since(self.last);
        self.last = now;
    }
}

fn connection(connections: &mut [Option<Box<Connection>>], token: u64) -> Option<&mut Box<Connection>> {
    let slot = connections.get_mut(token as u32 as usize)?;
    slot.as_mut().filter(|connection| connection.token == token)
}

fn note_hang_up(connections: &mut [Option<Box<Connection>>], event: &epoll::Event) {
    let ended = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
    let (flags, data) = (event.flags, event.data);
    if flags.intersects(ended)
        && let Some(connection) = connection(connections, data.u64())
    {
        connection.hang_up();
    }
}
