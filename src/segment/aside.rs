//! Arena files of a dead process that are kept. Those that cannot be read, or not wholly, may hold what was received, so they stay until somebody has looked at
//! them; others hold what their disk does not take yet, and are tried again.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::space::free_bytes;

/// The end of the name of what cannot be read.
pub const SUFFIX: &str = ".unreadable";
/// And of what waits for its disk.
const WAITING_SUFFIX: &str = ".waiting";
/// Files that are kept in one folder; the oldest go first. What one run leaves behind has as many as it had ingest cores.
const KEPT_MAX: usize = 16;
/// Copied at a time; what is all zeros was never used and becomes a hole.
const PIECE_BYTES: usize = 64 << 10;

/// Moves the arena file at `path` out of the way of a new one: into `to`, on a disk; if that cannot take it, beside where it is, from where the next start tries
/// again. Returns where it is now; `None`: nothing was in it, and it is gone.
///
/// # Errors
/// If it can be brought to neither.
pub fn put_aside(path: &Path, to: &Path) -> io::Result<Option<PathBuf>> {
    let name = name_of(path, SUFFIX)?;
    match copy_used(path, &to.join(&name)) {
        Ok(0) => {
            std::fs::remove_file(path)?;
            Ok(None)
        }
        Ok(_) => {
            std::fs::remove_file(path)?;
            prune(to)?;
            Ok(Some(to.join(name)))
        }
        Err(error) => {
            let beside = path.with_file_name(name);
            tracing::warn!(path = %path.display(), to = %to.display(), %error, "an arena file of an earlier run cannot be copied to the disk; it stays in memory");
            std::fs::rename(path, &beside)?;
            prune(beside.parent().unwrap_or(to))?;
            Ok(Some(beside))
        }
    }
}

/// Moves an arena file whose blocks wait for their disk out of the way of a new one: into `to`, if that is on a disk that takes it, where it outlives the
/// machine's memory, else beside where it is. Returns where it is now.
///
/// # Errors
/// If it can be brought to neither.
pub fn keep_waiting(path: &Path, to: &Path) -> io::Result<PathBuf> {
    let name = name_of(path, WAITING_SUFFIX)?;
    if path.parent() == Some(to) {
        return Ok(path.to_owned());
    }
    match copy_used(path, &to.join(&name)) {
        Ok(_) => {
            std::fs::remove_file(path)?;
            Ok(to.join(name))
        }
        Err(_) => {
            let beside = path.with_file_name(name);
            std::fs::rename(path, &beside)?;
            Ok(beside)
        }
    }
}

/// Sorts by age: the time in it is that of the last change, usually of the arena's creation.
fn name_of(path: &Path, suffix: &str) -> io::Result<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if is_kept(path) {
        let stem = name.trim_end_matches(SUFFIX).trim_end_matches(WAITING_SUFFIX);
        return Ok(format!("{stem}{suffix}"));
    }
    let metadata = path.metadata()?;
    let changed_ms = metadata.mtime().saturating_mul(1_000).saturating_add(metadata.mtime_nsec() / 1_000_000);
    Ok(format!("arena-{changed_ms:013}-{name}{suffix}"))
}

/// Copies what is not zero. Returns how many bytes that was; without any there is no copy.
fn copy_used(from: &Path, to: &Path) -> io::Result<u64> {
    let source = File::open(from)?;
    let (length, used) = (source.metadata()?.len(), source.metadata()?.blocks().saturating_mul(512));
    let folder = to.parent().unwrap_or(to);
    std::fs::create_dir_all(folder)?;
    // Recording comes first: half of what the disk has left at most.
    if free_bytes(folder)? / 2 < length.min(used) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let copied = File::create(to).and_then(|target| {
        let mut piece = vec![0; PIECE_BYTES];
        let (mut at, mut used) = (0, 0);
        while at < length {
            let piece = &mut piece[..PIECE_BYTES.min(usize::try_from(length - at).unwrap_or(PIECE_BYTES))];
            source.read_exact_at(piece, at)?;
            if piece.iter().any(|byte| *byte != 0) {
                target.write_all_at(piece, at)?;
                used += piece.len() as u64;
            }
            at += piece.len() as u64;
        }
        target.set_len(length)?;
        target.sync_all()?;
        Ok(used)
    });
    if !matches!(copied, Ok(1..)) {
        let _ = std::fs::remove_file(to);
        // Only if nothing else is in it.
        let _ = std::fs::remove_dir(folder);
    }
    copied
}

/// Removes the oldest of more than [`KEPT_MAX`].
fn prune(folder: &Path) -> io::Result<()> {
    let mut kept: Vec<PathBuf> = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).filter(|path| is_aside(path)).collect();
    kept.sort();
    let excess = kept.len().saturating_sub(KEPT_MAX);
    for path in kept.drain(..excess) {
        tracing::warn!(path = %path.display(), "an arena file of an earlier run that could not be read is removed: newer ones take its place");
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Removes the folder of arenas whose content is on the disk, but nothing that is kept in it.
///
/// # Errors
/// What the file system says.
pub fn remove_arenas(folder: &Path) -> io::Result<()> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    if !entries.iter().any(|path| is_kept(path)) {
        return std::fs::remove_dir_all(folder);
    }
    entries.iter().filter(|path| !is_kept(path)).try_for_each(std::fs::remove_file)
}

/// Arena files in `folder` whose blocks wait for their disk.
pub fn waiting_in(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| ends_with(path, WAITING_SUFFIX))
}

fn is_aside(path: &Path) -> bool {
    ends_with(path, SUFFIX)
}

/// Is it one that is kept?
pub fn is_kept(path: &Path) -> bool {
    is_aside(path) || ends_with(path, WAITING_SUFFIX)
}

fn ends_with(path: &Path, suffix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_copied_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let (arenas, kept) = (folder.path().join("arenas"), folder.path().join("kept"));
        std::fs::create_dir(&arenas).unwrap();
        let path = arenas.join("core-0.arena");
        for number in 0..KEPT_MAX + 3 {
            let file = File::create(&path).unwrap();
            file.set_len(1 << 20).unwrap();
            file.write_all_at(format!("received {number:02}").as_bytes(), 700_000).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000 + number as u64)).unwrap();
            let aside = put_aside(&path, &kept).unwrap().expect("something was in it");
            assert!(aside.starts_with(&kept) && !path.exists());
            let bytes = std::fs::read(&aside).unwrap();
            assert_eq!((bytes.len(), &bytes[700_000..700_011]), (1 << 20, format!("received {number:02}").as_bytes()));
            assert!(aside.metadata().unwrap().blocks() * 512 <= 2 * PIECE_BYTES as u64, "holes stay holes");
        }
        let mut names: Vec<_> = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names.len(), KEPT_MAX);
        assert_eq!(names[0], "arena-1700000003000-core-0.arena.unreadable");
    }

    #[test]
    fn one_that_was_never_used_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, kept) = (folder.path().join("core-0.arena"), folder.path().join("kept"));
        for bytes in [0, 1 << 20] {
            File::create(&path).unwrap().set_len(bytes).unwrap();
            assert_eq!(put_aside(&path, &kept).unwrap(), None);
            assert!(!path.exists() && !kept.exists());
        }
    }

    #[test]
    fn where_the_disk_does_not_take_it_it_stays_in_memory_under_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let (arenas, kept) = (folder.path().join("arenas"), folder.path().join("kept"));
        std::fs::create_dir(&arenas).unwrap();
        let path = arenas.join("core-0.arena");
        std::fs::write(&path, b"received").unwrap();
        std::fs::write(&kept, b"no folder").unwrap();
        let beside = put_aside(&path, &kept).unwrap().expect("something was in it");
        assert!(beside.parent() == path.parent() && is_aside(&beside) && !path.exists());
        // A run, to its end.
        std::fs::write(&path, b"an arena").unwrap();
        remove_arenas(&arenas).unwrap();
        assert!(beside.exists() && !path.exists());
        // The next start.
        std::fs::remove_file(&kept).unwrap();
        let aside = put_aside(&beside, &kept).unwrap().expect("something was in it");
        assert_eq!((aside.parent(), aside.file_name()), (Some(kept.as_path()), beside.file_name()));
        assert!(std::fs::read(&aside).unwrap() == b"received" && !beside.exists());
        remove_arenas(&arenas).unwrap();
        assert!(!arenas.exists());
    }
}
