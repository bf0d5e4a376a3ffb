//! Claims, leases and checkpoints on SQLite. The writer runs these one after another, so what they
//! read is still so when they write.

use chaperone_core::digest::Digest;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{
    CheckpointRow, Claim, ClaimedWork, Lease, LeaseRefused, WorkItem, WorkRow,
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

use super::write::Undone;
use super::{Fault, read};
use crate::LISTED_MAX;
use crate::plan::Stage;
use crate::rows::{self, WorkColumns};
use crate::succession::{self, LeaseAsked};

fn work_columns(row: &Row<'_>) -> Result<WorkColumns, rusqlite::Error> {
    Ok(WorkColumns {
        id: row.get("id")?,
        kind: row.get("kind")?,
        subject: row.get("subject")?,
        order_key: row.get("order_key")?,
        due: row.get("due")?,
    })
}

pub(super) fn claim_due(connection: &Connection, claim: &Claim) -> Result<Vec<ClaimedWork>, Fault> {
    let now = rows::micros(claim.now);
    let mut select = connection.prepare_cached(
        "SELECT w.position, w.id, w.kind, w.subject, w.order_key, w.due, w.claim
         FROM work w
         WHERE w.tenant = ?3 AND w.state <> 'done' AND w.due <= ?1
           AND (?4 IS NULL OR (w.order_key IS NULL) = ?4)
           AND (w.state = 'waiting' OR (w.state = 'claimed' AND w.claimed_until <= ?1))
           AND (w.order_key IS NULL OR NOT EXISTS (
               SELECT 1 FROM work o
               WHERE o.tenant = w.tenant AND o.order_key = w.order_key
                 AND o.state <> 'done' AND o.position < w.position))
         ORDER BY w.due, w.position
         LIMIT ?2",
    )?;
    let found = select
        .query_map(
            params![
                now,
                claim.limit.min(LISTED_MAX),
                claim.tenant.as_str(),
                rows::is_free(claim.lane)
            ],
            |row| Ok((row.get("position")?, row.get("claim")?, work_columns(row)?)),
        )?
        .collect::<Result<Vec<(i64, i64, WorkColumns)>, _>>()?;
    let mut update = connection.prepare_cached(
        "UPDATE work SET state = 'claimed', claim = claim + 1, claimed_until = ?2, worker = ?3
         WHERE position = ?1",
    )?;
    let until = rows::micros_after(claim.now, claim.lease_ms);
    let mut claimed = Vec::with_capacity(found.len());
    for (position, number, columns) in found {
        update.execute(params![position, until, claim.worker])?;
        claimed.push(ClaimedWork {
            tenant: claim.tenant.clone(),
            item: WorkItem::try_from(columns)?,
            claim: rows::counter(number)? + 1,
        });
    }
    Ok(claimed)
}

pub(super) fn open_items(
    connection: &Connection,
    tenant: &TenantId,
    limit: u32,
) -> Result<Vec<WorkRow>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id, kind, subject, order_key, due, state FROM work
         WHERE tenant = ?1 AND state <> 'done' ORDER BY position LIMIT ?2",
    )?;
    let found = statement
        .query_map(params![tenant.as_str(), limit.min(LISTED_MAX)], |row| {
            Ok((work_columns(row)?, row.get("state")?))
        })?
        .collect::<Result<Vec<(WorkColumns, String)>, _>>()?;
    let mut items = Vec::with_capacity(found.len());
    for (columns, state) in found {
        if let Stage::Open(state) = rows::stage(&state)? {
            items.push(WorkRow {
                item: WorkItem::try_from(columns)?,
                state,
            });
        }
    }
    Ok(items)
}

pub(super) fn lease(
    connection: &Connection,
    tenant: &TenantId,
    asked: &LeaseAsked,
) -> Result<Lease, Undone<LeaseRefused>> {
    let standing: Option<(String, i64, i64)> = connection
        .prepare_cached("SELECT holder, epoch, until FROM lease WHERE tenant = ?1 AND name = ?2")?
        .query_row(params![tenant.as_str(), asked.name], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let standing = match &standing {
        None => None,
        Some((holder, epoch, until)) => {
            let at = rows::lease_at(*epoch, *until).map_err(Fault::from)?;
            Some((holder.as_str(), at))
        }
    };
    let lease = succession::lease_next(standing, asked).map_err(Undone::Refused)?;
    connection
        .prepare_cached(
            "INSERT INTO lease (tenant, name, holder, epoch, until) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (tenant, name) DO UPDATE SET
                 holder = excluded.holder, epoch = excluded.epoch, until = excluded.until",
        )?
        .execute(params![
            tenant.as_str(),
            asked.name,
            asked.holder,
            rows::position(lease.epoch),
            rows::micros(lease.until)
        ])?;
    Ok(lease)
}

pub(super) fn checkpoint_put(
    connection: &Connection,
    tenant: &TenantId,
    size_before: u64,
    hashes: &[(u64, Digest)],
    checkpoint: &CheckpointRow,
) -> Result<bool, Fault> {
    let newest = read::checkpoint(connection, tenant)?.map(|newest| newest.size);
    if !succession::checkpoint_follows(newest, size_before, checkpoint.size)? {
        return Ok(false);
    }
    let mut insert = connection
        .prepare_cached("INSERT INTO tree_hash (tenant, idx, hash) VALUES (?1, ?2, ?3)")?;
    for (index, hash) in hashes {
        insert
            .execute(params![
                tenant.as_str(),
                rows::position(*index),
                hash.as_bytes()
            ])
            .map_err(|error| match error.sqlite_error_code() {
                Some(ErrorCode::ConstraintViolation) => {
                    Fault::Store(rows::corrupt("a tree hash would be replaced"))
                }
                _ => Fault::Sqlite(error),
            })?;
    }
    connection
        .prepare_cached(
            "INSERT INTO checkpoint (tenant, size, root, note, at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (tenant, size) DO UPDATE SET
                 root = excluded.root, note = excluded.note, at = excluded.at",
        )?
        .execute(params![
            tenant.as_str(),
            rows::position(checkpoint.size),
            checkpoint.root.as_bytes(),
            checkpoint.note,
            rows::micros(checkpoint.at)
        ])?;
    Ok(true)
}
