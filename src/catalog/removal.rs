//! Deleting files: rows first, bytes after, in an order that survives a crash at every point.
//!
//! One transaction takes the entry out of the catalog, notes its folder for removal and stores the event. Whoever removes the bytes works through the
//! notes ([`Catalog::removals`]) and ticks them off ([`Catalog::removed`]); after a crash it starts where it was.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::vod::{DeletePart, PartKind, RING_APP, Removal};
use crate::units::{FileId, WallTime};

use super::events::{CatalogEvent, EventWriter, Told, emit};
use super::files::{entry_of, file_id_of, media_row, write_extras};
use super::flows::remove_files;
use super::{Catalog, CatalogError, apps, reindex, stored};

/// How long a removal that is done is remembered: longer than any write of a file system may be delayed.
const REMEMBERED_MICROS: i64 = 86_400 * 1_000_000;
/// Done removals forgotten in one transaction.
const FORGOTTEN_MAX: i64 = 10_000;

/// As the index `media_file_by_folder` has it.
const FOLDER_OF_FILE: &str =
    r#"CASE substr(file, instr(file, '"folder":"') + 10, 6) WHEN 'media/' THEN 'media' ELSE substr(file, instr(file, '"folder":"') + 10, 9) END"#;

impl Catalog {
    /// Deletes a file, or some parts of it. It is gone from every answer when this returns; its bytes follow.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]: no such file in this application.
    pub fn delete_media(&self, sub_app_id: u64, file_id: FileId, parts: Vec<DeletePart>, now: WallTime) -> Result<(), CatalogError> {
        let writer = self.event_writer();
        let told = self.write(move |connection| {
            let entry = entry_of(connection, sub_app_id, file_id)?.ok_or(CatalogError::NotFound)?;
            delete(connection, entry, &parts, writer.as_ref(), now)
        })?;
        self.after_deletion(told);
        Ok(())
    }

    /// Deletes the files whose time has come at `now`, at most `count_max`; returns how many.
    pub fn expire(&self, now: WallTime, count_max: usize) -> Result<usize, CatalogError> {
        let is_due = move |connection: &Connection| due(connection, now, 1).map(|due| !due.is_empty());
        if !self.read(is_due)? {
            return Ok(0);
        }
        let writer = self.event_writer();
        let (count, told) = self.write(move |connection| {
            let due = due(connection, now, count_max)?;
            let mut told = Told::default();
            for entry in &due {
                told |= delete(connection, *entry, &[], writer.as_ref(), now)?;
            }
            Ok((due.len(), told))
        })?;
        self.after_deletion(told);
        Ok(count)
    }

    /// Deletes files to make room, the oldest first or (`expiring`) those that expire first, until about `bytes` are freed or there were `count_max`.
    /// Returns how many.
    ///
    /// `label`: only of the data folder with this label.
    pub fn evict(&self, label: Option<&str>, expiring: bool, bytes: u64, count_max: usize, now: WallTime) -> Result<usize, CatalogError> {
        let writer = self.event_writer();
        let label = label.map(str::to_owned);
        let (count, told) = self.write(move |connection| {
            let (mut count, mut freed, mut told) = (0, 0_u64, Told::default());
            for entry in evictable(connection, label.as_deref(), expiring, count_max)? {
                if freed >= bytes {
                    break;
                }
                let size: i64 = connection
                    .prepare_cached("SELECT coalesce(json_extract(file, '$.size_bytes'), 0) FROM media_file WHERE entry = ?1")?
                    .query_row([entry], |row| row.get(0))?;
                freed = freed.saturating_add(u64::try_from(size).unwrap_or(0));
                told |= delete(connection, entry, &[], writer.as_ref(), now)?;
                count += 1;
            }
            Ok((count, told))
        })?;
        self.after_deletion(told);
        Ok(count)
    }

    fn after_deletion(&self, told: Told) {
        self.inner.removals.notify();
        self.tell(told);
    }

    /// Are bytes still to be removed (`label`: in the data folder with this label)?
    pub fn is_removing(&self, label: Option<&str>) -> Result<bool, CatalogError> {
        self.read(|connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM removal WHERE done IS NULL AND (?1 IS NULL OR substr(folder, 1, instr(folder, '/') - 1) = ?1))";
            Ok(connection.prepare_cached(sql)?.query_row([label.map(begin_of_places)], |row| row.get(0))?)
        })
    }

    /// Files whose bytes are to be removed, in the order of their deletion, after the one with the number `after`; with their numbers.
    pub fn removals(&self, after: i64, count_max: usize) -> Result<Vec<(i64, Removal)>, CatalogError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, file_id, folder, entry, whole, parts FROM removal INDEXED BY removal_by_done WHERE done IS NULL AND id > ?1 ORDER BY id LIMIT ?2",
            )?;
            let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get::<_, String>(5)?));
            let rows = statement.query_map(params![after, i64::try_from(count_max).unwrap_or(i64::MAX)], read)?;
            rows.map(|row| {
                let (id, file_id, folder, entry, whole, parts) = row?;
                let parts = serde_json::from_str(&parts).map_err(|error| CatalogError::damaged("removal", error))?;
                Ok((id, Removal { file_id: file_id_of(file_id)?, folder, entry, whole, parts }))
            })
            .collect()
        })
    }

    /// The bytes of removal `id` are gone for good.
    pub fn removed(&self, id: i64, now: WallTime) -> Result<(), CatalogError> {
        self.write(move |connection| {
            connection.prepare_cached("UPDATE removal SET done = ?2 WHERE id = ?1")?.execute([id, now.unix_micros()])?;
            let forgotten = now.unix_micros().saturating_sub(REMEMBERED_MICROS);
            connection
                .prepare_cached("DELETE FROM removal WHERE id IN (SELECT id FROM removal WHERE done < ?1 ORDER BY done LIMIT ?2)")?
                .execute([forgotten, FORGOTTEN_MAX])?;
            Ok(())
        })
    }

    /// How many deletions there were; for [`Self::wait_for_removal`].
    pub fn removals_seen(&self) -> u64 {
        self.inner.removals.seen()
    }

    /// Waits for another deletion after `seen`. False: there was none within `timeout`, or the appliance stops.
    pub fn wait_for_removal(&self, seen: u64, timeout: Duration) -> bool {
        self.inner.removals.wait(seen, timeout)
    }

    /// Ends everybody's waiting for removals, now and later.
    pub fn stop_waiting_for_removals(&self) {
        self.inner.removals.close();
    }
}

/// Was this file deleted, not long ago?
pub(super) fn is_remembered(connection: &Connection, file_id: FileId) -> Result<bool, CatalogError> {
    Ok(connection.prepare_cached("SELECT 1 FROM removal WHERE file_id = ?1 AND whole = 1")?.exists([stored(file_id.get())])?)
}

/// Entries whose time has come, application by application.
fn due(connection: &Connection, now: WallTime, count_max: usize) -> Result<Vec<i64>, CatalogError> {
    let mut due = Vec::new();
    let mut statement = connection.prepare_cached(
        "SELECT entry FROM media INDEXED BY media_by_expiry WHERE sub_app_id = ?1 AND expire_time <= ?2 ORDER BY expire_time LIMIT ?3",
    )?;
    for app in with_ring(connection)? {
        let left = i64::try_from(count_max - due.len()).unwrap_or(i64::MAX);
        for entry in statement.query_map([stored(app), now.unix_micros(), left], |row| row.get(0))? {
            due.push(entry?);
        }
    }
    Ok(due)
}

/// All applications, and where the files of the ring lie.
fn with_ring(connection: &Connection) -> Result<Vec<u64>, CatalogError> {
    Ok(apps::all(connection)?.iter().map(|app| app.id).chain([RING_APP]).collect())
}

/// Entries in the order in which they go.
fn evictable(connection: &Connection, label: Option<&str>, expiring: bool, count_max: usize) -> Result<Vec<i64>, CatalogError> {
    let count_max = i64::try_from(count_max).unwrap_or(i64::MAX);
    if let Some(begin) = label.map(begin_of_places) {
        let is_there = format!("{FOLDER_OF_FILE} = ?1");
        let sql = match expiring {
            false => format!("SELECT entry FROM media_file INDEXED BY media_file_by_folder WHERE {is_there} ORDER BY entry LIMIT ?2"),
            true => format!(
                "SELECT media.entry FROM media_file INDEXED BY media_file_by_folder JOIN media ON media.entry = media_file.entry
                 WHERE {is_there} AND expire_time IS NOT NULL ORDER BY expire_time, media.entry LIMIT ?2"
            ),
        };
        let mut statement = connection.prepare_cached(&sql)?;
        return Ok(statement.query_map(params![begin, count_max], |row| row.get(0))?.collect::<Result<_, _>>()?);
    }
    if !expiring {
        let mut statement = connection.prepare_cached("SELECT entry FROM media ORDER BY entry LIMIT ?1")?;
        return Ok(statement.query_map([count_max], |row| row.get(0))?.collect::<Result<_, _>>()?);
    }
    let mut found: Vec<(i64, i64)> = Vec::new();
    let mut statement = connection.prepare_cached(
        "SELECT expire_time, entry FROM media INDEXED BY media_by_expiry WHERE sub_app_id = ?1 AND expire_time IS NOT NULL ORDER BY expire_time LIMIT ?2",
    )?;
    for app in with_ring(connection)? {
        for row in statement.query_map([stored(app), count_max], |row| Ok((row.get(0)?, row.get(1)?)))? {
            found.push(row?);
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().take(count_max as usize).map(|(_, entry)| entry).collect())
}

/// The begin of places in the data folder with this label: the first one has none.
fn begin_of_places(label: &str) -> &str {
    if label.is_empty() { "media" } else { label }
}

/// Takes an entry, or parts of it, out of the catalog.
fn delete(connection: &Connection, entry: i64, parts: &[DeletePart], writer: Option<&EventWriter>, now: WallTime) -> Result<Told, CatalogError> {
    let row = media_row(connection, entry)?;
    let file_id = row.file.identity.file_id;
    let whole = parts.is_empty();
    // The original goes once.
    if whole || (parts.iter().any(|part| part.kind == PartKind::OriginalFiles) && !row.extras.original_deleted) {
        let removal = "INSERT INTO removal (file_id, folder, entry, whole) VALUES (?1, ?2, ?3, ?4)";
        connection.prepare_cached(removal)?.execute(params![stored(file_id.get()), row.file.folder, row.file.entry, whole])?;
    }
    if whole {
        reindex::delete(connection, entry)?;
        connection.prepare_cached("DELETE FROM media_file WHERE entry = ?1")?.execute([entry])?;
        connection.prepare_cached("DELETE FROM media WHERE entry = ?1")?.execute([entry])?;
    } else {
        let mut extras = row.extras.clone();
        let mut made = Vec::new();
        for part in parts {
            match part.kind {
                PartKind::OriginalFiles => extras.original_deleted = true,
                PartKind::TranscodeFiles => made.extend(extras.results.remove_renditions(part.definition)),
                PartKind::AdaptiveDynamicStreamingFiles => made.extend(extras.results.remove_adaptives(part.definition)),
                // Nothing of that kind is made here.
                PartKind::WechatPublishFiles => {}
            }
        }
        remove_files(connection, &row, &made, |name| extras.results.has(name))?;
        write_extras(connection, entry, &extras)?;
        connection.prepare_cached("UPDATE media SET update_time = max(update_time, ?2) WHERE entry = ?1")?.execute([entry, now.unix_micros()])?;
    }
    if row.sub_app_id == RING_APP {
        return Ok(Told::default());
    }
    emit(connection, writer, row.sub_app_id, now, &CatalogEvent::FileDeleted { file_id, parts })
}

/// The greatest id a file ever had.
pub(super) fn greatest_file_id(connection: &Connection) -> Result<Option<FileId>, CatalogError> {
    let id: Option<i64> =
        connection.prepare_cached("SELECT value FROM high_water WHERE name = 'file_id'")?.query_row([], |row| row.get(0)).optional()?;
    id.filter(|id| *id != 0).map(file_id_of).transpose()
}
