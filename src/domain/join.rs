//! Stretches of files that an encoder makes one of: what the room that cuts asks of the room that encodes.

use super::definition::VideoTemplate;
use super::flow::SubtaskError;

/// What is joined, in this order, and what it becomes.
#[derive(Clone, PartialEq, Debug)]
pub struct JoinOrder {
    /// At least one.
    pub inputs: Vec<JoinInput>,
    /// Zeros: as the first input with video.
    pub video: VideoTemplate,
}

/// A stretch of a file.
#[derive(Clone, PartialEq, Debug)]
pub struct JoinInput {
    /// Absolute.
    pub path: String,
    pub start_ms: u64,
    pub length_ms: u64,
    pub video: Option<JoinVideo>,
    pub has_audio: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct JoinVideo {
    /// Pixels.
    pub width: u64,
    pub height: u64,
    /// Frames a second; 0: not known.
    pub fps: f64,
}

/// Why nothing was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinFailure {
    /// The appliance stops, or the task was cancelled.
    Stopped,
    /// It may go well another time.
    Again(SubtaskError),
    /// For good.
    Final(SubtaskError),
}
