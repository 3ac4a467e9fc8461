//! The loss receipt of a recording: what it was given, what it holds, and what is missing or damaged, each with its reason.

use serde::{Deserialize, Serialize};

use crate::units::FileId;

/// Gaps that are listed one by one; the others are only counted.
pub const GAPS_MAX: usize = 100;

/// Beside every finished recording, in its `recording.json`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Receipt {
    /// What the recorder wrote, by track. Absent after a crash: what is there was found, not counted.
    pub video: Option<TrackReceipt>,
    pub audio: Option<TrackReceipt>,
    /// The tracks beside the first of their kind, in the order of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<FurtherReceipt>,
    /// Data messages: texts, cue points, splices.
    #[serde(skip_serializing_if = "is_zero")]
    pub data_messages: u64,
    /// How far the clocks of the tracks went apart, if it can be noticed. The files keep it as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// Frames that this recording should hold and does not, or that came while it could not begin.
    pub lost: Vec<Loss>,
    /// Ranges of its media files that the disk did not take or give a receipt for.
    pub damaged: Vec<Damage>,
    /// Checksums of the media as they were handed to the disk; of files that were recovered as they were found, added a while later.
    pub checksums: Vec<MediaChecksum>,
    /// The recording that this one goes on from, because its disk was full, failed or hung.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continues: Option<Continued>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Of a track beside the first of its kind (Enhanced RTMP multitrack).
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct FurtherReceipt {
    /// `video` or `audio`.
    pub kind: String,
    /// Its number on the wire.
    pub number: u8,
    pub track: TrackReceipt,
}

/// A recording that had to end before its time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Continued {
    pub file_id: FileId,
    /// `disk_full`, `storage_failed` or `storage_busy`.
    pub reason: String,
}

/// Of one track, as it was written. Times are the publisher's timestamps, milliseconds, unwrapped.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrackReceipt {
    pub frames: u64,
    /// Media bytes, without the container's.
    pub bytes: u64,
    pub first_dts_ms: i64,
    pub last_dts_ms: i64,
    /// Frames whose timestamp went back.
    pub late_frames: u64,
    /// Frames that are to be shown more than a quarter of an hour from when they are decoded. The files keep it as it was sent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub far_offsets: u64,
    pub gap_count: u64,
    /// All gaps together, from frame to frame.
    pub gaps_ms: u64,
    /// The first [`GAPS_MAX`] gaps.
    pub gaps: Vec<Gap>,
}

/// What is beyond [`DRIFT_MS`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Drift {
    /// Audio by its timestamps, gaps taken out, less audio by its samples: above 0 its samples last shorter than its timestamps say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_clock_ms: Option<i64>,
    /// The end of the audio less the end of the video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_end_ms: Option<i64>,
}

/// How long every audio frame of a track is, where all are alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLength {
    pub samples: u32,
    pub rate_hz: u32,
}

/// Nothing came of a track for longer than usual.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gap {
    /// DTS of the frame before it.
    pub after_ms: i64,
    pub length_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Loss {
    /// `disk_full`, `storage_failed`, `storage_busy`, `unfit`.
    pub reason: String,
    pub frames: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Damage {
    /// The media file, by its name while it was written.
    pub file: String,
    pub offset: u64,
    pub bytes: u64,
    /// What the disk said.
    pub error: String,
}

/// CRC-32 (ISO 3309) of each run of `run_bytes` from `offset` on; the last may be shorter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MediaChecksum {
    /// The file in the recording's folder.
    pub file: String,
    pub offset: u64,
    pub bytes: u64,
    pub run_bytes: u64,
    /// Hexadecimal.
    pub crc32: Vec<String>,
}

/// A step between two frames of a track that is longer than this is a gap.
const GAP_MS: i64 = 1_000;

/// Sound that is less than this beside its picture is not noticed as such (Rec. ITU-R BT.1359-1 finds 90 ms early and 185 ms late acceptable).
const DRIFT_MS: i64 = 100;

impl TrackReceipt {
    /// One more frame.
    pub fn count(&mut self, dts_ms: i64, bytes: usize) {
        if self.frames == 0 {
            self.first_dts_ms = dts_ms;
        } else {
            let step_ms = dts_ms - self.last_dts_ms;
            if step_ms < 0 {
                self.late_frames += 1;
            } else if step_ms > GAP_MS {
                self.gap(step_ms);
            }
        }
        self.frames += 1;
        self.bytes += bytes as u64;
        self.last_dts_ms = dts_ms;
    }

    #[cold]
    fn gap(&mut self, length_ms: i64) {
        self.gap_count += 1;
        self.gaps_ms += length_ms as u64;
        if self.gaps.len() < GAPS_MAX {
            self.gaps.push(Gap { after_ms: self.last_dts_ms, length_ms: length_ms as u64 });
        }
    }

    /// What the next file of the same recording was given.
    fn add(&mut self, next: &Self) {
        self.frames += next.frames;
        self.bytes += next.bytes;
        self.last_dts_ms = next.last_dts_ms;
        self.late_frames += next.late_frames;
        self.far_offsets += next.far_offsets;
        self.gap_count += next.gap_count;
        self.gaps_ms += next.gaps_ms;
        self.gaps.extend(next.gaps.iter().take(GAPS_MAX.saturating_sub(self.gaps.len())));
    }
}

impl TrackReceipt {
    fn span_ms(&self) -> i64 {
        self.last_dts_ms - self.first_dts_ms
    }

    /// From frame to frame, on average.
    fn step_ms(&self) -> i64 {
        self.span_ms() / (self.frames as i64 - 1).max(1)
    }
}

impl FrameLength {
    fn frames_ms(self, frames: u64) -> i64 {
        (i128::from(frames) * i128::from(self.samples) * 1_000 / i128::from(self.rate_hz)) as i64
    }
}

impl Drift {
    /// Of one file, from what was counted. `length`: of the audio's frames, where it is known.
    fn of(video: Option<&TrackReceipt>, audio: &TrackReceipt, length: Option<FrameLength>) -> Option<Self> {
        let length = length.filter(|length| length.rate_hz > 0);
        let audio_clock_ms = length.map(|length| {
            // A gap is as long as what is missing and one frame.
            let steps = audio.frames.saturating_sub(1).saturating_sub(audio.gap_count);
            audio.span_ms() - audio.gaps_ms as i64 - length.frames_ms(steps)
        });
        let audio_end_ms = video.map(|video| {
            let audio_step_ms = length.map_or_else(|| audio.step_ms(), |length| length.frames_ms(1));
            let apart_ms = audio.last_dts_ms + audio_step_ms - video.last_dts_ms - video.step_ms();
            // Of a slow picture nobody knows for how long the last one was to be shown.
            if apart_ms.abs() > video.step_ms() { apart_ms } else { 0 }
        });
        let noticed = |ms: Option<i64>| ms.filter(|ms| ms.abs() > DRIFT_MS);
        let drift = Self { audio_clock_ms: noticed(audio_clock_ms), audio_end_ms: noticed(audio_end_ms) };
        (drift != Self::default()).then_some(drift)
    }
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(ms) = self.audio_clock_ms {
            let than = if ms > 0 { "shorter" } else { "longer" };
            write!(f, "the samples of the audio last {} ms {than} than its timestamps say", ms.abs())?;
        }
        if let Some(ms) = self.audio_end_ms {
            let separator = if self.audio_clock_ms.is_some() { "; " } else { "" };
            write!(f, "{separator}the audio ends {} ms {} the video", ms.abs(), if ms > 0 { "after" } else { "before" })?;
        }
        Ok(())
    }
}

impl Receipt {
    /// Fills in [`Receipt::drift`] for one file whose frames are counted.
    pub fn measure_drift(&mut self, length: Option<FrameLength>) {
        self.drift = self.audio.as_ref().and_then(|audio| Drift::of(self.video.as_ref(), audio, length));
    }

    /// Clocks go on drifting from file to file, while only the last one's end is the end.
    fn add_drift(&mut self, next: &Self) {
        let (sum, part) = (self.drift.unwrap_or_default(), next.drift.unwrap_or_default());
        let audio_clock_ms = match (sum.audio_clock_ms, part.audio_clock_ms) {
            (Some(sum), Some(part)) => Some(sum + part),
            (sum, part) => sum.or(part),
        };
        let is_end = next.video.is_some() && next.audio.is_some();
        let audio_end_ms = if is_end { part.audio_end_ms } else { sum.audio_end_ms };
        let drift = Drift { audio_clock_ms, audio_end_ms };
        self.drift = (drift != Drift::default()).then_some(drift);
    }

    /// The receipt of the next file of the same recording.
    pub fn add(&mut self, next: &Self) {
        self.add_drift(next);
        for (sum, part) in [(&mut self.video, &next.video), (&mut self.audio, &next.audio)] {
            match (sum.as_mut(), part) {
                (Some(sum), Some(part)) => sum.add(part),
                (None, Some(part)) => *sum = Some(part.clone()),
                (_, None) => {}
            }
        }
        for part in &next.further {
            match self.further.iter_mut().find(|sum| (&sum.kind, sum.number) == (&part.kind, part.number)) {
                Some(sum) => sum.track.add(&part.track),
                None => self.further.push(part.clone()),
            }
        }
        self.data_messages += next.data_messages;
        next.lost.iter().for_each(|loss| self.lose(&loss.reason, loss.frames));
        self.damaged.extend_from_slice(&next.damaged);
        self.checksums.extend_from_slice(&next.checksums);
        if self.continues.is_none() {
            self.continues.clone_from(&next.continues);
        }
    }

    pub fn lose(&mut self, reason: &str, frames: u64) {
        if frames == 0 {
            return;
        }
        match self.lost.iter_mut().find(|loss| loss.reason == reason) {
            Some(loss) => loss.frames += frames,
            None => self.lost.push(Loss { reason: reason.to_owned(), frames }),
        }
    }

    /// Frames of the first tracks that were handed to the recording's files: what a summary of any container counts.
    pub fn frames(&self) -> u64 {
        [&self.video, &self.audio].into_iter().flatten().map(|track| track.frames).sum()
    }

    /// What is odd about the times as they were sent; they are kept. `None`: nothing.
    pub fn odd_times(&self) -> Option<String> {
        let far = self.video.as_ref().map_or(0, |video| video.far_offsets);
        let far = match far {
            0 => None,
            1 => Some("one picture is to be shown more than 15 minutes from when it is decoded".to_owned()),
            far => Some(format!("{far} pictures are to be shown more than 15 minutes from when they are decoded")),
        };
        let odd: Vec<String> = self.drift.map(|drift| drift.to_string()).into_iter().chain(far).collect();
        (!odd.is_empty()).then(|| odd.join("; "))
    }

    /// What a user must know, in a sentence; empty if all is well.
    pub fn trouble(&self) -> String {
        let lost = self.lost.iter().map(|loss| format!("{} frames lost ({})", loss.frames, loss.reason));
        let damaged = self.damaged.iter().map(|damage| {
            format!("{} damaged, bytes {} to {} ({})", damage.file, damage.offset, damage.offset.saturating_add(damage.bytes), damage.error)
        });
        let continues = self.continues.iter().map(|before| format!("goes on from file {} ({})", before.file_id, before.reason));
        lost.chain(damaged).chain(continues).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_counts_gaps_and_late_frames() {
        let mut track = TrackReceipt::default();
        for dts_ms in [1_000, 1_040, 1_030, 1_070, 4_000, 4_040] {
            track.count(dts_ms, 10);
        }
        assert_eq!((track.frames, track.bytes, track.first_dts_ms, track.last_dts_ms, track.late_frames), (6, 60, 1_000, 4_040, 1));
        assert_eq!((track.gap_count, track.gaps.as_slice()), (1, &[Gap { after_ms: 1_070, length_ms: 2_930 }][..]));
    }

    fn track(frames: u64, step_us: i64, begin_ms: i64) -> TrackReceipt {
        let mut track = TrackReceipt::default();
        (0..frames as i64).for_each(|index| track.count(begin_ms + index * step_us / 1_000, 1));
        track
    }

    #[test]
    fn drift_is_what_can_be_noticed() {
        const AAC: Option<FrameLength> = Some(FrameLength { samples: 1_024, rate_hz: 48_000 });
        let video = || Some(track(1_500, 40_000, 0));
        let with_gap = || {
            let mut audio = track(1_000, 21_333, 0);
            (0..1_000).for_each(|index| audio.count(50_000 + index * 21_333 / 1_000, 1));
            audio
        };
        // Video of a minute; audio; its frames; the clock and the end, as they are told.
        let cases = [
            ("as it should be", video(), track(2_813, 21_333, 0), AAC, None, None),
            ("rounded to whole milliseconds downwards", video(), track(2_857, 21_000, 0), AAC, Some(-952), None),
            ("1 % slow", video(), track(2_813, 21_547, 0), AAC, Some(602), Some(613)),
            ("1 % fast", video(), track(2_813, 21_120, 0), AAC, Some(-598), Some(-587)),
            ("frames of any length", video(), track(2_813, 21_547, 0), None, None, Some(613)),
            ("ends early", video(), track(1_000, 21_333, 0), AAC, None, Some(-38_668)),
            ("begins late and ends as it should", video(), track(1_406, 21_333, 30_007), AAC, None, None),
            ("with a gap, which is no drift", video(), with_gap(), AAC, None, Some(11_332)),
            ("a picture every ten seconds", Some(track(7, 10_000_000, 0)), track(2_813, 21_333, 0), AAC, None, None),
            ("alone", None, track(2_813, 21_547, 0), AAC, Some(602), None),
            ("one frame", Some(track(1, 0, 0)), track(1, 0, 0), AAC, None, None),
        ];
        for (name, video, audio, length, audio_clock_ms, audio_end_ms) in cases {
            let mut receipt = Receipt { video, audio: Some(audio), ..Receipt::default() };
            receipt.measure_drift(length);
            let near = |found: Option<i64>, expected: Option<i64>| match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() <= 3,
                (found, expected) => found == expected,
            };
            let drift = receipt.drift.unwrap_or_default();
            assert!(near(drift.audio_clock_ms, audio_clock_ms) && near(drift.audio_end_ms, audio_end_ms), "{name}: {drift:?}");
            assert_eq!(receipt.drift.is_none(), (audio_clock_ms, audio_end_ms) == (None, None), "{name}");
        }
    }

    #[test]
    fn drift_goes_on_over_files_and_is_said() {
        let tracks = || (Some(track(1, 0, 0)), Some(track(1, 0, 0)));
        let part = |audio_clock_ms, audio_end_ms| {
            let (video, audio) = tracks();
            Receipt { video, audio, drift: Some(Drift { audio_clock_ms, audio_end_ms }), ..Receipt::default() }
        };
        let mut sum = Receipt::default();
        sum.add(&part(Some(200), Some(200)));
        sum.add(&part(Some(150), Some(-350)));
        sum.add(&Receipt::default());
        let said = "the samples of the audio last 350 ms shorter than its timestamps say; the audio ends 350 ms before the video";
        assert_eq!(sum.odd_times().as_deref(), Some(said));
        let far = TrackReceipt { far_offsets: 3, ..TrackReceipt::default() };
        sum.add(&Receipt { video: Some(far), ..Receipt::default() });
        assert!(sum.odd_times().is_some_and(|said| said.ends_with("; 3 pictures are to be shown more than 15 minutes from when they are decoded")));
        assert_eq!(Receipt::default().odd_times(), None);
        // Also what is left out is read again.
        let written = serde_json::to_string(&sum).unwrap();
        assert_eq!(serde_json::from_str::<Receipt>(&written).unwrap(), sum);
        let (video, audio) = tracks();
        let usual = Receipt { video, audio, ..Receipt::default() };
        assert_eq!(serde_json::from_str::<Receipt>(&serde_json::to_string(&usual).unwrap()).unwrap(), usual);
        let (video, audio) = tracks();
        sum.add(&Receipt { video, audio, ..Receipt::default() });
        assert_eq!(sum.drift, Some(Drift { audio_clock_ms: Some(350), audio_end_ms: None }));
        assert_eq!(sum.trouble(), "", "nothing is missing");
    }

    #[test]
    fn further_tracks_and_messages_add_up_over_files() {
        let further = |kind: &str, number, frames| FurtherReceipt { kind: kind.to_owned(), number, track: track(frames, 20_000, 0) };
        let part = |further: Vec<FurtherReceipt>| Receipt { further, data_messages: 3, ..Receipt::default() };
        let mut sum = part(vec![further("audio", 1, 10), further("video", 1, 20)]);
        sum.add(&part(vec![further("video", 1, 5), further("audio", 2, 1), further("audio", 1, 7)]));
        let counted: Vec<_> = sum.further.iter().map(|further| (further.kind.as_str(), further.number, further.track.frames)).collect();
        assert_eq!(counted, [("audio", 1, 17), ("video", 1, 25), ("audio", 2, 1)]);
        assert_eq!((sum.data_messages, sum.frames()), (6, 0), "not every container's summary counts them");
        let text = serde_json::to_string(&Receipt::default()).expect("JSON");
        assert!(!text.contains("further") && !text.contains("data_messages"), "{text}");
    }

    #[test]
    fn trouble_is_said_and_health_is_not() {
        let mut receipt = Receipt { video: Some(TrackReceipt::default()), ..Receipt::default() };
        assert_eq!(receipt.trouble(), "");
        receipt.lose("disk_full", 3);
        receipt.lose("disk_full", 2);
        receipt.lose("unfit", 0);
        receipt.damaged.push(Damage { file: "media-1.mp4".to_owned(), offset: 4096, bytes: 100, error: "EIO".to_owned() });
        assert_eq!(receipt.trouble(), "5 frames lost (disk_full); media-1.mp4 damaged, bytes 4096 to 4196 (EIO)");
    }
}
