//! From an address to what it means: `/vod/<AppId>/<FileId>/<name>`, finished or still being recorded, and `/live/<AppId>/<domain>/<app>/<stream>.m3u8`.
//!
//! The one place that decides which file an address opens. Everything lies in a folder of ours, under a name that we gave it; what the address says is
//! compared with these names, never used as a path.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use rustix::fs::OFlags;

use super::answer::{self, Caching, not_found, refused};
use super::http::{Answer, Request, Stored};
use super::{Context, playlist};
use crate::container::hls::LIVE_PLAYLIST_NAME;
use crate::domain::flow::FileResults;
use crate::domain::naming::disk_slug;
use crate::domain::url_sign::UrlError;
use crate::domain::vod::RING_APP;
use crate::domain::{FinishedFile, RecordingIdentity};
use crate::segment::Storage;
use crate::segment::finish::read_identity;
use crate::segment::moves::{self, FileKey, MOVES};
use crate::segment::open::Watched;
use crate::units::{FileId, Format, StreamKey};

/// Where addresses begin.
pub const VOD_PREFIX: &str = "/vod/";
pub const LIVE_PREFIX: &str = "/live/";

/// Does the path belong to media?
pub fn is_media(path: &str) -> bool {
    path.starts_with(VOD_PREFIX) || path.starts_with(LIVE_PREFIX)
}

/// What became of a request.
#[derive(Debug)]
pub enum Answered {
    Now(Answer),
    /// A playlist that has no segment yet: asked again in a moment there may be one.
    NotYet,
}

/// A recording as far as its files go.
#[derive(Clone, Debug)]
pub struct Entry {
    pub identity: RecordingIdentity,
    /// Its place.
    pub folder: String,
    /// The file in it that a player opens.
    pub entry: String,
    /// It is still being recorded.
    pub growing: bool,
    /// Extension of the cover picture.
    pub cover: Option<String>,
    pub original_deleted: bool,
    /// No file of it holds more than one track of a kind.
    pub has_single_tracks: bool,
    /// What was made of it, beside it.
    pub results: FileResults,
    /// The application it lies in.
    pub sub_app_id: u64,
    /// The status of its application is `On`.
    pub is_played: bool,
}

/// Answers any request for media.
pub fn answer(context: &Context, request: &Request<'_>) -> Answered {
    match request.method {
        "GET" | "HEAD" => {}
        "OPTIONS" => return Answered::Now(answer::preflight()),
        _ => return Answered::Now(refused(405, "Use GET or HEAD.").with("Allow", "GET, HEAD, OPTIONS")),
    }
    match request.path() {
        path if path.starts_with(LIVE_PREFIX) => Answered::Now(live(context, request)),
        path => vod(context, request, path).unwrap_or_else(|| Answered::Now(not_found())),
    }
}

/// FileId and last part of `/vod/<AppId>/<FileId>/<name>`.
fn parse_path(path: &str, app_id: u64) -> Option<(FileId, &str)> {
    let mut parts = path.strip_prefix(VOD_PREFIX)?.split('/');
    let (app, file, name) = (parts.next()?, parts.next()?, parts.next()?);
    let is_ours = parts.next().is_none() && app == app_id.to_string() && !name.is_empty();
    if is_ours { FileId::parse(file).map(|file| (file, name)) } else { None }
}

/// Names of adaptive streams begin with this.
const ADAPTIVE_PREFIX: &str = "adp.";

/// `None`: there is no such file.
fn vod(context: &Context, request: &Request<'_>, path: &str) -> Option<Answered> {
    let (file_id, name) = parse_path(path, context.app_id)?;
    let entry = match entry(context, file_id) {
        Ok(entry) => entry?,
        Err(error) => {
            tracing::error!(%error, file = %file_id, "the catalog cannot be read for a download");
            return Some(Answered::Now(refused(503, "The catalog cannot be read.")));
        }
    };
    if !entry.is_played {
        return Some(Answered::Now(refused(403, "The application of this file is switched off.")));
    }
    let pass = match context.protections.check(entry.sub_app_id, request, (context.clock)().unix_seconds()) {
        Ok(pass) => pass,
        Err(error) => return Some(Answered::Now(forbidden(error))),
    };
    let Some(pass) = pass else { return named(context, request, &entry, name) };
    if !name.ends_with(".m3u8") && !name.ends_with(".vtt") {
        let answered = named(context, request, &entry, name)?;
        return Some(match (answered, pass.granted.upto) {
            (Answered::Now(answer), Some(upto)) if !answer.ends_before(upto) => Answered::Now(forbidden(UrlError::Preview)),
            (answered, _) => answered,
        });
    }
    // The whole list, which nobody else gets alike: neither a part of it nor whether it has changed is of use.
    let headers: Vec<_> = request.headers.iter().filter(|(name, _)| !answer::is_conditional(name)).cloned().collect();
    let whole = Request { headers: &headers, ..*request };
    Some(match named(context, &whole, &entry, name)? {
        Answered::Now(answer) if answer.status == 200 => match answer.into_text() {
            Ok((content_type, text)) => {
                let text = pass.list(&text, request.path());
                Answered::Now(answer::cors(Answer::text(200, &content_type, text)).with("Cache-Control", "no-store"))
            }
            Err(error) => {
                tracing::warn!(%error, file = %file_id, name, "a playlist cannot be read");
                Answered::Now(refused(500, "The playlist cannot be read."))
            }
        },
        other => other,
    })
}

fn forbidden(error: UrlError) -> Answer {
    let sentence = error.to_string();
    let (first, rest) = sentence.split_at(1);
    refused(403, &format!("{}{rest}.", first.to_uppercase())).with("Cache-Control", "no-store")
}

/// What stands at this name in the folder of a recording.
fn named(context: &Context, request: &Request<'_>, entry: &Arc<Entry>, name: &str) -> Option<Answered> {
    let file_id = entry.identity.file_id;
    let (token, name) = playlist::split_token(name).map_or((None, name), |(token, name)| (Some(token), name));
    if !entry.results.has(name) {
        if token.is_some() && entry.identity.encryption.is_none() {
            return None;
        }
        // An adaptive stream that is no more is not the recording under another name.
        if !name.starts_with(ADAPTIVE_PREFIX)
            && let Some(made) = playlist::answer(context, request, entry, (name, token))
        {
            return Some(made);
        }
    }
    let part = part_name(entry, name)?;
    let caching = if entry.growing { Caching::Growing } else { Caching::Finished };
    let stored = stored(context, entry, part).inspect_err(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(%error, file = %file_id, part, "a file of a recording cannot be opened");
        }
    });
    if stored.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
        return Some(Answered::Now(refused(503, "The disk of this recording does not answer.")));
    }
    if let Some(token) = token {
        return playlist::with_token_of(stored.ok()?, token).map(Answered::Now);
    }
    // A part of a recording lies where it will stay: it may be kept, though the playlist may not.
    let caching = if part.ends_with(".m3u8") { caching } else { Caching::Finished };
    Some(Answered::Now(answer::file(request, stored.ok()?, &file_id.to_string(), part, caching)))
}

/// The recording with this id: finished, or open.
pub fn entry(context: &Context, file_id: FileId) -> Result<Option<Arc<Entry>>, crate::catalog::CatalogError> {
    if let Some(entry) = cataloged(context, file_id)? {
        return Ok(Some(entry));
    }
    let opened = open_entry(context, file_id);
    match opened {
        Some(entry) => Ok(Some(Arc::new(entry))),
        // It may have been finished between the two looks.
        None => cataloged(context, file_id),
    }
}

fn cataloged(context: &Context, file_id: FileId) -> Result<Option<Arc<Entry>>, crate::catalog::CatalogError> {
    let version = context.catalog.version();
    if let Some(entry) = context.cache.entry(version, file_id) {
        return Ok(Some(entry));
    }
    let Some((row, is_played)) = context.catalog.playable(file_id)? else { return Ok(None) };
    let FinishedFile { identity, folder, entry, summary, .. } = row.file;
    // What is kept for a while is as the recordings of its application are.
    let sub_app_id = if row.sub_app_id == RING_APP { identity.vod_sub_app_id } else { row.sub_app_id };
    let entry = Arc::new(Entry {
        identity,
        folder,
        entry,
        growing: false,
        cover: row.extras.cover,
        original_deleted: row.extras.original_deleted,
        has_single_tracks: summary.further_video.is_empty() && summary.further_audio.is_empty(),
        results: row.extras.results,
        sub_app_id,
        is_played,
    });
    context.cache.keep_entry(version, file_id, &entry);
    Ok(Some(entry))
}

/// A recording that is not in the catalog: in the folder of open ones, or finished a moment ago.
fn open_entry(context: &Context, file_id: FileId) -> Option<Entry> {
    // Only what is known to be there is looked for: a disk that hangs would hold up everybody.
    let index = context.storage.of_open(file_id)?;
    let recording = context.storage.finish[index].recording_folder();
    let entry = |identity: RecordingIdentity, folder: String, entry: String, growing: bool| {
        let sub_app_id = identity.vod_sub_app_id;
        let is_played = context.catalog.is_app_on(sub_app_id).unwrap_or(false);
        Entry {
            identity,
            folder,
            entry,
            growing,
            cover: None,
            original_deleted: false,
            has_single_tracks: false,
            results: FileResults::default(),
            sub_app_id,
            is_played,
        }
    };
    if let Ok(identity) = read_identity(&recording.join(file_id.to_string()), file_id) {
        let name = match identity.format {
            Format::Hls => LIVE_PLAYLIST_NAME.to_owned(),
            // The one media file of the recording.
            format => crate::segment::finish::media_name(1, format.extension()),
        };
        return Some(entry(identity, context.storage.folders.place(index, &format!("recording/{file_id}")), name, true));
    }
    let bytes = std::fs::read(recording.join(format!("{file_id}.finished"))).ok()?;
    let file = context.storage.placed(index, serde_json::from_slice(&bytes).ok()?);
    Some(entry(file.identity, file.folder, file.entry, false))
}

/// The file in the entry's folder that `requested` means.
///
/// The entry itself goes by its extension alone: its catalog name may be any text and may change. Beside a playlist lie its parts, under names
/// that we gave them.
fn part_name<'a>(entry: &'a Entry, requested: &'a str) -> Option<&'a str> {
    let (_, extension) = requested.rsplit_once('.')?;
    let format = entry.identity.format;
    if requested.strip_prefix("cover.").is_some_and(|extension| entry.cover.as_deref() == Some(extension)) {
        return Some(requested);
    }
    if entry.results.has(requested) {
        return Some(requested);
    }
    if entry.original_deleted {
        return None;
    }
    if extension == format.extension() {
        return Some(&entry.entry);
    }
    (format == Format::Hls && is_part(requested)).then_some(requested)
}

/// `init-<n>.m4s`, `media-<n>.m4s`, `media-<n>.ts`: not our notes, which lie there too.
pub fn is_part(name: &str) -> bool {
    let Some((kind, rest)) = name.split_once('-') else { return false };
    let Some((number, extension)) = rest.split_once('.') else { return false };
    let numbered = !number.is_empty() && number.len() <= 9 && number.bytes().all(|byte| byte.is_ascii_digit());
    numbered && matches!((kind, extension), ("init", "m4s") | ("media", "m4s" | "ts"))
}

/// Opens a file of an entry, or takes it from those that are open.
///
/// # Errors
/// If there is none, or it lies outside our folders.
pub fn stored(context: &Context, entry: &Entry, part: &str) -> io::Result<Stored> {
    let id = entry.identity.file_id;
    let version = context.catalog.version();
    // Also what is open already is not read from a disk that hangs: whoever sends would wait for it.
    context.storage.locate(&entry.folder)?;
    if !entry.growing
        && let Some(stored) = context.cache.file(version, id, part)
    {
        return Ok(stored);
    }
    let folder = inside(&context.storage, &entry.folder)?;
    let is_addressed_as_recorded = entry.identity.format == Format::Hls && part.ends_with(".m4s");
    let stored = loop {
        let file = open(&folder, part)?;
        let key = FileKey::of(&file.metadata()?);
        // Length and note are of one moment.
        let read = MOVES.try_read(key, 0, |_| {
            let stat = file.metadata()?;
            let noted = if is_addressed_as_recorded { moves::noted(&folder, part) } else { 0 };
            Ok::<_, io::Error>((stat, noted))
        });
        let Some(read) = read else {
            std::thread::yield_now();
            continue;
        };
        let (stat, noted) = read?;
        let may_move = is_addressed_as_recorded && (entry.growing || noted > 0);
        let moved = may_move.then_some((key, noted));
        break Stored { file: Arc::new(file), length: stat.len().saturating_sub(noted), modified: (stat.mtime(), stat.mtime_nsec()), moved };
    };
    if !entry.growing {
        context.cache.keep_file(version, id, part, &stored);
    }
    Ok(stored)
}

/// A folder of a recording, and nothing outside of where recordings lie, wherever links point.
fn inside(storage: &Storage, place: &str) -> io::Result<PathBuf> {
    let (_, settings, folder) = storage.locate(place)?;
    let data = &settings.data_folder;
    let outside = || io::Error::new(io::ErrorKind::PermissionDenied, "the file lies outside the media folder");
    let (room, rest) = folder.split_once('/').ok_or_else(outside)?;
    if !matches!(room, "media" | "recording") {
        return Err(outside());
    }
    // The media folder itself may be a link to another disk.
    let room = data.join(room).canonicalize()?;
    let folder = room.join(rest).canonicalize()?;
    if folder.starts_with(&room) && folder != room { Ok(folder) } else { Err(outside()) }
}

/// What was noted beside a recording when it was finished.
///
/// # Errors
/// If it cannot be read or is longer than `bytes_max`.
pub fn read_receipt(storage: &Storage, place: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = open(&inside(storage, place)?, crate::segment::finish::FINISHED_NAME)?;
    if file.metadata()?.len() > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the receipt is too large"));
    }
    let mut bytes = Vec::new();
    io::Read::take(file, bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open(folder: &Path, part: &str) -> io::Result<File> {
    if part.contains('/') {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // Not through a link, and not waiting for the other end of a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(folder.join(part))?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// `/live/<AppId>/<domain>/<app>/<stream>.m3u8`: leads to the recording by which the stream is watched, and for a while after its end to what was watched.
fn live(context: &Context, request: &Request<'_>) -> Answer {
    let path = request.path();
    let found = || {
        let rest = path.strip_prefix(LIVE_PREFIX)?.strip_prefix(&context.app_id.to_string())?.strip_prefix('/')?;
        let parts: Vec<_> = rest.split('/').map(|part| percent_decode_str(part).decode_utf8().ok()).collect::<Option<_>>()?;
        let [domain, app @ .., name] = parts.as_slice() else { return None };
        let (app, stream) = (app.join("/"), name.strip_suffix(".m3u8")?);
        let is_it = |key: &StreamKey| key.domain.eq_ignore_ascii_case(domain) && *key.app == *app && *key.stream == *stream;
        let Watched { identity, is_open } = context.open.watched((context.storage.clock)(), is_it)?;
        // It may have held nothing, or have been deleted.
        if !is_open && entry(context, identity.file_id).is_ok_and(|entry| entry.is_none_or(|entry| entry.original_deleted)) {
            return None;
        }
        // Relative: what is before our path, behind a proxy, is not ours to know.
        let up = "../".repeat(parts.len() + 1);
        Some((up, identity))
    };
    let Some((up, newest)) = found() else { return refused(404, "No recording of this stream is open, or was a moment ago, that can be watched.") };
    let dir = format!("{VOD_PREFIX}{}/{}/", context.app_id, newest.file_id);
    let mut target = format!("{up}{}{}.m3u8", &dir[1..], disk_slug(&newest.key.stream));
    match context.protections.check(newest.vod_sub_app_id, request, (context.clock)().unix_seconds()) {
        Ok(None) => {}
        Ok(Some(pass)) => target = pass.protection.signed(&target, &dir, &pass.granted.terms),
        Err(error) => return forbidden(error),
    }
    answer::cors(Answer::empty(302)).with("Location", target).with("Cache-Control", "no-cache")
}

#[cfg(test)]
mod tests {
    use super::super::tests::identity;
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
        let entry = |format: Format| Entry {
            identity: identity(format),
            folder: "media/1/2".to_owned(),
            entry: format!("camera-1.{}", format.extension()),
            growing: false,
            cover: None,
            original_deleted: false,
            has_single_tracks: true,
            results: FileResults::default(),
            sub_app_id: 0,
            is_played: true,
        };
        let (mp4, hls) = (entry(Format::Mp4), entry(Format::Hls));
        for (entry, name, expected) in [
            (&mp4, "anything.mp4", Some("camera-1.mp4")),
            (&mp4, "..mp4", Some("camera-1.mp4")),
            (&mp4, "camera-1.flv", None),
            (&mp4, "camera-1.mp4.recording", None),
            (&mp4, "mp4", None),
            (&hls, "x.m3u8", Some("camera-1.m3u8")),
            (&hls, "media-1.m4s", Some("media-1.m4s")),
            (&hls, "init-1.m4s", Some("init-1.m4s")),
            (&hls, "media-1.ts", Some("media-1.ts")),
            (&hls, "moved-media-1.m4s", None),
            (&hls, "recording.json", None),
            (&hls, "media-1.json", None),
            (&hls, "media-.ts", None),
            (&hls, "..", None),
            (&hls, ".hidden", None),
            (&hls, "a b.ts", None),
            (&hls, "a\\b.ts", None),
            (&hls, "a\0.ts", None),
        ] {
            assert_eq!(part_name(entry, name), expected, "{name}");
        }
    }

    #[test]
    fn nothing_outside_is_opened() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.mp4"), b"x").unwrap();
        let folder = root.path().join("media/1");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a.mp4"), b"x").unwrap();
        std::fs::create_dir(folder.join("dir.mp4")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.mp4"), folder.join("link.mp4")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("media/2")).unwrap();
        std::fs::write(root.path().join("catalog.sqlite"), b"x").unwrap();
        let storage = |path: &Path| {
            let settings = crate::segment::finish::FinishSettings {
                data_folder: path.to_owned(),
                insert_supported: false,
                time_zone: jiff::tz::TimeZone::UTC,
                hls_segment_ms: 4_000,
            };
            Storage::single(settings, crate::units::MonoTime::default)
        };
        let ours = storage(root.path());
        let opened = |folder: &str, part: &str| inside(&ours, folder).and_then(|folder| open(&folder, part));
        assert!(opened("media/1", "a.mp4").is_ok());
        for (folder, part) in [
            ("media/1", "link.mp4"),
            ("media/1", "dir.mp4"),
            ("media/2", "secret.mp4"),
            ("media/1", "absent.mp4"),
            ("media/..", "catalog.sqlite"),
            ("media/1", "../../catalog.sqlite"),
            ("media/.", "1/a.mp4"),
            (".", "catalog.sqlite"),
            ("..", "x"),
            ("d1/media/1", "a.mp4"),
            ("/media/1", "a.mp4"),
        ] {
            assert!(opened(folder, part).is_err(), "{folder} {part}");
        }
        // On another disk by a link of the operator's.
        let other = tempfile::tempdir().unwrap();
        std::fs::create_dir(other.path().join("data")).unwrap();
        std::os::unix::fs::symlink(root.path().join("media"), other.path().join("data/media")).unwrap();
        assert!(inside(&storage(&other.path().join("data")), "media/1").and_then(|folder| open(&folder, "a.mp4")).is_ok());
    }
}
