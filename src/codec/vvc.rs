//! H.266: what a container wants of the configuration record.

use crate::wire::BitReader;

/// What a `VvcDecoderConfigurationRecord` tells without looking into its parameter sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VvcConfig {
    /// Bytes of the length in front of each NAL unit, 1 to 4.
    pub nal_length_bytes: u8,
    /// Profile, tier and largest picture; `None` if the record leaves them out.
    pub profile: Option<VvcProfile>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VvcProfile {
    pub profile_idc: u8,
    pub high_tier: bool,
    pub level_idc: u8,
    pub width: u32,
    pub height: u32,
}

impl VvcConfig {
    /// The name of this stream in `CODECS` (ISO/IEC 14496-15, annex E).
    pub fn codecs(&self) -> String {
        match self.profile {
            Some(profile) => format!("vvc1.{}.{}{}", profile.profile_idc, if profile.high_tier { 'H' } else { 'L' }, profile.level_idc),
            None => "vvc1".to_owned(),
        }
    }
}

/// Parses the beginning of a `VvcDecoderConfigurationRecord` (ISO/IEC 14496-15, 11.2.4.2). `None` if it is cut.
pub fn parse_vvc_config(record: &[u8]) -> Option<VvcConfig> {
    let mut bits = BitReader::new(record);
    bits.bits(5)?;
    let nal_length_bytes = bits.bits(2)? as u8 + 1;
    if !bits.bit()? {
        return Some(VvcConfig { nal_length_bytes, profile: None });
    }
    bits.bits(9)?; // ols_idx
    let sub_layers = bits.bits(3)?;
    bits.bits(2 + 2 + 3 + 5)?; // constant frame rate, chroma format, bit depth, reserved
    bits.bits(2)?;
    let constraint_bytes = bits.bits(6)? as usize;
    let profile_idc = bits.bits(7)? as u8;
    let high_tier = bits.bit()?;
    let level_idc = bits.bits(8)? as u8;
    bits.skip(8 * constraint_bytes)?;
    if sub_layers > 1 {
        let present = (0..sub_layers - 1).try_fold(0, |count, _| Some(count + usize::from(bits.bit()?)))?;
        bits.skip(8 - (sub_layers as usize - 1))?;
        bits.skip(8 * present)?;
    }
    let sub_profiles = bits.bits(8)? as usize;
    bits.skip(32 * sub_profiles)?;
    let (width, height) = (bits.bits(16)?, bits.bits(16)?);
    bits.bits(16)?; // average frame rate
    Some(VvcConfig { nal_length_bytes, profile: Some(VvcProfile { profile_idc, high_tier, level_idc, width, height }) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_a_real_encoder() {
        let record = [0xff, 0x00, 0x65, 0x5f, 0x01, 0x02, 0x10, 0x80, 0x00, 0x00, 0x00, 0xa0, 0x00, 0x78, 0x00, 0x00, 0x02, 0x8f];
        let config = parse_vvc_config(&record).unwrap();
        let profile = VvcProfile { profile_idc: 1, high_tier: false, level_idc: 16, width: 160, height: 120 };
        assert_eq!(config, VvcConfig { nal_length_bytes: 4, profile: Some(profile) });
        assert_eq!(config.codecs(), "vvc1.1.L16");
        for cut in 0..16 {
            assert_eq!(parse_vvc_config(&record[..cut]), None, "cut at {cut}");
        }
        assert_eq!(parse_vvc_config(&[0xfe]), Some(VvcConfig { nal_length_bytes: 4, profile: None }));
    }
}
