//! Processing of files by hand, and the keys of encrypted streams.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::flow_input::{ProcessItem, Unoffered, is_offered, process};
use super::procedures;
use super::values::in_range;
use super::{Action, Scope, action, reply};
use crate::catalog::{CatalogError, FlowOrder};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::domain::flow::{MediaProcess, NotifyMode, ProcedureTask};
use crate::units::FileId;

pub const ACTIONS: &[Action] = &[
    action!("ProcessMedia", Vod, by_tasks),
    action!("ProcessMediaByProcedure", Vod, by_procedure),
    action!("ManageTask", Vod, manage),
    action!("DescribeDrmDataKey", Vod, drm_data_key),
];

const DAY_MICROS: i64 = 86_400 * 1_000_000;
/// How long a session id is not to be used again (documented).
const SESSION_MICROS: i64 = 3 * DAY_MICROS;
const SESSION_BY_PROCEDURE_MICROS: i64 = 7 * DAY_MICROS;
const SESSION_ID_CHARS_MAX: usize = 50;
const SESSION_CONTEXT_CHARS_MAX: usize = 1_000;
const PRIORITY_MAX: i64 = 10;
const EDKS_MAX: usize = 10;

parameters! {
    /// What both calls have.
    group Order {
        file_id: String = "FileId",
        sub_app_id: u64 = "SubAppId",
        storage_path: String = "MediaStoragePath",
        priority: i64 = "TasksPriority",
        notify_mode: String = "TasksNotifyMode",
        session_context: String = "SessionContext",
        session_id: String = "SessionId",
    }
}

parameters! {
    ProcessRequest {
        optional {
            url: String = "Url",
            independent: String = "OutputAsIndependentMedia",
            process: ProcessItem = "MediaProcessTask",
            review: Unoffered = "AiContentReviewTask",
            analysis: Unoffered = "AiAnalysisTask",
            recognition: Unoffered = "AiRecognitionTask",
        }
        with { order: Order, }
        ignored { "ExtInfo" }
    }
}

parameters! {
    ProcedureRequest {
        required { procedure: String = "ProcedureName", }
        with { order: Order, }
        ignored { "ExtInfo" }
    }
}

parameters! {
    ManageRequest {
        required {
            task_id: String = "TaskId",
            operation: String = "OperationType",
        }
        optional { sub_app_id: u64 = "SubAppId", }
    }
}

parameters! {
    KeyRequest {
        required { edks: Vec<String> = "EdkList", }
        optional { sub_app_id: u64 = "SubAppId", }
    }
}

/// Values that need no look into the catalog.
struct Checked {
    priority: i64,
    notify_mode: NotifyMode,
    session_context: String,
    session_id: String,
}

impl Order {
    fn check(&self) -> Result<Checked, ApiError> {
        let priority = in_range(self.priority.unwrap_or(0), -PRIORITY_MAX, PRIORITY_MAX, "TasksPriority")?;
        let notify_mode = match self.notify_mode.as_deref() {
            None | Some("") => NotifyMode::Finish,
            Some(name) => NotifyMode::parse(name).ok_or_else(|| ApiError::value("TasksNotifyMode must be Finish, Change or None."))?,
        };
        let session_context = self.session_context.clone().unwrap_or_default();
        if session_context.chars().count() > SESSION_CONTEXT_CHARS_MAX {
            let message = format!("SessionContext must be at most {SESSION_CONTEXT_CHARS_MAX} characters.");
            return Err(refuse("InvalidParameterValue.SessionContextTooLong", message));
        }
        let session_id = self.session_id.clone().unwrap_or_default();
        if session_id.chars().count() > SESSION_ID_CHARS_MAX {
            let message = format!("SessionId must be at most {SESSION_ID_CHARS_MAX} characters.");
            return Err(refuse("InvalidParameterValue.SessionIdTooLong", message));
        }
        Ok(Checked { priority, notify_mode, session_context, session_id })
    }

    /// Enters the flow; its task's id.
    fn enter(&self, scope: &Scope<'_>, app: u64, checked: Checked, process: &MediaProcess, session_micros: i64) -> Result<String, ApiError> {
        let given = self.file_id.as_deref().filter(|id| !id.is_empty()).ok_or_else(|| ApiError::missing("FileId"))?;
        let not_there = || refuse("InvalidParameterValue.FileId", format!("There is no file {}.", super::values::shorten(given)));
        let file_id = FileId::parse(given).ok_or_else(not_there)?;
        let context = scope.context;
        if context.catalog.files(app, &[file_id])?.is_empty() {
            return Err(not_there());
        }
        is_offered(scope, app, process)?;
        let id = format!("{}-Procedure-{}t1", context.app_id, uuid::Uuid::new_v4().simple());
        let order = FlowOrder {
            id: id.clone(),
            sub_app_id: app,
            priority: checked.priority,
            session_id: checked.session_id,
            session_context: checked.session_context,
            session_micros,
        };
        let flow = ProcedureTask::new(file_id, checked.notify_mode, process);
        context.catalog.enter_flow(order, &flow, scope.now).map_err(|error| match error {
            CatalogError::Exists => {
                refuse("InvalidParameterValue.SessionId", "This SessionId was used a short time ago; the call is taken for a repetition.")
            }
            error => error.into(),
        })?;
        Ok(id)
    }
}

fn is_given(text: &Option<String>) -> bool {
    text.as_deref().is_some_and(|text| !text.is_empty())
}

fn by_tasks(scope: &Scope<'_>, request: ProcessRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.order.sub_app_id)?;
    let unoffered = [request.review, request.analysis, request.recognition].iter().flatten().any(|given| given.0);
    let is_independent = request.independent.as_deref().is_some_and(|text| !matches!(text, "" | "OFF"));
    if unoffered || is_independent || is_given(&request.order.storage_path) || is_given(&request.url) {
        let message = "MediaStoragePath, Url, OutputAsIndependentMedia, moderation, analysis and recognition are not offered here.";
        return Err(refuse("UnsupportedOperation", message));
    }
    let order = request.order;
    if !is_given(&order.file_id) {
        return Err(ApiError::missing("FileId"));
    }
    let checked = order.check()?;
    let item = request.process.ok_or_else(|| ApiError::value("MediaProcessTask has no task."))?;
    let process = process(scope, app, item)?;
    let id = order.enter(scope, app, checked, &process, SESSION_MICROS)?;
    Ok(reply(json!({ "TaskId": id })))
}

fn by_procedure(scope: &Scope<'_>, request: ProcedureRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.order.sub_app_id)?;
    if is_given(&request.order.storage_path) {
        return Err(refuse("UnsupportedOperation", "MediaStoragePath is not offered here."));
    }
    let order = request.order;
    if !is_given(&order.file_id) {
        return Err(ApiError::missing("FileId"));
    }
    let checked = order.check()?;
    let process = procedures::find(scope, app, &request.procedure)?.ok_or_else(|| {
        refuse("InvalidParameterValue.ProcedureName", format!("There is no task flow {}.", super::values::shorten(&request.procedure)))
    })?;
    let id = order.enter(scope, app, checked, &process, SESSION_BY_PROCEDURE_MICROS)?;
    Ok(reply(json!({ "TaskId": id, "ReviewAudioVideoTaskId": "" })))
}

/// Gives a task up.
fn manage(scope: &Scope<'_>, request: ManageRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    if request.operation != "Abort" {
        return Err(ApiError::value("OperationType must be Abort."));
    }
    scope.context.catalog.abort_task(app, &request.task_id, scope.now).map_err(|error| match error {
        CatalogError::NotFound => refuse("ResourceNotFound", "There is no task of that id that is not over."),
        error => error.into(),
    })?;
    Ok(Reply::new())
}

fn drm_data_key(scope: &Scope<'_>, request: KeyRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    if request.edks.is_empty() || request.edks.len() > EDKS_MAX {
        return Err(ApiError::value(format!("EdkList must have 1 to {EDKS_MAX} values.")));
    }
    let keys = request.edks.into_iter().map(|edk| {
        let unknown = || ApiError::value(format!("EdkList has a key that is not known: {}.", super::values::shorten(&edk)));
        let (file_id, key) = scope.context.master_key.unwrap(&edk).ok_or_else(unknown)?;
        // Of a file that is still there, in this application.
        if scope.context.catalog.files(app, &[file_id])?.is_empty() {
            return Err(unknown());
        }
        Ok(json!({ "Edk": edk, "Dk": STANDARD.encode(key.0) }))
    });
    Ok(reply(json!({ "KeyList": keys.collect::<Result<Vec<Value>, ApiError>>()? })))
}
