//! Messages as they come in: what they are, and whether they can be recorded.

use std::sync::Arc;

use crate::codec::nal::{begins_with_start_code, is_annexb, with_lengths};
use crate::container::Store;
use crate::media::flv_tag::{self, AudioUnit, FramePart, TagError, VideoUnit};
use crate::media::label::TrackLabel;
use crate::media::note;
use crate::media::{AudioCodec, AudioTrack, Payload, TrackKind, VideoCodec, VideoTrack};

use super::cache::FrameHead;
use super::item::Between;
use super::telling::missing;
use super::totals::DropReason;
use super::{Now, Recorder};

impl<S: Store> Recorder<S> {
    /// What the publisher says of its tracks before it sends them (`onMetaData`).
    pub fn announce(&mut self, video: bool, audio: bool) {
        self.announced = Some((video, audio));
    }

    /// What the publisher says of its tracks' languages and names: files that begin from here on tell it.
    pub fn label(&mut self, labels: Arc<[TrackLabel]>) {
        self.epoch_mut().tracks.labels = labels;
        self.note_is_old = true;
    }

    /// One video message.
    ///
    /// # Errors
    /// If it is no FLV video tag body.
    pub fn video(&mut self, timestamp_ms: u32, payload: Payload<'_>, now: Now, store: &mut S) -> Result<(), TagError> {
        self.watch.message(now);
        let unit = flv_tag::parse_video(payload).or_else(|error| unreadable(error).map(|codec| VideoUnit::Unsupported { codec }))?;
        let VideoUnit::Many(packets) = unit else {
            if matches!(unit, VideoUnit::Config(_) | VideoUnit::Frame(..)) {
                self.first_track_comes(TrackKind::Video);
            }
            self.video_unit(unit, timestamp_ms, now, store);
            return Ok(());
        };
        for packet in packets {
            let packet = packet?;
            if packet.track_id == Some(0) {
                let unit = flv_tag::video_packet(packet).or_else(|error| unreadable(error).map(|codec| VideoUnit::Unsupported { codec }))?;
                self.first_track_comes(TrackKind::Video);
                self.video_unit(unit, timestamp_ms, now, store);
            } else {
                self.other_track(TrackKind::Video, packet, timestamp_ms, now, store);
            }
        }
        Ok(())
    }

    #[inline]
    pub(super) fn video_unit(&mut self, unit: VideoUnit<'_>, timestamp_ms: u32, now: Now, store: &mut S) {
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
                        let mut head = [0xff; 4];
                        part.media.peek(&mut head);
                        self.annexb = begins_with_start_code(&head) && is_annexb(&part.media.to_vec());
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
    pub(super) fn describe_video(&mut self, codec: VideoCodec, part: &FramePart<'_>) {
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
        self.between_frames(None, timestamp_ms, &payload.to_vec(), now, store);
    }

    /// Takes what stands between the frames: a tag of a further track, or, without `track`, a data message.
    pub(super) fn between_frames(&mut self, track: Option<TrackKind>, timestamp_ms: u32, body: &[u8], now: Now, store: &mut S) {
        let between = Between { track, time_ms: self.clocks.other_ms(timestamp_ms), body };
        if !self.cache.has_room_between(body.len()) {
            let needed = self.needed();
            self.cache.trim(needed, true);
            if !self.cache.has_room_between(body.len()) {
                self.totals.drop_frames(DropReason::StorageBusy, 1);
                return self.pump(now, store);
            }
        }
        let sequence = self.cache.end();
        let epoch = self.epoch_mut();
        if epoch.audio_begins == sequence {
            // No frame has come since.
            epoch.audio_begins += 1;
        }
        let head = FrameHead::of_between(&between, epoch.number);
        let is_wanted = !self.sessions.is_empty();
        let Some(place) = self.log_item(&head, &Payload::contiguous(body), is_wanted, store) else { return };
        self.cache.push(&head, body.len(), place);
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
            if matches!(unit, AudioUnit::Config(_) | AudioUnit::Frame(..)) {
                self.first_track_comes(TrackKind::Audio);
            }
            self.audio_unit(unit, timestamp_ms, now, store);
            return Ok(());
        };
        for packet in packets {
            let packet = packet?;
            if packet.track_id == Some(0) {
                let unit = flv_tag::audio_packet(packet).or_else(|error| unreadable(error).map(|codec| AudioUnit::Unsupported { codec }))?;
                self.first_track_comes(TrackKind::Audio);
                self.audio_unit(unit, timestamp_ms, now, store);
            } else {
                self.other_track(TrackKind::Audio, packet, timestamp_ms, now, store);
            }
        }
        Ok(())
    }

    #[inline]
    pub(super) fn audio_unit(&mut self, unit: AudioUnit<'_>, timestamp_ms: u32, now: Now, store: &mut S) {
        match unit {
            AudioUnit::Config(track) => self.set_audio(track),
            AudioUnit::Frame(codec, mut part) => {
                if codec == AudioCodec::Aac
                    && let Some((unit, track)) = flv_tag::without_adts(part.tag_header.as_slice(), &part.media)
                {
                    part.media = unit;
                    if self.epoch().tracks.audio.as_ref().is_none_or(|known| known.codec != codec) {
                        self.set_audio(Arc::new(track));
                    }
                }
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

    pub(super) fn unsupported(&mut self, track: TrackKind, codec: &'static str) {
        self.totals.drop_frames(DropReason::UnsupportedCodec, 1);
        if !self.unsupported.contains(&codec) {
            self.unsupported.push(codec);
            self.watch.exception(missing(track), || format!("{codec} is not recorded"));
        }
    }
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
