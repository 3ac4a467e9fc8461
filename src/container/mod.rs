//! Pure container writers: a frame in, bytes and patches out; and the `scan` of what they wrote.
//!
//! A file begins with a *head* (whole multiples of [`HEAD_ALIGN_BYTES`], written once when the file is created) and goes on with what the writer
//! appends to its [`Sink`]. When the file ends, or after a crash, `scan` reads what is there and a [`FinishPlan`] says how to make it final.

pub mod boxes;
pub mod es;
pub mod es_movie;
pub mod flv;
pub mod hls;
pub mod hls_list;
pub mod hls_marks;
pub mod hls_renditions;
pub mod id3;
pub mod mp4;
pub mod mpegts;
mod track_times;
pub mod window;

use std::io;
use std::ops::Range;

use crate::domain::{EndReason, PausedRecording, Receipt, RecordingIdentity, Resume, ResumeClaim};
use crate::media::TrackKind;
use crate::units::{FileId, WallTime};

pub use crate::domain::file::{MediaSummary, TrackSummary};

/// Heads are a multiple of this, so that every later byte lies at the same offset (modulo a page) in its arena block and in the file.
pub const HEAD_ALIGN_BYTES: usize = 4096;

/// Where one open file's bytes go: blocks of the arena in production, a `Vec` in tests.
///
/// Offsets are file offsets; the first append lands behind the head. Room is reserved by the caller before a frame is pushed, so none of these fails.
pub trait Sink {
    /// File offset of the next appended byte.
    fn position(&self) -> u64;
    fn append(&mut self, bytes: &[u8]);
    /// The bytes from `from` to the end may be patched until they are sealed; no others are, and at most one such range is not sealed.
    fn draft(&mut self, from: u64);
    /// Overwrites bytes of the draft. `offset` must not lie before the sealed offset.
    fn patch(&mut self, offset: u64, bytes: &[u8]);
    /// Promises that no byte before `offset` is patched again, so that it may go to the disk.
    fn seal(&mut self, offset: u64);
}

/// A [`Sink`] in memory: `bytes` is the whole file, head included.
#[derive(Default, Debug, Clone)]
pub struct MemorySink {
    pub bytes: Vec<u8>,
    pub sealed: u64,
    draft: Range<u64>,
}

impl MemorySink {
    pub fn with_head(head: &[u8]) -> Self {
        assert_eq!(head.len() % HEAD_ALIGN_BYTES, 0, "a head is whole pages");
        Self { bytes: head.to_vec(), sealed: head.len() as u64, draft: 0..0 }
    }
}

impl Sink for MemorySink {
    fn position(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
    fn draft(&mut self, from: u64) {
        assert!(self.draft.end <= self.sealed, "the draft {:?} is not sealed", self.draft);
        self.draft = from..self.position();
    }
    fn patch(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset >= self.sealed, "patch at {offset} before the sealed offset {}", self.sealed);
        assert!(
            offset >= self.draft.start && offset + bytes.len() as u64 <= self.draft.end,
            "a patch at {offset} outside the draft {:?}",
            self.draft
        );
        let start = offset as usize;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }
    fn seal(&mut self, offset: u64) {
        assert!(offset >= self.sealed && offset <= self.position(), "seal goes forward, inside the file");
        self.sealed = offset;
    }
}

/// Random access to a file for `scan`.
pub trait ReadAt {
    /// File length in bytes.
    fn len(&self) -> u64;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `buffer` with what is at `offset`, if that is known without reading the file.
    fn knows(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let _ = (offset, buffer);
        false
    }
    /// Reads at `offset` until `buffer` is full or the file ends; returns the bytes read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(<[u8]>::len(self));
        let count = buffer.len().min(<[u8]>::len(self) - start);
        buffer[..count].copy_from_slice(&self[start..start + count]);
        Ok(count)
    }
}

/// How to turn what `scan` found into the final file. Applied in this order: truncate, insert, writes, append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishPlan {
    /// Everything from here on is torn or preallocated and is cut off.
    pub truncate_to: u64,
    /// Make room by FALLOC_FL_INSERT_RANGE (offset and length whole pages) if the head does not fit. `None`: not needed.
    pub insert: Option<Insert>,
    /// Overwrites, at offsets after the insertion.
    pub writes: Vec<(u64, Vec<u8>)>,
    /// Bytes to put at the end (after truncation).
    pub append: Vec<u8>,
    /// Bytes of incomplete frames cut off at the end.
    pub torn_bytes: u64,
    pub summary: MediaSummary,
}

/// All that is known of a media file that is to be made final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    pub plan: FinishPlan,
    /// HLS segments can be cut here.
    pub fragments: Vec<mp4::Fragment>,
}

impl From<FinishPlan> for Scanned {
    fn from(plan: FinishPlan) -> Self {
        Self { plan, fragments: Vec::new() }
    }
}

impl From<mpegts::TsScan> for Scanned {
    fn from(scan: mpegts::TsScan) -> Self {
        Self { fragments: scan.fragments(), plan: scan.plan }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insert {
    pub offset: u64,
    pub length: u64,
}

/// What is wrong with bytes that `scan` cannot use at all. A torn end is no error: it is cut off.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("reading at {offset}")]
    Read { offset: u64, source: io::Error },
    #[error("the head of the file is damaged: {what}")]
    Head { what: &'static str },
    #[error("the file holds no complete frame")]
    Empty,
}

/// One media file inside a recording's folder: `media-<part>.<extension>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaPath {
    /// The recording, which is also the name of its folder.
    pub folder: FileId,
    /// Counts from 1.
    pub part: u32,
    /// `mp4`, `flv`, `aac`, `mp3`, `m4s` or `ts`.
    pub extension: &'static str,
}

/// A small file that is written whole when a media file is opened: an HLS init segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallFile {
    pub folder: FileId,
    pub name: String,
    pub bytes: Vec<u8>,
}

/// What opening a media file takes. Nothing of it blocks the caller: it is carried out elsewhere, before the first write.
#[derive(Debug, Clone)]
pub struct OpenMedia {
    pub media: MediaPath,
    /// The same bytes under a second name: the MP4 file that is also the HLS recording's part.
    pub link: Option<MediaPath>,
    /// Who writes it, file after file; unique in the process and not 0. What it has taken is told with each commit.
    pub writer: u64,
    /// Recordings that begin with this file.
    pub begin: Vec<RecordingIdentity>,
    pub small_files: Vec<SmallFile>,
    /// Written at offset 0; whole multiples of [`HEAD_ALIGN_BYTES`].
    pub head: Vec<u8>,
}

/// The end of a recording: its media files are closed, its folder can be finished.
#[derive(Debug, Clone)]
pub struct RecordingEnd {
    pub file_id: FileId,
    pub end: WallTime,
    pub reason: EndReason,
    /// The HLS recording (still running) that shares this recording's only media file as its part.
    pub shared_with: Option<MediaPath>,
    /// What was written, and what was lost.
    pub receipt: Box<Receipt>,
    /// What the recording claimed when it began, if it might have been resumed.
    pub claim: Option<ResumeClaim>,
}

/// A block of an open or closed file that stays readable while this is held.
pub trait Pinned {
    /// File offsets of the block's first byte and behind its last.
    fn range(&self) -> std::ops::Range<u64>;
    /// Appends a copy of `len` bytes from `offset` on, which lie in the range and have been appended to the file, to `to`.
    fn copy_to(&self, offset: u64, len: usize, to: &mut Vec<u8>);
}

/// Is there a disk for a file?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    Free,
    /// No file is to begin, and those that are open are to end.
    Full,
    /// No file is to begin: the disk does not answer.
    Stalled,
    /// Not on the disk where the rest lies, which is full, fails or does not answer; another one takes it.
    Elsewhere(Unfit),
}

/// What is wrong with a disk that recordings leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    Full,
    Failing,
    Stalled,
}

/// One frame of a [`RecalledBatch`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecalledFrame {
    pub track: TrackKind,
    /// It is one of this track beside the first of its kind: its place among `Tracks::further`.
    pub further: Option<usize>,
    pub key: bool,
    /// Decoding time since the first frame of the file, ms.
    pub time_ms: i64,
    pub cts_ms: i32,
    /// Its media among the bytes of the batch.
    pub range: std::ops::Range<usize>,
}

/// Some frames of a file in the order in which they were received, with their media.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecalledBatch {
    pub frames: Vec<RecalledFrame>,
    pub bytes: Vec<u8>,
}

/// What comes of a [`Recalling`] now.
#[derive(Debug)]
pub enum Recalled {
    /// Nothing yet.
    Wait,
    Batch(RecalledBatch),
    /// That was all.
    End,
    /// The file cannot be read; why.
    Failed(String),
}

/// A recording that is read again, elsewhere: asking never blocks.
pub trait Recalling: Send {
    fn next(&mut self) -> Recalled;
}

/// Where a recorder keeps its files. Implemented by the arena and the disk writer, and in memory for tests. No call blocks.
pub trait Store {
    type File: Sink;
    type Pin: Pinned;
    /// Bytes in memory that outlives the process.
    type Note;
    /// A new id, greater than all before.
    fn next_file_id(&mut self) -> FileId;
    /// Begins a media file. `None`: what opening takes has no place in memory that outlives the process, so that a kill would lose the file; nothing has
    /// happened, try again later.
    fn open(&mut self, open: OpenMedia) -> Option<Self::File>;
    /// Makes sure that `bytes` more can be appended to `file`; false: no free block now, try again later.
    fn reserve(&mut self, file: &mut Self::File, bytes: usize) -> bool;
    /// Says that everything appended so far forms complete frames, those before number `taken`; hands over what is full.
    fn commit(&mut self, file: &mut Self::File, taken: u64);
    /// Hands over all sealed bytes, also of blocks that are not full.
    fn flush(&mut self, file: &mut Self::File);
    /// True once a write of `file` has failed: it takes nothing more.
    fn has_failed(&self, file: &Self::File) -> bool;
    /// How it stands with the disk of `file`, or, for a file that is to begin, with the best of all disks.
    fn room(&self, file: Option<&Self::File>) -> Room;
    /// How it stands for the next file of a recording that has begun: all of them lie on one disk.
    fn room_beside(&self, _: FileId) -> Room {
        self.room(None)
    }
    /// Appends a text to a small file of a recording (the live playlist), behind everything flushed before.
    fn append_text(&mut self, folder: FileId, name: &'static str, text: String);
    /// No more bytes come to `file`. `known`: what its writer knows of it; else the file is scanned.
    fn close(&mut self, file: Self::File, known: Option<Scanned>);
    /// No more bytes come to `file`, whose writer met a defect: what was committed stays.
    fn abandon(&mut self, file: Self::File) {
        self.close(file, None);
    }
    fn end_recording(&mut self, end: RecordingEnd);
    /// An HLS recording that may be interrupted begins: is there one to go on with? `patient`: the answer may be to wait.
    fn resume(&mut self, claim: &ResumeClaim, patient: bool) -> Resume;
    /// The stream of a recording is interrupted; its media files are closed.
    fn pause_recording(&mut self, paused: PausedRecording);
    /// A file that stays in memory: frames that no file has taken.
    fn open_log(&mut self) -> Self::File;
    fn close_log(&mut self, log: Self::File);
    /// `count` new ids for files that recovery may have to make; none: this store keeps no notes, or has no room for one now.
    fn spare_ids(&mut self, count: usize) -> Vec<FileId>;
    /// Keeps `bytes` beside `log` for whoever comes after this process, until the note is closed. `None`: there is no free block.
    fn open_note(&mut self, log: &Self::File, bytes: &[u8]) -> Option<Self::Note>;
    fn patch_note(&mut self, note: &mut Self::Note, at: usize, bytes: &[u8]);
    fn close_note(&mut self, note: Self::Note);
    /// Pins the blocks of `file` that hold bytes from `from` on, oldest first. To be called before these bytes are committed.
    fn pin(&mut self, file: &Self::File, from: u64, take: impl FnMut(Self::Pin));
    /// Little room is left: nothing shall be kept that no file needs.
    fn is_tight(&self) -> bool;
    /// Reads the one media file of an HLS recording again, which has ended or is just ending: from the last key frame at or before `from_ms` (since its
    /// first frame) on, or all of it. `None`: this store gives nothing back.
    fn recall(&mut self, _file: FileId, _from_ms: Option<i64>) -> Option<Box<dyn Recalling>> {
        None
    }
}
