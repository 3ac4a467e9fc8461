//! The `moov` box, for a file that goes on (with `mvex`) and for a finished one, and reading back what we wrote.

use super::entry::TrackEntry;
use super::fragment::{AUDIO_TRACK_ID, default_flags, track_id};
use super::tables::{SampleTable, Timing};
use crate::container::boxes::BoxWriter;
use crate::media::TrackKind;

/// Ticks a second of movie and tracks: RTMP's milliseconds.
const TIMESCALE: u32 = 1_000;
/// Unity matrix of `mvhd` and `tkhd` (ISO/IEC 14496-12, 6.2.2).
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
/// `und` as packed ISO 639-2/T code (8.4.2.3).
const LANGUAGE_UNDETERMINED: u16 = 0x55C4;
/// The `moov` before the first fragment. `bias_ms`: media time at which the presentation begins, taken off by an edit list.
pub fn fragmented_moov(out: &mut BoxWriter, entries: &[TrackEntry], bias_ms: Option<u64>) {
    let empty = SampleTable::default();
    out.container(b"moov", |out| {
        mvhd(out, 0);
        for entry in entries {
            // A duration of 0 in a fragmented movie: to the end of what the fragments bring (8.6.6).
            let timing = Timing { media_time_ms: bias_ms.unwrap_or(0), ..Timing::default() };
            trak(out, entry, &empty, bias_ms.is_some(), &timing, 0);
        }
        out.container(b"mvex", |out| {
            for entry in entries {
                out.full(b"trex", 0, 0, |out| {
                    out.u32(track_id(entry.kind));
                    out.u32(1);
                    out.u32(0);
                    out.u32(0);
                    out.u32(default_flags(entry.kind));
                });
            }
        });
    });
}

/// The `moov` of the finished file. Tracks without a sample are left out. `shift_bytes` is added to every chunk offset.
pub fn final_moov(tracks: &[(TrackEntry, SampleTable)], shift_bytes: u64) -> Vec<u8> {
    let start_ms = first_pts_ms(tracks);
    let capacity: usize = tracks.iter().map(|(_, table)| table.bytes()).sum();
    let mut out = BoxWriter::with_capacity(capacity + (4 << 10));
    out.container(b"moov", |out| {
        let timed = || tracks.iter().filter_map(|(entry, table)| Some((entry, table, table.timing(start_ms)?)));
        mvhd(out, timed().map(|(_, _, timing)| timing.delay_ms + timing.duration_ms).max().unwrap_or(0));
        for (entry, table, timing) in timed() {
            trak(out, entry, table, true, &timing, shift_bytes);
        }
    });
    out.into_bytes()
}

/// The smallest presentation time of all tracks.
pub fn first_pts_ms(tracks: &[(TrackEntry, SampleTable)]) -> i64 {
    tracks.iter().filter_map(|(_, table)| table.first_pts_ms()).min().unwrap_or(0)
}

fn version_for(duration_ms: u64) -> u8 {
    u8::from(duration_ms > u64::from(u32::MAX))
}

fn time(out: &mut BoxWriter, version: u8, value: u64) {
    match version {
        0 => out.u32(value as u32),
        _ => out.u64(value),
    }
}

fn mvhd(out: &mut BoxWriter, duration_ms: u64) {
    let version = version_for(duration_ms);
    out.full(b"mvhd", version, 0, |out| {
        time(out, version, 0);
        time(out, version, 0);
        out.u32(TIMESCALE);
        time(out, version, duration_ms);
        out.u32(0x1_0000);
        out.u16(0x0100);
        out.zeros(10);
        MATRIX.iter().for_each(|value| out.u32(*value));
        out.zeros(24);
        out.u32(AUDIO_TRACK_ID + 1);
    });
}

fn trak(out: &mut BoxWriter, entry: &TrackEntry, table: &SampleTable, edit: bool, timing: &Timing, shift_bytes: u64) {
    let is_video = entry.kind == TrackKind::Video;
    let track_ms = timing.delay_ms + timing.duration_ms;
    out.container(b"trak", |out| {
        let version = version_for(track_ms);
        // Enabled and in the movie (8.3.2).
        out.full(b"tkhd", version, 3, |out| {
            time(out, version, 0);
            time(out, version, 0);
            out.u32(track_id(entry.kind));
            out.u32(0);
            time(out, version, track_ms);
            out.zeros(8);
            out.u16(0);
            out.u16(0);
            out.u16(if is_video { 0 } else { 0x0100 });
            out.u16(0);
            MATRIX.iter().for_each(|value| out.u32(*value));
            out.u32(u32::from(entry.width) << 16);
            out.u32(u32::from(entry.height) << 16);
        });
        if edit {
            edts(out, timing);
        }
        out.container(b"mdia", |out| {
            let version = version_for(timing.media_ms);
            out.full(b"mdhd", version, 0, |out| {
                time(out, version, 0);
                time(out, version, 0);
                out.u32(TIMESCALE);
                time(out, version, timing.media_ms);
                out.u16(LANGUAGE_UNDETERMINED);
                out.u16(0);
            });
            out.full(b"hdlr", 0, 0, |out| {
                out.u32(0);
                out.raw(if is_video { b"vide" } else { b"soun" });
                out.zeros(12);
                out.raw(if is_video { b"VideoHandler\0" } else { b"SoundHandler\0" });
            });
            out.container(b"minf", |out| {
                match is_video {
                    true => out.full(b"vmhd", 0, 1, |out| out.zeros(8)),
                    false => out.full(b"smhd", 0, 0, |out| out.zeros(4)),
                }
                out.container(b"dinf", |out| {
                    out.full(b"dref", 0, 0, |out| {
                        out.u32(1);
                        // The media are in this file (8.7.2).
                        out.full(b"url ", 0, 1, |_| {});
                    });
                });
                out.container(b"stbl", |out| {
                    out.raw(&entry.stsd);
                    table.write(out, shift_bytes);
                });
            });
        });
    });
}

/// Edit list (8.6.5, 8.6.6): an empty edit for a track that starts later than the first, then its media from its first presentation on.
fn edts(out: &mut BoxWriter, timing: &Timing) {
    let version = version_for(timing.delay_ms.max(timing.duration_ms).max(timing.media_time_ms));
    out.container(b"edts", |out| {
        out.full(b"elst", version, 0, |out| {
            out.u32(if timing.delay_ms > 0 { 2 } else { 1 });
            if timing.delay_ms > 0 {
                time(out, version, timing.delay_ms);
                time(out, version, u64::MAX);
                out.u32(0x1_0000);
            }
            time(out, version, timing.duration_ms);
            time(out, version, timing.media_time_ms);
            out.u32(0x1_0000);
        });
    });
}
