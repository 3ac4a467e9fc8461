//! The wiring: builds every part, joins them by bounded channels, starts and stops them in order.

mod entry;
mod health;
mod left;
mod parts;
mod running;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam::channel::bounded;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::catalog::{MediaRow, OlderTaskLimits};
use crate::catalog_watch::CatalogWatch;
use crate::clips::{ClipMaker, Clips};
use crate::config::Config;
use crate::control::actions::distribution::protections as protections_of;
use crate::control::actions::events::event_content;
use crate::control::actions::media_info::{edit_output, media_url};
use crate::control::{About, Access, ControlContext, ControlLimits, Server};
use crate::delivery::protect::Protections;
use crate::delivery::sender::Senders;
use crate::disks::{Checksums, DiskThreads, Folders};
use crate::domain::{Busy, LiveStreams, Policy, Resumptions, StreamEnd, policy, sealing};
use crate::ingest::{Clock, CoreParts, Ingest, IngestContext, IngestSettings};
use crate::logging::error_chain;
use crate::metrics::Metrics;
use crate::notify::{Bodies, Dispatcher};
use crate::preflight::{bind_error_sentence, preflight};
use crate::process::cgroup::JobGroup;
use crate::recorder::{MoovReserve, RecorderSettings};
use crate::recovery::Recovery;
use crate::retention::{Eviction, EvictionOrder, Retention};
use crate::segment::disk::{DiskSettings, ResumptionSettings};
use crate::segment::open::OpenRecordings;
use crate::segment::{Disk, FileIds, SpaceWatch};
use crate::units::{MonoTime, WallTime};
use crate::{clips, config, control, delivery, disks, ingest, process, recovery, rescue, segment, supervise};

use self::entry::{ENTRIES_MAX, EntrySender, enter, enter_files};
use self::health::health_answer;
use self::left::{recover_left, resumption_over};
use self::parts::{
    certificate_files, delivery_settings, dispatch_settings, first_run_template, listen_for_media, listen_sentence, make_stores, signer,
    start_events, start_processor,
};
use self::running::Running;

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
    let mut fronts = media_listeners.into_iter().map(|listener| {
        let mut front = delivery::front::Front::new(listener, Arc::clone(&senders));
        Box::new(move |now| front.pass(now)) as ingest::Beside
    });
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

    // Nobody may be there to read it.
    let _ = writeln!(io::stdout(), "{}", config::banner(config, cores.len(), first_run, media_address));
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
        catalog_watch,
        events,
        events_stop,
        dispatcher,
        catalog,
        arenas,
        _lock: checked.lock,
    })
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(because(format_args!("cannot start the {name} thread")))
}
