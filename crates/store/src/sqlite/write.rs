//! The writer: one thread, one connection, commits in groups. An operation runs inside a savepoint of
//! a transaction that it shares with its neighbours; nobody is answered before the transaction has
//! reached the disk. Which statements run is the operations' business.
//!
//! ```text
//! queue ─▶ BEGIN IMMEDIATE ─▶ per operation: SAVEPOINT, run, RELEASE (or ROLLBACK TO when refused)
//!       ─▶ COMMIT (one fsync) ─▶ answer everybody ─▶ see to the log (`wal`)
//!       ─▶ next group: whatever has queued up meanwhile
//! ```

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use chaperone_core::ports::StoreFailed;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::wal::WalCheckpoints;
use super::{Fault, open};

/// Operations waiting for the writer; beyond this, callers wait.
const QUEUE_MAX: usize = 1_024;

/// Operations of one transaction.
const GROUP_MAX: usize = 256;

/// Why an operation changes nothing.
#[derive(Debug)]
pub(super) enum Undone<E> {
    /// It was refused on its merits.
    Refused(E),
    /// A failure.
    Fault(Fault),
}

impl<E> From<Fault> for Undone<E> {
    fn from(fault: Fault) -> Self {
        Undone::Fault(fault)
    }
}

impl<E> From<rusqlite::Error> for Undone<E> {
    fn from(error: rusqlite::Error) -> Self {
        Undone::Fault(Fault::Sqlite(error))
    }
}

/// Why a write did not succeed, as its caller hears it.
pub(super) enum WriteFailed<E> {
    /// Refused on its merits; nothing happened.
    Refused(E),
    /// A failure; nothing happened.
    Undone(Box<dyn Error + Send + Sync>),
    /// A failure while committing; it may have happened.
    Unknown(Box<dyn Error + Send + Sync>),
    /// Stored data makes no sense; nothing happened.
    Corrupt(String),
}

impl<E> From<Fault> for WriteFailed<E> {
    fn from(fault: Fault) -> Self {
        match StoreFailed::from(fault) {
            StoreFailed::Unavailable(source) => WriteFailed::Undone(source),
            StoreFailed::Corrupt(what) => WriteFailed::Corrupt(what),
        }
    }
}

/// One failure told to everybody in the group.
#[derive(Debug, Clone)]
struct Shared(Arc<rusqlite::Error>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database transaction failed")
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// The writer thread has ended.
#[derive(Debug, thiserror::Error)]
#[error("the store's writer has stopped")]
struct WriterStopped;

/// What became of the group's transaction.
#[derive(Clone)]
enum Settled {
    Durable,
    RolledBack(Shared),
    Unknown(Shared),
}

/// An operation that has run: whether its savepoint is kept, and how to tell its caller.
struct Ran {
    keep: bool,
    answer: Box<dyn FnOnce(Settled) + Send>,
}

/// An operation. Without a connection, it fails with what stands in its place.
type Job = Box<dyn FnOnce(Result<&Connection, Shared>) -> Ran + Send>;

/// The way to the writer thread, which ends once this is dropped and its queue is empty.
pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(path: PathBuf, connection: Connection) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let checkpoints = WalCheckpoints::start(path.clone())?;
        std::thread::Builder::new()
            .name("chaperone-sqlite".to_owned())
            .spawn(move || run(&path, connection, &checkpoints, jobs))?;
        Ok(Self { queue })
    }

    /// Runs an operation and answers once it is durable. The operation runs to its end even when the
    /// caller stops waiting.
    pub(super) async fn run<T, E>(
        &self,
        operation: impl FnOnce(&Connection) -> Result<T, Undone<E>> + Send + 'static,
    ) -> Result<T, WriteFailed<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = match connection {
                Ok(connection) => operation(connection).map_err(|undone| match undone {
                    Undone::Refused(refused) => WriteFailed::Refused(refused),
                    Undone::Fault(fault) => fault.into(),
                }),
                Err(shared) => Err(WriteFailed::Undone(Box::new(shared))),
            };
            Ran {
                keep: result.is_ok(),
                answer: Box::new(move |settled| {
                    let answer = match (settled, result) {
                        (Settled::Durable, result) => result,
                        (Settled::Unknown(shared), Ok(_)) => {
                            Err(WriteFailed::Unknown(Box::new(shared)))
                        }
                        // A refusal may rest on a neighbour's write that is gone now, so it is not
                        // passed on: nothing happened, and the caller may ask again.
                        (Settled::RolledBack(shared) | Settled::Unknown(shared), _) => {
                            Err(WriteFailed::Undone(Box::new(shared)))
                        }
                    };
                    // The caller may have stopped waiting.
                    drop(tell.send(answer));
                }),
            }
        });
        if self.queue.send(job).await.is_err() {
            return Err(WriteFailed::Undone(Box::new(WriterStopped)));
        }
        match told.await {
            Ok(answer) => answer,
            Err(_) => Err(WriteFailed::Unknown(Box::new(WriterStopped))),
        }
    }
}

fn run(
    path: &std::path::Path,
    connection: Connection,
    checkpoints: &WalCheckpoints,
    mut jobs: mpsc::Receiver<Job>,
) {
    let mut connection = Some(connection);
    while let Some(first) = jobs.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX {
            match jobs.try_recv() {
                Ok(job) => group.push(job),
                Err(_) => break,
            }
        }
        let usable = match connection.take() {
            Some(usable) => Ok(usable),
            None => open::connect_to_write(path),
        };
        match usable {
            Ok(usable) => {
                if commit_group(&usable, group) {
                    checkpoints.after_commit(&usable);
                    connection = Some(usable);
                }
            }
            Err(error) => fail_group(group, &Shared(Arc::new(error))),
        }
    }
}

/// SQLite's extended result code; its words stay out of the log.
pub(super) fn code_of(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}

fn fail_group(group: Vec<Job>, shared: &Shared) {
    for job in group {
        let ran = job(Err(shared.clone()));
        (ran.answer)(Settled::RolledBack(shared.clone()));
    }
}

/// Runs a group. False when the connection must not be used again.
fn commit_group(connection: &Connection, group: Vec<Job>) -> bool {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        let shared = Shared(Arc::new(error));
        tracing::warn!(
            sqlite_code = code_of(&shared.0),
            "the store could not begin a transaction"
        );
        fail_group(group, &shared);
        return connection.is_autocommit();
    }
    let mut answers = Vec::with_capacity(group.len());
    let mut lost: Option<Shared> = None;
    for job in group {
        if let Some(shared) = &lost {
            answers.push(job(Err(shared.clone())).answer);
            continue;
        }
        match run_in_savepoint(connection, job) {
            (answer, Ok(())) => answers.push(answer),
            (answer, Err(error)) => {
                answers.push(answer);
                lost = Some(Shared(Arc::new(error)));
            }
        }
    }
    let settled = match lost {
        Some(shared) => Settled::RolledBack(shared),
        None => match connection.execute_batch("COMMIT") {
            Ok(()) => Settled::Durable,
            Err(error) => commit_failed(error),
        },
    };
    let usable = match &settled {
        Settled::Durable => true,
        Settled::RolledBack(shared) | Settled::Unknown(shared) => {
            tracing::error!(
                sqlite_code = code_of(&shared.0),
                "the store's transaction failed"
            );
            let _already_closed = connection.execute_batch("ROLLBACK");
            connection.is_autocommit() && matches!(settled, Settled::RolledBack(_))
        }
    };
    for answer in answers {
        answer(settled.clone());
    }
    usable
}

type Answer = Box<dyn FnOnce(Settled) + Send>;

/// Runs one operation so that it leaves nothing when it is refused. An error means that the whole
/// transaction is lost.
fn run_in_savepoint(connection: &Connection, job: Job) -> (Answer, Result<(), rusqlite::Error>) {
    if let Err(error) = cached(connection, "SAVEPOINT one") {
        let shared = Shared(Arc::new(error));
        let ran = job(Err(shared));
        return (ran.answer, Err(transaction_gone()));
    }
    let ran = job(Ok(connection));
    // SQLite ends the whole transaction by itself after some failures, such as a full disk.
    let left = if connection.is_autocommit() {
        Err(transaction_gone())
    } else if ran.keep {
        cached(connection, "RELEASE one")
    } else {
        cached(connection, "ROLLBACK TO one").and_then(|()| cached(connection, "RELEASE one"))
    };
    (ran.answer, left)
}

fn cached(connection: &Connection, sql: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

fn transaction_gone() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT),
        Some("the database ended the shared transaction".to_owned()),
    )
}

/// What a failed COMMIT means. While the database is busy, nothing has been written. After a failure of
/// the disk, the log may hold the transaction and a restart might find it there; the next transaction
/// that succeeds overwrites it, so a caller who reads and then repeats is safe either way.
fn commit_failed(error: rusqlite::Error) -> Settled {
    let nothing_written = matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::ConstraintViolation
                | ErrorCode::ReadOnly
        )
    );
    let shared = Shared(Arc::new(error));
    if nothing_written {
        Settled::RolledBack(shared)
    } else {
        Settled::Unknown(shared)
    }
}
