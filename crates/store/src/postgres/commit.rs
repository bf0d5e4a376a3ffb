//! One group of commits of one tenant as one database transaction: lock the tenant's head row, load what
//! the commits touch, let `plan` decide each in turn, write what was accepted in a few bulk statements,
//! commit. The statements of each step are sent together, so a group costs five round trips whatever its
//! size. How groups come about is `group`'s business.
//!
//! ```text
//! BEGIN ─▶ scope, lock head, load ─▶ decide ─▶ bulk writes ─▶ COMMIT ─▶ answer everybody
//!          each statement sees what was committed before it began, and so everything
//!          that earlier holders of the head row committed
//! ```
//!
//! Locks are taken in one order: head, leases, work. Claiming takes work alone and skips what is locked;
//! taking a lease takes the lease alone. So nobody waits in a circle.

use std::collections::BTreeMap;

use chaperone_core::event::StreamId;
use chaperone_core::ids::{TenantId, WorkId};
use chaperone_core::ports::{Commit, CommitFailed, Committed, Record, RecordKey, StoreFailed};
use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::session::{self, CommitFate, Parameters, Scope, Sessions, Trouble};
use crate::plan::{self, Known, Needs, Plan, RecordWrite, Stage, WorkWrite};
use crate::{rows, sweep};

/// Why a group has no outcome of its own.
pub(super) enum GroupFailed {
    /// Nothing happened.
    Before(Trouble),
    /// It may have happened.
    AtCommit {
        /// What COMMIT answered.
        error: tokio_postgres::Error,
        /// For each commit, whether it was part of what may have happened.
        accepted: Vec<bool>,
    },
}

impl From<Trouble> for GroupFailed {
    fn from(trouble: Trouble) -> Self {
        GroupFailed::Before(trouble)
    }
}

/// Commits a group; the outcomes are in its order.
pub(super) async fn commit_group(
    sessions: &Sessions,
    tenant: &TenantId,
    commits: &[&Commit],
) -> Result<Vec<Result<Committed, CommitFailed>>, GroupFailed> {
    let mut needs = Needs::default();
    for commit in commits {
        needs.add(commit);
    }
    let mut client = sessions.connection().await?;
    let tx = session::begin(&mut client, Scope::Tenant(tenant)).await?;
    let mut known = load_locked(&tx, tenant, &needs).await?;
    let mut plans = Vec::with_capacity(commits.len());
    let mut outcomes = Vec::with_capacity(commits.len());
    for commit in commits {
        match plan::decide(&mut known, commit) {
            Ok(plan) => {
                outcomes.push(Ok(Committed { seqs: plan.seqs() }));
                plans.push(plan);
            }
            Err(refused) => outcomes.push(Err(refused)),
        }
    }
    if plans.is_empty() {
        // Dropping the transaction ends it. The refusals rest on committed rows alone.
        return Ok(outcomes);
    }
    write(&tx, tenant, &plans, known.next_seq).await?;
    match tx.commit().await {
        Ok(()) => Ok(outcomes),
        Err(error) => match session::fate(&error) {
            CommitFate::RolledBack => Err(GroupFailed::Before(Trouble::Statement(error))),
            CommitFate::Unknown => Err(GroupFailed::AtCommit {
                error,
                accepted: outcomes.iter().map(Result::is_ok).collect(),
            }),
        },
    }
}

/// Locks the head row, creating it for a new tenant, and loads under that lock.
async fn load_locked<'c>(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    needs: &Needs<'c>,
) -> Result<Known<'c>, Trouble> {
    if let Some(known) = load(tx, tenant, needs).await? {
        return Ok(known);
    }
    let insert = tx
        .prepare_cached("INSERT INTO head (tenant, next_seq) VALUES ($1, 0) ON CONFLICT DO NOTHING")
        .await?;
    tx.execute(&insert, &[&tenant.as_str()]).await?;
    let known = load(tx, tenant, needs).await?;
    Ok(known.ok_or_else(|| rows::corrupt("a tenant's head row cannot be created"))?)
}

/// Runs a statement, unless there is nothing to ask for.
async fn query_if(
    tx: &Transaction<'_>,
    wanted: bool,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    if !wanted {
        return Ok(Vec::new());
    }
    let statement = tx.prepare_cached(sql).await?;
    tx.query(&statement, parameters).await
}

const LOCK_HEAD: &str = "SELECT next_seq FROM head WHERE tenant = $1 FOR UPDATE";

// The lateral subqueries make the database look each name up by its key. As plain joins, tables without
// statistics are read from end to end.
const LOAD_STREAMS: &str = "
    SELECT u.n, (SELECT e.version FROM event e WHERE e.tenant = $1 AND e.stream = u.stream
                 ORDER BY e.version DESC LIMIT 1)
    FROM unnest($2::text[]) WITH ORDINALITY AS u (stream, n)";

const LOAD_RECORDS: &str = "
    SELECT u.n, r.revision, r.expires
    FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS u (collection, key, n)
    CROSS JOIN LATERAL (
        SELECT revision, expires FROM record
        WHERE tenant = $1 AND collection = u.collection AND key = u.key LIMIT 1) AS r";

const LOAD_LEASES: &str = "SELECT name, epoch, until FROM lease WHERE tenant = $1 AND name = ANY ($2) ORDER BY name FOR SHARE";

const LOAD_WORK: &str = "
    SELECT w.id, w.state, w.claim, w.claimed_until
    FROM unnest($2::text[]) AS u (id)
    CROSS JOIN LATERAL (
        SELECT id, state, claim, claimed_until FROM work
        WHERE tenant = $1 AND id = u.id LIMIT 1 FOR UPDATE) AS w";

/// Prepares what loading may use; a statement that is prepared already costs nothing. Preparing between
/// the statements of one step would break up their sending.
async fn prepare(tx: &Transaction<'_>, statements: &[&str]) -> Result<(), tokio_postgres::Error> {
    for sql in statements {
        tx.prepare_cached(sql).await?;
    }
    Ok(())
}

/// Locks and loads; `None` when the tenant has no head row yet, and so no lock was taken.
async fn load<'c>(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    needs: &Needs<'c>,
) -> Result<Option<Known<'c>>, Trouble> {
    prepare(
        tx,
        &[
            LOCK_HEAD,
            LOAD_STREAMS,
            LOAD_RECORDS,
            LOAD_LEASES,
            LOAD_WORK,
        ],
    )
    .await?;
    let owner = tenant.as_str();
    let streams: Vec<String> = needs.streams.iter().map(ToString::to_string).collect();
    let collections: Vec<&str> = needs
        .records
        .iter()
        .map(|k| k.collection.as_str())
        .collect();
    let keys: Vec<&str> = needs.records.iter().map(|key| key.key.as_str()).collect();
    let leases: Vec<&str> = needs.leases.iter().copied().collect();
    let work: Vec<String> = needs.work.iter().map(ToString::to_string).collect();
    let of_head: Parameters<'_> = &[&owner];
    let of_streams: Parameters<'_> = &[&owner, &streams];
    let of_records: Parameters<'_> = &[&owner, &collections, &keys];
    let of_leases: Parameters<'_> = &[&owner, &leases];
    let of_work: Parameters<'_> = &[&owner, &work];
    // Awaited together, the statements are sent at once and run in this order.
    let (head, streams, records, leases, work) = futures::try_join!(
        query_if(tx, true, LOCK_HEAD, of_head),
        query_if(tx, !streams.is_empty(), LOAD_STREAMS, of_streams),
        query_if(tx, !keys.is_empty(), LOAD_RECORDS, of_records),
        query_if(tx, !leases.is_empty(), LOAD_LEASES, of_leases),
        query_if(tx, !work.is_empty(), LOAD_WORK, of_work),
    )?;
    let Some(head) = head.first() else {
        return Ok(None);
    };
    let mut known = Known {
        next_seq: rows::counter(head.try_get(0)?)?,
        ..Known::default()
    };
    let asked: Vec<&StreamId> = needs.streams.iter().copied().collect();
    for row in streams {
        let stream = nth(&asked, row.try_get(0)?)?;
        if let Some(version) = row.try_get::<_, Option<i64>>(1)? {
            known.streams.insert(stream, rows::counter(version)?);
        }
    }
    let asked: Vec<&RecordKey> = needs.records.iter().copied().collect();
    for row in records {
        let key = nth(&asked, row.try_get(0)?)?;
        let at = rows::record_at(row.try_get(1)?, row.try_get(2)?)?;
        known.records.insert(key, Some(at));
    }
    for row in leases {
        let name: &str = row.try_get(0)?;
        if let Some(name) = needs.leases.get(name) {
            let at = rows::lease_at(row.try_get(1)?, row.try_get(2)?)?;
            known.leases.insert(name, at);
        }
    }
    for row in work {
        let id: WorkId = row
            .try_get::<_, &str>(0)?
            .parse()
            .map_err(|_| rows::corrupt("a work id is malformed"))?;
        let at = rows::work_at(row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)?;
        known.work.insert(id, at);
    }
    Ok(Some(known))
}

/// What was asked for at an ordinality, which counts from 1.
fn nth<'a, T>(asked: &[&'a T], ordinality: i64) -> Result<&'a T, StoreFailed> {
    usize::try_from(ordinality)
        .ok()
        .and_then(|n| n.checked_sub(1))
        .and_then(|n| asked.get(n).copied())
        .ok_or_else(|| rows::corrupt("the database answered what was not asked"))
}

/// Runs a bulk write, unless it has no rows.
async fn write_if(
    tx: &Transaction<'_>,
    wanted: bool,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<(), tokio_postgres::Error> {
    if wanted {
        let statement = tx.prepare_cached(sql).await?;
        tx.execute(&statement, parameters).await?;
    }
    Ok(())
}

const WRITE_EVENTS: &str = "
    INSERT INTO event (tenant, seq, stream, version, at, kind, leaf)
    SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::bytea[])";

const WRITE_HEAD: &str = "UPDATE head SET next_seq = $2 WHERE tenant = $1";

const PUT_RECORDS: &str = "
    INSERT INTO record (tenant, collection, key, idx, sort, value, expires, revision)
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[])
    ON CONFLICT (tenant, collection, key) DO UPDATE SET
        idx = excluded.idx, sort = excluded.sort, value = excluded.value,
        expires = excluded.expires, revision = excluded.revision";

const REMOVE_RECORDS: &str = "
    DELETE FROM record r USING unnest($2::text[], $3::text[]) AS u (collection, key)
    WHERE r.tenant = $1 AND r.collection = u.collection AND r.key = u.key";

/// Expired long ago. Runs before records are put, under the same lock.
const SWEEP_RECORDS: &str = "
    DELETE FROM record WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM record WHERE tenant = $1 AND expires <= $2 ORDER BY expires LIMIT $3))";

const PUT_PROJECTIONS: &str = "
    INSERT INTO projection (tenant, collection, key, idx, sort, value)
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    ON CONFLICT (tenant, collection, key) DO UPDATE SET
        idx = excluded.idx, sort = excluded.sort, value = excluded.value";

const REMOVE_PROJECTIONS: &str = "
    DELETE FROM projection p USING unnest($2::text[], $3::text[]) AS u (collection, key)
    WHERE p.tenant = $1 AND p.collection = u.collection AND p.key = u.key";

const PUT_PAYLOADS: &str = "
    INSERT INTO payload (tenant, address, class, key, sealed, at, writeback)
    SELECT $1, * FROM unnest($2::bytea[], $3::text[], $4::text[], $5::bytea[], $6::bigint[], $7::text[])
    ON CONFLICT (tenant, address) DO NOTHING";

const ERASE_PAYLOADS: &str = "DELETE FROM payload WHERE tenant = $1 AND address = ANY ($2)";

const FORGET_WORK: &str = "DELETE FROM work WHERE tenant = $1 AND id = ANY ($2) AND state = 'done'";

const ENQUEUE: &str = "
    INSERT INTO work (tenant, id, kind, subject, order_key, due, state)
    SELECT $1, u.id, u.kind, u.subject, u.order_key, u.due, 'waiting'
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
        WITH ORDINALITY AS u (id, kind, subject, order_key, due, n)
    ORDER BY u.n";

const MOVE_WORK: &str = "
    UPDATE work w SET state = u.state, due = coalesce(u.due, w.due), kind = coalesce(u.kind, w.kind),
        claimed_until = NULL, worker = NULL
    FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[]) AS u (id, state, due, kind)
    WHERE w.tenant = $1 AND w.id = u.id";

/// Writes everything that was accepted, each table in one statement. Where several commits of the group
/// wrote the same row, the last one counts.
async fn write(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    plans: &[Plan<'_>],
    next_seq: u64,
) -> Result<(), Trouble> {
    prepare(
        tx,
        &[
            WRITE_EVENTS,
            WRITE_HEAD,
            SWEEP_RECORDS,
            PUT_RECORDS,
            REMOVE_RECORDS,
            PUT_PROJECTIONS,
            REMOVE_PROJECTIONS,
            PUT_PAYLOADS,
            ERASE_PAYLOADS,
            ENQUEUE,
            MOVE_WORK,
            FORGET_WORK,
        ],
    )
    .await?;
    // Sent at once, as above.
    futures::try_join!(
        write_events(tx, tenant, plans, next_seq),
        write_records(tx, tenant, plans),
        write_projections(tx, tenant, plans),
        write_payloads(tx, tenant, plans),
        write_enqueues(tx, tenant, plans),
        write_moves(tx, tenant, plans),
    )?;
    Ok(())
}

type Written = Result<(), tokio_postgres::Error>;

async fn write_events(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    plans: &[Plan<'_>],
    next_seq: u64,
) -> Written {
    let events = || plans.iter().flat_map(|plan| &plan.events);
    let seqs: Vec<i64> = events().map(|event| event.seq).collect();
    let streams: Vec<&str> = events().map(|event| event.stream.as_str()).collect();
    let versions: Vec<i64> = events().map(|event| event.version).collect();
    let ats: Vec<i64> = events().map(|event| event.at).collect();
    let kinds: Vec<&str> = events().map(|event| event.kind.as_str()).collect();
    let leaves: Vec<&[u8]> = events().map(|event| event.leaf.as_slice()).collect();
    let owner = tenant.as_str();
    let next = rows::position(next_seq);
    let rows: Parameters<'_> = &[&owner, &seqs, &streams, &versions, &ats, &kinds, &leaves];
    let head: Parameters<'_> = &[&owner, &next];
    futures::try_join!(
        write_if(tx, !seqs.is_empty(), WRITE_EVENTS, rows),
        write_if(tx, !seqs.is_empty(), WRITE_HEAD, head),
    )?;
    Ok(())
}

async fn write_records(tx: &Transaction<'_>, tenant: &TenantId, plans: &[Plan<'_>]) -> Written {
    let mut last: BTreeMap<&RecordKey, Option<(&Record, i64)>> = BTreeMap::new();
    for change in plans.iter().flat_map(|plan| &plan.records) {
        match change {
            RecordWrite::Put { record, revision } => {
                last.insert(&record.key, Some((record, *revision)));
            }
            RecordWrite::Remove(key) => {
                last.insert(key, None);
            }
        }
    }
    let puts: Vec<(&Record, i64)> = last.values().filter_map(|put| *put).collect();
    let rows_put: Vec<&Record> = puts.iter().map(|(record, _)| *record).collect();
    let put = RowColumns::of(&rows_put);
    let expires: Vec<Option<i64>> = rows_put
        .iter()
        .map(|record| record.expires.map(rows::micros))
        .collect();
    let revisions: Vec<i64> = puts.iter().map(|(_, revision)| *revision).collect();
    let (collections, keys) = removed(&last);
    let owner = tenant.as_str();
    let put_rows: Parameters<'_> = &[
        &owner,
        &put.collections,
        &put.keys,
        &put.indexes,
        &put.sorts,
        &put.values,
        &expires,
        &revisions,
    ];
    let removed_rows: Parameters<'_> = &[&owner, &collections, &keys];
    let sweep = sweep::sweep(plans);
    let (expired, limit) = sweep.map_or((0, 0), |sweep| (sweep.expired, sweep.limit));
    let swept_rows: Parameters<'_> = &[&owner, &expired, &limit];
    futures::try_join!(
        write_if(tx, sweep.is_some(), SWEEP_RECORDS, swept_rows),
        write_if(tx, !puts.is_empty(), PUT_RECORDS, put_rows),
        write_if(tx, !keys.is_empty(), REMOVE_RECORDS, removed_rows),
    )?;
    Ok(())
}

async fn write_projections(tx: &Transaction<'_>, tenant: &TenantId, plans: &[Plan<'_>]) -> Written {
    let mut last: BTreeMap<&RecordKey, Option<&Record>> = BTreeMap::new();
    for row in plans.iter().flat_map(|plan| &plan.commit.projections) {
        last.insert(&row.key, (!row.value.is_null()).then_some(row));
    }
    let puts: Vec<&Record> = last.values().filter_map(|put| *put).collect();
    let put = RowColumns::of(&puts);
    let (collections, keys) = removed(&last);
    let owner = tenant.as_str();
    let put_rows: Parameters<'_> = &[
        &owner,
        &put.collections,
        &put.keys,
        &put.indexes,
        &put.sorts,
        &put.values,
    ];
    let removed_rows: Parameters<'_> = &[&owner, &collections, &keys];
    futures::try_join!(
        write_if(tx, !puts.is_empty(), PUT_PROJECTIONS, put_rows),
        write_if(tx, !keys.is_empty(), REMOVE_PROJECTIONS, removed_rows),
    )?;
    Ok(())
}

/// Columns that records and projections share.
struct RowColumns<'a> {
    collections: Vec<&'a str>,
    keys: Vec<&'a str>,
    indexes: Vec<Option<&'a str>>,
    sorts: Vec<&'a str>,
    values: Vec<String>,
}

impl<'a> RowColumns<'a> {
    fn of(put: &[&'a Record]) -> Self {
        Self {
            collections: put.iter().map(|row| row.key.collection.as_str()).collect(),
            keys: put.iter().map(|row| row.key.key.as_str()).collect(),
            indexes: put.iter().map(|row| row.index.as_deref()).collect(),
            sorts: put.iter().map(|row| row.sort.as_str()).collect(),
            values: put.iter().map(|row| rows::value_text(row)).collect(),
        }
    }
}

fn removed<'a, T>(last: &BTreeMap<&'a RecordKey, Option<T>>) -> (Vec<&'a str>, Vec<&'a str>) {
    last.iter()
        .filter(|(_, put)| put.is_none())
        .map(|(key, _)| (key.collection.as_str(), key.key.as_str()))
        .unzip()
}

async fn write_payloads(tx: &Transaction<'_>, tenant: &TenantId, plans: &[Plan<'_>]) -> Written {
    let payloads = || plans.iter().flat_map(|plan| &plan.commit.payloads);
    let each = || {
        plans.iter().flat_map(|plan| {
            let put = (rows::micros(plan.commit.at), plan.commit.writeback());
            std::iter::repeat_n(put, plan.commit.payloads.len())
        })
    };
    let ats: Vec<i64> = each().map(|(at, _)| at).collect();
    let writebacks: Vec<Option<String>> =
        each().map(|(_, id)| id.map(|id| id.to_string())).collect();
    let addresses: Vec<&[u8]> = payloads()
        .map(|payload| payload.address.digest().as_bytes().as_slice())
        .collect();
    let classes: Vec<&str> = payloads().map(|payload| payload.class.as_str()).collect();
    let keys: Vec<&str> = payloads().map(|payload| payload.key.as_str()).collect();
    let sealed: Vec<&[u8]> = payloads().map(|p| p.sealed.as_slice()).collect();
    let erased: Vec<&[u8]> = plans
        .iter()
        .flat_map(|plan| &plan.commit.erased)
        .map(|address| address.digest().as_bytes().as_slice())
        .collect();
    let owner = tenant.as_str();
    let put: Parameters<'_> = &[
        &owner,
        &addresses,
        &classes,
        &keys,
        &sealed,
        &ats,
        &writebacks,
    ];
    let gone: Parameters<'_> = &[&owner, &erased];
    futures::try_join!(
        write_if(tx, !addresses.is_empty(), PUT_PAYLOADS, put),
        write_if(tx, !erased.is_empty(), ERASE_PAYLOADS, gone),
    )?;
    Ok(())
}

async fn write_enqueues(tx: &Transaction<'_>, tenant: &TenantId, plans: &[Plan<'_>]) -> Written {
    let items = || plans.iter().flat_map(|plan| &plan.enqueues);
    let ids: Vec<String> = items().map(|item| item.id.to_string()).collect();
    let kinds: Vec<&str> = items().map(|item| item.kind.as_str()).collect();
    let subjects: Vec<&str> = items().map(|item| item.subject.as_str()).collect();
    let orders: Vec<Option<&str>> = items().map(|item| item.order_key.as_deref()).collect();
    let dues: Vec<i64> = items().map(|item| rows::micros(item.due)).collect();
    write_if(
        tx,
        !ids.is_empty(),
        ENQUEUE,
        &[&tenant.as_str(), &ids, &kinds, &subjects, &orders, &dues],
    )
    .await
}

async fn write_moves(tx: &Transaction<'_>, tenant: &TenantId, plans: &[Plan<'_>]) -> Written {
    let mut last: BTreeMap<WorkId, WorkWrite> = BTreeMap::new();
    for change in plans.iter().flat_map(|plan| &plan.work) {
        // A later change keeps the time and kind of an earlier one that it does not set itself.
        let merged = last.entry(change.id).or_insert(*change);
        merged.stage = change.stage;
        merged.due = change.due.or(merged.due);
        merged.kind = change.kind.or(merged.kind);
    }
    let ids: Vec<String> = last.keys().map(ToString::to_string).collect();
    let states: Vec<&str> = last.values().map(|w| Stage::as_str(w.stage)).collect();
    let dues: Vec<Option<i64>> = last.values().map(|change| change.due).collect();
    let kinds: Vec<Option<&str>> = last
        .values()
        .map(|change| change.kind.map(|kind| kind.as_str()))
        .collect();
    let forgotten: Vec<String> = plans
        .iter()
        .flat_map(|plan| &plan.forgotten)
        .map(ToString::to_string)
        .collect();
    let owner = tenant.as_str();
    let moves: Parameters<'_> = &[&owner, &ids, &states, &dues, &kinds];
    let forgets: Parameters<'_> = &[&owner, &forgotten];
    futures::try_join!(
        write_if(tx, !ids.is_empty(), MOVE_WORK, moves),
        write_if(tx, !forgotten.is_empty(), FORGET_WORK, forgets),
    )?;
    Ok(())
}
