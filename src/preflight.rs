//! What must be true of the machine before anything starts: limits, folders, memory, CPUs.
//!
//! Each refusal is one sentence that says what to do. What is only unfortunate becomes a warning for the log.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf, absolute};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CpuSet, sched_getaffinity};

use crate::config::Config;
use crate::limits::TMPFS_MAGIC;
use crate::segment::folders::{LOCK_NAME, special_kind};
use crate::segment::{has_capability, probe_ring};

/// Locked memory of one executor: the buffers its io_uring registers.
const MEMLOCK_CORE_BYTES: u64 = 1 << 20;
/// The least soft limit, whatever the privileges: the executor's library refuses to start below it.
const MEMLOCK_BASE_BYTES: u64 = 512 << 10;
/// Descriptors of a start without any publisher: listeners, rings, catalog, log, HTTP workers and a few of their connections.
const FILES_MIN: u64 = 256;
/// A publisher's socket and the open files of its recordings: MP4 with HLS, and one more. With fewer, files that are seldom written to are opened anew each
/// time.
const FILES_PER_PUBLISHER: u64 = 4;
/// The arena of a core when `ingest.arena_mib` is 0, if there is room: four seconds of 1 Gbit/s. Groups of pictures are kept in it too.
const ARENA_AUTO_BYTES_MAX: u64 = 512 << 20;
/// Below this a core could not hold the blocks of a few dozen streams.
const ARENA_BYTES_MIN: u64 = 8 << 20;
/// The folder of a data folder's arenas begins with this.
const ARENA_FOLDER_PREFIX: &str = "capstan-arena-";
/// A child of a killed process that has not become its own program yet holds the lock for a moment longer: a restart must not fail for that.
const LOCK_WAIT: std::time::Duration = std::time::Duration::from_millis(1_000);
const LOCK_LOOK: std::time::Duration = std::time::Duration::from_millis(20);

const MIB: u64 = 1 << 20;

/// What the limit of open files is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptors {
    /// Publishers' connections.
    pub sockets: usize,
    /// Media files being written.
    pub media: usize,
}

impl Descriptors {
    /// Connections come first: a media file can do without a descriptor for a while.
    fn share(files_max: u64, publishers_max: usize) -> Self {
        let left = usize::try_from(files_max.saturating_sub(FILES_MIN)).unwrap_or(usize::MAX);
        let sockets = publishers_max.min(left / 4 * 3).max(1);
        Self { sockets, media: left.saturating_sub(sockets).max(1) }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "the limit of locked memory is {limit_kib} KiB but {cores} ingest core(s) need {needed_kib} KiB: raise it with \
         `ulimit -l {needed_kib}` or LimitMEMLOCK=64M in the systemd unit, or name fewer CPUs in ingest.cores"
    )]
    LockedMemory { limit_kib: u64, needed_kib: u64, cores: usize },
    #[error(
        "the limit of open files is {limit} but at least {FILES_MIN} are needed: raise it with `ulimit -n 65536` or LimitNOFILE=65536 in the systemd unit"
    )]
    OpenFiles { limit: u64 },
    #[error("cannot write to the data folder {folder}: make it writable for this user or set data_folder to another one")]
    DataFolder { folder: PathBuf, source: io::Error },
    #[error("{path} is a {kind}, not a file: remove it")]
    Special { path: PathBuf, kind: &'static str },
    #[error("another Capstan is running on the data folder {folder}: stop it or set data_folder to another one")]
    DataFolderInUse { folder: PathBuf },
    #[error("cannot use the arena folder {folder}: set ingest.arena_folder to a writable folder on a tmpfs")]
    ArenaFolder { folder: PathBuf, source: io::Error },
    #[error(
        "the arena folder {folder} has room for {room_mib} MiB but {cores} ingest core(s) need {needed_mib} MiB: enlarge that tmpfs, \
         or lower ingest.arena_mib or the number of ingest.cores, or set ingest.arena_folder to another one"
    )]
    ArenaRoom { folder: PathBuf, room_mib: u64, needed_mib: u64, cores: usize },
    #[error("CPU {cpu} in ingest.cores is not available to this process, which may use {available}: choose among these")]
    Cpu { cpu: usize, available: String },
    #[error("cannot learn which CPUs this process may use: name them in ingest.cores")]
    Affinity { source: io::Error },
    #[error("io_uring is switched off on this machine: allow it with `sysctl kernel.io_uring_disabled=0`")]
    IoUring,
    #[error(
        "this process may not use io_uring: a container's seccomp profile has to allow io_uring_setup, io_uring_enter and io_uring_register \
         (Docker: `--security-opt seccomp=PROFILE.json`, or `seccomp=unconfined`); without a container, the kernel has to be 5.8 or newer"
    )]
    IoUringForbidden { source: io::Error },
}

/// The machine as it was found fit.
#[derive(Debug)]
pub struct Preflight {
    /// CPUs to pin the ingest executors to; not empty.
    pub cores: Vec<usize>,
    /// Whole MiB.
    pub arena_bytes_per_core: u64,
    /// Of this data folder alone, and the same at every start, so that what a killed process left is found. It exists.
    pub arena_folder: PathBuf,
    /// Absolute, and it exists.
    pub data_folder: PathBuf,
    pub descriptors: Descriptors,
    /// Sentences for the log.
    pub warnings: Vec<String>,
    /// Keeps a second process away from the data folder as long as it is open.
    pub lock: File,
}

/// Checks the machine against `config`, raises soft limits as far as they go and creates the data folder.
///
/// # Errors
/// The first thing that stands in the way.
pub fn preflight(config: &Config) -> Result<Preflight, StartError> {
    let mut warnings = Vec::new();
    check_io_uring(&mut warnings)?;
    let mut cores = choose_cores(&config.ingest.cores, &available_cpus()?)?;

    let locks_freely = has_capability(CapabilitySet::IPC_LOCK);
    let limit = raise(Resource::Memlock, memlock_needed(cores.len(), locks_freely));
    let fitting = cores_within_memlock(limit, cores.len(), locks_freely);
    if fitting < cores.len() {
        // All CPUs is only the default: a workstation with the usual 8 MiB starts with fewer. A list somebody wrote is kept or refused.
        if fitting == 0 || !config.ingest.cores.is_empty() {
            let least = if config.ingest.cores.is_empty() { 1 } else { cores.len() };
            let needed_kib = memlock_needed(least, locks_freely) / 1024;
            return Err(StartError::LockedMemory { limit_kib: limit / 1024, needed_kib, cores: least });
        }
        warnings.push(format!(
            "using {fitting} of {} CPUs: the limit of locked memory is {} KiB; raise it with `ulimit -l` or LimitMEMLOCK=64M",
            cores.len(),
            limit / 1024
        ));
        cores.truncate(fitting);
    }

    // Not before there is memory for it.
    probe_ring().map_err(|source| StartError::IoUringForbidden { source })?;
    let files_wanted = FILES_MIN + FILES_PER_PUBLISHER * config.ingest.publishers_max as u64;
    let files_max = raise(Resource::Nofile, files_wanted);
    if files_max < FILES_MIN {
        return Err(StartError::OpenFiles { limit: files_max });
    }
    let descriptors = Descriptors::share(files_max, config.ingest.publishers_max);
    if descriptors.sockets < config.ingest.publishers_max {
        warnings.push(format!(
            "the limit of open files is {files_max}, enough for about {} publishers, not for ingest.publishers_max = {}: \
             raise it with `ulimit -n` or LimitNOFILE=65536",
            descriptors.sockets, config.ingest.publishers_max
        ));
    }

    let (data_folder, lock) = open_data_folder(&config.data_folder)?;
    let arena_folder = config.ingest.arena_folder.join(arena_folder_name(&data_folder));
    let arena_bytes_per_core = size_arena(config, &arena_folder, cores.len(), &mut warnings)?;
    fs::create_dir_all(&arena_folder).map_err(|source| StartError::ArenaFolder { folder: arena_folder.clone(), source })?;
    Ok(Preflight { cores, arena_bytes_per_core, arena_folder, data_folder, descriptors, warnings, lock })
}

/// Why a listener could not be bound, and the remedy. `setting` is the key that names the address.
pub fn bind_error_sentence(setting: &str, address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("port {port} is in use by another program: stop it or set {setting} to another port"),
        io::ErrorKind::PermissionDenied => {
            format!("not allowed to listen on port {port}: set {setting} to a port above 1023 or give the process CAP_NET_BIND_SERVICE")
        }
        io::ErrorKind::AddrNotAvailable => format!("{} is no address of this machine: set {setting} to one that is", address.ip()),
        _ => format!("cannot listen on {address} ({error}): set {setting} to another address"),
    }
}

/// `kernel.io_uring_disabled`: 0 for everybody, 1 for privileged processes and one group, 2 for nobody. Absent before Linux 6.6.
fn check_io_uring(warnings: &mut Vec<String>) -> Result<(), StartError> {
    match fs::read_to_string("/proc/sys/kernel/io_uring_disabled").as_deref().map(str::trim) {
        Ok("2") => return Err(StartError::IoUring),
        Ok("1") if !has_capability(CapabilitySet::SYS_ADMIN) => warnings.push(
            "io_uring is reserved for the group in kernel.io_uring_group: put this user into it or run `sysctl kernel.io_uring_disabled=0` if starting fails".to_owned(),
        ),
        _ => {}
    }
    Ok(())
}

fn available_cpus() -> Result<Vec<usize>, StartError> {
    let set = sched_getaffinity(None).map_err(|errno| StartError::Affinity { source: errno.into() })?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

fn choose_cores(wanted: &[usize], available: &[usize]) -> Result<Vec<usize>, StartError> {
    if let Some(cpu) = wanted.iter().find(|cpu| !available.contains(cpu)) {
        return Err(StartError::Cpu { cpu: *cpu, available: ranges(available) });
    }
    Ok(if wanted.is_empty() { available.to_vec() } else { wanted.to_vec() })
}

/// `0-3,8` for 0, 1, 2, 3, 8: as the kernel writes CPU lists. `sorted` grows.
fn ranges(sorted: &[usize]) -> String {
    let runs = sorted.chunk_by(|left, right| left + 1 == *right);
    let run = |run: &[usize]| if run.len() == 1 { run[0].to_string() } else { format!("{}-{}", run[0], run[run.len() - 1]) };
    runs.map(run).collect::<Vec<_>>().join(",")
}

/// With CAP_IPC_LOCK the kernel counts nothing.
fn memlock_needed(cores: usize, locks_freely: bool) -> u64 {
    MEMLOCK_BASE_BYTES + if locks_freely { 0 } else { MEMLOCK_CORE_BYTES * cores as u64 }
}

/// How many of `cores` executors the limit allows.
fn cores_within_memlock(limit: u64, cores: usize, locks_freely: bool) -> usize {
    (0..=cores).rev().find(|count| *count == 0 || memlock_needed(*count, locks_freely) <= limit).unwrap_or(0)
}

/// The soft limit after raising it to `wanted`, as far as the hard limit lets it. Unlimited is `u64::MAX`.
fn raise(resource: Resource, wanted: u64) -> u64 {
    let before = getrlimit(resource);
    let (soft, hard) = (before.current.unwrap_or(u64::MAX), before.maximum.unwrap_or(u64::MAX));
    if soft >= wanted || soft >= hard {
        return soft;
    }
    let target = wanted.min(hard);
    match setrlimit(resource, Rlimit { current: Some(target), maximum: before.maximum }) {
        Ok(()) => target,
        Err(_) => soft,
    }
}

/// Creates the folder if it is absent and takes its lock, which ends with the returned file. The path is absolute.
///
/// # Errors
/// [`StartError::DataFolder`], [`StartError::Special`] if something in it would keep us waiting, and [`StartError::DataFolderInUse`] while another process holds it.
pub fn open_data_folder(folder: &Path) -> Result<(PathBuf, File), StartError> {
    let refuse = |source| StartError::DataFolder { folder: folder.to_owned(), source };
    let folder = absolute(folder).map_err(refuse)?;
    fs::create_dir_all(&folder).map_err(refuse)?;
    // Whoever opens one of them waits for somebody at its other end.
    for entry in fs::read_dir(&folder).map_err(refuse)?.flatten() {
        let path = entry.path();
        if let Some(kind) = fs::metadata(&path).ok().and_then(|metadata| special_kind(metadata.file_type())) {
            return Err(StartError::Special { path, kind });
        }
    }
    // The lock is also the proof that the folder can be written. Truncating writes to the inode: that a read-only file can be opened proves nothing on some network file systems.
    let lock = OpenOptions::new().create(true).write(true).truncate(false).open(folder.join(LOCK_NAME)).map_err(refuse)?;
    let patience = std::time::Instant::now() + LOCK_WAIT;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if std::time::Instant::now() < patience => std::thread::sleep(LOCK_LOOK),
            Err(TryLockError::WouldBlock) => return Err(StartError::DataFolderInUse { folder }),
            Err(TryLockError::Error(error)) => return Err(refuse(error)),
        }
    }
    match io::Write::write_all(&mut &lock, format!("{}\n", std::process::id()).as_bytes()) {
        // Whoever looks there for our number finds none; a full disk is no reason not to start, for what is received has to go somewhere.
        Err(error) if error.kind() != io::ErrorKind::StorageFull => return Err(refuse(error)),
        _ => {}
    }
    Ok((folder, lock))
}

/// Bytes of one core's arena, whole MiB.
fn size_arena(config: &Config, arena_folder: &Path, cores: usize, warnings: &mut Vec<String>) -> Result<u64, StartError> {
    let folder = &config.ingest.arena_folder;
    let refuse = |source| StartError::ArenaFolder { folder: folder.clone(), source };
    if !fs::metadata(folder).map_err(refuse)?.is_dir() {
        return Err(refuse(io::ErrorKind::NotADirectory.into()));
    }
    probe(folder).map_err(refuse)?;
    let on_tmpfs = rustix::fs::statfs(folder).is_ok_and(|stat| stat.f_type == TMPFS_MAGIC || stat.f_type == RAMFS_MAGIC);
    if !on_tmpfs {
        warnings.push(format!("ingest.arena_folder = {} is not on a tmpfs: write-back of the disk may stall ingest cores", folder.display()));
    }
    let stat = rustix::fs::statvfs(folder).map_err(|errno| refuse(errno.into()))?;
    // A killed process's arenas are written back and removed before new ones are made, so their room counts as free.
    let room = stat.f_bavail.saturating_mul(stat.f_frsize).saturating_add(left_over_bytes(arena_folder));
    let wanted = match config.ingest.arena_mib {
        0 => auto_arena_bytes(room, memory_available_bytes(), cores as u64),
        mib => mib * MIB,
    };
    let needed = wanted.saturating_mul(cores as u64);
    if needed > room {
        return Err(StartError::ArenaRoom { folder: folder.clone(), room_mib: room / MIB, needed_mib: needed.div_ceil(MIB), cores });
    }
    Ok(wanted)
}

/// At most half of the folder and an eighth of the free memory, between the bounds, whole MiB.
fn auto_arena_bytes(room: u64, memory_available: u64, cores: u64) -> u64 {
    let share = (room / 2).min(memory_available / 8) / cores.max(1);
    share.clamp(ARENA_BYTES_MIN, ARENA_AUTO_BYTES_MAX) / MIB * MIB
}

/// `f_type` of a ramfs (Linux: include/uapi/linux/magic.h).
const RAMFS_MAGIC: rustix::fs::FsWord = 0x8584_58f6;

/// Creates and removes a file.
fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!("capstan-probe-{}", std::process::id()));
    File::create(&path)?;
    fs::remove_file(&path)
}

fn left_over_bytes(arena_folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(arena_folder) else { return 0 };
    // Blocks of `stat` are 512 bytes. Other files were put aside: they stay.
    let arenas = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|extension| extension == "arena"));
    arenas.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.blocks() * 512).sum()
}

/// A name made of the data folder's absolute path.
fn arena_folder_name(data_folder: &Path) -> String {
    use sha2::{Digest, Sha256};
    use std::os::unix::ffi::OsStrExt;
    let hash = Sha256::digest(data_folder.as_os_str().as_bytes());
    let hexadecimal: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{ARENA_FOLDER_PREFIX}{hexadecimal}")
}

/// `MemAvailable` of `/proc/meminfo`. No such file, no bound.
fn memory_available_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> Config {
        let mut config = Config { data_folder: folder.join("new/data"), ..Config::default() };
        config.ingest.arena_folder = folder.to_owned();
        config.ingest.arena_mib = 1;
        config
    }

    #[test]
    fn a_fit_machine_is_taken_as_it_is_and_the_folder_is_locked() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = config(folder.path());
        let found = preflight(&config).expect("the machine the tests run on");
        assert!(found.data_folder.is_absolute() && found.data_folder.is_dir());
        assert!(!found.cores.is_empty());
        assert_eq!(found.arena_bytes_per_core, MIB);
        assert!(found.descriptors.sockets > 0 && found.descriptors.media > 0);

        let second = preflight(&config).expect_err("the first one still holds the folder");
        assert!(second.to_string().starts_with("another Capstan is running on the data folder "), "{second}");
        drop(found);
        preflight(&config).expect("the lock ends with its holder");
    }

    #[test]
    fn what_stands_in_the_way_is_one_sentence_with_the_remedy() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("room for an empty file");
        type Change = fn(&mut Config, &Path);
        let cases: [(Change, &str, &str); 6] = [
            (|config, file| config.data_folder = file.join("data"), "cannot write to the data folder ", "set data_folder"),
            (|config, file| config.data_folder = file.to_owned(), "cannot write to the data folder ", "set data_folder"),
            (|config, file| config.ingest.arena_folder = file.to_owned(), "cannot use the arena folder ", "set ingest.arena_folder"),
            (|config, file| config.ingest.arena_folder = file.with_extension("absent"), "cannot use the arena folder ", "set ingest.arena_folder"),
            (|config, _| config.ingest.arena_mib = 1 << 40, "the arena folder ", "lower ingest.arena_mib"),
            (|config, _| config.ingest.cores = vec![1023], "CPU 1023 in ingest.cores is not available", "choose among these"),
        ];
        for (index, (change, begin, remedy)) in cases.into_iter().enumerate() {
            let mut config = config(folder.path());
            change(&mut config, &file);
            let sentence = preflight(&config).expect_err(begin).to_string();
            assert!(sentence.starts_with(begin) && sentence.contains(remedy), "{index}: {sentence}");
            assert!(!sentence.contains('\n') && !sentence.contains("  "), "{index}: {sentence}");
        }
    }

    #[test]
    fn what_would_keep_the_start_waiting_is_refused_by_its_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in [LOCK_NAME, "policy.json", "master.key", "delivery.port"] {
            let path = folder.path().join(name);
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR, 0)
                .expect("a pipe");
            let refused = open_data_folder(folder.path()).expect_err("a pipe in place of a file").to_string();
            assert_eq!(refused, format!("{} is a named pipe, not a file: remove it", path.display()));
            fs::remove_file(&path).expect("removed");
        }
        // Nobody waits for these.
        std::os::unix::fs::symlink("absent", folder.path().join("link")).expect("a link");
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).expect("a socket");
        open_data_folder(folder.path()).expect("opened");
    }

    #[test]
    fn locked_memory_decides_how_many_cores_start() {
        const KIB: u64 = 1024;
        // limit, CPUs, CAP_IPC_LOCK, cores that start
        let cases = [
            (8192 * KIB, 2, false, 2),
            (8192 * KIB, 7, false, 7),
            (8192 * KIB, 64, false, 7),
            (1536 * KIB, 2, false, 1),
            (1535 * KIB, 2, false, 0),
            (64 * KIB, 4, false, 0),
            (512 * KIB, 64, true, 64),
            (511 * KIB, 64, true, 0),
            (u64::MAX, 256, false, 256),
        ];
        for (limit, cpus, locks_freely, expected) in cases {
            assert_eq!(cores_within_memlock(limit, cpus, locks_freely), expected, "{limit} bytes, {cpus} CPUs, {locks_freely}");
        }
    }

    #[test]
    fn cpus_are_chosen_among_those_available() {
        assert_eq!(choose_cores(&[], &[0, 2, 3]).expect("all"), [0, 2, 3]);
        assert_eq!(choose_cores(&[3, 0], &[0, 2, 3]).expect("in the order given"), [3, 0]);
        let refused = choose_cores(&[0, 1], &[0, 2, 3, 9]).expect_err("1 is not there").to_string();
        assert_eq!(refused, "CPU 1 in ingest.cores is not available to this process, which may use 0,2-3,9: choose among these");
    }

    #[test]
    fn the_automatic_arena_follows_room_and_memory() {
        const GIB: u64 = 1 << 30;
        // room, free memory, cores, MiB for each
        let cases = [
            (24 * GIB, 24 * GIB, 2, 512),
            (24 * GIB, 24 * GIB, 64, 48),
            (64 * MIB, 24 * GIB, 2, 16),
            (64 * MIB, 24 * GIB, 16, 8),
            (24 * GIB, GIB, 2, 64),
            (0, 0, 1, 8),
            (u64::MAX, u64::MAX, 1, 512),
        ];
        for (room, memory, cores, expected_mib) in cases {
            assert_eq!(auto_arena_bytes(room, memory, cores), expected_mib * MIB, "{room} {memory} {cores}");
        }
    }

    #[test]
    fn arenas_of_a_killed_process_count_as_room() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(left_over_bytes(folder.path()), 0);
        assert_eq!(left_over_bytes(&folder.path().join("absent")), 0);
        fs::write(folder.path().join("core-0.arena"), vec![1; 1 << 16]).expect("room for 64 KiB");
        File::open(folder.path().join("core-0.arena")).and_then(|file| file.sync_all()).expect("allocated");
        let left_over = left_over_bytes(folder.path());
        assert!((1 << 16..2 << 16).contains(&left_over), "{left_over}");
    }

    #[test]
    fn a_port_that_cannot_be_had_is_named_with_its_setting() {
        let address: SocketAddr = "127.0.0.1:1935".parse().expect("an address");
        let sentence = |kind: io::ErrorKind| bind_error_sentence("ingest.rtmp_listen", address, &io::Error::from(kind));
        assert_eq!(sentence(io::ErrorKind::AddrInUse), "port 1935 is in use by another program: stop it or set ingest.rtmp_listen to another port");
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::AddrNotAvailable, io::ErrorKind::Other] {
            assert!(sentence(kind).contains("set ingest.rtmp_listen to"), "{kind}");
        }
    }
}
