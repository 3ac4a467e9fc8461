//! The log: lines on standard error, as text or JSON.

use std::error::Error;
use std::iter::successors;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{LogConfig, LogFormat};

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("`log.level` = \"{level}\" is no level and no filter")]
    Filter { level: String, source: tracing_subscriber::filter::ParseError },
    #[error("a log was set up before")]
    Again { source: TryInitError },
}

/// Starts the process's log. To be called once, before the first thread.
///
/// # Errors
/// [`LoggingError::Filter`] for a filter that `Config::parse` did not see, [`LoggingError::Again`] for a second call.
pub fn init(config: &LogConfig) -> Result<(), LoggingError> {
    let filter = EnvFilter::try_new(&config.level).map_err(|source| LoggingError::Filter { level: config.level.clone(), source })?;
    // A log that cannot be written, its disk being full, must cost nothing but its lines: to complain of it would panic.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let started = match config.format {
        // Colors only for people: journals and files keep the escape codes.
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(|source| LoggingError::Again { source })
}

/// An error and what caused it, in one line.
pub fn error_chain(error: &dyn Error) -> String {
    successors(Some(error), |error: &&dyn Error| (*error).source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
