//! FLV (Adobe Flash Video File Format 10.1, annex E; Enhanced RTMP for four-letter codecs).

use super::Report;
use super::report::TrackReport;
use crate::container::window::Window;
use crate::container::{ReadAt, ScanError, TrackSummary};
use crate::limits::SEQUENCE_HEADER_BYTES_MAX;
use crate::media::flv_tag::{AudioUnit, VideoUnit, described_audio, described_video, parse_audio, parse_video};
use crate::media::{Payload, timeline::Timeline};

const TAG_HEADER_BYTES: usize = 11;

#[derive(Default)]
struct Track {
    summary: TrackSummary,
    timeline: Timeline,
    times: Option<(i64, i64)>,
    last_delta_ms: i64,
    backwards: u64,
    configured: bool,
}

impl Track {
    fn frame(&mut self, timestamp: u32, bytes: u64, key: bool) {
        let dts_ms = self.timeline.unwrap_ms(timestamp);
        self.summary.frames += 1;
        self.summary.bytes += bytes;
        self.summary.key_frames += u64::from(key);
        if let Some((_, last)) = self.times {
            self.last_delta_ms = dts_ms.saturating_sub(last);
            self.backwards += u64::from(dts_ms < last);
        }
        self.times = Some((self.times.map_or(dts_ms, |(first, _)| first), dts_ms));
    }

    fn finish(mut self, kind: &'static str, report: &mut Report) {
        let Some((first, last)) = self.times else { return };
        self.summary.duration_ms = last.saturating_sub(first).saturating_add(self.last_delta_ms).max(0) as u64;
        if self.backwards > 0 {
            report.fault(format!("the {kind} timestamps go back {} times", self.backwards));
        }
        if !self.configured && matches!(self.summary.codec.as_str(), "h264" | "hevc" | "vvc" | "av1" | "aac" | "opus" | "flac") {
            report.fault(format!("the {kind} has no sequence header, so nobody can decode it"));
        }
        report.tracks.push(TrackReport { kind, summary: self.summary });
    }
}

pub fn explain<R: ReadAt + ?Sized>(window: &mut Window<'_, R>) -> Result<Report, ScanError> {
    let mut report = Report::new("FLV");
    let header = window.array::<9>(0)?.unwrap_or_default();
    let mut at = u64::from(u32::from_be_bytes([header[5], header[6], header[7], header[8]])) + 4;
    if header[3] != 1 || at != 13 {
        report.fault("the file header is not that of version 1");
        at = at.max(13);
    }
    let end = window.file_len();
    let (mut video, mut audio) = (Track::default(), Track::default());
    let mut scripts = 0_u64;
    let mut metadata = false;
    while at < end {
        let Some([kind, s2, s1, s0, t2, t1, t0, extended, ..]) = window.array::<TAG_HEADER_BYTES>(at)? else {
            report.fault(format!("the last tag is cut: {} bytes are there", end - at));
            break;
        };
        let body_bytes = u32::from_be_bytes([0, s2, s1, s0]);
        let tag_end = at + TAG_HEADER_BYTES as u64 + u64::from(body_bytes);
        if !matches!(kind & 0x1F, 8 | 9 | 18) {
            let what = if window.zeros_behind(at)? { "zeros, room that was never written" } else { "no tag" };
            report.fault(format!("the {} bytes from byte {at} on are {what}", end - at));
            break;
        }
        if tag_end > end {
            report.fault(format!("the last tag is cut: {} of {} bytes are there", end - at, tag_end - at));
            break;
        }
        match window.array::<4>(tag_end)?.map(u32::from_be_bytes) {
            Some(size) if size == TAG_HEADER_BYTES as u32 + body_bytes => {}
            Some(size) => report.fault(format!("the tag at byte {at} says {body_bytes} bytes, the field behind it {size}")),
            None => report.fault("the field behind the last tag is cut"),
        }
        let timestamp = u32::from_be_bytes([extended, t2, t1, t0]);
        let body_at = at + TAG_HEADER_BYTES as u64;
        let body = window.at(body_at, (body_bytes as usize).min(SEQUENCE_HEADER_BYTES_MAX))?;
        match kind & 0x1F {
            9 => take_video(&mut video, body, timestamp, body_bytes),
            8 => take_audio(&mut audio, body, timestamp, body_bytes),
            _ => {
                scripts += 1;
                metadata |= body.starts_with(b"\x02\x00\x0aonMetaData");
            }
        }
        at = tag_end + 4;
    }
    if !metadata {
        report.note("There is no onMetaData: players learn neither duration nor key frames.");
    } else if scripts > 1 {
        report.note(format!("{scripts} data tags."));
    }
    video.finish("video", &mut report);
    audio.finish("audio", &mut report);
    if report.tracks.is_empty() {
        report.fault("there is no frame in it");
    }
    Ok(report)
}

fn take_video(track: &mut Track, body: &[u8], timestamp: u32, body_bytes: u32) {
    let Some(&first) = body.first() else { return };
    let summary = &mut track.summary;
    if first & 0x80 == 0 {
        summary.codec = match first & 0x0F {
            2 => "h263",
            4 | 5 => "vp6",
            7 => "h264",
            12 => "hevc",
            _ => "",
        }
        .to_owned();
    }
    match parse_video(Payload::contiguous(body)) {
        Ok(VideoUnit::Config(config)) => {
            track.configured = true;
            summary.codec = config.codec.name().to_owned();
            (summary.width, summary.height) = (config.width, config.height);
        }
        Ok(VideoUnit::Frame(codec, part)) => {
            summary.codec = codec.name().to_owned();
            if let Some(config) = described_video(codec, &part.media, None).filter(|_| part.key) {
                track.configured = true;
                (summary.width, summary.height) = (config.width, config.height);
            }
            track.frame(timestamp, u64::from(body_bytes).saturating_sub(part.tag_header.as_slice().len() as u64), part.key);
        }
        Ok(VideoUnit::Unsupported { .. }) if first & 0x80 == 0 => track.frame(timestamp, u64::from(body_bytes) - 1, first >> 4 == 1),
        _ => {}
    }
}

fn take_audio(track: &mut Track, body: &[u8], timestamp: u32, body_bytes: u32) {
    let Some(&first) = body.first() else { return };
    let summary = &mut track.summary;
    if first >> 4 != 9 {
        summary.codec = match first >> 4 {
            2 | 14 => "mp3",
            7 => "g711a",
            8 => "g711u",
            10 => "aac",
            11 => "speex",
            _ => "",
        }
        .to_owned();
    }
    match parse_audio(Payload::contiguous(body)) {
        Ok(AudioUnit::Config(config)) => {
            track.configured = true;
            summary.codec = config.codec.name().to_owned();
            (summary.sample_rate_hz, summary.channels) = (config.sample_rate_hz, config.channels);
        }
        Ok(AudioUnit::Frame(codec, part)) => {
            summary.codec = codec.name().to_owned();
            if let Some(config) = described_audio(codec, &part.media).filter(|_| summary.sample_rate_hz == 0) {
                track.configured = true;
                (summary.sample_rate_hz, summary.channels) = (config.sample_rate_hz, config.channels);
            }
            track.frame(timestamp, u64::from(body_bytes).saturating_sub(part.tag_header.as_slice().len() as u64), false);
        }
        Ok(AudioUnit::Unsupported { .. }) if first >> 4 != 9 => track.frame(timestamp, u64::from(body_bytes) - 1, false),
        _ => {}
    }
}
