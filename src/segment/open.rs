//! The recordings that are open now.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::RecordingIdentity;
use crate::units::{FileId, Format, StreamKey};

/// Kept by the disk threads of a folder; asked by those who play what is still being recorded.
#[derive(Debug, Default)]
pub struct OpenRecordings(Mutex<BTreeMap<FileId, RecordingIdentity>>);

impl OpenRecordings {
    pub(super) fn begun(&self, identity: &RecordingIdentity) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(identity.file_id, identity.clone());
    }

    /// A recording that an earlier run had begun goes on.
    pub(super) fn goes_on(&self, file_id: FileId, read: impl FnOnce() -> Option<RecordingIdentity>) {
        let is_known = self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&file_id);
        if let (false, Some(identity)) = (is_known, if is_known { None } else { read() }) {
            self.begun(&identity);
        }
    }

    /// What its folder says of it, if it was begun or gone on with here.
    pub(super) fn ended(&self, file_id: FileId) -> Option<RecordingIdentity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&file_id)
    }

    /// Recordings of one format that `matches`, the newest last.
    pub fn find(&self, format: Format, matches: impl Fn(&StreamKey) -> bool) -> Vec<RecordingIdentity> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().filter(|identity| identity.format == format && matches(&identity.key)).cloned().collect()
    }
}
