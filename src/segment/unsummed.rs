//! Files that were finished without checksums, because a crash or an error of the disk came in between: their checksums are made from what lies there, once
//! they are in the catalog. Beside the recordings a note (`<FileId>.unsummed`) stands until that is done.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::checksum;
use super::finish::{self, FINISHED_NAME, FinishSettings};
use crate::domain::FinishedFile;
use crate::units::{FileId, Format};

fn note_path(settings: &FinishSettings, file_id: FileId) -> PathBuf {
    settings.recording_folder().join(format!("{file_id}.unsummed"))
}

/// Does a file lack checksums? Parts of a recording that was resumed after a crash do. `within`: its place in the data folder.
pub fn lacks(settings: &FinishSettings, within: &str, file: &FinishedFile) -> bool {
    let known = file.receipt.checksums.len();
    let may_lack = file.identity.format == Format::Hls && file.identity.resume.is_some();
    let parts = || finish::media_files(&settings.data_folder.join(within), &file.identity, &file.entry).map_or(0, |parts| parts.len());
    known == 0 || (may_lack && parts() > known)
}

/// The catalog has the file: its note stands from now on for the checksums alone.
///
/// # Errors
/// What the file system says.
pub fn note(settings: &FinishSettings, file_id: FileId) -> io::Result<()> {
    std::fs::rename(finish::note_path(settings, file_id), note_path(settings, file_id))
}

/// Makes the checksums that a noted file lacks, adds them to its receipt, and removes the note. False: told to stop, by `pause`.
///
/// # Errors
/// What the file system says; the note stays. A file that is gone is none.
pub fn sum_up(settings: &FinishSettings, file_id: FileId, mut pause: impl FnMut() -> bool) -> io::Result<bool> {
    let note = note_path(settings, file_id);
    let done = match std::fs::read(&note).and_then(|text| add(settings, &serde_json::from_slice(&text)?, &mut pause)) {
        // Deleted meanwhile, or the note was done with already.
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        outcome => outcome?,
    };
    if done
        && let Err(error) = std::fs::remove_file(&note)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    Ok(done)
}

fn add(settings: &FinishSettings, noted: &FinishedFile, pause: &mut impl FnMut() -> bool) -> io::Result<bool> {
    let folder = settings.data_folder.join(&noted.folder);
    let mut file: FinishedFile = serde_json::from_slice(&std::fs::read(folder.join(FINISHED_NAME))?)?;
    let known = file.receipt.checksums.len();
    for (_, name) in finish::media_files(&folder, &file.identity, &file.entry)? {
        if file.receipt.checksums.iter().any(|checksum| checksum.file == name) {
            continue;
        }
        let Some(checksum) = checksum::of_file(&folder.join(&name), &mut *pause)? else { return Ok(false) };
        file.receipt.checksums.push(checksum);
    }
    if file.receipt.checksums.len() > known {
        finish::replace(&folder, &serde_json::to_vec_pretty(&file).map_err(io::Error::other)?)?;
        File::open(&folder)?.sync_all()?;
    }
    Ok(true)
}
