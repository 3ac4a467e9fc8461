//! MP4 and QuickTime files of any origin (ISO/IEC 14496-12): the boxes at the top, the tracks of the index, the fragments.

use super::Report;
use super::report::TrackReport;
use crate::container::boxes::{BoxHeader, LARGE_HEADER_BYTES, be16, be32, be64, boxes, find};
use crate::container::{ReadAt, ScanError, TrackSummary, mp4};

/// An index larger than this is not read: half a billion samples.
const MOOV_BYTES_MAX: u64 = 1 << 30;
/// A fragment's header.
const MOOF_BYTES_MAX: u64 = 16 << 20;
/// Boxes at the top that are walked: a day of fragments of a second has 172,800.
const BOXES_MAX: u32 = 10_000_000;
/// Sample tables are walked to this many entries.
const ENTRIES_MAX: usize = 200_000_000;

/// The first box of an MP4 file, or of one that was cut out of one.
pub fn begins(head: &[u8]) -> bool {
    head.get(4..8).is_some_and(|kind| [b"ftyp", b"moov", b"moof", b"styp", b"mdat", b"free", b"skip", b"wide"].iter().any(|known| *known == kind))
}

#[derive(Default)]
struct Found {
    moov: Option<Vec<u8>>,
    moov_at: u64,
    mdat_at: Option<u64>,
    fragments: u64,
    tracks: Vec<Track>,
}

struct Track {
    id: u32,
    timescale: u32,
    report: TrackReport,
    /// Ticks of its fragments.
    fragment_ticks: u64,
}

pub fn explain<R: ReadAt + ?Sized>(file: &R) -> Result<Report, ScanError> {
    let mut report = Report::new("MP4");
    let mut found = Found::default();
    walk(file, &mut found, &mut report)?;
    match &found.moov {
        None if found.fragments > 0 => {
            report.fault("there is no index (moov): the fragments cannot be played without the init segment they belong to")
        }
        None => report.fault("there is no index (moov), so nobody can play it: it was never finished, or the end is missing"),
        Some(_) if found.mdat_at.is_some_and(|mdat_at| mdat_at < found.moov_at) => {
            report.note("The index is behind the media: a player needs the end of the file before it can begin.");
        }
        Some(_) if found.fragments == 0 => report.note("The index is in front: it plays while it is being downloaded."),
        Some(_) => {}
    }
    if found.fragments > 0 {
        report.note(format!("Fragmented: {} fragments.", found.fragments));
    }
    if found.moov.is_some() && found.tracks.iter().all(|track| track.report.summary.frames == 0) {
        report.fault("there is no frame in it");
    }
    for mut track in found.tracks {
        if track.fragment_ticks > 0 {
            track.report.summary.duration_ms += milliseconds(track.fragment_ticks, track.timescale);
        }
        report.tracks.push(track.report);
    }
    ours(file, &mut report);
    Ok(report)
}

/// A file of this recorder can tell more: whether it was finished.
fn ours<R: ReadAt + ?Sized>(file: &R, report: &mut Report) {
    let Ok(scan) = mp4::scan(file, true) else { return };
    let plan = scan.plan;
    let is_final = plan.writes.is_empty() && plan.append.is_empty() && plan.insert.is_none() && plan.truncate_to == file.len();
    if is_final {
        report.note("Written by Capstan, and finished.");
    } else {
        report.note("Written by Capstan and not finished: the appliance finishes it at its next start.");
    }
    if plan.torn_bytes > 0 {
        report.fault(format!("{} bytes at the end belong to no complete frame", plan.torn_bytes));
    }
}

fn walk<R: ReadAt + ?Sized>(file: &R, found: &mut Found, report: &mut Report) -> Result<(), ScanError> {
    let mut at = 0;
    let mut moof: Option<u64> = None;
    for _ in 0..BOXES_MAX {
        if at >= file.len() {
            break;
        }
        let available = file.len() - at;
        let head = read(file, at, LARGE_HEADER_BYTES as u64)?;
        let Some(header) = BoxHeader::parse(&head, available) else {
            let cut = BoxHeader::parse(&head, u64::MAX).filter(|header| header.kind.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' '));
            match cut {
                Some(header) => {
                    let kind = String::from_utf8_lossy(&header.kind).into_owned();
                    report.fault(format!("the box {kind} at byte {at} is cut: {available} of {} bytes are there", header.bytes));
                }
                None => report.fault(format!("the {available} bytes from byte {at} on are no box")),
            }
            break;
        };
        match &header.kind {
            b"moov" if found.moov.is_none() && header.bytes <= MOOV_BYTES_MAX => {
                let moov = read(file, at + header.header_bytes as u64, header.bytes - header.header_bytes as u64)?;
                tracks(&moov, file.len(), found, report);
                (found.moov, found.moov_at) = (Some(moov), at);
            }
            b"moov" => report.fault(format!("a second or oversized index at byte {at}")),
            b"moof" if header.bytes <= MOOF_BYTES_MAX => {
                let body = read(file, at + header.header_bytes as u64, header.bytes - header.header_bytes as u64)?;
                found.fragments += 1;
                fragment(&body, found);
                moof = Some(at);
            }
            b"mdat" => {
                found.mdat_at.get_or_insert(at);
                moof = None;
            }
            _ => {}
        }
        at += header.bytes;
    }
    if let Some(moof) = moof {
        report.fault(format!("the fragment at byte {moof} has no media (mdat) behind it"));
    }
    Ok(())
}

fn read<R: ReadAt + ?Sized>(file: &R, at: u64, bytes: u64) -> Result<Vec<u8>, ScanError> {
    let mut buffer = vec![0; bytes.min(file.len().saturating_sub(at)) as usize];
    let count = file.read_at(at, &mut buffer).map_err(|source| ScanError::Read { offset: at, source })?;
    buffer.truncate(count);
    Ok(buffer)
}

fn tracks(moov: &[u8], file_bytes: u64, found: &mut Found, report: &mut Report) {
    for (kind, trak) in boxes(moov) {
        if &kind != b"trak" {
            continue;
        }
        match track(trak, file_bytes, report) {
            Some(track) => found.tracks.push(track),
            None => report.fault("a track of the index cannot be read"),
        }
    }
}

fn track(trak: &[u8], file_bytes: u64, report: &mut Report) -> Option<Track> {
    let tkhd = find(trak, b"tkhd")?;
    let id = be32(tkhd, if tkhd.first() == Some(&1) { 20 } else { 12 })?;
    let mdia = find(trak, b"mdia")?;
    let mdhd = find(mdia, b"mdhd")?;
    let timescale = be32(mdhd, if mdhd.first() == Some(&1) { 20 } else { 12 })?;
    let kind = match find(mdia, b"hdlr").and_then(|hdlr| hdlr.get(8..12)) {
        Some(b"vide") => "video",
        Some(b"soun") => "audio",
        _ => "other",
    };
    let stbl = find(find(mdia, b"minf")?, b"stbl")?;
    let mut summary = TrackSummary::default();
    if let Some((name, entry)) = find(stbl, b"stsd").and_then(|stsd| boxes(stsd.get(8..)?).next()) {
        summary.codec = codec(&name, entry);
        if kind == "video" {
            (summary.width, summary.height) = (be16(entry, 24).unwrap_or(0).into(), be16(entry, 26).unwrap_or(0).into());
        } else if kind == "audio" {
            summary.channels = be16(entry, 16).unwrap_or(0).min(255) as u8;
            summary.sample_rate_hz = be32(entry, 24).unwrap_or(0) >> 16;
        }
    }
    let table = Table::read(stbl);
    summary.frames = table.samples as u64;
    summary.bytes = table.bytes;
    summary.duration_ms = milliseconds(table.ticks, timescale);
    summary.key_frames = if kind == "video" { table.sync.unwrap_or(table.samples) as u64 } else { 0 };
    if timescale == 0 {
        report.fault(format!("track {id}: the time scale is 0"));
    }
    if table.timed != table.samples as u64 {
        report.fault(format!("track {id}: the index has sizes of {} frames but times of {}", table.samples, table.timed));
    }
    if let Some(missing) = table.beyond(file_bytes) {
        report.fault(format!("track {id}: {missing} of {} frames lie behind the end of the file", table.samples));
    }
    Some(Track { id, timescale, report: TrackReport { kind, summary }, fragment_ticks: 0 })
}

fn codec(name: &[u8; 4], entry: &[u8]) -> String {
    match name {
        b"avc1" | b"avc3" => "h264".to_owned(),
        b"hvc1" | b"hev1" => "hevc".to_owned(),
        b"av01" => "av1".to_owned(),
        b"vp08" => "vp8".to_owned(),
        b"vp09" => "vp9".to_owned(),
        b"vvc1" | b"vvi1" => "vvc".to_owned(),
        b"Opus" => "opus".to_owned(),
        b"fLaC" => "flac".to_owned(),
        b"ac-3" => "ac3".to_owned(),
        b"ec-3" => "eac3".to_owned(),
        b".mp3" => "mp3".to_owned(),
        // The object type stands behind the two descriptors' heads, whose lengths take one to four bytes each.
        b"mp4a" => match entry.get(28..).and_then(|rest| find(rest, b"esds")).and_then(|esds| object_type(esds.get(4..)?)) {
            Some(0x69 | 0x6B) => "mp3".to_owned(),
            _ => "aac".to_owned(),
        },
        other => String::from_utf8_lossy(other).trim().to_owned(),
    }
}

fn object_type(descriptors: &[u8]) -> Option<u8> {
    let behind_length = |bytes: &[u8]| bytes.iter().position(|byte| byte & 0x80 == 0).map(|last| last + 1);
    let rest = descriptors.get(1..)?;
    let rest = rest.get(behind_length(rest)? + 3..)?;
    let rest = rest.get(1..)?;
    rest.get(behind_length(rest)?).copied()
}

/// What the sample tables of a track say (8.6.1, 8.7).
#[derive(Default)]
struct Table<'a> {
    samples: usize,
    bytes: u64,
    ticks: u64,
    timed: u64,
    sync: Option<usize>,
    stsz: &'a [u8],
    stsc: &'a [u8],
    chunks: &'a [u8],
    wide: bool,
}

impl<'a> Table<'a> {
    fn read(stbl: &'a [u8]) -> Self {
        let mut table = Self { stsz: find(stbl, b"stsz").unwrap_or_default(), stsc: find(stbl, b"stsc").unwrap_or_default(), ..Self::default() };
        table.chunks = find(stbl, b"stco").unwrap_or_default();
        if let Some(wide) = find(stbl, b"co64") {
            (table.chunks, table.wide) = (wide, true);
        }
        let same = be32(table.stsz, 4).unwrap_or(0);
        // With one size for all there is no list, and nothing but the other tables bounds the count.
        table.samples = be32(table.stsz, 8).unwrap_or(0) as usize;
        if same == 0 {
            table.samples = table.samples.min(table.stsz.len().saturating_sub(12) / 4);
            table.bytes = (0..table.samples).map(|index| table.size(index)).sum();
        } else {
            table.bytes = table.samples as u64 * u64::from(same);
        }
        for entry in find(stbl, b"stts").unwrap_or_default().get(8..).unwrap_or_default().chunks_exact(8) {
            let (count, delta) = (u64::from(be32(entry, 0).unwrap_or(0)), u64::from(be32(entry, 4).unwrap_or(0)));
            table.timed = table.timed.saturating_add(count);
            table.ticks = table.ticks.saturating_add(count.saturating_mul(delta));
        }
        table.sync = find(stbl, b"stss").map(|stss| stss.len().saturating_sub(8) / 4);
        table
    }

    fn size(&self, index: usize) -> u64 {
        match be32(self.stsz, 4) {
            Some(0) => be32(self.stsz, 12 + 4 * index).unwrap_or(0).into(),
            Some(same) => same.into(),
            None => 0,
        }
    }

    /// How many samples lie behind `end`; `None` if none does.
    fn beyond(&self, end: u64) -> Option<u64> {
        let step = if self.wide { 8 } else { 4 };
        let runs: Vec<(u32, u32)> =
            self.stsc.get(8..).unwrap_or_default().chunks_exact(12).map(|entry| (be32(entry, 0).unwrap_or(0), be32(entry, 4).unwrap_or(0))).collect();
        let (mut sample, mut run, mut beyond) = (0, 0, 0);
        for (index, chunk) in self.chunks.get(8..).unwrap_or_default().chunks_exact(step).enumerate() {
            while runs.get(run + 1).is_some_and(|(first, _)| *first as usize <= index + 1) {
                run += 1;
            }
            let mut at = if self.wide { be64(chunk, 0) } else { be32(chunk, 0).map(u64::from) }.unwrap_or(0);
            for _ in 0..runs.get(run).map_or(0, |(_, samples)| *samples) {
                if sample >= self.samples.min(ENTRIES_MAX) {
                    return (beyond > 0).then_some(beyond);
                }
                at = at.saturating_add(self.size(sample));
                beyond += u64::from(at > end);
                sample += 1;
            }
        }
        // Samples that no chunk holds are nowhere.
        beyond += (self.samples.min(ENTRIES_MAX) - sample) as u64;
        (beyond > 0).then_some(beyond)
    }
}

/// Counts the samples of a fragment (8.8.7, 8.8.8).
fn fragment(moof: &[u8], found: &mut Found) {
    for (_, traf) in boxes(moof).filter(|(kind, _)| kind == b"traf") {
        let Some(tfhd) = find(traf, b"tfhd") else { continue };
        let (Some(flags), Some(id)) = (be32(tfhd, 0), be32(tfhd, 4)) else { continue };
        let Some(track) = found.tracks.iter_mut().find(|track| track.id == id) else { continue };
        // Optional fields in their order: base offset, description, duration, size.
        let mut at = 8 + if flags & 1 != 0 { 8 } else { 0 } + if flags & 2 != 0 { 4 } else { 0 };
        let mut default = |flag: u32| {
            let value = (flags & flag != 0).then(|| be32(tfhd, at)).flatten();
            at += if flags & flag != 0 { 4 } else { 0 };
            value
        };
        let (duration, size) = (default(8), default(16));
        for (_, trun) in boxes(traf).filter(|(kind, _)| kind == b"trun") {
            run(trun, duration, size, track);
        }
    }
}

fn run(trun: &[u8], duration: Option<u32>, size: Option<u32>, track: &mut Track) {
    let (Some(flags), Some(count)) = (be32(trun, 0), be32(trun, 4)) else { return };
    let has = |flag: u32| flags & flag != 0;
    let entry_bytes = 4 * [0x100, 0x200, 0x400, 0x800].into_iter().filter(|flag| has(*flag)).count();
    let head = 8 + 4 * usize::from(has(1)) + 4 * usize::from(has(4));
    let summary = &mut track.report.summary;
    if entry_bytes == 0 {
        let count = u64::from(count.min(ENTRIES_MAX as u32));
        summary.frames = summary.frames.saturating_add(count);
        summary.bytes = summary.bytes.saturating_add(count * u64::from(size.unwrap_or(0)));
        track.fragment_ticks = track.fragment_ticks.saturating_add(count * u64::from(duration.unwrap_or(0)));
    } else {
        for entry in trun.get(head..).unwrap_or_default().chunks_exact(entry_bytes).take(count as usize) {
            let own_duration = has(0x100).then(|| be32(entry, 0)).flatten();
            let own_size = has(0x200).then(|| be32(entry, 4 * usize::from(has(0x100)))).flatten();
            summary.frames += 1;
            summary.bytes = summary.bytes.saturating_add(own_size.or(size).unwrap_or(0).into());
            track.fragment_ticks = track.fragment_ticks.saturating_add(own_duration.or(duration).unwrap_or(0).into());
        }
    }
    // A key frame that begins a run is marked by flags of its own.
    summary.key_frames +=
        u64::from(track.report.kind == "video" && has(4) && be32(trun, 8 + 4 * usize::from(has(1))).is_some_and(|flags| flags & 0x1_0000 == 0));
}

fn milliseconds(ticks: u64, timescale: u32) -> u64 {
    (u128::from(ticks) * 1000 / u128::from(timescale.max(1))).try_into().unwrap_or(u64::MAX)
}
