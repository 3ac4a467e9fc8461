//! How often a publisher is read: what a read costs beside the bytes (the system call, a cold connection) is most of the cost of a weak stream.

use std::time::Duration;

/// How often a connection is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// It does not publish yet: as soon as it speaks.
    Young,
    /// In every tick.
    Full,
    /// In one of two ticks.
    Middling,
    /// Some times a second.
    Weak,
}

/// The rate is taken over at least this: longer than the pauses between key frames of most.
const PACE_MS: u64 = 2_000;
/// The first time over this: a publication begins with a key frame, so what it sends at first is hardly less than what follows.
const FIRST_PACE_MS: u64 = 500;
/// Unless it has not quite begun by then.
const FIRST_BYTES_MIN: u64 = 8 << 10;

impl Pace {
    /// May the pace be chosen by the `bytes` that came in `elapsed_ms`? `first`: for the first time.
    pub fn is_due(first: bool, bytes: u64, elapsed_ms: u64) -> bool {
        elapsed_ms >= PACE_MS || (first && elapsed_ms >= FIRST_PACE_MS && bytes >= FIRST_BYTES_MIN)
    }

    /// The pace of a publisher that sends so much; near a bound it stays as it is.
    pub fn at(self, bytes_per_s: u64) -> Self {
        match bytes_per_s {
            0..WEAK_BYTES_PER_S => Pace::Weak,
            WEAK_BYTES_PER_S..NO_LONGER_WEAK_BYTES_PER_S if self == Pace::Weak => Pace::Weak,
            // What was at full pace goes on so until it is clearly below the bound.
            MIDDLING_BYTES_PER_S..NO_LONGER_MIDDLING_BYTES_PER_S if self == Pace::Full => Pace::Full,
            WEAK_BYTES_PER_S..NO_LONGER_MIDDLING_BYTES_PER_S => Pace::Middling,
            NO_LONGER_MIDDLING_BYTES_PER_S.. => Pace::Full,
        }
    }
}

/// A weak stream seldom has as much to read at once, and twice in a row only when it has become a fatter one: what a weak stream sends in [`WEAK_GAP_MAX`].
const WEAK_READ_BYTES_MAX: u64 = WEAK_BYTES_PER_S * WEAK_GAP_MAX.as_millis() as u64 / 1_000;
const LARGE_READS: u8 = 2;

/// Reads in a row that bring more than suits the pace. A stream that was still, or black, and suddenly moves must not wait for its rate to be taken: its
/// publisher may send no more than the window between two reads, and throws frames away meanwhile.
#[derive(Clone, Copy, Default, Debug)]
pub struct LargeReads(u8);

impl LargeReads {
    /// A publisher at this pace had `bytes` to read. True: it is to be read more often at once.
    pub fn note(&mut self, pace: Pace, bytes: u64) -> bool {
        self.0 = if pace == Pace::Weak && bytes >= WEAK_READ_BYTES_MAX { self.0 + 1 } else { 0 };
        let hurries = self.0 >= LARGE_READS;
        if hurries {
            self.0 = 0;
        }
        hurries
    }
}

/// What a weak stream sends in [`WEAK_GAP_MAX`] fits into the smallest receive window, 64 KiB.
const WEAK_BYTES_PER_S: u64 = 112 << 10;
const NO_LONGER_WEAK_BYTES_PER_S: u64 = 128 << 10;
/// What a middling stream sends in two ticks fits into the window that the kernel gives to one that is read so.
const MIDDLING_BYTES_PER_S: u64 = 896 << 10;
const NO_LONGER_MIDDLING_BYTES_PER_S: u64 = 1 << 20;

/// Middling publishers are on so many lists: one is read in each tick.
pub const MIDDLING_LISTS: usize = 2;
/// Weak publishers are on so many lists, so that they are not all read in the same tick.
pub const WEAK_LISTS: usize = 4;
/// The longest time between two reads of a weak publisher.
const WEAK_GAP_MAX: Duration = Duration::from_millis(450);

/// Which lists are read in which tick. All are read before a flush; the weak ones between two flushes only as often as they must be.
pub struct Rounds {
    tick: Duration,
    number: usize,
    /// Ticks since the last flush.
    since_flush: usize,
    /// Longest time between two reads of a weak list, and ticks after a flush in which each is read first.
    gap: usize,
    first: [usize; WEAK_LISTS],
}

impl Rounds {
    pub fn new(tick: Duration, flush_period: Duration) -> Self {
        let mut rounds = Self { tick, number: 0, since_flush: 0, gap: 1, first: [1; WEAK_LISTS] };
        rounds.plan(flush_period);
        rounds
    }

    /// So long it will be to the next flush.
    pub fn plan(&mut self, flush_period: Duration) {
        let ticks = |time: Duration| (time.as_nanos() / self.tick.as_nanos().max(1)) as usize;
        let gap = ticks(WEAK_GAP_MAX).max(1);
        let period = ticks(flush_period).max(1);
        // With one read fewer there would not be room for all lists to have ticks of their own.
        let reads = if period <= gap { 0 } else { (period + WEAK_LISTS - 1).div_ceil(gap) - 1 };
        let earliest = period.saturating_sub(reads * gap).max(1);
        self.gap = gap;
        self.first = std::array::from_fn(|list| earliest + list * gap.saturating_sub(earliest) / (WEAK_LISTS - 1));
    }

    /// The next tick; `flush`: all are read in it.
    pub fn tick(&mut self, flush: bool) {
        self.number = self.number.wrapping_add(1);
        self.since_flush = if flush { 0 } else { self.since_flush + 1 };
    }

    pub fn reads_middling(&self, list: usize) -> bool {
        self.number % MIDDLING_LISTS == list
    }

    pub fn reads_weak(&self, list: usize) -> bool {
        self.since_flush >= self.first[list] && (self.since_flush - self.first[list]).is_multiple_of(self.gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pace_is_chosen_early_if_enough_came() {
        for (first, bytes, elapsed_ms, due) in [
            (true, 31_000, 499, false),
            (true, 31_000, 500, true),
            (true, 8_000, 1_999, false),
            (true, 0, 2_000, true),
            (false, 1 << 20, 1_999, false),
            (false, 0, 2_000, true),
        ] {
            assert_eq!(Pace::is_due(first, bytes, elapsed_ms), due, "{first} {bytes} {elapsed_ms}");
        }
    }

    #[test]
    fn a_weak_publisher_that_becomes_fat_is_read_more_often_at_once() {
        for (pace, reads, hurries) in [
            (Pace::Weak, &[20_000, 40_000, 30_000][..], false),
            // One key frame.
            (Pace::Weak, &[60_000, 20_000, 60_000][..], false),
            (Pace::Weak, &[20_000, 60_000, 60_000][..], true),
            (Pace::Middling, &[100_000, 100_000, 100_000][..], false),
            (Pace::Full, &[100_000, 100_000, 100_000][..], false),
        ] {
            let mut large = LargeReads::default();
            assert_eq!(reads.iter().any(|bytes| large.note(pace, *bytes)), hurries, "{pace:?} {reads:?}");
        }
    }

    #[test]
    fn a_weak_publisher_is_read_seldom_but_often_enough() {
        // Tick and flush period in milliseconds, reads of each list from one flush to the next, that one included.
        for (tick, flush, reads) in
            [(50, 600, 2), (50, 750, 2), (50, 450, 1), (50, 300, 1), (50, 60, 1), (50, 3_000, 7), (20, 600, 2), (200, 600, 2), (500, 600, 1)]
        {
            let mut rounds = Rounds::new(Duration::from_millis(tick), Duration::from_millis(flush));
            let period = (flush / tick).max(1);
            for list in 0..WEAK_LISTS {
                let (mut last, mut count) = (0, 0);
                for number in 0..period * 5 {
                    let all = number % period == 0;
                    rounds.tick(all);
                    if all || rounds.reads_weak(list) {
                        assert!((number - last) * tick <= 450.max(tick), "tick {tick}, flush {flush}: list {list} waits from {last} to {number}");
                        (last, count) = (number, count + 1);
                    }
                }
                assert_eq!(count, reads * 5, "tick {tick}, flush {flush}: reads of list {list}");
            }
            assert!((0..MIDDLING_LISTS).all(|list| {
                (0..MIDDLING_LISTS)
                    .filter(|_| {
                        rounds.tick(false);
                        rounds.reads_middling(list)
                    })
                    .count()
                    == 1
            }));
        }
    }

    #[test]
    fn the_pace_follows_the_rate_and_does_not_swing() {
        let kib = |rate: u64| rate << 10;
        for (pace, rate, next) in [
            (Pace::Full, kib(10), Pace::Weak),
            (Pace::Weak, kib(120), Pace::Weak),
            (Pace::Middling, kib(120), Pace::Middling),
            (Pace::Weak, kib(500), Pace::Middling),
            (Pace::Full, kib(500), Pace::Middling),
            (Pace::Full, kib(1_000), Pace::Full),
            (Pace::Middling, kib(1_000), Pace::Middling),
            (Pace::Middling, kib(1_100), Pace::Full),
            (Pace::Weak, kib(5_000), Pace::Full),
        ] {
            assert_eq!(pace.at(rate), next, "{pace:?} at {rate}");
        }
    }
}
