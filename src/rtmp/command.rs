//! Commands (section 7.2) as they are read, and the replies to them waiting to be sent.

use super::amf::{self, AmfError, Value};
use super::chunk_writer::{ChunkWriter, MessageHeader};
use super::message::{message_type, user_control};
use crate::wire::Put;

/// Replies that wait for a peer that does not read them; several hundred commands' worth.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// Capacity kept between replies: an acknowledgement now and then is all there is while publishing.
const REPLY_BYTES_KEPT: usize = 1 << 10;

/// A command message: name, transaction id, command object (null in most) and arguments.
#[derive(Clone, PartialEq, Debug)]
pub struct Command {
    pub name: String,
    /// 0 if no answer is wanted.
    pub transaction_id: f64,
    pub object: Value,
    pub arguments: Vec<Value>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    #[error("reading a command")]
    Amf(#[from] AmfError),
    #[error("a command message without a command name")]
    NoName,
}

impl Command {
    /// `body` is the message of type 20, or of type 17 without its first byte. What is missing at the end is null.
    ///
    /// # Errors
    /// Any [`CommandError`].
    pub fn parse(body: &[u8]) -> Result<Self, CommandError> {
        let mut values = amf::decode_all(body)?.into_iter();
        let Some(Value::String(name)) = values.next() else { return Err(CommandError::NoName) };
        let transaction_id = values.next().and_then(|value| value.as_number()).unwrap_or(0.0);
        let object = values.next().unwrap_or(Value::Null);
        Ok(Self { name, transaction_id, object, arguments: values.collect() })
    }

    pub fn argument(&self, index: usize) -> &Value {
        self.arguments.get(index).unwrap_or(&Value::Null)
    }
}

/// Replies as chunks, in the order they were made.
#[derive(Debug, Default)]
pub(super) struct Replies {
    bytes: Vec<u8>,
    sent: usize,
    writer: ChunkWriter,
}

impl Replies {
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// For the handshake, whose bytes are no chunks.
    pub(super) fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// # Panics
    /// If more is said to be sent than waits.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        assert!(self.sent <= self.bytes.len(), "no more is sent than there is");
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(REPLY_BYTES_KEPT);
            self.sent = 0;
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting().len() > REPLY_BYTES_MAX
    }

    /// Acknowledgements are worth nothing to a peer that does not read.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting().len() < REPLY_BYTES_KEPT
    }

    /// Messages of the protocol itself: chunk stream 2, message stream 0.
    pub(super) fn control(&mut self, type_id: u8, payload: &[u8]) {
        let header = MessageHeader { chunk_stream_id: 2, timestamp_ms: 0, type_id, message_stream_id: 0 };
        self.writer.write(&header, payload, &mut self.bytes);
    }

    pub(super) fn control_u32(&mut self, type_id: u8, value: u32) {
        self.control(type_id, &value.to_be_bytes());
    }

    /// A user control message (section 7.1.7) with four bytes of event data.
    pub(super) fn user_control(&mut self, event: u16, data: [u8; 4]) {
        let mut payload = Vec::with_capacity(6);
        payload.put_u16(event);
        payload.put(&data);
        self.control(message_type::USER_CONTROL, &payload);
    }

    /// Set Chunk Size, obeyed by everything after it.
    pub(super) fn set_chunk_bytes(&mut self, chunk_bytes: u32) {
        self.control_u32(message_type::SET_CHUNK_SIZE, chunk_bytes);
        self.writer.set_chunk_bytes(chunk_bytes);
    }

    fn command(&mut self, message_stream_id: u32, values: &[Value]) {
        let chunk_stream_id = if message_stream_id == 0 { 3 } else { 5 };
        let header = MessageHeader { chunk_stream_id, timestamp_ms: 0, type_id: message_type::COMMAND_AMF0, message_stream_id };
        self.writer.write(&header, &amf::encode_all(values), &mut self.bytes);
    }

    /// Nothing is sent for transaction 0, which wants no answer.
    pub(super) fn result(&mut self, transaction_id: f64, object: Value, value: Value) {
        if transaction_id != 0.0 {
            self.command(0, &[Value::string("_result"), Value::Number(transaction_id), object, value]);
        }
    }

    pub(super) fn error(&mut self, transaction_id: f64, code: &str, description: &str) {
        if transaction_id != 0.0 {
            self.command(0, &[Value::string("_error"), Value::Number(transaction_id), Value::Null, information("error", code, description)]);
        }
    }

    /// `onStatus` on a message stream: what every encoder waits for after `publish`.
    pub(super) fn status(&mut self, message_stream_id: u32, level: &str, code: &str, description: &str) {
        let information = information(level, code, description);
        self.command(message_stream_id, &[Value::string("onStatus"), Value::Number(0.0), Value::Null, information]);
    }

    /// `onFCPublish` and `onFCUnpublish`, which encoders of Adobe's line wait for.
    pub(super) fn fc_status(&mut self, name: &str, code: &str, description: &str) {
        self.command(0, &[Value::string(name), Value::Number(0.0), Value::Null, information("status", code, description)]);
    }

    pub(super) fn stream_begin(&mut self, message_stream_id: u32) {
        self.user_control(user_control::STREAM_BEGIN, message_stream_id.to_be_bytes());
    }
}

fn information(level: &str, code: &str, description: &str) -> Value {
    Value::object(&[("level", Value::string(level)), ("code", Value::string(code)), ("description", Value::string(description))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::amf::encode_all;

    #[test]
    fn commands_with_more_and_less_than_the_usual() {
        let publish = [Value::string("publish"), Value::Number(5.0), Value::Null, Value::string("cam1"), Value::string("live")];
        let command = Command::parse(&encode_all(&publish)).unwrap();
        assert_eq!((command.name.as_str(), command.transaction_id), ("publish", 5.0));
        assert_eq!(command.argument(1).as_str(), Some("live"));
        assert_eq!(*command.argument(2), Value::Null);
        let short = Command::parse(&encode_all(&publish[..1])).unwrap();
        assert_eq!((short.transaction_id, short.object, short.arguments), (0.0, Value::Null, vec![]));
        assert_eq!(Command::parse(b""), Err(CommandError::NoName));
        assert_eq!(Command::parse(&encode_all(&publish[1..])), Err(CommandError::NoName));
        assert!(matches!(Command::parse(b"\x02\x00"), Err(CommandError::Amf(_))));
    }

    #[test]
    fn replies_go_away_as_they_are_sent() {
        let mut replies = Replies::default();
        replies.stream_begin(1);
        assert_eq!(replies.waiting(), [2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        replies.advance(10);
        assert_eq!(replies.waiting(), [0, 0, 0, 0, 0, 0, 0, 1]);
        replies.advance(8);
        assert!(replies.waiting().is_empty() && replies.is_idle());
        replies.result(0.0, Value::Null, Value::Null);
        replies.error(0.0, "code", "");
        assert!(replies.waiting().is_empty(), "transaction 0 wants no answer");
        while !replies.is_full() {
            replies.result(1.0, Value::Null, Value::Null);
        }
        replies.advance(replies.waiting().len());
        assert!(replies.bytes.capacity() <= 2 * REPLY_BYTES_KEPT);
    }
}
