//! The start, step by step. What publishers need comes as early as it can; what takes long goes on beside the recording.

use std::collections::HashSet;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam::channel::{Receiver, Sender, bounded};
use jiff::tz::TimeZone;

use crate::catalog::{Catalog, MediaRow, OlderTaskLimits};
use crate::catalog_watch::{CatalogTrouble, CatalogWatch};
use crate::clips::{ClipMaker, Clips};
use crate::config::Config;
use crate::control::actions::distribution::protections as protections_of;
use crate::control::actions::events::event_content;
use crate::control::actions::media_info::{edit_output, media_url};
use crate::control::{About, Access, ControlContext, ControlLimits, Server};
use crate::delivery::protect::Protections;
use crate::delivery::sender::Senders;
use crate::disks::{Checksums, DiskThreads, Folders};
use crate::domain::content_key::MasterKey;
use crate::domain::event::RecordSessionId;
use crate::domain::{Busy, DataFolders, FinishedFile, LiveStreams, Policy, Resumptions, StreamEnd, policy, sealing};
use crate::ingest::{Clock, CoreParts, EventSender, Ingest, IngestContext, IngestSettings};
use crate::logging::error_chain;
use crate::metrics::Metrics;
use crate::notify::{Bodies, DispatchSettings, Dispatcher};
use crate::preflight::{Preflight, bind_error_sentence, preflight};
use crate::process::Processor;
use crate::process::cgroup::JobGroup;
use crate::recorder::{MoovReserve, RecorderSettings};
use crate::recovery::Recovery;
use crate::retention::{Eviction, EvictionOrder, Retention};
use crate::segment::disk::{DiskSettings, ResumptionSettings};
use crate::segment::folders::Absent;
use crate::segment::open::OpenRecordings;
use crate::segment::recover::LeftBehind;
use crate::segment::{CoreStore, Disk, FileIds, SpaceWatch, Storage};
use crate::units::{FileId, WallTime};
use crate::{clips, config, control, delivery, disks, ingest, process, recovery, rescue, segment, supervise};

use super::entry::{ENTRIES_MAX, EntrySender, enter, enter_files};
use super::health::health_answer;
use super::left::{recover_left, resumption_over};
use super::parts::{
    certificate_files, delivery_settings, dispatch_settings, first_run_template, listen_for_media, listen_sentence, make_stores, signer,
    start_events, start_processor, tls_acceptor,
};
use super::running::Running;
use super::{STANDSTILL, StartError, because, mono_now, spawn, wall_now};

pub(super) fn start(config: &Config) -> Result<Running, StartError> {
    mono_now();
    let checked = preflight(config).map_err(|error| StartError(error_chain(&error)))?;
    for warning in &checked.warnings {
        tracing::warn!("{warning}");
    }
    let (base, folders, lost) = Base::open(config, &checked)?;
    let mut doors = Doors::open(&base)?;
    let left = Left::find(&base, &folders, lost.as_ref())?;
    base.tell_at(&doors.public_base, &left.awaited)?;
    let files = FilePath::start(&base, left, folders)?;
    let keepers = Keepers::start(&base, &files)?;
    let stores = make_core_stores(&base, &files)?;
    let out = Out::start(&base, &files)?;
    let stores = out.recalled_by(stores)?;
    let dispatch = dispatch_settings(&config.callbacks);
    let dispatcher = Dispatcher::start(base.catalog.clone(), dispatch.clone(), Arc::clone(&base.metrics), wall_now)
        .map_err(because("cannot start the callback thread"))?;
    let ingest = start_ingest(&base, &mut doors, &files, &out, stores)?;
    let certificates = doors.tls.take().map(|acceptor| ingest::tls::CertificateWatch::start(certificate_files(config), acceptor));
    let certificates = certificates.transpose().map_err(because("cannot start the certificates thread"))?;
    register_gauges(&base, &files);
    let control = Control::start(&base, doors, &files, &keepers, &out, &ingest, dispatch)?;
    // Beside everything else: publishers push, and what is recorded now is entered as always.
    let rebuild = lost.map(|lost| lost.build_again(&base, &files.rebuild_stop)).transpose()?;

    // Nobody may be there to read it.
    let _ = writeln!(io::stdout(), "{}", config::banner(config, base.cores().len(), base.first_run, control.media_address));
    let shared = Arc::clone(ingest.shared());
    let supervisor = supervise::Supervisor::ready("recording", move || shared.standing_still(STANDSTILL).next().is_none())
        .map_err(because("cannot tell systemd that we are ready"))?;
    Ok(Running {
        supervisor,
        server: control.server,
        clips: control.clips,
        senders: out.senders,
        access: control.access,
        ingest,
        disks: files.threads,
        recovery: files.recovery,
        rebuild,
        rebuild_stop: files.rebuild_stop,
        checksums: files.checksums,
        entries: files.entries,
        entry_sender: files.entry_sender,
        retention: keepers.retention,
        eviction: keepers.eviction,
        processor: keepers.processor,
        certificates,
        catalog_watch: base.catalog_watch,
        events: files.events,
        events_stop: files.events_stop,
        dispatcher,
        catalog: base.catalog,
        arenas: checked.arena_folder,
        _lock: checked.lock,
    })
}

/// What is opened first, and what all further steps use.
struct Base<'a> {
    config: &'a Config,
    checked: &'a Preflight,
    time_zone: TimeZone,
    metrics: Arc<Metrics>,
    storage: Arc<Storage>,
    /// Mistakes in the settings of the data folders.
    mistakes: Vec<Absent>,
    /// Room for the index of an MP4 file can be inserted.
    inserts: bool,
    catalog: Catalog,
    catalog_watch: CatalogWatch,
    first_run: bool,
    /// When the catalog was opened.
    now: WallTime,
    policy: Arc<ArcSwap<Policy>>,
    live: Arc<Mutex<LiveStreams>>,
    protections: Arc<Protections>,
    resumptions: Arc<Mutex<Resumptions>>,
}

impl<'a> Base<'a> {
    /// The data folders, and the catalog with what was set by calls; also what is to be entered in it again.
    fn open(config: &'a Config, checked: &'a Preflight) -> Result<(Self, Folders, Option<LostCatalog>), StartError> {
        let data = &checked.data_folder;
        for folder in ["recording", "media"] {
            let folder = data.join(folder);
            std::fs::create_dir_all(&folder).map_err(because(format_args!("cannot create {}", folder.display())))?;
        }
        let time_zone = TimeZone::get(&config.record.time_zone).map_err(|error| StartError(format!("record.time_zone: {error}")))?;
        let metrics = Metrics::new(checked.cores.len());
        let folders = Folders::open(config, data, &time_zone, mono_now).map_err(because(format_args!("cannot write in {}", data.display())))?;
        let storage = Arc::clone(&folders.storage);
        let (present, absent_labels) = storage.present();
        let (catalog, incomplete) = rescue::open_catalog(&present).map_err(|error| StartError(error_chain(&error)))?;
        let catalog_watch = CatalogWatch::start(data).map_err(because("cannot watch the catalog"))?;
        let first_run = catalog.is_new()?;
        if first_run && config.record.first_run_rule {
            catalog.enter_first_run(first_run_template(), wall_now())?;
        }
        let now = wall_now();
        catalog.set_task_default(policy::default_task_template(config.record.default_task_format));
        catalog.set_app_id(config.api.app_id);
        if let Err(error) = catalog.purge_tasks(now) {
            // A full disk: recording does not wait for room in the catalog.
            tracing::error!(%error, "the catalog takes nothing; starting all the same");
        }
        let policy = Arc::new(ArcSwap::from_pointee(catalog.policy(1, now)?));
        let (mistakes, inserts) = (folders.absent.clone(), folders.inserts());
        let (live, protections, resumptions) = (Arc::default(), Arc::default(), Arc::default());
        #[rustfmt::skip]
        let base = Self {
            config, checked, time_zone, metrics, storage, mistakes, inserts, catalog, catalog_watch, first_run, now, policy, live, protections, resumptions,
        };
        Ok((base, folders, incomplete.then_some(LostCatalog { present, absent_labels })))
    }

    fn cores(&self) -> &[usize] {
        &self.checked.cores
    }

    /// Lets the catalog write events and callbacks, now that the addresses of files are known, and tells of what the last run could not tell: all its streams
    /// and recordings have ended, but for those that are `awaited` to come back.
    fn tell_at(&self, public_base: &str, awaited: &HashSet<RecordSessionId>) -> Result<(), StartError> {
        let (catalog, app_id) = (&self.catalog, self.config.api.app_id);
        self.protections.set(protections_of(catalog)?);
        let signed = signer(catalog, &self.protections, public_base, app_id);
        catalog.set_event_writer({
            let (public_base, signed) = (public_base.to_owned(), Arc::clone(&signed));
            Arc::new(move |event| {
                let mut content = event_content(event, &public_base, app_id);
                signed(&mut content, event.app());
                content.to_string()
            })
        });
        catalog.set_callback_writer({
            let public_base = public_base.to_owned();
            let node = public_base.split("://").last().unwrap_or_default().split('/').next().unwrap_or_default().to_owned();
            let video_url = move |row: &MediaRow| {
                let mut url = serde_json::Value::String(media_url(row, &public_base, app_id));
                signed(&mut url, Some(row.sub_app_id));
                url.as_str().unwrap_or_default().to_owned()
            };
            let bodies = Bodies { app_id, node, video_url: Box::new(video_url) };
            Arc::new(move |callback| bodies.write(callback))
        });
        if let Err(error) = catalog.close_stream_events(awaited, self.now) {
            tracing::error!(%error, "the ends of the last run's streams and recordings are told at the next start");
        }
        Ok(())
    }
}

/// A catalog that lacks files which lie in the data folders.
struct LostCatalog {
    present: DataFolders,
    absent_labels: Vec<String>,
}

impl LostCatalog {
    fn build_again(self, base: &Base<'_>, stop: &Arc<AtomicBool>) -> Result<JoinHandle<()>, StartError> {
        let (catalog, time_zone, stop) = (base.catalog.clone(), base.time_zone.clone(), Arc::clone(stop));
        spawn("catalog-rebuild", move || rescue::rebuild_beside(&self.present, &self.absent_labels, &catalog, &time_zone, &stop))
    }
}

/// The listening sockets, bound before anything is recovered: a port that is taken is said at once, and publishers wait instead of being refused.
struct Doors {
    rtmp: Vec<TcpListener>,
    tls: Option<Arc<ingest::tls::Acceptor>>,
    /// One for each core.
    rtmps: Vec<Option<TcpListener>>,
    http: TcpListener,
    media: Vec<TcpListener>,
    media_address: Option<SocketAddr>,
    /// Begin of the addresses of files.
    public_base: String,
}

impl Doors {
    fn open(base: &Base<'_>) -> Result<Self, StartError> {
        let (config, cores) = (base.config, base.cores().len());
        let rtmp = ingest::listen(config.ingest.rtmp_listen, cores).map_err(|error| listen_sentence("ingest.rtmp_listen", &error))?;
        let (tls, rtmps) = match config.rtmps_listen() {
            Some(address) => {
                let acceptor = tls_acceptor(config)?;
                let listeners = ingest::listen(address, cores).map_err(|error| listen_sentence("ingest.rtmps_listen", &error))?;
                (Some(Arc::new(acceptor)), listeners.into_iter().map(Some).collect())
            }
            None => (None, (0..cores).map(|_| None).collect()),
        };
        let http =
            TcpListener::bind(config.http.listen).map_err(|error| StartError(bind_error_sentence("http.listen", config.http.listen, &error)))?;
        let media = listen_for_media(config, &base.checked.data_folder, cores)?;
        let media_address = media.first().and_then(|listener| listener.local_addr().ok());
        Ok(Self { rtmp, tls, rtmps, http, media, media_address, public_base: config.public_base(media_address) })
    }
}

/// What the last run left. It is noted before anything new is written; finishing it goes on while publishers already push.
struct Left {
    master_key: MasterKey,
    /// By data folder.
    behind: Vec<Option<LeftBehind>>,
    /// Interrupted recordings whose streams may come back.
    awaited: HashSet<RecordSessionId>,
    /// New files get ids above all that were ever given.
    ids: Arc<FileIds>,
}

impl Left {
    fn find(base: &Base<'_>, folders: &Folders, lost: Option<&LostCatalog>) -> Result<Self, StartError> {
        // Before anything is recorded or finished: both may need it.
        let master_key = process::keys::read_or_make(&base.checked.data_folder).map_err(because("cannot have the master key"))?;
        sealing::hold_master_key(&master_key);
        let mut behind = folders.find_left(&base.checked.arena_folder).map_err(because("cannot look for open recordings"))?;
        let awaited = folders.announce_paused(&mut behind, &base.resumptions, base.now);
        let mut last_file = base.catalog.last_file_id()?;
        if let Some(lost) = lost {
            last_file = last_file.max(rescue::last_file_id(&lost.present).map_err(|error| StartError(error_chain(&error)))?);
        }
        let ids = Arc::new(FileIds::new(last_file.max(disks::last_file_id(&behind)), wall_now));
        Ok(Self { master_key, behind, awaited, ids })
    }
}

/// The way of a recording from memory to its disk and into the catalog, and of what the last run left.
struct FilePath {
    master_key: MasterKey,
    ids: Arc<FileIds>,
    checksums: Checksums,
    entry_sender: EntrySender,
    /// How much waits for the catalog. The channel must end when its last real sender is gone, so the receiving side is watched.
    entry_watch: Receiver<FinishedFile>,
    entries: JoinHandle<()>,
    open: Arc<OpenRecordings>,
    event_sender: EventSender,
    events_stop: Sender<()>,
    events: JoinHandle<()>,
    threads: DiskThreads,
    rebuild_stop: Arc<AtomicBool>,
    waiting: Arc<recovery::Waiting>,
    recovery: Recovery,
}

impl FilePath {
    fn start(base: &Base<'_>, left: Left, folders: Folders) -> Result<Self, StartError> {
        let Left { master_key, behind, ids, .. } = left;
        let storage = &base.storage;
        let checksums = Checksums::start(Arc::clone(storage)).map_err(because("cannot start the checksum thread"))?;
        let unsummed = checksums.sender();
        for (index, left) in behind.iter().enumerate().filter_map(|(index, left)| Some((index, left.as_ref()?))) {
            left.unsummed().iter().for_each(|file_id| _ = unsummed.try_send((index, *file_id)));
        }

        let (entry_sender, entry_queue) = bounded(ENTRIES_MAX);
        let entry_watch = entry_queue.clone();
        let entries = spawn("catalog-entry", {
            let (catalog, storage, time_zone, unsummed) = (base.catalog.clone(), Arc::clone(storage), base.time_zone.clone(), unsummed.clone());
            move || enter_files(&entry_queue, &catalog, (&storage, &unsummed), &time_zone)
        })?;
        let entry_sender: EntrySender = Arc::new(ArcSwapOption::from_pointee(entry_sender));
        let open = Arc::new(OpenRecordings::default());
        let (event_sender, events_stop, events) = start_events(&base.catalog)?;
        let threads = start_disks(base, &entry_sender, &open, &event_sender)?;

        let rebuild_stop = Arc::new(AtomicBool::new(false));
        let waiting = Arc::new(recovery::Waiting::default());
        let recovery = Recovery::start(recovery::Parts {
            folders,
            left: behind,
            recover: {
                let (storage, files, events) = (Arc::clone(storage), Arc::clone(&entry_sender), event_sender.clone());
                let to_disk: Vec<_> = threads.disks.iter().map(|disk| disk.handle().sender).collect();
                Arc::new(move |index, left| recover_left(&storage, index, left, &files, &to_disk[index], &events))
            },
            appeared: appeared(base, unsummed, &rebuild_stop),
            waiting: Arc::clone(&waiting),
        })
        .map_err(because("cannot start the recovery thread"))?;
        #[rustfmt::skip]
        let path = Self {
            master_key, ids, checksums, entry_sender, entry_watch, entries, open, event_sender, events_stop, events, threads, rebuild_stop, waiting, recovery,
        };
        Ok(path)
    }
}

/// What is done for a data folder that appears late.
fn appeared(base: &Base<'_>, unsummed: Sender<(usize, FileId)>, stop: &Arc<AtomicBool>) -> Box<dyn Fn(&LeftBehind, usize) + Send> {
    let (storage, catalog, zone, stop) = (Arc::clone(&base.storage), base.catalog.clone(), base.time_zone.clone(), Arc::clone(stop));
    Box::new(move |left, index| {
        // The next start makes those for which there is no place.
        left.unsummed().iter().for_each(|file_id| _ = unsummed.try_send((index, *file_id)));
        rescue::enter_late(&storage.present(), &storage.folders.folder(index).label, &catalog, &zone, &stop);
    })
}

/// The threads of every data folder, also of those that are not there yet.
fn start_disks(base: &Base<'_>, files: &EntrySender, open: &Arc<OpenRecordings>, events: &EventSender) -> Result<DiskThreads, StartError> {
    let storage = &base.storage;
    let mut threads = DiskThreads { disks: Vec::new(), spaces: Vec::new(), storage: Arc::clone(storage) };
    for index in 0..storage.health.len() {
        let health = Arc::clone(&storage.health[index]);
        let space = SpaceWatch::start(storage.folders.folder(index), reserve_bytes(base.config), Arc::clone(&health), mono_now);
        threads.spaces.push(space.map_err(because("cannot watch the disk space"))?);
        let disk = Disk::start(DiskSettings {
            index,
            finish: storage.finish[index].clone(),
            descriptors_max: (base.checked.descriptors.media / storage.health.len()).max(1),
            finished: {
                let (sender, storage) = (Arc::clone(files), Arc::clone(storage));
                Box::new(move |file| {
                    if !enter(&sender, storage.placed(index, file)) {
                        tracing::error!("the catalog thread is gone; the file is entered at the next start");
                    }
                })
            },
            metrics: Arc::clone(&base.metrics),
            clock: mono_now,
            health,
            open: Arc::clone(open),
            places: Arc::clone(&storage.places),
            resumption: ResumptionSettings {
                table: Arc::clone(&base.resumptions),
                policy: Arc::clone(&base.policy),
                wall: wall_now,
                over: {
                    let events = events.clone();
                    Box::new(move |paused| events.send(resumption_over(paused)))
                },
            },
        })
        .map_err(because("cannot start the disk threads"))?;
        threads.disks.push(disk);
    }
    Ok(threads)
}

const fn reserve_bytes(config: &Config) -> u64 {
    config.record.reserve_mib << 20
}

/// Those who work on finished files.
struct Keepers {
    retention: Retention,
    eviction: Option<Eviction>,
    processor: Processor,
}

impl Keepers {
    fn start(base: &Base<'_>, files: &FilePath) -> Result<Self, StartError> {
        let (config, catalog, storage) = (base.config, &base.catalog, &base.storage);
        let retention = Retention::start(catalog.clone(), Arc::clone(storage), wall_now).map_err(because("cannot start the retention thread"))?;
        let order = match config.record.eviction {
            config::Eviction::None => None,
            config::Eviction::Oldest => Some(EvictionOrder::Oldest),
            config::Eviction::Expiring => Some(EvictionOrder::Expiring),
        };
        let eviction = order
            .map(|order| Eviction::start(catalog.clone(), Arc::clone(storage), reserve_bytes(config), order, wall_now))
            .transpose()
            .map_err(because("cannot start the eviction thread"))?;
        let job_group = JobGroup::of_service();
        let processor = start_processor(config, &storage.folders, base.cores(), catalog, &files.master_key, job_group.as_ref())?;
        Ok(Self { retention, eviction, processor })
    }
}

/// The memory in which each core's streams lie until their disk has them.
fn make_core_stores(base: &Base<'_>, files: &FilePath) -> Result<Vec<CoreStore>, StartError> {
    let arena_bytes = usize::try_from(base.checked.arena_bytes_per_core).map_err(|_| StartError("ingest.arena_mib is too large".to_owned()))?;
    let handles = segment::Disks::new(files.threads.disks.iter().map(Disk::handle).collect(), Arc::clone(&base.storage.places));
    let serials = Arc::new(AtomicU64::new(1));
    make_stores(&base.checked.arena_folder, base.cores().len(), arena_bytes, &handles, (&files.ids, &serials, &base.resumptions))
}

/// How recordings are read: by players, and by streams that begin with what was kept of them.
struct Out {
    media: Arc<delivery::Context>,
    busy: Arc<Busy>,
    senders: Arc<Senders>,
}

impl Out {
    fn start(base: &Base<'_>, files: &FilePath) -> Result<Self, StartError> {
        let busy = Arc::new(Busy::new(base.cores().len()));
        let media = Arc::new(delivery::Context::new(delivery::ContextParts {
            catalog: base.catalog.clone(),
            storage: Arc::clone(&base.storage),
            app_id: base.config.api.app_id,
            clock: wall_now,
            hls_segment_ms: base.config.record.hls_segment_ms,
            open: Arc::clone(&files.open),
            protections: Arc::clone(&base.protections),
        }));
        let senders =
            Senders::start(&delivery_settings(base.config, &busy), Arc::clone(&media)).map_err(because("cannot start the delivery threads"))?;
        Ok(Self { media, busy, senders })
    }

    /// `stores`, with somebody who reads for them what lies in files already.
    fn recalled_by(&self, mut stores: Vec<CoreStore>) -> Result<Vec<CoreStore>, StartError> {
        let recaller = clips::recall::start(Arc::clone(&self.media)).map_err(because("cannot start the thread that reads what is kept"))?;
        stores.iter_mut().for_each(|store| store.set_recaller(Arc::clone(&recaller)));
        Ok(stores)
    }
}

fn ingest_settings(base: &Base<'_>, doors: &Doors) -> IngestSettings {
    let config = base.config;
    IngestSettings {
        tick: Duration::from_millis(config.ingest.tick_ms),
        durability: Duration::from_millis(config.record.durability_ms),
        handshake_timeout: Duration::from_secs(config.ingest.handshake_timeout_s),
        idle_timeout: Duration::from_secs(config.ingest.idle_timeout_s),
        publishers_max: config.ingest.publishers_max,
        bytes_per_second_max: config.ingest.bandwidth_max_mib << 20,
        sockets_max: base.checked.descriptors.sockets,
        duplicate_publisher: match config.ingest.duplicate_publisher {
            config::DuplicatePublisher::Replace => ingest::DuplicatePublisher::Replace,
            config::DuplicatePublisher::Refuse => ingest::DuplicatePublisher::Refuse,
        },
        default_domain: config.ingest.default_domain.clone(),
        added_domains_only: config.ingest.added_domains_only,
        recorder: RecorderSettings {
            hls_transport_stream: config.record.hls_container == config::HlsContainer::Ts,
            hls_segment_ms: config.record.hls_segment_ms,
            trust_encoder_clock: config.record.trust_encoder_clock,
            moov_reserve: if base.inserts { MoovReserve::Insert } else { MoovReserve::Whole },
        },
        tls: doors.tls.clone(),
    }
}

/// The cores begin to take streams in; from here on there are recordings.
fn start_ingest(base: &Base<'_>, doors: &mut Doors, files: &FilePath, out: &Out, stores: Vec<CoreStore>) -> Result<Ingest, StartError> {
    let context = IngestContext {
        settings: ingest_settings(base, doors),
        policy: Arc::clone(&base.policy),
        live: Arc::clone(&base.live),
        metrics: Arc::clone(&base.metrics),
        clock: Clock { mono: mono_now, wall: wall_now },
        events: files.event_sender.clone(),
        busy: Arc::clone(&out.busy),
    };
    let take = std::mem::take::<Vec<TcpListener>>;
    let mut fronts = take(&mut doors.media).into_iter().map(|listener| {
        let mut front = delivery::front::Front::new(listener, Arc::clone(&out.senders));
        Box::new(move |now| front.pass(now)) as ingest::Beside
    });
    let parts = base.cores().iter().zip(take(&mut doors.rtmp)).zip(std::mem::take(&mut doors.rtmps)).zip(stores);
    let parts =
        parts.map(|(((&cpu, listener), tls_listener), store)| CoreParts { cpu, listener, tls_listener, store, beside: fronts.next() }).collect();
    Ingest::start(context, parts).map_err(|error| StartError(error.to_string()))
}

fn register_gauges(base: &Base<'_>, files: &FilePath) {
    disks::register_gauges(&base.metrics, &files.threads, mono_now);
    let entries = files.entry_watch.clone();
    base.metrics.register_catalog_queue(Box::new(move || entries.len() as f64));
}

/// The HTTP interface.
struct Control {
    clips: Arc<Clips>,
    access: Arc<ArcSwap<Access>>,
    media_address: Option<SocketAddr>,
    server: Server,
}

impl Control {
    fn start(
        base: &Base<'_>,
        doors: Doors,
        files: &FilePath,
        keepers: &Keepers,
        out: &Out,
        ingest: &Ingest,
        dispatch: DispatchSettings,
    ) -> Result<Self, StartError> {
        let config = base.config;
        let clips = start_clips(base, files, keepers, out, &doors.public_base)?;
        let access = Arc::new(ArcSwap::from_pointee(Access::new(&config.api)));
        let context = Arc::new(ControlContext {
            catalog: base.catalog.clone(),
            policy: Arc::clone(&base.policy),
            live: Arc::clone(&base.live),
            end_stream: {
                let shared = Arc::clone(ingest.shared());
                Box::new(move |stream, end| {
                    let cause = match end {
                        StreamEnd::Dropped => ingest::publish::EndCause::Dropped,
                        StreamEnd::Forbidden => ingest::publish::EndCause::Forbidden,
                    };
                    shared.end_publication(stream.core, stream.connection, stream.publication, cause)
                })
            },
            media: Arc::clone(&out.media),
            clips: Arc::clone(&clips),
            public_base: doors.public_base,
            app_id: config.api.app_id,
            clock: wall_now,
            metrics_text: {
                let metrics = Arc::clone(&base.metrics);
                Box::new(move || metrics.render())
            },
            slow_passes: {
                let metrics = Arc::clone(&base.metrics);
                Box::new(move || metrics.slow_passes())
            },
            health: {
                let trouble: CatalogTrouble = base.catalog_watch.trouble();
                let troubles = (base.mistakes.clone(), Arc::clone(&files.waiting), trouble);
                let ingest = Arc::clone(ingest.shared());
                health_answer(base.catalog.clone(), keepers.processor.encoder(), Arc::clone(&base.storage), ingest, troubles)
            },
            url_is_safe: Box::new(move |url| dispatch.forbidden.allow(url)),
            limits: control_limits(config),
            about: About::new(config, wall_now()),
            master_key: files.master_key.clone(),
            access: Arc::clone(&access),
        });
        // Weakly: the context holds the media's.
        let pages = Arc::downgrade(&context);
        let page: delivery::Pages = Box::new(move |request| pages.upgrade().and_then(|context| control::media::page(&context, request)));
        // Set once.
        let _ = context.media.pages.set(page);
        let server = Server::start(doors.http, context).map_err(because("cannot start the HTTP threads"))?;
        Ok(Self { clips, access, media_address: doors.media_address, server })
    }
}

fn control_limits(config: &Config) -> ControlLimits {
    ControlLimits {
        templates_max: config.api.templates_max,
        rules_max: config.api.rules_max,
        tasks_max: config.api.tasks_max,
        domains_max: config.api.domains_max,
        push_auth_default: config.api.push_auth_default,
        older_tasks: OlderTaskLimits { open_max: config.api.older_tasks_max, day_max: config.api.older_tasks_per_day_max },
        sub_apps_max: config.api.sub_apps_max,
        procedures_max: config.api.procedures_max,
        workers: config.http.workers,
        connections_max: config.http.connections_max,
    }
}

fn start_clips(base: &Base<'_>, files: &FilePath, keepers: &Keepers, out: &Out, public_base: &str) -> Result<Arc<Clips>, StartError> {
    let joiner = keepers.processor.joiner();
    Clips::start(ClipMaker {
        catalog: base.catalog.clone(),
        media: Arc::clone(&out.media),
        storage: Arc::clone(&base.storage),
        ids: Arc::clone(&files.ids),
        clock: wall_now,
        public_base: public_base.to_owned(),
        app_id: base.config.api.app_id,
        describe: edit_output,
        attempts_max: u32::try_from(base.config.process.attempts_max).unwrap_or(u32::MAX),
        join: Some(Box::new(move |task, order, place, stop, progress| joiner.join(task, order, place, stop, progress))),
    })
    .map_err(because("cannot start the thread of clips"))
}
