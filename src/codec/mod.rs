//! Pure codec parsers: configuration records and frame headers.

pub mod aac;
pub mod ac3;
pub mod av1;
pub mod avc;
pub mod flac;
pub mod hevc;
pub mod mp3;
pub mod nal;
pub mod opus;
pub mod vpx;
pub mod vvc;

/// Configurations of the codecs that have no target of their own: read or refused, never read from beyond their end, and what was read gives a box.
pub fn fuzz_codecs(data: &[u8]) {
    if let Ok(config) = hevc::parse_hevc_config(data) {
        let bytes: usize = config.parameter_sets.iter().map(|set| set.len() + 2).sum();
        assert!(bytes < data.len() && config.codecs().is_ascii());
        config.parameter_sets.iter().for_each(|set| assert!(hevc::picture_size(set).is_none_or(|(width, height)| width > 0 && height > 0)));
    }
    let _ = hevc::picture_size(data);
    if let Some(config) = vvc::parse_vvc_config(data) {
        assert!((1..=4).contains(&config.nal_length_bytes) && config.codecs().is_ascii());
    }
    if let Some(config) = av1::parse_av1_config(data) {
        assert!(config.codecs().is_ascii());
    }
    if let Some(record) = vpx::vpc_config(data) {
        assert!(record.len() >= vpx::VPC_CONFIG_BYTES && vpx::vpc_codecs("vp09", record).is_ascii());
    }
    if let Some(frame) = vpx::vp9_key_frame(data) {
        assert!(vpx::vp9_key_frame(&data[..data.len().min(vpx::KEY_FRAME_HEAD_BYTES)]).is_none_or(|head| head == frame));
    }
    let _ = vpx::vp8_size(data);
    if let Some(head) = opus::parse_opus_head(data) {
        assert_eq!(head.specific_box().len(), 11 + head.mapping.len());
    }
    let _ = opus::packet_samples(data);
    if let Some(blocks) = flac::metadata_blocks(data) {
        assert!(flac::stream_info(&blocks).is_some());
        assert_eq!(flac::metadata_blocks(&blocks), Some(blocks));
    }
    if let Some(frame) = ac3::parse_sync_frame(data) {
        assert_eq!(frame.specific_box().len(), if frame.enhanced { 5 } else { 3 });
        assert!(frame.bytes > 0 && frame.sample_rate_hz > 0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn fuzz_target_holds_for_damaged_records() {
        let records: [&[u8]; 7] = [
            &[0xff, 0x00, 0x65, 0x5f, 0x01, 0x02, 0x10, 0x80, 0x00, 0x00, 0x00, 0xa0, 0x00, 0x78, 0x00, 0x00, 0x02, 0x8f],
            &[0x81, 0x00, 0x0c, 0x00, 0x0a, 0x0b, 0x02, 0x00, 0x00, 0x05, 0x1d, 0xa7, 0xfb, 0x80, 0x5f, 0x00, 0x08],
            &[0x82, 0x49, 0x83, 0x42, 0x00, 0x09, 0xf0, 0x07, 0x76, 0x06, 0x38, 0x24],
            b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00",
            &[0x0b, 0x77, 0xfc, 0x86, 0x0c, 0x40, 0x2f, 0x84],
            &[0x0b, 0x77, 0x00, 0xbf, 0x32, 0x87, 0xc0, 0x00],
            b"fLaC\x80\0\0\x22\x04\0\x04\0\0\0\0\0\x0c\x16\x0b\xb8\x01\x70\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ];
        for record in records {
            for at in 0..record.len() {
                for bit in 0..8 {
                    let mut damaged = record.to_vec();
                    damaged[at] ^= 1 << bit;
                    super::fuzz_codecs(&damaged);
                    super::fuzz_codecs(&damaged[..at]);
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(data in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            super::fuzz_codecs(&data);
        }
    }
}
