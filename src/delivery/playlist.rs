//! Playlists as they are served: growing ones, finished ones whose parts have moved, clips, and those of recordings that have none.

use std::io::{self, Read as _};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::answer::{self, Caching, refused};
use super::clip::{self, ClipName, ClipOf};
use super::http::{Answer, FileBody, Request, Stored, TEXT_BYTES_MAX};
use super::resolve::{Answered, Entry, stored};
use super::{Context, count, renditions};
use crate::container::{ScanError, flv, hls, mp4};
use crate::segment::finish::FileReader;
use crate::segment::moves;
use crate::units::Format;

/// Answers for a playlist, or for a segment that is packaged; `None`: `name` is none of these.
pub fn answer(context: &Context, request: &Request<'_>, entry: &Arc<Entry>, (name, token): (&str, Option<&str>)) -> Option<Answered> {
    if entry.original_deleted {
        return None;
    }
    match entry.identity.format {
        Format::Hls if name.ends_with(".m3u8") => Some(recorded(context, request, entry, (name, token))),
        Format::Hls => renditions::part(context, request, entry, name).map(Answered::Now),
        Format::Mp4 | Format::Flv => packaged(context, request, entry, name).map(Answered::Now),
        _ => None,
    }
}

fn text(request: &Request<'_>, text: String, caching: Caching) -> Answered {
    Answered::Now(answer::bytes(request, text.into_bytes(), "x.m3u8", caching))
}

/// The playlist of an HLS recording, or of a clip of it.
fn recorded(context: &Context, request: &Request<'_>, entry: &Arc<Entry>, (name, token): (&str, Option<&str>)) -> Answered {
    let text = |request: &Request<'_>, list: String, caching: Caching| match token {
        // Another one for each token.
        Some(token) => Answered::Now(
            answer::cors(Answer::text(200, "application/vnd.apple.mpegurl", with_token(&list, token))).with("Cache-Control", "no-store"),
        ),
        None => text(request, list, caching),
    };
    let home = entry.identity.file_id;
    let (rendition, name) = renditions::wanted(name);
    let text = |request: &Request<'_>, list: String, caching: Caching| match renditions::served(context, entry, (rendition, name), list) {
        Some(list) => text(request, list, caching),
        None => Answered::Now(answer::not_found()),
    };
    let parts = match ClipName::parse(name) {
        Some(ClipName::Recording { start_ms, end_ms }) => clip::of_recording(context, entry, start_ms, end_ms),
        Some(ClipName::Stream { start, end }) => {
            let key = &entry.identity.key;
            let of = ClipOf { sub_app_id: entry.sub_app_id, stream: &key.stream, domain: &key.domain, app: Some(&*key.app) };
            match clip::of_stream(context, &of, start, end) {
                Ok(parts) => parts,
                Err(error) => {
                    tracing::error!(%error, "the catalog cannot be read for a clip");
                    return Answered::Now(refused(503, "The catalog cannot be read."));
                }
            }
        }
        None => {
            return match served_text(context, entry) {
                // Players give up at a list without a segment.
                Some(list) if !entry.growing || list.contains("#EXTINF") => {
                    text(request, list, if entry.growing { Caching::Growing } else { Caching::Finished })
                }
                _ if entry.growing => Answered::NotYet,
                _ => Answered::Now(answer::not_found()),
            };
        }
    };
    if parts.is_empty() {
        return Answered::Now(refused(404, "Nothing of this clip is left."));
    }
    text(request, clip::playlist(&parts, home), Caching::Growing)
}

/// The playlist of an HLS recording as viewers see it: parts are addressed as they were recorded, so that what was loaded while it grew stays true.
pub fn served_text(context: &Context, entry: &Entry) -> Option<String> {
    let stored = stored(context, entry, &entry.entry).ok()?;
    let length = stored.length.min(TEXT_BYTES_MAX);
    let mut text = String::with_capacity(length as usize);
    FileBody { stored, start: 0, length }.read_to_string(&mut text).ok()?;
    if entry.growing {
        return Some(text);
    }
    let folder = context.storage.path_of(&entry.folder).ok()?;
    Some(hls::unshift_ranges(&text, |part| moves::noted(&folder, part)).unwrap_or(text))
}

/// What is kept of a recording that is packaged.
#[derive(Debug)]
pub struct Packaged {
    stored: Stored,
    index: Index,
}

/// Where the samples of a recording are, and how they are cut.
#[derive(Debug)]
enum Index {
    /// All of them.
    Samples { movie: mp4::Movie, segments: Vec<mp4::MovieSegment> },
    /// Those of each segment are read when it is asked for: the file says where its key frames are.
    KeyFrames { outline: flv::Outline, segments: Vec<flv::Stretch> },
}

impl Packaged {
    /// It is of this very file, as it is now.
    pub fn is_of(&self, stored: &Stored) -> bool {
        (self.stored.length, self.stored.modified) == (stored.length, stored.modified)
    }

    fn init(&self) -> Vec<u8> {
        match &self.index {
            Index::Samples { movie, .. } => mp4::init(movie),
            Index::KeyFrames { outline, .. } => mp4::init(&outline.tracks()),
        }
    }

    fn durations_ms(&self) -> Vec<u64> {
        match &self.index {
            Index::Samples { segments, .. } => segments.iter().map(|segment| segment.duration_ms).collect(),
            Index::KeyFrames { segments, .. } => segments.iter().map(|segment| segment.duration_ms).collect(),
        }
    }

    /// Segment `number`, from 1 on. `None`: there is none.
    fn fragment(&self, number: usize) -> Option<io::Result<Vec<u8>>> {
        let file = &self.stored.file;
        let read = |at: u64, buffer: &mut [u8]| file.read_exact_at(buffer, at);
        let place = number.checked_sub(1)?;
        Some(match &self.index {
            Index::Samples { movie, segments } => mp4::fragment(movie, number as u32, segments.get(place)?, read),
            Index::KeyFrames { outline, segments } => {
                let stretch = segments.get(place)?;
                let movie = outline.stretch(&FileReader::new(file, self.stored.length), stretch);
                movie.map_err(io::Error::other).and_then(|movie| mp4::fragment(&movie, number as u32, &mp4::MovieSegment::whole(&movie), read))
            }
        })
    }
}

/// HLS of an MP4 or FLV recording: `<any>.m3u8`, `init.m4s` and `seg-<n>.m4s`, made from its index when they are asked for.
fn packaged(context: &Context, request: &Request<'_>, entry: &Entry, name: &str) -> Option<Answer> {
    enum Wanted {
        List,
        Init,
        Segment(usize),
    }
    let wanted = match name {
        "init.m4s" => Wanted::Init,
        name if name.ends_with(".m3u8") => Wanted::List,
        name => {
            let number = name.strip_prefix("seg-")?.strip_suffix(".m4s")?;
            let is_number = !number.is_empty() && number.len() <= 7 && number.bytes().all(|byte| byte.is_ascii_digit());
            Wanted::Segment(if is_number { number.parse().ok()? } else { return None })
        }
    };
    let packaged = match load(context, entry) {
        Ok(packaged) => packaged,
        Err(error) => {
            tracing::debug!(%error, file = %entry.identity.file_id, "a recording cannot be packaged");
            return Some(refused(404, "This recording has no playlist: it is still being recorded as one file, or cannot be read."));
        }
    };
    count(&context.counters.packaged);
    Some(match wanted {
        Wanted::Init => answer::bytes(request, packaged.init(), "init.m4s", Caching::Finished),
        Wanted::Segment(number) => match packaged.fragment(number)? {
            Ok(bytes) => answer::bytes(request, bytes, "x.m4s", Caching::Finished),
            Err(error) => {
                tracing::warn!(%error, file = %entry.identity.file_id, number, "a segment cannot be packaged");
                refused(500, "The segment cannot be made; the log says why.")
            }
        },
        Wanted::List => answer::bytes(request, list(&packaged.durations_ms()).into_bytes(), "x.m3u8", Caching::Finished),
    })
}

fn list(durations_ms: &[u64]) -> String {
    let longest_ms = durations_ms.iter().copied().max().unwrap_or(0);
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:7\n");
    text.push_str(&format!("#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n", longest_ms.div_ceil(1_000).max(1)));
    text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init.m4s\"\n");
    for (index, ms) in durations_ms.iter().enumerate() {
        text.push_str(&format!("#EXTINF:{}.{:03},\nseg-{}.m4s\n", ms / 1_000, ms % 1_000, index + 1));
    }
    text + hls::ENDLIST
}

fn load(context: &Context, entry: &Entry) -> io::Result<Arc<Packaged>> {
    let id = entry.identity.file_id;
    if entry.growing {
        return Err(io::Error::other("it grows"));
    }
    let stored = stored(context, entry, &entry.entry)?;
    if let Some(packaged) = context.cache.packaged(id, &stored) {
        return Ok(packaged);
    }
    let reader = FileReader::new(&stored.file, stored.length);
    let index = index(&reader, entry.identity.format, context.hls_segment_ms).map_err(io::Error::other)?;
    let packaged = Arc::new(Packaged { stored, index });
    context.cache.keep_packaged(id, &packaged);
    Ok(packaged)
}

fn index(reader: &FileReader<'_>, format: Format, segment_ms: u64) -> Result<Index, ScanError> {
    if format == Format::Flv
        && let Some(outline) = flv::outline(reader)?
        && let Some(segments) = outline.segments(segment_ms)
    {
        return Ok(Index::KeyFrames { outline, segments });
    }
    let movie = match format {
        Format::Flv => flv::movie(reader)?,
        _ => mp4::read_movie(reader)?.first_ones(),
    };
    let segments = mp4::segments(&movie, segment_ms);
    Ok(Index::Samples { movie, segments })
}

/// Names of playlists for those who have a token: `voddrm.token.<token>.<name>`.
const TOKEN_PREFIX: &str = "voddrm.token.";
/// A token of ours is shorter.
const TOKEN_BYTES_MAX: usize = 128;

/// The token and the real name in `voddrm.token.<token>.<name>`.
pub fn split_token(name: &str) -> Option<(&str, &str)> {
    let (token, name) = name.strip_prefix(TOKEN_PREFIX)?.split_once('.')?;
    let is_token = !token.is_empty()
        && token.len() <= TOKEN_BYTES_MAX
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~'));
    (is_token && name.ends_with(".m3u8")).then_some((token, name))
}

/// The playlist with the token in every address of a key and of another playlist.
pub fn with_token(playlist: &str, token: &str) -> String {
    let mut text = String::with_capacity(playlist.len() + playlist.len() / 4);
    for line in playlist.lines() {
        match line.split_once("URI=\"") {
            Some((before, rest)) if line.starts_with("#EXT-X-KEY:") || line.starts_with("#EXT-X-MEDIA:") => {
                let (address, after) = rest.split_once('"').unwrap_or((rest, ""));
                let address =
                    if line.starts_with("#EXT-X-KEY:") { format!("{address}&token={token}") } else { format!("{TOKEN_PREFIX}{token}.{address}") };
                text.push_str(&format!("{before}URI=\"{address}\"{after}"));
            }
            _ if !line.starts_with('#') && line.ends_with(".m3u8") => text.push_str(&format!("{TOKEN_PREFIX}{token}.{line}")),
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// An encrypted stream's playlist for whoever has a token: small, and another one for each token.
pub fn with_token_of(stored: Stored, token: &str) -> Option<Answer> {
    let length = stored.length;
    if length > TEXT_BYTES_MAX {
        return None;
    }
    let mut text = String::new();
    FileBody { stored, start: 0, length }.read_to_string(&mut text).ok()?;
    Some(answer::cors(Answer::text(200, "application/vnd.apple.mpegurl", with_token(&text, token))).with("Cache-Control", "no-store"))
}
