//! What pages show of a canary: while it waits, what they show of anything else; once it is over, to whoever decided
//! about it, what it was.
//!
//! While canaries are on, the ledger's pages keep back how anything that waits came about, the real as well: the stored
//! form of a canary says what it is. It is all there for auditors, in exports and AuditEvents, at once.

use chaperone_core::canary::{CanaryEnd, CanaryOutcome};
use chaperone_core::event::{Event, Recorded};
use chaperone_core::principal::Human;
use chaperone_core::writeback::{CanarySettled, Writeback, WritebackEvent};

use crate::context::Engine;
use crate::views::ViewFailed;

/// Whether an event is how something came to wait.
pub(crate) fn is_opening(event: &Event) -> bool {
    matches!(
        event,
        Event::Writeback(
            WritebackEvent::Proposed(_)
                | WritebackEvent::Validated { .. }
                | WritebackEvent::Ruled { .. }
                | WritebackEvent::CanarySeeded(_)
        )
    )
}

/// Whether an event says how somebody else than this person did: nobody is shown that at the console.
pub(crate) fn is_of_another(by: &Human, recorded: &Recorded) -> bool {
    match &recorded.event {
        Event::Writeback(WritebackEvent::CanaryMissed(miss)) => miss.person != by.person,
        Event::Writeback(WritebackEvent::CanaryCaught { person, .. }) => *person != by.person,
        Event::Writeback(WritebackEvent::CanaryWithdrawn(CanaryEnd::Changed {
            person, ..
        })) => *person != by.person,
        _ => false,
    }
}

/// Whether a person decided about a canary.
pub(crate) fn was_decided_by(settled: &CanarySettled, by: &Human) -> bool {
    match settled.outcome() {
        CanaryOutcome::Missed(miss) => miss.person == by.person,
        CanaryOutcome::Caught { person, .. }
        | CanaryOutcome::Withdrawn(CanaryEnd::Changed { person, .. }) => *person == by.person,
        CanaryOutcome::Withdrawn(_) => false,
    }
}

impl Engine {
    /// Whether pages keep back how this came to wait.
    pub(crate) fn keeps_opening_back(&self, state: &Writeback) -> bool {
        match state {
            Writeback::Canary(_) => true,
            Writeback::AwaitingApproval(_) => self.canaries_disclosed().is_some(),
            _ => false,
        }
    }

    /// For pages of a canary: this engine over an EHR that has its patient. Nothing for everything else.
    pub(crate) async fn beholding(&self, state: &Writeback) -> Result<Option<Engine>, ViewFailed> {
        let mark = match state {
            Writeback::Canary(canary) => canary.mark(),
            Writeback::CanarySettled(settled) => settled.mark(),
            _ => return Ok(None),
        };
        match self.imagination(mark).await.map_err(ViewFailed::from) {
            Ok(has) => Ok(Some(self.imagining(has))),
            Err(failed) if failed.is_gone() => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// What whoever decided about it is told: that it was a test, and what was wrong. Kindly, and at once.
    pub(crate) async fn told_afterwards(&self, settled: &CanarySettled) -> String {
        let told = match settled.outcome() {
            CanaryOutcome::Missed(_) => {
                "This was a test, and you approved it. Nothing happened: the patient does not exist, and nothing was sent. It happens to everybody; what counts is the sum over many."
            }
            CanaryOutcome::Caught { .. } => {
                "This was a test, and you found it. The patient does not exist, and nothing would have been sent. Thank you for looking."
            }
            CanaryOutcome::Withdrawn(CanaryEnd::Changed { .. }) => {
                "This was a test. The patient does not exist, and nothing was sent; because you changed it, it counts for nothing."
            }
            CanaryOutcome::Withdrawn(_) => "This was a test, and it was taken back.",
        };
        match self.imagination(settled.mark()).await {
            Ok(has) => format!("{told} What was wrong: {}", has.wrong),
            Err(_) => told.to_owned(),
        }
    }
}
