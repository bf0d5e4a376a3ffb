//! Between stored columns and the types of the contract. What cannot have been written by Chaperone is
//! [`StoreFailed::Corrupt`], never a default. Knows no database; both adapters use it.

use chaperone_core::Timestamp;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::Recorded;
use chaperone_core::ids::{TenantId, WorkId};
use chaperone_core::ports::{
    CheckpointRow, Lane, PayloadClass, PayloadCount, PayloadListing, PayloadRow, Record, RecordKey,
    SealedPayload, StoreFailed, WorkItem, WorkKind,
};

use crate::plan::{LeaseAt, RecordAt, Stage, WorkAt};

/// Microseconds since 1970. Finer parts of a time live only in the leaf.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// `now` plus some milliseconds, in microseconds; saturates.
pub(crate) fn micros_after(now: Timestamp, ms: i64) -> i64 {
    micros(now).saturating_add(ms.saturating_mul(1_000))
}

pub(crate) fn timestamp(micros: i64) -> Result<Timestamp, StoreFailed> {
    Timestamp::from_microsecond(micros).map_err(|_| corrupt("a time is out of range"))
}

pub(crate) fn corrupt(what: &str) -> StoreFailed {
    StoreFailed::Corrupt(what.to_owned())
}

/// A stored counter: never negative.
pub(crate) fn counter(value: i64) -> Result<u64, StoreFailed> {
    u64::try_from(value).map_err(|_| corrupt("a counter is negative"))
}

/// A counter from a caller; beyond what is ever stored, it finds nothing.
pub(crate) fn position(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Whether a claim is for work without an order key; nothing when it is for any.
pub(crate) fn is_free(lane: Option<Lane>) -> Option<bool> {
    lane.map(|lane| lane == Lane::Free)
}

pub(crate) fn digest(bytes: &[u8]) -> Result<Digest, StoreFailed> {
    let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| corrupt("a digest is not 32 bytes"))?;
    Ok(Digest::from_bytes(bytes))
}

pub(crate) fn tenant(text: &str) -> Result<TenantId, StoreFailed> {
    TenantId::new(text).map_err(|_| corrupt("a tenant id is malformed"))
}

/// A leaf that must be this tenant's.
pub(crate) fn recorded(owner: &TenantId, leaf: &[u8]) -> Result<Recorded, StoreFailed> {
    let recorded =
        Recorded::from_leaf(leaf).map_err(|invalid| StoreFailed::Corrupt(invalid.to_string()))?;
    if recorded.tenant == *owner {
        Ok(recorded)
    } else {
        Err(corrupt("a leaf belongs to another tenant"))
    }
}

/// Leaves must follow each other without a gap: a missing one is tampering or damage.
pub(crate) fn contiguous(
    from: u64,
    rows: Vec<(i64, Vec<u8>)>,
) -> Result<Vec<Vec<u8>>, StoreFailed> {
    let mut leaves = Vec::with_capacity(rows.len());
    let mut expected = from;
    for (seq, leaf) in rows {
        if counter(seq)? != expected {
            return Err(corrupt("the ledger has a gap"));
        }
        expected = expected.saturating_add(1);
        leaves.push(leaf);
    }
    Ok(leaves)
}

/// One row of `record` or `projection`.
pub(crate) struct RecordColumns {
    pub(crate) collection: String,
    pub(crate) key: String,
    pub(crate) idx: Option<String>,
    pub(crate) sort: String,
    pub(crate) value: String,
    pub(crate) expires: Option<i64>,
    pub(crate) revision: i64,
}

impl TryFrom<RecordColumns> for Record {
    type Error = StoreFailed;
    fn try_from(row: RecordColumns) -> Result<Self, StoreFailed> {
        Ok(Record {
            value: serde_json::from_str(&row.value)
                .map_err(|_| corrupt("a record's value is not JSON"))?,
            key: RecordKey {
                collection: row.collection,
                key: row.key,
            },
            index: row.idx,
            sort: row.sort,
            expires: row.expires.map(timestamp).transpose()?,
            revision: counter(row.revision)?,
        })
    }
}

/// The stored text of a value. JSON of our own `Value` always serialises.
pub(crate) fn value_text(record: &Record) -> String {
    record.value.to_string()
}

pub(crate) fn record_at(revision: i64, expires: Option<i64>) -> Result<RecordAt, StoreFailed> {
    Ok(RecordAt {
        revision: counter(revision)?,
        expires,
    })
}

pub(crate) fn lease_at(epoch: i64, until: i64) -> Result<LeaseAt, StoreFailed> {
    Ok(LeaseAt {
        epoch: counter(epoch)?,
        until,
    })
}

pub(crate) fn stage(text: &str) -> Result<Stage, StoreFailed> {
    Stage::parse(text).ok_or_else(|| corrupt("a work item is in an unknown state"))
}

pub(crate) fn work_at(
    state: &str,
    claim: i64,
    claimed_until: Option<i64>,
) -> Result<WorkAt, StoreFailed> {
    Ok(WorkAt {
        stage: stage(state)?,
        claim: counter(claim)?,
        claimed_until,
    })
}

/// The columns of `work` that make an item.
pub(crate) struct WorkColumns {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) order_key: Option<String>,
    pub(crate) due: i64,
}

impl TryFrom<WorkColumns> for WorkItem {
    type Error = StoreFailed;
    fn try_from(row: WorkColumns) -> Result<Self, StoreFailed> {
        Ok(WorkItem {
            id: work_id(&row.id)?,
            kind: WorkKind::parse(&row.kind)
                .ok_or_else(|| corrupt("a work item is of an unknown kind"))?,
            subject: row.subject,
            order_key: row.order_key,
            due: timestamp(row.due)?,
        })
    }
}

pub(crate) fn payload(
    address: PayloadAddress,
    class: &str,
    key: String,
    sealed: Vec<u8>,
) -> Result<SealedPayload, StoreFailed> {
    Ok(SealedPayload {
        address,
        class: payload_class(class)?,
        key,
        sealed,
    })
}

fn payload_class(text: &str) -> Result<PayloadClass, StoreFailed> {
    PayloadClass::ALL
        .into_iter()
        .find(|known| known.as_str() == text)
        .ok_or_else(|| corrupt("a payload is of an unknown class"))
}

/// A payload without its content.
pub(crate) fn payload_row(
    address: &[u8],
    class: &str,
    key: String,
    writeback: Option<String>,
    at: i64,
) -> Result<PayloadRow, StoreFailed> {
    Ok(PayloadRow {
        address: PayloadAddress::from_digest(digest(address)?),
        class: payload_class(class)?,
        key,
        writeback: writeback
            .map(|id| id.parse())
            .transpose()
            .map_err(|_| corrupt("a payload belongs to no write-back that could be"))?,
        at: timestamp(at)?,
    })
}

pub(crate) fn payload_count(
    class: &str,
    count: i64,
    oldest: i64,
) -> Result<PayloadCount, StoreFailed> {
    Ok(PayloadCount {
        class: payload_class(class)?,
        count: counter(count)?,
        oldest: timestamp(oldest)?,
    })
}

/// Where a listing of payloads goes on: behind this time and address.
pub(crate) fn payloads_after(listing: &PayloadListing) -> (i64, Vec<u8>) {
    match &listing.after {
        Some((at, address)) => (micros(*at), address.digest().as_bytes().to_vec()),
        None => (i64::MIN, Vec::new()),
    }
}

pub(crate) fn work_id(text: &str) -> Result<WorkId, StoreFailed> {
    text.parse().map_err(|_| corrupt("a work id is malformed"))
}

pub(crate) fn checkpoint(
    size: i64,
    root: &[u8],
    note: String,
    at: i64,
) -> Result<CheckpointRow, StoreFailed> {
    Ok(CheckpointRow {
        size: counter(size)?,
        root: digest(root)?,
        note,
        at: timestamp(at)?,
    })
}
