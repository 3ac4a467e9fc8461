//! Relations between settings.

use std::net::SocketAddr;

use super::{Config, DeliveryListen, Problem};

impl Config {
    /// Checks what no single setting can: empty if all is well.
    ///
    /// Whoever reaches the RTMP port may publish and whoever reaches the HTTP port may delete files, so neither leaves this machine
    /// before somebody has decided who may call.
    pub fn check(&self) -> Vec<Problem> {
        let mut listeners = vec![("ingest.rtmp_listen", self.ingest.rtmp_listen), ("http.listen", self.http.listen)];
        if let DeliveryListen::At(address) = self.delivery_listen() {
            listeners.push(("delivery.listen", address));
        }
        if !self.api.credentials.is_empty() || !self.api.bearer_tokens.is_empty() {
            return Vec::new();
        }
        listeners
            .into_iter()
            .filter(|(_, address)| !is_loopback(address))
            .map(|(key, address)| Problem::Exposed { line: None, key, address })
            .collect()
    }
}

/// `::ffff:127.0.0.1` is loopback too.
fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
