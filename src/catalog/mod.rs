//! The catalog: templates, rules, tasks and finished files in SQLite. One writer thread, several read connections.
//!
//! A write returns when it is committed and synced; a read sees every write that returned before it began. The methods are grouped by what they are
//! about: `templates`, `rules`, `tasks`, `files`, `search`, `modify`, `removal`, `apps`, `classes`, `definitions`, `flows`, `events`, `domains`, `forbids`,
//! `stream_events`, `running_recordings`, `vod_tasks`, `callbacks`, `outbox`.

mod apps;
mod callbacks;
mod classes;
mod definitions;
mod domains;
mod events;
mod files;
mod flows;
mod forbids;
mod index;
mod live_events;
mod modify;
mod outbox;
mod policy_copy;
mod readers;
mod reindex;
mod removal;
mod rules;
mod running_recordings;
mod schema;
mod search;
mod signal;
mod stream_events;
mod tasks;
mod templates;
mod vod_tasks;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rusqlite::Connection;

pub use callbacks::{Callback, CallbackWriter};
pub use classes::{ClassOfFile, ClassRefusal};
pub use definitions::{NamedKind, Stored};
pub use events::{CatalogEvent, EVENTS_PER_PULL, EventWriter, PulledEvent};
pub use files::{FellBack, Gone};
pub use flows::{FlowOrder, flow_of};
pub use modify::MediaChange;
pub use outbox::{Attempt, Message, MessageInfo, MessageQuery, MessageSign, MessageState, Then};
pub use templates::Template;

use crate::domain::policy::default_task_template;
use crate::domain::vod::MediaExtras;
use crate::domain::{FinishedFile, RecordTemplate};
use crate::units::{FileId, Format, TaskId, WallTime};

pub use stream_events::{StreamEvent, StreamEventPage, StreamEventQuery};
pub use tasks::OlderTaskLimits;
pub use vod_tasks::VodTaskQuery;

use policy_copy::PolicyCopy;
use readers::Readers;
use signal::Signal;
use writer::Writer;

#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("no such entry")]
    NotFound,
    #[error("the entry exists")]
    Exists,
    #[error("the entry is in use")]
    InUse,
    #[error("the limit of {limit} is reached")]
    Limit { limit: u64 },
    #[error("the limit of {limit} within a day is reached")]
    DayLimit { limit: u64 },
    /// The catalog is locked or full; recording goes on without it.
    #[error("catalog: {0}")]
    Storage(String),
    /// The file is no database, or not the one that was written; recording goes on without it.
    #[error("the catalog is damaged: {0}")]
    Damaged(String),
}

impl CatalogError {
    fn closed() -> Self {
        Self::Storage("the catalog is closed".to_owned())
    }

    /// The same with the file's name in front.
    fn within(self, path: &Path) -> Self {
        match self {
            Self::Storage(what) => Self::Storage(format!("{}: {what}", path.display())),
            Self::Damaged(what) => Self::Damaged(format!("{}: {what}", path.display())),
            other => other,
        }
    }

    /// A row that holds what this version cannot read.
    fn damaged(what: &str, error: impl std::fmt::Display) -> Self {
        Self::Storage(format!("a stored {what} cannot be read: {error}"))
    }
}

impl From<rusqlite::Error> for CatalogError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged(error.to_string()),
            _ => Self::Storage(error.to_string()),
        }
    }
}

/// Handle to the catalog; cheap to clone, usable from any thread of the control plane (never from an ingest core).
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

/// A catalog that may be closed by now.
#[derive(Clone)]
pub struct WeakCatalog(std::sync::Weak<Inner>);

impl WeakCatalog {
    pub fn upgrade(&self) -> Option<Catalog> {
        self.0.upgrade().map(|inner| Catalog { inner })
    }
}

struct Inner {
    writer: Writer,
    readers: Readers,
    /// What `policy` gives tasks without a template.
    task_default: Mutex<Arc<RecordTemplate>>,
    event_writer: OnceLock<EventWriter>,
    callback_writer: OnceLock<CallbackWriter>,
    /// An event entered a queue.
    events: Signal,
    /// A message entered the outbox.
    outbox: Signal,
    /// A file was deleted, or its expire time changed.
    removals: Signal,
    /// A task flow is to be done, or was given up.
    flows: Signal,
    progress: flows::Progress,
    app_id: OnceLock<u64>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.writer.close();
    }
}

/// One catalog entry as the API shows it.
#[derive(Clone, Debug)]
pub struct MediaRow {
    pub file: FinishedFile,
    /// Catalog name (`BasicInfo.Name`), without extension.
    pub name: String,
    pub description: String,
    pub create_time: WallTime,
    pub update_time: WallTime,
    /// `None`: kept for ever.
    pub expire_time: Option<WallTime>,
    /// 0: the main application.
    pub sub_app_id: u64,
    pub class: ClassOfFile,
    pub tags: Vec<String>,
    pub extras: MediaExtras,
}

/// A file that was in a catalog before, as it lies on the disk.
#[derive(Clone, PartialEq, Debug)]
pub struct RestoredFile {
    pub file: FinishedFile,
    /// Catalog name.
    pub name: String,
    /// When it counts as created.
    pub created: WallTime,
    pub extras: MediaExtras,
}

/// Filters are joined by AND, the values of one by OR; an empty list is no filter.
#[derive(Clone, Debug, Default)]
pub struct MediaQuery {
    pub sub_app_id: u64,
    pub file_ids: Vec<FileId>,
    /// Part of the name, without case, Unicode.
    pub names: Vec<String>,
    pub name_prefixes: Vec<String>,
    pub descriptions: Vec<String>,
    /// Part of name or description.
    pub text: Option<String>,
    pub stream_ids: Vec<String>,
    pub stream_domains: Vec<String>,
    pub stream_paths: Vec<String>,
    /// `mp4` `flv` `hls` `aac` `mp3`.
    pub media_types: Vec<String>,
    /// `Video` `Audio` `Image`.
    pub categories: Vec<String>,
    /// These classes and all below them.
    pub class_ids: Vec<i64>,
    pub tags: Vec<String>,
    /// Half-open: after <= t < before.
    pub create_after: Option<WallTime>,
    pub create_before: Option<WallTime>,
    pub expire_after: Option<WallTime>,
    pub expire_before: Option<WallTime>,
    pub storage_classes: Vec<String>,
    /// Only what was made of recordings, or (false) only recordings; `None`: both.
    pub made: Option<bool>,
    pub ascending: bool,
    pub offset: u64,
    pub limit: u64,
}

#[derive(Clone, Debug, Default)]
pub struct MediaPage {
    /// All hits, at most 5000.
    pub total: u64,
    pub rows: Vec<MediaRow>,
}

/// Page of DescribeRecordTask: tasks lying wholly inside the window, by start then id.
#[derive(Clone, Debug, Default)]
pub struct TaskQuery {
    pub start: WallTime,
    pub end: WallTime,
    pub domain: Option<String>,
    pub app: Option<String>,
    pub stream: Option<String>,
    /// Continue behind this task.
    pub after: Option<(WallTime, TaskId)>,
    pub limit: usize,
}

impl Catalog {
    /// Opens or creates the catalog, runs the migrations and starts the writer thread. Writes below block the caller until they are committed.
    ///
    /// What was set by calls (templates, rules, tasks, domains, forbidden streams) is copied into [`policy_copy::NAME`] beside the catalog at every change, and a new catalog takes them from there.
    ///
    /// # Errors
    /// [`CatalogError::Storage`]: the folder does not exist or is not writable, or the file is one of a newer version;
    /// [`CatalogError::Damaged`]: it is no database.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        let connection = schema::open_writer(path)?;
        let copy = PolicyCopy::begin(&connection, path)?;
        let writer = Writer::start(connection, Some(copy))?;
        let readers = Readers::open(path)?;
        let task_default = Mutex::new(Arc::new(default_task_template(Format::Flv)));
        let inner = Inner {
            writer,
            readers,
            task_default,
            event_writer: OnceLock::new(),
            callback_writer: OnceLock::new(),
            events: Signal::default(),
            outbox: Signal::default(),
            removals: Signal::default(),
            flows: Signal::default(),
            progress: flows::Progress::default(),
            app_id: OnceLock::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Looks for damage, in all pages but not in the order of the indexes. Reads the whole file.
    ///
    /// # Errors
    /// [`CatalogError::Damaged`].
    pub fn check(&self) -> Result<(), CatalogError> {
        let found: String = self.read(|connection| Ok(connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?))?;
        if found == "ok" { Ok(()) } else { Err(CatalogError::Damaged(found)) }
    }

    /// For what the catalog itself holds, which must not keep it open.
    pub fn downgrade(&self) -> WeakCatalog {
        WeakCatalog(Arc::downgrade(&self.inner))
    }

    /// Ends the writer thread after everything queued is committed. Later writes are refused; reads go on.
    pub fn close(&self) {
        self.inner.writer.close();
    }

    /// Sets what tasks without a (known) template record: the setting `default_task_format`. FLV until then.
    pub fn set_task_default(&self, template: RecordTemplate) {
        *self.inner.task_default.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(template);
    }

    fn task_default(&self) -> Arc<RecordTemplate> {
        Arc::clone(&self.inner.task_default.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, CatalogError>) -> Result<T, CatalogError> {
        self.inner.readers.read(work)
    }

    fn write<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> Result<T, CatalogError> + Send + 'static) -> Result<T, CatalogError> {
        self.inner.writer.write(work)
    }
}

/// Unsigned ids keep all 64 bits in SQLite's signed integers.
const fn stored(id: u64) -> i64 {
    id.cast_signed()
}

const fn unstored(id: i64) -> u64 {
    id.cast_unsigned()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vod_tests;
