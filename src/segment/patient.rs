//! Threads that are waited for, but not for ever: one may hang with its disk.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
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
        Self::spawn_or_return(thread::Builder::new().name(name.to_owned()), body).map_err(|(error, _)| error)
    }

    /// # Errors
    /// If there is no thread: the body, which has not run.
    pub fn spawn_or_return<F: FnOnce() -> T + Send + 'static>(thread: thread::Builder, body: F) -> Result<Self, (io::Error, Option<F>)> {
        let (alive, ended) = bounded::<()>(0);
        // A thread that cannot be made takes what was to run in it along.
        let handed = Arc::new(Mutex::new(Some(body)));
        let take = |handed: &Mutex<Option<F>>| handed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let taken = Arc::clone(&handed);
        let thread = thread.spawn(move || {
            let _alive = alive;
            let body = take(&taken).expect("it was handed to this thread alone");
            body()
        });
        thread.map(|thread| Self { thread, ended }).map_err(|error| (error, take(&handed)))
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

    #[test]
    fn what_no_thread_takes_comes_back() {
        // No machine has room for such a stack.
        let refused = Patient::spawn_or_return(thread::Builder::new().stack_size(1 << 60), || 7);
        let Err((_, Some(body))) = refused else { panic!("there is a thread, or no body") };
        assert_eq!(body(), 7);
    }
}
