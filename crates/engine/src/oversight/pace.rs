//! How fast one person approves, over all their accounts: too many or too fast, and they pause.
//!
//! ```text
//! approval ─▶ pausing? ──────────────▶ refused, the others who may decide are told   (urgent: passes, operators told)
//!        └──▶ too many or too fast? ─▶ the pause begins, recorded with their account, and the same
//!        └──▶ counted
//! ```
//! Saying no is never held up. The times are Chaperone's own: from when it made the page to when the form came.
//!
//! # Source
//! Requirement R103 and the approver's escalator of the write-back matrix: more than 20 approvals in 5 minutes, or a
//! median review of less than 3 seconds.

use chaperone_core::Timestamp;
use chaperone_core::change::ChangeClass;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::WritebackId;
use chaperone_core::oversight::{OversightEvent, PaceLimit};
use chaperone_core::ports::{
    Commit, Expected, Notice, Record, RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, Human};
use serde::{Deserialize, Serialize};

use super::follow::{parsed, written};
use super::rules::{APPROVALS_MAX, Pace};
use crate::afterwork::Piece;
use crate::approve::DecideFailed;
use crate::context::{Engine, after};

/// What is remembered of each person. Authoritative, and short-lived.
const PACE: &str = "pace";

/// One person's latest approvals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Approvals {
    /// When, and how many milliseconds after the page was made; oldest first.
    latest: Vec<(Timestamp, u64)>,
    until: Option<Timestamp>,
}

impl Approvals {
    /// Which limit one more passes, with how many count and their median.
    fn take(
        &mut self,
        pace: &Pace,
        now: Timestamp,
        review_ms: u64,
    ) -> Option<(PaceLimit, u32, u64)> {
        self.latest
            .retain(|(at, _)| now.duration_since(*at).as_secs() < pace.within_s);
        self.latest.push((now, review_ms));
        let kept = usize::try_from(APPROVALS_MAX).unwrap_or(usize::MAX);
        let too_many = self.latest.len().saturating_sub(kept);
        self.latest.drain(..too_many);
        let count = u32::try_from(self.latest.len()).unwrap_or(u32::MAX);
        let median = self.median();
        if count > pace.approvals_max {
            Some((PaceLimit::TooMany, count, median))
        } else if count >= pace.median_of_min && median < pace.median_ms_min {
            Some((PaceLimit::TooFast, count, median))
        } else {
            None
        }
    }

    fn median(&self) -> u64 {
        let mut times: Vec<u64> = self.latest.iter().map(|(_, ms)| *ms).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }
}

/// What an approval at this pace leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paced {
    /// It passes.
    Passes,
    /// It passes because it is urgent, and operators are told.
    PassesUrgent,
}

impl Engine {
    /// Counts an approval in the commit that makes it, or refuses it while the person pauses.
    ///
    /// # Errors
    /// [`DecideFailed::Pause`]; the others who may decide are to be told then.
    pub(crate) async fn pace(
        &self,
        by: &Human,
        class: ChangeClass,
        (changes, review_ms): (u32, u64),
        commit: &mut Commit,
    ) -> Result<Paced, DecideFailed> {
        let rules = &self.oversight.pace;
        let now = self.now();
        let key = RecordKey::new(PACE, by.person);
        let record = self.store.record(&self.config.tenant, &key, now).await?;
        let mut approvals: Approvals = match &record {
            Some(record) => parsed(record)?,
            None => Approvals::default(),
        };
        let is_urgent = class >= rules.urgent_from;
        if let Some(until) = approvals.until.filter(|until| now < *until) {
            return match is_urgent {
                true => Ok(Paced::PassesUrgent),
                false => Err(DecideFailed::Pause { until }),
            };
        }
        approvals.until = None;
        // Each change counts; the first limit that is passed is told.
        let mut passed = None;
        for _ in 0..changes {
            passed = passed.or(approvals.take(rules, now, review_ms));
        }
        let Some((limit, count, median_ms)) = passed else {
            commit
                .records
                .push(self.kept(by, &approvals, record.as_ref())?);
            return Ok(Paced::Passes);
        };
        let until = after(now, rules.pause_s);
        // After the pause the counting begins anew.
        let pausing = Approvals {
            latest: Vec::new(),
            until: Some(until),
        };
        let change = self.kept(by, &pausing, record.as_ref())?;
        let event = Event::Oversight(OversightEvent::Paused {
            limit,
            approvals: count,
            median_ms,
            until,
        });
        let stream = StreamId::Account(by.account.clone());
        if is_urgent {
            commit.records.push(change);
            commit.append(stream, Expected::Any, event);
            return Ok(Paced::PassesUrgent);
        }
        let mut told = self.commit_as(Actor::from(by));
        told.records.push(change);
        told.append(stream, Expected::Any, event);
        self.store.commit(told).await?;
        Err(DecideFailed::Pause { until })
    }

    fn kept(
        &self,
        by: &Human,
        approvals: &Approvals,
        known: Option<&Record>,
    ) -> Result<RecordChange, StoreFailed> {
        let rules = &self.oversight.pace;
        let record = Record::new(PACE, by.person, written(approvals)?)
            .expiring(after(self.now(), rules.within_s.max(rules.pause_s)));
        Ok(match known {
            Some(known) => RecordChange::Update(record, known.revision),
            None => RecordChange::Create(record),
        })
    }

    /// Tells operators that something urgent was approved by somebody who should pause.
    pub(crate) fn tell_of_urgent(&self, writeback: WritebackId) {
        let notice = Notice::OperatorNeeded {
            writeback,
            code: "urgent-approved-while-pausing".to_owned(),
        };
        self.after(Piece::Notify(self.config.tenant.clone(), notice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace {
            within_s: 300,
            approvals_max: 20,
            median_of_min: 10,
            median_ms_min: 3_000,
            pause_s: 300,
            urgent_from: ChangeClass::M4,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// Which limit each approval passes; every one as many seconds after the last.
    fn limits(every_s: i64, review_ms: &[u64]) -> Vec<Option<PaceLimit>> {
        let mut approvals = Approvals::default();
        review_ms
            .iter()
            .zip(0..)
            .map(|(ms, n)| {
                let passed = approvals.take(&pace(), at(n * every_s), *ms);
                passed.map(|(limit, ..)| limit)
            })
            .collect()
    }

    #[test]
    fn the_limits_are_passed_at_their_number_and_not_before() {
        let careful = limits(10, &[5_000; 21]);
        assert!(careful.iter().take(20).all(Option::is_none));
        assert_eq!(careful[20], Some(PaceLimit::TooMany));
        let hasty = limits(10, &[2_999; 10]);
        assert!(hasty.iter().take(9).all(Option::is_none));
        assert_eq!(hasty[9], Some(PaceLimit::TooFast));
        assert!(limits(10, &[3_000; 10]).iter().all(Option::is_none));
    }

    #[test]
    fn a_few_quick_ones_among_slow_ones_and_a_steady_pace_pass() {
        let mixed = [500, 500, 500, 500, 4_000, 4_000, 4_000, 4_000, 4_000, 4_000];
        assert!(limits(10, &mixed).iter().all(Option::is_none));
        // Never more than twenty in five minutes.
        assert!(limits(15, &[5_000; 100]).iter().all(Option::is_none));
        assert!(limits(14, &[5_000; 100]).iter().any(Option::is_some));
    }
}
