//! From messages to frames: what a publisher sends, in terms that containers understand.

pub mod colour;
pub mod describe;
pub mod enhanced;
pub mod flv_tag;
pub mod frame;
mod header;
pub mod label;
pub mod note;
pub mod parameter_sets;
pub mod payload;
pub mod timeline;
pub mod track;

pub use frame::{Frame, TagHeader, TrackKind};
pub use payload::Payload;
pub use track::{
    AudioCodec, AudioTrack, Colour, FURTHER_TRACKS_MAX, FurtherDescription, FurtherTrack, MasteringDisplay, Tracks, VideoCodec, VideoTrack,
};
