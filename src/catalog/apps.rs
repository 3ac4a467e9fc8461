//! Sub-applications.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::vod::{AppStatus, SubApp};

use super::{Catalog, CatalogError, stored, unstored};

impl Catalog {
    /// Stores an application under a new id, which is never `reserved` (the main one's id in the API); the id it comes with is ignored.
    ///
    /// # Errors
    /// [`CatalogError::Limit`]: there are `limit` applications besides the main one and those destroyed.
    pub fn create_sub_app(&self, app: SubApp, limit: u64, reserved: u64) -> Result<u64, CatalogError> {
        self.write(move |connection| {
            let there = all(connection)?.iter().filter(|app| app.id != 0).count();
            if there as u64 >= limit {
                return Err(CatalogError::Limit { limit });
            }
            let body = to_json(&app)?;
            let insert = || connection.prepare_cached("INSERT INTO sub_app (body) VALUES (?1)")?.insert([&body]);
            let id = insert()?;
            if unstored(id) != reserved {
                return Ok(unstored(id));
            }
            let next = insert()?;
            connection.prepare_cached("DELETE FROM sub_app WHERE id = ?1")?.execute([id])?;
            Ok(unstored(next))
        })
    }

    /// All applications but those destroyed, the main one (id 0) first.
    pub fn sub_apps(&self) -> Result<Vec<SubApp>, CatalogError> {
        self.read(all)
    }

    /// # Errors
    /// [`CatalogError::NotFound`]: unknown or destroyed.
    pub fn sub_app(&self, id: u64) -> Result<SubApp, CatalogError> {
        self.read(|connection| one(connection, id))
    }

    /// Changes an application. `change` runs on the writer thread.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]: unknown or destroyed; [`CatalogError::InUse`]: to be destroyed, and there are files in it.
    pub fn modify_sub_app(&self, id: u64, change: impl FnOnce(&mut SubApp) + Send + 'static) -> Result<(), CatalogError> {
        self.write(move |connection| {
            let mut app = one(connection, id)?;
            change(&mut app);
            let has_files = || connection.prepare_cached("SELECT 1 FROM media INDEXED BY media_by_app WHERE sub_app_id = ?1")?.exists([stored(id)]);
            if app.status == AppStatus::Destroyed {
                if has_files()? {
                    return Err(CatalogError::InUse);
                }
                // Nobody can ask for these any more.
                connection.prepare_cached("DELETE FROM class WHERE sub_app_id = ?1")?.execute([stored(id)])?;
                connection.prepare_cached("DELETE FROM catalog_event WHERE sub_app_id = ?1")?.execute([stored(id)])?;
                connection.prepare_cached("DELETE FROM event_config WHERE sub_app_id = ?1")?.execute([stored(id)])?;
            }
            connection.prepare_cached("UPDATE sub_app SET body = ?2 WHERE id = ?1")?.execute(params![stored(id), to_json(&app)?])?;
            Ok(())
        })
    }
}

/// The application, or the main one if there is no such application (any more).
pub(super) fn or_main(connection: &Connection, id: u64) -> Result<u64, CatalogError> {
    match one(connection, id) {
        Ok(app) => Ok(app.id),
        Err(CatalogError::NotFound) => Ok(0),
        Err(error) => Err(error),
    }
}

pub(super) fn all(connection: &Connection) -> Result<Vec<SubApp>, CatalogError> {
    let mut statement = connection.prepare_cached("SELECT id, body FROM sub_app ORDER BY id <> 0, id")?;
    let mut rows = statement.query([])?;
    let mut apps = Vec::new();
    while let Some(row) = rows.next()? {
        let app = from_json(unstored(row.get(0)?), &row.get::<_, String>(1)?)?;
        if app.status != AppStatus::Destroyed {
            apps.push(app);
        }
    }
    Ok(apps)
}

pub(super) fn one(connection: &Connection, id: u64) -> Result<SubApp, CatalogError> {
    let body: Option<String> =
        connection.prepare_cached("SELECT body FROM sub_app WHERE id = ?1")?.query_row([stored(id)], |row| row.get(0)).optional()?;
    let app = from_json(id, &body.ok_or(CatalogError::NotFound)?)?;
    if app.status == AppStatus::Destroyed { Err(CatalogError::NotFound) } else { Ok(app) }
}

fn to_json(app: &SubApp) -> Result<String, CatalogError> {
    serde_json::to_string(app).map_err(|error| CatalogError::Storage(format!("an application cannot be stored: {error}")))
}

fn from_json(id: u64, body: &str) -> Result<SubApp, CatalogError> {
    let app: SubApp = serde_json::from_str(body).map_err(|error| CatalogError::damaged("application", error))?;
    Ok(SubApp { id, ..app })
}
