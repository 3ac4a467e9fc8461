//! Publications that run, ended or were refused: what DescribeLiveStreamEventList shows.

use std::sync::Arc;

use rusqlite::{Connection, named_params, params};

use crate::domain::event::Publisher;
use crate::domain::{LiveEvent, LiveEventKind};
use crate::units::{PublicationId, StreamKey, WallTime};

use super::{Catalog, CatalogError, stored, unstored};

/// `errcode` of our own errors.
const OWN_ERROR: u32 = 5;
/// End of a publication that runs: behind every time.
const RUNNING: i64 = i64::MAX;
/// Ended publications are kept this long: what the API lets ask for.
const KEPT_MICROS: i64 = 60 * 86_400 * 1_000_000;
/// And at most this many of them, about 300 bytes each.
const ACCEPTED_MAX: i64 = 500_000;
/// Refused attempts cost the refused nothing, so they must not push out what happened.
const REFUSED_MAX: i64 = 20_000;
/// Old rows are looked for once in so many entries.
const PURGE_EVERY: i64 = 1_024;

/// One publication, or a refused attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamEvent {
    pub key: StreamKey,
    pub begin: WallTime,
    /// `None`: it runs.
    pub end: Option<WallTime>,
    /// Why it ended or was refused.
    pub reason: String,
    pub client: String,
    /// Pixels; 0 without video, or not known.
    pub width: u32,
    pub height: u32,
}

/// Publications that overlap `start..=end`.
#[derive(Clone, Debug, Default)]
pub struct StreamEventQuery {
    pub start: WallTime,
    pub end: WallTime,
    pub domain: Option<String>,
    pub app: Option<String>,
    pub stream: Option<String>,
    /// `stream` is the whole name, not a part of it.
    pub stream_is_exact: bool,
    /// Without the refused ones.
    pub accepted_only: bool,
    /// Without the running ones.
    pub ended_only: bool,
    /// By the end; running ones count as the latest.
    pub ascending: bool,
    pub offset: u64,
    pub limit: u64,
}

#[derive(Clone, Debug, Default)]
pub struct StreamEventPage {
    pub total: u64,
    pub rows: Vec<StreamEvent>,
}

impl Catalog {
    pub fn stream_events(&self, query: &StreamEventQuery) -> Result<StreamEventPage, CatalogError> {
        self.read(|connection| page(connection, query))
    }
}

fn page(connection: &Connection, query: &StreamEventQuery) -> Result<StreamEventPage, CatalogError> {
    let condition = "end_time >= :start AND begin_time <= :end \
        AND (:domain IS NULL OR domain = :domain) AND (:app IS NULL OR app = :app) \
        AND (:stream IS NULL OR CASE WHEN :exact THEN stream = :stream ELSE instr(stream, :stream) > 0 END) \
        AND (refused = 0 OR NOT :accepted_only) AND (end_time < :running OR NOT :ended_only)";
    let total: i64 = connection.prepare_cached(&format!("SELECT count(*) FROM stream_event WHERE {condition}"))?.query_row(
        named_params! {
            ":start": query.start.unix_micros(), ":end": query.end.unix_micros(), ":domain": query.domain, ":app": query.app, ":stream": query.stream,
            ":exact": query.stream_is_exact, ":accepted_only": query.accepted_only, ":ended_only": query.ended_only, ":running": RUNNING,
        },
        |row| row.get(0),
    )?;
    let order = if query.ascending { "end_time, id" } else { "end_time DESC, id DESC" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT domain, app, stream, begin_time, end_time, reason, client, width, height FROM stream_event WHERE {condition} \
         ORDER BY {order} LIMIT :limit OFFSET :offset"
    ))?;
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let rows = statement.query_map(
        named_params! {
            ":start": query.start.unix_micros(), ":end": query.end.unix_micros(), ":domain": query.domain, ":app": query.app, ":stream": query.stream,
            ":exact": query.stream_is_exact, ":accepted_only": query.accepted_only, ":ended_only": query.ended_only, ":running": RUNNING,
            ":limit": bound(query.limit), ":offset": bound(query.offset),
        },
        |row| {
            let (domain, app, stream): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let end: i64 = row.get(4)?;
            Ok(StreamEvent {
                key: StreamKey::new(&domain, &app, &stream),
                begin: WallTime::from_unix_micros(row.get(3)?),
                end: (end != RUNNING).then(|| WallTime::from_unix_micros(end)),
                reason: row.get(5)?,
                client: row.get(6)?,
                width: row.get(7)?,
                height: row.get(8)?,
            })
        },
    )?;
    Ok(StreamEventPage { total: unstored(total), rows: rows.collect::<Result<_, _>>()? })
}

/// The ends of the publications that run according to the list.
pub(super) fn running(connection: &Connection, now: WallTime) -> Result<Vec<LiveEvent>, CatalogError> {
    let mut statement = connection.prepare_cached(
        "SELECT publication, domain, app, stream, begin_time, client, stream_param, alias_domain FROM stream_event WHERE end_time = ?1 ORDER BY id",
    )?;
    let events = statement.query_map([RUNNING], |row| {
        let (domain, app, stream): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let publish_time = WallTime::from_unix_micros(row.get(4)?);
        let publisher = Publisher {
            key: StreamKey::new(&domain, &app, &stream),
            publication: PublicationId(unstored(row.get(0)?)),
            publish_time,
            client_ip: row.get(5)?,
            stream_param: row.get(6)?,
            alias_domain: row.get(7)?,
        };
        let time = now.max(publish_time);
        let push_ms = (time.unix_millis() - publish_time.unix_millis()).unsigned_abs();
        let kind = LiveEventKind::PublishEnded { code: OWN_ERROR, message: "the appliance stopped without an end", push_ms, width: 0, height: 0 };
        Ok(LiveEvent { publisher: Arc::new(publisher), time, kind })
    })?;
    Ok(events.collect::<Result<_, _>>()?)
}

/// Enters what concerns the list; other events are nothing to it.
pub(super) fn enter(connection: &Connection, event: &LiveEvent, now: WallTime) -> Result<(), CatalogError> {
    let (end, refused, reason, width, height) = match &event.kind {
        LiveEventKind::PublishBegan => (RUNNING, false, "", 0, 0),
        LiveEventKind::PublishEnded { message, width, height, .. } => (event.time.unix_micros(), false, *message, *width, *height),
        LiveEventKind::PublishRefused { message, .. } => (event.time.unix_micros(), true, *message, 0, 0),
        _ => return Ok(()),
    };
    let publisher = &event.publisher;
    // The begin may have been lost, and a batch may come twice.
    connection
        .prepare_cached(
            "INSERT INTO stream_event (publication, domain, app, stream, begin_time, end_time, refused, reason, client, width, height, \
             stream_param, alias_domain) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
             ON CONFLICT (publication) DO UPDATE SET end_time = ?6, reason = ?8, width = ?10, height = ?11 WHERE end_time > ?6",
        )?
        .execute(params![
            stored(publisher.publication.0),
            &*publisher.key.domain,
            &*publisher.key.app,
            &*publisher.key.stream,
            publisher.publish_time.unix_micros(),
            end,
            refused,
            reason,
            publisher.client_ip,
            width,
            height,
            publisher.stream_param,
            publisher.alias_domain
        ])?;
    if connection.last_insert_rowid() % PURGE_EVERY == 0 && end != RUNNING {
        purge(connection, now)?;
    }
    Ok(())
}

pub(super) fn purge(connection: &Connection, now: WallTime) -> Result<(), CatalogError> {
    purge_to(connection, now, ACCEPTED_MAX, REFUSED_MAX)
}

fn purge_to(connection: &Connection, now: WallTime, accepted_max: i64, refused_max: i64) -> Result<(), CatalogError> {
    connection.prepare_cached("DELETE FROM stream_event WHERE end_time < ?1")?.execute([now.unix_micros() - KEPT_MICROS])?;
    for (refused, count_max) in [(false, accepted_max), (true, refused_max)] {
        connection
            .prepare_cached(
                "DELETE FROM stream_event WHERE refused = ?1 AND end_time < ?2 \
                 AND id <= (SELECT id FROM stream_event WHERE refused = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?3)",
            )?
            .execute(params![refused, RUNNING, count_max])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_unix_seconds(seconds)
    }

    fn event(publication: u64, stream: &str, begin: i64, time: i64, kind: LiveEventKind) -> LiveEvent {
        let publisher = Publisher {
            key: StreamKey::new("push.example.com", "live", stream),
            publication: PublicationId(publication),
            publish_time: at(begin),
            client_ip: "192.0.2.1".to_owned(),
            stream_param: String::new(),
            alias_domain: String::new(),
        };
        LiveEvent { publisher: Arc::new(publisher), time: at(time), kind }
    }

    const ENDED: LiveEventKind = LiveEventKind::PublishEnded { code: 1, message: "closed", push_ms: 1, width: 1920, height: 1080 };
    const REFUSED: LiveEventKind = LiveEventKind::PublishRefused { code: 18, message: "18/503 wrong" };

    fn filled() -> (tempfile::TempDir, Catalog) {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.sqlite")).unwrap();
        let events = vec![
            event(1, "cam-1", 100, 100, LiveEventKind::PublishBegan),
            event(2, "cam-2", 150, 150, LiveEventKind::PublishBegan),
            event(3, "100%", 160, 160, REFUSED),
            event(1, "cam-1", 100, 200, ENDED),
            // Its begin was lost.
            event(4, "cam-1", 300, 400, ENDED),
        ];
        catalog.enter_live_events(events.clone(), at(400)).unwrap();
        catalog.enter_live_events(events, at(400)).unwrap();
        (folder, catalog)
    }

    #[test]
    fn queries() {
        let (_folder, catalog) = filled();
        let all = StreamEventQuery { start: at(0), end: at(1_000), limit: 10, ..StreamEventQuery::default() };
        let begins = |query: &StreamEventQuery| {
            let page = catalog.stream_events(query).unwrap();
            (page.total, page.rows.iter().map(|row| row.begin.unix_seconds()).collect::<Vec<_>>())
        };
        let text = |text: &str| Some(text.to_owned());
        for (query, total, expected) in [
            (all.clone(), 4, vec![150, 300, 100, 160]),
            (StreamEventQuery { ascending: true, ..all.clone() }, 4, vec![160, 100, 300, 150]),
            (StreamEventQuery { limit: 2, offset: 1, ..all.clone() }, 4, vec![300, 100]),
            (StreamEventQuery { offset: u64::MAX, ..all.clone() }, 4, vec![]),
            (StreamEventQuery { accepted_only: true, ..all.clone() }, 3, vec![150, 300, 100]),
            (StreamEventQuery { ended_only: true, ..all.clone() }, 3, vec![300, 100, 160]),
            (StreamEventQuery { stream: text("cam"), ..all.clone() }, 3, vec![150, 300, 100]),
            (StreamEventQuery { stream: text("%"), ..all.clone() }, 1, vec![160]),
            (StreamEventQuery { stream: text("cam"), stream_is_exact: true, ..all.clone() }, 0, vec![]),
            (StreamEventQuery { stream: text("cam-2"), stream_is_exact: true, ..all.clone() }, 1, vec![150]),
            (StreamEventQuery { domain: text("other.example"), ..all.clone() }, 0, vec![]),
            (StreamEventQuery { app: text("live"), ..all.clone() }, 4, vec![150, 300, 100, 160]),
            (StreamEventQuery { app: text("liv"), ..all.clone() }, 0, vec![]),
            // What overlaps the window.
            (StreamEventQuery { start: at(200), end: at(299), ..all.clone() }, 2, vec![150, 100]),
            (StreamEventQuery { start: at(0), end: at(99), ..all.clone() }, 0, vec![]),
        ] {
            assert_eq!(begins(&query), (total, expected), "{query:?}");
        }
        let page = catalog.stream_events(&StreamEventQuery { limit: 2, ..all.clone() }).unwrap();
        assert_eq!((page.rows[0].end, page.rows[0].reason.as_str(), page.rows[0].width), (None, "", 0));
        assert_eq!((page.rows[1].end, page.rows[1].reason.as_str(), page.rows[1].width), (Some(at(400)), "closed", 1920));
        // A restart ends what ran.
        catalog.close_stream_events(&HashSet::new(), at(500)).unwrap();
        let page = catalog.stream_events(&all).unwrap();
        assert_eq!((page.total, page.rows[0].end, page.rows[0].begin), (4, Some(at(500)), at(150)));
    }

    #[test]
    fn old_rows_go_and_running_ones_stay() {
        let (_folder, catalog) = filled();
        let count = |query: StreamEventQuery| catalog.stream_events(&StreamEventQuery { end: at(i64::MAX / 1_000_000), ..query }).unwrap().total;
        let refused = (10..40).map(|number| event(number, "x", 500, 500, REFUSED)).collect();
        catalog.enter_live_events(refused, at(500)).unwrap();
        assert_eq!(count(StreamEventQuery::default()), 34);
        catalog.write(|connection| purge_to(connection, at(500), 2, 5)).unwrap();
        assert_eq!(count(StreamEventQuery::default()), 7);
        assert_eq!(count(StreamEventQuery { accepted_only: true, ..StreamEventQuery::default() }), 2);
        catalog.write(|connection| purge_to(connection, at(60 * 86_400 + 450), 100, 100)).unwrap();
        assert_eq!(count(StreamEventQuery { accepted_only: true, ..StreamEventQuery::default() }), 1, "the one that runs");
        assert_eq!(count(StreamEventQuery::default()), 6);
    }
}
