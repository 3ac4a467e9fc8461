//! Cutting and joining without encoding: which samples a stretch needs, and the index of a new file that plays exactly that stretch.
//!
//! A stretch begins with the group of pictures that its first frame needs; the edit list (ISO/IEC 14496-12, 8.6.6) hides what comes before that frame.
//! Media bytes are copied in one piece for each stretch, with what lies between the samples, on page boundaries: a file system that shares blocks shares
//! them.

use std::ops::Range;

use super::moov::{Head, mvhd, trak};
use super::movie::{Movie, MovieTrack};
use super::tables::{SampleTable, Scale, TableSample};
use crate::container::boxes::{BoxWriter, HEADER_BYTES, LARGE_HEADER_BYTES};
use crate::container::{MediaSummary, TrackSummary};
use crate::media::TrackKind;

/// Copies begin on such a boundary in both files.
const PAGE_BYTES: u64 = 4_096;
const MOVIE_TICKS: u32 = 1_000;

/// A stretch of a movie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selection {
    /// Movie time of what is shown, ms: from the frame shown at the wanted begin to the end of the last frame before the wanted end.
    pub begin_ms: i64,
    pub end_ms: i64,
    /// Samples of each track of the movie, in decoding order; more than what is shown.
    pub ranges: Vec<Range<usize>>,
}

/// The stretch from `begin_ms` to `end_ms` (movie time). `None`: nothing lies there.
pub fn select(movie: &Movie, begin_ms: i64, end_ms: i64) -> Option<Selection> {
    let leading = movie.tracks.first()?;
    let Shown { begin, end, range } = shown(leading, begin_ms, end_ms)?;
    let (begin_ms, end_ms) = (leading.ms(begin), leading.ms(end));
    let further = movie.tracks[1..].iter().map(|track| match track.kind {
        TrackKind::Video => shown(track, begin_ms, end_ms).map_or(0..0, |shown| shown.range),
        TrackKind::Audio => beside(track, begin_ms, end_ms),
    });
    Some(Selection { begin_ms, end_ms, ranges: std::iter::once(range).chain(further).collect() })
}

/// What is seen of a track, in its ticks, and what has to be decoded for that.
struct Shown {
    begin: i64,
    end: i64,
    range: Range<usize>,
}

/// The frames that are shown between two times: the one that is there already at the begin, and those that come before the end.
fn shown(track: &MovieTrack, begin_ms: i64, end_ms: i64) -> Option<Shown> {
    let (wanted_begin, wanted_end) = (track.ticks(begin_ms), track.ticks(end_ms));
    // Frames in the order in which they are shown.
    let mut order: Vec<(i64, usize)> = (0..track.samples.len()).map(|index| (track.pts(index), index)).collect();
    order.sort_unstable();
    let first = order.partition_point(|(pts, _)| *pts <= wanted_begin).saturating_sub(1);
    let behind = order.partition_point(|(pts, _)| *pts < wanted_end);
    if behind <= first {
        return None;
    }
    let shown = &order[first..behind];
    let last = shown[shown.len() - 1];
    let end = order.get(behind).map_or(last.0 + i64::from(track.samples[last.1].duration), |(pts, _)| *pts);
    // It is decoded from the key frame on that comes before all frames that are shown.
    let earliest = shown.iter().map(|(_, index)| *index).min()?;
    let from = (0..=earliest).rev().find(|index| track.samples[*index].sync).unwrap_or(0);
    let to = shown.iter().map(|(_, index)| *index).max()? + 1;
    Some(Shown { begin: shown[0].0, end, range: from..to })
}

/// Frames of sound before the first one that is heard, which decoders need to begin cleanly: one; of Opus 80 ms (RFC 7845, 4.6).
fn lead_in(track: &MovieTrack) -> usize {
    if track.codec_name() == "opus" { 4 } else { 1 }
}

/// The samples of a track of sound that sound in the stretch, with those that lead in.
fn beside(track: &MovieTrack, begin_ms: i64, end_ms: i64) -> Range<usize> {
    let (begin, end) = (track.ticks(begin_ms), track.ticks(end_ms));
    let count = track.samples.len();
    let index = |wanted: &dyn Fn(usize) -> bool| {
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = (low + high) / 2;
            if wanted(middle) { low = middle + 1 } else { high = middle }
        }
        low
    };
    let from = index(&|at| track.pts(at) + i64::from(track.samples[at].duration) <= begin);
    let to = index(&|at| track.pts(at) < end);
    if from >= to { 0..0 } else { from.saturating_sub(lead_in(track))..to }
}

/// What keeps movies from being joined without encoding, in words; `None`: they have the same tracks with the same parameters.
pub fn difference(movies: &[&Movie]) -> Option<String> {
    let first = movies.first()?;
    let names = |movie: &Movie| movie.tracks.iter().map(MovieTrack::description).collect::<Vec<_>>().join(", ");
    for (number, movie) in movies.iter().enumerate().skip(1) {
        let what = || format!("the first has {}, number {} has {}", names(first), number + 1, names(movie));
        if movie.tracks.len() != first.tracks.len() {
            return Some(what());
        }
        for (track, other) in first.tracks.iter().zip(&movie.tracks) {
            if track.kind != other.kind || track.description() != other.description() {
                return Some(what());
            }
            if track.stsd != other.stsd {
                return Some(format!("the {} of number {} has other codec parameters than that of the first", track.description(), number + 1));
            }
            if track.ticks_per_second != other.ticks_per_second {
                let rates = (track.ticks_per_second, other.ticks_per_second);
                return Some(format!("the first counts time in {} ticks a second, number {} in {}", rates.0, number + 1, rates.1));
            }
        }
    }
    None
}

/// A piece of an input that is copied as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copy {
    /// Which of the inputs.
    pub input: usize,
    pub from: u64,
    pub to: u64,
    pub bytes: u64,
}

/// How to make the new file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CutPlan {
    /// Written at offset 0: everything before the media.
    pub head: Vec<u8>,
    pub copies: Vec<Copy>,
    /// Length of the file.
    pub bytes: u64,
    pub summary: MediaSummary,
}

/// Something that is shown: movie and media time in milliseconds and ticks.
struct Edit {
    duration_ms: i64,
    /// `None`: nothing is shown.
    media_time: Option<i64>,
}

struct OutTrack<'a> {
    model: &'a MovieTrack,
    samples: Vec<(u64, TableSample)>,
    edits: Vec<Edit>,
    media_end: u64,
    /// Added to every composition offset, so that none is negative.
    lift: i64,
}

/// Joins stretches of movies that [`are_alike`] into one file. `stretches`: which movie, and what of it.
pub fn plan(movies: &[&Movie], stretches: &[(usize, Selection)]) -> CutPlan {
    let mut tracks: Vec<OutTrack<'_>> = movies[stretches[0].0]
        .tracks
        .iter()
        .enumerate()
        .map(|(number, model)| {
            let offsets = stretches.iter().flat_map(|(movie, of)| movies[*movie].tracks[number].samples[of.ranges[number].clone()].iter());
            let lift = offsets.map(|sample| -i64::from(sample.cts)).max().unwrap_or(0).max(0);
            OutTrack { model, samples: Vec::new(), edits: Vec::new(), media_end: 0, lift }
        })
        .collect();
    // Where each stretch's bytes come to lie, from the begin of the media on.
    let (mut copies, mut at) = (Vec::new(), 0_u64);
    for (movie, of) in stretches {
        let used = || {
            let samples = |(track, range): (&MovieTrack, &Range<usize>)| track.samples[range.clone()].to_vec();
            movies[*movie].tracks.iter().zip(&of.ranges).flat_map(samples)
        };
        let from = used().map(|sample| sample.offset).min().unwrap_or(0) / PAGE_BYTES * PAGE_BYTES;
        let end = used().map(|sample| sample.offset + u64::from(sample.bytes)).max().unwrap_or(from);
        let shift = at as i64 - from as i64;
        copies.push(Copy { input: *movie, from, to: at, bytes: end - from });
        at = (at + (end - from)).next_multiple_of(PAGE_BYTES);
        for (number, out) in tracks.iter_mut().enumerate() {
            push_stretch(out, &movies[*movie].tracks[number], of, number, shift);
        }
    }
    let media_bytes = copies.last().map_or(0, |copy| copy.to + copy.bytes);
    // The head's length depends on nothing but the number of samples and the width of chunk offsets.
    let mut media_at = 0;
    let mut moov = moov(&tracks, media_at);
    loop {
        let next = (FTYP.len() + moov.len() + HEADER_BYTES + LARGE_HEADER_BYTES) as u64;
        let next = next.next_multiple_of(PAGE_BYTES);
        if next == media_at {
            break;
        }
        media_at = next;
        moov = self::moov(&tracks, media_at);
    }
    let mut head = BoxWriter::with_capacity(media_at as usize);
    head.raw(FTYP);
    head.raw(&moov);
    let free = media_at as usize - LARGE_HEADER_BYTES - head.len();
    head.container(b"free", |out| out.zeros(free - HEADER_BYTES));
    head.u32(1);
    head.raw(b"mdat");
    head.u64(media_bytes + LARGE_HEADER_BYTES as u64);
    copies.iter_mut().for_each(|copy| copy.to += media_at);
    CutPlan { head: head.into_bytes(), copies, bytes: media_at + media_bytes, summary: summary(&tracks) }
}

const FTYP: &[u8] = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41";

fn push_stretch(out: &mut OutTrack<'_>, track: &MovieTrack, of: &Selection, number: usize, shift: i64) {
    let range = of.ranges[number].clone();
    let duration_ms = of.end_ms - of.begin_ms;
    let samples = &track.samples[range];
    let Some(first) = samples.first() else {
        out.edits.push(Edit { duration_ms, media_time: None });
        return;
    };
    let base = out.media_end;
    for sample in samples {
        let dts = base + (sample.dts - first.dts);
        let cts = i32::try_from(i64::from(sample.cts) + out.lift).unwrap_or(i32::MAX);
        let entry = TableSample { dts_ms: dts, cts_ms: cts, duration_ms: sample.duration, bytes: sample.bytes, sync: sample.sync };
        out.samples.push(((sample.offset as i64 + shift) as u64, entry));
        out.media_end = dts + u64::from(sample.duration);
    }
    // Media time of what is shown first.
    let begin = base as i64 + out.lift + track.ticks(of.begin_ms) - track.start - first.dts as i64;
    let earliest =
        base as i64 + out.lift + samples.iter().map(|sample| sample.dts as i64 - first.dts as i64 + i64::from(sample.cts)).min().unwrap_or(0);
    let late_ms = track.ms(earliest - begin).clamp(0, duration_ms);
    if late_ms > 0 {
        out.edits.push(Edit { duration_ms: late_ms, media_time: None });
    }
    let media_time = begin.max(earliest).max(0);
    let shown_ms = duration_ms - late_ms;
    // A stretch that goes on where the last one ended is no edit of its own: simple players know one only.
    match out.edits.last_mut() {
        Some(Edit { duration_ms, media_time: Some(at) }) if *at + out.model.ticks(*duration_ms) == media_time => *duration_ms += shown_ms,
        _ => out.edits.push(Edit { duration_ms: shown_ms, media_time: Some(media_time) }),
    }
}

fn table(track: &OutTrack<'_>, media_at: u64) -> SampleTable {
    let mut table = SampleTable::default();
    let mut end = u64::MAX;
    for (offset, sample) in &track.samples {
        if *offset != end {
            table.begin_chunk(media_at + offset);
        }
        end = offset + u64::from(sample.bytes);
        table.push(*sample);
    }
    table.finish();
    table
}

fn duration_ms(track: &OutTrack<'_>) -> u64 {
    track.edits.iter().map(|edit| edit.duration_ms.max(0) as u64).sum()
}

fn summary(tracks: &[OutTrack<'_>]) -> MediaSummary {
    let mut summary = MediaSummary::default();
    for track in tracks.iter().filter(|track| !track.samples.is_empty()) {
        // What comes before the first picture that is shown is in the file, and counts for nothing else.
        let is_shown = |sample: &TableSample| {
            let at = sample.dts_ms as i64 + i64::from(sample.cts_ms);
            let inside = |edit: &Edit| edit.media_time.is_some_and(|begin| (begin..begin + track.model.ticks(edit.duration_ms)).contains(&at));
            track.model.kind == TrackKind::Audio || track.edits.iter().any(inside)
        };
        let shown: Vec<&TableSample> = track.samples.iter().map(|(_, sample)| sample).filter(|sample| is_shown(sample)).collect();
        let key_frames = shown.iter().filter(|sample| sample.sync).count() as u64;
        let bytes = track.samples.iter().map(|(_, sample)| u64::from(sample.bytes)).sum();
        add_track(
            &mut summary,
            track.model,
            TrackSummary { frames: shown.len() as u64, bytes, duration_ms: duration_ms(track), key_frames, ..TrackSummary::default() },
        );
    }
    summary
}

/// What a movie holds that is shown from its first frame on.
pub fn summary_of(movie: &Movie) -> MediaSummary {
    let mut summary = MediaSummary::default();
    for track in &movie.tracks {
        let begin = (0..track.samples.len()).map(|index| track.pts(index)).min().unwrap_or(0);
        let one = TrackSummary {
            frames: track.samples.len() as u64,
            bytes: track.samples.iter().map(|sample| u64::from(sample.bytes)).sum(),
            duration_ms: track.ms(track.end() - begin).max(0) as u64,
            key_frames: track.samples.iter().filter(|sample| sample.sync).count() as u64,
            ..TrackSummary::default()
        };
        add_track(&mut summary, track, one);
    }
    summary
}

fn add_track(summary: &mut MediaSummary, model: &MovieTrack, one: TrackSummary) {
    let one = TrackSummary { width: u32::from(model.width), height: u32::from(model.height), ..one };
    summary.duration_ms = summary.duration_ms.max(one.duration_ms);
    let (first, further) = match model.kind {
        TrackKind::Video => (&mut summary.video, &mut summary.further_video),
        TrackKind::Audio => (&mut summary.audio, &mut summary.further_audio),
    };
    match first {
        None => *first = Some(one),
        Some(_) => further.push(one),
    }
}

fn moov(tracks: &[OutTrack<'_>], media_at: u64) -> Vec<u8> {
    let mut out = BoxWriter::default();
    let filled = || tracks.iter().filter(|track| !track.samples.is_empty());
    let heads = Head::of_movie(filled().map(|track| track.model));
    let next_id = heads.iter().map(|head| head.id).max().unwrap_or(0) + 1;
    out.container(b"moov", |out| {
        mvhd(out, 0, MOVIE_TICKS, tracks.iter().map(duration_ms).max().unwrap_or(0), next_id);
        for (track, head) in filled().zip(&heads) {
            let edits: Vec<_> = track.edits.iter().map(|edit| (edit.duration_ms.max(0) as u64, edit.media_time.map(|at| at.max(0) as u64))).collect();
            let table = table(track, media_at);
            trak(out, head, &edits, track.media_end, |out| table.write(out, 0, &Scale::default()));
        }
    });
    out.into_bytes()
}
