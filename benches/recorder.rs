//! From chunks to sealed blocks, everything a core does between `recv` and the disk's queue: chunk reader, recorder, containers, arena. The disk gives
//! every block back at once.
//!
//! ```text
//! cargo bench --bench recorder
//! ```

mod support;

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use capstan::domain::RecordingSource;
use capstan::domain::template::RecordTemplate;
use capstan::recorder::{MoovReserve, Now, Publication, Recorder, RecorderSettings};
use capstan::rtmp::chunk::ChunkReader;
use capstan::segment::store::DiskCommand;
use capstan::segment::{Arena, CoreStore, DiskHandle, DiskHealth, FileIds};
use capstan::units::{Format, MonoTime, PublicationId, StreamKey, TemplateId, WallTime};
use crossbeam::channel::{Receiver, bounded};

const ARENA_BYTES: usize = 64 << 20;
/// Media of one round; a tick's worth of it is fed at once.
const SECONDS: usize = 4;
const TICKS: usize = SECONDS * 20;

/// A disk that has written everything before it is asked.
fn disk(folder: &Path) -> (DiskHandle, Receiver<DiskCommand>) {
    let (sender, receiver) = bounded(8192);
    (DiskHandle { sender, health: Arc::new(DiskHealth::new(folder)) }, receiver)
}

fn give_back(queue: &Receiver<DiskCommand>) {
    while let Ok(command) = queue.try_recv() {
        match command {
            DiskCommand::Write(write) => {
                drop(write.bytes);
                if let Some((block, back)) = write.release {
                    back.send(block).expect("the core lives");
                }
            }
            DiskCommand::Open(open) => {
                let (block, back) = open.record;
                back.send(block).expect("the core lives");
            }
            _ => {}
        }
    }
}

fn wall() -> WallTime {
    WallTime::from_unix_seconds(1_735_689_600)
}

/// Publishes the same seconds again and again; timestamps go on by deltas.
struct Stream {
    reader: ChunkReader,
    recorder: Recorder<CoreStore>,
    store: CoreStore,
    queue: Receiver<DiskCommand>,
    now: Now,
}

impl Stream {
    fn new(folder: &Path, formats: &[Format]) -> Self {
        let memory = Path::new("/dev/shm").join(format!("capstan-bench-{}", std::process::id()));
        let arena = Arena::create(&memory, ARENA_BYTES).expect("room in /dev/shm");
        std::fs::remove_file(&memory).expect("it was made");
        let (handle, queue) = disk(folder);
        let ids = Arc::new(FileIds::new(None, wall));
        let mut store = CoreStore::new(arena, handle, ids, Arc::new(AtomicU64::new(1)), Arc::new(Mutex::default()));
        let publication = Publication {
            id: PublicationId(1),
            key: StreamKey::new("localhost", "live", "bench"),
            push_url: "rtmp://localhost/live/bench".to_owned(),
            stream_param: String::new(),
            alias_domain: String::new(),
        };
        let settings =
            RecorderSettings { hls_transport_stream: false, hls_segment_ms: 4_000, moov_reserve: MoovReserve::Insert, trust_encoder_clock: false };
        let mut recorder = Recorder::new(publication, settings);
        let mut template = RecordTemplate::empty(TemplateId(1001), "bench");
        formats.iter().for_each(|format| template.param_mut(*format).enable = true);
        let now = Now { mono: MonoTime::from_millis(1), wall: wall() };
        store.tick(now.mono);
        recorder.start(RecordingSource::Rule(TemplateId(1001)), &Arc::new(template), now, &mut store);
        Self { reader: ChunkReader::default(), recorder, store, queue, now }
    }

    fn feed(&mut self, input: &[u8]) {
        self.now.mono = MonoTime::from_millis(self.now.mono.nanos() / 1_000_000 + 50);
        give_back(&self.queue);
        self.store.tick(self.now.mono);
        let mut consumed = 0;
        while let Some(header) = self.reader.next_message(input, &mut consumed).expect("whole chunks") {
            let payload = self.reader.payload(input);
            match header.type_id {
                support::VIDEO => self.recorder.video(header.timestamp_ms, payload, self.now, &mut self.store).expect("a whole tag"),
                _ => self.recorder.audio(header.timestamp_ms, payload, self.now, &mut self.store).expect("a whole tag"),
            }
        }
    }

    fn round(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(bytes.len().div_ceil(TICKS)) {
            self.feed(piece);
        }
        self.recorder.tick(self.now, &mut self.store);
        self.recorder.flush(&mut self.store);
        self.recorder.flush_rest(&mut self.store);
        assert!(!self.recorder.is_blocked() && self.recorder.totals().dropped.iter().sum::<u64>() == 0, "nothing may be lost");
    }
}

/// `500 flv`: bit rate, formats joined by `+`.
fn stream(folder: &Path, case: &str) -> (Stream, Vec<u8>, usize) {
    let (bitrate_kbit, formats) = case.split_once(' ').expect("a case has two parts");
    let formats: Vec<Format> =
        formats.split('+').map(|name| Format::ALL.into_iter().find(|format| format.name() == name).expect("a format")).collect();
    let tags = support::media(bitrate_kbit.parse().expect("a number"), SECONDS);
    let mut stream = Stream::new(folder, &formats);
    let chunk_size = [&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0][..], &4096_u32.to_be_bytes()].concat();
    stream.feed(&chunk_size);
    stream.round(&support::chunks(&tags, 4096));
    (stream, support::more_chunks(&tags, 4096), tags.len() - 2)
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    if let Some((case, rounds)) = support::counted() {
        let (mut stream, bytes, _) = stream(folder.path(), &case);
        (0..rounds).for_each(|_| stream.round(&bytes));
        return;
    }
    let copy = support::memcpy(256 << 10);
    support::head("chunks to sealed blocks, one stream, ticks of 50 ms", copy);
    for case in ["500 flv", "4000 flv", "4000 mp4", "4000 mp4+hls", "4000 mp4+hls+flv+aac", "20000 flv"] {
        let (mut stream, bytes, messages) = stream(folder.path(), case);
        let rate = support::measure(bytes.len(), || stream.round(&bytes));
        let per_message = support::instructions(case).map(|count| count / messages as f64);
        support::row(case, rate, copy, per_message);
    }
}
