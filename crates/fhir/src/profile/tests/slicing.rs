//! Slicing: rules, order, every kind of discriminator, slices of slices.

use serde_json::{Value as Json, json};

use super::{Case, URL, claims, derived, profile, slice, sliced};

/// A Patient of the profile `it` with identifiers of these systems; a `!` in front makes one official.
fn patient(systems: &[&str]) -> Json {
    let identifiers: Vec<Json> = systems
        .iter()
        .map(|it| match it.strip_prefix('!') {
            Some(system) => {
                json!({"use": "official", "system": format!("http://e.org/{system}"), "value": "1"})
            }
            None => json!({"system": format!("http://e.org/{it}"), "value": "1"}),
        })
        .collect();
    claims(
        "it",
        &json!({"resourceType": "Patient", "identifier": identifiers}),
    )
}

/// Patients with the slices `a` (once) and `b` of identifiers, told apart by their system.
fn by_system(rules: &str, ordered: bool) -> Case {
    let fixed = |name: &str| {
        json!({"id": format!("Patient.identifier:{name}.system"), "path": "Patient.identifier.system",
            "min": 1, "fixedUri": format!("http://e.org/{name}")})
    };
    Case::of(&[profile(
        "it",
        "Patient",
        &json!([
            sliced("Patient.identifier", "value", "system", rules, ordered),
            slice("Patient.identifier", "a", 1, "1"),
            fixed("a"),
            slice("Patient.identifier", "b", 0, "*"),
            fixed("b"),
        ]),
    )])
}

const ORDER: &str = "profile.slice-order";

#[test]
fn slices_are_counted_whatever_the_rules() {
    for rules in ["open", "closed", "openAtEnd"] {
        let case = by_system(rules, false);
        case.give(&[
            (patient(&["a"]), &[]),
            (patient(&["a", "b", "b"]), &[]),
            (patient(&["b", "a"]), &[]),
            (patient(&["b"]), &["profile.too-few Patient"]),
            (
                patient(&["a", "a"]),
                &["profile.too-many Patient.identifier[1]"],
            ),
        ]);
    }
}

#[test]
fn what_belongs_to_no_slice() {
    let outside: &[&str] = &["profile.slice-closed Patient.identifier[1]"];
    by_system("open", false).give(&[(patient(&["a", "c"]), &[]), (patient(&["c", "a"]), &[])]);
    by_system("closed", false).give(&[
        (patient(&["a", "b"]), &[]),
        (patient(&["a", "c"]), outside),
        (patient(&["a", "c", "b"]), outside),
    ]);
    let early = format!("{ORDER} Patient.identifier[0]");
    let between = format!("{ORDER} Patient.identifier[1]");
    by_system("openAtEnd", false).give(&[
        (patient(&["a", "b", "c", "d"]), &[]),
        (patient(&["b", "a", "c"]), &[]),
        (patient(&["c", "a"]), &[&early]),
        (patient(&["a", "c", "b", "d"]), &[&between]),
    ]);
}

#[test]
fn ordered_slices_stand_in_their_order() {
    let late = format!("{ORDER} Patient.identifier[1]");
    let later = format!("{ORDER} Patient.identifier[2]");
    by_system("open", true).give(&[
        (patient(&["a", "b", "b"]), &[]),
        (patient(&["c", "a", "c", "b"]), &[]),
        (patient(&["b", "a"]), &[&late]),
        (patient(&["b", "c", "a"]), &[&later]),
    ]);
    by_system("closed", true).give(&[
        (patient(&["a", "b"]), &[]),
        (patient(&["b", "a"]), &[&late]),
    ]);
    by_system("openAtEnd", true).give(&[
        (patient(&["a", "b", "c"]), &[]),
        (patient(&["a", "c", "b"]), &[&late]),
    ]);
}

#[test]
fn a_slice_may_be_sliced_again() {
    let at = "Patient.identifier";
    let definitions = [profile(
        "it",
        "Patient",
        &json!([
            sliced(at, "value", "system", "open", false),
            {"id": "Patient.identifier:a", "path": at, "sliceName": "a", "min": 1, "max": "2",
             "slicing": {"discriminator": [{"type": "value", "path": "use"}], "rules": "open"}},
            {"id": "Patient.identifier:a.system", "path": "Patient.identifier.system", "min": 1,
             "fixedUri": "http://e.org/a"},
            slice(at, "a/official", 1, "1"),
            {"id": "Patient.identifier:a/official.use", "path": "Patient.identifier.use", "min": 1,
             "fixedCode": "official"},
        ]),
    )];
    let official = "profile.too-few Patient";
    Case::of(&definitions).give(&[
        (patient(&["!a"]), &[]),
        (patient(&["a", "!a", "b", "!b"]), &[]),
        // The official one must be of system `a`.
        (patient(&["a", "!b"]), &[official]),
        (patient(&["!b"]), &[official, official]),
        (
            patient(&["!a", "!a"]),
            &["profile.too-many Patient.identifier[1]"],
        ),
        (
            patient(&["!a", "a", "a"]),
            &["profile.too-many Patient.identifier[2]"],
        ),
    ]);
}

#[test]
fn a_derived_profile_adds_to_slices_of_its_base() {
    let at = "Patient.identifier";
    let base = profile(
        "base",
        "Patient",
        &json!([
            sliced(at, "value", "system", "open", false),
            slice(at, "a", 0, "*"),
            {"id": "Patient.identifier:a.system", "path": "Patient.identifier.system", "min": 1,
             "fixedUri": "http://e.org/a"},
        ]),
    );
    let it = derived(
        "it",
        "Patient",
        &format!("{URL}base"),
        &json!([
            {"id": at, "path": at, "slicing": {"discriminator": [{"type": "value", "path": "system"}],
             "rules": "closed"}},
            slice(at, "a", 1, "1"),
            slice(at, "c", 0, "1"),
            {"id": "Patient.identifier:c.system", "path": "Patient.identifier.system", "min": 1,
             "fixedUri": "http://e.org/c"},
        ]),
    );
    Case::of(&[base, it]).give(&[
        (patient(&["a", "c"]), &[]),
        (patient(&["c"]), &["profile.too-few Patient"]),
        (
            patient(&["a", "b"]),
            &["profile.slice-closed Patient.identifier[1]"],
        ),
    ]);
}

fn observation(more: &Json) -> Json {
    let mut resource = json!({
        "resourceType": "Observation", "status": "final", "code": {"text": "x"}});
    if let (Some(into), Some(from)) = (resource.as_object_mut(), more.as_object()) {
        into.extend(from.clone());
    }
    claims("it", &resource)
}

#[test]
fn slices_by_pattern() {
    let at = "Observation.category";
    let case = Case::of(&[profile(
        "it",
        "Observation",
        &json!([
            sliced(at, "pattern", "$this", "open", false),
            {"id": "Observation.category:lab", "path": at, "sliceName": "lab", "min": 1, "max": "1",
             "patternCodeableConcept": {"coding": [{"system": "http://e.org/c", "code": "lab"}]}},
        ]),
    )]);
    let category = |codes: &[&str]| {
        let coding: Vec<Json> = codes
            .iter()
            .map(|it| json!({"system": "http://e.org/c", "code": it, "display": "more"}))
            .collect();
        json!({"coding": coding, "text": "more"})
    };
    case.give(&[
        (observation(&json!({"category": [category(&["lab"])]})), &[]),
        (
            observation(&json!({"category": [category(&["x"]), category(&["y", "lab"])]})),
            &[],
        ),
        (
            observation(&json!({"category": [category(&["x"])]})),
            &["profile.too-few Observation"],
        ),
    ]);
}

#[test]
fn slices_by_presence() {
    let at = "Observation.component";
    let case = Case::of(&[profile(
        "it",
        "Observation",
        &json!([
            sliced(at, "exists", "interpretation", "closed", false),
            slice(at, "judged", 1, "1"),
            {"id": "Observation.component:judged.interpretation",
             "path": "Observation.component.interpretation", "min": 1},
            slice(at, "plain", 0, "1"),
            {"id": "Observation.component:plain.interpretation",
             "path": "Observation.component.interpretation", "max": "0"},
        ]),
    )]);
    let judged = json!({"code": {"text": "a"}, "interpretation": [{"text": "high"}]});
    let plain = json!({"code": {"text": "a"}});
    case.give(&[
        (observation(&json!({"component": [plain, judged]})), &[]),
        (
            observation(&json!({"component": [plain]})),
            &["profile.too-few Observation"],
        ),
        (
            observation(&json!({"component": [judged, plain, plain]})),
            &["profile.too-many Observation.component[2]"],
        ),
    ]);
}

#[test]
fn slices_by_type() {
    let at = "Observation.component.value[x]";
    let case = Case::of(&[profile(
        "it",
        "Observation",
        &json!([
            sliced(at, "type", "$this", "closed", false),
            {"id": format!("{at}:valueQuantity"), "path": at, "sliceName": "valueQuantity",
             "type": [{"code": "Quantity"}]},
            {"id": format!("{at}:valueQuantity.code"), "path": format!("{at}.code"), "min": 1},
            {"id": format!("{at}:valueString"), "path": at, "sliceName": "valueString",
             "type": [{"code": "string"}]},
        ]),
    )]);
    let component = |value: Json| {
        let mut component = json!({"code": {"text": "a"}});
        if let (Some(into), Some(from)) = (component.as_object_mut(), value.as_object()) {
            into.extend(from.clone());
        }
        observation(&json!({"component": [component]}))
    };
    case.give(&[
        (component(json!({"valueString": "x"})), &[]),
        (
            component(json!({"valueQuantity": {"value": 1, "system": "http://unitsofmeasure.org", "code": "mg"}})),
            &[],
        ),
        (
            component(json!({"valueQuantity": {"value": 1}})),
            &["profile.too-few Observation.component[0].valueQuantity"],
        ),
        (
            component(json!({"valueBoolean": true})),
            &["profile.slice-closed Observation.component[0].valueBoolean"],
        ),
    ]);
}

/// Observations whose performers are sliced by what they lead to.
fn by_performer(kind: &str, slices: &Json) -> Case {
    let mut elements = vec![sliced(
        "Observation.performer",
        kind,
        "resolve()",
        "closed",
        false,
    )];
    elements.extend(slices.as_array().cloned().unwrap_or_default());
    let named = profile(
        "named",
        "Practitioner",
        &json!([{"id": "Practitioner.name", "path": "Practitioner.name", "min": 1}]),
    );
    Case::of(&[profile("it", "Observation", &Json::Array(elements)), named])
}

fn performed_by(contained: &[Json], references: &[&str]) -> Json {
    let performers: Vec<Json> = references
        .iter()
        .map(|it| json!({"reference": it}))
        .collect();
    observation(&json!({"contained": contained, "performer": performers}))
}

#[test]
fn slices_by_the_type_of_what_is_referred_to() {
    let at = "Observation.performer";
    let target = |name: &str| {
        json!([{"code": "Reference",
            "targetProfile": [format!("http://hl7.org/fhir/StructureDefinition/{name}")]}])
    };
    let case = by_performer(
        "type",
        &json!([
            {"id": "Observation.performer:who", "path": at, "sliceName": "who", "min": 1, "max": "1",
             "type": target("Practitioner")},
            {"id": "Observation.performer:where", "path": at, "sliceName": "where", "max": "1",
             "type": target("Organization")},
        ]),
    );
    let someone = json!({"resourceType": "Practitioner", "id": "who"});
    let somewhere = json!({"resourceType": "Organization", "id": "where", "name": "x"});
    case.give(&[
        (performed_by(std::slice::from_ref(&someone), &["#who"]), &[]),
        (
            performed_by(&[someone.clone(), somewhere.clone()], &["#where", "#who"]),
            &[],
        ),
        // What is not at hand is judged by what the reference says.
        (
            performed_by(
                std::slice::from_ref(&somewhere),
                &["#where", "Practitioner/1"],
            ),
            &[],
        ),
        (
            performed_by(&[somewhere], &["#where"]),
            &["profile.too-few Observation"],
        ),
        (
            performed_by(&[someone], &["#who", "Patient/1"]),
            &["profile.slice-closed Observation.performer[1]"],
        ),
    ]);
}

#[test]
fn slices_by_the_profile_of_what_is_referred_to() {
    let at = "Observation.performer";
    let case = by_performer(
        "profile",
        &json!([
            {"id": "Observation.performer:who", "path": at, "sliceName": "who", "min": 1, "max": "1",
             "type": [{"code": "Reference", "targetProfile": [format!("{URL}named")]}]},
        ]),
    );
    let named = json!({"resourceType": "Practitioner", "id": "who", "name": [{"family": "x"}]});
    let nameless = json!({"resourceType": "Practitioner", "id": "who", "active": true});
    case.give(&[
        (performed_by(&[named], &["#who"]), &[]),
        (
            performed_by(&[nameless], &["#who"]),
            &[
                "profile.too-few Observation",
                "profile.slice-closed Observation.performer[0]",
            ],
        ),
    ]);
}

#[test]
fn slices_by_a_value_in_what_is_referred_to() {
    let at = "List.entry";
    let vital = profile(
        "final",
        "Observation",
        &json!([{"id": "Observation.status", "path": "Observation.status", "fixedCode": "final"}]),
    );
    let list = profile(
        "it",
        "List",
        &json!([
            sliced(at, "value", "item.resolve().status", "open", false),
            slice(at, "done", 1, "*"),
            {"id": "List.entry:done.item", "path": "List.entry.item",
             "type": [{"code": "Reference", "targetProfile": [format!("{URL}final")]}]},
        ]),
    );
    let case = Case::of(&[vital, list]);
    let with = |status: &str| {
        claims(
            "it",
            &json!({"resourceType": "List", "status": "current", "mode": "working",
                "contained": [{"resourceType": "Observation", "id": "o", "status": status,
                    "code": {"text": "x"}}],
                "entry": [{"item": {"reference": "#o"}}]}),
        )
    };
    case.give(&[
        (with("final"), &[]),
        (with("preliminary"), &["profile.too-few List"]),
    ]);
}

#[test]
fn entries_are_sliced_by_profiles_that_rest_on_the_bundle() {
    let at = "Bundle.entry";
    let bundle = profile(
        "it",
        "Bundle",
        &json!([
            sliced(at, "profile", "resource", "open", false),
            slice(at, "head", 1, "1"),
            {"id": "Bundle.entry:head.resource", "path": "Bundle.entry.resource", "min": 1,
             "type": [{"code": "List", "profile": [format!("{URL}head")]}]},
        ]),
    );
    let head = profile(
        "head",
        "List",
        &json!([
            {"id": "List.subject", "path": "List.subject", "min": 1,
             "type": [{"code": "Reference", "targetProfile": [format!("{URL}known")]}]},
        ]),
    );
    let known = profile(
        "known",
        "Patient",
        &json!([{"id": "Patient.identifier", "path": "Patient.identifier", "min": 1}]),
    );
    let case = Case::of(&[bundle, head, known]);
    let with = |patient: Json| {
        claims(
            "it",
            &json!({"resourceType": "Bundle", "type": "collection", "entry": [
                {"fullUrl": "http://e.org/List/l", "resource": {"resourceType": "List", "id": "l",
                    "status": "current", "mode": "working", "subject": {"reference": "Patient/p"}}},
                {"fullUrl": "http://e.org/Patient/p", "resource": patient},
            ]}),
        )
    };
    case.give(&[
        (
            with(json!({"resourceType": "Patient", "id": "p", "identifier": [{"value": "1"}]})),
            &[],
        ),
        (
            with(json!({"resourceType": "Patient", "id": "p", "active": true})),
            &["profile.too-few Bundle"],
        ),
    ]);
}
