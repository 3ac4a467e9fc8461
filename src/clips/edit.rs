//! EditMedia: stretches of files joined into a new one; encoded where the call wants it, or where they are too unlike to be joined as they are.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::encode::encode;
use super::{ClipMaker, Lane, store};
use crate::catalog::{CatalogError, MediaRow};
use crate::container::mp4::{self, CutPlan, Movie, Selection};
use crate::container::mpegts::{self, TsScan};
use crate::container::{MediaSummary, ScanError, es_movie, flv, hls};
use crate::domain::definition::VideoTemplate;
use crate::domain::flow::{FailKind, SubtaskError};
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
pub(super) const OURS: i64 = FailKind::Internal.code();

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
pub(super) enum Trouble {
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

pub(super) fn fail(code: i64, kind: &'static str, message: impl Into<String>) -> EditError {
    EditError { code, kind, message: message.into() }
}

pub(super) fn ours(what: &'static str) -> impl Fn(io::Error) -> EditError {
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
        Err(Trouble::Stopped) if stopping.load(Ordering::SeqCst) => {
            // It was we who stopped it: the attempt does not count.
            let uncounted = move |task: &mut VodTask| task.work["attempts"] = attempts.saturating_sub(1).into();
            if let Err(error) = maker.catalog.change_vod_task(&id, uncounted) {
                tracing::debug!(task = id, %error, "an attempt that was stopped counts");
            }
            return Outcome::Later;
        }
        // Cancelled it is over, and not looked at again.
        Err(Trouble::Stopped) => return Outcome::Over,
        Err(Trouble::Again(error)) if attempts < maker.attempts_max => {
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
    if work.attempts > maker.attempts_max {
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

/// A file, and the samples in it.
struct Source {
    file: File,
    movie: Movie,
}

/// One media file of an input.
struct Part {
    file: File,
    index: Index,
}

enum Index {
    Samples(Movie),
    /// Its frames are not as MP4 has them: those that are wanted are written anew first.
    Ts(Box<TsScan>),
}

impl Part {
    fn duration_ms(&self) -> i64 {
        match &self.index {
            Index::Samples(movie) => movie.duration_ms() as i64,
            Index::Ts(scan) => scan.plan.summary.duration_ms as i64,
        }
    }

    /// Time of what is shown first.
    fn begin_ms(&self) -> i64 {
        match &self.index {
            Index::Samples(movie) => movie.begin_ms(),
            Index::Ts(scan) => scan.begin_ms,
        }
    }
}

/// What is taken of a part: from one time to another, as the part counts.
struct Taken {
    part: usize,
    begin_ms: i64,
    end_ms: i64,
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
    let (mut parts, mut taken): (Vec<Part>, Vec<Taken>) = (Vec::new(), Vec::new());
    for (stretch, row) in inputs {
        let first = parts.len();
        parts.extend(open(maker, row)?);
        choose(&parts[first..], first, stretch, &mut taken)?;
    }
    let (sources, chosen) = select(parts, &taken, made)?;
    if chosen.is_empty() {
        return Err(fail(BAD_INPUT, "InvalidOffset", "There is not one frame between the offsets.").into());
    }
    let movies: Vec<&Movie> = sources.iter().map(|source| &source.movie).collect();
    if let Some(difference) = mp4::difference(&movies) {
        return Err(Trouble::NeedsEncoder(format!("These inputs cannot be joined without an encoder: {difference}.")));
    }
    let plan = mp4::plan_cut(&movies, &chosen);
    let files: Vec<&File> = sources.iter().map(|source| &source.file).collect();
    let mut summary = plan.summary.clone();
    match work.format {
        // It begins with the key frame: that is what it holds.
        Format::Hls => summary = mp4::summary_of(&write_hls(maker, made, &files, &plan, entry).map_err(ours("writing the segments"))?),
        _ => write_mp4(&made.join(entry), &files, &plan).map_err(ours("writing the file"))?,
    }
    name_codecs(&mut summary, inputs[0].1);
    Ok(summary)
}

/// What the container does not say of its tracks is what it was in the recording.
pub fn name_codecs(summary: &mut MediaSummary, model: &MediaRow) {
    let of = &model.file.summary;
    let first = summary.video.as_mut().zip(of.video.as_ref()).into_iter().chain(summary.audio.as_mut().zip(of.audio.as_ref()));
    let further = summary.further_video.iter_mut().zip(&of.further_video).chain(summary.further_audio.iter_mut().zip(&of.further_audio));
    for (track, model) in first.chain(further) {
        (track.codec, track.sample_rate_hz, track.channels) = (model.codec.clone(), model.sample_rate_hz, model.channels);
    }
}

/// The media files of an input, in their order.
fn open(maker: &ClipMaker, row: &MediaRow) -> Result<Vec<Part>, EditError> {
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
    let part = |path: PathBuf| {
        let file = File::open(&path).map_err(ours("opening a recording"))?;
        let length = file.metadata().map_err(ours("measuring a recording"))?.len();
        let reader = FileReader::new(&file, length);
        let is_ts = path.extension().is_some_and(|extension| extension == "ts");
        let index = match identity.format {
            Format::Hls if is_ts => mpegts::scan(&reader).map(|scan| Index::Ts(Box::new(scan))),
            Format::Flv => flv::movie(&reader).map(Index::Samples),
            Format::Aac => es_movie::adts(&reader).map(Index::Samples),
            Format::Mp3 => es_movie::mp3(&reader).map(Index::Samples),
            Format::Mp4 | Format::Hls => mp4::read_movie(&reader).map(Index::Samples),
        };
        let index = index.map_err(unreadable(identity.file_id))?;
        Ok(Part { file, index })
    };
    paths.into_iter().map(part).collect()
}

fn unreadable(file_id: FileId) -> impl Fn(ScanError) -> EditError {
    move |error| fail(BAD_SOURCE, "UnreadableFile", format!("File {file_id} cannot be read: {error}."))
}

/// Begin and end of a stretch of a file of `whole` milliseconds.
pub(super) fn bounds(stretch: &Stretch, whole: i64) -> (i64, i64) {
    let ms = |seconds: f64| (seconds * 1_000.0).round() as i64;
    let start = if stretch.start_s < 0.0 { whole + ms(stretch.start_s) } else { ms(stretch.start_s) };
    let end = if stretch.end_s <= 0.0 { whole + ms(stretch.end_s) } else { ms(stretch.end_s).min(whole) };
    (start, end)
}

pub(super) fn nothing(stretch: &Stretch, start: i64, end: i64, whole: i64) -> EditError {
    let message = format!("File {} has nothing between {start} ms and {end} ms; it is {whole} ms long.", stretch.file_id);
    fail(BAD_INPUT, "InvalidOffset", message)
}

/// What of the parts of an input, which follow one another, makes the stretch.
fn choose(parts: &[Part], first: usize, stretch: &Stretch, taken: &mut Vec<Taken>) -> Result<(), EditError> {
    let lengths: Vec<i64> = parts.iter().map(Part::duration_ms).collect();
    let whole: i64 = lengths.iter().sum();
    let (start, end) = bounds(stretch, whole);
    let before = taken.len();
    let mut at = 0;
    for (number, part) in parts.iter().enumerate() {
        let (begin, until) = (start.max(at) - at, end.min(at + lengths[number]) - at);
        if begin < until {
            let zero = part.begin_ms();
            // The last frame ends where the movie does.
            let end_ms = if until >= lengths[number] { i64::MAX / 2_000 } else { until + zero };
            taken.push(Taken { part: first + number, begin_ms: begin + zero, end_ms });
        }
        at += lengths[number];
    }
    if taken.len() == before {
        return Err(nothing(stretch, start, end, whole));
    }
    Ok(())
}

/// Files with the samples that make what is taken, and which ones: of a source, and what of it.
type Selected = (Vec<Source>, Vec<(usize, Selection)>);

fn select(parts: Vec<Part>, taken: &[Taken], folder: &Path) -> Result<Selected, EditError> {
    let (mut sources, mut chosen): Selected = (Vec::new(), Vec::new());
    for (number, Part { file, index }) in parts.into_iter().enumerate() {
        let mine = || taken.iter().filter(|taken| taken.part == number);
        match index {
            Index::Samples(movie) => {
                let selection = |taken: &Taken| mp4::select(&movie, taken.begin_ms, taken.end_ms);
                chosen.extend(mine().filter_map(selection).map(|selection| (sources.len(), selection)));
                sources.push(Source { file, movie });
            }
            Index::Ts(scan) => {
                for taken in mine() {
                    let source = remux(&file, &scan, taken, folder)?;
                    let bias = mpegts::TIME_BIAS_MS;
                    let selection = mp4::select(&source.movie, taken.begin_ms + bias, taken.end_ms + bias);
                    chosen.extend(selection.map(|selection| (sources.len(), selection)));
                    sources.push(source);
                }
            }
        }
    }
    Ok((sources, chosen))
}

/// Sound of a segment may begin so much before its picture, or end after it.
const SOUND_ASIDE_MS: i64 = 1_000;

/// The frames of the segments of a transport stream that hold what is taken, written to a file that nobody else sees.
fn remux(file: &File, scan: &TsScan, taken: &Taken, folder: &Path) -> Result<Source, EditError> {
    let before = scan.segments.iter().rposition(|segment| segment.key && segment.pts_ms <= taken.begin_ms - SOUND_ASIDE_MS).unwrap_or(0);
    let behind = scan.segments.iter().find(|segment| segment.pts_ms >= taken.end_ms.saturating_add(SOUND_ASIDE_MS));
    let from = scan.segments.get(before).map_or(0, |segment| segment.offset);
    let to = behind.map_or(scan.plan.truncate_to, |segment| segment.offset);
    let path = folder.join("frames");
    let frames = store::create(&path).map_err(ours("making a file for frames"))?;
    std::fs::remove_file(&path).map_err(ours("hiding a file for frames"))?;
    let mut out = BufWriter::with_capacity(1 << 20, &frames);
    let movie = mpegts::remux(&FileReader::new(file, scan.plan.truncate_to), from..to, |bytes| out.write_all(bytes));
    let movie = movie.map_err(|error| fail(BAD_SOURCE, "UnreadableFile", format!("A transport stream cannot be read: {error}.")))?;
    out.flush().map_err(ours("writing frames"))?;
    drop(out);
    Ok(Source { file: frames, movie })
}

fn write_mp4(path: &Path, files: &[&File], plan: &CutPlan) -> io::Result<()> {
    let out = store::create(path)?;
    out.write_all_at(&plan.head, 0)?;
    for copy in &plan.copies {
        store::copy(files[copy.input], copy.from, &out, copy.to, copy.bytes)?;
    }
    out.set_len(plan.bytes)
}

/// The same cut as HLS: it begins at the key frame, for a playlist has no edit list. `entry`: its playlist. Returns what it plays.
pub(super) fn write_hls(maker: &ClipMaker, folder: &Path, files: &[&File], plan: &CutPlan, entry: &str) -> io::Result<Movie> {
    let whole = folder.join("cut.mp4");
    write_mp4(&whole, files, plan)?;
    let source = File::open(&whole)?;
    let length = source.metadata()?.len();
    // A playlist shows the first tracks.
    let movie = mp4::read_movie(&FileReader::new(&source, length)).map_err(io::Error::other)?.first_ones();
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
    std::fs::write(folder.join(entry), text)?;
    Ok(movie)
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
