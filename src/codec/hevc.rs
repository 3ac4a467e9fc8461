//! H.265: the configuration record and what a container wants of the sequence parameter set.

use super::nal::without_emulation_prevention;
use crate::wire::{BitReader, Reader, Truncated};

/// NAL unit types that a container must tell apart (ISO/IEC 23008-2, table 7-1).
pub const NAL_VPS: u8 = 32;
pub const NAL_SPS: u8 = 33;
pub const NAL_PPS: u8 = 34;
pub const NAL_ACCESS_UNIT_DELIMITER: u8 = 35;

/// The six bits behind the first of a NAL unit.
pub const fn nal_type(header: u8) -> u8 {
    header >> 1 & 0x3f
}

/// An `HEVCDecoderConfigurationRecord`, borrowed from the bytes as sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HevcConfig<'a> {
    pub profile_space: u8,
    pub high_tier: bool,
    pub profile_idc: u8,
    pub profile_compatibility: u32,
    pub constraints: [u8; 6],
    pub level_idc: u8,
    /// Bytes of the length in front of each NAL unit, 1 to 4.
    pub nal_length_bytes: u8,
    /// NAL units with their header, without length or start code, in the order of the record: their types tell what they are.
    pub parameter_sets: Vec<&'a [u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HevcError {
    #[error("the HEVC configuration record ends inside a field")]
    Truncated(#[from] Truncated),
    #[error("HEVC configuration record of version {version}, expected 1")]
    Version { version: u8 },
}

/// Parses an `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15, 8.3.3.1). Version 0 stands in records that early encoders sent.
///
/// # Errors
/// [`HevcError::Version`], and [`HevcError::Truncated`] if a length points past the end of `record`.
pub fn parse_hevc_config(record: &[u8]) -> Result<HevcConfig<'_>, HevcError> {
    let mut reader = Reader::new(record);
    let version = reader.u8()?;
    if version > 1 {
        return Err(HevcError::Version { version });
    }
    let profile = reader.u8()?;
    let profile_compatibility = reader.u32()?;
    let constraints = reader.array()?;
    let level_idc = reader.u8()?;
    // Segmentation, parallelism, chroma format, bit depths, frame rate.
    reader.skip(8)?;
    let nal_length_bytes = (reader.u8()? & 0x03) + 1;
    let mut parameter_sets = Vec::new();
    for _ in 0..reader.u8()? {
        reader.u8()?;
        for _ in 0..reader.u16()? {
            let bytes = reader.u16()?;
            parameter_sets.push(reader.take(usize::from(bytes))?);
        }
    }
    Ok(HevcConfig {
        profile_space: profile >> 6,
        high_tier: profile & 0x20 != 0,
        profile_idc: profile & 0x1f,
        profile_compatibility,
        constraints,
        level_idc,
        nal_length_bytes,
        parameter_sets,
    })
}

impl HevcConfig<'_> {
    /// The first sequence parameter set.
    pub fn sps(&self) -> Option<&[u8]> {
        self.parameter_sets.iter().copied().find(|set| set.first().is_some_and(|header| nal_type(*header) == NAL_SPS))
    }

    /// The name of this stream in `CODECS` (ISO/IEC 14496-15, annex E).
    pub fn codecs(&self) -> String {
        let space = ["", "A", "B", "C"][usize::from(self.profile_space & 3)];
        let tier = if self.high_tier { 'H' } else { 'L' };
        let compatibility = self.profile_compatibility.reverse_bits();
        let mut name = format!("hvc1.{space}{}.{compatibility:X}.{tier}{}", self.profile_idc, self.level_idc);
        let used = self.constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for byte in &self.constraints[..used] {
            name.push_str(&format!(".{byte:X}"));
        }
        name
    }
}

/// Longest part of a sequence parameter set that is read. Everything up to the conformance window fits in far less.
const SPS_BYTES_READ_MAX: usize = 512;

/// Luma width and height after cropping by the conformance window (ISO/IEC 23008-2, 7.3.2.2.1). `nal` begins with the two bytes of the NAL header.
/// `None` if it is cut, or if no picture can have this size.
pub fn picture_size(nal: &[u8]) -> Option<(u32, u32)> {
    let SpsHead { width, height, .. } = sps_head(nal)?;
    Some((width, height))
}

/// What is read of a sequence parameter set.
struct SpsHead {
    width: u32,
    height: u32,
    sub_layers: u32,
    temporal_id_nested: bool,
    chroma_format_idc: u32,
    /// Less 8: of luma and chroma.
    bit_depths: (u32, u32),
}

fn sps_head(nal: &[u8]) -> Option<SpsHead> {
    let (header, body) = nal.split_at_checked(2)?;
    if nal_type(header[0]) != NAL_SPS {
        return None;
    }
    let rbsp = without_emulation_prevention(&body[..body.len().min(SPS_BYTES_READ_MAX)]);
    let mut bits = BitReader::new(&rbsp);
    bits.bits(4)?; // sps_video_parameter_set_id
    let sub_layers = bits.bits(3)?;
    let temporal_id_nested = bits.bit()?;
    profile_tier_level(&mut bits, sub_layers)?;
    bits.ue()?; // sps_seq_parameter_set_id
    let chroma_format_idc = bits.ue()?;
    let separate_planes = chroma_format_idc == 3 && bits.bit()?;
    let (width, height) = (bits.ue()?, bits.ue()?);
    let crop = if bits.bit()? { [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?] } else { [0; 4] };
    let bit_depths = (bits.ue()?, bits.ue()?);
    let [left, right, top, bottom] = crop.map(u64::from);
    let (unit_width, unit_height) = match (separate_planes, chroma_format_idc) {
        (false, 1) => (2, 2),
        (false, 2) => (2, 1),
        _ => (1, 1),
    };
    let side = |coded: u32, cut: u64| u16::try_from(u64::from(coded).checked_sub(cut)?).ok().filter(|side| *side > 0).map(u32::from);
    let (width, height) = (side(width, (left + right) * unit_width)?, side(height, (top + bottom) * unit_height)?);
    Some(SpsHead { width, height, sub_layers, temporal_id_nested, chroma_format_idc, bit_depths })
}

/// The `HEVCDecoderConfigurationRecord` of these parameter sets, for units behind lengths of four bytes, and the size of the picture. `None` without a
/// sequence parameter set that can be read.
pub fn hevc_config_of(sets: &[&[u8]]) -> Option<(Vec<u8>, (u32, u32))> {
    let of_type = |wanted: u8| sets.iter().copied().filter(move |set| set.first().is_some_and(|header| nal_type(*header) == wanted));
    let sps = of_type(NAL_SPS).next()?;
    let SpsHead { width, height, sub_layers, temporal_id_nested, chroma_format_idc, bit_depths } = sps_head(sps)?;
    let plain = without_emulation_prevention(&sps[..sps.len().min(SPS_BYTES_READ_MAX)]);
    let mut record = vec![1];
    // Profile, tier and level stand in the set as they do in the record (ISO/IEC 14496-15, 8.3.3.1).
    record.extend_from_slice(plain.get(3..15)?);
    let depth = |less_8: u32| 0xf8 | (less_8 & 7) as u8;
    // No minimum of slices or tiles, the kind of parallelism not said, no average frame rate.
    record.extend([0xf0, 0, 0xfc, 0xfc | (chroma_format_idc & 3) as u8, depth(bit_depths.0), depth(bit_depths.1), 0, 0]);
    record.push(((sub_layers as u8 + 1) & 7) << 3 | u8::from(temporal_id_nested) << 2 | 3);
    let kinds = [NAL_VPS, NAL_SPS, NAL_PPS].map(|kind| (kind, of_type(kind).filter(|set| set.len() <= usize::from(u16::MAX)).collect::<Vec<_>>()));
    record.push(kinds.iter().filter(|(_, sets)| !sets.is_empty()).count() as u8);
    for (kind, sets) in kinds.iter().filter(|(_, sets)| !sets.is_empty()) {
        record.push(0x80 | kind);
        record.extend_from_slice(&(sets.len() as u16).to_be_bytes());
        for set in sets {
            record.extend_from_slice(&(set.len() as u16).to_be_bytes());
            record.extend_from_slice(set);
        }
    }
    Some((record, (width, height)))
}

/// profile_tier_level() of 7.3.3: 88 bits, the level, and the same for each sub-layer that has them.
fn profile_tier_level(bits: &mut BitReader<'_>, sub_layers: u32) -> Option<()> {
    bits.skip(88 + 8)?;
    let mut present = Vec::new();
    for _ in 0..sub_layers {
        present.push((bits.bit()?, bits.bit()?));
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers as usize))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of x265: Main, 160x120.
    const MAIN: &[u8] = &[
        0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x1e, 0xa0, 0x14, 0x20, 0x20, 0x7c,
        0xb9, 0x65, 0x64, 0x4a, 0x4c, 0x2f, 0x01, 0x68, 0x08, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00, 0x00, 0x03, 0x00, 0xc8, 0x40,
    ];

    fn record(sets: &[&[u8]]) -> Vec<u8> {
        let mut record = vec![1, 0x01, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 0x1e, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f, sets.len() as u8];
        for set in sets {
            record.extend([nal_type(set[0]), 0, 1, 0, set.len() as u8]);
            record.extend_from_slice(set);
        }
        record
    }

    #[test]
    fn a_record_says_what_it_holds_and_cut_it_is_refused() {
        let record = record(&[&[0x40, 1, 7], MAIN, &[0x44, 1, 9]]);
        let config = parse_hevc_config(&record).unwrap();
        assert_eq!((config.nal_length_bytes, config.parameter_sets.len(), config.profile_idc, config.level_idc), (4, 3, 1, 30));
        assert_eq!(config.sps(), Some(MAIN));
        let (made, size) = hevc_config_of(&[&[0x44, 1, 9], MAIN, &[0x40, 1, 7]]).unwrap();
        assert_eq!((made[..22].to_vec(), size), (record[..22].to_vec(), (160, 120)));
        let again = parse_hevc_config(&made).unwrap();
        assert_eq!((again.codecs(), &again.parameter_sets), (config.codecs(), &config.parameter_sets));
        assert_eq!(hevc_config_of(&[&[0x40, 1, 7]]), None);
        assert_eq!(config.codecs(), "hvc1.1.6.L30.90");
        assert_eq!(picture_size(MAIN), Some((160, 120)));
        for cut in 0..record.len() {
            assert!(matches!(parse_hevc_config(&record[..cut]), Err(HevcError::Truncated(_))), "cut at {cut}");
        }
        for cut in 0..25 {
            assert!(picture_size(&MAIN[..cut]).is_none_or(|size| size == (160, 120)), "cut at {cut}");
        }
        assert_eq!(parse_hevc_config(&[2; 40]), Err(HevcError::Version { version: 2 }));
        assert_eq!(picture_size(&[0x44, 1, 9]), None);
    }
}
