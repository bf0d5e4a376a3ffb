//! Delivery: the only place that sends (invariant 3).
//!
//! One attempt, as a timeline. Every commit is durable before the next line.
//! ```text
//! claim work ─▶ load, check mode, consent, authority, deadline, digest; look again at what it rests on;
//!               `traffic`: does the EHR take anything at present?
//!            ─▶ commit DeliveryStarted, guarded by stream version, modes and epoch
//!            ─▶ look whether lease and claim still hold (`fence`), send once
//!            ─▶ commit Delivered | NotApplied | Unknown | Voided | DeadLettered
//! ```
//! A crash before `DeliveryStarted` changes nothing. A crash after it leaves `Delivering`: the next
//! worker cannot know whether the send happened, records `OutcomeUnknown`, and reconciles before
//! anything else (invariant 5). There is no function that sends from `Delivering` or `Unknown`.

mod checks;
mod fence;
mod notice;
mod outcome;
mod queue;
mod signature;
mod traffic;

use std::pin::Pin;
use std::task::Poll;

use chaperone_core::Timestamp;
use chaperone_core::change::Change;
use chaperone_core::digest::Digest;
use chaperone_core::event::StreamId;
use chaperone_core::evidence::{Delivering, Strategy, WriteOrder};
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::{
    Claim, ClaimedWork, CommitFailed, Guard, Lane, LeaseRefused, StoreFailed, WorkKind,
    WriteFailed, WriteReceipt,
};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_core::resource::Interaction;
use chaperone_core::writeback::{
    Command, DeliveryStart, FailureCause, HumanNeeded, Ready, VoidReason, Writeback,
};
use futures::stream::{FuturesUnordered, StreamExt};

use self::checks::sends_until;
pub(crate) use self::checks::{OrderUnusable, approval_ran_out};
pub(crate) use self::fence::Fence;
use self::fence::TakenUp;
use self::queue::{deferred, held, held_by, later};
pub(crate) use self::traffic::Traffic;
use self::traffic::{Leave, places};
pub use self::traffic::{SendKind, Sending};
use crate::consent::SendConsent;
use crate::context::Engine;
use crate::transition::{InHand, MoveFailed};
use crate::vault::VaultFailed;

/// Collection of the work items that wait for a human, by write-back.
pub(crate) const HELD: &str = "held_work";
/// Name of the lease that the one writing region holds.
const WRITER_LEASE: &str = "writer";
/// Which step of the back-off an EHR gets that did not say whether an order still holds.
const LOOK_AGAIN: u32 = 4;
/// How long an order waits for a conformance report before it looks again, in milliseconds.
const HELD_BY_CONFORMANCE_MS: i64 = 5_000;
/// How long a held mode waits before it looks again, in milliseconds.
const HELD_BY_MODE_MS: i64 = 2_000;
/// Items under way at once, in each lane.
const LANE_MAX: usize = 16;

/// Why a delivery run stopped. What was claimed is claimed again later.
#[derive(Debug, thiserror::Error)]
pub enum DeliverFailed {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// Another node writes.
    #[error(transparent)]
    Lease(#[from] LeaseRefused),
}

/// Why one item did not advance.
#[derive(Debug, thiserror::Error)]
enum ItemFailed {
    #[error(transparent)]
    Move(#[from] MoveFailed),
    #[error(transparent)]
    Commit(#[from] CommitFailed),
    #[error(transparent)]
    Vault(#[from] VaultFailed),
    #[error(transparent)]
    Keys(#[from] chaperone_core::ports::KeyVaultFailed),
}

impl From<StoreFailed> for ItemFailed {
    fn from(failed: StoreFailed) -> Self {
        ItemFailed::Move(failed.into())
    }
}

/// Deliveries under way, at most [`LANE_MAX`] in each lane. Writes for one patient keep their order,
/// because the store gives out one of them at a time; what needs no order has places of its own.
#[derive(Default)]
pub struct UnderWay<'e> {
    ordered: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send + 'e>>>,
    free: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send + 'e>>>,
}

impl<'e> UnderWay<'e> {
    fn lane(
        &mut self,
        lane: Lane,
    ) -> &mut FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send + 'e>>> {
        match lane {
            Lane::Ordered => &mut self.ordered,
            Lane::Free => &mut self.free,
        }
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.ordered.len().saturating_add(self.free.len())
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until one of them has ended; forever when there is none. May be dropped and called again.
    pub async fn next(&mut self) {
        // Both are looked at each time, so that neither holds the other up, and always in the same order, so
        // that the same history gives the same result.
        std::future::poll_fn(|context| {
            let ordered = self.ordered.poll_next_unpin(context);
            let free = self.free.poll_next_unpin(context);
            match (ordered, free) {
                (Poll::Ready(Some(())), _) | (_, Poll::Ready(Some(()))) => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
    }

    /// Waits for something else and lets them go on meanwhile. Each may hold a connection of the store in the
    /// middle of a transaction; left alone while the store is asked for another, they would keep it for ever.
    async fn beside<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                biased;
                done = &mut other => return done,
                () = self.next() => {}
            }
        }
    }

    /// Waits until all of them have ended.
    pub async fn finish(&mut self) {
        while !self.is_empty() {
            self.next().await;
        }
    }
}

impl Engine {
    /// Claims due work and advances each item by one step, to the end. Returns how many items were
    /// claimed.
    ///
    /// # Errors
    /// [`DeliverFailed`] when no work could be claimed at all.
    pub async fn deliver_due(&self, worker: &str) -> Result<usize, DeliverFailed> {
        let mut under_way = UnderWay::default();
        let started = self.start_due(worker, &mut under_way).await?;
        under_way.finish().await;
        Ok(started)
    }

    /// Starts what is due, as far as there are places, and returns how many items that were. Whoever
    /// calls polls them by [`UnderWay::next`], and calls again when one has ended or time has passed:
    /// an EHR that is slow about one item then holds nobody else up.
    ///
    /// # Errors
    /// [`DeliverFailed`] when no work could be claimed; what is under way goes on.
    pub async fn start_due<'e>(
        &'e self,
        worker: &str,
        under_way: &mut UnderWay<'e>,
    ) -> Result<usize, DeliverFailed> {
        let now = self.now();
        let lease = self.store.lease(
            &self.config.tenant,
            WRITER_LEASE,
            &self.config.node,
            now,
            self.config.lease_ms,
        );
        let lease = under_way.beside(lease).await?;
        self.fence.renewed(&lease);
        let taken_up = TakenUp::new(lease.epoch, now, self.config.claim_ms);
        let mut started = 0_usize;
        for lane in [Lane::Free, Lane::Ordered] {
            let limits = (LANE_MAX, self.config.deliveries_under_way_max);
            let in_all = under_way.len();
            let places = places(lane, under_way.lane(lane).len(), in_all, limits);
            if places == 0 {
                continue;
            }
            let claimed = self.store.claim_due(Claim {
                tenant: self.config.tenant.clone(),
                lane: Some(lane),
                worker: worker.to_owned(),
                now,
                lease_ms: self.config.claim_ms,
                limit: u32::try_from(places).unwrap_or(0),
            });
            let claimed = under_way.beside(claimed).await?;
            started = started.saturating_add(claimed.len());
            for work in claimed {
                under_way
                    .lane(lane)
                    .push(Box::pin(self.advance(work, taken_up)));
            }
        }
        metrics::gauge!("chaperone_deliveries_under_way").set(under_way.len() as f64);
        Ok(started)
    }

    async fn advance(&self, work: ClaimedWork, taken_up: TakenUp) {
        let Ok(id) = work.item.subject.parse::<WritebackId>() else {
            tracing::error!(work = %work.item.id, "a work item names no write-back");
            return;
        };
        let advanced = match work.item.kind {
            WorkKind::Expire => self.expire_one(id, &work).await.map_err(ItemFailed::from),
            WorkKind::Deliver | WorkKind::Reconcile => {
                self.advance_delivery(id, &work, taken_up).await
            }
        };
        if let Err(failed) = advanced {
            // The claim runs out and the item is claimed again; what was durable decides what happens.
            tracing::warn!(writeback = %id, error = %failed, "a work item did not advance");
            metrics::counter!("chaperone_work_failures_total").increment(1);
        }
        self.announce_change();
    }

    async fn advance_delivery(
        &self,
        id: WritebackId,
        work: &ClaimedWork,
        taken_up: TakenUp,
    ) -> Result<(), ItemFailed> {
        let hand = self.take_in_hand(id).await?;
        match hand.state.clone() {
            Writeback::Ready(ready) => self.deliver(hand, &ready, work, taken_up).await,
            // A human entry waits for its attestation; anything else was interrupted.
            Writeback::Delivering(s)
                if s.ready().ruled().order.strategy == Strategy::HumanEntry =>
            {
                self.hold_entry(id, s.ready().deliver_by(), work).await
            }
            Writeback::Delivering(_) => self.lose(hand, work).await,
            Writeback::AwaitingSignature(waiting) => {
                self.look_for_signature(hand, &waiting, work).await
            }
            Writeback::Unknown(unknown) if unknown.human_needed().is_some() => {
                self.hold(id, work).await
            }
            Writeback::Unknown(_) => self.reconcile(hand, work).await,
            // Also what was undone before its mail left: it was there.
            Writeback::Delivered(_) | Writeback::Compensated(_) => {
                self.tell_patient(hand, work).await
            }
            _ => self.complete(work).await,
        }
    }

    async fn deliver(
        &self,
        mut hand: InHand,
        ready: &Ready,
        work: &ClaimedWork,
        taken_up: TakenUp,
    ) -> Result<(), ItemFailed> {
        let epoch = taken_up.epoch;
        let now = self.now();
        let (modes, modes_version) = self.modes().await?;
        if let Some(reason) = self.void_reason(ready, now).await {
            return self.void(hand, reason, work).await;
        }
        if !Self::can_be_signed(ready, now) {
            return self.void(hand, VoidReason::NotSigned, work).await;
        }
        if !ready
            .ruled()
            .touched()
            .all(|it| modes.effective(it).delivers())
        {
            return self.defer(work, HELD_BY_MODE_MS, None).await;
        }
        let Some(shown) = self.may_send(ready).await? else {
            return self.defer(work, HELD_BY_CONFORMANCE_MS, None).await;
        };
        let ruled = ready.ruled();
        // Of several, changing something is what may fail as an update does.
        let updates = |it: &Change| it.interaction == Interaction::Update;
        let interaction = match ruled.changes().any(updates) {
            true => Interaction::Update,
            false => ruled.change.interaction,
        };
        let leave = match SendKind::of(ruled.order.strategy, interaction) {
            None => None,
            Some(kind) => match self.traffic.leave(kind, self.config.breaker, now) {
                Ok(leave) => Some(leave),
                Err(until) => return self.defer_until(work, until).await,
            },
        };
        let order = match self.approved_order(ready).await {
            Ok(order) => order,
            Err(OrderUnusable::Differs) => {
                return self.void(hand, VoidReason::DigestMismatch, work).await;
            }
            Err(OrderUnusable::Vault(failed)) => return Err(failed.into()),
        };
        // What was shown of whole resources shows nothing of patches, nor the other way round.
        let is_shown = order.changes().all(|change| {
            change.patch.is_some() == shown.of(change.resource, change.interaction).patch
        });
        if !is_shown {
            tracing::warn!(
                writeback = %hand.id,
                "an approved order waits: updates were shown to go in another way"
            );
            return self.defer(work, HELD_BY_CONFORMANCE_MS, None).await;
        }
        match self.consent_at_send(ready, &order).await {
            SendConsent::Holds => {}
            SendConsent::Withdrawn => return self.void(hand, VoidReason::Consent, work).await,
            SendConsent::Unread => {
                return self.defer(work, self.backoff_ms(LOOK_AGAIN), None).await;
            }
            SendConsent::NotYet(wait_ms) => return self.defer(work, wait_ms, None).await,
        }
        match self.still_holds(&order).await {
            Ok(true) => {}
            Ok(false) => return self.void(hand, VoidReason::Stale, work).await,
            Err(failed) => {
                tracing::info!(writeback = %hand.id, error = %failed, "what an order rests on cannot be read now");
                return self.defer(work, self.backoff_ms(LOOK_AGAIN), None).await;
            }
        }
        // What was asked took its time: what would start now must still be in time.
        let now = self.now();
        if now > sends_until(ready) {
            return self.void(hand, VoidReason::DeliverBy, work).await;
        }
        let digest = ready.ruled().order.digest;
        let attempt = ready.attempts().saturating_add(1);
        let start = DeliveryStart {
            digest,
            attempt,
            epoch,
        };
        hand.step(Command::StartDelivery { start }, now)?;
        let mut commit = self.commit_as(delivery());
        commit.at = now;
        commit.guards.push(Guard::StreamAt {
            stream: StreamId::Modes,
            version: modes_version,
        });
        commit.guards.push(Guard::Epoch {
            lease: WRITER_LEASE.to_owned(),
            epoch,
        });
        hand.write_into(&mut commit)?;
        if order.strategy == Strategy::HumanEntry {
            commit.work.push(held(work));
            commit
                .work
                .push(self.entry_ends(hand.id, ready.deliver_by()));
            commit.records.push(held_by(hand.id, work)?);
            self.store.commit(commit).await?;
            self.tell_operator(hand.id, "human-entry");
            return Ok(());
        }
        self.store.commit(commit).await?;
        // Without a report nothing came this far; what the report does not show is not used, whatever is claimed.
        let is_atomic = order
            .changes()
            .all(|change| shown.of(change.resource, change.interaction).atomic);
        let delivering = begin(order, digest, attempt).shown_atomic(is_atomic);
        let taken_up = taken_up.ending_by(sends_until(ready));
        self.send(hand, &delivering, work, taken_up, leave).await
    }

    /// Sends once.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one site that writes to an EHR (invariant 3)"
    )]
    async fn write_before(
        &self,
        delivering: &Delivering,
        until: Timestamp,
    ) -> Result<WriteReceipt, WriteFailed> {
        self.ehr.write(&delivering.clone().before(until)).await
    }

    /// Sends once and records what became of it.
    async fn send(
        &self,
        mut hand: InHand,
        delivering: &Delivering,
        work: &ClaimedWork,
        taken_up: TakenUp,
        leave: Option<Leave<'_>>,
    ) -> Result<(), ItemFailed> {
        let sent = match self.fence.open_until(taken_up, self.now()) {
            Some(until) => {
                let sent = self.write_before(delivering, until).await;
                if let Some(leave) = leave {
                    leave.told(&sent, self.ehr.rests_until(), self.now());
                }
                sent
            }
            None => {
                tracing::warn!(writeback = %hand.id, "a send came too late: lease or claim has run out");
                Err(not_sent())
            }
        };
        // A server says the same when its own answer was lost on the way and the message came twice.
        let sent = match sent {
            Err(WriteFailed::Stale) => self.stale_or_ours(delivering).await,
            sent => sent,
        };
        let now = self.now();
        let mut commit = self.commit_as(delivery());
        let change = match sent {
            Ok(receipt) => {
                let receipt = self
                    .receipt(&hand, delivering, receipt, &mut commit)
                    .await?;
                if delivering.order().strategy == Strategy::EhrStaged {
                    return self.placed(hand, commit, receipt, work).await;
                }
                hand.step(
                    Command::ConfirmDelivery {
                        delivering,
                        receipt,
                    },
                    now,
                )
                .map(|()| self.completed(work))
            }
            Err(WriteFailed::NotApplied {
                cause,
                retry_after_ms,
            }) => {
                let wait_ms = self
                    .backoff_ms(delivering.attempt())
                    .max(retry_after_ms.unwrap_or(0));
                let retry_at = later(now, wait_ms);
                hand.step(Command::FailDelivery { cause, retry_at }, now)?;
                Ok(match hand.state {
                    Writeback::DeadLetter(_) => self.completed(work),
                    _ => deferred(work, retry_at, WorkKind::Deliver),
                })
            }
            Err(WriteFailed::Stale) => {
                hand.step(
                    Command::Void {
                        reason: VoidReason::Stale,
                    },
                    now,
                )?;
                Ok(self.completed(work))
            }
            Err(WriteFailed::Unknown) => {
                hand.step(Command::LoseOutcome, now)?;
                Ok(deferred(work, now, WorkKind::Reconcile))
            }
        };
        let change = match change {
            Ok(change) => change,
            // It was sent, but what can be shown is less than its row accepts: a human must look.
            Err(MoveFailed::Refused(_)) => {
                hand.step(Command::LoseOutcome, now)?;
                hand.step(
                    Command::AskHuman {
                        reason: HumanNeeded::ContentDiffers,
                    },
                    now,
                )?;
                commit.records.push(held_by(hand.id, work)?);
                held(work)
            }
            Err(failed) => return Err(failed.into()),
        };
        self.record_outcome(hand, commit, change).await
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one site: DeliveryStarted is durable"
)]
fn begin(order: WriteOrder, digest: Digest, attempt: u32) -> Delivering {
    Delivering::begin(order, digest, attempt)
}

/// Nothing left this node.
fn not_sent() -> WriteFailed {
    WriteFailed::NotApplied {
        cause: FailureCause::Unreachable,
        retry_after_ms: None,
    }
}

pub(crate) fn delivery() -> Actor {
    Actor::System {
        part: SystemPart::Delivery,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_under_way_goes_on_while_the_store_is_asked() {
        let (give_back, connection) = tokio::sync::oneshot::channel();
        let mut under_way = UnderWay::default();
        under_way.free.push(Box::pin(async move {
            let _ = give_back.send("connection");
        }));
        assert_eq!(under_way.beside(connection).await, Ok("connection"));
    }
}
