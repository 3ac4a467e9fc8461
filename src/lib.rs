//! Capstan: a live-recording appliance.
//!
//! Bytes flow one way, decisions live in pure code, the edges are thin:
//!
//! ```text
//! socket -> chunk -> message -> frame -> recorder -> container writer -> block (mmap arena) -> disk file -> catalog
//! ```
//!
//! Two planes meet only in [`domain`] types and bounded channels: the ingest plane (one executor per core, nothing on it may
//! block) and the control plane (ordinary threads: HTTP, catalog writer, disk writers).

pub mod app;
pub mod catalog;
mod catalog_watch;
pub mod client;
pub mod clips;
pub mod codec;
pub mod config;
pub mod container;
pub mod control;
pub mod delivery;
pub mod disks;
pub mod domain;
pub mod ingest;
pub mod inspect;
pub mod limits;
pub mod logging;
pub mod media;
pub mod metrics;
pub mod notify;
pub mod preflight;
pub mod process;
pub mod recorder;
pub mod recovery;
pub mod replay;
pub mod rescue;
pub mod retention;
pub mod rtmp;
pub mod segment;
pub mod supervise;
pub mod units;
pub mod wire;
