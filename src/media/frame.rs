//! One access unit of one track.

use super::Payload;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TrackKind {
    Video,
    Audio,
}

/// The first bytes of an FLV tag body (5 for AVC, 2 for AAC, 1 for MP3, 5 to 15 for enhanced tags), kept as the publisher sent them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TagHeader {
    bytes: [u8; Self::BYTES_MAX],
    len: u8,
}

impl TagHeader {
    /// An enhanced tag of one of several tracks, with a nanosecond offset and a composition time.
    pub const BYTES_MAX: usize = 15;

    /// # Panics
    /// If `bytes` is longer than [`TagHeader::BYTES_MAX`]: the caller decides the length by codec.
    pub fn new(bytes: &[u8]) -> Self {
        let mut header = [0; Self::BYTES_MAX];
        header[..bytes.len()].copy_from_slice(bytes);
        Self { bytes: header, len: bytes.len() as u8 }
    }
    /// With more bytes behind.
    ///
    /// # Panics
    /// If it becomes longer than [`TagHeader::BYTES_MAX`].
    pub fn with(mut self, bytes: &[u8]) -> Self {
        let len = usize::from(self.len);
        self.bytes[len..len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
        self
    }
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
    /// With zeros behind: a copy of known length is the cheaper one.
    pub fn padded(&self) -> &[u8; Self::BYTES_MAX] {
        &self.bytes
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
    /// The media bytes after the tag header: length-prefixed NAL units for AVC, HEVC and VVC, one temporal unit for AV1, one frame for
    /// VP8 and VP9, one raw access unit for AAC, one packet or frame of the other audio codecs.
    pub media: Payload<'a>,
}

impl Frame<'_> {
    pub fn pts_ms(&self) -> i64 {
        self.dts_ms + i64::from(self.cts_ms)
    }
}
