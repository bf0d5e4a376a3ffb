//! Why nothing happened to a cohort job, in words for whoever asked. Texts name counts and never a patient.

use chaperone_core::ids::CohortJobId;
use chaperone_core::ports::{CommitFailed, EhrReadFailed, KeyVaultFailed, StoreFailed};

use crate::approve::DecideFailed;
use crate::errors::CallError;
use crate::tokens::TokenFailed;

/// Why nothing happened to a job.
#[derive(Debug, thiserror::Error)]
pub enum CohortFailed {
    /// The roles do not allow it.
    #[error("your roles do not allow this")]
    NotPermitted,
    /// The requester is not the approver.
    #[error("a list is approved by somebody else than who asked for it")]
    SamePerson,
    /// No such cohort.
    #[error("there is no such cohort in the bundle; `chaperone cohort list` names them")]
    UnknownCohort,
    /// No such job, or not for this person.
    #[error("there is nothing here")]
    Missing,
    /// An argument that is not declared, or outside its bounds.
    #[error("`{name}` cannot be chosen so: {why}")]
    Argument {
        /// The argument.
        name: String,
        /// What it may be.
        why: String,
    },
    /// Too short or too long.
    #[error(
        "say why, in 10 to 1,000 characters, without names of patients; it goes into the record"
    )]
    ReasonUnfit,
    /// The agent must not work now.
    #[error("an agreement in this agent's provider chain is missing or has expired")]
    AgentRefused,
    /// One is under way.
    #[error(
        "a list of this cohort is under way already, {0}; stop it, or wait until it is at its end"
    )]
    UnderWay(CohortJobId),
    /// Nobody is on the list.
    #[error("nobody is on this list{0}")]
    Nobody(String),
    /// More than the cap.
    #[error(
        "{found} patients would be on this list, and the cohort allows {cap}; choose a narrower search, or change the cohort"
    )]
    OverCap {
        /// How many.
        found: usize,
        /// How many there may be.
        cap: u32,
    },
    /// More than a search may find.
    #[error("the search finds more than {0} records; choose a narrower one")]
    TooManyFound(u32),
    /// The list is another one now.
    #[error("the list is another one than you were shown; look at it again")]
    OtherList,
    /// It was not looked at.
    #[error("open the list at the console first: who approves it has read it")]
    NotSeen,
    /// It is not at that stage, or its time is up.
    #[error("this list does not wait for that any more")]
    NotNow,
    /// Another bundle is in force.
    #[error("the rules changed since this list was asked for, so it counts no more; ask again")]
    RulesChanged,
    /// No second factor, or one for something else.
    #[error("the second factor was not given for this list, or is too old; give it again")]
    StepUp,
    /// Somebody else was first.
    #[error("somebody else acted on this just now; look at it again")]
    Again,
    /// The EHR failed.
    #[error("the EHR does not answer this now, so nothing was done: {0}")]
    Ehr(#[from] EhrReadFailed),
    /// A token cannot be followed.
    #[error(transparent)]
    Token(#[from] TokenFailed),
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded, so it did not happen.
    #[error("it could not be recorded, so it did not happen")]
    Commit(#[source] CommitFailed),
    /// A part of Chaperone failed.
    #[error("a part of Chaperone failed")]
    Internal,
}

impl CohortFailed {
    /// Whether it is Chaperone's own failure, rather than an answer to a person.
    pub fn is_internal(&self) -> bool {
        matches!(
            self,
            CohortFailed::Token(_)
                | CohortFailed::Keys(_)
                | CohortFailed::Store(_)
                | CohortFailed::Commit(_)
                | CohortFailed::Internal
        )
    }
}

impl From<CommitFailed> for CohortFailed {
    fn from(failed: CommitFailed) -> Self {
        match failed {
            CommitFailed::Record { collection } if collection == crate::approve::STEP_UPS => {
                CohortFailed::StepUp
            }
            CommitFailed::Conflict { .. } | CommitFailed::Record { .. } => CohortFailed::Again,
            other => CohortFailed::Commit(other),
        }
    }
}

impl From<DecideFailed> for CohortFailed {
    fn from(failed: DecideFailed) -> Self {
        match failed {
            DecideFailed::Store(failed) => CohortFailed::Store(failed),
            _ => CohortFailed::StepUp,
        }
    }
}

impl From<CallError> for CohortFailed {
    fn from(_: CallError) -> Self {
        CohortFailed::Internal
    }
}
