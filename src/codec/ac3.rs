//! AC-3 and Enhanced AC-3: the head of a sync frame, which is all the configuration there is (ETSI TS 102 366).

use crate::wire::BitReader;

/// Bytes of a sync frame that are enough for [`parse_sync_frame`].
pub const SYNC_FRAME_HEAD_BYTES: usize = 8;
const SYNC_WORD: u32 = 0x0b77;
const SAMPLE_RATES_HZ: [u32; 3] = [48_000, 44_100, 32_000];
/// Channels by `acmod` (table 4.3), without the low-frequency one.
const CHANNELS: [u8; 8] = [2, 1, 2, 3, 3, 4, 4, 5];
/// kbit/s by half of `frmsizecod` (table 4.13).
const KBPS: [u16; 19] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];

/// The head of one sync frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncFrame {
    /// `bsid` above 10: Enhanced AC-3.
    pub enhanced: bool,
    pub sample_rate_hz: u32,
    pub channels: u8,
    pub samples: u32,
    /// The whole frame, sync word included.
    pub bytes: u32,
    fscod: u8,
    bsid: u8,
    bsmod: u8,
    acmod: u8,
    lfe: bool,
    /// Half of `frmsizecod`; 0 for Enhanced AC-3.
    bit_rate_code: u8,
}

/// Parses the head of a sync frame (4.3, and E.1.2 for Enhanced AC-3). `None` if it is none.
pub fn parse_sync_frame(frame: &[u8]) -> Option<SyncFrame> {
    let mut bits = BitReader::new(frame.get(..SYNC_FRAME_HEAD_BYTES)?);
    if bits.bits(16)? != SYNC_WORD {
        return None;
    }
    let bsid = frame[5] >> 3;
    match bsid {
        0..=10 => ac3(bits, bsid),
        11..=16 => enhanced_ac3(bits, bsid),
        _ => None,
    }
}

fn ac3(mut bits: BitReader<'_>, bsid: u8) -> Option<SyncFrame> {
    bits.bits(16)?; // crc1
    let fscod = bits.bits(2)? as u8;
    let frmsizecod = bits.bits(6)? as u8;
    bits.bits(5)?;
    let bsmod = bits.bits(3)? as u8;
    let acmod = bits.bits(3)? as u8;
    // Mix levels that depend on the channels.
    for present in [acmod & 1 != 0 && acmod != 1, acmod & 4 != 0, acmod == 2] {
        if present {
            bits.bits(2)?;
        }
    }
    let lfe = bits.bit()?;
    let sample_rate_hz = *SAMPLE_RATES_HZ.get(usize::from(fscod))?;
    let kbps = u32::from(*KBPS.get(usize::from(frmsizecod >> 1))?);
    let words = match sample_rate_hz {
        48_000 => 2 * kbps,
        44_100 => 96_000 * kbps / 68_906 + u32::from(frmsizecod & 1),
        _ => 3 * kbps,
    };
    let channels = CHANNELS[usize::from(acmod)] + u8::from(lfe);
    let bit_rate_code = frmsizecod >> 1;
    // bsid 9 and 10 halve and quarter the rate.
    let sample_rate_hz = sample_rate_hz >> bsid.saturating_sub(8);
    Some(SyncFrame { enhanced: false, sample_rate_hz, channels, samples: 1536, bytes: 2 * words, fscod, bsid, bsmod, acmod, lfe, bit_rate_code })
}

fn enhanced_ac3(mut bits: BitReader<'_>, bsid: u8) -> Option<SyncFrame> {
    bits.bits(2 + 3)?; // strmtyp, substreamid
    let bytes = 2 * (bits.bits(11)? + 1);
    let fscod = bits.bits(2)? as u8;
    let code = bits.bits(2)?;
    let (sample_rate_hz, samples) = match fscod {
        3 => (SAMPLE_RATES_HZ.get(code as usize)? / 2, 1536),
        _ => (SAMPLE_RATES_HZ[usize::from(fscod)], [256, 512, 768, 1536][code as usize]),
    };
    let acmod = bits.bits(3)? as u8;
    let lfe = bits.bit()?;
    let channels = CHANNELS[usize::from(acmod)] + u8::from(lfe);
    Some(SyncFrame { enhanced: true, sample_rate_hz, channels, samples, bytes, fscod, bsid, bsmod: 0, acmod, lfe, bit_rate_code: 0 })
}

impl SyncFrame {
    /// The body of `dac3` or `dec3` (annex F). Enhanced AC-3: one independent substream, as RTMP sends it; dependent ones are told by the frames.
    pub fn specific_box(&self) -> Vec<u8> {
        let (fscod, bsid, bsmod) = (u32::from(self.fscod), u32::from(self.bsid), u32::from(self.bsmod));
        let (acmod, lfe) = (u32::from(self.acmod), u32::from(self.lfe));
        if self.enhanced {
            let kbps = u64::from(self.bytes) * 8 * u64::from(self.sample_rate_hz) / u64::from(self.samples) / 1000;
            let head = ((kbps as u16).min(0x1fff) << 3).to_be_bytes();
            let substream = (fscod << 22 | bsid << 17 | bsmod << 12 | acmod << 9 | lfe << 8).to_be_bytes();
            [&head[..], &substream[1..]].concat()
        } else {
            (fscod << 22 | bsid << 17 | bsmod << 14 | acmod << 11 | lfe << 10 | u32::from(self.bit_rate_code) << 5).to_be_bytes()[1..].to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_real_encoders() {
        // 96 kbit/s mono at 48 kHz.
        let ac3 = [0x0b, 0x77, 0xfc, 0x86, 0x0c, 0x40, 0x2f, 0x84];
        let frame = parse_sync_frame(&ac3).unwrap();
        assert_eq!((frame.enhanced, frame.sample_rate_hz, frame.channels, frame.samples, frame.bytes), (false, 48_000, 1, 1536, 384));
        assert_eq!(frame.specific_box(), [0x10, 0x08, 0xc0]);
        let enhanced = [0x0b, 0x77, 0x00, 0xbf, 0x32, 0x87, 0xc0, 0x00];
        let frame = parse_sync_frame(&enhanced).unwrap();
        assert_eq!((frame.enhanced, frame.sample_rate_hz, frame.channels, frame.samples, frame.bytes), (true, 48_000, 1, 1536, 384));
        assert_eq!(frame.specific_box(), [0x03, 0x00, 0x20, 0x02, 0x00]);
        for cut in 0..8 {
            assert_eq!(parse_sync_frame(&ac3[..cut]), None);
        }
        assert_eq!(parse_sync_frame(b"\x0b\x78\0\0\0\0\0\0"), None);
    }
}
