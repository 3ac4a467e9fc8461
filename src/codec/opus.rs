//! Opus: the identification header, and how long a packet lasts.

/// Opus always decodes at this rate; what the header says of the source's rate is for information.
pub const SAMPLE_RATE_HZ: u32 = 48_000;
const MAGIC: &[u8] = b"OpusHead";

/// The identification header (RFC 7845, 5.1), borrowed from the bytes as sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpusHead<'a> {
    pub channels: u8,
    /// Samples to throw away at the beginning of the stream, at 48 kHz.
    pub pre_skip: u16,
    pub input_sample_rate_hz: u32,
    pub output_gain: i16,
    pub mapping_family: u8,
    /// Stream count, coupled count and mapping; empty for family 0.
    pub mapping: &'a [u8],
}

/// Parses an identification header with or without its magic word. `None` if it is cut.
pub fn parse_opus_head(sent: &[u8]) -> Option<OpusHead<'_>> {
    let header = sent.strip_prefix(MAGIC).unwrap_or(sent);
    let (&[version, channels, p0, p1, r0, r1, r2, r3, g0, g1, mapping_family], rest) = header.split_first_chunk::<11>()?;
    // RFC 7845: the upper four bits are the incompatible part.
    if version & 0xf0 != 0 || channels == 0 {
        return None;
    }
    let mapping = if mapping_family == 0 { &[][..] } else { rest.get(..2 + usize::from(channels))? };
    if mapping_family == 0 && channels > 2 {
        return None;
    }
    Some(OpusHead {
        channels,
        pre_skip: u16::from_le_bytes([p0, p1]),
        input_sample_rate_hz: u32::from_le_bytes([r0, r1, r2, r3]),
        output_gain: i16::from_le_bytes([g0, g1]),
        mapping_family,
        mapping,
    })
}

/// Parses the body of `dOps`: see [`OpusHead::specific_box`]. `None` if it is cut.
pub fn parse_specific_box(body: &[u8]) -> Option<OpusHead<'_>> {
    let (&[0, channels, p1, p0, r3, r2, r1, r0, g1, g0, mapping_family], rest) = body.split_first_chunk::<11>()? else { return None };
    Some(OpusHead {
        channels,
        pre_skip: u16::from_be_bytes([p1, p0]),
        input_sample_rate_hz: u32::from_be_bytes([r3, r2, r1, r0]),
        output_gain: i16::from_be_bytes([g1, g0]),
        mapping_family,
        mapping: if mapping_family == 0 { &[] } else { rest.get(..2 + usize::from(channels))? },
    })
}

impl OpusHead<'_> {
    /// The body of `dOps` (Encapsulation of Opus in ISO Base Media File Format, 4.3.2): the same in big-endian, version 0.
    pub fn specific_box(&self) -> Vec<u8> {
        let mut body = vec![0, self.channels];
        body.extend(self.pre_skip.to_be_bytes());
        body.extend(self.input_sample_rate_hz.to_be_bytes());
        body.extend(self.output_gain.to_be_bytes());
        body.push(self.mapping_family);
        body.extend_from_slice(self.mapping);
        body
    }
}

/// Samples of a packet at 48 kHz by its first two bytes (RFC 6716, 3.1); `None` for an empty one or one beyond 120 ms.
pub fn packet_samples(head: &[u8]) -> Option<u32> {
    let toc = *head.first()?;
    let frame_samples = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(*head.get(1)? & 0x3f),
    };
    Some(frame_samples * frames).filter(|samples| (1..=5760).contains(samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_real_encoder_and_its_box() {
        let sent = b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00";
        let head = parse_opus_head(sent).unwrap();
        assert_eq!((head.channels, head.pre_skip, head.input_sample_rate_hz, head.mapping_family), (2, 312, 48_000, 0));
        assert_eq!(head.specific_box(), [0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0]);
        assert_eq!(parse_specific_box(&head.specific_box()), Some(head));
        assert_eq!(parse_opus_head(&sent[8..]), Some(head));
        for cut in 8..sent.len() {
            assert_eq!(parse_opus_head(&sent[..cut]), None, "cut at {cut}");
        }
        let surround = b"OpusHead\x01\x06\x38\x01\x80\xbb\x00\x00\x00\x00\x01\x04\x02\x00\x04\x01\x02\x03\x05";
        assert_eq!(parse_opus_head(surround).unwrap().mapping, b"\x04\x02\x00\x04\x01\x02\x03\x05");
        assert_eq!(parse_opus_head(&surround[..25]), None);
    }

    #[test]
    fn packets_last_as_long_as_their_first_bytes_say() {
        // CELT 20 ms in one frame, SILK 60 ms, hybrid 10 ms twice, CELT 2.5 ms in 6 frames, none, too long.
        let cases: [(&[u8], Option<u32>); 7] = [
            (&[0xf8], Some(960)),
            (&[0x18], Some(2880)),
            (&[0x61], Some(960)),
            (&[0x83, 6], Some(720)),
            (&[], None),
            (&[0x1b, 3], None),
            (&[0x83], None),
        ];
        for (head, expected) in cases {
            assert_eq!(packet_samples(head), expected, "{head:02x?}");
        }
    }
}
