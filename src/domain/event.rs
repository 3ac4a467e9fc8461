//! What happens to live streams and their recordings, as the ingest cores tell it to the control plane: the source of callbacks, of the list of stream
//! events and of the log of publications.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::units::{Format, PublicationId, StreamKey, WallTime};

use super::RecordingSource;

/// One event. A core makes it when a publication begins or ends, or when its recorder noticed something; never for a single media message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveEvent {
    pub publisher: Arc<Publisher>,
    /// When it happened.
    pub time: WallTime,
    pub kind: LiveEventKind,
}

/// Who publishes what. The same for every event of one publication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publisher {
    pub key: StreamKey,
    /// The `sequence` of the events: the same from the begin to the end of a publication. A refused one has a number, too.
    pub publication: PublicationId,
    /// When publishing began, or was refused.
    pub publish_time: WallTime,
    /// The publisher's address without its port.
    pub client_ip: String,
    /// The query of the push address without `?`, secrets included.
    pub stream_param: String,
    /// The other domain that rules may use for this stream (of publishers that reached us by address); empty: there is none.
    pub alias_domain: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LiveEventKind {
    PublishBegan,
    PublishEnded {
        /// `errcode` and `errmsg` of the stream-ended event.
        code: u32,
        message: &'static str,
        push_ms: u64,
        /// Of the video in pixels; 0 without video.
        width: u32,
        height: u32,
    },
    PublishRefused {
        /// 18 for all refusals.
        code: u32,
        /// With the reason's number in front: `18/600 too many streams`.
        message: &'static str,
    },
    RecordState {
        session: RecordSessionId,
        source: RecordingSource,
        format: Format,
        state: RecordState,
    },
    /// Collected over a period of [`EXCEPTION_PERIOD_MS`].
    RecordException {
        session: RecordSessionId,
        format: Format,
        /// Of all of them.
        level: ExceptionLevel,
        exceptions: Vec<RecordException>,
    },
    /// Collected over a period of [`ABNORMAL_PERIOD_MS`].
    PushAbnormal {
        abnormal: Vec<PushAbnormal>,
    },
}

/// Recording exceptions of this long go into one event.
pub const EXCEPTION_PERIOD_MS: u64 = 10_000;
/// Errors in the published stream of this long go into one event (`report_interval`).
pub const ABNORMAL_PERIOD_MS: u64 = 5_000;

/// What one source (a rule or a task) records of one publication. Decimal digits as text; unique in the appliance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordSessionId(pub u64);

impl RecordSessionId {
    /// The `number`-th session of a publication, counted from 0.
    pub const fn new(publication: PublicationId, number: u32) -> Self {
        // Publications are numbered by microseconds: two digits behind them are free until long after the calendar's end.
        Self(publication.0.wrapping_mul(100).wrapping_add((number % 100) as u64))
    }
}

impl std::fmt::Display for RecordSessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// `record_event` of event 332.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecordState {
    StartSucceeded,
    StartFailed,
    /// The stream is interrupted, its resumption is awaited.
    Paused,
    Resumed,
    Error,
    Ended,
}

impl RecordState {
    pub const fn name(self) -> &'static str {
        match self {
            RecordState::StartSucceeded => "record_start_succeeded",
            RecordState::StartFailed => "record_start_failed",
            RecordState::Paused => "record_paused",
            RecordState::Resumed => "record_resumed",
            RecordState::Error => "record_error",
            RecordState::Ended => "record_ended",
        }
    }
}

/// One kind of trouble while recording, and how often it was met in the period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordException {
    pub kind: RecordExceptionKind,
    pub occurs: u64,
    pub description: String,
}

/// `type` of event 341.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RecordExceptionKind {
    AudioTimestampJump,
    VideoTimestampJump,
    TracksFarApart,
    InvalidVideoTimestamp,
    CannotRead,
    AudioMissing,
    VideoMissing,
}

/// `exception_level` of event 341.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ExceptionLevel {
    Info,
    Warning,
    Error,
}

impl ExceptionLevel {
    pub const fn name(self) -> &'static str {
        match self {
            ExceptionLevel::Info => "info",
            ExceptionLevel::Warning => "warning",
            ExceptionLevel::Error => "error",
        }
    }

    /// By its name; the older name of warnings is `alarm`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "info" => Some(ExceptionLevel::Info),
            "warning" | "alarm" => Some(ExceptionLevel::Warning),
            "error" => Some(ExceptionLevel::Error),
            _ => None,
        }
    }
}

impl RecordExceptionKind {
    pub const fn code(self) -> i32 {
        match self {
            RecordExceptionKind::AudioTimestampJump => -8,
            RecordExceptionKind::VideoTimestampJump => -9,
            RecordExceptionKind::TracksFarApart => -10,
            RecordExceptionKind::InvalidVideoTimestamp => -11,
            RecordExceptionKind::CannotRead => -16,
            RecordExceptionKind::AudioMissing => -17,
            RecordExceptionKind::VideoMissing => -18,
        }
    }

    /// `error`: something asked for is not recorded. `warning`: it is, but not where or as it was expected.
    pub const fn level(self) -> ExceptionLevel {
        match self {
            RecordExceptionKind::CannotRead | RecordExceptionKind::AudioMissing | RecordExceptionKind::VideoMissing => ExceptionLevel::Error,
            _ => ExceptionLevel::Warning,
        }
    }
}

/// Errors of one kind in the published stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PushAbnormal {
    pub kind: AbnormalKind,
    pub count: u64,
    /// The first [`ABNORMAL_DETAILS_MAX`] of them.
    pub details: Vec<AbnormalDetail>,
}

pub const ABNORMAL_DETAILS_MAX: usize = 20;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AbnormalDetail {
    pub description: String,
    pub time: WallTime,
}

/// `type` of event 321.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AbnormalKind {
    VideoTimestampBack = 1,
    AudioTimestampBack = 2,
    VideoTimestampJump = 3,
    AudioTimestampJump = 4,
    ChunkTooLarge = 5,
    VideoGap = 6,
    AudioGap = 7,
    VideoCodecChanged = 8,
    AudioCodecChanged = 9,
    VideoBeforeHeader = 10,
    AudioBeforeHeader = 11,
}

impl AbnormalKind {
    /// `type_desc_cn` and `type_desc_en`.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            AbnormalKind::VideoTimestampBack => ("视频时间戳回退", "video timestamp went back"),
            AbnormalKind::AudioTimestampBack => ("音频时间戳回退", "audio timestamp went back"),
            AbnormalKind::VideoTimestampJump => ("视频时间戳跳跃", "video timestamp jumped ahead"),
            AbnormalKind::AudioTimestampJump => ("音频时间戳跳跃", "audio timestamp jumped ahead"),
            AbnormalKind::ChunkTooLarge => ("推流 chunk size 过大", "chunk size too large"),
            AbnormalKind::VideoGap => ("视频帧到达间隔过大", "gap between two video frames on arrival"),
            AbnormalKind::AudioGap => ("音频帧到达间隔过大", "gap between two audio frames on arrival"),
            AbnormalKind::VideoCodecChanged => ("视频编码格式变化", "video codec changed"),
            AbnormalKind::AudioCodecChanged => ("音频编码格式变化", "audio codec changed"),
            AbnormalKind::VideoBeforeHeader => ("视频帧先于序列头到达", "video frame before its sequence header"),
            AbnormalKind::AudioBeforeHeader => ("音频帧先于序列头到达", "audio frame before its sequence header"),
        }
    }
}
