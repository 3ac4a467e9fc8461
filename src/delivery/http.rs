//! A request as it is read from the wire, and an answer as it is sent.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::segment::moves::{FileKey, MOVES, locate};

/// Largest head of a request: browsers send below 4 KiB, signed addresses add a few hundred bytes.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// Largest text that is read as a whole: three weeks of segments of four seconds.
pub const TEXT_BYTES_MAX: u64 = 64 << 20;

/// What an answer depends on, wherever the request came from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Path and query, as the bytes came.
    pub target: &'a str,
    pub headers: &'a [(String, String)],
    pub peer: Option<IpAddr>,
}

impl<'a> Request<'a> {
    pub fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// The query without `?`, not decoded.
    pub fn query(&self) -> &'a str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The first header of that name, any case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

#[derive(Debug)]
pub enum Body {
    Bytes(Vec<u8>),
    File(FileBody),
}

impl Body {
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.length,
        }
    }
}

impl Answer {
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Bytes(Vec::new()) }
    }

    pub fn text(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut answer = Self::empty(status).with("Content-Type", content_type);
        answer.body = Body::Bytes(body.into());
        answer
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Nothing of a file from this byte on is in it.
    pub fn ends_before(&self, end: u64) -> bool {
        match &self.body {
            Body::Bytes(_) => true,
            Body::File(file) => file.start + file.length <= end,
        }
    }

    /// Media type and body of a text.
    ///
    /// # Errors
    /// If it cannot be read, is no UTF-8 or larger than [`TEXT_BYTES_MAX`].
    pub fn into_text(self) -> io::Result<(String, String)> {
        let content_type = self.header("Content-Type").unwrap_or("application/octet-stream").to_owned();
        let length = self.body.length();
        if length > TEXT_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let text = match self.body {
            Body::Bytes(bytes) => String::from_utf8(bytes).map_err(io::Error::other)?,
            Body::File(mut file) => {
                let mut text = String::with_capacity(length as usize);
                file.read_to_string(&mut text)?;
                text
            }
        };
        Ok((content_type, text))
    }
}

/// An open file as it is addressed by readers.
#[derive(Clone, Debug)]
pub struct Stored {
    pub file: Arc<File>,
    /// Of what readers address.
    pub length: u64,
    /// Unix seconds and nanoseconds of its last change.
    pub modified: (i64, i64),
    /// Set for parts of playlists, which are addressed as they were recorded: the file, and how far its bytes had moved when it was opened.
    pub moved: Option<(FileKey, u64)>,
}

/// A stretch of an open file.
#[derive(Clone, Debug)]
pub struct FileBody {
    pub stored: Stored,
    /// As readers address it.
    pub start: u64,
    pub length: u64,
}

impl FileBody {
    /// Runs `act` on the next bytes, at their real offset and at most `count_max` of them; `act` says how many are done.
    /// `None`: the file's bytes move just now.
    pub fn step(&mut self, count_max: u64, act: impl FnOnce(&File, u64, u64) -> io::Result<u64>) -> Option<io::Result<u64>> {
        let count_max = count_max.min(self.length);
        let file = Arc::clone(&self.stored.file);
        let done = match self.stored.moved {
            None => act(&file, self.start, count_max),
            Some((key, known)) => MOVES.try_read(key, known, |shift| {
                let (offset, follow) = locate(self.start, shift);
                act(&file, offset, count_max.min(follow))
            })?,
        };
        if let Ok(count) = &done {
            self.start += count;
            self.length -= count;
        }
        Some(done)
    }
}

impl Read for FileBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let space = buffer.len() as u64;
            let read = self.step(space, |file, offset, count| file.read_at(&mut buffer[..count as usize], offset).map(|count| count as u64));
            match read {
                Some(read) => return read.map(|count| count as usize),
                // An insertion takes well below a millisecond.
                None => std::thread::yield_now(),
            }
        }
    }
}

/// What the bytes of a connection begin with.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    Head(Head),
    /// Answered with this status, then the connection is closed.
    Bad {
        status: u16,
        why: &'static str,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head.
    pub bytes: usize,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    /// Another request may follow on the connection.
    pub keep_alive: bool,
}

/// Reads the head of a request (RFC 9112). Bodies are refused: nothing here takes one.
pub fn parse(input: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let bytes = match request.parse(input) {
        Ok(httparse::Status::Complete(bytes)) if bytes <= HEAD_BYTES_MAX => bytes,
        Ok(httparse::Status::Partial) if input.len() < HEAD_BYTES_MAX => return Parsed::Partial,
        Ok(_) => return Parsed::Bad { status: 431, why: "The request's head is larger than 16 KiB." },
        Err(httparse::Error::TooManyHeaders) => return Parsed::Bad { status: 431, why: "The request has more than 64 headers." },
        Err(httparse::Error::Version) => return Parsed::Bad { status: 505, why: "Only HTTP/1.0 and HTTP/1.1 are spoken here." },
        Err(_) => return Parsed::Bad { status: 400, why: "The request is not HTTP." },
    };
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let is_1_1 = request.version == Some(1);
    let mut named = Vec::with_capacity(request.headers.len());
    for header in request.headers.iter() {
        match std::str::from_utf8(header.value) {
            Ok(value) => named.push((header.name.to_owned(), value.trim().to_owned())),
            Err(_) => return Parsed::Bad { status: 400, why: "A header is not UTF-8." },
        }
    }
    let all = |name: &'static str| named.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    let hosts = all("Host").count();
    if hosts > 1 || (is_1_1 && hosts == 0) {
        return Parsed::Bad { status: 400, why: "The request needs one Host header." };
    }
    if all("Transfer-Encoding").next().is_some() || all("Content-Length").any(|length| length != "0") {
        return Parsed::Bad { status: 413, why: "Requests with a body are not taken here." };
    }
    let option = |wanted: &str| all("Connection").flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case(wanted));
    let keep_alive = if is_1_1 { !option("close") } else { option("keep-alive") };
    // The absolute form is for proxies, and has to be understood (RFC 9112, 3.2.2).
    let target = match target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    Parsed::Head(Head { bytes, method: method.to_owned(), target: target.to_owned(), headers: named, keep_alive })
}

/// Any bytes: what is read of them is the same when they come in two pieces.
pub fn fuzz_head(data: &[u8]) {
    if let Parsed::Head(head) = parse(data) {
        assert!(head.bytes <= data.len() && head.bytes <= HEAD_BYTES_MAX);
        assert_eq!(parse(&data[..head.bytes]), Parsed::Head(head));
    }
}

pub const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        412 => "Precondition Failed",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Answer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(HEAD_BYTES_MAX));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
        type Case<'a> = (&'a str, Result<(&'a str, bool), u16>);
        let cases: &[Case] = &[
            ("GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n", Ok(("/a?b=c", true))),
            ("GET /a HTTP/1.1\r\nhost: x\r\nConnection: foo, Close\r\n\r\n", Ok(("/a", false))),
            ("GET /a HTTP/1.0\r\n\r\n", Ok(("/a", false))),
            ("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Ok(("/a", true))),
            ("GET http://x:1/a/b HTTP/1.1\r\nHost: x:1\r\n\r\n", Ok(("/a/b", true))),
            ("GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", Ok(("/", true))),
            ("GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", Ok(("/a", true))),
            ("GET /a HTTP/1.1\r\n\r\n", Err(400)),
            ("GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", Err(400)),
            ("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", Err(413)),
            ("GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", Err(413)),
            ("GET /a HTTP/2.0\r\nHost: x\r\n\r\n", Err(505)),
            ("GET /a\u{7f} HTTP/1.1\r\n\r\n", Err(400)),
            ("\x16\x03\x01\x02\0\x01", Err(400)),
            (&long, Err(431)),
            (&many, Err(431)),
        ];
        for (text, expected) in cases {
            let found = match parse(text.as_bytes()) {
                Parsed::Head(head) => Ok((head.target, head.keep_alive)),
                Parsed::Bad { status, .. } => Err(status),
                Parsed::Partial => panic!("{text:.60}"),
            };
            assert_eq!(found.as_ref().map(|(target, keep)| (target.as_str(), *keep)).map_err(|status| *status), *expected, "{text:.60}");
        }
        let whole = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), Parsed::Partial, "{cut}");
        }
        assert!(matches!(parse(&vec![b'G'; HEAD_BYTES_MAX + 1]), Parsed::Bad { status: 431, .. }));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), valid in proptest::bool::ANY) {
            if valid {
                bytes.splice(0..0, *b"GET /a HTTP/1.1\r\nHost: x\r\nX: ");
                bytes.extend_from_slice(b"\r\n\r\n");
            }
            fuzz_head(&bytes);
        }
    }
}
