//! References: where targets may be, versions, what is in Parameters, and that targets are at hand.

use serde_json::{Value as Json, json};

use super::{Case, URL, claims, profile};
use crate::json::{Document, JsonLimits, Value};
use crate::validator::{Supporting, ValidatorOptions};

/// Lists whose subject is a Patient, with this on the type.
fn subject(more: &Json) -> Case {
    let mut of_type = json!({"code": "Reference",
        "targetProfile": ["http://hl7.org/fhir/StructureDefinition/Patient"]});
    if let (Some(into), Some(from)) = (of_type.as_object_mut(), more.as_object()) {
        into.extend(from.clone());
    }
    Case::of(&[profile(
        "it",
        "List",
        &json!([{"id": "List.subject", "path": "List.subject", "type": [of_type]}]),
    )])
}

fn list(reference: &str) -> Json {
    claims(
        "it",
        &json!({"resourceType": "List", "id": "l", "status": "current", "mode": "working",
            "subject": {"reference": reference}}),
    )
}

fn contained() -> Json {
    let mut list = list("#p");
    list["contained"] = json!([{"resourceType": "Patient", "id": "p", "active": true}]);
    list
}

fn bundled() -> Json {
    json!({"resourceType": "Bundle", "type": "collection", "entry": [
        {"fullUrl": "http://e.org/List/l", "resource": list("Patient/p")},
        {"fullUrl": "http://e.org/Patient/p",
         "resource": {"resourceType": "Patient", "id": "p", "active": true}},
    ]})
}

#[test]
fn targets_are_where_the_profile_wants_them() {
    let wrong: &[&str] = &["reference.aggregation List.subject"];
    let wrong_in_bundle: &[&str] = &["reference.aggregation Bundle.entry[0].resource.subject"];
    for (aggregation, of_contained, of_bundled, of_elsewhere) in [
        (json!(["contained"]), &[][..], wrong_in_bundle, wrong),
        (json!(["bundled"]), wrong, &[][..], wrong),
        // What is in the same Bundle may be referred to as if it were elsewhere.
        (json!(["referenced"]), wrong, &[][..], &[][..]),
        (json!(["contained", "bundled"]), &[][..], &[][..], wrong),
        (
            json!(["contained", "referenced"]),
            &[][..],
            &[][..],
            &[][..],
        ),
    ] {
        let case = subject(&json!({"aggregation": aggregation}));
        case.give(&[
            (contained(), of_contained),
            (bundled(), of_bundled),
            (list("Patient/p"), of_elsewhere),
        ]);
    }
}

#[test]
fn references_name_versions_as_the_profile_wants() {
    let wrong: &[&str] = &["reference.versioning List.subject"];
    for (versioning, of_specific, of_independent) in [
        ("specific", &[][..], wrong),
        ("independent", wrong, &[][..]),
        ("either", &[][..], &[][..]),
    ] {
        subject(&json!({"versioning": versioning})).give(&[
            (list("Patient/p/_history/2"), of_specific),
            (list("http://e.org/fhir/Patient/p/_history/2"), of_specific),
            (list("Patient/p"), of_independent),
        ]);
    }
}

#[test]
fn targets_conform_to_the_profile_of_the_reference() {
    let known = profile(
        "known",
        "Patient",
        &json!([{"id": "Patient.identifier", "path": "Patient.identifier", "min": 1}]),
    );
    let it = profile(
        "it",
        "List",
        &json!([{"id": "List.subject", "path": "List.subject",
            "type": [{"code": "Reference", "targetProfile": [format!("{URL}known")]}]}]),
    );
    let case = Case::of(&[known, it]);
    let with = |patient: Json| {
        let mut list = list("#p");
        list["contained"] = json!([patient]);
        list
    };
    case.give(&[
        (
            with(json!({"resourceType": "Patient", "id": "p", "identifier": [{"value": "1"}]})),
            &[],
        ),
        (
            with(json!({"resourceType": "Patient", "id": "p", "active": true})),
            &["reference.target-profile List.subject"],
        ),
        (
            with(json!({"resourceType": "Device", "id": "p"})),
            &["reference.target-type List.subject"],
        ),
        (list("Patient/p"), &[]),
        (list("Device/p"), &["reference.target-type List.subject"]),
    ]);
}

/// Parameters with a List whose subject is `reference`, beside what else is given.
fn parameters(reference: &str, more: &[Json]) -> Json {
    let list = json!({"resourceType": "List", "id": "l", "status": "current", "mode": "working",
        "subject": {"reference": reference}});
    let mut parameter = vec![json!({"name": "list", "resource": list})];
    parameter.extend(more.iter().cloned());
    json!({"resourceType": "Parameters", "parameter": parameter})
}

fn resolving() -> Case {
    let mut options = ValidatorOptions::default();
    options.profiles.references_resolve = true;
    Case::with(&[], options)
}

#[test]
fn references_lead_somewhere_if_that_is_asked_for() {
    let missing: &[&str] = &["reference.unresolved List.subject.reference"];
    let list = |reference: &str| {
        let mut list = list(reference);
        list["meta"] = json!({"versionId": "1"});
        list
    };
    // Nothing in R4 demands it.
    Case::of(&[]).gives(&list("Patient/p"), &[]);
    resolving().give(&[
        (list("Patient/p"), missing),
        (list("http://hospital.net/fhir/Patient/p"), missing),
        (
            list("urn:uuid:c757873d-ec9a-4326-a141-556f43239520"),
            missing,
        ),
        // Nobody can ever have put anything there.
        (list("http://example.org/fhir/Patient/p"), &[]),
        (list("https://fhir.example.com:8080/Patient/p"), &[]),
        (list("http://example.org.hospital.net/Patient/p"), missing),
        (list("Patient?identifier=1"), &[]),
        (contained(), &[]),
        (bundled(), &[]),
    ]);
}

#[test]
fn resources_of_parameters_refer_to_each_other() {
    let patient = json!({"resourceType": "Patient", "id": "p", "active": true});
    let urn = "urn:uuid:c757873d-ec9a-4326-a141-556f43239520";
    let plain = json!({"name": "who", "resource": patient});
    let nested = json!({"name": "all", "part": [{"name": "who", "resource": patient}]});
    let named = json!({"name": "who", "resource": patient, "extension": [
        {"url": "http://hl7.org/fhir/StructureDefinition/parameters-fullUrl", "valueUri": urn}]});
    let in_bundle = json!({"name": "all", "resource": {"resourceType": "Bundle", "type": "collection",
        "entry": [{"fullUrl": urn, "resource": patient}]}});
    let missing: &[&str] =
        &["reference.unresolved Parameters.parameter[0].resource.subject.reference"];
    resolving().give(&[
        (parameters("Patient/p", std::slice::from_ref(&plain)), &[]),
        (
            parameters("Patient/q", std::slice::from_ref(&plain)),
            missing,
        ),
        (parameters("Patient/p", &[nested]), &[]),
        (parameters(urn, &[named]), &[]),
        (parameters(urn, &[in_bundle]), &[]),
        (parameters(urn, &[plain]), missing),
    ]);
    // The type of what is found counts too.
    let wrong = json!({"name": "who", "resource": {"resourceType": "Medication", "id": "p"},
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/parameters-fullUrl", "valueUri": urn}]});
    Case::of(&[]).gives(
        &parameters(urn, &[wrong]),
        &["reference.target-type Parameters.parameter[0].resource.subject.reference"],
    );
}

/// One resource beside the text.
struct Beside<'d>(&'d str, Value<'d>);

impl Supporting for Beside<'_> {
    fn find(&self, reference: &str) -> Option<Value<'_>> {
        (reference == self.0).then_some(self.1)
    }
}

#[test]
fn what_the_caller_brings_is_at_hand() {
    let text = r#"{"resourceType":"Patient","id":"p","active":true}"#;
    let document = Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
    let beside = Beside("Patient/p", document.root());
    let mut list = list("Patient/p");
    list["meta"] = json!({"versionId": "1"});
    assert_eq!(
        resolving().errors(&list, Some(&beside)),
        Vec::<String>::new()
    );
    list["subject"] = json!({"reference": "Patient/q"});
    assert_eq!(
        resolving().errors(&list, Some(&beside)),
        ["reference.unresolved List.subject.reference"]
    );
}
