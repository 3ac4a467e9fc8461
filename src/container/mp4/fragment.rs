//! The layout of a `moof` that the writer keeps true in place and that `scan` reads back (ISO/IEC 14496-12, 8.8).

use std::ops::Range;

use crate::container::boxes::{be32, be64};
use crate::media::{FURTHER_TRACKS_MAX, TrackKind};

/// `prft` (8.16.5), version 1: in front of a fragment, the time of day of its first sample.
pub const PRFT_BYTES: usize = 32;
pub const PRFT_HEADER: [u8; 8] = *b"\0\0\0\x20prft";
/// `moof` header and `mfhd`.
pub const MOOF_HEAD_BYTES: usize = 8 + 16;
/// `traf` header, `tfhd` with default flags, `tfdt` version 1: what precedes the first `trun`.
pub const TRAF_HEAD_BYTES: usize = 8 + 20 + 20;
/// `trun` header with sample count and data offset.
pub const TRUN_HEAD_BYTES: usize = 20;
/// The same with the flags of a key frame that begins the run.
pub const TRUN_KEY_HEAD_BYTES: usize = 24;
/// The `free` header that ends the room of a track.
pub const FREE_HEAD_BYTES: usize = 8;
pub const MDAT_HEAD_BYTES: usize = 8;

/// Bytes of a track's room, at least: its first sample always fits, and some more after a fragment that was cut short.
pub const ROOM_BYTES_MIN: u32 = 256;
/// At most: about 500 alternating frames of one track in a second.
pub const ROOM_BYTES_MAX: u32 = 16 << 10;
/// For the first fragment: 64 alternating video frames.
pub const ROOM_BYTES_FIRST: u32 = 2048;
/// A picture, a sound and what else there is.
pub const TRACKS_MAX: usize = 2 + FURTHER_TRACKS_MAX;
pub const MOOF_BYTES_MAX: usize = MOOF_HEAD_BYTES + TRACKS_MAX * ROOM_BYTES_MAX as usize;

const _: () = assert!(TRAF_HEAD_BYTES + TRUN_KEY_HEAD_BYTES + 12 + FREE_HEAD_BYTES <= ROOM_BYTES_MIN as usize);

/// Default-base-is-moof and default-sample-flags-present (8.8.7).
pub const TFHD_FLAGS: u32 = 0x02_0020;
/// Version 1 for signed composition offsets; data offset, sample duration, size, composition offset (8.8.8).
pub const TRUN_VIDEO: u32 = 1 << 24 | 0x0B01;
/// The same with first-sample-flags.
pub const TRUN_VIDEO_KEY: u32 = TRUN_VIDEO | 0x0004;
/// Data offset, sample duration, size.
pub const TRUN_AUDIO: u32 = 0x0301;
/// Sample flags (8.8.3.1): depends on no other sample.
pub const FLAGS_SYNC: u32 = 0x0200_0000;
/// Depends on others, no sync sample.
pub const FLAGS_NON_SYNC: u32 = 0x0101_0000;

pub const VIDEO_TRACK_ID: u32 = 1;
pub const AUDIO_TRACK_ID: u32 = 2;

/// Of the first track of a kind.
pub const fn track_id(kind: TrackKind) -> u32 {
    match kind {
        TrackKind::Video => VIDEO_TRACK_ID,
        TrackKind::Audio => AUDIO_TRACK_ID,
    }
}

/// Of `Tracks::further[index]`.
pub const fn further_track_id(index: usize) -> u32 {
    AUDIO_TRACK_ID + 1 + index as u32
}

/// The index of the further track with this id; `None`: it is the first of its kind.
pub const fn further_index(id: u32) -> Option<usize> {
    if id > AUDIO_TRACK_ID { Some((id - AUDIO_TRACK_ID - 1) as usize) } else { None }
}

/// Sample flags of every sample but a key frame that begins a run.
pub const fn default_flags(kind: TrackKind) -> u32 {
    match kind {
        TrackKind::Video => FLAGS_NON_SYNC,
        TrackKind::Audio => FLAGS_SYNC,
    }
}

/// Bytes of one `trun` entry: duration, size and for video the composition offset.
pub const fn entry_bytes(kind: TrackKind) -> usize {
    match kind {
        TrackKind::Video => 12,
        TrackKind::Audio => 8,
    }
}

/// One sample as a `trun` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub duration_ms: u32,
    pub bytes: u32,
    pub cts_ms: i32,
}

/// One `trun`, its positions relative to the start of the `moof`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    pub at: usize,
    head_bytes: usize,
    pub samples: usize,
    /// Of its first byte of media, relative to the start of the `moof`.
    pub data_offset: u64,
    /// The first sample is a key frame (video only).
    pub key: bool,
}

/// One `traf` that holds samples.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Traf {
    pub track_id: u32,
    pub kind: TrackKind,
    /// Where it lies in the `moof`.
    pub range: Range<usize>,
    /// Media time of its first sample, bias included.
    pub dts_ms: u64,
}

/// The `traf`s of `moof` (a whole `moof` box). Damaged ones are left out.
pub fn trafs(moof: &[u8]) -> impl Iterator<Item = Traf> {
    let mut at = MOOF_HEAD_BYTES;
    std::iter::from_fn(move || {
        loop {
            let size = be32(moof, at)? as usize;
            let range = at..at.checked_add(size)?;
            let bytes = moof.get(range.clone()).filter(|bytes| bytes.len() >= FREE_HEAD_BYTES)?;
            at = range.end;
            if let Some((track_id, kind, dts_ms)) = traf_head(bytes) {
                return Some(Traf { track_id, kind, range, dts_ms });
            }
        }
    })
}

fn traf_head(bytes: &[u8]) -> Option<(u32, TrackKind, u64)> {
    if bytes.len() < TRAF_HEAD_BYTES + FREE_HEAD_BYTES || &bytes[4..8] != b"traf" || &bytes[12..16] != b"tfhd" || &bytes[32..36] != b"tfdt" {
        return None;
    }
    if be32(bytes, 8)? != 20 || be32(bytes, 16)? != TFHD_FLAGS || be32(bytes, 28)? != 20 || be32(bytes, 36)? != 1 << 24 {
        return None;
    }
    // The flags of its samples tell the kind of the track, and so the form of its runs.
    let kind = match be32(bytes, 24)? {
        FLAGS_NON_SYNC => TrackKind::Video,
        FLAGS_SYNC => TrackKind::Audio,
        _ => return None,
    };
    // Beyond 2^62 ms no sum of times below can overflow; a publisher's clock is 32 bits and its wraps.
    let dts_ms = be64(bytes, 40).filter(|dts_ms| *dts_ms < 1 << 62)?;
    Some((be32(bytes, 20)?, kind, dts_ms))
}

impl Traf {
    /// The runs in order; ends before the first that is damaged.
    pub fn runs<'a>(&self, moof: &'a [u8]) -> impl Iterator<Item = Run> + use<'a> {
        let (kind, end) = (self.kind, self.range.end);
        let mut at = self.range.start + TRAF_HEAD_BYTES;
        std::iter::from_fn(move || {
            let size = be32(moof, at)? as usize;
            if moof.get(at + 4..at + 8)? != b"trun" {
                return None;
            }
            let flags = be32(moof, at + 8)?;
            let (head_bytes, key) = match (kind, flags) {
                (TrackKind::Video, TRUN_VIDEO) => (TRUN_HEAD_BYTES, false),
                (TrackKind::Video, TRUN_VIDEO_KEY) => (TRUN_KEY_HEAD_BYTES, true),
                (TrackKind::Audio, TRUN_AUDIO) => (TRUN_HEAD_BYTES, false),
                _ => return None,
            };
            let samples = be32(moof, at + 12)? as usize;
            let data_offset = u64::from(be32(moof, at + 16)?);
            let fits = samples > 0 && samples.checked_mul(entry_bytes(kind))?.checked_add(head_bytes)? == size;
            if !fits || at + size + FREE_HEAD_BYTES > end || (key && be32(moof, at + 20)? != FLAGS_SYNC) {
                return None;
            }
            let run = Run { at, head_bytes, samples, data_offset, key };
            at += size;
            Some(run)
        })
    }
}

impl Run {
    /// Its samples in order. `moof` is the one that the run was read from.
    pub fn entries<'a>(&self, moof: &'a [u8], kind: TrackKind) -> impl Iterator<Item = Entry> + use<'a> {
        let start = self.at + self.head_bytes;
        moof[start..start + self.samples * entry_bytes(kind)].chunks_exact(entry_bytes(kind)).map(|entry| Entry {
            duration_ms: be32(entry, 0).unwrap_or(0),
            bytes: be32(entry, 4).unwrap_or(0),
            cts_ms: be32(entry, 8).unwrap_or(0) as i32,
        })
    }

    /// Where its entries end if only `samples` of them stay.
    pub fn end_with(&self, kind: TrackKind, samples: usize) -> usize {
        self.at + self.head_bytes + samples * entry_bytes(kind)
    }
}
