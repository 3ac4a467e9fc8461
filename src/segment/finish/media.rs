//! Making the media files of a recording final.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags};

use crate::container::mp4::Fragment;
use crate::container::{FinishPlan, MediaSummary, ScanError};
use crate::domain::receipt::{Damage, MediaChecksum};
use crate::domain::sealing::Sealing;
use crate::domain::{Receipt, RecordingIdentity};
use crate::segment::faults;
use crate::segment::moves::{self, MOVES};
use crate::units::Format;

use super::scan::{FileReader, Scanned, scan_media, scan_sealed};
use super::{Checksum, ClosedFile, ClosedFiles, FinishError, FinishSettings, Sync, at, media_files};

/// One media file of the recording, scanned and made final.
pub(super) struct Part {
    pub(super) number: u32,
    pub(super) name: String,
    /// HLS segments can be cut here: fragments of an MP4 file or segment starts of a transport stream.
    pub(super) fragments: Vec<Fragment>,
    pub(super) summary: MediaSummary,
    /// Its segments are encrypted so.
    pub(super) sealing: Option<Sealing>,
}

/// Makes the media files of a recording final. One without a frame is removed. `shared`: the name of its only one as a part of a playlist.
///
/// # Errors
/// [`FinishError::Empty`] if none is left: the folder is gone then.
pub(super) fn finish_parts(
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
        let no_key = FinishError::NoKey { file_id: identity.file_id };
        let sealing = identity.encryption.map(|terms| Sealing::of(identity.file_id, number, terms).ok_or(no_key)).transpose()?;
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
    let ClosedFile { file, plan, damage, checksum, link, headers } = closed.remove(path).unwrap_or_default();
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
    let file = file.map_or_else(|| OpenOptions::new().read(true).write(true).open(path), Ok).map_err(at("opening", path))?;
    // Only headers and tables are read: read-ahead would bring in the media.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::Random);
    let length = file.metadata().map_err(at("measuring", path))?.len();
    if let Some(plan) = plan {
        apply(&file, path, length, &plan, shared, (&mut *receipt, sync)).map_err(at("finishing", path))?;
        note_checksum(&file, &plan, receipt)?;
        return Ok(Some((Vec::new(), plan.summary)));
    }
    let reader = FileReader::new(&file, length).knowing(headers.as_deref());
    let scanned = match sealing {
        Some(sealing) => scan_sealed(&reader, sealing),
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
pub(super) fn sync_media(file: &File, path: &Path, bytes: u64, receipt: &mut Receipt) -> io::Result<()> {
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
