//! The master key's file: made at the first start, read at every other, for nobody else's eyes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::domain::content_key::MasterKey;

/// In the data folder.
pub const NAME: &str = "master.key";

/// Reads the key, or makes one if there is no file.
///
/// # Errors
/// If the file cannot be read or written, is no key, or can be read by others.
pub fn read_or_make(data_folder: &Path) -> io::Result<MasterKey> {
    let path = data_folder.join(NAME);
    match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(data_folder, &path),
        other => other,
    }
}

/// The key of the data folder that `path` is or lies in. `None`: there is none that can be read.
pub fn find_above(path: &Path) -> Option<MasterKey> {
    path.canonicalize().ok()?.ancestors().find_map(|folder| read(&folder.join(NAME)).ok())
}

fn refused(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} {what}", path.display()))
}

fn read(path: &Path) -> io::Result<MasterKey> {
    let mut file = File::open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        return Err(refused(path, "can be read by others: chmod 600 it"));
    }
    let mut key = [0; 32];
    file.read_exact(&mut key)
        .map_err(|_| refused(path, "is no key of 32 bytes: put it back from a copy; without it, streams that are encrypted stay so"))?;
    Ok(MasterKey(key))
}

/// Written beside and renamed: half a key is none.
fn make(data_folder: &Path, path: &Path) -> io::Result<MasterKey> {
    let key: [u8; 32] = super::jobs::random()?;
    let beside = path.with_extension("key.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(data_folder)?.sync_all()?;
    Ok(MasterKey(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_kept_to_ourselves() {
        let folder = tempfile::tempdir().unwrap();
        let key = read_or_make(folder.path()).unwrap();
        let recording = folder.path().join("media/2026-01-31/7");
        fs::create_dir_all(&recording).unwrap();
        assert_eq!(find_above(&recording).map(|found| found.0), Some(key.0));
        assert!(find_above(&recording.join("none")).is_none());
        let path = folder.path().join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_or_make(folder.path()).unwrap().0, key.0);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_or_make(folder.path()).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(read_or_make(folder.path()).is_err(), "no new key in place of a damaged one");
    }
}
