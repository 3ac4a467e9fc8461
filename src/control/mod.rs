//! The HTTP control plane: `?Action=...`, finished files, metrics and health.
//!
//! ```text
//! client -> gate (bounds, time-outs) -> server (tiny_http, workers) -> router -> protocol -> auth -> actions -> catalog
//!                                                                          \---> media, /metrics, /healthz
//! ```
//!
//! `gate`, `connection`, `head` and `server` deal with sockets; everything behind `router` is plain values in, plain values out.

pub mod access;
pub mod actions;
pub mod auth;
mod connection;
pub mod console;
pub mod counters;
pub mod drm;
pub mod errors;
pub mod gate;
pub mod head;
pub mod http;
pub mod media;
pub mod params;
pub mod play_info;
pub mod player;
pub mod protocol;
pub mod router;
pub mod server;
pub mod times;
pub mod tree;

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use crate::catalog::{Catalog, CatalogError, OlderTaskLimits};
use crate::config::{Config, Setting};
use crate::domain::content_key::MasterKey;
use crate::domain::{LiveStream, LiveStreams, Policy, StreamEnd};
use crate::metrics::passes::Pass;
use crate::units::WallTime;

pub use access::Access;
pub use server::Server;

/// What the control plane works on; built by `app`.
pub struct ControlContext {
    pub catalog: Catalog,
    /// Replaced after every change of templates, rules and tasks.
    pub policy: Arc<ArcSwap<Policy>>,
    pub live: Arc<Mutex<LiveStreams>>,
    /// Asks the ingest core of a stream to end its publication. False: the core takes no commands at the moment.
    pub end_stream: Box<dyn Fn(&LiveStream, StreamEnd) -> bool + Send + Sync>,
    /// How addresses of recordings are answered.
    pub media: Arc<crate::delivery::Context>,
    /// Who makes clips.
    pub clips: Arc<crate::clips::Clips>,
    /// Begin of file addresses, no slash at the end: `http://127.0.0.1:8080`.
    pub public_base: String,
    pub app_id: u64,
    pub clock: fn() -> WallTime,
    /// The Prometheus text.
    pub metrics_text: Box<dyn Fn() -> String + Send + Sync>,
    /// The slowest ticks of the ingest cores.
    pub slow_passes: Box<dyn Fn() -> Vec<(usize, Pass)> + Send + Sync>,
    /// `Ok` with a JSON text of the state, or `Err` with one when something is wrong (HTTP 503).
    pub health: Box<dyn Fn() -> Result<String, String> + Send + Sync>,
    /// False: the operator forbade to call what this address resolves to. It may ask the name service.
    pub url_is_safe: Box<dyn Fn(&str) -> bool + Send + Sync>,
    pub limits: ControlLimits,
    pub about: About,
    /// What keys of encrypted streams are kept with.
    pub master_key: MasterKey,
    /// Who may call. Replaced when the configuration is read anew.
    pub access: Arc<ArcSwap<Access>>,
}

/// What the appliance tells about itself.
pub struct About {
    pub start_time: WallTime,
    /// Every setting with its value in effect; keys and tokens are not part of it.
    pub settings: Vec<(Setting, String)>,
    pub rtmp_listen: std::net::SocketAddr,
    pub default_domain: String,
    /// IANA name.
    pub time_zone: String,
}

impl About {
    pub fn new(config: &Config, start_time: WallTime) -> Self {
        Self {
            start_time,
            settings: crate::config::settings().into_iter().zip(config.values_shown()).collect(),
            rtmp_listen: config.ingest.rtmp_listen,
            default_domain: config.ingest.default_domain.clone(),
            time_zone: config.record.time_zone.clone(),
        }
    }
}

/// Quotas of the API (settings).
#[derive(Clone, Copy, Debug)]
pub struct ControlLimits {
    /// Of each kind.
    pub templates_max: u64,
    pub rules_max: u64,
    pub tasks_max: u64,
    pub domains_max: u64,
    /// Push domains want signatures from the moment they are added.
    pub push_auth_default: bool,
    pub older_tasks: OlderTaskLimits,
    /// Applications besides the main one.
    pub sub_apps_max: u64,
    /// Task flows of one application.
    pub procedures_max: u64,
    /// HTTP worker threads and concurrent connections.
    pub workers: usize,
    pub connections_max: usize,
}

/// Replaces the policy that the ingest cores read by what the catalog holds now.
///
/// Several callers at once are fine: a snapshot is put in place only if none was meanwhile, else it is read again. So the last snapshot is
/// never older than the last committed change.
///
/// # Errors
/// [`CatalogError`] if the catalog cannot be read; the policy stays as it was.
pub fn refresh_policy(context: &ControlContext) -> Result<(), CatalogError> {
    loop {
        let current = context.policy.load_full();
        let policy = context.catalog.policy(current.version + 1, (context.clock)())?;
        let previous = context.policy.compare_and_swap(&current, Arc::new(policy));
        if Arc::ptr_eq(&previous, &current) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod definition_tests;
#[cfg(test)]
mod processing_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vod_tests;
