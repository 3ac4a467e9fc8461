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

/// The slowest source that is taken for one: a picture in ten minutes.
const SLOW_STEP_MS_MAX: i64 = 600_000;

#[derive(Clone, Copy, Default, Debug)]
struct Track {
    timeline: Timeline,
    last_ms: Option<i64>,
    /// The step before, forward: what a track does all the time is no jump.
    last_step_ms: i64,
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
    /// DTS of the newest frame, of either track.
    pub fn newest_ms(&self) -> Option<i64> {
        self.video.last_ms.max(self.audio.last_ms)
    }

    /// The time of what belongs to no track: near the newest frame, wherever in the circle the timestamps are.
    pub fn other_ms(&self, timestamp_ms: u32) -> i64 {
        match self.newest_ms() {
            Some(newest_ms) => Timeline::near(newest_ms).unwrap_ms(timestamp_ms),
            None => i64::from(timestamp_ms),
        }
    }

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
        // A picture a minute is a slow source, not a jump a minute: a step is measured by the one before, and the second frame of a track that is
        // alone by nothing.
        let step_ms = previous.map_or(0, |previous| dts_ms - previous);
        let usual_ms = match track.last_step_ms {
            0 if other.last_ms.is_none() => SLOW_STEP_MS_MAX,
            last_step_ms => (2 * last_step_ms).min(SLOW_STEP_MS_MAX),
        };
        if step_ms > 0 {
            track.last_step_ms = step_ms;
        }
        let forward_ms = JUMP_FORWARD_MS.max(usual_ms);
        let belongs = |to: i64| (-JUMP_BACK_MS..=forward_ms).contains(&(dts_ms - to));
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
            (
                "a picture a minute",
                &[(Video, 0, 0, false), (Video, 60_000, 60_000, false), (Video, 120_000, 120_000, false), (Video, 1_120_000, 1_120_000, true)],
            ),
            (
                "a jump after usual steps",
                &[(Video, 0, 0, false), (Video, 40, 40, false), (Video, 60_040, 60_040, true), (Video, 60_080, 60_080, false)],
            ),
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
