//! Everything between the sockets and the finished files, run by a seed on one thread: RTMP sessions, recorders, container writers, arena, disk writers and
//! finishers are the real ones; clock, network, disk faults and death are the seed's. The process dies between any two calls of the recorder to its store, at
//! any step of a disk writer, of finishing and of recovery, or in the middle of a write; then the next start recovers, and what is in the files is compared
//! with what the recorders had been handed. A seed chooses what is there beside: several data folders, rings, streams that come back, encrypted recordings,
//! further tracks, an index that needs room made for it.
//!
//! `CAPSTAN_SIM_SEED=N cargo test --test sim` runs one seed again, `CAPSTAN_SIM_SEEDS=N` so many instead of 1,000, from `CAPSTAN_SIM_FIRST=N` on.

mod contents;
mod faults;
mod invariants;
mod life;
mod marks;
mod publishers;
mod recovery;
#[path = "../seeded/mod.rs"]
mod seeded;
mod store;
mod world;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use capstan::domain::DataFolder;
use capstan::domain::content_key::MasterKey;
use capstan::domain::sealing::hold_master_key;
use capstan::metrics::Metrics;
use capstan::segment::finish::{self, FinishSettings};
use capstan::segment::folders;

use invariants::Seen;
use marks::Truth;
use publishers::Character;
use seeded::Random;
use store::{Catalog, Used};

const SEEDS: u64 = 1_000;
const TICK_MS: u64 = 50;
const FLUSH_MS: u64 = 600;
const ARENA_BYTES: usize = 6 << 20;
/// Until everything that is open must have come to its end, when nothing is wrong any more.
const END_MS_MAX: u64 = 60_000;
/// All interrupted recordings are over by then.
const LONG_MS: u64 = 3_600_000;
pub const MASTER_KEY: MasterKey = MasterKey([7; 32]);

struct Simulation {
    random: Random,
    data: tempfile::TempDir,
    /// Of the data folders.
    finish: Vec<FinishSettings>,
    labels: Vec<String>,
    transport_stream: bool,
    /// Its publications have more pictures than an index has room for in front.
    rapid: bool,
    /// Disks fail and hang in it.
    faulty: bool,
    truths: Vec<Rc<RefCell<Truth>>>,
    catalog: Catalog,
    publications: u32,
    metrics: Arc<Metrics>,
    /// By the number of a process that was stopped in order: frames that its disks did not take.
    unwritten: BTreeMap<u64, u64>,
    /// In which process something was wrong with which disk.
    troubled: BTreeSet<(u64, usize)>,
    used: Rc<RefCell<Used>>,
    /// An encoder of the process before whose recording waits for it.
    interrupted: Option<Character>,
    clock_was_set: bool,
}

impl Simulation {
    fn new(seed: u64, traces: bool) -> Self {
        let mut random = Random::new(seed);
        world::begin(1_700_000_000_000 + random.below(1 << 30) as i64, traces);
        let rapid = random.below(50) == 0;
        // Memory is as good as a disk here, and does not wait for one; but it does not make room inside a file.
        let shared = Path::new("/dev/shm");
        let wants_insert = rapid && random.below(2) == 0;
        let folder = if shared.is_dir() && !wants_insert { shared.to_owned() } else { std::env::temp_dir() };
        let data = tempfile::Builder::new().prefix("capstan-sim-").tempdir_in(folder).expect("a folder");
        let count = random.pick([1, 1, 1, 2, 2, 3]);
        let finish: Vec<FinishSettings> = (0..count)
            .map(|index| {
                let data_folder = data.path().join(format!("disk-{index}"));
                std::fs::create_dir(&data_folder).expect("a folder");
                let insert_supported = wants_insert && finish::probe_insert(&data_folder).expect("a folder that takes files");
                FinishSettings { data_folder, insert_supported, time_zone: jiff::tz::TimeZone::UTC, hls_segment_ms: 1_000 }
            })
            .collect();
        for folder in [finish[0].recording_folder(), finish[0].media_folder()] {
            std::fs::create_dir(folder).expect("a folder");
        }
        let labels: Vec<String> = (0..count).map(|index| if index == 0 { String::new() } else { format!("d{index:08}") }).collect();
        for (settings, label) in finish.iter().zip(&labels).skip(1) {
            let folder = DataFolder { label: label.clone(), path: settings.data_folder.clone() };
            // Its mark tells that the disk is there.
            folders::take_in(&finish[0].data_folder, &folder, true).expect("a folder that is new");
        }
        Self {
            transport_stream: random.below(3) == 0,
            faulty: random.below(3) == 0,
            rapid,
            random,
            data,
            labels,
            finish,
            truths: Vec::new(),
            catalog: Catalog::default(),
            publications: 0,
            metrics: Metrics::new(1),
            unwritten: BTreeMap::new(),
            troubled: BTreeSet::new(),
            used: Rc::default(),
            interrupted: None,
            clock_was_set: false,
        }
    }

    fn arenas(&self) -> PathBuf {
        self.data.path().join("arenas")
    }

    /// True: somebody has set the clock.
    fn pass(&mut self, millis: u64) -> bool {
        world::pass(millis);
        let sets = self.random.below(150) == 0;
        if sets {
            self.clock_was_set = true;
            let by = 1 + self.random.below(100_000_000) as i64;
            world::set_clock_by(if self.random.below(2) == 0 { by } else { -by });
        }
        sets
    }

    /// Several processes, one after the other, and what is left when all has been recovered.
    fn run(&mut self) -> Seen {
        for life in 0..=self.random.below(2) {
            let dies = self.random.below(5) > 0;
            // A rapid one has more instants in the same time.
            let instants = if self.rapid { [20_000, 60_000, 60_000] } else { [1_000, 3_000, 6_000] };
            world::set_fuse(dies.then(|| self.random.up_to(instants)));
            world::until_killed(|| self.live(life));
            world::heal();
            self.finish.iter().for_each(|settings| world::date_files(&settings.recording_folder()));
            let pause_ms = self.random.up_to([10, 1_500, 8_000]);
            self.pass(pause_ms);
        }
        world::set_fuse(None);
        world::pass(LONG_MS);
        // What the disk refused to begin is cleared away by the start after.
        for _ in 0..1 + u64::from(self.faulty) {
            let (mut left, _) = self.find_left();
            self.recover(&mut left, |_, paused| panic!("nobody waits for {paused:?} any more"));
        }
        self.check()
    }
}

/// `keeps`: its data stay, and what happens is told.
fn run(seed: u64, keeps: bool) -> Seen {
    let mut simulation = Simulation::new(seed, keeps);
    if keeps {
        simulation.data.disable_cleanup(true);
        eprintln!("seed {seed}: its data are in {}", simulation.data.path().display());
    }
    simulation.run()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn whatever_dies_nothing_received_is_lost() {
    hold_master_key(&MASTER_KEY);
    if let Some(seed) = setting("CAPSTAN_SIM_SEED") {
        tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().init();
        eprintln!("{:?}", run(seed, true));
        return;
    }
    let (first, seeds) = (setting("CAPSTAN_SIM_FIRST").unwrap_or(0), setting("CAPSTAN_SIM_SEEDS").unwrap_or(SEEDS));
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let seen = Mutex::new(Seen::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    match catch_unwind(|| run(seed, false)) {
                        Ok(one) => *seen.lock().unwrap_or_else(PoisonError::into_inner) += one,
                        Err(_) => {
                            failed.lock().unwrap_or_else(PoisonError::into_inner).push(seed);
                            eprintln!("seed {seed} failed; again with CAPSTAN_SIM_SEED={seed} cargo test --test sim");
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "{} of {seeds} seeds failed: {failed:?}", failed.len());
    let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    eprintln!("{seeds} seeds: {seen:?}");
    assert!(seeds < SEEDS || seen.has_all(), "something does not come to pass any more: {seen:?}");
}
