//! Domains that were added, with their push keys.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::{DomainKind, LiveDomain};

use super::{Catalog, CatalogError, unstored};

impl Catalog {
    /// # Errors
    /// [`CatalogError::Exists`], [`CatalogError::Limit`].
    pub fn add_domain(&self, domain: LiveDomain, limit: u64) -> Result<(), CatalogError> {
        self.write(move |connection| {
            if find(connection, &domain.name)?.is_some() {
                return Err(CatalogError::Exists);
            }
            let count: i64 = connection.prepare_cached("SELECT count(*) FROM live_domain")?.query_row([], |row| row.get(0))?;
            if unstored(count) >= limit {
                return Err(CatalogError::Limit { limit });
            }
            store(connection, &domain)
        })
    }

    /// All domains, by name.
    pub fn domains(&self) -> Result<Vec<LiveDomain>, CatalogError> {
        self.read(all)
    }

    pub fn domain(&self, name: &str) -> Result<Option<LiveDomain>, CatalogError> {
        self.read(|connection| find(connection, name))
    }

    /// Changes a domain; its name must stay. Returns it as it is then.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub fn change_domain(&self, name: &str, change: impl FnOnce(&mut LiveDomain) + Send + 'static) -> Result<LiveDomain, CatalogError> {
        let name = name.to_owned();
        self.write(move |connection| {
            let mut domain = find(connection, &name)?.ok_or(CatalogError::NotFound)?;
            change(&mut domain);
            store(connection, &domain)?;
            Ok(domain)
        })
    }

    /// # Errors
    /// [`CatalogError::NotFound`]: no such domain of that kind.
    pub fn delete_domain(&self, name: &str, kind: DomainKind) -> Result<(), CatalogError> {
        let name = name.to_owned();
        self.write(move |connection| {
            find(connection, &name)?.filter(|domain| domain.kind == kind).ok_or(CatalogError::NotFound)?;
            connection.prepare_cached("DELETE FROM live_domain WHERE name = ?1")?.execute([&name])?;
            Ok(())
        })
    }
}

fn store(connection: &Connection, domain: &LiveDomain) -> Result<(), CatalogError> {
    let body = serde_json::to_string(domain).map_err(|error| CatalogError::Storage(error.to_string()))?;
    let insert = "INSERT INTO live_domain (name, body) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET body = ?2";
    connection.prepare_cached(insert)?.execute(params![domain.name, body])?;
    Ok(())
}

fn read(body: &str) -> Result<LiveDomain, CatalogError> {
    serde_json::from_str(body).map_err(|error| CatalogError::damaged("domain", error))
}

fn find(connection: &Connection, name: &str) -> Result<Option<LiveDomain>, CatalogError> {
    let body: Option<String> =
        connection.prepare_cached("SELECT body FROM live_domain WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()?;
    body.map(|body| read(&body)).transpose()
}

fn all(connection: &Connection) -> Result<Vec<LiveDomain>, CatalogError> {
    let mut statement = connection.prepare_cached("SELECT body FROM live_domain ORDER BY name")?;
    let bodies = statement.query_map([], |row| row.get::<_, String>(0))?;
    bodies.map(|body| read(&body?)).collect()
}

pub(super) fn by_name(connection: &Connection) -> Result<HashMap<String, LiveDomain>, CatalogError> {
    Ok(all(connection)?.into_iter().map(|domain| (domain.name.clone(), domain)).collect())
}
