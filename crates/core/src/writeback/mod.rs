//! The write-back state machine: the whole life of a proposal.
//!
//! ```text
//! Proposed ─▶ Validated ─▶ Staged
//!     │           ├──────▶ AwaitingVerification ─┐
//!     │           ├──────▶ AwaitingApproval ─────┼─▶ Ready ─▶ Delivering ─▶ Delivered ─▶ Compensated
//!     ▼           ▼                              │     ▲          │   ▲
//!  Refused     Refused                           │     └──────────┤   │ applied after all
//!                         Void ◀── stale, consent, deliver-by ────┘   │
//!                                                Ready ◀── not applied ── Unknown
//!                                                DeadLetter ─▶ Ready (requeued) | Abandoned
//!            a human entry waits in Delivering: ─▶ Delivered (attested) | Abandoned | Void (too late)
//!            what is signed in the EHR goes Validated ─▶ Ready ─▶ Delivering ─▶ AwaitingSignature ─▶ Delivered (signed)
//!                                                                                            └─▶ Void (not signed, changed, …)
//!            a canary: Canary ─▶ CanarySettled (missed, caught, taken back), and nowhere else
//! ```
//!
//! One struct per state with private fields; a transition consumes the state and takes its evidence.
//! [`decide`] turns a command into an event, [`Writeback::evolve`] folds events into states. Both are
//! total; the table of states × events is frozen by a snapshot in `tests/writeback_table.rs`.
//!
//! Moves that must not exist do not compile. There is no way from waiting for approval to delivery:
//! ```compile_fail
//! use chaperone_core::writeback::{AwaitingApproval, DeliveryStart};
//! fn send(waiting: AwaitingApproval, start: DeliveryStart) { let _ = waiting.start_delivery(start); }
//! ```
//! A send of unknown outcome cannot be started again before it is reconciled (invariant 5):
//! ```compile_fail
//! use chaperone_core::writeback::{DeliveryStart, Unknown};
//! fn retry(unknown: Unknown, start: DeliveryStart) { let _ = unknown.start_delivery(start); }
//! ```
//! A refused proposal cannot be approved:
//! ```compile_fail
//! use chaperone_core::{evidence::ApprovalRecord, writeback::Refused};
//! fn revive(refused: Refused, approval: ApprovalRecord) { let _ = refused.approved(approval); }
//! ```
//! A canary is neither approved nor sent; there is no way from it to the queue:
//! ```compile_fail
//! use chaperone_core::{Timestamp, evidence::ApprovalRecord, writeback::Canary};
//! fn agree(canary: Canary, approval: ApprovalRecord, at: Timestamp) { let _ = canary.approved(approval, at); }
//! ```
//! ```compile_fail
//! use chaperone_core::writeback::{Canary, DeliveryStart};
//! fn send(canary: Canary, start: DeliveryStart) { let _ = canary.start_delivery(start); }
//! ```
//! Evidence cannot be read back from storage:
//! ```compile_fail
//! let _: chaperone_core::evidence::Approval = serde_json::from_str("{}").unwrap();
//! ```

mod decide;
mod entries;
mod event;
mod state;

pub use decide::{Command, Refusal, decide};
pub use event::{
    DeliveryReceipt, DeliveryStart, FailureCause, HumanNeeded, NotAppliedBasis, OrderRef, Proposal,
    QuarantineReason, RefusedBy, VoidReason, WritebackEvent,
};
pub use state::{
    Abandoned, AwaitingApproval, AwaitingSignature, AwaitingVerification, CANARY_CLASS_MAX, Canary,
    CanarySettled, Compensated, DeadLetter, Delivered, Illegal, InDelivery, Proposed, Quarantined,
    Ready, Refused, Ruled, Staged, StateName, Unknown, Validated, Void, Writeback,
};

/// Most attempts to deliver one order before it becomes a dead letter.
pub const DELIVERY_ATTEMPTS_MAX: u32 = 8;
