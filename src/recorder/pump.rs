//! Frames on their way to the outputs, through the cache if need be.

use crate::container::Store;
use crate::domain::{EndReason, RecordingSource};
use crate::media::flv_tag::FramePart;
use crate::media::{Frame, TrackKind};

use super::cache::{FrameHead, Sequence};

use super::output::{Context, Losses, Offered, Output, Pumped};
use super::totals::DropReason;
use super::{Now, Recorder};

/// A publication that has sent one track only is taken as complete after this much media (or time): encoders send both sequence headers at once.
const TRACK_WAIT_MS: u64 = 1_000;

impl<S: Store> Recorder<S> {
    pub(super) fn frame(&mut self, track: TrackKind, timestamp_ms: u32, part: FramePart<'_>, now: Now, store: &mut S) {
        let step = self.clocks.step(track, timestamp_ms);
        self.watch.frame(track, &step, now);
        self.watch.composition(part.cts_ms);
        if step.late {
            self.totals.late_frames += 1;
        }
        if self.pending_further.is_some() && part.key && (track == TrackKind::Video || self.epoch().tracks.video.is_none()) {
            self.take_further();
        }
        if step.jump && !self.epoch_is_empty() {
            let tracks = self.epoch().tracks.clone();
            self.new_epoch(tracks, EndReason::TimestampJump);
        }
        if self.first_frame.is_none() {
            self.first_frame = Some(now.mono);
            self.media_start_ms = step.dts_ms;
        }
        if self.epoch().clock.is_none() {
            self.epoch_mut().clock = Some((step.dts_ms, now.wall));
        }
        self.totals.media_bytes += part.media.len() as u64;
        self.store_frame(&part.at(track, step.dts_ms), now, store);
    }

    /// Gives the frame to every output that is not behind, and keeps it in the cache: where the first of them has written it, else in the log.
    pub(super) fn store_frame(&mut self, frame: &Frame<'_>, now: Now, store: &mut S) {
        let (sequence, epoch) = (self.cache.end(), self.epoch().number);
        self.unflushed |= !self.sessions.is_empty();
        let mut kept = None;
        let mut behind = false;
        let mut has_past = false;
        for session in &mut self.sessions {
            if session.past.is_some() {
                has_past = true;
                continue;
            }
            if session.ending.is_some() {
                behind = true;
                continue;
            }
            for output in &mut session.outputs {
                match output.offer(frame, sequence, epoch, store) {
                    Offered::Later => behind = true,
                    Offered::Unwanted => {}
                    Offered::Unfit => self.totals.drop_frames(DropReason::Unfit, 1),
                    Offered::Written { media } => {
                        if kept.is_none() {
                            kept = media.and_then(|media| output.keep(media, &mut self.cache, store));
                        }
                        output.commit(store);
                    }
                }
            }
        }
        match kept {
            Some(kept) if !behind => self.cache.push_kept(frame, epoch, kept),
            _ => {
                // Whoever waits for it finds it in the log after a kill, also when it is in the file of another.
                let head = FrameHead::of(frame, epoch);
                let Some(place) = self.log_item(&head, &frame.media, behind, store) else { return self.cache.pass() };
                self.cache.push(&head, frame.media.len(), place);
            }
        }
        if behind || has_past {
            self.pump(now, store);
        } else {
            self.trim(self.cache.end(), store);
        }
    }

    /// Lets every output take what it can, and ends the sessions that have taken all of theirs.
    pub(super) fn pump(&mut self, now: Now, store: &mut S) {
        self.pump_past(now, store);
        self.unflushed = true;
        let mut needed = self.cache.end();
        let mut blocked = false;
        let tracks_complete = self.tracks_are_complete(now);
        let mut context = Context {
            publication: &self.publication,
            settings: &self.settings,
            cache: &self.cache,
            tracks_complete,
            epochs: &mut self.epochs,
            limit: self.cache.end(),
            closing: false,
            now,
            media_start_ms: self.media_start_ms,
            files_begun: 0,
            lost: Losses::default(),
            left_out: &mut self.left_out,
            changes: &mut self.changes,
            troubles: &mut self.troubles,
            anchor: None,
        };
        let mut scratch = Vec::new();
        let mut ring_events = Vec::new();
        self.sessions.retain_mut(|session| {
            if session.past.is_some() {
                return true;
            }
            context.closing = session.ending.is_some();
            context.limit = session.ending.map_or(context.cache.end(), |(limit, _)| limit);
            context.tracks_complete = tracks_complete || context.closing;
            let mut behind = false;
            for output in &mut session.outputs {
                blocked |= output.pump(&mut context, &mut scratch, store) == Pumped::Blocked;
                behind |= output.next() < context.limit;
                needed = needed.min(output.next());
            }
            let is_over = match session.ending {
                Some((_, reason)) if !behind => {
                    for output in &mut session.outputs {
                        output.end(reason, now, store, context.changes);
                    }
                    true
                }
                _ => false,
            };
            if session.source == RecordingSource::Ring {
                session.outputs.iter_mut().for_each(|output| ring_events.extend(output.take_ring_events()));
            }
            !is_over
        });
        let (files_begun, lost) = (context.files_begun, context.lost);
        self.totals.files += files_begun;
        // It names the parts of HLS recordings.
        self.note_is_old |= files_begun > 0;
        DropReason::ALL.into_iter().for_each(|reason| self.totals.drop_frames(reason, lost[reason as usize]));
        self.blocked_since = if blocked { self.blocked_since.or(Some(now.mono)) } else { None };
        self.note_ring(&ring_events, now);
        needed = self.sessions.iter().filter_map(|session| session.past.as_ref()?.hold()).fold(needed, Sequence::min);
        self.note_waiting(now, store);
        self.trim(needed, store);
        if self.finishing && self.sessions.is_empty() {
            // Nobody joins any more: the blocks of the log go back.
            self.cache.clear();
            if let Some((log, _)) = self.log.take() {
                store.close_log(log);
            }
        }
    }

    /// The first item that an output still takes.
    pub(super) fn needed(&self) -> Sequence {
        let outputs = self.sessions.iter().filter(|session| session.past.is_none()).flat_map(|session| &session.outputs);
        let held = self.sessions.iter().filter_map(|session| session.past.as_ref()?.hold());
        outputs.map(Output::next).chain(held).fold(self.cache.end(), Sequence::min)
    }

    /// Lets go what neither the outputs, which still take the frames from `needed` on, nor a task that may join need.
    pub(super) fn trim(&mut self, needed: Sequence, store: &mut S) {
        self.cache.trim(needed, store.is_tight());
        if let Some((log, _)) = self.log.take_if(|(_, chain)| !self.cache.holds(*chain)) {
            store.close_log(log);
        }
        while self.epochs.len() > 1 && self.epochs[0].number < self.oldest_epoch_in_use() {
            self.epochs.pop_front();
        }
    }

    /// May a file of the newest epoch begin, or might another track still come?
    pub(super) fn tracks_are_complete(&self, now: Now) -> bool {
        let tracks = &self.epoch().tracks;
        let announced = match self.announced {
            Some((video, audio)) => (!video || tracks.video.is_some()) && (!audio || tracks.audio.is_some()),
            None => false,
        };
        tracks.count() == 2
            || (announced && !tracks.is_empty())
            || self.first_frame.is_some_and(|first| now.mono.millis_since(first) >= TRACK_WAIT_MS)
            || self.cached_span_ms() >= TRACK_WAIT_MS as i64
    }

    pub(super) fn cached_span_ms(&self) -> i64 {
        self.cache.ends().map_or(0, |(first, last)| last.dts_ms - first.dts_ms)
    }

    pub(super) fn oldest_epoch_in_use(&self) -> u32 {
        if self.cache.first() == self.cache.end() { self.epoch().number } else { self.cache.head(self.cache.first()).epoch }
    }
}
