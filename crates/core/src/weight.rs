//! What makes a change weigh what it weighs: the rules behind [`Change::class`], as a table that can be
//! read off as well as evaluated.
//!
//! One table, two readers: the class of a change is computed from it, and `policy::prove` puts the same
//! rules to a solver, so a proof is about the classes that rulings use. Rules say nothing but what a
//! [`Condition`] can say; one that needs more needs a condition here and its translation there.

use crate::change::{Audience, Change, ChangeClass, Direction};
use crate::resource::{Code, Interaction};

use Condition::{
    All, Any, Categorised, Clinical, FromTemplate, Is, Not, OnlyTouches, To, Touches, Towards,
};

/// Something about a change that its class can rest on. Text is empty where there is none.
#[derive(Debug, Clone, Copy)]
pub enum Condition {
    /// Each of these.
    All(&'static [Condition]),
    /// Any of these; none of nothing.
    Any(&'static [Condition]),
    /// Not this.
    Not(&'static Condition),
    /// This is done to the resource.
    Is(Interaction),
    /// The status after is one of these.
    To(&'static [&'static str]),
    /// The clinical status after is one of these.
    Clinical(&'static [&'static str]),
    /// Some category is one of these.
    Categorised(&'static [&'static str]),
    /// Some changed element is one of these.
    Touches(&'static [&'static str]),
    /// Every changed element is one of these.
    OnlyTouches(&'static [&'static str]),
    /// It makes things more or less private, or neither.
    Towards(Direction),
    /// It goes to these people.
    Reaches(Audience),
    /// It is an approved template without free text.
    FromTemplate,
}

impl Condition {
    /// Whether it holds for a change.
    pub fn holds(self, change: &Change) -> bool {
        let text = |code: &Option<Code>| code.as_ref().map_or("", Code::as_str).to_owned();
        match self {
            All(conditions) => conditions.iter().all(|condition| condition.holds(change)),
            Any(conditions) => conditions.iter().any(|condition| condition.holds(change)),
            Not(condition) => !condition.holds(change),
            Is(interaction) => change.interaction == interaction,
            To(statuses) => statuses.contains(&text(&change.to).as_str()),
            Clinical(statuses) => statuses.contains(&text(&change.clinical_status).as_str()),
            Categorised(codes) => change
                .categories
                .iter()
                .any(|category| codes.contains(&category.as_str())),
            Touches(elements) => change
                .elements
                .iter()
                .any(|element| elements.contains(&element.as_str())),
            OnlyTouches(elements) => change
                .elements
                .iter()
                .all(|element| elements.contains(&element.as_str())),
            Towards(direction) => change.direction == direction,
            Condition::Reaches(audience) => change.audience == Some(audience),
            FromTemplate => change.from_template,
        }
    }
}

/// What changes of some types weigh when a condition holds.
#[derive(Debug, Clone, Copy)]
pub struct Weight {
    /// The types.
    pub resources: &'static [&'static str],
    /// When.
    pub when: Condition,
    /// The class of what is written to the EHR; `None` where the status says nothing that is known, which
    /// refuses.
    pub class: Option<ChangeClass>,
}

const ALWAYS: Condition = All(&[]);

/// A contact detail alone is light; anything that helps to identify somebody is not, and an element that
/// no list knows counts as identity.
const CONTACT: Condition = OnlyTouches(&["telecom", "address", "communication", "contact"]);
const CONTACT_OR_NAME: Condition = OnlyTouches(&[
    "telecom",
    "address",
    "communication",
    "contact",
    "name",
    "gender",
    "maritalStatus",
    "photo",
]);

/// A consent about treatment itself, or a change of what a consent is about.
const TREATMENT: Condition = Any(&[
    Categorised(&["treatment", "adr"]),
    All(&[Touches(&["scope"]), Is(Interaction::Update)]),
]);

/// What a patient reports of themselves, in a state that decides nothing.
const REPORTED: Condition = All(&[
    To(&["registered", "preliminary"]),
    Not(&Categorised(&["laboratory"])),
    Categorised(&["vital-signs", "survey", "social-history"]),
]);

/// A problem or allergy that ends.
const ENDS: Condition = Not(&Clinical(&["", "active", "recurrence", "relapse"]));

const fn weight(
    resources: &'static [&'static str],
    when: Condition,
    class: Option<ChangeClass>,
) -> Weight {
    Weight {
        resources,
        when,
        class,
    }
}

/// The rules, for what is written to the EHR and is no deletion: of those that name a type, the first whose
/// condition holds decides. A type that stands nowhere here is unlisted.
///
/// # Source
/// The rows of the write-back matrix and the rule on direction (requirements R021, R029, R033).
pub const WEIGHTS: &[Weight] = {
    use ChangeClass::{M0, M1, M2, M3, M4, M5};
    &[
        weight(&["Patient"], Is(Interaction::Create), Some(M3)),
        weight(&["Patient"], CONTACT, Some(M1)),
        weight(&["Patient"], CONTACT_OR_NAME, Some(M3)),
        weight(&["Patient"], ALWAYS, Some(M5)),
        weight(&["Appointment"], To(&["proposed", "pending"]), Some(M0)),
        weight(
            &["Appointment"],
            To(&[
                "booked",
                "cancelled",
                "arrived",
                "fulfilled",
                "noshow",
                "checked-in",
            ]),
            Some(M1),
        ),
        weight(&["Communication"], To(&["preparation"]), Some(M0)),
        weight(
            &["Communication"],
            All(&[To(&["completed"]), Condition::Reaches(Audience::CareTeam)]),
            Some(M0),
        ),
        weight(
            &["Communication"],
            All(&[
                To(&["completed"]),
                Condition::Reaches(Audience::Patient),
                FromTemplate,
            ]),
            Some(M1),
        ),
        weight(&["Communication"], To(&["completed"]), Some(M3)),
        weight(&["CommunicationRequest"], To(&["draft"]), Some(M0)),
        weight(
            &["CommunicationRequest"],
            To(&["active", "on-hold", "revoked", "completed"]),
            Some(M1),
        ),
        weight(&["Observation"], REPORTED, Some(M2)),
        weight(
            &["QuestionnaireResponse"],
            To(&["in-progress", "completed", "stopped"]),
            Some(M2),
        ),
        weight(&["QuestionnaireResponse"], To(&["amended"]), Some(M3)),
        weight(&["Task"], To(&["draft", "requested"]), Some(M0)),
        weight(&["DocumentReference"], To(&["preliminary"]), Some(M3)),
        weight(&["Encounter"], To(&["planned"]), Some(M1)),
        // What is marked as wrong is an order about the record, whatever it was.
        weight(
            &[
                "Appointment",
                "Communication",
                "CommunicationRequest",
                "Observation",
                "QuestionnaireResponse",
                "Task",
                "Encounter",
            ],
            To(&["entered-in-error"]),
            Some(M4),
        ),
        weight(
            &[
                "Appointment",
                "Communication",
                "CommunicationRequest",
                "QuestionnaireResponse",
            ],
            ALWAYS,
            None,
        ),
        weight(
            &["Observation", "Task", "DocumentReference", "Encounter"],
            To(&[""]),
            None,
        ),
        weight(&["Observation", "Encounter"], ALWAYS, Some(M3)),
        weight(&["Task"], ALWAYS, Some(M1)),
        weight(&["DocumentReference"], ALWAYS, Some(M4)),
        weight(&["ServiceRequest", "MedicationRequest"], ALWAYS, Some(M4)),
        weight(
            &[
                "MedicationStatement",
                "Immunization",
                "CareTeam",
                "Coverage",
                "DiagnosticReport",
                "RiskAssessment",
                "DetectedIssue",
                "CoverageEligibilityRequest",
            ],
            To(&["entered-in-error"]),
            Some(M4),
        ),
        weight(
            &[
                "MedicationStatement",
                "Immunization",
                "CareTeam",
                "Coverage",
                "DiagnosticReport",
                "RiskAssessment",
                "DetectedIssue",
            ],
            ALWAYS,
            Some(M3),
        ),
        weight(&["CoverageEligibilityRequest"], ALWAYS, Some(M1)),
        weight(&["AllergyIntolerance", "Condition"], ENDS, Some(M4)),
        weight(
            &["AllergyIntolerance", "Condition"],
            To(&["unconfirmed", "provisional"]),
            Some(M3),
        ),
        weight(&["AllergyIntolerance"], To(&["confirmed"]), Some(M3)),
        weight(&["AllergyIntolerance", "Condition"], ALWAYS, Some(M4)),
        weight(&["CarePlan", "Goal"], To(&["draft", "proposed"]), Some(M3)),
        weight(&["CarePlan", "Goal"], ALWAYS, Some(M4)),
        weight(
            &["Claim", "ChargeItem", "Account", "Invoice", "PaymentNotice"],
            ALWAYS,
            Some(M4),
        ),
        weight(&["Consent"], TREATMENT, Some(M4)),
        weight(&["Consent"], Towards(Direction::MorePrivate), Some(M0)),
        weight(&["Consent"], Towards(Direction::Neutral), Some(M4)),
        weight(&["Consent"], To(&["entered-in-error"]), Some(M4)),
        weight(&["Consent"], ALWAYS, Some(M1)),
        weight(
            &["Flag"],
            All(&[Is(Interaction::Create), To(&["active"])]),
            Some(M0),
        ),
        weight(&["Flag"], To(&["entered-in-error"]), Some(M4)),
        weight(&["Flag"], ALWAYS, Some(M3)),
        weight(
            &[
                "Provenance",
                "AuditEvent",
                "Practitioner",
                "PractitionerRole",
                "Organization",
                "Location",
                "Schedule",
                "Slot",
                "Questionnaire",
                "PlanDefinition",
                "ActivityDefinition",
                "ValueSet",
                "CodeSystem",
            ],
            ALWAYS,
            Some(M5),
        ),
    ]
};

/// The rules that name a type, in order; none for an unlisted type.
pub fn of_type(resource: &str) -> impl Iterator<Item = &'static Weight> {
    WEIGHTS
        .iter()
        .filter(move |weight| weight.resources.contains(&resource))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_listed_type_is_decided_whatever_the_change() {
        let types: BTreeSet<&str> = WEIGHTS.iter().flat_map(|w| w.resources).copied().collect();
        assert_eq!(types.len(), 43, "{types:?}");
        for resource in types {
            let last = of_type(resource).last().unwrap();
            assert!(matches!(last.when, All([])), "{resource}");
        }
    }

    #[test]
    fn nothing_unlisted_has_a_rule() {
        for resource in ["Basic", "Binary", "patient", ""] {
            assert_eq!(of_type(resource).count(), 0, "{resource}");
        }
    }
}
