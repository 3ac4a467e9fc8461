//! What the seed has in its hands: the two clocks, the instant of death, and what a disk answers.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use capstan::recorder::Now;
use capstan::segment::faults::{self, Killed, Step};
use capstan::units::{MonoTime, WallTime};
use rustix::io::Errno;

thread_local! {
    static MONO_MS: Cell<u64> = const { Cell::new(0) };
    static WALL_MS: Cell<i64> = const { Cell::new(0) };
    /// Instants until the process dies.
    static FUSE: Cell<Option<u64>> = const { Cell::new(None) };
    static TRACES: Cell<bool> = const { Cell::new(false) };
    /// What the disks answer: to which step, below which folder, with what.
    static FAULTS: RefCell<Vec<(Step, PathBuf, Errno)>> = const { RefCell::new(Vec::new()) };
}

/// A new world. `traces`: it tells what happens.
pub fn begin(wall_ms: i64, traces: bool) {
    MONO_MS.set(1_000);
    WALL_MS.set(wall_ms);
    TRACES.set(traces);
    FUSE.set(None);
    faults::hook(Some(Box::new(|step, path| {
        trace(|| format!("{step:?} {}", path.display()));
        instant();
        fault(step, path).map_or(Ok(()), |errno| Err(errno.into()))
    })));
    heal();
}

/// Tells what happens, if one seed alone is run.
pub fn trace(what: impl FnOnce() -> String) {
    if TRACES.get() {
        eprintln!("{:6} ms: {}", MONO_MS.get(), what());
    }
}

// Time

pub fn mono_ms() -> u64 {
    MONO_MS.get()
}

pub fn mono() -> MonoTime {
    MonoTime::from_millis(MONO_MS.get())
}

pub fn wall() -> WallTime {
    WallTime::from_unix_millis(WALL_MS.get())
}

pub fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

pub fn pass(millis: u64) {
    MONO_MS.set(MONO_MS.get() + millis);
    WALL_MS.set(WALL_MS.get() + millis as i64);
}

/// Somebody sets the clock.
pub fn set_clock_by(millis: i64) {
    WALL_MS.set(WALL_MS.get() + millis);
}

/// Gives the files of `folder` and of what lies in it the time of this world: recovery takes the newest for the moment of death.
pub fn date_files(folder: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(WALL_MS.get().unsigned_abs());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            date_files(&entry.path());
        } else if let Ok(file) = std::fs::File::options().write(true).open(entry.path()) {
            file.set_modified(time).expect("a file of ours");
        }
    }
}

// Death

/// After so many instants the process dies. `None`: it does not.
pub fn set_fuse(instants: Option<u64>) {
    FUSE.set(instants);
}

pub fn take_fuse() -> Option<u64> {
    FUSE.take()
}

pub fn dies_next() -> bool {
    FUSE.get() == Some(0)
}

/// An instant at which the process may die.
pub fn instant() {
    match FUSE.get() {
        Some(0) => {
            FUSE.set(None);
            trace(|| "killed".to_owned());
            resume_unwind(Box::new(Killed));
        }
        Some(left) => FUSE.set(Some(left - 1)),
        None => {}
    }
}

/// Runs `body` as a process that may be killed. `None`: it was.
pub fn until_killed<T>(body: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<Killed>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

// Disks

/// `step` fails below `folder` until it is healed.
pub fn fail(step: Step, folder: &Path, errno: Errno) {
    FAULTS.with_borrow_mut(|faults| faults.push((step, folder.to_owned(), errno)));
}

pub fn heal() {
    FAULTS.with_borrow_mut(Vec::clear);
}

pub fn heal_folder(folder: &Path) {
    FAULTS.with_borrow_mut(|faults| faults.retain(|(_, of, _)| of != folder));
}

fn fault(step: Step, path: &Path) -> Option<Errno> {
    FAULTS.with_borrow(|faults| faults.iter().find(|(of, folder, _)| *of == step && path.starts_with(folder)).map(|(_, _, errno)| *errno))
}
