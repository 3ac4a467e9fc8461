//! The data folders, as `app` opens them, recovers what lies in them, starts their threads and tells how they are.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use crate::config::Config;
use crate::domain::event::RecordSessionId;
use crate::domain::{DataFolder, DataFolders, Resumptions};
use crate::metrics::Metrics;
use crate::replay;
use crate::segment::finish::{self, FinishSettings};
use crate::segment::folders::{self, Absent};
use crate::segment::health::DiskState;
use crate::segment::patient::Patient;
use crate::segment::recover::{LeftBehind, WriteBack};
use crate::segment::space::free_bytes;
use crate::segment::{Disk, DiskHealth, SpaceWatch, Storage, unsummed};
use crate::units::{FileId, MonoTime, WallTime};

/// The data folders of the settings, also those that are not there now: they may come.
pub struct Folders {
    pub storage: Arc<Storage>,
    /// Mistakes in the settings.
    pub absent: Vec<Absent>,
    /// By index.
    slots: Vec<Slot>,
}

/// How a data folder is kept.
#[derive(Default)]
struct Slot {
    /// `None`: it is not there, or has no lock here.
    lock: Option<File>,
    /// It was never used, and gets its mark when it appears.
    is_new: bool,
    /// On which disk it was at the last look; for new ones.
    device: Option<u64>,
    /// A look that goes on.
    looking: Option<Receiver<Result<(File, bool), String>>>,
}

impl Folders {
    /// Opens the further folders; one that is not there is said in the log, and taken in when it appears.
    ///
    /// # Errors
    /// If the first one (`data`, opened already) takes no files.
    pub fn open(config: &Config, data: &Path, zone: &jiff::tz::TimeZone, clock: fn() -> MonoTime) -> io::Result<Self> {
        let mut opened = folders::open_all(data, &config.more_data_folders)?;
        for warning in &opened.warnings {
            tracing::warn!("{warning}");
        }
        let settings = |folder: &Path, insert_supported: bool| FinishSettings {
            data_folder: folder.to_owned(),
            insert_supported,
            time_zone: zone.clone(),
            hls_segment_ms: config.record.hls_segment_ms,
        };
        let inserts = probe_first(data)?;
        let mut finish_settings = vec![settings(data, inserts)];
        let mut slots = vec![Slot::default()];
        let mut further = Vec::new();
        for (folder, lock) in std::mem::take(&mut opened.folders).into_iter().zip(std::mem::take(&mut opened.locks)) {
            match probe_further(&folder.path) {
                Ok(supported) => {
                    if let Err(error) = folders::note_makes_room(data, &folder.label, supported) {
                        tracing::warn!(folder = %folder.path.display(), %error, "what the disk can do cannot be noted");
                    }
                    finish_settings.push(settings(&folder.path, supported));
                    slots.push(Slot { lock: Some(lock), ..Slot::default() });
                    further.push(folder);
                }
                Err(why) => {
                    opened.absent.push(Absent { path: folder.path, label: Some(folder.label), why, is_mistake: false, makes_room: None });
                }
            }
        }
        let mut whys = vec![None; slots.len()];
        let mut mistakes = Vec::new();
        for absent in opened.absent {
            tracing::error!("{}", absent.why);
            if absent.is_mistake {
                mistakes.push(absent);
                continue;
            }
            let is_new = absent.label.is_none();
            // The folder of that label may be elsewhere by now.
            let label = absent.label.filter(|label| further.iter().all(|folder| folder.label != *label)).map_or_else(folders::new_label, Ok)?;
            finish_settings.push(settings(&absent.path, inserts && absent.makes_room.unwrap_or(true)));
            slots.push(Slot { is_new, ..Slot::default() });
            further.push(DataFolder { label, path: absent.path });
            whys.push(Some(absent.why));
        }
        let folders = DataFolders::new(data.to_owned(), further);
        let health = |((index, folder), why): ((usize, &DataFolder), Option<String>)| {
            let health = DiskHealth::new(&folder.path).labeled(&folder.label);
            why.into_iter().for_each(|why| health.note_gone(why));
            Arc::new(if index == 0 && !config.record.in_data_folder { health.spared() } else { health })
        };
        let health = folders.iter().enumerate().zip(whys).map(health).collect();
        let storage = Storage { folders: Arc::new(folders), finish: finish_settings, health, places: Arc::default(), clock };
        Ok(Self { storage: Arc::new(storage), absent: mistakes, slots })
    }

    /// Makes room for the index of an MP4 file can be inserted in every folder.
    pub fn inserts(&self) -> bool {
        self.storage.finish.iter().all(|settings| settings.insert_supported)
    }

    /// Those that are there.
    pub fn present(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|index| !self.storage.health[*index].is_missing()).collect()
    }

    /// What the last run left in each folder; its memory is written back. `None`: the folder is not there.
    ///
    /// # Errors
    /// If the first folder cannot be listed.
    pub fn find_left(&self, arenas: &Path) -> io::Result<Vec<Option<LeftBehind>>> {
        let storage = &*self.storage;
        let mut all: Vec<Option<LeftBehind>> = (0..self.slots.len()).map(|_| None).collect();
        for index in self.present() {
            match LeftBehind::find(&storage.finish[index], arenas) {
                Ok(left) => all[index] = Some(left),
                Err(error) if index > 0 => {
                    let folder = storage.folders.root(index).display();
                    let why = format!("the data folder {folder} cannot be listed ({error}): look after its disk");
                    tracing::error!("{why}");
                    storage.health[index].note_gone(why);
                }
                Err(error) => return Err(error),
            }
        }
        self.write_back(&mut all);
        for (index, left) in all.iter().enumerate() {
            left.iter().flat_map(LeftBehind::files).for_each(|file_id| storage.places.enter(file_id, index));
        }
        Ok(all)
    }

    /// Writes what lies in arenas into the folders that are there. False: not now, one of them is being recovered, or the first does not answer.
    pub fn write_back(&self, all: &mut [Option<LeftBehind>]) -> bool {
        let storage = &*self.storage;
        let present: Vec<usize> = self.present().into_iter().filter(|index| storage.answers(*index)).collect();
        if present.first() != Some(&0) || present.iter().any(|index| all[*index].is_none()) {
            return false;
        }
        let settings: Vec<FinishSettings> = present.iter().map(|index| storage.finish[*index].clone()).collect();
        let labels: Vec<&str> = present.iter().map(|index| storage.folders.folder(*index).label.as_str()).collect();
        let mut left: Vec<LeftBehind> = present.iter().filter_map(|index| all[*index].take()).collect();
        let all_there = (0..self.slots.len()).all(|index| present.contains(&index) || self.slots[index].is_new);
        WriteBack { settings: &settings, labels: &labels, left: &mut left, all_there }.run(replay::replay_into);
        for (index, left) in present.into_iter().zip(left) {
            all[index] = Some(left);
        }
        true
    }

    /// Lets the streams of interrupted recordings be waited for; returns which recordings these are.
    pub fn announce_paused(&self, left: &mut [Option<LeftBehind>], table: &Mutex<Resumptions>, now: WallTime) -> HashSet<RecordSessionId> {
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.storage.finish.iter().zip(left).filter_map(|(settings, left)| Some((settings, left.as_mut()?)));
        let paused = all.flat_map(|(settings, left)| left.find_paused(settings, now));
        paused.inspect(|paused| table.announce(paused)).map(|paused| paused.session).collect()
    }

    /// Looks whether folders are there that were not, and takes them in. Returns what was found in them.
    pub fn look(&mut self) -> Vec<(usize, LeftBehind)> {
        let mut found = Vec::new();
        for index in 1..self.slots.len() {
            if self.storage.health[index].is_missing()
                && let Some(left) = self.look_at(index)
            {
                found.push((index, left));
            }
        }
        found
    }

    fn look_at(&mut self, index: usize) -> Option<LeftBehind> {
        let storage = Arc::clone(&self.storage);
        let (folder, health, settings) = (storage.folders.folder(index), &storage.health[index], &storage.finish[index]);
        let slot = &mut self.slots[index];
        let Some(looking) = &slot.looking else {
            // That of the time before it vanished.
            slot.lock = None;
            // A mount point is often made right before something is mounted there.
            if slot.is_new && !folders::is_settled(&folder.path, &mut slot.device) {
                return None;
            }
            let (sender, receiver) = bounded(1);
            let (first, folder, is_new) = (storage.folders.first().to_owned(), folder.clone(), slot.is_new);
            let thread = std::thread::Builder::new().name("disk-look".to_owned());
            let look = move || {
                let lock = folders::take_in(&first, &folder, is_new)?;
                Ok((lock, finish::probe_insert(&folder.path).map_err(|error| unwritable(&folder.path, &error))?))
            };
            if thread.spawn(move || _ = sender.send(look())).is_ok() {
                slot.looking = Some(receiver);
            }
            return None;
        };
        let looked = match looking.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err("the thread that looks at it is gone".to_owned()),
            Ok(looked) => looked,
        };
        slot.looking = None;
        let taken = looked.and_then(|(lock, makes_room)| {
            if settings.insert_supported && !makes_room {
                return Err(format!(
                    "the file system of the data folder {} makes no room inside files, others do: start again to use it",
                    folder.path.display()
                ));
            }
            let left =
                LeftBehind::find_late(settings, |file_id| storage.places.get(file_id).is_some()).map_err(|error| unwritable(&folder.path, &error))?;
            Ok((lock, left))
        });
        match taken {
            Ok((lock, left)) => {
                slot.lock = Some(lock);
                slot.is_new = false;
                left.files().for_each(|file_id| storage.places.enter(file_id, index));
                health.note_back(free_bytes(&folder.path).unwrap_or(0));
                tracing::warn!(folder = %folder.path.display(), "the data folder is there now: it is recorded to");
                Some(left)
            }
            Err(why) => {
                if health.why_missing().is_some_and(|known| known != why) {
                    tracing::warn!("{why}");
                }
                health.note_gone(why);
                None
            }
        }
    }
}

fn unwritable(folder: &Path, error: &io::Error) -> String {
    format!("cannot write in the data folder {} ({error}): look after its disk", folder.display())
}

/// [`finish::probe_insert`] in the first folder. Nothing goes without it: it is waited for, but not in silence.
fn probe_first(folder: &Path) -> io::Result<bool> {
    let owned = folder.to_owned();
    let probe = Patient::spawn("disk-probe", move || finish::probe_insert(&owned))?;
    if !probe.ends_within(folders::PATIENCE) {
        tracing::error!(folder = %folder.display(), "the disk of the data folder does not answer: the start waits for it");
    }
    probe.join().unwrap_or_else(|_| Err(io::Error::other("the thread that looks at it is gone")))
}

/// The same in a further one, which is done without while its disk does not answer: what lies in it, and what belongs into it, waits.
fn probe_further(folder: &Path) -> Result<bool, String> {
    let owned = folder.to_owned();
    let probe = folders::patiently(folder, move || finish::probe_insert(&owned));
    probe?.map_err(|error| unwritable(folder, &error))
}

/// New ids must stay above this.
pub fn last_file_id(left: &[Option<LeftBehind>]) -> Option<FileId> {
    left.iter().flatten().filter_map(LeftBehind::last_file_id).max()
}

/// Between two runs of a checksum: recovered files are read at 100 MB/s at most, for recording comes first.
const CHECKSUM_PAUSE: Duration = Duration::from_millis(40);

/// Files that wait for their checksums; beyond it the next start makes them.
const UNSUMMED_MAX: usize = 65_536;

/// The thread that makes the checksums of files that lack them.
pub struct Checksums {
    sender: Sender<(usize, FileId)>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Checksums {
    /// # Errors
    /// If there is no thread.
    pub fn start(storage: Arc<Storage>) -> io::Result<Self> {
        let (sender, queue) = bounded::<(usize, FileId)>(UNSUMMED_MAX);
        let (stop, stopped) = bounded::<()>(0);
        let thread = std::thread::Builder::new().name("checksums".to_owned()).spawn(move || {
            let pause = || stopped.recv_timeout(CHECKSUM_PAUSE) == Err(RecvTimeoutError::Disconnected);
            while let Ok((index, file_id)) = queue.recv() {
                if stopped.try_recv() == Err(TryRecvError::Disconnected) {
                    return;
                }
                if !storage.answers(index) || storage.health[index].is_missing() {
                    continue;
                }
                if let Err(error) = unsummed::sum_up(&storage.finish[index], file_id, pause) {
                    tracing::warn!(%file_id, %error, "the checksums of a file cannot be made; trying again at the next start");
                }
            }
        })?;
        Ok(Self { sender, stop, thread })
    }

    /// To be told of files with a note.
    pub fn sender(&self) -> Sender<(usize, FileId)> {
        self.sender.clone()
    }

    /// All other senders are gone. What is left is done at the next start. `all_answer`: no disk hangs, so that the thread is waited for.
    pub fn stop(self, all_answer: bool) {
        drop((self.sender, self.stop));
        if all_answer && self.thread.join().is_err() {
            tracing::error!("the checksum thread panicked");
        }
    }
}

/// The running threads of all folders.
pub struct DiskThreads {
    pub disks: Vec<Disk>,
    pub spaces: Vec<SpaceWatch>,
    pub storage: Arc<Storage>,
}

impl DiskThreads {
    /// Everything that was received is on its way to the disks: ends when it is there. False: a disk hangs; the next start writes what was for it.
    pub fn stop(self) -> bool {
        let mut all = true;
        for ((disk, space), folder) in self.disks.into_iter().zip(self.spaces).zip(self.storage.folders.iter()) {
            let ended = disk.stop();
            let answers = space.stop(ended) && ended;
            all &= answers;
            if !answers {
                tracing::error!(folder = %folder.path.display(), "the disk does not answer: what was for it is written at the next start");
            }
        }
        all
    }
}

/// A part of the stop that does not end is left behind after this, if a disk does not answer: it hangs with it.
const LEAVE_AFTER: Duration = Duration::from_secs(5);
const LEAVE_LOOK: Duration = Duration::from_millis(500);

/// Waits for the parts of a stop, but not for those that hang with a disk.
pub struct Parting {
    storage: Arc<Storage>,
    has_left: bool,
}

impl Parting {
    pub fn new(storage: Arc<Storage>) -> Self {
        Self { storage, has_left: false }
    }

    /// Runs `stop`, which ends the threads of `what`.
    pub fn wait(&mut self, what: &'static str, stop: impl FnOnce() + Send + 'static) {
        let thread = match Patient::spawn_or_return(std::thread::Builder::new().name("stopping".to_owned()), stop) {
            Ok(thread) => thread,
            Err((error, stop)) => {
                tracing::warn!(part = what, %error, "there is no thread to end it: it is waited for, whatever a disk does");
                return stop.into_iter().for_each(|stop| stop());
            }
        };
        // What hangs, hangs for others too.
        let patience = if self.has_left { LEAVE_LOOK } else { LEAVE_AFTER };
        let begun = std::time::Instant::now();
        while !thread.ends_within(LEAVE_LOOK) {
            if begun.elapsed() >= patience && (0..self.storage.health.len()).any(|index| !self.storage.answers(index)) {
                tracing::warn!(part = what, "it waits for a disk that does not answer, and is left behind");
                self.has_left = true;
                return;
            }
        }
        if thread.join().is_err() {
            tracing::error!(part = what, "it panicked when it was to end");
        }
    }
}

pub fn register_gauges(metrics: &Arc<Metrics>, threads: &DiskThreads, clock: fn() -> MonoTime) {
    type Read = fn(&DiskHealth, MonoTime) -> f64;
    let gauges: [(&str, &str, Read); 5] = [
        ("disk_free_bytes", "Free space of a data folder's disk.", |disk, _| disk.free_bytes().map_or(f64::NAN, |bytes| bytes as f64)),
        ("disk_full_in_seconds", "Until the reserve is reached at the present rate.", |disk, _| disk.full_in_s().map_or(f64::INFINITY, |s| s as f64)),
        ("disk_state", "0 well, 1 nearly full, 2 full, 3 does not answer, 4 fails, 5 is not there.", |disk, now| f64::from(disk.state(now) as u8)),
        ("disk_busy_seconds", "How long the step of a helper that is under way longest has taken so far.", |disk, now| {
            disk.busy_nanos(now) as f64 / 1e9
        }),
        ("disk_errors", "Writes and syncs that failed.", |disk, _| disk.errors() as f64),
    ];
    for (name, help, read) in gauges {
        for (folder, health) in threads.storage.folders.iter().zip(&threads.storage.health) {
            let health = Arc::clone(health);
            metrics.register_disk_gauge(name, help, &folder.path.display().to_string(), Box::new(move || read(&health, clock())));
        }
    }
    for (folder, disk) in threads.storage.folders.iter().zip(&threads.disks) {
        let depth = disk.queue_depth();
        metrics.register_disk_queue(&folder.path.display().to_string(), Box::new(move || depth() as f64));
    }
}

/// The disks for `/healthz`, whether all is well with them, and whether one of them takes recordings.
pub fn describe(storage: &Storage, absent: &[Absent]) -> (Vec<serde_json::Value>, bool, bool) {
    let now = (storage.clock)();
    let (mut well, mut records) = (absent.is_empty(), false);
    let mut disks: Vec<serde_json::Value> = Vec::new();
    for (folder, disk) in storage.folders.iter().zip(&storage.health) {
        let state = disk.state(now);
        well &= matches!(state, DiskState::Ok | DiskState::Low);
        records |= disk.is_open_to_files(now);
        disks.push(match disk.why_missing() {
            Some(why) => serde_json::json!({"folder": folder.path, "state": state.name(), "error": why}),
            None => serde_json::json!({
                "folder": folder.path,
                "state": state.name(),
                "free_bytes": disk.free_bytes(),
                "full_in_s": disk.full_in_s(),
                "errors": disk.errors(),
            }),
        });
    }
    disks.extend(absent.iter().map(|absent| serde_json::json!({"folder": absent.path, "state": DiskState::Missing.name(), "error": absent.why})));
    (disks, well, records)
}
