//! Record rules: which domain, app or stream gets which template.

use serde_json::{Value, json};

use super::templates::template_id;
use super::{Action, Scope, action, reply, values};
use crate::catalog::{CatalogError, Template};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::{NoParameters, parameters};
use crate::control::protocol::Reply;
use crate::control::times;
use crate::domain::{RecordRule, RecordTemplate};
use crate::units::WallTime;

pub const ACTIONS: &[Action] = &[
    action!("CreateLiveRecordRule", Live, create),
    action!("DescribeLiveRecordRules", Live, describe_all),
    action!("DeleteLiveRecordRule", Live, delete),
];

parameters! {
    CreateRequest {
        required {
            domain: String = "DomainName",
            template_id: i64 = "TemplateId",
        }
        optional {
            app: String = "AppName",
            stream: String = "StreamName",
        }
    }
}

parameters! {
    DeleteRequest {
        required { domain: String = "DomainName", }
        optional {
            app: String = "AppName",
            stream: String = "StreamName",
        }
    }
}

fn create(scope: &Scope<'_>, request: CreateRequest) -> Result<Reply, ApiError> {
    insert::<RecordTemplate>(scope, rule(request, scope.now)?)?;
    scope.refresh_policy()?;
    Ok(Reply::new())
}

/// Enters a rule that gives a template of kind `T`.
pub fn insert<T: Template>(scope: &Scope<'_>, rule: RecordRule) -> Result<(), ApiError> {
    let template_id = rule.template_id.0;
    scope.context.catalog.create_rule::<T>(rule, scope.context.limits.rules_max).map_err(|error| match error {
        CatalogError::NotFound => refuse("InvalidParameter.ConfNotFound", format!("There is no template {template_id}.")),
        CatalogError::Exists => refuse("FailedOperation.RuleAlreadyExist", "There is a rule for exactly this; delete it first."),
        CatalogError::Limit { limit } => refuse("InternalError.RuleOutLimit", format!("There are {limit} rules already.")),
        other => other.into(),
    })
}

fn describe_all(scope: &Scope<'_>, _: NoParameters) -> Result<Reply, ApiError> {
    let rules = scope.context.catalog.rules::<RecordTemplate>()?;
    Ok(reply(json!({ "Rules": rules.iter().map(rule_info).collect::<Vec<_>>() })))
}

fn delete(scope: &Scope<'_>, request: DeleteRequest) -> Result<Reply, ApiError> {
    let (domain, app, stream) = key(&request.domain, request.app, request.stream, true)?;
    remove::<RecordTemplate>(scope, &domain, &app, &stream)?;
    scope.refresh_policy()?;
    Ok(Reply::new())
}

/// Deletes the rule with exactly this key.
pub fn remove<T: Template>(scope: &Scope<'_>, domain: &str, app: &str, stream: &str) -> Result<(), ApiError> {
    scope.context.catalog.delete_rule::<T>(domain, app, stream).map_err(|error| match error {
        CatalogError::NotFound => refuse("FailedOperation.NotFound", "There is no rule for exactly this."),
        other => other.into(),
    })
}

fn rule(request: CreateRequest, now: WallTime) -> Result<RecordRule, ApiError> {
    let (domain, app, stream) = key(&request.domain, request.app, request.stream, false)?;
    Ok(RecordRule { domain, app, stream, template_id: template_id(request.template_id), create_time: now, update_time: now })
}

/// The triple that is the key of a rule; absent app and stream are empty, which covers all.
///
/// Only the first-run rule has an empty domain: it can be deleted like any other, but no call makes another one.
fn key(domain: &str, app: Option<String>, stream: Option<String>, may_cover_all: bool) -> Result<(String, String, String), ApiError> {
    let domain = if may_cover_all && domain.is_empty() { String::new() } else { values::domain(domain)? };
    let app = values::app(app.unwrap_or_default(), "InvalidParameterValue")?;
    let stream = values::stream(stream.unwrap_or_default(), "InvalidParameterValue")?;
    Ok((domain, app, stream))
}

fn rule_info(rule: &RecordRule) -> Value {
    json!({
        "CreateTime": times::beijing(rule.create_time),
        "UpdateTime": times::beijing(rule.update_time),
        "TemplateId": rule.template_id.0,
        "DomainName": rule.domain,
        "AppName": rule.app,
        "StreamName": rule.stream,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::params::Parameters;
    use crate::control::tree::read_json;

    const NOW: WallTime = WallTime::from_unix_seconds(1_767_254_400);

    fn created(body: &str) -> Result<RecordRule, ApiError> {
        rule(CreateRequest::read_fields(read_json(body.as_bytes()).unwrap(), "")?, NOW)
    }

    #[test]
    fn golden_rule() {
        let rule = created(r#"{"DomainName":"PUSH.example.com","TemplateId":1001,"AppName":"live"}"#).unwrap();
        let expected = r#"{"AppName":"live","CreateTime":"2026-01-01 16:00:00","DomainName":"push.example.com","StreamName":"","TemplateId":1001,"UpdateTime":"2026-01-01 16:00:00"}"#;
        assert_eq!(rule_info(&rule).to_string(), expected);
    }

    #[test]
    fn bounds_and_codes() {
        for (body, code) in [
            (r#"{"TemplateId":1}"#, "MissingParameter"),
            (r#"{"DomainName":"a.b"}"#, "MissingParameter"),
            (r#"{"DomainName":"","TemplateId":1}"#, "InvalidParameter.DomainFormatError"),
            (r#"{"DomainName":"a b.c","TemplateId":1}"#, "InvalidParameter.DomainFormatError"),
            (r#"{"DomainName":"a.b","TemplateId":"x"}"#, "InvalidParameter"),
            (r#"{"DomainName":"a.b","TemplateId":1,"AppName":"a b"}"#, "InvalidParameterValue"),
            (r#"{"DomainName":"a.b","TemplateId":1,"StreamName":"a/b"}"#, "InvalidParameterValue"),
            (r#"{"DomainName":"a.b","TemplateId":1,"AppName":"a/b","StreamName":""}"#, "ok"),
            (r#"{"DomainName":"a.b","TemplateId":1,"Stream":"x"}"#, "UnknownParameter"),
        ] {
            assert_eq!(created(body).map_or_else(|error| error.code, |_| "ok"), code, "{body}");
        }
        assert!(key("", None, None, true).is_ok());
        assert_eq!(key("x y", None, None, true).unwrap_err().code, "InvalidParameter.DomainFormatError");
    }
}
