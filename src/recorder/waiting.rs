//! What recovery needs of frames that an output has not taken yet: they lie in the log, with a note of what is wanted of them.

use std::sync::Arc;

use crate::container::{Sink, Store};
use crate::domain::{RecordTemplate, RecordingSource};
use crate::media::label::TrackLabel;
use crate::media::{Payload, TrackKind};
use crate::units::FileId;

use super::cache::{FrameHead, Place, Sequence};
use super::item::Item;
use super::journal::{self, NotedEpoch, OPEN_END};

use super::output::Output;
use super::{MoovReserve, Now, Recorder, Session};

/// What is kept for recovery while an output is behind.
pub(super) struct Waiting<S: Store> {
    pub(super) note: S::Note,
    /// Of frames that were written to the log once more because they lay elsewhere.
    _pins: Vec<S::Pin>,
}

impl<S: Store> Recorder<S> {
    /// Puts what no file has taken into the log; if there is no free block and it is `needed`, on the heap.
    pub(super) fn log_item(&mut self, head: &FrameHead, media: &Payload<'_>, needed: bool, store: &mut S) -> Option<Place> {
        let sequence = self.cache.end();
        let cache = &mut self.cache;
        let (log, chain) = self.log.get_or_insert_with(|| (store.open_log(), cache.new_chain()));
        let Some(range) = append_to_log(log, head, media, sequence, store) else {
            return needed.then(|| Place::Heap(media.to_vec().into()));
        };
        let place = Place::of(self.cache.keep(*chain, log, range.start, range.end, store));
        store.commit(log, 0);
        Some(place)
    }

    /// Keeps beside the log what recovery needs to know as long as an output waits for frames.
    pub(super) fn note_waiting(&mut self, now: Now, store: &mut S) {
        let end = self.cache.end();
        let range = |session: &Session<S::File, S::Pin>, output: &Output<S::File>| (output.next(), session.ending.map_or(OPEN_END, |(end, _)| end));
        // What those take that are in the past is in the ring.
        let present = || self.sessions.iter().filter(|session| session.past.is_none());
        let outputs = || present().flat_map(|session| session.outputs.iter().map(move |output| (session, output)));
        if outputs().all(|(session, output)| output.next() >= session.ending.map_or(end, |(end, _)| end)) {
            if let Some(waiting) = self.waiting.take() {
                store.close_note(waiting.note);
            }
            return;
        }
        if !self.note_is_old
            && let Some(waiting) = &mut self.waiting
        {
            for (index, (session, output)) in outputs().enumerate() {
                store.patch_note(&mut waiting.note, journal::range_at(index), &journal::range_bytes(range(session, output)));
            }
            return;
        }
        let ranges: Vec<_> = outputs().map(|(session, output)| range(session, output)).collect();
        let first = ranges.iter().map(|range| range.0).min().unwrap_or(end);
        let ids = store.spare_ids(ranges.len() * journal::IDS_PER_OUTPUT);
        if ids.is_empty() {
            return;
        }
        let note = self.describe_waiting(now, &ids).encode(&ranges);
        let old = self.waiting.take();
        let pins = if old.is_none() { self.log_again(first, store) } else { Vec::new() };
        if let Some((log, _)) = &self.log {
            self.waiting = store.open_note(log, &note).map(|note| Waiting { note, _pins: pins });
            self.note_is_old = false;
        }
        if let Some(old) = old {
            store.close_note(old.note);
        }
    }

    pub(super) fn describe_waiting(&self, now: Now, ids: &[FileId]) -> journal::Note {
        let header = |header: Option<&bytes::Bytes>| header.map(|header| header.to_vec()).unwrap_or_default();
        let all = |headers: Option<&Vec<bytes::Bytes>>| headers.into_iter().flatten().map(|header| header.to_vec()).collect();
        let epochs = self.epochs.iter().map(|epoch| NotedEpoch {
            number: epoch.number,
            video: header(epoch.tracks.video.as_ref().map(|track| &track.sequence_header)),
            audio: header(epoch.tracks.audio.as_ref().map(|track| &track.sequence_header)),
            labels: epoch.tracks.labels.iter().map(noted_label).collect(),
            other_video: all(epoch.tracks.video.as_ref().map(|track| &track.others)),
            other_audio: all(epoch.tracks.audio.as_ref().map(|track| &track.others)),
        });
        journal::Note {
            publication: self.publication.id,
            key: self.publication.key.clone(),
            push_url: self.publication.push_url.clone(),
            stream_param: self.publication.stream_param.clone(),
            alias_domain: self.publication.alias_domain.clone(),
            wall: now.wall,
            media_start_ms: self.media_start_ms,
            hls_segment_ms: self.settings.hls_segment_ms,
            moov_whole: self.settings.moov_reserve == MoovReserve::Whole,
            epochs: epochs.collect(),
            outputs: self
                .sessions
                .iter()
                .filter(|session| session.past.is_none())
                .flat_map(|session| &session.outputs)
                .zip(ids.chunks(journal::IDS_PER_OUTPUT))
                .map(|(output, ids)| output.noted(ids.to_vec()))
                .collect(),
        }
    }

    /// Writes frames from `first` on that lie elsewhere into the log, too.
    pub(super) fn log_again(&mut self, first: Sequence, store: &mut S) -> Vec<S::Pin> {
        let mut pins = Vec::new();
        let mut scratch = Vec::new();
        let cache = &mut self.cache;
        let (log, chain) = self.log.get_or_insert_with(|| (store.open_log(), cache.new_chain()));
        let begin = log.position();
        for sequence in first.max(self.cache.first())..self.cache.end() {
            if !self.cache.lies_in(sequence, *chain) {
                let media = match self.cache.get(sequence, &mut scratch) {
                    Item::Frame(frame) => frame.media,
                    Item::Between(between) => Payload::contiguous(between.body),
                };
                if append_to_log(log, self.cache.head(sequence), &media, sequence, store).is_none() {
                    break;
                }
            }
        }
        if log.position() > begin {
            store.pin(log, begin, |pin| pins.push(pin));
            store.commit(log, 0);
        }
        pins
    }

    /// Begins to record what a killed process had in memory. `hls`: the HLS recording that goes on, and its last part.
    pub(super) fn replay(
        &mut self,
        source: RecordingSource,
        template: &Arc<RecordTemplate>,
        hls: Option<(FileId, u32)>,
        media_start_ms: i64,
        now: Now,
        store: &mut S,
    ) {
        self.start(source, template, now, store);
        self.media_start_ms = media_start_ms;
        self.first_frame = Some(now.mono);
        if let Some((file_id, part)) = hls {
            self.sessions
                .iter_mut()
                .flat_map(|session| &mut session.outputs)
                .for_each(|output| output.continue_hls(file_id, part, now.wall, self.settings.hls_segment_ms));
        }
    }

    /// Also a picture that is no key frame begins a file: what was replayed goes on from another one.
    pub(super) fn take_any_frame(&mut self) {
        self.wait_for_key = false;
    }
}

fn noted_label(known: &TrackLabel) -> (bool, u8, String, String) {
    (known.kind == TrackKind::Video, known.number, known.label.language.clone(), known.label.name.clone())
}

/// Appends an item with its head to the log. Returns where its media lie; `None`: there is no free block. It is not committed yet.
fn append_to_log<S: Store>(
    log: &mut S::File,
    head: &FrameHead,
    media: &Payload<'_>,
    sequence: Sequence,
    store: &mut S,
) -> Option<std::ops::Range<u64>> {
    if !store.reserve(log, journal::FRAME_OVERHEAD_BYTES + media.len()) {
        return None;
    }
    journal::write_head(head, media.len(), sequence, |bytes| log.append(bytes));
    let start = log.position();
    media.slices().for_each(|slice| log.append(slice));
    let end = log.position();
    log.seal(end);
    Some(start..end)
}
