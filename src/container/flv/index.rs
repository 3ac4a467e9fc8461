//! What a file holds, counted frame by frame: by the writer as it writes, by `scan` as it reads. The final onMetaData comes of it either way.

use super::FILE_HEADER_BYTES;
use super::metadata::{KeyFrame, Metadata, TAIL_BYTES};
use crate::container::track_times::TrackTimes;
use crate::container::{FinishPlan, HEAD_ALIGN_BYTES, MediaSummary, ScanError, TrackSummary};
use crate::media::Tracks;

#[derive(Clone, Debug)]
pub(super) struct Index {
    pub tracks: Tracks,
    file_header: [u8; FILE_HEADER_BYTES],
    /// The whole onMetaData tag, which keeps its size.
    metadata_bytes: usize,
    video: TrackTimes,
    audio: TrackTimes,
    key_frames: KeyFrameIndex,
    last_video_is_key: bool,
}

impl Index {
    pub fn new(tracks: Tracks, file_header: [u8; FILE_HEADER_BYTES], metadata_bytes: usize) -> Self {
        let key_frames = KeyFrameIndex::new(metadata_bytes / 18);
        let (video, audio) = (TrackTimes::default(), TrackTimes::default());
        Self { tracks, file_header, metadata_bytes, video, audio, key_frames, last_video_is_key: false }
    }

    /// `offset` is that of the tag; times are those in the file, not modulo 2^32.
    pub fn video_frame(&mut self, offset: u64, dts_ms: i64, cts_ms: i32, key: bool, media_bytes: u64) {
        self.video.take(dts_ms, dts_ms + i64::from(cts_ms), key, media_bytes);
        if key {
            self.key_frames.push(KeyFrame { offset, time_ms: dts_ms });
        }
        self.last_video_is_key = key;
    }

    pub fn audio_frame(&mut self, dts_ms: i64, media_bytes: u64) {
        self.audio.take(dts_ms, dts_ms, true, media_bytes);
    }

    /// What makes the file final: it ends at `end`. `old`: the onMetaData tag that stands in it, if it may be another than that of the head.
    ///
    /// # Errors
    /// [`ScanError::Empty`] if there is no frame, [`ScanError::Head`] if onMetaData has no room.
    pub fn plan(self, end: u64, torn_bytes: u64, old: Option<&[u8]>) -> Result<FinishPlan, ScanError> {
        let Self { mut tracks, file_header, metadata_bytes, video, audio, key_frames: index, last_video_is_key } = self;
        let audio_frame_ms = tracks.audio.as_ref().map(|track| {
            let rate_hz = i64::from(track.sample_rate_hz).max(1);
            (i64::from(track.samples_per_frame) * 1000 + rate_hz / 2) / rate_hz
        });
        let video_span = video.span(None);
        let audio_span = audio.span(audio_frame_ms);
        // A track that was announced and never came is none: not every codec leaves a header in the file that tells of it.
        tracks.video = tracks.video.filter(|_| video_span.is_some());
        tracks.audio = tracks.audio.filter(|_| audio_span.is_some());
        let spans = || [video_span, audio_span].into_iter().flatten();
        let Some(start_ms) = spans().map(|span| span.pts_start).min() else { return Err(ScanError::Empty) };
        let end_ms = spans().map(|span| span.pts_end).max().unwrap_or(start_ms);
        let last_dts_ms = spans().map(|span| span.dts_last).max().unwrap_or(0);
        let length_ms = |ms: i64| ms.max(0) as u64;
        let duration_ms = length_ms(end_ms - start_ms);
        let summary = MediaSummary {
            duration_ms,
            video: video_span.map(|span| {
                let (codec, width, height) = tracks.video.as_ref().map_or(("", 0, 0), |track| (track.codec.name(), track.width, track.height));
                TrackSummary { width, height, key_frames: video.key_frames, ..video.summary(codec, length_ms(span.duration)) }
            }),
            audio: audio_span.map(|span| {
                let (codec, sample_rate_hz, channels) =
                    tracks.audio.as_ref().map_or(("", 0, 0), |track| (track.codec.name(), track.sample_rate_hz, track.channels));
                TrackSummary { sample_rate_hz, channels, ..audio.summary(codec, length_ms(span.duration)) }
            }),
            ..MediaSummary::default()
        };
        let mut metadata = Metadata {
            tracks: &tracks,
            duration_ms,
            last_timestamp_ms: last_dts_ms,
            file_bytes: end,
            can_seek_to_end: video_span.is_none() || last_video_is_key,
            key_frames: &[],
        };
        let room = metadata.key_frames_max(metadata_bytes).ok_or(ScanError::Head { what: "the onMetaData tag has no room" })?;
        let key_frames = index.thinned(room);
        metadata.key_frames = &key_frames;
        let mut front = file_header.to_vec();
        front.extend_from_slice(&metadata.tag(metadata_bytes));
        front.truncate(FILE_HEADER_BYTES + changed_bytes(&front[FILE_HEADER_BYTES..], old));
        Ok(FinishPlan { truncate_to: end, insert: None, writes: vec![(0, front)], append: Vec::new(), torn_bytes, summary })
    }
}

/// How much of the tag has to be written, to the end of a page: pages that are written whole need not be read before, and behind the key frames there are
/// the zeros of the filler, as they stand in the head, and the end, which every tag of this size has.
fn changed_bytes(tag: &[u8], old: Option<&[u8]>) -> usize {
    let filled = tag.len().saturating_sub(TAIL_BYTES);
    let used = tag[..filled].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let differs = match old {
        None => 0,
        Some(old) if old.len() < tag.len() => tag.len(),
        Some(old) => tag.iter().zip(old).rposition(|(new, old)| new != old).map_or(0, |last| last + 1),
    };
    let end = FILE_HEADER_BYTES + used.max(differs).max(1);
    (end.next_multiple_of(HEAD_ALIGN_BYTES) - FILE_HEADER_BYTES).min(tag.len())
}

/// Key frames, thinned evenly as soon as there are twice as many as can be written: memory stays constant however long the file is.
#[derive(Clone, Debug)]
struct KeyFrameIndex {
    entries: Vec<KeyFrame>,
    entries_max: usize,
    /// One of so many key frames is kept.
    stride: u64,
    seen: u64,
}

impl KeyFrameIndex {
    fn new(entries_max: usize) -> Self {
        Self { entries: Vec::new(), entries_max: 2 * entries_max.max(1), stride: 1, seen: 0 }
    }

    fn push(&mut self, key_frame: KeyFrame) {
        if self.seen.is_multiple_of(self.stride) {
            if self.entries.len() == self.entries_max {
                self.halve();
            }
            if self.seen.is_multiple_of(self.stride) {
                self.entries.push(key_frame);
            }
        }
        self.seen += 1;
    }

    fn halve(&mut self) {
        let mut at = 0;
        self.entries.retain(|_| {
            at += 1;
            at % 2 == 1
        });
        self.stride *= 2;
    }

    /// At most `room` entries, evenly spread, the first among them.
    fn thinned(self, room: usize) -> Vec<KeyFrame> {
        let step = self.entries.len().div_ceil(room.max(1)).max(1);
        self.entries.into_iter().step_by(step).take(room).collect()
    }
}
