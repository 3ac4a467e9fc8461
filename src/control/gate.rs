//! The accept gate in front of the HTTP server: everything slow, endless, idle or malformed ends here.
//!
//! The HTTP library sets no time-outs, bounds no header, adds threads without limit and stops accepting at the first error. So the gate accepts,
//! reads each request completely within bounds and deadlines, hands it on over a private connection of its own, and carries the answer back.
//! The server behind it sees only complete, unambiguous requests and never waits for a client.
//!
//! A connection has a thread of its own; there are at most `connections_max` of them. When all are taken, the one that has waited longest for a
//! request makes room, so that any number of idle connections keeps nobody out.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::counters::count;
use super::errors::{ApiError, refuse};
use super::head::{self, Chunked, Framing, HEAD_BYTES_MAX, Head, HeadError};
use super::http::Body;
use super::media;
use super::protocol::{GET_BYTES_MAX, body_bytes_max, envelope};
use super::router::Control;

/// Between two requests of a connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// From the first byte of a request to the end of its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From there to the end of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// For the server to begin its answer, and between pieces of a file.
const SERVER_TIMEOUT: Duration = Duration::from_secs(60);
/// For a client to take an answer, or one [`RELAY_BYTES`] piece of a file.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long we read on after an early refusal, so that the client sees our answer instead of a reset.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 16 << 20;
/// A client that takes its answer slower than this may be closed for a new one.
const SLOW_CLIENT: Duration = Duration::from_secs(5);
/// After a failed accept (no descriptors or memory), before the next.
const ACCEPT_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Both ends of the connection to the server, the library's copy of one, and a file.
const DESCRIPTORS_A_REQUEST: usize = 4;
/// For the thread of an evicted connection to end.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(1);
/// How long running requests may go on when the gate stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Bodies and answers beyond [`FREE_BYTES`] that are in memory at one time, all connections together.
const BUFFER_BYTES_MAX: usize = 64 << 20;
const FREE_BYTES: usize = 64 << 10;
/// An answer that is not a file. The largest is a full page of SearchMedia.
const ANSWER_BYTES_MAX: usize = 48 << 20;
const ANSWER_HEAD_BYTES_MAX: usize = 16 << 10;
const RELAY_BYTES: usize = 64 << 10;
/// The threads read and write through heap buffers and call nothing deep.
const STACK_BYTES: usize = 256 << 10;

const _: () = assert!(ANSWER_BYTES_MAX <= BUFFER_BYTES_MAX && super::protocol::JSON_BYTES_MAX <= BUFFER_BYTES_MAX);

/// Opens a connection to the server behind the gate.
pub type Connect = Box<dyn Fn() -> io::Result<UnixStream> + Send + Sync>;

/// The running gate; [`Gate::stop`] ends it.
pub struct Gate {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    waker: UnixStream,
}

struct Shared {
    control: Arc<Control>,
    connect: Connect,
    connections_max: usize,
    stopping: AtomicBool,
    begun: Instant,
    table: Mutex<Table>,
    thread_ended: Condvar,
    /// Bytes of [`BUFFER_BYTES_MAX`] in use.
    buffered: AtomicUsize,
}

#[derive(Default)]
struct Table {
    open: HashMap<u64, Arc<Connection>>,
    next: u64,
    /// Includes evicted connections whose threads have not ended yet.
    threads: usize,
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    /// Since when (ms since the gate began, plus 1) this connection may be closed for a new one; 0 while it must not.
    spare_since: AtomicU64,
}

/// How one request ended for its connection.
enum End {
    KeepAlive,
    Close,
}

/// Why a request cannot be answered by the server.
enum Refusal {
    /// The client went away, was idle too long or was evicted: nothing to say.
    Gone,
    Answer {
        status: u16,
        error: ApiError,
    },
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        let api = match error {
            HeadError::TooLarge(bytes_max) => ApiError::too_large(bytes_max),
            other => ApiError::invalid(format!("{other}.")),
        };
        Refusal::Answer { status: error.http_status(), error: api }
    }
}

/// A request that broke off: too slow, or its client is gone.
fn slow_or_gone(error: io::Error) -> Refusal {
    match error.kind() {
        ErrorKind::TimedOut => Refusal::Answer { status: 408, error: ApiError::invalid("The request did not come in time.") },
        _ => Refusal::Gone,
    }
}

fn busy(message: &str) -> Refusal {
    Refusal::Answer { status: 503, error: refuse("RequestLimitExceeded", message) }
}

impl Gate {
    /// Begins to accept on `listener`.
    ///
    /// # Errors
    /// If the listener cannot be used or a thread cannot be started.
    pub fn start(listener: TcpListener, control: Arc<Control>, connect: Connect) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let (waker, woken) = UnixStream::pair()?;
        let connections_max = control.context.limits.connections_max.max(1);
        let shared = Arc::new(Shared {
            control,
            connect,
            connections_max,
            stopping: AtomicBool::new(false),
            begun: Instant::now(),
            table: Mutex::default(),
            thread_ended: Condvar::new(),
            buffered: AtomicUsize::new(0),
        });
        let acceptor = Builder::new().name("http-accept".to_owned()).spawn({
            let shared = shared.clone();
            move || accept_all(&shared, &listener, &woken)
        })?;
        Ok(Self { shared, acceptor: Some(acceptor), waker })
    }

    /// Ends accepting, gives running requests [`STOP_TIMEOUT`] and returns when the threads ended.
    pub fn stop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.stopping.store(true, Ordering::SeqCst);
        // A full or closed pipe means that the acceptor is awake or gone.
        let _ = self.waker.write(&[0]);
        if acceptor.join().is_err() {
            tracing::error!("the HTTP accept thread had panicked");
        }
        let mut table = self.shared.table();
        for connection in table.open.values() {
            if connection.spare_since.load(Ordering::SeqCst) != 0 {
                connection.shutdown();
            }
        }
        table = self.shared.wait_for_threads(table);
        for connection in table.open.values() {
            connection.shutdown();
        }
        table = self.shared.wait_for_threads(table);
        if table.threads > 0 {
            tracing::warn!(threads = table.threads, "HTTP connections did not end in time");
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The accept loop: survives every error.
fn accept_all(shared: &Arc<Shared>, listener: &TcpListener, woken: &UnixStream) {
    let mut failing = false;
    while !shared.stopping.load(Ordering::SeqCst) {
        let mut watched = [PollFd::new(listener, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
        // An interrupted wait is a wait that ended early.
        let _ = poll(&mut watched, None);
        match listener.accept() {
            Ok((stream, peer)) => {
                failing = false;
                shared.admit(stream, peer);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
            Err(error) => {
                count(&shared.control.counters.accept_errors);
                if !failing {
                    tracing::warn!(%error, "accepting an HTTP connection failed; trying again");
                }
                failing = true;
                // Most likely out of descriptors: take some from idle clients, else do not spin until others give theirs back.
                if !shared.evict_some() {
                    let _ = poll(&mut [PollFd::new(woken, PollFlags::IN)], Some(&ACCEPT_PAUSE));
                }
            }
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_threads<'a>(&self, table: MutexGuard<'a, Table>) -> MutexGuard<'a, Table> {
        let waited = self.thread_ended.wait_timeout_while(table, STOP_TIMEOUT, |table| table.threads > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64 + 1
    }

    /// Gives an accepted connection a thread, or closes it.
    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        count(&self.control.counters.accepted);
        let mut table = self.table();
        let is_full = table.open.len() >= self.connections_max && !self.evict_from(&mut table);
        let threads_max = 2 * self.connections_max;
        if !is_full && table.threads >= threads_max {
            // Threads of evicted connections end at once, but only when they get to run: in a flood, accept no faster than that.
            let waited = self.thread_ended.wait_timeout_while(table, EVICTION_TIMEOUT, |table| table.threads >= threads_max);
            table = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if is_full || table.threads >= threads_max {
            drop(table);
            count(&self.control.counters.refused);
            let _ = stream.set_nonblocking(true);
            let _ = (&stream).write(&answer_bytes(503, &refuse("RequestLimitExceeded", "Too many connections are busy."), true));
            return;
        }
        let id = table.next;
        table.next += 1;
        let connection = Arc::new(Connection { stream, peer, spare_since: AtomicU64::new(self.now_ms()) });
        table.open.insert(id, connection.clone());
        table.threads += 1;
        drop(table);
        let shared = self.clone();
        let leave = Leave { shared: shared.clone(), id };
        let spawned = Builder::new().name("http-connection".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            let _leave = leave;
            shared.serve(&connection);
        });
        if let Err(error) = spawned {
            // The closure was dropped, and with it the connection left the table.
            count(&self.control.counters.refused);
            tracing::warn!(%error, "no thread for an HTTP connection");
        }
    }

    /// Closes a few connections that can be spared, for their descriptors, and waits until those are free; `false` if there is none.
    fn evict_some(&self) -> bool {
        let mut table = self.table();
        let threads = table.threads;
        if !(0..DESCRIPTORS_A_REQUEST).fold(false, |any, _| self.evict_from(&mut table) || any) {
            return false;
        }
        // Woken at the first that ended or after a moment; whoever asked tries again anyway.
        drop(self.thread_ended.wait_timeout_while(table, EVICTION_TIMEOUT, |table| table.threads >= threads));
        true
    }

    /// Closes the connection that can be spared longest; `false` if there is none.
    fn evict_from(&self, table: &mut Table) -> bool {
        let now = self.now_ms();
        let spare = |connection: &Connection| Some(connection.spare_since.load(Ordering::SeqCst)).filter(|since| (1..=now).contains(since));
        let oldest = table.open.iter().filter_map(|(id, connection)| spare(connection).map(|since| (since, *id))).min();
        let Some(connection) = oldest.and_then(|(_, id)| table.open.remove(&id)) else { return false };
        count(&self.control.counters.evicted);
        connection.shutdown();
        true
    }

    /// All requests of one connection.
    fn serve(&self, connection: &Connection) {
        let _ = connection.stream.set_nodelay(true);
        let mut buffer = Vec::new();
        loop {
            connection.spare_since.store(self.now_ms(), Ordering::SeqCst);
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let mut lease = Lease { shared: self, bytes: 0 };
            let refusal = match self.read_request(connection, &mut buffer, &mut lease) {
                Ok((head, body)) => match self.forward(connection, &head, &body) {
                    Ok(End::KeepAlive) => continue,
                    Ok(End::Close) => return connection.linger(),
                    Err(refusal) => refusal,
                },
                Err(refusal) => refusal,
            };
            if let Refusal::Answer { status, error } = refusal {
                let counters = &self.control.counters;
                match status {
                    413 | 431 => count(&counters.too_large),
                    408 => count(&counters.timed_out),
                    503 => count(&counters.refused),
                    _ => count(&counters.malformed),
                }
                tracing::debug!(peer = %connection.peer, status, reason = error.message, "an HTTP request was refused");
                if connection.write_all(&answer_bytes(status, &error, true), Instant::now() + CLIENT_TIMEOUT).is_ok() {
                    connection.linger();
                }
            }
            return;
        }
    }

    /// Reads one request; what follows it stays in `buffer`.
    fn read_request(&self, connection: &Connection, buffer: &mut Vec<u8>, lease: &mut Lease<'_>) -> Result<(Head, Vec<u8>), Refusal> {
        let idle_until = Instant::now() + IDLE_TIMEOUT;
        // An empty line before a request is to be ignored (RFC 9112, 2.2).
        while buffer.is_empty() || buffer.starts_with(b"\r\n") {
            if buffer.is_empty() {
                connection.read(buffer, idle_until).map_err(|_| Refusal::Gone)?;
            } else {
                buffer.drain(..2);
            }
        }
        let head_until = Instant::now() + HEAD_TIMEOUT;
        let mut searched = 0;
        let end = loop {
            if let Some(end) = head::find_end(buffer, searched).filter(|end| *end <= HEAD_BYTES_MAX) {
                break end;
            }
            if buffer.len() > HEAD_BYTES_MAX {
                return Err(Refusal::Answer { status: 431, error: ApiError::too_large(HEAD_BYTES_MAX) });
            }
            searched = buffer.len();
            connection.read(buffer, head_until).map_err(slow_or_gone)?;
        };
        let head = head::parse(&buffer[..end])?;
        buffer.drain(..end);
        let is_api = head.path() == "/";
        if is_api && head.method == "GET" && end > GET_BYTES_MAX {
            return Err(HeadError::TooLarge(GET_BYTES_MAX).into());
        }
        let content_type = head.header("Content-Type").map_or("", |value| value.split(';').next().unwrap_or_default().trim());
        let bytes_max = if is_api { body_bytes_max(&head.method, content_type) } else { GET_BYTES_MAX };
        let body = self.read_body(connection, &head, bytes_max, buffer, lease)?;
        Ok((head, body))
    }

    fn read_body(
        &self,
        connection: &Connection,
        head: &Head,
        bytes_max: usize,
        buffer: &mut Vec<u8>,
        lease: &mut Lease<'_>,
    ) -> Result<Vec<u8>, Refusal> {
        let until = Instant::now() + BODY_TIMEOUT;
        let mut body = Vec::new();
        let length = match head.framing {
            Framing::None => return Ok(body),
            Framing::Length(length) => {
                Some(usize::try_from(length).ok().filter(|length| *length <= bytes_max).ok_or(HeadError::TooLarge(bytes_max))?)
            }
            Framing::Chunked => None,
        };
        let mut chunked = Chunked::new(bytes_max);
        let mut asked = false;
        loop {
            let taken = match length {
                Some(length) => {
                    let count = buffer.len().min(length - body.len());
                    body.extend_from_slice(&buffer[..count]);
                    count
                }
                None => chunked.push(buffer, &mut body)?,
            };
            buffer.drain(..taken);
            if length.map_or_else(|| chunked.is_done(), |length| body.len() == length) {
                return Ok(body);
            }
            if head.expects_continue && !asked {
                asked = true;
                connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", until).map_err(|_| Refusal::Gone)?;
            }
            // Room grows with what has come, not with what was announced.
            lease.grow_to(body.len() + RELAY_BYTES)?;
            connection.read(buffer, until).map_err(slow_or_gone)?;
        }
    }

    /// A connection to the server; if descriptors are used up, idle clients give theirs.
    fn connect_to_server(&self) -> io::Result<UnixStream> {
        match (self.connect)() {
            Err(_) if self.evict_some() => (self.connect)(),
            outcome => outcome,
        }
    }

    /// Hands a request to the server and its answer to the client.
    fn forward(&self, connection: &Connection, head: &Head, body: &[u8]) -> Result<End, Refusal> {
        connection.spare_since.store(0, Ordering::SeqCst);
        let lost = |error: io::Error| {
            tracing::warn!(%error, "the HTTP server behind the gate did not answer");
            busy("The server did not answer in time.")
        };
        let mut server = self.connect_to_server().map_err(lost)?;
        server.set_read_timeout(Some(SERVER_TIMEOUT)).map_err(lost)?;
        server.set_write_timeout(Some(SERVER_TIMEOUT)).map_err(lost)?;
        server.write_all(&head.for_server(connection.peer, body.len())).and_then(|()| server.write_all(body)).map_err(lost)?;
        let mut answer = Answer::read(&mut server).map_err(lost)?;
        let has_body = head.method != "HEAD" && !matches!(answer.status, 204 | 304);
        let mut left = if has_body { answer.length } else { 0 };
        let mut text = std::mem::take(&mut answer.head);
        if head.close {
            text.extend_from_slice(b"Connection: close\r\n");
        }
        text.extend_from_slice(b"\r\n");
        let is_file = head.path().starts_with(media::PREFIX);
        if is_file {
            connection.write_all(&text, Instant::now() + CLIENT_TIMEOUT).map_err(|_| Refusal::Gone)?;
            let mut piece = std::mem::take(&mut answer.begun);
            loop {
                let count = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                connection.write_all(&piece[..count], Instant::now() + CLIENT_TIMEOUT).map_err(|_| Refusal::Gone)?;
                left -= count as u64;
                if left == 0 {
                    break;
                }
                // The head is gone: an answer that breaks off can only be shown by closing.
                piece.resize(RELAY_BYTES, 0);
                let count = server.read(&mut piece).map_err(|_| Refusal::Gone)?;
                if count == 0 {
                    return Err(Refusal::Gone);
                }
                piece.truncate(count);
            }
        } else {
            // Taken over whole, so that a slow client does not hold a worker of the server.
            let length = usize::try_from(left).ok().filter(|length| *length <= ANSWER_BYTES_MAX).ok_or_else(|| busy("The answer is too large."))?;
            let mut lease = Lease { shared: self, bytes: 0 };
            lease.grow_to(length)?;
            text.reserve(length);
            text.extend_from_slice(&answer.begun[..answer.begun.len().min(length)]);
            let missing = (length - answer.begun.len().min(length)) as u64;
            let got = (&mut server).take(missing).read_to_end(&mut text).map_err(lost)?;
            if (got as u64) < missing {
                return Err(lost(ErrorKind::UnexpectedEof.into()));
            }
            drop(server);
            connection.spare_since.store(self.now_ms() + SLOW_CLIENT.as_millis() as u64, Ordering::SeqCst);
            connection.write_all(&text, Instant::now() + CLIENT_TIMEOUT).map_err(|_| Refusal::Gone)?;
        }
        Ok(if head.close { End::Close } else { End::KeepAlive })
    }
}

/// The begin of an answer of the server.
struct Answer {
    status: u16,
    /// Status line and headers with their line ends, without the empty line and, where there is no body, without a length.
    head: Vec<u8>,
    length: u64,
    /// Bytes of the body that came with the head.
    begun: Vec<u8>,
}

impl Answer {
    /// The server is ours and always tells a length.
    fn read(server: &mut UnixStream) -> io::Result<Self> {
        let bad = |what: &str| io::Error::new(ErrorKind::InvalidData, what);
        let mut bytes = Vec::new();
        let mut piece = vec![0; ANSWER_HEAD_BYTES_MAX];
        let end = loop {
            let count = server.read(&mut piece)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let searched = bytes.len();
            bytes.extend_from_slice(&piece[..count]);
            if let Some(end) = head::find_end(&bytes, searched) {
                break end;
            }
            if bytes.len() > ANSWER_HEAD_BYTES_MAX {
                return Err(bad("the head of the answer does not end"));
            }
        };
        let begun = bytes.split_off(end);
        let text = std::str::from_utf8(&bytes).map_err(|_| bad("the head of the answer is not text"))?;
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| bad("the answer has no status"))?;
        let (mut head, mut length) = (Vec::with_capacity(end), None);
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("Content-Length")
            {
                length = value.trim().parse().ok();
                if matches!(status, 204 | 304) {
                    continue;
                }
            }
            head.extend_from_slice(line.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        Ok(Self { status, head, length: length.ok_or_else(|| bad("the answer has no length"))?, begun })
    }
}

impl Connection {
    /// Appends what comes next, at least one byte.
    fn read(&self, buffer: &mut Vec<u8>, until: Instant) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match (&self.stream).read(&mut piece) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer.extend_from_slice(&piece[..count]);
                    return Ok(());
                }
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write_all(&self, mut bytes: &[u8], until: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_write_timeout(Some(left))?;
            match (&self.stream).write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn shutdown(&self) {
        // Fails only if the peer is gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Ends our side and reads on for a moment: closing with unread bytes would reset the connection before the client has our answer.
    fn linger(&self) {
        let until = Instant::now() + LINGER_TIMEOUT;
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let (mut dropped, mut total) = (Vec::new(), 0);
        while total < LINGER_BYTES_MAX && self.read(&mut dropped, until).is_ok() {
            total += dropped.len();
            dropped.clear();
        }
    }
}

/// Takes the connection out of the table when its thread ends, however it ends.
struct Leave {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        table.open.remove(&self.id);
        table.threads -= 1;
        self.shared.thread_ended.notify_all();
    }
}

/// A share of [`BUFFER_BYTES_MAX`], given back when dropped.
struct Lease<'a> {
    shared: &'a Shared,
    bytes: usize,
}

impl Lease<'_> {
    /// Makes room for `bytes` in all; the first [`FREE_BYTES`] of a connection are free.
    fn grow_to(&mut self, bytes: usize) -> Result<(), Refusal> {
        let more = bytes.saturating_sub(FREE_BYTES).saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let take = |used: usize| used.checked_add(more).filter(|used| *used <= BUFFER_BYTES_MAX);
        match self.shared.buffered.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(_) => {
                self.bytes += more;
                Ok(())
            }
            Err(_) => Err(busy("Too many large requests at one time.")),
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.shared.buffered.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// An answer of the gate itself, in the envelope of the API.
fn answer_bytes(status: u16, error: &ApiError, close: bool) -> Vec<u8> {
    let answer = envelope(Err(error), &uuid::Uuid::new_v4().to_string());
    let Body::Bytes(body) = answer.body else { return Vec::new() };
    let reason = match status {
        400 => "Bad Request",
        408 => "Request Timeout",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    };
    let connection = if close { "Connection: close\r\n" } else { "" };
    let head = format!("HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{connection}\r\n", body.len());
    [head.into_bytes(), body].concat()
}
