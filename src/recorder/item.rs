//! What a recorder takes, numbered in one row: the frames of the first tracks, and what stands between them (tags of further tracks, data messages).
//!
//! One row, so that whatever is true of a frame is true of all: it waits in the cache for outputs that are behind, lies in the log for whoever comes after a
//! kill, and the number up to which a file has taken everything says of each whether it is in there.

use crate::media::{Frame, TrackKind};

/// What stands between frames, as it was sent: a tag of a further track for itself alone, or, without `track`, a name and values in AMF0.
#[derive(Clone, Copy, Debug)]
pub struct Between<'a> {
    pub track: Option<TrackKind>,
    /// On the time line of the frames.
    pub time_ms: i64,
    pub body: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    Frame(Frame<'a>),
    Between(Between<'a>),
}

/// Which kind of item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A frame of the first track of its kind.
    Frame(TrackKind),
    /// A tag of a further track.
    Further(TrackKind),
    Data,
}

impl What {
    pub const fn is_frame(self) -> bool {
        matches!(self, What::Frame(_))
    }
}

impl Between<'_> {
    pub fn what(&self) -> What {
        self.track.map_or(What::Data, What::Further)
    }
}
