//! One catalog entry as the API shows it: `MediaInfo`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::results::{self, Folder};
use crate::catalog::MediaRow;
use crate::control::times;
use crate::domain::file::MediaSummary;
use crate::domain::{MadeBy, RecordingSource};
use crate::units::{FileId, Format};

/// The name of the one storage region there is.
pub const STORAGE_REGION: &str = "local";

/// Everything but letters, digits and `-._~` (RFC 3986, 2.3).
pub const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Addresses of an entry's files.
struct Urls {
    /// Empty if the original was deleted.
    media: String,
    /// Empty if there is none.
    cover: String,
    /// Of what was made from it.
    folder: Folder,
}

/// Makes a part from the entry and its addresses.
type MakePart = fn(&MediaRow, &Urls) -> Value;

/// The parts of a `MediaInfo` besides its FileId; an empty filter means all of them.
const PARTS: [(&str, &str, MakePart); 9] = [
    ("basicInfo", "BasicInfo", basic_info),
    ("metaData", "MetaData", |row, _| meta_data(row)),
    ("transcodeInfo", "TranscodeInfo", transcode_info),
    (
        "animatedGraphicsInfo",
        "AnimatedGraphicsInfo",
        |row, urls| json!({ "AnimatedGraphicsSet": all(&row.extras.results.animated, urls, results::animated) }),
    ),
    (
        "sampleSnapshotInfo",
        "SampleSnapshotInfo",
        |row, urls| json!({ "SampleSnapshotSet": all(&row.extras.results.samples, urls, results::samples) }),
    ),
    ("imageSpriteInfo", "ImageSpriteInfo", |row, urls| json!({ "ImageSpriteSet": all(&row.extras.results.sprites, urls, results::sprites) })),
    (
        "snapshotByTimeOffsetInfo",
        "SnapshotByTimeOffsetInfo",
        |row, urls| json!({ "SnapshotByTimeOffsetSet": all(&row.extras.results.snapshots, urls, results::snapshots) }),
    ),
    ("keyFrameDescInfo", "KeyFrameDescInfo", |row, _| key_frame_desc_info(row)),
    (
        "adaptiveDynamicStreamingInfo",
        "AdaptiveDynamicStreamingInfo",
        |row, urls| json!({ "AdaptiveDynamicStreamingSet": all(&row.extras.results.adaptives, urls, results::adaptive) }),
    ),
];

/// `filters` name the parts wanted (any case); unknown names are ignored, none means all. Parts not wanted are absent.
pub fn media_info(row: &MediaRow, filters: &[String], public_base: &str, app_id: u64) -> Value {
    let urls = urls(row, public_base, app_id);
    let mut info = Map::new();
    info.insert("FileId".to_owned(), Value::from(row.file.identity.file_id.to_string()));
    for (filter, name, part) in PARTS {
        if filters.is_empty() || filters.iter().any(|wanted| wanted.eq_ignore_ascii_case(filter)) {
            info.insert(name.to_owned(), part(row, &urls));
        }
    }
    Value::Object(info)
}

/// What an event says of a file: `MediaBasicInfo` and `MediaMetaData`.
pub fn event_media(row: &MediaRow, public_base: &str, app_id: u64) -> (Value, Value) {
    (basic_info(row, &urls(row, public_base, app_id)), meta_data(row))
}

fn urls(row: &MediaRow, public_base: &str, app_id: u64) -> Urls {
    let cover = row.extras.cover.as_ref().map(|extension| cover_url(row.file.identity.file_id, extension, public_base, app_id));
    let media = if row.extras.original_deleted { String::new() } else { media_url(row, public_base, app_id) };
    let folder = Folder::new(row.file.identity.file_id, public_base, app_id);
    Urls { media, cover: cover.unwrap_or_default(), folder }
}

/// Results of one kind.
fn all<T>(sets: &[T], urls: &Urls, item: fn(&T, &Folder) -> Value) -> Vec<Value> {
    sets.iter().map(|set| item(set, &urls.folder)).collect()
}

/// Where the cover picture of a file is.
pub fn cover_url(file_id: FileId, extension: &str, public_base: &str, app_id: u64) -> String {
    format!("{public_base}/vod/{app_id}/{file_id}/cover.{extension}")
}

/// `<public base>/vod/<AppId>/<FileId>/<name>.<ext>`.
pub fn media_url(row: &MediaRow, public_base: &str, app_id: u64) -> String {
    let identity = &row.file.identity;
    let name = if row.name.is_empty() { "file" } else { &row.name };
    format!("{public_base}/vod/{app_id}/{}/{}.{}", identity.file_id, utf8_percent_encode(name, NAME), identity.format.extension())
}

/// What a task of EditMedia shows of the file it made: `Output` and `MetaData`.
pub fn edit_output(row: &MediaRow, public_base: &str, app_id: u64) -> (Value, Value) {
    let output = json!({
        "FileType": row.file.identity.format.name(),
        "FileId": row.file.identity.file_id.to_string(),
        "FileUrl": media_url(row, public_base, app_id),
        "MediaName": row.name,
        "ClassId": row.class.id,
        "ExpireTime": times::utc_or_never(row.expire_time),
    });
    (output, meta_data(row))
}

fn basic_info(row: &MediaRow, urls: &Urls) -> Value {
    let identity = &row.file.identity;
    // What was made of recordings otherwise than by time shifting was processed.
    let kind = match identity.source {
        RecordingSource::Made(MadeBy::EditMedia | MadeBy::SimpleHlsClip) => "VideoProcessing",
        _ => "Record",
    };
    let source = json!({
        "SourceType": kind,
        "SourceContext": identity.push_url,
        "LiveRecordInfo": {
            "Domain": identity.key.domain,
            "Path": identity.key.app,
            "StreamId": identity.key.stream,
            "RecordStartTime": times::utc(identity.start),
            "RecordEndTime": times::utc(row.file.end),
        },
    });
    json!({
        "Name": row.name,
        "Description": row.description,
        "CreateTime": times::utc(row.create_time),
        "UpdateTime": times::utc(row.update_time),
        "ExpireTime": times::utc_or_never(row.expire_time),
        "ClassId": row.class.id,
        "ClassName": row.class.name,
        "ClassPath": row.class.path,
        "CoverUrl": urls.cover,
        "Type": identity.format.name(),
        "MediaUrl": urls.media,
        "SourceInfo": source,
        "StorageRegion": STORAGE_REGION,
        "TagSet": row.tags,
        "Vid": identity.file_id.to_string(),
        "Category": row.category(),
        "Status": "Normal",
        "StorageClass": row.storage_class(),
        "StoragePath": format!("{}/{}", row.file.folder, row.file.entry),
    })
}

/// Bits per second of `bytes` in `duration_ms`; 0 if there is no duration.
fn bitrate(bytes: u64, duration_ms: u64) -> u64 {
    let bits = u128::from(bytes) * 8_000;
    bits.checked_div(u128::from(duration_ms)).map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX)).min(i64::MAX as u64)
}

/// Milliseconds as seconds.
pub fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// What `MetaData` and the original's entry in `TranscodeInfo` have in common.
struct Original {
    bitrate: u64,
    width: u32,
    height: u32,
    duration_s: f64,
    video: Vec<Value>,
    audio: Vec<Value>,
}

impl Original {
    fn of(summary: &MediaSummary) -> Self {
        let (mut video, mut audio) = (Vec::new(), Vec::new());
        for track in summary.video.iter().chain(&summary.further_video) {
            let frames_per_s = (u128::from(track.frames) * 1_000 + u128::from(track.duration_ms) / 2).checked_div(u128::from(track.duration_ms));
            video.push(json!({
                "Bitrate": bitrate(track.bytes, track.duration_ms),
                "Width": track.width,
                "Height": track.height,
                "Codec": track.codec,
                "Fps": frames_per_s.map_or(0, |fps| u64::try_from(fps).unwrap_or(0)),
                "CodecTag": if track.codec == "h264" { "avc1" } else { "" },
            }));
        }
        for track in summary.audio.iter().chain(&summary.further_audio) {
            audio.push(json!({
                "Bitrate": bitrate(track.bytes, track.duration_ms),
                "SamplingRate": track.sample_rate_hz,
                "Codec": track.codec,
            }));
        }
        let media_bytes = summary.tracks().map(|(_, track)| track.bytes).sum();
        Self {
            bitrate: bitrate(media_bytes, summary.duration_ms),
            width: summary.video.as_ref().map_or(0, |track| track.width),
            height: summary.video.as_ref().map_or(0, |track| track.height),
            duration_s: seconds(summary.duration_ms),
            video,
            audio,
        }
    }
}

fn meta_data(row: &MediaRow) -> Value {
    meta_data_of(row.file.size_bytes, row.file.identity.format, &row.file.summary)
}

/// `MediaMetaData` of anything that holds media.
pub fn meta_data_of(size_bytes: u64, format: Format, summary: &MediaSummary) -> Value {
    let original = Original::of(summary);
    json!({
        "Size": size_bytes,
        "Container": format.name(),
        "Bitrate": original.bitrate,
        "Width": original.width,
        "Height": original.height,
        "Duration": original.duration_s,
        "Rotate": 0,
        "VideoStreamSet": original.video,
        "AudioStreamSet": original.audio,
        "VideoDuration": summary.video.as_ref().map_or(0.0, |track| seconds(track.duration_ms)),
        "AudioDuration": summary.audio.as_ref().map_or(0.0, |track| seconds(track.duration_ms)),
        "Md5": "",
    })
}

fn key_frame_desc_info(row: &MediaRow) -> Value {
    let descs = row.extras.key_frame_descs.iter().map(|desc| json!({ "TimeOffset": desc.time_offset_s, "Content": desc.content }));
    json!({ "KeyFrameDescSet": descs.collect::<Vec<_>>() })
}

fn transcode_info(row: &MediaRow, urls: &Urls) -> Value {
    let file_id = row.file.identity.file_id;
    let made = row.extras.results.renditions.iter().map(|set| results::rendition(set, file_id, &urls.folder));
    let original = (!row.extras.original_deleted).then(|| original_rendition(row, urls));
    json!({ "TranscodeSet": original.into_iter().chain(made).collect::<Vec<_>>() })
}

fn original_rendition(row: &MediaRow, urls: &Urls) -> Value {
    let original = Original::of(&row.file.summary);
    json!({
        "Url": urls.media,
        "Definition": 0,
        "Bitrate": original.bitrate,
        "Width": original.width,
        "Height": original.height,
        "Size": row.file.size_bytes,
        "Duration": original.duration_s,
        "Md5": "",
        "Container": row.file.identity.format.name(),
        "VideoStreamSet": original.video,
        "AudioStreamSet": original.audio,
        "DigitalWatermarkType": "",
        "CopyRightWatermarkText": "",
        "BlindWatermarkDefinition": 0,
        "FileId": row.file.identity.file_id.to_string(),
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    use crate::domain::{EndReason, FinishedFile, RecordingIdentity};
    use crate::units::{FileId, Format, PublicationId, StreamKey, WallTime};

    pub fn row(format: Format, with_video: bool) -> MediaRow {
        let file_id = FileId::parse("387702290000000001").unwrap();
        let identity = RecordingIdentity {
            publication: PublicationId(7),
            push_url: "rtmp://push.example.com/live/camera-1?user=x".to_owned(),
            stream_param: "user=x".to_owned(),
            ..RecordingIdentity::example(file_id, format, StreamKey::new("push.example.com", "live", "camera-1"))
        };
        let mut file = FinishedFile {
            receipt: crate::domain::Receipt::default(),
            identity,
            end: WallTime::from_unix_seconds(1_767_254_410),
            reason: EndReason::PublicationEnded,
            folder: "media/2026-01-01/387702290000000001".to_owned(),
            entry: format!("camera-1.{}", format.extension()),
            size_bytes: 5_000_000,
            summary: Default::default(),
        };
        file.summary.duration_ms = 10_010;
        if with_video {
            let video = file.summary.video.insert(Default::default());
            (video.codec, video.frames, video.bytes, video.duration_ms) = ("h264".to_owned(), 300, 4_504_500, 10_010);
            (video.width, video.height, video.key_frames) = (1920, 1080, 5);
        }
        let audio = file.summary.audio.insert(Default::default());
        (audio.codec, audio.frames, audio.bytes, audio.duration_ms) = ("aac".to_owned(), 469, 160_160, 10_010);
        (audio.sample_rate_hz, audio.channels) = (48_000, 2);
        MediaRow {
            file,
            name: "camera-1_2026 新".to_owned(),
            description: String::new(),
            create_time: WallTime::from_unix_seconds(1_767_254_411),
            update_time: WallTime::from_unix_seconds(1_767_254_411),
            expire_time: None,
            sub_app_id: 0,
            class: Default::default(),
            tags: Vec::new(),
            extras: Default::default(),
        }
    }

    #[test]
    fn golden_media_info() {
        let info = media_info(
            &row(Format::Mp4, true),
            &["basicInfo".to_owned(), "METADATA".to_owned(), "nope".to_owned()],
            "http://127.0.0.1:8080",
            1_300_000_001,
        );
        let expected = r#"{"BasicInfo":{"Category":"Video","ClassId":0,"ClassName":"Other","ClassPath":"Other","CoverUrl":"","CreateTime":"2026-01-01T08:00:11Z","Description":"","ExpireTime":"9999-12-31T23:59:59Z","MediaUrl":"http://127.0.0.1:8080/vod/1300000001/387702290000000001/camera-1_2026%20%E6%96%B0.mp4","Name":"camera-1_2026 新","SourceInfo":{"LiveRecordInfo":{"Domain":"push.example.com","Path":"live","RecordEndTime":"2026-01-01T08:00:10Z","RecordStartTime":"2026-01-01T08:00:00Z","StreamId":"camera-1"},"SourceContext":"rtmp://push.example.com/live/camera-1?user=x","SourceType":"Record"},"Status":"Normal","StorageClass":"STANDARD","StoragePath":"media/2026-01-01/387702290000000001/camera-1.mp4","StorageRegion":"local","TagSet":[],"Type":"mp4","UpdateTime":"2026-01-01T08:00:11Z","Vid":"387702290000000001"},"FileId":"387702290000000001","MetaData":{"AudioDuration":10.01,"AudioStreamSet":[{"Bitrate":128000,"Codec":"aac","SamplingRate":48000}],"Bitrate":3728000,"Container":"mp4","Duration":10.01,"Height":1080,"Md5":"","Rotate":0,"Size":5000000,"VideoDuration":10.01,"VideoStreamSet":[{"Bitrate":3600000,"Codec":"h264","CodecTag":"avc1","Fps":30,"Height":1080,"Width":1920}],"Width":1920}}"#;
        assert_eq!(info.to_string(), expected);
    }

    #[test]
    fn all_parts_and_odd_files() {
        let base = "https://media.example.com/x";
        let all = media_info(&row(Format::Hls, false), &[], base, 1);
        let names: Vec<&str> = all.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "AdaptiveDynamicStreamingInfo",
            "AnimatedGraphicsInfo",
            "BasicInfo",
            "FileId",
            "ImageSpriteInfo",
            "KeyFrameDescInfo",
            "MetaData",
            "SampleSnapshotInfo",
            "SnapshotByTimeOffsetInfo",
            "TranscodeInfo",
        ];
        assert_eq!(names, expected);
        assert_eq!(all["BasicInfo"]["Category"], "Audio");
        assert_eq!(all["BasicInfo"]["MediaUrl"], "https://media.example.com/x/vod/1/387702290000000001/camera-1_2026%20%E6%96%B0.m3u8");
        assert_eq!(all["MetaData"]["VideoStreamSet"], json!([]));
        assert_eq!(all["MetaData"]["VideoDuration"].to_string(), "0.0");
        assert_eq!(all["TranscodeInfo"]["TranscodeSet"][0]["Definition"], 0);
        assert_eq!(all["TranscodeInfo"]["TranscodeSet"][0]["Container"], "hls");
        let mut odd = row(Format::Flv, true);
        odd.file.summary = Default::default();
        odd.file.identity.storage_mode = "cold".to_owned();
        odd.expire_time = Some(WallTime::from_unix_seconds(1_767_254_400));
        odd.name = "../a?b#c%".to_owned();
        let info = media_info(&odd, &[], "", 1);
        assert_eq!((&info["MetaData"]["Bitrate"], &info["BasicInfo"]["StorageClass"]), (&json!(0), &json!("STANDARD_IA")));
        assert_eq!(info["BasicInfo"]["ExpireTime"], "2026-01-01T08:00:00Z");
        assert_eq!(info["BasicInfo"]["MediaUrl"], "/vod/1/387702290000000001/..%2Fa%3Fb%23c%25.flv");
    }
}
