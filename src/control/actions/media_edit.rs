//! Changing and deleting files: ModifyMediaInfo and DeleteMedia.

use std::io::{self, Write as _};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::media_info::cover_url;
use super::values::text_of;
use super::{Action, Scope, action, reply};
use crate::catalog::{CatalogError, MediaChange};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::{Parameter, parameters, wrong_type};
use crate::control::protocol::Reply;
use crate::control::times;
use crate::control::tree::Tree;
use crate::domain::vod::{CLASS_OTHER, DeletePart, KeyFrameDesc, PartKind};
use crate::units::{FileId, WallTime};

pub const ACTIONS: &[Action] = &[action!("ModifyMediaInfo", Vod, modify), action!("DeleteMedia", Vod, delete)];

/// Documented bounds, characters.
const NAME_CHARS_MAX: usize = 64;
const DESCRIPTION_CHARS_MAX: usize = 128;
const TAGS_MAX: usize = 16;
const TAG_CHARS_MAX: usize = 32;
const KEY_FRAME_DESCS_MAX: usize = 100;
const KEY_FRAME_CHARS_MAX: usize = 128;
/// A cover picture, decoded.
const COVER_BYTES_MAX: usize = 1 << 20;
/// Parts of one DeleteMedia: each kind with a few definitions.
const DELETE_PARTS_MAX: usize = 100;

parameters! {
    ModifyRequest {
        required { file_id: String = "FileId", }
        optional {
            sub_app_id: u64 = "SubAppId",
            name: String = "Name",
            description: String = "Description",
            class_id: i64 = "ClassId",
            expire_time: String = "ExpireTime",
            cover_data: String = "CoverData",
            add_key_frame_descs: Vec<KeyFrameItem> = "AddKeyFrameDescs",
            delete_key_frame_descs: Vec<f64> = "DeleteKeyFrameDescs",
            clear_key_frame_descs: i64 = "ClearKeyFrameDescs",
            add_tags: Vec<String> = "AddTags",
            delete_tags: Vec<String> = "DeleteTags",
            clear_tags: i64 = "ClearTags",
            add_subtitles: Something = "AddSubtitles",
            delete_subtitle_ids: Vec<String> = "DeleteSubtitleIds",
            clear_subtitles: i64 = "ClearSubtitles",
            add_knowledge_bases: Something = "AddKnowledgeBases",
            delete_knowledge_bases: Something = "DeleteKnowledgeBases",
            clear_knowledge_bases: i64 = "ClearKnowledgeBases",
        }
    }
}

parameters! {
    KeyFrameItem {
        required {
            time_offset: f64 = "TimeOffset",
            content: String = "Content",
        }
    }
}

parameters! {
    DeleteRequest {
        required { file_id: String = "FileId", }
        optional {
            sub_app_id: u64 = "SubAppId",
            delete_parts: Vec<DeleteItem> = "DeleteParts",
        }
    }
}

parameters! {
    DeleteItem {
        required { kind: String = "Type", }
        optional { definition: i64 = "Definition", }
    }
}

/// A value of which only matters whether there is one.
#[derive(Clone, PartialEq, Debug)]
pub struct Something(bool);

impl Parameter for Something {
    fn read(value: Tree, path: &str) -> Result<Self, ApiError> {
        match value {
            Tree::List(items) => Ok(Self(!items.is_empty())),
            _ => Err(wrong_type(path, "a list")),
        }
    }
}

fn no_file(code: &'static str, id: &str) -> ApiError {
    refuse(code, format!("There is no file {}.", super::values::shorten(id)))
}

/// What a request asks for, checked as far as that goes without the file.
#[derive(Debug)]
struct Edit {
    name: Option<String>,
    description: Option<String>,
    class_id: Option<i64>,
    /// Inside: `None` for ever.
    expire_time: Option<Option<WallTime>>,
    cover: Option<Picture>,
    add_tags: Vec<String>,
    delete_tags: Vec<String>,
    clear_tags: bool,
    add_descs: Vec<KeyFrameDesc>,
    delete_descs: Vec<f64>,
    clear_descs: bool,
}

#[derive(Debug)]
struct Picture {
    bytes: Vec<u8>,
    extension: &'static str,
}

fn modify(scope: &Scope<'_>, request: ModifyRequest) -> Result<Reply, ApiError> {
    const NOT_THERE: &str = "ResourceNotFound.FileNotExist";
    let app = scope.sub_app(request.sub_app_id)?;
    let given = request.file_id.clone();
    let edit = Edit::read(request, scope.now)?;
    let file_id = FileId::parse(&given).ok_or_else(|| no_file(NOT_THERE, &given))?;
    let catalog = &scope.context.catalog;
    let row = catalog.files(app, &[file_id])?.remove(&file_id).ok_or_else(|| no_file(NOT_THERE, &given))?;
    let mut url = String::new();
    if let Some(cover) = &edit.cover {
        // The picture first: an entry never names one that is not there.
        let folder = scope.context.media.storage.path_of(&row.file.folder);
        folder
            .and_then(|folder| write_cover(&folder, cover))
            .map_err(|error| ApiError::internal(format!("a cover picture cannot be written to {}: {error}", row.file.folder)))?;
        url = cover_url(file_id, cover.extension, &scope.context.public_base, scope.context.app_id);
    }
    let no_class = ApiError::value(format!("There is no class {}.", edit.class_id.unwrap_or(CLASS_OTHER)));
    catalog.modify_media(app, file_id, scope.now, no_class, move |media| edit.apply(media)).map_err(|error| match error {
        // Deleted in between.
        CatalogError::NotFound => no_file(NOT_THERE, &given),
        error => error.into(),
    })??;
    Ok(reply(json!({ "CoverUrl": url, "AddedSubtitleSet": [] })))
}

impl Edit {
    fn read(request: ModifyRequest, now: WallTime) -> Result<Self, ApiError> {
        let is_something = |given: &Option<Something>| given.as_ref().is_some_and(|given| given.0);
        if is_something(&request.add_subtitles)
            || is_something(&request.add_knowledge_bases)
            || is_something(&request.delete_knowledge_bases)
            || request.delete_subtitle_ids.is_some_and(|ids| !ids.is_empty())
            || [request.clear_subtitles, request.clear_knowledge_bases].into_iter().flatten().any(|clear| clear != 0)
        {
            return Err(refuse("UnsupportedOperation", "Subtitles and knowledge bases are not offered here."));
        }
        let text = |given: Option<String>, chars_max, name: &str, code| given.map(|text| text_of(text, 0, chars_max, name, code)).transpose();
        let name = text(request.name, NAME_CHARS_MAX, "Name", "InvalidParameterValue.Name")?;
        let description = text(request.description, DESCRIPTION_CHARS_MAX, "Description", "InvalidParameterValue.Description")?;
        let expire_time = request.expire_time.filter(|text| !text.is_empty()).map(|text| expire_time(&text, now)).transpose()?;
        let flag = |given: Option<i64>, name: &str| super::values::in_range(given.unwrap_or(0), 0, 1, name).map(|flag| flag == 1);
        let edit = Self {
            name,
            description,
            class_id: request.class_id,
            expire_time,
            cover: request.cover_data.filter(|data| !data.is_empty()).map(|data| picture(&data)).transpose()?,
            add_tags: request.add_tags.unwrap_or_default(),
            delete_tags: request.delete_tags.unwrap_or_default(),
            clear_tags: flag(request.clear_tags, "ClearTags")?,
            add_descs: request
                .add_key_frame_descs
                .unwrap_or_default()
                .into_iter()
                .map(|item| KeyFrameDesc { time_offset_s: item.time_offset, content: item.content })
                .collect(),
            delete_descs: request.delete_key_frame_descs.unwrap_or_default(),
            clear_descs: flag(request.clear_key_frame_descs, "ClearKeyFrameDescs")?,
        };
        edit.check()?;
        Ok(edit)
    }

    fn check(&self) -> Result<(), ApiError> {
        if self.clear_tags && !self.add_tags.is_empty() {
            return Err(refuse("InvalidParameterValue.AddTagsAndClearTagsConflict", "AddTags and ClearTags exclude each other."));
        }
        if self.add_tags.iter().any(|tag| self.delete_tags.contains(tag)) {
            return Err(refuse("InvalidParameterValue.AddTagsAndDeleteTagsConflict", "AddTags and DeleteTags name the same tag."));
        }
        if self.add_tags.iter().any(|tag| tag.chars().count() > TAG_CHARS_MAX) {
            return Err(refuse("InvalidParameterValue.TagTooLong", format!("A tag must be at most {TAG_CHARS_MAX} characters.")));
        }
        if self.add_tags.iter().any(String::is_empty) {
            return Err(ApiError::value("AddTags has an empty tag."));
        }
        if self.clear_descs && !self.add_descs.is_empty() {
            let code = "InvalidParameterValue.AddKeyFrameDescsAndClearKeyFrameDescsConflict";
            return Err(refuse(code, "AddKeyFrameDescs and ClearKeyFrameDescs exclude each other."));
        }
        if self.add_descs.iter().any(|desc| self.delete_descs.contains(&desc.time_offset_s)) {
            let code = "InvalidParameterValue.AddKeyFrameDescsAndDeleteKeyFrameDescsConflict";
            return Err(refuse(code, "AddKeyFrameDescs and DeleteKeyFrameDescs name the same time."));
        }
        if self.add_descs.iter().any(|desc| desc.time_offset_s < 0.0) {
            return Err(ApiError::value("AddKeyFrameDescs.TimeOffset must not be negative."));
        }
        if self.add_descs.iter().any(|desc| desc.content.chars().count() > KEY_FRAME_CHARS_MAX) {
            let message = format!("AddKeyFrameDescs.Content must be at most {KEY_FRAME_CHARS_MAX} characters.");
            return Err(refuse("InvalidParameterValue.KeyFrameDescContentTooLong", message));
        }
        if self.add_descs.iter().any(|desc| desc.content.is_empty()) {
            return Err(ApiError::value("AddKeyFrameDescs.Content must not be empty."));
        }
        Ok(())
    }

    /// Carries it out on what the file is at this moment.
    fn apply(self, media: &mut MediaChange) -> Result<(), ApiError> {
        media.name = self.name.unwrap_or(std::mem::take(&mut media.name));
        media.description = self.description.unwrap_or(std::mem::take(&mut media.description));
        media.class_id = self.class_id.unwrap_or(media.class_id);
        media.expire_time = self.expire_time.unwrap_or(media.expire_time);
        if let Some(cover) = self.cover {
            media.extras.cover = Some(cover.extension.to_owned());
        }
        media.tags.retain(|tag| !self.clear_tags && !self.delete_tags.contains(tag));
        for tag in self.add_tags {
            if !media.tags.contains(&tag) {
                media.tags.push(tag);
            }
        }
        if media.tags.len() > TAGS_MAX {
            return Err(refuse("LimitExceeded.TagCountReachMax", format!("A file has at most {TAGS_MAX} tags.")));
        }
        let descs = &mut media.extras.key_frame_descs;
        descs.retain(|desc| !self.clear_descs && !self.delete_descs.contains(&desc.time_offset_s));
        for desc in self.add_descs {
            descs.retain(|known| known.time_offset_s != desc.time_offset_s);
            descs.push(desc);
        }
        descs.sort_by(|a, b| a.time_offset_s.total_cmp(&b.time_offset_s));
        if descs.len() > KEY_FRAME_DESCS_MAX {
            return Err(refuse("LimitExceeded.KeyFrameDescCountReachMax", format!("A file has at most {KEY_FRAME_DESCS_MAX} remarks.")));
        }
        Ok(())
    }
}

/// `None`: for ever.
fn expire_time(text: &str, now: WallTime) -> Result<Option<WallTime>, ApiError> {
    if text == times::NEVER {
        return Ok(None);
    }
    let time = times::read_utc(text).filter(|time| *time > now);
    time.map(Some).ok_or_else(|| refuse("InvalidParameterValue.ExpireTime", "ExpireTime must be a time to come, like 2026-01-01T08:00:00Z."))
}

/// A GIF, JPEG or PNG picture from its Base64 text: told by how it begins and ends.
fn picture(data: &str) -> Result<Picture, ApiError> {
    let bad = |message: String| refuse("InvalidParameterValue.ImageDecodeError", message);
    // Four characters for three bytes.
    if data.len() > COVER_BYTES_MAX.div_ceil(3) * 4 {
        return Err(bad(format!("CoverData must be at most {COVER_BYTES_MAX} bytes when decoded.")));
    }
    let bytes = STANDARD.decode(data.trim()).map_err(|error| bad(format!("CoverData is not Base64: {error}.")))?;
    if bytes.len() > COVER_BYTES_MAX {
        return Err(bad(format!("CoverData must be at most {COVER_BYTES_MAX} bytes when decoded.")));
    }
    let is = |begin: &[u8], end: &[u8]| bytes.len() > begin.len() + end.len() && bytes.starts_with(begin) && bytes.ends_with(end);
    let extension = if is(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"IEND\xae\x42\x60\x82") {
        "png"
    } else if is(b"\xff\xd8\xff", b"\xff\xd9") {
        "jpg"
    } else if is(b"GIF87a", b";") || is(b"GIF89a", b";") {
        "gif"
    } else {
        return Err(bad("CoverData must be a complete GIF, JPEG or PNG picture.".to_owned()));
    };
    Ok(Picture { bytes, extension })
}

/// Puts a cover picture into a file's folder, complete or not at all.
fn write_cover(folder: &Path, cover: &Picture) -> io::Result<()> {
    let path = folder.join(format!("cover.{}", cover.extension));
    let temporary = folder.join(format!("cover.{}.new", uuid::Uuid::new_v4().simple()));
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&cover.bytes)?;
        file.sync_data()?;
        std::fs::rename(&temporary, &path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| {
        // It may not even have been created.
        let _ = std::fs::remove_file(&temporary);
    })
}

fn delete(scope: &Scope<'_>, request: DeleteRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let items = request.delete_parts.unwrap_or_default();
    if items.len() > DELETE_PARTS_MAX {
        return Err(ApiError::value(format!("DeleteParts has {} values; at most {DELETE_PARTS_MAX} are allowed.", items.len())));
    }
    let part = |item: DeleteItem| {
        let kinds = "OriginalFiles, TranscodeFiles, AdaptiveDynamicStreamingFiles or WechatPublishFiles";
        let kind = PartKind::parse(&item.kind).ok_or_else(|| ApiError::value(format!("DeleteParts.Type must be {kinds}.")))?;
        Ok(DeletePart { kind, definition: item.definition.unwrap_or(0) })
    };
    let parts = items.into_iter().map(part).collect::<Result<Vec<_>, ApiError>>()?;
    let not_there = || no_file("ResourceNotFound", &request.file_id);
    let file_id = FileId::parse(&request.file_id).ok_or_else(not_there)?;
    scope.context.catalog.delete_media(app, file_id, parts, scope.now).map_err(|error| match error {
        CatalogError::NotFound => not_there(),
        error => error.into(),
    })?;
    Ok(Reply::new())
}
