//! Tracks beside the first of each kind (Enhanced RTMP multitrack): what they are, and their packets on the way into the files.
//!
//! Their frames stand between those of the first tracks, as data messages do: see [`super::item`].

use std::sync::Arc;

use bytes::Bytes;

use super::output::LeftOut;
use super::{Now, Recorder};
use crate::container::Store;
use crate::domain::EndReason;
use crate::limits::SEQUENCE_HEADER_BYTES_MAX;
use crate::media::enhanced::{self, Enhanced, Packet};
use crate::media::{FURTHER_TRACKS_MAX, FurtherTrack, Payload, TrackKind, Tracks, flv_tag};

/// Sequence headers and the like that are kept for files to begin: some for each of a few tracks.
const OTHER_HEADERS_MAX: usize = 32;

impl<S: Store> Recorder<S> {
    /// A packet of another track than the first of its kind.
    pub(super) fn other_track(&mut self, kind: TrackKind, packet: Packet<'_>, timestamp_ms: u32, now: Now, store: &mut S) {
        if self.take_stand_in(kind, &packet, timestamp_ms, now, store) {
            return;
        }
        self.describe_further(kind, packet);
        let sent = packet.to_vec();
        if packet.is_coded() {
            match kind {
                TrackKind::Video => self.totals.video_frames += 1,
                TrackKind::Audio => self.totals.audio_frames += 1,
            }
            self.totals.media_bytes += packet.body.len() as u64;
        } else if sent.len() <= SEQUENCE_HEADER_BYTES_MAX {
            self.other_header(kind, &packet, &sent);
            if self.epoch().zero_ms.is_none() {
                // Files that begin from here on have it in front.
                return;
            }
        }
        self.between_frames(Some(kind), timestamp_ms, &sent, now, store);
    }

    /// Learns from a tag of a further track, which comes later, what its track is.
    pub(super) fn expect_further(&mut self, kind: TrackKind, body: &[u8]) {
        if let Ok(Enhanced::One(packet)) = enhanced::parse(kind.into(), Payload::contiguous(body)) {
            self.describe_further(kind, packet);
        }
    }

    /// Learns from a packet what its track is. A track that only now appears, or becomes another, is in files that begin from the next key frame on.
    fn describe_further(&mut self, kind: TrackKind, packet: Packet<'_>) {
        let Some(number) = packet.track_id else { return };
        let known = self.pending_further.as_ref().unwrap_or(&self.epoch().tracks.further);
        let index = known.iter().position(|track| track.number == number && track.kind() == kind);
        if packet.is_coded() && index.is_some() && !packet.describes_itself() {
            return;
        }
        let Some(description) = flv_tag::further_track(kind, packet, index.map(|index| &known[index].description)) else { return };
        let mut further = known.clone();
        match index {
            Some(index) if further[index].description == description => return,
            Some(index) => further[index].description = description,
            None if further.len() < FURTHER_TRACKS_MAX => further.push(FurtherTrack { number, description }),
            None => return LeftOut::note(&mut self.left_out, "MP4", "track beyond the sixteenth"),
        }
        self.pending_further = Some(further);
        if self.epoch().zero_ms.is_none() {
            self.take_further();
        }
    }

    /// From here on files hold the further tracks as they are known now.
    pub(super) fn take_further(&mut self) {
        let Some(further) = self.pending_further.take() else { return };
        if self.epoch().zero_ms.is_none() {
            self.epoch_mut().tracks.further = further;
            self.note_is_old = true;
        } else {
            let tracks = Tracks { further, ..self.epoch().tracks.clone() };
            self.new_epoch(tracks, EndReason::ParametersChanged);
        }
    }

    /// Keeps what a further track needs in front of every file.
    fn other_header(&mut self, kind: TrackKind, packet: &Packet<'_>, sent: &[u8]) {
        let replace = |others: &mut Vec<Bytes>| {
            let header = packet.header.as_slice();
            match others.iter().position(|known| known.starts_with(header)) {
                Some(index) => others[index] = Bytes::copy_from_slice(sent),
                None if others.len() < OTHER_HEADERS_MAX => others.push(Bytes::copy_from_slice(sent)),
                None => {}
            }
        };
        self.note_is_old = true;
        let tracks = &mut self.epoch_mut().tracks;
        match kind {
            TrackKind::Video => {
                if let Some(track) = &mut tracks.video {
                    replace(&mut Arc::make_mut(track).others);
                }
            }
            TrackKind::Audio => {
                if let Some(track) = &mut tracks.audio {
                    replace(&mut Arc::make_mut(track).others);
                }
            }
        }
    }
}
