//! Publishers, and the loop that writes what is due on every connection: one thread for each core of the generator.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use socket2::{Domain, Socket, Type};

use crate::client::{Client, Target};
use crate::source::{Cursor, Source};
use crate::stop;

/// Bytes written to one connection before the next one gets its turn.
const TURN_BYTES: u64 = 256 << 10;
/// Reports of single connections on the error output; the rest is counted.
const REPORTS_MAX: usize = 10;
/// How long the server may take from the connection to the begin of publishing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the server may take to read the rest and to close.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// What must stay free on a disk that is written to as fast as it goes: it takes some hundred MiB from one check to the next.
const DISK_FREE_MIN: u64 = 2 << 30;
/// Connections that answer nothing are looked for this often.
const CHECK: Duration = Duration::from_millis(500);
/// The progress line is fed this often.
const TELL: Duration = Duration::from_millis(100);
/// A publisher that would have less than this left does not come back.
const COME_BACK: Duration = Duration::from_millis(500);
/// Slots of the timer wheel; who is due later than so many ticks is looked at once in between.
const WHEEL_SLOTS: u64 = 512;
/// Lags are told apart up to here.
const LAG_US_MAX: u64 = 60_000_000;

/// Streams of one kind.
pub struct Group {
    pub source: Source,
    pub streams: usize,
    /// Stream names are this and a number from 0; behind it `-` and a number where publishers come and go.
    pub prefix: String,
}

pub struct Plan {
    pub target: Target,
    pub groups: Vec<Group>,
    pub seconds: f64,
    /// Of real time; 0: as fast as the server takes it.
    pub rate: f64,
    pub tick: Duration,
    /// Publishers start spread over this time.
    pub spread: Duration,
    /// Publishers that begin each second; 0: all connect at once and begin together.
    pub ramp_per_s: f64,
    /// Publications that end each second and are followed by another one.
    pub churn_per_s: f64,
    /// Ends without a farewell: the connection is closed.
    pub abrupt: bool,
    /// Connections that shake hands at the same time.
    pub connecting_max: usize,
    /// A load that is not bound by time ends when this disk has less than `DISK_FREE_MIN` free; `None`: the server is elsewhere.
    pub disk: Option<PathBuf>,
    /// One thread each, pinned. Empty: one thread anywhere.
    pub cores: Vec<usize>,
}

impl Plan {
    pub fn streams(&self) -> usize {
        self.groups.iter().map(|group| group.streams).sum()
    }
}

/// What one publication has sent, in whole frames.
#[derive(Clone)]
pub struct Sent {
    pub name: String,
    /// Index into [`Plan::groups`].
    pub group: usize,
    pub frames: u64,
}

/// Sums so far.
#[derive(Clone)]
pub struct Totals {
    pub bytes: u64,
    pub media_bytes: u64,
    pub frames: u64,
    pub errors: u64,
    pub connecting: usize,
    pub publishing: usize,
    /// How late a frame was accepted by the kernel, microseconds; of several frames written at once the oldest counts for all. Real time only.
    pub lag_us: Histogram<u64>,
}

impl Totals {
    pub fn new() -> Self {
        let lag_us = Histogram::new_with_max(LAG_US_MAX, 2).expect("bounds and precision are in the range hdrhistogram takes");
        Self { bytes: 0, media_bytes: 0, frames: 0, errors: 0, connecting: 0, publishing: 0, lag_us }
    }

    fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.media_bytes += other.media_bytes;
        self.frames += other.frames;
        self.errors += other.errors;
        self.connecting += other.connecting;
        self.publishing += other.publishing;
        self.lag_us.add(&other.lag_us).expect("both have the same bounds");
    }
}

/// What the threads share with each other and with whoever watches them.
pub struct Board {
    workers: Vec<Mutex<Totals>>,
    /// Workers all of whose publishers are connected.
    connected: AtomicUsize,
    /// When the media begins.
    pub begin: OnceLock<Instant>,
    reports: AtomicUsize,
}

impl Board {
    pub fn new(plan: &Plan) -> Self {
        let count = plan.cores.len().max(1);
        Self {
            workers: (0..count).map(|_| Mutex::new(Totals::new())).collect(),
            connected: AtomicUsize::new(0),
            begin: OnceLock::new(),
            reports: AtomicUsize::new(0),
        }
    }

    pub fn totals(&self) -> Totals {
        let mut sum = Totals::new();
        for worker in &self.workers {
            sum.add(&worker.lock().unwrap_or_else(PoisonError::into_inner));
        }
        sum
    }

    fn report(&self, name: &str, message: &str) {
        if self.reports.fetch_add(1, Ordering::Relaxed) < REPORTS_MAX {
            eprintln!("loadtest: {name}: {message}");
        }
    }
}

pub struct Outcome {
    /// From the first to the last media byte.
    pub seconds: f64,
    /// Until all publishers were connected; with a ramp 0.
    pub connect_seconds: f64,
    pub sent: Vec<Sent>,
}

/// Publishes by the plan until every publication is over.
pub fn publish(plan: &Plan, board: &Board) -> Result<Outcome, String> {
    let called = Instant::now();
    if plan.ramp_per_s > 0.0 {
        let _ = board.begin.set(called);
    }
    let results: Vec<Result<(Vec<Sent>, Instant), String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..board.workers.len())
            .map(|index| {
                scope.spawn(move || {
                    if let Some(core) = plan.cores.get(index) {
                        pin(*core)?;
                    }
                    let mut worker = Worker::new(index, plan, board, called)?;
                    worker.run()?;
                    Ok((worker.sent, worker.last_media))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread of the generator panicked".to_owned()))).collect()
    });
    let begin = board.begin.get().copied().unwrap_or(called);
    let mut outcome = Outcome { seconds: 0.0, connect_seconds: begin.duration_since(called).as_secs_f64(), sent: Vec::new() };
    for result in results {
        let (sent, last_media) = result?;
        outcome.sent.extend(sent);
        outcome.seconds = outcome.seconds.max(last_media.saturating_duration_since(begin).as_secs_f64());
    }
    Ok(outcome)
}

fn pin(core: usize) -> Result<(), String> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).map_err(|error| format!("--core {core}: this process may not use it ({error})"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Will connect.
    Planned,
    /// TCP, handshake and commands.
    Connecting,
    /// May publish and waits for its start.
    Waiting,
    Publishing,
    /// The farewell is written; waiting for the server to close.
    Closing,
    Ended,
}

struct Publisher {
    phase: Phase,
    group: usize,
    /// Its number in the group, and of its publication.
    index: usize,
    generation: usize,
    name: String,
    connection: Option<(TcpStream, Client)>,
    /// When its media begins, or it connects.
    start: Instant,
    /// When the last publication in this place ends.
    until: Instant,
    /// Bytes that go out before the loop continues: commands, prelude, replies.
    pending: Vec<u8>,
    pending_at: usize,
    /// What must be sent at the next message boundary.
    replies: Vec<u8>,
    /// Next message of the endless loop to be completed, and bytes of the loop that are written.
    cursor: Cursor,
    offset: u64,
    /// Number of the message before which it ends; `u64::MAX` while that is not decided.
    end: u64,
    /// Since when it is in its phase.
    since: Instant,
    waits_for_room: bool,
    /// Ended by the plan, to be followed by another publication.
    comes_back: bool,
    /// It is on the wheel, or among those that write as much as they can.
    scheduled: bool,
    said_farewell: bool,
}

struct Worker<'a> {
    index: usize,
    plan: &'a Plan,
    board: &'a Board,
    poll: rustix::fd::OwnedFd,
    publishers: Vec<Publisher>,
    /// Who will connect, in order of time.
    planned: VecDeque<usize>,
    connecting: usize,
    /// Publishers that are not ended.
    open: usize,
    /// Who is due in which tick.
    wheel: Vec<Vec<usize>>,
    epoch: Instant,
    /// First tick that has not been served.
    tick: u64,
    /// Flat out: who can write.
    writers: VecDeque<usize>,
    /// All connected, and the others know.
    declared: bool,
    /// The media has begun.
    begun: bool,
    churn_next: Option<Instant>,
    churn_at: usize,
    /// It was asked to end before its time.
    stopping: bool,
    buffer: Vec<u8>,
    totals: Totals,
    sent: Vec<Sent>,
    last_media: Instant,
}

impl<'a> Worker<'a> {
    fn new(index: usize, plan: &'a Plan, board: &'a Board, called: Instant) -> Result<Self, String> {
        let workers = board.workers.len();
        let mut publishers = Vec::new();
        let places = plan.groups.iter().enumerate().flat_map(|(group, streams)| (0..streams.streams).map(move |number| (group, number)));
        for (position, (group, number)) in places.enumerate().filter(|(position, _)| position % workers == index) {
            let source = &plan.groups[group].source;
            let start = if plan.ramp_per_s > 0.0 { called + Duration::from_secs_f64(position as f64 / plan.ramp_per_s) } else { called };
            publishers.push(Publisher {
                phase: Phase::Planned,
                group,
                index: number,
                generation: 0,
                name: format!("{}{number}", plan.groups[group].prefix),
                connection: None,
                start,
                until: start,
                pending: Vec::new(),
                pending_at: 0,
                replies: Vec::new(),
                cursor: source.cursor(0),
                offset: 0,
                end: u64::MAX,
                since: start,
                waits_for_room: false,
                comes_back: false,
                scheduled: false,
                said_farewell: false,
            });
        }
        Ok(Self {
            index,
            plan,
            board,
            poll: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| format!("epoll: {error}"))?,
            planned: (0..publishers.len()).collect(),
            connecting: 0,
            open: publishers.len(),
            publishers,
            wheel: (0..WHEEL_SLOTS).map(|_| Vec::new()).collect(),
            epoch: called,
            tick: 0,
            writers: VecDeque::new(),
            declared: false,
            begun: false,
            churn_next: None,
            churn_at: 0,
            stopping: false,
            buffer: vec![0; 16 << 10],
            totals: Totals::new(),
            sent: Vec::new(),
            last_media: called,
        })
    }

    fn flat_out(&self) -> bool {
        self.plan.rate == 0.0
    }

    fn run(&mut self) -> Result<(), String> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(1024);
        let (mut next_check, mut next_tell) = (self.epoch, self.epoch);
        while self.open > 0 {
            let now = Instant::now();
            if stop::is_asked() && !std::mem::replace(&mut self.stopping, true) {
                self.stop(now);
            }
            self.connect_more(now);
            self.begin(now);
            self.serve_wheel(now);
            for _ in 0..self.writers.len() {
                let Some(place) = self.writers.pop_front() else { break };
                self.publishers[place].scheduled = false;
                self.step(place);
            }
            self.churn(now);
            if now >= next_check {
                next_check = now + CHECK;
                self.check(now);
            }
            if now >= next_tell {
                next_tell = now + TELL;
                self.tell();
            }
            let tick_at = self.epoch + self.plan.tick * u32::try_from(self.tick).unwrap_or(u32::MAX);
            let wait = if self.writers.is_empty() { tick_at.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
            events.clear();
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(format!("epoll: {error}")),
            }
            let now = Instant::now();
            for event in &events {
                let (flags, data) = (event.flags, event.data);
                self.event(data.u64() as usize, flags, now);
            }
        }
        self.tell();
        Ok(())
    }

    fn tell(&mut self) {
        self.totals.connecting = self.connecting;
        self.totals.publishing = self.publishers.iter().filter(|publisher| publisher.phase == Phase::Publishing).count();
        self.board.workers[self.index].lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.totals);
    }

    /// Connects whoever's time has come, as many at once as the plan allows.
    fn connect_more(&mut self, now: Instant) {
        let most = self.plan.connecting_max.div_ceil(self.board.workers.len());
        while self.connecting < most && self.planned.front().is_some_and(|place| self.publishers[*place].start <= now) {
            let Some(place) = self.planned.pop_front() else { return };
            self.connecting += 1;
            let publisher = &mut self.publishers[place];
            publisher.phase = Phase::Connecting;
            publisher.since = now;
            publisher.pending.clear();
            publisher.pending_at = 0;
            publisher.said_farewell = false;
            let client = Client::new(&mut publisher.pending);
            match connect(&self.plan.target, &self.poll, place) {
                Ok(socket) => publisher.connection = Some((socket, client)),
                Err(message) => self.end(place, Some(&message), now),
            }
        }
    }

    /// The media of all begins when everybody is connected.
    fn begin(&mut self, now: Instant) {
        if self.begun {
            return;
        }
        if !self.declared && self.planned.is_empty() && self.connecting == 0 {
            self.declared = true;
            if self.board.connected.fetch_add(1, Ordering::SeqCst) + 1 == self.board.workers.len() {
                let _ = self.board.begin.set(now);
            }
        }
        let Some(begin) = self.board.begin.get().copied() else { return };
        self.begun = true;
        let streams = self.plan.streams() as u32;
        let gap = if self.flat_out() { Duration::ZERO } else { self.plan.spread / streams.max(1) };
        for place in 0..self.publishers.len() {
            if self.publishers[place].phase == Phase::Waiting {
                let position = place * self.board.workers.len() + self.index;
                self.launch(place, begin + gap * position as u32, now);
            }
        }
    }

    /// The media of this publisher begins at `start`.
    fn launch(&mut self, place: usize, start: Instant, now: Instant) {
        let plan = self.plan;
        let publisher = &mut self.publishers[place];
        let source = &plan.groups[publisher.group].source;
        let Some((_, client)) = &publisher.connection else { return };
        publisher.phase = Phase::Publishing;
        publisher.since = now;
        publisher.start = start;
        if publisher.generation == 0 {
            publisher.until = start + Duration::from_secs_f64(plan.seconds);
        }
        let lead = source.lead_messages() as u64;
        publisher.pending = source.prelude(client.stream_id);
        publisher.pending_at = 0;
        publisher.cursor = source.cursor(lead);
        publisher.offset = source.begin(publisher.cursor);
        self.totals.frames += lead;
        self.totals.media_bytes += source.media_bytes(lead);
        let length_ms = publisher.until.saturating_duration_since(start).as_secs_f64() * 1000.0;
        publisher.end = if plan.rate > 0.0 { source.due_messages(length_ms * plan.rate).max(lead) } else { u64::MAX };
        if self.flat_out() {
            self.schedule_now(place);
        } else {
            self.schedule(place, start);
        }
    }

    fn schedule_now(&mut self, place: usize) {
        if !std::mem::replace(&mut self.publishers[place].scheduled, true) {
            self.writers.push_back(place);
        }
    }

    /// Puts the publisher on the wheel: its turn is in the first tick at or after `at`.
    fn schedule(&mut self, place: usize, at: Instant) {
        if std::mem::replace(&mut self.publishers[place].scheduled, true) {
            return;
        }
        let after = at.saturating_duration_since(self.epoch).as_nanos().div_ceil(self.plan.tick.as_nanos()) as u64;
        let tick = after.clamp(self.tick, self.tick + WHEEL_SLOTS - 1);
        self.wheel[(tick % WHEEL_SLOTS) as usize].push(place);
    }

    fn serve_wheel(&mut self, now: Instant) {
        let reached = (now.saturating_duration_since(self.epoch).as_nanos() / self.plan.tick.as_nanos()) as u64;
        // A generator that fell behind by more than a turn of the wheel serves every slot once.
        self.tick = self.tick.max((reached + 1).saturating_sub(WHEEL_SLOTS));
        while self.tick <= reached {
            let mut due = std::mem::take(&mut self.wheel[(self.tick % WHEEL_SLOTS) as usize]);
            self.tick += 1;
            for place in due.drain(..) {
                self.publishers[place].scheduled = false;
                self.step(place);
            }
            // Its memory serves the next turn of the wheel.
            let slot = &mut self.wheel[((self.tick - 1) % WHEEL_SLOTS) as usize];
            if slot.is_empty() {
                *slot = due;
            }
        }
    }

    /// One turn of a publisher: writes what is due, says farewell when all is written, and is put where its next turn comes from.
    fn step(&mut self, place: usize) {
        if self.publishers[place].phase != Phase::Publishing {
            return;
        }
        // Not the time at which the pass over all publishers began: their lag would look better than it is.
        let now = Instant::now();
        match self.write(place, now) {
            Ok(next) => match next {
                Next::Room | Next::Closed => {}
                Next::Turn => self.schedule_now(place),
                Next::At(at) => self.schedule(place, at),
            },
            Err(message) => self.end(place, Some(&message), now),
        }
    }

    fn write(&mut self, place: usize, now: Instant) -> Result<Next, String> {
        let (plan, totals) = (self.plan, &mut self.totals);
        let publisher = &mut self.publishers[place];
        let source = &plan.groups[publisher.group].source;
        let elapsed_ms = now.saturating_duration_since(publisher.start).as_secs_f64() * 1000.0;
        if publisher.end == u64::MAX && now >= publisher.until {
            // The message that is under way is the last one.
            let within = publisher.offset > source.begin(publisher.cursor);
            publisher.end = source.number(publisher.cursor) + u64::from(within);
        }
        // How far it may write now.
        let mut due = publisher.cursor;
        let target = if plan.rate > 0.0 {
            let media_ms = elapsed_ms * plan.rate;
            while source.number(due) < publisher.end && source.due_ms(due) as f64 <= media_ms && source.begin(due) < publisher.offset + TURN_BYTES {
                due = source.next(due);
            }
            source.begin(due).max(publisher.offset)
        } else if publisher.end == u64::MAX {
            // An answer to the server has to wait for the end of a message.
            let begin = source.begin(publisher.cursor);
            let answers = !publisher.replies.is_empty();
            if !answers {
                publisher.offset + TURN_BYTES
            } else if publisher.offset == begin {
                begin
            } else {
                source.end(publisher.cursor)
            }
        } else {
            source.begin(source.cursor(publisher.end)).max(publisher.offset)
        };
        loop {
            let written = publisher.write_to(source, target)?;
            totals.bytes += written;
            self.last_media = if written > 0 { now } else { self.last_media };
            // What is complete now.
            let before = publisher.cursor;
            while source.end(publisher.cursor) <= publisher.offset {
                publisher.cursor = source.next(publisher.cursor);
            }
            let frames = source.number(publisher.cursor) - source.number(before);
            if frames > 0 {
                totals.frames += frames;
                totals.media_bytes += source.media_bytes(source.number(publisher.cursor)) - source.media_bytes(source.number(before));
                if plan.rate > 0.0 {
                    let lag_us = ((elapsed_ms - source.due_ms(before) as f64 / plan.rate).max(0.0) * 1000.0) as u64;
                    totals.lag_us.saturating_record_n(lag_us.max(1), frames);
                }
            }
            if publisher.waits_for_room {
                return Ok(Next::Room);
            }
            let at_boundary = publisher.offset == source.begin(publisher.cursor);
            if !publisher.replies.is_empty() && at_boundary {
                publisher.pending = std::mem::take(&mut publisher.replies);
                publisher.pending_at = 0;
                continue;
            }
            if source.number(publisher.cursor) < publisher.end {
                break;
            }
            if !plan.abrupt && !publisher.said_farewell {
                publisher.said_farewell = true;
                let Some((_, client)) = &publisher.connection else { break };
                publisher.pending = client.farewell(&publisher.name);
                publisher.pending_at = 0;
                continue;
            }
            let Some((socket, _)) = &publisher.connection else { break };
            socket.shutdown(Shutdown::Write).map_err(|error| format!("closing: {error}"))?;
            publisher.phase = Phase::Closing;
            publisher.since = now;
            return Ok(Next::Closed);
        }
        if plan.rate == 0.0 {
            return Ok(Next::Turn);
        }
        let due_ms = (source.due_ms(publisher.cursor) as f64 / plan.rate)
            .min(publisher.until.saturating_duration_since(publisher.start).as_secs_f64() * 1000.0);
        Ok(Next::At(publisher.start + Duration::from_secs_f64(due_ms / 1000.0)))
    }

    /// Something happened on a connection.
    fn event(&mut self, place: usize, flags: epoll::EventFlags, now: Instant) {
        let ended = epoll::EventFlags::HUP | epoll::EventFlags::ERR | epoll::EventFlags::RDHUP;
        if flags.intersects(epoll::EventFlags::IN | ended)
            && let Err(message) = self.read(place, flags.intersects(ended), now)
        {
            let closing = self.publishers[place].phase == Phase::Closing;
            // A server that hangs up on our farewell may answer with a reset: both are the end we asked for.
            self.end(place, (!closing).then_some(&message), now);
            return;
        }
        if !flags.contains(epoll::EventFlags::OUT) {
            return;
        }
        let flat_out = self.flat_out();
        let publisher = &mut self.publishers[place];
        match publisher.phase {
            Phase::Connecting | Phase::Waiting => {
                if let Err(message) = publisher.write_to(&self.plan.groups[publisher.group].source, 0) {
                    self.end(place, Some(&message), now);
                }
            }
            Phase::Publishing if publisher.waits_for_room => {
                publisher.waits_for_room = false;
                if flat_out {
                    self.schedule_now(place);
                } else if !publisher.scheduled {
                    self.step(place);
                }
            }
            _ => {}
        }
    }

    /// Reads all that is there; with `to_the_end` until the end shows itself, of which the kernel has told and will not tell again. An error is also
    /// that the server closed.
    fn read(&mut self, place: usize, to_the_end: bool, now: Instant) -> Result<(), String> {
        let plan = self.plan;
        let publisher = &mut self.publishers[place];
        let Some((socket, client)) = &mut publisher.connection else { return Ok(()) };
        let mut closed = false;
        loop {
            match socket.read(&mut self.buffer) {
                Ok(0) => {
                    closed = true;
                    break;
                }
                Ok(count) => {
                    client.receive(&self.buffer[..count], &plan.target, &publisher.name, &mut publisher.replies)?;
                    if count < self.buffer.len() && !to_the_end {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Err(format!("nobody listens at {}", plan.target.address)),
                Err(error) => return Err(format!("reading: {error}")),
            }
        }
        if closed {
            return Err("the server closed the connection".to_owned());
        }
        let publishing = client.is_publishing();
        if publisher.phase == Phase::Connecting {
            let replies = std::mem::take(&mut publisher.replies);
            publisher.pending.drain(..publisher.pending_at);
            publisher.pending_at = 0;
            publisher.pending.extend_from_slice(&replies);
            publisher.write_to(&plan.groups[publisher.group].source, 0)?;
            if publishing {
                publisher.phase = Phase::Waiting;
                publisher.since = now;
                self.connecting -= 1;
                if self.begun {
                    self.launch(place, now, now);
                }
            }
        }
        Ok(())
    }

    /// Publications end at the plan's rate; others of another name follow.
    fn churn(&mut self, now: Instant) {
        if self.plan.churn_per_s <= 0.0 || !self.begun || self.stopping {
            return;
        }
        let interval = Duration::from_secs_f64(self.board.workers.len() as f64 / self.plan.churn_per_s);
        let next = self.churn_next.get_or_insert(now + interval);
        if now < *next {
            return;
        }
        // After a delay not all that was missed is made up for at once.
        *next = (*next + interval).max(now.checked_sub(interval).unwrap_or(now));
        for _ in 0..self.publishers.len() {
            self.churn_at = (self.churn_at + 1) % self.publishers.len();
            let publisher = &mut self.publishers[self.churn_at];
            let source = &self.plan.groups[publisher.group].source;
            if publisher.phase == Phase::Publishing && publisher.start <= now && publisher.end > source.number(publisher.cursor) + 1 {
                publisher.comes_back = true;
                self.cut(self.churn_at);
                return;
            }
        }
    }

    /// The publication ends with the message that is under way.
    fn cut(&mut self, place: usize) {
        let publisher = &mut self.publishers[place];
        let source = &self.plan.groups[publisher.group].source;
        let within = publisher.offset > source.begin(publisher.cursor);
        publisher.end = publisher.end.min(source.number(publisher.cursor) + u64::from(within));
        if !publisher.scheduled && !publisher.waits_for_room {
            self.step(place);
        }
    }

    /// Everything ends now, in order.
    fn stop(&mut self, now: Instant) {
        self.planned.clear();
        for place in 0..self.publishers.len() {
            let publisher = &mut self.publishers[place];
            publisher.comes_back = false;
            match publisher.phase {
                Phase::Planned => {
                    publisher.phase = Phase::Ended;
                    self.open -= 1;
                }
                Phase::Connecting | Phase::Waiting => self.end(place, None, now),
                Phase::Publishing => {
                    publisher.until = now;
                    self.cut(place);
                }
                Phase::Closing | Phase::Ended => {}
            }
        }
    }

    /// Looks for connections that have answered nothing for too long.
    fn check(&mut self, now: Instant) {
        if let Some(message) = self.disk_is_filled() {
            for place in 0..self.publishers.len() {
                self.end(place, Some(&message), now);
            }
        }
        for place in 0..self.publishers.len() {
            let publisher = &self.publishers[place];
            let message = match publisher.phase {
                Phase::Connecting if now > publisher.since + CONNECT_TIMEOUT => "no answer",
                Phase::Publishing if now > publisher.until.max(publisher.start) + DRAIN_TIMEOUT => "not finished in time",
                Phase::Closing if now > publisher.since + DRAIN_TIMEOUT => "the server does not close",
                _ => continue,
            };
            self.end(place, Some(message), now);
        }
    }

    /// Why a load that takes what it gets must not go on.
    fn disk_is_filled(&self) -> Option<String> {
        let disk = self.plan.disk.as_ref().filter(|_| self.flat_out())?;
        let free = rustix::fs::statvfs(disk).map(|stat| stat.f_bavail * stat.f_frsize).ok()?;
        (free < DISK_FREE_MIN).then(|| format!("fewer than 2 GiB are free on the disk of {}", disk.display()))
    }

    /// The publication is over, and another one follows where they come and go.
    fn end(&mut self, place: usize, error: Option<&str>, now: Instant) {
        let publisher = &mut self.publishers[place];
        if matches!(publisher.phase, Phase::Ended | Phase::Planned) {
            return;
        }
        if let Some(message) = error {
            self.totals.errors += 1;
            self.board.report(&publisher.name, message);
        }
        if publisher.phase == Phase::Connecting {
            self.connecting -= 1;
        }
        if matches!(publisher.phase, Phase::Publishing | Phase::Closing) {
            let source = &self.plan.groups[publisher.group].source;
            let frames = source.number(publisher.cursor);
            self.sent.push(Sent { name: publisher.name.clone(), group: publisher.group, frames });
        }
        publisher.connection = None;
        publisher.waits_for_room = false;
        publisher.replies.clear();
        // Also in place of one that failed.
        let comes_back = std::mem::take(&mut publisher.comes_back) || (error.is_some() && self.plan.churn_per_s > 0.0);
        if comes_back && !self.stopping && now + COME_BACK < publisher.until {
            publisher.generation += 1;
            publisher.name = format!("{}{}-{}", self.plan.groups[publisher.group].prefix, publisher.index, publisher.generation);
            publisher.phase = Phase::Planned;
            publisher.start = now;
            self.planned.push_front(place);
        } else {
            publisher.phase = Phase::Ended;
            self.open -= 1;
        }
    }
}

/// Where a publisher's next turn comes from.
enum Next {
    /// The kernel tells when there is room again.
    Room,
    /// At once, behind the others.
    Turn,
    At(Instant),
    /// The server's end of the connection.
    Closed,
}

impl Publisher {
    /// Writes what is pending, then the loop up to `target`. Returns the bytes written of the loop and the prelude.
    fn write_to(&mut self, source: &Source, target: u64) -> Result<u64, String> {
        let Some((socket, _)) = &mut self.connection else { return Ok(0) };
        let mut written = 0;
        self.waits_for_room = false;
        loop {
            let from_pending = self.pending_at < self.pending.len();
            let bytes = if from_pending {
                &self.pending[self.pending_at..]
            } else {
                let inside = (self.offset % source.round.len() as u64) as usize;
                let count = target.saturating_sub(self.offset).min((source.round.len() - inside) as u64) as usize;
                &source.round[inside..inside + count]
            };
            if bytes.is_empty() {
                if !self.pending.is_empty() {
                    self.pending = Vec::new();
                    self.pending_at = 0;
                }
                return Ok(written);
            }
            match socket.write(bytes) {
                Ok(count) => {
                    written += count as u64;
                    if from_pending {
                        self.pending_at += count;
                    } else {
                        self.offset += count as u64;
                    }
                }
                // Not connected yet counts as no room: the kernel tells when it is.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    self.waits_for_room = true;
                    return Ok(written);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("writing: {error}")),
            }
        }
    }
}

/// Begins to connect, and has the kernel tell of everything that happens with the socket.
fn connect(target: &Target, poll: &rustix::fd::OwnedFd, place: usize) -> Result<TcpStream, String> {
    let socket =
        Socket::new(Domain::for_address(target.address), Type::STREAM.nonblocking().cloexec(), None).map_err(|error| format!("socket: {error}"))?;
    socket.set_tcp_nodelay(true).map_err(|error| format!("TCP_NODELAY: {error}"))?;
    match socket.connect(&target.address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(format!("connecting: {error}")),
    }
    let socket = TcpStream::from(socket);
    let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
    epoll::add(poll, &socket, epoll::EventData::new_u64(place as u64), flags).map_err(|error| format!("epoll: {error}"))?;
    Ok(socket)
}
