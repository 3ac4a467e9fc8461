//! What of a row goes into the inverted index, and the index made anew when that changed.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::index::{Document, Text, Value};
use super::{CatalogError, classes, unstored};

/// Version of the tokens that [`tokens`] makes. With another one in the catalog the index is made anew at start.
const INDEX_VERSION: i64 = 2;
/// Files of one transaction while the index is made anew.
const CHUNK: i64 = 5_000;

/// The tokens of an entry that exists, from its row.
fn tokens(connection: &Connection, entry: i64) -> Result<String, CatalogError> {
    let mut statement = connection.prepare_cached(
        "SELECT sub_app_id, name, description, domain, app, stream, format, category, storage_class, class_id, tags, expire_time FROM media WHERE entry = ?1",
    )?;
    let mut rows = statement.query([entry])?;
    let row = rows.next()?.ok_or(CatalogError::NotFound)?;
    let text = |row: &Row<'_>, column: usize| row.get::<_, String>(column);
    let sub_app_id = unstored(row.get(0)?);
    let mut document = Document::new(sub_app_id);
    document.add_text(Text::Name, &text(row, 1)?);
    document.add_text(Text::Description, &text(row, 2)?);
    for (column, value) in
        [(3, Value::Domain), (4, Value::App), (5, Value::Stream), (6, Value::Format), (7, Value::Category), (8, Value::StorageClass)]
    {
        document.add_value(value, &text(row, column)?);
    }
    // A class stands for all above it: they never move.
    for (class, _) in classes::way_up(connection, sub_app_id, row.get(9)?)? {
        document.add_value(Value::Class, &class.to_string());
    }
    for tag in read_tags(&text(row, 10)?)? {
        document.add_value(Value::Tag, &tag);
    }
    if let Some(expire) = row.get::<_, Option<i64>>(11)? {
        document.add_expiry(expire);
    }
    Ok(document.into_tokens())
}

/// Enters a new row.
pub(super) fn insert(connection: &Connection, entry: i64) -> Result<(), CatalogError> {
    let tokens = tokens(connection, entry)?;
    connection.prepare_cached("INSERT INTO media_index (rowid, tokens) VALUES (?1, ?2)")?.execute(params![entry, tokens])?;
    Ok(())
}

pub(super) fn delete(connection: &Connection, entry: i64) -> Result<(), CatalogError> {
    connection.prepare_cached("DELETE FROM media_index WHERE rowid = ?1")?.execute([entry])?;
    Ok(())
}

pub(super) fn read_tags(json: &str) -> Result<Vec<String>, CatalogError> {
    serde_json::from_str(json).map_err(|error| CatalogError::damaged("list of tags", error))
}

/// Makes the index anew if its tokens are of another version, a chunk at a time; interrupted, it goes on at the next start.
pub(super) fn bring_up_to_date(connection: &mut Connection) -> Result<(), CatalogError> {
    if high_water(connection, "index_version")? == Some(INDEX_VERSION) {
        return Ok(());
    }
    let mut done = match high_water(connection, "index_progress")? {
        Some(done) => done,
        None => {
            let transaction = connection.transaction()?;
            transaction.execute("INSERT INTO media_index (media_index) VALUES ('delete-all')", [])?;
            set_high_water(&transaction, "index_progress", i64::MIN)?;
            transaction.commit()?;
            i64::MIN
        }
    };
    let mut files = 0;
    loop {
        let transaction = connection.transaction()?;
        let entries: Vec<i64> = transaction
            .prepare_cached("SELECT entry FROM media WHERE entry > ?1 ORDER BY entry LIMIT ?2")?
            .query_map([done, CHUNK], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for entry in &entries {
            insert(&transaction, *entry)?;
        }
        let Some(last) = entries.last() else {
            transaction.execute("DELETE FROM high_water WHERE name = 'index_progress'", [])?;
            set_high_water(&transaction, "index_version", INDEX_VERSION)?;
            transaction.commit()?;
            break;
        };
        done = *last;
        files += entries.len();
        set_high_water(&transaction, "index_progress", done)?;
        transaction.commit()?;
        tracing::info!(files, "making the search index of an older version anew");
    }
    Ok(())
}

pub(super) fn high_water(connection: &Connection, name: &str) -> Result<Option<i64>, CatalogError> {
    Ok(connection.prepare_cached("SELECT value FROM high_water WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()?)
}

pub(super) fn set_high_water(connection: &Connection, name: &str, value: i64) -> Result<(), CatalogError> {
    connection
        .prepare_cached("INSERT INTO high_water (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value")?
        .execute(params![name, value])?;
    Ok(())
}
