//! A finished FLV file as the samples of a movie.

use super::FILE_HEADER_BYTES;
use super::scan::{BODY_HEAD_BYTES, Tag, Timelines};
use super::{TAG_AUDIO, TAG_VIDEO};
use crate::container::mp4::{Movie, MovieSample};
use crate::container::window::Window;
use crate::container::{ReadAt, ScanError};
use crate::limits::SEQUENCE_HEADER_BYTES_MAX;
use crate::media::flv_tag::{AudioUnit, FramePart, VideoUnit, audio_codec, mp3_track, parse_audio, parse_video};
use crate::media::{AudioCodec, Payload, Tracks};

/// Duration of a last frame that no other follows.
const LAST_MS: u32 = 40;

/// Reads the tags up to the last whole one. Frames lie in the file as they do in MP4.
///
/// # Errors
/// [`ScanError::Head`] for what is no FLV file, [`ScanError::Empty`] without a frame, [`ScanError::Read`].
pub fn movie<R: ReadAt + ?Sized>(file: &R) -> Result<Movie, ScanError> {
    let mut window = Window::new(file);
    match window.array::<FILE_HEADER_BYTES>(0)? {
        Some([b'F', b'L', b'V', 1, _, 0, 0, 0, 9, 0, 0, 0, 0]) => {}
        _ => return Err(ScanError::Head { what: "no FLV header" }),
    }
    let (mut tracks, mut timelines) = (Tracks::default(), Timelines::default());
    let (mut video, mut audio) = (Vec::new(), Vec::new());
    let mut at = FILE_HEADER_BYTES as u64;
    while let Some(tag) = Tag::read(&mut window, at)? {
        at = tag.end();
        let head = &tag.head[..BODY_HEAD_BYTES.min(tag.body_bytes as usize)];
        let body = match (tag.tag_type, head) {
            (TAG_VIDEO, [_, 0, ..]) | (TAG_AUDIO, [0xa0..=0xaf, 0, ..]) => {
                window.at(tag.body_offset(), (tag.body_bytes as usize).min(SEQUENCE_HEADER_BYTES_MAX))?
            }
            _ => head,
        };
        let payload = Payload::contiguous(body);
        let sample = |part: &FramePart<'_>, dts_ms: i64| {
            let header = part.tag_header.as_slice().len() as u64;
            let bytes = (u64::from(tag.body_bytes) - header) as u32;
            MovieSample { offset: tag.body_offset() + header, bytes, dts: dts_ms.max(0) as u64, cts: part.cts_ms, duration: 0, sync: part.key }
        };
        match tag.tag_type {
            TAG_VIDEO => match parse_video(payload) {
                Ok(VideoUnit::Config(track)) => tracks.video = Some(track),
                Ok(VideoUnit::Frame(part)) => push(&mut video, sample(&part, timelines.video.unwrap_ms(tag.timestamp))),
                _ => {}
            },
            TAG_AUDIO => match parse_audio(payload) {
                Ok(AudioUnit::Config(track)) => tracks.audio = Some(track),
                Ok(AudioUnit::Frame(part)) => {
                    if tracks.audio.is_none() && audio_codec(&part.tag_header) == Some(AudioCodec::Mp3) {
                        tracks.audio = mp3_track(&part.media).map(Into::into);
                    }
                    push(&mut audio, sample(&part, timelines.audio.unwrap_ms(tag.timestamp)));
                }
                _ => {}
            },
            _ => {}
        }
    }
    Movie::from_samples(&tracks, video, audio).ok_or(ScanError::Empty)
}

/// The next sample tells how long the one before lasts.
fn push(samples: &mut Vec<MovieSample>, mut sample: MovieSample) {
    if let Some(last) = samples.last_mut() {
        sample.dts = sample.dts.max(last.dts);
        last.duration = u32::try_from(sample.dts - last.dts).unwrap_or(u32::MAX);
        sample.duration = last.duration;
    } else {
        sample.duration = LAST_MS;
    }
    samples.push(sample);
}
