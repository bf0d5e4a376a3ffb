//! Tests of the status graphs with the bundle's own data.

use serde_json::json;

use super::*;
use crate::Definitions;

const DATA: &str = include_str!("../../../../governance/rules/status-transitions.toml");

fn data() -> Transitions {
    Transitions::parse(DATA).unwrap()
}

#[test]
fn allowed_moves_and_their_nearest_forbidden_ones() {
    let transitions = data();
    for (resource_type, from, to, permitted) in [
        ("Observation", "preliminary", "final", true),
        ("Observation", "registered", "final", false),
        ("Observation", "final", "amended", true),
        ("Observation", "final", "preliminary", false),
        ("Observation", "amended", "entered-in-error", true),
        ("Observation", "entered-in-error", "final", false),
        ("Observation", "preliminary", "corrected", false),
        ("MedicationRequest", "draft", "active", true),
        ("MedicationRequest", "draft", "on-hold", false),
        ("MedicationRequest", "draft", "completed", false),
        ("MedicationRequest", "on-hold", "active", true),
        ("MedicationRequest", "active", "stopped", true),
        ("MedicationRequest", "active", "cancelled", false),
        ("MedicationRequest", "active", "draft", false),
        ("ServiceRequest", "active", "revoked", true),
        ("ServiceRequest", "draft", "revoked", false),
        ("Appointment", "pending", "booked", true),
        ("Appointment", "proposed", "booked", false),
        ("Appointment", "booked", "noshow", true),
        ("Appointment", "pending", "noshow", false),
        ("Appointment", "waitlist", "proposed", true),
        ("Appointment", "waitlist", "booked", false),
        ("Task", "requested", "rejected", true),
        ("Task", "accepted", "rejected", false),
        ("Task", "completed", "cancelled", false),
        ("QuestionnaireResponse", "in-progress", "completed", true),
        ("QuestionnaireResponse", "in-progress", "amended", false),
        ("Encounter", "planned", "cancelled", true),
        ("Encounter", "in-progress", "cancelled", false),
        ("Consent", "proposed", "active", true),
        ("Consent", "draft", "active", false),
        ("Patient", "a", "b", false),
    ] {
        let verdict = transitions.allowed(resource_type, Some(from), to);
        assert_eq!(
            verdict.is_permitted(),
            permitted,
            "{resource_type} {from} -> {to}: {verdict:?}"
        );
    }
    assert_eq!(
        transitions.allowed("Observation", Some("final"), "final"),
        TransitionVerdict::Unchanged
    );
    assert_eq!(
        transitions.allowed("Observation", None, "preliminary"),
        TransitionVerdict::Draft
    );
    assert_eq!(
        transitions.allowed("Observation", None, "final"),
        TransitionVerdict::Created
    );
    assert!(matches!(
        transitions.allowed("Observation", None, "entered-in-error"),
        TransitionVerdict::Forbidden { .. }
    ));
    assert_eq!(
        transitions.allowed("Patient", None, "active"),
        TransitionVerdict::Unlisted
    );
    assert_eq!(
        transitions.allowed_element(
            "DocumentReference",
            "docStatus",
            Some("preliminary"),
            "final"
        ),
        TransitionVerdict::Moved
    );
    assert!(
        !transitions
            .allowed_element(
                "DocumentReference",
                "docStatus",
                Some("preliminary"),
                "amended"
            )
            .is_permitted()
    );
}

#[test]
fn whole_changes() {
    let transitions = data();
    let request = |status: &str, intent: &str| json!({"resourceType": "MedicationRequest", "status": status, "intent": intent});
    assert!(
        transitions
            .check(
                Some(&request("draft", "order")),
                &request("active", "order")
            )
            .is_empty()
    );
    let problems = transitions.check(
        Some(&request("draft", "proposal")),
        &request("active", "order"),
    );
    assert_eq!(problems.len(), 1);
    assert_eq!(
        (problems[0].element.as_str(), problems[0].rule.as_str()),
        ("intent", "frozen")
    );
    let problems = transitions.check(
        Some(&request("stopped", "order")),
        &request("active", "order"),
    );
    assert_eq!(problems[0].allowed, ["entered-in-error"]);
    let without = json!({"resourceType": "MedicationRequest", "intent": "order"});
    assert_eq!(
        transitions.check(Some(&request("active", "order")), &without)[0].to,
        None
    );
}

#[test]
fn drafts() {
    let transitions = data();
    let draft = |resource: Value| transitions.draft(&resource);
    assert_eq!(
        draft(
            json!({"resourceType": "MedicationRequest", "status": "draft", "intent": "proposal"})
        ),
        DraftVerdict::Draft
    );
    assert_eq!(
        draft(json!({"resourceType": "MedicationRequest", "status": "draft", "intent": "order"})),
        DraftVerdict::NotDraft {
            element: "intent".to_owned(),
            allowed: vec!["proposal".to_owned()]
        }
    );
    assert_eq!(
        draft(
            json!({"resourceType": "DocumentReference", "status": "current", "docStatus": "preliminary"})
        ),
        DraftVerdict::Draft
    );
    assert!(matches!(
        draft(json!({"resourceType": "DocumentReference", "status": "current"})),
        DraftVerdict::NotDraft { .. }
    ));
    let condition = |codes: &[&str]| {
        let coding: Vec<_> = codes.iter().map(|code| json!({"code": code})).collect();
        json!({"resourceType": "Condition", "verificationStatus": {"coding": coding}})
    };
    assert_eq!(draft(condition(&["unconfirmed"])), DraftVerdict::Draft);
    assert!(matches!(
        draft(condition(&["confirmed"])),
        DraftVerdict::NotDraft { .. }
    ));
    assert!(matches!(
        draft(condition(&["unconfirmed", "confirmed"])),
        DraftVerdict::NotDraft { .. }
    ));
    assert_eq!(
        draft(json!({"resourceType": "Immunization", "status": "completed"})),
        DraftVerdict::NoDraftState
    );
    assert_eq!(
        draft(json!({"resourceType": "Practitioner"})),
        DraftVerdict::Unlisted
    );
}

#[test]
fn every_state_is_a_code_of_its_value_set() {
    let definitions = Definitions::r4();
    let transitions = data();
    for (resource_type, graphs) in &transitions.graphs {
        for graph in graphs {
            let info = definitions
                .element_type(resource_type, &graph.element)
                .unwrap();
            let codes = definitions.codes(&info.binding.unwrap().value_set).unwrap();
            for state in &graph.states {
                assert!(
                    codes.iter().any(|(_, code)| code == state),
                    "{} {state}",
                    graph.id
                );
            }
        }
    }
    for (resource_type, rule) in &transitions.drafts {
        for (element, states) in &rule.require {
            let info = definitions.element_type(resource_type, element).unwrap();
            let codes = definitions.codes(&info.binding.unwrap().value_set).unwrap();
            for state in states {
                assert!(
                    codes.iter().any(|(_, code)| code == state),
                    "{resource_type}.{element} {state}"
                );
            }
        }
    }
}

#[test]
fn data_that_contradicts_itself_is_refused() {
    let refused = |from: &str, to: &str| {
        let changed = DATA.replacen(from, to, 1);
        assert_ne!(changed, DATA);
        Transitions::parse(&changed).unwrap_err()
    };
    assert!(matches!(
        refused("schema = 1", "schema = 2"),
        TransitionsError::Schema(2)
    ));
    assert!(matches!(
        refused("owner = ", "owned = "),
        TransitionsError::Shape(_)
    ));
    assert!(matches!(
        refused("2027-05-31", "2020-05-31"),
        TransitionsError::Inconsistent { .. }
    ));
    assert!(matches!(
        refused(
            "id = \"medication-request-status\"",
            "id = \"observation-status\""
        ),
        TransitionsError::Inconsistent { .. }
    ));
    assert!(matches!(
        refused(
            "draft = [\"registered\", \"preliminary\"]",
            "draft = [\"registered\"]"
        ),
        TransitionsError::Inconsistent { .. }
    ));
}
