//! What the actions on definitions share: lists with presets, the checks of video and audio parameters and of pictures.

use serde_json::{Value, json};

use super::values::text_of;
use super::{Scope, reply};
use crate::catalog::CatalogError;
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::control::times;
use crate::domain::definition::{AudioTemplate, CUSTOM_DEFINITION_MIN, Definition, Picture, Sampling, VideoTemplate};
use crate::units::WallTime;

/// Custom definitions of one kind in one application (documented by the vendor).
pub const DEFINITIONS_MAX: u64 = 100;
/// Documented bounds, characters.
pub const NAME_CHARS_MAX: usize = 64;
pub const COMMENT_CHARS_MAX: usize = 256;
/// Numbers that one list call may name.
const LISTED_MAX: usize = 100;
const LIMIT_MAX: u64 = 100;
const LIMIT_DEFAULT: u64 = 10;
/// What a preset shows as the time of its creation.
pub const PRESET_TIME: &str = "2018-07-17T00:00:00Z";

parameters! {
    /// `VideoTemplateInfo`, of a new definition and of a change.
    VideoItem {
        optional {
            codec: String = "Codec",
            fps: u64 = "Fps",
            bitrate: u64 = "Bitrate",
            resolution_adaptive: String = "ResolutionAdaptive",
            width: u64 = "Width",
            height: u64 = "Height",
            fill_type: String = "FillType",
            vcrf: u64 = "Vcrf",
            gop: u64 = "Gop",
            gop_unit: String = "GopUnit",
            preserve_hdr_switch: String = "PreserveHDRSwitch",
            codec_tag: String = "CodecTag",
            mode: String = "Mode",
            bframes: i64 = "Bframes",
            hls_time: i64 = "HlsTime",
            video_profile: String = "VideoProfile",
        }
    }
}

parameters! {
    /// `AudioTemplateInfo`, of a new definition and of a change.
    group AudioItem {
        codec: String = "Codec",
        bitrate: u64 = "Bitrate",
        sample_rate: u64 = "SampleRate",
        audio_channel: i64 = "AudioChannel",
        stream_selects: Vec<i64> = "StreamSelects",
    }
}

parameters! {
    /// `TEHDConfig`: an encoder of the vendor's.
    TehdItem {
        optional {
            kind: String = "Type",
            max_video_bitrate: u64 = "MaxVideoBitrate",
        }
    }
}

parameters! {
    /// `EnhanceConfig`: filters of the vendor's.
    EnhanceItem {
        optional {
            video: EnhanceParts = "VideoEnhance",
            audio: EnhanceParts = "AudioEnhance",
        }
    }
}

/// Only whether there is anything in it that is switched on.
#[derive(Clone, PartialEq, Debug)]
pub struct EnhanceParts(bool);

impl crate::control::params::Parameter for EnhanceParts {
    fn read(value: crate::control::tree::Tree, path: &str) -> Result<Self, ApiError> {
        use crate::control::tree::Tree;
        fn is_on(value: &Tree) -> bool {
            match value {
                Tree::Text(text) | Tree::Flat(text) => text == "ON",
                Tree::Object(fields) => fields.iter().any(|(_, value)| is_on(value)),
                _ => false,
            }
        }
        match value {
            Tree::Object(_) => Ok(Self(is_on(&value))),
            _ => Err(crate::control::params::wrong_type(path, "an object")),
        }
    }
}

/// The vendor's own encoder and filters must be off.
pub fn without_extras(tehd: Option<TehdItem>, enhance: Option<EnhanceItem>, std_ext_info: Option<String>) -> Result<(), ApiError> {
    let is_tehd = tehd.and_then(|item| item.kind).is_some_and(|kind| !matches!(kind.as_str(), "" | "OFF"));
    let is_on = |parts: Option<EnhanceParts>| parts.is_some_and(|parts| parts.0);
    let is_enhanced = enhance.is_some_and(|item| is_on(item.video) || is_on(item.audio));
    let is_extended = std_ext_info.is_some_and(|text| !matches!(text.trim(), "" | "{}"));
    if is_tehd || is_enhanced || is_extended {
        return Err(refuse("UnsupportedOperation", "TEHDConfig, EnhanceConfig and StdExtInfo are not offered here."));
    }
    Ok(())
}

parameters! {
    /// A list of definitions.
    group ListRequest {
        sub_app_id: u64 = "SubAppId",
        definitions: Vec<i64> = "Definitions",
        kind: String = "Type",
        offset: u64 = "Offset",
        limit: u64 = "Limit",
    }
}

parameters! {
    /// A list of what is known by name.
    group NamesRequest {
        sub_app_id: u64 = "SubAppId",
        names: Vec<String> = "Names",
        kind: String = "Type",
        offset: u64 = "Offset",
        limit: u64 = "Limit",
    }
}

parameters! {
    /// Where a definition belongs and how it is called.
    group Label {
        sub_app_id: u64 = "SubAppId",
        name: String = "Name",
        comment: String = "Comment",
    }
}

parameters! {
    DeleteRequest {
        required { definition: i64 = "Definition", }
        optional { sub_app_id: u64 = "SubAppId", }
    }
}

/// A definition in a list.
pub struct Entry<D> {
    pub definition: i64,
    pub body: D,
    /// `None`: a preset.
    times: Option<(WallTime, WallTime)>,
}

impl<D: Definition> Entry<D> {
    /// Its body with what all of them show. `as_text`: the number is text here.
    pub fn info(&self, as_text: bool) -> Value {
        let mut info = serde_json::to_value(&self.body).unwrap_or_default();
        let (kind, created, updated) = match self.times {
            None => ("Preset", PRESET_TIME.to_owned(), PRESET_TIME.to_owned()),
            Some((created, updated)) => ("Custom", times::utc(created), times::utc(updated)),
        };
        info["Definition"] = if as_text { self.definition.to_string().into() } else { self.definition.into() };
        info["Type"] = kind.into();
        info["CreateTime"] = created.into();
        info["UpdateTime"] = updated.into();
        info
    }
}

/// Offset and limit of a list.
fn page(offset: Option<u64>, limit: Option<u64>) -> Result<(usize, usize), ApiError> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(refuse("InvalidParameterValue.Limit", format!("Limit is {limit}; it must be 1 to {LIMIT_MAX}.")));
    }
    Ok((usize::try_from(offset.unwrap_or(0)).unwrap_or(usize::MAX), limit as usize))
}

/// The `Type` of a list: `Preset`, `Custom` or both. True for presets, false for custom ones.
fn list_type(kind: Option<String>) -> Result<Option<bool>, ApiError> {
    match kind.as_deref() {
        None | Some("") => Ok(None),
        Some("Preset") => Ok(Some(true)),
        Some("Custom") => Ok(Some(false)),
        Some(_) => Err(refuse("InvalidParameterValue.Type", "Type must be Preset or Custom.")),
    }
}

/// Which things known by name a list call means.
pub struct Wanted {
    names: Vec<String>,
    /// True for presets, false for custom ones, `None` for both.
    kind: Option<bool>,
    offset: usize,
    limit: usize,
}

impl Wanted {
    pub fn of(request: NamesRequest) -> Result<Self, ApiError> {
        let names = request.names.unwrap_or_default();
        if names.len() > LISTED_MAX {
            return Err(ApiError::value(format!("Names has {} values; at most {LISTED_MAX} are allowed.", names.len())));
        }
        let kind = list_type(request.kind)?;
        let (offset, limit) = page(request.offset, request.limit)?;
        Ok(Self { names, kind, offset, limit })
    }

    /// Whether it is one of these, by its `Name` and `Type`.
    pub fn is_meant(&self, info: &Value) -> bool {
        let is_named = self.names.is_empty() || self.names.iter().any(|name| info["Name"] == name.as_str());
        is_named && self.kind.is_none_or(|preset| preset == (info["Type"] == "Preset"))
    }

    /// The answer of all that are meant, in their order: how many there are, and the page of them under `name`.
    pub fn reply(&self, name: &str, all: Vec<Value>) -> Reply {
        let mut answer = reply(json!({ "TotalCount": all.len() }));
        answer.insert(name.to_owned(), all.into_iter().skip(self.offset).take(self.limit).collect());
        answer
    }
}

/// The definitions that a list call means: how many, and the page of them.
pub fn list<D: Definition>(scope: &Scope<'_>, request: ListRequest, wanted: impl Fn(&D) -> bool) -> Result<(usize, Vec<Entry<D>>), ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let named = request.definitions.unwrap_or_default();
    if named.len() > LISTED_MAX {
        return Err(refuse(
            "InvalidParameterValue.Definitions",
            format!("Definitions has {} values; at most {LISTED_MAX} are allowed.", named.len()),
        ));
    }
    let kind = list_type(request.kind)?;
    let (offset, limit) = page(request.offset, request.limit)?;
    let presets = D::presets().into_iter().map(|(definition, body)| Entry { definition, body, times: None });
    let custom = scope.context.catalog.definitions::<D>(app)?;
    let custom =
        custom.into_iter().map(|(definition, stored)| Entry { definition, body: stored.body, times: Some((stored.create_time, stored.update_time)) });
    let is_meant = |entry: &Entry<D>| {
        (named.is_empty() || named.contains(&entry.definition)) && kind.is_none_or(|preset| preset == entry.times.is_none()) && wanted(&entry.body)
    };
    let all: Vec<Entry<D>> = presets.chain(custom).filter(is_meant).collect();
    let total = all.len();
    Ok((total, all.into_iter().skip(offset).take(limit).collect()))
}

/// An answer of `TotalCount` and the set under this name.
pub fn list_reply<D: Definition>(total: usize, name: &str, page: &[Entry<D>], info: impl Fn(&Entry<D>) -> Value) -> Reply {
    let mut answer = reply(json!({ "TotalCount": total }));
    answer.insert(name.to_owned(), page.iter().map(info).collect());
    answer
}

/// Stores a new definition; answers its number.
pub fn create<D: Definition>(scope: &Scope<'_>, app: u64, body: D) -> Result<Reply, ApiError> {
    let definition = scope.context.catalog.create_definition(app, body, DEFINITIONS_MAX, scope.now).map_err(|error| match error {
        CatalogError::Limit { limit } => refuse("LimitExceeded.TooMuchTemplate", format!("There are {limit} definitions of this kind already.")),
        error => error.into(),
    })?;
    Ok(reply(json!({ "Definition": definition })))
}

fn not_there(definition: i64) -> ApiError {
    refuse("ResourceNotFound.TemplateNotExist", format!("There is no definition {definition} of this kind."))
}

/// A preset is not to be changed.
fn custom<D: Definition>(definition: i64) -> Result<(), ApiError> {
    if definition < CUSTOM_DEFINITION_MIN && D::presets().iter().any(|(preset, _)| *preset == definition) {
        return Err(refuse("InvalidParameterValue.Definition", format!("The definition {definition} is a preset; it cannot be changed or deleted.")));
    }
    Ok(())
}

/// Changes a custom definition.
pub fn modify<D: Definition>(
    scope: &Scope<'_>,
    app: u64,
    definition: i64,
    change: impl FnOnce(&mut D) -> Result<(), ApiError> + Send + 'static,
) -> Result<Reply, ApiError> {
    custom::<D>(definition)?;
    scope.context.catalog.modify_definition(app, definition, scope.now, change).map_err(|error| match error {
        CatalogError::NotFound => not_there(definition),
        error => error.into(),
    })??;
    Ok(Reply::new())
}

/// Deletes a custom definition.
pub fn delete<D: Definition>(scope: &Scope<'_>, request: DeleteRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    custom::<D>(request.definition)?;
    scope.context.catalog.delete_definition(app, D::KIND, request.definition).map_err(|error| match error {
        CatalogError::NotFound => not_there(request.definition),
        error => error.into(),
    })?;
    Ok(Reply::new())
}

pub fn name(given: Option<String>, old: String) -> Result<String, ApiError> {
    given.map_or(Ok(old), |text| text_of(text, 0, NAME_CHARS_MAX, "Name", "InvalidParameterValue.Name"))
}

pub fn comment(given: Option<String>, old: String) -> Result<String, ApiError> {
    given.map_or(Ok(old), |text| text_of(text, 0, COMMENT_CHARS_MAX, "Comment", "InvalidParameterValue.Comment"))
}

/// A number that is 0 or within bounds, else `code`.
pub fn zero_or(value: u64, low: u64, high: u64, name: &str, code: &'static str) -> Result<u64, ApiError> {
    if value == 0 || (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(refuse(code, format!("{name} is {value}; it must be 0 or {low} to {high}.")))
}

/// One of a few words; empty means the first.
pub fn word(given: String, words: &[&str], name: &str, code: &'static str) -> Result<String, ApiError> {
    if given.is_empty() {
        return Ok(words[0].to_owned());
    }
    if words.contains(&given.as_str()) { Ok(given) } else { Err(refuse(code, format!("{name} must be one of {}.", words.join(", ")))) }
}

/// 0 or 1, else `code`.
pub fn flag<T: PartialOrd + From<u8> + std::fmt::Display>(value: T, name: &str, code: &'static str) -> Result<T, ApiError> {
    if value == T::from(0) || value == T::from(1) { Ok(value) } else { Err(refuse(code, format!("{name} is {value}; it must be 0 or 1."))) }
}

const RESOLUTION_ADAPTIVE: &[&str] = &["open", "close"];
const FILL_TYPES: &[&str] = &["black", "stretch", "white", "gauss"];

/// Lays what is given over what was, and checks the whole.
pub fn video(old: VideoTemplate, item: VideoItem) -> Result<VideoTemplate, ApiError> {
    let codec = item.codec.unwrap_or(old.codec);
    match codec.as_str() {
        "libx264" | "libx265" => {}
        "av1" | "H.266" => return Err(refuse("UnsupportedOperation", format!("The video codec {codec} is not offered here."))),
        _ => return Err(refuse("InvalidParameterValue.Codec", "VideoTemplate.Codec must be libx264 or libx265.")),
    }
    let fps = item.fps.unwrap_or(old.fps);
    if fps > 100 {
        return Err(refuse("InvalidParameterValue.Fps", format!("VideoTemplate.Fps is {fps}; it must be 0 to 100.")));
    }
    let vcrf = item.vcrf.unwrap_or(old.vcrf);
    Ok(VideoTemplate {
        codec,
        fps,
        bitrate: zero_or(item.bitrate.unwrap_or(old.bitrate), 128, 100_000, "VideoTemplate.Bitrate", "InvalidParameterValue.Bitrate")?,
        resolution_adaptive: word(
            item.resolution_adaptive.unwrap_or(old.resolution_adaptive),
            RESOLUTION_ADAPTIVE,
            "VideoTemplate.ResolutionAdaptive",
            "InvalidParameterValue.ResolutionAdaptive",
        )?,
        width: zero_or(item.width.unwrap_or(old.width), 128, 8_192, "VideoTemplate.Width", "InvalidParameterValue.Width")?,
        height: zero_or(item.height.unwrap_or(old.height), 128, 8_192, "VideoTemplate.Height", "InvalidParameterValue.Height")?,
        fill_type: word(item.fill_type.unwrap_or(old.fill_type), FILL_TYPES, "VideoTemplate.FillType", "InvalidParameterValue.FillType")?,
        vcrf: zero_or(vcrf, 1, 51, "VideoTemplate.Vcrf", "InvalidParameterValue.Vcrf")?,
        gop: zero_or(item.gop.unwrap_or(old.gop), 1, 100_000, "VideoTemplate.Gop", "InvalidParameterValue.Gop")?,
        gop_unit: word(item.gop_unit.unwrap_or(old.gop_unit), &["frame", "second"], "VideoTemplate.GopUnit", "InvalidParameterValue.GopUnit")?,
        preserve_hdr_switch: word(
            item.preserve_hdr_switch.unwrap_or(old.preserve_hdr_switch),
            &["OFF"],
            "VideoTemplate.PreserveHDRSwitch",
            "UnsupportedOperation",
        )?,
        codec_tag: word(
            item.codec_tag.unwrap_or(old.codec_tag),
            &["", "avc1", "hvc1", "hev1"],
            "VideoTemplate.CodecTag",
            "InvalidParameterValue.CodecTag",
        )?,
        mode: word(item.mode.unwrap_or(old.mode), &["", "VBR", "ABR", "CBR", "VCRF"], "VideoTemplate.Mode", "InvalidParameterValue.Mode")?,
        bframes: match item.bframes.unwrap_or(old.bframes) {
            frames @ -1..=16 => frames,
            frames => return Err(refuse("InvalidParameterValue.Bframes", format!("VideoTemplate.Bframes is {frames}; it must be -1 to 16."))),
        },
        hls_time: match item.hls_time.unwrap_or(old.hls_time) {
            seconds @ 0..=10 => seconds,
            seconds => return Err(refuse("InvalidParameterValue.HlsTime", format!("VideoTemplate.HlsTime is {seconds}; it must be 0 to 10."))),
        },
        video_profile: word(
            item.video_profile.unwrap_or(old.video_profile),
            &["", "default", "baseline", "main", "high"],
            "VideoTemplate.VideoProfile",
            "InvalidParameterValue.VideoProfile",
        )?,
    })
}

/// The audio codecs that a container can hold.
fn audio_codecs(container: &str) -> &'static [&'static str] {
    match container {
        "mp4" | "m4a" => &["libfdk_aac", "libmp3lame", "ac3"],
        "hls" => &["libfdk_aac", "libmp3lame", "ac3"],
        "flv" => &["libfdk_aac", "libmp3lame"],
        "mp3" => &["libmp3lame"],
        "flac" | "ogg" => &["flac"],
        // Written as PCM whatever is said.
        _ => &["libfdk_aac", "libmp3lame", "ac3", "flac"],
    }
}

/// As [`video`], for sound in this container.
pub fn audio(old: AudioTemplate, item: AudioItem, container: &str) -> Result<AudioTemplate, ApiError> {
    if item.stream_selects.is_some_and(|selected| !selected.is_empty()) {
        return Err(refuse("UnsupportedOperation", "AudioTemplate.StreamSelects is not offered here."));
    }
    let allowed = audio_codecs(container);
    let codec = item.codec.unwrap_or(old.codec);
    let codec = if codec.is_empty() { allowed[0].to_owned() } else { codec };
    if !allowed.contains(&codec.as_str()) {
        let message = format!("AudioTemplate.Codec must be one of {} in {container}.", allowed.join(", "));
        return Err(refuse("InvalidParameterValue.Codec", message));
    }
    let sample_rate = item.sample_rate.unwrap_or(old.sample_rate);
    if !matches!(sample_rate, 32_000 | 44_100 | 48_000) {
        return Err(refuse(
            "InvalidParameterValue.SampleRate",
            format!("AudioTemplate.SampleRate is {sample_rate}; it must be 32000, 44100 or 48000."),
        ));
    }
    let audio_channel = item.audio_channel.unwrap_or(old.audio_channel);
    if !matches!(audio_channel, 1 | 2 | 6) || (audio_channel == 6 && codec == "libmp3lame") {
        let message = format!("AudioTemplate.AudioChannel is {audio_channel}; it must be 1, 2 or 6, with libmp3lame 1 or 2.");
        return Err(refuse("InvalidParameterValue.AudioChannel", message));
    }
    let bitrate = zero_or(item.bitrate.unwrap_or(old.bitrate), 26, 256, "AudioTemplate.Bitrate", "InvalidParameterValue.Bitrate")?;
    Ok(AudioTemplate { codec, bitrate, sample_rate, audio_channel })
}

parameters! {
    /// What all pictures have.
    group PictureItem {
        width: u64 = "Width",
        height: u64 = "Height",
        resolution_adaptive: String = "ResolutionAdaptive",
        format: String = "Format",
        fill_type: String = "FillType",
    }
}

parameters! {
    /// How far apart pictures are.
    group SamplingItem {
        sample_type: String = "SampleType",
        sample_interval: u64 = "SampleInterval",
    }
}

/// As [`video`], for a picture.
pub fn picture(old: Picture, item: PictureItem) -> Result<Picture, ApiError> {
    Ok(Picture {
        width: zero_or(item.width.unwrap_or(old.width), 32, 4_096, "Width", "InvalidParameterValue.Width")?,
        height: zero_or(item.height.unwrap_or(old.height), 32, 4_096, "Height", "InvalidParameterValue.Height")?,
        resolution_adaptive: word(
            item.resolution_adaptive.unwrap_or(old.resolution_adaptive),
            RESOLUTION_ADAPTIVE,
            "ResolutionAdaptive",
            "InvalidParameterValue.ResolutionAdaptive",
        )?,
        format: word(item.format.unwrap_or(old.format), &["jpg", "png", "webp"], "Format", "InvalidParameterValue.Format")?,
        fill_type: word(item.fill_type.unwrap_or(old.fill_type), FILL_TYPES, "FillType", "InvalidParameterValue.FillType")?,
    })
}

/// As [`video`], for the distance of pictures.
pub fn sampling(old: Sampling, item: SamplingItem) -> Result<Sampling, ApiError> {
    let sample_type = item.sample_type.unwrap_or(old.sample_type);
    let sample_interval = item.sample_interval.unwrap_or(old.sample_interval);
    if !matches!(sample_type.as_str(), "Percent" | "Time") {
        return Err(refuse("InvalidParameterValue.SampleType", "SampleType must be Percent or Time."));
    }
    let high = if sample_type == "Percent" { 100 } else { 86_400 };
    if !(1..=high).contains(&sample_interval) {
        let message = format!("SampleInterval is {sample_interval}; it must be 1 to {high}.");
        return Err(refuse("InvalidParameterValue.SampleInterval", message));
    }
    Ok(Sampling { sample_type, sample_interval })
}
