//! The catalog side as values: applications, classes, what users add to a file, and the events that tell others about files.

use serde::{Deserialize, Serialize};

use super::flow::FileResults;
use crate::units::{FileId, WallTime};

/// The parent of classes at the top.
pub const CLASS_TOP: i64 = -1;
/// The class that always exists, named [`CLASS_OTHER_NAME`] and in no list.
pub const CLASS_OTHER: i64 = 0;
pub const CLASS_OTHER_NAME: &str = "Other";

/// Where the files of the ring lie in the catalog: behind a wall of their own, so that no list and no search shows them. No application has this id.
pub const RING_APP: u64 = u64::MAX;

/// A sub-application: a wall between files, classes and events. Id 0 is the main one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SubApp {
    #[serde(skip)]
    pub id: u64,
    pub name: String,
    pub description: String,
    /// As given at its creation, without effect.
    pub kind: String,
    pub mode: String,
    pub storage_region: String,
    /// Key and value.
    pub tags: Vec<(String, String)>,
    pub status: AppStatus,
    pub create_time: WallTime,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum AppStatus {
    #[default]
    On,
    /// Calls work, files are not played.
    Off,
    /// Does not exist any more; its id is never used again.
    Destroyed,
}

impl AppStatus {
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "On",
            Self::Off => "Off",
            Self::Destroyed => "Destroyed",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::On, Self::Off, Self::Destroyed].into_iter().find(|status| status.name() == name)
    }
}

/// A class of files. Classes are a forest of at most four levels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaClass {
    pub id: i64,
    /// [`CLASS_TOP`] for those at the top.
    pub parent_id: i64,
    pub name: String,
    /// 0 at the top.
    pub level: u64,
    /// Children by id.
    pub children: Vec<i64>,
}

/// A remark at a moment of a file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct KeyFrameDesc {
    pub time_offset_s: f64,
    pub content: String,
}

/// What users added to a file, and what became of it. Kept beside the finished file.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MediaExtras {
    /// By time.
    pub key_frame_descs: Vec<KeyFrameDesc>,
    /// Extension of the cover picture `cover.<extension>` in the file's folder.
    pub cover: Option<String>,
    /// The original was deleted, the entry stays.
    pub original_deleted: bool,
    /// What task flows made of it.
    #[serde(skip_serializing_if = "FileResults::is_empty")]
    pub results: FileResults,
    /// The task flow that the file's template started; empty: none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub procedure_task: String,
}

/// What DeleteMedia deletes: a kind of files, and which of its definitions (0: all).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeletePart {
    pub kind: PartKind,
    pub definition: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PartKind {
    OriginalFiles,
    TranscodeFiles,
    AdaptiveDynamicStreamingFiles,
    WechatPublishFiles,
}

impl PartKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::OriginalFiles => "OriginalFiles",
            Self::TranscodeFiles => "TranscodeFiles",
            Self::AdaptiveDynamicStreamingFiles => "AdaptiveDynamicStreamingFiles",
            Self::WechatPublishFiles => "WechatPublishFiles",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::OriginalFiles, Self::TranscodeFiles, Self::AdaptiveDynamicStreamingFiles, Self::WechatPublishFiles]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// Files whose rows are gone and whose bytes are to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removal {
    pub file_id: FileId,
    /// Relative to the data folder.
    pub folder: String,
    /// The one file to open, for a removal of the original alone.
    pub entry: String,
    /// Everything, or the original only: other files of the folder stay.
    pub whole: bool,
    /// Not the original but these files; a name that ends in a dot stands for all that begin with it.
    pub parts: Vec<String>,
}

/// How an application is told about its files.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventConfig {
    pub mode: EventMode,
    /// Empty: none.
    pub notification_url: String,
    pub upload_complete: bool,
    pub delete_complete: bool,
    pub persistence_complete: bool,
    pub sign_key: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum EventMode {
    #[default]
    Push,
    Pull,
}

impl EventMode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Push => "PUSH",
            Self::Pull => "PULL",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Push, Self::Pull].into_iter().find(|mode| mode.name() == name)
    }
}
