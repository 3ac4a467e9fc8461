//! The data folders, as `app` opens them, recovers what lies in them, starts their threads and tells how they are.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, Sender, TryRecvError, bounded};

use crate::config::Config;
use crate::domain::{DataFolder, DataFolders, PausedRecording, Resumptions};
use crate::metrics::Metrics;
use crate::replay;
use crate::segment::finish::{self, FinishSettings};
use crate::segment::folders::{self, Absent};
use crate::segment::health::DiskState;
use crate::segment::recover::{KEPT_NAME, LeftBehind, WriteBack};
use crate::segment::{Disk, DiskHealth, SpaceWatch, Storage, unsummed};
use crate::units::{FileId, MonoTime, WallTime};

/// The data folders of the settings.
pub struct Folders {
    pub storage: Arc<Storage>,
    /// Those that cannot be used now.
    pub absent: Vec<Absent>,
    /// Of folders that were used before.
    pub absent_labels: Vec<String>,
    _locks: Vec<File>,
}

impl Folders {
    /// Opens the further folders; one that is not there is said in the log, and done without.
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
        let mut finish_settings = vec![settings(data, finish::probe_insert(data)?)];
        let mut usable = Vec::new();
        for folder in std::mem::take(&mut opened.folders) {
            match finish::probe_insert(&folder.path) {
                Ok(supported) => {
                    finish_settings.push(settings(&folder.path, supported));
                    usable.push(folder);
                }
                Err(error) => {
                    let why = format!("cannot write in the data folder {} ({error}): look after its disk and start again", folder.path.display());
                    opened.absent.push(Absent { path: folder.path, label: Some(folder.label), why });
                }
            }
        }
        for absent in &opened.absent {
            tracing::error!("{}", absent.why);
        }
        let absent_labels = opened.absent_labels();
        let folders = DataFolders::new(data.to_owned(), usable);
        let health = |(index, folder): (usize, &DataFolder)| {
            let health = DiskHealth::new(&folder.path).labeled(&folder.label);
            Arc::new(if index == 0 && !config.record.in_data_folder { health.spared() } else { health })
        };
        let health = folders.iter().enumerate().map(health).collect();
        let storage = Storage { folders: Arc::new(folders), finish: finish_settings, health, places: Arc::default(), clock };
        Ok(Self { storage: Arc::new(storage), absent: opened.absent, absent_labels, _locks: opened.locks })
    }

    /// Makes room for the index of an MP4 file can be inserted in every folder.
    pub fn inserts(&self) -> bool {
        self.storage.finish.iter().all(|settings| settings.insert_supported)
    }

    /// What the last run left in each folder; its memory is written back.
    ///
    /// # Errors
    /// If a folder cannot be listed.
    pub fn find_left(&self, arenas: &Path) -> io::Result<Vec<LeftBehind>> {
        let storage = &*self.storage;
        let mut left = storage.finish.iter().map(|settings| LeftBehind::find(settings, arenas)).collect::<io::Result<Vec<_>>>()?;
        let labels: Vec<&str> = storage.folders.iter().map(|folder| folder.label.as_str()).collect();
        let keep_in = (!self.absent_labels.is_empty()).then(|| storage.folders.first().join(KEPT_NAME));
        WriteBack { settings: &storage.finish, labels: &labels, left: &mut left, keep_in }.run(replay::replay_into);
        for (index, left) in left.iter().enumerate() {
            left.files().for_each(|file_id| storage.places.enter(file_id, index));
        }
        Ok(left)
    }

    /// Those that hold the recordings' interrupted streams wait for.
    pub fn announce_paused(&self, left: &mut [LeftBehind], table: &Mutex<Resumptions>, now: WallTime) {
        for (settings, left) in self.storage.finish.iter().zip(left) {
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            left.find_paused(settings, now).iter().for_each(|paused: &PausedRecording| table.announce(paused));
        }
    }
}

/// New ids must stay above this.
pub fn last_file_id(left: &[LeftBehind]) -> Option<FileId> {
    left.iter().filter_map(LeftBehind::last_file_id).max()
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
                if !storage.answers(index) {
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
            if !ended {
                all = false;
                tracing::error!(folder = %folder.path.display(), "the disk does not answer: what was for it is written at the next start");
            }
            space.stop(ended);
        }
        all
    }
}

pub fn register_gauges(metrics: &Arc<Metrics>, threads: &DiskThreads, clock: fn() -> MonoTime) {
    type Read = fn(&DiskHealth, MonoTime) -> f64;
    let gauges: [(&str, &str, Read); 4] = [
        ("disk_free_bytes", "Free space of a data folder's disk.", |disk, _| disk.free_bytes().map_or(f64::NAN, |bytes| bytes as f64)),
        ("disk_full_in_seconds", "Until the reserve is reached at the present rate.", |disk, _| disk.full_in_s().map_or(f64::INFINITY, |s| s as f64)),
        ("disk_state", "0 well, 1 nearly full, 2 full, 3 does not answer, 4 fails, 5 is not there.", |disk, now| f64::from(disk.state(now) as u8)),
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
        disks.push(serde_json::json!({
            "folder": folder.path,
            "state": state.name(),
            "free_bytes": disk.free_bytes(),
            "full_in_s": disk.full_in_s(),
            "errors": disk.errors(),
        }));
    }
    disks.extend(absent.iter().map(|absent| serde_json::json!({"folder": absent.path, "state": DiskState::Missing.name(), "error": absent.why})));
    (disks, well, records)
}
