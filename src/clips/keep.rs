//! Keeping a clip: its segments become a recording of their own, which lives on when the source is deleted.

use std::io;
use std::os::unix::fs::FileExt;

use super::{ClipMaker, store};
use crate::container::hls::{self, ListedSegment};
use crate::container::mp4;
use crate::container::{MediaSummary, TrackSummary};
use crate::delivery::clip::ClipPart;
use crate::delivery::http::FileBody;
use crate::delivery::resolve::stored;
use crate::domain::naming::disk_slug;
use crate::domain::{EndReason, FinishedFile, MadeBy, RecordingIdentity, RecordingSource};
use crate::media::TrackKind;
use crate::segment::finish::{day, folder_bytes};
use crate::units::{Format, WallTime};

/// Init segments that we write are far below this.
const INIT_BYTES_MAX: u64 = 1 << 20;

/// How a kept clip enters the catalog.
#[derive(Clone, Debug)]
pub struct KeepRequest {
    pub by: MadeBy,
    pub sub_app_id: u64,
    pub class_id: i64,
    pub expire: Option<WallTime>,
    pub procedure: String,
    /// `SourceContext`.
    pub context: String,
    pub name: String,
}

/// What a clip holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Kept {
    pub size_bytes: u64,
    pub summary: MediaSummary,
}

/// Size, duration and tracks of a clip.
///
/// # Errors
/// If its init segment cannot be read.
pub fn describe(maker: &ClipMaker, parts: &[ClipPart]) -> io::Result<Kept> {
    let size_bytes = parts.iter().map(|part| part.segment.bytes).sum();
    let duration_ms = parts.iter().map(|part| part.segment.duration_ms).sum();
    let mut summary = MediaSummary { duration_ms, ..MediaSummary::default() };
    if let Some((part, map)) = parts.first().and_then(|part| Some((part, part.segment.map_uri.as_deref()?))) {
        let entries = mp4::parse_entries(&read_small(maker, part, map)?).unwrap_or_default();
        let shares = mp4::shares(&read_part(maker, part, &part.segment.uri, part.segment.offset, part.segment.bytes.min(mp4::SEGMENT_BYTES_MAX))?);
        for entry in entries {
            let one = track_of(&entry, &shares, size_bytes, duration_ms);
            match entry.kind {
                TrackKind::Video if summary.video.is_none() => summary.video = Some(one),
                TrackKind::Video => summary.further_video.push(one),
                TrackKind::Audio if summary.audio.is_none() => summary.audio = Some(one),
                TrackKind::Audio => summary.further_audio.push(one),
            }
        }
    } else if let Some(part) = parts.first() {
        // A transport stream: what its recording holds, once that is known.
        let id = part.entry.identity.file_id;
        if let Ok(rows) = maker.catalog.files(part.entry.sub_app_id, &[id])
            && let Some(row) = rows.get(&id)
        {
            let of_clip = |track: &TrackSummary| TrackSummary {
                frames: part_of(track.frames, duration_ms, track.duration_ms),
                bytes: part_of(track.bytes, duration_ms, track.duration_ms),
                key_frames: part_of(track.key_frames, duration_ms, track.duration_ms),
                duration_ms,
                ..track.clone()
            };
            (summary.video, summary.audio) = (row.file.summary.video.as_ref().map(of_clip), row.file.summary.audio.as_ref().map(of_clip));
        }
    }
    Ok(Kept { size_bytes, summary })
}

/// `count * part / whole`; 0 of nothing.
fn part_of(count: u64, part: u64, whole: u64) -> u64 {
    (u128::from(count) * u128::from(part)).checked_div(u128::from(whole)).unwrap_or(0) as u64
}

/// A track of a clip, whose first segment stands for all of them: a clip may be a day long, and its caller waits.
fn track_of(entry: &mp4::TrackEntry, first: &[mp4::TrackShare], size_bytes: u64, duration_ms: u64) -> TrackSummary {
    let all: u64 = first.iter().map(|share| share.bytes).sum();
    let share = first.iter().find(|share| share.id == entry.id);
    TrackSummary {
        codec: entry.codec.to_owned(),
        frames: share.map_or(0, |share| part_of(share.samples, duration_ms, share.duration_ms)),
        bytes: share.map_or(0, |share| part_of(share.bytes, size_bytes, all)),
        duration_ms,
        width: u32::from(entry.width),
        height: u32::from(entry.height),
        sample_rate_hz: entry.sample_rate_hz,
        channels: entry.channels,
        ..TrackSummary::default()
    }
}

fn read_small(maker: &ClipMaker, part: &ClipPart, name: &str) -> io::Result<Vec<u8>> {
    read_part(maker, part, name, 0, INIT_BYTES_MAX)
}

/// At most so many bytes of a file of the recording that a clip is cut out of.
fn read_part(maker: &ClipMaker, part: &ClipPart, name: &str, offset: u64, bytes_max: u64) -> io::Result<Vec<u8>> {
    let stored = stored(&maker.media, &part.entry, name)?;
    let length = stored.length.saturating_sub(offset).min(bytes_max);
    let mut bytes = Vec::with_capacity(length as usize);
    io::Read::read_to_end(&mut FileBody { stored, start: offset, length }, &mut bytes)?;
    Ok(bytes)
}

/// Makes a file of the parts, durable under its final name; it is not in the catalog yet.
///
/// # Errors
/// Of reading and writing; what was half made is removed at the next start.
pub fn keep(maker: &ClipMaker, parts: &[ClipPart], request: &KeepRequest) -> io::Result<FinishedFile> {
    let source = &parts.first().ok_or_else(|| io::Error::other("the clip is empty"))?.entry.identity;
    let file_id = maker.ids.next();
    let making = store::begin(&maker.storage, file_id)?;
    let folder = &making.folder;
    let mut listed: Vec<ListedSegment> = Vec::with_capacity(parts.len());
    let mut number = 0;
    let mut from: Option<(crate::units::FileId, String)> = None;
    let mut out = None;
    let mut at = 0;
    for part in parts {
        let place = (part.entry.identity.file_id, part.segment.uri.clone());
        let extension = if part.segment.uri.ends_with(".ts") { "ts" } else { "m4s" };
        if from.as_ref() != Some(&place) {
            number += 1;
            at = 0;
            if let Some(map) = &part.segment.map_uri {
                let bytes = read_small(maker, part, map)?;
                store::create(&folder.join(format!("init-{number}.m4s")))?.write_all_at(&bytes, 0)?;
            }
            out = Some(store::create(&folder.join(format!("media-{number}.{extension}")))?);
            from = Some(place);
        }
        let Some(out) = &out else { continue };
        let stored = stored(&maker.media, &part.entry, &part.segment.uri)?;
        let mut body = FileBody { stored, start: part.segment.offset, length: part.segment.bytes };
        let mut target = at;
        while body.length > 0 {
            let step = body.step(8 << 20, |file, offset, count| store::copy(file, offset, out, target, count).map(|()| count));
            match step {
                Some(copied) => target += copied?,
                None => std::thread::yield_now(),
            }
        }
        listed.push(ListedSegment {
            uri: format!("media-{number}.{extension}"),
            map_uri: part.segment.map_uri.as_ref().map(|_| format!("init-{number}.m4s")),
            offset: at,
            ..part.segment.clone()
        });
        at += part.segment.bytes;
    }
    let entry = format!("{}.m3u8", disk_slug(&source.key.stream));
    std::fs::write(folder.join(&entry), hls::relist(&listed, |_| String::new()))?;
    let now = (maker.clock)();
    let begin = listed.first().and_then(|segment| segment.starts_at).unwrap_or(source.start);
    let identity = RecordingIdentity {
        file_id,
        format: Format::Hls,
        source: RecordingSource::Made(request.by),
        push_url: request.context.clone(),
        stream_param: String::new(),
        start: begin,
        storage_time_s: request.expire.map_or(0, |expire| (expire.unix_seconds() - now.unix_seconds()).max(1) as u64),
        vod_sub_app_id: request.sub_app_id,
        vod_file_name: String::new(),
        procedure: request.procedure.clone(),
        class_id: request.class_id,
        ..source.clone()
    };
    let file = FinishedFile {
        end: now,
        reason: EndReason::TaskEnded,
        folder: format!("media/{}/{file_id}", day(now, &maker.storage.settings().time_zone)),
        entry,
        size_bytes: folder_bytes(folder)?,
        receipt: Default::default(),
        summary: describe(maker, parts)?.summary,
        identity,
    };
    store::publish(&maker.storage, &making, file)
}
