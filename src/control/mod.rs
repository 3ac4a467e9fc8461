//! The HTTP control plane: `?Action=...`, finished files, metrics and health.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use crate::catalog::Catalog;
use crate::domain::{LiveStreams, Policy};
use crate::units::WallTime;

/// What the control plane works on; built by `app`.
pub struct ControlContext {
    pub catalog: Catalog,
    /// Replaced after every change of templates, rules and tasks.
    pub policy: Arc<ArcSwap<Policy>>,
    pub live: Arc<Mutex<LiveStreams>>,
    /// Root of finished files: `FinishedFile::folder` is relative to it.
    pub media_root: PathBuf,
    /// Begin of file addresses, no slash at the end: `http://127.0.0.1:8080`.
    pub public_base: String,
    pub app_id: u64,
    pub clock: fn() -> WallTime,
    /// The Prometheus text.
    pub metrics_text: Box<dyn Fn() -> String + Send + Sync>,
    /// `Ok` with a JSON text of the state, or `Err` with one when something is wrong (HTTP 503).
    pub health: Box<dyn Fn() -> Result<String, String> + Send + Sync>,
    pub limits: ControlLimits,
}

/// Quotas of the API (settings).
#[derive(Clone, Copy, Debug)]
pub struct ControlLimits {
    pub templates_max: u64,
    pub rules_max: u64,
    pub tasks_max: u64,
    /// HTTP worker threads and concurrent connections.
    pub workers: usize,
    pub connections_max: usize,
}
