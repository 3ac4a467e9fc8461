//! Events of the catalog: which an application wants, and the queue of those it fetches.

use std::ops::BitOrAssign;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::VodTask;
use crate::domain::flow::ProcedureTask;
use crate::domain::vod::{DeletePart, EventConfig, EventMode};
use crate::units::{FileId, WallTime};

use super::outbox::{self, MessageSign, NewMessage};
use super::{Catalog, CatalogError, MediaRow, apps, stored};

/// Events handed out at a time, and handles confirmed at a time (documented by the vendor).
pub const EVENTS_PER_PULL: usize = 16;
/// An event that was handed out comes again after this unless it was confirmed (documented: 30 s).
const HIDDEN_MICROS: i64 = 30 * 1_000_000;
/// How long an event is kept (documented: 4 days).
const KEPT_MICROS: i64 = 4 * 86_400 * 1_000_000;
/// Events kept for one application; of more, the oldest are dropped. A file every 4 s for as long as they are kept, 200 MB.
const QUEUED_MAX: i64 = 100_000;
/// Old events removed in one transaction.
const PURGE_MAX: i64 = 10_000;

/// Something an application may want to know.
pub enum CatalogEvent<'a> {
    /// A file entered the catalog.
    NewFileUpload(&'a MediaRow),
    /// A file, or some of its parts, was deleted; no parts: everything.
    FileDeleted { file_id: FileId, parts: &'a [DeletePart] },
    /// EditMedia ended, well or not.
    EditMediaComplete(&'a VodTask),
    /// A task flow, or one of its subtasks, is over. No row: the file was deleted.
    ProcedureStateChanged { task: &'a VodTask, flow: &'a ProcedureTask, row: Option<&'a MediaRow> },
    /// A clip that was to be kept is in the catalog. `source`: the call that made it.
    PersistenceComplete { file_id: FileId, source: &'static str },
}

impl CatalogEvent<'_> {
    /// The application of its file, where the event brings it.
    pub fn app(&self) -> Option<u64> {
        match self {
            CatalogEvent::NewFileUpload(row) => Some(row.sub_app_id),
            CatalogEvent::EditMediaComplete(task) | CatalogEvent::ProcedureStateChanged { task, .. } => Some(task.sub_app_id),
            CatalogEvent::FileDeleted { .. } | CatalogEvent::PersistenceComplete { .. } => None,
        }
    }

    /// `EventType`.
    pub const fn name(&self) -> &'static str {
        match self {
            CatalogEvent::NewFileUpload(_) => "NewFileUpload",
            CatalogEvent::FileDeleted { .. } => "FileDeleted",
            CatalogEvent::EditMediaComplete(_) => "EditMediaComplete",
            CatalogEvent::PersistenceComplete { .. } => "PersistenceComplete",
            CatalogEvent::ProcedureStateChanged { .. } => "ProcedureStateChanged",
        }
    }
}

/// Writes an event as it is sent: a JSON object, `EventContent` of the API without its handle.
pub type EventWriter = Arc<dyn Fn(&CatalogEvent<'_>) -> String + Send + Sync>;

/// An event that was handed out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PulledEvent {
    pub handle: String,
    /// What the [`EventWriter`] wrote.
    pub body: String,
}

impl Catalog {
    /// Sets how events are written. Without it none are kept.
    pub fn set_event_writer(&self, writer: EventWriter) {
        // The second call does nothing: the events of one run look alike.
        let _ = self.inner.event_writer.set(writer);
    }

    /// Wakes those who have something to do now.
    pub(super) fn tell(&self, told: Told) {
        if told.queue {
            self.inner.events.notify();
        }
        if told.outbox {
            self.wake_outbox();
        }
    }

    pub(super) fn event_writer(&self) -> Option<EventWriter> {
        self.inner.event_writer.get().cloned()
    }

    pub fn event_config(&self, sub_app_id: u64) -> Result<EventConfig, CatalogError> {
        self.read(|connection| config(connection, sub_app_id))
    }

    /// Changes what an application wants to know. `change` runs on the writer thread. An application that has its events pushed from now on keeps what
    /// is in its queue: it can still be fetched.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]: no such application.
    pub fn modify_event_config(&self, sub_app_id: u64, change: impl FnOnce(&mut EventConfig) + Send + 'static) -> Result<(), CatalogError> {
        self.write(move |connection| {
            apps::one(connection, sub_app_id)?;
            let mut config = config(connection, sub_app_id)?;
            change(&mut config);
            let body =
                serde_json::to_string(&config).map_err(|error| CatalogError::Storage(format!("an event configuration cannot be stored: {error}")))?;
            connection
                .prepare_cached(
                    "INSERT INTO event_config (sub_app_id, body) VALUES (?1, ?2) ON CONFLICT (sub_app_id) DO UPDATE SET body = excluded.body",
                )?
                .execute(params![stored(sub_app_id), body])?;
            Ok(())
        })
    }

    /// Hands out the oldest events of an application, at most [`EVENTS_PER_PULL`]. Each stays hidden for 30 s, then it comes again.
    pub fn pull_events(&self, sub_app_id: u64, now: WallTime) -> Result<Vec<PulledEvent>, CatalogError> {
        let (app, now, oldest) = (stored(sub_app_id), now.unix_micros(), now.unix_micros().saturating_sub(KEPT_MICROS));
        const DUE: &str = "FROM catalog_event INDEXED BY catalog_event_by_visible WHERE sub_app_id = ?1 AND visible <= ?2 AND create_time > ?3";
        // Most calls of a client that polls find nothing, and cost no write.
        let is_due = |connection: &Connection| Ok(connection.prepare_cached(&format!("SELECT 1 {DUE} LIMIT 1"))?.exists([app, now, oldest])?);
        if !self.read(is_due)? {
            return Ok(Vec::new());
        }
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(&format!("SELECT id, body {DUE} ORDER BY visible, id LIMIT {EVENTS_PER_PULL}"))?;
            let due: Vec<(i64, String)> = statement.query_map([app, now, oldest], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
            let visible = now.saturating_add(HIDDEN_MICROS);
            let mut hide = connection.prepare_cached("UPDATE catalog_event SET visible = ?2 WHERE id = ?1")?;
            due.into_iter()
                .map(|(id, body)| {
                    hide.execute([id, visible])?;
                    Ok(PulledEvent { handle: handle(id, visible), body })
                })
                .collect()
        })
    }

    /// Removes events that were handed out, all or none.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]: a handle is none, not the last one of its event, or more than 30 s old.
    pub fn confirm_events(&self, sub_app_id: u64, handles: &[String], now: WallTime) -> Result<(), CatalogError> {
        let mut events = handles.iter().map(|handle| read_handle(handle)).collect::<Option<Vec<_>>>().ok_or(CatalogError::NotFound)?;
        // A handle given twice is one event.
        events.sort_unstable();
        events.dedup();
        self.write(move |connection| {
            let mut delete =
                connection.prepare_cached("DELETE FROM catalog_event WHERE id = ?1 AND visible = ?2 AND visible >= ?3 AND sub_app_id = ?4")?;
            for (id, visible) in events {
                if delete.execute([id, visible, now.unix_micros(), stored(sub_app_id)])? == 0 {
                    return Err(CatalogError::NotFound);
                }
            }
            Ok(())
        })
    }

    /// How many events there were; for [`Self::wait_for_event`], read before looking into the queue.
    pub fn events_seen(&self) -> u64 {
        self.inner.events.seen()
    }

    /// Waits for another event after `seen`. False: there was none within `timeout`, or the appliance stops.
    pub fn wait_for_event(&self, seen: u64, timeout: Duration) -> bool {
        self.inner.events.wait(seen, timeout)
    }

    /// Ends everybody's waiting for events, now and later.
    pub fn stop_waiting_for_events(&self) {
        self.inner.events.close();
    }

    /// Removes events kept for longer than 4 days; returns how many.
    pub fn purge_events(&self, now: WallTime) -> Result<u64, CatalogError> {
        let oldest = now.unix_micros().saturating_sub(KEPT_MICROS);
        self.write(move |connection| {
            let deleted = connection
                .prepare_cached(
                    "DELETE FROM catalog_event WHERE id IN (SELECT id FROM catalog_event WHERE create_time <= ?1 ORDER BY create_time LIMIT ?2)",
                )?
                .execute([oldest, PURGE_MAX])?;
            Ok(deleted as u64)
        })
    }
}

/// Whom to wake when the transaction is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Told {
    /// Those who wait for events to fetch.
    pub queue: bool,
    /// The sender of messages.
    pub outbox: bool,
}

impl BitOrAssign for Told {
    fn bitor_assign(&mut self, other: Self) {
        self.queue |= other.queue;
        self.outbox |= other.outbox;
    }
}

/// Stores an event if the application wants to know of it; part of the transaction that made it happen.
///
/// Applications that fetch their events have a queue; the events of those that have them pushed enter the outbox.
pub(super) fn emit(
    connection: &Connection,
    writer: Option<&EventWriter>,
    sub_app_id: u64,
    now: WallTime,
    event: &CatalogEvent<'_>,
) -> Result<Told, CatalogError> {
    let Some(writer) = writer else { return Ok(Told::default()) };
    let config = config(connection, sub_app_id)?;
    let wanted = match event {
        CatalogEvent::NewFileUpload(_) => config.upload_complete,
        CatalogEvent::FileDeleted { .. } => config.delete_complete,
        // Without a switch: whoever asked for it waits for it (documented).
        CatalogEvent::EditMediaComplete(_) | CatalogEvent::ProcedureStateChanged { .. } => true,
        CatalogEvent::PersistenceComplete { .. } => config.persistence_complete,
    };
    if !wanted {
        return Ok(Told::default());
    }
    match config.mode {
        EventMode::Pull => {
            enqueue(connection, sub_app_id, now, writer(event))?;
            Ok(Told { queue: true, outbox: false })
        }
        EventMode::Push if config.notification_url.is_empty() => Ok(Told::default()),
        EventMode::Push => {
            let message = NewMessage {
                url: &config.notification_url,
                stream: &format!("application {sub_app_id}"),
                event: event.name(),
                sign: MessageSign::Vod,
                key: &config.sign_key,
                body: &writer(event),
            };
            outbox::enter(connection, &message, now)?;
            Ok(Told { queue: false, outbox: true })
        }
    }
}

/// Is anybody interested in new files? Reading a row for its event costs more than asking this.
pub(super) fn wants_uploads(connection: &Connection, sub_app_id: u64) -> Result<bool, CatalogError> {
    Ok(config(connection, sub_app_id)?.upload_complete)
}

fn enqueue(connection: &Connection, sub_app_id: u64, now: WallTime, body: String) -> Result<(), CatalogError> {
    let app = stored(sub_app_id);
    let id = connection
        .prepare_cached("INSERT INTO catalog_event (sub_app_id, create_time, visible, body) VALUES (?1, ?2, ?2, ?3)")?
        .insert(params![app, now.unix_micros(), body])?;
    // Counted now and then: a count reads them all.
    if id % (QUEUED_MAX / 100) == 0 {
        let dropped = connection
            .prepare_cached(
                "DELETE FROM catalog_event WHERE sub_app_id = ?1 AND id <= (SELECT id FROM catalog_event WHERE sub_app_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            )?
            .execute([app, QUEUED_MAX])?;
        if dropped > 0 {
            tracing::warn!(sub_app_id, dropped, "an application fetches its events too slowly; the oldest are dropped");
        }
    }
    Ok(())
}

fn config(connection: &Connection, sub_app_id: u64) -> Result<EventConfig, CatalogError> {
    let body: Option<String> = connection
        .prepare_cached("SELECT body FROM event_config WHERE sub_app_id = ?1")?
        .query_row([stored(sub_app_id)], |row| row.get(0))
        .optional()?;
    body.map_or_else(
        || Ok(EventConfig::default()),
        |body| serde_json::from_str(&body).map_err(|error| CatalogError::damaged("event configuration", error)),
    )
}

/// Opaque to clients: the event, and when it comes again.
fn handle(id: i64, visible: i64) -> String {
    format!("{id:x}-{visible:x}")
}

fn read_handle(handle: &str) -> Option<(i64, i64)> {
    let (id, visible) = handle.split_once('-')?;
    Some((i64::from_str_radix(id, 16).ok()?, i64::from_str_radix(visible, 16).ok()?))
}
