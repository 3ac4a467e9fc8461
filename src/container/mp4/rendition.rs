//! One track out of files that hold several: the init segment and the media segments of a rendition (RFC 8216, 4.3.4.1), made for a request out of the
//! bytes as they were recorded.

use super::entry::{TrackEntry, parse_entries};
use super::fragment::{PRFT_BYTES, Traf, trafs};
use crate::container::boxes::{BoxHeader, BoxWriter, HEADER_BYTES, be32, boxes, find};
use crate::media::TrackKind;
use crate::media::label::Label;

/// Whole boxes of one segment that are looked at: fragments of a second and their messages, far more than a segment has.
const BOXES_MAX: usize = 100_000;
/// Flags of a sample (ISO/IEC 14496-12, 8.8.3.1): it depends on no other, or it does.
const SAMPLE_SYNC: u32 = 0x0200_0000;
const SAMPLE_NON_SYNC: u32 = 0x0101_0000;

/// A track by its kind and its place among the tracks of that kind, counted from 1: `video-1`, `audio-2`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rendition {
    pub kind: TrackKind,
    pub number: usize,
}

impl Rendition {
    /// Reads what `Display` writes.
    pub fn parse(name: &str) -> Option<Self> {
        let (kind, number) = name.split_once('-')?;
        let kind = match kind {
            "video" => TrackKind::Video,
            "audio" => TrackKind::Audio,
            _ => return None,
        };
        let is_number = (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
        is_number.then(|| number.parse().ok()).flatten().map(|number| Self { kind, number })
    }

    /// Its track among those of a file; the first of the kind where there are fewer. `None`: there is none of the kind.
    pub fn track(self, tracks: &[InitTrack]) -> Option<&InitTrack> {
        let mut of_kind = tracks.iter().filter(|track| track.kind == self.kind);
        let first = of_kind.next()?;
        Some(self.number.checked_sub(2).and_then(|index| of_kind.nth(index)).unwrap_or(first))
    }
}

impl std::fmt::Display for Rendition {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            TrackKind::Video => "video",
            TrackKind::Audio => "audio",
        };
        write!(out, "{kind}-{}", self.number)
    }
}

/// What an init segment says of one track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitTrack {
    pub id: u32,
    pub kind: TrackKind,
    /// RFC 6381.
    pub codecs: String,
    /// Pixels; 0 for sound.
    pub width: u16,
    pub height: u16,
    pub channels: u8,
    pub label: Label,
}

/// The tracks of an init segment of ours. `None`: it is damaged, or none.
pub fn init_tracks(init: &[u8]) -> Option<Vec<InitTrack>> {
    let track = |entry: TrackEntry| InitTrack {
        id: entry.id,
        kind: entry.kind,
        codecs: entry.codecs(),
        width: entry.width,
        height: entry.height,
        channels: entry.channels,
        label: entry.label,
    };
    Some(parse_entries(init)?.into_iter().map(track).collect())
}

/// The init segment with track `id` alone.
pub fn init_of(init: &[u8], id: u32) -> Option<Vec<u8>> {
    let moov = find(init, b"moov")?;
    let is_meant = |kind: &[u8; 4], body: &[u8]| match kind {
        b"trak" => find(body, b"tkhd").and_then(|tkhd| be32(tkhd, 12)) == Some(id),
        b"trex" => be32(body, 4) == Some(id),
        _ => true,
    };
    let mut out = BoxWriter::with_capacity(init.len());
    out.container(b"ftyp", |out| out.raw(find(init, b"ftyp").unwrap_or_default()));
    out.container(b"moov", |out| {
        for (kind, body) in boxes(moov).filter(|(kind, body)| is_meant(kind, body)) {
            out.container(&kind, |out| match &kind {
                b"mvex" => boxes(body).filter(|(kind, body)| is_meant(kind, body)).for_each(|(kind, body)| out.container(&kind, |out| out.raw(body))),
                _ => out.raw(body),
            });
        }
    });
    Some(out.into_bytes())
}

/// One fragment of a segment: its `moof`, and where that lies.
struct Found<'a> {
    moof: &'a [u8],
    at: usize,
}

/// The boxes of a segment as they are: what stands in front of fragments, and the fragments. Ends where the bytes are none of ours.
fn walk<'a>(segment: &'a [u8], mut take: impl FnMut(&[u8; 4], &'a [u8], usize)) {
    let mut at = 0;
    for _ in 0..BOXES_MAX {
        let rest = &segment[at..];
        let Some(header) = BoxHeader::parse(rest, rest.len() as u64).filter(|header| header.header_bytes == HEADER_BYTES) else { return };
        let whole = &rest[..header.bytes as usize];
        take(&header.kind, whole, at);
        at += whole.len();
    }
}

/// A sample of one track: its bytes, and what the `trun` says.
struct Sample<'a> {
    media: &'a [u8],
    duration_ms: u32,
    cts_ms: i32,
    sync: bool,
}

/// `left`: bytes of media that may still be found; a damaged index could name the same ones again and again.
fn samples<'a>(segment: &'a [u8], found: &Found<'a>, traf: &Traf, left: &mut usize) -> Vec<Sample<'a>> {
    let mut samples = Vec::new();
    for run in traf.runs(found.moof) {
        let mut at = found.at as u64 + run.data_offset;
        for (index, entry) in run.entries(found.moof, traf.kind).enumerate() {
            let end = at + u64::from(entry.bytes);
            let Some(media) = usize::try_from(at).ok().zip(usize::try_from(end).ok()).and_then(|(at, end)| segment.get(at..end)) else {
                return samples;
            };
            let Some(rest) = left.checked_sub(media.len()) else { return samples };
            *left = rest;
            let sync = traf.kind == TrackKind::Audio || (run.key && index == 0);
            samples.push(Sample { media, duration_ms: entry.duration_ms, cts_ms: entry.cts_ms, sync });
            at = end;
        }
    }
    samples
}

/// A media segment of ours, whole fragments with what stands in front of them, as one with track `id` alone. `messages`: with the data messages.
/// Empty if nothing of the track is in it.
pub fn segment_of(segment: &[u8], id: u32, messages: bool) -> Vec<u8> {
    let mut out = BoxWriter::with_capacity(segment.len());
    let (mut times, mut left): (Option<&[u8]>, usize) = (None, segment.len());
    walk(segment, |kind, whole, at| match kind {
        b"emsg" if messages => out.raw(whole),
        b"prft" if whole.len() == PRFT_BYTES => times = Some(whole).filter(|prft| be32(prft, 12) == Some(id)),
        b"moof" => {
            let times = times.take();
            let found = Found { moof: whole, at };
            let Some(traf) = trafs(whole).find(|traf| traf.track_id == id) else { return };
            let samples = samples(segment, &found, &traf, &mut left);
            if samples.is_empty() {
                return;
            }
            times.into_iter().for_each(|prft| out.raw(prft));
            let moof = |data_offset: u32| moof(whole, &traf, &samples, data_offset);
            let moof = moof(moof(0).len() as u32 + HEADER_BYTES as u32);
            out.raw(&moof);
            out.container(b"mdat", |out| samples.iter().for_each(|sample| out.raw(sample.media)));
        }
        _ => {}
    });
    out.into_bytes()
}

fn moof(original: &[u8], traf: &Traf, samples: &[Sample<'_>], data_offset: u32) -> Vec<u8> {
    let mut out = BoxWriter::default();
    out.container(b"moof", |out| {
        let number = find(&original[HEADER_BYTES..], b"mfhd").and_then(|mfhd| be32(mfhd, 4)).unwrap_or(0);
        out.full(b"mfhd", 0, 0, |out| out.u32(number));
        out.container(b"traf", |out| {
            // default-base-is-moof (8.8.7).
            out.full(b"tfhd", 0, 0x2_0000, |out| out.u32(traf.track_id));
            out.full(b"tfdt", 1, 0, |out| out.u64(traf.dts_ms));
            // Data offset; duration, size, flags and composition offset of each sample (8.8.8).
            out.full(b"trun", 1, 0xF01, |out| {
                out.u32(samples.len() as u32);
                out.u32(data_offset);
                for sample in samples {
                    out.u32(sample.duration_ms);
                    out.u32(sample.media.len() as u32);
                    out.u32(if sample.sync { SAMPLE_SYNC } else { SAMPLE_NON_SYNC });
                    out.u32(sample.cts_ms as u32);
                }
            });
        });
    });
    out.into_bytes()
}

/// What one track has in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrackShare {
    pub id: u32,
    pub bytes: u64,
    pub samples: u64,
    pub duration_ms: u64,
}

/// What each track has in a media segment of ours.
pub fn shares(segment: &[u8]) -> Vec<TrackShare> {
    let (mut shares, mut left): (Vec<TrackShare>, usize) = (Vec::new(), segment.len());
    walk(segment, |kind, whole, at| {
        if kind != b"moof" {
            return;
        }
        for traf in trafs(whole) {
            let samples = samples(segment, &Found { moof: whole, at }, &traf, &mut left);
            let index = shares.iter().position(|share| share.id == traf.track_id).unwrap_or_else(|| {
                shares.push(TrackShare { id: traf.track_id, bytes: 0, samples: 0, duration_ms: 0 });
                shares.len() - 1
            });
            let share = &mut shares[index];
            share.samples += samples.len() as u64;
            share.bytes += samples.iter().map(|sample| sample.media.len() as u64).sum::<u64>();
            share.duration_ms += samples.iter().map(|sample| u64::from(sample.duration_ms)).sum::<u64>();
        }
    });
    shares
}

/// Any bytes as an init segment and a media segment: what comes out is no larger than what went in, but for the tables of samples.
pub fn fuzz_rendition(data: &[u8]) {
    if let Some(tracks) = init_tracks(data) {
        for track in &tracks {
            let alone = init_of(data, track.id).and_then(|init| init_tracks(&init));
            assert!(alone.is_some_and(|alone| alone.iter().all(|one| one.id == track.id)));
        }
    }
    for share in shares(data) {
        let again = shares(&segment_of(data, share.id, true));
        let again = again.first().map_or(0, |share| share.bytes);
        assert!(again <= data.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Mp4Writer, init_segment};
    use super::*;
    use crate::container::MemorySink;
    use crate::media::note::Note;
    use crate::media::{AudioCodec, AudioTrack, Frame, FurtherDescription, FurtherTrack, Payload, TagHeader, Tracks, VideoCodec, VideoTrack};

    fn tracks() -> Tracks {
        let avc = [1, 0x64, 0, 0x1f, 0xff, 0xe0, 0];
        let opus = [0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0];
        Tracks {
            video: Some(Arc::new(VideoTrack::new(VideoCodec::Avc, avc.to_vec(), 640, 360))),
            audio: Some(Arc::new(AudioTrack::new(AudioCodec::Aac, vec![0x12, 0x10], 44_100, 2, 1024))),
            further: vec![
                FurtherTrack {
                    number: 1,
                    description: FurtherDescription::Audio(Arc::new(AudioTrack::new(AudioCodec::Opus, opus.to_vec(), 48_000, 2, 960))),
                },
                FurtherTrack {
                    number: 1,
                    description: FurtherDescription::Video(Arc::new(VideoTrack::new(VideoCodec::Avc, avc.to_vec(), 320, 180))),
                },
            ],
            ..Tracks::default()
        }
    }

    fn segment() -> Vec<u8> {
        let (mut writer, mut sink) = (Mp4Writer::new(&tracks(), 0), MemorySink::default());
        let note = Note { name: "onTextData".to_owned(), json: "{}".to_owned(), splice: None };
        for number in 0..30_i64 {
            let media = vec![number as u8; 100 + number as usize];
            let frame = |track, key| Frame {
                track,
                dts_ms: number * 40,
                cts_ms: 80,
                key,
                tag_header: TagHeader::new(&[]),
                media: Payload::contiguous(&media),
            };
            writer.push(&frame(TrackKind::Video, number % 10 == 0), &mut sink);
            writer.push(&Frame { cts_ms: 0, ..frame(TrackKind::Audio, true) }, &mut sink);
            writer.push_further(0, &Frame { cts_ms: 0, ..frame(TrackKind::Audio, true) }, &mut sink);
            writer.push_further(1, &frame(TrackKind::Video, number % 15 == 0), &mut sink);
            if number == 12 {
                writer.push_message(number * 40, &note, &mut sink).unwrap();
            }
        }
        writer.close_fragment(&mut sink);
        sink.bytes
    }

    #[test]
    fn names_read_back() {
        for name in ["video-1", "audio-2", "audio-16"] {
            assert_eq!(Rendition::parse(name).map(|rendition| rendition.to_string()).as_deref(), Some(name));
        }
        for name in ["video", "video-", "video-0", "video-01", "text-1", "audio-1x", "audio-123", "audio-+1"] {
            assert_eq!(Rendition::parse(name), None, "{name}");
        }
    }

    #[test]
    fn each_track_stands_alone() {
        let init = init_segment(&tracks());
        let tracks = init_tracks(&init).unwrap();
        let told: Vec<_> = tracks.iter().map(|track| (track.id, track.codecs.as_str(), track.width, track.channels)).collect();
        assert_eq!(told, [(1, "avc1.64001f", 640, 0), (2, "mp4a.40.2", 0, 2), (3, "Opus", 0, 2), (4, "avc1.64001f", 320, 0)]);
        for (name, id) in [("video-1", 1), ("audio-1", 2), ("audio-2", 3), ("video-2", 4), ("audio-9", 2)] {
            assert_eq!(Rendition::parse(name).unwrap().track(&tracks).map(|track| track.id), Some(id), "{name}");
        }
        let segment = segment();
        let all = shares(&segment);
        assert_eq!(
            all.iter().map(|share| (share.id, share.samples, share.bytes)).collect::<Vec<_>>(),
            [1, 2, 3, 4].map(|id| (id, 30, 30 * 100 + 435))
        );
        for track in &tracks {
            assert_eq!(init_tracks(&init_of(&init, track.id).unwrap()).unwrap(), std::slice::from_ref(track));
            let alone = segment_of(&segment, track.id, track.id == 1);
            assert_eq!(boxes(&alone).filter(|(kind, _)| kind == b"emsg").count(), usize::from(track.id == 1));
            // What a reader of any fragmented MP4 sees: the same times, sizes and bytes.
            let mut bytes = Vec::new();
            let mut sync = 0;
            for (kind, body) in boxes(&alone) {
                match &kind {
                    b"mdat" => bytes.extend_from_slice(body),
                    b"moof" => {
                        let trun = find(find(body, b"traf").unwrap(), b"trun").unwrap();
                        sync += (0..be32(trun, 4).unwrap() as usize).filter(|index| be32(trun, 12 + 16 * index + 8) == Some(SAMPLE_SYNC)).count();
                    }
                    _ => {}
                }
            }
            let expected: Vec<u8> = (0..30).flat_map(|number| vec![number; 100 + usize::from(number)]).collect();
            assert_eq!(bytes, expected, "{}", track.id);
            assert_eq!(sync, [3, 30, 30, 2][track.id as usize - 1]);
        }
        assert!(segment_of(&segment, 9, false).is_empty());
        for cut in (0..segment.len()).step_by(7) {
            fuzz_rendition(&segment[..cut]);
        }
        fuzz_rendition(&init);
    }
}
