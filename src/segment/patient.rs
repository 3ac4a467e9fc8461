//! Threads that are waited for, but not for ever: one may hang with its disk.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};

/// A running thread.
pub struct Patient<T> {
    thread: JoinHandle<T>,
    /// Disconnected when it has ended.
    ended: Receiver<()>,
}

impl<T: Send + 'static> Patient<T> {
    /// # Errors
    /// If there is no thread.
    pub fn spawn(name: &str, body: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        let (alive, ended) = bounded::<()>(0);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _alive = alive;
            body()
        })?;
        Ok(Self { thread, ended })
    }

    /// Waits at most so long for its end.
    pub fn ends_within(&self, patience: Duration) -> bool {
        self.ended.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }

    /// Waits for its end; what it returned, or how it panicked.
    pub fn join(self) -> thread::Result<T> {
        self.thread.join()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_is_not_waited_for() {
        let (go_on, wait) = bounded::<()>(0);
        let patient = Patient::spawn("patient", move || wait.recv().is_err()).expect("a thread");
        assert!(!patient.ends_within(Duration::ZERO));
        drop(go_on);
        assert!(patient.ends_within(Duration::from_secs(60)));
        assert!(patient.join().expect("no panic"));
        let panics = Patient::spawn("patient", || panic!("a test body that panics")).expect("a thread");
        assert!(panics.ends_within(Duration::from_secs(60)) && panics.join().is_err());
    }
}
