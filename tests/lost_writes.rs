//! A power cut: whatever the disk had not been asked to sync may be there, may be missing, and may be there in part, in any order. Everything older than
//! the promised time is in a valid file all the same.
//!
//! What the cores send to the disk writer is the trace. An image of the disk is made of it for a random instant, and the next start recovers it; memory
//! is gone with the power.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

#[allow(dead_code, reason = "the other test draws otherwise")]
mod seeded;

use capstan::container::OpenMedia;
use capstan::domain::{FinishedFile, RecordTemplate, RecordingSource};
use capstan::media::Payload;
use capstan::recorder::{MoovReserve, Now, Publication, Recorder, RecorderSettings};
use capstan::segment::finish::{self, FinishSettings, IDENTITY_NAME};
use capstan::segment::recover::{Found, LeftBehind};
use capstan::segment::{Arena, CoreStore, DiskCommand, DiskHandle, DiskHealth, FileIds};
use capstan::units::{Format, MonoTime, PublicationId, StreamKey, TemplateId, WallTime};

use seeded::Random;

/// `record.durability_ms`, the longest time between two flushes (as the ingest core takes it), and a tick.
const DURABILITY_MS: u64 = 1_000;
const FLUSH_MS: u64 = 780;
const TICK_MS: u64 = 50;
/// What is left of the promise for writes and sync.
const SYNC_MS_MAX: u64 = DURABILITY_MS - FLUSH_MS - 2 * TICK_MS;
const PAGE: usize = 4096;
const SECTOR: usize = 512;

enum Step {
    Open(u64, Box<OpenMedia>),
    Write(u64, u64, Vec<u8>),
    /// It has returned at this time.
    Sync(u64),
}

fn now(millis: u64) -> Now {
    Now { mono: MonoTime::from_millis(millis), wall: WallTime::from_unix_millis(1_700_000_000_000 + millis as i64) }
}

const PICTURE_HEADER: &[u8] = &[
    0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 30, 0xff, 0xe1, 0, 10, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x47, 0xfe, 0x88, 1, 0, 4, 0x68, 0xce, 0x3c,
    0x80,
];
const SOUND_HEADER: &[u8] = &[0xaf, 0, 0x12, 0x10];

/// A picture of `bytes` bytes that says its number.
fn picture(number: u32, bytes: usize) -> Vec<u8> {
    let mut body = vec![if number.is_multiple_of(25) { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    body.extend_from_slice(&(bytes as u32 + 5).to_be_bytes());
    body.push(if number.is_multiple_of(25) { 0x65 } else { 0x41 });
    body.extend_from_slice(&number.to_be_bytes());
    body.resize(body.len() + bytes, number as u8);
    body
}

/// Records `seconds` of a stream. Returns what the disk was asked to do, with times.
fn trace(random: &mut Random, arena: &Path, seconds: u64) -> Vec<(u64, Step)> {
    let (sender, commands) = crossbeam::channel::bounded::<DiskCommand>(100_000);
    let to_disk = DiskHandle { sender, health: Arc::new(DiskHealth::new(arena)) };
    let ids = Arc::new(FileIds::new(None, || WallTime::from_unix_seconds(1_700_000_000)));
    let arena = Arena::create(&arena.join("core-0.arena"), 16 << 20).expect("an arena");
    let mut store = CoreStore::new(arena, to_disk, ids, Arc::new(AtomicU64::new(1)), Arc::default());
    let publication = Publication {
        id: PublicationId(7),
        key: StreamKey::new("localhost", "live", "cam"),
        alias_domain: String::new(),
        push_url: String::new(),
        stream_param: String::new(),
    };
    let transport_stream = random.below(4) == 0;
    let settings = RecorderSettings {
        hls_transport_stream: transport_stream,
        hls_segment_ms: 1_000,
        trust_encoder_clock: false,
        moov_reserve: MoovReserve::Insert,
    };
    let mut recorder = Recorder::new(publication, settings);
    let mut template = RecordTemplate::empty(TemplateId(1001), "test");
    for format in [Format::Flv, Format::Mp4, Format::Hls, Format::Aac] {
        template.param_mut(format).enable = true;
    }
    recorder.start(RecordingSource::Rule(TemplateId(1001)), &Arc::new(template), now(0), &mut store);
    recorder.video(0, Payload::contiguous(PICTURE_HEADER), now(0), &mut store).expect("a header");
    recorder.audio(0, Payload::contiguous(SOUND_HEADER), now(0), &mut store).expect("a header");
    let size = 1 << random.below(16);
    let (mut steps, mut sync_due, mut next_flush, mut number) = (Vec::new(), false, random.below(FLUSH_MS), 0_u32);
    for time in (0..seconds * 1_000).step_by(TICK_MS as usize) {
        store.tick(MonoTime::from_millis(time));
        // What has come since the last tick.
        while u64::from(number) * 40 <= time {
            let bytes = 1 + random.below(size) as usize;
            recorder.video(number * 40, Payload::contiguous(&picture(number, bytes)), now(time), &mut store).expect("a picture");
            let sound = [&[0xaf, 1][..], &number.to_be_bytes()].concat();
            recorder.audio(number * 40 + 7, Payload::contiguous(&sound), now(time), &mut store).expect("a sound");
            number += 1;
        }
        recorder.tick(now(time), &mut store);
        if std::mem::take(&mut sync_due) {
            recorder.flush_rest(&mut store);
            store.sync();
        } else if time >= next_flush {
            (next_flush, sync_due) = (time + FLUSH_MS, true);
            recorder.flush(&mut store);
        }
        while let Ok(command) = commands.try_recv() {
            match command {
                DiskCommand::Open(open) => steps.push((time, Step::Open(open.serial.0, Box::new(open.open)))),
                DiskCommand::Write(write) => {
                    steps.push((time, Step::Write(write.serial.0, write.offset, write.bytes.as_slice().to_vec())));
                    drop(write.bytes);
                    if let Some((block, core)) = write.release {
                        core.send(block).expect("the core is there");
                    }
                }
                DiskCommand::Sync(_) => steps.push((time, Step::Sync(time + random.below(SYNC_MS_MAX)))),
                DiskCommand::Memory(_)
                | DiskCommand::Text { .. }
                | DiskCommand::Close { .. }
                | DiskCommand::EndRecording(_)
                | DiskCommand::PauseRecording(_) => {}
            }
        }
    }
    steps
}

/// What the disk may hold when the power fails at `cut`.
fn image(random: &mut Random, steps: &[(u64, Step)], cut: u64, recording: &Path) {
    let issued = steps.iter().take_while(|(time, _)| *time <= cut).count();
    let synced = steps[..issued].iter().rposition(|(_, step)| matches!(step, Step::Sync(done) if *done <= cut)).unwrap_or(0);
    let mut paths = HashMap::new();
    // Unsynced writes land in any order.
    let mut unsynced: Vec<&Step> = steps[synced..issued].iter().map(|(_, step)| step).filter(|step| matches!(step, Step::Write(..))).collect();
    for index in (1..unsynced.len()).rev() {
        unsynced.swap(index, random.below(index as u64 + 1) as usize);
    }
    let lost: HashSet<u64> = steps[synced..issued]
        .iter()
        .filter_map(|(_, step)| if let Step::Open(serial, _) = step { Some(*serial) } else { None })
        .filter(|_| random.below(2) == 0)
        .collect();
    for (_, step) in &steps[..issued] {
        if let Step::Open(serial, open) = step
            && !lost.contains(serial)
        {
            for identity in &open.begin {
                let folder = recording.join(identity.file_id.to_string());
                std::fs::create_dir(&folder).expect("a folder");
                std::fs::write(folder.join(IDENTITY_NAME), finish::identity_text(identity).expect("JSON")).expect("an identity");
            }
            for small in &open.small_files {
                std::fs::write(recording.join(small.folder.to_string()).join(&small.name), &small.bytes).expect("a small file");
            }
            let path = finish::media_path(recording, open.media);
            std::fs::write(&path, &open.head).expect("a head");
            if let Some(link) = open.link {
                std::fs::hard_link(&path, finish::media_path(recording, link)).expect("a link");
            }
            paths.insert(*serial, path);
        }
    }
    let write = |serial: &u64, offset: u64, bytes: &[u8]| {
        if let Some(path) = paths.get(serial) {
            std::fs::OpenOptions::new().write(true).open(path).expect("the file").write_all_at(bytes, offset).expect("written");
        }
    };
    // Direct writes are whole pages.
    let padded = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
        bytes
    };
    for (_, step) in &steps[..synced] {
        if let Step::Write(serial, offset, bytes) = step {
            write(serial, *offset, &padded(bytes));
        }
    }
    for step in unsynced {
        let Step::Write(serial, offset, bytes) = step else { continue };
        let bytes = padded(bytes);
        match random.below(4) {
            0 => {}
            1 => write(serial, *offset, &bytes),
            // Some of its sectors.
            _ => {
                for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                    if random.below(2) == 0 {
                        write(serial, offset + (index * SECTOR) as u64, sector);
                    }
                }
            }
        }
    }
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let settings =
        FinishSettings { data_folder: folder.path().to_owned(), insert_supported: false, time_zone: jiff::tz::TimeZone::UTC, hls_segment_ms: 1_000 };
    let arenas = folder.path().join("arenas");
    for folder in [&arenas, &settings.recording_folder(), &settings.media_folder()] {
        std::fs::create_dir(folder).expect("a folder");
    }
    let steps = trace(&mut random, &arenas, 5);
    let cut = 1_500 + random.below(3_500);
    image(&mut random, &steps, cut, &settings.recording_folder());
    // Memory is gone.
    std::fs::remove_file(arenas.join("core-0.arena")).expect("removed");
    let mut left = LeftBehind::find(&settings, &arenas).expect("a look");
    let mut files: Vec<FinishedFile> = Vec::new();
    let recovered = left.recover(&settings, |found| {
        if let Found::Finished(file) = found {
            files.push(*file);
        }
    });
    assert_eq!(recovered.failed, 0, "seed {seed}: {recovered:?}");
    // A frame is received with the tick that follows it.
    let due = (cut - DURABILITY_MS) / TICK_MS * TICK_MS / 40 + 1;
    for format in [Format::Flv, Format::Mp4, Format::Hls, Format::Aac] {
        let file = files.iter().find(|file| file.identity.format == format).unwrap_or_else(|| panic!("seed {seed}: no {format:?} file"));
        for (track, kind) in [(&file.summary.video, "video"), (&file.summary.audio, "audio")] {
            let frames = track.as_ref().map_or(0, |track| track.frames);
            assert!(
                frames >= due || (format == Format::Aac && kind == "video"),
                "seed {seed}: {frames} {kind} frames in the {format:?} file of a power cut at {cut} ms, at least {due} are promised"
            );
        }
        if format == Format::Flv {
            check_pictures(seed, due, &std::fs::read(folder.path().join(&file.folder).join(&file.entry)).expect("the file"));
        }
    }
}

/// The pictures of an FLV file that are promised are the ones that were sent in their places. Of what is newer, sectors may be missing.
fn check_pictures(seed: u64, due: u64, bytes: &[u8]) {
    let (mut at, mut number) = (13, 0_u32);
    while at + 11 <= bytes.len() && u64::from(number) < due {
        let size = usize::from(bytes[at + 1]) << 16 | usize::from(bytes[at + 2]) << 8 | usize::from(bytes[at + 3]);
        let body = &bytes[at + 11..at + 11 + size];
        if bytes[at] == 9 && body[1] == 1 {
            let whole = picture(number, body.len() - 14);
            assert!(body == whole, "seed {seed}: picture {number} of an FLV file is damaged");
            number += 1;
        }
        at += 11 + size + 4;
    }
}

#[test]
fn everything_older_than_the_promised_time_survives_a_power_cut() {
    let seeds = std::env::var("CAPSTAN_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(100);
    (0..seeds).for_each(run);
}
