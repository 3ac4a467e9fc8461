//! Sub-applications: walls between files, classes and events.

use serde_json::{Value, json};

use super::values::text_of;
use super::{Action, Scope, action, reply};
use crate::catalog::CatalogError;
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::control::times;
use crate::domain::vod::{AppStatus, SubApp};

pub const ACTIONS: &[Action] = &[
    action!("CreateSubAppId", Vod, create),
    action!("DescribeSubAppIds", Vod, describe),
    action!("ModifySubAppIdInfo", Vod, modify_info),
    action!("ModifySubAppIdStatus", Vod, modify_status),
];

/// Documented bounds, characters.
const NAME_CHARS_MAX: usize = 40;
const DESCRIPTION_CHARS_MAX: usize = 300;
/// Tags of an application (the vendor's bound for tags of any resource), and bytes of each part of one.
const TAGS_MAX: usize = 50;
const TAG_CHARS_MAX: usize = 255;
/// Applications of one page, and of one where none is asked for.
const LIMIT_MAX: u64 = 200;
/// What is stored of a type, a mode and a region.
const WORD_CHARS_MAX: usize = 64;

parameters! {
    ResourceTag {
        required {
            key: String = "TagKey",
            value: String = "TagValue",
        }
    }
}

parameters! {
    CreateRequest {
        required { name: String = "Name", }
        optional {
            description: String = "Description",
            kind: String = "Type",
            mode: String = "Mode",
            storage_region: String = "StorageRegion",
            tags: Vec<ResourceTag> = "Tags",
        }
    }
}

parameters! {
    DescribeRequest {
        optional {
            name: String = "Name",
            tags: Vec<ResourceTag> = "Tags",
            offset: u64 = "Offset",
            limit: u64 = "Limit",
        }
    }
}

parameters! {
    ModifyInfoRequest {
        required { sub_app_id: u64 = "SubAppId", }
        optional {
            name: String = "Name",
            description: String = "Description",
        }
    }
}

parameters! {
    ModifyStatusRequest {
        required {
            sub_app_id: u64 = "SubAppId",
            status: String = "Status",
        }
    }
}

fn name(name: String) -> Result<String, ApiError> {
    text_of(name, 1, NAME_CHARS_MAX, "Name", "InvalidParameterValue.Name")
}

fn description(text: String) -> Result<String, ApiError> {
    text_of(text, 0, DESCRIPTION_CHARS_MAX, "Description", "InvalidParameterValue.Description")
}

fn tags(tags: Option<Vec<ResourceTag>>) -> Result<Vec<(String, String)>, ApiError> {
    let tags = tags.unwrap_or_default();
    if tags.len() > TAGS_MAX {
        return Err(ApiError::value(format!("Tags has {} values; at most {TAGS_MAX} are allowed.", tags.len())));
    }
    let part = |text: String, chars_min: usize, name: &str| text_of(text, chars_min, TAG_CHARS_MAX, name, "InvalidParameterValue");
    tags.into_iter().map(|tag| Ok((part(tag.key, 1, "TagKey")?, part(tag.value, 0, "TagValue")?))).collect()
}

fn create(scope: &Scope<'_>, request: CreateRequest) -> Result<Reply, ApiError> {
    let word = |text: Option<String>, name: &str| text_of(text.unwrap_or_default(), 0, WORD_CHARS_MAX, name, "InvalidParameterValue");
    let mode = word(request.mode, "Mode")?;
    if !matches!(mode.as_str(), "" | "fileid") {
        return Err(refuse("UnsupportedOperation", "Mode must be fileid: files are named by their ids alone."));
    }
    let app = SubApp {
        id: 0,
        name: name(request.name)?,
        description: description(request.description.unwrap_or_default())?,
        kind: word(request.kind, "Type")?,
        mode: "fileid".to_owned(),
        storage_region: word(request.storage_region, "StorageRegion")?,
        tags: tags(request.tags)?,
        status: AppStatus::On,
        create_time: scope.now,
    };
    let limit = scope.context.limits.sub_apps_max;
    let id = scope.context.catalog.create_sub_app(app, limit, scope.context.app_id).map_err(|error| match error {
        CatalogError::Limit { limit } => refuse("LimitExceeded", format!("There are {limit} applications already.")),
        error => error.into(),
    })?;
    Ok(reply(json!({ "SubAppId": id })))
}

fn describe(scope: &Scope<'_>, request: DescribeRequest) -> Result<Reply, ApiError> {
    let wanted_tags = tags(request.tags)?;
    let limit = request.limit.filter(|limit| *limit != 0).unwrap_or(LIMIT_MAX);
    if limit > LIMIT_MAX {
        return Err(ApiError::value(format!("Limit is {limit}; it must be 0 to {LIMIT_MAX}.")));
    }
    let wanted_name = request.name.filter(|name| !name.is_empty());
    let matches = |app: &SubApp| wanted_name.as_ref().is_none_or(|name| *name == app.name) && wanted_tags.iter().all(|tag| app.tags.contains(tag));
    let found: Vec<SubApp> = scope.context.catalog.sub_apps()?.into_iter().filter(matches).collect();
    let offset = usize::try_from(request.offset.unwrap_or(0)).unwrap_or(usize::MAX);
    let page: Vec<Value> = found.iter().skip(offset).take(limit as usize).map(|app| info(app, scope.context.app_id)).collect();
    Ok(reply(json!({ "SubAppIdInfoSet": page, "TotalCount": found.len() })))
}

fn info(app: &SubApp, app_id: u64) -> Value {
    let tags: Vec<Value> = app.tags.iter().map(|(key, value)| json!({ "TagKey": key, "TagValue": value })).collect();
    json!({
        "SubAppId": if app.id == 0 { app_id } else { app.id },
        "SubAppIdName": app.name,
        "Name": app.name,
        "Description": app.description,
        "CreateTime": times::utc(app.create_time),
        "Status": app.status.name(),
        "Mode": "fileid",
        "StorageRegions": [super::media_info::STORAGE_REGION],
        "Tags": tags,
    })
}

fn modify_info(scope: &Scope<'_>, request: ModifyInfoRequest) -> Result<Reply, ApiError> {
    let id = scope.sub_app(Some(request.sub_app_id))?;
    let new_name = request.name.map(name).transpose()?;
    let new_description = request.description.map(description).transpose()?;
    if id == 0 && new_name.is_some() {
        return Err(refuse("FailedOperation", "The name of the main application cannot be changed."));
    }
    scope.context.catalog.modify_sub_app(id, move |app| {
        app.name = new_name.unwrap_or(std::mem::take(&mut app.name));
        app.description = new_description.unwrap_or(std::mem::take(&mut app.description));
    })?;
    Ok(Reply::new())
}

fn modify_status(scope: &Scope<'_>, request: ModifyStatusRequest) -> Result<Reply, ApiError> {
    let id = scope.sub_app(Some(request.sub_app_id))?;
    let status = AppStatus::parse(&request.status).ok_or_else(|| ApiError::value("Status must be On, Off or Destroyed."))?;
    if status == AppStatus::Destroyed && !scope.caller.may_delete() {
        return Err(refuse("AuthFailure.UnauthorizedOperation", "The role of this key does not allow to destroy applications."));
    }
    if id == 0 && status == AppStatus::Destroyed {
        return Err(refuse("FailedOperation", "The main application cannot be destroyed."));
    }
    scope.context.catalog.modify_sub_app(id, move |app| app.status = status).map_err(|error| match error {
        CatalogError::InUse => refuse("FailedOperation", "There are files in the application; delete them first."),
        error => error.into(),
    })?;
    Ok(Reply::new())
}
