//! What is wrong with a publication, for those who want to be told of it.
//!
//! For each frame some numbers are compared; memory is taken only when something is wrong, and is given back with the report.

use crate::domain::event::{
    ABNORMAL_DETAILS_MAX, ABNORMAL_PERIOD_MS, AbnormalDetail, AbnormalKind, EXCEPTION_PERIOD_MS, PushAbnormal, RecordException, RecordExceptionKind,
};
use crate::media::TrackKind;
use crate::media::timeline::{COMPOSITION_MS_MAX, JUMP_BACK_MS, JUMP_FORWARD_MS};
use crate::units::MonoTime;

use super::Now;
use super::clock::Step;

/// A timestamp that goes ahead by more is an error of the published stream (documented).
const AHEAD_MS_MAX: i64 = 1_000;
/// Two frames of a track that arrive further apart are one (documented).
const ARRIVAL_GAP_MS_MAX: u64 = 3_000;
/// Tracks are far apart when a frame comes this much later than a newer one of the other track: beyond what encoders interleave.
const APART_MS_MAX: i64 = 5_000;

const ABNORMAL_KINDS: [AbnormalKind; 11] = [
    AbnormalKind::VideoTimestampBack,
    AbnormalKind::AudioTimestampBack,
    AbnormalKind::VideoTimestampJump,
    AbnormalKind::AudioTimestampJump,
    AbnormalKind::ChunkTooLarge,
    AbnormalKind::VideoGap,
    AbnormalKind::AudioGap,
    AbnormalKind::VideoCodecChanged,
    AbnormalKind::AudioCodecChanged,
    AbnormalKind::VideoBeforeHeader,
    AbnormalKind::AudioBeforeHeader,
];

/// Things of several kinds that came up in one period.
struct Period<T> {
    since: MonoTime,
    found: Vec<T>,
}

/// Watches one publication.
#[derive(Default)]
pub struct Watch {
    /// When the newest message came.
    now: Option<Now>,
    /// When the newest frame came, by track.
    arrived: [Option<MonoTime>; 2],
    /// The track's newest frame was far behind the other track.
    apart: [bool; 2],
    abnormal: Option<Box<Period<PushAbnormal>>>,
    exceptions: Option<Box<Period<RecordException>>>,
}

impl Watch {
    /// A message has come.
    pub fn message(&mut self, now: Now) {
        self.now = Some(now);
    }

    /// A frame is recorded.
    pub fn frame(&mut self, track: TrackKind, step: &Step, now: Now) {
        let arrived = self.arrived[track as usize].replace(now.mono);
        if let Some(gap_ms) = arrived.map(|arrived| now.mono.millis_since(arrived)).filter(|gap_ms| *gap_ms > ARRIVAL_GAP_MS_MAX) {
            let kind = of(track, AbnormalKind::VideoGap, AbnormalKind::AudioGap);
            self.abnormal(kind, || format!("{gap_ms} ms after the frame before"));
        }
        if !(0..=AHEAD_MS_MAX).contains(&step.ahead_ms) {
            self.timestamp(track, step);
        }
        let apart = step.behind_other_ms > APART_MS_MAX;
        if std::mem::replace(&mut self.apart[track as usize], apart) != apart && apart && !step.jump {
            let (name, other) = of(track, ("video", "audio"), ("audio", "video"));
            self.exception(RecordExceptionKind::TracksFarApart, || format!("{name} is {} ms behind {other}", step.behind_other_ms));
        }
    }

    /// When a picture is to be shown, ms from when it is decoded.
    pub fn composition(&mut self, cts_ms: i32) {
        if cts_ms.unsigned_abs() > COMPOSITION_MS_MAX {
            self.exception(RecordExceptionKind::InvalidVideoTimestamp, || format!("a picture is to be shown {cts_ms} ms from when it is decoded"));
        }
    }

    #[cold]
    fn timestamp(&mut self, track: TrackKind, step: &Step) {
        let from_to = || format!("from {} ms to {} ms", step.dts_ms - step.ahead_ms, step.dts_ms);
        let kind = if step.ahead_ms < 0 {
            of(track, AbnormalKind::VideoTimestampBack, AbnormalKind::AudioTimestampBack)
        } else {
            of(track, AbnormalKind::VideoTimestampJump, AbnormalKind::AudioTimestampJump)
        };
        self.abnormal(kind, from_to);
        if !(-JUMP_BACK_MS..=JUMP_FORWARD_MS).contains(&step.ahead_ms) {
            self.exception(of(track, RecordExceptionKind::VideoTimestampJump, RecordExceptionKind::AudioTimestampJump), from_to);
        } else if step.ahead_ms < 0 && track == TrackKind::Video {
            self.exception(RecordExceptionKind::InvalidVideoTimestamp, from_to);
        }
    }

    /// A frame came before the sequence header of its track.
    pub fn before_header(&mut self, track: TrackKind) {
        let kind = of(track, AbnormalKind::VideoBeforeHeader, AbnormalKind::AudioBeforeHeader);
        self.abnormal(kind, || "the frame was not recorded".to_owned());
    }

    pub fn codec_changed(&mut self, track: TrackKind, from: &str, to: &str) {
        let kind = of(track, AbnormalKind::VideoCodecChanged, AbnormalKind::AudioCodecChanged);
        self.abnormal(kind, || format!("from {from} to {to}"));
    }

    pub fn chunk_too_large(&mut self, bytes: u32, now: Now) {
        self.now = Some(now);
        self.abnormal(AbnormalKind::ChunkTooLarge, || format!("{bytes} bytes"));
    }

    /// Something that concerns every recording of the publication.
    #[cold]
    pub fn exception(&mut self, kind: RecordExceptionKind, description: impl FnOnce() -> String) {
        let Some(now) = self.now else { return };
        let period = self.exceptions.get_or_insert_with(|| Box::new(Period { since: now.mono, found: Vec::new() }));
        match period.found.iter_mut().find(|found| found.kind == kind) {
            Some(found) => found.occurs += 1,
            None => period.found.push(RecordException { kind, occurs: 1, description: description() }),
        }
    }

    #[cold]
    fn abnormal(&mut self, kind: AbnormalKind, description: impl FnOnce() -> String) {
        let Some(now) = self.now else { return };
        let period = self.abnormal.get_or_insert_with(|| Box::new(Period { since: now.mono, found: Vec::new() }));
        let index = period.found.iter().position(|found| found.kind == kind).unwrap_or_else(|| {
            period.found.push(PushAbnormal { kind, count: 0, details: Vec::new() });
            period.found.len() - 1
        });
        let found = &mut period.found[index];
        found.count += 1;
        if found.details.len() < ABNORMAL_DETAILS_MAX {
            found.details.push(AbnormalDetail { description: description(), time: now.wall });
        }
    }

    /// Errors in the published stream, once their period is over (or now). Empty: there is nothing to tell.
    pub fn take_abnormal(&mut self, now: Now, at_once: bool) -> Vec<PushAbnormal> {
        let mut found = take(&mut self.abnormal, ABNORMAL_PERIOD_MS, now, at_once);
        found.sort_by_key(|abnormal| ABNORMAL_KINDS.iter().position(|kind| *kind == abnormal.kind));
        found
    }

    /// Exceptions of recordings, as [`Watch::take_abnormal`].
    pub fn take_exceptions(&mut self, now: Now, at_once: bool) -> Vec<RecordException> {
        take(&mut self.exceptions, EXCEPTION_PERIOD_MS, now, at_once)
    }
}

fn take<T>(period: &mut Option<Box<Period<T>>>, period_ms: u64, now: Now, at_once: bool) -> Vec<T> {
    let is_due = |period: &mut Box<Period<T>>| at_once || now.mono.millis_since(period.since) >= period_ms;
    period.take_if(is_due).map_or_else(Vec::new, |period| period.found)
}

fn of<T>(track: TrackKind, video: T, audio: T) -> T {
    match track {
        TrackKind::Video => video,
        TrackKind::Audio => audio,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::clock::Clocks;
    use crate::units::WallTime;
    use AbnormalKind::*;
    use TrackKind::{Audio, Video};

    fn at(ms: u64) -> Now {
        Now { mono: MonoTime::from_millis(ms), wall: WallTime::from_unix_millis(ms as i64) }
    }

    /// Frames as (track, arrival, timestamp), and what is told of them.
    #[test]
    fn what_is_told() {
        let cases: &[(&str, &[(TrackKind, u64, u32)], &[(AbnormalKind, u64)], &[RecordExceptionKind])] = &[
            ("a plain stream", &[(Video, 0, 0), (Audio, 0, 0), (Video, 40, 40), (Audio, 23, 23), (Video, 80, 1_040)], &[], &[]),
            (
                "ahead by a second and more",
                &[(Video, 0, 0), (Video, 40, 1_001), (Audio, 0, 0), (Audio, 9, 2_000)],
                &[(VideoTimestampJump, 1), (AudioTimestampJump, 1)],
                &[],
            ),
            (
                "back a little",
                &[(Video, 0, 100), (Video, 40, 60), (Video, 41, 59), (Audio, 0, 100), (Audio, 1, 90)],
                &[(VideoTimestampBack, 2), (AudioTimestampBack, 1)],
                &[RecordExceptionKind::InvalidVideoTimestamp],
            ),
            (
                "jumps of both tracks",
                &[(Video, 0, 0), (Audio, 0, 0), (Video, 40, 60_000), (Audio, 40, 60_000), (Video, 80, 60_040)],
                &[(VideoTimestampJump, 1), (AudioTimestampJump, 1)],
                &[RecordExceptionKind::VideoTimestampJump, RecordExceptionKind::AudioTimestampJump],
            ),
            ("a gap on arrival", &[(Video, 0, 0), (Video, 3_000, 40), (Video, 6_001, 80), (Audio, 6_001, 80)], &[(VideoGap, 1)], &[]),
            (
                "far apart, told once",
                &[
                    (Video, 0, 0),
                    (Audio, 0, 0),
                    (Audio, 1, 900),
                    (Audio, 2, 1_800),
                    (Audio, 2, 2_700),
                    (Audio, 2, 3_600),
                    (Audio, 2, 4_500),
                    (Audio, 2, 5_400),
                    (Video, 3, 40),
                    (Video, 4, 80),
                ],
                &[],
                &[RecordExceptionKind::TracksFarApart],
            ),
            ("one picture a minute is not behind", &[(Video, 0, 0), (Audio, 0, 0), (Audio, 1, 900), (Audio, 2, 1_800), (Video, 3, 1_000)], &[], &[]),
            ("a wrap is none", &[(Video, 0, u32::MAX - 10), (Video, 40, 29)], &[], &[]),
        ];
        for (name, frames, abnormal, exceptions) in cases {
            let (mut clocks, mut watch) = (Clocks::default(), Watch::default());
            for &(track, arrival_ms, timestamp_ms) in *frames {
                watch.message(at(arrival_ms));
                let step = clocks.step(track, timestamp_ms);
                watch.frame(track, &step, at(arrival_ms));
            }
            let end = at(1_000_000);
            let found: Vec<_> = watch.take_abnormal(end, false).iter().map(|found| (found.kind, found.count)).collect();
            assert_eq!(&found, abnormal, "{name}");
            let found: Vec<_> = watch.take_exceptions(end, false).iter().map(|found| found.kind).collect();
            assert_eq!(&found, exceptions, "{name}");
        }
    }

    #[test]
    fn composition_times_of_hours_are_told() {
        let mut watch = Watch::default();
        watch.message(at(0));
        for cts_ms in [0, -40, 900_000, -900_000] {
            watch.composition(cts_ms);
        }
        assert!(watch.take_exceptions(at(0), true).is_empty());
        for cts_ms in [900_001, i32::MIN] {
            watch.composition(cts_ms);
        }
        let found = watch.take_exceptions(at(0), true);
        let description = "a picture is to be shown 900001 ms from when it is decoded".to_owned();
        assert_eq!(found, [RecordException { kind: RecordExceptionKind::InvalidVideoTimestamp, occurs: 2, description }]);
    }

    #[test]
    fn periods_and_bounds() {
        let mut watch = Watch::default();
        watch.message(at(1_000));
        for _ in 0..50 {
            watch.before_header(Audio);
        }
        assert!(watch.take_abnormal(at(5_999), false).is_empty());
        let found = watch.take_abnormal(at(6_000), false);
        assert_eq!((found.len(), found[0].count, found[0].details.len()), (1, 50, ABNORMAL_DETAILS_MAX));
        assert!(watch.take_abnormal(at(9_999), true).is_empty() && watch.abnormal.is_none());
        watch.codec_changed(Video, "h264", "h265");
        watch.chunk_too_large(60_000, at(2_000));
        let found = watch.take_abnormal(at(2_000), true);
        assert_eq!(found.iter().map(|found| found.kind).collect::<Vec<_>>(), [ChunkTooLarge, VideoCodecChanged]);
        assert_eq!(found[1].details[0].description, "from h264 to h265");
    }
}
