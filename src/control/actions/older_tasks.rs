//! The older task calls: CreateLiveRecord, StopLiveRecord, DeleteLiveRecord. Their tasks bring their own format instead of naming a template and are
//! known by a number and the stream's name; nothing lists them. What records is the machine of all tasks.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::json;

use super::values::{self, in_range};
use super::{Action, Scope, action, reply};
use crate::catalog::CatalogError;
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::control::times;
use crate::domain::template::RECORD_INTERVAL_S_DEFAULT;
use crate::domain::{OwnFormat, RecordTask};
use crate::units::{Format, StreamKey, TaskId, WallTime};

pub const ACTIONS: &[Action] =
    &[action!("CreateLiveRecord", Live, create), action!("StopLiveRecord", Live, stop), action!("DeleteLiveRecord", Live, delete)];

const APP_DEFAULT: &str = "live";
/// Longest recording with `Highlight`, and what it is without a usable EndTime (documented: 30 minutes).
const HIGHLIGHT_MICROS: i64 = 30 * 60 * 1_000_000;
/// Seconds per file (documented).
const RECORD_INTERVAL_S_MIN: u64 = 1_800;
const RECORD_INTERVAL_S_MAX: u64 = 7_200;
/// 1500 days, as in record templates.
const STORAGE_TIME_S_MAX: u64 = 129_600_000;
const STREAM_PARAM_BYTES_MAX: usize = 2_048;
const BAD: &str = "InvalidParameterValue";

parameters! {
    CreateRequest {
        required { stream: String = "StreamName", }
        optional {
            app: String = "AppName",
            domain: String = "DomainName",
            start_time: String = "StartTime",
            end_time: String = "EndTime",
            record_type: String = "RecordType",
            file_format: String = "FileFormat",
            highlight: i64 = "Highlight",
            mix_stream: i64 = "MixStream",
            stream_param: String = "StreamParam",
        }
    }
}

parameters! {
    TaskRequest {
        required {
            stream: String = "StreamName",
            id: i64 = "TaskId",
        }
    }
}

fn create(scope: &Scope<'_>, request: CreateRequest) -> Result<Reply, ApiError> {
    let task = task(request, scope.now)?;
    let number = scope.context.catalog.create_older_task(task, scope.context.limits.older_tasks, scope.now).map_err(|error| match error {
        CatalogError::Limit { limit } => refuse("LimitExceeded.MaximumRunningTask", format!("There are {limit} tasks waiting or recording already.")),
        CatalogError::DayLimit { limit } => refuse("LimitExceeded.MaximumTask", format!("{limit} tasks were made within 24 hours already.")),
        other => other.into(),
    })?;
    scope.refresh_policy()?;
    Ok(reply(json!({ "TaskId": number })))
}

fn stop(scope: &Scope<'_>, request: TaskRequest) -> Result<Reply, ApiError> {
    scope.context.catalog.stop_older_task(request.id, request.stream, scope.now).map_err(unknown_task)?;
    scope.refresh_policy()?;
    Ok(Reply::new())
}

fn delete(scope: &Scope<'_>, request: TaskRequest) -> Result<Reply, ApiError> {
    scope.context.catalog.delete_older_task(request.id, request.stream, scope.now).map_err(|error| match error {
        CatalogError::InUse => refuse("FailedOperation.AlterTaskState", "The task has not ended; only the record of an ended task can be deleted."),
        other => unknown_task(other),
    })?;
    scope.refresh_policy()?;
    Ok(Reply::new())
}

fn unknown_task(error: CatalogError) -> ApiError {
    match error {
        CatalogError::NotFound => refuse("ResourceNotFound.TaskId", "There is no task with this TaskId for this StreamName."),
        other => other.into(),
    }
}

fn task(request: CreateRequest, now: WallTime) -> Result<RecordTask, ApiError> {
    let stream = values::stream(request.stream, BAD)?;
    if stream.is_empty() {
        return Err(ApiError::value("StreamName must not be empty."));
    }
    let app = values::app(given(request.app).unwrap_or_else(|| APP_DEFAULT.to_owned()), BAD)?;
    let domain = given(request.domain).map_or(Ok(String::new()), |domain| values::domain(&domain))?;
    in_range(request.mix_stream.unwrap_or(0), 0, 1, "MixStream")?;
    let highlight = in_range(request.highlight.unwrap_or(0), 0, 1, "Highlight")? == 1;
    let (start_time, end_time) = (given(request.start_time), given(request.end_time));
    let (start, end) = if highlight { (now, highlight_end(end_time, now)?) } else { window(start_time, end_time, now)? };
    let record_type = given(request.record_type).unwrap_or_default();
    let audio_only = match record_type.to_ascii_lowercase().as_str() {
        "" | "video" => false,
        "audio" => true,
        _ => return Err(ApiError::value(format!("RecordType is \"{}\"; it must be video or audio.", values::shorten(&record_type)))),
    };
    let format = match given(request.file_format) {
        None => Format::Flv,
        Some(name) => Format::parse(&name)
            .ok_or_else(|| ApiError::value(format!("FileFormat is \"{}\"; it must be flv, hls, mp4, aac or mp3.", values::shorten(&name))))?,
    };
    let (record_interval_s, storage_time_s) = stream_param(&request.stream_param.unwrap_or_default())?;
    Ok(RecordTask {
        // The catalog numbers it.
        id: TaskId("".into()),
        key: StreamKey::new(&domain, &app, &stream),
        start,
        end,
        template_id: 0,
        stream_type: 0,
        extension: String::new(),
        create_time: now,
        stopped: None,
        own: Some(OwnFormat { format, audio_only, record_interval_s, storage_time_s }),
    })
}

/// Some client libraries send an empty text for what they leave out.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// From StartTime to EndTime; a start in the past begins now, in effect.
fn window(start: Option<String>, end: Option<String>, now: WallTime) -> Result<(WallTime, WallTime), ApiError> {
    let start = time(&start.ok_or_else(|| ApiError::missing("StartTime"))?, "StartTime");
    let (start, end) = (start?, time(&end.ok_or_else(|| ApiError::missing("EndTime"))?, "EndTime")?);
    if end <= start || end <= now {
        return Err(ApiError::value("EndTime must be later than StartTime and than now."));
    }
    Ok((start, end))
}

/// EndTime if it lies within the next 30 minutes, else these.
fn highlight_end(end: Option<String>, now: WallTime) -> Result<WallTime, ApiError> {
    let latest = WallTime::from_unix_micros(now.unix_micros().saturating_add(HIGHLIGHT_MICROS));
    let wanted = end.map(|end| time(&end, "EndTime")).transpose()?;
    Ok(wanted.filter(|end| *end > now && *end <= latest).unwrap_or(latest))
}

/// China time, perhaps percent-encoded by the client once more.
fn time(text: &str, name: &str) -> Result<WallTime, ApiError> {
    let is_encoded = text.to_ascii_lowercase().contains("%3a");
    let decoded = if is_encoded { percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned() } else { text.to_owned() };
    times::read_beijing(&decoded)
        .ok_or_else(|| ApiError::value(format!("{name} is \"{}\"; it must be a China time like 2026-01-31 08:30:00.", values::shorten(text))))
}

/// Reads `record_interval=1800&storage_time=86400`, perhaps percent-encoded; names we do not know are ignored. Seconds per file and of keeping.
fn stream_param(text: &str) -> Result<(u64, u64), ApiError> {
    if text.len() > STREAM_PARAM_BYTES_MAX {
        return Err(ApiError::value(format!("StreamParam must be at most {STREAM_PARAM_BYTES_MAX} bytes.")));
    }
    let text: Cow<'_, str> = percent_decode_str(text).decode_utf8_lossy();
    let (mut record_interval_s, mut storage_time_s) = (RECORD_INTERVAL_S_DEFAULT, 0);
    for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
        let (target, low, high) = match name {
            "record_interval" => (&mut record_interval_s, RECORD_INTERVAL_S_MIN, RECORD_INTERVAL_S_MAX),
            "storage_time" => (&mut storage_time_s, 0, STORAGE_TIME_S_MAX),
            _ => continue,
        };
        let number = value.parse().map_err(|_| ApiError::value(format!("{name} in StreamParam must be a number of seconds.")))?;
        *target = in_range(number, low, high, name)?;
    }
    Ok((record_interval_s, storage_time_s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::params::Parameters;
    use crate::control::tree::read_json;

    /// 2026-01-01T08:00:00.25Z, which is 16:00:00 in China.
    const NOW: WallTime = WallTime::from_unix_micros(1_767_254_400_250_000);

    fn created(tail: &str) -> Result<RecordTask, ApiError> {
        let body = format!(r#"{{"StreamName":"camera-1"{tail}}}"#);
        task(CreateRequest::read_fields(read_json(body.as_bytes()).unwrap(), "")?, NOW)
    }

    fn timed(tail: &str) -> Result<RecordTask, ApiError> {
        created(&format!(r#","StartTime":"2026-01-01 17:00:00","EndTime":"2026-01-01 18:00:00"{tail}"#))
    }

    #[test]
    fn defaults_and_all_fields() {
        let plain = timed("").unwrap();
        assert_eq!(plain.key, StreamKey::new("", "live", "camera-1"));
        assert_eq!((plain.start.unix_seconds(), plain.end.unix_seconds()), (1_767_258_000, 1_767_261_600));
        let own = OwnFormat { format: Format::Flv, audio_only: false, record_interval_s: 1800, storage_time_s: 0 };
        assert_eq!(plain.own, Some(own));
        let empty = timed(r#","AppName":"","DomainName":"","RecordType":"","FileFormat":"","StreamParam":"","Highlight":0,"MixStream":0"#);
        assert_eq!(empty.unwrap(), plain);
        let full = timed(
            r#","AppName":"east","DomainName":"Push.Example.com","RecordType":"AUDIO","FileFormat":"Mp4","MixStream":1,
                "StreamParam":"x=y&record_interval=7200&storage_time=86400&z""#,
        );
        let full = full.unwrap();
        assert_eq!(full.key, StreamKey::new("push.example.com", "east", "camera-1"));
        assert_eq!(full.own, Some(OwnFormat { format: Format::Mp4, audio_only: true, record_interval_s: 7200, storage_time_s: 86_400 }));
        let encoded = timed(r#","StreamParam":"record_interval%3d3600%26storage_time%3D60""#).unwrap().own.unwrap();
        assert_eq!((encoded.record_interval_s, encoded.storage_time_s), (3600, 60));
    }

    #[test]
    fn windows() {
        let window = |start: &str, end: &str| created(&format!(r#","StartTime":"{start}","EndTime":"{end}""#));
        for (start, end, code) in [
            ("2026-01-01 15:00:00", "2026-01-01 16:00:01", "ok"),
            ("2026-01-01 15:00:00", "2026-01-01 16:00:00", BAD),
            ("2026-01-01 17:00:00", "2026-01-01 17:00:00", BAD),
            ("2026-01-01 17:00:00", "2026-01-01 16:30:00", BAD),
            ("2026-01-01+15%3a00%3a00", "2026-01-01%2016%3A00%3A01", "ok"),
            ("2026-01-01T15:00:00Z", "2026-01-01 18:00:00", BAD),
            ("1767254400", "2026-01-01 18:00:00", BAD),
            ("2026-02-30 15:00:00", "2026-03-01 18:00:00", BAD),
            ("", "2026-01-01 18:00:00", "MissingParameter"),
            ("2026-01-01 17:00:00", "", "MissingParameter"),
        ] {
            assert_eq!(window(start, end).map_or_else(|error| error.code, |_| "ok"), code, "{start} to {end}");
        }
        let encoded = window("2026-01-01+15%3a00%3a00", "2026-01-01+17%3a00%3a00").unwrap();
        assert_eq!((encoded.start.unix_seconds(), encoded.end.unix_seconds()), (1_767_250_800, 1_767_258_000));
    }

    #[test]
    fn highlights_last_half_an_hour_at_most() {
        let half_an_hour = NOW.unix_micros() + HIGHLIGHT_MICROS;
        for (end, expected) in [
            ("", half_an_hour),
            (r#","StartTime":"nonsense""#, half_an_hour),
            (r#","EndTime":"2026-01-01 16:10:00""#, 1_767_255_000_000_000),
            (r#","EndTime":"2026-01-01 16:30:01""#, half_an_hour),
            (r#","EndTime":"2026-01-01 16:00:00""#, half_an_hour),
            (r#","EndTime":"2025-01-01 16:00:00""#, half_an_hour),
        ] {
            let task = created(&format!(r#","Highlight":1{end}"#)).unwrap();
            assert_eq!((task.start, task.end.unix_micros()), (NOW, expected), "{end}");
        }
        assert_eq!(created(r#","Highlight":1,"EndTime":"soon""#).unwrap_err().code, BAD);
    }

    #[test]
    fn refusals() {
        let long = format!(r#","StreamParam":"{}""#, "x".repeat(2049));
        for (tail, code) in [
            (r#","RecordType":"both""#, BAD),
            (r#","FileFormat":"mkv""#, BAD),
            (r#","Highlight":2"#, BAD),
            (r#","MixStream":-1"#, BAD),
            (r#","AppName":"a b""#, BAD),
            (r#","DomainName":"a b""#, "InvalidParameter.DomainFormatError"),
            (r#","StreamParam":"record_interval=1799""#, BAD),
            (r#","StreamParam":"record_interval=7201""#, BAD),
            (",\"StreamParam\":\"record_interval=\"", BAD),
            (r#","StreamParam":"storage_time=-1""#, BAD),
            (r#","StreamParam":"storage_time=129600001""#, BAD),
            (long.as_str(), BAD),
            (r#","Highlight":"yes""#, "InvalidParameter"),
            (r#","Nope":1"#, "UnknownParameter"),
        ] {
            assert_eq!(timed(tail).map_or_else(|error| error.code, |_| "ok"), code, "{tail:.80}");
        }
        for stream in ["", "a/b", "a b"] {
            let body = format!(r#"{{"StreamName":"{stream}","Highlight":1}}"#);
            let request = CreateRequest::read_fields(read_json(body.as_bytes()).unwrap(), "").unwrap();
            assert_eq!(task(request, NOW).unwrap_err().code, BAD, "{stream}");
        }
    }
}
