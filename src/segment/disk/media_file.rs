//! One open media file on the disk: how it is created, allocated and written.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, OFlags};

use crate::container::OpenMedia;
use crate::domain::receipt::Damage;
use crate::segment::folders::LOCK_NAME;
use crate::segment::headers::Head;
use crate::segment::health::DiskHealth;
use crate::segment::store::WRITE_ALIGN_BYTES;
use crate::segment::{faults, finish};

/// Preallocation begins with this and doubles, so that a weak stream does not hold a fat one's space.
pub(super) const ALLOCATE_BYTES_MIN: u64 = 1 << 20;
const ALLOCATE_BYTES_MAX: u64 = 64 << 20;

/// Memory that a direct write accepts.
pub struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    pub fn new(bytes: usize) -> Self {
        let memory = vec![0; bytes + WRITE_ALIGN_BYTES as usize];
        let start = memory.as_ptr().align_offset(WRITE_ALIGN_BYTES as usize);
        Self { memory, start }
    }

    fn capacity(&self) -> usize {
        self.memory.len() - WRITE_ALIGN_BYTES as usize
    }

    /// Its first `bytes` bytes.
    pub fn slice(&mut self, bytes: usize) -> &mut [u8] {
        &mut self.memory[self.start..self.start + bytes]
    }

    /// `bytes`, padded with zeros to a whole number of pages.
    pub(super) fn padded(&mut self, bytes: &[u8]) -> &[u8] {
        let padded = bytes.len().next_multiple_of(WRITE_ALIGN_BYTES as usize);
        let target = self.slice(padded);
        target[..bytes.len()].copy_from_slice(bytes);
        target[bytes.len()..].fill(0);
        target
    }
}

pub(super) struct OpenOnDisk {
    /// `None`: it was not written to for long, and others need the descriptor.
    pub(super) file: Option<File>,
    pub(super) path: PathBuf,
    /// False where the file system refuses O_DIRECT: buffered writes, pushed out by the sync thread.
    pub(super) direct: bool,
    pub(super) allocated: u64,
    pub(super) allocate_step: u64,
    /// As the file system has it: what was written, and the padding of its last page.
    pub(super) length: u64,
    /// The last batch it takes part in, and the end of its writes there.
    pub(super) batch: (u64, u64),
    pub(super) failed: Arc<AtomicBool>,
    /// The same media under the name that an HLS recording has for them.
    pub(super) link: Option<PathBuf>,
    /// Bytes handed to the disk so far, and until the last sync.
    pub(super) end: u64,
    pub(super) damage: Option<Damage>,
    /// Kept for files of fragments: finishing reads it, and writes beside what stands in it.
    pub(super) head: Option<Head>,
}

impl OpenOnDisk {
    /// A file that has failed takes nothing more: what comes for it belongs to its damage.
    pub(super) fn takes(&mut self, offset: u64, data: &[u8]) -> bool {
        if let Some(damage) = &mut self.damage {
            damage.bytes = damage.bytes.max((offset + data.len() as u64).saturating_sub(damage.offset));
        }
        !data.is_empty() && !self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn descriptor(&self) -> &File {
        self.file.as_ref().expect("a file gets its descriptor when a write to it is gathered")
    }

    pub(super) fn fail(&mut self, from: u64, to: u64, error: &io::Error) {
        self.failed.store(true, Ordering::Relaxed);
        let file = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.damage.get_or_insert(Damage { file, offset: from, bytes: to - from, error: error.to_string() });
    }

    /// Writes alone what was not written together with others. A disk that is full takes what is open: there is ballast for it.
    pub(super) fn write_alone(&mut self, offset: u64, data: &[u8], bounce: &mut AlignedBuffer, health: &DiskHealth) -> io::Result<()> {
        match self.write(offset, data, bounce) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && health.no_space() => self.write(offset, data, bounce),
            written => written,
        }
    }

    /// `data` is at `offset` in the file.
    pub(super) fn stored(&mut self, offset: u64, data: &[u8], health: &DiskHealth) {
        let end = offset + data.len() as u64;
        health.wrote(end.saturating_sub(self.end));
        self.end = self.end.max(end);
    }

    /// Space for a write that ends at `end`, and the length that the file has to get for it, if it grows.
    pub(super) fn make_room(&mut self, end: u64) -> io::Result<Option<u64>> {
        if end > self.allocated {
            self.allocate(end)?;
        }
        let padded = end.next_multiple_of(WRITE_ALIGN_BYTES);
        let longer = padded > self.length;
        self.length = self.length.max(padded);
        Ok(longer.then_some(padded))
    }

    fn write(&mut self, offset: u64, data: &[u8], bounce: &mut AlignedBuffer) -> io::Result<()> {
        faults::before(faults::Step::Write, &self.path)?;
        // The write itself makes the file longer.
        self.make_room(offset + data.len() as u64)?;
        if !self.direct {
            return self.descriptor().write_all_at(data, offset);
        }
        let whole = data.len() - data.len() % WRITE_ALIGN_BYTES as usize;
        // The last, partial page goes out padded from the bounce buffer, in the same call: each call is a trip to the device.
        match write_both_at(self.descriptor(), &data[..whole], bounce.padded(&data[whole..]), offset) {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                // Some file systems take the flag and refuse the write.
                self.file = Some(open_media(&self.path, false)?);
                self.direct = false;
                self.write(offset, data, bounce)
            }
            Err(error) => Err(error),
        }
    }

    fn allocate(&mut self, end: u64) -> io::Result<()> {
        let length = (end - self.allocated).max(self.allocate_step).next_multiple_of(WRITE_ALIGN_BYTES);
        // KEEP_SIZE: the length stays what was written, so that an unfinished file has no tail of zeros for a player.
        match rustix::fs::fallocate(self.descriptor(), FallocateFlags::KEEP_SIZE, self.allocated, length) {
            Ok(()) => {
                self.allocated += length;
                self.allocate_step = (self.allocate_step * 2).min(ALLOCATE_BYTES_MAX);
                Ok(())
            }
            // No room for a whole step, or no such call on this file system: the write itself decides.
            Err(rustix::io::Errno::NOSPC | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                self.allocated = end;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes `first` and `second`, one behind the other.
fn write_both_at(file: &File, mut first: &[u8], mut second: &[u8], mut offset: u64) -> io::Result<()> {
    while !(first.is_empty() && second.is_empty()) {
        let written = match rustix::io::pwritev(file, &[IoSlice::new(first), IoSlice::new(second)], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        offset += written as u64;
        let of_first = written.min(first.len());
        first = &first[of_first..];
        second = &second[written - of_first..];
    }
    Ok(())
}

/// Creates the recording's folders, their identities and small files, and the media file with its head.
pub(super) fn create(recording: &Path, open: &OpenMedia, bounce: &mut AlignedBuffer) -> io::Result<(File, PathBuf, bool)> {
    faults::before(faults::Step::Create, &finish::media_path(recording, open.media))?;
    for identity in &open.begin {
        let folder = recording.join(identity.file_id.to_string());
        match std::fs::create_dir(&folder) {
            // Somebody has removed the folder of open recordings; but where a disk is not mounted nothing is made.
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_data_folder(recording) => std::fs::create_dir_all(&folder)?,
            created => created?,
        }
        std::fs::write(folder.join(finish::IDENTITY_NAME), finish::identity_text(identity)?)?;
    }
    for small in &open.small_files {
        std::fs::write(recording.join(small.folder.to_string()).join(&small.name), &small.bytes)?;
    }
    let path = finish::media_path(recording, open.media);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    let (file, mut direct) = match options.custom_flags(direct_flag()).open(&path) {
        Ok(file) => (file, true),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            // The failed open may have created the file already.
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
            (file, false)
        }
        Err(error) => return Err(error),
    };
    let mut file = file;
    let step = bounce.capacity();
    for (index, piece) in open.head.chunks(step).enumerate() {
        let offset = (index * step) as u64;
        let result = file.write_all_at(bounce.padded(piece), offset);
        if let Err(error) = result {
            if !direct || error.raw_os_error() != Some(rustix::io::Errno::INVAL.raw_os_error()) {
                return Err(error);
            }
            file = open_media(&path, false)?;
            direct = false;
            file.write_all_at(piece, offset)?;
        }
    }
    if let Some(link) = open.link {
        std::fs::hard_link(&path, finish::media_path(recording, link))?;
    }
    Ok((file, path, direct))
}

/// A data folder in use has a lock.
fn is_data_folder(recording: &Path) -> bool {
    recording.parent().is_some_and(|data| data.join(LOCK_NAME).exists())
}

fn direct_flag() -> i32 {
    i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default()
}

/// A media file that is there.
pub(super) fn open_media(path: &Path, direct: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(if direct { direct_flag() } else { 0 }).open(path)
}
