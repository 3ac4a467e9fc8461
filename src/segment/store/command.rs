//! What a core asks of the disk writer.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam::channel::Sender;

use crate::container::{OpenMedia, RecordingEnd, Scanned};
use crate::domain::PausedRecording;
use crate::segment::arena::{ArenaMemory, Block, SealedBytes};
use crate::segment::checksum::Running;
use crate::segment::headers::Headers;
use crate::units::{FileId, MonoTime};

/// Number of an open media file, unique in the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileSerial(pub u64);

/// What a core asks of the disk writer of its data folder. Carried out in order.
pub enum DiskCommand {
    /// What is to be written will lie there.
    Memory(ArenaMemory),
    Open(Box<OpenFile>),
    Write(BlockWrite),
    Text {
        folder: FileId,
        name: &'static str,
        text: String,
    },
    Close {
        serial: FileSerial,
        bytes: u64,
        known: Option<Box<Scanned>>,
        /// Of what was handed over.
        sum: Box<Running>,
        /// The last page, padded with zeros, if the file does not end with a whole one.
        tail: Option<Box<[u8]>>,
        headers: Option<Box<Headers>>,
    },
    EndRecording(RecordingEnd),
    PauseRecording(Box<PausedRecording>),
    /// What was written before is to survive a power cut. With the time of asking.
    Sync(MonoTime),
}

/// A media file to be opened.
pub struct OpenFile {
    pub serial: FileSerial,
    pub open: OpenMedia,
    pub failed: Arc<AtomicBool>,
    /// The same in the arena; goes back to the core when it is carried out.
    pub record: (Block, Sender<Block>),
}

/// Sealed bytes for the disk. `offset` is a multiple of [`WRITE_ALIGN_BYTES`].
pub struct BlockWrite {
    pub serial: FileSerial,
    pub offset: u64,
    pub bytes: SealedBytes,
    /// The block goes back to the core after this write.
    pub release: Option<(Block, Sender<Block>)>,
    /// When the oldest of these bytes was received.
    pub received: MonoTime,
    /// The tick in which the core handed it over.
    pub sent: MonoTime,
}
