//! What a container must know of a track before its first frame.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::aac::parse_aac_config;
use crate::codec::av1::parse_av1_config;
use crate::codec::hevc::parse_hevc_config;
use crate::codec::vpx::vpc_codecs;
use crate::codec::vvc::parse_vvc_config;

use super::TrackKind;
use super::label::{Label, TrackLabel};

/// Tracks beside the first of each kind that are recorded: a ladder of pictures and some languages.
pub const FURTHER_TRACKS_MAX: usize = crate::limits::TRACKS_MAX - 2;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VideoCodec {
    Avc,
    Hevc,
    Vvc,
    Av1,
    Vp8,
    Vp9,
}

impl VideoCodec {
    pub const ALL: [VideoCodec; 6] = [Self::Avc, Self::Hevc, Self::Vvc, Self::Av1, Self::Vp8, Self::Vp9];

    /// The codec's name in callbacks and in the catalog.
    pub const fn name(self) -> &'static str {
        match self {
            VideoCodec::Avc => "h264",
            VideoCodec::Hevc => "hevc",
            VideoCodec::Vvc => "vvc",
            VideoCodec::Av1 => "av1",
            VideoCodec::Vp8 => "vp8",
            VideoCodec::Vp9 => "vp9",
        }
    }

    /// Its four characters in Enhanced RTMP and in the sample entry of MP4.
    pub const fn fourcc(self) -> &'static [u8; 4] {
        match self {
            VideoCodec::Avc => b"avc1",
            VideoCodec::Hevc => b"hvc1",
            VideoCodec::Vvc => b"vvc1",
            VideoCodec::Av1 => b"av01",
            VideoCodec::Vp8 => b"vp08",
            VideoCodec::Vp9 => b"vp09",
        }
    }

    pub fn of_fourcc(fourcc: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.fourcc() == fourcc)
    }

    /// Its frames are NAL units.
    pub const fn is_nal_units(self) -> bool {
        self.has_composition_time()
    }

    /// Its coded frames in Enhanced RTMP carry a composition time.
    pub const fn has_composition_time(self) -> bool {
        matches!(self, VideoCodec::Avc | VideoCodec::Hevc | VideoCodec::Vvc)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AudioCodec {
    Aac,
    Mp3,
    Opus,
    Flac,
    Ac3,
    Eac3,
}

impl AudioCodec {
    pub const ALL: [AudioCodec; 6] = [Self::Aac, Self::Mp3, Self::Opus, Self::Flac, Self::Ac3, Self::Eac3];

    pub const fn name(self) -> &'static str {
        match self {
            AudioCodec::Aac => "aac",
            AudioCodec::Mp3 => "mp3",
            AudioCodec::Opus => "opus",
            AudioCodec::Flac => "flac",
            AudioCodec::Ac3 => "ac3",
            AudioCodec::Eac3 => "eac3",
        }
    }

    /// Its four characters in Enhanced RTMP.
    pub const fn fourcc(self) -> &'static [u8; 4] {
        match self {
            AudioCodec::Aac => b"mp4a",
            AudioCodec::Mp3 => b".mp3",
            AudioCodec::Opus => b"Opus",
            AudioCodec::Flac => b"fLaC",
            AudioCodec::Ac3 => b"ac-3",
            AudioCodec::Eac3 => b"ec-3",
        }
    }

    pub fn of_fourcc(fourcc: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.fourcc() == fourcc)
    }

    /// All frames of a track have as many samples.
    pub const fn has_fixed_frames(self) -> bool {
        matches!(self, AudioCodec::Aac | AudioCodec::Mp3 | AudioCodec::Ac3)
    }

    /// Its frames say what they are, no sequence header does.
    pub const fn describes_itself(self) -> bool {
        matches!(self, AudioCodec::Mp3 | AudioCodec::Ac3 | AudioCodec::Eac3)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VideoTrack {
    pub codec: VideoCodec,
    /// The body of the codec's configuration box: the record as sent (`AVCDecoderConfigurationRecord`, `HEVCDecoderConfigurationRecord`, ...); for VP8 and VP9
    /// without version and flags.
    pub config: Bytes,
    /// The body of the FLV sequence-header tag as sent; empty if there was none (VP8, VP9).
    pub sequence_header: Bytes,
    /// The body of the FLV tag with the colours of the picture as sent; empty without one.
    pub metadata: Bytes,
    /// The sequence headers and the like of further video tracks (Enhanced RTMP multitrack), tag bodies for one track each.
    pub others: Vec<Bytes>,
    /// What `metadata` tells.
    pub colour: Option<Box<Colour>>,
    /// Luma pixels after cropping; 0 if the configuration could not be read.
    pub width: u32,
    pub height: u32,
}

impl VideoTrack {
    /// A track without tags.
    pub fn new(codec: VideoCodec, config: impl Into<Bytes>, width: u32, height: u32) -> Self {
        let (config, sequence_header, metadata) = (config.into(), Bytes::new(), Bytes::new());
        Self { codec, config, sequence_header, metadata, others: Vec::new(), colour: None, width, height }
    }

    /// The name of this stream in the `CODECS` attribute of a playlist (RFC 6381).
    pub fn codecs(&self) -> String {
        let fourcc = || String::from_utf8_lossy(self.codec.fourcc()).into_owned();
        match self.codec {
            VideoCodec::Avc => match self.config.get(1..4) {
                Some([profile, compatibility, level]) => format!("avc1.{profile:02x}{compatibility:02x}{level:02x}"),
                _ => fourcc(),
            },
            VideoCodec::Hevc => parse_hevc_config(&self.config).map_or_else(|_| fourcc(), |config| config.codecs()),
            VideoCodec::Vvc => parse_vvc_config(&self.config).map_or_else(fourcc, |config| config.codecs()),
            VideoCodec::Av1 => parse_av1_config(&self.config).map_or_else(fourcc, |config| config.codecs()),
            VideoCodec::Vp8 | VideoCodec::Vp9 => vpc_codecs(&fourcc(), &self.config),
        }
    }
}

/// The colours of a picture as Enhanced RTMP tells them (`colorInfo`), in the units of MP4's `colr`, `mdcv` and `clli` boxes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Colour {
    /// Primaries, transfer and matrix by ISO/IEC 23091-2; 2 is unspecified.
    pub primaries: u16,
    pub transfer: u16,
    pub matrix: u16,
    pub mastering: Option<MasteringDisplay>,
    /// Largest and average light level in cd/m2 (MaxCLL, MaxFALL).
    pub light_level: Option<(u16, u16)>,
}

/// `mdcv` (ISO/IEC 14496-12, 12.1.7): chromaticities in units of 0.00002, luminances in units of 0.0001 cd/m2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MasteringDisplay {
    /// x and y of green, blue, red: the order of the box.
    pub primaries: [(u16, u16); 3],
    pub white_point: (u16, u16),
    pub luminance_max: u32,
    pub luminance_min: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AudioTrack {
    pub codec: AudioCodec,
    /// `AudioSpecificConfig` for AAC, the body of `dOps` for Opus, the metadata blocks for FLAC, the body of `dac3` or `dec3`; empty for MP3.
    pub config: Bytes,
    /// The body of the FLV sequence-header tag as sent; empty for codecs without one.
    pub sequence_header: Bytes,
    /// The body of the FLV tag with the order of the channels as sent; empty without one.
    pub multichannel: Bytes,
    /// The sequence headers and the like of further audio tracks.
    pub others: Vec<Bytes>,
    pub sample_rate_hz: u32,
    pub channels: u8,
    /// 1024 (AAC; 960 where the config says so), 1152 or 576 (MP3), 960 (Opus, nominally), the largest block (FLAC), 1536 (AC-3).
    pub samples_per_frame: u32,
    /// Samples at the beginning of the stream that are not to be heard; known for Opus alone.
    pub pre_skip: u32,
}

impl AudioTrack {
    /// A track without tags.
    pub fn new(codec: AudioCodec, config: impl Into<Bytes>, sample_rate_hz: u32, channels: u8, samples_per_frame: u32) -> Self {
        let (config, sequence_header, multichannel) = (config.into(), Bytes::new(), Bytes::new());
        Self { codec, config, sequence_header, multichannel, others: Vec::new(), sample_rate_hz, channels, samples_per_frame, pre_skip: 0 }
    }

    /// The same codec, rate and channels: for codecs whose every frame says what it is.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.codec, self.sample_rate_hz, self.channels) == (other.codec, other.sample_rate_hz, other.channels)
    }

    /// The name of this stream in the `CODECS` attribute of a playlist (RFC 6381).
    pub fn codecs(&self) -> String {
        match self.codec {
            AudioCodec::Aac => {
                let config = parse_aac_config(&self.config);
                format!(
                    "mp4a.40.{}",
                    config.map_or(2, |config| if config.ps {
                        29
                    } else if config.sbr_sample_rate_hz.is_some() {
                        5
                    } else {
                        config.object_type
                    })
                )
            }
            AudioCodec::Mp3 => "mp4a.40.34".to_owned(),
            AudioCodec::Opus | AudioCodec::Flac | AudioCodec::Ac3 | AudioCodec::Eac3 => String::from_utf8_lossy(self.codec.fourcc()).into_owned(),
        }
    }
}

/// One more track of a kind (Enhanced RTMP multitrack).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FurtherTrack {
    /// `videoTrackId` or `audioTrackId`; not 0, which is the first track.
    pub number: u8,
    pub description: FurtherDescription,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FurtherDescription {
    Video(Arc<VideoTrack>),
    Audio(Arc<AudioTrack>),
}

impl FurtherTrack {
    pub fn kind(&self) -> TrackKind {
        match self.description {
            FurtherDescription::Video(_) => TrackKind::Video,
            FurtherDescription::Audio(_) => TrackKind::Audio,
        }
    }

    pub fn codec_name(&self) -> &'static str {
        match &self.description {
            FurtherDescription::Video(track) => track.codec.name(),
            FurtherDescription::Audio(track) => track.codec.name(),
        }
    }
}

/// The tracks of a publication as known now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tracks {
    pub video: Option<Arc<VideoTrack>>,
    pub audio: Option<Arc<AudioTrack>>,
    /// In the order in which they appeared; at most [`FURTHER_TRACKS_MAX`].
    pub further: Vec<FurtherTrack>,
    /// Languages and names, as far as they are known.
    pub labels: Arc<[TrackLabel]>,
}

impl Tracks {
    /// Language and name of the track with this number on the wire; 0 is the first of its kind.
    pub fn label(&self, kind: TrackKind, number: u8) -> Label {
        self.labels.iter().find(|known| (known.kind, known.number) == (kind, number)).map(|known| known.label.clone()).unwrap_or_default()
    }

    /// Where in `further` a track stands.
    pub fn further_index(&self, kind: TrackKind, number: u8) -> Option<usize> {
        self.further.iter().position(|track| track.number == number && track.kind() == kind)
    }

    pub fn is_empty(&self) -> bool {
        self.video.is_none() && self.audio.is_none()
    }
    pub fn codec_name(&self, kind: TrackKind) -> Option<&'static str> {
        match kind {
            TrackKind::Video => self.video.as_ref().map(|video| video.codec.name()),
            TrackKind::Audio => self.audio.as_ref().map(|audio| audio.codec.name()),
        }
    }
    pub fn count(&self) -> usize {
        usize::from(self.video.is_some()) + usize::from(self.audio.is_some())
    }
}
