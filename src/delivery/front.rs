//! The front: one task on each ingest core's executor that accepts connections and hands them to the sender threads.
//!
//! Accepting there means that a core that has all it can do accepts late, and a reader waits in the kernel's queue before a publisher does.

use std::cell::Cell;
use std::future::Future;
use std::net::TcpListener;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::timer::sleep;
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::sender::Senders;

/// Accepted in one pass; the rest waits in the kernel's queue.
const ACCEPT_MAX: usize = 128;
/// How often the listener is looked at while readers come, and when none has come for a while.
const QUICK: Duration = Duration::from_millis(1);
const SLOW: Duration = Duration::from_millis(20);
/// So many quick passes without a connection make it slow.
const QUICK_PASSES: u32 = 1_000;
/// After accept has failed (no descriptors) it is not tried for this long: the error comes back at once.
const PAUSE: Duration = Duration::from_millis(200);

/// Makes the task of one core; it ends when the flag is set.
pub type Task = Box<dyn FnOnce(Rc<Cell<bool>>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The task that accepts on `listener`, which is non-blocking.
pub fn task(listener: TcpListener, senders: Arc<Senders>) -> Task {
    Box::new(move |stop| Box::pin(run(listener, senders, stop)))
}

async fn run(listener: TcpListener, senders: Arc<Senders>, stop: Rc<Cell<bool>>) {
    let mut idle = QUICK_PASSES;
    let mut failing = false;
    while !stop.get() {
        match accept(&listener, &senders) {
            Ok(0) => idle = idle.saturating_add(1),
            Ok(_) => (idle, failing) = (0, false),
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the media listener cannot accept; trying again");
                }
                sleep(PAUSE).await;
            }
        }
        sleep(if idle < QUICK_PASSES { QUICK } else { SLOW }).await;
    }
}

/// Accepts what waits; returns how many there were.
fn accept(listener: &TcpListener, senders: &Senders) -> std::io::Result<usize> {
    for count in 0..ACCEPT_MAX {
        match rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((stream, Some(peer))) => match std::net::SocketAddr::try_from(peer) {
                Ok(peer) => senders.take(stream.into(), peer.ip().to_canonical()),
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
