//! What processes cost: CPU time and memory, read from `/proc`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A server: one process, or several (nginx).
#[derive(Clone, Debug)]
pub struct Pids(pub Vec<u32>);

/// Memory of all processes together, bytes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Memory {
    /// Resident; what lies on a tmpfs and is mapped (the arena) is part of it.
    pub resident: u64,
    /// Resident without files and tmpfs.
    pub anonymous: u64,
}

impl Pids {
    /// User and system seconds over all threads, from `/proc/PID/stat` (fields 14 and 15, clock ticks).
    pub fn cpu_seconds(&self) -> Result<f64, String> {
        self.0.iter().map(|pid| cpu_seconds(*pid)).sum()
    }

    /// Like [`Pids::cpu_seconds`], once the processes have come to rest (at most one tick in half a second) or after ten seconds: finishing files
    /// belongs to the bill.
    pub fn idle_cpu_seconds(&self) -> Result<f64, String> {
        let tick = 1.5 / rustix::param::clock_ticks_per_second() as f64;
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut before = self.cpu_seconds()?;
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = self.cpu_seconds()?;
            if now - before < tick || Instant::now() > deadline || crate::stop::is_urgent() {
                return Ok(now);
            }
            before = now;
        }
    }

    pub fn memory(&self) -> Memory {
        let mut sum = Memory::default();
        for pid in &self.0 {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let kib = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key))?;
                line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
            };
            sum.resident += kib("VmRSS:").unwrap_or(0) << 10;
            sum.anonymous += kib("RssAnon:").unwrap_or(0) << 10;
        }
        sum
    }

    /// Seconds on a CPU by name of thread; threads of one name count together. Without those that have ended.
    pub fn threads(&self) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for pid in &self.0 {
            let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for task in tasks.flatten() {
                let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
                let nanos = read("schedstat").split_whitespace().next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                *sums.entry(read("comm").trim().to_owned()).or_insert(0.0) += nanos as f64 / 1e9;
            }
        }
        sums
    }
}

pub fn own_cpu_seconds() -> Result<f64, String> {
    cpu_seconds(std::process::id())
}

fn cpu_seconds(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no process {pid}"),
        _ => format!("reading {path}: {error}"),
    })?;
    // The name of the program may hold spaces and brackets: count from the last bracket, behind which field 3 comes first.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| format!("{path} has no field {field}"));
    Ok((ticks(14)? + ticks(15)?) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// One descriptor a stream: takes what the hard limit allows, and beyond it what the system gives to root.
pub fn raise_file_limit(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    if hard < wanted && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: Some(wanted) }).is_ok() {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        eprintln!("loadtest: raising the file limit: {error}");
    }
    if hard < wanted {
        eprintln!("loadtest: only {hard} open files are allowed, {wanted} are needed: raise it with `ulimit -Hn {wanted}`");
    }
}
