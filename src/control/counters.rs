//! What the control plane counts about itself, as Prometheus text behind that of the rest.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Names and codes come from tables of ours, so the number of series is bounded.
type Calls = BTreeMap<(&'static str, &'static str), u64>;

#[derive(Debug, Default)]
pub struct Counters {
    pub accepted: AtomicU64,
    /// Closed at once because every connection was busy.
    pub refused: AtomicU64,
    /// Closed while waiting for a request, to make room.
    pub evicted: AtomicU64,
    pub timed_out: AtomicU64,
    pub malformed: AtomicU64,
    pub too_large: AtomicU64,
    pub accept_errors: AtomicU64,
    /// The HTTP server behind the gate had to be started anew.
    pub restarts: AtomicU64,
    pub panics: AtomicU64,
    pub media_requests: AtomicU64,
    calls: Mutex<Calls>,
    /// By status code.
    requests: Mutex<BTreeMap<u16, u64>>,
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    /// Counts an answered call; `code` is `ok` or the error code.
    pub fn call(&self, action: &'static str, code: &'static str) {
        *self.calls.lock().unwrap_or_else(PoisonError::into_inner).entry((action, code)).or_default() += 1;
    }

    /// Counts a request that was answered with this status.
    pub fn request(&self, status: u16) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
    }

    /// The exposition text (version 0.0.4).
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, help, counter) in [
            ("connections_accepted", "HTTP connections accepted", &self.accepted),
            ("connections_refused", "HTTP connections closed at once because all were busy", &self.refused),
            ("connections_evicted", "Idle HTTP connections closed to make room", &self.evicted),
            ("connections_timed_out", "HTTP connections closed because the client was too slow", &self.timed_out),
            ("requests_malformed", "HTTP requests that could not be read", &self.malformed),
            ("requests_too_large", "HTTP requests above a size limit", &self.too_large),
            ("accept_errors", "Failed accepts on the HTTP listener", &self.accept_errors),
            ("server_restarts", "Times the inner HTTP server was started anew", &self.restarts),
            ("panics", "Requests that ended in a panic", &self.panics),
            ("media_requests", "Requests for finished files", &self.media_requests),
        ] {
            // Writing to a String does not fail.
            let _ = writeln!(text, "# HELP capstan_http_{name}_total {help}.\n# TYPE capstan_http_{name}_total counter");
            let _ = writeln!(text, "capstan_http_{name}_total {}", counter.load(Ordering::Relaxed));
        }
        let _ = writeln!(text, "# HELP capstan_http_requests_total HTTP requests by status code.\n# TYPE capstan_http_requests_total counter");
        for (code, requests) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(text, "capstan_http_requests_total{{code=\"{code}\"}} {requests}");
        }
        let _ = writeln!(text, "# HELP capstan_api_calls_total API calls by action and result.\n# TYPE capstan_api_calls_total counter");
        for ((action, code), calls) in self.calls.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(text, "capstan_api_calls_total{{action=\"{action}\",code=\"{code}\"}} {calls}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let counters = Counters::default();
        count(&counters.panics);
        counters.call("SearchMedia", "ok");
        counters.call("SearchMedia", "ok");
        counters.request(200);
        counters.request(416);
        counters.request(200);
        let text = counters.render();
        assert!(text.contains("\ncapstan_http_requests_total{code=\"200\"} 2\ncapstan_http_requests_total{code=\"416\"} 1\n"), "{text}");
        assert!(text.contains("# TYPE capstan_http_panics_total counter\ncapstan_http_panics_total 1\n"));
        assert!(text.ends_with("capstan_api_calls_total{action=\"SearchMedia\",code=\"ok\"} 2\n"));
    }
}
