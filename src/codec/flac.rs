//! FLAC: the metadata blocks that describe a stream.

const MARKER: &[u8] = b"fLaC";
const BLOCK_STREAMINFO: u8 = 0;
const STREAMINFO_BYTES: usize = 34;
const LAST_BLOCK: u8 = 0x80;

/// STREAMINFO (RFC 9639, 8.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamInfo {
    pub block_samples_max: u32,
    pub sample_rate_hz: u32,
    pub channels: u8,
    pub bits_per_sample: u8,
}

/// The metadata blocks for `dfLa` (FLAC in ISOBMFF, 3.3.2), the last marked as such. Encoders send the marker with all blocks, the blocks, or STREAMINFO
/// alone without its block header. `None` if it is none of these.
pub fn metadata_blocks(sent: &[u8]) -> Option<Vec<u8>> {
    let blocks = sent.strip_prefix(MARKER).unwrap_or(sent);
    if blocks.len() == STREAMINFO_BYTES {
        parse_stream_info(blocks)?;
        return Some([&[LAST_BLOCK | BLOCK_STREAMINFO, 0, 0, STREAMINFO_BYTES as u8], blocks].concat());
    }
    let mut at = 0;
    loop {
        let &[kind, b2, b1, b0] = blocks.get(at..)?.first_chunk::<4>()?;
        let end = at + 4 + u32::from_be_bytes([0, b2, b1, b0]) as usize;
        if at == 0 && (kind & 0x7f != BLOCK_STREAMINFO || end != 4 + STREAMINFO_BYTES) {
            return None;
        }
        if kind & LAST_BLOCK != 0 || end == blocks.len() {
            let mut whole = blocks.get(..end)?.to_vec();
            whole[at] |= LAST_BLOCK;
            parse_stream_info(whole.get(4..)?)?;
            return Some(whole);
        }
        at = end;
    }
}

/// STREAMINFO of what [`metadata_blocks`] returned.
pub fn stream_info(blocks: &[u8]) -> Option<StreamInfo> {
    parse_stream_info(blocks.get(4..)?)
}

fn parse_stream_info(block: &[u8]) -> Option<StreamInfo> {
    let block = block.first_chunk::<STREAMINFO_BYTES>()?;
    let block_samples_max = u32::from(u16::from_be_bytes([block[2], block[3]]));
    let bits = u32::from_be_bytes([block[10], block[11], block[12], block[13]]);
    let info = StreamInfo {
        block_samples_max,
        sample_rate_hz: bits >> 12,
        channels: (bits >> 9 & 7) as u8 + 1,
        bits_per_sample: (bits >> 4 & 0x1f) as u8 + 1,
    };
    (info.sample_rate_hz > 0 && block_samples_max > 0).then_some(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: [u8; 34] =
        [0x04, 0, 0x04, 0, 0, 0, 0, 0, 0x0c, 0x16, 0x0b, 0xb8, 0x01, 0x70, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn all_forms_come_to_the_same_blocks() {
        let expected = [&[0x80, 0, 0, 34][..], &INFO].concat();
        let open = [&[0, 0, 0, 34][..], &INFO].concat();
        for (name, sent) in [
            ("STREAMINFO alone", INFO.to_vec()),
            ("marker and STREAMINFO", [MARKER, &INFO].concat()),
            ("a block", expected.clone()),
            ("marker and a block", [MARKER, &expected].concat()),
            ("no last block", open.clone()),
        ] {
            assert_eq!(metadata_blocks(&sent).as_deref(), Some(&expected[..]), "{name}");
        }
        let with_padding = [&open[..], &[0x81, 0, 0, 2, 0, 0]].concat();
        assert_eq!(metadata_blocks(&with_padding).as_deref(), Some(&with_padding[..]));
        let info = stream_info(&expected).unwrap();
        assert_eq!(info, StreamInfo { block_samples_max: 1024, sample_rate_hz: 48_000, channels: 1, bits_per_sample: 24 });
        for cut in 0..34 {
            assert_eq!(metadata_blocks(&INFO[..cut]), None, "cut at {cut}");
        }
        for cut in 0..with_padding.len() - 1 {
            let found = metadata_blocks(&with_padding[..cut]);
            assert!(found.is_none() || cut == open.len(), "cut at {cut}");
        }
    }
}
