//! Watches over the catalog's files while they are used: somebody may remove or replace them, of which SQLite hears nothing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};

use crate::rescue;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// What never changes at the beginning of a database: its name and its page size.
const HEAD_BYTES: usize = 24;

/// Ends when dropped.
pub struct CatalogWatch {
    why: Arc<Mutex<Option<String>>>,
    _stop: Sender<()>,
}

/// What is wrong, for `/healthz`.
#[derive(Clone)]
pub struct CatalogTrouble(Arc<Mutex<Option<String>>>);

impl CatalogTrouble {
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl CatalogWatch {
    /// The catalog in the folder `data` is open.
    ///
    /// # Errors
    /// If the file cannot be opened, or there is no thread.
    pub fn start(data: &Path) -> io::Result<Self> {
        let mut files = Files::open(data.join(rescue::CATALOG_NAME))?;
        let (stop, stopped) = bounded::<()>(0);
        let why = Arc::new(Mutex::new(None));
        let (told, data) = (Arc::clone(&why), data.to_owned());
        std::thread::Builder::new().name("catalog-watch".to_owned()).spawn(move || {
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let found = files.look();
                let mut why = told.lock().unwrap_or_else(PoisonError::into_inner);
                if *why == found {
                    continue;
                }
                why.clone_from(&found);
                drop(why);
                let Some(found) = found else {
                    tracing::info!("the catalog is in its place again");
                    continue;
                };
                tracing::error!("{found}");
                // Files that only the lost one has are entered at the next start.
                if let Err(error) = rescue::note_incomplete(&data) {
                    tracing::error!(error = &error as &dyn std::error::Error, "it cannot be noted that the catalog is to be built again");
                }
            }
        })?;
        Ok(Self { why, _stop: stop })
    }

    pub fn trouble(&self) -> CatalogTrouble {
        CatalogTrouble(Arc::clone(&self.why))
    }
}

/// The catalog and its journal as they were opened.
struct Files {
    path: PathBuf,
    /// Held: closing it anywhere in this process would take SQLite's locks on the file away.
    file: File,
    id: (u64, u64),
    /// It only grows.
    bytes: u64,
    head: [u8; HEAD_BYTES],
    journal: PathBuf,
    journal_id: Option<(u64, u64)>,
}

fn id_of(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Files {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = File::open(&path)?;
        let metadata = file.metadata()?;
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, 0)?;
        let mut journal = path.clone().into_os_string();
        journal.push("-wal");
        let journal = PathBuf::from(journal);
        let journal_id = fs::metadata(&journal).ok().as_ref().map(id_of);
        Ok(Self { file, id: id_of(&metadata), bytes: metadata.len(), head, path, journal, journal_id })
    }

    /// What is wrong. An error of the disk is not: others tell of it.
    fn look(&mut self) -> Option<String> {
        let what = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed",
            Err(_) => return None,
            Ok(metadata) if id_of(&metadata) != self.id => "was replaced by another file",
            Ok(metadata) if metadata.len() < self.bytes => "was cut off",
            Ok(metadata) => {
                self.bytes = metadata.len();
                let mut head = [0; HEAD_BYTES];
                if self.file.read_exact_at(&mut head, 0).is_ok() && head != self.head { "was overwritten" } else { "" }
            }
        };
        if !what.is_empty() {
            let path = self.path.display();
            return Some(format!("the catalog {path} {what} while it is used: recording goes on; start again, and it is built from the recordings"));
        }
        let is_gone = match fs::metadata(&self.journal) {
            Err(error) => error.kind() == io::ErrorKind::NotFound && self.journal_id.is_some(),
            Ok(metadata) => *self.journal_id.get_or_insert(id_of(&metadata)) != id_of(&metadata),
        };
        is_gone.then(|| {
            let journal = self.journal.display();
            format!("the catalog's journal {journal} was removed while it is used: recording goes on; start again, and the catalog is built from the recordings")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn what_somebody_does_to_the_files_is_seen() {
        type Harm = fn(&Path);
        let cases: [(Harm, &str); 6] = [
            (|_| (), ""),
            (|path| fs::remove_file(path).unwrap(), "was removed"),
            (
                |path| {
                    fs::copy(path, path.with_extension("copy")).unwrap();
                    fs::rename(path.with_extension("copy"), path).unwrap();
                },
                "was replaced by another file",
            ),
            (|path| File::options().write(true).open(path).unwrap().set_len(100).unwrap(), "was cut off"),
            (|path| File::options().write(true).open(path).unwrap().write_all_at(&[90; 4096], 0).unwrap(), "was overwritten"),
            (|path| fs::remove_file(path.with_extension("sqlite-wal")).unwrap(), "journal"),
        ];
        for (harm, expected) in cases {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join(rescue::CATALOG_NAME);
            let catalog = Catalog::open(&path).expect("a catalog");
            let mut files = Files::open(path.clone()).expect("its file");
            assert_eq!(files.look(), None);
            // SQLite's own changes are none.
            catalog.set_app_id(7);
            catalog.purge_tasks(crate::units::WallTime::from_unix_micros(0)).expect("a write");
            assert_eq!(files.look(), None);
            harm(&path);
            let found = files.look().unwrap_or_default();
            assert!(if expected.is_empty() { found.is_empty() } else { found.contains(expected) }, "{expected}: {found}");
            catalog.close();
        }
    }
}
