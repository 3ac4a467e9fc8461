//! Media files as their containers' scans read them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::container::{ReadAt, ScanError, Scanned, es, flv, mp4, mpegts};
use crate::domain::sealing::Sealing;
use crate::segment::headers::Headers;

/// A file as `scan` reads it.
pub struct FileReader<'a> {
    file: &'a File,
    length: u64,
    known: Option<&'a Headers>,
}

impl<'a> FileReader<'a> {
    /// `length`: of the file at this moment; what is appended later is not read.
    pub fn new(file: &'a File, length: u64) -> Self {
        Self { file, length, known: None }
    }

    /// `headers` are in the file.
    pub fn knowing(self, headers: Option<&'a Headers>) -> Self {
        Self { known: headers, ..self }
    }
}

impl ReadAt for FileReader<'_> {
    fn len(&self) -> u64 {
        self.length
    }
    fn knows(&self, offset: u64, buffer: &mut [u8]) -> bool {
        self.known.is_some_and(|headers| headers.read(offset, buffer))
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// Scans a media file by the extension of its name.
///
/// # Errors
/// Those of the container's scan.
pub fn scan_media(reader: &FileReader<'_>, path: &Path, insert_supported: bool) -> Result<Scanned, ScanError> {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "mp4" | "m4s" => mp4::scan(reader, insert_supported).map(|mut scan| {
            // Fragments are timed by their video; the part ends when its last track does.
            let first_ms = scan.fragments.first().map_or(0, |first| first.start_ms);
            if let Some(last) = scan.fragments.last_mut() {
                let end_ms = first_ms.saturating_add_unsigned(scan.plan.summary.duration_ms);
                last.duration_ms = end_ms.saturating_sub(last.start_ms).max(0) as u64;
            }
            Scanned { plan: scan.plan, fragments: scan.fragments }
        }),
        "ts" => mpegts::scan(reader).map(Scanned::from),
        "flv" => flv::scan(reader).map(Scanned::from),
        "aac" => es::scan_adts(reader).map(Scanned::from),
        _ => es::scan_mp3(reader).map(Scanned::from),
    }
}

/// As [`scan_media`], of a transport stream whose segments are encrypted.
///
/// # Errors
/// Those of the scan.
pub fn scan_sealed(reader: &FileReader<'_>, sealing: &Sealing) -> Result<Scanned, ScanError> {
    mpegts::seal::scan(reader, sealing).map(Scanned::from)
}
