//! States of a write-back: one struct each, private fields. `moves` has the consuming transitions, `history`
//! folds recorded events into a state.

mod history;
mod moves;

pub use moves::CANARY_CLASS_MAX;

use std::fmt;

use super::event::{
    DeliveryReceipt, DeliveryStart, FailureCause, HumanNeeded, OrderRef, Proposal,
    QuarantineReason, RefusedBy, VoidReason, WritebackEvent,
};
use crate::Timestamp;
use crate::canary::{CanaryMark, CanaryOutcome, CanarySeed};
use crate::change::{Change, ChangeClass, Destination};
use crate::evidence::{ApprovalRecord, RulingRecord, Strategy, ValidationRecord};
use crate::gate::Gate;
use crate::ids::{PersonId, WritebackId};
use crate::mode::ModeSubject;
use crate::together::EntryValidated;

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
    /// The EHR has it unsigned.
    AwaitingSignature(Box<AwaitingSignature>) = "awaiting_signature";
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
    /// A canary that waits for a person. Nothing leads from here to the queue.
    Canary(Box<Canary>) = "canary";
    /// A canary that was decided about, or taken back.
    CanarySettled(Box<CanarySettled>) = "canary_settled";
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
    entries: Vec<EntryValidated>,
}

/// What every state after the ruling carries. Stored as it is for canaries alone; of everything else it is folded
/// from events.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ruled {
    /// What was asked.
    pub proposal: Proposal,
    /// What was checked.
    pub validation: ValidationRecord,
    /// What the change is; of several, the first.
    pub change: Change,
    /// Of several changes that are decided as one: each of them, in order. Empty for a single change.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub entries: Vec<EntryValidated>,
    /// What the matrix said.
    pub ruling: RulingRecord,
    /// What will be sent.
    pub order: OrderRef,
}

impl Ruled {
    /// Everything it changes, in order. What must hold of a change must hold of each of these.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        let only = self.entries.is_empty().then_some(&self.change);
        only.into_iter()
            .chain(self.entries.iter().map(|entry| &entry.change))
    }

    /// What switches are asked about, for each of its changes.
    pub fn touched(&self) -> impl Iterator<Item = ModeSubject<'_>> {
        let proposal = &self.proposal;
        self.changes().map(|change| ModeSubject {
            agent: Some(&proposal.agent),
            intent: Some(&proposal.intent),
            resource: Some(&change.resource),
            ehr: Some(&proposal.connection),
        })
    }

    /// Whether it makes several changes at once.
    pub fn is_together(&self) -> bool {
        !self.entries.is_empty()
    }
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

/// The EHR has it unsigned, and a person's signature there is awaited. It has no effect until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitingSignature {
    ready: Ready,
    start: DeliveryStart,
    placed: DeliveryReceipt,
    since: Timestamp,
    approval: Option<ApprovalRecord>,
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

/// A canary that waits for a person. It holds what waits, and gives it to nobody who could move it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    mark: CanaryMark,
    waiting: AwaitingApproval,
}

/// A canary that was decided about, or taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanarySettled {
    mark: CanaryMark,
    ruled: Ruled,
    outcome: CanaryOutcome,
}
