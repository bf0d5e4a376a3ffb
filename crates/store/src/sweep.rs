//! When expired records are removed. They count as absent the moment they expire, so removing them only
//! frees space: each commit that writes records with an end clears away a few of its tenant's that ended
//! long before. Decides how many and which; the adapters remove them.

use crate::plan::{Plan, RecordWrite};
use crate::rows::micros;

/// How long an expired record stays, in microseconds: an hour, far more than nodes' clocks differ, so
/// that no node misses a record that its own clock still holds for alive.
const KEPT_US: i64 = 3_600 * 1_000_000;

/// Removed per record written; more than one, so that an overhang shrinks.
const REMOVED_PER_RECORD: usize = 4;

/// Most records removed in one go.
const REMOVED_MAX: usize = 500;

/// What to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sweep {
    /// Records that expired at this time or earlier, in microseconds.
    pub(crate) expired: i64,
    /// At most this many.
    pub(crate) limit: i64,
}

/// What to remove along with these plans; `None` when none of them writes a record with an end.
pub(crate) fn sweep(plans: &[Plan<'_>]) -> Option<Sweep> {
    let written = plans
        .iter()
        .flat_map(|plan| &plan.records)
        .filter(
            |write| matches!(write, RecordWrite::Put { record, .. } if record.expires.is_some()),
        )
        .count();
    let now = plans.iter().map(|plan| micros(plan.commit.at)).min()?;
    let limit = written.saturating_mul(REMOVED_PER_RECORD).min(REMOVED_MAX);
    (limit > 0).then(|| Sweep {
        expired: now.saturating_sub(KEPT_US),
        limit: i64::try_from(limit).unwrap_or_default(),
    })
}
