//! What callbacks say: their bodies, without the signature.

use serde_json::{Map, Value, json};

use crate::catalog::{Callback, MediaRow};
use crate::domain::callback::{EVENT_RECORD, EVENT_RECORD_EXCEPTION, callback_of};
use crate::domain::event::{ExceptionLevel, PushAbnormal, RecordException};
use crate::domain::{LiveEvent, LiveEventKind, RecordingSource};
use crate::units::{Format, WallTime};

/// `interface` and `timeout` of event 321, as the vendor sends them.
const PUSH_INTERFACE: &str = "general_callback";
const PUSH_TIMEOUT_MS: u64 = 5_000;
/// `type` of a warning that is ours alone: a file lies elsewhere than its template says, or is not processed as it says.
const MISPLACED: i32 = -100;

/// Writes bodies.
pub struct Bodies {
    pub app_id: u64,
    /// Our address, for `node`.
    pub node: String,
    /// Where a file is.
    pub video_url: Box<dyn Fn(&MediaRow) -> String + Send + Sync>,
}

impl Bodies {
    pub fn write(&self, callback: &Callback<'_>) -> String {
        let fields = match callback {
            Callback::Live(event) => self.live(event),
            Callback::Recorded(row) => self.recorded(row),
            Callback::Misplaced { file, time, why } => {
                let list = json!([{ "type": MISPLACED, "occurs": 1, "desc": why }]);
                self.exception(&file.key.stream, &file.session.to_string(), file.format, ExceptionLevel::Warning, list, *time)
            }
        };
        fields.to_string()
    }

    /// event_type 100.
    fn recorded(&self, row: &MediaRow) -> Value {
        let file = &row.file;
        let identity = &file.identity;
        let is_task = matches!(identity.source, RecordingSource::Task(_));
        let file_id = identity.file_id.to_string();
        let mut ext = Map::new();
        if let Some(video) = &file.summary.video {
            ext.insert("video_codec".to_owned(), video.codec.clone().into());
            ext.insert("resolution".to_owned(), format!("{}x{}", video.width, video.height).into());
        } else if let Some(audio) = &file.summary.audio {
            ext.insert("audio_codec".to_owned(), audio.codec.clone().into());
        }
        json!({
            "event_type": EVENT_RECORD,
            "appid": self.app_id,
            "app": identity.key.domain,
            "appname": identity.key.app,
            "stream_id": identity.key.stream,
            "channel_id": identity.key.stream,
            "file_id": file_id,
            "record_file_id": file_id,
            "file_format": identity.format.name(),
            "task_id": task_id(&identity.source),
            "start_time": identity.start.unix_seconds(),
            "start_time_usec": identity.start.micros_of_second(),
            "end_time": file.end.unix_seconds(),
            "end_time_usec": file.end.micros_of_second(),
            "duration": (file.summary.duration_ms + 500) / 1_000,
            "file_size": file.size_bytes,
            "stream_param": if is_task { "" } else { &identity.stream_param },
            "video_url": (self.video_url)(row),
            "media_start_time": identity.media_start_ms,
            "record_bps": 0,
            "callback_ext": Value::Object(ext).to_string(),
        })
    }

    fn live(&self, event: &LiveEvent) -> Value {
        match &event.kind {
            LiveEventKind::PublishBegan => self.publication(event, 0, "ok", 0, 0),
            LiveEventKind::PublishEnded { code, message, push_ms, width, height } => {
                let mut fields = self.publication(event, *code, message, *width, *height);
                fields["push_duration"] = push_ms.to_string().into();
                fields
            }
            LiveEventKind::RecordState { session, source, format, state } => {
                let publisher = &event.publisher;
                let detail = json!({
                    "file_format": format_number(*format),
                    "record_bps": 0,
                    "start_model": if matches!(source, RecordingSource::Rule(_)) { 1 } else { 5 },
                    "record_content": 1,
                    "source_type": 1,
                    "codec_temp_id": 0,
                });
                json!({
                    "event_type": type_of(event),
                    "appid": self.app_id,
                    "domain": publisher.key.domain,
                    "appname": publisher.key.app,
                    "stream_id": publisher.key.stream,
                    "event_time": event.time.unix_seconds(),
                    // Grows with time, and is another one for every state of every recording.
                    "seq": format!("{}{:02}{}{}", event.time.unix_micros(), session.0 % 100, format_number(*format), *state as u8),
                    "session_id": session.to_string(),
                    "task_id": task_id(source),
                    "record_event": state.name(),
                    "record_detail": detail.to_string(),
                })
            }
            LiveEventKind::RecordException { session, format, level, exceptions } => {
                let list = exceptions.iter().map(exception_info).collect();
                self.exception(&event.publisher.key.stream, &session.to_string(), *format, *level, list, event.time)
            }
            LiveEventKind::PushAbnormal { abnormal } => {
                let publisher = &event.publisher;
                json!({
                    "event_type": type_of(event),
                    "appid": self.app_id,
                    "domain": publisher.key.domain,
                    "path": publisher.key.app,
                    "stream_id": publisher.key.stream,
                    "stream_param": publisher.stream_param,
                    "sequence": publisher.publication.to_string(),
                    "data_time": event.time.unix_millis(),
                    "report_interval": crate::domain::event::ABNORMAL_PERIOD_MS,
                    "interface": PUSH_INTERFACE,
                    "timeout": PUSH_TIMEOUT_MS,
                    "abnormal_event": abnormal.iter().map(abnormal_info).collect::<Vec<_>>(),
                })
            }
            // Nobody is told: `callback_of` names no address for it.
            LiveEventKind::PublishRefused { .. } => json!({ "event_type": Value::Null }),
        }
    }

    /// event_type 1 and 0.
    fn publication(&self, event: &LiveEvent, code: u32, message: &str, width: u32, height: u32) -> Value {
        let publisher = &event.publisher;
        json!({
            "event_type": type_of(event),
            "appid": self.app_id,
            "app": publisher.key.domain,
            "appname": publisher.key.app,
            "stream_id": publisher.key.stream,
            "channel_id": publisher.key.stream,
            "event_time": event.time.unix_seconds(),
            "sequence": publisher.publication.to_string(),
            "node": self.node,
            "user_ip": publisher.client_ip,
            "stream_param": publisher.stream_param,
            "errcode": code,
            "errmsg": message,
            "set_id": 1,
            "width": width,
            "height": height,
        })
    }

    /// event_type 341.
    fn exception(&self, stream: &str, session: &str, format: Format, level: ExceptionLevel, list: Value, time: WallTime) -> Value {
        json!({
            "event_type": EVENT_RECORD_EXCEPTION,
            "appid": self.app_id,
            "stream_id": stream,
            "session_id": session,
            "file_format": format_word(format),
            "timestamp": time.unix_seconds(),
            "exception_level": level.name(),
            "exception": list,
        })
    }
}

fn type_of(event: &LiveEvent) -> Option<u32> {
    callback_of(&event.kind).map(|(number, _)| number)
}

/// Only tasks of CreateRecordTask are named.
fn task_id(source: &RecordingSource) -> &str {
    match source {
        RecordingSource::Task(id) => &id.0,
        RecordingSource::Rule(_) | RecordingSource::OlderTask(_) | RecordingSource::Made(_) | RecordingSource::Ring => "",
    }
}

/// `file_format` of event 332.
const fn format_number(format: Format) -> u32 {
    match format {
        Format::Flv => 1,
        Format::Hls => 2,
        Format::Mp4 => 3,
        Format::Aac => 4,
        Format::Mp3 => 5,
    }
}

/// `file_format` of event 341.
const fn format_word(format: Format) -> &'static str {
    match format {
        Format::Flv => "FLV",
        Format::Hls => "TS",
        Format::Mp4 => "MP4",
        Format::Aac => "AAC",
        Format::Mp3 => "MP3",
    }
}

fn exception_info(exception: &RecordException) -> Value {
    json!({ "type": exception.kind.code(), "occurs": exception.occurs, "desc": exception.description })
}

fn abnormal_info(abnormal: &PushAbnormal) -> Value {
    let detail = abnormal.details.iter().map(|detail| json!({ "desc": detail.description, "occur_time": detail.time.unix_millis() }));
    let (chinese, english) = abnormal.kind.words();
    json!({
        "type": abnormal.kind as u32,
        "count": abnormal.count,
        "detail": detail.collect::<Vec<_>>(),
        "type_desc_cn": chinese,
        "type_desc_en": english,
    })
}
