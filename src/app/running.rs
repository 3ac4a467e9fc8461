//! The running appliance, until it is stopped: what is stopped in which order.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use crossbeam::channel::Sender;
use signal_hook::consts::SIGHUP;

use crate::catalog::Catalog;
use crate::catalog_watch::CatalogWatch;
use crate::clips::Clips;
use crate::config::Config;
use crate::control::{Access, Server};
use crate::delivery::sender::Senders;
use crate::disks::{Checksums, DiskThreads, Parting};
use crate::ingest::Ingest;
use crate::logging::{self, error_chain};
use crate::notify::Dispatcher;
use crate::process::Processor;
use crate::recovery::Recovery;
use crate::retention::{Eviction, Retention};
use crate::segment::aside;
use crate::{ingest, supervise};

use super::entry::EntrySender;
use super::spawn;

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
pub(super) struct Running {
    pub(super) supervisor: supervise::Supervisor,
    pub(super) server: Server,
    pub(super) clips: Arc<Clips>,
    pub(super) senders: Arc<Senders>,
    pub(super) access: Arc<ArcSwap<Access>>,
    pub(super) ingest: Ingest,
    pub(super) disks: DiskThreads,
    pub(super) recovery: Recovery,
    /// Enters the files of a catalog that was lost.
    pub(super) rebuild: Option<JoinHandle<()>>,
    pub(super) rebuild_stop: Arc<AtomicBool>,
    pub(super) checksums: Checksums,
    pub(super) entries: JoinHandle<()>,
    pub(super) entry_sender: EntrySender,
    pub(super) events: JoinHandle<()>,
    /// The events thread ends when this is gone.
    pub(super) events_stop: Sender<()>,
    pub(super) dispatcher: Dispatcher,
    pub(super) retention: Retention,
    pub(super) eviction: Option<Eviction>,
    pub(super) processor: Processor,
    pub(super) certificates: Option<ingest::tls::CertificateWatch>,
    pub(super) catalog_watch: CatalogWatch,
    pub(super) catalog: Catalog,
    pub(super) arenas: PathBuf,
    /// Held as long as we run: two appliances on one data folder would destroy each other's files.
    pub(super) _lock: File,
}

impl Running {
    pub(super) fn run_until(self, mut signals: signal_hook::iterator::Signals, config_file: &Path) {
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
                logging::flush();
                std::process::exit(1);
            }
        });
        let watch = supervise::StopWatch::start(|| {
            tracing::error!("the stop is given up; what is open is finished at the next start");
            logging::flush();
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
