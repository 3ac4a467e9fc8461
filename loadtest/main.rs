//! Load generator: thousands of RTMP publishers from one FLV file or a generated source, and a check that the recordings hold every frame sent.
//!
//! An RTMP client of its own, so that a mistake in the server's protocol code is not made twice. Chunk headers are built once (every message of the
//! endless loop carries a timestamp *delta*, so the same bytes serve every stream and every round); a publisher is looked at only when something of it
//! is due. The standard output gets one line of JSON, see [`report::Report`]; the error output progress and a table for people.

mod capacity;
mod client;
mod compare;
mod formats;
mod process;
mod publish;
mod report;
mod server;
mod source;
mod stop;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;

use crate::client::Target;
use crate::process::{Pids, own_cpu_seconds, raise_file_limit};
use crate::publish::{Board, Group, Plan};
use crate::report::Report;
use crate::source::{Shape, Source};

#[derive(Parser, Clone)]
#[command(
    name = "loadtest",
    about = "RTMP publishers by the thousand; one line of JSON at the end, exit code 1 if anything failed or is missing, 2 if it could not be tried, 130 after Ctrl-C"
)]
struct Arguments {
    /// Publishers at once; 1, if there are neither --mix nor --idle
    #[arg(long)]
    streams: Option<usize>,
    /// Further publishers of a generated source: COUNTxKBIT, for example 450x500; may be repeated
    #[arg(long, value_parser = mix)]
    mix: Vec<(usize, u64)>,
    /// Further publishers that send one small picture a second and no sound
    #[arg(long, default_value_t = 0)]
    idle: usize,
    /// FLV file (H.264, AAC, MP3) to publish in a loop; without it a source is generated
    #[arg(long)]
    file: Option<PathBuf>,
    /// Video and audio together, generated source
    #[arg(long, default_value_t = 4000)]
    bitrate_kbit: u64,
    /// Frames per second, generated source
    #[arg(long, default_value_t = 30)]
    fps: u32,
    /// Milliseconds from one key frame to the next, generated source
    #[arg(long, default_value_t = 1600)]
    gop_ms: u64,
    /// AAC of the generated source; 0: video alone
    #[arg(long, default_value_t = 128)]
    audio_kbit: u64,
    /// How long each stream publishes
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// 1: real time, 2: twice as fast, 0: as fast as the server takes it, for --seconds, which can fill a disk within a minute: such a load ends, as failed,
    /// when fewer than 2 GiB are free on the disk of --disk
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// Where to: rtmp://host:port/app
    #[arg(long, default_value = "rtmp://127.0.0.1:1935/live")]
    target: String,
    /// Stream names are this and a number from 0
    #[arg(long, default_value = "s")]
    prefix: String,
    /// Pin the generator to these cores, one thread each: 1 or 1,2,3
    #[arg(long, value_delimiter = ',')]
    core: Vec<usize>,
    /// Milliseconds between two rounds of writing, real time
    #[arg(long, default_value_t = 10)]
    tick_ms: u64,
    /// Publishers start spread over this many milliseconds, so that key frames do not fall together
    #[arg(long, default_value_t = 1600)]
    spread_ms: u64,
    /// Publishers that begin each second; 0: all connect first and begin together
    #[arg(long, default_value_t = 0.0)]
    ramp: f64,
    /// Publications that end each second, each followed by another one under a new name
    #[arg(long, default_value_t = 0.0)]
    churn: f64,
    /// Publications end by closing the connection, without the commands for it
    #[arg(long)]
    abrupt: bool,
    /// Connections that shake hands at the same time
    #[arg(long, default_value_t = 256)]
    connecting: usize,
    /// Server processes (PID or PID,PID): report their CPU seconds, all threads together, and memory
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    /// Compare the recordings with what was sent: the server's HTTP address (http://127.0.0.1:8080) or a folder of finished FLV or MP4 files
    #[arg(long)]
    verify: Option<String>,
    /// Formats that must hold every frame; without it those that are there
    #[arg(long, value_delimiter = ',', value_parser = ["flv", "mp4", "hls", "aac"])]
    formats: Vec<String>,
    /// Seconds to wait for the recordings when verifying
    #[arg(long, default_value_t = 60)]
    verify_seconds: u64,
    /// Run the load against a Capstan of its own and against nginx with its RTMP module (installed if absent), in turn, and print the ratios
    #[arg(long, value_enum)]
    compare: Option<Peer>,
    /// Rounds of --compare: A B A B
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Find the number of streams that this machine carries with headroom, with a Capstan of its own, beginning with --streams (100)
    #[arg(long, conflicts_with_all = ["compare", "file", "mix", "idle"])]
    find_capacity: bool,
    /// Part of an ingest core that stays free, percent, with --find-capacity
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=90))]
    headroom: u32,
    /// Where servers that are started write: a folder on the disk under test; with --rate 0 a server at 127.0.0.1 writes there, too
    #[arg(long, default_value = ".")]
    disk: PathBuf,
    /// Ingest cores of a Capstan that is started; nginx gets the first of them
    #[arg(long, value_delimiter = ',', default_value = "0")]
    server_core: Vec<usize>,
    /// The server's program; without it the one beside this program, or in the path
    #[arg(long)]
    capstan: Option<PathBuf>,
    /// Progress on the error output also where that is no terminal
    #[arg(long)]
    progress: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Peer {
    Nginx,
}

fn mix(text: &str) -> Result<(usize, u64), String> {
    let parts = text.split_once('x').and_then(|(count, kbit)| Some((count.parse().ok()?, kbit.parse().ok()?)));
    parts.ok_or_else(|| format!("{text:?} is not COUNTxKBIT"))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(message) = stop::listen() {
        eprintln!("loadtest: {message}");
        return ExitCode::from(2);
    }
    let done = if arguments.find_capacity {
        capacity::find(&arguments).map(|capacity| (capacity.table(), line(&capacity), capacity.streams > 0))
    } else if arguments.compare.is_some() {
        compare::compare(&arguments).map(|comparison| (comparison.table(), line(&comparison), comparison.is_good()))
    } else {
        run(&arguments).map(|report| (report.table(), line(&report), report.is_good()))
    };
    let code = match done {
        Ok((table, line, good)) => {
            eprint!("{table}");
            println!("{line}");
            u8::from(!good)
        }
        Err(message) => {
            eprintln!("loadtest: {message}");
            2
        }
    };
    ExitCode::from(if stop::is_asked() { 130 } else { code })
}

fn line(report: &impl serde::Serialize) -> String {
    serde_json::to_string(report).expect("a report is plain numbers and texts")
}

/// The publishers that the arguments ask for.
fn groups(arguments: &Arguments) -> Result<Vec<Group>, String> {
    let shape = Shape { bitrate_kbit: arguments.bitrate_kbit, fps: arguments.fps, gop_ms: arguments.gop_ms, audio_kbit: arguments.audio_kbit };
    let others = !arguments.mix.is_empty() || arguments.idle > 0;
    let mut groups = Vec::new();
    let streams = arguments.streams.unwrap_or(usize::from(!others));
    if streams > 0 {
        let source = match &arguments.file {
            Some(path) => Source::from_flv(&std::fs::read(path).map_err(|error| format!("reading {}: {error}", path.display()))?)?,
            None => Source::generated(shape)?,
        };
        groups.push(Group { source, streams, prefix: arguments.prefix.clone() });
    }
    for (index, (streams, bitrate_kbit)) in arguments.mix.iter().enumerate().filter(|(_, (streams, _))| *streams > 0) {
        let source = Source::generated(Shape { bitrate_kbit: *bitrate_kbit, ..shape })?;
        groups.push(Group { source, streams: *streams, prefix: format!("{}mix{index}-", arguments.prefix) });
    }
    if arguments.idle > 0 {
        groups.push(Group { source: Source::generated(Shape::IDLE)?, streams: arguments.idle, prefix: format!("{}idle", arguments.prefix) });
    }
    let bounded = |value: f64| (0.0..=1e9).contains(&value);
    if groups.is_empty() || !bounded(arguments.seconds) || arguments.seconds == 0.0 || !bounded(arguments.rate) {
        return Err("--streams and --seconds must be above 0, --rate at least 0".to_owned());
    }
    if !bounded(arguments.ramp) || !bounded(arguments.churn) {
        return Err("--ramp and --churn must be at least 0".to_owned());
    }
    Ok(groups)
}

fn plan(arguments: &Arguments, target: &str) -> Result<Plan, String> {
    let target = Target::parse(target)?;
    Ok(Plan {
        disk: target.address.ip().is_loopback().then(|| arguments.disk.clone()),
        target,
        groups: groups(arguments)?,
        seconds: arguments.seconds,
        rate: arguments.rate,
        tick: Duration::from_millis(arguments.tick_ms.max(1)),
        spread: Duration::from_millis(arguments.spread_ms),
        ramp_per_s: arguments.ramp,
        churn_per_s: arguments.churn,
        abrupt: arguments.abrupt,
        connecting_max: arguments.connecting.max(1),
        cores: arguments.core.clone(),
    })
}

fn run(arguments: &Arguments) -> Result<Report, String> {
    let server = (!arguments.pid.is_empty()).then(|| Pids(arguments.pid.clone()));
    load(&plan(arguments, &arguments.target)?, server.as_ref(), arguments, true)
}

/// Publishes by the plan, looks at the server meanwhile, and verifies; with `times` the timestamps, too.
fn load(plan: &Plan, server: Option<&Pids>, arguments: &Arguments, times: bool) -> Result<Report, String> {
    use std::io::IsTerminal;
    if let Some(place) = arguments.verify.as_ref().filter(|place| !place.starts_with("http://") && !std::path::Path::new(place).is_dir()) {
        return Err(format!("--verify {place} is neither an http:// address nor a folder"));
    }
    let streams = plan.streams();
    raise_file_limit(streams as u64 + 64);
    if let Some(server) = server {
        server.cpu_seconds()?;
    }
    let board = Board::new(plan);
    let done = AtomicBool::new(false);
    let own_before = own_cpu_seconds()?;
    let progress = arguments.progress || std::io::stderr().is_terminal();
    let (outcome, watched) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| report::watch(&board, streams, server, progress, &done));
        let outcome = publish::publish(plan, &board);
        done.store(true, Ordering::Relaxed);
        (outcome, watcher.join().map_err(|_| "watching the server panicked".to_owned()))
    });
    let outcome = outcome?;
    let own_cpu_s = own_cpu_seconds()? - own_before;
    let mut report = Report {
        streams,
        publications: outcome.sent.len().max(streams),
        seconds: outcome.seconds,
        connect_seconds: outcome.connect_seconds,
        ..Report::default()
    };
    report.add_totals(&board, own_cpu_s);
    report.interrupted = stop::is_asked();
    if let Some(server) = server {
        watched?.complete(&mut report, server);
    }
    if let Some(place) = &arguments.verify {
        let patience = Duration::from_secs(arguments.verify_seconds);
        let wanted = verify::Wanted { place, formats: &arguments.formats, patience, times };
        match verify::verify(&wanted, &plan.groups, &outcome.sent) {
            Ok(verified) => report.verified = Some(verified),
            // What was measured is told all the same.
            Err(message) => report.verify_error = Some(message),
        }
    }
    Ok(report)
}
