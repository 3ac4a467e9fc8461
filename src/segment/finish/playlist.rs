//! The playlist of an HLS recording, built from its media.

use std::path::Path;

use crate::container::{hls, hls_marks};
use crate::domain::RecordingIdentity;
use crate::domain::naming::disk_slug;
use crate::units::WallTime;

use super::FinishSettings;
use super::media::Part;

/// The playlist, built from the media themselves. `ended`: nothing will follow.
pub(super) fn playlist(folder: &Path, identity: &RecordingIdentity, parts: &[Part], settings: &FinishSettings, ended: bool) -> String {
    let mut maps = Vec::new();
    let mut starts = Vec::new();
    let mut start = identity.first_frame.unwrap_or(identity.start);
    for part in parts {
        // A part without an init segment of its own goes on with the one before.
        let map = format!("init-{}.m4s", part.number);
        maps.push(folder.join(&map).exists().then_some(map));
        // A part behind an interruption says when it began; the others follow at once.
        let said = std::fs::read(folder.join(hls::part_start_name(part.number))).ok();
        start = said.and_then(|bytes| hls::read_part_start(&bytes)).unwrap_or(start);
        starts.push(start);
        start = WallTime::from_unix_micros(start.unix_micros() + part.summary.duration_ms as i64 * 1_000);
    }
    let container = if parts[0].name.ends_with(".ts") { hls::SegmentContainer::Ts } else { hls::SegmentContainer::Fmp4 };
    let described: Vec<hls::Part<'_>> = parts
        .iter()
        .zip(&maps)
        .zip(&starts)
        .enumerate()
        .map(|(index, ((part, map), starts_at))| hls::Part {
            uri: &part.name,
            map_uri: map.as_deref(),
            fragments: &part.fragments,
            discontinuity: index > 0 && (map.is_some() || container == hls::SegmentContainer::Ts),
            starts_at: Some(*starts_at),
            sealing: part.sealing.as_ref(),
        })
        .collect();
    // As the live one said it.
    let independent = identity.resume.is_none() && parts.iter().all(|part| part.summary.video.is_none());
    let rebuilt = hls::rebuild(container, settings.hls_segment_ms, independent, &described, ended);
    // What marks times was known to the live one alone.
    let entry = format!("{}.m3u8", disk_slug(&identity.key.stream));
    let live = [hls::LIVE_PLAYLIST_NAME, &entry].into_iter().find_map(|name| std::fs::read_to_string(folder.join(name)).ok());
    live.map_or(rebuilt.clone(), |live| hls_marks::carry(&live, &rebuilt))
}
