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
    pub gap_count: u64,
    /// The first [`GAPS_MAX`] gaps.
    pub gaps: Vec<Gap>,
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
        self.gap_count += next.gap_count;
        self.gaps.extend(next.gaps.iter().take(GAPS_MAX.saturating_sub(self.gaps.len())));
    }
}

impl Receipt {
    /// The receipt of the next file of the same recording.
    pub fn add(&mut self, next: &Self) {
        for (sum, part) in [(&mut self.video, &next.video), (&mut self.audio, &next.audio)] {
            match (sum.as_mut(), part) {
                (Some(sum), Some(part)) => sum.add(part),
                (None, Some(part)) => *sum = Some(part.clone()),
                (_, None) => {}
            }
        }
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

    /// Frames that were handed to the recording's files.
    pub fn frames(&self) -> u64 {
        [&self.video, &self.audio].into_iter().flatten().map(|track| track.frames).sum()
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
