//! What a recorder tells of its recordings and of what is wrong with them.

use crate::container::Store;
use crate::domain::RecordingSource;
use crate::domain::event::{ExceptionLevel, LiveEventKind, RecordException, RecordExceptionKind};
use crate::media::TrackKind;
use crate::units::Format;

use super::past::Ring;

use super::output::{LeftOut, Trouble};
use super::{Now, RecordChange, Recorder};

impl<S: Store> Recorder<S> {
    /// What is being recorded, and for whom.
    pub fn recordings(&self) -> impl Iterator<Item = (&RecordingSource, Format)> {
        let open = self.sessions.iter().filter(|session| session.ending.is_none() && session.source != RecordingSource::Ring);
        open.flat_map(|session| session.outputs.iter().flat_map(|output| output.formats().map(|format| (&session.source, format))))
    }

    /// Codecs met and not recorded; each is named once.
    pub fn take_unsupported(&mut self) -> Vec<&'static str> {
        let told = std::mem::replace(&mut self.unsupported_told, self.unsupported.len());
        self.unsupported[told..].to_vec()
    }

    /// Tracks that a container has no place for, as container and codec; each is told once.
    pub fn take_left_out(&mut self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let news = |left_out: &mut LeftOut| (!std::mem::replace(&mut left_out.told, true)).then_some((left_out.container, left_out.codec));
        self.left_out.iter_mut().filter_map(news)
    }

    /// What went wrong, once the period is over in which it is collected.
    pub fn take_events(&mut self) -> Vec<LiveEventKind> {
        std::mem::take(&mut self.events)
    }

    /// Collects what is to be told of errors: of periods that are over, or of all (`at_once`).
    pub(super) fn gather(&mut self, now: Now, at_once: bool) {
        let exceptions = self.watch.take_exceptions(now, at_once);
        if !exceptions.is_empty() {
            for session in self.sessions.iter().filter(|session| session.ending.is_none() && session.source != RecordingSource::Ring) {
                for (output, format) in session.outputs.iter().flat_map(|output| output.formats().map(move |format| (output, format))) {
                    for level in [ExceptionLevel::Error, ExceptionLevel::Warning, ExceptionLevel::Info] {
                        let exceptions: Vec<_> = exceptions.iter().filter(|one| one.kind.level() == level).cloned().collect();
                        if !exceptions.is_empty() {
                            self.events.push(LiveEventKind::RecordException { session: output.session(), format, level, exceptions });
                        }
                    }
                }
            }
        }
        let ring = self.ring.as_ref().map(Ring::session);
        for Trouble { session, formats, kind, description } in self.troubles.drain(..).filter(|trouble| Some(trouble.session) != ring) {
            for format in formats.into_iter().flatten() {
                let exceptions = vec![RecordException { kind, occurs: 1, description: description.clone() }];
                self.events.push(LiveEventKind::RecordException { session, format, level: kind.level(), exceptions });
            }
        }
        let abnormal = self.watch.take_abnormal(now, at_once);
        if !abnormal.is_empty() {
            self.events.push(LiveEventKind::PushAbnormal { abnormal });
        }
    }

    /// The publisher sends chunks larger than encoders should.
    pub fn chunk_too_large(&mut self, bytes: u32, now: Now) {
        self.watch.chunk_too_large(bytes, now);
    }

    /// Begins, interruptions and ends of recordings since the last call.
    pub fn take_changes(&mut self) -> Vec<RecordChange> {
        self.changes.retain(|change| change.source != RecordingSource::Ring);
        std::mem::take(&mut self.changes)
    }

    /// Looks once whether the tracks that were announced have come.
    pub(super) fn check_announced(&mut self, now: Now) {
        let Some((video, audio)) = self.announced.filter(|_| !self.announced_is_checked && self.first_frame.is_some()) else { return };
        if !self.tracks_are_complete(now) {
            return;
        }
        self.announced_is_checked = true;
        let tracks = &self.epoch().tracks;
        let (no_video, no_audio) = (video && tracks.video.is_none(), audio && tracks.audio.is_none());
        for (is_missing, track) in [(no_video, TrackKind::Video), (no_audio, TrackKind::Audio)] {
            if is_missing {
                self.watch.exception(missing(track), || "the track was announced and has not come".to_owned());
            }
        }
    }
}

pub(super) const fn missing(track: TrackKind) -> RecordExceptionKind {
    match track {
        TrackKind::Video => RecordExceptionKind::VideoMissing,
        TrackKind::Audio => RecordExceptionKind::AudioMissing,
    }
}
