//! Pure container writers: a frame in, bytes and patches out; and the `scan` of what they wrote.
//!
//! A file begins with a *head* (whole multiples of [`HEAD_ALIGN_BYTES`], written once when the file is created) and goes on with what the writer
//! appends to its [`Sink`]. When the file ends, or after a crash, `scan` reads what is there and a [`FinishPlan`] says how to make it final.

pub mod boxes;
pub mod es;
pub mod flv;
pub mod hls;
pub mod mp4;
pub mod mpegts;
mod window;

use std::io;

use serde::{Deserialize, Serialize};

/// Heads are a multiple of this, so that every later byte lies at the same offset (modulo a page) in its arena block and in the file.
pub const HEAD_ALIGN_BYTES: usize = 4096;

/// Where one open file's bytes go: blocks of the arena in production, a `Vec` in tests.
///
/// Offsets are file offsets; the first append lands behind the head. Room is reserved by the caller before a frame is pushed, so none of these fails.
pub trait Sink {
    /// File offset of the next appended byte.
    fn position(&self) -> u64;
    fn append(&mut self, bytes: &[u8]);
    /// Overwrites bytes already appended. `offset` must not lie before the sealed offset.
    fn patch(&mut self, offset: u64, bytes: &[u8]);
    /// Promises that no byte before `offset` is patched again, so that it may go to the disk.
    fn seal(&mut self, offset: u64);
}

/// A [`Sink`] in memory: `bytes` is the whole file, head included.
#[derive(Default, Debug, Clone)]
pub struct MemorySink {
    pub bytes: Vec<u8>,
    pub sealed: u64,
}

impl MemorySink {
    pub fn with_head(head: &[u8]) -> Self {
        assert_eq!(head.len() % HEAD_ALIGN_BYTES, 0, "a head is whole pages");
        Self { bytes: head.to_vec(), sealed: head.len() as u64 }
    }
}

impl Sink for MemorySink {
    fn position(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
    fn patch(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset >= self.sealed, "patch at {offset} before the sealed offset {}", self.sealed);
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insert {
    pub offset: u64,
    pub length: u64,
}

/// What a finished file holds. Durations and times are milliseconds of media time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaSummary {
    /// From the first presentation time to the end of the last sample.
    pub duration_ms: u64,
    pub video: Option<TrackSummary>,
    pub audio: Option<TrackSummary>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackSummary {
    /// `h264`, `aac`, `mp3`.
    pub codec: String,
    pub frames: u64,
    pub bytes: u64,
    pub duration_ms: u64,
    /// Video only, pixels; else 0.
    pub width: u32,
    pub height: u32,
    /// Audio only; else 0.
    pub sample_rate_hz: u32,
    pub channels: u8,
    pub key_frames: u64,
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
