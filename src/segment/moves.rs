//! Files whose bytes move while somebody reads them: room is inserted at the front of an MP4 file whose fragments a growing playlist lists.
//!
//! Readers of a growing recording address its parts *as they were recorded*. When room was inserted, the reader's offsets behind the insertion point are moved
//! by that much here; so a playlist that a viewer holds stays true for ever. The insertion itself waits for reads that are under way, and readers that come
//! meanwhile come again: nobody sees bytes of both states.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use crate::container::mp4::INSERT_AT;

/// An insertion is remembered at least this long for readers that opened the file before; later ones read the note beside the part.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// A file, whatever it is called: device and inode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileKey(u64, u64);

impl FileKey {
    pub fn of(stat: &Metadata) -> Self {
        Self(stat.dev(), stat.ino())
    }
}

/// The process's one table: a file moves for everybody.
pub static MOVES: Moves = Moves { table: RwLock::new(None) };

pub struct Moves {
    table: RwLock<Option<HashMap<FileKey, (u64, Instant)>>>,
}

impl Moves {
    /// Moves the bytes of `file` behind the insertion point by `shift_bytes`, which `act` does.
    ///
    /// # Errors
    /// Those of `act`; then nothing counts as moved.
    pub fn move_by(&self, file: &File, shift_bytes: u64, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let key = FileKey::of(&file.metadata()?);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        act()?;
        let now = Instant::now();
        let moved = table.get_or_insert_default();
        moved.retain(|_, (_, since)| now.duration_since(*since) < REMEMBERED);
        moved.insert(key, (shift_bytes, now));
        Ok(())
    }

    /// Runs `read` with how far the file has moved since it was recorded (`known` if that was before this process looked); nothing moves meanwhile.
    /// `None`: something moves just now; come again in a moment.
    pub fn try_read<T>(&self, key: FileKey, known: u64, read: impl FnOnce(u64) -> T) -> Option<T> {
        let table = match self.table.try_read() {
            Ok(table) => table,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let shift = table.as_ref().and_then(|table| table.get(&key)).map_or(known, |(shift, _)| *shift);
        Some(read(shift))
    }
}

/// Where byte `offset` of a part lies that has moved by `shift_bytes`, and how many bytes follow it there without a gap.
pub const fn locate(offset: u64, shift_bytes: u64) -> (u64, u64) {
    if shift_bytes > 0 && offset < INSERT_AT { (offset, INSERT_AT - offset) } else { (offset + shift_bytes, u64::MAX) }
}

/// Says beside a part how far its bytes have moved since they were recorded.
pub fn note_path(folder: &Path, part_name: &str) -> PathBuf {
    folder.join(format!("moved-{part_name}"))
}

/// Reads that note; 0 without one.
pub fn noted(folder: &Path, part_name: &str) -> u64 {
    std::fs::read_to_string(note_path(folder, part_name)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_one_state() {
        let file = tempfile::tempfile().unwrap();
        let key = FileKey::of(&file.metadata().unwrap());
        let moves = Moves { table: RwLock::new(None) };
        assert_eq!(moves.try_read(key, 8192, |shift| shift), Some(8192));
        assert!(moves.move_by(&file, 4096, || Err(io::Error::other("full"))).is_err());
        assert_eq!(moves.try_read(key, 0, |shift| shift), Some(0));
        moves
            .move_by(&file, 4096, || {
                assert_eq!(moves.try_read(key, 0, |shift| shift), None, "it moves just now");
                Ok(())
            })
            .unwrap();
        assert_eq!(moves.try_read(key, 0, |shift| shift), Some(4096));
        assert_eq!((locate(100, 0), locate(100, 4096), locate(4096, 4096)), ((100, u64::MAX), (100, INSERT_AT - 100), (8192, u64::MAX)));
    }
}
