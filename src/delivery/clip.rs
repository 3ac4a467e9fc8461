//! Clips of HLS recordings: whole segments of one recording, or of all recordings of a stream between two moments, listed where they lie.

use std::sync::Arc;

use super::Context;
use super::playlist::served_text;
use super::resolve::{Entry, entry};
use crate::catalog::{CatalogError, MediaQuery};
use crate::container::hls::{self, ListedSegment};
use crate::domain::vod::RING_APP;
use crate::domain::{RecordingIdentity, RecordingSource};
use crate::units::{FileId, Format, WallTime};

/// Recordings of one stream that are looked at for one clip.
const RECORDINGS_MAX: u64 = 500;
/// The ring is taken where it gives so much more.
const RING_GAIN_MS: i64 = 500;

/// A segment and the recording it lies in.
#[derive(Clone, Debug)]
pub struct ClipPart {
    pub entry: Arc<Entry>,
    pub segment: ListedSegment,
}

/// Which stream a clip is of.
#[derive(Clone, Copy, Debug)]
pub struct ClipOf<'a> {
    pub sub_app_id: u64,
    pub stream: &'a str,
    /// Push domain; empty: any.
    pub domain: &'a str,
    /// Push path; `None`: any.
    pub app: Option<&'a str>,
}

/// The segments of a recording between two times of its playlist, ms.
pub fn of_recording(context: &Context, entry: &Arc<Entry>, start_ms: u64, end_ms: u64) -> Vec<ClipPart> {
    let listed = served_text(context, entry).map(|text| hls::parse(&text)).unwrap_or_default();
    let inside = |segment: &ListedSegment| segment.start_ms < end_ms && segment.start_ms + segment.duration_ms > start_ms;
    listed.into_iter().filter(inside).map(|segment| ClipPart { entry: Arc::clone(entry), segment }).collect()
}

/// The segments of all HLS recordings of a stream between two moments, in the order of time. Where recordings overlap (a rule and a task) the first one counts.
///
/// Where no recording was made, or not all the time, what is kept of the stream for a while (the ring) is taken instead, if there is more of that.
pub fn of_stream(context: &Context, of: &ClipOf<'_>, start: WallTime, end: WallTime) -> Result<Vec<ClipPart>, CatalogError> {
    let recorded = of_recordings(context, of, false, start, end)?;
    let length_ms = |parts: &[ClipPart]| {
        let inside = |(from, to): (WallTime, WallTime)| to.min(end).unix_millis() - from.max(start).unix_millis();
        covered(parts).into_iter().map(inside).sum::<i64>()
    };
    if length_ms(&recorded) + RING_GAIN_MS >= end.unix_millis() - start.unix_millis() {
        return Ok(recorded);
    }
    let kept = of_recordings(context, of, true, start, end)?;
    Ok(if length_ms(&kept) > length_ms(&recorded) + RING_GAIN_MS { kept } else { recorded })
}

/// The segments of recordings of a stream, or (`ring`) of what is kept of it for a while.
fn of_recordings(context: &Context, of: &ClipOf<'_>, ring: bool, start: WallTime, end: WallTime) -> Result<Vec<ClipPart>, CatalogError> {
    let query = MediaQuery {
        sub_app_id: if ring { RING_APP } else { of.sub_app_id },
        stream_ids: vec![of.stream.to_owned()],
        stream_domains: if of.domain.is_empty() { Vec::new() } else { vec![of.domain.to_ascii_lowercase()] },
        media_types: vec![Format::Hls.name().to_owned()],
        // A file enters the catalog after its last frame.
        create_after: Some(start),
        ascending: true,
        limit: RECORDINGS_MAX,
        ..MediaQuery::default()
    };
    let is_it = |app: &str| of.app.is_none_or(|wanted| wanted == app);
    let mut ids: Vec<FileId> = Vec::new();
    for row in context.catalog.search(&query)?.rows {
        let identity = &row.file.identity;
        if ring && identity.vod_sub_app_id != of.sub_app_id {
            continue;
        }
        if identity.start < end && row.file.end > start && *identity.key.stream == *of.stream && is_it(&identity.key.app) {
            ids.push(identity.file_id);
        }
    }
    let open = context.open.find(Format::Hls, |key| {
        *key.stream == *of.stream && (of.domain.is_empty() || key.domain.eq_ignore_ascii_case(of.domain)) && is_it(&key.app)
    });
    let is_meant = |identity: &&RecordingIdentity| {
        identity.start < end && identity.vod_sub_app_id == of.sub_app_id && (identity.source == RecordingSource::Ring) == ring
    };
    ids.extend(open.iter().filter(is_meant).map(|identity| identity.file_id));
    let mut parts: Vec<ClipPart> = Vec::new();
    for id in ids {
        let Some(entry) = entry(context, id)? else { continue };
        let text = served_text(context, &entry).unwrap_or_default();
        for mut segment in hls::parse(&text) {
            let begin = segment.starts_at.unwrap_or_else(|| later(entry.identity.start, segment.start_ms));
            let until = later(begin, segment.duration_ms);
            let covered = parts.last().and_then(|last| Some(later(last.segment.starts_at?, last.segment.duration_ms)));
            if begin >= end || until <= start || covered.is_some_and(|covered| begin < earlier(covered, 500)) {
                continue;
            }
            segment.starts_at = Some(begin);
            // Another recording: time does not go on.
            segment.discontinuity |= parts.last().is_some_and(|last| last.entry.identity.file_id != id);
            parts.push(ClipPart { entry: Arc::clone(&entry), segment });
        }
    }
    Ok(parts)
}

fn later(time: WallTime, ms: u64) -> WallTime {
    WallTime::from_unix_micros(time.unix_micros().saturating_add_unsigned(ms.saturating_mul(1_000)))
}

fn earlier(time: WallTime, ms: i64) -> WallTime {
    WallTime::from_unix_micros(time.unix_micros().saturating_sub(ms * 1_000))
}

/// The stretches that the parts cover without a gap: begin and end of each.
pub fn covered(parts: &[ClipPart]) -> Vec<(WallTime, WallTime)> {
    let mut stretches: Vec<(WallTime, WallTime)> = Vec::new();
    for part in parts {
        let Some(begin) = part.segment.starts_at else { continue };
        let end = later(begin, part.segment.duration_ms);
        match stretches.last_mut() {
            Some((_, until)) if begin <= later(*until, 200) => *until = end.max(*until),
            _ => stretches.push((begin, end)),
        }
    }
    stretches
}

/// The playlist of a clip, as it is served beside the recording `home`.
pub fn playlist(parts: &[ClipPart], home: FileId) -> String {
    let segments: Vec<ListedSegment> = parts.iter().map(|part| part.segment.clone()).collect();
    let prefix = |index: usize| {
        let id = parts[index].entry.identity.file_id;
        if id == home { String::new() } else { format!("../{id}/") }
    };
    hls::relist(&segments, prefix)
}

/// The name of a clip's playlist: `clip-<ms>-<ms>.m3u8` of the recording's own time, `live-<ms>-<ms>.m3u8` of wall-clock time of its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClipName {
    Recording { start_ms: u64, end_ms: u64 },
    Stream { start: WallTime, end: WallTime },
}

impl ClipName {
    pub fn parse(name: &str) -> Option<Self> {
        let (kind, rest) = name.strip_suffix(".m3u8")?.split_once('-')?;
        let (start, end) = rest.split_once('-')?;
        let number = |text: &str| if text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse::<u64>().ok() } else { None };
        let (start_ms, end_ms) = (number(start)?, number(end)?);
        let moment = |ms: u64| WallTime::from_unix_millis(ms as i64);
        match kind {
            "clip" => Some(Self::Recording { start_ms, end_ms }),
            "live" => Some(Self::Stream { start: moment(start_ms), end: moment(end_ms) }),
            _ => None,
        }
    }
}

impl std::fmt::Display for ClipName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Recording { start_ms, end_ms } => write!(f, "clip-{start_ms}-{end_ms}.m3u8"),
            Self::Stream { start, end } => write!(f, "live-{}-{}.m3u8", start.unix_millis(), end.unix_millis()),
        }
    }
}
