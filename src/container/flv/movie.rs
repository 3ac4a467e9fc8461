//! A finished FLV file as the samples of a movie.

use super::FILE_HEADER_BYTES;
use super::scan::{Frames, Tag, Timelines, take};
use crate::container::mp4::{Movie, MovieSample};
use crate::container::window::Window;
use crate::container::{ReadAt, ScanError};
use crate::media::Tracks;
use crate::media::flv_tag::FramePart;

/// Duration of a frame that no other follows or goes before.
const ONLY_MS: u32 = 40;

/// Reads the tags up to the last whole one. Frames lie in the file as they do in MP4.
///
/// # Errors
/// [`ScanError::Head`] for what is no FLV file, [`ScanError::Empty`] without a frame, [`ScanError::Read`].
pub fn movie<R: ReadAt + ?Sized>(file: &R) -> Result<Movie, ScanError> {
    let mut window = Window::new(file);
    match window.array::<FILE_HEADER_BYTES>(0)? {
        Some([b'F', b'L', b'V', 1, _, 0, 0, 0, 9, 0, 0, 0, 0]) => {}
        _ => return Err(ScanError::Head { what: "no FLV header" }),
    }
    let (mut samples, mut timelines) = (Samples::default(), Timelines::default());
    let mut at = FILE_HEADER_BYTES as u64;
    while let Some(tag) = Tag::read(&mut window, at)? {
        if !take(&mut samples, &mut timelines, tag, &mut window)? {
            break;
        }
        at = tag.end();
    }
    let Samples { tracks, video, audio } = samples;
    Movie::from_samples(&tracks, video, audio).ok_or(ScanError::Empty)
}

#[derive(Default)]
pub(super) struct Samples {
    pub tracks: Tracks,
    pub video: Vec<MovieSample>,
    pub audio: Vec<MovieSample>,
}

impl Samples {
    /// The next sample tells how long the one before lasts.
    pub fn push(samples: &mut Vec<MovieSample>, mut sample: MovieSample) {
        Self::end(samples, sample.dts as i64);
        if let Some(last) = samples.last() {
            sample.dts = sample.dts.max(last.dts);
            sample.duration = last.duration;
        }
        samples.push(sample);
    }

    /// Nothing of this track comes before `dts_ms`.
    pub fn end(samples: &mut [MovieSample], dts_ms: i64) {
        if let Some(last) = samples.last_mut() {
            last.duration = u32::try_from((dts_ms.max(0) as u64).saturating_sub(last.dts)).unwrap_or(u32::MAX);
        }
    }
}

impl Frames for Samples {
    fn tracks(&mut self) -> &mut Tracks {
        &mut self.tracks
    }
    fn video(&mut self, tag: &Tag, dts_ms: i64, part: &FramePart<'_>, media_bytes: u64) {
        Samples::push(&mut self.video, sample(tag, dts_ms, part.cts_ms, part.key, media_bytes));
    }
    fn audio(&mut self, tag: &Tag, dts_ms: i64, media_bytes: u64) {
        Samples::push(&mut self.audio, sample(tag, dts_ms, 0, true, media_bytes));
    }
}

pub(super) fn sample(tag: &Tag, dts_ms: i64, cts: i32, sync: bool, media_bytes: u64) -> MovieSample {
    MovieSample { offset: tag.media_offset(media_bytes), bytes: media_bytes as u32, dts: dts_ms.max(0) as u64, cts, duration: ONLY_MS, sync }
}
