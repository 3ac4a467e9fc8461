//! Tasks of the catalog side: what was asked for by EditMedia, ProcessMedia and the like, and what came of it.

use serde_json::Value;

use crate::units::{FileId, WallTime};

/// How long a task can be asked for (documented: 3 days).
pub const KEPT_MICROS: i64 = 3 * 86_400 * 1_000_000;

/// What kind of work a task is; also its `TaskType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VodTaskKind {
    /// A task flow: the object is a `ProcedureTask`.
    Procedure,
    /// Cutting and joining: the object is an `EditMediaTask`.
    EditMedia,
}

impl VodTaskKind {
    pub const ALL: [Self; 2] = [Self::Procedure, Self::EditMedia];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Procedure => "Procedure",
            Self::EditMedia => "EditMedia",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VodTaskStatus {
    Waiting,
    Processing,
    Finish,
    /// Given up: cancelled.
    Aborted,
}

impl VodTaskStatus {
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Processing, Self::Finish, Self::Aborted];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "WAITING",
            Self::Processing => "PROCESSING",
            Self::Finish => "FINISH",
            Self::Aborted => "ABORTED",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Nothing more happens to it.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Finish | Self::Aborted)
    }
}

/// One task.
#[derive(Clone, PartialEq, Debug)]
pub struct VodTask {
    /// `<AppId>-<kind>-<hex>`; opaque to clients.
    pub id: String,
    /// 0: the main application.
    pub sub_app_id: u64,
    pub kind: VodTaskKind,
    pub status: VodTaskStatus,
    /// The file it works on, where there is one.
    pub file_id: Option<FileId>,
    /// -10 to 10; higher ones begin first.
    pub priority: i64,
    pub create_time: WallTime,
    pub begin_time: Option<WallTime>,
    pub finish_time: Option<WallTime>,
    pub session_id: String,
    pub session_context: String,
    /// What the worker needs to know to do it, also after a restart.
    pub work: Value,
    /// The object that DescribeTaskDetail shows under the kind's name and that the event carries. Id, status and session are put in when it is shown.
    pub object: Value,
}
