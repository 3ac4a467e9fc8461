//! Codec parameters as they change, and the epochs that begin with them.

use std::sync::Arc;

use crate::container::Store;
use crate::domain::EndReason;
use crate::media::parameter_sets;
use crate::media::{AudioTrack, Payload, TrackKind, Tracks, VideoTrack};
use crate::units::WallTime;

use super::cache::Sequence;

use super::Recorder;

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

impl<S: Store> Recorder<S> {
    /// Some encoders change the picture without a new sequence header: what stands in front of the key frame counts.
    pub(super) fn take_parameter_sets(&mut self, key_frame: &Payload<'_>) {
        let Some(known) = &self.epoch().tracks.video else { return };
        let Some(track) = parameter_sets::changed_by(known, key_frame) else { return };
        let sent = known.sequence_header.clone();
        self.overruled_header.get_or_insert(sent);
        self.new_video(Arc::new(track));
    }

    pub(super) fn set_video(&mut self, track: Arc<VideoTrack>) {
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

    pub(super) fn new_video(&mut self, track: Arc<VideoTrack>) {
        self.new_parameters(|tracks| tracks.video = Some(track), TrackKind::Video);
        self.wait_for_key = true;
    }

    pub(super) fn set_audio(&mut self, track: Arc<AudioTrack>) {
        let same =
            |known: &Arc<AudioTrack>| (known.codec, &known.config, &known.sequence_header) == (track.codec, &track.config, &track.sequence_header);
        if !self.epoch().tracks.audio.as_ref().is_some_and(same) {
            self.new_parameters(|tracks| tracks.audio = Some(track), TrackKind::Audio);
            self.epoch_mut().audio_begins = self.cache.end();
        }
    }

    /// Codec parameters that were not known: a track that only now appears completes an epoch of which no file has begun; else an epoch ends.
    pub(super) fn new_parameters(&mut self, change: impl FnOnce(&mut Tracks), kind: TrackKind) {
        let before = self.epoch().tracks.codec_name(kind);
        self.take_parameters(change, kind);
        if let (Some(before), Some(after)) = (before, self.epoch().tracks.codec_name(kind))
            && before != after
        {
            self.watch.codec_changed(kind, before, after);
        }
    }

    pub(super) fn take_parameters(&mut self, change: impl FnOnce(&mut Tracks), kind: TrackKind) {
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
        // Also sound that comes late, in the middle of a GOP, begins new files at once. Kept until the next key frame, its frames would have to be in a file of
        // their own or in memory that does not outlive a kill; begun with the key frame before, files would hold frames twice.
        let mut tracks = self.epoch().tracks.clone();
        change(&mut tracks);
        self.new_epoch(tracks, EndReason::ParametersChanged);
    }

    /// It has no frame, neither in a file nor in memory.
    pub(super) fn epoch_is_empty(&self) -> bool {
        self.epoch().zero_ms.is_none() && self.cache.newest().is_none_or(|newest| newest.epoch != self.epoch().number)
    }

    pub(super) fn new_epoch(&mut self, tracks: Tracks, reason: EndReason) {
        let number = self.epoch().number + 1;
        self.note_is_old = true;
        let Epoch { audio_begins, clock, .. } = *self.epoch();
        // Behind a jump the timestamps say something else.
        let clock = clock.filter(|_| reason != EndReason::TimestampJump);
        self.epochs.push_back(Epoch { number, tracks, reason, zero_ms: None, audio_begins, clock });
    }
}
