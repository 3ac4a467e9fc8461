//! Record templates.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::RecordTemplate;
use crate::units::{TemplateId, WallTime};

use super::{Catalog, CatalogError, stored, unstored};

impl Catalog {
    /// True until the first-run template and rule have been entered once; false for ever after the first template of any kind.
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
    /// [`CatalogError::Limit`]: there are `limit` templates already.
    pub fn create_template(&self, template: RecordTemplate, limit: u64) -> Result<TemplateId, CatalogError> {
        self.write(move |connection| {
            let count: i64 = connection.prepare_cached("SELECT count(*) FROM template")?.query_row([], |row| row.get(0))?;
            if unstored(count) >= limit {
                return Err(CatalogError::Limit { limit });
            }
            insert(connection, template)
        })
    }

    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn template(&self, id: TemplateId) -> Result<RecordTemplate, CatalogError> {
        self.read(|connection| one(connection, id))
    }

    /// All templates by id.
    pub fn templates(&self) -> Result<Vec<RecordTemplate>, CatalogError> {
        self.read(all)
    }

    /// Reads, changes and stores a template with nothing in between. The id cannot be changed. `change` runs on the writer thread.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn modify_template(&self, id: TemplateId, change: Box<dyn FnOnce(&mut RecordTemplate) + Send>) -> Result<(), CatalogError> {
        self.write(move |connection| {
            let mut template = one(connection, id)?;
            change(&mut template);
            template.id = id;
            connection.prepare_cached("UPDATE template SET body = ?2 WHERE id = ?1")?.execute(params![stored(id.0), to_json(&template)?])?;
            Ok(())
        })
    }

    /// # Errors
    /// [`CatalogError::NotFound`]; [`CatalogError::InUse`]: a rule names it.
    pub fn delete_template(&self, id: TemplateId) -> Result<(), CatalogError> {
        self.write(move |connection| {
            if !exists(connection, id)? {
                return Err(CatalogError::NotFound);
            }
            if connection.prepare_cached("SELECT 1 FROM rule WHERE template_id = ?1")?.exists([stored(id.0)])? {
                return Err(CatalogError::InUse);
            }
            connection.prepare_cached("DELETE FROM template WHERE id = ?1")?.execute([stored(id.0)])?;
            Ok(())
        })
    }
}

pub(super) fn is_new(connection: &Connection) -> Result<bool, CatalogError> {
    // The sequence moves with the first template and never goes back.
    Ok(connection.prepare_cached("SELECT 1 FROM sqlite_sequence WHERE name = 'template' AND seq = 1000")?.exists([])?)
}

pub(super) fn exists(connection: &Connection, id: TemplateId) -> Result<bool, CatalogError> {
    Ok(connection.prepare_cached("SELECT 1 FROM template WHERE id = ?1")?.exists([stored(id.0)])?)
}

pub(super) fn all(connection: &Connection) -> Result<Vec<RecordTemplate>, CatalogError> {
    let mut statement = connection.prepare_cached("SELECT id, body FROM template ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut templates = Vec::new();
    while let Some(row) = rows.next()? {
        templates.push(from_json(TemplateId(unstored(row.get(0)?)), row.get_ref(1)?.as_str().map_err(|e| CatalogError::damaged("template", e))?)?);
    }
    Ok(templates)
}

fn one(connection: &Connection, id: TemplateId) -> Result<RecordTemplate, CatalogError> {
    let body: Option<String> =
        connection.prepare_cached("SELECT body FROM template WHERE id = ?1")?.query_row([stored(id.0)], |row| row.get(0)).optional()?;
    from_json(id, &body.ok_or(CatalogError::NotFound)?)
}

fn insert(connection: &Connection, mut template: RecordTemplate) -> Result<TemplateId, CatalogError> {
    // The column is the id; the one inside the body is overwritten when it is read.
    template.id = TemplateId(0);
    let id = connection.prepare_cached("INSERT INTO template (body) VALUES (?1)")?.insert([to_json(&template)?])?;
    Ok(TemplateId(unstored(id)))
}

fn to_json(template: &RecordTemplate) -> Result<String, CatalogError> {
    serde_json::to_string(template).map_err(|error| CatalogError::Storage(format!("a template cannot be stored: {error}")))
}

fn from_json(id: TemplateId, body: &str) -> Result<RecordTemplate, CatalogError> {
    let mut template: RecordTemplate = serde_json::from_str(body).map_err(|error| CatalogError::damaged("template", error))?;
    template.id = id;
    Ok(template)
}
