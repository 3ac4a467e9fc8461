//! Read-only actions of our own: what the appliance is doing, how it is set, and what a recording holds. For the console and the command line, and
//! for everybody else; the vendor's actions have no place for these figures.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use percent_encoding::utf8_percent_encode;
use serde_json::{Map, Value, json};

use super::media_info::NAME;
use super::values::in_range;
use super::{Action, Scope, action, reply};
use crate::catalog::MediaRow;
use crate::config::Role;
use crate::control::errors::{ApiError, refuse};
use crate::control::params::{NoParameters, parameters};
use crate::control::protocol::Reply;
use crate::control::{console, times};
use crate::delivery::resolve::LIVE_PREFIX;
use crate::domain::{LiveStream, RecordingSource};
use crate::metrics::passes::Stage;
use crate::units::{FileId, Format};

pub const ACTIONS: &[Action] = &[
    action!("DescribeApplianceState", Live, state),
    action!("DescribeApplianceSettings", Live, settings),
    action!("DescribeAppliancePasses", Live, passes),
    action!("DescribeRecordingReceipt", Vod, receipt),
];

/// Live streams in one answer.
const PAGE_SIZE: u64 = 100;
const PAGE_SIZE_MAX: u64 = 1_000;
/// Threads looked at for their CPU time.
const THREADS_MAX: usize = 2_000;
/// A `recording.json` is some KiB.
const RECEIPT_BYTES_MAX: u64 = 16 << 20;
/// How long a token for the keys of an encrypted file is good, s.
const TOKEN_S: i64 = 86_400;

parameters! {
    StateRequest {
        optional {
            domain: String = "DomainName",
            app: String = "AppName",
            stream: String = "StreamName",
            page_num: u64 = "PageNum",
            page_size: u64 = "PageSize",
        }
    }
}

parameters! {
    ReceiptRequest {
        required { file_id: String = "FileId", }
        optional { sub_app_id: u64 = "SubAppId", }
    }
}

/// Live streams with codecs, rates and open recordings; disk, memory and CPU time.
fn state(scope: &Scope<'_>, request: StateRequest) -> Result<Reply, ApiError> {
    let page_num = in_range(request.page_num.unwrap_or(1), 1, u64::from(u32::MAX), "PageNum")?;
    let page_size = in_range(request.page_size.unwrap_or(PAGE_SIZE), 1, PAGE_SIZE_MAX, "PageSize")?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (domain, app, stream) = (given(request.domain).map(|domain| domain.to_ascii_lowercase()), given(request.app), given(request.stream));
    let is_wanted = |filter: &Option<String>, value: &str| filter.as_deref().is_none_or(|filter| filter == value);
    let mut live: Vec<LiveStream> = {
        // The ingest cores take this lock too, when publishing begins and ends: copy and let go.
        let live = scope.context.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let hits = live.iter().filter(|live| is_wanted(&domain, &live.key.domain) && is_wanted(&app, &live.key.app));
        hits.filter(|live| is_wanted(&stream, &live.key.stream)).cloned().collect()
    };
    live.sort_by(|left, right| left.key.cmp(&right.key));
    let bits_per_second: u64 = live.iter().map(|live| live.figures.bits_per_second.load(Relaxed)).sum();
    let disks = disks(scope);
    let skipped = usize::try_from((page_num - 1) * page_size).unwrap_or(usize::MAX);
    let shown: Vec<Value> = live.iter().skip(skipped).take(page_size as usize).map(|stream| stream_info(scope, stream)).collect();
    Ok(reply(json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Time": times::utc(scope.now),
        "UnixMillis": scope.now.unix_millis(),
        "StartTime": times::utc(scope.context.about.start_time),
        "TotalNum": live.len(),
        "TotalPage": (live.len() as u64).div_ceil(page_size),
        "PageNum": page_num,
        "PageSize": page_size,
        "BitsPerSecond": bits_per_second,
        "Streams": shown,
        "Disk": disks.first(),
        "Disks": disks,
        "Memory": memory(),
        "Threads": threads(),
    })))
}

/// Where the recording of a stream is watched that grows; empty: there is none.
fn live_url(scope: &Scope<'_>, stream: &LiveStream) -> String {
    let context = scope.context;
    let watched = context.media.open.watched((context.media.storage.clock)(), |key| *key == stream.key);
    let Some(watched) = watched else { return String::new() };
    let encoded = |text: &str| utf8_percent_encode(text, NAME).to_string();
    let app: Vec<String> = stream.key.app.split('/').map(encoded).collect();
    let dir = format!("{LIVE_PREFIX}{}/{}/{}/", context.app_id, encoded(&stream.key.domain), app.join("/"));
    let url = format!("{}{dir}{}.m3u8", context.public_base, encoded(&stream.key.stream));
    context.signing(scope.now).signed(watched.identity.vod_sub_app_id, &url, &dir).unwrap_or(url)
}

fn stream_info(scope: &Scope<'_>, stream: &LiveStream) -> Value {
    let figures = &stream.figures;
    let parts = figures.parts();
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    json!({
        "DomainName": stream.key.domain,
        "AppName": stream.key.app,
        "StreamName": stream.key.stream,
        "PublicationId": stream.publication.to_string(),
        "PublishTime": times::utc(stream.publish_time),
        "ClientIp": stream.client,
        "LiveUrl": live_url(scope, stream),
        "Core": stream.core,
        "BitsPerSecond": read(&figures.bits_per_second),
        "MediaBytes": read(&figures.media_bytes),
        "VideoFrames": read(&figures.video_frames),
        "AudioFrames": read(&figures.audio_frames),
        "DroppedFrames": read(&figures.dropped_frames),
        "LateFrames": read(&figures.late_frames),
        "Video": parts.video.map(|video| json!({ "Codec": video.codec, "Width": video.width, "Height": video.height })),
        "Audio": parts.audio.map(|audio| json!({ "Codec": audio.codec, "SampleRate": audio.sample_rate_hz, "Channels": audio.channels })),
        "Recordings": parts.recordings.iter().map(|(source, format)| recording_info(source, *format)).collect::<Vec<_>>(),
    })
}

/// Who asked for an open recording: its rule's template, or its task.
fn recording_info(source: &RecordingSource, format: Format) -> Value {
    let (by, template, task) = match source {
        RecordingSource::Rule(template) => ("rule", template.0, ""),
        RecordingSource::Task(task) => ("task", 0, &*task.0),
        RecordingSource::OlderTask(task) => ("older task", 0, &*task.0),
        RecordingSource::Made(by) => (by.name(), 0, ""),
        RecordingSource::Ring => ("ring", 0, ""),
    };
    json!({ "Format": format.name(), "StartedBy": by, "TemplateId": template, "TaskId": task })
}

/// The file systems of the data folders; zeros where one cannot be asked.
fn disks(scope: &Scope<'_>) -> Vec<Value> {
    let storage = &scope.context.media.storage;
    let each = storage.folders.iter().zip(&storage.health).enumerate();
    let disks = each.map(|(index, (folder, health))| {
        let stat = if storage.answers(index) { rustix::fs::statvfs(&folder.path).ok() } else { None };
        let (total, free) = stat.map_or((0, 0), |stat| {
            let block = stat.f_frsize.max(1);
            (stat.f_blocks.saturating_mul(block), stat.f_bavail.saturating_mul(block))
        });
        let (path, state) = (folder.path.display().to_string(), health.state((storage.clock)()).name());
        json!({ "Folder": path, "Label": folder.label, "State": state, "TotalBytes": total, "FreeBytes": free, "Errors": health.errors() })
    });
    disks.collect()
}

fn memory() -> Value {
    // Pages: total and resident (proc(5)).
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    json!({ "ResidentBytes": pages * rustix::param::page_size() as u64 })
}

/// CPU time of our threads since each began, those of one kind together: an ingest core is one thread, and its load the growth of this.
fn threads() -> Vec<Value> {
    let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten().take(THREADS_MAX);
    for stat in tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok()) {
        if let Some((name, ticks)) = read_stat(&stat) {
            let known = kinds.entry(kind_of_thread(name).to_owned()).or_default();
            *known = (known.0 + 1, known.1 + ticks);
        }
    }
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1) as f64;
    kinds.into_iter().map(|(name, (count, ticks))| json!({ "Name": name, "Count": count, "CpuSeconds": ticks as f64 / ticks_per_second })).collect()
}

/// `http-0` to `http-3` are one kind; each ingest core is its own, and its executor adds a number of its own to the name: `ingest-0-1`.
fn kind_of_thread(name: &str) -> &str {
    match name.strip_prefix("ingest-") {
        Some(rest) => &name[..name.len() - rest.len() + rest.find('-').unwrap_or(rest.len())],
        None => name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '-'),
    }
}

/// Name and CPU time (user and system, clock ticks) from a thread's `stat` (proc(5)); the name may hold anything, also brackets and spaces.
fn read_stat(stat: &str) -> Option<(&str, u64)> {
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let mut fields = tail.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((name, user + system))
}

/// The slowest ticks of the ingest cores in the last ten to twenty minutes, longest first.
fn passes(scope: &Scope<'_>, _: NoParameters) -> Result<Reply, ApiError> {
    let ms = |nanos: u64| nanos as f64 / 1e6;
    let passes: Vec<Value> = (scope.context.slow_passes)()
        .into_iter()
        .map(|(core, pass)| {
            let (slowest, _) = pass.slowest_stage();
            let stages: Map<String, Value> =
                Stage::ALL.into_iter().zip(pass.stages).map(|(stage, nanos)| (stage.name().to_owned(), json!(ms(nanos)))).collect();
            json!({
                "Core": core,
                "Time": times::utc(pass.at),
                "UnixMillis": pass.at.unix_millis(),
                "Milliseconds": ms(pass.nanos),
                "LateMilliseconds": ms(pass.late_nanos),
                "Streams": pass.streams,
                "Bytes": pass.bytes,
                "SlowestStage": slowest.name(),
                "StageMilliseconds": stages,
            })
        })
        .collect();
    Ok(reply(json!({ "Passes": passes })))
}

/// Every setting with its value, and what a caller of this API can do here.
fn settings(scope: &Scope<'_>, _: NoParameters) -> Result<Reply, ApiError> {
    let about = &scope.context.about;
    let settings: Vec<Value> = about
        .settings
        .iter()
        .map(|(setting, value)| {
            json!({
                "Name": setting.key,
                "Value": value,
                "Default": setting.default,
                "Unit": setting.unit,
                "Allowed": setting.values,
                "Description": setting.doc,
            })
        })
        .collect();
    Ok(reply(json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Settings": settings,
        "AppId": scope.context.app_id,
        "PublicBase": scope.context.public_base,
        "RtmpListen": about.rtmp_listen.to_string(),
        "DefaultDomain": about.default_domain,
        "TimeZone": about.time_zone,
        "Role": role_name(scope.caller.role()),
        "Actions": super::FAMILIES.iter().copied().flatten().map(|action| action.name).collect::<Vec<_>>(),
        "HlsPlayer": console::has_hls_player(),
    })))
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Operator => "operator",
        Role::Reader => "reader",
    }
}

/// What was noted when the recording was finished: tracks with frames, bytes and durations, why it ended, and what it lost.
fn receipt(scope: &Scope<'_>, request: ReceiptRequest) -> Result<Reply, ApiError> {
    let sub_app_id = scope.sub_app(request.sub_app_id)?;
    let not_found = || refuse("ResourceNotFound.FileNotExist", "There is no such file.");
    let file_id = FileId::parse(&request.file_id).ok_or_else(not_found)?;
    let row: MediaRow = scope.context.catalog.files(sub_app_id, &[file_id])?.remove(&file_id).ok_or_else(not_found)?;
    let text = crate::delivery::resolve::read_receipt(&scope.context.media.storage, &row.file.folder, RECEIPT_BYTES_MAX);
    let noted = text.ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let noted = noted.ok_or_else(|| refuse("ResourceNotFound", "The recording has no receipt beside it."))?;
    let mut answer = reply(json!({ "FileId": request.file_id, "Receipt": as_answer(noted) }));
    let is_encrypted = row.file.identity.encryption.is_some() || row.extras.results.adaptives.iter().any(|set| !set.drm_type.is_empty());
    if is_encrypted {
        // Whoever may call this may also ask for the keys themselves.
        let token = scope.context.master_key.token(file_id, scope.now.unix_seconds() + TOKEN_S);
        answer.insert("DrmToken".to_owned(), token.into());
    }
    Ok(answer)
}

/// The same with the API's way to write names, without the push address's query, which may hold a signature.
fn as_answer(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let shown = fields.into_iter().filter(|(name, _)| name != "stream_param");
            Value::Object(shown.map(|(name, value)| (pascal(&name), as_answer(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(as_answer).collect()),
        other => other,
    }
}

/// `file_id` as `FileId`.
fn pascal(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    name.split('_').map(capital).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_read_whatever_their_names() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0 5 0";
        assert_eq!(read_stat(&format!("17 (ingest-0) {tail}")), Some(("ingest-0", 42)));
        assert_eq!(read_stat(&format!("17 (a) b) ( c) {tail}")), Some(("a) b) ( c", 42)));
        assert_eq!(read_stat("17 (ingest-0) S 1"), None);
        assert_eq!(read_stat(""), None);
        for (name, kind) in [("ingest-0-1", "ingest-0"), ("ingest-12", "ingest-12"), ("http-3", "http"), ("disk-writer", "disk-writer"), ("", "")] {
            assert_eq!(kind_of_thread(name), kind);
        }
        let own = threads();
        assert!(own.iter().map(|thread| thread["Count"].as_u64().unwrap()).sum::<u64>() >= 1, "{own:?}");
    }

    #[test]
    fn a_receipt_has_the_names_of_the_api_and_no_secrets() {
        let noted = json!({"identity": {"file_id": 1, "stream_param": "txSecret=x"}, "lost": [{"at_ms": 2}], "end": 3});
        assert_eq!(as_answer(noted), json!({"Identity": {"FileId": 1}, "Lost": [{"AtMs": 2}], "End": 3}));
    }
}
