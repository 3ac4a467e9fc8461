//! Joining stretches of unlike files: one run of the encoder that brings them to one size, rate and kind of sound.

use std::path::Path;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::domain::flow::{FailKind, SubtaskError};
use crate::domain::join::{JoinFailure, JoinOrder};

use super::arguments;
use super::child::{self, Stop};
use super::jobs::Failure;
use super::{Claim, Shared};

/// How often a free place is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// Joins files beside the task flows, in one of their places.
#[derive(Clone)]
pub struct Joiner {
    pub(super) shared: Arc<Shared>,
}

impl Joiner {
    /// Waits for a place and makes `name` in `folder`. `stop`: nobody wants it any more.
    ///
    /// # Errors
    /// [`JoinFailure`]; what is in the folder then is worth nothing.
    pub fn join(
        &self,
        task: (&str, u64),
        order: &JoinOrder,
        (folder, name): (&Path, &str),
        stop: &dyn Fn() -> bool,
        progress: &dyn Fn(u8),
    ) -> Result<(), JoinFailure> {
        let shared = &self.shared;
        let _place = self.place(task, stop).ok_or(JoinFailure::Stopped)?;
        shared.look_for_encoder();
        if let Err(sentence) = &*shared.encoder.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(JoinFailure::Final(SubtaskError { kind: FailKind::Internal, message: sentence.clone() }));
        }
        let tools = &shared.tools;
        let words = arguments::join(order, &tools.encoder, name);
        let whole_ms = order.inputs.iter().map(|input| input.length_ms).sum::<u64>();
        let mut line = |line: &str| {
            if let Some(percent) = arguments::percent(line, whole_ms) {
                progress(percent);
            }
        };
        let stopped = || stop().then_some(Stop::Cancelled);
        let ran = child::run(&tools.launcher, &tools.ffmpeg, &words, folder, tools.bounds, &stopped, &mut line);
        ran.map_err(|error| match Failure::from(error) {
            Failure::Stopped(_) => JoinFailure::Stopped,
            Failure::Again(error) => JoinFailure::Again(error),
            Failure::Final(error) => JoinFailure::Final(error),
        })
    }

    /// One of the places of task flows, which let it go first.
    fn place(&self, (id, app): (&str, u64), stop: &dyn Fn() -> bool) -> Option<Claim<'_>> {
        let shared = &self.shared;
        shared.joins_waiting.fetch_add(1, Ordering::SeqCst);
        let place = loop {
            if stop() || shared.is_stopping() {
                break None;
            }
            {
                let mut running = shared.running.lock().unwrap_or_else(PoisonError::into_inner);
                let of_app = running.values().filter(|running| **running == app).count();
                if running.len() < shared.settings.jobs_max && of_app < shared.settings.jobs_per_app_max {
                    running.insert(id.to_owned(), app);
                    break Some(Claim { shared, id: id.to_owned() });
                }
            }
            std::thread::sleep(LOOK);
        };
        shared.joins_waiting.fetch_sub(1, Ordering::SeqCst);
        place
    }
}
