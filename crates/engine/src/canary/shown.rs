//! What pages show of a canary: while it waits, what they show of anything else; once it is over, to whoever decided
//! about it, what it was.
//!
//! While canaries are on, the ledger's pages keep back how anything that waits came about, the real as well: the stored
//! form of a canary says what it is. Once one is over they keep back who decided, and what of the same person could be
//! laid beside it: [`Discretion`]. It is all there for auditors, in exports and AuditEvents, at once.

use std::collections::BTreeSet;

use chaperone_core::canary::{CanaryEnd, CanaryOutcome};
use chaperone_core::event::{Event, Recorded, StreamId};
use chaperone_core::ids::{PatientToken, WritebackId};
use chaperone_core::oversight::OversightEvent;
use chaperone_core::ports::StoreFailed;
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

/// Whether this is a canary that is over and that somebody else decided about, or nobody: at the console nothing of its
/// stream is shown then, neither who had it in hand nor the digest that a second factor was given for.
pub(crate) fn is_of_another(by: &Human, state: &Writeback) -> bool {
    matches!(state, Writeback::CanarySettled(settled) if !was_decided_by(settled, by))
}

/// What pages keep back outside of the streams of canaries, because it says of somebody that they had one in hand.
#[derive(Debug, Default)]
pub(crate) struct Discretion {
    /// Whether there are canaries, or were.
    is_called_for: bool,
    /// Those that are over.
    settled: BTreeSet<WritebackId>,
    /// Their patients.
    patients: BTreeSet<PatientToken>,
}

impl Discretion {
    /// Whether there are canaries, or were: otherwise nothing is kept back.
    pub(crate) fn is_called_for(&self) -> bool {
        self.is_called_for
    }

    /// Whether an event keeps its place at most. Second factors and pauses of other people are kept back for whatever
    /// they were: if only those of canaries were, that would tell.
    pub(crate) fn holds_back(&self, by: &Human, recorded: &Recorded) -> bool {
        let account = match (&recorded.stream, &recorded.event) {
            // The look at whose likeness is taken: a canary comes next.
            (StreamId::Oversight, Event::ReadPermitted(_)) => return true,
            (StreamId::Account(account), _) => account,
            _ => return false,
        };
        let is_made_up = |patient: &PatientToken| self.patients.contains(patient);
        *account != by.account
            && match &recorded.event {
                Event::StepUpPassed { .. } | Event::Oversight(OversightEvent::Paused { .. }) => {
                    self.is_called_for
                }
                Event::ReadPermitted(look) => look.patient.as_ref().is_some_and(is_made_up),
                Event::TokenRevealed { patient, .. } => patient.as_ref().is_some_and(is_made_up),
                Event::DecisionRefused { writeback, .. } => self.settled.contains(writeback),
                _ => false,
            }
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
    /// What a page keeps back of canaries that are over.
    pub(crate) async fn discretion(&self) -> Result<Discretion, StoreFailed> {
        let rows = self.settled_canaries().await?;
        Ok(Discretion {
            is_called_for: self.canaries_disclosed().is_some() || !rows.is_empty(),
            settled: rows.iter().map(|row| row.id).collect(),
            patients: rows.iter().filter_map(|row| row.patient).collect(),
        })
    }

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
