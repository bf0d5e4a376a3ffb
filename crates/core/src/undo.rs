//! Undoing what went wrong: what is to be undone, how it stands with each effect, and what is recorded of it.
//! Serialised: a promise (see [`crate::event`]).
//!
//! Not here: finding effects, and what undoes which of them (the engine; `rules/undo.toml` says it for each type of
//! resource). A compensation is a write-back like any other; [`UndoLink`] says what it undoes.

use serde::{Deserialize, Deserializer, Serialize};

use crate::Timestamp;
use crate::digest::PayloadAddress;
use crate::ids::{AgentId, IdInvalid, IntentId, UndoId, WritebackId};

/// Longest name of a model or prompt version, in bytes.
pub const VERSION_NAME_BYTES_MAX: usize = 100;

/// The name of a model, or of a prompt with its version, as bundles declare them: no words of anybody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct VersionName(String);

impl VersionName {
    /// Accepts letters, digits and `-_.:@/+`.
    ///
    /// # Errors
    /// [`IdInvalid::Named`] for anything else, or nothing, or too much.
    pub fn new(text: impl Into<String>) -> Result<Self, IdInvalid> {
        let text = text.into();
        let fits = !text.is_empty()
            && text.len() <= VERSION_NAME_BYTES_MAX
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.:@/+".contains(&b));
        if fits {
            Ok(Self(text))
        } else {
            Err(IdInvalid::Named {
                what: "model or prompt version",
            })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for VersionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for VersionName {
    type Err = IdInvalid;
    fn from_str(text: &str) -> Result<Self, IdInvalid> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for VersionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// What is to be undone. Everything given must hold; nothing given selects nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoSelection {
    /// What this agent proposed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<AgentId>,
    /// What was proposed while the agent ran on this model.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<VersionName>,
    /// What was proposed with this prompt, `id@version`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prompt: Option<VersionName>,
    /// What was proposed for this intent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub intent: Option<IntentId>,
    /// What was proposed at this time or later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<Timestamp>,
    /// What was proposed before this time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<Timestamp>,
    /// This one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub writeback: Option<WritebackId>,
}

impl UndoSelection {
    /// Whether it says nothing. Nobody undoes everything by leaving something out.
    pub fn is_empty(&self) -> bool {
        *self == UndoSelection::default()
    }

    /// Whether it says who made something, so that the order has to be opened.
    pub fn names_version(&self) -> bool {
        self.model.is_some() || self.prompt.is_some()
    }
}

/// What a write-back of Chaperone's own is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoLink {
    /// The run.
    pub run: UndoId,
    /// The write-back it is about.
    pub of: WritebackId,
    /// What it does about it.
    pub part: UndoPart,
}

/// What a write-back of an undo run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoPart {
    /// It undoes the effect.
    Compensation,
    /// It asks a person to.
    Task,
}

/// Why a person must act where nothing could be proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonNeeded {
    /// It rests on something that is undone, and was not selected itself.
    RestsOnUndone,
    /// A person entered it by hand, or said that it is there, so nobody here knows which resource it became.
    EnteredByHand,
    /// This type has no status that says it was an error.
    NoErrorStatus,
    /// The EHR has it no more.
    GoneAtEhr,
    /// Others changed it since, so a person must merge.
    ChangedSince,
    /// The EHR shows only a part of it, and nobody updates what they were shown a part of.
    ShownInPart,
    /// The version before is not kept any more.
    NoBase,
    /// It made several changes as one, and the EHR does not take what would undo them as one.
    NotAsOne,
    /// The order is gone by retention or shredding.
    OrderGone,
    /// What would undo it is not valid: the status cannot return, or the record breaks a rule.
    NotValid,
    /// No row of the matrix allows what would undo it.
    NotPermitted,
    /// A person said no to what would undo it.
    Rejected,
    /// Nobody decided about what would undo it, again and again.
    NotDecided,
    /// What would undo it could not be delivered.
    NotDelivered,
}

impl PersonNeeded {
    /// In words, for whoever acts.
    pub fn words(self) -> &'static str {
        match self {
            PersonNeeded::RestsOnUndone => "it rests on something that is undone",
            PersonNeeded::EnteredByHand => {
                "it is there on a person's word, so a person must correct it"
            }
            PersonNeeded::NoErrorStatus => "this type has no status for an error",
            PersonNeeded::GoneAtEhr => "the EHR has it no more",
            PersonNeeded::ChangedSince => "others changed it since, so a person must merge",
            PersonNeeded::ShownInPart => "the EHR shows only a part of it",
            PersonNeeded::NoBase => "what was there before is not kept any more",
            PersonNeeded::NotAsOne => {
                "it made several changes as one, and the EHR takes no one transaction that undoes them"
            }
            PersonNeeded::OrderGone => "what was sent is not kept any more",
            PersonNeeded::NotValid => "what would undo it is not valid now",
            PersonNeeded::NotPermitted => "the matrix does not allow what would undo it",
            PersonNeeded::Rejected => "a person rejected what would undo it",
            PersonNeeded::NotDecided => "nobody decided about what would undo it",
            PersonNeeded::NotDelivered => "what would undo it was not delivered",
        }
    }
}

/// How it stands with one effect in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum UndoStep {
    /// Found, and nothing done yet.
    Found,
    /// It is on its way: what becomes of it must be known first.
    Waiting,
    /// It was set aside before it was sent.
    SetAside,
    /// A draft of Chaperone's own, withdrawn.
    Withdrawn,
    /// What undoes it is proposed.
    Proposed {
        /// The compensation.
        by: WritebackId,
    },
    /// It is undone.
    Undone {
        /// The compensation.
        by: WritebackId,
    },
    /// There is nothing to undo: it never took effect, or is undone already.
    Nothing,
    /// A person must act.
    Person {
        /// Why.
        needed: PersonNeeded,
        /// The task that asks them to, where the EHR takes one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        task: Option<WritebackId>,
    },
}

impl UndoStep {
    /// Whether nothing more happens to it by itself.
    pub fn is_last(&self) -> bool {
        !matches!(
            self,
            UndoStep::Found | UndoStep::Waiting | UndoStep::Proposed { .. }
        )
    }

    /// The name used on the wire.
    pub fn as_str(&self) -> &'static str {
        match self {
            UndoStep::Found => "found",
            UndoStep::Waiting => "waiting",
            UndoStep::SetAside => "set_aside",
            UndoStep::Withdrawn => "withdrawn",
            UndoStep::Proposed { .. } => "proposed",
            UndoStep::Undone { .. } => "undone",
            UndoStep::Nothing => "nothing",
            UndoStep::Person { .. } => "person",
        }
    }
}

/// How many effects stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoCounts {
    /// Found, nothing done yet.
    pub found: u64,
    /// On their way.
    pub waiting: u64,
    /// Set aside.
    pub set_aside: u64,
    /// Withdrawn drafts.
    pub withdrawn: u64,
    /// With a compensation that is not delivered yet.
    pub proposed: u64,
    /// Undone.
    pub undone: u64,
    /// With nothing to undo.
    pub nothing: u64,
    /// With a person.
    pub person: u64,
}

impl UndoCounts {
    /// Counts steps.
    pub fn of<'s>(steps: impl IntoIterator<Item = &'s UndoStep>) -> Self {
        let mut counts = Self::default();
        for step in steps {
            let count = match step {
                UndoStep::Found => &mut counts.found,
                UndoStep::Waiting => &mut counts.waiting,
                UndoStep::SetAside => &mut counts.set_aside,
                UndoStep::Withdrawn => &mut counts.withdrawn,
                UndoStep::Proposed { .. } => &mut counts.proposed,
                UndoStep::Undone { .. } => &mut counts.undone,
                UndoStep::Nothing => &mut counts.nothing,
                UndoStep::Person { .. } => &mut counts.person,
            };
            *count = count.saturating_add(1);
        }
        counts
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        [
            self.found,
            self.waiting,
            self.set_aside,
            self.withdrawn,
            self.proposed,
            self.undone,
            self.nothing,
            self.person,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Whether nothing more happens by itself.
    pub fn is_settled(&self) -> bool {
        self.found == 0 && self.waiting == 0 && self.proposed == 0
    }
}

/// Everything that is recorded of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum UndoEvent {
    /// A person began it.
    Started {
        /// What is to be undone.
        selection: Box<UndoSelection>,
        /// The reason given, in the vault.
        reason: PayloadAddress,
        /// How many effects were found.
        effects: u64,
        /// How many orders could not be opened, so that nobody can say who made them.
        unreadable: u64,
    },
    /// Something rests on what the run undoes: a later proposal that came to light.
    Joined {
        /// It.
        writeback: WritebackId,
        /// What it rests on.
        on: WritebackId,
    },
    /// It went on with one effect.
    Moved {
        /// The write-back.
        writeback: WritebackId,
        /// Where it stands now.
        #[serde(flatten)]
        step: UndoStep,
    },
    /// On the stream of a write-back: what would undo it was proposed.
    CompensationProposed {
        /// The run.
        run: UndoId,
        /// The compensation.
        by: WritebackId,
    },
    /// Nothing more happens by itself.
    Finished {
        /// How many effects ended where.
        counts: UndoCounts,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_versions_are_no_words() {
        for good in ["example-model-2026-06", "refill@2", "vendor/model:1.2+b"] {
            assert!(VersionName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "Una Sample",
            "a\nb",
            &"a".repeat(VERSION_NAME_BYTES_MAX + 1),
        ] {
            assert!(VersionName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_run_is_settled_when_only_people_can_go_on() {
        let by = WritebackId::from_random([1; 16]);
        let person = UndoStep::Person {
            needed: PersonNeeded::NoBase,
            task: None,
        };
        let last = [UndoStep::SetAside, UndoStep::Undone { by }, person];
        assert!(UndoCounts::of(&last).is_settled());
        assert_eq!(UndoCounts::of(&last).total(), 3);
        for open in [
            UndoStep::Found,
            UndoStep::Waiting,
            UndoStep::Proposed { by },
        ] {
            assert!(!open.is_last());
            assert!(!UndoCounts::of(last.iter().chain([&open])).is_settled());
        }
    }
}
