//! The arena: a preallocated tmpfs file, mapped and populated once, in huge pages if they are to be had, cut into blocks that open files grow in.
//!
//! tmpfs has no write-back, so a store to the map never stalls, never meets a full disk and never raises SIGBUS once the file is allocated; and
//! its pages outlive a killed process. Each block has a header in the file that says which bytes of which recording it holds, so that the next start
//! can write back what had not reached the disk.
//!
//! This module has `unsafe`. Its contract:
//! * a [`Block`] is the only owner of its memory; it moves between threads, it is never copied;
//! * bytes before a block's sealed mark are immutable until the block is freed; [`SealedBytes`] lends them to the disk writer;
//! * a block is freed only after every `SealedBytes` of it is gone: the disk writer handles both in the order in which they were sent;
//! * a [`Pin`] keeps a freed block from being used anew. It stays on the thread that fills the arena's blocks, so what it copies is not written meanwhile.
#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use memmap2::MmapRaw;
use rustix::fs::fstatvfs;

use super::huge::{self, Filler};

/// The smallest block: enough for a second of a picture now and then, so that ten thousand such streams fit into the usual arena.
pub const UNIT_BYTES: usize = 16 << 10;
/// The largest block: one efficient direct write.
pub const SLAB_BYTES: usize = 1 << 20;
pub(super) const SLAB_UNITS: usize = SLAB_BYTES / UNIT_BYTES;
/// Slabs that have their memory before a start goes on: the first number of them at least, more than what the first publishers fill until the rest has it;
/// and as many more up to the second as come in [`AT_ONCE_TIME`].
const AT_ONCE_SLABS: Range<usize> = 16..64;
const AT_ONCE_TIME: Duration = Duration::from_millis(40);
pub(super) const HEADER_BYTES: usize = 64;
/// "CAPARENA", then the format version.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"CAPARENA");
pub(super) const VERSION: u64 = 4;
/// More than any arena has: 1 TiB.
const SLABS_MAX: u64 = 1 << 20;

/// Words of a block header, in this order.
#[derive(Clone, Copy)]
pub(super) enum Word {
    /// 0: free; else the FileId of the recording, or the number of the log.
    File = 0,
    /// File offset of the block's first byte; of a record, its number in the order in which files were opened.
    Offset = 1,
    /// Bytes of the block that hold complete data, and how many frames its writer had taken with them (see [`Progress`]): one word, so that a kill finds
    /// both or neither.
    Progress = 2,
    /// Units of the block.
    Units = 3,
    /// Which part of the recording: `media-<part>`.
    Part = 4,
    /// A [`BlockKind`].
    Kind = 5,
    /// Who fills the block; 0: nobody asks. Stays when the block is settled, until it is used anew.
    Writer = 6,
    /// [`check_word`] of what else [`Block::describe`] enters: a damaged header must not send the block's bytes elsewhere.
    Check = 7,
}

/// A hash in the manner of FNV, never 0: an earlier version of the server wrote none.
pub(super) fn check_word(words: [u64; 6]) -> u64 {
    words.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29)) | 1
}

/// How far a block has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Bytes that hold complete data.
    pub bytes: usize,
    /// The number of the first frame that its writer has not taken yet.
    pub taken: u64,
}

impl Progress {
    const BYTES_BITS: u32 = SLAB_BYTES.trailing_zeros() + 1;
    /// Frames that can be told: 2,000 a second for a century.
    const TAKEN_MAX: u64 = u64::MAX >> Self::BYTES_BITS;

    pub(super) fn word(self) -> u64 {
        self.taken.min(Self::TAKEN_MAX) << Self::BYTES_BITS | self.bytes as u64
    }

    pub(super) fn from_word(word: u64) -> Self {
        Self { bytes: (word & ((1 << Self::BYTES_BITS) - 1)) as usize, taken: word >> Self::BYTES_BITS }
    }
}

/// What a block in use holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockKind {
    /// Bytes of a media file.
    Media = 1,
    /// What opening a media file takes.
    OpenRecord = 2,
    /// Frames that no file has taken yet.
    Log = 3,
    /// Which outputs wait for frames of a log.
    Note = 4,
}

/// Block sizes. A weak stream gets small ones, so that ten thousand fit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BlockClass {
    Tiny,
    Small,
    Medium,
    Large,
}

impl BlockClass {
    pub(super) const ALL: [Self; 4] = [BlockClass::Tiny, BlockClass::Small, BlockClass::Medium, BlockClass::Large];

    /// The smallest class that holds `bytes`; the largest if none does.
    pub fn holding(bytes: usize) -> Self {
        Self::ALL.into_iter().find(|class| class.bytes() >= bytes).unwrap_or(BlockClass::Large)
    }

    pub const fn units(self) -> usize {
        match self {
            BlockClass::Tiny => 1,
            BlockClass::Small => 4,
            BlockClass::Medium => 16,
            BlockClass::Large => SLAB_UNITS,
        }
    }
    pub const fn bytes(self) -> usize {
        self.units() * UNIT_BYTES
    }
    /// The class that one to two seconds of `bytes_per_second` fill: fewer writes than that cost little, larger blocks only memory.
    pub const fn for_rate(bytes_per_second: u64) -> Self {
        match bytes_per_second {
            0..=16_383 => BlockClass::Tiny,
            16_384..=131_071 => BlockClass::Small,
            131_072..=393_215 => BlockClass::Medium,
            _ => BlockClass::Large,
        }
    }
    /// The next larger class, or the largest.
    pub const fn larger(self) -> Self {
        match self {
            BlockClass::Tiny => BlockClass::Small,
            BlockClass::Small => BlockClass::Medium,
            BlockClass::Medium | BlockClass::Large => BlockClass::Large,
        }
    }
    const fn index(self) -> usize {
        self as usize
    }
}

/// The mapped file. Shared by the blocks that lie in it.
pub(super) struct ArenaMap {
    map: MmapRaw,
    slabs: usize,
    filled: Filled,
    /// Pins of the block that begins at each unit.
    pins: Box<[AtomicU32]>,
}

/// How many slabs of an arena, from the first one on, have their memory.
#[derive(Default)]
struct Filled {
    slabs: AtomicUsize,
    /// So many of them in huge pages.
    huge: AtomicUsize,
    /// There will be no more.
    is_over: AtomicBool,
}

impl ArenaMap {
    /// Is there enough to begin with?
    fn suffices(&self, begun: Instant) -> bool {
        let slabs = self.filled.slabs.load(Ordering::Relaxed);
        slabs >= AT_ONCE_SLABS.end || slabs >= AT_ONCE_SLABS.start && begun.elapsed() >= AT_ONCE_TIME
    }

    fn note(&self, filler: &Filler) {
        let slabs = |bytes: usize| bytes.saturating_sub(Self::data_start(self.slabs)) / SLAB_BYTES;
        self.filled.huge.store(slabs(filler.huge()), Ordering::Relaxed);
        self.filled.slabs.store(slabs(filler.filled()), Ordering::Release);
        self.filled.is_over.store(filler.is_full(), Ordering::Release);
    }

    /// Gives the arena the rest of its memory, unless nobody uses it any more.
    fn fill(self: &Arc<Self>, mut filler: Filler) {
        while !filler.is_full() && Arc::strong_count(self) > 1 {
            if let Err(error) = filler.step(&self.map) {
                let mib = self.filled.slabs.load(Ordering::Relaxed);
                tracing::warn!(%error, mib, "there is no room for the whole arena any more; using less until the next start");
                return self.filled.is_over.store(true, Ordering::Release);
            }
            self.note(&filler);
        }
    }

    pub(super) fn data_start(slabs: usize) -> usize {
        // One page for the file's own header, then the block headers, rounded up to pages.
        4096 + (slabs * SLAB_UNITS * HEADER_BYTES).next_multiple_of(4096)
    }

    pub(super) fn file_bytes(slabs: usize) -> usize {
        Self::data_start(slabs) + slabs * SLAB_BYTES
    }

    /// Slabs of an arena file, from the words of its first page behind magic and version. `None`: that cannot be told.
    pub(super) fn slabs_of(told: u64, inverse: u64, file_bytes: u64) -> Option<usize> {
        // An earlier version of the server did not tell it: then, and if the words are damaged, by the length of a whole file.
        if told == !inverse && (1..=SLABS_MAX).contains(&told) {
            return usize::try_from(told).ok();
        }
        let slabs = usize::try_from(file_bytes).ok()? / (Self::file_bytes(1) - Self::file_bytes(0));
        (slabs > 0 && Self::file_bytes(slabs) as u64 == file_bytes).then_some(slabs)
    }

    #[inline]
    fn unit_pointer(&self, unit: usize) -> *mut u8 {
        assert!(unit < self.slabs * SLAB_UNITS, "unit {unit} outside the arena");
        let offset = Self::data_start(self.slabs) + unit * UNIT_BYTES;
        // SAFETY: the assertion keeps the offset inside the mapping, whose length is `file_bytes(slabs)`.
        unsafe { self.map.as_mut_ptr().add(offset) }
    }

    fn header_word(&self, unit: usize, word: Word) -> &AtomicU64 {
        assert!(unit < self.slabs * SLAB_UNITS, "unit {unit} outside the arena");
        let offset = 4096 + unit * HEADER_BYTES + word as usize * 8;
        // SAFETY: inside the mapping (see above), aligned to 8 because the map is page-aligned and every part of the offset is a multiple of 8;
        // header words are only ever accessed as atomics.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast::<u64>()) }
    }
}

/// A block of the arena, owned: exclusive access to its memory until it is given back to its [`Arena`].
pub struct Block {
    map: Arc<ArenaMap>,
    unit: usize,
    class: BlockClass,
    /// Bytes that will not change any more.
    sealed: usize,
}

impl Block {
    pub fn bytes(&self) -> usize {
        self.class.bytes()
    }

    /// Copies `bytes` to `at`.
    ///
    /// # Panics
    /// If that is outside the block or touches sealed bytes: a broken invariant of the writer.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        let to = self.destination(at, bytes.len());
        // SAFETY: see `destination`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    }

    /// The same for what only the disk reads again: large pieces go past the processor's caches, so that their old content is not fetched into them before.
    /// Of pieces of 8 KiB that saves a third of the time, of 2 KiB a tenth, of smaller ones nothing.
    ///
    /// # Panics
    /// As [`Block::write`].
    pub fn write_past_caches(&mut self, at: usize, bytes: &[u8]) {
        let to = self.destination(at, bytes.len());
        // SAFETY: see `destination`.
        unsafe { copy_past_caches(bytes, to) }
    }

    /// Where `len` bytes may be stored: inside this block (asserted), which is the only owner of the bytes from `sealed` on. A `&[u8]` cannot overlap them,
    /// because one to unsealed arena memory borrows the block it lies in.
    #[inline]
    fn destination(&mut self, at: usize, len: usize) -> *mut u8 {
        assert!(at >= self.sealed, "a store at {at} into sealed bytes ({})", self.sealed);
        assert!(at + len <= self.bytes(), "a store runs past the block");
        // SAFETY: inside the block, and so inside the mapping.
        unsafe { self.map.unit_pointer(self.unit).add(at) }
    }

    /// Bytes of the block, whether they are sealed or not.
    ///
    /// # Panics
    /// If that is outside the block.
    pub fn read(&self, range: std::ops::Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.bytes(), "a look past the block");
        // SAFETY: the range is inside this block (asserted), whose only owner is borrowed as long as the bytes are: nobody writes to them.
        unsafe { std::slice::from_raw_parts(self.map.unit_pointer(self.unit).add(range.start), range.len()) }
    }

    /// Makes the first `upto` bytes immutable. Going back is ignored.
    pub fn seal(&mut self, upto: usize) {
        assert!(upto <= self.bytes(), "sealed past the block");
        self.sealed = self.sealed.max(upto);
    }

    /// Lends sealed bytes to the disk writer.
    pub fn sealed_bytes(&self, start: usize, end: usize) -> SealedBytes {
        assert!(start <= end && end <= self.sealed, "only sealed bytes are lent");
        SealedBytes { map: Arc::clone(&self.map), unit: self.unit, start, end }
    }

    /// Keeps the block's memory as it is, also after the block was freed, until the pin is dropped.
    pub fn pin(&self) -> Pin {
        self.map.pins[self.unit].fetch_add(1, Ordering::Relaxed);
        Pin { map: Arc::clone(&self.map), unit: self.unit, bytes: self.bytes(), _stays: PhantomData }
    }

    /// Enters into the block's header what it will hold: part `part` of recording `file` from `offset` on, by `writer`; no byte yet.
    pub fn describe(&self, kind: BlockKind, (file, part, writer): (u64, u32, u64), offset: u64) {
        let word = |word| self.map.header_word(self.unit, word);
        word(Word::Kind).store(kind as u64, Ordering::Relaxed);
        word(Word::Offset).store(offset, Ordering::Relaxed);
        word(Word::Part).store(u64::from(part), Ordering::Relaxed);
        word(Word::Progress).store(0, Ordering::Relaxed);
        word(Word::Writer).store(writer, Ordering::Relaxed);
        let units = self.class.units() as u64;
        word(Word::Units).store(units, Ordering::Relaxed);
        word(Word::Check).store(check_word([file, kind as u64, offset, u64::from(part), writer, units]), Ordering::Relaxed);
        // Last, so that a header with a file is complete.
        word(Word::File).store(file, Ordering::Release);
    }

    /// What the block holds is on the disk: nothing to write back after a crash. To be called before anybody changes it there.
    pub fn settle(&self) {
        self.map.header_word(self.unit, Word::File).store(0, Ordering::Release);
    }

    /// Moves the header forward after more bytes are complete.
    pub fn describe_progress(&self, progress: Progress) {
        self.map.header_word(self.unit, Word::Progress).store(progress.word(), Ordering::Release);
    }
}

/// Copies `bytes` to `to` with stores that do not fetch what they overwrite.
///
/// # Safety
/// `to` is valid for that many bytes and does not overlap them.
#[cfg(target_arch = "x86_64")]
unsafe fn copy_past_caches(bytes: &[u8], to: *mut u8) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    /// Whole lines of the cache: what is written of a line at once leaves as one.
    const LINE_BYTES: usize = 64;
    let (first, rest) = bytes.split_at(to.align_offset(LINE_BYTES).min(bytes.len()));
    let (lines, last) = rest.as_chunks::<LINE_BYTES>();
    // SAFETY: the three parts are `bytes` in order, so every store is inside what the caller vouches for; those of the lines are aligned, as streaming stores
    // must be. SSE2 belongs to every x86-64.
    unsafe {
        std::ptr::copy_nonoverlapping(first.as_ptr(), to, first.len());
        let mut to = to.add(first.len());
        for line in lines {
            let (from, target) = (line.as_ptr().cast::<__m128i>(), to.cast::<__m128i>());
            let quarters = [0, 1, 2, 3].map(|quarter| _mm_loadu_si128(from.add(quarter)));
            (0..quarters.len()).for_each(|quarter| _mm_stream_si128(target.add(quarter), quarters[quarter]));
            to = to.add(LINE_BYTES);
        }
        std::ptr::copy_nonoverlapping(last.as_ptr(), to, last.len());
        // Streaming stores are ordered by nothing else: whoever is told of these bytes must see them.
        _mm_sfence();
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_past_caches(bytes: &[u8], to: *mut u8) {
    // SAFETY: by the caller.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
}

/// Reads a block that may be on its way to the disk or freed. Not `Send`: it belongs to the core whose arena it is.
pub struct Pin {
    map: Arc<ArenaMap>,
    unit: usize,
    bytes: usize,
    _stays: PhantomData<*const ()>,
}

impl Pin {
    /// Size of the block.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a copy of `len` bytes from `at` on to `to`.
    ///
    /// # Panics
    /// If that is outside the block.
    pub fn copy_to(&self, at: usize, len: usize, to: &mut Vec<u8>) {
        assert!(at + len <= self.bytes, "a copy runs past the block");
        to.reserve(len);
        // SAFETY: the source is inside the block (asserted), which is not used anew while it is pinned; its writer, if there is one, runs on this
        // thread (`Pin` is not `Send`), so nothing is written during the copy. The target has room for `len` bytes more and does not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(self.map.unit_pointer(self.unit).add(at), to.as_mut_ptr().add(to.len()), len);
            to.set_len(to.len() + len);
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.map.pins[self.unit].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Immutable bytes of a block on their way to the disk.
pub struct SealedBytes {
    map: Arc<ArenaMap>,
    unit: usize,
    start: usize,
    end: usize,
}

impl SealedBytes {
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the range is inside the block and sealed (asserted when it was made): nobody writes to it before the block is freed, which
        // happens after this value is gone (module contract).
        unsafe { std::slice::from_raw_parts(self.map.unit_pointer(self.unit).add(self.start), self.end - self.start) }
    }
}

/// The memory in which an arena's blocks lie; mapped as long as this is there.
#[derive(Clone)]
pub struct ArenaMemory(Arc<ArenaMap>);

impl ArenaMemory {
    /// Where it begins and its length, in parts of at most `bytes_max`, a multiple of a slab: no block lies in two of them. None has huge pages and small ones:
    /// the kernel would take all for small ones.
    pub fn parts(&self, bytes_max: usize) -> impl Iterator<Item = (*const u8, usize)> + use<'_> {
        let slabs_max = bytes_max / SLAB_BYTES;
        let Filled { slabs, huge, .. } = &self.0.filled;
        let (slabs, huge) = (slabs.load(Ordering::Relaxed), huge.load(Ordering::Relaxed));
        [0..huge, huge..slabs].into_iter().flat_map(move |range| {
            range.clone().step_by(slabs_max).map(move |slab| {
                let slabs = slabs_max.min(range.end - slab);
                (self.0.unit_pointer(slab * SLAB_UNITS).cast_const(), slabs * SLAB_BYTES)
            })
        })
    }
}

/// State of one slab: unused, or cut into blocks of one class.
#[derive(Clone, Copy)]
struct Slab {
    class: Option<BlockClass>,
    /// One bit per unit; set: the block beginning there is free. Only bits at multiples of the class's units are used.
    free: u64,
}

/// The allocator of one core's arena. Not shared: blocks come back to it through a channel.
pub struct Arena {
    map: Arc<ArenaMap>,
    slabs: Vec<Slab>,
    unused: Vec<usize>,
    /// So many slabs were taken into use, from the first one on.
    taken: usize,
    /// Slabs with at least one free block, by class. May hold stale entries, dropped when met.
    partial: [Vec<usize>; BlockClass::ALL.len()],
    free_units: usize,
    /// Freed blocks that are pinned still.
    parked: Vec<Block>,
}

impl Arena {
    /// Creates the arena file at `path` (replacing an old one). A large one gets the rest of its memory on another thread: until then it has less to give.
    ///
    /// # Errors
    /// What the file system says: no room on the tmpfs, no permission.
    pub fn create(path: &Path, bytes: usize) -> io::Result<Self> {
        let slabs = (bytes / SLAB_BYTES).max(1);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let bytes = ArenaMap::file_bytes(slabs);
        let room = fstatvfs(&file)?;
        // A file system without a bound says that it has no block at all.
        if room.f_blocks > 0 && room.f_bavail.saturating_mul(room.f_frsize) < bytes as u64 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.set_len(bytes as u64)?;
        let pins = (0..slabs * SLAB_UNITS).map(|_| AtomicU32::new(0)).collect();
        let map = Arc::new(ArenaMap { map: huge::map(&file, bytes)?, slabs, filled: Filled::default(), pins });
        let mut filler = Filler::new(file, bytes);
        let begun = Instant::now();
        while !(filler.is_full() || slabs > AT_ONCE_SLABS.end && map.suffices(begun)) {
            filler.step(&map.map)?;
            map.note(&filler);
        }
        // SAFETY: the first page holds nothing but these four words, written once before the arena is shared.
        unsafe {
            let words = map.map.as_mut_ptr().cast::<u64>();
            words.add(2).write(slabs as u64);
            words.add(3).write(!(slabs as u64));
            words.add(1).write(VERSION);
            words.write(MAGIC);
        }
        if !filler.is_full() {
            let map = Arc::clone(&map);
            std::thread::Builder::new().name("arena".to_owned()).spawn(move || map.fill(filler))?;
        }
        let mut arena = Self {
            slabs: vec![Slab { class: None, free: 0 }; slabs],
            // Every slab at most once, and at most once a class, so these never grow on the hot path.
            unused: Vec::with_capacity(slabs),
            partial: std::array::from_fn(|_| Vec::with_capacity(slabs)),
            taken: 0,
            free_units: slabs * SLAB_UNITS,
            parked: Vec::new(),
            map,
        };
        arena.take_filled();
        Ok(arena)
    }

    /// Takes the slabs that have got their memory meanwhile. They are used last.
    fn take_filled(&mut self) {
        let Filled { slabs: filled, is_over, .. } = &self.map.filled;
        // In this order: when it is over, what is there is all.
        let (is_over, filled) = (is_over.load(Ordering::Acquire), filled.load(Ordering::Acquire));
        self.unused.splice(0..0, (self.taken..filled).rev());
        self.taken = filled;
        if is_over {
            self.free_units -= (self.slabs.len() - filled) * SLAB_UNITS;
            self.slabs.truncate(filled);
        }
    }

    /// All of its memory; `None`: it gets more still.
    pub fn memory(&self) -> Option<ArenaMemory> {
        (self.taken == self.slabs.len()).then(|| ArenaMemory(Arc::clone(&self.map)))
    }

    pub fn units_total(&self) -> usize {
        self.slabs.len() * SLAB_UNITS
    }

    pub fn bytes_total(&self) -> usize {
        self.units_total() * UNIT_BYTES
    }

    pub fn units_free(&self) -> usize {
        self.free_units
    }

    /// A free block of `class`, or a smaller one where no slab is left; `None`: the arena is used up.
    pub fn allocate(&mut self, class: BlockClass) -> Option<Block> {
        self.allocate_exact(class).or_else(|| match class {
            BlockClass::Large => self.allocate(BlockClass::Medium),
            BlockClass::Medium => self.allocate(BlockClass::Small),
            BlockClass::Small => self.allocate(BlockClass::Tiny),
            BlockClass::Tiny => None,
        })
    }

    fn allocate_exact(&mut self, class: BlockClass) -> Option<Block> {
        let partial = &mut self.partial[class.index()];
        while let Some(&slab_index) = partial.last() {
            let slab = &mut self.slabs[slab_index];
            if slab.class == Some(class) && slab.free != 0 {
                let first = slab.free.trailing_zeros() as usize;
                slab.free &= !(1 << first);
                if slab.free == 0 {
                    partial.pop();
                }
                self.free_units -= class.units();
                return Some(Block { map: Arc::clone(&self.map), unit: slab_index * SLAB_UNITS + first, class, sealed: 0 });
            }
            partial.pop();
        }
        if self.unused.is_empty() && self.taken < self.slabs.len() {
            self.take_filled();
        }
        let slab_index = self.unused.pop()?;
        let mut free = 0_u64;
        for first in (0..SLAB_UNITS).step_by(class.units()).skip(1) {
            free |= 1 << first;
        }
        self.slabs[slab_index] = Slab { class: Some(class), free };
        if free != 0 {
            self.partial[class.index()].push(slab_index);
        }
        self.free_units -= class.units();
        Some(Block { map: Arc::clone(&self.map), unit: slab_index * SLAB_UNITS, class, sealed: 0 })
    }

    /// Takes a block back. One that is pinned is used again only when [`Arena::reap`] finds it without a pin.
    pub fn free(&mut self, block: Block) {
        assert!(Arc::ptr_eq(&block.map, &self.map), "a block of another arena");
        // What a pinned log block holds may still be needed: its header stands until it is used anew.
        if self.is_pinned(&block) {
            self.parked.push(block);
        } else {
            self.put_back(&block);
        }
    }

    fn is_pinned(&self, block: &Block) -> bool {
        self.map.pins[block.unit].load(Ordering::Relaxed) > 0
    }

    /// Makes available freed blocks whose pins are gone, and memory that was not there before.
    pub fn reap(&mut self) {
        if self.taken < self.slabs.len() {
            self.take_filled();
        }
        let mut index = 0;
        while index < self.parked.len() {
            if self.is_pinned(&self.parked[index]) {
                index += 1;
            } else {
                let block = self.parked.swap_remove(index);
                self.put_back(&block);
            }
        }
    }

    fn put_back(&mut self, block: &Block) {
        block.settle();
        let (slab_index, first) = (block.unit / SLAB_UNITS, block.unit % SLAB_UNITS);
        let slab = &mut self.slabs[slab_index];
        assert_eq!(slab.class, Some(block.class), "the slab holds blocks of another class");
        assert_eq!(slab.free & (1 << first), 0, "a block is freed twice");
        let was_full = slab.free == 0;
        slab.free |= 1 << first;
        self.free_units += block.class.units();
        let blocks = SLAB_UNITS / block.class.units();
        if slab.free.count_ones() as usize == blocks {
            *slab = Slab { class: None, free: 0 };
            self.partial[block.class.index()].retain(|&index| index != slab_index);
            self.unused.push(slab_index);
        } else if was_full {
            self.partial[block.class.index()].push(slab_index);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `core-0.arena` in a folder of its own.
    pub(in crate::segment) fn arena(mib: usize) -> (tempfile::TempDir, Arena) {
        let folder = tempfile::tempdir().unwrap();
        let arena = Arena::create(&folder.path().join("core-0.arena"), mib << 20).unwrap();
        (folder, arena)
    }

    #[test]
    fn blocks_are_cut_from_slabs_and_slabs_come_back() {
        let (_folder, mut arena) = arena(2);
        let mut blocks = Vec::new();
        while let Some(block) = arena.allocate_exact(BlockClass::Medium) {
            blocks.push(block);
        }
        assert_eq!(blocks.len(), 8);
        assert_eq!(arena.units_free(), 0);
        assert!(arena.allocate(BlockClass::Small).is_none());
        for block in blocks {
            arena.free(block);
        }
        assert_eq!(arena.units_free(), arena.units_total());
        let large = arena.allocate_exact(BlockClass::Large).unwrap();
        assert_eq!(large.bytes(), SLAB_BYTES);
        let small: Vec<_> = std::iter::from_fn(|| arena.allocate_exact(BlockClass::Small)).collect();
        assert_eq!(small.len(), 16);
        // Nothing large is left, nor medium: a request falls back to what there is.
        arena.free(large);
        assert!(arena.allocate(BlockClass::Large).is_some());
    }

    #[test]
    fn a_large_arena_has_all_its_memory_after_a_while() {
        let (_folder, mut arena) = arena(100);
        assert_eq!(arena.units_free(), 100 * SLAB_UNITS);
        let blocks: Vec<_> = std::iter::repeat_with(|| arena.allocate_exact(BlockClass::Large)).flatten().take(100).collect();
        assert!(arena.allocate(BlockClass::Tiny).is_none() && arena.units_free() == 0);
        let memory = arena.memory().expect("it is all there");
        let parts: Vec<_> = memory.parts(32 << 20).collect();
        assert_eq!(parts.iter().map(|(_, bytes)| bytes).sum::<usize>(), 100 << 20);
        assert!(
            blocks
                .iter()
                .all(|block| parts.iter().any(|(start, bytes)| (start.addr()..start.addr() + bytes).contains(&block.read(0..1).as_ptr().addr())))
        );
    }

    #[test]
    fn an_arena_that_gets_no_more_memory_is_a_smaller_one() {
        let (_folder, mut arena) = arena(100);
        let filled = &arena.map.filled;
        while !filled.is_over.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        filled.slabs.store(90, Ordering::Release);
        (arena.taken, arena.unused) = (20, (0..20).rev().collect());
        assert!(arena.memory().is_none());
        arena.reap();
        assert_eq!((arena.units_free(), arena.units_total()), (90 * SLAB_UNITS, 90 * SLAB_UNITS));
        assert_eq!(std::iter::from_fn(|| arena.allocate_exact(BlockClass::Large)).count(), 90);
        assert!(arena.memory().is_some());
    }

    #[test]
    fn a_request_falls_back_to_a_smaller_class() {
        let (_folder, mut arena) = arena(1);
        let first = arena.allocate(BlockClass::Tiny).unwrap();
        let second = arena.allocate(BlockClass::Large).unwrap();
        assert_eq!(second.bytes(), UNIT_BYTES);
        arena.free(first);
        arena.free(second);
        assert_eq!(arena.allocate(BlockClass::Large).unwrap().bytes(), SLAB_BYTES);
    }

    #[test]
    fn sealed_bytes_are_what_was_written() {
        let (_folder, mut arena) = arena(1);
        let mut block = arena.allocate(BlockClass::Small).unwrap();
        block.write(0, b"hello world");
        block.seal(5);
        let lent = block.sealed_bytes(1, 5);
        block.write(5, b"!");
        assert_eq!(lent.as_slice(), b"ello");
    }

    #[test]
    fn what_goes_past_the_caches_arrives_at_every_place_and_length() {
        let (_folder, mut arena) = arena(1);
        let mut block = arena.allocate(BlockClass::Tiny).unwrap();
        let bytes: Vec<u8> = (0..UNIT_BYTES).map(|index| (index * 7 + index / 256) as u8 | 1).collect();
        for at in (0..130).chain([4096 - 65, 4096]) {
            for len in [0, 1, 63, 64, 65, 127, 128, 200, 4096 + 17] {
                block.write(0, &vec![0; UNIT_BYTES]);
                block.write_past_caches(at, &bytes[3..3 + len]);
                let mut expected = vec![0; UNIT_BYTES];
                expected[at..at + len].copy_from_slice(&bytes[3..3 + len]);
                assert!(block.read(0..UNIT_BYTES) == expected, "{len} bytes at {at}");
            }
        }
        block.write_past_caches(0, &bytes);
        assert!(block.read(0..UNIT_BYTES) == bytes);
    }

    #[test]
    #[should_panic(expected = "runs past the block")]
    fn a_store_past_the_caches_stays_in_its_block() {
        let (_folder, mut arena) = arena(1);
        arena.allocate(BlockClass::Tiny).unwrap().write_past_caches(UNIT_BYTES - 4096, &[0; 4097]);
    }

    #[test]
    #[should_panic(expected = "sealed bytes")]
    fn a_store_into_sealed_bytes_is_a_broken_invariant() {
        let (_folder, mut arena) = arena(1);
        let mut block = arena.allocate(BlockClass::Small).unwrap();
        block.write(0, b"hello");
        block.seal(5);
        block.write(4, b"x");
    }

    #[test]
    fn a_pinned_block_is_not_used_anew() {
        let (_folder, mut arena) = arena(1);
        let mut block = arena.allocate(BlockClass::Large).unwrap();
        block.write(0, b"hello world");
        let (pin, again) = (block.pin(), block.pin());
        arena.free(block);
        arena.reap();
        assert!(arena.allocate(BlockClass::Small).is_none());
        let mut copy = b">".to_vec();
        pin.copy_to(6, 5, &mut copy);
        assert_eq!(copy, b">world");
        drop(pin);
        arena.reap();
        assert!(arena.allocate(BlockClass::Small).is_none());
        drop(again);
        arena.reap();
        assert!(arena.allocate(BlockClass::Small).is_some());
    }
}
