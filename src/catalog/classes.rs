//! Classes of files: a small forest in each application.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::vod::{CLASS_OTHER, CLASS_OTHER_NAME, CLASS_TOP, MediaClass};

use super::index::{Lookup, Value};
use super::{Catalog, CatalogError, stored};

/// Levels of classes, and children of one (documented by the vendor).
const LEVELS_MAX: i64 = 4;
const CHILDREN_MAX: i64 = 500;
/// Classes of one application: what DescribeAllClass answers at once. The vendor's bounds together would allow 62 thousand million.
const CLASSES_MAX: i64 = 10_000;

/// Why a class cannot be created or renamed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClassRefusal {
    #[error("there is no such parent class")]
    NoParent,
    #[error("there is no such class")]
    NotFound,
    #[error("classes have at most four levels")]
    Level,
    #[error("a class has at most 500 children, an application at most 10000 classes")]
    Children,
    #[error("a class of that name lies beside it")]
    Duplicate,
    #[error("the class has children or files")]
    NotEmpty,
}

/// The class of a file as the API shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassOfFile {
    pub id: i64,
    pub name: String,
    /// Names from the top, joined by ` - `.
    pub path: String,
}

impl Default for ClassOfFile {
    fn default() -> Self {
        Self { id: CLASS_OTHER, name: CLASS_OTHER_NAME.to_owned(), path: CLASS_OTHER_NAME.to_owned() }
    }
}

impl Catalog {
    /// Creates a class below `parent_id` ([`CLASS_TOP`] for none) and gives its id. Ids count from 1 and are never used again.
    pub fn create_class(&self, sub_app_id: u64, parent_id: i64, name: String) -> Result<Result<i64, ClassRefusal>, CatalogError> {
        self.write(move |connection| {
            let app = stored(sub_app_id);
            let level = if parent_id == CLASS_TOP {
                0
            } else {
                match row_of(connection, sub_app_id, parent_id)? {
                    Some(parent) => parent.level + 1,
                    None => return Ok(Err(ClassRefusal::NoParent)),
                }
            };
            if level >= LEVELS_MAX {
                return Ok(Err(ClassRefusal::Level));
            }
            if is_taken(connection, app, parent_id, &name)? {
                return Ok(Err(ClassRefusal::Duplicate));
            }
            let count = |condition: &str, value: i64| {
                connection
                    .prepare_cached(&format!("SELECT count(*) FROM class WHERE sub_app_id = ?1 AND {condition}"))?
                    .query_row([app, value], |row| row.get::<_, i64>(0))
            };
            if count("parent_id = ?2", parent_id)? >= CHILDREN_MAX || count("id > ?2", 0)? >= CLASSES_MAX {
                return Ok(Err(ClassRefusal::Children));
            }
            let id = connection
                .prepare_cached("INSERT INTO class (sub_app_id, parent_id, level, name) VALUES (?1, ?2, ?3, ?4)")?
                .insert(params![app, parent_id, level, name])?;
            Ok(Ok(id))
        })
    }

    /// All classes of an application by id.
    pub fn classes(&self, sub_app_id: u64) -> Result<Vec<MediaClass>, CatalogError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT id, parent_id, level, name FROM class WHERE sub_app_id = ?1 ORDER BY id")?;
            let rows = statement.query_map([stored(sub_app_id)], |row| {
                let level: i64 = row.get(2)?;
                Ok(MediaClass { id: row.get(0)?, parent_id: row.get(1)?, level: level.unsigned_abs(), name: row.get(3)?, children: Vec::new() })
            })?;
            let mut classes: BTreeMap<i64, MediaClass> = rows.map(|class| class.map(|class| (class.id, class))).collect::<Result<_, _>>()?;
            let links: Vec<(i64, i64)> = classes.values().map(|class| (class.parent_id, class.id)).collect();
            for (parent, child) in links {
                if let Some(parent) = classes.get_mut(&parent) {
                    parent.children.push(child);
                }
            }
            Ok(classes.into_values().collect())
        })
    }

    /// Gives a class another name.
    pub fn rename_class(&self, sub_app_id: u64, id: i64, name: String) -> Result<Result<(), ClassRefusal>, CatalogError> {
        self.write(move |connection| {
            let Some(class) = row_of(connection, sub_app_id, id)? else { return Ok(Err(ClassRefusal::NotFound)) };
            if class.name != name && is_taken(connection, stored(sub_app_id), class.parent_id, &name)? {
                return Ok(Err(ClassRefusal::Duplicate));
            }
            connection.prepare_cached("UPDATE class SET name = ?2 WHERE id = ?1")?.execute(params![id, name])?;
            Ok(Ok(()))
        })
    }

    /// Deletes a class without children and files.
    pub fn delete_class(&self, sub_app_id: u64, id: i64) -> Result<Result<(), ClassRefusal>, CatalogError> {
        self.write(move |connection| {
            if row_of(connection, sub_app_id, id)?.is_none() {
                return Ok(Err(ClassRefusal::NotFound));
            }
            let has_children =
                connection.prepare_cached("SELECT 1 FROM class WHERE sub_app_id = ?1 AND parent_id = ?2")?.exists(params![stored(sub_app_id), id])?;
            let files = Lookup { sub_app_id, sample: &[] }.value(Value::Class, &id.to_string()).to_match();
            let has_files = connection.prepare_cached("SELECT 1 FROM media_index WHERE media_index MATCH ?1 LIMIT 1")?.exists([files])?;
            if has_children || has_files {
                return Ok(Err(ClassRefusal::NotEmpty));
            }
            connection.prepare_cached("DELETE FROM class WHERE id = ?1")?.execute([id])?;
            Ok(Ok(()))
        })
    }
}

struct ClassRow {
    parent_id: i64,
    level: i64,
    name: String,
}

fn row_of(connection: &Connection, sub_app_id: u64, id: i64) -> Result<Option<ClassRow>, CatalogError> {
    Ok(connection
        .prepare_cached("SELECT parent_id, level, name FROM class WHERE id = ?1 AND sub_app_id = ?2")?
        .query_row(params![id, stored(sub_app_id)], |row| Ok(ClassRow { parent_id: row.get(0)?, level: row.get(1)?, name: row.get(2)? }))
        .optional()?)
}

fn is_taken(connection: &Connection, app: i64, parent_id: i64, name: &str) -> Result<bool, CatalogError> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM class WHERE sub_app_id = ?1 AND parent_id = ?2 AND name = ?3")?
        .exists(params![app, parent_id, name])?)
}

pub(super) fn exists(connection: &Connection, sub_app_id: u64, id: i64) -> Result<bool, CatalogError> {
    Ok(id == CLASS_OTHER || row_of(connection, sub_app_id, id)?.is_some())
}

/// The class itself and those above it, from the bottom. A class that is none: only itself.
pub(super) fn way_up(connection: &Connection, sub_app_id: u64, id: i64) -> Result<Vec<(i64, String)>, CatalogError> {
    let mut way = Vec::new();
    let mut next = id;
    // Every round goes up a level.
    while way.len() < LEVELS_MAX as usize
        && let Some(class) = row_of(connection, sub_app_id, next)?
    {
        way.push((next, class.name));
        next = class.parent_id;
    }
    if way.is_empty() {
        way.push((id, CLASS_OTHER_NAME.to_owned()));
    }
    Ok(way)
}

pub(super) fn of_file(connection: &Connection, sub_app_id: u64, id: i64) -> Result<ClassOfFile, CatalogError> {
    if id == CLASS_OTHER {
        return Ok(ClassOfFile::default());
    }
    let way = way_up(connection, sub_app_id, id)?;
    let path: Vec<&str> = way.iter().rev().map(|(_, name)| name.as_str()).collect();
    Ok(ClassOfFile { id, name: way[0].1.clone(), path: path.join(" - ") })
}

/// The classes and all below them.
pub(super) fn trees(connection: &Connection, sub_app_id: u64, ids: &[i64]) -> Result<BTreeSet<i64>, CatalogError> {
    let mut statement = connection.prepare_cached("SELECT id FROM class WHERE sub_app_id = ?1 AND parent_id = ?2")?;
    let (mut found, mut next) = (BTreeSet::new(), ids.to_vec());
    // Every class is looked at once.
    while let Some(id) = next.pop() {
        // The top is no class that a file could be in.
        if found.insert(id) && id > CLASS_OTHER {
            for child in statement.query_map(params![stored(sub_app_id), id], |row| row.get(0))? {
                next.push(child?);
            }
        }
    }
    Ok(found)
}
