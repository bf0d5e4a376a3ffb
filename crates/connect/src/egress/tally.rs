//! What the ledger is told about what leaves: each kind when it first happens, and then how often, so that neither
//! ordinary traffic nor a flood can fill it. A node that dies loses the counts since they were last told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chaperone_core::Timestamp;
use chaperone_core::egress::{Channel, DataClass, EgressCount, EgressRefusal, EgressRule};
use chaperone_core::ids::{Region, VendorId};

/// Kinds that are told apart; further ones are counted under no vendor.
const KINDS_MAX: usize = 1_024;
/// How long passages of a kind are counted before the ledger is told again, in seconds: a day. The stream of
/// AuditEvents is a passage too and tells what it is told, so anything short would keep itself going.
const PASSED_EVERY_S: i64 = 24 * 3_600;
/// The same for refusals: an hour.
const REFUSED_EVERY_S: i64 = 3_600;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    channel: Channel,
    class: DataClass,
    vendor: Option<(VendorId, Option<Region>)>,
    rule: Option<EgressRule>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    count: u64,
    since: Timestamp,
    told: Option<Timestamp>,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<Kind, Seen>>);

impl Tally {
    pub(super) fn passed(
        &self,
        (channel, class): (Channel, DataClass),
        vendor: VendorId,
        region: Region,
        now: Timestamp,
    ) {
        let kind = Kind {
            channel,
            class,
            vendor: Some((vendor, Some(region))),
            rule: None,
        };
        self.add(kind, 1, now);
    }

    /// Counts a refusal and says whether it is the first of its kind.
    pub(super) fn refused(&self, refusal: &EgressRefusal, now: Timestamp) -> bool {
        let kind = Kind {
            channel: refusal.channel,
            class: refusal.class,
            vendor: refusal.vendor.clone().map(|vendor| (vendor, None)),
            rule: Some(refusal.rule),
        };
        self.add(kind, 1, now)
    }

    fn add(&self, mut kind: Kind, count: u64, since: Timestamp) -> bool {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() >= KINDS_MAX && kind.rule.is_some() && !kinds.contains_key(&kind) {
            kind.vendor = None;
        }
        let is_new = !kinds.contains_key(&kind);
        let seen = kinds.entry(kind).or_insert(Seen {
            count: 0,
            since,
            told: None,
        });
        if seen.count == 0 {
            seen.since = since;
        }
        seen.since = seen.since.min(since);
        seen.count = seen.count.saturating_add(count);
        is_new
    }

    /// Takes what is due to be told.
    pub(super) fn due(&self, now: Timestamp, all: bool) -> Vec<EgressCount> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        for (kind, seen) in kinds.iter_mut().filter(|(_, seen)| seen.count > 0) {
            let every_s = match kind.rule {
                None => PASSED_EVERY_S,
                Some(_) => REFUSED_EVERY_S,
            };
            // A clock that was set back tells too.
            let is_early = seen
                .told
                .is_some_and(|told| (0..every_s).contains(&now.duration_since(told).as_secs()));
            if is_early && !all {
                continue;
            }
            due.push(EgressCount {
                channel: kind.channel,
                class: kind.class,
                vendor: kind.vendor.clone(),
                rule: kind.rule,
                count: std::mem::take(&mut seen.count),
                since: seen.since,
            });
            seen.told = Some(now);
        }
        due
    }

    /// Takes back what could not be told.
    pub(super) fn take_back(&self, counts: Vec<EgressCount>) {
        for taken in counts {
            let kind = Kind {
                channel: taken.channel,
                class: taken.class,
                vendor: taken.vendor,
                rule: taken.rule,
            };
            self.add(kind.clone(), taken.count, taken.since);
            let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(seen) = kinds.get_mut(&kind) {
                seen.told = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_at_once_and_then_counted_and_nothing_is_lost() {
        let at = |s: i64| Timestamp::from_second(1_800_000_000 + s).unwrap();
        let tally = Tally::default();
        let refusal = EgressRefusal {
            channel: Channel::Webhook,
            class: DataClass::Operational,
            vendor: None,
            rule: EgressRule::DestinationUnknown,
        };
        assert!(tally.refused(&refusal, at(0)));
        assert!(!tally.refused(&refusal, at(1)));
        let told = tally.due(at(1), false);
        assert_eq!((told[0].count, told[0].since), (2, at(0)));
        assert_eq!(tally.due(at(2), false), []);
        tally.refused(&refusal, at(3));
        tally.refused(&refusal, at(4));
        assert_eq!(tally.due(at(3_600), false), []);
        let told = tally.due(at(3_601), false);
        assert_eq!((told[0].count, told[0].since), (2, at(3)));
        // The ledger could not be written: it comes again, with what came in between.
        tally.refused(&refusal, at(3_602));
        tally.take_back(told);
        let again = tally.due(at(3_603), false);
        assert_eq!((again[0].count, again[0].since), (3, at(3)));
        // Before a stop, everything is told.
        tally.refused(&refusal, at(3_604));
        assert_eq!(tally.due(at(3_605), false), []);
        assert_eq!(tally.due(at(3_605), true)[0].count, 1);
    }
}
