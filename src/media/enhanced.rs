//! The enhanced header of audio and video tags: codecs by four characters, modifiers, several tracks in one message.
//!
//! Source: Enhanced RTMP v2, "Extended VideoTagHeader", "Extended AudioTagHeader".

use super::flv_tag::TagError;
use super::{Payload, TagHeader, TrackKind};

pub const PACKET_SEQUENCE_START: u8 = 0;
pub const PACKET_CODED_FRAMES: u8 = 1;
pub const PACKET_SEQUENCE_END: u8 = 2;
/// Video: coded frames without a composition time.
pub const PACKET_CODED_FRAMES_X: u8 = 3;
/// Video: values about the picture, such as its colours.
pub const PACKET_METADATA: u8 = 4;
/// Audio: the order of the channels.
pub const PACKET_MULTICHANNEL_CONFIG: u8 = 4;
/// Video: an MPEG-2 TS descriptor in place of the configuration.
pub const PACKET_MPEG2_TS_SEQUENCE_START: u8 = 5;
const PACKET_MULTITRACK_VIDEO: u8 = 6;
const PACKET_MULTITRACK_AUDIO: u8 = 5;
const PACKET_MOD_EX: u8 = 7;

const MULTITRACK_ONE_TRACK: u8 = 0;
const MULTITRACK_MANY_TRACKS: u8 = 1;
const MULTITRACK_MANY_CODECS: u8 = 2;

/// Modifiers in front of one packet; there is one kind (a nanosecond offset), so more than a few are an attack.
const MODIFIERS_MAX: usize = 8;

/// Which kind of tag: the numbers of the packet types differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    Video,
    Audio,
}

impl From<TrackKind> for Tag {
    fn from(kind: TrackKind) -> Self {
        match kind {
            TrackKind::Video => Tag::Video,
            TrackKind::Audio => Tag::Audio,
        }
    }
}

impl Tag {
    const fn name(self) -> &'static str {
        match self {
            Tag::Video => "video",
            Tag::Audio => "audio",
        }
    }
    const fn multitrack(self) -> u8 {
        match self {
            Tag::Video => PACKET_MULTITRACK_VIDEO,
            Tag::Audio => PACKET_MULTITRACK_AUDIO,
        }
    }
}

/// A tag of one track.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// `VideoPacketType` or `AudioPacketType`.
    pub packet_type: u8,
    pub fourcc: [u8; 4],
    /// `Some` if the tag names a track.
    pub track_id: Option<u8>,
    /// What stands before the body, such that header and body are a tag of this track alone.
    pub header: TagHeader,
    /// What follows the four characters, or the number of the track.
    pub body: Payload<'a>,
}

impl Packet<'_> {
    /// Frames, not what describes them or ends them.
    pub fn is_coded(&self) -> bool {
        matches!(self.packet_type, PACKET_CODED_FRAMES | PACKET_CODED_FRAMES_X)
    }

    /// The codec has no sequence header: its frames say what they are.
    pub fn describes_itself(&self) -> bool {
        matches!(&self.fourcc, b".mp3" | b"ac-3" | b"ec-3" | b"vp08" | b"vp09")
    }

    /// The same as a packet of the only track there is.
    pub fn unnumbered(self) -> Self {
        let first = self.header.as_slice().first().map_or(0, |first| first & 0xf0) | self.packet_type;
        Self { track_id: None, header: short_header(first, None, self.fourcc), ..self }
    }

    /// Header and body: a tag body of this track alone.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut sent = self.header.as_slice().to_vec();
        self.body.slices().for_each(|slice| sent.extend_from_slice(slice));
        sent
    }
}

/// What an enhanced tag is.
#[derive(Clone, Copy, Debug)]
pub enum Enhanced<'a> {
    One(Packet<'a>),
    Many(Packets<'a>),
}

/// The packets of several tracks in one message.
#[derive(Clone, Copy, Debug)]
pub struct Packets<'a> {
    tag: Tag,
    first: u8,
    packet_type: u8,
    /// `None`: each packet has its own.
    fourcc: Option<[u8; 4]>,
    rest: Payload<'a>,
}

/// Reads the header of a tag whose first byte says that it is enhanced.
///
/// # Errors
/// [`TagError::Truncated`], and [`TagError::Unknown`] for kinds of several tracks that are not defined.
pub fn parse<'a>(tag: Tag, payload: Payload<'a>) -> Result<Enhanced<'a>, TagError> {
    let mut reader = Reader { tag, payload, at: 0 };
    let first = reader.u8()?;
    let mut packet_type = first & 0x0f;
    for _ in 0..MODIFIERS_MAX {
        if packet_type != PACKET_MOD_EX {
            break;
        }
        let mut bytes = usize::from(reader.u8()?) + 1;
        if bytes == 256 {
            let [high, low] = reader.array()?;
            bytes = usize::from(u16::from_be_bytes([high, low])) + 1;
        }
        reader.at += bytes;
        // Kind of the modifier in the upper half: a nanosecond offset, or one that is to be passed over.
        packet_type = reader.u8()? & 0x0f;
    }
    if packet_type == PACKET_MOD_EX {
        return Err(TagError::Unknown { tag: tag.name(), field: "chain of modifiers, packet type", value: packet_type });
    }
    // What the modifiers do not touch.
    let plain_first = first & 0xf0 | packet_type;
    if packet_type != tag.multitrack() {
        let fourcc = reader.array()?;
        let header = reader.header(|| short_header(plain_first, None, fourcc));
        return Ok(Enhanced::One(Packet { packet_type, fourcc, track_id: None, header, body: reader.rest() }));
    }
    let kind = reader.u8()?;
    let packet_type = kind & 0x0f;
    match kind >> 4 {
        MULTITRACK_ONE_TRACK => {
            let fourcc = reader.array()?;
            let track_id = reader.u8()?;
            let header = reader.header(|| short_header(plain_first, Some((packet_type, track_id)), fourcc));
            Ok(Enhanced::One(Packet { packet_type, fourcc, track_id: Some(track_id), header, body: reader.rest() }))
        }
        MULTITRACK_MANY_TRACKS => {
            let fourcc = Some(reader.array()?);
            Ok(Enhanced::Many(Packets { tag, first: plain_first, packet_type, fourcc, rest: reader.rest() }))
        }
        MULTITRACK_MANY_CODECS => Ok(Enhanced::Many(Packets { tag, first: plain_first, packet_type, fourcc: None, rest: reader.rest() })),
        value => Err(TagError::Unknown { tag: tag.name(), field: "multitrack type", value }),
    }
}

/// A header without modifiers; `track`: inner packet type and track id.
fn short_header(first: u8, track: Option<(u8, u8)>, fourcc: [u8; 4]) -> TagHeader {
    let [a, b, c, d] = fourcc;
    match track {
        Some((packet_type, track_id)) => TagHeader::new(&[first, MULTITRACK_ONE_TRACK << 4 | packet_type, a, b, c, d, track_id]),
        None => TagHeader::new(&[first, a, b, c, d]),
    }
}

/// The tracks' packets; [`TagError::Truncated`] is the last: what follows cannot be read.
impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, TagError>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.rest.is_empty()).then(|| {
            let packet = self.read_packet();
            if packet.is_err() {
                self.rest = Payload::contiguous(&[]);
            }
            packet
        })
    }
}

impl<'a> Packets<'a> {
    fn read_packet(&mut self) -> Result<Packet<'a>, TagError> {
        let mut reader = Reader { tag: self.tag, payload: self.rest, at: 0 };
        let fourcc = match self.fourcc {
            Some(fourcc) => fourcc,
            None => reader.array()?,
        };
        let track_id = reader.u8()?;
        let [s2, s1, s0] = reader.array()?;
        let bytes = u32::from_be_bytes([0, s2, s1, s0]) as usize;
        let body = reader.rest();
        if body.len() < bytes {
            return Err(reader.truncated());
        }
        self.rest = body.skip(bytes);
        let header = short_header(self.first, Some((self.packet_type, track_id)), fourcc);
        Ok(Packet { packet_type: self.packet_type, fourcc, track_id: Some(track_id), header, body: body.first(bytes) })
    }
}

struct Reader<'a> {
    tag: Tag,
    payload: Payload<'a>,
    at: usize,
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], TagError> {
        let mut bytes = [0; N];
        if self.payload.skip(self.at).peek(&mut bytes) < N {
            return Err(self.truncated());
        }
        self.at += N;
        Ok(bytes)
    }
    fn u8(&mut self) -> Result<u8, TagError> {
        self.array::<1>().map(|[byte]| byte)
    }
    fn rest(&self) -> Payload<'a> {
        self.payload.skip(self.at)
    }
    /// What was read, as it was sent; what `short` makes if that is longer than is kept.
    fn header(&self, short: impl FnOnce() -> TagHeader) -> TagHeader {
        let mut bytes = [0; HEADER_KEPT_BYTES];
        match bytes.get_mut(..self.at) {
            Some(bytes) => {
                self.payload.peek(bytes);
                TagHeader::new(bytes)
            }
            None => short(),
        }
    }
    fn truncated(&self) -> TagError {
        TagError::Truncated { tag: self.tag.name(), bytes: self.payload.len() }
    }
}

/// Room for a composition time behind it.
const HEADER_KEPT_BYTES: usize = TagHeader::BYTES_MAX - 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn one(tag: Tag, body: &[u8]) -> (u8, Option<u8>, Vec<u8>, Vec<u8>) {
        match parse(tag, Payload::contiguous(body)) {
            Ok(Enhanced::One(packet)) => (packet.packet_type, packet.track_id, packet.header.as_slice().to_vec(), packet.body.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_track_with_and_without_modifiers() {
        assert_eq!(one(Tag::Video, b"\x91hvc1abc"), (1, None, b"\x91hvc1".to_vec(), b"abc".to_vec()));
        assert_eq!(one(Tag::Audio, b"\x91Opusabc"), (1, None, b"\x91Opus".to_vec(), b"abc".to_vec()));
        // A nanosecond offset, then coded frames.
        let modified = b"\x97\x02\x00\x01\x02\x01hvc1abc";
        assert_eq!(one(Tag::Video, modified), (1, None, b"\x97\x02\x00\x01\x02\x01hvc1".to_vec(), b"abc".to_vec()));
        // One that is too long to be kept: the tag goes on without it.
        let long = [&[0x97, 19][..], &[7; 20], b"\x03av01xyz"].concat();
        assert_eq!(one(Tag::Video, &long), (3, None, b"\x93av01".to_vec(), b"xyz".to_vec()));
        let longer = [&[0x97, 0xff, 1, 0x2b][..], &[7; 300], b"\x03av01xyz"].concat();
        assert_eq!(one(Tag::Video, &longer), (3, None, b"\x93av01".to_vec(), b"xyz".to_vec()));
        assert_eq!(one(Tag::Video, b"\x96\x01av01\x03xyz"), (1, Some(3), b"\x96\x01av01\x03".to_vec(), b"xyz".to_vec()));
        assert_eq!(one(Tag::Audio, b"\x95\x01mp4a\x01xyz"), (1, Some(1), b"\x95\x01mp4a\x01".to_vec(), b"xyz".to_vec()));
        for cut in 0..modified.len() - 3 {
            assert!(matches!(parse(Tag::Video, Payload::contiguous(&modified[..cut])), Err(TagError::Truncated { .. })), "cut at {cut}");
        }
        assert!(
            parse(Tag::Video, Payload::contiguous(&[0x97, 0, 0, 0x07, 0, 0, 0x07, 0, 0, 7, 0, 0, 7, 0, 0, 7, 0, 0, 7, 0, 0, 7, 0, 0, 7, 0, 0]))
                .is_err()
        );
        assert!(parse(Tag::Video, Payload::contiguous(b"\x96\x31av01\x03xyz")).is_err());
    }

    #[test]
    fn a_number_comes_off() {
        for (tag, numbered, plain) in [
            (Tag::Video, &b"\x96\x01hvc1\x05abc"[..], &b"\x91hvc1abc"[..]),
            (Tag::Video, b"\xa6\x03av01\x01abc", b"\xa3av01abc"),
            (Tag::Audio, b"\x95\x00mp4a\x01\x12\x10", b"\x90mp4a\x12\x10"),
        ] {
            let Ok(Enhanced::One(packet)) = parse(tag, Payload::contiguous(numbered)) else { panic!("one packet") };
            assert_eq!(packet.unnumbered().to_vec(), plain);
        }
    }

    #[test]
    fn many_tracks_come_apart() {
        for (name, message, fourccs) in [
            ("one codec", &b"\x96\x11hvc1\x00\x00\x00\x02ab\x01\x00\x00\x03cde"[..], [b"hvc1", b"hvc1"]),
            ("many codecs", &b"\x96\x21hvc1\x00\x00\x00\x02abav01\x01\x00\x00\x03cde"[..], [b"hvc1", b"av01"]),
        ] {
            let Ok(Enhanced::Many(mut packets)) = parse(Tag::Video, Payload::contiguous(message)) else { panic!("{name}") };
            for (id, (fourcc, body)) in fourccs.into_iter().zip([&b"ab"[..], b"cde"]).enumerate() {
                let packet = packets.next().unwrap().unwrap();
                assert_eq!((&packet.fourcc, packet.track_id, packet.body.to_vec()), (fourcc, Some(id as u8), body.to_vec()), "{name}");
                assert_eq!(packet.header.as_slice(), [&[0x96, 0x01][..], fourcc, &[id as u8]].concat(), "{name}");
            }
            assert!(packets.next().is_none(), "{name}");
            for cut in 8..message.len() {
                let Ok(Enhanced::Many(mut packets)) = parse(Tag::Video, Payload::contiguous(&message[..cut])) else { panic!("{name}") };
                let mut found = 0;
                while let Some(Ok(_)) = packets.next() {
                    found += 1;
                }
                assert!(found < 2, "{name}, cut at {cut}");
                assert!(packets.next().is_none());
            }
        }
    }
}
