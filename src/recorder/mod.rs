//! One recorder for each publication: messages in, files out. Sans-IO: time is an argument, files are behind [`Store`].
//!
//! Every [`output::Output`] takes a frame as it arrives, or, when it is behind, from the [`cache`] at its own pace. What belongs together (one set of codec parameters,
//! timestamps without a jump) is an *epoch*; an output whose file is of another epoch than the next frame ends that file and begins another.

pub mod cache;
pub mod clock;
pub mod data;
mod further;
pub mod journal;
pub mod output;
mod past;
#[cfg(test)]
mod past_tests;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::nal::{is_annexb, with_lengths};
use crate::container::{Sink, Store};
use crate::domain::event::{ExceptionLevel, LiveEventKind, RecordException, RecordExceptionKind, RecordSessionId, RecordState};
use crate::domain::{EndReason, RecordTemplate, RecordingSource};
use crate::media::flv_tag::{self, AudioUnit, FramePart, TagError, VideoUnit};
use crate::media::{AudioTrack, Frame, FurtherTrack, Payload, TrackKind, Tracks, VideoCodec, VideoTrack};
use crate::media::{note, parameter_sets};
use crate::units::{FileId, Format, MonoTime, PublicationId, StreamKey, WallTime};

use cache::{CACHE_BYTES_MAX, Cache, ChainId, Place, Sequence};
use clock::Clocks;
use data::{DataLog, DataMessage};
use journal::{NotedEpoch, OPEN_END};
use output::{Context, LeftOut, Losses, Offered, Output, Pumped, Trouble};
use past::{Past, Ring};
use watch::Watch;

/// A publication that has sent one track only is taken as complete after this much media (or time): encoders send both sequence headers at once.
const TRACK_WAIT_MS: u64 = 1_000;
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

/// Why a frame is not in any file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// Before the first key frame (of the publication, or after new codec parameters).
    BeforeKeyFrame,
    /// Before the sequence header of its track.
    BeforeSequenceHeader,
    UnsupportedCodec,
    /// The storage was busy for too long.
    StorageBusy,
    /// A container cannot hold it (an AAC access unit beyond what ADTS can say).
    Unfit,
    /// The disk has no space.
    StorageFull,
    /// The disk did not take the file before it, and another had not begun yet.
    StorageFailed,
}

impl DropReason {
    pub const ALL: [DropReason; 7] = [
        DropReason::BeforeKeyFrame,
        DropReason::BeforeSequenceHeader,
        DropReason::UnsupportedCodec,
        DropReason::StorageBusy,
        DropReason::Unfit,
        DropReason::StorageFull,
        DropReason::StorageFailed,
    ];

    /// In loss receipts.
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::BeforeKeyFrame => "before_key_frame",
            DropReason::BeforeSequenceHeader => "before_sequence_header",
            DropReason::UnsupportedCodec => "unsupported_codec",
            DropReason::StorageBusy => "storage_busy",
            DropReason::Unfit => "unfit",
            DropReason::StorageFull => "disk_full",
            DropReason::StorageFailed => "storage_failed",
        }
    }
}

/// What one publication brought, growing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Totals {
    pub video_frames: u64,
    pub audio_frames: u64,
    pub media_bytes: u64,
    pub dropped: [u64; DropReason::ALL.len()],
    /// Frames whose timestamp went back a little against their track.
    pub late_frames: u64,
    pub files: u64,
}

impl Totals {
    fn drop_frames(&mut self, reason: DropReason, count: u64) {
        self.dropped[reason as usize] += count;
    }
}

/// Frames that belong together: one set of codec parameters, no jump of the timestamps.
#[derive(Debug)]
pub struct Epoch {
    pub number: u32,
    pub tracks: Tracks,
    /// Why what was before it ended.
    pub reason: EndReason,
    /// The DTS that is 0 in fragment and transport-stream time; known once a file begins.
    pub zero_ms: Option<i64>,
    /// The frame behind which the sequence header of the sound came: what an encoder puts before the first sound begins there.
    pub audio_begins: Sequence,
    /// A timestamp and the time of day that belongs to it: when that frame was taken from the network, or what the encoder says.
    pub clock: Option<(i64, WallTime)>,
}

impl Epoch {
    /// The time of day of a timestamp.
    pub fn wall(&self, dts_ms: i64) -> Option<WallTime> {
        self.clock
            .map(|(at_ms, wall)| WallTime::from_unix_micros(wall.unix_micros().saturating_add(dts_ms.saturating_sub(at_ms).saturating_mul(1_000))))
    }
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

/// What is kept for recovery while an output is behind.
struct Waiting<S: Store> {
    note: S::Note,
    /// Of frames that were written to the log once more because they lay elsewhere.
    _pins: Vec<S::Pin>,
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
    left_out: Vec<LeftOut>,
    data: DataLog,
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
            left_out: Vec::new(),
            data: DataLog::default(),
            sessions_begun: 0,
            changes: Vec::new(),
            watch: Watch::default(),
            troubles: Vec::new(),
            events: Vec::new(),
            announced_is_checked: false,
            overruled_header: None,
            pending_further: None,
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

    /// What is being recorded, and for whom.
    pub fn recordings(&self) -> impl Iterator<Item = (&RecordingSource, Format)> {
        let open = self.sessions.iter().filter(|session| session.ending.is_none() && session.source != RecordingSource::Ring);
        open.flat_map(|session| session.outputs.iter().flat_map(|output| output.formats().map(|format| (&session.source, format))))
    }

    /// Codecs met and not recorded; each is named once.
    pub fn take_unsupported(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.unsupported)
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
    fn gather(&mut self, now: Now, at_once: bool) {
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

    /// Begins to record what a killed process had in memory. `hls`: the HLS recording that goes on, and its last part.
    fn replay(
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
    fn take_any_frame(&mut self) {
        self.wait_for_key = false;
    }

    /// Ends what was begun for `source`, with every frame received so far.
    pub fn stop(&mut self, source: &RecordingSource, reason: EndReason, now: Now, store: &mut S) {
        let end = self.cache.end();
        self.gather(now, true);
        for session in self.sessions.iter_mut().filter(|session| session.source == *source) {
            session.ending.get_or_insert((end, reason));
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

    /// What the publisher says of its tracks before it sends them (`onMetaData`).
    pub fn announce(&mut self, video: bool, audio: bool) {
        self.announced = Some((video, audio));
    }

    /// One video message.
    ///
    /// # Errors
    /// If it is no FLV video tag body.
    pub fn video(&mut self, timestamp_ms: u32, payload: Payload<'_>, now: Now, store: &mut S) -> Result<(), TagError> {
        self.watch.message(now);
        let unit = flv_tag::parse_video(payload).or_else(|error| unreadable(error).map(|codec| VideoUnit::Unsupported { codec }))?;
        let VideoUnit::Many(packets) = unit else {
            self.video_unit(unit, timestamp_ms, now, store);
            return Ok(());
        };
        for packet in packets {
            let packet = packet?;
            if packet.track_id == Some(0) {
                let unit = flv_tag::video_packet(packet).or_else(|error| unreadable(error).map(|codec| VideoUnit::Unsupported { codec }))?;
                self.video_unit(unit, timestamp_ms, now, store);
            } else {
                self.other_track(TrackKind::Video, packet, timestamp_ms, now, store);
            }
        }
        Ok(())
    }

    fn video_unit(&mut self, unit: VideoUnit<'_>, timestamp_ms: u32, now: Now, store: &mut S) {
        match unit {
            VideoUnit::Config(track) => self.set_video(track),
            VideoUnit::Frame(codec, part) => {
                if part.key && !codec.has_composition_time() {
                    self.describe_video(codec, &part);
                }
                if self.epoch().tracks.video.as_ref().is_none_or(|track| track.codec != codec) {
                    self.totals.drop_frames(DropReason::BeforeSequenceHeader, 1);
                    self.watch.before_header(TrackKind::Video);
                } else if self.wait_for_key && !part.key {
                    self.totals.drop_frames(DropReason::BeforeKeyFrame, 1);
                } else {
                    self.totals.video_frames += 1;
                    if part.key && codec.is_nal_units() {
                        self.annexb = begins_with_start_code(&part.media) && is_annexb(&part.media.to_vec());
                    }
                    let unit;
                    let part = if self.annexb {
                        unit = with_lengths(&part.media.to_vec());
                        FramePart { media: Payload::contiguous(&unit), ..part }
                    } else {
                        part
                    };
                    if part.key {
                        self.take_parameter_sets(&part.media);
                    }
                    self.wait_for_key = false;
                    self.frame(TrackKind::Video, timestamp_ms, part, now, store);
                }
            }
            VideoUnit::Colour(colour, sent) => {
                // Files that begin from here on tell it; it is no reason to begin one.
                if let Some(track) = self.epoch_mut().tracks.video.as_mut().filter(|track| track.metadata != sent) {
                    *track = Arc::new(VideoTrack { metadata: sent.into(), colour: Some(colour), ..(**track).clone() });
                }
            }
            VideoUnit::Unsupported { codec } => self.unsupported(TrackKind::Video, codec),
            VideoUnit::OfTrack(packet) => self.other_track(TrackKind::Video, packet, timestamp_ms, now, store),
            VideoUnit::Many(_) => unreachable!("taken apart by the caller"),
            VideoUnit::EndOfSequence | VideoUnit::Info | VideoUnit::Empty => {}
        }
    }

    /// VP8 and VP9 tell the size of the picture, and all they are, in their key frames.
    fn describe_video(&mut self, codec: VideoCodec, part: &FramePart<'_>) {
        let known = self.epoch().tracks.video.as_deref().filter(|track| track.codec == codec);
        if let Some(track) = flv_tag::described_video(codec, &part.media, known) {
            self.new_video(Arc::new(track));
        }
    }

    /// One data message but for onMetaData: a name and values in AMF0. It is kept where it stands between the frames, by containers that have a place for
    /// it: FLV as it was sent, MP4 and HLS in JSON.
    pub fn data(&mut self, timestamp_ms: u32, payload: Payload<'_>, now: Now, store: &mut S) {
        if self.settings.trust_encoder_clock
            && let Some(wall) = note::time_of_day(&payload)
        {
            let at_ms = self.clocks.other_ms(timestamp_ms);
            self.epoch_mut().clock = Some((at_ms, wall));
        }
        self.between_frames(None, timestamp_ms, payload.to_vec(), now, store);
    }

    fn between_frames(&mut self, track: Option<TrackKind>, timestamp_ms: u32, body: Vec<u8>, now: Now, store: &mut S) {
        let (before, epoch, time_ms) = (self.cache.end(), self.epoch().number, self.clocks.other_ms(timestamp_ms));
        if !self.data.push(DataMessage { before, epoch, track, time_ms, body: body.into() }) {
            self.totals.drop_frames(DropReason::StorageBusy, 1);
        }
        self.pump(now, store);
    }

    /// One audio message.
    ///
    /// # Errors
    /// If it is no FLV audio tag body.
    pub fn audio(&mut self, timestamp_ms: u32, payload: Payload<'_>, now: Now, store: &mut S) -> Result<(), TagError> {
        self.watch.message(now);
        let unit = flv_tag::parse_audio(payload).or_else(|error| unreadable(error).map(|codec| AudioUnit::Unsupported { codec }))?;
        let AudioUnit::Many(packets) = unit else {
            self.audio_unit(unit, timestamp_ms, now, store);
            return Ok(());
        };
        for packet in packets {
            let packet = packet?;
            if packet.track_id == Some(0) {
                let unit = flv_tag::audio_packet(packet).or_else(|error| unreadable(error).map(|codec| AudioUnit::Unsupported { codec }))?;
                self.audio_unit(unit, timestamp_ms, now, store);
            } else {
                self.other_track(TrackKind::Audio, packet, timestamp_ms, now, store);
            }
        }
        Ok(())
    }

    fn audio_unit(&mut self, unit: AudioUnit<'_>, timestamp_ms: u32, now: Now, store: &mut S) {
        match unit {
            AudioUnit::Config(track) => self.set_audio(track),
            AudioUnit::Frame(codec, part) => {
                if codec.describes_itself() {
                    // No sequence header: every frame says what it is.
                    let known = self.epoch().tracks.audio.as_ref();
                    if let Some(track) = flv_tag::described_audio(codec, &part.media)
                        && known.is_none_or(|known| !known.is_like(&track))
                    {
                        self.new_parameters(|tracks| tracks.audio = Some(Arc::new(track)), TrackKind::Audio);
                    }
                }
                if self.epoch().tracks.audio.as_ref().is_some_and(|track| track.codec == codec) {
                    self.totals.audio_frames += 1;
                    self.frame(TrackKind::Audio, timestamp_ms, part, now, store);
                } else {
                    self.totals.drop_frames(DropReason::BeforeSequenceHeader, 1);
                    self.watch.before_header(TrackKind::Audio);
                }
            }
            AudioUnit::Multichannel(sent) => {
                if let Some(track) = self.epoch_mut().tracks.audio.as_mut().filter(|track| track.multichannel != sent) {
                    *track = Arc::new(AudioTrack { multichannel: sent.into(), ..(**track).clone() });
                }
            }
            AudioUnit::Unsupported { codec } => self.unsupported(TrackKind::Audio, codec),
            AudioUnit::OfTrack(packet) => self.other_track(TrackKind::Audio, packet, timestamp_ms, now, store),
            AudioUnit::Many(_) => unreachable!("taken apart by the caller"),
            AudioUnit::EndOfSequence | AudioUnit::Empty => {}
        }
    }

    fn unsupported(&mut self, track: TrackKind, codec: &'static str) {
        self.totals.drop_frames(DropReason::UnsupportedCodec, 1);
        if !self.unsupported.contains(&codec) {
            self.unsupported.push(codec);
            self.watch.exception(missing(track), || format!("{codec} is not recorded"));
        }
    }

    /// Some encoders change the picture without a new sequence header: what stands in front of the key frame counts.
    fn take_parameter_sets(&mut self, key_frame: &Payload<'_>) {
        let Some(known) = &self.epoch().tracks.video else { return };
        let Some(track) = parameter_sets::changed_by(known, key_frame) else { return };
        let sent = known.sequence_header.clone();
        self.overruled_header.get_or_insert(sent);
        self.new_video(Arc::new(track));
    }

    fn set_video(&mut self, track: Arc<VideoTrack>) {
        if self.overruled_header.as_ref().is_some_and(|header| *header == track.sequence_header) {
            // Repeated although the key frames say otherwise.
            return;
        }
        self.overruled_header = None;
        let Some(known) = &self.epoch().tracks.video else { return self.new_video(track) };
        let same = |known: &VideoTrack| (known.codec, &known.config, &known.sequence_header) == (track.codec, &track.config, &track.sequence_header);
        if !same(known) {
            // What is said of the colours holds until something else is said.
            let others = known.others.clone();
            let track = VideoTrack { metadata: known.metadata.clone(), colour: known.colour.clone(), others, ..(*track).clone() };
            self.new_video(Arc::new(track));
        }
    }

    fn new_video(&mut self, track: Arc<VideoTrack>) {
        self.new_parameters(|tracks| tracks.video = Some(track), TrackKind::Video);
        self.wait_for_key = true;
    }

    fn set_audio(&mut self, track: Arc<AudioTrack>) {
        let same =
            |known: &Arc<AudioTrack>| (known.codec, &known.config, &known.sequence_header) == (track.codec, &track.config, &track.sequence_header);
        if !self.epoch().tracks.audio.as_ref().is_some_and(same) {
            self.new_parameters(|tracks| tracks.audio = Some(track), TrackKind::Audio);
            self.epoch_mut().audio_begins = self.cache.end();
        }
    }

    /// Codec parameters that were not known: a track that only now appears completes an epoch of which no file has begun; else an epoch ends.
    fn new_parameters(&mut self, change: impl FnOnce(&mut Tracks), kind: TrackKind) {
        let before = self.epoch().tracks.codec_name(kind);
        self.take_parameters(change, kind);
        if let (Some(before), Some(after)) = (before, self.epoch().tracks.codec_name(kind))
            && before != after
        {
            self.watch.codec_changed(kind, before, after);
        }
    }

    fn take_parameters(&mut self, change: impl FnOnce(&mut Tracks), kind: TrackKind) {
        let epoch = self.epoch_mut();
        let known = match kind {
            TrackKind::Video => epoch.tracks.video.is_some(),
            TrackKind::Audio => epoch.tracks.audio.is_some(),
        };
        let begun = epoch.zero_ms.is_some();
        // Audio may have come meanwhile: of this video no frame has.
        let unused = kind == TrackKind::Video && self.wait_for_key;
        if !begun && (!known || unused || self.epoch_is_empty()) {
            change(&mut self.epoch_mut().tracks);
            self.note_is_old = true;
            return;
        }
        let mut tracks = self.epoch().tracks.clone();
        change(&mut tracks);
        self.new_epoch(tracks, EndReason::ParametersChanged);
    }

    fn epoch_is_empty(&self) -> bool {
        self.cache.end() == self.cache.first() || self.cache.head(self.cache.end() - 1).epoch != self.epoch().number
    }

    fn new_epoch(&mut self, tracks: Tracks, reason: EndReason) {
        let number = self.epoch().number + 1;
        self.note_is_old = true;
        let Epoch { audio_begins, clock, .. } = *self.epoch();
        // Behind a jump the timestamps say something else.
        let clock = clock.filter(|_| reason != EndReason::TimestampJump);
        self.epochs.push_back(Epoch { number, tracks, reason, zero_ms: None, audio_begins, clock });
    }

    fn frame(&mut self, track: TrackKind, timestamp_ms: u32, part: FramePart<'_>, now: Now, store: &mut S) {
        let step = self.clocks.step(track, timestamp_ms);
        self.watch.frame(track, &step, now);
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
    fn store_frame(&mut self, frame: &Frame<'_>, now: Now, store: &mut S) {
        let (sequence, epoch) = (self.cache.end(), self.epoch().number);
        let data_end = self.data.end();
        self.unflushed |= !self.sessions.is_empty();
        let mut place = None;
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
                match output.offer(frame, sequence, (epoch, data_end), store) {
                    Offered::Later => behind = true,
                    Offered::Unwanted => {}
                    Offered::Unfit => self.totals.drop_frames(DropReason::Unfit, 1),
                    Offered::Written { media } => {
                        if place.is_none() {
                            place = media.map(|media| output.keep(media, &mut self.cache, store));
                        }
                        output.commit(store);
                    }
                }
            }
        }
        // Whoever waits for it finds it in the log after a kill, also when it is in the file of another.
        let place = if behind { self.log_frame(frame, true, store) } else { place.or_else(|| self.log_frame(frame, false, store)) };
        let Some(place) = place else { return self.cache.pass() };
        self.cache.push(frame, epoch, place);
        if behind || has_past {
            self.pump(now, store);
        } else {
            self.trim(self.cache.end(), store);
        }
    }

    /// Puts a frame that no file has taken into the log; if there is no free block and it is `needed`, on the heap.
    fn log_frame(&mut self, frame: &Frame<'_>, needed: bool, store: &mut S) -> Option<Place> {
        let (sequence, epoch) = (self.cache.end(), self.epoch().number);
        let cache = &mut self.cache;
        let (log, chain) = self.log.get_or_insert_with(|| (store.open_log(), cache.new_chain()));
        let Some(media) = append_to_log(log, frame, sequence, epoch, store) else {
            return needed.then(|| Place::Heap(frame.media.to_vec().into()));
        };
        let place = self.cache.keep(*chain, log, media.start, media.end, store);
        store.commit(log, 0);
        Some(place)
    }

    /// Keeps beside the log what recovery needs to know as long as an output waits for frames.
    fn note_waiting(&mut self, now: Now, store: &mut S) {
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

    fn describe_waiting(&self, now: Now, ids: &[FileId]) -> journal::Note {
        let header = |header: Option<&bytes::Bytes>| header.map(|header| header.to_vec()).unwrap_or_default();
        let epochs = self.epochs.iter().map(|epoch| NotedEpoch {
            number: epoch.number,
            video: header(epoch.tracks.video.as_ref().map(|track| &track.sequence_header)),
            audio: header(epoch.tracks.audio.as_ref().map(|track| &track.sequence_header)),
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
    fn log_again(&mut self, first: Sequence, store: &mut S) -> Vec<S::Pin> {
        let mut pins = Vec::new();
        let mut scratch = Vec::new();
        let cache = &mut self.cache;
        let (log, chain) = self.log.get_or_insert_with(|| (store.open_log(), cache.new_chain()));
        let begin = log.position();
        for sequence in first.max(self.cache.first())..self.cache.end() {
            if !self.cache.lies_in(sequence, *chain) {
                let epoch = self.cache.head(sequence).epoch;
                if append_to_log(log, &self.cache.get(sequence, &mut scratch), sequence, epoch, store).is_none() {
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

    /// Lets go what neither the outputs, which still take the frames from `needed` on, nor a task that may join need.
    fn trim(&mut self, needed: Sequence, store: &mut S) {
        self.cache.trim(needed, store.is_tight());
        if let Some((log, _)) = self.log.take_if(|(_, chain)| !self.cache.holds(*chain)) {
            store.close_log(log);
        }
        while self.epochs.len() > 1 && self.epochs[0].number < self.oldest_epoch_in_use() {
            self.epochs.pop_front();
        }
    }

    /// May a file of the newest epoch begin, or might another track still come?
    fn tracks_are_complete(&self, now: Now) -> bool {
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

    fn cached_span_ms(&self) -> i64 {
        let (first, end) = (self.cache.first(), self.cache.end());
        if first == end { 0 } else { self.cache.head(end - 1).dts_ms - self.cache.head(first).dts_ms }
    }

    /// Lets every output take what it can, and ends the sessions that have taken all of theirs.
    fn pump(&mut self, now: Now, store: &mut S) {
        self.pump_past(now, store);
        self.unflushed = true;
        let mut needed = self.cache.end();
        let mut needed_data = self.data.end();
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
            data: &self.data,
            changes: &mut self.changes,
            troubles: &mut self.troubles,
            anchor: None,
        };
        let mut scratch = Vec::new();
        let mut ring_events = Vec::new();
        let mut outputs_are_new = false;
        self.sessions.retain_mut(|session| {
            if session.past.is_some() {
                return true;
            }
            context.closing = session.ending.is_some();
            context.limit = session.ending.map_or(context.cache.end(), |(limit, _)| limit);
            context.tracks_complete = tracks_complete || context.closing;
            let mut behind = false;
            let mut index = 0;
            while index < session.outputs.len() {
                let output = &mut session.outputs[index];
                match output.pump(&mut context, &mut scratch, store) {
                    Pumped::Done => {}
                    Pumped::Blocked => blocked = true,
                    Pumped::Part => {
                        outputs_are_new = true;
                        let parted = output.part();
                        session.outputs.push(parted);
                        continue;
                    }
                }
                index += 1;
                behind |= output.next() < context.limit;
                needed = needed.min(output.next());
                needed_data = needed_data.min(output.next_data());
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
        self.note_is_old |= outputs_are_new;
        self.totals.files += files_begun;
        // It names the parts of HLS recordings.
        self.note_is_old |= files_begun > 0;
        DropReason::ALL.into_iter().for_each(|reason| self.totals.drop_frames(reason, lost[reason as usize]));
        self.blocked_since = if blocked { self.blocked_since.or(Some(now.mono)) } else { None };
        self.note_ring(&ring_events, now);
        needed = self.sessions.iter().filter_map(|session| session.past.as_ref()?.hold()).fold(needed, Sequence::min);
        self.data.trim(needed_data, self.cache.first());
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

    fn oldest_epoch_in_use(&self) -> u32 {
        if self.cache.first() == self.cache.end() { self.epoch().number } else { self.cache.head(self.cache.first()).epoch }
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

    /// Looks once whether the tracks that were announced have come.
    fn check_announced(&mut self, now: Now) {
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

const fn missing(track: TrackKind) -> RecordExceptionKind {
    match track {
        TrackKind::Video => RecordExceptionKind::VideoMissing,
        TrackKind::Audio => RecordExceptionKind::AudioMissing,
    }
}

/// Appends a frame with its head to the log. Returns where its media lie; `None`: there is no free block. It is not committed yet.
fn append_to_log<S: Store>(log: &mut S::File, frame: &Frame<'_>, sequence: Sequence, epoch: u32, store: &mut S) -> Option<std::ops::Range<u64>> {
    if !store.reserve(log, journal::FRAME_OVERHEAD_BYTES + frame.media.len()) {
        return None;
    }
    journal::write_head(frame, sequence, epoch, |bytes| log.append(bytes));
    let start = log.position();
    frame.media.slices().for_each(|slice| log.append(slice));
    let end = log.position();
    log.seal(end);
    Some(start..end)
}

/// Most units begin otherwise, and are looked at no further.
fn begins_with_start_code(media: &Payload<'_>) -> bool {
    let mut head = [0xff; 4];
    media.peek(&mut head);
    matches!(head, [0, 0, 1, _] | [0, 0, 0, 1])
}

/// A sequence header that cannot be read costs its track, not the stream: the other one may be well. Not so for H.264 and AAC, whose senders we know: there it
/// is a stream out of step.
///
/// # Errors
/// What is another mistake.
fn unreadable(error: TagError) -> Result<&'static str, TagError> {
    match error {
        TagError::Hevc(_) => Ok("H.265 whose sequence header cannot be read"),
        TagError::Configuration { .. } => Ok("enhanced: a sequence header that cannot be read"),
        error => Err(error),
    }
}
