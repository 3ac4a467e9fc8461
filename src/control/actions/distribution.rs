//! How an application's files are reached, and the key that signs what a player may play.

use std::collections::HashMap;

use serde_json::json;

use super::templates::set;
use super::values::in_range;
use super::{Action, Scope, action, reply};
use crate::catalog::{Catalog, CatalogError, NamedKind};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::domain::player::Distribution;
use crate::domain::url_sign::{KEY_CHARS, LIFETIME_S_DEFAULT, UrlProtection};
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
            key_protection: KeyProtection = "KeyProtection",
        }
    }
}

parameters! {
    /// Of our own: whether addresses need a signature.
    KeyProtection {
        optional {
            enable: i64 = "Enable",
            key: String = "Key",
            backup_key: String = "BackupKey",
            lifetime: u64 = "Lifetime",
        }
    }
}

/// Addresses in answers are good for at most so long, s.
const LIFETIME_S_MAX: u64 = 365 * 86_400;

/// What is known of all applications, for who serves their files.
///
/// # Errors
/// If the catalog cannot be read.
pub fn protections(catalog: &Catalog) -> Result<HashMap<u64, UrlProtection>, CatalogError> {
    let apps = catalog.sub_apps()?;
    let read = |app: u64| Ok(catalog.one_named::<Distribution>(app, NamedKind::Distribution, "")?.map(|found| (app, found.key_protection)));
    apps.iter().filter_map(|app| read(app.id).transpose()).collect()
}

impl KeyProtection {
    /// Checked; sets what is given and leaves the rest as it is.
    fn change(self) -> Result<impl FnOnce(&mut UrlProtection) -> Result<(), ApiError> + Send, ApiError> {
        let enable = self.enable.map(|enable| in_range(enable, 0, 1, "KeyProtection.Enable")).transpose()?;
        let is_key = |key: &str| KEY_CHARS.contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        for (key, name) in [(&self.key, "Key"), (&self.backup_key, "BackupKey")] {
            // An empty backup key takes it away.
            let is_fine = |key: &str| is_key(key) || (key.is_empty() && name == "BackupKey");
            if !key.as_deref().is_none_or(is_fine) {
                return Err(ApiError::value(format!("KeyProtection.{name} must be 8 to 20 letters and digits.")));
            }
        }
        let lifetime = self.lifetime.map(|seconds| in_range(seconds, 60, LIFETIME_S_MAX, "KeyProtection.Lifetime")).transpose()?;
        Ok(move |protection: &mut UrlProtection| {
            set(&mut protection.enable, enable.map(|enable| enable == 1));
            set(&mut protection.key, self.key);
            set(&mut protection.backup_key, self.backup_key);
            set(&mut protection.lifetime_s, lifetime);
            if protection.enable && protection.key.is_empty() {
                return Err(ApiError::value("KeyProtection.Enable needs KeyProtection.Key."));
            }
            Ok(())
        })
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
    let made = Distribution { play_key: chance.chars().rev().take(*PLAY_KEY_CHARS.end()).collect(), ..Distribution::default() };
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
    let catalog = &scope.context.catalog;
    let play_key = play_key(catalog, app, scope.now)?;
    let mut answer = json!({ "DomainName": domain, "Domain": domain, "Scheme": scheme, "PlayKey": play_key });
    let UrlProtection { enable, key, backup_key, lifetime_s } =
        catalog.one_named::<Distribution>(app, NamedKind::Distribution, "")?.unwrap_or_default().key_protection;
    if !key.is_empty() {
        let lifetime_s = if lifetime_s == 0 { LIFETIME_S_DEFAULT } else { lifetime_s };
        answer["KeyProtection"] = json!({ "Enable": i64::from(enable), "Key": key, "BackupKey": backup_key, "Lifetime": lifetime_s });
    }
    Ok(reply(answer))
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
    if let Some(protection) = request.key_protection {
        let change = protection.change()?;
        play_key(&scope.context.catalog, app, scope.now)?;
        let change = move |distribution: &mut Distribution| change(&mut distribution.key_protection);
        scope.context.catalog.modify_named(app, NamedKind::Distribution, String::new(), scope.now, change)??;
        scope.context.media.protections.set(protections(&scope.context.catalog)?);
    }
    Ok(Reply::new())
}
