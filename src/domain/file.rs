//! A recording from its first byte to its catalog entry.

use serde::{Deserialize, Serialize};

use super::{Receipt, ResumeTerms};
use crate::units::{FileId, Format, PublicationId, StreamKey, TaskId, TemplateId, WallTime};

use super::event::RecordSessionId;

/// Who asked for a recording.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum RecordingSource {
    Rule(TemplateId),
    /// A task of CreateRecordTask; callbacks name it.
    Task(TaskId),
    /// A task of CreateLiveRecord; callbacks do not name it.
    OlderTask(TaskId),
    /// Nobody recorded it: it was made of recordings.
    Made(MadeBy),
    /// Nobody asked yet: a stretch of what is kept for a while, so that a recording may begin in the past.
    Ring,
}

impl RecordingSource {
    /// Somebody asked for the stream to be recorded, and is told of begin and end.
    pub const fn is_told(&self) -> bool {
        !matches!(self, RecordingSource::Ring | RecordingSource::Made(_))
    }
}

/// The call that made a file of recordings.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum MadeBy {
    EditMedia,
    SimpleHlsClip,
    LiveRealTimeClip,
}

impl MadeBy {
    pub const fn name(self) -> &'static str {
        match self {
            Self::EditMedia => "EditMedia",
            Self::SimpleHlsClip => "SimpleHlsClip",
            Self::LiveRealTimeClip => "LiveRealTimeClip",
        }
    }
}

/// Everything about a recording that its bytes do not say. Written beside the open file, so that recovery can enter it into the catalog.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordingIdentity {
    pub file_id: FileId,
    pub format: Format,
    pub key: StreamKey,
    pub publication: PublicationId,
    pub source: RecordingSource,
    /// The push address with its query, secrets removed.
    pub push_url: String,
    /// The query of the push address without `?`.
    pub stream_param: String,
    /// When writing began.
    pub start: WallTime,
    /// The time of day of its first frame: when it was taken from the network, or what the encoder said. Absent in older recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_frame: Option<WallTime>,
    /// RTMP timestamp of the first frame the recorder received from this stream, ms.
    pub media_start_ms: i64,
    /// Copied from the template's parameters for this format.
    pub storage_time_s: u64,
    pub vod_sub_app_id: u64,
    pub vod_file_name: String,
    pub procedure: String,
    pub storage_mode: String,
    pub class_id: i64,
    /// HLS only: an interruption of the stream is not the end.
    #[serde(default)]
    pub resume: Option<ResumeTerms>,
    /// The recording session, as callbacks name it.
    #[serde(default)]
    pub session: RecordSessionId,
    /// The other domain that rules may use for this stream; empty: there is none.
    #[serde(default)]
    pub alias_domain: String,
    /// Its segments are encrypted so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<super::sealing::HlsEncryption>,
}

#[cfg(test)]
impl RecordingIdentity {
    /// A recording by a rule, for tests: what matters to one of them it sets itself.
    pub fn example(file_id: FileId, format: Format, key: StreamKey) -> Self {
        Self {
            file_id,
            format,
            key,
            publication: crate::units::PublicationId(1),
            source: RecordingSource::Rule(crate::units::TemplateId(1001)),
            push_url: String::new(),
            stream_param: String::new(),
            start: WallTime::from_unix_seconds(1_767_254_400),
            first_frame: None,
            media_start_ms: 0,
            storage_time_s: 0,
            vod_sub_app_id: 0,
            vod_file_name: String::new(),
            procedure: String::new(),
            storage_mode: "normal".to_owned(),
            class_id: 0,
            resume: None,
            session: RecordSessionId::default(),
            alias_domain: String::new(),
            encryption: None,
        }
    }
}

/// Why a file ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EndReason {
    /// RecordInterval passed.
    Interval,
    /// The publication ended.
    PublicationEnded,
    /// Codec parameters changed.
    ParametersChanged,
    /// Timestamps went back or jumped.
    TimestampJump,
    /// The task's window ended, or StopRecordTask.
    TaskEnded,
    /// The appliance was stopped.
    Shutdown,
    /// Found unfinished at start and recovered.
    Recovered,
    /// The disk could not follow, or failed.
    StorageFailed,
    /// The disk is full.
    StorageFull,
}

/// A finished, durable file under its final name, for the catalog.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FinishedFile {
    pub identity: RecordingIdentity,
    /// When writing ended.
    pub end: WallTime,
    pub reason: EndReason,
    /// Folder of the file's parts, relative to the data folder.
    pub folder: String,
    /// The file inside `folder` that a player opens (the playlist for HLS).
    pub entry: String,
    /// All parts in bytes; for HLS media, init segments and the playlist.
    pub size_bytes: u64,
    pub summary: MediaSummary,
    #[serde(default)]
    pub receipt: Receipt,
}

/// What a finished file holds. Durations and times are milliseconds of media time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaSummary {
    /// From the first presentation time to the end of the last sample.
    pub duration_ms: u64,
    pub video: Option<TrackSummary>,
    pub audio: Option<TrackSummary>,
    /// Tracks beside the first of their kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_video: Vec<TrackSummary>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_audio: Vec<TrackSummary>,
    /// Samples of the timed-metadata track.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub data_messages: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl MediaSummary {
    /// Every track with its kind, the first ones first.
    pub fn tracks(&self) -> impl Iterator<Item = (&'static str, &TrackSummary)> {
        let video = self.video.iter().map(|track| ("video", track));
        let audio = self.audio.iter().map(|track| ("audio", track));
        let further_video = self.further_video.iter().map(|track| ("further video", track));
        video.chain(audio).chain(further_video).chain(self.further_audio.iter().map(|track| ("further audio", track)))
    }
}

impl MediaSummary {
    /// Of both tracks.
    pub fn frames(&self) -> u64 {
        [&self.video, &self.audio].into_iter().flatten().map(|track| track.frames).sum()
    }
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
