//! Frames into transport packets.

use super::annexb::{NalCodec, START_CODE, convert, measure};
use super::opus::{channel_code, header_bytes_max, push_header};
use super::scan::TsScan;
use super::tables::{AudioStream, Program, VideoStream};
use super::tally::{Kind, Tally};
use super::{
    HAS_ADAPTATION, HAS_PAYLOAD, HAS_PCR, PACKET_BYTES, PACKET_ROOM_BYTES, PAYLOAD_UNIT_START, PCR_LEAD_TICKS, PID_AUDIO, PID_MESSAGES, PID_VIDEO,
    RANDOM_ACCESS, SYNC_BYTE, TICKS_MASK, TICKS_PER_MS, TRANSPORT_PRIORITY, ZERO_TICKS,
};
use crate::codec::aac::{AacError, AdtsHeader};
use crate::codec::avc::{AvcError, parse_avc_config};
use crate::codec::hevc::{HevcError, parse_hevc_config};
use crate::codec::opus::parse_specific_box;
use crate::container::{ScanError, Sink, id3};
use crate::media::note::Note;
use crate::media::{AudioCodec, AudioTrack, Frame, TrackKind, Tracks, VideoCodec, VideoTrack};

/// Tables are repeated this often inside a segment, so that a player can begin anywhere. Broadcast wants 500 ms at most.
const TABLES_INTERVAL_MS: i64 = 500;
/// The lowest rate that MPEG-1 audio has; below it is MPEG-2.
const MPEG1_AUDIO_RATE_HZ_MIN: u32 = 32_000;
/// What [`TsWriter::start_segment`] appends: PAT and PMT.
pub const SEGMENT_START_BYTES: usize = 2 * PACKET_BYTES;

/// The length of a PES packet has 16 bits, and players of tags want one.
const MESSAGE_BYTES_MAX: usize = 60_000;

/// The longest access unit delimiter that is put in front, with its start code.
const DELIMITER_BYTES_MAX: usize = 7;
const STREAM_ID_AUDIO: u8 = 0xc0;
/// For audio that is none of MPEG's.
const STREAM_ID_PRIVATE: u8 = 0xbd;
const STREAM_ID_VIDEO: u8 = 0xe0;
/// Start code, stream id, length, flags, PTS and DTS.
const PES_HEADER_BYTES_MAX: usize = 19;
/// Length field, flags and PCR of an adaptation field.
const ADAPTATION_BYTES_MAX: usize = 8;
/// What the first packet has for adaptation field and PES header besides media.
const FIRST_PACKET_BYTES_MAX: usize = PES_HEADER_BYTES_MAX + ADAPTATION_BYTES_MAX;
const STUFFING: [u8; PACKET_ROOM_BYTES] = [0xff; PACKET_ROOM_BYTES];

/// Writes the packets of one file: every frame a PES packet, whole before the next begins.
#[derive(Clone, Debug)]
pub struct TsWriter {
    zero_ms: i64,
    pat: [u8; PACKET_BYTES],
    pmt: [u8; PACKET_BYTES],
    tables: TablesState,
    tables_counter: u8,
    video: Option<Video>,
    audio: Option<Audio>,
    program: Program,
    tally: Tally,
    /// Where the last frame ends.
    whole_end: u64,
    /// The ID3 tag of the data message that is being written.
    tag: Vec<u8>,
    messages_counter: u8,
}

#[derive(Clone, Copy, Debug)]
enum TablesState {
    /// To be written before the next frame.
    Due,
    /// Written, and no frame since.
    Fresh,
    /// Written just before the frame of this decoding time.
    Since(i64),
}

#[derive(Clone, Debug)]
struct Video {
    counter: u8,
    codec: NalCodec,
    nal_length_bytes: u8,
    /// In Annex B.
    parameter_sets: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Audio {
    counter: u8,
    stream_id: u8,
    framing: Framing,
    /// No video: the clock reference is here.
    has_pcr: bool,
}

/// What stands in front of a frame of sound.
#[derive(Clone, Debug)]
enum Framing {
    Nothing,
    Adts(AdtsHeader),
    /// A control header; the samples that the next one says are not to be heard.
    Opus {
        start_trim: u16,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TsError {
    #[error("reading the AVC configuration for MPEG-TS")]
    Avc(#[from] AvcError),
    #[error("reading the HEVC configuration for MPEG-TS")]
    Hevc(#[from] HevcError),
    #[error("MPEG-TS has no place for {codec}")]
    NotInTs { codec: &'static str },
    #[error("AAC for MPEG-TS")]
    Aac(#[from] AacError),
    #[error("a frame of a track that the program does not have")]
    UnknownTrack,
}

impl TsWriter {
    /// `zero_ms` is the decoding time that becomes the beginning of the file.
    ///
    /// # Errors
    /// [`TsError`] if a configuration cannot be read, or AAC is of a kind that ADTS cannot express.
    pub fn new(tracks: &Tracks, zero_ms: i64) -> Result<Self, TsError> {
        let video = tracks.video.as_deref().map(video).transpose()?;
        let mut audio = None;
        if let Some(track) = &tracks.audio {
            let stream_id = if matches!(track.codec, AudioCodec::Aac | AudioCodec::Mp3) { STREAM_ID_AUDIO } else { STREAM_ID_PRIVATE };
            audio = Some(Audio { counter: 0, stream_id, framing: framing(track)?, has_pcr: video.is_none() });
        }
        let program = Program {
            video: tracks.video.as_deref().and_then(|track| video_stream(track.codec)),
            audio: tracks.audio.as_deref().map(audio_stream).transpose()?,
            messages: false,
        };
        let (pat, pmt) = (Program::pat_packet(), program.pmt_packet());
        Ok(Self {
            zero_ms,
            pat,
            pmt,
            tables: TablesState::Due,
            tables_counter: 0,
            video,
            audio,
            program,
            tally: Tally::new(program),
            whole_end: 0,
            tag: Vec::new(),
            messages_counter: 0,
        })
    }

    /// Begins an HLS segment: PAT and PMT, [`SEGMENT_START_BYTES`] in all. The next frame should be a key frame.
    pub fn start_segment(&mut self, sink: &mut impl Sink) {
        self.tally.start_segment(sink.position());
        self.write_tables(TRANSPORT_PRIORITY, sink);
        self.tables = TablesState::Fresh;
        sink.seal(sink.position());
    }

    /// The most bytes that [`TsWriter::push_message`] appends for `message`.
    pub fn push_message_bytes_max(&self, message: &Note) -> usize {
        let tag_bytes = id3::tag_bytes(&message.name, &message.json);
        SEGMENT_START_BYTES + (FIRST_PACKET_BYTES_MAX + tag_bytes).div_ceil(PACKET_ROOM_BYTES) * PACKET_BYTES
    }

    /// Appends a data message, at a time in the terms of [`Frame::dts_ms`]. False: it is too large.
    pub fn push_message(&mut self, time_ms: i64, message: &Note, sink: &mut impl Sink) -> bool {
        if id3::tag_bytes(&message.name, &message.json) > MESSAGE_BYTES_MAX {
            return false;
        }
        if !self.program.messages {
            // From here on the tables name their stream.
            self.program.messages = true;
            self.pmt = self.program.pmt_packet();
            self.tables = TablesState::Due;
        }
        if matches!(self.tables, TablesState::Due) {
            self.write_tables(0, sink);
            self.tables = TablesState::Fresh;
        }
        self.tag.clear();
        id3::push_tag(&mut self.tag, &message.name, &message.json);
        let ticks = time_ms.saturating_sub(self.zero_ms).saturating_mul(TICKS_PER_MS).max(-ZERO_TICKS).saturating_add(ZERO_TICKS);
        let header = PesHeader::new(STREAM_ID_PRIVATE, Times { dts: ticks, pts: ticks }, self.tag.len());
        let mut packets = Packets::begin(PID_MESSAGES, &mut self.messages_counter, header.len + self.tag.len(), &Adaptation::NONE, sink);
        packets.write(header.as_slice());
        packets.write(&self.tag);
        packets.end();
        self.tally.begin(Kind::Messages, (ticks & TICKS_MASK, ticks & TICKS_MASK), false);
        self.end_frame(Kind::Messages, self.tag.len(), sink);
        true
    }

    /// The most bytes that [`TsWriter::push`] appends for `frame`.
    pub fn push_bytes_max(&self, frame: &Frame<'_>) -> usize {
        let media_bytes = frame.media.len();
        let stream_bytes = match (frame.track, &self.video) {
            (TrackKind::Video, Some(video)) => {
                // A start code of 4 bytes for a shorter length; units have a byte at least.
                let length_bytes = usize::from(video.nal_length_bytes);
                let units_bytes = media_bytes * (START_CODE.len() + 1) / (length_bytes + 1);
                DELIMITER_BYTES_MAX + video.parameter_sets.len() + units_bytes.max(media_bytes)
            }
            _ => {
                let front_bytes = match self.audio.as_ref().map(|audio| &audio.framing) {
                    Some(Framing::Adts(header)) => header.bytes(),
                    _ => header_bytes_max(media_bytes),
                };
                front_bytes + media_bytes
            }
        };
        let packets = (FIRST_PACKET_BYTES_MAX + stream_bytes).div_ceil(PACKET_ROOM_BYTES);
        SEGMENT_START_BYTES + packets * PACKET_BYTES
    }

    /// Appends one PES packet, and tables before it where they are due.
    ///
    /// # Errors
    /// [`AacError::AccessUnitTooLong`] and [`TsError::UnknownTrack`]: nothing is appended, the frame is lost to this file.
    pub fn push(&mut self, frame: &Frame<'_>, sink: &mut impl Sink) -> Result<(), TsError> {
        let (kind, stream_bytes) = match frame.track {
            TrackKind::Video => (Kind::Video, self.push_video(frame, sink)?),
            TrackKind::Audio => (Kind::Audio, self.push_audio(frame, sink)?),
        };
        self.end_frame(kind, stream_bytes, sink);
        Ok(())
    }

    fn end_frame(&mut self, kind: Kind, stream_bytes: usize, sink: &mut impl Sink) {
        self.tally.take(kind, stream_bytes);
        self.tally.end(kind);
        self.whole_end = sink.position();
        sink.seal(self.whole_end);
    }

    /// What the file holds, now that it ends at `end`: the same as [`super::scan`] finds, without reading it.
    ///
    /// # Errors
    /// [`ScanError::Empty`] if no frame was pushed.
    pub fn finish(self, end: u64) -> Result<TsScan, ScanError> {
        self.tally.finish(self.whole_end, end - self.whole_end)
    }

    /// Returns the bytes of its stream.
    fn push_video(&mut self, frame: &Frame<'_>, sink: &mut impl Sink) -> Result<usize, TsError> {
        if self.video.is_none() {
            return Err(TsError::UnknownTrack);
        }
        self.write_due_tables(frame.dts_ms, sink);
        let times = self.times(frame);
        let video = self.video.as_mut().ok_or(TsError::UnknownTrack)?;
        let units = measure(frame.media, video.codec, video.nal_length_bytes);
        let sets: &[u8] = if frame.key && !units.has_parameter_sets { &video.parameter_sets } else { &[] };
        let delimiter = if units.has_delimiter { &[] } else { video.codec.delimiter() };
        let stream_bytes = delimiter.len() + sets.len() + units.bytes;
        let header = PesHeader::new(STREAM_ID_VIDEO, times, stream_bytes);
        let adaptation = Adaptation::with_pcr(frame.key, times);
        let mut packets = Packets::begin(PID_VIDEO, &mut video.counter, header.len + stream_bytes, &adaptation, sink);
        packets.write(header.as_slice());
        packets.write(delimiter);
        self.tally.begin(Kind::Video, times.in_33_bits(), frame.key);
        if self.tally.looks_at(Kind::Video) {
            self.tally.look_at(Kind::Video, delimiter);
            convert(frame.media, video.codec, video.nal_length_bytes, sets, |bytes| {
                self.tally.look_at(Kind::Video, bytes);
                packets.write(bytes);
            });
        } else {
            convert(frame.media, video.codec, video.nal_length_bytes, sets, |bytes| packets.write(bytes));
        }
        packets.end();
        Ok(stream_bytes)
    }

    /// Returns the bytes of its stream.
    fn push_audio(&mut self, frame: &Frame<'_>, sink: &mut impl Sink) -> Result<usize, TsError> {
        let media_bytes = frame.media.len();
        let (adts, mut control);
        let audio = self.audio.as_mut().ok_or(TsError::UnknownTrack)?;
        let (front, program_bytes) = match &mut audio.framing {
            Framing::Nothing => (&[][..], 0),
            Framing::Adts(header) => {
                adts = header.for_access_unit(media_bytes)?;
                (&adts[..], header.program().len())
            }
            Framing::Opus { start_trim } => {
                control = Vec::with_capacity(header_bytes_max(media_bytes));
                push_header(&mut control, media_bytes, std::mem::take(start_trim));
                (&control[..], 0)
            }
        };
        self.write_due_tables(frame.dts_ms, sink);
        let times = self.times(frame);
        let audio = self.audio.as_mut().ok_or(TsError::UnknownTrack)?;
        let stream_bytes = front.len() + program_bytes + media_bytes;
        let header = PesHeader::new(audio.stream_id, times, stream_bytes);
        let adaptation = if audio.has_pcr { Adaptation::with_pcr(true, times) } else { Adaptation::NONE };
        let mut packets = Packets::begin(PID_AUDIO, &mut audio.counter, header.len + stream_bytes, &adaptation, sink);
        packets.write(header.as_slice());
        packets.write(front);
        if let Framing::Adts(header) = &audio.framing {
            packets.write(header.program());
        }
        for slice in frame.media.slices() {
            packets.write(slice);
        }
        packets.end();
        self.tally.begin(Kind::Audio, times.in_33_bits(), frame.key);
        if self.tally.looks_at(Kind::Audio) {
            let program = if let Framing::Adts(header) = &audio.framing { header.program() } else { &[] };
            let pieces = [front, program].into_iter().chain(frame.media.slices());
            let first: Vec<u8> = pieces.flatten().copied().take(adaptation.room() - header.len).collect();
            self.tally.look_at_begin(Kind::Audio, &first);
        }
        Ok(stream_bytes)
    }

    fn times(&self, frame: &Frame<'_>) -> Times {
        // Frames of before the beginning keep their distance down to clock reference 0.
        let earliest = PCR_LEAD_TICKS - ZERO_TICKS;
        let dts = frame.dts_ms.saturating_sub(self.zero_ms).saturating_mul(TICKS_PER_MS).max(earliest);
        let pts = dts.saturating_add(i64::from(frame.cts_ms) * TICKS_PER_MS).max(-ZERO_TICKS);
        Times { dts: dts.saturating_add(ZERO_TICKS), pts: pts.saturating_add(ZERO_TICKS) }
    }

    fn write_due_tables(&mut self, dts_ms: i64, sink: &mut impl Sink) {
        match self.tables {
            TablesState::Since(last_ms) if dts_ms.saturating_sub(last_ms).unsigned_abs() < TABLES_INTERVAL_MS.unsigned_abs() => {}
            TablesState::Since(_) | TablesState::Due => {
                self.write_tables(0, sink);
                self.tables = TablesState::Since(dts_ms);
            }
            TablesState::Fresh => self.tables = TablesState::Since(dts_ms),
        }
    }

    fn write_tables(&mut self, priority: u8, sink: &mut impl Sink) {
        for (packet, priority) in [(&mut self.pat, priority), (&mut self.pmt, 0)] {
            packet[1] = packet[1] & !TRANSPORT_PRIORITY | priority;
            packet[3] = HAS_PAYLOAD | self.tables_counter;
            sink.append(packet);
        }
        self.tables_counter = (self.tables_counter + 1) & 0x0f;
    }
}

/// The track as its packets need it.
fn video(track: &VideoTrack) -> Result<Video, TsError> {
    let annexb = |sets: &mut dyn Iterator<Item = &&[u8]>| sets.flat_map(|set| START_CODE.iter().chain(*set)).copied().collect();
    match track.codec {
        VideoCodec::Avc => {
            let config = parse_avc_config(&track.config)?;
            let parameter_sets = annexb(&mut config.sps.iter().chain(&config.pps));
            Ok(Video { counter: 0, codec: NalCodec::Avc, nal_length_bytes: config.nal_length_bytes, parameter_sets })
        }
        VideoCodec::Hevc => {
            let config = parse_hevc_config(&track.config)?;
            let parameter_sets = annexb(&mut config.parameter_sets.iter());
            Ok(Video { counter: 0, codec: NalCodec::Hevc, nal_length_bytes: config.nal_length_bytes, parameter_sets })
        }
        codec => Err(TsError::NotInTs { codec: codec.name() }),
    }
}

fn framing(track: &AudioTrack) -> Result<Framing, AacError> {
    match track.codec {
        AudioCodec::Aac => AdtsHeader::of(&track.config).map(Framing::Adts),
        AudioCodec::Opus => Ok(Framing::Opus { start_trim: u16::try_from(track.pre_skip).unwrap_or(0) }),
        _ => Ok(Framing::Nothing),
    }
}

fn video_stream(codec: VideoCodec) -> Option<VideoStream> {
    match codec {
        VideoCodec::Avc => Some(VideoStream::Avc),
        VideoCodec::Hevc => Some(VideoStream::Hevc),
        VideoCodec::Vvc | VideoCodec::Av1 | VideoCodec::Vp8 | VideoCodec::Vp9 => None,
    }
}

fn audio_stream(track: &AudioTrack) -> Result<AudioStream, TsError> {
    Ok(match track.codec {
        AudioCodec::Aac => AudioStream::Adts,
        AudioCodec::Mp3 if track.sample_rate_hz >= MPEG1_AUDIO_RATE_HZ_MIN => AudioStream::Mpeg1,
        AudioCodec::Mp3 => AudioStream::Mpeg2,
        AudioCodec::Ac3 => AudioStream::Ac3,
        AudioCodec::Eac3 => AudioStream::Eac3,
        AudioCodec::Opus => {
            let code = parse_specific_box(&track.config).and_then(|head| channel_code(&head));
            AudioStream::Opus(code.ok_or(TsError::NotInTs { codec: track.codec.name() })?)
        }
        AudioCodec::Flac => return Err(TsError::NotInTs { codec: track.codec.name() }),
    })
}

/// Whether a transport stream has a place for this codec, one that players know.
pub fn holds_video(codec: VideoCodec) -> bool {
    video_stream(codec).is_some()
}

/// The same for audio: FLAC has no mapping that players know, Opus none for odd orders of channels, and AAC none for what ADTS cannot tell.
pub fn holds_audio(track: &AudioTrack) -> bool {
    audio_stream(track).is_ok() && framing(track).is_ok()
}

/// At 90 kHz, not yet cut to 33 bits.
#[derive(Clone, Copy)]
struct Times {
    dts: i64,
    pts: i64,
}

impl Times {
    /// Presentation and decoding time, as the file has them.
    fn in_33_bits(self) -> (i64, i64) {
        (self.pts & TICKS_MASK, self.dts & TICKS_MASK)
    }
}

/// The header of a PES packet (ISO/IEC 13818-1, 2.4.3.6).
struct PesHeader {
    bytes: [u8; PES_HEADER_BYTES_MAX],
    len: usize,
}

impl PesHeader {
    fn new(stream_id: u8, Times { dts, pts }: Times, stream_bytes: usize) -> Self {
        let mut bytes = [0; PES_HEADER_BYTES_MAX];
        let (flags, times_bytes) = if pts == dts { (0x80, 5) } else { (0xc0, 10) };
        // A length of 0 is allowed for video, and all there is beyond 16 bits.
        let length = u16::try_from(3 + times_bytes + stream_bytes).unwrap_or(0);
        let [l1, l0] = length.to_be_bytes();
        // 0x84: the marker of this syntax, data alignment: a PES packet begins with a frame.
        bytes[..9].copy_from_slice(&[0, 0, 1, stream_id, l1, l0, 0x84, flags, times_bytes as u8]);
        bytes[9..14].copy_from_slice(&time_field(flags >> 6, pts));
        if pts != dts {
            bytes[14..19].copy_from_slice(&time_field(1, dts));
        }
        Self { bytes, len: 9 + times_bytes }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// 33 bits in 5 bytes: a prefix, and a marker bit behind the bits 32 to 30, 29 to 15 and 14 to 0.
fn time_field(prefix: u8, ticks: i64) -> [u8; 5] {
    let ticks = (ticks & TICKS_MASK) as u64;
    [prefix << 4 | (ticks >> 29) as u8 & 0x0e | 1, (ticks >> 22) as u8, (ticks >> 14) as u8 | 1, (ticks >> 7) as u8, (ticks << 1) as u8 | 1]
}

/// The adaptation field of a first packet, behind its length byte (2.4.3.4).
struct Adaptation {
    bytes: [u8; ADAPTATION_BYTES_MAX - 1],
    len: usize,
}

impl Adaptation {
    const NONE: Self = Self { bytes: [0; ADAPTATION_BYTES_MAX - 1], len: 0 };

    /// What it leaves of a packet.
    fn room(&self) -> usize {
        PACKET_ROOM_BYTES - if self.len == 0 { 0 } else { 1 + self.len }
    }

    fn with_pcr(key: bool, times: Times) -> Self {
        let base = (times.dts.saturating_sub(PCR_LEAD_TICKS) & TICKS_MASK) as u64;
        let flags = HAS_PCR | if key { RANDOM_ACCESS } else { 0 };
        // 33 bits of base, 6 reserved, 9 of extension (0).
        let [_, _, _, b4, b3, b2, b1, b0] = (base << 7 | 0x7e).to_be_bytes();
        Self { bytes: [flags, b4, b3, b2, b1, b0, 0], len: ADAPTATION_BYTES_MAX - 1 }
    }
}

/// Cuts one PES packet of known length into transport packets as its bytes come.
struct Packets<'a, S: Sink> {
    sink: &'a mut S,
    counter: &'a mut u8,
    pid: u16,
    /// Bytes of the PES packet still to come.
    left: usize,
    /// Of these, how many go into the packet under way.
    room: usize,
}

impl<'a, S: Sink> Packets<'a, S> {
    fn begin(pid: u16, counter: &'a mut u8, pes_bytes: usize, adaptation: &Adaptation, sink: &'a mut S) -> Self {
        let mut packets = Self { sink, counter, pid, left: pes_bytes, room: 0 };
        packets.open(PAYLOAD_UNIT_START, adaptation);
        packets
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.room == 0 {
                self.open(0, &Adaptation::NONE);
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.room));
            self.sink.append(now);
            self.room -= now.len();
            self.left -= now.len();
            bytes = later;
        }
    }

    fn end(self) {
        assert_eq!(self.left, 0, "the PES packet is as long as its header says");
    }

    /// Begins a packet: header, adaptation field, and stuffing in it if what is left does not fill the packet.
    fn open(&mut self, unit_start: u8, adaptation: &Adaptation) {
        let adaptation_bytes = PACKET_ROOM_BYTES - adaptation.room();
        self.room = self.left.min(adaptation.room());
        let stuffing_bytes = PACKET_ROOM_BYTES - adaptation_bytes - self.room;
        let is_last = self.room == self.left;

        let [pid_high, pid_low] = self.pid.to_be_bytes();
        let priority = if is_last { TRANSPORT_PRIORITY } else { 0 };
        let has_adaptation = adaptation_bytes + stuffing_bytes > 0;
        let control = HAS_PAYLOAD | if has_adaptation { HAS_ADAPTATION } else { 0 };
        self.sink.append(&[SYNC_BYTE, unit_start | priority | pid_high, pid_low, control | *self.counter]);
        *self.counter = (*self.counter + 1) & 0x0f;
        if !has_adaptation {
            return;
        }
        self.sink.append(&[(adaptation_bytes + stuffing_bytes - 1) as u8]);
        if adaptation.len > 0 {
            self.sink.append(&adaptation.bytes[..adaptation.len]);
            self.sink.append(&STUFFING[..stuffing_bytes]);
        } else if stuffing_bytes > 1 {
            self.sink.append(&[0]);
            self.sink.append(&STUFFING[..stuffing_bytes - 2]);
        }
    }
}
