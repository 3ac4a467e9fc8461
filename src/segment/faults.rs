//! Faults at the seam where files are touched, for tests: a disk that is slow, hangs, is full or broken.
//!
//! Switched on by the environment variable `CAPSTAN_TEST_DISK_FAULTS`, which names a text file; what stands in it at the moment holds. One fault a line:
//! `<step> <fault> [part of the path]`. Steps: `create`, `write`, `sync`, `finish`, `index`, `publish`, `announce`, `look`, `probe`. Faults: `eio`, `enospc`, `hang`, or
//! milliseconds of delay. A simulation, which runs everything on its own thread, hooks itself in by [`hook`].

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::io::Errno;

const VARIABLE: &str = "CAPSTAN_TEST_DISK_FAULTS";
/// A step that hangs looks this often whether it still does.
const HANG_LOOK: Duration = Duration::from_millis(10);

/// What is about to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Create,
    Write,
    Sync,
    /// A recording is to be finished.
    Finish,
    /// The index of a media file is to be written.
    Index,
    /// The finished folder is to get its final name.
    Publish,
    /// It has it.
    Announce,
    /// The free space is to be read.
    Look,
    /// It is to be tried whether a folder takes files.
    Probe,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Step::Create => "create",
            Step::Write => "write",
            Step::Sync => "sync",
            Step::Finish => "finish",
            Step::Index => "index",
            Step::Publish => "publish",
            Step::Announce => "announce",
            Step::Look => "look",
            Step::Probe => "probe",
        }
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Fault {
    Error(Errno),
    Hang,
    Delay(Duration),
}

/// What a simulated process unwinds with that dies in the middle of something.
#[derive(Debug)]
pub struct Killed;

/// What is asked before each step.
pub type Hook = Box<dyn FnMut(Step, &Path) -> io::Result<()>>;

thread_local! {
    static IS_HOOKED: Cell<bool> = const { Cell::new(false) };
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// From now on this thread asks `hook` before each step; `None`: nobody.
pub fn hook(hook: Option<Hook>) {
    IS_HOOKED.set(hook.is_some());
    HOOK.replace(hook);
}

/// Are there faults at all? Writes go one by one then.
pub fn are_on() -> bool {
    script().is_some()
}

fn script() -> Option<&'static Path> {
    static SCRIPT: OnceLock<Option<PathBuf>> = OnceLock::new();
    SCRIPT.get_or_init(|| std::env::var_os(VARIABLE).map(PathBuf::from)).as_deref()
}

/// To be called before `step` on `path`.
///
/// # Errors
/// The one that the script asks for.
pub fn before(step: Step, path: &Path) -> io::Result<()> {
    if IS_HOOKED.get() {
        HOOK.with_borrow_mut(|hook| hook.as_mut().map_or(Ok(()), |hook| hook(step, path)))?;
    }
    let Some(script) = script() else { return Ok(()) };
    loop {
        let text = std::fs::read_to_string(script).unwrap_or_default();
        match fault(&text, step, path) {
            None => return Ok(()),
            Some(Fault::Error(errno)) => return Err(errno.into()),
            Some(Fault::Delay(delay)) => {
                std::thread::sleep(delay);
                return Ok(());
            }
            Some(Fault::Hang) => std::thread::sleep(HANG_LOOK),
        }
    }
}

/// To be called at a `place` in the code of one publication, with its stream: panics if the script says so.
///
/// # Panics
/// That is what it is for.
pub fn defect(place: &str, stream: &str) {
    let Some(script) = script() else { return };
    let text = std::fs::read_to_string(script).unwrap_or_default();
    let is_asked_for = text.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("defect") && words.next() == Some(place) && words.next().is_none_or(|name| name == stream)
    });
    assert!(!is_asked_for, "a defect that a test asked for");
}

fn fault(text: &str, step: Step, path: &Path) -> Option<Fault> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (of, fault, part) = (words.next()?, words.next()?, words.next().unwrap_or_default());
        if of != step.name() || !path.to_string_lossy().contains(part) {
            return None;
        }
        match fault {
            "eio" => Some(Fault::Error(Errno::IO)),
            "enospc" => Some(Fault::Error(Errno::NOSPC)),
            "hang" => Some(Fault::Hang),
            delay => delay.parse().ok().map(|delay| Fault::Delay(Duration::from_millis(delay))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_says_which_step_of_which_file_fails() {
        let text = "write eio media-1.flv\nwrite 20\nsync hang\nnonsense\ncreate enospc\n";
        for (step, path, expected) in [
            (Step::Write, "/data/recording/7/media-1.flv", Some(Fault::Error(Errno::IO))),
            (Step::Write, "/data/recording/7/media-1.mp4", Some(Fault::Delay(Duration::from_millis(20)))),
            (Step::Sync, "/data/recording", Some(Fault::Hang)),
            (Step::Create, "/data/recording/7/media-1.mp4", Some(Fault::Error(Errno::NOSPC))),
            (Step::Finish, "/data/recording/7", None),
        ] {
            assert_eq!(fault(text, step, Path::new(path)), expected, "{step:?} {path}");
        }
    }
}
