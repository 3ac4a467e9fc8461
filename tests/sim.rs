//! Everything between the sockets and the finished files, run by a seed on one thread: RTMP sessions, recorders, container writers, arena, disk writer and
//! finisher are the real ones; clock, network, disk faults and death are the seed's. The process dies between any two calls of the recorder to its store, at
//! any step of the disk writer, of finishing and of recovery, or in the middle of a write; then the next start recovers, and what is in the files is compared
//! with what the recorders had been handed.
//!
//! `CAPSTAN_SIM_SEED=N cargo test --test sim` runs one seed again, `CAPSTAN_SIM_SEEDS=N` so many instead of 1,000.

mod seeded;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use capstan::container::{FinishPlan, OpenMedia, RecordingEnd, Room, Store, mp4};
use capstan::domain::{EndReason, FinishedFile, PausedRecording, Policy, RecordTemplate, RecordingSource, Resume, ResumeClaim, Resumptions};
use capstan::media::TrackKind;
use capstan::metrics::Metrics;
use capstan::recorder::{DropReason, MoovReserve, Now, Publication, Recorder, RecorderSettings};
use capstan::replay;
use capstan::rtmp::amf::{Value, encode_all};
use capstan::rtmp::chunk_writer::{ChunkWriter, MessageHeader};
use capstan::rtmp::message::message_type;
use capstan::rtmp::{Event, MediaKind, Session, SessionConfig};
use capstan::segment::arena::Block;
use capstan::segment::disk::{DiskSettings, ResumptionSettings, SteppedDisk};
use capstan::segment::faults::{self, Killed, Step};
use capstan::segment::finish::{self, FinishSettings};
use capstan::segment::open::OpenRecordings;
use capstan::segment::recover::{Found, LeftBehind};
use capstan::segment::store::{BlockFile, BlockPin};
use capstan::segment::{Arena, CoreStore, DiskHealth, FileIds};
use capstan::units::{FileId, Format, MonoTime, PublicationId, StreamKey, TaskId, TemplateId, WallTime};
use rustix::io::Errno;
use seeded::Random;

const SEEDS: u64 = 1_000;
const TICK_MS: u64 = 50;
const FLUSH_MS: u64 = 600;
const ARENA_BYTES: usize = 6 << 20;
/// Until everything that is open must have come to its end, when nothing is wrong any more.
const END_MS_MAX: u64 = 60_000;

thread_local! {
    static MONO_MS: Cell<u64> = const { Cell::new(0) };
    static WALL_MS: Cell<i64> = const { Cell::new(0) };
    /// Instants until the process dies.
    static FUSE: Cell<Option<u64>> = const { Cell::new(None) };
    static TRACES: Cell<bool> = const { Cell::new(false) };
    /// What the disk answers to a step.
    static FAULT: Cell<Option<(Step, Errno)>> = const { Cell::new(None) };
}

/// Tells what happens, if one seed alone is run.
fn trace(what: impl FnOnce() -> String) {
    if TRACES.get() {
        eprintln!("{:6} ms: {}", MONO_MS.get(), what());
    }
}

/// An instant at which the process may die.
fn instant() {
    match FUSE.get() {
        Some(0) => {
            FUSE.set(None);
            trace(|| "killed".to_owned());
            resume_unwind(Box::new(Killed));
        }
        Some(left) => FUSE.set(Some(left - 1)),
        None => {}
    }
}

/// Runs `body` as a process that may be killed. `None`: it was.
fn until_killed<T>(body: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<Killed>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

fn mono() -> MonoTime {
    MonoTime::from_millis(MONO_MS.get())
}

fn wall() -> WallTime {
    WallTime::from_unix_millis(WALL_MS.get())
}

fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// The core's store; every call is an instant.
struct SimStore(CoreStore);

impl Store for SimStore {
    type File = BlockFile;
    type Pin = BlockPin;
    type Note = Block;

    fn next_file_id(&mut self) -> FileId {
        self.0.next_file_id()
    }
    fn open(&mut self, open: OpenMedia) -> Option<BlockFile> {
        instant();
        self.0.open(open)
    }
    fn reserve(&mut self, file: &mut BlockFile, bytes: usize) -> bool {
        self.0.reserve(file, bytes)
    }
    fn commit(&mut self, file: &mut BlockFile, taken: u64) {
        instant();
        self.0.commit(file, taken);
        instant();
    }
    fn flush(&mut self, file: &mut BlockFile) {
        instant();
        self.0.flush(file);
    }
    fn has_failed(&self, file: &BlockFile) -> bool {
        self.0.has_failed(file)
    }
    fn room(&self, file: Option<&BlockFile>) -> Room {
        self.0.room(file)
    }
    fn append_text(&mut self, folder: FileId, name: &'static str, text: String) {
        instant();
        self.0.append_text(folder, name, text);
    }
    fn close(&mut self, file: BlockFile, plan: Option<FinishPlan>) {
        instant();
        self.0.close(file, plan);
    }
    fn abandon(&mut self, file: BlockFile) {
        instant();
        self.0.abandon(file);
    }
    fn end_recording(&mut self, end: RecordingEnd) {
        instant();
        self.0.end_recording(end);
    }
    fn resume(&mut self, claim: &ResumeClaim, patient: bool) -> Resume {
        self.0.resume(claim, patient)
    }
    fn pause_recording(&mut self, paused: PausedRecording) {
        instant();
        self.0.pause_recording(paused);
    }
    fn open_log(&mut self) -> BlockFile {
        self.0.open_log()
    }
    fn close_log(&mut self, log: BlockFile) {
        instant();
        self.0.close_log(log);
    }
    fn spare_ids(&mut self, count: usize) -> Vec<FileId> {
        self.0.spare_ids(count)
    }
    fn open_note(&mut self, log: &BlockFile, bytes: &[u8]) -> Option<Block> {
        instant();
        self.0.open_note(log, bytes)
    }
    fn patch_note(&mut self, note: &mut Block, at: usize, bytes: &[u8]) {
        instant();
        self.0.patch_note(note, at, bytes);
    }
    fn close_note(&mut self, note: Block) {
        instant();
        self.0.close_note(note);
    }
    fn pin(&mut self, file: &BlockFile, from: u64, take: impl FnMut(BlockPin)) {
        self.0.pin(file, from, take);
    }
    fn is_tight(&self) -> bool {
        self.0.is_tight()
    }
}

// What is sent

const PICTURE_HEADER: &[u8] = &[
    0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 30, 0xff, 0xe1, 0, 10, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x47, 0xfe, 0x88, 1, 0, 4, 0x68, 0xce, 0x3c,
    0x80,
];
const SOUND_HEADER: &[u8] = &[0xaf, 0, 0x12, 0x10];
/// MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes a frame.
const MP3_HEAD: [u8; 4] = [0xff, 0xfb, 0x90, 0x64];
const MP3_BYTES: usize = 417;
const MARK_BYTES: usize = 12;
/// Not aligned to anything, as real ones.
const SOUND_MS: f64 = 23.22;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Mark {
    video: bool,
    publication: u32,
    number: u32,
}

impl Mark {
    /// Text, so that no container finds a start code or a sync word in it.
    fn text(self) -> String {
        format!("<{}{:03x}{:06x}>", if self.video { 'v' } else { 'a' }, self.publication, self.number)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = text.strip_prefix(b"<")?;
        let video = match text.first()? {
            b'v' => true,
            b'a' => false,
            _ => return None,
        };
        let digits = std::str::from_utf8(text.get(1..10)?).ok()?;
        (text.get(10) == Some(&b'>')).then_some(())?;
        Some(Self { video, publication: u32::from_str_radix(&digits[..3], 16).ok()?, number: u32::from_str_radix(&digits[3..], 16).ok()? })
    }

    /// All marks in `bytes`, with their places.
    fn find(bytes: &[u8]) -> Vec<(usize, Self)> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(next) = bytes[at..].iter().position(|byte| *byte == b'<') {
            at += next;
            found.extend(Self::parse(&bytes[at..bytes.len().min(at + MARK_BYTES)]).map(|mark| (at, mark)));
            at += 1;
        }
        found
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sound {
    None,
    Aac,
    Mp3,
}

/// How a publication ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    Says,
    Resets,
    Garbage,
    /// With the process.
    Never,
}

/// A frame that a recorder has been handed, and has taken.
#[derive(Clone, Copy, Debug)]
struct Handed {
    mark: Mark,
    dts_ms: i64,
}

/// What a publication brought, as far as it was handed to its recorder.
#[derive(Debug)]
struct Truth {
    id: PublicationId,
    number: u32,
    life: u64,
    sound: Sound,
    formats: BTreeSet<Format>,
    frames: Vec<Handed>,
    /// The frame that was being handed over when the process died: it may be in files.
    in_hand: Option<Handed>,
    /// Frames without a mark, of garbage.
    unmarked: u64,
    /// Frames that the recorder counts as lost for want of storage, at the end of an orderly run.
    lost: Option<u64>,
    /// The disk failed, hung or was full meanwhile, or memory was used up.
    troubled: bool,
    /// A task: from which to before which of `frames` it was there.
    task: Option<(usize, Option<usize>)>,
}

impl Truth {
    fn wants(&self, format: Format, video: bool) -> bool {
        match format {
            Format::Aac => !video && self.sound == Sound::Aac,
            Format::Mp3 => !video && self.sound == Sound::Mp3,
            _ => true,
        }
    }

    fn wanted(&self, format: Format, frames: &[Handed]) -> Vec<Mark> {
        frames.iter().map(|frame| frame.mark).filter(|mark| self.wants(format, mark.video)).collect()
    }
}

struct Publisher {
    truth: Rc<RefCell<Truth>>,
    key: StreamKey,
    sound: Sound,
    /// Milliseconds between pictures; 0: there are none.
    picture_ms: u64,
    gop: u32,
    picture_bytes_max: u64,
    writer: ChunkWriter,
    session: Session,
    recorder: Option<Recorder<SimStore>>,
    /// Bytes that were sent and have not been read.
    wire: Vec<u8>,
    pending: Vec<u8>,
    begin_ms: u64,
    end_ms: u64,
    ending: Ending,
    /// Added to every timestamp, wrapping.
    base_ms: u32,
    /// What `base_ms` has moved by, unwrapped.
    shift_ms: i64,
    pictures: u32,
    sounds: u32,
    /// DTS of each frame sent, by mark.
    times: BTreeMap<Mark, i64>,
    level: u8,
    stalled_until_ms: u64,
    opened: bool,
    over: bool,
}

impl Publisher {
    fn new(random: &mut Random, number: u32, life: u64) -> Self {
        let sound = random.pick([Sound::Aac, Sound::Aac, Sound::Mp3, Sound::None]);
        let picture_ms = if sound != Sound::None && random.below(5) == 0 { 0 } else { random.pick([33, 40, 40, 67, 200, 1_000]) };
        let mut formats: BTreeSet<Format> = [Format::Flv, Format::Mp4, Format::Hls].into_iter().filter(|_| random.below(3) > 0).collect();
        if sound != Sound::None && random.below(2) == 0 {
            formats.insert(if sound == Sound::Aac { Format::Aac } else { Format::Mp3 });
        }
        if formats.is_empty() {
            formats.insert(Format::Flv);
        }
        let truth = Truth {
            id: PublicationId(1_700_000_000_000_000 + u64::from(number)),
            number,
            life,
            sound,
            formats,
            frames: Vec::new(),
            in_hand: None,
            unmarked: 0,
            lost: None,
            troubled: false,
            task: None,
        };
        let begin_ms = MONO_MS.get() + random.below(300);
        let mut publisher = Self {
            truth: Rc::new(RefCell::new(truth)),
            key: StreamKey::new("localhost", "live", &format!("cam-{life}-{number}")),
            sound,
            picture_ms,
            gop: random.pick([1, 5, 12, 25, 50]),
            picture_bytes_max: 1 << (4 + random.below(9)),
            writer: ChunkWriter::default(),
            session: Session::new(SessionConfig::default(), [7; 1528]),
            recorder: None,
            wire: Vec::new(),
            pending: Vec::new(),
            begin_ms,
            end_ms: begin_ms + 200 + random.up_to([800, 2_500, 4_000]),
            ending: random.pick([Ending::Says, Ending::Says, Ending::Resets, Ending::Garbage, Ending::Never]),
            base_ms: random.pick([0, 0, 0xff_fff0, u32::MAX - 1_500, 0x8000_0000]),
            shift_ms: 0,
            pictures: 0,
            sounds: 0,
            times: BTreeMap::new(),
            level: 30,
            stalled_until_ms: 0,
            opened: false,
            over: false,
        };
        let chunk_bytes = random.pick([128, 1_000, 4_096, 60_000]);
        publisher.open(chunk_bytes);
        publisher
    }

    fn message(&mut self, type_id: u8, message_stream_id: u32, timestamp_ms: u32, body: &[u8]) {
        let chunk_stream_id = match type_id {
            message_type::AUDIO => 4,
            message_type::VIDEO => 6,
            message_type::SET_CHUNK_SIZE => 2,
            _ => 3,
        };
        let header = MessageHeader { chunk_stream_id, timestamp_ms, type_id, message_stream_id };
        self.writer.write(&header, body, &mut self.wire);
    }

    fn command(&mut self, message_stream_id: u32, values: &[Value]) {
        self.message(message_type::COMMAND_AMF0, message_stream_id, 0, &encode_all(values));
    }

    /// The handshake and the commands of an encoder.
    fn open(&mut self, chunk_bytes: u32) {
        self.wire.push(3);
        self.wire.resize(1 + 2 * 1_536, 0);
        let object = Value::object(&[("app", Value::string("live")), ("tcUrl", Value::string("rtmp://localhost/live"))]);
        self.command(0, &[Value::string("connect"), Value::Number(1.0), object]);
        self.message(message_type::SET_CHUNK_SIZE, 0, 0, &chunk_bytes.to_be_bytes());
        self.writer.set_chunk_bytes(chunk_bytes);
        self.command(0, &[Value::string("createStream"), Value::Number(2.0), Value::Null]);
        let name = self.key.stream.to_string();
        self.command(1, &[Value::string("publish"), Value::Number(3.0), Value::Null, Value::string(&name), Value::string("live")]);
    }

    fn picture_header(&mut self, timestamp_ms: u32) {
        let mut header = PICTURE_HEADER.to_vec();
        // Another level is another set of parameters.
        (header[8], header[16]) = (self.level, self.level);
        self.message(message_type::VIDEO, 1, timestamp_ms, &header);
    }

    /// Sends what is due at `time_ms` of the publication.
    fn send(&mut self, random: &mut Random, time_ms: u64) {
        if !self.opened {
            self.opened = true;
            if self.picture_ms > 0 {
                self.picture_header(self.base_ms);
            }
            if self.sound == Sound::Aac {
                self.message(message_type::AUDIO, 1, self.base_ms, SOUND_HEADER);
            }
        }
        loop {
            let picture_at = if self.picture_ms > 0 { u64::from(self.pictures) * self.picture_ms } else { u64::MAX };
            let sound_at = if self.sound == Sound::None { u64::MAX } else { (f64::from(self.sounds) * SOUND_MS) as u64 };
            let due = picture_at.min(sound_at);
            if due > time_ms {
                return;
            }
            let timestamp_ms = self.base_ms.wrapping_add(due as u32);
            let dts_ms = self.shift_ms + due as i64;
            let publication = self.truth.borrow().number;
            if picture_at <= sound_at {
                let key = self.pictures.is_multiple_of(self.gop);
                if key && random.below(12) == 0 {
                    // Encoders repeat it, and some change it.
                    self.level += random.below(2) as u8;
                    self.picture_header(timestamp_ms);
                }
                let mark = Mark { video: true, publication, number: self.pictures };
                let bytes = random.below(self.picture_bytes_max) as usize;
                let mut body = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, (random.below(3) * 40) as u8];
                body.extend_from_slice(&((1 + MARK_BYTES + bytes) as u32).to_be_bytes());
                body.push(if key { 0x65 } else { 0x41 });
                body.extend_from_slice(mark.text().as_bytes());
                body.resize(body.len() + bytes, b'.');
                self.pictures += 1;
                self.times.insert(mark, dts_ms);
                self.message(message_type::VIDEO, 1, timestamp_ms, &body);
            } else {
                let mark = Mark { video: false, publication, number: self.sounds };
                let mut body = if self.sound == Sound::Aac { vec![0xaf, 1, 0x21] } else { [&[0x2f][..], &MP3_HEAD, &[0; 32]].concat() };
                body.extend_from_slice(mark.text().as_bytes());
                let bytes = if self.sound == Sound::Aac { body.len() + random.below(200) as usize } else { 1 + MP3_BYTES };
                body.resize(bytes, b'.');
                self.sounds += 1;
                self.times.insert(mark, dts_ms);
                self.message(message_type::AUDIO, 1, timestamp_ms, &body);
            }
            if random.below(400) == 0 {
                // The encoder's clock jumps.
                let by = 20_000 + random.below(1 << 20) as i64;
                let by = if random.below(2) == 0 { by } else { -by };
                self.base_ms = self.base_ms.wrapping_add(by as u32);
                self.shift_ms += by;
            }
            if random.below(300) == 0 {
                let text = encode_all(&[Value::string("onTextData"), Value::object(&[("text", Value::string("words"))])]);
                self.message(message_type::DATA_AMF0, 1, timestamp_ms, &text);
            }
        }
    }

    /// Reads from the wire and gives it to the recorder, as a connection does. False: the connection is over.
    fn serve(&mut self, random: &mut Random, life: &mut Life) -> bool {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() && !self.feed(&pending, false, life) {
            return false;
        }
        let mut most = random.below(20_000) as usize + 1;
        while !self.wire.is_empty() && most > 0 && self.pending.is_empty() {
            let piece: Vec<u8> = self.wire.drain(..self.wire.len().min(most.min(1 + random.below(9_000) as usize))).collect();
            most -= piece.len();
            if !self.feed(&piece, false, life) {
                return false;
            }
        }
        true
    }

    fn feed(&mut self, input: &[u8], ending: bool, life: &mut Life) -> bool {
        let mut consumed = 0;
        loop {
            if !ending && self.recorder.as_ref().is_some_and(Recorder::is_blocked) {
                self.pending.extend_from_slice(&input[consumed..]);
                return true;
            }
            let event = match self.session.poll(input, &mut consumed) {
                Err(_) => return false,
                Ok(None) => break,
                Ok(Some(event)) => event,
            };
            match event {
                Event::Publish(request) => {
                    assert_eq!(request.address.stream, self.key.stream.to_string());
                    self.recorder = Some(life.begin(&self.truth.borrow(), &self.key));
                    self.session.accept_publish();
                }
                Event::Media { kind, timestamp_ms, payload } => {
                    let Some(recorder) = &mut self.recorder else { continue };
                    let mut truth = self.truth.borrow_mut();
                    let frame = Mark::find(&payload.to_vec()).first().map(|(_, mark)| *mark);
                    let frame = frame.and_then(|mark| Some(Handed { mark, dts_ms: *self.times.get(&mark)? }));
                    let before = recorder.totals();
                    truth.in_hand = frame;
                    let taken = match kind {
                        MediaKind::Video => recorder.video(timestamp_ms, payload, now(), &mut life.store),
                        MediaKind::Audio => recorder.audio(timestamp_ms, payload, now(), &mut life.store),
                        MediaKind::Data => {
                            recorder.data(timestamp_ms, payload, now(), &mut life.store);
                            Ok(())
                        }
                    };
                    truth.in_hand = None;
                    let after = recorder.totals();
                    if (after.video_frames, after.audio_frames) != (before.video_frames, before.audio_frames) {
                        match frame {
                            Some(frame) => truth.frames.push(frame),
                            None => truth.unmarked += 1,
                        }
                    }
                    if taken.is_err() {
                        return false;
                    }
                }
                Event::PublishEnd(_) => return false,
                Event::Refused { .. } => {}
            }
        }
        self.session.output_sent(self.session.output().len());
        true
    }

    /// Ends the publication; what was read before goes in.
    fn close(&mut self, reason: EndReason, life: &mut Life) {
        self.over = true;
        let pending = std::mem::take(&mut self.pending);
        self.feed(&pending, true, life);
        if let Some(mut recorder) = self.recorder.take() {
            recorder.finish(reason, now(), &mut life.store);
            life.ending.push((recorder, Rc::clone(&self.truth)));
        } else {
            // It ended before its wish to publish was read.
            self.truth.borrow_mut().lost = Some(0);
        }
    }
}

/// One process, from start to stop or death.
struct Life {
    store: SimStore,
    disk: SteppedDisk,
    settings: RecorderSettings,
    templates: BTreeMap<u32, Arc<RecordTemplate>>,
    ending: Vec<(Recorder<SimStore>, Rc<RefCell<Truth>>)>,
}

impl Life {
    fn begin(&mut self, truth: &Truth, key: &StreamKey) -> Recorder<SimStore> {
        let publication =
            Publication { id: truth.id, key: key.clone(), push_url: String::new(), stream_param: String::new(), alias_domain: String::new() };
        let mut recorder = Recorder::new(publication, self.settings);
        recorder.start(rule(), &self.templates[&truth.number], now(), &mut self.store);
        recorder
    }
}

fn rule() -> RecordingSource {
    RecordingSource::Rule(TemplateId(1001))
}

fn task() -> RecordingSource {
    RecordingSource::Task(TaskId("task".into()))
}

// A run

struct Simulation {
    random: Random,
    data: tempfile::TempDir,
    finish: FinishSettings,
    transport_stream: bool,
    truths: Vec<Rc<RefCell<Truth>>>,
    /// What the catalog holds.
    catalog: Rc<RefCell<BTreeMap<FileId, FinishedFile>>>,
    publications: u32,
    /// By the number of a process that was stopped in order: frames that its disk did not take.
    unwritten: BTreeMap<u64, u64>,
    /// Disks fail and hang in it.
    faulty: bool,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // Memory is as good as a disk here, and does not wait for one.
        let shared = Path::new("/dev/shm");
        let folder = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        let data = tempfile::Builder::new().prefix("capstan-sim-").tempdir_in(folder).expect("a folder");
        let finish = FinishSettings {
            data_folder: data.path().to_owned(),
            insert_supported: false,
            time_zone: jiff::tz::TimeZone::UTC,
            hls_segment_ms: 1_000,
        };
        for folder in [finish.recording_folder(), finish.media_folder()] {
            std::fs::create_dir(folder).expect("a folder");
        }
        MONO_MS.set(1_000);
        WALL_MS.set(1_700_000_000_000 + random.below(1 << 30) as i64);
        FUSE.set(None);
        FAULT.set(None);
        Self {
            transport_stream: random.below(3) == 0,
            faulty: random.below(3) == 0,
            random,
            data,
            finish,
            truths: Vec::new(),
            catalog: Rc::default(),
            publications: 0,
            unwritten: BTreeMap::new(),
        }
    }

    fn arenas(&self) -> PathBuf {
        self.data.path().join("arenas")
    }

    fn pass(&mut self, millis: u64) {
        MONO_MS.set(MONO_MS.get() + millis);
        WALL_MS.set(WALL_MS.get() + millis as i64);
        if self.random.below(150) == 0 {
            // Somebody sets the clock.
            let by = 1 + self.random.below(100_000_000) as i64;
            WALL_MS.set(WALL_MS.get() + if self.random.below(2) == 0 { by } else { -by });
        }
    }

    /// Several processes, one after the other, and what is left when all has been recovered.
    fn run(&mut self) {
        for life in 0..=self.random.below(2) {
            FUSE.set((self.random.below(5) > 0).then(|| self.random.up_to([1_000, 3_000, 6_000])));
            until_killed(|| self.live(life));
            FAULT.set(None);
        }
        FUSE.set(None);
        self.recover();
        if self.faulty {
            // What the disk refused to begin is cleared away by the start after.
            self.recover();
        }
        self.check();
    }

    /// One process.
    fn live(&mut self, number: u64) {
        let mut left = self.recover();
        let arenas = self.arenas();
        std::fs::create_dir_all(&arenas).expect("a folder");
        let health = Arc::new(DiskHealth::new(self.data.path()));
        let resumptions = Arc::new(Mutex::new(Resumptions::default()));
        let entered = Arc::new(Mutex::new(Vec::new()));
        let metrics = Metrics::new(1);
        let disk = SteppedDisk::new(DiskSettings {
            index: 0,
            descriptors_max: 1 + self.random.below(8) as usize,
            places: Arc::default(),
            finish: self.finish.clone(),
            finished: Box::new({
                let entered = Arc::clone(&entered);
                move |file| entered.lock().unwrap_or_else(PoisonError::into_inner).push(file)
            }),
            metrics: Arc::clone(&metrics),
            clock: mono,
            health,
            open: Arc::new(OpenRecordings::default()),
            resumption: ResumptionSettings {
                table: Arc::clone(&resumptions),
                policy: Arc::new(arc_swap::ArcSwap::from_pointee(Policy::default())),
                wall,
                over: Box::new(|_| ()),
            },
        })
        .expect("a disk");
        let arena = Arena::create(&arenas.join("core-0.arena"), ARENA_BYTES).expect("an arena");
        let last = self.catalog.borrow().keys().max().copied().max(left.take());
        let ids = Arc::new(FileIds::new(last, wall));
        let store = SimStore(CoreStore::new(arena, disk.handle(), ids, Arc::new(AtomicU64::new(1)), resumptions));
        let settings = RecorderSettings {
            hls_transport_stream: self.transport_stream,
            hls_segment_ms: self.finish.hls_segment_ms,
            moov_reserve: if self.random.below(30) == 0 { MoovReserve::Whole } else { MoovReserve::Insert },
            trust_encoder_clock: false,
        };
        let mut life = Life { store, disk, settings, templates: BTreeMap::new(), ending: Vec::new() };
        let mut publishers = Vec::new();
        for _ in 0..=self.random.below(2) {
            let publisher = Publisher::new(&mut self.random, self.publications, number);
            life.templates.insert(self.publications, self.template(&publisher.truth.borrow().formats));
            self.publications += 1;
            self.truths.push(Rc::clone(&publisher.truth));
            publishers.push(publisher);
        }
        let entered = move |simulation: &Self| {
            for file in entered.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                instant();
                simulation.enter(file);
            }
        };
        self.record(&mut life, &mut publishers, &entered);
        self.stop(&mut life, &publishers, &entered);
        std::fs::remove_dir_all(&arenas).expect("removed");
        self.unwritten.insert(number, metrics.unwritten_frames());
    }

    fn template(&mut self, formats: &BTreeSet<Format>) -> Arc<RecordTemplate> {
        let mut template = RecordTemplate::empty(TemplateId(1001), "test");
        for format in formats {
            template.param_mut(*format).enable = true;
            template.param_mut(*format).record_interval_s = self.random.pick([1, 2, 3, 60]);
        }
        Arc::new(template)
    }

    /// The catalog takes a file, and its note goes.
    fn enter(&self, file: FinishedFile) {
        let (id, note) = (file.identity.file_id, finish::note_path(&self.finish, file.identity.file_id));
        if let Some(known) = self.catalog.borrow().get(&id) {
            assert_eq!(known.summary, file.summary, "a file is the same when it is adopted");
        }
        self.catalog.borrow_mut().insert(id, file);
        instant();
        std::fs::remove_file(note).expect("the note of a finished file");
    }

    fn record(&mut self, life: &mut Life, publishers: &mut [Publisher], entered: &impl Fn(&Self)) {
        let (mut next_flush, mut rest, mut trouble_until_ms, mut hangs) = (0, false, 0, false);
        while publishers.iter().any(|publisher| !publisher.over) {
            self.pass(TICK_MS);
            let time_ms = MONO_MS.get();
            if trouble_until_ms > 0 && time_ms >= trouble_until_ms {
                (trouble_until_ms, hangs) = (0, false);
                FAULT.set(None);
                life.disk.hang(false);
                life.disk.note_space(false);
            } else if self.faulty && trouble_until_ms == 0 && self.random.below(40) == 0 {
                trouble_until_ms = time_ms + self.random.pick([100, 1_000, 4_000, 14_000]);
                hangs = self.trouble(life);
                // Also of those that are over: their files may still be on their way.
                publishers.iter().for_each(|publisher| publisher.truth.borrow_mut().troubled = true);
            }
            life.store.0.tick(mono());
            for publisher in publishers.iter_mut().filter(|publisher| !publisher.over && time_ms >= publisher.begin_ms) {
                self.serve(publisher, life);
            }
            // A core looks after a publisher in one tick of several.
            if self.random.below(3) == 0 {
                let recorders = publishers.iter_mut().filter_map(|publisher| publisher.recorder.as_mut());
                recorders.for_each(|recorder| recorder.tick(now(), &mut life.store));
            }
            let recorders = publishers.iter_mut().filter_map(|publisher| publisher.recorder.as_mut());
            if std::mem::take(&mut rest) {
                recorders.for_each(|recorder| recorder.flush_rest(&mut life.store));
                life.store.0.sync();
            } else if time_ms >= next_flush {
                (next_flush, rest) = (time_ms + FLUSH_MS, true);
                recorders.for_each(|recorder| recorder.flush(&mut life.store));
            }
            tick_ending(life);
            if life.store.0.units_free() < 8 {
                publishers.iter().filter(|publisher| !publisher.over).for_each(|publisher| publisher.truth.borrow_mut().troubled = true);
            }
            if !hangs {
                self.step_disk(life);
            }
            entered(self);
        }
    }

    fn serve(&mut self, publisher: &mut Publisher, life: &mut Life) {
        let time_ms = MONO_MS.get();
        if time_ms < publisher.stalled_until_ms {
            return;
        }
        if self.random.below(60) == 0 {
            publisher.stalled_until_ms = time_ms + self.random.below(1_500);
        }
        publisher.send(&mut self.random, (time_ms - publisher.begin_ms).min(publisher.end_ms - publisher.begin_ms));
        let mut goes_on = publisher.serve(&mut self.random, life);
        self.task(publisher, life);
        if goes_on && time_ms >= publisher.end_ms {
            match publisher.ending {
                Ending::Says if publisher.wire.is_empty() && publisher.pending.is_empty() => {
                    publisher.command(1, &[Value::string("deleteStream"), Value::Number(4.0), Value::Null, Value::Number(1.0)]);
                    goes_on = publisher.serve(&mut self.random, life);
                }
                Ending::Says => {}
                // What lies in the socket is lost with it.
                Ending::Resets => goes_on = false,
                Ending::Garbage => {
                    let bytes: Vec<u8> = (0..1 + self.random.below(300)).map(|_| self.random.below(256) as u8).collect();
                    publisher.feed(&bytes, false, life);
                    goes_on = false;
                }
                Ending::Never => goes_on = time_ms < publisher.end_ms + 500,
            }
        }
        if !goes_on {
            publisher.close(EndReason::PublicationEnded, life);
        }
    }

    /// Somebody starts or stops a task.
    fn task(&mut self, publisher: &mut Publisher, life: &mut Life) {
        let Some(recorder) = &mut publisher.recorder else { return };
        if self.random.below(60) > 0 {
            return;
        }
        let mut truth = publisher.truth.borrow_mut();
        let frames = truth.frames.len();
        match &mut truth.task {
            None => {
                recorder.start(task(), &life.templates[&truth.number], now(), &mut life.store);
                truth.task = Some((frames, None));
            }
            Some((_, end @ None)) => {
                recorder.stop(&task(), EndReason::TaskEnded, now(), &mut life.store);
                *end = Some(frames);
            }
            Some(_) => {}
        }
    }

    /// Something goes wrong with the disk. True: it hangs.
    fn trouble(&mut self, life: &mut Life) -> bool {
        let errno = self.random.pick([Errno::IO, Errno::NOSPC]);
        match self.random.below(8) {
            0 => {
                life.disk.hang(true);
                return true;
            }
            1 => life.disk.note_space(true),
            2 => FAULT.set(Some((Step::Create, errno))),
            3 => FAULT.set(Some((Step::Sync, Errno::IO))),
            4 => FAULT.set(Some((Step::Finish, errno))),
            5 => FAULT.set(Some((Step::Index, errno))),
            6 => FAULT.set(Some((Step::Publish, errno))),
            _ => FAULT.set(Some((Step::Write, errno))),
        }
        false
    }

    /// The helper threads get a share of the time.
    fn step_disk(&mut self, life: &mut Life) {
        for _ in 0..self.random.below(12) {
            instant();
            if FUSE.get() == Some(0) && self.random.below(2) == 0 {
                life.disk.tear(self.random.below(4) as usize);
                instant();
            }
            match self.random.below(4) {
                0 => life.disk.sync(),
                1 => _ = life.disk.finish(),
                _ => _ = life.disk.write(),
            }
        }
        if self.random.below(10) == 0 {
            life.disk.finish_again();
        }
    }

    /// An orderly stop.
    fn stop(&mut self, life: &mut Life, publishers: &[Publisher], entered: &impl Fn(&Self)) {
        FAULT.set(None);
        life.disk.hang(false);
        life.disk.note_space(false);
        let begun_ms = MONO_MS.get();
        while !life.ending.is_empty() {
            assert!(MONO_MS.get() < begun_ms + END_MS_MAX, "a publication does not come to its end");
            self.pass(TICK_MS);
            life.store.0.tick(mono());
            tick_ending(life);
            self.step_disk(life);
        }
        loop {
            life.store.0.tick(mono());
            let mut more = life.store.0.backlog() > 0;
            while life.disk.write() {
                more = true;
            }
            while life.disk.finish() {
                more = true;
            }
            if !more {
                break;
            }
        }
        life.disk.finish_again();
        entered(self);
        assert_eq!(life.store.0.units_free(), life.store.0.units_total(), "every block came back");
        assert!(publishers.iter().all(|publisher| publisher.truth.borrow().lost.is_some()));
    }

    /// The next start, which may be killed, too. Returns the greatest id.
    fn recover(&mut self) -> Option<FileId> {
        let fuse = FUSE.take();
        for attempt in 0_u64.. {
            let kill = fuse.is_some() && attempt < 3 && self.random.below(3) == 0;
            FUSE.set(kill.then(|| self.random.below(40)));
            if let Some(last) = until_killed(|| self.recover_once()) {
                FUSE.set(fuse);
                return last;
            }
        }
        unreachable!("the fourth attempt is not killed")
    }

    fn recover_once(&self) -> Option<FileId> {
        let arenas = self.arenas();
        std::fs::create_dir_all(&arenas).expect("a folder");
        let mut left = LeftBehind::find(&self.finish, &arenas).expect("a look");
        left.write_back_arenas(&self.finish, |journal| {
            instant();
            let begun = replay::replay(&self.finish, journal);
            instant();
            begun
        });
        instant();
        let recovered = left.recover(&self.finish, |found| {
            instant();
            match found {
                Found::Finished(file) => self.enter(*file),
                Found::Paused(_) | Found::Over(_) => panic!("nothing is resumed here"),
            }
        });
        // What was for a file that could not be created has no place.
        assert!(recovered.failed == 0 || self.faulty, "{recovered:?}");
        left.last_file_id()
    }
}

fn tick_ending(life: &mut Life) {
    let Life { ending, store, .. } = life;
    ending.retain_mut(|(recorder, truth)| {
        recorder.tick(now(), store);
        if recorder.is_finished() {
            let totals = recorder.totals();
            let of = |reason: DropReason| totals.dropped[reason as usize];
            let storage = [DropReason::StorageBusy, DropReason::StorageFull, DropReason::StorageFailed, DropReason::Unfit];
            let mut truth = truth.borrow_mut();
            assert_eq!(totals.video_frames + totals.audio_frames, truth.frames.len() as u64 + truth.unmarked, "the session's counters");
            truth.lost = Some(storage.into_iter().map(of).sum());
        }
        !recorder.is_finished()
    });
}

// What is in the files

/// A finished file, read again.
struct Contents {
    file: FinishedFile,
    marks: Vec<Mark>,
}

impl Simulation {
    fn check(&self) {
        let recording: Vec<_> = std::fs::read_dir(self.finish.recording_folder()).expect("listed").flatten().map(|entry| entry.path()).collect();
        assert!(recording.is_empty(), "left in the recording folder: {recording:?}");
        let days = std::fs::read_dir(self.finish.media_folder()).expect("listed").flatten();
        let lying = days.flat_map(|day| std::fs::read_dir(day.path()).expect("listed").flatten());
        let lying: BTreeSet<FileId> = lying.filter_map(|entry| FileId::parse(entry.file_name().to_str()?)).collect();
        let known: BTreeSet<FileId> = self.catalog.borrow().keys().copied().collect();
        assert_eq!(lying, known, "what lies on the disk is what the catalog knows");
        let contents: Vec<Contents> = self.catalog.borrow().values().map(|file| self.read(file)).collect();
        let mut missing = BTreeMap::<u64, (u64, u64)>::new();
        for truth in &self.truths {
            let truth = truth.borrow();
            let (in_no_file, counted) = missing.entry(truth.life).or_default();
            *in_no_file += self.check_publication(&truth, &contents);
            // MP4 and HLS from one write lose a frame together: it is counted once.
            let pair = !self.transport_stream && truth.formats.contains(&Format::Mp4) && truth.formats.contains(&Format::Hls);
            *counted += truth.lost.unwrap_or_default() * (1 + u64::from(pair));
        }
        // What an orderly process lost, it has counted; a killed one has no counters left.
        for (life, unwritten) in &self.unwritten {
            let (in_no_file, counted) = missing.get(life).copied().unwrap_or_default();
            assert!(
                in_no_file <= counted + unwritten,
                "life {life}: {in_no_file} frames are in no file; {counted} are counted by recorders, {unwritten} by the disk"
            );
        }
    }

    fn read(&self, file: &FinishedFile) -> Contents {
        let folder = self.data.path().join(&file.folder);
        let what = (file.identity.file_id, file.identity.format);
        let faults = capstan::inspect::verify(&folder).unwrap_or_else(|error| panic!("{what:?}: {error}"));
        assert!(faults.is_empty() || !file.receipt.damaged.is_empty(), "{what:?}: {faults:?}");
        let parts: Vec<PathBuf> = if file.identity.format == Format::Hls {
            let parts = finish::media_files(&folder, &file.identity, &file.entry).expect("listed");
            parts.into_iter().map(|(_, name)| folder.join(name)).collect()
        } else {
            vec![folder.join(&file.entry)]
        };
        let mut marks = Vec::new();
        for part in parts {
            let bytes = std::fs::read(&part).expect("a media file");
            let found = Mark::find(&bytes);
            self.check_times(&part, &bytes, &found);
            marks.extend(found.into_iter().map(|(_, mark)| mark));
        }
        for (track, video) in [(&file.summary.video, true), (&file.summary.audio, false)] {
            let held = marks.iter().filter(|mark| mark.video == video).count() as u64;
            let told = track.as_ref().map_or(0, |track| track.frames);
            assert!(told == held || self.has_unmarked(), "{what:?}: {held} frames (video: {video}), {told} are told");
        }
        Contents { file: file.clone(), marks }
    }

    /// Some garbage was taken for frames.
    fn has_unmarked(&self) -> bool {
        self.truths.iter().any(|truth| truth.borrow().unmarked > 0)
    }

    /// Timestamps keep their differences, by millisecond in FLV and by tick in MP4.
    fn check_times(&self, part: &Path, bytes: &[u8], found: &[(usize, Mark)]) {
        let dts: BTreeMap<Mark, i64> =
            self.truths.iter().flat_map(|truth| truth.borrow().frames.iter().map(|frame| (frame.mark, frame.dts_ms)).collect::<Vec<_>>()).collect();
        let mut times: Vec<(Mark, i64)> = Vec::new();
        match part.extension().and_then(|extension| extension.to_str()) {
            Some("flv") => {
                let (mut at, mut marks) = (13, found.iter().peekable());
                while at + 11 <= bytes.len() {
                    let word = |at: usize| usize::from(bytes[at]) << 16 | usize::from(bytes[at + 1]) << 8 | usize::from(bytes[at + 2]);
                    let (size, time) = (word(at + 1), word(at + 4) | usize::from(bytes[at + 7]) << 24);
                    let end = at + 11 + size + 4;
                    if let Some((_, mark)) = marks.next_if(|(place, _)| *place < end) {
                        times.push((*mark, i64::from(time as u32)));
                    }
                    at = end;
                }
            }
            Some("mp4") => {
                let movie = mp4::read_movie(bytes).unwrap_or_else(|error| panic!("{}: {error}", part.display()));
                for track in &movie.tracks {
                    for sample in &track.samples {
                        let range = sample.offset as usize..sample.offset as usize + sample.bytes as usize;
                        let Some((_, mark)) = Mark::find(&bytes[range]).first().copied() else {
                            assert!(self.has_unmarked(), "{}: a sample without a frame", part.display());
                            continue;
                        };
                        assert_eq!(mark.video, track.kind == TrackKind::Video);
                        times.push((mark, (sample.dts as f64 * 1_000.0 / f64::from(track.ticks_per_second)).round() as i64));
                    }
                }
            }
            _ => {}
        }
        for video in [true, false] {
            let track: Vec<_> = times.iter().filter(|(mark, _)| mark.video == video).collect();
            for pair in track.windows(2) {
                let [(before, before_ms), (after, after_ms)] = pair else { unreachable!("windows of two") };
                let (Some(from), Some(to)) = (dts.get(before), dts.get(after)) else { continue };
                assert_eq!(after_ms - before_ms, to - from, "{}: from {before:?} to {after:?}", part.display());
            }
        }
    }

    /// Returns how many frames are missing in all its files.
    fn check_publication(&self, truth: &Truth, contents: &[Contents]) -> u64 {
        let mut missing_in_all = 0;
        for &format in &truth.formats {
            let of_rule: Vec<&Contents> = contents.iter().filter(|one| is_of(one, truth, format, &rule())).collect();
            let what = format!("publication {} {format:?}", truth.number);
            let wanted = truth.wanted(format, &truth.frames);
            missing_in_all += self.check_track(&what, truth, &wanted, &of_rule);
            if let Some((from, to)) = truth.task {
                let of_task: Vec<&Contents> = contents.iter().filter(|one| is_of(one, truth, format, &task())).collect();
                let to = to.unwrap_or(truth.frames.len());
                // It begins with the group of pictures that was in memory.
                let first =
                    of_task.iter().flat_map(|one| &one.marks).min_by_key(|mark| position(truth, mark)).map_or(from, |mark| position(truth, mark));
                let wanted = truth.wanted(format, &truth.frames[first.min(from)..to.max(first.min(from))]);
                missing_in_all += self.check_track(&format!("{what} by task"), truth, &wanted, &of_task);
            }
        }
        missing_in_all
    }

    /// Every wanted frame is in exactly one file, in its order. Returns how many are in none.
    fn check_track(&self, what: &str, truth: &Truth, wanted: &[Mark], files: &[&Contents]) -> u64 {
        let mut missing = 0;
        for video in [true, false] {
            let wanted: Vec<Mark> = wanted.iter().filter(|mark| mark.video == video).copied().collect();
            let mut files: Vec<Vec<Mark>> = files.iter().map(|one| one.marks.iter().filter(|mark| mark.video == video).copied().collect()).collect();
            files.retain(|marks| !marks.is_empty());
            files.sort();
            let found: Vec<Mark> = files.concat();
            for pair in found.windows(2) {
                assert!(pair[0] < pair[1], "{what}: {:?} comes behind {:?}", pair[1], pair[0]);
            }
            let in_hand = truth.in_hand.map(|frame| frame.mark);
            let strange: Vec<&Mark> = found.iter().filter(|mark| wanted.binary_search(mark).is_err() && Some(**mark) != in_hand).collect();
            assert!(strange.is_empty(), "{what}: {strange:?} were not handed over");
            let lost: Vec<&Mark> = wanted.iter().filter(|mark| found.binary_search(mark).is_err()).collect();
            assert!(
                lost.is_empty() || truth.troubled,
                "{what}: {} of {} are in no file: {:?}...",
                lost.len(),
                wanted.len(),
                &lost[..lost.len().min(5)]
            );
            missing += lost.len() as u64;
        }
        missing
    }
}

fn is_of(one: &Contents, truth: &Truth, format: Format, source: &RecordingSource) -> bool {
    let identity = &one.file.identity;
    identity.publication == truth.id && identity.format == format && identity.source == *source
}

fn position(truth: &Truth, mark: &Mark) -> usize {
    truth.frames.iter().position(|frame| frame.mark == *mark).unwrap_or(usize::MAX)
}

/// `keeps`: its data stay, and what happens is told.
fn run(seed: u64, keeps: bool) {
    faults::hook(Some(Box::new(|step, path| {
        trace(|| format!("{step:?} {}", path.display()));
        instant();
        match FAULT.get() {
            Some((failing, errno)) if failing == step => Err(errno.into()),
            _ => Ok(()),
        }
    })));
    let mut simulation = Simulation::new(seed);
    TRACES.set(keeps);
    if keeps {
        simulation.data.disable_cleanup(true);
        eprintln!("seed {seed}: its data are in {}", simulation.data.path().display());
    }
    simulation.run();
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn whatever_dies_nothing_received_is_lost() {
    if let Some(seed) = setting("CAPSTAN_SIM_SEED") {
        tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().init();
        return run(seed, true);
    }
    let (first, seeds) = (setting("CAPSTAN_SIM_FIRST").unwrap_or(0), setting("CAPSTAN_SIM_SEEDS").unwrap_or(SEEDS));
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    if catch_unwind(|| run(seed, false)).is_err() {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(seed);
                        eprintln!("seed {seed} failed; again with CAPSTAN_SIM_SEED={seed} cargo test --test sim");
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "{} of {seeds} seeds failed: {failed:?}", failed.len());
}
