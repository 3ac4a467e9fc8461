//! EditMedia: stretches of files joined into a new one; encoded where the call wants it, or where they are too unlike to be joined as they are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ClipMaker, Lane, store};
use crate::catalog::{CatalogError, MediaRow};
use crate::container::mp4::{self, CutPlan, Movie, Selection};
use crate::container::{MediaSummary, ScanError, es_movie, flv, hls};
use crate::domain::definition::VideoTemplate;
use crate::domain::flow::{FailKind, SubtaskError};
use crate::domain::join::{JoinFailure, JoinInput, JoinOrder, JoinVideo};
use crate::domain::naming::disk_slug;
use crate::domain::{EndReason, FinishedFile, MadeBy, RecordingIdentity, RecordingSource, VodTask, VodTaskStatus};
use crate::segment::finish::{FileReader, folder_bytes};
use crate::units::{FileId, Format, WallTime};

/// What a task of EditMedia has to do; stored with it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EditWork {
    pub stretches: Vec<Stretch>,
    /// Catalog name.
    pub name: String,
    pub format: Format,
    pub class_id: i64,
    pub expire: Option<WallTime>,
    pub procedure: String,
    /// The new file's id, once work has begun: every attempt makes the same file.
    pub file_id: Option<FileId>,
    /// What the call says of the video.
    #[serde(default)]
    pub video: Option<VideoTemplate>,
    /// The encoder makes it.
    #[serde(default)]
    pub encode: bool,
    /// How often the encoder began.
    #[serde(default)]
    pub attempts: u32,
}

/// A stretch of a file. Seconds from its begin; 0 as an end, or a negative number: counted from its end.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Stretch {
    pub file_id: FileId,
    pub start_s: f64,
    pub end_s: f64,
}

/// Why a task failed: `ErrCode` and a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EditError {
    pub code: i64,
    /// `ErrCodeExt`.
    pub kind: &'static str,
    pub message: String,
}

const BAD_INPUT: i64 = FailKind::Input.code();
const BAD_SOURCE: i64 = FailKind::Source.code();
const OURS: i64 = FailKind::Internal.code();
/// Attempts of the encoder at one task.
const ATTEMPTS_MAX: u32 = 3;
/// How often it is looked whether a task was cancelled.
const CANCEL_LOOK: Duration = Duration::from_secs(1);
/// What the encoder makes, before it has its name.
const JOINED_NAME: &str = "joined.mp4";
/// Sound that was encoded.
const JOINED_RATE_HZ: u32 = 44_100;
const JOINED_CHANNELS: u8 = 2;

/// What became of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Over,
    /// It was handed to the other lane.
    NeedsEncoder,
    /// Another attempt, or another start, does it.
    Later,
}

/// Why there is no file.
enum Trouble {
    Failed(EditError),
    /// It cannot be made without: why.
    NeedsEncoder(String),
    /// It may go well another time.
    Again(SubtaskError),
    /// Cancelled, or the appliance stops.
    Stopped,
}

impl From<EditError> for Trouble {
    fn from(error: EditError) -> Self {
        Self::Failed(error)
    }
}

/// Whose task it is.
pub fn lane_of(task: &VodTask) -> Lane {
    if task.work["encode"] == true { Lane::Encode } else { Lane::Cut }
}

fn fail(code: i64, kind: &'static str, message: impl Into<String>) -> EditError {
    EditError { code, kind, message: message.into() }
}

fn ours(what: &'static str) -> impl Fn(io::Error) -> EditError {
    move |error| fail(OURS, "InternalError", format!("{what}: {error}"))
}

/// Does a task and says what came of it.
pub fn carry_out(maker: &ClipMaker, lane: Lane, mut task: VodTask, stopping: &AtomicBool) -> Outcome {
    let id = task.id.clone();
    let mut attempts = 0;
    let outcome = begin(maker, lane, &mut task).map_err(Trouble::from).and_then(|(work, file_id)| {
        attempts = work.attempts;
        let file = make(maker, &task, &work, file_id, stopping)?;
        finish(maker, &id, &work, file).map_err(Trouble::from)
    });
    let error = match outcome {
        Ok(()) => return Outcome::Over,
        Err(Trouble::NeedsEncoder(why)) if maker.join.is_some() => {
            tracing::info!(task = id, why, "EditMedia needs the encoder");
            let hand_over = |task: &mut VodTask| task.work["encode"] = true.into();
            return match maker.catalog.change_vod_task(&id, hand_over) {
                Ok(()) => Outcome::NeedsEncoder,
                Err(CatalogError::NotFound) => Outcome::Over,
                Err(_) => Outcome::Later,
            };
        }
        Err(Trouble::NeedsEncoder(why)) => fail(OURS, "EncoderNeeded", why),
        // Cancelled it is over, and not looked at again.
        Err(Trouble::Stopped) => return if stopping.load(Ordering::SeqCst) { Outcome::Later } else { Outcome::Over },
        Err(Trouble::Again(error)) if attempts < ATTEMPTS_MAX => {
            tracing::warn!(task = id, attempts, reason = error.message, "EditMedia failed; trying again");
            return Outcome::Later;
        }
        Err(Trouble::Again(error)) => fail(error.kind.code(), error.kind.code_ext(), error.message),
        Err(Trouble::Failed(error)) => error,
    };
    tracing::warn!(task = id, code = error.code, reason = error.message, "EditMedia failed");
    let now = (maker.clock)();
    let failed = move |task: &mut VodTask| {
        (task.status, task.finish_time) = (VodTaskStatus::Finish, Some(now));
        task.begin_time.get_or_insert(now);
        show(task, error.code, error.kind, &error.message, Value::Null, Value::Null);
    };
    match maker.catalog.change_vod_task(&id, failed) {
        Ok(()) | Err(CatalogError::NotFound) => Outcome::Over,
        Err(error) => {
            tracing::error!(task = id, %error, "the end of a task cannot be stored; it is done again");
            Outcome::Later
        }
    }
}

/// Notes that the work begins: under which id, and how often.
fn begin(maker: &ClipMaker, lane: Lane, task: &mut VodTask) -> Result<(EditWork, FileId), EditError> {
    let mut work: EditWork =
        serde_json::from_value(task.work.clone()).map_err(|error| fail(OURS, "InternalError", format!("the task cannot be read: {error}")))?;
    let file_id = *work.file_id.get_or_insert_with(|| maker.ids.next());
    work.attempts += u32::from(lane == Lane::Encode);
    if work.attempts > ATTEMPTS_MAX {
        return Err(fail(OURS, "InternalError", "The encoder was interrupted too often."));
    }
    let stored = serde_json::to_value(&work).unwrap_or_default();
    let begun = (maker.clock)();
    task.work = stored.clone();
    let begin = move |task: &mut VodTask| {
        (task.status, task.work) = (VodTaskStatus::Processing, stored);
        task.begin_time.get_or_insert(begun);
    };
    maker.catalog.change_vod_task(&task.id, begin).map_err(catalog)?;
    Ok((work, file_id))
}

fn catalog(error: CatalogError) -> EditError {
    fail(OURS, "InternalError", error.to_string())
}

fn show(task: &mut VodTask, code: i64, kind: &str, message: &str, output: Value, meta: Value) {
    if let Some(object) = task.object.as_object_mut() {
        object.insert("ErrCode".to_owned(), json!(code));
        object.insert("ErrCodeExt".to_owned(), json!(kind));
        object.insert("Message".to_owned(), json!(message));
        object.insert("Progress".to_owned(), json!(100));
        object.insert("Output".to_owned(), output);
        object.insert("MetaData".to_owned(), meta);
    }
}

/// One media file of an input.
struct Source {
    file: File,
    movie: Movie,
}

fn make(maker: &ClipMaker, task: &VodTask, work: &EditWork, file_id: FileId, stopping: &AtomicBool) -> Result<FinishedFile, Trouble> {
    let ids: Vec<FileId> = work.stretches.iter().map(|stretch| stretch.file_id).collect();
    let rows = maker.catalog.files(task.sub_app_id, &ids).map_err(catalog)?;
    let mut inputs = Vec::new();
    for stretch in &work.stretches {
        let row =
            rows.get(&stretch.file_id).ok_or_else(|| fail(BAD_SOURCE, "FileNotExist", format!("There is no file {} any more.", stretch.file_id)))?;
        if row.extras.original_deleted {
            return Err(fail(BAD_SOURCE, "FileNotExist", format!("The original of {} was deleted.", stretch.file_id)).into());
        }
        if row.file.identity.encryption.is_some() {
            let message = format!("The recording {} is encrypted: it is not cut, so that it lies nowhere in the clear.", stretch.file_id);
            return Err(fail(BAD_SOURCE, "EncryptedFile", message).into());
        }
        inputs.push((stretch, row));
    }
    let (_, model) = *inputs.first().ok_or_else(|| fail(BAD_INPUT, "NoInput", "There is no input."))?;
    let making = store::begin(&maker.storage, file_id).map_err(ours("making a folder"))?;
    let made = &making.folder;
    let entry = format!("{}.{}", disk_slug(&model.file.identity.key.stream), if work.format == Format::Hls { "m3u8" } else { "mp4" });
    let summary = if work.encode { encode(maker, task, work, &inputs, made, &entry, stopping)? } else { cut(maker, work, &inputs, made, &entry)? };
    let now = (maker.clock)();
    let identity = RecordingIdentity {
        file_id,
        format: work.format,
        source: RecordingSource::Made(MadeBy::EditMedia),
        push_url: String::new(),
        stream_param: String::new(),
        start: model.file.identity.start,
        storage_time_s: work.expire.map_or(0, |expire| (expire.unix_seconds() - now.unix_seconds()).max(1) as u64),
        vod_sub_app_id: task.sub_app_id,
        vod_file_name: String::new(),
        procedure: work.procedure.clone(),
        class_id: work.class_id,
        ..model.file.identity.clone()
    };
    let file = FinishedFile {
        end: now,
        reason: EndReason::TaskEnded,
        folder: format!("media/{}/{file_id}", crate::segment::finish::day(now, &maker.storage.settings().time_zone)),
        entry,
        size_bytes: folder_bytes(made).map_err(ours("measuring"))?,
        receipt: Default::default(),
        summary,
        identity,
    };
    Ok(store::publish(&maker.storage, &making, file).map_err(ours("moving the file to its place"))?)
}

/// Copies the stretches as they are; what it holds.
fn cut(maker: &ClipMaker, work: &EditWork, inputs: &[(&Stretch, &MediaRow)], made: &Path, entry: &str) -> Result<MediaSummary, Trouble> {
    let (mut sources, mut chosen): (Vec<Source>, Vec<(usize, Selection)>) = (Vec::new(), Vec::new());
    for (stretch, row) in inputs {
        let first = sources.len();
        sources.extend(open(maker, row)?);
        choose(&sources[first..], first, stretch, &mut chosen)?;
    }
    let movies: Vec<&Movie> = sources.iter().map(|source| &source.movie).collect();
    if !mp4::are_alike(&movies) {
        return Err(Trouble::NeedsEncoder("The inputs have different codec parameters; joining them needs an encoder.".to_owned()));
    }
    let plan = mp4::plan_cut(&movies, &chosen);
    let files: Vec<&File> = sources.iter().map(|source| &source.file).collect();
    let written = match work.format {
        Format::Hls => write_hls(maker, made, &files, &plan, entry),
        _ => write_mp4(&made.join(entry), &files, &plan),
    };
    written.map_err(ours("writing the file"))?;
    let mut summary = plan.summary;
    name_codecs(&mut summary, inputs[0].1);
    Ok(summary)
}

/// Has the encoder join the stretches; what came of it.
fn encode(
    maker: &ClipMaker,
    task: &VodTask,
    work: &EditWork,
    inputs: &[(&Stretch, &MediaRow)],
    made: &Path,
    entry: &str,
    stopping: &AtomicBool,
) -> Result<MediaSummary, Trouble> {
    let Some(join) = &maker.join else { return Err(fail(OURS, "EncoderNeeded", "Nothing is encoded here.").into()) };
    let inputs = inputs.iter().map(|(stretch, row)| join_input(maker, stretch, row)).collect::<Result<Vec<_>, EditError>>()?;
    let order = JoinOrder { inputs, video: work.video.clone().unwrap_or_default() };
    let looked = Mutex::new(Instant::now());
    let stop = || {
        if stopping.load(Ordering::SeqCst) {
            return true;
        }
        let mut looked = looked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if looked.elapsed() < CANCEL_LOOK {
            return false;
        }
        *looked = Instant::now();
        maker.catalog.any_vod_task(&task.id).is_ok_and(|task| task.status.is_over())
    };
    let joined = join((&task.id, task.sub_app_id), &order, (made, JOINED_NAME), &stop, &|percent| maker.catalog.set_progress(&task.id, 0, percent));
    maker.catalog.clear_progress(&task.id);
    joined.map_err(|failure| match failure {
        JoinFailure::Stopped => Trouble::Stopped,
        JoinFailure::Again(error) => Trouble::Again(error),
        JoinFailure::Final(error) => fail(error.kind.code(), error.kind.code_ext(), error.message).into(),
    })?;
    let path = made.join(JOINED_NAME);
    let unreadable = |error: ScanError| fail(OURS, "InternalError", format!("what the encoder made cannot be read: {error}"));
    let file = File::open(&path).map_err(ours("opening what the encoder made"))?;
    let length = file.metadata().map_err(ours("measuring what the encoder made"))?.len();
    let movie = mp4::read_movie(&FileReader::new(&file, length)).map_err(unreadable)?;
    let whole = mp4::select(&movie, movie.begin_ms(), i64::MAX / 2_000).ok_or_else(|| fail(OURS, "InternalError", "The encoder made nothing."))?;
    let plan = mp4::plan_cut(&[&movie], &[(0, whole)]);
    match work.format {
        Format::Hls => write_hls(maker, made, &[&file], &plan, entry).and_then(|()| std::fs::remove_file(&path)),
        _ => std::fs::rename(&path, made.join(entry)),
    }
    .map_err(ours("writing the file"))?;
    let mut summary = plan.summary;
    if let Some(video) = &mut summary.video {
        video.codec = if order.video.codec == "libx265" { "hevc" } else { "h264" }.to_owned();
    }
    if let Some(audio) = &mut summary.audio {
        (audio.codec, audio.sample_rate_hz, audio.channels) = ("aac".to_owned(), JOINED_RATE_HZ, JOINED_CHANNELS);
    }
    Ok(summary)
}

fn join_input(maker: &ClipMaker, stretch: &Stretch, row: &MediaRow) -> Result<JoinInput, EditError> {
    let summary = &row.file.summary;
    let folder = maker.storage.path_of(&row.file.folder).and_then(|folder| folder.canonicalize()).map_err(ours("finding a recording"))?;
    let (start, end) = bounds(stretch, summary.duration_ms as i64);
    if start >= end {
        return Err(nothing(stretch, start, end, summary.duration_ms as i64));
    }
    Ok(JoinInput {
        path: folder.join(&row.file.entry).to_string_lossy().into_owned(),
        start_ms: start.max(0) as u64,
        length_ms: (end - start.max(0)) as u64,
        video: summary.video.as_ref().map(|track| JoinVideo {
            width: track.width.into(),
            height: track.height.into(),
            fps: if track.duration_ms > 0 { track.frames as f64 * 1_000.0 / track.duration_ms as f64 } else { 0.0 },
        }),
        has_audio: summary.audio.is_some(),
    })
}

/// What the container does not say of its tracks is what it was in the recording.
pub fn name_codecs(summary: &mut MediaSummary, model: &MediaRow) {
    let of = &model.file.summary;
    for (track, model) in [(&mut summary.video, &of.video), (&mut summary.audio, &of.audio)] {
        if let (Some(track), Some(model)) = (track, model) {
            (track.codec, track.sample_rate_hz, track.channels) = (model.codec.clone(), model.sample_rate_hz, model.channels);
        }
    }
}

/// The media files of an input, in their order.
fn open(maker: &ClipMaker, row: &MediaRow) -> Result<Vec<Source>, Trouble> {
    let identity = &row.file.identity;
    let folder = maker.storage.path_of(&row.file.folder).map_err(ours("finding a recording"))?;
    let paths: Vec<PathBuf> = match identity.format {
        Format::Mp4 | Format::Flv | Format::Aac | Format::Mp3 => vec![folder.join(&row.file.entry)],
        Format::Hls => crate::segment::finish::media_files(&folder, identity, &row.file.entry)
            .map_err(ours("listing a recording"))?
            .into_iter()
            .map(|(_, name)| folder.join(name))
            .collect(),
    };
    if paths.is_empty() || paths.iter().any(|path| path.extension().is_some_and(|extension| extension == "ts")) {
        return Err(Trouble::NeedsEncoder(
            "Cutting files made of transport stream needs an encoder; SimpleHlsClip takes whole segments out of it.".to_owned(),
        ));
    }
    let source = |path: PathBuf| {
        let file = File::open(&path).map_err(ours("opening a recording"))?;
        let length = file.metadata().map_err(ours("measuring a recording"))?.len();
        let reader = FileReader::new(&file, length);
        let movie = match identity.format {
            Format::Flv => flv::movie(&reader),
            Format::Aac => es_movie::adts(&reader),
            Format::Mp3 => es_movie::mp3(&reader),
            Format::Mp4 | Format::Hls => mp4::read_movie(&reader),
        };
        let movie =
            movie.map_err(|error: ScanError| fail(BAD_SOURCE, "UnreadableFile", format!("File {} cannot be read: {error}.", identity.file_id)))?;
        Ok(Source { file, movie })
    };
    Ok(paths.into_iter().map(source).collect::<Result<_, EditError>>()?)
}

/// Begin and end of a stretch of a file of `whole` milliseconds.
fn bounds(stretch: &Stretch, whole: i64) -> (i64, i64) {
    let ms = |seconds: f64| (seconds * 1_000.0).round() as i64;
    let start = if stretch.start_s < 0.0 { whole + ms(stretch.start_s) } else { ms(stretch.start_s) };
    let end = if stretch.end_s <= 0.0 { whole + ms(stretch.end_s) } else { ms(stretch.end_s).min(whole) };
    (start, end)
}

fn nothing(stretch: &Stretch, start: i64, end: i64, whole: i64) -> EditError {
    let message = format!("File {} has nothing between {start} ms and {end} ms; it is {whole} ms long.", stretch.file_id);
    fail(BAD_INPUT, "InvalidOffset", message)
}

/// Takes a stretch out of the parts of an input, which follow one another.
fn choose(parts: &[Source], first: usize, stretch: &Stretch, chosen: &mut Vec<(usize, Selection)>) -> Result<(), EditError> {
    let lengths: Vec<i64> = parts.iter().map(|part| part.movie.duration_ms() as i64).collect();
    let whole: i64 = lengths.iter().sum();
    let (start, end) = bounds(stretch, whole);
    let before = chosen.len();
    let mut at = 0;
    for (number, part) in parts.iter().enumerate() {
        let (begin, until) = (start.max(at) - at, end.min(at + lengths[number]) - at);
        if begin < until {
            let zero = part.movie.begin_ms();
            // The last frame ends where the movie does.
            let until = if until >= lengths[number] { i64::MAX / 2_000 } else { until + zero };
            chosen.extend(mp4::select(&part.movie, begin + zero, until).map(|selection| (first + number, selection)));
        }
        at += lengths[number];
    }
    if chosen.len() == before {
        return Err(nothing(stretch, start, end, whole));
    }
    Ok(())
}

fn write_mp4(path: &Path, files: &[&File], plan: &CutPlan) -> io::Result<()> {
    let out = store::create(path)?;
    out.write_all_at(&plan.head, 0)?;
    for copy in &plan.copies {
        store::copy(files[copy.input], copy.from, &out, copy.to, copy.bytes)?;
    }
    out.set_len(plan.bytes)
}

/// The same cut as HLS: it begins at the key frame, for a playlist has no edit list. `entry`: its playlist.
fn write_hls(maker: &ClipMaker, folder: &Path, files: &[&File], plan: &CutPlan, entry: &str) -> io::Result<()> {
    let whole = folder.join("cut.mp4");
    write_mp4(&whole, files, plan)?;
    let source = File::open(&whole)?;
    let length = source.metadata()?.len();
    let movie = mp4::read_movie(&FileReader::new(&source, length)).map_err(io::Error::other)?;
    let segments = mp4::segments(&movie, maker.storage.settings().hls_segment_ms);
    std::fs::write(folder.join("init-1.m4s"), mp4::init(&movie))?;
    let out = store::create(&folder.join("media-1.m4s"))?;
    let longest = segments.iter().map(|segment| segment.duration_ms).max().unwrap_or(0);
    let mut text = hls::header(hls::SegmentContainer::Fmp4, maker.storage.settings().hls_segment_ms.max(longest.div_ceil(2)), false);
    hls::push_part(&mut text, Some("init-1.m4s"), false);
    let mut offset = 0;
    for (number, segment) in segments.iter().enumerate() {
        let bytes = mp4::fragment(&movie, number as u32 + 1, segment, |at, buffer| source.read_exact_at(buffer, at))?;
        out.write_all_at(&bytes, offset)?;
        let listed = hls::Segment {
            offset,
            bytes: bytes.len() as u64,
            start_ms: segment.start_ms,
            duration_ms: segment.duration_ms,
            key: true,
            discontinuity: false,
        };
        hls::push_segment(&mut text, &listed, "media-1.m4s", None);
        offset += bytes.len() as u64;
    }
    text.push_str(hls::ENDLIST);
    std::fs::remove_file(whole)?;
    std::fs::write(folder.join(entry), text)
}

/// Enters the file; file, task and event are one transaction.
fn finish(maker: &ClipMaker, id: &str, work: &EditWork, file: FinishedFile) -> Result<(), EditError> {
    let now = (maker.clock)();
    let file_id = file.identity.file_id;
    let describe = maker.describe;
    let (public_base, app_id) = (maker.public_base.clone(), maker.app_id);
    let done = move |task: &mut VodTask, row: &MediaRow| {
        let (output, meta) = describe(row, &public_base, app_id);
        (task.status, task.finish_time) = (VodTaskStatus::Finish, Some(now));
        show(task, 0, "", "", output, meta);
    };
    let size_bytes = file.size_bytes;
    maker.catalog.finish_vod_task(id, (file, work.name.clone()), now, done).map_err(catalog)?;
    tracing::info!(task = id, %file_id, bytes = size_bytes, "EditMedia made a file");
    Ok(())
}
