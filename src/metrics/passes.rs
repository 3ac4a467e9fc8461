//! The flight recorder of an ingest core: its slowest ticks, so that a stall of a second last night can still be explained.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::units::{MonoTime, WallTime};

/// Ticks that are kept of each period.
const KEPT: usize = 16;
/// The slowest of this period and of the one before are there.
const PERIOD_NANOS: u64 = 600_000_000_000;

/// What a tick does, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Blocks that came back from the disk, commands to it that had to wait.
    Storage,
    /// Publications that are to end.
    Commands,
    /// Which sockets have something.
    Poll,
    /// Receiving, taking apart, writing into blocks.
    Drain,
    /// Tasks that begin or end, waiting outputs, counters.
    LookAfter,
    /// Publications that are over and wait for storage.
    Endings,
    /// Everything received goes to the disk.
    Flush,
    /// Silent connections.
    Timeouts,
}

impl Stage {
    pub const ALL: [Self; 8] = [Self::Storage, Self::Commands, Self::Poll, Self::Drain, Self::LookAfter, Self::Endings, Self::Flush, Self::Timeouts];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Commands => "commands",
            Self::Poll => "poll",
            Self::Drain => "drain",
            Self::LookAfter => "look_after",
            Self::Endings => "endings",
            Self::Flush => "flush",
            Self::Timeouts => "timeouts",
        }
    }
}

/// One tick of a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pass {
    /// When it began.
    pub at: WallTime,
    pub nanos: u64,
    /// Nanoseconds in each of [`Stage::ALL`].
    pub stages: [u64; Stage::ALL.len()],
    /// Connections that were read.
    pub streams: u64,
    /// Media bytes taken in.
    pub bytes: u64,
    /// It began this long after its time: something else kept the core.
    pub late_nanos: u64,
}

impl Pass {
    /// Where most of its time went.
    pub fn slowest_stage(&self) -> (Stage, u64) {
        let slowest = Stage::ALL.into_iter().zip(self.stages).max_by_key(|(_, nanos)| *nanos);
        slowest.unwrap_or((Stage::Drain, 0))
    }
}

#[derive(Debug, Default)]
struct Periods {
    begun: MonoTime,
    current: Vec<Pass>,
    before: Vec<Pass>,
}

/// The slowest ticks of one core. One thread writes.
#[derive(Debug, Default)]
pub struct SlowPasses {
    /// A tick that took no longer is not kept.
    bound_nanos: AtomicU64,
    period_ends: AtomicU64,
    periods: Mutex<Periods>,
}

impl SlowPasses {
    /// For most ticks two comparisons. Never waits: while somebody reads, a tick goes unrecorded.
    pub fn record(&self, now: MonoTime, pass: Pass) {
        if pass.nanos <= self.bound_nanos.load(Relaxed) && now.nanos() < self.period_ends.load(Relaxed) {
            return;
        }
        let Ok(mut periods) = self.periods.try_lock() else { return };
        if now.nanos() >= self.period_ends.load(Relaxed) {
            self.period_ends.store(now.nanos() + PERIOD_NANOS, Relaxed);
            let Periods { begun, current, before } = &mut *periods;
            *begun = now;
            std::mem::swap(before, current);
            current.clear();
            current.reserve(KEPT);
        }
        let current = &mut periods.current;
        if current.len() < KEPT {
            current.push(pass);
        } else if let Some(shortest) = current.iter_mut().min_by_key(|kept| kept.nanos)
            && shortest.nanos < pass.nanos
        {
            *shortest = pass;
        }
        let bound = if current.len() < KEPT { 0 } else { current.iter().map(|kept| kept.nanos).min().unwrap_or(0) };
        self.bound_nanos.store(bound, Relaxed);
    }

    /// The slowest of this period and the one before, longest first.
    pub fn read(&self) -> Vec<Pass> {
        let periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Pass> = periods.current.iter().chain(&periods.before).copied().collect();
        drop(periods);
        all.sort_by_key(|pass| std::cmp::Reverse(pass.nanos));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(nanos: u64) -> Pass {
        Pass { at: WallTime::from_unix_seconds(0), nanos, stages: [0, 0, 0, nanos, 0, 0, 0, 0], streams: 1, bytes: 2, late_nanos: 0 }
    }

    #[test]
    fn the_slowest_of_a_period_are_kept_and_those_of_the_one_before() {
        let passes = SlowPasses::default();
        // Any order: 1 to 1000, each once.
        for index in 0..1000 {
            passes.record(MonoTime::from_nanos(1 + index), pass(index * 387 % 1000 + 1));
        }
        let kept: Vec<u64> = passes.read().iter().map(|pass| pass.nanos).collect();
        assert_eq!(kept, (1000 - KEPT as u64 + 1..=1000).rev().collect::<Vec<_>>());
        // The next period begins with nothing, and a short tick is a slow one again.
        passes.record(MonoTime::from_nanos(2 + PERIOD_NANOS), pass(5));
        let kept: Vec<u64> = passes.read().iter().map(|pass| pass.nanos).collect();
        assert_eq!((kept.len(), kept[0], kept[KEPT]), (KEPT + 1, 1000, 5));
        passes.record(MonoTime::from_nanos(3 + 2 * PERIOD_NANOS), pass(7));
        assert_eq!(passes.read().iter().map(|pass| pass.nanos).collect::<Vec<_>>(), [7, 5]);
    }

    #[test]
    fn a_reader_does_not_hold_up_the_core() {
        let passes = SlowPasses::default();
        let reading = passes.periods.lock().unwrap();
        passes.record(MonoTime::from_nanos(1), pass(1));
        drop(reading);
        assert_eq!(passes.read(), []);
        passes.record(MonoTime::from_nanos(2), pass(2));
        assert_eq!(passes.read()[0].slowest_stage(), (Stage::Drain, 2));
    }
}
