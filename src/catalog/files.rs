//! Finished files: entering them and reading them by id.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};

use crate::domain::FinishedFile;
use crate::units::{FileId, WallTime};

use super::index::{Document, Text, Value};
use super::{Catalog, CatalogError, MediaRow, stored, unstored};

/// Beside a taken entry, free ones are looked for behind the last of this many: files of one moment are numbered through.
const ENTRY_RUN: i64 = 1000;

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
        self.enter_files(vec![(file, name)], now)
    }

    /// Enters several finished files with their catalog names in one transaction: a burst costs one sync of the disk. All or none.
    pub fn enter_files(&self, files: Vec<(FinishedFile, String)>, now: WallTime) -> Result<(), CatalogError> {
        self.write(move |connection| files.iter().try_for_each(|(file, name)| enter(connection, file, name, now)))
    }

    /// The file with the greatest id, so that new ids stay above it whatever the clock says.
    pub fn last_file_id(&self) -> Result<Option<FileId>, CatalogError> {
        self.read(|connection| {
            let id: Option<i64> = connection.prepare_cached("SELECT max(file_id) FROM media")?.query_row([], |row| row.get(0))?;
            id.map(file_id_of).transpose()
        })
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

fn enter(connection: &Connection, file: &FinishedFile, name: &str, now: WallTime) -> Result<(), CatalogError> {
    let identity = &file.identity;
    let file_id = stored(identity.file_id.get());
    if connection.prepare_cached("SELECT 1 FROM media WHERE file_id = ?1")?.exists([file_id])? {
        return Ok(());
    }
    let entry = free_entry(connection, now.unix_micros())?;
    let domain = identity.key.domain.to_ascii_lowercase();
    let (app, stream) = (&*identity.key.app, &*identity.key.stream);
    let (category, storage_class) = (category(file), storage_class(file));
    let json = serde_json::to_string(file).map_err(|error| CatalogError::Storage(format!("file {} cannot be stored: {error}", identity.file_id)))?;
    connection
        .prepare_cached(
            "INSERT INTO media (entry, file_id, sub_app_id, name, description, domain, app, stream, format, category, storage_class, class_id,
                update_time, expire_time)
             VALUES (?1, ?2, ?3, ?4, '', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?1, ?12)",
        )?
        .execute(params![
            entry,
            file_id,
            stored(identity.vod_sub_app_id),
            name,
            domain,
            app,
            stream,
            identity.format.name(),
            category,
            storage_class,
            identity.class_id,
            expire_micros(file),
        ])?;
    connection.prepare_cached("INSERT INTO media_file (entry, file) VALUES (?1, ?2)")?.execute(params![entry, json])?;

    let mut document = Document::new(identity.vod_sub_app_id);
    document.add_text(Text::Name, name);
    for (field, value) in [
        (Value::Domain, domain.as_str()),
        (Value::App, app),
        (Value::Stream, stream),
        (Value::Format, identity.format.name()),
        (Value::Category, category),
        (Value::StorageClass, storage_class),
        (Value::Class, &identity.class_id.to_string()),
    ] {
        document.add_value(field, value);
    }
    connection.prepare_cached("INSERT INTO media_index (rowid, tokens) VALUES (?1, ?2)")?.execute(params![entry, document.into_tokens()])?;
    Ok(())
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

/// The whole row of an entry that exists.
pub(super) fn media_row(connection: &Connection, entry: i64) -> Result<MediaRow, CatalogError> {
    let mut statement = connection
        .prepare_cached("SELECT name, description, update_time, expire_time, file FROM media JOIN media_file USING (entry) WHERE media.entry = ?1")?;
    let (row, json) = statement.query_row([entry], |row: &Row<'_>| {
        let time = |micros: i64| WallTime::from_unix_micros(micros);
        let parts = (row.get(0)?, row.get(1)?, time(row.get(2)?), row.get::<_, Option<i64>>(3)?.map(time));
        Ok((parts, row.get::<_, String>(4)?))
    })?;
    let (name, description, update_time, expire_time) = row;
    let file = serde_json::from_str(&json).map_err(|error| CatalogError::damaged("file", error))?;
    Ok(MediaRow { file, name, description, create_time: WallTime::from_unix_micros(entry), update_time, expire_time })
}

pub(super) fn file_id_of(id: i64) -> Result<FileId, CatalogError> {
    FileId::new(unstored(id)).ok_or_else(|| CatalogError::damaged("file id", id))
}
