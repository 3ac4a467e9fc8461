//! Data messages in MP4: an event message box where it stood between the fragments, and the timed-metadata track that the finished file makes of them.
//!
//! A message is an `emsg` box (ISO/IEC 23009-1, 5.10.3.3) with an ID3 tag as players of HLS take it (AOM, "Carriage of ID3 Timed Metadata in CMAF"): a text
//! frame whose description is the name of the message and whose value is the message in JSON. The same bytes of JSON are the samples of a `mett` track
//! (ISO/IEC 14496-12, 12.3.3) in the finished file, so nothing is written twice and nobody has to know before the first message that there will be one.
//! SCTE-35 sections go beside it as they are (SCTE 214-3).
//!
//! A message is written when it comes. Where messages are usual, a fragment has a `free` box in front of it, which they fill from its beginning, as samples fill
//! the rooms of the tracks; one that finds no room ends the fragment and stands in front of the next.

use std::io;

use super::entry::stsd;
use crate::container::boxes::{BoxWriter, HEADER_BYTES, be32, be64};
use crate::container::id3;
use crate::media::note::Note;
use crate::wire::crc32_mpeg;

/// The largest box: a message of 256 KiB, most of whose bytes need an escape in JSON, is not kept.
pub const EVENT_BYTES_MAX: usize = 512 << 10;

const SCHEME_ID3: &[u8] = b"https://aomedia.org/emsg/ID3\0\0";
const SCHEME_SCTE35: &[u8] = b"urn:scte:scte35:2013:bin\0\0";
/// Version and flags, timescale, presentation time, duration, id.
const FIXED_BYTES: usize = 4 + 4 + 8 + 4 + 4;

/// One message of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Media time, bias included.
    pub time_ms: u64,
    /// File offset and length of the JSON.
    pub offset: u64,
    pub bytes: u32,
}

/// The longest room for messages in front of a fragment.
pub const ROOM_BYTES_MAX: u32 = 16 << 10;
/// Less is none.
pub const ROOM_BYTES_MIN: u32 = 128;

/// Bytes of the boxes of a message.
pub fn boxes_bytes(message: &Note) -> usize {
    let fixed = HEADER_BYTES + FIXED_BYTES;
    let splice = message.splice.as_ref().map_or(0, |section| fixed + SCHEME_SCTE35.len() + section.len());
    fixed + SCHEME_ID3.len() + id3::tag_bytes(&message.name, &message.json) + splice
}

/// Appends the box of a message. False: it is too large.
pub fn push_message(out: &mut Vec<u8>, id: u32, time_ms: u64, name: &str, json: &str) -> bool {
    if HEADER_BYTES + FIXED_BYTES + SCHEME_ID3.len() + id3::tag_bytes(name, json) > EVENT_BYTES_MAX {
        return false;
    }
    let start = out.len();
    begin(out, SCHEME_ID3, id, time_ms);
    id3::push_tag(out, name, json);
    end(out, start);
    true
}

/// Appends the box of a `splice_info_section`.
pub fn push_splice(out: &mut Vec<u8>, id: u32, time_ms: u64, section: &[u8]) {
    let start = out.len();
    begin(out, SCHEME_SCTE35, id, time_ms);
    out.extend_from_slice(section);
    end(out, start);
}

fn begin(out: &mut Vec<u8>, scheme: &[u8], id: u32, time_ms: u64) {
    out.extend_from_slice(b"\0\0\0\0emsg\x01\0\0\0");
    out.extend_from_slice(&1_000_u32.to_be_bytes());
    out.extend_from_slice(&time_ms.to_be_bytes());
    out.extend_from_slice(&0_u32.to_be_bytes());
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(scheme);
}

fn end(out: &mut [u8], start: usize) {
    let bytes = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&bytes.to_be_bytes());
}

/// The size of an event message box that we may have written, from its header.
pub fn box_bytes(header: &[u8]) -> Option<usize> {
    let bytes = be32(header, 0)? as usize;
    (&header[4..8] == b"emsg" && (HEADER_BYTES + FIXED_BYTES + SCHEME_SCTE35.len()..=EVENT_BYTES_MAX).contains(&bytes)).then_some(bytes)
}

/// The size of the room for messages that is left in front of a fragment, from its header.
pub fn room_bytes(header: &[u8]) -> Option<usize> {
    let bytes = be32(header, 0)? as usize;
    (&header[4..8] == b"free" && (HEADER_BYTES..=ROOM_BYTES_MAX as usize).contains(&bytes)).then_some(bytes)
}

/// What one box holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    Message(Event),
    Splice,
    /// It was not written to its end.
    Torn,
}

/// Reads a whole box that lies at `at`.
pub fn parse(bytes: &[u8], at: u64) -> Found {
    let Some(body) = bytes.get(HEADER_BYTES + FIXED_BYTES..) else { return Found::Torn };
    if let Some(section) = body.strip_prefix(SCHEME_SCTE35) {
        return if crc32_mpeg(section) == 0 && !section.is_empty() { Found::Splice } else { Found::Torn };
    }
    match json_at(body) {
        Some(json_at) => {
            let start = HEADER_BYTES + FIXED_BYTES + json_at;
            let time_ms = be64(bytes, HEADER_BYTES + 8).unwrap_or(0).min(1 << 62);
            Found::Message(Event { time_ms, offset: at + start as u64, bytes: (bytes.len() - start) as u32 })
        }
        None => Found::Torn,
    }
}

/// Where the JSON begins in what follows the fixed fields.
fn json_at(body: &[u8]) -> Option<usize> {
    let tag = body.strip_prefix(SCHEME_ID3)?;
    if !tag.starts_with(id3::TAG_HEAD) || tag.get(10..14)? != id3::FRAME {
        return None;
    }
    let text = tag.get(id3::HEAD_BYTES..)?;
    let zero = text.iter().position(|byte| *byte == 0)?;
    let json = &text[zero + 1..];
    // Zeros where the disk has lost a page are no JSON.
    serde_json::from_reader::<_, serde::de::IgnoredAny>(io::Cursor::new(json)).ok()?;
    Some(body.len() - json.len())
}

/// The sample description of the track.
pub fn description() -> Vec<u8> {
    stsd(|out: &mut BoxWriter| {
        out.container(b"mett", |out| {
            out.zeros(6);
            out.u16(1);
            // No encoding of the content; its type.
            out.raw(b"\0application/json\0");
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_and_torn_ones_do_not() {
        let json = r#"{"name":"onTextData","values":[{"text":"grüße"}]}"#;
        let mut out = b"before".to_vec();
        assert!(push_message(&mut out, 7, 12_345, "onTextData", json));
        let bytes = &out[6..];
        assert_eq!(box_bytes(bytes), Some(bytes.len()));
        let Found::Message(event) = parse(bytes, 6) else { panic!("torn") };
        assert_eq!(event.time_ms, 12_345);
        assert_eq!(&out[event.offset as usize..], json.as_bytes());
        assert_eq!(event.bytes as usize, json.len());
        for cut in 0..bytes.len() {
            let mut torn = bytes[..cut].to_vec();
            torn.resize(bytes.len(), 0);
            assert_eq!(parse(&torn, 6), Found::Torn, "cut at {cut}");
        }
        let mut splice = Vec::new();
        let section = [&[0xFC, 0x30, 1][..], &crc32_mpeg(&[0xFC, 0x30, 1]).to_be_bytes()].concat();
        push_splice(&mut splice, 8, 1, &section);
        assert_eq!((box_bytes(&splice), parse(&splice, 0)), (Some(splice.len()), Found::Splice));
        assert!(!push_message(&mut out, 9, 1, "n", &"x".repeat(EVENT_BYTES_MAX)));
    }
}
