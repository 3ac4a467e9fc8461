//! How many streams does this machine carry with headroom? Doubles the number until a bound is met, then bisects.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::Arguments;
use crate::report::Report;
use crate::server::{self, Server};
use crate::stop;

/// A frame is accepted by the kernel this long after it was due, at most, for 99 of 100 frames: the publisher's own buffer is not eaten up.
const LAG_P99_MS_MAX: f64 = 200.0;
/// From the socket to the disk for 99 of 100 blocks: the default `record.durability_ms` and as much again.
const STORED_P99_S_MAX: f64 = 2.0;
/// Share of the arena that stays free.
const BLOCKS_FREE_MIN: f64 = 0.2;
/// Generator threads busier than this measure themselves.
const OWN_PERCENT_MAX: f64 = 95.0;
/// The search ends when the bounds are this near to each other.
const NEAR: f64 = 0.05;
/// Left free on the disk besides what a trial writes.
const DISK_FREE_BYTES: u64 = 1 << 30;
const STREAMS_MAX: usize = 100_000;

#[derive(Serialize, Clone)]
pub struct Trial {
    pub streams: usize,
    /// Why it was too much; none: it was carried with headroom.
    pub bound: Option<String>,
    /// Of the busiest ingest core, percent.
    pub ingest_percent: f64,
    pub stored_p99_ms: f64,
    pub blocks_free_percent: f64,
    #[serde(skip)]
    is_own: bool,
    #[serde(flatten)]
    pub report: Report,
}

#[derive(Serialize)]
pub struct Capacity {
    /// Streams that were carried with headroom.
    pub streams: usize,
    pub bitrate_kbit: u64,
    /// What ended the search.
    pub bound: String,
    /// The generator gave up before the server did, or the search was interrupted: the machine may carry more.
    pub generator_bound: bool,
    pub trials: Vec<Trial>,
}

pub fn find(arguments: &Arguments) -> Result<Capacity, String> {
    let (mut carried, mut too_many): (usize, Option<usize>) = (0, None);
    let mut next = arguments.streams.unwrap_or(100).max(1);
    let mut trials: Vec<Trial> = Vec::new();
    let mut bound = None;
    loop {
        if stop::is_asked() {
            bound = Some(("the search was interrupted".to_owned(), true));
            break;
        }
        if let Some(message) = no_room(arguments, next)? {
            eprintln!("loadtest: {message}");
            bound.get_or_insert((message, false));
            too_many = Some(too_many.map_or(next, |streams| streams.min(next)));
        } else {
            let trial = trial(arguments, next)?;
            if trial.report.interrupted {
                continue;
            }
            eprintln!(
                "{next:>6} streams: busiest ingest core {:.0} %, lag p99 {:.0} ms, stored p99 {:.0} ms, arena {:.0} % free: {}",
                trial.ingest_percent,
                trial.report.lag_ms.map_or(0.0, |lag| lag.p99),
                trial.stored_p99_ms,
                trial.blocks_free_percent,
                trial.bound.as_deref().unwrap_or("carried")
            );
            match &trial.bound {
                None => carried = next,
                Some(message) => {
                    bound = Some((message.clone(), trial.is_own));
                    too_many = Some(next);
                }
            }
            trials.push(trial);
        }
        next = match too_many {
            None if carried >= STREAMS_MAX => break,
            None => (carried * 2).min(STREAMS_MAX),
            Some(most) if most - carried <= 1 || (most - carried) as f64 <= carried as f64 * NEAR => break,
            Some(most) => carried + (most - carried) / 2,
        };
    }
    let (bound, generator_bound) = bound.unwrap_or_else(|| (format!("more than {STREAMS_MAX} streams are not tried"), true));
    Ok(Capacity { streams: carried, bitrate_kbit: arguments.bitrate_kbit, bound, generator_bound, trials })
}

/// Why a trial cannot be run at all.
fn no_room(arguments: &Arguments, streams: usize) -> Result<Option<String>, String> {
    let disk = rustix::fs::statvfs(&arguments.disk).map_err(|error| format!("{}: {error}", arguments.disk.display()))?;
    let free = disk.f_bavail * disk.f_frsize;
    let files = arguments.formats.len().max(1) as f64;
    let wanted = (streams as f64 * arguments.bitrate_kbit as f64 * 125.0 * (arguments.seconds + 3.0) * files) as u64 + DISK_FREE_BYTES;
    Ok((wanted > free).then(|| {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        format!("a trial of {streams} streams writes {:.1} GiB, {} has {:.1} GiB free", gib(wanted), arguments.disk.display(), gib(free))
    }))
}

fn trial(arguments: &Arguments, streams: usize) -> Result<Trial, String> {
    let formats = if arguments.formats.is_empty() { vec!["flv".to_owned()] } else { arguments.formats.clone() };
    let server = server::capstan(arguments.capstan.as_deref(), &arguments.disk, &arguments.server_core, &formats, streams)?;
    let asked = Arguments { streams: Some(streams), verify: None, ..arguments.clone() };
    let plan = crate::plan(&asked, &server.target)?;
    let done = AtomicBool::new(false);
    let (report, blocks_free) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| least_blocks_free(&server, &done));
        let report = crate::load(&plan, Some(&server.pids), &asked, false);
        done.store(true, Ordering::Relaxed);
        (report, watcher.join().unwrap_or(0.0))
    });
    let report = report?;
    let (lost, received) = (server.metric("capstan_dropped_frames_total")?, server.metric("capstan_frames_total{track=\"video\"}")?);
    let received = received + server.metric("capstan_frames_total{track=\"audio\"}")?;
    let stored_p99_s = server.metric("capstan_recv_to_stored_quantile_seconds{quantile=\"0.99\"}")?;
    let steady = report.server.as_ref().and_then(|server| server.steady.clone()).unwrap_or_default();
    let ingest_percent = steady.thread_percent.iter().filter(|(name, _)| name.starts_with("ingest")).map(|(_, percent)| *percent).fold(0.0, f64::max);
    let own_percent = steady.own_cpu_s_per_gb * steady.mb_per_s / 10.0 / plan.cores.len().max(1) as f64;
    let lag_ms = report.lag_ms.map_or(0.0, |lag| lag.p99);
    let load_max = 100.0 - f64::from(arguments.headroom);
    let is_own = own_percent > OWN_PERCENT_MAX;
    let bound = if lost > 0.0 {
        Some(format!("{lost} frames dropped"))
    } else if report.errors > 0 {
        Some(format!("{} publications failed", report.errors))
    } else if received < report.frames as f64 {
        Some(format!("{received} of {} frames received", report.frames))
    } else if ingest_percent > load_max {
        Some(format!("an ingest core is {ingest_percent:.0} % busy, {load_max:.0} % leave the headroom asked for"))
    } else if is_own {
        Some(format!("the generator is {own_percent:.0} % busy: give it more cores with --core"))
    } else if lag_ms > LAG_P99_MS_MAX {
        Some(format!("frames wait {lag_ms:.0} ms to be taken"))
    } else if stored_p99_s > STORED_P99_S_MAX {
        Some(format!("the disk is {stored_p99_s:.1} s behind"))
    } else if blocks_free < BLOCKS_FREE_MIN {
        Some(format!("only {:.0} % of the arena stay free (ingest.arena_mib)", blocks_free * 100.0))
    } else {
        None
    };
    Ok(Trial { streams, bound, ingest_percent, stored_p99_ms: stored_p99_s * 1000.0, blocks_free_percent: blocks_free * 100.0, is_own, report })
}

/// The smallest share of the arena that was free at any look, once a second.
fn least_blocks_free(server: &Server, done: &AtomicBool) -> f64 {
    let mut least: f64 = 1.0;
    while !done.load(Ordering::Relaxed) {
        if let (Ok(free), Ok(total)) = (server.metric("capstan_blocks_free"), server.metric("capstan_blocks")) {
            least = least.min(free / total.max(1.0));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    least
}

impl Capacity {
    /// For people, with the lines for the configuration file.
    pub fn table(&self) -> String {
        if self.streams == 0 {
            return format!("not even the smallest trial was carried: {}\n", self.bound);
        }
        let mib = (self.streams as u64 * self.bitrate_kbit * 125 * 11 / 10).div_ceil(1 << 20);
        let (least, more) = if self.generator_bound { ("at least ", " (not the server's limit: the machine may carry more)") } else { ("", "") };
        format!(
            "\nThis machine carries {least}{} streams of {} kbit/s. Beyond that: {}{more}.\nAs an admission limit, in the configuration file:\n\n[ingest]\npublishers_max = {}\n\
             bandwidth_max_mib = {mib}\n",
            self.streams, self.bitrate_kbit, self.bound, self.streams
        )
    }
}
