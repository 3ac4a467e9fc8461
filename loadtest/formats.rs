//! Readers of recordings: every frame with its track, content and time. Written from the specifications, not from the server's code: FLV 10.1, ISO/IEC
//! 14496-12 (plain and fragmented), RFC 8216, ISO/IEC 13818-1, ADTS of 14496-3.

use std::io::Read;

use crate::client::{TYPE_AUDIO, TYPE_VIDEO};
use crate::source::payload;

/// A box, playlist or segment that is read in one piece.
const PIECE_BYTES_MAX: u64 = 512 << 20;

/// Where a recording and the files beside it are read from.
pub trait Place {
    /// `length` bytes of a file from `from` on, or all that follow.
    fn open(&self, path: &str, from: u64, length: Option<u64>) -> Result<Box<dyn Read>, String>;
}

/// One frame that a recording holds.
pub struct Found<'a> {
    /// 0 video, 1 audio.
    pub track: usize,
    pub content: Content<'a>,
    /// Decoding time, microseconds from anywhere; the files of a format count alike.
    pub at_us: Option<i64>,
}

pub enum Content<'a> {
    /// As the encoder made it.
    Exact(&'a [u8]),
    /// Without parameter sets and delimiters, which the container repeats or moves.
    Plain(&'a [u8]),
}

pub type Take<'t> = &'t mut dyn FnMut(Found<'_>);

/// Reads a recording by the format's name. `Ok(false)`: this format is not looked into.
pub fn read(format: &str, place: &dyn Place, path: &str, take: Take<'_>) -> Result<bool, String> {
    match format {
        "flv" => flv(place.open(path, 0, None)?, take)?,
        "mp4" => mp4(place, path, take)?,
        "hls" => hls(place, path, take)?,
        "aac" => {
            let mut bytes = Vec::new();
            read_all(place.open(path, 0, None)?, &mut bytes)?;
            adts(&bytes, None, take)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn read_all(reader: impl Read, bytes: &mut Vec<u8>) -> Result<(), String> {
    reader.take(PIECE_BYTES_MAX).read_to_end(bytes).map_err(|error| format!("reading: {error}"))?;
    Ok(())
}

fn flv(mut file: impl Read, take: Take<'_>) -> Result<(), String> {
    let io = |error: std::io::Error| format!("reading: {error}");
    let mut head = [0; 13];
    file.read_exact(&mut head).map_err(io)?;
    if !head.starts_with(b"FLV\x01") {
        return Err("no FLV file".to_owned());
    }
    let mut body = Vec::new();
    loop {
        let mut header = [0; 11];
        match file.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(io(error)),
        }
        let length = u64::from(u32::from_be_bytes([0, header[1], header[2], header[3]]));
        let time_ms = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
        body.clear();
        file.by_ref().take(length + 4).read_to_end(&mut body).map_err(io)?;
        if body.len() as u64 != length + 4 {
            return Err("the file ends within a tag".to_owned());
        }
        let kind = header[0] & 0x1f;
        let track = match kind {
            TYPE_VIDEO => 0,
            TYPE_AUDIO => 1,
            _ => continue,
        };
        if let Some(content) = payload(kind, &body[..length as usize]).filter(|content| !content.is_empty()) {
            take(Found { track, content: Content::Exact(content), at_us: Some(i64::from(time_ms) * 1000) });
        }
    }
}

fn number(bytes: &[u8], at: usize, count: usize) -> Result<u64, String> {
    let part = bytes.get(at..at + count).ok_or("a box is shorter than its fields")?;
    Ok(part.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Boxes of a piece in memory: type and content.
fn boxes(mut bytes: &[u8]) -> Result<Vec<([u8; 4], &[u8])>, String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (head, size) = match number(bytes, 0, 4)? {
            1 => (16, number(bytes, 8, 8)? as usize),
            0 => (8, bytes.len()),
            size => (8, size as usize),
        };
        let content = bytes.get(head..size).ok_or("a box that is longer than what holds it")?;
        found.push((bytes[4..8].try_into().expect("four bytes"), content));
        bytes = &bytes[size..];
    }
    Ok(found)
}

fn child<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Result<&'a [u8], String> {
    let mut at = bytes;
    for name in path {
        let all = boxes(at)?;
        at = all
            .iter()
            .find(|(kind, _)| kind == *name)
            .map(|(_, content)| *content)
            .ok_or_else(|| format!("no {}", String::from_utf8_lossy(&name[..])))?;
    }
    Ok(at)
}

/// A track of a `moov`: its id, whether it is sound, ticks a second; `None` for other kinds.
fn track_of(trak: &[u8]) -> Result<Option<(u64, usize, u64, &[u8])>, String> {
    let tkhd = child(trak, &[b"tkhd"])?;
    let id = if tkhd.first() == Some(&1) { number(tkhd, 20, 4)? } else { number(tkhd, 12, 4)? };
    let mdia = child(trak, &[b"mdia"])?;
    let mdhd = child(mdia, &[b"mdhd"])?;
    let ticks = if mdhd.first() == Some(&1) { number(mdhd, 20, 4)? } else { number(mdhd, 12, 4)? };
    let track = match child(mdia, &[b"hdlr"])?.get(8..12) {
        Some(b"vide") => 0,
        Some(b"soun") => 1,
        _ => return Ok(None),
    };
    Ok(Some((id, track, ticks.max(1), mdia)))
}

struct Sample {
    offset: u64,
    bytes: u32,
    track: usize,
    at_us: i64,
}

/// Samples of a plain `moov`, in the order of the file.
fn samples(moov: &[u8]) -> Result<Vec<Sample>, String> {
    let mut all = Vec::new();
    for (_, trak) in boxes(moov)?.iter().filter(|(kind, _)| kind == b"trak") {
        let Some((_, track, ticks, mdia)) = track_of(trak)? else { continue };
        let stbl = child(mdia, &[b"minf", b"stbl"])?;
        let (stsz, stsc, stts) = (child(stbl, &[b"stsz"])?, child(stbl, &[b"stsc"])?, child(stbl, &[b"stts"])?);
        let (chunks, wide) = match child(stbl, &[b"stco"]) {
            Ok(stco) => (stco, 4),
            Err(_) => (child(stbl, &[b"co64"])?, 8),
        };
        let (fixed, count) = (number(stsz, 4, 4)?, number(stsz, 8, 4)?);
        let mut times = Vec::with_capacity(count as usize);
        let mut time = 0;
        for entry in 0..number(stts, 4, 4)? as usize {
            let (run, delta) = (number(stts, 8 + entry * 8, 4)?, number(stts, 12 + entry * 8, 4)?);
            for _ in 0..run.min(count - times.len() as u64) {
                times.push(time);
                time += delta;
            }
        }
        let (mut sample, mut entry, entries) = (0, 0, number(stsc, 4, 4)? as usize);
        for chunk in 0..number(chunks, 4, 4)? as usize {
            while entry + 1 < entries && number(stsc, 8 + (entry + 1) * 12, 4)? <= chunk as u64 + 1 {
                entry += 1;
            }
            let mut offset = number(chunks, 8 + chunk * wide, wide)?;
            for _ in 0..number(stsc, 12 + entry * 12, 4)? {
                let bytes = if fixed > 0 { fixed } else { number(stsz, 12 + sample * 4, 4)? };
                let time = *times.get(sample).ok_or("stts is shorter than stsz")?;
                all.push(Sample { offset, bytes: bytes as u32, track, at_us: (i128::from(time) * 1_000_000 / i128::from(ticks)) as i64 });
                offset += bytes;
                sample += 1;
            }
        }
        if sample as u64 != count {
            return Err(format!("{sample} samples in chunks, {count} sizes"));
        }
    }
    all.sort_by_key(|sample| sample.offset);
    Ok(all)
}

/// A plain MP4: `moov` before or behind the media.
fn mp4(place: &dyn Place, path: &str, take: Take<'_>) -> Result<(), String> {
    let io = |error: std::io::Error| format!("reading: {error}");
    let mut at = 0;
    let moov = loop {
        let mut file = place.open(path, at, None)?;
        let mut head = [0; 16];
        file.read_exact(&mut head[..8]).map_err(|_| "the file ends without a moov")?;
        let size = match number(&head, 0, 4)? {
            1 => {
                file.read_exact(&mut head[8..]).map_err(io)?;
                number(&head, 8, 8)?
            }
            size => size,
        };
        if &head[4..8] == b"moov" {
            let mut moov = Vec::new();
            read_all(file.take(size - 8), &mut moov)?;
            break moov;
        }
        if size < 8 {
            return Err("a box without a size before the moov".to_owned());
        }
        at += size;
    };
    let samples = samples(&moov)?;
    let Some(first) = samples.first() else { return Ok(()) };
    let mut at = first.offset;
    let mut file = std::io::BufReader::with_capacity(256 << 10, place.open(path, at, None)?);
    let mut body = Vec::new();
    for sample in &samples {
        let gap = sample.offset.checked_sub(at).ok_or("samples that overlap")?;
        if std::io::copy(&mut file.by_ref().take(gap), &mut std::io::sink()).map_err(io)? != gap {
            return Err("the file ends before its samples".to_owned());
        }
        body.resize(sample.bytes as usize, 0);
        file.read_exact(&mut body).map_err(|_| "the file ends within a sample")?;
        at = sample.offset + u64::from(sample.bytes);
        take(Found { track: sample.track, content: Content::Exact(&body), at_us: Some(sample.at_us) });
    }
    Ok(())
}

/// A track of an initialization segment: id, track, ticks a second, default duration and size of a sample.
struct Defaults {
    id: u64,
    track: usize,
    ticks: u64,
    duration: u64,
    size: u64,
}

fn defaults(init: &[u8]) -> Result<Vec<Defaults>, String> {
    let moov = child(init, &[b"moov"])?;
    let mut all = Vec::new();
    for (_, trak) in boxes(moov)?.iter().filter(|(kind, _)| kind == b"trak") {
        if let Some((id, track, ticks, _)) = track_of(trak)? {
            all.push(Defaults { id, track, ticks, duration: 0, size: 0 });
        }
    }
    for (_, trex) in boxes(child(moov, &[b"mvex"])?)?.iter().filter(|(kind, _)| kind == b"trex") {
        let id = number(trex, 4, 4)?;
        for defaults in all.iter_mut().filter(|defaults| defaults.id == id) {
            (defaults.duration, defaults.size) = (number(trex, 12, 4)?, number(trex, 16, 4)?);
        }
    }
    Ok(all)
}

/// Movie fragments of one segment.
fn fragments(segment: &[u8], tracks: &[Defaults], take: Take<'_>) -> Result<(), String> {
    let mut at = 0;
    for (kind, content) in boxes(segment)? {
        let head = if number(segment, at, 4)? == 1 { 16 } else { 8 };
        let begin = at;
        at += head + content.len();
        if &kind != b"moof" {
            continue;
        }
        for (_, traf) in boxes(content)?.iter().filter(|(kind, _)| kind == b"traf") {
            let tfhd = child(traf, &[b"tfhd"])?;
            let (flags, id) = (number(tfhd, 1, 3)?, number(tfhd, 4, 4)?);
            let Some(defaults) = tracks.iter().find(|track| track.id == id) else { continue };
            if flags & 1 != 0 {
                return Err("a fragment with a base data offset".to_owned());
            }
            let mut field = 8;
            let mut optional = |bit: u64| -> Result<Option<u64>, String> {
                if flags & bit == 0 {
                    return Ok(None);
                }
                field += 4;
                number(tfhd, field - 4, 4).map(Some)
            };
            optional(2)?;
            let duration = optional(8)?.unwrap_or(defaults.duration);
            let size = optional(0x10)?.unwrap_or(defaults.size);
            let tfdt = child(traf, &[b"tfdt"])?;
            let mut time = if tfdt.first() == Some(&1) { number(tfdt, 4, 8)? } else { number(tfdt, 4, 4)? };
            let mut data = begin as u64;
            for (_, trun) in boxes(traf)?.iter().filter(|(kind, _)| kind == b"trun") {
                let (flags, count) = (number(trun, 1, 3)?, number(trun, 4, 4)?);
                let mut field = 8;
                if flags & 1 != 0 {
                    let offset = number(trun, field, 4)? as u32 as i32;
                    data = (begin as i64 + i64::from(offset)) as u64;
                    field += 4;
                }
                field += if flags & 4 != 0 { 4 } else { 0 };
                for _ in 0..count {
                    let mut value = |bit: u64, default: u64| -> Result<u64, String> {
                        if flags & bit == 0 {
                            return Ok(default);
                        }
                        field += 4;
                        number(trun, field - 4, 4)
                    };
                    let (duration, size) = (value(0x100, duration)?, value(0x200, size)?);
                    value(0x400, 0)?;
                    value(0x800, 0)?;
                    let body = segment.get(data as usize..(data + size) as usize).ok_or("a sample outside of its segment")?;
                    let at_us = (i128::from(time) * 1_000_000 / i128::from(defaults.ticks)) as i64;
                    take(Found { track: defaults.track, content: Content::Exact(body), at_us: Some(at_us) });
                    data += size;
                    time += duration;
                }
            }
        }
    }
    Ok(())
}

/// `LENGTH[@OFFSET]`.
fn byte_range(text: &str, behind: u64) -> Option<(u64, u64)> {
    let (length, offset) = text.split_once('@').map_or((text, None), |(length, offset)| (length, Some(offset)));
    Some((offset.map_or(Some(behind), |offset| offset.parse().ok())?, length.parse().ok()?))
}

fn hls(place: &dyn Place, path: &str, take: Take<'_>) -> Result<(), String> {
    let mut text = Vec::new();
    read_all(place.open(path, 0, None)?, &mut text)?;
    let text = String::from_utf8(text).map_err(|_| "the playlist is no text")?;
    if !text.starts_with("#EXTM3U") || !text.lines().any(|line| line == "#EXT-X-ENDLIST") {
        return Err("no finished playlist".to_owned());
    }
    let folder = &path[..path.rfind('/').map_or(0, |slash| slash + 1)];
    let load = |uri: &str, range: Option<(u64, u64)>| {
        let mut bytes = Vec::new();
        let (from, length) = range.map_or((0, None), |(from, length)| (from, Some(length)));
        read_all(place.open(&format!("{folder}{uri}"), from, length)?, &mut bytes)?;
        match length {
            Some(length) if length != bytes.len() as u64 => Err(format!("{uri} holds {} bytes at {from} instead of {length}", bytes.len())),
            _ => Ok(bytes),
        }
    };
    let (mut tracks, mut range, mut behind) = (None, None, 0);
    for line in text.lines() {
        if let Some(map) = line.strip_prefix("#EXT-X-MAP:") {
            let attribute = |name: &str| map.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split_once('"')).map(|(value, _)| value);
            let uri = attribute("URI").ok_or("EXT-X-MAP without a URI")?;
            let init = load(uri, attribute("BYTERANGE").and_then(|range| byte_range(range, 0)))?;
            tracks = Some(defaults(&init)?);
        } else if let Some(bytes) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            range = Some(byte_range(bytes, behind).ok_or("a byte range that is none")?);
        } else if !line.is_empty() && !line.starts_with('#') {
            let segment = load(line, range)?;
            behind = range.take().map_or(0, |(from, length)| from + length);
            match &tracks {
                Some(tracks) => fragments(&segment, tracks, take)?,
                None => transport_stream(&segment, take)?,
            }
        }
    }
    Ok(())
}

/// One segment of a transport stream with H.264 and AAC.
fn transport_stream(segment: &[u8], take: Take<'_>) -> Result<(), String> {
    let (mut pmt, mut pids, mut packets) = (None, [None; 2], [Vec::new(), Vec::new()]);
    for packet in segment.chunks(188) {
        if packet.len() != 188 || packet[0] != 0x47 {
            return Err("no transport stream".to_owned());
        }
        let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
        let start = packet[1] & 0x40 != 0;
        let mut at = 4;
        if packet[3] & 0x20 != 0 {
            at += 1 + usize::from(packet[4]);
        }
        if packet[3] & 0x10 == 0 || at >= 188 {
            continue;
        }
        let content = &packet[at..];
        // Tables begin behind a pointer field; ours and everybody's of one or two streams fit into one packet.
        let table = || content.get(1 + usize::from(content[0])..).ok_or("a table outside of its packet");
        if pid == 0 && start {
            pmt = Some(number(table()?, 10, 2)? as u16 & 0x1fff);
        } else if Some(pid) == pmt && start {
            let table = table()?;
            let end = 3 + (number(table, 1, 2)? as usize & 0xfff) - 4;
            let mut at = 12 + (number(table, 10, 2)? as usize & 0xfff);
            while at + 5 <= end {
                match table.get(at) {
                    Some(0x1b) => pids[0] = Some(number(table, at + 1, 2)? as u16 & 0x1fff),
                    Some(0x0f) => pids[1] = Some(number(table, at + 1, 2)? as u16 & 0x1fff),
                    _ => {}
                }
                at += 5 + (number(table, at + 3, 2)? as usize & 0xfff);
            }
        } else if let Some(track) = pids.iter().position(|known| *known == Some(pid)) {
            if start && !packets[track].is_empty() {
                elementary(track, &packets[track], take)?;
                packets[track].clear();
            }
            packets[track].extend_from_slice(content);
        }
    }
    for (track, packet) in packets.iter().enumerate().filter(|(_, packet)| !packet.is_empty()) {
        elementary(track, packet, take)?;
    }
    Ok(())
}

/// One PES packet.
fn elementary(track: usize, packet: &[u8], take: Take<'_>) -> Result<(), String> {
    let (flags, header) = (number(packet, 7, 1)?, number(packet, 8, 1)? as usize);
    let stamp = |at: usize| -> Result<i64, String> {
        let bytes = packet.get(at..at + 5).ok_or("a PES packet ends within its timestamp")?;
        let [a, b, c, d, e] = [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]].map(i64::from);
        Ok((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
    };
    let at_us = match flags >> 6 {
        3 => Some(stamp(14)? * 100 / 9),
        2 => Some(stamp(9)? * 100 / 9),
        _ => None,
    };
    let content = packet.get(9 + header..).ok_or("a PES packet ends within its header")?;
    if track == 1 {
        return adts(content, at_us, take);
    }
    let mut body = Vec::with_capacity(content.len());
    for unit in annex_b(content) {
        body.extend_from_slice(&(unit.len() as u32).to_be_bytes());
        body.extend_from_slice(unit);
    }
    take(Found { track, content: Content::Plain(&body), at_us });
    Ok(())
}

/// NAL units between start codes, without delimiters and parameter sets.
fn annex_b(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = (0..bytes.len().saturating_sub(2)).filter(|at| bytes[*at..at + 3] == [0, 0, 1]).map(|at| at + 3).collect();
    let mut units = Vec::new();
    for (index, start) in starts.iter().enumerate() {
        let mut end = starts.get(index + 1).map_or(bytes.len(), |next| next - 3);
        while end > *start && index + 1 < starts.len() && bytes[end - 1] == 0 {
            end -= 1;
        }
        let unit = &bytes[*start..end];
        if unit.first().is_some_and(|first| !is_repeated(*first)) {
            units.push(unit);
        }
    }
    units
}

/// Parameter sets and delimiters of H.264, by the first byte of a NAL unit.
fn is_repeated(first: u8) -> bool {
    matches!(first & 0x1f, 7..=9)
}

/// What [`Content::Plain`] would hold of an H.264 frame with lengths of four bytes. Anything else comes back as it is.
pub fn plain(frame: &[u8]) -> Vec<u8> {
    let (mut kept, mut rest) = (Vec::with_capacity(frame.len()), frame);
    while let Some((length, behind)) = rest.split_at_checked(4) {
        let count = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let Some((unit, behind)) = behind.split_at_checked(count) else { return frame.to_vec() };
        if unit.first().is_some_and(|first| !is_repeated(*first)) {
            kept.extend_from_slice(length);
            kept.extend_from_slice(unit);
        }
        rest = behind;
    }
    kept
}

/// Frames with ADTS headers; `at_us` is the time of the first.
fn adts(mut bytes: &[u8], at_us: Option<i64>, take: Take<'_>) -> Result<(), String> {
    let mut at_us = at_us;
    while !bytes.is_empty() {
        let head = if number(bytes, 1, 1)? & 1 == 1 { 7 } else { 9 };
        let length = (number(bytes, 3, 3)? >> 5 & 0x1fff) as usize;
        let content = bytes.get(head..length).ok_or("a torn ADTS frame")?;
        if number(bytes, 0, 2)? >> 4 != 0xfff {
            return Err("no ADTS frame".to_owned());
        }
        take(Found { track: 1, content: Content::Exact(content), at_us: at_us.take() });
        bytes = &bytes[length..];
    }
    Ok(())
}
