//! Bodies of FLV audio and video tags, which are also the bodies of RTMP audio and video messages.
//!
//! Source: Adobe Flash Video File Format Specification 10.1, E.4.2 and E.4.3; the enhanced header by Enhanced RTMP v2. Frames are not copied:
//! what comes back borrows from the message.

use std::sync::Arc;

use bytes::Bytes;

use super::{AudioCodec, AudioTrack, Frame, Payload, TagHeader, TrackKind, VideoCodec, VideoTrack};
use crate::codec::aac::{AacError, parse_aac_config};
use crate::codec::avc::{AvcError, parse_avc_config, parse_sps};
use crate::codec::mp3::{MP3_HEADER_BYTES, parse_mp3_header};
use crate::limits::SEQUENCE_HEADER_BYTES_MAX;

/// What one video message is.
#[derive(Clone, Debug)]
pub enum VideoUnit<'a> {
    /// A sequence header: the track's configuration from here on.
    Config(Arc<VideoTrack>),
    Frame(FramePart<'a>),
    EndOfSequence,
    /// A command to the player (seek began, seek ended): no picture.
    Info,
    /// A codec we do not record, by its name for the log.
    Unsupported {
        codec: &'static str,
    },
    /// A tag without media bytes.
    Empty,
}

/// What one audio message is.
#[derive(Clone, Debug)]
pub enum AudioUnit<'a> {
    Config(Arc<AudioTrack>),
    Frame(FramePart<'a>),
    Unsupported { codec: &'static str },
    Empty,
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
/// IsExHeader of Enhanced RTMP: frame type and packet type in this byte, then the codec as four characters.
const VIDEO_EX_HEADER: u8 = 0x80;
/// The enhanced packet types behind which no codec follows at its usual place.
const EX_PACKET_MULTITRACK: u8 = 6;
const EX_PACKET_MOD_EX: u8 = 7;

const SOUND_FORMAT_MP3: u8 = 2;
const SOUND_FORMAT_EX_HEADER: u8 = 9;
const SOUND_FORMAT_AAC: u8 = 10;
const SOUND_FORMAT_MP3_8_KHZ: u8 = 14;
const EX_AUDIO_PACKET_MULTITRACK: u8 = 5;

const PACKET_SEQUENCE_HEADER: u8 = 0;
const PACKET_RAW: u8 = 1;
const PACKET_END_OF_SEQUENCE: u8 = 2;

/// Reads the body of a video tag (E.4.3.1). Allocates for a sequence header only.
///
/// # Errors
/// [`TagError`]; the message is to be counted and dropped, the next one may be whole.
pub fn parse_video(payload: Payload<'_>) -> Result<VideoUnit<'_>, TagError> {
    let mut head = [0; AVC_TAG_HEADER_BYTES];
    let filled = payload.peek(&mut head);
    let head = &head[..filled];
    let Some(&first) = head.first() else { return Ok(VideoUnit::Empty) };
    if first & VIDEO_EX_HEADER != 0 {
        return Ok(VideoUnit::Unsupported { codec: enhanced_video_codec(first & 0x0f, head) });
    }
    let frame_type = first >> 4;
    if frame_type == FRAME_TYPE_COMMAND {
        return Ok(VideoUnit::Info);
    }
    match first & 0x0f {
        VIDEO_CODEC_AVC => parse_avc(frame_type, head, payload),
        codec_id => legacy_video_codec(codec_id).map(|codec| VideoUnit::Unsupported { codec }).ok_or(TagError::Unknown {
            tag: "video",
            field: "CodecID",
            value: codec_id,
        }),
    }
}

fn parse_avc<'a>(frame_type: u8, head: &[u8], payload: Payload<'a>) -> Result<VideoUnit<'a>, TagError> {
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
        PACKET_SEQUENCE_HEADER => Ok(VideoUnit::Config(Arc::new(avc_track(payload)?))),
        PACKET_RAW => Ok(VideoUnit::Frame(FramePart {
            key: matches!(frame_type, FRAME_TYPE_KEY | FRAME_TYPE_GENERATED_KEY),
            cts_ms: i32::from_be_bytes([c2, c1, c0, 0]) >> 8,
            tag_header: TagHeader::new(head),
            media,
        })),
        value => Err(TagError::Unknown { tag: "video", field: "AVCPacketType", value }),
    }
}

fn avc_track(payload: Payload<'_>) -> Result<VideoTrack, TagError> {
    let sequence_header = sequence_header(payload)?;
    let config = sequence_header.slice(AVC_TAG_HEADER_BYTES..);
    let record = parse_avc_config(&config).map_err(TagError::Avc)?;
    // A stream whose SPS we cannot read may play all the same: record it, without a size.
    let size = record.sps.first().and_then(|sps| parse_sps(sps).ok());
    let (width, height) = size.map_or((0, 0), |sps| (sps.width, sps.height));
    Ok(VideoTrack { codec: VideoCodec::Avc, config, sequence_header, width, height })
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
        12 => "H.265",
        13 => "AV1",
        14 => "VP8",
        15 => "VP9",
        _ => return None,
    })
}

fn enhanced_video_codec(packet_type: u8, head: &[u8]) -> &'static str {
    match (packet_type, head.get(1..5)) {
        (EX_PACKET_MULTITRACK, _) => "enhanced: multitrack video",
        (EX_PACKET_MOD_EX, _) => "enhanced: modified video packet",
        (_, Some(b"avc1")) => "enhanced: avc1",
        (_, Some(b"hvc1")) => "enhanced: hvc1",
        (_, Some(b"vvc1")) => "enhanced: vvc1",
        (_, Some(b"av01")) => "enhanced: av01",
        (_, Some(b"vp08")) => "enhanced: vp08",
        (_, Some(b"vp09")) => "enhanced: vp09",
        _ => "enhanced: unknown video",
    }
}

/// Reads the body of an audio tag (E.4.2.1). Allocates for a sequence header only.
///
/// # Errors
/// [`TagError`]; the message is to be counted and dropped, the next one may be whole.
pub fn parse_audio(payload: Payload<'_>) -> Result<AudioUnit<'_>, TagError> {
    let mut head = [0; 5];
    let filled = payload.peek(&mut head);
    let head = &head[..filled];
    let Some(&first) = head.first() else { return Ok(AudioUnit::Empty) };
    let (packet_type, tag_header_bytes) = match first >> 4 {
        SOUND_FORMAT_MP3 | SOUND_FORMAT_MP3_8_KHZ => (PACKET_RAW, MP3_TAG_HEADER_BYTES),
        SOUND_FORMAT_AAC => match head.get(1) {
            Some(&packet_type) => (packet_type, AAC_TAG_HEADER_BYTES),
            None => return Err(TagError::Truncated { tag: "audio", bytes: head.len() }),
        },
        SOUND_FORMAT_EX_HEADER => return Ok(AudioUnit::Unsupported { codec: enhanced_audio_codec(first & 0x0f, head) }),
        sound_format => return Ok(AudioUnit::Unsupported { codec: legacy_audio_codec(sound_format) }),
    };
    let media = payload.skip(tag_header_bytes);
    if media.is_empty() {
        return Ok(AudioUnit::Empty);
    }
    match packet_type {
        PACKET_RAW => Ok(AudioUnit::Frame(FramePart { key: true, cts_ms: 0, tag_header: TagHeader::new(&head[..tag_header_bytes]), media })),
        PACKET_SEQUENCE_HEADER => match aac_track(payload) {
            Ok(track) => Ok(AudioUnit::Config(Arc::new(track))),
            Err(TagError::Aac(AacError::NotAac { .. })) => Ok(AudioUnit::Unsupported { codec: "MPEG-4 audio other than AAC" }),
            Err(error) => Err(error),
        },
        value => Err(TagError::Unknown { tag: "audio", field: "AACPacketType", value }),
    }
}

fn aac_track(payload: Payload<'_>) -> Result<AudioTrack, TagError> {
    let sequence_header = sequence_header(payload)?;
    let config = sequence_header.slice(AAC_TAG_HEADER_BYTES..);
    let parsed = parse_aac_config(&config).map_err(TagError::Aac)?;
    Ok(AudioTrack {
        codec: AudioCodec::Aac,
        sample_rate_hz: parsed.sample_rate_hz,
        channels: parsed.channels,
        samples_per_frame: parsed.samples_per_frame,
        config,
        sequence_header,
    })
}

/// The track of MP3, which has no sequence header, from the media bytes of its first frame. `None` if they begin with no layer III header.
pub fn mp3_track(frame: &Payload<'_>) -> Option<AudioTrack> {
    let mut head = [0; MP3_HEADER_BYTES];
    if frame.peek(&mut head) < head.len() {
        return None;
    }
    let header = parse_mp3_header(head).ok()?;
    Some(AudioTrack {
        codec: AudioCodec::Mp3,
        config: Bytes::new(),
        sequence_header: Bytes::new(),
        sample_rate_hz: header.sample_rate_hz,
        channels: header.channels,
        samples_per_frame: header.samples_per_frame,
    })
}

/// The codec of an audio frame's tag header: MP3 has no configuration that would tell it.
pub fn audio_codec(tag_header: &TagHeader) -> Option<AudioCodec> {
    match tag_header.as_slice().first()? >> 4 {
        SOUND_FORMAT_AAC => Some(AudioCodec::Aac),
        SOUND_FORMAT_MP3 | SOUND_FORMAT_MP3_8_KHZ => Some(AudioCodec::Mp3),
        _ => None,
    }
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

fn enhanced_audio_codec(packet_type: u8, head: &[u8]) -> &'static str {
    match (packet_type, head.get(1..5)) {
        (EX_AUDIO_PACKET_MULTITRACK, _) => "enhanced: multitrack audio",
        (_, Some(b"mp4a")) => "enhanced: mp4a",
        (_, Some(b".mp3")) => "enhanced: .mp3",
        (_, Some(b"Opus")) => "enhanced: Opus",
        (_, Some(b"fLaC")) => "enhanced: fLaC",
        (_, Some(b"ac-3")) => "enhanced: ac-3",
        (_, Some(b"ec-3")) => "enhanced: ec-3",
        _ => "enhanced: unknown audio",
    }
}

/// A body gives the same unit whole and in pieces, and what a frame carries is the body.
pub fn fuzz_flv_tag(data: &[u8]) {
    let Some((&cut, body)) = data.split_first() else { return };
    let cut = usize::from(cut).min(body.len());
    // In three pieces: what an earlier read brought, a chunk, an empty one and the rest.
    let (prefix, input) = body.split_at(cut / 2);
    let spans = [(0, cut - cut / 2), (cut - cut / 2, cut - cut / 2), (cut - cut / 2, input.len())];
    let spans = spans.map(|(start, end)| super::payload::Span { start: start as u32, end: end as u32 });
    let (whole, pieces) = (Payload::contiguous(body), Payload::chunked(prefix, input, &spans));
    assert_eq!(describe(parse_video(whole).map(Unit::Video), body), describe(parse_video(pieces).map(Unit::Video), body));
    assert_eq!(describe(parse_audio(whole).map(Unit::Audio), body), describe(parse_audio(pieces).map(Unit::Audio), body));
    assert_eq!(mp3_track(&whole), mp3_track(&pieces));
}

enum Unit<'a> {
    Video(VideoUnit<'a>),
    Audio(AudioUnit<'a>),
}

/// The unit as text, for comparing.
fn describe(unit: Result<Unit<'_>, TagError>, body: &[u8]) -> String {
    match unit {
        Ok(Unit::Video(VideoUnit::Frame(part)) | Unit::Audio(AudioUnit::Frame(part))) => {
            let bytes = [part.tag_header.as_slice(), &part.media.to_vec()].concat();
            assert_eq!(bytes, body, "a frame is its tag body");
            assert!((-0x80_0000..0x80_0000).contains(&part.cts_ms));
            format!("frame {} {} {bytes:?}", part.key, part.cts_ms)
        }
        Ok(Unit::Video(unit)) => format!("{unit:?}"),
        Ok(Unit::Audio(unit)) => format!("{unit:?}"),
        Err(error) => format!("{error:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::payload::Span;

    const AVCC: &[u8] = &[
        0x01, 0x64, 0x00, 0x0a, 0xff, 0xe1, 0x00, 0x17, 0x67, 0x64, 0x00, 0x0a, 0xac, 0xd9, 0x5e, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00,
        0x00, 0x03, 0x00, 0xc8, 0x3c, 0x48, 0x96, 0x58, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
    ];

    fn video_case(body: &[u8]) -> String {
        match parse_video(Payload::contiguous(body)) {
            Ok(VideoUnit::Config(track)) => format!("config {}x{}, {} bytes", track.width, track.height, track.config.len()),
            Ok(VideoUnit::Frame(part)) => {
                format!("frame key {} cts {} header {} media {:02x?}", part.key, part.cts_ms, part.tag_header.as_slice().len(), part.media.to_vec())
            }
            Ok(VideoUnit::Unsupported { codec }) => codec.to_owned(),
            Ok(unit) => format!("{unit:?}"),
            Err(error) => error.to_string(),
        }
    }

    fn audio_case(body: &[u8]) -> String {
        match parse_audio(Payload::contiguous(body)) {
            Ok(AudioUnit::Config(track)) => format!("config {} Hz, {} channels, {:02x?}", track.sample_rate_hz, track.channels, &track.config[..]),
            Ok(AudioUnit::Frame(part)) => format!("frame header {} media {:02x?}", part.tag_header.as_slice().len(), part.media.to_vec()),
            Ok(AudioUnit::Unsupported { codec }) => codec.to_owned(),
            Ok(unit) => format!("{unit:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn video_tags() {
        let config = [&[0x17, 0, 0, 0, 0], AVCC].concat();
        let broken_sps = [&config[..13], &[0x67, 0, 0, 0], &config[17..]].concat();
        let cases: &[(&[u8], &str)] = &[
            (&[], "Empty"),
            (&config, "config 16x16, 44 bytes"),
            (&broken_sps, "config 0x0, 44 bytes"),
            (&config[..20], "reading the AVC sequence header"),
            (&[0x17, 0, 0, 0, 0], "Empty"),
            (&[0x17, 1, 0, 0, 0], "Empty"),
            (&[0x17, 1, 0, 0, 80, 9], "frame key true cts 80 header 5 media [09]"),
            (&[0x27, 1, 0xff, 0xff, 0xd8, 9, 8], "frame key false cts -40 header 5 media [09, 08]"),
            (&[0x47, 1, 0x7f, 0xff, 0xff, 9], "frame key true cts 8388607 header 5 media [09]"),
            (&[0x27, 1, 0], "video tag of 3 bytes ends inside its header"),
            (&[0x27, 3, 0, 0, 0, 1], "unknown AVCPacketType 3 in the video tag"),
            (&[0x17, 2, 0, 0, 0], "EndOfSequence"),
            (&[0x17, 2], "EndOfSequence"),
            (&[0x57, 0], "Info"),
            (&[0x52, 1], "Info"),
            (&[0x12, 1, 2, 3], "Sorenson H.263"),
            (&[0x1c, 0, 0, 0, 0, 1], "H.265"),
            (&[0x10, 0, 0, 0, 0, 1], "unknown CodecID 0 in the video tag"),
            (b"\x90hvc1\x01", "enhanced: hvc1"),
            (b"\x91av01\x01", "enhanced: av01"),
            (b"\x91av0", "enhanced: unknown video"),
            (b"\x96\x00av01", "enhanced: multitrack video"),
            (b"\x97\x00av01", "enhanced: modified video packet"),
        ];
        for (body, expected) in cases {
            assert_eq!(video_case(body), *expected, "{body:02x?}");
        }
        let Ok(VideoUnit::Config(track)) = parse_video(Payload::contiguous(&config)) else { panic!("no configuration") };
        assert_eq!((&track.config[..], &track.sequence_header[..]), (AVCC, &config[..]));
    }

    #[test]
    fn audio_tags() {
        let cases: &[(&[u8], &str)] = &[
            (&[], "Empty"),
            (&[0xaf, 0, 0x12, 0x10], "config 44100 Hz, 2 channels, [12, 10]"),
            (&[0xaf, 0, 0x12], "reading the AAC sequence header"),
            (&[0xaf, 0, 0xf9, 0x46, 0x40], "MPEG-4 audio other than AAC"),
            (&[0xaf, 0], "Empty"),
            (&[0xaf, 1], "Empty"),
            (&[0xaf, 1, 0x21], "frame header 2 media [21]"),
            (&[0xaf], "audio tag of 1 bytes ends inside its header"),
            (&[0xaf, 2, 0], "unknown AACPacketType 2 in the audio tag"),
            (&[0x2f], "Empty"),
            (&[0x2f, 0xff, 0xfb], "frame header 1 media [ff, fb]"),
            (&[0xef, 0xff, 0xe3], "frame header 1 media [ff, e3]"),
            (&[0x7f, 1], "G.711 A-law"),
            (&[0xb2, 1], "Speex"),
            (b"\x91Opus", "enhanced: Opus"),
            (b"\x95\x00Opus", "enhanced: multitrack audio"),
        ];
        for (body, expected) in cases {
            assert_eq!(audio_case(body), *expected, "{body:02x?}");
        }
    }

    #[test]
    fn sequence_headers_are_bounded() {
        let mut long = vec![0; SEQUENCE_HEADER_BYTES_MAX + 1];
        long[0] = 0x17;
        assert_eq!(video_case(&long), format!("sequence header of {} bytes, at most {SEQUENCE_HEADER_BYTES_MAX} are taken", long.len()));
        long[0] = 0xaf;
        assert!(audio_case(&long).starts_with("sequence header of"));
    }

    #[test]
    fn mp3_is_described_by_its_first_frame() {
        let input = [0xff, 0xfb, 0x92, 0x64, 0, 0];
        for cut in 0..=input.len() as u32 {
            let spans = [Span { start: 0, end: cut }, Span { start: cut, end: 6 }];
            let track = mp3_track(&Payload::chunked(&[], &input, &spans)).expect("a header");
            assert_eq!((track.codec, track.sample_rate_hz, track.channels, track.samples_per_frame), (AudioCodec::Mp3, 44_100, 2, 1152));
        }
        assert_eq!(mp3_track(&Payload::contiguous(&input[..3])), None);
        assert_eq!(mp3_track(&Payload::contiguous(b"ID3\x04")), None);
        assert_eq!(audio_codec(&TagHeader::new(&[0x2f])), Some(AudioCodec::Mp3));
        assert_eq!(audio_codec(&TagHeader::new(&[0xaf, 1])), Some(AudioCodec::Aac));
        assert_eq!(audio_codec(&TagHeader::new(&[])), None);
    }

    #[test]
    fn fuzz_target_holds_at_every_cut() {
        let bodies: &[&[u8]] = &[
            &[&[0x17, 0, 0, 0, 0], AVCC].concat(),
            &[0x27, 1, 0xff, 0xff, 0xd8, 9, 8],
            &[0xaf, 0, 0x12, 0x10],
            &[0xaf, 1, 0x21, 7],
            b"\x90hvc1\x01",
            &[0x2f, 0xff, 0xfb, 0x92, 0x64],
        ];
        for body in bodies {
            for cut in 0..=body.len() as u8 {
                fuzz_flv_tag(&[&[cut], *body].concat());
            }
        }
    }
}
