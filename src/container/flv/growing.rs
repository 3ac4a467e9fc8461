//! A file that is being recorded as the samples that lie on the disk so far: goes on where it stopped.

use super::FILE_HEADER_BYTES;
use super::movie::Samples;
use super::scan::{Tag, Timelines, take};
use crate::container::mp4::{Movie, MovieTrack};
use crate::container::window::{Window, is_written};
use crate::container::{ReadAt, ScanError};
use crate::media::TrackKind;

#[derive(Default)]
pub struct Growing {
    /// What was found last: of the last frame of each track it is not yet known how long it lasts.
    samples: Samples,
    timelines: Timelines,
    movie: Option<Movie>,
    /// Where the next tag is looked for; 0: nothing was read.
    at: u64,
}

impl std::fmt::Debug for Growing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Growing").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Growing {
    /// Takes the tags that have come since.
    ///
    /// # Errors
    /// [`ScanError::Read`].
    pub fn go_on<R: ReadAt + ?Sized>(&mut self, file: &R) -> Result<(), ScanError> {
        let mut window = Window::new(file);
        let mut at = self.at.max(FILE_HEADER_BYTES as u64);
        while let Some(tag) = Tag::read(&mut window, at)? {
            // Blocks are written in any order: there may be holes near the end. The head comes first, and its room is zeros.
            let is_head = at == FILE_HEADER_BYTES as u64;
            if (!is_head && !is_written(file, at..tag.end())?) || !take(&mut self.samples, &mut self.timelines, tag, &mut window)? {
                break;
            }
            at = tag.end();
        }
        self.at = at;
        if self.movie.is_none() && (self.samples.video.len() > 1 || (self.samples.tracks.video.is_none() && self.samples.audio.len() > 1)) {
            self.movie = Some(Movie::of_tracks(&self.samples.tracks));
        }
        for track in self.movie.iter_mut().flat_map(|movie| &mut movie.tracks) {
            let samples = if track.kind == TrackKind::Video { &mut self.samples.video } else { &mut self.samples.audio };
            let known = samples.len().saturating_sub(1);
            track.samples.extend(samples.drain(..known));
        }
        Ok(())
    }

    /// What there is; `None` as long as the first track has nothing.
    pub fn movie(&self) -> Option<&Movie> {
        let is_there = |track: &MovieTrack| !track.samples.is_empty();
        self.movie.as_ref().filter(|movie| movie.tracks.first().is_some_and(is_there))
    }
}
