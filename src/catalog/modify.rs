//! ModifyMediaInfo: what users may change of an entry.

use rusqlite::params;

use crate::domain::vod::MediaExtras;
use crate::units::{FileId, WallTime};

use super::files::{entry_of, media_row, write_extras};
use super::{Catalog, CatalogError, classes, reindex};

/// What may be changed of a file.
#[derive(Clone, PartialEq, Debug)]
pub struct MediaChange {
    pub name: String,
    pub description: String,
    pub class_id: i64,
    /// `None`: kept for ever.
    pub expire_time: Option<WallTime>,
    pub tags: Vec<String>,
    pub extras: MediaExtras,
}

impl Catalog {
    /// Reads, changes and stores an entry with nothing in between; its update time moves to `now`. If `change` refuses, nothing is stored. It runs on the
    /// writer thread.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]: no such file in this application. Inside the answer: what `change` says, or `no_class` if the class it wants does not
    /// exist.
    pub fn modify_media<E: Send + 'static>(
        &self,
        sub_app_id: u64,
        file_id: FileId,
        now: WallTime,
        no_class: E,
        change: impl FnOnce(&mut MediaChange) -> Result<(), E> + Send + 'static,
    ) -> Result<Result<(), E>, CatalogError> {
        let outcome = self.write(move |connection| {
            let entry = entry_of(connection, sub_app_id, file_id)?.ok_or(CatalogError::NotFound)?;
            let row = media_row(connection, entry)?;
            let before = MediaChange {
                name: row.name,
                description: row.description,
                class_id: row.class.id,
                expire_time: row.expire_time,
                tags: row.tags,
                extras: row.extras,
            };
            let mut after = before.clone();
            if let Err(refusal) = change(&mut after) {
                return Ok(Err(refusal));
            }
            if !classes::exists(connection, sub_app_id, after.class_id)? {
                return Ok(Err(no_class));
            }
            let tags = serde_json::to_string(&after.tags).map_err(|error| CatalogError::Storage(format!("tags cannot be stored: {error}")))?;
            connection
                .prepare_cached(
                    "UPDATE media SET name = ?2, description = ?3, class_id = ?4, expire_time = ?5, tags = ?6, update_time = max(update_time, ?7)
                     WHERE entry = ?1",
                )?
                .execute(params![
                    entry,
                    after.name,
                    after.description,
                    after.class_id,
                    after.expire_time.map(WallTime::unix_micros),
                    tags,
                    now.unix_micros()
                ])?;
            if after.extras != before.extras {
                write_extras(connection, entry, &after.extras)?;
            }
            reindex::delete(connection, entry)?;
            reindex::insert(connection, entry)?;
            Ok(Ok(()))
        })?;
        // It may expire earlier than anything before.
        self.inner.removals.notify();
        Ok(outcome)
    }
}
