//! The HTTP server: tiny_http behind the gate, on a private Unix socket, with worker threads.

use std::fs::DirBuilder;
use std::io::{self, Cursor, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use tiny_http::{Header, Request, Response, StatusCode};

use super::ControlContext;
use super::actions::Waiting;
use super::counters::count;
use super::gate::Gate;
use super::head::PEER_HEADER;
use super::http::{Body, HttpAnswer, HttpRequest};
use super::protocol::JSON_BYTES_MAX;
use super::router::{Control, Handled};

/// A file this long or longer gets a thread of its own while it is sent; anything shorter fits into the socket's buffer.
const OWN_THREAD_BYTES_MIN: u64 = 64 << 10;
const STACK_BYTES: usize = 256 << 10;
/// Those that it starts at once, and one to spare.
const THREADS_OF_TINY_HTTP: usize = 6;
/// Shortest life of a server that replaced another.
const RESTART_INTERVAL: Duration = Duration::from_millis(200);

/// The running control plane; [`Server::stop`] ends it.
pub struct Server {
    gate: Gate,
    inner: Arc<Inner>,
    workers: Vec<JoinHandle<()>>,
}

impl Server {
    /// Serves HTTP on `listener`.
    ///
    /// # Errors
    /// If the private socket or a thread cannot be made.
    pub fn start(listener: TcpListener, context: Arc<ControlContext>) -> io::Result<Self> {
        let control = Arc::new(Control::new(context));
        let inner = Arc::new(Inner::start(control.clone())?);
        let mut workers = Vec::new();
        for index in 0..control.context.limits.workers.max(1) {
            let inner = inner.clone();
            workers.push(Builder::new().name(format!("http-{index}")).spawn(move || inner.work())?);
        }
        let connect = {
            let inner = inner.clone();
            Box::new(move || inner.connect())
        };
        Ok(Self { gate: Gate::start(listener, control, connect)?, inner, workers })
    }

    /// Closes the listener, lets running requests end and returns when the workers did.
    pub fn stop(mut self) {
        self.end();
    }

    /// Calls that wait for something to tell, in threads of their own.
    #[cfg(test)]
    pub fn calls_waiting(&self) -> usize {
        self.inner.calls_waiting.load(Ordering::SeqCst)
    }

    fn end(&mut self) {
        self.inner.control.context.catalog.stop_waiting_for_events();
        self.gate.stop();
        self.inner.stopping.store(true, Ordering::SeqCst);
        self.inner.wake_workers(&self.inner.current());
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("an HTTP worker had panicked");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// tiny_http and what is needed to start it anew: its accept thread ends at the first error (a process without free descriptors is enough).
struct Inner {
    control: Arc<Control>,
    stopping: AtomicBool,
    current: Mutex<Arc<Generation>>,
    /// Files being sent by threads of their own.
    files_open: Arc<AtomicUsize>,
    /// Calls that wait in threads of their own.
    calls_waiting: Arc<AtomicUsize>,
    /// Holds the socket; readable by us alone. Dropped last.
    folder: PrivateFolder,
}

struct Generation {
    number: u64,
    begun: Instant,
    path: PathBuf,
    server: tiny_http::Server,
}

impl Generation {
    fn start(folder: &PrivateFolder, number: u64) -> io::Result<Arc<Self>> {
        let path = folder.0.join(number.to_string());
        probe_threads()?;
        // Of an attempt that failed.
        let _ = std::fs::remove_file(&path);
        let made = catch_unwind(|| tiny_http::Server::http_unix(&path).map_err(io::Error::other));
        let server = made.unwrap_or_else(|_| Err(no_threads()))?;
        Ok(Arc::new(Self { number, begun: Instant::now(), path, server }))
    }
}

fn no_threads() -> io::Error {
    io::Error::other("there are no more threads for this process: raise the limit with `ulimit -u` or TasksMax= in the systemd unit")
}

/// tiny_http panics where there is no thread for it.
fn probe_threads() -> io::Result<()> {
    let (end, ended) = bounded::<()>(0);
    let wait = || {
        let ended = ended.clone();
        Builder::new().spawn(move || _ = ended.recv())
    };
    let begun: Vec<io::Result<JoinHandle<()>>> = (0..THREADS_OF_TINY_HTTP).map(|_| wait()).collect();
    let all = begun.iter().all(Result::is_ok);
    drop(end);
    begun.into_iter().flatten().for_each(|thread| _ = thread.join());
    if all { Ok(()) } else { Err(no_threads()) }
}

impl Inner {
    fn start(control: Arc<Control>) -> io::Result<Self> {
        let folder = PrivateFolder::create()?;
        let current = Mutex::new(Generation::start(&folder, 0)?);
        Ok(Self { control, stopping: AtomicBool::new(false), current, files_open: Arc::default(), calls_waiting: Arc::default(), folder })
    }

    fn current(&self) -> Arc<Generation> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wake_workers(&self, generation: &Generation) {
        for _ in 0..self.control.context.limits.workers.max(1) {
            generation.server.unblock();
        }
    }

    /// A connection for one request; starts the server anew if it stopped accepting.
    fn connect(&self) -> io::Result<UnixStream> {
        let generation = self.current();
        match UnixStream::connect(&generation.path) {
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                let next = self.restart(generation.number)?;
                UnixStream::connect(&next.path)
            }
            outcome => outcome,
        }
    }

    /// Replaces generation `failed`; several connections may find it dead at the same time.
    fn restart(&self, failed: u64) -> io::Result<Arc<Generation>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.number != failed {
            return Ok(current.clone());
        }
        // The threads of an old server stay for seconds; do not let them pile up.
        if current.number > 0 && current.begun.elapsed() < RESTART_INTERVAL {
            return Err(io::Error::other("the HTTP server was started anew a moment ago"));
        }
        count(&self.control.counters.restarts);
        tracing::warn!("the HTTP server had stopped accepting; starting it anew");
        let next = Generation::start(&self.folder, failed + 1)?;
        let old = std::mem::replace(&mut *current, next.clone());
        drop(current);
        self.wake_workers(&old);
        Ok(next)
    }

    /// A worker thread: one request after the other.
    fn work(&self) {
        while !self.stopping.load(Ordering::SeqCst) {
            let generation = self.current();
            // An error means to look again: this server was replaced, or we stop, or it died and the next connection replaces it.
            match generation.server.recv() {
                Ok(request) => self.answer(request),
                Err(error) => tracing::debug!(%error, "an HTTP worker looks for its server"),
            }
        }
    }

    fn answer(&self, mut request: Request) {
        let http = match read(&mut request) {
            Ok(http) => http,
            // Cannot happen behind the gate but for a vanished connection.
            Err(error) => return tracing::debug!(%error, "a request broke off"),
        };
        let answer = match self.control.handle(&http) {
            Handled::Answer(answer) => answer,
            Handled::Waits => return self.answer_waiting(request, http),
        };
        let is_long = http.method != "HEAD" && matches!(&answer.body, Body::File(file) if file.length >= OWN_THREAD_BYTES_MIN);
        if !is_long {
            return respond(request, answer);
        }
        // A quarter of the connections stays for the API, however many files are being fetched.
        let files_max = (self.control.context.limits.connections_max * 3 / 4).max(1);
        let slot = Slot(self.files_open.clone());
        if self.files_open.fetch_add(1, Ordering::SeqCst) >= files_max {
            count(&self.control.counters.refused);
            return respond(request, HttpAnswer::text(503, "text/plain", "Too many downloads at one time.\n"));
        }
        // If there is no thread the request is dropped with the closure, which answers 500.
        let spawned = Builder::new().name("http-file".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            let _slot = slot;
            respond(request, answer);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a download");
        }
    }
}

impl Inner {
    /// Answers a call that may wait in a thread of its own: the few workers are for calls that do not. When too many wait already, this one is answered
    /// with what there is; its client asks again.
    fn answer_waiting(&self, request: Request, http: HttpRequest) {
        let control = self.control.clone();
        let slot = Slot(self.calls_waiting.clone());
        // Each holds a connection too: most of them stay for others.
        let waiting_max = (control.context.limits.connections_max / 4).max(1);
        if self.calls_waiting.fetch_add(1, Ordering::SeqCst) >= waiting_max {
            return respond(request, control.answer(&http, Waiting::Not));
        }
        // If there is no thread the request is dropped with the closure, which answers 500.
        let spawned = Builder::new().name("http-wait".to_owned()).spawn(move || {
            let _slot = slot;
            respond(request, control.answer(&http, Waiting::Allowed));
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a call that waits");
        }
    }
}

/// One of the files being sent, or of the calls that wait.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn read(request: &mut Request) -> io::Result<HttpRequest> {
    let mut body = Vec::new();
    // The gate bounds the body; this only says so again.
    request.as_reader().take(JSON_BYTES_MAX as u64 + 1).read_to_end(&mut body)?;
    let headers: Vec<(String, String)> =
        request.headers().iter().map(|header| (header.field.as_str().as_str().to_owned(), header.value.as_str().to_owned())).collect();
    let peer = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(PEER_HEADER)).and_then(|(_, value)| value.parse::<SocketAddr>().ok());
    Ok(HttpRequest { method: request.method().as_str().to_owned(), target: request.url().to_owned(), headers, body, peer })
}

fn respond(request: Request, answer: HttpAnswer) {
    let mut headers = Vec::with_capacity(answer.headers.len() + 1);
    for (name, value) in [("Server", "capstan".to_owned())].into_iter().chain(answer.headers) {
        match Header::from_bytes(name, value) {
            Ok(header) => headers.push(header),
            Err(()) => tracing::error!(name, "an answer's header is not ASCII"),
        }
    }
    let status = StatusCode(answer.status);
    // Always with a length: the gate and the clients count on it.
    let sent = match answer.body {
        Body::Bytes(bytes) => {
            let length = bytes.len();
            request.respond(Response::new(status, headers, Cursor::new(bytes), Some(length), None).with_chunked_threshold(usize::MAX))
        }
        Body::File(file) => {
            let size = usize::try_from(file.length).ok();
            request.respond(Response::new(status, headers, file, size, None).with_chunked_threshold(usize::MAX))
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer broke off");
    }
}

/// A folder that only this user can enter, removed when dropped.
struct PrivateFolder(PathBuf);

impl PrivateFolder {
    fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("capstan-{}", uuid::Uuid::new_v4().simple()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, "removing the HTTP server's socket folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Running;

    #[test]
    fn a_server_that_stopped_accepting_is_replaced() {
        let running = Running::start();
        let inner = &running.server.as_ref().unwrap().inner;
        assert_eq!(running.code("DescribeLiveRecordRules"), "ok");
        // Nobody can reach it any more; all workers wait for it.
        std::fs::remove_file(&inner.current().path).unwrap();
        for _ in 0..3 {
            assert_eq!(running.code("DescribeLiveRecordRules"), "ok");
        }
        assert_eq!(inner.current().number, 1);
    }
}
