//! Load generator: N RTMP publishers from one FLV file or a generated source, and a check that the recordings hold every frame sent.
//!
//! An RTMP client of its own, so that a mistake in the server's protocol code is not made twice. One thread: chunk headers are built once (every
//! message of the endless loop carries a timestamp *delta*, so the same bytes serve every stream and every round), and a tick writes what is due.
//! It prints one line of JSON at the end; see [`Report`].

mod client;
mod publish;
mod source;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;

use crate::client::Target;
use crate::source::Source;

#[derive(Parser)]
#[command(name = "loadtest", about = "N RTMP publishers; one line of JSON at the end")]
struct Arguments {
    /// Publishers at once
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// FLV file (H.264, AAC, MP3) to publish in a loop; without it a source is generated
    #[arg(long)]
    file: Option<PathBuf>,
    /// Video and audio together, generated source
    #[arg(long, default_value_t = 4000)]
    bitrate_kbit: u64,
    /// Frames per second, generated source
    #[arg(long, default_value_t = 30)]
    fps: u32,
    /// How long each stream publishes
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// 1: real time, 2: twice as fast, 0: as fast as the server takes it
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// Where to: rtmp://host:port/app
    #[arg(long, default_value = "rtmp://127.0.0.1:1935/live")]
    target: String,
    /// Stream names are this and a number from 0
    #[arg(long, default_value = "s")]
    prefix: String,
    /// Pin this process to one core
    #[arg(long)]
    core: Option<usize>,
    /// Milliseconds between two rounds of writing, real time
    #[arg(long, default_value_t = 10)]
    tick_ms: u64,
    /// Publishers start spread over this many milliseconds, so that key frames do not fall together
    #[arg(long, default_value_t = 1600)]
    spread_ms: u64,
    /// Server process: report its CPU seconds, all threads together
    #[arg(long)]
    pid: Option<u32>,
    /// Compare the FLV recordings with what was sent: the server's HTTP address (http://127.0.0.1:8080) or a folder of finished files
    #[arg(long)]
    verify: Option<String>,
    /// Seconds to wait for the recordings when verifying
    #[arg(long, default_value_t = 60)]
    verify_seconds: u64,
}

/// The line of JSON. Bytes are what went over TCP after the handshake commands; media bytes are FLV tag bodies without sequence headers.
#[derive(Serialize, Default)]
struct Report {
    streams: usize,
    /// Wall-clock seconds from the first to the last media byte.
    seconds: f64,
    bytes: u64,
    media_bytes: u64,
    frames: u64,
    /// The worst delay of a frame against its due time (real time only).
    late_ms_max: f64,
    /// CPU seconds of this process while publishing.
    own_cpu_s: f64,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu_s: Option<f64>,
    /// Server CPU seconds per 10^9 media bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_s_per_gb: Option<f64>,
    #[serde(flatten)]
    verified: Option<verify::Verified>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(report) => {
            println!("{}", serde_json::to_string(&report).expect("a report is plain numbers"));
            let missing = report.verified.as_ref().is_some_and(|verified| verified.wrong_streams > 0);
            if report.errors > 0 || missing { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(message) => {
            eprintln!("loadtest: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<Report, String> {
    let target = Target::parse(&arguments.target)?;
    let source = match &arguments.file {
        Some(path) => Source::from_flv(&std::fs::read(path).map_err(|error| format!("reading {}: {error}", path.display()))?)?,
        None => Source::generated(arguments.bitrate_kbit, arguments.fps)?,
    };
    if arguments.streams == 0 || arguments.seconds <= 0.0 || arguments.rate < 0.0 {
        return Err("--streams and --seconds must be above 0, --rate at least 0".to_owned());
    }
    if let Some(core) = arguments.core {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        rustix::thread::sched_setaffinity(None, &set).map_err(|error| format!("pinning to core {core}: {error}"))?;
    }
    raise_file_limit();
    let server_before = arguments.pid.map(cpu_seconds).transpose()?;
    let own_before = cpu_seconds(std::process::id())?;
    let plan = publish::Plan {
        seconds: arguments.seconds,
        rate: arguments.rate,
        tick: Duration::from_millis(arguments.tick_ms.max(1)),
        spread: Duration::from_millis(arguments.spread_ms),
    };
    let names: Vec<String> = (0..arguments.streams).map(|index| format!("{}{index}", arguments.prefix)).collect();
    let outcome = publish::publish(&target, &names, &source, &plan)?;
    let own_cpu_s = cpu_seconds(std::process::id())? - own_before;
    let mut report = Report {
        streams: arguments.streams,
        seconds: outcome.seconds,
        bytes: outcome.bytes,
        media_bytes: outcome.sent.iter().map(|sent| sent.media_bytes).sum(),
        frames: outcome.sent.iter().map(|sent| sent.frames).sum(),
        late_ms_max: outcome.late_ms_max,
        own_cpu_s,
        errors: outcome.errors,
        ..Report::default()
    };
    if let (Some(pid), Some(before)) = (arguments.pid, server_before) {
        let used = idle_cpu_seconds(pid)? - before;
        report.server_cpu_s = Some(used);
        report.cpu_s_per_gb = Some(used / (report.media_bytes.max(1) as f64 / 1e9));
    }
    if let Some(place) = &arguments.verify {
        report.verified = Some(verify::verify(place, &names, &outcome.sent, Duration::from_secs(arguments.verify_seconds))?);
    }
    Ok(report)
}

/// One descriptor a stream: take what the hard limit allows.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("loadtest: raising the file limit: {error}");
    }
}

/// User and system time of a process over all its threads, from `/proc/PID/stat` (fields 14 and 15, clock ticks).
fn cpu_seconds(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).map_err(|error| format!("reading {path}: {error}"))?;
    // The name of the program may hold spaces and brackets: count from the last bracket, behind which field 3 comes first.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| format!("{path} has no field {field}"));
    Ok((ticks(14)? + ticks(15)?) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Like [`cpu_seconds`], once the process has come to rest (at most one tick in half a second) or after ten seconds: finishing files belongs to the bill.
fn idle_cpu_seconds(pid: u32) -> Result<f64, String> {
    let tick = 1.5 / rustix::param::clock_ticks_per_second() as f64;
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut before = cpu_seconds(pid)?;
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = cpu_seconds(pid)?;
        if now - before < tick || Instant::now() > deadline {
            return Ok(now);
        }
        before = now;
    }
}
