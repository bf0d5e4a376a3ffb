//! Exceptions: what the matrix refuses, asked for by a person, granted by another, used once and looked at afterwards.
//! Serialised: a promise (see [`crate::event`]).
//!
//! An exception is named by the write-back that was refused, and there is at most one for each. Not here: who may ask,
//! grant and review (`rules/exceptions.toml`), and what an exception may lift (the policies).
//!
//! # Source
//! Requirement R037.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::digest::{Digest, PayloadAddress};
use crate::ids::WritebackId;

/// What somebody found who looked at a used exception afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExceptionFinding {
    /// It was right to grant it.
    Justified,
    /// It was right, and it will come again: the matrix should have a row for it.
    ChangeTheMatrix,
    /// It should not have been granted.
    NotJustified,
}

impl ExceptionFinding {
    /// Every finding.
    pub const ALL: [ExceptionFinding; 3] = [
        ExceptionFinding::Justified,
        ExceptionFinding::ChangeTheMatrix,
        ExceptionFinding::NotJustified,
    ];

    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            ExceptionFinding::Justified => "justified",
            ExceptionFinding::ChangeTheMatrix => "change_the_matrix",
            ExceptionFinding::NotJustified => "not_justified",
        }
    }

    /// Reads the stored name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

/// What happened to an exception. Stands on the stream of the write-back that was refused, and moves it nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum ExceptionEvent {
    /// A person asked for it.
    Requested {
        /// Why, in the vault.
        reason: PayloadAddress,
        /// What whoever grants it agrees to.
        binding: Digest,
        /// Until when somebody may grant it.
        until: Timestamp,
    },
    /// Another person granted it, with a second factor for exactly this.
    Granted {
        /// What they agreed to.
        binding: Digest,
        /// Until when it can be used.
        until: Timestamp,
    },
    /// Another person said no.
    Declined {
        /// Why, in the vault.
        reason: PayloadAddress,
    },
    /// It was used: the same content was proposed once more, for people to approve.
    Used {
        /// The new write-back.
        by: WritebackId,
    },
    /// Its time was up before anybody granted or used it.
    Expired {
        /// Whether it had been granted.
        granted: bool,
    },
    /// Somebody looked at it after it was used.
    Reviewed {
        /// What they found.
        finding: ExceptionFinding,
        /// In their words, in the vault.
        note: PayloadAddress,
    },
}
