//! Playlists as they are served: growing ones, finished ones whose parts have moved, and those of recordings that have none.

use std::io::Read as _;

use super::Context;
use super::answer::{self, Caching};
use super::http::{FileBody, Request};
use super::resolve::{Answered, Entry, stored};
use crate::container::hls;
use crate::segment::moves;
use crate::units::Format;

/// Largest playlist that is read: three weeks of segments of four seconds.
const PLAYLIST_BYTES_MAX: u64 = 64 << 20;

/// Answers for a playlist; `None`: `name` is none, or nothing has to be done to it.
pub fn answer(context: &Context, request: &Request<'_>, entry: &Entry, name: &str) -> Option<Answered> {
    if !name.ends_with(".m3u8") || entry.original_deleted {
        return None;
    }
    match entry.identity.format {
        Format::Hls => recorded(context, request, entry),
        _ => None,
    }
}

/// The playlist of an HLS recording.
fn recorded(context: &Context, request: &Request<'_>, entry: &Entry) -> Option<Answered> {
    let text = read(context, entry);
    if entry.growing {
        return Some(match text {
            Some(text) if text.contains("#EXTINF") => Answered::Now(answer::bytes(request, text.into_bytes(), "x.m3u8", Caching::Growing)),
            // The first segment is not complete, and players give up at a list without one.
            _ => Answered::NotYet,
        });
    }
    let text = text?;
    // Parts are addressed as they were recorded, so that what a viewer loaded while it grew stays true.
    let folder = context.data_folder.join(&entry.folder);
    let unmoved = hls::unshift_ranges(&text, |part| moves::noted(&folder, part))?;
    Some(Answered::Now(answer::bytes(request, unmoved.into_bytes(), "x.m3u8", Caching::Finished)))
}

fn read(context: &Context, entry: &Entry) -> Option<String> {
    let stored = stored(context, entry, &entry.entry).ok()?;
    let length = stored.length.min(PLAYLIST_BYTES_MAX);
    let mut text = String::with_capacity(length as usize);
    FileBody { stored, start: 0, length }.read_to_string(&mut text).ok()?;
    Some(text)
}
