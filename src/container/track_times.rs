//! Counts and times of one track of a file, in the unit that its container has.

use super::TrackSummary;

/// Taken frame by frame, in the order of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct TrackTimes {
    pub frames: u64,
    pub key_frames: u64,
    bytes: u64,
    dts: Option<DtsRange>,
    /// The least and the greatest.
    pts: Option<(i64, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct DtsRange {
    first: i64,
    last: i64,
    last_delta: i64,
}

/// Where a track's frames lie in time.
#[derive(Clone, Copy)]
pub(super) struct TrackSpan {
    pub dts_last: i64,
    /// Negative where times go back.
    pub duration: i64,
    pub pts_start: i64,
    pub pts_end: i64,
}

impl TrackTimes {
    /// Times are not modulo anything.
    pub fn take(&mut self, dts: i64, pts: i64, key: bool, media_bytes: u64) {
        self.frames += 1;
        self.key_frames += u64::from(key);
        self.bytes += media_bytes;
        self.dts = Some(match self.dts {
            None => DtsRange { first: dts, last: dts, last_delta: 0 },
            Some(range) => DtsRange { last: dts, last_delta: (dts - range.last).max(0), ..range },
        });
        self.pts = Some(self.pts.map_or((pts, pts), |(least, most)| (least.min(pts), most.max(pts))));
    }

    /// `frame`: how long a frame lasts, if the codec says so; else the last one is taken to last as long as the one before. `None`: there is no frame.
    pub fn span(&self, frame: Option<i64>) -> Option<TrackSpan> {
        let (dts, (pts_start, pts_last)) = (self.dts?, self.pts?);
        let last = frame.unwrap_or(dts.last_delta);
        Some(TrackSpan { dts_last: dts.last, duration: dts.last - dts.first + last, pts_start, pts_end: pts_last + last })
    }

    /// What its container does not tell is left open.
    pub fn summary(&self, codec: &str, duration_ms: u64) -> TrackSummary {
        TrackSummary { codec: codec.to_owned(), frames: self.frames, bytes: self.bytes, duration_ms, ..TrackSummary::default() }
    }
}
