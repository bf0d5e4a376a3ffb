//! Cohorts: lists of patients that one person asks for and another approves, and that put each patient before an agent
//! on their own. What the bundle declares of them, how it stands with one patient of a list, and what is recorded.
//! Events are serialised: a promise (see [`crate::event`]).
//!
//! Not here: searching, who is left out, and making grants (the engine). An agent never sees a list.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::digest::{Digest, PayloadAddress};
use crate::ids::{AgentId, CohortId, GrantId, IntentId, PatientToken};
use crate::principal::Role;
use crate::resource::{Code, ResourceType};

/// Most patients that any bundle may let one list hold: what a person can read through before agreeing to it.
pub const COHORT_PATIENTS_MAX: u32 = 200;

/// A cohort: `cohorts/<id>.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortDeclaration {
    /// Its id.
    pub id: CohortId,
    /// What people call it.
    pub title: String,
    /// What it is for, in one sentence, for whoever approves a list.
    pub purpose: String,
    /// Where the criteria come from.
    pub source: String,
    /// Who answers for it, as a role or team.
    pub owner: String,
    /// Day of the last review, `YYYY-MM-DD`.
    pub reviewed: String,
    /// Day by which it must be reviewed again, `YYYY-MM-DD`.
    pub review_by: String,
    /// The agent that each patient is put before.
    pub agent: AgentId,
    /// For what.
    pub intent: IntentId,
    /// Most patients of one list.
    pub cap: u32,
    /// What happens when more are found.
    pub over_cap: OverCap,
    /// Whether minors, and those of whom nobody knows that they are not, may be on it.
    pub minors: Minors,
    /// Most grants that are made in a minute.
    pub grants_per_minute: u32,
    /// How long a list counts, in hours: within this time it is approved and every grant is made.
    pub list_hours: u32,
    /// How long each grant waits to be used, in minutes.
    pub grant_minutes: u32,
    /// Roles that may ask for a list.
    pub request: Vec<Role>,
    /// Roles that may approve one that somebody else asked for.
    pub approve: Vec<Role>,
    /// How a patient must be reachable; without it nobody is left out for their wishes about contact.
    #[serde(default)]
    pub contact: Option<CohortContact>,
    /// Who is looked for.
    pub search: CohortSearch,
    /// What a patient must not have: one search for each patient, with the patient filled in.
    #[serde(default)]
    pub unless: Vec<CohortSearch>,
    /// What whoever asks may choose, by name.
    #[serde(default)]
    pub arguments: BTreeMap<String, CohortArgument>,
}

/// What happens to a list that is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverCap {
    /// There is no list.
    Refuse,
    /// Those that the EHR names first stay.
    Cut,
}

/// Whether minors may be on a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Minors {
    /// They are left out.
    LeaveOut,
    /// They may.
    Include,
}

/// How a patient must be reachable: by one of these channels at least, for this purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortContact {
    /// A code of the purposes in `rules/consent.toml`.
    pub purpose: String,
    /// Codes of the channels there.
    pub channels: Vec<String>,
}

/// A search: a type, and parameters that `rules/cohorts.toml` lists for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortSearch {
    /// The type.
    pub resource: ResourceType,
    /// Values by parameter. What comes back is held against each of them.
    pub parameters: BTreeMap<String, CohortValue>,
}

/// What a parameter is searched with: codes, or one side of a span of days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortValue {
    /// One of these codes.
    #[serde(default)]
    pub codes: Vec<Code>,
    /// Of this system.
    #[serde(default)]
    pub system: Option<String>,
    /// On that day or later: so many days ago.
    #[serde(default)]
    pub from_days_ago: Option<CohortDays>,
    /// Before that day: so many days ago.
    #[serde(default)]
    pub before_days_ago: Option<CohortDays>,
}

/// A number of days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CohortDays {
    /// Fixed; below zero lies ahead.
    Fixed(i64),
    /// What was chosen for this argument.
    Argument(String),
}

/// A number that whoever asks may choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortArgument {
    /// What it is, for whoever chooses.
    pub title: String,
    /// The least.
    pub minimum: i64,
    /// The most.
    pub maximum: i64,
    /// What it is when nobody chooses.
    pub default: i64,
}

/// What every cohort stays within, and what may be searched: `rules/cohorts.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortBounds {
    /// Where the table comes from.
    pub source: String,
    /// Who answers for it, as a role or team.
    pub owner: String,
    /// Day of the last review, `YYYY-MM-DD`.
    pub reviewed: String,
    /// Day by which it must be reviewed again, `YYYY-MM-DD`.
    pub review_by: String,
    /// Most patients that a cohort may let its lists hold.
    pub cap_max: u32,
    /// Most grants a minute.
    pub grants_per_minute_max: u32,
    /// Longest time that a list counts, in hours.
    pub list_hours_max: u32,
    /// Longest time that a grant waits, in minutes.
    pub grant_minutes_max: u32,
    /// Most resources that the search of a list may find: with more there is no list.
    pub found_max: u32,
    /// What may be searched, by type.
    #[serde(default)]
    pub searches: BTreeMap<ResourceType, CohortSearchable>,
}

/// What may be searched of one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortSearchable {
    /// The element that names the patient.
    pub patient: String,
    /// The elements that parameters are about, by parameter: codes.
    #[serde(default)]
    pub codes: BTreeMap<String, String>,
    /// The same: dates.
    #[serde(default)]
    pub dates: BTreeMap<String, String>,
}

/// Why a patient is not on a list, or was left out at the last moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CohortRemoval {
    /// The EHR has no such patient in use, or does not say whom a merged record became.
    NotFound,
    /// The record was merged into another since.
    Merged,
    /// The patient has died.
    Deceased,
    /// The record is labelled as restricted.
    Restricted,
    /// The patient is a minor, or nobody knows that they are not.
    Minor,
    /// The patient's Consents do not allow it, or cannot be read.
    Consent,
    /// The patient does not wish to be reached for this, or has not agreed to it.
    NoContact,
    /// The patient has what the cohort says they must not have.
    NotDue,
    /// The list was full.
    OverCap,
    /// A person struck them.
    Struck,
    /// The time of the list was up.
    TimeUp,
    /// A person stopped the job.
    Stopped,
    /// Another bundle is in force.
    RulesChanged,
}

impl CohortRemoval {
    /// The name used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            CohortRemoval::NotFound => "not_found",
            CohortRemoval::Merged => "merged",
            CohortRemoval::Deceased => "deceased",
            CohortRemoval::Restricted => "restricted",
            CohortRemoval::Minor => "minor",
            CohortRemoval::Consent => "consent",
            CohortRemoval::NoContact => "no_contact",
            CohortRemoval::NotDue => "not_due",
            CohortRemoval::OverCap => "over_cap",
            CohortRemoval::Struck => "struck",
            CohortRemoval::TimeUp => "time_up",
            CohortRemoval::Stopped => "stopped",
            CohortRemoval::RulesChanged => "rules_changed",
        }
    }

    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            CohortRemoval::NotFound => "no record in use",
            CohortRemoval::Merged => "the record was merged into another",
            CohortRemoval::Deceased => "has died",
            CohortRemoval::Restricted => "the record is restricted",
            CohortRemoval::Minor => "a minor, or of unknown age",
            CohortRemoval::Consent => "consent does not allow it, or cannot be read",
            CohortRemoval::NoContact => "does not wish to be reached for this, or has not agreed",
            CohortRemoval::NotDue => "not due any more",
            CohortRemoval::OverCap => "the list was full",
            CohortRemoval::Struck => "struck by a person",
            CohortRemoval::TimeUp => "the time of the list was up",
            CohortRemoval::Stopped => "the job was stopped",
            CohortRemoval::RulesChanged => "the rules changed",
        }
    }
}

/// How it stands with one patient of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum CohortStep {
    /// On the list; nothing was done yet.
    Listed,
    /// A grant waits for the agent.
    Granted {
        /// The grant.
        grant: GrantId,
        /// When it was made.
        at: Timestamp,
        /// Until when it waits.
        until: Timestamp,
    },
    /// The agent used its grant.
    Used {
        /// The grant.
        grant: GrantId,
    },
    /// Nobody used the grant in time.
    Unused {
        /// The grant.
        grant: GrantId,
    },
    /// Left out, by a person or at the last moment.
    LeftOut {
        /// Why.
        because: CohortRemoval,
    },
}

impl CohortStep {
    /// In words, for people.
    pub fn words(&self) -> &'static str {
        match self {
            CohortStep::Listed => "on the list",
            CohortStep::Granted { .. } => "waits for the agent",
            CohortStep::Used { .. } => "taken by the agent",
            CohortStep::Unused { .. } => "ran out unused",
            CohortStep::LeftOut { because } => because.words(),
        }
    }
}

/// How many patients of a list stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CohortCounts {
    /// On the list; nothing was done yet.
    pub listed: u64,
    /// With a grant that waits.
    pub granted: u64,
    /// Taken by the agent.
    pub used: u64,
    /// With a grant that ran out.
    pub unused: u64,
    /// Left out, by a person or at the last moment.
    pub left_out: u64,
}

impl CohortCounts {
    /// Counts steps.
    pub fn of<'s>(steps: impl IntoIterator<Item = &'s CohortStep>) -> Self {
        let mut counts = Self::default();
        for step in steps {
            let count = match step {
                CohortStep::Listed => &mut counts.listed,
                CohortStep::Granted { .. } => &mut counts.granted,
                CohortStep::Used { .. } => &mut counts.used,
                CohortStep::Unused { .. } => &mut counts.unused,
                CohortStep::LeftOut { .. } => &mut counts.left_out,
            };
            *count = count.saturating_add(1);
        }
        counts
    }

    /// Whether nothing more happens.
    pub fn is_settled(&self) -> bool {
        self.listed == 0 && self.granted == 0
    }
}

/// How a job came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CohortEnd {
    /// Everybody on the list was worked off.
    Finished,
    /// A person stopped it, or said no to the list.
    Stopped,
    /// Nobody approved the list in time.
    NotApproved,
    /// Another bundle is in force than the one it was asked for under.
    RulesChanged,
}

impl CohortEnd {
    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            CohortEnd::Finished => "finished",
            CohortEnd::Stopped => "stopped",
            CohortEnd::NotApproved => "not approved in time",
            CohortEnd::RulesChanged => "ended, because the rules changed",
        }
    }
}

/// A list as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CohortListed {
    /// The cohort.
    pub cohort: CohortId,
    /// The agent.
    pub agent: AgentId,
    /// The intent.
    pub intent: IntentId,
    /// The governance bundle.
    pub bundle: Digest,
    /// What was chosen, by argument.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub arguments: BTreeMap<String, i64>,
    /// Why, in the vault.
    pub reason: PayloadAddress,
    /// The digest over job, agent, intent, bundle and patients; what people approve.
    pub list: Digest,
    /// How many patients are on it.
    pub listed: u64,
    /// How many were found and are not on it, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub removed: BTreeMap<CohortRemoval, u64>,
    /// Until when it counts.
    pub until: Timestamp,
}

/// Everything that is recorded of a job beside its grants, which name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum CohortEvent {
    /// A person asked for a list, and it was made.
    Listed(Box<CohortListed>),
    /// A person struck a patient before the list was approved: it is another list.
    Struck {
        /// The patient.
        patient: PatientToken,
        /// The digest of the list without them.
        list: Digest,
        /// How many are left.
        listed: u64,
    },
    /// Another person approved exactly this list.
    Approved {
        /// Its digest.
        list: Digest,
        /// How many are on it.
        listed: u64,
    },
    /// A patient of an approved list gets no grant, or the one that waited was taken back.
    LeftOut {
        /// The patient.
        patient: PatientToken,
        /// Why.
        because: CohortRemoval,
        /// The grant that was taken back.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        grant: Option<GrantId>,
    },
    /// Nothing more happens.
    Ended {
        /// How.
        cause: CohortEnd,
        /// How many patients ended where.
        counts: CohortCounts,
    },
}

impl CohortEvent {
    /// The patient it concerns.
    pub fn patient(&self) -> Option<PatientToken> {
        match self {
            CohortEvent::Struck { patient, .. } | CohortEvent::LeftOut { patient, .. } => {
                Some(*patient)
            }
            CohortEvent::Listed(_) | CohortEvent::Approved { .. } | CohortEvent::Ended { .. } => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_settled_when_nobody_waits() {
        let grant = GrantId::from_random([1; 16]);
        let done = [
            CohortStep::Used { grant },
            CohortStep::Unused { grant },
            CohortStep::LeftOut {
                because: CohortRemoval::Consent,
            },
        ];
        let counts = CohortCounts::of(&done);
        assert!(counts.is_settled());
        assert_eq!((counts.used, counts.unused, counts.left_out), (1, 1, 1));
        let waiting = CohortStep::Granted {
            grant,
            at: Timestamp::UNIX_EPOCH,
            until: Timestamp::UNIX_EPOCH,
        };
        for open in [CohortStep::Listed, waiting] {
            assert!(!CohortCounts::of(done.iter().chain([&open])).is_settled());
        }
    }
}
