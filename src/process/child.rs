//! One child process: begun in a group of its own, watched, killed as a group, its words kept within bounds.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use rustix::process::{Pid, Signal, kill_process_group};

/// What is kept of a child's standard error: its last bytes.
pub const STDERR_BYTES_MAX: usize = 4 << 10;
/// A line of a child's standard output.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Lines on their way; a child that talks faster waits.
const LINES_MAX: usize = 256;
/// How often a running child is looked at: for time-outs and for being told to stop.
const LOOK: Duration = Duration::from_millis(200);

/// How children are begun: through ourselves, so that they are killed when we are (see [`super::launch`]). Empty: directly.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Launcher {
    pub words: Vec<OsString>,
}

/// Bounds of one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// In all.
    pub time_max: Duration,
    /// Without a word on standard output.
    pub silence_max: Duration,
}

/// Why somebody wants a child to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The appliance stops; the work is done again at the next start.
    Shutdown,
    /// The task was cancelled.
    Cancelled,
}

#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    #[error("{program} cannot be started")]
    Start { program: PathBuf, source: io::Error },
    #[error("{program} ended with status {code}: {stderr}")]
    Failed { program: String, code: i32, stderr: String },
    #[error("{program} was killed by signal {signal}: {stderr}")]
    Killed { program: String, signal: i32, stderr: String },
    #[error("{program} took longer than {seconds} s")]
    TimedOut { program: String, seconds: u64 },
    #[error("{program} did not get on for {seconds} s")]
    Silent { program: String, seconds: u64 },
    #[error("stopped")]
    Stopped(Stop),
}

/// Runs a program in `folder` until it ends; `line` gets each line of its standard output.
///
/// # Errors
/// [`ChildError`]. No child of its group is left whatever happened.
pub fn run(
    launcher: &Launcher,
    program: &Path,
    arguments: &[String],
    folder: &Path,
    bounds: Bounds,
    stop: &dyn Fn() -> Option<Stop>,
    line: &mut dyn FnMut(&str),
) -> Result<(), ChildError> {
    let mut words = launcher.words.iter().cloned().chain([program.as_os_str().to_owned()]);
    let first = words.next().unwrap_or_default();
    let mut command = Command::new(first);
    command.args(words).args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let start = |source| ChildError::Start { program: program.to_owned(), source };
    let mut group = Group { child: command.spawn().map_err(start)? };
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let lines = group.child.stdout.take().map(spawn_lines).transpose().map_err(start)?;
    let stderr = group.child.stderr.take().map(spawn_tail).transpose().map_err(start)?;
    let watched = watch(lines.as_ref().map(|(lines, _)| lines), &name, bounds, stop, line);
    // Whatever it still does: nothing of the group goes on.
    let status = if watched.is_ok() { group.wait() } else { group.kill() };
    if let Some((lines, thread)) = lines {
        drop(lines);
        join(thread);
    }
    let stderr = stderr.map(join).unwrap_or_default();
    watched?;
    let status = status.map_err(start)?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(ChildError::Failed { program: name, code, stderr }),
        (None, signal) => Err(ChildError::Killed { program: name, signal: signal.unwrap_or(0), stderr }),
    }
}

/// Follows the lines until there are no more.
fn watch(
    lines: Option<&Receiver<String>>,
    name: &str,
    bounds: Bounds,
    stop: &dyn Fn() -> Option<Stop>,
    line: &mut dyn FnMut(&str),
) -> Result<(), ChildError> {
    let Some(lines) = lines else { return Ok(()) };
    let begun = Instant::now();
    let mut heard = begun;
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(text) => {
                heard = Instant::now();
                line(&text);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if let Some(stop) = stop() {
            return Err(ChildError::Stopped(stop));
        }
        if begun.elapsed() > bounds.time_max {
            return Err(ChildError::TimedOut { program: name.to_owned(), seconds: bounds.time_max.as_secs() });
        }
        if heard.elapsed() > bounds.silence_max {
            return Err(ChildError::Silent { program: name.to_owned(), seconds: bounds.silence_max.as_secs() });
        }
    }
}

/// A child and everything it began. Dropped, for instance by a panic, it is killed.
struct Group {
    child: Child,
}

impl Group {
    fn signal(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // The group may be empty already.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    fn kill(&mut self) -> io::Result<ExitStatus> {
        self.signal();
        self.child.wait()
    }

    fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait();
        // It may have left others behind.
        self.signal();
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.kill();
        }
    }
}

fn join<T: Default>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_default()
}

fn spawn_lines(from: impl Read + Send + 'static) -> io::Result<(Receiver<String>, JoinHandle<()>)> {
    let (sender, lines) = bounded(LINES_MAX);
    let thread = std::thread::Builder::new().name("job-output".to_owned()).spawn(move || {
        let mut from = BufReader::new(from);
        let mut text = Vec::new();
        loop {
            text.clear();
            match from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text) {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let text = String::from_utf8_lossy(&text);
                    if sender.send(text.trim_end().to_owned()).is_err() {
                        return;
                    }
                }
            }
        }
    })?;
    Ok((lines, thread))
}

/// Reads to the end and keeps the last bytes.
fn spawn_tail(mut from: impl Read + Send + 'static) -> io::Result<JoinHandle<String>> {
    std::thread::Builder::new().name("job-errors".to_owned()).spawn(move || {
        let (mut kept, mut piece) = (Vec::new(), [0; 1024]);
        while let Ok(count) = from.read(&mut piece) {
            if count == 0 {
                break;
            }
            kept.extend_from_slice(&piece[..count]);
            if kept.len() > STDERR_BYTES_MAX {
                kept.drain(..kept.len() - STDERR_BYTES_MAX);
            }
        }
        String::from_utf8_lossy(&kept).trim().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn shell(script: &str, bounds: Bounds, stop: &dyn Fn() -> Option<Stop>, line: &mut dyn FnMut(&str)) -> Result<(), ChildError> {
        run(&Launcher::default(), Path::new("/bin/sh"), &["-c".to_owned(), script.to_owned()], Path::new("/"), bounds, stop, line)
    }

    const LONG: Bounds = Bounds { time_max: Duration::from_secs(60), silence_max: Duration::from_secs(60) };

    #[test]
    fn lines_and_failures() {
        let mut lines = Vec::new();
        shell("echo a; echo b", LONG, &|| None, &mut |line| lines.push(line.to_owned())).expect("it ends well");
        assert_eq!(lines, ["a", "b"]);
        let failed = shell("yes word | head -c 100000 >&2; echo the end >&2; exit 3", LONG, &|| None, &mut |_| {});
        let Err(ChildError::Failed { code: 3, stderr, .. }) = failed else { panic!("{failed:?}") };
        assert!(stderr.ends_with("the end") && stderr.len() <= STDERR_BYTES_MAX);
        assert!(matches!(shell("kill -9 $$", LONG, &|| None, &mut |_| {}), Err(ChildError::Killed { signal: 9, .. })));
        let absent = run(&Launcher::default(), Path::new("/nowhere/x"), &[], Path::new("/"), LONG, &|| None, &mut |_| {});
        assert!(matches!(absent, Err(ChildError::Start { .. })));
    }

    #[test]
    fn nothing_of_a_stopped_group_goes_on() {
        let pid = Cell::new(0);
        let stop = || (pid.get() != 0).then_some(Stop::Cancelled);
        // The grandchild ignores what a terminal would send and says who it is.
        let stopped = shell("(trap '' TERM HUP; sh -c 'echo $$; exec sleep 1000')", LONG, &stop, &mut |line| pid.set(line.parse().unwrap()));
        assert!(matches!(stopped, Err(ChildError::Stopped(Stop::Cancelled))), "{stopped:?}");
        // Reaped by the init process at its leisure: gone, or a zombie.
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.get())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }

    #[test]
    fn time_is_bounded() {
        let short = |time_ms, silence_ms| Bounds { time_max: Duration::from_millis(time_ms), silence_max: Duration::from_millis(silence_ms) };
        assert!(matches!(shell("exec sleep 1000", short(300, 60_000), &|| None, &mut |_| {}), Err(ChildError::TimedOut { .. })));
        assert!(matches!(shell("exec sleep 1000", short(60_000, 300), &|| None, &mut |_| {}), Err(ChildError::Silent { .. })));
    }
}
