//! The parts that are made of settings.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};

use crate::catalog::Catalog;
use crate::config::{Config, DeliveryListen};
use crate::control::signing::Signing;
use crate::delivery::protect::Protections;
use crate::delivery::{DeliverySettings, WhenBusy};
use crate::domain::content_key::MasterKey;
use crate::domain::{Busy, DataFolder, DataFolders, RecordTemplate, Resumptions};
use crate::ingest::{EventSender, IngestError};
use crate::logging::error_chain;
use crate::notify::{DispatchSettings, Networks, intake};
use crate::preflight::bind_error_sentence;
use crate::process::arguments::Encoder;
use crate::process::cgroup::JobGroup;
use crate::process::child::Bounds;
use crate::process::jobs::Tools;
use crate::process::launch::Manners;
use crate::process::{ProcessSettings, Processor, launch};
use crate::segment::{Arena, CoreStore, FileIds};
use crate::units::TemplateId;
use crate::{config, ingest, segment};

use super::{StartError, because, spawn, wall_now};

/// An arena is not made smaller than this.
const ARENA_BYTES_MIN: usize = 8 << 20;

/// An encoder that says nothing for this long hangs: it tells how far it is twice a second.
const ENCODER_SILENCE_MAX: Duration = Duration::from_secs(300);

pub(super) fn listen_sentence(key: &'static str, error: &IngestError) -> StartError {
    match error {
        IngestError::Listen { address, source } => StartError(bind_error_sentence(key, *address, source)),
        IngestError::Executor { .. } | IngestError::Thread { .. } => StartError(error.to_string()),
    }
}

/// The port of the media listener that was chosen at the last start, where the settings leave it to us.
const MEDIA_PORT_NAME: &str = "delivery.port";

/// Binds the media listeners, one for each core; none if recordings come from the HTTP port.
pub(super) fn listen_for_media(config: &Config, data: &Path, cores: usize) -> Result<Vec<TcpListener>, StartError> {
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

pub(super) fn delivery_settings(config: &Config, busy: &Arc<Busy>) -> DeliverySettings {
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

pub(super) fn certificate_files(config: &Config) -> Vec<ingest::tls::CertificateFiles> {
    let files = |tls: &config::TlsCertificate| ingest::tls::CertificateFiles { certificate: tls.certificate.clone(), key: tls.key.clone() };
    config.ingest.tls_certificates.iter().map(files).collect()
}

/// What RTMPS begins with: the certificates of the settings.
pub(super) fn tls_acceptor(config: &Config) -> Result<ingest::tls::Acceptor, StartError> {
    let server = ingest::tls::server_config(&certificate_files(config));
    server.map(ingest::tls::Acceptor::from).map_err(|error| StartError(format!("ingest.tls_certificates: {}", error_chain(&error))))
}

/// The way of stream events from the cores to the catalog.
pub(super) fn start_events(catalog: &Catalog) -> Result<(EventSender, Sender<()>, JoinHandle<()>), StartError> {
    let (sender, queue) = bounded(intake::EVENTS_MAX);
    let (stop, stopped) = bounded(0);
    let lost = Arc::new(AtomicU64::new(0));
    let thread = spawn("live-events", {
        let (catalog, lost) = (catalog.clone(), Arc::clone(&lost));
        move || intake::run(&queue, &stopped, &catalog, wall_now, &lost)
    })?;
    Ok((EventSender::new(sender, lost), stop, thread))
}

pub(super) fn dispatch_settings(config: &config::CallbackConfig) -> DispatchSettings {
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
pub(super) fn first_run_template() -> RecordTemplate {
    let mut template = RecordTemplate::empty(TemplateId(0), "first-run");
    template.description = "Every stream as MP4 and HLS. Made at the first start.".to_owned();
    template.mp4.enable = true;
    template.hls.enable = true;
    template
}

/// Signs the addresses in a value, in files of the application given or of the one that the catalog knows.
type Signer = Arc<dyn Fn(&mut serde_json::Value, Option<u64>) + Send + Sync>;

pub(super) fn signer(catalog: &Catalog, protections: &Arc<Protections>, public_base: &str, app_id: u64) -> Signer {
    let (catalog, protections, public_base) = (catalog.downgrade(), Arc::clone(protections), public_base.to_owned());
    Arc::new(move |value, app| {
        let Some(catalog) = catalog.upgrade() else { return };
        let (now_s, app) = (wall_now().unix_seconds(), app.unwrap_or(0));
        let signing = Signing { protections: &protections, catalog: &catalog, public_base: &public_base, app_id, now_s, app, terms: None };
        signing.all(value);
    })
}

/// Makes the cores' arenas, all at once: populating memory takes a while.
pub(super) fn make_stores(
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

/// The workers of task flows. They keep away from the CPUs that take streams in, where there are others.
pub(super) fn start_processor(
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
