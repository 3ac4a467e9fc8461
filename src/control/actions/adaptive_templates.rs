//! Definitions of adaptive streams.

use serde_json::Value;

use super::definitions::{
    AudioItem, DeleteRequest, EnhanceItem, Entry, Label, ListRequest, TehdItem, VideoItem, audio, comment, create as store, delete as remove, flag,
    list, list_reply, modify as change, name, video, without_extras, word,
};
use super::{Action, Scope, action};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::domain::definition::{AdaptiveDefinition, AdaptiveStream, AudioTemplate, VideoTemplate};

pub const ACTIONS: &[Action] = &[
    action!("CreateAdaptiveDynamicStreamingTemplate", Vod, create),
    action!("DescribeAdaptiveDynamicStreamingTemplates", Vod, describe),
    action!("ModifyAdaptiveDynamicStreamingTemplate", Vod, modify),
    action!("DeleteAdaptiveDynamicStreamingTemplate", Vod, delete),
];

const STREAMS_MAX: usize = 10;
const SEGMENT_S_MAX: u64 = 10;
const SEGMENT_S_DEFAULT: u64 = 6;

parameters! {
    StreamItem {
        required {
            video: VideoItem = "Video",
        }
        optional {
            audio: AudioItem = "Audio",
            remove_audio: u64 = "RemoveAudio",
            remove_video: u64 = "RemoveVideo",
            tehd: TehdItem = "TEHDConfig",
            enhance: EnhanceItem = "EnhanceConfig",
            std_ext_info: String = "StdExtInfo",
        }
    }
}

parameters! {
    /// What a definition is made or changed of.
    group Parts {
        disable_higher_bitrate: u64 = "DisableHigherVideoBitrate",
        disable_higher_resolution: u64 = "DisableHigherVideoResolution",
        segment_type: String = "SegmentType",
        segment_duration: u64 = "SegmentDuration",
    }
}

parameters! {
    CreateRequest {
        required {
            format: String = "Format",
            stream_infos: Vec<StreamItem> = "StreamInfos",
        }
        optional { drm_type: String = "DrmType", }
        with { label: Label, parts: Parts, }
        ignored { "DrmKeyProvider", "DrmEncryptType" }
    }
}

parameters! {
    ModifyRequest {
        required { definition: i64 = "Definition", }
        optional {
            format: String = "Format",
            stream_infos: Vec<StreamItem> = "StreamInfos",
        }
        with { label: Label, parts: Parts, }
    }
}

fn streams(items: Vec<StreamItem>) -> Result<Vec<AdaptiveStream>, ApiError> {
    if items.is_empty() || items.len() > STREAMS_MAX {
        return Err(refuse("InvalidParameterValue.StreamInfos", format!("StreamInfos has {} values; it must have 1 to {STREAMS_MAX}.", items.len())));
    }
    let streams = items.into_iter().map(|item| {
        without_extras(item.tehd, item.enhance, item.std_ext_info)?;
        let remove_audio = flag(item.remove_audio.unwrap_or(0), "StreamInfos.RemoveAudio", "InvalidParameterValue.RemoveAudio")?;
        let remove_video = flag(item.remove_video.unwrap_or(0), "StreamInfos.RemoveVideo", "InvalidParameterValue.RemoveVideo")?;
        if remove_audio == 1 && remove_video == 1 {
            return Err(ApiError::invalid("RemoveVideo and RemoveAudio exclude each other."));
        }
        let video = if remove_video == 1 { VideoTemplate::none() } else { video(VideoTemplate::default(), item.video)? };
        let audio = match item.audio {
            _ if remove_audio == 1 => AudioTemplate::none(),
            Some(item) => audio(AudioTemplate::default(), item, "hls")?,
            None => return Err(ApiError::missing("StreamInfos.Audio")),
        };
        Ok(AdaptiveStream { video, audio, remove_audio, remove_video })
    });
    let streams = streams.collect::<Result<Vec<_>, ApiError>>()?;
    if streams.iter().all(|stream| stream.remove_video == 1) {
        return Err(refuse("InvalidParameterValue.StreamInfos", "StreamInfos must have a stream with video."));
    }
    Ok(streams)
}

/// Lays what is given over what was, and checks the whole.
fn apply(old: AdaptiveDefinition, stream_infos: Option<Vec<StreamItem>>, parts: Parts) -> Result<AdaptiveDefinition, ApiError> {
    let format = old.format;
    match format.as_str() {
        "HLS" => {}
        "MPEG-DASH" => return Err(refuse("UnsupportedOperation", "MPEG-DASH is not offered here.")),
        _ => return Err(refuse("InvalidParameterValue.Format", "Format must be HLS.")),
    }
    let drm_type = old.drm_type;
    if !matches!(drm_type.as_str(), "" | "SimpleAES") {
        return Err(refuse("InvalidParameterValue.DrmType", "DrmType must be SimpleAES or empty."));
    }
    // Older clients that mean to leave it out send 0.
    let segment_duration = parts.segment_duration.filter(|seconds| *seconds != 0).unwrap_or(old.segment_duration);
    if !(1..=SEGMENT_S_MAX).contains(&segment_duration) {
        let message = format!("SegmentDuration is {segment_duration}; it must be 1 to {SEGMENT_S_MAX}.");
        return Err(refuse("InvalidParameterValue.SegmentDuration", message));
    }
    Ok(AdaptiveDefinition {
        format,
        drm_type,
        stream_infos: stream_infos.map_or(Ok(old.stream_infos), streams)?,
        disable_higher_video_bitrate: flag(
            parts.disable_higher_bitrate.unwrap_or(old.disable_higher_video_bitrate),
            "DisableHigherVideoBitrate",
            "InvalidParameterValue.DisableHigherVideoBitrate",
        )?,
        disable_higher_video_resolution: flag(
            parts.disable_higher_resolution.unwrap_or(old.disable_higher_video_resolution),
            "DisableHigherVideoResolution",
            "InvalidParameterValue.DisableHigherVideoResolution",
        )?,
        segment_type: word(parts.segment_type.unwrap_or(old.segment_type), &["ts", "mp4"], "SegmentType", "InvalidParameterValue.SegmentType")?,
        segment_duration,
        name: old.name,
        comment: old.comment,
    })
}

fn create(scope: &Scope<'_>, request: CreateRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.label.sub_app_id)?;
    let old = AdaptiveDefinition {
        name: name(request.label.name, String::new())?,
        comment: comment(request.label.comment, String::new())?,
        format: request.format,
        drm_type: request.drm_type.unwrap_or_default(),
        segment_duration: SEGMENT_S_DEFAULT,
        ..AdaptiveDefinition::default()
    };
    store(scope, app, apply(old, Some(request.stream_infos), request.parts)?)
}

fn modify(scope: &Scope<'_>, request: ModifyRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.label.sub_app_id)?;
    change(scope, app, request.definition, move |body: &mut AdaptiveDefinition| {
        let mut old = body.clone();
        old.name = name(request.label.name, old.name)?;
        old.comment = comment(request.label.comment, old.comment)?;
        old.format = request.format.unwrap_or(old.format);
        *body = apply(old, request.stream_infos, request.parts)?;
        Ok(())
    })
}

fn describe(scope: &Scope<'_>, request: ListRequest) -> Result<Reply, ApiError> {
    let (total, page) = list(scope, request, |_: &AdaptiveDefinition| true)?;
    Ok(list_reply(total, "AdaptiveDynamicStreamingTemplateSet", &page, info))
}

fn info(entry: &Entry<AdaptiveDefinition>) -> Value {
    let mut info = entry.info(false);
    info["DrmKeyProvider"] = "".into();
    info["DrmEncryptType"] = "".into();
    for stream in info["StreamInfos"].as_array_mut().into_iter().flatten() {
        stream["TEHDConfig"] = serde_json::json!({ "Type": "", "MaxVideoBitrate": 0 });
        stream["StdExtInfo"] = "".into();
    }
    info
}

fn delete(scope: &Scope<'_>, request: DeleteRequest) -> Result<Reply, ApiError> {
    remove::<AdaptiveDefinition>(scope, request)
}
