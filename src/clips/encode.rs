//! EditMedia by the encoder: stretches of files that are too unlike to be joined as they are, or whose video the call wants otherwise.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::ClipMaker;
use super::edit::{EditError, EditWork, OURS, Stretch, Trouble, bounds, fail, nothing, ours, write_hls};
use crate::catalog::MediaRow;
use crate::container::mp4;
use crate::container::{MediaSummary, ScanError};
use crate::domain::VodTask;
use crate::domain::join::{JoinFailure, JoinInput, JoinOrder, JoinVideo};
use crate::segment::finish::FileReader;
use crate::units::Format;

/// How often it is looked whether a task was cancelled.
const CANCEL_LOOK: Duration = Duration::from_secs(1);
/// What the encoder makes, before it has its name.
const JOINED_NAME: &str = "joined.mp4";
/// Sound that was encoded.
const JOINED_RATE_HZ: u32 = 44_100;
const JOINED_CHANNELS: u8 = 2;

/// Has the encoder join the stretches; what came of it.
pub fn encode(
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
        let mut looked = looked.lock().unwrap_or_else(PoisonError::into_inner);
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
    let mut summary = plan.summary.clone();
    let written = match work.format {
        Format::Hls => write_hls(maker, made, &[&file], &plan, entry).and_then(|movie| {
            summary = mp4::summary_of(&movie);
            std::fs::remove_file(&path)
        }),
        _ => std::fs::rename(&path, made.join(entry)),
    };
    written.map_err(ours("writing the file"))?;
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
