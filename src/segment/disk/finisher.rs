//! The finisher of a data folder: cuts closed files, finishes recordings that ended, ends those that nobody goes on with.

use std::cell::OnceCell;
use std::collections::{HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use rustix::fs::OFlags;

use crate::container::{RecordingEnd, Scanned};
use crate::domain::receipt::Damage;
use crate::domain::{DataFolder, FinishedFile, PausedRecording, Policy, RecordingSource, Resumptions};
use crate::metrics::{DiskMetrics, DiskStep, FileFailure, Metrics};
use crate::segment::checksum::Running;
use crate::segment::finish::{self, Checksum, ClosedFile, ClosedFiles, Ended, FinishSettings};
use crate::segment::folders;
use crate::segment::gathering::Gathering;
use crate::segment::headers::Headers;
use crate::segment::health::{DiskHealth, Helper};
use crate::segment::open::OpenRecordings;
use crate::segment::store::{Places, WRITE_ALIGN_BYTES};
use crate::units::{FileId, MonoTime, TaskId};

use super::media_file::open_media;
use super::{ResumptionSettings, nanos};

/// A recording that could not be finished is tried again this often.
const RETRY: Duration = Duration::from_secs(2);
/// Recordings that wait for it.
const UNFINISHED_MAX: usize = 65_536;
/// Recordings that are finished together.
const TOGETHER_MIN: usize = 4;
const TOGETHER_MAX: usize = 256;
/// Recordings often end together: the first of them waits for others this long.
const GATHER: Duration = Duration::from_millis(10);
/// Closed files that keep their descriptor until their recording ends, which mostly comes next.
const KEPT_OPEN_MAX: usize = 64;
/// Interrupted recordings are looked at this often: their time may be over, their task stopped.
const RESUMPTION_CHECK: Duration = Duration::from_millis(250);

pub(super) enum FinishCommand {
    Close {
        /// `None`: it has no descriptor now.
        file: Option<File>,
        bytes: u64,
        path: PathBuf,
        link: Option<PathBuf>,
        known: Option<Box<Scanned>>,
        damage: Option<Damage>,
        checksum: Option<Running>,
        /// Its last page, which is on the disk; `None`: it is whole, or not known.
        tail: Option<Box<[u8]>>,
        headers: Option<Arc<Headers>>,
    },
    Text {
        folder: FileId,
        name: &'static str,
        text: String,
    },
    EndRecording(RecordingEnd),
    /// `refused`: it is to be finished.
    PauseRecording {
        paused: Box<PausedRecording>,
        refused: bool,
    },
}

pub(super) struct Finisher {
    pub(super) index: usize,
    pub(super) settings: FinishSettings,
    pub(super) places: Arc<Places>,
    /// Files that are closed and whose recording ends next.
    pub(super) closed: ClosedFiles,
    /// Recordings to be finished next.
    pub(super) ended: Vec<RecordingEnd>,
    /// Recordings whose finishing failed.
    pub(super) unfinished: VecDeque<RecordingEnd>,
    pub(super) health: Arc<DiskHealth>,
    pub(super) finished: Box<dyn FnMut(FinishedFile) + Send>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) times: Arc<DiskMetrics>,
    pub(super) recordings: Arc<OpenRecordings>,
    pub(super) resumption: ResumptionSettings,
    pub(super) clock: fn() -> MonoTime,
    pub(super) next_check: Instant,
    pub(super) next_retry: Instant,
}

impl Finisher {
    pub(super) fn run(&mut self, queue: &Receiver<FinishCommand>) {
        let mut gathering = Gathering::new(GATHER);
        loop {
            let quiet = self.resumptions().is_quiet();
            let received = queue.recv_deadline(if quiet { Instant::now() + RETRY } else { self.next_check });
            if !quiet && Instant::now() >= self.next_check {
                self.next_check = Instant::now() + RESUMPTION_CHECK;
                self.end_paused();
            }
            if Instant::now() >= self.next_retry {
                self.next_retry = Instant::now() + RETRY;
                self.finish_again();
            }
            let command = match received {
                Ok(command) => command,
                Err(RecvTimeoutError::Timeout) => continue,
                // What is paused goes on after the next start.
                Err(RecvTimeoutError::Disconnected) => return self.finish_again(),
            };
            if matches!(command, FinishCommand::EndRecording(_)) && queue.len() < TOGETHER_MAX {
                gathering.wait();
            }
            self.carry_out_with(command, queue);
        }
    }

    /// Carries out what waits, and finishes together the recordings that end together.
    pub(super) fn carry_out_with(&mut self, command: FinishCommand, queue: &Receiver<FinishCommand>) {
        self.carry_out(command);
        while self.ended.len() < TOGETHER_MAX
            && let Ok(command) = queue.try_recv()
        {
            self.carry_out(command);
        }
        self.end_recordings();
    }

    fn carry_out(&mut self, command: FinishCommand) {
        match command {
            FinishCommand::Close { file, bytes, path, link, known, damage, checksum, tail, headers } => {
                let started = Instant::now();
                // Cuts the preallocation and the padding of the last page.
                let file = file.map_or_else(|| open_media(&path, false), Ok);
                let cut = file.and_then(|file| cut(file, bytes, tail.as_deref()));
                if let Err(error) = &cut {
                    tracing::error!(path = %path.display(), bytes, %error, "truncating the recording failed");
                    self.metrics.file_failed(FileFailure::Write);
                }
                let file = cut.ok().filter(|_| self.closed.len() < KEPT_OPEN_MAX);
                if let Some(link) = &link {
                    let linked = ClosedFile { damage: damage.clone(), headers: headers.clone(), link: Some(path.clone()), ..ClosedFile::default() };
                    self.closed.insert(link.clone(), linked);
                }
                let (known, checksum) = (known.map(|known| *known), checksum.map(Checksum::Running));
                self.closed.insert(path, ClosedFile { file, known, damage, checksum, link, headers, found: None });
                self.times.record_step(DiskStep::Resize, nanos(started));
            }
            FinishCommand::Text { folder, name, text } => {
                let path = self.settings.recording_folder().join(folder.to_string()).join(name);
                let appended = OpenOptions::new().append(true).create(true).open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
                if let Err(error) = appended {
                    // The final playlist is built from the media, so this costs only what a viewer sees meanwhile.
                    tracing::warn!(path = %path.display(), %error, "appending to the live playlist failed");
                }
            }
            FinishCommand::EndRecording(end) => self.ended.push(end),
            FinishCommand::PauseRecording { paused, refused } => {
                self.end_recordings();
                self.pause_recording(&paused, refused);
            }
        }
    }

    fn resumptions(&self) -> std::sync::MutexGuard<'_, Resumptions> {
        self.resumption.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything of the recording is in its folder.
    fn pause_recording(&mut self, paused: &PausedRecording, refused: bool) {
        if refused {
            return self.end_for_good(paused);
        }
        tracing::info!(file_id = %paused.file_id, stream = %paused.key, "the stream of a recording is interrupted; its return is awaited");
        if !self.resumptions().settle(paused) {
            return;
        }
        if let Err(error) = finish::note_pause(&self.settings, paused) {
            tracing::warn!(file_id = %paused.file_id, %error, "a restart will not know when the recording was interrupted");
        }
        let policy = self.resumption.policy.load_full();
        if !self.is_awaited(&policy)(paused) {
            // A stream that may not come back is not waited for.
            self.end_paused();
        }
    }

    /// Ends the recordings that nobody goes on with.
    pub(super) fn end_paused(&mut self) {
        let policy = self.resumption.policy.load_full();
        let is_awaited = self.is_awaited(&policy);
        // Those on another disk are its finisher's.
        let is_ours = |paused: &PausedRecording| self.places.get(paused.file_id).unwrap_or(0) == self.index;
        let over = self.resumptions().take_over(is_ours, is_awaited);
        for paused in over {
            self.end_for_good(&paused);
        }
    }

    /// Which recordings may be gone on with at this moment.
    fn is_awaited<'a>(&self, policy: &'a Policy) -> impl Fn(&PausedRecording) -> bool + use<'a> {
        let now = (self.resumption.wall)();
        let open = OnceCell::<HashSet<&TaskId>>::new();
        move |paused| {
            let takes_more = match &paused.source {
                RecordingSource::Rule(_) => true,
                // Nothing more is recorded into it.
                RecordingSource::Made(_) | RecordingSource::Ring => false,
                RecordingSource::Task(id) | RecordingSource::OlderTask(id) => {
                    let tasks = || policy.tasks.values().flatten().filter(|task| task.is_open(now));
                    open.get_or_init(|| tasks().map(|task| &task.id).collect()).contains(id)
                }
            };
            paused.is_awaited(policy, takes_more, now)
        }
    }

    fn end_for_good(&mut self, paused: &PausedRecording) {
        let PausedRecording { file_id, end, reason, .. } = *paused;
        let receipt = paused.receipt.clone();
        self.ended.push(RecordingEnd { file_id, end, reason, shared_with: None, receipt, claim: None });
        self.end_recordings();
        (self.resumption.over)(paused);
    }

    /// What could not be finished before, for want of space or because of the disk.
    pub(super) fn finish_again(&mut self) {
        if self.health.is_missing() {
            return;
        }
        for _ in 0..self.unfinished.len() {
            self.ended.extend(self.unfinished.pop_front());
            self.end_recordings();
        }
    }

    /// The folder is not where it was: nothing can be said of what lies in it.
    fn is_gone(&self) -> bool {
        let folder = DataFolder { label: self.health.label().to_owned(), path: self.settings.data_folder.clone() };
        self.unfinished.len() < UNFINISHED_MAX && (self.health.is_missing() || !folders::is_there(&folder))
    }

    fn end_recordings(&mut self) {
        let ends = std::mem::take(&mut self.ended);
        let started = Instant::now();
        let ends: Vec<Ended> = ends.into_iter().map(|end| Ended { identity: self.recordings.ended(end.file_id, (self.clock)()), end }).collect();
        let results = match ends.as_slice() {
            [] => return,
            // The system may have much to write beside ours: for a few of them it is not asked to write all.
            few if few.len() < TOGETHER_MIN => few
                .iter()
                .map(|end| {
                    self.health.begins(Helper::Finisher, (self.clock)());
                    finish::finish_ended(&self.settings, end, &mut self.closed)
                })
                .collect(),
            many => {
                let sync_failed = || self.health.failed_sync();
                finish::finish_together(&self.settings, many, &mut self.closed, || self.health.begins(Helper::Finisher, (self.clock)()), sync_failed)
            }
        };
        self.health.waits(Helper::Finisher);
        // As if each had been finished by itself.
        let each = nanos(started) / ends.len() as u64;
        for (ended, result) in ends.into_iter().zip(results) {
            self.ended(ended.end, result);
            self.times.record_step(DiskStep::Finish, each);
        }
    }

    fn ended(&mut self, end: RecordingEnd, result: Result<FinishedFile, finish::FinishError>) {
        match result {
            Ok(file) => {
                self.metrics.file_finished(file.identity.format);
                self.metrics.frames_unwritten(file.receipt.frames().saturating_sub(file.summary.frames()));
                (self.finished)(file);
            }
            // Its disk is gone, and may come back.
            Err(finish::FinishError::Empty { .. }) if self.is_gone() => self.unfinished.push_back(end),
            Err(finish::FinishError::Empty { file_id }) => {
                self.places.forget(file_id);
                self.metrics.file_failed(FileFailure::Empty);
                // What it was given and the disk did not take has no receipt to stand in.
                let lost = end.receipt.frames();
                if lost > 0 {
                    self.metrics.frames_unwritten(lost);
                    tracing::error!(%file_id, lost, "nothing of the recording reached the disk: its frames are lost");
                } else {
                    tracing::info!(%file_id, "the recording held no frame; nothing is kept");
                }
            }
            Err(error) => {
                self.metrics.file_failed(FileFailure::Finish);
                tracing::error!(file_id = %end.file_id, error = &error as &dyn std::error::Error, "finishing the recording failed; it stays in the recording folder");
                if error.is_no_space() {
                    self.health.no_space();
                }
                // Beyond the bound the next start does it, and what met a defect would meet it again.
                if self.unfinished.len() < UNFINISHED_MAX && !matches!(error, finish::FinishError::Defect { .. }) {
                    self.unfinished.push_back(end);
                }
            }
        }
    }
}

/// Cuts what is behind the end of a file. From now on it is read and written through memory. `tail`: the page in which it ends, as it is on the disk.
fn cut(file: File, bytes: u64, tail: Option<&[u8]>) -> io::Result<File> {
    let flags = rustix::fs::fcntl_getfl(&file)?;
    if flags.contains(OFlags::DIRECT) {
        rustix::fs::fcntl_setfl(&file, flags - OFlags::DIRECT)?;
    }
    if let Some(tail) = tail {
        // What is behind the end in its page is made zeros, for which the system would read the page. Written whole into memory, it need not be.
        file.write_all_at(tail, bytes - bytes % WRITE_ALIGN_BYTES)?;
    }
    // Cut from the length, or else the preallocated space behind it.
    file.set_len(bytes.min(file.metadata()?.len()))?;
    Ok(file)
}
