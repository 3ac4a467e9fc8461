//! One client connection behind the gate: requests read completely within bounds and deadlines, handed to the server, answers carried back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::counters::count;
use super::errors::{ApiError, refuse};
use super::gate::Shared;
use super::head::{self, Chunked, Framing, HEAD_BYTES_MAX, Head, HeadError};
use super::http::Body;
use super::protocol::{GET_BYTES_MAX, JSON_BYTES_MAX, body_bytes_max, envelope};
use crate::delivery::resolve::is_media;

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
/// How long we read on after our last answer, so that the client sees it instead of a reset.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 16 << 20;
/// A client that takes its answer slower than this may be closed for a new one.
const SLOW_CLIENT: Duration = Duration::from_secs(5);

/// Bodies and answers beyond [`FREE_BYTES`] that are in memory at one time, all connections together.
const BUFFER_BYTES_MAX: usize = 64 << 20;
const FREE_BYTES: usize = 64 << 10;
/// An answer that is not a file. The largest is a full page of SearchMedia.
const ANSWER_BYTES_MAX: usize = 48 << 20;
const ANSWER_HEAD_BYTES_MAX: usize = 16 << 10;
const RELAY_BYTES: usize = 64 << 10;

const _: () = assert!(ANSWER_BYTES_MAX <= BUFFER_BYTES_MAX && JSON_BYTES_MAX <= BUFFER_BYTES_MAX);

pub(super) struct Connection {
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

impl Connection {
    /// `now_ms`: see [`Shared::now_ms`].
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, now_ms: u64) -> Self {
        Self { stream, peer, spare_since: AtomicU64::new(now_ms) }
    }

    /// Since when this connection may be closed for a new one; may lie in the future. `None`: it must not.
    pub(super) fn spare_since(&self) -> Option<u64> {
        Some(self.spare_since.load(Ordering::SeqCst)).filter(|since| *since != 0)
    }

    /// Says why it is not served; nobody waits for the client to take it.
    pub(super) fn refuse(&self, answer: &[u8]) {
        let _ = self.stream.set_nonblocking(true);
        let _ = (&self.stream).write(answer);
    }

    /// All requests of this connection.
    pub(super) fn serve(&self, shared: &Shared) {
        let _ = self.stream.set_nodelay(true);
        let mut buffer = Vec::new();
        loop {
            self.spare_since.store(shared.now_ms(), Ordering::SeqCst);
            if shared.stopping.load(Ordering::SeqCst) {
                return;
            }
            let mut lease = Lease { shared, bytes: 0 };
            let refusal = match self.read_request(&mut buffer, &mut lease) {
                Ok((head, body)) => match self.forward(shared, &head, &body) {
                    Ok(End::KeepAlive) => continue,
                    Ok(End::Close) => return self.linger(),
                    Err(refusal) => refusal,
                },
                Err(refusal) => refusal,
            };
            if let Refusal::Answer { status, error } = refusal {
                let counters = &shared.control.counters;
                counters.request(status);
                match status {
                    413 | 431 => count(&counters.too_large),
                    408 => count(&counters.timed_out),
                    503 => count(&counters.refused),
                    _ => count(&counters.malformed),
                }
                tracing::debug!(peer = %self.peer, status, reason = error.message, "an HTTP request was refused");
                if self.write_all(&answer_bytes(status, &error), Instant::now() + CLIENT_TIMEOUT).is_ok() {
                    self.linger();
                }
            }
            return;
        }
    }

    /// Reads one request; what follows it stays in `buffer`.
    fn read_request(&self, buffer: &mut Vec<u8>, lease: &mut Lease<'_>) -> Result<(Head, Vec<u8>), Refusal> {
        let idle_until = Instant::now() + IDLE_TIMEOUT;
        // Empty lines before a request are to be ignored (RFC 9112, 2.2).
        loop {
            while buffer.starts_with(b"\r\n") {
                buffer.drain(..2);
            }
            if !buffer.is_empty() && buffer != b"\r" {
                break;
            }
            self.read(buffer, idle_until).map_err(|_| Refusal::Gone)?;
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
            self.read(buffer, head_until).map_err(slow_or_gone)?;
        };
        let head = head::parse(&buffer[..end])?;
        buffer.drain(..end);
        let is_api = head.path() == "/";
        if is_api && head.method == "GET" && end > GET_BYTES_MAX {
            return Err(HeadError::TooLarge(GET_BYTES_MAX).into());
        }
        let content_type = head.header("Content-Type").map_or("", |value| value.split(';').next().unwrap_or_default().trim());
        let bytes_max = if is_api { body_bytes_max(&head.method, content_type) } else { GET_BYTES_MAX };
        let body = self.read_body(&head, bytes_max, buffer, lease)?;
        Ok((head, body))
    }

    fn read_body(&self, head: &Head, bytes_max: usize, buffer: &mut Vec<u8>, lease: &mut Lease<'_>) -> Result<Vec<u8>, Refusal> {
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
                self.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", until).map_err(|_| Refusal::Gone)?;
            }
            // Room grows with what has come, not with what was announced.
            lease.grow_to(body.len() + RELAY_BYTES)?;
            self.read(buffer, until).map_err(slow_or_gone)?;
        }
    }

    /// Hands a request to the server and its answer to the client.
    fn forward(&self, shared: &Shared, head: &Head, body: &[u8]) -> Result<End, Refusal> {
        self.spare_since.store(0, Ordering::SeqCst);
        let lost = |error: io::Error| {
            tracing::warn!(%error, "the HTTP server behind the gate did not answer");
            busy("The server did not answer in time.")
        };
        let mut server = shared.connect_to_server().map_err(lost)?;
        server.set_read_timeout(Some(SERVER_TIMEOUT)).map_err(lost)?;
        server.set_write_timeout(Some(SERVER_TIMEOUT)).map_err(lost)?;
        server.write_all(&head.for_server(self.peer, body.len())).and_then(|()| server.write_all(body)).map_err(lost)?;
        let mut answer = Answer::read(&mut server).map_err(lost)?;
        let has_body = head.method != "HEAD" && !matches!(answer.status, 204 | 304);
        let mut left = if has_body { answer.length } else { 0 };
        let mut text = std::mem::take(&mut answer.head);
        if head.close {
            text.extend_from_slice(b"Connection: close\r\n");
        }
        text.extend_from_slice(b"\r\n");
        let is_file = is_media(head.path());
        if is_file {
            self.write_all(&text, Instant::now() + CLIENT_TIMEOUT).map_err(|_| Refusal::Gone)?;
            let mut piece = std::mem::take(&mut answer.begun);
            loop {
                let count = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.write_all(&piece[..count], Instant::now() + CLIENT_TIMEOUT).map_err(|_| Refusal::Gone)?;
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
            let mut lease = Lease { shared, bytes: 0 };
            lease.grow_to(length)?;
            text.reserve(length);
            text.extend_from_slice(&answer.begun[..answer.begun.len().min(length)]);
            let missing = (length - answer.begun.len().min(length)) as u64;
            let got = (&mut server).take(missing).read_to_end(&mut text).map_err(lost)?;
            if (got as u64) < missing {
                return Err(lost(ErrorKind::UnexpectedEof.into()));
            }
            drop(server);
            self.spare_since.store(shared.now_ms() + SLOW_CLIENT.as_millis() as u64, Ordering::SeqCst);
            self.write_all(&text, Instant::now() + CLIENT_TIMEOUT).map_err(|_| Refusal::Gone)?;
        }
        Ok(if head.close { End::Close } else { End::KeepAlive })
    }

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

    pub(super) fn shutdown(&self) {
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

/// An answer of the gate itself, in the envelope of the API. The connection is closed after it.
pub(super) fn answer_bytes(status: u16, error: &ApiError) -> Vec<u8> {
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
    let head = format!("HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.into_bytes(), body].concat()
}
