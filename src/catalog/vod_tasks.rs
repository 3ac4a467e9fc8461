//! Tasks of the catalog side (EditMedia, task flows): entering, listing, changing.

use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde_json::Value;

use crate::domain::vod_task::KEPT_MICROS;
use crate::domain::{FinishedFile, VodTask, VodTaskKind, VodTaskStatus};
use crate::units::WallTime;

use super::events::{CatalogEvent, Told, emit};
use super::files::{self, file_id_of};
use super::{Catalog, CatalogError, FellBack, MediaRow, stored, unstored};

/// Old tasks removed in one transaction.
const PURGE_MAX: i64 = 10_000;

const COLUMNS: &str =
    "id, sub_app_id, kind, status, file_id, priority, create_time, begin_time, finish_time, session_id, session_context, work, object";

/// Tasks of one application, newest first. Bounds of times are half-open: after <= t < before.
#[derive(Clone, Debug, Default)]
pub struct VodTaskQuery {
    pub sub_app_id: u64,
    pub status: Option<VodTaskStatus>,
    pub file_id: Option<crate::units::FileId>,
    pub create_after: Option<WallTime>,
    pub create_before: Option<WallTime>,
    pub finish_after: Option<WallTime>,
    pub finish_before: Option<WallTime>,
    /// By FinishTime instead of CreateTime; only tasks that are over then.
    pub by_finish: bool,
    pub ascending: bool,
    /// Go on behind this task: its time (of the order asked for) and its id.
    pub after: Option<(WallTime, String)>,
    pub limit: usize,
}

impl Catalog {
    /// Enters a task.
    ///
    /// # Errors
    /// [`CatalogError::Exists`]: the task has a session id, and one of the same application had it within the last `session_micros`.
    pub fn enter_vod_task(&self, task: VodTask, session_micros: i64) -> Result<(), CatalogError> {
        self.write(move |connection| {
            let oldest = task.create_time.unix_micros().saturating_sub(session_micros);
            let known = "SELECT 1 FROM vod_task WHERE sub_app_id = ?1 AND session_id = ?2 AND create_time > ?3";
            if !task.session_id.is_empty() && connection.prepare_cached(known)?.exists(params![stored(task.sub_app_id), task.session_id, oldest])? {
                return Err(CatalogError::Exists);
            }
            insert(connection, &task)
        })
    }

    /// A task of an application that can still be asked for.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn vod_task(&self, sub_app_id: u64, id: &str, now: WallTime) -> Result<VodTask, CatalogError> {
        let task = self.read(|connection| one(connection, id))?;
        let kept = task.create_time.unix_micros() > now.unix_micros().saturating_sub(KEPT_MICROS) || !task.status.is_over();
        if task.sub_app_id == sub_app_id && kept { Ok(task) } else { Err(CatalogError::NotFound) }
    }

    /// Changes a task on the writer thread. One that is over changes no more: a late worker's word does not count.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]: there is none, or it is over.
    pub fn change_vod_task(&self, id: &str, change: impl FnOnce(&mut VodTask) + Send + 'static) -> Result<(), CatalogError> {
        let (id, writer) = (id.to_owned(), self.event_writer());
        let told = self.write(move |connection| {
            let mut task = one(connection, &id)?;
            if task.status.is_over() {
                return Err(CatalogError::NotFound);
            }
            change(&mut task);
            update(connection, &task)?;
            tell(connection, writer.as_ref(), &task)
        })?;
        self.tell(told);
        Ok(())
    }

    /// Ends a task that made a file: file, task and events in one transaction, so that a task ends once whatever happens. The task's worker says in `change`
    /// what the task shows now.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]: there is no such task, or it is over; the file is not entered.
    pub fn finish_vod_task(
        &self,
        id: &str,
        file: (FinishedFile, String),
        now: WallTime,
        change: impl FnOnce(&mut VodTask, &MediaRow) + Send + 'static,
    ) -> Result<Vec<FellBack>, CatalogError> {
        let id = id.to_owned();
        // What is cut out of a recording is none that a stream's receivers are told of.
        let writers = files::Writers { events: self.event_writer(), callbacks: None, flows_of: Some(self.app_id()) };
        let (fell_back, told) = self.write(move |connection| {
            let mut task = one(connection, &id)?;
            if task.status.is_over() {
                return Err(CatalogError::NotFound);
            }
            let mut fell_back = Vec::new();
            let mut told = files::enter(connection, &file.0, &file.1, now, &writers, &mut fell_back)?;
            let file_id = file.0.identity.file_id;
            change(&mut task, &files::media_row_of(connection, file_id)?);
            update(connection, &task)?;
            told |= tell(connection, writers.events.as_ref(), &task)?;
            Ok((fell_back, told))
        })?;
        self.flow_entered();
        self.tell(told);
        Ok(fell_back)
    }

    /// Tasks that are not over, in the order in which they are to begin: by priority, then by age.
    pub fn open_vod_tasks(&self, kind: VodTaskKind, limit: usize) -> Result<Vec<VodTask>, CatalogError> {
        self.read(|connection| {
            let open = format!(
                "SELECT {COLUMNS} FROM vod_task INDEXED BY vod_task_open WHERE finish_time IS NULL AND kind = ?1 \
                 ORDER BY priority DESC, create_time, id LIMIT ?2"
            );
            let mut statement = connection.prepare_cached(&open)?;
            let rows = statement.query_map(params![kind.name(), i64::try_from(limit).unwrap_or(i64::MAX)], |row| Ok(read(row)))?;
            rows.map(|row| row?).collect()
        })
    }

    /// A page of tasks.
    pub fn vod_tasks(&self, query: &VodTaskQuery) -> Result<Vec<VodTask>, CatalogError> {
        let time = if query.by_finish { "finish_time" } else { "create_time" };
        let mut sql = format!("SELECT {COLUMNS} FROM vod_task WHERE sub_app_id = ? ");
        let mut values: Vec<rusqlite::types::Value> = vec![stored(query.sub_app_id).into()];
        let mut and = |condition: &str, value: rusqlite::types::Value| {
            sql.push_str("AND ");
            sql.push_str(condition);
            sql.push(' ');
            values.push(value);
        };
        let micros = |time: &WallTime| rusqlite::types::Value::from(time.unix_micros());
        if let Some(status) = query.status {
            and("status = ?", status.name().to_owned().into());
        }
        if let Some(file_id) = query.file_id {
            and("file_id = ?", stored(file_id.get()).into());
        }
        for (condition, bound) in [
            ("create_time >= ?", &query.create_after),
            ("create_time < ?", &query.create_before),
            ("finish_time >= ?", &query.finish_after),
            ("finish_time < ?", &query.finish_before),
        ] {
            if let Some(bound) = bound {
                and(condition, micros(bound));
            }
        }
        let (order, beyond) = if query.ascending { ("ASC", ">") } else { ("DESC", "<") };
        if let Some((after, id)) = &query.after {
            and(&format!("{time} {beyond}= ?"), micros(after));
            and(&format!("({time}, id) {beyond} ({}, ?)", after.unix_micros()), id.clone().into());
        }
        if query.by_finish {
            sql.push_str("AND finish_time IS NOT NULL ");
        }
        sql.push_str(&format!("ORDER BY {time} {order}, id {order} LIMIT {}", query.limit));
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(values), |row| Ok(read(row)))?;
            rows.map(|row| row?).collect()
        })
    }

    /// Forgets tasks that ended longer ago than anybody can ask for them; returns how many. A session id is remembered for a week.
    pub fn purge_vod_tasks(&self, now: WallTime) -> Result<u64, CatalogError> {
        const WEEK_MICROS: i64 = 7 * 86_400 * 1_000_000;
        let oldest = now.unix_micros().saturating_sub(WEEK_MICROS);
        self.write(move |connection| {
            let old = "DELETE FROM vod_task WHERE id IN (SELECT id FROM vod_task WHERE finish_time <= ?1 AND create_time <= ?1 LIMIT ?2)";
            Ok(connection.prepare_cached(old)?.execute([oldest, PURGE_MAX])? as u64)
        })
    }
}

/// Says that a task is over, where that is an event of its own.
pub(super) fn tell(connection: &Connection, writer: Option<&super::EventWriter>, task: &VodTask) -> Result<Told, CatalogError> {
    match (task.kind, task.finish_time) {
        (VodTaskKind::EditMedia, Some(at)) => emit(connection, writer, task.sub_app_id, at, &CatalogEvent::EditMediaComplete(task)),
        _ => Ok(Told::default()),
    }
}

pub(super) fn insert(connection: &Connection, task: &VodTask) -> Result<(), CatalogError> {
    let sql = format!("INSERT INTO vod_task ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)");
    write(connection, &sql, task)
}

pub(super) fn update(connection: &Connection, task: &VodTask) -> Result<(), CatalogError> {
    let sql = "UPDATE vod_task SET sub_app_id = ?2, kind = ?3, status = ?4, file_id = ?5, priority = ?6, create_time = ?7, begin_time = ?8, \
               finish_time = ?9, session_id = ?10, session_context = ?11, work = ?12, object = ?13 WHERE id = ?1";
    write(connection, sql, task)
}

fn write(connection: &Connection, sql: &str, task: &VodTask) -> Result<(), CatalogError> {
    connection.prepare_cached(sql)?.execute(params![
        task.id,
        stored(task.sub_app_id),
        task.kind.name(),
        task.status.name(),
        task.file_id.map(|id| stored(id.get())),
        task.priority,
        task.create_time.unix_micros(),
        task.begin_time.map(WallTime::unix_micros),
        task.finish_time.map(WallTime::unix_micros),
        task.session_id,
        task.session_context,
        task.work.to_string(),
        task.object.to_string(),
    ])?;
    Ok(())
}

pub(super) fn one(connection: &Connection, id: &str) -> Result<VodTask, CatalogError> {
    let found =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM vod_task WHERE id = ?1"))?.query_row([id], |row| Ok(read(row))).optional()?;
    found.unwrap_or(Err(CatalogError::NotFound))
}

fn read(row: &Row<'_>) -> Result<VodTask, CatalogError> {
    let unknown = |what: &'static str, name: &str| CatalogError::damaged(what, name);
    let (kind, status): (String, String) = (row.get(2)?, row.get(3)?);
    let json = |column: usize| -> Result<Value, CatalogError> {
        serde_json::from_str(row.get_ref(column)?.as_str().map_err(|error| unknown("task", &error.to_string()))?)
            .map_err(|error| CatalogError::damaged("task", error))
    };
    let time = |column: usize| -> Result<Option<WallTime>, CatalogError> { Ok(row.get::<_, Option<i64>>(column)?.map(WallTime::from_unix_micros)) };
    Ok(VodTask {
        id: row.get(0)?,
        sub_app_id: unstored(row.get(1)?),
        kind: VodTaskKind::parse(&kind).ok_or_else(|| unknown("kind of a task", &kind))?,
        status: VodTaskStatus::parse(&status).ok_or_else(|| unknown("status of a task", &status))?,
        file_id: row.get::<_, Option<i64>>(4)?.map(file_id_of).transpose()?,
        priority: row.get(5)?,
        create_time: WallTime::from_unix_micros(row.get(6)?),
        begin_time: time(7)?,
        finish_time: time(8)?,
        session_id: row.get(9)?,
        session_context: row.get(10)?,
        work: json(11)?,
        object: json(12)?,
    })
}
