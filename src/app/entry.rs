//! Finished files on their way into the catalog.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use crate::catalog::{Catalog, FellBack};
use crate::domain::{FinishedFile, naming};
use crate::segment::gathering::Gathering;
use crate::segment::{self, Storage, finish};
use crate::units::FileId;

use super::wall_now;

/// Finished files on their way into the catalog. When full the finisher waits; the files stay adoptable.
pub(super) const ENTRIES_MAX: usize = 4096;

/// Files entered in one transaction.
const ENTRY_BATCH_MAX: usize = 256;

/// Those of recordings that ended together come one shortly after the other: the first of them waits for the others this long.
const ENTRY_GATHER: Duration = Duration::from_millis(5);

/// A catalog that refuses is tried again after this.
const ENTRY_RETRY: Duration = Duration::from_secs(1);

/// The way of finished files into the catalog. Closed by us: a thread that hangs with its disk must not keep the catalog waiting for it.
pub(super) type EntrySender = Arc<ArcSwapOption<Sender<FinishedFile>>>;

pub(super) fn enter(sender: &EntrySender, file: FinishedFile) -> bool {
    // Kept while it sends.
    let sender = sender.load_full();
    sender.is_some_and(|sender| sender.send(file).is_ok())
}

/// Enters finished files into the catalog, many at once when they come in bursts. A catalog that refuses costs time, not files.
pub(super) fn enter_files(
    queue: &Receiver<FinishedFile>,
    catalog: &Catalog,
    (storage, unsummed): (&Storage, &Sender<(usize, FileId)>),
    zone: &jiff::tz::TimeZone,
) {
    let mut waiting: Vec<FinishedFile> = Vec::new();
    let mut ended = false;
    let mut gathering = Gathering::new(ENTRY_GATHER);
    while !(ended && waiting.is_empty()) {
        if waiting.is_empty() {
            match queue.recv() {
                Ok(file) => waiting.push(file),
                Err(_) => return,
            }
            gathering.wait();
        }
        while waiting.len() < ENTRY_BATCH_MAX {
            match queue.try_recv() {
                Ok(file) => waiting.push(file),
                Err(error) => {
                    ended |= error.is_disconnected();
                    break;
                }
            }
        }
        let named = waiting.iter().map(|file| (file.clone(), naming::catalog_name(&file.identity, file.end, zone))).collect();
        match catalog.enter_files(named, wall_now()) {
            Ok(fell_back) => {
                for FellBack { file_id, gone } in fell_back {
                    tracing::warn!(%file_id, %gone, "what the template of a file names is not there");
                }
                for file in waiting.drain(..) {
                    entered(&file, storage, unsummed);
                }
            }
            Err(error) => {
                tracing::error!(%error, files = waiting.len(), "the catalog takes no files; trying again");
                if ended {
                    tracing::error!(files = waiting.len(), "the files are entered at the next start");
                    return;
                }
                // Waits for the next file or the time, whichever is first.
                match queue.recv_timeout(ENTRY_RETRY) {
                    Ok(file) => waiting.push(file),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => ended = true,
                }
            }
        }
    }
}

fn entered(file: &FinishedFile, storage: &Storage, unsummed: &Sender<(usize, FileId)>) {
    tracing::info!(
        file_id = %file.identity.file_id,
        stream = %file.identity.key,
        format = file.identity.format.name(),
        bytes = file.size_bytes,
        duration_ms = file.summary.duration_ms,
        reason = ?file.reason,
        path = %format_args!("{}/{}", file.folder, file.entry),
        "file finished"
    );
    storage.places.forget(file.identity.file_id);
    // A disk that hangs by now keeps its note; the file is looked at again at the next start.
    let Ok((index, settings, within)) = storage.locate(&file.folder) else { return };
    let file_id = file.identity.file_id;
    if segment::unsummed::lacks(settings, within, file) && segment::unsummed::note(settings, file_id).is_ok() {
        // Full: the next start does it.
        let _ = unsummed.try_send((index, file_id));
        return;
    }
    let note = finish::note_path(settings, file_id);
    if let Err(error) = std::fs::remove_file(&note)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %note.display(), %error, "the note of an entered file could not be removed");
    }
}
