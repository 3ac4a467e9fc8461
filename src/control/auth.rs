//! Who calls: TC3-HMAC-SHA256, the two older signatures, a bearer token, or nobody in particular on loopback.
//!
//! As long as no key is configured, calls from loopback are accepted, signed (by whatever key) or not, unless the settings forbid it. With keys
//! every call must prove one.

use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::access::{Access, Caller};
use super::errors::{ApiError, refuse};
use super::http::HttpRequest;
use super::protocol::Form;
use super::times;
use crate::config::Credential;
use crate::units::WallTime;

/// How far a signature's time may be from our clock, in either direction (documented: five minutes).
pub const SIGNATURE_AGE_S_MAX: u64 = 300;

/// Checks a request before anything about actions or parameters is said.
///
/// `X-TC-Token`, the token of temporary keys, is not looked at: we issue none.
///
/// # Errors
/// `AuthFailure.*`; `MissingParameter` for a parameter of the older signatures.
pub fn check(access: &Access, form: &Form<'_>, now: WallTime) -> Result<Caller, ApiError> {
    if access.has_no_keys() {
        return check_unsigned(access, form.request);
    }
    let credential = if let Some(authorization) = form.request.header("Authorization") {
        if let Some(token) = bearer(authorization) {
            return check_bearer(access, token);
        }
        check_tc3(&access.credentials, form, authorization, now)?
    } else if form.field("Signature").is_some() || form.field("SecretId").is_some() {
        check_older(&access.credentials, form, now)?
    } else {
        return Err(failure("The request is not signed."));
    };
    Ok(Caller::Key { secret_id: credential.secret_id.clone(), role: credential.role })
}

fn check_unsigned(access: &Access, request: &HttpRequest) -> Result<Caller, ApiError> {
    let denied = |message: &str| Err(refuse("AuthFailure.UnauthorizedOperation", message));
    if !access.unsigned_loopback {
        return denied("There are no keys, and calls without one are switched off (api.unsigned_loopback).");
    }
    if !request.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
        return denied("Without configured credentials only calls from loopback are accepted.");
    }
    match browser_attack(request) {
        Some(reason) => denied(reason),
        None => Ok(Caller::Loopback),
    }
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750, 2.1; the scheme's case is free).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then_some(token.trim())
}

fn check_bearer(access: &Access, token: &str) -> Result<Caller, ApiError> {
    // Codes of equal length, compared in constant time: how long it takes says nothing about the tokens.
    let code = |token: &str| mac::<Hmac<Sha256>>(b"bearer token", token.as_bytes());
    let given = code(token).finalize().into_bytes();
    let known = access.tokens.iter().find(|known| code(known.token.expose()).verify_slice(&given).is_ok());
    let known = known.ok_or_else(|| refuse("AuthFailure.TokenFailure", "There is no such token."))?;
    Ok(Caller::Token { name: known.name.clone(), role: known.role })
}

fn failure(message: impl Into<String>) -> ApiError {
    refuse("AuthFailure.SignatureFailure", message)
}

fn find<'a>(credentials: &'a [Credential], secret_id: &str) -> Result<&'a Credential, ApiError> {
    let known = credentials.iter().find(|credential| credential.secret_id == secret_id);
    known.ok_or_else(|| refuse("AuthFailure.SecretIdNotFound", "There is no such SecretId."))
}

fn check_clock(timestamp: &str, now: WallTime) -> Result<i64, ApiError> {
    let seconds: i64 = timestamp.parse().map_err(|_| failure("The timestamp must be Unix seconds."))?;
    if seconds.abs_diff(now.unix_seconds()) > SIGNATURE_AGE_S_MAX {
        let message = format!("The timestamp is more than {SIGNATURE_AGE_S_MAX} s away from this appliance's clock.");
        return Err(refuse("AuthFailure.SignatureExpire", message));
    }
    Ok(seconds)
}

/// The `Authorization` header of TC3, taken apart.
#[derive(PartialEq, Eq, Debug)]
struct Authorization<'a> {
    secret_id: &'a str,
    date: &'a str,
    service: &'a str,
    signed_headers: Vec<&'a str>,
    signature: Vec<u8>,
}

impl<'a> Authorization<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        let rest = header.trim().strip_prefix("TC3-HMAC-SHA256")?.strip_prefix(' ')?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=')?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return None,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        // A service name may be anything but must not hold a slash: `127` and `localhost:9080` occur.
        let scope: Vec<&str> = credential?.split('/').collect();
        let [secret_id, date, service, "tc3_request"] = scope[..] else { return None };
        let signature = decode_hex(signature?)?;
        Some(Self { secret_id, date, service, signed_headers: signed_headers?.split(';').collect(), signature })
    }
}

fn check_tc3<'a>(credentials: &'a [Credential], form: &Form<'_>, header: &str, now: WallTime) -> Result<&'a Credential, ApiError> {
    let authorization = Authorization::parse(header).ok_or_else(|| failure("The Authorization header is no TC3-HMAC-SHA256 one."))?;
    let credential = find(credentials, authorization.secret_id)?;
    let request = form.request;
    let timestamp = request.header("X-TC-Timestamp").ok_or_else(|| failure("The header X-TC-Timestamp is missing."))?;
    let seconds = check_clock(timestamp, now)?;
    if authorization.date != times::utc_date(seconds) {
        return Err(failure("The date of the credential scope is not the UTC date of X-TC-Timestamp."));
    }
    for wanted in ["content-type", "host"] {
        if !authorization.signed_headers.iter().any(|name| name.eq_ignore_ascii_case(wanted)) {
            return Err(failure(format!("SignedHeaders must contain {wanted}.")));
        }
    }
    let key = tc3_key(credential.secret_key.expose(), authorization.date, authorization.service);
    // Clients differ: one signs `host` without the port it sends, hand-written ones sign lower-cased values as the documents say.
    for (port, lower) in [(true, false), (false, false), (true, true), (false, true)] {
        let canonical = canonical_request(request, &authorization.signed_headers, port, lower)?;
        let text = tc3_text(timestamp, authorization.date, authorization.service, &canonical);
        if mac::<Hmac<Sha256>>(&key, text.as_bytes()).verify_slice(&authorization.signature).is_ok() {
            return Ok(credential);
        }
    }
    Err(failure("The signature does not match."))
}

fn tc3_key(secret_key: &str, date: &str, service: &str) -> Vec<u8> {
    let key = hmac_sha256(format!("TC3{secret_key}").as_bytes(), date);
    hmac_sha256(&hmac_sha256(&key, service), "tc3_request")
}

fn tc3_text(timestamp: &str, date: &str, service: &str, canonical: &str) -> String {
    format!("TC3-HMAC-SHA256\n{timestamp}\n{date}/{service}/tc3_request\n{}", encode_hex(&Sha256::digest(canonical.as_bytes())))
}

/// The `Authorization` header of a POST of JSON, for callers: `host` as in the Host header, `now` Unix seconds as in X-TC-Timestamp.
pub fn sign_tc3(secret_id: &str, secret_key: &str, host: &str, body: &[u8], now: i64) -> String {
    const SERVICE: &str = "live";
    let date = times::utc_date(now);
    let canonical = format!("POST\n/\n\ncontent-type:application/json\nhost:{host}\n\ncontent-type;host\n{}", encode_hex(&Sha256::digest(body)));
    let key = tc3_key(secret_key, &date, SERVICE);
    let signature = encode_hex(&hmac_sha256(&key, &tc3_text(&now.to_string(), &date, SERVICE, &canonical)));
    format!("TC3-HMAC-SHA256 Credential={secret_id}/{date}/{SERVICE}/tc3_request, SignedHeaders=content-type;host, Signature={signature}")
}

fn canonical_request(request: &HttpRequest, signed_headers: &[&str], port: bool, lower: bool) -> Result<String, ApiError> {
    let mut headers = String::new();
    for name in signed_headers {
        let value = request.header(name).ok_or_else(|| failure(format!("The signed header {name} is missing.")))?.trim();
        let value = if !port && name.eq_ignore_ascii_case("host") { without_port(value) } else { value };
        let value = if lower { value.to_ascii_lowercase() } else { value.to_owned() };
        headers.push_str(&format!("{name}:{value}\n"));
    }
    let body: &[u8] = match request.header("X-TC-Content-SHA256") {
        Some("UNSIGNED-PAYLOAD") => b"UNSIGNED-PAYLOAD",
        _ => &request.body,
    };
    let hash = encode_hex(&Sha256::digest(body));
    Ok(format!("{}\n/\n{}\n{headers}\n{}\n{hash}", request.method, request.query(), signed_headers.join(";")))
}

fn without_port(host: &str) -> &str {
    host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(host, |(name, _)| name)
}

/// HmacSHA1 and HmacSHA256 over the decoded, sorted parameters.
fn check_older<'a>(credentials: &'a [Credential], form: &Form<'_>, now: WallTime) -> Result<&'a Credential, ApiError> {
    let field = |name| form.field(name).ok_or_else(|| ApiError::missing(name));
    let (secret_id, signature) = (field("SecretId")?, field("Signature")?);
    let (timestamp, nonce) = (field("Timestamp")?, field("Nonce")?);
    let credential = find(credentials, secret_id)?;
    check_clock(timestamp, now)?;
    if !nonce.parse::<u64>().is_ok_and(|nonce| nonce > 0) {
        return Err(failure("Nonce must be a positive integer."));
    }
    let signature = BASE64_STANDARD.decode(signature).map_err(|_| failure("The signature is no Base64."))?;
    let host = form.request.header("Host").unwrap_or_default();
    let key = credential.secret_key.expose().as_bytes();
    for dots in [false, true] {
        let text = older_text(&form.request.method, host, &form.pairs, dots);
        let matches = if form.field("SignatureMethod") == Some("HmacSHA256") {
            mac::<Hmac<Sha256>>(key, text.as_bytes()).verify_slice(&signature).is_ok()
        } else {
            mac::<Hmac<Sha1>>(key, text.as_bytes()).verify_slice(&signature).is_ok()
        };
        if matches {
            return Ok(credential);
        }
    }
    Err(failure("The signature does not match."))
}

/// `dots`: one client library writes `.` for `_` in names before it sorts.
fn older_text(method: &str, host: &str, pairs: &[(String, String)], dots: bool) -> String {
    let name = |name: &str| if dots { name.replace('_', ".") } else { name.to_owned() };
    let mut sorted: Vec<(String, &str)> =
        pairs.iter().filter(|(known, _)| known != "Signature").map(|(known, value)| (name(known), value.as_str())).collect();
    sorted.sort();
    let joined: Vec<String> = sorted.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{method}{host}/?{}", joined.join("&"))
}

fn mac<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> M {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac
}

fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    mac::<Hmac<Sha256>>(key, text.as_bytes()).finalize().into_bytes().to_vec()
}

fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Why an unsigned request is a browser acting for a foreign page, if it is one.
///
/// Without signatures, loopback alone protects the API; any web page open on this machine can send requests to loopback, directly or
/// through a host name of its own that it lets resolve to 127.0.0.1. Only browsers send these headers, and they cannot leave them out.
fn browser_attack(request: &HttpRequest) -> Option<&'static str> {
    let site = request.header("Sec-Fetch-Site");
    let origin = request.header("Origin");
    if site.is_none() && origin.is_none() {
        return None;
    }
    let host = request.header("Host").unwrap_or_default();
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Some("A web page of another origin may not call this API without a signature.");
    }
    if let Some(origin) = origin {
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        if !authority.eq_ignore_ascii_case(host) {
            return Some("A web page of another origin may not call this API without a signature.");
        }
    }
    let name = without_port(host);
    let is_local = name.eq_ignore_ascii_case("localhost") || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if is_local { None } else { Some("A browser must call this API by its IP address or as localhost.") }
}

/// Any Authorization header: taken apart or refused, no panic.
pub fn fuzz_authorization(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(parsed) = Authorization::parse(text)
    {
        assert!(!parsed.service.contains('/') && text.contains("tc3_request"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::access::tests::{access, key, token};
    use super::*;
    use crate::config::Role;

    const NOW: WallTime = WallTime::from_unix_seconds(1_767_225_600);
    const BODY: &str = "{\"TemplateName\": \"news-mp4\", \"Description\": \"Morning news\", \
                        \"Mp4Param\": {\"RecordInterval\": 3600, \"StorageTime\": 0, \"Enable\": 1}, \"RemoveWatermark\": true}";
    const QUERY: &str = "TemplateName=news-mp4&Description=Morning+news&Mp4Param.RecordInterval=3600&Mp4Param.StorageTime=0&Mp4Param.Enable=1\
                         &RemoveWatermark=True";

    fn keys() -> Access {
        let keys = vec![key("other", "x", Role::Admin), key("AKIDEXAMPLEcapstan01", "c4pst4nEXAMPLEsecret", Role::Operator)];
        access(keys, vec![token("script", "bearer-token-0001", Role::Reader), token("ci", "bearer-token-0002", Role::Admin)])
    }

    fn request(method: &str, query: &str, headers: &[(&str, &str)], body: &str) -> HttpRequest {
        HttpRequest {
            method: method.to_owned(),
            target: if query.is_empty() { "/".to_owned() } else { format!("/?{query}") },
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.as_bytes().to_vec(),
            peer: Some("192.0.2.1:5".parse().unwrap()),
        }
    }

    fn authorization(signature: &str) -> String {
        let credential = "Credential=AKIDEXAMPLEcapstan01/2026-01-01/live/tc3_request";
        format!("TC3-HMAC-SHA256 {credential}, SignedHeaders=content-type;host, Signature={signature}")
    }

    fn tc3(method: &str, query: &str, content_type: &str, body: &str, signature: &str) -> HttpRequest {
        let headers = [
            ("Content-Type", content_type),
            ("Host", "127.0.0.1:18081"),
            ("X-TC-Timestamp", "1767225600"),
            ("Authorization", &authorization(signature)),
        ];
        request(method, query, &headers, body)
    }

    fn code(request: &HttpRequest, now: WallTime) -> &'static str {
        let form = Form::read(request).unwrap();
        check(&keys(), &form, now).map_or_else(|error| error.code, |_| "ok")
    }

    const JSON: &str = "application/json";
    const FORM: &str = "application/x-www-form-urlencoded";
    const POST_SIGNATURE: &str = "65ae89e852141afd026642fd55cdc38269da37af70a01080219f4dbb7c09a85c";
    const GET_SIGNATURE: &str = "8b62694e1bc93bf106f3dd1bc9a8c5963126ea3cb48ddb0dfb9cb5971b217c76";
    const UNICODE_QUERY: &str = "TemplateName=%E6%96%B0%E9%97%BB+a%2Bb%26c";
    const UNICODE_SIGNATURE: &str = "f01cb39649a4e9b760e87266a00c7eb93b043e05196494108ba99fe393cf685b";

    #[test]
    fn tc3_vectors() {
        assert_eq!(BODY.len(), 153);
        assert_eq!(code(&tc3("POST", "", JSON, BODY, POST_SIGNATURE), NOW), "ok");
        assert_eq!(code(&tc3("GET", QUERY, FORM, "", GET_SIGNATURE), NOW), "ok");
        assert_eq!(code(&tc3("GET", UNICODE_QUERY, FORM, "", UNICODE_SIGNATURE), NOW), "ok");
    }

    #[test]
    fn what_is_signed_here_is_what_clients_sign() {
        let signed = sign_tc3("AKIDEXAMPLEcapstan01", "c4pst4nEXAMPLEsecret", "127.0.0.1:18081", BODY.as_bytes(), NOW.unix_seconds());
        assert_eq!(signed, authorization(POST_SIGNATURE));
    }

    #[test]
    fn tc3_refusals() {
        let good = || tc3("POST", "", JSON, BODY, POST_SIGNATURE);
        let with = |name: &str, value: &str| {
            let mut request = good();
            request.headers.retain(|(known, _)| known != name);
            request.headers.push((name.to_owned(), value.to_owned()));
            request
        };
        let failure = "AuthFailure.SignatureFailure";
        let scope = |from: &str, to: &str| with("Authorization", &authorization(POST_SIGNATURE).replace(from, to));
        let cases = [
            (tc3("POST", "", JSON, BODY, GET_SIGNATURE), failure),
            (tc3("POST", "", JSON, &BODY.replace("3600", "3601"), POST_SIGNATURE), failure),
            (tc3("POST", "", JSON, BODY, &POST_SIGNATURE[..62]), failure),
            (tc3("POST", "", JSON, BODY, ""), failure),
            (tc3("GET", &QUERY.replace("3600", "3601"), FORM, "", GET_SIGNATURE), failure),
            (with("Authorization", "SKIP"), failure),
            (with("Authorization", ""), failure),
            (with("Host", "127.0.0.1:18082"), failure),
            (with("X-TC-Timestamp", "x"), failure),
            (with("X-TC-Timestamp", "1767225601"), failure),
            (with("X-TC-Timestamp", "1767225901"), "AuthFailure.SignatureExpire"),
            (with("X-TC-Timestamp", "-9223372036854775808"), "AuthFailure.SignatureExpire"),
            (scope("2026-01-01", "2026-01-02"), failure),
            (scope("tc3_request", "tc4_request"), failure),
            (scope("content-type;host", "host"), failure),
            (scope("content-type;host", "content-type;host;x-tc-action"), failure),
            (scope("AKIDEXAMPLEcapstan01", "nobody"), "AuthFailure.SecretIdNotFound"),
            (scope("AKIDEXAMPLEcapstan01", "other"), failure),
            (scope(", ", ","), "ok"),
        ];
        for (index, (request, expected)) in cases.iter().enumerate() {
            assert_eq!(code(request, NOW), *expected, "case {index}");
        }
        assert_eq!(code(&good(), WallTime::from_unix_seconds(1_767_225_600 + 300)), "ok");
        assert_eq!(code(&good(), WallTime::from_unix_seconds(1_767_225_600 - 300)), "ok");
        assert_eq!(code(&good(), WallTime::from_unix_seconds(1_767_225_600 + 301)), "AuthFailure.SignatureExpire");
        assert_eq!(code(&request("POST", "", &[("Content-Type", JSON)], BODY), NOW), failure);
    }

    /// Signs as a client would, with `change` applied to what is signed.
    fn signed(host: &str, lower: bool, payload: &[u8]) -> HttpRequest {
        let mut request = tc3("POST", "", JSON, BODY, POST_SIGNATURE);
        request.headers.push(("X-TC-Action".to_owned(), "CreateRecordTask".to_owned()));
        let action = if lower { "createrecordtask" } else { "CreateRecordTask" };
        let canonical = format!(
            "POST\n/\n\ncontent-type:{JSON}\nhost:{host}\nx-tc-action:{action}\n\ncontent-type;host;x-tc-action\n{}",
            encode_hex(&Sha256::digest(payload))
        );
        let text = tc3_text("1767225600", "2026-01-01", "127", &canonical);
        let key = tc3_key("c4pst4nEXAMPLEsecret", "2026-01-01", "127");
        let header = authorization(&encode_hex(&hmac_sha256(&key, &text))).replace("/live/", "/127/").replace(";host", ";host;x-tc-action");
        request.headers.retain(|(name, _)| name != "Authorization");
        request.headers.push(("Authorization".to_owned(), header));
        request
    }

    #[test]
    fn tc3_variants_of_clients() {
        assert_eq!(code(&signed("127.0.0.1:18081", false, BODY.as_bytes()), NOW), "ok");
        assert_eq!(code(&signed("127.0.0.1", false, BODY.as_bytes()), NOW), "ok");
        assert_eq!(code(&signed("127.0.0.1:18081", true, BODY.as_bytes()), NOW), "ok");
        assert_eq!(code(&signed("127.0.0.1", true, BODY.as_bytes()), NOW), "ok");
        assert_eq!(code(&signed("127.0.0", false, BODY.as_bytes()), NOW), "AuthFailure.SignatureFailure");
        let mut unsigned = signed("127.0.0.1:18081", false, b"UNSIGNED-PAYLOAD");
        assert_eq!(code(&unsigned, NOW), "AuthFailure.SignatureFailure");
        unsigned.headers.push(("X-TC-Content-SHA256".to_owned(), "UNSIGNED-PAYLOAD".to_owned()));
        assert_eq!(code(&unsigned, NOW), "ok");
    }

    const OLDER: &str = "Action=CreateLiveRecordTemplate&Description=Morning+news&Language=en-US&Mp4Param.Enable=1&Mp4Param.RecordInterval=3600\
        &Mp4Param.StorageTime=0&Nonce=271828182&Region=ap-guangzhou&RemoveWatermark=True&RequestClient=SDK_PYTHON_3.1.193\
        &SecretId=AKIDEXAMPLEcapstan01&SignatureMethod=HmacSHA1&TemplateName=news-mp4&Timestamp=1767225600&Version=2018-08-01";

    #[test]
    fn older_vectors_and_refusals() {
        let host = [("Host", "127.0.0.1:18081")];
        let get = |query: &str| request("GET", query, &host, "");
        let good = format!("{OLDER}&Signature=S30WvboczvruO5GseezT0cE3N8s%3D");
        assert_eq!(code(&get(&good), NOW), "ok");
        let post = OLDER.replace("HmacSHA1", "HmacSHA256") + "&Signature=QersqSyLMY5bkErWUfHPYLmC5CuyQVdOuaijnN2t2Vo%3D";
        let headers = [host[0], ("Content-Type", FORM)];
        assert_eq!(code(&request("POST", "", &headers, &post), NOW), "ok");
        let failure = "AuthFailure.SignatureFailure";
        let cases = [
            (good.replace("3600", "3601"), failure),
            (good.replace("S30W", "S31W"), failure),
            (good.replace("S30W", "!!!!"), failure),
            (good.replace("HmacSHA1", "HmacSHA256"), failure),
            (good.replace("271828182", "0"), failure),
            (good.replace("AKIDEXAMPLEcapstan01", "nobody"), "AuthFailure.SecretIdNotFound"),
            (good.replace("1767225600", "1767225200"), "AuthFailure.SignatureExpire"),
            (good.replace("Timestamp=1767225600&", ""), "MissingParameter"),
            (good.replace("Nonce=271828182&", ""), "MissingParameter"),
            (OLDER.to_owned(), "MissingParameter"),
        ];
        for (query, expected) in &cases {
            assert_eq!(code(&get(query), NOW), *expected, "{query}");
        }
    }

    #[test]
    fn without_credentials_loopback_is_accepted() {
        let outcome = |peer: &str, headers: &[(&str, &str)]| {
            let mut request = request("GET", "Action=X", headers, "");
            request.peer = Some(peer.parse().unwrap());
            check(&access(Vec::new(), Vec::new()), &Form::read(&request).unwrap(), NOW).map_or_else(|error| error.code, |_| "ok")
        };
        let denied = "AuthFailure.UnauthorizedOperation";
        let host = ("Host", "127.0.0.1:8080");
        assert_eq!(outcome("127.0.0.1:1", &[host]), "ok");
        assert_eq!(outcome("[::1]:1", &[host]), "ok");
        assert_eq!(outcome("[::ffff:127.0.0.1]:1", &[host]), "ok");
        assert_eq!(outcome("192.0.2.1:1", &[host]), denied);
        // A key we do not know: a client library signs with whatever it was given.
        assert_eq!(outcome("127.0.0.1:1", &[host, ("Authorization", "TC3-HMAC-SHA256 x")]), "ok");
        for (headers, expected) in [
            (vec![host, ("Sec-Fetch-Site", "none")], "ok"),
            (vec![host, ("Sec-Fetch-Site", "same-origin"), ("Origin", "http://127.0.0.1:8080")], "ok"),
            (vec![("Host", "localhost:8080"), ("Origin", "http://localhost:8080")], "ok"),
            (vec![("Host", "[::1]:8080"), ("Origin", "http://[::1]:8080")], "ok"),
            (vec![host, ("Sec-Fetch-Site", "cross-site")], denied),
            (vec![host, ("Sec-Fetch-Site", "same-site")], denied),
            (vec![host, ("Origin", "http://evil.example")], denied),
            (vec![host, ("Origin", "null")], denied),
            (vec![host, ("Origin", "http://127.0.0.1:3000")], denied),
            (vec![("Host", "evil.example:8080"), ("Sec-Fetch-Site", "same-origin")], denied),
        ] {
            assert_eq!(outcome("127.0.0.1:1", &headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn callers_and_their_roles() {
        let caller = |request: &HttpRequest| check(&keys(), &Form::read(request).unwrap(), NOW);
        let signed = caller(&tc3("POST", "", JSON, BODY, POST_SIGNATURE)).unwrap();
        assert_eq!(signed, Caller::Key { secret_id: "AKIDEXAMPLEcapstan01".to_owned(), role: Role::Operator });
        // A token of temporary keys is not ours to judge.
        let mut with_token = tc3("POST", "", JSON, BODY, POST_SIGNATURE);
        with_token.headers.push(("X-TC-Token".to_owned(), "temporary".to_owned()));
        assert_eq!(caller(&with_token).unwrap(), signed);
        let bearer = |value: &str| caller(&request("GET", "Action=X", &[("Authorization", value)], ""));
        for (value, name) in [("Bearer bearer-token-0001", "script"), ("bearer  bearer-token-0002 ", "ci")] {
            assert!(matches!(bearer(value).unwrap(), Caller::Token { name: found, .. } if found == name), "{value}");
        }
        for (value, code) in [
            ("Bearer bearer-token-0003", "AuthFailure.TokenFailure"),
            ("Bearer bearer-token-000", "AuthFailure.TokenFailure"),
            ("Bearer ", "AuthFailure.SignatureFailure"),
            ("Bearer", "AuthFailure.SignatureFailure"),
            ("Basic bearer-token-0001", "AuthFailure.SignatureFailure"),
            ("bearer-token-0001", "AuthFailure.SignatureFailure"),
        ] {
            assert_eq!(bearer(value).unwrap_err().code, code, "{value}");
        }
    }

    #[test]
    fn any_key_ends_the_time_without_signatures() {
        let outcome = |access: &Access| {
            let mut request = request("GET", "Action=X", &[("Host", "127.0.0.1:8080")], "");
            request.peer = Some("127.0.0.1:1".parse().unwrap());
            check(access, &Form::read(&request).unwrap(), NOW).map_or_else(|error| error.code, |_| "ok")
        };
        assert_eq!(outcome(&access(Vec::new(), Vec::new())), "ok");
        assert_eq!(outcome(&access(vec![key("a", "0123456789abcdef", Role::Admin)], Vec::new())), "AuthFailure.SignatureFailure");
        assert_eq!(outcome(&access(Vec::new(), vec![token("a", "0123456789abcdef", Role::Admin)])), "AuthFailure.SignatureFailure");
        let mut closed = access(Vec::new(), Vec::new());
        closed.unsigned_loopback = false;
        assert_eq!(outcome(&closed), "AuthFailure.UnauthorizedOperation");
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_answered(tail in "(Credential|SignedHeaders|Signature|tc3_request|[=/,; a-f0-9é]){0,12}") {
            fuzz_authorization(format!("TC3-HMAC-SHA256 {tail}").as_bytes());
        }
    }
}
