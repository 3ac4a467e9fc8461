//! What a container must know of a track before its first frame.

use std::sync::Arc;

use bytes::Bytes;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VideoCodec {
    Avc,
}

impl VideoCodec {
    /// The codec's name in callbacks and in the catalog.
    pub const fn name(self) -> &'static str {
        match self {
            VideoCodec::Avc => "h264",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AudioCodec {
    Aac,
    Mp3,
}

impl AudioCodec {
    pub const fn name(self) -> &'static str {
        match self {
            AudioCodec::Aac => "aac",
            AudioCodec::Mp3 => "mp3",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VideoTrack {
    pub codec: VideoCodec,
    /// The configuration record as sent: `AVCDecoderConfigurationRecord` for AVC.
    pub config: Bytes,
    /// The body of the FLV sequence-header tag as sent.
    pub sequence_header: Bytes,
    /// Luma pixels after cropping; 0 if the SPS could not be read.
    pub width: u32,
    pub height: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AudioTrack {
    pub codec: AudioCodec,
    /// `AudioSpecificConfig` for AAC; empty for MP3.
    pub config: Bytes,
    /// The body of the FLV sequence-header tag as sent; empty for MP3.
    pub sequence_header: Bytes,
    pub sample_rate_hz: u32,
    pub channels: u8,
    /// 1024 (AAC; 960 where the config says so), 1152 or 576 (MP3).
    pub samples_per_frame: u32,
}

/// The tracks of a publication as known now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tracks {
    pub video: Option<Arc<VideoTrack>>,
    pub audio: Option<Arc<AudioTrack>>,
}

impl Tracks {
    pub fn is_empty(&self) -> bool {
        self.video.is_none() && self.audio.is_none()
    }
    pub fn count(&self) -> usize {
        usize::from(self.video.is_some()) + usize::from(self.audio.is_some())
    }
}
