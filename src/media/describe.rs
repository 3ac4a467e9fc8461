//! Tracks from sequence headers, and from frames that describe themselves.

use bytes::Bytes;

use super::flv_tag::TagError;
use super::{AudioCodec, AudioTrack, Payload, VideoCodec, VideoTrack};
use crate::codec::aac::{ADTS_HEADER_BYTES, config_of_adts, parse_aac_config, parse_adts_header};
use crate::codec::ac3::{SYNC_FRAME_HEAD_BYTES, parse_sync_frame};
use crate::codec::av1::{self, parse_av1_config};
use crate::codec::avc::{avc_config_of_annexb, parse_avc_config, parse_sps};
use crate::codec::flac;
use crate::codec::hevc::{self, parse_hevc_config};
use crate::codec::mp3::{MP3_HEADER_BYTES, parse_mp3_header};
use crate::codec::nal::{annexb_units, begins_with_start_code};
use crate::codec::opus::{self, parse_opus_head};
use crate::codec::vpx::{KEY_FRAME_HEAD_BYTES, vp8_size, vp9_key_frame, vpc_config, vpc_config_of};
use crate::codec::vvc::parse_vvc_config;

/// Samples of an Opus packet of 20 ms, which all encoders send unless told otherwise.
const OPUS_SAMPLES_NOMINAL: u32 = 960;

/// The track that a sequence header describes. `sent` is the tag body; the configuration begins at `header_bytes`.
///
/// # Errors
/// If the configuration cannot be read.
pub(super) fn video_track(codec: VideoCodec, mut sent: Bytes, header_bytes: usize) -> Result<VideoTrack, TagError> {
    let mut config = sent.slice(header_bytes..);
    let unreadable = TagError::Configuration { codec: codec.name() };
    let record = match codec {
        VideoCodec::Avc if begins_with_start_code(&config) => avc_config_of_annexb(&config),
        VideoCodec::Hevc if begins_with_start_code(&config) => {
            hevc::hevc_config_of(&annexb_units(&config).collect::<Vec<_>>()).map(|(record, _)| record)
        }
        _ => None,
    };
    if let Some(record) = record {
        // The tag in FLV files is then one that players can read.
        sent = [&sent[..header_bytes], &record].concat().into();
        config = sent.slice(header_bytes..);
    }
    // A stream whose parameter sets we cannot read may play all the same: record it, without a size.
    let size = match codec {
        VideoCodec::Avc => {
            let record = parse_avc_config(&config).map_err(TagError::Avc)?;
            record.sps.first().and_then(|sps| parse_sps(sps).ok()).map(|sps| (sps.width, sps.height))
        }
        VideoCodec::Hevc => parse_hevc_config(&config).map_err(TagError::Hevc)?.sps().and_then(hevc::picture_size),
        VideoCodec::Vvc => {
            // Some encoders send the record as it stands in its box, behind version and flags; else its first bits are set.
            if config.starts_with(&[0, 0, 0, 0]) {
                config = config.slice(4..);
            }
            parse_vvc_config(&config).ok_or(unreadable)?.profile.map(|profile| (profile.width, profile.height))
        }
        VideoCodec::Av1 => parse_av1_config(&config).ok_or(unreadable)?.size,
        VideoCodec::Vp8 | VideoCodec::Vp9 => {
            let bytes = vpc_config(&config).ok_or(unreadable)?.len();
            config = config.slice(config.len() - bytes..);
            None
        }
    };
    let (width, height) = size.unwrap_or((0, 0));
    Ok(VideoTrack { sequence_header: sent, ..VideoTrack::new(codec, config, width, height) })
}

/// The track as a key frame describes it, where its codec has the size in the frame: `known` with what the frame adds, or a whole one without `known`.
/// `None`: the frame says nothing new.
pub fn described_video(codec: VideoCodec, frame: &Payload<'_>, known: Option<&VideoTrack>) -> Option<VideoTrack> {
    let mut head = [0; KEY_FRAME_HEAD_BYTES];
    let ((width, height), record) = match codec {
        VideoCodec::Vp8 => {
            let filled = frame.peek(&mut head);
            (vp8_size(&head[..filled])?, vpc_config_of(0, 8, 1, false))
        }
        VideoCodec::Vp9 => {
            let filled = frame.peek(&mut head);
            let key = vp9_key_frame(&head[..filled])?;
            ((key.width, key.height), vpc_config_of(key.profile, key.bit_depth, key.chroma, key.full_range))
        }
        // Only where the record brought no sequence header.
        VideoCodec::Av1 if known.is_some_and(|known| known.width == 0) => {
            let mut head = [0; 64];
            let filled = frame.peek(&mut head);
            (av1::picture_size(&head[..filled])?, [0; 8])
        }
        _ => return None,
    };
    match known {
        Some(known) if (known.width, known.height) == (width, height) => None,
        Some(known) => Some(VideoTrack { width, height, ..known.clone() }),
        None if codec == VideoCodec::Av1 => None,
        None => Some(VideoTrack::new(codec, record.to_vec(), width, height)),
    }
}

/// The track that a sequence header describes, as for video.
///
/// # Errors
/// If the configuration cannot be read.
pub(super) fn audio_track(codec: AudioCodec, sent: Bytes, header_bytes: usize) -> Result<AudioTrack, TagError> {
    let config = sent.slice(header_bytes..);
    let unreadable = TagError::Configuration { codec: codec.name() };
    let track = AudioTrack { sequence_header: sent, ..AudioTrack::new(codec, Bytes::new(), opus::SAMPLE_RATE_HZ, 0, OPUS_SAMPLES_NOMINAL) };
    Ok(match codec {
        AudioCodec::Opus => {
            let head = parse_opus_head(&config).ok_or(unreadable)?;
            AudioTrack { config: head.specific_box().into(), channels: head.channels, pre_skip: u32::from(head.pre_skip), ..track }
        }
        AudioCodec::Flac => {
            let blocks = flac::metadata_blocks(&config).ok_or(unreadable)?;
            let info = flac::stream_info(&blocks).ok_or(unreadable)?;
            AudioTrack {
                config: blocks.into(),
                sample_rate_hz: info.sample_rate_hz,
                channels: info.channels,
                samples_per_frame: info.block_samples_max,
                ..track
            }
        }
        AudioCodec::Aac | AudioCodec::Mp3 | AudioCodec::Ac3 | AudioCodec::Eac3 => {
            let parsed = parse_aac_config(&config).map_err(TagError::Aac)?;
            AudioTrack {
                sample_rate_hz: parsed.sample_rate_hz,
                channels: parsed.channels,
                samples_per_frame: parsed.samples_per_frame,
                config,
                ..track
            }
        }
    })
}

/// Some encoders send AAC with the headers of ADTS, which FLV has no place for: the access unit behind it, and the track as the header tells it, for those that
/// send no sequence header either. `None`: the frame is one of AAC, as it should be.
pub fn without_adts<'a>(tag_header: &[u8], frame: &Payload<'a>) -> Option<(Payload<'a>, AudioTrack)> {
    let mut header = [0; ADTS_HEADER_BYTES];
    frame.peek(&mut header);
    // An access unit does not begin so: it would be one without sound, with something behind its end.
    let adts = parse_adts_header(header).filter(|adts| adts.frame_bytes == frame.len())?;
    let unit = frame.skip(adts.header_bytes);
    let config = config_of_adts(header, &unit.first(PROGRAM_BYTES_MAX).to_vec());
    let tag_header = match *tag_header {
        [first, _] => vec![first, 0],
        [first, ref fourcc @ ..] => [&[first & 0xf0], fourcc].concat(),
        [] => Vec::new(),
    };
    let track = audio_track(AudioCodec::Aac, [&tag_header[..], &config].concat().into(), tag_header.len()).ok()?;
    Some((unit, track))
}

/// Longest program config element.
const PROGRAM_BYTES_MAX: usize = 512;

/// The track of a codec without sequence headers, from the media bytes of a frame. `None` if they do not begin with such a frame.
pub fn described_audio(codec: AudioCodec, frame: &Payload<'_>) -> Option<AudioTrack> {
    let mut head = [0; SYNC_FRAME_HEAD_BYTES];
    let filled = frame.peek(&mut head);
    let head = &head[..filled];
    let (config, sample_rate_hz, channels, samples_per_frame) = match codec {
        AudioCodec::Mp3 => {
            let header = parse_mp3_header(*head.first_chunk::<MP3_HEADER_BYTES>()?).ok()?;
            (Bytes::new(), header.sample_rate_hz, header.channels, header.samples_per_frame)
        }
        AudioCodec::Ac3 | AudioCodec::Eac3 => {
            let frame = parse_sync_frame(head).filter(|frame| frame.enhanced == (codec == AudioCodec::Eac3))?;
            (frame.specific_box().into(), frame.sample_rate_hz, frame.channels, frame.samples)
        }
        _ => return None,
    };
    Some(AudioTrack::new(codec, config, sample_rate_hz, channels, samples_per_frame))
}
