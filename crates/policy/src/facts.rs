//! The vocabulary of facts: every name that a policy, a tool or a gate may use.
//!
//! Closed on purpose: a policy that rests on a misspelt fact would silently never apply. The schema of
//! the bundle must hold exactly these names, which a test compares. Who computes them is
//! `engine::observe`; here is only what they are called, their type, and on whose authority they may
//! be established. A claim of an agent may carry any name: it can only raise a gate.

use chaperone_core::facts::{FactKind, FactValue};

/// The fact that a delegated protocol covers a renewal.
pub const PROTOCOL_IN_FORCE: &str = "refill_protocol_in_force";

/// The type of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactType {
    /// True or false.
    Bool,
    /// A whole number.
    Long,
    /// A short code.
    Text,
    /// A set of short codes.
    Set,
}

impl FactType {
    /// Whether a value has this type.
    pub fn holds(self, value: &FactValue) -> bool {
        matches!(
            (self, value),
            (FactType::Bool, FactValue::Bool(_))
                | (FactType::Long, FactValue::Long(_))
                | (FactType::Text, FactValue::Text(_))
                | (FactType::Set, FactValue::Set(_))
        )
    }

    /// The name in a Cedar schema.
    pub fn cedar(self) -> &'static str {
        match self {
            FactType::Bool => "Bool",
            FactType::Long => "Long",
            FactType::Text => "String",
            FactType::Set => "Set<String>",
        }
    }
}

/// A fact that policies may rest on.
#[derive(Debug, Clone, Copy)]
pub struct FactName {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub fact_type: FactType,
    /// Kinds on which it may be established. Claims are always taken, and only ever raise.
    pub kinds: &'static [FactKind],
    /// When it is true, or what it holds.
    pub meaning: &'static str,
}

const SEEN: &[FactKind] = &[FactKind::Observed];
const SIGNED: &[FactKind] = &[FactKind::Observed, FactKind::Attested];
const DECLARED: &[FactKind] = &[FactKind::Fixed];

const fn fact(
    name: &'static str,
    fact_type: FactType,
    kinds: &'static [FactKind],
    meaning: &'static str,
) -> FactName {
    FactName {
        name,
        fact_type,
        kinds,
        meaning,
    }
}

/// Every fact. Absent means unknown, and no row that lets something pass applies to the unknown.
///
/// # Source
/// Conditions and escalators of the write-back matrix (requirements R021, R029, R033).
pub const VOCABULARY: &[FactName] = &[
    // Who speaks, and what was verified with them.
    fact(
        "portal_patient",
        FactType::Bool,
        SIGNED,
        "the patient acts in an authenticated portal session with step-up",
    ),
    fact(
        "proxy_session",
        FactType::Bool,
        SIGNED,
        "an authenticated proxy acts for the patient",
    ),
    fact(
        "proxy_authority",
        FactType::Bool,
        SIGNED,
        "that proxy holds an authority on record that is in force",
    ),
    fact(
        "contact_code_confirmed",
        FactType::Bool,
        SIGNED,
        "a code sent to the new telephone number or e-mail address came back",
    ),
    fact(
        "contact_route",
        FactType::Text,
        DECLARED,
        "`portal`, `proxy` or `verbal`: by which row a change of contact data goes; it verifies nothing",
    ),
    fact(
        "address_validated",
        FactType::Bool,
        SIGNED,
        "the new postal address exists",
    ),
    fact(
        "patient_confirmed",
        FactType::Bool,
        SIGNED,
        "the patient or proxy confirmed exactly this content in a channel that Chaperone saw",
    ),
    fact(
        "signature_verified",
        FactType::Bool,
        SIGNED,
        "the authenticated patient signed this version of the form",
    ),
    fact(
        "consent_route",
        FactType::Text,
        DECLARED,
        "`signature`, `proxy` or `verbal`",
    ),
    fact(
        "duplicate_search_clean",
        FactType::Bool,
        SEEN,
        "no patient with this name, birth date or telephone number exists",
    ),
    // Appointments.
    fact(
        "slot_free",
        FactType::Bool,
        SEEN,
        "every slot of the appointment was just re-read as free",
    ),
    fact(
        "visit_type_self_schedule",
        FactType::Bool,
        SEEN,
        "the visit type is listed for self-scheduling in rules/self-schedule.toml",
    ),
    fact(
        "visit_type_sensitive",
        FactType::Bool,
        SEEN,
        "the visit type is listed as sensitive in rules/self-schedule.toml",
    ),
    fact(
        "hours_until_start",
        FactType::Long,
        SEEN,
        "whole hours until the appointment on record starts, rounded down; negative when it is past",
    ),
    fact(
        "linked_appointment",
        FactType::Bool,
        SEEN,
        "the encounter names a booked appointment of the same patient",
    ),
    // Messages.
    fact(
        "contact_preference_ok",
        FactType::Bool,
        SEEN,
        "the recipient agreed to this channel for this purpose and has not opted out",
    ),
    fact(
        "quiet_hours_ok",
        FactType::Bool,
        SEEN,
        "it is within the hours in which the recipient may be contacted",
    ),
    fact(
        "schedule_within_limits",
        FactType::Bool,
        SEEN,
        "the planned messages keep the frequency limits",
    ),
    fact(
        "clinical_content",
        FactType::Bool,
        SEEN,
        "the text interprets a result, advises on medication or names a diagnosis",
    ),
    fact(
        "in_care_team",
        FactType::Bool,
        SEEN,
        "every recipient is in the patient's care team",
    ),
    // Measurements and answers.
    fact(
        "observation_source",
        FactType::Text,
        DECLARED,
        "`device`, `patient` or `clinician`",
    ),
    fact(
        "device_bound",
        FactType::Bool,
        SEEN,
        "the device is assigned to the patient",
    ),
    fact(
        "in_hard_range",
        FactType::Bool,
        SEEN,
        "value and unit are possible for the code",
    ),
    fact(
        "in_alert_range",
        FactType::Bool,
        SEEN,
        "the value is within its alert limits",
    ),
    fact(
        "confidence_pct",
        FactType::Long,
        SEEN,
        "calibrated confidence for agent, model, prompt and intent, 0 to 100; absent without calibration",
    ),
    fact(
        "instrument_complete",
        FactType::Bool,
        SEEN,
        "every required item of the instrument is answered",
    ),
    fact(
        "score_recomputed",
        FactType::Bool,
        SEEN,
        "the score equals the one computed from the answers",
    ),
    fact(
        "answers_sourced",
        FactType::Bool,
        SEEN,
        "every answer has a turn of the conversation as its source",
    ),
    fact("red_flag", FactType::Bool, SEEN, "a red-flag rule fired"),
    // Documents.
    fact(
        "document_kind",
        FactType::Text,
        DECLARED,
        "`note`, `patient-upload` or `outside-lab`",
    ),
    fact(
        "encounter_open",
        FactType::Bool,
        SEEN,
        "the encounter of the document is in progress",
    ),
    fact(
        "malware_scan_clean",
        FactType::Bool,
        SEEN,
        "the attachment was scanned and its type is allowed",
    ),
    fact(
        "evidence_attached",
        FactType::Bool,
        SEEN,
        "a document of the patient is named as evidence",
    ),
    fact(
        "primary_source",
        FactType::Bool,
        DECLARED,
        "the immunisation is recorded by who gave it",
    ),
    // Orders.
    fact(
        "clinician_present",
        FactType::Bool,
        SIGNED,
        "a clinician's presence in the envelope is live",
    ),
    fact(
        "treatment_relationship",
        FactType::Bool,
        SEEN,
        "that clinician made the context grant, is in the care team, or takes part in the encounter",
    ),
    fact(
        "medication_known",
        FactType::Bool,
        SEEN,
        "rules/medications.toml has the drug, by code or by name",
    ),
    fact(
        "medication_controlled",
        FactType::Bool,
        SEEN,
        "the drug is in schedule II to V",
    ),
    fact(
        "medication_high_alert",
        FactType::Bool,
        SEEN,
        "the drug is marked high-alert",
    ),
    fact(
        "medication_check_fired",
        FactType::Bool,
        SEEN,
        "an allergy, interaction, duplicate or dose check found something",
    ),
    fact(
        PROTOCOL_IN_FORCE,
        FactType::Bool,
        SEEN,
        "a signed refill protocol covers patient, drug and date",
    ),
    fact(
        "dose_unchanged",
        FactType::Bool,
        SEEN,
        "drug, dose, route and frequency equal the prior order's",
    ),
    fact(
        "refill_checks_clean",
        FactType::Bool,
        SEEN,
        "every refill check passed",
    ),
    fact(
        "critical_drug",
        FactType::Bool,
        SEEN,
        "leaving the drug out is dangerous",
    ),
    // Money.
    fact(
        "coverage_on_file",
        FactType::Bool,
        SEEN,
        "the patient has an active coverage",
    ),
    fact(
        "eligibility_purposes",
        FactType::Set,
        DECLARED,
        "purposes of the eligibility request",
    ),
    fact(
        "eligibility_matches",
        FactType::Bool,
        SEEN,
        "the payer's answer matches the card",
    ),
    // Corrections.
    fact(
        "base_authored_by_chaperone",
        FactType::Bool,
        SEEN,
        "Chaperone wrote the version being corrected",
    ),
    fact(
        "base_unmodified_since",
        FactType::Bool,
        SEEN,
        "nobody changed the resource after Chaperone wrote it",
    ),
    fact(
        "exception_granted",
        FactType::Bool,
        SEEN,
        "a person other than the requester granted an exception for exactly this content, with a second factor, and it is used here for the first time",
    ),
    // The patient and the day.
    fact(
        "restricted_label",
        FactType::Bool,
        SEEN,
        "the data is labelled very restricted, 42 CFR Part 2 or psychotherapy notes",
    ),
    fact(
        "specific_consent",
        FactType::Bool,
        SIGNED,
        "a consent for exactly this disclosure or use is in force",
    ),
    fact(
        "patient_minor",
        FactType::Bool,
        SEEN,
        "the patient is under 18",
    ),
    fact(
        "adolescent_confidential",
        FactType::Bool,
        SEEN,
        "the patient is 12 to 17 and the service is confidential",
    ),
    fact(
        "patient_deceased",
        FactType::Bool,
        SEEN,
        "the record says that the patient died",
    ),
    fact(
        "sensitive_person",
        FactType::Bool,
        SEEN,
        "the record is labelled as an employee's or a public figure's",
    ),
    fact(
        "legal_hold",
        FactType::Bool,
        SEEN,
        "the record is under legal hold",
    ),
    fact(
        "cross_patient",
        FactType::Bool,
        SEEN,
        "the change touches another patient",
    ),
    fact(
        "bulk_limit_reached",
        FactType::Bool,
        SEEN,
        "the agent went over its writes or patients per hour",
    ),
    fact(
        "row_demoted",
        FactType::Bool,
        SEEN,
        "people found too much wrong in what a row that applies let through for this intent, model and prompts",
    ),
    fact(
        "plausibility",
        FactType::Text,
        SEEN,
        "the worst finding of the plausibility rules: `clear`, `warn`, `two_person` or `block`",
    ),
];

/// The fact of a name.
pub fn lookup(name: &str) -> Option<&'static FactName> {
    VOCABULARY.iter().find(|fact| fact.name == name)
}

/// The `Facts` type as it must stand in `policies/schema.cedarschema`.
pub fn cedar_record() -> String {
    let attributes: String = VOCABULARY
        .iter()
        .map(|fact| format!("    {}?: {},\n", fact.name, fact.fact_type.cedar()))
        .collect();
    format!("type Facts = {{\n{attributes}}};\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_every_fact_can_be_established() {
        let names: BTreeSet<&str> = VOCABULARY.iter().map(|fact| fact.name).collect();
        assert_eq!(names.len(), VOCABULARY.len());
        for fact in VOCABULARY {
            assert!(!fact.kinds.is_empty(), "{}", fact.name);
            assert!(!fact.kinds.contains(&FactKind::Claimed), "{}", fact.name);
        }
    }

    #[test]
    fn what_a_tool_may_fix_it_alone_establishes() {
        // A tool that could fix what is to be observed could switch a check off.
        for fact in VOCABULARY {
            assert!(
                !fact.kinds.contains(&FactKind::Fixed) || fact.kinds.len() == 1,
                "{}",
                fact.name
            );
        }
    }
}
