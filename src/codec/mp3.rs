//! MPEG audio layer III: the frame header.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MpegVersion {
    /// ISO/IEC 11172-3: 32, 44.1 and 48 kHz.
    One,
    /// ISO/IEC 13818-3: half those rates.
    Two,
    /// The unofficial extension: a quarter of those rates.
    TwoPointFive,
}

/// The header of one MPEG audio frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mp3Header {
    pub version: MpegVersion,
    pub bitrate_bps: u32,
    pub sample_rate_hz: u32,
    pub channels: u8,
    /// 1152, or 576 below 32 kHz.
    pub samples_per_frame: u32,
    /// The whole frame, header included.
    pub frame_bytes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Mp3Error {
    #[error("no MPEG audio sync word")]
    Sync,
    #[error("MPEG audio layer {layer}, only layer III is known")]
    Layer { layer: u8 },
    #[error("MPEG audio header with a reserved {field}")]
    Reserved { field: &'static str },
    #[error("MPEG audio of free-format bitrate")]
    FreeFormat,
}

pub const MP3_HEADER_BYTES: usize = 4;
/// Longest layer III frame: 320 kbit/s at 32 kHz (or 160 kbit/s at 8 kHz), padded.
pub const MP3_FRAME_BYTES_MAX: u32 = 1441;

/// Bitrates of layer III by `bitrate_index`, kbit/s (ISO/IEC 11172-3, 2.4.2.3; ISO/IEC 13818-3, 2.4.2.3). 0: free format.
const KBPS_MPEG1: [u32; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const KBPS_MPEG2: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
const RATES_MPEG1: [u32; 3] = [44_100, 48_000, 32_000];

/// Parses the header of a layer III frame (ISO/IEC 11172-3, 2.4.1.3).
///
/// # Errors
/// [`Mp3Error`]; free format is refused because nothing in the header tells where such a frame ends.
pub fn parse_mp3_header(header: [u8; MP3_HEADER_BYTES]) -> Result<Mp3Header, Mp3Error> {
    let [sync, coding, rates, mode] = header;
    if sync != 0xff || coding & 0xe0 != 0xe0 {
        return Err(Mp3Error::Sync);
    }
    let (version, rate_divisor) = match coding >> 3 & 3 {
        0 => (MpegVersion::TwoPointFive, 4),
        2 => (MpegVersion::Two, 2),
        3 => (MpegVersion::One, 1),
        _ => return Err(Mp3Error::Reserved { field: "version" }),
    };
    match coding >> 1 & 3 {
        1 => {}
        0 => return Err(Mp3Error::Reserved { field: "layer" }),
        code => return Err(Mp3Error::Layer { layer: 4 - code }),
    }
    let (kbps_table, samples_per_frame) = match version {
        MpegVersion::One => (&KBPS_MPEG1, 1152),
        MpegVersion::Two | MpegVersion::TwoPointFive => (&KBPS_MPEG2, 576),
    };
    let bitrate_bps = match kbps_table.get(usize::from(rates >> 4)) {
        Some(0) => return Err(Mp3Error::FreeFormat),
        Some(kbps) => kbps * 1000,
        None => return Err(Mp3Error::Reserved { field: "bitrate" }),
    };
    let Some(rate) = RATES_MPEG1.get(usize::from(rates >> 2 & 3)) else {
        return Err(Mp3Error::Reserved { field: "sample rate" });
    };
    let sample_rate_hz = rate / rate_divisor;
    let padding = u32::from(rates >> 1 & 1);
    let frame_bytes = samples_per_frame / 8 * bitrate_bps / sample_rate_hz + padding;
    let channels = if mode >> 6 == 3 { 1 } else { 2 };
    Ok(Mp3Header { version, bitrate_bps, sample_rate_hz, channels, samples_per_frame, frame_bytes })
}

/// A header that is accepted describes a frame that can be.
pub fn fuzz_mp3(data: &[u8]) {
    let Some(header) = data.first_chunk() else { return };
    if let Ok(header) = parse_mp3_header(*header) {
        assert!(header.frame_bytes > MP3_HEADER_BYTES as u32 && header.frame_bytes <= MP3_FRAME_BYTES_MAX, "{header:?}");
        assert!((8_000..=48_000).contains(&header.sample_rate_hz), "{header:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_all_versions() {
        let cases = [
            ("128 kbit/s, 44.1 kHz, joint stereo", [0xff, 0xfb, 0x90, 0x64], MpegVersion::One, 128_000, 44_100, 2, 1152, 417),
            ("the same, padded", [0xff, 0xfb, 0x92, 0x64], MpegVersion::One, 128_000, 44_100, 2, 1152, 418),
            ("320 kbit/s, 48 kHz, with CRC", [0xff, 0xfa, 0xe4, 0x00], MpegVersion::One, 320_000, 48_000, 2, 1152, 960),
            ("longest", [0xff, 0xfb, 0xea, 0x00], MpegVersion::One, 320_000, 32_000, 2, 1152, 1441),
            ("64 kbit/s, 22.05 kHz, mono", [0xff, 0xf3, 0x80, 0xc4], MpegVersion::Two, 64_000, 22_050, 1, 576, 208),
            ("8 kbit/s, 8 kHz, mono", [0xff, 0xe3, 0x18, 0xc4], MpegVersion::TwoPointFive, 8_000, 8_000, 1, 576, 72),
            ("160 kbit/s, 8 kHz", [0xff, 0xe3, 0xe8, 0x00], MpegVersion::TwoPointFive, 160_000, 8_000, 2, 576, 1440),
        ];
        for (name, bytes, version, bitrate_bps, sample_rate_hz, channels, samples_per_frame, frame_bytes) in cases {
            let expected = Mp3Header { version, bitrate_bps, sample_rate_hz, channels, samples_per_frame, frame_bytes };
            assert_eq!(parse_mp3_header(bytes), Ok(expected), "{name}");
        }
    }

    #[test]
    fn what_is_no_layer_three_frame_is_refused() {
        let cases = [
            ([0x49, 0x44, 0x33, 0x04], Mp3Error::Sync),
            ([0, 0, 0, 0], Mp3Error::Sync),
            ([0xff, 0xeb, 0x90, 0x64], Mp3Error::Reserved { field: "version" }),
            ([0xff, 0xf9, 0x90, 0x64], Mp3Error::Reserved { field: "layer" }),
            ([0xff, 0xfd, 0x90, 0x64], Mp3Error::Layer { layer: 2 }),
            ([0xff, 0xff, 0x90, 0x64], Mp3Error::Layer { layer: 1 }),
            ([0xff, 0xfb, 0xf0, 0x64], Mp3Error::Reserved { field: "bitrate" }),
            ([0xff, 0xfb, 0x9c, 0x64], Mp3Error::Reserved { field: "sample rate" }),
            ([0xff, 0xfb, 0x00, 0x64], Mp3Error::FreeFormat),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse_mp3_header(bytes), Err(expected), "{bytes:02x?}");
        }
    }

    #[test]
    fn every_header_keeps_the_fuzz_invariants() {
        for coding in 0..=255 {
            for rates in 0..=255 {
                fuzz_mp3(&[0xff, coding, rates, 0xc0]);
            }
        }
    }
}
