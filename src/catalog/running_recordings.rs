//! Recordings of which somebody was told that they began: their end is told once, whoever sees it first, the run that records or the one after it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::event::{Publisher, RecordSessionId, RecordState};
use crate::domain::{LiveEvent, LiveEventKind};
use crate::units::{Format, PublicationId, StreamKey, WallTime};

use super::{CatalogError, stored, unstored};

/// Notes begins and ends. Returns what is to be told; of the end of a recording that has ended already, or of whose begin nobody heard, nothing.
pub(super) fn enter<'a>(connection: &Connection, event: &'a LiveEvent) -> Result<Option<Cow<'a, LiveEvent>>, CatalogError> {
    let LiveEventKind::RecordState { session, source, format, state } = &event.kind else { return Ok(Some(Cow::Borrowed(event))) };
    match state {
        RecordState::StartSucceeded | RecordState::Resumed => {
            let publisher = &event.publisher;
            let source = serde_json::to_string(source).map_err(|error| CatalogError::Storage(format!("the source of a recording: {error}")))?;
            connection.prepare_cached("INSERT OR REPLACE INTO running_recording VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?.execute(params![
                stored(session.0),
                format.name(),
                stored(publisher.publication.0),
                &*publisher.key.domain,
                &*publisher.key.app,
                &*publisher.key.stream,
                publisher.alias_domain,
                source
            ])?;
        }
        RecordState::Ended => {
            let alias_domain: Option<String> = connection
                .prepare_cached("DELETE FROM running_recording WHERE session = ?1 AND format = ?2 RETURNING alias_domain")?
                .query_row(params![stored(session.0), format.name()], |row| row.get(0))
                .optional()?;
            // That nobody came back is noticed by somebody who does not know by which other name its receiver is found.
            let complete = |alias_domain| {
                let publisher = Publisher { alias_domain, ..(*event.publisher).clone() };
                Cow::Owned(LiveEvent { publisher: Arc::new(publisher), ..event.clone() })
            };
            return Ok(alias_domain.map(complete));
        }
        RecordState::StartFailed | RecordState::Paused | RecordState::Error => {}
    }
    Ok(Some(Cow::Borrowed(event)))
}

/// The ends of all, but for those whose streams are `awaited` to come back.
pub(super) fn left(connection: &Connection, awaited: &HashSet<RecordSessionId>, now: WallTime) -> Result<Vec<LiveEvent>, CatalogError> {
    let mut statement = connection.prepare_cached(
        "SELECT session, format, publication, domain, app, stream, alias_domain, source FROM running_recording ORDER BY session, format",
    )?;
    let unreadable = |column, why: String| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, why.into());
    let rows = statement.query_map([], |row| {
        let (name, source): (String, String) = (row.get(1)?, row.get(7)?);
        let (domain, app, stream): (String, String, String) = (row.get(3)?, row.get(4)?, row.get(5)?);
        let publisher = Publisher {
            key: StreamKey::new(&domain, &app, &stream),
            publication: PublicationId(unstored(row.get(2)?)),
            publish_time: now,
            client_ip: String::new(),
            stream_param: String::new(),
            alias_domain: row.get(6)?,
        };
        let kind = LiveEventKind::RecordState {
            session: RecordSessionId(unstored(row.get(0)?)),
            source: serde_json::from_str(&source).map_err(|error| unreadable(7, error.to_string()))?,
            format: Format::parse(&name).ok_or_else(|| unreadable(1, format!("{name} is no format")))?,
            state: RecordState::Ended,
        };
        Ok(LiveEvent { publisher: Arc::new(publisher), time: now, kind })
    })?;
    let mut events: Vec<LiveEvent> = rows.collect::<Result<_, _>>()?;
    events.retain(|event| match event.kind {
        // Only those go on.
        LiveEventKind::RecordState { session, format: Format::Hls, .. } => !awaited.contains(&session),
        _ => true,
    });
    // Receivers tell events apart by their time.
    for (micros, event) in (0..).zip(&mut events) {
        event.time = WallTime::from_unix_micros(now.unix_micros() + micros);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::super::Catalog;
    use super::*;
    use crate::domain::RecordingSource;
    use crate::units::TemplateId;

    fn state(session: u64, format: Format, state: RecordState) -> LiveEvent {
        let publisher = Publisher {
            key: StreamKey::new("push.example.com", "live", "cam"),
            publication: PublicationId(7),
            publish_time: WallTime::from_unix_seconds(1),
            client_ip: String::new(),
            stream_param: String::new(),
            alias_domain: "alias.example.com".to_owned(),
        };
        let kind = LiveEventKind::RecordState { session: RecordSessionId(session), source: RecordingSource::Rule(TemplateId(1001)), format, state };
        LiveEvent { publisher: Arc::new(publisher), time: WallTime::from_unix_seconds(2), kind }
    }

    #[test]
    fn an_end_is_told_once_and_after_a_begin() {
        use Format::{Hls, Mp4};
        use RecordState::{Ended, Error, Paused, Resumed, StartFailed, StartSucceeded};
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.sqlite")).unwrap();
        for (session, format, change, is_told) in [
            (1, Mp4, StartSucceeded, true),
            (1, Hls, StartSucceeded, true),
            (1, Mp4, Error, true),
            (1, Mp4, Ended, true),
            (1, Mp4, Ended, false),
            (2, Mp4, StartFailed, true),
            (2, Mp4, Ended, false),
            // The larger half of the ids.
            (u64::MAX, Hls, StartSucceeded, true),
            (u64::MAX, Hls, Paused, true),
            (3, Hls, Resumed, true),
            (3, Hls, Ended, true),
            (4, Mp4, StartSucceeded, true),
        ] {
            let told = catalog
                .write(move |connection| {
                    let mut event = state(session, format, change);
                    if change == Ended {
                        Arc::make_mut(&mut event.publisher).alias_domain.clear();
                    }
                    Ok(enter(connection, &event)?.map(|told| told.publisher.alias_domain.clone()))
                })
                .unwrap();
            assert_eq!(told.as_deref(), is_told.then_some("alias.example.com"), "{session} {format:?} {change:?}");
        }
        let now = WallTime::from_unix_seconds(9);
        let left_after = |awaited: &[u64]| {
            let awaited = awaited.iter().map(|session| RecordSessionId(*session)).collect();
            let events = catalog.read(|connection| left(connection, &awaited, now)).unwrap();
            assert!(events.iter().all(|event| event.publisher.alias_domain == "alias.example.com" && event.publisher.publication.0 == 7));
            let times: HashSet<WallTime> = events.iter().map(|event| event.time).collect();
            assert_eq!(times.len(), events.len(), "each has a time of its own");
            let what = |event: LiveEvent| match event.kind {
                LiveEventKind::RecordState { session, format, state: Ended, .. } => (session.0, format),
                kind => panic!("{kind:?}"),
            };
            events.into_iter().map(what).collect::<Vec<_>>()
        };
        // What is awaited to come back has not ended, but its files of other formats have.
        assert_eq!(left_after(&[1, 4]), [(u64::MAX, Hls), (4, Mp4)]);
        assert_eq!(left_after(&[u64::MAX]), [(1, Hls), (4, Mp4)]);
        catalog.close_stream_events(&HashSet::new(), now).unwrap();
        assert_eq!(left_after(&[]), []);
    }
}
