//! Do the recordings hold every frame that was sent, unchanged, in order and in time?

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::formats::{self, Content, Found, Place};
use crate::publish::{Group, Sent};
use crate::source::{Frame, Source};
use crate::stop;

const POLL: Duration = Duration::from_millis(250);
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);
/// An API answer.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Streams asked for in one search.
const BATCH: usize = 10;
/// Reports of single streams on the error output; the rest is counted.
const REPORTS_MAX: usize = 10;
/// Containers count in ticks of their own: a time may be rounded once on the way in and once on the way out.
const ROUNDING_US: i64 = 1_100;

/// What to look at.
pub struct Wanted<'a> {
    /// The server's HTTP address, or a folder of finished files.
    pub place: &'a str,
    /// Formats that must be there. Empty: those that are there, one at least.
    pub formats: &'a [String],
    pub patience: Duration,
    /// Compare timestamps too.
    pub times: bool,
}

#[derive(Serialize, Default, Clone, Debug)]
pub struct Verified {
    pub verified_streams: u64,
    /// Of a stream with several formats, the format with the fewest.
    pub verified_frames: u64,
    /// Publications whose files do not hold exactly the frames sent.
    pub wrong_streams: u64,
    pub missing_frames: u64,
    pub surplus_frames: u64,
    /// Frames whose content is not what was sent in their place.
    pub different_frames: u64,
    /// Frames whose distance in time from the first of their file is not what was sent.
    pub wrong_times: u64,
    /// Files read, by format.
    pub files: BTreeMap<String, u64>,
    /// Formats that were there and are not looked into, by the number of their files.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unread: BTreeMap<String, u64>,
}

impl Verified {
    pub fn is_good(&self) -> bool {
        self.wrong_streams == 0
    }

    pub fn summary(&self) -> String {
        if self.verified_streams == 0 {
            return "nothing was sent".to_owned();
        }
        let files: Vec<_> = self.files.iter().map(|(format, count)| format!("{count} {format}")).collect();
        let mut text = format!("{} frames of {} publications in {} files", self.verified_frames, self.verified_streams, files.join(" + "));
        if self.is_good() {
            text.push_str(", every one as it was sent");
        } else {
            text.push_str(&format!(
                "; {} publications WRONG: {} frames missing, {} surplus, {} different, {} at a wrong time",
                self.wrong_streams, self.missing_frames, self.surplus_frames, self.different_frames, self.wrong_times
            ));
        }
        if !self.unread.is_empty() {
            let unread: Vec<_> = self.unread.iter().map(|(format, count)| format!("{count} {format}")).collect();
            text.push_str(&format!("; not looked into: {}", unread.join(", ")));
        }
        text
    }

    fn add(&mut self, streams: &Streams<'_>, results: &BTreeMap<String, Checked>, sent: &Sent) {
        self.verified_streams += 1;
        let Some((worst_format, worst)) = results.iter().filter(|(_, checked)| checked.read).max_by_key(|(_, checked)| checked.trouble()) else {
            self.wrong_streams += 1;
            self.missing_frames += sent.frames;
            streams.report(format_args!("{}: no recording", sent.name));
            return;
        };
        self.verified_frames += results.values().filter(|checked| checked.read).map(|checked| checked.found.iter().sum()).min().unwrap_or(0);
        self.missing_frames += worst.missing();
        self.surplus_frames += worst.surplus();
        self.different_frames += worst.different;
        self.wrong_times += worst.wrong_times;
        if worst.trouble() > 0 {
            self.wrong_streams += 1;
            let [video, audio] = worst.found;
            let [v, a] = worst.expected;
            streams.report(format_args!(
                "{}: sent {v} pictures and {a} sounds, the {worst_format} recording holds {video} and {audio}, {} of them different, {} at a wrong time{}",
                sent.name,
                worst.different,
                worst.wrong_times,
                worst.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default()
            ));
        }
        for (format, checked) in results {
            let kind = if checked.read { &mut self.files } else { &mut self.unread };
            *kind.entry(format.clone()).or_default() += checked.files;
        }
    }

    fn merge(&mut self, other: Self) {
        self.verified_streams += other.verified_streams;
        self.verified_frames += other.verified_frames;
        self.wrong_streams += other.wrong_streams;
        self.missing_frames += other.missing_frames;
        self.surplus_frames += other.surplus_frames;
        self.different_frames += other.different_frames;
        self.wrong_times += other.wrong_times;
        for (ours, theirs) in [(&mut self.files, other.files), (&mut self.unread, other.unread)] {
            for (format, count) in theirs {
                *ours.entry(format).or_default() += count;
            }
        }
    }
}

/// The files of one publication in one format against what was sent.
struct Checked {
    /// Frames that must be there: video, audio.
    expected: [u64; 2],
    found: [u64; 2],
    different: u64,
    wrong_times: u64,
    files: u64,
    /// The format is one that is looked into.
    read: bool,
    error: Option<String>,
}

impl Checked {
    fn missing(&self) -> u64 {
        (0..2).map(|track| self.expected[track].saturating_sub(self.found[track])).sum()
    }
    fn surplus(&self) -> u64 {
        (0..2).map(|track| self.found[track].saturating_sub(self.expected[track])).sum()
    }
    fn trouble(&self) -> u64 {
        self.missing() + self.surplus() + self.different + self.wrong_times + u64::from(self.error.is_some())
    }
}

/// Compares the frames of one format, file after file.
struct Comparison<'a> {
    source: &'a Source,
    times: bool,
    checked: Checked,
    /// Of each track, in this file: time of the first frame, in the file and as it was sent.
    base: [Option<(i64, i64)>; 2],
}

impl Comparison<'_> {
    fn take(&mut self, found: &Found<'_>) {
        let track = found.track;
        let frames: &[Frame] = &self.source.tracks[track];
        let index = self.checked.found[track];
        self.checked.found[track] += 1;
        let Some(sent) = frames.get((index % frames.len().max(1) as u64) as usize) else { return };
        let same = match found.content {
            Content::Exact(content) => content.len() == sent.bytes as usize && crc32fast::hash(content) == sent.crc,
            Content::Plain(content) => content.len() == sent.plain_bytes as usize && crc32fast::hash(content) == sent.plain_crc,
        };
        self.checked.different += u64::from(!same);
        if let (true, Some(at_us)) = (self.times, found.at_us) {
            let sent_us = ((index / frames.len() as u64 * self.source.round_ms + sent.at_ms) * 1000) as i64;
            let (first_us, first_sent_us) = *self.base[track].get_or_insert((at_us, sent_us));
            let off = (at_us - first_us) - (sent_us - first_sent_us);
            self.checked.wrong_times += u64::from(off.abs() > ROUNDING_US);
        }
    }
}

struct Streams<'a> {
    groups: &'a [Group],
    reports: AtomicUsize,
    times: bool,
}

impl Streams<'_> {
    fn report(&self, message: std::fmt::Arguments<'_>) {
        if self.reports.fetch_add(1, Ordering::Relaxed) < REPORTS_MAX {
            eprintln!("loadtest: {message}");
        }
    }

    /// Reads the files of one publication, which are in the order of time.
    fn check(&self, sent: &Sent, files: &[File], place: &dyn Fn(&File) -> Box<dyn Place>) -> BTreeMap<String, Checked> {
        let source = &self.groups[sent.group].source;
        let mut results = BTreeMap::new();
        let mut formats: Vec<&str> = files.iter().map(|file| file.format.as_str()).collect();
        formats.sort_unstable();
        formats.dedup();
        for format in formats {
            let mut expected = source.frames(sent.frames);
            if format == "aac" {
                expected[0] = 0;
            }
            let checked = Checked { expected, found: [0; 2], different: 0, wrong_times: 0, files: 0, read: true, error: None };
            let mut comparison = Comparison { source, times: self.times, checked, base: [None; 2] };
            for file in files.iter().filter(|file| file.format == format) {
                comparison.base = [None; 2];
                comparison.checked.files += 1;
                match formats::read(format, &*place(file), &file.path, &mut |found| comparison.take(&found)) {
                    Ok(read) => comparison.checked.read &= read,
                    Err(message) => comparison.checked.error = Some(format!("{}: {message}", file.path)),
                }
            }
            results.insert(format.to_owned(), comparison.checked);
        }
        results
    }
}

/// One finished recording.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct File {
    /// For the order of time.
    begun: String,
    id: String,
    format: String,
    /// `http://host:port`, or empty.
    base: String,
    path: String,
}

/// Reads the recordings of everything sent, as often as the patience allows while something is missing.
pub fn verify(wanted: &Wanted<'_>, groups: &[Group], sent: &[Sent]) -> Result<Verified, String> {
    let deadline = Instant::now() + wanted.patience;
    let streams = Streams { groups, reports: AtomicUsize::new(0), times: wanted.times };
    let batches: Vec<&[Sent]> = sent.chunks(BATCH).collect();
    let (next, sum) = (AtomicUsize::new(0), Mutex::new(Ok(Verified::default())));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(4));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = verify_batch(wanted, &streams, sent, batch, deadline);
                    let mut sum = sum.lock().expect("no thread panics with it");
                    match (&mut *sum, result) {
                        (Ok(sum), Ok(verified)) => sum.merge(verified),
                        (Err(_), _) => return,
                        (whole, Err(message)) => *whole = Err(message),
                    }
                }
            });
        }
    });
    sum.into_inner().expect("no thread panicked with it")
}

fn verify_batch(wanted: &Wanted<'_>, streams: &Streams<'_>, all: &[Sent], batch: &[Sent], deadline: Instant) -> Result<Verified, String> {
    let mut verified = Verified::default();
    let mut left: Vec<&Sent> = batch.iter().collect();
    loop {
        if stop::is_urgent() {
            return Err("interrupted".to_owned());
        }
        let by_http = wanted.place.starts_with("http://");
        let mut files = if by_http { search(wanted.place, &left)? } else { in_folder(Path::new(wanted.place), all)? };
        let last = Instant::now() > deadline;
        left.retain(|sent| {
            let mut files = files.remove(&sent.name).unwrap_or_default();
            files.sort();
            let results = streams.check(sent, &files, &|file| {
                if by_http { Box::new(Http(file.base.clone())) as Box<dyn Place> } else { Box::new(Disk) }
            });
            let there = |format: &String| results.get(format).is_some_and(|checked| checked.trouble() == 0);
            let read = results.values().any(|checked| checked.read);
            let good = read && results.values().all(|checked| checked.trouble() == 0 || !checked.read) && wanted.formats.iter().all(there);
            if !good && !last {
                return true;
            }
            let mut results = results;
            for format in wanted.formats.iter().filter(|format| !files.iter().any(|file| file.format == **format)) {
                let expected = streams.groups[sent.group].source.frames(sent.frames);
                let error = Some(format!("no {format} file"));
                let missing = Checked { expected, found: [0; 2], different: 0, wrong_times: 0, files: 0, read: true, error };
                results.insert(format.clone(), missing);
            }
            verified.add(streams, &results, sent);
            false
        });
        if left.is_empty() {
            return Ok(verified);
        }
        std::thread::sleep(POLL);
    }
}

/// The recordings of some streams, from the catalog.
fn search(base: &str, sent: &[&Sent]) -> Result<BTreeMap<String, Vec<File>>, String> {
    let base = base.trim_end_matches('/');
    let names: Vec<_> = sent.iter().enumerate().map(|(index, sent)| format!("&StreamIds.{index}={}", sent.name)).collect();
    let query = format!("/?Action=SearchMedia&Version=2018-07-17{}&Limit=5000", names.concat());
    let mut body = Vec::new();
    get(base, &query, None)?.take(ANSWER_BYTES_MAX).read_to_end(&mut body).map_err(|error| format!("SearchMedia: {error}"))?;
    let answer: Value = serde_json::from_slice(&body).map_err(|error| format!("SearchMedia: {error}"))?;
    if let Some(error) = answer["Response"].get("Error") {
        return Err(format!("SearchMedia: {error}"));
    }
    let mut files: BTreeMap<String, Vec<File>> = BTreeMap::new();
    for file in answer["Response"]["MediaInfoSet"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let info = &file["BasicInfo"];
        let url = text(&info["MediaUrl"]);
        let path_at =
            url.strip_prefix("http://").and_then(|rest| rest.find('/')).ok_or_else(|| format!("{url} is no http address"))? + "http://".len();
        let record = &info["SourceInfo"]["LiveRecordInfo"];
        files.entry(text(&record["StreamId"])).or_default().push(File {
            begun: text(&record["RecordStartTime"]),
            id: text(&file["FileId"]),
            format: text(&info["Type"]),
            base: url[..path_at].to_owned(),
            path: url[path_at..].to_owned(),
        });
    }
    Ok(files)
}

struct Http(String);

impl Place for Http {
    fn open(&self, path: &str, from: u64, length: Option<u64>) -> Result<Box<dyn Read>, String> {
        let range = match length {
            None if from == 0 => None,
            None => Some(format!("bytes={from}-")),
            Some(length) => Some(format!("bytes={from}-{}", from + length - 1)),
        };
        get(&self.0, path, range.as_deref())
    }
}

/// The body of an HTTP answer with status 200, or 206 where a range was asked for, and a Content-Length.
pub fn get(base: &str, path: &str, range: Option<&str>) -> Result<Box<dyn Read>, String> {
    let address = base.strip_prefix("http://").ok_or("only http addresses")?.trim_end_matches('/');
    let io = |error: std::io::Error| format!("GET {path}: {error}");
    let mut socket = TcpStream::connect(address).map_err(io)?;
    socket.set_read_timeout(Some(HTTP_TIMEOUT)).map_err(io)?;
    let range_line = range.map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\n{range_line}Connection: close\r\n\r\n").map_err(io)?;
    let mut reader = BufReader::with_capacity(256 << 10, socket);
    let mut line = String::new();
    reader.read_line(&mut line).map_err(io)?;
    let wanted = if range.is_some() { "206" } else { "200" };
    if line.split(' ').nth(1) != Some(wanted) {
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
    Ok(Box::new(reader.take(length)))
}

struct Disk;

impl Place for Disk {
    fn open(&self, path: &str, from: u64, length: Option<u64>) -> Result<Box<dyn Read>, String> {
        let io = |error: std::io::Error| format!("{path}: {error}");
        let mut file = std::fs::File::open(path).map_err(io)?;
        file.seek(SeekFrom::Start(from)).map_err(io)?;
        let reader = BufReader::with_capacity(256 << 10, file);
        Ok(match length {
            Some(length) => Box::new(reader.take(length)),
            None => Box::new(reader),
        })
    }
}

/// FLV and MP4 files below a folder, by the publication whose name theirs begins with. What is being written (`recording`) is left alone.
fn in_folder(folder: &Path, sent: &[Sent]) -> Result<BTreeMap<String, Vec<File>>, String> {
    let names: std::collections::BTreeSet<&str> = sent.iter().map(|sent| sent.name.as_str()).collect();
    let mut files: BTreeMap<String, Vec<File>> = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let io = |error: std::io::Error| format!("{}: {error}", folder.display());
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "recording") {
                    folders.push(path);
                }
                continue;
            }
            let (Some(stem), Some(format)) = (path.file_stem().and_then(|stem| stem.to_str()), path.extension().and_then(|format| format.to_str()))
            else {
                continue;
            };
            if !matches!(format, "flv" | "mp4") {
                continue;
            }
            // The longest name: "s1-2" is not a recording of "s1".
            let ends = (1..=stem.len()).rev().filter(|end| stem.is_char_boundary(*end));
            let Some(name) = ends.map(|end| &stem[..end]).find(|name| names.contains(name)) else { continue };
            let text = path.to_string_lossy().into_owned();
            let file = File { begun: stem.to_owned(), id: String::new(), format: format.to_owned(), base: String::new(), path: text };
            files.entry(name.to_owned()).or_default().push(file);
        }
    }
    Ok(files)
}
