//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use capstan::config::{Config, ConfigError, settings_text};
use capstan::logging::error_chain;
use clap::{Parser, Subcommand};

/// Read when no file is named, if it is there.
const CONFIG_FILE_DEFAULT: &str = "capstan.toml";

/// Live-recording appliance: RTMP in; MP4, HLS, FLV, AAC and MP3 files out, without re-encoding.
#[derive(Parser)]
#[command(version, after_long_help = after_help())]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Take streams in and record them (also without any command).
    Serve {
        /// Settings; without it ./capstan.toml if there is one, else the defaults.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Check a configuration file without starting anything.
    CheckConfig {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// What an encoder is begun with: it ends when we do, and is in nobody's way.
    #[command(name = capstan::process::launch::COMMAND, hide = true)]
    RunChild {
        #[command(flatten)]
        manners: capstan::process::launch::Manners,
        parent: u32,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        program: Vec<std::ffi::OsString>,
    },
    /// Print every setting with its default, as a configuration file.
    Settings,
    /// Say what media files hold (MP4, FLV, MPEG-TS, ADTS, MP3, whoever wrote them) and what is wrong with them.
    Explain {
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Check finished recordings against what was noted when they were finished.
    Verify {
        /// A recording's folder or file, a folder of recordings, or a data folder.
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<PathBuf>,
    },
    #[command(flatten)]
    Ask(Box<capstan::client::Ask>),
    /// Build the catalog again from the recordings, while no appliance runs on the data folder; the old one is kept under another name.
    RebuildCatalog {
        /// Settings; without it ./capstan.toml if there is one, else the defaults.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

fn after_help() -> String {
    format!("Settings (TOML, in ./{CONFIG_FILE_DEFAULT} or the file given by serve --config):\n\n{}", settings_text())
}

fn main() -> ExitCode {
    match Arguments::parse().command.unwrap_or(Command::Serve { config: None }) {
        Command::Ask(ask) => capstan::client::run(&ask),
        Command::Serve { config } => with_config(config.as_deref(), |config, path| capstan::app::run(config, path.to_owned())),
        Command::Explain { files, json } => capstan::inspect::explain_command(&files, json),
        Command::Verify { paths } => {
            // Encrypted recordings are looked into with the key of the data folder they lie in.
            if let Some(key) = paths.iter().find_map(|path| capstan::process::keys::find_above(path)) {
                capstan::domain::sealing::hold_master_key(&key);
            }
            capstan::inspect::verify_command(&paths)
        }
        Command::RebuildCatalog { config } => with_config(config.as_deref(), |config, _| capstan::rescue::rebuild_command(&config)),
        Command::CheckConfig { file } => match Config::load(&file) {
            Ok(config) => match capstan::app::check(&config) {
                Ok(()) => {
                    println!("{}: OK", file.display());
                    ExitCode::SUCCESS
                }
                Err(sentence) => refuse(&format!("{}: {sentence}", file.display())),
            },
            Err(error) => refuse_config(&file, &error),
        },
        Command::RunChild { parent, manners, program } => capstan::process::launch::run(parent, &manners, &program),
        Command::Settings => {
            print!("{}", settings_text());
            ExitCode::SUCCESS
        }
    }
}

/// Reads the settings, begins the log and goes on with `run`.
fn with_config(file: Option<&Path>, run: impl FnOnce(Config, &Path) -> ExitCode) -> ExitCode {
    let default = Path::new(CONFIG_FILE_DEFAULT);
    let path = file.unwrap_or(default);
    // Only absence means "no configuration": a file that cannot be read must not be passed over.
    let config = if file.is_some() || default.try_exists().unwrap_or(true) {
        match Config::load(path) {
            Ok(config) => config,
            Err(error) => return refuse_config(path, &error),
        }
    } else {
        Config::default()
    };
    if let Err(error) = capstan::logging::init(&config.log) {
        return refuse(&error_chain(&error));
    }
    let code = run(config, path);
    capstan::logging::flush();
    code
}

/// One line for each problem, each with the file's name in front, as compilers do it.
fn refuse_config(file: &Path, error: &ConfigError) -> ExitCode {
    match error {
        ConfigError::Invalid { problems } => {
            for problem in problems {
                eprintln!("capstan: {}: {problem}", file.display());
            }
            ExitCode::FAILURE
        }
        other => refuse(&error_chain(other)),
    }
}

fn refuse(sentence: &str) -> ExitCode {
    eprintln!("capstan: {sentence}");
    ExitCode::FAILURE
}
