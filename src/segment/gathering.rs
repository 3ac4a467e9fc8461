//! How long the first of things that come together waits for the others: what is done with them costs little more for many than for one.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// While many come, one group follows the other after this long.
const PACE: Duration = Duration::from_millis(60);

/// See the module.
pub struct Gathering {
    /// One that comes alone waits this long.
    shortest: Duration,
    last: Option<Instant>,
}

impl Gathering {
    pub const fn new(shortest: Duration) -> Self {
        Self { shortest, last: None }
    }

    /// The first of a group has come: waits for the others.
    pub fn wait(&mut self) {
        sleep(self.pause(Instant::now()));
        self.last = Some(Instant::now());
    }

    fn pause(&self, now: Instant) -> Duration {
        self.last.map_or(self.shortest, |last| self.shortest.max(PACE.saturating_sub(now.duration_since(last))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_hardly_waits_and_groups_come_at_a_pace() {
        let ms = Duration::from_millis;
        let begun = Instant::now();
        // When the last group was, and when the next one begins.
        for (last, now, pause) in [(None, 0, 5), (Some(0), 10, 50), (Some(0), 54, 6), (Some(0), 56, 5), (Some(0), 1_000, 5)] {
            let gathering = Gathering { shortest: ms(5), last: last.map(|last| begun + ms(last)) };
            assert_eq!(gathering.pause(begun + ms(now)), ms(pause), "{last:?} {now}");
        }
    }
}
