//! What a finished output holds, as ffprobe tells it.

use serde::Deserialize;

/// An output file.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Probed {
    pub duration_ms: u64,
    pub video: Option<ProbedVideo>,
    pub audio: Option<ProbedAudio>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct ProbedVideo {
    pub codec: String,
    pub tag: String,
    /// For CODECS of a playlist (RFC 6381).
    pub codec_string: String,
    pub width: u64,
    pub height: u64,
    pub fps: f64,
    /// Bits a second; 0: not known.
    pub bitrate: u64,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct ProbedAudio {
    pub codec: String,
    pub codec_string: String,
    pub sample_rate_hz: u64,
    pub channels: u64,
    pub bitrate: u64,
}

/// The arguments that make ffprobe say it.
pub fn arguments(name: &str) -> Vec<String> {
    let words = ["-v", "error", "-protocol_whitelist", "file,crypto,data", "-show_entries"];
    let streams = "stream=codec_type,codec_name,codec_tag_string,profile,level,width,height,avg_frame_rate,bit_rate,sample_rate,channels,duration";
    let entries = format!("{streams}:format=duration");
    words.iter().map(|word| (*word).to_owned()).chain([entries, "-of".to_owned(), "json".to_owned(), format!("file:{name}")]).collect()
}

#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Deserialize, Default)]
struct Format {
    duration: Option<String>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Stream {
    codec_type: String,
    codec_name: String,
    codec_tag_string: String,
    profile: Option<String>,
    level: Option<i64>,
    width: u64,
    height: u64,
    avg_frame_rate: String,
    bit_rate: Option<String>,
    sample_rate: Option<String>,
    channels: u64,
    duration: Option<String>,
}

fn milliseconds(text: &Option<String>) -> u64 {
    text.as_deref().and_then(|text| text.parse::<f64>().ok()).filter(|seconds| *seconds > 0.0).map_or(0, |seconds| (seconds * 1_000.0).round() as u64)
}

fn number(text: &Option<String>) -> u64 {
    text.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Reads ffprobe's JSON.
///
/// # Errors
/// A sentence: it is none, or it names no stream.
pub fn read(json: &str) -> Result<Probed, String> {
    let output: Output = serde_json::from_str(json).map_err(|error| format!("ffprobe's answer cannot be read: {error}"))?;
    let mut probed = Probed { duration_ms: milliseconds(&output.format.duration), ..Probed::default() };
    for stream in output.streams {
        probed.duration_ms = probed.duration_ms.max(if output.format.duration.is_none() { milliseconds(&stream.duration) } else { 0 });
        match stream.codec_type.as_str() {
            "video" if probed.video.is_none() => {
                let fps = stream.avg_frame_rate.split_once('/').and_then(|(above, below)| {
                    let (above, below) = (above.parse::<f64>().ok()?, below.parse::<f64>().ok()?);
                    (below > 0.0).then_some(above / below)
                });
                probed.video = Some(ProbedVideo {
                    codec_string: video_codec_string(&stream),
                    tag: stream.codec_tag_string,
                    codec: stream.codec_name,
                    width: stream.width,
                    height: stream.height,
                    fps: fps.unwrap_or(0.0),
                    bitrate: number(&stream.bit_rate),
                });
            }
            "audio" if probed.audio.is_none() => {
                probed.audio = Some(ProbedAudio {
                    codec_string: audio_codec_string(&stream),
                    codec: stream.codec_name,
                    sample_rate_hz: number(&stream.sample_rate),
                    channels: stream.channels,
                    bitrate: number(&stream.bit_rate),
                });
            }
            _ => {}
        }
    }
    if probed.video.is_none() && probed.audio.is_none() { Err("the output holds neither video nor sound".to_owned()) } else { Ok(probed) }
}

/// The constraint flags are those that x264 and x265 set for these profiles.
fn video_codec_string(stream: &Stream) -> String {
    let level = stream.level.unwrap_or(0).clamp(0, 255);
    match (stream.codec_name.as_str(), stream.profile.as_deref().unwrap_or_default()) {
        ("h264", "Constrained Baseline") => format!("avc1.42c0{level:02x}"),
        ("h264", "Baseline") => format!("avc1.4200{level:02x}"),
        ("h264", "Main") => format!("avc1.4d40{level:02x}"),
        ("h264", "High 10") => format!("avc1.6e00{level:02x}"),
        ("h264", _) => format!("avc1.6400{level:02x}"),
        ("hevc", _) => format!("hvc1.1.6.L{level}.90"),
        (other, _) => other.to_owned(),
    }
}

fn audio_codec_string(stream: &Stream) -> String {
    match (stream.codec_name.as_str(), stream.profile.as_deref().unwrap_or_default()) {
        ("aac", "HE-AAC") => "mp4a.40.5".to_owned(),
        ("aac", "HE-AACv2") => "mp4a.40.29".to_owned(),
        ("aac", _) => "mp4a.40.2".to_owned(),
        ("mp3", _) => "mp4a.40.34".to_owned(),
        ("ac3", _) => "ac-3".to_owned(),
        (other, _) => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ffprobe_says() {
        let json = r#"{"programs": [], "streams": [
            {"codec_name": "h264", "profile": "High", "codec_type": "video", "codec_tag_string": "avc1", "width": 640, "height": 360, "level": 30,
             "avg_frame_rate": "30000/1001", "duration": "13.9", "bit_rate": "500000"},
            {"codec_name": "aac", "profile": "LC", "codec_type": "audio", "codec_tag_string": "mp4a", "sample_rate": "44100", "channels": 2, "avg_frame_rate": "0/0"}],
            "format": {"duration": "14.021000"}}"#;
        let probed = read(json).unwrap();
        let video = probed.video.unwrap();
        assert_eq!((probed.duration_ms, video.codec_string.as_str(), video.width, video.bitrate), (14_021, "avc1.64001e", 640, 500_000));
        assert!((video.fps - 29.97).abs() < 0.01);
        let audio = probed.audio.unwrap();
        assert_eq!((audio.codec_string.as_str(), audio.sample_rate_hz, audio.bitrate), ("mp4a.40.2", 44_100, 0));
        assert!(read(r#"{"streams": [], "format": {}}"#).is_err() && read("").is_err());
    }
}
