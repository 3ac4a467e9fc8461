//! What a recording's folder says of it: who it is from its beginning, and all of it once it is finished, in the same file.
//!
//! `identity.json` becomes `recording.json`: what is known at the end is written behind the identity and the file gets its other name, which costs neither a
//! new file nor the removal of one. Torn at any byte, under either name, it still begins with the identity.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::Serialize;

use crate::domain::RecordingIdentity;
use crate::units::FileId;

use super::{FINISHED_NAME, FinishError, Sync, at};

/// The recording's identity inside its folder, until it is finished.
pub const IDENTITY_NAME: &str = "identity.json";
/// In place of `recording.json`, until it is whole.
const NEW_NAME: &str = "recording-new.json";

/// A `FinishedFile` begins so, too.
#[derive(Serialize)]
struct Begun<'a> {
    identity: &'a RecordingIdentity,
}

/// In front of the identity.
const HEAD: &[u8] = b"{\n  \"identity\": ";
/// Behind it, where nothing else follows yet.
const TAIL: &[u8] = b"\n}";

/// What stands in [`IDENTITY_NAME`].
///
/// # Errors
/// None that a plain value has.
pub fn identity_text(identity: &RecordingIdentity) -> io::Result<Vec<u8>> {
    serde_json::to_vec_pretty(&Begun { identity }).map_err(io::Error::other)
}

/// # Errors
/// [`FinishError::Identity`] if neither file tells it.
pub fn read_identity(folder: &Path, file_id: FileId) -> Result<RecordingIdentity, FinishError> {
    let read = |name: &str| parse(&std::fs::read(folder.join(name))?);
    // The second: the process died before the folder was moved.
    read(IDENTITY_NAME).or_else(|error| read(FINISHED_NAME).map_err(|_| error)).map_err(|source| FinishError::Identity { file_id, source })
}

fn parse(text: &[u8]) -> io::Result<RecordingIdentity> {
    // Earlier versions wrote the identity alone.
    let text = text.strip_prefix(HEAD).unwrap_or(text);
    let identity = serde_json::Deserializer::from_slice(text).into_iter().next();
    Ok(identity.unwrap_or_else(|| Err(serde::de::Error::custom("nothing is in it")))?)
}

/// Writes `text`, which says all of a finished recording, into its folder.
pub(super) fn say_more(folder: &Path, text: &[u8], sync: Sync) -> Result<(), FinishError> {
    let (begun, place) = (folder.join(IDENTITY_NAME), folder.join(FINISHED_NAME));
    let written = OpenOptions::new().read(true).write(true).open(&begun).and_then(|file| {
        let mut before = vec![0; text.len()];
        let count = file.read_at(&mut before, 0)?;
        // Not so of an identity as an earlier version wrote it.
        let is_same = before[..count].strip_suffix(TAIL).is_some_and(|identity| text.starts_with(identity));
        if is_same {
            file.write_all_at(text, 0)?;
            if sync == Sync::Each {
                file.sync_data()?;
            }
        }
        Ok(is_same)
    });
    match written {
        Ok(true) => std::fs::rename(&begun, &place).map_err(at("renaming", &begun)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("writing", &begun)(error)),
        Ok(false) | Err(_) => replace(folder, text).map_err(at("writing", &place)),
    }
}

/// Puts `text` into the place of what `recording.json` says, if there is one. A crash leaves the one or the other.
///
/// # Errors
/// What the file system says.
pub fn replace(folder: &Path, text: &[u8]) -> io::Result<()> {
    let new = folder.join(NEW_NAME);
    let mut file = File::create(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&new, folder.join(FINISHED_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EndReason, FinishedFile};
    use crate::units::{Format, StreamKey, WallTime};

    fn finished() -> FinishedFile {
        let identity = RecordingIdentity::example(FileId::new(FileId::MIN).expect("an id"), Format::Flv, StreamKey::new("localhost", "live", "cam"));
        FinishedFile {
            end: WallTime::from_unix_seconds(1_767_254_500),
            reason: EndReason::Interval,
            folder: "media/2026-01-01/1".to_owned(),
            entry: "cam.flv".to_owned(),
            size_bytes: 7,
            summary: crate::container::MediaSummary::default(),
            receipt: crate::domain::Receipt::default(),
            identity,
        }
    }

    #[test]
    fn torn_at_any_byte_it_tells_who_it_is() {
        let file = finished();
        let begun = identity_text(&file.identity).expect("JSON");
        let all = serde_json::to_vec_pretty(&file).expect("JSON");
        let kept = begun.len() - TAIL.len();
        for written in 0..=all.len() {
            for length in [kept, begun.len(), all.len()] {
                // The page went out in pieces, or the length did not.
                let mut torn = all[..written].to_vec();
                torn.extend_from_slice(begun.get(written..).unwrap_or_default());
                torn.resize(length, 0);
                assert_eq!(parse(&torn).expect("its identity"), file.identity, "{written} of {length}");
            }
        }
        assert!(parse(&begun[..kept - 1]).is_err() && parse(b"").is_err());
        assert_eq!(parse(&serde_json::to_vec(&file.identity).expect("JSON")).expect("as earlier versions wrote it"), file.identity);
    }

    /// What lies in the folder when a recording is described, by name, and what lies there then.
    #[test]
    fn the_identity_becomes_the_description() {
        let file = finished();
        let (begun, all) = (identity_text(&file.identity).expect("JSON"), serde_json::to_vec_pretty(&file).expect("JSON"));
        let flat = serde_json::to_vec(&file.identity).expect("JSON");
        let cases: [(&str, &[(&str, &[u8])], &[&str]); 6] = [
            ("as it began", &[(IDENTITY_NAME, &begun)], &[FINISHED_NAME]),
            ("of an earlier version", &[(IDENTITY_NAME, &flat)], &[IDENTITY_NAME, FINISHED_NAME]),
            ("of an earlier version, torn", &[(IDENTITY_NAME, &flat), (FINISHED_NAME, &all[..9])], &[IDENTITY_NAME, FINISHED_NAME]),
            ("torn", &[(IDENTITY_NAME, &all[..all.len() - 5])], &[IDENTITY_NAME, FINISHED_NAME]),
            ("described before", &[(FINISHED_NAME, &all)], &[FINISHED_NAME]),
            ("described before, torn", &[(FINISHED_NAME, &all[..all.len() - 5])], &[FINISHED_NAME]),
        ];
        for (what, before, after) in cases {
            let folder = tempfile::tempdir().expect("a folder");
            before.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).expect("a file"));
            assert_eq!(read_identity(folder.path(), file.identity.file_id).expect("an identity"), file.identity, "{what}");
            say_more(folder.path(), &all, Sync::Together).expect("described");
            let mut names: Vec<_> = std::fs::read_dir(folder.path()).expect("it").map(|entry| entry.expect("a file").file_name()).collect();
            names.sort();
            assert_eq!(names, after, "{what}");
            assert_eq!(std::fs::read(folder.path().join(FINISHED_NAME)).expect("it"), all, "{what}");
            assert_eq!(read_identity(folder.path(), file.identity.file_id).expect("an identity"), file.identity, "{what}");
        }
    }
}
