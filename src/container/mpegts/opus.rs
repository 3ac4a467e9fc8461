//! Opus in a transport stream, as "Opus in MPEG-TS" (opus-codec.org) has it and players know it: a control header in front of each packet, and a descriptor that
//! tells the channels.

use crate::codec::opus::{OpusHead, SAMPLE_RATE_HZ};
use crate::media::{AudioCodec, AudioTrack};

/// The prefix of the control header: 11 bits, behind them the flags.
const PREFIX: [u8; 2] = [0x7f, 0xe0];
const START_TRIM: u8 = 0x10;
const END_TRIM: u8 = 0x08;
const EXTENSION: u8 = 0x04;
/// Of 20 ms, which all encoders send unless told otherwise.
const PACKET_SAMPLES: u32 = 960;
/// 13 bits of samples.
const TRIM_MAX: u16 = (1 << 13) - 1;
/// The most that stands in front of a packet of so many bytes.
pub const fn header_bytes_max(packet_bytes: usize) -> usize {
    PREFIX.len() + packet_bytes / 255 + 1 + 2
}

/// The orders of channels that a code alone tells (RFC 7845, 5.1.1.2): streams, of these coupled, and the mapping.
const MAPPINGS: [&[u8]; 8] = [
    &[1, 0, 0],
    &[1, 1, 0, 1],
    &[2, 1, 0, 2, 1],
    &[2, 2, 0, 1, 2, 3],
    &[3, 2, 0, 4, 1, 2, 3],
    &[4, 2, 0, 4, 1, 2, 3, 5],
    &[4, 3, 0, 4, 1, 2, 3, 5, 6],
    &[5, 3, 0, 6, 1, 2, 3, 4, 5, 7],
];

/// `channel_config_code` of the descriptor. `None`: no code tells this order of channels.
pub fn channel_code(head: &OpusHead<'_>) -> Option<u8> {
    match head.mapping_family {
        0 => Some(head.channels).filter(|channels| (1..=2).contains(channels)),
        1 => MAPPINGS.iter().any(|mapping| head.mapping == *mapping && mapping.len() == 2 + usize::from(head.channels)).then_some(head.channels),
        _ => None,
    }
}

/// The track that such a code tells.
pub fn track(code: u8) -> Option<AudioTrack> {
    let mapping = MAPPINGS.iter().find(|mapping| mapping.len() == 2 + usize::from(code))?;
    let family = u8::from(code > 2);
    let mapping: &[u8] = if family == 0 { &[] } else { mapping };
    let head = OpusHead { channels: code, pre_skip: 0, input_sample_rate_hz: SAMPLE_RATE_HZ, output_gain: 0, mapping_family: family, mapping };
    Some(AudioTrack::new(AudioCodec::Opus, head.specific_box(), SAMPLE_RATE_HZ, code, PACKET_SAMPLES))
}

/// Appends the control header of a packet. `start_trim`: samples at its beginning that are not to be heard.
pub fn push_header(out: &mut Vec<u8>, packet_bytes: usize, start_trim: u16) {
    let trims = start_trim > 0;
    out.extend_from_slice(&[PREFIX[0], PREFIX[1] | if trims { START_TRIM } else { 0 }]);
    out.extend(std::iter::repeat_n(0xff, packet_bytes / 255));
    out.push((packet_bytes % 255) as u8);
    if trims {
        out.extend_from_slice(&start_trim.min(TRIM_MAX).to_be_bytes());
    }
}

/// The packet behind its control header. `None`: there is none.
pub fn packet(stream: &[u8]) -> Option<&[u8]> {
    let (&[first, flags], mut rest) = stream.split_first_chunk::<2>()?;
    if first != PREFIX[0] || flags & 0xe0 != PREFIX[1] {
        return None;
    }
    while let Some((0xff, behind)) = rest.split_first() {
        rest = behind;
    }
    rest = rest.get(1..)?;
    let trims = usize::from(flags & START_TRIM != 0) + usize::from(flags & END_TRIM != 0);
    rest = rest.get(2 * trims..)?;
    if flags & EXTENSION != 0 {
        let (&bytes, behind) = rest.split_first()?;
        rest = behind.get(usize::from(bytes)..)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::opus::parse_opus_head;

    #[test]
    fn headers_as_other_programs_write_them() {
        for (bytes, trim, expected) in [
            (10, 0, &[0x7f, 0xe0, 10][..]),
            (254, 0, &[0x7f, 0xe0, 254]),
            (255, 0, &[0x7f, 0xe0, 255, 0]),
            (600, 312, &[0x7f, 0xf0, 255, 255, 90, 1, 0x38]),
        ] {
            let mut out = Vec::new();
            push_header(&mut out, bytes, trim);
            assert_eq!(out, expected, "{bytes}");
            assert!(out.len() <= header_bytes_max(bytes));
            out.extend_from_slice(b"packet");
            assert_eq!(packet(&out), Some(&b"packet"[..]));
            for cut in 0..out.len() {
                assert!(packet(&out[..cut]).is_none_or(|rest| rest.len() < 6));
            }
        }
    }

    #[test]
    fn a_code_tells_the_usual_orders() {
        let head = |channels, family, mapping: &[u8]| [&[1, channels, 0, 0, 0x80, 0xbb, 0, 0, 0, 0, family][..], mapping].concat();
        for (sent, code) in [
            (head(2, 0, &[]), Some(2)),
            (head(6, 1, &[4, 2, 0, 4, 1, 2, 3, 5]), Some(6)),
            (head(6, 1, &[4, 2, 0, 1, 2, 3, 4, 5]), None),
            (head(2, 255, &[2, 0, 0, 1]), None),
        ] {
            assert_eq!(channel_code(&parse_opus_head(&sent).unwrap()), code, "{sent:?}");
        }
    }
}
