//! One subtask: its source, its runs, what they made. Everything is written into a folder of the job's own and moved into the recording's folder at the end.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::catalog::{Catalog, CatalogError, MediaRow};
use crate::domain::DataFolders;
use crate::domain::content_key::{ContentKey, MasterKey, NONCE_BYTES, key_address};
use crate::domain::definition::{
    AdaptiveDefinition, AnimatedGraphicsDefinition, Definition, ImageSpriteDefinition, SampleSnapshotDefinition, SnapshotDefinition,
    TranscodeDefinition,
};
use crate::domain::flow::{
    AdaptiveInput, AdaptiveSet, AnimatedInput, AnimatedSet, CoverInput, CoverPicture, FailKind, Rendition, RenditionAudio, RenditionVideo,
    ResultFiles, SampleInput, SampleSet, SnapshotInput, SnapshotSet, SpriteInput, SpriteSet, SubStream, SubtaskError, SubtaskInput, SubtaskOutput,
    TranscodeInput, numbered,
};

use super::arguments::{self, Encoder, Ladder, NothingToMake, Part, Source, SourceAudio, SourceVideo, StepAudio};
use super::child::{self, Bounds, ChildError, Launcher, Stop};
use super::hls::{self, AudioGroup, MediaPlaylist, Variant};
use super::probe::{self, Probed};

/// A probe takes milliseconds; on a machine with no time, more.
const PROBE_BOUNDS: Bounds = Bounds { time_max: Duration::from_secs(120), silence_max: Duration::from_secs(120) };
/// What ffprobe says of one file.
const PROBE_BYTES_MAX: usize = 1 << 20;
/// Longest moving picture: longer ones are videos, and no browser likes them.
const ANIMATED_MS_MAX: u64 = 300_000;
/// A snapshot beyond the end is the last picture, about.
const LAST_PICTURE_MS: u64 = 100;

/// What all jobs share.
pub struct Tools {
    pub ffmpeg: PathBuf,
    pub ffprobe: PathBuf,
    pub launcher: Launcher,
    pub encoder: Encoder,
    pub bounds: Bounds,
    /// Where recordings lie, without links.
    pub folders: DataFolders,
    pub master_key: MasterKey,
    /// Segments to a key; 0: one key for all.
    pub key_rotation: u64,
}

/// Why a subtask did not come to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    Stopped(Stop),
    /// For good.
    Final(SubtaskError),
    /// It may go well another time.
    Again(SubtaskError),
}

fn failed(kind: FailKind, message: impl Into<String>) -> Failure {
    Failure::Final(SubtaskError { kind, message: message.into() })
}

impl From<NothingToMake> for Failure {
    fn from(what: NothingToMake) -> Self {
        failed(FailKind::Source, format!("There is nothing to make: {what}."))
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        Self::Again(SubtaskError { kind: FailKind::Internal, message: error.to_string() })
    }
}

impl From<ChildError> for Failure {
    fn from(error: ChildError) -> Self {
        let message = match &error {
            ChildError::Start { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        match error {
            ChildError::Stopped(stop) => Self::Stopped(stop),
            ChildError::Failed { code: 127, .. } => Self::Again(SubtaskError { kind: FailKind::Internal, message }),
            // What it cannot read today it cannot read tomorrow; a full disk is another matter.
            ChildError::Failed { ref stderr, .. } if !stderr.contains("No space left") => failed(FailKind::Source, message),
            _ => Self::Again(SubtaskError { kind: FailKind::Internal, message }),
        }
    }
}

fn io_failure(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::Again(SubtaskError { kind: FailKind::Internal, message: format!("{what}: {error}") })
}

/// A subtask on its way.
pub struct Job<'a> {
    pub tools: &'a Tools,
    pub catalog: &'a Catalog,
    pub row: &'a MediaRow,
    pub sub_app_id: u64,
    /// The job's own folder: empty, on the file system of the recordings.
    pub folder: &'a Path,
    /// Part of the names of files that no other job uses.
    pub mark: &'a str,
    pub stop: &'a dyn Fn() -> Option<Stop>,
    pub progress: &'a dyn Fn(u8),
}

impl Job<'_> {
    /// Makes it. What it made lies in the recording's folder then, durable; nobody is told yet.
    pub fn run(&self, input: &SubtaskInput) -> Result<SubtaskOutput, Failure> {
        if self.row.extras.original_deleted {
            return Err(failed(FailKind::Source, "The original of the file was deleted."));
        }
        if self.row.file.identity.encryption.is_some() {
            return Err(failed(FailKind::Source, "The recording is encrypted; task flows do not open it."));
        }
        let source = self.source()?;
        let output = match input {
            SubtaskInput::Transcode(input) => self.transcode(&source, input).map(SubtaskOutput::Transcode),
            SubtaskInput::AdaptiveDynamicStreaming(input) => self.adaptive(&source, input).map(SubtaskOutput::AdaptiveDynamicStreaming),
            SubtaskInput::SnapshotByTimeOffset(input) => self.snapshots(&source, input).map(SubtaskOutput::SnapshotByTimeOffset),
            SubtaskInput::SampleSnapshot(input) => self.samples(&source, input).map(SubtaskOutput::SampleSnapshot),
            SubtaskInput::ImageSprites(input) => self.sprites(&source, input).map(SubtaskOutput::ImageSprites),
            SubtaskInput::AnimatedGraphics(input) => self.animated(&source, input).map(SubtaskOutput::AnimatedGraphics),
            SubtaskInput::CoverBySnapshot(input) => self.cover(&source, input).map(SubtaskOutput::CoverBySnapshot),
        }?;
        self.move_in()?;
        Ok(output)
    }

    /// Where the recording lies.
    fn recording_folder(&self) -> Result<PathBuf, Failure> {
        self.tools.folders.path_of(&self.row.file.folder).map_err(|absent| failed(FailKind::Source, absent.to_string()))
    }

    fn source(&self) -> Result<Source, Failure> {
        let file = &self.row.file;
        let rate = |bytes: u64, duration_ms: u64| (bytes * 8).checked_div(duration_ms).unwrap_or(0);
        Ok(Source {
            path: self.recording_folder()?.join(&file.entry).to_string_lossy().into_owned(),
            duration_ms: file.summary.duration_ms,
            video: file.summary.video.as_ref().map(|track| SourceVideo {
                width: track.width.into(),
                height: track.height.into(),
                fps: if track.duration_ms > 0 { track.frames as f64 * 1_000.0 / track.duration_ms as f64 } else { 0.0 },
                bitrate: rate(track.bytes, track.duration_ms),
                duration_ms: track.duration_ms,
            }),
            audio: file.summary.audio.as_ref().map(|track| SourceAudio { bitrate: rate(track.bytes, track.duration_ms) }),
        })
    }

    fn definition<D: Definition>(&self, number: i64) -> Result<D, Failure> {
        let found: Option<D> = self.catalog.definition(self.sub_app_id, number)?;
        found.ok_or_else(|| failed(FailKind::Input, format!("There is no {} definition {number} any more.", D::KIND.name())))
    }

    /// Runs the encoder; `duration_ms` is what it will have written in the end.
    fn encode(&self, arguments: &[String], duration_ms: u64) -> Result<(), Failure> {
        let mut line = |line: &str| {
            if let Some(percent) = arguments::percent(line, duration_ms) {
                (self.progress)(percent);
            }
        };
        let tools = self.tools;
        Ok(child::run(&tools.launcher, &tools.ffmpeg, arguments, self.folder, tools.bounds, self.stop, &mut line)?)
    }

    fn probe(&self, name: &str) -> Result<Probed, Failure> {
        let mut json = String::new();
        let mut line = |line: &str| {
            if json.len() < PROBE_BYTES_MAX {
                json.push_str(line);
                json.push('\n');
            }
        };
        let tools = self.tools;
        child::run(&tools.launcher, &tools.ffprobe, &probe::arguments(name), self.folder, PROBE_BOUNDS, self.stop, &mut line)?;
        probe::read(&json).map_err(|message| failed(FailKind::Source, message))
    }

    fn playlist(&self, name: &str) -> Result<MediaPlaylist, Failure> {
        hls::read(&self.folder.join(name)).map_err(io_failure("the encoder's playlist cannot be read"))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        fs::write(self.folder.join(name), text).map_err(io_failure("a result cannot be written"))
    }

    /// Bytes of the job's files that begin so.
    fn size_of(&self, prefix: &str) -> Result<u64, Failure> {
        let read = || -> io::Result<u64> {
            let mut bytes = 0;
            for file in fs::read_dir(self.folder)? {
                let file = file?;
                if file.file_name().to_string_lossy().starts_with(prefix) {
                    bytes += file.metadata()?.len();
                }
            }
            Ok(bytes)
        };
        read().map_err(not_seen)
    }

    /// Puts everything that was made into the recording's folder: written to the disk first, the files that are opened first last.
    fn move_in(&self) -> Result<(), Failure> {
        let target = self.recording_folder()?;
        let moved = || -> io::Result<()> {
            let mut names = Vec::new();
            for file in fs::read_dir(self.folder)? {
                names.push(file?.file_name());
            }
            // Names without our mark are those that others look for.
            names.sort_by_key(|name| !name.to_string_lossy().contains(&format!(".{}.", self.mark)));
            for name in &names {
                File::open(self.folder.join(name))?.sync_all()?;
            }
            for name in &names {
                fs::rename(self.folder.join(name), target.join(name))?;
            }
            File::open(&target)?.sync_all()
        };
        moved().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => failed(FailKind::Input, "The file was deleted meanwhile."),
            _ => io_failure("the results cannot be moved to the file")(error),
        })
    }

    fn transcode(&self, source: &Source, input: &TranscodeInput) -> Result<Rendition, Failure> {
        let mut definition: TranscodeDefinition = self.definition(input.definition)?;
        if let Some(change) = &input.override_parameter {
            let change = change.clone();
            (definition.container, definition.remove_video, definition.remove_audio) = (change.container, change.remove_video, change.remove_audio);
            (definition.video_template, definition.audio_template) = (change.video_template, change.audio_template);
        }
        let part = part(input.start_time_offset, input.end_time_offset, source.duration_ms)?;
        let container = definition.container.as_str();
        let is_hls = container == "hls";
        let extension = if is_hls { "m3u8" } else { container };
        let prefix = format!("v.f{}.{}.", input.definition, self.mark);
        let entry = format!("v.f{}.{extension}", input.definition);
        let arguments = arguments::transcode(source, &definition, part, &self.tools.encoder, &entry, prefix.trim_end_matches('.'))?;
        let duration_ms = part.length_ms.unwrap_or(source.duration_ms.saturating_sub(part.start_ms));
        self.encode(&arguments, duration_ms)?;
        let probed = self.probe(&entry)?;
        let size_bytes = self.size_of("")?;
        let duration_ms = if is_hls { self.playlist(&entry)?.duration_ms() } else { probed.duration_ms };
        let (video, audio) = tracks(&probed, size_bytes, duration_ms);
        let files = ResultFiles { entry, prefix: if is_hls { prefix } else { String::new() } };
        Ok(Rendition { definition: input.definition, files, container: definition.container, size_bytes, duration_ms, video, audio })
    }

    fn adaptive(&self, source: &Source, input: &AdaptiveInput) -> Result<AdaptiveSet, Failure> {
        let definition: AdaptiveDefinition = self.definition(input.definition)?;
        if !definition.is_offered() {
            let message =
                format!("The definition {} needs {} {}, which is not offered here.", input.definition, definition.format, definition.drm_type);
            return Err(failed(FailKind::Input, message));
        }
        let prefix = format!("adp.{}.{}.", input.definition, self.mark);
        let entry = format!("adp.{}.m3u8", input.definition);
        let ladder = arguments::ladder(source, &definition, &prefix)?;
        self.encode(&arguments::adaptive(source, &ladder, &self.tools.encoder)?, source.duration_ms)?;
        let (master, streams) = self.join_steps(&ladder)?;
        self.write(&entry, &master)?;
        let size_bytes = self.size_of("")?;
        let drm_type = definition.drm_type;
        Ok(AdaptiveSet { definition: input.definition, files: ResultFiles { entry, prefix }, drm_type, size_bytes, streams })
    }

    /// Looks at what the encoder made, encrypts it if that is wanted, and writes the playlist that joins it.
    fn join_steps(&self, ladder: &Ladder) -> Result<(String, Vec<SubStream>), Failure> {
        let mut groups = Vec::new();
        for (_, name) in &ladder.audio_groups {
            let probed = self.probe(name)?;
            let audio = probed.audio.ok_or_else(|| failed(FailKind::Source, "a rendition of sound holds none"))?;
            groups.push((self.playlist(name)?.rates(self.folder).map_err(not_seen)?, audio));
        }
        let (mut variants, mut streams) = (Vec::new(), Vec::new());
        for step in &ladder.steps {
            let probed = self.probe(&step.playlist)?;
            let mut rates = self.playlist(&step.playlist)?.rates(self.folder).map_err(not_seen)?;
            let mut codecs: Vec<String> = probed.video.iter().map(|video| video.codec_string.clone()).collect();
            codecs.extend(probed.audio.iter().map(|audio| audio.codec_string.clone()));
            let audio_group = match step.audio {
                Some(StepAudio::Group(number)) => {
                    let (sound, audio) = &groups[number];
                    rates.peak += sound.peak;
                    rates.average += sound.average;
                    codecs.push(audio.codec_string.clone());
                    Some(number)
                }
                _ => None,
            };
            let size_bytes = self.size_of(step.playlist.trim_end_matches("m3u8"))?;
            let (width, height) = probed.video.as_ref().map_or((0, 0), |video| (video.width, video.height));
            streams.push(SubStream { has_video: probed.video.is_some(), width, height, size_bytes });
            let video = probed.video.map(|video| (video.width, video.height, video.fps));
            variants.push(Variant { playlist: step.playlist.clone(), rates, codecs, video, audio_group });
        }
        if ladder.encrypted {
            for name in ladder.steps.iter().map(|step| &step.playlist).chain(ladder.audio_groups.iter().map(|(_, name)| name)) {
                self.encrypt(name)?;
            }
        }
        let groups: Vec<AudioGroup> = ladder
            .audio_groups
            .iter()
            .zip(&groups)
            .map(|((_, playlist), (_, audio))| AudioGroup { playlist: playlist.clone(), channels: audio.channels })
            .collect();
        Ok((hls::master(&variants, &groups, ladder.fmp4), streams))
    }

    /// Encrypts a rendition with a key of its own.
    fn encrypt(&self, name: &str) -> Result<(), Failure> {
        let file_id = self.row.file.identity.file_id;
        let mut next_key = || -> io::Result<(ContentKey, String)> {
            let (key, nonce) = (ContentKey(random()?), random::<NONCE_BYTES>()?);
            let edk = self.tools.master_key.wrap(file_id, &key, nonce);
            Ok((key, key_address(file_id, &edk)))
        };
        let playlist = self.playlist(name)?;
        let text =
            hls::encrypt(&playlist, self.folder, self.tools.key_rotation, &mut next_key).map_err(io_failure("the segments cannot be encrypted"))?;
        self.write(name, &text)
    }

    fn snapshots(&self, source: &Source, input: &SnapshotInput) -> Result<SnapshotSet, Failure> {
        let definition: SnapshotDefinition = self.definition(input.definition)?;
        let prefix = format!("snap.{}.{}.", input.definition, self.mark);
        let mut pictures = Vec::new();
        let times = input.ext_time_offset_set.iter().map(|text| offset_ms(text, source.duration_ms));
        let times: Vec<u64> = times.chain(input.time_offset_set.iter().map(|seconds| (seconds * 1_000.0) as u64)).collect();
        for (number, time_ms) in times.iter().enumerate() {
            let name = format!("{prefix}{}.{}", number + 1, definition.picture.format);
            self.one_picture(source, &definition, *time_ms, &name)?;
            (self.progress)(u8::try_from((number + 1) * 100 / times.len()).unwrap_or(99));
            pictures.push((*time_ms, name));
        }
        let files = ResultFiles { entry: String::new(), prefix };
        Ok(SnapshotSet { definition: input.definition, files, pictures })
    }

    fn one_picture(&self, source: &Source, definition: &SnapshotDefinition, time_ms: u64, name: &str) -> Result<(), Failure> {
        let last = source.video.as_ref().map_or(0, |video| video.duration_ms.saturating_sub(LAST_PICTURE_MS));
        self.encode(&arguments::snapshot(source, &definition.picture, time_ms.min(last), name)?, 0)?;
        let there = fs::metadata(self.folder.join(name)).is_ok_and(|stat| stat.len() > 0);
        if there { Ok(()) } else { Err(failed(FailKind::Source, format!("There is no picture at {} ms.", time_ms.min(last)))) }
    }

    fn cover(&self, source: &Source, input: &CoverInput) -> Result<CoverPicture, Failure> {
        let definition: SnapshotDefinition = self.definition(input.definition)?;
        let time_ms = match input.position_type.as_str() {
            "Percent" => (source.duration_ms as f64 * input.position_value / 100.0) as u64,
            _ => (input.position_value * 1_000.0) as u64,
        };
        let extension = definition.picture.format.clone();
        self.one_picture(source, &definition, time_ms, &format!("cover.{extension}"))?;
        Ok(CoverPicture { extension })
    }

    fn samples(&self, source: &Source, input: &SampleInput) -> Result<SampleSet, Failure> {
        let definition: SampleSnapshotDefinition = self.definition(input.definition)?;
        let prefix = format!("sample.{}.{}.", input.definition, self.mark);
        let duration_ms = source.video.as_ref().map_or(0, |video| video.duration_ms);
        let interval_ms = definition.sampling.interval_ms(duration_ms);
        self.encode(&arguments::samples(source, &definition.picture, interval_ms, &prefix)?, source.duration_ms)?;
        let extension = definition.picture.format;
        let count = self.count(&prefix, &extension)?;
        let (sample_type, interval) = (definition.sampling.sample_type, definition.sampling.sample_interval);
        let files = ResultFiles { entry: String::new(), prefix };
        Ok(SampleSet { definition: input.definition, files, sample_type, interval, extension, count })
    }

    fn animated(&self, source: &Source, input: &AnimatedInput) -> Result<AnimatedSet, Failure> {
        let definition: AnimatedGraphicsDefinition = self.definition(input.definition)?;
        let part = part(input.start_time_offset, input.end_time_offset, source.duration_ms)?;
        let end_ms = part.length_ms.map_or(source.duration_ms, |length| part.start_ms + length);
        let length_ms = end_ms.saturating_sub(part.start_ms);
        if length_ms > ANIMATED_MS_MAX {
            return Err(failed(FailKind::Input, format!("A moving picture of {length_ms} ms is too long: at most {ANIMATED_MS_MAX} ms.")));
        }
        let entry = format!("anim.{}.{}", input.definition, definition.format);
        let (arguments, width, height) = arguments::animated(source, &definition, part, &entry)?;
        self.encode(&arguments, length_ms)?;
        let size_bytes = self.size_of("")?;
        let files = ResultFiles { entry, prefix: String::new() };
        Ok(AnimatedSet {
            definition: input.definition,
            files,
            container: definition.format,
            width,
            height,
            size_bytes,
            start_ms: part.start_ms,
            end_ms,
        })
    }

    /// Pictures that are there, numbered from 1 without a gap.
    fn count(&self, prefix: &str, extension: &str) -> Result<u64, Failure> {
        let count = numbered(prefix, extension, u64::MAX).take_while(|name| self.folder.join(name).is_file()).count() as u64;
        if count == 0 { Err(failed(FailKind::Source, "The encoder made no picture of the file.")) } else { Ok(count) }
    }

    fn sprites(&self, source: &Source, input: &SpriteInput) -> Result<SpriteSet, Failure> {
        let definition: ImageSpriteDefinition = self.definition(input.definition)?;
        let prefix = format!("sprite.{}.{}.", input.definition, self.mark);
        let mut sprites = arguments::sprites(source, &definition, &prefix)?;
        self.encode(&sprites.arguments, source.duration_ms)?;
        let extension = definition.picture.format.clone();
        let sheets = self.count(&prefix, &extension)?;
        sprites.count = sprites.count.min(sheets * definition.row_count * definition.column_count);
        let entry = format!("sprite.{}.vtt", input.definition);
        self.write(&entry, &arguments::sprite_index(&sprites, &definition, source.duration_ms, &prefix))?;
        let files = ResultFiles { entry, prefix };
        Ok(SpriteSet { definition: input.definition, files, width: sprites.width, height: sprites.height, count: sprites.count, extension, sheets })
    }
}

fn not_seen(error: io::Error) -> Failure {
    io_failure("the results cannot be looked at")(error)
}

pub fn random<const BYTES: usize>() -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    let mut filled = 0;
    while filled < BYTES {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// Rates that the file does not tell are what is left of it.
fn tracks(probed: &Probed, size_bytes: u64, duration_ms: u64) -> (Option<RenditionVideo>, Option<RenditionAudio>) {
    let total = (u128::from(size_bytes) * 8_000).checked_div(u128::from(duration_ms)).map_or(0, |rate| u64::try_from(rate).unwrap_or(0));
    let audio_rate = probed.audio.as_ref().map_or(0, |audio| if audio.bitrate > 0 || probed.video.is_some() { audio.bitrate } else { total });
    let video = probed.video.as_ref().map(|video| RenditionVideo {
        codec: video.codec.clone(),
        codec_tag: if video.tag.starts_with('[') { String::new() } else { video.tag.clone() },
        width: video.width,
        height: video.height,
        fps: video.fps.round() as u64,
        bitrate: if video.bitrate > 0 { video.bitrate } else { total.saturating_sub(audio_rate) },
    });
    let audio =
        probed.audio.as_ref().map(|audio| RenditionAudio { codec: audio.codec.clone(), sample_rate_hz: audio.sample_rate_hz, bitrate: audio_rate });
    (video, audio)
}

/// `3.5s` or `50%` in milliseconds. It was checked when it came.
fn offset_ms(text: &str, duration_ms: u64) -> u64 {
    let number = |digits: &str| digits.parse::<f64>().unwrap_or(0.0).max(0.0);
    match text.strip_suffix('%') {
        Some(digits) => (duration_ms as f64 * number(digits) / 100.0) as u64,
        None => (number(text.trim_end_matches('s')) * 1_000.0) as u64,
    }
}

/// The part of a file between two offsets in seconds: negative ones count from the end, an end of 0 is the end.
fn part(start_s: f64, end_s: f64, duration_ms: u64) -> Result<Part, Failure> {
    let at = |seconds: f64| {
        let ms = (seconds * 1_000.0).round() as i64;
        if seconds < 0.0 { duration_ms.saturating_sub(ms.unsigned_abs()) } else { ms.unsigned_abs() }
    };
    let start_ms = at(start_s);
    let end_ms = if end_s == 0.0 { duration_ms } else { at(end_s).min(duration_ms) };
    if start_ms >= end_ms {
        return Err(failed(FailKind::Input, format!("Nothing lies between {start_s} s and {end_s} s of a file of {duration_ms} ms.")));
    }
    let length_ms = (end_s != 0.0 && end_ms < duration_ms).then_some(end_ms - start_ms);
    Ok(Part { start_ms, length_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let of = |start, end| part(start, end, 10_000).ok().map(|part| (part.start_ms, part.length_ms));
        assert_eq!(of(0.0, 0.0), Some((0, None)));
        assert_eq!(of(1.5, 4.0), Some((1_500, Some(2_500))));
        assert_eq!(of(-3.0, -1.0), Some((7_000, Some(2_000))));
        assert_eq!(of(2.0, 99.0), Some((2_000, None)));
        assert_eq!(of(-99.0, 0.0), Some((0, None)));
        assert_eq!(of(10.0, 0.0), None);
        assert_eq!(of(4.0, 4.0), None);
    }

    #[test]
    fn offsets() {
        assert_eq!((offset_ms("3.5s", 10_000), offset_ms("50%", 10_000), offset_ms("100%", 9), offset_ms("0s", 0)), (3_500, 5_000, 9, 0));
    }
}
