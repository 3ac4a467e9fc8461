//! Definitions of renditions.

use serde_json::{Value, json};

use super::definitions::{
    AudioItem, DeleteRequest, EnhanceItem, Entry, Label, ListRequest, TehdItem, VideoItem, audio, comment, create as store, delete as remove, flag,
    list, list_reply, modify as change, name, video, without_extras, word,
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
    /// What a definition is made or changed of.
    group Parts {
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

parameters! {
    CreateRequest {
        required { container: String = "Container", }
        with { label: Label, parts: Parts, }
    }
}

parameters! {
    ModifyRequest {
        required { definition: i64 = "Definition", }
        optional { container: String = "Container", }
        with { label: Label, parts: Parts, }
    }
}

parameters! {
    DescribeRequest {
        optional {
            container_type: String = "ContainerType",
            tehd_type: String = "TEHDType",
            enhance_type: String = "EnhanceType",
            enhance_scenario_type: String = "EnhanceScenarioType",
        }
        with { list: ListRequest, }
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

/// Lays what is given over what was, and checks the whole.
fn apply(old: TranscodeDefinition, container: Option<String>, parts: Parts) -> Result<TranscodeDefinition, ApiError> {
    without_extras(parts.tehd, parts.enhance, parts.std_ext_info)?;
    const CONTAINERS: [&str; 8] = ["mp4", "flv", "hls", "mp3", "flac", "ogg", "m4a", "wav"];
    let container = container.unwrap_or(old.container);
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
        audio(under, parts.audio.unwrap_or_default(), &container)?
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

/// A definition as it is for one time.
pub fn overridden(old: TranscodeDefinition, item: OverrideItem) -> Result<TranscodeDefinition, ApiError> {
    if old.remux {
        return Err(ApiError::value("A definition that keeps packets as they are has nothing to override."));
    }
    let container = item.container.filter(|text| !text.is_empty());
    let OverrideItem { remove_video, remove_audio, video, audio, tehd, .. } = item;
    apply(old, container, Parts { remove_video, remove_audio, video, audio, tehd, ..Parts::default() })
}

fn create(scope: &Scope<'_>, request: CreateRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.label.sub_app_id)?;
    let old = TranscodeDefinition {
        name: name(request.label.name, String::new())?,
        comment: comment(request.label.comment, String::new())?,
        video_template: VideoTemplate::none(),
        audio_template: AudioTemplate::none(),
        ..TranscodeDefinition::default()
    };
    store(scope, app, apply(old, Some(request.container), request.parts)?)
}

fn modify(scope: &Scope<'_>, request: ModifyRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.label.sub_app_id)?;
    change(scope, app, request.definition, move |body: &mut TranscodeDefinition| {
        let mut old = body.clone();
        old.name = name(request.label.name, old.name)?;
        old.comment = comment(request.label.comment, old.comment)?;
        *body = apply(old, request.container, request.parts)?;
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
    let (total, page) = list(scope, request.list, is_meant)?;
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
