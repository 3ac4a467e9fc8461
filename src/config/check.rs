//! Relations between settings.

use std::net::SocketAddr;

use super::{Config, DeliveryListen, Problem};

impl Config {
    /// Checks what no single setting can: empty if all is well.
    ///
    /// Whoever reaches the RTMP port may publish and whoever reaches the HTTP port may delete files, so neither leaves this machine
    /// before somebody has decided who may call.
    pub fn check(&self) -> Vec<Problem> {
        let rtmps = self.rtmps_listen();
        let mut problems = Vec::new();
        if rtmps.is_some() && self.ingest.tls_certificates.is_empty() {
            problems.push(Problem::NoCertificate { line: None });
        }
        if !self.api.credentials.is_empty() || !self.api.bearer_tokens.is_empty() {
            return problems;
        }
        let listeners = [("ingest.rtmp_listen", self.ingest.rtmp_listen), ("http.listen", self.http.listen)];
        let delivery = match self.delivery_listen() {
            DeliveryListen::At(address) => Some(("delivery.listen", address)),
            DeliveryListen::Off | DeliveryListen::Auto { .. } => None,
        };
        let exposed = listeners
            .into_iter()
            .chain(delivery)
            .chain(rtmps.map(|address| ("ingest.rtmps_listen", address)))
            .filter(|(_, address)| !is_loopback(address))
            .map(|(key, address)| Problem::Exposed { line: None, key, address });
        problems.extend(exposed);
        problems
    }
}

/// `::ffff:127.0.0.1` is loopback too.
fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
