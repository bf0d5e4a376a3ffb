//! Several changes that are decided and sent as one: a write-back whose order is one FHIR transaction. Serialised: a
//! promise (see [`crate::event`]).
//!
//! There is one state machine, one digest and one approval for all of it, so nothing of it can be approved, sent or
//! fail by itself. Each entry is validated and ruled on by its own, and its own ruling is recorded; what the whole
//! needs is what satisfies every one of them. A single change has no entries: it is its own.
//!
//! # Source
//! Requirement R024; FHIR R4, RESTful API, "transaction".

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::change::{Change, ChangeClass};
use crate::digest::{Digest, PayloadAddress};
use crate::evidence::{RulingRecord, StageRecord, ValidationRecord, WriteOrder};
use crate::facts::Facts;
use crate::gate::Gate;
use crate::ids::ToolName;
use crate::request::WriteRequest;
use crate::resource::{Interaction, ResourceType};

/// Most changes of one order.
pub const ENTRIES_MAX: usize = 10;

/// Types that are never sent together with something else: a call for help and an opting out wait for nothing, a
/// message to a patient waits for the morning, and what identifies a patient or leads to them is verified and told in
/// ways of its own. None of them may be held up, or carried along, by anything else.
pub const NEVER_TOGETHER: [&str; 5] = [
    "Communication",
    "CommunicationRequest",
    "Consent",
    "Flag",
    "Patient",
];

/// One entry after validation: what it changes, and what was checked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryValidated {
    /// The tool whose change it is.
    pub tool: ToolName,
    /// What it changes.
    pub change: Change,
    /// How material it is.
    pub class: ChangeClass,
    /// What the stages found in it.
    pub stages: Vec<StageRecord>,
    /// Digest of its body: SHA-256(salt of the order ‖ body).
    pub body: Digest,
}

/// One validation of several bodies: each stage with what it found in all of them. A stage that did not run for one
/// did not run. Nothing where there is none.
pub fn validation_of_all(records: &[ValidationRecord]) -> Option<ValidationRecord> {
    let (first, rest) = records.split_first()?;
    let mut whole = first.clone();
    let mut packages: BTreeSet<String> = whole.packages.iter().cloned().collect();
    for record in rest {
        packages.extend(record.packages.iter().cloned());
        for stage in &record.stages {
            match whole.stages.iter_mut().find(|it| it.stage == stage.stage) {
                Some(known) => {
                    known.ran &= stage.ran;
                    known.errors = known.errors.saturating_add(stage.errors);
                    known.warnings = known.warnings.saturating_add(stage.warnings);
                }
                None => whole.stages.push(stage.clone()),
            }
        }
        match (&mut whole.rules, &record.rules) {
            (Some(whole), Some(more)) => {
                whole.looked_up.extend(more.looked_up.iter().cloned());
                whole.not_checked = whole.not_checked.saturating_add(more.not_checked);
            }
            (whole @ None, Some(more)) => *whole = Some(more.clone()),
            (_, None) => {}
        }
    }
    whole.packages = packages.into_iter().collect();
    Some(whole)
}

/// A further change of an order, beside the first, which the order's own fields describe. Every field means what the
/// field of that name means in [`WriteOrder`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEntry {
    /// Create or update.
    pub interaction: Interaction,
    /// The type.
    pub resource: ResourceType,
    /// Path below the endpoint.
    pub path: String,
    /// Value of `If-None-Exist`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub if_none_exist: Option<String>,
    /// Value of `If-Match`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub if_match: Option<String>,
    /// The version that was merged into.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_version: Option<String>,
    /// Digest of the base's content.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_digest: Option<Digest>,
    /// The base itself, as the EHR returned it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base: Option<String>,
    /// The final body.
    pub body: String,
    /// The patch that is sent in its place.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patch: Option<String>,
    /// Its Provenance.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub provenance: Option<String>,
    /// Facts that must be so again right before each send.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub rests_on: BTreeSet<String>,
    /// What policy was asked about it.
    pub asked: Box<WriteRequest>,
}

impl fmt::Debug for OrderEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderEntry")
            .field("interaction", &self.interaction)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

/// One change of an order, whether it is the only one or one of several.
#[derive(Clone, Copy)]
pub struct OneChange<'a> {
    /// Create or update.
    pub interaction: Interaction,
    /// The type.
    pub resource: &'a ResourceType,
    /// Path below the endpoint.
    pub path: &'a str,
    /// Value of `If-None-Exist`.
    pub if_none_exist: Option<&'a str>,
    /// Value of `If-Match`.
    pub if_match: Option<&'a str>,
    /// The version that was merged into.
    pub base_version: Option<&'a str>,
    /// Digest of the base's content.
    pub base_digest: Option<&'a Digest>,
    /// The base itself.
    pub base: Option<&'a str>,
    /// The final body.
    pub body: &'a str,
    /// The patch that is sent in its place.
    pub patch: Option<&'a str>,
    /// Its Provenance.
    pub provenance: Option<&'a str>,
    /// Facts that must be so again right before each send.
    pub rests_on: &'a BTreeSet<String>,
    /// What policy was asked about it.
    pub asked: Option<&'a WriteRequest>,
}

impl fmt::Debug for OneChange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneChange")
            .field("interaction", &self.interaction)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

impl WriteOrder {
    /// Everything it changes, in order: one change, or all that are sent as one transaction. What must hold of a
    /// change must hold of each of these.
    pub fn changes(&self) -> impl Iterator<Item = OneChange<'_>> {
        let first = OneChange {
            interaction: self.interaction,
            resource: &self.resource,
            path: &self.path,
            if_none_exist: self.if_none_exist.as_deref(),
            if_match: self.if_match.as_deref(),
            base_version: self.base_version.as_deref(),
            base_digest: self.base_digest.as_ref(),
            base: self.base.as_deref(),
            body: &self.body,
            patch: self.patch.as_deref(),
            provenance: self.provenance.as_deref(),
            rests_on: &self.rests_on,
            asked: self.asked.as_deref(),
        };
        let also = self.also.iter().map(|entry| OneChange {
            interaction: entry.interaction,
            resource: &entry.resource,
            path: &entry.path,
            if_none_exist: entry.if_none_exist.as_deref(),
            if_match: entry.if_match.as_deref(),
            base_version: entry.base_version.as_deref(),
            base_digest: entry.base_digest.as_ref(),
            base: entry.base.as_deref(),
            body: &entry.body,
            patch: entry.patch.as_deref(),
            provenance: entry.provenance.as_deref(),
            rests_on: &entry.rests_on,
            asked: Some(&entry.asked),
        });
        std::iter::once(first).chain(also)
    }

    /// What policy was asked about each change; nothing where that was not kept.
    pub fn questions(&self) -> Option<Vec<WriteRequest>> {
        self.changes().map(|change| change.asked.cloned()).collect()
    }

    /// Whether it makes several changes at once.
    pub fn is_together(&self) -> bool {
        !self.also.is_empty()
    }
}

/// The facts that count for everything that is asked about: one that the gates of several changes name is shown by
/// each of them, or it is not shown. `ruling` is what was said of it.
pub fn facts_of_all(asked: &[WriteRequest], ruling: &RulingRecord) -> Facts {
    if let [only] = asked {
        return only.facts.clone();
    }
    let Gate::AutoVerified { facts: named } = &ruling.gate else {
        return Facts::default();
    };
    let mut shown = Facts::default();
    for name in named {
        let naming = asked.iter().zip(&ruling.entries).filter(
            |(_, own)| matches!(&own.gate, Gate::AutoVerified { facts } if facts.contains(name)),
        );
        let facts: Vec<&Facts> = naming.map(|(asked, _)| &asked.facts).collect();
        if facts.iter().all(|facts| facts.is_established(name))
            && let Some(fact) = facts.first().and_then(|facts| facts.get(name))
        {
            shown.add(name, fact.clone());
        }
    }
    shown
}

/// What a finished delivery can show of a further change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryReceipt {
    /// The resource as written, `[type]/[id]/_history/[version]`, in the vault.
    pub location: PayloadAddress,
    /// What was read back: SHA-256(salt of the order ‖ digest of the content).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub read_back: Option<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stages: &[(&str, bool, u32, u32)]) -> ValidationRecord {
        ValidationRecord {
            validator: "v/1".to_owned(),
            packages: vec!["a#1".to_owned()],
            stages: stages
                .iter()
                .map(|(stage, ran, errors, warnings)| StageRecord {
                    stage: (*stage).to_owned(),
                    ran: *ran,
                    errors: *errors,
                    warnings: *warnings,
                })
                .collect(),
            rules: None,
            body: Digest::of_bytes(b"body"),
            findings: None,
        }
    }

    #[test]
    fn what_one_entry_warns_of_the_whole_warns_of() {
        let clean = record(&[("structure", true, 0, 0), ("plausibility", true, 0, 0)]);
        let warned = record(&[("structure", true, 0, 0), ("plausibility", true, 0, 2)]);
        let skipped = record(&[("structure", false, 0, 0)]);
        assert!(
            !validation_of_all(std::slice::from_ref(&clean))
                .unwrap()
                .needs_override()
        );
        let whole = validation_of_all(&[clean.clone(), warned]).unwrap();
        assert!(whole.needs_override());
        let whole = validation_of_all(&[clean, skipped]).unwrap();
        assert!(!whole.stages[0].ran);
        assert!(validation_of_all(&[]).is_none());
    }
}
