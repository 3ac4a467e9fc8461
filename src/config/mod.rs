//! The settings: declared once in [`table`], read from one TOML file, shown in the help text and in the README.
//!
//! [`Config::parse`] walks the parsed document key by key instead of handing it to a deserializer: every problem is reported, each with
//! its line, its full key and the bound that was broken, and none of the messages repeats a secret.

mod check;
mod credential;
mod render;
mod table;
mod tls;
mod value;

use std::fs;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

pub use credential::{BearerToken, Credential, Secret, WebhookSecret};
pub use render::{banner, settings_markdown, settings_text};
pub use table::{
    ApiConfig, CallbackConfig, Config, DeliveryConfig, HttpConfig, IngestConfig, LogConfig, ProcessConfig, RecordConfig, Setting, settings,
};
pub use tls::TlsCertificate;
pub use value::{DuplicatePublisher, Eviction, HlsContainer, LogFormat, Role, WhenBusy};

use value::Reader;

/// Bytes of a configuration file; every setting written out with its comment is below 10 KiB.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Problems reported at once: more than a screen helps nobody.
pub const PROBLEMS_MAX: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the configuration file {path} is larger than {CONFIG_BYTES_MAX} bytes")]
    TooLarge { path: PathBuf },
    /// One line for each problem, in the order of the file.
    #[error("{}", join(.problems))]
    Invalid { problems: Vec<Problem> },
}

/// One thing that is wrong with the settings. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("line {line}: {message}")]
    Syntax { line: usize, message: String },
    #[error("line {line}: unknown setting `{key}`{}", hint(.suggestion))]
    UnknownKey { line: usize, key: String, suggestion: Option<String> },
    #[error("line {line}: `{key}` must be {expected}, not {found}")]
    WrongType { line: usize, key: String, expected: String, found: &'static str },
    #[error("line {line}: `{key}` = {value} is out of bounds, allowed: {bound}")]
    OutOfBounds { line: usize, key: String, value: String, bound: String },
    /// Also for secrets, so the value itself is never part of the message.
    #[error("line {line}: `{key}` {reason}")]
    Refused { line: usize, key: String, reason: String },
    #[error(
        "{}`{key}` = {address} is reachable from other machines but no credentials are configured: \
         add an [[api.credentials]] entry with secret_id, secret_key and role, or listen on 127.0.0.1",
        place(.line)
    )]
    Exposed { line: Option<usize>, key: &'static str, address: SocketAddr },
    #[error("{}`ingest.rtmps_listen` needs a certificate: add an [[ingest.tls_certificates]] block with certificate and key", place(.line))]
    NoCertificate { line: Option<usize> },
}

impl Config {
    /// Where RTMPS is offered.
    pub fn rtmps_listen(&self) -> Option<SocketAddr> {
        self.ingest.rtmps_listen.parse().ok()
    }
}

impl Problem {
    /// The line in the file; `None` for a value that no line sets.
    pub fn line(&self) -> Option<usize> {
        match self {
            Problem::Syntax { line, .. }
            | Problem::UnknownKey { line, .. }
            | Problem::WrongType { line, .. }
            | Problem::OutOfBounds { line, .. }
            | Problem::Refused { line, .. } => Some(*line),
            Problem::Exposed { line, .. } | Problem::NoCertificate { line } => *line,
        }
    }
}

/// An address to listen on.
fn listen_address(text: &str) -> Option<SocketAddr> {
    text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0)
}

/// Where `delivery.listen` says that recordings are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryListen {
    Off,
    /// This one, else any free port of `fallback`.
    Auto {
        preferred: Option<SocketAddr>,
        fallback: SocketAddr,
    },
    At(SocketAddr),
}

impl Config {
    pub fn delivery_listen(&self) -> DeliveryListen {
        let http = self.http.listen;
        match self.delivery.listen.as_str() {
            "off" => DeliveryListen::Off,
            text => match listen_address(text) {
                Some(address) => DeliveryListen::At(address),
                None => {
                    // Next to a port that somebody chose there may be another one that somebody chose.
                    let is_default = http == HttpConfig::default().listen;
                    let preferred = is_default.then(|| SocketAddr::new(http.ip(), http.port() + 1));
                    DeliveryListen::Auto { preferred, fallback: SocketAddr::new(http.ip(), 0) }
                }
            },
        }
    }
}

fn join(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map_or(String::new(), |key| format!(", did you mean `{key}`?"))
}

fn place(line: &Option<usize>) -> String {
    line.map_or(String::new(), |line| format!("line {line}: "))
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Read`] and [`ConfigError::TooLarge`] for the file, [`ConfigError::Invalid`] for what it says.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        // The bound holds for what is read, not for what the file system says: the path may name a pipe.
        let count = fs::File::open(path).and_then(|file| file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text)).map_err(read)?;
        if count as u64 > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        Self::parse(&text)
    }

    /// Reads TOML; settings that are not given keep their default. Relations between settings are checked too.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with every problem found (at most [`PROBLEMS_MAX`]), by line.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let document = DeTable::parse(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            // `message` alone: the error's own rendering quotes the line, which may hold a secret.
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            ConfigError::Invalid { problems: vec![Problem::Syntax { line: value::line_of(text, start), message }] }
        })?;
        let mut config = Config::default();
        let mut reader = Reader::new(text);
        for (name, value) in document.get_ref() {
            let section = name.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Table(table) if Config::is_section(section) => {
                    for (key, value) in table {
                        reader.enter(&format!("{section}.{}", key.get_ref()), key.span().start);
                        if !config.read_in_section(section, key.get_ref(), value, &mut reader) {
                            reader.unknown_key();
                        }
                    }
                }
                _ => {
                    reader.enter(section, name.span().start);
                    if Config::is_section(section) {
                        reader.wrong_type(value, "a table");
                    } else if !config.read_top(section, value, &mut reader) {
                        reader.unknown_key();
                    }
                }
            }
        }
        // Relations only between settings that were all read: a refused credential is not a missing one.
        if reader.problems.is_empty() {
            for mut problem in config.check() {
                match &mut problem {
                    Problem::Exposed { line, key, .. } => *line = reader.line_of_key(key),
                    Problem::NoCertificate { line } => *line = reader.line_of_key("ingest.rtmps_listen"),
                    _ => {}
                }
                reader.problems.push(problem);
            }
        }
        if reader.problems.is_empty() {
            return Ok(config);
        }
        let mut problems = reader.problems;
        problems.sort_by_key(Problem::line);
        problems.truncate(PROBLEMS_MAX);
        Err(ConfigError::Invalid { problems })
    }

    /// Where recordings are reached: the setting, or where they are served. No slash at the end. `delivery`: the address of the media listener; without
    /// one, recordings come from the HTTP port.
    pub fn public_base(&self, delivery: Option<SocketAddr>) -> String {
        if self.http.public_base.is_empty() { format!("http://{}", delivery.unwrap_or(self.http.listen)) } else { self.http.public_base.clone() }
    }
}

/// A document may be anything: it is read or refused, every problem lies inside the text, and what was accepted is within its bounds.
pub fn fuzz_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text) {
        Ok(config) => {
            assert!((5..=1_000).contains(&config.ingest.tick_ms));
            assert!(config.check().is_empty());
        }
        Err(ConfigError::Invalid { problems }) => {
            assert!(!problems.is_empty() && problems.len() <= PROBLEMS_MAX);
            let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
            for problem in problems {
                assert!(problem.line().is_none_or(|line| (1..=lines).contains(&line)), "{problem}");
            }
        }
        Err(other) => panic!("parsing text touches no file: {other}"),
    }
}

#[cfg(test)]
mod tests;
