//! Changes and how material they are: the class M0–M5 and the floor of its gate, computed in code from the
//! rules of [`crate::weight`].
//!
//! Invariant 7: no policy file can weaken what stands here. A resource that is not listed has no
//! class, and what has no class is refused.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gate::GateLevel;
use crate::resource::{Code, Interaction, ResourceType};
use crate::weight;

/// How material a change is.
///
/// # Source
/// The materiality classes of the write-back matrix (requirement R033).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChangeClass {
    /// Administrative and reversible, or staying inside Chaperone, or making things more private.
    M0,
    /// Administrative, seen by the patient or moving money or time.
    M1,
    /// Clinical information that directs nothing (patient-reported).
    M2,
    /// Content of the clinical record.
    M3,
    /// Order, therapy, diagnosis; legal or financial commitment.
    M4,
    /// Identity, deletion, legal status.
    M5,
}

impl ChangeClass {
    /// Every class, lightest first.
    pub const ALL: [ChangeClass; 6] = [
        ChangeClass::M0,
        ChangeClass::M1,
        ChangeClass::M2,
        ChangeClass::M3,
        ChangeClass::M4,
        ChangeClass::M5,
    ];

    /// The weakest gate a change of this class may ever pass.
    pub fn floor(self) -> GateLevel {
        match self {
            ChangeClass::M0 => GateLevel::Auto,
            ChangeClass::M1 | ChangeClass::M2 => GateLevel::AutoVerified,
            ChangeClass::M3 => GateLevel::Approve,
            ChangeClass::M4 => GateLevel::Approve2f,
            ChangeClass::M5 => GateLevel::TwoPerson,
        }
    }

    /// Reads `M0` to `M5`.
    pub fn parse(text: &str) -> Option<ChangeClass> {
        ChangeClass::ALL
            .into_iter()
            .find(|class| class.to_string() == text)
    }
}

impl fmt::Display for ChangeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where a change ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// It stays in Chaperone until a human promotes it.
    Staged,
    /// It is written to the EHR.
    Ehr,
}

/// Whether a consent or preference change makes things more or less private.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Neither.
    #[default]
    Neutral,
    /// Opt-out, STOP, revocation.
    MorePrivate,
    /// Opt-in, sharing.
    LessPrivate,
}

/// Who a communication goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// The patient or a relative.
    Patient,
    /// People of the organisation.
    CareTeam,
}

/// What a change is, computed by Chaperone from base version and merged result; never what the agent
/// calls it. Holds names and codes only, so it may stand in events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The type of the resource.
    pub resource: ResourceType,
    /// Create, update or delete.
    pub interaction: Interaction,
    /// Where the result rests.
    pub destination: Destination,
    /// The status before, in the element that carries the draft state (`docStatus` for
    /// DocumentReference, `verificationStatus` for Condition and AllergyIntolerance).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<Code>,
    /// The status after.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<Code>,
    /// The clinical status after, for resources that have one beside the draft state.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clinical_status: Option<Code>,
    /// `intent` of a request resource.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_intent: Option<Code>,
    /// Category codes of the resource.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub categories: BTreeSet<Code>,
    /// Top-level elements that differ from the base (all supplied ones for a create).
    pub elements: BTreeSet<String>,
    /// More or less private.
    #[serde(default)]
    pub direction: Direction,
    /// For communications: who receives it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub audience: Option<Audience>,
    /// For communications: an approved template without free text.
    #[serde(default)]
    pub from_template: bool,
}

/// Why a change has no class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unclassifiable {
    /// The resource type is not in the matrix.
    #[error("`{0}` is not a resource type that Chaperone writes; unlisted means refused")]
    UnlistedResource(ResourceType),
    /// The status is not one whose weight is known.
    #[error("the status of this `{0}` is missing or unknown, so its weight cannot be computed")]
    UnknownStatus(ResourceType),
}

impl Change {
    /// Computes the class.
    ///
    /// # Errors
    /// [`Unclassifiable`] when the type is unlisted or the status unknown; the caller refuses.
    ///
    /// # Source
    /// The rows of the write-back matrix and the rule on direction (requirements R021, R029, R033).
    pub fn class(&self) -> Result<ChangeClass, Unclassifiable> {
        if self.interaction == Interaction::Delete {
            return Ok(ChangeClass::M5);
        }
        let mut listed = weight::of_type(self.resource.as_str()).peekable();
        if listed.peek().is_none() {
            return Err(Unclassifiable::UnlistedResource(self.resource.clone()));
        }
        let class = listed
            .find(|weight| weight.when.holds(self))
            .and_then(|weight| weight.class)
            .ok_or_else(|| Unclassifiable::UnknownStatus(self.resource.clone()))?;
        // What stays inside Chaperone changes no record; its promotion is classed on its own.
        if self.destination == Destination::Staged {
            Ok(ChangeClass::M0)
        } else {
            Ok(class)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn change(resource: &str, to: &str) -> Change {
        Change {
            resource: ResourceType::new(resource).unwrap(),
            interaction: Interaction::Create,
            destination: Destination::Ehr,
            from: None,
            to: (!to.is_empty()).then(|| Code::new(to).unwrap()),
            clinical_status: None,
            request_intent: None,
            categories: BTreeSet::new(),
            elements: BTreeSet::new(),
            direction: Direction::Neutral,
            audience: None,
            from_template: false,
        }
    }

    fn check(change: Change, expected: Expect) {
        let text = match change.class() {
            Ok(class) => class.to_string(),
            Err(why) => why.to_string(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn staging_is_light_and_committing_the_same_thing_is_not() {
        let order = change("MedicationRequest", "draft");
        check(
            Change {
                destination: Destination::Staged,
                ..order.clone()
            },
            expect!["M0"],
        );
        check(order, expect!["M4"]);
    }

    #[test]
    fn unlisted_resources_have_no_class_even_when_staged() {
        check(
            Change {
                destination: Destination::Staged,
                ..change("Basic", "")
            },
            expect!["`Basic` is not a resource type that Chaperone writes; unlisted means refused"],
        );
    }

    #[test]
    fn direction_weighs() {
        let consent = |direction| Change {
            direction,
            ..change("Consent", "active")
        };
        check(consent(Direction::MorePrivate), expect!["M0"]);
        check(consent(Direction::LessPrivate), expect!["M1"]);
        check(consent(Direction::Neutral), expect!["M4"]);
        check(change("AllergyIntolerance", "unconfirmed"), expect!["M3"]);
        check(change("AllergyIntolerance", "refuted"), expect!["M4"]);
    }

    #[test]
    fn deletion_is_the_gravest_whatever_the_resource() {
        let deletion = Change {
            interaction: Interaction::Delete,
            ..change("Task", "requested")
        };
        check(deletion, expect!["M5"]);
    }

    #[test]
    fn patient_elements_that_identify_are_not_contact_details() {
        let update = |elements: &[&str]| Change {
            interaction: Interaction::Update,
            elements: elements.iter().map(|e| (*e).to_owned()).collect(),
            ..change("Patient", "")
        };
        check(update(&["telecom"]), expect!["M1"]);
        check(update(&["telecom", "name"]), expect!["M3"]);
        check(update(&["birthDate"]), expect!["M5"]);
        check(update(&["somethingNew"]), expect!["M5"]);
    }

    #[test]
    fn laboratory_results_never_count_as_patient_reported() {
        let observation = |categories: &[&str]| Change {
            categories: categories.iter().map(|c| Code::new(c).unwrap()).collect(),
            ..change("Observation", "preliminary")
        };
        check(observation(&["vital-signs"]), expect!["M2"]);
        check(observation(&["vital-signs", "laboratory"]), expect!["M3"]);
        check(observation(&[]), expect!["M3"]);
    }
}
