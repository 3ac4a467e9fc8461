//! One publisher's connection: handshake, commands, media; bytes in, events and replies out.
//!
//! ```text
//! Handshake -> Connecting -> Connected -> PublishRequested -> Publishing
//!                                ^-------------- end -------------'
//! ```

use super::address::{NameError, PushAddress};
use super::amf::Value;
use super::capabilities;
use super::chunk::ChunkReader;
use super::chunk_writer::MessageHeader;
use super::command::{Command, Replies};
use super::error::SessionError;
use super::handshake::{Handshake, RANDOM_BYTES};
use super::message::{AggregateCursor, MediaKind, message_type, user_control};
use crate::limits::MESSAGE_STREAMS_MAX;
use crate::media::payload::Payload;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionConfig {
    /// Chunk size of our replies. FFmpeg takes it over for what it sends, so a large one saves it and us chunk headers.
    pub chunk_bytes_out: u32,
    /// Window Acknowledgement Size and peer bandwidth that we announce, and our own interval of acknowledgements until the peer sets one.
    pub window_ack_bytes: u32,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self { chunk_bytes_out: 64 << 10, window_ack_bytes: 5_000_000 }
    }
}

/// The machine. It holds whatever the end of an input cuts, so each input is given once and consumed whole.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    stage: Stage,
    chunks: ChunkReader,
    replies: Replies,
    connect: Option<Connect>,
    /// Message streams created and not deleted.
    streams: Vec<u32>,
    publication: Publication,
    /// A publish that came while another publication was live, whose end is reported first.
    next_publish: Option<Box<PublishRequest>>,
    /// The rest of the aggregate message that the chunk reader returned last.
    aggregate: Option<AggregateCursor>,
    bytes_received: u64,
    bytes_acknowledged: u64,
    /// Bytes between acknowledgements.
    window_bytes: u32,
    messages_ignored: u64,
    /// The peer follows a reconnect request.
    can_reconnect: bool,
}

#[derive(Debug)]
enum Stage {
    Handshake(Box<Handshake>),
    Chunks,
    Failed,
}

/// What is kept of `connect`.
#[derive(Debug)]
struct Connect {
    /// `app` and `tcUrl` as sent.
    address: Value,
    encoder: String,
}

#[derive(Debug)]
enum Publication {
    None,
    /// Waits for [`Session::accept_publish`] or [`Session::refuse_publish`].
    Requested {
        stream_id: u32,
        name: String,
    },
    Live {
        stream_id: u32,
        name: String,
    },
}

/// How far the connection has come, for time-outs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Handshake,
    /// The handshake is done, `connect` has not come.
    Connecting,
    Connected,
    PublishRequested,
    Publishing,
    /// After an error.
    Failed,
}

/// What an encoder asks for with `publish`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishRequest {
    pub address: PushAddress,
    /// `flashVer` of connect: what the encoder calls itself. May be empty.
    pub encoder: String,
    pub publish_type: PublishType,
    pub message_stream_id: u32,
}

/// Third argument of publish (section 7.2.2.6). Recording is ours to decide, so all three mean the same here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PublishType {
    Live,
    Record,
    Append,
}

#[derive(Clone, Debug)]
pub enum Event<'s> {
    /// Decide before the next poll: [`Session::accept_publish`] or [`Session::refuse_publish`]. Media that comes earlier is ignored.
    Publish(Box<PublishRequest>),
    /// An audio, video or data message of the live publication, never empty. The payload is what FLV calls a tag body; of data messages
    /// what follows `@setDataFrame`: a name (`onMetaData`, `onTextData`, ...) and values in AMF0.
    Media { kind: MediaKind, timestamp_ms: u32, payload: Payload<'s> },
    /// The publisher ended its publication; the connection stays.
    PublishEnd(EndCause),
    /// A publish or play that was refused here and answered. The encoder will most likely hang up.
    Refused { code: &'static str, description: String },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndCause {
    FcUnpublish,
    DeleteStream,
    CloseStream,
    SecondPublish,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefuseReason {
    /// The name is in use or cannot be.
    BadName,
    /// Not allowed to publish here.
    Denied,
    /// We cannot take it now.
    Failed,
}

impl RefuseReason {
    pub const fn code(self) -> &'static str {
        match self {
            RefuseReason::BadName => "NetStream.Publish.BadName",
            RefuseReason::Denied => "NetStream.Publish.Denied",
            RefuseReason::Failed => "NetStream.Failed",
        }
    }
}

/// What one step found, without borrowing anything.
enum Step {
    Wait,
    /// `start` and `length` inside the payload of the present message.
    Media {
        kind: MediaKind,
        timestamp_ms: u32,
        start: usize,
        length: usize,
    },
    Control(Control),
}

/// Events that own what they say.
enum Control {
    Publish(Box<PublishRequest>),
    PublishEnd(EndCause),
    Refused { code: &'static str, description: String },
}

/// `flashVer` is for the log; real ones are below 64 bytes.
const ENCODER_BYTES_MAX: usize = 256;
const UNPUBLISH_SUCCESS: &str = "NetStream.Unpublish.Success";
const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";
const CLEAR_DATA_FRAME: &[u8] = b"\x02\x00\x0f@clearDataFrame";

impl Session {
    /// `random` fills the handshake; it need not be secret.
    ///
    /// # Panics
    /// If a size in `config` is 0.
    pub fn new(config: SessionConfig, random: [u8; RANDOM_BYTES]) -> Self {
        assert!(config.chunk_bytes_out > 0 && config.window_ack_bytes > 0, "sizes are not zero");
        Self {
            config,
            stage: Stage::Handshake(Box::new(Handshake::new(random))),
            chunks: ChunkReader::default(),
            replies: Replies::default(),
            connect: None,
            streams: Vec::new(),
            publication: Publication::None,
            next_publish: None,
            aggregate: None,
            bytes_received: 0,
            bytes_acknowledged: 0,
            window_bytes: config.window_ack_bytes,
            messages_ignored: 0,
            can_reconnect: false,
        }
    }

    /// Reads on at `input[*consumed..]` and returns the next event; `None` when all of `input` is consumed, and only then is it the next
    /// input's turn. Look at [`Session::output`] afterwards.
    ///
    /// # Errors
    /// Any [`SessionError`], once: the connection is of no use then and further input is thrown away. Replies made before may still be sent.
    pub fn poll<'s>(&'s mut self, input: &'s [u8], consumed: &mut usize) -> Result<Option<Event<'s>>, SessionError> {
        let consumed_before = *consumed;
        let step = self.step(input, consumed);
        self.bytes_received += (*consumed - consumed_before) as u64;
        match step {
            Ok(Step::Media { kind, timestamp_ms, start, length }) => {
                let whole = self.chunks.payload(input);
                let payload = if whole.len() == length { whole } else { whole.skip(start).first(length) };
                Ok(Some(Event::Media { kind, timestamp_ms, payload }))
            }
            Ok(Step::Wait) => {
                self.acknowledge();
                Ok(None)
            }
            Ok(Step::Control(Control::Publish(request))) => Ok(Some(Event::Publish(request))),
            Ok(Step::Control(Control::PublishEnd(cause))) => Ok(Some(Event::PublishEnd(cause))),
            Ok(Step::Control(Control::Refused { code, description })) => Ok(Some(Event::Refused { code, description })),
            Err(error) => {
                self.stage = Stage::Failed;
                *consumed = input.len();
                Err(error)
            }
        }
    }

    /// Chunk size of what the peer sends.
    pub fn chunk_bytes_in(&self) -> u32 {
        self.chunks.chunk_bytes()
    }

    /// Chunk size of our replies.
    pub fn chunk_bytes_out(&self) -> u32 {
        self.config.chunk_bytes_out
    }

    /// Replies waiting to be sent.
    pub fn output(&self) -> &[u8] {
        self.replies.waiting()
    }

    /// # Panics
    /// If `bytes` is more than waits.
    pub fn output_sent(&mut self, bytes: usize) {
        self.replies.advance(bytes);
    }

    /// Answers the requested publish with NetStream.Publish.Start; media follows. Nothing happens if the publisher has taken it back.
    pub fn accept_publish(&mut self) {
        match std::mem::replace(&mut self.publication, Publication::None) {
            Publication::Requested { stream_id, name } => {
                self.replies.stream_begin(stream_id);
                self.replies.status(stream_id, "status", "NetStream.Publish.Start", "The stream is being received.");
                self.publication = Publication::Live { stream_id, name };
            }
            other => self.publication = other,
        }
    }

    /// Answers the requested publish with an error. `description` is shown by many encoders.
    pub fn refuse_publish(&mut self, reason: RefuseReason, description: &str) {
        if let Publication::Requested { stream_id, .. } = self.publication {
            self.replies.status(stream_id, "error", reason.code(), description);
            self.publication = Publication::None;
        }
    }

    /// Ends the live publication from our side: `onStatus` with `code` (NetStream.Unpublish.Success or an error code). Media that still comes
    /// is ignored.
    pub fn end(&mut self, code: &str, description: &str) {
        if let Publication::Live { stream_id, .. } | Publication::Requested { stream_id, .. } = self.publication {
            let level = if code.ends_with(".Success") { "status" } else { "error" };
            self.replies.status(stream_id, level, code, description);
            self.publication = Publication::None;
        }
    }

    /// Asks the publisher to connect again, to the same address, and to go on there (Enhanced RTMP v2, "Reconnect Request"). Nothing is sent to one that
    /// has not said that it understands.
    pub fn request_reconnect(&mut self, description: &str) {
        if self.can_reconnect {
            self.replies.status(0, "status", "NetConnection.Connect.ReconnectRequest", description);
        }
    }

    pub fn phase(&self) -> Phase {
        match (&self.stage, &self.publication) {
            (Stage::Handshake(_), _) => Phase::Handshake,
            (Stage::Failed, _) => Phase::Failed,
            (Stage::Chunks, Publication::Live { .. }) => Phase::Publishing,
            (Stage::Chunks, Publication::Requested { .. }) => Phase::PublishRequested,
            (Stage::Chunks, Publication::None) if self.connect.is_some() => Phase::Connected,
            (Stage::Chunks, Publication::None) => Phase::Connecting,
        }
    }

    /// Messages that were no part of a live publication, or of a kind without meaning here.
    pub fn messages_ignored(&self) -> u64 {
        self.messages_ignored
    }

    fn step(&mut self, input: &[u8], consumed: &mut usize) -> Result<Step, SessionError> {
        if let Some(request) = self.next_publish.take() {
            return Ok(Step::Control(self.request_publish(request)));
        }
        match &mut self.stage {
            Stage::Chunks => {}
            Stage::Handshake(handshake) => {
                if !handshake.read(input, consumed, self.replies.raw())? {
                    return Ok(Step::Wait);
                }
                self.stage = Stage::Chunks;
            }
            Stage::Failed => {
                *consumed = input.len();
                return Ok(Step::Wait);
            }
        }
        loop {
            if let Some(cursor) = &mut self.aggregate {
                match cursor.next(&self.chunks.payload(input))? {
                    Some(message) => {
                        if let Some(media) = self.media(input, message.type_id, message.timestamp_ms, message.range.start, message.range.len()) {
                            return Ok(media);
                        }
                    }
                    None => self.aggregate = None,
                }
                continue;
            }
            let Some(header) = self.chunks.next_message(input, consumed)? else { return Ok(Step::Wait) };
            let length = self.chunks.message_bytes();
            match header.type_id {
                message_type::AUDIO | message_type::VIDEO | message_type::DATA_AMF0 | message_type::DATA_AMF3 => {
                    if self.is_published_on(header.message_stream_id) {
                        if let Some(media) = self.media(input, header.type_id, header.timestamp_ms, 0, length) {
                            return Ok(media);
                        }
                    } else {
                        self.messages_ignored += 1;
                    }
                }
                message_type::AGGREGATE => {
                    if self.is_published_on(header.message_stream_id) {
                        self.aggregate = Some(AggregateCursor::new(header.timestamp_ms));
                    } else {
                        self.messages_ignored += 1;
                    }
                }
                message_type::COMMAND_AMF0 | message_type::COMMAND_AMF3 => {
                    let body = self.chunks.payload(input).to_vec();
                    // Type 17 begins with a byte that names the encoding, always AMF0; some leave it out.
                    let body = if header.type_id == message_type::COMMAND_AMF3 { body.strip_prefix(&[0]).unwrap_or(&body) } else { &body };
                    let control = self.command(&header, &Command::parse(body)?)?;
                    if self.replies.is_full() {
                        return Err(SessionError::RepliesUnread);
                    }
                    if let Some(control) = control {
                        return Ok(Step::Control(control));
                    }
                }
                _ => self.protocol_message(input, header.type_id)?,
            }
        }
    }

    /// A message belongs to the live publication unless it is on another message stream that the peer has created: encoders that put media on
    /// a wrong stream exist. A connection carries one publication at a time; another one on a message stream of its own (section 7.2.2 allows it, no encoder
    /// at hand does it, and other servers mix both) is refused, so that the first goes on.
    fn is_published_on(&self, message_stream_id: u32) -> bool {
        match self.publication {
            Publication::Live { stream_id, .. } => message_stream_id == stream_id || !self.streams.contains(&message_stream_id),
            _ => false,
        }
    }

    /// Makes a media event of a message inside the present payload; `None` if there is nothing in it.
    fn media(&mut self, input: &[u8], type_id: u8, timestamp_ms: u32, mut start: usize, mut length: usize) -> Option<Step> {
        let Some(kind) = MediaKind::of_type(type_id) else {
            self.messages_ignored += 1;
            return None;
        };
        if kind == MediaKind::Data {
            let mut head = [0; 1 + CLEAR_DATA_FRAME.len()];
            let peeked = self.chunks.payload(input).skip(start).first(length).peek(&mut head);
            let mut head = &head[..peeked];
            // Type 15 begins with the byte that names the encoding.
            if let (message_type::DATA_AMF3, Some(amf0)) = (type_id, head.strip_prefix(&[0])) {
                head = amf0;
                start += 1;
                length -= 1;
            }
            if head.starts_with(CLEAR_DATA_FRAME) {
                self.messages_ignored += 1;
                return None;
            }
            if head.starts_with(SET_DATA_FRAME) {
                start += SET_DATA_FRAME.len();
                length -= SET_DATA_FRAME.len();
            }
        }
        // An empty message has no tag header: some encoders send one to say that audio pauses.
        (length > 0).then_some(Step::Media { kind, timestamp_ms, start, length })
    }

    fn protocol_message(&mut self, input: &[u8], type_id: u8) -> Result<(), SessionError> {
        let mut head = [0; 6];
        let peeked = self.chunks.payload(input).peek(&mut head);
        match (type_id, &head[..peeked]) {
            (message_type::WINDOW_ACKNOWLEDGEMENT_SIZE, &[a, b, c, d, ..]) => {
                // 0 would mean to acknowledge without end.
                if let window_bytes @ 1.. = u32::from_be_bytes([a, b, c, d]) {
                    self.window_bytes = window_bytes;
                }
            }
            (message_type::USER_CONTROL, &[e0, e1, a, b, c, d]) if u16::from_be_bytes([e0, e1]) == user_control::PING_REQUEST => {
                self.replies.user_control(user_control::PING_RESPONSE, [a, b, c, d]);
                if self.replies.is_full() {
                    return Err(SessionError::RepliesUnread);
                }
            }
            // What we send is so little that neither its acknowledgement nor a limit to it matters; buffer lengths are a player's.
            (
                message_type::ACKNOWLEDGEMENT
                | message_type::SET_PEER_BANDWIDTH
                | message_type::USER_CONTROL
                | message_type::WINDOW_ACKNOWLEDGEMENT_SIZE,
                _,
            ) => {}
            _ => self.messages_ignored += 1,
        }
        Ok(())
    }

    /// Acknowledges what has come since the last time, once it fills the window (section 5.4.3). The sequence number wraps at 2^32.
    fn acknowledge(&mut self) {
        let due = self.bytes_received - self.bytes_acknowledged >= u64::from(self.window_bytes);
        if due && matches!(self.stage, Stage::Chunks) && self.replies.is_idle() {
            self.bytes_acknowledged = self.bytes_received;
            self.replies.control_u32(message_type::ACKNOWLEDGEMENT, self.bytes_received as u32);
        }
    }

    fn command(&mut self, header: &MessageHeader, command: &Command) -> Result<Option<Control>, SessionError> {
        let stream_id = header.message_stream_id;
        let transaction_id = command.transaction_id;
        let Some(connect) = &self.connect else {
            if command.name == "connect" {
                self.connect(command)?;
                return Ok(None);
            }
            return Err(SessionError::BeforeConnect { name: shorten(&command.name, 64).to_owned() });
        };
        match command.name.as_str() {
            "connect" => return Err(SessionError::SecondConnect),
            "createStream" => self.create_stream(transaction_id),
            "releaseStream" | "_checkbw" => self.replies.result(transaction_id, Value::Null, Value::Undefined),
            "getStreamLength" => self.replies.result(transaction_id, Value::Null, Value::Number(0.0)),
            "FCPublish" => {
                self.replies.result(transaction_id, Value::Null, Value::Undefined);
                let name = command.argument(0).as_str().unwrap_or_default();
                self.replies.fc_status("onFCPublish", "NetStream.Publish.Start", shorten(name, 256));
            }
            "publish" => {
                // `NetStream.publish(false)` is how Flash ends a publication.
                if *command.argument(0) == Value::Boolean(false) {
                    return Ok(self.unpublish(stream_id, EndCause::CloseStream));
                }
                if matches!(self.publication, Publication::Requested { .. }) {
                    return Err(SessionError::PublishUnanswered);
                }
                if let Publication::Live { name, .. } = &self.publication
                    && !self.is_published_on(stream_id)
                {
                    let name = shorten(name, 64);
                    let description = format!("This connection publishes {name} already: end that first, or publish over a connection of its own.");
                    return Ok(Some(self.refuse(stream_id, RefuseReason::BadName.code(), description)));
                }
                return Ok(Some(match publish_request(connect, stream_id, command) {
                    Err(refusal) => self.refuse(stream_id, RefuseReason::BadName.code(), refusal.to_string()),
                    Ok(request) if matches!(self.publication, Publication::None) => self.request_publish(request),
                    Ok(request) => {
                        self.next_publish = Some(request);
                        self.publication = Publication::None;
                        Control::PublishEnd(EndCause::SecondPublish)
                    }
                }));
            }
            "FCUnpublish" => {
                self.replies.result(transaction_id, Value::Null, Value::Undefined);
                let name = command.argument(0).as_str().unwrap_or_default();
                self.replies.fc_status("onFCUnpublish", UNPUBLISH_SUCCESS, shorten(name, 256));
                if let Some(live) = self.published_as(name) {
                    return Ok(self.unpublish(live, EndCause::FcUnpublish));
                }
            }
            "closeStream" => return Ok(self.unpublish(stream_id, EndCause::CloseStream)),
            "deleteStream" => {
                let deleted = command.argument(0).as_number().map_or(stream_id, |id| id as u32);
                self.streams.retain(|&id| id != deleted);
                return Ok(self.unpublish(deleted, EndCause::DeleteStream));
            }
            "play" | "play2" => {
                let description = "This server records; it does not play streams over RTMP.".to_owned();
                return Ok(Some(self.refuse(stream_id, "NetStream.Play.StreamNotFound", description)));
            }
            // Answers to what we never asked.
            "_result" | "_error" | "onStatus" => self.messages_ignored += 1,
            other => {
                self.messages_ignored += 1;
                let description = format!("Method not found ({}).", shorten(other, 64));
                self.replies.error(transaction_id, "NetConnection.Call.Failed", &description);
            }
        }
        Ok(None)
    }

    fn connect(&mut self, command: &Command) -> Result<(), SessionError> {
        let object = &command.object;
        if object.properties().is_none() {
            return Err(SessionError::ConnectWithoutObject);
        }
        let properties = ["app", "tcUrl"].iter().filter_map(|&name| Some((name.to_owned(), object.get(name)?.clone()))).collect();
        let encoder = object.get("flashVer").and_then(Value::as_str).unwrap_or_default();
        self.connect = Some(Connect { address: Value::Object(properties), encoder: shorten(encoder, ENCODER_BYTES_MAX).to_owned() });

        // Before the result, as encoders expect from Adobe's server: FFmpeg copies the chunk size when it arrives.
        self.replies.control_u32(message_type::WINDOW_ACKNOWLEDGEMENT_SIZE, self.config.window_ack_bytes);
        // Limit type 2, dynamic.
        let [a, b, c, d] = self.config.window_ack_bytes.to_be_bytes();
        self.replies.control(message_type::SET_PEER_BANDWIDTH, &[a, b, c, d, 2]);
        self.replies.set_chunk_bytes(self.config.chunk_bytes_out);
        let object_encoding = object.get("objectEncoding").and_then(Value::as_number).filter(|&encoding| encoding == 3.0).unwrap_or(0.0);
        // Some encoders look for a version of Adobe's server and its capabilities.
        let mut properties = vec![
            ("fmsVer".to_owned(), Value::string("FMS/3,5,7,7009")),
            ("capabilities".to_owned(), Value::Number(31.0)),
            ("mode".to_owned(), Value::Number(1.0)),
        ];
        if capabilities::asks(object) {
            properties.extend(capabilities::ours());
        }
        self.can_reconnect = capabilities::can_reconnect(object);
        self.replies.result(
            command.transaction_id,
            Value::Object(properties),
            Value::object(&[
                ("level", Value::string("status")),
                ("code", Value::string("NetConnection.Connect.Success")),
                ("description", Value::string("Connection succeeded.")),
                ("objectEncoding", Value::Number(object_encoding)),
            ]),
        );
        Ok(())
    }

    fn create_stream(&mut self, transaction_id: f64) {
        if self.streams.len() == MESSAGE_STREAMS_MAX {
            let description = format!("A connection has at most {MESSAGE_STREAMS_MAX} message streams.");
            return self.replies.error(transaction_id, "NetConnection.Call.Failed", &description);
        }
        // The smallest free number; there is one among the first MESSAGE_STREAMS_MAX.
        let id = (1..).find(|id| !self.streams.contains(id)).unwrap_or(1);
        self.streams.push(id);
        self.replies.result(transaction_id, Value::Null, Value::Number(f64::from(id)));
    }

    fn request_publish(&mut self, request: Box<PublishRequest>) -> Control {
        self.publication = Publication::Requested { stream_id: request.message_stream_id, name: request.address.stream.clone() };
        Control::Publish(request)
    }

    fn refuse(&mut self, stream_id: u32, code: &'static str, description: String) -> Control {
        self.replies.status(stream_id, "error", code, &description);
        Control::Refused { code, description }
    }

    /// The message stream of the publication that the encoder calls `name`, with or without its query.
    fn published_as(&self, sent_name: &str) -> Option<u32> {
        match &self.publication {
            Publication::Live { stream_id, name } | Publication::Requested { stream_id, name } => {
                let path = sent_name.split('?').next().unwrap_or_default();
                (path.is_empty() || path == name).then_some(*stream_id)
            }
            Publication::None => None,
        }
    }

    /// Ends the publication if it is on this message stream.
    fn unpublish(&mut self, on_stream_id: u32, cause: EndCause) -> Option<Control> {
        match self.publication {
            Publication::Live { stream_id, .. } | Publication::Requested { stream_id, .. } if stream_id == on_stream_id => {
                self.replies.status(stream_id, "status", UNPUBLISH_SUCCESS, "The stream has ended.");
                self.publication = Publication::None;
                Some(Control::PublishEnd(cause))
            }
            _ => None,
        }
    }
}

fn publish_request(connect: &Connect, message_stream_id: u32, command: &Command) -> Result<Box<PublishRequest>, NameError> {
    Ok(Box::new(PublishRequest {
        address: PushAddress::new(&connect.address, command.argument(0))?,
        encoder: connect.encoder.clone(),
        publish_type: match command.argument(1).as_str() {
            Some("record") => PublishType::Record,
            Some("append") => PublishType::Append,
            _ => PublishType::Live,
        },
        message_stream_id,
    }))
}

/// The front of `text`, at most `bytes_max` bytes.
fn shorten(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
