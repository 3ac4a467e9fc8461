//! Events of the catalog: what an application wants to know, and fetching it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::media_info::event_media;
use super::results::procedure_task;
use super::vod_tasks::task_object;
use super::{Action, Scope, Waiting, action, reply, values, waiting_action};
use crate::catalog::{CatalogError, CatalogEvent, EVENTS_PER_PULL};
use crate::control::errors::ApiError;
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::domain::vod::{DeletePart, EventMode};

pub const ACTIONS: &[Action] = &[
    waiting_action!("PullEvents", Vod, pull),
    action!("ConfirmEvents", Vod, confirm),
    action!("ModifyEventConfig", Vod, modify),
    action!("DescribeEventConfig", Vod, describe),
];

/// How long PullEvents waits for a first event (documented).
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
const SIGN_KEY_CHARS_MAX: usize = 32;

parameters! {
    PullRequest {
        optional { sub_app_id: u64 = "SubAppId", }
        ignored { "ExtInfo" }
    }
}

parameters! {
    ConfirmRequest {
        required { event_handles: Vec<String> = "EventHandles", }
        optional { sub_app_id: u64 = "SubAppId", }
        ignored { "ExtInfo" }
    }
}

parameters! {
    ModifyRequest {
        optional {
            sub_app_id: u64 = "SubAppId",
            mode: String = "Mode",
            notification_url: String = "NotificationUrl",
            upload_switch: String = "UploadMediaCompleteEventSwitch",
            delete_switch: String = "DeleteMediaCompleteEventSwitch",
            persistence_switch: String = "PersistenceCompleteEventSwitch",
            sign_key: String = "SignKey",
        }
    }
}

parameters! {
    DescribeRequest {
        optional { sub_app_id: u64 = "SubAppId", }
    }
}

fn pull(scope: &Scope<'_>, request: PullRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let catalog = &scope.context.catalog;
    let begun = std::time::Instant::now();
    loop {
        let seen = catalog.events_seen();
        let elapsed = begun.elapsed();
        // The clock that counts for events goes on while we wait.
        let now = if elapsed.is_zero() { scope.now } else { (scope.context.clock)() };
        let events = catalog.pull_events(app, now)?;
        let left = POLL_TIMEOUT.saturating_sub(elapsed);
        // Events of other applications wake us too; what became visible again does not, and is found at the latest by the next call.
        if events.is_empty() && scope.waiting == Waiting::Allowed && !left.is_zero() && catalog.wait_for_event(seen, left) {
            continue;
        }
        let events: Vec<Value> = events
            .into_iter()
            .map(|event| {
                let mut content: Map<String, Value> =
                    serde_json::from_str(&event.body).map_err(|error| ApiError::internal(format!("a stored event cannot be read: {error}")))?;
                content.insert("EventHandle".to_owned(), Value::from(event.handle));
                Ok(Value::Object(content))
            })
            .collect::<Result<_, ApiError>>()?;
        return Ok(reply(json!({ "EventSet": events })));
    }
}

fn confirm(scope: &Scope<'_>, request: ConfirmRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    if request.event_handles.is_empty() || request.event_handles.len() > EVENTS_PER_PULL {
        return Err(ApiError::value(format!("EventHandles must have 1 to {EVENTS_PER_PULL} values.")));
    }
    scope.context.catalog.confirm_events(app, &request.event_handles, scope.now).map_err(|error| match error {
        CatalogError::NotFound => {
            ApiError::value("EventHandles has a handle that is not known, or was given out more than 30 s ago; none is confirmed.")
        }
        error => error.into(),
    })?;
    Ok(Reply::new())
}

fn switch(given: Option<String>, name: &str) -> Result<Option<bool>, ApiError> {
    match given.as_deref() {
        None | Some("") => Ok(None),
        Some("ON") => Ok(Some(true)),
        Some("OFF") => Ok(Some(false)),
        Some(_) => Err(ApiError::invalid(format!("{name} must be ON or OFF."))),
    }
}

fn modify(scope: &Scope<'_>, request: ModifyRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let mode = match request.mode.filter(|mode| !mode.is_empty()) {
        Some(mode) => Some(EventMode::parse(&mode).ok_or_else(|| ApiError::invalid("Mode must be PUSH or PULL."))?),
        None => None,
    };
    let url = request.notification_url.map(|url| values::callback_url(url, "NotificationUrl", "InvalidParameter")).transpose()?;
    if url.as_ref().is_some_and(|url| !url.is_empty() && !(scope.context.url_is_safe)(url)) {
        return Err(ApiError::invalid("NotificationUrl lies in a network that must not be called."));
    }
    let upload = switch(request.upload_switch, "UploadMediaCompleteEventSwitch")?;
    let delete = switch(request.delete_switch, "DeleteMediaCompleteEventSwitch")?;
    let persistence = switch(request.persistence_switch, "PersistenceCompleteEventSwitch")?;
    if let Some(key) = &request.sign_key
        && (key.len() > SIGN_KEY_CHARS_MAX || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    {
        return Err(ApiError::invalid(format!("SignKey must be at most {SIGN_KEY_CHARS_MAX} letters and digits.")));
    }
    let sign_key = request.sign_key;
    scope.context.catalog.modify_event_config(app, move |config| {
        config.mode = mode.unwrap_or(config.mode);
        config.notification_url = url.unwrap_or(std::mem::take(&mut config.notification_url));
        config.upload_complete = upload.unwrap_or(config.upload_complete);
        config.delete_complete = delete.unwrap_or(config.delete_complete);
        config.persistence_complete = persistence.unwrap_or(config.persistence_complete);
        config.sign_key = sign_key.unwrap_or(std::mem::take(&mut config.sign_key));
    })?;
    Ok(Reply::new())
}

fn describe(scope: &Scope<'_>, request: DescribeRequest) -> Result<Reply, ApiError> {
    let config = scope.context.catalog.event_config(scope.sub_app(request.sub_app_id)?)?;
    let switch = |on: bool| if on { "ON" } else { "OFF" };
    Ok(reply(json!({
        "Mode": config.mode.name(),
        "NotificationUrl": config.notification_url,
        "UploadMediaCompleteEventSwitch": switch(config.upload_complete),
        "DeleteMediaCompleteEventSwitch": switch(config.delete_complete),
        "PersistenceCompleteEventSwitch": switch(config.persistence_complete),
    })))
}

/// An event as it is sent: `EventContent` without its handle, fields without a value left out.
pub fn event_content(event: &CatalogEvent<'_>, public_base: &str, app_id: u64) -> Value {
    match event {
        CatalogEvent::NewFileUpload(row) => {
            let (basic_info, meta_data) = event_media(row, public_base, app_id);
            // Nothing is reviewed.
            let task = json!({
                "FileId": row.file.identity.file_id.to_string(),
                "MediaBasicInfo": basic_info,
                "ProcedureTaskId": row.extras.procedure_task,
                "ReviewAudioVideoTaskId": "",
                "MetaData": meta_data,
            });
            json!({ "EventType": "NewFileUpload", "FileUploadEvent": task })
        }
        CatalogEvent::FileDeleted { file_id, parts } => {
            let parts: Vec<Value> = parts.iter().map(delete_part).collect();
            let file_id = file_id.to_string();
            let task = json!({ "FileIdSet": [file_id], "FileDeleteResultInfo": [{ "FileId": file_id, "DeleteParts": parts }] });
            json!({ "EventType": "FileDeleted", "FileDeleteEvent": task })
        }
        CatalogEvent::ProcedureStateChanged { task, flow, row } => {
            json!({ "EventType": "ProcedureStateChanged", "ProcedureStateChangeEvent": procedure_task(task, flow, *row, None, public_base, app_id) })
        }
        CatalogEvent::EditMediaComplete(task) => json!({ "EventType": "EditMediaComplete", "EditMediaCompleteEvent": task_object(task) }),
        CatalogEvent::PersistenceComplete { file_id, source } => {
            let task = json!({ "FileId": file_id.to_string(), "PersistenceSource": source });
            json!({ "EventType": "PersistenceComplete", "PersistenceCompleteEvent": task })
        }
    }
}

fn delete_part(part: &DeletePart) -> Value {
    json!({ "Type": part.kind.name(), "Definition": part.definition })
}
