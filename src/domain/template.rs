//! Record templates: which formats, how long a file.

use serde::{Deserialize, Serialize};

use super::sealing::HlsEncryption;
use crate::units::{Format, TemplateId};

/// `RecordParam` of the API for one format, effective values (defaults filled in).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FormatParam {
    pub enable: bool,
    /// Seconds per file. Stored for HLS, without effect there.
    pub record_interval_s: u64,
    /// Seconds a finished file is kept; 0 for ever.
    pub storage_time_s: u64,
    pub vod_sub_app_id: u64,
    /// Catalog name pattern; empty means the default pattern.
    pub vod_file_name: String,
    pub procedure: String,
    /// `normal` or `cold`.
    pub storage_mode: String,
    pub class_id: i64,
}

pub const RECORD_INTERVAL_S_DEFAULT: u64 = 1800;

impl Default for FormatParam {
    fn default() -> Self {
        Self {
            enable: false,
            record_interval_s: RECORD_INTERVAL_S_DEFAULT,
            storage_time_s: 0,
            vod_sub_app_id: 0,
            vod_file_name: String::new(),
            procedure: String::new(),
            storage_mode: "normal".to_owned(),
            class_id: 0,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordTemplate {
    pub id: TemplateId,
    pub name: String,
    pub description: String,
    pub flv: FormatParam,
    pub hls: FormatParam,
    pub mp4: FormatParam,
    pub aac: FormatParam,
    pub mp3: FormatParam,
    /// 0 live, 1 slow live: only a filter of the list.
    pub is_delay_live: i64,
    /// Seconds an HLS recording waits for the stream to come back; 0 to 1800.
    pub flow_continue_duration_s: u64,
    pub upload_in_recording: bool,
    pub remove_watermark: bool,
    /// The sound alone in every format. No template of the API says this; a task of the older calls does.
    #[serde(default)]
    pub audio_only: bool,
    /// Seconds of a stream that are kept for tasks that begin in the past; 0: none are.
    #[serde(default)]
    pub pre_record_s: u64,
    /// HLS recordings are encrypted as they are written; there are no others then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hls_encryption: Option<HlsEncryption>,
}

/// Files of the ring: a tenth of what is kept, so that not much more than that lies on the disk; seconds.
const RING_FILE_S_MIN: u64 = 10;
const RING_FILE_S_MAX: u64 = 60;

impl RecordTemplate {
    /// How the ring of a stream with this template is recorded: as short HLS recordings that expire one after the other. `None`: nothing is kept.
    pub fn ring(&self) -> Option<Self> {
        let kept_s = self.pre_record_s;
        if kept_s == 0 {
            return None;
        }
        let home = if self.hls.enable { &self.hls } else { self.enabled().next().map_or(&self.hls, |(_, param)| param) };
        let hls = FormatParam {
            enable: true,
            record_interval_s: (kept_s / 10).clamp(RING_FILE_S_MIN, RING_FILE_S_MAX),
            storage_time_s: kept_s,
            vod_sub_app_id: home.vod_sub_app_id,
            ..FormatParam::default()
        };
        Some(Self { hls, audio_only: self.audio_only, ..Self::empty(self.id, &self.name) })
    }

    /// A template with every format off.
    pub fn empty(id: TemplateId, name: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            description: String::new(),
            flv: FormatParam::default(),
            hls: FormatParam::default(),
            mp4: FormatParam::default(),
            aac: FormatParam::default(),
            mp3: FormatParam::default(),
            is_delay_live: 0,
            flow_continue_duration_s: 0,
            upload_in_recording: false,
            remove_watermark: false,
            audio_only: false,
            pre_record_s: 0,
            hls_encryption: None,
        }
    }

    pub fn param(&self, format: Format) -> &FormatParam {
        match format {
            Format::Flv => &self.flv,
            Format::Hls => &self.hls,
            Format::Mp4 => &self.mp4,
            Format::Aac => &self.aac,
            Format::Mp3 => &self.mp3,
        }
    }

    pub fn param_mut(&mut self, format: Format) -> &mut FormatParam {
        match format {
            Format::Flv => &mut self.flv,
            Format::Hls => &mut self.hls,
            Format::Mp4 => &mut self.mp4,
            Format::Aac => &mut self.aac,
            Format::Mp3 => &mut self.mp3,
        }
    }

    pub fn enabled(&self) -> impl Iterator<Item = (Format, &FormatParam)> {
        Format::ALL.into_iter().map(|format| (format, self.param(format))).filter(|(_, param)| param.enable)
    }
}
