//! A finished movie as its samples: read from a plain `moov` whoever wrote it, so that pieces of it can be written anew without touching a frame.

use super::entry::{TrackEntry, entries, parse_label};
use crate::container::boxes::{BoxHeader, LARGE_HEADER_BYTES, be16, be32, be64, boxes, find};
use crate::container::{ReadAt, ScanError};
use crate::media::label::Label;
use crate::media::{TrackKind, Tracks};

/// Samples of one track: some 40 hours of sound.
const SAMPLES_MAX: usize = 8 << 20;
/// The index of that many.
const MOOV_BYTES_MAX: u64 = 256 << 20;
/// Boxes at the top that are looked at for the `moov`.
const BOXES_MAX: usize = 1_000_000;

/// One sample, in ticks of its track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MovieSample {
    pub offset: u64,
    pub bytes: u32,
    pub dts: u64,
    pub cts: i32,
    pub duration: u32,
    pub sync: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MovieTrack {
    /// In the file that it was read from.
    pub id: u32,
    pub kind: TrackKind,
    pub ticks_per_second: u32,
    /// The whole `stsd` box: what the samples are, carried over as it is.
    pub stsd: Vec<u8>,
    /// Pixels.
    pub width: u16,
    pub height: u16,
    /// In decoding order.
    pub samples: Vec<MovieSample>,
    /// Movie time of media time 0, in ticks: what the edit list says.
    pub start: i64,
    pub label: Label,
}

impl MovieTrack {
    /// `h264`, `aac` and the like, by the name of its sample entry; empty for one that is not known here.
    pub fn codec_name(&self) -> &'static str {
        match self.stsd.get(20..24) {
            Some(b"avc1" | b"avc3") => "h264",
            Some(b"hvc1" | b"hev1") => "h265",
            Some(b"av01") => "av1",
            Some(b"vp09") => "vp9",
            // Object type indications 0x69 and 0x6B are MP3 (ISO/IEC 14496-1, 7.2.6.6).
            Some(b"mp4a") => {
                if self.stsd.windows(2).any(|bytes| matches!(bytes, [0x69 | 0x6B, 0x15])) {
                    "mp3"
                } else {
                    "aac"
                }
            }
            Some(b"Opus") => "opus",
            Some(b"fLaC") => "flac",
            Some(b"ac-3") => "ac3",
            Some(b"ec-3") => "eac3",
            _ => "",
        }
    }

    /// `h264 1280x720`, `aac`: for people.
    pub fn description(&self) -> String {
        let name = match (self.codec_name(), self.kind) {
            ("", TrackKind::Video) => "video",
            ("", TrackKind::Audio) => "sound",
            (name, _) => name,
        };
        match self.kind {
            TrackKind::Video => format!("{name} {}x{}", self.width, self.height),
            TrackKind::Audio => name.to_owned(),
        }
    }

    /// When sample `index` is presented, movie time in ticks.
    pub fn pts(&self, index: usize) -> i64 {
        let sample = &self.samples[index];
        sample.dts as i64 + i64::from(sample.cts) + self.start
    }

    pub fn ms(&self, ticks: i64) -> i64 {
        let scaled = i128::from(ticks) * 1_000;
        (scaled.div_euclid(i128::from(self.ticks_per_second.max(1)))) as i64
    }

    pub fn ticks(&self, ms: i64) -> i64 {
        (i128::from(ms) * i128::from(self.ticks_per_second) / 1_000) as i64
    }

    /// Where the presentation of its samples ends, movie time in ticks.
    pub fn end(&self) -> i64 {
        (0..self.samples.len()).map(|index| self.pts(index) + i64::from(self.samples[index].duration)).max().unwrap_or(0)
    }
}

/// Tracks, the first ones of each kind first and video first, each with a sample at least.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Movie {
    pub tracks: Vec<MovieTrack>,
}

impl Movie {
    /// A movie of samples that were found otherwise; times are milliseconds. `None` without a sample.
    pub fn from_samples(tracks: &Tracks, video: Vec<MovieSample>, audio: Vec<MovieSample>) -> Option<Self> {
        let mut samples = [(TrackKind::Video, video), (TrackKind::Audio, audio)];
        let tracks: Vec<MovieTrack> = entries(tracks)
            .iter()
            .filter_map(|entry| {
                let (_, samples) = samples.iter_mut().find(|(kind, _)| *kind == entry.kind)?;
                let samples = std::mem::take(samples);
                let (stsd, width, height, label) = (entry.stsd.clone(), entry.width, entry.height, entry.label.clone());
                (!samples.is_empty()).then_some(MovieTrack {
                    id: entry.id,
                    kind: entry.kind,
                    ticks_per_second: 1_000,
                    stsd,
                    width,
                    height,
                    samples,
                    start: 0,
                    label,
                })
            })
            .collect();
        (!tracks.is_empty()).then_some(Self { tracks })
    }

    /// The first track of each kind: what players show unless asked for another.
    pub fn first_ones(mut self) -> Self {
        let mut seen = [false; 2];
        self.tracks.retain(|track| !std::mem::replace(&mut seen[usize::from(track.kind == TrackKind::Audio)], true));
        self
    }

    /// The tracks of a movie without a sample.
    pub fn of_tracks(tracks: &Tracks) -> Self {
        let track = |entry: TrackEntry| {
            let TrackEntry { id, kind, stsd, width, height, label, .. } = entry;
            MovieTrack { id, kind, ticks_per_second: 1_000, stsd, width, height, samples: Vec::new(), start: 0, label }
        };
        Self { tracks: entries(tracks).into_iter().map(track).collect() }
    }

    pub fn duration_ms(&self) -> u64 {
        let begin = self.begin_ms();
        self.tracks.iter().map(|track| track.ms(track.end()) - begin).max().unwrap_or(0).max(0) as u64
    }

    /// The first presentation of all tracks.
    pub fn begin_ms(&self) -> i64 {
        self.tracks.iter().filter_map(|track| (0..track.samples.len().min(64)).map(|index| track.ms(track.pts(index))).min()).min().unwrap_or(0)
    }
}

/// Reads the `moov` of a finished MP4 file.
///
/// # Errors
/// [`ScanError::Head`] if there is none that can be read, [`ScanError::Empty`] without a sample, [`ScanError::Read`].
pub fn read_movie<R: ReadAt + ?Sized>(file: &R) -> Result<Movie, ScanError> {
    let mut at = 0;
    for _ in 0..BOXES_MAX {
        let mut bytes = [0; LARGE_HEADER_BYTES];
        let count = file.read_at(at, &mut bytes).map_err(|source| ScanError::Read { offset: at, source })?;
        let Some(header) = BoxHeader::parse(&bytes[..count], file.len().saturating_sub(at)) else { break };
        if &header.kind == b"moov" && header.bytes <= MOOV_BYTES_MAX {
            let mut moov = vec![0; header.bytes as usize];
            let count = file.read_at(at, &mut moov).map_err(|source| ScanError::Read { offset: at, source })?;
            let body = moov.get(header.header_bytes..count).ok_or(ScanError::Head { what: "the moov box is cut" })?;
            return parse_movie(body, file.len());
        }
        at += header.bytes;
    }
    Err(ScanError::Head { what: "there is no moov box" })
}

fn parse_movie(moov: &[u8], file_bytes: u64) -> Result<Movie, ScanError> {
    let movie_ticks = find(moov, b"mvhd").and_then(|mvhd| be32(mvhd, if mvhd.first() == Some(&1) { 20 } else { 12 }));
    let movie_ticks = movie_ticks.filter(|ticks| *ticks > 0).ok_or(ScanError::Head { what: "the mvhd box is damaged" })?;
    let mut tracks = Vec::new();
    for (_, trak) in boxes(moov).filter(|(kind, _)| kind == b"trak") {
        let track = parse_track(trak, movie_ticks, file_bytes).ok_or(ScanError::Head { what: "a trak box is damaged" })?;
        tracks.extend(track.filter(|track| !track.samples.is_empty()));
    }
    // Those that players show first: a picture leads, then sound, then the others as they stand in the file.
    let mut seen = [false; 2];
    tracks.sort_by_cached_key(|track: &MovieTrack| {
        let is_further = std::mem::replace(&mut seen[usize::from(track.kind == TrackKind::Audio)], true);
        (is_further, !is_further && track.kind == TrackKind::Audio)
    });
    if tracks.is_empty() { Err(ScanError::Empty) } else { Ok(Movie { tracks }) }
}

/// `None`: damaged. Inside: `None` for a track that is neither video nor audio.
#[allow(clippy::option_option)]
fn parse_track(trak: &[u8], movie_ticks: u32, file_bytes: u64) -> Option<Option<MovieTrack>> {
    let mdia = find(trak, b"mdia")?;
    let kind = match find(mdia, b"hdlr")?.get(8..12)? {
        b"vide" => TrackKind::Video,
        b"soun" => TrackKind::Audio,
        _ => return Some(None),
    };
    let mdhd = find(mdia, b"mdhd")?;
    let ticks_per_second = be32(mdhd, if mdhd.first()? == &1 { 20 } else { 12 })?;
    let tkhd = find(trak, b"tkhd")?;
    let size_at = tkhd.len().checked_sub(8)?;
    let stbl = find(find(mdia, b"minf")?, b"stbl")?;
    let stsd_body = find(stbl, b"stsd")?;
    let mut stsd = (u32::try_from(stsd_body.len()).ok()? + 8).to_be_bytes().to_vec();
    stsd.extend_from_slice(b"stsd");
    stsd.extend_from_slice(stsd_body);
    if ticks_per_second == 0 {
        return None;
    }
    let mut samples = parse_samples(stbl, file_bytes)?;
    let mut start =
        find(trak, b"edts").and_then(|edts| find(edts, b"elst")).map_or(Some(0), |elst| edit_start(elst, movie_ticks, ticks_per_second))?;
    let mut ticks_per_second = ticks_per_second;
    to_milliseconds(&mut ticks_per_second, &mut samples, &mut start);
    Some(Some(MovieTrack {
        id: be32(tkhd, if tkhd.first()? == &1 { 20 } else { 12 })?,
        kind,
        ticks_per_second,
        stsd,
        width: be16(tkhd, size_at)?,
        height: be16(tkhd, size_at + 4)?,
        samples,
        start,
        label: parse_label(mdia),
    }))
}

/// Sound of ours has times in whole milliseconds on a finer scale, of which only the length of the last sample needs more: such a track is read as what it
/// is in fragments and in FLV, so that they can be joined.
fn to_milliseconds(ticks_per_second: &mut u32, samples: &mut [MovieSample], start: &mut i64) {
    let ticks_per_ms = *ticks_per_second / 1_000;
    if ticks_per_ms <= 1 || !ticks_per_second.is_multiple_of(1_000) {
        return;
    }
    let (fine, ticks) = (i64::from(ticks_per_ms), u64::from(ticks_per_ms));
    let whole = |sample: &MovieSample| sample.dts.is_multiple_of(ticks) && i64::from(sample.cts) % fine == 0;
    if *start % fine != 0 || !samples.iter().all(whole) {
        return;
    }
    *ticks_per_second = 1_000;
    *start /= fine;
    for sample in samples {
        sample.dts /= ticks;
        sample.cts = (i64::from(sample.cts) / fine) as i32;
        sample.duration = (sample.duration + ticks_per_ms / 2) / ticks_per_ms;
    }
}

/// Movie time of media time 0: empty edits in front, then the first edit with media. Later edits of other writers count as if they followed without a gap.
fn edit_start(elst: &[u8], movie_ticks: u32, ticks_per_second: u32) -> Option<i64> {
    let wide = *elst.first()? == 1;
    let count = be32(elst, 4)? as usize;
    let mut delay = 0_i64;
    for index in 0..count.min(elst.len() / 12) {
        let (duration, media_time) = match wide {
            true => (be64(elst, 8 + 20 * index)?, be64(elst, 16 + 20 * index)? as i64),
            false => (u64::from(be32(elst, 8 + 12 * index)?), i64::from(be32(elst, 12 + 12 * index)? as i32)),
        };
        if media_time >= 0 {
            let delay = i128::from(delay) * i128::from(ticks_per_second) / i128::from(movie_ticks);
            return i64::try_from(delay - i128::from(media_time)).ok();
        }
        delay = delay.checked_add(i64::try_from(duration).ok()?)?;
    }
    Some(0)
}

fn parse_samples(stbl: &[u8], file_bytes: u64) -> Option<Vec<MovieSample>> {
    let stsz = find(stbl, b"stsz")?;
    let (fixed, count) = (be32(stsz, 4)?, be32(stsz, 8)? as usize);
    if count > SAMPLES_MAX || (fixed == 0 && stsz.len() < 12 + 4 * count) {
        return None;
    }
    let mut samples = Vec::with_capacity(count);
    for index in 0..count {
        let bytes = if fixed == 0 { be32(stsz, 12 + 4 * index)? } else { fixed };
        samples.push(MovieSample { offset: 0, bytes, dts: 0, cts: 0, duration: 0, sync: true });
    }
    // Decoding times (8.6.1.2).
    let mut index = 0;
    let mut dts = 0_u64;
    for (run, duration) in pairs(find(stbl, b"stts")?)? {
        for _ in 0..run {
            let Some(sample) = samples.get_mut(index) else { break };
            (sample.dts, sample.duration) = (dts, duration);
            dts = dts.checked_add(u64::from(duration))?;
            index += 1;
        }
    }
    if let Some(ctts) = find(stbl, b"ctts") {
        let mut index = 0;
        for (run, cts) in pairs(ctts)? {
            for _ in 0..run {
                let Some(sample) = samples.get_mut(index) else { break };
                sample.cts = cts as i32;
                index += 1;
            }
        }
    }
    if let Some(stss) = find(stbl, b"stss") {
        samples.iter_mut().for_each(|sample| sample.sync = false);
        for index in 0..(be32(stss, 4)? as usize).min(stss.len() / 4) {
            let number = be32(stss, 8 + 4 * index)? as usize;
            samples.get_mut(number.checked_sub(1)?)?.sync = true;
        }
    }
    place(stbl, &mut samples, file_bytes)?;
    Some(samples)
}

/// Offsets of the samples (8.7.4, 8.7.5); all of them lie in the file.
fn place(stbl: &[u8], samples: &mut [MovieSample], file_bytes: u64) -> Option<()> {
    let (offsets, wide) = match find(stbl, b"stco") {
        Some(stco) => (stco, false),
        None => (find(stbl, b"co64")?, true),
    };
    let chunks = be32(offsets, 4)? as usize;
    let stsc = find(stbl, b"stsc")?;
    let entries = be32(stsc, 4)? as usize;
    let (mut index, mut entry, mut per_chunk) = (0, 0, 0);
    for chunk in 0..chunks {
        if index == samples.len() {
            break;
        }
        if entry < entries && be32(stsc, 8 + 12 * entry)? as usize == chunk + 1 {
            per_chunk = be32(stsc, 12 + 12 * entry)?;
            entry += 1;
        }
        let mut offset = if wide { be64(offsets, 8 + 8 * chunk)? } else { u64::from(be32(offsets, 8 + 4 * chunk)?) };
        for _ in 0..per_chunk {
            let Some(sample) = samples.get_mut(index) else { break };
            sample.offset = offset;
            offset = offset.checked_add(u64::from(sample.bytes))?;
            if offset > file_bytes {
                return None;
            }
            index += 1;
        }
    }
    (index == samples.len()).then_some(())
}

/// Entries of two numbers behind a count.
fn pairs(table: &[u8]) -> Option<impl Iterator<Item = (u32, u32)>> {
    let count = be32(table, 4)? as usize;
    let entries = table.get(8..)?.get(..count.checked_mul(8)?)?;
    Some(entries.chunks_exact(8).map(|entry| {
        let number = |at: usize| u32::from_be_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        (number(0), number(4))
    }))
}

/// Any bytes as a file: read or refused, and what was read lies inside.
pub fn fuzz_movie(data: &[u8]) {
    if let Ok(movie) = read_movie(data) {
        for track in &movie.tracks {
            assert!(track.samples.iter().all(|sample| sample.offset + u64::from(sample.bytes) <= data.len() as u64));
        }
        let _ = super::cut::select(&movie, 1_000, 2_000);
        let _ = super::package::segments(&movie, 4_000);
    }
}
