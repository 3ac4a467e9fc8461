//! Finished files: entering them and reading them by id.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::vod::{AppStatus, CLASS_OTHER, MediaExtras, RING_APP};
use crate::domain::{FinishedFile, MadeBy, RecordingSource};
use crate::units::{FileId, WallTime};

use super::callbacks::{CallbackWriter, enter_misplaced, enter_recorded};
use super::events::{CatalogEvent, EventWriter, Told, emit, wants_uploads};
use super::flows::{self, Started};
use super::{Catalog, CatalogError, MediaRow, RestoredFile, apps, classes, reindex, removal, stored, unstored};

/// Beside a taken entry, free ones are looked for behind the last of this many: files of one moment are numbered through.
const ENTRY_RUN: i64 = 1000;

/// Characters of a description, as in calls.
const DESCRIPTION_CHARS_MAX: usize = 128;

impl MediaRow {
    /// `Video` or `Audio` (`BasicInfo.Category`).
    pub fn category(&self) -> &'static str {
        category(&self.file)
    }

    /// `STANDARD` or `STANDARD_IA` (`BasicInfo.StorageClass`).
    pub fn storage_class(&self) -> &'static str {
        storage_class(&self.file)
    }
}

impl Catalog {
    /// Enters a finished file; entering the same file again changes nothing.
    ///
    /// Create times are unique: of several files entered at one moment the later ones count up by microseconds. That is also the order of entry.
    pub fn enter_file(&self, file: FinishedFile, name: String, now: WallTime) -> Result<(), CatalogError> {
        self.enter_files(vec![(file, name)], now).map(|_| ())
    }

    /// Enters several finished files with their catalog names in one transaction: a burst costs one sync of the disk. All or none.
    ///
    /// A file whose application or class is gone falls back to the main one and to class 0 rather than being lost; the answer names those files. A file
    /// that was deleted a moment ago is not entered again.
    pub fn enter_files(&self, files: Vec<(FinishedFile, String)>, now: WallTime) -> Result<Vec<FellBack>, CatalogError> {
        let writers = Writers { events: self.event_writer(), callbacks: self.callback_writer(), flows_of: Some(self.app_id()) };
        let (fell_back, told) = self.write(move |connection| {
            let (mut fell_back, mut told) = (Vec::new(), Told::default());
            for (file, name) in &files {
                told |= enter(connection, file, name, now, &writers, &mut fell_back)?;
            }
            Ok((fell_back, told))
        })?;
        self.flow_entered();
        self.tell(told);
        Ok(fell_back)
    }

    /// Enters a clip that is to be kept, and says so. `source`: the call that made it.
    pub fn enter_clip(&self, file: FinishedFile, name: String, source: &'static str, now: WallTime) -> Result<MediaRow, CatalogError> {
        let writers = Writers { events: self.event_writer(), callbacks: None, flows_of: Some(self.app_id()) };
        let (row, told) = self.write(move |connection| {
            let file_id = file.identity.file_id;
            let mut told = enter(connection, &file, &name, now, &writers, &mut Vec::new())?;
            let row = media_row_of(connection, file_id)?;
            told |= emit(connection, writers.events.as_ref(), row.sub_app_id, now, &CatalogEvent::PersistenceComplete { file_id, source })?;
            Ok((row, told))
        })?;
        self.flow_entered();
        self.tell(told);
        Ok(row)
    }

    /// Enters files that were in a catalog before. Nothing is announced: whoever had to know of them has been told.
    pub fn restore_files(&self, files: Vec<RestoredFile>) -> Result<(), CatalogError> {
        self.write(move |connection| {
            let nobody = Writers::default();
            files.iter().try_for_each(|RestoredFile { file, name, created, extras }| {
                let file_id = file.identity.file_id;
                let is_new = entry_of_any(connection, file_id)?.is_none();
                enter(connection, file, name, *created, &nobody, &mut Vec::new())?;
                // What is there already knows more of itself.
                match entry_of_any(connection, file_id)? {
                    Some(entry) if is_new && *extras != MediaExtras::default() => write_extras(connection, entry, extras),
                    _ => Ok(()),
                }
            })
        })
    }

    /// The greatest id a file ever had, deleted ones included, so that new ids stay above it whatever the clock says.
    pub fn last_file_id(&self) -> Result<Option<FileId>, CatalogError> {
        self.read(removal::greatest_file_id)
    }

    /// A file of any application, and whether that application's files are played (its status is `On`).
    pub fn playable(&self, id: FileId) -> Result<Option<(MediaRow, bool)>, CatalogError> {
        self.read(|connection| {
            let Some(entry) = entry_of_any(connection, id)? else { return Ok(None) };
            let row = media_row(connection, entry)?;
            let app = if row.sub_app_id == RING_APP { apps::or_main(connection, row.file.identity.vod_sub_app_id)? } else { row.sub_app_id };
            let status = apps::one(connection, app)?.status;
            Ok(Some((row, status == AppStatus::On)))
        })
    }

    /// Changes whenever anything in the catalog does: what was read under the same number is still true.
    pub fn version(&self) -> u64 {
        self.inner.writer.version()
    }

    /// Are the files of an application played (its status is `On`)? A destroyed one's files lie in the main one.
    pub fn is_app_on(&self, sub_app_id: u64) -> Result<bool, CatalogError> {
        self.read(|connection| Ok(apps::one(connection, apps::or_main(connection, sub_app_id)?)?.status == AppStatus::On))
    }

    /// The files of a sub-application among `ids`; the others are absent from the answer.
    pub fn files(&self, sub_app_id: u64, ids: &[FileId]) -> Result<BTreeMap<FileId, MediaRow>, CatalogError> {
        self.read(|connection| {
            let mut found = BTreeMap::new();
            for id in ids {
                if let Some(entry) = entry_of(connection, sub_app_id, *id)? {
                    found.insert(*id, media_row(connection, entry)?);
                }
            }
            Ok(found)
        })
    }
}

/// What a file's template named and what is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gone {
    Application(u64),
    Class(i64),
    /// A task flow: nothing is made from the file.
    Procedure(String),
}

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Gone::Application(id) => write!(f, "the application {id} is gone; the file lies in the main one"),
            Gone::Class(id) => write!(f, "the class {id} is gone; the file lies in none"),
            Gone::Procedure(name) => write!(f, "the task flow {name} is gone; nothing is made from the file"),
        }
    }
}

/// A file that lies elsewhere than its template says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FellBack {
    pub file_id: FileId,
    pub gone: Gone,
}

/// Whoever wants to know of a file; without them nobody is told.
#[derive(Default)]
pub(super) struct Writers {
    pub(super) events: Option<EventWriter>,
    pub(super) callbacks: Option<CallbackWriter>,
    /// The flow that a file's template names is started, with the ids of this AppId.
    pub(super) flows_of: Option<u64>,
}

/// Enters one file, with what is told of it, and starts its flow.
pub(super) fn enter(
    connection: &Connection,
    file: &FinishedFile,
    name: &str,
    now: WallTime,
    writers: &Writers,
    fell_back: &mut Vec<FellBack>,
) -> Result<Told, CatalogError> {
    let identity = &file.identity;
    let file_id = stored(identity.file_id.get());
    let is_known = connection.prepare_cached("SELECT 1 FROM media WHERE file_id = ?1")?.exists([file_id])?;
    if is_known || removal::is_remembered(connection, identity.file_id)? {
        return Ok(Told::default());
    }
    // What is kept for later is nobody's file yet, and nobody is told.
    let is_ring = identity.source == RecordingSource::Ring;
    let nobody = Writers::default();
    let writers = if is_ring { &nobody } else { writers };
    let fell_back_before = fell_back.len();
    let sub_app_id = if is_ring { RING_APP } else { apps::or_main(connection, identity.vod_sub_app_id)? };
    if sub_app_id != identity.vod_sub_app_id && !is_ring {
        fell_back.push(FellBack { file_id: identity.file_id, gone: Gone::Application(identity.vod_sub_app_id) });
    }
    let class_id = if classes::exists(connection, sub_app_id, identity.class_id)? {
        identity.class_id
    } else {
        fell_back.push(FellBack { file_id: identity.file_id, gone: Gone::Class(identity.class_id) });
        CLASS_OTHER
    };
    let entry = free_entry(connection, now.unix_micros())?;
    let mut domain = identity.key.domain.to_ascii_lowercase();
    let (mut app, mut stream) = (&*identity.key.app, &*identity.key.stream);
    if matches!(identity.source, RecordingSource::Made(MadeBy::EditMedia | MadeBy::SimpleHlsClip)) {
        // It came out of recordings, and is not found as one of its stream.
        domain.clear();
        (app, stream) = ("", "");
    }
    let (category, storage_class) = (category(file), storage_class(file));
    // Whoever looks at the file sees at once that something is missing.
    let trouble: String = file.receipt.trouble().chars().take(DESCRIPTION_CHARS_MAX).collect();
    let json = serde_json::to_string(file).map_err(|error| CatalogError::Storage(format!("file {} cannot be stored: {error}", identity.file_id)))?;
    connection
        .prepare_cached(
            "INSERT INTO media (entry, file_id, sub_app_id, name, description, domain, app, stream, format, category, storage_class, class_id,
                update_time, expire_time)
             VALUES (?1, ?2, ?3, ?4, ?13, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?1, ?12)",
        )?
        .execute(params![
            entry,
            file_id,
            stored(sub_app_id),
            name,
            domain,
            app,
            stream,
            identity.format.name(),
            category,
            storage_class,
            class_id,
            expire_micros(file),
            trouble,
        ])?;
    connection.prepare_cached("INSERT INTO media_file (entry, file) VALUES (?1, ?2)")?.execute(params![entry, json])?;
    reindex::insert(connection, entry)?;
    connection
        .prepare_cached(
            "INSERT INTO high_water (name, value) VALUES ('file_id', ?1) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        )?
        .execute([file_id])?;
    let mut told = Told::default();
    if let Some(app_id) = writers.flows_of {
        match flows::start(connection, app_id, sub_app_id, identity.file_id, &identity.procedure, now)? {
            Started::None => {}
            Started::Task(procedure_task) => write_extras(connection, entry, &MediaExtras { procedure_task, ..MediaExtras::default() })?,
            Started::Missing => {
                fell_back.push(FellBack { file_id: identity.file_id, gone: Gone::Procedure(identity.procedure.clone()) });
            }
        }
    }
    if let Some(writer) = &writers.callbacks {
        for fallen in &fell_back[fell_back_before..] {
            told.outbox |= enter_misplaced(connection, writer, identity, &fallen.gone.to_string(), now)?;
        }
        told.outbox |= enter_recorded(connection, writer, identity, || media_row(connection, entry), now)?;
    }
    if writers.events.is_some() && wants_uploads(connection, sub_app_id)? {
        let row = media_row(connection, entry)?;
        told |= emit(connection, writers.events.as_ref(), sub_app_id, now, &CatalogEvent::NewFileUpload(&row))?;
    }
    Ok(told)
}

/// The first free entry at or after `wanted`, or one shortly after it.
fn free_entry(connection: &Connection, wanted: i64) -> Result<i64, CatalogError> {
    if !connection.prepare_cached("SELECT 1 FROM media WHERE entry = ?1")?.exists([wanted])? {
        return Ok(wanted);
    }
    let mut from = wanted;
    // Every round passes at least one entry that exists, so the size of the catalog bounds it.
    loop {
        let last: Option<i64> = connection
            .prepare_cached("SELECT max(entry) FROM media WHERE entry >= ?1 AND entry < ?2")?
            .query_row([from, from.saturating_add(ENTRY_RUN)], |row| row.get(0))?;
        match last {
            None => return Ok(from),
            Some(last) => {
                from = last.checked_add(1).ok_or_else(|| CatalogError::Storage("the clock is beyond the calendar".to_owned()))?;
            }
        }
    }
}

fn category(file: &FinishedFile) -> &'static str {
    if file.summary.video.is_some() { "Video" } else { "Audio" }
}

fn storage_class(file: &FinishedFile) -> &'static str {
    if file.identity.storage_mode == "cold" { "STANDARD_IA" } else { "STANDARD" }
}

fn expire_micros(file: &FinishedFile) -> Option<i64> {
    let kept_s = file.identity.storage_time_s;
    (kept_s != 0).then(|| file.end.unix_micros().saturating_add(i64::try_from(kept_s).unwrap_or(i64::MAX).saturating_mul(1_000_000)))
}

pub(super) fn entry_of(connection: &Connection, sub_app_id: u64, id: FileId) -> Result<Option<i64>, CatalogError> {
    let mut statement = connection.prepare_cached("SELECT entry FROM media WHERE file_id = ?1 AND sub_app_id = ?2")?;
    let mut rows = statement.query([stored(id.get()), stored(sub_app_id)])?;
    Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
}

/// The row of a file that was just entered.
pub(super) fn media_row_of(connection: &Connection, id: FileId) -> Result<MediaRow, CatalogError> {
    let entry: Option<i64> =
        connection.prepare_cached("SELECT entry FROM media WHERE file_id = ?1")?.query_row([stored(id.get())], |row| row.get(0)).optional()?;
    media_row(connection, entry.ok_or(CatalogError::NotFound)?)
}

/// The whole row of an entry that exists.
pub(super) fn media_row(connection: &Connection, entry: i64) -> Result<MediaRow, CatalogError> {
    let mut statement = connection.prepare_cached(
        "SELECT name, description, update_time, expire_time, sub_app_id, class_id, tags, file, extras
         FROM media JOIN media_file USING (entry) WHERE media.entry = ?1",
    )?;
    let mut rows = statement.query([entry])?;
    let row = rows.next()?.ok_or(CatalogError::NotFound)?;
    let text = |column: usize| row.get_ref(column)?.as_str().map_err(|error| CatalogError::damaged("file", error));
    let sub_app_id = unstored(row.get(4)?);
    Ok(MediaRow {
        file: serde_json::from_str(text(7)?).map_err(|error| CatalogError::damaged("file", error))?,
        name: text(0)?.to_owned(),
        description: text(1)?.to_owned(),
        create_time: WallTime::from_unix_micros(entry),
        update_time: WallTime::from_unix_micros(row.get(2)?),
        expire_time: row.get::<_, Option<i64>>(3)?.map(WallTime::from_unix_micros),
        sub_app_id,
        class: classes::of_file(connection, sub_app_id, row.get(5)?)?,
        tags: reindex::read_tags(text(6)?)?,
        extras: serde_json::from_str(text(8)?).map_err(|error| CatalogError::damaged("file", error))?,
    })
}

/// The row of a file of any application.
fn entry_of_any(connection: &Connection, file_id: FileId) -> Result<Option<i64>, CatalogError> {
    let find = "SELECT entry FROM media WHERE file_id = ?1";
    Ok(connection.prepare_cached(find)?.query_row([stored(file_id.get())], |row| row.get(0)).optional()?)
}

pub(super) fn write_extras(connection: &Connection, entry: i64, extras: &MediaExtras) -> Result<(), CatalogError> {
    let json = serde_json::to_string(extras).map_err(|error| CatalogError::Storage(format!("remarks on a file cannot be stored: {error}")))?;
    connection.prepare_cached("UPDATE media_file SET extras = ?2 WHERE entry = ?1")?.execute(params![entry, json])?;
    Ok(())
}

pub(super) fn file_id_of(id: i64) -> Result<FileId, CatalogError> {
    FileId::new(unstored(id)).ok_or_else(|| CatalogError::damaged("file id", id))
}
