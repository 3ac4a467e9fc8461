//! The head of an HTTP/1 request and a chunked body (RFC 9112), read strictly and with bounds.
//!
//! Everything a client sends passes here before the HTTP library sees it: whatever is ambiguous is refused, so that both of them always
//! agree about where a request ends.

use std::net::SocketAddr;

/// Largest head: request line and headers.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of one request; browsers send below 30.
pub const HEADERS_MAX: usize = 128;
/// A line with the size of a chunk and its extensions.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Trailers behind a chunked body; they are dropped.
const TRAILER_BYTES_MAX: usize = 4 << 10;

/// The header by which the gate tells who the client is. Clients cannot set it.
pub const PEER_HEADER: &str = "X-Capstan-Peer";

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    pub method: String,
    /// Origin form, ASCII: other bytes are percent-encoded.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub framing: Framing,
    pub expects_continue: bool,
    /// No request follows on this connection.
    pub close: bool,
}

/// Where the body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeadError {
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    #[error("the expectation cannot be met")]
    Expectation,
    #[error("the only transfer coding offered is chunked")]
    TransferCoding,
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
}

impl HeadError {
    pub fn http_status(self) -> u16 {
        match self {
            HeadError::Malformed(_) => 400,
            HeadError::Version => 505,
            HeadError::Expectation => 417,
            HeadError::TransferCoding => 501,
            HeadError::TooLarge(_) => 413,
        }
    }
}

/// Length of the head at the begin of `buffer` with the empty line behind it. `searched` bytes were looked at before.
pub fn find_end(buffer: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    buffer.get(from..)?.windows(4).position(|window| window == b"\r\n\r\n").map(|at| from + at + 4)
}

/// Parses a head that ends with its empty line.
///
/// # Errors
/// [`HeadError`]; the connection cannot go on after one.
pub fn parse(head: &[u8]) -> Result<Head, HeadError> {
    let head = head.strip_suffix(b"\r\n\r\n").ok_or(HeadError::Malformed("no empty line"))?;
    let mut lines = Lines { rest: Some(head) };
    let (method, target, minor) = request_line(lines.next().unwrap_or_default())?;
    let mut headers = Vec::new();
    for line in lines {
        if headers.len() == HEADERS_MAX {
            return Err(HeadError::Malformed("too many headers"));
        }
        headers.push(header(line)?);
    }
    let all = |name: &str| headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value).collect::<Vec<&[u8]>>();
    let framing = match (&all("Transfer-Encoding")[..], &all("Content-Length")[..]) {
        ([], []) => Framing::None,
        ([], [length]) => Framing::Length(content_length(length)?),
        ([coding], []) if minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        ([_], []) => return Err(HeadError::TransferCoding),
        _ => return Err(HeadError::Malformed("ambiguous body length")),
    };
    let expects_continue = match &all("Expect")[..] {
        [] => false,
        [value] if value.eq_ignore_ascii_case(b"100-continue") => minor == 1,
        _ => return Err(HeadError::Expectation),
    };
    let hosts = all("Host");
    if hosts.len() > 1 || (minor == 1 && hosts.is_empty()) {
        return Err(HeadError::Malformed("exactly one Host header is needed"));
    }
    // HTTP/1.0 clients close by default; those that do not ask for more than they need here.
    let close = minor == 0 || all("Connection").iter().any(|value| value.to_ascii_lowercase().windows(5).any(|word| word == b"close"));
    let headers = headers.into_iter().filter_map(|(name, value)| kept(name, value)).collect();
    Ok(Head { method, target, headers, framing, expects_continue, close })
}

/// Lines without their `\r\n`.
struct Lines<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        match rest.windows(2).position(|window| window == b"\r\n") {
            Some(at) => {
                self.rest = Some(&rest[at + 2..]);
                Some(&rest[..at])
            }
            None => self.rest.take(),
        }
    }
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn request_line(line: &[u8]) -> Result<(String, String, u8), HeadError> {
    let malformed = HeadError::Malformed("request line");
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else { return Err(malformed) };
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        other if other.starts_with(b"HTTP/") => return Err(HeadError::Version),
        _ => return Err(malformed),
    };
    if !is_token(method) || method.len() > 32 || target.iter().any(u8::is_ascii_control) {
        return Err(malformed);
    }
    // Clients that take us for a proxy send the absolute form.
    let absolute = target.strip_prefix(b"http://").map(|rest| rest.iter().position(|byte| *byte == b'/').map_or(&b"/"[..], |at| &rest[at..]));
    let target = absolute.unwrap_or(target);
    if !target.starts_with(b"/") {
        return Err(HeadError::Malformed("request target"));
    }
    // Typed into a shell, names beyond ASCII come unencoded.
    let mut text = String::with_capacity(target.len());
    for byte in target {
        if byte.is_ascii() {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok((String::from_utf8_lossy(method).into_owned(), text, minor))
}

fn header(line: &[u8]) -> Result<(&str, &[u8]), HeadError> {
    let malformed = HeadError::Malformed("header line");
    let at = line.iter().position(|byte| *byte == b':').ok_or(malformed)?;
    let (name, value) = (&line[..at], line[at + 1..].trim_ascii());
    if !is_token(name) || value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(malformed);
    }
    // A token is ASCII.
    Ok((std::str::from_utf8(name).map_err(|_| malformed)?, value))
}

fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    let malformed = HeadError::Malformed("Content-Length");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(malformed);
    }
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(malformed)
}

/// Headers for the handlers. Those about this connection end here; a value beyond ASCII belongs to none that we read.
fn kept(name: &str, value: &[u8]) -> Option<(String, String)> {
    const ENDS_HERE: [&str; 11] = [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Transfer-Encoding",
        "Content-Length",
        "Expect",
        "TE",
        "Trailer",
        "Upgrade",
        "HTTP2-Settings",
        PEER_HEADER,
    ];
    if ENDS_HERE.iter().any(|known| known.eq_ignore_ascii_case(name)) || !value.is_ascii() {
        return None;
    }
    Some((name.to_owned(), String::from_utf8_lossy(value).into_owned()))
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The head as the server behind the gate gets it: one request on a connection of its own, its body of known length.
    pub fn for_server(&self, peer: SocketAddr, body_bytes: usize) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("{PEER_HEADER}: {peer}\r\nContent-Length: {body_bytes}\r\nConnection: close\r\n\r\n"));
        text.into_bytes()
    }
}

/// A chunked body on its way in (RFC 9112, 7.1). Chunk extensions and trailers are dropped.
#[derive(Debug)]
pub struct Chunked {
    state: ChunkState,
    /// The line read so far.
    line: Vec<u8>,
    trailer_bytes: usize,
    body_bytes_max: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ChunkState {
    Size,
    Data { left: usize },
    DataEnd,
    Trailer,
    Done,
}

impl Chunked {
    pub fn new(body_bytes_max: usize) -> Self {
        Self { state: ChunkState::Size, line: Vec::new(), trailer_bytes: 0, body_bytes_max }
    }

    pub fn is_done(&self) -> bool {
        self.state == ChunkState::Done
    }

    /// Takes what belongs to the body from `input` and appends the data to `body`; returns the bytes taken, less than all only at the end.
    ///
    /// # Errors
    /// [`HeadError::Malformed`], [`HeadError::TooLarge`].
    pub fn push(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, HeadError> {
        let mut at = 0;
        while at < input.len() && !self.is_done() {
            if let ChunkState::Data { left } = self.state {
                let count = left.min(input.len() - at);
                body.extend_from_slice(&input[at..at + count]);
                at += count;
                self.state = if count == left { ChunkState::DataEnd } else { ChunkState::Data { left: left - count } };
                continue;
            }
            let byte = input[at];
            at += 1;
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() > CHUNK_LINE_BYTES_MAX {
                    return Err(HeadError::Malformed("chunk line"));
                }
                continue;
            }
            let Some(b'\r') = self.line.pop() else { return Err(HeadError::Malformed("chunk line")) };
            self.state = self.end_of_line(body.len())?;
            self.line.clear();
        }
        Ok(at)
    }

    fn end_of_line(&mut self, body_bytes: usize) -> Result<ChunkState, HeadError> {
        match self.state {
            ChunkState::Size => {
                let digits = self.line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
                let is_size = (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
                let size = std::str::from_utf8(digits).ok().filter(|_| is_size).and_then(|text| usize::from_str_radix(text, 16).ok());
                let size = size.ok_or(HeadError::Malformed("chunk size"))?;
                if size > self.body_bytes_max.saturating_sub(body_bytes) {
                    return Err(HeadError::TooLarge(self.body_bytes_max));
                }
                Ok(if size == 0 { ChunkState::Trailer } else { ChunkState::Data { left: size } })
            }
            ChunkState::DataEnd if self.line.is_empty() => Ok(ChunkState::Size),
            ChunkState::Trailer if self.line.is_empty() => Ok(ChunkState::Done),
            ChunkState::Trailer => {
                self.trailer_bytes += self.line.len();
                if self.trailer_bytes > TRAILER_BYTES_MAX { Err(HeadError::Malformed("trailers")) } else { Ok(ChunkState::Trailer) }
            }
            _ => Err(HeadError::Malformed("chunk end")),
        }
    }
}

/// Any bytes as a head: what is accepted is written for the server in a form that is accepted again and means the same.
pub fn fuzz_head(data: &[u8]) {
    let Some(end) = find_end(data, 0) else { return };
    assert_eq!(find_end(data, end - 1), Some(end));
    let Ok(head) = parse(&data[..end]) else { return };
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let again = head.for_server(peer, 7);
    assert!(again.is_ascii() && find_end(&again, 0) == Some(again.len()));
    // An HTTP/1.0 request may lack the Host that this form then lacks too.
    if let Ok(again) = parse(&again) {
        assert_eq!((&again.method, &again.target, &again.headers), (&head.method, &head.target, &head.headers));
        assert_eq!((again.framing, again.close, again.expects_continue), (Framing::Length(7), true, false));
    }
}

/// Any bytes as a chunked body: however they are cut, the result is the same.
pub fn fuzz_chunked(data: &[u8]) {
    const BYTES_MAX: usize = 64;
    let decode = |parts: &[&[u8]]| {
        let (mut decoder, mut body, mut taken) = (Chunked::new(BYTES_MAX), Vec::new(), 0);
        for part in parts {
            taken += decoder.push(part, &mut body)?;
        }
        assert!(body.len() <= BYTES_MAX);
        Ok::<_, HeadError>((decoder.is_done(), body, taken))
    };
    let whole = decode(&[data]);
    for cut in 0..=data.len() {
        let (head, tail) = data.split_at(cut);
        assert_eq!(decode(&[head, tail]), whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<Head, HeadError> {
        parse(text.as_bytes())
    }

    #[test]
    fn heads() {
        let head = parsed(
            "POST /?A=1 HTTP/1.1\r\nHost: x:1\r\ncontent-length: 5\r\nX-TC-Action:\tDescribe \r\nConnection: keep-alive\r\nX-Capstan-Peer: evil\r\n\r\n",
        );
        let expected = Head {
            method: "POST".to_owned(),
            target: "/?A=1".to_owned(),
            headers: vec![("Host".to_owned(), "x:1".to_owned()), ("X-TC-Action".to_owned(), "Describe".to_owned())],
            framing: Framing::Length(5),
            expects_continue: false,
            close: false,
        };
        assert_eq!(head, Ok(expected));
        let host = "Host: x\r\n";
        let framing = |lines: &str| parsed(&format!("POST / HTTP/1.1\r\n{host}{lines}\r\n")).map(|head| head.framing);
        assert_eq!(framing(""), Ok(Framing::None));
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        assert_eq!(framing("Transfer-Encoding: gzip\r\n"), Err(HeadError::TransferCoding));
        assert_eq!(framing("Transfer-Encoding: gzip, chunked\r\n"), Err(HeadError::TransferCoding));
        for lines in [
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 18446744073709551616\r\n",
        ] {
            assert!(matches!(framing(lines), Err(HeadError::Malformed(_))), "{lines}");
        }
        let line = |line: &str| parsed(&format!("{line}\r\n{host}\r\n"));
        assert_eq!(line("GET http://a:1/x?y HTTP/1.1").unwrap().target, "/x?y");
        assert_eq!(line("GET http://a HTTP/1.1").unwrap().target, "/");
        assert_eq!(line("GET /?N=新 HTTP/1.1").unwrap().target, "/?N=%E6%96%B0");
        assert!(line("GET / HTTP/1.0").unwrap().close);
        assert_eq!(line("GET / HTTP/2.0"), Err(HeadError::Version));
        for bad in [
            "",
            "GET /",
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "G\u{e9}T / HTTP/1.1",
            "GET x HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "GET /\x01 HTTP/1.1",
            "GET / http/1.1",
        ] {
            assert!(matches!(line(bad), Err(HeadError::Malformed(_))), "{bad:?}");
        }
        let with = |lines: &str| parsed(&format!("GET / HTTP/1.1\r\n{host}{lines}\r\n"));
        assert!(with("Connection: Keep-Alive, CLOSE\r\n").unwrap().close);
        assert!(with("Expect: 100-Continue\r\n").unwrap().expects_continue);
        assert_eq!(with("Expect: more\r\n"), Err(HeadError::Expectation));
        assert_eq!(with("Cookie: é\r\n").unwrap().headers.len(), 1);
        let many = "A: b\r\n".repeat(HEADERS_MAX);
        for bad in ["A b: c\r\n", "A : b\r\n", " A: b\r\n", "A\r\n", ": b\r\n", "A: b\n c\r\n", "A: b\0\r\n", "Host: y\r\n", &many] {
            assert!(matches!(with(bad), Err(HeadError::Malformed(_))), "{bad:.20?}");
        }
        assert!(parsed("GET / HTTP/1.1\r\n\r\n").is_err());
    }

    #[test]
    fn ends_are_found_at_every_cut() {
        let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
        for searched in 0..24 {
            assert_eq!(find_end(text, searched), Some(27), "{searched}");
        }
        assert_eq!(find_end(&text[..26], 0), None);
        assert_eq!(find_end(b"", 10), None);
    }

    #[test]
    fn chunked_bodies() {
        /// Whether the body ended, its data and the bytes taken; or whether it was refused for its size.
        type Outcome = Result<(bool, &'static [u8], usize), bool>;
        const CASES: &[(&[u8], Outcome)] = &[
            (b"3\r\nabc\r\n0\r\n\r\nrest", Ok((true, b"abc", 13))),
            (b"3;x=y\r\nabc\r\n00a\r\n0123456789\r\n0\r\nT: v\r\n\r\n", Ok((true, b"abc0123456789", 40))),
            (b"0\r\n\r\n", Ok((true, b"", 5))),
            (b"3\r\nab", Ok((false, b"ab", 5))),
            (b"41\r\n", Err(true)),
            (b"FFFFFFFF\r\n", Err(true)),
            (b"FFFFFFFFF\r\n", Err(false)),
            (b"\r\n", Err(false)),
            (b"-1\r\n", Err(false)),
            (b"3\nabc\r\n", Err(false)),
            (b"3\r\nabcd\r\n", Err(false)),
            (b"x\r\n", Err(false)),
        ];
        for (bytes, expected) in CASES {
            fuzz_chunked(bytes);
            let (mut decoder, mut body) = (Chunked::new(64), Vec::new());
            let outcome = decoder.push(bytes, &mut body).map(|taken| (decoder.is_done(), body.as_slice(), taken));
            assert_eq!(outcome.map_err(|error| matches!(error, HeadError::TooLarge(_))), *expected, "{:?}", String::from_utf8_lossy(bytes));
        }
        let mut endless = Chunked::new(64);
        assert!(endless.push(&[b'0'; CHUNK_LINE_BYTES_MAX + 1], &mut Vec::new()).is_err());
        let trailers = [b"0\r\n".to_vec(), b"A: b\r\n".repeat(TRAILER_BYTES_MAX)].concat();
        assert!(Chunked::new(64).push(&trailers, &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn any_chunks(text in "([0-9a-fA-F]{0,2}|\r\n|[;x]|[a-z]{0,3}){0,12}") {
            fuzz_chunked(text.as_bytes());
        }

        #[test]
        fn any_head(lines in "(GET|POST|X) (/|http://a|é|\\*){0,2}[a?&=%]{0,4} HTTP/[012]\\.[01]\r\n((Host|Content-Length|Connection|A|Expect|Transfer-Encoding): ?[0-9a-z é,-]{0,12}\r\n){0,4}\r\n") {
            fuzz_head(lines.as_bytes());
        }
    }
}
