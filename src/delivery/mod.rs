//! Media over HTTP: finished files, recordings that still grow, and what is packaged for a request.
//!
//! ```text
//! listener of a core -> front (between the core's passes: accepts)      -> sender thread (reads, resolves, sendfile) -> client
//! control port -------------------------------------------------------> the same answers, by `resolve`
//! ```
//!
//! The cores only accept: what may wait (the catalog, opening a file, a page that is not in memory) happens on the sender threads, which the kernel serves
//! after the cores. Bytes go from the page cache to the socket without passing through us.

pub mod answer;
mod cache;
pub mod clip;
pub mod front;
mod growing;
pub mod http;
pub mod playlist;
pub mod protect;
mod renditions;
pub mod resolve;
pub mod sender;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::catalog::Catalog;
use crate::domain::Busy;
use crate::segment::Storage;
use crate::segment::open::OpenRecordings;
use crate::units::WallTime;

use cache::Cache;

/// What answers depend on; built by `app`.
pub struct Context {
    pub catalog: Catalog,
    pub storage: Arc<Storage>,
    pub app_id: u64,
    pub clock: fn() -> WallTime,
    /// Wanted length of HLS segments that are packaged on request.
    pub hls_segment_ms: u64,
    pub open: Arc<OpenRecordings>,
    /// Which applications' addresses need a signature.
    pub protections: Arc<protect::Protections>,
    /// Other addresses that players ask for here: keys, play information, the player's page. Set once by `app`.
    pub pages: std::sync::OnceLock<Pages>,
    pub cache: Cache,
    pub growing: growing::Kept,
    pub counters: Counters,
}

/// Answers what is no media; `None`: there is nothing at this address.
pub type Pages = Box<dyn Fn(&http::Request<'_>) -> Option<http::Answer> + Send + Sync>;

/// What [`Context::new`] takes.
pub struct ContextParts {
    pub catalog: Catalog,
    pub storage: Arc<Storage>,
    pub app_id: u64,
    pub clock: fn() -> WallTime,
    pub hls_segment_ms: u64,
    pub open: Arc<OpenRecordings>,
    pub protections: Arc<protect::Protections>,
}

impl Context {
    pub fn new(parts: ContextParts) -> Self {
        let ContextParts { catalog, storage, app_id, clock, hls_segment_ms, open, protections } = parts;
        Self {
            catalog,
            storage,
            app_id,
            clock,
            hls_segment_ms,
            open,
            protections,
            pages: std::sync::OnceLock::new(),
            cache: Cache::default(),
            growing: growing::Kept::default(),
            counters: Counters::default(),
        }
    }
}

/// What to do with readers when the ingest cores are short of time or memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenBusy {
    /// Running downloads pause, new requests are told to come again.
    Shed,
    /// As always.
    Serve,
}

/// Settings of the listener.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    pub connections_max: usize,
    pub senders: usize,
    pub idle_timeout: std::time::Duration,
    pub when_busy: WhenBusy,
    pub busy: Arc<Busy>,
}

/// What was delivered, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    pub connections: AtomicU64,
    pub connections_open: AtomicU64,
    pub requests: AtomicU64,
    pub errors: AtomicU64,
    pub bytes: AtomicU64,
    pub shed: AtomicU64,
    pub packaged: AtomicU64,
    pub refused: AtomicU64,
}

impl Counters {
    /// Prometheus text.
    pub fn render(&self) -> String {
        let rows = [
            ("capstan_delivery_connections_total", "counter", "Connections to the media listener.", &self.connections),
            ("capstan_delivery_connections", "gauge", "Connections to the media listener that are open.", &self.connections_open),
            ("capstan_delivery_requests_total", "counter", "Requests answered on the media listener.", &self.requests),
            ("capstan_delivery_errors_total", "counter", "Of these with a status of 400 and above.", &self.errors),
            ("capstan_delivery_bytes_total", "counter", "Bytes of answers' bodies.", &self.bytes),
            ("capstan_delivery_shed_total", "counter", "Requests put off, and downloads paused, because the ingest cores were busy.", &self.shed),
            ("capstan_delivery_packaged_total", "counter", "Playlists and segments packaged on request.", &self.packaged),
            ("capstan_delivery_refused_total", "counter", "Connections refused: too many at one time.", &self.refused),
        ];
        let mut text = String::new();
        for (name, kind, help, value) in rows {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {}\n", value.load(Ordering::Relaxed)));
        }
        text
    }
}

/// Counts one more; statistics need no order.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use crate::domain::RecordingIdentity;
    use crate::units::{FileId, Format, PublicationId, StreamKey};

    pub fn identity(format: Format) -> RecordingIdentity {
        let file_id = FileId::parse("387702290000000001").unwrap();
        RecordingIdentity {
            publication: PublicationId(7),
            ..RecordingIdentity::example(file_id, format, StreamKey::new("push.example.com", "live", "camera-1"))
        }
    }
}
