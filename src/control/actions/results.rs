//! What task flows made, and how far they are, as the API shows it: items of a `MediaInfo`, results of a `ProcedureTask`.

use serde_json::{Map, Value, json};

use super::media_info::{cover_url, event_media, media_url, seconds};
use crate::catalog::MediaRow;
use crate::control::times;
use crate::domain::VodTask;
use crate::domain::flow::{
    AdaptiveSet, AnimatedSet, ProcedureTask, Rendition, SampleSet, SnapshotSet, SpriteSet, Subtask, SubtaskInput, SubtaskOutput, SubtaskState,
    numbered,
};
use crate::units::FileId;

/// Begin of the addresses of a file's parts, with the slash at the end.
pub struct Folder(String);

impl Folder {
    pub fn new(file_id: FileId, public_base: &str, app_id: u64) -> Self {
        Self(format!("{public_base}/vod/{app_id}/{file_id}/"))
    }

    /// Names of results are ours: they need no escaping.
    pub fn url(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }
}

pub fn rendition(set: &Rendition, file_id: FileId, folder: &Folder) -> Value {
    let video = set.video.iter().map(|track| {
        json!({
            "Bitrate": track.bitrate,
            "Width": track.width,
            "Height": track.height,
            "Codec": track.codec,
            "Fps": track.fps,
            "CodecTag": track.codec_tag,
        })
    });
    let audio = set.audio.iter().map(|track| json!({ "Bitrate": track.bitrate, "SamplingRate": track.sample_rate_hz, "Codec": track.codec }));
    let (width, height) = set.video.as_ref().map_or((0, 0), |track| (track.width, track.height));
    let bitrate = (u128::from(set.size_bytes) * 8_000).checked_div(u128::from(set.duration_ms)).and_then(|rate| u64::try_from(rate).ok());
    json!({
        "Url": folder.url(&set.files.entry),
        "Definition": set.definition,
        "Bitrate": bitrate.unwrap_or(0),
        "Width": width,
        "Height": height,
        "Size": set.size_bytes,
        "Duration": seconds(set.duration_ms),
        "Md5": "",
        "Container": set.container,
        "VideoStreamSet": video.collect::<Vec<_>>(),
        "AudioStreamSet": audio.collect::<Vec<_>>(),
        "DigitalWatermarkType": "",
        "CopyRightWatermarkText": "",
        "BlindWatermarkDefinition": 0,
        "FileId": file_id.to_string(),
    })
}

pub fn adaptive(set: &AdaptiveSet, folder: &Folder) -> Value {
    let streams = set.streams.iter().map(|stream| {
        json!({
            "Type": if stream.has_video { "video" } else { "audio" },
            "Width": stream.width,
            "Height": stream.height,
            "Size": stream.size_bytes,
        })
    });
    json!({
        "Definition": set.definition,
        "Package": "HLS",
        "DrmType": set.drm_type,
        "Url": folder.url(&set.files.entry),
        "Size": set.size_bytes,
        "DigitalWatermarkType": "",
        "CopyRightWatermarkText": "",
        "BlindWatermarkDefinition": 0,
        "SubStreamSet": streams.collect::<Vec<_>>(),
        "DefaultSubtitleId": "",
        "DrmEncryptType": "",
    })
}

pub fn snapshots(set: &SnapshotSet, folder: &Folder) -> Value {
    let picture = |(time_ms, name): &(u64, String)| json!({ "TimeOffset": seconds(*time_ms), "Url": folder.url(name), "WaterMarkDefinition": [] });
    json!({ "Definition": set.definition, "PicInfoSet": set.pictures.iter().map(picture).collect::<Vec<_>>() })
}

pub fn samples(set: &SampleSet, folder: &Folder) -> Value {
    json!({
        "Definition": set.definition,
        "SampleType": set.sample_type,
        "Interval": set.interval,
        "ImageUrlSet": numbered(&set.files.prefix, &set.extension, set.count).map(|name| folder.url(&name)).collect::<Vec<_>>(),
        "WaterMarkDefinition": [],
    })
}

pub fn sprites(set: &SpriteSet, folder: &Folder) -> Value {
    json!({
        "Definition": set.definition,
        "Width": set.width,
        "Height": set.height,
        "TotalCount": set.count,
        "ImageUrlSet": numbered(&set.files.prefix, &set.extension, set.sheets).map(|name| folder.url(&name)).collect::<Vec<_>>(),
        "WebVttUrl": folder.url(&set.files.entry),
    })
}

pub fn animated(set: &AnimatedSet, folder: &Folder) -> Value {
    json!({
        "Url": folder.url(&set.files.entry),
        "Definition": set.definition,
        "Container": set.container,
        "Height": set.height,
        "Width": set.width,
        "Bitrate": (set.size_bytes * 8_000).checked_div(set.end_ms.saturating_sub(set.start_ms)).unwrap_or(0),
        "Size": set.size_bytes,
        "Md5": "",
        "StartTimeOffset": seconds(set.start_ms),
        "EndTimeOffset": seconds(set.end_ms),
    })
}

/// A `ProcedureTask` as it is shown and as its event carries it. No row: the file was deleted. `progress`: the subtask that runs, and its percent.
pub fn procedure_task(
    task: &VodTask,
    flow: &ProcedureTask,
    row: Option<&MediaRow>,
    progress: Option<(usize, u8)>,
    public_base: &str,
    app_id: u64,
) -> Value {
    let folder = Folder::new(flow.file_id, public_base, app_id);
    let results = flow.subtasks.iter().enumerate().map(|(index, subtask)| {
        let percent = progress.filter(|(running, _)| *running == index).map_or(0, |(_, percent)| percent);
        result(subtask, percent, flow.file_id, &folder, public_base, app_id)
    });
    json!({
        "TaskId": task.id,
        "Status": task.status.name(),
        "ErrCode": 0,
        "Message": "",
        "FileId": flow.file_id.to_string(),
        "FileName": row.map_or("", |row| row.name.as_str()),
        "FileUrl": row.filter(|row| !row.extras.original_deleted).map(|row| media_url(row, public_base, app_id)).unwrap_or_default(),
        "MetaData": row.map(|row| event_media(row, public_base, app_id).1),
        "MediaProcessResultSet": results.collect::<Vec<_>>(),
        "TasksPriority": task.priority,
        "TasksNotifyMode": flow.notify_mode.name(),
        "SessionContext": task.session_context,
        "SessionId": task.session_id,
        "Operator": "",
        "OperationType": "",
    })
}

fn result(subtask: &Subtask, percent: u8, file_id: FileId, folder: &Folder, public_base: &str, app_id: u64) -> Value {
    let (kind, field, input) = match &subtask.input {
        SubtaskInput::Transcode(input) => ("Transcode", "TranscodeTask", serde_json::to_value(input)),
        SubtaskInput::SnapshotByTimeOffset(input) => ("SnapshotByTimeOffset", "SnapshotByTimeOffsetTask", serde_json::to_value(input)),
        SubtaskInput::SampleSnapshot(input) => ("SampleSnapshot", "SampleSnapshotTask", serde_json::to_value(input)),
        SubtaskInput::ImageSprites(input) => ("ImageSprites", "ImageSpriteTask", serde_json::to_value(input)),
        SubtaskInput::AnimatedGraphics(input) => ("AnimatedGraphics", "AnimatedGraphicTask", serde_json::to_value(input)),
        SubtaskInput::CoverBySnapshot(input) => ("CoverBySnapshot", "CoverBySnapshotTask", serde_json::to_value(input)),
        SubtaskInput::AdaptiveDynamicStreaming(input) => ("AdaptiveDynamicStreaming", "AdaptiveDynamicStreamingTask", serde_json::to_value(input)),
    };
    let output = subtask.output.as_ref().map(|output| match output {
        SubtaskOutput::Transcode(set) => rendition(set, file_id, folder),
        SubtaskOutput::SnapshotByTimeOffset(set) => snapshots(set, folder),
        SubtaskOutput::SampleSnapshot(set) => samples(set, folder),
        SubtaskOutput::ImageSprites(set) => sprites(set, folder),
        SubtaskOutput::AnimatedGraphics(set) => animated(set, folder),
        SubtaskOutput::CoverBySnapshot(cover) => json!({ "CoverUrl": cover_url(file_id, &cover.extension, public_base, app_id) }),
        SubtaskOutput::AdaptiveDynamicStreaming(set) => adaptive(set, folder),
    });
    // A reason for another attempt is shown, but it is no failure yet.
    let error = subtask.error.as_ref();
    let failed = error.filter(|_| subtask.state == SubtaskState::Fail);
    let time = |time| Option::map(time, times::utc).unwrap_or_default();
    let details = json!({
        "Status": subtask.state.name(),
        "ErrCodeExt": failed.map_or("", |error| error.kind.code_ext()),
        "ErrCode": failed.map_or(0, |error| error.kind.code()),
        "Message": error.map_or("", |error| error.message.as_str()),
        "Input": input.unwrap_or_default(),
        "Output": output,
        "Progress": match subtask.state { SubtaskState::Success => 100, SubtaskState::Fail => 0, _ => percent },
        "BeginProcessTime": time(subtask.begin),
        "FinishTime": time(subtask.finish),
    });
    let mut result = Map::new();
    result.insert("Type".to_owned(), kind.into());
    result.insert(field.to_owned(), details);
    Value::Object(result)
}
