//! What is published: chunk bytes of one round of an endless loop, and when each message is due.

use crate::client::{TYPE_AUDIO, TYPE_DATA, TYPE_VIDEO, delta_message, message};

/// Milliseconds that hold whole AAC frames at 48 kHz: three of them.
const AUDIO_UNIT_MS: u64 = 64;

const AUDIO_CHUNK_STREAM: u8 = 4;
const VIDEO_CHUNK_STREAM: u8 = 6;

/// One FLV tag.
struct Tag {
    kind: u8,
    timestamp_ms: u32,
    body: Vec<u8>,
}

impl Tag {
    fn is_media(&self) -> bool {
        self.kind == TYPE_AUDIO || self.kind == TYPE_VIDEO
    }
    /// AVC or AAC configuration: the packet type byte is 0.
    fn is_header(&self) -> bool {
        match (self.kind, &self.body[..]) {
            (TYPE_VIDEO, [first, 0, ..]) => first & 0x0f == 7,
            (TYPE_AUDIO, [first, 0, ..]) => first >> 4 == 10,
            _ => false,
        }
    }
    /// End of sequence of AVC.
    fn is_end(&self) -> bool {
        matches!((self.kind, &self.body[..]), (TYPE_VIDEO, [first, 2, ..]) if first & 0x0f == 7)
    }
}

/// One message of the round.
pub struct Message {
    /// Offset of the byte behind it in [`Source::round`].
    pub end: usize,
    /// Milliseconds after the round's first message.
    pub due_ms: u64,
    /// Media bytes of this and all earlier messages of the round.
    pub media_bytes: u64,
    pub is_video: bool,
}

/// A message of the endless loop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    round: u64,
    index: usize,
}

/// One frame of a track, as a recording must hold it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// CRC-32 of what the encoder made: NAL units with their lengths, or a raw audio frame.
    pub crc: u32,
    pub bytes: u32,
    /// The same without parameter sets and delimiters, which some containers repeat or move.
    pub plain_crc: u32,
    pub plain_bytes: u32,
    /// After the track's first frame of the round.
    pub at_ms: u64,
}

pub struct Source {
    headers: Vec<Tag>,
    first: Vec<Tag>,
    pub round: Vec<u8>,
    pub messages: Vec<Message>,
    pub round_ms: u64,
    /// Video and audio frames of one round.
    pub tracks: [Vec<Frame>; 2],
}

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Video and audio together.
    pub bitrate_kbit: u64,
    pub fps: u32,
    /// From one key frame to the next.
    pub gop_ms: u64,
    /// 0: video alone.
    pub audio_kbit: u64,
}

impl Shape {
    /// One small picture a second and no sound: connected, and almost nothing else.
    pub const IDLE: Self = Self { bitrate_kbit: 8, fps: 1, gop_ms: 8_000, audio_kbit: 0 };
}

impl Source {
    /// Reads an FLV file; its last frames are followed by its first ones at the distance that the track had before.
    pub fn from_flv(file: &[u8]) -> Result<Self, String> {
        let mut tags = Vec::new();
        for tag in Tags::new(file)? {
            let (kind, timestamp_ms, body) = tag;
            tags.push(Tag { kind, timestamp_ms, body: body.to_vec() });
        }
        Self::build(tags, 0)
    }

    /// H.264 640x360 and AAC 48 kHz stereo with made-up frames: headers, NAL lengths and timing are true, pictures are noise.
    ///
    /// A round holds whole groups of pictures and whole AAC frames.
    pub fn generated(shape: Shape) -> Result<Self, String> {
        let Shape { bitrate_kbit, fps, gop_ms, audio_kbit } = shape;
        if fps == 0 || gop_ms < 8 {
            return Err("--fps must be above 0, --gop-ms at least 8".to_owned());
        }
        // A multiple of 8 ms, so that eight of them at most make up whole AAC frames; two at least, so that the round is not one group for ever.
        let gop_ms = gop_ms.next_multiple_of(8);
        let gops = (2..=8).find(|gops| gop_ms * gops % AUDIO_UNIT_MS == 0).unwrap_or(8);
        let round_ms = gop_ms * gops;
        let frames = (u64::from(fps) * round_ms / 1000).max(1);
        let audio_frames = if audio_kbit > 0 { round_ms / AUDIO_UNIT_MS * 3 } else { 0 };
        let audio_bytes = (audio_kbit * round_ms / 8 / audio_frames.max(1)) as usize;
        let video_bytes = (bitrate_kbit * round_ms / 8).saturating_sub(audio_frames * audio_bytes as u64);
        // A key frame weighs as much as eight others.
        let unit = video_bytes / (frames + 7 * gops);
        if unit < 32 || (audio_frames > 0 && audio_bytes < 8) {
            return Err(format!("{bitrate_kbit} kbit/s at {fps} frames a second with {audio_kbit} kbit/s of sound leaves too few bytes for a frame"));
        }
        let mut noise = Noise(0x2545_f491_4f6c_dd1d);
        let mut tags = vec![Tag { kind: TYPE_VIDEO, timestamp_ms: 0, body: AVC_HEADER.to_vec() }];
        if audio_frames > 0 {
            tags.push(Tag { kind: TYPE_AUDIO, timestamp_ms: 0, body: vec![0xaf, 0, 0x11, 0x90] });
        }
        let mut media = Vec::new();
        let mut gop_before = None;
        for index in 0..frames {
            let gop = index * gops / frames;
            let key = gop_before.replace(gop) != Some(gop);
            let nal_bytes = (if key { unit * 8 } else { unit }) as usize - 9;
            let mut body = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 0];
            body.extend_from_slice(&(nal_bytes as u32).to_be_bytes());
            body.push(if key { 0x65 } else { 0x41 });
            noise.fill(&mut body, nal_bytes - 1);
            media.push(Tag { kind: TYPE_VIDEO, timestamp_ms: (index * round_ms / frames) as u32, body });
        }
        for index in 0..audio_frames {
            let mut body = vec![0xaf, 1];
            noise.fill(&mut body, audio_bytes);
            media.push(Tag { kind: TYPE_AUDIO, timestamp_ms: (index * round_ms / audio_frames) as u32, body });
        }
        media.sort_by_key(|tag| tag.timestamp_ms);
        tags.extend(media);
        Self::build(tags, round_ms)
    }

    /// `round_ms`: the length of a round, or 0 to take it from the timestamps.
    fn build(tags: Vec<Tag>, round_ms: u64) -> Result<Self, String> {
        let (headers, tags): (Vec<Tag>, Vec<Tag>) = tags.into_iter().filter(|tag| !tag.is_end()).partition(|tag| tag.is_header() || !tag.is_media());
        let track = |kind: u8| tags.iter().filter(move |tag| tag.kind == kind);
        let begin_ms = tags.iter().map(|tag| tag.timestamp_ms).min().ok_or("the file holds no audio or video")?;
        let track_ms = |kind: u8| {
            let times: Vec<u32> = track(kind).map(|tag| tag.timestamp_ms).collect();
            match times[..] {
                [] => 0,
                [_] => 40,
                [first, .., before, last] => u64::from(last - first) + u64::from((last - before).max(1)),
                [first, last] => 2 * u64::from((last - first).max(1)),
            }
        };
        let round_ms = if round_ms > 0 { round_ms } else { track_ms(TYPE_VIDEO).max(track_ms(TYPE_AUDIO)) };

        let (mut round, mut messages, mut media_bytes, mut tracks) = (Vec::new(), Vec::new(), 0, [Vec::new(), Vec::new()]);
        let mut last = [None; 2];
        for tag in &tags {
            let (chunk_stream, slot) = if tag.kind == TYPE_VIDEO { (VIDEO_CHUNK_STREAM, 0) } else { (AUDIO_CHUNK_STREAM, 1) };
            let final_ms = track(tag.kind).next_back().expect("this tag at least").timestamp_ms;
            // The first of a round follows the last of the round before.
            let before_ms = last[slot].unwrap_or(i64::from(final_ms) - round_ms as i64);
            let delta_ms =
                u32::try_from(i64::from(tag.timestamp_ms) - before_ms).map_err(|_| format!("timestamps go back at {} ms", tag.timestamp_ms))?;
            last[slot] = Some(i64::from(tag.timestamp_ms));
            delta_message(&mut round, chunk_stream, tag.kind, delta_ms, &tag.body);
            media_bytes += tag.body.len() as u64;
            let frames: &mut Vec<Frame> = &mut tracks[slot];
            let start_ms = track(tag.kind).next().expect("this tag at least").timestamp_ms;
            let payload = payload(tag.kind, &tag.body).ok_or("a tag without content")?;
            let plain = if slot == 0 { crate::formats::plain(payload) } else { payload.to_vec() };
            frames.push(Frame {
                crc: crc32fast::hash(payload),
                bytes: payload.len() as u32,
                plain_crc: crc32fast::hash(&plain),
                plain_bytes: plain.len() as u32,
                at_ms: u64::from(tag.timestamp_ms - start_ms),
            });
            messages.push(Message { end: round.len(), due_ms: u64::from(tag.timestamp_ms - begin_ms), media_bytes, is_video: slot == 0 });
        }

        // Deltas need something to start from: every track's first message goes out with a full timestamp, and with it all before it.
        let lead = [TYPE_VIDEO, TYPE_AUDIO].into_iter().filter_map(|kind| tags.iter().position(|tag| tag.kind == kind)).max().expect("a track") + 1;
        let first = tags.into_iter().take(lead).map(|tag| Tag { timestamp_ms: tag.timestamp_ms - begin_ms, ..tag }).collect();
        Ok(Self { headers, first, round, messages, round_ms, tracks })
    }

    /// What a stream begins with: configuration and the first messages, with full timestamps from 0.
    pub fn prelude(&self, stream_id: u32) -> Vec<u8> {
        let mut out = Vec::new();
        for tag in self.headers.iter().chain(&self.first) {
            let chunk_stream = if tag.kind == TYPE_VIDEO { VIDEO_CHUNK_STREAM } else { AUDIO_CHUNK_STREAM };
            let timestamp_ms = if tag.is_media() && !tag.is_header() { tag.timestamp_ms } else { 0 };
            if tag.kind == TYPE_DATA {
                // A publisher wraps the file's onMetaData into @setDataFrame.
                let body = [b"\x02\x00\x0d@setDataFrame", &tag.body[..]].concat();
                message(&mut out, chunk_stream, tag.kind, timestamp_ms, stream_id, &body);
            } else {
                message(&mut out, chunk_stream, tag.kind, timestamp_ms, stream_id, &tag.body);
            }
        }
        out
    }

    /// Messages of a round that [`Source::prelude`] stands for.
    pub fn lead_messages(&self) -> usize {
        self.first.len()
    }

    /// Messages of the endless loop that are due within `elapsed_ms` of the start.
    pub fn due_messages(&self, elapsed_ms: f64) -> u64 {
        let rounds = (elapsed_ms / self.round_ms as f64).floor();
        let rest_ms = elapsed_ms - rounds * self.round_ms as f64;
        rounds as u64 * self.messages.len() as u64 + self.messages.partition_point(|message| message.due_ms as f64 <= rest_ms) as u64
    }

    /// Round, and index in it, of a message of the endless loop.
    fn place(&self, message: u64) -> (u64, usize) {
        let count = self.messages.len() as u64;
        (message / count, (message % count) as usize)
    }

    pub fn cursor(&self, message: u64) -> Cursor {
        let (round, index) = self.place(message);
        Cursor { round, index }
    }

    /// Number of the message in the endless loop.
    pub fn number(&self, cursor: Cursor) -> u64 {
        cursor.round * self.messages.len() as u64 + cursor.index as u64
    }

    pub fn next(&self, cursor: Cursor) -> Cursor {
        if cursor.index + 1 < self.messages.len() {
            Cursor { index: cursor.index + 1, ..cursor }
        } else {
            Cursor { round: cursor.round + 1, index: 0 }
        }
    }

    /// When the message is due, ms after the start.
    pub fn due_ms(&self, cursor: Cursor) -> u64 {
        cursor.round * self.round_ms + self.messages[cursor.index].due_ms
    }

    /// Offset of the message's first byte in the endless loop.
    pub fn begin(&self, cursor: Cursor) -> u64 {
        cursor.round * self.round.len() as u64 + cursor.index.checked_sub(1).map_or(0, |before| self.messages[before].end as u64)
    }

    /// Offset behind the message's last byte.
    pub fn end(&self, cursor: Cursor) -> u64 {
        cursor.round * self.round.len() as u64 + self.messages[cursor.index].end as u64
    }

    /// Media bytes of the messages before this one.
    pub fn media_bytes(&self, message: u64) -> u64 {
        let (round, index) = self.place(message);
        let all = self.messages.last().map_or(0, |message| message.media_bytes);
        round * all + index.checked_sub(1).map_or(0, |before| self.messages[before].media_bytes)
    }

    /// Video and audio frames among the first `messages`.
    pub fn frames(&self, messages: u64) -> [u64; 2] {
        let (round, index) = self.place(messages);
        let video = self.messages[..index].iter().filter(|message| message.is_video).count() as u64;
        let [v, a] = [0, 1].map(|slot| round * self.tracks[slot].len() as u64);
        [v + video, a + index as u64 - video]
    }
}

/// What the encoder made, without the header of the FLV tag. `None`: configuration, end of sequence, or nothing.
pub fn payload(kind: u8, body: &[u8]) -> Option<&[u8]> {
    match (kind, body) {
        (TYPE_VIDEO, [first, 1, _, _, _, rest @ ..]) if first & 0x0f == 7 => Some(rest),
        (TYPE_VIDEO, [first, ..]) if first & 0x0f == 7 => None,
        (TYPE_AUDIO, [first, 1, rest @ ..]) if first >> 4 == 10 => Some(rest),
        (TYPE_AUDIO, [first, ..]) if first >> 4 == 10 => None,
        (TYPE_VIDEO | TYPE_AUDIO, [_, rest @ ..]) => Some(rest),
        _ => None,
    }
}

/// Tags of an FLV file in memory: type, timestamp, body. A torn last tag ends it.
pub struct Tags<'a> {
    rest: &'a [u8],
}

impl<'a> Tags<'a> {
    pub fn new(file: &'a [u8]) -> Result<Self, String> {
        if !file.starts_with(b"FLV\x01") || file.len() < 13 {
            return Err("this is no FLV file".to_owned());
        }
        Ok(Self { rest: &file[13..] })
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = (u8, u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.rest.get(..11)?;
        let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
        let timestamp_ms = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
        let body = self.rest.get(11..11 + length)?;
        self.rest = self.rest.get(11 + length + 4..).unwrap_or_default();
        Some((header[0] & 0x1f, timestamp_ms, body))
    }
}

/// `AVCDecoderConfigurationRecord` behind its tag header: High profile, 640x360, no B-frames.
const AVC_HEADER: &[u8] = &[
    0x17, 0x00, 0x00, 0x00, 0x00, 0x01, 0x64, 0x00, 0x1e, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1e, 0xac, 0xb2, 0x01, 0x40, 0x5f, 0xf2, 0xe0,
    0x22, 0x00, 0x00, 0x03, 0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x64, 0x1e, 0x2c, 0x5c, 0x90, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xc3, 0xcb, 0x22, 0xc0,
    0xfd, 0xf8, 0xf8, 0x00,
];

/// xorshift64: incompressible bytes, none of them zero, so that no start code appears by chance.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, body: &mut Vec<u8>, count: usize) {
        body.extend((0..count).map(|_| {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 24) as u8 | 1
        }));
    }
}
