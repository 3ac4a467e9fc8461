//! The fuzz targets of the protocol, and what a session makes of pieces of input, for them and for the tests.

pub use super::amf::fuzz_amf;
use super::amf::{Value, encode_all};
pub use super::chunk::fuzz_chunk;
use super::chunk_writer::{ChunkWriter, MessageHeader};
pub use super::handshake::fuzz_handshake;
use super::handshake::{BLOCK_BYTES, RANDOM_BYTES};
use super::message::message_type;
use super::{EndCause, Event, MediaKind, PublishRequest, Session, SessionConfig, SessionError};

/// An event that outlives its input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum OwnedEvent {
    Publish(Box<PublishRequest>),
    Media(MediaKind, u32, Vec<u8>),
    PublishEnd(EndCause),
    Refused(&'static str),
}

/// The events of a session fed with `pieces`, every publish accepted, and the error that ended it.
pub(super) fn run_session<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<OwnedEvent>, Option<SessionError>) {
    let mut session = Session::new(SessionConfig::default(), [7; RANDOM_BYTES]);
    let mut events = Vec::new();
    for piece in pieces {
        let mut consumed = 0;
        loop {
            let event = match session.poll(piece, &mut consumed) {
                Ok(Some(Event::Publish(request))) => OwnedEvent::Publish(request),
                Ok(Some(Event::Media { kind, timestamp_ms, payload })) => {
                    assert!(!payload.is_empty());
                    OwnedEvent::Media(kind, timestamp_ms, payload.to_vec())
                }
                Ok(Some(Event::PublishEnd(cause))) => OwnedEvent::PublishEnd(cause),
                Ok(Some(Event::Refused { code, .. })) => OwnedEvent::Refused(code),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            };
            if matches!(event, OwnedEvent::Publish(_)) {
                session.accept_publish();
            }
            events.push(event);
        }
        assert_eq!(consumed, piece.len(), "all of the input is consumed");
        session.output_sent(session.output().len());
    }
    (events, None)
}

/// Whole or cut anywhere, the same events and the same error. The first byte says how far the session has got before `data` begins, the second
/// where it is cut.
pub fn fuzz_session(data: &[u8]) {
    let [stage, seed, data @ ..] = data else { return };
    let mut input = match stage % 4 {
        0 => Vec::new(),
        stage => opening(stage),
    };
    let opening_bytes = input.len();
    input.extend_from_slice(data);
    let whole = run_session(std::iter::once(&input[..]));
    let cut = opening_bytes + data.len() * usize::from(*seed) / 256;
    let (head, tail) = input.split_at(cut);
    let piece_bytes = usize::from(seed % 64) + 1;
    for parts in [run_session([head, tail].into_iter()), run_session(head.chunks(piece_bytes).chain(tail.chunks(1)))] {
        // Replies are taken away at the end of each input, so this one bound does depend on the cuts.
        if parts.1 != Some(SessionError::RepliesUnread) && whole.1 != Some(SessionError::RepliesUnread) {
            assert_eq!(parts, whole);
        }
    }
}

/// What a plain encoder sends first: the handshake, from `stage` 2 on connect, from 3 on publish.
fn opening(stage: u8) -> Vec<u8> {
    let mut out = vec![3];
    out.resize(1 + 2 * BLOCK_BYTES, 0);
    let mut command = |message_stream_id: u32, values: &[Value]| {
        let header = MessageHeader { chunk_stream_id: 3, timestamp_ms: 0, type_id: message_type::COMMAND_AMF0, message_stream_id };
        ChunkWriter::default().write(&header, &encode_all(values), &mut out);
    };
    if stage >= 2 {
        let object = Value::object(&[("app", Value::string("live")), ("tcUrl", Value::string("rtmp://host/live"))]);
        command(0, &[Value::string("connect"), Value::Number(1.0), object]);
    }
    if stage >= 3 {
        command(0, &[Value::string("createStream"), Value::Number(2.0), Value::Null]);
        command(1, &[Value::string("publish"), Value::Number(3.0), Value::Null, Value::string("cam1")]);
    }
    out
}
