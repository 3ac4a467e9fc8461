//! Progress while it runs, one line of JSON and a table at the end.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::process::{Pids, own_cpu_seconds};
use crate::publish::Board;
use crate::verify::Verified;

/// The server and this process are looked at this often.
const SAMPLE: Duration = Duration::from_millis(250);
/// Samples from one progress line to the next.
const SAMPLES_PER_LINE: usize = 4;
/// The first seconds of all publishers together are not steady yet.
const SETTLE: Duration = Duration::from_secs(2);
const MIB: f64 = 1048576.0;

/// The line of JSON. Bytes are what went over TCP from the first media message on; media bytes are FLV tag bodies without sequence headers.
#[derive(Serialize, Default, Clone)]
pub struct Report {
    pub streams: usize,
    /// More than the streams where publishers come and go.
    pub publications: usize,
    /// Wall-clock seconds from the first to the last media byte.
    pub seconds: f64,
    /// Until all publishers were connected.
    pub connect_seconds: f64,
    pub bytes: u64,
    pub media_bytes: u64,
    pub frames: u64,
    /// 10^6 media bytes a second, over the whole run.
    pub mb_per_s: f64,
    /// The worst delay of a frame against its due time (real time only).
    pub late_ms_max: f64,
    /// Delay of frames against their due time, milliseconds (real time only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<Lag>,
    /// CPU seconds of this process while publishing.
    pub own_cpu_s: f64,
    pub own_cpu_s_per_gb: f64,
    pub errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_s: Option<f64>,
    /// Server CPU seconds per 10^9 media bytes, connecting and finishing included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s_per_gb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// Why the recordings could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_error: Option<String>,
    /// It was ended by a signal, before its time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
}

#[derive(Serialize, Default, Clone, Copy)]
pub struct Lag {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Lag {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |part: f64| histogram.value_at_quantile(part) as f64 / 1000.0;
        (!histogram.is_empty()).then(|| Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() as f64 / 1000.0 })
    }
}

/// The server, where its process is known.
#[derive(Serialize, Default, Clone)]
pub struct Server {
    /// While everybody published: without connecting, starting and finishing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steady: Option<Steady>,
    pub rss_mib_before: f64,
    pub rss_mib_max: f64,
    pub anonymous_mib_before: f64,
    pub anonymous_mib_max: f64,
    /// CPU seconds of the whole run by name of thread.
    pub thread_cpu_s: BTreeMap<String, f64>,
    /// Its process was gone before the end; the figures are those last seen.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_gone: bool,
}

#[derive(Serialize, Default, Clone)]
pub struct Steady {
    pub seconds: f64,
    pub mb_per_s: f64,
    pub cpu_percent: f64,
    pub cpu_s_per_gb: f64,
    pub own_cpu_s_per_gb: f64,
    /// By name of thread.
    pub thread_percent: BTreeMap<String, f64>,
}

#[derive(Clone)]
struct Sample {
    at: Instant,
    cpu_s: f64,
    own_cpu_s: f64,
    media_bytes: u64,
    publishing: usize,
    threads: BTreeMap<String, f64>,
}

/// What was seen while publishing.
pub struct Watched {
    first: Option<Sample>,
    /// The last one of a server that was there.
    last: Option<Sample>,
    steady: Option<(Sample, Sample)>,
    server: Server,
}

/// Looks at everything until `done`, and says so on the error output if `progress`.
pub fn watch(board: &Board, streams: usize, server: Option<&Pids>, progress: bool, done: &AtomicBool) -> Watched {
    let begun = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let mut watched = Watched { first: None, last: None, steady: None, server: Server::default() };
    if let Some(server) = server {
        let memory = server.memory();
        watched.server.rss_mib_before = memory.resident as f64 / MIB;
        watched.server.anonymous_mib_before = memory.anonymous as f64 / MIB;
    }
    let mut all_since = None;
    let mut line_before: Option<(Sample, Histogram<u64>)> = None;
    let mut count = 0;
    while !done.load(Ordering::Relaxed) {
        let totals = board.totals();
        let seen = server.map(|server| server.cpu_seconds().map(|cpu_s| (cpu_s, server.threads())));
        let is_gone = matches!(seen, Some(Err(_)));
        let before = watched.last.as_ref().map(|last| (last.cpu_s, last.threads.clone()));
        let (cpu_s, threads) = seen.and_then(Result::ok).or(before).unwrap_or_default();
        let sample = Sample {
            at: Instant::now(),
            cpu_s,
            own_cpu_s: own_cpu_seconds().unwrap_or(0.0),
            media_bytes: totals.media_bytes,
            publishing: totals.publishing,
            threads,
        };
        if !is_gone {
            watched.last = Some(sample.clone());
        }
        let memory = server.map(Pids::memory).unwrap_or_default();
        watched.server.rss_mib_max = watched.server.rss_mib_max.max(memory.resident as f64 / MIB);
        watched.server.anonymous_mib_max = watched.server.anonymous_mib_max.max(memory.anonymous as f64 / MIB);
        watched.first.get_or_insert_with(|| sample.clone());
        // Publishers that come and go are never all there at once, and some may have been refused.
        if !is_gone && sample.publishing * 10 >= streams * 9 && (totals.connecting == 0 || all_since.is_some()) {
            let since = *all_since.get_or_insert(sample.at);
            if sample.at >= since + SETTLE {
                match &mut watched.steady {
                    None => watched.steady = Some((sample.clone(), sample.clone())),
                    Some((_, last)) => *last = sample.clone(),
                }
            }
        }
        if progress && count % SAMPLES_PER_LINE == 0 {
            let mut lag = totals.lag_us.clone();
            let mut text = format!("{:>5.0} s  {:>5} streams", begun.elapsed().as_secs_f64(), sample.publishing);
            if totals.connecting > 0 {
                text.push_str(&format!(" ({} connecting)", totals.connecting));
            }
            if let Some((before, lag_before)) = &line_before {
                let seconds = sample.at.duration_since(before.at).as_secs_f64();
                text.push_str(&format!("  {:>7.1} MB/s", (sample.media_bytes - before.media_bytes) as f64 / 1e6 / seconds));
                if lag.subtract(lag_before).is_ok() && !lag.is_empty() {
                    text.push_str(&format!("  lag p99 {:>4.0} ms", lag.value_at_quantile(0.99) as f64 / 1000.0));
                }
                if server.is_some() {
                    text.push_str(&format!("  server {:>3.0} % CPU", (sample.cpu_s - before.cpu_s) / seconds * 100.0));
                }
                text.push_str(&format!("  own {:>3.0} %", (sample.own_cpu_s - before.own_cpu_s) / seconds * 100.0));
            }
            if server.is_some() {
                text.push_str(&format!("  {:>5.0} MiB", memory.resident as f64 / MIB));
            }
            if totals.errors > 0 {
                text.push_str(&format!("  {} errors", totals.errors));
            }
            let mut out = std::io::stderr().lock();
            let _ = if terminal { write!(out, "\r\x1b[K{text}").and_then(|()| out.flush()) } else { writeln!(out, "{text}") };
            line_before = Some((sample.clone(), totals.lag_us));
        }
        count += 1;
        std::thread::sleep(SAMPLE);
    }
    if progress && terminal {
        eprintln!();
    }
    watched
}

impl Watched {
    /// Completes the report once the server has come to rest, or with what was last seen of it.
    pub fn complete(self, report: &mut Report, server: &Pids) {
        let at_rest = server.idle_cpu_seconds().map(|cpu_s| (cpu_s, server.threads()));
        let is_gone = at_rest.is_err();
        let last = self.last.map(|last| (last.cpu_s, last.threads)).unwrap_or_default();
        let (cpu_s, threads_at_end) = at_rest.unwrap_or(last);
        let used = cpu_s - self.first.as_ref().map_or(0.0, |first| first.cpu_s);
        report.server_cpu_s = Some(used);
        report.cpu_s_per_gb = (report.media_bytes > 0).then(|| per_gb(used, report.media_bytes));
        let threads = self.first.map(|first| first.threads).unwrap_or_default();
        let mut seen = self.server;
        seen.is_gone = is_gone;
        seen.thread_cpu_s = rounded(difference(&threads_at_end, &threads));
        seen.steady = self.steady.filter(|(first, last)| last.at > first.at).map(|(first, last)| {
            let seconds = last.at.duration_since(first.at).as_secs_f64();
            let bytes = last.media_bytes - first.media_bytes;
            let percent = difference(&last.threads, &first.threads).into_iter().map(|(name, cpu_s)| (name, cpu_s / seconds * 100.0)).collect();
            Steady {
                seconds,
                mb_per_s: bytes as f64 / 1e6 / seconds,
                cpu_percent: (last.cpu_s - first.cpu_s) / seconds * 100.0,
                cpu_s_per_gb: per_gb(last.cpu_s - first.cpu_s, bytes),
                own_cpu_s_per_gb: per_gb(last.own_cpu_s - first.own_cpu_s, bytes),
                thread_percent: rounded(percent),
            }
        });
        report.server = Some(seen);
    }
}

/// 0 where nothing was sent.
fn per_gb(cpu_s: f64, bytes: u64) -> f64 {
    if bytes == 0 { 0.0 } else { cpu_s / (bytes as f64 / 1e9) }
}

fn difference(now: &BTreeMap<String, f64>, before: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    now.iter().map(|(name, cpu_s)| (name.clone(), (cpu_s - before.get(name).copied().unwrap_or(0.0)).max(0.0))).collect()
}

/// Two digits, and without what would be 0.
fn rounded(values: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    values.into_iter().map(|(name, value)| (name, (value * 100.0).round() / 100.0)).filter(|(_, value)| *value > 0.0).collect()
}

impl Report {
    pub fn add_totals(&mut self, board: &Board, own_cpu_s: f64) {
        let totals = board.totals();
        self.bytes = totals.bytes;
        self.media_bytes = totals.media_bytes;
        self.frames = totals.frames;
        self.errors = totals.errors;
        self.mb_per_s = self.media_bytes as f64 / 1e6 / self.seconds.max(1e-3);
        self.lag_ms = Lag::of(&totals.lag_us);
        self.late_ms_max = self.lag_ms.map_or(0.0, |lag| lag.max);
        self.own_cpu_s = own_cpu_s;
        self.own_cpu_s_per_gb = per_gb(own_cpu_s, self.media_bytes);
    }

    /// Nothing failed, and every frame is where it belongs.
    pub fn is_good(&self) -> bool {
        let is_gone = self.server.as_ref().is_some_and(|server| server.is_gone);
        self.errors == 0 && !is_gone && self.verify_error.is_none() && self.verified.as_ref().is_none_or(Verified::is_good)
    }

    /// For people, on the error output.
    pub fn table(&self) -> String {
        let mut rows: Vec<(&str, String)> = vec![
            (
                "streams",
                if self.publications == self.streams {
                    self.streams.to_string()
                } else {
                    format!("{} ({} publications)", self.streams, self.publications)
                },
            ),
            ("connected in", format!("{:.2} s", self.connect_seconds)),
            ("media", format!("{:.3} GB in {:.1} s, {} frames", self.media_bytes as f64 / 1e9, self.seconds, self.frames)),
            ("rate", format!("{:.1} MB/s", self.mb_per_s)),
        ];
        if let Some(lag) = &self.lag_ms {
            rows.push((
                "send lag, ms",
                format!("p50 {:.1}   p90 {:.1}   p99 {:.1}   p99.9 {:.1}   max {:.1}", lag.p50, lag.p90, lag.p99, lag.p999, lag.max),
            ));
        }
        if let Some(cpu_s) = self.server_cpu_s {
            let per_gb = self.cpu_s_per_gb.map(|per_gb| format!(", {per_gb:.2} s/GB")).unwrap_or_default();
            rows.push(("server CPU", format!("{cpu_s:.2} s{per_gb} with connecting and finishing")));
        }
        if self.server.as_ref().is_some_and(|server| server.is_gone) {
            rows.push(("", "the server's process is GONE; these are its last figures".to_owned()));
        }
        if let Some(server) = &self.server {
            if let Some(steady) = &server.steady {
                rows.push((
                    "  all publishing",
                    format!(
                        "{:.1} % of a core, {:.2} s/GB, {:.1} MB/s over {:.1} s",
                        steady.cpu_percent, steady.cpu_s_per_gb, steady.mb_per_s, steady.seconds
                    ),
                ));
                let mut threads: Vec<_> = steady.thread_percent.iter().collect();
                threads.sort_by(|left, right| right.1.total_cmp(left.1));
                let threads: Vec<_> = threads.iter().take(5).map(|(name, percent)| format!("{name} {percent:.1} %")).collect();
                rows.push(("  threads", threads.join("   ")));
            }
            rows.push((
                "server memory",
                format!(
                    "{:.0} MiB before, at most {:.0} MiB (anonymous {:.0}, {:.0})",
                    server.rss_mib_before, server.rss_mib_max, server.anonymous_mib_before, server.anonymous_mib_max
                ),
            ));
        }
        rows.push(("own CPU", format!("{:.2} s, {:.2} s/GB", self.own_cpu_s, self.own_cpu_s_per_gb)));
        rows.push(("errors", self.errors.to_string()));
        if let Some(verified) = &self.verified {
            rows.push(("recorded", verified.summary()));
        }
        if let Some(message) = &self.verify_error {
            rows.push(("recorded", format!("UNKNOWN: {message}")));
        }
        if self.interrupted {
            rows.push(("", "interrupted before its time".to_owned()));
        }
        rows.iter().map(|(name, value)| format!("{name:<17} {value}\n")).collect()
    }
}
