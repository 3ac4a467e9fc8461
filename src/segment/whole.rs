//! A store that keeps each file in memory and writes it whole when it is closed: for recovery, which replays the few frames that no file had taken.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::container::{MemorySink, OpenMedia, Pinned, RecordingEnd, Room, Scanned, Sink, Store};
use crate::domain::{PausedRecording, Resume, ResumeClaim};
use crate::units::FileId;

use super::finish;
use super::open_record::OpenRecord;

type Bytes = Rc<RefCell<MemorySink>>;

/// See the module.
pub struct WholeStore {
    /// Of all data folders; what begins goes into the first.
    recording: Vec<PathBuf>,
    ids: std::collections::VecDeque<FileId>,
    last_id: FileId,
    begun: Vec<FileId>,
    failed: Option<io::Error>,
}

pub struct WholeFile {
    bytes: Bytes,
    /// `None`: a log.
    open: Option<Box<OpenMedia>>,
}

pub struct WholePin {
    bytes: Bytes,
    end: u64,
}

impl WholeStore {
    /// Files get `ids` in this order; more files than there are ids are not written.
    pub fn new(recording: Vec<PathBuf>, ids: &[FileId]) -> Self {
        let last_id = ids.last().copied().unwrap_or(FileId::new(FileId::MIN).expect("the least id"));
        Self { recording, ids: ids.iter().copied().collect(), last_id, begun: Vec::new(), failed: None }
    }

    /// The recordings that began.
    ///
    /// # Errors
    /// The first that went wrong with their files.
    pub fn finish(self) -> io::Result<Vec<FileId>> {
        self.failed.map_or(Ok(self.begun), Err)
    }

    /// Where the recordings lie that a file belongs to.
    fn folder_for(&self, open: &OpenMedia) -> io::Result<&Path> {
        let holds = |recording: &PathBuf| {
            let mut folders = [Some(open.media), open.link].into_iter().flatten().map(|path| recording.join(path.folder.to_string()));
            folders.any(|folder| folder.exists())
        };
        let found = self.recording.iter().find(|recording| holds(recording)).or(self.recording.first());
        found.map(PathBuf::as_path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, open: &OpenMedia, bytes: &MemorySink) -> io::Result<()> {
        let recording = self.folder_for(open)?;
        let begun = OpenRecord::of(open, "").carry_out(recording)?;
        let path = finish::media_path(recording, open.media);
        self.begun.extend(begun);
        let head = open.head.len();
        OpenOptions::new().write(true).open(path)?.write_all_at(&bytes.bytes[head..], head as u64)
    }
}

impl Sink for WholeFile {
    fn position(&self) -> u64 {
        self.bytes.borrow().position()
    }
    fn append(&mut self, bytes: &[u8]) {
        self.bytes.borrow_mut().append(bytes);
    }
    fn draft(&mut self, from: u64) {
        self.bytes.borrow_mut().draft(from);
    }
    fn patch(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes.borrow_mut().patch(offset, bytes);
    }
    fn seal(&mut self, offset: u64) {
        self.bytes.borrow_mut().seal(offset);
    }
}

impl Pinned for WholePin {
    fn range(&self) -> std::ops::Range<u64> {
        0..self.end
    }
    fn copy_to(&self, offset: u64, len: usize, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.bytes.borrow().bytes[offset as usize..offset as usize + len]);
    }
}

impl Store for WholeStore {
    type File = WholeFile;
    type Pin = WholePin;
    type Note = ();

    fn next_file_id(&mut self) -> FileId {
        self.ids.pop_front().unwrap_or_else(|| {
            self.failed.get_or_insert_with(|| io::Error::other("more files than there are ids for them"));
            self.last_id
        })
    }

    fn open(&mut self, open: OpenMedia) -> Option<WholeFile> {
        Some(WholeFile { bytes: Rc::new(RefCell::new(MemorySink::with_head(&open.head))), open: Some(Box::new(open)) })
    }

    fn reserve(&mut self, _: &mut WholeFile, _: usize) -> bool {
        true
    }

    fn commit(&mut self, _: &mut WholeFile, _: u64) {}

    fn flush(&mut self, _: &mut WholeFile) {}

    fn has_failed(&self, _: &WholeFile) -> bool {
        self.failed.is_some()
    }

    fn room(&self, _: Option<&WholeFile>) -> Room {
        Room::Free
    }

    // The final playlist is built from the media.
    fn append_text(&mut self, _: FileId, _: &'static str, _: String) {}

    // Recovery scans every file.
    fn close(&mut self, file: WholeFile, _: Option<Scanned>) {
        if let Some(open) = &file.open
            && self.failed.is_none()
            && let Err(error) = self.write(open, &file.bytes.borrow())
        {
            self.failed = Some(error);
        }
    }

    fn end_recording(&mut self, _: RecordingEnd) {}

    fn resume(&mut self, _: &ResumeClaim, _: bool) -> Resume {
        // What was to be gone on with is known when the frames are replayed.
        Resume::No
    }

    /// Recovery sees to it: the recording lies open in its folder.
    fn pause_recording(&mut self, _: PausedRecording) {}

    fn open_log(&mut self) -> WholeFile {
        WholeFile { bytes: Bytes::default(), open: None }
    }

    fn close_log(&mut self, _: WholeFile) {}

    // What is replayed still lies where it came from: no notes.
    fn spare_ids(&mut self, _: usize) -> Vec<FileId> {
        Vec::new()
    }

    fn open_note(&mut self, _: &WholeFile, _: &[u8]) -> Option<()> {
        None
    }

    fn patch_note(&mut self, (): &mut (), _: usize, _: &[u8]) {}

    fn close_note(&mut self, (): ()) {}

    fn pin(&mut self, file: &WholeFile, _: u64, mut take: impl FnMut(WholePin)) {
        // One block as long as the file can become.
        take(WholePin { bytes: Rc::clone(&file.bytes), end: u64::MAX });
    }

    fn is_tight(&self) -> bool {
        false
    }
}
