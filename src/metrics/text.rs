//! The Prometheus text format, version 0.0.4.

use std::fmt::Write;

use super::histogram::Merged;

/// Bounds of the `le` buckets. Powers-of-ten steps from 0.1 ms (a write into the page cache) to 10 s (a stalled disk).
const BUCKETS: [(&str, u64); 16] = [
    ("0.0001", 100_000),
    ("0.00025", 250_000),
    ("0.0005", 500_000),
    ("0.001", 1_000_000),
    ("0.0025", 2_500_000),
    ("0.005", 5_000_000),
    ("0.01", 10_000_000),
    ("0.025", 25_000_000),
    ("0.05", 50_000_000),
    ("0.1", 100_000_000),
    ("0.25", 250_000_000),
    ("0.5", 500_000_000),
    ("1", 1_000_000_000),
    ("2.5", 2_500_000_000),
    ("5", 5_000_000_000),
    ("10", 10_000_000_000),
];

/// Shown beside the buckets, since the process started. Quantiles over a time window come from the buckets.
const QUANTILES: [(&str, f64); 3] = [("0.5", 0.5), ("0.99", 0.99), ("0.999", 0.999)];

/// Builds the text family by family, as the format demands: all samples of a name stand together.
pub(super) struct Exposition {
    text: String,
    name: String,
}

impl Exposition {
    pub(super) fn new() -> Self {
        // A few cores' worth; it grows if there are more.
        Self { text: String::with_capacity(32 << 10), name: String::new() }
    }

    /// Begins a family. `kind` is `counter`, `gauge` or `histogram`.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.name = format!("capstan_{name}");
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = write!(self.text, "# HELP {0} {help}\n# TYPE {0} {kind}\n", self.name);
    }

    /// One sample of the family begun last.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.line("", labels, value);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{value}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A histogram family `<name>_seconds`, then `<name>_quantile_seconds` and `<name>_max_seconds`, of series with these labels.
    pub(super) fn durations(&mut self, name: &str, help: &str, series: &[(&[(&str, &str)], Merged)]) {
        self.family(&format!("{name}_seconds"), "histogram", help);
        for (own, merged) in series {
            let with = |extra: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> { own.iter().copied().chain(extra.iter().copied()).collect() };
            for (bound, nanos) in BUCKETS {
                self.line("_bucket", &with(&[("le", bound)]), merged.count_up_to(nanos) as f64);
            }
            self.line("_bucket", &with(&[("le", "+Inf")]), merged.count as f64);
            self.line("_sum", &with(&[]), seconds(merged.sum_nanos));
            self.line("_count", &with(&[]), merged.count as f64);
        }
        self.family(&format!("{name}_quantile_seconds"), "gauge", &format!("{help} Quantiles since the start."));
        for (own, merged) in series {
            for (text, part) in QUANTILES {
                let labels: Vec<_> = own.iter().copied().chain([("quantile", text)]).collect();
                self.line("", &labels, seconds(merged.quantile_nanos(part)));
            }
        }
        self.family(&format!("{name}_max_seconds"), "gauge", &format!("{help} Longest since the start."));
        for (own, merged) in series {
            self.line("", own, seconds(merged.max_nanos));
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
