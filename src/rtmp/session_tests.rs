use proptest::prelude::*;

use super::*;
use crate::rtmp::amf::{decode_all, encode_all};
use crate::rtmp::chunk_writer::ChunkWriter;
use crate::rtmp::error::ErrorKind;
use crate::rtmp::fuzz::{OwnedEvent, fuzz_session, run_session};
use crate::rtmp::handshake::BLOCK_BYTES;
use crate::wire::Put;

/// What an encoder sends.
struct Client {
    bytes: Vec<u8>,
    writer: ChunkWriter,
}

impl Client {
    fn new() -> Self {
        let mut bytes = vec![3];
        bytes.resize(1 + 2 * BLOCK_BYTES, 0);
        Self { bytes, writer: ChunkWriter::default() }
    }

    fn connected() -> Self {
        Self::new().command(3, 0, "connect", 1.0, &[connect_object("live", "rtmp://Push.Example.com:1935/live", 0.0)])
    }

    fn publishing() -> Self {
        Self::connected().command(3, 0, "createStream", 2.0, &[Value::Null]).publish(3.0, "cam1")
    }

    fn message(mut self, chunk_stream_id: u32, message_stream_id: u32, type_id: u8, timestamp_ms: u32, body: &[u8]) -> Self {
        let header = MessageHeader { chunk_stream_id, timestamp_ms, type_id, message_stream_id };
        self.writer.write(&header, body, &mut self.bytes);
        self
    }

    fn command(self, csid: u32, message_stream_id: u32, name: &str, transaction_id: f64, values: &[Value]) -> Self {
        let body = command_body(name, transaction_id, values);
        self.message(csid, message_stream_id, message_type::COMMAND_AMF0, 0, &body)
    }

    fn publish(self, transaction_id: f64, name: &str) -> Self {
        self.command(4, 1, "publish", transaction_id, &[Value::Null, Value::string(name), Value::string("live")])
    }

    fn chunk_bytes(mut self, chunk_bytes: u32) -> Self {
        self = self.message(2, 0, message_type::SET_CHUNK_SIZE, 0, &chunk_bytes.to_be_bytes());
        self.writer.set_chunk_bytes(chunk_bytes);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.put(bytes);
        self
    }
}

fn command_body(name: &str, transaction_id: f64, values: &[Value]) -> Vec<u8> {
    encode_all(&[&[Value::string(name), Value::Number(transaction_id)], values].concat())
}

fn connect_object(app: &str, tc_url: &str, object_encoding: f64) -> Value {
    Value::object(&[
        ("app", Value::string(app)),
        ("type", Value::string("nonprivate")),
        ("flashVer", Value::string("FMLE/3.0 (compatible; test)")),
        ("tcUrl", Value::string(tc_url)),
        ("objectEncoding", Value::Number(object_encoding)),
    ])
}

#[test]
fn enhanced_clients_are_told_what_is_taken() {
    let answer = |extra: &[(&str, Value)]| {
        let Value::Object(mut properties) = connect_object("live", "rtmp://a.example/live", 0.0) else { panic!("an object") };
        properties.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let client = Client::new().command(3, 0, "connect", 1.0, &[Value::Object(properties)]);
        let mut session = Session::new(SessionConfig::default(), [7; RANDOM_BYTES]);
        let mut consumed = 0;
        assert!(session.poll(&client.bytes, &mut consumed).unwrap().is_none());
        session.request_reconnect("The server is shutting down.");
        replies(&session.output()[1 + 2 * BLOCK_BYTES..])
            .into_iter()
            .filter_map(|reply| match reply {
                Reply::Command(_, values) => Some(values),
                Reply::Other(..) => None,
            })
            .collect::<Vec<_>>()
    };
    let old = answer(&[]);
    assert_eq!((old.len(), old[0][2].get("capsEx"), old[0][2].get("fourCcList")), (1, None, None));
    let new = answer(&[("fourCcList", Value::StrictArray(vec![Value::string("hvc1")])), ("capsEx", Value::Number(1.0))]);
    assert_eq!(new[0][2].get("capsEx"), Some(&Value::Number(15.0)));
    let Some(Value::StrictArray(list)) = new[0][2].get("fourCcList") else { panic!("a list") };
    assert!(["hvc1", "av01", "vp09", "Opus", "fLaC", "ac-3", "ec-3"].iter().all(|name| list.contains(&Value::string(name))));
    assert_eq!(new[1][3].get("code").and_then(Value::as_str), Some("NetConnection.Connect.ReconnectRequest"));
}

fn metadata() -> Value {
    Value::EcmaArray(vec![("width".into(), Value::Number(1280.0)), ("encoder".into(), Value::string("Lavf"))])
}

fn media(kind: MediaKind, timestamp_ms: u32, body: &[u8]) -> OwnedEvent {
    OwnedEvent::Media(kind, timestamp_ms, body.to_vec())
}

/// The events of `bytes`, the same whole and at every cut.
fn events(name: &str, bytes: &[u8]) -> (Vec<OwnedEvent>, Option<SessionError>) {
    let whole = run_session(std::iter::once(bytes));
    // The handshake has its own tests; the cuts begin at its end.
    for cut in (2 * BLOCK_BYTES).min(bytes.len())..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(run_session([head, tail].into_iter()), whole, "{name}, cut at {cut}");
    }
    assert_eq!(run_session(bytes.chunks(1)), whole, "{name}, byte by byte");
    whole
}

fn publish_event(stream: &str, query: &str, message_stream_id: u32) -> OwnedEvent {
    OwnedEvent::Publish(Box::new(PublishRequest {
        address: PushAddress {
            tc_url: "rtmp://Push.Example.com:1935/live".into(),
            host: "push.example.com".into(),
            app: "live".into(),
            stream: stream.into(),
            query: query.into(),
        },
        encoder: "FMLE/3.0 (compatible; test)".into(),
        publish_type: PublishType::Live,
        message_stream_id,
    }))
}

/// Replies as the encoder reads them: commands as their values, other messages as type and bytes.
#[derive(PartialEq, Debug)]
enum Reply {
    Command(u32, Vec<Value>),
    Other(u8, Vec<u8>),
}

fn replies(output: &[u8]) -> Vec<Reply> {
    let mut reader = ChunkReader::default();
    let mut consumed = 0;
    let mut replies = Vec::new();
    while let Some(header) = reader.next_message(output, &mut consumed).expect("replies are valid chunks") {
        let body = reader.payload(output).to_vec();
        replies.push(match header.type_id {
            message_type::COMMAND_AMF0 => Reply::Command(header.message_stream_id, decode_all(&body).unwrap()),
            type_id => Reply::Other(type_id, body),
        });
    }
    replies
}

/// The session after `client`, every publish accepted, and the replies in short: name, transaction id, and code or value.
fn replies_in_short(client: &Client) -> Vec<String> {
    let mut session = Session::new(SessionConfig::default(), [1; RANDOM_BYTES]);
    let mut consumed = 0;
    while let Some(event) = session.poll(&client.bytes, &mut consumed).unwrap() {
        if matches!(event, Event::Publish(_)) {
            session.accept_publish();
        }
    }
    replies(&session.output()[1 + 2 * BLOCK_BYTES..])
        .iter()
        .map(|reply| match reply {
            Reply::Other(type_id, body) => format!("{type_id}:{body:?}"),
            Reply::Command(stream_id, values) => {
                let last = values.last().unwrap();
                let last = last.get("code").unwrap_or(last);
                let last = last.as_str().map_or_else(|| format!("{last:?}"), str::to_owned);
                format!("{}@{stream_id} {} {last}", values[0].as_str().unwrap(), values[1].as_number().unwrap())
            }
        })
        .collect()
}

const VIDEO: &[u8] = b"\x17\x01\0\0\0video";
const AUDIO: &[u8] = b"\xaf\x01audio";

/// libavformat/rtmpproto.c: everything on chunk stream 3 or 8, metadata and media on 4 and 6 and 8, types 1 and 3 wherever they fit.
fn ffmpeg() -> Client {
    let body = encode_all(&[Value::string("@setDataFrame"), Value::string("onMetaData"), metadata()]);
    Client::connected()
        .message(2, 0, message_type::WINDOW_ACKNOWLEDGEMENT_SIZE, 0, &2_500_000_u32.to_be_bytes())
        .chunk_bytes(65_536)
        .command(3, 0, "releaseStream", 2.0, &[Value::Null, Value::string("cam1?token=a")])
        .command(3, 0, "FCPublish", 3.0, &[Value::Null, Value::string("cam1?token=a")])
        .command(3, 0, "createStream", 4.0, &[Value::Null])
        .command(8, 1, "publish", 5.0, &[Value::Null, Value::string("cam1?token=a"), Value::string("live")])
        .message(4, 1, message_type::DATA_AMF0, 0, &body)
        .message(6, 1, message_type::VIDEO, 0, VIDEO)
        .message(4, 1, message_type::AUDIO, 23, AUDIO)
        // Type 1 with a delta of 40, then the same again as type 3.
        .raw(&[0x46, 0, 0, 40, 0, 0, 3, 9])
        .raw(b"\x27\x01a\xc6\x27\x01b")
        .command(3, 0, "FCUnpublish", 6.0, &[Value::Null, Value::string("cam1?token=a")])
        .command(3, 0, "deleteStream", 7.0, &[Value::Null, Value::Number(1.0)])
}

/// OBS, with its librtmp: media on chunk stream 4, chunks of 4096 bytes.
fn obs() -> Client {
    let body = encode_all(&[Value::string("@setDataFrame"), Value::string("onMetaData"), metadata()]);
    Client::connected()
        .chunk_bytes(4096)
        .message(2, 0, message_type::WINDOW_ACKNOWLEDGEMENT_SIZE, 0, &2_500_000_u32.to_be_bytes())
        .command(3, 0, "releaseStream", 2.0, &[Value::Null, Value::string("cam1")])
        .command(3, 0, "FCPublish", 3.0, &[Value::Null, Value::string("cam1")])
        .command(3, 0, "createStream", 4.0, &[Value::Null])
        .publish(5.0, "cam1")
        .message(4, 1, message_type::DATA_AMF0, 0, &body)
        .message(4, 1, message_type::VIDEO, 0, VIDEO)
        .message(4, 1, message_type::AUDIO, 5, AUDIO)
        .message(4, 1, message_type::VIDEO, 33, &[VIDEO, &[1; 4100]].concat())
        .command(3, 0, "FCUnpublish", 6.0, &[Value::Null, Value::string("cam1")])
        .command(3, 0, "deleteStream", 7.0, &[Value::Null, Value::Number(1.0)])
}

/// GStreamer's rtmp2sink: transaction 0 where no answer is awaited, data without @setDataFrame, deleteStream only.
fn gstreamer() -> Client {
    let body = encode_all(&[Value::string("onMetaData"), metadata()]);
    Client::connected()
        .chunk_bytes(60_000)
        .command(3, 0, "releaseStream", 0.0, &[Value::Null, Value::string("cam1")])
        .command(3, 0, "FCPublish", 0.0, &[Value::Null, Value::string("cam1")])
        .command(3, 0, "createStream", 2.0, &[Value::Null])
        .publish(0.0, "cam1")
        .message(4, 1, message_type::DATA_AMF0, 0, &body)
        .message(6, 1, message_type::VIDEO, 7, VIDEO)
        .message(5, 1, message_type::AUDIO, 9, AUDIO)
        .command(3, 0, "deleteStream", 0.0, &[Value::Null, Value::Number(1.0)])
}

#[test]
fn the_flows_of_three_encoders() {
    let data = encode_all(&[Value::string("onMetaData"), metadata()]);
    let key = [VIDEO, &[1; 4100]].concat();
    use MediaKind::{Audio, Data, Video};
    let cases = [
        (
            "FFmpeg",
            ffmpeg(),
            vec![
                publish_event("cam1", "token=a", 1),
                media(Data, 0, &data),
                media(Video, 0, VIDEO),
                media(Audio, 23, AUDIO),
                media(Video, 40, b"\x27\x01a"),
                media(Video, 80, b"\x27\x01b"),
                OwnedEvent::PublishEnd(EndCause::FcUnpublish),
            ],
        ),
        (
            "OBS",
            obs(),
            vec![
                publish_event("cam1", "", 1),
                media(Data, 0, &data),
                media(Video, 0, VIDEO),
                media(Audio, 5, AUDIO),
                media(Video, 33, &key),
                OwnedEvent::PublishEnd(EndCause::FcUnpublish),
            ],
        ),
        (
            "GStreamer",
            gstreamer(),
            vec![
                publish_event("cam1", "", 1),
                media(Data, 0, &data),
                media(Video, 7, VIDEO),
                media(Audio, 9, AUDIO),
                OwnedEvent::PublishEnd(EndCause::DeleteStream),
            ],
        ),
    ];
    for (name, client, expected) in cases {
        assert_eq!(events(name, &client.bytes), (expected, None), "{name}");
    }
}

#[test]
fn what_encoders_are_answered() {
    // Set Chunk Size is obeyed by the reader and not seen here; without it the result would not be readable.
    let connect = ["5:[0, 76, 75, 64]", "6:[0, 76, 75, 64, 2]", "_result@0 1 NetConnection.Connect.Success"].map(str::to_owned);
    let cases: [(&str, Client, &[&str]); 3] = [
        (
            "FFmpeg",
            ffmpeg(),
            &[
                "_result@0 2 Undefined",
                "_result@0 3 Undefined",
                "onFCPublish@0 0 NetStream.Publish.Start",
                "_result@0 4 Number(1.0)",
                "4:[0, 0, 0, 0, 0, 1]",
                "onStatus@1 0 NetStream.Publish.Start",
                "_result@0 6 Undefined",
                "onFCUnpublish@0 0 NetStream.Unpublish.Success",
                "onStatus@1 0 NetStream.Unpublish.Success",
            ],
        ),
        (
            "GStreamer",
            gstreamer(),
            &[
                "onFCPublish@0 0 NetStream.Publish.Start",
                "_result@0 2 Number(1.0)",
                "4:[0, 0, 0, 0, 0, 1]",
                "onStatus@1 0 NetStream.Publish.Start",
                "onStatus@1 0 NetStream.Unpublish.Success",
            ],
        ),
        (
            "odds and ends",
            Client::connected()
                .command(3, 0, "_checkbw", 2.0, &[Value::Null])
                .command(3, 0, "getStreamLength", 3.0, &[Value::Null, Value::string("cam1")])
                .command(3, 0, "fly", 4.0, &[Value::Null])
                .command(3, 0, "fly", 0.0, &[Value::Null])
                .command(3, 0, "_result", 9.0, &[Value::Null])
                .message(2, 0, message_type::USER_CONTROL, 0, &[0, 6, 1, 2, 3, 4])
                .message(2, 0, message_type::USER_CONTROL, 0, &[0, 3, 0, 0, 0, 1, 0, 0, 11, 184])
                .message(2, 0, message_type::ACKNOWLEDGEMENT, 0, &[0, 0, 0, 1])
                .message(2, 0, message_type::SET_PEER_BANDWIDTH, 0, &[0, 0, 0, 1, 2])
                .command(3, 0, "createStream", 5.0, &[])
                .command(3, 0, "createStream", 6.0, &[])
                .command(3, 0, "deleteStream", 0.0, &[Value::Null, Value::Number(1.0)])
                .command(3, 0, "createStream", 7.0, &[])
                .command(8, 1, "play", 0.0, &[Value::Null, Value::string("cam1")]),
            &[
                "_result@0 2 Undefined",
                "_result@0 3 Number(0.0)",
                "_error@0 4 NetConnection.Call.Failed",
                "4:[0, 7, 1, 2, 3, 4]",
                "_result@0 5 Number(1.0)",
                "_result@0 6 Number(2.0)",
                "_result@0 7 Number(1.0)",
                "onStatus@1 0 NetStream.Play.StreamNotFound",
            ],
        ),
    ];
    for (name, client, expected) in cases {
        let expected = [&connect[..], &expected.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()].concat();
        assert_eq!(replies_in_short(&client), expected, "{name}");
    }
}

#[test]
fn ways_to_publish_and_to_stop() {
    let false_ = Value::Boolean(false);
    let cam1 = || publish_event("cam1", "", 1);
    let cases: Vec<(&str, Client, Vec<OwnedEvent>)> = vec![
        (
            "closeStream, and publish again",
            Client::publishing().command(4, 1, "closeStream", 0.0, &[Value::Null]).publish(4.0, "cam2"),
            vec![cam1(), OwnedEvent::PublishEnd(EndCause::CloseStream), publish_event("cam2", "", 1)],
        ),
        (
            "publish(false)",
            Client::publishing().command(4, 1, "publish", 0.0, &[Value::Null, false_]),
            vec![cam1(), OwnedEvent::PublishEnd(EndCause::CloseStream)],
        ),
        (
            "a second publish on the same message stream ends the first",
            Client::publishing().publish(4.0, "cam2").message(4, 1, 9, 0, VIDEO),
            vec![cam1(), OwnedEvent::PublishEnd(EndCause::SecondPublish), publish_event("cam2", "", 1), media(MediaKind::Video, 0, VIDEO)],
        ),
        (
            "a second publish on another message stream is refused, until the first has ended",
            Client::publishing()
                .command(3, 0, "createStream", 3.0, &[Value::Null])
                .command(4, 2, "publish", 4.0, &[Value::Null, Value::string("cam2"), Value::string("live")])
                .message(4, 2, 9, 0, VIDEO)
                .message(4, 1, 9, 1, VIDEO)
                .command(3, 0, "deleteStream", 0.0, &[Value::Null, Value::Number(1.0)])
                .command(4, 2, "publish", 5.0, &[Value::Null, Value::string("cam2"), Value::string("live")])
                .message(4, 2, 9, 2, VIDEO),
            vec![
                cam1(),
                OwnedEvent::Refused("NetStream.Publish.BadName"),
                media(MediaKind::Video, 1, VIDEO),
                OwnedEvent::PublishEnd(EndCause::DeleteStream),
                publish_event("cam2", "", 2),
                media(MediaKind::Video, 2, VIDEO),
            ],
        ),
        (
            "commands about other streams end nothing",
            Client::publishing()
                .command(3, 0, "FCUnpublish", 0.0, &[Value::Null, Value::string("cam2")])
                .command(3, 0, "deleteStream", 0.0, &[Value::Null, Value::Number(2.0)])
                .command(4, 2, "closeStream", 0.0, &[Value::Null])
                .message(4, 1, 9, 0, VIDEO),
            vec![cam1(), media(MediaKind::Video, 0, VIDEO)],
        ),
        (
            "media before publish and after its end is ignored",
            Client::connected()
                .message(4, 1, 9, 0, VIDEO)
                .publish(3.0, "cam1")
                .command(4, 1, "closeStream", 0.0, &[])
                .message(4, 1, 8, 0, AUDIO)
                .message(4, 1, 22, 0, AUDIO),
            vec![cam1(), OwnedEvent::PublishEnd(EndCause::CloseStream)],
        ),
        (
            "media on a wrong message stream, but not on another that was created",
            Client::publishing()
                .command(3, 0, "createStream", 3.0, &[])
                .message(4, 0, 9, 1, VIDEO)
                .message(4, 2, 9, 2, VIDEO)
                .message(4, 7, 9, 3, VIDEO),
            vec![cam1(), media(MediaKind::Video, 1, VIDEO), media(MediaKind::Video, 3, VIDEO)],
        ),
        (
            "empty messages and @clearDataFrame say nothing",
            Client::publishing()
                .message(4, 1, 8, 0, b"")
                .message(4, 1, 18, 0, &encode_all(&[Value::string("@setDataFrame")]))
                .message(4, 1, 15, 0, &[0])
                .message(4, 1, 18, 0, &encode_all(&[Value::string("@clearDataFrame"), Value::string("onMetaData")])),
            vec![cam1()],
        ),
        ("a shared object is no media", Client::publishing().message(4, 1, 19, 0, b"x").message(4, 1, 99, 0, b"y"), vec![cam1()]),
        ("play", Client::connected().command(8, 1, "play2", 0.0, &[Value::Null]), vec![OwnedEvent::Refused("NetStream.Play.StreamNotFound")]),
        ("an empty name", Client::connected().publish(3.0, "?a=b"), vec![OwnedEvent::Refused("NetStream.Publish.BadName")]),
        ("a long name", Client::connected().publish(3.0, &"x".repeat(300)), vec![OwnedEvent::Refused("NetStream.Publish.BadName")]),
        (
            "a name that is not UTF-8, then one that is",
            Client::connected().command(4, 1, "publish", 3.0, &[Value::Null, Value::Bytes(vec![0xd6, 0xd0])]).publish(4.0, "中文 ../%2F?a=b"),
            vec![OwnedEvent::Refused("NetStream.Publish.BadName"), publish_event("中文 ../%2F", "a=b", 1)],
        ),
        (
            "a bad name leaves the live publication alone",
            Client::publishing().publish(4.0, "").message(4, 1, 9, 0, VIDEO),
            vec![cam1(), OwnedEvent::Refused("NetStream.Publish.BadName"), media(MediaKind::Video, 0, VIDEO)],
        ),
    ];
    for (name, client, expected) in cases {
        assert_eq!(events(name, &client.bytes), (expected, None), "{name}");
    }
}

#[test]
fn amf3_commands_and_data() {
    let with_zero = |body: Vec<u8>| [&[0], &body[..]].concat();
    let publish = command_body("publish", 3.0, &[Value::Null, Value::string("cam1"), Value::string("record")]);
    let data = encode_all(&[Value::string("onMetaData"), metadata()]);
    let set_data = encode_all(&[Value::string("@setDataFrame"), Value::string("onMetaData"), metadata()]);
    let client = Client::new()
        .command(3, 0, "connect", 1.0, &[connect_object("live", "rtmp://Push.Example.com:1935/live", 3.0)])
        .message(3, 0, 17, 0, &with_zero(command_body("createStream", 2.0, &[Value::Null])))
        .message(3, 1, 17, 0, &publish)
        .message(4, 1, 15, 10, &with_zero(set_data.clone()))
        .message(4, 1, 15, 20, &set_data)
        .message(4, 1, 15, 30, &with_zero(data.clone()));
    let OwnedEvent::Publish(mut request) = publish_event("cam1", "", 1) else { unreachable!() };
    request.publish_type = PublishType::Record;
    let data = |timestamp_ms| media(MediaKind::Data, timestamp_ms, &data);
    assert_eq!(events("AMF3", &client.bytes), (vec![OwnedEvent::Publish(request), data(10), data(20), data(30)], None));
}

#[test]
fn aggregates_are_split_into_media() {
    let mut body = Vec::new();
    let mut sub = |type_id: u8, timestamp_ms: u32, bytes: &[u8]| {
        body.put_u8(type_id);
        body.put_u24(bytes.len() as u32);
        body.put_u24(timestamp_ms);
        body.put_u32(0);
        body.put(bytes);
        body.put_u32(bytes.len() as u32 + 11);
    };
    sub(9, 100, VIDEO);
    sub(1, 100, &[0, 0, 0, 0]);
    sub(8, 110, AUDIO);
    sub(8, 110, b"");
    sub(18, 120, &encode_all(&[Value::string("@setDataFrame"), Value::string("onCue")]));
    let client = Client::publishing().message(4, 1, 22, 5000, &body).message(4, 1, 8, 5033, AUDIO);
    let expected = vec![
        publish_event("cam1", "", 1),
        media(MediaKind::Video, 5000, VIDEO),
        media(MediaKind::Audio, 5010, AUDIO),
        media(MediaKind::Data, 5020, &encode_all(&[Value::string("onCue")])),
        media(MediaKind::Audio, 5033, AUDIO),
    ];
    assert_eq!(events("aggregate", &client.bytes), (expected.clone(), None));
    let torn = Client::publishing().message(4, 1, 22, 5000, &body[..body.len() - 5]);
    assert_eq!(events("torn aggregate", &torn.bytes), (expected[..3].to_vec(), Some(crate::rtmp::message::TornAggregate.into())));
}

#[test]
fn errors_end_the_session_and_have_a_kind() {
    let deep = [&[0x0a, 0, 0, 0, 1].repeat(40)[..], &[5]].concat();
    let cases: Vec<(&str, Vec<u8>, ErrorKind, &str)> = vec![
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), ErrorKind::NotRtmp, "the peer does not speak RTMP: its first bytes are an HTTP request"),
        ("RTMPE", vec![6; 10], ErrorKind::Handshake, "the peer asks for encrypted RTMP (RTMPE, version 6), which is not supported"),
        (
            "chunks",
            Client::new().raw(&[0xc9]).bytes,
            ErrorKind::Chunk,
            "chunk stream 9 begins with a type 3 chunk, which refers to a header never sent",
        ),
        (
            "large",
            Client::connected().raw(&[4, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0]).bytes,
            ErrorKind::MessageTooLarge,
            "a message of type 9 with 16777215 bytes; at most 8388608 are taken",
        ),
        ("AMF", Client::new().message(3, 0, 20, 0, &deep).bytes, ErrorKind::Amf, "the command is not valid AMF"),
        ("no name", Client::new().message(3, 0, 20, 0, &[5]).bytes, ErrorKind::Amf, "a command message without a command name"),
        ("no connect", Client::new().command(3, 0, "createStream", 2.0, &[]).bytes, ErrorKind::Protocol, "the command createStream before connect"),
        ("empty connect", Client::new().command(3, 0, "connect", 1.0, &[]).bytes, ErrorKind::Protocol, "connect without a command object"),
        (
            "connect twice",
            Client::connected().command(3, 0, "connect", 2.0, &[connect_object("a", "", 0.0)]).bytes,
            ErrorKind::Protocol,
            "a second connect on the same connection",
        ),
    ];
    for (name, bytes, kind, text) in cases {
        let error = events(name, &bytes).1.unwrap_or_else(|| panic!("{name} is an error"));
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, text), "{name}");
        let mut session = Session::new(SessionConfig::default(), [0; RANDOM_BYTES]);
        let mut consumed = 0;
        assert!(session.poll(&bytes, &mut consumed).is_err() || session.poll(&bytes, &mut consumed).is_err());
        assert_eq!((session.phase(), consumed), (Phase::Failed, bytes.len()), "{name}");
        consumed = 0;
        assert!(session.poll(b"more", &mut consumed).unwrap().is_none());
        assert_eq!(consumed, 4);
    }
}

#[test]
fn phases_and_decisions() {
    let mut session = Session::new(SessionConfig::default(), [0; RANDOM_BYTES]);
    assert_eq!(session.phase(), Phase::Handshake);
    let drain = |session: &mut Session| {
        let short = replies(session.output())
            .iter()
            .filter_map(|reply| match reply {
                Reply::Command(_, values) => values.last()?.get("code")?.as_str().map(str::to_owned),
                Reply::Other(..) => None,
            })
            .collect::<Vec<_>>();
        session.output_sent(session.output().len());
        short
    };
    session.poll(&Client::new().bytes, &mut 0).unwrap();
    assert_eq!(session.phase(), Phase::Connecting);
    session.output_sent(session.output().len());
    let later = |client: Client| client.bytes[1 + 2 * BLOCK_BYTES..].to_vec();
    session.poll(&later(Client::connected()), &mut 0).unwrap();
    assert_eq!(session.phase(), Phase::Connected);
    drain(&mut session);
    let publish = later(Client::new().publish(3.0, "cam1"));
    for reason in [RefuseReason::BadName, RefuseReason::Denied, RefuseReason::Failed] {
        assert!(matches!(session.poll(&publish, &mut 0), Ok(Some(Event::Publish(_)))));
        assert_eq!(session.phase(), Phase::PublishRequested);
        session.refuse_publish(reason, "no");
        assert_eq!((session.phase(), drain(&mut session)), (Phase::Connected, vec![reason.code().to_owned()]));
    }
    session.accept_publish();
    session.end("NetStream.Unpublish.Success", "nothing to end");
    assert_eq!((session.phase(), drain(&mut session)), (Phase::Connected, vec![]), "decisions without a request do nothing");

    assert!(matches!(session.poll(&publish, &mut 0), Ok(Some(Event::Publish(_)))));
    session.accept_publish();
    assert_eq!((session.phase(), drain(&mut session)), (Phase::Publishing, vec!["NetStream.Publish.Start".to_owned()]));
    let video = later(Client::new().message(6, 1, 9, 0, VIDEO));
    assert!(matches!(session.poll(&video, &mut 0), Ok(Some(Event::Media { .. }))));
    session.end("NetStream.Publish.BadName", "another publisher took the name over");
    assert_eq!((session.phase(), drain(&mut session)), (Phase::Connected, vec!["NetStream.Publish.BadName".to_owned()]));
    assert!(session.poll(&video, &mut 0).unwrap().is_none(), "media after the end is ignored");
    assert_eq!(session.messages_ignored(), 1);

    let twice = [publish.clone(), publish].concat();
    let mut consumed = 0;
    assert!(matches!(session.poll(&twice, &mut consumed), Ok(Some(Event::Publish(_)))));
    assert!(matches!(session.poll(&twice, &mut consumed), Err(SessionError::PublishUnanswered)));
}

#[test]
fn acknowledgements_follow_the_window_of_the_peer() {
    let mut session = Session::new(SessionConfig::default(), [0; RANDOM_BYTES]);
    let setup = Client::publishing().message(2, 0, 5, 0, &[0, 0, 0, 0]).message(2, 0, 5, 0, &1000_u32.to_be_bytes());
    let mut received = setup.bytes.len() as u32;
    let mut consumed = 0;
    while let Some(event) = session.poll(&setup.bytes, &mut consumed).unwrap() {
        assert!(matches!(event, Event::Publish(_)));
        session.accept_publish();
    }
    session.output_sent(session.output().len());
    let mut acknowledged = Vec::new();
    for _ in 0..10 {
        let video = &Client::new().message(6, 1, 9, 0, &[1; 300]).bytes[1 + 2 * BLOCK_BYTES..];
        let mut consumed = 0;
        while session.poll(video, &mut consumed).unwrap().is_some() {}
        received += video.len() as u32;
        for reply in replies(session.output()) {
            assert_eq!(reply, Reply::Other(3, received.to_be_bytes().to_vec()));
            acknowledged.push(received);
        }
        session.output_sent(session.output().len());
    }
    assert_eq!(acknowledged.len(), 3, "one at once, as the replies to connect were in its way, then one in four messages: {acknowledged:?}");
    // A sequence number beyond 2^32 wraps, and a peer that reads nothing gets no more of them.
    session.bytes_received += 1 << 32;
    session.acknowledge();
    assert_eq!(replies(session.output()), [Reply::Other(3, received.to_be_bytes().to_vec())]);
    for _ in 0..1000 {
        session.bytes_received += 1000;
        session.acknowledge();
    }
    assert!(session.output().len() < 2048);
}

#[test]
fn a_peer_that_never_reads_is_given_up() {
    let mut client = Client::connected();
    for _ in 0..1000 {
        client = client.command(3, 0, "unknown", 9.0, &[]);
    }
    assert_eq!(events_once(&client.bytes), Some(SessionError::RepliesUnread));
    let mut client = Client::connected();
    for _ in 0..5000 {
        client = client.message(2, 0, 4, 0, &[0, 6, 0, 0, 0, 0]);
    }
    assert_eq!(events_once(&client.bytes), Some(SessionError::RepliesUnread));
}

fn events_once(bytes: &[u8]) -> Option<SessionError> {
    run_session(std::iter::once(bytes)).1
}

#[test]
fn message_streams_are_bounded() {
    let mut client = Client::connected();
    for index in 0..=MESSAGE_STREAMS_MAX {
        client = client.command(3, 0, "createStream", 2.0 + index as f64, &[]);
    }
    let replies = replies_in_short(&client);
    assert_eq!(replies.iter().filter(|reply| reply.starts_with("_result")).count(), 1 + MESSAGE_STREAMS_MAX);
    assert!(replies.last().unwrap().starts_with("_error"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_damaged_session_never_panics(which in 0..3_usize, at in any::<prop::sample::Index>(), byte in any::<u8>(), seed in any::<u8>()) {
        let client = [ffmpeg, obs, gstreamer][which]();
        let mut chunks = client.bytes;
        let at = at.index(chunks.len() - 1 - 2 * BLOCK_BYTES) + 1 + 2 * BLOCK_BYTES;
        chunks[at] = byte;
        fuzz_session(&[&[0, seed], &chunks[..]].concat());
        fuzz_session(&[&[1, seed], &chunks[1 + 2 * BLOCK_BYTES..]].concat());
    }

    #[test]
    fn noise_never_panics(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_session(&data);
    }
}
