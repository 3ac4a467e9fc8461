//! Pure codec parsers: configuration records and frame headers.

pub mod aac;
pub mod avc;
pub mod mp3;
