//! What may happen next: commands with their evidence, decided against the current state.

use std::collections::BTreeSet;

use super::DELIVERY_ATTEMPTS_MAX;
use super::entries::{class_of_all, covers_each};
use super::event::{
    DeliveryReceipt, DeliveryStart, FailureCause, HumanNeeded, NotAppliedBasis, OrderRef,
    QuarantineReason, RefusedBy, VoidReason, WritebackEvent,
};
use super::state::{AwaitingApproval, AwaitingSignature, Ruled, StateName, Writeback};
use crate::Timestamp;
use crate::canary::{CanaryEnd, CanaryMiss};
use crate::change::{Change, Unclassifiable};
use crate::digest::PayloadAddress;
use crate::evidence::{Approval, ApprovalRecord, Conformant, Delivering, Factor, Ruling, Strategy};
use crate::facts::Facts;
use crate::gate::{Gate, ProofLevel};
use crate::ids::{PersonId, WritebackId};
use crate::together::EntryValidated;
use crate::verification::{Verification, VerificationRecord};

/// What somebody wants to happen to a write-back.
#[derive(Debug)]
pub enum Command<'a> {
    /// Record that the merged result is valid.
    Validate {
        /// The evidence.
        conformant: &'a Conformant,
        /// What the change is; of several, the first.
        change: Change,
        /// Of several changes that are decided as one: each of them, in order. Empty for a single change.
        entries: Vec<EntryValidated>,
    },
    /// Record the ruling and the order.
    Rule {
        /// The evidence.
        ruling: &'a Ruling,
        /// The order.
        order: OrderRef,
    },
    /// Establish the facts its gate names.
    Verify {
        /// Everything known.
        facts: &'a Facts,
        /// What was verified since the ruling.
        evidence: &'a [Verification],
    },
    /// Approve.
    Approve {
        /// The evidence.
        approval: &'a Approval,
    },
    /// End it before it is ready.
    Refuse {
        /// By whom or what.
        refused: RefusedBy,
    },
    /// Invalidate an approved order.
    Void {
        /// Why.
        reason: VoidReason,
    },
    /// Start an attempt.
    StartDelivery {
        /// What is about to be recorded.
        start: DeliveryStart,
    },
    /// Record that the EHR has it.
    ConfirmDelivery {
        /// The evidence that an attempt was under way.
        delivering: &'a Delivering,
        /// What can be shown.
        receipt: DeliveryReceipt,
    },
    /// Record that the EHR has it unsigned, sent just now or found there.
    PlaceDraft {
        /// What can be shown.
        receipt: DeliveryReceipt,
    },
    /// Record that the EHR has it signed.
    ConfirmSigned {
        /// What the signed version can show.
        receipt: DeliveryReceipt,
    },
    /// Record that the attempt did not take effect.
    FailDelivery {
        /// Why.
        cause: FailureCause,
        /// Not before.
        retry_at: Timestamp,
    },
    /// Record that the outcome is not known.
    LoseOutcome,
    /// Reconciling found the effect.
    FindApplied {
        /// What can be shown.
        receipt: DeliveryReceipt,
    },
    /// Reconciling found no effect.
    FindNotApplied {
        /// How that is known.
        basis: NotAppliedBasis,
        /// Not before.
        retry_at: Timestamp,
    },
    /// Reconciling cannot decide.
    AskHuman {
        /// Why.
        reason: HumanNeeded,
    },
    /// Stop trying: every attempt that is allowed was made.
    DeadLetter {
        /// The last cause.
        cause: FailureCause,
    },
    /// Put a dead letter back.
    Requeue {
        /// The operator.
        person: PersonId,
        /// Their reason.
        reason: PayloadAddress,
    },
    /// Give up a dead letter, or an entry by hand that nobody will make.
    Abandon {
        /// The operator, or who was to enter it.
        person: PersonId,
        /// Their reason.
        reason: PayloadAddress,
    },
    /// Set it aside.
    Quarantine {
        /// Why.
        reason: QuarantineReason,
    },
    /// Take it out of quarantine.
    Release {
        /// The person.
        person: PersonId,
        /// Their reason.
        reason: PayloadAddress,
    },
    /// Record that a linked write-back undid it.
    Compensate {
        /// The other write-back.
        by: WritebackId,
    },
    /// Record that a linked write-back took up a staged draft.
    Promote {
        /// The other write-back.
        by: WritebackId,
    },
    /// Take a canary back.
    WithdrawCanary {
        /// Why.
        end: CanaryEnd,
    },
}

/// Why a command is refused. Each has a stable code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The state does not allow it.
    #[error("a write-back that is {0} does not allow this")]
    NotNow(StateName),
    /// The class cannot be computed.
    #[error(transparent)]
    Unclassifiable(#[from] Unclassifiable),
    /// The ruling is weaker than the class allows.
    #[error("the ruling is below the floor of its class")]
    BelowFloor,
    /// Of several changes, those that were ruled on are not those that are valid, or not all of them can be sent as
    /// one.
    #[error("several changes are ruled on and sent as one: each of them, and nothing else")]
    EntriesDiffer,
    /// The ruling was about another class or destination than the one computed.
    #[error("the ruling was made for another class of change")]
    ClassDiffers,
    /// Not every named fact is established.
    #[error("the facts that the gate names are not established")]
    NotVerified,
    /// The approval names another digest: something changed by at least one byte.
    #[error("the approval is for other content than this order")]
    ApprovalMismatch,
    /// The approval was spent when the order entered the queue.
    #[error("this was approved already; an approval counts once")]
    ApprovalConsumed,
    /// The gate demands a second factor.
    #[error("this approval needs a second factor")]
    SecondFactorRequired,
    /// A plausibility rule warns, and the approval does not say why it counts all the same.
    #[error("a plausibility rule warns of this; say why it is approved all the same")]
    OverrideReasonRequired,
    /// The person's role does not pass this gate.
    #[error("this role cannot approve this change")]
    RoleNotPermitted,
    /// The same person cannot be both.
    #[error(
        "two different people must approve, neither of them the requester or one who changed it"
    )]
    SamePerson,
    /// Somebody in training, where their word cannot be the one that counts.
    #[error("whoever is in training cannot decide this, and cannot sign beside another trainee")]
    InTraining,
    /// The protocol that covers it does not name them.
    #[error(
        "the protocol under which this is renewed does not name you; a colleague whom it names can approve it"
    )]
    NotNamedByProtocol,
    /// The protocol that covers it has ended.
    #[error("the protocol under which this is renewed has ended; a clinician can order it")]
    ProtocolEnded,
    /// The approval came too late.
    #[error("the time to approve has passed")]
    ApprovalExpired,
    /// What is about to be sent is not what was approved.
    #[error("the order is not the one that was approved")]
    DigestMismatch,
    /// The attempt number does not follow, or there were too many.
    #[error("this attempt does not follow the last one")]
    AttemptOutOfOrder,
    /// Too early or too late to send.
    #[error("the order is not due, or its time has run out")]
    OutsideDeliveryWindow,
    /// No single signature in the EHR can stand for what this gate demands.
    #[error("a signature in the EHR cannot stand for the approval that this change needs")]
    SignatureNotEnough,
    /// The proof is weaker than the row accepts.
    #[error("the proof reached is weaker than this change accepts")]
    ProofTooWeak,
}

impl Refusal {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::NotNow(_) => "not-now",
            Refusal::Unclassifiable(_) => "unlisted-resource",
            Refusal::BelowFloor => "below-floor",
            Refusal::EntriesDiffer => "entries-differ",
            Refusal::ClassDiffers => "class-differs",
            Refusal::NotVerified => "not-verified",
            Refusal::ApprovalMismatch => "approval-payload-mismatch",
            Refusal::ApprovalConsumed => "approval-consumed",
            Refusal::SecondFactorRequired => "second-factor-required",
            Refusal::OverrideReasonRequired => "override-reason-required",
            Refusal::RoleNotPermitted => "role-not-permitted",
            Refusal::SamePerson => "same-person",
            Refusal::InTraining => "in-training",
            Refusal::NotNamedByProtocol => "not-named-by-protocol",
            Refusal::ProtocolEnded => "protocol-ended",
            Refusal::ApprovalExpired => "approval-expired",
            Refusal::DigestMismatch => "order-digest-mismatch",
            Refusal::AttemptOutOfOrder => "attempt-out-of-order",
            Refusal::OutsideDeliveryWindow => "outside-delivery-window",
            Refusal::SignatureNotEnough => "signature-not-enough",
            Refusal::ProofTooWeak => "proof-too-weak",
        }
    }
}

/// Decides whether a command may happen now; the event is what then is recorded.
///
/// # Errors
/// [`Refusal`], with the reason and its stable code.
pub fn decide(
    state: &Writeback,
    command: Command<'_>,
    now: Timestamp,
) -> Result<WritebackEvent, Refusal> {
    let not_now = || Refusal::NotNow(state.told_name());
    match command {
        Command::Validate {
            conformant,
            change,
            entries,
        } => {
            let class = class_of_all(&change, &entries)?;
            possible(state, matches!(state, Writeback::Proposed(_)))?;
            Ok(WritebackEvent::Validated {
                validation: Box::new(conformant.record().clone()),
                change: Box::new(change),
                class,
                entries,
            })
        }
        Command::Rule { ruling, order } => {
            let Writeback::Validated(validated) = state else {
                return Err(not_now());
            };
            let class = class_of_all(validated.change(), validated.entries())?;
            let record = ruling.record();
            // A draft is light only because it stays inside: a ruling on it may not send it out.
            if record.class != class || record.destination != validated.change().destination {
                return Err(Refusal::ClassDiffers);
            }
            if record.gate.level() < class.floor() {
                return Err(Refusal::BelowFloor);
            }
            covers_each(validated.entries(), record, &order)?;
            let signed_by_one = matches!(
                record.gate,
                Gate::Approve { .. } | Gate::Approve2f { .. } | Gate::Deny
            ) && !validated.validation().needs_override();
            if order.strategy == Strategy::EhrStaged && !signed_by_one {
                return Err(Refusal::SignatureNotEnough);
            }
            Ok(WritebackEvent::Ruled {
                ruling: Box::new(record.clone()),
                order,
            })
        }
        Command::Verify { facts, evidence } => {
            let Writeback::AwaitingVerification(waiting) = state else {
                return Err(not_now());
            };
            if now > waiting.ruled().order.approve_by {
                return Err(Refusal::ApprovalExpired);
            }
            let named = match &waiting.ruled().ruling.gate {
                Gate::AutoVerified { facts } => facts.clone(),
                _ => BTreeSet::new(),
            };
            // A gate that names no fact would verify itself.
            let order = &waiting.ruled().order;
            let patient = waiting.ruled().proposal.patient;
            let known = |name: &str| facts.is_established_for(name, &order.digest);
            // Evidence about another order, patient or time is none.
            let evidence: Vec<VerificationRecord> = evidence
                .iter()
                .map(Verification::record)
                .filter(|it| it.is_about(&order.digest, patient, now))
                .filter(|it| named.contains(&it.fact) && !known(&it.fact))
                .cloned()
                .collect();
            let is_shown =
                |name: &String| known(name) || evidence.iter().any(|it| it.fact == *name);
            if named.is_empty() || !named.iter().all(is_shown) {
                return Err(Refusal::NotVerified);
            }
            Ok(WritebackEvent::Verified {
                facts: named,
                evidence,
            })
        }
        Command::Approve { approval } => approve(state, approval, now),
        Command::Refuse { refused } if matches!(state, Writeback::Canary(_)) => match refused {
            RefusedBy::Human { person, reason } => {
                Ok(WritebackEvent::CanaryCaught { person, reason })
            }
            RefusedBy::RulesChanged => Ok(WritebackEvent::CanaryWithdrawn(CanaryEnd::RulesChanged)),
            RefusedBy::Expiry => Ok(WritebackEvent::CanaryWithdrawn(CanaryEnd::Expired)),
            // Nothing takes its place, and no agent made it.
            RefusedBy::Edited { .. }
            | RefusedBy::Withdrawn
            | RefusedBy::Policy { .. }
            | RefusedBy::Validation { .. } => Err(not_now()),
        },
        Command::Refuse { refused } => {
            let open = match state {
                Writeback::Proposed(_)
                | Writeback::Validated(_)
                | Writeback::AwaitingVerification(_)
                | Writeback::AwaitingApproval(_)
                | Writeback::Quarantined(_) => true,
                Writeback::Staged(staged) => staged.promoted_by().is_none(),
                _ => false,
            };
            possible(state, open)?;
            Ok(WritebackEvent::Refused { refused })
        }
        Command::Void { reason } => {
            let is_agreed = matches!(
                state,
                Writeback::Ready(_) | Writeback::Delivering(_) | Writeback::AwaitingSignature(_)
            );
            possible(state, is_agreed)?;
            Ok(WritebackEvent::Voided { reason })
        }
        Command::StartDelivery { start } => start_delivery(state, start, now),
        Command::ConfirmDelivery {
            delivering,
            receipt,
        } => {
            let Writeback::Delivering(in_delivery) = state else {
                return Err(not_now());
            };
            if *delivering.digest() != in_delivery.start().digest {
                return Err(Refusal::DigestMismatch);
            }
            possible(state, !in_delivery.is_placed_unsigned())?;
            proven(state, &receipt)?;
            Ok(WritebackEvent::Delivered(receipt))
        }
        Command::PlaceDraft { receipt } => {
            let unsigned = match state {
                Writeback::Delivering(s) => s.is_placed_unsigned(),
                Writeback::Unknown(s) => s.is_placed_unsigned(),
                _ => false,
            };
            possible(state, unsigned)?;
            proven_by_machine(state, &receipt)?;
            Ok(WritebackEvent::DraftPlaced(receipt))
        }
        Command::ConfirmSigned { receipt } => {
            let is_signed =
                matches!(state, Writeback::AwaitingSignature(s) if s.approval().is_some());
            possible(state, is_signed)?;
            proven_by_machine(state, &receipt)?;
            Ok(WritebackEvent::Delivered(receipt))
        }
        Command::FailDelivery { cause, retry_at } => {
            let Writeback::Delivering(in_delivery) = state else {
                return Err(not_now());
            };
            let hopeless = matches!(cause, FailureCause::Rejected | FailureCause::Unauthorized);
            if hopeless || in_delivery.start().attempt >= DELIVERY_ATTEMPTS_MAX {
                Ok(WritebackEvent::DeadLettered { cause })
            } else {
                Ok(WritebackEvent::NotApplied { cause, retry_at })
            }
        }
        Command::LoseOutcome => {
            possible(state, matches!(state, Writeback::Delivering(_)))?;
            Ok(WritebackEvent::OutcomeUnknown)
        }
        Command::FindApplied { receipt } => {
            // What has no effect unsigned is not delivered by being found, nor by anybody's word.
            possible(
                state,
                matches!(state, Writeback::Unknown(s) if !s.is_placed_unsigned()),
            )?;
            proven(state, &receipt)?;
            Ok(WritebackEvent::Delivered(receipt))
        }
        Command::FindNotApplied { basis, retry_at } => {
            let Writeback::Unknown(unknown) = state else {
                return Err(not_now());
            };
            // A miss means something only where the business identifier went along (invariant 5).
            let can_tell = unknown.ready().ruled().order.strategy == Strategy::Conditional
                && unknown.human_needed().is_none();
            possible(
                state,
                can_tell || matches!(basis, NotAppliedBasis::Human { .. }),
            )?;
            Ok(WritebackEvent::FoundNotApplied { basis, retry_at })
        }
        Command::AskHuman { reason } => {
            possible(
                state,
                matches!(state, Writeback::Unknown(u) if u.human_needed().is_none()),
            )?;
            Ok(WritebackEvent::HumanNeeded { reason })
        }
        Command::DeadLetter { cause } => {
            let is_spent =
                matches!(state, Writeback::Ready(r) if r.attempts() >= DELIVERY_ATTEMPTS_MAX);
            possible(state, is_spent)?;
            Ok(WritebackEvent::DeadLettered { cause })
        }
        Command::Requeue { person, reason } => {
            possible(state, matches!(state, Writeback::DeadLetter(_)))?;
            Ok(WritebackEvent::Requeued { person, reason })
        }
        Command::Abandon { person, reason } => {
            let waits_for_entry = matches!(state, Writeback::Delivering(s) if s.is_human_entry());
            let is_dead = matches!(state, Writeback::DeadLetter(_));
            possible(state, is_dead || waits_for_entry)?;
            Ok(WritebackEvent::Abandoned { person, reason })
        }
        Command::Quarantine { reason } => {
            let before_delivery = matches!(
                state,
                Writeback::Proposed(_)
                    | Writeback::Validated(_)
                    | Writeback::Staged(_)
                    | Writeback::AwaitingVerification(_)
                    | Writeback::AwaitingApproval(_)
                    | Writeback::Ready(_)
                    | Writeback::DeadLetter(_)
            );
            possible(state, before_delivery)?;
            Ok(WritebackEvent::Quarantined { reason })
        }
        Command::Release { person, reason } => {
            let Writeback::Quarantined(aside) = state else {
                return Err(not_now());
            };
            // What ran out of time while it was set aside does not come back: it must be proposed anew.
            if aside.is_over(now) {
                return Err(Refusal::OutsideDeliveryWindow);
            }
            Ok(WritebackEvent::Released {
                person,
                reason: Some(reason),
            })
        }
        Command::Compensate { by } => {
            possible(state, matches!(state, Writeback::Delivered(_)))?;
            Ok(WritebackEvent::Compensated { by })
        }
        Command::Promote { by } => {
            possible(
                state,
                matches!(state, Writeback::Staged(s) if s.promoted_by().is_none()),
            )?;
            Ok(WritebackEvent::Promoted { by })
        }
        Command::WithdrawCanary { end } => {
            possible(state, matches!(state, Writeback::Canary(_)))?;
            Ok(WritebackEvent::CanaryWithdrawn(end))
        }
    }
}

fn possible(state: &Writeback, allowed: bool) -> Result<(), Refusal> {
    if allowed {
        Ok(())
    } else {
        Err(Refusal::NotNow(state.told_name()))
    }
}

fn approve(
    state: &Writeback,
    approval: &Approval,
    now: Timestamp,
) -> Result<WritebackEvent, Refusal> {
    let waiting = match state {
        Writeback::AwaitingApproval(waiting) => &**waiting,
        // Refused by the same rules as any other, so that nothing tells it apart.
        Writeback::Canary(canary) => canary.waiting(),
        Writeback::AwaitingSignature(waiting) => return sign(waiting, approval, now),
        Writeback::Ready(_)
        | Writeback::Delivering(_)
        | Writeback::Unknown(_)
        | Writeback::Delivered(_)
        | Writeback::DeadLetter(_)
        | Writeback::Compensated(_) => return Err(Refusal::ApprovalConsumed),
        _ => return Err(Refusal::NotNow(state.told_name())),
    };
    let record = approval.record();
    let ruled = waiting.ruled();
    if record.digest != ruled.order.digest {
        return Err(Refusal::ApprovalMismatch);
    }
    if now > ruled.order.approve_by {
        return Err(Refusal::ApprovalExpired);
    }
    under_protocol(ruled, record, now)?;
    if ruled.validation.needs_override() && record.override_reason.is_none() {
        return Err(Refusal::OverrideReasonRequired);
    }
    let has_factor = match record.factor {
        Factor::None => false,
        // Nothing of it is in the EHR yet, so nobody can have signed it there.
        Factor::EhrSignature { .. } => return Err(Refusal::NotNow(state.told_name())),
        _ => true,
    };
    match &ruled.ruling.gate {
        Gate::Approve { roles } if roles.contains(&record.role) => cosign(waiting, record)?,
        Gate::Approve2f { roles } if roles.contains(&record.role) => {
            if !has_factor {
                return Err(Refusal::SecondFactorRequired);
            }
            cosign(waiting, record)?;
        }
        Gate::TwoPerson { .. } if record.in_training => return Err(Refusal::InTraining),
        Gate::TwoPerson { first, second } => {
            let same = |person| person == record.person;
            if waiting
                .approvals()
                .iter()
                .any(|earlier| same(earlier.person))
                || ruled.proposal.is_asked_by(record.person)
            {
                return Err(Refusal::SamePerson);
            }
            let given = |role| {
                waiting
                    .approvals()
                    .iter()
                    .any(|earlier| earlier.role == role)
            };
            let open = [*first, *second]
                .into_iter()
                .find(|role| *role == record.role && !given(*role));
            match open {
                Some(role) if role == *first && !has_factor => {
                    return Err(Refusal::SecondFactorRequired);
                }
                Some(_) => {}
                None => return Err(Refusal::RoleNotPermitted),
            }
        }
        _ => return Err(Refusal::RoleNotPermitted),
    }
    if matches!(state, Writeback::Canary(_)) {
        return Ok(WritebackEvent::CanaryMissed(CanaryMiss {
            person: record.person,
            account: record.account.clone(),
            review_ms: record.review_ms,
        }));
    }
    Ok(WritebackEvent::Approved {
        approval: record.clone(),
    })
}

/// Where a protocol lets it pass: it must be in force still, and name whoever approves.
fn under_protocol(ruled: &Ruled, record: &ApprovalRecord, at: Timestamp) -> Result<(), Refusal> {
    match &ruled.ruling.protocol {
        Some(protocol) if at >= protocol.until => Err(Refusal::ProtocolEnded),
        Some(protocol) if !protocol.names(&record.account) => Err(Refusal::NotNamedByProtocol),
        _ => Ok(()),
    }
}

/// Beside an approval by somebody in training, which is all that can stand before another one at a gate of
/// one person: a colleague who is not in training.
fn cosign(waiting: &AwaitingApproval, record: &ApprovalRecord) -> Result<(), Refusal> {
    let mut earlier = waiting.approvals().iter();
    if earlier.any(|earlier| earlier.person == record.person) {
        return Err(Refusal::SamePerson);
    }
    if record.in_training && !waiting.approvals().is_empty() {
        return Err(Refusal::InTraining);
    }
    Ok(())
}

/// A signature in the EHR as the approval: of what was placed, by one who may, in time.
fn sign(
    waiting: &AwaitingSignature,
    approval: &Approval,
    now: Timestamp,
) -> Result<WritebackEvent, Refusal> {
    let record = approval.record();
    let ruled = waiting.ready().ruled();
    let Factor::EhrSignature { at } = record.factor else {
        return Err(Refusal::NotNow(StateName::AwaitingSignature));
    };
    if waiting.approval().is_some() {
        return Err(Refusal::ApprovalConsumed);
    }
    if record.digest != ruled.order.digest || record.digest != waiting.start().digest {
        return Err(Refusal::ApprovalMismatch);
    }
    // It may be seen late, where the EHR could not be asked; what counts is when it was given.
    if at > waiting.sign_by() || at > now {
        return Err(Refusal::ApprovalExpired);
    }
    under_protocol(ruled, record, at)?;
    // What is signed there is in force there: nobody could sign beside them any more.
    if record.in_training {
        return Err(Refusal::InTraining);
    }
    match &ruled.ruling.gate {
        Gate::Approve { roles } | Gate::Approve2f { roles } if roles.contains(&record.role) => {
            Ok(WritebackEvent::Approved {
                approval: record.clone(),
            })
        }
        _ => Err(Refusal::RoleNotPermitted),
    }
}

fn start_delivery(
    state: &Writeback,
    start: DeliveryStart,
    now: Timestamp,
) -> Result<WritebackEvent, Refusal> {
    let Writeback::Ready(ready) = state else {
        return Err(Refusal::NotNow(state.told_name()));
    };
    if start.digest != ready.ruled().order.digest {
        return Err(Refusal::DigestMismatch);
    }
    if start.attempt != ready.attempts().saturating_add(1) || start.attempt > DELIVERY_ATTEMPTS_MAX
    {
        return Err(Refusal::AttemptOutOfOrder);
    }
    if now > ready.deliver_by() || ready.not_before().is_some_and(|from| now < from) {
        return Err(Refusal::OutsideDeliveryWindow);
    }
    Ok(WritebackEvent::DeliveryStarted(start))
}

/// A delivery that shows less than its row accepts is not a delivery; a human's attestation stands
/// in for the machine's proof, and the receipt says so.
fn proven(state: &Writeback, receipt: &DeliveryReceipt) -> Result<(), Refusal> {
    let Some(ruled) = state.ruled() else {
        return Err(Refusal::NotNow(state.told_name()));
    };
    let by_human = receipt.proof == ProofLevel::P0
        && receipt.attested_by.is_some()
        && (ruled.order.strategy == Strategy::HumanEntry || matches!(state, Writeback::Unknown(_)));
    // Of several changes that went as one, each is shown.
    let of_each = receipt.also.len() == ruled.entries.len().saturating_sub(1);
    if by_human || (of_each && receipt.proof >= ruled.ruling.proof_min) {
        Ok(())
    } else {
        Err(Refusal::ProofTooWeak)
    }
}

/// The same where nobody's attestation stands in.
fn proven_by_machine(state: &Writeback, receipt: &DeliveryReceipt) -> Result<(), Refusal> {
    if receipt.attested_by.is_some() {
        return Err(Refusal::ProofTooWeak);
    }
    proven(state, receipt)
}
