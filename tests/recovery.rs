//! What the next start makes of what a killed process left in memory.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use capstan::container::flv::{self, FlvWriter};
use capstan::container::{MediaPath, OpenMedia, Store as _};
use capstan::domain::{EndReason, RecordingIdentity, RecordingSource};
use capstan::media::flv_tag::{AudioUnit, parse_audio};
use capstan::media::{Payload, TrackKind, Tracks};
use capstan::segment::finish::FinishSettings;
use capstan::segment::recover::LeftBehind;
use capstan::segment::{Arena, CoreStore, DiskCommand, FileIds};
use capstan::units::{FileId, Format, PublicationId, StreamKey, TemplateId, WallTime};

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
    let settings =
        FinishSettings { data_folder: folder.path().to_owned(), insert_supported: false, time_zone: jiff::tz::TimeZone::UTC, hls_segment_ms: 4_000 };
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
        let Ok(AudioUnit::Frame(_, part)) = parse_audio(Payload::contiguous(&body)) else { panic!("no frame") };
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
