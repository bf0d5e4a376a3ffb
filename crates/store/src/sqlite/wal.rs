//! WalCheckpoints: pages of the write-ahead log go into the database file beside the writer, instead of in
//! the way of everybody who waits for it.
//!
//! ```text
//! writer:  … commit ─ log is long: ask ─ commit ─ commit ─ commit ─ the few pages since, then begin the log anew ─ …
//! beside:                 └▶ copy the pages of the log, reach the disk ──┘ done
//! ```
//! Both halves are needed. The thread beside never reaches the end of a log that grows as it copies, and only a log
//! that was copied to its end can be begun anew; what is left for the writer is what was committed meanwhile.
//! Nothing of this decides what is durable: a commit is in the log before it is answered.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rusqlite::Connection;

use super::open;
use super::write::code_of;

/// Lengths of the log, in pages of 4 KiB.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// At which a checkpoint is due.
    due: usize,
    /// At which the writer no longer waits for the thread beside it.
    overdue: usize,
}

/// 64 MiB, so that the flush of the database file that ends each checkpoint is rare, and 256 MiB.
const BOUNDS: Bounds = Bounds {
    due: 16_000,
    overdue: 64_000,
};

thread_local! {
    /// Length of the log after the last commit of this thread, in pages.
    static LOG_PAGES: Cell<usize> = const { Cell::new(0) };
}

/// Has a write connection say how long the log is after each commit, instead of checkpointing by itself.
pub(super) fn watch(connection: &Connection) {
    connection.wal_hook(Some(|_, pages| {
        LOG_PAGES.set(usize::try_from(pages).unwrap_or(0));
        Ok(())
    }));
}

/// Nobody copies, and nobody was asked to.
const IDLE: u8 = 0;
/// The thread beside was asked to copy and has not said that it has.
const COPYING: u8 = 1;
/// The thread beside has copied; what was committed since is left.
const COPIED: u8 = 2;

/// The writer's side.
pub(super) struct WalCheckpoints {
    bounds: Bounds,
    ask: SyncSender<()>,
    stage: Arc<AtomicU8>,
}

impl WalCheckpoints {
    /// Starts the thread beside the writer. It ends when this is dropped.
    pub(super) fn start(path: PathBuf) -> std::io::Result<Self> {
        Self::within(BOUNDS, path)
    }

    fn within(bounds: Bounds, path: PathBuf) -> std::io::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let stage = Arc::new(AtomicU8::new(IDLE));
        let shared = Arc::clone(&stage);
        std::thread::Builder::new()
            .name("chaperone-sqlite-checkpoint".to_owned())
            .spawn(move || copy_when_asked(&path, &asked, &shared))?;
        Ok(Self { bounds, ask, stage })
    }

    /// Sees to the log after a commit, on the writer's thread and with its connection.
    pub(super) fn after_commit(&self, connection: &Connection) {
        let pages = LOG_PAGES.get();
        if pages < self.bounds.due {
            return;
        }
        match self.stage.load(Ordering::Acquire) {
            IDLE => {
                self.stage.store(COPYING, Ordering::Release);
                if self.ask.try_send(()).is_err() {
                    self.stage.store(COPIED, Ordering::Release);
                }
            }
            COPYING if pages < self.bounds.overdue => {}
            // Either it is done, or it takes too long.
            stage => {
                copy(connection);
                if stage == COPIED {
                    self.stage.store(IDLE, Ordering::Release);
                }
            }
        }
    }
}

fn copy_when_asked(path: &Path, asked: &Receiver<()>, stage: &AtomicU8) {
    let mut connection = None;
    while asked.recv().is_ok() {
        match connection
            .take()
            .map_or_else(|| open::connect_to_write(path), Ok)
        {
            Ok(usable) => {
                if copy(&usable) {
                    connection = Some(usable);
                }
            }
            Err(error) => say(&error),
        }
        // Also when it failed: then all of it is left to the writer.
        stage.store(COPIED, Ordering::Release);
    }
}

/// Copies what no reader still needs where it is, without waiting for anybody. False when it failed; what was not
/// copied stays in the log and is read from there.
fn copy(connection: &Connection) -> bool {
    let copied = connection
        .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")
        .and_then(|mut statement| statement.query_row([], |_| Ok(())));
    copied.map_err(|error| say(&error)).is_ok()
}

fn say(error: &rusqlite::Error) {
    tracing::warn!(
        sqlite_code = code_of(error),
        "the store could not copy its log into the database file; it stays in the log"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Bounds = Bounds {
        due: 20,
        overdue: 60,
    };
    /// Pages that one commit of these tests adds to the log at most.
    const COMMIT_PAGES: usize = 8;

    struct Busy {
        _folder: tempfile::TempDir,
        path: PathBuf,
        writer: Connection,
        checkpoints: WalCheckpoints,
    }

    impl Busy {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("store.db");
            let writer = open::connect_to_write(&path).unwrap();
            writer
                .execute_batch("CREATE TABLE kept (body BLOB NOT NULL)")
                .unwrap();
            Self {
                checkpoints: WalCheckpoints::within(SMALL, path.clone()).unwrap(),
                _folder: folder,
                path,
                writer,
            }
        }

        /// Commits so many times, each when nobody copies, and says how long the log was after each.
        fn commit(&self, times: usize) -> Vec<usize> {
            (0..times)
                .map(|_| {
                    self.writer
                        .execute("INSERT INTO kept VALUES (randomblob(9000))", [])
                        .unwrap();
                    let pages = LOG_PAGES.get();
                    self.checkpoints.after_commit(&self.writer);
                    while self.checkpoints.stage.load(Ordering::Acquire) == COPYING {
                        std::thread::yield_now();
                    }
                    pages
                })
                .collect()
        }

        fn count(&self) -> i64 {
            open::connect_to_read(&self.path)
                .unwrap()
                .query_row("SELECT count(*) FROM kept", [], |row| row.get(0))
                .unwrap()
        }
    }

    #[test]
    fn the_log_of_a_busy_store_is_begun_anew_before_it_is_long() {
        let busy = Busy::new();
        let lengths = busy.commit(500);
        let longest = lengths.iter().max().unwrap();
        assert!(*longest < SMALL.due + 3 * COMMIT_PAGES, "{longest} pages");
        let begun_anew = lengths.windows(2).filter(|two| two[1] < two[0]).count();
        assert!(begun_anew > 5, "begun anew {begun_anew} times");
        assert_eq!(busy.count(), 500);
    }

    #[test]
    fn a_reader_that_stays_keeps_the_log_and_loses_nothing() {
        let busy = Busy::new();
        busy.commit(5);
        let reader = open::connect_to_read(&busy.path).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        let seen = |reader: &Connection| -> i64 {
            reader
                .query_row("SELECT count(*) FROM kept", [], |row| row.get(0))
                .unwrap()
        };
        assert_eq!(seen(&reader), 5);
        let with_reader = busy.commit(100);
        assert!(*with_reader.last().unwrap() > SMALL.overdue);
        assert_eq!(seen(&reader), 5);
        reader.execute_batch("COMMIT").unwrap();
        let without = busy.commit(100);
        assert!(*without.last().unwrap() < SMALL.due + 3 * COMMIT_PAGES);
        assert_eq!(seen(&reader), 205);
        assert_eq!(busy.count(), 205);
    }

    #[test]
    fn without_the_thread_beside_it_the_writer_copies() {
        let mut busy = Busy::new();
        let (nobody, _) = sync_channel(1);
        busy.checkpoints.ask = nobody;
        let longest = busy.commit(200).into_iter().max().unwrap();
        assert!(longest < SMALL.due + 3 * COMMIT_PAGES, "{longest} pages");
        assert_eq!(busy.count(), 200);
    }
}
