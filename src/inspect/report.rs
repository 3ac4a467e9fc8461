//! What was found, as text and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::container::TrackSummary;

/// Faults listed at most; further ones are counted.
const FAULTS_MAX: usize = 20;

/// What a file holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// `MP4`, `FLV`, `MPEG-TS`, `ADTS`, `MP3`.
    pub container: &'static str,
    pub size_bytes: u64,
    pub tracks: Vec<TrackReport>,
    /// Sentences about the file.
    pub notes: Vec<String>,
    /// Sentences about what is wrong with it.
    pub faults: Vec<String>,
    /// Faults beyond those listed.
    pub more_faults: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TrackReport {
    /// `video`, `audio`, `other`.
    pub kind: &'static str,
    #[serde(flatten)]
    pub summary: TrackSummary,
}

impl Report {
    pub fn new(container: &'static str) -> Self {
        Self { container, ..Self::default() }
    }

    pub fn note(&mut self, sentence: impl Into<String>) {
        self.notes.push(sentence.into());
    }

    pub fn fault(&mut self, sentence: impl Into<String>) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(sentence.into());
        } else {
            self.more_faults += 1;
        }
    }

    pub fn json(&self, path: &Path) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("path".to_owned(), path.display().to_string().into());
        }
        value.to_string()
    }

    pub fn text(&self, path: &Path) -> String {
        let mut out = format!("{}: {}, {} bytes\n", path.display(), self.container, self.size_bytes);
        for track in &self.tracks {
            let _ = writeln!(out, "  {track}");
        }
        for note in &self.notes {
            let _ = writeln!(out, "  {note}");
        }
        for fault in &self.faults {
            let _ = writeln!(out, "  WRONG: {fault}");
        }
        if self.more_faults > 0 {
            let _ = writeln!(out, "  WRONG: and {} more", self.more_faults);
        }
        if self.faults.is_empty() {
            out.push_str("  Nothing wrong was found.\n");
        }
        out
    }
}

impl std::fmt::Display for TrackReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let track = &self.summary;
        write!(f, "{}: {}", self.kind, if track.codec.is_empty() { "unknown codec" } else { &track.codec })?;
        if track.width > 0 {
            write!(f, ", {}x{} pixels", track.width, track.height)?;
        }
        if track.sample_rate_hz > 0 {
            let plural = if track.channels == 1 { "" } else { "s" };
            write!(f, ", {} Hz, {} channel{plural}", track.sample_rate_hz, track.channels)?;
        }
        write!(f, ", {} frames", track.frames)?;
        if self.kind == "video" && track.key_frames > 0 {
            write!(f, " ({} key frames)", track.key_frames)?;
        }
        write!(f, ", {}.{:03} s, {} bytes", track.duration_ms / 1000, track.duration_ms % 1000, track.bytes)
    }
}
