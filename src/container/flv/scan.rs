//! Reading back what was written: where it ends whole, what it holds, and the final onMetaData.

use super::metadata::{KeyFrame, Metadata};
use super::{FILE_HEADER_BYTES, PREVIOUS_TAG_SIZE_BYTES, TAG_AUDIO, TAG_HEADER_BYTES, TAG_SCRIPT, TAG_VIDEO};
use crate::container::window::{Window, apply};
use crate::container::{FinishPlan, MediaSummary, ReadAt, ScanError, TrackSummary};
use crate::limits::SEQUENCE_HEADER_BYTES_MAX;
use crate::media::flv_tag::{AudioUnit, VideoUnit, audio_codec, mp3_track, parse_audio, parse_video};
use crate::media::timeline::Timeline;
use crate::media::{AudioCodec, Payload, Tracks};

/// What tells frames apart lies in the first bytes of a tag: tag header and, for MP3, the frame header.
const BODY_HEAD_BYTES: usize = 16;
/// "onMetaData" as AMF0 text: how our own first tag begins.
const METADATA_NAME: &[u8] = b"\x02\x00\x0aonMetaData";

/// Walks the tags from the head to the last whole one.
///
/// A tag is whole if its type and stream id are ours, it lies inside the file, the size behind it agrees, and its body is a frame that we
/// record. The first tag that is not (torn, or the zeros of preallocation) ends the file.
///
/// # Errors
/// [`ScanError::Head`] for a file that does not begin as ours do, [`ScanError::Empty`] without a frame, [`ScanError::Read`].
pub fn scan<R: ReadAt + ?Sized>(file: &R) -> Result<FinishPlan, ScanError> {
    let mut window = Window::new(file);
    match window.array::<FILE_HEADER_BYTES>(0)? {
        Some([b'F', b'L', b'V', 1, _, 0, 0, 0, 9, 0, 0, 0, 0]) => {}
        _ => return Err(ScanError::Head { what: "no FLV header" }),
    }
    let metadata_offset = FILE_HEADER_BYTES as u64;
    let metadata_tag = Tag::read(&mut window, metadata_offset)?.ok_or(ScanError::Head { what: "the onMetaData tag is torn" })?;
    if metadata_tag.tag_type != TAG_SCRIPT || !window.at(metadata_tag.body_offset(), METADATA_NAME.len())?.eq(METADATA_NAME) {
        return Err(ScanError::Head { what: "the first tag is not onMetaData" });
    }
    let metadata_bytes = (metadata_tag.end() - metadata_offset) as usize;

    let mut walk = Walk::new(metadata_bytes / 18);
    let mut end = metadata_tag.end();
    while let Some(tag) = Tag::read(&mut window, end)? {
        if !walk.take(tag, &mut window)? {
            break;
        }
        end = tag.end();
    }
    let torn_bytes = window.torn_bytes(end)?;
    walk.finish(metadata_offset, metadata_bytes, end, torn_bytes)
}

#[derive(Clone, Copy)]
struct Tag {
    offset: u64,
    tag_type: u8,
    body_bytes: u32,
    timestamp: u32,
    /// The first bytes of the body, zeros behind its end.
    head: [u8; BODY_HEAD_BYTES],
}

impl Tag {
    /// The tag at `offset`; `None` if it is not whole.
    fn read<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, offset: u64) -> Result<Option<Self>, ScanError> {
        let read = window.at(offset, TAG_HEADER_BYTES + BODY_HEAD_BYTES)?;
        let Some((&header, body)) = read.split_first_chunk::<TAG_HEADER_BYTES>() else { return Ok(None) };
        let [tag_type, s2, s1, s0, t2, t1, t0, extended, 0, 0, 0] = header else { return Ok(None) };
        if !matches!(tag_type, TAG_AUDIO | TAG_VIDEO | TAG_SCRIPT) {
            return Ok(None);
        }
        let body_bytes = u32::from_be_bytes([0, s2, s1, s0]);
        let mut head = [0; BODY_HEAD_BYTES];
        let head_bytes = body.len().min(body_bytes as usize);
        head[..head_bytes].copy_from_slice(&body[..head_bytes]);
        let tag = Self { offset, tag_type, body_bytes, timestamp: u32::from_be_bytes([extended, t2, t1, t0]), head };
        if tag.end() > window.file_len() {
            return Ok(None);
        }
        let size_behind = window.array(tag.end() - PREVIOUS_TAG_SIZE_BYTES as u64)?.map(u32::from_be_bytes);
        Ok((size_behind == Some(TAG_HEADER_BYTES as u32 + body_bytes)).then_some(tag))
    }

    fn body_offset(&self) -> u64 {
        self.offset + TAG_HEADER_BYTES as u64
    }

    fn end(&self) -> u64 {
        self.body_offset() + u64::from(self.body_bytes) + PREVIOUS_TAG_SIZE_BYTES as u64
    }
}

/// What was seen so far.
struct Walk {
    tracks: Tracks,
    video: TrackWalk,
    audio: TrackWalk,
    index: KeyFrameIndex,
    last_video_is_key: bool,
}

impl Walk {
    fn new(key_frames_max: usize) -> Self {
        Self {
            tracks: Tracks::default(),
            video: TrackWalk::default(),
            audio: TrackWalk::default(),
            index: KeyFrameIndex::new(key_frames_max),
            last_video_is_key: false,
        }
    }

    /// Takes a whole tag; false if its body is nothing that we write.
    fn take<R: ReadAt + ?Sized>(&mut self, tag: Tag, window: &mut Window<'_, R>) -> Result<bool, ScanError> {
        let head = &tag.head[..BODY_HEAD_BYTES.min(tag.body_bytes as usize)];
        // Whole for a sequence header, which is bounded; the first bytes for a frame.
        let body = match (tag.tag_type, head) {
            (TAG_VIDEO, [_, 0, ..]) | (TAG_AUDIO, [0xa0..=0xaf, 0, ..]) => {
                window.at(tag.body_offset(), (tag.body_bytes as usize).min(SEQUENCE_HEADER_BYTES_MAX))?
            }
            _ => head,
        };
        let payload = Payload::contiguous(body);
        match tag.tag_type {
            TAG_VIDEO => match parse_video(payload) {
                Ok(VideoUnit::Config(track)) => self.tracks.video = Some(track),
                Ok(VideoUnit::Frame(part)) => {
                    let dts_ms = self.video.take(tag, part.tag_header.as_slice().len(), part.cts_ms, part.key);
                    if part.key {
                        self.index.push(KeyFrame { offset: tag.offset, time_ms: dts_ms });
                    }
                    self.last_video_is_key = part.key;
                }
                _ => return Ok(false),
            },
            TAG_AUDIO => match parse_audio(payload) {
                Ok(AudioUnit::Config(track)) => self.tracks.audio = Some(track),
                Ok(AudioUnit::Frame(part)) => {
                    if self.tracks.audio.is_none() && audio_codec(&part.tag_header) == Some(AudioCodec::Mp3) {
                        self.tracks.audio = mp3_track(&part.media).map(Into::into);
                    }
                    self.audio.take(tag, part.tag_header.as_slice().len(), 0, true);
                }
                _ => return Ok(false),
            },
            _script => {}
        }
        Ok(true)
    }

    fn finish(self, metadata_offset: u64, metadata_bytes: usize, end: u64, torn_bytes: u64) -> Result<FinishPlan, ScanError> {
        let Self { tracks, video, audio, index, last_video_is_key } = self;
        let audio_frame_ms = tracks.audio.as_ref().map(|track| {
            let rate_hz = i64::from(track.sample_rate_hz).max(1);
            (i64::from(track.samples_per_frame) * 1000 + rate_hz / 2) / rate_hz
        });
        let video_span = video.span(None);
        let audio_span = audio.span(audio_frame_ms);
        let spans = || [video_span, audio_span].into_iter().flatten();
        let Some(start_ms) = spans().map(|span| span.pts_start_ms).min() else { return Err(ScanError::Empty) };
        let end_ms = spans().map(|span| span.pts_end_ms).max().unwrap_or(start_ms);
        let last_dts_ms = spans().map(|span| span.dts_last_ms).max().unwrap_or(0);
        let duration_ms = (end_ms - start_ms).max(0) as u64;
        let summary = MediaSummary {
            duration_ms,
            video: video_span.map(|span| {
                let (codec, width, height) = tracks.video.as_ref().map_or(("", 0, 0), |track| (track.codec.name(), track.width, track.height));
                TrackSummary { width, height, key_frames: video.key_frames, ..video.summary(codec, span) }
            }),
            audio: audio_span.map(|span| {
                let (codec, sample_rate_hz, channels) =
                    tracks.audio.as_ref().map_or(("", 0, 0), |track| (track.codec.name(), track.sample_rate_hz, track.channels));
                TrackSummary { sample_rate_hz, channels, ..audio.summary(codec, span) }
            }),
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
        let writes = vec![(metadata_offset, metadata.tag(metadata_bytes))];
        Ok(FinishPlan { truncate_to: end, insert: None, writes, append: Vec::new(), torn_bytes, summary })
    }
}

/// Counts and times of one track.
#[derive(Default)]
struct TrackWalk {
    timeline: Timeline,
    frames: u64,
    bytes: u64,
    key_frames: u64,
    dts: Option<DtsRange>,
    pts: Option<(i64, i64)>,
}

#[derive(Clone, Copy)]
struct DtsRange {
    first_ms: i64,
    last_ms: i64,
    last_delta_ms: i64,
}

/// Where a track's frames lie in time.
#[derive(Clone, Copy)]
struct TrackSpan {
    dts_last_ms: i64,
    duration_ms: u64,
    pts_start_ms: i64,
    pts_end_ms: i64,
}

impl TrackWalk {
    /// Returns the decoding time.
    fn take(&mut self, tag: Tag, tag_header_bytes: usize, cts_ms: i32, key: bool) -> i64 {
        let dts_ms = self.timeline.unwrap_ms(tag.timestamp);
        let pts_ms = dts_ms + i64::from(cts_ms);
        self.frames += 1;
        self.bytes += u64::from(tag.body_bytes) - tag_header_bytes as u64;
        self.key_frames += u64::from(key);
        self.dts = Some(match self.dts {
            None => DtsRange { first_ms: dts_ms, last_ms: dts_ms, last_delta_ms: 0 },
            Some(range) => DtsRange { last_ms: dts_ms, last_delta_ms: (dts_ms - range.last_ms).max(0), ..range },
        });
        self.pts = Some(self.pts.map_or((pts_ms, pts_ms), |(least, most)| (least.min(pts_ms), most.max(pts_ms))));
        dts_ms
    }

    /// `frame_ms`: how long a frame lasts, if the codec says so; else the last one is taken to last as long as the one before.
    fn span(&self, frame_ms: Option<i64>) -> Option<TrackSpan> {
        let (dts, (pts_start_ms, pts_last_ms)) = (self.dts?, self.pts?);
        let last_ms = frame_ms.unwrap_or(dts.last_delta_ms);
        let duration_ms = (dts.last_ms - dts.first_ms + last_ms).max(0) as u64;
        Some(TrackSpan { dts_last_ms: dts.last_ms, duration_ms, pts_start_ms, pts_end_ms: pts_last_ms + last_ms })
    }

    fn summary(&self, codec: &str, span: TrackSpan) -> TrackSummary {
        TrackSummary { codec: codec.to_owned(), frames: self.frames, bytes: self.bytes, duration_ms: span.duration_ms, ..TrackSummary::default() }
    }
}

/// Key frames, thinned evenly as soon as there are twice as many as can be written: memory stays constant however long the file is.
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

/// Finishing what was finished changes nothing, whatever the file.
pub fn fuzz_flv_scan(data: &[u8]) {
    let Ok(plan) = scan(data) else { return };
    assert!(plan.truncate_to + plan.torn_bytes <= data.len() as u64);
    let finished = apply(&plan, data);
    let again = scan(finished.as_slice()).expect("what we finished can be read");
    assert_eq!(again.torn_bytes, 0);
    assert_eq!(again.summary, plan.summary);
    assert_eq!(apply(&again, &finished), finished);
}
