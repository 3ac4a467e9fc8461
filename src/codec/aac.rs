//! AAC: the AudioSpecificConfig and the ADTS header.

mod program;

use crate::wire::BitReader;

pub use program::{channels_of_access_unit, config_of_adts};

/// What an AudioSpecificConfig says. Rates and channels are those of the coded core: what the bit stream counts in. SBR doubles the rate and PS
/// the channels only when a decoder applies them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AacConfig {
    /// MPEG-4 audio object type of the core: 2 is AAC-LC.
    pub object_type: u8,
    pub sample_rate_hz: u32,
    /// 0: the program config element tells.
    pub channel_configuration: u8,
    /// From the channel configuration or the program config element; 0 if neither tells.
    pub channels: u8,
    /// 1024; 960 by the frame length flag; 512 or 480 for the low-delay types.
    pub samples_per_frame: u32,
    /// Output rate of explicitly signalled spectral band replication (HE-AAC).
    pub sbr_sample_rate_hz: Option<u32>,
    /// Explicitly signalled parametric stereo (HE-AAC v2).
    pub ps: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AacError {
    #[error("the AudioSpecificConfig ends inside {field}")]
    Truncated { field: &'static str },
    #[error("the AudioSpecificConfig has the reserved {field} {value}")]
    Reserved { field: &'static str, value: u32 },
    #[error("audio object type {object_type} is not AAC")]
    NotAac { object_type: u8 },
    #[error("ADTS cannot hold {what}")]
    NotInAdts { what: &'static str },
    #[error("an access unit of {bytes} bytes is too long for ADTS")]
    AccessUnitTooLong { bytes: usize },
}

/// Sampling frequencies by index (ISO/IEC 14496-3, table 1.18).
const SAMPLE_RATES_HZ: [u32; 13] = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// Index for a frequency written out in 24 bits.
const SAMPLE_RATE_ESCAPE: u32 = 15;
const OBJECT_TYPE_ESCAPE: u32 = 31;
const OBJECT_TYPE_SBR: u8 = 5;
const OBJECT_TYPE_PS: u8 = 29;
const OBJECT_TYPE_ER_BSAC: u8 = 22;
const OBJECT_TYPE_ER_AAC_LD: u8 = 23;
const OBJECT_TYPE_ER_AAC_ELD: u8 = 39;
/// Sync words of backward-compatible explicit signalling (1.6.2.1).
const SYNC_EXTENSION_SBR: u32 = 0x2b7;
const SYNC_EXTENSION_PS: u32 = 0x548;

/// Parses an `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1) of an AAC object type.
///
/// # Errors
/// [`AacError::Truncated`], [`AacError::Reserved`], and [`AacError::NotAac`] for object types that are something else (CELP, USAC, ALS, ...).
pub fn parse_aac_config(config: &[u8]) -> Result<AacConfig, AacError> {
    let mut reader = ConfigReader { bits: BitReader::new(config) };
    let mut object_type = reader.object_type()?;
    let sample_rate_hz = reader.sample_rate()?;
    let channel_configuration = reader.bits(4, "channelConfiguration")? as u8;
    let mut sbr_sample_rate_hz = None;
    let mut ps = false;
    let hierarchical = matches!(object_type, OBJECT_TYPE_SBR | OBJECT_TYPE_PS);
    if hierarchical {
        ps = object_type == OBJECT_TYPE_PS;
        sbr_sample_rate_hz = Some(reader.sample_rate()?);
        object_type = reader.object_type()?;
        if object_type == OBJECT_TYPE_ER_BSAC {
            reader.bits(4, "extensionChannelConfiguration")?;
        }
    }
    let (samples_per_frame, element_channels) = match object_type {
        1..=4 | 6 | 7 | 17 | 19..=23 => reader.general_audio(object_type, channel_configuration)?,
        OBJECT_TYPE_ER_AAC_ELD => (if reader.flag("frameLengthFlag")? { 480 } else { 512 }, 0),
        _ => return Err(AacError::NotAac { object_type }),
    };
    if !hierarchical && matches!(object_type, 1..=4 | 6 | 7) {
        // What follows is optional and stuffed by some encoders: take it where it is whole, and leave it otherwise.
        if let Some(found) = sync_extension(reader) {
            sbr_sample_rate_hz = Some(found.sample_rate_hz);
            ps = found.ps;
        }
    }
    if sample_rate_hz == 0 {
        return Err(AacError::Reserved { field: "samplingFrequency", value: 0 });
    }
    let channels = match channel_configuration {
        0 => element_channels,
        1..=6 => channel_configuration,
        7 | 12 | 14 => 8,
        11 => 7,
        13 => 24,
        value => return Err(AacError::Reserved { field: "channelConfiguration", value: u32::from(value) }),
    };
    Ok(AacConfig { object_type, sample_rate_hz, channel_configuration, channels, samples_per_frame, sbr_sample_rate_hz, ps })
}

struct SyncExtension {
    sample_rate_hz: u32,
    ps: bool,
}

/// The backward-compatible extension behind the core's configuration: SBR, then perhaps PS.
fn sync_extension(mut reader: ConfigReader<'_>) -> Option<SyncExtension> {
    if reader.bits.bits(11)? != SYNC_EXTENSION_SBR || reader.bits.bits(5)? != u32::from(OBJECT_TYPE_SBR) || !reader.bits.bit()? {
        return None;
    }
    let sample_rate_hz = reader.sample_rate().ok()?;
    let ps = reader.bits.bits(11) == Some(SYNC_EXTENSION_PS) && reader.bits.bit() == Some(true);
    Some(SyncExtension { sample_rate_hz, ps })
}

const PROGRAM_FIELD: &str = "the program config element";

#[derive(Clone, Copy)]
struct ConfigReader<'a> {
    bits: BitReader<'a>,
}

impl ConfigReader<'_> {
    fn bits(&mut self, count: u32, field: &'static str) -> Result<u32, AacError> {
        self.bits.bits(count).ok_or(AacError::Truncated { field })
    }
    fn flag(&mut self, field: &'static str) -> Result<bool, AacError> {
        self.bits.bit().ok_or(AacError::Truncated { field })
    }

    fn object_type(&mut self) -> Result<u8, AacError> {
        let short = self.bits(5, "audioObjectType")?;
        let object_type = if short == OBJECT_TYPE_ESCAPE { 32 + self.bits(6, "audioObjectTypeExt")? } else { short };
        Ok(object_type as u8)
    }

    fn sample_rate(&mut self) -> Result<u32, AacError> {
        let index = self.bits(4, "samplingFrequencyIndex")?;
        if index == SAMPLE_RATE_ESCAPE {
            return self.bits(24, "samplingFrequency");
        }
        SAMPLE_RATES_HZ.get(index as usize).copied().ok_or(AacError::Reserved { field: "samplingFrequencyIndex", value: index })
    }

    /// GASpecificConfig (4.4.1): samples per frame, and the channels of a program config element (0 without one).
    fn general_audio(&mut self, object_type: u8, channel_configuration: u8) -> Result<(u32, u8), AacError> {
        let short_frame = self.flag("frameLengthFlag")?;
        if self.flag("dependsOnCoreCoder")? {
            self.bits(14, "coreCoderDelay")?;
        }
        let extension = self.flag("extensionFlag")?;
        let channels = if channel_configuration == 0 { self.program_config_element()? } else { 0 };
        if matches!(object_type, 6 | 20) {
            self.bits(3, "layerNr")?;
        }
        if extension {
            match object_type {
                OBJECT_TYPE_ER_BSAC => {
                    self.bits(5 + 11, "numOfSubFrame and layer_length")?;
                }
                17 | 19 | 20 | 23 => {
                    self.bits(3, "the resilience flags")?;
                }
                _ => {}
            }
            self.flag("extensionFlag3")?;
        }
        let samples_per_frame = match (object_type == OBJECT_TYPE_ER_AAC_LD, short_frame) {
            (false, false) => 1024,
            (false, true) => 960,
            (true, false) => 512,
            (true, true) => 480,
        };
        Ok((samples_per_frame, channels))
    }

    /// program_config_element() (4.4.1.1): the number of output channels.
    fn program_config_element(&mut self) -> Result<u8, AacError> {
        let channels = self.program_fields()?;
        self.comment()?;
        Ok(channels)
    }

    /// The element up to its alignment.
    fn program_fields(&mut self) -> Result<u8, AacError> {
        const FIELD: &str = PROGRAM_FIELD;
        self.bits(4 + 2 + 4, FIELD)?; // element_instance_tag, object_type, sampling_frequency_index
        let mut elements = 0;
        for _front_side_back in 0..3 {
            elements += self.bits(4, FIELD)?;
        }
        let low_frequency_elements = self.bits(2, FIELD)?;
        let associated_data_elements = self.bits(3, FIELD)?;
        let coupling_elements = self.bits(4, FIELD)?;
        for mixdown_bits in [4, 4, 3] {
            if self.flag(FIELD)? {
                self.bits(mixdown_bits, FIELD)?;
            }
        }
        let mut channels = low_frequency_elements;
        for _ in 0..elements {
            channels += if self.flag(FIELD)? { 2 } else { 1 };
            self.bits(4, FIELD)?;
        }
        let skipped = 4 * (low_frequency_elements + associated_data_elements) + 5 * coupling_elements;
        self.bits.skip(skipped as usize).ok_or(AacError::Truncated { field: FIELD })?;
        Ok(channels as u8)
    }
}

impl<'a> ConfigReader<'a> {
    /// Alignment and comment of a program config element: the comment with its length.
    fn comment(&mut self) -> Result<&'a [u8], AacError> {
        // byte_alignment() counts from the beginning of the configuration or of the access unit, the comment is bytes.
        let truncated = AacError::Truncated { field: PROGRAM_FIELD };
        self.bits.skip((8 - self.bits.position() % 8) % 8).ok_or(truncated)?;
        let comment = self.bits.rest();
        let bytes = 1 + usize::from(*comment.first().ok_or(truncated)?);
        self.bits.skip(8 * bytes).ok_or(truncated)?;
        Ok(&comment[..bytes])
    }
}

pub const ADTS_HEADER_BYTES: usize = 7;
/// The 13 bits of `aac_frame_length`, header included.
pub const ADTS_FRAME_BYTES_MAX: usize = (1 << 13) - 1;

/// Writes the fixed header of one stream in front of each access unit (ISO/IEC 14496-3, 1.A.2.2). No CRC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdtsHeader {
    template: [u8; ADTS_HEADER_BYTES],
    channels: u8,
    /// Where the header cannot tell the channels: what tells them, in front of each access unit, so that a reader may join anywhere.
    program: Vec<u8>,
}

impl AdtsHeader {
    /// The header for a stream with this `AudioSpecificConfig`.
    ///
    /// # Errors
    /// Of [`parse_aac_config`], and [`AacError::NotInAdts`]: the header has two bits of object type, an index of the sampling frequency, three bits of
    /// channels, and no way to say 960 samples.
    pub fn of(config: &[u8]) -> Result<Self, AacError> {
        let parsed = parse_aac_config(config)?;
        let header = Self::new(&parsed)?;
        if parsed.channel_configuration != 0 {
            return Ok(header);
        }
        let program = program::of_config(config).ok_or(AacError::NotInAdts { what: "this program of channels" })?;
        Ok(Self { program, ..header })
    }

    fn new(config: &AacConfig) -> Result<Self, AacError> {
        if !(1..=4).contains(&config.object_type) {
            return Err(AacError::NotInAdts { what: "this audio object type" });
        }
        if config.samples_per_frame != 1024 {
            return Err(AacError::NotInAdts { what: "frames of other than 1024 samples" });
        }
        let Some(rate_index) = SAMPLE_RATES_HZ.iter().position(|rate| *rate == config.sample_rate_hz) else {
            return Err(AacError::NotInAdts { what: "this sampling frequency" });
        };
        if config.channel_configuration > 7 {
            return Err(AacError::NotInAdts { what: "this channel configuration" });
        }
        let profile = config.object_type - 1;
        let template = [
            0xff,
            0xf1,
            profile << 6 | (rate_index as u8) << 2 | config.channel_configuration >> 2,
            (config.channel_configuration & 3) << 6,
            0,
            // adts_buffer_fullness 0x7ff: variable rate; one raw data block.
            0x1f,
            0xfc,
        ];
        Ok(Self { template, channels: config.channels, program: Vec::new() })
    }

    pub fn channels(&self) -> u8 {
        self.channels
    }

    /// What stands between header and access unit; empty where the header tells the channels.
    pub fn program(&self) -> &[u8] {
        &self.program
    }

    /// What stands in front of each access unit.
    pub fn bytes(&self) -> usize {
        ADTS_HEADER_BYTES + self.program.len()
    }

    /// The header of an access unit of `access_unit_bytes`, [`AdtsHeader::program`] not counted.
    ///
    /// # Errors
    /// [`AacError::AccessUnitTooLong`] beyond 8184 bytes with the program.
    pub fn for_access_unit(&self, access_unit_bytes: usize) -> Result<[u8; ADTS_HEADER_BYTES], AacError> {
        let frame_bytes = access_unit_bytes + self.bytes();
        if frame_bytes > ADTS_FRAME_BYTES_MAX {
            return Err(AacError::AccessUnitTooLong { bytes: access_unit_bytes });
        }
        let length = frame_bytes as u16;
        let mut header = self.template;
        header[3] |= (length >> 11) as u8;
        header[4] = (length >> 3) as u8;
        header[5] |= (length as u8) << 5;
        Ok(header)
    }
}

/// A frame as its ADTS header describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdtsFrame {
    pub object_type: u8,
    pub sample_rate_hz: u32,
    /// 0: a program config element in the access unit tells.
    pub channels: u8,
    /// 7, or 9 with CRC.
    pub header_bytes: usize,
    /// Header included.
    pub frame_bytes: usize,
    pub samples: u32,
}

/// Reads an ADTS header; `None` for anything else.
pub fn parse_adts_header(header: [u8; ADTS_HEADER_BYTES]) -> Option<AdtsFrame> {
    let [sync, coding, profile, channels, length_middle, length_low, blocks] = header;
    if sync != 0xff || coding & 0xf6 != 0xf0 {
        return None;
    }
    let sample_rate_hz = *SAMPLE_RATES_HZ.get(usize::from(profile >> 2 & 0x0f))?;
    let header_bytes = if coding & 1 == 1 { 7 } else { 9 };
    let frame_bytes = usize::from(channels & 3) << 11 | usize::from(length_middle) << 3 | usize::from(length_low >> 5);
    if frame_bytes < header_bytes {
        return None;
    }
    let channels = match (profile & 1) << 2 | channels >> 6 {
        7 => 8,
        configuration => configuration,
    };
    let samples = 1024 * (u32::from(blocks & 3) + 1);
    Some(AdtsFrame { object_type: (profile >> 6) + 1, sample_rate_hz, channels, header_bytes, frame_bytes, samples })
}

/// A configuration that ADTS can hold comes back from the header.
pub fn fuzz_aac(data: &[u8]) {
    if let Some(header) = data.first_chunk()
        && let Some(frame) = parse_adts_header(*header)
    {
        assert!(frame.frame_bytes >= frame.header_bytes && frame.frame_bytes <= ADTS_FRAME_BYTES_MAX);
    }
    let Ok(config) = parse_aac_config(data) else { return };
    let Ok(header) = AdtsHeader::of(data) else { return };
    if let Some(element) = Some(header.program()).filter(|program| !program.is_empty()) {
        assert_eq!(channels_of_access_unit(element), Some(config.channels));
        let fixed = header.for_access_unit(0).expect("an element is shorter than a frame");
        let back = parse_aac_config(&config_of_adts(fixed, element)).expect("our own configuration");
        assert_eq!((back.object_type, back.sample_rate_hz, back.channels), (config.object_type, config.sample_rate_hz, config.channels));
    }
    for access_unit_bytes in [0, data.len(), ADTS_FRAME_BYTES_MAX] {
        let Ok(fixed) = header.for_access_unit(access_unit_bytes) else { continue };
        let frame = parse_adts_header(fixed).expect("our own header");
        assert_eq!((frame.sample_rate_hz, frame.object_type), (config.sample_rate_hz, config.object_type));
        assert_eq!(frame.frame_bytes, access_unit_bytes + header.bytes());
        assert!(config.channel_configuration == 0 || frame.channels == config.channels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LC: AacConfig = AacConfig {
        object_type: 2,
        sample_rate_hz: 44_100,
        channel_configuration: 2,
        channels: 2,
        samples_per_frame: 1024,
        sbr_sample_rate_hz: None,
        ps: false,
    };

    /// Fields as (value, bits), packed.
    fn pack(fields: &[(u32, u32)]) -> Vec<u8> {
        let bits: Vec<u32> = fields.iter().flat_map(|&(value, count)| (0..count).rev().map(move |bit| value >> bit & 1)).collect();
        bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |byte, (index, bit)| byte | (*bit as u8) << (7 - index))).collect()
    }

    fn cases() -> Vec<(&'static str, Vec<u8>, AacConfig)> {
        let pce_5_1 = [
            (2, 5),
            (3, 4),
            (0, 4),
            (0, 3), // LC, 48 kHz, no configuration, GASpecificConfig
            (0, 4),
            (1, 2),
            (3, 4),
            (2, 4),
            (0, 4),
            (1, 4),
            (1, 2),
            (1, 3),
            (1, 4), // 2 front, 0 side, 1 back, 1 LFE, 1 data, 1 coupling
            (0, 1),
            (1, 1),
            (5, 4),
            (1, 1),
            (3, 3), // mixdowns
            (0, 5),
            (16, 5),
            (17, 5), // centre, pair, pair
            (0, 4),
            (0, 4),
            (0, 5), // LFE, data, coupling
        ];
        let used: u32 = pce_5_1.iter().map(|field| field.1).sum();
        let mut pce = pce_5_1.to_vec();
        pce.extend([(0, (8 - used % 8) % 8), (2, 8), (0x6869, 16)]);
        vec![
            ("AAC-LC 44.1 kHz stereo", vec![0x12, 0x10], LC),
            ("with a stuffed end, as some encoders send", vec![0x12, 0x10, 0, 0, 0], LC),
            ("with an SBR extension that says no", vec![0x12, 0x10, 0x56, 0xe5, 0x00], LC),
            (
                "SBR by sync extension",
                vec![0x13, 0x90, 0x56, 0xe5, 0xa0],
                AacConfig { sample_rate_hz: 22_050, sbr_sample_rate_hz: Some(44_100), ..LC },
            ),
            (
                "SBR and PS by sync extension",
                pack(&[(2, 5), (6, 4), (1, 4), (0, 3), (0x2b7, 11), (5, 5), (1, 1), (3, 4), (0x548, 11), (1, 1)]),
                AacConfig { sample_rate_hz: 24_000, channel_configuration: 1, channels: 1, sbr_sample_rate_hz: Some(48_000), ps: true, ..LC },
            ),
            (
                "HE-AAC, hierarchical",
                pack(&[(5, 5), (7, 4), (2, 4), (4, 4), (2, 5), (0, 3)]),
                AacConfig { sample_rate_hz: 22_050, sbr_sample_rate_hz: Some(44_100), ..LC },
            ),
            (
                "HE-AAC v2, hierarchical",
                pack(&[(29, 5), (7, 4), (1, 4), (4, 4), (2, 5), (0, 3)]),
                AacConfig { sample_rate_hz: 22_050, channel_configuration: 1, channels: 1, sbr_sample_rate_hz: Some(44_100), ps: true, ..LC },
            ),
            ("frequency written out", pack(&[(2, 5), (15, 4), (37_000, 24), (2, 4), (0, 3)]), AacConfig { sample_rate_hz: 37_000, ..LC }),
            (
                "960 samples",
                pack(&[(2, 5), (3, 4), (1, 4), (4, 3)]),
                AacConfig { sample_rate_hz: 48_000, channel_configuration: 1, channels: 1, samples_per_frame: 960, ..LC },
            ),
            ("depends on a core coder", pack(&[(2, 5), (4, 4), (2, 4), (0, 1), (1, 1), (99, 14), (0, 1)]), LC),
            ("7.1", vec![0x11, 0xb8], AacConfig { sample_rate_hz: 48_000, channel_configuration: 7, channels: 8, ..LC }),
            ("5.1 by a program config element", pack(&pce), AacConfig { sample_rate_hz: 48_000, channel_configuration: 0, channels: 6, ..LC }),
            (
                "ER AAC LD",
                pack(&[(23, 5), (3, 4), (1, 4), (1, 3), (0, 3), (0, 1)]),
                AacConfig { object_type: 23, sample_rate_hz: 48_000, channel_configuration: 1, channels: 1, samples_per_frame: 512, ..LC },
            ),
            (
                "ER AAC ELD by the escape",
                pack(&[(31, 5), (7, 6), (3, 4), (1, 4), (1, 1)]),
                AacConfig { object_type: 39, sample_rate_hz: 48_000, channel_configuration: 1, channels: 1, samples_per_frame: 480, ..LC },
            ),
        ]
    }

    #[test]
    fn configurations() {
        for (name, bytes, expected) in cases() {
            assert_eq!(parse_aac_config(&bytes), Ok(expected), "{name}");
            fuzz_aac(&bytes);
        }
    }

    #[test]
    fn configurations_cut_at_every_byte() {
        for (name, bytes, expected) in cases() {
            for cut in 0..bytes.len() {
                match parse_aac_config(&bytes[..cut]) {
                    // Only an optional extension may be missing.
                    Ok(config) => assert_eq!(
                        AacConfig { sbr_sample_rate_hz: expected.sbr_sample_rate_hz, ps: expected.ps, ..config },
                        expected,
                        "{name}, cut at {cut}"
                    ),
                    Err(error) => assert!(matches!(error, AacError::Truncated { .. }), "{name}, cut at {cut}: {error}"),
                }
            }
        }
    }

    #[test]
    fn what_is_not_aac_or_reserved_is_refused() {
        assert_eq!(parse_aac_config(&pack(&[(31, 5), (10, 6), (3, 4), (2, 4), (0, 16)])), Err(AacError::NotAac { object_type: 42 }));
        assert_eq!(parse_aac_config(&[0x17, 0x10]), Err(AacError::Reserved { field: "samplingFrequencyIndex", value: 14 }));
        assert_eq!(parse_aac_config(&[0x12, 0x48]), Err(AacError::Reserved { field: "channelConfiguration", value: 9 }));
        assert_eq!(
            parse_aac_config(&pack(&[(2, 5), (15, 4), (0, 24), (2, 4), (0, 3)])),
            Err(AacError::Reserved { field: "samplingFrequency", value: 0 })
        );
    }

    #[test]
    fn adts_headers() {
        let header = AdtsHeader::new(&LC).unwrap();
        assert_eq!(header.for_access_unit(364).unwrap(), [0xff, 0xf1, 0x50, 0x80, 0x2e, 0x7f, 0xfc]);
        let frame = parse_adts_header(header.for_access_unit(8184).unwrap()).unwrap();
        assert_eq!(frame, AdtsFrame { object_type: 2, sample_rate_hz: 44_100, channels: 2, header_bytes: 7, frame_bytes: 8191, samples: 1024 });
        assert_eq!(header.for_access_unit(8185), Err(AacError::AccessUnitTooLong { bytes: 8185 }));
        for (what, config) in [
            ("frames of other than 1024 samples", AacConfig { samples_per_frame: 960, ..LC }),
            ("this sampling frequency", AacConfig { sample_rate_hz: 37_000, ..LC }),
            ("this channel configuration", AacConfig { channel_configuration: 12, channels: 8, ..LC }),
            ("this audio object type", AacConfig { object_type: 23, ..LC }),
        ] {
            assert_eq!(AdtsHeader::new(&config), Err(AacError::NotInAdts { what }));
        }
        assert_eq!(parse_adts_header([0; 7]), None);
        assert_eq!(parse_adts_header([0xff, 0xfb, 0x50, 0x80, 0x2e, 0x7f, 0xfc]), None, "MP3 is not ADTS");
        assert_eq!(parse_adts_header([0xff, 0xf1, 0x50, 0x80, 0x00, 0x7f, 0xfc]), None, "shorter than its header");
    }

    #[test]
    fn fuzz_target_holds_for_all_two_byte_configurations() {
        for first in 0..=255 {
            for second in 0..=255 {
                fuzz_aac(&[first, second, 0x56, 0xe5, first, second, 0x56]);
                fuzz_aac(&[0xff, 0xf0 | first & 9, second, first, second, first, second]);
            }
        }
    }
}
