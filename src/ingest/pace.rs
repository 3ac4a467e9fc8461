//! How often a publisher is read: what a read costs beside the bytes (the system call, a cold connection) is most of the cost of a weak stream.

use std::time::Duration;

/// How often a connection is read. The paces from [`Pace::Brisk`] on are slow: what they say holds where a core has many publishers (see [`Rounds`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pace {
    /// It does not publish yet: as soon as it speaks.
    Young,
    /// In every tick.
    Full,
    /// Ten times a second.
    Brisk,
    /// Five times a second.
    Middling,
    /// Some times a second.
    Weak,
    /// Hardly more often than its bytes are flushed.
    Faint,
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
        let suits = Self::SLOW.into_iter().rev().find(|pace| bytes_per_s < pace.bytes_per_s_max()).unwrap_or(Pace::Full);
        // What was read seldomer goes on so until it is clearly above the bound.
        let stays = self > suits && bytes_per_s < self.bytes_per_s_max() / 7 * 8;
        if stays { self } else { suits }
    }

    /// Seldom enough that it is looked after seldom, too.
    pub fn is_weak(self) -> bool {
        self >= Pace::Weak
    }

    const SLOW: [Self; SLOW_PACES] = [Pace::Brisk, Pace::Middling, Pace::Weak, Pace::Faint];

    /// Its place among the slow ones.
    pub fn slowness(self) -> Option<usize> {
        Self::SLOW.into_iter().position(|pace| pace == self)
    }

    /// Rate, and time between two reads: their product fits into the window that the kernel gives to a stream that is read so; for the last two into the
    /// smallest, 64 KiB.
    const fn bounds(self) -> (u64, Duration) {
        match self {
            Pace::Young | Pace::Full => (u64::MAX, Duration::ZERO),
            Pace::Brisk => (896 << 10, Duration::from_millis(100)),
            Pace::Middling => (560 << 10, Duration::from_millis(200)),
            Pace::Weak => (112 << 10, Duration::from_millis(450)),
            Pace::Faint => (72 << 10, Duration::from_millis(800)),
        }
    }

    const fn bytes_per_s_max(self) -> u64 {
        self.bounds().0
    }

    /// The longest time between two reads.
    const fn gap_max(self) -> Duration {
        self.bounds().1
    }

    /// A stream at this pace seldom has as much to read at once, and twice in a row only when it has become a fatter one.
    const fn read_bytes_max(self) -> u64 {
        match self {
            Pace::Young | Pace::Full | Pace::Brisk => u64::MAX,
            _ => self.bytes_per_s_max() * self.gap_max().as_millis() as u64 / 1_000,
        }
    }
}

const LARGE_READS: u8 = 2;

/// Reads in a row that bring more than suits the pace. A stream that was still, or black, and suddenly moves must not wait for its rate to be taken: its
/// publisher may send no more than the window between two reads, and throws frames away meanwhile.
#[derive(Clone, Copy, Default, Debug)]
pub struct LargeReads(u8);

impl LargeReads {
    /// A publisher at this pace had `bytes` to read. True: it is to be read more often at once.
    pub fn note(&mut self, pace: Pace, bytes: u64) -> bool {
        self.0 = if bytes >= pace.read_bytes_max() { self.0 + 1 } else { 0 };
        let hurries = self.0 >= LARGE_READS;
        if hurries {
            self.0 = 0;
        }
        hurries
    }
}

/// Paces slower than every tick.
pub const SLOW_PACES: usize = 4;
/// The publishers of a slow pace are on so many lists, so that they are not all read in the same tick.
pub const LISTS: usize = 4;
/// Reads of publishers at slow paces for which a core takes its time: below, they are read as often as the others. A read costs about 20 us beside the bytes;
/// what lies in the sockets when the process is killed is lost.
const READS_PER_S: u64 = 500;

/// Which lists are read in which tick. All are read before a flush; between two flushes those of the slow paces only as often as they must be, the seldomer the
/// more publishers there are.
pub struct Rounds {
    tick: Duration,
    /// Ticks since the last flush.
    since_flush: usize,
    /// Of each slow pace.
    plans: [Plan; SLOW_PACES],
}

#[derive(Clone, Copy)]
struct Plan {
    /// Ticks between two reads of a list.
    gap: usize,
    /// Ticks after a flush in which each list is read first.
    first: [usize; LISTS],
}

impl Plan {
    /// `period`: ticks from one flush to the next.
    fn new(gap: usize, period: usize) -> Self {
        // With one read fewer there would not be room for all lists to have ticks of their own.
        let reads = if period <= gap { 0 } else { (period + LISTS - 1).div_ceil(gap) - 1 };
        let earliest = period.saturating_sub(reads * gap).max(1);
        Self { gap, first: std::array::from_fn(|list| earliest + list * (gap + 1).saturating_sub(earliest) / LISTS) }
    }

    fn reads(&self, list: usize, since_flush: usize) -> bool {
        since_flush >= self.first[list] && (since_flush - self.first[list]).is_multiple_of(self.gap)
    }
}

impl Rounds {
    pub fn new(tick: Duration, flush_period: Duration) -> Self {
        let mut rounds = Self { tick, since_flush: 0, plans: [Plan::new(1, 1); SLOW_PACES] };
        rounds.plan(flush_period, 0);
        rounds
    }

    /// So long it will be to the next flush, and so many publishers are there to read.
    pub fn plan(&mut self, flush_period: Duration, publishers: usize) {
        let ticks = |time: Duration| (time.as_nanos() / self.tick.as_nanos().max(1)) as usize;
        // It comes with the first tick that is not before its time.
        let period = (flush_period.as_nanos().div_ceil(self.tick.as_nanos().max(1)) as usize).max(1);
        let crowded = Duration::from_millis(publishers as u64 * 1_000 / READS_PER_S);
        self.plans = Pace::SLOW.map(|pace| Plan::new(ticks(pace.gap_max().min(crowded)).max(1), period));
    }

    /// The next tick; `flush`: all are read in it.
    pub fn tick(&mut self, flush: bool) {
        self.since_flush = if flush { 0 } else { self.since_flush + 1 };
    }

    /// Is this list of a slow pace (see [`Pace::slowness`]) read in this tick?
    pub fn reads(&self, slowness: usize, list: usize) -> bool {
        self.plans[slowness].reads(list, self.since_flush)
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
            (Pace::Middling, &[120_000, 120_000][..], true),
            (Pace::Brisk, &[200_000, 200_000, 200_000][..], false),
            (Pace::Full, &[100_000, 100_000, 100_000][..], false),
        ] {
            let mut large = LargeReads::default();
            assert_eq!(reads.iter().any(|bytes| large.note(pace, *bytes)), hurries, "{pace:?} {reads:?}");
        }
    }

    /// Reads of each list of a pace from one flush to the next, that one included, and the longest time between two.
    fn reads(pace: Pace, tick_ms: usize, flush_ms: usize, publishers: usize) -> [(usize, usize); LISTS] {
        let flush = Duration::from_millis(flush_ms as u64);
        let mut rounds = Rounds::new(Duration::from_millis(tick_ms as u64), flush);
        rounds.plan(flush, publishers);
        let period = flush_ms.div_ceil(tick_ms);
        let slowness = pace.slowness().expect("a slow pace");
        std::array::from_fn(|list| {
            let (mut last, mut count, mut longest) = (0, 0, 0);
            for number in 0..=period {
                let all = number % period == 0;
                rounds.tick(all);
                if number > 0 && (all || rounds.reads(slowness, list)) {
                    longest = longest.max((number - last) * tick_ms);
                    (last, count) = (number, count + 1);
                }
            }
            (count, longest)
        })
    }

    #[test]
    fn publishers_are_read_seldom_but_often_enough() {
        use Pace::{Brisk, Faint, Middling, Weak};
        // Pace, tick and flush period in milliseconds, publishers; reads of the lists in a flush period.
        for (pace, tick, flush, publishers, expected) in [
            (Weak, 50, 600, 1_000, [2, 2, 2, 2]),
            (Weak, 50, 750, 1_000, [2, 2, 2, 2]),
            (Weak, 50, 450, 1_000, [1, 1, 1, 1]),
            (Weak, 50, 300, 1_000, [1, 1, 1, 1]),
            (Weak, 50, 60, 1_000, [1, 1, 1, 1]),
            (Weak, 50, 3_000, 1_000, [7, 7, 7, 7]),
            (Weak, 20, 600, 1_000, [2, 2, 2, 2]),
            (Weak, 200, 600, 1_000, [2, 2, 2, 2]),
            (Weak, 500, 600, 1_000, [2, 2, 2, 2]),
            (Faint, 50, 750, 1_000, [1, 1, 1, 1]),
            (Faint, 50, 780, 1_000, [1, 1, 1, 1]),
            (Faint, 50, 3_000, 1_000, [4, 4, 4, 4]),
            (Middling, 50, 750, 200, [5, 5, 4, 4]),
            (Brisk, 50, 750, 200, [8, 8, 8, 8]),
            // Where there are few, all are read in every tick; in between, as often as there is time for.
            (Faint, 50, 750, 25, [15, 15, 15, 15]),
            (Weak, 50, 750, 49, [15, 15, 15, 15]),
            (Weak, 50, 750, 75, [6, 6, 6, 5]),
            (Middling, 50, 750, 75, [6, 6, 6, 5]),
        ] {
            let read = reads(pace, tick, flush, publishers);
            assert_eq!(read.map(|(count, _)| count), expected, "{pace:?}, tick {tick}, flush {flush}, {publishers} publishers");
            let bound = (pace.gap_max().as_millis() as usize).max(tick);
            assert!(read.iter().all(|(_, longest)| *longest <= bound), "{pace:?}, tick {tick}, flush {flush}, {publishers} publishers: {read:?}");
        }
    }

    #[test]
    fn the_pace_follows_the_rate_and_does_not_swing() {
        let kib = |rate: u64| rate << 10;
        for (pace, rate, next) in [
            (Pace::Brisk, kib(10), Pace::Faint),
            (Pace::Faint, kib(80), Pace::Faint),
            (Pace::Brisk, kib(80), Pace::Weak),
            (Pace::Weak, kib(120), Pace::Weak),
            (Pace::Middling, kib(120), Pace::Middling),
            (Pace::Weak, kib(500), Pace::Middling),
            (Pace::Full, kib(500), Pace::Middling),
            (Pace::Brisk, kib(600), Pace::Brisk),
            (Pace::Middling, kib(600), Pace::Middling),
            (Pace::Full, kib(1_000), Pace::Full),
            (Pace::Brisk, kib(1_000), Pace::Brisk),
            (Pace::Brisk, kib(1_100), Pace::Full),
            (Pace::Faint, kib(5_000), Pace::Full),
        ] {
            assert_eq!(pace.at(rate), next, "{pace:?} at {rate}");
        }
    }
}
