//! Record and callback templates.

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::{CallbackTemplate, RecordTemplate};
use crate::units::{TemplateId, WallTime};

use super::{Catalog, CatalogError, stored, unstored};

/// A kind of template: JSON in a table, under ids that count from 1001 and are never used again, and the rules that give it to streams.
pub trait Template: Serialize + DeserializeOwned + Send + 'static {
    const TABLE: &'static str;
    const RULE_TABLE: &'static str;
    fn id_mut(&mut self) -> &mut TemplateId;
}

impl Template for RecordTemplate {
    const TABLE: &'static str = "template";
    const RULE_TABLE: &'static str = "rule";
    fn id_mut(&mut self) -> &mut TemplateId {
        &mut self.id
    }
}

impl Template for CallbackTemplate {
    const TABLE: &'static str = "callback_template";
    const RULE_TABLE: &'static str = "callback_rule";
    fn id_mut(&mut self) -> &mut TemplateId {
        &mut self.id
    }
}

impl Catalog {
    /// True until the first-run template and rule have been entered once; false for ever after the first record template of any kind.
    pub fn is_new(&self) -> Result<bool, CatalogError> {
        self.read(is_new)
    }

    /// Enters the first-run template and the rule that gives it to every stream, both or none. `None`: the catalog [is not new](Self::is_new).
    pub fn enter_first_run(&self, template: RecordTemplate, now: WallTime) -> Result<Option<TemplateId>, CatalogError> {
        self.write(move |connection| {
            if !is_new(connection)? {
                return Ok(None);
            }
            let id = insert(connection, template)?;
            connection
                .prepare_cached("INSERT INTO rule (domain, app, stream, template_id, create_time, update_time) VALUES ('', '', '', ?1, ?2, ?2)")?
                .execute(params![stored(id.0), now.unix_micros()])?;
            Ok(Some(id))
        })
    }

    /// Stores a template under a new id; the id it comes with is ignored.
    ///
    /// # Errors
    /// [`CatalogError::Limit`]: there are `limit` templates of its kind already.
    pub fn create_template<T: Template>(&self, template: T, limit: u64) -> Result<TemplateId, CatalogError> {
        self.write(move |connection| {
            let count: i64 = connection.prepare_cached(&format!("SELECT count(*) FROM {}", T::TABLE))?.query_row([], |row| row.get(0))?;
            if unstored(count) >= limit {
                return Err(CatalogError::Limit { limit });
            }
            insert(connection, template)
        })
    }

    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn template<T: Template>(&self, id: TemplateId) -> Result<T, CatalogError> {
        self.read(|connection| one(connection, id))
    }

    /// All templates of a kind by id.
    pub fn templates<T: Template>(&self) -> Result<Vec<T>, CatalogError> {
        self.read(all)
    }

    /// Reads, changes and stores a template with nothing in between. The id cannot be changed. `change` runs on the writer thread.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn modify_template<T: Template>(&self, id: TemplateId, change: Box<dyn FnOnce(&mut T) + Send>) -> Result<(), CatalogError> {
        self.write(move |connection| {
            let mut template = one(connection, id)?;
            change(&mut template);
            *template.id_mut() = id;
            connection
                .prepare_cached(&format!("UPDATE {} SET body = ?2 WHERE id = ?1", T::TABLE))?
                .execute(params![stored(id.0), to_json(&template)?])?;
            Ok(())
        })
    }

    /// # Errors
    /// [`CatalogError::NotFound`]; [`CatalogError::InUse`]: a rule names it.
    pub fn delete_template<T: Template>(&self, id: TemplateId) -> Result<(), CatalogError> {
        self.write(move |connection| {
            if !exists::<T>(connection, id)? {
                return Err(CatalogError::NotFound);
            }
            if connection.prepare_cached(&format!("SELECT 1 FROM {} WHERE template_id = ?1", T::RULE_TABLE))?.exists([stored(id.0)])? {
                return Err(CatalogError::InUse);
            }
            connection.prepare_cached(&format!("DELETE FROM {} WHERE id = ?1", T::TABLE))?.execute([stored(id.0)])?;
            Ok(())
        })
    }
}

pub(super) fn is_new(connection: &Connection) -> Result<bool, CatalogError> {
    // The sequence moves with the first template and never goes back.
    Ok(connection.prepare_cached("SELECT 1 FROM sqlite_sequence WHERE name = 'template' AND seq = 1000")?.exists([])?)
}

pub(super) fn exists<T: Template>(connection: &Connection, id: TemplateId) -> Result<bool, CatalogError> {
    Ok(connection.prepare_cached(&format!("SELECT 1 FROM {} WHERE id = ?1", T::TABLE))?.exists([stored(id.0)])?)
}

pub(super) fn all<T: Template>(connection: &Connection) -> Result<Vec<T>, CatalogError> {
    let mut statement = connection.prepare_cached(&format!("SELECT id, body FROM {} ORDER BY id", T::TABLE))?;
    let mut rows = statement.query([])?;
    let mut templates = Vec::new();
    while let Some(row) = rows.next()? {
        templates.push(from_json(TemplateId(unstored(row.get(0)?)), row.get_ref(1)?.as_str().map_err(|e| CatalogError::damaged("template", e))?)?);
    }
    Ok(templates)
}

pub(super) fn one<T: Template>(connection: &Connection, id: TemplateId) -> Result<T, CatalogError> {
    let body: Option<String> =
        connection.prepare_cached(&format!("SELECT body FROM {} WHERE id = ?1", T::TABLE))?.query_row([stored(id.0)], |row| row.get(0)).optional()?;
    from_json(id, &body.ok_or(CatalogError::NotFound)?)
}

fn insert<T: Template>(connection: &Connection, mut template: T) -> Result<TemplateId, CatalogError> {
    // The column is the id; the one inside the body is overwritten when it is read.
    *template.id_mut() = TemplateId(0);
    let id = connection.prepare_cached(&format!("INSERT INTO {} (body) VALUES (?1)", T::TABLE))?.insert([to_json(&template)?])?;
    Ok(TemplateId(unstored(id)))
}

fn to_json<T: Template>(template: &T) -> Result<String, CatalogError> {
    serde_json::to_string(template).map_err(|error| CatalogError::Storage(format!("a template cannot be stored: {error}")))
}

fn from_json<T: Template>(id: TemplateId, body: &str) -> Result<T, CatalogError> {
    let mut template: T = serde_json::from_str(body).map_err(|error| CatalogError::damaged("template", error))?;
    *template.id_mut() = id;
    Ok(template)
}
