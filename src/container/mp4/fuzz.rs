//! Arbitrary damage to a valid file.

use std::sync::Arc;

use super::{Mp4Writer, head, scan};
use crate::container::{FinishPlan, MemorySink, ScanError};
use crate::media::{AudioCodec, AudioTrack, Frame, Payload, TagHeader, TrackKind, Tracks, VideoCodec, VideoTrack};

/// Frames of one built file.
const FRAMES_MAX: usize = 200;

/// Builds a file of a few frames from `data`, damages it as `data` says, and scans it.
///
/// # Panics
/// If complete samples before the damage are lost, or finishing the result again would change it.
pub fn fuzz_scan(data: &[u8]) {
    super::fuzz_rendition(data);
    let mut input = data.iter().copied();
    let mut next = || input.next();
    let shape = next().unwrap_or(0);
    let tracks = sample_tracks(shape & 3 != 1, shape & 3 != 2);
    let first = head(&tracks, usize::from(shape >> 3) * 512);
    let head_bytes = first.len();
    let mut sink = MemorySink::with_head(&first);
    let mut writer = Mp4Writer::new(&tracks, 0);
    // Where each sample ends in the file: whatever is damaged behind that must not cost it.
    let mut ends = Vec::new();
    let mut dts_ms = 0_i64;
    let count = usize::from(next().unwrap_or(0)).min(FRAMES_MAX);
    for _ in 0..count {
        let (Some(kind), Some(step)) = (next(), next()) else { break };
        dts_ms += i64::from(step) * if kind & 0x80 == 0 { 1 } else { 16 } - if kind & 0x40 == 0 { 0 } else { 100 };
        let media = vec![kind | 1; 1 + usize::from(step) * 3];
        let track = if kind & 1 == 0 { TrackKind::Video } else { TrackKind::Audio };
        let known = if track == TrackKind::Video { tracks.video.is_some() } else { tracks.audio.is_some() };
        let frame = sample_frame(track, dts_ms, i32::from(kind & 0x0E) * 10 - 40, kind & 0x30 == 0, &media);
        writer.push(&frame, &mut sink);
        if known {
            ends.push(sink.bytes.len());
        }
    }
    if shape & 4 == 0 {
        writer.close_fragment(&mut sink);
    }
    let mut file = sink.bytes;

    let mut place = 0;
    for _ in 0..4 {
        place = place << 8 | usize::from(next().unwrap_or(0));
    }
    let damage_at = place % (file.len() + 1);
    let damage: Vec<u8> = input.collect();
    if place & (1 << 31) == 0 {
        file.truncate(damage_at);
    }
    for (index, byte) in damage.iter().enumerate() {
        match file.get_mut(damage_at + index) {
            Some(place) => *place = *byte,
            None => file.push(*byte),
        }
    }

    let whole = ends.iter().filter(|end| **end <= damage_at).count() as u64;
    for insert_supported in [true, false] {
        let found = match scan(file.as_slice(), insert_supported) {
            Ok(found) => found,
            Err(ScanError::Empty) => {
                assert_eq!(whole, 0, "complete samples before the damage were lost");
                continue;
            }
            Err(_) => {
                assert!(damage_at < head_bytes, "damage behind the head looked like damage of the head");
                continue;
            }
        };
        let frames: u64 = [&found.plan.summary.video, &found.plan.summary.audio].into_iter().flatten().map(|track| track.frames).sum();
        assert!(frames >= whole, "{frames} samples of at least {whole}");
        let mut finished = file.clone();
        apply(&found.plan, &mut finished);
        let again = scan(finished.as_slice(), insert_supported).expect("a finished file");
        assert_eq!(again.plan.summary, found.plan.summary);
        assert_eq!(again.fragments, found.fragments);
        assert!(again.plan.insert.is_none() && again.plan.writes.is_empty() && again.plan.append.is_empty(), "finishing twice changes nothing");
        assert_eq!(again.plan.truncate_to, finished.len() as u64);
    }
}

/// Carries out a plan in memory.
pub(super) fn apply(plan: &FinishPlan, file: &mut Vec<u8>) {
    file.truncate(plan.truncate_to as usize);
    if let Some(insert) = plan.insert {
        let at = insert.offset as usize;
        file.splice(at..at, std::iter::repeat_n(0, insert.length as usize));
    }
    for (offset, bytes) in &plan.writes {
        file[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    file.extend_from_slice(&plan.append);
}

pub(super) fn sample_tracks(video: bool, audio: bool) -> Tracks {
    let config: &[u8] = &[1, 0x42, 0xC0, 0x1E, 0xFF, 0xE1, 0, 4, 0x67, 0x42, 0xC0, 0x1E, 1, 0, 4, 0x68, 0xCE, 0x3C, 0x80];
    let video = video.then(|| VideoTrack::new(VideoCodec::Avc, config, 640, 360));
    let audio = audio.then(|| AudioTrack::new(AudioCodec::Aac, &[0x11, 0x90][..], 48_000, 2, 1024));
    Tracks { video: video.map(Arc::new), audio: audio.map(Arc::new), ..Tracks::default() }
}

pub(super) fn sample_frame(track: TrackKind, dts_ms: i64, cts_ms: i32, key: bool, media: &[u8]) -> Frame<'_> {
    let (cts_ms, key) = if track == TrackKind::Video { (cts_ms, key) } else { (0, true) };
    Frame { track, dts_ms, cts_ms, key, tag_header: TagHeader::new(&[]), media: Payload::contiguous(media) }
}
