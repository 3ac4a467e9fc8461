//! RTMP as a sans-IO machine: bytes and time in; events, replies and a deadline out.

pub mod amf;
pub mod chunk;
pub mod handshake;
pub mod message;
pub mod session;
