//! Reads on PostgreSQL: each one statement in a read-only transaction of its tenant.

use std::collections::HashMap;

use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Recorded, StreamId};
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{
    CheckpointRow, Listing, Record, RecordKey, SealedPayload, StoreFailed,
};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use super::session::{Scope, Sessions};
use crate::listing::{self, Table, Value};
use crate::rows::{self, RecordColumns};
use crate::{LEAVES_MAX, STREAM_EVENTS_MAX};

/// A column of a row; a type that does not fit means that somebody else made the table.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, StoreFailed> {
    row.try_get(column)
        .map_err(|_| rows::corrupt("a column is not of the expected type"))
}

pub(super) async fn stream(
    sessions: &Sessions,
    tenant: &TenantId,
    stream: &StreamId,
    after: u64,
) -> Result<Vec<Recorded>, StoreFailed> {
    let found = sessions
        .read(
            Scope::Tenant(tenant),
            "SELECT leaf FROM event WHERE tenant = $1 AND stream = $2 AND version > $3 ORDER BY version LIMIT $4",
            &[
                &tenant.as_str(),
                &stream.to_string(),
                &rows::position(after),
                &i64::from(STREAM_EVENTS_MAX),
            ],
        )
        .await?;
    found
        .iter()
        .map(|row| rows::recorded(tenant, get(row, 0)?))
        .collect()
}

pub(super) async fn leaves(
    sessions: &Sessions,
    tenant: &TenantId,
    from: u64,
    limit: u32,
) -> Result<Vec<Vec<u8>>, StoreFailed> {
    let found = sessions
        .read(
            Scope::Tenant(tenant),
            "SELECT seq, leaf FROM event WHERE tenant = $1 AND seq >= $2 ORDER BY seq LIMIT $3",
            &[
                &tenant.as_str(),
                &rows::position(from),
                &i64::from(limit.min(LEAVES_MAX)),
            ],
        )
        .await?;
    let found = found
        .iter()
        .map(|row| Ok((get(row, 0)?, get(row, 1)?)))
        .collect::<Result<_, StoreFailed>>()?;
    rows::contiguous(from, found)
}

pub(super) async fn size(sessions: &Sessions, tenant: &TenantId) -> Result<u64, StoreFailed> {
    let found = sessions
        .read(
            Scope::Tenant(tenant),
            "SELECT next_seq FROM head WHERE tenant = $1",
            &[&tenant.as_str()],
        )
        .await?;
    match found.first() {
        Some(row) => rows::counter(get(row, 0)?),
        None => Ok(0),
    }
}

fn record(row: &Row) -> Result<Record, StoreFailed> {
    Record::try_from(RecordColumns {
        collection: get(row, 0)?,
        key: get(row, 1)?,
        idx: get(row, 2)?,
        sort: get(row, 3)?,
        value: get(row, 4)?,
        expires: get(row, 5)?,
        revision: get(row, 6)?,
    })
}

pub(super) async fn row(
    sessions: &Sessions,
    table: Table,
    tenant: &TenantId,
    key: &RecordKey,
) -> Result<Option<Record>, StoreFailed> {
    let mut sql = format!(
        "{} WHERE tenant = $1 AND collection = $2 AND key = $3",
        listing::columns(table)
    );
    let tenant_text = tenant.as_str();
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&tenant_text, &key.collection, &key.key];
    let now = match table {
        Table::Record(now) => Some(rows::micros(now)),
        Table::Projection => None,
    };
    if let Some(now) = &now {
        sql += " AND (expires IS NULL OR expires > $4)";
        parameters.push(now);
    }
    let found = sessions
        .read(Scope::Tenant(tenant), &sql, &parameters)
        .await?;
    found.first().map(record).transpose()
}

pub(super) async fn rows(
    sessions: &Sessions,
    table: Table,
    tenant: &TenantId,
    collection: &str,
    listing: Listing,
) -> Result<Vec<Record>, StoreFailed> {
    let query = listing::query(table, '$', tenant.as_str(), collection, listing);
    let parameters: Vec<&(dyn ToSql + Sync)> = query
        .values
        .iter()
        .map(|value| match value {
            Value::Text(text) => text as &(dyn ToSql + Sync),
            Value::Int(int) => int as &(dyn ToSql + Sync),
        })
        .collect();
    let found = sessions
        .read(Scope::Tenant(tenant), &query.sql, &parameters)
        .await?;
    found.iter().map(record).collect()
}

pub(super) async fn projections_count(
    sessions: &Sessions,
    tenant: &TenantId,
    collection: &str,
    index: Option<&str>,
) -> Result<u64, StoreFailed> {
    let scope = Scope::Tenant(tenant);
    let found = match index {
        None => {
            sessions
                .read(
                    scope,
                    "SELECT count(*) FROM projection WHERE tenant = $1 AND collection = $2",
                    &[&tenant.as_str(), &collection],
                )
                .await?
        }
        Some(index) => {
            sessions
                .read(
                    scope,
                    "SELECT count(*) FROM projection WHERE tenant = $1 AND collection = $2 AND idx = $3",
                    &[&tenant.as_str(), &collection, &index],
                )
                .await?
        }
    };
    match found.first() {
        Some(row) => rows::counter(get(row, 0)?),
        None => Ok(0),
    }
}

pub(super) async fn payload(
    sessions: &Sessions,
    tenant: &TenantId,
    address: PayloadAddress,
) -> Result<Option<SealedPayload>, StoreFailed> {
    let found = sessions
        .read(
            Scope::Tenant(tenant),
            "SELECT class, key, sealed FROM payload WHERE tenant = $1 AND address = $2",
            &[&tenant.as_str(), &address.digest().as_bytes().as_slice()],
        )
        .await?;
    found
        .first()
        .map(|row| rows::payload(address, get(row, 0)?, get(row, 1)?, get(row, 2)?))
        .transpose()
}

pub(super) async fn tree_hashes(
    sessions: &Sessions,
    tenant: &TenantId,
    indexes: &[u64],
) -> Result<Vec<Digest>, StoreFailed> {
    let asked: Vec<i64> = indexes.iter().map(|index| rows::position(*index)).collect();
    let found = sessions
        .read(
            Scope::Tenant(tenant),
            "SELECT idx, hash FROM tree_hash WHERE tenant = $1 AND idx = ANY ($2)",
            &[&tenant.as_str(), &asked],
        )
        .await?;
    let mut hashes: HashMap<i64, Digest> = HashMap::with_capacity(found.len());
    for row in &found {
        hashes.insert(get(row, 0)?, rows::digest(get(row, 1)?)?);
    }
    asked
        .iter()
        .map(|index| {
            let hash = hashes.get(index).copied();
            hash.ok_or_else(|| rows::corrupt("a tree hash is missing"))
        })
        .collect()
}

/// The newest checkpoint, also used under the lock of `work`.
pub(super) const NEWEST_CHECKPOINT: &str =
    "SELECT size, root, note, at FROM checkpoint WHERE tenant = $1 ORDER BY size DESC LIMIT 1";

pub(super) async fn checkpoint(
    sessions: &Sessions,
    tenant: &TenantId,
) -> Result<Option<CheckpointRow>, StoreFailed> {
    let found = sessions
        .read(
            Scope::Tenant(tenant),
            NEWEST_CHECKPOINT,
            &[&tenant.as_str()],
        )
        .await?;
    found
        .first()
        .map(|row| rows::checkpoint(get(row, 0)?, get(row, 1)?, get(row, 2)?, get(row, 3)?))
        .transpose()
}

pub(super) async fn tenants(sessions: &Sessions) -> Result<Vec<TenantId>, StoreFailed> {
    let found = sessions
        .read(
            Scope::Worker,
            "SELECT tenant FROM head WHERE next_seq > 0 ORDER BY tenant",
            &[],
        )
        .await?;
    found.iter().map(|row| rows::tenant(get(row, 0)?)).collect()
}
