//! Drafted notes and their templates: what the intent may see, exactly, and that a draft follows its template.

use std::collections::BTreeSet;

use chaperone_core::evidence::Strategy;
use chaperone_core::ids::WritebackId;
use chaperone_core::principal::Role;
use chaperone_core::writeback::StateName;
use serde_json::{Value, json};

use crate::bench::*;

/// Every path of a value, with list members as one.
fn paths(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                paths(value, &format!("{at}.{name}"), into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| paths(item, at, into)),
        _ => {
            into.insert(at.trim_start_matches('.').to_owned());
        }
    }
}

/// An encounter with all that must not be seen beside what may.
fn encounter() -> Value {
    json!({
        "resourceType": "Encounter", "id": "e1", "status": "in-progress",
        "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB", "display": "ambulatory" },
        "type": [{ "coding": [{ "system": "http://snomed.info/sct", "code": "11429006" }], "text": "Una came in" }],
        "subject": { "reference": "Patient/p1", "display": "Una Sample" },
        "period": { "start": "2026-09-01T08:00:00Z" },
        "reasonCode": [{ "text": "chest pain" }],
        "diagnosis": [{ "condition": { "display": "angina" } }],
        "location": [{ "location": { "display": "Room 7" } }],
        "participant": [{ "individual": { "display": "Dr Lee" } }],
        "text": { "status": "generated", "div": "<div>Una Sample</div>" },
    })
}

pub(crate) async fn draft_note_sees_templates_and_the_encounters_metadata_and_nothing_else(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(encounter());
    let clinician = human(2, &[Role::Clinician]);
    let scribe = bench
        .caller(&clinician, "scribe-agent", "draft-note", "p1")
        .await;
    let tools: Vec<String> = bench
        .engine
        .tools(&scribe)
        .into_iter()
        .map(|tool| tool.name.to_string())
        .collect();
    assert_eq!(
        tools,
        [
            "list_note_templates",
            "list_encounters",
            "draft_note",
            "check_proposal_status"
        ]
    );

    // The field list, whole.
    let found = bench.call(&scribe, "list_encounters", json!({})).await;
    let mut seen = BTreeSet::new();
    paths(&found["resources"], "Encounter", &mut seen);
    let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!(
        seen,
        [
            "Encounter.class.code",
            "Encounter.class.system",
            "Encounter.id",
            "Encounter.period.start",
            "Encounter.resourceType",
            "Encounter.status",
            "Encounter.type.coding.code",
            "Encounter.type.coding.system",
        ]
    );
    let told = found.to_string();
    for closed in ["Una", "Lee", "chest", "angina", "Room"] {
        assert!(!told.contains(closed), "{closed}: {told}");
    }

    // Templates are the bundle's own; no EHR is asked for them.
    bench.ehr.set_down(true);
    let told = bench.call(&scribe, "list_note_templates", json!({})).await;
    bench.ehr.set_down(false);
    let mut seen = BTreeSet::new();
    paths(&told, "", &mut seen);
    let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!(
        seen,
        [
            "how",
            "templates.chars_max",
            "templates.id",
            "templates.kinds",
            "templates.sections.chars_max",
            "templates.sections.required",
            "templates.sections.title",
            "templates.title",
        ]
    );
    // What the intent does not list is refused, whatever the agent asks for.
    for tool in ["list_problems", "list_documents", "get_patient_context"] {
        assert!(
            bench.try_call(&scribe, tool, json!({})).await.is_err(),
            "{tool}"
        );
    }
}

pub(crate) async fn a_draft_follows_its_template_or_is_refused(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(encounter());
    let clinician = human(2, &[Role::Clinician]);
    let scribe = bench
        .caller(&clinician, "scribe-agent", "draft-note", "p1")
        .await;
    let found = bench.call(&scribe, "list_encounters", json!({})).await;
    let encounter = found["resources"][0]["id"].clone();
    let draft = async |key: &str, template: &str, kind: &str, text: &str| {
        let arguments = json!({
            "idempotency_key": key, "encounter_token": encounter, "template": template,
            "kind": kind, "text": text,
        });
        let answer = bench.call(&scribe, "draft_note", arguments).await;
        let id: WritebackId = answer["proposal"].as_str().unwrap().parse().unwrap();
        (bench.state(id).await, answer)
    };
    let soap =
        "## Subjective\nTired.\n## Objective\nCalm.\n## Assessment\nFatigue.\n## Plan\nRest.";
    let (state, _) = draft("1", "progress-note", "11506-3", soap).await;
    assert_eq!(state, StateName::AwaitingApproval);
    let (state, _) = draft("2", "plain-note", "11506-3", "Seen today.").await;
    assert_eq!(state, StateName::AwaitingApproval);
    for (key, kind, text, why) in [
        ("3", "18842-5", soap.to_owned(), "not for this kind"),
        (
            "4",
            "11506-3",
            soap.replace("## Plan\nRest.", ""),
            "`Plan` is missing",
        ),
        (
            "5",
            "11506-3",
            format!("{soap}\n## Orders\nAspirin."),
            "does not have",
        ),
        (
            "6",
            "11506-3",
            soap.replace("Rest.", &"Rest. ".repeat(900)),
            "longer than 3000",
        ),
    ] {
        let (state, answer) = draft(key, "progress-note", kind, &text).await;
        assert_eq!(state, StateName::Refused, "{answer}");
        // The agent hears what was wrong with its own input.
        assert!(answer["findings"].to_string().contains(why), "{answer}");
    }
    let arguments = json!({
        "idempotency_key": "7", "encounter_token": encounter, "template": "own-template", "text": "x",
    });
    assert!(
        bench
            .try_call(&scribe, "draft_note", arguments)
            .await
            .is_err()
    );
}
