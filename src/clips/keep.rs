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
        for track in mp4::read_tracks(&read_small(maker, part, map)?) {
            let one = TrackSummary {
                codec: track.codec_name().to_owned(),
                duration_ms,
                width: u32::from(track.width),
                height: u32::from(track.height),
                ..TrackSummary::default()
            };
            match track.kind {
                TrackKind::Video => summary.video = Some(one),
                TrackKind::Audio => summary.audio = Some(one),
            }
        }
    } else if let Some(part) = parts.first() {
        // A transport stream: what its recording holds, once that is known.
        let id = part.entry.identity.file_id;
        if let Ok(rows) = maker.catalog.files(part.entry.sub_app_id, &[id])
            && let Some(row) = rows.get(&id)
        {
            (summary.video, summary.audio) = (row.file.summary.video.clone(), row.file.summary.audio.clone());
        }
    }
    Ok(Kept { size_bytes, summary })
}

fn read_small(maker: &ClipMaker, part: &ClipPart, name: &str) -> io::Result<Vec<u8>> {
    let stored = stored(&maker.media, &part.entry, name)?;
    let length = stored.length.min(INIT_BYTES_MAX);
    let mut bytes = Vec::with_capacity(length as usize);
    io::Read::read_to_end(&mut FileBody { stored, start: 0, length }, &mut bytes)?;
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
