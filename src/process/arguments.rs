//! The arguments of the encoder, from definitions: pure, no shell, no text of a user's in them but numbers and words that were checked.
//!
//! The encoder runs in a folder of its own and writes there under the names that the results have in the end.

use crate::domain::definition::{
    AdaptiveDefinition, AnimatedGraphicsDefinition, AudioTemplate, ImageSpriteDefinition, Picture, TranscodeDefinition, VideoTemplate,
};

use crate::domain::join::JoinOrder;

use super::geometry::{Wanted, fit};

/// What a job reads.
#[derive(Clone, PartialEq, Debug)]
pub struct Source {
    /// Absolute.
    pub path: String,
    pub duration_ms: u64,
    pub video: Option<SourceVideo>,
    pub audio: Option<SourceAudio>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct SourceVideo {
    pub width: u64,
    pub height: u64,
    /// Frames a second; 0: not known.
    pub fps: f64,
    /// kbit/s; 0: not known.
    pub bitrate: u64,
    pub duration_ms: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct SourceAudio {
    /// kbit/s; 0: not known.
    pub bitrate: u64,
}

/// How the encoder is run, from the settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoder {
    /// Of x264 and x265.
    pub preset: String,
}

/// Begin and length of a part, milliseconds. `None`: to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Part {
    pub start_ms: u64,
    pub length_ms: Option<u64>,
}

/// Seconds between key frames where a template does not say: what players like to seek by.
const GOP_S: f64 = 5.0;
/// Seconds of an HLS segment where a template does not say.
const SEGMENT_S: u64 = 6;
/// Of sound whose bitrate neither template nor source tells, kbit/s.
const AUDIO_KBPS: u64 = 128;
/// Quality of a video without a bitrate (constant rate factor).
const CRF: &str = "23";

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

/// A growing list of arguments.
struct Arguments(Vec<String>);

impl Arguments {
    fn add(&mut self, words: &[&str]) -> &mut Self {
        self.0.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Begins with what every run has, up to the input.
    fn reading(source: &Source, part: Part) -> Self {
        let mut all = Self(Vec::new());
        all.add(&["-hide_banner", "-nostdin", "-loglevel", "error", "-nostats", "-progress", "pipe:1", "-y"]);
        if part.start_ms > 0 {
            all.add(&["-ss", &seconds(part.start_ms)]);
        }
        // A playlist may name files beside it, and nothing else.
        all.add(&["-protocol_whitelist", "file,crypto,data", "-i", &format!("file:{}", source.path)]);
        if let Some(length) = part.length_ms {
            all.add(&["-t", &seconds(length)]);
        }
        all.add(&["-map_metadata", "-1", "-map_chapters", "-1", "-sn", "-dn"]);
        all
    }

    fn video(&mut self, template: &VideoTemplate, source: &SourceVideo, encoder: &Encoder, segment_s: Option<u64>, is_mp4: bool) {
        let is_hevc = template.codec == "libx265";
        self.add(&["-c:v", if is_hevc { "libx265" } else { "libx264" }, "-preset", &encoder.preset, "-pix_fmt", "yuv420p"]);
        if is_hevc {
            self.add(&["-x265-params", "log-level=error:scenecut=0"]);
        }
        let rate = if template.bitrate == 0 { source.bitrate } else { template.bitrate };
        if template.vcrf > 0 || rate == 0 {
            let quality = template.vcrf.to_string();
            self.add(&["-crf", if template.vcrf > 0 { &quality } else { CRF }]);
        } else {
            let most = if template.mode == "CBR" { rate } else { rate + rate / 2 };
            self.add(&["-b:v", &format!("{rate}k"), "-maxrate", &format!("{most}k"), "-bufsize", &format!("{}k", most * 2)]);
        }
        let fps = if template.fps > 0 { template.fps as f64 } else { source.fps };
        let known_fps = if fps > 0.0 { fps } else { 30.0 };
        match (segment_s, template.gop) {
            (Some(segment_s), _) => {
                // Segments begin with key frames at the same times in all renditions, whatever the pictures show.
                self.add(&["-force_key_frames", &format!("expr:gte(t,n_forced*{segment_s})"), "-sc_threshold", "0"]);
                self.add(&["-g", &((known_fps * segment_s as f64).ceil() as u64 + 1).to_string()]);
            }
            (None, 0) => {
                self.add(&["-g", &((known_fps * GOP_S).ceil() as u64).to_string()]);
            }
            (None, gop) => {
                let frames = if template.gop_unit == "second" { (known_fps * gop as f64).ceil() as u64 } else { gop };
                self.add(&["-g", &frames.to_string()]);
            }
        }
        if template.bframes >= 0 {
            self.add(&["-bf", &template.bframes.to_string()]);
        }
        if matches!(template.video_profile.as_str(), "baseline" | "main" | "high") && !is_hevc {
            self.add(&["-profile:v", &template.video_profile]);
        }
        if is_hevc && is_mp4 {
            self.add(&["-tag:v", if template.codec_tag == "hev1" { "hev1" } else { "hvc1" }]);
        }
    }

    fn audio(&mut self, template: &AudioTemplate, source: &SourceAudio, container: &str) {
        let codec = match (container, template.codec.as_str()) {
            ("wav", _) => "pcm_s16le",
            (_, "libmp3lame") => "libmp3lame",
            (_, "ac3") => "ac3",
            (_, "flac") => "flac",
            // The vendor names an encoder that free builds do not have.
            _ => "aac",
        };
        self.add(&["-c:a", codec]);
        if !matches!(codec, "pcm_s16le" | "flac") {
            let wanted = if template.bitrate > 0 { template.bitrate } else { source.bitrate };
            let rate = if wanted == 0 { AUDIO_KBPS } else { wanted.clamp(26, 320) };
            self.add(&["-b:a", &format!("{rate}k")]);
        }
        self.add(&["-ar", &template.sample_rate.to_string(), "-ac", &template.audio_channel.to_string()]);
    }

    /// An HLS output: a playlist and one file, or one file for each segment.
    fn hls(&mut self, output: &HlsOutput<'_>) {
        let segment_s = output.segment_s.to_string();
        self.add(&["-f", "hls", "-hls_time", &segment_s, "-hls_playlist_type", "vod"]);
        self.add(&["-hls_segment_type", if output.fmp4 { "fmp4" } else { "mpegts" }]);
        let extension = if output.fmp4 { "m4s" } else { "ts" };
        if output.one_file {
            self.add(&["-hls_flags", "single_file", "-hls_segment_filename", &format!("{}.{extension}", output.stem)]);
        } else {
            self.add(&["-start_number", "0", "-hls_segment_filename", &format!("{}.%d.{extension}", output.stem)]);
            if output.fmp4 {
                self.add(&["-hls_fmp4_init_filename", &format!("{}.init.m4s", output.stem)]);
            }
        }
        self.add(&[output.playlist]);
    }
}

/// How far the encoder is by a line of its progress, of `duration_ms` in the end. `None`: the line says nothing of that.
pub fn percent(line: &str, duration_ms: u64) -> Option<u8> {
    let micros: u64 = line.strip_prefix("out_time_us=")?.parse().ok()?;
    let percent = (micros / 10).checked_div(duration_ms).unwrap_or(0);
    Some(u8::try_from(percent).unwrap_or(99).min(99))
}

struct HlsOutput<'a> {
    segment_s: u64,
    fmp4: bool,
    one_file: bool,
    /// Begin of the names of its files.
    stem: &'a str,
    playlist: &'a str,
}

/// Filters of a video, with its frame rate.
fn chain(template: &VideoTemplate, source: &SourceVideo, fps: Option<u64>, label: &str) -> String {
    let wanted =
        Wanted { width: template.width, height: template.height, resolution_adaptive: &template.resolution_adaptive, fill_type: &template.fill_type };
    let scale = fit(wanted, (source.width, source.height), label).filters;
    fps.map_or(scale.clone(), |fps| format!("fps={fps},{scale}"))
}

/// Why there is nothing to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NothingToMake {
    #[error("the file has no video")]
    NoVideo,
    #[error("the file has no sound")]
    NoAudio,
    #[error("the file has neither the video nor the sound that the definition keeps")]
    Nothing,
}

/// The arguments for a rendition. `entry` is the file's name, `stem` begins those of its segments.
pub fn transcode(
    source: &Source,
    definition: &TranscodeDefinition,
    part: Part,
    encoder: &Encoder,
    entry: &str,
    stem: &str,
) -> Result<Vec<String>, NothingToMake> {
    let video = source.video.as_ref().filter(|_| definition.has_video());
    let audio = source.audio.as_ref().filter(|_| definition.has_audio());
    match (video, audio) {
        (None, None) if !definition.has_video() => return Err(NothingToMake::NoAudio),
        (None, None) => return Err(NothingToMake::Nothing),
        _ => {}
    }
    let is_hls = definition.container == "hls";
    let template = &definition.video_template;
    let segment_s = if template.hls_time > 0 { template.hls_time.unsigned_abs() } else { SEGMENT_S };
    let mut all = Arguments::reading(source, part);
    if let Some(video) = video {
        all.add(&["-map", "0:v:0"]);
        if definition.remux {
            all.add(&["-c:v", "copy"]);
        } else {
            let filters = chain(template, video, Some(template.fps).filter(|fps| *fps > 0), "x");
            all.add(&["-filter:v", &filters]);
            let is_mp4 = definition.container == "mp4" || (is_hls && definition.segment_type == "fmp4");
            // Key frames where segments are to begin; a template that names its own distance keeps it.
            all.video(template, video, encoder, Some(segment_s).filter(|_| is_hls && template.gop == 0), is_mp4);
        }
    }
    if let Some(audio) = audio {
        all.add(&["-map", "0:a:0"]);
        if definition.remux {
            all.add(&["-c:a", "copy"]);
        } else {
            all.audio(&definition.audio_template, audio, &definition.container);
        }
    }
    match definition.container.as_str() {
        "hls" => all.hls(&HlsOutput { segment_s, fmp4: definition.segment_type == "fmp4", one_file: true, stem, playlist: entry }),
        container => {
            let options: &[&str] = match container {
                "mp4" => &["-movflags", "+faststart", "-f", "mp4"],
                "m4a" => &["-movflags", "+faststart", "-f", "ipod"],
                "flv" => &["-flvflags", "add_keyframe_index", "-f", "flv"],
                other => &["-f", other],
            };
            all.add(options).add(&[entry]);
        }
    }
    Ok(all.0)
}

/// One step of an adaptive stream as it is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// `None`: sound alone.
    pub video: Option<StepVideo>,
    /// With its own sound inside, or one of the groups beside; `None`: silent.
    pub audio: Option<StepAudio>,
    /// Name of its playlist.
    pub playlist: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepVideo {
    pub width: u64,
    pub height: u64,
    pub template: VideoTemplate,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StepAudio {
    /// In the same segments.
    Inside(AudioTemplate),
    /// In the group of this number.
    Group(usize),
}

/// What is made for an adaptive stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ladder {
    pub steps: Vec<Step>,
    /// Sound that is stored once for all steps: template and playlist.
    pub audio_groups: Vec<(AudioTemplate, String)>,
    pub fmp4: bool,
    pub encrypted: bool,
    pub segment_s: u64,
}

/// Chooses the steps for a source: none above it, none twice, at least one. `prefix` begins all names.
pub fn ladder(source: &Source, definition: &AdaptiveDefinition, prefix: &str) -> Result<Ladder, NothingToMake> {
    let video = source.video.as_ref().ok_or(NothingToMake::NoVideo)?;
    let size = |template: &VideoTemplate| {
        let wanted = Wanted {
            width: template.width,
            height: template.height,
            resolution_adaptive: &template.resolution_adaptive,
            fill_type: &template.fill_type,
        };
        super::geometry::size(wanted, (video.width, video.height))
    };
    let is_above =
        |(width, height): (u64, u64)| width.min(height) > video.width.min(video.height) + 1 || width.max(height) > video.width.max(video.height) + 1;
    let fmp4 = definition.segment_type == "mp4";
    let mut ladder = Ladder {
        steps: Vec::new(),
        audio_groups: Vec::new(),
        fmp4,
        encrypted: definition.is_encrypted(),
        segment_s: definition.segment_duration.max(1),
    };
    // From the smallest: the first one above the source becomes the source's size.
    let mut streams: Vec<_> = definition.stream_infos.iter().collect();
    streams.sort_by_key(|stream| (stream.remove_video == 1, size(&stream.video), stream.video.bitrate));
    let mut topped = false;
    for stream in streams {
        let mut step = Step { video: None, audio: None, playlist: format!("{prefix}{}.m3u8", ladder.steps.len() + 1) };
        if stream.remove_video == 0 {
            let mut template = stream.video.clone();
            let mut fitted = size(&template);
            if is_above(fitted) {
                (template.width, template.height) = (0, 0);
                fitted = size(&template);
                let is_there = ladder.steps.iter().any(|step| step.video.as_ref().is_some_and(|known| (known.width, known.height) == fitted));
                if topped || is_there {
                    continue;
                }
                topped = true;
            }
            if template.fps > 0 && video.fps > 0.0 && template.fps as f64 > video.fps.round() {
                template.fps = 0;
            }
            if definition.disable_higher_video_bitrate == 1 && video.bitrate > 0 {
                template.bitrate = template.bitrate.min(video.bitrate);
            }
            step.video = Some(StepVideo { width: fitted.0, height: fitted.1, template });
        }
        if stream.remove_audio == 0 && source.audio.is_some() {
            step.audio = Some(if fmp4 && step.video.is_some() {
                let known = ladder.audio_groups.iter().position(|(template, _)| *template == stream.audio);
                StepAudio::Group(known.unwrap_or_else(|| {
                    let number = ladder.audio_groups.len() + 1;
                    ladder.audio_groups.push((stream.audio.clone(), format!("{prefix}a{number}.m3u8")));
                    number - 1
                }))
            } else {
                StepAudio::Inside(stream.audio.clone())
            });
        }
        if step.video.is_some() || step.audio.is_some() {
            ladder.steps.push(step);
        }
    }
    if ladder.steps.iter().all(|step| step.video.is_none()) { Err(NothingToMake::Nothing) } else { Ok(ladder) }
}

/// The arguments for all steps at once: the source is decoded once.
pub fn adaptive(source: &Source, ladder: &Ladder, encoder: &Encoder) -> Result<Vec<String>, NothingToMake> {
    let video = source.video.as_ref().ok_or(NothingToMake::NoVideo)?;
    let mut all = Arguments::reading(source, Part::default());
    let with_video: Vec<&StepVideo> = ladder.steps.iter().filter_map(|step| step.video.as_ref()).collect();
    let labels: String = (0..with_video.len()).map(|number| format!("[s{number}]")).collect();
    let mut graph = format!("[0:v:0]split={}{labels}", with_video.len());
    for (number, step) in with_video.iter().enumerate() {
        let fps = Some(step.template.fps).filter(|fps| *fps > 0);
        graph.push_str(&format!(";[s{number}]{}[v{number}]", chain(&step.template, video, fps, &format!("x{number}"))));
    }
    all.add(&["-filter_complex", &graph]);
    let mut number = 0;
    let output = |playlist: &str| HlsOutputOwned {
        stem: playlist.trim_end_matches(".m3u8").to_owned(),
        playlist: playlist.to_owned(),
        segment_s: ladder.segment_s,
        fmp4: ladder.fmp4,
        one_file: !ladder.encrypted,
    };
    for step in &ladder.steps {
        if let Some(step) = &step.video {
            all.add(&["-map", &format!("[v{number}]")]);
            all.video(&step.template, video, encoder, Some(ladder.segment_s), ladder.fmp4);
            number += 1;
        }
        if let (Some(StepAudio::Inside(template)), Some(audio)) = (&step.audio, &source.audio) {
            all.add(&["-map", "0:a:0"]);
            all.audio(template, audio, "hls");
        }
        output(&step.playlist).add(&mut all);
    }
    for (template, playlist) in &ladder.audio_groups {
        if let Some(audio) = &source.audio {
            all.add(&["-map", "0:a:0"]);
            all.audio(template, audio, "hls");
            output(playlist).add(&mut all);
        }
    }
    Ok(all.0)
}

struct HlsOutputOwned {
    stem: String,
    playlist: String,
    segment_s: u64,
    fmp4: bool,
    one_file: bool,
}

impl HlsOutputOwned {
    fn add(&self, all: &mut Arguments) {
        let Self { stem, playlist, segment_s, fmp4, one_file } = self;
        all.hls(&HlsOutput { segment_s: *segment_s, fmp4: *fmp4, one_file: *one_file, stem, playlist });
    }
}

/// The filters of a picture, and its size.
fn picture(picture: &Picture, video: &SourceVideo) -> super::geometry::Fit {
    let wanted =
        Wanted { width: picture.width, height: picture.height, resolution_adaptive: &picture.resolution_adaptive, fill_type: &picture.fill_type };
    fit(wanted, (video.width, video.height), "p")
}

fn picture_format(all: &mut Arguments, format: &str) {
    match format {
        "png" => all.add(&["-c:v", "png"]),
        "webp" => all.add(&["-c:v", "libwebp", "-quality", "80"]),
        _ => all.add(&["-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p"]),
    };
}

/// The arguments for one picture at a time.
pub fn snapshot(source: &Source, look: &Picture, time_ms: u64, name: &str) -> Result<Vec<String>, NothingToMake> {
    let video = source.video.as_ref().ok_or(NothingToMake::NoVideo)?;
    let mut all = Arguments::reading(source, Part { start_ms: time_ms, length_ms: None });
    all.add(&["-map", "0:v:0", "-frames:v", "1", "-filter:v", &picture(look, video).filters]);
    picture_format(&mut all, &look.format);
    all.add(&["-f", "image2", "-update", "1", name]);
    Ok(all.0)
}

/// The arguments for a moving picture, and its size.
pub fn animated(source: &Source, definition: &AnimatedGraphicsDefinition, part: Part, entry: &str) -> Result<(Vec<String>, u64, u64), NothingToMake> {
    let video = source.video.as_ref().ok_or(NothingToMake::NoVideo)?;
    let wanted =
        Wanted { width: definition.width, height: definition.height, resolution_adaptive: &definition.resolution_adaptive, fill_type: "black" };
    let fitted = fit(wanted, (video.width, video.height), "g");
    let mut all = Arguments::reading(source, part);
    let filters = format!("fps={},{}", definition.fps, fitted.filters);
    if definition.format == "webp" {
        let quality = format!("{}", definition.quality);
        all.add(&["-map", "0:v:0", "-filter:v", &filters, "-c:v", "libwebp_anim", "-quality", &quality, "-loop", "0", "-f", "webp", entry]);
    } else {
        // Colours of the pictures themselves: the format has 256 of them.
        let graph = format!("[0:v:0]{filters},split[ga][gb];[ga]palettegen[gp];[gb][gp]paletteuse[g]");
        all.add(&["-filter_complex", &graph, "-map", "[g]", "-c:v", "gif", "-loop", "0", "-f", "gif", entry]);
    }
    Ok((all.0, fitted.width, fitted.height))
}

/// Rate and channels of joined sound.
const JOINED_RATE_HZ: u64 = 44_100;
/// Where neither the call nor an input tells.
const JOINED_SIZE: (u64, u64) = (1_280, 720);
const JOINED_FPS: f64 = 25.0;

/// The arguments that join stretches of files into an MP4: each comes to the size and rate of the first with video, what one lacks is black or silent.
pub fn join(order: &JoinOrder, encoder: &Encoder, name: &str) -> Vec<String> {
    let template = &order.video;
    let videos = || order.inputs.iter().filter_map(|input| input.video);
    let has_audio = order.inputs.iter().any(|input| input.has_audio);
    let model = videos().next();
    let wanted = |width, height, resolution_adaptive| Wanted { width, height, resolution_adaptive, fill_type: "black" };
    let (width, height) = super::geometry::size(
        wanted(template.width, template.height, &template.resolution_adaptive),
        model.map_or(JOINED_SIZE, |video| (video.width, video.height)),
    );
    let known_fps = videos().map(|video| video.fps).find(|fps| *fps > 0.0).unwrap_or(JOINED_FPS);
    let fps = if template.fps > 0 { template.fps as f64 } else { known_fps };
    let (mut inputs, mut graph, mut labels) = (Arguments(Vec::new()), String::new(), String::new());
    inputs.add(&["-hide_banner", "-nostdin", "-loglevel", "error", "-nostats", "-progress", "pipe:1", "-y"]);
    for (number, input) in order.inputs.iter().enumerate() {
        let length = seconds(input.length_ms);
        inputs.add(&[
            "-ss",
            &seconds(input.start_ms),
            "-t",
            &length,
            "-protocol_whitelist",
            "file,crypto,data",
            "-i",
            &format!("file:{}", input.path),
        ]);
        if model.is_some() {
            graph.push_str(&match input.video {
                Some(video) => {
                    let fitted = fit(wanted(width, height, "close"), (video.width, video.height), &format!("j{number}"));
                    format!("[{number}:v:0]fps={fps:.3},{},format=yuv420p[v{number}];", fitted.filters)
                }
                None => format!("color=c=black:s={width}x{height}:r={fps:.3}:d={length},setsar=1,format=yuv420p[v{number}];"),
            });
            labels.push_str(&format!("[v{number}]"));
        }
        if has_audio {
            let shape = format!("aformat=sample_fmts=fltp:sample_rates={JOINED_RATE_HZ}:channel_layouts=stereo[a{number}];");
            graph.push_str(&if input.has_audio {
                // Holes are silence: what follows stays with its picture.
                format!("[{number}:a:0]aresample={JOINED_RATE_HZ}:async=1:first_pts=0,{shape}")
            } else {
                format!("anullsrc=r={JOINED_RATE_HZ}:cl=stereo,atrim=duration={length},{shape}")
            });
            labels.push_str(&format!("[a{number}]"));
        }
    }
    let (with_video, with_audio) = (u8::from(model.is_some()), u8::from(has_audio));
    graph.push_str(&format!("{labels}concat=n={}:v={with_video}:a={with_audio}", order.inputs.len()));
    graph.push_str(if model.is_some() { "[v]" } else { "" });
    graph.push_str(if has_audio { "[a]" } else { "" });
    let mut all = inputs;
    all.add(&["-filter_complex", &graph, "-map_metadata", "-1", "-map_chapters", "-1"]);
    if model.is_some() {
        all.add(&["-map", "[v]"]);
        let source = SourceVideo { width, height, fps, bitrate: 0, duration_ms: 0 };
        all.video(template, &source, encoder, None, true);
    }
    if has_audio {
        all.add(&["-map", "[a]"]);
        all.audio(&AudioTemplate { bitrate: AUDIO_KBPS, ..AudioTemplate::default() }, &SourceAudio { bitrate: 0 }, "mp4");
    }
    all.add(&["-movflags", "+faststart", "-f", "mp4", name]);
    all.0
}

/// The first frame at or after each multiple of the interval.
fn selection(interval_ms: u64) -> String {
    format!("select=gte(t\\,selected_n*{})", seconds(interval_ms))
}

/// The arguments for pictures at equal distances; they are numbered from 1.
pub fn samples(source: &Source, look: &Picture, interval_ms: u64, prefix: &str) -> Result<Vec<String>, NothingToMake> {
    let video = source.video.as_ref().ok_or(NothingToMake::NoVideo)?;
    let mut all = Arguments::reading(source, Part::default());
    let filters = format!("{},{}", selection(interval_ms), picture(look, video).filters);
    all.add(&["-map", "0:v:0", "-filter:v", &filters, "-fps_mode", "vfr"]);
    picture_format(&mut all, &look.format);
    all.add(&["-f", "image2", &format!("{prefix}%d.{}", look.format)]);
    Ok(all.0)
}

/// How many pictures there are at equal distances in a video.
pub fn sample_count(video: &SourceVideo, interval_ms: u64) -> u64 {
    let frame_ms = if video.fps > 0.0 { (1_000.0 / video.fps).ceil() as u64 } else { 40 };
    video.duration_ms.saturating_sub(frame_ms) / interval_ms.max(1) + 1
}

/// Sheets of small pictures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sprites {
    pub arguments: Vec<String>,
    pub interval_ms: u64,
    /// Of one small picture, pixels.
    pub width: u64,
    pub height: u64,
    pub count: u64,
}

/// The arguments for sheets, which are numbered from 1.
pub fn sprites(source: &Source, definition: &ImageSpriteDefinition, prefix: &str) -> Result<Sprites, NothingToMake> {
    let video = source.video.as_ref().ok_or(NothingToMake::NoVideo)?;
    let interval_ms = definition.sampling.interval_ms(video.duration_ms);
    let mut all = Arguments::reading(source, Part::default());
    let fitted = picture(&definition.picture, video);
    let tile = format!("tile={}x{}", definition.column_count, definition.row_count);
    all.add(&["-map", "0:v:0", "-filter:v", &format!("{},{},{tile}", selection(interval_ms), fitted.filters), "-fps_mode", "vfr"]);
    picture_format(&mut all, &definition.picture.format);
    all.add(&["-f", "image2", &format!("{prefix}%d.{}", definition.picture.format)]);
    Ok(Sprites { arguments: all.0, interval_ms, width: fitted.width, height: fitted.height, count: sample_count(video, interval_ms) })
}

/// The WebVTT file that says what of which sheet belongs to which time.
pub fn sprite_index(sprites: &Sprites, definition: &ImageSpriteDefinition, duration_ms: u64, prefix: &str) -> String {
    let time = |ms: u64| format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    let on_sheet = definition.row_count * definition.column_count;
    let mut text = "WEBVTT\n".to_owned();
    for number in 0..sprites.count {
        let (begin, end) =
            (number * sprites.interval_ms, ((number + 1) * sprites.interval_ms).min(duration_ms.max(number * sprites.interval_ms + 1)));
        let (sheet, place) = (number / on_sheet + 1, number % on_sheet);
        let (x, y) = (place % definition.column_count * sprites.width, place / definition.column_count * sprites.height);
        let extension = &definition.picture.format;
        text.push_str(&format!(
            "\n{} --> {}\n{prefix}{sheet}.{extension}#xywh={x},{y},{},{}\n",
            time(begin),
            time(end),
            sprites.width,
            sprites.height
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::presets::preset;

    fn source(width: u64, height: u64) -> Source {
        Source {
            path: "/data/media/1/x.mp4".to_owned(),
            duration_ms: 14_000,
            video: Some(SourceVideo { width, height, fps: 30.0, bitrate: 2_000, duration_ms: 14_000 }),
            audio: Some(SourceAudio { bitrate: 96 }),
        }
    }

    fn encoder() -> Encoder {
        Encoder { preset: "ultrafast".to_owned() }
    }

    fn rendition(definition: i64) -> String {
        let definition = preset::<TranscodeDefinition>(definition).unwrap();
        transcode(&source(1920, 1080), &definition, Part::default(), &encoder(), "v.mp4", "v.t").unwrap().join(" ")
    }

    #[test]
    fn renditions() {
        let begin = "-hide_banner -nostdin -loglevel error -nostats -progress pipe:1 -y -protocol_whitelist file,crypto,data -i file:/data/media/1/x.mp4 \
                     -map_metadata -1 -map_chapters -1 -sn -dn ";
        let video = "-map 0:v:0 -filter:v fps=25,scale=640:360,setsar=1 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -b:v 400k -maxrate 600k -bufsize 1200k";
        let audio = "-map 0:a:0 -c:a aac -b:a 64k -ar 44100 -ac 2";
        assert_eq!(rendition(100_010), format!("{begin}{video} -g 125 {audio} -movflags +faststart -f mp4 v.mp4"));
        let hls = "-f hls -hls_time 6 -hls_playlist_type vod -hls_segment_type mpegts -hls_flags single_file -hls_segment_filename v.t.ts v.mp4";
        let gop = "-force_key_frames expr:gte(t,n_forced*6) -sc_threshold 0 -g 151";
        assert_eq!(rendition(100_210), format!("{begin}{video} {gop} {audio} {hls}"));
        assert_eq!(rendition(875), format!("{begin}-map 0:v:0 -c:v copy -map 0:a:0 -c:a copy -movflags +faststart -f mp4 v.mp4"));
        assert_eq!(rendition(1_010), format!("{begin}-map 0:a:0 -c:a libmp3lame -b:a 128k -ar 44100 -ac 2 -f mp3 v.mp4"));
        let part = Part { start_ms: 1_500, length_ms: Some(2_000) };
        let definition = preset::<TranscodeDefinition>(875).unwrap();
        let cut = transcode(&source(2, 2), &definition, part, &encoder(), "v.mp4", "v").unwrap().join(" ");
        assert!(cut.contains("-ss 1.500 -protocol_whitelist file,crypto,data -i file:/data/media/1/x.mp4 -t 2.000"), "{cut}");
    }

    #[test]
    fn what_is_not_there_is_not_made() {
        let mut silent = source(640, 360);
        silent.audio = None;
        let of = |source: &Source, definition: i64| {
            let definition = preset::<TranscodeDefinition>(definition).unwrap();
            transcode(source, &definition, Part::default(), &encoder(), "v", "v").map(|_| ())
        };
        assert_eq!(of(&silent, 1_010), Err(NothingToMake::NoAudio));
        assert_eq!(of(&silent, 100_010), Ok(()));
        let mut blind = source(640, 360);
        blind.video = None;
        assert_eq!(of(&blind, 100_010), Ok(()), "the sound is kept");
        blind.audio = None;
        assert_eq!(of(&blind, 875), Err(NothingToMake::Nothing));
        assert_eq!(snapshot(&blind, &Picture::default(), 0, "x.jpg"), Err(NothingToMake::NoVideo));
        assert_eq!(ladder(&blind, &preset(10).unwrap(), "p."), Err(NothingToMake::NoVideo));
    }

    fn sizes(width: u64, height: u64) -> Vec<(u64, u64)> {
        let ladder = ladder(&source(width, height), &preset(10).unwrap(), "p.").unwrap();
        ladder.steps.iter().map(|step| step.video.as_ref().map(|video| (video.width, video.height)).unwrap()).collect()
    }

    #[test]
    fn steps_never_exceed_the_source() {
        assert_eq!(sizes(1920, 1080), [(426, 240), (854, 480), (1280, 720), (1920, 1080)]);
        assert_eq!(sizes(1080, 1920), [(240, 426), (480, 854), (720, 1280), (1080, 1920)]);
        assert_eq!(sizes(640, 360), [(426, 240), (640, 360)]);
        assert_eq!(sizes(320, 180), [(320, 180)]);
        assert_eq!(sizes(3840, 2160).len(), 6);
    }

    #[test]
    fn an_adaptive_stream_is_one_run() {
        let ladder = ladder(&source(640, 360), &preset(10).unwrap(), "p.").unwrap();
        let text = adaptive(&source(640, 360), &ladder, &encoder()).unwrap().join(" ");
        assert!(
            text.contains("-filter_complex [0:v:0]split=2[s0][s1];[s0]fps=25,scale=426:240,setsar=1[v0];[s1]fps=25,setsar=1[v1] -map [v0]"),
            "{text}"
        );
        assert!(text.contains("-hls_segment_filename p.2.ts p.2.m3u8") && text.matches("-map 0:a:0").count() == 2, "{text}");
        let mut definition: AdaptiveDefinition = preset(12).unwrap();
        definition.segment_type = "mp4".to_owned();
        let grouped = super::ladder(&source(640, 360), &definition, "p.").unwrap();
        assert_eq!((grouped.audio_groups.len(), &grouped.steps[1].audio), (1, &Some(StepAudio::Group(0))));
        let text = adaptive(&source(640, 360), &grouped, &encoder()).unwrap().join(" ");
        assert!(text.matches("-map 0:a:0").count() == 1 && text.contains("p.a1.%d.m4s -hls_fmp4_init_filename p.a1.init.m4s p.a1.m3u8"), "{text}");
    }

    #[test]
    fn sheets_and_their_index() {
        let definition: ImageSpriteDefinition = preset(10).unwrap();
        let sprites = sprites(&source(640, 360), &definition, "s.").unwrap();
        assert_eq!((sprites.count, sprites.interval_ms, sprites.width, sprites.height), (2, 10_000, 142, 80));
        let text = sprites.arguments.join(" ");
        assert!(text.contains("-filter:v select=gte(t\\,selected_n*10.000),scale=142:80,setsar=1,tile=10x10 -fps_mode vfr"), "{text}");
        let index = sprite_index(&sprites, &definition, 14_000, "s.");
        let expected =
            "WEBVTT\n\n00:00:00.000 --> 00:00:10.000\ns.1.jpg#xywh=0,0,142,80\n\n00:00:10.000 --> 00:00:14.000\ns.1.jpg#xywh=142,0,142,80\n";
        assert_eq!(index, expected);
        let video = source(2, 2).video.unwrap();
        assert_eq!((sample_count(&video, 1_400), sample_count(&video, 14_000), sample_count(&video, 13_970)), (10, 1, 1));
    }
}
