//! States of a write-back: one struct each, private fields, consuming transitions.

use std::fmt;

use super::event::{
    DeliveryReceipt, DeliveryStart, FailureCause, HumanNeeded, OrderRef, Proposal,
    QuarantineReason, RefusedBy, VoidReason, WritebackEvent,
};
use crate::Timestamp;
use crate::change::{Change, ChangeClass, Destination};
use crate::evidence::{ApprovalRecord, RulingRecord, Strategy, ValidationRecord};
use crate::gate::Gate;
use crate::ids::{PersonId, WritebackId};

/// An event that the state cannot take: the stored history is not one that Chaperone wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a write-back that is {state} cannot take this event")]
pub struct Illegal {
    /// The state it was in.
    pub state: StateName,
}

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident($inner:ty) = $text:literal;)*) => {
        /// A write-back in one of its states.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Writeback {
            $($(#[$doc])* $name($inner),)*
        }

        /// The names of the states.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum StateName {
            $($(#[$doc])* $name,)*
        }

        impl StateName {
            /// The name used on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(StateName::$name => $text,)* }
            }
        }

        impl Writeback {
            /// The name of the state.
            pub fn name(&self) -> StateName {
                match self { $(Writeback::$name(_) => StateName::$name,)* }
            }
        }
    };
}

states! {
    /// Asked.
    Proposed(Box<Proposed>) = "proposed";
    /// Valid, not yet ruled.
    Validated(Box<Validated>) = "validated";
    /// A draft that lives in Chaperone.
    Staged(Box<Staged>) = "staged";
    /// Held until named facts are established.
    AwaitingVerification(Box<AwaitingVerification>) = "awaiting_verification";
    /// Held until the right humans agree.
    AwaitingApproval(Box<AwaitingApproval>) = "awaiting_approval";
    /// In the queue.
    Ready(Box<Ready>) = "ready";
    /// An attempt is under way.
    Delivering(Box<InDelivery>) = "delivering";
    /// An attempt's outcome is not known.
    Unknown(Box<Unknown>) = "unknown";
    /// The EHR has it.
    Delivered(Box<Delivered>) = "delivered";
    /// Tried often enough.
    DeadLetter(Box<DeadLetter>) = "dead_letter";
    /// Ended before it was ready.
    Refused(Box<Refused>) = "refused";
    /// Approved, then invalid.
    Void(Box<Void>) = "void";
    /// Given up by an operator.
    Abandoned(Box<Abandoned>) = "abandoned";
    /// Set aside.
    Quarantined(Box<Quarantined>) = "quarantined";
    /// Undone by a linked write-back.
    Compensated(Box<Compensated>) = "compensated";
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Asked, and nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    proposal: Proposal,
}

/// Valid, with its computed class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validated {
    proposal: Proposal,
    validation: ValidationRecord,
    change: Change,
    class: ChangeClass,
}

/// What every state after the ruling carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruled {
    /// What was asked.
    pub proposal: Proposal,
    /// What was checked.
    pub validation: ValidationRecord,
    /// What the change is.
    pub change: Change,
    /// What the matrix said.
    pub ruling: RulingRecord,
    /// What will be sent.
    pub order: OrderRef,
}

/// A draft that lives in Chaperone until a linked write-back takes it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    ruled: Ruled,
    promoted_by: Option<WritebackId>,
}

/// Held until named facts are established.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitingVerification {
    ruled: Ruled,
}

/// Held until the right humans agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitingApproval {
    ruled: Ruled,
    approvals: Vec<ApprovalRecord>,
}

/// In the queue; the approvals are spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    ruled: Ruled,
    approvals: Vec<ApprovalRecord>,
    attempts: u32,
    deliver_by: Timestamp,
    not_before: Option<Timestamp>,
}

/// An attempt is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InDelivery {
    ready: Ready,
    start: DeliveryStart,
}

/// An attempt's outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    ready: Ready,
    start: DeliveryStart,
    since: Timestamp,
    human_needed: Option<HumanNeeded>,
}

/// The EHR has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    ready: Ready,
    receipt: DeliveryReceipt,
    at: Timestamp,
}

/// Tried often enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    ready: Ready,
    cause: FailureCause,
}

/// Ended before it was ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    proposal: Proposal,
    ruled: Option<Ruled>,
    by: RefusedBy,
}

/// Approved, then invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Void {
    ready: Ready,
    reason: VoidReason,
}

/// Given up by an operator, or declined by the person who was to enter it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abandoned {
    ready: Ready,
    person: PersonId,
}

/// Set aside, with the state it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    held: Writeback,
    reason: QuarantineReason,
}

/// Undone by a linked write-back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compensated {
    delivered: Delivered,
    by: WritebackId,
}

impl Proposed {
    /// It passed validation.
    pub fn validated(
        self,
        validation: ValidationRecord,
        change: Change,
        class: ChangeClass,
    ) -> Validated {
        Validated {
            proposal: self.proposal,
            validation,
            change,
            class,
        }
    }

    /// It ended here.
    pub fn refused(self, by: RefusedBy) -> Refused {
        Refused {
            proposal: self.proposal,
            ruled: None,
            by,
        }
    }
}

impl Validated {
    /// What the change is.
    pub fn change(&self) -> &Change {
        &self.change
    }

    /// The matrix ruled; the gate decides where it goes.
    fn ruled(self, ruling: RulingRecord, order: OrderRef, at: Timestamp) -> Writeback {
        let ruled = Ruled {
            proposal: self.proposal,
            validation: self.validation,
            change: self.change,
            ruling,
            order,
        };
        match (&ruled.ruling.gate, ruled.ruling.destination) {
            (Gate::Deny, _) => {
                let code = ruled
                    .ruling
                    .denial
                    .clone()
                    .unwrap_or_else(|| "denied".to_owned());
                Writeback::Refused(Box::new(Refused {
                    proposal: ruled.proposal.clone(),
                    ruled: Some(ruled),
                    by: RefusedBy::Policy { code },
                }))
            }
            (Gate::Auto, Destination::Staged) => Writeback::Staged(Box::new(Staged {
                ruled,
                promoted_by: None,
            })),
            (Gate::Auto, Destination::Ehr) => {
                Writeback::Ready(Box::new(Ready::enter(ruled, Vec::new(), at)))
            }
            (Gate::AutoVerified { .. }, _) => {
                Writeback::AwaitingVerification(Box::new(AwaitingVerification { ruled }))
            }
            (Gate::Approve { .. } | Gate::Approve2f { .. } | Gate::TwoPerson { .. }, _) => {
                Writeback::AwaitingApproval(Box::new(AwaitingApproval {
                    ruled,
                    approvals: Vec::new(),
                }))
            }
        }
    }

    /// It ended here.
    pub fn refused(self, by: RefusedBy) -> Refused {
        Refused {
            proposal: self.proposal,
            ruled: None,
            by,
        }
    }
}

impl Staged {
    /// What was ruled.
    pub fn ruled(&self) -> &Ruled {
        &self.ruled
    }

    /// The write-back that took it up.
    pub fn promoted_by(&self) -> Option<WritebackId> {
        self.promoted_by
    }
}

impl AwaitingVerification {
    /// What was ruled.
    pub fn ruled(&self) -> &Ruled {
        &self.ruled
    }

    /// The facts are established: it goes where its destination says.
    fn verified(self, at: Timestamp) -> Writeback {
        match self.ruled.ruling.destination {
            Destination::Staged => Writeback::Staged(Box::new(Staged {
                ruled: self.ruled,
                promoted_by: None,
            })),
            Destination::Ehr => {
                Writeback::Ready(Box::new(Ready::enter(self.ruled, Vec::new(), at)))
            }
        }
    }

    /// It ended here.
    pub fn refused(self, by: RefusedBy) -> Refused {
        Refused {
            proposal: self.ruled.proposal.clone(),
            ruled: Some(self.ruled),
            by,
        }
    }
}

impl AwaitingApproval {
    /// What was ruled.
    pub fn ruled(&self) -> &Ruled {
        &self.ruled
    }

    /// Approvals given so far.
    pub fn approvals(&self) -> &[ApprovalRecord] {
        &self.approvals
    }

    /// Takes an approval; the last one needed spends them all and enters the queue.
    fn approved(mut self, approval: ApprovalRecord, at: Timestamp) -> Writeback {
        self.approvals.push(approval);
        let needed = match self.ruled.ruling.gate {
            Gate::TwoPerson { .. } => 2,
            _ => 1,
        };
        if self.approvals.len() < needed {
            return Writeback::AwaitingApproval(Box::new(self));
        }
        match self.ruled.ruling.destination {
            Destination::Staged => Writeback::Staged(Box::new(Staged {
                ruled: self.ruled,
                promoted_by: None,
            })),
            Destination::Ehr => {
                Writeback::Ready(Box::new(Ready::enter(self.ruled, self.approvals, at)))
            }
        }
    }

    /// It ended here.
    pub fn refused(self, by: RefusedBy) -> Refused {
        Refused {
            proposal: self.ruled.proposal.clone(),
            ruled: Some(self.ruled),
            by,
        }
    }
}

impl Ready {
    fn enter(ruled: Ruled, approvals: Vec<ApprovalRecord>, at: Timestamp) -> Self {
        let within = jiff::SignedDuration::from_secs(ruled.order.deliver_within_s.max(0));
        let deliver_by = at.checked_add(within).unwrap_or(Timestamp::MAX);
        Self {
            ruled,
            approvals,
            attempts: 0,
            deliver_by,
            not_before: None,
        }
    }

    /// What was ruled.
    pub fn ruled(&self) -> &Ruled {
        &self.ruled
    }

    /// The approvals that were spent on entering the queue; none for an automatic gate.
    pub fn approvals(&self) -> &[ApprovalRecord] {
        &self.approvals
    }

    /// Attempts so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// After this it is void.
    pub fn deliver_by(&self) -> Timestamp {
        self.deliver_by
    }

    /// Before this it is not tried again.
    pub fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// Starts an attempt.
    pub fn start_delivery(self, start: DeliveryStart) -> InDelivery {
        InDelivery {
            ready: Ready {
                attempts: start.attempt,
                ..self
            },
            start,
        }
    }

    /// It is no longer valid.
    pub fn voided(self, reason: VoidReason) -> Void {
        Void {
            ready: self,
            reason,
        }
    }

    fn again(self, not_before: Timestamp) -> Writeback {
        Writeback::Ready(Box::new(Ready {
            not_before: Some(not_before),
            ..self
        }))
    }
}

impl InDelivery {
    /// What is being sent.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The attempt.
    pub fn start(&self) -> &DeliveryStart {
        &self.start
    }

    /// Whether it waits for a person to enter it, so that Chaperone itself sends nothing.
    pub fn is_human_entry(&self) -> bool {
        self.ready.ruled.order.strategy == Strategy::HumanEntry
    }

    /// Its outcome is not known.
    pub fn outcome_unknown(self, since: Timestamp) -> Unknown {
        Unknown {
            ready: self.ready,
            start: self.start,
            since,
            human_needed: None,
        }
    }
}

impl Unknown {
    /// What was being sent.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The attempt in question.
    pub fn start(&self) -> &DeliveryStart {
        &self.start
    }

    /// Since when.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Why a human must decide, once reconciling could not.
    pub fn human_needed(&self) -> Option<HumanNeeded> {
        self.human_needed
    }
}

impl Delivered {
    /// What was sent.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// What it can show.
    pub fn receipt(&self) -> &DeliveryReceipt {
        &self.receipt
    }

    /// When it was confirmed.
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

impl DeadLetter {
    /// What could not be sent.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The last cause.
    pub fn cause(&self) -> FailureCause {
        self.cause
    }
}

impl Refused {
    /// By whom or what.
    pub fn by(&self) -> &RefusedBy {
        &self.by
    }

    /// The ruling, when it got that far.
    pub fn ruled(&self) -> Option<&Ruled> {
        self.ruled.as_ref()
    }
}

impl Void {
    /// What was approved.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Why it is void.
    pub fn reason(&self) -> VoidReason {
        self.reason
    }
}

impl Abandoned {
    /// What was given up.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Who gave it up.
    pub fn person(&self) -> PersonId {
        self.person
    }
}

impl Quarantined {
    /// The state it came from.
    pub fn held(&self) -> &Writeback {
        &self.held
    }

    /// Why it was set aside.
    pub fn reason(&self) -> QuarantineReason {
        self.reason
    }
}

impl Compensated {
    /// What was undone.
    pub fn delivered(&self) -> &Delivered {
        &self.delivered
    }

    /// The write-back that undid it.
    pub fn by(&self) -> WritebackId {
        self.by
    }
}

impl Writeback {
    /// The first event makes the first state.
    ///
    /// # Errors
    /// [`Illegal`] when the history does not start with a proposal.
    pub fn begin(event: &WritebackEvent) -> Result<Writeback, Illegal> {
        match event {
            WritebackEvent::Proposed(proposal) => Ok(Writeback::Proposed(Box::new(Proposed {
                proposal: (**proposal).clone(),
            }))),
            _ => Err(Illegal {
                state: StateName::Proposed,
            }),
        }
    }

    /// What was asked.
    pub fn proposal(&self) -> &Proposal {
        match self {
            Writeback::Proposed(s) => &s.proposal,
            Writeback::Validated(s) => &s.proposal,
            Writeback::Refused(s) => &s.proposal,
            Writeback::Quarantined(s) => s.held.proposal(),
            Writeback::Staged(s) => &s.ruled.proposal,
            Writeback::AwaitingVerification(s) => &s.ruled.proposal,
            Writeback::AwaitingApproval(s) => &s.ruled.proposal,
            Writeback::Ready(s) => &s.ruled.proposal,
            Writeback::Delivering(s) => &s.ready.ruled.proposal,
            Writeback::Unknown(s) => &s.ready.ruled.proposal,
            Writeback::Delivered(s) => &s.ready.ruled.proposal,
            Writeback::DeadLetter(s) => &s.ready.ruled.proposal,
            Writeback::Void(s) => &s.ready.ruled.proposal,
            Writeback::Abandoned(s) => &s.ready.ruled.proposal,
            Writeback::Compensated(s) => &s.delivered.ready.ruled.proposal,
        }
    }

    /// What was ruled, in every state after the ruling.
    pub fn ruled(&self) -> Option<&Ruled> {
        match self {
            Writeback::Proposed(_) | Writeback::Validated(_) => None,
            Writeback::Staged(s) => Some(&s.ruled),
            Writeback::AwaitingVerification(s) => Some(&s.ruled),
            Writeback::AwaitingApproval(s) => Some(&s.ruled),
            Writeback::Ready(s) => Some(&s.ruled),
            Writeback::Delivering(s) => Some(&s.ready.ruled),
            Writeback::Unknown(s) => Some(&s.ready.ruled),
            Writeback::Delivered(s) => Some(&s.ready.ruled),
            Writeback::DeadLetter(s) => Some(&s.ready.ruled),
            Writeback::Refused(s) => s.ruled.as_ref(),
            Writeback::Void(s) => Some(&s.ready.ruled),
            Writeback::Abandoned(s) => Some(&s.ready.ruled),
            Writeback::Quarantined(s) => s.held.ruled(),
            Writeback::Compensated(s) => Some(&s.delivered.ready.ruled),
        }
    }

    /// The approvals given so far, or spent.
    pub fn approvals(&self) -> &[ApprovalRecord] {
        match self {
            Writeback::AwaitingApproval(s) => &s.approvals,
            Writeback::Ready(s) => &s.approvals,
            Writeback::Delivering(s) => &s.ready.approvals,
            Writeback::Unknown(s) => &s.ready.approvals,
            Writeback::Delivered(s) => &s.ready.approvals,
            Writeback::DeadLetter(s) => &s.ready.approvals,
            Writeback::Void(s) => &s.ready.approvals,
            Writeback::Abandoned(s) => &s.ready.approvals,
            Writeback::Compensated(s) => &s.delivered.ready.approvals,
            Writeback::Quarantined(s) => s.held.approvals(),
            Writeback::Proposed(_)
            | Writeback::Validated(_)
            | Writeback::Staged(_)
            | Writeback::AwaitingVerification(_)
            | Writeback::Refused(_) => &[],
        }
    }

    /// Folds one recorded event into the state.
    ///
    /// # Errors
    /// [`Illegal`] when the state cannot take the event.
    pub fn evolve(self, event: &WritebackEvent, at: Timestamp) -> Result<Writeback, Illegal> {
        use WritebackEvent as E;
        let state = self.name();
        let next = match (self, event) {
            (
                Writeback::Proposed(s),
                E::Validated {
                    validation,
                    change,
                    class,
                },
            ) => Writeback::Validated(Box::new(s.validated(
                (**validation).clone(),
                (**change).clone(),
                *class,
            ))),
            (Writeback::Proposed(s), E::Refused { refused }) => {
                Writeback::Refused(Box::new(s.refused(refused.clone())))
            }
            (Writeback::Validated(s), E::Ruled { ruling, order }) => {
                s.ruled((**ruling).clone(), order.clone(), at)
            }
            (Writeback::Validated(s), E::Refused { refused }) => {
                Writeback::Refused(Box::new(s.refused(refused.clone())))
            }
            (Writeback::Staged(s), E::Promoted { by }) if s.promoted_by.is_none() => {
                Writeback::Staged(Box::new(Staged {
                    promoted_by: Some(*by),
                    ..*s
                }))
            }
            (Writeback::Staged(s), E::Refused { refused }) if s.promoted_by.is_none() => {
                Writeback::Refused(Box::new(Refused {
                    proposal: s.ruled.proposal.clone(),
                    ruled: Some(s.ruled),
                    by: refused.clone(),
                }))
            }
            (Writeback::AwaitingVerification(s), E::Verified { .. }) => s.verified(at),
            (Writeback::AwaitingVerification(s), E::Refused { refused }) => {
                Writeback::Refused(Box::new(s.refused(refused.clone())))
            }
            (Writeback::AwaitingApproval(s), E::Approved { approval }) => {
                s.approved(approval.clone(), at)
            }
            (Writeback::AwaitingApproval(s), E::Refused { refused }) => {
                Writeback::Refused(Box::new(s.refused(refused.clone())))
            }
            (Writeback::Ready(s), E::DeliveryStarted(start)) => {
                Writeback::Delivering(Box::new(s.start_delivery(start.clone())))
            }
            (Writeback::Ready(s), E::Voided { reason }) => {
                Writeback::Void(Box::new(s.voided(*reason)))
            }
            (Writeback::Ready(s), E::DeadLettered { cause }) => {
                Writeback::DeadLetter(Box::new(DeadLetter {
                    ready: *s,
                    cause: *cause,
                }))
            }
            (Writeback::Delivering(s), E::Delivered(receipt)) => {
                delivered(s.ready, receipt.clone(), at)
            }
            (Writeback::Delivering(s), E::NotApplied { retry_at, .. }) => s.ready.again(*retry_at),
            (Writeback::Delivering(s), E::OutcomeUnknown) => {
                Writeback::Unknown(Box::new(s.outcome_unknown(at)))
            }
            (Writeback::Delivering(s), E::DeadLettered { cause }) => {
                Writeback::DeadLetter(Box::new(DeadLetter {
                    ready: s.ready,
                    cause: *cause,
                }))
            }
            (Writeback::Delivering(s), E::Voided { reason }) => {
                Writeback::Void(Box::new(s.ready.voided(*reason)))
            }
            (Writeback::Unknown(s), E::Delivered(receipt)) => {
                delivered(s.ready, receipt.clone(), at)
            }
            (Writeback::Unknown(s), E::FoundNotApplied { retry_at, .. }) => {
                s.ready.again(*retry_at)
            }
            (Writeback::Unknown(s), E::HumanNeeded { reason }) => {
                Writeback::Unknown(Box::new(Unknown {
                    human_needed: Some(*reason),
                    ..*s
                }))
            }
            (Writeback::Delivered(s), E::Compensated { by }) => {
                Writeback::Compensated(Box::new(Compensated {
                    delivered: *s,
                    by: *by,
                }))
            }
            (Writeback::DeadLetter(s), E::Requeued { .. }) => {
                Writeback::Ready(Box::new(Ready::enter(s.ready.ruled, s.ready.approvals, at)))
            }
            (Writeback::Delivering(s), E::Abandoned { person, .. }) if s.is_human_entry() => {
                Writeback::Abandoned(Box::new(Abandoned {
                    ready: s.ready,
                    person: *person,
                }))
            }
            (Writeback::DeadLetter(s), E::Abandoned { person, .. }) => {
                Writeback::Abandoned(Box::new(Abandoned {
                    ready: s.ready,
                    person: *person,
                }))
            }
            (
                held @ (Writeback::Proposed(_)
                | Writeback::Validated(_)
                | Writeback::Staged(_)
                | Writeback::AwaitingVerification(_)
                | Writeback::AwaitingApproval(_)
                | Writeback::Ready(_)
                | Writeback::DeadLetter(_)),
                E::Quarantined { reason },
            ) => Writeback::Quarantined(Box::new(Quarantined {
                held,
                reason: *reason,
            })),
            (Writeback::Quarantined(s), E::Released { .. }) => s.held,
            (Writeback::Quarantined(s), E::Refused { refused }) => {
                Writeback::Refused(Box::new(Refused {
                    proposal: s.held.proposal().clone(),
                    ruled: s.held.ruled().cloned(),
                    by: refused.clone(),
                }))
            }
            _ => return Err(Illegal { state }),
        };
        Ok(next)
    }
}

fn delivered(ready: Ready, receipt: DeliveryReceipt, at: Timestamp) -> Writeback {
    Writeback::Delivered(Box::new(Delivered { ready, receipt, at }))
}
