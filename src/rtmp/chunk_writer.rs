//! Messages into chunks: our replies, and what the load generator and the tests send as a publisher would.

use crate::wire::Put;

/// Chunk size before the first Set Chunk Size message (section 5.4.1).
pub const CHUNK_BYTES_DEFAULT: u32 = 128;

/// A 24-bit timestamp field with this value says that the extended timestamp follows (section 5.3.1.3).
pub const TIMESTAMP_EXTENDED: u32 = 0xff_ffff;

/// Everything of a message but its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageHeader {
    /// 2 to 65599.
    pub chunk_stream_id: u32,
    /// Milliseconds, wrapping at 2^32.
    pub timestamp_ms: u32,
    /// See [`super::message::message_type`].
    pub type_id: u8,
    pub message_stream_id: u32,
}

/// Writes each message as one type 0 chunk and type 3 chunks behind it: plain, and right after whatever went before on the chunk stream.
#[derive(Clone, Copy, Debug)]
pub struct ChunkWriter {
    chunk_bytes: u32,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self { chunk_bytes: CHUNK_BYTES_DEFAULT }
    }
}

impl ChunkWriter {
    /// Chunk size from the next message on. The caller has told the peer with a Set Chunk Size message.
    ///
    /// # Panics
    /// If `chunk_bytes` is 0.
    pub fn set_chunk_bytes(&mut self, chunk_bytes: u32) {
        assert!(chunk_bytes > 0, "a chunk holds at least one byte");
        self.chunk_bytes = chunk_bytes;
    }

    /// Appends the chunks of one message to `out`.
    ///
    /// # Panics
    /// If the message is larger than its 24-bit length field says, or the chunk stream id is out of range.
    pub fn write(&self, header: &MessageHeader, payload: &[u8], out: &mut Vec<u8>) {
        assert!(payload.len() < 1 << 24, "a message is shorter than 16 MiB");
        let extended = (header.timestamp_ms >= TIMESTAMP_EXTENDED).then_some(header.timestamp_ms);
        put_basic_header(0, header.chunk_stream_id, out);
        out.put_u24(header.timestamp_ms.min(TIMESTAMP_EXTENDED));
        out.put_u24(payload.len() as u32);
        out.put_u8(header.type_id);
        out.put_u32_le(header.message_stream_id);
        if let Some(timestamp) = extended {
            out.put_u32(timestamp);
        }
        for (index, piece) in payload.chunks(self.chunk_bytes as usize).enumerate() {
            if index > 0 {
                put_basic_header(3, header.chunk_stream_id, out);
                if let Some(timestamp) = extended {
                    out.put_u32(timestamp);
                }
            }
            out.put(piece);
        }
    }
}

/// Chunk basic header (section 5.3.1.1).
///
/// # Panics
/// If the chunk stream id is not 2 to 65599, or `format` not 0 to 3.
pub fn put_basic_header(format: u8, chunk_stream_id: u32, out: &mut Vec<u8>) {
    assert!(format <= 3, "chunk types are 0 to 3");
    let format = format << 6;
    match chunk_stream_id {
        2..=63 => out.put_u8(format | chunk_stream_id as u8),
        64..=319 => out.put(&[format, (chunk_stream_id - 64) as u8]),
        320..=65_599 => {
            out.put_u8(format | 1);
            out.put(&((chunk_stream_id - 64) as u16).to_le_bytes());
        }
        other => panic!("chunk stream ids are 2 to 65599, not {other}"),
    }
}
