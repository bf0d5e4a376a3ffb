//! What retention looks through on PostgreSQL: payloads by age, records past their end, work that is done.

use chaperone_core::Timestamp;
use chaperone_core::ids::{TenantId, WorkId};
use chaperone_core::ports::{PayloadCount, PayloadListing, PayloadRow, RecordKey, StoreFailed};

use super::read::get;
use super::session::{Scope, Sessions};
use crate::LISTED_MAX;
use crate::rows;

pub(super) async fn payloads(
    sessions: &Sessions,
    tenant: &TenantId,
    listing: &PayloadListing,
) -> Result<Vec<PayloadRow>, StoreFailed> {
    let (at, address) = rows::payloads_after(listing);
    let found = sessions
        .read(
            Scope::Tenant(tenant),
            "SELECT address, class, key, writeback, at FROM payload
             WHERE tenant = $1 AND class = $2 AND at < $3 AND (at, address) > ($4, $5)
               AND ($6::text IS NULL OR key = $6)
             ORDER BY at, address LIMIT $7",
            &[
                &tenant.as_str(),
                &listing.class.as_str(),
                &rows::micros(listing.before),
                &at,
                &address,
                &listing.key,
                &i64::from(listing.limit.min(LISTED_MAX)),
            ],
        )
        .await?;
    found
        .iter()
        .map(|row| {
            rows::payload_row(
                get(row, 0)?,
                get(row, 1)?,
                get(row, 2)?,
                get(row, 3)?,
                get(row, 4)?,
            )
        })
        .collect()
}

pub(super) async fn payload_counts(
    sessions: &Sessions,
    tenant: &TenantId,
) -> Result<Vec<PayloadCount>, StoreFailed> {
    let found = sessions
        .read(
            Scope::Tenant(tenant),
            "SELECT class, count(*), min(at) FROM payload WHERE tenant = $1 GROUP BY class ORDER BY class",
            &[&tenant.as_str()],
        )
        .await?;
    found
        .iter()
        .map(|row| rows::payload_count(get(row, 0)?, get(row, 1)?, get(row, 2)?))
        .collect()
}

pub(super) async fn records_expired(
    sessions: &Sessions,
    tenant: &TenantId,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<(RecordKey, Timestamp)>, StoreFailed> {
    let found = sessions
        .read(
            Scope::Tenant(tenant),
            "SELECT collection, key, expires FROM record
             WHERE tenant = $1 AND expires < $2 ORDER BY expires LIMIT $3",
            &[
                &tenant.as_str(),
                &rows::micros(before),
                &i64::from(limit.min(LISTED_MAX)),
            ],
        )
        .await?;
    found
        .iter()
        .map(|row| {
            let key = RecordKey {
                collection: get(row, 0)?,
                key: get(row, 1)?,
            };
            Ok((key, rows::timestamp(get(row, 2)?)?))
        })
        .collect()
}

pub(super) async fn work_done(
    sessions: &Sessions,
    tenant: &TenantId,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<WorkId>, StoreFailed> {
    let found = sessions
        .read(
            Scope::Tenant(tenant),
            "SELECT id FROM work WHERE tenant = $1 AND state = 'done' AND due < $2 ORDER BY due LIMIT $3",
            &[
                &tenant.as_str(),
                &rows::micros(before),
                &i64::from(limit.min(LISTED_MAX)),
            ],
        )
        .await?;
    found
        .iter()
        .map(|row| rows::work_id(get(row, 0)?))
        .collect()
}
