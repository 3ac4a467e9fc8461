//! Task flows at work: renditions, adaptive streams and pictures of finished files, made by ffmpeg in child processes.
//!
//! ```text
//! catalog (vod_task) -> worker -> subtask -> arguments -> child (ffmpeg) -> own folder -> recording's folder -> catalog
//! ```
//!
//! The queue is the catalog. A subtask that was interrupted is done again from its beginning; its result is entered in one transaction, once. Everything is
//! written into `process/` of the data folder first, which is emptied at the start.

pub mod arguments;
pub mod cgroup;
pub mod child;
pub mod geometry;
pub mod hls;
pub mod jobs;
pub mod join;
pub mod keys;
pub mod launch;
mod note;
pub mod probe;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::catalog::{Catalog, CatalogError, flow_of};
use crate::domain::VodTaskKind;
use crate::domain::flow::{FailKind, SubtaskError, SubtaskOutput};
use crate::units::WallTime;

use child::{Bounds, ChildError, Launcher, Stop};
use jobs::{Failure, Job, Tools};

/// Folder of what is being made, below the data folder.
const FOLDER: &str = "process";
/// Open flows looked at for the next one to begin.
const OPEN_MAX: usize = 1_000;
/// Workers look for flows at least this often: one may have become due without a word.
const LOOK: Duration = Duration::from_secs(10);
/// After the first failed attempt; twice as long after each other one.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How often a running task is looked up for whether it was cancelled.
const CANCEL_LOOK: Duration = Duration::from_secs(1);
/// How often the encoder is asked for its version before it is left at what is known.
const LOOKS_MAX: usize = 3;
/// The oldest ffmpeg whose options we use.
const FFMPEG_MIN: (u32, u32) = (5, 1);

/// From the settings.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    /// Flows at the same time: in all, and of one application.
    pub jobs_max: usize,
    pub jobs_per_app_max: usize,
    /// Attempts at one subtask.
    pub attempts_max: u32,
}

/// Is the encoder there? A sentence that says what to do, if not.
pub type EncoderState = Arc<Mutex<Result<String, String>>>;

/// The running workers; [`Processor::stop`] ends them.
pub struct Processor {
    shared: Arc<Shared>,
    /// Workers wait on it when they wait for time to pass.
    stop: Sender<()>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    catalog: Catalog,
    settings: ProcessSettings,
    tools: Tools,
    clock: fn() -> WallTime,
    stopping: AtomicBool,
    /// Tasks that a worker has, with their application.
    running: Mutex<HashMap<String, u64>>,
    /// Joins that want one of the places.
    joins_waiting: AtomicUsize,
    encoder: EncoderState,
}

impl Processor {
    /// Starts the workers; flows of an earlier run go on. Nothing of them was visible, and their files are removed.
    ///
    /// # Errors
    /// If the folder cannot be made, or there is no thread.
    pub fn start(catalog: Catalog, settings: ProcessSettings, tools: Tools, clock: fn() -> WallTime) -> io::Result<Self> {
        for root in tools.folders.iter().map(|folder| &folder.path) {
            // Nothing is made where a disk is not mounted.
            if !root.join("media").is_dir() {
                continue;
            }
            let folder = root.join(FOLDER);
            let cleared = match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => fs::create_dir_all(&folder),
            };
            if let Err(error) = cleared {
                // Made when a flow needs it; recording does not wait for that.
                tracing::warn!(folder = %folder.display(), %error, "the folder of task flows cannot be cleared");
            }
        }
        let encoder = Arc::new(Mutex::new(Err("ffmpeg has not been looked for yet".to_owned())));
        let jobs = settings.jobs_max;
        let shared = Arc::new(Shared {
            catalog,
            settings,
            tools,
            clock,
            stopping: AtomicBool::new(false),
            running: Mutex::default(),
            joins_waiting: AtomicUsize::new(0),
            encoder,
        });
        shared.look_for_encoder();
        let (stop, stopped) = bounded(0);
        let workers = (0..jobs).map(|number| {
            let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
            std::thread::Builder::new().name(format!("process-{number}")).spawn(move || shared.work(&stopped))
        });
        let workers = workers.collect::<io::Result<_>>()?;
        Ok(Self { shared, stop, workers })
    }

    /// For the state of the appliance.
    pub fn encoder(&self) -> EncoderState {
        Arc::clone(&self.shared.encoder)
    }

    /// For whoever joins files that are unlike.
    pub fn joiner(&self) -> join::Joiner {
        join::Joiner { shared: Arc::clone(&self.shared) }
    }

    /// Kills what runs and returns when it is gone; it is done again at the next start.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.catalog.stop_waiting_for_flows();
        drop(self.stop);
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a process thread panicked");
            }
        }
    }
}

/// A task that a worker has; given back when dropped.
struct Claim<'a> {
    shared: &'a Shared,
    id: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        // Somebody may have waited for the place.
        self.shared.catalog.look_for_flows();
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn work(&self, stopped: &Receiver<()>) {
        while !self.is_stopping() {
            let seen = self.catalog.flows_seen();
            let claimed = self.claim();
            match claimed {
                Ok(Some(claim)) => {
                    // A defect costs the flow its attempt, not the worker its life.
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.carry_out(&claim.id, stopped)));
                    match outcome {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => {
                            tracing::error!(task = claim.id, %error, "a task flow cannot be carried out now; trying again");
                            let _ = stopped.recv_timeout(RETRY);
                        }
                        Err(_) => {
                            tracing::error!(task = claim.id, "a task flow met a defect; trying again");
                            let _ = stopped.recv_timeout(RETRY_MAX);
                        }
                    }
                }
                Ok(None) => {
                    self.catalog.wait_for_flow(seen, LOOK);
                }
                Err(error) => {
                    tracing::error!(%error, "task flows cannot be read; trying again");
                    let _ = stopped.recv_timeout(RETRY);
                }
            }
        }
    }

    /// The next flow to be carried out, by priority and age, of an application that has not too many already.
    fn claim(&self) -> Result<Option<Claim<'_>>, CatalogError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.len() + self.joins_waiting.load(Ordering::SeqCst) >= self.settings.jobs_max {
            return Ok(None);
        }
        let open = self.catalog.open_vod_tasks(VodTaskKind::Procedure, OPEN_MAX)?;
        let of_app = |app: u64| running.values().filter(|running| **running == app).count();
        let next = open.into_iter().find(|task| !running.contains_key(&task.id) && of_app(task.sub_app_id) < self.settings.jobs_per_app_max);
        Ok(next.map(|task| {
            running.insert(task.id.clone(), task.sub_app_id);
            Claim { shared: self, id: task.id }
        }))
    }

    /// Does what is left of a flow, subtask by subtask.
    fn carry_out(&self, id: &str, stopped: &Receiver<()>) -> Result<(), CatalogError> {
        loop {
            let task = self.catalog.any_vod_task(id)?;
            let flow = flow_of(&task)?;
            let Some(index) = flow.next().filter(|_| !task.status.is_over()) else { return Ok(()) };
            let attempts = flow.subtasks[index].attempts + 1;
            // What ended us more often than that would do so again.
            if attempts > self.settings.attempts_max {
                let known = flow.subtasks[index].error.clone();
                let error = known.unwrap_or_else(|| internal("It was interrupted too often."));
                self.finish(id, index, Err(error))?;
                continue;
            }
            match self.catalog.begin_subtask(id, index, (self.clock)()) {
                Ok(()) => {}
                // Cancelled in between.
                Err(CatalogError::NotFound) => return Ok(()),
                Err(error) => return Err(error),
            }
            let begun = Instant::now();
            let outcome = self.attempt(id, index, task.sub_app_id, &flow);
            let ms = begun.elapsed().as_millis() as u64;
            let kind = flow.subtasks[index].input.definition();
            match outcome {
                Ok(output) => {
                    tracing::info!(task = id, subtask = index, kind = kind.0.name(), definition = kind.1, ms, "made from a file");
                    self.finish(id, index, Ok(output))?;
                }
                Err(Failure::Stopped(Stop::Shutdown)) => {
                    self.gone_is_fine(self.catalog.put_back_subtask(id, index, None))?;
                    return Ok(());
                }
                Err(Failure::Stopped(Stop::Cancelled)) => return Ok(()),
                Err(Failure::Again(error)) if attempts < self.settings.attempts_max => {
                    tracing::warn!(task = id, subtask = index, attempts, reason = error.message, "a subtask failed; trying again");
                    self.gone_is_fine(self.catalog.put_back_subtask(id, index, Some(error)))?;
                    let _ = stopped.recv_timeout((RETRY * (1 << attempts.min(5))).min(RETRY_MAX));
                    if self.is_stopping() {
                        return Ok(());
                    }
                }
                Err(Failure::Again(error) | Failure::Final(error)) => {
                    tracing::warn!(task = id, subtask = index, attempts, reason = error.message, "a subtask failed");
                    self.finish(id, index, Err(error))?;
                }
            }
        }
    }

    fn finish(&self, id: &str, index: usize, outcome: Result<SubtaskOutput, SubtaskError>) -> Result<(), CatalogError> {
        let is_made = outcome.is_ok();
        self.gone_is_fine(self.catalog.finish_subtask(id, index, outcome, (self.clock)()))?;
        if is_made {
            self.note_results(id)?;
        }
        Ok(())
    }

    /// Notes beside the recording what the catalog knows of it.
    fn note_results(&self, id: &str) -> Result<(), CatalogError> {
        let task = self.catalog.any_vod_task(id)?;
        let flow = flow_of(&task)?;
        let Some(row) = self.catalog.files(task.sub_app_id, &[flow.file_id])?.remove(&flow.file_id) else { return Ok(()) };
        let noted =
            self.tools.folders.path_of(&row.file.folder).map_err(io::Error::from).and_then(|folder| note::write(&folder, &row.extras.results));
        if let Err(error) = noted {
            // The catalog has it; the note is for the day when that is lost.
            tracing::warn!(file = %flow.file_id, %error, "the results of a task flow cannot be noted beside the recording");
        }
        Ok(())
    }

    /// The task was cancelled, or is over: nothing more is to be entered.
    fn gone_is_fine(&self, outcome: Result<(), CatalogError>) -> Result<(), CatalogError> {
        match outcome {
            Err(CatalogError::NotFound) => Ok(()),
            other => other,
        }
    }

    /// One attempt at one subtask.
    fn attempt(&self, id: &str, index: usize, sub_app_id: u64, flow: &crate::domain::flow::ProcedureTask) -> Result<SubtaskOutput, Failure> {
        let row = self.catalog.files(sub_app_id, &[flow.file_id])?.remove(&flow.file_id);
        let Some(row) = row else {
            return Err(Failure::Final(SubtaskError { kind: FailKind::Input, message: "The file was deleted.".to_owned() }));
        };
        self.look_for_encoder();
        if let Err(sentence) = &*self.encoder.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(Failure::Final(internal(sentence)));
        }
        // On the disk of the recording, so that what is made is only moved.
        let located = self.tools.folders.locate(&row.file.folder).map_err(std::io::Error::from);
        let folder =
            located.and_then(|located| JobFolder::make(located.root, id, index)).map_err(|error| Failure::Again(internal(&error.to_string())))?;
        let looked = Mutex::new(Instant::now());
        let stop = || {
            if self.is_stopping() {
                return Some(Stop::Shutdown);
            }
            let mut looked = looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.elapsed() < CANCEL_LOOK {
                return None;
            }
            *looked = Instant::now();
            // A catalog that cannot be read just now is no reason to stop.
            self.catalog.any_vod_task(id).is_ok_and(|task| task.status.is_over()).then_some(Stop::Cancelled)
        };
        let job = Job {
            tools: &self.tools,
            catalog: &self.catalog,
            row: &row,
            sub_app_id,
            folder: &folder.path,
            mark: &mark(id, index),
            stop: &stop,
            progress: &|percent| self.catalog.set_progress(id, index, percent),
        };
        job.run(&flow.subtasks[index].input)
    }

    fn look_for_encoder(&self) {
        // Killed or out of time it has said nothing; what is known of it stays.
        let Some(found) = (0..LOOKS_MAX).find_map(|_| find_encoder(&self.tools)) else { return };
        let mut known = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != found {
            match &found {
                Ok(version) => tracing::info!(version, "the encoder for task flows is there"),
                Err(sentence) => tracing::warn!("{sentence}"),
            }
        }
        *known = found;
    }
}

fn internal(message: &str) -> SubtaskError {
    SubtaskError { kind: FailKind::Internal, message: message.to_owned() }
}

/// What distinguishes the files of one subtask; the same when it is done again, so that nothing is left of an earlier attempt.
fn mark(id: &str, index: usize) -> String {
    // FNV-1a: no secret, only other names for other tasks.
    let hash =
        id.bytes().chain([b'/', index as u8]).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
}

/// A folder for one attempt; removed with all that is in it when dropped.
struct JobFolder {
    path: PathBuf,
}

impl JobFolder {
    fn make(data_folder: &Path, id: &str, index: usize) -> io::Result<Self> {
        if !data_folder.join("media").is_dir() {
            // Its disk is not mounted (any more): nothing is made in the mount point.
            return Err(io::Error::new(io::ErrorKind::NotFound, "the data folder of the recording is not there"));
        }
        let path = data_folder.join(FOLDER).join(format!("{}-{index}", mark(id, index)));
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(Self { path })
    }
}

impl Drop for JobFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "the folder of a job cannot be removed; the next start does it");
        }
    }
}

/// The version of the encoder, or a sentence that says what to do. `None`: it was ended before it said anything.
fn find_encoder(tools: &Tools) -> Option<Result<String, String>> {
    const BOUNDS: Bounds = Bounds { time_max: Duration::from_secs(30), silence_max: Duration::from_secs(30) };
    for (program, setting) in [(&tools.ffprobe, "process.ffprobe"), (&tools.ffmpeg, "process.ffmpeg")] {
        let mut first = None;
        let mut line = |line: &str| {
            first.get_or_insert_with(|| line.to_owned());
        };
        // Without the launcher: whether there is such a program is the question.
        let ran = child::run(&Launcher::default(), program, &["-version".to_owned()], Path::new("/"), BOUNDS, &|| None, &mut line);
        if let Err(error) = ran {
            if matches!(error, ChildError::Killed { .. } | ChildError::TimedOut { .. } | ChildError::Silent { .. }) {
                tracing::warn!(%error, "the encoder did not say its version");
                return None;
            }
            let reason = std::error::Error::source(&error).map_or_else(|| format!(" ({error})"), |source| format!(" ({source})"));
            return Some(Err(format!(
                "{} cannot be run{reason}: task flows need ffmpeg {}.{} or newer with ffprobe; install the package ffmpeg or set {setting}",
                program.display(),
                FFMPEG_MIN.0,
                FFMPEG_MIN.1
            )));
        }
        if setting == "process.ffmpeg" {
            let version = first.unwrap_or_default();
            if version_of(&version).is_some_and(|version| version < FFMPEG_MIN) {
                return Some(Err(format!(
                    "{} is too old ({version}): task flows need {}.{} or newer; set process.ffmpeg",
                    program.display(),
                    FFMPEG_MIN.0,
                    FFMPEG_MIN.1
                )));
            }
            return Some(Ok(version));
        }
    }
    Some(Ok(String::new()))
}

/// Major and minor number; `None` for builds from between releases.
fn version_of(line: &str) -> Option<(u32, u32)> {
    let text = line.strip_prefix("ffmpeg version ")?.trim_start_matches('n');
    let mut numbers = text.split(['.', '-', ' ']);
    let major = numbers.next()?.parse().ok()?;
    Some((major, numbers.next().and_then(|minor| minor.parse().ok()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (line, expected) in [
            ("ffmpeg version 5.1.9-0+deb12u1 Copyright (c) 2000-2026", Some((5, 1))),
            ("ffmpeg version 7.0.2-static https://x/", Some((7, 0))),
            ("ffmpeg version n6.1 Copyright", Some((6, 1))),
            ("ffmpeg version 8", Some((8, 0))),
            ("ffmpeg version N-118193-g5f38c825", None),
            ("", None),
        ] {
            assert_eq!(version_of(line), expected, "{line}");
        }
    }

    #[test]
    fn marks_differ_and_stay() {
        assert_eq!(mark("1-Procedure-ft0", 1), mark("1-Procedure-ft0", 1));
        assert_ne!(mark("1-Procedure-ft0", 1), mark("1-Procedure-ft0", 2));
        assert_ne!(mark("1-Procedure-ft0", 1), mark("1-Procedure-et0", 1));
        assert!(mark("x", 0).bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
