//! A readable copy of what no recording tells, beside the catalog: templates, rules, tasks, domains with their push keys, forbidden streams, who is told
//! of what. A catalog that is made anew takes them from there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::types::{Value as Cell, ValueRef};
use rusqlite::{Connection, params_from_iter};
use serde_json::{Map, Value, json};

use super::CatalogError;

/// Beside the catalog.
pub const NAME: &str = "policy.json";
/// What is copied: small tables whose content is nowhere else, parents before the rows that name them.
const TABLES: &[&str] = &[
    "template",
    "rule",
    "task",
    "live_domain",
    "forbidden_stream",
    "definition",
    "named_definition",
    "callback_template",
    "callback_rule",
    "event_config",
];
/// A burst of changes is copied this often: the copy holds all rows, and a call should not wait for it.
const EVERY: Duration = Duration::from_secs(1);
/// Read back at most: a hundred thousand tasks are below 64 MiB.
const BYTES_MAX: u64 = 256 << 20;

/// Keeps the copy up to date, on the writer's thread.
pub(super) struct PolicyCopy {
    path: PathBuf,
    changed: Arc<AtomicBool>,
    written: Option<Instant>,
}

impl PolicyCopy {
    /// Fills a catalog that never had a template from the copy, if there is one, and watches the tables from then on.
    pub(super) fn begin(connection: &Connection, catalog: &Path) -> Result<Self, CatalogError> {
        let path = catalog.with_file_name(NAME);
        if is_blank(connection)? {
            take(connection, &path)?;
        }
        // What a killed process had no time to copy is copied now.
        let changed = Arc::new(AtomicBool::new(!is_blank(connection)?));
        let mark = Arc::clone(&changed);
        connection.update_hook(Some(move |_, _: &str, table: &str, _| {
            if TABLES.contains(&table) {
                mark.store(true, Ordering::Relaxed);
            }
        }))?;
        Ok(Self { path, changed, written: None })
    }

    /// Writes what changed, or says how long to wait before the next writing. `None`: nothing to do.
    pub(super) fn write_or_wait(&mut self, connection: &Connection) -> Option<Duration> {
        if !self.changed.load(Ordering::Relaxed) {
            return None;
        }
        let wait = self.written.map_or(Duration::ZERO, |written| EVERY.saturating_sub(written.elapsed()));
        if wait > Duration::ZERO {
            return Some(wait);
        }
        self.write(connection);
        None
    }

    /// Writes the copy if anything changed. A failure costs the copy, not the catalog: it is logged and tried again at the next change.
    pub(super) fn write(&mut self, connection: &Connection) {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return;
        }
        self.written = Some(Instant::now());
        let written = dump(connection).and_then(|text| replace(&self.path, &text).map_err(|error| CatalogError::Storage(error.to_string())));
        if let Err(error) = written {
            tracing::error!(path = %self.path.display(), %error, "the copy of templates, rules and tasks could not be written");
        }
    }
}

/// Nothing was ever entered by anybody.
fn is_blank(connection: &Connection) -> Result<bool, CatalogError> {
    let mut blank = super::templates::is_new(connection)?;
    for table in TABLES {
        blank &= !connection.prepare_cached(&format!("SELECT 1 FROM {table}"))?.exists([])?;
    }
    Ok(blank)
}

/// Restores from the copy at `path`. One that cannot be read is put aside: the next change would overwrite it.
fn take(connection: &Connection, path: &Path) -> Result<(), CatalogError> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    let restored = match read() {
        Ok(text) => restore(connection, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(CatalogError::Storage(error.to_string())),
    };
    match restored {
        Ok(rows) => tracing::warn!(path = %path.display(), rows, "templates, rules and tasks were taken from their copy"),
        Err(error) => {
            let aside = path.with_extension("json.damaged");
            tracing::error!(path = %path.display(), aside = %aside.display(), %error, "the copy of templates, rules and tasks cannot be used; it was put aside");
            fs::rename(path, &aside).map_err(|error| CatalogError::Storage(format!("renaming {}: {error}", path.display())))?;
        }
    }
    Ok(())
}

/// `{"tables": {name: [row]}, "last_ids": {name: number}}`, a row being its columns by name. Text that is a JSON object stands as one.
fn dump(connection: &Connection) -> Result<String, CatalogError> {
    let mut tables = Map::new();
    for table in TABLES {
        let mut statement = connection.prepare_cached(&format!("SELECT * FROM {table} ORDER BY rowid"))?;
        let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let mut found = Vec::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let mut object = Map::new();
            for (index, column) in columns.iter().enumerate() {
                object.insert(column.clone(), shown(row.get_ref(index)?)?);
            }
            found.push(Value::Object(object));
        }
        tables.insert((*table).to_owned(), Value::Array(found));
    }
    let mut statement = connection.prepare_cached("SELECT name, seq FROM sqlite_sequence")?;
    let last_ids: Map<String, Value> = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, Value::from(row.get::<_, i64>(1)?))))?
        .filter(|entry| entry.as_ref().is_ok_and(|(name, _)| TABLES.contains(&name.as_str())))
        .collect::<Result<_, _>>()?;
    let whole = json!({ "tables": tables, "last_ids": last_ids });
    serde_json::to_string_pretty(&whole).map_err(|error| CatalogError::Storage(error.to_string()))
}

fn shown(cell: ValueRef<'_>) -> Result<Value, CatalogError> {
    Ok(match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|error| CatalogError::damaged("text", error))?;
            serde_json::from_str(text).ok().filter(Value::is_object).unwrap_or_else(|| text.into())
        }
        ValueRef::Blob(_) => return Err(CatalogError::damaged("column", "a blob has no readable form")),
    })
}

/// Enters what [`dump`] wrote, all or nothing; columns that this version does not know are left out. Returns the number of rows.
fn restore(connection: &Connection, text: &str) -> Result<usize, CatalogError> {
    let copy: Value = serde_json::from_str(text).map_err(|error| CatalogError::damaged("copy", error))?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let result = restore_tables(connection, &copy);
    connection.execute_batch(if result.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    result
}

fn restore_tables(connection: &Connection, copy: &Value) -> Result<usize, CatalogError> {
    let tables = copy.get("tables").and_then(Value::as_object).ok_or_else(|| CatalogError::damaged("copy", "it has no tables"))?;
    let mut count = 0;
    for table in TABLES {
        let known: Vec<String> = connection
            .prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for row in tables.get(*table).and_then(Value::as_array).into_iter().flatten() {
            let row = row.as_object().ok_or_else(|| CatalogError::damaged("copy", "a row is no object"))?;
            let columns: Vec<&String> = known.iter().filter(|column| row.contains_key(*column)).collect();
            let cells = columns.iter().map(|column| cell(&row[*column])).collect::<Result<Vec<_>, _>>()?;
            let names = columns.iter().map(|column| column.as_str()).collect::<Vec<_>>().join(", ");
            let marks = vec!["?"; columns.len()].join(", ");
            connection.prepare_cached(&format!("INSERT INTO {table} ({names}) VALUES ({marks})"))?.execute(params_from_iter(cells))?;
            count += 1;
        }
        // Ids of deleted rows are not given again.
        if let Some(last) = copy.pointer(&format!("/last_ids/{table}")).and_then(Value::as_i64) {
            connection.execute("UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1", (table, last))?;
        }
    }
    Ok(count)
}

fn cell(value: &Value) -> Result<Cell, CatalogError> {
    Ok(match value {
        Value::Null => Cell::Null,
        Value::Number(number) => match number.as_i64() {
            Some(number) => Cell::Integer(number),
            None => Cell::Real(number.as_f64().ok_or_else(|| CatalogError::damaged("copy", "a number is out of range"))?),
        },
        Value::String(text) => Cell::Text(text.clone()),
        Value::Object(_) => Cell::Text(value.to_string()),
        Value::Bool(_) | Value::Array(_) => return Err(CatalogError::damaged("copy", "a column is neither text nor number")),
    })
}

/// Old or new, never half: written beside, synced, renamed.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("json.new");
    // Push keys are in it: for the user we run as, nobody else.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::super::schema::open_writer;
    use super::*;

    fn filled(folder: &Path) -> Connection {
        let connection = open_writer(&folder.join("catalog.sqlite")).expect("a catalog");
        connection
            .execute_batch(
                r#"INSERT INTO template (body) VALUES ('{"name":"a \"quoted\" one"}'), ('{"name":"b"}');
                   DELETE FROM template WHERE id = 1002;
                   INSERT INTO rule (domain, app, stream, template_id, create_time, update_time) VALUES ('d', '', '{', 1001, 1, 2);
                   INSERT INTO task (id, domain, app, stream, start_time, end_time, template_id, stream_type, extension, create_time, stopped)
                   VALUES ('t', 'd', 'a', 's', 1, 2, -1, 0, '', 3, NULL);"#,
            )
            .expect("rows");
        connection
    }

    #[test]
    fn what_is_dumped_comes_back_and_ids_go_on() {
        let [old, new] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let text = dump(&filled(old.path())).expect("a dump");
        let connection = open_writer(&new.path().join("catalog.sqlite")).expect("a catalog");
        assert_eq!(restore(&connection, &text).expect("restored"), 3);
        assert_eq!(dump(&connection).expect("a dump"), text);
        connection.execute("INSERT INTO template (body) VALUES ('{}')", []).expect("a row");
        assert_eq!(connection.last_insert_rowid(), 1003);
    }

    #[test]
    fn a_catalog_without_templates_is_not_filled_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let catalog = folder.path().join("catalog.sqlite");
        let connection = open_writer(&catalog).expect("a catalog");
        connection.execute("INSERT INTO live_domain (name, body) VALUES ('a.example', '{}')", []).expect("a domain");
        for _ in 0..2 {
            PolicyCopy::begin(&connection, &catalog).expect("begun").write(&connection);
            assert!(folder.path().join(NAME).exists() && !folder.path().join("policy.json.damaged").exists());
        }
    }

    #[test]
    fn a_damaged_copy_changes_nothing_and_is_put_aside() {
        let old = tempfile::tempdir().expect("a folder");
        let text = dump(&filled(old.path())).expect("a dump");
        let cases =
            ["", "{}", "[]", &text[..text.len() / 2], &text.replace("1001", "true"), &text.replace("\"template_id\": 1001", "\"template_id\": 7")];
        for (index, damaged) in cases.iter().enumerate() {
            let folder = tempfile::tempdir().expect("a folder");
            let catalog = folder.path().join("catalog.sqlite");
            fs::write(folder.path().join(NAME), damaged).expect("a copy");
            let connection = open_writer(&catalog).expect("a catalog");
            PolicyCopy::begin(&connection, &catalog).expect("it goes on without");
            let rows: i64 = connection.query_row("SELECT count(*) FROM template", [], |row| row.get(0)).expect("a count");
            assert_eq!((rows, folder.path().join(NAME).exists()), (0, false), "case {index}");
            assert!(folder.path().join("policy.json.damaged").exists(), "case {index}");
        }
    }
}
