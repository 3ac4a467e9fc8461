//! VP8 and VP9: the configuration record, and the size that key frames alone tell.

use crate::wire::BitReader;

/// Bytes of a key frame that are enough for [`vp8_size`] and [`vp9_key_frame`].
pub const KEY_FRAME_HEAD_BYTES: usize = 12;
/// Bytes of a `VPCodecConfigurationRecord` without version and flags, and without initialization data.
pub const VPC_CONFIG_BYTES: usize = 8;

/// What a VP9 key frame tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vp9KeyFrame {
    pub profile: u8,
    pub bit_depth: u8,
    /// `chromaSubsampling` of the configuration record: 1 is 4:2:0 colocated, 2 is 4:2:2, 3 is 4:4:4.
    pub chroma: u8,
    pub full_range: bool,
    pub width: u32,
    pub height: u32,
}

/// The `VPCodecConfigurationRecord` (VP Codec ISO Media File Format Binding, 2.2) in what was sent: some encoders send it as it stands in its box, behind
/// version and flags. `None` if it is neither.
pub fn vpc_config(sent: &[u8]) -> Option<&[u8]> {
    let record = match sent {
        [1, 0, 0, 0, record @ ..] if record.len() >= VPC_CONFIG_BYTES => record,
        record => record,
    };
    (record.len() >= VPC_CONFIG_BYTES).then_some(record)
}

/// The record for a stream that sent none.
pub fn vpc_config_of(profile: u8, bit_depth: u8, chroma: u8, full_range: bool) -> [u8; VPC_CONFIG_BYTES] {
    // Level 0 and colours 2: not specified.
    [profile, 0, bit_depth << 4 | chroma << 1 | u8::from(full_range), 2, 2, 2, 0, 0]
}

/// The name of a stream with this record in `CODECS` (the same, 3). `fourcc`: `vp08` or `vp09`.
pub fn vpc_codecs(fourcc: &str, record: &[u8]) -> String {
    match record {
        [profile, level, depth, ..] => format!("{fourcc}.{profile:02}.{level:02}.{:02}", depth >> 4),
        _ => fourcc.to_owned(),
    }
}

/// Width and height of a VP8 key frame (RFC 6386, 9.1); `None` if it is none.
pub fn vp8_size(frame: &[u8]) -> Option<(u32, u32)> {
    let &[tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = frame.first_chunk::<10>()? else { return None };
    let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    (tag & 1 == 0).then_some((side(w0, w1), side(h0, h1)))
}

/// uncompressed_header() of a VP9 key frame (VP9 bitstream specification, 6.2); `None` if it is none.
pub fn vp9_key_frame(frame: &[u8]) -> Option<Vp9KeyFrame> {
    let mut bits = BitReader::new(frame);
    if bits.bits(2)? != 2 {
        return None;
    }
    let profile = (bits.bits(1)? | bits.bits(1)? << 1) as u8;
    if profile == 3 {
        bits.bit()?;
    }
    let show_existing_frame = bits.bit()?;
    if show_existing_frame || bits.bit()? {
        return None;
    }
    bits.bits(2)?; // show_frame, error_resilient_mode
    if bits.bits(24)? != 0x49_8342 {
        return None;
    }
    let bit_depth = if profile >= 2 && bits.bit()? { 12 } else { 8 + 2 * u8::from(profile >= 2) };
    const COLOUR_SPACE_RGB: u32 = 7;
    let (full_range, chroma) = if bits.bits(3)? == COLOUR_SPACE_RGB {
        if profile & 1 == 1 {
            bits.bit()?;
        }
        (true, 3)
    } else {
        let full_range = bits.bit()?;
        let chroma = match profile & 1 {
            0 => 1,
            _ => match bits.bits(3)? >> 1 {
                0 => 3,
                2 => 2,
                _ => 1,
            },
        };
        (full_range, chroma)
    };
    Some(Vp9KeyFrame { profile, bit_depth, chroma, full_range, width: bits.bits(16)? + 1, height: bits.bits(16)? + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_of_real_encoders() {
        let vp9 = [0x82, 0x49, 0x83, 0x42, 0x00, 0x09, 0xf0, 0x07, 0x76, 0x06, 0x38, 0x24];
        let expected = Vp9KeyFrame { profile: 0, bit_depth: 8, chroma: 1, full_range: false, width: 160, height: 120 };
        assert_eq!(vp9_key_frame(&vp9), Some(expected));
        let inter = [0x86, 0x00, 0x40, 0x92, 0xf1, 0x21, 0x40, 0x00, 0x00, 0x50];
        assert_eq!(vp9_key_frame(&inter), None);
        let vp8 = [0x30, 0x43, 0x00, 0x9d, 0x01, 0x2a, 0xa0, 0x00, 0x78, 0x40, 0x00];
        assert_eq!(vp8_size(&vp8), Some((160, 120)));
        for cut in 0..9 {
            assert_eq!((vp9_key_frame(&vp9[..cut]), vp8_size(&vp8[..cut])), (None, None), "cut at {cut}");
        }
        assert_eq!(vp8_size(&[0x31, 0x43, 0x00, 0x9d, 0x01, 0x2a, 0xa0, 0x00, 0x78, 0x40]), None);
    }

    #[test]
    fn records_with_and_without_version() {
        let record = [0, 10, 0x82, 2, 2, 2, 0, 0];
        assert_eq!(vpc_config(&record), Some(&record[..]));
        assert_eq!(vpc_config(&[&[1, 0, 0, 0][..], &record].concat()), Some(&record[..]));
        assert_eq!(vpc_config(&record[..7]), None);
        assert_eq!(vpc_codecs("vp09", &record), "vp09.00.10.08");
        assert_eq!(vpc_codecs("vp08", &vpc_config_of(0, 8, 1, false)), "vp08.00.00.08");
    }
}
