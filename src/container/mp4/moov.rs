//! The `moov` box, for a file that goes on (with `mvex`) and for a finished one, and reading back what we wrote.

use super::entry::TrackEntry;
use super::event;
use super::fragment::{AUDIO_TRACK_ID, default_flags, further_track_id, track_id};
use super::movie::MovieTrack;
use super::tables::{SampleTable, Scale};
use crate::container::boxes::BoxWriter;
use crate::media::TrackKind;
use crate::media::label::Label;

/// Ticks a second of fragments, and of everything that has only RTMP's milliseconds.
const TIMESCALE: u32 = 1_000;
/// Unity matrix of `mvhd` and `tkhd` (ISO/IEC 14496-12, 6.2.2).
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
/// `und` as packed ISO 639-2/T code (8.4.2.3).
const LANGUAGE_UNDETERMINED: u16 = 0x55C4;
/// Flags of `tkhd` (8.3.2).
const ENABLED: u32 = 1;
const IN_MOVIE: u32 = 2;

/// What `trak` says of a track beside its samples.
pub(super) struct Head<'a> {
    pub id: u32,
    flags: u32,
    /// Tracks of one group are alternatives to each other; 0: there is none.
    alternate_group: u16,
    handler: Handler,
    width: u16,
    height: u16,
    stsd: &'a [u8],
    ticks_per_second: u32,
    /// `None`: nothing is known.
    label: Option<&'a Label>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Handler {
    Video,
    Audio,
    Metadata,
}

impl<'a> Head<'a> {
    fn of(entry: &'a TrackEntry, entries: &[TrackEntry], scale: Scale) -> Self {
        let alike = || entries.iter().filter(|other| other.kind == entry.kind);
        let is_first = alike().next().is_some_and(|first| first.id == entry.id);
        let head =
            Self::new(entry.id, entry.kind, (is_first, alike().count() > 1), (entry.width, entry.height), &entry.stsd, scale.ticks_per_second());
        Self { label: Some(&entry.label), ..head }
    }

    /// Heads of the tracks of a movie, in their order.
    pub fn of_movie(tracks: impl Iterator<Item = &'a MovieTrack> + Clone) -> Vec<Self> {
        let (mut seen, mut further) = ([false; 2], 0);
        let head = |track: &'a MovieTrack| {
            let is_first = !std::mem::replace(&mut seen[usize::from(track.kind == TrackKind::Audio)], true);
            let id = if is_first { track_id(track.kind) } else { further_track_id(further) };
            further += usize::from(!is_first);
            let has_alternatives = tracks.clone().filter(|other| other.kind == track.kind).count() > 1;
            let head = Self::new(id, track.kind, (is_first, has_alternatives), (track.width, track.height), &track.stsd, track.ticks_per_second);
            Self { label: Some(&track.label), ..head }
        };
        tracks.clone().map(head).collect()
    }

    fn new(
        id: u32,
        kind: TrackKind,
        (is_first, has_alternatives): (bool, bool),
        (width, height): (u16, u16),
        stsd: &'a [u8],
        ticks_per_second: u32,
    ) -> Self {
        let (handler, group) = match kind {
            TrackKind::Video => (Handler::Video, 1),
            TrackKind::Audio => (Handler::Audio, 2),
        };
        // Players show the first one unless asked for another.
        let flags = if is_first { ENABLED | IN_MOVIE } else { IN_MOVIE };
        Self { id, flags, alternate_group: if has_alternatives { group } else { 0 }, handler, width, height, stsd, ticks_per_second, label: None }
    }
}

/// The `moov` before the first fragment. `bias_ms`: media time at which the presentation begins, taken off by an edit list. `created`:
/// seconds since 1904, 0 if not known.
pub fn fragmented_moov(out: &mut BoxWriter, entries: &[TrackEntry], bias_ms: Option<u64>, created: u64) {
    let empty = SampleTable::default();
    out.container(b"moov", |out| {
        mvhd(out, created, TIMESCALE, 0, next_id(entries));
        for entry in entries {
            // A duration of 0 in a fragmented movie: to the end of what the fragments bring (8.6.6).
            let edit = bias_ms.map(|bias_ms| Edit { delay: 0, duration: 0, media_time: bias_ms + entry.pre_skip_ms() });
            table_trak(out, &Head::of(entry, entries, Scale::default()), (&empty, &Scale::default()), edit.as_ref(), 0);
        }
        out.container(b"mvex", |out| {
            for entry in entries {
                out.full(b"trex", 0, 0, |out| {
                    out.u32(entry.id);
                    out.u32(1);
                    out.u32(0);
                    out.u32(0);
                    out.u32(default_flags(entry.kind));
                });
            }
        });
    });
}

/// The `moov` of the finished file. Tracks without a sample are left out. `messages`: samples of the timed-metadata track, if there are any.
/// `shift_bytes` is added to every chunk offset.
///
/// Times of pictures are milliseconds. Sound has a time scale in which both a millisecond and a sample are whole numbers: the times stay what was sent,
/// while the last frame lasts, and what precedes the first sample to be heard takes, what it does to the sample.
pub fn final_moov(created: u64, tracks: &[(TrackEntry, SampleTable)], messages: Option<&SampleTable>, shift_bytes: u64) -> Vec<u8> {
    let start_ms = first_pts_ms(tracks);
    let entries: Vec<TrackEntry> = tracks.iter().map(|(entry, _)| entry.clone()).collect();
    let capacity: usize = tracks.iter().map(|(_, table)| table.bytes()).sum();
    let mut out = BoxWriter::with_capacity(capacity + (4 << 10));
    out.container(b"moov", |out| {
        let timed: Vec<_> = tracks
            .iter()
            .filter_map(|(entry, table)| {
                let timing = table.timing(start_ms)?;
                let scale = entry.scale(table);
                Some((entry, table, timing, scale))
            })
            .collect();
        let movie_scale = timed.iter().fold(TIMESCALE, |common, (.., scale)| least_common_multiple(common, scale.ticks_per_second()));
        // What is known to the millisecond, in ticks of the movie.
        let movie = |ms: u64| ms * u64::from(movie_scale / TIMESCALE);
        let edits: Vec<Edit> = timed
            .iter()
            .map(|(entry, table, timing, scale)| {
                let ticks = u64::from(scale.ticks_per_ms);
                let in_movie = |ticks: u64| ticks * u64::from(movie_scale / scale.ticks_per_second());
                let (duration, media_time) = (table.presented(scale), timing.media_time_ms * ticks);
                // No more than there is, else there would be nothing to hear.
                let skip = u64::from(entry.pre_skip_ticks(scale)).min(duration.saturating_sub(1));
                Edit { delay: movie(timing.delay_ms) + in_movie(skip), duration: in_movie(duration - skip), media_time: media_time + skip }
            })
            .collect();
        mvhd(out, created, movie_scale, edits.iter().map(|edit| edit.delay + edit.duration).max().unwrap_or(0), next_id(&entries));
        for ((entry, table, _, scale), edit) in timed.iter().zip(&edits) {
            table_trak(out, &Head::of(entry, &entries, *scale), (table, scale), Some(edit), shift_bytes);
        }
        if let Some((table, timing)) = messages.and_then(|table| Some((table, table.timing(start_ms)?))) {
            let stsd = event::description();
            let head = Head {
                id: next_id(&entries),
                flags: ENABLED,
                alternate_group: 0,
                handler: Handler::Metadata,
                width: 0,
                height: 0,
                stsd: &stsd,
                ticks_per_second: TIMESCALE,
                label: None,
            };
            let edit = Edit { delay: movie(timing.delay_ms), duration: movie(timing.duration_ms), media_time: timing.media_time_ms };
            table_trak(out, &head, (table, &Scale::default()), Some(&edit), shift_bytes);
        }
    });
    out.into_bytes()
}

fn least_common_multiple(a: u32, b: u32) -> u32 {
    let (mut high, mut low) = (a, b);
    while low > 0 {
        (high, low) = (low, high % low);
    }
    // Beyond 32 bits the first is as good as any.
    (a / high.max(1)).checked_mul(b).unwrap_or(a)
}

fn next_id(entries: &[TrackEntry]) -> u32 {
    // All ones: the next one is to be looked for (ISO/IEC 14496-12, 8.2.2.3). A damaged head may have any id.
    entries.iter().map(|entry| entry.id).max().unwrap_or(0).max(AUDIO_TRACK_ID).saturating_add(1)
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

pub(super) fn mvhd(out: &mut BoxWriter, created: u64, timescale: u32, duration: u64, next_id: u32) {
    let version = version_for(duration.max(created));
    out.full(b"mvhd", version, 0, |out| {
        time(out, version, created);
        time(out, version, created);
        out.u32(timescale);
        time(out, version, duration);
        out.u32(0x1_0000);
        out.u16(0x0100);
        out.zeros(10);
        MATRIX.iter().for_each(|value| out.u32(*value));
        out.zeros(24);
        out.u32(next_id);
    });
}

/// Where a track is in the movie: delay and duration in ticks of the movie, media time in ticks of the track.
#[derive(Clone, Copy)]
struct Edit {
    delay: u64,
    duration: u64,
    media_time: u64,
}

fn table_trak(out: &mut BoxWriter, head: &Head<'_>, (table, scale): (&SampleTable, &Scale), edit: Option<&Edit>, shift_bytes: u64) {
    let edits: Vec<(u64, Option<u64>)> = match edit {
        // A track that starts later than the first one: nothing, then its media from its first presentation on.
        Some(&Edit { delay, duration, media_time }) => {
            (delay > 0).then_some((delay, None)).into_iter().chain([(duration, Some(media_time))]).collect()
        }
        None => Vec::new(),
    };
    trak(out, head, &edits, table.media_ticks(scale), |out| table.write(out, shift_bytes, scale));
}

/// The box of a track. `edits`: how long, in ticks of the movie, and from which media time on; `None`: nothing is shown.
pub(super) fn trak(out: &mut BoxWriter, head: &Head<'_>, edits: &[(u64, Option<u64>)], media_ticks: u64, tables: impl FnOnce(&mut BoxWriter)) {
    let track_ticks = edits.iter().map(|(duration, _)| duration).sum();
    out.container(b"trak", |out| {
        let version = version_for(track_ticks);
        out.full(b"tkhd", version, head.flags, |out| {
            time(out, version, 0);
            time(out, version, 0);
            out.u32(head.id);
            out.u32(0);
            time(out, version, track_ticks);
            out.zeros(8);
            out.u16(0);
            out.u16(head.alternate_group);
            out.u16(if head.handler == Handler::Audio { 0x0100 } else { 0 });
            out.u16(0);
            MATRIX.iter().for_each(|value| out.u32(*value));
            out.u32(u32::from(head.width) << 16);
            out.u32(u32::from(head.height) << 16);
        });
        if !edits.is_empty() {
            edts(out, edits);
        }
        out.container(b"mdia", |out| {
            let version = version_for(media_ticks);
            out.full(b"mdhd", version, 0, |out| {
                time(out, version, 0);
                time(out, version, 0);
                out.u32(head.ticks_per_second);
                time(out, version, media_ticks);
                out.u16(head.label.and_then(Label::language_code).map_or(LANGUAGE_UNDETERMINED, packed_language));
                out.u16(0);
            });
            let (handler, usual_name) = match head.handler {
                Handler::Video => (b"vide", "VideoHandler"),
                Handler::Audio => (b"soun", "SoundHandler"),
                Handler::Metadata => (b"meta", "DataHandler"),
            };
            let name = head.label.map(|label| label.name.as_str()).filter(|name| !name.is_empty()).unwrap_or(usual_name);
            out.full(b"hdlr", 0, 0, |out| {
                out.u32(0);
                out.raw(handler);
                out.zeros(12);
                out.raw(name.as_bytes());
                out.u8(0);
            });
            if let Some(label) = head.label.filter(|label| !label.language.is_empty()) {
                // Extended language tag (8.4.6).
                out.full(b"elng", 0, 0, |out| {
                    out.raw(label.language.as_bytes());
                    out.u8(0);
                });
            }
            out.container(b"minf", |out| {
                match head.handler {
                    Handler::Video => out.full(b"vmhd", 0, 1, |out| out.zeros(8)),
                    Handler::Audio => out.full(b"smhd", 0, 0, |out| out.zeros(4)),
                    Handler::Metadata => out.full(b"nmhd", 0, 0, |_| {}),
                }
                out.container(b"dinf", |out| {
                    out.full(b"dref", 0, 0, |out| {
                        out.u32(1);
                        // The media are in this file (8.7.2).
                        out.full(b"url ", 0, 1, |_| {});
                    });
                });
                out.container(b"stbl", |out| {
                    out.raw(head.stsd);
                    tables(out);
                });
            });
        });
    });
}

/// Three letters in 15 bits (8.4.2.3).
fn packed_language(code: [u8; 3]) -> u16 {
    code.iter().fold(0, |packed, letter| packed << 5 | u16::from(letter & 0x1F))
}

/// Edit list (8.6.5, 8.6.6).
fn edts(out: &mut BoxWriter, edits: &[(u64, Option<u64>)]) {
    let version = edits.iter().map(|(duration, media_time)| version_for(media_time.map_or(*duration, |at| at.max(*duration)))).max().unwrap_or(0);
    out.container(b"edts", |out| {
        out.full(b"elst", version, 0, |out| {
            out.u32(edits.len() as u32);
            for (duration, media_time) in edits {
                time(out, version, *duration);
                time(out, version, media_time.unwrap_or(u64::MAX));
                out.u32(0x1_0000);
            }
        });
    });
}
