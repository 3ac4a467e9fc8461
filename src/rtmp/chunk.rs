//! Chunks into messages (section 5.3), without copying a message whose chunks all lie in one input.
//!
//! Of a message that the end of the input cuts, or that another chunk stream interrupts, what is there moves into the assembly buffer of its
//! chunk stream and becomes the prefix of the payload when the rest arrives. Inputs may be cut anywhere.

use super::chunk_writer::{CHUNK_BYTES_DEFAULT, MessageHeader, TIMESTAMP_EXTENDED};
use super::message::message_type;
use crate::limits::{AMF_MESSAGE_BYTES_MAX, CHUNK_BYTES_MAX, CHUNK_STREAMS_MAX, CONNECTION_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGES_PARTIAL_MAX};
use crate::media::payload::{Payload, Span};

/// Basic header 3, message header 11, extended timestamp 4.
const HEADER_BYTES_MAX: usize = 18;
/// Spans of one message; more are copied together. A key frame of 128 KiB in chunks of 128 bytes; encoders that care use larger chunks.
const SPANS_MAX: usize = 1024;
/// Capacity of an assembly buffer kept for the next cut message. Key frames of usual streams fit: a buffer that is freed and allocated anew costs a
/// page fault for every 4 KiB. A weak stream's buffer stays as small as its frames.
const ASSEMBLY_BYTES_KEPT: usize = 256 << 10;
/// A slot number of the direct table that stands for none.
const NO_SLOT: u8 = u8::MAX;
const _: () = assert!(CHUNK_STREAMS_MAX < NO_SLOT as usize);

/// Bytes of chunks in, messages out.
#[derive(Debug)]
pub struct ChunkReader {
    chunk_bytes: u32,
    position: Position,
    /// The beginning of a chunk header that the end of the input cut.
    carry: [u8; HEADER_BYTES_MAX],
    carry_len: usize,
    streams: Vec<ChunkStream>,
    /// Slot in `streams` of the chunk stream ids of the one-byte form, which are all that encoders use.
    slots: [u8; 64],
    /// The pieces in the present input of the message on slot `open`.
    spans: Vec<Span>,
    open: Option<usize>,
    /// The slot whose message was returned last; its bytes are given up at the next call.
    finished: Option<usize>,
    messages_partial: u32,
    assembled_bytes: usize,
    /// An assembly buffer for the next cut message, whichever chunk stream it is on.
    spare: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Position {
    Header,
    /// `left` bytes of the chunk are not yet there.
    Payload {
        slot: usize,
        left: u32,
    },
}

/// What later chunk headers of the same chunk stream refer to, and the message being received.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    timestamp_ms: u32,
    /// What a type 3 chunk that begins a message adds.
    delta_ms: u32,
    /// The extended timestamp of the last type 0, 1 or 2 chunk.
    extended: Option<u32>,
    length: u32,
    type_id: u8,
    message_stream_id: u32,
    /// Bytes of the present message so far; 0 between messages.
    received: u32,
    assembly: Vec<u8>,
}

/// A chunk header as parsed, before it means anything.
#[derive(Clone, Copy, Debug)]
struct ChunkHeader {
    /// Bytes of the header itself.
    header_bytes: usize,
    format: u8,
    chunk_stream_id: u32,
    slot: Option<usize>,
    /// Timestamp (type 0) or delta (types 1 and 2), extended or not.
    timestamp_ms: u32,
    extended: bool,
    length: u32,
    type_id: u8,
    message_stream_id: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChunkError {
    #[error("chunk stream {chunk_stream_id} begins with a type {format} chunk, which refers to a header never sent")]
    NoHeader { chunk_stream_id: u32, format: u8 },
    #[error("a type {format} chunk begins a message on chunk stream {chunk_stream_id} before the last one is complete")]
    MessageInterrupted { chunk_stream_id: u32, format: u8 },
    #[error("more than {CHUNK_STREAMS_MAX} chunk streams")]
    TooManyChunkStreams,
    #[error("a message of type {type_id} with {length} bytes; at most {length_max} are taken")]
    MessageTooLarge { type_id: u8, length: u32, length_max: u32 },
    #[error("more than {MESSAGES_PARTIAL_MAX} messages interleaved")]
    TooManyPartialMessages,
    #[error("partial messages of more than {CONNECTION_BYTES_MAX} bytes")]
    TooManyPartialBytes,
    #[error("a Set Chunk Size message with chunk size {0:#x}")]
    ChunkSize(u32),
    #[error("a protocol control message of type {type_id} with only {length} bytes")]
    ControlTooShort { type_id: u8, length: usize },
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self {
            chunk_bytes: CHUNK_BYTES_DEFAULT,
            position: Position::Header,
            carry: [0; HEADER_BYTES_MAX],
            carry_len: 0,
            streams: Vec::new(),
            slots: [NO_SLOT; 64],
            spans: Vec::new(),
            open: None,
            finished: None,
            messages_partial: 0,
            assembled_bytes: 0,
            spare: Vec::new(),
        }
    }
}

impl ChunkReader {
    /// Reads on at `input[*consumed..]` to the end of the next message; its bytes are then in [`ChunkReader::payload`]. `None` when all of
    /// `input` is consumed. Set Chunk Size and Abort are obeyed here and not returned.
    ///
    /// Call it with the same `input` until it returns `None`, then with the next.
    ///
    /// # Errors
    /// Any [`ChunkError`]: the stream of chunks cannot be followed any further.
    pub fn next_message(&mut self, input: &[u8], consumed: &mut usize) -> Result<Option<MessageHeader>, ChunkError> {
        self.release();
        loop {
            match self.position {
                Position::Header => {
                    let Some(header) = self.read_header(input, consumed)? else { break };
                    self.position = self.begin_chunk(&header)?;
                }
                Position::Payload { slot, left } => {
                    let taken = self.take_payload(input, consumed, slot, left)?;
                    let stream = &mut self.streams[slot];
                    stream.received += taken;
                    if taken < left {
                        self.position = Position::Payload { slot, left: left - taken };
                        if *consumed == input.len() && self.carry_len == 0 {
                            break;
                        }
                        continue;
                    }
                    self.position = Position::Header;
                    if stream.received == stream.length {
                        if stream.length > 0 {
                            self.messages_partial -= 1;
                        }
                        stream.received = 0;
                        self.finished = Some(slot);
                        let header = stream.message_header();
                        if !matches!(header.type_id, message_type::SET_CHUNK_SIZE | message_type::ABORT) {
                            return Ok(Some(header));
                        }
                        self.obey(header.type_id, input)?;
                        self.release();
                    }
                }
            }
        }
        debug_assert_eq!(*consumed, input.len());
        self.stash(input)?;
        Ok(None)
    }

    /// The peer's chunk size.
    pub fn chunk_bytes(&self) -> u32 {
        self.chunk_bytes
    }

    /// The bytes of the message that [`ChunkReader::next_message`] returned last, out of the same `input`. Empty after it returned `None`.
    pub fn payload<'a>(&'a self, input: &'a [u8]) -> Payload<'a> {
        let Some(slot) = self.finished else { return Payload::contiguous(&[]) };
        let spans = if self.open == Some(slot) { &self.spans[..] } else { &[] };
        Payload::chunked(&self.streams[slot].assembly, input, spans)
    }

    fn slot_of(&self, chunk_stream_id: u32) -> Option<usize> {
        match self.slots.get(chunk_stream_id as usize) {
            Some(&NO_SLOT) => None,
            Some(&slot) => Some(usize::from(slot)),
            None => self.streams.iter().position(|stream| stream.id == chunk_stream_id),
        }
    }

    /// `None` when the input ends inside the header; what is there is carried over.
    fn read_header(&mut self, input: &[u8], consumed: &mut usize) -> Result<Option<ChunkHeader>, ChunkError> {
        if self.carry_len == 0 {
            let rest = &input[*consumed..];
            let header = self.parse_header(rest)?;
            match &header {
                Some(header) => *consumed += header.header_bytes,
                None => {
                    self.carry[..rest.len()].copy_from_slice(rest);
                    self.carry_len = rest.len();
                    *consumed = input.len();
                }
            }
            return Ok(header);
        }
        let carried = self.carry_len;
        let added = (HEADER_BYTES_MAX - carried).min(input.len() - *consumed);
        self.carry[carried..carried + added].copy_from_slice(&input[*consumed..*consumed + added]);
        let header = self.parse_header(&self.carry[..carried + added])?;
        match &header {
            Some(header) if header.header_bytes >= carried => {
                *consumed += header.header_bytes - carried;
                self.carry_len = 0;
            }
            // What looked like a repeated extended timestamp was none: the rest of the carried bytes is payload.
            Some(header) => self.drop_carried(header.header_bytes, carried),
            None => {
                self.carry_len = carried + added;
                *consumed += added;
            }
        }
        Ok(header)
    }

    fn drop_carried(&mut self, count: usize, carried: usize) {
        self.carry.copy_within(count..carried, 0);
        self.carry_len = carried - count;
    }

    /// Bytes of the message that [`ChunkReader::next_message`] returned last.
    pub fn message_bytes(&self) -> usize {
        self.finished.map_or(0, |slot| self.streams[slot].length as usize)
    }

    /// Parses the chunk header at the front of `bytes`. `None` if it is not all there; eighteen bytes always suffice.
    // Inlined: to hand a header over in memory costs as much as to read it.
    #[inline(always)]
    fn parse_header(&self, bytes: &[u8]) -> Result<Option<ChunkHeader>, ChunkError> {
        let (format, chunk_stream_id, basic_bytes) = match *bytes {
            [first, ..] if first & 0x3f > 1 => (first >> 6, u32::from(first & 0x3f), 1),
            [first, id, ..] if first & 0x3f == 0 => (first >> 6, u32::from(id) + 64, 2),
            [first, low, high, ..] if first & 0x3f == 1 => (first >> 6, u32::from(low) + (u32::from(high) << 8) + 64, 3),
            _ => return Ok(None),
        };
        let slot = self.slot_of(chunk_stream_id);
        // A type 1 chunk can stand alone but for its message stream, and some encoders begin with one.
        if slot.is_none() && format > 1 {
            return Err(ChunkError::NoHeader { chunk_stream_id, format });
        }
        let rest = &bytes[basic_bytes..];
        let mut header = ChunkHeader {
            header_bytes: basic_bytes,
            format,
            chunk_stream_id,
            slot,
            timestamp_ms: 0,
            extended: false,
            length: 0,
            type_id: 0,
            message_stream_id: 0,
        };
        let (field_bytes, field_ms) = match (format, rest) {
            (3, _) => {
                let stream = slot.map(|slot| &self.streams[slot]);
                let repeated = stream.and_then(|stream| stream.extended.map(|extended| [extended, stream.timestamp_ms]));
                let Some(candidates) = repeated else { return Ok(Some(header)) };
                // Section 5.3.1.3 wants the extended timestamp repeated in type 3 chunks. FFmpeg, Adobe's encoders and newer OBS do so, older librtmp
                // does not, and some repeat the message's timestamp where the first chunk had a delta: what the bytes say decides, and
                // as soon as one differs, so that a message is not held back by the end of the input.
                let peeked = &rest[..rest.len().min(4)];
                if !candidates.iter().any(|candidate| candidate.to_be_bytes().starts_with(peeked)) {
                    return Ok(Some(header));
                }
                if peeked.len() < 4 {
                    return Ok(None);
                }
                header.header_bytes += 4;
                return Ok(Some(header));
            }
            (2, [t0, t1, t2, ..]) => (3, [*t0, *t1, *t2]),
            (1, [t0, t1, t2, l0, l1, l2, type_id, ..]) => {
                header.length = u32::from_be_bytes([0, *l0, *l1, *l2]);
                header.type_id = *type_id;
                (7, [*t0, *t1, *t2])
            }
            (0, [t0, t1, t2, l0, l1, l2, type_id, s0, s1, s2, s3, ..]) => {
                header.length = u32::from_be_bytes([0, *l0, *l1, *l2]);
                header.type_id = *type_id;
                header.message_stream_id = u32::from_le_bytes([*s0, *s1, *s2, *s3]);
                (11, [*t0, *t1, *t2])
            }
            _ => return Ok(None),
        };
        let [t0, t1, t2] = field_ms;
        header.header_bytes += field_bytes;
        header.timestamp_ms = u32::from_be_bytes([0, t0, t1, t2]);
        if header.timestamp_ms == TIMESTAMP_EXTENDED {
            let &[t0, t1, t2, t3, ..] = &rest[field_bytes..] else { return Ok(None) };
            header.header_bytes += 4;
            header.timestamp_ms = u32::from_be_bytes([t0, t1, t2, t3]);
            header.extended = true;
        }
        Ok(Some(header))
    }

    fn begin_chunk(&mut self, header: &ChunkHeader) -> Result<Position, ChunkError> {
        let &ChunkHeader { format, chunk_stream_id, timestamp_ms, .. } = header;
        let slot = match header.slot {
            Some(slot) => slot,
            None => self.add_stream(chunk_stream_id)?,
        };
        let stream = &mut self.streams[slot];
        if stream.received > 0 {
            if format != 3 {
                return Err(ChunkError::MessageInterrupted { chunk_stream_id, format });
            }
            return Ok(Position::Payload { slot, left: self.chunk_bytes.min(stream.length - stream.received) });
        }
        if format < 3 {
            stream.extended = header.extended.then_some(timestamp_ms);
        }
        match format {
            0 => {
                stream.timestamp_ms = timestamp_ms;
                // A type 3 chunk that begins a message right after a type 0 chunk adds the timestamp of the latter (section 5.3.1.2.4):
                // FFmpeg and GStreamer rely on it, SRS reads it so; nginx-rtmp adds nothing. After an extended timestamp it would be a
                // jump of hours that no encoder means; librtmp, which uses type 3 for "the same time again", is the one to be expected.
                stream.delta_ms = if header.extended { 0 } else { timestamp_ms };
            }
            1 | 2 => {
                stream.delta_ms = timestamp_ms;
                stream.timestamp_ms = stream.timestamp_ms.wrapping_add(timestamp_ms);
            }
            _ => stream.timestamp_ms = stream.timestamp_ms.wrapping_add(stream.delta_ms),
        }
        if format < 2 {
            stream.length = header.length;
            stream.type_id = header.type_id;
        }
        if format == 0 {
            stream.message_stream_id = header.message_stream_id;
        }
        let length_max = message_bytes_max(stream.type_id);
        if stream.length > length_max {
            return Err(ChunkError::MessageTooLarge { type_id: stream.type_id, length: stream.length, length_max });
        }
        if stream.length > 0 {
            self.messages_partial += 1;
            if self.messages_partial > MESSAGES_PARTIAL_MAX {
                return Err(ChunkError::TooManyPartialMessages);
            }
        }
        Ok(Position::Payload { slot, left: self.chunk_bytes.min(stream.length) })
    }

    fn add_stream(&mut self, chunk_stream_id: u32) -> Result<usize, ChunkError> {
        let slot = self.streams.len();
        if slot == CHUNK_STREAMS_MAX {
            return Err(ChunkError::TooManyChunkStreams);
        }
        self.streams.push(ChunkStream {
            id: chunk_stream_id,
            timestamp_ms: 0,
            delta_ms: 0,
            extended: None,
            length: 0,
            type_id: 0,
            message_stream_id: 0,
            received: 0,
            assembly: Vec::new(),
        });
        if let Some(entry) = self.slots.get_mut(chunk_stream_id as usize) {
            *entry = slot as u8;
        }
        Ok(slot)
    }

    /// Takes what is there of the `left` bytes of a chunk; returns how many.
    fn take_payload(&mut self, input: &[u8], consumed: &mut usize, slot: usize, left: u32) -> Result<u32, ChunkError> {
        if self.carry_len > 0 && left > 0 {
            // The input has just begun, so no spans are open that these bytes could overtake.
            let taken = self.carry_len.min(left as usize);
            let carried = self.carry;
            self.assemble(slot, std::iter::once(&carried[..taken]), taken)?;
            self.drop_carried(taken, self.carry_len);
            return Ok(taken as u32);
        }
        let taken = (input.len() - *consumed).min(left as usize);
        if taken > 0 {
            if self.open != Some(slot) || self.spans.len() == SPANS_MAX {
                if self.open.is_some() {
                    self.stash(input)?;
                }
                self.open = Some(slot);
            }
            self.spans.push(Span { start: *consumed as u32, end: (*consumed + taken) as u32 });
            *consumed += taken;
        }
        Ok(taken as u32)
    }

    /// Moves the spans of the open message into its assembly buffer.
    fn stash(&mut self, input: &[u8]) -> Result<(), ChunkError> {
        let Some(slot) = self.open.take() else { return Ok(()) };
        let mut spans = std::mem::take(&mut self.spans);
        let bytes = spans.iter().map(|span| (span.end - span.start) as usize).sum();
        let result = self.assemble(slot, spans.iter().map(|span| &input[span.start as usize..span.end as usize]), bytes);
        spans.clear();
        self.spans = spans;
        result
    }

    fn assemble<'i>(&mut self, slot: usize, pieces: impl Iterator<Item = &'i [u8]>, bytes: usize) -> Result<(), ChunkError> {
        self.assembled_bytes += bytes;
        if self.assembled_bytes > CONNECTION_BYTES_MAX as usize {
            return Err(ChunkError::TooManyPartialBytes);
        }
        let stream = &mut self.streams[slot];
        let assembly = &mut stream.assembly;
        if assembly.capacity() == 0 {
            *assembly = std::mem::take(&mut self.spare);
        }
        let wanted = assembly.len() + bytes;
        if wanted > assembly.capacity() {
            // Grows with what has come, not with what the header promises, and never beyond the message.
            let capacity = (wanted * 2).min(stream.length as usize).max(wanted);
            assembly.reserve_exact(capacity - assembly.len());
        }
        pieces.for_each(|piece| assembly.extend_from_slice(piece));
        Ok(())
    }

    /// Gives up the bytes of the message returned last.
    fn release(&mut self) {
        if let Some(slot) = self.finished.take() {
            self.discard(slot);
        }
    }

    fn discard(&mut self, slot: usize) {
        if self.open == Some(slot) {
            self.open = None;
            self.spans.clear();
        }
        let assembly = &mut self.streams[slot].assembly;
        if assembly.capacity() > 0 {
            let mut buffer = std::mem::take(assembly);
            self.assembled_bytes -= buffer.len();
            buffer.clear();
            if buffer.capacity() <= ASSEMBLY_BYTES_KEPT && buffer.capacity() > self.spare.capacity() {
                self.spare = buffer;
            }
        }
    }

    /// Set Chunk Size (section 5.4.1) and Abort (section 5.4.2).
    fn obey(&mut self, type_id: u8, input: &[u8]) -> Result<(), ChunkError> {
        let mut field = [0; 4];
        let payload = self.payload(input);
        if payload.peek(&mut field) < 4 {
            return Err(ChunkError::ControlTooShort { type_id, length: payload.len() });
        }
        let value = u32::from_be_bytes(field);
        if type_id == message_type::SET_CHUNK_SIZE {
            if value == 0 || value >> 31 == 1 {
                return Err(ChunkError::ChunkSize(value));
            }
            // A chunk never exceeds its message, so anything larger means the same.
            self.chunk_bytes = value.min(CHUNK_BYTES_MAX);
        } else if let Some(slot) = self.slot_of(value)
            && self.streams[slot].received > 0
        {
            self.streams[slot].received = 0;
            self.messages_partial -= 1;
            self.discard(slot);
        }
        Ok(())
    }
}

impl ChunkStream {
    fn message_header(&self) -> MessageHeader {
        MessageHeader { chunk_stream_id: self.id, timestamp_ms: self.timestamp_ms, type_id: self.type_id, message_stream_id: self.message_stream_id }
    }
}

const fn message_bytes_max(type_id: u8) -> u32 {
    match type_id {
        message_type::AUDIO | message_type::VIDEO | message_type::AGGREGATE => MESSAGE_BYTES_MAX,
        _ => AMF_MESSAGE_BYTES_MAX as u32,
    }
}

/// Messages with their bytes, and the error that ended them.
type Messages = (Vec<(MessageHeader, Vec<u8>)>, Option<ChunkError>);

fn read_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Messages {
    let mut reader = ChunkReader::default();
    let mut messages = Vec::new();
    for piece in pieces {
        let mut consumed = 0;
        loop {
            match reader.next_message(piece, &mut consumed) {
                Ok(Some(header)) => messages.push((header, reader.payload(piece).to_vec())),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert_eq!(consumed, piece.len(), "all of the input is consumed");
    }
    (messages, None)
}

/// Reads may end anywhere: whole, in two, in small pieces and byte by byte give the same messages and the same error.
pub fn fuzz_chunk(data: &[u8]) {
    let Some((&seed, data)) = data.split_first() else { return };
    let whole = read_pieces(std::iter::once(data));
    let (head, tail) = data.split_at(data.len() * usize::from(seed) / 256);
    assert_eq!(read_pieces([head, tail].into_iter()), whole);
    assert_eq!(read_pieces(data.chunks(usize::from(seed % 32) + 1)), whole);
    assert_eq!(read_pieces(data.chunks(1)), whole);
}

#[cfg(test)]
#[path = "chunk_tests.rs"]
mod tests;
