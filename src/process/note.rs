//! What was made of a recording, noted beside it: a catalog that is built again finds the results by it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::domain::flow::{FileResults, RESULTS_NAME};

/// Puts the note into the recording's folder, whole or not at all.
///
/// # Errors
/// If it cannot be written; the note of before stays.
pub fn write(folder: &Path, results: &FileResults) -> io::Result<()> {
    let beside = folder.join(format!("{RESULTS_NAME}.new"));
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(results).map_err(io::Error::other)?)?;
        file.sync_data()?;
        fs::rename(&beside, folder.join(RESULTS_NAME))?;
        File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| {
        // It may not even have been created.
        let _ = fs::remove_file(&beside);
    })
}
