//! Overseeing: who made a proposal, what people said of what went through, and what followed from it.
//! Serialised: a promise (see [`crate::event`]).
//!
//! Not here: how much agreement makes a number ([`calibration`]), the limits (`rules/oversight.toml`), and who counts
//! (the engine).

pub mod calibration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::digest::{Digest, PayloadAddress};
use crate::ids::{IntentId, PolicyId};
use crate::principal::Role;
use crate::undo::VersionName;

/// Which model and prompts made a proposal, and how sure the agent says it is of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// The model, as registered.
    pub model: VersionName,
    /// The prompt versions, as registered.
    pub prompts: Vec<VersionName>,
    /// The agent's own confidence, in percent: a claim.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub claimed_pct: Option<u8>,
}

/// Whose decisions are judged together: one intent on one model with one set of prompts, on one row of the matrix
/// or on all. Another version of model or prompt is another combination, and starts with nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Combination {
    /// The intent.
    pub intent: IntentId,
    /// The policy that determined the gate; nothing for all of them together.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub row: Option<PolicyId>,
    /// The model.
    pub model: VersionName,
    /// The prompts.
    pub prompts: Vec<VersionName>,
}

impl Combination {
    /// What a maker's proposals for an intent are counted under.
    pub fn of(maker: &Maker, intent: &IntentId, row: Option<PolicyId>) -> Self {
        Self {
            intent: intent.clone(),
            row,
            model: maker.model.clone(),
            prompts: maker.prompts.clone(),
        }
    }

    /// What it is filed under: a digest of its parts, each in its place.
    pub fn key(&self) -> Digest {
        let row = self.row.as_ref().map_or("", PolicyId::as_str);
        let prompts = self.prompts.iter().map(VersionName::as_str);
        Digest::of_parts(
            [self.intent.as_str(), row, self.model.as_str()]
                .into_iter()
                .chain(prompts)
                .map(str::as_bytes),
        )
    }
}

/// What a person says of something that went through without anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// They would have let it through as it was.
    Agree,
    /// They would not.
    Disagree,
}

impl Verdict {
    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Agree => "agree",
            Verdict::Disagree => "disagree",
        }
    }
}

/// Which limit of a person's pace was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaceLimit {
    /// Too many approvals in too short a time.
    TooMany,
    /// The median time between opening and approving is too short.
    TooFast,
}

impl PaceLimit {
    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            PaceLimit::TooMany => "too-many",
            PaceLimit::TooFast => "too-fast",
        }
    }
}

/// What overseeing records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum OversightEvent {
    /// Something that went through without anybody was drawn for a look afterwards. On its write-back.
    Sampled,
    /// A person looked at it. On its write-back.
    Reviewed {
        /// What they say.
        verdict: Verdict,
        /// Why, in the vault, where they gave a reason.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<PayloadAddress>,
    },
    /// Too much was found wrong: from now on a person agrees first.
    Demoted {
        /// Whose.
        combination: Box<Combination>,
        /// How many of those looked at counted.
        reviewed: u32,
        /// With how many people disagreed.
        disagreed: u32,
    },
    /// A person gave it back what its row says.
    Restored {
        /// Whose.
        combination: Box<Combination>,
        /// Why, in the vault.
        reason: PayloadAddress,
    },
    /// A person approved too much or too fast, and was asked to pause. On their account.
    Paused {
        /// Which limit.
        limit: PaceLimit,
        /// Approvals that counted.
        approvals: u32,
        /// The median time from opening to approving, in milliseconds.
        median_ms: u64,
        /// Until when only what is urgent is taken from them.
        until: Timestamp,
    },
    /// It waits longer than it should, and somebody more was told. On its write-back.
    Overdue {
        /// Which step, from 1.
        step: u8,
        /// Who was told.
        roles: Vec<Role>,
    },
}
