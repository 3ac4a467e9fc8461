//! What the frames of a transport stream come to: its tracks and its segments. Kept while it is written, and again when it is read back.

use super::opus;
use super::scan::{TsScan, TsSegment};
use super::tables::{AudioStream, Program, VideoStream};
use super::{TICKS_MASK, TICKS_PER_MS, ZERO_TICKS};
use crate::codec::aac::{channels_of_access_unit, parse_adts_header};
use crate::codec::ac3::parse_sync_frame;
use crate::codec::avc::{self, parse_sps};
use crate::codec::hevc;
use crate::codec::mp3::parse_mp3_header;
use crate::codec::opus::{SAMPLE_RATE_HZ, packet_samples};
use crate::container::track_times::TrackTimes;
use crate::container::{FinishPlan, MediaSummary, ScanError, TrackSummary};
use crate::media::AudioCodec;

/// Segment starts that are kept; the last of them goes to the end. 48 days of 4-second segments, 16 MiB.
const SEGMENTS_MAX: usize = 1 << 20;
/// Of the first key frame, how much is looked through for the sequence parameter set.
const VIDEO_HEAD_BYTES_MAX: usize = 2048;

/// Of which stream a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Video,
    Audio,
    Messages,
}

/// See the module. For each frame: [`Tally::begin`], its bytes, [`Tally::end`].
#[derive(Clone, Debug)]
pub(super) struct Tally {
    program: Program,
    video: TrackTally,
    audio: TrackTally,
    messages: TrackTally,
    segments: Vec<TsSegment>,
    /// Marked beginning without its first frame: offset, and the time of an audio frame seen meanwhile.
    segment_begun: Option<SegmentBegun>,
    video_head: Vec<u8>,
    video_size: Option<(u32, u32)>,
    /// Of the first whole frame that tells it.
    audio_format: Option<AudioFormat>,
    /// Of the frame under way, which may turn out to be torn.
    audio_format_begun: Option<AudioFormat>,
}

#[derive(Clone, Copy, Debug)]
struct SegmentBegun {
    offset: u64,
    audio_pts_ticks: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct AudioFormat {
    sample_rate_hz: u32,
    channels: u8,
    samples: u32,
}

impl Tally {
    pub fn new(program: Program) -> Self {
        Self {
            program,
            video: TrackTally::default(),
            audio: TrackTally::default(),
            messages: TrackTally::default(),
            segments: Vec::new(),
            segment_begun: None,
            video_head: Vec::new(),
            video_size: None,
            audio_format: None,
            audio_format_begun: None,
        }
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    /// A segment begins at `offset`.
    pub fn start_segment(&mut self, offset: u64) {
        // One begun without video before: it has what audio it has.
        self.begin_segment(None);
        self.segment_begun = Some(SegmentBegun { offset, audio_pts_ticks: None });
    }

    /// A frame begins. Presentation and decoding time in ticks, of which 33 bits count; `key`: of video.
    pub fn begin(&mut self, kind: Kind, times: (i64, i64), key: bool) {
        self.track(kind).begin(times, kind == Kind::Video && key);
    }

    fn track(&mut self, kind: Kind) -> &mut TrackTally {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
            Kind::Messages => &mut self.messages,
        }
    }

    /// So many bytes of the frame under way.
    pub fn take(&mut self, kind: Kind, bytes: usize) {
        self.track(kind).stream_bytes += bytes as u64;
    }

    /// Is to be shown bytes of a frame: it does not know yet what they tell.
    pub fn looks_at(&self, kind: Kind) -> bool {
        match kind {
            Kind::Video => self.video_size.is_none(),
            Kind::Audio => self.audio_format.is_none(),
            Kind::Messages => false,
        }
    }

    /// Bytes of the frame under way, in order.
    pub fn look_at(&mut self, kind: Kind, bytes: &[u8]) {
        if kind == Kind::Video && self.looks_at(kind) {
            let room = VIDEO_HEAD_BYTES_MAX - self.video_head.len();
            self.video_head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    /// The bytes of the frame under way that are in its first packet.
    pub fn look_at_begin(&mut self, kind: Kind, bytes: &[u8]) {
        if kind == Kind::Audio && self.looks_at(kind) {
            self.audio_format_begun = self.program.audio.and_then(|audio| audio_format(audio, bytes));
        }
    }

    /// Its frame has ended.
    pub fn end(&mut self, kind: Kind) {
        let track = self.track(kind);
        track.end();
        let pts_ticks = track.pts_last;
        match kind {
            Kind::Messages => return,
            Kind::Video if self.video_size.is_none() => {
                self.video_size = self.program.video.and_then(|video| picture_size(video, &self.video_head));
                self.video_head.clear();
            }
            Kind::Video => {}
            Kind::Audio => self.audio_format = self.audio_format.or(self.audio_format_begun.take()),
        }
        if kind == Kind::Video || self.program.video.is_none() {
            self.begin_segment(Some(pts_ticks));
        } else if let Some(begun) = &mut self.segment_begun {
            begun.audio_pts_ticks.get_or_insert(pts_ticks);
        }
    }

    /// Keeps the segment that was marked, at the time of its first frame.
    fn begin_segment(&mut self, pts_ticks: Option<i64>) {
        let Some(begun) = self.segment_begun else { return };
        let is_video_frame = pts_ticks.is_some();
        let Some(pts_ticks) = pts_ticks.or(begun.audio_pts_ticks) else { return };
        self.segment_begun = None;
        if self.segments.len() < SEGMENTS_MAX {
            let key = self.program.video.is_none() || (is_video_frame && self.video.key);
            self.segments.push(TsSegment { offset: begun.offset, pts_ms: (pts_ticks - ZERO_TICKS).div_euclid(TICKS_PER_MS), key });
        }
    }

    /// What the file holds; `whole_end`: behind its last whole frame.
    ///
    /// # Errors
    /// [`ScanError::Empty`] without one.
    pub fn finish(mut self, whole_end: u64, torn_bytes: u64) -> Result<TsScan, ScanError> {
        self.begin_segment(None);
        let audio_frame_ticks = self.audio_format.map(|format| i64::from(format.samples) * 1000 * TICKS_PER_MS / i64::from(format.sample_rate_hz));
        let spans = [self.video.times.span(None), self.audio.times.span(audio_frame_ticks)];
        let [video_span, audio_span] = spans;
        let spans = || spans.into_iter().flatten();
        let Some(start) = spans().map(|span| span.pts_start).min() else { return Err(ScanError::Empty) };
        let end = spans().map(|span| span.pts_end).max().unwrap_or(start);
        let video = video_span.map(|span| {
            let (width, height) = self.video_size.unwrap_or((0, 0));
            let codec = self.program.video.map_or("", |video| video.codec().name());
            TrackSummary { width, height, key_frames: self.video.times.key_frames, ..self.video.times.summary(codec, milliseconds(span.duration)) }
        });
        let audio = audio_span.map(|span| {
            let (sample_rate_hz, channels) = self.audio_format.map_or((0, 0), |format| (format.sample_rate_hz, format.channels));
            let codec = self.program.audio.map_or("", |audio| audio.codec().name());
            TrackSummary { sample_rate_hz, channels, ..self.audio.times.summary(codec, milliseconds(span.duration)) }
        });
        let data_messages = self.messages.times.frames;
        let summary = MediaSummary { duration_ms: milliseconds(end - start), video, audio, data_messages, ..MediaSummary::default() };
        let plan = FinishPlan { truncate_to: whole_end, insert: None, writes: Vec::new(), append: Vec::new(), torn_bytes, summary };
        Ok(TsScan { plan, segments: self.segments, begin_ms: (start - ZERO_TICKS).div_euclid(TICKS_PER_MS) })
    }
}

/// The size that the first sequence parameter set in these Annex B bytes tells.
fn picture_size(video: VideoStream, annexb: &[u8]) -> Option<(u32, u32)> {
    let is_sps = |header: u8| match video {
        VideoStream::Avc => avc::nal_type(header) == avc::NAL_SPS,
        VideoStream::Hevc => hevc::nal_type(header) == hevc::NAL_SPS,
    };
    let starts = || annexb.windows(3).enumerate().filter(|(_, bytes)| *bytes == [0, 0, 1]).map(|(at, _)| at);
    let start = starts().map(|at| at + 3).find(|at| annexb.get(*at).is_some_and(|header| is_sps(*header)))?;
    let end = starts().find(|at| *at >= start).unwrap_or(annexb.len());
    match video {
        VideoStream::Avc => parse_sps(&annexb[start..end]).ok().map(|sps| (sps.width, sps.height)),
        VideoStream::Hevc => hevc::picture_size(&annexb[start..end]),
    }
}

fn audio_format(audio: AudioStream, stream: &[u8]) -> Option<AudioFormat> {
    match audio.codec() {
        AudioCodec::Aac => {
            let frame = parse_adts_header(*stream.first_chunk()?)?;
            let told = stream.get(frame.header_bytes..).filter(|_| frame.channels == 0).and_then(channels_of_access_unit);
            Some(AudioFormat { sample_rate_hz: frame.sample_rate_hz, channels: told.unwrap_or(frame.channels), samples: frame.samples })
        }
        AudioCodec::Mp3 => {
            let frame = parse_mp3_header(*stream.first_chunk()?).ok()?;
            Some(AudioFormat { sample_rate_hz: frame.sample_rate_hz, channels: frame.channels, samples: frame.samples_per_frame })
        }
        AudioCodec::Ac3 | AudioCodec::Eac3 => {
            let frame = parse_sync_frame(stream)?;
            Some(AudioFormat { sample_rate_hz: frame.sample_rate_hz, channels: frame.channels, samples: frame.samples })
        }
        AudioCodec::Opus => {
            let samples = packet_samples(opus::packet(stream)?)?;
            let AudioStream::Opus(channels) = audio else { return None };
            Some(AudioFormat { sample_rate_hz: SAMPLE_RATE_HZ, channels, samples })
        }
        AudioCodec::Flac => None,
    }
}

/// One track, in 90 kHz ticks, unwrapped; a frame counts when it has ended.
#[derive(Clone, Default, Debug)]
struct TrackTally {
    times: TrackTimes,
    /// Of the frame under way, or the last one.
    key: bool,
    dts_last: Option<i64>,
    pts_last: i64,
    stream_bytes: u64,
}

impl TrackTally {
    fn begin(&mut self, (pts_ticks, dts_ticks): (i64, i64), key: bool) {
        // 33 bits wrap after 26.5 hours: the value nearest to the one before.
        let dts = self.dts_last.map_or(dts_ticks, |last| last + nearest(dts_ticks - last));
        self.dts_last = Some(dts);
        self.pts_last = dts + nearest(pts_ticks - dts_ticks);
        self.key = key;
        self.stream_bytes = 0;
    }

    fn end(&mut self) {
        let Some(dts) = self.dts_last else { return };
        self.times.take(dts, self.pts_last, self.key, self.stream_bytes);
    }
}

/// A difference modulo 2^33 as the shorter way round.
pub(super) fn nearest(difference: i64) -> i64 {
    let half = (TICKS_MASK + 1) / 2;
    ((difference + half) & TICKS_MASK) - half
}

fn milliseconds(ticks: i64) -> u64 {
    ((ticks.max(0) + TICKS_PER_MS / 2) / TICKS_PER_MS) as u64
}
