//! The command line's half that talks to a running appliance: `capstan streams`, `recordings`, `search`, `clip`, `play-url`, `tasks` and the rest.
//!
//! It calls the API as everybody does. Answers are tables for people; `--json` prints what the API answered.

mod call;
mod commands;
mod text;
mod when;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args, FromArgMatches, Subcommand};

use crate::config::Config;

/// Where the appliance is, who calls, and how the answer is shown.
#[derive(Args, Clone, Debug)]
pub struct Connection {
    /// The appliance, for example http://recorder.example.com:8080; without it the one that the configuration describes.
    #[arg(long, global = true, value_name = "URL", env = "CAPSTAN_SERVER", help_heading = "Connection")]
    server: Option<String>,
    /// Settings of the appliance; without it ./capstan.toml if there is one. Its first credential with the role admin, or its first token, is used.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    config: Option<PathBuf>,
    /// SecretId of a credential.
    #[arg(long, global = true, value_name = "ID", env = "CAPSTAN_SECRET_ID", help_heading = "Connection")]
    secret_id: Option<String>,
    // On a command line a key would be seen by everybody on the machine.
    #[arg(skip = std::env::var("CAPSTAN_SECRET_KEY").ok())]
    secret_key: Option<String>,
    #[arg(skip = std::env::var("CAPSTAN_TOKEN").ok())]
    token: Option<String>,
    /// Print the answer of the API instead of a table.
    #[arg(long, global = true, help_heading = "Connection")]
    json: bool,
}

/// What is asked of the appliance.
#[derive(Subcommand, Clone, Debug)]
pub enum Request {
    /// Streams that are live now.
    Streams {
        /// Only those of this push domain.
        #[arg(long)]
        domain: Option<String>,
        /// Only those of this app.
        #[arg(long)]
        app: Option<String>,
    },
    /// The newest recordings.
    Recordings {
        /// So many of them.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=5000))]
        limit: u64,
    },
    /// Recordings that fit: by name, stream, format and time.
    Search {
        /// Part of the name or description.
        text: Vec<String>,
        /// Name of the stream, whole.
        #[arg(long)]
        stream: Option<String>,
        /// Push domain of the stream.
        #[arg(long)]
        domain: Option<String>,
        /// App of the stream.
        #[arg(long)]
        app: Option<String>,
        /// Only files of this format.
        #[arg(long, value_parser = FORMATS, ignore_case = true)]
        format: Option<String>,
        /// Only those with this tag.
        #[arg(long)]
        tag: Option<String>,
        /// Recorded then or later: 2026-01-31, 2026-01-31T14:00, 14:00, or an age such as 90m, 2h, 3d.
        #[arg(long, value_name = "TIME")]
        after: Option<String>,
        /// Recorded before then.
        #[arg(long, value_name = "TIME")]
        before: Option<String>,
        /// So many of them.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=5000))]
        limit: u64,
    },
    /// Cut a piece out of a recording, or keep the last minutes of a stream, without re-encoding; it becomes a recording of its own.
    Clip {
        /// Id of the recording; with --last: STREAM, APP/STREAM or DOMAIN/APP/STREAM.
        #[arg(value_name = "FILE_ID")]
        what: String,
        /// The last so many minutes (5m, 2h) of a stream that is recorded as HLS, live or not, in whole segments.
        #[arg(long, value_name = "LENGTH", conflicts_with_all = ["from", "to", "format", "no_wait"])]
        last: Option<String>,
        /// Begin within the recording: seconds, M:SS or H:MM:SS.
        #[arg(long, default_value = "0")]
        from: String,
        /// End within the recording; without it, its end.
        #[arg(long)]
        to: Option<String>,
        /// Name of the new recording.
        #[arg(long)]
        name: Option<String>,
        /// What it becomes: mp4 begins with the very frame, hls with a key frame. Without it, hls for HLS and else mp4.
        #[arg(long, value_parser = ["mp4", "hls"], ignore_case = true)]
        format: Option<String>,
        /// Do not wait until it is cut.
        #[arg(long)]
        no_wait: bool,
    },
    /// The address at which a recording is played: by its id, or of a stream what is recorded of it now, or last.
    PlayUrl {
        /// Id of a recording; or STREAM, APP/STREAM or DOMAIN/APP/STREAM.
        what: String,
        /// Of a stream: the newest finished recording in this format.
        #[arg(long, value_parser = FORMATS, ignore_case = true)]
        format: Option<String>,
    },
    /// Record tasks from yesterday to next week; or make, stop and delete one.
    Tasks {
        #[command(subcommand)]
        command: Option<TaskCommand>,
    },
    /// Record templates.
    Templates,
    /// Record rules.
    Rules,
    /// Callbacks and pushed events: what became of them; or send some again.
    Callbacks {
        #[command(subcommand)]
        command: Option<CallbackCommand>,
    },
    /// Delete recordings.
    Delete {
        /// Ids of recordings.
        #[arg(required = true)]
        file_ids: Vec<String>,
    },
    /// Any action of the API: `capstan call SearchMedia Limit=1`, or with the parameters as one JSON object.
    Call {
        /// Its name.
        action: String,
        /// NAME=VALUE, nested by dots (Mp4Param.Enable=1), or one JSON object.
        parameters: Vec<String>,
    },
}

#[derive(Subcommand, Clone, Debug)]
pub enum TaskCommand {
    /// Record a stream from now on, or from a time to another.
    Create {
        /// APP/STREAM or DOMAIN/APP/STREAM.
        stream: String,
        /// Length from its begin: 90m, 2h (at most 24h).
        #[arg(long = "for", value_name = "LENGTH", conflicts_with = "until")]
        length: Option<String>,
        /// Begin; without it, now.
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// End.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Without it, the format that the appliance is set to.
        #[arg(long, value_name = "ID", default_value_t = 0)]
        template: u64,
    },
    /// End a task now; its file is finished.
    Stop {
        /// Id of the task.
        task_id: String,
    },
    /// Take a task from the list; it takes no further publications.
    Delete {
        /// Id of the task.
        task_id: String,
    },
}

#[derive(Subcommand, Clone, Debug)]
pub enum CallbackCommand {
    /// The newest ones first, with their attempts and the last answer.
    List {
        #[command(flatten)]
        which: Deliveries,
        /// So many of them.
        #[arg(long, default_value_t = CALLBACKS_SHOWN, value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: u64,
    },
    /// Send again: by id, or all that fit (at most 1000 at once).
    Replay {
        /// Ids of `capstan callbacks list`.
        ids: Vec<i64>,
        #[command(flatten)]
        which: Deliveries,
    },
}

/// Formats of recordings.
const FORMATS: [&str; 5] = ["mp4", "hls", "flv", "aac", "mp3"];
/// Callbacks that are listed unless told otherwise.
const CALLBACKS_SHOWN: u64 = 50;

/// Which deliveries.
#[derive(Args, Clone, Debug, Default)]
pub struct Deliveries {
    /// What became of them.
    #[arg(long, value_parser = ["waiting", "delivered", "failed"])]
    pub state: Option<String>,
    /// Kind of event: 1, 0, 100, 332, 341, 321, NewFileUpload and so on.
    #[arg(long)]
    pub event: Option<String>,
    /// Part of DOMAIN/APP/STREAM.
    #[arg(long)]
    pub stream: Option<String>,
    /// Begin of the receiver's address.
    #[arg(long)]
    pub url: Option<String>,
}

/// A request and whom it goes to. The options of [`Connection`] belong to these commands alone, and to those below them.
#[derive(Clone, Debug)]
pub struct Ask {
    request: Request,
    connection: Connection,
}

impl Subcommand for Ask {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let known: Vec<String> = command.get_subcommands().map(|known| known.get_name().to_owned()).collect();
        let command = Request::augment_subcommands(command);
        let names: Vec<String> = command.get_subcommands().map(|own| own.get_name().to_owned()).filter(|name| !known.contains(name)).collect();
        let with_connection = |own: clap::Command| {
            // What the options are is not what the command does.
            let about = own.get_about().cloned().unwrap_or_default();
            Connection::augment_args(own).about(about).long_about(None)
        };
        names.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_connection))
    }
    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }
    fn has_subcommand(name: &str) -> bool {
        Request::has_subcommand(name)
    }
}

impl FromArgMatches for Ask {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let missing = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (_, own) = matches.subcommand().ok_or_else(missing)?;
        Ok(Self { request: Request::from_arg_matches(matches)?, connection: Connection::from_arg_matches(own)? })
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Carries out a request and prints its answer; problems are one sentence on standard error.
pub fn run(ask: &Ask) -> ExitCode {
    let done = call::Appliance::find(&ask.connection).and_then(|appliance| commands::run(&ask.request, &appliance, ask.connection.json));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capstan: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why there is no answer: a sentence for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0}")]
    Usage(String),
    #[error("{}", .0)]
    Config(String),
    #[error("{server} does not answer: {reason}. Is Capstan running there? (--server URL names another one)")]
    Unreachable { server: String, reason: String },
    #[error("what {server} answers is no answer of Capstan's API (HTTP {status})")]
    NoApi { server: String, status: u16 },
    #[error("{message} ({code}){}", hint(.code))]
    Refused { code: String, message: String },
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
}

/// What to do about a refusal.
fn hint(code: &str) -> &'static str {
    match code {
        "AuthFailure.SignatureFailure" | "AuthFailure.SecretIdNotFound" | "AuthFailure.TokenFailure" => {
            "; name a credential by --secret-id and CAPSTAN_SECRET_KEY, a token by CAPSTAN_TOKEN, or the appliance's settings by --config"
        }
        "AuthFailure.SignatureExpire" => "; set the clock of this machine",
        _ => "",
    }
}

/// The configuration that the person means; `None` if none was named and there is none here.
fn config(connection: &Connection) -> Result<Option<Config>, ClientError> {
    let default = std::path::Path::new("capstan.toml");
    let path = match &connection.config {
        Some(path) => path.as_path(),
        None if default.try_exists().unwrap_or(false) => default,
        None => return Ok(None),
    };
    // The path is in the error.
    Config::load(path).map(Some).map_err(|error| ClientError::Config(crate::logging::error_chain(&error).to_string()))
}
