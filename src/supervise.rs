//! Messages to systemd: ready, stopping, and the watchdog's sign of life; without systemd nothing is sent. And the watch over a stop that takes long.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sd_notify::NotifyState;

/// The watchdog thread, if systemd asked for one. Ends when dropped.
#[derive(Debug)]
pub struct Supervisor {
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
    pub fn ready(status: &str, alive: impl FnMut() -> bool + Send + 'static) -> io::Result<Self> {
        let thread = match sd_notify::watchdog_enabled() {
            Some(interval) => Some(watch(interval / 2, alive, || sd_notify::notify(&[NotifyState::Watchdog]))?),
            None => None,
        };
        sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))])?;
        let (stop, thread) = thread.unzip();
        Ok(Self { stop, thread })
    }

    /// Tells systemd that we are finishing files. The watchdog goes on: finishing must not hang either.
    ///
    /// # Errors
    /// If the message cannot be sent.
    pub fn stopping(&self, status: &str) -> io::Result<()> {
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
        drop(Supervisor { stop: Some(stop), thread: Some(thread) });
        assert_eq!(sent.1.iter().count(), 3, "one for each time it was alive; the sender ended with the thread");
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(one_line("a\nREADY=0\r\nb"), "a READY=0  b");
    }
}
