//! RTMP as a sans-IO machine: bytes in; events and replies out (Adobe RTMP specification 1.0). No socket, clock or codec inside.
//!
//! ```text
//! bytes -> handshake -> chunk -> message -> session -> events (publish, media, end) and replies
//! ```

pub mod address;
pub mod amf;
mod amf3;
mod capabilities;
pub mod chunk;
pub mod chunk_writer;
pub mod command;
pub mod error;
pub mod fuzz;
pub mod handshake;
pub mod message;
pub mod session;

pub use error::{ErrorKind, SessionError};
pub use message::MediaKind;
pub use session::{EndCause, Event, Phase, PublishRequest, PublishType, RefuseReason, Session, SessionConfig};
