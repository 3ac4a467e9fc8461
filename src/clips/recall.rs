//! What the ring has kept, read again for recordings that begin in the past.
//!
//! ```text
//! core: recall(file) -> channel -> this thread -> a thread for the file: waits until it is finished, reads it -> batches -> core
//! ```
//!
//! The core asks and takes; whoever reads waits for it, with two batches in memory at most.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded, unbounded};

use crate::container::mp4::{self, StoredFrame};
use crate::container::{Recalled, RecalledBatch, RecalledFrame, Recalling};
use crate::delivery::Context;
use crate::delivery::resolve::{entry, stored};
use crate::segment::finish::{FileReader, media_name};
use crate::segment::store::Recaller;
use crate::units::FileId;

/// Media of one batch.
const BATCH_BYTES: u64 = 1 << 20;
/// Batches between the reader and the core.
const BATCHES: usize = 1;
/// A file that is just ending is looked at this often, until it is finished.
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(15);

type Answer = Result<RecalledBatch, String>;

struct Request {
    file: FileId,
    from_ms: Option<i64>,
    answers: Sender<Answer>,
}

/// Starts the thread that has files read; it ends when the last [`Recaller`] is gone.
///
/// # Errors
/// If there is no thread.
pub fn start(media: Arc<Context>) -> io::Result<Recaller> {
    // Bounded by what asks: a session in the past reads one file at a time.
    let (sender, requests) = unbounded::<Request>();
    std::thread::Builder::new().name("recall".to_owned()).spawn(move || run(&media, &requests))?;
    Ok(Arc::new(move |file, from_ms| {
        let (answers, receiver) = bounded(BATCHES);
        let _ = sender.send(Request { file, from_ms, answers });
        Box::new(Reading { receiver })
    }))
}

struct Reading {
    receiver: Receiver<Answer>,
}

impl Recalling for Reading {
    fn next(&mut self) -> Recalled {
        match self.receiver.try_recv() {
            Ok(Ok(batch)) => Recalled::Batch(batch),
            Ok(Err(why)) => Recalled::Failed(why),
            Err(TryRecvError::Empty) => Recalled::Wait,
            Err(TryRecvError::Disconnected) => Recalled::End,
        }
    }
}

fn run(media: &Arc<Context>, requests: &Receiver<Request>) {
    while let Ok(request) = requests.recv() {
        let (media, answers) = (Arc::clone(media), request.answers.clone());
        let work = move || {
            let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(&media, &request)));
            let why = match read {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "its reader panicked".to_owned(),
            };
            // Nobody there: the recording has ended meanwhile.
            let _ = request.answers.send(Err(why));
        };
        if let Err(error) = std::thread::Builder::new().name("recall-file".to_owned()).spawn(work) {
            let _ = answers.try_send(Err(format!("no thread can be started: {error}")));
        }
    }
}

fn read(media: &Context, request: &Request) -> io::Result<()> {
    let part = media_name(1, "m4s");
    let since = Instant::now();
    let file = loop {
        match entry(media, request.file).map_err(io::Error::other)? {
            Some(entry) if !entry.growing => break stored(media, &entry, &part)?,
            _ if since.elapsed() > PATIENCE => return Err(io::Error::new(io::ErrorKind::TimedOut, "it is not finished in time")),
            _ => std::thread::sleep(LOOK),
        }
    };
    let movie = mp4::read_movie(&FileReader::new(&file.file, file.file.metadata()?.len())).map_err(io::Error::other)?;
    let mut frames = &mp4::stored_frames(&movie, request.from_ms)[..];
    while let Some(first) = frames.first() {
        let end = |frame: &StoredFrame| frame.offset + u64::from(frame.bytes);
        let count = frames.iter().take_while(|frame| end(frame) - first.offset <= BATCH_BYTES).count().max(1);
        let (now, rest) = frames.split_at(count);
        let mut bytes = vec![0; (end(&now[count - 1]) - first.offset) as usize];
        file.file.read_exact_at(&mut bytes, first.offset)?;
        let frames_of = now.iter().map(|frame| {
            let at = (frame.offset - first.offset) as usize;
            let range = at..at + frame.bytes as usize;
            RecalledFrame { track: frame.track, further: frame.further, key: frame.key, time_ms: frame.time_ms, cts_ms: frame.cts_ms, range }
        });
        if request.answers.send(Ok(RecalledBatch { frames: frames_of.collect(), bytes })).is_err() {
            return Ok(());
        }
        frames = rest;
    }
    Ok(())
}
