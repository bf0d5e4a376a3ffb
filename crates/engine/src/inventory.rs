//! Where PHI is, who can reach it, and how long it is kept: one row for each place that Chaperone puts anything.
//!
//! The rows are data (`rules/inventory.toml`); that none is missing is checked against this list, and this list
//! against the code by a test, so that a new kind of record without a row stops the build. What agents may see is
//! read from the bundle itself, and how long it stays from `rules/retention.toml`.
//!
//! # Source
//! Requirements R043 and R048; 45 CFR 164.308(a)(1)(ii)(A).

use std::collections::BTreeMap;

use chaperone_core::ids::{AgentId, IntentId};
use chaperone_core::ports::PayloadClass;
use chaperone_core::resource::ResourceType;
use chaperone_policy::Bundle;
use serde::{Deserialize, Serialize};

use crate::retention::rules::{RetentionInvalid, RetentionRules};

/// Collections of records and projections that the engine keeps.
pub const COLLECTIONS: [&str; 46] = [
    "account",
    "accounting_patient",
    "assertion",
    "attempts",
    "audit_access",
    "audit_place",
    "audit_stream",
    "audit_work",
    "break_glass",
    "bundle",
    "claim",
    "cohort_job",
    "cohort_patient",
    "conformance",
    "cover",
    "decision_support",
    "ehr_event",
    "envelope",
    "exception",
    "grant",
    "held_work",
    "idempotency",
    "launch",
    "legal_hold",
    "look",
    "outside_text",
    "oversight_demotion",
    "oversight_place",
    "oversight_sample",
    "oversight_tally",
    "pace",
    "passkey_ceremony",
    "retention",
    "review_shown",
    "session",
    "setup",
    "shred",
    "slots",
    "step_up",
    "token",
    "token_index",
    "undo_item",
    "undo_run",
    "verification",
    "writeback",
    "writeback_by_patient",
];

/// The file of the bundle.
pub const FILE: &str = "rules/inventory.toml";

/// Places beside collections and payloads.
const OTHERS: [&str; 16] = [
    "ledger/events",
    "ledger/tree",
    "work",
    "lease",
    "keys",
    "key-tombstones",
    "anchors",
    "memory",
    "log",
    "metrics",
    "notices",
    "files/audit",
    "files/conformance",
    "files/tombstones",
    "training",
    "support",
];

/// Whether a place holds anything about patients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// Health information with what identifies the patient.
    Phi,
    /// References or tokens that lead to a patient for whoever holds a key or may ask the EHR.
    Pseudonyms,
    /// Nothing about patients.
    Nothing,
}

/// One place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Its name: `payload/[class]`, `record/[collection]`, or one of the fixed ones.
    pub artefact: String,
    /// What is there, in words.
    pub what: String,
    /// Whether that is about patients.
    pub holds: Holds,
    /// Where it rests.
    pub store: String,
    /// The key it is sealed under, in words.
    pub key: String,
    /// Who can reach it, in words.
    pub reached_by: String,
    /// How long it is kept, in words: what `rules/retention.toml` says.
    #[serde(default, skip_deserializing)]
    pub kept: String,
}

/// What agents may see in one intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sight {
    /// The intent.
    pub intent: IntentId,
    /// Its purpose of use.
    pub purpose: String,
    /// Agents that may ask for it.
    pub agents: Vec<AgentId>,
    /// Elements by type.
    pub elements: BTreeMap<ResourceType, Vec<String>>,
}

/// The inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// Places, in the order of the file.
    pub places: Vec<Place>,
    /// What agents may see.
    pub sights: Vec<Sight>,
}

/// Why there is no inventory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InventoryInvalid {
    /// The bundle has no such file.
    #[error("the bundle has no rules/inventory.toml")]
    Missing,
    /// It cannot be read.
    #[error("rules/inventory.toml cannot be used: {0}")]
    Unreadable(String),
    /// A place has no row, or more than one.
    #[error("rules/inventory.toml must have exactly one row for `{0}`")]
    Rows(String),
    /// A row is for no place.
    #[error("rules/inventory.toml: `{0}` is no place that Chaperone knows")]
    Unknown(String),
    /// How long things are kept cannot be said.
    #[error(transparent)]
    Retention(#[from] RetentionInvalid),
}

#[derive(Deserialize)]
struct Table {
    places: Vec<Place>,
}

/// Every place that must have a row.
pub fn artefacts() -> Vec<String> {
    let payloads = PayloadClass::ALL.iter();
    payloads
        .map(|class| format!("payload/{}", class.as_str()))
        .chain(COLLECTIONS.iter().map(|name| format!("record/{name}")))
        .chain(OTHERS.iter().map(|name| (*name).to_owned()))
        .collect()
}

impl Inventory {
    /// The inventory of a bundle.
    ///
    /// # Errors
    /// [`InventoryInvalid`] names the row that is missing or too much.
    pub fn of(bundle: &Bundle) -> Result<Self, InventoryInvalid> {
        let text = bundle
            .rule_text("inventory")
            .ok_or(InventoryInvalid::Missing)?;
        let retention = RetentionRules::of(bundle)?;
        let mut table: Table = toml::from_str(text)
            .map_err(|error| InventoryInvalid::Unreadable(error.message().to_owned()))?;
        let wanted = artefacts();
        for artefact in &wanted {
            let rows = table.places.iter().filter(|it| it.artefact == *artefact);
            if rows.count() != 1 {
                return Err(InventoryInvalid::Rows(artefact.clone()));
            }
        }
        if let Some(stray) = table
            .places
            .iter()
            .find(|it| !wanted.contains(&it.artefact))
        {
            return Err(InventoryInvalid::Unknown(stray.artefact.clone()));
        }
        for place in &mut table.places {
            place.kept = retention.words(&place.artefact);
        }
        let sights = bundle
            .intents()
            .map(|intent| Sight {
                intent: intent.id.clone(),
                purpose: intent.purpose_of_use.to_string(),
                agents: bundle
                    .agents()
                    .filter(|agent| agent.intents.contains(&intent.id))
                    .map(|agent| agent.id.clone())
                    .collect(),
                elements: intent
                    .view
                    .iter()
                    .map(|(resource, fields)| (resource.clone(), fields.to_vec()))
                    .collect(),
            })
            .collect();
        Ok(Self {
            places: table.places,
            sights,
        })
    }
}
