//! What the ingest cores tell: callbacks and the list of stream events come of it.

use std::collections::HashSet;

use rusqlite::Connection;

use crate::domain::LiveEvent;
use crate::domain::event::RecordSessionId;
use crate::units::WallTime;

use super::callbacks::{CallbackWriter, enter_live};
use super::{Catalog, CatalogError, running_recordings, stream_events};

impl Catalog {
    /// Enters what happened to live streams, in order and in one transaction: all or none.
    pub fn enter_live_events(&self, events: Vec<LiveEvent>, now: WallTime) -> Result<(), CatalogError> {
        let writer = self.callback_writer();
        let told = self.write(move |connection| {
            let mut told = false;
            for event in &events {
                told |= enter(connection, writer.as_ref(), event, now)?;
            }
            Ok(told)
        })?;
        if told {
            self.wake_outbox();
        }
        Ok(())
    }

    /// Ends the recordings and publications that an earlier run left running: it was killed, and nobody knows more exactly when. The streams of some
    /// recordings are `awaited` to come back.
    pub fn close_stream_events(&self, awaited: &HashSet<RecordSessionId>, now: WallTime) -> Result<(), CatalogError> {
        let writer = self.callback_writer();
        let awaited = awaited.clone();
        self.write(move |connection| {
            for event in running_recordings::left(connection, &awaited, now)?.into_iter().chain(stream_events::running(connection, now)?) {
                enter(connection, writer.as_ref(), &event, now)?;
            }
            stream_events::purge(connection, now)
        })
    }
}

/// True: somebody is to be told.
fn enter(connection: &Connection, writer: Option<&CallbackWriter>, event: &LiveEvent, now: WallTime) -> Result<bool, CatalogError> {
    stream_events::enter(connection, event, now)?;
    let (Some(event), Some(writer)) = (running_recordings::enter(connection, event)?, writer) else { return Ok(false) };
    enter_live(connection, writer, &event, now)
}
