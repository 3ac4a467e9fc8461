//! The publications of the past weeks: the list of stream events and the list of published streams.

use serde_json::{Value, json};

use super::values::in_range;
use super::{Action, Scope, action, reply, values};
use crate::catalog::{StreamEvent, StreamEventPage, StreamEventQuery};
use crate::control::errors::ApiError;
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::control::times;
use crate::units::WallTime;

pub const ACTIONS: &[Action] =
    &[action!("DescribeLiveStreamEventList", Live, event_list), action!("DescribeLiveStreamPublishedList", Live, published_list)];

const DAY_S: i64 = 86_400;
/// Longest time from start to end of a question, and how far back it may begin.
const WINDOW_S_MAX: i64 = 30 * DAY_S;
const AGE_S_MAX: i64 = 60 * DAY_S;
const PAGE_SIZE_DEFAULT: u64 = 10;
const PAGE_SIZE_MAX: u64 = 100;
/// The least page of the list of published streams.
const PUBLISHED_PAGE_SIZE_MIN: u64 = 10;

parameters! {
    EventListRequest {
        required {
            start: String = "StartTime",
            end: String = "EndTime",
        }
        optional {
            app: String = "AppName",
            domain: String = "DomainName",
            stream: String = "StreamName",
            page_num: u64 = "PageNum",
            page_size: u64 = "PageSize",
            is_filter: i64 = "IsFilter",
            is_strict: i64 = "IsStrict",
            is_ascending: i64 = "IsAsc",
        }
    }
}

parameters! {
    PublishedListRequest {
        required {
            domain: String = "DomainName",
            end: String = "EndTime",
            start: String = "StartTime",
        }
        optional {
            app: String = "AppName",
            page_num: u64 = "PageNum",
            page_size: u64 = "PageSize",
            stream: String = "StreamName",
        }
    }
}

fn event_list(scope: &Scope<'_>, request: EventListRequest) -> Result<Reply, ApiError> {
    let asked = Asked::events(request, scope.now)?;
    Ok(asked.answer("EventList", scope.context.catalog.stream_events(&asked.query)?, scope.now, event_info))
}

fn published_list(scope: &Scope<'_>, request: PublishedListRequest) -> Result<Reply, ApiError> {
    let asked = Asked::published(request, scope.now)?;
    Ok(asked.answer("PublishInfo", scope.context.catalog.stream_events(&asked.query)?, scope.now, stream_name))
}

/// A checked question.
#[derive(Debug)]
struct Asked {
    query: StreamEventQuery,
    page_num: u64,
    page_size: u64,
}

impl Asked {
    fn events(request: EventListRequest, now: WallTime) -> Result<Self, ApiError> {
        let flag = |value: Option<i64>, name: &str| Ok::<_, ApiError>(in_range(value.unwrap_or(0), 0, 1, name)? == 1);
        let window = window(&request.start, &request.end, now)?;
        let query = StreamEventQuery {
            accepted_only: flag(request.is_filter, "IsFilter")?,
            stream_is_exact: flag(request.is_strict, "IsStrict")?,
            ascending: flag(request.is_ascending, "IsAsc")?,
            ..filters(window, request.domain, request.app, request.stream)?
        };
        Self::page(query, request.page_num, request.page_size, 1)
    }

    fn published(request: PublishedListRequest, now: WallTime) -> Result<Self, ApiError> {
        let window = window(&request.start, &request.end, now)?;
        values::domain(&request.domain)?;
        let filters = filters(window, Some(request.domain), request.app, request.stream)?;
        let query = StreamEventQuery { accepted_only: true, ended_only: true, ..filters };
        Self::page(query, request.page_num, request.page_size, PUBLISHED_PAGE_SIZE_MIN)
    }

    fn page(query: StreamEventQuery, page_num: Option<u64>, page_size: Option<u64>, page_size_min: u64) -> Result<Self, ApiError> {
        let page_num = in_range(page_num.unwrap_or(1), 1, u64::from(u32::MAX), "PageNum")?;
        let page_size = in_range(page_size.unwrap_or(PAGE_SIZE_DEFAULT), page_size_min, PAGE_SIZE_MAX, "PageSize")?;
        Ok(Self { query: StreamEventQuery { offset: (page_num - 1) * page_size, limit: page_size, ..query }, page_num, page_size })
    }

    fn answer(&self, list: &str, page: StreamEventPage, now: WallTime, show: fn(&StreamEvent, WallTime) -> Value) -> Reply {
        reply(json!({
            list: page.rows.iter().map(|event| show(event, now)).collect::<Vec<_>>(),
            "PageNum": self.page_num,
            "PageSize": self.page_size,
            "TotalNum": page.total,
            "TotalPage": page.total.div_ceil(self.page_size),
        }))
    }
}

/// An end in the future counts as now.
fn window(start: &str, end: &str, now: WallTime) -> Result<(WallTime, WallTime), ApiError> {
    let read = |text: &str, name: &str| {
        times::read_utc(text).ok_or_else(|| ApiError::value(format!("{name} must be a UTC time such as 2026-01-01T08:00:00Z.")))
    };
    let (start, end) = (read(start, "StartTime")?, read(end, "EndTime")?);
    if end <= start {
        return Err(ApiError::value("EndTime must be later than StartTime."));
    }
    if start.unix_seconds() < now.unix_seconds() - AGE_S_MAX {
        return Err(ApiError::value("StartTime must be within the last 60 days."));
    }
    let end = end.min(now);
    if end.unix_seconds() - start.unix_seconds() > WINDOW_S_MAX {
        return Err(ApiError::value("StartTime and EndTime must be at most 30 days apart."));
    }
    Ok((start, end))
}

fn filters(
    (start, end): (WallTime, WallTime),
    domain: Option<String>,
    app: Option<String>,
    stream: Option<String>,
) -> Result<StreamEventQuery, ApiError> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let code = "InvalidParameterValue";
    Ok(StreamEventQuery {
        start,
        end,
        domain: given(domain).map(|domain| domain.to_ascii_lowercase()),
        app: given(app).map(|app| values::app(app, code)).transpose()?,
        stream: given(stream).map(|stream| values::stream(stream, code)).transpose()?,
        ..StreamEventQuery::default()
    })
}

fn event_info(event: &StreamEvent, now: WallTime) -> Value {
    let mut info = stream_name(event, now);
    let resolution = if event.width == 0 || event.height == 0 { String::new() } else { format!("{}x{}", event.width, event.height) };
    info["Resolution"] = Value::from(resolution);
    info
}

fn stream_name(event: &StreamEvent, now: WallTime) -> Value {
    let seconds = event.end.unwrap_or(now).unix_seconds() - event.begin.unix_seconds();
    json!({
        "AppName": &*event.key.app,
        "DomainName": &*event.key.domain,
        "StreamName": &*event.key.stream,
        "StreamStartTime": times::utc(event.begin),
        "StreamEndTime": event.end.map_or_else(String::new, times::utc),
        "StopReason": event.reason,
        "Duration": u64::try_from(seconds).unwrap_or(0),
        "ClientIp": event.client,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::params::Parameters;
    use crate::control::tree::read_json;
    use crate::units::StreamKey;

    const NOW: WallTime = WallTime::from_unix_seconds(1_767_254_400);

    fn events(rest: &str) -> Result<Asked, ApiError> {
        let body = format!(r#"{{"StartTime":"2026-01-01T07:00:00Z","EndTime":"2026-01-01T09:00:00Z"{rest}}}"#);
        Asked::events(EventListRequest::read_fields(read_json(body.as_bytes()).unwrap(), "")?, NOW)
    }

    #[test]
    fn golden_lists() {
        let event = |end: Option<i64>| StreamEvent {
            key: StreamKey::new("push.example.com", "live", "cam"),
            begin: WallTime::from_unix_seconds(1_767_254_300),
            end: end.map(WallTime::from_unix_seconds),
            reason: if end.is_some() { "21/100 dropped by a call".to_owned() } else { String::new() },
            client: "192.0.2.1".to_owned(),
            width: if end.is_some() { 1920 } else { 0 },
            height: 1080,
        };
        let page = StreamEventPage { total: 12, rows: vec![event(None), event(Some(1_767_254_350))] };
        let asked = events(r#","PageSize":2,"PageNum":3"#).unwrap();
        assert_eq!((asked.query.offset, asked.query.limit, asked.query.end), (4, 2, NOW));
        let answer = Value::Object(asked.answer("EventList", page.clone(), NOW, event_info)).to_string();
        let expected = r#"{"EventList":[{"AppName":"live","ClientIp":"192.0.2.1","DomainName":"push.example.com","Duration":100,"Resolution":"","StopReason":"","StreamEndTime":"","StreamName":"cam","StreamStartTime":"2026-01-01T07:58:20Z"},{"AppName":"live","ClientIp":"192.0.2.1","DomainName":"push.example.com","Duration":50,"Resolution":"1920x1080","StopReason":"21/100 dropped by a call","StreamEndTime":"2026-01-01T07:59:10Z","StreamName":"cam","StreamStartTime":"2026-01-01T07:58:20Z"}],"PageNum":3,"PageSize":2,"TotalNum":12,"TotalPage":6}"#;
        assert_eq!(answer, expected);
        assert!(stream_name(&page.rows[1], NOW).get("Resolution").is_none());
    }

    #[test]
    fn bounds_and_filters() {
        let asked = events(r#","DomainName":"PUSH.example.com","AppName":"","StreamName":"cam","IsStrict":1,"IsFilter":1,"IsAsc":1"#).unwrap().query;
        assert_eq!((asked.domain.as_deref(), asked.app, asked.stream.as_deref()), (Some("push.example.com"), None, Some("cam")));
        assert!(asked.stream_is_exact && asked.accepted_only && asked.ascending && !asked.ended_only);
        for (rest, code) in [
            (r#","IsAsc":2"#, "InvalidParameterValue"),
            (r#","PageSize":101"#, "InvalidParameterValue"),
            (r#","PageSize":0"#, "InvalidParameterValue"),
            (r#","PageNum":0"#, "InvalidParameterValue"),
            (r#","StreamName":"a b""#, "InvalidParameterValue"),
            (r#","Offset":0"#, "UnknownParameter"),
            (r#","PageNum":4294967295,"PageSize":1"#, "ok"),
        ] {
            assert_eq!(events(rest).map_or_else(|error| error.code, |_| "ok"), code, "{rest}");
        }
        for (start, end, is_good) in [
            ("2026-01-01T07:00:00Z", "2026-01-01T07:00:01Z", true),
            ("2026-01-01T07:00:00Z", "2026-01-01T07:00:00Z", false),
            ("2025-12-02T08:00:00Z", "2026-01-01T08:00:00Z", true),
            ("2025-12-02T07:59:59Z", "2026-01-01T08:00:00Z", false),
            // Thirty days to now: the future does not count.
            ("2025-12-02T08:00:00Z", "2026-02-01T08:00:00Z", true),
            ("2025-11-02T08:00:00Z", "2025-11-03T08:00:00Z", true),
            ("2025-11-02T07:59:59Z", "2025-11-03T08:00:00Z", false),
            ("2026-01-01 07:00:00", "2026-01-01T08:00:00Z", false),
            ("", "2026-01-01T08:00:00Z", false),
        ] {
            let outcome = window(start, end, NOW);
            assert_eq!(outcome.is_ok(), is_good, "{start} {end}");
            assert!(outcome.is_ok() || outcome.is_err_and(|error| error.code == "InvalidParameterValue"));
        }
        let published = |rest: &str| {
            let body = format!(r#"{{"StartTime":"2026-01-01T07:00:00Z","EndTime":"2026-01-01T09:00:00Z","DomainName":"a.example"{rest}}}"#);
            Asked::published(PublishedListRequest::read_fields(read_json(body.as_bytes()).unwrap(), "")?, NOW)
        };
        let asked = published("").unwrap().query;
        assert!(asked.ended_only && asked.accepted_only && !asked.stream_is_exact);
        assert_eq!(published(r#","PageSize":9"#).unwrap_err().code, "InvalidParameterValue");
    }
}
