//! The wiring: builds every part, joins them by bounded channels, starts and stops them in order.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::catalog::{Catalog, FellBack, MediaRow, OlderTaskLimits};
use crate::catalog_watch::{CatalogTrouble, CatalogWatch};
use crate::clips::{self, ClipMaker, Clips};
use crate::config::{self, Config, DeliveryListen};
use crate::control::actions::distribution::protections as protections_of;
use crate::control::actions::events::event_content;
use crate::control::actions::media_info::{edit_output, media_url};
use crate::control::signing::Signing;
use crate::control::{self, About, Access, ControlContext, ControlLimits, Server};
use crate::delivery::protect::Protections;
use crate::delivery::sender::Senders;
use crate::delivery::{self, DeliverySettings, WhenBusy};
use crate::disks::{self, Checksums, DiskThreads, Folders, Parting};
use crate::domain::content_key::MasterKey;
use crate::domain::event::{LiveEvent, LiveEventKind, Publisher, RecordException, RecordExceptionKind, RecordSessionId, RecordState};
use crate::domain::sealing;
use crate::domain::{
    Busy, DataFolder, DataFolders, EndReason, FinishedFile, LiveStreams, PausedRecording, Policy, RecordTemplate, RecordingIdentity, RecordingSource,
    Resumptions, StreamEnd, naming, policy,
};
use crate::ingest::{self, Clock, CoreParts, EventSender, Ingest, IngestContext, IngestError, IngestSettings};
use crate::logging::error_chain;
use crate::metrics::Metrics;
use crate::notify::{Bodies, DispatchSettings, Dispatcher, Networks, intake};
use crate::preflight::{bind_error_sentence, preflight};
use crate::process::arguments::Encoder;
use crate::process::cgroup::JobGroup;
use crate::process::child::Bounds;
use crate::process::jobs::Tools;
use crate::process::launch::{self, Manners};
use crate::process::{self, EncoderState, ProcessSettings, Processor};
use crate::recorder::{MoovReserve, RecorderSettings};
use crate::recovery::{self, Recovery};
use crate::rescue;
use crate::retention::{Eviction, EvictionOrder, Retention};
use crate::segment::aside;
use crate::segment::disk::{DiskSettings, ResumptionSettings};
use crate::segment::finish;
use crate::segment::folders::Absent;
use crate::segment::open::OpenRecordings;
use crate::segment::recover::{Found, LeftBehind, Recovered};
use crate::segment::{self, Arena, CoreStore, Disk, DiskCommand, FileIds, SpaceWatch, Storage};
use crate::supervise;
use crate::units::{FileId, MonoTime, TemplateId, WallTime};

/// Finished files on their way into the catalog. When full the finisher waits; the files stay adoptable.
const ENTRIES_MAX: usize = 4096;
/// Files entered in one transaction.
const ENTRY_BATCH_MAX: usize = 256;
/// Those of recordings that ended together come one shortly after the other: the first of them waits for the others this long.
const ENTRY_GATHER: Duration = Duration::from_millis(5);
/// A catalog that refuses is tried again after this.
const ENTRY_RETRY: Duration = Duration::from_secs(1);

/// An arena is not made smaller than this.
const ARENA_BYTES_MIN: usize = 8 << 20;

/// An encoder that says nothing for this long hangs: it tells how far it is twice a second.
const ENCODER_SILENCE_MAX: Duration = Duration::from_secs(300);

/// An ingest core that has not passed its tick for this long stands still; systemd restarts us then.
const STANDSTILL: Duration = Duration::from_secs(5);

/// Why the appliance did not start: one sentence for the user, naming the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct StartError(String);

fn because(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError(format!("{what}: {error}"))
}

/// Monotonic nanoseconds since the first call.
fn mono_now() -> MonoTime {
    static START: OnceLock<Instant> = OnceLock::new();
    MonoTime::from_nanos(START.get_or_init(Instant::now).elapsed().as_nanos() as u64)
}

fn wall_now() -> WallTime {
    let micros = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    };
    WallTime::from_unix_micros(micros)
}

/// Runs the appliance until SIGINT or SIGTERM; every open file is finished then. At SIGHUP `config_file` is read again for who may call.
pub fn run(config: Config, config_file: PathBuf) -> ExitCode {
    let signals = match signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("capstan: cannot receive signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    match start(&config) {
        Ok(running) => {
            running.run_until(signals, &config_file);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("capstan: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Puts the keys, tokens and limits of callers into effect that the file has now. A file with a mistake changes nothing.
fn reload(config_file: &Path, access: &ArcSwap<Access>) {
    match Config::load(config_file) {
        Ok(config) => {
            access.store(Arc::new(Access::new(&config.api)));
            tracing::info!(
                path = %config_file.display(),
                credentials = config.api.credentials.len(),
                tokens = config.api.bearer_tokens.len(),
                "the settings of who may call were read anew; other settings are at the next start"
            );
        }
        Err(error) => {
            tracing::error!(path = %config_file.display(), error = error_chain(&error), "the configuration is not read anew; what was, stays")
        }
    }
}

/// Everything that runs, in the order in which it is stopped.
struct Running {
    supervisor: supervise::Supervisor,
    server: Server,
    clips: Arc<Clips>,
    senders: Arc<Senders>,
    access: Arc<ArcSwap<Access>>,
    ingest: Ingest,
    disks: DiskThreads,
    recovery: Recovery,
    /// Enters the files of a catalog that was lost.
    rebuild: Option<JoinHandle<()>>,
    rebuild_stop: Arc<AtomicBool>,
    checksums: Checksums,
    entries: JoinHandle<()>,
    entry_sender: EntrySender,
    events: JoinHandle<()>,
    /// The events thread ends when this is gone.
    events_stop: Sender<()>,
    dispatcher: Dispatcher,
    retention: Retention,
    eviction: Option<Eviction>,
    processor: Processor,
    certificates: Option<ingest::tls::CertificateWatch>,
    catalog_watch: CatalogWatch,
    catalog: Catalog,
    arenas: PathBuf,
    /// Held as long as we run: two appliances on one data folder would destroy each other's files.
    _lock: File,
}

/// The way of finished files into the catalog. Closed by us: a thread that hangs with its disk must not keep the catalog waiting for it.
type EntrySender = Arc<ArcSwapOption<Sender<FinishedFile>>>;

fn enter(sender: &EntrySender, file: FinishedFile) -> bool {
    // Kept while it sends.
    let sender = sender.load_full();
    sender.is_some_and(|sender| sender.send(file).is_ok())
}

fn start(config: &Config) -> Result<Running, StartError> {
    mono_now();
    let checked = preflight(config).map_err(|error| StartError(error_chain(&error)))?;
    for warning in &checked.warnings {
        tracing::warn!("{warning}");
    }
    let cores = checked.cores;
    let data = &checked.data_folder;
    for folder in ["recording", "media"] {
        let folder = data.join(folder);
        std::fs::create_dir_all(&folder).map_err(because(format_args!("cannot create {}", folder.display())))?;
    }

    let clock = Clock { mono: mono_now, wall: wall_now };
    let time_zone = jiff::tz::TimeZone::get(&config.record.time_zone).map_err(|error| StartError(format!("record.time_zone: {error}")))?;
    let metrics = Metrics::new(cores.len());
    let folders = Folders::open(config, data, &time_zone, mono_now).map_err(because(format_args!("cannot write in {}", data.display())))?;
    let storage = Arc::clone(&folders.storage);
    let (present, absent_labels) = storage.present();
    let (catalog, incomplete) = rescue::open_catalog(&present).map_err(|error| StartError(error_chain(&error)))?;
    let catalog_watch = CatalogWatch::start(data).map_err(because("cannot watch the catalog"))?;
    let first_run = catalog.is_new().map_err(|error| StartError(error.to_string()))?;
    if first_run && config.record.first_run_rule {
        catalog.enter_first_run(first_run_template(), wall_now()).map_err(|error| StartError(error.to_string()))?;
    }
    let now = wall_now();
    catalog.set_task_default(policy::default_task_template(config.record.default_task_format));
    catalog.set_app_id(config.api.app_id);
    if let Err(error) = catalog.purge_tasks(now) {
        // A full disk: recording does not wait for room in the catalog.
        tracing::error!(%error, "the catalog takes nothing; starting all the same");
    }
    let policy = catalog.policy(1, now).map_err(|error| StartError(error.to_string()))?;
    let policy: Arc<ArcSwap<Policy>> = Arc::new(ArcSwap::from_pointee(policy));
    let live = Arc::new(Mutex::new(LiveStreams::default()));

    let listeners = ingest::listen(config.ingest.rtmp_listen, cores.len()).map_err(|error| listen_sentence("ingest.rtmp_listen", &error))?;
    let (tls, tls_listeners) = match config.rtmps_listen() {
        Some(address) => {
            let files = certificate_files(config);
            let server =
                ingest::tls::server_config(&files).map_err(|error| StartError(format!("ingest.tls_certificates: {}", error_chain(&error))))?;
            let listeners = ingest::listen(address, cores.len()).map_err(|error| listen_sentence("ingest.rtmps_listen", &error))?;
            (Some(Arc::new(ArcSwap::from(server))), listeners.into_iter().map(Some).collect())
        }
        None => (None, cores.iter().map(|_| None).collect::<Vec<_>>()),
    };
    let http = std::net::TcpListener::bind(config.http.listen)
        .map_err(|error| StartError(bind_error_sentence("http.listen", config.http.listen, &error)))?;
    let media_listeners = listen_for_media(config, data, cores.len())?;
    let media_address = media_listeners.first().and_then(|listener| listener.local_addr().ok());
    let public_base = config.public_base(media_address);
    let protections = Arc::new(Protections::default());
    protections.set(protections_of(&catalog).map_err(|error| StartError(error.to_string()))?);
    let signed = signer(&catalog, &protections, &public_base, config.api.app_id);
    catalog.set_event_writer({
        let (public_base, app_id, signed) = (public_base.clone(), config.api.app_id, Arc::clone(&signed));
        Arc::new(move |event| {
            let mut content = event_content(event, &public_base, app_id);
            signed(&mut content, event.app());
            content.to_string()
        })
    });
    catalog.set_callback_writer({
        let (public_base, app_id) = (public_base.clone(), config.api.app_id);
        let node = public_base.split("://").last().unwrap_or_default().split('/').next().unwrap_or_default().to_owned();
        let video_url = move |row: &MediaRow| {
            let mut url = serde_json::Value::String(media_url(row, &public_base, app_id));
            signed(&mut url, Some(row.sub_app_id));
            url.as_str().unwrap_or_default().to_owned()
        };
        let bodies = Bodies { app_id, node, video_url: Box::new(video_url) };
        Arc::new(move |callback| bodies.write(callback))
    });
    // Whoever is to be told of the end of a publication is told now.
    if let Err(error) = catalog.close_stream_events(now) {
        tracing::error!(%error, "the ends of the last run's publications are told at the next start");
    }

    let hls_segment_ms = config.record.hls_segment_ms;
    // Before anything is recorded or finished: both may need it.
    let master_key = process::keys::read_or_make(data).map_err(because("cannot have the master key"))?;
    sealing::hold_master_key(&master_key);

    // What the last run left is noted before anything new is written; finishing it goes on while publishers already push.
    let arenas = checked.arena_folder;
    let mut left = folders.find_left(&arenas).map_err(because("cannot look for open recordings"))?;
    let resumptions = Arc::new(Mutex::new(Resumptions::default()));
    folders.announce_paused(&mut left, &resumptions, now);

    let mut last_file = catalog.last_file_id().map_err(|error| StartError(error.to_string()))?;
    if incomplete {
        last_file = last_file.max(rescue::last_file_id(&present).map_err(|error| StartError(error_chain(&error)))?);
    }
    let ids = Arc::new(FileIds::new(last_file.max(disks::last_file_id(&left)), wall_now));
    let serials = Arc::new(AtomicU64::new(1));

    let checksums = Checksums::start(Arc::clone(&storage)).map_err(because("cannot start the checksum thread"))?;
    let unsummed = checksums.sender();
    for (index, left) in left.iter().enumerate().filter_map(|(index, left)| Some((index, left.as_ref()?))) {
        left.unsummed().iter().for_each(|file_id| _ = unsummed.try_send((index, *file_id)));
    }

    let (entry_sender, entry_queue) = bounded(ENTRIES_MAX);
    let entry_watch = entry_queue.clone();
    let unsummed_late = unsummed.clone();
    let entries = spawn("catalog-entry", {
        let (catalog, storage, time_zone) = (catalog.clone(), Arc::clone(&storage), time_zone.clone());
        move || enter_files(&entry_queue, &catalog, (&storage, &unsummed), &time_zone)
    })?;
    let entry_sender: EntrySender = Arc::new(ArcSwapOption::from_pointee(entry_sender));
    let open = Arc::new(OpenRecordings::default());
    let (event_sender, events_stop, events) = start_events(&catalog)?;
    let reserve_bytes = config.record.reserve_mib << 20;
    let mut threads = DiskThreads { disks: Vec::new(), spaces: Vec::new(), storage: Arc::clone(&storage) };
    for index in 0..storage.health.len() {
        let health = Arc::clone(&storage.health[index]);
        let folder = storage.folders.folder(index);
        threads.spaces.push(SpaceWatch::start(folder, reserve_bytes, Arc::clone(&health), mono_now).map_err(because("cannot watch the disk space"))?);
        let disk = Disk::start(DiskSettings {
            index,
            finish: storage.finish[index].clone(),
            descriptors_max: (checked.descriptors.media / storage.health.len()).max(1),
            finished: {
                let (sender, storage) = (Arc::clone(&entry_sender), Arc::clone(&storage));
                Box::new(move |file| {
                    if !enter(&sender, storage.placed(index, file)) {
                        tracing::error!("the catalog thread is gone; the file is entered at the next start");
                    }
                })
            },
            metrics: Arc::clone(&metrics),
            clock: mono_now,
            health,
            open: Arc::clone(&open),
            places: Arc::clone(&storage.places),
            resumption: ResumptionSettings {
                table: Arc::clone(&resumptions),
                policy: Arc::clone(&policy),
                wall: wall_now,
                over: {
                    let events = event_sender.clone();
                    Box::new(move |paused| events.send(resumption_over(paused)))
                },
            },
        })
        .map_err(because("cannot start the disk threads"))?;
        threads.disks.push(disk);
    }

    let (inserts, mistakes) = (folders.inserts(), folders.absent.clone());
    let rebuild_stop = Arc::new(AtomicBool::new(false));
    let waiting = Arc::new(recovery::Waiting::default());
    let recovery = Recovery::start(recovery::Parts {
        folders,
        left,
        recover: {
            let (storage, files, events) = (Arc::clone(&storage), Arc::clone(&entry_sender), event_sender.clone());
            let to_disk: Vec<_> = threads.disks.iter().map(|disk| disk.handle().sender).collect();
            Arc::new(move |index, left| recover_left(&storage, index, left, &files, &to_disk[index], &events))
        },
        appeared: {
            let (storage, catalog, zone, stop) = (Arc::clone(&storage), catalog.clone(), time_zone.clone(), Arc::clone(&rebuild_stop));
            Box::new(move |left, index| {
                // The next start makes those for which there is no place.
                left.unsummed().iter().for_each(|file_id| _ = unsummed_late.try_send((index, *file_id)));
                rescue::enter_late(&storage.present(), &storage.folders.folder(index).label, &catalog, &zone, &stop);
            })
        },
        waiting: Arc::clone(&waiting),
    })
    .map_err(because("cannot start the recovery thread"))?;

    let retention = Retention::start(catalog.clone(), Arc::clone(&storage), wall_now).map_err(because("cannot start the retention thread"))?;

    let order = match config.record.eviction {
        config::Eviction::None => None,
        config::Eviction::Oldest => Some(EvictionOrder::Oldest),
        config::Eviction::Expiring => Some(EvictionOrder::Expiring),
    };
    let eviction = order
        .map(|order| Eviction::start(catalog.clone(), Arc::clone(&storage), reserve_bytes, order, wall_now))
        .transpose()
        .map_err(because("cannot start the eviction thread"))?;
    let job_group = JobGroup::of_service();
    let processor = start_processor(config, &storage.folders, &cores, &catalog, &master_key, job_group.as_ref())?;

    let moov_reserve = if inserts { MoovReserve::Insert } else { MoovReserve::Whole };
    let recorder = RecorderSettings {
        hls_transport_stream: config.record.hls_container == config::HlsContainer::Ts,
        hls_segment_ms,
        trust_encoder_clock: config.record.trust_encoder_clock,
        moov_reserve,
    };
    let arena_bytes = usize::try_from(checked.arena_bytes_per_core).map_err(|_| StartError("ingest.arena_mib is too large".to_owned()))?;
    let handles = segment::Disks::new(threads.disks.iter().map(Disk::handle).collect(), Arc::clone(&storage.places));
    let mut stores = make_stores(&arenas, cores.len(), arena_bytes, &handles, (&ids, &serials, &resumptions))?;
    drop(handles);
    let busy = Arc::new(Busy::new(cores.len()));
    let media = Arc::new(delivery::Context::new(delivery::ContextParts {
        catalog: catalog.clone(),
        storage: Arc::clone(&storage),
        app_id: config.api.app_id,
        clock: wall_now,
        hls_segment_ms,
        open,
        protections,
    }));
    let recaller = clips::recall::start(Arc::clone(&media)).map_err(because("cannot start the thread that reads what is kept"))?;
    stores.iter_mut().for_each(|store| store.set_recaller(Arc::clone(&recaller)));
    drop(recaller);
    let senders = Senders::start(&delivery_settings(config, &busy), Arc::clone(&media)).map_err(because("cannot start the delivery threads"))?;
    let mut fronts = media_listeners.into_iter().map(|listener| delivery::front::task(listener, Arc::clone(&senders)));
    let parts = cores.iter().zip(listeners).zip(tls_listeners).zip(stores);
    let parts =
        parts.map(|(((&cpu, listener), tls_listener), store)| CoreParts { cpu, listener, tls_listener, store, beside: fronts.next() }).collect();
    let settings = IngestSettings {
        tick: Duration::from_millis(config.ingest.tick_ms),
        durability: Duration::from_millis(config.record.durability_ms),
        handshake_timeout: Duration::from_secs(config.ingest.handshake_timeout_s),
        idle_timeout: Duration::from_secs(config.ingest.idle_timeout_s),
        publishers_max: config.ingest.publishers_max,
        bytes_per_second_max: config.ingest.bandwidth_max_mib << 20,
        sockets_max: checked.descriptors.sockets,
        duplicate_publisher: match config.ingest.duplicate_publisher {
            config::DuplicatePublisher::Replace => ingest::DuplicatePublisher::Replace,
            config::DuplicatePublisher::Refuse => ingest::DuplicatePublisher::Refuse,
        },
        default_domain: config.ingest.default_domain.clone(),
        added_domains_only: config.ingest.added_domains_only,
        recorder,
        tls: tls.clone(),
    };
    let dispatch = dispatch_settings(&config.callbacks);
    let dispatcher =
        Dispatcher::start(catalog.clone(), dispatch.clone(), Arc::clone(&metrics), wall_now).map_err(because("cannot start the callback thread"))?;
    let context = IngestContext {
        settings,
        policy: Arc::clone(&policy),
        live: Arc::clone(&live),
        metrics: Arc::clone(&metrics),
        clock,
        events: event_sender,
        busy,
    };
    let ingest = Ingest::start(context, parts).map_err(|error| StartError(error.to_string()))?;

    let certificates = tls.map(|acceptor| ingest::tls::CertificateWatch::start(certificate_files(config), acceptor));
    let certificates = certificates.transpose().map_err(because("cannot start the certificates thread"))?;
    disks::register_gauges(&metrics, &threads, mono_now);
    // The channel must end when its last real sender is gone, so the gauge watches the receiving side.
    metrics.register_catalog_queue(Box::new(move || entry_watch.len() as f64));
    let maker = ClipMaker {
        catalog: catalog.clone(),
        media: Arc::clone(&media),
        storage: Arc::clone(&storage),
        ids: Arc::clone(&ids),
        clock: wall_now,
        public_base: public_base.clone(),
        app_id: config.api.app_id,
        describe: edit_output,
        attempts_max: u32::try_from(config.process.attempts_max).unwrap_or(u32::MAX),
        join: {
            let joiner = processor.joiner();
            Some(Box::new(move |task, order, place, stop, progress| joiner.join(task, order, place, stop, progress)))
        },
    };
    let clips = Clips::start(maker).map_err(because("cannot start the thread of clips"))?;
    let access = Arc::new(ArcSwap::from_pointee(Access::new(&config.api)));
    let context = Arc::new(ControlContext {
        catalog: catalog.clone(),
        policy,
        live,
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
        media,
        clips: Arc::clone(&clips),
        public_base,
        app_id: config.api.app_id,
        clock: wall_now,
        metrics_text: {
            let metrics = Arc::clone(&metrics);
            Box::new(move || metrics.render())
        },
        slow_passes: {
            let metrics = Arc::clone(&metrics);
            Box::new(move || metrics.slow_passes())
        },
        health: health_answer(catalog.clone(), processor.encoder(), Arc::clone(&storage), (mistakes, waiting, catalog_watch.trouble())),
        url_is_safe: {
            let forbidden = dispatch.forbidden.clone();
            Box::new(move |url| forbidden.allow(url))
        },
        limits: ControlLimits {
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
        },
        about: About::new(config, wall_now()),
        master_key,
        access: Arc::clone(&access),
    });
    // Weakly: the context holds the media's.
    let pages = Arc::downgrade(&context);
    let page: delivery::Pages = Box::new(move |request| pages.upgrade().and_then(|context| control::media::page(&context, request)));
    // Set once.
    let _ = context.media.pages.set(page);
    let server = Server::start(http, context).map_err(because("cannot start the HTTP threads"))?;

    // Beside everything else: publishers push, and what is recorded now is entered as always.
    let rebuild = incomplete.then(|| {
        let (catalog, stop) = (catalog.clone(), Arc::clone(&rebuild_stop));
        spawn("catalog-rebuild", move || rescue::rebuild_beside(&present, &absent_labels, &catalog, &time_zone, &stop))
    });
    let rebuild = rebuild.transpose()?;

    println!("{}", config::banner(config, cores.len(), first_run, media_address));
    let shared = Arc::clone(ingest.shared());
    let supervisor =
        supervise::Supervisor::ready("recording", move || shared.alive(STANDSTILL)).map_err(because("cannot tell systemd that we are ready"))?;
    Ok(Running {
        supervisor,
        server,
        clips,
        senders,
        access,
        ingest,
        disks: threads,
        recovery,
        rebuild,
        rebuild_stop,
        checksums,
        entries,
        entry_sender,
        retention,
        eviction,
        processor,
        certificates,
        events,
        events_stop,
        dispatcher,
        catalog_watch,
        catalog,
        arenas,
        _lock: checked.lock,
    })
}

impl Running {
    fn run_until(self, mut signals: signal_hook::iterator::Signals, config_file: &Path) {
        let signal = signals.forever().find(|signal| {
            if *signal == SIGHUP {
                reload(config_file, &self.access);
                self.certificates.iter().for_each(ingest::tls::CertificateWatch::reload);
            }
            *signal != SIGHUP
        });
        tracing::info!(signal, "stopping: every open file is finished first");
        if let Err(error) = self.supervisor.stopping("finishing open files") {
            tracing::warn!(%error, "cannot reach systemd's notification socket");
        }
        // A second signal ends us at once; what is open is then finished at the next start.
        let handle = signals.handle();
        let impatient = spawn("signals", move || {
            if signals.forever().any(|signal| signal != SIGHUP) {
                tracing::warn!("stopped at once; open files are finished at the next start");
                std::process::exit(1);
            }
        });
        let watch = supervise::StopWatch::start(|| {
            tracing::error!("the stop is given up; what is open is finished at the next start");
            std::process::exit(1);
        });
        let part = |name| watch.iter().for_each(|watch| watch.part(name));
        self.rebuild_stop.store(true, Ordering::Relaxed);
        let mut parting = Parting::new(Arc::clone(&self.disks.storage));
        part("HTTP");
        parting.wait("HTTP", move || self.server.stop());
        part("clips");
        parting.wait("clips", move || self.clips.stop());
        part("the ingest cores: files are closed");
        self.ingest.stop();
        part("delivery");
        parting.wait("delivery", move || self.senders.stop());
        part("the disks: recordings are finished");
        // What goes on of it feeds the disks.
        let recovery = self.recovery.stop();
        let all_written = self.disks.stop();
        part("recovery");
        recovery.join(all_written);
        let join = |what: &'static str, thread: JoinHandle<()>| {
            move || {
                if thread.join().is_err() {
                    tracing::error!("the thread of {what} panicked");
                }
            }
        };
        part("the rebuilding of the catalog");
        if let Some(rebuild) = self.rebuild {
            parting.wait("the rebuilding of the catalog", join("the rebuilding of the catalog", rebuild));
        }
        part("the catalog: recordings are entered");
        self.entry_sender.store(None);
        parting.wait("catalog entries", join("catalog entries", self.entries));
        part("checksums");
        self.checksums.stop(all_written);
        part("stream events");
        drop(self.events_stop);
        parting.wait("stream events", join("stream events", self.events));
        part("task flows");
        parting.wait("task flows", move || self.processor.stop());
        part("retention");
        parting.wait("retention", move || {
            self.retention.stop();
            self.eviction.into_iter().for_each(Eviction::stop);
        });
        if let Some(certificates) = self.certificates {
            certificates.stop();
        }
        part("callbacks");
        // Last of those who use the catalog: everything else has told what there is to tell.
        parting.wait("callbacks", move || self.dispatcher.stop());
        part("the catalog");
        drop(self.catalog_watch);
        parting.wait("the catalog", move || self.catalog.close());
        // Everything in it is on the disk, or the next start brings it there.
        if all_written && let Err(error) = aside::remove_arenas(&self.arenas) {
            tracing::warn!(path = %self.arenas.display(), %error, "the arena could not be removed");
        }
        handle.close();
        if let Ok(impatient) = impatient {
            let _ = impatient.join();
        }
        drop(watch);
        tracing::info!("stopped");
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(because(format_args!("cannot start the {name} thread")))
}

fn listen_sentence(key: &'static str, error: &IngestError) -> StartError {
    match error {
        IngestError::Listen { address, source } => StartError(bind_error_sentence(key, *address, source)),
        IngestError::Executor { .. } | IngestError::Thread { .. } => StartError(error.to_string()),
    }
}

/// The port of the media listener that was chosen at the last start, where the settings leave it to us.
const MEDIA_PORT_NAME: &str = "delivery.port";

/// Binds the media listeners, one for each core; none if recordings come from the HTTP port.
fn listen_for_media(config: &Config, data: &Path, cores: usize) -> Result<Vec<TcpListener>, StartError> {
    let (preferred, fallback) = match config.delivery_listen() {
        DeliveryListen::Off => return Ok(Vec::new()),
        DeliveryListen::At(address) => {
            return ingest::listen(address, cores).map_err(|error| match error {
                IngestError::Listen { address, source } => StartError(bind_error_sentence("delivery.listen", address, &source)),
                error => StartError(error.to_string()),
            });
        }
        DeliveryListen::Auto { preferred, fallback } => (preferred, fallback),
    };
    let note = data.join(MEDIA_PORT_NAME);
    let last = std::fs::read_to_string(&note).ok().and_then(|text| text.trim().parse::<u16>().ok());
    let last = last.filter(|port| *port != 0).map(|port| SocketAddr::new(fallback.ip(), port));
    for address in [preferred, last, Some(fallback)].into_iter().flatten() {
        match ingest::listen(address, cores) {
            Ok(listeners) => {
                let bound = listeners.first().and_then(|listener| listener.local_addr().ok());
                if let Some(bound) = bound.filter(|bound| Some(*bound) != preferred && Some(*bound) != last)
                    && let Err(error) = std::fs::write(&note, format!("{}\n", bound.port()))
                {
                    tracing::warn!(path = %note.display(), %error, "the media port is another one at the next start");
                }
                return Ok(listeners);
            }
            Err(error) => tracing::info!(%error, "another port is taken for media"),
        }
    }
    tracing::warn!("no port for media is free: recordings are served by http.listen; set delivery.listen");
    Ok(Vec::new())
}

fn delivery_settings(config: &Config, busy: &Arc<Busy>) -> DeliverySettings {
    DeliverySettings {
        connections_max: config.delivery.connections_max,
        senders: config.delivery.senders,
        idle_timeout: Duration::from_secs(config.delivery.idle_timeout_s),
        when_busy: match config.delivery.when_busy {
            config::WhenBusy::Shed => WhenBusy::Shed,
            config::WhenBusy::Serve => WhenBusy::Serve,
        },
        busy: Arc::clone(busy),
    }
}

fn certificate_files(config: &Config) -> Vec<ingest::tls::CertificateFiles> {
    let files = |tls: &config::TlsCertificate| ingest::tls::CertificateFiles { certificate: tls.certificate.clone(), key: tls.key.clone() };
    config.ingest.tls_certificates.iter().map(files).collect()
}

/// The way of stream events from the cores to the catalog.
fn start_events(catalog: &Catalog) -> Result<(EventSender, Sender<()>, JoinHandle<()>), StartError> {
    let (sender, queue) = bounded(intake::EVENTS_MAX);
    let (stop, stopped) = bounded(0);
    let lost = Arc::new(AtomicU64::new(0));
    let thread = spawn("live-events", {
        let (catalog, lost) = (catalog.clone(), Arc::clone(&lost));
        move || intake::run(&queue, &stopped, &catalog, wall_now, &lost)
    })?;
    Ok((EventSender::new(sender, lost), stop, thread))
}

fn dispatch_settings(config: &config::CallbackConfig) -> DispatchSettings {
    DispatchSettings {
        retries_max: config.retries_max,
        retry_interval: Duration::from_millis(config.retry_interval_ms),
        answer_timeout: Duration::from_millis(config.answer_timeout_ms),
        requests_max: config.requests_max,
        requests_per_address_max: config.requests_per_address_max,
        forbidden: Networks(config.forbidden_networks.clone()),
        webhook_key: config.webhook_secret.expose(),
    }
}

/// The template of a new catalog's rule: every stream as MP4 and HLS.
fn first_run_template() -> RecordTemplate {
    let mut template = RecordTemplate::empty(TemplateId(0), "first-run");
    template.description = "Every stream as MP4 and HLS. Made at the first start.".to_owned();
    template.mp4.enable = true;
    template.hls.enable = true;
    template
}

/// Signs the addresses in a value, in files of the application given or of the one that the catalog knows.
type Signer = Arc<dyn Fn(&mut serde_json::Value, Option<u64>) + Send + Sync>;

fn signer(catalog: &Catalog, protections: &Arc<Protections>, public_base: &str, app_id: u64) -> Signer {
    let (catalog, protections, public_base) = (catalog.downgrade(), Arc::clone(protections), public_base.to_owned());
    Arc::new(move |value, app| {
        let Some(catalog) = catalog.upgrade() else { return };
        let (now_s, app) = (wall_now().unix_seconds(), app.unwrap_or(0));
        let signing = Signing { protections: &protections, catalog: &catalog, public_base: &public_base, app_id, now_s, app, terms: None };
        signing.all(value);
    })
}

/// Makes the cores' arenas, all at once: populating memory takes a while.
fn make_stores(
    folder: &Path,
    cores: usize,
    bytes: usize,
    to_disk: &segment::Disks,
    (ids, serials, resumptions): (&Arc<FileIds>, &Arc<AtomicU64>, &Arc<Mutex<Resumptions>>),
) -> Result<Vec<CoreStore>, StartError> {
    let arenas: Vec<io::Result<Arena>> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..cores).map(|core| scope.spawn(move || make_arena(&folder.join(format!("core-{core}.arena")), bytes))).collect();
        makers.into_iter().map(|maker| maker.join().unwrap_or_else(|_| Err(io::Error::other("the arena thread panicked")))).collect()
    });
    arenas
        .into_iter()
        .map(|arena| {
            let remedy = format_args!(
                "cannot allocate {} MiB for each core in {}: set ingest.arena_mib or ingest.arena_folder",
                bytes >> 20,
                folder.display()
            )
            .to_string();
            arena
                .map(|arena| CoreStore::new(arena, to_disk.clone(), Arc::clone(ids), Arc::clone(serials), Arc::clone(resumptions)))
                .map_err(because(remedy))
        })
        .collect()
}

/// An arena of so many bytes, or of less if what the last run left takes the room: recording goes on meanwhile.
fn make_arena(path: &Path, bytes: usize) -> io::Result<Arena> {
    match Arena::create(path, bytes) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull && bytes / 2 >= ARENA_BYTES_MIN => {
            let (mib, path_shown) = (bytes >> 21, path.display());
            tracing::warn!(path = %path_shown, mib, "there is no room for the whole arena: what an earlier run left takes it; using less until the next start");
            make_arena(path, bytes / 2)
        }
        made => made,
    }
}

/// Enters finished files into the catalog, many at once when they come in bursts. A catalog that refuses costs time, not files.
fn enter_files(
    queue: &Receiver<FinishedFile>,
    catalog: &Catalog,
    (storage, unsummed): (&Storage, &Sender<(usize, FileId)>),
    zone: &jiff::tz::TimeZone,
) {
    let mut waiting: Vec<FinishedFile> = Vec::new();
    let mut ended = false;
    while !(ended && waiting.is_empty()) {
        if waiting.is_empty() {
            match queue.recv() {
                Ok(file) => waiting.push(file),
                Err(_) => return,
            }
            std::thread::sleep(ENTRY_GATHER);
        }
        while waiting.len() < ENTRY_BATCH_MAX {
            match queue.try_recv() {
                Ok(file) => waiting.push(file),
                Err(error) => {
                    ended |= error.is_disconnected();
                    break;
                }
            }
        }
        let named = waiting.iter().map(|file| (file.clone(), naming::catalog_name(&file.identity, file.end, zone))).collect();
        match catalog.enter_files(named, wall_now()) {
            Ok(fell_back) => {
                for FellBack { file_id, gone } in fell_back {
                    tracing::warn!(%file_id, %gone, "what the template of a file names is not there");
                }
                for file in waiting.drain(..) {
                    entered(&file, storage, unsummed);
                }
            }
            Err(error) => {
                tracing::error!(%error, files = waiting.len(), "the catalog takes no files; trying again");
                if ended {
                    tracing::error!(files = waiting.len(), "the files are entered at the next start");
                    return;
                }
                // Waits for the next file or the time, whichever is first.
                match queue.recv_timeout(ENTRY_RETRY) {
                    Ok(file) => waiting.push(file),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => ended = true,
                }
            }
        }
    }
}

fn entered(file: &FinishedFile, storage: &Storage, unsummed: &Sender<(usize, FileId)>) {
    tracing::info!(
        file_id = %file.identity.file_id,
        stream = %file.identity.key,
        format = file.identity.format.name(),
        bytes = file.size_bytes,
        duration_ms = file.summary.duration_ms,
        reason = ?file.reason,
        path = %format_args!("{}/{}", file.folder, file.entry),
        "file finished"
    );
    storage.places.forget(file.identity.file_id);
    // A disk that hangs by now keeps its note; the file is looked at again at the next start.
    let Ok((index, settings, within)) = storage.locate(&file.folder) else { return };
    let file_id = file.identity.file_id;
    if segment::unsummed::lacks(settings, within, file) && segment::unsummed::note(settings, file_id).is_ok() {
        // Full: the next start does it.
        let _ = unsummed.try_send((index, file_id));
        return;
    }
    let note = finish::note_path(settings, file_id);
    if let Err(error) = std::fs::remove_file(&note)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %note.display(), %error, "the note of an entered file could not be removed");
    }
}

fn recover_left(
    storage: &Storage,
    index: usize,
    left: &mut LeftBehind,
    files: &EntrySender,
    to_disk: &Sender<DiskCommand>,
    events: &EventSender,
) -> Recovered {
    let started = Instant::now();
    // Several files of one may have been open: the newest was still being recorded, others were being finished.
    let mut ended = Vec::new();
    let recovered = left.recover(&storage.finish[index], |found| {
        let is_taken = match found {
            Found::Finished(file) => {
                let identity = &file.identity;
                let recording = (identity.session, identity.format);
                let tells = !matches!(identity.source, RecordingSource::Ring | RecordingSource::Made(_)) && identity.resume.is_none();
                if file.reason == EndReason::Recovered && tells && !ended.contains(&recording) {
                    ended.push(recording);
                    events.send(cut_off(&file));
                }
                enter(files, storage.placed(index, *file))
            }
            Found::Paused(paused) => to_disk.send(DiskCommand::PauseRecording(Box::new(paused))).is_ok(),
            Found::Over(paused) => {
                events.send(resumption_over(&paused));
                true
            }
        };
        if !is_taken {
            tracing::error!("what was recovered is not taken; it is looked at again at the next start");
        }
    });
    if recovered != (Recovered { waiting: recovered.waiting, ..Recovered::default() }) {
        tracing::info!(
            folder = %storage.folders.root(index).display(),
            arena_bytes = recovered.arena_bytes,
            finished = recovered.finished,
            adopted = recovered.adopted,
            empty = recovered.empty,
            failed = recovered.failed,
            paused = recovered.paused,
            waiting = recovered.waiting,
            seconds = started.elapsed().as_secs_f64(),
            "recovered what the last run left"
        );
    }
    let is_told = |identity: &RecordingIdentity| !matches!(identity.source, RecordingSource::Ring | RecordingSource::Made(_));
    left.take_news(&storage.finish[index]).iter().filter(|identity| is_told(identity)).for_each(|identity| events.send(waits_for_its_disk(identity)));
    recovered
}

/// Nobody went on with an interrupted recording: it has ended.
fn resumption_over(paused: &PausedRecording) -> LiveEvent {
    let publisher = Publisher {
        key: paused.key.clone(),
        publication: paused.publication,
        publish_time: paused.end,
        client_ip: String::new(),
        stream_param: String::new(),
        alias_domain: String::new(),
    };
    recording_over(publisher, paused.session, paused.source.clone(), crate::units::Format::Hls)
}

/// The end of the last run ended this recording.
fn cut_off(file: &FinishedFile) -> LiveEvent {
    let identity = &file.identity;
    recording_over(publisher_of(identity), identity.session, identity.source.clone(), identity.format)
}

fn publisher_of(identity: &RecordingIdentity) -> Publisher {
    Publisher {
        key: identity.key.clone(),
        publication: identity.publication,
        publish_time: identity.start,
        client_ip: String::new(),
        stream_param: identity.stream_param.clone(),
        alias_domain: identity.alias_domain.clone(),
    }
}

/// The disk does not take what the last run had received for this recording.
fn waits_for_its_disk(identity: &RecordingIdentity) -> LiveEvent {
    let kind = RecordExceptionKind::CannotRead;
    let description =
        "the server ended, and the disk does not take now what it had received; the recording is finished when the disk does".to_owned();
    let exceptions = vec![RecordException { kind, occurs: 1, description }];
    let kind = LiveEventKind::RecordException { session: identity.session, format: identity.format, level: kind.level(), exceptions };
    LiveEvent { publisher: Arc::new(publisher_of(identity)), time: wall_now(), kind }
}

fn recording_over(publisher: Publisher, session: RecordSessionId, source: RecordingSource, format: crate::units::Format) -> LiveEvent {
    let kind = LiveEventKind::RecordState { session, source, format, state: RecordState::Ended };
    LiveEvent { publisher: Arc::new(publisher), time: wall_now(), kind }
}

/// The workers of task flows. They keep away from the CPUs that take streams in, where there are others.
fn start_processor(
    config: &Config,
    folders: &DataFolders,
    cores: &[usize],
    catalog: &Catalog,
    master_key: &MasterKey,
    jobs: Option<&JobGroup>,
) -> Result<Processor, StartError> {
    let settings = &config.process;
    let mut cpus = settings.cpus.clone();
    if cpus.is_empty()
        && let Ok(usable) = rustix::thread::sched_getaffinity(None)
    {
        cpus = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| usable.is_set(*cpu) && !cores.contains(cpu)).collect();
    }
    let time_max = Duration::from_secs(settings.timeout_s);
    let tools = Tools {
        ffmpeg: settings.ffmpeg.clone(),
        ffprobe: settings.ffprobe.clone(),
        launcher: launch::launcher(&Manners {
            nice: settings.nice,
            cpus,
            io_idle: settings.io_idle,
            cgroup: jobs.map(|group| group.folder().to_owned()),
        }),
        encoder: Encoder { preset: settings.preset.clone() },
        bounds: Bounds { time_max, silence_max: ENCODER_SILENCE_MAX.min(time_max) },
        folders: without_links(folders),
        master_key: master_key.clone(),
        key_rotation: settings.key_rotation_segments,
    };
    let settings = ProcessSettings {
        jobs_max: settings.jobs_max,
        jobs_per_app_max: settings.jobs_per_app_max,
        attempts_max: u32::try_from(settings.attempts_max).unwrap_or(u32::MAX),
    };
    Processor::start(catalog.clone(), settings, tools, wall_now).map_err(because("cannot start the workers of task flows"))
}

/// The encoder has a working folder of its own.
fn without_links(folders: &DataFolders) -> DataFolders {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let further = folders.iter().skip(1).map(|folder| DataFolder { label: folder.label.clone(), path: real(&folder.path) });
    DataFolders::new(real(folders.first()), further)
}

/// 200 while files are recorded and entered, 503 with the reason when not; the state of each disk either way. With one of several disks in trouble recording
/// goes on: "degraded", and 200.
fn health_answer(
    catalog: Catalog,
    encoder: EncoderState,
    storage: Arc<Storage>,
    (absent, waiting, trouble): (Vec<Absent>, Arc<recovery::Waiting>, CatalogTrouble),
) -> Box<dyn Fn() -> Result<String, String> + Send + Sync> {
    Box::new(move || {
        let catalog = catalog.last_file_id().err().map(|error| error.to_string());
        let (disks, disks_are_well, records) = disks::describe(&storage, &absent);
        let works = catalog.is_none() && records;
        // Recording goes on, and what is recorded is found at the next start.
        let trouble = trouble.get();
        let well = works && disks_are_well && waiting.counts().is_none() && trouble.is_none();
        // Recording goes on without an encoder: what is missing is said, and all is well.
        let encoder = match &*encoder.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Ok(version) => serde_json::json!({ "encoder": version }),
            Err(sentence) => serde_json::json!({ "error": sentence }),
        };
        let mut answer = serde_json::json!({"status": if well { "ok" } else { "degraded" }, "disks": disks, "processing": encoder});
        if let Some((recordings, arenas)) = waiting.counts() {
            // What an earlier run had received, and a disk does not take.
            answer["recovery"] = serde_json::json!({"waiting_recordings": recordings, "waiting_arenas": arenas});
        }
        if let Some(error) = catalog.or(trouble) {
            answer["catalog"] = error.into();
        }
        if works { Ok(answer.to_string()) } else { Err(answer.to_string()) }
    })
}
