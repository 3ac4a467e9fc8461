//! What the parts of a recording hold together.

use crate::container::{MediaSummary, TrackSummary};

/// What the parts of a recording hold together.
pub fn total<'a>(parts: impl IntoIterator<Item = &'a MediaSummary>) -> MediaSummary {
    let mut total = MediaSummary::default();
    for part in parts {
        total.duration_ms += part.duration_ms;
        add_track(&mut total.video, part.video.as_ref());
        add_track(&mut total.audio, part.audio.as_ref());
        add_tracks(&mut total.further_video, &part.further_video);
        add_tracks(&mut total.further_audio, &part.further_audio);
        total.data_messages += part.data_messages;
    }
    total
}

fn add_track(total: &mut Option<TrackSummary>, part: Option<&TrackSummary>) {
    match (total, part) {
        (_, None) => {}
        (total @ None, Some(part)) => *total = Some(part.clone()),
        (Some(total), Some(part)) => add_counts(total, part),
    }
}

fn add_tracks(total: &mut Vec<TrackSummary>, parts: &[TrackSummary]) {
    for (index, part) in parts.iter().enumerate() {
        match total.get_mut(index) {
            Some(total) => add_counts(total, part),
            None => total.push(part.clone()),
        }
    }
}

fn add_counts(total: &mut TrackSummary, part: &TrackSummary) {
    total.frames += part.frames;
    total.bytes += part.bytes;
    total.duration_ms += part.duration_ms;
    total.key_frames += part.key_frames;
}
