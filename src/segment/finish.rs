//! Turning a recording's folder into a finished file: the same code at the end of a recording and after a crash.
//!
//! Order that never changes: media scanned, indexed and synced; folder under its final name, synced; then the catalog. A note beside the recordings
//! (`<FileId>.finished`) stands until the catalog has the file, so that a crash in between loses no entry.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags};

use crate::container::hls::LIVE_PLAYLIST_NAME;
use crate::container::mp4::Fragment;
use crate::container::{FinishPlan, MediaPath, MediaSummary, ReadAt, RecordingEnd, ScanError, TrackSummary, es, flv, hls, mp4, mpegts};
use crate::domain::naming::disk_slug;
use crate::domain::receipt::{Damage, MediaChecksum};
use crate::domain::sealing::Sealing;
use crate::domain::{EndReason, FinishedFile, PausedRecording, Receipt, RecordingIdentity};
use crate::units::{FileId, Format, WallTime};

use super::checksum::Running;
use super::faults;
use super::moves::{self, MOVES};

/// The recording's identity inside its folder.
pub const IDENTITY_NAME: &str = "identity.json";
/// What a finished folder says of itself.
pub const FINISHED_NAME: &str = "recording.json";

/// What an interrupted recording's folder says of the interruption.
const PAUSED_NAME: &str = "paused.json";

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
    /// How to make it final, if its writer knew. Else it is scanned.
    pub plan: Option<FinishPlan>,
    pub damage: Option<Damage>,
    pub checksum: Option<Checksum>,
    /// The same file under the name that an HLS recording has for it.
    pub link: Option<PathBuf>,
}

/// What is known of the bytes of a closed file.
#[derive(Debug)]
pub enum Checksum {
    /// As they were written.
    Running(Running),
    /// As they are: it was finished under another name.
    Final(MediaChecksum),
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
}

impl FinishError {
    /// The disk is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, FinishError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull)
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

/// A file as `scan` reads it.
pub struct FileReader<'a> {
    file: &'a File,
    length: u64,
}

impl<'a> FileReader<'a> {
    /// `length`: of the file at this moment; what is appended later is not read.
    pub fn new(file: &'a File, length: u64) -> Self {
        Self { file, length }
    }
}

impl ReadAt for FileReader<'_> {
    fn len(&self) -> u64 {
        self.length
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// One media file of the recording, scanned and made final.
struct Part {
    number: u32,
    name: String,
    /// HLS segments can be cut here: fragments of an MP4 file or segment starts of a transport stream.
    fragments: Vec<Fragment>,
    summary: MediaSummary,
    sealing: Option<Sealing>,
}

/// How what finishing writes reaches the disk for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sync {
    /// Each file and folder by itself.
    Each,
    /// The caller syncs the whole file system afterwards.
    Together,
}

/// Finishes recording `file_id`: `end` as the recorder said it, or `None` when it is found at start. `closed`: what is known of its
/// files; the others are scanned.
///
/// # Errors
/// [`FinishError::Empty`] if nothing was recorded: its folder is removed. Any other error leaves the folder for the next start.
pub fn finish_recording(
    settings: &FinishSettings,
    file_id: FileId,
    end: Option<&RecordingEnd>,
    closed: &mut ClosedFiles,
) -> Result<FinishedFile, FinishError> {
    let finished = complete(settings, file_id, end, closed, Sync::Each)?;
    describe(settings, &finished, Sync::Each)?;
    place(settings, &finished, Sync::Each)?;
    Ok(finished)
}

/// Finishes recordings that ended at the same time, as [`finish_recording`] would one after another. What they write is synced together: two calls instead of
/// half a dozen for each.
pub fn finish_together(settings: &FinishSettings, ends: &[RecordingEnd], closed: &mut ClosedFiles) -> Vec<Result<FinishedFile, FinishError>> {
    let mut results: Vec<Result<FinishedFile, FinishError>> = ends
        .iter()
        .map(|end| {
            let finished = complete(settings, end.file_id, Some(end), closed, Sync::Together)?;
            describe(settings, &finished, Sync::Together)?;
            Ok(finished)
        })
        .collect();
    let on_disk = sync_all(settings).is_ok();
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
    }
    results
}

/// Makes the media of a recording final and says what they hold. Its folder stays where it is.
fn complete(
    settings: &FinishSettings,
    file_id: FileId,
    end: Option<&RecordingEnd>,
    closed: &mut ClosedFiles,
    sync: Sync,
) -> Result<FinishedFile, FinishError> {
    let folder = settings.recording_folder().join(file_id.to_string());
    faults::before(faults::Step::Finish, &folder).map_err(at("finishing", &folder))?;
    if end.is_some() && !folder.exists() {
        // It could not even begin.
        return Err(FinishError::Empty { file_id });
    }
    let identity = read_identity(&folder, file_id)?;
    let slug = disk_slug(&identity.key.stream);
    let entry = format!("{slug}.{}", identity.format.extension());
    let shared = end.and_then(|end| end.shared_with).map(|shared| media_path(&settings.recording_folder(), shared));
    let mut receipt = end.map(|end| Receipt::clone(&end.receipt)).unwrap_or_default();
    let parts = finish_parts(settings, &folder, &identity, &entry, (closed, shared.as_deref()), (&mut receipt, sync))?;

    let entry_path = folder.join(&entry);
    let summary = total(parts.iter().map(|part| &part.summary));
    if identity.format == Format::Hls {
        let text = playlist(&folder, &identity, &parts, settings, true);
        write(&entry_path, text.as_bytes(), sync)?;
        for name in [LIVE_PLAYLIST_NAME, PAUSED_NAME] {
            remove_if_there(&folder.join(name))?;
        }
    } else {
        let path = folder.join(&parts[0].name);
        receipt.checksums.iter_mut().for_each(|checksum| checksum.file.clone_from(&entry));
        std::fs::rename(&path, &entry_path).map_err(at("renaming", &path))?;
    }
    if end.is_some() {
        // What was written and is not there.
        receipt.lose("storage_failed", receipt.frames().saturating_sub(summary.frames()));
    }
    Ok(FinishedFile {
        end: end.map_or_else(|| WallTime::from_unix_micros(identity.start.unix_micros() + summary.duration_ms as i64 * 1000), |end| end.end),
        reason: end.map_or(EndReason::Recovered, |end| end.reason),
        folder: format!("media/{}/{file_id}", day(identity.start, &settings.time_zone)),
        entry,
        size_bytes: folder_bytes(&folder).map_err(at("measuring", &folder))?,
        summary,
        receipt,
        identity,
    })
}

pub(super) fn read_identity(folder: &Path, file_id: FileId) -> Result<RecordingIdentity, FinishError> {
    let read = || -> io::Result<RecordingIdentity> { Ok(serde_json::from_slice(&std::fs::read(folder.join(IDENTITY_NAME))?)?) };
    read().map_err(|source| FinishError::Identity { file_id, source })
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

/// Makes the media files of a recording final. One without a frame is removed. `shared`: the name of its only one as a part of a playlist.
///
/// # Errors
/// [`FinishError::Empty`] if none is left: the folder is gone then.
fn finish_parts(
    settings: &FinishSettings,
    folder: &Path,
    identity: &RecordingIdentity,
    entry: &str,
    (closed, shared): (&mut ClosedFiles, Option<&Path>),
    (receipt, sync): (&mut Receipt, Sync),
) -> Result<Vec<Part>, FinishError> {
    let mut parts = Vec::new();
    for (number, name) in media_files(folder, identity, entry).map_err(at("listing", folder))? {
        let path = folder.join(&name);
        // Nobody downloads a part as a file: its index may stand at its end, and its bytes stay where growing playlists say. Unless it is an MP4 recording
        // by its other name, which is found here after a crash.
        let is_part_alone = identity.format == Format::Hls && path.metadata().map_err(at("measuring", &path))?.nlink() == 1;
        let insert_supported = settings.insert_supported && !is_part_alone;
        let shared = if identity.format == Format::Hls { Some(path.as_path()) } else { shared };
        let sealing =
            identity.encryption.map(|terms| Sealing::of(identity.file_id, number, terms).ok_or(FinishError::NoKey { file_id: identity.file_id }));
        let sealing = sealing.transpose()?;
        match finish_media(&path, (insert_supported, sealing.as_ref()), (&mut *closed, shared), (&mut *receipt, sync))? {
            Some((fragments, summary)) => parts.push(Part { number, name, fragments, summary, sealing }),
            None => std::fs::remove_file(&path).map_err(at("removing", &path))?,
        }
    }
    if parts.is_empty() {
        std::fs::remove_dir_all(folder).map_err(at("removing", folder))?;
        return Err(FinishError::Empty { file_id: identity.file_id });
    }
    Ok(parts)
}

/// Scans one media file and makes it final. `None`: it holds no complete frame. `shared`: its name as a part of a playlist that viewers may hold.
fn finish_media(
    path: &Path,
    (insert_supported, sealing): (bool, Option<&Sealing>),
    (closed, shared): (&mut ClosedFiles, Option<&Path>),
    (receipt, sync): (&mut Receipt, Sync),
) -> Result<Option<(Vec<Fragment>, MediaSummary)>, FinishError> {
    let ClosedFile { plan, damage, checksum, link } = closed.remove(path).unwrap_or_default();
    receipt.damaged.extend(damage);
    let note_checksum = |file: &File, plan: &FinishPlan, receipt: &mut Receipt| {
        let checksum = match checksum {
            Some(Checksum::Running(running)) => running.finish(file, path, plan).map_err(at("reading", path))?,
            Some(Checksum::Final(checksum)) => Some(checksum),
            None => None,
        };
        if let (Some(checksum), Some(linked)) = (&checksum, link.and_then(|link| closed.get_mut(&link).zip(Some(link)))) {
            let (closed, link) = linked;
            let file = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
            closed.checksum = Some(Checksum::Final(MediaChecksum { file, ..checksum.clone() }));
        }
        receipt.checksums.extend(checksum);
        Ok(())
    };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(at("opening", path))?;
    // Only headers and tables are read: read-ahead would bring in the media.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::Random);
    let length = file.metadata().map_err(at("measuring", path))?.len();
    if let Some(plan) = plan {
        apply(&file, path, length, &plan, shared, (&mut *receipt, sync)).map_err(at("finishing", path))?;
        note_checksum(&file, &plan, receipt)?;
        return Ok(Some((Vec::new(), plan.summary)));
    }
    let reader = FileReader::new(&file, length);
    let scanned = match sealing {
        Some(sealing) => mpegts::seal::scan(&reader, sealing).map(ts_scanned),
        None => scan_media(&reader, path, insert_supported),
    };
    match scanned {
        Ok(Scanned { plan, fragments }) => {
            if plan.torn_bytes > 0 {
                tracing::info!(path = %path.display(), torn_bytes = plan.torn_bytes, "an incomplete frame at the end was cut off");
            }
            apply(&file, path, length, &plan, shared, (&mut *receipt, sync)).map_err(at("finishing", path))?;
            note_checksum(&file, &plan, receipt)?;
            Ok(Some((fragments, plan.summary)))
        }
        Err(ScanError::Empty) => Ok(None),
        Err(source) => Err(FinishError::Scan { path: path.to_owned(), source }),
    }
}

/// What any of the scans finds.
pub struct Scanned {
    pub plan: FinishPlan,
    /// HLS segments can be cut here.
    pub fragments: Vec<Fragment>,
}

/// Scans a media file by the extension of its name.
///
/// # Errors
/// Those of the container's scan.
pub fn scan_media(reader: &FileReader<'_>, path: &Path, insert_supported: bool) -> Result<Scanned, ScanError> {
    let whole = |plan| Scanned { plan, fragments: Vec::new() };
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "mp4" | "m4s" => mp4::scan(reader, insert_supported).map(|mut scan| {
            // Fragments are timed by their video; the part ends when its last track does.
            let first_ms = scan.fragments.first().map_or(0, |first| first.start_ms);
            if let Some(last) = scan.fragments.last_mut() {
                let end_ms = first_ms.saturating_add_unsigned(scan.plan.summary.duration_ms);
                last.duration_ms = end_ms.saturating_sub(last.start_ms).max(0) as u64;
            }
            Scanned { plan: scan.plan, fragments: scan.fragments }
        }),
        "ts" => mpegts::scan(reader).map(ts_scanned),
        "flv" => flv::scan(reader).map(whole),
        "aac" => es::scan_adts(reader).map(whole),
        _ => es::scan_mp3(reader).map(whole),
    }
}

fn ts_scanned(scan: mpegts::TsScan) -> Scanned {
    Scanned { fragments: ts_fragments(&scan), plan: scan.plan }
}

/// The segments of a transport stream, as the playlist takes them: each ends where the next begins.
fn ts_fragments(scan: &mpegts::TsScan) -> Vec<Fragment> {
    let first_ms = scan.segments.first().map_or(0, |segment| segment.pts_ms);
    let end = (scan.plan.truncate_to, first_ms.saturating_add_unsigned(scan.plan.summary.duration_ms));
    let ends = scan.segments.iter().skip(1).map(|next| (next.offset, next.pts_ms)).chain([end]);
    scan.segments
        .iter()
        .zip(ends)
        .map(|(segment, (end_offset, end_ms))| {
            hls::TsStart { offset: segment.offset, start_ms: segment.pts_ms, key: segment.key }.until(end_offset, end_ms)
        })
        .collect()
}

/// Carries a plan out: truncate, insert, writes, append, sync. Nothing moves a media byte in memory.
fn apply(file: &File, path: &Path, length: u64, plan: &FinishPlan, shared: Option<&Path>, (receipt, sync): (&mut Receipt, Sync)) -> io::Result<()> {
    faults::before(faults::Step::Index, path)?;
    if plan.truncate_to < length {
        file.set_len(plan.truncate_to)?;
    }
    if let Some(insert) = plan.insert {
        // Dirty pages are written out by the call itself; synced before, so that the step is short and on disk data only.
        file.sync_data()?;
        MOVES.move_by(file, insert.length, || {
            if let Some(shared) = shared {
                note_move(shared, insert.length)?;
            }
            Ok(rustix::fs::fallocate(file, FallocateFlags::INSERT_RANGE, insert.offset, insert.length)?)
        })?;
    }
    for (offset, bytes) in &plan.writes {
        file.write_all_at(bytes, *offset)?;
    }
    if !plan.append.is_empty() {
        let end = file.metadata()?.len();
        file.write_all_at(&plan.append, end)?;
    }
    if sync == Sync::Each { sync_media(file, path, length, receipt) } else { Ok(()) }
}

/// Syncs a media file. What the disk has lost of it is damage: the rest is kept.
fn sync_media(file: &File, path: &Path, bytes: u64, receipt: &mut Receipt) -> io::Result<()> {
    match file.sync_data() {
        // It does not say what is lost.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            receipt.damaged.push(Damage { file, offset: 0, bytes, error: error.to_string() });
            Ok(())
        }
        synced => synced,
    }
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

/// Notes beside a part how far its bytes move, right before they do: a playlist that lists it lists them as they were recorded. After a crash in between
/// the same insertion is done again.
fn note_move(shared: &Path, shift_bytes: u64) -> io::Result<()> {
    let (Some(folder), Some(name)) = (shared.parent(), shared.file_name().and_then(|name| name.to_str())) else { return Ok(()) };
    match std::fs::write(moves::note_path(folder, name), shift_bytes.to_string()) {
        // That recording held no frame, or is finished.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn replace_live_playlist(folder: &Path, text: &str) -> Result<(), FinishError> {
    let temporary = folder.join("index.m3u8.new");
    std::fs::write(&temporary, text).map_err(at("writing", &temporary))?;
    std::fs::rename(&temporary, folder.join(LIVE_PLAYLIST_NAME)).map_err(at("renaming", &temporary))
}

/// The playlist, built from the media themselves. `ended`: nothing will follow.
fn playlist(folder: &Path, identity: &RecordingIdentity, parts: &[Part], settings: &FinishSettings, ended: bool) -> String {
    let mut maps = Vec::new();
    let mut starts = Vec::new();
    let mut start = identity.first_frame.unwrap_or(identity.start);
    for part in parts {
        // A part without an init segment of its own goes on with the one before.
        let map = format!("init-{}.m4s", part.number);
        maps.push(folder.join(&map).exists().then_some(map));
        // A part behind an interruption says when it began; the others follow at once.
        let said = std::fs::read(folder.join(hls::part_start_name(part.number))).ok();
        start = said.and_then(|bytes| hls::read_part_start(&bytes)).unwrap_or(start);
        starts.push(start);
        start = WallTime::from_unix_micros(start.unix_micros() + part.summary.duration_ms as i64 * 1_000);
    }
    let container = if parts[0].name.ends_with(".ts") { hls::SegmentContainer::Ts } else { hls::SegmentContainer::Fmp4 };
    let described: Vec<hls::Part<'_>> = parts
        .iter()
        .zip(&maps)
        .zip(&starts)
        .enumerate()
        .map(|(index, ((part, map), starts_at))| hls::Part {
            uri: &part.name,
            map_uri: map.as_deref(),
            fragments: &part.fragments,
            discontinuity: index > 0 && (map.is_some() || container == hls::SegmentContainer::Ts),
            starts_at: Some(*starts_at),
            sealing: part.sealing.as_ref(),
        })
        .collect();
    // As the live one said it.
    let independent = identity.resume.is_none() && parts.iter().all(|part| part.summary.video.is_none());
    hls::rebuild(container, settings.hls_segment_ms, independent, &described, ended)
}

fn remove_if_there(path: &Path) -> Result<(), FinishError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("removing", path)(error)),
        _ => Ok(()),
    }
}

/// Notes in an interrupted recording's folder what the next start must know.
///
/// # Errors
/// What the file system says.
pub fn note_pause(settings: &FinishSettings, paused: &PausedRecording) -> Result<(), FinishError> {
    let path = settings.recording_folder().join(paused.file_id.to_string()).join(PAUSED_NAME);
    let text = serde_json::to_vec_pretty(paused).map_err(|error| at("describing", &path)(io::Error::other(error)))?;
    write(&path, &text, Sync::Each)
}

/// The interruption in which the last run left recording `file_id`, if it was to be resumed: as noted, or, if the process died while it was recorded, at
/// `died`.
pub fn paused_recording(settings: &FinishSettings, file_id: FileId, died: WallTime) -> Option<PausedRecording> {
    let folder = settings.recording_folder().join(file_id.to_string());
    let identity = read_identity(&folder, file_id).ok()?;
    let terms = identity.resume.filter(|_| identity.format == Format::Hls)?;
    let (part, name) = media_files(&folder, &identity, "").ok()?.pop()?;
    let noted = std::fs::read(folder.join(PAUSED_NAME)).ok().and_then(|text| serde_json::from_slice::<PausedRecording>(&text).ok());
    // A note about an earlier part is about an interruption that was over.
    Some(noted.filter(|noted| noted.part == part).unwrap_or_else(|| PausedRecording {
        file_id,
        key: identity.key,
        source: identity.source,
        publication: identity.publication,
        session: terms.session,
        transport_stream: name.ends_with(".ts"),
        part,
        end: died,
        reason: EndReason::Recovered,
        receipt: Box::default(),
        resume_until: WallTime::from_unix_micros(died.unix_micros().saturating_add_unsigned(terms.wait_s.saturating_mul(1_000_000))),
    }))
}

/// Makes an interrupted recording of the last run ready for a publication to go on with it: its media complete, its playlist listing all of them.
///
/// # Errors
/// As [`finish_recording`].
pub fn prepare_resumption(settings: &FinishSettings, file_id: FileId) -> Result<(), FinishError> {
    let folder = settings.recording_folder().join(file_id.to_string());
    let identity = read_identity(&folder, file_id)?;
    let parts = finish_parts(settings, &folder, &identity, "", (&mut ClosedFiles::new(), None), (&mut Receipt::default(), Sync::Each))?;
    let text = playlist(&folder, &identity, &parts, settings, false);
    // What grows lists its parts as they were recorded.
    let unmoved = hls::unshift_ranges(&text, |part| moves::noted(&folder, part));
    replace_live_playlist(&folder, &unmoved.unwrap_or(text))
}

/// What the parts of a recording hold together.
pub fn total<'a>(parts: impl IntoIterator<Item = &'a MediaSummary>) -> MediaSummary {
    let mut total = MediaSummary::default();
    for part in parts {
        total.duration_ms += part.duration_ms;
        add_track(&mut total.video, part.video.as_ref());
        add_track(&mut total.audio, part.audio.as_ref());
        add_tracks(&mut total.further_video, &part.further_video);
        add_tracks(&mut total.further_audio, &part.further_audio);
        total.data_messages += part.data_messages;
    }
    total
}

fn add_track(total: &mut Option<TrackSummary>, part: Option<&TrackSummary>) {
    match (total, part) {
        (_, None) => {}
        (total @ None, Some(part)) => *total = Some(part.clone()),
        (Some(total), Some(part)) => add_counts(total, part),
    }
}

fn add_tracks(total: &mut Vec<TrackSummary>, parts: &[TrackSummary]) {
    for (index, part) in parts.iter().enumerate() {
        match total.get_mut(index) {
            Some(total) => add_counts(total, part),
            None => total.push(part.clone()),
        }
    }
}

fn add_counts(total: &mut TrackSummary, part: &TrackSummary) {
    total.frames += part.frames;
    total.bytes += part.bytes;
    total.duration_ms += part.duration_ms;
    total.key_frames += part.key_frames;
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
    write(&folder.join(FINISHED_NAME), &text, sync)?;
    if sync == Sync::Each {
        sync_folder(&folder)?;
    }
    write(&note_path(settings, file_id), &text, sync)
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
    let identity = target.join(IDENTITY_NAME);
    std::fs::remove_file(&identity).map_err(at("removing", &identity))
}

fn write(path: &Path, bytes: &[u8], sync: Sync) -> Result<(), FinishError> {
    let mut file = File::create(path).map_err(at("creating", path))?;
    file.write_all(bytes).and_then(|()| if sync == Sync::Each { file.sync_data() } else { Ok(()) }).map_err(at("writing", path))
}

/// Does the file system of `folder` make room inside a file (FALLOC_FL_INSERT_RANGE)? On a full disk: not now.
///
/// # Errors
/// If the folder takes no file at all.
pub fn probe_insert(folder: &Path) -> io::Result<bool> {
    let path = folder.join(".insert-probe");
    let file = File::create(&path)?;
    let written = file.write_all_at(&[1; 8192], 0);
    let supported = written.is_ok() && rustix::fs::fallocate(&file, FallocateFlags::INSERT_RANGE, 4096, 4096).is_ok();
    std::fs::remove_file(&path)?;
    match written {
        Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error),
        _ => Ok(supported),
    }
}
