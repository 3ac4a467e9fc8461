//! The publisher's side of RTMP (Adobe's specification 1.0): handshake, commands in AMF0, and reading what the server says. A machine without
//! sockets, so that one thread talks with thousands of connections at once.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};

/// Chunk size we announce.
pub const CHUNK_BYTES: usize = 4096;
/// Answers are commands: a longer message is a mistake.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

pub const TYPE_SET_CHUNK_SIZE: u8 = 1;
const TYPE_USER_CONTROL: u8 = 4;
pub const TYPE_AUDIO: u8 = 8;
pub const TYPE_VIDEO: u8 = 9;
pub const TYPE_DATA: u8 = 18;
const TYPE_COMMAND: u8 = 20;

/// Where to publish.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    app: String,
    url: String,
}

impl Target {
    /// Reads `rtmp://host[:port]/app`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("rtmp://").ok_or_else(|| format!("{url} does not begin with rtmp://"))?;
        let (host, app) = rest.split_once('/').ok_or_else(|| format!("{url} names no app"))?;
        let address = if host.contains(':') { host.to_owned() } else { format!("{host}:1935") };
        let address = address.to_socket_addrs().map_err(|error| format!("{address}: {error}"))?.next().ok_or("the host has no address")?;
        Ok(Self { address, app: app.to_owned(), url: url.to_owned() })
    }
}

/// A message from the server.
struct Message {
    kind: u8,
    body: Vec<u8>,
}

/// Header of the last message and the part that came of the next, per chunk stream.
#[derive(Default)]
struct ChunkStream {
    length: usize,
    kind: u8,
    body: Vec<u8>,
    extended: bool,
}

/// Takes chunks apart (section 5.3.1).
struct Reader {
    bytes: Vec<u8>,
    chunk_bytes: usize,
    streams: HashMap<u32, ChunkStream>,
}

impl Reader {
    fn new() -> Self {
        Self { bytes: Vec::new(), chunk_bytes: 128, streams: HashMap::new() }
    }

    /// One chunk from the front, if it is there in full: how many bytes it took, and the message it completed.
    fn chunk(&mut self) -> Result<Option<(usize, Option<Message>)>, String> {
        let bytes = &self.bytes;
        let number = |at: usize, count: usize| -> Option<usize> {
            Some(bytes.get(at..at + count)?.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)))
        };
        let Some(first) = number(0, 1) else { return Ok(None) };
        let (id, mut at) = match first & 0x3f {
            0 => (number(1, 1).map(|low| low + 64), 2),
            1 => (number(1, 2).map(|both| (both & 0xff) * 256 + (both >> 8) + 64), 3),
            id => (Some(id), 1),
        };
        let Some(id) = id else { return Ok(None) };
        let format = first >> 6;
        let header = [11, 7, 3, 0][format];
        if bytes.len() < at + header {
            return Ok(None);
        }
        let stream = self.streams.entry(id as u32).or_default();
        if format < 3 {
            stream.extended = number(at, 3) == Some(0xff_ffff);
        }
        if format < 2 {
            stream.length = number(at + 3, 3).unwrap_or(0);
            stream.kind = bytes[at + 6];
            if stream.length > MESSAGE_BYTES_MAX {
                return Err(format!("the server announces a message of {} bytes", stream.length));
            }
        }
        at += header + if stream.extended { 4 } else { 0 };
        let take = self.chunk_bytes.min(stream.length - stream.body.len());
        let Some(part) = bytes.get(at..at + take) else { return Ok(None) };
        stream.body.extend_from_slice(part);
        let complete = stream.body.len() == stream.length;
        let message = complete.then(|| Message { kind: stream.kind, body: std::mem::take(&mut stream.body) });
        Ok(Some((at + take, message)))
    }

    fn next(&mut self) -> Result<Option<Message>, String> {
        while let Some((used, message)) = self.chunk()? {
            self.bytes.drain(..used);
            match message {
                Some(Message { kind: TYPE_SET_CHUNK_SIZE, body }) if body.len() == 4 => {
                    self.chunk_bytes = (u32::from_be_bytes([body[0], body[1], body[2], body[3]]) as usize).max(1);
                }
                Some(message) => return Ok(Some(message)),
                None => {}
            }
        }
        Ok(None)
    }
}

/// How far a publisher has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Waits for S0, S1 and S2.
    Handshake,
    /// Waits for the answers to `connect`, `createStream` and `publish`.
    Connect,
    Create,
    Publish,
    Publishing,
}

/// S0, S1 and S2 (section 5.2).
const ANSWER_BYTES: usize = 1 + 1536 + 1536;

/// The publisher's side of one connection: bytes in, bytes out, no socket inside.
pub struct Client {
    stage: Stage,
    reader: Reader,
    pub stream_id: u32,
}

impl Client {
    /// `out` gets what goes first: C0 and C1 of the simple handshake, without digests.
    pub fn new(out: &mut Vec<u8>) -> Self {
        out.push(3);
        out.extend_from_slice(&[0; 8]);
        out.extend((0..1528usize).map(|index| (index * 7 + 13) as u8));
        Self { stage: Stage::Handshake, reader: Reader::new(), stream_id: 1 }
    }

    pub fn is_publishing(&self) -> bool {
        self.stage == Stage::Publishing
    }

    /// Takes what the server sent; `out` gets what must be sent, at the next message boundary.
    pub fn receive(&mut self, bytes: &[u8], target: &Target, name: &str, out: &mut Vec<u8>) -> Result<(), String> {
        self.reader.bytes.extend_from_slice(bytes);
        if self.stage == Stage::Handshake {
            if self.reader.bytes.len() < ANSWER_BYTES {
                return Ok(());
            }
            if self.reader.bytes[0] != 3 {
                return Err(format!("the server speaks version {}", self.reader.bytes[0]));
            }
            out.extend_from_slice(&self.reader.bytes[1..1537]);
            self.reader.bytes.drain(..ANSWER_BYTES);
            self.stage = Stage::Connect;
            connect(out, target);
        }
        while let Some(message) = self.reader.next()? {
            match message.kind {
                // Ping request: the same timestamp goes back.
                TYPE_USER_CONTROL if message.body.starts_with(&[0, 6]) => {
                    let pong = [&[0, 7], &message.body[2..]].concat();
                    self::message(out, 2, TYPE_USER_CONTROL, 0, 0, &pong);
                }
                TYPE_COMMAND => self.command(&message.body, name, out)?,
                _ => {}
            }
        }
        if self.reader.bytes.is_empty() {
            // Thousands of publishers: the handshake's three kilobytes are not kept.
            self.reader.bytes = Vec::new();
        }
        Ok(())
    }

    fn command(&mut self, body: &[u8], name: &str, out: &mut Vec<u8>) -> Result<(), String> {
        let mut values = Values(body);
        let verb = values.string().unwrap_or_default();
        let transaction = values.number();
        // Some servers know no releaseStream or FCPublish and say so; nobody minds.
        let minds = verb != "_error" || [Some(1.0), Some(4.0), Some(5.0)].contains(&transaction);
        if minds && let Some(code) = refusal(body) {
            return Err(code);
        }
        let is_result = verb == "_result";
        match self.stage {
            Stage::Connect if is_result && transaction == Some(1.0) => {
                self.stage = Stage::Create;
                for (verb, transaction, argument) in [("releaseStream", 2.0, Some(name)), ("FCPublish", 3.0, Some(name)), ("createStream", 4.0, None)]
                {
                    let mut body = command(verb, transaction);
                    body.push(0x05);
                    if let Some(argument) = argument {
                        string(&mut body, argument);
                    }
                    message(out, 3, TYPE_COMMAND, 0, 0, &body);
                }
            }
            Stage::Create if is_result && transaction == Some(4.0) => {
                // Command object (null), then the number.
                values.skip();
                self.stream_id = values.number().ok_or("createStream was answered without a stream id")? as u32;
                self.stage = Stage::Publish;
                let mut body = command("publish", 5.0);
                body.push(0x05);
                string(&mut body, name);
                string(&mut body, "live");
                message(out, 4, TYPE_COMMAND, 0, self.stream_id, &body);
            }
            Stage::Publish if contains(body, b"NetStream.Publish.Start") => self.stage = Stage::Publishing,
            _ => {}
        }
        Ok(())
    }

    /// The commands that end a publication.
    pub fn farewell(&self, name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut body = command("FCUnpublish", 6.0);
        body.push(0x05);
        string(&mut body, name);
        message(&mut out, 3, TYPE_COMMAND, 0, 0, &body);
        let mut body = command("deleteStream", 7.0);
        body.push(0x05);
        number(&mut body, f64::from(self.stream_id));
        message(&mut out, 3, TYPE_COMMAND, 0, 0, &body);
        out
    }
}

/// Chunk size and `connect`.
fn connect(out: &mut Vec<u8>, target: &Target) {
    message(out, 2, TYPE_SET_CHUNK_SIZE, 0, 0, &(CHUNK_BYTES as u32).to_be_bytes());
    let mut body = command("connect", 1.0);
    body.push(0x03);
    for (key, value) in
        [("app", target.app.as_str()), ("type", "nonprivate"), ("flashVer", "FMLE/3.0 (compatible; capstan-loadtest)"), ("tcUrl", &target.url)]
    {
        body.extend_from_slice(&(key.len() as u16).to_be_bytes());
        body.extend_from_slice(key.as_bytes());
        string(&mut body, value);
    }
    body.extend_from_slice(&[0, 0, 9]);
    message(out, 3, TYPE_COMMAND, 0, 0, &body);
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

/// The status code and what the server says to it, if the command reports an error.
fn refusal(body: &[u8]) -> Option<String> {
    let name = Values(body).string()?;
    let refused = name == "_error" || (name == "onStatus" && contains(body, b"\x00\x05error"));
    let start = body.windows(3).position(|window| window == b"Net").unwrap_or(body.len());
    let code: String = body[start..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'.').map(|byte| char::from(*byte)).collect();
    // The value behind the property's name: a string.
    let description = body.windows(DESCRIPTION.len()).position(|window| window == DESCRIPTION).and_then(|at| {
        let (length, text) = body[at + DESCRIPTION.len()..].split_first_chunk::<2>()?;
        text.get(..usize::from(u16::from_be_bytes(*length)))
    });
    let description = description.map(|text| format!(": {}", String::from_utf8_lossy(text))).unwrap_or_default();
    refused.then(|| format!("refused with {code}{description}"))
}

const DESCRIPTION: &[u8] = b"\x00\x0bdescription\x02";

/// A message with a full header (type 0) and its further chunks (type 3). Before [`TYPE_SET_CHUNK_SIZE`] only short ones may be written.
pub fn message(out: &mut Vec<u8>, chunk_stream: u8, kind: u8, timestamp_ms: u32, stream_id: u32, body: &[u8]) {
    out.push(chunk_stream);
    let field = timestamp_ms.min(0xff_ffff);
    out.extend_from_slice(&field.to_be_bytes()[1..]);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    out.push(kind);
    out.extend_from_slice(&stream_id.to_le_bytes());
    let extended = (field == 0xff_ffff).then_some(timestamp_ms);
    chunks(out, chunk_stream, extended, body);
}

/// A message with a timestamp delta (type 1 header).
pub fn delta_message(out: &mut Vec<u8>, chunk_stream: u8, kind: u8, delta_ms: u32, body: &[u8]) {
    assert!(delta_ms < 0xff_ffff, "a pause of more than four hours between two frames");
    out.push(0x40 | chunk_stream);
    out.extend_from_slice(&delta_ms.to_be_bytes()[1..]);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    out.push(kind);
    chunks(out, chunk_stream, None, body);
}

fn chunks(out: &mut Vec<u8>, chunk_stream: u8, extended: Option<u32>, body: &[u8]) {
    for (index, part) in body.chunks(CHUNK_BYTES).enumerate() {
        if index > 0 {
            out.push(0xc0 | chunk_stream);
        }
        if let Some(timestamp_ms) = extended {
            out.extend_from_slice(&timestamp_ms.to_be_bytes());
        }
        out.extend_from_slice(part);
    }
}

fn command(verb: &str, transaction: f64) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, verb);
    number(&mut body, transaction);
    body
}

fn string(body: &mut Vec<u8>, text: &str) {
    body.push(0x02);
    body.extend_from_slice(&(text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

fn number(body: &mut Vec<u8>, value: f64) {
    body.push(0x00);
    body.extend_from_slice(&value.to_be_bytes());
}

/// Reads AMF0 values from the front: strings, numbers, and enough to skip others.
struct Values<'a>(&'a [u8]);

impl Values<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.take(2).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))?;
        self.take(length).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn string(&mut self) -> Option<String> {
        (self.take(1)? == [0x02]).then(|| self.text())?
    }

    fn number(&mut self) -> Option<f64> {
        if self.take(1)? != [0x00] {
            return None;
        }
        self.take(8).map(|bytes| f64::from_be_bytes(bytes.try_into().expect("eight bytes")))
    }

    fn skip(&mut self) -> Option<()> {
        match self.take(1)?[0] {
            0x00 => self.take(8).map(drop),
            0x01 => self.take(1).map(drop),
            0x02 => self.text().map(drop),
            0x05 | 0x06 => Some(()),
            kind @ (0x03 | 0x08) => {
                if kind == 0x08 {
                    self.take(4)?;
                }
                while !self.text()?.is_empty() {
                    self.skip()?;
                }
                self.take(1).map(drop)
            }
            _ => None,
        }
    }
}
