//! Delivery: the only place that sends (invariant 3).
//!
//! One attempt, as a timeline. Every commit is durable before the next line.
//! ```text
//! claim work ─▶ load, check mode, consent, authority, deadline, digest
//!            ─▶ commit DeliveryStarted, guarded by stream version, modes and epoch
//!            ─▶ send once
//!            ─▶ commit Delivered | NotApplied | Unknown | Voided | DeadLettered
//! ```
//! A crash before `DeliveryStarted` changes nothing. A crash after it leaves `Delivering`: the next
//! worker cannot know whether the send happened, records `OutcomeUnknown`, and reconciles before
//! anything else (invariant 5). There is no function that sends from `Delivering` or `Unknown`.

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::StreamId;
use chaperone_core::evidence::{Delivering, Strategy, WriteOrder};
use chaperone_core::ids::WritebackId;
use chaperone_core::mode::ModeSubject;
use chaperone_core::ports::{
    Claim, ClaimedWork, Commit, CommitFailed, ConsentDecision, ConsentQuestion, EhrReadFailed,
    Guard, KeyVaultFailed, LeaseRefused, Notice, PayloadClass, Reconciliation, Record,
    RecordChange, StoreFailed, WorkChange, WorkKind, WriteFailed, WriteReceipt,
};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_core::writeback::{
    Command, DeliveryReceipt, DeliveryStart, FailureCause, HumanNeeded, InDelivery,
    NotAppliedBasis, Ready, VoidReason, Writeback,
};

use crate::afterwork::Piece;
use crate::context::Engine;
use crate::order::complete_provenance;
use crate::transition::{InHand, MoveFailed};
use crate::vault::VaultFailed;

/// Collection of the work items that wait for a human, by write-back.
pub(crate) const HELD: &str = "held_work";
/// Name of the lease that the one writing region holds.
const WRITER_LEASE: &str = "writer";
/// How long the writer's lease lives, in milliseconds.
const LEASE_MS: i64 = 15_000;
/// How long a held mode waits before it looks again, in milliseconds.
const HELD_BY_MODE_MS: i64 = 2_000;
/// After how long of failing to read back a human is asked, in seconds.
const READ_BACK_FAILS_S: i64 = 3_600;
/// Work claimed at once.
const CLAIM_MAX: u32 = 16;

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

/// Why an order cannot be turned into a delivery.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderUnusable {
    #[error("the stored order is not what was approved")]
    Differs,
    #[error(transparent)]
    Vault(#[from] VaultFailed),
}

impl Engine {
    /// Claims due work and advances each item by one step. Returns how many items were claimed.
    ///
    /// # Errors
    /// [`DeliverFailed`] when no work could be claimed at all.
    pub async fn deliver_due(&self, worker: &str) -> Result<usize, DeliverFailed> {
        let tenant = &self.config.tenant;
        let now = self.now();
        let lease = self
            .store
            .lease(tenant, WRITER_LEASE, &self.config.node, now, LEASE_MS)
            .await?;
        let claimed = self
            .store
            .claim_due(Claim {
                worker: worker.to_owned(),
                now,
                lease_ms: self.config.claim_ms,
                limit: CLAIM_MAX,
            })
            .await?;
        let count = claimed.len();
        let items = claimed
            .into_iter()
            .filter(|work| work.tenant == *tenant)
            .map(|work| self.advance(work, lease.epoch));
        futures::future::join_all(items).await;
        if count > 0 {
            self.announce_change();
        }
        Ok(count)
    }

    async fn advance(&self, work: ClaimedWork, epoch: u64) {
        let Ok(id) = work.item.subject.parse::<WritebackId>() else {
            tracing::error!(work = %work.item.id, "a work item names no write-back");
            return;
        };
        let advanced = match work.item.kind {
            WorkKind::Expire => self.expire_one(id, &work).await.map_err(ItemFailed::from),
            WorkKind::Deliver | WorkKind::Reconcile => {
                self.advance_delivery(id, &work, epoch).await
            }
        };
        if let Err(failed) = advanced {
            // The claim runs out and the item is claimed again; what was durable decides what happens.
            tracing::warn!(writeback = %id, error = %failed, "a work item did not advance");
            metrics::counter!("chaperone_work_failures_total").increment(1);
        }
    }

    async fn advance_delivery(
        &self,
        id: WritebackId,
        work: &ClaimedWork,
        epoch: u64,
    ) -> Result<(), ItemFailed> {
        let hand = self.take_in_hand(id).await?;
        match hand.state.clone() {
            Writeback::Ready(ready) => self.deliver(hand, &ready, work, epoch).await,
            // A human entry waits for its attestation; anything else was interrupted.
            Writeback::Delivering(s)
                if s.ready().ruled().order.strategy == Strategy::HumanEntry =>
            {
                self.hold(id, work).await
            }
            Writeback::Delivering(_) => self.lose(hand, work).await,
            Writeback::Unknown(unknown) if unknown.human_needed().is_some() => {
                self.hold(id, work).await
            }
            Writeback::Unknown(_) => self.reconcile(hand, work).await,
            _ => self.complete(work).await,
        }
    }

    async fn deliver(
        &self,
        mut hand: InHand,
        ready: &Ready,
        work: &ClaimedWork,
        epoch: u64,
    ) -> Result<(), ItemFailed> {
        let now = self.now();
        let (modes, modes_version) = self.modes().await?;
        let proposal = &ready.ruled().proposal;
        let subject = ModeSubject {
            agent: Some(&proposal.agent),
            intent: Some(&proposal.intent),
            resource: Some(&ready.ruled().change.resource),
            ehr: Some(&proposal.connection),
        };
        if let Some(reason) = self.void_reason(ready, now).await {
            return self.void(hand, reason, work).await;
        }
        if !modes.effective(subject).delivers() {
            return self.defer(work, HELD_BY_MODE_MS, None).await;
        }
        let order = match self.approved_order(ready).await {
            Ok(order) => order,
            Err(OrderUnusable::Differs) => {
                return self.void(hand, VoidReason::DigestMismatch, work).await;
            }
            Err(OrderUnusable::Vault(failed)) => return Err(failed.into()),
        };
        let digest = ready.ruled().order.digest;
        let attempt = ready.attempts().saturating_add(1);
        let start = DeliveryStart {
            digest,
            attempt,
            epoch,
        };
        hand.step(Command::StartDelivery { start }, now)?;
        let mut commit = self.commit_as(delivery());
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
            commit.records.push(held_by(hand.id, work)?);
            self.store.commit(commit).await?;
            self.tell_operator(hand.id, "human-entry");
            return Ok(());
        }
        self.store.commit(commit).await?;
        let delivering = begin(order, digest, attempt);
        self.send(hand, &delivering, work).await
    }

    /// Sends once and records what became of it.
    async fn send(
        &self,
        mut hand: InHand,
        delivering: &Delivering,
        work: &ClaimedWork,
    ) -> Result<(), ItemFailed> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one site that writes to an EHR (invariant 3)"
        )]
        let sent = self.ehr.write(delivering).await;
        let now = self.now();
        let mut commit = self.commit_as(delivery());
        let change = match sent {
            Ok(receipt) => {
                let receipt = self.receipt(&hand, receipt, &mut commit).await?;
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

    /// The attempt was interrupted: nobody knows whether it was sent.
    async fn lose(&self, mut hand: InHand, work: &ClaimedWork) -> Result<(), ItemFailed> {
        let now = self.now();
        hand.step(Command::LoseOutcome, now)?;
        let commit = self.commit_as(delivery());
        self.record_outcome(hand, commit, deferred(work, now, WorkKind::Reconcile))
            .await
    }

    /// Finds out what became of a send, by reading back.
    async fn reconcile(&self, mut hand: InHand, work: &ClaimedWork) -> Result<(), ItemFailed> {
        let Writeback::Unknown(unknown) = hand.state.clone() else {
            return Ok(());
        };
        let now = self.now();
        let delivering = match self.reconciling(unknown.ready(), unknown.start()).await {
            Ok(delivering) => delivering,
            // What was sent cannot be opened any more, so nothing can be compared with it.
            Err(OrderUnusable::Vault(
                VaultFailed::Missing
                | VaultFailed::Sealed
                | VaultFailed::Keys(KeyVaultFailed::Destroyed),
            )) => {
                return self.ask_human(hand, HumanNeeded::ReadBackFails, work).await;
            }
            Err(OrderUnusable::Vault(failed)) => return Err(failed.into()),
            Err(OrderUnusable::Differs) => {
                return self
                    .ask_human(hand, HumanNeeded::ContentDiffers, work)
                    .await;
            }
        };
        let waited = now.duration_since(unknown.since());
        match self.ehr.reconcile(&delivering).await {
            Ok(Reconciliation::Applied(receipt)) => {
                let mut commit = self.commit_as(delivery());
                let receipt = self.receipt(&hand, receipt, &mut commit).await?;
                match hand.step(Command::FindApplied { receipt }, now) {
                    Ok(()) => {
                        self.record_outcome(hand, commit, self.completed(work))
                            .await
                    }
                    Err(MoveFailed::Refused(_)) => {
                        self.ask_human(hand, HumanNeeded::ContentDiffers, work)
                            .await
                    }
                    Err(failed) => Err(failed.into()),
                }
            }
            Ok(Reconciliation::Missing) => {
                let settle_ms = self.ehr.profile().settle_ms;
                if waited.as_millis() < i128::from(settle_ms) {
                    return self.defer(work, settle_ms, Some(WorkKind::Reconcile)).await;
                }
                let retry_at = later(now, self.backoff_ms(unknown.start().attempt));
                let basis = NotAppliedBasis::MissAfterSettle;
                hand.step(Command::FindNotApplied { basis, retry_at }, now)?;
                let mut change = deferred(work, retry_at, WorkKind::Deliver);
                if unknown.start().attempt >= chaperone_core::writeback::DELIVERY_ATTEMPTS_MAX {
                    self.dead_letter(&mut hand, now)?;
                    change = self.completed(work);
                }
                let commit = self.commit_as(delivery());
                self.record_outcome(hand, commit, change).await
            }
            Ok(Reconciliation::Undecidable(reason)) => self.ask_human(hand, reason, work).await,
            Err(EhrReadFailed::Unavailable | EhrReadFailed::RateLimited)
                if waited.as_secs() < READ_BACK_FAILS_S =>
            {
                let attempt = unknown.start().attempt.saturating_add(3);
                self.defer(work, self.backoff_ms(attempt), Some(WorkKind::Reconcile))
                    .await
            }
            Err(_) => self.ask_human(hand, HumanNeeded::ReadBackFails, work).await,
        }
    }

    fn dead_letter(&self, hand: &mut InHand, now: Timestamp) -> Result<(), MoveFailed> {
        hand.step(
            Command::DeadLetter {
                cause: FailureCause::ServerError,
            },
            now,
        )
    }

    async fn ask_human(
        &self,
        mut hand: InHand,
        reason: HumanNeeded,
        work: &ClaimedWork,
    ) -> Result<(), ItemFailed> {
        hand.step(Command::AskHuman { reason }, self.now())?;
        self.tell_operator(hand.id, "unknown-outcome");
        let mut commit = self.commit_as(delivery());
        commit.records.push(held_by(hand.id, work)?);
        self.record_outcome(hand, commit, held(work)).await
    }

    async fn record_outcome(
        &self,
        mut hand: InHand,
        mut commit: Commit,
        change: WorkChange,
    ) -> Result<(), ItemFailed> {
        let row = hand.write_into(&mut commit)?;
        commit.work.push(change);
        self.store.commit(commit).await?;
        if matches!(hand.state, Writeback::DeadLetter(_)) {
            self.tell_operator(hand.id, "dead-letter");
        }
        metrics::counter!("chaperone_deliveries_total", "state" => row.state.as_str()).increment(1);
        Ok(())
    }

    async fn void(
        &self,
        mut hand: InHand,
        reason: VoidReason,
        work: &ClaimedWork,
    ) -> Result<(), ItemFailed> {
        hand.step(Command::Void { reason }, self.now())?;
        self.tell_operator(hand.id, "void");
        let commit = self.commit_as(delivery());
        self.record_outcome(hand, commit, self.completed(work))
            .await
    }

    /// Why a ready order must not be sent any more. Consent is asked again here, at send time.
    async fn void_reason(&self, ready: &Ready, now: Timestamp) -> Option<VoidReason> {
        if now > ready.deliver_by() || approval_ran_out(ready, now) {
            return Some(VoidReason::DeliverBy);
        }
        let ruled = ready.ruled();
        let proposal = &ruled.proposal;
        let intent = self
            .bundle
            .agent(&proposal.agent)
            .filter(|agent| agent.intents.contains(&proposal.intent))
            .and_then(|_| self.bundle.intent(&proposal.intent));
        let Some(intent) = intent else {
            return Some(VoidReason::AuthorityChanged);
        };
        if ruled.ruling.bundle != *self.bundle.digest() {
            return Some(VoidReason::AuthorityChanged);
        }
        let question = ConsentQuestion {
            tenant: self.config.tenant.clone(),
            environment: self.ehr.environment(),
            patient: proposal.patient,
            intent: intent.id.clone(),
            purpose: intent.purpose_of_use.clone(),
            resource: ruled.change.resource.clone(),
            write: true,
        };
        match self.consent.decide(question).await {
            ConsentDecision::Permit { .. } => None,
            ConsentDecision::Deny { .. } => Some(VoidReason::Consent),
        }
    }

    /// The order as approved: the stored bytes must have the approved digest.
    async fn approved_order(&self, ready: &Ready) -> Result<WriteOrder, OrderUnusable> {
        let reference = &ready.ruled().order;
        let bytes = self.unseal(&reference.address).await?;
        let order: WriteOrder =
            serde_json::from_slice(&bytes).map_err(|_| OrderUnusable::Differs)?;
        let is_approved = Digest::of_bytes(&bytes) == reference.digest
            && order.writeback == ready.ruled().proposal.id
            && order.tenant == self.config.tenant
            && order.connection == *self.ehr.connection()
            && order.endpoint == self.ehr.endpoint();
        if !is_approved {
            return Err(OrderUnusable::Differs);
        }
        let provenance = complete_provenance(&order, ready.approvals());
        Ok(WriteOrder {
            provenance,
            ..order
        })
    }

    /// What an attempt under way was sending, for attesting it.
    pub(crate) async fn delivering_again(
        &self,
        in_delivery: &InDelivery,
    ) -> Result<Delivering, OrderUnusable> {
        self.reconciling(in_delivery.ready(), in_delivery.start())
            .await
    }

    async fn reconciling(
        &self,
        ready: &Ready,
        start: &DeliveryStart,
    ) -> Result<Delivering, OrderUnusable> {
        let order = self.approved_order(ready).await?;
        Ok(begin(order, start.digest, start.attempt))
    }

    async fn receipt(
        &self,
        hand: &InHand,
        receipt: WriteReceipt,
        commit: &mut Commit,
    ) -> Result<DeliveryReceipt, ItemFailed> {
        use chaperone_core::gate::ProofLevel;
        let strategy = hand.state.ruled().map(|r| r.order.strategy);
        let proof = match (strategy, &receipt.read_back, &receipt.version) {
            (Some(Strategy::Conditional), Some(_), Some(_)) => ProofLevel::P3,
            (_, Some(_), _) => ProofLevel::P2,
            _ => ProofLevel::P1,
        };
        let patient = hand.state.proposal().patient;
        let sealed = self
            .seal(PayloadClass::Clinical, patient, receipt.location.as_bytes())
            .await?;
        let location = sealed.address;
        commit.payloads.push(sealed);
        Ok(DeliveryReceipt {
            proof,
            location,
            read_back: receipt.read_back,
            provenance_written: receipt.provenance_written,
            attested_by: None,
        })
    }

    async fn complete(&self, work: &ClaimedWork) -> Result<(), ItemFailed> {
        self.change_work(self.completed(work)).await
    }

    async fn hold(&self, id: WritebackId, work: &ClaimedWork) -> Result<(), ItemFailed> {
        let mut commit = self.commit_as(delivery());
        commit.work.push(held(work));
        commit.records.push(held_by(id, work)?);
        self.store.commit(commit).await?;
        Ok(())
    }

    async fn defer(
        &self,
        work: &ClaimedWork,
        wait_ms: i64,
        kind: Option<WorkKind>,
    ) -> Result<(), ItemFailed> {
        let due = later(self.now(), wait_ms);
        let claim = Some(work.claim);
        self.change_work(WorkChange::Defer {
            id: work.item.id,
            claim,
            due,
            kind,
        })
        .await
    }

    async fn change_work(&self, change: WorkChange) -> Result<(), ItemFailed> {
        let mut commit = self.commit_as(delivery());
        commit.work.push(change);
        self.store.commit(commit).await?;
        Ok(())
    }

    fn completed(&self, work: &ClaimedWork) -> WorkChange {
        WorkChange::Complete {
            id: work.item.id,
            claim: Some(work.claim),
        }
    }

    /// Exponential, with full jitter in the upper half.
    fn backoff_ms(&self, attempt: u32) -> i64 {
        let doubled = self
            .config
            .backoff_ms
            .saturating_mul(1_i64 << attempt.saturating_sub(1).min(20))
            .clamp(1, self.config.backoff_ms_max.max(1));
        let mut random = [0; 8];
        self.random.fill(&mut random);
        let half = doubled / 2;
        half.saturating_add((u64::from_be_bytes(random) % (half.unsigned_abs() + 1)) as i64)
    }

    fn tell_operator(&self, writeback: WritebackId, code: &str) {
        let notice = Notice::OperatorNeeded {
            writeback,
            code: code.to_owned(),
        };
        self.after(Piece::Notify(self.config.tenant.clone(), notice));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one site: DeliveryStarted is durable"
)]
fn begin(order: WriteOrder, digest: Digest, attempt: u32) -> Delivering {
    Delivering::begin(order, digest, attempt)
}

fn delivery() -> Actor {
    Actor::System {
        part: SystemPart::Delivery,
    }
}

/// Whether what humans approved has waited longer than they were told it may. Putting a dead letter
/// back into the queue does not make an approval younger.
pub(crate) fn approval_ran_out(ready: &Ready, now: Timestamp) -> bool {
    let within_ms = ready.ruled().order.deliver_within_s.saturating_mul(1_000);
    let approved = ready.approvals().iter().map(|approval| approval.at).max();
    approved.is_some_and(|at| now > later(at, within_ms))
}

fn held(work: &ClaimedWork) -> WorkChange {
    WorkChange::Hold {
        id: work.item.id,
        claim: Some(work.claim),
    }
}

/// Names the work item that waits for a human, so that their decision finds it whatever else waits.
fn held_by(id: WritebackId, work: &ClaimedWork) -> Result<RecordChange, StoreFailed> {
    let value =
        serde_json::to_value(work.item.id).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
    Ok(RecordChange::Put(Record::new(HELD, id, value)))
}

fn deferred(work: &ClaimedWork, due: Timestamp, kind: WorkKind) -> WorkChange {
    WorkChange::Defer {
        id: work.item.id,
        claim: Some(work.claim),
        due,
        kind: Some(kind),
    }
}

fn later(now: Timestamp, wait_ms: i64) -> Timestamp {
    now.checked_add(jiff::SignedDuration::from_millis(wait_ms))
        .unwrap_or(Timestamp::MAX)
}
