//! Streams that nobody may publish for a while. One whose time is over does not exist any more, and its row goes with the next change.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use crate::domain::ForbiddenStream;
use crate::units::{StreamKey, WallTime};

use super::{Catalog, CatalogError, unstored};

impl Catalog {
    /// Forbids a stream, or gives a forbidden one another time.
    ///
    /// # Errors
    /// [`CatalogError::Limit`].
    pub fn forbid_stream(&self, forbidden: ForbiddenStream, limit: u64) -> Result<(), CatalogError> {
        self.write(move |connection| {
            let ForbiddenStream { key, create_time, resume_time, reason } = forbidden;
            connection.prepare_cached("DELETE FROM forbidden_stream WHERE resume_time <= ?1")?.execute([create_time.unix_micros()])?;
            connection
                .prepare_cached(
                    "INSERT INTO forbidden_stream (domain, app, stream, create_time, resume_time, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                     ON CONFLICT (domain, app, stream) DO UPDATE SET create_time = ?4, resume_time = ?5, reason = ?6",
                )?
                .execute(params![&*key.domain, &*key.app, &*key.stream, create_time.unix_micros(), resume_time.unix_micros(), reason])?;
            let count: i64 = connection.prepare_cached("SELECT count(*) FROM forbidden_stream")?.query_row([], |row| row.get(0))?;
            // The error undoes the insert.
            if unstored(count) > limit { Err(CatalogError::Limit { limit }) } else { Ok(()) }
        })
    }

    /// Lifts it; one that is not forbidden is fine.
    pub fn resume_stream(&self, key: &StreamKey) -> Result<(), CatalogError> {
        let key = key.clone();
        self.write(move |connection| {
            connection.prepare_cached("DELETE FROM forbidden_stream WHERE domain = ?1 AND app = ?2 AND stream = ?3")?.execute(params![
                &*key.domain,
                &*key.app,
                &*key.stream
            ])?;
            Ok(())
        })
    }

    /// Streams forbidden at `now`, the newest first.
    pub fn forbidden_streams(&self, now: WallTime) -> Result<Vec<ForbiddenStream>, CatalogError> {
        self.read(|connection| all(connection, now))
    }
}

fn all(connection: &Connection, now: WallTime) -> Result<Vec<ForbiddenStream>, CatalogError> {
    let mut statement = connection.prepare_cached(
        "SELECT domain, app, stream, create_time, resume_time, reason FROM forbidden_stream WHERE resume_time > ?1 \
         ORDER BY create_time DESC, domain, app, stream",
    )?;
    let rows = statement.query_map([now.unix_micros()], |row| {
        let (domain, app, stream): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(ForbiddenStream {
            key: StreamKey::new(&domain, &app, &stream),
            create_time: WallTime::from_unix_micros(row.get(3)?),
            resume_time: WallTime::from_unix_micros(row.get(4)?),
            reason: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn by_key(connection: &Connection, now: WallTime) -> Result<HashMap<StreamKey, WallTime>, CatalogError> {
    Ok(all(connection, now)?.into_iter().map(|forbidden| (forbidden.key, forbidden.resume_time)).collect())
}
