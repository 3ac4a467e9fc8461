//! Definitions of renditions.

use serde_json::{Value, json};

use super::definitions::{
    AudioItem, DeleteRequest, EnhanceItem, Entry, ListRequest, TehdItem, VideoItem, audio, comment, create as store, delete as remove, flag, list,
    list_reply, modify as change, name, video, without_extras, word,
};
use super::{Action, Scope, action};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::domain::definition::{AudioTemplate, TranscodeDefinition, VideoTemplate, is_audio_container};

pub const ACTIONS: &[Action] = &[
    action!("CreateTranscodeTemplate", Vod, create),
    action!("DescribeTranscodeTemplates", Vod, describe),
    action!("ModifyTranscodeTemplate", Vod, modify),
    action!("DeleteTranscodeTemplate", Vod, delete),
];

parameters! {
    CreateRequest {
        required { container: String = "Container", }
        optional {
            sub_app_id: u64 = "SubAppId",
            name: String = "Name",
            comment: String = "Comment",
            remove_video: i64 = "RemoveVideo",
            remove_audio: i64 = "RemoveAudio",
            video: VideoItem = "VideoTemplate",
            audio: AudioItem = "AudioTemplate",
            tehd: TehdItem = "TEHDConfig",
            enhance: EnhanceItem = "EnhanceConfig",
            segment_type: String = "SegmentType",
            std_ext_info: String = "StdExtInfo",
        }
    }
}

parameters! {
    ModifyRequest {
        required { definition: i64 = "Definition", }
        optional {
            sub_app_id: u64 = "SubAppId",
            container: String = "Container",
            name: String = "Name",
            comment: String = "Comment",
            remove_video: i64 = "RemoveVideo",
            remove_audio: i64 = "RemoveAudio",
            video: VideoItem = "VideoTemplate",
            audio: AudioItem = "AudioTemplate",
            tehd: TehdItem = "TEHDConfig",
            enhance: EnhanceItem = "EnhanceConfig",
            segment_type: String = "SegmentType",
            std_ext_info: String = "StdExtInfo",
        }
    }
}

parameters! {
    DescribeRequest {
        optional {
            sub_app_id: u64 = "SubAppId",
            definitions: Vec<i64> = "Definitions",
            kind: String = "Type",
            container_type: String = "ContainerType",
            tehd_type: String = "TEHDType",
            enhance_type: String = "EnhanceType",
            enhance_scenario_type: String = "EnhanceScenarioType",
            offset: u64 = "Offset",
            limit: u64 = "Limit",
        }
    }
}

parameters! {
    /// `OverrideTranscodeParameter`: what differs from a definition for one time.
    OverrideItem {
        optional {
            container: String = "Container",
            remove_video: i64 = "RemoveVideo",
            remove_audio: i64 = "RemoveAudio",
            video: VideoItem = "VideoTemplate",
            audio: AudioItem = "AudioTemplate",
            tehd: TehdItem = "TEHDConfig",
        }
    }
}

/// What a definition is made or changed of.
struct Parts {
    container: Option<String>,
    remove_video: Option<i64>,
    remove_audio: Option<i64>,
    video: Option<VideoItem>,
    audio: Option<AudioItem>,
    segment_type: Option<String>,
}

/// Lays what is given over what was, and checks the whole.
fn apply(old: TranscodeDefinition, parts: Parts) -> Result<TranscodeDefinition, ApiError> {
    const CONTAINERS: [&str; 8] = ["mp4", "flv", "hls", "mp3", "flac", "ogg", "m4a", "wav"];
    let container = parts.container.unwrap_or(old.container);
    if !CONTAINERS.contains(&container.as_str()) {
        return Err(refuse("InvalidParameterValue.Container", format!("Container must be one of {}.", CONTAINERS.join(", "))));
    }
    let remove_video = flag(parts.remove_video.unwrap_or(old.remove_video), "RemoveVideo", "InvalidParameterValue.RemoveVideo")?;
    let remove_audio = flag(parts.remove_audio.unwrap_or(old.remove_audio), "RemoveAudio", "InvalidParameterValue.RemoveAudio")?;
    let has_video = remove_video == 0 && !is_audio_container(&container);
    if remove_audio == 1 && !has_video {
        return Err(ApiError::invalid("RemoveVideo and RemoveAudio exclude each other, and a container of audio keeps it."));
    }
    let video_template = match (has_video, parts.video) {
        (false, _) => VideoTemplate::none(),
        (true, None) if old.video_template.codec.is_empty() => return Err(ApiError::missing("VideoTemplate")),
        (true, None) => old.video_template,
        (true, Some(item)) => {
            let under = if old.video_template.codec.is_empty() { VideoTemplate::default() } else { old.video_template };
            video(under, item)?
        }
    };
    let audio_template = if remove_audio == 1 {
        AudioTemplate::none()
    } else {
        if parts.audio.is_none() && old.audio_template.codec.is_empty() {
            return Err(ApiError::missing("AudioTemplate"));
        }
        // Also without a change of its own: the container may be another one.
        let under =
            if old.audio_template.codec.is_empty() { AudioTemplate { codec: String::new(), ..AudioTemplate::default() } } else { old.audio_template };
        audio(under, parts.audio.unwrap_or_else(no_audio_change), &container)?
    };
    let segment_type = word(parts.segment_type.unwrap_or(old.segment_type), &["ts", "fmp4"], "SegmentType", "InvalidParameterValue.SegmentType")?;
    Ok(TranscodeDefinition {
        segment_type: if container == "hls" { segment_type } else { String::new() },
        container,
        remove_video,
        remove_audio,
        video_template,
        audio_template,
        ..old
    })
}

fn no_audio_change() -> AudioItem {
    AudioItem { codec: None, bitrate: None, sample_rate: None, audio_channel: None, stream_selects: None }
}

/// A definition as it is for one time.
pub fn overridden(old: TranscodeDefinition, item: OverrideItem) -> Result<TranscodeDefinition, ApiError> {
    without_extras(item.tehd, None, None)?;
    if old.remux {
        return Err(ApiError::value("A definition that keeps packets as they are has nothing to override."));
    }
    let (container, remove_video, remove_audio) = (item.container.filter(|text| !text.is_empty()), item.remove_video, item.remove_audio);
    apply(old, Parts { container, remove_video, remove_audio, video: item.video, audio: item.audio, segment_type: None })
}

fn create(scope: &Scope<'_>, request: CreateRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    without_extras(request.tehd, request.enhance, request.std_ext_info)?;
    let old = TranscodeDefinition {
        name: name(request.name, String::new())?,
        comment: comment(request.comment, String::new())?,
        video_template: VideoTemplate::none(),
        audio_template: AudioTemplate::none(),
        ..TranscodeDefinition::default()
    };
    let parts = Parts {
        container: Some(request.container),
        remove_video: request.remove_video,
        remove_audio: request.remove_audio,
        video: request.video,
        audio: request.audio,
        segment_type: request.segment_type,
    };
    store(scope, app, apply(old, parts)?)
}

fn modify(scope: &Scope<'_>, request: ModifyRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    without_extras(request.tehd, request.enhance, request.std_ext_info)?;
    change(scope, app, request.definition, move |body: &mut TranscodeDefinition| {
        let mut old = body.clone();
        old.name = name(request.name, old.name)?;
        old.comment = comment(request.comment, old.comment)?;
        let parts = Parts {
            container: request.container,
            remove_video: request.remove_video,
            remove_audio: request.remove_audio,
            video: request.video,
            audio: request.audio,
            segment_type: request.segment_type,
        };
        *body = apply(old, parts)?;
        Ok(())
    })
}

fn describe(scope: &Scope<'_>, request: DescribeRequest) -> Result<Reply, ApiError> {
    let container_type = request.container_type.filter(|text| !text.is_empty());
    if container_type.as_deref().is_some_and(|text| !matches!(text, "Video" | "PureAudio")) {
        return Err(refuse("InvalidParameterValue.ContainerType", "ContainerType must be Video or PureAudio."));
    }
    let tehd_type = request.tehd_type.filter(|text| !text.is_empty());
    let is_meant = |body: &TranscodeDefinition| {
        let with_container = container_type.as_deref().is_none_or(|wanted| wanted == container_type_of(body));
        // No definition here uses the vendor's encoder or filters.
        with_container && tehd_type.as_deref().is_none_or(|wanted| wanted == "Common") && request.enhance_type.as_deref().is_none_or(str::is_empty)
    };
    let page = ListRequest {
        sub_app_id: request.sub_app_id,
        definitions: request.definitions,
        kind: request.kind,
        offset: request.offset,
        limit: request.limit,
    };
    let (total, page) = list(scope, page, is_meant)?;
    Ok(list_reply(total, "TranscodeTemplateSet", &page, info))
}

fn container_type_of(body: &TranscodeDefinition) -> &'static str {
    if is_audio_container(&body.container) { "PureAudio" } else { "Video" }
}

fn info(entry: &Entry<TranscodeDefinition>) -> Value {
    let mut info = entry.info(true);
    if let Some(fields) = info.as_object_mut() {
        fields.remove("Remux");
    }
    info["TEHDConfig"] = json!({ "Type": "", "MaxVideoBitrate": 0 });
    info["ContainerType"] = container_type_of(&entry.body).into();
    info["StdExtInfo"] = "".into();
    info
}

fn delete(scope: &Scope<'_>, request: DeleteRequest) -> Result<Reply, ApiError> {
    remove::<TranscodeDefinition>(scope, request)
}
