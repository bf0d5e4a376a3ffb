//! What a read shows of a record, and what it leaves behind.

use chaperone_core::evidence::Strategy;
use chaperone_core::principal::Role;
use serde_json::{Value, json};

use crate::bench::*;

fn pressure() -> Value {
    let part = |code: &str, value: i64| {
        json!({
            "code": { "coding": [{ "system": "http://loinc.org", "code": code }] },
            "valueQuantity": {
                "value": value, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]",
            },
            "interpretation": [{ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", "code": "N",
            }] }],
        })
    };
    json!({
        "resourceType": "Observation", "id": "bp", "status": "final",
        "category": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs",
        }] }],
        "code": { "coding": [{ "system": "http://loinc.org", "code": "85354-9" }] },
        "subject": { "reference": "Patient/p1" }, "effectiveDateTime": "2029-12-01T10:00:00Z",
        "component": [part("8480-6", 128), part("8462-4", 82)],
    })
}

fn prescription() -> Value {
    json!({
        "resourceType": "MedicationRequest", "id": "rx", "status": "active", "intent": "order",
        "subject": { "reference": "Patient/p1" },
        "medicationCodeableConcept": { "coding": [{
            "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "314076",
        }] },
        "dosageInstruction": [{
            "timing": { "repeat": { "frequency": 1, "period": 1, "periodUnit": "d" } },
            "asNeededBoolean": true,
            "doseAndRate": [{ "doseQuantity": {
                "value": 10, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg",
            } }],
        }],
    })
}

fn visit() -> Value {
    json!({
        "resourceType": "Encounter", "id": "e1", "status": "finished",
        "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB" },
        "subject": { "reference": "Patient/p1" },
        "period": { "start": "2029-11-01T09:00:00Z", "end": "2029-11-01T09:30:00Z" },
    })
}

pub(crate) async fn what_an_intent_opens_is_shown_with_all_that_a_tool_names_below_it(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    for resource in [pressure(), prescription(), visit()] {
        bench.ehr.put(resource);
    }
    let clinician = human(2, &[Role::Clinician]);
    let agent = bench
        .caller(&clinician, "scribe-agent", "chart-summary", "p1")
        .await;
    let first = async |tool: &str| {
        let answer = bench.call(&agent, tool, json!({})).await;
        answer["resources"][0].clone()
    };
    let vitals = first("list_recent_vitals").await;
    assert_eq!(vitals["component"][1]["valueQuantity"]["value"], 82);
    assert_eq!(
        vitals["component"][0]["code"]["coding"][0]["code"],
        "8480-6"
    );
    // The intent opens all of a component, the tool names two of its parts.
    assert_eq!(vitals["component"][0]["interpretation"], Value::Null);
    let dosage = &first("list_medications").await["dosageInstruction"][0];
    assert_eq!(dosage["doseAndRate"][0]["doseQuantity"]["value"], 10);
    assert_eq!(dosage["timing"]["repeat"]["frequency"], 1);
    assert_eq!(dosage["asNeededBoolean"], Value::Null);
    let encounter = first("list_encounters").await;
    assert_eq!(encounter["period"]["start"], "2029-11-01T09:00:00Z");
}
