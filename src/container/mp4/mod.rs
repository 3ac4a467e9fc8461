//! The hybrid MP4: valid fragmented MP4 after every frame, a plain MP4 with the index in front once finished, and no media byte ever moves.
//!
//! ```text
//! recording   | ftyp | free (reserve)     | moov + mvex | free: locator | moof mdat | moof mdat | ...
//! finished    | ftyp | moov | free ..............................| mdat ...............................|
//!             '--------- head, whole pages --------------------------'
//! ```
//!
//! The last 32 bytes of the head are the *locator*: a `free` box that says how long the initial `moov` right before it is, and whose last 16 bytes become
//! the header of the final `mdat`. Neither the initial `moov` nor the locator's inner part is ever overwritten, so [`scan`] finds them on a page boundary
//! in every state that a killed or powerless machine can leave between "recording" and "finished", and finishing again gives the same bytes.
//!
//! **Fragments.** Media bytes are copied once, as they arrive, so audio and video are interleaved in one `mdat`. A `trun` needs contiguous data, so each
//! change of track starts a new `trun` (20 bytes) in the room that the track's `traf` keeps at the front of the fragment. The alternatives cost more: one run
//! per track means holding back or moving media, one fragment per run means 100 bytes and two seals where 20 bytes do. Unused room is a `free` box at the end of
//! the `traf`; a `traf` without samples is itself a `free` box. After the media bytes are appended, a frame takes two or three small patches, in this order: its
//! entry (with the true duration of the entry before it and the `free` header behind it, all contiguous), the sample count of the run, the size of `mdat`.
//!
//! **Time.** Timescale 1000 everywhere: RTMP timestamps are milliseconds and stay what was sent. `tfdt` is unsigned, yet a track may begin a little before
//! the publication's zero, so the fragments' media time is `dts - zero_ms +` [`MEDIA_TIME_BIAS_MS`]; the edit list of the initial `moov` takes it off again,
//! and the final `moov` starts at 0 by itself.

mod cut;
mod entry;
mod event;
mod fragment;
mod fuzz;
mod growing;
mod head;
mod moov;
mod movie;
mod package;
#[cfg(test)]
mod reader_tests;
mod recall;
mod rendition;
mod scan;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

pub use cut::{Copy, CutPlan, Selection, difference, plan as plan_cut, select, summary_of};
pub use entry::{TrackEntry, parse_entries};
pub use fuzz::fuzz_scan;
pub use growing::{Growing, fuzz_growing};
pub use head::{INSERT_AT, head, head_of, init_segment};
pub use movie::{Movie, MovieSample, MovieTrack, fuzz_movie, read_movie};
pub use package::{MovieSegment, SEGMENT_BYTES_MAX, fragment, init, segments};
pub use recall::{StoredFrame, frames as stored_frames};
pub use rendition::{InitTrack, Rendition, TrackShare, fuzz_rendition, init_of, init_tracks, segment_of, shares};
pub use scan::{Mp4Scan, scan};
pub use writer::{MessageTooLarge, Mp4Writer};

/// Added to every decoding time in the fragments, so that frames from before the publication's zero keep their distance (`tfdt` is unsigned).
pub const MEDIA_TIME_BIAS_MS: u64 = 10_000;
/// A fragment closes once a track has this much media in it: what a killed machine may lose and what a live viewer waits for.
pub const FRAGMENT_MS: u64 = 1_000;
/// A fragment closes before its media grows over this (a single larger frame is a fragment of its own), so that the blocks it keeps open are bounded.
pub const FRAGMENT_MEDIA_BYTES_MAX: u64 = 4 << 20;
/// The longest time a sample at the end of a fragment is said to last. A longer pause is left open: the next fragment's `tfdt` is exact anyway.
pub const SAMPLE_MS_MAX: u64 = 5_000;

/// One closed fragment, `moof` and `mdat`: what an HLS byte range addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// File offset of the `moof`.
    pub offset: u64,
    pub bytes: u64,
    /// Decoding time of the first video sample, or of the first audio sample where there is no video sample, relative to the publication's zero.
    pub start_ms: i64,
    /// Of the same track as `start_ms`.
    pub duration_ms: u64,
    /// Its first video sample is a key frame, or the file has no video track. Audio samples may come before the key frame.
    pub key: bool,
}
