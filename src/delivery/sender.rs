//! The sender threads: each looks after its share of the connections, reads requests, answers, and lets the kernel send files.
//!
//! A thread waits in one epoll for all of its connections, edge-triggered; a connection that has something to do is served until its socket has no room,
//! and for at most [`TURN_BYTES`] before the others get their turn. Reading a page that is not in memory stops one of the threads for the length of that
//! read, and nobody else.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use rustix::event::{EventfdFlags, Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::answer::{http_date, refused};
use super::http::{Answer, Body, Head, Parsed, Request, parse, reason};
use super::resolve::{self, Answered};
use super::{Context, DeliverySettings, WhenBusy, count};

/// Bytes that one connection is given before the next has its turn.
const TURN_BYTES: u64 = 2 << 20;
/// Accepted connections on their way to one thread.
const QUEUE_MAX: usize = 1_024;
/// From the connection, or the first byte of a request, to the end of its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes no bytes for this long is gone.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// After an answer that ends the connection, what the client still sends is read for this long: closing at once would take the answer from it.
const LINGER: Duration = Duration::from_secs(1);
/// A playlist without a segment is waited for this long.
const PLAYLIST_WAIT: Duration = Duration::from_secs(8);
/// Waiting connections are looked at this often.
const WAIT_STEP: Duration = Duration::from_millis(50);
const TIMEOUT_CHECK: Duration = Duration::from_millis(500);
const EVENTS_MAX: usize = 256;
/// The queue's descriptor among the connections' tokens.
const WAKE: u64 = u64::MAX;
/// The kernel serves these threads after the ingest cores.
const NICE: i32 = 5;

/// The running sender threads.
pub struct Senders {
    lanes: Vec<Lane>,
    next: AtomicUsize,
    threads: std::sync::Mutex<Vec<JoinHandle<()>>>,
    stopping: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
    connections_max: usize,
    context: Arc<Context>,
}

struct Lane {
    queue: Sender<(TcpStream, IpAddr)>,
    wake: Arc<OwnedFd>,
}

impl Senders {
    /// Starts the threads.
    ///
    /// # Errors
    /// If a thread, an epoll or an eventfd cannot be made.
    pub fn start(settings: &DeliverySettings, context: Arc<Context>) -> io::Result<Arc<Self>> {
        let (stopping, open) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (mut lanes, mut threads) = (Vec::new(), Vec::new());
        for index in 0..settings.senders.max(1) {
            let (queue, incoming) = bounded(QUEUE_MAX);
            let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
            let mut sender = SenderThread {
                context: Arc::clone(&context),
                settings: settings.clone(),
                epoll,
                wake: Arc::clone(&wake),
                incoming,
                connections: Vec::new(),
                free: Vec::new(),
                ready: VecDeque::new(),
                waiting: Vec::new(),
                stopping: Arc::clone(&stopping),
                open: Arc::clone(&open),
                date: (0, String::new()),
            };
            threads.push(std::thread::Builder::new().name(format!("delivery-{index}")).spawn(move || sender.run())?);
            lanes.push(Lane { queue, wake });
        }
        let threads = std::sync::Mutex::new(threads);
        Ok(Arc::new(Self { lanes, next: AtomicUsize::new(0), threads, stopping, open, connections_max: settings.connections_max, context }))
    }

    /// Gives a connection (non-blocking) to one of the threads. It is closed if there are too many.
    pub fn take(&self, stream: TcpStream, peer: IpAddr) {
        let counters = &self.context.counters;
        count(&counters.connections);
        if self.open.fetch_add(1, Ordering::SeqCst) >= self.connections_max {
            self.open.fetch_sub(1, Ordering::SeqCst);
            count(&counters.refused);
            // It fits into the socket's buffer, or the client has no answer.
            let text = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n";
            let _ = rustix::net::send(&stream, text.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            return;
        }
        counters.connections_open.fetch_add(1, Ordering::Relaxed);
        let lane = &self.lanes[self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len()];
        match lane.queue.try_send((stream, peer)) {
            Ok(()) => {
                // A counter that is full wakes as well.
                let _ = rustix::io::write(&lane.wake, &1_u64.to_ne_bytes());
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                count(&counters.refused);
                counters.connections_open.fetch_sub(1, Ordering::Relaxed);
                self.open.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Ends the threads; what is being sent breaks off.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for lane in &self.lanes {
            let _ = rustix::io::write(&lane.wake, &1_u64.to_ne_bytes());
        }
        for thread in self.threads.lock().unwrap_or_else(std::sync::PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a delivery thread panicked");
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    peer: IpAddr,
    /// Tells this connection from an earlier one in the same place.
    token: u64,
    input: Vec<u8>,
    state: State,
    /// When it is closed unless something happens.
    deadline: Instant,
    /// It is in the list of those that are looked at again in a moment.
    is_listed: bool,
}

enum State {
    /// Waits for a request, or for the rest of one.
    Reading,
    Sending(Box<Sending>),
    /// The playlist asked for has no segment yet.
    Waiting {
        head: Box<Head>,
        until: Instant,
    },
    /// Answered for the last time; what comes is thrown away.
    Draining,
}

struct Sending {
    head: Vec<u8>,
    head_sent: usize,
    body: Body,
    body_sent: usize,
    keep_alive: bool,
}

/// What a connection's turn came to.
enum Turn {
    /// Its socket has nothing to read, or no room.
    Blocked,
    /// It has more to do.
    More,
    /// Look again in a moment, whatever the socket says.
    Later,
    Closed,
}

struct SenderThread {
    context: Arc<Context>,
    settings: DeliverySettings,
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    incoming: Receiver<(TcpStream, IpAddr)>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    ready: VecDeque<u64>,
    waiting: Vec<u64>,
    stopping: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
    /// The `Date` header of this second.
    date: (i64, String),
}

impl SenderThread {
    fn run(&mut self) {
        if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
            tracing::debug!(%error, "a delivery thread runs with the usual priority");
        }
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS_MAX);
        let mut generation = 0_u64;
        let mut next_check = Instant::now() + TIMEOUT_CHECK;
        let mut next_wait = Instant::now();
        while !self.stopping.load(Ordering::SeqCst) {
            let now = Instant::now();
            let pause = if !self.ready.is_empty() {
                Duration::ZERO
            } else if self.waiting.is_empty() {
                next_check.saturating_duration_since(now)
            } else {
                next_check.min(next_wait).saturating_duration_since(now)
            };
            events.clear();
            let pause = Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: pause.subsec_nanos().into() };
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&pause)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "a delivery thread cannot wait for its connections");
                    return;
                }
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => self.accept(&mut generation),
                    token => self.ready.push_back(token),
                }
            }
            let now = Instant::now();
            if now >= next_wait {
                next_wait = now + WAIT_STEP;
                for token in self.waiting.drain(..) {
                    if let Some(connection) = self.connections.get_mut(token as u32 as usize).and_then(Option::as_mut) {
                        connection.is_listed = false;
                    }
                    self.ready.push_back(token);
                }
            }
            // Those that are ready now, once each; who has more goes behind the others and behind what has become ready meanwhile.
            for _ in 0..self.ready.len() {
                let Some(token) = self.ready.pop_front() else { break };
                self.serve(token);
            }
            if now >= next_check {
                next_check = now + TIMEOUT_CHECK;
                self.check_timeouts(now);
            }
        }
    }

    fn accept(&mut self, generation: &mut u64) {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut counter);
        while let Ok((stream, peer)) = self.incoming.try_recv() {
            let place = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            *generation = (*generation + 1) & 0x7FFF_FFFF;
            let token = (*generation << 32) | place as u64;
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
            let watched = stream.set_nodelay(true).and_then(|()| Ok(epoll::add(&self.epoll, &stream, epoll::EventData::new_u64(token), flags)?));
            if let Err(error) = watched {
                tracing::debug!(%error, "a connection cannot be watched");
                self.gone(place);
                continue;
            }
            let deadline = Instant::now() + HEAD_TIMEOUT;
            self.connections[place] = Some(Connection { stream, peer, token, input: Vec::new(), state: State::Reading, deadline, is_listed: false });
        }
    }

    fn gone(&mut self, place: usize) {
        self.connections[place] = None;
        self.free.push(place);
        self.open.fetch_sub(1, Ordering::SeqCst);
        self.context.counters.connections_open.fetch_sub(1, Ordering::Relaxed);
    }

    fn serve(&mut self, token: u64) {
        let place = token as u32 as usize;
        let Some(mut connection) = self.connections.get_mut(place).and_then(Option::take) else { return };
        if connection.token != token {
            self.connections[place] = Some(connection);
            return;
        }
        // A panic behind one request ends its connection only.
        let turn = catch_unwind(AssertUnwindSafe(|| self.turn(&mut connection))).unwrap_or_else(|_| {
            tracing::error!(client = %connection.peer, "a request for media ended in a panic");
            Turn::Closed
        });
        match turn {
            Turn::Closed => {
                drop(connection);
                return self.gone(place);
            }
            Turn::Blocked => {}
            Turn::More => self.ready.push_back(token),
            Turn::Later if connection.is_listed => {}
            Turn::Later => {
                connection.is_listed = true;
                self.waiting.push(token);
            }
        }
        self.connections[place] = Some(connection);
    }

    fn turn(&mut self, connection: &mut Connection) -> Turn {
        let mut left = TURN_BYTES;
        loop {
            match &mut connection.state {
                State::Sending(sending) => {
                    let is_held = self.settings.when_busy == WhenBusy::Shed && self.settings.busy.any() && matches!(sending.body, Body::File(_));
                    if is_held {
                        count(&self.context.counters.shed);
                        connection.deadline = Instant::now() + STALL_TIMEOUT;
                        return Turn::Later;
                    }
                    let before = left;
                    let sent = sending.send(&connection.stream, &mut left);
                    if left < before {
                        self.context.counters.bytes.fetch_add(before - left, Ordering::Relaxed);
                        connection.deadline = Instant::now() + STALL_TIMEOUT;
                    }
                    match sent {
                        Sent::All if sending.keep_alive => {
                            connection.state = State::Reading;
                            connection.deadline = Instant::now() + self.settings.idle_timeout;
                        }
                        Sent::All => {
                            if connection.stream.shutdown(Shutdown::Write).is_err() {
                                return Turn::Closed;
                            }
                            connection.state = State::Draining;
                            connection.deadline = Instant::now() + LINGER;
                        }
                        Sent::NoRoom => return Turn::Blocked,
                        Sent::Turn => return Turn::More,
                        Sent::Moves => return Turn::Later,
                        Sent::Failed => return Turn::Closed,
                    }
                }
                State::Waiting { head, until } => {
                    let until = *until;
                    let head = std::mem::replace(
                        head,
                        Box::new(Head { bytes: 0, method: String::new(), target: String::new(), headers: Vec::new(), keep_alive: false }),
                    );
                    self.respond(connection, head, Some(until));
                    if matches!(connection.state, State::Waiting { .. }) {
                        // Who has gone meanwhile is not waited for.
                        return if has_ended(&connection.stream) { Turn::Closed } else { Turn::Later };
                    }
                }
                State::Draining => {
                    return match receive(&connection.stream, &mut Vec::new()) {
                        Received::Bytes => Turn::More,
                        Received::Nothing => Turn::Blocked,
                        Received::End => Turn::Closed,
                    };
                }
                State::Reading => {
                    if !connection.input.is_empty() {
                        match parse(&connection.input) {
                            Parsed::Head(head) => {
                                connection.input.drain(..head.bytes);
                                self.respond(connection, Box::new(head), None);
                                continue;
                            }
                            Parsed::Bad { status, why } => {
                                connection.input.clear();
                                self.begin(connection, refused(status, why), false, false);
                                continue;
                            }
                            Parsed::Partial => {}
                        }
                    }
                    let had = connection.input.len();
                    match receive(&connection.stream, &mut connection.input) {
                        Received::Bytes if had == 0 => connection.deadline = Instant::now() + HEAD_TIMEOUT,
                        Received::Bytes => {}
                        Received::Nothing => return Turn::Blocked,
                        Received::End => return Turn::Closed,
                    }
                }
            }
        }
    }

    /// Answers one request. `until`: it has waited already, and waits until then.
    fn respond(&mut self, connection: &mut Connection, head: Box<Head>, until: Option<Instant>) {
        if self.settings.when_busy == WhenBusy::Shed && self.settings.busy.any() {
            count(&self.context.counters.shed);
            let answer = refused(503, "The appliance is busy recording; come again in a moment.").with("Retry-After", "1");
            return self.begin(connection, answer, head.keep_alive, head.method == "HEAD");
        }
        let request = Request { method: &head.method, target: &head.target, headers: &head.headers, peer: Some(connection.peer) };
        let answered = if resolve::is_media(request.path()) {
            resolve::answer(&self.context, &request)
        } else {
            let page = self.context.pages.get().and_then(|pages| pages(&request));
            Answered::Now(page.unwrap_or_else(|| refused(404, "There is nothing here. Recordings are under /vod/ and /live/.")))
        };
        match answered {
            Answered::Now(answer) => self.begin(connection, answer, head.keep_alive, head.method == "HEAD"),
            Answered::NotYet => {
                let until = until.unwrap_or_else(|| Instant::now() + PLAYLIST_WAIT);
                if Instant::now() < until {
                    connection.deadline = until + STALL_TIMEOUT;
                    connection.state = State::Waiting { head, until };
                } else {
                    let answer = refused(404, "The recording has no complete segment yet.").with("Retry-After", "1");
                    self.begin(connection, answer, head.keep_alive, head.method == "HEAD");
                }
            }
        }
    }

    fn begin(&mut self, connection: &mut Connection, answer: Answer, keep_alive: bool, head_only: bool) {
        let counters = &self.context.counters;
        count(&counters.requests);
        if answer.status >= 400 {
            count(&counters.errors);
        }
        let mut head = Vec::with_capacity(640);
        let mut line = |name: &str, value: &str| {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        };
        for (name, value) in &answer.headers {
            line(name, value);
        }
        let has_no_body = matches!(answer.status, 204 | 304);
        if !has_no_body {
            line("Content-Length", &answer.body.length().to_string());
        }
        line("Server", "capstan");
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        if self.date.0 != seconds {
            self.date = (seconds, http_date(seconds));
        }
        line("Date", &self.date.1);
        line("Connection", if keep_alive { "keep-alive" } else { "close" });
        let mut text = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status)).into_bytes();
        text.extend_from_slice(&head);
        text.extend_from_slice(b"\r\n");
        let body = if head_only || has_no_body { Body::Bytes(Vec::new()) } else { answer.body };
        connection.deadline = Instant::now() + STALL_TIMEOUT;
        connection.state = State::Sending(Box::new(Sending { head: text, head_sent: 0, body, body_sent: 0, keep_alive }));
    }

    fn check_timeouts(&mut self, now: Instant) {
        for place in 0..self.connections.len() {
            if self.connections[place].as_ref().is_some_and(|connection| now >= connection.deadline) {
                // Dropping the socket takes it out of the epoll.
                self.gone(place);
            }
        }
    }
}

enum Sent {
    All,
    NoRoom,
    /// The others' turn.
    Turn,
    /// The file's bytes move just now.
    Moves,
    Failed,
}

impl Sending {
    /// Sends until everything is sent, the socket has no room, or `left` bytes are gone.
    fn send(&mut self, stream: &TcpStream, left: &mut u64) -> Sent {
        while self.head_sent < self.head.len() {
            // The head waits for the first bytes of the body: one packet.
            let more = if self.body.length() > 0 { SendFlags::MORE } else { SendFlags::empty() };
            match rustix::net::send(stream, &self.head[self.head_sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT | more) {
                Ok(count) => self.head_sent += count,
                Err(Errno::AGAIN) => return Sent::NoRoom,
                Err(Errno::INTR) => {}
                Err(_) => return Sent::Failed,
            }
        }
        match &mut self.body {
            Body::Bytes(bytes) => {
                while self.body_sent < bytes.len() {
                    match rustix::net::send(stream, &bytes[self.body_sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                        Ok(count) => {
                            self.body_sent += count;
                            *left = left.saturating_sub(count as u64);
                        }
                        Err(Errno::AGAIN) => return Sent::NoRoom,
                        Err(Errno::INTR) => {}
                        Err(_) => return Sent::Failed,
                    }
                }
                Sent::All
            }
            Body::File(body) => {
                while body.length > 0 {
                    if *left == 0 {
                        return Sent::Turn;
                    }
                    let step = body.step(*left, |file, mut offset, count| {
                        Ok(rustix::fs::sendfile(stream, file, Some(&mut offset), usize::try_from(count).unwrap_or(usize::MAX))? as u64)
                    });
                    match step {
                        None => return Sent::Moves,
                        // Shorter than it was: what was promised cannot be kept.
                        Some(Ok(0)) => return Sent::Failed,
                        Some(Ok(count)) => *left = left.saturating_sub(count),
                        Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => return Sent::NoRoom,
                        Some(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                        Some(Err(_)) => return Sent::Failed,
                    }
                }
                Sent::All
            }
        }
    }
}

enum Received {
    Bytes,
    Nothing,
    End,
}

/// Appends what has arrived, at most a few KiB.
fn receive(stream: &TcpStream, input: &mut Vec<u8>) -> Received {
    let mut buffer = [0; 4 << 10];
    loop {
        return match rustix::net::recv(stream, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Received::End,
            Ok((count, _)) => {
                input.extend_from_slice(&buffer[..count]);
                Received::Bytes
            }
            Err(Errno::AGAIN) => Received::Nothing,
            Err(Errno::INTR) => continue,
            Err(_) => Received::End,
        };
    }
}

/// The client has closed its side.
fn has_ended(stream: &TcpStream) -> bool {
    let mut byte = [0; 1];
    matches!(rustix::net::recv(stream, &mut byte[..], RecvFlags::DONTWAIT | RecvFlags::PEEK), Ok((0, _)) | Err(Errno::CONNRESET))
}
