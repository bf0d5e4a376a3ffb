//! Extensions: where they may stand, as modifiers or not, and what they hold.

use serde_json::{Value as Json, json};

use super::{Case, URL};

/// A simple extension with a string, for these contexts.
fn extension(name: &str, contexts: &[(&str, &str)], elements: &[Json]) -> Json {
    let url = format!("{URL}{name}");
    let mut list = vec![
        json!({"id": "Extension", "path": "Extension"}),
        json!({"id": "Extension.url", "path": "Extension.url", "fixedUri": url}),
    ];
    list.extend(elements.iter().cloned());
    let contexts: Vec<Json> = contexts
        .iter()
        .map(|(kind, expression)| json!({"type": kind, "expression": expression}))
        .collect();
    json!({
        "resourceType": "StructureDefinition", "url": url, "name": name, "status": "active",
        "kind": "complex-type", "abstract": false, "context": contexts, "type": "Extension",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Extension",
        "derivation": "constraint", "differential": {"element": list},
    })
}

fn value_of(kind: &str) -> Json {
    json!({"id": "Extension.value[x]", "path": "Extension.value[x]", "min": 1, "type": [{"code": kind}]})
}

fn used(name: &str) -> Json {
    json!([{"url": format!("{URL}{name}"), "valueString": "x"}])
}

/// A Patient with the extension on the resource, on a name, on a family name, on a contact and on that
/// contact's name, each on its own.
fn places(name: &str) -> [(&'static str, Json); 6] {
    let it = used(name);
    let patient = |more: Json| {
        let mut patient = json!({"resourceType": "Patient"});
        if let (Some(into), Some(from)) = (patient.as_object_mut(), more.as_object()) {
            into.extend(from.clone());
        }
        patient
    };
    [
        ("Patient", patient(json!({"extension": it}))),
        (
            "Patient.name",
            patient(json!({"name": [{"family": "a", "extension": it}]})),
        ),
        (
            "Patient.name.family",
            patient(json!({"name": [{"family": "a", "_family": {"extension": it}}]})),
        ),
        (
            "Patient.contact",
            patient(
                json!({"contact": [{"gender": "female", "extension": it, "name": {"family": "a"}}]}),
            ),
        ),
        (
            "Patient.contact.name",
            patient(json!({"contact": [{"name": {"family": "a", "extension": it}}]})),
        ),
        (
            "Patient.birthDate",
            patient(json!({"birthDate": "2000-01-01", "_birthDate": {"extension": it}})),
        ),
    ]
}

#[test]
fn extensions_stand_in_their_contexts() {
    for (kind, expression, allowed) in [
        ("element", "Patient", &["Patient"][..]),
        ("element", "DomainResource", &["Patient"][..]),
        ("element", "Resource", &["Patient"][..]),
        ("element", "Observation", &[][..]),
        ("element", "Patient.name", &["Patient.name"][..]),
        (
            "element",
            "HumanName",
            &["Patient.name", "Patient.contact.name"][..],
        ),
        ("element", "HumanName.family", &["Patient.name.family"][..]),
        ("element", "string", &["Patient.name.family"][..]),
        ("element", "Patient.contact", &["Patient.contact"][..]),
        ("element", "BackboneElement", &["Patient.contact"][..]),
        ("element", "Patient.birthDate", &["Patient.birthDate"][..]),
        ("element", "date", &["Patient.birthDate"][..]),
        (
            "element",
            "Element",
            &[
                "Patient",
                "Patient.name",
                "Patient.name.family",
                "Patient.contact",
                "Patient.contact.name",
                "Patient.birthDate",
            ][..],
        ),
        (
            "fhirpath",
            "Patient.name | Patient.contact.name",
            &["Patient.name", "Patient.contact.name"][..],
        ),
        ("fhirpath", "Observation.code", &[][..]),
        ("extension", "http://example.org/other", &[][..]),
    ] {
        let case = Case::of(&[extension(
            "it",
            &[(kind, expression)],
            &[value_of("string")],
        )]);
        for (place, patient) in places("it") {
            let errors = case.errors(&patient, None);
            let is_refused = errors.iter().any(|it| it.starts_with("extension.context "));
            assert_eq!(
                is_refused,
                !allowed.contains(&place),
                "{kind} {expression} at {place}: {errors:?}"
            );
            assert!(errors.len() <= 1, "{errors:?}");
        }
    }
}

#[test]
fn an_extension_may_be_for_another_one_only() {
    let outer = extension(
        "outer",
        &[("element", "Patient")],
        &[
            json!({"id": "Extension.value[x]", "path": "Extension.value[x]", "min": 1, "type": [{"code": "string"}]}),
        ],
    );
    let inner = extension(
        "inner",
        &[("extension", &format!("{URL}outer"))],
        &[value_of("string")],
    );
    let case = Case::of(&[outer, inner]);
    let inside = json!({"resourceType": "Patient", "extension": [{
        "url": format!("{URL}outer"), "valueString": "x",
        "_valueString": {"extension": used("inner")}}]});
    // Not on the extension itself but on its value: another place.
    case.gives(
        &inside,
        &["extension.context Patient.extension[0]._valueString.extension[0].url"],
    );
    case.gives(
        &json!({"resourceType": "Patient", "extension": used("inner")}),
        &["extension.context Patient.extension[0].url"],
    );
}

#[test]
fn a_context_may_state_a_condition() {
    let mut it = extension("it", &[("element", "Patient")], &[value_of("string")]);
    it["contextInvariant"] = json!(["gender = 'female'", "%extension.value = 'x'"]);
    let case = Case::of(&[it]);
    let patient = |gender: &str, value: &str| {
        json!({"resourceType": "Patient", "gender": gender,
            "extension": [{"url": format!("{URL}it"), "valueString": value}]})
    };
    case.give(&[
        (patient("female", "x"), &[]),
        (patient("male", "x"), &["profile.invariant Patient"]),
        (patient("female", "y"), &["profile.invariant Patient"]),
    ]);
}

#[test]
fn modifiers_stand_among_modifiers() {
    let modifier = extension(
        "modifier",
        &[("element", "Patient")],
        &[
            json!({"id": "Extension.value[x]", "path": "Extension.value[x]", "min": 1, "type": [{"code": "string"}]}),
        ],
    );
    let mut modifier = modifier;
    modifier["differential"]["element"][0]["isModifier"] = json!(true);
    modifier["differential"]["element"][0]["isModifierReason"] = json!("x");
    let plain = extension("plain", &[("element", "Patient")], &[value_of("string")]);
    let case = Case::of(&[modifier, plain]);
    let patient = |place: &str, name: &str| json!({"resourceType": "Patient", place: used(name)});
    case.give(&[
        (patient("extension", "plain"), &[]),
        (patient("modifierExtension", "modifier"), &[]),
        (
            patient("extension", "modifier"),
            &["extension.modifier-misplaced Patient.extension[0].url"],
        ),
        (
            patient("modifierExtension", "plain"),
            &["extension.modifier-misplaced Patient.modifierExtension[0].url"],
        ),
        // What is not known may change everything.
        (
            patient("modifierExtension", "unknown"),
            &["extension.unknown Patient.modifierExtension[0].url"],
        ),
        (patient("extension", "unknown"), &[]),
        (
            json!({"resourceType": "Patient", "modifierExtension": [{"url": "plain", "valueString": "x"}]}),
            &["extension.unknown Patient.modifierExtension[0].url"],
        ),
    ]);
}

#[test]
fn extensions_hold_what_their_definition_says() {
    let simple = extension("simple", &[("element", "Patient")], &[value_of("string")]);
    let at = "Extension.extension";
    let complex = extension(
        "complex",
        &[("element", "Patient")],
        &[
            json!({"id": format!("{at}:a"), "path": at, "sliceName": "a", "min": 1, "max": "1"}),
            json!({"id": format!("{at}:a.url"), "path": format!("{at}.url"), "fixedUri": "a"}),
            json!({"id": format!("{at}:a.value[x]"), "path": format!("{at}.value[x]"), "min": 1,
                "type": [{"code": "boolean"}]}),
            json!({"id": "Extension.value[x]", "path": "Extension.value[x]", "max": "0"}),
        ],
    );
    let case = Case::of(&[simple, complex]);
    let patient = |extension: Json| json!({"resourceType": "Patient", "extension": [extension]});
    let simple =
        |name: &str, value: Json| patient(json!({"url": format!("{URL}simple"), name: value}));
    let complex =
        |parts: Json| patient(json!({"url": format!("{URL}complex"), "extension": parts}));
    case.give(&[
        (simple("valueString", json!("x")), &[]),
        (
            simple("valueCode", json!("x")),
            &["profile.type Patient.extension[0].valueCode"],
        ),
        (complex(json!([{"url": "a", "valueBoolean": true}])), &[]),
        (
            complex(json!([{"url": "a", "valueString": "x"}])),
            &["profile.type Patient.extension[0].extension[0].valueString"],
        ),
        (
            complex(json!([{"url": "b", "valueBoolean": true}])),
            &[
                "profile.too-few Patient.extension[0]",
                "extension.not-defined Patient.extension[0].extension[0].url",
            ],
        ),
        (
            complex(
                json!([{"url": "a", "valueBoolean": true}, {"url": "a", "valueBoolean": true}]),
            ),
            &["profile.too-many Patient.extension[0].extension[1]"],
        ),
    ]);
}

#[test]
fn extensions_may_be_needed_beside_a_value() {
    let it = super::profile(
        "it",
        "Patient",
        &json!([
            {"id": "Patient.birthDate", "path": "Patient.birthDate", "min": 1},
            {"id": "Patient.birthDate.extension", "path": "Patient.birthDate.extension",
             "slicing": {"discriminator": [{"type": "value", "path": "url"}], "rules": "open"}},
            {"id": "Patient.birthDate.extension:e", "path": "Patient.birthDate.extension", "sliceName": "e",
             "min": 1, "max": "1", "type": [{"code": "Extension", "profile": [format!("{URL}e")]}]},
            {"id": "Patient.birthDate.value", "path": "Patient.birthDate.value", "min": 1},
        ]),
    );
    let case = Case::of(&[
        it,
        extension("e", &[("element", "date")], &[value_of("string")]),
    ]);
    let patient = |members: Json| {
        let mut patient = super::claims("it", &members);
        patient["resourceType"] = json!("Patient");
        patient
    };
    let beside = json!({"extension": used("e")});
    case.give(&[
        (
            patient(json!({"birthDate": "2000", "_birthDate": beside})),
            &[],
        ),
        (
            patient(json!({"birthDate": "2000"})),
            &["profile.too-few Patient.birthDate"],
        ),
        (
            patient(json!({"_birthDate": beside})),
            &["profile.too-few Patient._birthDate"],
        ),
    ]);
}
