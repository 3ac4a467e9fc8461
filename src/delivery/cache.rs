//! What the catalog said and which files are open, for as long as the catalog does not change: viewers ask for the same few files again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::http::Stored;
use super::playlist::Packaged;
use super::resolve::Entry;
use crate::units::FileId;

const ENTRIES_MAX: usize = 4_096;
/// Open files; each holds a descriptor.
const FILES_MAX: usize = 256;
/// Recordings whose index is held: some MiB for each hour.
const PACKAGED_MAX: usize = 8;

#[derive(Debug, Default)]
pub struct Cache {
    kept: Mutex<Kept>,
    /// These are of files, whatever the catalog says of others.
    packaged: Mutex<Vec<(FileId, Arc<Packaged>)>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Of the catalog that all of this is from.
    version: u64,
    entries: HashMap<FileId, Arc<Entry>>,
    files: HashMap<(FileId, String), Stored>,
}

impl Cache {
    fn with<T>(&self, version: u64, act: impl FnOnce(&mut Kept) -> T) -> T {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.version != version {
            *kept = Kept { version, ..Kept::default() };
        }
        act(&mut kept)
    }

    pub fn entry(&self, version: u64, file_id: FileId) -> Option<Arc<Entry>> {
        self.with(version, |kept| kept.entries.get(&file_id).cloned())
    }

    pub fn keep_entry(&self, version: u64, file_id: FileId, entry: &Arc<Entry>) {
        self.with(version, |kept| {
            // Rare, and cheap to fill again: not worth an order of use.
            if kept.entries.len() >= ENTRIES_MAX {
                kept.entries.clear();
            }
            kept.entries.insert(file_id, Arc::clone(entry));
        });
    }

    /// What was kept of this file, if it is still the same.
    pub fn packaged(&self, file_id: FileId, stored: &Stored) -> Option<Arc<Packaged>> {
        let packaged = self.packaged.lock().unwrap_or_else(PoisonError::into_inner);
        packaged.iter().find(|(id, packaged)| *id == file_id && packaged.is_of(stored)).map(|(_, packaged)| Arc::clone(packaged))
    }

    pub fn keep_packaged(&self, file_id: FileId, new: &Arc<Packaged>) {
        let mut packaged = self.packaged.lock().unwrap_or_else(PoisonError::into_inner);
        packaged.retain(|(id, _)| *id != file_id);
        if packaged.len() >= PACKAGED_MAX {
            packaged.remove(0);
        }
        packaged.push((file_id, Arc::clone(new)));
    }

    pub fn file(&self, version: u64, file_id: FileId, part: &str) -> Option<Stored> {
        self.with(version, |kept| kept.files.get(&(file_id, part.to_owned())).cloned())
    }

    pub fn keep_file(&self, version: u64, file_id: FileId, part: &str, stored: &Stored) {
        self.with(version, |kept| {
            if kept.files.len() >= FILES_MAX {
                kept.files.clear();
            }
            kept.files.insert((file_id, part.to_owned()), stored.clone());
        });
    }
}
