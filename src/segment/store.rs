//! The core's side of the segment layer: open files as chains of arena blocks, and the queue to the disk writer.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::channel::{Receiver, Sender, TrySendError};

use crate::container::{FinishPlan, HEAD_ALIGN_BYTES, MediaPath, OpenMedia, Pinned, RecordingEnd, Room, Sink, Store, Unfit};
use crate::domain::{PausedRecording, Resume, ResumeClaim, Resumptions};
use crate::units::{FileId, MonoTime, PublicationId, WallTime};

use super::arena::{Arena, Block, BlockClass, BlockKind, Pin, Progress, SealedBytes};
use super::disk::DiskHandle;
use super::health::DiskHealth;
use super::open_record::OpenRecord;

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

/// Number of an open media file, unique in the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileSerial(pub u64);

/// What a core asks of the disk writer of its data folder. Carried out in order.
pub enum DiskCommand {
    Open(Box<OpenFile>),
    Write(BlockWrite),
    Text {
        folder: FileId,
        name: &'static str,
        text: String,
    },
    Close {
        serial: FileSerial,
        bytes: u64,
        plan: Option<Box<FinishPlan>>,
    },
    EndRecording(RecordingEnd),
    PauseRecording(Box<PausedRecording>),
    /// What was written before is to survive a power cut.
    Sync,
}

/// A media file to be opened.
pub struct OpenFile {
    pub serial: FileSerial,
    pub open: OpenMedia,
    pub failed: Arc<AtomicBool>,
    /// The same in the arena; goes back to the core when it is carried out. `None`: there was no free block.
    pub record: Option<(Block, Sender<Block>)>,
}

/// Sealed bytes for the disk. `offset` is a multiple of [`WRITE_ALIGN_BYTES`].
pub struct BlockWrite {
    pub serial: FileSerial,
    pub offset: u64,
    pub bytes: SealedBytes,
    /// The block goes back to the core after this write.
    pub release: Option<(Block, Sender<Block>)>,
    /// When the oldest of these bytes was received.
    pub received: MonoTime,
    /// The tick in which the core handed it over.
    pub sent: MonoTime,
}

/// Ids that grow with time and never repeat: milliseconds since the epoch times a million, then counting.
pub struct FileIds {
    last: AtomicU64,
    clock: fn() -> WallTime,
}

impl FileIds {
    /// `last`: the greatest id ever given, so that new ones stay above it whatever the clock says.
    pub fn new(last: Option<FileId>, clock: fn() -> WallTime) -> Self {
        Self { last: AtomicU64::new(last.map_or(FileId::MIN, FileId::get)), clock }
    }

    pub fn next(&self) -> FileId {
        let now = u64::try_from((self.clock)().unix_millis()).unwrap_or(0).saturating_mul(1_000_000).min(FileId::MAX / 2);
        let previous = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1))).unwrap_or_else(|last| last);
        FileId::new(now.max(previous + 1)).expect("ids stay below 2^63 for thousands of years")
    }
}

/// The disks that the cores of a process write to, and what lies on which.
#[derive(Clone)]
pub struct Disks {
    handles: Vec<DiskHandle>,
    places: Arc<Places>,
}

impl Disks {
    /// At least one.
    pub fn new(handles: Vec<DiskHandle>, places: Arc<Places>) -> Self {
        Self { handles, places }
    }
}

impl From<DiskHandle> for Disks {
    fn from(only: DiskHandle) -> Self {
        Self::new(vec![only], Arc::default())
    }
}

/// On which disk the recordings lie that are not in the catalog yet.
#[derive(Default, Debug)]
pub struct Places(Mutex<HashMap<FileId, usize>>);

impl Places {
    pub fn get(&self, recording: FileId) -> Option<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&recording).copied()
    }

    pub fn enter(&self, recording: FileId, disk: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(recording, disk);
    }

    /// The catalog has it, or nothing is left of it.
    pub fn forget(&self, recording: FileId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&recording);
    }
}

/// A block of an open file that is still in the core's hands.
struct HeldBlock {
    block: Block,
    /// File offset of its first byte.
    start: u64,
    /// Bytes of it already handed to the disk writer.
    flushed: usize,
}

/// One open media file: a chain of blocks from the oldest unsealed byte on. Everything before is on its way to the disk.
pub struct BlockFile {
    /// Where its bytes go; `None`: nowhere, it is a log, whose bytes stay in memory as long as they are pinned.
    target: Option<Target>,
    /// Unique in the process.
    serial: FileSerial,
    held: VecDeque<HeldBlock>,
    spare: VecDeque<Block>,
    spare_bytes: usize,
    position: u64,
    sealed: u64,
    /// Everything before is complete, and its blocks' headers say so; and the frames that are in it.
    committed: u64,
    taken: u64,
    /// Receipt of the oldest byte not handed over.
    oldest: Option<MonoTime>,
    class: BlockClass,
    is_measured: bool,
    /// When the bitrate was last looked at, and the position then.
    measured: MonoTime,
    measured_position: u64,
}

#[derive(Clone)]
struct Target {
    media: MediaPath,
    /// See [`OpenMedia::writer`].
    writer: u64,
    failed: Arc<AtomicBool>,
    /// Index of its disk.
    disk: usize,
}

/// A pinned block of a file.
pub struct BlockPin {
    pin: Pin,
    start: u64,
}

impl Pinned for BlockPin {
    fn range(&self) -> std::ops::Range<u64> {
        self.start..self.start + self.pin.bytes() as u64
    }

    fn copy_to(&self, offset: u64, len: usize, to: &mut Vec<u8>) {
        self.pin.copy_to((offset - self.start) as usize, len, to);
    }
}

impl BlockFile {
    fn disk(&self) -> Option<usize> {
        self.target.as_ref().map(|target| target.disk)
    }

    fn begin(target: Option<Target>, serial: FileSerial, position: u64, now: MonoTime) -> Self {
        Self {
            target,
            serial,
            held: VecDeque::new(),
            spare: VecDeque::new(),
            spare_bytes: 0,
            position,
            sealed: position,
            committed: position,
            taken: 0,
            oldest: None,
            class: BlockClass::Tiny,
            is_measured: false,
            measured: now,
            measured_position: position,
        }
    }

    /// Bytes that can be appended without another block.
    fn room(&self) -> usize {
        let tail = self.held.back().map_or(0, |held| held.block.bytes() - (self.position - held.start) as usize);
        tail + self.spare_bytes
    }
}

impl Sink for BlockFile {
    fn position(&self) -> u64 {
        self.position
    }

    fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let full = self.held.back().is_none_or(|held| (self.position - held.start) as usize == held.block.bytes());
            if full {
                let block = self.spare.pop_front().expect("room is reserved before a frame is appended");
                self.spare_bytes -= block.bytes();
                match &self.target {
                    Some(Target { media, writer, .. }) => block.describe(BlockKind::Media, (media.folder.get(), media.part, *writer), self.position),
                    None => block.describe(BlockKind::Log, (self.serial.0, 0, 0), self.position),
                }
                self.held.push_back(HeldBlock { block, start: self.position, flushed: 0 });
            }
            let held = self.held.back_mut().expect("a block was just made sure of");
            let at = (self.position - held.start) as usize;
            let count = bytes.len().min(held.block.bytes() - at);
            held.block.write(at, &bytes[..count]);
            self.position += count as u64;
            bytes = &bytes[count..];
        }
    }

    fn patch(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset >= self.sealed && offset + bytes.len() as u64 <= self.position, "a patch outside the unsealed bytes");
        // Patches go to the newest fragment: look from the end.
        let mut index = self.held.len();
        let mut end = offset + bytes.len() as u64;
        while end > offset {
            index -= 1;
            let held = &mut self.held[index];
            if held.start >= end {
                continue;
            }
            let from = held.start.max(offset);
            held.block.write((from - held.start) as usize, &bytes[(from - offset) as usize..(end - offset) as usize]);
            end = from;
        }
    }

    fn seal(&mut self, offset: u64) {
        assert!(offset >= self.sealed && offset <= self.position, "seal goes forward, inside the file");
        self.sealed = offset;
    }
}

/// One core's way to one disk.
struct DiskLink {
    to_disk: Sender<DiskCommand>,
    health: Arc<DiskHealth>,
    /// What the full channel did not take; drained at every tick. Bounded by the arena's blocks and a few commands for each open file.
    outbox: VecDeque<DiskCommand>,
    returned: Receiver<Block>,
    give_back: Sender<Block>,
    /// Bytes of the blocks that its files hold, on the core or on their way to the disk.
    held_bytes: usize,
}

impl DiskLink {
    fn send(&mut self, command: DiskCommand) {
        // Order matters: nothing overtakes what waits.
        if self.outbox.is_empty() {
            match self.to_disk.try_send(command) {
                Ok(()) => {}
                Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => self.outbox.push_back(command),
            }
        } else {
            self.outbox.push_back(command);
        }
    }

    fn send_waiting(&mut self) {
        while let Some(command) = self.outbox.pop_front() {
            match self.to_disk.try_send(command) {
                Ok(()) => {}
                Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => {
                    self.outbox.push_front(command);
                    break;
                }
            }
        }
    }

    fn what_is_wrong(&self, now: MonoTime) -> Option<Unfit> {
        match () {
            () if self.health.is_full() => Some(Unfit::Full),
            () if self.health.is_missing() || self.health.is_failing() => Some(Unfit::Failing),
            () if self.health.is_stalled(now) => Some(Unfit::Stalled),
            () => None,
        }
    }
}

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
        Self { arena, disks, places, chosen: None, ids, serials, resumptions, now: MonoTime::default() }
    }

    /// Once a tick: takes blocks back and sends what the disk queue did not take before.
    pub fn tick(&mut self, now: MonoTime) {
        self.now = now;
        self.take_back();
        self.disks.iter_mut().for_each(DiskLink::send_waiting);
    }

    /// Lets everything flushed before reach the disk for good.
    pub fn sync(&mut self) {
        // Where commands wait, the disk does not answer; its syncs would wait behind them, one for each time.
        self.disks.iter_mut().filter(|disk| disk.outbox.is_empty()).for_each(|disk| disk.send(DiskCommand::Sync));
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

    fn record(&mut self, open: &OpenMedia, disk: usize) -> Option<(Block, Sender<Block>)> {
        let record = OpenRecord::of(open, self.disks[disk].health.label()).encode();
        let block = self.block_for(&record)?;
        block.describe(BlockKind::OpenRecord, (open.media.folder.get(), open.media.part, 0), 0);
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

    /// May files of this disk hold one more block? See [`SHARED_PART`].
    fn has_share(&self, disk: Option<usize>) -> bool {
        let Some(disk) = disk.filter(|_| self.disks.len() > 1) else { return true };
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

    fn open(&mut self, open: OpenMedia) -> BlockFile {
        assert_eq!(open.head.len() % HEAD_ALIGN_BYTES, 0, "a head is whole pages");
        let serial = self.next_serial();
        let failed = Arc::new(AtomicBool::new(false));
        let position = open.head.len() as u64;
        let disk = self.choose(&open);
        open.begin.iter().for_each(|identity| self.places.enter(identity.file_id, disk));
        let target = Target { media: open.media, writer: open.writer, failed: Arc::clone(&failed), disk };
        let file = BlockFile::begin(Some(target), serial, position, self.now);
        let record = self.record(&open, disk);
        self.disks[disk].health.file_begins();
        self.disks[disk].send(DiskCommand::Open(Box::new(OpenFile { serial, open, failed, record })));
        file
    }

    fn reserve(&mut self, file: &mut BlockFile, bytes: usize) -> bool {
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
        }
        if file.oldest.is_none() {
            file.oldest = Some(self.now);
        }
        true
    }

    fn commit(&mut self, file: &mut BlockFile, taken: u64) {
        // Oldest first: a kill in between leaves the beginning of a frame, never a hole before the end of one.
        let first = file.held.iter().rposition(|held| held.start <= file.committed).unwrap_or(0);
        for held in file.held.iter().skip(first) {
            let bytes = (file.position - held.start).min(held.block.bytes() as u64);
            let taken = if held.start + bytes == file.position { taken } else { file.taken };
            held.block.describe_progress(Progress { bytes: bytes as usize, taken });
        }
        (file.committed, file.taken) = (file.position, taken);
        if file.held.len() > 1 || file.held.front().is_some_and(|held| file.sealed - held.start.min(file.sealed) == held.block.bytes() as u64) {
            self.hand_over(file, false);
        }
    }

    fn flush(&mut self, file: &mut BlockFile) {
        let elapsed_ms = self.now.millis_since(file.measured);
        if elapsed_ms >= if file.is_measured { RATE_MS } else { FIRST_RATE_MS } {
            file.is_measured = true;
            file.class = BlockClass::for_rate((file.position - file.measured_position) * 1_000 / elapsed_ms);
            (file.measured, file.measured_position) = (self.now, file.position);
        }
        self.hand_over(file, true);
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

    fn close(&mut self, mut file: BlockFile, plan: Option<FinishPlan>) {
        file.seal(file.position);
        self.hand_over(&mut file, true);
        let Some(disk) = file.disk() else { return self.close_log(file) };
        let serial = file.serial;
        let bytes = file.position;
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
        self.disks[disk].send(DiskCommand::Close { serial, bytes, plan: plan.map(Box::new) });
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
