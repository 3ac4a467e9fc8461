//! What has to be true when all is over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use capstan::domain::RecordingSource;
use capstan::units::{FileId, Format};

use crate::Simulation;
use crate::contents::Contents;
use crate::life::{rule, task};
use crate::marks::{Handed, Kind, Mark, Truth};
use crate::store::entries;

/// A task that begins in the past begins at most so long after the moment asked for: what came late counts from when it came.
const PAST_LATE_MS: i64 = 3_500;

/// What came to pass, so that no part of the simulation goes to sleep unseen.
#[derive(Default, Debug, Clone, Copy)]
pub struct Seen {
    files: u64,
    frames: u64,
    /// Files that hold two publications.
    resumed: u64,
    /// Recordings by task that begin before it was there.
    past: u64,
    ring_files: u64,
    sealed: u64,
    /// Publications on more than one disk.
    moved: u64,
    /// Frames of further tracks, and words.
    beside: u64,
    index_inserted: u64,
    index_at_end: u64,
}

impl Seen {
    pub fn has_all(&self) -> bool {
        let Self { files, frames, resumed, past, ring_files, sealed, moved, beside, index_inserted: _, index_at_end } = *self;
        // Room inside a file is not made on every file system.
        [files, frames, resumed, past, ring_files, sealed, moved, beside, index_at_end].iter().all(|count| *count > 0)
    }
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.frames += other.frames;
        self.resumed += other.resumed;
        self.past += other.past;
        self.ring_files += other.ring_files;
        self.sealed += other.sealed;
        self.moved += other.moved;
        self.beside += other.beside;
        self.index_inserted += other.index_inserted;
        self.index_at_end += other.index_at_end;
    }
}

impl Simulation {
    pub fn check(&self) -> Seen {
        self.check_folders();
        let contents = self.read_all();
        let mut seen = Seen { files: contents.len() as u64, ..Seen::default() };
        for one in &contents {
            check_file(one);
            let publications: BTreeSet<u32> = one.marks.iter().map(|mark| mark.publication).collect();
            seen.frames += one.marks.len() as u64;
            seen.resumed += u64::from(publications.len() > 1);
            seen.ring_files += u64::from(one.file.identity.source == RecordingSource::Ring);
            seen.sealed += u64::from(one.sealed);
            seen.beside += one.marks.iter().filter(|mark| !mark.kind.is_first()).count() as u64;
            seen.index_inserted += u64::from(one.large_index == Some(true));
            seen.index_at_end += u64::from(one.large_index == Some(false));
        }
        let mut missing = BTreeMap::<u64, (u64, u64)>::new();
        for truth in &self.truths {
            let truth = truth.borrow();
            let disks = self.used.borrow().disks(truth.life, &truth.key);
            seen.moved += u64::from(disks.len() > 1);
            let is_troubled = |disk: &usize| self.troubled.contains(&(truth.life, *disk));
            // Its files were on a disk that was not well, or there was none that was.
            let may_lack = truth.short || disks.iter().any(is_troubled) || (0..self.finish.len()).all(|disk| is_troubled(&disk));
            let (in_no_file, counted) = missing.entry(truth.life).or_default();
            *in_no_file += self.check_publication(&truth, may_lack, &contents, &mut seen);
            if !self.clock_was_set {
                check_resumption(&truth, &contents);
            }
            // MP4 and HLS from one write lose a frame together: it is counted once.
            let pair = !self.transport_stream && truth.formats.contains(&Format::Mp4) && truth.formats.contains(&Format::Hls);
            *counted += truth.lost.unwrap_or_default() * (1 + u64::from(pair));
        }
        // What an orderly process lost, it has counted; a killed one has no counters left, what is interrupted is counted when it ends, and what
        // cannot be read of the past is told and not counted.
        for (life, unwritten) in &self.unwritten {
            let outlives = self.truths.iter().any(|truth| truth.borrow().outlives);
            let past = self.truths.iter().any(|truth| truth.borrow().task.is_some_and(|span| span.since.is_some()));
            let (in_no_file, counted) = missing.get(life).copied().unwrap_or_default();
            assert!(
                in_no_file <= counted + unwritten || outlives || past,
                "life {life}: {in_no_file} frames are in no file; {counted} are counted by recorders, {unwritten} by the disk"
            );
        }
        seen
    }

    fn check_folders(&self) {
        for (index, settings) in self.finish.iter().enumerate() {
            let recording: Vec<_> = std::fs::read_dir(settings.recording_folder()).expect("listed").flatten().map(|entry| entry.path()).collect();
            assert!(recording.is_empty(), "left in the recording folder: {recording:?}");
            let days = std::fs::read_dir(settings.media_folder()).expect("listed").flatten();
            let lying = days.flat_map(|day| std::fs::read_dir(day.path()).expect("listed").flatten());
            let lying: BTreeSet<FileId> = lying.filter_map(|entry| FileId::parse(entry.file_name().to_str()?)).collect();
            let known: BTreeSet<FileId> = entries(&self.catalog).iter().filter(|(_, (disk, _))| *disk == index).map(|(id, _)| *id).collect();
            assert_eq!(lying, known, "what lies on disk {index} is what the catalog knows");
        }
    }

    /// Returns how many frames are missing in all its files.
    fn check_publication(&self, truth: &Truth, may_lack: bool, contents: &[Contents], seen: &mut Seen) -> u64 {
        let mut missing_in_all = 0;
        for &format in &truth.formats {
            let of_rule = of_source(contents, truth, format, &rule());
            let what = format!("publication {} {format:?}", truth.number);
            let holds = |one: &&&Contents| one.marks.iter().any(|mark| mark.publication == truth.number);
            assert!(of_rule.iter().filter(holds).all(|one| one.sealed == truth.sealed), "{what}: what is to be encrypted is, and nothing else");
            let wanted = truth.wanted(format, &truth.frames);
            missing_in_all += check_tracks(&what, truth, (&wanted, &[]), &of_rule, may_lack);
            check_beside(&what, truth, &of_rule, may_lack);
            if let Some(span) = truth.task {
                let of_task = of_source(contents, truth, format, &task());
                let to = span.to.unwrap_or(truth.frames.len());
                // It begins with the group of pictures that was in memory, or in the past.
                let marks = of_task.iter().flat_map(|one| &one.marks).filter(|mark| mark.kind.is_first() && mark.publication == truth.number);
                let first = marks.min_by_key(|mark| truth.position(mark)).map_or(span.from, |mark| truth.position(mark));
                let wanted = truth.wanted(format, &truth.frames[first.min(span.from)..to.max(first.min(span.from))]);
                // What a session was to take of the past lies in the ring.
                let may_lack = may_lack || (span.since.is_some() && truth.lost.is_none());
                // One that ends while it is in the past ends with the time of the newest frame, which one of the other track may not have reached.
                let newest_ms = truth.frames[..to].iter().map(|frame| frame.dts_ms).max().unwrap_or_default();
                let more: Vec<Handed> = truth.frames[to..].iter().copied().filter(|frame| frame.dts_ms <= newest_ms).collect();
                let more = if span.since.is_some() { truth.wanted(format, &more) } else { Vec::new() };
                missing_in_all += check_tracks(&format!("{what} by task"), truth, (&wanted, &more), &of_task, may_lack);
                seen.past += u64::from(first < span.from && span.since.is_some());
                if let Some(since) = span.since.filter(|_| !may_lack && !self.clock_was_set && !of_task.is_empty()) {
                    let latest = since.unix_millis() + PAST_LATE_MS;
                    let begin = truth.frames.iter().position(|frame| frame.begins).unwrap_or_default();
                    let (Some(first), begins) = (truth.frames.get(first), first <= begin + 60) else { continue };
                    assert!(first.wall.unix_millis() <= latest || begins, "{what}: the task of {since:?} begins at {first:?}");
                }
            }
        }
        if truth.ringed {
            let of_ring = of_source(contents, truth, Format::Hls, &RecordingSource::Ring);
            let wanted = truth.wanted(Format::Hls, &truth.frames);
            check_tracks(&format!("ring of publication {}", truth.number), truth, (&wanted, &[]), &of_ring, may_lack);
        }
        missing_in_all
    }
}

/// The files of a publication's stream that were recorded for `source`.
fn of_source<'a>(contents: &'a [Contents], truth: &Truth, format: Format, source: &RecordingSource) -> Vec<&'a Contents> {
    let is_of = |one: &&Contents| {
        let identity = &one.file.identity;
        identity.key == truth.key && identity.format == format && identity.source == *source
    };
    contents.iter().filter(is_of).collect()
}

/// A file holds one publication, or, if it outlives interruptions, one after the other.
fn check_file(one: &Contents) {
    let identity = &one.file.identity;
    let mut last = BTreeMap::<Kind, Mark>::new();
    let mut publications = BTreeSet::new();
    for mark in &one.marks {
        publications.insert(mark.publication);
        // Words stand in an MP4 file for players and once more for whoever reads tracks.
        if let Some(before) = last.insert(mark.kind, *mark)
            && mark.kind != Kind::Data
        {
            assert!(before < *mark, "{identity:?}: {mark:?} comes behind {before:?}");
        }
    }
    assert!(publications.len() <= 1 || identity.resume.is_some(), "{identity:?} holds {publications:?}");
}

/// Every wanted frame is in exactly one file, in its order; `more` may be there, too. Returns how many are in none.
fn check_tracks(what: &str, truth: &Truth, (wanted, more): (&[Mark], &[Mark]), files: &[&Contents], may_lack: bool) -> u64 {
    let mut missing = 0;
    for kind in [Kind::Picture, Kind::Sound] {
        let wanted: Vec<Mark> = wanted.iter().filter(|mark| mark.kind == kind).copied().collect();
        let found = found(what, truth, kind, files);
        let in_hand = truth.in_hand.map(|frame| frame.mark);
        let is_strange = |mark: &&Mark| wanted.binary_search(mark).is_err() && Some(**mark) != in_hand && !more.contains(mark);
        let strange: Vec<&Mark> = found.iter().filter(is_strange).collect();
        assert!(strange.is_empty(), "{what}: {strange:?} were not handed over");
        let lost: Vec<&Mark> = wanted.iter().filter(|mark| found.binary_search(mark).is_err()).collect();
        assert!(lost.is_empty() || may_lack, "{what}: {} of {} are in no file: {:?}...", lost.len(), wanted.len(), &lost[..lost.len().min(5)]);
        missing += lost.len() as u64;
    }
    missing
}

/// All marks of a kind in the files of a publication, which stand in order and in one file each.
fn found(what: &str, truth: &Truth, kind: Kind, files: &[&Contents]) -> Vec<Mark> {
    let of_kind = |one: &&Contents| {
        let mut marks: Vec<Mark> = one.marks.iter().filter(|mark| mark.kind == kind && mark.publication == truth.number).copied().collect();
        if kind == Kind::Data {
            marks.sort();
            marks.dedup();
        }
        marks
    };
    let mut files: Vec<Vec<Mark>> = files.iter().map(of_kind).collect();
    files.retain(|marks| !marks.is_empty());
    files.sort();
    let found: Vec<Mark> = files.concat();
    for pair in found.windows(2) {
        assert!(pair[0] < pair[1], "{what}: {:?} comes behind {:?}", pair[1], pair[0]);
    }
    found
}

/// Further tracks, and words, are in the formats that have a place for them, from the first frame of the first file on.
fn check_beside(what: &str, truth: &Truth, files: &[&Contents], may_lack: bool) {
    for kind in [Kind::FurtherPicture, Kind::FurtherSound, Kind::Data] {
        let found = found(what, truth, kind, files);
        let mut of_publication = files.iter().filter(|one| one.marks.iter().any(|mark| mark.publication == truth.number));
        let holds = of_publication.any(|one| match one.file.identity.format {
            Format::Flv | Format::Mp4 => true,
            Format::Hls => !one.transport_stream || (kind == Kind::Data && !one.sealed),
            Format::Aac | Format::Mp3 => false,
        });
        if !holds || may_lack {
            continue;
        }
        let wanted = truth.beside.iter().filter(|(frame, before)| frame.mark.kind == kind && *before > 0);
        let lost: Vec<Mark> = wanted.map(|(frame, _)| frame.mark).filter(|mark| found.binary_search(mark).is_err()).collect();
        assert!(lost.is_empty(), "{what}: {} are in no file: {:?}...", lost.len(), &lost[..lost.len().min(5)]);
    }
}

/// A stream that came back in time goes on in the file that waited for it.
fn check_resumption(truth: &Truth, contents: &[Contents]) {
    let Some(before) = truth.resumes.filter(|_| truth.formats.contains(&Format::Hls) && truth.lost.is_some()) else { return };
    let files = of_source(contents, truth, Format::Hls, &rule());
    let first = files
        .iter()
        .filter_map(|one| one.marks.iter().filter(|mark| mark.publication == truth.number).min().map(|mark| (mark, *one)))
        .min_by_key(|(mark, _)| **mark);
    let Some((_, first)) = first else { return };
    let holds_before = |one: &&&Contents| one.marks.iter().any(|mark| mark.publication == before);
    if files.iter().any(|one| holds_before(&one)) {
        assert!(holds_before(&&first), "publication {} of {} does not go on with {before}: {:?}", truth.number, truth.key, first.file.identity);
    }
}
