//! What the ingest cores tell: callbacks and the list of stream events come of it.

use crate::domain::LiveEvent;
use crate::units::WallTime;

use super::{Catalog, CatalogError, stream_events};

impl Catalog {
    /// Enters what happened to live streams, in order and in one transaction: all or none.
    pub fn enter_live_events(&self, events: Vec<LiveEvent>, now: WallTime) -> Result<(), CatalogError> {
        self.write(move |connection| {
            for event in &events {
                stream_events::enter(connection, event, now)?;
            }
            Ok(())
        })
    }
}
