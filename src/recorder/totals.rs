//! What a publication brought, and why some of it is in no file.

/// Why a frame is not in any file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// Before the first key frame (of the publication, or after new codec parameters).
    BeforeKeyFrame,
    /// Before the sequence header of its track.
    BeforeSequenceHeader,
    UnsupportedCodec,
    /// The storage was busy for too long.
    StorageBusy,
    /// A container cannot hold it (an AAC access unit beyond what ADTS can say).
    Unfit,
    /// The disk has no space.
    StorageFull,
    /// The disk did not take the file before it, and another had not begun yet.
    StorageFailed,
}

impl DropReason {
    pub const ALL: [DropReason; 7] = [
        DropReason::BeforeKeyFrame,
        DropReason::BeforeSequenceHeader,
        DropReason::UnsupportedCodec,
        DropReason::StorageBusy,
        DropReason::Unfit,
        DropReason::StorageFull,
        DropReason::StorageFailed,
    ];

    /// In loss receipts.
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::BeforeKeyFrame => "before_key_frame",
            DropReason::BeforeSequenceHeader => "before_sequence_header",
            DropReason::UnsupportedCodec => "unsupported_codec",
            DropReason::StorageBusy => "storage_busy",
            DropReason::Unfit => "unfit",
            DropReason::StorageFull => "disk_full",
            DropReason::StorageFailed => "storage_failed",
        }
    }
}

/// What one publication brought, growing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Totals {
    pub video_frames: u64,
    pub audio_frames: u64,
    pub media_bytes: u64,
    pub dropped: [u64; DropReason::ALL.len()],
    /// Frames whose timestamp went back a little against their track.
    pub late_frames: u64,
    pub files: u64,
}

impl Totals {
    pub(super) fn drop_frames(&mut self, reason: DropReason, count: u64) {
        self.dropped[reason as usize] += count;
    }
}
