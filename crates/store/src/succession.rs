//! Who or what comes next: the next holder of a lease, the next checkpoint. Pure, shared by both
//! adapters, which load what stands and store the answer under one lock.

use chaperone_core::Timestamp;
use chaperone_core::ports::{Lease, LeaseRefused, StoreFailed};

use crate::plan::LeaseAt;
use crate::rows::{corrupt, micros, micros_after, timestamp};

/// A request for a lease.
#[derive(Debug, Clone)]
pub(crate) struct LeaseAsked {
    pub(crate) name: String,
    pub(crate) holder: String,
    pub(crate) now: Timestamp,
    pub(crate) ttl_ms: i64,
}

/// The lease to store, given who holds it.
pub(crate) fn lease_next(
    standing: Option<(&str, LeaseAt)>,
    asked: &LeaseAsked,
) -> Result<Lease, LeaseRefused> {
    let epoch = match standing {
        None => 1,
        Some((holder, lease)) if holder == asked.holder => lease.epoch,
        Some((_, lease)) if lease.until <= micros(asked.now) => lease.epoch + 1,
        Some((_, lease)) => {
            return Err(LeaseRefused::Held {
                until: timestamp(lease.until)?,
            });
        }
    };
    Ok(Lease {
        epoch,
        until: timestamp(micros_after(asked.now, asked.ttl_ms))?,
    })
}

/// Whether a checkpoint of `size` leaves may follow: false when the newest one is not the one the
/// caller started from.
pub(crate) fn checkpoint_follows(
    newest: Option<u64>,
    size_before: u64,
    size: u64,
) -> Result<bool, StoreFailed> {
    if newest.unwrap_or(0) != size_before {
        return Ok(false);
    }
    if size < size_before {
        return Err(corrupt("a checkpoint would shrink the tree"));
    }
    Ok(true)
}
