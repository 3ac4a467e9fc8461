//! A running publication: its recorder, its tasks, and what is told of it.

use std::sync::Arc;

use crate::domain::event::{LiveEvent, LiveEventKind, Publisher};
use crate::domain::live::{LiveAudio, LiveFigures, LiveVideo};
use crate::domain::task::TaskScheduler;
use crate::domain::{EndReason, Policy, RecordTask, RecordTemplate, RecordingSource};
use crate::limits::AMF_MESSAGE_BYTES_MAX;
use crate::media::{Payload, Tracks, label};
use crate::metrics::{self, CoreMetrics, Track};
use crate::recorder::{DropReason, Now, RecordChange, Recorder, Totals};
use crate::rtmp::amf;
use crate::segment::CoreStore;
use crate::units::{MonoTime, PublicationId, WallTime};

use super::Shared;
use super::connection::Service;
use super::publish::PublishName;

/// How often the figures of a publication that others see are brought up to date.
const SHOW_MS: u64 = 1_000;

/// A running publication of this connection.
pub struct Publishing {
    pub id: PublicationId,
    pub name: PublishName,
    pub publisher: Arc<Publisher>,
    pub recorder: Recorder<CoreStore>,
    /// A call of the recorder has not come back: if nothing runs, a defect has ended it.
    pub in_recorder: bool,
    pub tasks: TaskScheduler,
    pub policy_version: u64,
    pub next_task_check: Option<WallTime>,
    pub since: Now,
    /// The push address asks for the sound alone (`record_type=audio`).
    pub audio_only: bool,
    /// Chunk size of the publisher when it was last looked at.
    pub chunk_bytes: u32,
    /// Totals already counted in the metrics.
    pub reported: Totals,
    /// As they stand in the log.
    pub told_tracks: Tracks,
    /// What others see of it, and when and with how many bytes that was brought up to date.
    pub figures: Arc<LiveFigures>,
    pub shown: (MonoTime, u64),
}

impl Publishing {
    pub fn tell(&self, kind: LiveEventKind, service: &Service<'_>) {
        service.shared.events.send(LiveEvent { publisher: Arc::clone(&self.publisher), time: service.now.wall, kind });
    }

    pub fn start_rule(&mut self, policy: &Policy, service: &mut Service<'_>) {
        let template = policy.rule_for(&self.name.key);
        if let Some(ring) = template.as_ref().and_then(|template| self.as_asked(Arc::clone(template)).ring()) {
            self.recorder.keep_ring(&ring, service.now, service.store);
        }
        if let Some(template) = template.filter(|template| template.enabled().next().is_some()) {
            let template = self.as_asked(template);
            self.recorder.start(RecordingSource::Rule(template.id), &template, service.now, service.store);
        }
    }

    /// A template with what the push address asks for.
    fn as_asked(&self, template: Arc<RecordTemplate>) -> Arc<RecordTemplate> {
        if !self.audio_only || template.audio_only {
            return template;
        }
        Arc::new(RecordTemplate { audio_only: true, ..RecordTemplate::clone(&template) })
    }

    /// Begins and ends what the tasks of this moment say.
    pub fn schedule_tasks(&mut self, policy: &Policy, service: &mut Service<'_>) {
        let mut tasks: Vec<Arc<RecordTask>> = policy.tasks_for(&self.name.key).to_vec();
        if let Some(alias) = &self.name.alias {
            tasks.extend_from_slice(policy.tasks_for(alias));
        }
        tasks.extend_from_slice(policy.tasks_for_any_domain(&self.name.key));
        let change = self.tasks.poll(&tasks, service.now.wall);
        for task in change.stop {
            self.recorder.stop(&task.source(), EndReason::TaskEnded, service.now, service.store);
        }
        for task in change.start {
            let template = self.as_asked(policy.task_template(&task));
            self.recorder.start_since(task.source(), &template, task.start, service.now, service.store);
        }
        self.next_task_check = self.tasks.next_wakeup(&tasks, service.now.wall);
    }

    /// Brings the metrics up to what the recorder has counted, and tells what it has noticed.
    pub fn report(&mut self, metrics: &CoreMetrics, shared: &Shared, now: Now) {
        let totals = self.recorder.totals();
        let before = std::mem::replace(&mut self.reported, totals);
        metrics.frames(Track::Video, totals.video_frames - before.video_frames);
        metrics.frames(Track::Audio, totals.audio_frames - before.audio_frames);
        metrics.media_bytes(totals.media_bytes - before.media_bytes);
        metrics.frames_late(totals.late_frames - before.late_frames);
        for reason in DropReason::ALL {
            metrics.frames_dropped(drop_label(reason), totals.dropped[reason as usize] - before.dropped[reason as usize]);
        }
        for RecordChange { session, source, format, state } in self.recorder.take_changes() {
            let kind = LiveEventKind::RecordState { session, source, format, state };
            shared.events.send(LiveEvent { publisher: Arc::clone(&self.publisher), time: now.wall, kind });
        }
        for kind in self.recorder.take_events() {
            shared.events.send(LiveEvent { publisher: Arc::clone(&self.publisher), time: now.wall, kind });
        }
        for codec in self.recorder.take_unsupported() {
            metrics.unsupported_codec(codec);
            tracing::warn!(stream = %self.name.key, codec, "this codec is not recorded; the other tracks are");
        }
        if *self.recorder.tracks() != self.told_tracks {
            self.told_tracks = self.recorder.tracks().clone();
            let Tracks { video, audio, .. } = &self.told_tracks;
            let video = video.as_ref().map(|video| format!("{} {}x{}", video.codecs(), video.width, video.height)).unwrap_or_default();
            let audio =
                audio.as_ref().map(|audio| format!("{} {} Hz {} ch", audio.codecs(), audio.sample_rate_hz, audio.channels)).unwrap_or_default();
            tracing::info!(stream = %self.name.key, video, audio, "tracks");
        }
        for (container, codec) in self.recorder.take_left_out() {
            metrics.unsupported_codec(codec);
            tracing::warn!(stream = %self.name.key, container, codec, "this container has no place for the codec: the track is left out of it, the others are recorded");
        }
    }

    /// Brings up to date what others see of the publication, once in [`SHOW_MS`].
    pub fn show(&mut self, now: MonoTime) {
        let (since, before) = self.shown;
        let passed_ms = now.millis_since(since);
        if passed_ms < SHOW_MS {
            return;
        }
        let (totals, figures) = (self.recorder.totals(), &self.figures);
        self.shown = (now, totals.media_bytes);
        LiveFigures::store(&figures.media_bytes, totals.media_bytes);
        LiveFigures::store(&figures.bits_per_second, (totals.media_bytes - before) * 8_000 / passed_ms);
        LiveFigures::store(&figures.video_frames, totals.video_frames);
        LiveFigures::store(&figures.audio_frames, totals.audio_frames);
        LiveFigures::store(&figures.dropped_frames, totals.dropped.iter().sum());
        LiveFigures::store(&figures.late_frames, totals.late_frames);
        let recorder = &self.recorder;
        figures.try_update(|parts| {
            let tracks = recorder.tracks();
            parts.video = tracks.video.as_ref().map(|video| LiveVideo { codec: video.codec.name(), width: video.width, height: video.height });
            let audio = tracks.audio.as_ref();
            parts.audio = audio.map(|audio| LiveAudio { codec: audio.codec.name(), sample_rate_hz: audio.sample_rate_hz, channels: audio.channels });
            let known = parts.recordings.iter().map(|(source, format)| (source, *format));
            if !recorder.recordings().eq(known) {
                parts.recordings = recorder.recordings().map(|(source, format)| (source.clone(), format)).collect();
            }
        });
    }
}

/// A publication that is over, with frames that the storage has not taken yet.
pub struct Ending(pub Box<Publishing>);

impl Ending {
    /// Lets it go on. True: everything is stored, or counted as lost.
    pub fn tick(&mut self, now: Now, store: &mut CoreStore, metrics: &CoreMetrics, shared: &Shared) -> bool {
        self.0.recorder.tick(now, store);
        self.0.report(metrics, shared, now);
        self.0.recorder.is_finished()
    }

    /// Ends it after a defect.
    pub fn abandon(&mut self, now: Now, store: &mut CoreStore) {
        self.0.recorder.abandon(EndReason::PublicationEnded, now, store);
    }
}

/// onMetaData says which tracks will come: a file need not wait for one that does not. False: it is another message.
pub fn announce_tracks(recorder: &mut Recorder<CoreStore>, payload: &Payload<'_>) -> bool {
    let mut name = [0; ON_METADATA.len()];
    if payload.peek(&mut name) < name.len() || name != ON_METADATA {
        return false;
    }
    // Metadata that is too long or cannot be read announces nothing; the stream itself is what counts.
    let values = Some(payload).filter(|payload| payload.len() <= AMF_MESSAGE_BYTES_MAX).and_then(|payload| amf::decode_all(&payload.to_vec()).ok());
    if let Some(metadata) = values.as_ref().and_then(|values| values.get(1)) {
        let has = |names: [&str; 2]| names.iter().any(|name| metadata.get(name).is_some());
        let (video, audio) = (has(["videocodecid", "width"]), has(["audiocodecid", "audiosamplerate"]));
        if video || audio {
            recorder.announce(video, audio);
        }
        let labels = label::labels(metadata);
        if !labels.is_empty() {
            recorder.label(labels);
        }
    }
    true
}

/// A name and values, as players expect them in FLV.
pub fn is_data(payload: &Payload<'_>) -> bool {
    payload.len() <= AMF_MESSAGE_BYTES_MAX
        && amf::decode_all(&payload.to_vec()).is_ok_and(|values| values.first().is_some_and(|name| name.as_str().is_some()))
}

/// How an onMetaData message begins.
const ON_METADATA: [u8; 13] = *b"\x02\x00\x0aonMetaData";

fn drop_label(reason: DropReason) -> metrics::DropReason {
    match reason {
        DropReason::BeforeKeyFrame => metrics::DropReason::BeforeKeyFrame,
        DropReason::BeforeSequenceHeader => metrics::DropReason::NoConfiguration,
        DropReason::UnsupportedCodec => metrics::DropReason::Unsupported,
        DropReason::StorageBusy => metrics::DropReason::NoBlock,
        DropReason::Unfit => metrics::DropReason::Malformed,
        DropReason::StorageFull => metrics::DropReason::DiskFull,
        DropReason::StorageFailed => metrics::DropReason::Storage,
    }
}
