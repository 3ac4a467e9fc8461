//! What the next start makes of what a killed process left in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use capstan::container::flv::{self, FlvWriter};
use capstan::container::{MediaPath, OpenMedia, Store as _};
use capstan::domain::event::RecordSessionId;
use capstan::domain::{EndReason, FinishedFile, RecordTemplate, RecordingIdentity, RecordingSource};
use capstan::media::flv_tag::{AudioUnit, parse_audio};
use capstan::media::{Payload, TrackKind, Tracks};
use capstan::recorder::{MoovReserve, Now, Publication, Recorder, RecorderSettings};
use capstan::replay;
use capstan::segment::faults;
use capstan::segment::finish::FinishSettings;
use capstan::segment::recover::{Found, KEPT_NAME, LeftBehind};
use capstan::segment::{Arena, CoreStore, DiskCommand, DiskHandle, DiskHealth, FileIds};
use capstan::units::{FileId, Format, MonoTime, PublicationId, StreamKey, TemplateId, WallTime};
use crossbeam::channel::Sender;

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
        first_frame: None,
        media_start_ms: 0,
        storage_time_s: 0,
        vod_sub_app_id: 0,
        vod_file_name: String::new(),
        procedure: String::new(),
        storage_mode: String::new(),
        class_id: 0,
        session: RecordSessionId::default(),
        alias_domain: String::new(),
        encryption: None,
        resume: None,
    }
}

/// An empty data folder, and a folder for arenas in it.
fn folders() -> (tempfile::TempDir, FinishSettings, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        FinishSettings { data_folder: folder.path().to_owned(), insert_supported: false, time_zone: jiff::tz::TimeZone::UTC, hls_segment_ms: 4_000 };
    let arenas = folder.path().join("arenas");
    for folder in [&arenas, &settings.recording_folder(), &settings.media_folder()] {
        std::fs::create_dir(folder).unwrap();
    }
    (folder, settings, arenas)
}

/// The storage of a core with a new arena.
fn store(settings: &FinishSettings, arenas: &Path, arena_mib: usize, to_disk: Sender<DiskCommand>) -> CoreStore {
    let arena = Arena::create(&arenas.join("core-0.arena"), arena_mib << 20).unwrap();
    let ids = Arc::new(FileIds::new(None, || WallTime::from_unix_seconds(1_700_000_000)));
    let to_disk = DiskHandle { sender: to_disk, health: Arc::new(DiskHealth::new(&settings.data_folder)) };
    CoreStore::new(arena, to_disk, ids, Arc::new(AtomicU64::new(1)), Arc::default())
}

fn finished(found: Found) -> FinishedFile {
    match found {
        Found::Finished(file) => *file,
        Found::Paused(_) | Found::Over(_) => panic!("nothing is resumed"),
    }
}

/// Whoever opens a pipe in the place of a file waits for its other end.
#[test]
fn a_named_pipe_among_the_recordings_is_passed_over() {
    let (_folder, settings, arenas) = folders();
    let recording = settings.recording_folder();
    let pipe = |path: PathBuf| {
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success(), "{}", path.display());
    };
    let [first, last] = [170_000_000_000_000_007, 170_000_000_000_000_009].map(|id| FileId::new(id).expect("an id"));
    std::fs::create_dir(recording.join(first.to_string())).unwrap();
    pipe(recording.join(first.to_string()).join("identity.json"));
    pipe(recording.join(format!("{last}.finished")));
    let mut left = LeftBehind::find(&settings, &arenas).unwrap();
    assert_eq!((left.files().count(), left.last_file_id()), (0, Some(last)), "passed over, and their ids are not given again");
    left.recover(&settings, |_| panic!("nothing is there"));
    assert!(recording.join(first.to_string()).is_dir());
}

/// The process is killed before the disk writer has carried out anything at all.
#[test]
fn a_file_that_was_only_asked_for_is_recovered_with_its_frames() {
    let (_folder, settings, arenas) = folders();
    let (to_disk, commands) = crossbeam::channel::bounded::<DiskCommand>(100);
    let mut store = store(&settings, &arenas, 2, to_disk);
    assert!(matches!(commands.try_recv(), Ok(DiskCommand::Memory(_))), "it tells where its arena is");

    let Ok(AudioUnit::Config(audio)) = parse_audio(Payload::contiguous(&[0xaf, 0, 0x12, 0x10])) else { panic!("no track") };
    let tracks = Tracks { audio: Some(audio), ..Tracks::default() };
    let head = flv::head(&tracks, 60);
    let mut writer = FlvWriter::new(&tracks, &head, 0);
    let file_id = store.next_file_id();
    let media = MediaPath { folder: file_id, part: 1, extension: "flv" };
    let opened = store.open(OpenMedia { media, link: None, writer: 1, begin: vec![identity(file_id)], small_files: Vec::new(), head });
    let mut file = opened.expect("a free block");
    for index in 0..10 {
        let body = [0xaf, 1, 0x21, index];
        let Ok(AudioUnit::Frame(_, part)) = parse_audio(Payload::contiguous(&body)) else { panic!("no frame") };
        let frame = part.at(TrackKind::Audio, i64::from(index) * 23);
        assert!(store.reserve(&mut file, writer.push_bytes_max(&frame)));
        writer.push(&frame, &mut file);
        store.commit(&mut file, index as u64 + 1);
    }
    assert_eq!(commands.len(), 1, "the file was asked for, and nothing else happened");
    drop((file, store, commands));

    let mut left = LeftBehind::find(&settings, &arenas).unwrap();
    left.write_back_arenas(&settings, |_| panic!("every frame is in a file"));
    assert!(std::fs::read_dir(&arenas).unwrap().next().is_none(), "the arena is used up");
    let mut files = Vec::new();
    let recovered = left.recover(&settings, |found| files.push(finished(found)));
    assert_eq!((recovered.finished, recovered.failed, files.len()), (1, 0, 1), "{recovered:?}");
    assert_eq!((files[0].identity.file_id, files[0].reason), (file_id, EndReason::Recovered));
    assert_eq!(files[0].summary.audio.as_ref().unwrap().frames, 10);
}

/// What cannot be read is kept on the disk, once; the arena folder is free for the next run.
#[test]
fn an_arena_file_that_cannot_be_read_is_kept() {
    let (_folder, settings, arenas) = folders();
    let path = arenas.join("core-0.arena");
    drop(Arena::create(&path, 2 << 20).unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    // Its version.
    bytes[8] += 1;
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(arenas.join("core-1.arena"), b"cut off").unwrap();
    drop(Arena::create(&arenas.join("core-2.arena"), 2 << 20).unwrap());
    for failed in [2, 0] {
        let mut left = LeftBehind::find(&settings, &arenas).unwrap();
        left.write_back_arenas(&settings, |_| panic!("nothing can be read"));
        assert!(std::fs::read_dir(&arenas).unwrap().next().is_none(), "there is room for the arena of the next run");
        assert_eq!(left.recover(&settings, |_| panic!("nothing is found")).failed, failed);
        let mut kept: Vec<_> = std::fs::read_dir(settings.data_folder.join(KEPT_NAME)).unwrap().map(|entry| entry.unwrap().path()).collect();
        kept.sort_by_key(|path| std::fs::metadata(path).unwrap().len());
        assert_eq!(kept.iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>(), [b"cut off".to_vec(), bytes.clone()]);
    }
}

/// Publishes pictures and sounds of 40 ms into files of 2 s: so many of `both`, then `pictures` without sound. The process dies before anything is ended.
fn publish(store: &mut CoreStore, sound_header: bool, both: u32, pictures: u32) {
    let publication = Publication {
        id: PublicationId(7),
        key: StreamKey::new("localhost", "live", "cam"),
        push_url: String::new(),
        stream_param: String::new(),
        alias_domain: String::new(),
    };
    let recorder_settings =
        RecorderSettings { hls_transport_stream: false, hls_segment_ms: 4_000, trust_encoder_clock: false, moov_reserve: MoovReserve::Insert };
    let mut recorder = Recorder::new(publication, recorder_settings);
    let mut template = RecordTemplate::empty(TemplateId(1001), "test");
    for format in [Format::Flv, Format::Mp4, Format::Hls] {
        template.param_mut(format).enable = true;
        template.param_mut(format).record_interval_s = 2;
    }
    recorder.start(RecordingSource::Rule(TemplateId(1001)), &Arc::new(template), millis(0), store);
    recorder.video(0, Payload::contiguous(PICTURE_HEADER), millis(0), store).unwrap();
    if sound_header {
        recorder.audio(0, Payload::contiguous(SOUND_HEADER), millis(0), store).unwrap();
    }
    for number in 0..both + pictures {
        let (time, now) = (number * 40, millis(u64::from(number) * 40));
        recorder.video(time, Payload::contiguous(&picture(number % 25 == 0, number)), now, store).unwrap();
        if number < both {
            recorder.audio(time + 7, Payload::contiguous(&sound(number)), now, store).unwrap();
        }
    }
    // No end: what the recorder would write then is not written.
    drop(recorder);
}

/// The disk is full when the next start comes: nothing that fails to be written is given up, and a later pass brings it into its file.
#[test]
fn what_the_disk_does_not_take_is_kept_until_it_does() {
    let (_folder, settings, arenas) = folders();
    let (to_disk, _commands) = crossbeam::channel::bounded::<DiskCommand>(1_000);
    let mut store = store(&settings, &arenas, 4, to_disk);
    // Frames still wait for the sound of a new file when the process dies.
    publish(&mut store, true, 50, 3);
    drop(store);
    let arena = std::fs::read(arenas.join("core-0.arena")).unwrap();

    // How many steps the disk takes before it is full, and the death of recovery after that.
    for (taken, dies) in [(0, false), (1, false), (4, true), (7, false), (9, true)] {
        for folder in [settings.recording_folder(), settings.media_folder(), settings.data_folder.join(KEPT_NAME), arenas.clone()] {
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir(&folder).unwrap();
        }
        std::fs::write(arenas.join("core-0.arena"), &arena).unwrap();
        let mut left = LeftBehind::find(&settings, &arenas).unwrap();
        let mut steps = 0;
        faults::hook(Some(Box::new(move |_, _| {
            steps += 1;
            if steps > taken { Err(rustix::io::Errno::NOSPC.into()) } else { Ok(()) }
        })));
        left.write_back_arenas(&settings, |journal| replay::replay(&settings, journal));
        let mut files = Vec::new();
        let recovered = left.recover(&settings, |found| files.push(finished(found)));
        faults::hook(None);
        assert_eq!(recovered.failed, 0, "{taken}: {recovered:?}");
        assert!(!arenas.join("core-0.arena").exists(), "{taken}: in the way of a new arena");
        assert!(left.waiting() + left.waiting_arenas().len() > 0, "{taken}");
        if dies {
            left = LeftBehind::find(&settings, &arenas).unwrap();
        }
        left.write_back_arenas(&settings, |journal| replay::replay(&settings, journal));
        assert!(left.waiting_arenas().is_empty(), "{taken}: everything is written");
        let recovered = left.recover(&settings, |found| files.push(finished(found)));
        assert_eq!((recovered.failed, recovered.waiting), (0, 0), "{taken}: {recovered:?}");
        for format in [Format::Flv, Format::Mp4, Format::Hls] {
            let of_format = || files.iter().filter(|file| file.identity.format == format);
            let frames = |video: bool| -> u64 {
                of_format()
                    .filter_map(|file| if video { file.summary.video.as_ref() } else { file.summary.audio.as_ref() })
                    .map(|track| track.frames)
                    .sum()
            };
            assert_eq!((frames(true), frames(false)), (53, 50), "{taken}: {format:?}");
        }
    }
}

fn millis(time: u64) -> Now {
    Now { mono: MonoTime::from_millis(time), wall: WallTime::from_unix_millis(1_700_000_000_000 + time as i64) }
}

fn picture(key: bool, number: u32) -> Vec<u8> {
    let mut body = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 0, 0, 0, 0, 5, if key { 0x65 } else { 0x41 }];
    body.extend_from_slice(&number.to_be_bytes());
    body
}

fn sound(number: u32) -> Vec<u8> {
    let mut body = vec![0xaf, 1];
    body.extend_from_slice(&number.to_be_bytes());
    body
}

const PICTURE_HEADER: &[u8] = &[
    0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 30, 0xff, 0xe1, 0, 10, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x47, 0xfe, 0x88, 1, 0, 4, 0x68, 0xce, 0x3c,
    0x80,
];
const SOUND_HEADER: &[u8] = &[0xaf, 0, 0x12, 0x10];

/// A process is killed while outputs still wait for frames: for a second track, or for the first sound of a new file. Whatever it had read is in a file.
#[test]
fn frames_that_no_file_had_taken_are_brought_into_one() {
    // Name, whether the sound's header came, pictures and sounds of 40 ms that were read, further pictures without sound, and the recovery's own deaths.
    for (name, sound_header, both, pictures, deaths) in [
        ("a second track is waited for", false, 0, 20, 0),
        ("the first sound is waited for", true, 0, 9, 0),
        ("a split waits for the sound of its first picture", true, 50, 1, 0),
        ("recovery is killed, too", true, 50, 3, 2),
    ] {
        let (_folder, settings, arenas) = folders();
        // Nobody carries the commands out.
        let (to_disk, _commands) = crossbeam::channel::bounded::<DiskCommand>(1_000);
        let mut store = store(&settings, &arenas, 8, to_disk);
        publish(&mut store, sound_header, both, pictures);
        drop(store);

        for _ in 0..deaths {
            let mut left = LeftBehind::find(&settings, &arenas).unwrap();
            let copy = settings.data_folder.join("copy");
            std::fs::copy(arenas.join("core-0.arena"), &copy).unwrap();
            left.write_back_arenas(&settings, |journal| replay::replay(&settings, journal).inspect_err(|error| eprintln!("{name}: {error}")));
            std::fs::rename(copy, arenas.join("core-0.arena")).unwrap();
        }
        let mut left = LeftBehind::find(&settings, &arenas).unwrap();
        left.write_back_arenas(&settings, |journal| replay::replay(&settings, journal).inspect_err(|error| eprintln!("{name}: {error}")));
        let mut files = Vec::new();
        let recovered = left.recover(&settings, |found| files.push(finished(found)));
        assert_eq!((recovered.failed, recovered.empty), (0, 0), "{name}: {recovered:?}");
        for format in [Format::Flv, Format::Mp4, Format::Hls] {
            let of_format: Vec<_> = files.iter().filter(|file| file.identity.format == format).collect();
            let frames = |video: bool| -> u64 {
                let tracks = of_format.iter().map(|file| if video { &file.summary.video } else { &file.summary.audio });
                tracks.flatten().map(|track| track.frames).sum()
            };
            assert_eq!((frames(true), frames(false)), (u64::from(both + pictures), u64::from(both)), "{name}: {format:?} {of_format:#?}");
            let expected = if both > 0 && format != Format::Hls { 2 } else { 1 };
            assert_eq!(of_format.len(), expected, "{name}: {format:?}");
        }
    }
}
