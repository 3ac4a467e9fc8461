//! The publisher's side of RTMP (Adobe's specification 1.0): handshake, commands in AMF0, and reading what the server says.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Chunk size we announce.
pub const CHUNK_BYTES: usize = 4096;
/// A server that needs longer for one answer has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Answers are commands: a longer message is a mistake.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

pub const TYPE_SET_CHUNK_SIZE: u8 = 1;
const TYPE_USER_CONTROL: u8 = 4;
pub const TYPE_AUDIO: u8 = 8;
pub const TYPE_VIDEO: u8 = 9;
pub const TYPE_DATA: u8 = 18;
const TYPE_COMMAND: u8 = 20;

/// Where to publish.
pub struct Target {
    address: String,
    app: String,
    url: String,
}

impl Target {
    /// Reads `rtmp://host[:port]/app`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("rtmp://").ok_or_else(|| format!("{url} does not begin with rtmp://"))?;
        let (host, app) = rest.split_once('/').ok_or_else(|| format!("{url} names no app"))?;
        let address = if host.contains(':') { host.to_owned() } else { format!("{host}:1935") };
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
pub struct Reader {
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

/// A connection that publishes.
pub struct Connection {
    pub socket: TcpStream,
    reader: Reader,
    pub stream_id: u32,
}

impl Connection {
    /// Connects, shakes hands and publishes `name`; then the socket does not block any more.
    pub fn publish(target: &Target, name: &str) -> Result<Self, String> {
        let io = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        let address = target.address.to_socket_addrs().map_err(io("resolving"))?.next().ok_or("the host has no address")?;
        let mut socket = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT).map_err(io("connecting"))?;
        socket.set_nodelay(true).map_err(io("TCP_NODELAY"))?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(io("setting a time-out"))?;
        handshake(&mut socket).map_err(io("handshake"))?;
        let mut connection = Self { socket, reader: Reader::new(), stream_id: 1 };

        let mut out = Vec::new();
        message(&mut out, 2, TYPE_SET_CHUNK_SIZE, 0, 0, &(CHUNK_BYTES as u32).to_be_bytes());
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
        message(&mut out, 3, TYPE_COMMAND, 0, 0, &body);
        connection.write(&out)?;
        connection.answer("connect", 1.0)?;

        out.clear();
        for (verb, transaction, argument) in [("releaseStream", 2.0, Some(name)), ("FCPublish", 3.0, Some(name)), ("createStream", 4.0, None)] {
            let mut body = command(verb, transaction);
            body.push(0x05);
            if let Some(argument) = argument {
                string(&mut body, argument);
            }
            message(&mut out, 3, TYPE_COMMAND, 0, 0, &body);
        }
        connection.write(&out)?;
        let created = connection.answer("createStream", 4.0)?;
        // Command object (null), then the number.
        let mut values = Values(&created);
        values.skip();
        connection.stream_id = values.number().ok_or("createStream was answered without a stream id")? as u32;

        out.clear();
        let mut body = command("publish", 5.0);
        body.push(0x05);
        string(&mut body, name);
        string(&mut body, "live");
        message(&mut out, 4, TYPE_COMMAND, 0, connection.stream_id, &body);
        connection.write(&out)?;
        connection.published()?;
        connection.socket.set_nonblocking(true).map_err(io("setting non-blocking"))?;
        Ok(connection)
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

    /// Reads what is there without blocking; `replies` gets what must be sent at the next message boundary. `Ok(false)`: the server closed.
    pub fn drain(&mut self, replies: &mut Vec<u8>) -> Result<bool, String> {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => self.reader.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("reading: {error}")),
            }
        }
        while let Some(message) = self.reader.next()? {
            match message.kind {
                // Ping request: the same timestamp goes back.
                TYPE_USER_CONTROL if message.body.starts_with(&[0, 6]) => {
                    let pong = [&[0, 7], &message.body[2..]].concat();
                    self::message(replies, 2, TYPE_USER_CONTROL, 0, 0, &pong);
                }
                TYPE_COMMAND => refusal(&message.body).map_or(Ok(()), Err)?,
                _ => {}
            }
        }
        Ok(true)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.socket.write_all(bytes).map_err(|error| format!("writing a command: {error}"))
    }

    fn command(&mut self) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            while let Some(message) = self.reader.next()? {
                if message.kind == TYPE_COMMAND {
                    return Ok(message.body);
                }
            }
            if Instant::now() > deadline {
                return Err("no answer".to_owned());
            }
            let mut buffer = [0; 4096];
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err("the server closed the connection".to_owned()),
                Ok(count) => self.reader.bytes.extend_from_slice(&buffer[..count]),
                Err(error) => return Err(format!("waiting for an answer: {error}")),
            }
        }
    }

    /// What follows the transaction id in the answer to `transaction`.
    fn answer(&mut self, verb: &str, transaction: f64) -> Result<Vec<u8>, String> {
        loop {
            let body = self.command().map_err(|error| format!("{verb}: {error}"))?;
            let mut values = Values(&body);
            let name = values.string();
            if values.number() != Some(transaction) {
                continue;
            }
            return match name.as_deref() {
                Some("_result") => Ok(values.0.to_vec()),
                other => Err(format!("{verb} was answered with {other:?}")),
            };
        }
    }

    fn published(&mut self) -> Result<(), String> {
        loop {
            let body = self.command().map_err(|error| format!("publish: {error}"))?;
            if contains(&body, b"NetStream.Publish.Start") {
                return Ok(());
            }
            if let Some(code) = refusal(&body) {
                return Err(code);
            }
        }
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

/// The status code, if the command reports an error.
fn refusal(body: &[u8]) -> Option<String> {
    let name = Values(body).string()?;
    let refused = name == "_error" || (name == "onStatus" && contains(body, b"\x00\x05error"));
    let start = body.windows(3).position(|window| window == b"Net").unwrap_or(body.len());
    let code: String = body[start..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'.').map(|byte| char::from(*byte)).collect();
    refused.then(|| format!("refused with {code}"))
}

/// C0 C1, S0 S1 S2, C2 (section 5.2); the simple form, without digests.
fn handshake(socket: &mut TcpStream) -> std::io::Result<()> {
    let mut c0c1 = vec![0; 1537];
    c0c1[0] = 3;
    for (index, byte) in c0c1[9..].iter_mut().enumerate() {
        *byte = (index * 7 + 13) as u8;
    }
    socket.write_all(&c0c1)?;
    let mut answer = vec![0; 1 + 1536 + 1536];
    socket.read_exact(&mut answer)?;
    if answer[0] != 3 {
        return Err(std::io::Error::other(format!("the server speaks version {}", answer[0])));
    }
    socket.write_all(&answer[1..1537])
}

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
