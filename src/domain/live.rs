//! The streams that are live now: one table for all cores, touched when publishing begins and ends.

use std::collections::HashMap;

use crate::units::{PublicationId, StreamKey, WallTime};

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
