//! Types that cannot hold a wrong value: times, ids and names that every room shares.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Wall-clock time, microseconds since the Unix epoch. Used for names, windows and catalog rows only; durations use [`MonoTime`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(i64);

impl WallTime {
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }
    pub const fn unix_micros(self) -> i64 {
        self.0
    }
    pub const fn unix_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
    /// The microsecond part, 0 to 999999.
    pub const fn micros_of_second(self) -> u32 {
        self.0.rem_euclid(1_000_000) as u32
    }
}

/// Monotonic time, nanoseconds since the process started. Never read inside pure code: it is always an argument.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MonoTime(u64);

impl MonoTime {
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }
    pub const fn nanos(self) -> u64 {
        self.0
    }
    /// Nanoseconds since `earlier`, 0 if that is later.
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.nanos_since(earlier) / 1_000_000
    }
}

/// Catalog id of a file: 18 or 19 decimal digits, below 2^63, growing with time, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileId(u64);

impl FileId {
    pub const MIN: u64 = 100_000_000_000_000_000;
    pub const MAX: u64 = i64::MAX as u64;

    pub const fn new(id: u64) -> Option<Self> {
        if id >= Self::MIN && id <= Self::MAX { Some(Self(id)) } else { None }
    }
    pub const fn get(self) -> u64 {
        self.0
    }
    /// Reads decimal digits; `None` for anything that is no FileId of ours.
    pub fn parse(text: &str) -> Option<Self> {
        if !(18..=19).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        text.parse().ok().and_then(Self::new)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Id of a record template, counting up from 1001.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TemplateId(pub u64);

/// Id of a task made by CreateRecordTask: opaque text of `[A-Za-z0-9_-]`, at most 128 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub Arc<str>);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One publication: one publisher on one stream from publish to its end. Unique in the appliance, decimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicationId(pub u64);

impl fmt::Display for PublicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Name of a live stream: push domain, app and stream name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct StreamKey {
    pub domain: Arc<str>,
    pub app: Arc<str>,
    pub stream: Arc<str>,
}

impl StreamKey {
    pub fn new(domain: &str, app: &str, stream: &str) -> Self {
        Self { domain: domain.into(), app: app.into(), stream: stream.into() }
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.domain, self.app, self.stream)
    }
}

/// What a recording is written as.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Flv,
    Hls,
    Mp4,
    Aac,
    Mp3,
}

impl Format {
    pub const ALL: [Format; 5] = [Format::Flv, Format::Hls, Format::Mp4, Format::Aac, Format::Mp3];

    /// The name in the API (`file_format`, `Container`) and, but for HLS, the file extension.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Flv => "flv",
            Format::Hls => "hls",
            Format::Mp4 => "mp4",
            Format::Aac => "aac",
            Format::Mp3 => "mp3",
        }
    }
    pub const fn extension(self) -> &'static str {
        match self {
            Format::Hls => "m3u8",
            other => other.name(),
        }
    }
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }
}
