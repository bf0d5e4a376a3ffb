//! Opening the file: connections with their settings, and the schema. `examine` looks without changing
//! anything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::wal;
use crate::diagnose::{Aspect, Finding};
use crate::migrations;
use crate::open::OpenFailed;

/// How long to wait for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Marks the file as Chaperone's: "CHAP".
const APPLICATION_ID: i64 = 0x4348_4150;

/// Prepared statements kept per connection; there are fewer than this.
const STATEMENTS_MAX: usize = 128;

/// The file's path, if its folder exists.
pub(super) fn checked_path(path: &str) -> Result<PathBuf, OpenFailed> {
    let invalid = |what: &str| OpenFailed::UrlInvalid(what.to_owned());
    if path.is_empty() || path.contains(":memory:") {
        return Err(invalid("`sqlite:` needs the path of a file"));
    }
    let path = PathBuf::from(path);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    if folder.is_dir() {
        Ok(path)
    } else {
        Err(invalid(
            "the folder of the SQLite file does not exist; create it first",
        ))
    }
}

/// Opens the write connection, creating the file for its owner alone.
///
/// What a savepoint needs to undo itself stays in memory (`temp_store`): it is of use only while the
/// transaction lives, and would be written to a file again and again while a large group runs.
pub(super) fn connect_to_write(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    prepare_once(&connection)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA fullfsync = ON;
         PRAGMA checkpoint_fullfsync = ON;
         PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;",
    )?;
    wal::watch(&connection);
    Ok(connection)
}

/// Opens a connection that cannot write.
pub(super) fn connect_to_read(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    prepare_once(&connection)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;")?;
    Ok(connection)
}

/// Prepared statements are kept, and planned without looking at the values bound to them: otherwise
/// SQLite plans a statement anew each time a value changes that a partial index might depend on.
fn prepare_once(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Opens the file and brings its schema up to date.
pub(super) fn open_and_migrate(path: &Path) -> Result<Connection, OpenFailed> {
    create_private(path).map_err(OpenFailed::unreachable)?;
    let mut connection = connect_to_write(path).map_err(OpenFailed::unreachable)?;
    let mode: String = pragma(&connection, "journal_mode")?;
    if mode != "wal" {
        return Err(OpenFailed::UrlInvalid(
            "the file system of the SQLite file has no write-ahead log (a network drive?)"
                .to_owned(),
        ));
    }
    migrate(&mut connection)?;
    Ok(connection)
}

/// Sealed payloads are ciphertext, but identifiers and times are not for everybody on this machine.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn pragma<T: rusqlite::types::FromSql>(
    connection: &Connection,
    name: &str,
) -> Result<T, OpenFailed> {
    connection
        .pragma_query_value(None, name, |row| row.get(0))
        .map_err(OpenFailed::unreachable)
}

fn migrate(connection: &mut Connection) -> Result<(), OpenFailed> {
    let known = migrations::newest();
    // Under the write lock, so that two processes starting together do not both migrate.
    let tx = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(OpenFailed::unreachable)?;
    let found: i64 = pragma(&tx, "user_version")?;
    let application: i64 = pragma(&tx, "application_id")?;
    let tables: i64 = tx
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(OpenFailed::unreachable)?;
    if application != APPLICATION_ID && (found != 0 || tables != 0) {
        return Err(OpenFailed::NotOurs);
    }
    if found > known {
        return Err(OpenFailed::Newer { found, known });
    }
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    for migration in migrations::SQLITE.iter().skip(done) {
        tx.execute_batch(migration.sql)
            .map_err(|source| OpenFailed::Migration {
                name: migration.name,
                source: Box::new(source),
            })?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)
        .and_then(|()| tx.pragma_update(None, "user_version", known))
        .and_then(|()| tx.commit())
        .map_err(OpenFailed::unreachable)
}

/// Looks at the file for `doctor`.
pub(crate) fn examine(path: &str) -> Vec<Finding> {
    let path = match checked_path(path) {
        Ok(path) => path,
        Err(failed) => return vec![Finding::bad(Aspect::Reachable, failed.to_string())],
    };
    if !path.exists() {
        return vec![Finding::warning(
            Aspect::Reachable,
            "the file does not exist yet; it is created at the first start",
        )];
    }
    let mut findings = Vec::new();
    let version = connect_to_read(&path).and_then(|connection| {
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let id: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        Ok((version, id == APPLICATION_ID))
    });
    match version {
        Err(error) => {
            findings.push(Finding::bad(
                Aspect::Reachable,
                format!("the file cannot be read: {error}"),
            ));
            return findings;
        }
        Ok((version, ours)) => {
            findings.push(Finding::good(
                Aspect::Reachable,
                format!("the file opens (SQLite {})", rusqlite::version()),
            ));
            findings.push(if ours || version == 0 {
                Finding::schema(version)
            } else {
                Finding::bad(Aspect::Schema, OpenFailed::NotOurs.to_string())
            });
        }
    }
    findings.push(match writable(&path) {
        Ok(()) => Finding::good(Aspect::Writable, "the file can be written"),
        Err(error) => Finding::bad(
            Aspect::Writable,
            format!("the file cannot be written: {error}"),
        ),
    });
    findings.push(Finding::good(
        Aspect::Durable,
        "commits wait for the disk (write-ahead log, synchronous=FULL)",
    ));
    findings
}

/// Takes the write lock and gives it back.
fn writable(path: &Path) -> Result<(), rusqlite::Error> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK;")
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;
    use rusqlite::params;

    use super::*;

    #[test]
    fn a_statement_is_planned_once_whatever_is_bound_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("planned.db");
        let connection = open_and_migrate(&path).unwrap();
        for sql in [
            "DELETE FROM record WHERE rowid IN (
                SELECT rowid FROM record WHERE tenant = ?1 AND expires <= ?2 ORDER BY expires LIMIT ?3)",
            "UPDATE record SET sort = sort WHERE tenant = ?1 AND idx = ?2 AND revision < ?3",
        ] {
            let mut statement = connection.prepare(sql).unwrap();
            for value in 0..10 {
                statement.execute(params!["t", value, value]).unwrap();
            }
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{sql}");
        }
    }
}
