//! Reading back what was written: where the last whole frame ends, what the file holds, and where its segments begin.

use super::opus;
use super::tables::{AudioStream, Program, VideoStream};
use super::{
    HAS_ADAPTATION, HAS_PAYLOAD, PACKET_BYTES, PACKET_HEADER_BYTES, PAYLOAD_UNIT_START, PID_AUDIO, PID_MESSAGES, PID_PAT, PID_PMT, PID_VIDEO,
    RANDOM_ACCESS, SYNC_BYTE, TICKS_MASK, TICKS_PER_MS, TRANSPORT_PRIORITY, ZERO_TICKS,
};
use crate::codec::aac::{channels_of_access_unit, parse_adts_header};
use crate::codec::ac3::parse_sync_frame;
use crate::codec::avc::{self, parse_sps};
use crate::codec::hevc;
use crate::codec::mp3::parse_mp3_header;
use crate::codec::opus::{SAMPLE_RATE_HZ, packet_samples};
use crate::container::window::{WINDOW_BYTES, Window, apply};
use crate::container::{FinishPlan, MediaSummary, ReadAt, ScanError, TrackSummary};
use crate::media::AudioCodec;

/// Segment starts that are kept; the last of them goes to the end. 48 days of 4-second segments, 16 MiB.
const SEGMENTS_MAX: usize = 1 << 20;
/// A PAT and a PMT.
const TABLES_BYTES: usize = 2 * PACKET_BYTES;
/// Of the first key frame, how much is looked through for the sequence parameter set.
const VIDEO_HEAD_BYTES_MAX: usize = 2048;

/// What a transport stream holds, and its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsScan {
    pub plan: FinishPlan,
    /// In order, each with a whole frame at least.
    pub segments: Vec<TsSegment>,
    /// The first presentation of all tracks, in milliseconds since the `zero_ms` of the writer.
    pub begin_ms: i64,
}

/// Where an HLS segment begins. It ends where the next begins, the last one at [`FinishPlan::truncate_to`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TsSegment {
    /// Of its PAT.
    pub offset: u64,
    /// Presentation time of its first frame (of video, if there is video), in milliseconds since the `zero_ms` of the writer.
    pub pts_ms: i64,
    /// Its first video frame is a key frame, or there is no video.
    pub key: bool,
}

/// Walks the packets to the end of the last whole frame.
///
/// A packet that is none of ours, a continuity counter out of step, or a frame that begins before the one under way has ended: that is where the
/// file is torn, and what follows is cut off.
///
/// A hole at the beginning, where the disk has not taken the first write, gets tables at its end: frames behind it are for every reader.
///
/// # Errors
/// [`ScanError::Head`] for a file without PAT and PMT at its beginning (or behind a hole there), [`ScanError::Empty`] without a whole frame, [`ScanError::Read`].
pub fn scan<R: ReadAt + ?Sized>(file: &R) -> Result<TsScan, ScanError> {
    let mut window = Window::new(file);
    if window.file_len() < PACKET_BYTES as u64 {
        return Err(ScanError::Empty);
    }
    if let Some(program) = program_at(&mut window, 0)? {
        let mut walk = Walk::new(program);
        walk_from(&mut window, &mut walk, 0)?;
        let torn_bytes = window.torn_bytes(walk.whole_end)?;
        return walk.finish(torn_bytes);
    }
    if window.array::<PACKET_BYTES>(0)?.is_some_and(|packet| packet == [0; PACKET_BYTES]) {
        return scan_behind_hole(&mut window);
    }
    Err(ScanError::Head { what: "no PAT and PMT" })
}

fn scan_behind_hole<R: ReadAt + ?Sized>(window: &mut Window<'_, R>) -> Result<TsScan, ScanError> {
    let mut tables_at = PACKET_BYTES as u64;
    let program = loop {
        if let Some(program) = program_at(window, tables_at)? {
            break program;
        }
        tables_at += PACKET_BYTES as u64;
        if tables_at + TABLES_BYTES as u64 > window.file_len() {
            return Err(ScanError::Empty);
        }
    };
    let tables = window.array::<TABLES_BYTES>(tables_at)?.ok_or(ScanError::Empty)?;
    let mut from = TABLES_BYTES as u64;
    loop {
        let first = frame_start(window, from, tables_at)?;
        if first >= tables_at {
            break;
        }
        // What the new tables take the place of is the hole, or the end of a frame that begins in it.
        let (begin, new) = (first - TABLES_BYTES as u64, tables_before(tables));
        let mut walk = Walk::new(program);
        walk.segment_begun = Some(SegmentBegun { offset: begin, audio_pts_ticks: None });
        walk.tables_counters = [0, 1].map(|table| Some(new[table * PACKET_BYTES + 3] & 0x0f));
        let end = walk_from(window, &mut walk, first)?;
        if end >= tables_at {
            let torn_bytes = window.torn_bytes(walk.whole_end)?;
            let mut found = walk.finish(torn_bytes)?;
            found.plan.writes.push((begin, new.to_vec()));
            if let Some(before) = begin.checked_sub(PACKET_BYTES as u64).filter(|_| from > TABLES_BYTES as u64) {
                // What lies between the holes stays apart, whatever is left of the one behind it.
                found.plan.writes.push((before, vec![0; PACKET_BYTES]));
            }
            return Ok(found);
        }
        // Another hole: nothing leads from what lies before it to what lies behind.
        from = end.max(first) + PACKET_BYTES as u64;
    }
    let mut walk = Walk::new(program);
    walk.segment_begun = Some(SegmentBegun { offset: tables_at, audio_pts_ticks: None });
    walk_from(window, &mut walk, tables_at)?;
    let torn_bytes = window.torn_bytes(walk.whole_end)?;
    walk.finish(torn_bytes)
}

/// Where the first packet from `from` on lies that begins a frame; `until`, if none before does.
fn frame_start<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, from: u64, until: u64) -> Result<u64, ScanError> {
    let mut offset = from;
    while offset < until {
        let Some(bytes) = window.array::<PACKET_BYTES>(offset)? else { break };
        if Packet::parse(&bytes).is_some_and(|packet| packet.unit_start && ![PID_PAT, PID_PMT].contains(&packet.pid)) {
            return Ok(offset);
        }
        offset += PACKET_BYTES as u64;
    }
    Ok(until)
}

/// The PAT and PMT that come before these and begin a segment.
fn tables_before(mut tables: [u8; TABLES_BYTES]) -> [u8; TABLES_BYTES] {
    tables[1] |= TRANSPORT_PRIORITY;
    for packet in tables.as_chunks_mut::<PACKET_BYTES>().0 {
        packet[3] = packet[3] & 0xf0 | (packet[3].wrapping_sub(1) & 0x0f);
    }
    tables
}

/// Takes packets from `offset` on, up to one that does not follow; returns where that is.
fn walk_from<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, walk: &mut Walk, mut offset: u64) -> Result<u64, ScanError> {
    while let Some(bytes) = window.array::<PACKET_BYTES>(offset)? {
        let packet_end = offset + PACKET_BYTES as u64;
        let Some(packet) = Packet::parse(&bytes) else { break };
        if walk.may_be_torn(&packet) && window.file_len() > packet_end && window.zeros_behind(packet_end)? {
            break;
        }
        match walk.take(offset, &packet) {
            Some(Taken::FrameEnd) => walk.whole_end = packet_end,
            Some(Taken::More) => {}
            None => break,
        }
        offset = packet_end;
    }
    Ok(offset)
}

/// What the PAT and PMT at `offset` say, if they are there.
fn program_at<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, offset: u64) -> Result<Option<Program>, ScanError> {
    let packets = window.array::<TABLES_BYTES>(offset)?;
    Ok(packets.as_ref().and_then(|packets| {
        let pat = Packet::parse(&packets[..PACKET_BYTES])?;
        let pmt = Packet::parse(&packets[PACKET_BYTES..])?;
        ((pat.pid, pmt.pid) == (PID_PAT, PID_PMT)).then(|| Program::parse_pmt(pmt.payload)).flatten()
    }))
}

pub(super) struct Packet<'a> {
    pub pid: u16,
    pub unit_start: bool,
    pub priority: bool,
    pub random_access: bool,
    counter: u8,
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// `None` for a packet that we do not write.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&[sync, flags, pid_low, control], rest) = bytes.split_first_chunk::<PACKET_HEADER_BYTES>()?;
        if sync != SYNC_BYTE || flags & 0x80 != 0 || control & HAS_PAYLOAD == 0 || control & 0xc0 != 0 {
            return None;
        }
        let (adaptation, payload) = if control & HAS_ADAPTATION != 0 {
            let (&length, rest) = rest.split_first()?;
            rest.split_at_checked(usize::from(length))?
        } else {
            (&[][..], rest)
        };
        Some(Self {
            pid: u16::from_be_bytes([flags & 0x1f, pid_low]),
            unit_start: flags & PAYLOAD_UNIT_START != 0,
            priority: flags & TRANSPORT_PRIORITY != 0,
            random_access: adaptation.first().is_some_and(|flags| flags & RANDOM_ACCESS != 0),
            counter: control & 0x0f,
            payload,
        })
    }
}

/// Times and stream bytes at the beginning of a PES packet.
#[derive(Clone, Copy)]
pub(super) struct PesStart<'a> {
    pub pts_ticks: i64,
    pub dts_ticks: i64,
    pub stream: &'a [u8],
}

impl<'a> PesStart<'a> {
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (&[0, 0, 1, _stream_id, _, _, _, flags, header_bytes], rest) = payload.split_first_chunk::<9>()? else { return None };
        let (times, stream) = rest.split_at_checked(usize::from(header_bytes))?;
        let pts_ticks = ticks(*times.first_chunk()?);
        let dts_ticks = if flags & 0x40 != 0 { ticks(*times.get(5..)?.first_chunk()?) } else { pts_ticks };
        (flags & 0x80 != 0).then_some(Self { pts_ticks, dts_ticks, stream })
    }
}

fn ticks(field: [u8; 5]) -> i64 {
    let [a, b, c, d, e] = field.map(i64::from);
    (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1
}

enum Taken {
    FrameEnd,
    More,
}

struct Walk {
    program: Program,
    video: TrackWalk,
    audio: TrackWalk,
    messages: TrackWalk,
    /// The track whose frame has begun and not ended.
    under_way: Option<u16>,
    tables_counters: [Option<u8>; 2],
    whole_end: u64,
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

#[derive(Clone, Copy)]
struct SegmentBegun {
    offset: u64,
    audio_pts_ticks: Option<i64>,
}

#[derive(Clone, Copy)]
struct AudioFormat {
    sample_rate_hz: u32,
    channels: u8,
    samples: u32,
}

impl Walk {
    fn new(program: Program) -> Self {
        Self {
            program,
            video: TrackWalk::default(),
            audio: TrackWalk::default(),
            messages: TrackWalk::default(),
            under_way: None,
            tables_counters: [None; 2],
            whole_end: 0,
            segments: Vec::new(),
            segment_begun: None,
            video_head: Vec::new(),
            video_size: None,
            audio_format: None,
            audio_format_begun: None,
        }
    }

    /// The packet's end may be preallocated zeros: it ends a frame in a zero byte, as neither a NAL unit (ISO/IEC 14496-10, 7.4.1) nor an AAC access
    /// unit does, nor the JSON of a message. MP3 frames do.
    fn may_be_torn(&self, packet: &Packet<'_>) -> bool {
        let ends_never_in_zero = match packet.pid {
            PID_VIDEO | PID_MESSAGES => true,
            PID_AUDIO => self.program.audio.is_some_and(|audio| audio.codec() == AudioCodec::Aac),
            _ => false,
        };
        ends_never_in_zero && packet.priority && packet.payload.last() == Some(&0)
    }

    /// `None` if the packet does not follow the ones before.
    fn take(&mut self, offset: u64, packet: &Packet<'_>) -> Option<Taken> {
        match packet.pid {
            PID_PAT | PID_PMT => self.take_table(offset, packet),
            PID_VIDEO | PID_AUDIO | PID_MESSAGES => self.take_media(packet),
            _ => None,
        }
    }

    fn take_table(&mut self, offset: u64, packet: &Packet<'_>) -> Option<Taken> {
        if self.under_way.is_some() || !packet.unit_start {
            return None;
        }
        let is_pat = packet.pid == PID_PAT;
        follows(&mut self.tables_counters[usize::from(!is_pat)], packet.counter)?;
        if is_pat && packet.priority {
            // A segment begun without video before: it has what audio it has.
            self.begin_segment(None);
            self.segment_begun = Some(SegmentBegun { offset, audio_pts_ticks: None });
        }
        Some(Taken::More)
    }

    fn take_media(&mut self, packet: &Packet<'_>) -> Option<Taken> {
        let is_video = packet.pid == PID_VIDEO;
        let track = match packet.pid {
            PID_VIDEO => &mut self.video,
            PID_AUDIO => &mut self.audio,
            _ => &mut self.messages,
        };
        follows(&mut track.counter, packet.counter)?;
        let mut stream = packet.payload;
        if packet.unit_start {
            if self.under_way.is_some() {
                return None;
            }
            let start = PesStart::parse(packet.payload)?;
            stream = start.stream;
            track.begin(start, is_video && packet.random_access);
            self.under_way = Some(packet.pid);
        } else if self.under_way != Some(packet.pid) {
            return None;
        }
        track.stream_bytes += stream.len() as u64;
        if is_video && self.video_size.is_none() {
            let room = VIDEO_HEAD_BYTES_MAX - self.video_head.len();
            self.video_head.extend_from_slice(&stream[..stream.len().min(room)]);
        } else if packet.pid == PID_AUDIO && packet.unit_start && self.audio_format.is_none() {
            self.audio_format_begun = self.program.audio.and_then(|audio| audio_format(audio, stream));
        }
        if !packet.priority {
            return Some(Taken::More);
        }
        self.under_way = None;
        match packet.pid {
            PID_MESSAGES => self.messages.end(),
            _ => self.end_frame(is_video),
        }
        Some(Taken::FrameEnd)
    }

    fn end_frame(&mut self, is_video: bool) {
        let track = if is_video { &mut self.video } else { &mut self.audio };
        track.end();
        let pts_ticks = track.pts_last;
        if !is_video {
            self.audio_format = self.audio_format.or(self.audio_format_begun.take());
        }
        if is_video {
            if self.video_size.is_none() {
                self.video_size = self.program.video.and_then(|video| picture_size(video, &self.video_head));
                self.video_head.clear();
            }
            self.begin_segment(Some(pts_ticks));
        } else if self.program.video.is_none() {
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

    fn finish(mut self, torn_bytes: u64) -> Result<TsScan, ScanError> {
        self.begin_segment(None);
        let audio_frame_ticks = self.audio_format.map(|format| i64::from(format.samples) * 1000 * TICKS_PER_MS / i64::from(format.sample_rate_hz));
        let spans = [self.video.span(None), self.audio.span(audio_frame_ticks)];
        let [video_span, audio_span] = spans;
        let spans = || spans.into_iter().flatten();
        let Some(start) = spans().map(|span| span.pts_start).min() else { return Err(ScanError::Empty) };
        let end = spans().map(|span| span.pts_end).max().unwrap_or(start);
        let video = video_span.map(|span| {
            let (width, height) = self.video_size.unwrap_or((0, 0));
            let codec = self.program.video.map_or("", |video| video.codec().name());
            TrackSummary { width, height, key_frames: self.video.key_frames, ..self.video.summary(codec, span) }
        });
        let audio = audio_span.map(|span| {
            let (sample_rate_hz, channels) = self.audio_format.map_or((0, 0), |format| (format.sample_rate_hz, format.channels));
            let codec = self.program.audio.map_or("", |audio| audio.codec().name());
            TrackSummary { sample_rate_hz, channels, ..self.audio.summary(codec, span) }
        });
        let data_messages = self.messages.frames;
        let summary = MediaSummary { duration_ms: milliseconds(end - start), video, audio, data_messages, ..MediaSummary::default() };
        let plan = FinishPlan { truncate_to: self.whole_end, insert: None, writes: Vec::new(), append: Vec::new(), torn_bytes, summary };
        Ok(TsScan { plan, segments: self.segments, begin_ms: (start - ZERO_TICKS).div_euclid(TICKS_PER_MS) })
    }
}

/// Continuity counters count up by one from packet to packet of a PID.
fn follows(last: &mut Option<u8>, counter: u8) -> Option<()> {
    let expected = last.map_or(counter, |last| (last + 1) & 0x0f);
    *last = Some(counter);
    (counter == expected).then_some(())
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

/// Counts and times of one track. Times are 90 kHz ticks, unwrapped; a frame counts when it has ended.
#[derive(Default)]
struct TrackWalk {
    counter: Option<u8>,
    frames: u64,
    key_frames: u64,
    bytes: u64,
    dts: Option<DtsRange>,
    pts: Option<(i64, i64)>,
    /// Of the frame under way, or the last one.
    key: bool,
    dts_last: Option<i64>,
    pts_last: i64,
    stream_bytes: u64,
}

#[derive(Clone, Copy)]
struct DtsRange {
    first: i64,
    last: i64,
    last_delta: i64,
}

#[derive(Clone, Copy)]
struct TrackSpan {
    duration: i64,
    pts_start: i64,
    pts_end: i64,
}

impl TrackWalk {
    fn begin(&mut self, start: PesStart<'_>, key: bool) {
        // 33 bits wrap after 26.5 hours: the value nearest to the one before.
        let dts = self.dts_last.map_or(start.dts_ticks, |last| last + nearest(start.dts_ticks - last));
        self.dts_last = Some(dts);
        self.pts_last = dts + nearest(start.pts_ticks - start.dts_ticks);
        self.key = key;
        self.stream_bytes = 0;
    }

    fn end(&mut self) {
        let Some(dts) = self.dts_last else { return };
        let pts = self.pts_last;
        self.frames += 1;
        self.key_frames += u64::from(self.key);
        self.bytes += self.stream_bytes;
        self.dts = Some(match self.dts {
            None => DtsRange { first: dts, last: dts, last_delta: 0 },
            Some(range) => DtsRange { last: dts, last_delta: (dts - range.last).max(0), ..range },
        });
        self.pts = Some(self.pts.map_or((pts, pts), |(least, most)| (least.min(pts), most.max(pts))));
    }

    fn span(&self, frame_ticks: Option<i64>) -> Option<TrackSpan> {
        let (dts, (pts_start, pts_last)) = (self.dts?, self.pts?);
        let last = frame_ticks.unwrap_or(dts.last_delta);
        Some(TrackSpan { duration: dts.last - dts.first + last, pts_start, pts_end: pts_last + last })
    }

    fn summary(&self, codec: &str, span: TrackSpan) -> TrackSummary {
        let duration_ms = milliseconds(span.duration);
        TrackSummary { codec: codec.to_owned(), frames: self.frames, bytes: self.bytes, duration_ms, ..TrackSummary::default() }
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

/// Finishing what was finished changes nothing, whatever the file; segments lie inside it.
pub fn fuzz_ts_scan(data: &[u8]) {
    super::fuzz_ts_remux(data);
    super::seal::fuzz_sealed(data);
    let Ok(found) = scan(data) else { return };
    let finished = apply(&found.plan, data);
    assert!(found.segments.is_sorted_by(|a, b| a.offset < b.offset));
    assert!(found.segments.iter().all(|segment| segment.offset < finished.len() as u64));
    let again = scan(finished.as_slice()).expect("what we finished can be read");
    assert_eq!((again.plan.truncate_to, again.plan.torn_bytes), (finished.len() as u64, 0));
    assert_eq!((again.plan.summary, again.segments), (found.plan.summary, found.segments));
}

const _: () = assert!(TABLES_BYTES <= WINDOW_BYTES);
