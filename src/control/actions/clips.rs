//! Clips without encoding: EditMedia, SimpleHlsClip and LiveRealTimeClip.

use std::sync::Arc;

use serde_json::{Value, json};

use super::definitions::{VideoItem, video};
use super::media_info::{media_url, meta_data_of};
use super::values::{shorten, text_of};
use super::{Action, Scope, action, procedures, reply};
use crate::catalog::{CatalogError, MediaQuery};
use crate::clips::{self, EditWork, KeepRequest, Stretch};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::control::times;
use crate::delivery::clip::{self, ClipName, ClipOf, ClipPart};
use crate::delivery::resolve::{Entry, VOD_PREFIX, entry};
use crate::domain::definition::VideoTemplate;
use crate::domain::{MadeBy, RecordingSource, VodTask, VodTaskKind, VodTaskStatus};
use crate::units::{FileId, Format, WallTime};

pub const ACTIONS: &[Action] =
    &[action!("EditMedia", Vod, edit), action!("SimpleHlsClip", Vod, hls_clip), action!("LiveRealTimeClip", Vod, live_clip)];

const NAME_CHARS_MAX: usize = 64;
const SESSION_ID_CHARS_MAX: usize = 50;
const SESSION_CONTEXT_CHARS_MAX: usize = 1_000;
const SOURCE_CONTEXT_CHARS_MAX: usize = 250;
/// Inputs of one EditMedia.
const INPUTS_MAX: usize = 100;
/// A session id is refused that was used within this (documented: 3 days).
const SESSION_MICROS: i64 = 3 * 86_400 * 1_000_000;
/// Longest clip of a stream.
const CLIP_S_MAX: i64 = 86_400;
/// Recordings that are looked at for a stretch of a stream.
const RECORDINGS_MAX: u64 = 500;

parameters! {
    EditRequest {
        required { input_type: String = "InputType", }
        optional {
            sub_app_id: u64 = "SubAppId",
            files: Vec<FileInfo> = "FileInfos",
            streams: Vec<StreamInfo> = "StreamInfos",
            definition: u64 = "Definition",
            procedure: String = "ProcedureName",
            output: OutputConfig = "OutputConfig",
            session_context: String = "SessionContext",
            priority: i64 = "TasksPriority",
            session_id: String = "SessionId",
        }
        ignored { "ExtInfo" }
    }
}

parameters! {
    FileInfo {
        required { file_id: String = "FileId", }
        optional {
            start: f64 = "StartTimeOffset",
            end: f64 = "EndTimeOffset",
        }
    }
}

parameters! {
    StreamInfo {
        required {
            stream_id: String = "StreamId",
            start: String = "StartTime",
            end: String = "EndTime",
        }
    }
}

parameters! {
    OutputConfig {
        optional {
            name: String = "MediaName",
            kind: String = "Type",
            class_id: i64 = "ClassId",
            expire_time: String = "ExpireTime",
            video: VideoItem = "VideoStream",
        }
        ignored { "TEHDConfig" }
    }
}

parameters! {
    /// Whether a clip is kept as a file, and as what.
    group Outcome {
        sub_app_id: u64 = "SubAppId",
        is_persistence: i64 = "IsPersistence",
        expire_time: String = "ExpireTime",
        procedure: String = "Procedure",
        class_id: i64 = "ClassId",
        source_context: String = "SourceContext",
        session_context: String = "SessionContext",
    }
}

parameters! {
    HlsClipRequest {
        required { url: String = "Url", }
        optional {
            start: f64 = "StartTimeOffset",
            end: f64 = "EndTimeOffset",
            output_type: String = "OutputMediaType",
        }
        with { outcome: Outcome, }
        ignored { "Precision", "ExtInfo" }
    }
}

parameters! {
    LiveClipRequest {
        required {
            stream_id: String = "StreamId",
            start: String = "StartTime",
            end: String = "EndTime",
        }
        optional {
            meta_data_required: u64 = "MetaDataRequired",
            host: String = "Host",
            stream_info: LiveStreamInfo = "StreamInfo",
        }
        with { outcome: Outcome, }
        ignored { "ExtInfo" }
    }
}

parameters! {
    LiveStreamInfo {
        optional { kind: String = "Type", }
        ignored { "TemplateId" }
    }
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn moment(text: &str, name: &str, code: &'static str) -> Result<WallTime, ApiError> {
    times::read_utc(text).ok_or_else(|| refuse(code, format!("{name} must be a time like 2026-01-01T08:00:00Z.")))
}

/// `None`: for ever.
fn expire(text: Option<String>, now: WallTime, code: &'static str) -> Result<Option<WallTime>, ApiError> {
    let Some(text) = given(text).filter(|text| text != times::NEVER) else { return Ok(None) };
    let time = times::read_utc(&text).filter(|time| *time > now);
    time.map(Some).ok_or_else(|| refuse(code, "ExpireTime must be a time to come, like 2026-01-01T08:00:00Z."))
}

fn class(scope: &Scope<'_>, app: u64, id: Option<i64>) -> Result<i64, ApiError> {
    let id = id.unwrap_or(0);
    if id == 0 || scope.context.catalog.classes(app)?.iter().any(|class| class.id == id) {
        return Ok(id);
    }
    Err(ApiError::value(format!("There is no class {id}.")))
}

fn procedure(scope: &Scope<'_>, app: u64, name: Option<String>, code: &'static str) -> Result<String, ApiError> {
    let Some(name) = given(name) else { return Ok(String::new()) };
    match procedures::find(scope, app, &name)? {
        Some(_) => Ok(name),
        None => Err(refuse(code, format!("There is no task flow {}.", shorten(&name)))),
    }
}

/// Where a stretch begins and ends in `whole_s` seconds; 0 as an end, or a negative number, counts from the end.
fn offsets(start: f64, end: f64, whole_s: f64) -> Option<(f64, f64)> {
    let from = if start < 0.0 { whole_s + start } else { start };
    let to = if end <= 0.0 { whole_s + end } else { end.min(whole_s) };
    (from.is_finite() && to.is_finite() && from >= 0.0 && from < to).then_some((from, to))
}

fn edit(scope: &Scope<'_>, request: EditRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let session_id = request.session_id.unwrap_or_default();
    if session_id.chars().count() > SESSION_ID_CHARS_MAX {
        return Err(refuse("InvalidParameterValue.SessionIdTooLong", format!("SessionId must be at most {SESSION_ID_CHARS_MAX} characters.")));
    }
    let session_context = request.session_context.unwrap_or_default();
    if session_context.chars().count() > SESSION_CONTEXT_CHARS_MAX {
        let code = "InvalidParameterValue.SessionContextTooLong";
        return Err(refuse(code, format!("SessionContext must be at most {SESSION_CONTEXT_CHARS_MAX} characters.")));
    }
    let priority = super::values::in_range(request.priority.unwrap_or(0), -10, 10, "TasksPriority")?;
    if !matches!(request.definition, None | Some(0 | 10 | 20)) {
        return Err(ApiError::value("Definition must be 10 or 20."));
    }
    let output = request.output.unwrap_or(OutputConfig { name: None, kind: None, class_id: None, expire_time: None, video: None });
    let name = output.name.map(|name| text_of(name, 0, NAME_CHARS_MAX, "OutputConfig.MediaName", "InvalidParameterValue")).transpose()?;
    let format = match given(output.kind).as_deref() {
        None | Some("mp4") => Format::Mp4,
        Some("hls") => Format::Hls,
        Some(_) => return Err(ApiError::value("OutputConfig.Type must be mp4 or hls.")),
    };
    // Whoever says how the video shall be wants it encoded.
    let video = output.video.map(|item| video(VideoTemplate::default(), item)).transpose()?.filter(|video| *video != VideoTemplate::default());
    let class_id = class(scope, app, output.class_id)?;
    let expire = expire(output.expire_time, scope.now, "InvalidParameterValue")?;
    let procedure = procedure(scope, app, request.procedure, "InvalidParameterValue.ProcedureName")?;
    let files = request.files.unwrap_or_default();
    let streams = request.streams.unwrap_or_default();
    if files.len() > INPUTS_MAX || streams.len() > INPUTS_MAX {
        return Err(ApiError::value(format!("At most {INPUTS_MAX} inputs are joined.")));
    }
    let (stretches, input) = match request.input_type.as_str() {
        "File" if !files.is_empty() => files_of(scope, app, &files)?,
        "Stream" if !streams.is_empty() => streams_of(scope, app, &streams)?,
        "File" => return Err(ApiError::value("FileInfos must name at least one file.")),
        "Stream" => return Err(ApiError::value("StreamInfos must name at least one stream.")),
        _ => return Err(ApiError::value("InputType must be File or Stream.")),
    };
    let first = stretches[0].file_id;
    let name = match given(name) {
        Some(name) => name,
        None => scope.context.catalog.files(app, &[first])?.remove(&first).map(|row| row.name).unwrap_or_default(),
    };
    let encode = video.is_some();
    let work = EditWork { stretches, name, format, class_id, expire, procedure, file_id: None, video, encode, attempts: 0 };
    let account = if app == 0 { scope.context.app_id } else { app };
    let task = VodTask {
        id: format!("{account}-EditMedia-{}", uuid::Uuid::new_v4().simple()),
        sub_app_id: app,
        kind: VodTaskKind::EditMedia,
        status: VodTaskStatus::Waiting,
        file_id: Some(first),
        priority,
        create_time: scope.now,
        begin_time: None,
        finish_time: None,
        session_id,
        session_context,
        work: serde_json::to_value(&work).map_err(|error| ApiError::internal(format!("a task cannot be stored: {error}")))?,
        object: json!({
            "ErrCode": 0, "ErrCodeExt": "", "Message": "", "Progress": 0, "Input": input, "Output": null, "MetaData": null,
            "ProcedureTaskId": "", "ReviewAudioVideoTaskId": "",
        }),
    };
    let id = task.id.clone();
    scope.context.catalog.enter_vod_task(task, SESSION_MICROS).map_err(|error| match error {
        CatalogError::Exists => refuse("InvalidParameterValue.SessionId", "A call with this SessionId was made within the last 3 days."),
        error => error.into(),
    })?;
    scope.context.clips.wake();
    Ok(reply(json!({ "TaskId": id })))
}

fn files_of(scope: &Scope<'_>, app: u64, files: &[FileInfo]) -> Result<(Vec<Stretch>, Value), ApiError> {
    let not_there = |id: &str| refuse("ResourceNotFound", format!("There is no file {}.", shorten(id)));
    let ids: Vec<FileId> = files.iter().map(|file| FileId::parse(&file.file_id).ok_or_else(|| not_there(&file.file_id))).collect::<Result<_, _>>()?;
    let rows = scope.context.catalog.files(app, &ids)?;
    let mut stretches = Vec::new();
    for (file, id) in files.iter().zip(ids) {
        let row = rows.get(&id).ok_or_else(|| not_there(&file.file_id))?;
        let (start_s, end_s) = (file.start.unwrap_or(0.0), file.end.unwrap_or(0.0));
        let whole_s = row.file.summary.duration_ms as f64 / 1_000.0;
        if offsets(start_s, end_s, whole_s).is_none() {
            let message = format!("StartTimeOffset {start_s} and EndTimeOffset {end_s} leave nothing of file {id}, which is {whole_s} s long.");
            return Err(ApiError::value(message));
        }
        stretches.push(Stretch { file_id: id, start_s, end_s });
    }
    let shown: Vec<Value> = files
        .iter()
        .map(|file| json!({ "FileId": file.file_id, "StartTimeOffset": file.start.unwrap_or(0.0), "EndTimeOffset": file.end.unwrap_or(0.0) }))
        .collect();
    Ok((stretches, json!({ "InputType": "File", "FileInfoSet": shown, "StreamInfoSet": [] })))
}

fn streams_of(scope: &Scope<'_>, app: u64, streams: &[StreamInfo]) -> Result<(Vec<Stretch>, Value), ApiError> {
    let mut stretches = Vec::new();
    for stream in streams {
        let start = moment(&stream.start, "StreamInfos.StartTime", "InvalidParameterValue")?;
        let end = moment(&stream.end, "StreamInfos.EndTime", "InvalidParameterValue")?;
        if end <= start {
            return Err(ApiError::value("StreamInfos.EndTime must be after StartTime."));
        }
        let before = stretches.len();
        // One format of several: the first that can be cut without an encoder.
        for format in [Format::Mp4, Format::Flv, Format::Hls, Format::Aac, Format::Mp3] {
            let query = MediaQuery {
                sub_app_id: app,
                stream_ids: vec![stream.stream_id.clone()],
                media_types: vec![format.name().to_owned()],
                create_after: Some(start),
                ascending: true,
                limit: RECORDINGS_MAX,
                ..MediaQuery::default()
            };
            for row in scope.context.catalog.search(&query)?.rows {
                let identity = &row.file.identity;
                // What was cut out of a stream's recordings is none of them.
                if matches!(identity.source, RecordingSource::Made(_)) {
                    continue;
                }
                let begin = identity.start;
                let whole_ms = row.file.summary.duration_ms as i64;
                let from_ms = (start.unix_millis() - begin.unix_millis()).max(0);
                let to_ms = (end.unix_millis() - begin.unix_millis()).min(whole_ms);
                if *identity.key.stream == *stream.stream_id && from_ms < to_ms && !row.extras.original_deleted {
                    let (start_s, end_s) = (from_ms as f64 / 1_000.0, if to_ms >= whole_ms { 0.0 } else { to_ms as f64 / 1_000.0 });
                    stretches.push(Stretch { file_id: identity.file_id, start_s, end_s });
                }
            }
            if stretches.len() > before {
                break;
            }
        }
        if stretches.len() == before {
            return Err(refuse("ResourceNotFound", format!("No recording of stream {} is there for that time.", shorten(&stream.stream_id))));
        }
    }
    let shown: Vec<Value> =
        streams.iter().map(|stream| json!({ "StreamId": stream.stream_id, "StartTime": stream.start, "EndTime": stream.end })).collect();
    Ok((stretches, json!({ "InputType": "Stream", "FileInfoSet": [], "StreamInfoSet": shown })))
}

/// What IsPersistence 1 asks for beside the clip; `None`: nothing.
fn keeping(scope: &Scope<'_>, app: u64, by: MadeBy, outcome: Outcome) -> Result<Option<KeepRequest>, ApiError> {
    let code = "InvalidParameterValue.IsPersistence";
    let is_kept = match outcome.is_persistence.unwrap_or(0) {
        0 => false,
        1 => true,
        _ => return Err(refuse(code, "IsPersistence must be 0 or 1.")),
    };
    let context = text_of(outcome.source_context.unwrap_or_default(), 0, SOURCE_CONTEXT_CHARS_MAX, "SourceContext", "InvalidParameterValue")?;
    text_of(outcome.session_context.unwrap_or_default(), 0, SESSION_CONTEXT_CHARS_MAX, "SessionContext", "InvalidParameterValue")?;
    let expire = expire(outcome.expire_time, scope.now, "InvalidParameterValue.ExpireTime")?;
    let procedure = procedure(scope, app, outcome.procedure, "InvalidParameterValue.Procedure")?;
    let class_id = class(scope, app, outcome.class_id)?;
    let request = KeepRequest { by, sub_app_id: app, class_id, expire, procedure, context, name: String::new() };
    Ok(is_kept.then_some(request))
}

/// What both kinds of clip answer: address, MetaData, FileId ("" if it is not kept).
fn made(scope: &Scope<'_>, parts: &[ClipPart], name: ClipName, keeping: Option<KeepRequest>) -> Result<(String, Value, String), ApiError> {
    let context = scope.context;
    let maker = &context.clips.maker;
    let failed = |error: std::io::Error| ApiError::internal(format!("a clip cannot be made: {error}"));
    let home = &parts[0].entry.identity;
    let Some(mut request) = keeping else {
        let described = clips::describe(maker, parts).map_err(failed)?;
        let url = format!("{}{VOD_PREFIX}{}/{}/{name}", context.public_base, context.app_id, home.file_id);
        return Ok((url, meta_data_of(described.size_bytes, Format::Hls, &described.summary), String::new()));
    };
    if parts.iter().any(|part| part.segment.key_line.is_some()) {
        let message = "A clip of an encrypted recording cannot be a file of its own: its keys are those of the recording. IsPersistence must be 0.";
        return Err(refuse("UnsupportedOperation", message));
    }
    let begin = parts[0].segment.starts_at.unwrap_or(home.start);
    request.name = format!("{}_{}", home.key.stream, times::utc(begin).replace(':', "-"));
    let by = request.by.name();
    let file = clips::keep(maker, parts, &request).map_err(failed)?;
    let meta = meta_data_of(file.size_bytes, Format::Hls, &file.summary);
    let row = context.catalog.enter_clip(file, request.name, by, scope.now)?;
    Ok((media_url(&row, &context.public_base, context.app_id), meta, row.file.identity.file_id.to_string()))
}

/// The HLS recording that an address of ours names.
fn of_address(scope: &Scope<'_>, app: u64, url: &str) -> Result<Arc<Entry>, ApiError> {
    let bad = |why: &str| refuse("InvalidParameterValue.Url", format!("Url must be the address of a playlist of this appliance: {why}."));
    let context = scope.context;
    let path = url.strip_prefix(&context.public_base).or_else(|| {
        // By the other port of this machine.
        let rest = url.strip_prefix("http://")?;
        let (host, _) = rest.split_once('/')?;
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        matches!(name, "127.0.0.1" | "localhost" | "[::1]").then(|| &rest[host.len()..])
    });
    let path = path.ok_or_else(|| bad("it begins otherwise"))?;
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let rest = path.strip_prefix(VOD_PREFIX).and_then(|rest| rest.strip_prefix(&format!("{}/", context.app_id)));
    let (id, name) = rest.and_then(|rest| rest.split_once('/')).ok_or_else(|| bad("there is no recording at it"))?;
    if !name.ends_with(".m3u8") || name.contains('/') {
        return Err(bad("it does not end in .m3u8"));
    }
    if name.starts_with("adp.") {
        return Err(refuse("ResourceUnavailable.MasterPlaylist", "Url names a master playlist; clips are made of media playlists."));
    }
    let found = FileId::parse(id).map(|id| entry(&context.media, id)).transpose()?.flatten();
    let found = found.filter(|entry| entry.sub_app_id == app && !entry.original_deleted).ok_or_else(|| bad("there is no such recording"))?;
    if found.identity.format != Format::Hls {
        return Err(bad("the recording is not HLS; EditMedia cuts MP4 and FLV"));
    }
    Ok(found)
}

fn hls_clip(scope: &Scope<'_>, request: HlsClipRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.outcome.sub_app_id)?;
    let entry = of_address(scope, app, &request.url)?;
    if given(request.output_type).is_some_and(|kind| kind != "hls") {
        return Err(refuse("UnsupportedOperation", "OutputMediaType can be hls only; EditMedia makes MP4 files."));
    }
    let keeping = keeping(scope, app, MadeBy::SimpleHlsClip, request.outcome)?;
    let all = clip::of_recording(&scope.context.media, &entry, 0, u64::MAX);
    let whole_s = all.iter().map(|part| part.segment.duration_ms).sum::<u64>() as f64 / 1_000.0;
    let (start, end) = (request.start.unwrap_or(0.0), request.end.unwrap_or(0.0));
    if !start.is_finite() || (if start < 0.0 { whole_s + start } else { start }) < 0.0 || start >= whole_s {
        return Err(refuse("InvalidParameterValue.StartTimeOffset", format!("StartTimeOffset {start} is outside of the {whole_s} s there are.")));
    }
    let (from, to) = offsets(start, end, whole_s)
        .ok_or_else(|| refuse("InvalidParameterValue.EndTimeOffset", format!("EndTimeOffset {end} leaves nothing of the {whole_s} s there are.")))?;
    let (start_ms, end_ms) = ((from * 1_000.0) as u64, (to * 1_000.0).ceil() as u64);
    let parts = clip::of_recording(&scope.context.media, &entry, start_ms, end_ms);
    if parts.is_empty() {
        return Err(refuse("InvalidParameterValue.EndTimeOffset", "There is no segment between StartTimeOffset and EndTimeOffset."));
    }
    let (url, meta, file_id) = made(scope, &parts, ClipName::Recording { start_ms, end_ms }, keeping)?;
    Ok(reply(json!({ "Url": url, "MetaData": meta, "FileId": file_id, "TaskId": "" })))
}

fn live_clip(scope: &Scope<'_>, request: LiveClipRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.outcome.sub_app_id)?;
    let start = moment(&request.start, "StartTime", "InvalidParameterValue.StartTime")?;
    let end = moment(&request.end, "EndTime", "InvalidParameterValue.EndTime")?;
    if end <= start {
        return Err(refuse("InvalidParameterValue.EndTime", "EndTime must be after StartTime."));
    }
    if end.unix_seconds() - start.unix_seconds() > CLIP_S_MAX {
        return Err(refuse("InvalidParameterValue.ClipDuration", format!("A clip is at most {CLIP_S_MAX} s long.")));
    }
    if request.stream_info.is_some_and(|info| info.kind.is_some_and(|kind| kind == "Transcoding")) {
        return Err(refuse("UnsupportedOperation", "Only the original of a stream is recorded; StreamInfo.Type cannot be Transcoding."));
    }
    let keeping = keeping(scope, app, MadeBy::LiveRealTimeClip, request.outcome)?;
    let host = request.host.unwrap_or_default();
    let of = ClipOf { sub_app_id: app, stream: &request.stream_id, domain: &host, app: None };
    let parts = clip::of_stream(&scope.context.media, &of, start, end)?;
    if parts.is_empty() {
        let message = format!("No HLS recording of stream {} holds anything of that time.", shorten(&request.stream_id));
        return Err(refuse("InvalidParameterValue.StreamIdInvalid", message));
    }
    let segments: Vec<Value> =
        clip::covered(&parts).into_iter().map(|(begin, end)| json!({ "StartTime": times::utc(begin), "EndTime": times::utc(end) })).collect();
    let (url, meta, file_id) = made(scope, &parts, ClipName::Stream { start, end }, keeping)?;
    let meta = if request.meta_data_required == Some(1) { meta } else { Value::Null };
    Ok(reply(json!({ "Url": url, "FileId": file_id, "VodTaskId": "", "MetaData": meta, "SegmentSet": segments })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_of_a_file() {
        for (start, end, expected) in [
            (0.0, 0.0, Some((0.0, 10.0))),
            (2.0, 5.0, Some((2.0, 5.0))),
            (-3.0, 0.0, Some((7.0, 10.0))),
            (1.0, -1.0, Some((1.0, 9.0))),
            (5.0, 99.0, Some((5.0, 10.0))),
            (5.0, 5.0, None),
            (10.0, 0.0, None),
            (-11.0, 0.0, None),
            (f64::NAN, 0.0, None),
            (0.0, f64::INFINITY, Some((0.0, 10.0))),
        ] {
            assert_eq!(offsets(start, end, 10.0), expected, "{start} {end}");
        }
    }
}
