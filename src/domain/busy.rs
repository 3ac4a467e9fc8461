//! Whether the ingest cores have all they can do: the signal by which others make room for them.

use std::sync::atomic::{AtomicBool, Ordering};

/// One flag for each core; set by the core, read by everybody.
#[derive(Debug)]
pub struct Busy(Box<[AtomicBool]>);

impl Busy {
    pub fn new(cores: usize) -> Self {
        Self((0..cores).map(|_| AtomicBool::new(false)).collect())
    }

    pub fn set(&self, core: usize, busy: bool) {
        self.0[core].store(busy, Ordering::Relaxed);
    }

    /// Is any core short of time or memory?
    pub fn any(&self) -> bool {
        self.0.iter().any(|core| core.load(Ordering::Relaxed))
    }
}
