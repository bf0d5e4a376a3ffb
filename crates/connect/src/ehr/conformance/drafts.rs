//! The synthetic drafts: one for each type that has a state before it counts, with one change and the way
//! it is retired.
//!
//! Types without such a state (`Immunization`, `MedicationStatement`) and definitions are absent: nothing
//! is tried with them, and people enter them.
//!
//! # Source
//! FHIR R4, the status value sets of each type, and the constraints that bind an element to a status
//! (`app-3`, `ait-1`, `ait-2`, `con-5`).

use serde_json::{Map, Value, json};

/// System of the identifiers that drafts carry.
pub const SYSTEM: &str = "urn:chaperone:conformance";

/// What a draft says where text is wanted.
const WORDS: &str = "Synthetic draft of a conformance check; not about a person.";
/// What it says after the change.
const CHANGED: &str = "Synthetic draft of a conformance check, changed once.";

/// One draft.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The resource as created, without id.
    pub body: Value,
    /// What the update changes.
    pub change: (&'static str, Value),
    /// What the last update sets, so that nobody takes the draft for content; `null` removes.
    pub retire: Vec<(&'static str, Value)>,
}

/// The types that there is a draft of.
pub const DRAFT_TYPES: [&str; 20] = [
    "AllergyIntolerance",
    "Appointment",
    "CarePlan",
    "CareTeam",
    "Communication",
    "CommunicationRequest",
    "Condition",
    "Coverage",
    "DetectedIssue",
    "DocumentReference",
    "Encounter",
    "Flag",
    "Goal",
    "MedicationRequest",
    "Observation",
    "Patient",
    "QuestionnaireResponse",
    "RiskAssessment",
    "ServiceRequest",
    "Task",
];

/// The draft of a type about a patient, `Patient/[id]`, under an identifier. `now` is an instant.
pub fn draft_of(resource: &str, patient: &str, identifier: &str, now: &str) -> Option<Draft> {
    let subject = json!({ "reference": patient });
    let note = ("note", json!([{ "text": CHANGED }]));
    let description = ("description", json!(CHANGED));
    let in_error = || vec![("status", json!("entered-in-error"))];
    let verification =
        |system: &str, code: &str| json!({ "coding": [{ "system": system, "code": code }] });
    let text = json!({ "text": WORDS });
    let condition_states = "http://terminology.hl7.org/CodeSystem/condition-ver-status";
    let allergy_states = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification";
    let (elements, change, retire) = match resource {
        "AllergyIntolerance" => (
            json!({
                "clinicalStatus": verification("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active"),
                "verificationStatus": verification(allergy_states, "unconfirmed"),
                "code": text, "patient": subject,
            }),
            note,
            vec![
                ("clinicalStatus", Value::Null),
                (
                    "verificationStatus",
                    verification(allergy_states, "entered-in-error"),
                ),
            ],
        ),
        "Appointment" => (
            json!({
                "status": "proposed", "description": WORDS,
                "participant": [{ "actor": subject, "status": "needs-action" }],
            }),
            description,
            vec![("status", json!("cancelled"))],
        ),
        "CarePlan" => (
            json!({ "status": "draft", "intent": "plan", "description": WORDS, "subject": subject }),
            description,
            in_error(),
        ),
        "CareTeam" => (
            json!({ "status": "proposed", "name": WORDS, "subject": subject }),
            note,
            in_error(),
        ),
        "Communication" => (
            json!({ "status": "preparation", "subject": subject, "payload": [{ "contentString": WORDS }] }),
            note,
            in_error(),
        ),
        "CommunicationRequest" => (
            json!({ "status": "draft", "subject": subject, "payload": [{ "contentString": WORDS }] }),
            note,
            in_error(),
        ),
        "Condition" => (
            json!({
                "verificationStatus": verification(condition_states, "unconfirmed"),
                "code": text, "subject": subject,
            }),
            note,
            vec![(
                "verificationStatus",
                verification(condition_states, "entered-in-error"),
            )],
        ),
        "Coverage" => (
            json!({ "status": "draft", "beneficiary": subject, "payor": [subject] }),
            ("subscriberId", json!("CONFORMANCE")),
            in_error(),
        ),
        "DetectedIssue" => (
            json!({ "status": "preliminary", "patient": subject, "detail": WORDS }),
            ("detail", json!(CHANGED)),
            in_error(),
        ),
        "DocumentReference" => (
            json!({
                "status": "current", "docStatus": "preliminary", "description": WORDS,
                "type": { "coding": [{ "system": "http://loinc.org", "code": "11506-3" }] },
                "category": [{ "coding": [{
                    "system": "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category",
                    "code": "clinical-note",
                }] }],
                "subject": subject, "date": now,
                "content": [{ "attachment": { "contentType": "text/plain", "data": "c3ludGhldGlj" } }],
            }),
            description,
            in_error(),
        ),
        "Encounter" => (
            json!({
                "status": "planned", "subject": subject,
                "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB" },
            }),
            ("reasonCode", json!([{ "text": CHANGED }])),
            vec![("status", json!("cancelled"))],
        ),
        "Flag" => (
            json!({ "status": "inactive", "code": text, "subject": subject }),
            ("code", json!({ "text": CHANGED })),
            in_error(),
        ),
        "Goal" => (
            json!({ "lifecycleStatus": "proposed", "description": text, "subject": subject }),
            note,
            vec![("lifecycleStatus", json!("entered-in-error"))],
        ),
        "MedicationRequest" => (
            json!({
                "status": "draft", "intent": "proposal", "medicationCodeableConcept": text,
                "subject": subject, "authoredOn": now,
            }),
            note,
            in_error(),
        ),
        "Observation" => (
            json!({
                "status": "preliminary", "subject": subject, "effectiveDateTime": now,
                "category": [{ "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "survey",
                }] }],
                "code": text, "valueString": WORDS,
            }),
            note,
            in_error(),
        ),
        "Patient" => (
            json!({
                "active": true, "gender": "unknown",
                "name": [{ "family": "Conformance", "given": ["Synthetic"] }],
            }),
            ("language", json!("en")),
            vec![("active", json!(false))],
        ),
        "QuestionnaireResponse" => (
            json!({
                "status": "in-progress", "subject": subject, "authored": now,
                "questionnaire": "urn:chaperone:questionnaire:conformance|1",
                "item": [{ "linkId": "words", "answer": [{ "valueString": WORDS }] }],
            }),
            (
                "item",
                json!([{ "linkId": "words", "answer": [{ "valueString": CHANGED }] }]),
            ),
            in_error(),
        ),
        "RiskAssessment" => (
            json!({ "status": "preliminary", "subject": subject }),
            note,
            in_error(),
        ),
        "ServiceRequest" => (
            json!({
                "status": "draft", "intent": "proposal", "code": text, "subject": subject, "authoredOn": now,
            }),
            note,
            in_error(),
        ),
        "Task" => (
            json!({
                "status": "draft", "intent": "proposal", "description": WORDS, "for": subject, "authoredOn": now,
            }),
            description,
            in_error(),
        ),
        _ => return None,
    };
    let one = json!({ "system": SYSTEM, "value": identifier });
    // The one type whose identifier does not repeat.
    let identifiers = if resource == "QuestionnaireResponse" {
        one
    } else {
        json!([one])
    };
    let mut body = Map::new();
    body.insert("resourceType".to_owned(), json!(resource));
    body.insert("identifier".to_owned(), identifiers);
    if let Value::Object(elements) = elements {
        body.extend(elements);
    }
    Some(Draft {
        body: Value::Object(body),
        change,
        retire,
    })
}

/// A resource with some elements set; `null` removes.
pub(super) fn with(resource: &Value, changes: &[(&'static str, Value)]) -> Value {
    let mut changed = resource.clone();
    if let Some(members) = changed.as_object_mut() {
        for (name, value) in changes {
            if value.is_null() {
                members.shift_remove(*name);
            } else {
                members.insert((*name).to_owned(), value.clone());
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_type_has_a_draft_that_can_be_changed_and_retired() {
        for name in DRAFT_TYPES {
            let draft = draft_of(name, "Patient/p", "run-1", "2026-09-01T09:00:00Z").unwrap();
            assert_eq!(draft.body["resourceType"], name);
            let changed = with(&draft.body, std::slice::from_ref(&draft.change));
            assert_ne!(changed, draft.body, "{name}");
            assert_ne!(with(&changed, &draft.retire), changed, "{name}");
            assert!(draft.body.get("id").is_none(), "{name}");
        }
        for name in [
            "Immunization",
            "MedicationStatement",
            "Slot",
            "Questionnaire",
        ] {
            assert!(
                draft_of(name, "Patient/p", "run-1", "2026").is_none(),
                "{name}"
            );
        }
    }
}
