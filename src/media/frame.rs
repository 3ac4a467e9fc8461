//! One access unit of one track.

use super::Payload;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TrackKind {
    Video,
    Audio,
}

/// The first bytes of an FLV tag body (5 for AVC, 2 for AAC, 1 for MP3), kept as the publisher sent them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TagHeader {
    bytes: [u8; 8],
    len: u8,
}

impl TagHeader {
    /// # Panics
    /// If `bytes` is longer than 8: the caller decides the length by codec.
    pub fn new(bytes: &[u8]) -> Self {
        let mut header = [0; 8];
        header[..bytes.len()].copy_from_slice(bytes);
        Self { bytes: header, len: bytes.len() as u8 }
    }
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// One access unit (video) or audio frame, borrowed from the receive buffer or the GOP cache.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub track: TrackKind,
    /// Decoding time in milliseconds, unwrapped from the 32-bit RTMP timestamp. May be negative or jump: it is what was sent.
    pub dts_ms: i64,
    /// Composition offset: PTS = DTS + CTS. 0 for audio.
    pub cts_ms: i32,
    /// A video key frame (IDR by the tag's frame type). Always true for audio.
    pub key: bool,
    pub tag_header: TagHeader,
    /// The media bytes after the tag header: length-prefixed NAL units for AVC, one raw access unit for AAC, MPEG audio frames for MP3.
    pub media: Payload<'a>,
}

impl Frame<'_> {
    pub fn pts_ms(&self) -> i64 {
        self.dts_ms + i64::from(self.cts_ms)
    }
}
