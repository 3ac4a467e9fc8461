//! The front: accepts connections on an ingest core, between its passes, and hands them to the sender threads.
//!
//! Accepting there means that a core that has all it can do accepts late, and a reader waits in the kernel's queue before a publisher does. It has no timer of
//! its own: each time a sleeping core is woken costs more than what the tick does for a dozen idle publishers.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::units::MonoTime;

use super::sender::Senders;

/// Accepted in one pass; the rest waits in the kernel's queue.
const ACCEPT_MAX: usize = 128;
/// How soon the listener wants to be looked at again while readers come, and when none has come for [`QUICK_MS`].
const QUICK: Duration = Duration::from_millis(1);
const SLOW: Duration = Duration::from_millis(50);
const QUICK_MS: u64 = 1_000;
/// After accept has failed (no descriptors) it is not tried for this long: the error comes back at once.
const PAUSE_MS: u64 = 200;

/// Accepts on one core.
pub struct Front {
    listener: TcpListener,
    senders: Arc<Senders>,
    /// When a reader came last.
    came: Option<MonoTime>,
    /// When accept failed, if it did the last time.
    failed: Option<MonoTime>,
}

impl Front {
    /// `listener` is non-blocking.
    pub fn new(listener: TcpListener, senders: Arc<Senders>) -> Self {
        Self { listener, senders, came: None, failed: None }
    }

    /// Takes in who waits; returns how soon it wants to be called again.
    pub fn pass(&mut self, now: MonoTime) -> Duration {
        if self.failed.is_some_and(|failed| now.millis_since(failed) < PAUSE_MS) {
            return SLOW;
        }
        match self.accept() {
            Ok(0) => self.failed = None,
            Ok(_) => (self.came, self.failed) = (Some(now), None),
            Err(error) => {
                if self.failed.replace(now).is_none() {
                    tracing::warn!(%error, "the media listener cannot accept; trying again");
                }
            }
        }
        if self.came.is_some_and(|came| now.millis_since(came) < QUICK_MS) { QUICK } else { SLOW }
    }

    /// Accepts what waits; returns how many there were.
    fn accept(&self) -> std::io::Result<usize> {
        for count in 0..ACCEPT_MAX {
            match rustix::net::acceptfrom_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((stream, Some(peer))) => match std::net::SocketAddr::try_from(peer) {
                    Ok(peer) => self.senders.take(stream.into(), peer.ip().to_canonical()),
                    Err(_) => tracing::debug!("a connection from no Internet address"),
                },
                Ok((_, None)) => {}
                Err(Errno::AGAIN) => return Ok(count),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(ACCEPT_MAX)
    }
}
