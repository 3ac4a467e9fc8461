//! Random histories of streams and tasks: what is published, created, stopped, deleted, restarted, and how time passes; the rules hold at every second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::task::TASKS_RECORDING_MAX;
use super::{OwnFormat, Policy, RecordTask, TaskScheduler};
use crate::units::{Format, StreamKey, TaskId, WallTime};

/// Two domains share a stream name, so that a task for any domain records both.
const STREAMS: [(&str, &str); 3] = [("a.example", "cam"), ("b.example", "cam"), ("a.example", "other")];
/// What a task may name: one of the streams, or `cam` on any domain.
const TARGETS: usize = STREAMS.len() + 1;

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Unpublish(usize),
    Create { target: usize, start: i64, length: i64 },
    Stop(usize),
    Delete(usize),
    Restart,
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..STREAMS.len()).prop_map(Step::Publish),
        1 => (0..STREAMS.len()).prop_map(Step::Unpublish),
        5 => (0..TARGETS, -10..15_i64, 1..30_i64).prop_map(|(target, start, length)| Step::Create { target, start, length }),
        1 => (0..64_usize).prop_map(Step::Stop),
        1 => (0..64_usize).prop_map(Step::Delete),
        1 => Just(Step::Restart),
        4 => (0..12_i64).prop_map(Step::Wait),
    ]
}

fn at(seconds: i64) -> WallTime {
    WallTime::from_unix_seconds(seconds)
}

fn key(stream: usize) -> StreamKey {
    STREAMS.get(stream).map_or_else(|| StreamKey::new("", "live", "cam"), |(domain, name)| StreamKey::new(domain, "live", name))
}

/// A publication on its core: the scheduler, and when it looks at the clock again.
#[derive(Default)]
struct Publication {
    scheduler: TaskScheduler,
    wakeup: Option<WallTime>,
}

/// The catalog's rows, the snapshot made of them, and the cores.
#[derive(Default)]
struct World {
    now: i64,
    created: usize,
    /// What the catalog keeps; survives a restart.
    rows: Vec<RecordTask>,
    /// Taken from the list, ever.
    deleted: BTreeSet<TaskId>,
    policy: Policy,
    publications: BTreeMap<usize, Publication>,
}

impl World {
    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Publish(stream) => {
                // A newer publisher of the same name replaces the old one.
                self.publications.insert(stream, Publication::default());
                self.poll(stream)?;
            }
            Step::Unpublish(stream) => drop(self.publications.remove(&stream)),
            Step::Create { target, start, length } => {
                self.created += 1;
                let own = OwnFormat { format: Format::Flv, audio_only: false, record_interval_s: 1800, storage_time_s: 0 };
                self.rows.push(RecordTask {
                    id: TaskId(format!("t{:03}", self.created).into()),
                    key: key(target),
                    start: at(self.now + start),
                    end: at(self.now + start + length),
                    template_id: 0,
                    stream_type: 0,
                    extension: String::new(),
                    create_time: at(self.now),
                    stopped: None,
                    own: (target == STREAMS.len()).then_some(own),
                });
            }
            Step::Stop(index) => {
                let now = at(self.now);
                if let Some(task) = self.rows.get_mut(index).filter(|task| task.end > now) {
                    task.stopped.get_or_insert(now);
                }
            }
            Step::Delete(index) => {
                if let Some(task) = self.rows.get(index) {
                    self.deleted.insert(task.id.clone());
                    // As the catalog does: a stopped one stays, hidden, so that a core that never saw it stopped ends it.
                    if task.stopped.is_none() {
                        self.rows.remove(index);
                    }
                }
            }
            Step::Restart => {
                self.publications.clear();
                self.policy = Policy::default();
            }
            Step::Wait(seconds) => {
                for _ in 0..seconds {
                    self.now += 1;
                    let due: Vec<usize> = self
                        .publications
                        .iter()
                        .filter(|(_, p)| p.wakeup.is_some_and(|wakeup| at(self.now) >= wakeup))
                        .map(|(stream, _)| *stream)
                        .collect();
                    for stream in due {
                        self.poll(stream)?;
                    }
                    self.check()?;
                }
                return Ok(());
            }
        }
        // A new snapshot reaches every core.
        self.snapshot();
        for stream in self.publications.keys().copied().collect::<Vec<_>>() {
            self.poll(stream)?;
        }
        self.check()
    }

    fn snapshot(&mut self) {
        let mut policy = Policy { version: self.policy.version + 1, ..Policy::default() };
        for task in self.rows.iter().filter(|task| task.end > at(self.now) && (task.stopped.is_some() || !self.deleted.contains(&task.id))) {
            policy.tasks.entry(task.key.clone()).or_default().push(Arc::new(task.clone()));
        }
        self.policy = policy;
    }

    fn poll(&mut self, stream: usize) -> Result<(), TestCaseError> {
        let Some(publication) = self.publications.get_mut(&stream) else { return Ok(()) };
        let mut tasks = self.policy.tasks_for(&key(stream)).to_vec();
        tasks.extend_from_slice(self.policy.tasks_for_any_domain(&key(stream)));
        let before: BTreeSet<TaskId> = publication.scheduler.recording().iter().map(|task| task.id.clone()).collect();
        let change = publication.scheduler.poll(&tasks, at(self.now));
        publication.wakeup = publication.scheduler.next_wakeup(&tasks, at(self.now));
        for task in &change.stop {
            prop_assert!(before.contains(&task.id) && task.has_ended(at(self.now)), "{task:?} ended without a reason at {}", self.now);
        }
        for task in &change.start {
            prop_assert!(!before.contains(&task.id) && !self.deleted.contains(&task.id), "{task:?} began at {}", self.now);
        }
        let stopped = change.stop.iter().map(|task| task.id.clone()).collect::<BTreeSet<_>>();
        let after = publication.scheduler.recording().iter().map(|task| &task.id).collect::<BTreeSet<_>>();
        prop_assert!(before.difference(&stopped).all(|id| after.contains(id)), "a recording was lost at {}", self.now);
        Ok(())
    }

    /// The rules, against what the catalog holds.
    fn check(&self) -> Result<(), TestCaseError> {
        let now = at(self.now);
        for (stream, publication) in &self.publications {
            let recording = publication.scheduler.recording();
            prop_assert!(recording.len() <= TASKS_RECORDING_MAX);
            for task in recording {
                prop_assert!(task.start <= now && now < task.end, "{task:?} records outside its window at {}", self.now);
                let row = self.rows.iter().find(|row| row.id == task.id);
                prop_assert!(row.is_none_or(|row| row.stopped.is_none()), "{task:?} records after it was stopped");
                prop_assert!(row.is_some() || self.deleted.contains(&task.id), "{task:?} is not the catalog's");
            }
            let (domain, name) = STREAMS[*stream];
            let mut listed = self.rows.iter().filter(|task| !self.deleted.contains(&task.id) && *task.key.stream == *name);
            let waits = listed.any(|task| {
                let is_mine = *task.key.domain == *domain || task.key.domain.is_empty();
                is_mine && task.is_open(now) && recording.iter().all(|other| other.id != task.id)
            });
            prop_assert!(!waits || recording.len() == TASKS_RECORDING_MAX, "a task waits beside a free place of {domain}/{name} at {}", self.now);
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn tasks_keep_their_rules_in_any_history(steps in proptest::collection::vec(step(), 1..150)) {
        let mut world = World::default();
        for step in steps {
            world.apply(step)?;
        }
    }
}
