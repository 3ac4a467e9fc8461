//! The recordings that are open now, and those that have just ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::domain::{RecordingIdentity, RecordingSource};
use crate::units::{FileId, Format, MonoTime, StreamKey};

/// So long a stream that has ended is still found where it was watched: players ask again every few seconds and finish what they show, also behind a
/// pause or a proxy that is slow.
const ENDED_KEPT_MS: u64 = 300_000;
/// Of more recordings at once the oldest are forgotten earlier (each is below 1 KiB).
const ENDED_MAX: usize = 4_096;
/// The recordings of a publication end together, as fast as they are finished.
const END_TOGETHER_MS: u64 = 10_000;

/// Kept by the disk threads of a folder; asked by those who play what is still being recorded.
#[derive(Debug, Default)]
pub struct OpenRecordings(Mutex<Recordings>);

/// What is watched of a stream.
#[derive(Clone, Debug)]
pub struct Watched {
    pub identity: RecordingIdentity,
    /// It goes on.
    pub is_open: bool,
}

#[derive(Debug, Default)]
struct Recordings {
    open: BTreeMap<FileId, RecordingIdentity>,
    /// Of formats that are watched; the newest last.
    ended: VecDeque<(MonoTime, RecordingIdentity)>,
}

impl OpenRecordings {
    fn with<T>(&self, act: impl FnOnce(&mut Recordings) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn begun(&self, identity: &RecordingIdentity) {
        self.with(|recordings| recordings.open.insert(identity.file_id, identity.clone()));
    }

    /// A recording that an earlier run had begun goes on.
    pub(super) fn goes_on(&self, file_id: FileId, read: impl FnOnce() -> Option<RecordingIdentity>) {
        let is_known = self.with(|recordings| recordings.open.contains_key(&file_id));
        if let (false, Some(identity)) = (is_known, if is_known { None } else { read() }) {
            self.begun(&identity);
        }
    }

    /// What its folder says of it, if it was begun or gone on with here.
    pub(super) fn ended(&self, file_id: FileId, now: MonoTime) -> Option<RecordingIdentity> {
        self.with(|recordings| {
            let identity = recordings.open.remove(&file_id)?;
            if quality(&identity).is_some() {
                recordings.forget_old(now);
                if recordings.ended.len() == ENDED_MAX {
                    recordings.ended.pop_front();
                }
                recordings.ended.push_back((now, identity.clone()));
            }
            Some(identity)
        })
    }

    /// Open recordings of one format that `matches`, the newest last.
    pub fn find(&self, format: Format, matches: impl Fn(&StreamKey) -> bool) -> Vec<RecordingIdentity> {
        let is_it = |identity: &&RecordingIdentity| identity.format == format && matches(&identity.key);
        self.with(|recordings| recordings.open.values().filter(is_it).cloned().collect())
    }

    /// The recording by which a stream is watched: HLS, or MP4 or FLV, which are packaged; the newest of them.
    ///
    /// Whoever watches finishes what he sees: while the recordings of a publication are finished one after the other, he is not led to another one of them,
    /// and when all are, and nothing else of the stream has begun, to the one that was watched last.
    pub fn watched(&self, now: MonoTime, matches: impl Fn(&StreamKey) -> bool) -> Option<Watched> {
        self.with(|recordings| {
            recordings.forget_old(now);
            let open = recordings.open.values().filter(|identity| matches(&identity.key));
            let open =
                open.filter_map(|identity| Some((quality(identity)?, identity))).max_by_key(|(quality, identity)| (*quality, identity.file_id));
            let ended = || recordings.ended.iter().rev().filter(|(_, identity)| matches(&identity.key));
            let (since, publication) = match open {
                Some((_, identity)) => (now, identity.publication),
                None => ended().next().map(|(at, identity)| (*at, identity.publication))?,
            };
            let together = ended().filter(|(at, identity)| since.millis_since(*at) < END_TOGETHER_MS && identity.publication == publication);
            let together = together.filter_map(|(_, identity)| Some((quality(identity)?, identity)));
            let ended = together.max_by_key(|(quality, identity)| (*quality, identity.file_id));
            match (open, ended) {
                // As good a one that is open goes on from the other.
                (Some((open, identity)), Some((ended, _))) if open >= ended => Some(Watched { identity: identity.clone(), is_open: true }),
                (_, Some((_, identity))) => Some(Watched { identity: identity.clone(), is_open: false }),
                (Some((_, identity)), None) => Some(Watched { identity: identity.clone(), is_open: true }),
                (None, None) => None,
            }
        })
    }
}

impl Recordings {
    fn forget_old(&mut self, now: MonoTime) {
        while self.ended.front().is_some_and(|(at, _)| now.millis_since(*at) >= ENDED_KEPT_MS) {
            self.ended.pop_front();
        }
    }
}

/// How well a recording is watched; `None`: it is not.
fn quality(identity: &RecordingIdentity) -> Option<u8> {
    match identity.format {
        _ if identity.source == RecordingSource::Ring => None,
        Format::Hls => Some(2),
        Format::Mp4 => Some(1),
        Format::Flv => Some(0),
        Format::Aac | Format::Mp3 => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PublicationId;

    fn identity(number: u64, format: Format, stream: &str, publication: u64) -> RecordingIdentity {
        let file_id = FileId::new(FileId::MIN + number).unwrap();
        RecordingIdentity {
            publication: PublicationId(publication),
            ..RecordingIdentity::example(file_id, format, StreamKey::new("a.example", "live", stream))
        }
    }

    const BEGIN: MonoTime = MonoTime::from_millis(1_000_000);

    /// What happens, at which second; and what is watched afterwards.
    enum Step {
        Begun(u64, Format, u64),
        Ended(u64),
        Shown(Option<u64>),
    }
    use Step::{Begun, Ended, Shown};

    #[test]
    fn what_is_watched_of_a_stream() {
        let cases: &[(&str, &[(u64, Step)])] = &[
            ("nothing", &[(0, Shown(None))]),
            ("the best of what is open", &[(0, Begun(1, Format::Hls, 1)), (0, Begun(2, Format::Mp4, 1)), (1, Shown(Some(1)))]),
            ("the newest file of a kind", &[(0, Begun(1, Format::Mp4, 1)), (9, Begun(2, Format::Mp4, 1)), (9, Ended(1)), (9, Shown(Some(2)))]),
            ("sound alone is not", &[(0, Begun(1, Format::Aac, 1)), (1, Shown(None)), (1, Ended(1)), (1, Shown(None))]),
            ("its end", &[(0, Begun(1, Format::Flv, 1)), (5, Ended(1)), (5, Shown(Some(1))), (304, Shown(Some(1))), (305, Shown(None))]),
            (
                "the end of all, in any order",
                &[
                    (0, Begun(1, Format::Hls, 1)),
                    (0, Begun(2, Format::Mp4, 1)),
                    (60, Ended(1)),
                    (60, Shown(Some(1))),
                    (61, Ended(2)),
                    (61, Shown(Some(1))),
                    (200, Shown(Some(1))),
                ],
            ),
            (
                "a better one that ended long before the others",
                &[
                    (0, Begun(1, Format::Hls, 1)),
                    (0, Begun(2, Format::Mp4, 1)),
                    (60, Ended(1)),
                    (69, Shown(Some(1))),
                    (70, Shown(Some(2))),
                    (80, Ended(2)),
                    (80, Shown(Some(2))),
                ],
            ),
            (
                "the next publication",
                &[
                    (0, Begun(1, Format::Hls, 1)),
                    (5, Ended(1)),
                    (6, Begun(2, Format::Flv, 2)),
                    (6, Shown(Some(2))),
                    (7, Ended(2)),
                    (7, Shown(Some(2))),
                ],
            ),
            ("on another disk it goes on", &[(0, Begun(1, Format::Hls, 1)), (5, Begun(2, Format::Hls, 1)), (5, Ended(1)), (5, Shown(Some(2)))]),
        ];
        for (name, steps) in cases {
            let recordings = OpenRecordings::default();
            recordings.begun(&identity(900, Format::Hls, "another", 9));
            for (second, step) in *steps {
                let now = MonoTime::from_millis(BEGIN.nanos() / 1_000_000 + second * 1_000);
                match step {
                    Begun(number, format, publication) => recordings.begun(&identity(*number, *format, "cam", *publication)),
                    Ended(number) => assert!(recordings.ended(FileId::new(FileId::MIN + number).unwrap(), now).is_some(), "{name}"),
                    Shown(expected) => {
                        let watched = recordings.watched(now, |key| &*key.stream == "cam").map(|watched| watched.identity.file_id);
                        assert_eq!(watched, expected.map(|number| FileId::new(FileId::MIN + number).unwrap()), "{name}, second {second}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_has_ended_is_bounded() {
        let recordings = OpenRecordings::default();
        for number in 0..ENDED_MAX as u64 + 10 {
            let identity = identity(number, Format::Mp4, &format!("cam-{number}"), number);
            recordings.begun(&identity);
            recordings.ended(identity.file_id, BEGIN);
        }
        assert_eq!(recordings.with(|recordings| recordings.ended.len()), ENDED_MAX);
        assert!(recordings.watched(BEGIN, |key| &*key.stream == "cam-9").is_none());
        assert!(recordings.watched(BEGIN, |key| &*key.stream == "cam-10").is_some());
    }
}
