//! Counters, gauges and durations, merged when somebody reads them.
//!
//! Each ingest core has counters of its own and is their only writer, so counting is a plain load and store on a cache line no other
//! core touches. Everything else (disk writers, HTTP) is slow enough for shared atomics. [`Metrics::render`] adds it all up.

mod histogram;
mod labels;
pub mod passes;
mod text;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

pub use labels::{CallbackResult, Codec, ConnectionError, DiskStep, DropReason, FileFailure, PublicationEnd, Track};

use crate::units::{Format, MonoTime};
use histogram::{Histogram, Merged, add_alone};
use labels::Label;
use passes::{Pass, SlowPasses};
use text::Exposition;

/// A counter for each value of a label.
#[derive(Debug)]
struct Counters(Box<[AtomicU64]>);

impl Counters {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| AtomicU64::new(0)).collect())
    }
    fn of<L: Label>() -> Self {
        Self::new(L::ALL.len())
    }
    fn get(&self, index: usize) -> u64 {
        self.0[index].load(Relaxed)
    }
    fn sum(&self) -> u64 {
        self.0.iter().map(|counter| counter.load(Relaxed)).sum()
    }
}

/// What one ingest core counts. On cache lines of its own: a neighbour's counting must not slow this one.
#[derive(Debug)]
#[repr(align(128))]
struct CoreCounters {
    taken: AtomicBool,
    connections: AtomicU64,
    connection_errors: Counters,
    publications: AtomicU64,
    publication_ends: Counters,
    frames: Counters,
    media_bytes: AtomicU64,
    dropped_frames: Counters,
    late_frames: AtomicU64,
    unsupported_codecs: Counters,
    blocks_free: AtomicU64,
    blocks: AtomicU64,
    recv_to_stored: Histogram,
    tick_pass: Histogram,
    /// Whole ticks, and how long after its time each began.
    tick: Histogram,
    tick_late: Histogram,
    slow_passes: SlowPasses,
    blocked: AtomicU64,
    blocked_nanos: AtomicU64,
    drained_bytes: AtomicU64,
}

impl CoreCounters {
    fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            connection_errors: Counters::of::<ConnectionError>(),
            publications: AtomicU64::new(0),
            publication_ends: Counters::of::<PublicationEnd>(),
            frames: Counters::of::<Track>(),
            media_bytes: AtomicU64::new(0),
            dropped_frames: Counters::of::<DropReason>(),
            late_frames: AtomicU64::new(0),
            unsupported_codecs: Counters::of::<Codec>(),
            blocks_free: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
            recv_to_stored: Histogram::new(),
            tick_pass: Histogram::new(),
            tick: Histogram::new(),
            tick_late: Histogram::new(),
            slow_passes: SlowPasses::default(),
            blocked: AtomicU64::new(0),
            blocked_nanos: AtomicU64::new(0),
            drained_bytes: AtomicU64::new(0),
        }
    }

    /// Publications begun and not ended. The end is read first, so that a reader in between sees one too many, never a huge number.
    fn publishers(&self) -> u64 {
        let ended = self.publication_ends.sum();
        self.publications.load(Relaxed).saturating_sub(ended)
    }
}

/// An ingest core's counters. Belongs to one thread: it can be moved to it, but neither cloned nor shared with another.
#[derive(Debug)]
pub struct CoreMetrics {
    counters: Arc<CoreCounters>,
    /// When it was last said how many connections are blocked. A cell: one thread.
    blocked_told: Cell<MonoTime>,
}

/// What the helper threads of one data folder count.
#[derive(Debug)]
pub struct DiskMetrics {
    steps: Vec<Histogram>,
    queue_wait: Histogram,
}

impl DiskMetrics {
    fn new() -> Self {
        Self { steps: DiskStep::ALL.iter().map(|_| Histogram::new()).collect(), queue_wait: Histogram::new() }
    }
    pub fn record_step(&self, step: DiskStep, nanos: u64) {
        self.steps[step.index()].record_shared(nanos);
    }
    /// From a core's hand-over of a block to its disk writer's turn.
    pub fn record_queue_wait(&self, nanos: u64) {
        self.queue_wait.record_shared(nanos);
    }
}

impl CoreMetrics {
    pub fn connection_opened(&self) {
        add_alone(&self.counters.connections, 1);
    }
    /// A connection ended in an error before or instead of publishing.
    pub fn connection_error(&self, reason: ConnectionError) {
        add_alone(&self.counters.connection_errors.0[reason.index()], 1);
    }
    pub fn publication_began(&self) {
        add_alone(&self.counters.publications, 1);
    }
    /// Once for each [`CoreMetrics::publication_began`]: the difference is the number of publishers.
    pub fn publication_ended(&self, reason: PublicationEnd) {
        add_alone(&self.counters.publication_ends.0[reason.index()], 1);
    }
    /// `count` frames arrived.
    pub fn frames(&self, track: Track, count: u64) {
        add_alone(&self.counters.frames.0[track.index()], count);
    }
    /// `bytes` of media arrived.
    pub fn media_bytes(&self, bytes: u64) {
        add_alone(&self.counters.media_bytes, bytes);
    }
    pub fn frames_dropped(&self, reason: DropReason, count: u64) {
        add_alone(&self.counters.dropped_frames.0[reason.index()], count);
    }
    /// Frames whose timestamp went back behind their track's last one.
    pub fn frames_late(&self, count: u64) {
        add_alone(&self.counters.late_frames, count);
    }
    /// A track of a codec that is not recorded, once when it is first seen. A name nobody knows counts as `other`.
    pub fn unsupported_codec(&self, name: &str) {
        add_alone(&self.counters.unsupported_codecs.0[Codec::by_name(name).index()], 1);
    }
    /// Blocks of this core's arena.
    pub fn set_blocks(&self, free: u64, total: u64) {
        self.counters.blocks_free.store(free, Relaxed);
        self.counters.blocks.store(total, Relaxed);
    }
    /// From `recv` to the block's return from the disk, where the core itself notices it.
    pub fn record_recv_to_stored(&self, nanos: u64) {
        self.counters.recv_to_stored.record_alone(nanos);
    }
    /// A whole tick; `now` is its end.
    pub fn record_tick(&self, now: MonoTime, pass: Pass) {
        self.counters.tick.record_alone(pass.nanos);
        self.counters.tick_late.record_alone(pass.late_nanos);
        self.counters.slow_passes.record(now, pass);
    }
    /// Connections whose storage is busy: they are not read until there is room.
    pub fn set_blocked(&self, connections: u64, now: MonoTime) {
        let nanos = now.nanos_since(self.blocked_told.replace(now));
        let before = self.counters.blocked.load(Relaxed);
        if before > 0 {
            add_alone(&self.counters.blocked_nanos, before.saturating_mul(nanos));
        }
        self.counters.blocked.store(connections, Relaxed);
    }
    /// A pass has taken `bytes` from its sockets.
    pub fn drained(&self, bytes: u64) {
        add_alone(&self.counters.drained_bytes, bytes);
    }
    /// One pass of the media loop over its sockets.
    pub fn record_tick_pass(&self, nanos: u64) {
        self.counters.tick_pass.record_alone(nanos);
    }
}

/// A number read when the metrics are rendered.
pub type GaugeRead = Box<dyn Fn() -> f64 + Send + Sync>;

struct Gauge {
    name: String,
    help: String,
    label: Option<(&'static str, String)>,
    read: GaugeRead,
}

/// All counters of the process.
pub struct Metrics {
    cores: Vec<Arc<CoreCounters>>,
    files_opened: AtomicU64,
    files_closed: AtomicU64,
    files_finished: Counters,
    files_failed: Counters,
    unwritten_frames: AtomicU64,
    recv_to_stored: Histogram,
    /// By data folder, in their order.
    disks: Mutex<Vec<(String, Arc<DiskMetrics>)>>,
    callback_attempts: Counters,
    gauges: Mutex<Vec<Gauge>>,
}

impl Metrics {
    pub fn new(core_count: usize) -> Arc<Self> {
        Arc::new(Self {
            cores: (0..core_count).map(|_| Arc::new(CoreCounters::new())).collect(),
            files_opened: AtomicU64::new(0),
            files_closed: AtomicU64::new(0),
            files_finished: Counters::new(Format::ALL.len()),
            files_failed: Counters::of::<FileFailure>(),
            unwritten_frames: AtomicU64::new(0),
            recv_to_stored: Histogram::new(),
            disks: Mutex::new(Vec::new()),
            callback_attempts: Counters::of::<CallbackResult>(),
            gauges: Mutex::new(Vec::new()),
        })
    }

    /// The counters of core `index`, for the one thread that writes them.
    ///
    /// # Panics
    /// If there is no such core, or its counters were taken before: two writers would lose counts.
    pub fn core(&self, index: usize) -> CoreMetrics {
        let counters = self.cores[index].clone();
        assert!(!counters.taken.swap(true, Relaxed), "the counters of core {index} have a writer");
        CoreMetrics { counters, blocked_told: Cell::default() }
    }

    /// What is counted of the disk of `folder`, for its helper threads.
    pub fn disk(&self, folder: &str) -> Arc<DiskMetrics> {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = disks.iter().find(|(known, _)| known == folder) {
            return Arc::clone(known);
        }
        let disk = Arc::new(DiskMetrics::new());
        disks.push((folder.to_owned(), Arc::clone(&disk)));
        disk
    }

    /// Publishers of all cores.
    pub fn publishers(&self) -> u64 {
        self.cores.iter().map(|core| core.publishers()).sum()
    }

    /// Media bytes received by all cores.
    pub fn media_bytes(&self) -> u64 {
        self.cores.iter().map(|core| core.media_bytes.load(Relaxed)).sum()
    }

    /// The slowest ticks of each core, longest first, by the number of the core.
    pub fn slow_passes(&self) -> Vec<(usize, Pass)> {
        let mut all: Vec<_> =
            self.cores.iter().enumerate().flat_map(|(index, core)| core.slow_passes.read().into_iter().map(move |pass| (index, pass))).collect();
        all.sort_by_key(|(_, pass)| std::cmp::Reverse(pass.nanos));
        all
    }

    /// Media files that are open for writing.
    pub fn open_files(&self) -> u64 {
        let closed = self.files_closed.load(Relaxed);
        self.files_opened.load(Relaxed).saturating_sub(closed)
    }

    pub fn file_opened(&self) {
        self.files_opened.fetch_add(1, Relaxed);
    }
    /// Once for each [`Metrics::file_opened`], whatever became of the file.
    pub fn file_closed(&self) {
        self.files_closed.fetch_add(1, Relaxed);
    }
    pub fn file_finished(&self, format: Format) {
        self.files_finished.0[format as usize].fetch_add(1, Relaxed);
    }
    pub fn file_failed(&self, reason: FileFailure) {
        self.files_failed.0[reason.index()].fetch_add(1, Relaxed);
    }
    /// Frames that were handed to the disk and are in no file, because it failed.
    pub fn frames_unwritten(&self, count: u64) {
        self.unwritten_frames.fetch_add(count, Relaxed);
    }
    pub fn unwritten_frames(&self) -> u64 {
        self.unwritten_frames.load(Relaxed)
    }
    /// From `recv` to the return of the write, where a disk writer notices it.
    pub fn record_recv_to_stored(&self, nanos: u64) {
        self.recv_to_stored.record_shared(nanos);
    }

    /// A receiver was called.
    pub fn callback_attempt(&self, result: CallbackResult) {
        self.callback_attempts.0[result.index()].fetch_add(1, Relaxed);
    }

    /// `capstan_<name>`, read by `read` at each rendering; `read` must not render or register itself.
    ///
    /// # Panics
    /// If the name is no metric name, or was registered before.
    pub fn register_gauge(&self, name: &str, help: &str, read: GaugeRead) {
        self.register(name, help, None, read);
    }
    /// `capstan_disk_queue_depth{folder}`: jobs waiting for the writer of one data folder.
    pub fn register_disk_queue(&self, folder: &str, read: GaugeRead) {
        self.register("disk_queue_depth", "Jobs waiting for a disk writer.", Some(("folder", folder.to_owned())), read);
    }
    /// `capstan_<name>{folder}`: of one data folder's disk.
    pub fn register_disk_gauge(&self, name: &str, help: &str, folder: &str, read: GaugeRead) {
        self.register(name, help, Some(("folder", folder.to_owned())), read);
    }
    /// `capstan_catalog_queue_depth`: changes waiting for the catalog's writer.
    pub fn register_catalog_queue(&self, read: GaugeRead) {
        self.register("catalog_queue_depth", "Changes waiting for the catalog writer.", None, read);
    }

    fn register(&self, name: &str, help: &str, label: Option<(&'static str, String)>, read: GaugeRead) {
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        assert!(first && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')), "{name:?} is no metric name");
        let mut gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!gauges.iter().any(|gauge| gauge.name == name && gauge.label == label), "the gauge {name} is registered");
        gauges.push(Gauge { name: name.to_owned(), help: help.to_owned(), label, read });
        // Gauges of one name must stand together in the text.
        gauges.sort_by(|left, right| left.name.cmp(&right.name));
    }

    /// The Prometheus text. Reads every counter once; nothing is stopped meanwhile, so related numbers may differ by what happened in between.
    pub fn render(&self) -> String {
        let mut text = Exposition::new();
        self.render_ingest(&mut text);
        self.render_files(&mut text);
        text.family("callback_attempts_total", "counter", "Attempts to deliver callbacks.");
        for result in CallbackResult::ALL {
            text.sample(&[("result", result.name())], self.callback_attempts.get(result.index()) as f64);
        }
        let gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        let mut family = "";
        for gauge in gauges.iter() {
            if gauge.name != family {
                text.family(&gauge.name, "gauge", &gauge.help);
                family = &gauge.name;
            }
            let labels: Vec<_> = gauge.label.iter().map(|(label, value)| (*label, value.as_str())).collect();
            text.sample(&labels, (gauge.read)());
        }
        text.finish()
    }

    fn render_ingest(&self, text: &mut Exposition) {
        let per_core = |text: &mut Exposition, name: &str, help: &str, read: fn(&CoreCounters) -> u64| {
            text.family(name, "gauge", help);
            for (index, core) in self.cores.iter().enumerate() {
                text.sample(&[("core", &index.to_string())], read(core) as f64);
            }
        };
        per_core(text, "publishers", "Streams being published now.", CoreCounters::publishers);
        per_core(text, "blocks_free", "Free blocks of the arena.", |core| core.blocks_free.load(Relaxed));
        per_core(text, "blocked_publishers", "Publishers that are not read because their storage is busy.", |core| core.blocked.load(Relaxed));
        per_core(text, "blocks", "Blocks of the arena.", |core| core.blocks.load(Relaxed));

        let total = |text: &mut Exposition, name: &str, help: &str, read: fn(&CoreCounters) -> u64| {
            text.family(name, "counter", help);
            text.sample(&[], self.cores.iter().map(|core| read(core)).sum::<u64>() as f64);
        };
        total(text, "connections_total", "RTMP connections accepted.", |core| core.connections.load(Relaxed));
        total(text, "publications_total", "Publications begun.", |core| core.publications.load(Relaxed));
        total(text, "media_bytes_total", "Media bytes received, without protocol overhead.", |core| core.media_bytes.load(Relaxed));
        total(text, "late_frames_total", "Frames whose timestamp went back.", |core| core.late_frames.load(Relaxed));

        self.by_label::<ConnectionError>(text, "connection_errors_total", "reason", "Connections that failed or were turned away.", |core| {
            &core.connection_errors
        });
        self.by_label::<PublicationEnd>(text, "publication_ends_total", "reason", "Publications ended.", |core| &core.publication_ends);
        self.by_label::<Track>(text, "frames_total", "track", "Frames received.", |core| &core.frames);
        self.by_label::<DropReason>(text, "dropped_frames_total", "reason", "Frames that a recording lost.", |core| &core.dropped_frames);
        self.by_label::<Codec>(text, "unsupported_codec_total", "codec", "Tracks of codecs that are not recorded.", |core| &core.unsupported_codecs);

        let stored = Merged::read(self.cores.iter().map(|core| &core.recv_to_stored).chain([&self.recv_to_stored]));
        text.durations("recv_to_stored", "From the socket to the disk.", &[(&[], stored)]);
        let pass = Merged::read(self.cores.iter().map(|core| &core.tick_pass));
        text.durations("tick_pass", "One pass of the media loop over its sockets.", &[(&[], pass)]);
        self.render_ticks(text);
    }

    /// What each core does in a tick.
    fn render_ticks(&self, text: &mut Exposition) {
        let names: Vec<String> = (0..self.cores.len()).map(|index| index.to_string()).collect();
        text.family("core_received_bytes_total", "counter", "Bytes read from sockets, protocol included.");
        for (name, core) in names.iter().zip(&self.cores) {
            text.sample(&[("core", name)], core.drained_bytes.load(Relaxed) as f64);
        }
        text.family(
            "core_blocked_seconds_total",
            "counter",
            "Time that publishers were not read because their storage was busy, of all of them together.",
        );
        for (name, core) in names.iter().zip(&self.cores) {
            text.sample(&[("core", name)], core.blocked_nanos.load(Relaxed) as f64 / 1e9);
        }
        let labels: Vec<_> = names.iter().map(|name| [("core", name.as_str())]).collect();
        let mut by_core = |name: &str, help: &str, read: fn(&CoreCounters) -> &Histogram| {
            let cores = labels.iter().zip(&self.cores);
            let series: Vec<_> = cores.map(|(labels, core)| (&labels[..], Merged::read([read(core)].into_iter()))).collect();
            text.durations(name, help, &series);
        };
        by_core("core_tick", "A whole tick of a core.", |core| &core.tick);
        by_core("core_tick_late", "How long after its time a tick began: something else kept the core.", |core| &core.tick_late);
    }

    /// A counter family over all cores, one sample for each value of its label.
    fn by_label<L: Label>(&self, text: &mut Exposition, name: &str, label: &str, help: &str, read: fn(&CoreCounters) -> &Counters) {
        text.family(name, "counter", help);
        for value in L::ALL {
            let sum: u64 = self.cores.iter().map(|core| read(core).get(value.index())).sum();
            text.sample(&[(label, value.text())], sum as f64);
        }
    }

    fn render_files(&self, text: &mut Exposition) {
        let closed = self.files_closed.load(Relaxed);
        text.family("open_files", "gauge", "Recordings being written.");
        text.sample(&[], self.files_opened.load(Relaxed).saturating_sub(closed) as f64);
        text.family("files_finished_total", "counter", "Recordings finished.");
        for format in Format::ALL {
            text.sample(&[("format", format.name())], self.files_finished.get(format as usize) as f64);
        }
        text.family("files_failed_total", "counter", "Recordings of which no finished file came.");
        for reason in FileFailure::ALL {
            text.sample(&[("reason", reason.name())], self.files_failed.get(reason.index()) as f64);
        }
        text.family("unwritten_frames_total", "counter", "Frames that were handed to the disk and are in no file, because it failed.");
        text.sample(&[], self.unwritten_frames() as f64);
        self.render_disks(text);
    }

    /// What the helper threads of each data folder do.
    fn render_disks(&self, text: &mut Exposition) {
        let disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let folders: Vec<_> = disks.iter().map(|(folder, _)| [("folder", folder.as_str())]).collect();
        let steps = disks.iter().flat_map(|(folder, disk)| DiskStep::ALL.iter().map(move |step| (folder, disk, step)));
        let steps: Vec<_> =
            steps.map(|(folder, disk, step)| ([("folder", folder.as_str()), ("step", step.name())], &disk.steps[step.index()])).collect();
        let read = |histogram: &Histogram| Merged::read([histogram].into_iter());
        let series: Vec<_> = steps.iter().map(|(labels, histogram)| (&labels[..], read(histogram))).collect();
        text.durations("disk_step", "Steps of the disk writers and the finisher.", &series);
        let series: Vec<_> = folders.iter().zip(&disks).map(|(labels, (_, disk))| (&labels[..], read(&disk.queue_wait))).collect();
        text.durations("disk_queue_wait", "From a core's hand-over of a block to the turn of its disk writer.", &series);
    }
}

#[cfg(test)]
mod tests;
