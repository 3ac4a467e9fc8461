//! Telling others what happened.

pub mod intake;
