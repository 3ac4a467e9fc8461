//! The three request forms (GET query, form POST, JSON POST) as one call, and the envelope of its answer.

use serde_json::{Map, Value, json};

use super::errors::{ApiError, refuse};
use super::http::{HttpAnswer, HttpRequest};
use super::tree::{self, Fields, Tree};

/// Largest GET request: request line and headers (documented by the vendor).
pub const GET_BYTES_MAX: usize = 32 << 10;
/// Largest form body (documented).
pub const FORM_BYTES_MAX: usize = 1 << 20;
/// Largest JSON body (documented).
pub const JSON_BYTES_MAX: usize = 10 << 20;

/// Common parameters: never an action's own.
const COMMON: &[&str] =
    &["Action", "Version", "Timestamp", "Nonce", "SecretId", "Signature", "SignatureMethod", "Region", "Token", "Language", "RequestClient"];

/// The families of actions, told apart by version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// `2018-08-01`
    Live,
    /// `2018-07-17`
    Vod,
}

impl Version {
    pub const fn name(self) -> &'static str {
        match self {
            Version::Live => "2018-08-01",
            Version::Vod => "2018-07-17",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Version::Live, Version::Vod].into_iter().find(|version| version.name() == text)
    }
}

/// Largest body for a request to the API with this method and media type.
pub fn body_bytes_max(method: &str, content_type: &str) -> usize {
    match (method, content_type) {
        ("GET" | "HEAD", _) => GET_BYTES_MAX,
        (_, content_type) if is_json(content_type) => JSON_BYTES_MAX,
        _ => FORM_BYTES_MAX,
    }
}

fn is_json(content_type: &str) -> bool {
    content_type.eq_ignore_ascii_case("application/json")
}

/// A request with its form decoded, before anybody looked at what it wants. The signature is checked on this.
#[derive(Clone, Debug)]
pub struct Form<'a> {
    pub request: &'a HttpRequest,
    /// Decoded fields of the query and of a form body, in the order they came.
    pub pairs: Vec<(String, String)>,
    /// The body is JSON.
    pub json: bool,
    /// Why the fields could not be read; `pairs` is empty then. Said only to a caller whose signature is good.
    problem: Option<ApiError>,
}

impl<'a> Form<'a> {
    /// # Errors
    /// `UnsupportedProtocol`, `RequestSizeLimitExceeded`.
    pub fn read(request: &'a HttpRequest) -> Result<Self, ApiError> {
        let post = match request.method.as_str() {
            "GET" => false,
            "POST" => true,
            other => return Err(refuse("UnsupportedProtocol", format!("The method {other} is not offered; use GET or POST."))),
        };
        let content_type = request.content_type();
        let bytes_max = body_bytes_max(&request.method, content_type);
        if request.body.len() > bytes_max {
            return Err(ApiError::too_large(bytes_max));
        }
        if request.target.len() > GET_BYTES_MAX {
            return Err(ApiError::too_large(GET_BYTES_MAX));
        }
        let json = post && is_json(content_type);
        let (pairs, problem) = match Self::pairs(request, post && !json) {
            Ok(pairs) => (pairs, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Ok(Self { request, pairs, json, problem })
    }

    fn pairs(request: &HttpRequest, has_form: bool) -> Result<Vec<(String, String)>, ApiError> {
        let mut pairs = tree::decode_form(request.query().as_bytes())?;
        if has_form && !request.body.is_empty() {
            if request.content_type().eq_ignore_ascii_case("multipart/form-data") {
                return Err(refuse("UnsupportedOperation", "multipart/form-data is not offered; send JSON."));
            }
            if request.body.trim_ascii_start().starts_with(b"{") {
                return Err(ApiError::invalid("The body looks like JSON; send it with Content-Type: application/json."));
            }
            pairs.extend(tree::decode_form(&request.body)?);
        }
        Ok(pairs)
    }

    /// A common parameter: the header `X-TC-<name>`, else the field.
    pub fn common(&self, name: &str) -> Option<&str> {
        self.request.header(&format!("X-TC-{name}")).or_else(|| self.field(name))
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What is called, with its own parameters.
    ///
    /// # Errors
    /// `MissingParameter` (Action), `NoSuchVersion`, `InvalidParameter`, `UnsupportedOperation`.
    pub fn call(self) -> Result<Call, ApiError> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let mut action = self.common("Action").map(str::to_owned);
        let mut version = self.common("Version").map(str::to_owned);
        // Bounded work before the action is known: parsing the body costs no more than reading it did.
        let body = if self.json { tree::read_json(&self.request.body) } else { Ok(Fields::new()) };
        if let Ok(fields) = &body {
            let text = |name: &str| {
                fields.iter().find_map(|(known, value)| match value {
                    Tree::Text(text) if known == name => Some(text.clone()),
                    _ => None,
                })
            };
            action = action.or_else(|| text("Action"));
            version = version.or_else(|| text("Version"));
        }
        let version = match version {
            Some(text) => Some(Version::parse(&text).ok_or_else(|| {
                refuse("NoSuchVersion", format!("There is no version {text}; live actions have 2018-08-01, VOD actions 2018-07-17."))
            })?),
            None => None,
        };
        let action = capital(&action.ok_or_else(|| ApiError::missing("Action"))?);
        let json = self.json;
        let own = self.pairs.into_iter().filter(|(name, _)| !COMMON.contains(&name.as_str())).collect::<Vec<_>>();
        let parameters = move || {
            if !json {
                return tree::unflatten(own);
            }
            if let Some((name, _)) = own.first() {
                return Err(ApiError::invalid(format!("With a JSON body, {name} belongs into the body.")));
            }
            Ok(body?.into_iter().filter(|(name, _)| !COMMON.contains(&name.as_str())).collect())
        };
        Ok(Call { action, version, parameters: parameters() })
    }
}

/// Hand-written clients write `createRecordTask`.
fn capital(action: &str) -> String {
    let mut letters = action.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

/// One call. Its parameters are looked at after the action is known, hence the `Result` inside.
#[derive(Debug)]
pub struct Call {
    /// With a capital first letter.
    pub action: String,
    pub version: Option<Version>,
    pub parameters: Result<Fields, ApiError>,
}

/// The fields of a good answer.
pub type Reply = Map<String, Value>;

/// `{"Response": {..., "RequestId": "..."}}`, with `Content-Type` exactly `application/json`: client libraries look for errors only then.
pub fn envelope(outcome: Result<Reply, &ApiError>, request_id: &str) -> HttpAnswer {
    let (status, mut reply) = match outcome {
        Ok(reply) => (200, reply),
        Err(error) => {
            let mut reply = Reply::new();
            reply.insert("Error".to_owned(), json!({"Code": error.code, "Message": error.message}));
            (error.http_status(), reply)
        }
    };
    reply.insert("RequestId".to_owned(), Value::from(request_id));
    let answer = HttpAnswer::text(status, "application/json", json!({ "Response": reply }).to_string());
    if status == 405 { answer.with("Allow", "GET, POST") } else { answer }
}

/// Any request: an answer, no panic.
pub fn fuzz_protocol(data: &[u8]) {
    let parts: Vec<&[u8]> = data.splitn(3, |byte| *byte == b'\n').collect();
    let [target, content_type, body] = parts[..] else { return };
    for method in ["GET", "POST"] {
        let request = HttpRequest {
            method: method.to_owned(),
            target: String::from_utf8_lossy(target).into_owned(),
            headers: vec![("Content-Type".to_owned(), String::from_utf8_lossy(content_type).into_owned())],
            body: body.to_vec(),
            peer: None,
        };
        if let Ok(call) = Form::read(&request).and_then(Form::call) {
            assert!(!call.action.starts_with(|first: char| first.is_ascii_lowercase()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> HttpRequest {
        HttpRequest {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.as_bytes().to_vec(),
            peer: None,
        }
    }

    fn outcome(request: &HttpRequest) -> Result<Call, ApiError> {
        let call = Form::read(request)?.call()?;
        Ok(Call { parameters: Ok(call.parameters?), ..call })
    }

    const JSON: (&str, &str) = ("Content-Type", "application/json");
    const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
    const ACTION: (&str, &str) = ("X-TC-Action", "DescribeRecordTask");
    const VERSION: (&str, &str) = ("x-tc-version", "2018-08-01");

    #[test]
    fn every_form_is_read() {
        let cases = [
            request("GET", "/?Action=DescribeRecordTask&Version=2018-08-01&A=1", &[], ""),
            request("GET", "/?A=1&Action=describeRecordTask&Version=2018-08-01&Nonce=7&Region=x&Token=&Language=en", &[], ""),
            request("GET", "/?A=1", &[ACTION, VERSION, FORM], ""),
            request("POST", "/", &[FORM], "A=1&Action=DescribeRecordTask&Version=2018-08-01&RequestClient=x"),
            request("POST", "/?Action=DescribeRecordTask&Version=2018-08-01", &[FORM], "A=1"),
            request("POST", "/?Action=DescribeRecordTask&Version=2018-08-01&A=1", &[], ""),
            request("POST", "/", &[ACTION, VERSION, JSON], r#"{"A":"1"}"#),
            request("POST", "/", &[ACTION, VERSION, ("content-type", "Application/JSON; charset=utf-8")], r#"{"A":"1"}"#),
            request("POST", "/?Action=DescribeRecordTask&Version=2018-08-01", &[JSON], r#"{"A":"1"}"#),
            request("POST", "/", &[JSON], r#"{"Action":"DescribeRecordTask","Version":"2018-08-01","A":"1"}"#),
        ];
        for case in &cases {
            let call = outcome(case).unwrap();
            assert_eq!((call.action.as_str(), call.version), ("DescribeRecordTask", Some(Version::Live)), "{case:?}");
            let fields = call.parameters.unwrap();
            assert_eq!(fields.len(), 1, "{case:?}");
            assert!(matches!(&fields[0], (name, Tree::Text(value) | Tree::Flat(value)) if name == "A" && value == "1"), "{case:?}");
        }
        assert_eq!(outcome(&request("GET", "/?Action=X", &[], "")).unwrap().version, None);
    }

    #[test]
    fn bad_requests_are_refused() {
        let long = format!("/?Action=X&A={}", "a".repeat(GET_BYTES_MAX));
        let big = "a".repeat(FORM_BYTES_MAX + 1);
        let cases = [
            (request("PUT", "/?Action=X", &[], ""), "UnsupportedProtocol"),
            (request("HEAD", "/?Action=X", &[], ""), "UnsupportedProtocol"),
            (request("GET", "/", &[], ""), "MissingParameter"),
            (request("GET", "/?Version=2018-08-01", &[], ""), "MissingParameter"),
            (request("GET", "/?Action=X&Version=2020-01-01", &[], ""), "NoSuchVersion"),
            (request("GET", "/?Action=X&Version=", &[], ""), "NoSuchVersion"),
            (request("GET", "/?Action=X&A=%FF", &[], ""), "InvalidParameter"),
            (request("GET", "/?Action=X&A=1&A=2", &[], ""), "InvalidParameter"),
            (request("GET", &long, &[], ""), "RequestSizeLimitExceeded"),
            (request("POST", "/?Action=X", &[FORM], &big), "RequestSizeLimitExceeded"),
            (request("POST", "/?Action=X", &[FORM], r#" {"A":1}"#), "InvalidParameter"),
            (request("POST", "/?Action=X", &[("Content-Type", "multipart/form-data; boundary=x")], "--x"), "UnsupportedOperation"),
            (request("POST", "/?Action=X", &[JSON], "[1]"), "InvalidParameter"),
            (request("POST", "/?Action=X&B=2", &[JSON], r#"{"A":1}"#), "InvalidParameter"),
            (request("POST", "/", &[JSON], "{"), "MissingParameter"),
        ];
        for (case, code) in &cases {
            assert_eq!(outcome(case).unwrap_err().code, *code, "{:.80} {:?}", case.target, case.headers);
        }
        let answer = envelope(Err(&outcome(&cases[0].0).unwrap_err()), "id");
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET, POST")));
        let answer = envelope(Err(&outcome(&cases[8].0).unwrap_err()), "id");
        assert_eq!((answer.status, answer.header("Content-Type")), (413, Some("application/json")));
    }

    proptest::proptest! {
        #[test]
        fn any_request_is_answered(data in "[ -~\n]{0,120}") {
            fuzz_protocol(data.as_bytes());
        }
    }
}
