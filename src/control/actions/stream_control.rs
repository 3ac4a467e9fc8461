//! A stream's state, and the calls that end, forbid and allow it.

use serde_json::{Value, json};

use super::values::in_range;
use super::{Action, Scope, action, reply, values};
use crate::catalog::CatalogError;
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::control::times;
use crate::domain::{ForbiddenStream, LiveStream, StreamEnd};
use crate::units::{StreamKey, WallTime};

pub const ACTIONS: &[Action] = &[
    action!("DescribeLiveStreamState", Live, state),
    action!("DropLiveStream", Live, drop_stream),
    action!("ForbidLiveStream", Live, forbid),
    action!("ResumeLiveStream", Live, resume),
    // Two names of the vendor's documents for one call; client libraries of today have neither.
    action!("DescribeLiveForbidStreamList", Live, forbidden_list),
    action!("DescribeLiveProhibitStreamList", Live, forbidden_list),
];

const DAY_S: i64 = 86_400;
const FORBID_DEFAULT_S: i64 = 7 * DAY_S;
const FORBID_S_MAX: i64 = 90 * DAY_S;
const REASON_BYTES_MAX: usize = 2_048;
/// Streams forbidden at one time: each is part of what every ingest core reads.
const FORBIDDEN_MAX: u64 = 10_000;
const PAGE_SIZE_MAX: u64 = 100;
const PAGE_SIZE_DEFAULT: u64 = 10;

parameters! {
    StreamRequest {
        required {
            app: String = "AppName",
            domain: String = "DomainName",
            stream: String = "StreamName",
        }
    }
}

parameters! {
    ForbidRequest {
        required {
            app: String = "AppName",
            domain: String = "DomainName",
            stream: String = "StreamName",
        }
        optional {
            resume_time: String = "ResumeTime",
            reason: String = "Reason",
        }
    }
}

parameters! {
    ForbiddenListRequest {
        optional {
            page_num: u64 = "PageNum",
            page_size: u64 = "PageSize",
        }
    }
}

/// The name of one stream; no part may be empty.
fn key(domain: &str, app: String, stream: String) -> Result<StreamKey, ApiError> {
    let code = "InvalidParameterValue";
    let (domain, app, stream) = (values::domain(domain)?, values::app(app, code)?, values::stream(stream, code)?);
    for (name, text) in [("AppName", &app), ("StreamName", &stream)] {
        if text.is_empty() {
            return Err(ApiError::value(format!("{name} must not be empty.")));
        }
    }
    Ok(StreamKey::new(&domain, &app, &stream))
}

fn state(scope: &Scope<'_>, request: StreamRequest) -> Result<Reply, ApiError> {
    let key = key(&request.domain, request.app, request.stream)?;
    let is_forbidden = scope.context.policy.load().admission.forbidden.get(&key).is_some_and(|until| scope.now < *until);
    let is_live = || scope.context.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&key).is_some();
    let state = if is_forbidden {
        "forbid"
    } else if is_live() {
        "active"
    } else {
        "inactive"
    };
    Ok(reply(json!({ "StreamState": state })))
}

fn drop_stream(scope: &Scope<'_>, request: StreamRequest) -> Result<Reply, ApiError> {
    end_stream(scope, StreamEnd::Dropped, &key(&request.domain, request.app, request.stream)?)?;
    Ok(Reply::new())
}

fn forbid(scope: &Scope<'_>, request: ForbidRequest) -> Result<Reply, ApiError> {
    let forbidden = forbidden(request, scope.now)?;
    let key = forbidden.key.clone();
    scope.context.catalog.forbid_stream(forbidden, FORBIDDEN_MAX).map_err(|error| match error {
        CatalogError::Limit { limit } => refuse("LimitExceeded", format!("{limit} streams are forbidden already.")),
        other => other.into(),
    })?;
    // First the cores learn it, then the running one is ended: none begins in between.
    scope.refresh_policy()?;
    end_stream(scope, StreamEnd::Forbidden, &key)?;
    Ok(Reply::new())
}

fn forbidden(request: ForbidRequest, now: WallTime) -> Result<ForbiddenStream, ApiError> {
    let key = key(&request.domain, request.app, request.stream)?;
    let reason = request.reason.unwrap_or_default();
    if reason.len() > REASON_BYTES_MAX {
        return Err(ApiError::value(format!("Reason must be at most {REASON_BYTES_MAX} bytes.")));
    }
    let after = |seconds: i64| WallTime::from_unix_seconds(now.unix_seconds() + seconds);
    let resume_time = match request.resume_time.filter(|text| !text.is_empty()) {
        None => after(FORBID_DEFAULT_S),
        Some(text) => times::read_utc(&text)
            .filter(|time| *time > now && *time <= after(FORBID_S_MAX))
            .ok_or_else(|| ApiError::value("ResumeTime must be a UTC time such as 2026-01-01T08:00:00Z, later than now and within 90 days."))?,
    };
    Ok(ForbiddenStream { key, create_time: now, resume_time, reason })
}

fn resume(scope: &Scope<'_>, request: StreamRequest) -> Result<Reply, ApiError> {
    scope.context.catalog.resume_stream(&key(&request.domain, request.app, request.stream)?)?;
    scope.refresh_policy()?;
    Ok(Reply::new())
}

fn forbidden_list(scope: &Scope<'_>, request: ForbiddenListRequest) -> Result<Reply, ApiError> {
    list(&request, &scope.context.catalog.forbidden_streams(scope.now)?)
}

fn list(request: &ForbiddenListRequest, all: &[ForbiddenStream]) -> Result<Reply, ApiError> {
    let page_num = in_range(request.page_num.unwrap_or(1), 1, u64::from(u32::MAX), "PageNum")?;
    let page_size = in_range(request.page_size.unwrap_or(PAGE_SIZE_DEFAULT), 1, PAGE_SIZE_MAX, "PageSize")?;
    let skipped = usize::try_from((page_num - 1) * page_size).unwrap_or(usize::MAX);
    let info = |forbidden: &ForbiddenStream| {
        json!({
            "StreamName": &*forbidden.key.stream,
            "CreateTime": times::utc(forbidden.create_time),
            "ExpireTime": times::utc(forbidden.resume_time),
        })
    };
    let shown: Vec<Value> = all.iter().skip(skipped).take(page_size as usize).map(info).collect();
    let total = all.len() as u64;
    Ok(reply(json!({
        "ProhibitStreamList": shown,
        "TotalNum": total,
        "TotalPage": total.div_ceil(page_size),
        "PageNum": page_num,
        "PageSize": page_size,
    })))
}

/// Ends the publication of one stream; none running is fine.
fn end_stream(scope: &Scope<'_>, end: StreamEnd, key: &StreamKey) -> Result<(), ApiError> {
    let running = scope.context.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(key).cloned();
    running.map_or(Ok(()), |stream| tell(scope, end, &stream))
}

/// Ends the publications of all streams that `is_meant` chooses.
pub fn end_streams(scope: &Scope<'_>, end: StreamEnd, is_meant: impl Fn(&LiveStream) -> bool) -> Result<(), ApiError> {
    let meant: Vec<LiveStream> = {
        // The ingest cores take this lock too, when publishing begins and ends: copy and let go.
        let live = scope.context.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        live.iter().filter(|stream| is_meant(stream)).cloned().collect()
    };
    meant.iter().try_for_each(|stream| tell(scope, end, stream))
}

fn tell(scope: &Scope<'_>, end: StreamEnd, stream: &LiveStream) -> Result<(), ApiError> {
    if (scope.context.end_stream)(stream, end) {
        return Ok(());
    }
    Err(ApiError::internal(format!("ingest core {} takes no commands; {} goes on", stream.core, stream.key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::params::Parameters;
    use crate::control::tree::read_json;

    const NOW: WallTime = WallTime::from_unix_seconds(1_767_254_400);

    fn asked(rest: &str) -> Result<ForbiddenStream, ApiError> {
        let body = format!(r#"{{"AppName":"live","DomainName":"PUSH.example.com","StreamName":"cam"{rest}}}"#);
        forbidden(ForbidRequest::read_fields(read_json(body.as_bytes()).unwrap(), "")?, NOW)
    }

    #[test]
    fn how_long_a_stream_is_forbidden() {
        let stream = asked("").unwrap();
        assert_eq!(stream.key, StreamKey::new("push.example.com", "live", "cam"));
        assert_eq!(stream.resume_time, WallTime::from_unix_seconds(1_767_254_400 + 604_800));
        for (time, expected) in [
            ("2026-01-01T08:00:01Z", Some(1_767_254_401)),
            ("2026-01-01T17:00:00+08:00", Some(1_767_258_000)),
            ("2026-04-01T08:00:00Z", Some(1_775_030_400)),
            ("2026-04-01T08:00:01Z", None),
            ("2026-01-01T08:00:00Z", None),
            ("2025-01-01T08:00:00Z", None),
            ("2026-01-02 08:00:00", None),
            ("soon", None),
        ] {
            let outcome = asked(&format!(r#","ResumeTime":"{time}""#)).map(|stream| stream.resume_time.unix_seconds());
            assert_eq!(outcome.as_ref().ok(), expected.as_ref(), "{time}");
            assert!(outcome.is_ok() || outcome.is_err_and(|error| error.code == "InvalidParameterValue"), "{time}");
        }
        assert_eq!(asked(r#","ResumeTime":"","Reason":"x""#).unwrap().reason, "x");
        assert_eq!(asked(&format!(r#","Reason":"{}""#, "x".repeat(2_049))).unwrap_err().code, "InvalidParameterValue");
    }

    #[test]
    fn names() {
        for (domain, app, stream, code) in [
            ("a.b", "live", "cam", "ok"),
            ("a.b", "a/b", "cam", "ok"),
            ("a.b", "", "cam", "InvalidParameterValue"),
            ("a.b", "live", "", "InvalidParameterValue"),
            ("a.b", "live", "a/b", "InvalidParameterValue"),
            ("a b", "live", "cam", "InvalidParameter.DomainFormatError"),
            ("", "live", "cam", "InvalidParameter.DomainFormatError"),
        ] {
            let outcome = key(domain, app.to_owned(), stream.to_owned());
            assert_eq!(outcome.map_or_else(|error| error.code, |_| "ok"), code, "{domain} {app} {stream}");
        }
    }

    #[test]
    fn golden_list() {
        let all: Vec<ForbiddenStream> = (0..12)
            .map(|index| ForbiddenStream {
                key: StreamKey::new("d.example", "live", &format!("cam-{index}")),
                create_time: NOW,
                resume_time: WallTime::from_unix_seconds(NOW.unix_seconds() + 60),
                reason: String::new(),
            })
            .collect();
        let listed = |body: &str| list(&ForbiddenListRequest::read_fields(read_json(body.as_bytes()).unwrap(), "").unwrap(), &all);
        let expected = r#"{"PageNum":12,"PageSize":1,"ProhibitStreamList":[{"CreateTime":"2026-01-01T08:00:00Z","ExpireTime":"2026-01-01T08:01:00Z","StreamName":"cam-11"}],"TotalNum":12,"TotalPage":12}"#;
        assert_eq!(Value::Object(listed(r#"{"PageNum":12,"PageSize":1}"#).unwrap()).to_string(), expected);
        assert_eq!(listed("{}").unwrap()["ProhibitStreamList"].as_array().unwrap().len(), 10);
        assert_eq!(listed(r#"{"PageNum":4294967295}"#).unwrap()["ProhibitStreamList"], json!([]));
        assert_eq!(listed(r#"{"PageSize":101}"#).unwrap_err().code, "InvalidParameterValue");
        assert_eq!(listed(r#"{"PageNum":0}"#).unwrap_err().code, "InvalidParameterValue");
    }
}
