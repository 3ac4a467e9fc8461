//! What a defect of ours costs: in the code of one publication its last frame, in the storage the process.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use capstan::domain::{EndReason, FinishedFile, Policy, RecordTemplate, RecordingSource, Resumptions};
use capstan::media::Payload;
use capstan::metrics::Metrics;
use capstan::recorder::{MoovReserve, Now, Publication, Recorder, RecorderSettings};
use capstan::segment::arena::BlockClass;
use capstan::segment::disk::{DiskSettings, ResumptionSettings, SteppedDisk};
use capstan::segment::finish::FinishSettings;
use capstan::segment::store::{BlockWrite, FileSerial};
use capstan::segment::{Arena, CoreStore, Disk, DiskCommand, DiskHealth, FileIds};
use capstan::units::{Format, MonoTime, PublicationId, StreamKey, TemplateId, WallTime};

const PICTURE_HEADER: &[u8] = &[
    0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 30, 0xff, 0xe1, 0, 10, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x47, 0xfe, 0x88, 1, 0, 4, 0x68, 0xce, 0x3c,
    0x80,
];
const SOUND_HEADER: &[u8] = &[0xaf, 0, 0x12, 0x10];
const FRAMES: u32 = 40;

fn wall() -> WallTime {
    WallTime::from_unix_seconds(1_700_000_000)
}

fn settings(folder: &tempfile::TempDir, finished: Box<dyn FnMut(FinishedFile) + Send>) -> DiskSettings {
    let finish =
        FinishSettings { data_folder: folder.path().to_owned(), insert_supported: false, time_zone: jiff::tz::TimeZone::UTC, hls_segment_ms: 1_000 };
    for folder in [finish.recording_folder(), finish.media_folder()] {
        std::fs::create_dir(folder).expect("a folder");
    }
    DiskSettings {
        index: 0,
        finish,
        descriptors_max: 8,
        finished,
        metrics: Metrics::new(1),
        clock: MonoTime::default,
        health: Arc::new(DiskHealth::new(folder.path())),
        open: Arc::default(),
        places: Arc::default(),
        resumption: ResumptionSettings {
            table: Arc::new(Mutex::new(Resumptions::default())),
            policy: Arc::new(arc_swap::ArcSwap::from_pointee(Policy::default())),
            wall,
            over: Box::new(|_| ()),
        },
    }
}

fn publish(name: &str, id: u64, store: &mut CoreStore) -> Recorder<CoreStore> {
    let publication = Publication {
        id: PublicationId(id),
        key: StreamKey::new("localhost", "live", name),
        push_url: String::new(),
        stream_param: String::new(),
        alias_domain: String::new(),
    };
    let settings =
        RecorderSettings { hls_transport_stream: false, hls_segment_ms: 1_000, trust_encoder_clock: false, moov_reserve: MoovReserve::Insert };
    let mut recorder = Recorder::new(publication, settings);
    let mut template = RecordTemplate::empty(TemplateId(1001), "test");
    for format in [Format::Flv, Format::Mp4, Format::Hls, Format::Aac] {
        template.param_mut(format).enable = true;
    }
    recorder.start(RecordingSource::Rule(TemplateId(1001)), &Arc::new(template), now(0), store);
    recorder.video(0, Payload::contiguous(PICTURE_HEADER), now(0), store).expect("a header");
    recorder.audio(0, Payload::contiguous(SOUND_HEADER), now(0), store).expect("a header");
    recorder
}

fn now(time_ms: u32) -> Now {
    Now { mono: MonoTime::from_millis(u64::from(time_ms)), wall: wall() }
}

fn send(recorder: &mut Recorder<CoreStore>, number: u32, store: &mut CoreStore) {
    let (time, key) = (number * 40, number.is_multiple_of(10));
    let mut picture = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 0, 0, 0, 0, 5, if key { 0x65 } else { 0x41 }];
    picture.extend_from_slice(&number.to_be_bytes());
    recorder.video(time, Payload::contiguous(&picture), now(time), store).expect("a picture");
    let sound = [&[0xaf, 1][..], &number.to_be_bytes()].concat();
    recorder.audio(time + 7, Payload::contiguous(&sound), now(time), store).expect("a sound");
}

/// Two publications; the code of one met a defect. Its files are finished with every frame that was complete, and the other goes on.
#[test]
fn a_defect_in_one_publication_costs_nothing_that_was_complete() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&files);
    let mut disk = SteppedDisk::new(settings(&folder, Box::new(move |file| kept.lock().expect("no panic").push(file)))).expect("a disk");
    let arena = Arena::create(&folder.path().join("core-0.arena"), 4 << 20).expect("an arena");
    let mut store =
        CoreStore::new(arena, disk.handle(), Arc::new(FileIds::new(None, wall)), Arc::new(std::sync::atomic::AtomicU64::new(1)), Arc::default());
    let (mut broken, mut other) = (publish("broken", 1, &mut store), publish("other", 2, &mut store));
    for number in 0..2 * FRAMES {
        if number < FRAMES {
            send(&mut broken, number, &mut store);
        } else if number == FRAMES {
            broken.abandon(EndReason::PublicationEnded, now(number * 40), &mut store);
            assert!(broken.is_finished());
        }
        send(&mut other, number, &mut store);
        while disk.write() {}
        while disk.finish() {}
        store.tick(now(number * 40).mono);
    }
    other.finish(EndReason::PublicationEnded, now(4_000), &mut store);
    loop {
        let more = store.backlog() > 0;
        while disk.write() {}
        while disk.finish() {}
        store.tick(now(4_000).mono);
        if !more {
            break;
        }
    }
    drop((broken, other));
    store.tick(now(4_001).mono);
    assert_eq!(store.units_free(), store.units_total(), "every block came back");
    let files = files.lock().expect("no panic");
    for (name, frames) in [("broken", FRAMES), ("other", 2 * FRAMES)] {
        let of_stream: Vec<_> = files.iter().filter(|file| &*file.identity.key.stream == name).collect();
        let formats: std::collections::BTreeSet<_> = of_stream.iter().map(|file| file.identity.format).collect();
        assert_eq!((of_stream.len(), formats.len()), (4, 4), "{name}: {of_stream:#?}");
        for file in of_stream {
            let what = (name, file.identity.format);
            let (video, audio) = (file.summary.video.as_ref(), file.summary.audio.as_ref());
            assert_eq!(audio.map(|track| track.frames), Some(u64::from(frames)), "{what:?}");
            let pictures = (file.identity.format != Format::Aac).then_some(u64::from(frames));
            assert_eq!(video.map(|track| track.frames), pictures, "{what:?}");
            let faults = capstan::inspect::verify(&folder.path().join(&file.folder)).expect("verified");
            assert!(faults.is_empty(), "{what:?}: {faults:?}");
        }
    }
}

/// Says that this is the process that is to abort.
const CHILD: &str = "CAPSTAN_TEST_BROKEN_STORAGE";

/// The disk writer is given bytes of a file that was never opened: what else is wrong nobody knows, so nothing more is written.
#[test]
fn a_broken_invariant_of_the_storage_ends_the_process() {
    if std::env::var_os(CHILD).is_some() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::start(settings(&folder, Box::new(|_| ()))).expect("a disk");
        let mut arena = Arena::create(&folder.path().join("core-0.arena"), 1 << 20).expect("an arena");
        let mut block = arena.allocate(BlockClass::Tiny).expect("a block");
        block.write(0, b"bytes");
        block.seal(5);
        let (received, sent) = (MonoTime::default(), MonoTime::default());
        let write = BlockWrite { serial: FileSerial(7), offset: 0, bytes: block.sealed_bytes(0, 5), release: None, received, sent };
        disk.handle().sender.send(DiskCommand::Write(write)).expect("a writer");
        disk.stop();
        return;
    }
    // An aborted process clears nothing away.
    let folder = tempfile::tempdir().expect("a folder");
    let child = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "a_broken_invariant_of_the_storage_ends_the_process"])
        .env(CHILD, "1")
        .env("TMPDIR", folder.path())
        .output()
        .expect("a process");
    assert_eq!(child.status.signal(), Some(6), "SIGABRT: {child:?}");
}
