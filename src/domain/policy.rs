//! What is to be recorded, as one immutable snapshot that the ingest cores read.

use std::collections::HashMap;
use std::sync::Arc;

use crate::units::{StreamKey, TemplateId};

use super::{RecordRule, RecordTask, RecordTemplate};

/// Templates, rules and unfinished tasks at one moment. Replaced as a whole; `version` grows with every replacement.
#[derive(Debug, Default)]
pub struct Policy {
    pub version: u64,
    pub templates: HashMap<TemplateId, Arc<RecordTemplate>>,
    pub rules: Vec<RecordRule>,
    /// Tasks whose window has not ended (stopped ones included), by stream.
    pub tasks: HashMap<StreamKey, Vec<Arc<RecordTask>>>,
    /// What a task without a (known) template records.
    pub task_default: Option<Arc<RecordTemplate>>,
}
