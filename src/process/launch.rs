//! What a child does before it becomes the encoder: it makes sure that it does not outlive us, and that it is in nobody's way.
//!
//! A process can set these things for itself without any code between fork and exec, so we begin ourselves once more and become the encoder then.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal, setpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::cgroup;
use super::child::Launcher;

/// The hidden command of ours that [`run`] carries out.
pub const COMMAND: &str = "run-child";
/// When memory is short, the encoder goes before the recorder does.
const OOM_SCORE: &str = "500";

/// What a child sets for itself; also the arguments of [`COMMAND`].
#[derive(Clone, PartialEq, Eq, Debug, Default, clap::Args)]
pub struct Manners {
    /// 0 to 19.
    #[arg(long)]
    pub nice: u64,
    /// CPUs it may use; empty: as we.
    #[arg(long, value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// It gets the disk while nobody else wants it; else it has the lowest of the usual priorities.
    #[arg(long)]
    pub io_idle: bool,
    /// Its control group.
    #[arg(long)]
    pub cgroup: Option<PathBuf>,
}

/// How children with these manners are begun by this process.
pub fn launcher(manners: &Manners) -> Launcher {
    // The very file that runs, even if another one was put in its place meanwhile.
    let mut words: Vec<OsString> = ["/proc/self/exe", COMMAND].map(OsString::from).to_vec();
    words.push(format!("--nice={}", manners.nice).into());
    if !manners.cpus.is_empty() {
        words.push(format!("--cpus={}", manners.cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")).into());
    }
    if manners.io_idle {
        words.push("--io-idle".into());
    }
    if let Some(folder) = &manners.cgroup {
        words.extend(["--cgroup".into(), folder.clone().into_os_string()]);
    }
    words.push(std::process::id().to_string().into());
    Launcher { words }
}

/// Becomes the program; returns only if that fails.
pub fn run(parent: u32, manners: &Manners, program: &[OsString]) -> ExitCode {
    let error = become_program(parent, manners, program);
    eprintln!("{}: {error}", program.first().map(|name| name.to_string_lossy()).unwrap_or_default());
    ExitCode::from(127)
}

fn become_program(parent: u32, manners: &Manners, program: &[OsString]) -> io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // It may have died before that took effect.
    if getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()) != Some(parent) {
        return io::Error::other("the appliance is gone");
    }
    // Not vital: a child that may not do it still works.
    let _ = setpriority_process(None::<Pid>, i32::try_from(manners.nice).unwrap_or(0));
    if let Some(folder) = &manners.cgroup {
        let _ = cgroup::enter(folder);
    }
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let mut set = CpuSet::new();
    let wanted = manners.cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU);
    if wanted.map(|cpu| set.set(*cpu)).count() > 0 {
        let _ = sched_setaffinity(None, &set);
    }
    let Some((name, arguments)) = program.split_first() else { return io::Error::other("there is no program") };
    if is_there(Path::new(name)) {
        // There is no safe call for it; where the program is missing, the kernel goes by the nice value.
        let _ =
            Command::new("ionice").args(if manners.io_idle { &["-t", "-c", "3"][..] } else { &["-t", "-c", "2", "-n", "7"] }).args(program).exec();
    }
    Command::new(name).args(arguments).exec()
}

/// Can it be begun? A program that is missing has to be our own finding, not that of a helper.
fn is_there(program: &Path) -> bool {
    if program.components().count() > 1 {
        return program.is_file();
    }
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
