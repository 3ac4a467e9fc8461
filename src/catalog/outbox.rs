//! Messages to receivers: written in the transaction that makes them true, kept until they are taken or given up.

use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, Row, named_params, params};

use crate::units::WallTime;

use super::{Catalog, CatalogError, unstored};

/// Messages that wait for one address, and for all. One more is given up at once: it can be sent again by hand. About 2 KB each.
const WAITING_PER_ADDRESS_MAX: i64 = 10_000;
const WAITING_MAX: i64 = 100_000;
/// Messages that were taken, or given up, are kept for this long and at most this many of each: for the list, and to be sent again.
const KEPT_MICROS: i64 = 14 * 86_400 * 1_000_000;
const KEPT_MAX: i64 = 20_000;
/// Ended messages removed in one transaction.
const PURGE_MAX: i64 = 1_000;

const WAITS: i64 = 0;
const TAKEN: i64 = 1;
const GIVEN_UP: i64 = 2;

/// How a receiver can tell that a message is ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageSign {
    /// `sign` and `t`, also without a key.
    Live = 0,
    /// `Sign` and `T`, if there is a key.
    Vod = 1,
}

/// A message as it enters the outbox.
pub(super) struct NewMessage<'a> {
    pub url: &'a str,
    /// Messages of one stream go to one address one after the other.
    pub stream: &'a str,
    /// `event_type` of a callback, `EventType` of an event of the catalog.
    pub event: &'a str,
    pub sign: MessageSign,
    pub key: &'a str,
    /// A JSON object that is not empty, without the signature.
    pub body: &'a str,
}

/// A message that is to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    pub id: i64,
    pub url: String,
    pub stream: String,
    pub event: String,
    pub sign: MessageSign,
    pub key: String,
    pub body: String,
    pub create_time: WallTime,
    /// When it is to be tried (again).
    pub due: WallTime,
    /// Before this one.
    pub attempts: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageState {
    Waiting,
    Delivered,
    Failed,
}

impl MessageState {
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Delivered, Self::Failed];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// A message as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageInfo {
    pub id: i64,
    pub url: String,
    pub stream: String,
    pub event: String,
    pub body: String,
    pub create_time: WallTime,
    pub state: MessageState,
    /// When it is tried (again); `None`: it is not, or another one of its stream is before it.
    pub due: Option<WallTime>,
    pub attempts: u64,
    /// Of the last attempt; before the first one the time of its entry and no text.
    pub last_time: WallTime,
    pub last_answer: String,
}

/// Conditions are joined by AND; absent ones match everything.
#[derive(Clone, Debug, Default)]
pub struct MessageQuery {
    pub ids: Vec<i64>,
    pub state: Option<MessageState>,
    pub event: Option<String>,
    /// Part of `domain/app/stream`.
    pub stream: Option<String>,
    /// Begin of the address.
    pub url: Option<String>,
    pub offset: u64,
    pub limit: u64,
}

/// What became of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    pub id: i64,
    pub time: WallTime,
    pub answer: String,
    pub then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    Delivered,
    /// It is tried again at this time.
    Again(WallTime),
    GivenUp,
}

impl Catalog {
    /// The addresses that messages wait for, and how many.
    pub fn outbox_addresses(&self) -> Result<Vec<(String, u64)>, CatalogError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT url, waiting FROM outbox_address ORDER BY url")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, unstored(row.get(1)?))))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The messages to an address that may be sent, the first of each stream, earliest first; also those whose time is to come.
    pub fn next_messages(&self, url: &str, limit: usize) -> Result<Vec<Message>, CatalogError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, url, stream, event, sign, key, body, create_time, due, attempts FROM outbox INDEXED BY outbox_due
                 WHERE url = ?1 AND due IS NOT NULL ORDER BY due, id LIMIT ?2",
            )?;
            let rows = statement.query_map(params![url, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                Ok(Message {
                    id: row.get(0)?,
                    url: row.get(1)?,
                    stream: row.get(2)?,
                    event: row.get(3)?,
                    sign: if row.get::<_, i64>(4)? == MessageSign::Vod as i64 { MessageSign::Vod } else { MessageSign::Live },
                    key: row.get(5)?,
                    body: row.get(6)?,
                    create_time: WallTime::from_unix_micros(row.get(7)?),
                    due: WallTime::from_unix_micros(row.get(8)?),
                    attempts: unstored(row.get(9)?),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Notes what became of attempts; where a message has ended, the next one of its stream is to be sent.
    pub fn note_attempts(&self, attempts: Vec<Attempt>) -> Result<(), CatalogError> {
        self.write(move |connection| attempts.iter().try_for_each(|attempt| note(connection, attempt)))
    }

    /// Newest first.
    pub fn messages(&self, query: &MessageQuery) -> Result<(u64, Vec<MessageInfo>), CatalogError> {
        self.read(|connection| page(connection, query))
    }

    /// Lets messages be sent again as if they were new; those that wait are tried at once. Returns how many there are. At most `limit` of the query, the
    /// oldest first.
    pub fn replay_messages(&self, query: MessageQuery, now: WallTime) -> Result<u64, CatalogError> {
        let count = self.write(move |connection| replay(connection, &query, now))?;
        self.inner.outbox.notify();
        Ok(count)
    }

    /// Removes messages that ended long ago; returns how many.
    pub fn purge_messages(&self, now: WallTime) -> Result<u64, CatalogError> {
        self.write(move |connection| purge(connection, now, KEPT_MAX))
    }

    /// How often a message entered or the outbox was [woken](Self::wake_outbox); for [`Self::wait_for_message`], read before looking into it.
    pub fn outbox_seen(&self) -> u64 {
        self.inner.outbox.seen()
    }

    /// Waits for another message after `seen`, or for being woken. False: neither came within `timeout`.
    pub fn wait_for_message(&self, seen: u64, timeout: Duration) -> bool {
        self.inner.outbox.wait(seen, timeout)
    }

    pub fn wake_outbox(&self) {
        self.inner.outbox.notify();
    }
}

/// Enters a message; part of the transaction that makes it true.
pub(super) fn enter(connection: &Connection, message: &NewMessage<'_>, now: WallTime) -> Result<(), CatalogError> {
    debug_assert!(message.body.len() > 2 && message.body.ends_with('}'), "a message is an object");
    let waiting_there: i64 = connection
        .prepare_cached("SELECT coalesce(max(waiting), 0) FROM outbox_address WHERE url = ?1")?
        .query_row([message.url], |row| row.get(0))?;
    let waiting: i64 = connection.prepare_cached("SELECT coalesce(sum(waiting), 0) FROM outbox_address")?.query_row([], |row| row.get(0))?;
    let is_full = waiting_there >= WAITING_PER_ADDRESS_MAX || waiting >= WAITING_MAX;
    let (state, answer) = if is_full { (GIVEN_UP, "not sent: too many messages wait") } else { (WAITS, "") };
    if is_full {
        tracing::error!(event = message.event, stream = message.stream, waiting_there, waiting, "a message is given up unsent: too many wait");
    }
    let is_behind = is_full || waits(connection, message.url, message.stream)?;
    let now = now.unix_micros();
    let due = (!is_behind).then_some(now);
    connection
        .prepare_cached(
            "INSERT INTO outbox (url, stream, event, sign, key, body, create_time, state, due, attempts, last_time, last_answer)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?7, ?10)",
        )?
        .execute(params![message.url, message.stream, message.event, message.sign as i64, message.key, message.body, now, state, due, answer])?;
    Ok(())
}

/// Does a message about this stream wait for this address?
fn waits(connection: &Connection, url: &str, stream: &str) -> Result<bool, CatalogError> {
    Ok(connection.prepare_cached("SELECT 1 FROM outbox WHERE url = ?1 AND stream = ?2 AND state = 0")?.exists([url, stream])?)
}

fn note(connection: &Connection, attempt: &Attempt) -> Result<(), CatalogError> {
    let (state, due) = match attempt.then {
        Then::Delivered => (TAKEN, None),
        Then::Again(due) => (WAITS, Some(due.unix_micros())),
        Then::GivenUp => (GIVEN_UP, None),
    };
    let changed = connection
        .prepare_cached(
            "UPDATE outbox SET state = ?2, due = ?3, attempts = attempts + 1, last_time = ?4, last_answer = ?5 WHERE id = ?1 AND state = 0
             RETURNING url, stream",
        )?
        .query_map(params![attempt.id, state, due, attempt.time.unix_micros(), attempt.answer], |row| Ok((row.get(0)?, row.get(1)?)))?
        .next()
        .transpose()?;
    let Some((url, stream)): Option<(String, String)> = changed else { return Ok(()) };
    if state != WAITS { next_is_due(connection, &url, &stream, attempt.time) } else { Ok(()) }
}

/// The first message of a stream that waits is to be sent now.
fn next_is_due(connection: &Connection, url: &str, stream: &str, now: WallTime) -> Result<(), CatalogError> {
    connection
        .prepare_cached("UPDATE outbox SET due = ?3 WHERE id = (SELECT min(id) FROM outbox WHERE url = ?1 AND stream = ?2 AND state = 0)")?
        .execute(params![url, stream, now.unix_micros()])?;
    Ok(())
}

const CONDITION: &str = "(:ids IS NULL OR id IN (SELECT value FROM json_each(:ids))) AND (:state IS NULL OR state = :state) \
    AND (:event IS NULL OR event = :event) AND (:stream IS NULL OR instr(stream, :stream) > 0) AND (:url IS NULL OR instr(url, :url) = 1)";

/// What the query binds in [`CONDITION`].
fn ids_of(query: &MessageQuery) -> Option<String> {
    (!query.ids.is_empty()).then(|| format!("{:?}", query.ids))
}

fn page(connection: &Connection, query: &MessageQuery) -> Result<(u64, Vec<MessageInfo>), CatalogError> {
    let (ids, state) = (ids_of(query), query.state.map(|state| state as i64));
    let total: i64 = connection
        .prepare_cached(&format!("SELECT count(*) FROM outbox WHERE {CONDITION}"))?
        .query_row(named_params! { ":ids": ids, ":state": state, ":event": query.event, ":stream": query.stream, ":url": query.url }, |row| {
            row.get(0)
        })?;
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, url, stream, event, body, create_time, state, due, attempts, last_time, last_answer FROM outbox WHERE {CONDITION}
         ORDER BY id DESC LIMIT :limit OFFSET :offset"
    ))?;
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let rows = statement.query_map(
        named_params! {
            ":ids": ids, ":state": state, ":event": query.event, ":stream": query.stream, ":url": query.url,
            ":limit": bound(query.limit), ":offset": bound(query.offset),
        },
        info,
    )?;
    Ok((unstored(total), rows.collect::<Result<_, _>>()?))
}

fn info(row: &Row<'_>) -> rusqlite::Result<MessageInfo> {
    let state: i64 = row.get(6)?;
    let state = MessageState::ALL
        .into_iter()
        .find(|known| *known as i64 == state)
        .ok_or_else(|| rusqlite::Error::FromSqlConversionFailure(6, Type::Integer, format!("{state} is no state of a message").into()))?;
    Ok(MessageInfo {
        id: row.get(0)?,
        url: row.get(1)?,
        stream: row.get(2)?,
        event: row.get(3)?,
        body: row.get(4)?,
        create_time: WallTime::from_unix_micros(row.get(5)?),
        state,
        due: row.get::<_, Option<i64>>(7)?.map(WallTime::from_unix_micros),
        attempts: unstored(row.get(8)?),
        last_time: WallTime::from_unix_micros(row.get(9)?),
        last_answer: row.get(10)?,
    })
}

fn replay(connection: &Connection, query: &MessageQuery, now: WallTime) -> Result<u64, CatalogError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT id, url, stream, state FROM outbox WHERE {CONDITION} ORDER BY id LIMIT :limit"))?;
    let found: Vec<(i64, String, String, i64)> = statement
        .query_map(
            named_params! {
                ":ids": ids_of(query), ":state": query.state.map(|state| state as i64), ":event": query.event, ":stream": query.stream,
                ":url": query.url, ":limit": i64::try_from(query.limit).unwrap_or(i64::MAX),
            },
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?
        .collect::<Result<_, _>>()?;
    for (id, url, stream, state) in &found {
        if *state == WAITS {
            // One that waits behind another goes on waiting for it.
            connection.prepare_cached("UPDATE outbox SET due = ?2 WHERE id = ?1 AND due IS NOT NULL")?.execute([*id, now.unix_micros()])?;
            continue;
        }
        let due = if waits(connection, url, stream)? { None } else { Some(now.unix_micros()) };
        connection.prepare_cached("UPDATE outbox SET state = 0, due = ?2, attempts = 0 WHERE id = ?1")?.execute(params![id, due])?;
    }
    Ok(found.len() as u64)
}

fn purge(connection: &Connection, now: WallTime, kept_max: i64) -> Result<u64, CatalogError> {
    let mut deleted = 0;
    for state in [TAKEN, GIVEN_UP] {
        let from_count: Option<i64> = connection
            .prepare_cached(
                "SELECT last_time FROM outbox INDEXED BY outbox_ended WHERE state = ?1 AND state <> 0 ORDER BY last_time DESC LIMIT 1 OFFSET ?2",
            )?
            .query_map([state, kept_max], |row| row.get(0))?
            .next()
            .transpose()?;
        let oldest = now.unix_micros().saturating_sub(KEPT_MICROS).max(from_count.unwrap_or(i64::MIN));
        deleted += connection
            .prepare_cached(
                "DELETE FROM outbox WHERE id IN
                 (SELECT id FROM outbox INDEXED BY outbox_ended WHERE state = ?1 AND state <> 0 AND last_time <= ?2 ORDER BY last_time LIMIT ?3)",
            )?
            .execute([state, oldest, PURGE_MAX])?;
    }
    Ok(deleted as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_unix_seconds(seconds)
    }

    fn catalog() -> (tempfile::TempDir, Catalog) {
        let folder = tempfile::tempdir().expect("a folder");
        let catalog = Catalog::open(&folder.path().join("catalog.sqlite")).expect("a catalog");
        (folder, catalog)
    }

    fn put(catalog: &Catalog, url: &'static str, stream: &'static str, event: &'static str, seconds: i64) {
        let enter = move |connection: &Connection| {
            let message = NewMessage { url, stream, event, sign: MessageSign::Live, key: "k", body: r#"{"a":1}"# };
            enter(connection, &message, at(seconds))
        };
        catalog.write(enter).expect("entered");
    }

    fn next(catalog: &Catalog, url: &str) -> Vec<(String, i64, u64)> {
        catalog.next_messages(url, 10).expect("messages").into_iter().map(|m| (m.event, m.due.unix_seconds(), m.attempts)).collect()
    }

    fn note_one(catalog: &Catalog, url: &str, event: &str, seconds: i64, then: Then) {
        let id = catalog.next_messages(url, 10).expect("messages").into_iter().find(|message| message.event == event).expect("it waits").id;
        catalog.note_attempts(vec![Attempt { id, time: at(seconds), answer: "x".to_owned(), then }]).expect("noted");
    }

    fn row(event: &str, due: i64, attempts: u64) -> (String, i64, u64) {
        (event.to_owned(), due, attempts)
    }

    #[test]
    fn one_stream_goes_to_one_address_in_order() {
        let (_folder, catalog) = catalog();
        put(&catalog, "http://a", "d/a/s", "1", 10);
        put(&catalog, "http://a", "d/a/s", "100", 11);
        put(&catalog, "http://a", "d/a/other", "1", 12);
        put(&catalog, "http://b", "d/a/s", "100", 13);
        assert_eq!(next(&catalog, "http://a"), [row("1", 10, 0), row("1", 12, 0)]);
        assert_eq!(next(&catalog, "http://b"), [row("100", 13, 0)]);
        assert_eq!(catalog.outbox_addresses().expect("addresses"), [("http://a".to_owned(), 3), ("http://b".to_owned(), 1)]);
        // What failed keeps its place; the other stream does not wait for it.
        note_one(&catalog, "http://a", "1", 20, Then::Again(at(80)));
        assert_eq!(next(&catalog, "http://a"), [row("1", 12, 0), row("1", 80, 1)]);
        note_one(&catalog, "http://a", "1", 21, Then::Delivered);
        note_one(&catalog, "http://a", "1", 81, Then::GivenUp);
        assert_eq!(next(&catalog, "http://a"), [row("100", 81, 0)]);
        note_one(&catalog, "http://a", "100", 82, Then::Delivered);
        assert_eq!(next(&catalog, "http://a"), []);
        assert_eq!(catalog.outbox_addresses().expect("addresses"), [("http://b".to_owned(), 1)]);
        // A second word on the same attempt changes nothing.
        catalog.note_attempts(vec![Attempt { id: 1, time: at(99), answer: "late".to_owned(), then: Then::GivenUp }]).expect("noted");
        let (total, messages) = catalog.messages(&MessageQuery { limit: 2, ..MessageQuery::default() }).expect("a page");
        assert_eq!((total, messages.iter().map(|message| message.id).collect::<Vec<_>>()), (4, vec![4, 3]));
        assert_eq!((messages[1].state, messages[1].attempts, messages[1].last_answer.as_str()), (MessageState::Delivered, 1, "x"));
    }

    #[test]
    fn replay() {
        let (_folder, catalog) = catalog();
        for (stream, event) in [("d/a/s", "1"), ("d/a/s", "100"), ("d/a/s", "0"), ("d/a/t", "1")] {
            put(&catalog, "http://a", stream, event, 10);
        }
        note_one(&catalog, "http://a", "1", 20, Then::GivenUp);
        note_one(&catalog, "http://a", "100", 21, Then::Delivered);
        assert_eq!(next(&catalog, "http://a"), [row("1", 10, 0), row("0", 21, 0)]);
        let failed = MessageQuery { state: Some(MessageState::Failed), limit: 100, ..MessageQuery::default() };
        assert_eq!(catalog.replay_messages(failed, at(30)).expect("again"), 1);
        // It stands behind the one that waits, although it is older.
        assert_eq!(next(&catalog, "http://a"), [row("1", 10, 0), row("0", 21, 0)]);
        note_one(&catalog, "http://a", "0", 31, Then::Delivered);
        assert_eq!(next(&catalog, "http://a"), [row("1", 10, 0), row("1", 31, 0)]);
        let by_id = MessageQuery { ids: vec![2, 99], limit: 100, ..MessageQuery::default() };
        assert_eq!(catalog.replay_messages(by_id, at(40)).expect("again"), 1);
        let of_stream = MessageQuery { stream: Some("/t".to_owned()), url: Some("http://a".to_owned()), limit: 100, ..MessageQuery::default() };
        assert_eq!(catalog.replay_messages(of_stream, at(50)).expect("again"), 1);
        assert_eq!(next(&catalog, "http://a"), [row("1", 31, 0), row("1", 50, 0)]);
        assert_eq!(catalog.outbox_addresses().expect("addresses"), [("http://a".to_owned(), 3)]);
    }

    #[test]
    fn a_full_outbox_gives_up_what_comes() {
        let (_folder, catalog) = catalog();
        put(&catalog, "http://a", "s", "1", 10);
        catalog.write(|connection| Ok(connection.execute("UPDATE outbox_address SET waiting = ?1", [WAITING_PER_ADDRESS_MAX])?)).expect("full");
        put(&catalog, "http://a", "s", "100", 11);
        put(&catalog, "http://b", "s", "100", 12);
        let (_, messages) = catalog.messages(&MessageQuery { limit: 9, ..MessageQuery::default() }).expect("a page");
        assert_eq!(
            messages.iter().map(|message| message.state).collect::<Vec<_>>(),
            [MessageState::Waiting, MessageState::Failed, MessageState::Waiting]
        );
        assert_eq!(messages[1].last_answer, "not sent: too many messages wait");
    }

    #[test]
    fn old_ones_go() {
        let (_folder, catalog) = catalog();
        for number in 0..10 {
            put(&catalog, "http://a", if number % 2 == 0 { "even" } else { "odd" }, "1", number);
        }
        for number in 0..8 {
            let then = if number % 2 == 0 { Then::Delivered } else { Then::GivenUp };
            note_one(&catalog, "http://a", "1", 100 + number, then);
        }
        let count = |catalog: &Catalog| catalog.messages(&MessageQuery::default()).expect("a count").0;
        assert_eq!(count(&catalog), 10);
        catalog.write(|connection| purge(connection, at(200), 2)).expect("purged");
        assert_eq!(count(&catalog), 6, "two of each kind and the two that wait");
        catalog.purge_messages(at(14 * 86_400 + 1_000)).expect("purged");
        assert_eq!(count(&catalog), 2, "those that wait");
    }
}
