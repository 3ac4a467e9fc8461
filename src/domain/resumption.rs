//! HLS recordings that outlive an interruption of their stream (`FlowContinueDuration`): the next publication of the same stream goes on with the same
//! playlist.
//!
//! One table for all cores, touched when an HLS recording begins or is interrupted. Time is an input.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::units::{FileId, PublicationId, StreamKey, WallTime};

use super::event::RecordSessionId;
use super::sealing::HlsEncryption;
use super::{EndReason, Policy, Receipt, RecordingSource};

/// Interrupted recordings that wait. One more is finished at once: a publisher who invents names must not fill the memory.
pub const PAUSED_MAX: usize = 20_000;

/// What a recording says of itself, so that its interruption is no end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResumeTerms {
    /// Seconds from an interruption to the end, 1 to 1800.
    pub wait_s: u64,
    pub session: RecordSessionId,
}

/// An HLS recording whose stream is interrupted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PausedRecording {
    pub file_id: FileId,
    pub key: StreamKey,
    pub source: RecordingSource,
    /// The publication that was interrupted.
    pub publication: PublicationId,
    pub session: RecordSessionId,
    /// Parts are MPEG-TS, else fragmented MP4: one playlist holds one of them.
    pub transport_stream: bool,
    /// Its segments are encrypted so: those of all parts, as the recording says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<HlsEncryption>,
    /// Number of the last part.
    pub part: u32,
    /// When its stream was interrupted.
    pub end: WallTime,
    /// What ends the file if nobody comes.
    pub reason: EndReason,
    pub resume_until: WallTime,
    /// Of its parts so far.
    #[serde(default)]
    pub receipt: Box<Receipt>,
}

impl PausedRecording {
    /// May a publication still go on with it? Not once its time is over, its stream may not be published any more, or its task takes no new publications.
    /// `takes_more`: its rule or task does.
    pub fn is_awaited(&self, policy: &Policy, takes_more: bool, now: WallTime) -> bool {
        takes_more && self.is_in_time(now) && !policy.admission.is_forbidden(&self.key, now)
    }

    /// Its time is not over. A clock that was set back makes the wait at most twice as long: with one that was set back by more than that, it is over.
    pub fn is_in_time(&self, now: WallTime) -> bool {
        let [now, end, until] = [now, self.end, self.resume_until].map(WallTime::unix_micros);
        now < until && end.saturating_sub(now) <= until.saturating_sub(end)
    }
}

/// Who wants to go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResumeClaim {
    pub key: StreamKey,
    pub source: RecordingSource,
    pub publication: PublicationId,
    pub transport_stream: bool,
    pub encryption: Option<HlsEncryption>,
}

/// The answer to a [`ResumeClaim`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resume {
    /// There is nothing to go on with: a recording of its own begins.
    No,
    /// The publication before is just ending: ask again.
    Wait,
    Continue(Box<PausedRecording>),
}

#[derive(Debug)]
enum Entry {
    /// Recorded by this publication, or about to be paused by it.
    Running(PublicationId),
    Paused(Waiting),
}

#[derive(Debug)]
struct Waiting {
    recording: PausedRecording,
    /// Its files are closed and its playlist lists them: it could be finished. A publication may go on with it before.
    settled: bool,
}

/// All recordings that may be resumed. At most one for each stream and source.
#[derive(Debug, Default)]
pub struct Resumptions {
    entries: HashMap<(StreamKey, RecordingSource), Entry>,
    /// Paused, and another one has begun in their place.
    superseded: Vec<Waiting>,
    /// Entries that are paused.
    paused: usize,
    /// The oldest publication that waits for the one before: younger ones come behind it.
    first_waiting: HashMap<(StreamKey, RecordingSource), PublicationId>,
}

impl Resumptions {
    /// A publication begins an HLS recording that may be interrupted. `patient`: it can wait for the one before.
    pub fn claim(&mut self, claim: &ResumeClaim, patient: bool) -> Resume {
        let place = (claim.key.clone(), claim.source.clone());
        let is_taken = matches!(self.entries.get(&place), Some(Entry::Running(other)) if *other != claim.publication);
        let is_overtaking = self.first_waiting.get(&place).is_some_and(|first| *first < claim.publication);
        if patient && (is_taken || is_overtaking) {
            let first = self.first_waiting.entry(place).or_insert(claim.publication);
            *first = claim.publication.min(*first);
            return Resume::Wait;
        }
        // Also one that never came back for its answer.
        if self.first_waiting.get(&place).is_some_and(|first| *first <= claim.publication) {
            self.first_waiting.remove(&place);
        }
        let Some(Entry::Paused(waiting)) = self.entries.insert(place, Entry::Running(claim.publication)) else { return Resume::No };
        self.paused -= 1;
        let PausedRecording { transport_stream, encryption, .. } = waiting.recording;
        if (transport_stream, encryption) == (claim.transport_stream, claim.encryption) {
            return Resume::Continue(Box::new(waiting.recording));
        }
        self.superseded.push(waiting);
        Resume::No
    }

    /// The last run left this recording, and its files are being looked after: publications wait for it.
    pub fn announce(&mut self, paused: &PausedRecording) {
        self.entries.insert((paused.key.clone(), paused.source.clone()), Entry::Running(paused.publication));
    }

    /// The stream of a recording is interrupted.
    ///
    /// # Errors
    /// The recording, if another one has taken its place or too many wait: it is to be finished.
    pub fn pause(&mut self, paused: PausedRecording) -> Result<(), Box<PausedRecording>> {
        let place = (paused.key.clone(), paused.source.clone());
        let is_ours = matches!(self.entries.get(&place), Some(Entry::Running(publication)) if *publication == paused.publication);
        if !is_ours {
            return Err(Box::new(paused));
        }
        if self.paused >= PAUSED_MAX {
            self.entries.remove(&place);
            return Err(Box::new(paused));
        }
        self.paused += 1;
        self.entries.insert(place, Entry::Paused(Waiting { recording: paused, settled: false }));
        Ok(())
    }

    /// Everything that was written of a paused recording is in its folder. False: a publication goes on with it already.
    pub fn settle(&mut self, paused: &PausedRecording) -> bool {
        let entry = self.entries.get_mut(&(paused.key.clone(), paused.source.clone()));
        let here = entry.and_then(|entry| match entry {
            Entry::Paused(waiting) => Some(waiting),
            Entry::Running(_) => None,
        });
        let found = here.into_iter().chain(&mut self.superseded).find(|waiting| waiting.recording == *paused);
        found.map(|waiting| waiting.settled = true).is_some()
    }

    /// A recording ended for good.
    pub fn end(&mut self, key: &StreamKey, source: &RecordingSource, publication: PublicationId) {
        let place = (key.clone(), source.clone());
        if matches!(self.entries.get(&place), Some(Entry::Running(running)) if *running == publication) {
            self.entries.remove(&place);
        }
    }

    /// Takes out the settled recordings that nobody goes on with, of those that are the caller's.
    pub fn take_over(&mut self, is_ours: impl Fn(&PausedRecording) -> bool, is_awaited: impl Fn(&PausedRecording) -> bool) -> Vec<PausedRecording> {
        let is_over = |waiting: &mut Waiting| waiting.settled && is_ours(&waiting.recording);
        let mut over: Vec<PausedRecording> = self.superseded.extract_if(.., is_over).map(|waiting| waiting.recording).collect();
        let superseded = over.len();
        self.entries.retain(|_, entry| match entry {
            Entry::Paused(Waiting { recording, settled: true }) if is_ours(recording) && !is_awaited(recording) => {
                over.push(recording.clone());
                false
            }
            _ => true,
        });
        self.paused -= over.len() - superseded;
        over
    }

    /// Nothing waits.
    pub fn is_quiet(&self) -> bool {
        self.paused == 0 && self.superseded.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::TemplateId;
    use proptest::prelude::*;

    fn claim(publication: u64) -> ResumeClaim {
        ResumeClaim {
            key: StreamKey::new("d.example", "live", "cam"),
            source: RecordingSource::Rule(TemplateId(1001)),
            publication: PublicationId(publication),
            transport_stream: false,
            encryption: None,
        }
    }

    fn paused(publication: u64, file: u64) -> PausedRecording {
        let ResumeClaim { key, source, publication, transport_stream, encryption } = claim(publication);
        PausedRecording {
            file_id: FileId::new(FileId::MIN + file).expect("in range"),
            key,
            source,
            publication,
            session: RecordSessionId(1),
            transport_stream,
            encryption,
            part: 1,
            end: WallTime::from_unix_seconds(100),
            reason: EndReason::PublicationEnded,
            resume_until: WallTime::from_unix_seconds(160),
            receipt: Box::default(),
        }
    }

    #[test]
    fn the_next_publication_goes_on() {
        let mut table = Resumptions::default();
        assert_eq!(table.claim(&claim(1), true), Resume::No);
        assert_eq!(table.claim(&claim(2), true), Resume::Wait, "the first has not ended yet");
        assert_eq!(table.pause(paused(1, 7)), Ok(()));
        assert!(!table.is_quiet());
        assert_eq!(table.take_over(|_| true, |_| false), [], "its files are not closed yet");
        assert_eq!(table.claim(&claim(2), true), Resume::Continue(Box::new(paused(1, 7))));
        assert!(table.is_quiet());
        assert!(!table.settle(&paused(1, 7)), "somebody goes on with it");
        assert_eq!(table.pause(paused(2, 7)), Ok(()));
        assert!(table.settle(&paused(2, 7)));
        // Another source and another container have recordings of their own.
        let task = ResumeClaim { source: RecordingSource::Task(crate::units::TaskId("t".into())), ..claim(3) };
        assert_eq!(table.claim(&task, true), Resume::No);
        assert_eq!(table.claim(&ResumeClaim { transport_stream: true, ..claim(3) }, true), Resume::No);
        assert_eq!(table.take_over(|_| true, |_| true), [paused(2, 7)], "superseded");
        assert_eq!(table.take_over(|_| true, |_| false), []);
    }

    #[test]
    fn the_impatient_take_the_place() {
        let mut table = Resumptions::default();
        table.claim(&claim(1), true);
        assert_eq!(table.claim(&claim(2), false), Resume::No);
        assert_eq!(table.pause(paused(1, 7)), Err(Box::new(paused(1, 7))), "it is finished at once");
        assert_eq!(table.pause(paused(2, 8)), Ok(()));
        assert!(table.settle(&paused(2, 8)));
        table.end(&claim(2).key, &claim(2).source, claim(2).publication);
        assert_eq!(table.take_over(|_| true, |_| false), [paused(2, 8)]);
        table.claim(&claim(3), true);
        table.end(&claim(3).key, &claim(3).source, claim(3).publication);
        assert_eq!(table.claim(&claim(4), true), Resume::No);
    }

    #[test]
    fn who_came_first_goes_on_first() {
        let mut table = Resumptions::default();
        table.announce(&paused(1, 7));
        assert_eq!(table.claim(&claim(2), true), Resume::Wait);
        assert_eq!(table.claim(&claim(3), true), Resume::Wait);
        assert_eq!(table.pause(paused(1, 7)), Ok(()));
        assert_eq!(table.claim(&claim(3), true), Resume::Wait, "the second was there before");
        assert_eq!(table.claim(&claim(2), true), Resume::Continue(Box::new(paused(1, 7))));
        assert_eq!(table.claim(&claim(3), true), Resume::Wait);
        assert_eq!(table.pause(paused(2, 7)), Ok(()));
        assert_eq!(table.claim(&claim(3), true), Resume::Continue(Box::new(paused(2, 7))));
        // One that does not ask again holds the next one up for as long as that is patient, and nobody else.
        assert_eq!(table.claim(&claim(4), true), Resume::Wait);
        assert_eq!(table.pause(paused(3, 7)), Ok(()));
        assert_eq!(table.claim(&claim(5), true), Resume::Wait);
        assert_eq!(table.claim(&claim(5), false), Resume::Continue(Box::new(paused(3, 7))));
        assert_eq!(table.pause(paused(5, 7)), Ok(()));
        assert_eq!(table.claim(&claim(6), true), Resume::Continue(Box::new(paused(5, 7))));
    }

    #[test]
    fn segments_in_one_recording_are_all_encrypted_or_none() {
        let sealed = |claim| ResumeClaim { transport_stream: true, encryption: Some(HlsEncryption { rotation_segments: 2 }), ..claim };
        let mut table = Resumptions::default();
        table.claim(&sealed(claim(1)), true);
        let waiting = PausedRecording { transport_stream: true, encryption: sealed(claim(1)).encryption, ..paused(1, 7) };
        assert_eq!(table.pause(waiting.clone()), Ok(()));
        assert_eq!(table.claim(&sealed(claim(2)), true), Resume::Continue(Box::new(waiting.clone())));
        assert_eq!(table.pause(PausedRecording { publication: PublicationId(2), ..waiting }), Ok(()));
        assert_eq!(table.claim(&ResumeClaim { encryption: None, ..sealed(claim(3)) }, true), Resume::No);
    }

    #[test]
    fn awaited_until_time_task_or_ban_ends_it() {
        let mut policy = Policy::default();
        let at = WallTime::from_unix_seconds;
        let recording = paused(1, 1);
        // Before 100 the clock was set back.
        for (now, open, expected) in
            [(100, true, true), (159, true, true), (160, true, false), (120, false, false), (40, true, true), (39, true, false)]
        {
            assert_eq!(recording.is_awaited(&policy, open, at(now)), expected, "{now}");
        }
        policy.admission.forbidden.insert(recording.key.clone(), at(1_000));
        assert!(!recording.is_awaited(&policy, true, at(120)));
    }

    proptest! {
        /// Whatever happens in whatever order: every recording that was paused is continued or taken out exactly once, and only one is open in a place.
        #[test]
        fn every_paused_recording_ends_once(steps in proptest::collection::vec((0_u8..4, 1_u64..5), 1..60)) {
            let mut table = Resumptions::default();
            let mut running: Vec<(u64, u64)> = Vec::new();
            let (mut waiting, mut over, mut files) = (Vec::new(), Vec::new(), 0_u64);
            for (step, publication) in steps {
                match step {
                    0 | 1 => match table.claim(&claim(publication), step == 0) {
                        Resume::Wait => prop_assert!(step == 0),
                        Resume::No if running.iter().any(|(open, _)| *open == publication) => {}
                        Resume::No => {
                            files += 1;
                            running.push((publication, files));
                        }
                        Resume::Continue(recording) => {
                            let file = recording.file_id.get() - FileId::MIN;
                            prop_assert!(waiting.contains(&file));
                            waiting.retain(|other| *other != file);
                            running.push((publication, file));
                        }
                    },
                    2 => if let Some(at) = running.iter().position(|(open, _)| *open == publication) {
                        let (_, file) = running.remove(at);
                        match table.pause(paused(publication, file)) {
                            Ok(()) => {
                                prop_assert!(table.settle(&paused(publication, file)));
                                waiting.push(file);
                            }
                            Err(_) => over.push(file),
                        }
                    },
                    _ => for recording in table.take_over(|_| true, |_| false) {
                        let file = recording.file_id.get() - FileId::MIN;
                        prop_assert!(waiting.contains(&file) && !over.contains(&file));
                        waiting.retain(|other| *other != file);
                        over.push(file);
                    },
                }
                prop_assert!(waiting.len() <= 1 + table.superseded.len());
            }
        }
    }
}
