//! Interrupted HLS recordings between two publications, also across a restart.

use std::io;
use std::path::Path;

use crate::container::hls::{self, LIVE_PLAYLIST_NAME};
use crate::domain::{EndReason, PausedRecording, Receipt};
use crate::segment::moves;
use crate::units::{FileId, Format, WallTime};

use super::media::finish_parts;
use super::playlist::playlist;
use super::{ClosedFiles, FinishError, FinishSettings, Sync, at, contain, media_files, read_identity, write};

/// What an interrupted recording's folder says of the interruption.
pub(super) const PAUSED_NAME: &str = "paused.json";

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
    let noted = noted.filter(|noted| noted.part == part).map(|noted| PausedRecording { encryption: identity.encryption, ..noted });
    Some(noted.unwrap_or_else(|| PausedRecording {
        file_id,
        key: identity.key,
        source: identity.source,
        publication: identity.publication,
        session: terms.session,
        transport_stream: name.ends_with(".ts"),
        encryption: identity.encryption,
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
    contain(file_id, || prepare(settings, file_id))
}

fn prepare(settings: &FinishSettings, file_id: FileId) -> Result<(), FinishError> {
    let folder = settings.recording_folder().join(file_id.to_string());
    let identity = read_identity(&folder, file_id)?;
    let parts = finish_parts(settings, &folder, &identity, "", (&mut ClosedFiles::new(), None), (&mut Receipt::default(), Sync::Each))?;
    let text = playlist(&folder, &identity, &parts, settings, false);
    // What grows lists its parts as they were recorded.
    let unmoved = hls::unshift_ranges(&text, |part| moves::noted(&folder, part));
    replace_live_playlist(&folder, &unmoved.unwrap_or(text))
}

fn replace_live_playlist(folder: &Path, text: &str) -> Result<(), FinishError> {
    let temporary = folder.join("index.m3u8.new");
    std::fs::write(&temporary, text).map_err(at("writing", &temporary))?;
    std::fs::rename(&temporary, folder.join(LIVE_PLAYLIST_NAME)).map_err(at("renaming", &temporary))
}
