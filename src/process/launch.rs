//! What a child does before it becomes the encoder: it makes sure that it does not outlive us, and that it is in nobody's way.
//!
//! A process can set these things for itself without any code between fork and exec, so we begin ourselves once more and become the encoder then.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal, setpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::child::Launcher;

/// The hidden command of ours that [`run`] carries out.
pub const COMMAND: &str = "run-child";
/// When memory is short, the encoder goes before the recorder does.
const OOM_SCORE: &str = "500";

/// What a child sets for itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manners {
    /// 0 to 19.
    pub nice: u64,
    /// CPUs it may use; empty: as we.
    pub cpus: Vec<usize>,
}

/// How children with these manners are begun by this process.
pub fn launcher(manners: &Manners) -> Launcher {
    let cpus = manners.cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    // The very file that runs, even if another one was put in its place meanwhile.
    let words = ["/proc/self/exe", COMMAND, &std::process::id().to_string(), &manners.nice.to_string(), &cpus];
    Launcher { words: words.iter().map(OsString::from).collect() }
}

/// Becomes the program; returns only if that fails.
pub fn run(parent: u32, nice: u64, cpus: &str, program: &[OsString]) -> ExitCode {
    let error = become_program(parent, nice, cpus, program);
    eprintln!("{}: {error}", program.first().map(|name| name.to_string_lossy()).unwrap_or_default());
    ExitCode::from(127)
}

fn become_program(parent: u32, nice: u64, cpus: &str, program: &[OsString]) -> io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // It may have died before that took effect.
    if getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()) != Some(parent) {
        return io::Error::other("the appliance is gone");
    }
    // Not vital: a child that may not do it still works.
    let _ = setpriority_process(None::<Pid>, i32::try_from(nice).unwrap_or(0));
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let mut set = CpuSet::new();
    let wanted = cpus.split(',').filter_map(|cpu| cpu.parse().ok()).filter(|cpu| *cpu < CpuSet::MAX_CPU);
    if wanted.map(|cpu: usize| set.set(cpu)).count() > 0 {
        let _ = sched_setaffinity(None, &set);
    }
    match program.split_first() {
        Some((name, arguments)) => Command::new(name).args(arguments).exec(),
        None => io::Error::other("there is no program"),
    }
}
