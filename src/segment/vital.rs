//! What must not end by a panic. A defect in the code of one connection or in the finishing of one recording costs that one; a broken invariant of the
//! storage costs the process: it aborts before more is written, is started again, and recovery brings what was received into files.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::faults;

/// Held by what everything else depends on, for as long as it runs.
#[derive(Debug)]
pub struct Vital(pub &'static str);

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(what = self.0, "a broken invariant: the process aborts, and the next start recovers what was received");
            std::process::abort();
        }
    }
}

/// Runs `body`, which keeps invariants of the storage.
pub(super) fn vital<T>(body: impl FnOnce() -> T) -> T {
    let guard = Vital("storage");
    let value = body();
    // Nothing is left to do on the usual way.
    std::mem::forget(guard);
    value
}

/// Runs `body`, whose defects shall cost only `what` it works on. `None`: it panicked.
pub fn contained<T>(what: impl Display, body: impl FnOnce() -> T) -> Option<T> {
    let passed = |payload: Box<dyn Any + Send>| {
        if payload.is::<faults::Killed>() {
            resume_unwind(payload);
        }
        tracing::error!(%what, "a defect in the server");
    };
    catch_unwind(AssertUnwindSafe(body)).map_err(passed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defect_costs_what_it_works_on_but_a_simulated_death_goes_through() {
        assert_eq!(contained("this", || 7), Some(7));
        assert_eq!(contained("this", || -> u32 { panic!("a test body that panics") }), None);
        let death = catch_unwind(|| contained("this", || -> u32 { resume_unwind(Box::new(faults::Killed)) }));
        assert!(death.is_err_and(|payload| payload.is::<faults::Killed>()));
    }
}
