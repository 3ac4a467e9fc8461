//! The push address as an encoder says it: in pieces, in `connect` (tcUrl, app) and `publish` (stream name), with the query in any of them.

use super::amf::Value;
use crate::limits::{APP_BYTES_MAX, DOMAIN_BYTES_MAX, QUERY_BYTES_MAX, STREAM_BYTES_MAX};

/// Where a publisher wants to publish. Names are as sent: nothing is percent-decoded, case is kept but in `host`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PushAddress {
    pub tc_url: String,
    /// Host of tcUrl without port, lower case; empty if there is no tcUrl to be understood. IPv6 addresses without brackets.
    pub host: String,
    /// Without slashes at its ends; it may have some inside.
    pub app: String,
    pub stream: String,
    /// Queries of stream name, app and tcUrl joined by `&`, each once: `a=b&c=d`.
    pub query: String,
}

/// Why a stream cannot have the name that the encoder gave it. The text goes to the encoder and into the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    #[error("the {0} is not a string of UTF-8 text")]
    NotText(&'static str),
    #[error("the {0} is empty")]
    Empty(&'static str),
    #[error("the {0} is longer than {1} bytes")]
    TooLong(&'static str, usize),
    #[error("the {0} has control characters")]
    ControlCharacter(&'static str),
}

impl PushAddress {
    /// `connect` is the command object of connect, `stream` the first argument of publish.
    ///
    /// # Errors
    /// Any [`NameError`]; bounds are those of `limits`.
    pub fn new(connect: &Value, stream: &Value) -> Result<Self, NameError> {
        let text = |name: &'static str, what: &'static str| match connect.get(name) {
            Some(value @ (Value::String(_) | Value::Bytes(_))) => value.as_str().ok_or(NameError::NotText(what)),
            _ => Ok(""),
        };
        let tc_url = text("tcUrl", "tcUrl")?;
        let app_and_query = text("app", "app")?;
        let stream = stream.as_str().ok_or(NameError::NotText("stream name"))?;

        let url = TcUrl::parse(tc_url);
        let (app, app_query) = split_query(app_and_query);
        let app = app.trim_matches('/');
        // Without an app property the path of tcUrl says the same.
        let app = if app_and_query.is_empty() { url.path } else { app };
        let (stream, stream_query) = split_query(stream);

        let mut parts: Vec<&str> = Vec::new();
        for part in [stream_query, app_query, url.query] {
            if !part.is_empty() && !parts.contains(&part) {
                parts.push(part);
            }
        }
        let query = parts.join("&");
        check("query", query.len(), QUERY_BYTES_MAX)?;
        check("host of tcUrl", url.host.len(), DOMAIN_BYTES_MAX)?;
        check("app", app.len(), APP_BYTES_MAX)?;
        check("stream name", stream.len(), STREAM_BYTES_MAX)?;
        // The address as a whole is only kept for callbacks and the log.
        check("tcUrl", tc_url.len(), DOMAIN_BYTES_MAX + APP_BYTES_MAX + QUERY_BYTES_MAX)?;
        for (name, text) in [("tcUrl", tc_url), ("app", app), ("stream name", stream), ("query", &query)] {
            if text.contains(|c: char| c.is_control()) {
                return Err(NameError::ControlCharacter(name));
            }
        }
        for (name, text) in [("app", app), ("stream name", stream)] {
            if text.trim().is_empty() {
                return Err(NameError::Empty(name));
            }
        }
        Ok(Self { tc_url: tc_url.to_owned(), host: url.host.to_lowercase(), app: app.to_owned(), stream: stream.to_owned(), query })
    }
}

fn check(name: &'static str, bytes: usize, bytes_max: usize) -> Result<(), NameError> {
    if bytes > bytes_max { Err(NameError::TooLong(name, bytes_max)) } else { Ok(()) }
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// `rtmp://[user@]host[:port]/app[/instance][?query]`
struct TcUrl<'a> {
    host: &'a str,
    /// Without slashes at its ends.
    path: &'a str,
    query: &'a str,
}

impl<'a> TcUrl<'a> {
    /// Whatever is missing is empty.
    fn parse(url: &'a str) -> Self {
        let Some((_, rest)) = url.split_once("://") else { return Self { host: "", path: "", query: "" } };
        let (rest, query) = split_query(rest);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((ipv6, _)) => ipv6,
            None => authority.split_once(':').map_or(authority, |(host, _)| host),
        };
        Self { host, path: path.trim_matches('/'), query }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(tc_url: Option<&str>, app: Option<&str>, stream: &str) -> Result<PushAddress, NameError> {
        let mut properties = Vec::new();
        properties.extend(app.map(|app| ("app".to_owned(), Value::string(app))));
        properties.extend(tc_url.map(|url| ("tcUrl".to_owned(), Value::string(url))));
        PushAddress::new(&Value::Object(properties), &Value::string(stream))
    }

    #[test]
    fn the_pieces_of_a_push_address() {
        let cases = [
            // tcUrl, app, stream name; host, app, stream, query
            ("rtmp://push.example.com/live", "live", "cam1", "push.example.com", "live", "cam1", ""),
            ("rtmp://Push.Example.COM:1935/live", "live/", "cam1", "push.example.com", "live", "cam1", ""),
            ("rtmp://h/live", "live", "cam1?txSecret=a&txTime=b", "h", "live", "cam1", "txSecret=a&txTime=b"),
            ("rtmp://h/live?vhost=x", "live?vhost=x", "cam1?a=b", "h", "live", "cam1", "a=b&vhost=x"),
            ("rtmp://h/live?u=1", "live", "cam1", "h", "live", "cam1", "u=1"),
            ("rtmp://h/live/sub", "live/sub", "cam1", "h", "live/sub", "cam1", ""),
            ("rtmps://u:p@h:443//live//", "/live", "a/b", "h", "live", "a/b", ""),
            ("rtmp://[2001:DB8::1]:1935/live", "live", "cam1", "2001:db8::1", "live", "cam1", ""),
            ("rtmp://h/live", "live", "直播 %20?a=%2F?b", "h", "live", "直播 %20", "a=%2F?b"),
            ("rtmp://h/live", "live", "../../etc/passwd", "h", "live", "../../etc/passwd", ""),
            ("nonsense", "live", "cam1", "", "live", "cam1", ""),
            ("", "live", "cam1", "", "live", "cam1", ""),
            ("rtmp://h", "live", "cam1", "h", "live", "cam1", ""),
        ];
        for (tc_url, app, stream, host, app_expected, stream_expected, query) in cases {
            let expected = PushAddress {
                tc_url: tc_url.into(),
                host: host.into(),
                app: app_expected.into(),
                stream: stream_expected.into(),
                query: query.into(),
            };
            assert_eq!(address(Some(tc_url), Some(app), stream), Ok(expected), "{tc_url} {app} {stream}");
        }
        let without_app = address(Some("rtmp://h/live/?a=b"), None, "s").unwrap();
        assert_eq!((without_app.app.as_str(), without_app.query.as_str()), ("live", "a=b"));
        assert_eq!(address(None, Some("live"), "s").unwrap().host, "");
    }

    #[test]
    fn names_that_cannot_be() {
        let long = "x".repeat(STREAM_BYTES_MAX + 1);
        let cases: Vec<(&str, String, &str, NameError)> = vec![
            ("live", String::new(), "", NameError::Empty("stream name")),
            ("live", "  ".into(), "", NameError::Empty("stream name")),
            ("live", "?a=b".into(), "", NameError::Empty("stream name")),
            ("/", "s".into(), "", NameError::Empty("app")),
            ("live", long.clone(), "", NameError::TooLong("stream name", STREAM_BYTES_MAX)),
            (&long, "s".into(), "", NameError::TooLong("app", APP_BYTES_MAX)),
            ("live", format!("s?{}", "q".repeat(QUERY_BYTES_MAX + 1)), "", NameError::TooLong("query", QUERY_BYTES_MAX)),
            ("live", "s".into(), &long, NameError::TooLong("host of tcUrl", DOMAIN_BYTES_MAX)),
            ("live", "a\nb".into(), "", NameError::ControlCharacter("stream name")),
            ("live", "a?\u{7f}".into(), "", NameError::ControlCharacter("query")),
        ];
        for (app, stream, host, expected) in cases {
            assert_eq!(address(Some(&format!("rtmp://{host}/live")), Some(app), &stream), Err(expected), "{app} {stream}");
        }
        assert!(address(None, Some("live"), &long[1..]).is_ok());
        let connect = Value::object(&[("app", Value::Bytes(vec![0xff]))]);
        assert_eq!(PushAddress::new(&connect, &Value::string("s")), Err(NameError::NotText("app")));
        let connect = Value::object(&[("app", Value::string("live"))]);
        assert_eq!(PushAddress::new(&connect, &Value::Bytes(vec![0xff])), Err(NameError::NotText("stream name")));
        assert_eq!(PushAddress::new(&connect, &Value::Null), Err(NameError::NotText("stream name")));
    }
}
