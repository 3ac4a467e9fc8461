//! Definitions: named sets of parameters for what is made from a file. Stored and shown in the form of the API, so the names of the fields are its names.

use serde::{Deserialize, Serialize};

/// Custom definitions count from here; below are the presets.
pub const CUSTOM_DEFINITION_MIN: i64 = 1_400_001;

/// What a definition makes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DefinitionKind {
    Transcode,
    Adaptive,
    Snapshot,
    SampleSnapshot,
    ImageSprite,
    AnimatedGraphics,
}

impl DefinitionKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transcode => "transcode",
            Self::Adaptive => "adaptive",
            Self::Snapshot => "snapshot",
            Self::SampleSnapshot => "sample",
            Self::ImageSprite => "sprite",
            Self::AnimatedGraphics => "animated",
        }
    }
}

/// The body of a definition.
pub trait Definition: Clone + Serialize + for<'a> Deserialize<'a> + Send + 'static {
    const KIND: DefinitionKind;

    /// Those that exist without being created, by number.
    fn presets() -> Vec<(i64, Self)>;
}

/// `VideoTemplateInfo`. Numbers that are 0: as the source, or as the encoder finds best.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VideoTemplate {
    /// `libx264` or `libx265`; empty where there is no video.
    pub codec: String,
    /// Frames a second.
    pub fps: u64,
    /// kbit/s.
    pub bitrate: u64,
    /// `open`: width is the long edge, height the short one.
    pub resolution_adaptive: String,
    /// Pixels.
    pub width: u64,
    pub height: u64,
    /// `stretch`, `black`, `white` or `gauss`: what is done where the shape differs.
    pub fill_type: String,
    /// Constant quality instead of a bitrate; 0: none.
    pub vcrf: u64,
    /// Frames (or seconds, by `gop_unit`) between key frames.
    pub gop: u64,
    /// `frame` or `second`.
    pub gop_unit: String,
    #[serde(rename = "PreserveHDRSwitch")]
    pub preserve_hdr_switch: String,
    pub codec_tag: String,
    pub mode: String,
    /// Between reference frames; -1: the encoder's choice.
    pub bframes: i64,
    pub hls_time: i64,
    /// `baseline`, `main`, `high` or empty.
    pub video_profile: String,
}

impl Default for VideoTemplate {
    fn default() -> Self {
        Self {
            codec: "libx264".to_owned(),
            fps: 0,
            bitrate: 0,
            resolution_adaptive: "open".to_owned(),
            width: 0,
            height: 0,
            fill_type: "black".to_owned(),
            vcrf: 0,
            gop: 0,
            gop_unit: "frame".to_owned(),
            preserve_hdr_switch: "OFF".to_owned(),
            codec_tag: String::new(),
            mode: String::new(),
            bframes: -1,
            hls_time: 0,
            video_profile: String::new(),
        }
    }
}

impl VideoTemplate {
    /// What an answer shows where there is no video.
    pub fn none() -> Self {
        Self { codec: String::new(), resolution_adaptive: String::new(), fill_type: String::new(), bframes: 0, ..Self::default() }
    }
}

/// `AudioTemplateInfo`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AudioTemplate {
    /// `libfdk_aac`, `libmp3lame`, `ac3`, `flac`; empty where there is no audio.
    pub codec: String,
    /// kbit/s; 0: as the source.
    pub bitrate: u64,
    /// Hz.
    pub sample_rate: u64,
    /// 1, 2 or 6.
    pub audio_channel: i64,
}

impl Default for AudioTemplate {
    fn default() -> Self {
        Self { codec: "libfdk_aac".to_owned(), bitrate: 0, sample_rate: 44_100, audio_channel: 2 }
    }
}

impl AudioTemplate {
    pub fn none() -> Self {
        Self { codec: String::new(), bitrate: 0, sample_rate: 0, audio_channel: 0 }
    }
}

/// A rendition.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TranscodeDefinition {
    /// `mp4`, `flv`, `hls`, `mp3`, `flac`, `ogg`, `m4a` or `wav`.
    pub container: String,
    pub name: String,
    pub comment: String,
    /// 0 or 1.
    pub remove_video: i64,
    pub remove_audio: i64,
    pub video_template: VideoTemplate,
    pub audio_template: AudioTemplate,
    /// Of HLS: `ts` or `fmp4`.
    pub segment_type: String,
    /// Packets are kept as they are, the rest above has no effect. Only presets can say so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub remux: bool,
}

impl TranscodeDefinition {
    pub fn has_video(&self) -> bool {
        self.remove_video == 0 && !is_audio_container(&self.container)
    }

    pub fn has_audio(&self) -> bool {
        self.remove_audio == 0
    }
}

/// Containers that hold audio alone.
pub fn is_audio_container(container: &str) -> bool {
    matches!(container, "mp3" | "flac" | "ogg" | "m4a" | "wav")
}

/// Renditions of one file that a player changes between.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AdaptiveDefinition {
    pub name: String,
    pub comment: String,
    /// `HLS`; presets only: `MPEG-DASH`.
    pub format: String,
    /// Empty or `SimpleAES`; presets only: `FairPlay`, `Widevine`.
    pub drm_type: String,
    pub stream_infos: Vec<AdaptiveStream>,
    pub disable_higher_video_bitrate: u64,
    pub disable_higher_video_resolution: u64,
    /// `ts` or `mp4`.
    pub segment_type: String,
    /// Seconds.
    pub segment_duration: u64,
}

impl AdaptiveDefinition {
    /// Can it be made here?
    pub fn is_offered(&self) -> bool {
        self.format == "HLS" && matches!(self.drm_type.as_str(), "" | "SimpleAES")
    }

    pub fn is_encrypted(&self) -> bool {
        !self.drm_type.is_empty()
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AdaptiveStream {
    pub video: VideoTemplate,
    pub audio: AudioTemplate,
    pub remove_audio: u64,
    pub remove_video: u64,
}

/// Pictures at given times.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SnapshotDefinition {
    pub name: String,
    pub comment: String,
    #[serde(flatten)]
    pub picture: Picture,
}

/// How a picture looks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Picture {
    pub width: u64,
    pub height: u64,
    pub resolution_adaptive: String,
    /// `jpg`, `png` or `webp`.
    pub format: String,
    pub fill_type: String,
}

impl Default for Picture {
    fn default() -> Self {
        Self { width: 0, height: 0, resolution_adaptive: "open".to_owned(), format: "jpg".to_owned(), fill_type: "black".to_owned() }
    }
}

/// Pictures at equal distances.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SampleSnapshotDefinition {
    pub name: String,
    pub comment: String,
    #[serde(flatten)]
    pub picture: Picture,
    #[serde(flatten)]
    pub sampling: Sampling,
}

/// How far apart.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Sampling {
    /// `Percent` or `Time`.
    pub sample_type: String,
    /// Percent of the duration, or seconds.
    pub sample_interval: u64,
}

impl Sampling {
    /// Milliseconds from picture to picture of a file of `duration_ms`; at least 1.
    pub fn interval_ms(&self, duration_ms: u64) -> u64 {
        let interval = if self.sample_type == "Percent" {
            duration_ms.saturating_mul(self.sample_interval) / 100
        } else {
            self.sample_interval.saturating_mul(1_000)
        };
        interval.max(1)
    }
}

/// Small pictures in large ones, for a player's time line.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSpriteDefinition {
    pub name: String,
    pub comment: String,
    #[serde(flatten)]
    pub picture: Picture,
    #[serde(flatten)]
    pub sampling: Sampling,
    pub row_count: u64,
    pub column_count: u64,
}

/// A short moving picture without sound.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AnimatedGraphicsDefinition {
    pub name: String,
    pub comment: String,
    /// Pixels; 0: by the source's shape.
    pub width: u64,
    pub height: u64,
    /// `open`: width is the long edge, height the short one.
    pub resolution_adaptive: String,
    /// `gif` or `webp`.
    pub format: String,
    /// Pictures a second.
    pub fps: u64,
    /// 1 to 100; of WebP.
    pub quality: f64,
}

impl Default for AnimatedGraphicsDefinition {
    fn default() -> Self {
        let (open, gif) = ("open".to_owned(), "gif".to_owned());
        Self { name: String::new(), comment: String::new(), width: 0, height: 0, resolution_adaptive: open, format: gif, fps: 0, quality: 75.0 }
    }
}
