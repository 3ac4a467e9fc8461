//! HLS recordings with several tracks of a kind: a playlist that joins them, one for each track, and their segments, made out of the files on request.
//! Nothing more lies on the disk for it; the list that lies there is of the files with all their tracks.

use std::io::Read as _;
use std::sync::Arc;

use super::answer::{self, Caching, refused};
use super::http::{Answer, FileBody, Request};
use super::resolve::{self, Entry, is_part, stored};
use super::{Context, count};
use crate::container::hls;
use crate::container::hls_renditions::{are_several, maps, master, of_track, rates, split_name, split_range};
use crate::container::mp4::{InitTrack, Rendition, SEGMENT_BYTES_MAX, init_of, init_tracks, segment_of, shares};
use crate::media::TrackKind;
use crate::units::FileId;

/// Init segments that are looked at for one playlist, newest first: a recording whose tracks change all the time is told by its last ones.
const MAPS_MAX: usize = 32;
/// An init segment: sequence headers of some tracks.
const INIT_BYTES_MAX: u64 = 2 << 20;

/// The list of one track if `name` asks for one: its name without that.
pub fn wanted(name: &str) -> (Option<Rendition>, &str) {
    split_name(name).map_or((None, name), |(rendition, rest)| (Some(rendition), rest))
}

/// The list as it is served: `text` itself, where the files hold one track of a kind; else the list that joins them, or the one of the track that is wanted.
/// `None`: a track is wanted and there is none.
pub fn served(context: &Context, entry: &Arc<Entry>, (rendition, name): (Option<Rendition>, &str), text: String) -> Option<String> {
    if entry.has_single_tracks && rendition.is_none() {
        return Some(text);
    }
    let maps = maps(&text);
    let maps: Vec<_> = maps[maps.len().saturating_sub(MAPS_MAX)..].iter().map(|map| (*map, tracks_of(context, entry, map))).collect();
    let Some(rendition) = rendition else {
        let Some((map, tracks)) = maps.iter().rev().filter(|(_, tracks)| are_several(tracks)).max_by_key(|(_, tracks)| tracks.len()) else {
            return Some(text);
        };
        let shares = hls::parse(&text)
            .into_iter()
            .rfind(|segment| segment.map_uri.as_deref() == Some(*map))
            .and_then(|segment| read(context, entry, &segment.uri, Some((segment.offset, segment.bytes))))
            .map(|segment| shares(&segment))
            .unwrap_or_default();
        return Some(master(tracks, &shares, rates(&text), name));
    };
    // What was not looked at has the first track at least.
    let has_track = |map: &str| maps.iter().find(|(known, _)| *known == map).is_none_or(|(_, tracks)| rendition.track(tracks).is_some());
    maps.iter().any(|(_, tracks)| rendition.track(tracks).is_some()).then(|| of_track(&text, rendition, has_track))
}

/// An init segment or a media segment of one track. `None`: `name` is none.
pub fn part(context: &Context, request: &Request<'_>, entry: &Arc<Entry>, name: &str) -> Option<Answer> {
    let (rendition, rest) = split_name(name)?;
    if is_part(rest) && rest.starts_with("init-") {
        let init = read(context, entry, rest, None)?;
        let track = rendition.track(&init_tracks(&init)?).map(|track| track.id)?;
        return Some(answer::bytes(request, init_of(&init, track)?, "x.m4s", Caching::Finished));
    }
    let (offset, bytes, file) = split_range(rest)?;
    let number = file.strip_prefix("media-")?.strip_suffix(".m4s")?;
    if !is_part(file) || bytes > SEGMENT_BYTES_MAX {
        return Some(refused(404, "There is no such segment."));
    }
    count(&context.counters.packaged);
    let tracks = tracks_of(context, entry, &format!("init-{}.m4s", init_number(context, entry, number)?));
    let track = rendition.track(&tracks)?.id;
    let leads = rendition.kind == TrackKind::Video || (rendition.number == 1 && tracks.iter().all(|track| track.kind == TrackKind::Audio));
    let segment = read(context, entry, file, Some((offset, bytes)))?;
    Some(answer::bytes(request, segment_of(&segment, track, leads), "x.m4s", Caching::Finished))
}

/// A part goes on with the init segment of the last one before it that has its own.
fn init_number(context: &Context, entry: &Entry, part: &str) -> Option<u32> {
    let part: u32 = part.parse().ok()?;
    (1..=part).rev().take(MAPS_MAX).find(|number| stored(context, entry, &format!("init-{number}.m4s")).is_ok())
}

/// The tracks that an init segment tells; none if it cannot be read.
fn tracks_of(context: &Context, entry: &Arc<Entry>, map: &str) -> Vec<InitTrack> {
    read(context, entry, map, None).and_then(|init| init_tracks(&init)).unwrap_or_default()
}

/// Bytes of a file that a playlist of the entry lists: beside it, or, in a clip, in the folder of another recording of the same application.
fn read(context: &Context, entry: &Arc<Entry>, uri: &str, range: Option<(u64, u64)>) -> Option<Vec<u8>> {
    let (entry, file) = match uri.strip_prefix("../") {
        Some(rest) => {
            let (id, file) = rest.split_once('/')?;
            let other = resolve::entry(context, FileId::parse(id)?).ok()??;
            (Some(other).filter(|other| other.sub_app_id == entry.sub_app_id)?, file)
        }
        None => (Arc::clone(entry), uri),
    };
    if !is_part(file) {
        return None;
    }
    let stored = stored(context, &entry, file).ok()?;
    let (start, length) = match range {
        Some((offset, bytes)) => (offset, bytes.min(stored.length.checked_sub(offset)?).min(SEGMENT_BYTES_MAX)),
        None => (0, stored.length.min(INIT_BYTES_MAX)),
    };
    let mut bytes = Vec::with_capacity(length as usize);
    FileBody { stored, start, length }.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
