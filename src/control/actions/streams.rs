//! The streams that are live now.

use serde_json::{Value, json};

use super::values::in_range;
use super::{Action, Scope, action, reply};
use crate::control::errors::ApiError;
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::control::times;
use crate::domain::{LiveStream, LiveStreams};

pub const ACTIONS: &[Action] = &[action!("DescribeLiveStreamOnlineList", Live, online_list)];

const PAGE_SIZE_MIN: u64 = 10;
const PAGE_SIZE_MAX: u64 = 100;

parameters! {
    OnlineListRequest {
        optional {
            domain: String = "DomainName",
            app: String = "AppName",
            stream: String = "StreamName",
            page_num: u64 = "PageNum",
            page_size: u64 = "PageSize",
        }
    }
}

fn online_list(scope: &Scope<'_>, request: OnlineListRequest) -> Result<Reply, ApiError> {
    let request = OnlinePage::check(request)?;
    let hits = {
        // The ingest cores take this lock too, when publishing begins and ends: copy and let go.
        let live = scope.context.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        request.select(&live)
    };
    Ok(request.page(hits))
}

/// A checked request.
struct OnlinePage {
    domain: Option<String>,
    app: Option<String>,
    stream: Option<String>,
    page_num: u64,
    page_size: u64,
}

impl OnlinePage {
    fn check(request: OnlineListRequest) -> Result<Self, ApiError> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Self {
            domain: given(request.domain).map(|domain| domain.to_ascii_lowercase()),
            app: given(request.app),
            stream: given(request.stream),
            page_num: in_range(request.page_num.unwrap_or(1), 1, u64::from(u32::MAX), "PageNum")?,
            page_size: in_range(request.page_size.unwrap_or(PAGE_SIZE_MIN), PAGE_SIZE_MIN, PAGE_SIZE_MAX, "PageSize")?,
        })
    }

    fn select(&self, live: &LiveStreams) -> Vec<LiveStream> {
        let is_wanted = |filter: &Option<String>, value: &str| filter.as_deref().is_none_or(|filter| filter == value);
        let is_hit = |stream: &&LiveStream| {
            is_wanted(&self.domain, &stream.key.domain) && is_wanted(&self.app, &stream.key.app) && is_wanted(&self.stream, &stream.key.stream)
        };
        live.iter().filter(is_hit).cloned().collect()
    }

    /// Newest first.
    fn page(&self, mut hits: Vec<LiveStream>) -> Reply {
        hits.sort_by(|left, right| right.publish_time.cmp(&left.publish_time).then_with(|| left.key.cmp(&right.key)));
        let total = hits.len() as u64;
        let skipped = usize::try_from((self.page_num - 1) * self.page_size).unwrap_or(usize::MAX);
        let shown: Vec<Value> = hits.iter().skip(skipped).take(self.page_size as usize).map(online_info).collect();
        reply(json!({
            "TotalNum": total,
            "TotalPage": total.div_ceil(self.page_size),
            "PageNum": self.page_num,
            "PageSize": self.page_size,
            "OnlineInfo": shown,
        }))
    }
}

fn online_info(stream: &LiveStream) -> Value {
    json!({
        "StreamName": stream.key.stream,
        "AppName": stream.key.app,
        "DomainName": stream.key.domain,
        "PublishTimeList": [{ "PublishTime": times::utc(stream.publish_time) }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::params::Parameters;
    use crate::control::tree::read_json;
    use crate::units::{PublicationId, StreamKey, WallTime};

    fn live(count: u64) -> LiveStreams {
        let mut live = LiveStreams::default();
        for index in 0..count {
            live.begin(LiveStream {
                key: StreamKey::new("push.example.com", if index % 2 == 0 { "live" } else { "radio" }, &format!("camera-{index}")),
                publication: PublicationId(index),
                core: 0,
                connection: index,
                publish_time: WallTime::from_unix_seconds(1_767_254_400 + index as i64),
                client: "127.0.0.1:5000".to_owned(),
                stream_param: String::new(),
                figures: std::sync::Arc::default(),
            });
        }
        live
    }

    fn listed(live: &LiveStreams, body: &str) -> Result<Reply, ApiError> {
        let request = OnlinePage::check(OnlineListRequest::read_fields(read_json(body.as_bytes()).unwrap(), "")?)?;
        Ok(request.page(request.select(live)))
    }

    #[test]
    fn golden_list() {
        let answer = |count: u64, body: &str| Value::Object(listed(&live(count), body).unwrap()).to_string();
        assert_eq!(answer(0, "{}"), r#"{"OnlineInfo":[],"PageNum":1,"PageSize":10,"TotalNum":0,"TotalPage":0}"#);
        let expected = r#"{"OnlineInfo":[{"AppName":"live","DomainName":"push.example.com","PublishTimeList":[{"PublishTime":"2026-01-01T08:00:02Z"}],"StreamName":"camera-2"},{"AppName":"live","DomainName":"push.example.com","PublishTimeList":[{"PublishTime":"2026-01-01T08:00:00Z"}],"StreamName":"camera-0"}],"PageNum":1,"PageSize":20,"TotalNum":2,"TotalPage":1}"#;
        assert_eq!(answer(4, r#"{"AppName":"live","PageSize":20,"DomainName":"PUSH.example.com"}"#), expected);
    }

    #[test]
    fn pages_and_filters() {
        let live = live(25);
        let count = |body: &str| {
            let answer = listed(&live, body).unwrap();
            (answer["OnlineInfo"].as_array().unwrap().len(), answer["TotalNum"].as_u64().unwrap(), answer["TotalPage"].as_u64().unwrap())
        };
        assert_eq!(count("{}"), (10, 25, 3));
        assert_eq!(count(r#"{"PageNum":3}"#), (5, 25, 3));
        assert_eq!(count(r#"{"PageNum":4}"#), (0, 25, 3));
        assert_eq!(count(r#"{"PageNum":4294967295,"PageSize":100}"#), (0, 25, 1));
        assert_eq!(count(r#"{"StreamName":"camera-1","AppName":""}"#), (1, 1, 1));
        assert_eq!(count(r#"{"StreamName":"camera"}"#), (0, 0, 0));
        for (body, code) in [
            (r#"{"PageNum":0}"#, "InvalidParameterValue"),
            (r#"{"PageSize":9}"#, "InvalidParameterValue"),
            (r#"{"PageSize":101}"#, "InvalidParameterValue"),
            (r#"{"PageNum":-1}"#, "InvalidParameter"),
            (r#"{"Offset":1}"#, "UnknownParameter"),
        ] {
            assert_eq!(listed(&live, body).unwrap_err().code, code, "{body}");
        }
    }
}
