//! The core's store with an instant at every call, what tells which disks a stream came to, and what the ring has kept, read again.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use capstan::container::{OpenMedia, Recalled, RecalledBatch, RecalledFrame, Recalling, RecordingEnd, Room, Scanned, Store, mp4};
use capstan::domain::{FinishedFile, PausedRecording, Resume, ResumeClaim};
use capstan::segment::CoreStore;
use capstan::segment::arena::Block;
use capstan::segment::store::{BlockFile, BlockPin, Places, Recaller};
use capstan::units::{FileId, StreamKey};

use crate::world::instant;

/// What the catalog holds: on which disk a file lies, and the file.
pub type Catalog = Arc<Mutex<BTreeMap<FileId, (usize, FinishedFile)>>>;

pub fn entries(catalog: &Catalog) -> std::sync::MutexGuard<'_, BTreeMap<FileId, (usize, FinishedFile)>> {
    catalog.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where files were begun.
#[derive(Default)]
pub struct Used {
    streams: BTreeMap<FileId, StreamKey>,
    /// By the number of the process and the stream. Without a stream: one that recovery began.
    disks: BTreeSet<(u64, Option<StreamKey>, usize)>,
}

impl Used {
    /// The disks that files of `stream` were begun on by process `life`.
    pub fn disks(&self, life: u64, stream: &StreamKey) -> BTreeSet<usize> {
        let is_of = |of: &Option<StreamKey>| of.as_ref().is_none_or(|of| of == stream);
        self.disks.iter().filter(|(number, of, _)| *number == life && is_of(of)).map(|(_, _, disk)| *disk).collect()
    }
}

/// The core's store; every call is an instant.
pub struct SimStore {
    pub core: CoreStore,
    pub life: u64,
    pub places: Arc<Places>,
    pub used: Rc<RefCell<Used>>,
}

impl Store for SimStore {
    type File = BlockFile;
    type Pin = BlockPin;
    type Note = Block;

    fn next_file_id(&mut self) -> FileId {
        self.core.next_file_id()
    }
    fn open(&mut self, open: OpenMedia) -> Option<BlockFile> {
        instant();
        let mut used = self.used.borrow_mut();
        used.streams.extend(open.begin.iter().map(|identity| (identity.file_id, identity.key.clone())));
        let folder = open.media.folder;
        let opened = self.core.open(open)?;
        let disk = self.places.get(folder).unwrap_or(0);
        let stream = used.streams.get(&folder).cloned();
        used.disks.insert((self.life, stream, disk));
        Some(opened)
    }
    fn reserve(&mut self, file: &mut BlockFile, bytes: usize) -> bool {
        self.core.reserve(file, bytes)
    }
    fn commit(&mut self, file: &mut BlockFile, taken: u64) {
        instant();
        self.core.commit(file, taken);
        instant();
    }
    fn flush(&mut self, file: &mut BlockFile) {
        instant();
        self.core.flush(file);
    }
    fn has_failed(&self, file: &BlockFile) -> bool {
        self.core.has_failed(file)
    }
    fn room(&self, file: Option<&BlockFile>) -> Room {
        self.core.room(file)
    }
    fn room_beside(&self, recording: FileId) -> Room {
        self.core.room_beside(recording)
    }
    fn append_text(&mut self, folder: FileId, name: &'static str, text: String) {
        instant();
        self.core.append_text(folder, name, text);
    }
    fn close(&mut self, file: BlockFile, known: Option<Scanned>) {
        instant();
        self.core.close(file, known);
    }
    fn abandon(&mut self, file: BlockFile) {
        instant();
        self.core.abandon(file);
    }
    fn end_recording(&mut self, end: RecordingEnd) {
        instant();
        self.core.end_recording(end);
    }
    fn resume(&mut self, claim: &ResumeClaim, patient: bool) -> Resume {
        self.core.resume(claim, patient)
    }
    fn pause_recording(&mut self, paused: PausedRecording) {
        instant();
        self.core.pause_recording(paused);
    }
    fn open_log(&mut self) -> BlockFile {
        self.core.open_log()
    }
    fn close_log(&mut self, log: BlockFile) {
        instant();
        self.core.close_log(log);
    }
    fn spare_ids(&mut self, count: usize) -> Vec<FileId> {
        self.core.spare_ids(count)
    }
    fn open_note(&mut self, log: &BlockFile, bytes: &[u8]) -> Option<Block> {
        instant();
        self.core.open_note(log, bytes)
    }
    fn patch_note(&mut self, note: &mut Block, at: usize, bytes: &[u8]) {
        instant();
        self.core.patch_note(note, at, bytes);
    }
    fn close_note(&mut self, note: Block) {
        instant();
        self.core.close_note(note);
    }
    fn pin(&mut self, file: &BlockFile, from: u64, take: impl FnMut(BlockPin)) {
        self.core.pin(file, from, take);
    }
    fn is_tight(&self) -> bool {
        self.core.is_tight()
    }
    fn recall(&mut self, file: FileId, from_ms: Option<i64>) -> Option<Box<dyn Recalling>> {
        self.core.recall(file, from_ms)
    }
}

/// Frames in a batch: few, so that a file is many.
const BATCH_FRAMES: usize = 20;

/// Reads files of the ring once the catalog has them, at every other asking.
pub fn recaller(catalog: &Catalog, roots: Vec<PathBuf>) -> Recaller {
    let catalog = Arc::clone(catalog);
    Arc::new(move |file, from_ms| {
        let (catalog, roots) = (Arc::clone(&catalog), roots.clone());
        Box::new(Reading { catalog, roots, file, from_ms, batches: None, waits: false })
    })
}

struct Reading {
    catalog: Catalog,
    roots: Vec<PathBuf>,
    file: FileId,
    from_ms: Option<i64>,
    batches: Option<VecDeque<RecalledBatch>>,
    waits: bool,
}

impl Recalling for Reading {
    fn next(&mut self) -> Recalled {
        self.waits = !self.waits;
        if self.waits {
            return Recalled::Wait;
        }
        if self.batches.is_none() {
            let Some(place) = entries(&self.catalog).get(&self.file).map(|(disk, file)| self.roots[*disk].join(&file.folder)) else {
                return Recalled::Wait;
            };
            match std::fs::read(place.join("media-1.m4s")) {
                Ok(bytes) => self.batches = Some(batches(&bytes, self.from_ms)),
                Err(error) => return Recalled::Failed(error.to_string()),
            }
        }
        self.batches.as_mut().and_then(VecDeque::pop_front).map_or(Recalled::End, Recalled::Batch)
    }
}

fn batches(bytes: &[u8], from_ms: Option<i64>) -> VecDeque<RecalledBatch> {
    let movie = mp4::read_movie(bytes).expect("a finished file");
    let batch = |frames: &[mp4::StoredFrame]| {
        let mut batch = RecalledBatch::default();
        for frame in frames {
            let begin = batch.bytes.len();
            batch.bytes.extend_from_slice(&bytes[frame.offset as usize..][..frame.bytes as usize]);
            let range = begin..batch.bytes.len();
            batch.frames.push(RecalledFrame {
                track: frame.track,
                further: frame.further,
                key: frame.key,
                time_ms: frame.time_ms,
                cts_ms: frame.cts_ms,
                range,
            });
        }
        batch
    };
    mp4::stored_frames(&movie, from_ms).chunks(BATCH_FRAMES).map(batch).collect()
}
