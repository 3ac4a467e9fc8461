//! Record and callback rules.

use rusqlite::{Connection, params};

use crate::domain::RecordRule;
use crate::units::{TemplateId, WallTime};

use super::templates::{self, Template};
use super::{Catalog, CatalogError, stored, unstored};

impl Catalog {
    /// Stores a rule for templates of kind `T`; its domain in lower case. Callback rules name no stream.
    ///
    /// # Errors
    /// In this order: [`CatalogError::NotFound`]: no such template; [`CatalogError::Exists`]: a rule of the same domain, app and stream, with
    /// whatever template; [`CatalogError::Limit`].
    pub fn create_rule<T: Template>(&self, rule: RecordRule, limit: u64) -> Result<(), CatalogError> {
        self.write(move |connection| {
            if !templates::exists::<T>(connection, rule.template_id)? {
                return Err(CatalogError::NotFound);
            }
            let domain = rule.domain.to_ascii_lowercase();
            let table = T::RULE_TABLE;
            let same = format!("SELECT 1 FROM {table} WHERE domain = ?1 AND app = ?2 AND stream = ?3");
            if connection.prepare_cached(&same)?.exists(params![domain, rule.app, rule.stream])? {
                return Err(CatalogError::Exists);
            }
            let count: i64 = connection.prepare_cached(&format!("SELECT count(*) FROM {table}"))?.query_row([], |row| row.get(0))?;
            if unstored(count) >= limit {
                return Err(CatalogError::Limit { limit });
            }
            connection
                .prepare_cached(&format!(
                    "INSERT INTO {table} (domain, app, stream, template_id, create_time, update_time) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
                ))?
                .execute(params![
                    domain,
                    rule.app,
                    rule.stream,
                    stored(rule.template_id.0),
                    rule.create_time.unix_micros(),
                    rule.update_time.unix_micros()
                ])?;
            Ok(())
        })
    }

    /// All rules of a kind in the order of their creation.
    pub fn rules<T: Template>(&self) -> Result<Vec<RecordRule>, CatalogError> {
        self.read(all::<T>)
    }

    /// Deletes the rule of exactly this domain, app and stream; empty text matches empty text only.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn delete_rule<T: Template>(&self, domain: &str, app: &str, stream: &str) -> Result<(), CatalogError> {
        let (domain, app, stream) = (domain.to_ascii_lowercase(), app.to_owned(), stream.to_owned());
        self.write(move |connection| {
            let deleted = connection
                .prepare_cached(&format!("DELETE FROM {} WHERE domain = ?1 AND app = ?2 AND stream = ?3", T::RULE_TABLE))?
                .execute(params![domain, app, stream])?;
            if deleted == 0 { Err(CatalogError::NotFound) } else { Ok(()) }
        })
    }
}

pub(super) fn all<T: Template>(connection: &Connection) -> Result<Vec<RecordRule>, CatalogError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT domain, app, stream, template_id, create_time, update_time FROM {} ORDER BY id", T::RULE_TABLE))?;
    let rules = statement.query_map([], |row| {
        Ok(RecordRule {
            domain: row.get(0)?,
            app: row.get(1)?,
            stream: row.get(2)?,
            template_id: TemplateId(unstored(row.get(3)?)),
            create_time: WallTime::from_unix_micros(row.get(4)?),
            update_time: WallTime::from_unix_micros(row.get(5)?),
        })
    })?;
    Ok(rules.collect::<Result<_, _>>()?)
}
