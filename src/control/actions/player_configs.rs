//! Configurations of players, by name.

use serde_json::Value;

use super::definitions::{NamesRequest, PRESET_TIME, Wanted, comment, word};
use super::{Action, Scope, action};
use crate::catalog::{CatalogError, NamedKind};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::control::times;
use crate::domain::player::{DrmStreamings, PlayerConfig, ResolutionName};
use crate::domain::presets;

pub const ACTIONS: &[Action] = &[
    action!("CreateSuperPlayerConfig", Vod, create),
    action!("DescribeSuperPlayerConfigs", Vod, describe),
    action!("ModifySuperPlayerConfig", Vod, modify),
    action!("DeleteSuperPlayerConfig", Vod, delete),
];

const NAME_CHARS_MAX: usize = 64;
/// Names of resolutions in one configuration.
const RESOLUTIONS_MAX: usize = 100;
const DOMAIN_BYTES_MAX: usize = 253;
const CONFIGS_MAX: u64 = 100;

parameters! {
    ConfigRequest {
        required { name: String = "Name", }
        optional {
            sub_app_id: u64 = "SubAppId",
            audio_video_type: String = "AudioVideoType",
            drm_switch: String = "DrmSwitch",
            adaptive: u64 = "AdaptiveDynamicStreamingDefinition",
            drm: DrmItem = "DrmStreamingsInfo",
            transcode: u64 = "TranscodeDefinition",
            sprite: u64 = "ImageSpriteDefinition",
            resolution_names: Vec<ResolutionItem> = "ResolutionNames",
            domain: String = "Domain",
            scheme: String = "Scheme",
            comment: String = "Comment",
        }
    }
}

parameters! {
    DrmItem {
        optional {
            simple_aes: u64 = "SimpleAesDefinition",
            widevine: u64 = "WidevineDefinition",
            fair_play: u64 = "FairPlayDefinition",
        }
    }
}

parameters! {
    ResolutionItem {
        required {
            min_edge_length: u64 = "MinEdgeLength",
            name: String = "Name",
        }
    }
}

parameters! {
    DeleteRequest {
        required { name: String = "Name", }
        optional { sub_app_id: u64 = "SubAppId", }
    }
}

fn is_preset(name: &str) -> bool {
    presets::players().iter().any(|(preset, _)| *preset == name)
}

fn not_there() -> ApiError {
    refuse("ResourceNotFound", "There is no player configuration of that name.")
}

/// Lays what is given over what was, and checks the whole.
fn apply(old: PlayerConfig, request: ConfigRequest) -> Result<PlayerConfig, ApiError> {
    const VALUE: &str = "InvalidParameterValue";
    let drm = request.drm.map_or(old.drm_streamings_info.clone(), |item| DrmStreamings {
        simple_aes_definition: item.simple_aes.unwrap_or(old.drm_streamings_info.simple_aes_definition),
        widevine_definition: item.widevine.unwrap_or(old.drm_streamings_info.widevine_definition),
        fair_play_definition: item.fair_play.unwrap_or(old.drm_streamings_info.fair_play_definition),
    });
    let resolution_name_set = match request.resolution_names {
        None => old.resolution_name_set,
        Some(items) if items.len() > RESOLUTIONS_MAX => {
            return Err(ApiError::value(format!("ResolutionNames has {} values; at most {RESOLUTIONS_MAX} are allowed.", items.len())));
        }
        Some(items) => items.into_iter().map(|item| ResolutionName { min_edge_length: item.min_edge_length, name: item.name }).collect(),
    };
    let config = PlayerConfig {
        audio_video_type: word(
            request.audio_video_type.unwrap_or(old.audio_video_type),
            &["AdaptiveDynamicStream", "Transcode", "Original"],
            "AudioVideoType",
            VALUE,
        )?,
        drm_switch: word(request.drm_switch.unwrap_or(old.drm_switch), &["OFF", "ON"], "DrmSwitch", VALUE)?,
        adaptive_dynamic_streaming_definition: request.adaptive.unwrap_or(old.adaptive_dynamic_streaming_definition),
        drm_streamings_info: drm,
        transcode_definition: request.transcode.unwrap_or(old.transcode_definition),
        image_sprite_definition: request.sprite.unwrap_or(old.image_sprite_definition),
        resolution_name_set,
        domain: request.domain.map_or(Ok(old.domain), domain)?,
        scheme: word(request.scheme.unwrap_or(old.scheme), &["Default", "HTTP", "HTTPS"], "Scheme", VALUE)?,
        comment: comment(request.comment, old.comment)?,
    };
    let missing = |name: &str| Err(ApiError::value(format!("{name} is required for this AudioVideoType and DrmSwitch.")));
    match (config.audio_video_type.as_str(), config.drm_switch.as_str()) {
        ("AdaptiveDynamicStream", "OFF") if config.adaptive_dynamic_streaming_definition == 0 => missing("AdaptiveDynamicStreamingDefinition"),
        ("AdaptiveDynamicStream", "ON") if config.drm_streamings_info == DrmStreamings::default() => missing("DrmStreamingsInfo"),
        ("Transcode", _) if config.transcode_definition == 0 => missing("TranscodeDefinition"),
        _ => Ok(config),
    }
}

/// A host with or without a port, or `Default`.
fn domain(text: String) -> Result<String, ApiError> {
    if text.is_empty() {
        return Ok("Default".to_owned());
    }
    let is_good =
        text.len() <= DOMAIN_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']'));
    if is_good { Ok(text) } else { Err(ApiError::value("Domain must be a host name or Default.")) }
}

fn create(scope: &Scope<'_>, request: ConfigRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let name = request.name.clone();
    let is_good = (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if !is_good {
        return Err(ApiError::value(format!("Name must be 1 to {NAME_CHARS_MAX} letters, digits, _ and -.")));
    }
    // What is needed and not named is what the presets use.
    let mut old = PlayerConfig { adaptive_dynamic_streaming_definition: 10, ..PlayerConfig::default() };
    old.drm_streamings_info.simple_aes_definition = if request.drm_switch.as_deref() == Some("ON") { 12 } else { 0 };
    let config = apply(old, request)?;
    let exists = || ApiError::value("There is a player configuration of that name.");
    if is_preset(&name) {
        return Err(exists());
    }
    scope.context.catalog.create_named(app, NamedKind::Player, name, &config, CONFIGS_MAX, scope.now).map_err(|error| match error {
        CatalogError::Exists => exists(),
        CatalogError::Limit { limit } => refuse("LimitExceeded", format!("There are {limit} player configurations already.")),
        error => error.into(),
    })?;
    Ok(Reply::new())
}

fn modify(scope: &Scope<'_>, request: ConfigRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let name = request.name.clone();
    if is_preset(&name) {
        return Err(ApiError::value(format!("The player configuration {name} is a preset; it cannot be changed.")));
    }
    let change = move |body: &mut PlayerConfig| {
        *body = apply(body.clone(), request)?;
        Ok::<(), ApiError>(())
    };
    scope.context.catalog.modify_named(app, NamedKind::Player, name, scope.now, change).map_err(|error| match error {
        CatalogError::NotFound => not_there(),
        error => error.into(),
    })??;
    Ok(Reply::new())
}

fn describe(scope: &Scope<'_>, request: NamesRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let wanted = Wanted::of(request)?;
    let presets = presets::players().into_iter().map(|(name, config)| info(name, "Preset", &config, PRESET_TIME.to_owned(), PRESET_TIME.to_owned()));
    let custom = scope.context.catalog.named::<PlayerConfig>(app, NamedKind::Player)?;
    let custom =
        custom.into_iter().map(|(name, stored)| info(&name, "Custom", &stored.body, times::utc(stored.create_time), times::utc(stored.update_time)));
    Ok(wanted.reply("PlayerConfigSet", presets.chain(custom).filter(|info| wanted.is_meant(info)).collect()))
}

fn info(name: &str, kind: &str, config: &PlayerConfig, created: String, updated: String) -> Value {
    let mut info = serde_json::to_value(config).unwrap_or_default();
    info["Name"] = name.into();
    info["Type"] = kind.into();
    info["CreateTime"] = created.into();
    info["UpdateTime"] = updated.into();
    info
}

fn delete(scope: &Scope<'_>, request: DeleteRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    if is_preset(&request.name) {
        return Err(ApiError::value(format!("The player configuration {} is a preset; it cannot be deleted.", request.name)));
    }
    scope.context.catalog.delete_named(app, NamedKind::Player, request.name).map_err(|error| match error {
        CatalogError::NotFound => not_there(),
        error => error.into(),
    })?;
    Ok(Reply::new())
}
