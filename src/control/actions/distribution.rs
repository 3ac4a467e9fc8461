//! How an application's files are reached, and the key that signs what a player may play.

use serde_json::json;

use super::{Action, Scope, action, reply};
use crate::catalog::{Catalog, CatalogError, NamedKind};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::domain::player::Distribution;
use crate::units::WallTime;

pub const ACTIONS: &[Action] =
    &[action!("DescribeDefaultDistributionConfig", Vod, describe), action!("ModifyDefaultDistributionConfig", Vod, modify)];

/// Letters and digits of a playback key (documented).
const PLAY_KEY_CHARS: std::ops::RangeInclusive<usize> = 8..=20;

parameters! {
    DescribeRequest {
        optional { sub_app_id: u64 = "SubAppId", }
    }
}

parameters! {
    ModifyRequest {
        optional {
            sub_app_id: u64 = "SubAppId",
            domain: String = "Domain",
            scheme: String = "Scheme",
            play_key: String = "PlayKey",
        }
    }
}

/// The playback key of an application. The first who asks makes it, of chance.
pub fn play_key(catalog: &Catalog, app: u64, now: WallTime) -> Result<String, CatalogError> {
    let read = || catalog.one_named::<Distribution>(app, NamedKind::Distribution, "");
    if let Some(found) = read()? {
        return Ok(found.play_key);
    }
    // 32 of 128 random bits are a form, so 20 digits of 36 hold 80 of them: enough, and as long as a key may be.
    let chance = uuid::Uuid::new_v4().simple().to_string();
    let made = Distribution { play_key: chance.chars().rev().take(*PLAY_KEY_CHARS.end()).collect() };
    match catalog.create_named(app, NamedKind::Distribution, String::new(), &made, 1, now) {
        Ok(()) => Ok(made.play_key),
        // Somebody else was faster.
        Err(CatalogError::Exists) => Ok(read()?.unwrap_or_default().play_key),
        Err(error) => Err(error),
    }
}

/// Host and scheme of our addresses.
fn address(public_base: &str) -> (String, &'static str) {
    let (scheme, rest) = public_base.split_once("://").unwrap_or(("http", public_base));
    (rest.split('/').next().unwrap_or_default().to_owned(), if scheme == "https" { "HTTPS" } else { "HTTP" })
}

fn describe(scope: &Scope<'_>, request: DescribeRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let (domain, scheme) = address(&scope.context.public_base);
    let play_key = play_key(&scope.context.catalog, app, scope.now)?;
    Ok(reply(json!({ "DomainName": domain, "Domain": domain, "Scheme": scheme, "PlayKey": play_key })))
}

fn modify(scope: &Scope<'_>, request: ModifyRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let (domain, scheme) = address(&scope.context.public_base);
    let is_other = |given: &Option<String>, ours: &str| given.as_deref().is_some_and(|given| !given.is_empty() && !given.eq_ignore_ascii_case(ours));
    if is_other(&request.domain, &domain) || is_other(&request.scheme, scheme) {
        let message = format!("Addresses begin with {}; the setting http.public_base changes that, for all applications.", scope.context.public_base);
        return Err(refuse("UnsupportedOperation", message));
    }
    if let Some(key) = request.play_key.filter(|key| !key.is_empty()) {
        if !PLAY_KEY_CHARS.contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(ApiError::value("PlayKey must be 8 to 20 letters and digits."));
        }
        play_key(&scope.context.catalog, app, scope.now)?;
        let change = move |distribution: &mut Distribution| {
            distribution.play_key = key;
            Ok::<(), ApiError>(())
        };
        scope.context.catalog.modify_named(app, NamedKind::Distribution, String::new(), scope.now, change)??;
    }
    Ok(Reply::new())
}
