//! Reads on SQLite: a few read-only connections, each used by one read at a time on a blocking thread.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::Recorded;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{CheckpointRow, Record, RecordKey, SealedPayload, StoreFailed};
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::Semaphore;

use super::{Fault, open};
use crate::listing::{self, Query, Table, Value};
use crate::rows::{self, RecordColumns};
use crate::{LEAVES_MAX, STREAM_EVENTS_MAX};

/// The read-only connections; opened when first needed.
pub(super) struct Readers {
    path: PathBuf,
    free: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, connections_max: usize) -> Self {
        Self {
            path,
            free: Mutex::new(Vec::new()),
            permits: Arc::new(Semaphore::new(connections_max.clamp(1, 64))),
        }
    }

    /// Runs a read.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreFailed> {
        let unavailable = |source| StoreFailed::Unavailable(source);
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|closed| unavailable(Box::new(closed)))?;
        let readers = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            readers.run_here(read)
        });
        match done.await {
            Ok(result) => result.map_err(StoreFailed::from),
            Err(join) => Err(unavailable(Box::new(join))),
        }
    }

    fn run_here<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let free = self.lock().pop();
        let connection = match free {
            Some(connection) => connection,
            None => open::connect_to_read(&self.path)?,
        };
        let result = read(&connection);
        // After a failure of the database, the next read starts with a fresh connection.
        if !matches!(result, Err(Fault::Sqlite(_))) {
            self.lock().push(connection);
        }
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn stream(
    connection: &Connection,
    tenant: &TenantId,
    stream: &str,
    after: u64,
) -> Result<Vec<Recorded>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT leaf FROM event WHERE tenant = ?1 AND stream = ?2 AND version > ?3 ORDER BY version LIMIT ?4",
    )?;
    let mut found = statement.query(params![
        tenant.as_str(),
        stream,
        rows::position(after),
        STREAM_EVENTS_MAX
    ])?;
    let mut events = Vec::new();
    while let Some(row) = found.next()? {
        let leaf = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        events.push(rows::recorded(tenant, leaf)?);
    }
    Ok(events)
}

pub(super) fn leaves(
    connection: &Connection,
    tenant: &TenantId,
    from: u64,
    limit: u32,
) -> Result<Vec<Vec<u8>>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, leaf FROM event WHERE tenant = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3",
    )?;
    let found = statement
        .query_map(
            params![tenant.as_str(), rows::position(from), limit.min(LEAVES_MAX)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .collect::<Result<Vec<(i64, Vec<u8>)>, _>>()?;
    Ok(rows::contiguous(from, found)?)
}

fn record_columns(row: &Row<'_>) -> Result<RecordColumns, rusqlite::Error> {
    Ok(RecordColumns {
        collection: row.get(0)?,
        key: row.get(1)?,
        idx: row.get(2)?,
        sort: row.get(3)?,
        value: row.get(4)?,
        expires: row.get(5)?,
        revision: row.get(6)?,
    })
}

pub(super) fn row(
    connection: &Connection,
    table: Table,
    tenant: &TenantId,
    key: &RecordKey,
) -> Result<Option<Record>, Fault> {
    let mut sql = format!(
        "{} WHERE tenant = ?1 AND collection = ?2 AND key = ?3",
        listing::columns(table)
    );
    let mut now = 0;
    if let Table::Record(at) = table {
        now = rows::micros(at);
        sql += " AND (expires IS NULL OR expires > ?4)";
    }
    let mut values: Vec<&dyn ToSql> = vec![];
    let tenant = tenant.as_str();
    values.extend([
        &tenant as &dyn ToSql,
        &key.collection as &dyn ToSql,
        &key.key as &dyn ToSql,
    ]);
    if matches!(table, Table::Record(_)) {
        values.push(&now);
    }
    let found = connection
        .prepare_cached(&sql)?
        .query_row(values.as_slice(), record_columns)
        .optional()?;
    Ok(found.map(Record::try_from).transpose()?)
}

pub(super) fn listing(connection: &Connection, query: &Query) -> Result<Vec<Record>, Fault> {
    let values: Vec<&dyn ToSql> = query
        .values
        .iter()
        .map(|value| match value {
            Value::Text(text) => text as &dyn ToSql,
            Value::Int(int) => int as &dyn ToSql,
        })
        .collect();
    let mut statement = connection.prepare_cached(&query.sql)?;
    let found = statement
        .query_map(values.as_slice(), record_columns)?
        .collect::<Result<Vec<RecordColumns>, _>>()?;
    Ok(found
        .into_iter()
        .map(Record::try_from)
        .collect::<Result<_, _>>()?)
}

pub(super) fn projections_count(
    connection: &Connection,
    tenant: &TenantId,
    collection: &str,
    index: Option<&str>,
) -> Result<u64, Fault> {
    let tenant = tenant.as_str();
    let count: i64 = match index {
        None => connection
            .prepare_cached("SELECT count(*) FROM projection WHERE tenant = ?1 AND collection = ?2")?
            .query_row(params![tenant, collection], |row| row.get(0))?,
        Some(index) => connection
            .prepare_cached(
                "SELECT count(*) FROM projection WHERE tenant = ?1 AND collection = ?2 AND idx = ?3",
            )?
            .query_row(params![tenant, collection, index], |row| row.get(0))?,
    };
    Ok(rows::counter(count)?)
}

pub(super) fn payload(
    connection: &Connection,
    tenant: &TenantId,
    address: PayloadAddress,
) -> Result<Option<SealedPayload>, Fault> {
    let found: Option<(String, String, Vec<u8>)> = connection
        .prepare_cached(
            "SELECT class, key, sealed FROM payload WHERE tenant = ?1 AND address = ?2",
        )?
        .query_row(
            params![tenant.as_str(), address.digest().as_bytes()],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    Ok(found
        .map(|(class, key, sealed)| rows::payload(address, &class, key, sealed))
        .transpose()?)
}

pub(super) fn tree_hashes(
    connection: &Connection,
    tenant: &TenantId,
    indexes: &[u64],
) -> Result<Vec<Digest>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT hash FROM tree_hash WHERE tenant = ?1 AND idx = ?2")?;
    let mut hashes = Vec::with_capacity(indexes.len());
    for index in indexes {
        let found: Option<Vec<u8>> = statement
            .query_row(params![tenant.as_str(), rows::position(*index)], |row| {
                row.get(0)
            })
            .optional()?;
        let bytes = found.ok_or_else(|| rows::corrupt("a tree hash is missing"))?;
        hashes.push(rows::digest(&bytes)?);
    }
    Ok(hashes)
}

pub(super) fn checkpoint(
    connection: &Connection,
    tenant: &TenantId,
) -> Result<Option<CheckpointRow>, Fault> {
    let found: Option<(i64, Vec<u8>, String, i64)> = connection
        .prepare_cached(
            "SELECT size, root, note, at FROM checkpoint WHERE tenant = ?1 ORDER BY size DESC LIMIT 1",
        )?
        .query_row([tenant.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    Ok(found
        .map(|(size, root, note, at)| rows::checkpoint(size, &root, note, at))
        .transpose()?)
}

pub(super) fn tenants(connection: &Connection) -> Result<Vec<TenantId>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT tenant FROM head WHERE next_seq > 0 ORDER BY tenant")?;
    let found = statement
        .query_map([], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    Ok(found
        .iter()
        .map(|text| rows::tenant(text))
        .collect::<Result<_, _>>()?)
}
