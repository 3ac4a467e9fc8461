//! The log: lines on standard error, as text or JSON.
//!
//! Whoever logs hands its line over and goes on. A thread writes them: standard error may be a pipe that nobody reads, a terminal that was stopped or a file
//! on a disk that hangs, and none of them may hold up a stream.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error;
use std::io::{self, Write};
use std::iter::successors;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{LogConfig, LogFormat};

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("`log.level` = \"{level}\" is no level and no filter")]
    Filter { level: String, source: tracing_subscriber::filter::ParseError },
    #[error("a log was set up before")]
    Again { source: TryInitError },
    #[error("cannot start the log thread")]
    Thread { source: io::Error },
}

/// Lines that wait to be written; what comes beyond them is lost, and counted.
const LINES_MAX: usize = 16_384;
/// Their bytes. A line by itself is seldom longer than 300.
const BYTES_MAX: usize = 4 << 20;
/// Written at once.
const BATCH_BYTES: usize = 64 << 10;
/// The end of the process waits this long for the lines before it.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);
/// Whoever logs waits this long for its line, so that who has an answer finds the line of its call; while others wait already, not at all.
const LINE_PATIENCE: Duration = Duration::from_millis(20);
/// Threads whose names begin with this never wait: the ingest cores.
const CORES: &str = "ingest-";

/// Starts the process's log. To be called once, before the first thread.
///
/// # Errors
/// [`LoggingError::Filter`] for a filter that `Config::parse` did not see, [`LoggingError::Again`] for a second call, [`LoggingError::Thread`].
pub fn init(config: &LogConfig) -> Result<(), LoggingError> {
    let filter = EnvFilter::try_new(&config.level).map_err(|source| LoggingError::Filter { level: config.level.clone(), source })?;
    let queue = QUEUE.get_or_init(Queue::default);
    let writer = || Line(queue);
    // A log that cannot be written, its disk being full, must cost nothing but its lines: to complain of it would panic.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    let started = match config.format {
        // Colors only for people: journals and files keep the escape codes.
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(|source| LoggingError::Again { source })?;
    let thread = std::thread::Builder::new().name("log".to_owned());
    thread.spawn(|| write_all(queue, io::stderr())).map_err(|source| LoggingError::Thread { source })?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// The usual hook writes to standard error itself, and would wait for it.
fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let (thread, message) = (thread.name().unwrap_or("?"), info.payload_as_str().unwrap_or("no text"));
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let trace = Backtrace::capture();
    // Whether there is one, the environment says.
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    tracing::error!(thread, place, message, trace, "panicked");
}

/// Waits until the lines so far are written, but not for long. For the end of the process, and before something is said on standard error beside the log.
pub fn flush() {
    QUEUE.get().into_iter().for_each(|queue| queue.flush(FLUSH_PATIENCE));
}

static QUEUE: OnceLock<Queue> = OnceLock::new();

enum Entry {
    Line(Vec<u8>),
    /// Dropped when everything before it is written.
    Flush(Sender<()>),
}

struct Queue {
    sender: Sender<Entry>,
    receiver: Receiver<Entry>,
    bytes: AtomicUsize,
    lost: AtomicU64,
}

impl Default for Queue {
    fn default() -> Self {
        let (sender, receiver) = bounded(LINES_MAX);
        Self { sender, receiver, bytes: AtomicUsize::new(0), lost: AtomicU64::new(0) }
    }
}

impl Queue {
    /// True: nothing waited before it.
    fn put(&self, line: &[u8]) -> bool {
        let before = self.bytes.fetch_add(line.len(), Relaxed);
        if before + line.len() > BYTES_MAX || self.sender.try_send(Entry::Line(line.to_vec())).is_err() {
            self.bytes.fetch_sub(line.len(), Relaxed);
            self.lost.fetch_add(1, Relaxed);
        }
        before == 0
    }

    fn flush(&self, patience: Duration) {
        let (done, wait) = bounded(0);
        if self.sender.send_timeout(Entry::Flush(done), patience).is_ok() {
            // Gone without an answer is as good: nobody writes any more.
            let _ = wait.recv_timeout(patience);
        }
    }
}

/// The writer of one line, which comes in one piece.
struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let was_idle = self.0.put(line);
        if std::thread::panicking() {
            // The process may abort next, and this tells why.
            self.0.flush(FLUSH_PATIENCE);
        } else if was_idle && !std::thread::current().name().is_some_and(|name| name.starts_with(CORES)) {
            self.0.flush(LINE_PATIENCE);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what comes, many lines at once when there are many. What cannot be written costs nothing but its lines.
fn write_all(queue: &Queue, mut out: impl Write) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    let mut flushed = Vec::new();
    while let Ok(first) = queue.receiver.recv() {
        for entry in std::iter::once(first).chain(queue.receiver.try_iter()) {
            match entry {
                Entry::Line(line) => {
                    batch.extend_from_slice(&line);
                    // Not before it is on its way: what is being written counts as waiting.
                    if batch.len() >= BATCH_BYTES {
                        break;
                    }
                }
                Entry::Flush(done) => {
                    flushed.push(done);
                    break;
                }
            }
        }
        let _ = out.write_all(&batch);
        queue.bytes.fetch_sub(batch.len(), Relaxed);
        batch.clear();
        flushed.clear();
        let lost = queue.lost.swap(0, Relaxed);
        if lost > 0 {
            tracing::warn!(lines = lost, "nobody took the log for a while: lines are missing before this one");
        }
    }
}

/// An error and what caused it, in one line.
pub fn error_chain(error: &dyn Error) -> String {
    successors(Some(error), |error: &&dyn Error| (*error).source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;

    /// Takes a batch each time somebody receives it.
    struct Slow(mpsc::SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_costs_its_lines_and_holds_nobody_up() {
        let queue = Arc::new(Queue::default());
        let (out, taken) = mpsc::sync_channel(0);
        let writer = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || write_all(&queue, Slow(out))
        });
        let line = |number: usize| format!("{number:>999}\n");
        let sent = 2 * BYTES_MAX / 1000;
        for number in 0..sent {
            assert_eq!(Line(&queue).write(line(number).as_bytes()).expect("never an error"), 1000);
        }
        let lost = queue.lost.load(Relaxed) as usize;
        assert!(lost > 0 && queue.bytes.load(Relaxed) <= BYTES_MAX, "{lost}");
        let (done, wait) = bounded::<()>(0);
        queue.sender.try_send(Entry::Flush(done)).expect("its place is not among the bytes");
        let mut written = String::new();
        while wait.try_recv() == Err(crossbeam::channel::TryRecvError::Empty) {
            if let Ok(batch) = taken.recv_timeout(Duration::from_millis(1)) {
                written.push_str(std::str::from_utf8(&batch).expect("digits"));
            }
        }
        let numbers: Vec<usize> = written.lines().map(|line| line.trim().parse().expect("whole lines")).collect();
        assert_eq!(numbers, (0..sent - lost).collect::<Vec<_>>(), "in order, and what came first");
        assert_eq!((queue.bytes.load(Relaxed), queue.lost.load(Relaxed)), (0, 0));
        drop(taken);
        // Nor does one that is gone.
        Line(&queue).write_all(b"x\n").expect("never an error");
        let (done, wait) = bounded::<()>(0);
        queue.sender.send(Entry::Flush(done)).expect("a reader");
        assert!(wait.recv_timeout(Duration::from_secs(60)).is_err());
        drop(writer);
    }
}
