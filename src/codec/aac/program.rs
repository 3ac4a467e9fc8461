//! Programs of channels that have no number: the program config element, which stands in the `AudioSpecificConfig`, or in front of an access unit.
//!
//! Source: ISO/IEC 14496-3, 4.4.1.1 (the element), 4.4.2.1 and table 4.85 (its id in an access unit), 1.6.2.1 (the configuration).

use super::{ADTS_HEADER_BYTES, BitReader, ConfigReader};

/// Three bits in front of each element of an access unit.
const ID_BITS: usize = 3;
const ID_PCE: u32 = 5;
/// audioObjectType, samplingFrequencyIndex, channelConfiguration 0; frameLengthFlag, dependsOnCoreCoder, extensionFlag.
const CONFIG_BITS: usize = (5 + 4 + 4) + 3;

/// The element of a configuration as an access unit has it: whole bytes, to be put in front of the unit's own.
///
/// `None` where the configuration has none, or one that stands elsewhere than in the plain configuration of AAC.
pub(super) fn of_config(config: &[u8]) -> Option<Vec<u8>> {
    let &[first, second, ..] = config else { return None };
    // No extension in front, no rate written out, no core coder: the element stands elsewhere then.
    let is_plain = matches!(first >> 3, 1..=4) && (first & 7 != 7 || second & 0x80 == 0) && second & 0x7a == 0;
    let element = read(BitReader::new(config), CONFIG_BITS).filter(|_| is_plain)?;
    Some(element.written(&[(ID_PCE, ID_BITS as u32)]))
}

/// Output channels, by the element that an access unit begins with.
pub fn channels_of_access_unit(unit: &[u8]) -> Option<u8> {
    Some(of_access_unit(unit)?.channels)
}

/// The `AudioSpecificConfig` that an ADTS frame tells: by its header, and where that has no number for the channels by the element behind it.
pub fn config_of_adts(header: [u8; ADTS_HEADER_BYTES], access_unit: &[u8]) -> Vec<u8> {
    let object_type = (header[2] >> 6) + 1;
    let rate_index = header[2] >> 2 & 0x0F;
    let channels = (header[2] & 1) << 2 | header[3] >> 6;
    match of_access_unit(access_unit).filter(|_| channels == 0) {
        Some(element) => element.written(&[(u32::from(object_type), 5), (u32::from(rate_index), 4), (0, 4 + 3)]),
        None => vec![object_type << 3 | rate_index >> 1, rate_index << 7 | channels << 3],
    }
}

fn of_access_unit(unit: &[u8]) -> Option<Element<'_>> {
    let mut bits = BitReader::new(unit);
    (bits.bits(ID_BITS as u32)? == ID_PCE).then(|| read(BitReader::new(unit), ID_BITS)).flatten()
}

struct Element<'a> {
    channels: u8,
    /// Its bits before the alignment.
    fields: BitReader<'a>,
    field_bits: usize,
    /// With its length.
    comment: &'a [u8],
}

/// The element behind so many bits.
fn read(bits: BitReader<'_>, skipped: usize) -> Option<Element<'_>> {
    let mut start = bits;
    start.skip(skipped)?;
    let mut reader = ConfigReader { bits: start };
    let channels = reader.program_fields().ok()?;
    let field_bits = reader.bits.position() - start.position();
    let comment = reader.comment().ok()?;
    Some(Element { channels, fields: start, field_bits, comment })
}

impl Element<'_> {
    /// Values of so many bits, the element behind them, aligned to the bytes that come of it.
    fn written(&self, head: &[(u32, u32)]) -> Vec<u8> {
        let (mut bytes, mut filled) = (Vec::new(), 0_usize);
        let mut put = |value: u32, count: u32| {
            for bit in (0..count).rev() {
                if filled % 8 == 0 {
                    bytes.push(0);
                }
                let last = bytes.len() - 1;
                bytes[last] |= ((value >> bit & 1) as u8) << (7 - filled % 8);
                filled += 1;
            }
        };
        head.iter().for_each(|(value, count)| put(*value, *count));
        let mut fields = self.fields;
        for _ in 0..self.field_bits {
            put(u32::from(fields.bit() == Some(true)), 1);
        }
        bytes.extend_from_slice(self.comment);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AdtsHeader, parse_aac_config};
    use super::*;

    /// What ffmpeg sends for four channels, two in front and two behind, at 48 kHz; the sync extension that says no is not part of the element.
    const QUAD: &[u8] = b"\x11\x80\x04\xc4\x04\x00\x21\x10\x0cLavc63.1.102\x56\xe5\x00";

    #[test]
    fn an_element_moves_between_configuration_and_access_unit() {
        let header = AdtsHeader::of(QUAD).unwrap();
        // The id and 44 bits, alignment, the comment.
        assert_eq!(header.program(), b"\xa0\x98\x80\x80\x04\x22\x0cLavc63.1.102");
        assert_eq!((header.channels(), channels_of_access_unit(header.program())), (4, Some(4)));
        let unit = [header.program(), &[0x21, 0x00, 0x49]].concat();
        let fixed = header.for_access_unit(3).unwrap();
        assert_eq!(config_of_adts(fixed, &unit), QUAD[..QUAD.len() - 3]);
        for cut in 0..header.program().len() {
            assert_eq!(channels_of_access_unit(&unit[..cut]), None, "cut at {cut}");
            // What cannot be read is told as the header tells it.
            assert_eq!(config_of_adts(fixed, &unit[..cut]), [0x11, 0x80], "cut at {cut}");
        }
    }

    #[test]
    fn a_number_of_channels_needs_no_element() {
        let header = AdtsHeader::of(&[0x12, 0x10]).unwrap();
        assert_eq!((header.program(), header.channels()), (&[][..], 2));
        assert_eq!(config_of_adts(header.for_access_unit(QUAD.len()).unwrap(), QUAD), [0x12, 0x10]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(config in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
            // Without a number of channels, LC, so that elements are found.
            let config = [&[0x11, 0x80 | config.first().map_or(0, |byte| byte & 7)], &config[..]].concat();
            if let (Some(element), Ok(parsed)) = (of_config(&config), parse_aac_config(&config)) {
                assert_eq!(channels_of_access_unit(&element), Some(parsed.channels));
            }
            super::super::fuzz_aac(&config);
        }
    }
}
