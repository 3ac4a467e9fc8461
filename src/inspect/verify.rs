//! Are finished recordings what their `recording.json` says?

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::Report;
use crate::container::{MediaSummary, ReadAt, mp4};
use crate::domain::sealing::Sealing;
use crate::domain::{FinishedFile, Receipt, RecordingSource};
use crate::logging::error_chain;
use crate::segment::checksum;
use crate::segment::finish::{self, FINISHED_NAME, FileReader};
use crate::units::Format;

/// `data folder / media / day / recording`: nothing lies deeper.
const DEPTH_MAX: u32 = 3;
/// A `recording.json` is a few KiB, a playlist of a long recording some MiB.
const TEXT_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}")]
    Scan { path: PathBuf, source: crate::container::ScanError },
}

fn reading(path: &Path) -> impl FnOnce(io::Error) -> VerifyError {
    move |source| VerifyError::Read { path: path.to_owned(), source }
}

/// `capstan verify PATH...`: a recording's folder or file, a folder of recordings, or a data folder. Non-zero if a recording is not what it was, with
/// the reason, or if there is none.
pub fn verify_command(paths: &[PathBuf]) -> ExitCode {
    let (mut good, mut bad) = (0_u64, 0_u64);
    for path in paths {
        let before = good + bad;
        each_recording(path, 0, &mut |folder| {
            let faults = match verify(folder) {
                Ok(faults) => faults,
                Err(error) => vec![error_chain(&error)],
            };
            match faults.is_empty() {
                true => good += 1,
                false => bad += 1,
            }
            for fault in faults {
                println!("{}: {fault}", folder.display());
            }
        });
        if good + bad == before {
            println!("{}: there is no finished recording here ({FINISHED_NAME})", path.display());
            bad += 1;
        }
    }
    println!("{good} recordings are as they were finished, {bad} are not");
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Calls `found` for every folder with a `recording.json` at or below `path`, in the order of names.
fn each_recording(path: &Path, depth: u32, found: &mut impl FnMut(&Path)) {
    if path.is_file() {
        // A file given alone stands for its recording; in a folder, files are parts of what is looked at anyway.
        if let Some(folder) = path.parent().filter(|folder| depth == 0 && folder.join(FINISHED_NAME).exists()) {
            found(folder);
        }
        return;
    }
    if path.join(FINISHED_NAME).exists() {
        return found(path);
    }
    // Of a data folder, the finished ones: what is open has no word to keep yet.
    let media = path.join("media");
    let below = if depth == 0 && media.is_dir() { media } else { path.to_owned() };
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(&below).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|entry| entry.is_dir()).collect();
    entries.sort();
    if depth < DEPTH_MAX {
        entries.iter().for_each(|entry| each_recording(entry, depth + 1, found));
    }
}

/// What is not as it was when the recording was finished. Of an encrypted one, whose key this process does not have, only bytes and checksums are compared.
///
/// # Errors
/// If it cannot be read.
pub fn verify(folder: &Path) -> Result<Vec<String>, VerifyError> {
    let path = folder.join(FINISHED_NAME);
    let recorded: FinishedFile = serde_json::from_str(&text(&path)?).map_err(|error| reading(&path)(error.into()))?;
    let mut faults = Vec::new();
    let size_bytes = finish::folder_bytes(folder).map_err(reading(folder))?;
    if size_bytes != recorded.size_bytes {
        faults.push(format!("{size_bytes} bytes, when finished {}", recorded.size_bytes));
    }
    let entry = folder.join(&recorded.entry);
    if !entry.is_file() {
        faults.push(format!("{} is missing", recorded.entry));
        return Ok(faults);
    }
    let parts = if recorded.identity.format == Format::Hls {
        check_playlist(folder, &text(&entry)?, &mut faults);
        let parts = finish::media_files(folder, &recorded.identity, &recorded.entry).map_err(reading(folder))?;
        parts.into_iter().map(|(number, name)| (number, folder.join(name))).collect()
    } else {
        vec![(1, entry)]
    };
    if matches!(recorded.identity.source, RecordingSource::Made(_)) {
        // A clip is not written as recordings are: it is whole if its index leads to media that are there.
        if recorded.identity.format == Format::Mp4 {
            for (_, part) in parts {
                let file = File::open(&part).map_err(reading(&part))?;
                let length = file.metadata().map_err(reading(&part))?.len();
                mp4::read_movie(&FileReader::new(&file, length)).map_err(|source| VerifyError::Scan { path: part.clone(), source })?;
            }
        }
        return Ok(faults);
    }
    check_receipt(folder, &recorded, &mut faults);
    let mut found = Vec::new();
    for (number, part) in parts {
        let sealing = match recorded.identity.encryption {
            Some(terms) => match Sealing::of(recorded.identity.file_id, number, terms) {
                Some(sealing) => Some(sealing),
                None => {
                    println!("{}: it is encrypted; only its checksums were compared: name the data folder, where the key is, too", folder.display());
                    return Ok(faults);
                }
            },
            None => None,
        };
        found.push(scan(&part, sealing.as_ref(), &mut faults)?);
    }
    let summary = finish::total(&found);
    if summary != recorded.summary {
        faults.push(format!("it holds {}, when finished {}", shown(&summary), shown(&recorded.summary)));
    }
    Ok(faults)
}

/// The bytes are those that were handed to the disk; and what the disk refused is said.
fn check_receipt(folder: &Path, recorded: &FinishedFile, faults: &mut Vec<String>) {
    for sum in &recorded.receipt.checksums {
        // A name with a slash is none of ours.
        let path = folder.join(Path::new(&sum.file).file_name().unwrap_or_default());
        match File::open(&path).and_then(|file| checksum::check(&file, sum)) {
            Ok(ranges) => faults
                .extend(ranges.into_iter().map(|range| format!("bytes {} to {} of {} are not what was recorded", range.start, range.end, sum.file))),
            Err(error) => faults.push(format!("{} cannot be compared with its checksum: {error}", sum.file)),
        }
    }
    for sentence in told(&recorded.receipt) {
        println!("{}: when it was recorded: {sentence}", folder.display());
    }
}

/// What a receipt has to say beside its numbers.
fn told(receipt: &Receipt) -> impl Iterator<Item = String> {
    receipt.odd_times().into_iter().chain([receipt.trouble()]).filter(|sentence| !sentence.is_empty())
}

/// Notes what the receipt beside a recording's file says, if there is one.
pub(super) fn recorded_notes(path: &Path, report: &mut Report) {
    let read = || serde_json::from_str::<FinishedFile>(&text(&path.parent()?.join(FINISHED_NAME)).ok()?).ok();
    let Some(recorded) = read().filter(|recorded| path.file_name() == Some(recorded.entry.as_ref())) else { return };
    told(&recorded.receipt).for_each(|sentence| report.note(format!("When it was recorded: {sentence}.")));
}

fn text(path: &Path) -> Result<String, VerifyError> {
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(TEXT_BYTES_MAX).read_to_string(&mut text)).map_err(reading(path))?;
    Ok(text)
}

/// A fresh scan of one media file, which must find nothing to do.
fn scan(path: &Path, sealing: Option<&Sealing>, faults: &mut Vec<String>) -> Result<MediaSummary, VerifyError> {
    let file = File::open(path).map_err(reading(path))?;
    let length = file.metadata().map_err(reading(path))?.len();
    let reader = FileReader::new(&file, length);
    let scanned = match sealing {
        Some(sealing) => finish::scan_sealed(&reader, sealing),
        None => finish::scan_media(&reader, path, true),
    };
    let plan = scanned.map_err(|source| VerifyError::Scan { path: path.to_owned(), source })?.plan;
    let mut as_planned = plan.append.is_empty() && plan.insert.is_none();
    for (offset, bytes) in &plan.writes {
        let mut there = vec![0; bytes.len()];
        let count = reader.read_at(*offset, &mut there).map_err(reading(path))?;
        as_planned &= count == bytes.len() && there == *bytes;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if plan.truncate_to < length {
        faults.push(format!("{name} is damaged from byte {} on", plan.truncate_to));
    } else if !as_planned {
        faults.push(format!("the index of {name} does not fit its media"));
    }
    Ok(plan.summary)
}

/// Every file and byte range that the playlist names is there, and it has ended.
fn check_playlist(folder: &Path, text: &str, faults: &mut Vec<String>) {
    let mut range_end = None;
    for line in text.lines() {
        if let Some(range) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            let (length, offset) = range.split_once('@').unwrap_or((range, "0"));
            range_end = length.parse::<u64>().ok().zip(offset.parse::<u64>().ok()).and_then(|(length, offset)| length.checked_add(offset));
        }
        let map = line.strip_prefix("#EXT-X-MAP:URI=\"").and_then(|rest| rest.split('"').next());
        let Some(uri) = map.or_else(|| (!line.is_empty() && !line.starts_with('#')).then_some(line)) else { continue };
        match std::fs::metadata(folder.join(uri)) {
            Err(error) => faults.push(format!("the playlist names {uri}: {error}")),
            Ok(metadata) if range_end.is_some_and(|end| end > metadata.len()) => {
                faults.push(format!("the playlist names bytes behind the end of {uri}"))
            }
            Ok(_) => {}
        }
        range_end = None;
    }
    if !text.lines().any(|line| line == "#EXT-X-ENDLIST") {
        faults.push("the playlist has no end (EXT-X-ENDLIST)".to_owned());
    }
}

fn shown(summary: &MediaSummary) -> String {
    let tracks: Vec<String> = summary.tracks().map(|(kind, track)| format!("{} {kind} frames of {} bytes", track.frames, track.bytes)).collect();
    format!("{} in {} ms", if tracks.is_empty() { "nothing".to_owned() } else { tracks.join(" and ") }, summary.duration_ms)
}
