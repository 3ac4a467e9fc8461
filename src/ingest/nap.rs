//! How a core sleeps between its ticks: for a time, or until another thread wakes it. A timer of the runtime that never came would leave its core standing
//! still for good, with all its publishers; so a thread looks whether each core passes its ticks, and wakes the one that does not.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};

use super::Shared;

/// The cores are looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// A core that is this late for its tick is woken.
const LATE: Duration = Duration::from_secs(2);

/// Where one core sleeps.
#[derive(Debug, Default)]
pub struct Nap {
    waker: Mutex<Option<task::Waker>>,
    woken: AtomicBool,
}

impl Nap {
    /// Sleeps until `timer` is over or somebody wakes.
    pub async fn sleep(&self, timer: impl Future) {
        let mut timer = pin!(timer);
        poll_fn(|context| {
            if self.woken.swap(false, Ordering::Acquire) || timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            drop(waker);
            // Woken in between.
            if self.woken.swap(false, Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// From any thread.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The thread that wakes cores whose timer does not come.
pub struct Waker {
    /// Dropping it ends the thread.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Waker {
    /// # Errors
    /// If there is no thread.
    pub fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let thread = std::thread::Builder::new().name("core-waker".to_owned()).spawn(move || {
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                for (core, nap) in shared.naps.iter().enumerate().filter(|(core, _)| !shared.passes_ticks(*core, LATE)) {
                    tracing::warn!(core, "an ingest core is late for its tick and is woken: either it works, or its timer did not come");
                    nap.wake();
                }
            }
        })?;
        Ok(Self { stop, thread })
    }

    pub fn stop(self) {
        drop(self.stop);
        // It holds nothing, and a panic is in the log.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(std::sync::atomic::AtomicU64);

    impl task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_sleep_ends_with_its_timer_or_when_it_is_woken() {
        let nap = Nap::default();
        let count = Arc::new(Count(0.into()));
        let waker = task::Waker::from(Arc::clone(&count));
        let mut context = task::Context::from_waker(&waker);
        assert!(pin!(nap.sleep(std::future::ready(()))).poll(&mut context).is_ready());
        let mut endless = pin!(nap.sleep(std::future::pending::<()>()));
        assert!(endless.as_mut().poll(&mut context).is_pending());
        nap.wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(endless.as_mut().poll(&mut context).is_ready());
        // Woken before it slept.
        nap.wake();
        assert!(pin!(nap.sleep(std::future::pending::<()>())).poll(&mut context).is_ready());
        assert!(pin!(nap.sleep(std::future::pending::<()>())).poll(&mut context).is_pending());
    }
}
