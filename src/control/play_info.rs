//! Play information by FileId, for players: `GET /getplayinfo/v4/<appId>/<fileId>?psign=...`, version 4 of the vendor's.

use serde_json::{Value, json};

use super::ControlContext;
use super::actions::distribution::play_key;
use super::actions::media_info::{cover_url, media_url};
use super::actions::results::Folder;
use super::http::{HttpAnswer, HttpRequest};
use super::signing;
use super::tree::decode_form;
use crate::catalog::{CatalogError, MediaRow, NamedKind};
use crate::domain::flow::{AdaptiveSet, numbered};
use crate::domain::player::{PlayerConfig, ResolutionName};
use crate::domain::presets;
use crate::domain::psign::{self, Claims, UrlAccess};
use crate::units::FileId;

pub const PREFIX: &str = "/getplayinfo/v4/";
/// A token for keys is good for this long, or as long as the signature is.
const TOKEN_S: i64 = 86_400;

/// Why there is no play information: a code and a sentence.
type Refusal = (i64, String);

const CODE_SIGNATURE: i64 = 1_005;
const CODE_NO_FILE: i64 = 1_008;
const CODE_NO_RESULT: i64 = 1_010;
const CODE_OURS: i64 = 1_500;

/// Answers a request whose path begins with [`PREFIX`]. Errors are HTTP 200 with a code.
pub fn answer(context: &ControlContext, request: &HttpRequest) -> HttpAnswer {
    let cors = |answer: HttpAnswer| answer.with("Access-Control-Allow-Origin", "*");
    match request.method.as_str() {
        "GET" => {}
        "OPTIONS" => return cors(HttpAnswer::empty(204)).with("Access-Control-Allow-Methods", "GET, OPTIONS"),
        _ => return cors(HttpAnswer::text(405, "text/plain", "Use GET.\n")).with("Allow", "GET, OPTIONS"),
    }
    let request_id = uuid::Uuid::new_v4().to_string();
    let body = match media(context, request) {
        Ok(media) => json!({ "code": 0, "message": "success", "requestId": request_id, "version": 4, "warning": "", "media": media }),
        Err((code, message)) => json!({ "code": code, "message": message, "requestId": request_id, "version": 4, "warning": "" }),
    };
    cors(HttpAnswer::text(200, "application/json", body.to_string())).with("Cache-Control", "no-store")
}

fn ours(error: CatalogError) -> Refusal {
    tracing::error!(%error, "the catalog cannot be read for play information");
    (CODE_OURS, "The catalog cannot be read.".to_owned())
}

fn media(context: &ControlContext, request: &HttpRequest) -> Result<Value, Refusal> {
    let no_file = || (CODE_NO_FILE, "There is no such file.".to_owned());
    let mut parts = request.path().strip_prefix(PREFIX).unwrap_or_default().split('/');
    let (app, file) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (Ok(app_id), Some(file_id), None) = (app.parse::<u64>(), FileId::parse(file), parts.next()) else { return Err(no_file()) };
    let sub_app = if app_id == context.app_id { 0 } else { app_id };
    let fields = decode_form(request.query().as_bytes()).unwrap_or_default();
    let token = fields.iter().find(|(name, _)| name == "psign").map_or("", |(_, value)| value.as_str());
    let now = (context.clock)();
    // An application that does not exist gets no key.
    let known = context.catalog.sub_app(sub_app);
    let key = match known {
        Ok(_) => play_key(&context.catalog, sub_app, now).map_err(ours)?,
        Err(CatalogError::NotFound) => return Err(no_file()),
        Err(error) => return Err(ours(error)),
    };
    let claims = psign::check(token, &key, app_id, file, now.unix_seconds()).map_err(|error| (CODE_SIGNATURE, format!("{error}.")))?;
    let found = context.catalog.playable(file_id).map_err(ours)?;
    let (row, is_played) = found.filter(|(row, _)| row.sub_app_id == sub_app).ok_or_else(no_file)?;
    if !is_played {
        return Err((CODE_NO_FILE, "The application of this file is switched off.".to_owned()));
    }
    let wanted = Wanted::of(context, sub_app, &claims)?;
    let expire_s = (now.unix_seconds() + TOKEN_S).min(claims.expire_time_stamp.unwrap_or(i64::MAX));
    let mut described = describe(context, &row, &wanted, expire_s)?;
    // What the backend that signed lets its player do.
    let terms = claims.url_access_info.as_ref().map(UrlAccess::terms).filter(|terms| !terms.t.is_empty());
    signing::Signing { terms: terms.as_ref(), ..context.signing(now) }.all(&mut described);
    Ok(described)
}

/// What is to be played, and how it is shown.
struct Wanted {
    form: Form,
    /// Nobody named the form: what is there is played.
    or_original: bool,
    sprite: i64,
    names: Vec<ResolutionName>,
}

enum Form {
    Original,
    Rendition(i64),
    Adaptive(i64),
    Encrypted(i64),
}

impl Wanted {
    fn of(context: &ControlContext, sub_app: u64, claims: &Claims) -> Result<Self, Refusal> {
        if let Some(info) = &claims.content_info {
            let form = match info.audio_video_type.as_str() {
                "RawAdaptive" => Form::Adaptive(info.raw_adaptive_definition),
                "ProtectedAdaptive" => Form::Encrypted(info.drm_adaptive_info.private_encryption_definition),
                "Transcode" => Form::Rendition(info.transcode_definition),
                "Original" => Form::Original,
                _ => {
                    let message = "contentInfo.audioVideoType must be RawAdaptive, ProtectedAdaptive, Transcode or Original.";
                    return Err((CODE_SIGNATURE, message.to_owned()));
                }
            };
            let names = if info.resolution_names.is_empty() { PlayerConfig::default().resolution_name_set } else { info.resolution_name_set() };
            return Ok(Self { form, or_original: false, sprite: info.image_sprite_definition, names });
        }
        let name = claims.pcfg.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
        let config = match presets::players().into_iter().find(|(preset, _)| *preset == name) {
            Some((_, config)) => config,
            None => {
                let found = context.catalog.one_named::<PlayerConfig>(sub_app, NamedKind::Player, name).map_err(ours)?;
                found.ok_or_else(|| (CODE_SIGNATURE, "There is no player configuration of the name in pcfg.".to_owned()))?
            }
        };
        let number = |definition: u64| i64::try_from(definition).unwrap_or(0);
        let form = match (config.audio_video_type.as_str(), config.drm_switch.as_str()) {
            ("Original", _) => Form::Original,
            ("Transcode", _) => Form::Rendition(number(config.transcode_definition)),
            (_, "ON") => Form::Encrypted(number(config.drm_streamings_info.simple_aes_definition)),
            _ => Form::Adaptive(number(config.adaptive_dynamic_streaming_definition)),
        };
        let or_original = matches!(form, Form::Adaptive(_) | Form::Rendition(_));
        Ok(Self { form, or_original, sprite: number(config.image_sprite_definition), names: config.resolution_name_set })
    }
}

fn describe(context: &ControlContext, row: &MediaRow, wanted: &Wanted, expire_s: i64) -> Result<Value, Refusal> {
    let (base, app_id) = (&context.public_base, context.app_id);
    let file_id = row.file.identity.file_id;
    let folder = Folder::new(file_id, base, app_id);
    let results = &row.extras.results;
    let stream = |width: u64, height: u64| json!({ "type": "video", "width": width, "height": height, "resolutionName": name_of(&wanted.names, width, height) });
    let streams =
        |set: &AdaptiveSet| set.streams.iter().filter(|stream| stream.has_video).map(|one| stream(one.width, one.height)).collect::<Vec<_>>();
    let adaptive =
        |definition: i64, encrypted: bool| results.adaptives.iter().find(|set| set.definition == definition && encrypted != set.drm_type.is_empty());
    let original = || {
        if row.extras.original_deleted {
            return None;
        }
        let video = row.file.summary.video.as_ref();
        let streams: Vec<Value> = video.map(|track| stream(track.width.into(), track.height.into())).into_iter().collect();
        if row.file.identity.encryption.is_some() {
            let output = json!({ "type": "SimpleAES", "url": media_url(row, base, app_id), "subStreams": streams });
            return Some(json!({ "drmOutput": [output], "drmToken": context.master_key.token(file_id, expire_s) }));
        }
        Some(json!({ "plainOutput": { "type": row.file.identity.format.name(), "url": media_url(row, base, app_id), "subStreams": streams } }))
    };
    let made = match wanted.form {
        Form::Original => original(),
        Form::Rendition(definition) => results.renditions.iter().find(|set| set.definition == definition).map(|set| {
            let streams: Vec<Value> = set.video.iter().map(|track| stream(track.width, track.height)).collect();
            json!({ "plainOutput": { "type": set.container, "url": folder.url(&set.files.entry), "subStreams": streams } })
        }),
        Form::Adaptive(definition) => adaptive(definition, false)
            .map(|set| json!({ "plainOutput": { "type": "hls", "url": folder.url(&set.files.entry), "subStreams": streams(set) } })),
        Form::Encrypted(definition) => adaptive(definition, true).map(|set| {
            let output = json!({ "type": "SimpleAES", "url": folder.url(&set.files.entry), "subStreams": streams(set) });
            json!({ "drmOutput": [output], "drmToken": context.master_key.token(file_id, expire_s) })
        }),
    };
    // A recording that is encrypted itself needs no encrypted form of its own.
    let is_sealed = matches!(wanted.form, Form::Encrypted(_)) && row.file.identity.encryption.is_some();
    let streaming = made.or_else(|| if wanted.or_original || is_sealed { original() } else { None });
    let streaming = streaming.ok_or_else(|| (CODE_NO_RESULT, "The file has not been made in the form that is wanted.".to_owned()))?;
    let mut media = json!({
        "basicInfo": {
            "name": row.name,
            "size": row.file.size_bytes,
            "duration": row.file.summary.duration_ms as f64 / 1_000.0,
            "description": row.description,
            "coverUrl": row.extras.cover.as_ref().map(|extension| cover_url(file_id, extension, base, app_id)).unwrap_or_default(),
        },
        "streamingInfo": streaming,
    });
    if let Some(set) = results.sprites.iter().find(|set| set.definition == wanted.sprite) {
        let urls: Vec<String> = numbered(&set.files.prefix, &set.extension, set.sheets).map(|name| folder.url(&name)).collect();
        media["imageSpriteInfo"] = json!({ "imageUrls": urls, "webVttUrl": folder.url(&set.files.entry) });
    }
    if !row.extras.key_frame_descs.is_empty() {
        let list = row.extras.key_frame_descs.iter().map(|desc| json!({ "timeOffset": desc.time_offset_s, "content": desc.content }));
        media["keyFrameDescInfo"] = json!({ "keyFrameDescList": list.collect::<Vec<_>>() });
    }
    Ok(media)
}

/// The first name whose edge is not below the short edge of the picture.
fn name_of(names: &[ResolutionName], width: u64, height: u64) -> String {
    let edge = width.min(height);
    let fitting = names.iter().filter(|name| name.min_edge_length >= edge).min_by_key(|name| name.min_edge_length);
    fitting.map_or_else(|| format!("{edge}p"), |name| name.name.clone())
}
