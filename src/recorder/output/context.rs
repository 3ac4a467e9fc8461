//! What an output needs of its recorder, and what it tells of its recordings.

use std::collections::VecDeque;

use crate::container::{Pinned, Sink, Unfit};
use crate::domain::event::{RecordExceptionKind, RecordSessionId, RecordState};
use crate::units::{Format, WallTime};

use super::super::cache::{Cache, Sequence};
use super::super::{DropReason, Epoch, Now, Publication, RecordChange, RecorderSettings};

use super::{Begun, Output};

/// What an output needs of its recorder.
pub struct Context<'a, P> {
    pub publication: &'a Publication,
    pub settings: &'a RecorderSettings,
    pub cache: &'a Cache<P>,
    pub epochs: &'a mut VecDeque<Epoch>,
    /// No other track is expected any more.
    pub tracks_complete: bool,
    /// Frames before this one are for the output that is served now.
    pub limit: Sequence,
    /// Nothing comes behind the limit: what is there must go out.
    pub closing: bool,
    pub now: Now,
    pub media_start_ms: i64,
    pub files_begun: u64,
    /// Frames that are in no file of the output, by reason.
    pub lost: Losses,
    /// Tracks that their container cannot hold.
    pub left_out: &'a mut Vec<LeftOut>,
    /// Begins, interruptions and ends of recordings.
    pub changes: &'a mut Vec<RecordChange>,
    /// What is wrong with one output.
    pub troubles: &'a mut Vec<Trouble>,
    /// The frames are from the past: the wall-clock time of one of them, and its DTS.
    pub anchor: Option<(WallTime, i64)>,
}

/// Something is wrong with the recordings of one output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    pub session: RecordSessionId,
    pub formats: [Option<Format>; 2],
    pub kind: RecordExceptionKind,
    pub description: String,
}

/// A track that is not in the files of one container, because that has no place for its codec.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeftOut {
    pub container: &'static str,
    pub codec: &'static str,
    /// Said already.
    pub told: bool,
}

impl LeftOut {
    /// Notes it for the log, once.
    pub fn note(known: &mut Vec<Self>, container: &'static str, codec: &'static str) {
        if !known.iter().any(|known| (known.container, known.codec) == (container, codec)) {
            known.push(Self { container, codec, told: false });
        }
    }
}

impl<P: Pinned> Context<'_, P> {
    /// That of a frame which has not been taken.
    pub(super) fn epoch(&mut self, number: u32) -> &mut Epoch {
        let first = self.epochs[0].number;
        &mut self.epochs[(number - first) as usize]
    }

    /// That of an open file: forgotten when no frame of it is left to be taken.
    pub(super) fn epoch_of_file(&self, number: u32) -> Option<&Epoch> {
        self.epochs.iter().find(|epoch| epoch.number == number)
    }

    pub(super) fn leave_out(&mut self, container: &'static str, codec: &'static str) {
        LeftOut::note(self.left_out, container, codec);
    }

    /// When a frame was received.
    pub(super) fn wall_at(&self, dts_ms: i64) -> WallTime {
        self.anchor.map_or(self.now.wall, |(wall, anchor_ms)| {
            WallTime::from_unix_micros(wall.unix_micros().saturating_add((dts_ms - anchor_ms).saturating_mul(1_000)))
        })
    }

    pub(super) fn now_at(&self, dts_ms: i64) -> Now {
        Now { wall: self.wall_at(dts_ms), ..self.now }
    }

    pub(super) fn newest_epoch(&self) -> u32 {
        self.epochs.back().map_or(0, |epoch| epoch.number)
    }
}

/// Frames lost, by reason.
pub type Losses = [u64; DropReason::ALL.len()];

impl<F: Sink> Output<F> {
    pub(super) fn trouble(&self, kind: RecordExceptionKind, description: String) -> Trouble {
        Trouble { session: self.session, formats: self.format_pair(), kind, description }
    }

    pub(super) fn change(&self, format: Format, session: RecordSessionId, state: RecordState) -> RecordChange {
        RecordChange { source: self.source.clone(), session, format, state }
    }

    /// The storage has failed since the last call, or a disk was left: what is to be told of it.
    pub fn take_failure(&mut self, changes: &mut Vec<RecordChange>) -> Option<Trouble> {
        let left = self.left.take();
        let Some(lost) = self.failed.take() else {
            let what = match left? {
                Unfit::Full => "is full",
                Unfit::Failing => "fails",
                Unfit::Stalled => "does not follow",
            };
            return Some(self.trouble(RecordExceptionKind::CannotRead, format!("the disk {what}; recording goes on in a new file on another one")));
        };
        changes.extend(self.formats().map(|format| self.change(format, self.session, RecordState::Error)));
        let lost = if lost == 0 { String::new() } else { format!("; {lost} frames are lost") };
        Some(self.trouble(RecordExceptionKind::CannotRead, format!("the storage has failed or did not follow{lost}")))
    }

    /// The recordings cannot begin with these tracks.
    pub(super) fn cannot_begin(&mut self, why: &str, changes: &mut Vec<RecordChange>, troubles: &mut Vec<Trouble>) {
        if self.begun != Begun::Untold {
            return;
        }
        self.begun = Begun::Failed;
        changes.extend(self.formats().map(|format| self.change(format, self.session, RecordState::StartFailed)));
        if self.lacks[0].is_some() {
            return;
        }
        let kind = if self.audio_only { RecordExceptionKind::AudioMissing } else { RecordExceptionKind::VideoMissing };
        troubles.push(self.trouble(kind, why.to_owned()));
    }
}
