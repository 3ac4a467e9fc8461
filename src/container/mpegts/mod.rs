//! MPEG-2 transport stream, one file for all segments of an HLS recording.
//!
//! Each segment begins with PAT and PMT, then come PES packets, one per frame: H.264 and HEVC as Annex B, AAC in ADTS, MP3, AC-3 and Enhanced AC-3
//! as they are, Opus behind a control header, data messages as ID3 tags. Source: ISO/IEC 13818-1; ATSC A/53-3 annex A and A/52 annex G for AC-3;
//! ETSI TS 102 366; "Opus in MPEG-TS" (opus-codec.org); Apple, "Timed Metadata for HTTP Live Streaming".
//!
//! Two bits that players do not look at tell `scan` what the bytes alone would not. `transport_priority` is set in the PAT that begins a segment
//! and in the last packet of each PES packet, so that a file can be cut behind a whole frame and its playlist be made again.

mod annexb;
mod movie;
mod opus;
mod scan;
pub mod seal;
mod tables;
mod tally;
#[cfg(test)]
mod tests;
mod write;

pub use movie::{TIME_BIAS_MS, fuzz_ts_remux, remux};
pub use scan::{TsScan, TsSegment, fuzz_ts_scan, scan};
pub use write::{SEGMENT_START_BYTES, TsError, TsWriter, holds_audio, holds_video};

pub const PACKET_BYTES: usize = 188;
const SYNC_BYTE: u8 = 0x47;
const PACKET_HEADER_BYTES: usize = 4;
/// Of a packet, for adaptation field and payload.
const PACKET_ROOM_BYTES: usize = PACKET_BYTES - PACKET_HEADER_BYTES;

const PID_PAT: u16 = 0;
const PID_PMT: u16 = 0x1000;
const PID_VIDEO: u16 = 0x100;
const PID_AUDIO: u16 = 0x101;
const PID_MESSAGES: u16 = 0x102;

/// Second byte of a packet.
const PAYLOAD_UNIT_START: u8 = 0x40;
const TRANSPORT_PRIORITY: u8 = 0x20;
/// Fourth byte of a packet, above the continuity counter.
const HAS_ADAPTATION: u8 = 0x20;
const HAS_PAYLOAD: u8 = 0x10;
/// Flags of an adaptation field.
const RANDOM_ACCESS: u8 = 0x40;
const HAS_PCR: u8 = 0x10;

/// PTS and DTS count at 90 kHz, in 33 bits.
const TICKS_PER_MS: i64 = 90;
const TICKS_MASK: i64 = (1 << 33) - 1;
/// Time 0 of the file: room for the PCR to run ahead and for a composition offset below 0. ffmpeg begins at the same value.
const ZERO_TICKS: i64 = 1_400 * TICKS_PER_MS;
/// How far the clock reference is ahead of the decoding time: what a decoder may buffer.
const PCR_LEAD_TICKS: i64 = 700 * TICKS_PER_MS;

const _: () = assert!(PCR_LEAD_TICKS < ZERO_TICKS);
