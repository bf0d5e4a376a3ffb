//! Claims, leases and checkpoints on PostgreSQL: short transactions that lock what they decide about.
//! Commits change work as well; see `commit` for the order of locks.

use chaperone_core::digest::Digest;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{
    CheckpointRow, Claim, ClaimedWork, Lease, LeaseRefused, StoreFailed, WorkItem, WorkRow,
};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::read::{self, get};
use super::session::{self, Scope, Sessions, Trouble};
use crate::LISTED_MAX;
use crate::plan::Stage;
use crate::rows::{self, WorkColumns};
use crate::succession::{self, LeaseAsked};

/// The five columns of an item, from a column on.
fn work_item(row: &Row, from: usize) -> Result<WorkItem, StoreFailed> {
    WorkItem::try_from(WorkColumns {
        id: get(row, from)?,
        kind: get(row, from + 1)?,
        subject: get(row, from + 2)?,
        order_key: get(row, from + 3)?,
        due: get(row, from + 4)?,
    })
}

/// Two workers never get the same item, and never two items of one order key:
///
/// ```text
/// A and B both see X (oldest of its order key) waiting, and Y behind it
/// A locks X and claims it            B skips X, which is locked; Y is not the oldest, so B gets nothing
/// A commits                          B sees X claimed; Y is still not the oldest
/// or: A commits before B locks X     B locks X, checks again, finds it claimed, leaves it
/// ```
///
/// A claimed item was due when it was claimed, so one condition on the time serves both cases, and the
/// index on it ends the search at the limit.
///
/// An older item of an order key cannot appear later: positions are given under the tenant's head lock.
const CLAIM: &str = "
    WITH picked AS MATERIALIZED (
        SELECT w.position FROM work w
        WHERE w.tenant = $5 AND w.state <> 'done' AND w.due <= $1
          AND ($6::bool IS NULL OR (w.order_key IS NULL) = $6)
          AND (w.state = 'waiting' OR (w.state = 'claimed' AND w.claimed_until <= $1))
          AND (w.order_key IS NULL OR NOT EXISTS (
              SELECT 1 FROM work o
              WHERE o.tenant = w.tenant AND o.order_key = w.order_key
                AND o.state <> 'done' AND o.position < w.position))
        ORDER BY w.due, w.position
        LIMIT $2
        FOR UPDATE OF w SKIP LOCKED
    )
    UPDATE work SET state = 'claimed', claim = work.claim + 1, claimed_until = $3, worker = $4
    FROM picked WHERE work.position = picked.position
    RETURNING work.tenant, work.claim, work.position, work.id, work.kind, work.subject, work.order_key, work.due";

/// Walk the due work in order and stop at the limit. Left alone, a planner without statistics expects one
/// row, and so finds and sorts all of the backlog first.
const CLAIM_IN_ORDER: &str = "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off";

pub(super) async fn claim_due(
    sessions: &Sessions,
    claim: &Claim,
) -> Result<Vec<ClaimedWork>, StoreFailed> {
    let now = rows::micros(claim.now);
    let until = rows::micros_after(claim.now, claim.lease_ms);
    let limit = i64::from(claim.limit.min(LISTED_MAX));
    let claimed = async {
        let mut client = sessions.connection().await?;
        let tx = session::begin(&mut client, Scope::Tenant(&claim.tenant)).await?;
        tx.batch_execute(CLAIM_IN_ORDER).await?;
        let statement = tx.prepare_cached(CLAIM).await?;
        let claimed = tx
            .query(
                &statement,
                &[
                    &now,
                    &limit,
                    &until,
                    &claim.worker,
                    &claim.tenant.as_str(),
                    &rows::is_free(claim.lane),
                ],
            )
            .await?;
        tx.commit().await?;
        Ok::<_, Trouble>(claimed)
    }
    .await?;
    let mut items = Vec::with_capacity(claimed.len());
    for row in &claimed {
        let position: i64 = get(row, 2)?;
        items.push((
            position,
            ClaimedWork {
                tenant: rows::tenant(get(row, 0)?)?,
                claim: rows::counter(get(row, 1)?)?,
                item: work_item(row, 3)?,
            },
        ));
    }
    items.sort_by_key(|(position, claimed)| (claimed.item.due, *position));
    Ok(items.into_iter().map(|(_, claimed)| claimed).collect())
}

pub(super) async fn open_items(
    sessions: &Sessions,
    tenant: &TenantId,
    limit: u32,
) -> Result<Vec<WorkRow>, StoreFailed> {
    let found = sessions
        .read(
            Scope::Tenant(tenant),
            "SELECT state, id, kind, subject, order_key, due FROM work
             WHERE tenant = $1 AND state <> 'done' ORDER BY position LIMIT $2",
            &[&tenant.as_str(), &i64::from(limit.min(LISTED_MAX))],
        )
        .await?;
    let mut items = Vec::with_capacity(found.len());
    for row in &found {
        if let Stage::Open(state) = rows::stage(get(row, 0)?)? {
            items.push(WorkRow {
                item: work_item(row, 1)?,
                state,
            });
        }
    }
    Ok(items)
}

pub(super) async fn projections_clear(
    sessions: &Sessions,
    tenant: &TenantId,
) -> Result<(), StoreFailed> {
    let cleared = async {
        let mut client = sessions.connection().await?;
        let tx = session::begin(&mut client, Scope::Tenant(tenant)).await?;
        // Commits write projections under this lock.
        tx.query(
            "SELECT 1 FROM head WHERE tenant = $1 FOR UPDATE",
            &[&tenant.as_str()],
        )
        .await?;
        tx.execute(
            "DELETE FROM projection WHERE tenant = $1",
            &[&tenant.as_str()],
        )
        .await?;
        tx.commit().await?;
        Ok::<_, Trouble>(())
    };
    Ok(cleared.await?)
}

/// Why a lease was not taken.
enum Untaken {
    Refused(LeaseRefused),
    Trouble(Trouble),
}

impl From<Trouble> for Untaken {
    fn from(trouble: Trouble) -> Self {
        Untaken::Trouble(trouble)
    }
}

impl From<tokio_postgres::Error> for Untaken {
    fn from(error: tokio_postgres::Error) -> Self {
        Untaken::Trouble(Trouble::Statement(error))
    }
}

impl From<StoreFailed> for Untaken {
    fn from(failed: StoreFailed) -> Self {
        Untaken::Trouble(Trouble::Store(failed))
    }
}

/// Attempts at a lease that others keep creating at the same moment.
const LEASE_ATTEMPTS_MAX: u32 = 3;

pub(super) async fn lease(
    sessions: &Sessions,
    tenant: &TenantId,
    asked: &LeaseAsked,
) -> Result<Lease, LeaseRefused> {
    for _ in 0..LEASE_ATTEMPTS_MAX {
        match lease_once(sessions, tenant, asked).await {
            Ok(Some(lease)) => return Ok(lease),
            Ok(None) => {}
            Err(Untaken::Refused(refused)) => return Err(refused),
            Err(Untaken::Trouble(trouble)) => return Err(StoreFailed::from(trouble).into()),
        }
    }
    Err(rows::corrupt("a lease is neither there nor can be created").into())
}

/// `None` when somebody created the lease between looking and creating.
async fn lease_once(
    sessions: &Sessions,
    tenant: &TenantId,
    asked: &LeaseAsked,
) -> Result<Option<Lease>, Untaken> {
    let mut client = sessions.connection().await?;
    let tx = session::begin(&mut client, Scope::Tenant(tenant)).await?;
    let select = tx
        .prepare_cached(
            "SELECT holder, epoch, until FROM lease WHERE tenant = $1 AND name = $2 FOR UPDATE",
        )
        .await?;
    let found = tx
        .query_opt(&select, &[&tenant.as_str(), &asked.name])
        .await?;
    let standing = match &found {
        None => None,
        Some(row) => Some((
            row.try_get::<_, &str>(0)?,
            rows::lease_at(row.try_get(1)?, row.try_get(2)?)?,
        )),
    };
    let lease = succession::lease_next(standing, asked).map_err(Untaken::Refused)?;
    let store = tx
        .prepare_cached(if standing.is_some() {
            "UPDATE lease SET holder = $3, epoch = $4, until = $5 WHERE tenant = $1 AND name = $2"
        } else {
            "INSERT INTO lease (tenant, name, holder, epoch, until) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING"
        })
        .await?;
    let stored = tx
        .execute(
            &store,
            &[
                &tenant.as_str(),
                &asked.name,
                &asked.holder,
                &rows::position(lease.epoch),
                &rows::micros(lease.until),
            ],
        )
        .await?;
    tx.commit().await?;
    Ok((stored == 1).then_some(lease))
}

/// One integrator at a time per tenant: the newest checkpoint may not exist yet, so there is no row to
/// lock. Other tenants that share the hash only wait.
const LOCK_CHECKPOINTS: &str = "SELECT pg_advisory_xact_lock(hashtextextended(concat_ws('/', 'chaperone checkpoint', current_schema(), $1::text), 0))";

pub(super) async fn checkpoint_put(
    sessions: &Sessions,
    tenant: &TenantId,
    size_before: u64,
    hashes: &[(u64, Digest)],
    checkpoint: &CheckpointRow,
) -> Result<bool, StoreFailed> {
    let put = async {
        let mut client = sessions.connection().await?;
        let tx = session::begin(&mut client, Scope::Tenant(tenant)).await?;
        let owner = tenant.as_str();
        tx.query(LOCK_CHECKPOINTS, &[&owner]).await?;
        let newest = tx.query_opt(read::NEWEST_CHECKPOINT, &[&owner]).await?;
        let newest = match newest {
            Some(row) => Some(rows::counter(row.try_get(0)?)?),
            None => None,
        };
        if !succession::checkpoint_follows(newest, size_before, checkpoint.size)? {
            return Ok(false);
        }
        let indexes: Vec<i64> = hashes
            .iter()
            .map(|(index, _)| rows::position(*index))
            .collect();
        let bytes: Vec<&[u8]> = hashes
            .iter()
            .map(|(_, hash)| hash.as_bytes().as_slice())
            .collect();
        tx.execute(
            "INSERT INTO tree_hash (tenant, idx, hash) SELECT $1, * FROM unnest($2::bigint[], $3::bytea[])",
            &[&owner, &indexes, &bytes],
        )
        .await
        .map_err(|error| match error.code() {
            Some(code) if *code == SqlState::UNIQUE_VIOLATION => {
                Trouble::Store(rows::corrupt("a tree hash would be replaced"))
            }
            _ => Trouble::Statement(error),
        })?;
        tx.execute(
            "INSERT INTO checkpoint (tenant, size, root, note, at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant, size) DO UPDATE SET
                 root = excluded.root, note = excluded.note, at = excluded.at",
            &[
                &owner,
                &rows::position(checkpoint.size),
                &checkpoint.root.as_bytes().as_slice(),
                &checkpoint.note,
                &rows::micros(checkpoint.at),
            ],
        )
        .await?;
        tx.commit().await?;
        Ok::<_, Trouble>(true)
    };
    Ok(put.await?)
}
