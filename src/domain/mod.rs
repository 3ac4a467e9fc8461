//! Templates, rules and tasks, live streams and finished files as values: no I/O, time is an input.

pub mod admission;
pub mod busy;
pub mod callback;
pub mod content_key;
pub mod definition;
mod digest;
pub mod event;
pub mod file;
pub mod flow;
pub mod folders;
pub mod join;
pub mod live;
pub mod naming;
pub mod player;
pub mod policy;
pub mod presets;
pub mod psign;
pub mod receipt;
pub mod resumption;
pub mod rule;
pub mod sealing;
#[cfg(test)]
mod simulation;
pub mod task;
pub mod template;
pub mod url_sign;
pub mod vod;
pub mod vod_task;

pub use admission::{Admission, DomainKind, ForbiddenStream, LiveDomain, PushAuth};
pub use busy::Busy;
pub use callback::{CallbackAddress, CallbackTemplate};
pub use event::{LiveEvent, LiveEventKind};
pub use file::{EndReason, FinishedFile, MadeBy, RecordingIdentity, RecordingSource};
pub use folders::{DataFolder, DataFolders};
pub use live::{LiveStream, LiveStreams, StreamEnd};
pub use policy::Policy;
pub use receipt::Receipt;
pub use resumption::{PausedRecording, Resume, ResumeClaim, ResumeTerms, Resumptions};
pub use rule::{RecordRule, RuleTable};
pub use task::{OwnFormat, RecordTask, TaskChange, TaskScheduler};
pub use template::{FormatParam, RecordTemplate};
pub use vod_task::{VodTask, VodTaskKind, VodTaskStatus};
