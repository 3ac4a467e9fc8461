//! Watches the free space of a data folder: ends recording while a reserve is left, and lets it begin again. Also whether the folder is still there, and
//! whether a disk that has failed takes writes again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::faults;
use super::folders;
use super::health::{DiskHealth, Helper};
use super::patient::Patient;
use crate::domain::DataFolder;
use crate::units::MonoTime;

/// At 1 GB/s a quarter of the smallest reserve.
const LOOK: Duration = Duration::from_millis(100);
/// Half-life of the rate behind the forecast.
const RATE_SECONDS: f64 = 20.0;
/// The ballast is this part of the reserve.
const BALLAST_PART: u64 = 4;
const BALLAST_BYTES_MAX: u64 = 64 << 20;
/// It is looked this often whether the folder is there.
const MARK_LOOK: Duration = Duration::from_secs(1);
/// A disk that has failed is left alone for this long, then tried.
const TRY_AFTER: Duration = Duration::from_secs(10);
/// A look that takes longer at the stop is not waited for.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of a trial.
const TRIAL_BYTES: usize = 1 << 20;
const TRIAL_NAME: &str = "trial";

/// The running thread; [`SpaceWatch::stop`] ends it.
pub struct SpaceWatch {
    stop: Sender<()>,
    thread: Patient<()>,
}

/// What is free on the file system of a folder for users like this one.
///
/// # Errors
/// If it cannot be asked.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let state = statvfs(folder)?;
    Ok(state.f_bavail.saturating_mul(state.f_frsize))
}

impl SpaceWatch {
    /// Looks once before it returns.
    ///
    /// # Errors
    /// If there is no thread.
    pub fn start(folder: &DataFolder, reserve_bytes: u64, health: Arc<DiskHealth>, clock: fn() -> MonoTime) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let now = Instant::now();
        let folder = folder.clone();
        let mut watch = Watch {
            folder,
            reserve_bytes,
            health,
            last_written: 0,
            last_look: now,
            rate: 0.0,
            told: false,
            next_mark_look: now,
            errors: 0,
            failed_at: now,
            clock,
        };
        watch.look();
        let thread = Patient::spawn("disk-space", move || watch.run(&stopped))?;
        Ok(Self { stop, thread })
    }

    /// `answers`: its disk did so far, so that the thread is waited for, but not for long: a disk that nothing is written to may hang, too. False: it does.
    pub fn stop(self, answers: bool) -> bool {
        drop(self.stop);
        let patience = if answers { STOP_PATIENCE } else { Duration::ZERO };
        if !self.thread.ends_within(patience) {
            return false;
        }
        if self.thread.join().is_err() {
            tracing::error!("the thread that watches the disk space panicked");
        }
        true
    }
}

struct Watch {
    folder: DataFolder,
    reserve_bytes: u64,
    health: Arc<DiskHealth>,
    last_written: u64,
    last_look: Instant,
    /// Bytes a second.
    rate: f64,
    /// The log says that the disk is full.
    told: bool,
    next_mark_look: Instant,
    /// Errors that were known at the last look, and when the last was.
    errors: u64,
    failed_at: Instant,
    clock: fn() -> MonoTime,
}

impl Watch {
    fn run(&mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            self.health.begins(Helper::Space, (self.clock)());
            self.look();
            self.health.waits(Helper::Space);
        }
        // Made anew at the next start; it is no recording, and somebody may look at what we use.
        if !self.health.is_missing() {
            let _ = std::fs::remove_file(self.health.ballast());
        }
    }

    fn look(&mut self) {
        if !self.is_there() {
            return;
        }
        self.try_again();
        let looked = faults::before(faults::Step::Look, &self.folder.path).and_then(|()| free_bytes(&self.folder.path));
        let free = match looked {
            Ok(free) => free,
            Err(error) => return tracing::error!(folder = %self.folder.path.display(), %error, "the free space cannot be read"),
        };
        self.measure();
        let ballast = self.ballast_bytes();
        let ballasted = std::fs::metadata(self.health.ballast()).is_ok_and(|file| file.len() >= ballast);
        let missing = if ballasted { 0 } else { ballast };
        let was_full = self.health.is_full();
        let full = is_full(free, self.reserve_bytes, missing, was_full);
        // Nothing is made in the mount point of a disk that was unmounted a moment ago.
        if !full && !ballasted && free > self.reserve_bytes + ballast && folders::is_there(&self.folder) {
            self.take_ballast(ballast);
        }
        let room = free.saturating_sub(self.reserve_bytes);
        let full_in_s = if full { Some(0) } else { (self.rate >= 1.0).then(|| (room as f64 / self.rate) as u64) };
        self.health.note_space(free, full_in_s, full, free < self.reserve_bytes.saturating_mul(2));
        self.tell(free, full);
    }

    /// Without the folder nothing is looked at and nothing is made: what is in its place is none of ours. Whoever finds it again says so.
    fn is_there(&mut self) -> bool {
        let now = Instant::now();
        if !self.health.is_missing() && now >= self.next_mark_look {
            self.next_mark_look = now + MARK_LOOK;
            if !folders::is_there(&self.folder) {
                let folder = self.folder.path.display();
                let why =
                    format!("the data folder {folder} is gone, its disk was unmounted or has failed: nothing is recorded there until it is back");
                tracing::error!("{why}");
                self.health.note_gone(why);
            }
        }
        !self.health.is_missing()
    }

    /// Finds out whether a disk that has failed takes writes again.
    fn try_again(&mut self) {
        let errors = self.health.errors();
        let now = Instant::now();
        if errors != self.errors {
            (self.errors, self.failed_at) = (errors, now);
        }
        if !self.health.is_failing() || now < self.failed_at + TRY_AFTER {
            return;
        }
        self.failed_at = now;
        let folder = self.folder.path.display();
        match try_disk(&self.folder.path.join(TRIAL_NAME)) {
            Ok(()) => {
                self.health.recovered();
                tracing::warn!(%folder, "the disk that has failed takes writes again");
            }
            Err(error) => tracing::debug!(%folder, %error, "the disk fails still"),
        }
    }

    fn tell(&mut self, free: u64, full: bool) {
        let (folder, free_mib, reserve_mib) = (self.folder.path.display(), free >> 20, self.reserve_bytes >> 20);
        match (full, self.told) {
            (true, false) => {
                tracing::error!(%folder, free_mib, reserve_mib, "the disk is full: open files are finished, nothing is recorded until there is space")
            }
            (false, true) => tracing::warn!(%folder, free_mib, "there is space again: recording goes on"),
            _ => {}
        }
        self.told = full;
    }

    fn measure(&mut self) {
        let (written, now) = (self.health.written_bytes(), Instant::now());
        let seconds = (now - self.last_look).as_secs_f64();
        if seconds > 0.0 {
            let part = 1.0 - 0.5_f64.powf(seconds / RATE_SECONDS);
            self.rate += ((written - self.last_written) as f64 / seconds - self.rate) * part;
            (self.last_written, self.last_look) = (written, now);
        }
    }

    fn ballast_bytes(&self) -> u64 {
        (self.reserve_bytes / BALLAST_PART).min(BALLAST_BYTES_MAX)
    }

    fn take_ballast(&self, bytes: u64) {
        if let Err(error) = create_ballast(self.health.ballast(), bytes) {
            tracing::debug!(%error, "no ballast");
            let _ = std::fs::remove_file(self.health.ballast());
        }
    }
}

/// Writes, syncs and removes a file.
fn try_disk(path: &Path) -> io::Result<()> {
    for step in [faults::Step::Create, faults::Step::Write, faults::Step::Sync] {
        faults::before(step, path)?;
    }
    let tried = File::create(path).and_then(|mut file| {
        file.write_all(&vec![0x5a; TRIAL_BYTES])?;
        file.sync_all()
    });
    std::fs::remove_file(path)?;
    tried
}

fn create_ballast(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    Ok(())
}

/// A disk that was full is so until a quarter more than the reserve is free, and what the ballast takes: else it would be full again at once.
fn is_full(free: u64, reserve: u64, ballast_missing: u64, was_full: bool) -> bool {
    free < reserve.saturating_add(if was_full { reserve / 4 + ballast_missing } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_and_not_full_lie_apart() {
        for (free, was_full, expected) in [(99, false, true), (100, false, false), (100, true, true), (124, true, true), (125, true, false)] {
            assert_eq!(is_full(free, 100, 0, was_full), expected, "{free} {was_full}");
        }
        assert!(is_full(140, 100, 25, true), "the ballast comes first");
    }

    #[test]
    fn the_ballast_is_taken_and_given_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let health = Arc::new(DiskHealth::new(folder.path()));
        let first = DataFolder { label: String::new(), path: folder.path().to_owned() };
        let watch = SpaceWatch::start(&first, 1 << 20, Arc::clone(&health), MonoTime::default).expect("a thread");
        assert!(!health.is_full());
        assert_eq!(std::fs::metadata(health.ballast()).expect("the ballast").len(), 1 << 18);
        assert!(health.no_space());
        assert!(health.is_full() && !health.ballast().exists());
        assert!(watch.stop(true));
        let watch = SpaceWatch::start(&first, u64::MAX >> 1, Arc::clone(&health), MonoTime::default).expect("a thread");
        assert!(health.is_full() && !health.ballast().exists(), "nobody has that much space");
        assert_eq!(health.full_in_s(), Some(0));
        assert!(watch.stop(true));
    }
}
