//! What is signed in the EHR: placed unsigned, looked at until somebody signed it, and then approved by that signature.
//!
//! ```text
//! sent or found unsigned ─▶ DraftPlaced; its work is done, so the patient's other writes go on
//!     every few seconds: still as it was placed ─▶ look again, until the time to sign is over ─▶ Voided
//!                        signed, and nothing else changed ─▶ is the signer one who may approve this? ─▶ Approved, Delivered
//!                        changed, taken away, signed by somebody else ─▶ Voided, and people are told
//! ```
//! The person who signs is the one whom the installation's settings name for the signer that the EHR reports: a
//! practitioner without an account here cannot approve anything, nor can an account without the role. Who signed, of
//! which content and when is the EHR's word, as its clock and its login are; that is what the strategy rests on.
//!
//! An order that nobody signed stays in the EHR as an unsigned draft. Chaperone does not take it away there: it says
//! so to people.
//!
//! # Source
//! FHIR R4, Provenance.signature. Requirement R033: by person, not by account.

use chaperone_core::Timestamp;
use chaperone_core::evidence::{ApprovalRecord, Delivering, Factor, Strategy};
use chaperone_core::gate::Gate;
use chaperone_core::ids::{WorkId, WritebackId};
use chaperone_core::ports::{
    ClaimedWork, Commit, EhrReadFailed, KeyVaultFailed, Reconciliation, Signature, StoreFailed,
    WorkChange, WorkItem, WorkKind, WriteReceipt,
};
use chaperone_core::principal::{Actor, Human, Role};
use chaperone_core::writeback::{
    AwaitingSignature, Command, DeliveryReceipt, Ready, Refusal, Unknown, VoidReason,
};

use super::checks::OrderUnusable;
use super::queue::later;
use super::{ItemFailed, delivery};
use crate::approve::{DecideFailed, granted};
use crate::context::Engine;
use crate::decision_support::unopened;
use crate::projection::WritebackRow;
use crate::transition::{InHand, MoveFailed};
use crate::vault::VaultFailed;

/// How long the wait between two looks is at first, in milliseconds, and at most.
const LOOK_MS: i64 = 2_000;
const LOOK_MS_MAX: i64 = 30_000;
/// One look for so many of the time that it has waited already.
const LOOK_ONE_IN: i64 = 20;

/// Why a signature is none that counts here.
enum NotCounted {
    Void(VoidReason),
    Failed(ItemFailed),
}

impl<E: Into<ItemFailed>> From<E> for NotCounted {
    fn from(failed: E) -> Self {
        NotCounted::Failed(failed.into())
    }
}

impl Engine {
    /// Whether an order that is to be signed in the EHR can still be signed in time.
    pub(super) fn can_be_signed(ready: &Ready, now: Timestamp) -> bool {
        let order = &ready.ruled().order;
        order.strategy != Strategy::EhrStaged || now <= order.approve_by
    }

    /// Records that the EHR has it unsigned: the patient's other writes go on, and somebody looks for the signature.
    pub(super) async fn placed(
        &self,
        mut hand: InHand,
        mut commit: Commit,
        receipt: DeliveryReceipt,
        work: &ClaimedWork,
    ) -> Result<(), ItemFailed> {
        let now = self.now();
        hand.step(Command::PlaceDraft { receipt }, now)?;
        commit.work.push(self.signature_awaited(hand.id, now));
        self.record_outcome(hand, commit, self.completed(work))
            .await
    }

    fn signature_awaited(&self, id: WritebackId, now: Timestamp) -> WorkChange {
        WorkChange::Enqueue(WorkItem {
            id: WorkId::from_random(self.random.id()),
            kind: WorkKind::Reconcile,
            subject: id.to_string(),
            order_key: None,
            due: later(now, LOOK_MS),
        })
    }

    /// A person says that a draft of unknown outcome is there. Nobody's word delivers it; it is looked for once more,
    /// and what is found as it was placed waits for its signature like any other.
    pub(crate) async fn draft_is_there(
        &self,
        by: &Human,
        mut hand: InHand,
        unknown: &Unknown,
    ) -> Result<WritebackRow, DecideFailed> {
        let delivering = self.reconciling(unknown.ready(), unknown.start()).await;
        let delivering = delivering.map_err(|failed| match failed {
            OrderUnusable::Differs => DecideFailed::NotAsPlaced,
            OrderUnusable::Vault(failed) => unopened(failed),
        })?;
        let found = match self.ehr.reconcile(&delivering).await {
            Ok(Reconciliation::Applied(receipt)) => receipt,
            Ok(Reconciliation::Missing | Reconciliation::Undecidable(_)) => {
                return Err(DecideFailed::NotAsPlaced);
            }
            Err(_) => return Err(DecideFailed::EhrAway),
        };
        let now = self.now();
        let mut commit = self.commit_as(Actor::from(by));
        let receipt = self.receipt(&hand, &delivering, found, &mut commit).await;
        let receipt = receipt.map_err(|failed| match failed {
            ItemFailed::Move(failed) => failed.into(),
            ItemFailed::Commit(failed) => failed.into(),
            ItemFailed::Vault(failed) => unopened(failed),
            ItemFailed::Keys(failed) => DecideFailed::Keys(failed),
        })?;
        hand.step(Command::PlaceDraft { receipt }, now)?;
        commit.work.push(self.signature_awaited(hand.id, now));
        let held = self.release_held(hand.id, &mut commit).await?;
        commit
            .work
            .extend(held.map(|id| WorkChange::Complete { id, claim: None }));
        self.finish(hand, commit).await
    }

    /// Looks once whether it is signed.
    pub(super) async fn look_for_signature(
        &self,
        hand: InHand,
        waiting: &AwaitingSignature,
        work: &ClaimedWork,
    ) -> Result<(), ItemFailed> {
        let now = self.now();
        let delivering = match self.reconciling(waiting.ready(), waiting.start()).await {
            Ok(delivering) => delivering,
            // What was placed cannot be opened any more, so nothing can be compared with it.
            Err(
                OrderUnusable::Differs
                | OrderUnusable::Vault(
                    VaultFailed::Missing
                    | VaultFailed::Sealed
                    | VaultFailed::Keys(KeyVaultFailed::Destroyed),
                ),
            ) => {
                return self.void(hand, VoidReason::DigestMismatch, work).await;
            }
            Err(OrderUnusable::Vault(failed)) => return Err(failed.into()),
        };
        let location = self.unseal(&waiting.placed().location).await?;
        let location = String::from_utf8_lossy(&location);
        match self.ehr.signature(&delivering, &location).await {
            Ok(Signature::Awaited) if now > waiting.sign_by() => {
                self.void(hand, VoidReason::NotSigned, work).await
            }
            Ok(Signature::Awaited) => self.defer(work, look_ms(waiting, now), None).await,
            Ok(Signature::Changed) => {
                self.void(hand, VoidReason::ChangedBeforeSigning, work)
                    .await
            }
            // Its time is over by the EHR's own clock, whatever ours says.
            Ok(Signature::Given { at, .. }) if at > waiting.sign_by() => {
                self.void(hand, VoidReason::NotSigned, work).await
            }
            Ok(Signature::Declined) => self.void(hand, VoidReason::DeclinedAtEhr, work).await,
            Ok(Signature::Given {
                signer,
                at,
                receipt,
            }) => {
                // A clock that is a little ahead of ours does not make a signature one of tomorrow.
                let given = (signer.as_str(), at.min(now));
                self.signed(hand, waiting, given, (&delivering, receipt), work)
                    .await
            }
            // Whether it was signed in time is seen when the EHR answers again.
            Err(EhrReadFailed::Unavailable | EhrReadFailed::RateLimited) => {
                self.defer(work, self.backoff_ms(super::LOOK_AGAIN), None)
                    .await
            }
            Err(failed) => {
                tracing::warn!(writeback = %hand.id, error = %failed, "a signature cannot be looked for");
                if now > waiting.sign_by() {
                    return self.void(hand, VoidReason::NotSigned, work).await;
                }
                self.defer(work, LOOK_MS_MAX, None).await
            }
        }
    }

    async fn signed(
        &self,
        mut hand: InHand,
        waiting: &AwaitingSignature,
        given: (&str, Timestamp),
        (delivering, receipt): (&Delivering, WriteReceipt),
        work: &ClaimedWork,
    ) -> Result<(), ItemFailed> {
        let now = self.now();
        let mut commit = self.commit_as(delivery());
        let counted = async {
            let record = self.approval_by(waiting, given).await?;
            let approval = granted(record);
            let approve = Command::Approve {
                approval: &approval,
            };
            match hand.step(approve, now) {
                Ok(()) => {}
                Err(MoveFailed::Refused(Refusal::ApprovalExpired)) => {
                    return Err(NotCounted::Void(VoidReason::NotSigned));
                }
                Err(MoveFailed::Refused(_)) => {
                    return Err(NotCounted::Void(VoidReason::SignerNotPermitted));
                }
                Err(failed) => return Err(failed.into()),
            }
            let receipt = self
                .receipt(&hand, delivering, receipt, &mut commit)
                .await?;
            hand.step(Command::ConfirmSigned { receipt }, now)?;
            Ok(())
        };
        match counted.await {
            Ok(()) => {
                self.record_outcome(hand, commit, self.completed(work))
                    .await
            }
            Err(NotCounted::Void(reason)) => {
                let hand = self.take_in_hand(hand.id).await?;
                self.void(hand, reason, work).await
            }
            Err(NotCounted::Failed(failed)) => Err(failed),
        }
    }

    /// The signature as an approval of the person who signed, under the role that lets them.
    async fn approval_by(
        &self,
        waiting: &AwaitingSignature,
        (signer, at): (&str, Timestamp),
    ) -> Result<ApprovalRecord, NotCounted> {
        let not_permitted = NotCounted::Void(VoidReason::SignerNotPermitted);
        let Some(human) = self.signer(signer).await? else {
            return Err(not_permitted);
        };
        let ruled = waiting.ready().ruled();
        let Some(role) = role_of(&ruled.ruling.gate, &human) else {
            return Err(not_permitted);
        };
        let in_training = human.is_in_training();
        Ok(ApprovalRecord {
            digest: ruled.order.digest,
            person: human.person,
            account: human.account,
            role,
            factor: Factor::EhrSignature { at },
            at: self.now(),
            review_ms: 0,
            override_reason: None,
            in_training,
        })
    }

    /// The person behind a signer of the EHR, while they have an account here that is in use.
    async fn signer(&self, signer: &str) -> Result<Option<Human>, StoreFailed> {
        let Some(name) = self.config.signers.get(signer) else {
            return Ok(None);
        };
        let account = self.stored_account(name).await?;
        Ok(account
            .map(|(account, _)| account)
            .filter(|account| account.password.is_some() && !account.disabled)
            .map(|account| account.human()))
    }
}

/// Long waits are looked at less often.
fn look_ms(waiting: &AwaitingSignature, now: Timestamp) -> i64 {
    let waited_ms = now.duration_since(waiting.since()).as_millis();
    let waited_ms = i64::try_from(waited_ms).unwrap_or(i64::MAX);
    let until_end_ms = waiting.sign_by().duration_since(now).as_millis();
    let until_end_ms = i64::try_from(until_end_ms).unwrap_or(i64::MAX);
    (waited_ms / LOOK_ONE_IN)
        .clamp(LOOK_MS, LOOK_MS_MAX)
        .min(until_end_ms.saturating_add(1).max(1))
}

fn role_of(gate: &Gate, human: &Human) -> Option<Role> {
    match gate {
        Gate::Approve { roles } | Gate::Approve2f { roles } => {
            roles.iter().copied().find(|role| human.holds(*role))
        }
        _ => None,
    }
}
