//! How an output ends a file: in order, or because its disk does not take it.

use crate::container::{MediaPath, RecordingEnd, Room, Scanned, Sink, Store, Unfit};
use crate::domain::event::RecordState;
use crate::domain::receipt::Continued;
use crate::domain::{EndReason, PausedRecording, Receipt, ResumeClaim};
use crate::units::{FileId, Format, MonoTime, WallTime};

use super::super::cache::{Cache, Sequence};
use super::super::item::What;
use super::super::{DropReason, Now, RecordChange};

use super::context::Losses;
use super::file::{OpenFile, Writer};
use super::hls::HlsRecording;
use super::{Begun, Output, RingEvent, State};

/// After a storage failure an output begins again at the next key frame; after files in a row that failed soon, at the first one after this, and
/// twice as long each time.
const RETRY_MS: u64 = 500;
const RETRY_MS_MAX: u64 = 30_000;
/// A file that failed before it was this old failed soon.
const SOON_MS: u64 = 10_000;

impl<F: Sink> Output<F> {
    /// Closes the open file, and with it the recording that is this one file.
    pub(super) fn close_file<S: Store<File = F>>(&mut self, reason: EndReason, now: Now, store: &mut S) {
        let State::Writing(mut open) = std::mem::replace(&mut self.state, State::Starting) else { return };
        match &mut open.writer {
            Writer::Mp4(writer) => {
                let fragment = writer.close_fragment(&mut open.file);
                let behind = writer.messages_behind(&open.file);
                if let Some(recording) = &mut self.hls {
                    let ended = fragment.and_then(|fragment| recording.segmenter.push(&fragment));
                    behind.into_iter().for_each(|range| recording.segmenter.extend(range));
                    let segments = [ended, recording.segmenter.finish()];
                    store.commit(&mut open.file, self.next);
                    store.flush(&mut open.file);
                    for segment in segments.into_iter().flatten() {
                        recording.list(&segment, "m4s", store);
                    }
                }
            }
            Writer::Ts(_) => {
                let key_line = open.sealer.as_mut().and_then(|sealer| sealer.end_segment(&mut open.file));
                if let (Some(ended), Some(recording)) = (open.ts_start.take(), &mut self.hls) {
                    store.flush(&mut open.file);
                    recording.list_sealed(&ended.until(open.file.position(), open.last_dts_ms).into(), "ts", key_line.as_deref(), store);
                }
            }
            Writer::Flv(_) | Writer::Adts(_) | Writer::Mp3(_) => {}
        }
        let given = open.receipt(&std::mem::take(&mut self.lost));
        let OpenFile { file, writer, sealer, recording, continues, .. } = *open;
        let known = match writer {
            Writer::Flv(writer) => writer.finish(file.position()).ok().map(Scanned::from),
            Writer::Adts(writer) => writer.finish(file.position()).ok().map(Scanned::from),
            // What is encrypted lies elsewhere than its writer thinks.
            Writer::Ts(writer) if sealer.is_none() => writer.finish(file.position()).ok().map(Scanned::from),
            Writer::Mp3(writer) => writer.finish(file.position()).map(Scanned::from),
            Writer::Ts(_) | Writer::Mp4(_) => None,
        };
        store.close(file, known);
        self.end_file((recording, continues), given, reason, now, store);
    }

    /// A file is closed: ends the recording that it is.
    fn end_file<S: Store<File = F>>(
        &mut self,
        (recording, continues): (Option<FileId>, Option<Continued>),
        mut receipt: Box<Receipt>,
        reason: EndReason,
        now: Now,
        store: &mut S,
    ) {
        if let Some(hls) = &mut self.hls {
            hls.receipt.add(&receipt);
        }
        receipt.continues = continues;
        self.leaving = None;
        if let Some(file_id) = recording {
            self.before[0] = continued(file_id, reason);
            let shared_with = self.hls.as_ref().map(|hls| MediaPath { folder: hls.file_id, part: hls.part, extension: "m4s" });
            store.end_recording(RecordingEnd { file_id, end: now.wall, reason, shared_with, receipt, claim: None });
        }
        if let Some(ring) = &mut self.ring
            && let Some(HlsRecording { file_id, receipt, .. }) = self.hls.take()
        {
            store.end_recording(RecordingEnd { file_id, end: now.wall, reason, shared_with: None, receipt, claim: None });
            ring.cut = false;
            ring.events.push(RingEvent::Closed { next: self.next, wall: now.wall });
        }
    }

    /// Ends the output: the open file and the HLS recording over all its parts. If this is but an interruption of the latter, the answer says so.
    pub fn end<S: Store<File = F>>(&mut self, reason: EndReason, now: Now, store: &mut S, changes: &mut Vec<RecordChange>) {
        self.close_file(reason, now, store);
        let state = match self.begun {
            Begun::Untold => RecordState::StartFailed,
            Begun::Failed => return,
            Begun::Told => RecordState::Ended,
        };
        let single = self.formats().filter(|format| *format != Format::Hls || self.hls.is_none());
        changes.extend(single.map(|format| self.change(format, self.session, state)));
        let Some(HlsRecording { file_id, part, resumable, receipt: mut total, .. }) = self.hls.take() else { return };
        self.before[1] = continued(file_id, reason);
        lose(&mut total, &std::mem::take(&mut self.lost));
        let is_interruption = matches!(reason, EndReason::PublicationEnded | EndReason::Shutdown);
        match resumable {
            Some((claim, terms)) if is_interruption => {
                let ResumeClaim { key, source, publication, transport_stream, encryption } = claim;
                let resume_until = WallTime::from_unix_micros(now.wall.unix_micros().saturating_add_unsigned(terms.wait_s.saturating_mul(1_000_000)));
                let session = terms.session;
                let end = now.wall;
                store.pause_recording(PausedRecording {
                    file_id,
                    key,
                    source,
                    publication,
                    session,
                    transport_stream,
                    encryption,
                    part,
                    end,
                    reason,
                    resume_until,
                    receipt: total,
                });
                changes.push(self.change(Format::Hls, session, RecordState::Paused));
            }
            _ => {
                let session = resumable.as_ref().map_or(self.session, |(_, terms)| terms.session);
                changes.push(self.change(Format::Hls, session, state));
                let claim = resumable.map(|(claim, _)| claim);
                store.end_recording(RecordingEnd { file_id, end: now.wall, reason, shared_with: None, receipt: total, claim });
            }
        }
    }

    /// Ends the output after a defect, whose writer may be out of step: its files end with the last complete frame.
    pub fn abandon<S: Store<File = F>>(&mut self, reason: EndReason, now: Now, store: &mut S, changes: &mut Vec<RecordChange>) {
        if let State::Writing(open) = std::mem::replace(&mut self.state, State::Starting) {
            let given = open.receipt(&std::mem::take(&mut self.lost));
            let OpenFile { file, recording, continues, .. } = *open;
            store.abandon(file);
            self.end_file((recording, continues), given, reason, now, store);
        }
        self.end(reason, now, store, changes);
    }

    /// The storage took nothing for too long: skips to `end`, closes the file. Returns the frames lost.
    pub fn give_up<S: Store<File = F>>(&mut self, end: Sequence, cache: &Cache<S::Pin>, now: Now, store: &mut S) -> u64 {
        let is_lost = |sequence: &Sequence| match cache.head(*sequence).what {
            What::Frame(track) => self.takes(track),
            What::Further(_) | What::Data => self.kind.holds_messages(),
        };
        let lost = (self.next..end).filter(is_lost).count() as u64;
        if lost > 0 {
            self.lost[DropReason::StorageBusy as usize] += lost;
            self.fail(DropReason::StorageBusy, now, store);
            self.failed = self.failed.map(|before| before + lost);
            self.next = end;
        }
        lost
    }

    /// Ends a file that the disk has refused; another is begun later.
    pub fn check_storage<S: Store<File = F>>(&mut self, now: Now, store: &mut S) {
        let room = match (&self.state, &self.hls) {
            (State::Writing(open), _) if store.has_failed(&open.file) => return self.fail(DropReason::StorageFailed, now, store),
            (State::Writing(open), _) => store.room(Some(&open.file)),
            (State::Starting, Some(hls)) => store.room_beside(hls.file_id),
            (State::Starting, None) => Room::Free,
        };
        // What is open there ends where files may be cut, so that nothing is lost.
        self.leaving = match room {
            Room::Elsewhere(unfit) if matches!(self.state, State::Writing(_)) => Some(unfit),
            _ => None,
        };
        if room == Room::Full {
            // Also an HLS recording: later there is no room to complete it.
            // It goes on when there is room: what is told is the failure, not an end.
            self.end(EndReason::StorageFull, now, store, &mut Vec::new());
            self.failed.get_or_insert(0);
            (self.need_key, self.skipping) = (true, Some(DropReason::StorageFull));
        }
    }

    /// Ends what lies on a disk that is unfit; another disk takes what follows.
    pub(super) fn leave<S: Store<File = F>>(&mut self, unfit: Unfit, now: Now, store: &mut S) {
        let reason = match unfit {
            Unfit::Full => EndReason::StorageFull,
            Unfit::Failing | Unfit::Stalled => EndReason::StorageFailed,
        };
        // It goes on: no end is told.
        self.end(reason, now, store, &mut Vec::new());
        self.left = Some(unfit);
    }

    pub(super) fn fail<S: Store<File = F>>(&mut self, reason: DropReason, now: Now, store: &mut S) {
        let soon = matches!(&self.state, State::Writing(open) if now.mono.millis_since(open.opened) < SOON_MS);
        // An HLS recording goes on with its next part, if it has a first one.
        if self.hls.as_ref().is_some_and(|hls| hls.part <= 1) {
            self.end(EndReason::StorageFailed, now, store, &mut Vec::new());
        } else {
            self.close_file(EndReason::StorageFailed, now, store);
        }
        self.failed.get_or_insert(0);
        (self.need_key, self.skipping) = (true, Some(reason));
        self.failures = if soon { self.failures + 1 } else { 0 };
        let wait_ms = if self.failures <= 1 { 0 } else { (RETRY_MS << self.failures.min(10)).min(RETRY_MS_MAX) };
        self.retry_at = Some(MonoTime::from_nanos(now.mono.nanos() + wait_ms * 1_000_000));
    }
}

/// For what goes on from recording `file_id`, if its storage ended it.
pub(super) fn continued(file_id: FileId, reason: EndReason) -> Option<Continued> {
    let reason = match reason {
        EndReason::StorageFailed => DropReason::StorageFailed,
        EndReason::StorageFull => DropReason::StorageFull,
        _ => return None,
    };
    Some(Continued { file_id, reason: reason.name().to_owned() })
}

/// Enters what was lost.
pub(super) fn lose(receipt: &mut Receipt, lost: &Losses) {
    for reason in DropReason::ALL {
        receipt.lose(reason.name(), lost[reason as usize]);
    }
}
