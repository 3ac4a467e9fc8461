//! Record tasks: this stream, from this time to that time. Clients know only `InvalidParameter` for every bad value of these four calls.

use serde_json::{Value, json};

use super::{Action, Scope, action, reply, values};
use crate::catalog::{CatalogError, TaskQuery};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::domain::RecordTask;
use crate::units::{StreamKey, TaskId, TemplateId, WallTime};

pub const ACTIONS: &[Action] = &[
    action!("CreateRecordTask", Live, create),
    action!("StopRecordTask", Live, stop),
    action!("DeleteRecordTask", Live, delete),
    action!("DescribeRecordTask", Live, describe),
];

const DAY_S: u64 = 86_400;
/// Longest task, s (documented).
const TASK_S_MAX: u64 = DAY_S;
/// A task begins and ends at most this far ahead, s (documented).
const START_AHEAD_S_MAX: u64 = 6 * DAY_S;
const END_AHEAD_S_MAX: u64 = 7 * DAY_S;
/// Window of a list, and how far back it may begin, s (documented).
const WINDOW_S_MAX: u64 = 7 * DAY_S;
const WINDOW_AGE_S_MAX: u64 = 90 * DAY_S;
const EXTENSION_BYTES_MAX: usize = 4_096;
const TASK_ID_BYTES_MAX: usize = 128;
/// Tasks in one page of DescribeRecordTask.
const PAGE_TASKS: usize = 100;

parameters! {
    CreateRequest {
        required {
            stream: String = "StreamName",
            domain: String = "DomainName",
            app: String = "AppName",
            end_time: u64 = "EndTime",
        }
        optional {
            start_time: u64 = "StartTime",
            stream_type: u64 = "StreamType",
            template_id: u64 = "TemplateId",
            extension: String = "Extension",
        }
    }
}

parameters! {
    IdRequest { required { id: String = "TaskId", } }
}

parameters! {
    DescribeRequest {
        required {
            start_time: u64 = "StartTime",
            end_time: u64 = "EndTime",
        }
        optional {
            stream: String = "StreamName",
            domain: String = "DomainName",
            app: String = "AppName",
            scroll_token: String = "ScrollToken",
        }
    }
}

fn create(scope: &Scope<'_>, request: CreateRequest) -> Result<Reply, ApiError> {
    let id = TaskId(uuid::Uuid::new_v4().simple().to_string().into());
    let task = task(request, id.clone(), scope.now)?;
    if task.template_id != 0
        && matches!(scope.context.catalog.template::<crate::domain::RecordTemplate>(TemplateId(task.template_id)), Err(CatalogError::NotFound))
    {
        tracing::warn!(task = %id, template = task.template_id, "the task names a template that does not exist; it records the default format");
    }
    scope.context.catalog.create_task(task, scope.context.limits.tasks_max, scope.now).map_err(|error| match error {
        CatalogError::Limit { limit } => refuse("LimitExceeded.MaximumRunningTask", format!("There are {limit} tasks waiting or recording already.")),
        other => other.into(),
    })?;
    scope.refresh_policy()?;
    Ok(reply(json!({ "TaskId": id.0 })))
}

fn stop(scope: &Scope<'_>, request: IdRequest) -> Result<Reply, ApiError> {
    scope.context.catalog.stop_task(&task_id(&request.id)?, scope.now).map_err(unknown_task)?;
    scope.refresh_policy()?;
    Ok(Reply::new())
}

fn delete(scope: &Scope<'_>, request: IdRequest) -> Result<Reply, ApiError> {
    scope.context.catalog.delete_task(&task_id(&request.id)?).map_err(unknown_task)?;
    scope.refresh_policy()?;
    Ok(Reply::new())
}

fn describe(scope: &Scope<'_>, request: DescribeRequest) -> Result<Reply, ApiError> {
    let tasks = scope.context.catalog.tasks(&query(request, scope.now)?)?;
    Ok(page(tasks))
}

fn unknown_task(error: CatalogError) -> ApiError {
    match error {
        CatalogError::NotFound => ApiError::invalid("There is no task with this TaskId."),
        other => other.into(),
    }
}

fn task_id(text: &str) -> Result<TaskId, ApiError> {
    let is_good =
        (1..=TASK_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_good { Ok(TaskId(text.into())) } else { Err(ApiError::invalid("There is no task with this TaskId.")) }
}

/// The family's code for a bad name.
fn as_invalid(error: ApiError) -> ApiError {
    ApiError { code: "InvalidParameter", ..error }
}

fn named(value: String, name: &str) -> Result<String, ApiError> {
    if value.is_empty() { Err(ApiError::invalid(format!("{name} must not be empty."))) } else { Ok(value) }
}

/// Seconds since the epoch; 0 for a clock before it.
fn unix_seconds(time: WallTime) -> u64 {
    u64::try_from(time.unix_seconds()).unwrap_or(0)
}

/// A time that was checked to be near our clock.
fn wall_time(seconds: u64) -> WallTime {
    WallTime::from_unix_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn task(request: CreateRequest, id: TaskId, now: WallTime) -> Result<RecordTask, ApiError> {
    let domain = values::domain(&named(request.domain, "DomainName")?).map_err(as_invalid)?;
    let app = values::app(named(request.app, "AppName")?, "InvalidParameter")?;
    let stream = values::stream(named(request.stream, "StreamName")?, "InvalidParameter")?;
    let now_s = unix_seconds(now);
    let start = request.start_time.filter(|start| *start != 0);
    let (start_s, end_s) = (start.unwrap_or(now_s), request.end_time);
    if start_s > now_s + START_AHEAD_S_MAX {
        return Err(ApiError::invalid(format!("StartTime is {start_s}; it must be at most 6 days from now ({now_s}).")));
    }
    if end_s <= now_s || end_s <= start_s {
        return Err(ApiError::invalid(format!("EndTime is {end_s}; it must be later than now ({now_s}) and than StartTime ({start_s}).")));
    }
    if end_s - start_s > TASK_S_MAX {
        return Err(ApiError::invalid(format!("EndTime is {} s after StartTime; at most {TASK_S_MAX} s are allowed.", end_s - start_s)));
    }
    if end_s > now_s + END_AHEAD_S_MAX {
        return Err(ApiError::invalid(format!("EndTime is {end_s}; it must be at most 7 days from now ({now_s}).")));
    }
    let stream_type = match request.stream_type.unwrap_or(0) {
        0 => 0,
        // A mixed stream: we mix nothing, so it is the stream itself.
        1 => 1,
        other => return Err(ApiError::invalid(format!("StreamType is {other}; it must be 0 or 1."))),
    };
    let extension = request.extension.unwrap_or_default();
    if extension.len() > EXTENSION_BYTES_MAX {
        return Err(ApiError::invalid(format!("Extension must be at most {EXTENSION_BYTES_MAX} bytes.")));
    }
    Ok(RecordTask {
        id,
        key: StreamKey::new(&domain, &app, &stream),
        start: start.map_or(now, wall_time),
        end: wall_time(end_s),
        // Any number: one that no template has means the default, like 0.
        template_id: request.template_id.unwrap_or(0),
        stream_type,
        extension,
        create_time: now,
        stopped: None,
        own: None,
    })
}

fn query(request: DescribeRequest, now: WallTime) -> Result<TaskQuery, ApiError> {
    let (start_s, end_s, now_s) = (request.start_time, request.end_time, unix_seconds(now));
    if end_s <= start_s {
        return Err(ApiError::invalid("EndTime must be later than StartTime."));
    }
    if end_s - start_s > WINDOW_S_MAX {
        return Err(ApiError::invalid("StartTime and EndTime must be at most 7 days apart."));
    }
    if start_s < now_s.saturating_sub(WINDOW_AGE_S_MAX) {
        return Err(ApiError::invalid("StartTime must be at most 90 days ago."));
    }
    if i64::try_from(end_s).is_err() {
        return Err(ApiError::invalid("EndTime is too large."));
    }
    let after = match request.scroll_token.filter(|token| !token.is_empty()) {
        Some(token) => Some(read_token(&token).ok_or_else(|| ApiError::invalid("ScrollToken is none of ours."))?),
        None => None,
    };
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(TaskQuery {
        start: wall_time(start_s),
        end: wall_time(end_s),
        // Exact, but domains are stored in lower case.
        domain: given(request.domain).map(|domain| domain.to_ascii_lowercase()),
        app: given(request.app),
        stream: given(request.stream),
        after,
        // One more than a page tells whether there is a next one.
        limit: PAGE_TASKS + 1,
    })
}

/// The token names the last task of the page by its order, so tasks that come or go meanwhile cause no repeats.
fn token(task: &RecordTask) -> String {
    format!("{}.{}", task.start.unix_micros(), task.id)
}

fn read_token(token: &str) -> Option<(WallTime, TaskId)> {
    let (micros, id) = token.split_once('.')?;
    Some((WallTime::from_unix_micros(micros.parse().ok()?), task_id(id).ok()?))
}

fn page(mut tasks: Vec<RecordTask>) -> Reply {
    let more = tasks.len() > PAGE_TASKS;
    tasks.truncate(PAGE_TASKS);
    let token = tasks.last().filter(|_| more).map(token).unwrap_or_default();
    reply(json!({ "TaskList": tasks.iter().map(task_info).collect::<Vec<_>>(), "ScrollToken": token }))
}

fn task_info(task: &RecordTask) -> Value {
    json!({
        "TaskId": task.id.0,
        "DomainName": task.key.domain,
        "AppName": task.key.app,
        "StreamName": task.key.stream,
        "StartTime": unix_seconds(task.start),
        "EndTime": unix_seconds(task.end),
        "TemplateId": task.template_id,
        "Stopped": task.stopped.map_or(0, unix_seconds),
    })
}

/// Any text as a scroll token: refused, or the very token of its task.
pub fn fuzz_scroll_token(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some((start, id)) = read_token(text)
    {
        assert_eq!(read_token(&format!("{}.{id}", start.unix_micros())), Some((start, id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::params::Parameters;
    use crate::control::tree::read_json;

    const NOW_S: u64 = 1_767_254_400;
    const NOW: WallTime = WallTime::from_unix_micros(1_767_254_400_250_000);

    fn created(tail: &str) -> Result<RecordTask, ApiError> {
        let body = format!(r#"{{"DomainName":"Push.example.com","AppName":"live","StreamName":"camera-1"{tail}}}"#);
        task(CreateRequest::read_fields(read_json(body.as_bytes()).unwrap(), "")?, TaskId("t-1".into()), NOW)
    }

    #[test]
    fn golden_task() {
        let tail = format!(r#","StartTime":{},"EndTime":"{}","TemplateId":1001,"StreamType":1,"Extension":"x""#, NOW_S + 3600, NOW_S + 7200);
        let task = created(&tail).unwrap();
        let expected = r#"{"AppName":"live","DomainName":"push.example.com","EndTime":1767261600,"StartTime":1767258000,"Stopped":0,"StreamName":"camera-1","TaskId":"t-1","TemplateId":1001}"#;
        assert_eq!(task_info(&task).to_string(), expected);
        let stopped = RecordTask { stopped: Some(NOW), ..task };
        assert!(task_info(&stopped).to_string().contains("\"Stopped\":1767254400"));
        // From now on: to the microsecond, so that the task does not begin before it was made.
        for start in ["", r#","StartTime":0"#, r#","StartTime":null"#] {
            assert_eq!(created(&format!(r#","EndTime":{}{start}"#, NOW_S + 60)).unwrap().start, NOW);
        }
    }

    #[test]
    fn bounds_and_codes() {
        let times = |start: u64, end: u64| format!(r#","StartTime":{start},"EndTime":{end}"#);
        let tail = |more: &str| format!(r#","EndTime":{}{more}"#, NOW_S + 60);
        let day = DAY_S;
        let long = format!(r#","Extension":"{}""#, "x".repeat(4097));
        let cases = [
            (String::new(), "MissingParameter"),
            (times(0, NOW_S), "InvalidParameter"),
            (times(0, NOW_S + 1), "ok"),
            (times(0, 0), "InvalidParameter"),
            (times(NOW_S + 100, NOW_S + 100), "InvalidParameter"),
            (times(NOW_S + 100, NOW_S + 101), "ok"),
            (times(NOW_S, NOW_S + day), "ok"),
            (times(NOW_S, NOW_S + day + 1), "InvalidParameter"),
            (times(0, NOW_S + day), "ok"),
            (times(NOW_S + 6 * day, NOW_S + 7 * day), "ok"),
            (times(NOW_S + 6 * day + 1, NOW_S + 7 * day), "InvalidParameter"),
            (times(NOW_S - day + 10, NOW_S + 10), "ok"),
            (times(NOW_S - day + 9, NOW_S + 10), "InvalidParameter"),
            (times(u64::MAX, u64::MAX), "InvalidParameter"),
            (times(1, u64::MAX), "InvalidParameter"),
            (r#","EndTime":-1"#.to_owned(), "InvalidParameter"),
            (tail(r#","StreamType":2"#), "InvalidParameter"),
            (tail(r#","StreamType":0,"TemplateId":0,"Extension":"""#), "ok"),
            (tail(r#","TemplateId":18446744073709551615"#), "ok"),
            (tail(r#","TemplateId":18446744073709551616"#), "InvalidParameter"),
            (tail(r#","TemplateId":-1"#), "InvalidParameter"),
            (tail(&long), "InvalidParameter"),
            (tail(r#","Nope":1"#), "UnknownParameter"),
        ];
        for (tail, code) in &cases {
            assert_eq!(created(tail).map_or_else(|error| error.code, |_| "ok"), *code, "{tail:.80}");
        }
        for (domain, app, stream) in [("", "a", "s"), ("x y", "a", "s"), ("a.b", "", "s"), ("a.b", "a b", "s"), ("a.b", "a", ""), ("a.b", "a", "s/t")]
        {
            let body = format!(r#"{{"DomainName":"{domain}","AppName":"{app}","StreamName":"{stream}","EndTime":{}}}"#, NOW_S + 60);
            let request = CreateRequest::read_fields(read_json(body.as_bytes()).unwrap(), "").unwrap();
            assert_eq!(task(request, TaskId("t".into()), NOW).unwrap_err().code, "InvalidParameter", "{body}");
        }
        for id in ["", "a b", "é", &"x".repeat(129)] {
            assert_eq!(task_id(id).unwrap_err().code, "InvalidParameter", "{id}");
        }
    }

    #[test]
    fn windows_of_lists() {
        let read = |start: u64, end: u64, tail: &str| {
            let body = format!(r#"{{"StartTime":{start},"EndTime":{end}{tail}}}"#);
            query(DescribeRequest::read_fields(read_json(body.as_bytes()).unwrap(), "")?, NOW)
        };
        let oldest = NOW_S - 90 * DAY_S;
        for (start, end, tail, code) in [
            (NOW_S, NOW_S, "", "InvalidParameter"),
            (NOW_S, NOW_S + 7 * DAY_S, "", "ok"),
            (NOW_S, NOW_S + 7 * DAY_S + 1, "", "InvalidParameter"),
            (oldest, oldest + 1, "", "ok"),
            (oldest - 1, oldest + 1, "", "InvalidParameter"),
            (u64::MAX - 1, u64::MAX, "", "InvalidParameter"),
            (NOW_S, NOW_S + 1, r#","ScrollToken":"""#, "ok"),
            (NOW_S, NOW_S + 1, r#","ScrollToken":"x""#, "InvalidParameter"),
            (NOW_S, NOW_S + 1, r#","ScrollToken":"1.""#, "InvalidParameter"),
            (NOW_S, NOW_S + 1, r#","ScrollToken":"1.a b""#, "InvalidParameter"),
        ] {
            assert_eq!(read(start, end, tail).map_or_else(|error| error.code, |_| "ok"), code, "{start} {end} {tail}");
        }
        let query = read(NOW_S, NOW_S + 1, r#","DomainName":"A.b","AppName":"","StreamName":"s","ScrollToken":"5.t-1""#).unwrap();
        assert_eq!((query.domain.as_deref(), query.app, query.stream.as_deref()), (Some("a.b"), None, Some("s")));
        assert_eq!(query.after, Some((WallTime::from_unix_micros(5), TaskId("t-1".into()))));
    }

    #[test]
    fn pages() {
        let one = created(&format!(r#","EndTime":{}"#, NOW_S + 60)).unwrap();
        let tasks = |count: usize| (0..count).map(|index| RecordTask { id: TaskId(format!("t-{index}").into()), ..one.clone() }).collect::<Vec<_>>();
        assert_eq!(Value::Object(page(Vec::new())), json!({"TaskList": [], "ScrollToken": ""}));
        let full = page(tasks(PAGE_TASKS));
        assert_eq!((full["TaskList"].as_array().unwrap().len(), full["ScrollToken"].as_str().unwrap()), (100, ""));
        let more = page(tasks(PAGE_TASKS + 1));
        let token = more["ScrollToken"].as_str().unwrap();
        assert_eq!(more["TaskList"].as_array().unwrap().len(), 100);
        assert_eq!(read_token(token), Some((one.start, TaskId("t-99".into()))));
    }

    proptest::proptest! {
        #[test]
        fn any_token_is_answered(text in "[-0-9a-z.]{0,40}") {
            fuzz_scroll_token(text.as_bytes());
        }
    }
}
