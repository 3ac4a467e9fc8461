//! The helper threads' work done step by step on the caller's thread: for simulations, which decide what happens when.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::segment::health::Helper;
use crate::segment::store::{DiskCommand, WRITE_ALIGN_BYTES};

use super::media_file::open_media;
use super::writer::Writer;
use super::{DiskHandle, DiskSettings, Parts};

/// As those of a [`super::Disk`]: few, so that a full queue is nothing rare; and more than it can come to, where nobody could wait.
const STEPPED_QUEUE_MAX: usize = 64;
const STEPPED_FINISH_QUEUE_MAX: usize = 4_096;

/// The helper threads' work done step by step on the caller's thread: for simulations, which decide what happens when.
pub struct SteppedDisk(Parts);

impl SteppedDisk {
    /// # Errors
    /// As [`super::Disk::start`].
    pub fn new(settings: DiskSettings) -> io::Result<Self> {
        Parts::new(settings, (STEPPED_QUEUE_MAX, STEPPED_FINISH_QUEUE_MAX)).map(Self)
    }

    pub fn handle(&self) -> DiskHandle {
        DiskHandle { sender: self.0.sender.clone(), health: Arc::clone(&self.0.writer.health) }
    }

    /// The writer carries out its next command. False: there is none.
    pub fn write(&mut self) -> bool {
        let Ok(command) = self.0.queue.try_recv() else { return false };
        self.0.writer.note_failed_sync();
        self.0.writer.take(command);
        self.0.writer.write_batch();
        self.0.writer.health.waits(Helper::Writer);
        true
    }

    /// What a death in the middle of the next command leaves: of a write, the first `pages` pages.
    pub fn tear(&mut self, pages: usize) {
        let Ok(DiskCommand::Write(write)) = self.0.queue.try_recv() else { return };
        let Some(open) = self.0.writer.open.get(&write.serial) else { return };
        let data = write.bytes.as_slice();
        let data = &data[..data.len().min(pages * WRITE_ALIGN_BYTES as usize)];
        // Best effort, as a dying process's.
        let _ = open_media(&open.path, false).and_then(|file| file.write_all_at(self.0.writer.bounce.padded(data), write.offset));
    }

    /// The finisher carries out what has gathered for it. False: there is nothing.
    pub fn finish(&mut self) -> bool {
        let Ok(command) = self.0.to_finish.try_recv() else { return false };
        self.0.finisher.carry_out_with(command, &self.0.to_finish);
        true
    }

    /// What the finisher does from time to time.
    pub fn finish_again(&mut self) {
        self.0.finisher.end_paused();
        self.0.finisher.finish_again();
    }

    /// Carries out the sync that is asked for, if one is.
    pub fn sync(&mut self) {
        if let Ok(asked) = self.0.syncer.queue.try_recv() {
            self.0.syncer.sync(asked);
        }
    }

    /// The writer does not come back from a step, or does again.
    pub fn hang(&mut self, hangs: bool) {
        let Writer { health, clock, .. } = &self.0.writer;
        if hangs { health.begins(Helper::Writer, clock()) } else { health.waits(Helper::Writer) }
    }

    /// There is space, or none beyond the reserve.
    pub fn note_space(&mut self, full: bool) {
        self.0.writer.health.note_space(if full { 0 } else { 1 << 40 }, None, full, full);
    }
}
