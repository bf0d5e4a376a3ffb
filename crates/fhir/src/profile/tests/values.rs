//! What profiles say of single values: bounds, lengths, fixed values and patterns, content references,
//! invariants, and profiles that impose others.

use serde_json::{Value as Json, json};

use super::{Case, URL, claims, derived, profile};

#[test]
fn values_stay_within_their_bounds() {
    let case = Case::of(&[profile(
        "it",
        "Patient",
        &json!([
            {"id": "Patient.birthDate", "path": "Patient.birthDate",
             "minValueDate": "1900-01-01", "maxValueDate": "2020-12-31"},
            {"id": "Patient.multipleBirth[x]", "path": "Patient.multipleBirth[x]",
             "type": [{"code": "integer"}], "minValueInteger": 1, "maxValueInteger": 9},
            {"id": "Patient.name.family", "path": "Patient.name.family", "maxLength": 4},
        ]),
    )]);
    let with =
        |name: &str, value: Json| claims("it", &json!({"resourceType": "Patient", name: value}));
    case.give(&[
        (with("birthDate", json!("1900-01-01")), &[]),
        (
            with("birthDate", json!("1899-12-31")),
            &["profile.range Patient.birthDate"],
        ),
        (with("birthDate", json!("2020-12")), &[]),
        (
            with("birthDate", json!("2021")),
            &["profile.range Patient.birthDate"],
        ),
        (with("multipleBirthInteger", json!(9)), &[]),
        (
            with("multipleBirthInteger", json!(10)),
            &["profile.range Patient.multipleBirthInteger"],
        ),
        (
            with("multipleBirthBoolean", json!(true)),
            &["profile.type Patient.multipleBirthBoolean"],
        ),
        (with("name", json!([{"family": "Bärg"}])), &[]),
        (
            with("name", json!([{"family": "Bergs"}])),
            &["profile.max-length Patient.name[0].family"],
        ),
    ]);
}

#[test]
fn fixed_is_exact_and_pattern_is_at_least() {
    let code = json!({"coding": [{"system": "http://e.org/s", "code": "a"}]});
    let of = |key: &str| {
        Case::of(&[profile(
            "it",
            "Observation",
            &json!([{"id": "Observation.code", "path": "Observation.code", key: code}]),
        )])
    };
    let with = |code: Json| {
        claims(
            "it",
            &json!({"resourceType": "Observation", "status": "final", "code": code}),
        )
    };
    let more =
        json!({"coding": [{"system": "http://e.org/s", "code": "a", "display": "A"}], "text": "A"});
    let other = json!({"coding": [{"system": "http://e.org/s", "code": "b"}]});
    of("fixedCodeableConcept").give(&[
        (with(code.clone()), &[]),
        (with(more.clone()), &["profile.fixed Observation.code"]),
        (with(other.clone()), &["profile.fixed Observation.code"]),
    ]);
    of("patternCodeableConcept").give(&[
        (with(code.clone()), &[]),
        (with(more), &[]),
        (with(other), &["profile.pattern Observation.code"]),
    ]);
}

#[test]
fn what_is_said_of_an_element_holds_where_it_is_referred_to() {
    let case = Case::of(&[profile(
        "it",
        "Questionnaire",
        &json!([
            {"id": "Questionnaire.item", "path": "Questionnaire.item"},
            {"id": "Questionnaire.item.item", "path": "Questionnaire.item.item", "max": "1"},
        ]),
    )]);
    let leaf = |id: &str| json!({"linkId": id, "type": "display", "text": "x"});
    let with = |items: Json| {
        claims(
            "it",
            &json!({"resourceType": "Questionnaire", "status": "draft",
            "item": [{"linkId": "1", "type": "group", "text": "x", "item": items}]}),
        )
    };
    case.give(&[
        (with(json!([leaf("2")])), &[]),
        (
            with(json!([leaf("2"), leaf("3")])),
            &["profile.too-many Questionnaire.item[0].item[1]"],
        ),
    ]);
}

#[test]
fn invariants_of_profiles_are_kept() {
    let case = Case::of(&[profile(
        "it",
        "Patient",
        &json!([{"id": "Patient", "path": "Patient", "constraint": [
            {"key": "x-1", "severity": "error", "human": "someone must have a name or an identifier",
             "expression": "name.exists() or identifier.exists()"},
            {"key": "x-2", "severity": "warning", "human": "better with a gender", "expression": "gender.exists()"},
        ]}]),
    )]);
    case.give(&[
        (
            claims(
                "it",
                &json!({"resourceType": "Patient", "name": [{"text": "x"}]}),
            ),
            &[],
        ),
        (
            claims("it", &json!({"resourceType": "Patient", "active": true})),
            &["profile.invariant Patient"],
        ),
    ]);
}

fn imposing(mut definition: Json, imposed: &[&str]) -> Json {
    let extensions: Vec<Json> = imposed
        .iter()
        .map(|it| {
            json!({"url": "http://hl7.org/fhir/StructureDefinition/structuredefinition-imposeProfile",
                "valueCanonical": format!("{URL}{it}")})
        })
        .collect();
    definition["extension"] = Json::Array(extensions);
    definition
}

#[test]
fn imposed_profiles_hold_as_well() {
    let needs = |name: &str, element: &str| {
        let path = format!("Patient.{element}");
        profile(
            name,
            "Patient",
            &json!([{"id": path, "path": path, "min": 1}]),
        )
    };
    // `it` is derived from `a`, which imposes `b`, which imposes `c`, which imposes `a` again.
    let definitions = [
        imposing(needs("a", "name"), &["b"]),
        imposing(needs("b", "gender"), &["c"]),
        imposing(needs("c", "birthDate"), &["a"]),
        derived("it", "Patient", &format!("{URL}a"), &json!([])),
    ];
    let case = Case::of(&definitions);
    let all = json!({"resourceType": "Patient", "name": [{"text": "x"}], "gender": "other",
        "birthDate": "2000-01-01"});
    case.gives(&claims("it", &all), &[]);
    for missing in ["name", "gender", "birthDate"] {
        let mut patient = claims("it", &all);
        patient.as_object_mut().unwrap().remove(missing);
        case.gives(&patient, &["profile.too-few Patient"]);
    }
    let mut plain = all;
    plain.as_object_mut().unwrap().remove("gender");
    case.gives(&plain, &[]);
    // What is imposed and not at hand is said, and accuses nobody.
    Case::of(&[imposing(needs("it", "name"), &["nowhere"])]).gives(&claims("it", &plain), &[]);
}

#[test]
fn an_implementation_guide_demands_profiles_of_all_resources_of_a_type() {
    let needs = profile(
        "named",
        "Patient",
        &json!([{"id": "Patient.name", "path": "Patient.name", "min": 1}]),
    );
    let guide = |of: &str, profile: &str| {
        json!({"resourceType": "ImplementationGuide", "url": "http://example.org/ImplementationGuide/g",
            "name": "G", "status": "active", "packageId": "example.g", "fhirVersion": ["4.0.1"],
            "global": [{"type": of, "profile": format!("{URL}{profile}")}]})
    };
    let named = json!({"resourceType": "Patient", "name": [{"text": "x"}]});
    let nameless = json!({"resourceType": "Patient", "active": true});
    Case::of(&[needs.clone(), guide("Patient", "named")]).give(&[
        (named, &[]),
        (nameless.clone(), &["profile.too-few Patient"]),
    ]);
    Case::of(&[needs.clone(), guide("Device", "named")]).gives(&nameless, &[]);
    // A profile that is not at hand is said, and accuses nobody.
    Case::of(&[needs, guide("Patient", "unheard-of")]).gives(&nameless, &[]);
}

#[test]
fn a_type_may_be_one_element_of_a_profile() {
    // Items at every depth are items of this profile.
    let items = json!([{"code": "BackboneElement", "profile": [format!("{URL}it")], "_profile": [{"extension": [{
        "url": "http://hl7.org/fhir/StructureDefinition/elementdefinition-profile-element",
        "valueString": "Questionnaire.item"}]}]}]);
    let case = Case::of(&[profile(
        "it",
        "Questionnaire",
        &json!([
            {"id": "Questionnaire.title", "path": "Questionnaire.title", "min": 1},
            {"id": "Questionnaire.item.text", "path": "Questionnaire.item.text", "min": 1},
            {"id": "Questionnaire.item.item", "path": "Questionnaire.item.item", "type": items},
        ]),
    )]);
    let with = |text: &str| {
        let leaf = json!({"linkId": "3", "type": "display", text: "x"});
        claims(
            "it",
            &json!({"resourceType": "Questionnaire", "status": "draft", "title": "x",
            "item": [{"linkId": "1", "type": "group", "text": "x",
                "item": [{"linkId": "2", "type": "group", "text": "x", "item": [leaf]}]}]}),
        )
    };
    case.give(&[
        (with("text"), &[]),
        (
            with("prefix"),
            &["profile.too-few Questionnaire.item[0].item[0].item[0]"],
        ),
    ]);
}
