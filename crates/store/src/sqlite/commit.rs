//! A commit on SQLite: load what it touches, let `plan` decide, write. Runs inside the writer's
//! savepoint, so what is loaded is what the write lock protects.

use chaperone_core::ports::{Commit, CommitFailed, Committed};
use rusqlite::{Connection, OptionalExtension, params};

use super::Fault;
use super::write::Undone;
use crate::plan::{self, Known, Needs, Plan, RecordWrite};
use crate::{rows, sweep};

/// Applies one commit, or leaves the savepoint to be rolled back.
pub(super) fn apply(
    connection: &Connection,
    tenant: &str,
    commit: &Commit,
) -> Result<Committed, Undone<CommitFailed>> {
    let mut needs = Needs::default();
    needs.add(commit);
    let mut known = load(connection, tenant, &needs)?;
    let plan = plan::decide(&mut known, commit).map_err(Undone::Refused)?;
    if let Some(sweep) = sweep::sweep(std::slice::from_ref(&plan)) {
        connection
            .prepare_cached(
                "DELETE FROM record WHERE rowid IN (
                     SELECT rowid FROM record WHERE tenant = ?1 AND expires <= ?2 ORDER BY expires LIMIT ?3)",
            )?
            .execute(params![tenant, sweep.expired, sweep.limit])?;
    }
    write(connection, tenant, &plan, known.next_seq)?;
    Ok(Committed { seqs: plan.seqs() })
}

/// The next sequence number, which is also the number of events.
pub(super) fn next_seq(connection: &Connection, tenant: &str) -> Result<u64, Fault> {
    let next: Option<i64> = connection
        .prepare_cached("SELECT next_seq FROM head WHERE tenant = ?1")?
        .query_row([tenant], |row| row.get(0))
        .optional()?;
    Ok(rows::counter(next.unwrap_or(0))?)
}

fn load<'c>(connection: &Connection, tenant: &str, needs: &Needs<'c>) -> Result<Known<'c>, Fault> {
    let mut known = Known {
        next_seq: next_seq(connection, tenant)?,
        ..Known::default()
    };
    let mut version = connection.prepare_cached(
        "SELECT version FROM event WHERE tenant = ?1 AND stream = ?2 ORDER BY version DESC LIMIT 1",
    )?;
    for stream in &needs.streams {
        let found: Option<i64> = version
            .query_row(params![tenant, stream.to_string()], |row| row.get(0))
            .optional()?;
        if let Some(found) = found {
            known.streams.insert(stream, rows::counter(found)?);
        }
    }
    let mut record = connection.prepare_cached(
        "SELECT revision, expires FROM record WHERE tenant = ?1 AND collection = ?2 AND key = ?3",
    )?;
    for key in &needs.records {
        let found: Option<(i64, Option<i64>)> = record
            .query_row(params![tenant, key.collection, key.key], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        if let Some((revision, expires)) = found {
            let at = rows::record_at(revision, expires)?;
            known.records.insert(key, Some(at));
        }
    }
    let mut lease = connection
        .prepare_cached("SELECT epoch, until FROM lease WHERE tenant = ?1 AND name = ?2")?;
    for name in &needs.leases {
        let found: Option<(i64, i64)> = lease
            .query_row(params![tenant, name], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((epoch, until)) = found {
            known.leases.insert(name, rows::lease_at(epoch, until)?);
        }
    }
    let mut work = connection.prepare_cached(
        "SELECT state, claim, claimed_until FROM work WHERE tenant = ?1 AND id = ?2",
    )?;
    for id in &needs.work {
        let found: Option<(String, i64, Option<i64>)> = work
            .query_row(params![tenant, id.to_string()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        if let Some((state, claim, until)) = found {
            known.work.insert(*id, rows::work_at(&state, claim, until)?);
        }
    }
    Ok(known)
}

fn write(
    connection: &Connection,
    tenant: &str,
    plan: &Plan<'_>,
    next_seq: u64,
) -> Result<(), Fault> {
    if !plan.events.is_empty() {
        let mut insert = connection.prepare_cached(
            "INSERT INTO event (tenant, seq, stream, version, at, kind, leaf) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        for event in &plan.events {
            insert.execute(params![
                tenant,
                event.seq,
                event.stream,
                event.version,
                event.at,
                event.kind,
                event.leaf
            ])?;
        }
        connection
            .prepare_cached(
                "INSERT INTO head (tenant, next_seq) VALUES (?1, ?2)
                 ON CONFLICT (tenant) DO UPDATE SET next_seq = excluded.next_seq",
            )?
            .execute(params![tenant, rows::position(next_seq)])?;
    }
    write_records(connection, tenant, plan)?;
    write_projections(connection, tenant, plan)?;
    write_payloads(connection, tenant, plan)?;
    write_work(connection, tenant, plan)
}

fn write_payloads(connection: &Connection, tenant: &str, plan: &Plan<'_>) -> Result<(), Fault> {
    let commit = plan.commit;
    if !commit.payloads.is_empty() {
        let mut insert = connection.prepare_cached(
            "INSERT INTO payload (tenant, address, class, key, sealed, at, writeback)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (tenant, address) DO NOTHING",
        )?;
        let writeback = commit.writeback().map(|id| id.to_string());
        for payload in &commit.payloads {
            insert.execute(params![
                tenant,
                payload.address.digest().as_bytes(),
                payload.class.as_str(),
                payload.key,
                payload.sealed,
                rows::micros(commit.at),
                writeback
            ])?;
        }
    }
    if !commit.erased.is_empty() {
        let mut erase =
            connection.prepare_cached("DELETE FROM payload WHERE tenant = ?1 AND address = ?2")?;
        for address in &commit.erased {
            erase.execute(params![tenant, address.digest().as_bytes()])?;
        }
    }
    Ok(())
}

fn write_records(connection: &Connection, tenant: &str, plan: &Plan<'_>) -> Result<(), Fault> {
    let mut put = connection.prepare_cached(
        "INSERT INTO record (tenant, collection, key, idx, sort, value, expires, revision)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (tenant, collection, key) DO UPDATE SET
             idx = excluded.idx, sort = excluded.sort, value = excluded.value,
             expires = excluded.expires, revision = excluded.revision",
    )?;
    let mut remove = connection
        .prepare_cached("DELETE FROM record WHERE tenant = ?1 AND collection = ?2 AND key = ?3")?;
    for change in &plan.records {
        match change {
            RecordWrite::Put { record, revision } => put.execute(params![
                tenant,
                record.key.collection,
                record.key.key,
                record.index,
                record.sort,
                rows::value_text(record),
                record.expires.map(rows::micros),
                revision
            ])?,
            RecordWrite::Remove(key) => remove.execute(params![tenant, key.collection, key.key])?,
        };
    }
    Ok(())
}

fn write_projections(connection: &Connection, tenant: &str, plan: &Plan<'_>) -> Result<(), Fault> {
    let mut put = connection.prepare_cached(
        "INSERT INTO projection (tenant, collection, key, idx, sort, value)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (tenant, collection, key) DO UPDATE SET
             idx = excluded.idx, sort = excluded.sort, value = excluded.value",
    )?;
    let mut remove = connection.prepare_cached(
        "DELETE FROM projection WHERE tenant = ?1 AND collection = ?2 AND key = ?3",
    )?;
    for row in &plan.commit.projections {
        if row.value.is_null() {
            remove.execute(params![tenant, row.key.collection, row.key.key])?;
        } else {
            put.execute(params![
                tenant,
                row.key.collection,
                row.key.key,
                row.index,
                row.sort,
                rows::value_text(row)
            ])?;
        }
    }
    Ok(())
}

fn write_work(connection: &Connection, tenant: &str, plan: &Plan<'_>) -> Result<(), Fault> {
    let mut enqueue = connection.prepare_cached(
        "INSERT INTO work (tenant, id, kind, subject, order_key, due, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'waiting')",
    )?;
    for item in &plan.enqueues {
        enqueue.execute(params![
            tenant,
            item.id.to_string(),
            item.kind.as_str(),
            item.subject,
            item.order_key,
            rows::micros(item.due)
        ])?;
    }
    let mut update = connection.prepare_cached(
        "UPDATE work SET state = ?3, due = coalesce(?4, due), kind = coalesce(?5, kind),
             claimed_until = NULL, worker = NULL
         WHERE tenant = ?1 AND id = ?2",
    )?;
    for change in &plan.work {
        update.execute(params![
            tenant,
            change.id.to_string(),
            change.stage.as_str(),
            change.due,
            change.kind.map(|kind| kind.as_str())
        ])?;
    }
    let mut forget = connection
        .prepare_cached("DELETE FROM work WHERE tenant = ?1 AND id = ?2 AND state = 'done'")?;
    for id in &plan.forgotten {
        forget.execute(params![tenant, id.to_string()])?;
    }
    Ok(())
}
