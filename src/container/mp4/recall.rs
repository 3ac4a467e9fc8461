//! The frames of a movie in the order in which they were written, to be recorded once more.

use super::fragment::{VIDEO_TRACK_ID, further_index};
use super::movie::{Movie, MovieSample, MovieTrack};
use crate::media::TrackKind;

/// One frame: where its media lie in the file, and when it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredFrame {
    pub track: TrackKind,
    /// See [`RecalledFrame::further`](crate::container::RecalledFrame::further).
    pub further: Option<usize>,
    pub key: bool,
    /// Decoding time since the first frame of the first tracks in the file, ms.
    pub time_ms: i64,
    pub cts_ms: i32,
    pub offset: u64,
    pub bytes: u32,
}

/// All frames from the last key frame at or before `from_ms` on (without video: from the last frame); `None`: all of them. A writer of ours puts
/// frames into the file as they come, so that their order there is the order in which they came.
pub fn frames(movie: &Movie, from_ms: Option<i64>) -> Vec<StoredFrame> {
    let mut frames: Vec<StoredFrame> = movie.tracks.iter().flat_map(|track| track.samples.iter().map(move |sample| stored(track, sample))).collect();
    frames.sort_by_key(|frame| frame.offset);
    let zero_ms = frames.iter().find(|frame| frame.further.is_none()).map_or(0, |frame| frame.time_ms);
    frames.iter_mut().for_each(|frame| frame.time_ms -= zero_ms);
    let has_video = movie.tracks.iter().any(|track| track.id == VIDEO_TRACK_ID);
    let begins = |frame: &StoredFrame| frame.further.is_none() && (!has_video || (frame.track == TrackKind::Video && frame.key));
    let first = from_ms.and_then(|from_ms| frames.iter().rposition(|frame| begins(frame) && frame.time_ms <= from_ms)).unwrap_or(0);
    frames.split_off(first)
}

fn stored(track: &MovieTrack, sample: &MovieSample) -> StoredFrame {
    let ticks = i64::try_from(sample.dts).unwrap_or(i64::MAX).saturating_add(track.start);
    StoredFrame {
        track: track.kind,
        further: further_index(track.id),
        key: sample.sync || track.kind == TrackKind::Audio,
        time_ms: nearest_ms(ticks, track.ticks_per_second),
        cts_ms: nearest_ms(i64::from(sample.cts), track.ticks_per_second) as i32,
        offset: sample.offset,
        bytes: sample.bytes,
    }
}

/// What was milliseconds once, and became ticks, is the same milliseconds again.
fn nearest_ms(ticks: i64, ticks_per_second: u32) -> i64 {
    let per_second = i128::from(ticks_per_second.max(1));
    ((i128::from(ticks) * 2_000 + per_second).div_euclid(2 * per_second)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(kind: TrackKind, ticks_per_second: u32, start: i64, samples: &[(u64, u64, bool)]) -> MovieTrack {
        let sample = |&(offset, dts, sync): &(u64, u64, bool)| MovieSample { offset, bytes: 10, dts, cts: 0, duration: 1, sync };
        let samples = samples.iter().map(sample).collect();
        MovieTrack {
            id: super::super::fragment::track_id(kind),
            kind,
            ticks_per_second,
            stsd: Vec::new(),
            width: 0,
            height: 0,
            samples,
            start,
            label: Default::default(),
        }
    }

    #[test]
    fn frames_come_as_they_were_written_and_begin_where_they_can_be_decoded() {
        let video = track(TrackKind::Video, 1_000, 100, &[(10, 0, true), (30, 40, false), (50, 80, true), (70, 120, false)]);
        let audio = track(TrackKind::Audio, 48_000, 4_800 + 336, &[(20, 0, true), (40, 1_920, true), (60, 3_840, true)]);
        let movie = Movie { tracks: vec![video, audio] };
        let times = |from_ms| frames(&movie, from_ms).iter().map(|frame| (frame.offset, frame.time_ms)).collect::<Vec<_>>();
        assert_eq!(times(None), [(10, 0), (20, 7), (30, 40), (40, 47), (50, 80), (60, 87), (70, 120)]);
        assert_eq!(times(Some(79)), times(None));
        for from_ms in [80, 100, 1_000] {
            assert_eq!(times(Some(from_ms)), [(50, 80), (60, 87), (70, 120)], "{from_ms}");
        }
        let sound = Movie { tracks: movie.tracks[1..].to_vec() };
        let times = |from_ms| frames(&sound, from_ms).iter().map(|frame| frame.time_ms).collect::<Vec<_>>();
        assert_eq!((times(Some(45)), times(Some(-5))), (vec![40, 80], vec![0, 40, 80]));
    }
}
