//! One output of a session: a format (or MP4 and HLS together, which share one file) from its first file to its last.

mod begin;
mod context;
mod end;
mod file;
mod hls;
mod kind;

use crate::container::{Sink, Store, Unfit};
use crate::domain::event::{RecordExceptionKind, RecordSessionId};
use crate::domain::receipt::Continued;
use crate::domain::{EndReason, FormatParam, RecordTemplate, RecordingSource};
use crate::media::{Frame, TrackKind};
use crate::units::{FileId, Format, MonoTime, TemplateId, WallTime};

use super::cache::{Cache, ChainId, Sequence};
use super::item::Item;
use super::journal::NotedOutput;
use super::{DropReason, Now, RecorderSettings};

pub use context::{Context, LeftOut, Losses, Trouble};
use file::{OpenFile, Step, Writer, Written};
use hls::HlsRecording;
use kind::Kind;

/// Whether an output's recordings are told to have begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Begun {
    Untold,
    /// They could not begin, so far.
    Failed,
    Told,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pumped {
    /// Everything that can be taken is taken.
    Done,
    /// The storage has no room now.
    Blocked,
}

/// What came of trying to open a file.
enum Beginning {
    /// The state or the next frame has changed.
    Changed,
    /// More frames must come first.
    Waits,
    /// The storage has no room now.
    Blocked,
}

/// What became of a frame that just arrived.
#[derive(Debug)]
pub enum Offered {
    /// The output is behind: it takes the frame from the cache later.
    Later,
    /// It needs nothing of it.
    Unwanted,
    /// It is in the open file.
    Written {
        /// File offsets of its media bytes, if they lie there in a row.
        media: Option<std::ops::Range<u64>>,
    },
    /// The container cannot hold it.
    Unfit,
}

/// What an output of the ring tells of its files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingEvent {
    Opened {
        file_id: FileId,
        epoch: u32,
        first_dts_ms: i64,
        wall: WallTime,
    },
    /// With every frame before this one.
    Closed {
        next: Sequence,
        wall: WallTime,
    },
}

/// What an output of the ring has beside.
#[derive(Default)]
struct RingFiles {
    events: Vec<RingEvent>,
    /// The open file is wanted: it ends at the next key frame.
    cut: bool,
}

enum State<F> {
    /// The next file has not begun.
    Starting,
    Writing(Box<OpenFile<F>>),
}

pub struct Output<F> {
    kind: Kind,
    /// Longest file, media time; `None`: it is never cut.
    interval_ms: Option<i64>,
    source: RecordingSource,
    session: RecordSessionId,
    /// Among the outputs of the session, counted from 1.
    place: u8,
    /// Seconds that an HLS recording waits for its stream to come back; 0: it does not.
    resume_wait_s: u64,
    /// Since when the recording of the publication before is waited for.
    awaiting: Option<MonoTime>,
    /// The sound alone, of a stream with pictures too.
    audio_only: bool,
    state: State<F>,
    hls: Option<HlsRecording>,
    /// The next frame to take.
    next: Sequence,
    /// Begin at a video key frame (joined in the middle, or frames were lost).
    need_key: bool,
    /// Why frames are skipped until the next file begins; `None`: nobody has asked for them.
    skipping: Option<DropReason>,
    /// Frames lost that stand in no receipt yet.
    lost: Losses,
    retry_at: Option<MonoTime>,
    /// Files in a row that failed soon.
    failures: u32,
    begun: Begun,
    /// Its HLS recording is that of the publication before.
    resumed: bool,
    /// Tracks that are told to be missing because the format has no place for their codecs.
    lacks: [Option<RecordExceptionKind>; 2],
    /// Its storage has failed: frames that are lost by now, to be told.
    failed: Option<u64>,
    /// It writes the ring: each of its files is a recording.
    ring: Option<RingFiles>,
    /// It is told that further tracks are not in its files.
    further_told: bool,
    /// The disk of the open file is to be left at the next place where files may be cut.
    leaving: Option<Unfit>,
    /// It has left a disk: what was wrong, to be told.
    left: Option<Unfit>,
    /// The file and the HLS recording that ended because of their storage: what begins next goes on from them.
    before: [Option<Continued>; 2],
}

impl<F: Sink> Output<F> {
    /// The outputs for the enabled formats of a template, beginning with frame `from`, or, if the GOP before it is gone (`true`), the next key frame.
    pub fn for_template(
        template: &RecordTemplate,
        source: &RecordingSource,
        session: RecordSessionId,
        from: (Sequence, bool),
        settings: &RecorderSettings,
    ) -> Vec<Self> {
        let enabled = |format| Some(template.param(format)).filter(|param| param.enable).cloned();
        let mut kinds = Vec::new();
        let (mp4, hls) = (enabled(Format::Mp4), enabled(Format::Hls));
        match (mp4, hls) {
            // What is to be encrypted lies nowhere as it is: no other format is written.
            (_, hls) if template.hls_encryption.is_some() => kinds.extend(hls.map(|hls| Kind::TransportStream(hls, template.hls_encryption))),
            // What is kept of the past is read again as an MP4 file, whatever the playlists of recordings are made of.
            (mp4, Some(hls)) if settings.hls_transport_stream && *source != RecordingSource::Ring => {
                kinds.extend(mp4.map(|mp4| Kind::Hybrid { mp4: Some(mp4), hls: None }));
                kinds.push(Kind::TransportStream(hls, None));
            }
            (None, None) => {}
            (mp4, hls) => kinds.push(Kind::Hybrid { mp4, hls }),
        }
        for format in [Format::Flv, Format::Aac, Format::Mp3] {
            kinds.extend(enabled(format).filter(|_| template.hls_encryption.is_none()).map(|param| Kind::Single(format, param)));
        }
        kinds
            .into_iter()
            .zip(1..)
            .map(|(kind, place)| Self {
                ring: (*source == RecordingSource::Ring).then(RingFiles::default),
                interval_ms: match source {
                    RecordingSource::Ring => kind.hls().and_then(|param| i64::try_from(param.record_interval_s * 1_000).ok()),
                    _ => kind.interval_ms(),
                },
                audio_only: template.audio_only || kind.is_audio_only(),
                kind,
                source: source.clone(),
                session,
                place,
                resume_wait_s: template.flow_continue_duration_s,
                awaiting: None,
                state: State::Starting,
                hls: None,
                next: from.0,
                need_key: from.1,
                skipping: None,
                lost: Losses::default(),
                retry_at: None,
                failures: 0,
                begun: Begun::Untold,
                resumed: false,
                lacks: [None; 2],
                failed: None,
                further_told: false,
                leaving: None,
                left: None,
                before: [None, None],
            })
            .collect()
    }

    pub fn session(&self) -> RecordSessionId {
        self.session
    }

    /// What became of the files of the ring since the last call.
    pub fn take_ring_events(&mut self) -> Vec<RingEvent> {
        self.ring.as_mut().map(|ring| std::mem::take(&mut ring.events)).unwrap_or_default()
    }

    /// The open file of the ring is wanted: it ends at the next key frame.
    pub fn cut_ring(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.cut = true;
        }
    }

    /// When a file is to end, ms after its begin.
    fn file_ms(&self) -> Option<i64> {
        if self.leaving.is_some() {
            return Some(0);
        }
        if self.ring.as_ref().is_some_and(|ring| ring.cut) { Some(1) } else { self.interval_ms }
    }

    /// It has taken what is past, and goes on with the frames of the cache from `next` on.
    pub fn join(&mut self, next: Sequence) {
        self.next = next;
    }

    /// What is past cannot be read further: the file ends, another begins with the key frame `next` or one behind it.
    pub fn break_off<S: Store<File = F>>(&mut self, next: Sequence, why: &str, now: Now, store: &mut S) -> Trouble {
        self.close_file(EndReason::StorageFailed, now, store);
        (self.next, self.need_key) = (next, true);
        self.trouble(RecordExceptionKind::CannotRead, format!("what was kept of the past could not be read: {why}"))
    }

    pub fn next(&self) -> Sequence {
        self.next
    }

    /// Unique in the appliance, not 0.
    fn number(&self) -> u64 {
        // Three bits behind a session's number are free until long after the calendar's end; a template has fewer formats.
        self.session.0.wrapping_mul(8).wrapping_add(u64::from(self.place))
    }

    /// What it writes: one file may be two formats.
    pub fn formats(&self) -> impl Iterator<Item = Format> + use<F> {
        self.format_pair().into_iter().flatten()
    }

    fn format_pair(&self) -> [Option<Format>; 2] {
        match &self.kind {
            Kind::Hybrid { mp4, hls } => [mp4.as_ref().map(|_| Format::Mp4), hls.as_ref().map(|_| Format::Hls)],
            Kind::TransportStream(..) => [Some(Format::Hls), None],
            Kind::Single(format, _) => [Some(*format), None],
        }
    }

    /// What recovery has to know of this output; `ids` are for its files.
    pub fn noted(&self, ids: Vec<FileId>) -> NotedOutput {
        let mut template = RecordTemplate::empty(TemplateId(0), "");
        template.audio_only = self.audio_only;
        template.flow_continue_duration_s = self.resume_wait_s;
        let (formats, transport_stream): (Vec<(Format, &FormatParam)>, bool) = match &self.kind {
            Kind::Single(format, param) => (vec![(*format, param)], false),
            Kind::Hybrid { mp4, hls } => {
                (mp4.iter().map(|param| (Format::Mp4, param)).chain(hls.iter().map(|param| (Format::Hls, param))).collect(), false)
            }
            Kind::TransportStream(param, encryption) => {
                template.hls_encryption = *encryption;
                (vec![(Format::Hls, param)], true)
            }
        };
        for (format, param) in formats {
            *template.param_mut(format) = param.clone();
        }
        let hls = self.hls.as_ref().map(|hls| (hls.file_id, hls.part));
        NotedOutput { writer: self.number(), source: self.source.clone(), template, transport_stream, hls, ids }
    }

    /// Takes a frame as it arrives, if nothing stands in the way. It is number `sequence` and not in the cache yet. What was written is to be committed.
    pub fn offer<S: Store<File = F>>(&mut self, frame: &Frame<'_>, sequence: Sequence, epoch: u32, store: &mut S) -> Offered {
        if self.next != sequence {
            return Offered::Later;
        }
        let file_ms = self.file_ms();
        let State::Writing(open) = &mut self.state else { return Offered::Later };
        match open.step(frame.track, frame.key, frame.dts_ms, epoch, file_ms) {
            Step::Write if store.reserve(&mut open.file, open.writer.push_bytes_max(frame)) => {}
            Step::Unwanted => {
                self.next += 1;
                return Offered::Unwanted;
            }
            Step::Write | Step::Cut | Step::NewEpoch => return Offered::Later,
        }
        let fits = self.write(frame, store);
        self.next += 1;
        if !fits {
            self.lost[DropReason::Unfit as usize] += 1;
            return Offered::Unfit;
        }
        let State::Writing(open) = &self.state else { unreachable!("writing does not close the file") };
        Offered::Written { media: open.writer.last_media(frame, open.file.position()) }
    }

    /// Keeps what [`Output::offer`] has just written for the cache.
    pub fn keep<S: Store<File = F>>(&mut self, media: std::ops::Range<u64>, cache: &mut Cache<S::Pin>, store: &mut S) -> Option<(ChainId, u64)> {
        let State::Writing(open) = &mut self.state else { unreachable!("a frame was written to an open file") };
        let chain = *open.chain.get_or_insert_with(|| cache.new_chain());
        cache.keep(chain, &open.file, media.start, media.end, store)
    }

    /// Says that what was written forms complete frames.
    pub fn commit<S: Store<File = F>>(&mut self, store: &mut S) {
        if let State::Writing(open) = &mut self.state {
            store.commit(&mut open.file, self.next);
        }
    }

    /// Takes frames from the cache until there are no more, or it must wait.
    pub fn pump<S: Store<File = F>>(&mut self, context: &mut Context<'_, S::Pin>, scratch: &mut Vec<u8>, store: &mut S) -> Pumped {
        self.next = self.next.max(context.cache.first());
        while self.next < context.limit {
            let head = *context.cache.head(self.next);
            let file_ms = self.file_ms();
            match &mut self.state {
                State::Starting => match self.begin(context, store) {
                    Beginning::Changed => {}
                    Beginning::Waits => return Pumped::Done,
                    Beginning::Blocked => return Pumped::Blocked,
                },
                State::Writing(open) if head.epoch == open.epoch && !head.what.is_frame() && !self.kind.holds_messages() => self.next += 1,
                State::Writing(open) => match open.step_of(&head, file_ms) {
                    Step::NewEpoch => {
                        let (reason, end) = (context.epoch(head.epoch).reason, context.now_at(open.last_dts_ms));
                        self.close_file(reason, end, store);
                    }
                    Step::Cut => {
                        let end = context.now_at(open.last_dts_ms);
                        match self.leaving {
                            Some(unfit) => self.leave(unfit, end, store),
                            None => self.close_file(EndReason::Interval, end, store),
                        }
                    }
                    Step::Unwanted => self.next += 1,
                    Step::Write => {
                        let frame = match context.cache.get(self.next, scratch) {
                            Item::Frame(frame) => frame,
                            Item::Between(between) => {
                                match open.push_between(&between, self.hls.as_mut(), context, store) {
                                    Written::Done => {}
                                    Written::Lost(reason) => self.lose(reason, context),
                                    Written::Blocked => return Pumped::Blocked,
                                }
                                self.next += 1;
                                self.commit(store);
                                continue;
                            }
                        };
                        if !store.reserve(&mut open.file, open.writer.push_bytes_max(&frame)) {
                            let Some(unfit) = self.leaving else { return Pumped::Blocked };
                            // The disk that is left has no memory for the frames up to the next place for a cut.
                            self.leave(unfit, context.now, store);
                            (self.need_key, self.skipping) = (true, Some(DropReason::StorageBusy));
                            continue;
                        }
                        if !self.write(&frame, store) {
                            self.lose(DropReason::Unfit, context);
                        }
                        self.next += 1;
                        self.commit(store);
                    }
                },
            }
        }
        Pumped::Done
    }

    /// Hands to the disk what is complete, although its block is not full. An MP4 fragment ends with the next frame, which knows its last duration.
    pub fn flush<S: Store<File = F>>(&mut self, store: &mut S) {
        if let State::Writing(open) = &mut self.state {
            match &mut open.writer {
                Writer::Mp4(writer) => writer.close_soon(),
                _ => store.flush(&mut open.file),
            }
        }
    }

    /// The fragment that was to end has ended, or ends now.
    pub fn flush_rest<S: Store<File = F>>(&mut self, store: &mut S) {
        let State::Writing(open) = &mut self.state else { return };
        let Writer::Mp4(writer) = &mut open.writer else { return };
        if writer.is_to_close() {
            let closed = writer.close_fragment(&mut open.file);
            store.commit(&mut open.file, self.next);
            if let Some(recording) = &mut self.hls {
                recording.take(closed, &mut open.file, store);
            }
        }
        store.flush(&mut open.file);
    }

    /// May it want frames of this track?
    fn takes(&self, track: TrackKind) -> bool {
        track == TrackKind::Audio || !self.audio_only
    }
}
