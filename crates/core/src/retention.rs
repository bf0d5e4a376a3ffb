//! What happens to what is kept: it goes at the end of its time, somebody holds it back, a patient is shredded.
//! Serialised: a promise (see [`crate::event`]).
//!
//! Not here: the rules themselves, which are data, and who applies them (the engine).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, PayloadAddress};
use crate::ids::{HoldId, PatientToken};

/// A receipt: what went, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// What kind of thing, as the inventory names it.
    pub artefact: String,
    /// The rule.
    pub rule: String,
    /// The digest of the rules in force.
    pub rules: Digest,
    /// How many went.
    pub count: u64,
    /// Over the addresses or keys of all that went, in order.
    pub manifest: Digest,
    /// The payloads that went; nothing for rows.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub payloads: Vec<PayloadAddress>,
}

impl Deletion {
    /// The manifest of payloads: a digest over their addresses, in order.
    pub fn manifest_of(payloads: &[PayloadAddress]) -> Digest {
        Digest::of_parts(payloads.iter().map(|it| &it.digest().as_bytes()[..]))
    }
}

/// What of a patient is gone for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shredded {
    /// The patient.
    pub patient: PatientToken,
    /// Names of the keys that were destroyed.
    pub keys: Vec<String>,
    /// Payloads that were deleted besides.
    pub payloads: u64,
    /// Rows that were deleted, by collection.
    pub records: BTreeMap<String, u64>,
    /// Over addresses and keys of all that was deleted, in order.
    pub manifest: Digest,
}

/// Everything that can happen to what is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum RetentionEvent {
    /// Its time was up, and it went.
    Deleted(Box<Deletion>),
    /// Somebody holds back what would go.
    HoldPlaced {
        /// The hold.
        hold: HoldId,
        /// Whose; everybody's when absent.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        patient: Option<PatientToken>,
        /// The reason given, in the vault.
        reason: PayloadAddress,
    },
    /// It is not held back any more.
    HoldReleased {
        /// The hold.
        hold: HoldId,
        /// Whose.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        patient: Option<PatientToken>,
        /// The reason given, in the vault.
        reason: PayloadAddress,
    },
    /// Somebody decided to make everything of a patient unreadable.
    ShredStarted {
        /// The patient.
        patient: PatientToken,
        /// The reason given, in the vault.
        reason: PayloadAddress,
        /// The digest of the rules in force.
        rules: Digest,
    },
    /// It is unreadable.
    ShredEnded(Box<Shredded>),
    /// A restored database held it again; it is unreadable again.
    ShredReplayed(Box<Shredded>),
}

impl RetentionEvent {
    /// The patient, where it concerns one by itself.
    pub fn patient(&self) -> Option<PatientToken> {
        match self {
            RetentionEvent::Deleted(_) => None,
            RetentionEvent::HoldPlaced { patient, .. }
            | RetentionEvent::HoldReleased { patient, .. } => *patient,
            RetentionEvent::ShredStarted { patient, .. } => Some(*patient),
            RetentionEvent::ShredEnded(shredded) | RetentionEvent::ShredReplayed(shredded) => {
                Some(shredded.patient)
            }
        }
    }
}
