//! Record tasks: this stream, from this time to that time.

use serde::{Deserialize, Serialize};

use crate::units::{StreamKey, TaskId, WallTime};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordTask {
    pub id: TaskId,
    pub key: StreamKey,
    pub start: WallTime,
    pub end: WallTime,
    /// As given in the call; 0 or an unknown id means the default task format.
    pub template_id: u64,
    pub stream_type: i64,
    pub extension: String,
    pub create_time: WallTime,
    /// When StopRecordTask ended it; `None`: not stopped.
    pub stopped: Option<WallTime>,
}

/// At most this many tasks record one stream at the same time (documented by the vendor); the next waits until one ends.
pub const TASKS_RECORDING_MAX: usize = 3;
