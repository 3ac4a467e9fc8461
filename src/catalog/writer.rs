//! The one thread that writes. Whatever waits in its queue goes into one transaction, so a burst costs one sync of the disk, not hundreds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rusqlite::Connection;

use super::CatalogError;
use super::policy_copy::PolicyCopy;

/// Writes that may wait. Every caller waits for its own, so this bounds callers, not work; beyond it they wait to enter.
const QUEUE_MAX: usize = 1024;
/// Writes of one transaction: the last one waits for the first, so a batch stays well below a second.
const BATCH_MAX: usize = 256;

pub(super) struct Writer {
    /// `None` once closed.
    queue: Mutex<Option<Sender<Box<dyn Job>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Transactions committed by this process.
    version: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn start(connection: Connection, copy: Option<PolicyCopy>) -> Result<Self, CatalogError> {
        let (sender, receiver) = bounded(QUEUE_MAX);
        let version = Arc::new(AtomicU64::new(1));
        let committed = Arc::clone(&version);
        let thread = std::thread::Builder::new()
            .name("catalog-writer".to_owned())
            .spawn(move || run(&connection, &receiver, copy, &committed))
            .map_err(|error| CatalogError::Storage(format!("starting the writer thread: {error}")))?;
        Ok(Self { queue: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), version })
    }

    /// Runs `work` on the writer thread and returns its result when it is durable. An error of `work` undoes what it wrote.
    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let (reply, answer) = bounded(1);
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(CatalogError::closed)?;
        queue.send(Box::new(Write { work: Some(work), result: None, reply })).map_err(|_| CatalogError::closed())?;
        drop(queue);
        answer.recv().map_err(|_| CatalogError::closed())?
    }

    /// Changes with every transaction.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// Ends the thread after everything queued is committed. The second call does nothing.
    pub(super) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the catalog writer panicked");
        }
    }
}

/// One caller's write inside a batch.
trait Job: Send {
    /// Does the work; false if it failed and must be undone.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Tells the caller: its own result if the batch was committed or the work itself failed, else the `failure` of the batch.
    fn answer(self: Box<Self>, failure: Option<&str>);
}

struct Write<T, F> {
    work: Option<F>,
    result: Option<Result<T, CatalogError>>,
    reply: Sender<Result<T, CatalogError>>,
}

impl<T: Send, F: FnOnce(&Connection) -> Result<T, CatalogError> + Send> Job for Write<T, F> {
    fn run(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else { return false };
        // A panic in one caller's closure must not take the thread from the others; the savepoint undoes what it did.
        let result = catch_unwind(AssertUnwindSafe(|| work(connection)))
            .unwrap_or_else(|_| Err(CatalogError::Storage("a write to the catalog panicked and was undone".to_owned())));
        self.result.insert(result).is_ok()
    }

    fn answer(self: Box<Self>, failure: Option<&str>) {
        let result = match (self.result, failure) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(value)), None) => Ok(value),
            (_, Some(failure)) => Err(CatalogError::Storage(failure.to_owned())),
            (None, None) => Err(CatalogError::Storage("the write was not run".to_owned())),
        };
        // A caller that is gone needs no answer.
        let _ = self.reply.send(result);
    }
}

fn run(connection: &Connection, queue: &Receiver<Box<dyn Job>>, mut copy: Option<PolicyCopy>, version: &AtomicU64) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        // After a change the copy is written at once, after many of them at its own pace.
        let due = copy.as_mut().and_then(|copy| copy.write_or_wait(connection));
        let first = match due {
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => queue.recv_timeout(wait),
        };
        match first {
            Ok(first) => batch.push(first),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        }
        batch.extend(queue.try_iter().take(BATCH_MAX - 1));
        let committed = commit(connection, &mut batch).map_err(|error| error.to_string());
        if committed.is_err() && !connection.is_autocommit() {
            // Nothing can be done about a failing rollback; the next BEGIN reports it.
            let _ = connection.execute_batch("ROLLBACK");
        }
        // Before the callers hear of it: who reads the new number reads the new rows.
        version.fetch_add(1, Ordering::SeqCst);
        let failure = committed.as_ref().err().map(String::as_str);
        for job in batch.drain(..) {
            job.answer(failure);
        }
    }
    if let Some(copy) = &mut copy {
        copy.write(connection);
    }
    // After an orderly stop the file alone is the catalog, whoever has it open still.
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        tracing::warn!(%error, "the catalog's journal could not be brought into it");
    }
}

/// Runs the jobs in one transaction, each of several in a savepoint of its own.
fn commit(connection: &Connection, batch: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    // IMMEDIATE: wait for the write lock here, where the busy timeout applies, not in the middle.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    if let [job] = batch {
        // It is the transaction: a savepoint would have every page kept twice that it changes.
        return match job.run(connection) {
            true => connection.execute_batch("COMMIT"),
            // SQLite may have rolled back already.
            false if connection.is_autocommit() => Ok(()),
            false => connection.execute_batch("ROLLBACK"),
        };
    }
    for job in batch {
        connection.execute_batch("SAVEPOINT job")?;
        if job.run(connection) {
            connection.execute_batch("RELEASE job")?;
        } else {
            // After a full disk or an I/O error SQLite may have rolled back everything itself; then this fails, and so does the batch.
            connection.execute_batch("ROLLBACK TO job; RELEASE job")?;
        }
    }
    connection.execute_batch("COMMIT")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::unbounded;

    fn writer() -> Writer {
        let connection = Connection::open_in_memory().expect("memory");
        connection.execute_batch("CREATE TABLE t (x INTEGER)").expect("table");
        Writer::start(connection, None).expect("a thread")
    }

    fn insert(connection: &Connection, x: i64) -> Result<(), CatalogError> {
        connection.execute("INSERT INTO t VALUES (?1)", [x])?;
        Ok(())
    }

    fn all(writer: &Writer) -> Vec<i64> {
        let read = |connection: &Connection| -> rusqlite::Result<Vec<i64>> {
            connection.prepare("SELECT x FROM t ORDER BY x")?.query_map([], |row| row.get(0))?.collect()
        };
        writer.write(move |connection| Ok(read(connection)?)).expect("read")
    }

    #[test]
    fn a_batch_isolates_failures() {
        let writer = Arc::new(writer());
        // Hold the thread, so that what follows is queued together.
        let (entered, is_held) = unbounded();
        let (release, released) = unbounded::<()>();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write(move |_| {
                    let _ = entered.send(());
                    let _ = released.recv();
                    Ok(())
                })
            });
            is_held.recv().expect("held");
            let results: Vec<_> = (0..40)
                .map(|x| {
                    let writer = Arc::clone(&writer);
                    scope.spawn(move || {
                        writer.write(move |connection| {
                            insert(connection, x)?;
                            match x % 4 {
                                0 => Err(CatalogError::NotFound),
                                1 => panic!("a test closure that panics"),
                                2 => insert(connection, 1000 + x).map(|()| x),
                                _ => Ok(x),
                            }
                        })
                    })
                })
                .collect();
            release.send(()).expect("release");
            for (x, result) in (0..40).zip(results) {
                let result = result.join().expect("no panic reaches the caller");
                match x % 4 {
                    0 => assert!(matches!(result, Err(CatalogError::NotFound)), "{x}: {result:?}"),
                    1 => assert!(matches!(result, Err(CatalogError::Storage(_))), "{x}: {result:?}"),
                    _ => assert!(matches!(result, Ok(value) if value == x), "{x}: {result:?}"),
                }
            }
        });
        let kept: Vec<i64> = (0..40).filter(|x| x % 4 >= 2).chain((0..40).filter(|x| x % 4 == 2).map(|x| 1000 + x)).collect();
        assert_eq!(all(&writer), kept);
    }

    #[test]
    fn closing_commits_and_refuses() {
        let writer = writer();
        writer.write(|connection| insert(connection, 1)).expect("insert");
        writer.close();
        writer.close();
        assert!(matches!(writer.write(|connection| insert(connection, 2)), Err(CatalogError::Storage(_))));
    }
}
