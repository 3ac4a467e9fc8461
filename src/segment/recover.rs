//! What the last run left behind: blocks of its arena, open recordings, finished files that the catalog had not taken.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::statvfs;

use crate::container::RecordingEnd;
use crate::domain::{FinishedFile, PausedRecording};
use crate::units::{FileId, WallTime};

use super::arena::BlockKind;
use super::aside;
use super::faults;
use super::finish::{self, ClosedFiles, FileReader, FinishError, FinishSettings};
use super::open_record::OpenRecord;
use super::orphans::{OrphanBlock, examine, read_orphans, read_taken};
use super::vital::contained;

/// What recovery did, for one log line and the counters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes that were in the arena of the dead process.
    pub arena_bytes: u64,
    pub finished: u64,
    pub empty: u64,
    pub failed: u64,
    /// Recordings whose stream may still come back.
    pub paused: u64,
    /// Files that were finished but perhaps not in the catalog.
    pub adopted: u64,
}

/// What was there when we started. Taken before anything new is written, so that recovery can run beside the recording.
#[derive(Debug, Default)]
pub struct LeftBehind {
    arenas: Vec<PathBuf>,
    recordings: Vec<FileId>,
    /// Notes of finished files.
    notes: Vec<FileId>,
    /// Notes of files that are in the catalog and have no checksums yet.
    unsummed: Vec<FileId>,
    /// The newest change of any recording: when the last run wrote for the last time.
    died: WallTime,
    paused: Vec<PausedRecording>,
    recovered: Recovered,
}

/// What recovery hands over.
pub enum Found {
    Finished(Box<FinishedFile>),
    /// A recording that is ready to be gone on with.
    Paused(PausedRecording),
    /// An interrupted one that is final: nobody came in time.
    Over(PausedRecording),
}

impl LeftBehind {
    /// Looks into the recording folder and `arena_folder`.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn find(settings: &FinishSettings, arena_folder: &Path) -> io::Result<Self> {
        let mut left = Self::default();
        for entry in std::fs::read_dir(settings.recording_folder())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(id) = name.strip_suffix(".finished").and_then(FileId::parse) {
                left.notes.push(id);
            } else if let Some(id) = name.strip_suffix(".unsummed").and_then(FileId::parse) {
                left.unsummed.push(id);
            } else if let Some(id) = FileId::parse(&name) {
                left.recordings.push(id);
                left.died = left.died.max(newest_change(&settings.recording_folder().join(name))?);
            }
        }
        left.recordings.sort();
        for entry in std::fs::read_dir(arena_folder)? {
            left.arenas.push(entry?.path());
        }
        left.arenas.sort();
        Ok(left)
    }

    /// Interrupted recordings, also those that the end of the last run interrupted, which may be resumed at `now`: they are not finished.
    pub fn find_paused(&mut self, settings: &FinishSettings, now: WallTime) -> &[PausedRecording] {
        let found = self.recordings.iter().filter_map(|id| finish::paused_recording(settings, *id, self.died));
        self.paused = found.filter(|paused| paused.is_in_time(now)).collect();
        &self.paused
    }

    /// What lies in the recording folder: open recordings, and finished ones that the catalog may lack.
    pub fn files(&self) -> impl Iterator<Item = FileId> {
        self.recordings.iter().chain(&self.notes).copied()
    }

    /// Files whose checksums are still to be made.
    pub fn unsummed(&self) -> &[FileId] {
        &self.unsummed
    }

    /// New ids must stay above these.
    pub fn last_file_id(&self) -> Option<FileId> {
        self.recordings.iter().chain(&self.notes).max().copied()
    }
}

/// Blocks of recordings on a disk that is not mounted just now, and arena files that cannot be read; in the first data folder.
pub const KEPT_NAME: &str = "left-behind";

/// The folders into which the arenas of the dead process are written back.
pub struct WriteBack<'a> {
    pub settings: &'a [FinishSettings],
    /// Of the folders.
    pub labels: &'a [&'a str],
    /// What was found in each.
    pub left: &'a mut [LeftBehind],
    /// What belongs to a folder that is not there is kept here until it is. `None`: all are there.
    pub keep_in: Option<PathBuf>,
}

impl WriteBack<'_> {
    /// Writes what the dead process had in memory into its recordings, lets `replay` make files of frames that no file had taken (it returns their
    /// recordings), and removes its arena files: the new ones take their place. What cannot be read is put aside.
    ///
    /// `replay` gets the folders of open recordings, that with the most room first.
    pub fn run(&mut self, mut replay: impl FnMut(Vec<PathBuf>, &Journal) -> io::Result<Vec<FileId>>) {
        let arenas = std::mem::take(&mut self.left[0].arenas);
        for path in arenas {
            if let Err(error) = self.write_back_arena(&path) {
                tracing::warn!(path = %path.display(), %error, "the arena file of the last run is not readable");
            }
            match read_journals(&path) {
                Ok(journals) => journals.iter().for_each(|journal| {
                    let folders = self.by_room().map(|index| self.settings[index].recording_folder()).collect();
                    // What made the last run die must not make this one die.
                    let begun = contained("frames that no file had taken", || replay(folders, journal));
                    match begun.unwrap_or_else(|| Err(io::Error::other("a defect in the server"))) {
                        Ok(begun) => begun.into_iter().for_each(|id| self.note_begun(id)),
                        Err(error) => {
                            self.left[0].recovered.failed += 1;
                            tracing::error!(%error, "frames that no file had taken could not be brought into one");
                        }
                    }
                }),
                Err(error) => tracing::debug!(path = %path.display(), %error, "no frames are taken from the arena file of the last run"),
            }
            self.leave_arena(&path);
        }
        self.write_back_kept();
        for left in &mut *self.left {
            left.recordings.sort();
            left.recordings.dedup();
        }
    }

    /// Everything in the arena file that can be read is in its place.
    fn leave_arena(&mut self, path: &Path) {
        let whole = File::open(path).and_then(|file| examine(&FileReader::new(&file, file.metadata()?.len())));
        let Err(unreadable) = whole else {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "the arena file of the last run could not be removed");
            }
            return;
        };
        match aside::put_aside(path, &self.settings[0].data_folder.join(KEPT_NAME)) {
            Ok(None) => {}
            Ok(Some(kept_in)) => {
                self.left[0].recovered.failed += 1;
                tracing::error!(
                    path = %path.display(),
                    kept_in = %kept_in.display(),
                    error = %unreadable,
                    "an arena file of the last run cannot be read, or not wholly: what it holds of recordings is missing in them; the file is kept"
                );
            }
            Err(error) => {
                self.left[0].recovered.failed += 1;
                tracing::error!(path = %path.display(), %unreadable, %error, "an arena file of the last run cannot be read, nor put aside");
            }
        }
    }

    /// The folders, that with the most room first.
    fn by_room(&self) -> impl Iterator<Item = usize> + use<> {
        let room = |index: &usize| statvfs(&self.settings[*index].data_folder).map_or(0, |state| state.f_bavail.saturating_mul(state.f_frsize));
        let mut order: Vec<usize> = (0..self.settings.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(room(index)));
        order.into_iter()
    }

    /// The folder in which a recording lies open.
    fn folder_of(&self, recording: u64) -> Option<usize> {
        self.settings.iter().position(|settings| settings.recording_folder().join(recording.to_string()).exists())
    }

    fn note_begun(&mut self, recording: FileId) {
        if let Some(index) = self.folder_of(recording.get()) {
            self.left[index].recordings.push(recording);
        }
    }

    /// Opens the files that it had not opened yet, then writes the blocks of an arena file into their recordings.
    fn write_back_arena(&mut self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        let arena = FileReader::new(&file, file.metadata()?.len());
        let mut records = Vec::new();
        read_orphans(&arena, |kind, file| kind == BlockKind::OpenRecord && file != 0, |record| records.push(record))?;
        // A file may lie in the folder of a recording that an earlier one begins.
        records.sort_by_key(|record| record.offset);
        for OrphanBlock { file, part, bytes, .. } in records {
            if let Err(error) = self.open_record(&bytes) {
                self.left[0].recovered.failed += 1;
                tracing::error!(file_id = file, part, %error, "a file that the last run was about to open cannot be opened");
            }
        }
        read_orphans(
            &arena,
            |kind, file| kind == BlockKind::Media && file != 0,
            |block| {
                let OrphanBlock { file, part, offset, ref bytes, .. } = block;
                if let Err(error) = self.write_block(file, part, offset, bytes) {
                    self.left[0].recovered.failed += 1;
                    tracing::error!(file_id = file, part, offset, bytes = bytes.len(), %error, "what the last run had in memory could not be written back");
                }
            },
        )
    }

    fn open_record(&mut self, bytes: &[u8]) -> io::Result<()> {
        let record = OpenRecord::decode(bytes)?;
        let begun = record.folders().find_map(|recording| self.folder_of(recording.get()));
        let own = begun.or_else(|| self.labels.iter().position(|label| *label == record.label));
        // What begins may as well begin on another disk.
        let index = own.or_else(|| if record.is_begin() { self.by_room().next() } else { None });
        let index = index.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its disk is not there"))?;
        let begun = record.carry_out(&self.settings[index].recording_folder())?;
        self.left[index].recordings.extend(begun);
        Ok(())
    }

    fn write_block(&mut self, file: u64, part: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match (self.folder_of(file), &self.keep_in) {
            (Some(index), _) => {
                write_back(&self.settings[index], file, part, offset, bytes)?;
                self.left[index].recovered.arena_bytes += bytes.len() as u64;
                Ok(())
            }
            (None, Some(keep_in)) => {
                tracing::warn!(
                    file_id = file,
                    part,
                    offset,
                    bytes = bytes.len(),
                    "the disk of a recording is not there; what the last run had of it in memory is kept"
                );
                std::fs::create_dir_all(keep_in)?;
                std::fs::write(keep_in.join(format!("{file}-{part}-{offset}")), bytes)
            }
            (None, None) => Err(io::Error::new(io::ErrorKind::NotFound, "the recording is not there")),
        }
    }

    /// Writes back what was kept while a disk was not there.
    fn write_back_kept(&mut self) {
        let folder = self.settings[0].data_folder.join(KEPT_NAME);
        let Ok(entries) = std::fs::read_dir(&folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let numbers: Option<Vec<u64>> = name.split('-').map(|number| number.parse().ok()).collect();
            let Some([file, part, offset]) = numbers.as_deref().and_then(|numbers| <[u64; 3]>::try_from(numbers).ok()) else { continue };
            if self.folder_of(file).is_none() && self.keep_in.is_some() {
                continue;
            }
            match std::fs::read(&path).and_then(|bytes| self.write_block(file, part, offset, &bytes)) {
                Ok(()) => {}
                Err(error) => tracing::error!(path = %path.display(), %error, "what was kept of a recording belongs to none any more"),
            }
            let _ = std::fs::remove_file(&path);
        }
        // Only if nothing is left in it.
        let _ = std::fs::remove_dir(&folder);
    }
}

impl LeftBehind {
    /// [`WriteBack`] where there is one data folder.
    pub fn write_back_arenas(&mut self, settings: &FinishSettings, mut replay: impl FnMut(&Journal) -> io::Result<Vec<FileId>>) {
        let left = std::slice::from_mut(self);
        WriteBack { settings: std::slice::from_ref(settings), labels: &[""], left, keep_in: None }.run(|_, journal| replay(journal));
    }

    /// Finishes every open recording but those that may be resumed, and hands over every file that the catalog may not have.
    ///
    /// What cannot be recovered stays where it is and is counted; nothing here stops the appliance.
    pub fn recover(&self, settings: &FinishSettings, mut found: impl FnMut(Found)) -> Recovered {
        let mut recovered = self.recovered;
        for &file_id in &self.notes {
            // A folder that was not moved yet is finished again below, and its note written anew.
            if settings.recording_folder().join(file_id.to_string()).exists() {
                continue;
            }
            match std::fs::read(finish::note_path(settings, file_id)).and_then(|text| Ok(serde_json::from_slice::<FinishedFile>(&text)?)) {
                Ok(file) => {
                    recovered.adopted += 1;
                    found(Found::Finished(Box::new(file)));
                }
                Err(error) => {
                    recovered.failed += 1;
                    tracing::error!(%file_id, %error, "the note of a finished file is not readable");
                }
            }
        }
        for &file_id in &self.recordings {
            if self.paused.iter().any(|paused| paused.file_id == file_id) {
                continue;
            }
            let paused = finish::paused_recording(settings, file_id, self.died);
            let end = paused.as_ref().map(|paused| RecordingEnd {
                file_id,
                end: paused.end,
                reason: paused.reason,
                shared_with: None,
                receipt: paused.receipt.clone(),
                claim: None,
            });
            match finish::finish_recording(settings, file_id, end.as_ref(), &mut ClosedFiles::new()) {
                Ok(file) => {
                    recovered.finished += 1;
                    found(Found::Finished(Box::new(file)));
                    paused.into_iter().for_each(|paused| found(Found::Over(paused)));
                }
                Err(error) => recovered.count(file_id, &error),
            }
        }
        // Last: their media may be files of the others, which are final now.
        for paused in &self.paused {
            match finish::prepare_resumption(settings, paused.file_id) {
                Ok(()) => {
                    recovered.paused += 1;
                    found(Found::Paused(paused.clone()));
                }
                Err(error) => recovered.count(paused.file_id, &error),
            }
        }
        recovered
    }
}

impl Recovered {
    fn count(&mut self, file_id: FileId, error: &FinishError) {
        match error {
            FinishError::Empty { .. } => self.empty += 1,
            error => {
                self.failed += 1;
                tracing::error!(%file_id, error = error as &dyn std::error::Error, "an open recording of the last run could not be finished");
            }
        }
    }
}

/// When a file in `folder` was last changed.
fn newest_change(folder: &Path) -> io::Result<WallTime> {
    let mut newest = WallTime::default();
    for entry in std::fs::read_dir(folder)? {
        let changed = entry?.metadata()?.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        newest = newest.max(WallTime::from_unix_micros(i64::try_from(changed.as_micros()).unwrap_or(i64::MAX)));
    }
    Ok(newest)
}

/// Frames that no file had taken yet, as they lay in an arena.
#[derive(Debug)]
pub struct Journal {
    /// Which outputs waited for them.
    pub note: Vec<u8>,
    /// Blocks of frames by offset, in order.
    pub log: Vec<(u64, Vec<u8>)>,
    /// The first frame that each writer of media had not taken.
    pub taken: Arc<HashMap<u64, u64>>,
    /// The last part of each HLS recording that was asked for of late.
    pub parts: Arc<HashMap<FileId, u32>>,
}

fn read_journals(path: &Path) -> io::Result<Vec<Journal>> {
    let file = File::open(path)?;
    let arena = FileReader::new(&file, file.metadata()?.len());
    // Of two notes beside one log (it was just being renewed) either will do.
    let mut journals: HashMap<u64, Journal> = HashMap::new();
    let taken = Arc::new(read_taken(&arena)?);
    // Also what was carried out: the note may not know of it.
    let mut parts = HashMap::new();
    read_orphans(
        &arena,
        |kind, _| kind == BlockKind::OpenRecord,
        |record| {
            for (recording, part) in OpenRecord::decode(&record.bytes).iter().flat_map(OpenRecord::parts) {
                let last: &mut u32 = parts.entry(recording).or_default();
                *last = part.max(*last);
            }
        },
    )?;
    let parts = Arc::new(parts);
    let journal = |note| Journal { note, log: Vec::new(), taken: Arc::clone(&taken), parts: Arc::clone(&parts) };
    read_orphans(&arena, |kind, file| kind == BlockKind::Note && file != 0, |note| _ = journals.insert(note.file, journal(note.bytes)))?;
    let logs: HashSet<u64> = journals.keys().copied().collect();
    let of_note = |kind, log: u64| log != 0 && kind == BlockKind::Log && logs.contains(&log);
    read_orphans(&arena, of_note, |block| {
        if let Some(journal) = journals.get_mut(&block.file) {
            journal.log.push((block.offset, block.bytes));
        }
    })?;
    let mut journals: Vec<Journal> = journals.into_values().collect();
    journals.iter_mut().for_each(|journal| journal.log.sort());
    Ok(journals)
}

fn write_back(settings: &FinishSettings, file: u64, part: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let folder = settings.recording_folder().join(file.to_string());
    let prefix = format!("media-{part}.");
    for entry in std::fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            faults::before(faults::Step::Write, &entry.path())?;
            return OpenOptions::new().write(true).open(entry.path())?.write_all_at(bytes, offset);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "the media file is not there"))
}
