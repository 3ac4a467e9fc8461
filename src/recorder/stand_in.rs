//! Publishers whose tracks all have numbers other than 0 (Enhanced RTMP only recommends it for the first): of each kind the first one that sends frames
//! stands in for the track 0 that there is not, so that every container and reader has a first track.

use std::sync::Arc;

use super::Recorder;
use crate::container::Store;
use crate::media::enhanced::{self, Enhanced, Packet, Tag};
use crate::media::flv_tag;
use crate::media::{AudioTrack, FurtherDescription, FurtherTrack, Payload, TrackKind, VideoTrack};

use super::Now;

/// The number of the track that stands in for the first of its kind; `None`: the first one is there, or none has sent frames yet.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct StandIns {
    video: Option<u8>,
    audio: Option<u8>,
}

impl StandIns {
    fn of(&mut self, kind: TrackKind) -> &mut Option<u8> {
        match kind {
            TrackKind::Video => &mut self.video,
            TrackKind::Audio => &mut self.audio,
        }
    }
}

impl<S: Store> Recorder<S> {
    /// Takes a packet of a numbered track if that stands in for the first one; false: it is of a further track.
    pub(super) fn take_stand_in(&mut self, kind: TrackKind, packet: &Packet<'_>, timestamp_ms: u32, now: Now, store: &mut S) -> bool {
        if *self.stand_ins.of(kind) != packet.track_id && !self.begins_to_stand_in(kind, packet) {
            return false;
        }
        match kind {
            TrackKind::Video => match flv_tag::video_packet(packet.unnumbered()) {
                Ok(unit) => self.video_unit(unit, timestamp_ms, now, store),
                Err(_) => return false,
            },
            TrackKind::Audio => match flv_tag::audio_packet(packet.unnumbered()) {
                Ok(unit) => self.audio_unit(unit, timestamp_ms, now, store),
                Err(_) => return false,
            },
        }
        true
    }

    /// The first track of a kind comes after all: what stood in for it is a further one from here on.
    pub(super) fn first_track_comes(&mut self, kind: TrackKind) {
        let Some(number) = self.stand_ins.of(kind).take() else { return };
        let tracks = &self.epoch().tracks;
        let description = match kind {
            TrackKind::Video => tracks.video.clone().map(FurtherDescription::Video),
            TrackKind::Audio => tracks.audio.clone().map(FurtherDescription::Audio),
        };
        if let Some(description) = description {
            let further = tracks.further.clone();
            self.pending_further.get_or_insert(further).push(FurtherTrack { number, description });
        }
    }

    /// A frame of a track that is known, and none of a first track: that would have told what it is before any track sends.
    fn begins_to_stand_in(&mut self, kind: TrackKind, packet: &Packet<'_>) -> bool {
        let tracks = &self.epoch().tracks;
        let (Some(number), true) = (packet.track_id, packet.is_coded() && tracks.codec_name(kind).is_none()) else { return false };
        let mut further = self.pending_further.clone().unwrap_or_else(|| tracks.further.clone());
        let known = further.iter().position(|track| (track.number, track.kind()) == (number, kind));
        if let Some(index) = known {
            let track = further.remove(index);
            if self.epoch().zero_ms.is_none() {
                self.epoch_mut().tracks.further = further;
                self.pending_further = None;
            } else {
                self.pending_further = Some(further);
            }
            match track.description {
                FurtherDescription::Video(track) => {
                    let sequence_header = unnumbered(Tag::Video, &track.sequence_header);
                    self.set_video(Arc::new(VideoTrack { sequence_header, ..(*track).clone() }));
                }
                FurtherDescription::Audio(track) => {
                    let sequence_header = unnumbered(Tag::Audio, &track.sequence_header);
                    self.set_audio(Arc::new(AudioTrack { sequence_header, ..(*track).clone() }));
                }
            }
        } else if !packet.describes_itself() {
            return false;
        }
        *self.stand_ins.of(kind) = Some(number);
        true
    }
}

/// A tag without the number of its track.
fn unnumbered(tag: Tag, body: &bytes::Bytes) -> bytes::Bytes {
    match enhanced::parse(tag, Payload::contiguous(body)) {
        Ok(Enhanced::One(packet)) => packet.unnumbered().to_vec().into(),
        _ => body.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MemoryStore, audio_frame, now, recorder, send, source, template, video_frame, video_header};
    use super::*;
    use crate::domain::EndReason;
    use crate::units::Format;

    fn header(number: u8) -> [Vec<u8>; 2] {
        let video = [b"\x96\x00avc1", &[number][..], &video_header(30)[5..]].concat();
        [video, [b"\x95\x00mp4a", &[number][..], &[0x12, 0x10]].concat()]
    }

    /// As `send`, with both tracks numbered.
    fn send_numbered(recorder: &mut Recorder<MemoryStore>, store: &mut MemoryStore, range: std::ops::Range<u32>, number: u8) {
        for count in range {
            let (time, key) = (count * 40, count % 25 == 0);
            let video = [&[if key { 0x96 } else { 0xa6 }, 0x03][..], b"avc1", &[number], &video_frame(key, count)[5..]].concat();
            let audio = [b"\x95\x01mp4a", &[number][..], &audio_frame(count)[2..]].concat();
            recorder.video(time, Payload::contiguous(&video), now(u64::from(time)), store).unwrap();
            recorder.audio(time, Payload::contiguous(&audio), now(u64::from(time)), store).unwrap();
        }
    }

    /// The running numbers of the frames that begin so.
    fn numbers(tags: &[(u8, u32, Vec<u8>)], begins: &[&[u8]]) -> Vec<u32> {
        let those = tags.iter().filter(|(_, _, body)| begins.iter().any(|begin| body.starts_with(begin)));
        those.map(|(_, _, body)| u32::from_be_bytes(*body.last_chunk().unwrap())).collect()
    }

    const VIDEO: &[&[u8]] = &[b"\x93avc1", b"\xa3avc1"];
    const NUMBERED_VIDEO: &[&[u8]] = &[b"\x96\x03avc1\x01", b"\xa6\x03avc1\x01"];

    #[test]
    fn tracks_without_a_number_0_are_recorded() {
        let (mut recorder, mut store) = (recorder(), MemoryStore::new());
        recorder.start(source(), &template(&[Format::Flv], 60), now(0), &mut store);
        for [video, audio] in [header(1), header(2)] {
            recorder.video(0, Payload::contiguous(&video), now(0), &mut store).unwrap();
            recorder.audio(0, Payload::contiguous(&audio), now(0), &mut store).unwrap();
        }
        for count in 0..100 {
            // The first to send is the first.
            send_numbered(&mut recorder, &mut store, count..count + 1, 2);
            send_numbered(&mut recorder, &mut store, count..count + 1, 1);
        }
        recorder.finish(EndReason::PublicationEnded, now(4_000), &mut store);
        assert_eq!((recorder.totals().files, recorder.totals().video_frames, recorder.totals().audio_frames), (1, 200, 200));
        let (tags, all) = (store.flv_tags(0), (0..100).collect::<Vec<u32>>());
        assert_eq!((numbers(&tags, VIDEO), numbers(&tags, &[b"\x91mp4a"])), (all.clone(), all.clone()));
        assert_eq!((numbers(&tags, NUMBERED_VIDEO), numbers(&tags, &[b"\x95\x01mp4a\x01"])), (all.clone(), all));
    }

    #[test]
    fn a_first_track_that_comes_later_is_the_first() {
        let (mut recorder, mut store) = (recorder(), MemoryStore::new());
        recorder.start(source(), &template(&[Format::Flv], 60), now(0), &mut store);
        let [video, audio] = header(1);
        recorder.video(0, Payload::contiguous(&video), now(0), &mut store).unwrap();
        recorder.audio(0, Payload::contiguous(&audio), now(0), &mut store).unwrap();
        send_numbered(&mut recorder, &mut store, 0..50, 1);
        super::super::tests::headers(&mut recorder, &mut store);
        for count in 50..100 {
            send(&mut recorder, &mut store, count..count + 1);
            send_numbered(&mut recorder, &mut store, count..count + 1, 1);
        }
        recorder.finish(EndReason::PublicationEnded, now(4_000), &mut store);
        let (before, after) = (store.flv_tags(0), store.flv_tags(recorder.totals().files - 1));
        assert_eq!(numbers(&before, VIDEO), (0..50).collect::<Vec<u32>>());
        assert_eq!(numbers(&after, &[&[0x17], &[0x27]]), (50..100).collect::<Vec<u32>>());
        assert_eq!(numbers(&after, NUMBERED_VIDEO), (50..100).collect::<Vec<u32>>());
    }
}
