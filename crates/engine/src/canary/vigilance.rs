//! How many canaries were caught and missed, by row of the matrix and by whose attention was asked. Never by person.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::canary::{CanaryEnd, CanaryOutcome};
use chaperone_core::ids::{CanaryId, PersonId, PolicyId};
use chaperone_core::ports::{Listing, StoreFailed};
use chaperone_core::principal::Role;
use chaperone_core::writeback::{StateName, Writeback};
use serde::{Deserialize, Serialize};

use crate::context::Engine;
use crate::projection::{BY_STATE, WritebackRow, row_of};

/// Most of the newest that are counted.
const COUNTED_MAX: u32 = 1_000;

/// What lists know of a canary beside what they know of everything. Nothing of a person is shown from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryRow {
    /// Which of the list.
    pub(crate) canary: CanaryId,
    /// Whose attention it was for.
    pub(crate) pool: Role,
    /// Policies that determined its gate.
    pub(crate) rows: Vec<PolicyId>,
    /// Who decided, and whether they caught it; nothing while nobody has, and of what counts for nothing.
    pub(crate) decided: Option<(PersonId, bool)>,
}

impl CanaryRow {
    /// Of a canary; nothing of anything else.
    pub(crate) fn of(state: &Writeback) -> Option<Self> {
        let (mark, decided) = match state {
            Writeback::Canary(canary) => (canary.mark(), None),
            Writeback::CanarySettled(settled) => {
                let decided = match settled.outcome() {
                    CanaryOutcome::Missed(miss) => Some((miss.person, false)),
                    CanaryOutcome::Caught { person, .. } => Some((*person, true)),
                    CanaryOutcome::Withdrawn(
                        CanaryEnd::Changed { .. }
                        | CanaryEnd::Expired
                        | CanaryEnd::RulesChanged
                        | CanaryEnd::Mode
                        | CanaryEnd::Busy
                        | CanaryEnd::SwitchedOff,
                    ) => None,
                };
                (settled.mark(), decided)
            }
            _ => return None,
        };
        Some(Self {
            canary: mark.canary.clone(),
            pool: mark.pool,
            rows: state
                .ruled()
                .map(|ruled| ruled.ruling.determining.clone())
                .unwrap_or_default(),
            decided,
        })
    }
}

/// Attention of one pool on one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VigilanceRow {
    /// The row of the matrix, by its policy.
    pub row: PolicyId,
    /// Whose attention.
    pub pool: Role,
    /// How many were decided about.
    pub decided: u32,
    /// How many of them were caught, in percent; nothing while they are too few, or of too few people.
    pub caught_pct: Option<u8>,
    /// Whether that is less than the bundle asks for.
    pub is_low: bool,
}

#[derive(Default)]
struct Count {
    decided: u32,
    caught: u32,
    people: BTreeSet<PersonId>,
}

impl Engine {
    /// Those that are over, newest first.
    pub(super) async fn settled_canaries(&self) -> Result<Vec<WritebackRow>, StoreFailed> {
        let listing = Listing {
            index: Some(StateName::CanarySettled.as_str().to_owned()),
            descending: true,
            limit: COUNTED_MAX,
            ..Listing::default()
        };
        let tenant = &self.config.tenant;
        let records = self.store.projections(tenant, BY_STATE, listing).await?;
        records.iter().map(row_of).collect()
    }

    /// Attention by row and pool, over the newest canaries. What waits is not counted, and not hinted at.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn vigilance(&self) -> Result<Vec<VigilanceRow>, StoreFailed> {
        let mut counts: BTreeMap<(PolicyId, Role), Count> = BTreeMap::new();
        for row in self.settled_canaries().await? {
            let Some(canary) = row.canary else { continue };
            let Some((person, is_caught)) = canary.decided else {
                continue;
            };
            for policy in canary.rows {
                let count = counts.entry((policy, canary.pool)).or_default();
                count.decided = count.decided.saturating_add(1);
                count.caught = count.caught.saturating_add(u32::from(is_caught));
                count.people.insert(person);
            }
        }
        let rules = &self.canaries;
        Ok(counts
            .into_iter()
            .map(|((row, pool), count)| {
                let caught_pct = count.pct(rules.decided_min, rules.people_min);
                VigilanceRow {
                    row,
                    pool,
                    decided: count.decided,
                    caught_pct,
                    is_low: caught_pct.is_some_and(|pct| pct < rules.caught_pct_min),
                }
            })
            .collect())
    }
}

impl Count {
    /// The share that was caught, rounded down; nothing while it would say something of a person.
    fn pct(&self, decided_min: u32, people_min: u32) -> Option<u8> {
        let people = u32::try_from(self.people.len()).unwrap_or(u32::MAX);
        if self.decided < decided_min || people < people_min {
            return None;
        }
        let pct = u64::from(self.caught)
            .saturating_mul(100)
            .checked_div(u64::from(self.decided))?;
        u8::try_from(pct).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_that_of_many_decisions_of_several_people() {
        let count = |decided, caught, people: u8| Count {
            decided,
            caught,
            people: (0..people)
                .map(|n| PersonId::from_random([n; 16]))
                .collect(),
        };
        assert_eq!(count(20, 15, 3).pct(20, 3), Some(75));
        assert_eq!(count(19, 15, 3).pct(20, 3), None);
        assert_eq!(count(20, 15, 2).pct(20, 3), None);
        assert_eq!(count(200, 199, 5).pct(20, 3), Some(99));
        assert_eq!(count(0, 0, 0).pct(0, 0), None);
    }
}
