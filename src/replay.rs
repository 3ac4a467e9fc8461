//! Frames that no file had taken when the last run was killed: through a recorder, into files that recovery then finishes.

use std::io;
use std::path::PathBuf;

use crate::recorder::journal;
use crate::segment::finish::FinishSettings;
use crate::segment::recover::{Journal, Unreplayed};
use crate::segment::whole::WholeStore;
use crate::units::FileId;

/// Writes the files that the frames of `journal` would have gone to. Returns the recordings that began.
///
/// # Errors
/// If the note cannot be read, or what the file system says.
pub fn replay(settings: &FinishSettings, left: &Journal) -> Result<Vec<FileId>, Unreplayed> {
    replay_into(vec![settings.recording_folder()], left)
}

/// [`replay`] with several folders of open recordings: what begins goes into the first, the rest to where it belongs.
///
/// # Errors
/// As [`replay`].
pub fn replay_into(recording: Vec<PathBuf>, left: &Journal) -> Result<Vec<FileId>, Unreplayed> {
    let (mut begun, mut recordings) = (Vec::new(), Vec::new());
    let (frames, stores) = journal::replay(&left.note, &left.log, (&left.taken, &left.parts), |ids, goes_on| {
        recordings.extend(ids.iter().copied().chain(goes_on));
        WholeStore::new(recording.clone(), ids)
    })
    .map_err(io::Error::other)?;
    for store in stores {
        match store.finish() {
            Ok(of_one) => begun.extend(of_one),
            Err(error) => return Err(Unreplayed { error, recordings }),
        }
    }
    if frames > 0 {
        tracing::info!(frames, recordings = begun.len(), "frames that no file had taken were brought into files");
    }
    Ok(begun)
}
