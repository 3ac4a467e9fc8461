//! Do the FLV recordings hold every frame that was sent?

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::client::{TYPE_AUDIO, TYPE_VIDEO};
use crate::publish::Sent;

const POLL: Duration = Duration::from_millis(250);
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);
/// An API answer.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Reports of single streams on the error output; the rest is counted.
const REPORTS_MAX: u64 = 10;

#[derive(Serialize, Default)]
pub struct Verified {
    pub verified_streams: u64,
    pub verified_frames: u64,
    /// Streams whose files do not hold exactly the frames and media bytes sent.
    pub wrong_streams: u64,
    pub missing_frames: u64,
    pub surplus_frames: u64,
}

/// `place` is the server's HTTP address, or a folder: there only the sum over all files can be compared.
pub fn verify(place: &str, names: &[String], sent: &[Sent], patience: Duration) -> Result<Verified, String> {
    let deadline = Instant::now() + patience;
    let mut verified = Verified::default();
    let mut compare = |name: &str, expected: Sent, found: Sent| {
        verified.verified_streams += 1;
        verified.verified_frames += found.frames;
        verified.missing_frames += expected.frames.saturating_sub(found.frames);
        verified.surplus_frames += found.frames.saturating_sub(expected.frames);
        if expected.frames != found.frames || expected.media_bytes != found.media_bytes {
            verified.wrong_streams += 1;
            if verified.wrong_streams <= REPORTS_MAX {
                let [e, f] = [expected, found];
                eprintln!("loadtest: {name}: sent {} frames of {} bytes, recorded {} of {}", e.frames, e.media_bytes, f.frames, f.media_bytes);
            }
        }
    };
    if place.starts_with("http://") {
        for (name, expected) in names.iter().zip(sent) {
            loop {
                let found = recorded(place, name)?;
                if found.frames >= expected.frames || Instant::now() > deadline {
                    compare(name, *expected, found);
                    break;
                }
                std::thread::sleep(POLL);
            }
        }
    } else {
        let all =
            sent.iter().fold(Sent::default(), |sum, one| Sent { frames: sum.frames + one.frames, media_bytes: sum.media_bytes + one.media_bytes });
        let mut known = HashMap::new();
        loop {
            count_folder(Path::new(place), &mut known)?;
            let found = known
                .values()
                .fold(Sent::default(), |sum, one: &Sent| Sent { frames: sum.frames + one.frames, media_bytes: sum.media_bytes + one.media_bytes });
            if found.frames >= all.frames || Instant::now() > deadline {
                compare(place, all, found);
                break;
            }
            std::thread::sleep(POLL);
        }
    }
    Ok(verified)
}

/// All FLV files of the stream together, read from the addresses that the catalog gives.
fn recorded(base: &str, name: &str) -> Result<Sent, String> {
    let mut sum = Sent::default();
    let query = format!("/?Action=SearchMedia&Version=2018-07-17&StreamIds.0={name}&MediaTypes.0=flv&Limit=100");
    let mut body = Vec::new();
    get(base, &query)?.take(ANSWER_BYTES_MAX).read_to_end(&mut body).map_err(|error| format!("SearchMedia: {error}"))?;
    let answer: Value = serde_json::from_slice(&body).map_err(|error| format!("SearchMedia: {error}"))?;
    if let Some(error) = answer["Response"].get("Error") {
        return Err(format!("SearchMedia: {error}"));
    }
    for file in answer["Response"]["MediaInfoSet"].as_array().into_iter().flatten() {
        let url = file["BasicInfo"]["MediaUrl"].as_str().ok_or("a file without MediaUrl")?;
        let path_at =
            url.strip_prefix("http://").and_then(|rest| rest.find('/')).ok_or_else(|| format!("{url} is no http address"))? + "http://".len();
        let one = count(get(&url[..path_at], &url[path_at..])?)?;
        sum = Sent { frames: sum.frames + one.frames, media_bytes: sum.media_bytes + one.media_bytes };
    }
    Ok(sum)
}

/// The body of an HTTP answer with status 200 and a Content-Length.
fn get(base: &str, path: &str) -> Result<impl Read + use<>, String> {
    let address = base.strip_prefix("http://").ok_or("only http addresses")?.trim_end_matches('/');
    let io = |error: std::io::Error| format!("GET {path}: {error}");
    let mut socket = TcpStream::connect(address).map_err(io)?;
    socket.set_read_timeout(Some(HTTP_TIMEOUT)).map_err(io)?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").map_err(io)?;
    let mut reader = BufReader::with_capacity(256 << 10, socket);
    let mut line = String::new();
    reader.read_line(&mut line).map_err(io)?;
    if line.split(' ').nth(1) != Some("200") {
        return Err(format!("GET {path}: {}", line.trim()));
    }
    let mut length = None;
    loop {
        line.clear();
        reader.read_line(&mut line).map_err(io)?;
        let Some((key, value)) = line.split_once(':') else { break };
        if key.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<u64>().ok();
        }
    }
    let length = length.ok_or_else(|| format!("GET {path}: no Content-Length"))?;
    Ok(reader.take(length))
}

/// Audio and video tags of an FLV stream, without configuration and end-of-sequence tags.
fn count(mut file: impl Read) -> Result<Sent, String> {
    let io = |error: std::io::Error| format!("reading a recording: {error}");
    let mut sum = Sent::default();
    let mut head = [0; 13];
    file.read_exact(&mut head).map_err(io)?;
    if !head.starts_with(b"FLV\x01") {
        return Err("a recording is no FLV file".to_owned());
    }
    let mut body = Vec::new();
    loop {
        let mut header = [0; 11];
        match file.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(sum),
            Err(error) => return Err(io(error)),
        }
        let length = u64::from(u32::from_be_bytes([0, header[1], header[2], header[3]]));
        body.clear();
        file.by_ref().take(length + 4).read_to_end(&mut body).map_err(io)?;
        if body.len() as u64 != length + 4 {
            return Err("a recording ends within a tag".to_owned());
        }
        let frame = match (header[0] & 0x1f, body[0], body[1]) {
            (TYPE_VIDEO, first, packet) => first & 0x0f != 7 || packet == 1,
            (TYPE_AUDIO, first, packet) => first >> 4 != 10 || packet == 1,
            _ => false,
        };
        if frame {
            sum.frames += 1;
            sum.media_bytes += length;
        }
    }
}

/// Counts the FLV files below `folder` that are not yet `known`.
fn count_folder(folder: &Path, known: &mut HashMap<PathBuf, Sent>) -> Result<(), String> {
    let io = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_dir() {
            count_folder(&path, known)?;
        } else if path.extension().is_some_and(|extension| extension == "flv") && !known.contains_key(&path) {
            let file = std::fs::File::open(&path).map_err(io)?;
            known.insert(path, count(BufReader::with_capacity(256 << 10, file))?);
        }
    }
    Ok(())
}
