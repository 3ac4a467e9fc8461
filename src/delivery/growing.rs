//! HLS of MP4 and FLV recordings that still grow: what lies on the disk so far, cut as it will be cut when they are finished.

use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError};

use super::Context;
use super::http::{FileBody, Stored};
use super::resolve::{Entry, stored};
use crate::container::mp4::{self, Movie, MovieSegment};
use crate::container::{ReadAt, ScanError, flv};
use crate::segment::moves::FileKey;
use crate::units::{FileId, Format};

/// Recordings whose samples are held: some MiB for each hour.
const GROWING_MAX: usize = 8;

/// What is known of recordings that grow.
#[derive(Debug, Default)]
pub struct Kept(Mutex<Vec<(FileId, Arc<Mutex<Grown>>)>>);

/// One of them.
#[derive(Debug)]
pub struct Grown {
    index: Index,
    stored: Stored,
    /// Those that are complete.
    segments: Vec<MovieSegment>,
}

#[derive(Debug)]
enum Index {
    Mp4(mp4::Growing),
    Flv(flv::Growing),
}

/// The file as it was recorded, wherever its bytes are now.
struct AsRecorded<'a>(&'a Stored);

impl ReadAt for AsRecorded<'_> {
    fn len(&self) -> u64 {
        self.0.length
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut body = FileBody { stored: self.0.clone(), start: offset, length: self.0.length.saturating_sub(offset) };
        let mut filled = 0;
        while filled < buffer.len() {
            match body.read(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }
}

/// What there is of a recording by now.
pub fn grown(context: &Context, entry: &Entry) -> io::Result<Arc<Mutex<Grown>>> {
    let mut stored = stored(context, entry, &entry.entry)?;
    // Finishing may make room in front while somebody reads.
    stored.moved.get_or_insert((FileKey::of(&stored.file.metadata()?), 0));
    let id = entry.identity.file_id;
    let known = {
        let kept = context.growing.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| *known == id).map(|(_, grown)| Arc::clone(grown))
    };
    let grown = match known {
        Some(grown) => grown,
        None => {
            let index = match entry.identity.format {
                Format::Flv => Index::Flv(flv::Growing::default()),
                _ => Index::Mp4(mp4::Growing::begin(&AsRecorded(&stored)).map_err(io::Error::other)?),
            };
            let grown = Arc::new(Mutex::new(Grown { index, stored: stored.clone(), segments: Vec::new() }));
            let mut kept = context.growing.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= GROWING_MAX {
                kept.remove(0);
            }
            kept.push((id, Arc::clone(&grown)));
            grown
        }
    };
    grown.lock().unwrap_or_else(PoisonError::into_inner).go_on(stored, context.hls_segment_ms).map_err(io::Error::other)?;
    Ok(grown)
}

impl Grown {
    fn go_on(&mut self, stored: Stored, segment_ms: u64) -> Result<(), ScanError> {
        self.stored = stored;
        match &mut self.index {
            Index::Mp4(growing) => growing.go_on(&AsRecorded(&self.stored))?,
            Index::Flv(growing) => growing.go_on(&AsRecorded(&self.stored))?,
        }
        let mut segments = self.movie().map(|movie| mp4::segments(movie, segment_ms)).unwrap_or_default();
        // Frames may still come to the last one.
        segments.pop();
        self.segments = segments;
        Ok(())
    }

    fn movie(&self) -> Option<&Movie> {
        match &self.index {
            Index::Mp4(growing) => growing.movie(),
            Index::Flv(growing) => growing.movie(),
        }
    }

    pub fn durations_ms(&self) -> Vec<u64> {
        self.segments.iter().map(|segment| segment.duration_ms).collect()
    }

    pub fn init(&self) -> Option<Vec<u8>> {
        self.movie().map(mp4::init)
    }

    /// Segment `number`, from 1 on. `None`: there is none yet.
    pub fn fragment(&self, number: usize) -> Option<io::Result<Vec<u8>>> {
        let segment = self.segments.get(number.checked_sub(1)?)?;
        let file = AsRecorded(&self.stored);
        let read = |at: u64, buffer: &mut [u8]| match file.read_at(at, buffer)? {
            count if count == buffer.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        Some(mp4::fragment(self.movie()?, number as u32, segment, read))
    }
}
