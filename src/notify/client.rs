//! One request to a receiver.

use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use ipnet::IpNet;
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::catalog::Message;
use crate::units::WallTime;

use super::sign::{signed_body, webhook_id, webhook_signature};

/// What a receiver says behind its status is not looked at; this much of it is read, so that it can end its answer in peace.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Words of an error that are kept.
const ERROR_CHARS_MAX: usize = 200;

/// Networks that the operator forbade.
#[derive(Clone, Debug, Default)]
pub struct Networks(pub Vec<IpNet>);

impl Networks {
    fn forbid(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// False if a name or address in this network would be called. A name that cannot be resolved now is looked at again when it is called.
    pub fn allow(&self, url: &str) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Ok(uri) = url.parse::<Uri>() else { return true };
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else { return true };
        let Some(host) = DefaultResolver::host_and_port(scheme, authority) else { return true };
        host.to_socket_addrs().map_or(true, |mut addresses| addresses.all(|address| !self.forbid(address.ip())))
    }
}

/// Resolves names, and refuses those that lead into a forbidden network.
#[derive(Debug)]
struct Guarded {
    networks: Networks,
    inner: DefaultResolver,
}

impl Resolver for Guarded {
    fn resolve(&self, uri: &Uri, config: &ureq::config::Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if found.iter().any(|address| self.networks.forbid(address.ip())) {
            return Err(ureq::Error::Other("the address lies in a network that must not be called".into()));
        }
        Ok(found)
    }
}

/// Sends messages; shared by all senders.
pub struct Client {
    agent: ureq::Agent,
    webhook_key: Option<Vec<u8>>,
}

impl Client {
    /// `webhook_key`: with it the headers of Standard Webhooks are sent too.
    pub fn new(answer_timeout: Duration, networks: Networks, webhook_key: Option<Vec<u8>>) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(answer_timeout))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            // Receivers are called as they are written, whatever stands in our environment.
            .proxy(None)
            // A receiver may close an idle connection at the moment we use it again: that would cost an attempt.
            .max_idle_connections(0)
            .user_agent(concat!("capstan/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build();
        let resolver = Guarded { networks, inner: DefaultResolver::default() };
        Self { agent: ureq::Agent::with_parts(config, DefaultConnector::default(), resolver), webhook_key }
    }

    /// One attempt, signed at `now`. `Ok`: the receiver has taken the message.
    ///
    /// # Errors
    /// What it answered instead, or why there was no answer, in words.
    pub fn post(&self, message: &Message, now: WallTime) -> Result<(), String> {
        let body = signed_body(message, now);
        let mut request = self.agent.post(&message.url).header("Content-Type", "application/json");
        if let Some(key) = &self.webhook_key {
            let (id, timestamp) = (webhook_id(message), now.unix_seconds());
            let signature = webhook_signature(key, &id, timestamp, &body);
            request = request.header("webhook-id", id).header("webhook-timestamp", timestamp.to_string()).header("webhook-signature", signature);
        }
        let response = request.send(&body).map_err(|error| error.to_string().chars().take(ERROR_CHARS_MAX).collect::<String>())?;
        let status = response.status().as_u16();
        // It may be cut off or never end: the status was the answer.
        let _ = std::io::copy(&mut response.into_body().into_with_config().limit(ANSWER_BYTES_MAX).reader(), &mut std::io::sink());
        if status == 200 { Ok(()) } else { Err(format!("HTTP {status}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_networks() {
        let networks = |texts: &[&str]| Networks(texts.iter().map(|text| text.parse().expect("a network")).collect());
        for (forbidden, url, allowed) in [
            (&[][..], "http://127.0.0.1/", true),
            (&["127.0.0.0/8"], "http://127.0.0.1:9000/x", false),
            (&["127.0.0.0/8"], "https://127.1.2.3", false),
            (&["127.0.0.0/8"], "http://[::ffff:127.0.0.1]/", false),
            (&["127.0.0.0/8"], "http://192.0.2.1/", true),
            (&["10.0.0.0/8", "fd00::/8"], "http://[fd12::1]:80/", false),
            (&["10.0.0.0/8", "fd00::/8"], "http://[::1]:80/", true),
            (&["127.0.0.0/8", "::1/128"], "http://localhost/", false),
        ] {
            assert_eq!(networks(forbidden).allow(url), allowed, "{forbidden:?} {url}");
        }
    }
}
