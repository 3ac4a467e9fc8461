//! Reading back what was written: where it ends whole, what it holds, and the final onMetaData.

use super::index::Index;
use super::{FILE_HEADER_BYTES, PREVIOUS_TAG_SIZE_BYTES, TAG_AUDIO, TAG_HEADER_BYTES, TAG_SCRIPT, TAG_VIDEO};
use crate::container::window::{WINDOW_BYTES, Window, apply};
use crate::container::{FinishPlan, ReadAt, ScanError};
use crate::limits::SEQUENCE_HEADER_BYTES_MAX;
use crate::media::flv_tag::{AudioUnit, FramePart, VideoUnit, described_audio, described_video, parse_audio, parse_video};
use crate::media::timeline::Timeline;
use crate::media::{AudioTrack, Payload, Tracks, VideoTrack};

/// What tells frames apart lies in the first bytes of a tag: tag header and, for codecs that describe themselves, the frame header.
const BODY_HEAD_BYTES: usize = 32;
/// "onMetaData" as AMF0 text: how our own first tag begins.
const METADATA_NAME: &[u8] = b"\x02\x00\x0aonMetaData";

/// Walks the tags from the head to the last whole one.
///
/// A tag is whole if its type and stream id are ours, it lies inside the file, the size behind it agrees, and its body is a frame that we
/// record. The first tag that is not (torn, or the zeros of preallocation) ends the file.
///
/// # Errors
/// [`ScanError::Head`] for a file that does not begin as ours do, [`ScanError::Empty`] without a frame, [`ScanError::Read`].
pub fn scan<R: ReadAt + ?Sized>(file: &R) -> Result<FinishPlan, ScanError> {
    let mut window = Window::new(file);
    let file_header = match window.array::<FILE_HEADER_BYTES>(0)? {
        Some(header @ [b'F', b'L', b'V', 1, _, 0, 0, 0, 9, 0, 0, 0, 0]) => header,
        _ => return Err(ScanError::Head { what: "no FLV header" }),
    };
    let metadata_offset = FILE_HEADER_BYTES as u64;
    let metadata_tag = Tag::read(&mut window, metadata_offset)?.ok_or(ScanError::Head { what: "the onMetaData tag is torn" })?;
    if metadata_tag.tag_type != TAG_SCRIPT || !window.at(metadata_tag.body_offset(), METADATA_NAME.len())?.eq(METADATA_NAME) {
        return Err(ScanError::Head { what: "the first tag is not onMetaData" });
    }
    let metadata_bytes = (metadata_tag.end() - metadata_offset) as usize;

    let mut index = Index::new(Tracks::default(), file_header, metadata_bytes);
    let mut timelines = Timelines::default();
    let mut end = metadata_tag.end();
    while let Some(tag) = Tag::read(&mut window, end)? {
        if !take(&mut index, &mut timelines, tag, &mut window)? {
            break;
        }
        end = tag.end();
    }
    let torn_bytes = window.torn_bytes(end)?;
    let old = window.at(metadata_offset, metadata_bytes.min(WINDOW_BYTES))?;
    index.plan(end, torn_bytes, Some(old))
}

#[derive(Clone, Copy)]
pub(super) struct Tag {
    offset: u64,
    tag_type: u8,
    body_bytes: u32,
    timestamp: u32,
    /// The first bytes of the body, zeros behind its end.
    head: [u8; BODY_HEAD_BYTES],
}

impl Tag {
    /// The tag at `offset`; `None` if it is not whole.
    pub(super) fn read<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, offset: u64) -> Result<Option<Self>, ScanError> {
        let read = window.at(offset, TAG_HEADER_BYTES + BODY_HEAD_BYTES)?;
        let Some((&header, body)) = read.split_first_chunk::<TAG_HEADER_BYTES>() else { return Ok(None) };
        let [tag_type, s2, s1, s0, t2, t1, t0, extended, 0, 0, 0] = header else { return Ok(None) };
        if !matches!(tag_type, TAG_AUDIO | TAG_VIDEO | TAG_SCRIPT) {
            return Ok(None);
        }
        let body_bytes = u32::from_be_bytes([0, s2, s1, s0]);
        let mut head = [0; BODY_HEAD_BYTES];
        let head_bytes = body.len().min(body_bytes as usize);
        head[..head_bytes].copy_from_slice(&body[..head_bytes]);
        let tag = Self { offset, tag_type, body_bytes, timestamp: u32::from_be_bytes([extended, t2, t1, t0]), head };
        if tag.end() > window.file_len() {
            return Ok(None);
        }
        let size_behind = window.array(tag.end() - PREVIOUS_TAG_SIZE_BYTES as u64)?.map(u32::from_be_bytes);
        Ok((size_behind == Some(TAG_HEADER_BYTES as u32 + body_bytes)).then_some(tag))
    }

    /// Where `media_bytes` at the end of the body begin.
    pub(super) fn media_offset(&self, media_bytes: u64) -> u64 {
        self.end() - PREVIOUS_TAG_SIZE_BYTES as u64 - media_bytes
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the body of a script tag lies; `None` for another tag, and for one of more than `bytes_max`.
    pub(super) fn script_body(&self, bytes_max: usize) -> Option<std::ops::Range<u64>> {
        let is_script = self.tag_type == TAG_SCRIPT && self.body_bytes as usize <= bytes_max;
        is_script.then(|| self.body_offset()..self.body_offset() + u64::from(self.body_bytes))
    }

    fn body_offset(&self) -> u64 {
        self.offset + TAG_HEADER_BYTES as u64
    }

    pub(super) fn end(&self) -> u64 {
        self.body_offset() + u64::from(self.body_bytes) + PREVIOUS_TAG_SIZE_BYTES as u64
    }
}

/// Takes a whole tag into the index; false if its body is nothing that we write.
pub(super) fn take<R: ReadAt + ?Sized>(
    index: &mut impl Frames,
    timeline: &mut Timelines,
    tag: Tag,
    window: &mut Window<'_, R>,
) -> Result<bool, ScanError> {
    let head = &tag.head[..BODY_HEAD_BYTES.min(tag.body_bytes as usize)];
    // Whole for a sequence header, which is bounded; the first bytes for a frame. Enhanced tags that are no coded frames count as the former.
    let whole = match (tag.tag_type, head) {
        // Of one of several tracks: the kind of packet is in the second byte.
        (TAG_VIDEO, [first, second, ..]) if first & 0x8f == 0x86 => second & 0x0f == 0,
        (TAG_AUDIO, [0x95, second, ..]) => second & 0x0f == 0,
        (TAG_VIDEO, [first, ..]) if first & 0x80 != 0 => !matches!(first & 0x0f, 1 | 3),
        (TAG_AUDIO, [first @ 0x90..=0x9f, ..]) => *first != 0x91,
        (TAG_VIDEO, [_, 0, ..]) | (TAG_AUDIO, [0xa0..=0xaf, 0, ..]) => true,
        _ => false,
    };
    let body = if whole { window.at(tag.body_offset(), (tag.body_bytes as usize).min(SEQUENCE_HEADER_BYTES_MAX))? } else { head };
    let payload = Payload::contiguous(body);
    let media_bytes = |part: &FramePart<'_>| u64::from(tag.body_bytes) - part.tag_header.as_slice().len() as u64;
    match tag.tag_type {
        TAG_VIDEO => match parse_video(payload) {
            Ok(VideoUnit::Config(track)) => index.tracks().video = Some(track),
            // Further tracks are in the file, and not in its sums.
            Ok(VideoUnit::OfTrack(_)) => {}
            Ok(VideoUnit::Colour(colour, sent)) => {
                if let Some(track) = &mut index.tracks().video {
                    *track = VideoTrack { metadata: sent.into(), colour: Some(colour), ..(**track).clone() }.into();
                }
            }
            Ok(VideoUnit::Frame(codec, part)) => {
                if part.key && !codec.has_composition_time() {
                    let known = index.tracks().video.as_deref().filter(|track| track.codec == codec);
                    if let Some(track) = described_video(codec, &part.media, known) {
                        index.tracks().video = Some(track.into());
                    }
                }
                let dts_ms = timeline.video.unwrap_ms(tag.timestamp);
                index.video(&tag, dts_ms, &part, media_bytes(&part));
            }
            _ => return Ok(false),
        },
        TAG_AUDIO => match parse_audio(payload) {
            Ok(AudioUnit::Config(track)) => index.tracks().audio = Some(track),
            Ok(AudioUnit::OfTrack(_)) => {}
            Ok(AudioUnit::Multichannel(sent)) => {
                if let Some(track) = &mut index.tracks().audio {
                    *track = AudioTrack { multichannel: sent.into(), ..(**track).clone() }.into();
                }
            }
            Ok(AudioUnit::Frame(codec, part)) => {
                if index.tracks().audio.is_none() {
                    index.tracks().audio = described_audio(codec, &part.media).map(Into::into);
                }
                index.audio(&tag, timeline.audio.unwrap_ms(tag.timestamp), media_bytes(&part));
            }
            _ => return Ok(false),
        },
        _script => {}
    }
    Ok(true)
}

/// Who is told of the frames, in the order of the file.
pub(super) trait Frames {
    fn tracks(&mut self) -> &mut Tracks;
    /// A video frame with `media_bytes` at the end of the tag's body.
    fn video(&mut self, tag: &Tag, dts_ms: i64, part: &FramePart<'_>, media_bytes: u64);
    fn audio(&mut self, tag: &Tag, dts_ms: i64, media_bytes: u64);
}

impl Frames for Index {
    fn tracks(&mut self) -> &mut Tracks {
        &mut self.tracks
    }
    fn video(&mut self, tag: &Tag, dts_ms: i64, part: &FramePart<'_>, media_bytes: u64) {
        self.video_frame(tag.offset, dts_ms, part.cts_ms, part.key, media_bytes);
    }
    fn audio(&mut self, _tag: &Tag, dts_ms: i64, media_bytes: u64) {
        self.audio_frame(dts_ms, media_bytes);
    }
}

/// Timestamps in the file are modulo 2^32.
#[derive(Default)]
pub(super) struct Timelines {
    video: Timeline,
    audio: Timeline,
}

/// Finishing what was finished changes nothing, whatever the file.
pub fn fuzz_flv_scan(data: &[u8]) {
    super::fuzz_outline(data);
    let mut growing = super::Growing::default();
    let _ = growing.go_on(&data[..data.len() / 2]).and_then(|()| growing.go_on(data));
    let Ok(plan) = scan(data) else { return };
    assert!(plan.truncate_to + plan.torn_bytes <= data.len() as u64);
    let finished = apply(&plan, data);
    let again = scan(finished.as_slice()).expect("what we finished can be read");
    assert_eq!(again.torn_bytes, 0);
    assert_eq!(again.summary, plan.summary);
    assert_eq!(apply(&again, &finished), finished);
}
