//! Definitions of pictures: at given times, at equal distances, small ones for a player's time line, and moving ones.

use super::definitions::{
    DeleteRequest, Label, ListRequest, PictureItem, SamplingItem, comment, create as store, delete as remove, list, list_reply, modify as change,
    name, picture, sampling, word, zero_or,
};
use super::{Action, Scope, action};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::domain::definition::{
    AnimatedGraphicsDefinition, Definition, ImageSpriteDefinition, Picture, SampleSnapshotDefinition, SnapshotDefinition,
};

pub const ACTIONS: &[Action] = &[
    action!("CreateSnapshotByTimeOffsetTemplate", Vod, create_snapshot),
    action!("DescribeSnapshotByTimeOffsetTemplates", Vod, describe_snapshot),
    action!("ModifySnapshotByTimeOffsetTemplate", Vod, modify_snapshot),
    action!("DeleteSnapshotByTimeOffsetTemplate", Vod, delete_snapshot),
    action!("CreateSampleSnapshotTemplate", Vod, create_sample),
    action!("DescribeSampleSnapshotTemplates", Vod, describe_sample),
    action!("ModifySampleSnapshotTemplate", Vod, modify_sample),
    action!("DeleteSampleSnapshotTemplate", Vod, delete_sample),
    action!("CreateImageSpriteTemplate", Vod, create_sprite),
    action!("DescribeImageSpriteTemplates", Vod, describe_sprite),
    action!("ModifyImageSpriteTemplate", Vod, modify_sprite),
    action!("DeleteImageSpriteTemplate", Vod, delete_sprite),
    action!("CreateAnimatedGraphicsTemplate", Vod, create_animated),
    action!("DescribeAnimatedGraphicsTemplates", Vod, describe_animated),
    action!("ModifyAnimatedGraphicsTemplate", Vod, modify_animated),
    action!("DeleteAnimatedGraphicsTemplate", Vod, delete_animated),
];

/// Rows or columns of a sheet: with the smallest pictures, a sheet stays below what browsers decode.
const SHEET_MAX: u64 = 100;

parameters! {
    SnapshotRequest {
        optional { definition: i64 = "Definition", }
        with { label: Label, picture: PictureItem, }
    }
}

parameters! {
    SampleRequest {
        optional { definition: i64 = "Definition", }
        with { label: Label, picture: PictureItem, sampling: SamplingItem, }
    }
}

parameters! {
    SpriteRequest {
        optional {
            definition: i64 = "Definition",
            row_count: u64 = "RowCount",
            column_count: u64 = "ColumnCount",
        }
        with { label: Label, picture: PictureItem, sampling: SamplingItem, }
    }
}

parameters! {
    AnimatedRequest {
        optional {
            definition: i64 = "Definition",
            width: u64 = "Width",
            height: u64 = "Height",
            resolution_adaptive: String = "ResolutionAdaptive",
            format: String = "Format",
            fps: u64 = "Fps",
            quality: f64 = "Quality",
        }
        with { label: Label, }
    }
}

/// A new definition has no number yet, a change names one.
fn number(given: Option<i64>, is_new: bool) -> Result<i64, ApiError> {
    match (given, is_new) {
        (Some(_), true) => Err(ApiError::unknown("Definition")),
        (None, false) => Err(ApiError::missing("Definition")),
        (given, _) => Ok(given.unwrap_or(0)),
    }
}

fn required<T>(given: Option<T>, name: &str) -> Result<T, ApiError> {
    given.ok_or_else(|| ApiError::missing(name))
}

/// Puts what `merge` makes of a definition in its place.
fn modify<D: Definition>(
    scope: &Scope<'_>,
    (definition, sub_app_id): (Option<i64>, Option<u64>),
    merge: impl FnOnce(D) -> Result<D, ApiError> + Send + 'static,
) -> Result<Reply, ApiError> {
    let definition = number(definition, false)?;
    let app = scope.sub_app(sub_app_id)?;
    change(scope, app, definition, move |body: &mut D| {
        *body = merge(body.clone())?;
        Ok(())
    })
}

/// Lists the definitions of a kind under `name`.
fn describe<D: Definition>(scope: &Scope<'_>, request: ListRequest, name: &str) -> Result<Reply, ApiError> {
    let (total, page) = list(scope, request, |_: &D| true)?;
    Ok(list_reply(total, name, &page, |entry| entry.info(false)))
}

fn snapshot(old: SnapshotDefinition, request: SnapshotRequest) -> Result<SnapshotDefinition, ApiError> {
    Ok(SnapshotDefinition {
        name: name(request.label.name, old.name)?,
        comment: comment(request.label.comment, old.comment)?,
        picture: picture(old.picture, request.picture)?,
    })
}

fn create_snapshot(scope: &Scope<'_>, request: SnapshotRequest) -> Result<Reply, ApiError> {
    number(request.definition, true)?;
    let app = scope.sub_app(request.label.sub_app_id)?;
    store(scope, app, snapshot(SnapshotDefinition::default(), request)?)
}

fn modify_snapshot(scope: &Scope<'_>, request: SnapshotRequest) -> Result<Reply, ApiError> {
    modify(scope, (request.definition, request.label.sub_app_id), |old| snapshot(old, request))
}

fn describe_snapshot(scope: &Scope<'_>, request: ListRequest) -> Result<Reply, ApiError> {
    describe::<SnapshotDefinition>(scope, request, "SnapshotByTimeOffsetTemplateSet")
}

fn delete_snapshot(scope: &Scope<'_>, request: DeleteRequest) -> Result<Reply, ApiError> {
    remove::<SnapshotDefinition>(scope, request)
}

fn sample(old: SampleSnapshotDefinition, request: SampleRequest) -> Result<SampleSnapshotDefinition, ApiError> {
    Ok(SampleSnapshotDefinition {
        sampling: sampling(old.sampling, request.sampling)?,
        name: name(request.label.name, old.name)?,
        comment: comment(request.label.comment, old.comment)?,
        picture: picture(old.picture, request.picture)?,
    })
}

fn create_sample(scope: &Scope<'_>, request: SampleRequest) -> Result<Reply, ApiError> {
    number(request.definition, true)?;
    required(request.sampling.sample_type.as_ref(), "SampleType")?;
    required(request.sampling.sample_interval, "SampleInterval")?;
    let app = scope.sub_app(request.label.sub_app_id)?;
    store(scope, app, sample(SampleSnapshotDefinition::default(), request)?)
}

fn modify_sample(scope: &Scope<'_>, request: SampleRequest) -> Result<Reply, ApiError> {
    modify(scope, (request.definition, request.label.sub_app_id), |old| sample(old, request))
}

fn describe_sample(scope: &Scope<'_>, request: ListRequest) -> Result<Reply, ApiError> {
    describe::<SampleSnapshotDefinition>(scope, request, "SampleSnapshotTemplateSet")
}

fn delete_sample(scope: &Scope<'_>, request: DeleteRequest) -> Result<Reply, ApiError> {
    remove::<SampleSnapshotDefinition>(scope, request)
}

fn side(value: u64, name: &str, code: &'static str) -> Result<u64, ApiError> {
    if (1..=SHEET_MAX).contains(&value) { Ok(value) } else { Err(refuse(code, format!("{name} is {value}; it must be 1 to {SHEET_MAX}."))) }
}

fn sprite(old: ImageSpriteDefinition, request: SpriteRequest) -> Result<ImageSpriteDefinition, ApiError> {
    Ok(ImageSpriteDefinition {
        sampling: sampling(old.sampling, request.sampling)?,
        row_count: side(request.row_count.unwrap_or(old.row_count), "RowCount", "InvalidParameterValue.RowCount")?,
        column_count: side(request.column_count.unwrap_or(old.column_count), "ColumnCount", "InvalidParameterValue.ColumnCount")?,
        name: name(request.label.name, old.name)?,
        comment: comment(request.label.comment, old.comment)?,
        picture: picture(old.picture, request.picture)?,
    })
}

fn create_sprite(scope: &Scope<'_>, request: SpriteRequest) -> Result<Reply, ApiError> {
    number(request.definition, true)?;
    required(request.sampling.sample_type.as_ref(), "SampleType")?;
    required(request.sampling.sample_interval, "SampleInterval")?;
    required(request.row_count, "RowCount")?;
    required(request.column_count, "ColumnCount")?;
    let app = scope.sub_app(request.label.sub_app_id)?;
    // Small ones, unless the call says another size.
    let old = ImageSpriteDefinition { picture: Picture { width: 142, height: 80, ..Picture::default() }, ..ImageSpriteDefinition::default() };
    store(scope, app, sprite(old, request)?)
}

fn modify_sprite(scope: &Scope<'_>, request: SpriteRequest) -> Result<Reply, ApiError> {
    modify(scope, (request.definition, request.label.sub_app_id), |old| sprite(old, request))
}

fn describe_sprite(scope: &Scope<'_>, request: ListRequest) -> Result<Reply, ApiError> {
    describe::<ImageSpriteDefinition>(scope, request, "ImageSpriteTemplateSet")
}

fn delete_sprite(scope: &Scope<'_>, request: DeleteRequest) -> Result<Reply, ApiError> {
    remove::<ImageSpriteDefinition>(scope, request)
}

/// Documented bounds.
const ANIMATED_FPS_MAX: u64 = 30;
const QUALITY_MAX: f64 = 100.0;

fn animated(old: AnimatedGraphicsDefinition, request: AnimatedRequest) -> Result<AnimatedGraphicsDefinition, ApiError> {
    let fps = request.fps.unwrap_or(old.fps);
    if !(1..=ANIMATED_FPS_MAX).contains(&fps) {
        return Err(refuse("InvalidParameterValue.Fps", format!("Fps is {fps}; it must be 1 to {ANIMATED_FPS_MAX}.")));
    }
    let quality = request.quality.unwrap_or(old.quality);
    if !(1.0..=QUALITY_MAX).contains(&quality) {
        return Err(refuse("InvalidParameterValue.Quality", format!("Quality is {quality}; it must be 1 to {QUALITY_MAX}.")));
    }
    let shape = request.resolution_adaptive.unwrap_or(old.resolution_adaptive);
    Ok(AnimatedGraphicsDefinition {
        fps,
        quality,
        width: zero_or(request.width.unwrap_or(old.width), 128, 4_096, "Width", "InvalidParameterValue.Width")?,
        height: zero_or(request.height.unwrap_or(old.height), 128, 4_096, "Height", "InvalidParameterValue.Height")?,
        resolution_adaptive: word(shape, &["open", "close"], "ResolutionAdaptive", "InvalidParameterValue.ResolutionAdaptive")?,
        format: word(request.format.unwrap_or(old.format), &["gif", "webp"], "Format", "InvalidParameterValue.Format")?,
        name: name(request.label.name, old.name)?,
        comment: comment(request.label.comment, old.comment)?,
    })
}

fn create_animated(scope: &Scope<'_>, request: AnimatedRequest) -> Result<Reply, ApiError> {
    number(request.definition, true)?;
    required(request.fps, "Fps")?;
    let app = scope.sub_app(request.label.sub_app_id)?;
    store(scope, app, animated(AnimatedGraphicsDefinition::default(), request)?)
}

fn modify_animated(scope: &Scope<'_>, request: AnimatedRequest) -> Result<Reply, ApiError> {
    modify(scope, (request.definition, request.label.sub_app_id), |old| animated(old, request))
}

fn describe_animated(scope: &Scope<'_>, request: ListRequest) -> Result<Reply, ApiError> {
    describe::<AnimatedGraphicsDefinition>(scope, request, "AnimatedGraphicsTemplateSet")
}

fn delete_animated(scope: &Scope<'_>, request: DeleteRequest) -> Result<Reply, ApiError> {
    remove::<AnimatedGraphicsDefinition>(scope, request)
}
