//! Record tasks, and the policy snapshot made of templates, rules and tasks.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use crate::domain::{Admission, OwnFormat, Policy, RecordTask, RecordTemplate};
use crate::units::{StreamKey, TaskId, WallTime};

use super::{Catalog, CatalogError, TaskQuery, domains, forbids, rules, stored, templates, unstored};

/// How long a task stays in the list after its end (documented by the vendor: 90 days).
const KEPT_MICROS: i64 = 90 * 86_400 * 1_000_000;
/// Expired tasks removed beside one CreateRecordTask: more than come in, little enough not to be noticed.
const PURGE_BESIDE_CREATE: i64 = 100;
/// Expired tasks removed by one call of `purge_tasks`, in one transaction.
const PURGE_MAX: i64 = 100_000;

const COLUMNS: &str = "id, domain, app, stream, start_time, end_time, template_id, stream_type, extension, create_time, stopped, own";

/// The window in which tasks of the older calls are counted.
const DAY_MICROS: i64 = 86_400 * 1_000_000;

/// Which calls a task belongs to; those of one family do not see the other's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    /// CreateRecordTask and its three companions.
    Tasks,
    /// CreateLiveRecord, StopLiveRecord, DeleteLiveRecord.
    Older,
}

impl Family {
    const fn condition(self) -> &'static str {
        match self {
            Self::Tasks => "own IS NULL",
            Self::Older => "own IS NOT NULL",
        }
    }
}

/// Quotas of the older task calls.
#[derive(Clone, Copy, Debug)]
pub struct OlderTaskLimits {
    /// Waiting or recording at the same time.
    pub open_max: u64,
    /// Made within 24 hours, deleted ones included.
    pub day_max: u64,
}

impl Catalog {
    /// Stores a task of CreateRecordTask; its domain in lower case.
    ///
    /// # Errors
    /// [`CatalogError::Limit`]: `limit` tasks are waiting or recording at `now`; [`CatalogError::Exists`]: the id is taken.
    pub fn create_task(&self, task: RecordTask, limit: u64, now: WallTime) -> Result<(), CatalogError> {
        self.write(move |connection| {
            if connection.prepare_cached("SELECT 1 FROM task WHERE id = ?1")?.exists([&*task.id.0])? {
                return Err(CatalogError::Exists);
            }
            if open_in_family(connection, Family::Tasks, now)? >= limit {
                return Err(CatalogError::Limit { limit });
            }
            purge(connection, now, PURGE_BESIDE_CREATE)?;
            insert(connection, &task)
        })
    }

    /// Stores a task of CreateLiveRecord and numbers it: from 1 up, never used again. The number in decimal is its id; `task.id` is not looked at.
    ///
    /// # Errors
    /// [`CatalogError::Limit`]: too many are waiting or recording at `now`; [`CatalogError::DayLimit`]: too many were made in the 24 hours before.
    pub fn create_older_task(&self, mut task: RecordTask, limits: OlderTaskLimits, now: WallTime) -> Result<u64, CatalogError> {
        debug_assert!(task.own.is_some(), "a task of the older calls brings its format");
        self.write(move |connection| {
            // Rows of before are of no use: the counter does not need them.
            let day_ago = now.unix_micros().saturating_sub(DAY_MICROS);
            connection.prepare_cached("DELETE FROM older_task WHERE create_time <= ?1")?.execute([day_ago])?;
            let made: i64 = connection.prepare_cached("SELECT count(*) FROM older_task")?.query_row([], |row| row.get(0))?;
            if unstored(made) >= limits.day_max {
                return Err(CatalogError::DayLimit { limit: limits.day_max });
            }
            if open_in_family(connection, Family::Older, now)? >= limits.open_max {
                return Err(CatalogError::Limit { limit: limits.open_max });
            }
            purge(connection, now, PURGE_BESIDE_CREATE)?;
            let number = connection.prepare_cached("INSERT INTO older_task (create_time) VALUES (?1)")?.insert([now.unix_micros()])?;
            task.id = older_id(number);
            insert(connection, &task)?;
            Ok(unstored(number))
        })
    }

    /// Stops a task of CreateLiveRecord at `now`, as [`stop_task`](Self::stop_task).
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]: unknown, deleted, or of another stream.
    pub fn stop_older_task(&self, number: i64, stream: String, now: WallTime) -> Result<(), CatalogError> {
        self.write(move |connection| {
            let task = older_task(connection, number, &stream)?;
            stop(connection, &task.id, now)
        })
    }

    /// Takes a task of CreateLiveRecord that has ended from the catalog.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] as [`stop_older_task`](Self::stop_older_task); [`CatalogError::InUse`]: it waits or records.
    pub fn delete_older_task(&self, number: i64, stream: String, now: WallTime) -> Result<(), CatalogError> {
        self.write(move |connection| {
            let task = older_task(connection, number, &stream)?;
            if task.has_ended(now) { delete(connection, &task.id) } else { Err(CatalogError::InUse) }
        })
    }

    /// Stops at `now`; a task that was stopped before keeps its first value, one that has ended stays as it is.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]: unknown or deleted.
    pub fn stop_task(&self, id: &TaskId, now: WallTime) -> Result<(), CatalogError> {
        let id = id.clone();
        self.write(move |connection| if is_listed(connection, &id)? { stop(connection, &id, now) } else { Err(CatalogError::NotFound) })
    }

    /// Takes a task from the list. What it records at the moment goes on, unless it was stopped before.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]: unknown or deleted.
    pub fn delete_task(&self, id: &TaskId) -> Result<(), CatalogError> {
        let id = id.clone();
        self.write(move |connection| if is_listed(connection, &id)? { delete(connection, &id) } else { Err(CatalogError::NotFound) })
    }

    /// A page of tasks of CreateRecordTask lying wholly inside the window, by start then id. Tasks entered or deleted between two pages cause no repeats.
    pub fn tasks(&self, query: &TaskQuery) -> Result<Vec<RecordTask>, CatalogError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM task
                 WHERE (start_time, id) > (:after_start, :after_id) AND start_time >= :start AND end_time <= :end AND deleted = 0 AND own IS NULL
                   AND (:domain IS NULL OR domain = :domain) AND (:app IS NULL OR app = :app) AND (:stream IS NULL OR stream = :stream)
                 ORDER BY start_time, id LIMIT :limit"
            ))?;
            let after = query.after.as_ref();
            let rows = statement.query_map(
                named_params! {
                    ":after_start": after.map_or(i64::MIN, |(start, _)| start.unix_micros()),
                    ":after_id": after.map_or("", |(_, id)| &*id.0),
                    ":start": query.start.unix_micros(),
                    ":end": query.end.unix_micros(),
                    ":domain": query.domain.as_deref().map(str::to_ascii_lowercase),
                    ":app": query.app,
                    ":stream": query.stream,
                    ":limit": i64::try_from(query.limit).unwrap_or(i64::MAX),
                },
                task_of,
            )?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Templates, rules and tasks whose window has not ended at `now`, stopped ones included; tasks of one stream by start, creation and id.
    pub fn policy(&self, version: u64, now: WallTime) -> Result<Policy, CatalogError> {
        let task_default = Some(self.task_default());
        self.read(|connection| {
            let mut tasks: HashMap<StreamKey, Vec<Arc<RecordTask>>> = HashMap::new();
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM task WHERE end_time > ?1 AND (deleted = 0 OR stopped IS NOT NULL) ORDER BY start_time, create_time, id"
            ))?;
            for task in statement.query_map([now.unix_micros()], task_of)? {
                let task = task?;
                tasks.entry(task.key.clone()).or_default().push(Arc::new(task));
            }
            Ok(Policy {
                version,
                templates: templates::all::<RecordTemplate>(connection)?.into_iter().map(|template| (template.id, Arc::new(template))).collect(),
                rules: rules::all::<RecordTemplate>(connection)?.into(),
                tasks,
                task_default,
                admission: Admission { domains: domains::by_name(connection)?, forbidden: forbids::by_key(connection, now)? },
            })
        })
    }

    /// Removes tasks that ended more than 90 days before `now`; returns how many. Call it at start and daily; CreateRecordTask does a little of it too.
    pub fn purge_tasks(&self, now: WallTime) -> Result<u64, CatalogError> {
        self.write(move |connection| purge(connection, now, PURGE_MAX))
    }
}

fn open_in_family(connection: &Connection, family: Family, now: WallTime) -> Result<u64, CatalogError> {
    let condition = family.condition();
    let count: i64 = connection
        .prepare_cached(&format!("SELECT count(*) FROM task WHERE end_time > ?1 AND stopped IS NULL AND deleted = 0 AND {condition}"))?
        .query_row([now.unix_micros()], |row| row.get(0))?;
    Ok(unstored(count))
}

fn insert(connection: &Connection, task: &RecordTask) -> Result<(), CatalogError> {
    let own = task.own.as_ref().map(serde_json::to_string).transpose();
    let own = own.map_err(|error| CatalogError::Storage(format!("a task cannot be stored: {error}")))?;
    connection.prepare_cached(&format!("INSERT INTO task ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"))?.execute(
        params![
            &*task.id.0,
            task.key.domain.to_ascii_lowercase(),
            &*task.key.app,
            &*task.key.stream,
            task.start.unix_micros(),
            task.end.unix_micros(),
            stored(task.template_id),
            task.stream_type,
            task.extension,
            task.create_time.unix_micros(),
            task.stopped.map(WallTime::unix_micros),
            own,
        ],
    )?;
    Ok(())
}

fn stop(connection: &Connection, id: &TaskId, now: WallTime) -> Result<(), CatalogError> {
    connection
        .prepare_cached("UPDATE task SET stopped = ?2 WHERE id = ?1 AND stopped IS NULL AND end_time > ?2")?
        .execute(params![&*id.0, now.unix_micros()])?;
    Ok(())
}

fn delete(connection: &Connection, id: &TaskId) -> Result<(), CatalogError> {
    // See the schema: a stopped task stays in the policy, hidden from the list.
    connection.prepare_cached("UPDATE task SET deleted = 1 WHERE id = ?1 AND stopped IS NOT NULL")?.execute([&*id.0])?;
    connection.prepare_cached("DELETE FROM task WHERE id = ?1 AND stopped IS NULL")?.execute([&*id.0])?;
    Ok(())
}

fn older_id(number: i64) -> TaskId {
    TaskId(number.to_string().into())
}

fn older_task(connection: &Connection, number: i64, stream: &str) -> Result<RecordTask, CatalogError> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM task WHERE id = ?1 AND stream = ?2 AND deleted = 0 AND own IS NOT NULL"))?
        .query_row(params![&*older_id(number).0, stream], task_of)
        .optional()?
        .ok_or(CatalogError::NotFound)
}

fn purge(connection: &Connection, now: WallTime, count_max: i64) -> Result<u64, CatalogError> {
    let deleted = connection
        .prepare_cached("DELETE FROM task WHERE rowid IN (SELECT rowid FROM task WHERE end_time < ?1 ORDER BY end_time LIMIT ?2)")?
        .execute([now.unix_micros().saturating_sub(KEPT_MICROS), count_max])?;
    Ok(deleted as u64)
}

fn is_listed(connection: &Connection, id: &TaskId) -> Result<bool, CatalogError> {
    Ok(connection.prepare_cached("SELECT 1 FROM task WHERE id = ?1 AND deleted = 0 AND own IS NULL")?.exists([&*id.0])?)
}

/// Reads [`COLUMNS`].
fn task_of(row: &Row<'_>) -> rusqlite::Result<RecordTask> {
    let time = |column| Ok::<_, rusqlite::Error>(WallTime::from_unix_micros(row.get(column)?));
    Ok(RecordTask {
        id: TaskId(row.get::<_, String>(0)?.into()),
        key: StreamKey::new(&row.get::<_, String>(1)?, &row.get::<_, String>(2)?, &row.get::<_, String>(3)?),
        start: time(4)?,
        end: time(5)?,
        template_id: unstored(row.get(6)?),
        stream_type: row.get(7)?,
        extension: row.get(8)?,
        create_time: time(9)?,
        stopped: row.get::<_, Option<i64>>(10)?.map(WallTime::from_unix_micros),
        own: row.get::<_, Option<String>>(11)?.map(|own| own_of(&own)).transpose()?,
    })
}

fn own_of(text: &str) -> rusqlite::Result<OwnFormat> {
    serde_json::from_str(text).map_err(|error| rusqlite::Error::FromSqlConversionFailure(11, Type::Text, Box::new(error)))
}
