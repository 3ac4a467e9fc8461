//! A few read connections: requests read beside the writer, never behind it.

use std::path::Path;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use rusqlite::Connection;

use super::{CatalogError, schema};

/// As many as HTTP workers by default; more only compete for the page cache.
const READERS: usize = 4;
/// A request that waited this long for a connection is refused.
const WAIT_MAX: Duration = Duration::from_secs(10);

pub(super) struct Readers {
    give: Sender<Connection>,
    take: Receiver<Connection>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Self, CatalogError> {
        let (give, take) = bounded(READERS);
        for _ in 0..READERS {
            give.send(schema::open_reader(path)?).map_err(|_| CatalogError::closed())?;
        }
        Ok(Self { give, take })
    }

    /// Runs `work` on a read connection, inside one transaction: all its statements see the same state.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, CatalogError>) -> Result<T, CatalogError> {
        let connection = self.take.recv_timeout(WAIT_MAX).map_err(|_| CatalogError::Storage("all read connections are busy".to_owned()))?;
        let mut lease = Lease { connection: Some(connection), give: &self.give };
        let Some(connection) = lease.connection.as_mut() else { return Err(CatalogError::closed()) };
        let transaction = connection.transaction()?;
        work(&transaction)
        // The transaction ends here; it wrote nothing.
    }
}

/// Gives the connection back whatever happens.
struct Lease<'a> {
    connection: Option<Connection>,
    give: &'a Sender<Connection>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            // There is room: the pool never holds more connections than it began with.
            let _ = self.give.try_send(connection);
        }
    }
}
