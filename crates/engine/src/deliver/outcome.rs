//! What became of a send: recorded, looked up, or put before a human (invariant 5).

use chaperone_core::Timestamp;
use chaperone_core::content::holds_changes;
use chaperone_core::digest::Digest;
use chaperone_core::evidence::{Delivering, Strategy, WriteOrder};
use chaperone_core::gate::ProofLevel;
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::{
    Commit, EhrReadFailed, KeyVaultFailed, Notice, PayloadClass, Reconciliation, Version,
    WorkChange, WorkKind, WriteFailed, WriteReceipt,
};
use chaperone_core::together::EntryReceipt;
use chaperone_core::writeback::{
    Command, DeliveryReceipt, FailureCause, HumanNeeded, NotAppliedBasis, VoidReason, Writeback,
};
use serde_json::Value;

use super::checks::OrderUnusable;
use super::queue::{deferred, held, held_by, later};
use super::{ItemFailed, delivery};
use crate::afterwork::Piece;
use crate::context::Engine;
use crate::transition::{InHand, MoveFailed};
use crate::vault::VaultFailed;
use chaperone_core::ports::ClaimedWork;

/// After how long of failing to read back a human is asked, in seconds.
const READ_BACK_FAILS_S: i64 = 3_600;

impl Engine {
    /// The attempt was interrupted: nobody knows whether it was sent.
    pub(super) async fn lose(
        &self,
        mut hand: InHand,
        work: &ClaimedWork,
    ) -> Result<(), ItemFailed> {
        let now = self.now();
        hand.step(Command::LoseOutcome, now)?;
        let commit = self.commit_as(delivery());
        self.record_outcome(hand, commit, deferred(work, now, WorkKind::Reconcile))
            .await
    }

    /// The EHR says that the resource is no longer what the order was made from. Before that counts as somebody
    /// else's change it is looked up whether it is our own: the network may bring a message twice, and an earlier
    /// attempt may arrive late.
    pub(super) async fn stale_or_ours(
        &self,
        delivering: &Delivering,
    ) -> Result<WriteReceipt, WriteFailed> {
        match self.ehr.reconcile(delivering).await {
            Ok(Reconciliation::Applied(receipt)) => Ok(receipt),
            Ok(Reconciliation::Missing) => Err(WriteFailed::Stale),
            // Some of it, or more than once, is ours beyond doubt, and a person's to look at.
            Ok(Reconciliation::Undecidable(
                HumanNeeded::PartlyApplied | HumanNeeded::MoreThanOne,
            )) => Err(WriteFailed::Unknown),
            Ok(Reconciliation::Undecidable(_)) => {
                match self.may_be_ours(delivering.order()).await {
                    Ok(false) => Err(WriteFailed::Stale),
                    // It is a person who looks, then: an EHR that changes what it is given answers like that.
                    Ok(true) | Err(_) => Err(WriteFailed::Unknown),
                }
            }
            Err(_) => Err(WriteFailed::Unknown),
        }
    }

    /// Whether what we wanted to change is changed, though what stands there is not what we sent.
    async fn may_be_ours(&self, order: &WriteOrder) -> Result<bool, EhrReadFailed> {
        for change in order.changes() {
            let (Some(base), Some((_, id))) = (change.base, change.path.split_once('/')) else {
                continue;
            };
            let found = self.ehr.read(change.resource, id).await?;
            let read = |text: &str| serde_json::from_str::<Value>(text).ok();
            if let (Some(base), Some(sent)) = (read(base), read(change.body))
                && holds_changes(&base, &sent, &found)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds out what became of a send, by reading back.
    pub(super) async fn reconcile(
        &self,
        mut hand: InHand,
        work: &ClaimedWork,
    ) -> Result<(), ItemFailed> {
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
                let receipt = self
                    .receipt(&hand, &delivering, receipt, &mut commit)
                    .await?;
                if delivering.order().strategy == Strategy::EhrStaged {
                    return self.placed(hand, commit, receipt, work).await;
                }
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

    pub(super) fn dead_letter(&self, hand: &mut InHand, now: Timestamp) -> Result<(), MoveFailed> {
        hand.step(
            Command::DeadLetter {
                cause: FailureCause::ServerError,
            },
            now,
        )
    }

    pub(super) async fn ask_human(
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

    pub(super) async fn record_outcome(
        &self,
        mut hand: InHand,
        mut commit: Commit,
        change: WorkChange,
    ) -> Result<(), ItemFailed> {
        self.tell_patient_later(&hand, &mut commit);
        let row = hand.write_into(&mut commit)?;
        commit.work.push(change);
        self.store.commit(commit).await?;
        match hand.state {
            Writeback::DeadLetter(_) => self.tell_operator(hand.id, "dead-letter"),
            Writeback::Void(_) => self.tell_operator(hand.id, "void"),
            _ => {}
        }
        self.tell_approvers(&hand);
        self.after_consent(&hand).await;
        metrics::counter!("chaperone_deliveries_total", "state" => row.state.as_str()).increment(1);
        Ok(())
    }

    pub(super) async fn void(
        &self,
        mut hand: InHand,
        reason: VoidReason,
        work: &ClaimedWork,
    ) -> Result<(), ItemFailed> {
        hand.step(Command::Void { reason }, self.now())?;
        let commit = self.commit_as(delivery());
        self.record_outcome(hand, commit, self.completed(work))
            .await
    }

    pub(super) async fn receipt(
        &self,
        hand: &InHand,
        delivering: &Delivering,
        receipt: WriteReceipt,
        commit: &mut Commit,
    ) -> Result<DeliveryReceipt, ItemFailed> {
        let strategy = hand.state.ruled().map(|r| r.order.strategy);
        let shown = |read_back: &Option<Digest>, version: &Option<Version>| match (
            strategy, read_back, version,
        ) {
            (Some(Strategy::Conditional), Some(_), Some(_)) => ProofLevel::P3,
            (_, Some(_), _) => ProofLevel::P2,
            _ => ProofLevel::P1,
        };
        // Of several, what can be shown of each.
        let proof = receipt
            .also
            .iter()
            .map(|entry| shown(&entry.read_back, &entry.version))
            .fold(shown(&receipt.read_back, &receipt.version), ProofLevel::min);
        let salt = &delivering.order().salt;
        let salted = |content: Digest| Digest::salted(salt, content.as_bytes());
        let patient = hand.state.proposal().patient;
        let sealed = self
            .seal(PayloadClass::Clinical, patient, receipt.location.as_bytes())
            .await?;
        let location = sealed.address;
        commit.payloads.push(sealed);
        let mut also = Vec::with_capacity(receipt.also.len());
        for entry in receipt.also {
            let bytes = entry.location.as_bytes();
            let sealed = self.seal(PayloadClass::Clinical, patient, bytes).await?;
            also.push(EntryReceipt {
                location: sealed.address,
                read_back: entry.read_back.map(salted),
            });
            commit.payloads.push(sealed);
        }
        Ok(DeliveryReceipt {
            proof,
            location,
            read_back: receipt.read_back.map(salted),
            provenance_written: receipt.provenance_written,
            attested_by: None,
            also,
        })
    }

    pub(crate) fn tell_operator(&self, writeback: WritebackId, code: &str) {
        let notice = Notice::OperatorNeeded {
            writeback,
            code: code.to_owned(),
        };
        self.after(Piece::Notify(self.config.tenant.clone(), notice));
    }

    /// Whoever approved something believes that it happened: they are told when it did not.
    pub(crate) fn tell_approvers(&self, hand: &InHand) {
        let fell_through = matches!(hand.state, Writeback::Void(_) | Writeback::DeadLetter(_));
        let roles: std::collections::BTreeSet<_> =
            hand.state.approvals().iter().map(|a| a.role).collect();
        if fell_through && !roles.is_empty() {
            let notice = Notice::ApprovedNotDelivered {
                writeback: hand.id,
                roles: roles.into_iter().collect(),
            };
            self.after(Piece::Notify(self.config.tenant.clone(), notice));
        }
    }
}
