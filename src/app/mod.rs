//! The wiring: builds every part, joins them by bounded channels, starts and stops them in order.

mod entry;
mod health;
mod left;
mod parts;
mod running;
mod start;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::catalog::CatalogError;
use crate::config::Config;
use crate::logging;
use crate::units::{MonoTime, WallTime};

use self::start::start;

/// An ingest core that has not passed its tick for this long stands still: `/healthz` says so, and systemd restarts us.
const STANDSTILL: Duration = Duration::from_secs(5);

/// Why the appliance did not start: one sentence for the user, naming the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct StartError(String);

impl From<CatalogError> for StartError {
    fn from(error: CatalogError) -> Self {
        Self(error.to_string())
    }
}

fn because(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError(format!("{what}: {error}"))
}

/// Monotonic nanoseconds since the first call.
fn mono_now() -> MonoTime {
    static START: OnceLock<Instant> = OnceLock::new();
    MonoTime::from_nanos(START.get_or_init(Instant::now).elapsed().as_nanos() as u64)
}

fn wall_now() -> WallTime {
    let micros = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    };
    WallTime::from_unix_micros(micros)
}

/// Runs the appliance until SIGINT or SIGTERM; every open file is finished then. At SIGHUP `config_file` is read again for who may call.
pub fn run(config: Config, config_file: PathBuf) -> ExitCode {
    let signals = match signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("capstan: cannot receive signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    match start(&config) {
        Ok(running) => {
            running.run_until(signals, &config_file);
            ExitCode::SUCCESS
        }
        Err(error) => {
            // Behind the lines that lead to it.
            logging::flush();
            eprintln!("capstan: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a start would refuse of the files that the settings name; nothing is started.
///
/// # Errors
/// A sentence with the setting.
pub fn check(config: &Config) -> Result<(), String> {
    config.rtmps_listen().map_or(Ok(()), |_| parts::tls_acceptor(config).map(drop)).map_err(|error| error.to_string())
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(because(format_args!("cannot start the {name} thread")))
}
