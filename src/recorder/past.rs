//! Recordings that begin in the past: what the ring has kept goes through the same outputs first, then they go on with the cache.
//!
//! The ring is an output like others: short HLS recordings one after the other, which expire. A session that is to begin in the past gets a cache of its own,
//! filled from the ring's files by whoever reads them elsewhere; its outputs cannot tell it from the other one. At the end of each file it is looked
//! whether the frame behind it is still in memory; if not, the next file follows, and the one that is open is ended at its next key frame for that. From
//! then on the frames behind it are held, so that nothing is missing and nothing comes twice where the two meet.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::container::{Pinned, Recalled, RecalledBatch, Recalling, Store};
use crate::domain::event::RecordSessionId;
use crate::domain::{RecordTemplate, RecordingSource};
use crate::media::{Frame, Payload, TagHeader, TrackKind, Tracks};
use crate::units::{FileId, MonoTime, WallTime};

use super::cache::{CACHE_BYTES_MAX, Cache, FrameHead, Place, Sequence};
use super::item::Between;
use super::output::{Context, Losses, Output, Pumped, RingEvent};
use super::{DropReason, Epoch, Now, Recorder};

/// Batches taken at a time: the other streams of the core want their turn.
const BATCHES_MAX: usize = 2;
/// Without any progress for this long the past is given up; the recording goes on with what is live.
const PATIENCE_MS: u64 = 15_000;
/// The same when so much of what is live waits behind the past.
const HELD_BYTES_MAX: usize = 8 * CACHE_BYTES_MAX;

/// One file of the ring.
struct RingFile {
    number: u64,
    id: FileId,
    epoch: u32,
    /// No file before it is of this epoch.
    begins_epoch: bool,
    tracks: Tracks,
    reason: crate::domain::EndReason,
    zero_ms: Option<i64>,
    clock: Option<(i64, WallTime)>,
    first_dts_ms: i64,
    /// When its first frame was received.
    wall: WallTime,
    /// The frame behind its last one, and when it ended; `None`: it is open.
    end: Option<(Sequence, WallTime)>,
}

/// What is kept of this publication.
pub struct Ring {
    session: RecordSessionId,
    kept_ms: i64,
    files: VecDeque<RingFile>,
    opened: u64,
}

impl Ring {
    pub fn session(&self) -> RecordSessionId {
        self.session
    }

    /// The file that holds the frame of this moment, or the oldest.
    fn find(&self, since: WallTime) -> Option<&RingFile> {
        self.files.iter().rev().find(|file| file.wall <= since).or(self.files.front())
    }

    fn file(&self, number: u64) -> Option<&RingFile> {
        self.files.iter().find(|file| file.number == number)
    }

    /// Forgets files that may be gone, but for those that somebody still wants: from number `needed` on.
    fn forget(&mut self, needed: u64, now: WallTime) {
        let is_old = |file: &RingFile| file.end.is_some_and(|(_, end)| now.unix_millis() - end.unix_millis() > self.kept_ms);
        while self.files.front().is_some_and(|file| file.number < needed && is_old(file)) {
            self.files.pop_front();
        }
    }
}

/// Where a session is that began in the past.
pub struct Past<P> {
    /// Frames that were read, and not yet taken by every output.
    cache: Cache<P>,
    epochs: VecDeque<Epoch>,
    /// The file that is read or waited for.
    number: u64,
    /// Of the first file: the moment that was asked for, since its first frame.
    from_ms: Option<i64>,
    reading: Option<Box<dyn Recalling>>,
    anchor: (WallTime, i64),
    /// Frames from here on wait in the recorder's cache.
    hold: Option<Sequence>,
    /// The session ends with the frames of this epoch and time: files of the ring may hold more.
    last: Option<(u32, i64)>,
    progress: MonoTime,
}

impl<P> Past<P> {
    pub fn hold(&self) -> Option<Sequence> {
        self.hold
    }

    /// What comes behind this epoch and DTS is not wanted any more.
    pub fn end_with(&mut self, (epoch, dts_ms): (u32, Option<i64>)) {
        self.last = self.last.or(dts_ms.map(|dts_ms| (epoch, dts_ms)));
    }
}

/// How it goes on with a session in the past.
enum Next {
    Wait,
    /// Its outputs go on with this frame.
    Join(Sequence),
    GiveUp(String),
}

impl<S: Store> Recorder<S> {
    /// Keeps a ring of the stream for sessions that begin in the past. `template`: as [`RecordTemplate::ring`] makes it.
    pub fn keep_ring(&mut self, template: &RecordTemplate, now: Now, store: &mut S) {
        let from = self.cache.join_point(self.epoch().tracks.video.is_some());
        let session = self.begin(RecordingSource::Ring, template, (from, false), None);
        let kept_ms = i64::try_from(template.hls.storage_time_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
        self.ring = Some(Ring { session, kept_ms, files: VecDeque::new(), opened: 0 });
        self.pump(now, store);
    }

    /// Begins to record for `source` with the key frame at or before `since`, as far as the ring reaches back; else as [`Recorder::start`].
    pub fn start_since(&mut self, source: RecordingSource, template: &Arc<RecordTemplate>, since: WallTime, now: Now, store: &mut S) {
        let from = self.cache.join_point(self.epoch().tracks.video.is_some());
        let end = self.cache.end();
        let newest_ms = self.cache.newest().map_or(0, |newest| newest.dts_ms);
        let memory_ms = if from < end { newest_ms - self.cache.head(from).dts_ms } else { 0 };
        let in_memory = since.unix_millis() >= now.wall.unix_millis() - memory_ms;
        let file = self.ring.as_ref().filter(|_| !in_memory).and_then(|ring| ring.find(since));
        let Some(file) = file else { return self.start(source, template, now, store) };
        let past = Past {
            cache: Cache::default(),
            epochs: VecDeque::new(),
            number: file.number,
            from_ms: Some(since.unix_millis() - file.wall.unix_millis()),
            reading: None,
            anchor: (file.wall, file.first_dts_ms),
            hold: None,
            last: None,
            progress: now.mono,
        };
        self.begin(source, template, (0, false), Some(Box::new(past)));
        self.pump(now, store);
    }

    /// Takes notice of files of the ring that began and ended. Whoever waits for the one that ended has what follows held from here on.
    pub(super) fn note_ring(&mut self, events: &[RingEvent], now: Now) {
        let Some(ring) = &mut self.ring else { return };
        let needed = self.sessions.iter().filter_map(|session| session.past.as_ref()).map(|past| past.number).min().unwrap_or(u64::MAX);
        for event in events {
            match *event {
                RingEvent::Opened { file_id: id, epoch, first_dts_ms, wall } => {
                    let Some(of) = self.epochs.iter().find(|known| known.number == epoch) else { continue };
                    let (tracks, reason, zero_ms, clock) = (of.tracks.clone(), of.reason, of.zero_ms, of.clock);
                    ring.opened += 1;
                    let begins_epoch = ring.files.back().is_none_or(|before| before.epoch != epoch);
                    ring.files.push_back(RingFile {
                        number: ring.opened,
                        id,
                        epoch,
                        begins_epoch,
                        tracks,
                        reason,
                        zero_ms,
                        clock,
                        first_dts_ms,
                        wall,
                        end: None,
                    });
                    ring.forget(needed, now.wall);
                }
                RingEvent::Closed { next, wall } => {
                    let Some(file) = ring.files.back_mut().filter(|file| file.end.is_none()) else { continue };
                    file.end = Some((next, wall));
                    for past in self.sessions.iter_mut().filter_map(|session| session.past.as_mut()) {
                        if past.number == file.number && past.reading.is_none() {
                            past.hold = Some(next);
                        }
                    }
                }
            }
        }
    }

    /// Lets the sessions that are in the past take what was read for them.
    pub(super) fn pump_past(&mut self, now: Now, store: &mut S) {
        for index in 0..self.sessions.len() {
            let Some(mut past) = self.sessions[index].past.take() else { continue };
            let next = self.go_on(index, &mut past, now, store);
            let held = past.hold.is_some() && (self.cache.bytes() > HELD_BYTES_MAX || self.cache.overflows());
            match next {
                Next::Wait if held => self.give_up_past(index, &past, "too much of the stream waits behind it", now, store),
                Next::Wait if now.mono.millis_since(past.progress) > PATIENCE_MS => {
                    self.give_up_past(index, &past, "the storage is too slow", now, store);
                }
                Next::Wait => self.sessions[index].past = Some(past),
                Next::Join(next) => {
                    self.sessions[index].outputs.iter_mut().for_each(|output| output.join(next));
                    self.note_is_old = true;
                }
                Next::GiveUp(why) => self.give_up_past(index, &past, &why, now, store),
            }
        }
    }

    fn give_up_past(&mut self, index: usize, past: &Past<S::Pin>, why: &str, now: Now, store: &mut S) {
        let next = past.hold.unwrap_or_else(|| self.cache.join_point(self.epoch().tracks.video.is_some()));
        for output in &mut self.sessions[index].outputs {
            let trouble = output.break_off(next, why, now, store);
            self.troubles.push(trouble);
        }
        self.note_is_old = true;
    }

    fn go_on(&mut self, index: usize, past: &mut Past<S::Pin>, now: Now, store: &mut S) -> Next {
        for _ in 0..BATCHES_MAX {
            if self.take_past(index, past, false, now, store) == Pumped::Blocked {
                return Next::Wait;
            }
            let Some(ring) = &self.ring else { return Next::GiveUp("there is none".to_owned()) };
            if past.number > ring.opened && !self.finishing {
                // The next file is about to begin.
                return Next::Wait;
            }
            let Some(file) = ring.file(past.number) else { return Next::GiveUp("it is gone".to_owned()) };
            let Some(reading) = &mut past.reading else {
                if file.end.is_none() {
                    past.progress = now.mono;
                    let outputs = self.sessions.iter_mut().filter(|session| session.source == RecordingSource::Ring).flat_map(|one| &mut one.outputs);
                    outputs.for_each(Output::cut_ring);
                    return Next::Wait;
                }
                past.enter(file);
                past.reading = store.recall(file.id, past.from_ms.take());
                if past.reading.is_none() {
                    return Next::GiveUp("nothing is kept here".to_owned());
                }
                continue;
            };
            match reading.next() {
                Recalled::Wait => return Next::Wait,
                Recalled::Failed(why) => return Next::GiveUp(why),
                Recalled::Batch(batch) => {
                    past.progress = now.mono;
                    past.push(&batch, file);
                }
                Recalled::End => {
                    // Nothing more comes before the frame behind the file: what waits for company begins without.
                    let Some((next, _)) = file.end else { return Next::GiveUp("a file that is open was read".to_owned()) };
                    let number = file.number + 1;
                    if next >= self.cache.first() {
                        if self.take_past(index, past, true, now, store) == Pumped::Blocked {
                            past.reading = Some(Box::new(Nothing));
                            return Next::Wait;
                        }
                        return Next::Join(next);
                    }
                    (past.number, past.reading) = (number, None);
                }
            }
        }
        Next::Wait
    }

    /// The outputs of a session take the frames that were read for it.
    fn take_past(&mut self, index: usize, past: &mut Past<S::Pin>, closing: bool, now: Now, store: &mut S) -> Pumped {
        let mut context = Context {
            publication: &self.publication,
            settings: &self.settings,
            cache: &past.cache,
            epochs: &mut past.epochs,
            tracks_complete: true,
            limit: past.cache.end(),
            closing,
            now,
            media_start_ms: self.media_start_ms,
            files_begun: 0,
            lost: Losses::default(),
            left_out: &mut self.left_out,
            changes: &mut self.changes,
            troubles: &mut self.troubles,
            anchor: Some(past.anchor),
        };
        let mut scratch = Vec::new();
        let (mut pumped, mut needed) = (Pumped::Done, past.cache.end());
        for output in &mut self.sessions[index].outputs {
            if output.pump(&mut context, &mut scratch, store) == Pumped::Blocked {
                pumped = Pumped::Blocked;
            }
            needed = needed.min(output.next());
        }
        let (files_begun, lost) = (context.files_begun, context.lost);
        self.totals.files += files_begun;
        DropReason::ALL.into_iter().for_each(|reason| self.totals.drop_frames(reason, lost[reason as usize]));
        past.cache.trim(needed, true);
        pumped
    }
}

/// What is left when a file has been read.
struct Nothing;

impl Recalling for Nothing {
    fn next(&mut self) -> Recalled {
        Recalled::End
    }
}

impl<P: Pinned> Past<P> {
    /// The frames of this file come next.
    fn enter(&mut self, file: &RingFile) {
        self.anchor = (file.wall, file.first_dts_ms);
        let last = self.epochs.back().map(|epoch| epoch.number);
        let first = last.map_or(file.epoch, |last| last + 1);
        // Epochs stand in a row, also those of which the ring has no file.
        for number in first..=file.epoch {
            let mut tracks = file.tracks.clone();
            if let Some(audio) = tracks.audio.as_mut().filter(|audio| audio.pre_skip > 0 && !file.begins_epoch) {
                // The encoder's priming is not in what is kept any more.
                Arc::make_mut(audio).pre_skip = 0;
            }
            self.epochs.push_back(Epoch { number, tracks, reason: file.reason, zero_ms: file.zero_ms, audio_begins: 0, clock: file.clock });
        }
    }

    fn push(&mut self, batch: &RecalledBatch, file: &RingFile) {
        for frame in &batch.frames {
            let media = batch.bytes.get(frame.range.clone()).unwrap_or_default();
            if let Some(index) = frame.further {
                let Some(track) = file.tracks.further.get(index) else { continue };
                let body = [TagHeader::of_further(track, frame.key, frame.cts_ms).as_slice(), media].concat();
                let between = Between { track: Some(frame.track), time_ms: file.first_dts_ms + frame.time_ms, body: &body };
                let head = FrameHead::of_between(&between, file.epoch);
                self.cache.push(&head, body.len(), Place::Heap(body.into()));
                continue;
            }
            let tag_header = match frame.track {
                TrackKind::Video => file.tracks.video.as_ref().map(|track| TagHeader::of_video(track, frame.key, frame.cts_ms)),
                TrackKind::Audio => file.tracks.audio.as_ref().map(|track| TagHeader::of_audio(track)),
            };
            // A track that the publication did not have is none of this file.
            let Some(tag_header) = tag_header else { continue };
            let (dts_ms, cts_ms) = (file.first_dts_ms + frame.time_ms, frame.cts_ms);
            if self.last.is_some_and(|last| (file.epoch, dts_ms) > last) {
                continue;
            }
            let frame = Frame { track: frame.track, dts_ms, cts_ms, key: frame.key, tag_header, media: Payload::contiguous(media) };
            self.cache.push(&FrameHead::of(&frame, file.epoch), media.len(), Place::Heap(media.into()));
        }
    }
}
