//! Task flows on files: starting them with a finished file, and entering what their subtasks made. A subtask's result, what it replaces, and the event that
//! tells of it are one transaction: whatever dies, each result is there once or not at all.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, params};

use crate::domain::flow::{FailKind, MediaProcess, NotifyMode, Procedure, ProcedureTask, ResultFiles, SubtaskError, SubtaskOutput, SubtaskState};
use crate::domain::{VodTask, VodTaskKind, VodTaskStatus, presets};
use crate::units::{FileId, WallTime};

use super::definitions::{NamedKind, named_of};
use super::events::{CatalogEvent, EventWriter, Told, emit};
use super::files::{entry_of, media_row, write_extras};
use super::vod_tasks::{insert, one, update};
use super::{Catalog, CatalogError, MediaRow, stored};

/// What a task shows that was given up.
const CANCELLED: &str = "The task was cancelled.";

/// How far running subtasks are: task, number of the subtask, percent. Not stored: a restart begins them anew.
#[derive(Default)]
pub(super) struct Progress(Mutex<HashMap<String, (usize, u8)>>);

/// What became of a file's flow when the file was entered.
pub(super) enum Started {
    None,
    /// The new task's id.
    Task(String),
    /// There is no flow of that name.
    Missing,
}

/// Starts the flow that a file's template names; part of the transaction that enters the file.
pub(super) fn start(
    connection: &Connection,
    app_id: u64,
    sub_app_id: u64,
    file_id: FileId,
    name: &str,
    now: WallTime,
) -> Result<Started, CatalogError> {
    if name.is_empty() {
        return Ok(Started::None);
    }
    let Some(process) = process_of(connection, sub_app_id, name)? else { return Ok(Started::Missing) };
    let flow = ProcedureTask::new(file_id, NotifyMode::Finish, &process);
    // A file is entered once, so its id names the task.
    let id = format!("{app_id}-Procedure-{:x}t0", file_id.get());
    insert(connection, &task(id.clone(), sub_app_id, &flow, now)?)?;
    Ok(Started::Task(id))
}

fn process_of(connection: &Connection, sub_app_id: u64, name: &str) -> Result<Option<MediaProcess>, CatalogError> {
    if let Some((.., process)) = presets::procedures().into_iter().find(|(preset, ..)| *preset == name) {
        return Ok(Some(process));
    }
    let body = named_of(connection, sub_app_id, NamedKind::Procedure, name)?;
    let procedure: Option<Procedure> =
        body.map(|body| serde_json::from_str(&body).map_err(|error| CatalogError::damaged("task flow", error))).transpose()?;
    Ok(procedure.map(|procedure| procedure.process))
}

/// A flow as a task that waits.
fn task(id: String, sub_app_id: u64, flow: &ProcedureTask, now: WallTime) -> Result<VodTask, CatalogError> {
    Ok(VodTask {
        id,
        sub_app_id,
        kind: VodTaskKind::Procedure,
        status: VodTaskStatus::Waiting,
        file_id: Some(flow.file_id),
        priority: 0,
        create_time: now,
        begin_time: None,
        finish_time: None,
        session_id: String::new(),
        session_context: String::new(),
        work: to_value(flow)?,
        object: serde_json::json!({}),
    })
}

fn to_value(flow: &ProcedureTask) -> Result<serde_json::Value, CatalogError> {
    serde_json::to_value(flow).map_err(|error| CatalogError::Storage(format!("a task flow cannot be stored: {error}")))
}

/// The flow of a task.
///
/// # Errors
/// [`CatalogError::Storage`]: it is none, or this version cannot read it.
pub fn flow_of(task: &VodTask) -> Result<ProcedureTask, CatalogError> {
    serde_json::from_value(task.work.clone()).map_err(|error| CatalogError::damaged("task flow", error))
}

/// What somebody who asks for a flow gives besides it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowOrder {
    pub id: String,
    pub sub_app_id: u64,
    pub priority: i64,
    pub session_id: String,
    pub session_context: String,
    /// How long a session id is not to be used again.
    pub session_micros: i64,
}

impl Catalog {
    /// The number that stands in front of the ids of tasks. Without it: 0.
    pub fn set_app_id(&self, app_id: u64) {
        // The second call does nothing: it is the same in one run.
        let _ = self.inner.app_id.set(app_id);
    }

    pub(super) fn app_id(&self) -> u64 {
        self.inner.app_id.get().copied().unwrap_or(0)
    }

    /// Enters a flow to be done.
    ///
    /// # Errors
    /// [`CatalogError::Exists`]: the session id was used already.
    pub fn enter_flow(&self, order: FlowOrder, flow: &ProcedureTask, now: WallTime) -> Result<(), CatalogError> {
        let task = VodTask {
            priority: order.priority,
            session_id: order.session_id,
            session_context: order.session_context,
            ..task(order.id, order.sub_app_id, flow, now)?
        };
        self.enter_vod_task(task, order.session_micros)?;
        self.inner.flows.notify();
        Ok(())
    }

    /// The task of any application.
    pub fn any_vod_task(&self, id: &str) -> Result<VodTask, CatalogError> {
        self.read(|connection| one(connection, id))
    }

    /// A subtask is begun now.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]: the task is over, or the subtask is.
    pub fn begin_subtask(&self, id: &str, index: usize, now: WallTime) -> Result<(), CatalogError> {
        self.change_subtask(id, index, move |task, flow| {
            task.status = VodTaskStatus::Processing;
            task.begin_time.get_or_insert(now);
            let subtask = &mut flow.subtasks[index];
            subtask.state = SubtaskState::Processing;
            subtask.attempts += 1;
            subtask.begin.get_or_insert(now);
        })
    }

    /// A subtask is to be begun again. Without a reason the attempt does not count: it was we who stopped it.
    ///
    /// # Errors
    /// As [`Self::begin_subtask`].
    pub fn put_back_subtask(&self, id: &str, index: usize, reason: Option<SubtaskError>) -> Result<(), CatalogError> {
        self.clear_progress(id);
        self.change_subtask(id, index, move |_, flow| {
            let subtask = &mut flow.subtasks[index];
            subtask.state = SubtaskState::Waiting;
            match reason {
                Some(reason) => subtask.error = Some(reason),
                None => subtask.attempts = subtask.attempts.saturating_sub(1),
            }
        })
    }

    fn change_subtask(
        &self,
        id: &str,
        index: usize,
        change: impl FnOnce(&mut VodTask, &mut ProcedureTask) + Send + 'static,
    ) -> Result<(), CatalogError> {
        let id = id.to_owned();
        self.write(move |connection| {
            let (mut task, mut flow) = open_subtask(connection, &id, index)?;
            change(&mut task, &mut flow);
            task.work = to_value(&flow)?;
            update(connection, &task)
        })
    }

    /// A subtask is over. Its files are in their places; what they replace is noted for removal.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]: the task is over or the subtask is: a late result does not count.
    pub fn finish_subtask(&self, id: &str, index: usize, outcome: Result<SubtaskOutput, SubtaskError>, now: WallTime) -> Result<(), CatalogError> {
        self.clear_progress(id);
        let (id, writer) = (id.to_owned(), self.event_writer());
        let told = self.write(move |connection| {
            let (mut task, mut flow) = open_subtask(connection, &id, index)?;
            let entered = match outcome {
                Ok(output) => enter_result(connection, task.sub_app_id, flow.file_id, &output, now)?.map(|()| output),
                Err(error) => Err(error),
            };
            let subtask = &mut flow.subtasks[index];
            subtask.finish = Some(now);
            match entered {
                Ok(output) => (subtask.state, subtask.error, subtask.output) = (SubtaskState::Success, None, Some(output)),
                Err(error) => (subtask.state, subtask.error) = (SubtaskState::Fail, Some(error)),
            }
            if flow.next().is_none() {
                (task.status, task.finish_time) = (VodTaskStatus::Finish, Some(now));
            }
            task.work = to_value(&flow)?;
            update(connection, &task)?;
            tell(connection, writer.as_ref(), &task, &flow, now)
        })?;
        self.inner.removals.notify();
        self.tell(told);
        Ok(())
    }

    /// Gives a task up: of a flow what is done stays, the rest is not done; EditMedia makes no file.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]: no such task in this application, or it is over.
    pub fn abort_task(&self, sub_app_id: u64, id: &str, now: WallTime) -> Result<(), CatalogError> {
        let (id, writer) = (id.to_owned(), self.event_writer());
        let told = self.write(move |connection| {
            let mut task = one(connection, &id)?;
            if task.status.is_over() || task.sub_app_id != sub_app_id {
                return Err(CatalogError::NotFound);
            }
            if task.kind == VodTaskKind::EditMedia {
                (task.status, task.finish_time) = (VodTaskStatus::Aborted, Some(now));
                if let Some(object) = task.object.as_object_mut() {
                    let cancelled = FailKind::Input;
                    object.insert("ErrCode".to_owned(), cancelled.code().into());
                    object.insert("ErrCodeExt".to_owned(), cancelled.code_ext().into());
                    object.insert("Message".to_owned(), CANCELLED.into());
                }
                update(connection, &task)?;
                return super::vod_tasks::tell(connection, writer.as_ref(), &task);
            }
            let mut flow = flow_of(&task)?;
            while let Some(next) = flow.next() {
                let subtask = &mut flow.subtasks[next];
                (subtask.state, subtask.finish) = (SubtaskState::Fail, Some(now));
                subtask.error = Some(SubtaskError { kind: FailKind::Input, message: CANCELLED.to_owned() });
            }
            (task.status, task.finish_time, task.work) = (VodTaskStatus::Aborted, Some(now), to_value(&flow)?);
            update(connection, &task)?;
            tell(connection, writer.as_ref(), &task, &flow, now)
        })?;
        self.inner.flows.notify();
        self.tell(told);
        Ok(())
    }

    /// How many times there was something new for whoever carries out flows; for [`Self::wait_for_flow`].
    pub fn flows_seen(&self) -> u64 {
        self.inner.flows.seen()
    }

    /// Waits for a flow after `seen`. False: there was none within `timeout`, or the appliance stops.
    pub fn wait_for_flow(&self, seen: u64, timeout: Duration) -> bool {
        self.inner.flows.wait(seen, timeout)
    }

    /// Ends everybody's waiting for flows.
    pub fn stop_waiting_for_flows(&self) {
        self.inner.flows.close();
    }

    /// There may be a flow that can be begun now.
    pub fn look_for_flows(&self) {
        self.inner.flows.notify();
    }

    /// Wakes whoever waits for flows.
    pub(super) fn flow_entered(&self) {
        self.inner.flows.notify();
    }

    /// How far a subtask is, for whoever asks.
    pub fn set_progress(&self, id: &str, index: usize, percent: u8) {
        self.inner.progress.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), (index, percent.min(99)));
    }

    /// Whatever it was, it is over.
    pub fn clear_progress(&self, id: &str) {
        self.inner.progress.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The subtask that runs, and its percent.
    pub fn progress(&self, id: &str) -> Option<(usize, u8)> {
        self.inner.progress.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }
}

/// A task that is not over, with this subtask that is not over.
fn open_subtask(connection: &Connection, id: &str, index: usize) -> Result<(VodTask, ProcedureTask), CatalogError> {
    let task = one(connection, id)?;
    let flow = flow_of(&task)?;
    let is_open = flow.subtasks.get(index).is_some_and(|subtask| !matches!(subtask.state, SubtaskState::Success | SubtaskState::Fail));
    if task.status.is_over() || !is_open { Err(CatalogError::NotFound) } else { Ok((task, flow)) }
}

/// Puts a result beside its file. Inside: why it cannot be.
fn enter_result(
    connection: &Connection,
    sub_app_id: u64,
    file_id: FileId,
    output: &SubtaskOutput,
    now: WallTime,
) -> Result<Result<(), SubtaskError>, CatalogError> {
    let Some(entry) = entry_of(connection, sub_app_id, file_id)? else {
        return Ok(Err(SubtaskError { kind: FailKind::Input, message: "The file was deleted meanwhile.".to_owned() }));
    };
    let row = media_row(connection, entry)?;
    let mut extras = row.extras.clone();
    match output {
        SubtaskOutput::CoverBySnapshot(cover) => extras.cover = Some(cover.extension.clone()),
        output => {
            if let Some(old) = extras.results.enter(output) {
                remove_files(connection, &row, &[old], |name| extras.results.has(name))?;
            }
        }
    }
    write_extras(connection, entry, &extras)?;
    connection.prepare_cached("UPDATE media SET update_time = max(update_time, ?2) WHERE entry = ?1")?.execute([entry, now.unix_micros()])?;
    Ok(Ok(()))
}

/// Notes the files of results for removal, but not those that are still `in_use`.
pub(super) fn remove_files(
    connection: &Connection,
    row: &MediaRow,
    results: &[ResultFiles],
    in_use: impl Fn(&str) -> bool,
) -> Result<(), CatalogError> {
    let mut parts: Vec<String> = results.iter().map(|files| files.entry.clone()).filter(|name| !name.is_empty() && !in_use(name)).collect();
    // A name that ends in a dot stands for all that begin with it.
    parts.extend(results.iter().map(|files| files.prefix.clone()).filter(|prefix| prefix.ends_with('.') && !in_use(prefix)));
    if parts.is_empty() {
        return Ok(());
    }
    let parts = serde_json::to_string(&parts).map_err(|error| CatalogError::Storage(format!("names of files cannot be stored: {error}")))?;
    let removal = "INSERT INTO removal (file_id, folder, entry, whole, parts) VALUES (?1, ?2, '', 0, ?3)";
    connection.prepare_cached(removal)?.execute(params![stored(row.file.identity.file_id.get()), row.file.folder, parts])?;
    Ok(())
}

/// The event of a flow, if its mode wants one now. True: somebody may be waiting for it.
fn tell(connection: &Connection, writer: Option<&EventWriter>, task: &VodTask, flow: &ProcedureTask, now: WallTime) -> Result<Told, CatalogError> {
    let wanted = match flow.notify_mode {
        NotifyMode::Finish => task.status.is_over(),
        NotifyMode::Change => true,
        NotifyMode::None => false,
    };
    if !wanted {
        return Ok(Told::default());
    }
    let row = entry_of(connection, task.sub_app_id, flow.file_id)?.map(|entry| media_row(connection, entry)).transpose()?;
    emit(connection, writer, task.sub_app_id, now, &CatalogEvent::ProcedureStateChanged { task, flow, row: row.as_ref() })
}
