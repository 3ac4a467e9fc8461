//! AV1: the configuration record and the size in its sequence header.

use crate::wire::{BitReader, Reader};

/// What an `AV1CodecConfigurationRecord` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Av1Config {
    pub profile: u8,
    /// `seq_level_idx_0`.
    pub level: u8,
    pub high_tier: bool,
    pub bit_depth: u8,
    /// Largest picture, by the sequence header of the record; `None` if it brings none.
    pub size: Option<(u32, u32)>,
}

impl Av1Config {
    /// The name of this stream in `CODECS` (AV1 in ISOBMFF, 5).
    pub fn codecs(&self) -> String {
        format!("av01.{}.{:02}{}.{:02}", self.profile, self.level, if self.high_tier { 'H' } else { 'M' }, self.bit_depth)
    }
}

const OBU_SEQUENCE_HEADER: u8 = 1;
/// The first byte of a sequence header whose length follows (5.3.2).
pub const SEQUENCE_HEADER_WITH_SIZE: u8 = OBU_SEQUENCE_HEADER << 3 | 0x02;

/// Parses an `AV1CodecConfigurationRecord` (AV1 in ISOBMFF, 2.3.3). `None` if it is cut or of another version.
pub fn parse_av1_config(record: &[u8]) -> Option<Av1Config> {
    let (&[marker, profile, tier, _], units) = record.split_first_chunk::<4>()?;
    if marker != 0x81 {
        return None;
    }
    let bit_depth = match (tier & 0x40 != 0, tier & 0x20 != 0) {
        (false, _) => 8,
        (true, false) => 10,
        (true, true) => 12,
    };
    Some(Av1Config { profile: profile >> 5, level: profile & 0x1f, high_tier: tier & 0x80 != 0, bit_depth, size: picture_size(units) })
}

/// The largest picture by the first sequence header among these OBUs (AV1 bitstream specification, 5.3.1); `None` without a whole one.
pub fn picture_size(units: &[u8]) -> Option<(u32, u32)> {
    sequence_header_size(sequence_header(units)?)
}

/// What the first sequence header among these OBUs holds, without its own header; `None` without a whole one.
pub fn sequence_header(units: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(units);
    while !reader.is_empty() {
        let header = reader.u8().ok()?;
        if header & 0x04 != 0 {
            reader.u8().ok()?;
        }
        let bytes = if header & 0x02 != 0 { leb128(&mut reader)? } else { reader.left() };
        let unit = reader.take(bytes).ok()?;
        if header >> 3 & 0x0f == OBU_SEQUENCE_HEADER {
            return Some(unit);
        }
    }
    None
}

fn leb128(reader: &mut Reader<'_>) -> Option<usize> {
    let mut value: u64 = 0;
    for index in 0..8 {
        let byte = reader.u8().ok()?;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok().filter(|value| *value <= u32::MAX as usize);
        }
    }
    None
}

/// sequence_header_obu() of 5.5.1 up to the largest picture.
pub fn sequence_header_size(unit: &[u8]) -> Option<(u32, u32)> {
    let mut bits = BitReader::new(unit);
    bits.bits(3)?; // seq_profile
    bits.bit()?; // still_picture
    if bits.bit()? {
        bits.bits(5)?; // seq_level_idx[0] of the reduced header
    } else {
        let mut decoder_model_delay_bits = None;
        if bits.bit()? {
            bits.skip(64)?; // num_units_in_display_tick, time_scale
            if bits.bit()? {
                uvlc(&mut bits)?;
            }
            if bits.bit()? {
                decoder_model_delay_bits = Some(bits.bits(5)? as usize + 1);
                bits.skip(32 + 5 + 5)?;
            }
        }
        let initial_display_delay = bits.bit()?;
        for _ in 0..=bits.bits(5)? {
            bits.bits(12)?;
            if bits.bits(5)? > 7 {
                bits.bit()?;
            }
            if let Some(delay_bits) = decoder_model_delay_bits
                && bits.bit()?
            {
                bits.skip(2 * delay_bits + 1)?;
            }
            if initial_display_delay && bits.bit()? {
                bits.bits(4)?;
            }
        }
    }
    let (width_bits, height_bits) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
    Some((bits.bits(width_bits)? + 1, bits.bits(height_bits)? + 1))
}

/// uvlc() of 4.10.3.
fn uvlc(bits: &mut BitReader<'_>) -> Option<()> {
    let mut zeros = 0;
    while !bits.bit()? {
        zeros += 1;
        if zeros == 32 {
            return Some(());
        }
    }
    bits.bits(zeros).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_a_real_encoder() {
        let record = [0x81, 0x00, 0x0c, 0x00, 0x0a, 0x0b, 0x02, 0x00, 0x00, 0x05, 0x1d, 0xa7, 0xfb, 0x80, 0x5f, 0x00, 0x08];
        let config = parse_av1_config(&record).unwrap();
        assert_eq!(config, Av1Config { profile: 0, level: 0, high_tier: false, bit_depth: 8, size: Some((160, 120)) });
        assert_eq!(config.codecs(), "av01.0.00M.08");
        for cut in 4..record.len() {
            assert_eq!(parse_av1_config(&record[..cut]).unwrap().size, None, "cut at {cut}");
        }
        assert_eq!(parse_av1_config(&record[..3]), None);
        assert_eq!(parse_av1_config(&[1, 2, 3, 4]), None);
    }
}
