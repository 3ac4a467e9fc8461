//! What an earlier run left, handed over as it is recovered, and the events that tell of it.

use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::Sender;

use crate::domain::event::{LiveEvent, LiveEventKind, Publisher, RecordException, RecordExceptionKind, RecordState};
use crate::domain::{PausedRecording, RecordingIdentity};
use crate::ingest::EventSender;
use crate::segment::recover::{Found, LeftBehind, Recovered};
use crate::segment::{DiskCommand, Storage};
use crate::units::Format;

use super::entry::{EntrySender, enter};
use super::wall_now;

pub(super) fn recover_left(
    storage: &Storage,
    index: usize,
    left: &mut LeftBehind,
    files: &EntrySender,
    to_disk: &Sender<DiskCommand>,
    events: &EventSender,
) -> Recovered {
    let started = Instant::now();
    let recovered = left.recover(&storage.finish[index], |found| {
        let is_taken = match found {
            Found::Finished(file) => enter(files, storage.placed(index, *file)),
            Found::Paused(paused) => to_disk.send(DiskCommand::PauseRecording(Box::new(paused))).is_ok(),
            Found::Over(paused) => {
                events.send(resumption_over(&paused));
                true
            }
        };
        if !is_taken {
            tracing::error!("what was recovered is not taken; it is looked at again at the next start");
        }
    });
    if recovered != (Recovered { waiting: recovered.waiting, ..Recovered::default() }) {
        tracing::info!(
            folder = %storage.folders.root(index).display(),
            arena_bytes = recovered.arena_bytes,
            finished = recovered.finished,
            adopted = recovered.adopted,
            empty = recovered.empty,
            failed = recovered.failed,
            paused = recovered.paused,
            waiting = recovered.waiting,
            seconds = started.elapsed().as_secs_f64(),
            "recovered what the last run left"
        );
    }
    let news = left.take_news(&storage.finish[index]);
    news.iter().filter(|identity| identity.source.is_told()).for_each(|identity| events.send(waits_for_its_disk(identity)));
    recovered
}

/// Nobody went on with an interrupted recording: it has ended.
pub(super) fn resumption_over(paused: &PausedRecording) -> LiveEvent {
    let publisher = Publisher {
        key: paused.key.clone(),
        publication: paused.publication,
        publish_time: paused.end,
        client_ip: String::new(),
        stream_param: String::new(),
        alias_domain: String::new(),
    };
    let kind = LiveEventKind::RecordState { session: paused.session, source: paused.source.clone(), format: Format::Hls, state: RecordState::Ended };
    LiveEvent { publisher: Arc::new(publisher), time: wall_now(), kind }
}

/// The disk does not take what the last run had received for this recording.
fn waits_for_its_disk(identity: &RecordingIdentity) -> LiveEvent {
    let kind = RecordExceptionKind::CannotRead;
    let description =
        "the server ended, and the disk does not take now what it had received; the recording is finished when the disk does".to_owned();
    let exceptions = vec![RecordException { kind, occurs: 1, description }];
    let kind = LiveEventKind::RecordException { session: identity.session, format: identity.format, level: kind.level(), exceptions };
    let publisher = Publisher {
        key: identity.key.clone(),
        publication: identity.publication,
        publish_time: identity.start,
        client_ip: String::new(),
        stream_param: identity.stream_param.clone(),
        alias_domain: identity.alias_domain.clone(),
    };
    LiveEvent { publisher: Arc::new(publisher), time: wall_now(), kind }
}
