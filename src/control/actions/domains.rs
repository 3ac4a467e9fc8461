//! Domains and the keys of their push addresses.

use serde_json::{Value, json};

use super::stream_control::end_streams;
use super::values::in_range;
use super::{Action, Scope, action, reply, values};
use crate::catalog::CatalogError;
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::control::times;
use crate::domain::{DomainKind, LiveDomain, PushAuth, StreamEnd};

pub const ACTIONS: &[Action] = &[
    action!("AddLiveDomain", Live, add),
    action!("DescribeLiveDomain", Live, describe),
    action!("DescribeLiveDomains", Live, describe_all),
    action!("DeleteLiveDomain", Live, delete),
    action!("EnableLiveDomain", Live, enable),
    action!("ForbidLiveDomain", Live, forbid),
    action!("ModifyLivePushAuthKey", Live, modify_key),
    action!("DescribeLivePushAuthKey", Live, describe_key),
];

const PAGE_SIZE_MIN: u64 = 10;
const PAGE_SIZE_MAX: u64 = 100;
const PAGE_NUM_MAX: u64 = 100_000;
/// `PlayType`: the mainland, worldwide, outside of it.
const PLAY_TYPE_MAX: u64 = 3;
const KEY_BYTES_MAX: usize = 255;
/// A week.
const AUTH_DELTA_S_MAX: u64 = 604_800;

parameters! {
    AddRequest {
        required {
            domain: String = "DomainName",
            kind: u64 = "DomainType",
        }
        optional {
            play_type: u64 = "PlayType",
            is_delay_live: u64 = "IsDelayLive",
            is_mini_program_live: u64 = "IsMiniProgramLive",
        }
        ignored { "VerifyOwnerType" }
    }
}

parameters! {
    DomainRequest {
        required { domain: String = "DomainName", }
    }
}

parameters! {
    DeleteRequest {
        required {
            domain: String = "DomainName",
            kind: u64 = "DomainType",
        }
    }
}

parameters! {
    ListRequest {
        optional {
            status: u64 = "DomainStatus",
            kind: u64 = "DomainType",
            page_size: u64 = "PageSize",
            page_num: u64 = "PageNum",
            is_delay_live: u64 = "IsDelayLive",
            prefix: String = "DomainPrefix",
            play_type: u64 = "PlayType",
        }
    }
}

parameters! {
    KeyRequest {
        required { domain: String = "DomainName", }
        optional {
            enable: i64 = "Enable",
            master_key: String = "MasterAuthKey",
            backup_key: String = "BackupAuthKey",
            delta_s: u64 = "AuthDelta",
        }
    }
}

fn add(scope: &Scope<'_>, request: AddRequest) -> Result<Reply, ApiError> {
    let name = values::domain(&request.domain)?;
    let kind = kind(request.kind)?;
    let auth = match kind {
        DomainKind::Push => PushAuth { enabled: scope.context.limits.push_auth_default, master_key: random_key(), ..PushAuth::default() },
        DomainKind::Play => PushAuth::default(),
    };
    let domain = LiveDomain {
        name,
        kind,
        enabled: true,
        create_time: scope.now,
        play_type: in_range(request.play_type.unwrap_or(1), 1, PLAY_TYPE_MAX, "PlayType")?,
        is_delay_live: in_range(request.is_delay_live.unwrap_or(0), 0, 1, "IsDelayLive")?,
        is_mini_program_live: in_range(request.is_mini_program_live.unwrap_or(0), 0, 1, "IsMiniProgramLive")?,
        auth,
    };
    scope.context.catalog.add_domain(domain, scope.context.limits.domains_max).map_err(|error| match error {
        CatalogError::Exists => refuse("FailedOperation.DomainAdded", "The domain has been added already."),
        CatalogError::Limit { limit } => refuse("LimitExceeded", format!("There are {limit} domains already.")),
        other => other.into(),
    })?;
    scope.refresh_policy()?;
    Ok(Reply::new())
}

/// 122 random bits in 32 digits.
fn random_key() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn kind(number: u64) -> Result<DomainKind, ApiError> {
    match number {
        0 => Ok(DomainKind::Push),
        1 => Ok(DomainKind::Play),
        other => Err(ApiError::value(format!("DomainType is {other}; it must be 0 (push) or 1 (play)."))),
    }
}

fn unknown(code: &'static str) -> ApiError {
    refuse(code, "This domain has not been added.")
}

fn describe(scope: &Scope<'_>, request: DomainRequest) -> Result<Reply, ApiError> {
    let name = values::domain(&request.domain)?;
    let domain = scope.context.catalog.domain(&name)?.ok_or_else(|| unknown("ResourceNotFound.DomainNotExist"))?;
    Ok(reply(json!({ "DomainInfo": domain_info(&domain) })))
}

fn describe_all(scope: &Scope<'_>, request: ListRequest) -> Result<Reply, ApiError> {
    list(&request, &scope.context.catalog.domains()?, scope.context.limits.domains_max)
}

/// `domains` by name.
fn list(request: &ListRequest, domains: &[LiveDomain], domains_max: u64) -> Result<Reply, ApiError> {
    let flag = |value: Option<u64>, name: &str| value.map(|value| in_range(value, 0, 1, name)).transpose();
    let status = flag(request.status, "DomainStatus")?;
    let kind = request.kind.map(kind).transpose()?;
    let is_delay_live = flag(request.is_delay_live, "IsDelayLive")?;
    let play_type = request.play_type.map(|value| in_range(value, 1, PLAY_TYPE_MAX, "PlayType")).transpose()?;
    let page_size = in_range(request.page_size.unwrap_or(PAGE_SIZE_MIN), PAGE_SIZE_MIN, PAGE_SIZE_MAX, "PageSize")?;
    let page_num = in_range(request.page_num.unwrap_or(1), 1, PAGE_NUM_MAX, "PageNum")?;
    let prefix = request.prefix.as_deref().unwrap_or_default().to_ascii_lowercase();
    let is_hit = |domain: &&LiveDomain| {
        status.is_none_or(|status| (status == 1) == domain.enabled)
            && kind.is_none_or(|kind| kind == domain.kind)
            && is_delay_live.is_none_or(|flag| flag == domain.is_delay_live)
            && play_type.is_none_or(|wanted| wanted == domain.play_type)
            && domain.name.starts_with(&prefix)
    };
    let hits: Vec<&LiveDomain> = domains.iter().filter(is_hit).collect();
    let count = |play_type| hits.iter().filter(|domain| domain.play_type == play_type).count();
    let skipped = ((page_num - 1) * page_size) as usize;
    let shown: Vec<Value> = hits.iter().skip(skipped).take(page_size as usize).map(|domain| domain_info(domain)).collect();
    Ok(reply(json!({
        "AllCount": hits.len(),
        "DomainList": shown,
        "CreateLimitCount": domains_max.saturating_sub(domains.len() as u64),
        "PlayTypeCount": [count(1), count(2), count(3)],
    })))
}

fn domain_info(domain: &LiveDomain) -> Value {
    json!({
        "Name": domain.name,
        "Type": match domain.kind { DomainKind::Push => 0, DomainKind::Play => 1 },
        "Status": u8::from(domain.enabled),
        "CreateTime": times::beijing(domain.create_time),
        "BCName": 0,
        "TargetDomain": "",
        "PlayType": domain.play_type,
        "IsDelayLive": domain.is_delay_live,
        "CurrentCName": "",
        "RentTag": 0,
        "RentExpireTime": "",
        "IsMiniProgramLive": domain.is_mini_program_live,
    })
}

fn delete(scope: &Scope<'_>, request: DeleteRequest) -> Result<Reply, ApiError> {
    let (name, kind) = (values::domain(&request.domain)?, kind(request.kind)?);
    scope.context.catalog.delete_domain(&name, kind).map_err(|error| match error {
        CatalogError::NotFound => unknown("ResourceNotFound.DomainNotExist"),
        other => other.into(),
    })?;
    scope.refresh_policy()?;
    Ok(Reply::new())
}

fn enable(scope: &Scope<'_>, request: DomainRequest) -> Result<Reply, ApiError> {
    set_enabled(scope, &request, true).map(|_| Reply::new())
}

fn forbid(scope: &Scope<'_>, request: DomainRequest) -> Result<Reply, ApiError> {
    let name = set_enabled(scope, &request, false)?;
    end_streams(scope, StreamEnd::Forbidden, |stream| *stream.key.domain == *name)?;
    Ok(Reply::new())
}

fn set_enabled(scope: &Scope<'_>, request: &DomainRequest, enabled: bool) -> Result<String, ApiError> {
    let name = values::domain(&request.domain)?;
    scope.context.catalog.change_domain(&name, move |domain| domain.enabled = enabled).map_err(|error| match error {
        CatalogError::NotFound => unknown("ResourceNotFound"),
        other => other.into(),
    })?;
    scope.refresh_policy()?;
    Ok(name)
}

fn modify_key(scope: &Scope<'_>, request: KeyRequest) -> Result<Reply, ApiError> {
    let name = values::domain(&request.domain)?;
    let enable = request.enable.map(|enable| in_range(enable, 0, 1, "Enable")).transpose()?;
    let master_key = key(request.master_key, "MasterAuthKey")?;
    let backup_key = key(request.backup_key, "BackupAuthKey")?;
    let delta_s = request.delta_s.map(|delta_s| in_range(delta_s, 0, AUTH_DELTA_S_MAX, "AuthDelta")).transpose()?;
    push_domain(scope, &name)?;
    let change = move |domain: &mut LiveDomain| {
        let auth = &mut domain.auth;
        auth.enabled = enable.map_or(auth.enabled, |enable| enable == 1);
        auth.delta_s = delta_s.unwrap_or(auth.delta_s);
        if let Some(key) = master_key {
            auth.master_key = key;
        }
        if let Some(key) = backup_key {
            auth.backup_key = key;
        }
    };
    scope.context.catalog.change_domain(&name, change).map_err(|error| match error {
        CatalogError::NotFound => unknown("ResourceNotFound.PushDomainNoRecord"),
        other => other.into(),
    })?;
    scope.refresh_policy()?;
    Ok(Reply::new())
}

/// A key to be set; empty means that it stays.
fn key(text: Option<String>, name: &str) -> Result<Option<String>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let is_good = text.len() <= KEY_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if is_good {
        return Ok(Some(text));
    }
    Err(ApiError::value(format!("{name} must be at most {KEY_BYTES_MAX} letters, digits, _ and -.")))
}

fn push_domain(scope: &Scope<'_>, name: &str) -> Result<LiveDomain, ApiError> {
    let domain = scope.context.catalog.domain(name)?.filter(|domain| domain.kind == DomainKind::Push);
    domain.ok_or_else(|| refuse("ResourceNotFound.PushDomainNoRecord", "There is no push domain of this name."))
}

fn describe_key(scope: &Scope<'_>, request: DomainRequest) -> Result<Reply, ApiError> {
    let domain = push_domain(scope, &values::domain(&request.domain)?)?;
    Ok(reply(json!({ "PushAuthKeyInfo": {
        "DomainName": domain.name,
        "Enable": u8::from(domain.auth.enabled),
        "MasterAuthKey": domain.auth.master_key,
        "BackupAuthKey": domain.auth.backup_key,
        "AuthDelta": domain.auth.delta_s,
    }})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::params::Parameters;
    use crate::control::tree::read_json;
    use crate::units::WallTime;

    fn domains() -> Vec<LiveDomain> {
        let domain = |index: u64| LiveDomain {
            name: format!("d{index:02}.example.com"),
            kind: if index.is_multiple_of(3) { DomainKind::Play } else { DomainKind::Push },
            enabled: index.is_multiple_of(2),
            create_time: WallTime::from_unix_seconds(1_767_254_400),
            play_type: index % 3 + 1,
            is_delay_live: 0,
            is_mini_program_live: 1,
            auth: PushAuth::default(),
        };
        (0..12).map(domain).collect()
    }

    fn listed(body: &str) -> Result<Reply, ApiError> {
        list(&ListRequest::read_fields(read_json(body.as_bytes()).unwrap(), "")?, &domains(), 20)
    }

    #[test]
    fn golden_domain() {
        let expected = r#"{"AllCount":1,"CreateLimitCount":8,"DomainList":[{"BCName":0,"CreateTime":"2026-01-01 16:00:00","CurrentCName":"","IsDelayLive":0,"IsMiniProgramLive":1,"Name":"d07.example.com","PlayType":2,"RentExpireTime":"","RentTag":0,"Status":0,"TargetDomain":"","Type":0}],"PlayTypeCount":[0,1,0]}"#;
        assert_eq!(Value::Object(listed(r#"{"DomainPrefix":"D07"}"#).unwrap()).to_string(), expected);
        assert_eq!(listed(r#"{"DomainPrefix":"x"}"#).unwrap()["DomainList"], json!([]));
    }

    #[test]
    fn pages_and_filters() {
        let names = |body: &str| {
            let answer = listed(body).unwrap();
            (answer["AllCount"].as_u64().unwrap(), answer["DomainList"].as_array().unwrap().len())
        };
        assert_eq!(names("{}"), (12, 10));
        assert_eq!(names(r#"{"PageNum":2}"#), (12, 2));
        assert_eq!(names(r#"{"PageNum":3,"PageSize":100}"#), (12, 0));
        assert_eq!(names(r#"{"DomainType":1}"#), (4, 4));
        assert_eq!(names(r#"{"DomainStatus":1,"DomainType":0}"#), (4, 4));
        assert_eq!(names(r#"{"PlayType":3,"IsDelayLive":0}"#), (4, 4));
        assert_eq!(names(r#"{"IsDelayLive":1}"#), (0, 0));
        for (body, code) in [
            (r#"{"DomainType":2}"#, "InvalidParameterValue"),
            (r#"{"DomainStatus":2}"#, "InvalidParameterValue"),
            (r#"{"PlayType":0}"#, "InvalidParameterValue"),
            (r#"{"PageSize":9}"#, "InvalidParameterValue"),
            (r#"{"PageSize":101}"#, "InvalidParameterValue"),
            (r#"{"PageNum":100001}"#, "InvalidParameterValue"),
            (r#"{"PageNum":"x"}"#, "InvalidParameter"),
            (r#"{"DomainName":"a.b"}"#, "UnknownParameter"),
        ] {
            assert_eq!(listed(body).unwrap_err().code, code, "{body}");
        }
    }

    #[test]
    fn keys() {
        assert_eq!(key(None, "K").unwrap(), None);
        assert_eq!(key(Some(String::new()), "K").unwrap(), None);
        assert_eq!(key(Some("aZ9_-".to_owned()), "K").unwrap().as_deref(), Some("aZ9_-"));
        for bad in ["a b", "a&b", "é", &"x".repeat(KEY_BYTES_MAX + 1)] {
            assert_eq!(key(Some(bad.to_owned()), "K").unwrap_err().code, "InvalidParameterValue", "{bad}");
        }
        let made = random_key();
        assert!(made.len() == 32 && made != random_key() && key(Some(made), "K").is_ok());
    }
}
