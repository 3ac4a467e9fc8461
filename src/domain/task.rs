//! Record tasks: this stream, from this time to that time; and which of a stream's tasks record now.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::units::{Format, StreamKey, TaskId, TemplateId, WallTime};

use super::{RecordTemplate, RecordingSource};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordTask {
    pub id: TaskId,
    /// An empty domain, in a task of the older calls only, is every domain.
    pub key: StreamKey,
    pub start: WallTime,
    pub end: WallTime,
    /// As given in the call; 0 or an unknown id means the default task format.
    pub template_id: u64,
    pub stream_type: i64,
    pub extension: String,
    pub create_time: WallTime,
    /// When a call stopped it; `None`: not stopped.
    pub stopped: Option<WallTime>,
    /// What a task of the older calls carries; `None`: made by CreateRecordTask, the template says.
    #[serde(default)]
    pub own: Option<OwnFormat>,
}

/// The one format of a task made by CreateLiveRecord, which names no template.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OwnFormat {
    pub format: Format,
    /// The sound alone, whatever the container.
    pub audio_only: bool,
    /// Seconds per file; without effect for HLS.
    pub record_interval_s: u64,
    /// Seconds a finished file is kept; 0 for ever.
    pub storage_time_s: u64,
}

impl OwnFormat {
    /// As a template. Its id is 0, which no stored template has.
    pub fn template(self) -> RecordTemplate {
        let mut template = RecordTemplate::empty(TemplateId(0), "live-record");
        template.audio_only = self.audio_only;
        let param = template.param_mut(self.format);
        param.enable = true;
        param.record_interval_s = self.record_interval_s;
        param.storage_time_s = self.storage_time_s;
        template
    }
}

impl RecordTask {
    /// Inside the half-open window [start, end), and not stopped.
    ///
    /// When it was stopped does not matter: a clock that is set back must not begin again what a call ended.
    pub fn is_open(&self, now: WallTime) -> bool {
        self.start <= now && !self.has_ended(now)
    }

    /// Stopped, or its window is over.
    pub fn has_ended(&self, now: WallTime) -> bool {
        self.stopped.is_some() || now >= self.end
    }

    /// Who asked for what this task records. Callbacks name tasks of CreateRecordTask only.
    pub fn source(&self) -> RecordingSource {
        match self.own {
            None => RecordingSource::Task(self.id.clone()),
            Some(_) => RecordingSource::OlderTask(self.id.clone()),
        }
    }

    /// Who goes first when several wait: the earlier start, then the earlier creation, then the smaller id.
    fn turn(&self) -> (WallTime, WallTime, &TaskId) {
        (self.start, self.create_time, &self.id)
    }
}

/// At most this many tasks record one stream at the same time (documented by the vendor); the next waits until one ends.
pub const TASKS_RECORDING_MAX: usize = 3;

/// Which of one stream's tasks record now. One per publication; pure, time is an argument.
///
/// ```text
/// at publish, at a new policy snapshot, at next_wakeup:
///     let change = scheduler.poll(policy.tasks_for(&key), now);
///     end change.stop, begin change.start
/// ```
///
/// A recording task keeps its place until its end, however many earlier ones appear: nobody is pushed out. The scheduler holds a copy of what records,
/// so a task that vanished from the list (DeleteRecordTask) goes on to the end of its window.
#[derive(Debug, Default)]
pub struct TaskScheduler {
    recording: Vec<Arc<RecordTask>>,
}

/// What to do now; apply `stop` before `start`, so that never more than [`TASKS_RECORDING_MAX`] record.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TaskChange {
    pub stop: Vec<Arc<RecordTask>>,
    pub start: Vec<Arc<RecordTask>>,
}

impl TaskChange {
    pub fn is_empty(&self) -> bool {
        self.stop.is_empty() && self.start.is_empty()
    }
}

impl TaskScheduler {
    /// The tasks recording since the last [`poll`](Self::poll).
    pub fn recording(&self) -> &[Arc<RecordTask>] {
        &self.recording
    }

    /// Answers which tasks end and which begin at `now`, and takes it as done. `tasks` is the stream's list in the policy of this moment.
    ///
    /// Allocates nothing when nothing changes. A wall clock set back ends nothing: a recording task ends at its end only.
    pub fn poll(&mut self, tasks: &[Arc<RecordTask>], now: WallTime) -> TaskChange {
        let mut change = TaskChange::default();
        self.recording.retain_mut(|kept| {
            // The list knows when a call stopped the task, our copy does not.
            if let Some(task) = tasks.iter().find(|task| task.id == kept.id) {
                *kept = Arc::clone(task);
            }
            let ended = kept.has_ended(now);
            if ended {
                change.stop.push(Arc::clone(kept));
            }
            !ended
        });
        while self.recording.len() < TASKS_RECORDING_MAX {
            let waiting = tasks.iter().filter(|task| task.is_open(now) && !self.records(&task.id));
            let Some(next) = waiting.min_by(|a, b| a.turn().cmp(&b.turn())) else { break };
            change.start.push(Arc::clone(next));
            self.recording.push(Arc::clone(next));
        }
        change
    }

    /// The next moment after `now` at which [`poll`](Self::poll) with the same list may answer something; `None`: never.
    pub fn next_wakeup(&self, tasks: &[Arc<RecordTask>], now: WallTime) -> Option<WallTime> {
        let ends = self.recording.iter().map(|task| task.end);
        // A waiting task whose window is open starts when one of the recording ones ends, so its end matters to nobody.
        let starts = tasks.iter().filter(|task| task.stopped.is_none() && task.start < task.end).map(|task| task.start);
        ends.chain(starts).filter(|moment| *moment > now).min()
    }

    fn records(&self, id: &TaskId) -> bool {
        self.recording.iter().any(|task| task.id == *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_unix_seconds(seconds)
    }

    fn task(id: &str, start: i64, end: i64, create: i64) -> Arc<RecordTask> {
        Arc::new(RecordTask {
            id: TaskId(id.into()),
            key: StreamKey::new("localhost", "live", "cam"),
            start: at(start),
            end: at(end),
            template_id: 0,
            stream_type: 0,
            extension: String::new(),
            create_time: at(create),
            stopped: None,
            own: None,
        })
    }

    fn stopped(task: &Arc<RecordTask>, when: i64) -> Arc<RecordTask> {
        Arc::new(RecordTask { stopped: Some(at(when)), ..RecordTask::clone(task) })
    }

    fn ids(tasks: &[Arc<RecordTask>]) -> Vec<&str> {
        tasks.iter().map(|task| &*task.id.0).collect()
    }

    #[test]
    fn the_window_is_half_open() {
        let tasks = [task("a", 10, 20, 0)];
        for (now, open) in [(9, false), (10, true), (19, true), (20, false), (21, false)] {
            let mut scheduler = TaskScheduler::default();
            assert_eq!(scheduler.poll(&tasks, at(now)).start.len(), usize::from(open), "at {now}");
        }
        let mut scheduler = TaskScheduler::default();
        assert_eq!(scheduler.next_wakeup(&tasks, at(0)), Some(at(10)));
        scheduler.poll(&tasks, at(10));
        assert_eq!(scheduler.next_wakeup(&tasks, at(10)), Some(at(20)));
        assert_eq!(ids(&scheduler.poll(&tasks, at(20)).stop), ["a"]);
        assert_eq!(scheduler.next_wakeup(&tasks, at(20)), None);
        assert!(scheduler.poll(&tasks, at(20)).is_empty());
    }

    #[test]
    fn the_fourth_waits_and_the_order_is_start_create_id() {
        let tasks = [task("late", 5, 100, 0), task("b", 0, 30, 2), task("c", 0, 20, 2), task("a", 0, 100, 2), task("first", 0, 100, 1)];
        let mut scheduler = TaskScheduler::default();
        assert_eq!(ids(&scheduler.poll(&tasks, at(10)).start), ["first", "a", "b"]);
        // `c` waits beyond its end: only `late` is left when `b` ends.
        assert_eq!(scheduler.next_wakeup(&tasks, at(10)), Some(at(30)));
        let change = scheduler.poll(&tasks, at(30));
        assert_eq!((ids(&change.stop), ids(&change.start)), (vec!["b"], vec!["late"]));
    }

    #[test]
    fn a_recording_task_is_not_pushed_out() {
        let mut tasks = vec![task("x", 10, 100, 9), task("y", 10, 100, 9), task("z", 10, 100, 9)];
        let mut scheduler = TaskScheduler::default();
        scheduler.poll(&tasks, at(10));
        tasks.insert(0, task("older", 0, 100, 0));
        assert!(scheduler.poll(&tasks, at(11)).is_empty());
        tasks[1] = stopped(&tasks[1], 12);
        let change = scheduler.poll(&tasks, at(12));
        assert_eq!((ids(&change.stop), ids(&change.start)), (vec!["x"], vec!["older"]));
    }

    #[test]
    fn stop_ends_and_delete_goes_on() {
        let tasks = [task("a", 0, 50, 0), task("b", 0, 50, 0)];
        let mut scheduler = TaskScheduler::default();
        scheduler.poll(&tasks, at(1));
        let change = scheduler.poll(&[stopped(&tasks[1], 5)], at(5));
        assert_eq!(ids(&change.stop), ["b"], "a was deleted and goes on, b was stopped");
        assert!(scheduler.poll(&[], at(49)).is_empty());
        assert_eq!(scheduler.next_wakeup(&[], at(49)), Some(at(50)));
        assert_eq!(ids(&scheduler.poll(&[], at(50)).stop), ["a"]);
        // The next publication has a new scheduler: the deleted task is not taken up again.
        assert!(TaskScheduler::default().poll(&[], at(20)).is_empty());
    }

    #[test]
    fn a_waiting_task_that_was_stopped_never_starts() {
        let tasks = [stopped(&task("a", 10, 20, 0), 5)];
        let mut scheduler = TaskScheduler::default();
        assert_eq!(scheduler.next_wakeup(&tasks, at(6)), None);
        assert!(scheduler.poll(&tasks, at(12)).is_empty());
    }

    #[test]
    fn a_clock_set_back_does_not_begin_a_stopped_task_again() {
        let tasks = [stopped(&task("a", 10, 100, 0), 50)];
        for now in [49, 50, 51] {
            let mut scheduler = TaskScheduler::default();
            assert!(scheduler.poll(&tasks, at(now)).is_empty(), "at {now}");
            assert_eq!(scheduler.next_wakeup(&tasks, at(now)), None);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Create { start: i64, length: i64 },
        Stop(usize),
        Delete(usize),
        Wait(i64),
        Wakeup,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (-10..20_i64, 0..30_i64).prop_map(|(start, length)| Step::Create { start, length }),
            1 => (0..32_usize).prop_map(Step::Stop),
            1 => (0..32_usize).prop_map(Step::Delete),
            3 => (0..10_i64).prop_map(Step::Wait),
            3 => Just(Step::Wakeup),
        ]
    }

    proptest! {
        #[test]
        fn random_histories_keep_the_rules(steps in proptest::collection::vec(step(), 1..120)) {
            let mut scheduler = TaskScheduler::default();
            let mut list: Vec<Arc<RecordTask>> = Vec::new();
            let mut now = 0;
            let mut ended: Vec<TaskId> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Create { start, length } => list.push(task(&format!("t{number}"), now + start, now + start + length, now)),
                    Step::Stop(index) if index < list.len() && list[index].stopped.is_none() => list[index] = stopped(&list[index], now),
                    Step::Delete(index) if index < list.len() => drop(list.remove(index)),
                    Step::Stop(_) | Step::Delete(_) => {}
                    Step::Wait(seconds) => {
                        // Between two wake-ups nothing may happen: asked every second before it, the answer is empty.
                        let wakeup = scheduler.next_wakeup(&list, at(now));
                        for _ in 0..seconds {
                            now += 1;
                            if wakeup.is_some_and(|wakeup| at(now) >= wakeup) { break; }
                            prop_assert!(scheduler.poll(&list, at(now)).is_empty(), "something changed before the wake-up {wakeup:?}, at {now}");
                        }
                    }
                    Step::Wakeup => {
                        if let Some(wakeup) = scheduler.next_wakeup(&list, at(now)) {
                            prop_assert!(wakeup > at(now));
                            now = wakeup.unix_seconds();
                        }
                    }
                }
                let before: Vec<_> = scheduler.recording().to_vec();
                let change = scheduler.poll(&list, at(now));
                let recording = scheduler.recording();

                prop_assert!(recording.len() <= TASKS_RECORDING_MAX);
                for task in recording {
                    prop_assert!(task.is_open(at(now)), "{task:?} records outside its window at {now}");
                    prop_assert!(!ended.contains(&task.id), "{task:?} ended and began again");
                }
                for task in &change.start {
                    prop_assert!(list.iter().any(|listed| listed == task), "{task:?} began without being in the list");
                    prop_assert!(before.iter().all(|other| other.id != task.id));
                }
                // What recorded goes on or is told to stop; it stops only at its end.
                for task in &before {
                    let goes_on = recording.iter().any(|other| other.id == task.id);
                    prop_assert!(goes_on != change.stop.iter().any(|other| other.id == task.id));
                }
                prop_assert!(change.stop.iter().all(|task| !task.is_open(at(now))));
                // Nobody waits beside a free place, and those who wait come after those who were let in now.
                let waiting: Vec<_> = list.iter().filter(|task| task.is_open(at(now)) && recording.iter().all(|other| other.id != task.id)).collect();
                prop_assert!(waiting.is_empty() || recording.len() == TASKS_RECORDING_MAX);
                prop_assert!(change.start.iter().all(|started| waiting.iter().all(|task| started.turn() < task.turn())));
                prop_assert!(scheduler.poll(&list, at(now)).is_empty(), "the same question twice");
                ended.extend(change.stop.iter().map(|task| task.id.clone()));
            }
        }
    }
}
