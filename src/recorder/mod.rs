//! One recorder for each publication: messages in, files out. Sans-IO: time is an argument, files are behind [`Store`].
//!
//! Every [`output::Output`] takes a frame as it arrives, or, when it is behind, from the [`cache`] at its own pace. What belongs together (one set of codec parameters,
//! timestamps without a jump) is an *epoch*; an output whose file is of another epoch than the next frame ends that file and begins another.

pub mod cache;
pub mod clock;
mod epochs;
mod further;
mod intake;
mod item;
pub mod journal;
pub mod output;
mod past;
#[cfg(test)]
mod past_tests;
mod pump;
mod stand_in;
mod telling;
#[cfg(test)]
mod tests;
mod totals;
mod waiting;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::container::Store;
use crate::domain::event::{LiveEventKind, RecordSessionId, RecordState};
use crate::domain::{EndReason, RecordTemplate, RecordingSource};
use crate::media::{FurtherTrack, Tracks};
use crate::units::{Format, MonoTime, PublicationId, StreamKey, WallTime};

use cache::{CACHE_BYTES_MAX, Cache, ChainId, Sequence};
use clock::Clocks;
use past::{Past, Ring};
use stand_in::StandIns;
use watch::Watch;

pub use epochs::Epoch;
use output::{LeftOut, Output, Trouble};
pub use totals::{DropReason, Totals};
use waiting::Waiting;

/// Storage that takes nothing for this long: the frames are lost, counted, and the file ends.
const STORAGE_WAIT_MS: u64 = 10_000;
/// Sessions of one publication: one by rule and [`TASKS_RECORDING_MAX`](crate::domain::task::TASKS_RECORDING_MAX) by task, and one that is ending.
pub const SESSIONS_MAX: usize = 8;

/// What a recorder knows of its publication.
#[derive(Clone, Debug)]
pub struct Publication {
    pub id: PublicationId,
    pub key: StreamKey,
    /// The push address with its query, secrets removed.
    pub push_url: String,
    pub stream_param: String,
    /// The other domain that rules may use for this stream; empty: there is none.
    pub alias_domain: String,
}

/// Settings of the recorder.
#[derive(Clone, Copy, Debug)]
pub struct RecorderSettings {
    pub hls_transport_stream: bool,
    /// Wanted length of an HLS segment.
    pub hls_segment_ms: u64,
    /// The time of day that the encoder sends (`onFI`) counts, not when its frames came.
    pub trust_encoder_clock: bool,
    /// Room left for the final `moov`, by seconds of file.
    pub moov_reserve: MoovReserve,
}

/// How much head room an MP4 file gets for its final `moov`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoovReserve {
    /// The file system inserts room later: short recordings stay small.
    Insert,
    /// It cannot: room for the whole interval from the beginning.
    Whole,
}

/// The two clocks, read once a tick.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub mono: MonoTime,
    pub wall: WallTime,
}

/// A recording has changed its state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordChange {
    pub source: RecordingSource,
    pub session: RecordSessionId,
    pub format: Format,
    pub state: RecordState,
}

/// Who asked for what, and the files that come of it.
struct Session<F, P> {
    source: RecordingSource,
    outputs: Vec<Output<F>>,
    /// What the outputs take first: frames of before the session began.
    past: Option<Box<Past<P>>>,
    /// It ends before this frame, for this reason; it waits for storage that is busy.
    ending: Option<(Sequence, EndReason)>,
}

pub struct Recorder<S: Store> {
    publication: Publication,
    settings: RecorderSettings,
    sessions: Vec<Session<S::File, S::Pin>>,
    /// What is kept for sessions that begin in the past.
    ring: Option<Ring>,
    cache: Cache<S::Pin>,
    /// Frames in the cache that are in no file.
    log: Option<(S::File, ChainId)>,
    waiting: Option<Waiting<S>>,
    /// Sessions or epochs have changed since the note was written.
    note_is_old: bool,
    /// Nothing comes any more.
    finishing: bool,
    epochs: VecDeque<Epoch>,
    clocks: Clocks,
    /// The encoder sends NAL units with start codes where lengths belong: they are put right.
    annexb: bool,
    /// Video frames before the next key frame cannot be decoded.
    wait_for_key: bool,
    /// What onMetaData says of the tracks to come: video, audio.
    announced: Option<(bool, bool)>,
    /// When the first frame came.
    first_frame: Option<MonoTime>,
    media_start_ms: i64,
    blocked_since: Option<MonoTime>,
    unflushed: bool,
    totals: Totals,
    unsupported: Vec<&'static str>,
    /// So many of them were told.
    unsupported_told: usize,
    left_out: Vec<LeftOut>,
    /// Sessions begun so far.
    sessions_begun: u32,
    changes: Vec<RecordChange>,
    watch: Watch,
    troubles: Vec<Trouble>,
    /// What is to be told of errors.
    events: Vec<LiveEventKind>,
    /// It was looked whether the tracks that were announced have come.
    announced_is_checked: bool,
    /// The sequence header that the parameter sets of key frames contradict.
    overruled_header: Option<Bytes>,
    /// Further tracks as the next file will have them, if that is not what the open ones have.
    pending_further: Option<Vec<FurtherTrack>>,
    stand_ins: StandIns,
}

impl<S: Store> Recorder<S> {
    pub fn new(publication: Publication, settings: RecorderSettings) -> Self {
        let first = Epoch { number: 0, tracks: Tracks::default(), reason: EndReason::PublicationEnded, zero_ms: None, audio_begins: 0, clock: None };
        Self {
            publication,
            settings,
            sessions: Vec::with_capacity(SESSIONS_MAX),
            ring: None,
            cache: Cache::default(),
            log: None,
            waiting: None,
            note_is_old: false,
            finishing: false,
            epochs: VecDeque::from([first]),
            clocks: Clocks::default(),
            annexb: false,
            wait_for_key: true,
            announced: None,
            first_frame: None,
            media_start_ms: 0,
            blocked_since: None,
            unflushed: false,
            totals: Totals::default(),
            unsupported: Vec::new(),
            unsupported_told: 0,
            left_out: Vec::new(),
            sessions_begun: 0,
            changes: Vec::new(),
            watch: Watch::default(),
            troubles: Vec::new(),
            events: Vec::new(),
            announced_is_checked: false,
            overruled_header: None,
            pending_further: None,
            stand_ins: StandIns::default(),
        }
    }

    pub fn publication(&self) -> &Publication {
        &self.publication
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The tracks as last announced.
    pub fn tracks(&self) -> &Tracks {
        &self.epoch().tracks
    }

    /// The stream must not be read further now: its storage is busy.
    pub fn is_blocked(&self) -> bool {
        self.blocked_since.is_some() && (self.cache.overflows() || self.cache.bytes() > CACHE_BYTES_MAX)
    }

    fn epoch(&self) -> &Epoch {
        self.epochs.back().expect("there is always an epoch")
    }

    fn epoch_mut(&mut self) -> &mut Epoch {
        self.epochs.back_mut().expect("there is always an epoch")
    }

    /// Begins to record for `source` by `template`, with the GOP that is in memory.
    pub fn start(&mut self, source: RecordingSource, template: &Arc<RecordTemplate>, now: Now, store: &mut S) {
        let from = self.cache.join_point(self.epoch().tracks.video.is_some());
        self.begin(source, template, (from, !self.wait_for_key && from == self.cache.end()), None);
        self.pump(now, store);
    }

    fn begin(
        &mut self,
        source: RecordingSource,
        template: &RecordTemplate,
        from: (Sequence, bool),
        past: Option<Box<Past<S::Pin>>>,
    ) -> RecordSessionId {
        let session = RecordSessionId::new(self.publication.id, self.sessions_begun);
        self.sessions_begun += 1;
        let outputs = Output::for_template(template, &source, session, from, &self.settings);
        self.sessions.push(Session { source, outputs, past, ending: None });
        self.note_is_old = true;
        session
    }

    /// Ends what was begun for `source`, with every frame received so far.
    pub fn stop(&mut self, source: &RecordingSource, reason: EndReason, now: Now, store: &mut S) {
        let end = self.cache.end();
        self.gather(now, true);
        let newest = (self.epoch().number, self.clocks.newest_ms());
        for session in self.sessions.iter_mut().filter(|session| session.source == *source) {
            session.ending.get_or_insert((end, reason));
            if let Some(past) = &mut session.past {
                past.end_with(newest);
            }
        }
        self.pump(now, store);
    }

    /// Ends everything: the publication is over. While the storage is busy this takes more ticks: see [`Recorder::is_finished`].
    pub fn finish(&mut self, reason: EndReason, now: Now, store: &mut S) {
        let end = self.cache.end();
        self.gather(now, true);
        for session in &mut self.sessions {
            session.ending.get_or_insert((end, reason));
        }
        self.finishing = true;
        self.pump(now, store);
        self.gather(now, true);
    }

    /// Ends everything after a defect in what works on this publication: files end with their last complete frame. Frames that no file had taken are lost.
    pub fn abandon(&mut self, reason: EndReason, now: Now, store: &mut S) {
        for mut output in self.sessions.drain(..).flat_map(|session| session.outputs) {
            output.abandon(reason, now, store, &mut self.changes);
        }
        self.finishing = true;
        self.blocked_since = None;
        if let Some(waiting) = self.waiting.take() {
            store.close_note(waiting.note);
        }
        self.cache.clear();
        if let Some((log, _)) = self.log.take() {
            store.close_log(log);
        }
    }

    /// Nothing is recorded (any more).
    pub fn is_finished(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Everything received so far shall go to the disk: hands over what is complete. What the next frame completes follows with
    /// [`Recorder::flush_rest`].
    pub fn flush(&mut self, store: &mut S) {
        for output in self.sessions.iter_mut().flat_map(|session| &mut session.outputs) {
            output.flush(store);
        }
    }

    /// Something was recorded since the last [`Recorder::flush_rest`].
    pub fn has_unflushed(&self) -> bool {
        self.unflushed
    }

    /// The next frames have come, or are not waited for.
    pub fn flush_rest(&mut self, store: &mut S) {
        self.unflushed = false;
        for output in self.sessions.iter_mut().flat_map(|session| &mut session.outputs) {
            output.flush_rest(store);
        }
    }

    /// From time to time: lets blocked outputs go on, ends what the storage has failed.
    pub fn tick(&mut self, now: Now, store: &mut S) {
        let end = self.cache.end();
        let waits = |session: &Session<S::File, S::Pin>| session.past.is_some() || session.outputs.iter().any(|output| output.next() < end);
        if self.blocked_since.is_some() || self.sessions.iter().any(waits) {
            self.pump(now, store);
        }
        if self.blocked_since.is_some_and(|since| now.mono.millis_since(since) >= STORAGE_WAIT_MS) {
            let end = self.cache.end();
            for output in self.sessions.iter_mut().filter(|session| session.past.is_none()).flat_map(|session| &mut session.outputs) {
                let lost = output.give_up(end, &self.cache, now, store);
                self.totals.drop_frames(DropReason::StorageBusy, lost);
            }
            self.blocked_since = None;
            self.pump(now, store);
        }
        for output in self.sessions.iter_mut().flat_map(|session| &mut session.outputs) {
            output.check_storage(now, store);
            let failure = output.take_failure(&mut self.changes);
            self.troubles.extend(failure);
        }
        self.check_announced(now);
        self.gather(now, false);
    }
}
