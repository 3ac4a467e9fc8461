//! The head of an FLV file, and the writer of its tags.

use super::index::Index;
use super::metadata::Metadata;
use super::{
    FILE_FLAG_AUDIO, FILE_FLAG_VIDEO, FILE_HEADER_BYTES, PREVIOUS_TAG_SIZE_BYTES, TAG_AUDIO, TAG_BODY_BYTES_MAX, TAG_HEADER_BYTES, TAG_SCRIPT,
    TAG_VIDEO, tag_header,
};
use crate::container::{FinishPlan, HEAD_ALIGN_BYTES, ScanError, Sink};
use crate::media::{Frame, TagHeader, TrackKind, Tracks};
use crate::wire::Put;

/// The key-frame index has room for one entry in so many seconds: seeking to within 4 s is what players need, and a denser index is thinned.
const INDEX_STEP_S: u64 = 4;
/// Room for files cut early or of short groups of pictures.
const INDEX_ENTRIES_MIN: u64 = 64;
/// Two hours, the longest interval of a template: 32 KiB. Longer files are thinned.
const INDEX_ENTRIES_MAX: u64 = 1800;

/// The head of a file: header, onMetaData with reserved room, sequence headers; a whole multiple of [`HEAD_ALIGN_BYTES`].
///
/// `record_interval_s` is the longest that the file shall get, 0 if that is open; the room for the key-frame index follows it.
pub fn head(tracks: &Tracks, record_interval_s: u64) -> Vec<u8> {
    let video = tracks.video.iter().flat_map(|track| [&track.sequence_header, &track.metadata].into_iter().chain(&track.others));
    let audio = tracks.audio.iter().flat_map(|track| [&track.sequence_header, &track.multichannel].into_iter().chain(&track.others));
    let video = video.map(|body| (TAG_VIDEO, body));
    let sequence_headers: Vec<_> = video.chain(audio.map(|body| (TAG_AUDIO, body))).filter(|(_, body)| !body.is_empty()).collect();
    let sequence_header_bytes: usize = sequence_headers.iter().map(|(_, body)| TAG_HEADER_BYTES + body.len() + PREVIOUS_TAG_SIZE_BYTES).sum();

    let key_frames = match (&tracks.video, record_interval_s) {
        (None, _) => 0,
        (Some(_), 0) => INDEX_ENTRIES_MAX,
        (Some(_), interval_s) => (interval_s / INDEX_STEP_S).clamp(INDEX_ENTRIES_MIN, INDEX_ENTRIES_MAX),
    };
    let metadata = Metadata::of_tracks(tracks);
    let other_bytes = FILE_HEADER_BYTES + sequence_header_bytes;
    let head_bytes = (other_bytes + metadata.tag_bytes_for(key_frames as usize)).next_multiple_of(HEAD_ALIGN_BYTES);

    let mut head = Vec::with_capacity(head_bytes);
    let audio_flag = if tracks.audio.is_some() { FILE_FLAG_AUDIO } else { 0 };
    let video_flag = if tracks.video.is_some() { FILE_FLAG_VIDEO } else { 0 };
    head.put(&[b'F', b'L', b'V', 1, audio_flag | video_flag, 0, 0, 0, 9]);
    head.put_u32(0);
    head.put(&metadata.tag(head_bytes - other_bytes));
    for (tag_type, body) in sequence_headers {
        head.put(&tag_header(tag_type, body.len(), 0));
        head.put(body);
        head.put_u32((TAG_HEADER_BYTES + body.len()) as u32);
    }
    assert_eq!(head.len(), head_bytes);
    head
}

/// Appends one tag per frame, its body exactly as it was sent.
#[derive(Clone, Debug)]
pub struct FlvWriter {
    zero_ms: i64,
    index: Index,
}

impl FlvWriter {
    /// `head` is what [`head`] made of `tracks`; `zero_ms` is the decoding time that becomes timestamp 0.
    pub fn new(tracks: &Tracks, head: &[u8], zero_ms: i64) -> Self {
        let (file_header, tags) = head.split_first_chunk().expect("a head begins with the header of the file");
        let [_, s2, s1, s0] = tags[..4] else { unreachable!("a slice of four") };
        let metadata_bytes = TAG_HEADER_BYTES + u32::from_be_bytes([0, s2, s1, s0]) as usize + PREVIOUS_TAG_SIZE_BYTES;
        Self { zero_ms, index: Index::new(tracks.clone(), *file_header, metadata_bytes) }
    }

    /// What makes the file final, now that it ends at `end`: the same as [`scan`](super::scan) finds, without reading the file.
    ///
    /// # Errors
    /// [`ScanError::Empty`] if nothing was pushed.
    pub fn finish(self, end: u64) -> Result<FinishPlan, ScanError> {
        self.index.plan(end, 0, None)
    }

    /// The most bytes that [`FlvWriter::push`] appends for `frame`.
    pub fn push_bytes_max(&self, frame: &Frame<'_>) -> usize {
        TAG_HEADER_BYTES + frame.tag_header.as_slice().len() + frame.media.len() + PREVIOUS_TAG_SIZE_BYTES
    }

    pub fn push(&mut self, frame: &Frame<'_>, sink: &mut impl Sink) {
        let tag_type = match frame.track {
            TrackKind::Video => TAG_VIDEO,
            TrackKind::Audio => TAG_AUDIO,
        };
        let body_head_bytes = frame.tag_header.as_slice().len();
        let body_bytes = body_head_bytes + frame.media.len();
        let (time_ms, media_bytes) = (self.time_ms(frame.dts_ms), frame.media.len() as u64);
        match frame.track {
            TrackKind::Video => self.index.video_frame(sink.position(), time_ms, frame.cts_ms, frame.key, media_bytes),
            TrackKind::Audio => self.index.audio_frame(time_ms, media_bytes),
        }
        // Both headers at once.
        let mut head = [0; TAG_HEADER_BYTES + TagHeader::BYTES_MAX];
        head[..TAG_HEADER_BYTES].copy_from_slice(&tag_header(tag_type, body_bytes, self.timestamp(frame.dts_ms)));
        head[TAG_HEADER_BYTES..].copy_from_slice(frame.tag_header.padded());
        sink.append(&head[..TAG_HEADER_BYTES + body_head_bytes]);
        for slice in frame.media.slices() {
            sink.append(slice);
        }
        end_tag(body_bytes, sink);
    }

    /// The most bytes that [`FlvWriter::push_message`] appends for `body`.
    pub fn push_message_bytes_max(&self, body: &[u8]) -> usize {
        TAG_HEADER_BYTES + body.len() + PREVIOUS_TAG_SIZE_BYTES
    }

    /// Appends what is no frame of the file's first tracks, at a time in the terms of [`Frame::dts_ms`]: a tag of a further track, or, without `track`, a
    /// script tag (a name and values in AMF0).
    pub fn push_message(&mut self, track: Option<TrackKind>, timestamp_ms: i64, body: &[u8], sink: &mut impl Sink) {
        let tag_type = match track {
            Some(TrackKind::Video) => TAG_VIDEO,
            Some(TrackKind::Audio) => TAG_AUDIO,
            None => TAG_SCRIPT,
        };
        sink.append(&tag_header(tag_type, body.len(), self.timestamp(timestamp_ms)));
        sink.append(body);
        end_tag(body.len(), sink);
    }

    /// Milliseconds in the file. Frames of before the beginning stand at 0.
    fn time_ms(&self, dts_ms: i64) -> i64 {
        dts_ms.saturating_sub(self.zero_ms).max(0)
    }

    /// The same modulo 2^32.
    fn timestamp(&self, dts_ms: i64) -> u32 {
        self.time_ms(dts_ms) as u32
    }
}

fn end_tag(body_bytes: usize, sink: &mut impl Sink) {
    sink.append(&((TAG_HEADER_BYTES + body_bytes) as u32).to_be_bytes());
    sink.seal(sink.position());
}

const _: () = assert!(INDEX_ENTRIES_MAX * 18 + (crate::limits::SEQUENCE_HEADER_BYTES_MAX as u64) < TAG_BODY_BYTES_MAX as u64);
