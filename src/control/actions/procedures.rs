//! Task flows: what is made from every file that names them.

use serde_json::{Value, json};

use super::definitions::{NamesRequest, PRESET_TIME, Wanted, comment};
use super::flow_input::{ProcessItem, Unoffered, process};
use super::values::text_of;
use super::{Action, Scope, action};
use crate::catalog::{CatalogError, NamedKind};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::control::times;
use crate::domain::flow::{MediaProcess, Procedure};
use crate::domain::presets;

pub const ACTIONS: &[Action] = &[
    action!("CreateProcedureTemplate", Vod, create),
    action!("DescribeProcedureTemplates", Vod, describe),
    action!("ResetProcedureTemplate", Vod, reset),
    action!("DeleteProcedureTemplate", Vod, delete),
];

const NAME_CHARS_MAX: usize = 20;

parameters! {
    FlowRequest {
        required { name: String = "Name", }
        optional {
            sub_app_id: u64 = "SubAppId",
            comment: String = "Comment",
            process: ProcessItem = "MediaProcessTask",
            review: Unoffered = "AiContentReviewTask",
            analysis: Unoffered = "AiAnalysisTask",
            recognitions: Unoffered = "AiRecognitionTaskSet",
            recognition: Unoffered = "AiRecognitionTask",
            review_audio_video: Unoffered = "ReviewAudioVideoTask",
            knowledge: Unoffered = "ImportMediaKnowledgeTaskSet",
        }
    }
}

parameters! {
    DescribeRequest {
        optional { sort_by: Vec<SortItem> = "SortBy", }
        with { list: NamesRequest, }
    }
}

parameters! {
    /// `SortBy`.
    SortItem {
        required { field: String = "Field", }
        optional { order: String = "Order", }
    }
}

parameters! {
    DeleteRequest {
        required { name: String = "Name", }
        optional { sub_app_id: u64 = "SubAppId", }
    }
}

fn is_preset(name: &str) -> bool {
    presets::procedures().iter().any(|(preset, ..)| *preset == name)
}

/// The flow of this name in an application, preset or not.
pub fn find(scope: &Scope<'_>, app: u64, name: &str) -> Result<Option<MediaProcess>, ApiError> {
    if let Some((.., process)) = presets::procedures().into_iter().find(|(preset, ..)| *preset == name) {
        return Ok(Some(process));
    }
    Ok(scope.context.catalog.one_named::<Procedure>(app, NamedKind::Procedure, name)?.map(|procedure| procedure.process))
}

fn read(scope: &Scope<'_>, app: u64, request: FlowRequest) -> Result<(String, Procedure), ApiError> {
    let name = text_of(request.name, 1, NAME_CHARS_MAX, "Name", "InvalidParameterValue")?;
    let comment = comment(request.comment, String::new())?;
    let unoffered = [request.review, request.analysis, request.recognitions, request.recognition, request.review_audio_video, request.knowledge];
    if unoffered.iter().flatten().any(|given| given.0) {
        return Err(refuse("UnsupportedOperation", "Moderation, analysis and recognition are not offered here."));
    }
    let item = request.process.ok_or_else(|| ApiError::value("MediaProcessTask has no task."))?;
    Ok((name, Procedure { comment, process: process(scope, app, item)? }))
}

fn create(scope: &Scope<'_>, request: FlowRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let (name, procedure) = read(scope, app, request)?;
    let exists = || refuse("InvalidParameter.ExistedProcedureName", "There is a task flow of that name.");
    if is_preset(&name) {
        return Err(exists());
    }
    let context = scope.context;
    context.catalog.create_named(app, NamedKind::Procedure, name, &procedure, context.limits.procedures_max, scope.now).map_err(
        |error| match error {
            CatalogError::Exists => exists(),
            CatalogError::Limit { limit } => refuse("LimitExceeded", format!("There are {limit} task flows already.")),
            error => error.into(),
        },
    )?;
    Ok(Reply::new())
}

fn reset(scope: &Scope<'_>, request: FlowRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let (name, procedure) = read(scope, app, request)?;
    if is_preset(&name) {
        return Err(ApiError::value(format!("The task flow {name} is a preset; it cannot be changed.")));
    }
    let change = move |body: &mut Procedure| {
        *body = procedure;
        Ok::<(), ApiError>(())
    };
    scope.context.catalog.modify_named(app, NamedKind::Procedure, name, scope.now, change).map_err(|error| match error {
        CatalogError::NotFound => refuse("InvalidParameter.ProcedureNameNotExist", "There is no task flow of that name."),
        error => error.into(),
    })??;
    Ok(Reply::new())
}

fn describe(scope: &Scope<'_>, request: DescribeRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.list.sub_app_id)?;
    let wanted = Wanted::of(request.list)?;
    let mut ascending = false;
    for sort in request.sort_by.unwrap_or_default() {
        if sort.field != "CreateTime" || !matches!(sort.order.as_deref(), None | Some("" | "Asc" | "Desc")) {
            return Err(ApiError::value("SortBy must be CreateTime, Asc or Desc."));
        }
        ascending = sort.order.as_deref() == Some("Asc");
    }
    let presets = presets::procedures().into_iter();
    let presets =
        presets.map(|(name, comment, process)| (0, info(name, "Preset", comment, &process, PRESET_TIME.to_owned(), PRESET_TIME.to_owned())));
    let custom = scope.context.catalog.named::<Procedure>(app, NamedKind::Procedure)?;
    let custom = custom.into_iter().map(|(name, stored)| {
        let (created, updated) = (times::utc(stored.create_time), times::utc(stored.update_time));
        (stored.create_time.unix_micros(), info(&name, "Custom", &stored.body.comment, &stored.body.process, created, updated))
    });
    let mut all: Vec<(i64, Value)> = presets.chain(custom).filter(|(_, info)| wanted.is_meant(info)).collect();
    // Newest first, presets last.
    all.sort_by_key(|(created, _)| if ascending { *created } else { -*created });
    Ok(wanted.reply("ProcedureTemplateSet", all.into_iter().map(|(_, info)| info).collect()))
}

fn info(name: &str, kind: &str, comment: &str, process: &MediaProcess, created: String, updated: String) -> Value {
    json!({
        "Name": name,
        "Type": kind,
        "Comment": comment,
        "MediaProcessTask": serde_json::to_value(process).unwrap_or_default(),
        "CreateTime": created,
        "UpdateTime": updated,
    })
}

fn delete(scope: &Scope<'_>, request: DeleteRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    if is_preset(&request.name) {
        return Err(ApiError::invalid(format!("The task flow {} is a preset; it cannot be deleted.", request.name)));
    }
    scope.context.catalog.delete_named(app, NamedKind::Procedure, request.name).map_err(|error| match error {
        CatalogError::NotFound => ApiError::invalid("There is no task flow of that name."),
        error => error.into(),
    })?;
    Ok(Reply::new())
}
