//! What part a person has in one write-back: who may read what an agent proposed about a patient.
//!
//! Working with patients is not enough. Who decides it may read it, who asked for it or has decided it,
//! and who has something to do about it now; operators see how it goes and nothing of the content.

use chaperone_core::gate::Gate;
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::Writeback;

use super::patients::sees_patients;
use crate::approve::{ENTERS, OPERATES, RESOLVES};
use crate::canary::was_decided_by;

/// How much of a write-back a person may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Content,
    /// State, ruling and timeline, without anything about the patient.
    Outline,
    /// Nothing: for them it does not exist.
    None,
}

impl Part {
    /// Works it out.
    pub(crate) fn of(state: &Writeback, by: &Human) -> Part {
        if !sees_patients(by) {
            let is_canary = matches!(state, Writeback::CanarySettled(_));
            return if by.holds(Role::ItAdmin) && !is_canary {
                Part::Outline
            } else {
                Part::None
            };
        }
        // How somebody did with a canary is theirs to know.
        if let Writeback::CanarySettled(settled) = state {
            return match was_decided_by(settled, by) {
                true => Part::Content,
                false => Part::None,
            };
        }
        let holds = |roles: &[Role]| roles.iter().any(|role| by.holds(*role));
        let is_theirs = state.proposal().is_asked_by(by.person)
            || state.approvals().iter().any(|a| a.person == by.person);
        let is_their_turn = match state {
            Writeback::DeadLetter(_) | Writeback::Quarantined(_) => holds(&OPERATES),
            Writeback::Unknown(unknown) => unknown.human_needed().is_some() && holds(&RESOLVES),
            Writeback::Delivering(entry) => entry.is_human_entry() && holds(&ENTERS),
            // Whether it was entered all the same, somebody must look up.
            Writeback::Void(void) => {
                void.ready().ruled().order.strategy
                    == chaperone_core::evidence::Strategy::HumanEntry
                    && holds(&ENTERS)
            }
            _ => false,
        };
        let is_of_the_gate = match state.ruled().map(|ruled| &ruled.ruling) {
            Some(ruling) => match &ruling.gate {
                Gate::Approve { roles } | Gate::Approve2f { roles } => {
                    roles.iter().any(|role| by.holds(*role)) || holds(&ruling.notify)
                }
                Gate::TwoPerson { first, second } => {
                    holds(&[*first, *second]) || holds(&ruling.notify)
                }
                // Nobody was asked, so nobody is shut out who works with patients.
                Gate::Auto | Gate::AutoVerified { .. } | Gate::Deny => true,
            },
            None => true,
        };
        if is_theirs || is_their_turn || is_of_the_gate {
            Part::Content
        } else if by.holds(Role::ItAdmin) {
            Part::Outline
        } else {
            Part::None
        }
    }
}
