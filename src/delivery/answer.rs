//! Answers with files: ranges (RFC 9110, 14), conditions (13), media types, and what players on web pages need (CORS).

use jiff::Timestamp;

use super::http::{Answer, Body, FileBody, Request, Stored};

/// Any page may play the files: the address is what protects them.
pub fn cors(answer: Answer) -> Answer {
    answer.with("Access-Control-Allow-Origin", "*")
}

pub fn not_found() -> Answer {
    refused(404, "There is no such file.")
}

pub fn refused(status: u16, sentence: &str) -> Answer {
    cors(Answer::text(status, "text/plain", format!("{sentence}\n")))
}

/// What browsers ask before they send a `Range` header to another site.
pub fn preflight() -> Answer {
    cors(Answer::empty(204))
        .with("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
        .with("Access-Control-Allow-Headers", "Range, If-Range, If-None-Match, If-Modified-Since")
        .with("Access-Control-Max-Age", "86400")
}

/// Does a header of this name ask for a part, or for nothing if nothing has changed?
pub fn is_conditional(name: &str) -> bool {
    ["Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"]
        .iter()
        .any(|conditional| name.eq_ignore_ascii_case(conditional))
}

/// May the answer be kept by caches?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caching {
    /// As long as the validators say so.
    Finished,
    /// It grows: to be asked for every time.
    Growing,
}

/// Answers with a file, or the part of it that was asked for. `tag`: tells this file from all others; `name` gives the media type.
pub fn file(request: &Request<'_>, stored: Stored, tag: &str, name: &str, caching: Caching) -> Answer {
    let modified = stored.modified.0;
    let etag = format!("\"{tag}-{:x}-{modified:x}{:x}\"", stored.length, stored.modified.1);
    let size = stored.length;
    let (status, start, length) = match select(request, &etag, Some(modified), size) {
        Selected::Unchanged => return validators(304, &etag, Some(modified), caching),
        Selected::Other => return validators(412, &etag, Some(modified), caching),
        Selected::Part { status, start, length } => (status, start, length),
        Selected::Unsatisfiable => return validators(416, &etag, Some(modified), caching).with("Content-Range", format!("bytes */{size}")),
    };
    let mut answer =
        validators(status, &etag, Some(modified), caching).with("Content-Type", content_type(name)).with("X-Content-Type-Options", "nosniff");
    if status == 206 {
        answer = answer.with("Content-Range", format!("bytes {start}-{}/{size}", start + length - 1));
    }
    answer.body = Body::File(FileBody { stored, start, length });
    answer
}

/// As [`file`], for bytes that were made for this request.
pub fn bytes(request: &Request<'_>, bytes: Vec<u8>, name: &str, caching: Caching) -> Answer {
    let etag = format!("\"{:x}-{:016x}\"", bytes.len(), fingerprint(&bytes));
    let size = bytes.len() as u64;
    let (status, start, length) = match select(request, &etag, None, size) {
        Selected::Unchanged => return validators(304, &etag, None, caching),
        Selected::Other => return validators(412, &etag, None, caching),
        Selected::Part { status, start, length } => (status, start, length),
        Selected::Unsatisfiable => return validators(416, &etag, None, caching).with("Content-Range", format!("bytes */{size}")),
    };
    let mut answer = validators(status, &etag, None, caching).with("Content-Type", content_type(name)).with("X-Content-Type-Options", "nosniff");
    if status == 206 {
        answer = answer.with("Content-Range", format!("bytes {start}-{}/{size}", start + length - 1));
    }
    let end = (start + length) as usize;
    answer.body = Body::Bytes(if length == size { bytes } else { bytes[start as usize..end].to_vec() });
    answer
}

/// FNV-1a: tells versions of one text apart, and protects nothing.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3))
}

fn validators(status: u16, etag: &str, modified: Option<i64>, caching: Caching) -> Answer {
    let mut answer = cors(Answer::empty(status))
        .with("Access-Control-Expose-Headers", "Content-Length, Content-Range, Accept-Ranges, ETag, Date")
        .with("Accept-Ranges", "bytes")
        .with("ETag", etag);
    if let Some(modified) = modified {
        answer = answer.with("Last-Modified", http_date(modified));
    }
    if caching == Caching::Growing {
        answer = answer.with("Cache-Control", "no-cache");
    }
    answer
}

enum Selected {
    Unchanged,
    /// The client wants another version than this one, or nothing.
    Other,
    Part {
        status: u16,
        start: u64,
        length: u64,
    },
    Unsatisfiable,
}

fn select(request: &Request<'_>, etag: &str, modified: Option<i64>, size: u64) -> Selected {
    if is_other(request, etag, modified) {
        return Selected::Other;
    }
    if is_unchanged(request, etag, modified) {
        return Selected::Unchanged;
    }
    let range = match request.header("Range") {
        Some(range) if request.method != "HEAD" && range_applies(request, etag, modified) => select_range(range, size),
        _ => Range::Whole,
    };
    match range {
        Range::Whole => Selected::Part { status: 200, start: 0, length: size },
        Range::Part { start, length } => Selected::Part { status: 206, start, length },
        Range::Unsatisfiable => Selected::Unsatisfiable,
    }
}

/// `Thu, 01 Jan 2026 08:00:00 GMT` (RFC 9110, 5.6.7).
pub fn http_date(unix_seconds: i64) -> String {
    let time = Timestamp::from_second(unix_seconds).unwrap_or(if unix_seconds < 0 { Timestamp::MIN } else { Timestamp::MAX });
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Unix seconds of an HTTP date.
fn read_http_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok().map(Timestamp::as_second)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "mp4" => "video/mp4",
        "flv" => "video/x-flv",
        "m3u8" => "application/vnd.apple.mpegurl",
        "m4s" => "video/iso.segment",
        "ts" => "video/mp2t",
        "aac" => "audio/aac",
        "mp3" => "audio/mpeg",
        "png" => "image/png",
        "jpg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "vtt" => "text/vtt",
        "m4a" => "audio/mp4",
        "flac" => "audio/flac",
        "ogg" => "audio/ogg",
        "wav" => "audio/wav",
        _ => "application/octet-stream",
    }
}

/// The client asks for a version that is not this one (RFC 9110, 13.1.1 and 13.1.4).
fn is_other(request: &Request<'_>, etag: &str, modified: Option<i64>) -> bool {
    if let Some(tags) = request.header("If-Match") {
        return !tags.split(',').map(str::trim).any(|tag| tag == "*" || tag == etag);
    }
    let since = request.header("If-Unmodified-Since").and_then(read_http_date);
    since.zip(modified).is_some_and(|(since, modified)| modified > since)
}

/// The client has this very version (RFC 9110, 13.2.2).
fn is_unchanged(request: &Request<'_>, etag: &str, modified: Option<i64>) -> bool {
    if let Some(tags) = request.header("If-None-Match") {
        return tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag);
    }
    let since = request.header("If-Modified-Since").and_then(read_http_date);
    since.zip(modified).is_some_and(|(since, modified)| modified <= since)
}

/// A range counts unless `If-Range` names another version (RFC 9110, 13.1.5).
fn range_applies(request: &Request<'_>, etag: &str, modified: Option<i64>) -> bool {
    match request.header("If-Range") {
        None => true,
        Some(tag) if tag.starts_with('"') || tag.starts_with("W/") => tag == etag,
        Some(date) => modified.is_some() && read_http_date(date) == modified,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Range {
    Whole,
    Part { start: u64, length: u64 },
    Unsatisfiable,
}

/// What a `Range` header selects of `size` bytes. Other units and nonsense select the whole file, and so do several ranges that are there: to ignore the header
/// is allowed, to refuse it is not (RFC 9110, 14.2), and no player asks for them.
fn select_range(header: &str, size: u64) -> Range {
    let Some((unit, set)) = header.trim().split_once('=') else { return Range::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Range::Whole;
    }
    let mut selected = Range::Unsatisfiable;
    let mut is_empty = true;
    // A list may have empty elements (RFC 9110, 5.6.1.2).
    for text in set.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        is_empty = false;
        match (select_one(text, size), selected) {
            (Range::Whole, _) | (Range::Part { .. }, Range::Part { .. }) => return Range::Whole,
            (Range::Unsatisfiable, _) => {}
            (part, _) => selected = part,
        }
    }
    if is_empty { Range::Whole } else { selected }
}

/// One element of a set of ranges.
fn select_one(text: &str, size: u64) -> Range {
    // No file ends behind the largest number.
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let Some((first, last)) = text.split_once('-') else { return Range::Whole };
    if first.is_empty() {
        return match number(last) {
            None => Range::Whole,
            Some(count) if count == 0 || size == 0 => Range::Unsatisfiable,
            Some(count) => Range::Part { start: size - count.min(size), length: count.min(size) },
        };
    }
    let (start, end) = (number(first), if last.is_empty() { Some(u64::MAX) } else { number(last) });
    match (start, end) {
        (Some(start), Some(end)) if end >= start && start < size => Range::Part { start, length: end.min(size - 1) - start + 1 },
        (Some(start), Some(end)) if end >= start => Range::Unsatisfiable,
        _ => Range::Whole,
    }
}

/// Any `Range` header: what it selects lies inside the file.
pub fn fuzz_range(data: &[u8]) {
    let (size, header) = data.split_at(data.len().min(2));
    let size = size.iter().fold(0, |size, byte| size * 256 + u64::from(*byte));
    if let Ok(header) = std::str::from_utf8(header)
        && let Range::Part { start, length } = select_range(header, size)
    {
        assert!(length > 0 && start < size && length <= size - start);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn ranges() {
        let part = |start, length| Range::Part { start, length };
        for (header, size, expected) in [
            ("bytes=0-0", 10, part(0, 1)),
            ("bytes=2-5", 10, part(2, 4)),
            ("Bytes = 2-5", 10, Range::Whole),
            ("BYTES=2-5", 10, part(2, 4)),
            ("bytes=2-", 10, part(2, 8)),
            ("bytes=2-99", 10, part(2, 8)),
            ("bytes=9-9", 10, part(9, 1)),
            ("bytes=10-", 10, Range::Unsatisfiable),
            ("bytes=10-11", 10, Range::Unsatisfiable),
            ("bytes=-3", 10, part(7, 3)),
            ("bytes=-99", 10, part(0, 10)),
            ("bytes=-0", 10, Range::Unsatisfiable),
            ("bytes=0-", 0, Range::Unsatisfiable),
            ("bytes=-1", 0, Range::Unsatisfiable),
            ("bytes=5-2", 10, Range::Whole),
            ("bytes=0-1,3-4", 10, Range::Whole),
            ("bytes=0-1, ,", 10, part(0, 2)),
            ("bytes=,", 10, Range::Whole),
            ("bytes=12-13,3-4", 10, part(3, 2)),
            ("bytes=12-13,10-", 10, Range::Unsatisfiable),
            ("bytes=3-4,x", 10, Range::Whole),
            ("lines=0-1,3-4", 10, Range::Whole),
            ("bytes=a-b", 10, Range::Whole),
            ("bytes=+1-2", 10, Range::Whole),
            ("bytes=-", 10, Range::Whole),
            ("lines=1-2", 10, Range::Whole),
            ("bytes", 10, Range::Whole),
            ("bytes=18446744073709551615-18446744073709551615", 10, Range::Unsatisfiable),
            ("bytes=1-18446744073709551616", 10, part(1, 9)),
            ("bytes=18446744073709551616-", 10, Range::Unsatisfiable),
            ("bytes=-18446744073709551616", 10, part(0, 10)),
        ] {
            assert_eq!(select_range(header, size), expected, "{header} of {size}");
        }
    }

    fn read(answer: Answer) -> (u16, Vec<u8>) {
        match answer.body {
            Body::Bytes(bytes) => (answer.status, bytes),
            Body::File(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                (answer.status, bytes)
            }
        }
    }

    #[test]
    fn files_are_served_with_ranges_and_conditions() {
        let mut handle = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut handle, b"0123456789").unwrap();
        let stat = handle.metadata().unwrap();
        let stored = Stored { file: Arc::new(handle), length: 10, modified: (stat.mtime(), stat.mtime_nsec()), moved: None };
        let get = |headers: &[(&str, &str)], method: &str| {
            let headers: Vec<(String, String)> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let request = Request { method, target: "/", headers: &headers, peer: None };
            file(&request, stored.clone(), "tag", "a.mp4", Caching::Finished)
        };
        let whole = get(&[], "GET");
        let header = |name: &str| whole.header(name).unwrap().to_owned();
        assert_eq!(
            (header("Content-Type"), header("Accept-Ranges"), header("Access-Control-Allow-Origin")),
            ("video/mp4".into(), "bytes".into(), "*".into())
        );
        let (etag, modified) = (header("ETag"), header("Last-Modified"));
        let weak = format!("W/{etag}");
        assert_eq!(read(whole), (200, b"0123456789".to_vec()));
        let part = get(&[("Range", "bytes=3-5")], "GET");
        assert_eq!(part.header("Content-Range"), Some("bytes 3-5/10"));
        assert_eq!(read(part), (206, b"345".to_vec()));
        assert_eq!(read(get(&[("Range", "bytes=-2")], "GET")), (206, b"89".to_vec()));
        let unsatisfiable = get(&[("Range", "bytes=10-")], "GET");
        assert_eq!((unsatisfiable.status, unsatisfiable.header("Content-Range")), (416, Some("bytes */10")));
        assert_eq!(read(get(&[("Range", "bytes=0-1,4-5")], "GET")), (200, b"0123456789".to_vec()));
        assert_eq!(get(&[("Range", "bytes=3-5")], "HEAD").status, 200);
        for (headers, status) in [
            (vec![("If-None-Match", etag.as_str())], 304),
            (vec![("If-None-Match", "\"x\", *")], 304),
            (vec![("If-None-Match", "\"x\""), ("If-Modified-Since", modified.as_str())], 200),
            (vec![("If-Modified-Since", modified.as_str())], 304),
            (vec![("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")], 200),
            (vec![("If-Match", etag.as_str())], 200),
            (vec![("If-Match", "\"x\", *")], 200),
            (vec![("If-Match", "\"x\"")], 412),
            (vec![("If-Match", weak.as_str())], 412),
            (vec![("If-Match", "\"x\""), ("If-None-Match", etag.as_str())], 412),
            (vec![("If-Unmodified-Since", modified.as_str())], 200),
            (vec![("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")], 412),
            (vec![("If-Match", etag.as_str()), ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")], 200),
            (vec![("If-None-Match", weak.as_str())], 304),
            (vec![("Range", "bytes=3-5"), ("If-Range", weak.as_str())], 200),
            (vec![("Range", "bytes=3-5"), ("If-Range", etag.as_str())], 206),
            (vec![("Range", "bytes=3-5"), ("If-Range", "\"x\"")], 200),
            (vec![("Range", "bytes=3-5"), ("If-Range", modified.as_str())], 206),
            (vec![("Range", "bytes=3-5"), ("If-Range", "Thu, 01 Jan 1970 00:00:00 GMT")], 200),
        ] {
            assert_eq!(get(&headers, "GET").status, status, "{headers:?}");
        }
    }

    #[test]
    fn texts_made_for_a_request() {
        let none: [(String, String); 0] = [];
        let request = Request { method: "GET", target: "/", headers: &none, peer: None };
        let made = |text: &str| bytes(&request, text.as_bytes().to_vec(), "a.m3u8", Caching::Growing);
        let answer = made("#EXTM3U");
        assert_eq!((answer.header("Content-Type"), answer.header("Cache-Control")), (Some("application/vnd.apple.mpegurl"), Some("no-cache")));
        assert_ne!(answer.header("ETag"), made("#EXTM3V").header("ETag"));
        let headers = [("Range".to_owned(), "bytes=1-3".to_owned())];
        let request = Request { headers: &headers, ..request };
        assert_eq!(read(bytes(&request, b"#EXTM3U".to_vec(), "a.m3u8", Caching::Finished)), (206, b"EXT".to_vec()));
    }

    #[test]
    fn dates_and_preflights() {
        assert_eq!(http_date(1_767_254_400), "Thu, 01 Jan 2026 08:00:00 GMT");
        assert_eq!(read_http_date("Thu, 01 Jan 2026 08:00:00 GMT"), Some(1_767_254_400));
        assert_eq!(read_http_date("yesterday"), None);
        let answer = preflight();
        assert_eq!((answer.status, answer.header("Access-Control-Allow-Methods")), (204, Some("GET, HEAD, OPTIONS")));
    }

    proptest::proptest! {
        #[test]
        fn any_range_is_answered(text in "..(bytes=)?[-0-9, a]{0,24}") {
            fuzz_range(text.as_bytes());
        }
    }
}
