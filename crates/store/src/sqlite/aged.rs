//! What retention looks through on SQLite: payloads by age, records past their end, work that is done.

use chaperone_core::Timestamp;
use chaperone_core::ids::{TenantId, WorkId};
use chaperone_core::ports::{PayloadCount, PayloadListing, PayloadRow, RecordKey};
use rusqlite::{Connection, params};

use super::Fault;
use crate::LISTED_MAX;
use crate::rows;

pub(super) fn payloads(
    connection: &Connection,
    tenant: &TenantId,
    listing: &PayloadListing,
) -> Result<Vec<PayloadRow>, Fault> {
    let (at, address) = rows::payloads_after(listing);
    let mut statement = connection.prepare_cached(
        "SELECT address, class, key, writeback, at FROM payload
         WHERE tenant = ?1 AND class = ?2 AND at < ?3 AND (at, address) > (?4, ?5)
           AND (?6 IS NULL OR key = ?6)
         ORDER BY at, address LIMIT ?7",
    )?;
    let mut found = statement.query(params![
        tenant.as_str(),
        listing.class.as_str(),
        rows::micros(listing.before),
        at,
        address,
        listing.key,
        listing.limit.min(LISTED_MAX)
    ])?;
    let mut payloads = Vec::new();
    while let Some(row) = found.next()? {
        let address = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        let class = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        payloads.push(rows::payload_row(
            address,
            class,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
        )?);
    }
    Ok(payloads)
}

pub(super) fn payload_counts(
    connection: &Connection,
    tenant: &TenantId,
) -> Result<Vec<PayloadCount>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT class, count(*), min(at) FROM payload WHERE tenant = ?1 GROUP BY class ORDER BY class",
    )?;
    let found = statement
        .query_map([tenant.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<Result<Vec<(String, i64, i64)>, _>>()?;
    let counted = found
        .iter()
        .map(|(class, count, oldest)| rows::payload_count(class, *count, *oldest));
    Ok(counted.collect::<Result<_, _>>()?)
}

pub(super) fn records_expired(
    connection: &Connection,
    tenant: &TenantId,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<(RecordKey, Timestamp)>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT collection, key, expires FROM record
         WHERE tenant = ?1 AND expires < ?2 ORDER BY expires LIMIT ?3",
    )?;
    let found = statement
        .query_map(
            params![tenant.as_str(), rows::micros(before), limit.min(LISTED_MAX)],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?
        .collect::<Result<Vec<(String, String, i64)>, _>>()?;
    let mut expired = Vec::with_capacity(found.len());
    for (collection, key, at) in found {
        expired.push((RecordKey { collection, key }, rows::timestamp(at)?));
    }
    Ok(expired)
}

pub(super) fn work_done(
    connection: &Connection,
    tenant: &TenantId,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<WorkId>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id FROM work WHERE tenant = ?1 AND state = 'done' AND due < ?2 ORDER BY due LIMIT ?3",
    )?;
    let found = statement
        .query_map(
            params![tenant.as_str(), rows::micros(before), limit.min(LISTED_MAX)],
            |row| row.get(0),
        )?
        .collect::<Result<Vec<String>, _>>()?;
    Ok(found
        .iter()
        .map(|id| rows::work_id(id))
        .collect::<Result<_, _>>()?)
}
