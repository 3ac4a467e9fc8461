//! Definitions of adaptive streams.

use serde_json::Value;

use super::definitions::{
    AudioItem, DeleteRequest, EnhanceItem, Entry, ListRequest, TehdItem, VideoItem, audio, comment, create as store, delete as remove, flag, list,
    list_reply, modify as change, name, video, without_extras, word,
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
    CreateRequest {
        required {
            format: String = "Format",
            stream_infos: Vec<StreamItem> = "StreamInfos",
        }
        optional {
            sub_app_id: u64 = "SubAppId",
            name: String = "Name",
            drm_type: String = "DrmType",
            disable_higher_bitrate: u64 = "DisableHigherVideoBitrate",
            disable_higher_resolution: u64 = "DisableHigherVideoResolution",
            comment: String = "Comment",
            segment_type: String = "SegmentType",
            segment_duration: u64 = "SegmentDuration",
        }
        ignored { "DrmKeyProvider", "DrmEncryptType" }
    }
}

parameters! {
    ModifyRequest {
        required { definition: i64 = "Definition", }
        optional {
            sub_app_id: u64 = "SubAppId",
            name: String = "Name",
            format: String = "Format",
            disable_higher_bitrate: u64 = "DisableHigherVideoBitrate",
            disable_higher_resolution: u64 = "DisableHigherVideoResolution",
            stream_infos: Vec<StreamItem> = "StreamInfos",
            comment: String = "Comment",
            segment_type: String = "SegmentType",
            segment_duration: u64 = "SegmentDuration",
        }
    }
}

struct Parts {
    format: Option<String>,
    stream_infos: Option<Vec<StreamItem>>,
    drm_type: Option<String>,
    disable_higher_bitrate: Option<u64>,
    disable_higher_resolution: Option<u64>,
    segment_type: Option<String>,
    segment_duration: Option<u64>,
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

fn apply(old: AdaptiveDefinition, parts: Parts) -> Result<AdaptiveDefinition, ApiError> {
    let format = parts.format.unwrap_or(old.format);
    match format.as_str() {
        "HLS" => {}
        "MPEG-DASH" => return Err(refuse("UnsupportedOperation", "MPEG-DASH is not offered here.")),
        _ => return Err(refuse("InvalidParameterValue.Format", "Format must be HLS.")),
    }
    let drm_type = parts.drm_type.unwrap_or(old.drm_type);
    if !matches!(drm_type.as_str(), "" | "SimpleAES") {
        return Err(refuse("InvalidParameterValue.DrmType", "DrmType must be SimpleAES or empty."));
    }
    let segment_duration = parts.segment_duration.unwrap_or(old.segment_duration);
    if !(1..=SEGMENT_S_MAX).contains(&segment_duration) {
        let message = format!("SegmentDuration is {segment_duration}; it must be 1 to {SEGMENT_S_MAX}.");
        return Err(refuse("InvalidParameterValue.SegmentDuration", message));
    }
    Ok(AdaptiveDefinition {
        format,
        drm_type,
        stream_infos: parts.stream_infos.map_or(Ok(old.stream_infos), streams)?,
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
    let app = scope.sub_app(request.sub_app_id)?;
    let old = AdaptiveDefinition {
        name: name(request.name, String::new())?,
        comment: comment(request.comment, String::new())?,
        segment_duration: SEGMENT_S_DEFAULT,
        ..AdaptiveDefinition::default()
    };
    let parts = Parts {
        format: Some(request.format),
        stream_infos: Some(request.stream_infos),
        drm_type: request.drm_type,
        disable_higher_bitrate: request.disable_higher_bitrate,
        disable_higher_resolution: request.disable_higher_resolution,
        segment_type: request.segment_type,
        // Older clients that mean to leave it out send 0.
        segment_duration: request.segment_duration.filter(|seconds| *seconds != 0),
    };
    store(scope, app, apply(old, parts)?)
}

fn modify(scope: &Scope<'_>, request: ModifyRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    change(scope, app, request.definition, move |body: &mut AdaptiveDefinition| {
        let mut old = body.clone();
        old.name = name(request.name, old.name)?;
        old.comment = comment(request.comment, old.comment)?;
        let parts = Parts {
            format: request.format,
            stream_infos: request.stream_infos,
            drm_type: None,
            disable_higher_bitrate: request.disable_higher_bitrate,
            disable_higher_resolution: request.disable_higher_resolution,
            segment_type: request.segment_type,
            segment_duration: request.segment_duration.filter(|seconds| *seconds != 0),
        };
        *body = apply(old, parts)?;
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
