//! Bodies of FLV audio and video tags, which are also the bodies of RTMP audio and video messages.
//!
//! Source: Adobe Flash Video File Format Specification 10.1, E.4.2 and E.4.3; the enhanced header by Enhanced RTMP v2. Frames are not copied:
//! what comes back borrows from the message.

use std::sync::Arc;

use bytes::Bytes;

use super::describe::{self, audio_track, video_track};
use super::enhanced::{self, Enhanced, Packet, Packets, Tag};
use super::{AudioCodec, AudioTrack, Colour, Frame, FurtherDescription, Payload, TagHeader, TrackKind, VideoCodec, VideoTrack, colour};
use crate::codec::aac::AacError;
use crate::codec::avc::AvcError;
use crate::codec::hevc::HevcError;
use crate::limits::SEQUENCE_HEADER_BYTES_MAX;

pub use describe::{described_audio, described_video, without_adts};

/// What one video message is.
#[derive(Clone, Debug)]
pub enum VideoUnit<'a> {
    /// A sequence header: the track's configuration from here on.
    Config(Arc<VideoTrack>),
    Frame(VideoCodec, FramePart<'a>),
    /// The colours of the track's picture from here on, with the tag body as sent.
    Colour(Box<Colour>, Vec<u8>),
    EndOfSequence,
    /// A command to the player (seek began, seek ended), or metadata of no meaning here: no picture.
    Info,
    /// A codec we do not record, by its name for the log.
    Unsupported {
        codec: &'static str,
    },
    /// A tag without media bytes.
    Empty,
    /// A packet of another track than the first: [`video_packet`] reads it.
    OfTrack(Packet<'a>),
    /// Packets of several tracks: [`video_packet`] reads each.
    Many(Packets<'a>),
}

/// What one audio message is.
#[derive(Clone, Debug)]
pub enum AudioUnit<'a> {
    Config(Arc<AudioTrack>),
    Frame(AudioCodec, FramePart<'a>),
    /// The order of the track's channels, as sent.
    Multichannel(Vec<u8>),
    EndOfSequence,
    Unsupported {
        codec: &'static str,
    },
    Empty,
    /// A packet of another track than the first: [`audio_packet`] reads it.
    OfTrack(Packet<'a>),
    /// Packets of several tracks: [`audio_packet`] reads each.
    Many(Packets<'a>),
}

/// A frame but for its time of decoding, which the message header tells.
#[derive(Clone, Copy, Debug)]
pub struct FramePart<'a> {
    /// A key frame; always true for audio.
    pub key: bool,
    /// PTS - DTS; 0 for audio.
    pub cts_ms: i32,
    pub tag_header: TagHeader,
    pub media: Payload<'a>,
}

impl<'a> FramePart<'a> {
    pub fn at(self, track: TrackKind, dts_ms: i64) -> Frame<'a> {
        let Self { key, cts_ms, tag_header, media } = self;
        Frame { track, dts_ms, cts_ms, key, tag_header, media }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TagError {
    #[error("{tag} tag of {bytes} bytes ends inside its header")]
    Truncated { tag: &'static str, bytes: usize },
    #[error("unknown {field} {value} in the {tag} tag")]
    Unknown { tag: &'static str, field: &'static str, value: u8 },
    #[error("sequence header of {bytes} bytes, at most {SEQUENCE_HEADER_BYTES_MAX} are taken")]
    SequenceHeaderTooLong { bytes: usize },
    #[error("reading the AVC sequence header")]
    Avc(#[source] AvcError),
    #[error("reading the AAC sequence header")]
    Aac(#[source] AacError),
    #[error("reading the HEVC sequence header")]
    Hevc(#[source] HevcError),
    #[error("the {codec} sequence header cannot be read")]
    Configuration { codec: &'static str },
}

/// Frame type and codec, AVCPacketType, composition time.
const AVC_TAG_HEADER_BYTES: usize = 5;
/// Sound format, AACPacketType.
const AAC_TAG_HEADER_BYTES: usize = 2;
/// Sound format.
const MP3_TAG_HEADER_BYTES: usize = 1;

const FRAME_TYPE_KEY: u8 = 1;
const FRAME_TYPE_GENERATED_KEY: u8 = 4;
const FRAME_TYPE_COMMAND: u8 = 5;
const VIDEO_CODEC_AVC: u8 = 7;
/// Beside the specification: H.265 as encoders sent it before Enhanced RTMP, its tag like that of AVC.
const VIDEO_CODEC_HEVC: u8 = 12;
/// IsExHeader of Enhanced RTMP: frame type and packet type in this byte, then the codec as four characters.
const VIDEO_EX_HEADER: u8 = 0x80;

const SOUND_FORMAT_MP3: u8 = 2;
const SOUND_FORMAT_EX_HEADER: u8 = 9;
const SOUND_FORMAT_AAC: u8 = 10;
const SOUND_FORMAT_MP3_8_KHZ: u8 = 14;

const PACKET_SEQUENCE_HEADER: u8 = 0;
const PACKET_RAW: u8 = 1;
const PACKET_END_OF_SEQUENCE: u8 = 2;

/// Reads the body of a video tag (E.4.3.1). Allocates for a sequence header only.
///
/// # Errors
/// [`TagError`]; the message is to be counted and dropped, the next one may be whole.
#[inline]
pub fn parse_video(payload: Payload<'_>) -> Result<VideoUnit<'_>, TagError> {
    let mut head = [0; AVC_TAG_HEADER_BYTES];
    let filled = payload.peek(&mut head);
    let head = &head[..filled];
    let Some(&first) = head.first() else { return Ok(VideoUnit::Empty) };
    if first & VIDEO_EX_HEADER != 0 {
        return match enhanced::parse(Tag::Video, payload)? {
            Enhanced::One(packet) if packet.track_id.unwrap_or(0) == 0 => video_packet(packet),
            Enhanced::One(packet) => Ok(VideoUnit::OfTrack(packet)),
            Enhanced::Many(packets) => Ok(VideoUnit::Many(packets)),
        };
    }
    let frame_type = first >> 4;
    if frame_type == FRAME_TYPE_COMMAND {
        return Ok(VideoUnit::Info);
    }
    match first & 0x0f {
        VIDEO_CODEC_AVC => parse_avc(VideoCodec::Avc, frame_type, head, payload),
        VIDEO_CODEC_HEVC => parse_avc(VideoCodec::Hevc, frame_type, head, payload),
        codec_id => legacy_video_codec(codec_id).map(|codec| VideoUnit::Unsupported { codec }).ok_or(TagError::Unknown {
            tag: "video",
            field: "CodecID",
            value: codec_id,
        }),
    }
}

/// A tag with the header of AVC.
#[inline]
fn parse_avc<'a>(codec: VideoCodec, frame_type: u8, head: &[u8], payload: Payload<'a>) -> Result<VideoUnit<'a>, TagError> {
    let &[_, packet_type, c2, c1, c0] = head else {
        // Encoders end a sequence with the first two bytes alone.
        return match head {
            [_, PACKET_END_OF_SEQUENCE, ..] => Ok(VideoUnit::EndOfSequence),
            _ => Err(TagError::Truncated { tag: "video", bytes: head.len() }),
        };
    };
    let media = payload.skip(AVC_TAG_HEADER_BYTES);
    match packet_type {
        PACKET_END_OF_SEQUENCE => Ok(VideoUnit::EndOfSequence),
        _ if media.is_empty() => Ok(VideoUnit::Empty),
        PACKET_SEQUENCE_HEADER => Ok(VideoUnit::Config(Arc::new(video_track(codec, sequence_header(payload)?, AVC_TAG_HEADER_BYTES)?))),
        PACKET_RAW => Ok(VideoUnit::Frame(
            codec,
            FramePart { key: is_key(frame_type), cts_ms: composition_time([c2, c1, c0]), tag_header: TagHeader::new(head), media },
        )),
        value => Err(TagError::Unknown { tag: "video", field: "AVCPacketType", value }),
    }
}

fn is_key(frame_type: u8) -> bool {
    matches!(frame_type, FRAME_TYPE_KEY | FRAME_TYPE_GENERATED_KEY)
}

/// SI24.
fn composition_time([c2, c1, c0]: [u8; 3]) -> i32 {
    i32::from_be_bytes([c2, c1, c0, 0]) >> 8
}

/// Reads a packet of an enhanced video tag. Allocates for a sequence header and for colours only.
///
/// # Errors
/// [`TagError`]; the packet is to be counted and dropped.
pub fn video_packet(packet: Packet<'_>) -> Result<VideoUnit<'_>, TagError> {
    let Packet { packet_type, fourcc, mut header, body: mut media, .. } = packet;
    let frame_type = header.as_slice().first().map_or(0, |first| first >> 4 & 7);
    if packet_type == enhanced::PACKET_METADATA {
        if media.len() > SEQUENCE_HEADER_BYTES_MAX {
            return Err(TagError::SequenceHeaderTooLong { bytes: media.len() });
        }
        let body = media.to_vec();
        return Ok(colour::parse(&body).map_or(VideoUnit::Info, |colour| VideoUnit::Colour(Box::new(colour), [header.as_slice(), &body].concat())));
    }
    if frame_type == FRAME_TYPE_COMMAND {
        return Ok(VideoUnit::Info);
    }
    let Some(codec) = VideoCodec::of_fourcc(&fourcc) else { return Ok(VideoUnit::Unsupported { codec: "enhanced: unknown video" }) };
    let mut cts_ms = 0;
    match packet_type {
        enhanced::PACKET_SEQUENCE_START if media.is_empty() => return Ok(VideoUnit::Empty),
        enhanced::PACKET_SEQUENCE_START => {
            let sent = sequence_header_of(&packet)?;
            return Ok(VideoUnit::Config(Arc::new(video_track(codec, sent, header.as_slice().len())?)));
        }
        enhanced::PACKET_SEQUENCE_END => return Ok(VideoUnit::EndOfSequence),
        enhanced::PACKET_CODED_FRAMES_X => {}
        enhanced::PACKET_CODED_FRAMES if !codec.has_composition_time() => {}
        enhanced::PACKET_CODED_FRAMES => {
            let mut time = [0; 3];
            if media.peek(&mut time) < time.len() {
                return Err(TagError::Truncated { tag: "video", bytes: header.as_slice().len() + media.len() });
            }
            (header, media, cts_ms) = (header.with(&time), media.skip(time.len()), composition_time(time));
        }
        // AV1 by the descriptor of MPEG-2 TS: the record can be made of no part of it, but key frames bring their sequence header.
        enhanced::PACKET_MPEG2_TS_SEQUENCE_START => return Ok(VideoUnit::Unsupported { codec: "enhanced: AV1 described for MPEG-2 TS" }),
        // A kind of a later version.
        _ => return Ok(VideoUnit::Unsupported { codec: "enhanced: unknown packet of video" }),
    }
    if media.is_empty() {
        return Ok(VideoUnit::Empty);
    }
    Ok(VideoUnit::Frame(codec, FramePart { key: is_key(frame_type), cts_ms, tag_header: header, media }))
}

/// Header and body of a packet as one tag body.
fn sequence_header_of(packet: &Packet<'_>) -> Result<Bytes, TagError> {
    let bytes = packet.header.as_slice().len() + packet.body.len();
    if bytes > SEQUENCE_HEADER_BYTES_MAX {
        return Err(TagError::SequenceHeaderTooLong { bytes });
    }
    Ok(Bytes::from(packet.to_vec()))
}

fn sequence_header(payload: Payload<'_>) -> Result<Bytes, TagError> {
    if payload.len() > SEQUENCE_HEADER_BYTES_MAX {
        return Err(TagError::SequenceHeaderTooLong { bytes: payload.len() });
    }
    Ok(Bytes::from(payload.to_vec()))
}

/// CodecID of E.4.3.1, and the numbers that are used beside the specification.
fn legacy_video_codec(codec_id: u8) -> Option<&'static str> {
    Some(match codec_id {
        1 => "JPEG",
        2 => "Sorenson H.263",
        3 => "Screen video",
        4 => "VP6",
        5 => "VP6 with alpha",
        6 => "Screen video 2",
        8 => "H.263",
        9 => "MPEG-4 Part 2",
        13 => "AV1",
        14 => "VP8",
        15 => "VP9",
        _ => return None,
    })
}

/// Reads the body of an audio tag (E.4.2.1). Allocates for a sequence header only.
///
/// # Errors
/// [`TagError`]; the message is to be counted and dropped, the next one may be whole.
#[inline]
pub fn parse_audio(payload: Payload<'_>) -> Result<AudioUnit<'_>, TagError> {
    let mut head = [0; 5];
    let filled = payload.peek(&mut head);
    let head = &head[..filled];
    let Some(&first) = head.first() else { return Ok(AudioUnit::Empty) };
    let (codec, packet_type, tag_header_bytes) = match first >> 4 {
        SOUND_FORMAT_MP3 | SOUND_FORMAT_MP3_8_KHZ => (AudioCodec::Mp3, PACKET_RAW, MP3_TAG_HEADER_BYTES),
        SOUND_FORMAT_AAC => match head.get(1) {
            Some(&packet_type) => (AudioCodec::Aac, packet_type, AAC_TAG_HEADER_BYTES),
            None => return Err(TagError::Truncated { tag: "audio", bytes: head.len() }),
        },
        SOUND_FORMAT_EX_HEADER => {
            return match enhanced::parse(Tag::Audio, payload)? {
                Enhanced::One(packet) if packet.track_id.unwrap_or(0) == 0 => audio_packet(packet),
                Enhanced::One(packet) => Ok(AudioUnit::OfTrack(packet)),
                Enhanced::Many(packets) => Ok(AudioUnit::Many(packets)),
            };
        }
        sound_format => return Ok(AudioUnit::Unsupported { codec: legacy_audio_codec(sound_format) }),
    };
    let media = payload.skip(tag_header_bytes);
    if media.is_empty() {
        return Ok(AudioUnit::Empty);
    }
    match packet_type {
        PACKET_RAW => Ok(AudioUnit::Frame(codec, FramePart { key: true, cts_ms: 0, tag_header: TagHeader::new(&head[..tag_header_bytes]), media })),
        PACKET_SEQUENCE_HEADER => audio_config(codec, sequence_header(payload)?, tag_header_bytes),
        value => Err(TagError::Unknown { tag: "audio", field: "AACPacketType", value }),
    }
}

fn audio_config<'a>(codec: AudioCodec, sent: Bytes, header_bytes: usize) -> Result<AudioUnit<'a>, TagError> {
    match audio_track(codec, sent, header_bytes) {
        Ok(track) => Ok(AudioUnit::Config(Arc::new(track))),
        Err(TagError::Aac(AacError::NotAac { .. })) => Ok(AudioUnit::Unsupported { codec: "MPEG-4 audio other than AAC" }),
        Err(error) => Err(error),
    }
}

/// Reads a packet of an enhanced audio tag. Allocates for a sequence header and the order of channels only.
///
/// # Errors
/// [`TagError`]; the packet is to be counted and dropped.
pub fn audio_packet(packet: Packet<'_>) -> Result<AudioUnit<'_>, TagError> {
    let Packet { packet_type, fourcc, header, body: media, .. } = packet;
    let Some(codec) = AudioCodec::of_fourcc(&fourcc) else { return Ok(AudioUnit::Unsupported { codec: "enhanced: unknown audio" }) };
    match packet_type {
        enhanced::PACKET_SEQUENCE_END => Ok(AudioUnit::EndOfSequence),
        enhanced::PACKET_MULTICHANNEL_CONFIG => Ok(AudioUnit::Multichannel(sequence_header_of(&packet)?.to_vec())),
        _ if media.is_empty() => Ok(AudioUnit::Empty),
        enhanced::PACKET_CODED_FRAMES => Ok(AudioUnit::Frame(codec, FramePart { key: true, cts_ms: 0, tag_header: header, media })),
        // What describes itself has nothing to say here.
        enhanced::PACKET_SEQUENCE_START if codec.describes_itself() => Ok(AudioUnit::Empty),
        enhanced::PACKET_SEQUENCE_START => audio_config(codec, sequence_header_of(&packet)?, header.as_slice().len()),
        _ => Ok(AudioUnit::Unsupported { codec: "enhanced: unknown packet of audio" }),
    }
}

/// What a packet tells of its track beyond what is `known`; `None`: nothing, or what cannot be read.
pub fn further_track(kind: TrackKind, packet: Packet<'_>, known: Option<&FurtherDescription>) -> Option<FurtherDescription> {
    match kind {
        TrackKind::Video => {
            let known = known.and_then(|known| match known {
                FurtherDescription::Video(track) => Some(track),
                FurtherDescription::Audio(_) => None,
            });
            match video_packet(packet).ok()? {
                VideoUnit::Config(track) => {
                    let colour = known.and_then(|known| known.colour.clone());
                    Some(FurtherDescription::Video(Arc::new(VideoTrack { colour, ..(*track).clone() })))
                }
                VideoUnit::Colour(colour, _) => {
                    known.map(|known| FurtherDescription::Video(Arc::new(VideoTrack { colour: Some(colour), ..(**known).clone() })))
                }
                VideoUnit::Frame(codec, part) if part.key => {
                    let known = known.map(|known| &**known).filter(|known| known.codec == codec);
                    described_video(codec, &part.media, known).map(|track| FurtherDescription::Video(Arc::new(track)))
                }
                _ => None,
            }
        }
        TrackKind::Audio => match audio_packet(packet).ok()? {
            AudioUnit::Config(track) => Some(FurtherDescription::Audio(track)),
            AudioUnit::Frame(codec, part) => described_audio(codec, &part.media)
                .filter(|track| !matches!(known, Some(FurtherDescription::Audio(known)) if known.is_like(track)))
                .map(|track| FurtherDescription::Audio(Arc::new(track))),
            _ => None,
        },
    }
}

/// The frame in the tag body of a further track, with the number of the track. `None`: it is no frame.
pub fn further_frame(kind: TrackKind, body: &[u8]) -> Option<(u8, FramePart<'_>)> {
    let Ok(Enhanced::One(packet)) = enhanced::parse(kind.into(), Payload::contiguous(body)) else { return None };
    let part = match kind {
        TrackKind::Video => match video_packet(packet) {
            Ok(VideoUnit::Frame(_, part)) => part,
            _ => return None,
        },
        TrackKind::Audio => match audio_packet(packet) {
            Ok(AudioUnit::Frame(_, part)) => part,
            _ => return None,
        },
    };
    Some((packet.track_id?, part))
}

/// SoundFormat of E.4.2.1.
fn legacy_audio_codec(sound_format: u8) -> &'static str {
    match sound_format {
        0 => "Linear PCM, platform endian",
        1 => "ADPCM",
        3 => "Linear PCM, little endian",
        4 => "Nellymoser 16 kHz",
        5 => "Nellymoser 8 kHz",
        6 => "Nellymoser",
        7 => "G.711 A-law",
        8 => "G.711 mu-law",
        11 => "Speex",
        12 | 13 => "Opus",
        _ => "device-specific sound",
    }
}

/// A body gives the same unit whole and in pieces, and what a frame carries is the body.
pub fn fuzz_flv_tag(data: &[u8]) {
    let Some((&cut, body)) = data.split_first() else { return };
    super::note::fuzz_note(body);
    super::parameter_sets::fuzz_parameter_sets(body);
    for kind in [TrackKind::Video, TrackKind::Audio] {
        if let Some((_, part)) = further_frame(kind, body) {
            assert!(part.media.len() < body.len());
        }
    }
    let cut = usize::from(cut).min(body.len());
    // In three pieces: what an earlier read brought, a chunk, an empty one and the rest.
    let (prefix, input) = body.split_at(cut / 2);
    let spans = [(0, cut - cut / 2), (cut - cut / 2, cut - cut / 2), (cut - cut / 2, input.len())];
    let spans = spans.map(|(start, end)| super::payload::Span { start: start as u32, end: end as u32 });
    let (whole, pieces) = (Payload::contiguous(body), Payload::chunked(prefix, input, &spans));
    assert_eq!(describe(parse_video(whole).map(Unit::Video), body), describe(parse_video(pieces).map(Unit::Video), body));
    assert_eq!(describe(parse_audio(whole).map(Unit::Audio), body), describe(parse_audio(pieces).map(Unit::Audio), body));
    for codec in AudioCodec::ALL {
        assert_eq!(described_audio(codec, &whole), described_audio(codec, &pieces));
    }
    for codec in VideoCodec::ALL {
        assert_eq!(described_video(codec, &whole, None), described_video(codec, &pieces, None));
    }
}

enum Unit<'a> {
    Video(VideoUnit<'a>),
    Audio(AudioUnit<'a>),
}

/// The unit as text, for comparing.
fn describe(unit: Result<Unit<'_>, TagError>, body: &[u8]) -> String {
    match unit {
        Ok(Unit::Video(VideoUnit::Frame(_, part)) | Unit::Audio(AudioUnit::Frame(_, part))) => {
            let bytes = [part.tag_header.as_slice(), &part.media.to_vec()].concat();
            assert!(bytes == body || bytes.len() < body.len(), "a frame is its tag body, unless modifiers were too long to be kept");
            assert!((-0x80_0000..0x80_0000).contains(&part.cts_ms));
            format!("frame {} {} {bytes:?}", part.key, part.cts_ms)
        }
        Ok(Unit::Video(VideoUnit::OfTrack(packet)) | Unit::Audio(AudioUnit::OfTrack(packet))) => packet_text(packet, body),
        Ok(Unit::Video(VideoUnit::Many(packets)) | Unit::Audio(AudioUnit::Many(packets))) => {
            packets.map(|packet| packet.map_or_else(|error| error.to_string(), |packet| packet_text(packet, body))).collect()
        }
        Ok(Unit::Video(unit)) => format!("{unit:?}"),
        Ok(Unit::Audio(unit)) => format!("{unit:?}"),
        Err(error) => format!("{error:?}"),
    }
}

fn packet_text(packet: Packet<'_>, body: &[u8]) -> String {
    assert!(packet.body.len() < body.len() && packet.track_id.is_some());
    let _ = (video_packet(packet), audio_packet(packet));
    format!("{} {:?} {:?} {:?} {:?};", packet.packet_type, packet.track_id, packet.fourcc, packet.header, packet.body.to_vec())
}

#[cfg(test)]
#[path = "flv_tag_tests.rs"]
mod tests;
