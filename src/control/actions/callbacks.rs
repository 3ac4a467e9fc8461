//! Callback templates and rules: who is told of which domain's or app's streams; and the messages on their way, which no other vendor's API has.

use serde_json::{Map, Value, json};

use super::templates::{self, IdRequest, set, template_id};
use super::{Action, Scope, action, reply, rules, values};
use crate::catalog::{MessageInfo, MessageQuery, MessageState};
use crate::config::Role;
use crate::control::errors::{ApiError, refuse};
use crate::control::params::{NoParameters, parameters};
use crate::control::protocol::Reply;
use crate::control::times;
use crate::domain::event::ExceptionLevel;
use crate::domain::{CallbackAddress, CallbackTemplate, RecordRule};
use crate::units::TemplateId;

pub const ACTIONS: &[Action] = &[
    action!("CreateLiveCallbackTemplate", Live, create),
    action!("DescribeLiveCallbackTemplate", Live, describe),
    action!("DescribeLiveCallbackTemplates", Live, describe_all),
    action!("ModifyLiveCallbackTemplate", Live, modify),
    action!("DeleteLiveCallbackTemplate", Live, delete),
    action!("CreateLiveCallbackRule", Live, create_rule),
    action!("DescribeLiveCallbackRules", Live, describe_rules),
    action!("DeleteLiveCallbackRule", Live, delete_rule),
    action!("DescribeCallbackDeliveries", Live, describe_deliveries),
    action!("ReplayCallbackDeliveries", Live, replay_deliveries),
];

const KEY_BYTES_MAX: usize = 255;
/// Deliveries of one page, and sent again by one call.
const DELIVERIES_MAX: u64 = 1_000;
const DELIVERIES_DEFAULT: u64 = 100;

/// Names on the wire.
const ADDRESSES: [(CallbackAddress, &str); 10] = [
    (CallbackAddress::StreamBegin, "StreamBeginNotifyUrl"),
    (CallbackAddress::StreamEnd, "StreamEndNotifyUrl"),
    (CallbackAddress::Record, "RecordNotifyUrl"),
    (CallbackAddress::RecordStatus, "RecordStatusNotifyUrl"),
    (CallbackAddress::RecordException, "RecordExceptionNotifyUrl"),
    (CallbackAddress::PushException, "PushExceptionNotifyUrl"),
    (CallbackAddress::Snapshot, "SnapshotNotifyUrl"),
    (CallbackAddress::PornCensorship, "PornCensorshipNotifyUrl"),
    (CallbackAddress::StreamMix, "StreamMixNotifyUrl"),
    (CallbackAddress::AudioAudit, "AudioAuditNotifyUrl"),
];

parameters! {
    /// What a template is made or changed of, beside its name.
    group Parts {
        description: String = "Description",
        begin: String = "StreamBeginNotifyUrl",
        end: String = "StreamEndNotifyUrl",
        record: String = "RecordNotifyUrl",
        record_status: String = "RecordStatusNotifyUrl",
        record_exception: String = "RecordExceptionNotifyUrl",
        push_exception: String = "PushExceptionNotifyUrl",
        snapshot: String = "SnapshotNotifyUrl",
        porn: String = "PornCensorshipNotifyUrl",
        mix: String = "StreamMixNotifyUrl",
        audio: String = "AudioAuditNotifyUrl",
        levels: Vec<String> = "RecordExceptionLevels",
        key: String = "CallbackKey",
    }
}

parameters! {
    CreateRequest {
        required { name: String = "TemplateName", }
        with { parts: Parts, }
    }
}

parameters! {
    ModifyRequest {
        required { id: i64 = "TemplateId", }
        optional { name: String = "TemplateName", }
        with { parts: Parts, }
    }
}

parameters! {
    CreateRuleRequest {
        required {
            domain: String = "DomainName",
            template_id: i64 = "TemplateId",
        }
        optional { app: String = "AppName", }
    }
}

parameters! {
    DeleteRuleRequest {
        required { domain: String = "DomainName", }
        optional { app: String = "AppName", }
    }
}

parameters! {
    /// Which deliveries; absent conditions match all.
    DeliveriesRequest {
        optional {
            ids: Vec<i64> = "DeliveryIds",
            state: String = "State",
            event_type: String = "EventType",
            stream: String = "Stream",
            url: String = "Url",
            offset: u64 = "Offset",
            limit: u64 = "Limit",
        }
    }
}

fn create(scope: &Scope<'_>, request: CreateRequest) -> Result<Reply, ApiError> {
    let mut template = CallbackTemplate::empty(TemplateId(0), "");
    change(Some(request.name), request.parts, &scope.context.url_is_safe)?(&mut template);
    let id = templates::insert(scope, template)?;
    Ok(reply(json!({ "TemplateId": id.0 })))
}

fn describe(scope: &Scope<'_>, request: IdRequest) -> Result<Reply, ApiError> {
    let template = scope.context.catalog.template(template_id(request.id)).map_err(|error| templates::not_found(error, request.id))?;
    Ok(reply(json!({ "Template": template_info(&template) })))
}

fn describe_all(scope: &Scope<'_>, _: NoParameters) -> Result<Reply, ApiError> {
    let templates = scope.context.catalog.templates()?;
    Ok(reply(json!({ "Templates": templates.iter().map(template_info).collect::<Vec<_>>() })))
}

fn modify(scope: &Scope<'_>, request: ModifyRequest) -> Result<Reply, ApiError> {
    let given = request.id;
    let change = change(request.name, request.parts, &scope.context.url_is_safe)?;
    scope.context.catalog.modify_template(template_id(given), Box::new(change)).map_err(|error| templates::not_found(error, given))?;
    Ok(Reply::new())
}

fn delete(scope: &Scope<'_>, request: IdRequest) -> Result<Reply, ApiError> {
    templates::remove::<CallbackTemplate>(scope, request.id, "FailedOperation.NotFound")?;
    Ok(Reply::new())
}

fn create_rule(scope: &Scope<'_>, request: CreateRuleRequest) -> Result<Reply, ApiError> {
    let (domain, app) = rule_key(&request.domain, request.app)?;
    let template_id = template_id(request.template_id);
    let rule = RecordRule { domain, app, stream: String::new(), template_id, create_time: scope.now, update_time: scope.now };
    rules::insert::<CallbackTemplate>(scope, rule)?;
    Ok(Reply::new())
}

fn describe_rules(scope: &Scope<'_>, _: NoParameters) -> Result<Reply, ApiError> {
    let rules = scope.context.catalog.rules::<CallbackTemplate>()?;
    let info = |rule: &RecordRule| {
        json!({
            "CreateTime": times::beijing(rule.create_time),
            "UpdateTime": times::beijing(rule.update_time),
            "TemplateId": rule.template_id.0,
            "DomainName": rule.domain,
            "AppName": rule.app,
        })
    };
    Ok(reply(json!({ "Rules": rules.iter().map(info).collect::<Vec<_>>() })))
}

fn delete_rule(scope: &Scope<'_>, request: DeleteRuleRequest) -> Result<Reply, ApiError> {
    let (domain, app) = rule_key(&request.domain, request.app)?;
    rules::remove::<CallbackTemplate>(scope, &domain, &app, "")?;
    Ok(Reply::new())
}

fn rule_key(domain: &str, app: Option<String>) -> Result<(String, String), ApiError> {
    Ok((values::domain(domain)?, values::app(app.unwrap_or_default(), "InvalidParameterValue")?))
}

/// Checks what is given; the function then sets it and leaves everything else as it is.
fn change(name: Option<String>, parts: Parts, is_safe: &dyn Fn(&str) -> bool) -> Result<impl FnOnce(&mut CallbackTemplate) + Send + use<>, ApiError> {
    let name = name.map(values::template_name).transpose();
    let name = name.map_err(|error| refuse("InvalidParameter.ArgsNotMatch", error.message))?;
    let description = parts.description.map(values::description).transpose()?;
    // In the order of ADDRESSES.
    let given = [
        parts.begin,
        parts.end,
        parts.record,
        parts.record_status,
        parts.record_exception,
        parts.push_exception,
        parts.snapshot,
        parts.porn,
        parts.mix,
        parts.audio,
    ];
    let mut addresses = Vec::new();
    for ((address, wire), url) in ADDRESSES.into_iter().zip(given) {
        if let Some(url) = url {
            addresses.push((address, values::callback_url(url, wire, "InvalidParameterValue")?));
        }
    }
    let read_level =
        |level: &String| ExceptionLevel::parse(level).ok_or_else(|| ApiError::value("RecordExceptionLevels must be any of error, warning and info."));
    let levels = parts.levels.map(|levels| levels.iter().map(read_level).collect::<Result<Vec<_>, _>>()).transpose()?;
    let levels = levels.map(|mut levels| {
        levels.sort_unstable();
        levels.dedup();
        levels
    });
    if parts.key.as_ref().is_some_and(|key| key.len() > KEY_BYTES_MAX) {
        return Err(ApiError::value(format!("CallbackKey must be at most {KEY_BYTES_MAX} bytes.")));
    }
    // Last, since it may ask the name service.
    for (address, url) in &addresses {
        if !url.is_empty() && !is_safe(url) {
            let (_, wire) = ADDRESSES[*address as usize];
            return Err(refuse("InvalidParameter.UrlNotSafe", format!("{wire} lies in a network that must not be called.")));
        }
    }
    let key = parts.key;
    Ok(move |template: &mut CallbackTemplate| {
        set(&mut template.name, name);
        set(&mut template.description, description);
        for (address, url) in addresses {
            template.set_address(address, url);
        }
        set(&mut template.exception_levels, levels);
        set(&mut template.key, key);
    })
}

/// `CallBackTemplateInfo`.
fn template_info(template: &CallbackTemplate) -> Value {
    let mut info = Map::new();
    info.insert("TemplateId".to_owned(), template.id.0.into());
    info.insert("TemplateName".to_owned(), template.name.clone().into());
    info.insert("Description".to_owned(), template.description.clone().into());
    for (address, wire) in ADDRESSES {
        info.insert(wire.to_owned(), template.address(address).into());
    }
    info.insert("RecordExceptionLevels".to_owned(), template.exception_levels.iter().map(|level| level.name()).collect());
    info.insert("CallbackKey".to_owned(), template.key.clone().into());
    Value::Object(info)
}

fn query(request: DeliveriesRequest) -> Result<MessageQuery, ApiError> {
    let read_state = |state: String| {
        let known = MessageState::ALL.into_iter().find(|known| known.name() == state);
        known.ok_or_else(|| ApiError::value("State must be waiting, delivered or failed."))
    };
    let ids = request.ids.unwrap_or_default();
    if ids.len() as u64 > DELIVERIES_MAX {
        return Err(ApiError::value(format!("DeliveryIds must have at most {DELIVERIES_MAX} values.")));
    }
    Ok(MessageQuery {
        ids,
        state: request.state.filter(|state| !state.is_empty()).map(read_state).transpose()?,
        event: request.event_type.filter(|event| !event.is_empty()),
        stream: request.stream.filter(|stream| !stream.is_empty()),
        url: request.url.filter(|url| !url.is_empty()),
        offset: request.offset.unwrap_or(0),
        limit: values::in_range(request.limit.unwrap_or(DELIVERIES_DEFAULT), 1, DELIVERIES_MAX, "Limit")?,
    })
}

fn describe_deliveries(scope: &Scope<'_>, request: DeliveriesRequest) -> Result<Reply, ApiError> {
    let (total, messages) = scope.context.catalog.messages(&query(request)?)?;
    // The query of a push address may hold its secret.
    let shows_bodies = scope.caller.role() != Role::Reader;
    let deliveries: Vec<Value> = messages.iter().map(|message| delivery(message, shows_bodies)).collect();
    Ok(reply(json!({ "TotalCount": total, "Deliveries": deliveries })))
}

fn delivery(message: &MessageInfo, shows_body: bool) -> Value {
    let mut delivery = json!({
        "DeliveryId": message.id,
        "EventType": message.event,
        "Stream": message.stream,
        "Url": message.url,
        "State": message.state.name(),
        "Attempts": message.attempts,
        "CreateTime": times::utc(message.create_time),
        "LastTime": if message.attempts == 0 { String::new() } else { times::utc(message.last_time) },
        "LastAnswer": message.last_answer,
        "NextTime": message.due.map(times::utc).unwrap_or_default(),
    });
    if shows_body {
        delivery["Body"] = message.body.clone().into();
    }
    delivery
}

/// What is sent again must be named: everything at once is never meant.
fn replay_deliveries(scope: &Scope<'_>, request: DeliveriesRequest) -> Result<Reply, ApiError> {
    let query = query(request)?;
    if query.ids.is_empty() && query.state.is_none() && query.event.is_none() && query.stream.is_none() && query.url.is_none() {
        return Err(ApiError::missing("DeliveryIds (or State, EventType, Stream, Url)"));
    }
    let count = scope.context.catalog.replay_messages(query, scope.now)?;
    Ok(reply(json!({ "Count": count })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::params::Parameters;
    use crate::control::tree::read_json;

    fn created(body: &str) -> Result<CallbackTemplate, ApiError> {
        let request = CreateRequest::read_fields(read_json(body.as_bytes()).unwrap(), "")?;
        let mut template = CallbackTemplate::empty(TemplateId(1001), "");
        change(Some(request.name), request.parts, &|url| !url.contains("forbidden"))?(&mut template);
        Ok(template)
    }

    #[test]
    fn golden_template() {
        let body = r#"{"TemplateName":"t","Description":"d","StreamBeginNotifyUrl":"http://a.example/b","RecordNotifyUrl":"https://a.example:8443/r?x=1",
            "RecordExceptionLevels":["error","alarm","error"],"CallbackKey":"k"}"#;
        let expected = r#"{"AudioAuditNotifyUrl":"","CallbackKey":"k","Description":"d","PornCensorshipNotifyUrl":"","PushExceptionNotifyUrl":"","RecordExceptionLevels":["warning","error"],"RecordExceptionNotifyUrl":"","RecordNotifyUrl":"https://a.example:8443/r?x=1","RecordStatusNotifyUrl":"","SnapshotNotifyUrl":"","StreamBeginNotifyUrl":"http://a.example/b","StreamEndNotifyUrl":"","StreamMixNotifyUrl":"","TemplateId":1001,"TemplateName":"t"}"#;
        assert_eq!(template_info(&created(body).unwrap()).to_string(), expected);
    }

    #[test]
    fn every_address_has_its_name_and_place() {
        for (index, (address, _)) in ADDRESSES.into_iter().enumerate() {
            assert_eq!(address as usize, index);
        }
        for (address, wire) in ADDRESSES {
            let template = created(&format!(r#"{{"TemplateName":"t","{wire}":"http://a.example/{wire}"}}"#)).unwrap();
            assert_eq!((template.addresses.len(), template.address(address)), (1, format!("http://a.example/{wire}").as_str()));
        }
    }

    #[test]
    fn bounds_and_codes() {
        let long = "x".repeat(256);
        for (body, code) in [
            (r#"{}"#.to_owned(), "MissingParameter"),
            (r#"{"TemplateName":""}"#.to_owned(), "InvalidParameter.ArgsNotMatch"),
            (r#"{"TemplateName":"a b"}"#.to_owned(), "InvalidParameter.ArgsNotMatch"),
            (format!(r#"{{"TemplateName":"{long}"}}"#), "InvalidParameter.ArgsNotMatch"),
            (r#"{"TemplateName":"新-1_a"}"#.to_owned(), "ok"),
            (r#"{"TemplateName":"t","Description":"a\u0001"}"#.to_owned(), "InvalidParameterValue"),
            (r#"{"TemplateName":"t","RecordNotifyUrl":""}"#.to_owned(), "ok"),
            (r#"{"TemplateName":"t","RecordNotifyUrl":"a.example"}"#.to_owned(), "InvalidParameterValue"),
            (r#"{"TemplateName":"t","SnapshotNotifyUrl":"ftp://a.example"}"#.to_owned(), "InvalidParameterValue"),
            (r#"{"TemplateName":"t","RecordNotifyUrl":"http://u:p@a.example"}"#.to_owned(), "InvalidParameterValue"),
            (r#"{"TemplateName":"t","RecordNotifyUrl":"http://forbidden.example"}"#.to_owned(), "InvalidParameter.UrlNotSafe"),
            (r#"{"TemplateName":"t","RecordNotifyUrl":7}"#.to_owned(), "InvalidParameter"),
            (r#"{"TemplateName":"t","RecordExceptionLevels":["fatal"]}"#.to_owned(), "InvalidParameterValue"),
            (r#"{"TemplateName":"t","RecordExceptionLevels":"error"}"#.to_owned(), "InvalidParameter"),
            (format!(r#"{{"TemplateName":"t","CallbackKey":"{long}"}}"#), "InvalidParameterValue"),
            (r#"{"TemplateName":"t","NotifyUrl":"http://a.example"}"#.to_owned(), "UnknownParameter"),
        ] {
            assert_eq!(created(&body).map_or_else(|error| error.code, |_| "ok"), code, "{body:.100}");
        }
    }

    #[test]
    fn modify_leaves_what_is_absent_and_clears_what_is_empty() {
        let mut template =
            created(r#"{"TemplateName":"t","StreamBeginNotifyUrl":"http://a","StreamEndNotifyUrl":"http://b","RecordExceptionLevels":["info"]}"#)
                .unwrap();
        let body = r#"{"TemplateId":1001,"StreamBeginNotifyUrl":"","CallbackKey":"k"}"#;
        let request = ModifyRequest::read_fields(read_json(body.as_bytes()).unwrap(), "").unwrap();
        change(request.name, request.parts, &|_| true).unwrap()(&mut template);
        assert_eq!((template.address(CallbackAddress::StreamBegin), template.address(CallbackAddress::StreamEnd)), ("", "http://b"));
        assert_eq!((template.name.as_str(), template.key.as_str(), &template.exception_levels[..]), ("t", "k", &[ExceptionLevel::Info][..]));
    }
}
