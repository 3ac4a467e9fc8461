//! Making the media files of a recording final.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags};

use crate::container::mp4::Fragment;
use crate::container::{FinishPlan, MediaSummary, ScanError, Scanned};
use crate::domain::receipt::{Damage, MediaChecksum};
use crate::domain::sealing::Sealing;
use crate::domain::{Receipt, RecordingIdentity};
use crate::segment::faults;
use crate::segment::headers::Headers;
use crate::segment::moves::{self, MOVES};
use crate::segment::store::WRITE_ALIGN_BYTES;
use crate::units::Format;

use super::scan::{FileReader, scan_media, scan_sealed};
use super::{Checksum, ClosedFile, ClosedFiles, Contents, FinishError, FinishSettings, Sync, at, media_files, media_name};

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
    let only = media_name(1, identity.format.extension());
    // A recording that is no playlist has one file.
    let is_known = identity.format != Format::Hls && closed.contains_key(&folder.join(&only));
    let files = if is_known { vec![(1, only)] } else { media_files(folder, identity, entry).map_err(at("listing", folder))? };
    for (number, name) in files {
        let path = folder.join(&name);
        // Nobody downloads a part as a file: its index may stand at its end, and its bytes stay where growing playlists say. Unless it is an MP4 recording
        // by its other name, which is found here after a crash.
        let is_final = closed.get(&path).is_some_and(|file| file.found.is_some());
        let is_part_alone = identity.format == Format::Hls && !is_final && path.metadata().map_err(at("measuring", &path))?.nlink() == 1;
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
) -> Result<Option<Contents>, FinishError> {
    let ClosedFile { file, known, damage, checksum, link, headers, found } = closed.remove(path).unwrap_or_default();
    receipt.damaged.extend(damage);
    if let Some(found) = found {
        receipt.checksums.extend(checksum.and_then(Checksum::into_final));
        return Ok(Some(found));
    }
    let mut linked = link.as_ref().and_then(|link| closed.get_mut(link));
    // From now on it is not as it was written, under neither name.
    if let Some(linked) = &mut linked {
        linked.headers = None;
    }
    let file = file.map_or_else(|| OpenOptions::new().read(true).write(true).open(path), Ok).map_err(at("opening", path))?;
    let length = file.metadata().map_err(at("measuring", path))?.len();
    let Scanned { plan, fragments } = match known {
        Some(known) => known,
        None => match scanned(&file, length, path, (insert_supported, sealing), headers.as_deref()) {
            Ok(scanned) => scanned,
            Err(ScanError::Empty) => return Ok(None),
            Err(source) => return Err(FinishError::Scan { path: path.to_owned(), source }),
        },
    };
    apply(&file, path, length, &plan, headers.as_deref(), shared, (&mut *receipt, sync)).map_err(at("finishing", path))?;
    let checksum = match checksum {
        Some(Checksum::Running(running)) => running.finish(&file, path, &plan).map_err(at("reading", path))?,
        other => other.and_then(Checksum::into_final),
    };
    // A running checksum is that of the name under which it was written.
    let linked = linked.filter(|linked| linked.checksum.is_none());
    if let (Some(linked), Some(name)) = (linked, link.as_ref().and_then(|link| link.file_name())) {
        let file = name.to_string_lossy().into_owned();
        linked.checksum = checksum.clone().map(|checksum| Checksum::Final(MediaChecksum { file, ..checksum }));
        linked.found = Some((fragments.clone(), plan.summary.clone()));
    }
    receipt.checksums.extend(checksum);
    Ok(Some((fragments, plan.summary)))
}

/// What the scan of a media file finds.
fn scanned(
    file: &File,
    length: u64,
    path: &Path,
    (insert_supported, sealing): (bool, Option<&Sealing>),
    headers: Option<&Headers>,
) -> Result<Scanned, ScanError> {
    // Only headers and tables are read: read-ahead would bring in the media.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::Random);
    let reader = FileReader::new(file, length).knowing(headers);
    let scanned = match sealing {
        Some(sealing) => scan_sealed(&reader, sealing),
        None => scan_media(&reader, path, insert_supported),
    }?;
    if scanned.plan.torn_bytes > 0 {
        tracing::info!(path = %path.display(), torn_bytes = scanned.plan.torn_bytes, "an incomplete frame at the end was cut off");
    }
    Ok(scanned)
}

/// Carries a plan out: truncate, insert, writes, append, sync. Nothing moves a media byte in memory.
fn apply(
    file: &File,
    path: &Path,
    length: u64,
    plan: &FinishPlan,
    headers: Option<&Headers>,
    shared: Option<&Path>,
    (receipt, sync): (&mut Receipt, Sync),
) -> io::Result<()> {
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
        match headers.filter(|_| plan.insert.is_none()).and_then(|headers| whole_pages(&plan.writes, *offset, bytes, headers)) {
            Some((offset, bytes)) => file.write_all_at(&bytes, offset)?,
            None => file.write_all_at(bytes, *offset)?,
        }
    }
    if !plan.append.is_empty() {
        let end = file.metadata()?.len();
        file.write_all_at(&plan.append, end)?;
    }
    if sync == Sync::Each { sync_media(file, path, length, receipt) } else { Ok(()) }
}

/// A write with what stands around it in its pages, which the system would read from the disk first. `None`: that is not known, or another of the `writes`
/// goes there.
fn whole_pages(writes: &[(u64, Vec<u8>)], offset: u64, bytes: &[u8], headers: &Headers) -> Option<(u64, Vec<u8>)> {
    let start = offset - offset % WRITE_ALIGN_BYTES;
    let end = (offset + bytes.len() as u64).next_multiple_of(WRITE_ALIGN_BYTES);
    let meets = |(other, bytes): &&(u64, Vec<u8>)| *other < end && start < other + bytes.len() as u64;
    let mut pages = vec![0; (end - start) as usize];
    let is_alone = writes.iter().filter(meets).count() == 1;
    if !(is_alone && headers.read(start, &mut pages)) {
        return None;
    }
    pages[(offset - start) as usize..][..bytes.len()].copy_from_slice(bytes);
    Some((start, pages))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::headers::Head;

    #[test]
    fn writes_in_the_head_are_whole_pages_where_nothing_else_is_written() {
        let mut head = vec![0; 3 * 4096];
        head[..4].copy_from_slice(b"ftyp");
        head[12_000..12_004].copy_from_slice(b"moov");
        let headers = Headers::default().behind(Head::of(&head));
        let write = |offset: u64, bytes: usize| (offset, vec![7; bytes]);
        // What is written, and the pages that the first of it becomes.
        let cases: [(&[(u64, Vec<u8>)], Option<(u64, usize)>); 7] = [
            (&[write(36, 100), write(12_272, 16)], Some((0, 4096))),
            (&[write(12_272, 16), write(36, 100)], Some((8192, 4096))),
            (&[write(36, 5_000)], Some((0, 8192))),
            (&[write(36, 100), write(4_000, 16)], None),
            (&[write(36, 9_000), write(12_272, 16)], None),
            (&[write(12_280, 16)], None),
            (&[write(20_000, 16)], None),
        ];
        for (writes, expected) in cases {
            let (offset, bytes) = &writes[0];
            let found = whole_pages(writes, *offset, bytes, &headers);
            assert_eq!(found.as_ref().map(|(start, pages)| (*start, pages.len())), expected, "{offset} {}", bytes.len());
            let Some((start, pages)) = found else { continue };
            let mut after = head.clone();
            after[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
            assert!(pages == after[start as usize..][..pages.len()], "{offset} {}", bytes.len());
        }
    }
}
