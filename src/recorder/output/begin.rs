//! How an output begins a file: with which tracks, at which frame, where.

use crate::container::es::{AdtsWriter, Mp3Writer};
use crate::container::flv::{self, FlvWriter};
use crate::container::hls::{self, LIVE_PLAYLIST_NAME, SegmentContainer};
use crate::container::mp4::{self, Mp4Writer};
use crate::container::mpegts::TsWriter;
use crate::container::mpegts::seal::Sealer;
use crate::container::{MediaPath, OpenMedia, Pinned, Room, Sink, SmallFile, Store};
use crate::domain::event::{RecordExceptionKind, RecordState};
use crate::domain::receipt::{FrameLength, TrackReceipt};
use crate::domain::sealing::Sealing;
use crate::domain::{FormatParam, RecordingIdentity};
use crate::media::{TrackKind, Tracks};
use crate::units::{FileId, Format, WallTime};

use super::super::cache::{FrameHead, Sequence};
use super::super::item::What;
use super::super::{DropReason, MoovReserve, RecorderSettings};

use super::context::Context;
use super::file::{Further, OpenFile, Opener, Writer};
use super::kind::Kind;
use super::{Beginning, Begun, Output, RingEvent, State};

/// The other tracks' first frames are waited for this long (media time), so that the file's zero is the smallest of them.
const FIRST_FRAMES_WAIT_MS: i64 = 500;
/// Head room for the final `moov` where the file system can insert more: the first half minute needs no insertion.
const MOOV_RESERVE_BYTES: usize = 32 << 10;
/// `moov` bytes for one second of two tracks with irregular timestamps (60 fps and 50 audio frames a second), where nothing can be inserted.
const MOOV_BYTES_PER_SECOND: usize = 2_000;
const MOOV_RESERVE_BYTES_MAX: usize = 8 << 20;
/// HLS recordings have no interval; their MP4 part is sized like one of this length.
const HLS_RESERVE_S: u64 = 1_800;

impl<F: Sink> Output<F> {
    /// Tries to open the file that begins with the next frame.
    pub(super) fn begin<S: Store<File = F>>(&mut self, context: &mut Context<'_, S::Pin>, store: &mut S) -> Beginning {
        let is_wanted = |what| matches!(what, What::Frame(kind) if self.takes(kind));
        let Some(opener) = (self.next..context.limit).find(|sequence| is_wanted(context.cache.head(*sequence).what)) else {
            if !context.closing && self.kind.holds_messages() {
                return Beginning::Waits;
            }
            let reason = context.closing.then_some(DropReason::BeforeKeyFrame);
            self.pass(context.limit, reason, context);
            return Beginning::Changed;
        };
        let frame = *context.cache.head(opener);
        // What stands in front of it is in the file that begins with it, but for what belongs to parameters that are no longer.
        let is_of_file = |sequence: &Sequence| self.kind.holds_messages() && context.cache.head(*sequence).epoch == frame.epoch;
        let begin = (self.next..opener).find(is_of_file).unwrap_or(opener);
        self.pass(begin, Some(DropReason::BeforeKeyFrame), context);
        if let Some(retry_at) = self.retry_at {
            if context.now.mono < retry_at && !context.closing {
                self.skip(opener, DropReason::StorageFailed, context);
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
                self.skip(opener, DropReason::StorageFull, context);
                return Beginning::Changed;
            }
            Room::Stalled => {
                self.skip(opener, DropReason::StorageBusy, context);
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
        let audio = all.audio.as_ref().filter(|_| tracks.audio.is_none()).map(|audio| self.kind.lacking(audio));
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
        if opener > context.epoch(epoch).audio_begins
            && let Some(audio) = tracks.audio.as_mut().filter(|audio| audio.pre_skip > 0)
        {
            // The encoder's priming lies in a file before this one.
            std::sync::Arc::make_mut(audio).pre_skip = 0;
        }
        if tracks.is_empty() {
            self.cannot_begin("none of the tracks can be recorded in this format", context.changes, context.troubles);
            self.next = opener + 1;
            return Beginning::Changed;
        }
        if self.need_key && tracks.video.is_some() && !(frame.what == What::Frame(TrackKind::Video) && frame.key) {
            self.pass(opener, self.skipping, context);
            if let Some(reason) = self.skipping {
                self.lose(reason, context);
            }
            self.next = opener + 1;
            return Beginning::Changed;
        }
        let Some(zero_ms) = self.file_zero_ms(&tracks, opener, context) else { return Beginning::Waits };
        let now = context.now.wall;
        let epoch_zero_ms = *context.epoch(epoch).zero_ms.get_or_insert(zero_ms);
        let zero_ms = if self.kind.counts_from_zero() { self.further_zero_ms(zero_ms, epoch, context) } else { zero_ms };
        let epoch = context.epoch(epoch);
        let times = (epoch.wall(zero_ms).unwrap_or(now), epoch.wall(epoch_zero_ms));
        match self.writer(&tracks, (zero_ms, epoch_zero_ms), times, context.settings) {
            Some((head, writer)) => {
                if !self.begin_hls(&frame, context, store) {
                    return Beginning::Waits;
                }
                // The one that it goes on with may lie on a disk that takes no more.
                if let Some(Room::Elsewhere(unfit)) = self.hls.as_ref().map(|hls| store.room_beside(hls.file_id)) {
                    self.leave(unfit, context.now, store);
                    return Beginning::Changed;
                }
                if !self.open_file(&frame, &tracks, (head, writer, times.0), context, store) {
                    return Beginning::Blocked;
                }
                self.need_key = false;
                self.skipping = None;
            }
            None => {
                self.cannot_begin("the format cannot hold what the track is made of", context.changes, context.troubles);
                self.next = opener + 1;
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
            // Without its key it is not written at all.
            Kind::TransportStream(_, Some(terms)) if Sealing::of(FileId::new(FileId::MIN)?, 1, *terms).is_none() => return None,
            Kind::TransportStream(..) => (Vec::new(), Writer::Ts(Box::new(TsWriter::new(tracks, epoch_zero_ms).ok()?))),
        })
    }

    /// Passes what stands between the frames up to item `to`; it is lost for `reason`, if anybody has asked for it.
    fn pass(&mut self, to: Sequence, reason: Option<DropReason>, context: &mut Context<'_, impl Pinned>) {
        if let Some(reason) = reason.filter(|_| self.kind.holds_messages()) {
            let lost = (self.next..to).filter(|sequence| !context.cache.head(*sequence).what.is_frame()).count();
            (0..lost).for_each(|_| self.lose(reason, context));
        }
        self.next = to;
    }

    /// A frame is not recorded, nor what follows until a key frame.
    pub(super) fn skip(&mut self, opener: Sequence, reason: DropReason, context: &mut Context<'_, impl Pinned>) {
        self.pass(opener, Some(reason), context);
        self.next = opener + 1;
        self.need_key = true;
        self.skipping = Some(reason);
        self.lose(reason, context);
    }

    pub(super) fn lose<P>(&mut self, reason: DropReason, context: &mut Context<'_, P>) {
        self.lost[reason as usize] += 1;
        context.lost[reason as usize] += 1;
    }

    /// The smallest DTS of the tracks' first frames from frame `opener` on. `None`: a track's first frame is still to come.
    fn file_zero_ms(&self, tracks: &Tracks, opener: Sequence, context: &Context<'_, impl Pinned>) -> Option<i64> {
        let (mut video, mut audio, mut span_ms) = (None, None, 0);
        let FrameHead { dts_ms: first_dts_ms, epoch, .. } = *context.cache.head(opener);
        // Of further tracks of a kind as many frames as there are tracks: they take turns.
        let count = |kind| tracks.further.iter().filter(|track| track.kind() == kind && self.kind.counts_from_zero()).count();
        let mut further = [count(TrackKind::Video), count(TrackKind::Audio)];
        let mut ended = context.closing;
        for sequence in self.next..context.limit {
            let frame = context.cache.head(sequence);
            if frame.epoch != epoch {
                ended = true;
                break;
            }
            match frame.what {
                What::Frame(kind) if sequence >= opener => {
                    span_ms = frame.dts_ms - first_dts_ms;
                    let first = if kind == TrackKind::Video { &mut video } else { &mut audio };
                    first.get_or_insert(frame.dts_ms);
                }
                What::Further(kind) => {
                    let left = &mut further[usize::from(kind == TrackKind::Audio)];
                    *left = left.saturating_sub(1);
                }
                What::Frame(_) | What::Data => {}
            }
            if video.is_some() == tracks.video.is_some() && audio.is_some() == tracks.audio.is_some() && further == [0, 0] {
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

    /// `zero_ms`, or the time of the first frame of a further track that the file gets, if that is a little earlier: there are no times below 0, and all tracks
    /// keep their differences.
    fn further_zero_ms(&self, zero_ms: i64, epoch: u32, context: &Context<'_, impl Pinned>) -> i64 {
        let heads = (self.next..context.limit).map(|sequence| context.cache.head(sequence)).take_while(|head| head.epoch == epoch);
        let further = heads.filter(|head| matches!(head.what, What::Further(_))).map(|head| head.dts_ms);
        further.filter(|dts_ms| zero_ms.saturating_sub(*dts_ms) < FIRST_FRAMES_WAIT_MS).fold(zero_ms, i64::min)
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
            Kind::Hybrid { mp4: None, .. } | Kind::TransportStream(..) => {}
        }
        let mut hls_text = String::new();
        let mut new_epoch = false;
        if let Some(recording_hls) = &self.hls {
            if recording_hls.part == 0
                && let Some(param) = self.kind.hls()
            {
                let resume = recording_hls.resumable.as_ref().map(|(_, terms)| *terms);
                let encryption = self.kind.encryption();
                let identity = self.identity(recording_hls.file_id, Format::Hls, param, (start, first_frame), context);
                begin.push(RecordingIdentity { resume, encryption, ..identity });
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
        let sealing = self.kind.encryption().and_then(|terms| Sealing::of(media.folder, media.part, terms));
        let sealer = sealing.map(|sealing| Box::new(Sealer::new(sealing)));
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
            further: tracks
                .further
                .iter()
                .map(|track| Further { kind: track.kind(), number: track.number, receipt: TrackReceipt::default() })
                .collect(),
            data_messages: 0,
            first_dts_ms: frame.dts_ms,
            last_dts_ms: frame.dts_ms,
            sealer,
            ts_start: None,
            ts_timed: false,
            opener: Opener { pts_ms: frame.pts_ms(), is_video: frame.what == What::Frame(TrackKind::Video), key: frame.key },
            opened: context.now.mono,
            video: TrackReceipt::default(),
            audio: TrackReceipt::default(),
            audio_frame: tracks
                .audio
                .as_ref()
                .filter(|audio| audio.codec.has_fixed_frames())
                .map(|audio| FrameLength { samples: audio.samples_per_frame, rate_hz: audio.sample_rate_hz }),
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
            encryption: None,
        }
    }
}
