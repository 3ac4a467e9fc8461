//! Messages: their types (sections 5.4, 6.2 and 7.1) and the splitting of aggregates.

use std::ops::Range;

use crate::media::Payload;

/// Message type ids.
pub mod message_type {
    pub const SET_CHUNK_SIZE: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const ACKNOWLEDGEMENT: u8 = 3;
    pub const USER_CONTROL: u8 = 4;
    pub const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const DATA_AMF3: u8 = 15;
    pub const COMMAND_AMF3: u8 = 17;
    pub const DATA_AMF0: u8 = 18;
    pub const COMMAND_AMF0: u8 = 20;
    pub const AGGREGATE: u8 = 22;
}

/// Event types of user control messages (section 7.1.7).
pub mod user_control {
    pub const STREAM_BEGIN: u16 = 0;
    pub const PING_REQUEST: u16 = 6;
    pub const PING_RESPONSE: u16 = 7;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MediaKind {
    Audio,
    Video,
    Data,
}

impl MediaKind {
    pub const fn of_type(type_id: u8) -> Option<Self> {
        match type_id {
            message_type::AUDIO => Some(MediaKind::Audio),
            message_type::VIDEO => Some(MediaKind::Video),
            message_type::DATA_AMF0 | message_type::DATA_AMF3 => Some(MediaKind::Data),
            _ => None,
        }
    }
}

/// One message inside an aggregate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubMessage {
    pub type_id: u8,
    pub timestamp_ms: u32,
    /// Where it lies in the payload of the aggregate.
    pub range: Range<usize>,
}

/// A message inside an aggregate is longer than the aggregate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an aggregate message ends inside one of its messages")]
pub struct TornAggregate;

/// How far the splitting of an aggregate message (type 22, section 7.1.6) has come. The payload itself is passed in at each step, so that this
/// can be kept while the payload lies in the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct AggregateCursor {
    timestamp_ms: u32,
    /// What turns the timestamp of a message inside into its real one: the aggregate's own minus that of the first. Known from the first on.
    shift_ms: Option<u32>,
    /// Bytes of the payload already split.
    offset: usize,
}

/// Type, length, timestamp and stream id in front of each message; its total length behind it: the form of FLV tags.
const SUB_HEADER_BYTES: usize = 11;
const BACK_POINTER_BYTES: usize = 4;

impl AggregateCursor {
    /// `timestamp_ms` is the aggregate's own.
    pub const fn new(timestamp_ms: u32) -> Self {
        Self { timestamp_ms, shift_ms: None, offset: 0 }
    }

    /// The next message of `aggregate`, the same payload at each call. `None` at its end.
    ///
    /// # Errors
    /// [`TornAggregate`] if a header or length points past the end; a missing last back pointer is forgiven.
    pub fn next(&mut self, aggregate: &Payload<'_>) -> Result<Option<SubMessage>, TornAggregate> {
        let rest = aggregate.skip(self.offset);
        if rest.is_empty() {
            return Ok(None);
        }
        let mut header = [0; SUB_HEADER_BYTES];
        if rest.peek(&mut header) < SUB_HEADER_BYTES {
            return Err(TornAggregate);
        }
        let [type_id, l0, l1, l2, t0, t1, t2, t3, ..] = header;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        // The upper eight bits come last, as in an FLV tag.
        let timestamp_ms = u32::from_be_bytes([t3, t0, t1, t2]);
        if rest.len() - SUB_HEADER_BYTES < length {
            return Err(TornAggregate);
        }
        let start = self.offset + SUB_HEADER_BYTES;
        let shift_ms = *self.shift_ms.get_or_insert(self.timestamp_ms.wrapping_sub(timestamp_ms));
        self.offset = start + length + BACK_POINTER_BYTES;
        Ok(Some(SubMessage { type_id, timestamp_ms: timestamp_ms.wrapping_add(shift_ms), range: start..start + length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::payload::Span;
    use crate::wire::Put;

    fn sub(type_id: u8, timestamp_ms: u32, body: &[u8], out: &mut Vec<u8>) {
        out.put_u8(type_id);
        out.put_u24(body.len() as u32);
        out.put_u24(timestamp_ms);
        out.put_u8((timestamp_ms >> 24) as u8);
        out.put_u24(1);
        out.put(body);
        out.put_u32(body.len() as u32 + 11);
    }

    fn split(payload: &Payload<'_>, timestamp_ms: u32) -> Result<Vec<(u8, u32, Vec<u8>)>, TornAggregate> {
        let mut cursor = AggregateCursor::new(timestamp_ms);
        let mut messages = Vec::new();
        while let Some(message) = cursor.next(payload)? {
            let body = payload.skip(message.range.start).first(message.range.len());
            messages.push((message.type_id, message.timestamp_ms, body.to_vec()));
        }
        Ok(messages)
    }

    #[test]
    fn an_aggregate_is_split_and_its_timestamps_shifted_to_its_own() {
        let mut bytes = Vec::new();
        sub(9, 0x0100_0000, b"video", &mut bytes);
        sub(8, 0x0100_0017, b"", &mut bytes);
        sub(18, 0x00ff_ffff, b"data", &mut bytes);
        let expected = vec![(9, 500, b"video".to_vec()), (8, 523, vec![]), (18, 499, b"data".to_vec())];
        assert_eq!(split(&Payload::contiguous(&bytes), 500), Ok(expected.clone()));
        assert_eq!(split(&Payload::contiguous(&bytes[..bytes.len() - 4]), 500), Ok(expected.clone()), "no last back pointer");
        // In two pieces, cut anywhere.
        for cut in 0..=bytes.len() {
            let spans = [Span { start: cut as u32, end: bytes.len() as u32 }];
            assert_eq!(split(&Payload::chunked(&bytes[..cut], &bytes, &spans), 500), Ok(expected.clone()));
        }
    }

    #[test]
    fn a_torn_aggregate_is_refused() {
        let mut bytes = Vec::new();
        sub(9, 0, b"video", &mut bytes);
        for cut in 1..16 {
            assert_eq!(split(&Payload::contiguous(&bytes[..cut]), 0), Err(TornAggregate), "cut at {cut}");
        }
        assert_eq!(split(&Payload::contiguous(&[]), 0), Ok(vec![]));
    }
}
