//! The accept gate in front of the HTTP server: everything slow, endless, idle or malformed ends here.
//!
//! The HTTP library sets no time-outs, bounds no header, adds threads without limit and stops accepting at the first error. So the gate accepts,
//! reads each request completely within bounds and deadlines, hands it on over a private connection of its own, and carries the answer back.
//! The server behind it sees only complete, unambiguous requests and never waits for a client.
//!
//! A connection has a thread of its own; there are at most `connections_max` of them. When all are taken, the one that has waited longest for a
//! request makes room, so that any number of idle connections keeps nobody out.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::{Connection, answer_bytes};
use super::counters::count;
use super::errors::refuse;
use super::router::Control;

/// After a failed accept (no descriptors or memory), before the next.
const ACCEPT_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Both ends of the connection to the server, the library's copy of one, and a file.
const DESCRIPTORS_A_REQUEST: usize = 4;
/// For the thread of an evicted connection to end.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(1);
/// How long running requests may go on when the gate stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// The threads read and write through heap buffers and call nothing deep.
const STACK_BYTES: usize = 256 << 10;

/// Opens a connection to the server behind the gate.
pub type Connect = Box<dyn Fn() -> io::Result<UnixStream> + Send + Sync>;

/// The running gate; [`Gate::stop`] ends it.
pub struct Gate {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    waker: UnixStream,
}

/// What the accept thread and the connections have in common.
pub(super) struct Shared {
    pub(super) control: Arc<Control>,
    connect: Connect,
    connections_max: usize,
    pub(super) stopping: AtomicBool,
    begun: Instant,
    table: Mutex<Table>,
    thread_ended: Condvar,
    /// Bytes of requests and answers in memory, beyond the little that every connection may hold.
    pub(super) buffered: AtomicUsize,
}

#[derive(Default)]
struct Table {
    open: HashMap<u64, Arc<Connection>>,
    next: u64,
    /// Includes evicted connections whose threads have not ended yet.
    threads: usize,
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
            if connection.spare_since().is_some() {
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

    /// Since the gate began, plus 1.
    pub(super) fn now_ms(&self) -> u64 {
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
            let _ = (&stream).write(&answer_bytes(503, &refuse("RequestLimitExceeded", "Too many connections are busy.")));
            return;
        }
        let id = table.next;
        table.next += 1;
        let connection = Arc::new(Connection::new(stream, peer, self.now_ms()));
        table.open.insert(id, connection.clone());
        table.threads += 1;
        drop(table);
        let shared = self.clone();
        let leave = Leave { shared: shared.clone(), id };
        let unserved = connection.clone();
        let spawned = Builder::new().name("http-connection".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            let _leave = leave;
            connection.serve(&shared);
        });
        if let Err(error) = spawned {
            // The closure was dropped, and with it the connection left the table.
            count(&self.control.counters.refused);
            tracing::warn!(%error, "no thread for an HTTP connection");
            unserved.refuse(&answer_bytes(503, &refuse("RequestLimitExceeded", "The system has no thread for this connection.")));
            // One that waits for its client's next request has a thread that can be spared.
            self.evict_some();
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
        let spare = |connection: &Connection| connection.spare_since().filter(|since| *since <= now);
        let oldest = table.open.iter().filter_map(|(id, connection)| spare(connection).map(|since| (since, *id))).min();
        let Some(connection) = oldest.and_then(|(_, id)| table.open.remove(&id)) else { return false };
        count(&self.control.counters.evicted);
        connection.shutdown();
        true
    }

    /// A connection to the server; if descriptors are used up, idle clients give theirs.
    pub(super) fn connect_to_server(&self) -> io::Result<UnixStream> {
        match (self.connect)() {
            Err(_) if self.evict_some() => (self.connect)(),
            outcome => outcome,
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
