//! Canaries: proposals about patients who do not exist, with something wrong in them, that show whether approvers look.
//! Serialised: a promise (see [`crate::event`]).
//!
//! A canary is made by Chaperone and is no proposal of an agent. It waits like one, in a state of its own
//! ([`crate::writeback::Canary`]) from which nothing leads to the queue: whoever approves it has missed it, whoever
//! rejects it has caught it.
//!
//! Not here: which there are and how often (`rules/canaries.toml`), and how they are made (the engine).

use serde::{Deserialize, Serialize};

use crate::digest::PayloadAddress;
use crate::ids::{AccountName, CanaryId, PersonId};
use crate::principal::Role;
use crate::writeback::Ruled;

/// A canary as it was put before its approvers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanarySeed {
    /// What it is made from.
    pub mark: CanaryMark,
    /// What it looks like: a proposal that one person decides about. Nobody proposed it.
    pub ruled: Ruled,
}

/// Which canary it is, for whom, and where what was made up rests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryMark {
    /// Which of the list.
    pub canary: CanaryId,
    /// Whose attention it is for: a role of its gate.
    pub pool: Role,
    /// The patient who does not exist, and what is wrong, in the vault.
    pub imagined: PayloadAddress,
}

/// What became of a canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CanaryOutcome {
    /// A person approved it.
    Missed(CanaryMiss),
    /// A person rejected it.
    Caught {
        /// The person.
        person: PersonId,
        /// Their reason, in the vault.
        reason: PayloadAddress,
    },
    /// Nobody decided about it; it counts for nothing.
    Withdrawn(CanaryEnd),
}

/// Who approved a canary. No approval: nothing can rest on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryMiss {
    /// The person.
    pub person: PersonId,
    /// Their account.
    pub account: AccountName,
    /// Milliseconds between opening it and approving.
    pub review_ms: u64,
}

/// Why a canary was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum CanaryEnd {
    /// Nobody had decided when others would have been reminded of it.
    Expired,
    /// The bundle that ruled on it is no longer in force.
    RulesChanged,
    /// A switch stands, so people have other things to do.
    Mode,
    /// Too much waits for the same people.
    Busy,
    /// Canaries were switched off.
    SwitchedOff,
    /// A person changed what it says, which shows neither that they saw what is wrong nor that they did not.
    Changed {
        /// The person.
        person: PersonId,
        /// Their reason, in the vault.
        reason: PayloadAddress,
    },
}
