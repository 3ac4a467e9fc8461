//! Finished files over HTTP: `/vod/<AppId>/<FileId>/<name>.<ext>`, with ranges (RFC 9110, 13 and 14) and for players on web pages (CORS).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::http::{Body, HttpAnswer, HttpRequest};
use super::times;
use super::{ControlContext, drm};
use crate::catalog::MediaRow;
use crate::units::{FileId, Format};

/// Where file addresses begin.
pub const PREFIX: &str = "/vod/";
/// A playlist that is read as a whole: a day of one-second segments is below 10 MiB.
const PLAYLIST_BYTES_MAX: u64 = 32 << 20;

/// Answers a request whose path begins with [`PREFIX`].
pub fn answer(context: &ControlContext, request: &HttpRequest) -> HttpAnswer {
    let head_only = match request.method.as_str() {
        "GET" => false,
        "HEAD" => true,
        "OPTIONS" => return preflight(),
        _ => return cors(HttpAnswer::text(405, "text/plain", "Use GET or HEAD.\n")).with("Allow", "GET, HEAD, OPTIONS"),
    };
    let Some((file_id, name)) = parse_path(request.path(), context.app_id) else { return not_found() };
    let found = match context.catalog.playable(file_id) {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, file = %file_id, "the catalog cannot be read for a download");
            return cors(HttpAnswer::text(503, "text/plain", "The catalog cannot be read.\n"));
        }
    };
    let Some((row, is_played)) = found else { return not_found() };
    if !is_played {
        return cors(HttpAnswer::text(403, "text/plain", "The application of this file is switched off.\n"));
    }
    let (token, name) = drm::split_token(name).map_or((None, name), |(token, name)| (Some(token), name));
    let Some(part) = part_name(&row, name) else { return not_found() };
    match open(&context.media_root, &row.file.folder, part) {
        Ok((file, stat)) if token.is_some_and(|_| row.extras.results.has(part)) => {
            playlist_with_token(file, &stat, token.unwrap_or_default(), head_only)
        }
        Ok(_) if token.is_some() => not_found(),
        Ok((file, stat)) => serve(request, head_only, file, &stat, file_id, part),
        Err(error) if error.kind() == io::ErrorKind::NotFound => not_found(),
        Err(error) => {
            tracing::warn!(%error, file = %file_id, part, "a file of the catalog cannot be opened");
            not_found()
        }
    }
}

fn not_found() -> HttpAnswer {
    cors(HttpAnswer::text(404, "text/plain", "There is no such file.\n"))
}

/// Any page may play the files: the address is what protects them.
fn cors(answer: HttpAnswer) -> HttpAnswer {
    answer.with("Access-Control-Allow-Origin", "*")
}

fn preflight() -> HttpAnswer {
    cors(HttpAnswer::empty(204))
        .with("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
        .with("Access-Control-Allow-Headers", "Range, If-Range, If-None-Match, If-Modified-Since")
        .with("Access-Control-Max-Age", "86400")
}

/// FileId and last part of `/vod/<AppId>/<FileId>/<name>`.
fn parse_path(path: &str, app_id: u64) -> Option<(FileId, &str)> {
    let mut parts = path.strip_prefix(PREFIX)?.split('/');
    let (app, file, name) = (parts.next()?, parts.next()?, parts.next()?);
    let is_ours = parts.next().is_none() && app == app_id.to_string() && !name.is_empty();
    if is_ours { FileId::parse(file).map(|file| (file, name)) } else { None }
}

/// The file in the entry's folder that `requested` means.
///
/// The entry itself goes by its extension alone: its catalog name may be any text and may change. Beside a playlist lie its parts, under names
/// that we gave them.
fn part_name<'a>(row: &'a MediaRow, requested: &'a str) -> Option<&'a str> {
    let (_, extension) = requested.rsplit_once('.')?;
    let format = row.file.identity.format;
    if requested.strip_prefix("cover.").is_some_and(|extension| row.extras.cover.as_deref() == Some(extension)) {
        return Some(requested);
    }
    if row.extras.results.has(requested) {
        return Some(requested);
    }
    if row.extras.original_deleted {
        return None;
    }
    if extension == format.extension() {
        return Some(&row.file.entry);
    }
    // `init-<n>.m4s`, `media-<n>.m4s`, `media-<n>.ts`: not our notes, which lie there too.
    let (stem, extension) = requested.split_once('.')?;
    let (kind, number) = stem.split_once('-')?;
    let numbered = !number.is_empty() && number.len() <= 9 && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_part = matches!((kind, extension), ("init", "m4s") | ("media", "m4s" | "ts"));
    (format == Format::Hls && numbered && is_part).then_some(requested)
}

/// Opens a file of the catalog, and nothing outside `root`, wherever links in the folder or in the name point.
fn open(root: &Path, folder: &str, part: &str) -> io::Result<(File, std::fs::Metadata)> {
    let outside = || io::Error::new(io::ErrorKind::PermissionDenied, "the file lies outside the data folder");
    let root = root.canonicalize()?;
    let folder = root.join(folder).canonicalize()?;
    if !folder.starts_with(&root) || part.contains('/') {
        return Err(outside());
    }
    // Not through a link, and not waiting for the other end of a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(folder.join(part))?;
    let stat = file.metadata()?;
    if stat.is_file() { Ok((file, stat)) } else { Err(outside()) }
}

/// What was noted beside a recording when it was finished.
///
/// # Errors
/// If it cannot be read or is longer than `bytes_max`.
pub fn read_receipt(root: &Path, folder: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
    let (file, stat) = open(root, folder, "recording.json")?;
    if stat.len() > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the receipt is too large"));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An encrypted stream's playlist for whoever has a token: small, and another one for each token.
fn playlist_with_token(mut file: File, stat: &std::fs::Metadata, token: &str, head_only: bool) -> HttpAnswer {
    let mut text = String::new();
    if stat.len() > PLAYLIST_BYTES_MAX || file.read_to_string(&mut text).is_err() {
        return not_found();
    }
    let body = if head_only { Vec::new() } else { drm::with_token(&text, token).into_bytes() };
    cors(HttpAnswer::text(200, "application/vnd.apple.mpegurl", body)).with("Cache-Control", "no-store")
}

fn serve(request: &HttpRequest, head_only: bool, mut file: File, stat: &std::fs::Metadata, file_id: FileId, part: &str) -> HttpAnswer {
    let size = stat.len();
    let modified = stat.mtime();
    let etag = format!("\"{file_id}-{size:x}-{modified:x}{:x}\"", stat.mtime_nsec());
    let base = |status: u16| {
        cors(HttpAnswer::empty(status))
            .with("Access-Control-Expose-Headers", "Content-Length, Content-Range, Accept-Ranges, ETag")
            .with("Accept-Ranges", "bytes")
            .with("ETag", etag.as_str())
            .with("Last-Modified", times::http_date(modified))
    };
    if is_unchanged(request, &etag, modified) {
        return base(304);
    }
    let range = match request.header("Range") {
        Some(range) if !head_only && range_applies(request, &etag, modified) => select_range(range, size),
        _ => Range::Whole,
    };
    let (status, start, length) = match range {
        Range::Whole => (200, 0, size),
        Range::Part { start, length } => (206, start, length),
        Range::Unsatisfiable => return base(416).with("Content-Range", format!("bytes */{size}")),
    };
    if start > 0
        && let Err(error) = file.seek(SeekFrom::Start(start))
    {
        tracing::warn!(%error, file = %file_id, "seeking in a finished file");
        return not_found();
    }
    let mut answer = base(status).with("Content-Type", content_type(part)).with("X-Content-Type-Options", "nosniff");
    if status == 206 {
        answer = answer.with("Content-Range", format!("bytes {start}-{}/{size}", start + length - 1));
    }
    answer.body = Body::File { file, length };
    answer
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

/// The client has this very version (RFC 9110, 13.2.2).
fn is_unchanged(request: &HttpRequest, etag: &str, modified: i64) -> bool {
    if let Some(tags) = request.header("If-None-Match") {
        return tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag);
    }
    request.header("If-Modified-Since").and_then(times::read_http_date).is_some_and(|since| modified <= since)
}

/// A range counts unless `If-Range` names another version (RFC 9110, 13.1.5).
fn range_applies(request: &HttpRequest, etag: &str, modified: i64) -> bool {
    match request.header("If-Range") {
        None => true,
        Some(tag) if tag.starts_with('"') || tag.starts_with("W/") => tag == etag,
        Some(date) => times::read_http_date(date) == Some(modified),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Range {
    Whole,
    Part { start: u64, length: u64 },
    Unsatisfiable,
}

/// What a `Range` header selects of `size` bytes. Several ranges, other units and nonsense select the whole file (RFC 9110, 14.2).
fn select_range(header: &str, size: u64) -> Range {
    let number = |text: &str| if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse::<u64>().ok() } else { None };
    let Some((unit, set)) = header.trim().split_once('=') else { return Range::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Range::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Range::Whole;
    }
    match (first, last) {
        ("", last) => match number(last) {
            None => Range::Whole,
            Some(0) => Range::Unsatisfiable,
            Some(_) if size == 0 => Range::Unsatisfiable,
            Some(count) => Range::Part { start: size - count.min(size), length: count.min(size) },
        },
        (first, last) => {
            let Some(start) = number(first) else { return Range::Whole };
            let end = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            match end {
                None => Range::Whole,
                Some(end) if end < start => Range::Whole,
                Some(_) if start >= size => Range::Unsatisfiable,
                Some(end) => Range::Part { start, length: end.min(size - 1) - start + 1 },
            }
        }
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
    use super::super::actions::media_info::tests::row;
    use super::*;

    #[test]
    fn paths() {
        let id = FileId::parse("387702290000000001").unwrap();
        for (path, expected) in [
            ("/vod/5/387702290000000001/a.mp4", Some((id, "a.mp4"))),
            ("/vod/5/387702290000000001/%E6%96%B0%2F..mp4", Some((id, "%E6%96%B0%2F..mp4"))),
            ("/vod/6/387702290000000001/a.mp4", None),
            ("/vod/05/387702290000000001/a.mp4", None),
            ("/vod/5/387702290000000001/", None),
            ("/vod/5/387702290000000001", None),
            ("/vod/5/387702290000000001/x/a.mp4", None),
            ("/vod/5/1/a.mp4", None),
            ("/vod/5/../a.mp4", None),
            ("/vod/", None),
        ] {
            assert_eq!(parse_path(path, 5), expected, "{path}");
        }
    }

    #[test]
    fn parts_of_an_entry() {
        let (mp4, hls) = (row(Format::Mp4, true), row(Format::Hls, true));
        for (row, name, expected) in [
            (&mp4, "anything.mp4", Some("camera-1.mp4")),
            (&mp4, "..mp4", Some("camera-1.mp4")),
            (&mp4, "camera-1.flv", None),
            (&mp4, "camera-1.mp4.recording", None),
            (&mp4, "mp4", None),
            (&hls, "x.m3u8", Some("camera-1.m3u8")),
            (&hls, "media-1.m4s", Some("media-1.m4s")),
            (&hls, "init-1.m4s", Some("init-1.m4s")),
            (&hls, "media-1.ts", Some("media-1.ts")),
            (&hls, "recording.json", None),
            (&hls, "media-1.json", None),
            (&hls, "media-.ts", None),
            (&hls, "..", None),
            (&hls, ".hidden", None),
            (&hls, "a b.ts", None),
            (&hls, "a\\b.ts", None),
            (&hls, "a\0.ts", None),
        ] {
            assert_eq!(part_name(row, name), expected, "{name}");
        }
    }

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
            ("bytes=a-b", 10, Range::Whole),
            ("bytes=+1-2", 10, Range::Whole),
            ("bytes=-", 10, Range::Whole),
            ("lines=1-2", 10, Range::Whole),
            ("bytes", 10, Range::Whole),
            ("bytes=18446744073709551615-18446744073709551615", 10, Range::Unsatisfiable),
            ("bytes=1-18446744073709551616", 10, Range::Whole),
        ] {
            assert_eq!(select_range(header, size), expected, "{header} of {size}");
        }
    }

    fn read(answer: HttpAnswer) -> (u16, Vec<u8>) {
        match answer.body {
            Body::Bytes(bytes) => (answer.status, bytes),
            Body::File { file, length } => {
                let mut bytes = Vec::new();
                file.take(length).read_to_end(&mut bytes).unwrap();
                (answer.status, bytes)
            }
        }
    }

    #[test]
    fn files_are_served_with_ranges_and_conditions() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("media/1")).unwrap();
        std::fs::write(root.path().join("media/1/a.mp4"), b"0123456789").unwrap();
        let id = FileId::parse("387702290000000001").unwrap();
        let get = |headers: &[(&str, &str)], head_only: bool| {
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let request = HttpRequest { headers, ..HttpRequest::default() };
            let (file, stat) = open(root.path(), "media/1", "a.mp4").unwrap();
            serve(&request, head_only, file, &stat, id, "a.mp4")
        };
        let whole = get(&[], false);
        let header = |name: &str| whole.header(name).unwrap().to_owned();
        assert_eq!(
            (header("Content-Type"), header("Accept-Ranges"), header("Access-Control-Allow-Origin")),
            ("video/mp4".into(), "bytes".into(), "*".into())
        );
        let (etag, modified) = (header("ETag"), header("Last-Modified"));
        assert_eq!(read(whole), (200, b"0123456789".to_vec()));
        let part = get(&[("Range", "bytes=3-5")], false);
        assert_eq!(part.header("Content-Range"), Some("bytes 3-5/10"));
        assert_eq!(read(part), (206, b"345".to_vec()));
        assert_eq!(read(get(&[("Range", "bytes=-2")], false)), (206, b"89".to_vec()));
        assert_eq!(read(get(&[("Range", "bytes=0-1,4-5")], false)).0, 200);
        let unsatisfiable = get(&[("Range", "bytes=10-")], false);
        assert_eq!((unsatisfiable.status, unsatisfiable.header("Content-Range")), (416, Some("bytes */10")));
        assert_eq!(get(&[("Range", "bytes=3-5")], true).status, 200);
        for (headers, status) in [
            (vec![("If-None-Match", etag.as_str())], 304),
            (vec![("If-None-Match", "\"x\", *")], 304),
            (vec![("If-None-Match", "\"x\""), ("If-Modified-Since", modified.as_str())], 200),
            (vec![("If-Modified-Since", modified.as_str())], 304),
            (vec![("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")], 200),
            (vec![("Range", "bytes=3-5"), ("If-Range", etag.as_str())], 206),
            (vec![("Range", "bytes=3-5"), ("If-Range", "\"x\"")], 200),
            (vec![("Range", "bytes=3-5"), ("If-Range", modified.as_str())], 206),
            (vec![("Range", "bytes=3-5"), ("If-Range", "Thu, 01 Jan 1970 00:00:00 GMT")], 200),
        ] {
            assert_eq!(get(&headers, false).status, status, "{headers:?}");
        }
    }

    #[test]
    fn nothing_outside_is_opened() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.mp4"), b"x").unwrap();
        let folder = root.path().join("media/1");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir(folder.join("dir.mp4")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.mp4"), folder.join("link.mp4")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("media/2")).unwrap();
        for (folder, part) in [
            ("media/1", "link.mp4"),
            ("media/1", "dir.mp4"),
            ("media/2", "secret.mp4"),
            ("media/1", "absent.mp4"),
            ("..", "x"),
            ("media/1", "../1/x"),
        ] {
            assert!(open(root.path(), folder, part).is_err(), "{folder} {part}");
        }
    }

    #[test]
    fn preflights() {
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
