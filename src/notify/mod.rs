//! Telling others what happened: what the ingest cores tell goes into the catalog, and messages from its outbox go to their receivers.

mod body;
mod client;
mod dispatch;
pub mod intake;
mod sign;

pub use body::Bodies;
pub use client::Networks;
pub use dispatch::{DispatchSettings, Dispatcher};
