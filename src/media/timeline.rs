//! Time of a track: from 32-bit RTMP timestamps to milliseconds that do not wrap.

/// A step back by more than this is a jump. Encoders that interleave badly or restart a muxer step back by some frames; half a second is more
/// than any of these and less than a restart.
pub const JUMP_BACK_MS: i64 = 500;
/// A step forward by more than this is a jump. Below it lie pauses of real sources: screen capture at one picture in several seconds, a camera
/// behind a stalled link. A file with a gap of 10 s still plays; one with a gap of hours does not.
pub const JUMP_FORWARD_MS: i64 = 10_000;

/// A picture that is to be shown further than this from when it is decoded is a mistake of its encoder; ffmpeg's reader of FLV has the same bound. What was
/// sent is recorded all the same, and told.
pub const COMPOSITION_MS_MAX: u32 = 15 * 60 * 1_000;

/// Unwraps the 32-bit millisecond timestamps of one track, which start anywhere and wrap after 49.7 days.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timeline {
    last_ms: Option<i64>,
}

impl Timeline {
    /// A track that begins near `other_ms` of another track, wherever in the circle its timestamps are.
    pub fn near(other_ms: i64) -> Self {
        Self { last_ms: Some(other_ms) }
    }

    /// The first timestamp is taken as it is; every other one as the value nearest to its predecessor, before or after it.
    pub fn unwrap_ms(&mut self, timestamp: u32) -> i64 {
        let unwrapped_ms = match self.last_ms {
            None => i64::from(timestamp),
            // Both sides modulo 2^32: the difference as a signed number is the shorter way round.
            Some(last_ms) => last_ms + i64::from(timestamp.wrapping_sub(last_ms as u32) as i32),
        };
        self.last_ms = Some(unwrapped_ms);
        unwrapped_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_wrap_forward_and_back() {
        let cases: &[(&str, &[u32], &[i64])] = &[
            ("plain", &[0, 40, 80], &[0, 40, 80]),
            ("starts anywhere", &[4_000_000_000, 4_000_000_040], &[4_000_000_000, 4_000_000_040]),
            ("steps back", &[1000, 960, 1040], &[1000, 960, 1040]),
            ("back before the start", &[10, u32::MAX], &[10, -1]),
            ("and forward again", &[10, u32::MAX, 30], &[10, -1, 30]),
            ("wraps", &[u32::MAX - 9, 10, 50], &[4_294_967_286, 4_294_967_306, 4_294_967_346]),
            ("wraps and steps back over it", &[u32::MAX, 20, u32::MAX - 5], &[4_294_967_295, 4_294_967_316, 4_294_967_290]),
            ("the longest way forward", &[0, 0x7fff_ffff], &[0, 0x7fff_ffff]),
            ("half the circle is back", &[0, 0x8000_0000], &[0, -0x8000_0000]),
            (
                "three times round",
                &[0, 1 << 30, 2 << 30, 3 << 30, 0, 1 << 30, 2 << 30, 3 << 30, 0],
                &[0, 1 << 30, 2 << 30, 3 << 30, 4 << 30, 5 << 30, 6 << 30, 7 << 30, 8 << 30],
            ),
        ];
        for (name, timestamps, expected) in cases {
            let mut timeline = Timeline::default();
            let unwrapped: Vec<i64> = timestamps.iter().map(|timestamp| timeline.unwrap_ms(*timestamp)).collect();
            assert_eq!(&unwrapped, expected, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_walk_of_steps_below_half_the_circle_comes_back(start: u32, steps in proptest::collection::vec(proptest::num::i32::ANY, 0..100)) {
            let mut timeline = Timeline::default();
            let mut at = timeline.unwrap_ms(start);
            for step in steps {
                at += i64::from(step);
                proptest::prop_assert_eq!(timeline.unwrap_ms(at as u32), at);
            }
        }
    }
}
