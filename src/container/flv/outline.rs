//! A finished FLV file by the key-frame index in its onMetaData: what a playlist needs, and the samples of one segment, without reading the rest.

use std::ops::Range;

use super::FILE_HEADER_BYTES;
use super::metadata::{KeyFrame, Stated};
use super::movie::{Samples, sample};
use super::scan::{Frames, Tag, Timelines, take};
use crate::container::mp4::Movie;
use crate::container::window::Window;
use crate::container::{ReadAt, ScanError};
use crate::media::Tracks;
use crate::media::flv_tag::FramePart;

/// An onMetaData tag of ours is some tens of KiB.
const METADATA_BYTES_MAX: usize = 1 << 20;
/// Entries that are compared with the file before the others are believed.
const PROBES: usize = 16;
/// Tags from the beginning on that are looked at for what the tracks are.
const HEAD_TAGS_MAX: usize = 1_000;
/// Tags behind a stretch that are looked at for how long its last frames last.
const TAGS_BEHIND_MAX: usize = 200;
/// A key frame this little before the wanted length ends the segment.
const CUT_EARLY_MS: u64 = 100;
/// An index that is coarser than this, in segments, is one that was thinned: whoever wants segments reads the file instead.
const COARSE_SEGMENTS: u64 = 4;

/// What the index tells.
#[derive(Clone, Debug)]
pub struct Outline {
    tracks: Tracks,
    /// Where segments may begin. The first one begins with the file.
    starts: Vec<KeyFrame>,
    end: u64,
    duration_ms: u64,
}

/// A piece of the file between two key frames.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch {
    pub bytes: Range<u64>,
    /// Decoding time of its key frame, ms, as the file counts.
    pub start_ms: i64,
    pub duration_ms: u64,
}

/// Reads the head of the file. `None`: it has no index, or one that does not agree with the file, as that of another writer may not.
///
/// # Errors
/// [`ScanError::Head`] for what is no FLV file, [`ScanError::Read`].
pub fn outline<R: ReadAt + ?Sized>(file: &R) -> Result<Option<Outline>, ScanError> {
    let mut window = Window::new(file);
    match window.array::<FILE_HEADER_BYTES>(0)? {
        Some([b'F', b'L', b'V', 1, _, 0, 0, 0, 9, 0, 0, 0, 0]) => {}
        _ => return Err(ScanError::Head { what: "no FLV header" }),
    }
    let Some(first) = Tag::read(&mut window, FILE_HEADER_BYTES as u64)? else { return Ok(None) };
    let Some(body) = first.script_body(METADATA_BYTES_MAX) else { return Ok(None) };
    let mut metadata = vec![0; (body.end - body.start) as usize];
    let count = file.read_at(body.start, &mut metadata).map_err(|source| ScanError::Read { offset: body.start, source })?;
    let Some(stated) = Stated::read(&metadata[..count]) else { return Ok(None) };
    let starts = stated.key_frames;
    let rises = starts.windows(2).all(|pair| pair[0].offset < pair[1].offset && pair[0].time_ms <= pair[1].time_ms);
    let [first_key, .., last_key] = &starts[..] else { return Ok(None) };
    if !rises || stated.file_bytes != window.file_len() || first_key.offset < first.end() || last_key.offset >= stated.file_bytes {
        return Ok(None);
    }
    // Evenly spread, with the first and the last.
    for number in 0..PROBES {
        let start = starts[number * (starts.len() - 1) / (PROBES - 1)];
        if !is_key_frame(&mut window, start)? {
            return Ok(None);
        }
    }
    let Some(tracks) = tracks_of(&mut window, first.end(), (stated.has_video, stated.has_audio))? else { return Ok(None) };
    Ok(Some(Outline { tracks, starts, end: stated.file_bytes, duration_ms: stated.duration_ms }))
}

/// Is there a key frame of that time at that place?
fn is_key_frame<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, start: KeyFrame) -> Result<bool, ScanError> {
    let Some(tag) = Tag::read(window, start.offset)? else { return Ok(false) };
    let mut walk = Walk::new(start.time_ms, 0);
    Ok(take(&mut walk, &mut Timelines::default(), tag, window)? && walk.first_video == Some((start.offset, start.time_ms, true)))
}

/// The tracks as the first tags tell, if they are those that the metadata names and each has a frame.
fn tracks_of<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, mut at: u64, stated: (bool, bool)) -> Result<Option<Tracks>, ScanError> {
    let (mut samples, mut timelines) = (Samples::default(), Timelines::default());
    for _ in 0..HEAD_TAGS_MAX {
        let Some(tag) = Tag::read(window, at)? else { break };
        if !take(&mut samples, &mut timelines, tag, window)? {
            break;
        }
        if (!samples.video.is_empty(), !samples.audio.is_empty()) == stated {
            let tracks = samples.tracks;
            return Ok(((tracks.video.is_some(), tracks.audio.is_some()) == stated).then_some(tracks));
        }
        at = tag.end();
    }
    Ok(None)
}

impl Outline {
    /// Cuts the file into segments that begin with key frames, about `segment_ms` long. `None`: the index is too coarse for that.
    pub fn segments(&self, segment_ms: u64) -> Option<Vec<Stretch>> {
        let wanted = segment_ms.saturating_sub(CUT_EARLY_MS) as i64;
        let mut starts: Vec<KeyFrame> = Vec::new();
        for start in &self.starts {
            if starts.last().is_none_or(|last| start.time_ms - last.time_ms >= wanted) {
                starts.push(*start);
            }
        }
        let first_ms = self.starts.first()?.time_ms;
        let mut segments = Vec::with_capacity(starts.len());
        for (number, start) in starts.iter().enumerate() {
            let (until, until_ms) = match starts.get(number + 1) {
                Some(next) => (next.offset, next.time_ms),
                None => (self.end, first_ms + self.duration_ms as i64),
            };
            // What comes before the first key frame belongs to it.
            let from = if number == 0 { FILE_HEADER_BYTES as u64 } else { start.offset };
            let duration_ms = (until_ms - start.time_ms).max(1) as u64;
            if duration_ms > COARSE_SEGMENTS * segment_ms {
                return None;
            }
            segments.push(Stretch { bytes: from..until, start_ms: start.time_ms, duration_ms });
        }
        Some(segments)
    }

    /// The tracks without a sample: what the init segment says.
    pub fn tracks(&self) -> Movie {
        Movie::of_tracks(&self.tracks)
    }

    /// The samples of a stretch, at their times in the file.
    ///
    /// # Errors
    /// [`ScanError::Head`] if no key frame stands where the index says, [`ScanError::Empty`] without a frame, [`ScanError::Read`].
    pub fn stretch<R: ReadAt + ?Sized>(&self, file: &R, stretch: &Stretch) -> Result<Movie, ScanError> {
        let mut window = Window::new(file);
        let (mut walk, mut timelines) = (Walk::new(stretch.start_ms, stretch.bytes.end), Timelines::default());
        let (mut at, mut behind) = (stretch.bytes.start, 0);
        while let Some(tag) = Tag::read(&mut window, at)? {
            if at >= stretch.bytes.end {
                behind += 1;
                if behind > TAGS_BEHIND_MAX || walk.all_ended() {
                    break;
                }
            }
            if !take(&mut walk, &mut timelines, tag, &mut window)? {
                break;
            }
            at = tag.end();
        }
        let begins_well =
            stretch.bytes.start == FILE_HEADER_BYTES as u64 || walk.first_video.is_some_and(|(at, _, key)| key && at == stretch.bytes.start);
        if !begins_well {
            return Err(ScanError::Head { what: "no key frame where the index says" });
        }
        // The headers stand at the beginning of the file only.
        let Samples { video, audio, .. } = walk.samples;
        Movie::from_samples(&self.tracks, video, audio).ok_or(ScanError::Empty)
    }
}

/// Collects the samples before `until`, and of those behind how long the last ones last.
struct Walk {
    samples: Samples,
    /// A time near by that is not modulo 2^32.
    near_ms: i64,
    until: u64,
    ended: [bool; 2],
    /// Place, time and kind of the first video frame.
    first_video: Option<(u64, i64, bool)>,
}

impl Walk {
    fn new(near_ms: i64, until: u64) -> Self {
        Self { samples: Samples::default(), near_ms, until, ended: [false; 2], first_video: None }
    }

    fn all_ended(&self) -> bool {
        (self.ended[0] || self.samples.video.is_empty()) && (self.ended[1] || self.samples.audio.is_empty())
    }

    fn time(&self, dts_ms: i64) -> i64 {
        self.near_ms + i64::from((dts_ms as u32).wrapping_sub(self.near_ms as u32) as i32)
    }
}

impl Frames for Walk {
    fn tracks(&mut self) -> &mut Tracks {
        &mut self.samples.tracks
    }
    fn video(&mut self, tag: &Tag, dts_ms: i64, part: &FramePart<'_>, media_bytes: u64) {
        let dts_ms = self.time(dts_ms);
        self.first_video.get_or_insert((tag.offset(), dts_ms, part.key));
        if tag.offset() < self.until {
            Samples::push(&mut self.samples.video, sample(tag, dts_ms, part.cts_ms, part.key, media_bytes));
        } else if !std::mem::replace(&mut self.ended[0], true) {
            Samples::end(&mut self.samples.video, dts_ms);
        }
    }
    fn audio(&mut self, tag: &Tag, dts_ms: i64, media_bytes: u64) {
        let dts_ms = self.time(dts_ms);
        if tag.offset() < self.until {
            Samples::push(&mut self.samples.audio, sample(tag, dts_ms, 0, true, media_bytes));
        } else if !std::mem::replace(&mut self.ended[1], true) {
            Samples::end(&mut self.samples.audio, dts_ms);
        }
    }
}

/// Any bytes as a file: no index, or one whose samples lie in the file.
pub fn fuzz_outline(data: &[u8]) {
    let Ok(Some(outline)) = outline(data) else { return };
    for stretch in outline.segments(2_000).unwrap_or_default() {
        assert!(stretch.bytes.start < stretch.bytes.end && stretch.bytes.end <= data.len() as u64);
        if let Ok(movie) = outline.stretch(data, &stretch) {
            assert!(movie.tracks.iter().flat_map(|track| &track.samples).all(|sample| sample.offset + u64::from(sample.bytes) <= data.len() as u64));
        }
    }
}
