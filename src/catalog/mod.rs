//! The catalog: templates, rules, tasks and finished files in SQLite. One writer thread, several read connections.

use std::collections::BTreeMap;
use std::path::Path;

use crate::domain::{FinishedFile, Policy, RecordRule, RecordTask, RecordTemplate};
use crate::units::{FileId, StreamKey, TaskId, TemplateId, WallTime};

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
    /// The catalog is locked, full or damaged; recording goes on without it.
    #[error("catalog: {0}")]
    Storage(String),
}

/// Handle to the catalog; cheap to clone, usable from any thread of the control plane (never from an ingest core).
#[derive(Clone)]
pub struct Catalog {}

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
    pub class_ids: Vec<i64>,
    /// Half-open: after <= t < before.
    pub create_after: Option<WallTime>,
    pub create_before: Option<WallTime>,
    pub expire_after: Option<WallTime>,
    pub expire_before: Option<WallTime>,
    pub storage_classes: Vec<String>,
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

#[allow(unused_variables)]
impl Catalog {
    /// Opens or creates the catalog, runs the migrations and starts the writer thread. Writes below block the caller until they are committed.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        unimplemented!()
    }
    /// Ends the writer thread after everything queued is committed.
    pub fn close(&self) {
        unimplemented!()
    }
    /// True until the first-run template and rule have been entered once.
    pub fn is_new(&self) -> Result<bool, CatalogError> {
        unimplemented!()
    }
    pub fn create_template(&self, template: RecordTemplate, limit: u64) -> Result<TemplateId, CatalogError> {
        unimplemented!()
    }
    pub fn template(&self, id: TemplateId) -> Result<RecordTemplate, CatalogError> {
        unimplemented!()
    }
    pub fn templates(&self) -> Result<Vec<RecordTemplate>, CatalogError> {
        unimplemented!()
    }
    pub fn modify_template(&self, id: TemplateId, change: Box<dyn FnOnce(&mut RecordTemplate) + Send>) -> Result<(), CatalogError> {
        unimplemented!()
    }
    pub fn delete_template(&self, id: TemplateId) -> Result<(), CatalogError> {
        unimplemented!()
    }
    pub fn create_rule(&self, rule: RecordRule, limit: u64) -> Result<(), CatalogError> {
        unimplemented!()
    }
    pub fn rules(&self) -> Result<Vec<RecordRule>, CatalogError> {
        unimplemented!()
    }
    pub fn delete_rule(&self, domain: &str, app: &str, stream: &str) -> Result<(), CatalogError> {
        unimplemented!()
    }
    pub fn create_task(&self, task: RecordTask, limit: u64, now: WallTime) -> Result<(), CatalogError> {
        unimplemented!()
    }
    /// Stops at `now`; a task that was stopped before keeps its first value.
    pub fn stop_task(&self, id: &TaskId, now: WallTime) -> Result<(), CatalogError> {
        unimplemented!()
    }
    pub fn delete_task(&self, id: &TaskId) -> Result<(), CatalogError> {
        unimplemented!()
    }
    pub fn tasks(&self, query: &TaskQuery) -> Result<Vec<RecordTask>, CatalogError> {
        unimplemented!()
    }
    /// Templates, rules and tasks whose window has not ended at `now`.
    pub fn policy(&self, version: u64, now: WallTime) -> Result<Policy, CatalogError> {
        unimplemented!()
    }
    /// Enters a finished file; entering the same file again changes nothing.
    pub fn enter_file(&self, file: FinishedFile, name: String, now: WallTime) -> Result<(), CatalogError> {
        unimplemented!()
    }
    /// The file with the greatest id, so that new ids stay above it whatever the clock says.
    pub fn last_file_id(&self) -> Result<Option<FileId>, CatalogError> {
        unimplemented!()
    }
    pub fn files(&self, sub_app_id: u64, ids: &[FileId]) -> Result<BTreeMap<FileId, MediaRow>, CatalogError> {
        unimplemented!()
    }
    pub fn search(&self, query: &MediaQuery) -> Result<MediaPage, CatalogError> {
        unimplemented!()
    }
    /// Number of tasks waiting or recording for one stream or in all.
    pub fn open_tasks(&self, key: Option<&StreamKey>, now: WallTime) -> Result<u64, CatalogError> {
        unimplemented!()
    }
}
