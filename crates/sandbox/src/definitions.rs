//! The resource types the sandbox holds and the search parameters it answers for each, as data.
//!
//! Not a full copy of the R4 definitions: a type that is missing here is refused with 404, a
//! parameter that is missing here is unknown. Start at [`resource_type`].
//!
//! # Source
//! FHIR R4 (4.0.1), search parameter registry, <https://hl7.org/fhir/R4/searchparameter-registry.html>.

mod parameters;

use parameters::{
    ALLERGY_INTOLERANCE, APPOINTMENT, APPOINTMENT_RESPONSE, AUDIT_EVENT, CARE_PLAN, CARE_TEAM,
    CLAIM, COMMUNICATION, COMMUNICATION_REQUEST, CONDITION, CONSENT, COVERAGE, DETECTED_ISSUE,
    DEVICE, DIAGNOSTIC_REPORT, DOCUMENT_REFERENCE, ENCOUNTER_TYPE, EXPLANATION_OF_BENEFIT,
    FAMILY_MEMBER_HISTORY, FLAG, GOAL, IMAGING_STUDY, IMMUNIZATION, LIST, LOCATION, MEDICATION,
    MEDICATION_ADMINISTRATION, MEDICATION_DISPENSE, MEDICATION_REQUEST, MEDICATION_STATEMENT,
    OBSERVATION, ORGANIZATION, PATIENT_TYPE, PRACTITIONER, PRACTITIONER_ROLE, PROCEDURE,
    PROVENANCE, QUESTIONNAIRE, QUESTIONNAIRE_RESPONSE, RELATED_PERSON, RISK_ASSESSMENT, SCHEDULE,
    SERVICE_REQUEST, SLOT, SPECIMEN, TASK,
};

/// How the values of a search parameter are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParameterKind {
    /// A code, coding, identifier, contact point or boolean.
    Token,
    /// A date, dateTime, instant or Period.
    Date,
    /// A reference to any type.
    Reference,
    /// A reference that counts only when it points at a Patient.
    PatientReference,
    /// A string, compared by folded prefix; also HumanName and Address.
    Text,
    /// A uri, compared whole.
    Uri,
}

/// One search parameter of one resource type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    /// The name used in the URL.
    pub(crate) name: &'static str,
    /// How it compares.
    pub(crate) kind: ParameterKind,
    /// Dotted element paths whose values it finds; lists are walked through.
    pub(crate) paths: &'static [&'static str],
}

/// One resource type the sandbox can hold.
#[derive(Debug)]
pub(crate) struct ResourceType {
    /// The FHIR name.
    pub(crate) name: &'static str,
    /// Its search parameters, without the common ones (`_id`, `_lastUpdated`).
    pub(crate) parameters: &'static [Parameter],
}

impl ResourceType {
    /// The position and definition of a parameter by name.
    pub(crate) fn parameter(&self, name: &str) -> Option<(u8, &'static Parameter)> {
        let position = self.parameters.iter().position(|p| p.name == name)?;
        let parameter = self.parameters.get(position)?;
        u8::try_from(position).ok().map(|at| (at, parameter))
    }
}

/// Looks a resource type up by its FHIR name.
pub(crate) fn resource_type(name: &str) -> Option<&'static ResourceType> {
    let at = RESOURCE_TYPES
        .binary_search_by(|candidate| candidate.name.cmp(name))
        .ok()?;
    RESOURCE_TYPES.get(at)
}

/// Every type held, in order of name ([`resource_type`] relies on the order).
pub(crate) static RESOURCE_TYPES: &[ResourceType] = &[
    kind("AllergyIntolerance", ALLERGY_INTOLERANCE),
    kind("Appointment", APPOINTMENT),
    kind("AppointmentResponse", APPOINTMENT_RESPONSE),
    kind("AuditEvent", AUDIT_EVENT),
    kind("Binary", &[]),
    kind("CarePlan", CARE_PLAN),
    kind("CareTeam", CARE_TEAM),
    kind("Claim", CLAIM),
    kind("Communication", COMMUNICATION),
    kind("CommunicationRequest", COMMUNICATION_REQUEST),
    kind("Condition", CONDITION),
    kind("Consent", CONSENT),
    kind("Coverage", COVERAGE),
    kind("DetectedIssue", DETECTED_ISSUE),
    kind("Device", DEVICE),
    kind("DiagnosticReport", DIAGNOSTIC_REPORT),
    kind("DocumentReference", DOCUMENT_REFERENCE),
    kind("Encounter", ENCOUNTER_TYPE),
    kind("ExplanationOfBenefit", EXPLANATION_OF_BENEFIT),
    kind("FamilyMemberHistory", FAMILY_MEMBER_HISTORY),
    kind("Flag", FLAG),
    kind("Goal", GOAL),
    kind("ImagingStudy", IMAGING_STUDY),
    kind("Immunization", IMMUNIZATION),
    kind("List", LIST),
    kind("Location", LOCATION),
    kind("Medication", MEDICATION),
    kind("MedicationAdministration", MEDICATION_ADMINISTRATION),
    kind("MedicationDispense", MEDICATION_DISPENSE),
    kind("MedicationRequest", MEDICATION_REQUEST),
    kind("MedicationStatement", MEDICATION_STATEMENT),
    kind("Observation", OBSERVATION),
    kind("Organization", ORGANIZATION),
    kind("Patient", PATIENT_TYPE),
    kind("Practitioner", PRACTITIONER),
    kind("PractitionerRole", PRACTITIONER_ROLE),
    kind("Procedure", PROCEDURE),
    kind("Provenance", PROVENANCE),
    kind("Questionnaire", QUESTIONNAIRE),
    kind("QuestionnaireResponse", QUESTIONNAIRE_RESPONSE),
    kind("RelatedPerson", RELATED_PERSON),
    kind("RiskAssessment", RISK_ASSESSMENT),
    kind("Schedule", SCHEDULE),
    kind("ServiceRequest", SERVICE_REQUEST),
    kind("Slot", SLOT),
    kind("Specimen", SPECIMEN),
    kind("Task", TASK),
];

const fn kind(name: &'static str, parameters: &'static [Parameter]) -> ResourceType {
    ResourceType { name, parameters }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_sorted_and_parameters_unique() {
        assert!(
            RESOURCE_TYPES
                .windows(2)
                .all(|pair| pair[0].name < pair[1].name)
        );
        for kind in RESOURCE_TYPES {
            let mut names: Vec<_> = kind.parameters.iter().map(|p| p.name).collect();
            names.sort_unstable();
            let before = names.len();
            names.dedup();
            assert_eq!(before, names.len(), "{}", kind.name);
        }
    }

    #[test]
    fn lookup_finds_known_and_refuses_unknown() {
        assert_eq!(resource_type("Slot").unwrap().name, "Slot");
        assert!(resource_type("slot").is_none());
        assert!(resource_type("Medicine").is_none());
        assert!(resource_type("Slot").unwrap().parameter("start").is_some());
        assert!(resource_type("Slot").unwrap().parameter("date").is_none());
    }
}
