//! Waiting for a change of the catalog without asking again and again.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
struct State {
    /// Counts the changes.
    changes: u64,
    /// Nobody waits any more: the appliance stops.
    closed: bool,
}

/// Something that happens now and then, and threads that wait for it.
#[derive(Default)]
pub(super) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

impl Signal {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it happened. Read it before looking at the catalog, then wait for more.
    pub(super) fn seen(&self) -> u64 {
        self.state().changes
    }

    pub(super) fn notify(&self) {
        self.state().changes += 1;
        self.changed.notify_all();
    }

    /// Ends every wait, now and later.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Waits until it happens after `seen`, for `timeout` at most. False: it did not, or nobody shall wait any more.
    pub(super) fn wait(&self, seen: u64, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut state = self.state();
        loop {
            if state.closed {
                return false;
            }
            if state.changes != seen {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_before_the_wait_is_not_missed() {
        let signal = Signal::default();
        let seen = signal.seen();
        signal.notify();
        assert!(signal.wait(seen, Duration::from_secs(60)));
        assert!(!signal.wait(signal.seen(), Duration::ZERO));
    }

    #[test]
    fn waits_end_by_a_change_and_by_the_close() {
        let signal = Signal::default();
        let seen = signal.seen();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| signal.wait(seen, Duration::from_secs(60)))).collect();
            signal.notify();
            assert!(waiting.into_iter().all(|waiting| waiting.join().expect("no panic")));
        });
        let seen = signal.seen();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| signal.wait(seen, Duration::from_secs(60)));
            signal.close();
            assert!(!waiting.join().expect("no panic"));
        });
        assert!(!signal.wait(0, Duration::from_secs(60)));
    }
}
