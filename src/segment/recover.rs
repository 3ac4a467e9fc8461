//! What the last run left behind: blocks of its arena, open recordings, finished files that the catalog had not taken.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::domain::FinishedFile;
use crate::units::FileId;

use super::arena::{BlockKind, OrphanBlock, read_orphans};
use super::finish::{self, FinishError, FinishSettings};
use super::open_record::OpenRecord;

/// What recovery did, for one log line and the counters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes that were in the arena of the dead process.
    pub arena_bytes: u64,
    pub finished: u64,
    pub empty: u64,
    pub failed: u64,
    /// Files that were finished but perhaps not in the catalog.
    pub adopted: u64,
}

/// What was there when we started. Taken before anything new is written, so that recovery can run beside the recording.
#[derive(Debug, Default)]
pub struct LeftBehind {
    arenas: Vec<PathBuf>,
    recordings: Vec<FileId>,
    /// Notes of finished files.
    notes: Vec<FileId>,
    recovered: Recovered,
}

impl LeftBehind {
    /// Looks into the recording folder and `arena_folder`.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn find(settings: &FinishSettings, arena_folder: &Path) -> io::Result<Self> {
        let mut left = Self::default();
        for entry in std::fs::read_dir(settings.recording_folder())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(id) = name.strip_suffix(".finished").and_then(FileId::parse) {
                left.notes.push(id);
            } else if let Some(id) = FileId::parse(&name) {
                left.recordings.push(id);
            }
        }
        left.recordings.sort();
        for entry in std::fs::read_dir(arena_folder)? {
            left.arenas.push(entry?.path());
        }
        left.arenas.sort();
        Ok(left)
    }

    /// New ids must stay above these.
    pub fn last_file_id(&self) -> Option<FileId> {
        self.recordings.iter().chain(&self.notes).max().copied()
    }
}

impl LeftBehind {
    /// Writes what the dead process had in memory into its recordings, and removes its arena files: the new ones take their place.
    pub fn write_back_arenas(&mut self, settings: &FinishSettings) {
        for path in std::mem::take(&mut self.arenas) {
            self.write_back_arena(settings, &path);
        }
        self.recordings.sort();
        self.recordings.dedup();
    }

    /// Opens the files that it had not opened yet, writes the blocks of an arena file into their recordings, then removes it.
    fn write_back_arena(&mut self, settings: &FinishSettings, path: &Path) {
        for kind in [BlockKind::OpenRecord, BlockKind::Media] {
            let result = read_orphans(path, |orphan| {
                let OrphanBlock { kind: of, file, part, offset, ref bytes } = orphan;
                if of != kind {
                    return;
                }
                let written = match kind {
                    BlockKind::Media => write_back(settings, file, part, offset, bytes).map(|()| self.recovered.arena_bytes += bytes.len() as u64),
                    BlockKind::OpenRecord => OpenRecord::decode(bytes)
                        .and_then(|record| record.carry_out(&settings.recording_folder()))
                        .map(|begun| self.recordings.extend(begun)),
                };
                if let Err(error) = written {
                    self.recovered.failed += 1;
                    tracing::error!(file_id = file, part, offset, bytes = bytes.len(), %error, "what the last run had in memory could not be written back");
                }
            });
            if let Err(error) = result {
                tracing::warn!(path = %path.display(), %error, "the arena file of the last run is not readable");
            }
        }
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "the arena file of the last run could not be removed");
        }
    }

    /// Finishes every open recording, and hands over every file that the catalog may not have.
    ///
    /// What cannot be recovered stays where it is and is counted; nothing here stops the appliance.
    pub fn recover(&self, settings: &FinishSettings, mut finished: impl FnMut(FinishedFile)) -> Recovered {
        let mut recovered = self.recovered;
        for &file_id in &self.notes {
            // A folder that was not moved yet is finished again below, and its note written anew.
            if settings.recording_folder().join(file_id.to_string()).exists() {
                continue;
            }
            match std::fs::read(finish::note_path(settings, file_id)).and_then(|text| Ok(serde_json::from_slice(&text)?)) {
                Ok(file) => {
                    recovered.adopted += 1;
                    finished(file);
                }
                Err(error) => {
                    recovered.failed += 1;
                    tracing::error!(%file_id, %error, "the note of a finished file is not readable");
                }
            }
        }
        for &file_id in &self.recordings {
            match finish::finish_recording(settings, file_id, None, &mut HashMap::new()) {
                Ok(file) => {
                    recovered.finished += 1;
                    finished(file);
                }
                Err(FinishError::Empty { .. }) => recovered.empty += 1,
                Err(error) => {
                    recovered.failed += 1;
                    tracing::error!(%file_id, error = &error as &dyn std::error::Error, "an open recording of the last run could not be finished");
                }
            }
        }
        recovered
    }
}

fn write_back(settings: &FinishSettings, file: u64, part: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let folder = settings.recording_folder().join(file.to_string());
    let prefix = format!("media-{part}.");
    for entry in std::fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            return OpenOptions::new().write(true).open(entry.path())?.write_all_at(bytes, offset);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "the media file is not there"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::container::flv::{self, FlvWriter};
    use crate::container::{MediaPath, OpenMedia, Store as _};
    use crate::domain::{EndReason, RecordingIdentity, RecordingSource};
    use crate::media::flv_tag::{AudioUnit, parse_audio};
    use crate::media::{Payload, TrackKind, Tracks};
    use crate::segment::{Arena, CoreStore, DiskCommand, FileIds};
    use crate::units::{Format, PublicationId, StreamKey, TemplateId, WallTime};

    fn identity(file_id: FileId) -> RecordingIdentity {
        RecordingIdentity {
            file_id,
            format: Format::Flv,
            key: StreamKey::new("localhost", "live", "cam"),
            publication: PublicationId(1),
            source: RecordingSource::Rule(TemplateId(1001)),
            push_url: String::new(),
            stream_param: String::new(),
            start: WallTime::from_unix_seconds(1_700_000_000),
            media_start_ms: 0,
            storage_time_s: 0,
            vod_sub_app_id: 0,
            vod_file_name: String::new(),
            procedure: String::new(),
            storage_mode: String::new(),
            class_id: 0,
        }
    }

    /// The process is killed before the disk writer has carried out anything at all.
    #[test]
    fn a_file_that_was_only_asked_for_is_recovered_with_its_frames() {
        let folder = tempfile::tempdir().unwrap();
        let settings = FinishSettings {
            data_folder: folder.path().to_owned(),
            insert_supported: false,
            time_zone: jiff::tz::TimeZone::UTC,
            hls_segment_ms: 4_000,
        };
        let arenas = folder.path().join("arenas");
        for folder in [&arenas, &settings.recording_folder(), &settings.media_folder()] {
            std::fs::create_dir(folder).unwrap();
        }
        let (to_disk, commands) = crossbeam::channel::bounded::<DiskCommand>(100);
        let arena = Arena::create(&arenas.join("core-0.arena"), 2 << 20).unwrap();
        let ids = Arc::new(FileIds::new(None, || WallTime::from_unix_seconds(1_700_000_000)));
        let mut store = CoreStore::new(arena, to_disk, ids, Arc::new(AtomicU64::new(1)));

        let Ok(AudioUnit::Config(audio)) = parse_audio(Payload::contiguous(&[0xaf, 0, 0x12, 0x10])) else { panic!("no track") };
        let tracks = Tracks { video: None, audio: Some(audio) };
        let head = flv::head(&tracks, 60);
        let mut writer = FlvWriter::new(&tracks, &head, 0);
        let file_id = store.next_file_id();
        let media = MediaPath { folder: file_id, part: 1, extension: "flv" };
        let mut file = store.open(OpenMedia { media, link: None, begin: vec![identity(file_id)], small_files: Vec::new(), head });
        for index in 0..10 {
            let body = [0xaf, 1, 0x21, index];
            let Ok(AudioUnit::Frame(part)) = parse_audio(Payload::contiguous(&body)) else { panic!("no frame") };
            let frame = part.at(TrackKind::Audio, i64::from(index) * 23);
            assert!(store.reserve(&mut file, writer.push_bytes_max(&frame)));
            writer.push(&frame, &mut file);
            store.commit(&mut file);
        }
        assert_eq!(commands.len(), 1, "the file was asked for, and nothing else happened");
        drop((file, store, commands));

        let mut left = LeftBehind::find(&settings, &arenas).unwrap();
        left.write_back_arenas(&settings);
        assert!(std::fs::read_dir(&arenas).unwrap().next().is_none(), "the arena is used up");
        let mut files = Vec::new();
        let recovered = left.recover(&settings, |file| files.push(file));
        assert_eq!((recovered.finished, recovered.failed, files.len()), (1, 0, 1), "{recovered:?}");
        assert_eq!((files[0].identity.file_id, files[0].reason), (file_id, EndReason::Recovered));
        assert_eq!(files[0].summary.audio.as_ref().unwrap().frames, 10);
    }
}
