//! Record templates: which formats are recorded, and how long a file is.

use serde_json::{Value, json};

use super::values::{self, NAME_BYTES_MAX, in_range};
use super::{Action, Scope, action, reply};
use crate::catalog::{CatalogError, Template};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::domain::sealing::HlsEncryption;
use crate::domain::template::RECORD_INTERVAL_S_DEFAULT;
use crate::domain::{FormatParam, RecordTemplate, naming};
use crate::units::{Format, TemplateId};

pub const ACTIONS: &[Action] = &[
    action!("CreateLiveRecordTemplate", Live, create),
    action!("DescribeLiveRecordTemplate", Live, describe),
    action!("DescribeLiveRecordTemplates", Live, describe_all),
    action!("ModifyLiveRecordTemplate", Live, modify),
    action!("DeleteLiveRecordTemplate", Live, delete),
];

/// Shortest and longest file of any format, s. Sources disagree about the bounds; this is their union.
const RECORD_INTERVAL_S_MIN: i64 = 30;
const VIDEO_INTERVAL_S_MAX: i64 = 43_200;
const AUDIO_INTERVAL_S_MAX: i64 = 7_200;
/// 1,500 days (documented).
const STORAGE_TIME_S_MAX: i64 = 129_600_000;
/// Longest wait of an HLS recording for its stream, s (documented).
const FLOW_CONTINUE_S_MAX: u64 = 1_800;
/// What is kept of a stream for tasks that begin in the past, s.
const PRE_RECORD_S_MIN: u64 = 10;
const PRE_RECORD_S_MAX: u64 = 86_400;
/// Segments to a key.
const ROTATION_SEGMENTS_MAX: u64 = 100_000;

parameters! {
    /// What a template is made or changed of, beside its name.
    group Parts {
        description: String = "Description",
        flv: RecordParam = "FlvParam",
        hls: RecordParam = "HlsParam",
        mp4: RecordParam = "Mp4Param",
        aac: RecordParam = "AacParam",
        mp3: RecordParam = "Mp3Param",
        hls_special: HlsSpecialParam = "HlsSpecialParam",
        flv_special: FlvSpecialParam = "FlvSpecialParam",
        remove_watermark: bool = "RemoveWatermark",
        pre_record: u64 = "PreRecordDuration",
        hls_encryption: EncryptionItem = "HlsEncryption",
    }
}

parameters! {
    CreateRequest {
        required { name: String = "TemplateName", }
        optional {
            is_delay_live: i64 = "IsDelayLive",
            cos_store: i64 = "CosStore",
        }
        with { parts: Parts, }
    }
}

parameters! {
    ModifyRequest {
        required { id: i64 = "TemplateId", }
        optional { name: String = "TemplateName", }
        with { parts: Parts, }
    }
}

parameters! {
    /// Parameters of one format, as given.
    RecordParam {
        optional {
            enable: i64 = "Enable",
            record_interval: i64 = "RecordInterval",
            storage_time: i64 = "StorageTime",
            vod_sub_app_id: i64 = "VodSubAppId",
            vod_file_name: String = "VodFileName",
            procedure: String = "Procedure",
            storage_mode: String = "StorageMode",
            class_id: i64 = "ClassId",
        }
        // Object storage of newer clients, and a field of very old ones.
        ignored { "CosBucketName", "CosBucketRegion", "CosBucketPath", "RecordType" }
    }
}

parameters! {
    /// A parameter of our own: HLS recordings are encrypted as they are written.
    EncryptionItem {
        optional {
            kind: String = "Type",
            rotation: u64 = "RotationSegments",
        }
    }
}

parameters! {
    HlsSpecialParam { optional { flow_continue_duration: u64 = "FlowContinueDuration", } }
}

parameters! {
    FlvSpecialParam { optional { upload_in_recording: bool = "UploadInRecording", } }
}

parameters! {
    /// Names a template.
    IdRequest { required { id: i64 = "TemplateId", } }
}

parameters! {
    ListRequest { optional { is_delay_live: i64 = "IsDelayLive", } }
}

fn create(scope: &Scope<'_>, request: CreateRequest) -> Result<Reply, ApiError> {
    let id = insert(scope, template(request, &|id| scope.sub_app(Some(id)))?)?;
    scope.refresh_policy()?;
    Ok(reply(json!({ "TemplateId": id.0 })))
}

/// Enters a template of any kind.
pub fn insert<T: Template>(scope: &Scope<'_>, template: T) -> Result<TemplateId, ApiError> {
    scope.context.catalog.create_template(template, scope.context.limits.templates_max).map_err(|error| match error {
        CatalogError::Limit { limit } => refuse("InternalError.ConfOutLimit", format!("There are {limit} templates already.")),
        other => other.into(),
    })
}

fn describe(scope: &Scope<'_>, request: IdRequest) -> Result<Reply, ApiError> {
    let template = scope.context.catalog.template(template_id(request.id)).map_err(|error| not_found(error, request.id))?;
    Ok(reply(json!({ "Template": template_info(&template) })))
}

fn describe_all(scope: &Scope<'_>, request: ListRequest) -> Result<Reply, ApiError> {
    let is_delay_live = in_range(request.is_delay_live.unwrap_or(0), 0, 1, "IsDelayLive")?;
    let mut templates = scope.context.catalog.templates::<RecordTemplate>()?;
    templates.retain(|template| template.is_delay_live == is_delay_live);
    templates.sort_by_key(|template| template.id);
    Ok(reply(json!({ "Templates": templates.iter().map(template_info).collect::<Vec<_>>() })))
}

fn modify(scope: &Scope<'_>, request: ModifyRequest) -> Result<Reply, ApiError> {
    let given = request.id;
    let change = change(request.name, request.parts, &|id| scope.sub_app(Some(id)))?;
    let mut changed: RecordTemplate = scope.context.catalog.template(template_id(given)).map_err(|error| not_found(error, given))?;
    change.clone()(&mut changed);
    fits_encryption(&changed)?;
    scope.context.catalog.modify_template(template_id(given), Box::new(change)).map_err(|error| not_found(error, given))?;
    scope.refresh_policy()?;
    Ok(Reply::new())
}

fn delete(scope: &Scope<'_>, request: IdRequest) -> Result<Reply, ApiError> {
    remove::<RecordTemplate>(scope, request.id, "InternalError.ConfNotFound")?;
    scope.refresh_policy()?;
    Ok(Reply::new())
}

/// Deletes a template of kind `T`; `unknown` is the code where there is none.
pub fn remove<T: Template>(scope: &Scope<'_>, id: i64, unknown: &'static str) -> Result<(), ApiError> {
    scope.context.catalog.delete_template::<T>(template_id(id)).map_err(|error| match error {
        CatalogError::NotFound => refuse(unknown, format!("There is no template {id}.")),
        CatalogError::InUse => refuse("FailedOperation.ConfInUsed", format!("The template {id} is bound to a rule; delete the rule first.")),
        other => other.into(),
    })
}

/// A negative id is none that exists; neither is 0.
pub fn template_id(given: i64) -> TemplateId {
    TemplateId(u64::try_from(given).unwrap_or(0))
}

pub fn not_found(error: CatalogError, id: i64) -> ApiError {
    match error {
        CatalogError::NotFound => refuse("FailedOperation.NotFound", format!("There is no template {id}.")),
        other => other.into(),
    }
}

/// A checked template; its id is given by the catalog.
fn template(request: CreateRequest, app: FindApp<'_>) -> Result<RecordTemplate, ApiError> {
    match request.cos_store {
        None | Some(0) => {}
        Some(1) => return Err(refuse("UnsupportedOperation", "Recording into object storage (CosStore) is not offered here.")),
        Some(other) => return Err(ApiError::value(format!("CosStore is {other}; it must be 0 or 1."))),
    }
    let mut template = RecordTemplate::empty(TemplateId(0), "");
    template.is_delay_live = in_range(request.is_delay_live.unwrap_or(0), 0, 1, "IsDelayLive")?;
    change(Some(request.name), request.parts, app)?(&mut template);
    fits_encryption(&template)?;
    Ok(template)
}

/// The application that a `VodSubAppId` means; 0 is the main one.
type FindApp<'a> = &'a dyn Fn(u64) -> Result<u64, ApiError>;

/// Checks what is given; the function then sets it and leaves everything else as it is.
fn change(name: Option<String>, parts: Parts, app: FindApp<'_>) -> Result<impl FnOnce(&mut RecordTemplate) + Clone + Send + use<>, ApiError> {
    let name = name.map(values::template_name).transpose()?;
    let description = parts.description.map(values::description).transpose()?;
    let mut params = Vec::new();
    for (format, wire, param) in [
        (Format::Flv, "FlvParam", parts.flv),
        (Format::Hls, "HlsParam", parts.hls),
        (Format::Mp4, "Mp4Param", parts.mp4),
        (Format::Aac, "AacParam", parts.aac),
        (Format::Mp3, "Mp3Param", parts.mp3),
    ] {
        if let Some(param) = param {
            params.push((format, param.check(format, wire, app)?));
        }
    }
    let flow_continue = parts.hls_special.and_then(|special| special.flow_continue_duration);
    let flow_continue = flow_continue.map(|seconds| in_range(seconds, 0, FLOW_CONTINUE_S_MAX, "HlsSpecialParam.FlowContinueDuration")).transpose()?;
    let upload = parts.flv_special.and_then(|special| special.upload_in_recording);
    let remove_watermark = parts.remove_watermark;
    let pre_record = parts.pre_record.map(pre_record).transpose()?;
    let encryption = parts.hls_encryption.map(encryption).transpose()?;
    Ok(move |template: &mut RecordTemplate| {
        set(&mut template.name, name);
        set(&mut template.description, description);
        for (format, param) in params {
            param.apply(template.param_mut(format));
        }
        set(&mut template.flow_continue_duration_s, flow_continue);
        set(&mut template.upload_in_recording, upload);
        set(&mut template.remove_watermark, remove_watermark);
        set(&mut template.pre_record_s, pre_record);
        set(&mut template.hls_encryption, encryption);
    })
}

/// A parameter of our own: how much of a stream is kept for tasks that begin in the past.
fn pre_record(seconds: u64) -> Result<u64, ApiError> {
    if seconds == 0 { Ok(0) } else { in_range(seconds, PRE_RECORD_S_MIN, PRE_RECORD_S_MAX, "PreRecordDuration") }
}

/// `None`: none. A rotation that is not given: one key for all.
fn encryption(item: EncryptionItem) -> Result<Option<HlsEncryption>, ApiError> {
    let rotation_segments = in_range(item.rotation.unwrap_or(0), 0, ROTATION_SEGMENTS_MAX, "HlsEncryption.RotationSegments")?;
    match item.kind.as_deref() {
        None | Some("") => Ok(None),
        Some("SimpleAES") => Ok(Some(HlsEncryption { rotation_segments })),
        Some(_) => Err(ApiError::value("HlsEncryption.Type must be SimpleAES or empty.")),
    }
}

/// What is to be encrypted must lie nowhere as it is: neither in another format nor in what is kept for tasks of the past, nor be read by a task flow.
fn fits_encryption(template: &RecordTemplate) -> Result<(), ApiError> {
    let wrong = |what: &str| Err(refuse("InvalidParameter", format!("With HlsEncryption {what}")));
    if template.hls_encryption.is_none() {
        return Ok(());
    }
    if let Some((format, _)) = template.enabled().find(|(format, _)| *format != Format::Hls) {
        return wrong(&format!("only HLS can be recorded, and {} is on: it would hold the same media in the clear.", format.name()));
    }
    if !template.hls.enable {
        return wrong("HlsParam.Enable must be 1.");
    }
    if template.pre_record_s > 0 {
        return wrong("PreRecordDuration must be 0: what is kept of a stream is not encrypted.");
    }
    if !template.hls.procedure.is_empty() {
        return wrong("HlsParam.Procedure must be empty: task flows do not open encrypted recordings.");
    }
    Ok(())
}

pub fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// Parameters of one format, checked; `None` leaves the stored value.
#[derive(Clone)]
struct ParamChange {
    enable: Option<bool>,
    record_interval_s: Option<u64>,
    storage_time_s: Option<u64>,
    vod_sub_app_id: Option<u64>,
    vod_file_name: Option<String>,
    procedure: Option<String>,
    storage_mode: Option<String>,
    class_id: Option<i64>,
}

impl ParamChange {
    fn apply(self, param: &mut FormatParam) {
        set(&mut param.enable, self.enable);
        set(&mut param.record_interval_s, self.record_interval_s);
        set(&mut param.storage_time_s, self.storage_time_s);
        set(&mut param.vod_sub_app_id, self.vod_sub_app_id);
        set(&mut param.vod_file_name, self.vod_file_name);
        set(&mut param.procedure, self.procedure);
        set(&mut param.storage_mode, self.storage_mode);
        set(&mut param.class_id, self.class_id);
    }
}

impl RecordParam {
    fn check(self, format: Format, wire: &str, app: FindApp<'_>) -> Result<ParamChange, ApiError> {
        let name = |field: &str| format!("{wire}.{field}");
        let range = |value: Option<i64>, low: i64, high: i64, field: &str| value.map(|value| in_range(value, low, high, &name(field))).transpose();
        // 0 means the default.
        let interval = match self.record_interval {
            Some(0) => Some(RECORD_INTERVAL_S_DEFAULT as i64),
            given => match format {
                Format::Flv | Format::Mp4 => range(given, RECORD_INTERVAL_S_MIN, VIDEO_INTERVAL_S_MAX, "RecordInterval")?,
                Format::Aac | Format::Mp3 => range(given, RECORD_INTERVAL_S_MIN, AUDIO_INTERVAL_S_MAX, "RecordInterval")?,
                // Stored, without effect: one HLS recording is one playlist.
                Format::Hls => range(given, 0, i64::MAX, "RecordInterval")?,
            },
        };
        let no_app = |id: i64| ApiError::value(format!("{} is {id}; there is no such application.", name("VodSubAppId")));
        let vod_sub_app_id = match self.vod_sub_app_id {
            None => None,
            Some(id) => Some(app(u64::try_from(id).map_err(|_| no_app(id))?).map_err(|error| match error.code {
                "InvalidParameterValue.SubAppId" => no_app(id),
                _ => error,
            })?),
        };
        if let Some(pattern) = &self.vod_file_name {
            naming::check_pattern(pattern)
                .map_err(|error| refuse("InvalidParameter.InvalidVodFileName", format!("{}: {error}.", name("VodFileName"))))?;
        }
        if let Some(procedure) = &self.procedure
            && (procedure.len() > NAME_BYTES_MAX || procedure.chars().any(char::is_control))
        {
            return Err(ApiError::value(format!("{} must be at most {NAME_BYTES_MAX} bytes without control characters.", name("Procedure"))));
        }
        let storage_mode = match self.storage_mode.as_deref() {
            None => None,
            Some("" | "normal") => Some("normal".to_owned()),
            Some("cold") => Some("cold".to_owned()),
            Some(_) => return Err(ApiError::value(format!("{} must be normal or cold.", name("StorageMode")))),
        };
        Ok(ParamChange {
            enable: range(self.enable, 0, 1, "Enable")?.map(|enable| enable == 1),
            record_interval_s: interval.map(i64::unsigned_abs),
            storage_time_s: range(self.storage_time, 0, STORAGE_TIME_S_MAX, "StorageTime")?.map(i64::unsigned_abs),
            vod_sub_app_id,
            vod_file_name: self.vod_file_name,
            procedure: self.procedure,
            storage_mode,
            class_id: range(self.class_id, 0, i64::MAX, "ClassId")?,
        })
    }
}

fn template_info(template: &RecordTemplate) -> Value {
    let mut info = json!({
        "TemplateId": template.id.0,
        "TemplateName": template.name,
        "Description": template.description,
        "FlvParam": param_info(&template.flv),
        "HlsParam": param_info(&template.hls),
        "Mp4Param": param_info(&template.mp4),
        "AacParam": param_info(&template.aac),
        "Mp3Param": param_info(&template.mp3),
        "IsDelayLive": template.is_delay_live,
        "HlsSpecialParam": { "FlowContinueDuration": template.flow_continue_duration_s },
        "FlvSpecialParam": { "UploadInRecording": template.upload_in_recording },
        "RemoveWatermark": template.remove_watermark,
    });
    // Clients that know nothing of it are not troubled with it.
    if template.pre_record_s > 0 {
        info["PreRecordDuration"] = json!(template.pre_record_s);
    }
    if let Some(encryption) = template.hls_encryption {
        info["HlsEncryption"] = json!({ "Type": "SimpleAES", "RotationSegments": encryption.rotation_segments });
    }
    info
}

fn param_info(param: &FormatParam) -> Value {
    json!({
        "RecordInterval": param.record_interval_s,
        "StorageTime": param.storage_time_s,
        "Enable": i64::from(param.enable),
        "VodSubAppId": param.vod_sub_app_id,
        "VodFileName": param.vod_file_name,
        "Procedure": param.procedure,
        "StorageMode": param.storage_mode,
        "ClassId": param.class_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::params::Parameters;
    use crate::control::tree::{decode_form, read_json, unflatten};

    fn main_only(id: u64) -> Result<u64, ApiError> {
        if id == 0 || id == 1_300_000_001 { Ok(0) } else { Err(refuse("InvalidParameterValue.SubAppId", "none")) }
    }

    fn created(body: &str) -> Result<RecordTemplate, ApiError> {
        template(CreateRequest::read_fields(read_json(body.as_bytes()).unwrap(), "")?, &main_only)
    }

    #[test]
    fn golden_template() {
        let query = "TemplateName=news-mp4&Description=Morning+news&Mp4Param.RecordInterval=3600&Mp4Param.StorageTime=0&Mp4Param.Enable=1\
                     &RemoveWatermark=True&AacParam.VodSubAppId=1300000001&HlsSpecialParam.FlowContinueDuration=60";
        let fields = unflatten(decode_form(query.as_bytes()).unwrap()).unwrap();
        let mut template = template(CreateRequest::read_fields(fields, "").unwrap(), &main_only).unwrap();
        template.id = TemplateId(1001);
        let off = r#"{"ClassId":0,"Enable":0,"Procedure":"","RecordInterval":1800,"StorageMode":"normal","StorageTime":0,"VodFileName":"","VodSubAppId":0}"#;
        let mp4 = off.replace("\"Enable\":0", "\"Enable\":1").replace("1800", "3600");
        let expected = [
            r#"{"AacParam":"#,
            off,
            r#","Description":"Morning news","FlvParam":"#,
            off,
            r#","FlvSpecialParam":{"UploadInRecording":false},"HlsParam":"#,
            off,
            r#","HlsSpecialParam":{"FlowContinueDuration":60},"IsDelayLive":0,"Mp3Param":"#,
            off,
            r#","Mp4Param":"#,
            &mp4,
            r#","RemoveWatermark":true,"TemplateId":1001,"TemplateName":"news-mp4"}"#,
        ];
        assert_eq!(template_info(&template).to_string(), expected.concat());
        assert_eq!(template.enabled().map(|(format, _)| format).collect::<Vec<_>>(), [Format::Mp4]);
    }

    #[test]
    fn bounds_and_codes() {
        let name = |pattern: &str| format!(r#"{{"TemplateName":"n","FlvParam":{{"VodFileName":"{pattern}"}}}}"#);
        let cases: &[(&str, &str)] = &[
            (r#"{}"#, "MissingParameter"),
            (r#"{"TemplateName":""}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"a b"}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":7}"#, "InvalidParameter"),
            (r#"{"TemplateName":"n","Description":"\u0000"}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","FmpParam":{}}"#, "UnknownParameter"),
            (r#"{"TemplateName":"n","IsDelayLive":2}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","CosStore":1}"#, "UnsupportedOperation"),
            (r#"{"TemplateName":"n","CosStore":0}"#, "ok"),
            (r#"{"TemplateName":"n","CosStore":2}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","Mp4Param":{"Enable":2}}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","Mp4Param":{"Enable":true}}"#, "InvalidParameter"),
            (r#"{"TemplateName":"n","Mp4Param":{"RecordInterval":29}}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","Mp4Param":{"RecordInterval":30}}"#, "ok"),
            (r#"{"TemplateName":"n","FlvParam":{"RecordInterval":43200}}"#, "ok"),
            (r#"{"TemplateName":"n","FlvParam":{"RecordInterval":43201}}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","AacParam":{"RecordInterval":7200}}"#, "ok"),
            (r#"{"TemplateName":"n","Mp3Param":{"RecordInterval":7201}}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","Mp3Param":{"RecordInterval":-1}}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","HlsParam":{"RecordInterval":1}}"#, "ok"),
            (r#"{"TemplateName":"n","HlsParam":{"RecordInterval":-1}}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","FlvParam":{"StorageTime":129600000}}"#, "ok"),
            (r#"{"TemplateName":"n","FlvParam":{"StorageTime":129600001}}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","FlvParam":{"StorageTime":-1}}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","FlvParam":{"VodSubAppId":1300000002}}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","FlvParam":{"StorageMode":"cold"}}"#, "ok"),
            (r#"{"TemplateName":"n","FlvParam":{"StorageMode":"warm"}}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","FlvParam":{"ClassId":-1}}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","FlvParam":{"RecordType":"x","CosBucketName":"b"}}"#, "ok"),
            (r#"{"TemplateName":"n","FlvParam":{"Nope":1}}"#, "UnknownParameter"),
            (r#"{"TemplateName":"n","HlsSpecialParam":{"FlowContinueDuration":1800}}"#, "ok"),
            (r#"{"TemplateName":"n","HlsSpecialParam":{"FlowContinueDuration":1801}}"#, "InvalidParameterValue"),
            (r#"{"TemplateName":"n","HlsSpecialParam":{"FlowContinueDuration":-1}}"#, "InvalidParameter"),
            (&name("{StreamID}_{StartYear}-{EndMillisecond}{RandomID}"), "ok"),
            (&name("plain 名"), "ok"),
            (&name("lone }"), "InvalidParameter.InvalidVodFileName"),
            (&name("{streamid}"), "InvalidParameter.InvalidVodFileName"),
            (&name("{StartWeek}"), "InvalidParameter.InvalidVodFileName"),
            (&name("{}"), "InvalidParameter.InvalidVodFileName"),
            (&name("{StreamID"), "InvalidParameter.InvalidVodFileName"),
            (&name("a/b"), "InvalidParameter.InvalidVodFileName"),
            (&name("a\\n"), "InvalidParameter.InvalidVodFileName"),
            (&name(&"x".repeat(256)), "InvalidParameter.InvalidVodFileName"),
        ];
        for (body, code) in cases {
            assert_eq!(created(body).map_or_else(|error| error.code, |_| "ok"), *code, "{body:.100}");
        }
        let message = created(r#"{"TemplateName":"n","Mp4Param":{"RecordInterval":10}}"#).unwrap_err().message;
        assert_eq!(message, "Mp4Param.RecordInterval is 10; it must be 30 to 43200.");
        assert_eq!(created(r#"{"TemplateName":"n","Mp4Param":{"RecordInterval":0}}"#).unwrap().mp4.record_interval_s, 1800);
    }

    #[test]
    fn modify_merges_field_by_field() {
        let mut stored =
            created(r#"{"TemplateName":"n","Description":"d","IsDelayLive":1,"Mp4Param":{"Enable":1,"RecordInterval":60,"ClassId":3}}"#).unwrap();
        let before = stored.clone();
        let request = |body: &str| ModifyRequest::read_fields(read_json(body.as_bytes()).unwrap(), "");
        let mut modify = |body: &str| {
            let request = request(body).unwrap();
            change(request.name, request.parts, &main_only).unwrap()(&mut stored);
            stored.clone()
        };

        assert_eq!(modify(r#"{"TemplateId":1001}"#), before);
        let body = r#"{"TemplateId":1001,"Description":"","Mp4Param":{"RecordInterval":0},"HlsParam":{"Enable":1},"HlsSpecialParam":{"FlowContinueDuration":60}}"#;
        let changed = modify(body);
        let mut expected = before;
        expected.description = String::new();
        expected.mp4.record_interval_s = 1800;
        expected.hls.enable = true;
        expected.flow_continue_duration_s = 60;
        assert_eq!(changed, expected);
        assert_eq!(request(r#"{"TemplateId":1001,"IsDelayLive":0}"#).unwrap_err().code, "UnknownParameter");
        assert_eq!(request(r#"{"TemplateName":"x"}"#).unwrap_err().code, "MissingParameter");
        assert_eq!(template_id(-5), TemplateId(0));
    }
}
