//! Definitions of what is made from files, and what has a name of its own instead of a number: task flows and players. Bodies are JSON.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::definition::{Definition, DefinitionKind};
use crate::domain::presets;
use crate::units::WallTime;

use super::{Catalog, CatalogError, stored};

/// A stored body with its times.
#[derive(Clone, PartialEq, Debug)]
pub struct Stored<B> {
    pub body: B,
    pub create_time: WallTime,
    pub update_time: WallTime,
}

/// What has a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NamedKind {
    Procedure,
    Player,
    /// How an application's files are reached; one, without a name.
    Distribution,
}

impl NamedKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Procedure => "procedure",
            Self::Player => "player",
            Self::Distribution => "distribution",
        }
    }
}

fn to_json(body: &impl serde::Serialize) -> Result<String, CatalogError> {
    serde_json::to_string(body).map_err(|error| CatalogError::Storage(format!("a definition cannot be stored: {error}")))
}

fn from_json<B: for<'a> serde::Deserialize<'a>>(body: &str) -> Result<B, CatalogError> {
    serde_json::from_str(body).map_err(|error| CatalogError::damaged("definition", error))
}

fn read<B: for<'a> serde::Deserialize<'a>>((body, created, updated): (String, i64, i64)) -> Result<Stored<B>, CatalogError> {
    Ok(Stored { body: from_json(&body)?, create_time: WallTime::from_unix_micros(created), update_time: WallTime::from_unix_micros(updated) })
}

impl Catalog {
    /// Stores a definition under a new number, never used again.
    ///
    /// # Errors
    /// [`CatalogError::Limit`]: the application has `limit` of that kind.
    pub fn create_definition<D: Definition>(&self, sub_app_id: u64, body: D, limit: u64, now: WallTime) -> Result<i64, CatalogError> {
        self.write(move |connection| {
            let count: i64 = connection
                .prepare_cached("SELECT count(*) FROM definition WHERE sub_app_id = ?1 AND kind = ?2")?
                .query_row(params![stored(sub_app_id), D::KIND.name()], |row| row.get(0))?;
            if count.unsigned_abs() >= limit {
                return Err(CatalogError::Limit { limit });
            }
            let insert = "INSERT INTO definition (sub_app_id, kind, body, create_time, update_time) VALUES (?1, ?2, ?3, ?4, ?4)";
            let values = params![stored(sub_app_id), D::KIND.name(), to_json(&body)?, now.unix_micros()];
            Ok(connection.prepare_cached(insert)?.insert(values)?)
        })
    }

    /// The custom definitions of an application by number.
    pub fn definitions<D: Definition>(&self, sub_app_id: u64) -> Result<Vec<(i64, Stored<D>)>, CatalogError> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT id, body, create_time, update_time FROM definition WHERE sub_app_id = ?1 AND kind = ?2 ORDER BY id")?;
            let row = |row: &Row<'_>| Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)));
            let rows = statement.query_map(params![stored(sub_app_id), D::KIND.name()], row)?;
            rows.map(|row| row.map_err(CatalogError::from).and_then(|(id, rest)| Ok((id, read(rest)?)))).collect()
        })
    }

    /// A definition by its number, preset or custom.
    pub fn definition<D: Definition>(&self, sub_app_id: u64, id: i64) -> Result<Option<D>, CatalogError> {
        if let Some(preset) = presets::preset(id) {
            return Ok(Some(preset));
        }
        self.read(|connection| body_of(connection, sub_app_id, D::KIND, id)?.map(|body| from_json(&body)).transpose())
    }

    /// Changes a custom definition. If `change` refuses, nothing is stored. It runs on the writer thread.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]; inside: what `change` says.
    pub fn modify_definition<D: Definition, E: Send + 'static>(
        &self,
        sub_app_id: u64,
        id: i64,
        now: WallTime,
        change: impl FnOnce(&mut D) -> Result<(), E> + Send + 'static,
    ) -> Result<Result<(), E>, CatalogError> {
        self.write(move |connection| {
            let body = body_of(connection, sub_app_id, D::KIND, id)?.ok_or(CatalogError::NotFound)?;
            let mut body: D = from_json(&body)?;
            if let Err(refusal) = change(&mut body) {
                return Ok(Err(refusal));
            }
            connection.prepare_cached("UPDATE definition SET body = ?2, update_time = ?3 WHERE id = ?1")?.execute(params![
                id,
                to_json(&body)?,
                now.unix_micros()
            ])?;
            Ok(Ok(()))
        })
    }

    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn delete_definition(&self, sub_app_id: u64, kind: DefinitionKind, id: i64) -> Result<(), CatalogError> {
        self.write(move |connection| {
            let deleted = connection.prepare_cached("DELETE FROM definition WHERE id = ?1 AND sub_app_id = ?2 AND kind = ?3")?.execute(params![
                id,
                stored(sub_app_id),
                kind.name()
            ])?;
            if deleted == 0 { Err(CatalogError::NotFound) } else { Ok(()) }
        })
    }

    /// Stores a new body under a name of its own.
    ///
    /// # Errors
    /// [`CatalogError::Exists`]; [`CatalogError::Limit`]: the application has `limit` of that kind.
    pub fn create_named<B: serde::Serialize>(
        &self,
        sub_app_id: u64,
        kind: NamedKind,
        name: String,
        body: &B,
        limit: u64,
        now: WallTime,
    ) -> Result<(), CatalogError> {
        let body = to_json(body)?;
        self.write(move |connection| {
            if named_of(connection, sub_app_id, kind, &name)?.is_some() {
                return Err(CatalogError::Exists);
            }
            let count: i64 = connection
                .prepare_cached("SELECT count(*) FROM named_definition WHERE sub_app_id = ?1 AND kind = ?2")?
                .query_row(params![stored(sub_app_id), kind.name()], |row| row.get(0))?;
            if count.unsigned_abs() >= limit {
                return Err(CatalogError::Limit { limit });
            }
            let insert = "INSERT INTO named_definition (sub_app_id, kind, name, body, create_time, update_time) VALUES (?1, ?2, ?3, ?4, ?5, ?5)";
            connection.prepare_cached(insert)?.execute(params![stored(sub_app_id), kind.name(), name, body, now.unix_micros()])?;
            Ok(())
        })
    }

    /// All of an application by name.
    pub fn named<B: for<'a> serde::Deserialize<'a>>(&self, sub_app_id: u64, kind: NamedKind) -> Result<Vec<(String, Stored<B>)>, CatalogError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT name, body, create_time, update_time FROM named_definition WHERE sub_app_id = ?1 AND kind = ?2 ORDER BY name",
            )?;
            let row = |row: &Row<'_>| Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)));
            let rows = statement.query_map(params![stored(sub_app_id), kind.name()], row)?;
            rows.map(|row| row.map_err(CatalogError::from).and_then(|(name, rest)| Ok((name, read(rest)?)))).collect()
        })
    }

    /// One by name.
    pub fn one_named<B: for<'a> serde::Deserialize<'a>>(&self, sub_app_id: u64, kind: NamedKind, name: &str) -> Result<Option<B>, CatalogError> {
        self.read(|connection| named_of(connection, sub_app_id, kind, name)?.map(|body| from_json(&body)).transpose())
    }

    /// Changes one by name. If `change` refuses, nothing is stored. It runs on the writer thread.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]; inside: what `change` says.
    pub fn modify_named<B: serde::Serialize + for<'a> serde::Deserialize<'a>, E: Send + 'static>(
        &self,
        sub_app_id: u64,
        kind: NamedKind,
        name: String,
        now: WallTime,
        change: impl FnOnce(&mut B) -> Result<(), E> + Send + 'static,
    ) -> Result<Result<(), E>, CatalogError> {
        self.write(move |connection| {
            let mut body: B = from_json(&named_of(connection, sub_app_id, kind, &name)?.ok_or(CatalogError::NotFound)?)?;
            if let Err(refusal) = change(&mut body) {
                return Ok(Err(refusal));
            }
            connection
                .prepare_cached("UPDATE named_definition SET body = ?4, update_time = ?5 WHERE sub_app_id = ?1 AND kind = ?2 AND name = ?3")?
                .execute(params![stored(sub_app_id), kind.name(), name, to_json(&body)?, now.unix_micros()])?;
            Ok(Ok(()))
        })
    }

    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn delete_named(&self, sub_app_id: u64, kind: NamedKind, name: String) -> Result<(), CatalogError> {
        self.write(move |connection| {
            let deleted = connection
                .prepare_cached("DELETE FROM named_definition WHERE sub_app_id = ?1 AND kind = ?2 AND name = ?3")?
                .execute(params![stored(sub_app_id), kind.name(), name])?;
            if deleted == 0 { Err(CatalogError::NotFound) } else { Ok(()) }
        })
    }
}

fn body_of(connection: &Connection, sub_app_id: u64, kind: DefinitionKind, id: i64) -> Result<Option<String>, CatalogError> {
    Ok(connection
        .prepare_cached("SELECT body FROM definition WHERE id = ?1 AND sub_app_id = ?2 AND kind = ?3")?
        .query_row(params![id, stored(sub_app_id), kind.name()], |row| row.get(0))
        .optional()?)
}

pub(super) fn named_of(connection: &Connection, sub_app_id: u64, kind: NamedKind, name: &str) -> Result<Option<String>, CatalogError> {
    Ok(connection
        .prepare_cached("SELECT body FROM named_definition WHERE sub_app_id = ?1 AND kind = ?2 AND name = ?3")?
        .query_row(params![stored(sub_app_id), kind.name(), name], |row| row.get(0))
        .optional()?)
}
