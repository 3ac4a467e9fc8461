//! The core's side of the segment layer: open files as chains of arena blocks, and the queue to the disk writer.

mod block_file;
mod command;
mod link;
mod places;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::channel::Sender;

use crate::container::{HEAD_ALIGN_BYTES, OpenMedia, Recalling, RecordingEnd, Room, Scanned, Sink, Store, Unfit};
use crate::domain::{PausedRecording, Resume, ResumeClaim, Resumptions};
use crate::units::{FileId, MonoTime, PublicationId};

use super::arena::{Arena, Block, BlockClass, BlockKind, Progress};
use super::disk::DiskHandle;
use super::open_record::OpenRecord;
use super::vital::vital;

use block_file::Target;
use link::DiskLink;

pub use block_file::{BlockFile, BlockPin};
pub use command::{BlockWrite, DiskCommand, FileSerial, OpenFile};
pub use places::{Disks, FileIds, Places};

/// Direct writes begin at multiples of this in file and memory.
pub const WRITE_ALIGN_BYTES: u64 = HEAD_ALIGN_BYTES as u64;

/// The bitrate of a file is looked at this often.
const RATE_MS: u64 = 1_000;
/// And for the first time after this: it begins with the smallest blocks.
const FIRST_RATE_MS: u64 = 400;
/// With less than this part of the arena free, groups of pictures are not kept for tasks that may join: recording comes first.
const TIGHT_PART: usize = 8;
/// With less than this part of the arena free, a disk gets no more of it than its share: one that does not follow must not use up what the others need.
const SHARED_PART: usize = 4;

/// The last part of the arena is for files alone: a log that took it would keep its own frames from ever reaching one.
const FILES_PART: usize = 16;

/// So much is added to a checksum at once: many small pieces would cost several times as much, and so little is in the processor's cache still.
const SUM_BYTES_MIN: u64 = 16 << 10;

/// Reads the media file of an HLS recording again, on another thread; the moment, since its first frame, is in ms.
pub type Recaller = Arc<dyn Fn(FileId, Option<i64>) -> Box<dyn Recalling> + Send + Sync>;

/// The storage of one ingest core: its arena, its open files, its queues to the disk writers.
pub struct CoreStore {
    arena: Arena,
    disks: Vec<DiskLink>,
    places: Arc<Places>,
    /// For which publication a disk was chosen last, when, and which.
    chosen: Option<(PublicationId, MonoTime, usize)>,
    ids: Arc<FileIds>,
    serials: Arc<AtomicU64>,
    resumptions: Arc<Mutex<Resumptions>>,
    recaller: Option<Recaller>,
    is_memory_told: bool,
    /// The receipt time of the bytes that are being appended now.
    now: MonoTime,
}

impl CoreStore {
    pub fn new(arena: Arena, disks: impl Into<Disks>, ids: Arc<FileIds>, serials: Arc<AtomicU64>, resumptions: Arc<Mutex<Resumptions>>) -> Self {
        let Disks { handles, places } = disks.into();
        assert!(!handles.is_empty(), "there is a disk");
        let link = |DiskHandle { sender: to_disk, health }| {
            // Every block of the arena fits, so giving one back never blocks the disk writer.
            let (give_back, returned) = crossbeam::channel::bounded(arena.units_total());
            DiskLink { to_disk, health, outbox: VecDeque::new(), returned, give_back, held_bytes: 0 }
        };
        let disks = handles.into_iter().map(link).collect();
        let now = MonoTime::default();
        let mut store = Self { arena, disks, places, chosen: None, ids, serials, resumptions, recaller: None, is_memory_told: false, now };
        store.tell_memory();
        store
    }

    /// Lets the disks know where all blocks lie, once that is known. It helps them, no more.
    fn tell_memory(&mut self) {
        if !self.is_memory_told
            && let Some(memory) = self.arena.memory()
        {
            self.is_memory_told = true;
            for disk in &self.disks {
                let _ = disk.to_disk.try_send(DiskCommand::Memory(memory.clone()));
            }
        }
    }

    /// Whom to ask for what was recorded before.
    pub fn set_recaller(&mut self, recaller: Recaller) {
        self.recaller = Some(recaller);
    }

    /// Once a tick: takes blocks back and sends what the disk queue did not take before.
    pub fn tick(&mut self, now: MonoTime) {
        vital(|| {
            self.now = now;
            self.take_back();
            self.tell_memory();
            self.disks.iter_mut().for_each(DiskLink::send_waiting);
        })
    }

    /// Lets everything flushed before reach the disk for good.
    pub fn sync(&mut self) {
        // Where commands wait, the disk does not answer; its syncs would wait behind them, one for each time.
        self.disks.iter_mut().filter(|disk| disk.outbox.is_empty()).for_each(|disk| disk.send(DiskCommand::Sync(self.now)));
    }

    /// From asking for a sync until it is done, on the slowest of the disks that answer: the longest time of late.
    pub fn sync_nanos(&self) -> u64 {
        self.disks.iter().filter(|disk| !disk.health.is_stalled(self.now)).map(|disk| disk.health.sync_nanos()).max().unwrap_or(0)
    }

    /// Commands waiting for room in the queues of disks that answer.
    pub fn backlog(&self) -> usize {
        self.disks.iter().filter(|disk| !disk.health.is_stalled(self.now)).map(|disk| disk.outbox.len()).sum()
    }

    pub fn units_free(&self) -> usize {
        self.arena.units_free()
    }

    pub fn units_total(&self) -> usize {
        self.arena.units_total()
    }

    /// What opening the file takes, in the arena. `None`: there is no free block. Without it a file is not begun: a kill would leave blocks of a file that is
    /// not there.
    fn record(&mut self, open: &OpenMedia, serial: FileSerial, disk: usize) -> Option<(Block, Sender<Block>)> {
        let record = OpenRecord::of(open, self.disks[disk].health.label()).encode();
        let mut block = self.block_for(&record);
        if block.is_none() {
            self.take_back();
            block = self.block_for(&record);
        }
        let block = block?;
        block.describe(BlockKind::OpenRecord, (open.media.folder.get(), open.media.part, 0), serial.0);
        block.describe_progress(Progress { bytes: record.len(), taken: 0 });
        self.disks[disk].held_bytes += block.bytes();
        Some((block, self.disks[disk].give_back.clone()))
    }

    /// The disk for a file: where the recordings lie that it belongs to, else the best one.
    fn choose(&mut self, open: &OpenMedia) -> usize {
        if self.disks.len() == 1 {
            return 0;
        }
        let begun = [Some(open.media), open.link].into_iter().flatten().find_map(|path| self.places.get(path.folder));
        if let Some(begun) = begun {
            return begun;
        }
        // What begins together for one stream lies together: a disk that dies shall hit few.
        let publication = open.begin.first().map(|identity| identity.publication);
        let beside = self.chosen.filter(|(of, at, _)| Some(*of) == publication && *at == self.now);
        let disk = beside.map_or_else(|| self.best(), |(_, _, disk)| disk);
        self.chosen = publication.map(|publication| (publication, self.now, disk));
        disk
    }

    fn best(&self) -> usize {
        // Of equals the first.
        (0..self.disks.len()).rev().max_by_key(|index| self.disks[*index].health.fitness(self.now)).unwrap_or(0)
    }

    /// How it stands with one disk for files that would lie there.
    fn room_on(&self, index: usize) -> Room {
        let disk = &self.disks[index];
        let wrong = disk.what_is_wrong(self.now).or_else(|| self.is_swamped(disk).then_some(Unfit::Stalled));
        if let Some(wrong) = wrong
            && (0..self.disks.len()).any(|other| other != index && self.disks[other].health.is_well(self.now))
        {
            return Room::Elsewhere(wrong);
        }
        Self::alone(disk, self.now)
    }

    /// How it stands with a disk, whatever else there is.
    fn alone(disk: &DiskLink, now: MonoTime) -> Room {
        match () {
            () if disk.health.is_full() => Room::Full,
            () if disk.health.is_stalled(now) || disk.health.is_missing() => Room::Stalled,
            () => Room::Free,
        }
    }

    /// It takes long over a step, and holds more of the memory than is good for the others.
    fn is_swamped(&self, disk: &DiskLink) -> bool {
        disk.health.is_slow(self.now) && disk.held_bytes > self.arena.bytes_total() / SHARED_PART
    }

    /// May files of this disk hold one more block (see [`SHARED_PART`]), or, without one, logs (see [`FILES_PART`])?
    fn has_share(&self, disk: Option<usize>) -> bool {
        let Some(disk) = disk else { return self.arena.units_free() > self.arena.units_total() / FILES_PART };
        if self.disks.len() == 1 {
            return true;
        }
        let share = self.arena.bytes_total() / self.disks.len();
        self.disks[disk].held_bytes < share || self.arena.units_free() > self.arena.units_total() / SHARED_PART
    }

    fn next_serial(&self) -> FileSerial {
        FileSerial(self.serials.fetch_add(1, Ordering::Relaxed))
    }

    /// A block with `bytes` in it, not described yet.
    fn block_for(&mut self, bytes: &[u8]) -> Option<Block> {
        let class = BlockClass::holding(bytes.len());
        let mut block = self.arena.allocate(class)?;
        if block.bytes() < bytes.len() {
            self.arena.free(block);
            return None;
        }
        block.write(0, bytes);
        Some(block)
    }

    fn take_back(&mut self) {
        self.arena.reap();
        for index in 0..self.disks.len() {
            while let Ok(block) = self.disks[index].returned.try_recv() {
                self.free(Some(index), block);
            }
        }
    }

    /// A block that files of this disk held is free.
    fn free(&mut self, disk: Option<usize>, block: Block) {
        if let Some(disk) = disk {
            self.disks[disk].held_bytes -= block.bytes();
        }
        self.arena.free(block);
    }

    /// The disk of a recording that has begun.
    fn disk_of(&mut self, recording: FileId) -> &mut DiskLink {
        let index = if self.disks.len() == 1 { 0 } else { self.places.get(recording).unwrap_or(0) };
        &mut self.disks[index]
    }

    /// Hands sealed bytes over: whole sealed blocks always; the sealed part of the last block too if `partial`.
    fn hand_over(&mut self, file: &mut BlockFile, partial: bool) {
        let disk = file.disk();
        file.sum_up();
        while let Some(held) = file.held.front_mut() {
            let sealed = (file.sealed.max(held.start) - held.start).min(held.block.bytes() as u64) as usize;
            held.block.seal(sealed);
            let whole = sealed == held.block.bytes();
            if !whole && (!partial || sealed == held.flushed) {
                return;
            }
            let serial = file.serial;
            let Some(disk) = disk else {
                if whole && let Some(held) = file.held.pop_front() {
                    self.arena.free(held.block);
                    continue;
                }
                return;
            };
            // A partial page was written before: write it again with what it has now.
            let from = held.flushed - held.flushed % WRITE_ALIGN_BYTES as usize;
            let bytes = held.block.sealed_bytes(from, sealed);
            let offset = held.start + from as u64;
            let received = file.oldest.unwrap_or(self.now);
            held.flushed = sealed;
            let disk = &mut self.disks[disk];
            let release = if whole { file.held.pop_front().map(|held| (held.block, disk.give_back.clone())) } else { None };
            disk.send(DiskCommand::Write(BlockWrite { serial, offset, bytes, release, received, sent: self.now }));
            // What is left was received since, give or take the time a block takes to fill.
            file.oldest = (file.sealed < file.position || !file.held.is_empty()).then_some(self.now);
            if !whole {
                return;
            }
        }
    }
}

impl Store for CoreStore {
    type File = BlockFile;
    type Pin = BlockPin;
    type Note = Block;

    fn next_file_id(&mut self) -> FileId {
        self.ids.next()
    }

    fn open(&mut self, open: OpenMedia) -> Option<BlockFile> {
        vital(|| {
            assert_eq!(open.head.len() % HEAD_ALIGN_BYTES, 0, "a head is whole pages");
            let disk = self.choose(&open);
            let serial = self.next_serial();
            let record = self.record(&open, serial, disk)?;
            let failed = Arc::new(AtomicBool::new(false));
            let position = open.head.len() as u64;
            open.begin.iter().for_each(|identity| self.places.enter(identity.file_id, disk));
            let target = Target { media: open.media, writer: open.writer, failed: Arc::clone(&failed), disk };
            let file = BlockFile::begin(Some(target), serial, position, self.now);
            self.disks[disk].health.file_begins();
            self.disks[disk].send(DiskCommand::Open(Box::new(OpenFile { serial, open, failed, record })));
            Some(file)
        })
    }

    fn reserve(&mut self, file: &mut BlockFile, bytes: usize) -> bool {
        vital(|| {
            while file.room() < bytes {
                // A frame larger than the usual block gets a larger one.
                let missing = bytes - file.room();
                let class = BlockClass::holding(missing).max(file.class);
                let disk = file.disk();
                let mut block = if self.has_share(disk) { self.arena.allocate(class) } else { None };
                if block.is_none() {
                    self.take_back();
                    block = if self.has_share(disk) { self.arena.allocate(class) } else { None };
                }
                let Some(block) = block else { return false };
                if let Some(disk) = disk {
                    self.disks[disk].held_bytes += block.bytes();
                }
                file.spare_bytes += block.bytes();
                file.spare.push_back(block);
                if !file.is_measured {
                    // Whoever fills it so soon is no weak stream.
                    file.class = file.class.larger();
                }
            }
            if file.oldest.is_none() {
                file.oldest = Some(self.now);
            }
            true
        })
    }

    fn commit(&mut self, file: &mut BlockFile, taken: u64) {
        vital(|| {
            file.describe_progress(taken);
            (file.committed, file.taken) = (file.position, taken);
            if file.position - file.summed >= SUM_BYTES_MIN {
                file.sum_up();
            }
            if file.held.front().is_some_and(|held| held.end() <= file.sealed) {
                self.hand_over(file, false);
            }
        })
    }

    fn flush(&mut self, file: &mut BlockFile) {
        vital(|| {
            let elapsed_ms = self.now.millis_since(file.measured);
            if elapsed_ms >= if file.is_measured { RATE_MS } else { FIRST_RATE_MS } {
                file.is_measured = true;
                file.class = BlockClass::for_rate((file.position - file.measured_position) * 1_000 / elapsed_ms);
                (file.measured, file.measured_position) = (self.now, file.position);
            }
            self.hand_over(file, true);
        })
    }

    fn recall(&mut self, file: FileId, from_ms: Option<i64>) -> Option<Box<dyn Recalling>> {
        self.recaller.as_ref().map(|recaller| recaller(file, from_ms))
    }

    fn has_failed(&self, file: &BlockFile) -> bool {
        file.target.as_ref().is_some_and(|target| target.failed.load(Ordering::Relaxed))
    }

    fn room(&self, file: Option<&BlockFile>) -> Room {
        match file.and_then(BlockFile::disk) {
            Some(disk) => self.room_on(disk),
            None => Self::alone(&self.disks[self.best()], self.now),
        }
    }

    fn room_beside(&self, recording: FileId) -> Room {
        match self.places.get(recording) {
            Some(disk) => self.room_on(disk),
            None => self.room(None),
        }
    }

    fn append_text(&mut self, folder: FileId, name: &'static str, text: String) {
        self.disk_of(folder).send(DiskCommand::Text { folder, name, text });
    }

    fn abandon(&mut self, mut file: BlockFile) {
        file.forget_uncommitted();
        self.close(file, None);
    }

    fn close(&mut self, mut file: BlockFile, known: Option<Scanned>) {
        file.seal(file.position);
        self.hand_over(&mut file, true);
        let (Some(disk), Some(sum)) = (file.disk(), file.sum.take()) else { return self.close_log(file) };
        let serial = file.serial;
        let bytes = file.position;
        let tail = file.tail();
        // The last, partly filled block: its bytes are sent; it comes back behind them.
        for held in file.held.drain(..) {
            let bytes = held.block.sealed_bytes(0, 0);
            let link = &mut self.disks[disk];
            let release = Some((held.block, link.give_back.clone()));
            link.send(DiskCommand::Write(BlockWrite { serial, offset: held.start, bytes, release, received: self.now, sent: self.now }));
        }
        for block in file.spare.drain(..) {
            self.free(Some(disk), block);
        }
        self.disks[disk].health.file_ends();
        self.disks[disk].send(DiskCommand::Close { serial, bytes, known: known.map(Box::new), sum, tail, headers: file.headers });
    }

    fn resume(&mut self, claim: &ResumeClaim, patient: bool) -> Resume {
        self.resumptions.lock().unwrap_or_else(PoisonError::into_inner).claim(claim, patient)
    }

    fn pause_recording(&mut self, paused: PausedRecording) {
        self.disk_of(paused.file_id).send(DiskCommand::PauseRecording(Box::new(paused)));
    }

    fn end_recording(&mut self, end: RecordingEnd) {
        if let Some(claim) = &end.claim {
            self.resumptions.lock().unwrap_or_else(PoisonError::into_inner).end(&claim.key, &claim.source, claim.publication);
        }
        self.disk_of(end.file_id).send(DiskCommand::EndRecording(end));
    }

    fn open_log(&mut self) -> BlockFile {
        BlockFile::begin(None, self.next_serial(), 0, self.now)
    }

    fn close_log(&mut self, mut log: BlockFile) {
        for block in log.held.drain(..).map(|held| held.block).chain(log.spare.drain(..)) {
            self.arena.free(block);
        }
    }

    fn spare_ids(&mut self, count: usize) -> Vec<FileId> {
        // Not to be described in vain at every frame.
        let count = if self.arena.units_free() == 0 { 0 } else { count };
        (0..count).map(|_| self.ids.next()).collect()
    }

    fn open_note(&mut self, log: &BlockFile, bytes: &[u8]) -> Option<Block> {
        let block = self.block_for(bytes)?;
        block.describe(BlockKind::Note, (log.serial.0, 0, 0), 0);
        block.describe_progress(Progress { bytes: bytes.len(), taken: 0 });
        Some(block)
    }

    fn patch_note(&mut self, note: &mut Block, at: usize, bytes: &[u8]) {
        note.write(at, bytes);
    }

    fn close_note(&mut self, note: Block) {
        self.arena.free(note);
    }

    fn pin(&mut self, file: &BlockFile, from: u64, mut take: impl FnMut(BlockPin)) {
        let first = file.held.iter().rposition(|held| held.start <= from).unwrap_or(0);
        for held in file.held.iter().skip(first) {
            take(BlockPin { pin: held.block.pin(), start: held.start });
        }
    }

    fn is_tight(&self) -> bool {
        self.arena.units_free() < self.arena.units_total() / TIGHT_PART
    }
}
