//! How much may be on its way to the EHR, and when nothing is: one breaker for each kind of operation, and a
//! bound on deliveries under way.
//!
//! Not here: what a send proves (the adapter's), how a breaker thinks (`core::breaker`), when an order is tried
//! again. What may not be sent stays in the queue with its attempts unspent, and the health page says why.
//!
//! All of it is this node's own memory. Only the node with the writer's lease sends, so nobody else needs it; a
//! node that takes over starts with closed breakers and learns for itself.
//!
//! # Source
//! Requirement R129: what cannot be done now is queued for later rather than tried in vain.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chaperone_core::Timestamp;
use chaperone_core::breaker::{Breaker, BreakerRules, BreakerState, Heard, Pass, Ticket};
use chaperone_core::evidence::Strategy;
use chaperone_core::ports::{Lane, WriteFailed, WriteReceipt};
use chaperone_core::resource::Interaction;
use chaperone_core::writeback::FailureCause;

use super::queue::later;

/// How long an EHR that asks to slow down and does not say for how long is left alone, in milliseconds.
const REST_MS: i64 = 1_000;

/// Of the places for deliveries, one in so many is kept for what waits for nothing: safety flags and opt-outs.
const KEPT_FREE_ONE_IN: usize = 4;

/// A kind of operation; one that fails says little about the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SendKind {
    /// Resources are made.
    Create,
    /// Resources are changed.
    Update,
    /// An operation of the EHR's own is called.
    Operation,
}

impl SendKind {
    /// Every kind.
    pub const ALL: [SendKind; 3] = [SendKind::Create, SendKind::Update, SendKind::Operation];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            SendKind::Create => "create",
            SendKind::Update => "update",
            SendKind::Operation => "operation",
        }
    }

    /// What an order is sent as; nothing when a person enters it.
    pub(super) fn of(strategy: Strategy, interaction: Interaction) -> Option<Self> {
        match (strategy, interaction) {
            (Strategy::HumanEntry, _) => None,
            (Strategy::VendorOp, _) => Some(SendKind::Operation),
            (_, Interaction::Create) => Some(SendKind::Create),
            (_, Interaction::Update | Interaction::Delete) => Some(SendKind::Update),
        }
    }
}

/// How one kind of operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    /// The kind.
    pub kind: SendKind,
    /// Its breaker.
    pub state: BreakerState,
    /// Until when the EHR asked to be left alone, if that is still to come.
    pub rests_until: Option<Timestamp>,
}

impl Sending {
    /// Whether anything of this kind is held back.
    pub fn holds_back(&self) -> bool {
        self.rests_until.is_some() || !matches!(self.state, BreakerState::Closed { .. })
    }

    /// The value of the metric: 0 closed, 1 half-open, 2 open, 3 left alone as the EHR asked.
    fn figure(&self) -> f64 {
        match (self.rests_until, self.state) {
            (Some(_), _) => 3.0,
            (None, BreakerState::Open { .. }) => 2.0,
            (None, BreakerState::HalfOpen { .. }) => 1.0,
            (None, BreakerState::Closed { .. }) => 0.0,
        }
    }
}

/// The breakers of one connection.
#[derive(Debug, Default)]
pub(crate) struct Traffic(Mutex<BTreeMap<SendKind, Breaker>>);

/// Leave to send once. Dropped without a word, nothing was sent.
#[derive(Debug)]
pub(super) struct Leave<'t> {
    traffic: &'t Traffic,
    rules: BreakerRules,
    kind: SendKind,
    ticket: Ticket,
    at: Timestamp,
    told: bool,
}

impl Traffic {
    /// Leave to send, or when to ask again.
    pub(super) fn leave(
        &self,
        kind: SendKind,
        rules: BreakerRules,
        now: Timestamp,
    ) -> Result<Leave<'_>, Timestamp> {
        match self.with(kind, now, |breaker| breaker.pass(&rules, now)) {
            Pass::Wait { until } => Err(until),
            Pass::Go(ticket) => Ok(Leave {
                traffic: self,
                rules,
                kind,
                ticket,
                at: now,
                told: false,
            }),
        }
    }

    /// The EHR asked to be left alone: that concerns everything sent to it.
    fn rest(&self, until: Timestamp, now: Timestamp) {
        for kind in SendKind::ALL {
            self.with(kind, now, |breaker| breaker.rest(until, now));
        }
    }

    /// How every kind stands.
    pub(crate) fn standing(&self, now: Timestamp) -> Vec<Sending> {
        let breakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        SendKind::ALL
            .into_iter()
            .map(|kind| {
                let breaker = breakers.get(&kind).cloned().unwrap_or_default();
                Sending {
                    kind,
                    state: breaker.state(),
                    rests_until: breaker.rests_until(now),
                }
            })
            .collect()
    }

    fn with<T>(&self, kind: SendKind, now: Timestamp, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let breaker = breakers.entry(kind).or_default();
        let before = breaker.state();
        let done = act(breaker);
        let sending = Sending {
            kind,
            state: breaker.state(),
            rests_until: breaker.rests_until(now),
        };
        drop(breakers);
        metrics::gauge!("chaperone_ehr_sending_state", "operation" => kind.as_str())
            .set(sending.figure());
        let opened = |state: BreakerState| matches!(state, BreakerState::Open { .. });
        if opened(sending.state) && !opened(before) {
            metrics::counter!("chaperone_ehr_sending_stopped_total", "operation" => kind.as_str())
                .increment(1);
            tracing::warn!("the EHR fails: nothing of one kind is sent for a while");
        }
        done
    }
}

impl Leave<'_> {
    /// Says what came of the send.
    pub(super) fn told(
        mut self,
        sent: &Result<WriteReceipt, WriteFailed>,
        rests_until: Option<Timestamp>,
        now: Timestamp,
    ) {
        let mut rest = rests_until;
        let heard = match sent {
            Ok(_) | Err(WriteFailed::Stale) => Heard::Answered,
            Err(WriteFailed::NotApplied {
                cause,
                retry_after_ms,
            }) => match cause {
                FailureCause::RateLimited => {
                    rest = rest.max(Some(later(now, retry_after_ms.unwrap_or(REST_MS))));
                    Heard::Answered
                }
                FailureCause::Rejected | FailureCause::Unauthorized => Heard::Answered,
                FailureCause::Unreachable | FailureCause::ServerError => Heard::Failed,
            },
            Err(WriteFailed::Unknown) => Heard::Failed,
        };
        self.told = true;
        let (rules, ticket) = (self.rules, self.ticket);
        self.traffic.with(self.kind, now, |breaker| {
            breaker.ended(&rules, ticket, heard, now);
        });
        if let Some(until) = rest {
            self.traffic.rest(until, now);
        }
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if !self.told {
            let (rules, ticket, at) = (self.rules, self.ticket, self.at);
            self.traffic.with(self.kind, at, |breaker| {
                breaker.ended(&rules, ticket, Heard::Nothing, at);
            });
        }
    }
}

/// How many more may be started in a lane, so that never more than `under_way_max` are under way and what waits
/// for nothing finds a place even when everything else hangs.
pub(super) fn places(lane: Lane, in_lane: usize, in_all: usize, limits: (usize, usize)) -> usize {
    let (lane_max, under_way_max) = limits;
    let kept_free = (under_way_max / KEPT_FREE_ONE_IN).max(1);
    let of_lane = match lane {
        Lane::Free => lane_max,
        Lane::Ordered => lane_max.min(under_way_max.saturating_sub(kept_free).max(1)),
    };
    of_lane
        .saturating_sub(in_lane)
        .min(under_way_max.saturating_sub(in_all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_some_are_kept_for_what_waits_for_nothing() {
        let of = |lane, in_lane, in_all, max| places(lane, in_lane, in_all, (16, max));
        // As many as there are lanes' places.
        assert_eq!(of(Lane::Ordered, 0, 0, 32), 16);
        assert_eq!(of(Lane::Free, 0, 16, 32), 16);
        // Fewer: three of four for what is in order, and the last one stays.
        assert_eq!(of(Lane::Ordered, 0, 0, 4), 3);
        assert_eq!(of(Lane::Ordered, 3, 3, 4), 0);
        assert_eq!(of(Lane::Free, 0, 3, 4), 1);
        assert_eq!(of(Lane::Free, 1, 4, 4), 0);
        assert_eq!(of(Lane::Ordered, 0, 4, 4), 0);
        assert_eq!(of(Lane::Ordered, 0, 0, 2), 1);
    }
}
