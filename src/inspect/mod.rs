//! What a media file holds and what is wrong with it, in plain words: `capstan explain`. And whether finished recordings still are what their
//! `recording.json` says: `capstan verify`.
//!
//! Files may be anybody's: reads are bounded, and no byte of them can end us.

mod audio;
mod flv;
mod mp4;
mod report;
mod ts;
mod verify;

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use crate::container::window::Window;
use crate::container::{ReadAt, ScanError};
use crate::segment::finish::FileReader;

pub use report::{Report, TrackReport};
pub use verify::{VerifyError, verify, verify_command};

/// What looks at the first bytes to tell the container.
const HEAD_BYTES: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error("cannot open the file")]
    Open { source: io::Error },
    #[error("cannot read the file")]
    Read { source: ScanError },
    #[error("the file is empty")]
    Empty,
    #[error("this is no MP4, FLV, MPEG-TS, ADTS or MP3 file; it begins with {begin}")]
    Unknown { begin: String },
}

impl From<ScanError> for ExplainError {
    fn from(source: ScanError) -> Self {
        Self::Read { source }
    }
}

/// Looks at the file at `path`.
///
/// # Errors
/// [`ExplainError`]: it cannot be read, or is none of the containers known here. What is damaged is no error but part of the report.
pub fn explain(path: &Path) -> Result<Report, ExplainError> {
    let open = |source| ExplainError::Open { source };
    let file = File::open(path).map_err(open)?;
    let metadata = file.metadata().map_err(open)?;
    if metadata.is_dir() {
        return Err(open(io::ErrorKind::IsADirectory.into()));
    }
    let mut report = explain_bytes(&FileReader::new(&file, metadata.len()))?;
    verify::recorded_notes(path, &mut report);
    Ok(report)
}

/// The same for bytes wherever they are.
pub fn explain_bytes<R: ReadAt + ?Sized>(file: &R) -> Result<Report, ExplainError> {
    if file.is_empty() {
        return Err(ExplainError::Empty);
    }
    let mut window = Window::new(file);
    let head = window.at(0, HEAD_BYTES)?.to_vec();
    let mut report = match head.as_slice() {
        [b'F', b'L', b'V', ..] => flv::explain(&mut window)?,
        _ if mp4::begins(&head) => mp4::explain(file)?,
        _ => match ts::packet_layout(&head) {
            Some(layout) => ts::explain(&mut window, layout)?,
            None => audio::explain(&mut window, &head)?.ok_or_else(|| ExplainError::Unknown { begin: begin(&head) })?,
        },
    };
    report.size_bytes = file.len();
    Ok(report)
}

fn begin(head: &[u8]) -> String {
    head.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// `capstan explain FILE...`: non-zero if a file cannot be read or something is wrong with one.
pub fn explain_command(paths: &[std::path::PathBuf], as_json: bool) -> ExitCode {
    let mut all_well = true;
    for path in paths {
        let found = explain(path);
        all_well &= found.as_ref().is_ok_and(|report| report.faults.is_empty());
        match found {
            Ok(report) if as_json => println!("{}", report.json(path)),
            Ok(report) => print!("{}", report.text(path)),
            Err(error) if as_json => println!("{}", serde_json::json!({ "path": path, "error": crate::logging::error_chain(&error) })),
            Err(error) => println!("{}: {}", path.display(), crate::logging::error_chain(&error)),
        }
    }
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whatever the bytes: an answer or an error, never a panic, and what is said can be printed.
pub fn fuzz_explain(data: &[u8]) {
    if let Ok(report) = explain_bytes(data) {
        assert!(!report.text(Path::new("x")).is_empty() && report.json(Path::new("x")).starts_with('{'));
    }
}

#[cfg(test)]
mod tests;
