//! Removing the bytes of files that the catalog has forgotten.

use std::fs::File;
use std::io;
use std::path::{Component, Path};

use crate::domain::vod::Removal;

use super::finish::{FinishSettings, note_path};

/// Removes a file's bytes, durable when this returns; what is gone already is no error.
///
/// The note of the finished file goes too: found at the next start, it would bring the entry back.
///
/// `settings`: of the data folder where it lies. `within`: its place there.
///
/// # Errors
/// If something is left; the next call goes on there.
pub fn remove(settings: &FinishSettings, within: &str, removal: &Removal) -> io::Result<()> {
    if removal.parts.is_empty() && unless_absent(std::fs::remove_file(note_path(settings, removal.file_id)))? {
        sync(&settings.recording_folder())?;
    }
    let relative = Path::new(within);
    // Every folder of a file lies two below ours. A damaged row must not delete anything else.
    let is_ours =
        relative.components().all(|part| matches!(part, Component::Normal(_))) && relative.components().count() == 3 && relative.starts_with("media");
    if !is_ours {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no folder of a file", removal.folder)));
    }
    let folder = settings.data_folder.join(relative);
    if removal.whole {
        if unless_absent(std::fs::remove_dir_all(&folder))?
            && let Some(parent) = folder.parent()
        {
            sync(parent)?;
        }
        return Ok(());
    }
    let files = match std::fs::read_dir(&folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for file in files {
        let file = file?;
        let is_meant = |name: &str| match removal.parts.as_slice() {
            [] => name == removal.entry || is_part(name),
            parts => parts.iter().any(|part| name == part || (part.ends_with('.') && name.starts_with(part.as_str()))),
        };
        if file.file_name().to_str().is_some_and(is_meant) {
            unless_absent(std::fs::remove_file(file.path()))?;
        }
    }
    sync(&folder)
}

/// `init-<n>.m4s`, `media-<n>.m4s`, `media-<n>.ts`: parts of a playlist's recording.
fn is_part(name: &str) -> bool {
    // With the note of how far its bytes moved.
    let Some((stem, extension)) = name.strip_prefix("moved-").unwrap_or(name).split_once('.') else { return false };
    let numbered =
        |prefix: &str| stem.strip_prefix(prefix).is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    (extension == "m4s" && (numbered("init-") || numbered("media-"))) || (extension == "ts" && numbered("media-"))
}

/// False: there was nothing.
fn unless_absent(outcome: io::Result<()>) -> io::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::FileId;

    fn settings(folder: &Path) -> FinishSettings {
        FinishSettings { data_folder: folder.to_owned(), insert_supported: false, time_zone: jiff::tz::TimeZone::UTC, hls_segment_ms: 4000 }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn whole_files_and_originals() {
        let data = tempfile::tempdir().expect("a folder");
        let settings = settings(data.path());
        let day = data.path().join("media/2026-01-01");
        std::fs::create_dir_all(data.path().join("recording")).expect("a folder");
        let id = |number: u64| FileId::new(FileId::MIN + number).expect("in range");
        for number in [1, 2] {
            let folder = day.join(id(number).to_string());
            std::fs::create_dir_all(&folder).expect("a folder");
            for name in ["x.m3u8", "init-1.m4s", "media-1.m4s", "media-12.ts", "media-x.ts", "cover.png", "recording.json"] {
                std::fs::write(folder.join(name), name).expect("a file");
            }
            std::fs::write(note_path(&settings, id(number)), "{}").expect("a note");
        }
        let removal = |number: u64, whole: bool| Removal {
            file_id: id(number),
            folder: format!("media/2026-01-01/{}", id(number)),
            entry: "x.m3u8".to_owned(),
            whole,
            parts: Vec::new(),
        };
        // Twice: the second time after a crash that lost the tick.
        for _ in 0..2 {
            remove(&settings, &removal(1, true).folder, &removal(1, true)).expect("removed");
            assert_eq!(names(&day), [id(2).to_string()]);
            assert_eq!(names(&settings.recording_folder()), [format!("{}.finished", id(2))]);
        }
        for _ in 0..2 {
            remove(&settings, &removal(2, false).folder, &removal(2, false)).expect("removed");
            assert_eq!(names(&day.join(id(2).to_string())), ["cover.png", "media-x.ts", "recording.json"]);
        }
        let folder = day.join(id(2).to_string());
        for name in ["v.f10.mp4", "v.f210.a.ts", "v.f210.ab.ts", "adp.10.a.1.ts"] {
            std::fs::write(folder.join(name), name).expect("a file");
        }
        let parts = Removal { entry: String::new(), parts: vec!["v.f10.mp4".to_owned(), "v.f210.a.".to_owned()], ..removal(2, false) };
        for _ in 0..2 {
            remove(&settings, &parts.folder, &parts).expect("removed");
            assert_eq!(names(&folder), ["adp.10.a.1.ts", "cover.png", "media-x.ts", "recording.json", "v.f210.ab.ts"]);
        }
    }

    #[test]
    fn nothing_else_is_removed() {
        let data = tempfile::tempdir().expect("a folder");
        let settings = settings(data.path());
        std::fs::create_dir_all(data.path().join("media/a/b")).expect("a folder");
        for folder in ["", ".", "media", "media/a", "media/a/b/c", "media/../media", "/tmp/media/x", "recording/a/b"] {
            let removal = Removal {
                file_id: FileId::new(FileId::MIN).expect("in range"),
                folder: folder.to_owned(),
                entry: String::new(),
                whole: true,
                parts: Vec::new(),
            };
            assert!(remove(&settings, folder, &removal).is_err(), "{folder}");
        }
        assert!(data.path().join("media/a/b").exists());
    }
}
