//! The onMetaData tag: written with guesses at the beginning, rewritten in the same size at the end.
//!
//! Room is made by a filler, a property with an array of zeros: every reader at hand skips an array of numbers of any name, while long strings,
//! nulls and bytes behind the value each break one of them.

use super::{PREVIOUS_TAG_SIZE_BYTES, TAG_HEADER_BYTES, TAG_SCRIPT, tag_header};
use crate::media::{AudioCodec, AudioTrack, Tracks, VideoCodec, VideoTrack};
use crate::wire::{Put, Reader};

/// AMF0 markers (Action Message Format 0, 2.1).
const AMF_NUMBER: u8 = 0;
const AMF_BOOLEAN: u8 = 1;
const AMF_STRING: u8 = 2;
const AMF_OBJECT: u8 = 3;
const AMF_ECMA_ARRAY: u8 = 8;
const AMF_STRICT_ARRAY: u8 = 10;
const AMF_OBJECT_END: [u8; 3] = [0, 0, 9];

/// Behind the filler: the end of the array and the size of the tag.
pub(super) const TAIL_BYTES: usize = AMF_OBJECT_END.len() + PREVIOUS_TAG_SIZE_BYTES;

const AMF_NUMBER_BYTES: usize = 9;
const FILLER_NAME: &str = "filler";
/// Name with its length, marker, count.
const FILLER_BYTES_MIN: usize = 2 + FILLER_NAME.len() + 1 + 4;
/// "keyframes" with marker and end; "filepositions" and "times" with marker and count.
const INDEX_BYTES_MIN: usize = (2 + 9 + 1 + 3) + (2 + 13 + 1 + 4) + (2 + 5 + 1 + 4);
/// A position and a time.
const INDEX_ENTRY_BYTES: usize = 2 * AMF_NUMBER_BYTES;
/// Readers take an index of one entry for a broken one; with one there is nowhere to seek either.
const INDEX_ENTRIES_MIN: usize = 2;

/// A key frame's place in the file and in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KeyFrame {
    /// Of the tag's first byte.
    pub offset: u64,
    pub time_ms: i64,
}

/// What onMetaData tells.
#[derive(Clone, Debug)]
pub(super) struct Metadata<'a> {
    pub tracks: &'a Tracks,
    pub duration_ms: u64,
    pub last_timestamp_ms: i64,
    pub file_bytes: u64,
    /// The last video frame is a key frame.
    pub can_seek_to_end: bool,
    pub key_frames: &'a [KeyFrame],
}

impl<'a> Metadata<'a> {
    /// While recording: nothing is known but the tracks.
    pub fn of_tracks(tracks: &'a Tracks) -> Self {
        Self { tracks, duration_ms: 0, last_timestamp_ms: 0, file_bytes: 0, can_seek_to_end: false, key_frames: &[] }
    }

    /// The smallest tag with room for `key_frames`, trailing size included.
    pub fn tag_bytes_for(&self, key_frames: usize) -> usize {
        TAG_HEADER_BYTES + self.properties().end() + INDEX_BYTES_MIN + key_frames * INDEX_ENTRY_BYTES + FILLER_BYTES_MIN + PREVIOUS_TAG_SIZE_BYTES
    }

    /// Key frames that a tag of this size has room for; `None` if it has not even room for the rest.
    pub fn key_frames_max(&self, tag_bytes: usize) -> Option<usize> {
        let spare = tag_bytes.checked_sub(self.tag_bytes_for(0))?;
        Some(spare / INDEX_ENTRY_BYTES)
    }

    /// The whole tag with its trailing size, `tag_bytes` long.
    ///
    /// # Panics
    /// If the key frames do not fit.
    pub fn tag(&self, tag_bytes: usize) -> Vec<u8> {
        let mut properties = self.properties();
        if self.key_frames.len() >= INDEX_ENTRIES_MIN {
            properties.key_frames(self.key_frames);
        }
        let room = tag_bytes.checked_sub(TAG_HEADER_BYTES + properties.end() + PREVIOUS_TAG_SIZE_BYTES).expect("the tag has room for its properties");
        properties.filler(room);
        let body = properties.finish();
        let mut tag = Vec::with_capacity(tag_bytes);
        tag.put(&tag_header(TAG_SCRIPT, body.len(), 0));
        tag.put(&body);
        tag.put_u32((TAG_HEADER_BYTES + body.len()) as u32);
        assert_eq!(tag.len(), tag_bytes);
        tag
    }

    fn properties(&self) -> Properties {
        let mut properties = Properties::new();
        properties.number("duration", self.duration_ms as f64 / 1000.0);
        if let Some(video) = &self.tracks.video {
            if video.width > 0 && video.height > 0 {
                properties.number("width", f64::from(video.width));
                properties.number("height", f64::from(video.height));
            }
            properties.number("videocodecid", video_codec_id(video));
        }
        if let Some(audio) = &self.tracks.audio {
            properties.number("audiocodecid", audio_codec_id(audio));
            properties.number("audiosamplerate", f64::from(audio.sample_rate_hz));
            properties.number("audiosamplesize", 16.0);
            properties.boolean("stereo", audio.channels >= 2);
        }
        properties.number("filesize", self.file_bytes as f64);
        properties.number("lasttimestamp", self.last_timestamp_ms as f64 / 1000.0);
        properties.boolean("hasVideo", self.tracks.video.is_some());
        properties.boolean("hasAudio", self.tracks.audio.is_some());
        properties.boolean("hasMetadata", true);
        properties.boolean("hasKeyframes", !self.key_frames.is_empty());
        properties.boolean("canSeekToEnd", self.can_seek_to_end);
        properties
    }
}

/// The number of the codec in its tags; the four characters as a number where the tags are enhanced (Enhanced RTMP v2, "Enhancing onMetaData").
fn video_codec_id(track: &VideoTrack) -> f64 {
    match track.codec {
        VideoCodec::Avc if !is_enhanced_video(track) => 7.0,
        VideoCodec::Hevc if !is_enhanced_video(track) => 12.0,
        codec => fourcc_number(codec.fourcc()),
    }
}

/// By its sequence header, which these codecs have.
fn is_enhanced_video(track: &VideoTrack) -> bool {
    track.sequence_header.first().is_some_and(|first| first & 0x80 != 0)
}

fn audio_codec_id(track: &AudioTrack) -> f64 {
    match track.codec {
        AudioCodec::Aac if track.sequence_header.first().is_none_or(|first| first >> 4 == 10) => 10.0,
        AudioCodec::Mp3 => 2.0,
        codec => fourcc_number(codec.fourcc()),
    }
}

fn fourcc_number(fourcc: &[u8; 4]) -> f64 {
    f64::from(u32::from_be_bytes(*fourcc))
}

/// Name and value of the script tag, the value an ECMA array under way.
struct Properties {
    bytes: Vec<u8>,
    count: u32,
}

const NAME: &str = "onMetaData";
/// Marker, length and text of the name, marker of the array: where its count stands.
const COUNT_OFFSET: usize = 1 + 2 + NAME.len() + 1;

impl Properties {
    fn new() -> Self {
        let mut bytes = Vec::new();
        bytes.put_u8(AMF_STRING);
        put_name(&mut bytes, NAME);
        bytes.put_u8(AMF_ECMA_ARRAY);
        bytes.put_u32(0);
        Self { bytes, count: 0 }
    }

    /// Bytes of the body if it ended now.
    fn end(&self) -> usize {
        self.bytes.len() + AMF_OBJECT_END.len()
    }

    fn name(&mut self, name: &str) {
        put_name(&mut self.bytes, name);
        self.count += 1;
    }

    fn number(&mut self, name: &str, value: f64) {
        self.name(name);
        put_number(&mut self.bytes, value);
    }

    fn boolean(&mut self, name: &str, value: bool) {
        self.name(name);
        self.bytes.put(&[AMF_BOOLEAN, u8::from(value)]);
    }

    fn key_frames(&mut self, key_frames: &[KeyFrame]) {
        self.name("keyframes");
        self.bytes.put_u8(AMF_OBJECT);
        put_name(&mut self.bytes, "filepositions");
        put_numbers(&mut self.bytes, key_frames.iter().map(|key_frame| key_frame.offset as f64));
        put_name(&mut self.bytes, "times");
        put_numbers(&mut self.bytes, key_frames.iter().map(|key_frame| key_frame.time_ms as f64 / 1000.0));
        self.bytes.put(&AMF_OBJECT_END);
    }

    /// Fills `room` bytes: zeros of 9 bytes each, and the rest in the length of the name.
    fn filler(&mut self, room: usize) {
        let spare = room.checked_sub(FILLER_BYTES_MIN).expect("the tag has room for its filler");
        self.name(&format!("{FILLER_NAME}{:.<1$}", "", spare % AMF_NUMBER_BYTES));
        let zeros = spare / AMF_NUMBER_BYTES;
        self.bytes.put_u8(AMF_STRICT_ARRAY);
        self.bytes.put_u32(zeros as u32);
        // The number 0 is nine bytes 0, its marker being one.
        self.bytes.resize(self.bytes.len() + zeros * AMF_NUMBER_BYTES, AMF_NUMBER);
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes[COUNT_OFFSET..COUNT_OFFSET + 4].copy_from_slice(&self.count.to_be_bytes());
        self.bytes.put(&AMF_OBJECT_END);
        self.bytes
    }
}

fn put_name(bytes: &mut Vec<u8>, name: &str) {
    bytes.put_u16(name.len() as u16);
    bytes.put(name.as_bytes());
}

fn put_number(bytes: &mut Vec<u8>, value: f64) {
    bytes.put_u8(AMF_NUMBER);
    bytes.put_f64(value);
}

fn put_numbers(bytes: &mut Vec<u8>, values: impl ExactSizeIterator<Item = f64>) {
    bytes.put_u8(AMF_STRICT_ARRAY);
    bytes.put_u32(values.len() as u32);
    for value in values {
        put_number(bytes, value);
    }
}

/// A century and more: no file is so long.
const TIME_MS_MAX: u64 = 1 << 42;

/// What a finished onMetaData says of where its file's key frames are.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Stated {
    pub duration_ms: u64,
    pub file_bytes: u64,
    pub has_video: bool,
    pub has_audio: bool,
    pub key_frames: Vec<KeyFrame>,
}

impl Stated {
    /// Reads the body of the tag. `None`: another writer's, with values that ours has not, or without what is asked here.
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let mut name = vec![AMF_STRING];
        put_name(&mut name, NAME);
        (reader.take(name.len()).ok()? == name && reader.u8().ok()? == AMF_ECMA_ARRAY).then_some(())?;
        reader.skip(4).ok()?;
        let (mut stated, mut positions, mut times) = (Self::default(), Vec::new(), Vec::new());
        loop {
            let name_bytes = usize::from(reader.u16().ok()?);
            let name = reader.take(name_bytes).ok()?;
            match (name, reader.u8().ok()?) {
                (b"", marker) if marker == AMF_OBJECT_END[2] => break,
                (name, AMF_NUMBER) => {
                    let value = reader.f64().ok()?;
                    match name {
                        b"duration" => stated.duration_ms = (value * 1000.0).round() as u64,
                        b"filesize" => stated.file_bytes = value as u64,
                        _ => {}
                    }
                }
                (name, AMF_BOOLEAN) => {
                    let value = reader.u8().ok()? != 0;
                    match name {
                        b"hasVideo" => stated.has_video = value,
                        b"hasAudio" => stated.has_audio = value,
                        _ => {}
                    }
                }
                (b"keyframes", AMF_OBJECT) => loop {
                    let name_bytes = usize::from(reader.u16().ok()?);
                    let name = reader.take(name_bytes).ok()?;
                    match (name, reader.u8().ok()?) {
                        (b"", marker) if marker == AMF_OBJECT_END[2] => break,
                        (b"filepositions", AMF_STRICT_ARRAY) => positions = numbers(&mut reader)?,
                        (b"times", AMF_STRICT_ARRAY) => times = numbers(&mut reader)?,
                        _ => return None,
                    }
                },
                (_, AMF_STRICT_ARRAY) => {
                    numbers(&mut reader)?;
                }
                _ => return None,
            }
        }
        let is_index = stated.has_video && stated.duration_ms > 0 && positions.len() == times.len() && positions.len() >= INDEX_ENTRIES_MIN;
        let key_frame = |(offset, time_s): (&f64, &f64)| KeyFrame { offset: *offset as u64, time_ms: (*time_s * 1000.0).round() as i64 };
        stated.key_frames = positions.iter().zip(&times).map(key_frame).collect();
        let is_sane = |ms: i64| ms.unsigned_abs() < TIME_MS_MAX;
        let are_sane = stated.duration_ms < TIME_MS_MAX && stated.key_frames.iter().all(|key_frame| is_sane(key_frame.time_ms));
        (is_index && are_sane).then_some(stated)
    }
}

/// The rest of an array of numbers: count, and each with its marker.
fn numbers(reader: &mut Reader<'_>) -> Option<Vec<f64>> {
    let count = reader.u32().ok()? as usize;
    let mut entries = Reader::new(reader.take(count.checked_mul(AMF_NUMBER_BYTES)?).ok()?);
    let mut numbers = Vec::with_capacity(count);
    while !entries.is_empty() {
        (entries.u8().ok()? == AMF_NUMBER).then_some(())?;
        numbers.push(entries.f64().ok()?);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_filled_to_the_byte() {
        let tracks = Tracks::default();
        let key_frames = [KeyFrame { offset: 4096, time_ms: 0 }, KeyFrame { offset: 9000, time_ms: 2040 }];
        for count in 0..=2 {
            let metadata = Metadata { key_frames: &key_frames[..count], ..Metadata::of_tracks(&tracks) };
            let least = metadata.tag_bytes_for(count);
            assert_eq!(metadata.key_frames_max(least - 1), count.checked_sub(1));
            for spare in 0..40 {
                assert_eq!(metadata.key_frames_max(least + spare), Some(count + spare / INDEX_ENTRY_BYTES));
                let tag = metadata.tag(least + spare);
                assert_eq!(tag.len(), least + spare);
                let body = &tag[TAG_HEADER_BYTES..tag.len() - PREVIOUS_TAG_SIZE_BYTES];
                let names = property_names(body);
                assert_eq!(names.contains(&"keyframes".to_owned()), count == 2);
                assert_eq!(Stated::read(body), None, "nothing is known of the tracks");
                assert!(names.last().unwrap().starts_with(FILLER_NAME));
            }
        }
    }

    /// Walks the array with a reader of its own; panics where a length is wrong.
    fn property_names(body: &[u8]) -> Vec<String> {
        let mut reader = Reader::new(body);
        assert_eq!(reader.take(13).unwrap(), b"\x02\x00\x0aonMetaData");
        let mut names = Vec::new();
        assert_eq!(reader.u8(), Ok(AMF_ECMA_ARRAY));
        let count = reader.u32().unwrap();
        object(&mut reader, &mut names);
        assert!(reader.is_empty());
        assert_eq!(names.len(), count as usize);
        names
    }

    fn object(reader: &mut Reader<'_>, names: &mut Vec<String>) {
        loop {
            let name_bytes = usize::from(reader.u16().unwrap());
            let name = reader.take(name_bytes).unwrap();
            let marker = reader.u8().unwrap();
            if name.is_empty() && marker == 9 {
                return;
            }
            names.push(String::from_utf8(name.to_vec()).unwrap());
            match marker {
                AMF_NUMBER => reader.skip(8).unwrap(),
                AMF_BOOLEAN => reader.skip(1).unwrap(),
                AMF_OBJECT => object(reader, &mut Vec::new()),
                AMF_STRICT_ARRAY => {
                    for _ in 0..reader.u32().unwrap() {
                        assert_eq!(reader.u8(), Ok(AMF_NUMBER));
                        reader.skip(8).unwrap();
                    }
                }
                other => panic!("marker {other}"),
            }
        }
    }
}
