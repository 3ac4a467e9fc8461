//! Data messages as players of HLS take them: an ID3 tag (version 2.4) with one text frame, its description the name of the message and its value the message
//! in JSON. In `emsg` boxes (AOM, "Carriage of ID3 Timed Metadata in CMAF") and in transport streams (Apple, "Timed Metadata for HTTP Live Streaming").

/// How a tag begins.
pub const TAG_HEAD: &[u8] = b"ID3\x04\0\0";
/// The frame in it.
pub const FRAME: &[u8] = b"TXXX";
/// Tag header, frame header, encoding: what stands in front of name, zero byte and JSON.
pub const HEAD_BYTES: usize = 10 + 10 + 1;

/// Bytes of the tag of a message.
pub fn tag_bytes(name: &str, json: &str) -> usize {
    HEAD_BYTES + described(name).len() + 1 + json.len()
}

/// Appends the tag of a message.
pub fn push_tag(out: &mut Vec<u8>, name: &str, json: &str) {
    let text_bytes = tag_bytes(name, json) - 20;
    out.extend_from_slice(TAG_HEAD);
    out.extend_from_slice(&syncsafe(10 + text_bytes));
    out.extend_from_slice(FRAME);
    out.extend_from_slice(&syncsafe(text_bytes));
    // No flags; UTF-8.
    out.extend_from_slice(&[0, 0, 3]);
    out.extend_from_slice(described(name).as_bytes());
    out.push(0);
    out.extend_from_slice(json.as_bytes());
}

/// The description ends with a zero byte.
fn described(name: &str) -> &str {
    name.split('\0').next().unwrap_or_default()
}

fn syncsafe(value: usize) -> [u8; 4] {
    [21, 14, 7, 0].map(|shift| (value >> shift) as u8 & 0x7F)
}
