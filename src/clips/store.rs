//! The folder of a file that is being made: beside the recordings until it is whole, then moved to where finished files lie.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::domain::FinishedFile;
use crate::segment::Storage;
use crate::segment::finish::FINISHED_NAME;
use crate::units::FileId;

/// Half-made files lie here; nobody looks for anything in it.
const FOLDER: &str = "clips";
const COPY_STEP_BYTES: usize = 8 << 20;

/// Removes what an earlier run left half-made.
pub fn clear(storage: &Storage) {
    for settings in &storage.finish {
        let folder = settings.data_folder.join(FOLDER);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %folder.display(), %error, "half-made clips of an earlier run cannot be removed");
            }
            _ => {}
        }
    }
}

/// A file that is being made.
pub struct Making {
    /// Empty at first.
    pub folder: PathBuf,
    /// Which of the data folders.
    index: usize,
}

impl Drop for Making {
    /// What was not published is not kept.
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.folder.display(), %error, "a half-made clip cannot be removed; the next start does it");
        }
    }
}

/// An empty folder for the file `id`, on the disk that is the best for it.
pub fn begin(storage: &Storage, id: FileId) -> io::Result<Making> {
    let index = storage.best().ok_or_else(|| io::Error::other("no disk takes a file"))?;
    let folder = storage.finish[index].data_folder.join(FOLDER).join(id.to_string());
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::create_dir_all(&folder)?;
    Ok(Making { folder, index })
}

/// Moves what was made to `file.folder` of its data folder, durable, and returns the file as the catalog has to know it. A file of this id that an
/// interrupted attempt left there is replaced.
pub fn publish(storage: &Storage, making: &Making, file: FinishedFile) -> io::Result<FinishedFile> {
    let (settings, made) = (&storage.finish[making.index], &making.folder);
    std::fs::write(made.join(FINISHED_NAME), serde_json::to_vec_pretty(&file).map_err(io::Error::other)?)?;
    for entry in std::fs::read_dir(made)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(made)?.sync_all()?;
    let target = settings.data_folder.join(&file.folder);
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
        match std::fs::remove_dir_all(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::rename(made, &target)?;
        File::open(parent)?.sync_all()?;
    }
    File::open(settings.media_folder())?.sync_all()?;
    Ok(storage.placed(making.index, file))
}

pub fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// Copies a stretch of a file inside the kernel: file systems that can share the blocks.
pub fn copy(from: &File, mut at: u64, to: &File, mut target: u64, mut bytes: u64) -> io::Result<()> {
    while bytes > 0 {
        let step = usize::try_from(bytes).unwrap_or(usize::MAX).min(COPY_STEP_BYTES);
        let copied = match rustix::fs::copy_file_range(from, Some(&mut at.clone()), to, Some(&mut target.clone()), step) {
            Ok(copied) => copied as u64,
            Err(rustix::io::Errno::INTR) => continue,
            // Between file systems that cannot: through memory.
            Err(rustix::io::Errno::XDEV | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => {
                let mut buffer = vec![0; step.min(1 << 20)];
                let count = from.read_at(&mut buffer, at)?;
                to.write_all_at(&buffer[..count], target)?;
                count as u64
            }
            Err(error) => return Err(error.into()),
        };
        if copied == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a recording is shorter than its index says"));
        }
        at += copied;
        target += copied;
        bytes -= copied;
    }
    Ok(())
}
