//! Classes of files.

use serde_json::{Value, json};

use super::values::text_of;
use super::{Action, Scope, action, reply};
use crate::catalog::ClassRefusal;
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::domain::vod::MediaClass;

pub const ACTIONS: &[Action] = &[
    action!("CreateClass", Vod, create),
    action!("DescribeAllClass", Vod, describe),
    action!("ModifyClass", Vod, modify),
    action!("DeleteClass", Vod, delete),
];

/// Documented bound, characters.
const NAME_CHARS_MAX: usize = 64;

parameters! {
    CreateRequest {
        required {
            parent_id: i64 = "ParentId",
            class_name: String = "ClassName",
        }
        optional { sub_app_id: u64 = "SubAppId", }
    }
}

parameters! {
    DescribeRequest {
        optional { sub_app_id: u64 = "SubAppId", }
    }
}

parameters! {
    ModifyRequest {
        required {
            class_id: i64 = "ClassId",
            class_name: String = "ClassName",
        }
        optional { sub_app_id: u64 = "SubAppId", }
    }
}

parameters! {
    DeleteRequest {
        required { class_id: i64 = "ClassId", }
        optional { sub_app_id: u64 = "SubAppId", }
    }
}

/// The codes that clients know for these actions.
fn refusal(refusal: ClassRefusal) -> ApiError {
    let code = match refusal {
        ClassRefusal::NoParent => "FailedOperation.ParentIdNoFound",
        ClassRefusal::NotFound => "FailedOperation.ClassNoFound",
        ClassRefusal::Level => "FailedOperation.ClassLevelLimitExceeded",
        ClassRefusal::Children => "FailedOperation.SubclassLimitExceeded",
        ClassRefusal::Duplicate => "FailedOperation.ClassNameDuplicate",
        ClassRefusal::NotEmpty => "UnsupportedOperation.ClassNotEmpty",
    };
    refuse(code, format!("{refusal}."))
}

/// These actions have a code of their own for an application that does not exist.
fn app(scope: &Scope<'_>, given: Option<u64>) -> Result<u64, ApiError> {
    scope.sub_app(given).map_err(|error| match error.code {
        "InvalidParameterValue.SubAppId" => refuse("FailedOperation.InvalidVodUser", error.message),
        _ => error,
    })
}

fn class_name(name: String) -> Result<String, ApiError> {
    text_of(name, 1, NAME_CHARS_MAX, "ClassName", "InvalidParameterValue.ClassName")
}

fn create(scope: &Scope<'_>, request: CreateRequest) -> Result<Reply, ApiError> {
    let app = app(scope, request.sub_app_id)?;
    let name = class_name(request.class_name)?;
    let id = scope.context.catalog.create_class(app, request.parent_id, name)?.map_err(refusal)?;
    Ok(reply(json!({ "ClassId": id })))
}

fn describe(scope: &Scope<'_>, request: DescribeRequest) -> Result<Reply, ApiError> {
    let app = app(scope, request.sub_app_id)?;
    let classes: Vec<Value> = scope.context.catalog.classes(app)?.iter().map(info).collect();
    Ok(reply(json!({ "ClassInfoSet": classes })))
}

fn info(class: &MediaClass) -> Value {
    json!({
        "ClassId": class.id,
        "ParentId": class.parent_id,
        "Name": class.name,
        "ClassName": class.name,
        "Level": class.level,
        "SubClassIdSet": class.children,
    })
}

fn modify(scope: &Scope<'_>, request: ModifyRequest) -> Result<Reply, ApiError> {
    let app = app(scope, request.sub_app_id)?;
    let name = class_name(request.class_name)?;
    scope.context.catalog.rename_class(app, request.class_id, name)?.map_err(refusal)?;
    Ok(Reply::new())
}

fn delete(scope: &Scope<'_>, request: DeleteRequest) -> Result<Reply, ApiError> {
    let app = app(scope, request.sub_app_id)?;
    scope.context.catalog.delete_class(app, request.class_id)?.map_err(|error| match error {
        ClassRefusal::NotFound => refuse("InvalidParameterValue.ClassId", format!("There is no class {}.", request.class_id)),
        other => refusal(other),
    })?;
    Ok(Reply::new())
}
