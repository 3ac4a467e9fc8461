//! Messages to systemd: ready, stopping, and the watchdog's sign of life; without systemd nothing is sent. And the watch over a stop that takes long.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sd_notify::NotifyState;

/// The watchdog thread, if systemd asked for one. Ends when dropped.
#[derive(Debug)]
pub struct Supervisor {
    /// The cores tick no more; the watch over the stop looks after it.
    is_stopping: Arc<AtomicBool>,
    /// Dropping it ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Tells systemd that we are ready and starts the watchdog thread if `WATCHDOG_USEC` is set.
    ///
    /// `alive` is asked twice in each watchdog interval. While it says false nothing is sent, so that systemd restarts us: it must
    /// be true only if every ingest core passed its tick since a moment ago, and it must not block.
    ///
    /// # Errors
    /// If the message cannot be sent or the thread cannot be started.
    pub fn ready(status: &str, mut alive: impl FnMut() -> bool + Send + 'static) -> io::Result<Self> {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&is_stopping);
        let alive = move || stopping.load(Ordering::Relaxed) || alive();
        let thread = match sd_notify::watchdog_enabled() {
            Some(interval) => Some(watch(interval / 2, alive, || sd_notify::notify(&[NotifyState::Watchdog]))?),
            None => None,
        };
        sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))])?;
        let (stop, thread) = thread.unzip();
        Ok(Self { is_stopping, stop, thread })
    }

    /// Tells systemd that we are finishing files.
    ///
    /// # Errors
    /// If the message cannot be sent.
    pub fn stopping(&self, status: &str) -> io::Result<()> {
        self.is_stopping.store(true, Ordering::Relaxed);
        sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))])
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic in `alive` is in the log already, and systemd hears of it by our silence.
            let _ = thread.join();
        }
    }
}

/// A part of the stop that takes longer than this is told, again and again.
const TELL: Duration = Duration::from_secs(5);
/// A stop that takes longer than this is given up: below the unit's `TimeoutStopSec`, so that the log says why.
pub const STOP_MAX: Duration = Duration::from_secs(110);

/// Watches over a stop: tells which part of it takes long, and gives the stop up when it takes too long. Ends when dropped.
#[derive(Debug)]
pub struct StopWatch {
    /// Dropping it ends the thread.
    parts: Option<Sender<&'static str>>,
    thread: Option<JoinHandle<()>>,
}

impl StopWatch {
    /// `give_up` is called when the stop takes longer than [`STOP_MAX`].
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(give_up: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        Self::with_times((TELL, STOP_MAX), tell_part, give_up)
    }

    fn with_times(
        (tell_after, stop_max): (Duration, Duration),
        mut tell: impl FnMut(&'static str, Duration) + Send + 'static,
        give_up: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (parts, queue) = bounded::<&'static str>(64);
        let thread = std::thread::Builder::new().name("stop-watch".to_owned()).spawn(move || {
            let begun = Instant::now();
            let (mut part, mut since) = ("", begun);
            loop {
                match queue.recv_timeout(tell_after) {
                    Ok(next) => (part, since) = (next, Instant::now()),
                    Err(RecvTimeoutError::Timeout) => tell(part, since.elapsed()),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if begun.elapsed() >= stop_max {
                    return give_up();
                }
            }
        })?;
        Ok(Self { parts: Some(parts), thread: Some(thread) })
    }

    /// The stop has come to this part.
    pub fn part(&self, name: &'static str) {
        // The queue holds every part.
        self.parts.iter().for_each(|parts| _ = parts.try_send(name));
    }
}

impl Drop for StopWatch {
    fn drop(&mut self) {
        self.parts = None;
        if let Some(thread) = self.thread.take() {
            // It holds nothing, and a panic is in the log.
            let _ = thread.join();
        }
    }
}

fn tell_part(part: &'static str, waited: Duration) {
    tracing::warn!(waiting_for = part, seconds = waited.as_secs(), threads = threads(), "stopping takes long");
}

/// The names of the threads that run.
fn threads() -> String {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let names: BTreeSet<String> = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect();
    names.iter().map(|name| name.trim()).collect::<Vec<_>>().join(" ")
}

/// A line break would begin another message.
fn one_line(status: &str) -> String {
    status.replace(['\n', '\r'], " ")
}

fn watch(
    interval: Duration,
    mut alive: impl FnMut() -> bool + Send + 'static,
    mut send: impl FnMut() -> io::Result<()> + Send + 'static,
) -> io::Result<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped): (Sender<()>, Receiver<()>) = bounded(0);
    let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            if !alive() {
                tracing::error!("an ingest core stands still: no sign of life to the watchdog");
            } else if let Err(error) = send() {
                tracing::warn!(%error, "cannot reach systemd's notification socket");
            }
        }
    })?;
    Ok((stop, thread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::unbounded;

    #[test]
    fn signs_of_life_are_sent_while_alive_and_end_with_the_supervisor() {
        let (asked, sent) = (unbounded(), unbounded());
        let mut answers = [true, false, true, true].into_iter();
        let alive = move || {
            let answer = answers.next().unwrap_or(false);
            let _ = asked.0.send(answer);
            answer
        };
        let send = move || {
            let _ = sent.0.send(());
            // A failure is logged and the next interval tries again.
            Err(io::Error::other("no socket"))
        };
        let (stop, thread) = watch(Duration::from_millis(1), alive, send).expect("a thread");
        let answers: Vec<bool> = asked.1.iter().take(6).collect();
        assert_eq!(answers, [true, false, true, true, false, false]);
        drop(Supervisor { is_stopping: Arc::default(), stop: Some(stop), thread: Some(thread) });
        assert_eq!(sent.1.iter().count(), 3, "one for each time it was alive; the sender ended with the thread");
    }

    #[test]
    fn a_stop_that_takes_long_is_told_and_given_up() {
        let (told, tellings) = unbounded();
        let (gave_up, given_up) = unbounded();
        let times = (Duration::from_millis(1), Duration::from_millis(50));
        let watch = StopWatch::with_times(times, move |part, _| _ = told.send(part), move || _ = gave_up.send(())).expect("a thread");
        watch.part("cores");
        assert!(tellings.iter().any(|part| part == "cores"));
        watch.part("disks");
        assert!(tellings.iter().any(|part| part == "disks"));
        given_up.recv().expect("given up");
        drop(watch);
        assert!(!threads().is_empty());
    }

    #[test]
    fn a_stop_in_time_is_not_given_up() {
        let watch = StopWatch::start(|| panic!("it is over")).expect("a thread");
        watch.part("cores");
        drop(watch);
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(one_line("a\nREADY=0\r\nb"), "a READY=0  b");
    }
}
