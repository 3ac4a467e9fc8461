//! H.264: the configuration record and what a container wants of the sequence parameter set.

use super::nal::{annexb_units, without_emulation_prevention};
use crate::wire::{BitReader, Reader, Truncated};

/// NAL unit types that a container must tell apart (ISO/IEC 14496-10, table 7-1).
pub const NAL_IDR_SLICE: u8 = 5;
pub const NAL_SPS: u8 = 7;
pub const NAL_PPS: u8 = 8;
pub const NAL_ACCESS_UNIT_DELIMITER: u8 = 9;

/// The low five bits of a NAL unit's first byte.
pub const fn nal_type(header: u8) -> u8 {
    header & 0x1f
}

/// An `AVCDecoderConfigurationRecord`, borrowed from the bytes as sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AvcConfig<'a> {
    pub profile_idc: u8,
    pub profile_compatibility: u8,
    pub level_idc: u8,
    /// Bytes of the length in front of each NAL unit, 1 to 4.
    pub nal_length_bytes: u8,
    /// NAL units with their header byte, without length or start code.
    pub sps: Vec<&'a [u8]>,
    pub pps: Vec<&'a [u8]>,
}

/// What a container wants of a sequence parameter set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpsInfo {
    pub profile_idc: u8,
    pub level_idc: u8,
    /// 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format_idc: u8,
    /// Luma pixels after cropping.
    pub width: u32,
    pub height: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AvcError {
    #[error("the AVC configuration record ends inside a field")]
    Truncated(#[from] Truncated),
    #[error("AVC configuration record of version {version}, expected 1")]
    Version { version: u8 },
    #[error("the sequence parameter set ends inside {field}")]
    SpsTruncated { field: &'static str },
    #[error("NAL unit type {nal_type} where a sequence parameter set was expected")]
    NotSps { nal_type: u8 },
    #[error("{field} of the sequence parameter set is {value}, out of range")]
    SpsRange { field: &'static str, value: u32 },
}

/// Parses an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15, 5.3.3.1).
///
/// `record` is what follows the 5-byte FLV video header. The chroma format and bit depths that high profiles append are not read: the SPS
/// says the same, and many encoders leave them out.
///
/// # Errors
/// [`AvcError::Version`], and [`AvcError::Truncated`] if a length points past the end of `record`.
pub fn parse_avc_config(record: &[u8]) -> Result<AvcConfig<'_>, AvcError> {
    let mut reader = Reader::new(record);
    let version = reader.u8()?;
    if version != 1 {
        return Err(AvcError::Version { version });
    }
    let [profile_idc, profile_compatibility, level_idc] = reader.array()?;
    let nal_length_bytes = (reader.u8()? & 0x03) + 1;
    let sps_count = reader.u8()? & 0x1f;
    let sps = parameter_sets(&mut reader, sps_count)?;
    let pps_count = reader.u8()?;
    let pps = parameter_sets(&mut reader, pps_count)?;
    Ok(AvcConfig { profile_idc, profile_compatibility, level_idc, nal_length_bytes, sps, pps })
}

/// The `AVCDecoderConfigurationRecord` for parameter sets that were sent with start codes in its place. `None` without a sequence parameter set.
pub fn avc_config_of_annexb(sent: &[u8]) -> Option<Vec<u8>> {
    let of_type = |wanted: u8| annexb_units(sent).filter(move |unit| nal_type(unit[0]) == wanted).collect::<Vec<_>>();
    avc_config_of(&of_type(NAL_SPS), &of_type(NAL_PPS), 4)
}

/// A record of these sets, for units behind lengths of `length_bytes`. `None` without a sequence parameter set.
pub fn avc_config_of(sps: &[&[u8]], pps: &[&[u8]], length_bytes: usize) -> Option<Vec<u8>> {
    let &[_, profile_idc, profile_compatibility, level_idc, ..] = *sps.first()? else { return None };
    let mut record = vec![1, profile_idc, profile_compatibility, level_idc, 0xfc | (length_bytes - 1) as u8];
    for (sets, marker, count_max) in [(sps, 0xe0, 31), (pps, 0, 255)] {
        let sets = || sets.iter().filter(|set| set.len() <= usize::from(u16::MAX)).take(count_max);
        record.push(marker | sets().count() as u8);
        for set in sets() {
            record.extend_from_slice(&(set.len() as u16).to_be_bytes());
            record.extend_from_slice(set);
        }
    }
    Some(record)
}

fn parameter_sets<'a>(reader: &mut Reader<'a>, count: u8) -> Result<Vec<&'a [u8]>, AvcError> {
    (0..count)
        .map(|_| {
            let bytes = reader.u16()?;
            Ok(reader.take(usize::from(bytes))?)
        })
        .collect()
}

/// Longest part of a sequence parameter set that is read. Everything up to the cropping fits in far less; the rest is VUI.
const SPS_BYTES_READ_MAX: usize = 2048;
/// Widest and highest picture: the 16 bits that ISO/IEC 14496-12 has for each.
const PICTURE_SIDE_MAX: u32 = u16::MAX as u32;

/// Parses a sequence parameter set up to the cropping rectangle (ISO/IEC 14496-10, 7.3.2.1.1). `nal` begins with the NAL header byte.
///
/// # Errors
/// [`AvcError::NotSps`], [`AvcError::SpsTruncated`], and [`AvcError::SpsRange`] for values that no picture can have.
pub fn parse_sps(nal: &[u8]) -> Result<SpsInfo, AvcError> {
    let Some((&header, body)) = nal.split_first() else {
        return Err(AvcError::SpsTruncated { field: "the NAL header" });
    };
    if nal_type(header) != NAL_SPS {
        return Err(AvcError::NotSps { nal_type: nal_type(header) });
    }
    let rbsp = without_emulation_prevention(&body[..body.len().min(SPS_BYTES_READ_MAX)]);
    let mut sps = SpsReader { bits: BitReader::new(&rbsp) };

    let profile_idc = sps.bits(8, "profile_idc")? as u8;
    sps.bits(8, "constraint flags")?;
    let level_idc = sps.bits(8, "level_idc")? as u8;
    sps.ue("seq_parameter_set_id")?;
    let chroma = if has_chroma_format(profile_idc) { sps.chroma_format()? } else { ChromaFormat { idc: 1, separate_planes: false } };
    sps.ue("log2_max_frame_num_minus4")?;
    sps.picture_order_count()?;
    sps.ue("max_num_ref_frames")?;
    sps.flag("gaps_in_frame_num_value_allowed_flag")?;
    let width_macroblocks = sps.side("pic_width_in_mbs_minus1")?;
    let height_map_units = sps.side("pic_height_in_map_units_minus1")?;
    let frame_macroblocks_only = sps.flag("frame_mbs_only_flag")?;
    if !frame_macroblocks_only {
        sps.flag("mb_adaptive_frame_field_flag")?;
    }
    sps.flag("direct_8x8_inference_flag")?;
    let crop = if sps.flag("frame_cropping_flag")? { sps.crop()? } else { [0; 4] };

    let fields = if frame_macroblocks_only { 1 } else { 2 };
    let (unit_width, unit_height) = chroma.crop_unit(fields);
    let [left, right, top, bottom] = crop.map(u64::from);
    let width = cropped(u64::from(width_macroblocks) * 16, (left + right) * unit_width, "the cropped width")?;
    let height = cropped(u64::from(height_map_units) * 16 * fields, (top + bottom) * unit_height, "the cropped height")?;
    Ok(SpsInfo { profile_idc, level_idc, chroma_format_idc: chroma.idc, width, height })
}

fn cropped(coded: u64, cut: u64, field: &'static str) -> Result<u32, AvcError> {
    let side = coded.saturating_sub(cut);
    match u32::try_from(side) {
        Ok(side @ 1..=PICTURE_SIDE_MAX) => Ok(side),
        _ => Err(AvcError::SpsRange { field, value: u32::try_from(side).unwrap_or(u32::MAX) }),
    }
}

/// The profiles whose SPS carries chroma format, bit depths and scaling lists (7.3.2.1.1).
fn has_chroma_format(profile_idc: u8) -> bool {
    matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

#[derive(Clone, Copy)]
struct ChromaFormat {
    idc: u8,
    separate_planes: bool,
}

impl ChromaFormat {
    /// CropUnitX and CropUnitY (7.4.2.1.1, equations 7-19 to 7-22).
    fn crop_unit(self, fields: u64) -> (u64, u64) {
        match (self.separate_planes, self.idc) {
            (false, 1) => (2, 2 * fields),
            (false, 2) => (2, fields),
            _ => (1, fields),
        }
    }
}

struct SpsReader<'a> {
    bits: BitReader<'a>,
}

impl SpsReader<'_> {
    fn bits(&mut self, count: u32, field: &'static str) -> Result<u32, AvcError> {
        self.bits.bits(count).ok_or(AvcError::SpsTruncated { field })
    }
    fn flag(&mut self, field: &'static str) -> Result<bool, AvcError> {
        self.bits.bit().ok_or(AvcError::SpsTruncated { field })
    }
    fn ue(&mut self, field: &'static str) -> Result<u32, AvcError> {
        self.bits.ue().ok_or(AvcError::SpsTruncated { field })
    }
    fn se(&mut self, field: &'static str) -> Result<i32, AvcError> {
        self.bits.se().ok_or(AvcError::SpsTruncated { field })
    }

    /// A side of the picture in macroblocks or map units, coded minus 1.
    fn side(&mut self, field: &'static str) -> Result<u32, AvcError> {
        let value = self.ue(field)?;
        if value > PICTURE_SIDE_MAX / 16 {
            return Err(AvcError::SpsRange { field, value });
        }
        Ok(value + 1)
    }

    fn chroma_format(&mut self) -> Result<ChromaFormat, AvcError> {
        let idc = self.ue("chroma_format_idc")?;
        if idc > 3 {
            return Err(AvcError::SpsRange { field: "chroma_format_idc", value: idc });
        }
        let separate_planes = idc == 3 && self.flag("separate_colour_plane_flag")?;
        self.ue("bit_depth_luma_minus8")?;
        self.ue("bit_depth_chroma_minus8")?;
        self.flag("qpprime_y_zero_transform_bypass_flag")?;
        if self.flag("seq_scaling_matrix_present_flag")? {
            for list in 0..if idc == 3 { 12 } else { 8 } {
                if self.flag("seq_scaling_list_present_flag")? {
                    self.skip_scaling_list(if list < 6 { 16 } else { 64 })?;
                }
            }
        }
        Ok(ChromaFormat { idc: idc as u8, separate_planes })
    }

    /// scaling_list() of 7.3.2.1.1.1: as soon as a delta leads to 0, no more follow.
    fn skip_scaling_list(&mut self, size: u32) -> Result<(), AvcError> {
        let mut last_scale: i32 = 8;
        for _ in 0..size {
            let delta = self.se("a scaling list")?;
            let next_scale = last_scale.wrapping_add(delta).rem_euclid(256);
            if next_scale == 0 {
                break;
            }
            last_scale = next_scale;
        }
        Ok(())
    }

    fn picture_order_count(&mut self) -> Result<(), AvcError> {
        match self.ue("pic_order_cnt_type")? {
            0 => {
                self.ue("log2_max_pic_order_cnt_lsb_minus4")?;
            }
            1 => {
                self.flag("delta_pic_order_always_zero_flag")?;
                self.se("offset_for_non_ref_pic")?;
                self.se("offset_for_top_to_bottom_field")?;
                let count = self.ue("num_ref_frames_in_pic_order_cnt_cycle")?;
                if count > 255 {
                    return Err(AvcError::SpsRange { field: "num_ref_frames_in_pic_order_cnt_cycle", value: count });
                }
                for _ in 0..count {
                    self.se("offset_for_ref_frame")?;
                }
            }
            2 => {}
            value => return Err(AvcError::SpsRange { field: "pic_order_cnt_type", value }),
        }
        Ok(())
    }

    /// Left, right, top, bottom, in crop units.
    fn crop(&mut self) -> Result<[u32; 4], AvcError> {
        Ok([
            self.ue("frame_crop_left_offset")?,
            self.ue("frame_crop_right_offset")?,
            self.ue("frame_crop_top_offset")?,
            self.ue("frame_crop_bottom_offset")?,
        ])
    }
}

/// Records and parameter sets are refused or read, and never read from beyond their end.
pub fn fuzz_avc(data: &[u8]) {
    if let Ok(config) = parse_avc_config(data) {
        let bytes: usize = config.sps.iter().chain(&config.pps).map(|set| set.len() + 2).sum();
        assert!(bytes + 7 <= data.len());
        for sps in config.sps {
            let _ = parse_sps(sps);
        }
    }
    if let Some(record) = avc_config_of_annexb(data) {
        assert!(parse_avc_config(&record).is_ok_and(|config| !config.sps.is_empty()));
    }
    if let Ok(sps) = parse_sps(data) {
        assert!((1..=PICTURE_SIDE_MAX).contains(&sps.width) && (1..=PICTURE_SIDE_MAX).contains(&sps.height));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// Records of x264, by profile: width, height, profile, chroma format.
    const RECORDS: &[(&str, &str, u32, u32, u8, u8)] = &[
        ("high", "0164001fffe1001a6764001facd9405005bb011000000300100000030320f183196001000668ebe3cb22c0fdf8f800", 1280, 720, 100, 1),
        ("high, 8 lines cut", "01640028ffe1001b67640028acd940780227e5c044000003000400000300c83c60c65801000668ebe3cb22c0fdf8f800", 1920, 1080, 100, 1),
        (
            "4:2:2, cut both ways",
            "017a000dffe1001b677a000dbcd9415087888fc044000003000400000300c83c50a65801000668ebe3cb22c0fef8f800",
            322,
            242,
            122,
            2,
        ),
        ("4:4:4", "01f4000bffe1001967f4000b919b28589d80880000030008000003019078a14cb001000668ebe3c44844fff8f800", 176, 144, 244, 3),
        ("baseline", "0142c01effe100196742c01ed900a02ff97011000003000100000300320f162e4801000568cb83cb20", 640, 360, 66, 1),
        ("interlaced", "014d4028ffe1001a674d4028eca03c0227ef011000000300100000030321f162d96001000568fba3cb20", 1920, 1080, 77, 1),
        ("one macroblock", "0164000affe100176764000aacd95ec044000003000400000300c83c48965801000668ebe3cb22c0fdf8f800", 16, 16, 100, 1),
        ("10 bit", "016e001fffe1001c676e001fa6cd940fc1279623011000000300100000030320f183196001000668ebe3cb22c0fdfafa00", 1000, 562, 110, 1),
    ];

    #[test]
    fn records_of_real_encoders() {
        for &(name, record, width, height, profile, chroma) in RECORDS {
            let record = hex(record);
            let config = parse_avc_config(&record).unwrap();
            assert_eq!((config.profile_idc, config.nal_length_bytes, config.sps.len(), config.pps.len()), (profile, 4, 1, 1), "{name}");
            assert_eq!(config.pps[0][0], 0x68, "{name}");
            let sps = parse_sps(config.sps[0]).unwrap();
            assert_eq!((sps.width, sps.height, sps.profile_idc, sps.chroma_format_idc), (width, height, profile, chroma), "{name}");
            assert_eq!(sps.level_idc, config.level_idc, "{name}");
        }
    }

    #[test]
    fn records_cut_at_every_byte_are_refused() {
        for &(name, record, ..) in RECORDS {
            let record = hex(record);
            let config = parse_avc_config(&record).unwrap();
            let end = 7 + 2 + config.sps[0].len() + 2 + config.pps[0].len();
            for cut in 0..end {
                assert!(matches!(parse_avc_config(&record[..cut]), Err(AvcError::Truncated(_))), "{name}, cut at {cut}");
            }
            for cut in 0..config.sps[0].len() {
                // The SPS may end inside its VUI without harm; what is read must be right.
                match parse_sps(&config.sps[0][..cut]) {
                    Ok(sps) => assert_eq!(sps, parse_sps(config.sps[0]).unwrap(), "{name}, cut at {cut}"),
                    Err(error) => assert!(matches!(error, AvcError::SpsTruncated { .. }), "{name}, cut at {cut}: {error}"),
                }
            }
        }
        assert_eq!(parse_avc_config(&[0; 16]), Err(AvcError::Version { version: 0 }));
        assert_eq!(parse_sps(&[0x68, 1, 2]), Err(AvcError::NotSps { nal_type: NAL_PPS }));
    }

    /// Writes an SPS field by field, so that branches no encoder at hand takes are tested.
    #[derive(Default)]
    struct BitWriter {
        bits: Vec<bool>,
    }

    impl BitWriter {
        fn bits(&mut self, value: u32, count: u32) -> &mut Self {
            self.bits.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
            self
        }
        fn ue(&mut self, value: u32) -> &mut Self {
            let length = 32 - (value + 1).leading_zeros();
            self.bits(0, length - 1).bits(value + 1, length)
        }
        fn se(&mut self, value: i32) -> &mut Self {
            self.ue(if value > 0 { value as u32 * 2 - 1 } else { value.unsigned_abs() * 2 })
        }
        fn nal(&self) -> Vec<u8> {
            let mut nal = vec![0x67];
            for byte in self.bits.chunks(8) {
                nal.push(byte.iter().enumerate().fold(0, |byte, (index, bit)| byte | u8::from(*bit) << (7 - index)));
            }
            nal.push(0x80);
            nal
        }
    }

    #[test]
    fn scaling_lists_order_count_cycles_and_separate_planes() {
        let mut sps = BitWriter::default();
        sps.bits(244, 8).bits(0, 8).bits(31, 8).ue(0);
        sps.ue(3).bits(1, 1).ue(0).ue(0).bits(0, 1); // 4:4:4, separate planes
        sps.bits(1, 1);
        for list in 0..12 {
            match list {
                0 => sps.bits(1, 1).se(-8), // the first delta leads to 0: the default list
                3 => {
                    sps.bits(1, 1);
                    (0..16).fold(&mut sps, |sps, _| sps.se(1))
                }
                7 => {
                    sps.bits(1, 1);
                    (0..64).fold(&mut sps, |sps, step| sps.se(if step % 2 == 0 { 5 } else { -5 }))
                }
                _ => sps.bits(0, 1),
            };
        }
        sps.ue(0);
        sps.ue(1).bits(0, 1).se(-3).se(4).ue(2).se(7).se(-7); // order count type 1
        sps.ue(4).bits(0, 1);
        sps.ue(79).ue(21).bits(0, 1).bits(1, 1).bits(1, 1); // 1280 x 22 field rows of 16
        sps.bits(1, 1).ue(3).ue(5).ue(1).ue(1);
        let nal = sps.nal();
        let info = parse_sps(&nal).unwrap();
        assert_eq!((info.width, info.height, info.chroma_format_idc), (1280 - 8, 22 * 32 - 4, 3));
    }

    #[test]
    fn impossible_pictures_are_refused() {
        let sps = |width: u32, height: u32, crop: u32| {
            let mut sps = BitWriter::default();
            sps.bits(66, 8).bits(0, 8).bits(31, 8).ue(0).ue(0).ue(2).ue(1).bits(0, 1);
            sps.ue(width).ue(height).bits(1, 1).bits(1, 1).bits(1, 1).ue(crop).ue(0).ue(0).ue(0);
            sps.nal()
        };
        assert_eq!(parse_sps(&sps(10, 10, 0)).unwrap().width, 176);
        for (nal, field) in [
            (sps(10, 10, 88), "the cropped width"),
            (sps(4096, 10, 0), "pic_width_in_mbs_minus1"),
            (sps(1, u32::MAX - 1, 0), "pic_height_in_map_units_minus1"),
        ] {
            assert!(matches!(parse_sps(&nal), Err(AvcError::SpsRange { field: found, .. }) if found == field), "{field}");
        }
    }

    #[test]
    fn fuzz_target_holds_for_damaged_records() {
        for &(_, record, ..) in RECORDS {
            let record = hex(record);
            for at in 0..record.len() {
                for bit in 0..8 {
                    let mut damaged = record.clone();
                    damaged[at] ^= 1 << bit;
                    fuzz_avc(&damaged);
                    fuzz_avc(&damaged[8..]);
                }
            }
        }
    }
}
