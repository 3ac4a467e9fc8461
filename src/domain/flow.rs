//! Task flows: what shall be made from a file, how far that is, and what came of it. Inputs are stored and shown in the form of the API.

use serde::{Deserialize, Serialize};

use super::definition::{AudioTemplate, DefinitionKind, VideoTemplate};
use crate::units::{FileId, WallTime};

/// What was made of a recording, in its folder: [`FileResults`] as JSON.
pub const RESULTS_NAME: &str = "results.json";
/// Subtasks of one flow.
pub const SUBTASKS_MAX: usize = 100;

/// `MediaProcessTask`: what shall be made.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MediaProcess {
    pub transcode_task_set: Vec<TranscodeInput>,
    pub animated_graphic_task_set: Vec<AnimatedInput>,
    pub snapshot_by_time_offset_task_set: Vec<SnapshotInput>,
    pub sample_snapshot_task_set: Vec<SampleInput>,
    pub image_sprite_task_set: Vec<SpriteInput>,
    pub cover_by_snapshot_task_set: Vec<CoverInput>,
    pub adaptive_dynamic_streaming_task_set: Vec<AdaptiveInput>,
}

impl MediaProcess {
    /// Subtasks.
    pub fn count(&self) -> usize {
        self.subtasks().len()
    }

    /// The subtasks in the order in which they are done: quick ones first, so that a poster is there early.
    pub fn subtasks(&self) -> Vec<SubtaskInput> {
        let mut all: Vec<SubtaskInput> = Vec::new();
        all.extend(self.cover_by_snapshot_task_set.iter().cloned().map(SubtaskInput::CoverBySnapshot));
        all.extend(self.snapshot_by_time_offset_task_set.iter().cloned().map(SubtaskInput::SnapshotByTimeOffset));
        all.extend(self.sample_snapshot_task_set.iter().cloned().map(SubtaskInput::SampleSnapshot));
        all.extend(self.image_sprite_task_set.iter().cloned().map(SubtaskInput::ImageSprites));
        all.extend(self.animated_graphic_task_set.iter().cloned().map(SubtaskInput::AnimatedGraphics));
        all.extend(self.transcode_task_set.iter().cloned().map(|input| SubtaskInput::Transcode(Box::new(input))));
        all.extend(self.adaptive_dynamic_streaming_task_set.iter().cloned().map(SubtaskInput::AdaptiveDynamicStreaming));
        all
    }
}

/// A flow that has a name.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Procedure {
    pub comment: String,
    pub process: MediaProcess,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TranscodeInput {
    pub definition: i64,
    /// Seconds; negative: from the end. 0: the whole.
    pub start_time_offset: f64,
    pub end_time_offset: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub override_parameter: Option<TranscodeOverride>,
}

/// What differs from the definition for this one time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TranscodeOverride {
    pub container: String,
    pub remove_video: i64,
    pub remove_audio: i64,
    pub video_template: VideoTemplate,
    pub audio_template: AudioTemplate,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SnapshotInput {
    pub definition: i64,
    /// `3.5s` or `50%`.
    pub ext_time_offset_set: Vec<String>,
    /// Seconds.
    pub time_offset_set: Vec<f64>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SampleInput {
    pub definition: i64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SpriteInput {
    pub definition: i64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CoverInput {
    pub definition: i64,
    /// `Time` (seconds) or `Percent`.
    pub position_type: String,
    pub position_value: f64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AdaptiveInput {
    pub definition: i64,
    /// Subtitles are not offered: always empty.
    pub subtitle_set: Vec<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AnimatedInput {
    pub definition: i64,
    /// Seconds; negative: from the end. An end of 0 is the end.
    pub start_time_offset: f64,
    pub end_time_offset: f64,
}

/// One subtask. The name is `MediaProcessTaskResult.Type`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum SubtaskInput {
    Transcode(Box<TranscodeInput>),
    SnapshotByTimeOffset(SnapshotInput),
    SampleSnapshot(SampleInput),
    ImageSprites(SpriteInput),
    AnimatedGraphics(AnimatedInput),
    CoverBySnapshot(CoverInput),
    AdaptiveDynamicStreaming(AdaptiveInput),
}

impl SubtaskInput {
    /// The kind of its definition, and the number.
    pub fn definition(&self) -> (DefinitionKind, i64) {
        match self {
            Self::Transcode(input) => (DefinitionKind::Transcode, input.definition),
            Self::SnapshotByTimeOffset(input) => (DefinitionKind::Snapshot, input.definition),
            Self::SampleSnapshot(input) => (DefinitionKind::SampleSnapshot, input.definition),
            Self::ImageSprites(input) => (DefinitionKind::ImageSprite, input.definition),
            Self::AnimatedGraphics(input) => (DefinitionKind::AnimatedGraphics, input.definition),
            // A cover is a snapshot at one time.
            Self::CoverBySnapshot(input) => (DefinitionKind::Snapshot, input.definition),
            Self::AdaptiveDynamicStreaming(input) => (DefinitionKind::Adaptive, input.definition),
        }
    }
}

/// When a flow's event is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum NotifyMode {
    /// When all of it is done.
    #[default]
    Finish,
    /// When a subtask is done, too.
    Change,
    None,
}

impl NotifyMode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finish => "Finish",
            Self::Change => "Change",
            Self::None => "None",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Finish, Self::Change, Self::None].into_iter().find(|mode| mode.name() == name)
    }
}

/// A flow on one file, with how far it is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProcedureTask {
    pub file_id: FileId,
    /// When the flow began, the name and the address of the file are shown as they are now; this is all that is kept.
    pub notify_mode: NotifyMode,
    pub subtasks: Vec<Subtask>,
}

impl ProcedureTask {
    pub fn new(file_id: FileId, notify_mode: NotifyMode, process: &MediaProcess) -> Self {
        Self { file_id, notify_mode, subtasks: process.subtasks().into_iter().map(Subtask::new).collect() }
    }

    /// The first subtask that is to be done.
    pub fn next(&self) -> Option<usize> {
        self.subtasks.iter().position(|subtask| !matches!(subtask.state, SubtaskState::Success | SubtaskState::Fail))
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Subtask {
    pub input: SubtaskInput,
    pub state: SubtaskState,
    /// How often it was begun.
    pub attempts: u32,
    pub begin: Option<WallTime>,
    pub finish: Option<WallTime>,
    pub error: Option<SubtaskError>,
    pub output: Option<SubtaskOutput>,
}

impl Subtask {
    fn new(input: SubtaskInput) -> Self {
        Self { input, state: SubtaskState::Waiting, attempts: 0, begin: None, finish: None, error: None, output: None }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SubtaskState {
    Waiting,
    Processing,
    Success,
    Fail,
}

impl SubtaskState {
    /// `Status` of the result: what waits is on its way, too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting | Self::Processing => "PROCESSING",
            Self::Success => "SUCCESS",
            Self::Fail => "FAIL",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SubtaskError {
    pub kind: FailKind,
    /// One sentence, with the end of what the encoder said.
    pub message: String,
}

/// Whose fault it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FailKind {
    /// The input of the call: a definition that is gone, a time beyond the end.
    Input,
    /// The source file.
    Source,
    /// Ours: no encoder, no room, a time-out.
    Internal,
}

impl FailKind {
    /// `ErrCode`.
    pub const fn code(self) -> i64 {
        match self {
            Self::Input => 40_000,
            Self::Source => 60_000,
            Self::Internal => 70_000,
        }
    }

    /// `ErrCodeExt`.
    pub const fn code_ext(self) -> &'static str {
        match self {
            Self::Input => "InvalidParameterValue",
            Self::Source => "SourceFile",
            Self::Internal => "InternalError",
        }
    }
}

/// What a subtask made. Also what is kept with the file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum SubtaskOutput {
    Transcode(Rendition),
    SnapshotByTimeOffset(SnapshotSet),
    SampleSnapshot(SampleSet),
    ImageSprites(SpriteSet),
    AnimatedGraphics(AnimatedSet),
    CoverBySnapshot(CoverPicture),
    AdaptiveDynamicStreaming(AdaptiveSet),
}

/// Files of one result in the folder of the recording.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ResultFiles {
    /// The one that is opened first.
    pub entry: String,
    /// Begin of the names of all others; they have a part of chance, so that no other result has it. Empty: there are none.
    pub prefix: String,
}

impl ResultFiles {
    pub fn has(&self, name: &str) -> bool {
        name == self.entry || (!self.prefix.is_empty() && name.starts_with(&self.prefix))
    }
}

/// A track of a rendition.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RenditionVideo {
    pub codec: String,
    pub codec_tag: String,
    pub width: u64,
    pub height: u64,
    pub fps: u64,
    /// Bits a second.
    pub bitrate: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RenditionAudio {
    pub codec: String,
    pub sample_rate_hz: u64,
    /// Bits a second.
    pub bitrate: u64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rendition {
    pub definition: i64,
    pub files: ResultFiles,
    pub container: String,
    /// All files together.
    pub size_bytes: u64,
    pub duration_ms: u64,
    pub video: Option<RenditionVideo>,
    pub audio: Option<RenditionAudio>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AdaptiveSet {
    pub definition: i64,
    pub files: ResultFiles,
    /// `SimpleAES` or empty.
    pub drm_type: String,
    pub size_bytes: u64,
    pub streams: Vec<SubStream>,
}

/// A step of an adaptive stream.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SubStream {
    /// False: audio alone.
    pub has_video: bool,
    pub width: u64,
    pub height: u64,
    pub size_bytes: u64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotSet {
    pub definition: i64,
    pub files: ResultFiles,
    /// Milliseconds and file name.
    pub pictures: Vec<(u64, String)>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SampleSet {
    pub definition: i64,
    pub files: ResultFiles,
    pub sample_type: String,
    pub interval: u64,
    /// Extension of the pictures, which are named by the prefix and a number from 1.
    pub extension: String,
    pub count: u64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SpriteSet {
    pub definition: i64,
    pub files: ResultFiles,
    /// Of one small picture, pixels.
    pub width: u64,
    pub height: u64,
    /// Small pictures.
    pub count: u64,
    pub extension: String,
    /// Large pictures, named by the prefix and a number from 1.
    pub sheets: u64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AnimatedSet {
    pub definition: i64,
    pub files: ResultFiles,
    /// `gif` or `webp`.
    pub container: String,
    /// Pixels.
    pub width: u64,
    pub height: u64,
    pub size_bytes: u64,
    /// Of the stretch of the source that it shows.
    pub start_ms: u64,
    pub end_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CoverPicture {
    /// Of `cover.<extension>`.
    pub extension: String,
}

/// Names of numbered pictures.
pub fn numbered(prefix: &str, extension: &str, count: u64) -> impl Iterator<Item = String> {
    let (prefix, extension) = (prefix.to_owned(), extension.to_owned());
    (1..=count).map(move |number| format!("{prefix}{number}.{extension}"))
}

/// What was made from a file and is there, at most one result of each definition.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FileResults {
    pub renditions: Vec<Rendition>,
    pub adaptives: Vec<AdaptiveSet>,
    pub snapshots: Vec<SnapshotSet>,
    pub samples: Vec<SampleSet>,
    pub sprites: Vec<SpriteSet>,
    pub animated: Vec<AnimatedSet>,
}

impl FileResults {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Is this file of the folder part of a result?
    pub fn has(&self, name: &str) -> bool {
        self.files().any(|files| files.has(name))
    }

    fn files(&self) -> impl Iterator<Item = &ResultFiles> {
        let renditions = self.renditions.iter().map(|set| &set.files).chain(self.adaptives.iter().map(|set| &set.files));
        let pictures = self.snapshots.iter().map(|set| &set.files).chain(self.samples.iter().map(|set| &set.files));
        let moving = self.animated.iter().map(|set| &set.files);
        renditions.chain(pictures).chain(self.sprites.iter().map(|set| &set.files)).chain(moving)
    }

    /// Takes a result in, in place of an earlier one of the same definition, whose files are returned: they are to be removed.
    pub fn enter(&mut self, output: &SubtaskOutput) -> Option<ResultFiles> {
        fn put<T: Clone>(list: &mut Vec<T>, new: &T, definition: fn(&T) -> i64, files: fn(&T) -> &ResultFiles) -> Option<ResultFiles> {
            let old = list.iter().position(|known| definition(known) == definition(new)).map(|at| list.remove(at));
            let at = list.partition_point(|known| definition(known) < definition(new));
            list.insert(at, new.clone());
            old.map(|old| files(&old).clone())
        }
        match output {
            SubtaskOutput::Transcode(set) => put(&mut self.renditions, set, |set| set.definition, |set| &set.files),
            SubtaskOutput::AdaptiveDynamicStreaming(set) => put(&mut self.adaptives, set, |set| set.definition, |set| &set.files),
            SubtaskOutput::SnapshotByTimeOffset(set) => put(&mut self.snapshots, set, |set| set.definition, |set| &set.files),
            SubtaskOutput::SampleSnapshot(set) => put(&mut self.samples, set, |set| set.definition, |set| &set.files),
            SubtaskOutput::ImageSprites(set) => put(&mut self.sprites, set, |set| set.definition, |set| &set.files),
            SubtaskOutput::AnimatedGraphics(set) => put(&mut self.animated, set, |set| set.definition, |set| &set.files),
            SubtaskOutput::CoverBySnapshot(_) => None,
        }
    }

    /// Keeps the results whose files are there, as `is_there` knows them.
    pub fn keep_those_there(&mut self, is_there: impl Fn(&str) -> bool) {
        let numbered_there = |files: &ResultFiles, extension: &str, count| numbered(&files.prefix, extension, count).all(|name| is_there(&name));
        self.renditions.retain(|set| is_there(&set.files.entry));
        self.adaptives.retain(|set| is_there(&set.files.entry));
        self.snapshots.retain(|set| set.pictures.iter().all(|(_, name)| is_there(name)));
        self.samples.retain(|set| numbered_there(&set.files, &set.extension, set.count));
        self.sprites.retain(|set| is_there(&set.files.entry) && numbered_there(&set.files, &set.extension, set.sheets));
        self.animated.retain(|set| is_there(&set.files.entry));
    }

    /// Takes the renditions of this definition out (0: all); their files.
    pub fn remove_renditions(&mut self, definition: i64) -> Vec<ResultFiles> {
        let is_meant = |known: i64| definition == 0 || known == definition;
        let files = self.renditions.iter().filter(|set| is_meant(set.definition)).map(|set| set.files.clone()).collect();
        self.renditions.retain(|set| !is_meant(set.definition));
        files
    }

    /// As [`Self::remove_renditions`], of adaptive streams.
    pub fn remove_adaptives(&mut self, definition: i64) -> Vec<ResultFiles> {
        let is_meant = |known: i64| definition == 0 || known == definition;
        let files = self.adaptives.iter().filter(|set| is_meant(set.definition)).map(|set| set.files.clone()).collect();
        self.adaptives.retain(|set| !is_meant(set.definition));
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendition(definition: i64, prefix: &str) -> SubtaskOutput {
        let files = ResultFiles { entry: format!("v.f{definition}.m3u8"), prefix: prefix.to_owned() };
        SubtaskOutput::Transcode(Rendition { definition, files, ..Rendition::default() })
    }

    #[test]
    fn results_replace_those_of_their_definition() {
        let mut results = FileResults::default();
        assert_eq!(results.enter(&rendition(20, "v.f20.a.")), None);
        assert_eq!(results.enter(&rendition(10, "v.f10.a.")), None);
        let old = results.enter(&rendition(20, "v.f20.b.")).expect("one before");
        assert_eq!(old.prefix, "v.f20.a.");
        assert_eq!(results.renditions.iter().map(|set| set.definition).collect::<Vec<_>>(), [10, 20]);
        for (name, there) in
            [("v.f20.m3u8", true), ("v.f20.b.1.ts", true), ("v.f20.a.1.ts", false), ("v.f2", false), ("", false), ("recording.json", false)]
        {
            assert_eq!(results.has(name), there, "{name}");
        }
        assert_eq!(results.remove_renditions(10).len(), 1);
        assert_eq!(results.remove_renditions(10).len(), 0);
        assert_eq!(results.remove_renditions(0).len(), 1);
        assert!(results.is_empty());
    }

    #[test]
    fn subtasks_come_in_order_and_failed_ones_are_not_begun_again() {
        let process = MediaProcess {
            transcode_task_set: vec![TranscodeInput { definition: 875, ..TranscodeInput::default() }],
            cover_by_snapshot_task_set: vec![CoverInput { definition: 10, ..CoverInput::default() }],
            ..MediaProcess::default()
        };
        let mut task = ProcedureTask::new(FileId::new(FileId::MIN).unwrap(), NotifyMode::Finish, &process);
        assert_eq!(task.subtasks[0].input.definition(), (DefinitionKind::Snapshot, 10));
        assert_eq!(task.next(), Some(0));
        task.subtasks[0].state = SubtaskState::Fail;
        assert_eq!(task.next(), Some(1));
        task.subtasks[1].state = SubtaskState::Success;
        assert_eq!(task.next(), None);
        let text = serde_json::to_string(&task).unwrap();
        assert_eq!(serde_json::from_str::<ProcedureTask>(&text).unwrap(), task);
    }
}
