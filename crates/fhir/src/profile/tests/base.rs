//! What R4 itself demands beyond structure: units, vital signs, ids beside values, contexts of its own
//! extensions in conformance resources.

use serde_json::{Value as Json, json};

use super::Case;

fn observation(quantity: Json) -> Json {
    json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
        "valueQuantity": quantity})
}

#[test]
fn units_of_ucum_exist() {
    let of =
        |system: &str, code: &str| observation(json!({"value": 1, "system": system, "code": code}));
    let ucum = "http://unitsofmeasure.org";
    Case::of(&[]).give(&[
        (of(ucum, "mm[Hg]"), &[]),
        (of(ucum, "{score}"), &[]),
        (
            of(ucum, "mmHg"),
            &["coding.unknown-code Observation.valueQuantity.code"],
        ),
        (of("http://e.org/units", "mmHg"), &[]),
        // What stands in braces means nothing.
        (of(ucum, "{urine specific gravity}"), &[]),
        (
            of(ucum, "mgg{a b}"),
            &["coding.unknown-code Observation.valueQuantity.code"],
        ),
        (of(ucum, "mg{dL a}"), &[]),
        // Braces that do not match leave nothing out.
        (
            of(ucum, "mg{dL"),
            &["coding.unknown-code Observation.valueQuantity.code"],
        ),
        (
            of(ucum, "mg}"),
            &["coding.unknown-code Observation.valueQuantity.code"],
        ),
        (
            of(ucum, "mg{a{b}}"),
            &["coding.unknown-code Observation.valueQuantity.code"],
        ),
    ]);
}

#[test]
fn quantities_of_a_kind_keep_its_rules() {
    let of = |low: Json| {
        json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
            "referenceRange": [{"low": low}]})
    };
    let gram = |more: (&str, Json)| {
        let mut quantity = json!({"value": 1, "system": "http://unitsofmeasure.org", "code": "g"});
        quantity[more.0] = more.1;
        of(quantity)
    };
    let case = Case::of(&[]);
    case.gives(&gram(("unit", json!("gram"))), &[]);
    case.gives(
        &gram(("comparator", json!("<"))),
        &["structure.too-many Observation.referenceRange[0].low.comparator"],
    );
}

#[test]
fn an_id_alone_is_enough_beside_a_value() {
    let patient = |members: Json| {
        let mut patient = members;
        patient["resourceType"] = json!("Patient");
        patient
    };
    Case::of(&[]).give(&[
        (
            patient(json!({"gender": "female", "_gender": {"id": "g"}})),
            &[],
        ),
        (
            patient(json!({"_gender": {"id": "g"}})),
            &[
                "binding.no-code Patient.gender",
                "profile.invariant Patient._gender",
            ],
        ),
        (
            patient(json!({"name": [{"given": ["a", "b"], "_given": [{"id": "1"}, {"id": "2"}]}]})),
            &[],
        ),
        (
            patient(json!({"name": [{"given": ["a", null], "_given": [null, {"id": "2"}]}]})),
            &["profile.invariant Patient.name[0]._given[1]"],
        ),
    ]);
}

/// A heart rate, or what another code makes of it.
fn vital_sign(code: &str, unit: &str) -> Json {
    json!({"resourceType": "Observation", "status": "final",
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": "Patient/1"}, "effectiveDateTime": "2026-01-01",
        "valueQuantity": {"value": 60, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}})
}

#[test]
fn vital_signs_keep_their_profiles_by_their_code() {
    let case = Case::of(&[]);
    case.gives(&vital_sign("8867-4", "/min"), &[]);
    assert!(!case.errors(&vital_sign("8867-4", "mg"), None).is_empty());
    case.gives(&vital_sign("2708-6", "%"), &[]);
    // The pulse oximeter's code stands beside the other one, and calls for nothing by itself.
    case.gives(&vital_sign("59408-5", "%"), &[]);
    let mut elsewhere = vital_sign("8867-4", "mg");
    elsewhere["code"]["coding"][0]["system"] = json!("http://e.org/codes");
    case.gives(&elsewhere, &[]);
}

#[test]
fn conformance_resources_may_follow_later_definitions_of_r4s_extensions() {
    let expectation = json!([{
        "url": "http://hl7.org/fhir/StructureDefinition/capabilitystatement-expectation",
        "valueCode": "SHALL"}]);
    let parameter = json!({"resourceType": "SearchParameter", "url": "http://e.org/s", "name": "S",
        "status": "draft", "description": "x", "code": "s", "base": ["Patient"], "type": "string",
        "multipleOr": true, "_multipleOr": {"extension": expectation}});
    let patient =
        json!({"resourceType": "Patient", "active": true, "_active": {"extension": expectation}});
    let group = |code: &str| {
        json!({"resourceType": "ValueSet", "url": "http://e.org/v", "status": "draft", "extension": [{
            "url": "http://hl7.org/fhir/StructureDefinition/structuredefinition-wg", "valueCode": code}]})
    };
    let format = |code: &str| {
        json!({"resourceType": "CapabilityStatement", "url": "http://e.org/c", "status": "draft",
            "date": "2026", "kind": "requirements", "description": "x", "fhirVersion": "4.0.1",
            "format": [code], "rest": [{"mode": "server"}]})
    };
    Case::of(&[]).give(&[
        (parameter, &[]),
        (
            patient,
            &["extension.context Patient._active.extension[0].url"],
        ),
        (group("fhir"), &[]),
        (group("cgp"), &[]),
        (format("application/fhir+json"), &[]),
        (format("json"), &[]),
    ]);
}
