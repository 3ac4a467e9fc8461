//! What the last run left behind: blocks of its arena, open recordings, finished files that the catalog had not taken.

use std::collections::{HashMap, HashSet};
use std::fs::{DirEntry, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::container::RecordingEnd;
use crate::domain::{FinishedFile, PausedRecording, RecordingIdentity};
use crate::units::{FileId, WallTime};

use super::arena::BlockKind;
use super::aside;
use super::faults;
use super::finish::{self, ClosedFiles, FileReader, FinishError, FinishSettings, FoundOpen};
use super::folders::special_kind;
use super::health::{give_up_ballast, with_ballast};
use super::open_record::OpenRecord;
use super::orphans::{OrphanBlock, examine, read_orphans, read_taken, settle};
use super::space::free_bytes;
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
    /// Open recordings that wait for their disk.
    pub waiting: u64,
}

/// What was there when we started, and what of it is still to be done. Taken before anything new is written, so that recovery can run beside the recording.
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
    /// Recordings of which something waits in an arena: they are not finished before it is where it belongs.
    held: HashSet<FileId>,
    /// The log says already what waits for the disk.
    told: bool,
    /// It was told of these that they wait.
    announced: HashSet<FileId>,
    /// Why something waits.
    trouble: Option<io::Error>,
    last_file_id: Option<FileId>,
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
        let mut left = Self::find_in(settings)?;
        for entry in std::fs::read_dir(arena_folder)? {
            left.arenas.push(entry?.path());
        }
        left.arenas.extend(aside::waiting_in(&settings.data_folder.join(KEPT_NAME)));
        left.arenas.sort();
        Ok(left)
    }

    fn find_in(settings: &FinishSettings) -> io::Result<Self> {
        let mut left = Self::default();
        for entry in std::fs::read_dir(settings.recording_folder())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some((path, kind)) = special_within(&entry) {
                tracing::error!(path = %path.display(), "a {kind} lies in the place of a file: what it belongs to is left as it is until the {kind} is removed");
                left.last_file_id = left.last_file_id.max(FileId::parse(name.split('.').next().unwrap_or_default()));
            } else if let Some(id) = name.strip_suffix(".finished").and_then(FileId::parse) {
                left.notes.push(id);
            } else if let Some(id) = name.strip_suffix(".unsummed").and_then(FileId::parse) {
                left.unsummed.push(id);
            } else if let Some(id) = FileId::parse(&name) {
                left.recordings.push(id);
                // One that cannot be looked at must not keep the others from being finished.
                left.died = left.died.max(newest_change(&settings.recording_folder().join(name)).unwrap_or_default());
            }
        }
        left.recordings.sort();
        Ok(left)
    }

    /// Interrupted recordings, also those that the end of the last run interrupted, which may be resumed at `now`: they are not finished.
    pub fn find_paused(&mut self, settings: &FinishSettings, now: WallTime) -> &[PausedRecording] {
        let whole = self.recordings.iter().filter(|id| !self.held.contains(id));
        let found = whole.filter_map(|id| finish::paused_recording(settings, *id, self.died));
        self.paused = found.filter(|paused| paused.is_in_time(now)).collect();
        &self.paused
    }

    /// Looks into the recording folder of a disk that has just appeared, for what `is_known` does not know.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn find_late(settings: &FinishSettings, is_known: impl Fn(FileId) -> bool) -> io::Result<Self> {
        let mut left = Self::find_in(settings)?;
        left.recordings.retain(|id| !is_known(*id));
        left.notes.retain(|id| !is_known(*id));
        Ok(left)
    }

    /// What a folder that appears late had adds to what waits for it.
    pub fn join(&mut self, other: Self) {
        self.recordings.extend(other.recordings);
        self.recordings.sort();
        self.recordings.dedup();
        self.notes.extend(other.notes);
        self.unsummed = other.unsummed;
        self.died = self.died.max(other.died);
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
        self.recordings.iter().chain(&self.notes).chain(&self.held).max().copied().max(self.last_file_id)
    }

    /// Something can be finished, handed over, or told.
    pub fn has_work(&self) -> bool {
        !self.notes.is_empty() || self.recordings.iter().any(|id| !(self.held.contains(id) && self.announced.contains(id)))
    }

    /// Arena files whose blocks wait for a disk.
    pub fn waiting_arenas(&self) -> &[PathBuf] {
        &self.arenas
    }

    /// Open recordings that are not finished yet.
    pub fn waiting(&self) -> usize {
        self.recordings.len()
    }

    /// The recordings that wait, each once.
    pub fn take_news(&mut self, settings: &FinishSettings) -> Vec<RecordingIdentity> {
        let waiting: Vec<FileId> = self.recordings.iter().filter(|id| self.announced.insert(**id)).copied().collect();
        let identity = |id: FileId| finish::read_identity(&settings.recording_folder().join(id.to_string()), id).ok();
        waiting.into_iter().filter_map(identity).collect()
    }

    /// Why something waits, since this was asked the last time.
    pub fn take_trouble(&mut self) -> Option<io::Error> {
        self.trouble.take()
    }
}

/// Recordings that are synced together: two calls for all of them. The catalog hears of them as they come.
const GROUP: usize = 64;

/// Arena files that cannot be read, or whose blocks wait for their disk; in the first data folder.
pub const KEPT_NAME: &str = "left-behind";

/// Frames that could not be brought into files now; `recordings` may have begun for them.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unreplayed {
    pub error: io::Error,
    pub recordings: Vec<FileId>,
}

impl From<io::Error> for Unreplayed {
    fn from(error: io::Error) -> Self {
        Self { error, recordings: Vec::new() }
    }
}

/// The folders into which the arenas of the dead process are written back.
pub struct WriteBack<'a> {
    pub settings: &'a [FinishSettings],
    /// Of the folders.
    pub labels: &'a [&'a str],
    /// What was found in each.
    pub left: &'a mut [LeftBehind],
    /// Every folder is there that was ever used: what belongs to none of them is lost.
    pub all_there: bool,
}

/// How it went with an arena file.
#[derive(Default)]
struct Pass {
    /// Blocks that are where they belong, or belong nowhere.
    done: HashSet<usize>,
    /// Those that are not, and their bytes.
    blocks: u64,
    bytes: u64,
    /// Recordings that they belong to.
    held: HashSet<FileId>,
    error: Option<io::Error>,
}

impl Pass {
    fn wait(&mut self, bytes: usize, recordings: impl IntoIterator<Item = FileId>, error: io::Error) {
        self.blocks += 1;
        self.bytes += bytes as u64;
        self.held.extend(recordings);
        self.error.get_or_insert(error);
    }
}

impl WriteBack<'_> {
    /// Writes what the dead process had in memory into its recordings, lets `replay` make files of frames that no file had taken (it returns their
    /// recordings), and removes its arena files: the new ones take their place. What cannot be read is put aside. What a disk does not take is kept, and so
    /// are the recordings it belongs to: to be called again.
    ///
    /// `replay` gets the folders of open recordings, that with the most room first.
    pub fn run(&mut self, mut replay: impl FnMut(Vec<PathBuf>, &Journal) -> Result<Vec<FileId>, Unreplayed>) {
        let mut held = HashSet::new();
        // Each found the same ones.
        let arenas = std::mem::take(&mut self.left[0].arenas);
        self.left.iter_mut().for_each(|left| left.arenas.clear());
        for path in arenas {
            let mut pass = Pass { held: std::mem::take(&mut held), ..Pass::default() };
            if let Err(error) = self.write_back_arena(&path, &mut pass, &mut replay) {
                tracing::warn!(path = %path.display(), %error, "the arena file of the last run is not readable");
            }
            if pass.blocks == 0 {
                self.leave_arena(&path);
            } else {
                self.keep_arena(&path, &mut pass);
            }
            held = pass.held;
        }
        for (settings, left) in self.settings.iter().zip(&mut *self.left) {
            left.recordings.sort();
            left.recordings.dedup();
            left.held = if held.is_empty() { HashSet::new() } else { with_shared(&settings.recording_folder(), &held) };
        }
    }

    /// What of it is done is settled, the rest waits.
    fn keep_arena(&mut self, path: &Path, pass: &mut Pass) {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let settled = opened.and_then(|file| {
            let length = file.metadata()?.len();
            settle(&file, &FileReader::new(&file, length), &pass.done)
        });
        if let Err(error) = settled {
            tracing::warn!(path = %path.display(), %error, "what was written back of an arena file is written again");
        }
        let kept_in = aside::keep_waiting(path, &self.settings[0].data_folder.join(KEPT_NAME)).unwrap_or_else(|error| {
            tracing::error!(path = %path.display(), %error, "an arena file of the last run cannot be kept");
            path.to_owned()
        });
        let left = &mut self.left[0];
        let Pass { blocks, bytes, error, .. } = pass;
        if let Some(error) = error.take() {
            if left.told {
                tracing::debug!(%error, blocks, bytes, "what the last run had in memory is still not taken");
            } else {
                let (recordings, kept_in) = (pass.held.len(), kept_in.display());
                tracing::error!(%error, blocks, bytes, recordings, %kept_in, "what the last run had in memory is not taken by its disk: it is kept, and tried again");
            }
        }
        left.told = true;
        left.arenas.push(kept_in);
    }

    /// Everything in the arena file that can be read is in its place.
    fn leave_arena(&mut self, path: &Path) {
        let whole = File::open(path).and_then(|file| examine(&FileReader::new(&file, file.metadata()?.len())));
        let Err(unreadable) = whole else {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "the arena file of the last run could not be removed");
            }
            // Only if nothing else is kept.
            let _ = std::fs::remove_dir(self.settings[0].data_folder.join(KEPT_NAME));
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
        let room = |index: &usize| free_bytes(&self.settings[*index].data_folder).unwrap_or(0);
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

    /// Opens the files that it had not opened yet, writes the blocks of an arena file into their recordings, and replays its frames.
    fn write_back_arena(
        &mut self,
        path: &Path,
        pass: &mut Pass,
        replay: &mut impl FnMut(Vec<PathBuf>, &Journal) -> Result<Vec<FileId>, Unreplayed>,
    ) -> io::Result<()> {
        let file = File::open(path)?;
        let arena = FileReader::new(&file, file.metadata()?.len());
        let mut records = Vec::new();
        read_orphans(&arena, |kind, file| kind == BlockKind::OpenRecord && file != 0, |record| records.push(record))?;
        // A file may lie in the folder of a recording that an earlier one begins.
        records.sort_by_key(|record| record.offset);
        for OrphanBlock { unit, file, part, bytes, .. } in records {
            let Err(error) = self.open_record(&bytes) else {
                pass.done.insert(unit);
                continue;
            };
            let recordings: Vec<FileId> = OpenRecord::decode(&bytes).map(|record| record.recordings().collect()).unwrap_or_default();
            if self.is_lost(&error, recordings.iter().any(|id| pass.held.contains(id))) {
                pass.done.insert(unit);
                self.left[0].recovered.failed += 1;
                tracing::error!(file_id = file, part, %error, "a file that the last run was about to open cannot be opened");
            } else {
                pass.wait(bytes.len(), recordings, error);
            }
        }
        read_orphans(
            &arena,
            |kind, file| kind == BlockKind::Media && file != 0,
            |block| {
                let OrphanBlock { unit, file, part, offset, ref bytes, .. } = block;
                let Err(error) = self.write_block(file, part, offset, bytes) else {
                    pass.done.insert(unit);
                    return;
                };
                let recording = FileId::new(file);
                if self.is_lost(&error, recording.is_some_and(|id| pass.held.contains(&id))) {
                    pass.done.insert(unit);
                    self.left[0].recovered.failed += 1;
                    tracing::error!(file_id = file, part, offset, bytes = bytes.len(), %error, "what the last run had in memory could not be written back");
                } else {
                    pass.wait(bytes.len(), recording, error);
                }
            },
        )?;
        let journals = read_journals(&arena).inspect_err(|error| {
            tracing::debug!(path = %path.display(), %error, "no frames are taken from the arena file of the last run");
        });
        for journal in journals.unwrap_or_default() {
            let order: Vec<usize> = self.by_room().collect();
            let attempt = || {
                let folders = order.iter().map(|index| self.settings[*index].recording_folder()).collect();
                // What made the last run die must not make this one die.
                let begun = contained("frames that no file had taken", || replay(folders, &journal));
                begun.unwrap_or_else(|| Err(io::Error::other("a defect in the server").into()))
            };
            let is_no_space = |unreplayed: &Unreplayed| unreplayed.error.kind() == io::ErrorKind::StorageFull;
            match with_ballast(&self.settings[order[0]].data_folder, is_no_space, attempt) {
                Ok(begun) => begun.into_iter().for_each(|id| self.note_begun(id)),
                Err(Unreplayed { error, recordings }) if !self.is_lost(&error, recordings.iter().any(|id| pass.held.contains(id))) => {
                    self.note_trouble(order[0], &error);
                    pass.wait(journal.log.iter().map(|(_, bytes)| bytes.len()).sum(), recordings, error);
                    continue;
                }
                Err(Unreplayed { error, .. }) => {
                    self.left[0].recovered.failed += 1;
                    tracing::error!(%error, "frames that no file had taken could not be brought into one");
                }
            }
            pass.done.extend(journal.units);
        }
        Ok(())
    }

    /// Does it make no sense to try again? `is_held`: something before it waits still.
    fn is_lost(&self, error: &io::Error, is_held: bool) -> bool {
        match error.kind() {
            io::ErrorKind::NotFound => self.all_there && !is_held,
            // What cannot be read, and defects.
            io::ErrorKind::InvalidData | io::ErrorKind::Other => error.raw_os_error().is_none(),
            _ => false,
        }
    }

    fn note_trouble(&mut self, index: usize, error: &io::Error) {
        self.left[index].trouble.get_or_insert_with(|| said(error));
    }

    /// Does something on the disk of folder `index`, with the ballast if need be.
    fn act_on<T>(&mut self, index: usize, act: impl Fn(&FinishSettings) -> io::Result<T>) -> io::Result<T> {
        let settings = &self.settings[index];
        let is_no_space = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
        with_ballast(&settings.data_folder, is_no_space, || act(settings)).inspect_err(|error| self.note_trouble(index, error))
    }

    fn open_record(&mut self, bytes: &[u8]) -> io::Result<()> {
        let record = OpenRecord::decode(bytes)?;
        let begun = record.folders().find_map(|recording| self.folder_of(recording.get()));
        let own = begun.or_else(|| self.labels.iter().position(|label| *label == record.label));
        // What begins may as well begin on another disk.
        let index = own.or_else(|| if record.is_begin() { self.by_room().next() } else { None });
        let index = index.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its disk is not there"))?;
        let begun = self.act_on(index, |settings| record.carry_out(&settings.recording_folder()))?;
        self.left[index].recordings.extend(begun);
        Ok(())
    }

    fn write_block(&mut self, file: u64, part: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Some(index) = self.folder_of(file) else { return Err(io::Error::new(io::ErrorKind::NotFound, "the recording is not there")) };
        self.act_on(index, |settings| write_back(settings, file, part, offset, bytes))?;
        self.left[index].recovered.arena_bytes += bytes.len() as u64;
        Ok(())
    }
}

/// What the system said, once more.
fn said(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::from(error.kind()), io::Error::from_raw_os_error)
}

/// `held`, and those recordings in the folder that share a media file with one of them.
fn with_shared(recording: &Path, held: &HashSet<FileId>) -> HashSet<FileId> {
    let mut held = held.clone();
    let mut shared: HashMap<(u64, u64), Vec<FileId>> = HashMap::new();
    for entry in std::fs::read_dir(recording).into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(FileId::parse) else { continue };
        for file in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            if let Ok(metadata) = file.metadata()
                && metadata.nlink() > 1
            {
                shared.entry((metadata.dev(), metadata.ino())).or_default().push(id);
            }
        }
    }
    let groups: Vec<Vec<FileId>> = shared.into_values().collect();
    loop {
        let before = held.len();
        groups
            .iter()
            .filter(|group| group.iter().any(|id| held.contains(id)))
            .flatten()
            .copied()
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|id| _ = held.insert(id));
        if held.len() == before {
            return held;
        }
    }
}

impl LeftBehind {
    /// [`WriteBack`] where there is one data folder.
    pub fn write_back_arenas(&mut self, settings: &FinishSettings, mut replay: impl FnMut(&Journal) -> Result<Vec<FileId>, Unreplayed>) {
        let left = std::slice::from_mut(self);
        WriteBack { settings: std::slice::from_ref(settings), labels: &[""], left, all_there: true }.run(|_, journal| replay(journal));
    }

    /// Finishes every open recording but those that may be resumed and those of which something waits in an arena, and hands over every file that the catalog
    /// may not have.
    ///
    /// What cannot be recovered stays where it is and is counted; nothing here stops the appliance. What its disk does not take is left for the next call.
    pub fn recover(&mut self, settings: &FinishSettings, mut found: impl FnMut(Found)) -> Recovered {
        self.last_file_id = self.last_file_id();
        let mut recovered = std::mem::take(&mut self.recovered);
        for file_id in std::mem::take(&mut self.notes) {
            // A folder that was not moved yet is finished again below, and its note written anew.
            if settings.recording_folder().join(file_id.to_string()).exists() {
                continue;
            }
            match std::fs::read(finish::note_path(settings, file_id)).and_then(|text| Ok(serde_json::from_slice::<FinishedFile>(&text)?)) {
                Ok(file) => {
                    recovered.adopted += 1;
                    found(Found::Finished(Box::new(file)));
                }
                // Entered, or deleted, since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    recovered.failed += 1;
                    tracing::error!(%file_id, %error, "the note of a finished file is not readable");
                }
            }
        }
        let paused_ones = std::mem::take(&mut self.paused);
        let (mut waiting, mut whole) = (Vec::new(), Vec::new());
        for file_id in std::mem::take(&mut self.recordings) {
            if paused_ones.iter().any(|paused| paused.file_id == file_id) {
                continue;
            }
            if self.held.contains(&file_id) { waiting.push(file_id) } else { whole.push(file_id) }
        }
        for group in whole.chunks(GROUP) {
            self.finish_group(settings, group, &mut waiting, &mut recovered, &mut found);
        }
        // Last: their media may be files of the others, which are final now.
        for paused in paused_ones {
            match finish::prepare_resumption(settings, paused.file_id) {
                Ok(()) => {
                    recovered.paused += 1;
                    found(Found::Paused(paused));
                }
                Err(error) => recovered.count(paused.file_id, &error),
            }
        }
        recovered.waiting = waiting.len() as u64;
        self.recordings = waiting;
        self.told = true;
        recovered
    }

    /// Finishes recordings, and adds those to `waiting` that their disk does not take.
    fn finish_group(
        &mut self,
        settings: &FinishSettings,
        group: &[FileId],
        waiting: &mut Vec<FileId>,
        recovered: &mut Recovered,
        found: &mut impl FnMut(Found),
    ) {
        let paused = |file_id: &FileId| finish::paused_recording(settings, *file_id, self.died);
        let mut over: Vec<Option<PausedRecording>> = group.iter().map(paused).collect();
        let end = |file_id: FileId, paused: &PausedRecording| RecordingEnd {
            file_id,
            end: paused.end,
            reason: paused.reason,
            shared_with: None,
            receipt: paused.receipt.clone(),
            claim: None,
        };
        let open = |(file_id, paused): (&FileId, &Option<PausedRecording>)| FoundOpen {
            file_id: *file_id,
            end: paused.as_ref().map(|paused| end(*file_id, paused)),
        };
        let open: Vec<FoundOpen> = group.iter().zip(&over).map(open).collect();
        let mut has_given_up_ballast = false;
        for ((open, over), finished) in open.iter().zip(&mut over).zip(finish::finish_found(settings, &open)) {
            let finished = match finished {
                // There is ballast for this.
                Err(error) if error.is_no_space() => {
                    has_given_up_ballast |= give_up_ballast(&settings.data_folder);
                    if has_given_up_ballast {
                        finish::finish_recording(settings, open.file_id, open.end.as_ref(), &mut ClosedFiles::new())
                    } else {
                        Err(error)
                    }
                }
                finished => finished,
            };
            match finished {
                Ok(file) => {
                    recovered.finished += 1;
                    found(Found::Finished(Box::new(file)));
                    over.take().into_iter().for_each(|paused| found(Found::Over(paused)));
                }
                Err(error) if error.is_of_the_disk() => {
                    self.note_waiting(open.file_id, error);
                    waiting.push(open.file_id);
                }
                Err(error) => recovered.count(open.file_id, &error),
            }
        }
    }

    fn note_waiting(&mut self, file_id: FileId, error: FinishError) {
        if self.told {
            tracing::debug!(%file_id, error = &error as &dyn std::error::Error, "an open recording of the last run can still not be finished");
        } else {
            tracing::error!(%file_id, error = &error as &dyn std::error::Error, "an open recording of the last run cannot be finished now; tried again");
        }
        if let Some(error) = error.io() {
            self.trouble.get_or_insert_with(|| said(error));
        }
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

/// What of an entry of the recording folder would keep whoever opens it waiting.
fn special_within(entry: &DirEntry) -> Option<(PathBuf, &'static str)> {
    let kind = |entry: &DirEntry| Some((entry.path(), special_kind(entry.file_type().ok()?)?));
    // What is no folder has no entries.
    kind(entry).or_else(|| std::fs::read_dir(entry.path()).ok()?.flatten().find_map(|entry| kind(&entry)))
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
    /// Where note and log lie in the arena.
    units: Vec<usize>,
}

fn read_journals(arena: &FileReader<'_>) -> io::Result<Vec<Journal>> {
    // Of two notes beside one log (it was just being renewed) either will do.
    let mut journals: HashMap<u64, Journal> = HashMap::new();
    let taken = Arc::new(read_taken(arena)?);
    // Also what was carried out: the note may not know of it.
    let mut parts = HashMap::new();
    read_orphans(
        arena,
        |kind, _| kind == BlockKind::OpenRecord,
        |record| {
            for (recording, part) in OpenRecord::decode(&record.bytes).iter().flat_map(OpenRecord::parts) {
                let last: &mut u32 = parts.entry(recording).or_default();
                *last = part.max(*last);
            }
        },
    )?;
    let parts = Arc::new(parts);
    let journal = |note: OrphanBlock| Journal {
        note: note.bytes,
        log: Vec::new(),
        taken: Arc::clone(&taken),
        parts: Arc::clone(&parts),
        units: vec![note.unit],
    };
    read_orphans(
        arena,
        |kind, file| kind == BlockKind::Note && file != 0,
        |note| {
            let log = note.file;
            let before = journals.insert(log, journal(note));
            if let (Some(before), Some(journal)) = (before, journals.get_mut(&log)) {
                journal.units.extend(before.units);
            }
        },
    )?;
    let logs: HashSet<u64> = journals.keys().copied().collect();
    let of_note = |kind, log: u64| log != 0 && kind == BlockKind::Log && logs.contains(&log);
    read_orphans(arena, of_note, |block| {
        if let Some(journal) = journals.get_mut(&block.file) {
            journal.units.push(block.unit);
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
