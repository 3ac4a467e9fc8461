//! One output of a session: a format (or MP4 and HLS together, which share one file) from its first file to its last.

use std::collections::VecDeque;

use crate::container::es::{AdtsWriter, Mp3Writer};
use crate::container::flv::{self, FlvWriter, PREVIOUS_TAG_SIZE_BYTES};
use crate::container::hls::{self, LIVE_PLAYLIST_NAME, SegmentContainer, Segmenter, TsStart};
use crate::container::mp4::{self, Mp4Writer};
use crate::container::mpegts::{self, SEGMENT_START_BYTES, TsWriter};
use crate::container::{MediaPath, OpenMedia, Pinned, RecordingEnd, Room, Sink, SmallFile, Store, Unfit};
use crate::domain::event::{RecordExceptionKind, RecordSessionId, RecordState};
use crate::domain::receipt::{Continued, TrackReceipt};
use crate::domain::{
    EndReason, FormatParam, PausedRecording, Receipt, RecordTemplate, RecordingIdentity, RecordingSource, Resume, ResumeClaim, ResumeTerms,
};
use crate::media::{AudioCodec, Frame, TrackKind, Tracks, flv_tag, note};
use crate::units::{FileId, Format, MonoTime, TemplateId, WallTime};

use super::cache::{Cache, ChainId, FrameHead, Place, Sequence};
use super::data::{DataLog, DataMessage};
use super::journal::NotedOutput;
use super::{DropReason, Epoch, MoovReserve, Now, Publication, RecordChange, RecorderSettings};

/// The other track's first frame is waited for this long (media time), so that the file's zero is the smaller of the two.
const FIRST_FRAMES_WAIT_MS: i64 = 500;
/// After a storage failure an output begins again at the next key frame; after files in a row that failed soon, at the first one after this, and
/// twice as long each time.
const RETRY_MS: u64 = 500;
const RETRY_MS_MAX: u64 = 30_000;
/// A file that failed before it was this old failed soon.
const SOON_MS: u64 = 10_000;
/// Head room for the final `moov` where the file system can insert more: the first half minute needs no insertion.
const MOOV_RESERVE_BYTES: usize = 32 << 10;
/// `moov` bytes for one second of two tracks with irregular timestamps (60 fps and 50 audio frames a second), where nothing can be inserted.
const MOOV_BYTES_PER_SECOND: usize = 2_000;
const MOOV_RESERVE_BYTES_MAX: usize = 8 << 20;
/// A publication that takes over from another waits this long for the interruption of the other's recording.
const RESUME_WAIT_MS: u64 = 3_000;
/// Of the output that goes on with HLS where MP4 and HLS cannot be one file: behind the others of a session, in three bits.
const PARTED_PLACE: u8 = 7;
/// HLS recordings have no interval; their MP4 part is sized like one of this length.
const HLS_RESERVE_S: u64 = 1_800;

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
    /// What stands between the frames.
    pub data: &'a DataLog,
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

/// Whether an output's recordings are told to have begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Begun {
    Untold,
    /// They could not begin, so far.
    Failed,
    Told,
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
    fn epoch(&mut self, number: u32) -> &mut Epoch {
        let first = self.epochs[0].number;
        &mut self.epochs[(number - first) as usize]
    }

    fn leave_out(&mut self, container: &'static str, codec: &'static str) {
        LeftOut::note(self.left_out, container, codec);
    }

    /// When a frame was received.
    fn wall_at(&self, dts_ms: i64) -> WallTime {
        self.anchor.map_or(self.now.wall, |(wall, anchor_ms)| {
            WallTime::from_unix_micros(wall.unix_micros().saturating_add((dts_ms - anchor_ms).saturating_mul(1_000)))
        })
    }

    fn now_at(&self, dts_ms: i64) -> Now {
        Now { wall: self.wall_at(dts_ms), ..self.now }
    }

    fn newest_epoch(&self) -> u32 {
        self.epochs.back().map_or(0, |epoch| epoch.number)
    }
}

/// Frames lost, by reason.
pub type Losses = [u64; DropReason::ALL.len()];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pumped {
    /// Everything that can be taken is taken.
    Done,
    /// The storage has no room now.
    Blocked,
    /// The next file must be two: see [`Output::part`].
    Part,
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

/// What one media file serves.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Kind {
    Single(Format, FormatParam),
    /// Fragmented MP4: an MP4 recording, an HLS recording, or both from one write.
    Hybrid {
        mp4: Option<FormatParam>,
        hls: Option<FormatParam>,
    },
    /// HLS as one MPEG transport stream with byte ranges.
    TransportStream(FormatParam),
}

impl Kind {
    fn interval_ms(&self) -> Option<i64> {
        let param = match self {
            Kind::Single(_, param) => param,
            Kind::Hybrid { mp4: Some(param), .. } => param,
            Kind::Hybrid { mp4: None, .. } | Kind::TransportStream(_) => return None,
        };
        Some(i64::try_from(param.record_interval_s.saturating_mul(1_000)).unwrap_or(i64::MAX))
    }

    fn hls(&self) -> Option<&FormatParam> {
        match self {
            Kind::Hybrid { hls, .. } => hls.as_ref(),
            Kind::TransportStream(param) => Some(param),
            Kind::Single(..) => None,
        }
    }

    fn is_audio_only(&self) -> bool {
        matches!(self, Kind::Single(Format::Aac | Format::Mp3, _))
    }

    /// The tracks of the epoch that this output can hold.
    fn suitable(&self, tracks: &Tracks) -> Tracks {
        let audio_of = |codec| Tracks { audio: tracks.audio.clone().filter(|audio| audio.codec == codec), ..Tracks::default() };
        match self {
            Kind::Single(Format::Aac, _) => audio_of(AudioCodec::Aac),
            Kind::Single(Format::Mp3, _) => audio_of(AudioCodec::Mp3),
            Kind::TransportStream(_) => Tracks {
                video: tracks.video.clone().filter(|video| mpegts::holds_video(video.codec)),
                audio: tracks.audio.clone().filter(|audio| mpegts::holds_audio(audio.codec)),
                further: Vec::new(),
            },
            // A player of HLS takes one picture and one sound from a segment.
            Kind::Hybrid { hls: Some(_), .. } => tracks.first_ones(),
            _ => tracks.clone(),
        }
    }

    /// Can it hold more than one track of a kind?
    fn holds_further(&self) -> bool {
        matches!(self, Kind::Single(Format::Flv, _) | Kind::Hybrid { hls: None, .. })
    }

    /// Has it a place for what stands between the frames?
    fn holds_messages(&self) -> bool {
        matches!(self, Kind::Single(Format::Flv, _) | Kind::Hybrid { .. })
    }

    /// The container by its name for the log.
    fn container(&self) -> &'static str {
        match self {
            Kind::Single(Format::Flv, _) => "FLV",
            Kind::Single(Format::Mp3, _) => "MP3",
            Kind::Single(..) => "ADTS",
            Kind::Hybrid { mp4: Some(_), .. } => "MP4",
            Kind::Hybrid { mp4: None, .. } => "HLS",
            Kind::TransportStream(_) => "MPEG-TS",
        }
    }

    fn extension(&self) -> &'static str {
        match self {
            Kind::Single(format, _) => format.extension(),
            Kind::Hybrid { mp4: Some(_), .. } => "mp4",
            Kind::Hybrid { mp4: None, .. } => "m4s",
            Kind::TransportStream(_) => "ts",
        }
    }
}

enum Writer {
    Flv(Box<FlvWriter>),
    Mp4(Box<Mp4Writer>),
    Ts(Box<TsWriter>),
    Adts(AdtsWriter),
    Mp3(Mp3Writer),
}

impl Writer {
    fn push_bytes_max(&self, frame: &Frame<'_>) -> usize {
        match self {
            Writer::Flv(writer) => writer.push_bytes_max(frame),
            Writer::Mp4(writer) => writer.push_bytes_max(frame.media.len()),
            Writer::Ts(writer) => SEGMENT_START_BYTES + writer.push_bytes_max(frame),
            Writer::Adts(writer) => writer.push_bytes_max(frame),
            Writer::Mp3(writer) => writer.push_bytes_max(frame),
        }
    }
}

impl Writer {
    /// Where in the file the media bytes of the last frame lie, which ends at `end`. `None`: not in a row.
    fn last_media(&self, frame: &Frame<'_>, end: u64) -> Option<std::ops::Range<u64>> {
        let end = match self {
            Writer::Flv(_) => end - PREVIOUS_TAG_SIZE_BYTES as u64,
            Writer::Mp4(_) | Writer::Adts(_) | Writer::Mp3(_) => end,
            Writer::Ts(_) => return None,
        };
        Some(end - frame.media.len() as u64..end)
    }
}

/// An open media file.
struct OpenFile<F> {
    file: F,
    /// Its name in the cache, once frames there lie in it.
    chain: Option<ChainId>,
    writer: Writer,
    epoch: u32,
    /// The recording that is this one file; `None` for a part of an HLS recording alone.
    recording: Option<FileId>,
    has_video: bool,
    has_audio: bool,
    /// Further tracks in the file, in their order.
    further: Vec<(TrackKind, u8)>,
    first_dts_ms: i64,
    last_dts_ms: i64,
    /// Transport stream: the last place where a segment may begin.
    ts_start: Option<TsStart>,
    /// Its time is that of its first video frame, not of audio before.
    ts_timed: bool,
    opened: MonoTime,
    video: TrackReceipt,
    audio: TrackReceipt,
    continues: Option<Continued>,
}

/// What an open file does with a frame.
enum Step {
    Write,
    Unwanted,
    /// The file is long enough: another begins with this frame.
    Cut,
    NewEpoch,
}

impl<F> OpenFile<F> {
    fn step(&self, track: TrackKind, key: bool, dts_ms: i64, epoch: u32, interval_ms: Option<i64>) -> Step {
        if self.epoch != epoch {
            return Step::NewEpoch;
        }
        let wanted = match track {
            TrackKind::Video => self.has_video,
            TrackKind::Audio => self.has_audio,
        };
        if !wanted {
            return Step::Unwanted;
        }
        let may_cut = !self.has_video || (track == TrackKind::Video && key);
        if may_cut && interval_ms.is_some_and(|interval_ms| dts_ms - self.first_dts_ms >= interval_ms) { Step::Cut } else { Step::Write }
    }
}

impl<F: Sink> OpenFile<F> {
    /// Writes what is no frame of the first tracks, if the container has a place for it. False: the storage has no room now.
    /// `next`: the frame behind it.
    fn push_message<S: Store<File = F>>(&mut self, message: &DataMessage, next: Sequence, context: &mut Context<'_, S::Pin>, store: &mut S) -> bool {
        match &mut self.writer {
            Writer::Flv(writer) => {
                if !store.reserve(&mut self.file, writer.push_message_bytes_max(&message.body)) {
                    return false;
                }
                writer.push_message(message.track, message.time_ms, &message.body, &mut self.file);
            }
            Writer::Mp4(writer) => match message.track {
                None => {
                    if note::parse(&message.body).is_some_and(|note| !writer.push_message(message.time_ms, &note)) {
                        context.lost[DropReason::Unfit as usize] += 1;
                    }
                    return true;
                }
                Some(_) if self.further.is_empty() => return true,
                Some(kind) => {
                    let Some((number, part)) = flv_tag::further_frame(kind, &message.body) else { return true };
                    let Some(index) = self.further.iter().position(|known| *known == (kind, number)) else {
                        context.lost[DropReason::BeforeSequenceHeader as usize] += 1;
                        return true;
                    };
                    if !store.reserve(&mut self.file, writer.push_bytes_max(part.media.len())) {
                        return false;
                    }
                    writer.push_further(index, &part.at(kind, message.time_ms), &mut self.file);
                }
            },
            Writer::Ts(_) | Writer::Adts(_) | Writer::Mp3(_) => return true,
        }
        store.commit(&mut self.file, next);
        true
    }
}

/// An HLS recording: one playlist over all its parts.
struct HlsRecording {
    file_id: FileId,
    /// The part that is open, or was last; counts from 1.
    part: u32,
    /// The epoch of the last part: another one needs its own init segment and a discontinuity.
    epoch: Option<u32>,
    segmenter: Segmenter,
    /// Media duration listed so far, ms: gives the wall time of a segment.
    listed_ms: u64,
    /// Wall time at `listed_ms` 0.
    start: WallTime,
    /// Of its parts so far.
    receipt: Box<Receipt>,
    /// `None`: an interruption of the stream ends it.
    resumable: Option<(ResumeClaim, ResumeTerms)>,
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
    /// The next data message to take.
    next_data: u64,
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
            (mp4, Some(hls)) if settings.hls_transport_stream => {
                kinds.extend(mp4.map(|mp4| Kind::Hybrid { mp4: Some(mp4), hls: None }));
                kinds.push(Kind::TransportStream(hls));
            }
            (None, None) => {}
            (mp4, hls) => kinds.push(Kind::Hybrid { mp4, hls }),
        }
        for format in [Format::Flv, Format::Aac, Format::Mp3] {
            kinds.extend(enabled(format).map(|param| Kind::Single(format, param)));
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
                next_data: 0,
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

    /// MP4 and HLS cannot be one file any more: HLS has no place for all the tracks of the next one.
    fn must_part(&self, epoch: u32, context: &mut Context<'_, impl Pinned>) -> bool {
        matches!(self.kind, Kind::Hybrid { mp4: Some(_), hls: Some(_) })
            && (context.tracks_complete || epoch != context.newest_epoch())
            && !context.epoch(epoch).tracks.further.is_empty()
    }

    /// Goes on without HLS; returns the output that goes on with it.
    ///
    /// # Panics
    /// If [`Output::pump`] has not asked for it.
    pub fn part(&mut self) -> Self {
        let Kind::Hybrid { hls, .. } = &mut self.kind else { unreachable!("it was asked for") };
        let kind = Kind::Hybrid { mp4: None, hls: hls.take() };
        Self {
            interval_ms: kind.interval_ms(),
            kind,
            source: self.source.clone(),
            session: self.session,
            place: PARTED_PLACE,
            resume_wait_s: self.resume_wait_s,
            awaiting: self.awaiting.take(),
            audio_only: self.audio_only,
            state: State::Starting,
            hls: self.hls.take(),
            next: self.next,
            next_data: self.next_data,
            need_key: self.need_key,
            skipping: self.skipping,
            lost: Losses::default(),
            retry_at: self.retry_at,
            failures: self.failures,
            begun: self.begun,
            resumed: self.resumed,
            lacks: self.lacks,
            failed: None,
            further_told: false,
            leaving: None,
            left: None,
            before: [None, self.before[1].take()],
            ring: None,
        }
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

    /// The next data message to take.
    pub fn next_data(&self) -> u64 {
        self.next_data
    }

    /// What it writes: one file may be two formats.
    pub fn formats(&self) -> impl Iterator<Item = Format> + use<F> {
        self.format_pair().into_iter().flatten()
    }

    fn format_pair(&self) -> [Option<Format>; 2] {
        match &self.kind {
            Kind::Hybrid { mp4, hls } => [mp4.as_ref().map(|_| Format::Mp4), hls.as_ref().map(|_| Format::Hls)],
            Kind::TransportStream(_) => [Some(Format::Hls), None],
            Kind::Single(format, _) => [Some(*format), None],
        }
    }

    fn trouble(&self, kind: RecordExceptionKind, description: String) -> Trouble {
        Trouble { session: self.session, formats: self.format_pair(), kind, description }
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
    fn cannot_begin(&mut self, why: &str, changes: &mut Vec<RecordChange>, troubles: &mut Vec<Trouble>) {
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
            Kind::TransportStream(param) => (vec![(Format::Hls, param)], true),
        };
        for (format, param) in formats {
            *template.param_mut(format) = param.clone();
        }
        let hls = self.hls.as_ref().map(|hls| (hls.file_id, hls.part));
        NotedOutput { writer: self.number(), source: self.source.clone(), template, transport_stream, hls, ids }
    }

    /// The HLS recording goes on behind its part `part`.
    pub fn continue_hls(&mut self, file_id: FileId, part: u32, start: WallTime, segment_ms: u64) {
        if matches!(self.kind, Kind::Hybrid { hls: Some(_), .. } | Kind::TransportStream(_)) {
            let segmenter = Segmenter::new(segment_ms);
            let receipt = Box::default();
            self.hls = Some(HlsRecording { file_id, part, epoch: None, segmenter, listed_ms: 0, start, receipt, resumable: None });
        }
    }

    /// Takes a frame as it arrives, if nothing stands in the way. It is number `sequence` and not in the cache yet. What was written is to be committed.
    /// `data_end`: number behind the newest data message.
    pub fn offer<S: Store<File = F>>(&mut self, frame: &Frame<'_>, sequence: Sequence, (epoch, data_end): (u32, u64), store: &mut S) -> Offered {
        if self.next != sequence || self.next_data != data_end {
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
    pub fn keep<S: Store<File = F>>(&mut self, media: std::ops::Range<u64>, cache: &mut Cache<S::Pin>, store: &mut S) -> Place {
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
            if !self.pump_data(context, store) {
                return Pumped::Blocked;
            }
            let head = *context.cache.head(self.next);
            let file_ms = self.file_ms();
            match &mut self.state {
                State::Starting => {
                    if self.must_part(head.epoch, context) {
                        return Pumped::Part;
                    }
                    match self.begin(&head, context, store) {
                        Beginning::Changed => {}
                        Beginning::Waits => return Pumped::Done,
                        Beginning::Blocked => return Pumped::Blocked,
                    }
                }
                State::Writing(open) => match open.step(head.track, head.key, head.dts_ms, head.epoch, file_ms) {
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
                        let frame = context.cache.get(self.next, scratch);
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
        if self.pump_data(context, store) { Pumped::Done } else { Pumped::Blocked }
    }

    /// Takes what stands before the next frame and is none of the first tracks'. False: the storage has no room now.
    fn pump_data<S: Store<File = F>>(&mut self, context: &mut Context<'_, S::Pin>, store: &mut S) -> bool {
        while let Some(message) = context.data.get(self.next_data).filter(|message| message.before <= self.next) {
            if let State::Writing(open) = &mut self.state {
                // Of an epoch whose file is still to begin.
                if message.epoch > open.epoch {
                    return true;
                }
                if message.epoch == open.epoch && !open.push_message(message, self.next, context, store) {
                    return false;
                }
            } else if self.kind.holds_messages() && message.before == self.next {
                // It goes into the file that begins with this frame.
                return true;
            }
            self.next_data = context.data.number_behind(self.next_data);
        }
        true
    }

    /// Tries to open the file that begins with `frame`.
    fn begin<S: Store<File = F>>(&mut self, frame: &FrameHead, context: &mut Context<'_, S::Pin>, store: &mut S) -> Beginning {
        if !self.takes(frame.track) {
            self.next += 1;
            return Beginning::Changed;
        }
        if let Some(retry_at) = self.retry_at {
            if context.now.mono < retry_at && !context.closing {
                self.skip(DropReason::StorageFailed, context);
                return Beginning::Changed;
            }
            self.retry_at = None;
        }
        let room = match &self.hls {
            Some(hls) => store.room_beside(hls.file_id),
            None => store.room(None),
        };
        match room {
            Room::Free => {}
            Room::Elsewhere(unfit) => {
                self.leave(unfit, context.now, store);
                return Beginning::Changed;
            }
            Room::Full => {
                self.skip(DropReason::StorageFull, context);
                return Beginning::Changed;
            }
            Room::Stalled => {
                self.skip(DropReason::StorageBusy, context);
                return Beginning::Changed;
            }
        }
        let epoch = frame.epoch;
        let newest = epoch == context.newest_epoch();
        if newest && !context.tracks_complete {
            return Beginning::Waits;
        }
        let all = context.epoch(epoch).tracks.clone();
        let mut tracks = self.kind.suitable(&all);
        let video = all.video.as_ref().filter(|_| tracks.video.is_none() && !self.audio_only).map(|video| video.codec.name());
        let audio = all.audio.as_ref().filter(|_| tracks.audio.is_none()).map(|audio| audio.codec.name());
        for (kind, codec) in [(RecordExceptionKind::VideoMissing, video), (RecordExceptionKind::AudioMissing, audio)] {
            let Some(codec) = codec else { continue };
            context.leave_out(self.kind.container(), codec);
            if !self.lacks.contains(&Some(kind)) {
                self.lacks[usize::from(self.lacks[0].is_some())] = Some(kind);
                context.troubles.push(self.trouble(kind, format!("{} has no place for {codec}", self.kind.container())));
            }
        }
        if self.audio_only {
            tracks.video = None;
            tracks.further.retain(|track| track.kind() == TrackKind::Audio);
        }
        let left_out = all.further.iter().find(|track| !self.kind.holds_further() && (!self.audio_only || track.kind() == TrackKind::Audio));
        if let Some((kind, number, codec)) = left_out.map(|track| (track.kind(), track.number, track.codec_name()))
            && !self.further_told
        {
            self.further_told = true;
            let (missing, name, which) = match kind {
                TrackKind::Video => (RecordExceptionKind::VideoMissing, "video", "video track beyond the first"),
                TrackKind::Audio => (RecordExceptionKind::AudioMissing, "audio", "audio track beyond the first"),
            };
            let container = self.kind.container();
            context.leave_out(container, which);
            let description =
                format!("{container} holds the first {name} track alone: track {number} ({codec}) and what else there is are in FLV and MP4");
            context.troubles.push(self.trouble(missing, description));
        }
        if self.next > context.epoch(epoch).audio_begins
            && let Some(audio) = tracks.audio.as_mut().filter(|audio| audio.pre_skip > 0)
        {
            // The encoder's priming lies in a file before this one.
            std::sync::Arc::make_mut(audio).pre_skip = 0;
        }
        if tracks.is_empty() {
            self.cannot_begin("none of the tracks can be recorded in this format", context.changes, context.troubles);
            self.next += 1;
            return Beginning::Changed;
        }
        if self.need_key && tracks.video.is_some() && !(frame.track == TrackKind::Video && frame.key) {
            if let Some(reason) = self.skipping {
                self.lose(reason, context);
            }
            self.next += 1;
            return Beginning::Changed;
        }
        let Some(zero_ms) = self.file_zero_ms(&tracks, epoch, context) else { return Beginning::Waits };
        let now = context.now.wall;
        let epoch_zero_ms = *context.epoch(epoch).zero_ms.get_or_insert(zero_ms);
        let epoch = context.epoch(epoch);
        let times = (epoch.wall(zero_ms).unwrap_or(now), epoch.wall(epoch_zero_ms));
        match self.writer(&tracks, (zero_ms, epoch_zero_ms), times, context.settings) {
            Some((head, writer)) => {
                if !self.begin_hls(frame, context, store) {
                    return Beginning::Waits;
                }
                // The one that it goes on with may lie on a disk that takes no more.
                if let Some(Room::Elsewhere(unfit)) = self.hls.as_ref().map(|hls| store.room_beside(hls.file_id)) {
                    self.leave(unfit, context.now, store);
                    return Beginning::Changed;
                }
                if !self.open_file(frame, &tracks, (head, writer, times.0), context, store) {
                    return Beginning::Blocked;
                }
                self.need_key = false;
                self.skipping = None;
            }
            None => {
                self.cannot_begin("the format cannot hold what the track is made of", context.changes, context.troubles);
                self.next += 1;
                self.lose(DropReason::Unfit, context);
            }
        }
        Beginning::Changed
    }

    /// The head and the writer of the next file. `None`: this container cannot hold these tracks (an AAC profile that ADTS does not know).
    fn writer(
        &self,
        tracks: &Tracks,
        (zero_ms, epoch_zero_ms): (i64, i64),
        (first_frame, clock): (WallTime, Option<WallTime>),
        settings: &RecorderSettings,
    ) -> Option<(Vec<u8>, Writer)> {
        Some(match &self.kind {
            Kind::Single(Format::Flv, param) => {
                let head = flv::head(tracks, param.record_interval_s);
                let writer = FlvWriter::new(tracks, &head, zero_ms);
                (head, Writer::Flv(Box::new(writer)))
            }
            Kind::Single(Format::Mp3, _) => (Vec::new(), Writer::Mp3(Mp3Writer::new())),
            Kind::Single(..) => (Vec::new(), Writer::Adts(AdtsWriter::new(tracks.audio.as_ref()?).ok()?)),
            Kind::Hybrid { .. } => (
                mp4::head_of(tracks, self.moov_reserve_bytes(settings), Some(first_frame)),
                Writer::Mp4(Box::new(Mp4Writer::new(tracks, epoch_zero_ms).with_clock(clock, settings.trust_encoder_clock))),
            ),
            Kind::TransportStream(_) => (Vec::new(), Writer::Ts(Box::new(TsWriter::new(tracks, epoch_zero_ms).ok()?))),
        })
    }

    /// A frame is not recorded, nor what follows until a key frame.
    fn skip<P>(&mut self, reason: DropReason, context: &mut Context<'_, P>) {
        self.next += 1;
        self.need_key = true;
        self.skipping = Some(reason);
        self.lose(reason, context);
    }

    fn lose<P>(&mut self, reason: DropReason, context: &mut Context<'_, P>) {
        self.lost[reason as usize] += 1;
        context.lost[reason as usize] += 1;
    }

    /// The smallest DTS of the tracks' first frames from `next` on. `None`: a track's first frame is still to come.
    fn file_zero_ms(&self, tracks: &Tracks, epoch: u32, context: &Context<'_, impl Pinned>) -> Option<i64> {
        let (mut video, mut audio, mut span_ms) = (None, None, 0);
        let first_dts_ms = context.cache.head(self.next).dts_ms;
        let mut ended = context.closing;
        for sequence in self.next..context.limit {
            let frame = context.cache.head(sequence);
            if frame.epoch != epoch {
                ended = true;
                break;
            }
            span_ms = frame.dts_ms - first_dts_ms;
            match frame.track {
                TrackKind::Video if video.is_none() => video = Some(frame.dts_ms),
                TrackKind::Audio if audio.is_none() => audio = Some(frame.dts_ms),
                _ => continue,
            }
            if video.is_some() == tracks.video.is_some() && audio.is_some() == tracks.audio.is_some() {
                ended = true;
                break;
            }
        }
        if !ended && span_ms < FIRST_FRAMES_WAIT_MS {
            return None;
        }
        let video = video.filter(|_| tracks.video.is_some());
        let audio = audio.filter(|_| tracks.audio.is_some());
        Some(video.into_iter().chain(audio).min().unwrap_or(first_dts_ms))
    }

    /// Sees to it that there is an HLS recording if one is wanted: the one in which the publication before was interrupted, or a new one. False: the
    /// publication before is just ending.
    fn begin_hls<S: Store<File = F>>(&mut self, frame: &FrameHead, context: &mut Context<'_, S::Pin>, store: &mut S) -> bool {
        if self.hls.is_some() || self.kind.hls().is_none() {
            return true;
        }
        let (mut part, mut session, mut continued, mut receipt) = (0, self.session, None, Box::default());
        let claim = (self.resume_wait_s > 0).then(|| ResumeClaim {
            key: context.publication.key.clone(),
            source: self.source.clone(),
            publication: context.publication.id,
            transport_stream: matches!(self.kind, Kind::TransportStream(_)),
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
            receipt,
            resumable: claim.map(|claim| (claim, ResumeTerms { wait_s: self.resume_wait_s, session })),
        });
        true
    }

    fn change(&self, format: Format, session: RecordSessionId, state: RecordState) -> RecordChange {
        RecordChange { source: self.source.clone(), session, format, state }
    }

    /// False: the storage has no room now, nothing has happened.
    fn open_file<S: Store<File = F>>(
        &mut self,
        frame: &FrameHead,
        tracks: &Tracks,
        (head, writer, first_frame): (Vec<u8>, Writer, WallTime),
        context: &mut Context<'_, S::Pin>,
        store: &mut S,
    ) -> bool {
        let epoch = frame.epoch;
        let start = context.wall_at(frame.dts_ms);
        let extension = self.kind.extension();
        let mut begin = Vec::new();
        let mut small_files = Vec::new();
        let mut recording = None;
        let mut link = None;
        match &self.kind {
            Kind::Single(format, param) => {
                let file_id = store.next_file_id();
                begin.push(self.identity(file_id, *format, param, (start, first_frame), context));
                recording = Some(file_id);
            }
            Kind::Hybrid { mp4: Some(param), .. } => {
                let file_id = store.next_file_id();
                begin.push(self.identity(file_id, Format::Mp4, param, (start, first_frame), context));
                recording = Some(file_id);
            }
            Kind::Hybrid { mp4: None, .. } | Kind::TransportStream(_) => {}
        }
        let mut hls_text = String::new();
        let mut new_epoch = false;
        if let Some(recording_hls) = &self.hls {
            if recording_hls.part == 0
                && let Some(param) = self.kind.hls()
            {
                let resume = recording_hls.resumable.as_ref().map(|(_, terms)| *terms);
                begin.push(RecordingIdentity { resume, ..self.identity(recording_hls.file_id, Format::Hls, param, (start, first_frame), context) });
                let container = if extension == "ts" { SegmentContainer::Ts } else { SegmentContainer::Fmp4 };
                // A publication that goes on with it may bring pictures.
                let independent = tracks.video.is_none() && resume.is_none();
                hls_text = hls::header(container, context.settings.hls_segment_ms, independent);
            }
            let part = recording_hls.part + 1;
            new_epoch = recording_hls.epoch != Some(epoch);
            if new_epoch {
                let map = (extension != "ts").then(|| format!("init-{part}.m4s"));
                hls::push_part(&mut hls_text, map.as_deref(), part > 1);
                if let Some(name) = map {
                    small_files.push(SmallFile { folder: recording_hls.file_id, name, bytes: mp4::init_segment(tracks) });
                }
            }
            if part > 1 {
                small_files.push(hls::part_start_file(recording_hls.file_id, part, first_frame));
            }
            link = Some(MediaPath { folder: recording_hls.file_id, part, extension: if extension == "ts" { "ts" } else { "m4s" } });
        }
        // The media file lies in the folder of the recording that is this one file, and is linked into the HLS recording's; or it lies in the latter.
        let (media, link) = match (recording, link) {
            (Some(folder), link) => (MediaPath { folder, part: 1, extension }, link),
            (None, Some(own)) => (own, None),
            (None, None) => unreachable!("every kind has a recording"),
        };
        let opened = store.open(OpenMedia { media, link, writer: self.number(), begin, small_files, head });
        let Some(file) = opened else { return false };
        if let Some(recording_hls) = &mut self.hls {
            recording_hls.part += 1;
            // The media before it do not say how long an interruption or a jump was.
            (recording_hls.start, recording_hls.listed_ms) = (first_frame, 0);
            if new_epoch {
                recording_hls.epoch = Some(epoch);
            }
        }
        let [continues, hls_continues] = std::mem::take(&mut self.before);
        if let Some(recording_hls) = &mut self.hls
            && hls_continues.is_some()
        {
            recording_hls.receipt.continues = hls_continues;
        }
        if let (false, Some(recording_hls)) = (hls_text.is_empty(), &self.hls) {
            store.append_text(recording_hls.file_id, LIVE_PLAYLIST_NAME, hls_text);
        }
        context.files_begun += 1;
        if let (Some(ring), Some(hls)) = (&mut self.ring, &self.hls) {
            ring.events.push(RingEvent::Opened { file_id: hls.file_id, epoch, first_dts_ms: frame.dts_ms, wall: start });
        }
        if self.begun != Begun::Told {
            self.begun = Begun::Told;
            let begun = self.formats().filter(|format| *format != Format::Hls || !self.resumed);
            context.changes.extend(begun.map(|format| self.change(format, self.session, RecordState::StartSucceeded)));
        }
        self.state = State::Writing(Box::new(OpenFile {
            file,
            chain: None,
            writer,
            epoch,
            recording,
            has_video: tracks.video.is_some(),
            has_audio: tracks.audio.is_some(),
            further: tracks.further.iter().map(|track| (track.kind(), track.number)).collect(),
            first_dts_ms: frame.dts_ms,
            last_dts_ms: frame.dts_ms,
            ts_start: None,
            ts_timed: false,
            opened: context.now.mono,
            video: TrackReceipt::default(),
            audio: TrackReceipt::default(),
            continues,
        }));
        true
    }

    fn moov_reserve_bytes(&self, settings: &RecorderSettings) -> usize {
        match settings.moov_reserve {
            MoovReserve::Insert if self.ring.is_none() => MOOV_RESERVE_BYTES,
            // The ring's files are short, and many end.
            _ => {
                let seconds = self.interval_ms.map_or(HLS_RESERVE_S, |interval_ms| interval_ms as u64 / 1_000);
                (seconds as usize).saturating_mul(MOOV_BYTES_PER_SECOND).clamp(MOOV_RESERVE_BYTES, MOOV_RESERVE_BYTES_MAX)
            }
        }
    }

    fn identity(
        &self,
        file_id: FileId,
        format: Format,
        param: &FormatParam,
        (start, first_frame): (WallTime, WallTime),
        context: &Context<'_, impl Pinned>,
    ) -> RecordingIdentity {
        RecordingIdentity {
            file_id,
            format,
            key: context.publication.key.clone(),
            publication: context.publication.id,
            source: self.source.clone(),
            push_url: context.publication.push_url.clone(),
            stream_param: context.publication.stream_param.clone(),
            start,
            first_frame: Some(first_frame),
            media_start_ms: context.media_start_ms,
            storage_time_s: param.storage_time_s,
            vod_sub_app_id: param.vod_sub_app_id,
            vod_file_name: param.vod_file_name.clone(),
            procedure: param.procedure.clone(),
            storage_mode: param.storage_mode.clone(),
            class_id: param.class_id,
            resume: None,
            session: self.session,
            alias_domain: context.publication.alias_domain.clone(),
        }
    }

    /// Writes one frame into the open file. Room is reserved. False: the container cannot hold this frame.
    fn write<S: Store<File = F>>(&mut self, frame: &Frame<'_>, store: &mut S) -> bool {
        let State::Writing(open) = &mut self.state else { unreachable!("a frame is written to an open file") };
        open.last_dts_ms = frame.dts_ms;
        let mut fits = true;
        match &mut open.writer {
            Writer::Flv(writer) => writer.push(frame, &mut open.file),
            Writer::Adts(writer) => fits = writer.push(frame, &mut open.file).is_ok(),
            Writer::Mp3(writer) => writer.push(frame, &mut open.file),
            Writer::Mp4(writer) => {
                let closed = writer.push(frame, &mut open.file);
                if let (Some(fragment), Some(recording)) = (closed, &mut self.hls)
                    && let Some(segment) = recording.segmenter.push(&fragment)
                {
                    store.flush(&mut open.file);
                    recording.list(&segment, "m4s", store);
                }
            }
            Writer::Ts(writer) => {
                let is_video = frame.track == TrackKind::Video;
                let key = !open.has_video || (is_video && frame.key);
                let recording = self.hls.as_mut().expect("a transport stream belongs to an HLS recording");
                let start_ms = frame.pts_ms();
                if open.ts_start.as_ref().is_none_or(|start| recording.segmenter.is_due(start_ms - start.start_ms, key)) {
                    let position = open.file.position();
                    if let Some(ended) = open.ts_start.replace(TsStart { offset: position, start_ms, key }) {
                        store.flush(&mut open.file);
                        recording.list(&ended.until(position, start_ms).into(), "ts", store);
                    }
                    open.ts_timed = is_video || !open.has_video;
                    writer.start_segment(&mut open.file);
                } else if let Some(start) = open.ts_start.as_mut().filter(|_| is_video && !open.ts_timed) {
                    // A segment is timed by its video, as `scan` does, also when audio came first.
                    (start.start_ms, start.key) = (start_ms, frame.key);
                    open.ts_timed = true;
                }
                fits = writer.push(frame, &mut open.file).is_ok();
            }
        }
        if fits {
            match frame.track {
                TrackKind::Video => open.video.count(frame.dts_ms, frame.media.len()),
                TrackKind::Audio => open.audio.count(frame.dts_ms, frame.media.len()),
            }
        }
        fits
    }

    /// Closes the open file, and with it the recording that is this one file.
    fn close_file<S: Store<File = F>>(&mut self, reason: EndReason, now: Now, store: &mut S) {
        let State::Writing(mut open) = std::mem::replace(&mut self.state, State::Starting) else { return };
        match &mut open.writer {
            Writer::Mp4(writer) => {
                let mut fragment = writer.close_fragment(&mut open.file);
                if writer.finish_bytes() > 0 && store.reserve(&mut open.file, writer.finish_bytes()) {
                    fragment = writer.finish(fragment, &mut open.file);
                }
                if let Some(recording) = &mut self.hls {
                    let segments = [fragment.and_then(|fragment| recording.segmenter.push(&fragment)), recording.segmenter.finish()];
                    store.commit(&mut open.file, self.next);
                    store.flush(&mut open.file);
                    for segment in segments.into_iter().flatten() {
                        recording.list(&segment, "m4s", store);
                    }
                }
            }
            Writer::Ts(_) => {
                if let (Some(ended), Some(recording)) = (open.ts_start.take(), &mut self.hls) {
                    store.flush(&mut open.file);
                    recording.list(&ended.until(open.file.position(), open.last_dts_ms).into(), "ts", store);
                }
            }
            Writer::Flv(_) | Writer::Adts(_) | Writer::Mp3(_) => {}
        }
        let OpenFile { file, writer, recording, video, audio, continues, .. } = *open;
        let plan = match writer {
            Writer::Flv(writer) => writer.finish(file.position()).ok(),
            _ => None,
        };
        store.close(file, plan);
        self.end_file((recording, continues), (video, audio), reason, now, store);
    }

    /// A file is closed: ends the recording that it is.
    fn end_file<S: Store<File = F>>(
        &mut self,
        (recording, continues): (Option<FileId>, Option<Continued>),
        (video, audio): (TrackReceipt, TrackReceipt),
        reason: EndReason,
        now: Now,
        store: &mut S,
    ) {
        let mut receipt = Box::new(receipt(video, audio, &std::mem::take(&mut self.lost)));
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
        total.add(&receipt(TrackReceipt::default(), TrackReceipt::default(), &std::mem::take(&mut self.lost)));
        let is_interruption = matches!(reason, EndReason::PublicationEnded | EndReason::Shutdown);
        match resumable {
            Some((claim, terms)) if is_interruption => {
                let ResumeClaim { key, source, publication, transport_stream } = claim;
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
            let OpenFile { file, recording, video, audio, continues, .. } = *open;
            store.abandon(file);
            self.end_file((recording, continues), (video, audio), reason, now, store);
        }
        self.end(reason, now, store, changes);
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
            if let (Some(fragment), Some(recording)) = (closed, &mut self.hls)
                && let Some(segment) = recording.segmenter.push(&fragment)
            {
                store.flush(&mut open.file);
                recording.list(&segment, "m4s", store);
            }
        }
        store.flush(&mut open.file);
    }

    /// May it want frames of this track?
    fn takes(&self, track: TrackKind) -> bool {
        track == TrackKind::Audio || !self.audio_only
    }

    /// The storage took nothing for too long: skips to `end`, closes the file. Returns the frames lost.
    pub fn give_up<S: Store<File = F>>(&mut self, end: Sequence, cache: &Cache<S::Pin>, now: Now, store: &mut S) -> u64 {
        let lost = (self.next..end).filter(|sequence| self.takes(cache.head(*sequence).track)).count() as u64;
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
    fn leave<S: Store<File = F>>(&mut self, unfit: Unfit, now: Now, store: &mut S) {
        let reason = match unfit {
            Unfit::Full => EndReason::StorageFull,
            Unfit::Failing | Unfit::Stalled => EndReason::StorageFailed,
        };
        // It goes on: no end is told.
        self.end(reason, now, store, &mut Vec::new());
        self.left = Some(unfit);
    }

    fn fail<S: Store<File = F>>(&mut self, reason: DropReason, now: Now, store: &mut S) {
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
fn continued(file_id: FileId, reason: EndReason) -> Option<Continued> {
    let reason = match reason {
        EndReason::StorageFailed => DropReason::StorageFailed,
        EndReason::StorageFull => DropReason::StorageFull,
        _ => return None,
    };
    Some(Continued { file_id, reason: reason.name().to_owned() })
}

fn receipt(video: TrackReceipt, audio: TrackReceipt, lost: &Losses) -> Receipt {
    let track = |track: TrackReceipt| Some(track).filter(|track| track.frames > 0);
    let mut receipt = Receipt { video: track(video), audio: track(audio), ..Receipt::default() };
    for reason in DropReason::ALL {
        receipt.lose(reason.name(), lost[reason as usize]);
    }
    receipt
}

impl HlsRecording {
    /// Lists a complete segment in the live playlist.
    fn list<S: Store>(&mut self, segment: &hls::Segment, extension: &str, store: &mut S) {
        let wall = WallTime::from_unix_micros(self.start.unix_micros() + self.listed_ms as i64 * 1_000);
        self.listed_ms += segment.duration_ms;
        let uri = format!("media-{}.{extension}", self.part);
        let mut lines = String::new();
        hls::push_segment(&mut lines, segment, &uri, Some(wall));
        store.append_text(self.file_id, LIVE_PLAYLIST_NAME, lines);
    }
}
