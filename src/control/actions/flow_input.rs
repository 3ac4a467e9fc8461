//! `MediaProcessTask`: what shall be made from a file, read and checked.

use super::Scope;
use super::definitions::word;
use super::transcode_templates::{OverrideItem, overridden};
use crate::catalog::CatalogError;
use crate::control::errors::{ApiError, refuse};
use crate::control::params::{Parameter, parameters, wrong_type};
use crate::control::tree::Tree;
use crate::domain::definition::{
    AdaptiveDefinition, AnimatedGraphicsDefinition, Definition, DefinitionKind, ImageSpriteDefinition, SampleSnapshotDefinition, SnapshotDefinition,
    TranscodeDefinition,
};
use crate::domain::flow::{
    AdaptiveInput, AnimatedInput, CoverInput, MediaProcess, SUBTASKS_MAX, SampleInput, SnapshotInput, SpriteInput, TranscodeInput, TranscodeOverride,
};

/// Pictures of one subtask.
const OFFSETS_MAX: usize = 30;

/// Features that are not offered: true if any of it was given.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Unoffered(pub bool);

impl Parameter for Unoffered {
    fn read(value: Tree, path: &str) -> Result<Self, ApiError> {
        match value {
            Tree::List(items) => Ok(Self(!items.is_empty())),
            Tree::Object(fields) => Ok(Self(!fields.is_empty())),
            _ => Err(wrong_type(path, "a list or an object")),
        }
    }
}

fn any(given: &[Option<Unoffered>]) -> bool {
    given.iter().any(|given| given.is_some_and(|given| given.0))
}

parameters! {
    TranscodeItem {
        required { definition: i64 = "Definition", }
        optional {
            start: f64 = "StartTimeOffset",
            end: f64 = "EndTimeOffset",
            override_parameter: OverrideItem = "OverrideParameter",
            watermarks: Unoffered = "WatermarkSet",
            trace_watermark: Unoffered = "TraceWatermark",
            copyright_watermark: Unoffered = "CopyRightWatermark",
            blind_watermark: Unoffered = "BlindWatermark",
            mosaics: Unoffered = "MosaicSet",
            head_tails: Unoffered = "HeadTailSet",
            subtitles: Unoffered = "SubtitleInfoSet",
        }
    }
}

parameters! {
    SnapshotItem {
        required { definition: i64 = "Definition", }
        optional {
            ext_offsets: Vec<String> = "ExtTimeOffsetSet",
            offsets: Vec<f64> = "TimeOffsetSet",
            watermarks: Unoffered = "WatermarkSet",
        }
    }
}

parameters! {
    SampleItem {
        required { definition: i64 = "Definition", }
        optional { watermarks: Unoffered = "WatermarkSet", }
    }
}

parameters! {
    SpriteItem {
        required { definition: i64 = "Definition", }
    }
}

parameters! {
    AnimatedItem {
        required {
            definition: i64 = "Definition",
            start: f64 = "StartTimeOffset",
            end: f64 = "EndTimeOffset",
        }
    }
}

parameters! {
    CoverItem {
        required { definition: i64 = "Definition", }
        optional {
            position_type: String = "PositionType",
            position_value: f64 = "PositionValue",
            watermarks: Unoffered = "WatermarkSet",
        }
    }
}

parameters! {
    AdaptiveItem {
        required { definition: i64 = "Definition", }
        optional {
            watermarks: Unoffered = "WatermarkSet",
            trace_watermark: Unoffered = "TraceWatermark",
            copyright_watermark: Unoffered = "CopyRightWatermark",
            blind_watermark: Unoffered = "BlindWatermark",
            subtitle_set: Vec<String> = "SubtitleSet",
            subtitles: Unoffered = "SubtitleInfoSet",
            drm: Unoffered = "DrmInfo",
        }
    }
}

parameters! {
    /// `MediaProcessTaskInput`.
    ProcessItem {
        optional {
            transcodes: Vec<TranscodeItem> = "TranscodeTaskSet",
            animated: Vec<AnimatedItem> = "AnimatedGraphicTaskSet",
            snapshots: Vec<SnapshotItem> = "SnapshotByTimeOffsetTaskSet",
            samples: Vec<SampleItem> = "SampleSnapshotTaskSet",
            sprites: Vec<SpriteItem> = "ImageSpriteTaskSet",
            covers: Vec<CoverItem> = "CoverBySnapshotTaskSet",
            adaptives: Vec<AdaptiveItem> = "AdaptiveDynamicStreamingTaskSet",
        }
    }
}

/// The definition of this number in an application; there has to be one.
fn existing<D: Definition>(scope: &Scope<'_>, app: u64, number: i64) -> Result<D, ApiError> {
    let found: Result<Option<D>, CatalogError> = scope.context.catalog.definition(app, number);
    found?.ok_or_else(|| ApiError::value(format!("There is no {} definition {number}.", D::KIND.name())))
}

/// `3.5s` or `50%`.
fn is_offset(text: &str) -> bool {
    let number = |digits: &str| digits.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    match (text.strip_suffix('s'), text.strip_suffix('%')) {
        (Some(digits), _) => number(digits).is_some(),
        (_, Some(digits)) => number(digits).is_some_and(|percent| percent <= 100.0),
        _ => false,
    }
}

/// Checks everything that does not depend on the file.
pub fn process(scope: &Scope<'_>, app: u64, item: ProcessItem) -> Result<MediaProcess, ApiError> {
    let unoffered = |what: bool| {
        let message = "Watermarks, mosaics, head and tail clips, subtitles and DRM of others are not offered here.";
        if what { Err(refuse("UnsupportedOperation", message)) } else { Ok(()) }
    };
    let mut process = MediaProcess::default();
    for item in item.transcodes.unwrap_or_default() {
        let marks = [item.watermarks, item.trace_watermark, item.copyright_watermark, item.blind_watermark];
        unoffered(any(&marks) || any(&[item.mosaics, item.head_tails, item.subtitles]))?;
        let definition: TranscodeDefinition = existing(scope, app, item.definition)?;
        let override_parameter = item.override_parameter.map(|given| overridden(definition, given)).transpose()?.map(|body| TranscodeOverride {
            container: body.container,
            remove_video: body.remove_video,
            remove_audio: body.remove_audio,
            video_template: body.video_template,
            audio_template: body.audio_template,
        });
        let (start_time_offset, end_time_offset) = (item.start.unwrap_or(0.0), item.end.unwrap_or(0.0));
        process.transcode_task_set.push(TranscodeInput { definition: item.definition, start_time_offset, end_time_offset, override_parameter });
    }
    for item in item.animated.unwrap_or_default() {
        existing::<AnimatedGraphicsDefinition>(scope, app, item.definition)?;
        let (start_time_offset, end_time_offset) = (item.start, item.end);
        process.animated_graphic_task_set.push(AnimatedInput { definition: item.definition, start_time_offset, end_time_offset });
    }
    for item in item.snapshots.unwrap_or_default() {
        unoffered(any(&[item.watermarks]))?;
        existing::<SnapshotDefinition>(scope, app, item.definition)?;
        let (ext_time_offset_set, time_offset_set) = (item.ext_offsets.unwrap_or_default(), item.offsets.unwrap_or_default());
        let count = ext_time_offset_set.len() + time_offset_set.len();
        if count == 0 || count > OFFSETS_MAX {
            return Err(ApiError::value(format!("SnapshotByTimeOffsetTaskSet has {count} times; it must have 1 to {OFFSETS_MAX}.")));
        }
        if !ext_time_offset_set.iter().all(|text| is_offset(text)) || time_offset_set.iter().any(|seconds| *seconds < 0.0) {
            return Err(ApiError::value("ExtTimeOffsetSet must have times like 3.5s or 50%."));
        }
        process.snapshot_by_time_offset_task_set.push(SnapshotInput { definition: item.definition, ext_time_offset_set, time_offset_set });
    }
    for item in item.samples.unwrap_or_default() {
        unoffered(any(&[item.watermarks]))?;
        existing::<SampleSnapshotDefinition>(scope, app, item.definition)?;
        process.sample_snapshot_task_set.push(SampleInput { definition: item.definition });
    }
    for item in item.sprites.unwrap_or_default() {
        existing::<ImageSpriteDefinition>(scope, app, item.definition)?;
        process.image_sprite_task_set.push(SpriteInput { definition: item.definition });
    }
    for item in item.covers.unwrap_or_default() {
        unoffered(any(&[item.watermarks]))?;
        existing::<SnapshotDefinition>(scope, app, item.definition)?;
        let position_type = word(item.position_type.unwrap_or_default(), &["Time", "Percent"], "PositionType", "InvalidParameterValue")?;
        let position_value = item.position_value.unwrap_or(0.0);
        if position_value < 0.0 || (position_type == "Percent" && position_value > 100.0) {
            return Err(ApiError::value("PositionValue must not be negative, and at most 100 percent."));
        }
        process.cover_by_snapshot_task_set.push(CoverInput { definition: item.definition, position_type, position_value });
    }
    for item in item.adaptives.unwrap_or_default() {
        let marks = [item.watermarks, item.trace_watermark, item.copyright_watermark, item.blind_watermark, item.subtitles, item.drm];
        unoffered(any(&marks) || item.subtitle_set.is_some_and(|subtitles| !subtitles.is_empty()))?;
        existing::<AdaptiveDefinition>(scope, app, item.definition)?;
        process.adaptive_dynamic_streaming_task_set.push(AdaptiveInput { definition: item.definition, ..AdaptiveInput::default() });
    }
    match process.count() {
        0 => Err(ApiError::value("MediaProcessTask has no task.")),
        count if count > SUBTASKS_MAX => Err(ApiError::value(format!("MediaProcessTask has {count} tasks; at most {SUBTASKS_MAX} are allowed."))),
        _ => Ok(process),
    }
}

/// Definitions that are listed and cannot be carried out here.
pub fn is_offered(scope: &Scope<'_>, app: u64, process: &MediaProcess) -> Result<(), ApiError> {
    for (kind, number) in process.subtasks().iter().map(|subtask| subtask.definition()) {
        if kind == DefinitionKind::Adaptive
            && let Some(definition) = scope.context.catalog.definition::<AdaptiveDefinition>(app, number)?
            && !definition.is_offered()
        {
            let message = format!("The definition {number} needs {} {}, which is not offered here.", definition.format, definition.drm_type);
            return Err(refuse("UnsupportedOperation", message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets() {
        for (text, good) in [
            ("3.5s", true),
            ("0s", true),
            ("50%", true),
            ("100%", true),
            ("101%", false),
            ("-1s", false),
            ("5", false),
            ("s", false),
            ("NaNs", false),
        ] {
            assert_eq!(is_offset(text), good, "{text}");
        }
    }
}
