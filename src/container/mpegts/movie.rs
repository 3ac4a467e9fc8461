//! Frames of a transport stream as the samples of a movie, so that pieces of it can be cut without encoding: units behind their lengths and sound without
//! ADTS headers, as MP4 has them, go to another file, in which the samples lie.

use std::io;
use std::ops::Range;

use super::opus;
use super::scan::{Packet, PesStart};
use super::tables::{AudioStream, Program, VideoStream};
use super::tally::nearest;
use super::{PACKET_BYTES, PID_AUDIO, PID_PMT, PID_VIDEO, TICKS_PER_MS, ZERO_TICKS};
use crate::codec::aac::{ADTS_HEADER_BYTES, parse_adts_header};
use crate::codec::nal::annexb_units;
use crate::codec::{avc, hevc};
use crate::container::es_movie::adts_track;
use crate::container::mp4::{Movie, MovieSample};
use crate::container::window::Window;
use crate::container::{ReadAt, ScanError};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::media::describe::described_audio;
use crate::media::{AudioCodec, AudioTrack, Payload, Tracks, VideoCodec, VideoTrack};

/// What becomes of a packet's frame may not be larger than what it came from.
const FRAME_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX as usize;

/// Writes the frames of `packets`, a range that begins with the packets of a segment, to `out`, one behind the other, and says where they lie there. Times
/// are milliseconds since the `zero_ms` of the writer, moved up by [`TIME_BIAS_MS`].
///
/// # Errors
/// [`ScanError::Head`] if the range does not begin as a segment, [`ScanError::Empty`] without a frame, [`ScanError::Read`], also of what `out` says.
pub fn remux<R: ReadAt + ?Sized>(file: &R, packets: Range<u64>, mut out: impl FnMut(&[u8]) -> io::Result<()>) -> Result<Movie, ScanError> {
    let mut window = Window::new(file);
    let pmt = window.array::<PACKET_BYTES>(packets.start + PACKET_BYTES as u64)?;
    let program =
        pmt.as_ref().and_then(|bytes| Packet::parse(bytes)).filter(|packet| packet.pid == PID_PMT).and_then(|pmt| Program::parse_pmt(pmt.payload));
    let program = program.ok_or(ScanError::Head { what: "no PAT and PMT" })?;
    let mut remux = Remux { program, video: Stream::default(), audio: Stream::default(), written: 0, sets: Vec::new(), audio_track: None };
    let mut offset = packets.start;
    while offset + PACKET_BYTES as u64 <= packets.end
        && let Some(bytes) = window.array::<PACKET_BYTES>(offset)?
        && let Some(packet) = Packet::parse(&bytes)
    {
        remux.take(&packet, &mut out).map_err(|source| ScanError::Read { offset, source })?;
        offset += PACKET_BYTES as u64;
    }
    remux.finish()
}

/// Added to every time, so that none is negative.
pub const TIME_BIAS_MS: i64 = 10_000;

/// One elementary stream.
#[derive(Default)]
struct Stream {
    /// Of the frame under way: its bytes, when it is decoded and shown, and is it a key frame?
    bytes: Vec<u8>,
    begun: Option<(i64, i64, bool)>,
    dts_last: Option<i64>,
    samples: Vec<MovieSample>,
}

impl Stream {
    fn begin(&mut self, start: PesStart<'_>, key: bool) {
        let dts = self.dts_last.map_or(start.dts_ticks, |last| last + nearest(start.dts_ticks - last));
        self.dts_last = Some(dts);
        self.begun = Some((dts, nearest(start.pts_ticks - start.dts_ticks), key));
        self.bytes.clear();
        self.bytes.extend_from_slice(start.stream);
    }

    fn push(&mut self, offset: u64, bytes: usize) {
        let Some((dts, cts, key)) = self.begun.take() else { return };
        let ms = (dts - ZERO_TICKS).div_euclid(TICKS_PER_MS) + TIME_BIAS_MS;
        let dts = (ms.max(0) as u64).max(self.samples.last().map_or(0, |last| last.dts));
        let mut duration = ONLY_MS;
        if let Some(last) = self.samples.last_mut() {
            last.duration = u32::try_from(dts - last.dts).unwrap_or(u32::MAX);
            duration = last.duration;
        }
        let cts = cts.div_euclid(TICKS_PER_MS) as i32;
        self.samples.push(MovieSample { offset, bytes: bytes as u32, dts, cts, duration, sync: key });
    }
}

/// Duration of a frame that no other follows or goes before.
const ONLY_MS: u32 = 40;

struct Remux {
    program: Program,
    video: Stream,
    audio: Stream,
    /// Bytes that went out.
    written: u64,
    /// Parameter sets of the first key frame.
    sets: Vec<Vec<u8>>,
    audio_track: Option<AudioTrack>,
}

impl Remux {
    fn take(&mut self, packet: &Packet<'_>, out: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let is_video = packet.pid == PID_VIDEO;
        if !is_video && packet.pid != PID_AUDIO {
            return Ok(());
        }
        let stream = if is_video { &mut self.video } else { &mut self.audio };
        match PesStart::parse(packet.payload) {
            Some(start) if packet.unit_start => stream.begin(start, !is_video || packet.random_access),
            _ if stream.begun.is_some() && stream.bytes.len() <= FRAME_BYTES_MAX => stream.bytes.extend_from_slice(packet.payload),
            _ => return Ok(()),
        }
        // The last packet of a frame.
        if !packet.priority {
            return Ok(());
        }
        let bytes = std::mem::take(&mut stream.bytes);
        let media = if is_video { self.units(&bytes) } else { self.access_unit(&bytes) };
        let stream = if is_video { &mut self.video } else { &mut self.audio };
        if let Some(media) = media.filter(|media| !media.is_empty()) {
            out(&media)?;
            stream.push(self.written, media.len());
            self.written += media.len() as u64;
        } else {
            stream.begun = None;
        }
        stream.bytes = bytes;
        Ok(())
    }

    /// NAL units behind lengths of four bytes, without delimiters and without the parameter sets that the configuration has.
    fn units(&mut self, annexb: &[u8]) -> Option<Vec<u8>> {
        let video = self.program.video?;
        let mut media = Vec::with_capacity(annexb.len());
        let takes_sets = self.video.samples.is_empty();
        for unit in annexb_units(annexb) {
            let (is_delimiter, is_set) = match video {
                VideoStream::Avc => {
                    let kind = avc::nal_type(unit[0]);
                    (kind == avc::NAL_ACCESS_UNIT_DELIMITER, matches!(kind, avc::NAL_SPS | avc::NAL_PPS))
                }
                VideoStream::Hevc => {
                    let kind = hevc::nal_type(unit[0]);
                    (kind == hevc::NAL_ACCESS_UNIT_DELIMITER, matches!(kind, hevc::NAL_VPS | hevc::NAL_SPS | hevc::NAL_PPS))
                }
            };
            if is_set && takes_sets && !self.sets.iter().any(|set| set == unit) {
                self.sets.push(unit.to_vec());
            }
            if is_delimiter || (is_set && self.sets.iter().any(|set| set == unit)) {
                continue;
            }
            media.extend_from_slice(&(unit.len() as u32).to_be_bytes());
            media.extend_from_slice(unit);
        }
        Some(media)
    }

    fn access_unit(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let codec = self.program.audio?.codec();
        if let Some(AudioStream::Opus(code)) = self.program.audio {
            if self.audio_track.is_none() {
                self.audio_track = opus::track(code);
            }
            return opus::packet(frame).map(<[u8]>::to_vec);
        }
        if codec != AudioCodec::Aac {
            if self.audio_track.is_none() {
                self.audio_track = described_audio(codec, &Payload::contiguous(frame));
            }
            return Some(frame.to_vec());
        }
        let header: [u8; ADTS_HEADER_BYTES] = *frame.first_chunk()?;
        let adts = parse_adts_header(header)?;
        let unit = frame.get(adts.header_bytes..)?;
        self.audio_track.get_or_insert_with(|| adts_track(header, unit, adts.sample_rate_hz, adts.samples));
        Some(unit.to_vec())
    }

    fn finish(self) -> Result<Movie, ScanError> {
        let Self { program, video, audio, sets, audio_track, .. } = self;
        let sets: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
        let video_track = program.video.and_then(|stream| match stream {
            VideoStream::Avc => {
                let of_type = |wanted: u8| sets.iter().copied().filter(|set| avc::nal_type(set[0]) == wanted).collect::<Vec<_>>();
                let size = avc::parse_sps(of_type(avc::NAL_SPS).first()?).ok()?;
                let config = avc::avc_config_of(&of_type(avc::NAL_SPS), &of_type(avc::NAL_PPS), 4)?;
                Some(VideoTrack::new(VideoCodec::Avc, config, size.width, size.height))
            }
            VideoStream::Hevc => {
                let (config, (width, height)) = hevc::hevc_config_of(&sets)?;
                Some(VideoTrack::new(VideoCodec::Hevc, config, width, height))
            }
        });
        if (video_track.is_none() && !video.samples.is_empty()) || (audio_track.is_none() && !audio.samples.is_empty()) {
            return Err(ScanError::Head { what: "what its frames are is not said where it begins" });
        }
        let tracks = Tracks { video: video_track.map(Into::into), audio: audio_track.map(Into::into), ..Tracks::default() };
        Movie::from_samples(&tracks, video.samples, audio.samples).ok_or(ScanError::Empty)
    }
}

/// Any bytes: what is found lies in what was written.
pub fn fuzz_ts_remux(data: &[u8]) {
    let mut written = 0;
    let write = |bytes: &[u8]| {
        written += bytes.len() as u64;
        Ok(())
    };
    if let Ok(movie) = remux(data, 0..data.len() as u64, write) {
        assert!(movie.tracks.iter().flat_map(|track| &track.samples).all(|sample| sample.offset + u64::from(sample.bytes) <= written));
    }
}
