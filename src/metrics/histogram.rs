//! Durations in fixed log-linear slots.
//!
//! A core that kept an `hdrhistogram` of its own would have to hand it over through a lock, or copy its tens of kilobytes every
//! second. Slots that are plain atomics with one writer need neither: recording is one load and one store of a cached line, and a
//! reader merges the slots of all cores into an `hdrhistogram` at any moment, without asking the writer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// 32 slots for each power of two: a slot is at most 1/32 wide, which is the error of a quantile.
const SLOT_BITS: u32 = 5;
/// 68.7 s, the longest duration told apart. Longer ones count there; sum and maximum keep their true value.
const NANOS_BITS: u32 = 36;
pub(super) const NANOS_MAX: u64 = (1 << NANOS_BITS) - 1;
const SLOTS: usize = ((NANOS_BITS - SLOT_BITS) as usize + 1) << SLOT_BITS;

/// The slot of a duration. Below 64 ns a slot is one nanosecond.
fn slot_of(nanos: u64) -> usize {
    let nanos = nanos.min(NANOS_MAX);
    let shift = (63 - (nanos | (1 << SLOT_BITS)).leading_zeros()) - SLOT_BITS;
    ((shift << SLOT_BITS) as usize) + (nanos >> shift) as usize
}

/// The longest duration of a slot.
fn slot_top(slot: usize) -> u64 {
    if slot < 2 << SLOT_BITS {
        return slot as u64;
    }
    let shift = (slot >> SLOT_BITS) - 1;
    (((slot - (shift << SLOT_BITS)) as u64 + 1) << shift) - 1
}

/// Adds without a locked instruction: correct only while one thread writes.
pub(super) fn add_alone(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

/// 8 KiB; a stream of similar durations touches a few lines of it.
#[derive(Debug)]
pub(super) struct Histogram {
    slots: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
    max_nanos: AtomicU64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), sum_nanos: AtomicU64::new(0), max_nanos: AtomicU64::new(0) }
    }

    /// Records where this thread is the only writer.
    pub(super) fn record_alone(&self, nanos: u64) {
        add_alone(&self.slots[slot_of(nanos)], 1);
        add_alone(&self.sum_nanos, nanos);
        if nanos > self.max_nanos.load(Relaxed) {
            self.max_nanos.store(nanos, Relaxed);
        }
    }

    /// Records from any thread.
    pub(super) fn record_shared(&self, nanos: u64) {
        self.slots[slot_of(nanos)].fetch_add(1, Relaxed);
        self.sum_nanos.fetch_add(nanos, Relaxed);
        self.max_nanos.fetch_max(nanos, Relaxed);
    }
}

/// Several histograms read as one.
pub(super) struct Merged {
    slots: Vec<u64>,
    pub(super) count: u64,
    pub(super) sum_nanos: u64,
    pub(super) max_nanos: u64,
    quantiles: hdrhistogram::Histogram<u64>,
}

impl Merged {
    pub(super) fn read<'h>(histograms: impl Iterator<Item = &'h Histogram>) -> Self {
        let mut merged = Self {
            slots: vec![0; SLOTS],
            count: 0,
            sum_nanos: 0,
            max_nanos: 0,
            quantiles: hdrhistogram::Histogram::new_with_max(NANOS_MAX, 3).expect("bounds and precision are in the range hdrhistogram takes"),
        };
        for histogram in histograms {
            for (sum, slot) in merged.slots.iter_mut().zip(&histogram.slots) {
                *sum += slot.load(Relaxed);
            }
            merged.sum_nanos = merged.sum_nanos.wrapping_add(histogram.sum_nanos.load(Relaxed));
            merged.max_nanos = merged.max_nanos.max(histogram.max_nanos.load(Relaxed));
        }
        for (slot, count) in merged.slots.iter().enumerate().filter(|(_, count)| **count > 0) {
            merged.count += count;
            merged.quantiles.saturating_record_n(slot_top(slot), *count);
        }
        merged
    }

    /// Nanoseconds that the given part (0 to 1) of all durations did not exceed. Never above the true maximum.
    pub(super) fn quantile_nanos(&self, part: f64) -> u64 {
        self.quantiles.value_at_quantile(part).min(self.max_nanos)
    }

    /// Durations of at most `nanos`; those in the slot that `nanos` cuts count as longer.
    pub(super) fn count_up_to(&self, nanos: u64) -> u64 {
        self.slots.iter().enumerate().take_while(|(slot, _)| slot_top(*slot) <= nanos).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_cover_every_duration_without_gaps_and_are_narrow() {
        for slot in 0..SLOTS {
            let (bottom, top) = (if slot == 0 { 0 } else { slot_top(slot - 1) + 1 }, slot_top(slot));
            assert!(bottom <= top, "slot {slot}");
            assert_eq!((slot_of(bottom), slot_of(top)), (slot, slot), "slot {slot}: {bottom} to {top}");
            assert!((top - bottom) * 32 <= bottom.max(32), "slot {slot} is wider than 1/32");
        }
        assert_eq!(slot_top(SLOTS - 1), NANOS_MAX);
        assert_eq!(slot_of(u64::MAX), SLOTS - 1);
    }

    #[test]
    fn merged_quantiles_are_those_of_the_sorted_durations() {
        let (alone, shared) = (Histogram::new(), Histogram::new());
        // 1 us to 1 s, most of them short; two histograms as two cores would fill them.
        let durations: Vec<u64> = (0..10_000u64).map(|index| 1_000 + index * index * 10).collect();
        for (index, nanos) in durations.iter().enumerate() {
            if index % 3 == 0 { alone.record_alone(*nanos) } else { shared.record_shared(*nanos) }
        }
        let merged = Merged::read([&alone, &shared].into_iter());
        assert_eq!(merged.count, 10_000);
        assert_eq!(merged.sum_nanos, durations.iter().sum::<u64>());
        assert_eq!(merged.max_nanos, *durations.last().expect("not empty"));
        for part in [0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = durations[((part * 10_000.0) as usize).clamp(1, 10_000) - 1] as f64;
            let found = merged.quantile_nanos(part) as f64;
            assert!((found / exact - 1.0).abs() < 0.04, "{part}: {found} instead of {exact}");
        }
        for nanos in [0, 999, 1_000_000, 100_000_000, NANOS_MAX] {
            let exact = durations.iter().filter(|duration| **duration <= nanos).count() as f64;
            let found = merged.count_up_to(nanos) as f64;
            assert!(found <= exact && found >= exact * 0.96, "{nanos}: {found} of {exact}");
        }
    }

    #[test]
    fn an_empty_histogram_reads_as_zero() {
        let merged = Merged::read([&Histogram::new()].into_iter());
        assert_eq!((merged.count, merged.sum_nanos, merged.max_nanos, merged.quantile_nanos(0.99)), (0, 0, 0, 0));
    }
}
