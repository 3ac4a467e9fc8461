//! The timestamps of a publication's tracks: unwrapped, and watched for jumps.

use crate::media::TrackKind;
use crate::media::timeline::{JUMP_BACK_MS, JUMP_FORWARD_MS, Timeline};

/// What one timestamp means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    pub dts_ms: i64,
    /// Before its predecessor, but not by a jump.
    pub late: bool,
    /// Does not belong to what came before.
    pub jump: bool,
    /// After its predecessor, of the same track; 0 for the first.
    pub ahead_ms: i64,
    /// Before the newest frame of the other track; negative: after it. 0 if there is none.
    pub behind_other_ms: i64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Track {
    timeline: Timeline,
    last_ms: Option<i64>,
    /// Where the other track has jumped to: this one is expected to follow, which is no further jump.
    follow_ms: Option<i64>,
}

/// Both tracks, since a wrap or a jump of one is to be followed by the other.
#[derive(Clone, Copy, Default, Debug)]
pub struct Clocks {
    video: Track,
    audio: Track,
}

impl Clocks {
    pub fn step(&mut self, kind: TrackKind, timestamp_ms: u32) -> Step {
        let (track, other) = match kind {
            TrackKind::Video => (&mut self.video, &mut self.audio),
            TrackKind::Audio => (&mut self.audio, &mut self.video),
        };
        if let (None, Some(other_ms)) = (track.last_ms, other.last_ms) {
            // The tracks begin near each other, also when one begins behind the wrap.
            track.timeline = Timeline::near(other_ms);
        }
        let dts_ms = track.timeline.unwrap_ms(timestamp_ms);
        let previous = track.last_ms.replace(dts_ms);
        let belongs = |to: i64| (-JUMP_BACK_MS..=JUMP_FORWARD_MS).contains(&(dts_ms - to));
        let mut jump = previous.is_some_and(|previous| !belongs(previous));
        if jump && track.follow_ms.is_some_and(belongs) {
            jump = false;
        }
        if jump {
            other.follow_ms = Some(dts_ms);
        }
        if track.follow_ms.is_some_and(belongs) || jump {
            track.follow_ms = None;
        }
        let ahead_ms = previous.map_or(0, |previous| dts_ms - previous);
        let behind_other_ms = other.last_ms.map_or(0, |other| other - dts_ms);
        Step { dts_ms, late: !jump && ahead_ms < 0, jump, ahead_ms, behind_other_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TrackKind::{Audio, Video};

    #[test]
    fn steps_jumps_and_followers() {
        let cases: &[(&str, &[(TrackKind, u32, i64, bool)])] = &[
            ("plain", &[(Video, 0, 0, false), (Audio, 5, 5, false), (Video, 40, 40, false)]),
            (
                "one jump for both tracks",
                &[
                    (Video, 0, 0, false),
                    (Audio, 0, 0, false),
                    (Video, 60_000, 60_000, true),
                    (Audio, 60_010, 60_010, false),
                    (Video, 60_040, 60_040, false),
                ],
            ),
            (
                "back to zero",
                &[
                    (Video, 90_000, 90_000, false),
                    (Audio, 90_000, 90_000, false),
                    (Audio, 0, 0, true),
                    (Video, 10, 10, false),
                    (Audio, 20, 20, false),
                ],
            ),
            ("the second track begins behind the wrap", &[(Video, u32::MAX - 5, 4_294_967_290, false), (Audio, 10, 4_294_967_306, false)]),
            ("a late frame is no jump", &[(Audio, 1_000, 1_000, false), (Audio, 990, 990, false)]),
        ];
        for (name, steps) in cases {
            let mut clocks = Clocks::default();
            for &(kind, timestamp_ms, dts_ms, jump) in *steps {
                let step = clocks.step(kind, timestamp_ms);
                assert_eq!((step.dts_ms, step.jump), (dts_ms, jump), "{name} at {timestamp_ms}");
            }
        }
    }
}
