//! PAT and PMT: one program with at most one video and one audio stream.

use super::{HAS_PAYLOAD, PACKET_BYTES, PACKET_HEADER_BYTES, PAYLOAD_UNIT_START, PID_AUDIO, PID_MESSAGES, PID_PAT, PID_PMT, PID_VIDEO, SYNC_BYTE};
use crate::media::{AudioCodec, VideoCodec};
use crate::wire::{Put, Reader, Truncated, crc32_mpeg};

/// Private data in PES packets: Opus is known by its registration.
const STREAM_TYPE_PRIVATE: u8 = 0x06;
const STREAM_TYPE_METADATA: u8 = 0x15;
const STREAM_TYPE_MPEG1_AUDIO: u8 = 0x03;
const STREAM_TYPE_MPEG2_AUDIO: u8 = 0x04;
const STREAM_TYPE_ADTS: u8 = 0x0f;
const STREAM_TYPE_AVC: u8 = 0x1b;
const STREAM_TYPE_HEVC: u8 = 0x24;
const STREAM_TYPE_AC3: u8 = 0x81;
const STREAM_TYPE_EAC3: u8 = 0x87;
/// registration_descriptor (ISO/IEC 13818-1, 2.6.8): tag, length, and the four letters by which players know user-private stream types.
const REGISTRATION: [u8; 2] = [0x05, 4];

const DESCRIPTOR_REGISTRATION: u8 = 0x05;
/// extension_descriptor with the channels of Opus (user-defined extension 0x80).
const DESCRIPTOR_EXTENSION: u8 = 0x7f;
const EXTENSION_OPUS: u8 = 0x80;
/// metadata_pointer_descriptor (2.6.58): ID3 tags of program 1, carried in this stream.
const METADATA_POINTER: [u8; 17] = *b"\x25\x0f\xff\xffID3 \xffID3 \0\x1f\0\x01";
/// metadata_descriptor (2.6.60).
const METADATA: [u8; 15] = *b"\x26\x0d\xff\xffID3 \xffID3 \0\x0f";

const TABLE_PAT: u8 = 0;
const TABLE_PMT: u8 = 2;
const PROGRAM_NUMBER: u16 = 1;
const CRC_BYTES: usize = 4;

/// The streams of the program, as the PMT tells them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Program {
    pub video: Option<VideoStream>,
    pub audio: Option<AudioStream>,
    /// ID3 tags.
    pub messages: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum VideoStream {
    Avc,
    Hevc,
}

impl VideoStream {
    pub fn codec(self) -> VideoCodec {
        match self {
            VideoStream::Avc => VideoCodec::Avc,
            VideoStream::Hevc => VideoCodec::Hevc,
        }
    }

    fn stream_type(self) -> u8 {
        match self {
            VideoStream::Avc => STREAM_TYPE_AVC,
            VideoStream::Hevc => STREAM_TYPE_HEVC,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AudioStream {
    Adts,
    /// 32, 44.1 or 48 kHz.
    Mpeg1,
    /// Lower rates.
    Mpeg2,
    Ac3,
    Eac3,
    /// With the code of its channels.
    Opus(u8),
}

impl AudioStream {
    pub fn codec(self) -> AudioCodec {
        match self {
            AudioStream::Adts => AudioCodec::Aac,
            AudioStream::Mpeg1 | AudioStream::Mpeg2 => AudioCodec::Mp3,
            AudioStream::Ac3 => AudioCodec::Ac3,
            AudioStream::Eac3 => AudioCodec::Eac3,
            AudioStream::Opus(_) => AudioCodec::Opus,
        }
    }

    fn stream_type(self) -> u8 {
        match self {
            AudioStream::Adts => STREAM_TYPE_ADTS,
            AudioStream::Mpeg1 => STREAM_TYPE_MPEG1_AUDIO,
            AudioStream::Mpeg2 => STREAM_TYPE_MPEG2_AUDIO,
            AudioStream::Ac3 => STREAM_TYPE_AC3,
            AudioStream::Eac3 => STREAM_TYPE_EAC3,
            AudioStream::Opus(_) => STREAM_TYPE_PRIVATE,
        }
    }

    fn descriptors(self) -> Vec<u8> {
        match self {
            AudioStream::Ac3 => [&REGISTRATION[..], b"AC-3"].concat(),
            AudioStream::Eac3 => [&REGISTRATION[..], b"EAC3"].concat(),
            AudioStream::Opus(channels) => [&REGISTRATION[..], b"Opus", &[DESCRIPTOR_EXTENSION, 2, EXTENSION_OPUS, channels]].concat(),
            AudioStream::Adts | AudioStream::Mpeg1 | AudioStream::Mpeg2 => Vec::new(),
        }
    }
}

impl Program {
    /// The stream that carries the clock reference.
    pub fn pcr_pid(self) -> u16 {
        if self.video.is_some() { PID_VIDEO } else { PID_AUDIO }
    }

    /// A packet with the program association section (ISO/IEC 13818-1, 2.4.4.3). The continuity counter is 0.
    pub fn pat_packet() -> [u8; PACKET_BYTES] {
        let mut programs = Vec::new();
        programs.put_u16(PROGRAM_NUMBER);
        programs.put_u16(0xe000 | PID_PMT);
        section_packet(PID_PAT, TABLE_PAT, 0, &programs)
    }

    /// A packet with the program map section (2.4.4.8); with messages, which come later, it is version 1. The continuity counter is 0.
    pub fn pmt_packet(self) -> [u8; PACKET_BYTES] {
        let mut streams = Vec::new();
        streams.put_u16(0xe000 | self.pcr_pid());
        let put_descriptors = |streams: &mut Vec<u8>, descriptors: &[u8]| {
            streams.put_u16(0xf000 | descriptors.len() as u16);
            streams.put(descriptors);
        };
        put_descriptors(&mut streams, if self.messages { &METADATA_POINTER } else { &[] });
        let video = self.video.map(|video| (video.stream_type(), PID_VIDEO, Vec::new()));
        let audio = self.audio.map(|audio| (audio.stream_type(), PID_AUDIO, audio.descriptors()));
        let messages = self.messages.then(|| (STREAM_TYPE_METADATA, PID_MESSAGES, METADATA.to_vec()));
        for (stream_type, pid, descriptors) in [video, audio, messages].into_iter().flatten() {
            streams.put_u8(stream_type);
            streams.put_u16(0xe000 | pid);
            put_descriptors(&mut streams, &descriptors);
        }
        section_packet(PID_PMT, TABLE_PMT, u8::from(self.messages), &streams)
    }

    /// Reads the payload of a PMT packet of ours; `None` if it is damaged or another's.
    pub fn parse_pmt(payload: &[u8]) -> Option<Self> {
        let (&pointer, rest) = payload.split_first()?;
        let section = rest.get(usize::from(pointer)..)?;
        let length = usize::from(u16::from_be_bytes([*section.get(1)? & 0x0f, *section.get(2)?]));
        let section = section.get(..3 + length)?;
        if section[0] != TABLE_PMT || length < 9 + CRC_BYTES || crc32_mpeg(section) != 0 {
            return None;
        }
        Self::streams(&section[8..section.len() - CRC_BYTES]).ok()
    }

    fn streams(bytes: &[u8]) -> Result<Self, Truncated> {
        let mut reader = Reader::new(bytes);
        reader.u16()?;
        let descriptors_bytes = reader.u16()? & 0x0fff;
        reader.skip(usize::from(descriptors_bytes))?;
        let mut program = Self { video: None, audio: None, messages: false };
        while !reader.is_empty() {
            let stream_type = reader.u8()?;
            let pid = reader.u16()? & 0x1fff;
            let descriptors_bytes = reader.u16()? & 0x0fff;
            let descriptors = reader.take(usize::from(descriptors_bytes))?;
            match (pid, stream_type) {
                (PID_MESSAGES, STREAM_TYPE_METADATA) => program.messages = true,
                (PID_AUDIO, STREAM_TYPE_PRIVATE) => program.audio = opus_channels(descriptors).map(AudioStream::Opus),
                (PID_VIDEO, STREAM_TYPE_AVC) => program.video = Some(VideoStream::Avc),
                (PID_VIDEO, STREAM_TYPE_HEVC) => program.video = Some(VideoStream::Hevc),
                (PID_AUDIO, STREAM_TYPE_AC3) => program.audio = Some(AudioStream::Ac3),
                (PID_AUDIO, STREAM_TYPE_EAC3) => program.audio = Some(AudioStream::Eac3),
                (PID_AUDIO, STREAM_TYPE_ADTS) => program.audio = Some(AudioStream::Adts),
                (PID_AUDIO, STREAM_TYPE_MPEG1_AUDIO) => program.audio = Some(AudioStream::Mpeg1),
                (PID_AUDIO, STREAM_TYPE_MPEG2_AUDIO) => program.audio = Some(AudioStream::Mpeg2),
                _ => {}
            }
        }
        Ok(program)
    }
}

/// The code of the channels in the descriptors of Opus.
fn opus_channels(mut descriptors: &[u8]) -> Option<u8> {
    let (mut is_opus, mut channels) = (false, None);
    while let Some((&[tag, bytes], rest)) = descriptors.split_first_chunk::<2>() {
        let (body, behind) = rest.split_at_checked(usize::from(bytes))?;
        match (tag, body) {
            (DESCRIPTOR_REGISTRATION, b"Opus") => is_opus = true,
            (DESCRIPTOR_EXTENSION, [EXTENSION_OPUS, code, ..]) => channels = Some(*code),
            _ => {}
        }
        descriptors = behind;
    }
    channels.filter(|_| is_opus)
}

/// One section in one packet: current, number 0 of 0.
fn section_packet(pid: u16, table_id: u8, version: u8, body: &[u8]) -> [u8; PACKET_BYTES] {
    let mut section = Vec::new();
    section.put_u8(table_id);
    section.put_u16(0xb000 | (5 + body.len() + CRC_BYTES) as u16);
    section.put_u16(PROGRAM_NUMBER); // the transport stream id of a PAT is 1 too
    section.put(&[0xc1 | version << 1, 0, 0]);
    section.put(body);
    let crc = crc32_mpeg(&section);
    section.put_u32(crc);

    let [pid_high, pid_low] = pid.to_be_bytes();
    let mut packet = [0xff; PACKET_BYTES];
    packet[..PACKET_HEADER_BYTES + 1].copy_from_slice(&[SYNC_BYTE, PAYLOAD_UNIT_START | pid_high, pid_low, HAS_PAYLOAD, 0]);
    packet[PACKET_HEADER_BYTES + 1..][..section.len()].copy_from_slice(&section);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pmt_tells_its_streams_and_damage_is_seen() {
        use AudioStream::{Ac3, Adts, Eac3, Mpeg1, Mpeg2, Opus};
        for video in [None, Some(VideoStream::Avc), Some(VideoStream::Hevc)] {
            for audio in [None, Some(Adts), Some(Mpeg1), Some(Mpeg2), Some(Ac3), Some(Eac3), Some(Opus(2)), Some(Opus(6))] {
                let program = Program { video, audio, messages: audio == Some(Adts) };
                let packet = program.pmt_packet();
                assert_eq!(Program::parse_pmt(&packet[4..]), Some(program));
                let section_end = 8 + usize::from(packet[7]);
                for at in 5..section_end {
                    let mut damaged = packet;
                    damaged[at] ^= 1;
                    assert_eq!(Program::parse_pmt(&damaged[4..]), None, "byte {at}");
                    assert_eq!(Program::parse_pmt(&packet[4..at]), None, "cut at {at}");
                }
            }
        }
    }

    #[test]
    fn the_pat_is_the_one_every_tool_writes() {
        let expected = [0x47, 0x40, 0, 0x10, 0, 0, 0xb0, 0x0d, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0, 0x2a, 0xb1, 0x04, 0xb2, 0xff];
        assert_eq!(Program::pat_packet()[..expected.len()], expected);
    }
}
