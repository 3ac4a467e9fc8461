//! An HLS recording: one playlist over all the media files of an output, and over the publications of a stream that comes back.

use crate::container::hls::{self, LIVE_PLAYLIST_NAME, Segmenter};
use crate::container::hls_marks::DateRanges;
use crate::container::mp4::Fragment;
use crate::container::{Sink, Store};
use crate::domain::event::RecordState;
use crate::domain::{Receipt, Resume, ResumeClaim, ResumeTerms};
use crate::media::note::Note;
use crate::units::{FileId, Format, WallTime};

use super::super::cache::FrameHead;

use super::Output;
use super::context::Context;
use super::kind::Kind;

/// A publication that takes over from another waits this long for the interruption of the other's recording.
const RESUME_WAIT_MS: u64 = 3_000;

/// An HLS recording: one playlist over all its parts.
pub(super) struct HlsRecording {
    pub(super) file_id: FileId,
    /// The part that is open, or was last; counts from 1.
    pub(super) part: u32,
    /// The epoch of the last part: another one needs its own init segment and a discontinuity.
    pub(super) epoch: Option<u32>,
    pub(super) segmenter: Segmenter,
    /// Media duration listed so far, ms: gives the wall time of a segment.
    pub(super) listed_ms: u64,
    /// Wall time at `listed_ms` 0.
    pub(super) start: WallTime,
    /// Cue points and splices in the playlist.
    pub(super) ranges: DateRanges,
    /// Of its parts so far.
    pub(super) receipt: Box<Receipt>,
    /// `None`: an interruption of the stream ends it.
    pub(super) resumable: Option<(ResumeClaim, ResumeTerms)>,
}

impl HlsRecording {
    /// Enters a data message that marks something, at `wall`, into the live playlist.
    pub(super) fn mark<S: Store>(&mut self, wall: WallTime, note: &Note, store: &mut S) {
        if let Some(line) = self.ranges.line(wall, note) {
            store.append_text(self.file_id, LIVE_PLAYLIST_NAME, line);
        }
    }

    /// Takes a fragment that has been closed; lists the segment that it ends.
    pub(super) fn take<S: Store>(&mut self, fragment: Option<Fragment>, file: &mut S::File, store: &mut S) {
        if let Some(segment) = fragment.and_then(|fragment| self.segmenter.push(&fragment)) {
            store.flush(file);
            self.list(&segment, "m4s", store);
        }
    }

    /// Lists a complete segment in the live playlist.
    pub(super) fn list<S: Store>(&mut self, segment: &hls::Segment, extension: &str, store: &mut S) {
        self.list_sealed(segment, extension, None, store);
    }

    /// As [`Self::list`]; `key_line` names its key.
    pub(super) fn list_sealed<S: Store>(&mut self, segment: &hls::Segment, extension: &str, key_line: Option<&str>, store: &mut S) {
        let wall = WallTime::from_unix_micros(self.start.unix_micros() + self.listed_ms as i64 * 1_000);
        self.listed_ms += segment.duration_ms;
        let uri = format!("media-{}.{extension}", self.part);
        let mut lines = key_line.unwrap_or_default().to_owned();
        hls::push_segment(&mut lines, segment, &uri, Some(wall));
        store.append_text(self.file_id, LIVE_PLAYLIST_NAME, lines);
    }
}

impl<F: Sink> Output<F> {
    /// Sees to it that there is an HLS recording if one is wanted: the one in which the publication before was interrupted, or a new one. False: the
    /// publication before is just ending.
    pub(super) fn begin_hls<S: Store<File = F>>(&mut self, frame: &FrameHead, context: &mut Context<'_, S::Pin>, store: &mut S) -> bool {
        if self.hls.is_some() || self.kind.hls().is_none() {
            return true;
        }
        let (mut part, mut session, mut continued, mut receipt) = (0, self.session, None, Box::default());
        let claim = (self.resume_wait_s > 0).then(|| ResumeClaim {
            key: context.publication.key.clone(),
            source: self.source.clone(),
            publication: context.publication.id,
            transport_stream: matches!(self.kind, Kind::TransportStream(..)),
            encryption: self.kind.encryption(),
        });
        if let Some(claim) = &claim {
            let since = *self.awaiting.get_or_insert(context.now.mono);
            let patient = context.now.mono.millis_since(since) < RESUME_WAIT_MS;
            match store.resume(claim, patient) {
                Resume::Wait => return false,
                Resume::No => {}
                Resume::Continue(paused) => {
                    (part, session, continued, receipt) = (paused.part, paused.session, Some(paused.file_id), paused.receipt);
                    self.resumed = true;
                    context.changes.push(self.change(Format::Hls, session, RecordState::Resumed));
                }
            }
        }
        self.awaiting = None;
        self.hls = Some(HlsRecording {
            file_id: continued.unwrap_or_else(|| store.next_file_id()),
            part,
            epoch: None,
            segmenter: Segmenter::new(context.settings.hls_segment_ms),
            listed_ms: 0,
            start: context.wall_at(frame.dts_ms),
            ranges: DateRanges::default(),
            receipt,
            resumable: claim.map(|claim| (claim, ResumeTerms { wait_s: self.resume_wait_s, session })),
        });
        true
    }

    /// The HLS recording goes on behind its part `part`.
    pub fn continue_hls(&mut self, file_id: FileId, part: u32, start: WallTime, segment_ms: u64) {
        if matches!(self.kind, Kind::Hybrid { hls: Some(_), .. } | Kind::TransportStream(..)) {
            let segmenter = Segmenter::new(segment_ms);
            let receipt = Box::default();
            self.hls = Some(HlsRecording {
                file_id,
                part,
                epoch: None,
                segmenter,
                listed_ms: 0,
                start,
                ranges: DateRanges::default(),
                receipt,
                resumable: None,
            });
        }
    }
}
