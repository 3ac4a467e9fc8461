//! Finding finished files: SearchMedia and DescribeMediaInfos.

use serde_json::{Value, json};

use super::media_info::{STORAGE_REGION, media_info};
use super::{Action, Scope, action, reply};
use crate::catalog::{MediaPage, MediaQuery, MediaRow};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::{Parameter, parameters, wrong_type};
use crate::control::protocol::Reply;
use crate::control::times;
use crate::control::tree::Tree;
use crate::units::{FileId, WallTime};

pub const ACTIONS: &[Action] = &[action!("SearchMedia", Vod, search), action!("DescribeMediaInfos", Vod, describe)];

/// `Offset + Limit`, and the total that is told, stay below this (documented).
const HITS_MAX: u64 = 5_000;
const LIMIT_DEFAULT: u64 = 10;
/// FileIds of one DescribeMediaInfos (documented).
const FILE_IDS_MAX: usize = 20;

parameters! {
    SearchRequest {
        optional {
            sub_app_id: u64 = "SubAppId",
            file_ids: Vec<String> = "FileIds",
            names: Vec<String> = "Names",
            name_prefixes: Vec<String> = "NamePrefixes",
            descriptions: Vec<String> = "Descriptions",
            class_ids: Vec<i64> = "ClassIds",
            tags: Vec<String> = "Tags",
            categories: Vec<String> = "Categories",
            source_types: Vec<String> = "SourceTypes",
            stream_ids: Vec<String> = "StreamIds",
            stream_domains: Vec<String> = "StreamDomains",
            stream_paths: Vec<String> = "StreamPaths",
            create_time: TimeRange = "CreateTime",
            expire_time: TimeRange = "ExpireTime",
            storage_regions: Vec<String> = "StorageRegions",
            storage_classes: Vec<String> = "StorageClasses",
            media_types: Vec<String> = "MediaTypes",
            status: Vec<String> = "Status",
            review_results: Vec<String> = "ReviewResults",
            trtc_sdk_app_ids: Vec<u64> = "TrtcSdkAppIds",
            trtc_room_ids: Vec<String> = "TrtcRoomIds",
            knowledge_bases: AnyList = "KnowledgeBases",
            filters: Vec<String> = "Filters",
            sort: SortBy = "Sort",
            offset: u64 = "Offset",
            limit: u64 = "Limit",
            text: String = "Text",
            source_type: String = "SourceType",
            stream_id: String = "StreamId",
            start_time: String = "StartTime",
            end_time: String = "EndTime",
        }
        ignored { "Vids", "Vid" }
    }
}

parameters! {
    TimeRange {
        optional {
            after: String = "After",
            before: String = "Before",
        }
    }
}

parameters! {
    SortBy {
        optional {
            field: String = "Field",
            order: String = "Order",
        }
    }
}

parameters! {
    DescribeRequest {
        required { file_ids: Vec<String> = "FileIds", }
        optional {
            sub_app_id: u64 = "SubAppId",
            filters: Vec<String> = "Filters",
        }
    }
}

/// A list of which only the length counts, because nothing here can match it.
#[derive(Clone, PartialEq, Debug)]
pub struct AnyList(usize);

impl Parameter for AnyList {
    fn read(value: Tree, path: &str) -> Result<Self, ApiError> {
        match value {
            Tree::List(items) => Ok(Self(items.len())),
            _ => Err(wrong_type(path, "a list")),
        }
    }
}

fn search(scope: &Scope<'_>, request: SearchRequest) -> Result<Reply, ApiError> {
    let filters = request.filters.clone().unwrap_or_default();
    let sub_app_id = scope.sub_app(request.sub_app_id)?;
    let page = match query(request, sub_app_id)? {
        Some(query) => scope.context.catalog.search(&query)?,
        None => MediaPage::default(),
    };
    let infos = infos(scope, page.rows.iter(), &filters);
    Ok(reply(json!({ "TotalCount": page.total.min(HITS_MAX), "MediaInfoSet": infos })))
}

fn describe(scope: &Scope<'_>, request: DescribeRequest) -> Result<Reply, ApiError> {
    let sub_app_id = scope.sub_app(request.sub_app_id)?;
    let wanted = wanted(request.file_ids)?;
    let ids: Vec<FileId> = wanted.iter().filter_map(|id| FileId::parse(id)).collect();
    let found = scope.context.catalog.files(sub_app_id, &ids)?;
    let row = |id: &String| FileId::parse(id).and_then(|id| found.get(&id));
    let infos = infos(scope, wanted.iter().filter_map(row), &request.filters.unwrap_or_default());
    let absent: Vec<&String> = wanted.iter().filter(|id| row(id).is_none()).collect();
    Ok(reply(json!({ "MediaInfoSet": infos, "NotExistFileIdSet": absent })))
}

fn infos<'a>(scope: &Scope<'_>, rows: impl Iterator<Item = &'a MediaRow>, filters: &[String]) -> Vec<Value> {
    rows.map(|row| media_info(row, filters, &scope.context.public_base, scope.context.app_id)).collect()
}

/// The ids to show, in the order asked, doubles once.
fn wanted(file_ids: Vec<String>) -> Result<Vec<String>, ApiError> {
    if file_ids.is_empty() {
        return Err(refuse("InvalidParameterValue.FileIdsEmpty", "FileIds must name at least one file."));
    }
    if file_ids.len() > FILE_IDS_MAX {
        return Err(refuse("InvalidParameterValue.FileIdsOverLimit", format!("FileIds must name at most {FILE_IDS_MAX} files.")));
    }
    let mut wanted = Vec::with_capacity(file_ids.len());
    for id in file_ids {
        if !wanted.contains(&id) {
            wanted.push(id);
        }
    }
    Ok(wanted)
}

/// A list filter: at most `count` values of at most `chars` characters each.
fn list(values: Option<Vec<String>>, name: &str, code: &'static str, count: usize, chars: usize) -> Result<Vec<String>, ApiError> {
    let values = values.unwrap_or_default();
    if values.len() > count {
        return Err(refuse(code, format!("{name} has {} values; at most {count} are allowed.", values.len())));
    }
    if values.iter().any(|value| value.chars().count() > chars) {
        return Err(refuse(code, format!("A value of {name} is longer than {chars} characters.")));
    }
    Ok(values)
}

/// An older, single-valued filter beside a list: the list wins.
fn or_single(values: Vec<String>, single: Option<String>) -> Vec<String> {
    match single.filter(|single| !single.is_empty()) {
        Some(single) if values.is_empty() => vec![single],
        _ => values,
    }
}

fn moment(text: Option<String>, name: &str, code: &'static str) -> Result<Option<WallTime>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let time = times::read_utc(&text);
    time.map(Some).ok_or_else(|| refuse(code, format!("{name} must be a time like 2026-01-01T08:00:00Z.")))
}

/// Turns a request into a query of the catalog; `None` if a filter cannot match anything there is.
fn query(request: SearchRequest, sub_app_id: u64) -> Result<Option<MediaQuery>, ApiError> {
    let file_ids = list(request.file_ids, "FileIds", "InvalidParameterValue.FileIds", 10, 40)?;
    let names = list(request.names, "Names", "InvalidParameterValue.Names", 10, 100)?;
    let name_prefixes = list(request.name_prefixes, "NamePrefixes", "InvalidParameterValue.NamePrefixes", 10, 100)?;
    let descriptions = list(request.descriptions, "Descriptions", "InvalidParameterValue.Descriptions", 10, 100)?;
    let tags = list(request.tags, "Tags", "InvalidParameterValue.Tags", 16, 32)?;
    let stream_ids = list(request.stream_ids, "StreamIds", "InvalidParameterValue.StreamIds", 10, 255)?;
    let stream_domains = list(request.stream_domains, "StreamDomains", "InvalidParameterValue.StreamDomains", 10, 255)?;
    let stream_paths = list(request.stream_paths, "StreamPaths", "InvalidParameterValue.StreamPaths", 10, 255)?;
    let media_types = list(request.media_types, "MediaTypes", "InvalidParameterValue.MediaTypes", 10, 64)?;
    let source_types = list(request.source_types, "SourceTypes", "InvalidParameterValue.SourceTypes", 10, 64)?;
    let storage_classes = list(request.storage_classes, "StorageClasses", "InvalidParameterValue.StorageClasses", 10, 64)?;
    let storage_regions = list(request.storage_regions, "StorageRegions", "InvalidParameterValue.StorageRegions", 20, 64)?;
    let status = list(request.status, "Status", "InvalidParameterValue.Status", 10, 64)?;
    let categories = list(request.categories, "Categories", "InvalidParameterValue.Categories", 10, 64)?;
    if categories.iter().any(|category| !matches!(category.as_str(), "Video" | "Audio" | "Image")) {
        return Err(refuse("InvalidParameterValue.Categories", "Categories must be of Video, Audio and Image."));
    }
    let class_ids = request.class_ids.unwrap_or_default();
    if class_ids.len() > 10 {
        return Err(refuse("InvalidParameterValue.ClassIds", "ClassIds must have at most 10 values."));
    }
    let text = request.text.filter(|text| !text.is_empty());
    if text.as_ref().is_some_and(|text| text.chars().count() > 64) {
        return Err(refuse("InvalidParameterValue.Text", "Text must be at most 64 characters."));
    }
    let (create_after, create_before) = match request.create_time {
        Some(range) => {
            let code = "InvalidParameterValue.CreateTime";
            (moment(range.after, "CreateTime.After", code)?, moment(range.before, "CreateTime.Before", code)?)
        }
        None => (
            moment(request.start_time, "StartTime", "InvalidParameterValue.StartTime")?,
            moment(request.end_time, "EndTime", "InvalidParameterValue.EndTime")?,
        ),
    };
    let expire = request.expire_time.unwrap_or(TimeRange { after: None, before: None });
    let expire_after = moment(expire.after, "ExpireTime.After", "InvalidParameterValue.ExpireTime")?;
    let expire_before = moment(expire.before, "ExpireTime.Before", "InvalidParameterValue.ExpireTime")?;
    let ascending = ascending(request.sort)?;
    let (offset, limit) = page(request.offset, request.limit)?;

    // What we have is recordings in one region and in good state; anything else matches nothing.
    let excludes = |values: &[String], ours: &str| !values.is_empty() && !values.iter().any(|value| value == ours);
    let ids: Vec<FileId> = file_ids.iter().filter_map(|id| FileId::parse(id)).collect();
    let source_types = or_single(source_types, request.source_type);
    let is_asked = |kind: &str| source_types.is_empty() || source_types.iter().any(|source| source == kind);
    let (recorded, processed) = (is_asked("Record"), is_asked("VideoProcessing"));
    let made = if recorded && processed { None } else { Some(processed) };
    let matches_nothing = !(recorded || processed)
        || excludes(&storage_regions, STORAGE_REGION)
        || excludes(&status, "Normal")
        || (!file_ids.is_empty() && ids.is_empty())
        || request.review_results.is_some_and(|values| !values.is_empty())
        || request.trtc_sdk_app_ids.is_some_and(|values| !values.is_empty())
        || request.trtc_room_ids.is_some_and(|values| !values.is_empty())
        || request.knowledge_bases.is_some_and(|values| values.0 > 0);
    if matches_nothing {
        return Ok(None);
    }
    Ok(Some(MediaQuery {
        sub_app_id,
        file_ids: ids,
        names,
        name_prefixes,
        descriptions,
        text,
        stream_ids: or_single(stream_ids, request.stream_id),
        stream_domains: stream_domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
        stream_paths,
        media_types: media_types.iter().map(|name| name.to_ascii_lowercase()).collect(),
        categories,
        class_ids,
        tags,
        create_after,
        create_before,
        expire_after,
        expire_before,
        storage_classes,
        made,
        ascending,
        offset,
        limit,
    }))
}

fn ascending(sort: Option<SortBy>) -> Result<bool, ApiError> {
    let Some(sort) = sort else { return Ok(false) };
    let bad = |message: &str| Err(refuse("InvalidParameterValue.Sort", message));
    if !matches!(sort.field.as_deref(), None | Some("" | "CreateTime")) {
        return bad("Sort.Field must be CreateTime.");
    }
    match sort.order.unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "desc" => Ok(false),
        "asc" => Ok(true),
        _ => bad("Sort.Order must be Asc or Desc."),
    }
}

fn page(offset: Option<u64>, limit: Option<u64>) -> Result<(u64, u64), ApiError> {
    let offset = offset.unwrap_or(0);
    let limit = limit.filter(|limit| *limit != 0).unwrap_or(LIMIT_DEFAULT);
    if limit > HITS_MAX {
        return Err(refuse("InvalidParameterValue.Limit", format!("Limit is {limit}; Offset and Limit together must be at most {HITS_MAX}.")));
    }
    if offset > HITS_MAX - limit {
        return Err(refuse("InvalidParameterValue.Offset", format!("Offset is {offset}; Offset and Limit together must be at most {HITS_MAX}.")));
    }
    Ok((offset, limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::params::Parameters;
    use crate::control::tree::read_json;

    fn read(body: &str) -> Result<Option<MediaQuery>, ApiError> {
        query(SearchRequest::read_fields(read_json(body.as_bytes()).unwrap(), "")?, 0)
    }

    #[test]
    fn filters_reach_the_catalog() {
        let query = read("{}").unwrap().unwrap();
        assert_eq!((query.offset, query.limit, query.ascending, query.sub_app_id), (0, 10, false, 0));
        let body = r#"{"SubAppId":1300000001,"FileIds":["387702290000000001","x"],"Names":["a"],"NamePrefixes":["b"],"Descriptions":["c"],"ClassIds":[0],
            "Categories":["Audio"],"SourceTypes":["Upload","Record"],"StreamIds":["s"],"StreamId":"old","StreamDomains":["A.B"],"StreamPaths":["live"],
            "CreateTime":{"After":"2026-01-01T08:00:00Z","Before":"2026-01-01T17:00:00+08:00"},"StartTime":"2000-01-01T00:00:00Z",
            "ExpireTime":{"Before":"9999-12-31T23:59:59Z"},"StorageRegions":["local"],"StorageClasses":["STANDARD"],"MediaTypes":["MP4"],"Status":["Normal"],
            "Text":"t","Sort":{"Field":"CreateTime","Order":"ASC"},"Offset":4990,"Limit":10,"Vids":["x"],"Vid":"x","Filters":["basicInfo"],"Tags":["t"],"KnowledgeBases":[]}"#;
        let query = read(body).unwrap().unwrap();
        assert_eq!(query.file_ids, [FileId::parse("387702290000000001").unwrap()]);
        assert_eq!(
            (query.stream_ids, query.stream_domains, query.media_types),
            (vec!["s".to_owned()], vec!["a.b".to_owned()], vec!["mp4".to_owned()])
        );
        assert_eq!(query.create_after, Some(WallTime::from_unix_seconds(1_767_254_400)));
        assert_eq!(query.create_before, Some(WallTime::from_unix_seconds(1_767_258_000)));
        assert_eq!((query.expire_after, query.expire_before.is_some(), query.ascending), (None, true, true));
        assert_eq!((query.tags, query.class_ids), (vec!["t".to_owned()], vec![0]));
        let old =
            read(r#"{"StreamId":"s","SourceType":"Record","StartTime":"2026-01-01T08:00:00Z","EndTime":"","Limit":0,"Text":""}"#).unwrap().unwrap();
        assert_eq!((old.stream_ids, old.limit, old.text), (vec!["s".to_owned()], 10, None));
        assert!(old.create_after.is_some() && old.create_before.is_none());
    }

    #[test]
    fn filters_that_match_nothing() {
        for body in [
            r#"{"SourceTypes":["Upload"]}"#,
            r#"{"SourceType":"Upload"}"#,
            r#"{"StorageRegions":["ap-chongqing"]}"#,
            r#"{"Status":["Forbidden"]}"#,
            r#"{"FileIds":["x"]}"#,
            r#"{"ReviewResults":["pass"]}"#,
            r#"{"TrtcSdkAppIds":[1]}"#,
            r#"{"TrtcRoomIds":["1"]}"#,
            r#"{"KnowledgeBases":[{"Id":"x"}]}"#,
        ] {
            assert!(read(body).unwrap().is_none(), "{body}");
        }
    }

    #[test]
    fn bounds_and_codes() {
        let many = |name: &str, count: usize| format!(r#"{{"{name}":[{}]}}"#, vec![r#""x""#; count].join(","));
        let long = |name: &str, chars: usize| format!(r#"{{"{name}":["{}"]}}"#, "新".repeat(chars));
        let cases = [
            (many("FileIds", 11), "InvalidParameterValue.FileIds"),
            (long("FileIds", 41), "InvalidParameterValue.FileIds"),
            (many("Names", 11), "InvalidParameterValue.Names"),
            (long("Names", 101), "InvalidParameterValue.Names"),
            (long("Names", 100), "ok"),
            (many("NamePrefixes", 11), "InvalidParameterValue.NamePrefixes"),
            (many("Descriptions", 11), "InvalidParameterValue.Descriptions"),
            (many("Tags", 17), "InvalidParameterValue.Tags"),
            (long("Tags", 33), "InvalidParameterValue.Tags"),
            (many("StreamIds", 11), "InvalidParameterValue.StreamIds"),
            (many("StreamDomains", 11), "InvalidParameterValue.StreamDomains"),
            (many("StreamPaths", 11), "InvalidParameterValue.StreamPaths"),
            (many("MediaTypes", 11), "InvalidParameterValue.MediaTypes"),
            (many("SourceTypes", 11), "InvalidParameterValue.SourceTypes"),
            (many("Categories", 1), "InvalidParameterValue.Categories"),
            (r#"{"ClassIds":[1,2,3,4,5,6,7,8,9,10,11]}"#.to_owned(), "InvalidParameterValue.ClassIds"),
            (format!(r#"{{"Text":"{}"}}"#, "x".repeat(65)), "InvalidParameterValue.Text"),
            (r#"{"Offset":5001}"#.to_owned(), "InvalidParameterValue.Offset"),
            (r#"{"Offset":4991}"#.to_owned(), "InvalidParameterValue.Offset"),
            (r#"{"Limit":5001}"#.to_owned(), "InvalidParameterValue.Limit"),
            (r#"{"Limit":5000}"#.to_owned(), "ok"),
            (r#"{"Limit":5000,"Offset":1}"#.to_owned(), "InvalidParameterValue.Offset"),
            (r#"{"Limit":18446744073709551615,"Offset":18446744073709551615}"#.to_owned(), "InvalidParameterValue.Limit"),
            (r#"{"Sort":{"Field":"Name"}}"#.to_owned(), "InvalidParameterValue.Sort"),
            (r#"{"Sort":{"Field":"CreateTime","Order":"up"}}"#.to_owned(), "InvalidParameterValue.Sort"),
            (r#"{"CreateTime":{"After":"yesterday"}}"#.to_owned(), "InvalidParameterValue.CreateTime"),
            (r#"{"ExpireTime":{"After":"yesterday"}}"#.to_owned(), "InvalidParameterValue.ExpireTime"),
            (r#"{"StartTime":"yesterday"}"#.to_owned(), "InvalidParameterValue.StartTime"),
            (r#"{"EndTime":"yesterday"}"#.to_owned(), "InvalidParameterValue.EndTime"),
            (r#"{"Names":"x"}"#.to_owned(), "InvalidParameter"),
            (r#"{"Nope":1}"#.to_owned(), "UnknownParameter"),
        ];
        for (body, code) in &cases {
            assert_eq!(read(body).map_or_else(|error| error.code, |_| "ok"), *code, "{body:.100}");
        }
    }

    #[test]
    fn wanted_files() {
        let ids = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(wanted(ids(&[])).unwrap_err().code, "InvalidParameterValue.FileIdsEmpty");
        assert_eq!(wanted(vec!["x".to_owned(); 21]).unwrap_err().code, "InvalidParameterValue.FileIdsOverLimit");
        assert_eq!(wanted(ids(&["b", "a", "b"])).unwrap(), ids(&["b", "a"]));
    }
}
