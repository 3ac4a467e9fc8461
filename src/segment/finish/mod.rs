//! Turning a recording's folder into a finished file: the same code at the end of a recording and after a crash.
//!
//! Order that never changes: media scanned, indexed and synced; folder under its final name, synced; then the catalog. A note beside the recordings
//! (`<FileId>.finished`) stands until the catalog has the file, so that a crash in between loses no entry.

mod identity;
mod media;
mod playlist;
mod resumption;
mod scan;
mod summary;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;

use crate::container::hls::LIVE_PLAYLIST_NAME;
use crate::container::mp4::Fragment;
use crate::container::{MediaPath, MediaSummary, RecordingEnd, ScanError, Scanned};
use crate::domain::naming::disk_slug;
use crate::domain::receipt::{Damage, MediaChecksum};
use crate::domain::{EndReason, FinishedFile, Receipt, RecordingIdentity};
use crate::units::{FileId, Format, WallTime};

use super::checksum::Running;
use super::faults;
use super::headers::Headers;
use super::vital::contained;

use identity::say_more;
use media::{finish_parts, sync_media};
use playlist::playlist;
use resumption::PAUSED_NAME;

pub use identity::{IDENTITY_NAME, identity_text, read_identity, replace};
pub use resumption::{note_pause, paused_recording, prepare_resumption};
pub use scan::{FileReader, scan_media, scan_sealed};
pub use summary::total;

/// What a finished folder says of itself.
pub const FINISHED_NAME: &str = "recording.json";

#[derive(Clone)]
pub struct FinishSettings {
    pub data_folder: PathBuf,
    /// FALLOC_FL_INSERT_RANGE works in the data folder.
    pub insert_supported: bool,
    pub time_zone: jiff::tz::TimeZone,
    /// Wanted length of an HLS segment, as the recorder was told.
    pub hls_segment_ms: u64,
}

impl FinishSettings {
    pub fn recording_folder(&self) -> PathBuf {
        self.data_folder.join("recording")
    }
    pub fn media_folder(&self) -> PathBuf {
        self.data_folder.join("media")
    }
}

/// What is known of a media file whose last byte is written.
#[derive(Debug, Default)]
pub struct ClosedFile {
    /// Open for reading and writing, through memory.
    pub file: Option<File>,
    /// What its writer knew. Else it is scanned.
    pub known: Option<Scanned>,
    pub damage: Option<Damage>,
    pub checksum: Option<Checksum>,
    /// Its other name: an MP4 recording is a part of an HLS recording, too.
    pub link: Option<PathBuf>,
    pub headers: Option<Arc<Headers>>,
    /// It is final already, under its other name.
    pub found: Option<Contents>,
}

/// What a media file that is final holds: where HLS segments can be cut, and how much of what.
pub type Contents = (Vec<Fragment>, MediaSummary);

/// What is known of the bytes of a closed file.
#[derive(Debug)]
pub enum Checksum {
    /// As they were written.
    Running(Running),
    /// As they are: it was finished under another name.
    Final(MediaChecksum),
}

impl Checksum {
    fn into_final(self) -> Option<MediaChecksum> {
        if let Checksum::Final(checksum) = self { Some(checksum) } else { None }
    }
}

/// By their paths in the recording folder.
pub type ClosedFiles = HashMap<PathBuf, ClosedFile>;

#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    #[error("recording {file_id} holds no complete frame")]
    Empty { file_id: FileId },
    #[error("reading the identity of recording {file_id}")]
    Identity { file_id: FileId, source: io::Error },
    #[error("{step} {path}")]
    File { step: &'static str, path: PathBuf, source: io::Error },
    #[error("recording {file_id} is encrypted, and there is no master key")]
    NoKey { file_id: FileId },
    #[error("scanning {path}")]
    Scan { path: PathBuf, source: ScanError },
    /// The log says more.
    #[error("a defect in the server met recording {file_id}")]
    Defect { file_id: FileId },
}

impl FinishError {
    /// The disk is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, FinishError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    /// The disk does not take or give what it should: with another answer of the disk the recording can be finished.
    pub fn is_of_the_disk(&self) -> bool {
        let is_it =
            |error: &io::Error| error.raw_os_error().is_some() && !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        self.io().is_some_and(is_it)
    }

    /// What the file system said.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            FinishError::File { source, .. }
            | FinishError::Identity { source, .. }
            | FinishError::Scan { source: ScanError::Read { source, .. }, .. } => Some(source),
            FinishError::Empty { .. } | FinishError::NoKey { .. } | FinishError::Scan { .. } | FinishError::Defect { .. } => None,
        }
    }
}

fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FinishError {
    move |source| FinishError::File { step, path: path.to_owned(), source }
}

/// Where a media file lies while its recording is open.
pub fn media_path(recording: &Path, media: MediaPath) -> PathBuf {
    recording.join(media.folder.to_string()).join(media_name(media.part, media.extension))
}

pub fn media_name(part: u32, extension: &str) -> String {
    format!("media-{part}.{extension}")
}

/// A recording that ended.
pub struct Ended {
    pub end: RecordingEnd,
    /// As it stands in its folder, where that is known.
    pub identity: Option<RecordingIdentity>,
}

/// How what finishing writes reaches the disk for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sync {
    /// Each file and folder by itself.
    Each,
    /// The caller syncs the whole file system afterwards.
    Together,
}

/// A recording that is found at the start.
pub struct FoundOpen {
    pub file_id: FileId,
    /// As the recorder said it, if it did.
    pub end: Option<RecordingEnd>,
}

/// Finishes recording `file_id` that is found at start: `end` as the recorder said it, if it did. `closed`: what is known of its files; the others are
/// scanned.
///
/// # Errors
/// [`FinishError::Empty`] if nothing was recorded: its folder is removed. Any other error leaves the folder for the next start.
pub fn finish_recording(
    settings: &FinishSettings,
    file_id: FileId,
    end: Option<&RecordingEnd>,
    closed: &mut ClosedFiles,
) -> Result<FinishedFile, FinishError> {
    finish_one(settings, file_id, (end, None), closed)
}

/// Finishes a recording that ended.
///
/// # Errors
/// As [`finish_recording`].
pub fn finish_ended(settings: &FinishSettings, ended: &Ended, closed: &mut ClosedFiles) -> Result<FinishedFile, FinishError> {
    finish_one(settings, ended.end.file_id, (Some(&ended.end), ended.identity.as_ref()), closed)
}

fn finish_one(settings: &FinishSettings, file_id: FileId, known: Known<'_>, closed: &mut ClosedFiles) -> Result<FinishedFile, FinishError> {
    contain(file_id, || {
        let finished = complete(settings, file_id, known, closed, Sync::Each)?;
        describe(settings, &finished, Sync::Each)?;
        place(settings, &finished, Sync::Each)?;
        Ok(finished)
    })
}

/// A defect that one recording meets costs that one: it stays where it is, and the others are finished.
fn contain<T>(file_id: FileId, body: impl FnOnce() -> Result<T, FinishError>) -> Result<T, FinishError> {
    contained(format_args!("recording {file_id}"), body).unwrap_or(Err(FinishError::Defect { file_id }))
}

/// Finishes recordings that ended at the same time, as [`finish_ended`] would one after another. What they write is synced together: two calls instead of
/// half a dozen for each. `step` is called before each step that takes a while, `sync_failed` when the disk could not take everything.
pub fn finish_together(
    settings: &FinishSettings,
    ends: &[Ended],
    closed: &mut ClosedFiles,
    step: impl Fn(),
    sync_failed: impl Fn(),
) -> Vec<Result<FinishedFile, FinishError>> {
    let known = ends.iter().map(|Ended { end, identity }| (end.file_id, (Some(end), identity.as_ref())));
    finish_group(settings, known, closed, step, sync_failed)
}

/// Finishes recordings that are found at the start, as [`finish_recording`] would one after another, and synced together. Their files are scanned.
pub fn finish_found(settings: &FinishSettings, found: &[FoundOpen]) -> Vec<Result<FinishedFile, FinishError>> {
    let known = found.iter().map(|FoundOpen { file_id, end }| (*file_id, (end.as_ref(), None)));
    finish_group(settings, known, &mut ClosedFiles::new(), || (), || ())
}

/// What is known of a recording: its end, and its identity.
type Known<'a> = (Option<&'a RecordingEnd>, Option<&'a RecordingIdentity>);

fn finish_group<'a>(
    settings: &FinishSettings,
    recordings: impl Iterator<Item = (FileId, Known<'a>)>,
    closed: &mut ClosedFiles,
    step: impl Fn(),
    sync_failed: impl Fn(),
) -> Vec<Result<FinishedFile, FinishError>> {
    let mut results: Vec<Result<FinishedFile, FinishError>> = recordings
        .map(|(file_id, known)| {
            step();
            contain(file_id, || {
                let finished = complete(settings, file_id, known, closed, Sync::Together)?;
                describe(settings, &finished, Sync::Together)?;
                Ok(finished)
            })
        })
        .collect();
    if results.iter().all(Result::is_err) {
        return results;
    }
    step();
    let on_disk = sync_all(settings).inspect_err(|error| {
        tracing::error!(error = error as &dyn std::error::Error, "syncing recordings that ended together failed; each is synced by itself");
        sync_failed();
    });
    let on_disk = on_disk.is_ok();
    step();
    for result in &mut results {
        let Ok(finished) = result else { continue };
        // What of it the disk has lost is seen when it is synced by itself.
        let described = if on_disk { Ok(()) } else { sync_alone(settings, finished).and_then(|()| describe(settings, finished, Sync::Each)) };
        if let Err(error) = described.and_then(|()| place(settings, finished, if on_disk { Sync::Together } else { Sync::Each })) {
            *result = Err(error);
        }
    }
    if on_disk && let Err(error) = sync_all(settings) {
        // The notes stand until the catalog has the files, and recovery knows what to do with a folder that is not where it was moved to.
        tracing::error!(error = &error as &dyn std::error::Error, "syncing the folders of finished recordings failed");
        sync_failed();
    }
    results
}

/// Makes the media of a recording final and says what they hold. Its folder stays where it is.
fn complete(
    settings: &FinishSettings,
    file_id: FileId,
    (end, identity): Known<'_>,
    closed: &mut ClosedFiles,
    sync: Sync,
) -> Result<FinishedFile, FinishError> {
    let folder = settings.recording_folder().join(file_id.to_string());
    faults::before(faults::Step::Finish, &folder).map_err(at("finishing", &folder))?;
    if end.is_some() && !folder.exists() {
        // It could not even begin.
        return Err(FinishError::Empty { file_id });
    }
    let identity = identity.cloned().map_or_else(|| read_identity(&folder, file_id), Ok)?;
    let slug = disk_slug(&identity.key.stream);
    let entry = format!("{slug}.{}", identity.format.extension());
    let shared = end.and_then(|end| end.shared_with).map(|shared| media_path(&settings.recording_folder(), shared));
    let mut receipt = end.map(|end| Receipt::clone(&end.receipt)).unwrap_or_default();
    let parts = finish_parts(settings, &folder, &identity, &entry, (closed, shared.as_deref()), (&mut receipt, sync))?;

    let entry_path = folder.join(&entry);
    let summary = total(parts.iter().map(|part| &part.summary));
    let size_bytes = if identity.format == Format::Hls {
        let text = playlist(&folder, &identity, &parts, settings, true);
        write(&entry_path, text.as_bytes(), sync)?;
        remove_if_there(&folder.join(LIVE_PLAYLIST_NAME))?;
        if identity.resume.is_some() {
            remove_if_there(&folder.join(PAUSED_NAME))?;
        }
        folder_bytes(&folder)
    } else {
        let path = folder.join(&parts[0].name);
        receipt.checksums.iter_mut().for_each(|checksum| checksum.file.clone_from(&entry));
        std::fs::rename(&path, &entry_path).map_err(at("renaming", &path))?;
        // Nothing else lies there.
        entry_path.metadata().map(|entry| entry.len())
    };
    if end.is_some() {
        // What was written and is not there.
        receipt.lose("storage_failed", receipt.frames().saturating_sub(summary.frames()));
    }
    if let Some(odd) = receipt.odd_times() {
        tracing::info!(%file_id, domain = %identity.key.domain, stream = %identity.key.stream, odd, "the times of a recording are odd; they are kept");
    }
    Ok(FinishedFile {
        end: end.map_or_else(|| WallTime::from_unix_micros(identity.start.unix_micros() + summary.duration_ms as i64 * 1000), |end| end.end),
        reason: end.map_or(EndReason::Recovered, |end| end.reason),
        folder: format!("media/{}/{file_id}", day(identity.start, &settings.time_zone)),
        entry,
        size_bytes: size_bytes.map_err(at("measuring", &folder))?,
        summary,
        receipt,
        identity,
    })
}

/// `media-<n>.<ext>` in the order of n. A file that already has its final name (we died before the folder was moved) counts too.
pub fn media_files(folder: &Path, identity: &RecordingIdentity, entry: &str) -> io::Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let Ok(name) = file?.file_name().into_string() else { continue };
        let number = match name.strip_prefix("media-").and_then(|rest| rest.split_once('.')) {
            _ if identity.format != Format::Hls && name == entry => Some(1),
            Some((number, _)) => number.parse().ok(),
            None => None,
        };
        if let Some(number) = number {
            found.push((number, name));
        }
    }
    found.sort();
    Ok(found)
}

/// Syncs the files of a recording one by one, after syncing everything together has failed.
fn sync_alone(settings: &FinishSettings, finished: &mut FinishedFile) -> Result<(), FinishError> {
    let folder = settings.recording_folder().join(finished.identity.file_id.to_string());
    for entry in std::fs::read_dir(&folder).map_err(at("listing", &folder))? {
        let path = entry.map_err(at("listing", &folder))?.path();
        let synced = File::open(&path).and_then(|file| sync_media(&file, &path, file.metadata()?.len(), &mut finished.receipt));
        synced.map_err(at("syncing", &path))?;
    }
    Ok(())
}

/// One call for everything that was written.
fn sync_all(settings: &FinishSettings) -> Result<(), FinishError> {
    let folder = settings.recording_folder();
    let sync = || {
        let opened = File::open(&folder)?;
        faults::before(faults::Step::Sync, &folder)?;
        Ok(rustix::fs::syncfs(opened)?)
    };
    sync().map_err(at("syncing", &folder))
}

fn remove_if_there(path: &Path) -> Result<(), FinishError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("removing", path)(error)),
        _ => Ok(()),
    }
}

/// The folder of a day's files: its date in the zone.
pub fn day(time: WallTime, zone: &jiff::tz::TimeZone) -> String {
    let timestamp = jiff::Timestamp::from_microsecond(time.unix_micros()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    timestamp.to_zoned(zone.clone()).strftime("%Y-%m-%d").to_string()
}

/// Bytes of everything in the folder that a user gets, our own notes not counted.
pub fn folder_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().ends_with(".json") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

fn sync_folder(path: &Path) -> Result<(), FinishError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at("syncing", path))
}

/// The note that stands until the catalog has the file.
pub fn note_path(settings: &FinishSettings, file_id: FileId) -> PathBuf {
    settings.recording_folder().join(format!("{file_id}.finished"))
}

/// Writes what a recording says of itself, and the note that it is finished, while its folder is still among the open ones.
fn describe(settings: &FinishSettings, finished: &FinishedFile, sync: Sync) -> Result<(), FinishError> {
    let file_id = finished.identity.file_id;
    let folder = settings.recording_folder().join(file_id.to_string());
    let text = serde_json::to_vec_pretty(finished).map_err(|error| at("describing", &folder)(io::Error::other(error)))?;
    say_more(&folder, &text, sync)?;
    let place = folder.join(FINISHED_NAME);
    if sync == Sync::Each {
        sync_folder(&folder)?;
    }
    // The note says the same: it is the same file by another name, which costs neither an inode nor a block. Nobody writes into it from now on.
    let note = note_path(settings, file_id);
    let mut linked = std::fs::hard_link(&place, &note);
    if linked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
        // It was described before.
        remove_if_there(&note)?;
        linked = std::fs::hard_link(&place, &note);
    }
    // Not every file system has such names.
    linked.or_else(|_| write(&note, &text, sync))
}

/// Moves the folder to its final place.
fn place(settings: &FinishSettings, finished: &FinishedFile, sync: Sync) -> Result<(), FinishError> {
    let folder = settings.recording_folder().join(finished.identity.file_id.to_string());
    let target = settings.data_folder.join(&finished.folder);
    let parent = target.parent().unwrap_or(&settings.data_folder);
    if !parent.exists() {
        std::fs::create_dir_all(parent).map_err(at("creating", parent))?;
        sync_folder(&settings.media_folder())?;
    }
    faults::before(faults::Step::Publish, &folder).map_err(at("renaming", &folder))?;
    std::fs::rename(&folder, &target).map_err(at("renaming", &folder))?;
    faults::before(faults::Step::Announce, &target).map_err(at("syncing", &target))?;
    if sync == Sync::Each {
        sync_folder(parent)?;
        sync_folder(&settings.recording_folder())?;
    }
    // From here on `recording.json` says the same and more.
    remove_if_there(&target.join(IDENTITY_NAME))
}

fn write(path: &Path, bytes: &[u8], sync: Sync) -> Result<(), FinishError> {
    let mut file = File::create(path).map_err(at("creating", path))?;
    file.write_all(bytes).and_then(|()| if sync == Sync::Each { file.sync_data() } else { Ok(()) }).map_err(at("writing", path))
}

/// Does the file system of `folder` make room inside a file (FALLOC_FL_INSERT_RANGE)? On a full disk: not now. The disk was written to when this returns.
///
/// # Errors
/// If the folder takes no file at all.
pub fn probe_insert(folder: &Path) -> io::Result<bool> {
    let path = folder.join(".insert-probe");
    faults::before(faults::Step::Probe, &path)?;
    let file = File::create(&path)?;
    let written = file.write_all_at(&[1; 8192], 0).and_then(|()| file.sync_data());
    let supported = written.is_ok() && rustix::fs::fallocate(&file, FallocateFlags::INSERT_RANGE, 4096, 4096).is_ok();
    std::fs::remove_file(&path)?;
    match written {
        Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error),
        _ => Ok(supported),
    }
}
