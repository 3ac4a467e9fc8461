//! The streams that are live now: one table for all cores, touched when publishing begins and ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::RecordingSource;
use crate::units::{Format, PublicationId, StreamKey, WallTime};

/// One running publication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveStream {
    pub key: StreamKey,
    pub publication: PublicationId,
    /// Index of the ingest core and its connection number there: where commands for it go.
    pub core: usize,
    pub connection: u64,
    pub publish_time: WallTime,
    pub client: String,
    /// The query of the push address without `?`.
    pub stream_param: String,
    pub figures: Arc<LiveFigures>,
}

/// What a running publication brings and what is recorded of it. Its ingest core brings this up to date about once a second; everybody may read.
#[derive(Debug, Default)]
pub struct LiveFigures {
    pub media_bytes: AtomicU64,
    /// Over the last second or two.
    pub bits_per_second: AtomicU64,
    pub video_frames: AtomicU64,
    pub audio_frames: AtomicU64,
    /// Frames that are in no file.
    pub dropped_frames: AtomicU64,
    pub late_frames: AtomicU64,
    parts: Mutex<LiveParts>,
}

impl LiveFigures {
    pub fn parts(&self) -> LiveParts {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets `change` bring the parts up to date. The core does not wait: when somebody reads at this moment it comes again later.
    pub fn try_update(&self, change: impl FnOnce(&mut LiveParts)) {
        if let Ok(mut parts) = self.parts.try_lock() {
            change(&mut parts);
        }
    }

    pub fn store(counter: &AtomicU64, value: u64) {
        counter.store(value, Relaxed);
    }
}

/// Figures are one publication's: two are the same only if they are one.
impl PartialEq for LiveFigures {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
impl Eq for LiveFigures {}

/// The tracks of a publication and its open recordings.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct LiveParts {
    pub video: Option<LiveVideo>,
    pub audio: Option<LiveAudio>,
    pub recordings: Vec<(RecordingSource, Format)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LiveVideo {
    pub codec: &'static str,
    /// Pixels; 0 if not known.
    pub width: u32,
    pub height: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LiveAudio {
    pub codec: &'static str,
    pub sample_rate_hz: u32,
    pub channels: u8,
}

/// Why a call ends a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamEnd {
    /// DropLiveStream: the publisher may come back.
    Dropped,
    /// ForbidLiveStream and ForbidLiveDomain.
    Forbidden,
}

/// At most one publication per stream.
#[derive(Debug, Default)]
pub struct LiveStreams {
    streams: HashMap<StreamKey, LiveStream>,
}

impl LiveStreams {
    /// Enters a publication; returns the one it takes the name from.
    pub fn begin(&mut self, stream: LiveStream) -> Option<LiveStream> {
        self.streams.insert(stream.key.clone(), stream)
    }

    /// Removes a publication. One that was replaced meanwhile leaves its successor alone.
    pub fn end(&mut self, key: &StreamKey, publication: PublicationId) -> Option<LiveStream> {
        if self.streams.get(key)?.publication != publication {
            return None;
        }
        self.streams.remove(key)
    }

    pub fn get(&self, key: &StreamKey) -> Option<&LiveStream> {
        self.streams.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = &LiveStream> {
        self.streams.values()
    }

    pub fn len(&self) -> usize {
        self.streams.len()
    }

    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}
