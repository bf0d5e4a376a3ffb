//! The US Core examples conform to US Core, where both are at hand; and spoilt ones do not.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        clippy::print_stdout,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason
    )
)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::package::Package;
use chaperone_fhir::{Request, Validator, ValidatorOptions};
use serde_json::{Value, json};

fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared")
}

/// The validator for US Core 8.0.0; `None` where the packages are not at hand.
fn validator() -> Option<&'static Validator> {
    static VALIDATOR: OnceLock<Option<Validator>> = OnceLock::new();
    VALIDATOR
        .get_or_init(|| {
            let path = shared().join("packages/us_core_800.tgz");
            if !path.exists() {
                println!("skipped: {} is not at hand", path.display());
                return None;
            }
            let mut catalogue = Catalogue::with_base(Catalogue::r4());
            let package = Package::read(&std::fs::read(path).unwrap(), |_| true).unwrap();
            catalogue.add_package(&package).unwrap();
            Some(Validator::new(
                Arc::new(catalogue),
                ValidatorOptions::default(),
            ))
        })
        .as_ref()
}

fn examples() -> Vec<(String, Vec<u8>)> {
    let folder = shared().join("conformance/us-core-examples");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect()
}

/// The errors on a text, as `id expression: message`.
fn errors(validator: &Validator, text: &[u8]) -> Vec<String> {
    validator
        .validate(text, &Request::default())
        .findings
        .into_iter()
        .filter(|it| it.severity.is_error())
        .map(|it| format!("{} {}: {}", it.id, it.expression, it.message))
        .collect()
}

#[test]
fn every_example_is_accepted() {
    let Some(validator) = validator() else { return };
    let mut rejected = Vec::new();
    for (name, text) in examples() {
        let errors = errors(validator, &text);
        if !errors.is_empty() {
            rejected.push(format!("{name}\n  {}", errors.join("\n  ")));
        }
    }
    assert!(rejected.is_empty(), "{}", rejected.join("\n"));
}

/// A blood pressure that conforms.
fn blood_pressure() -> Value {
    let component = |code: &str, value: u32| {
        json!({
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueQuantity": {"value": value, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}
        })
    };
    json!({
        "resourceType": "Observation",
        "meta": {"profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-blood-pressure"]},
        "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">bp</div>"},
        "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        "subject": {"reference": "Patient/1"},
        "effectiveDateTime": "2024-01-01",
        "component": [component("8480-6", 120), component("8462-4", 80)]
    })
}

#[test]
fn a_spoilt_blood_pressure_is_rejected_for_the_right_reason() {
    let Some(validator) = validator() else { return };
    let sound = blood_pressure();
    assert_eq!(
        errors(validator, sound.to_string().as_bytes()),
        Vec::<String>::new()
    );
    let third = json!({"code": {"text": "other"}, "valueString": "x"});
    let cases: Vec<(&str, &str, Value, Option<&str>)> = vec![
        (
            "/component/0/code/coding/0/code",
            "another component",
            json!("1234-5"),
            Some("profile.too-few"),
        ),
        (
            "/component/0/valueQuantity/code",
            "another unit",
            json!("kPa"),
            Some("profile.fixed"),
        ),
        (
            "/component/0/valueQuantity/unit",
            "no unit",
            Value::Null,
            Some("profile.too-few"),
        ),
        (
            "/component/0",
            "one component of another type",
            json!({"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}, "valueString": "120"}),
            Some("profile.type"),
        ),
        (
            "/code/coding/0/code",
            "another code",
            json!("55284-4"),
            Some("profile.pattern"),
        ),
        (
            "/category/0/coding/0/code",
            "another category",
            json!("laboratory"),
            Some("profile.too-few"),
        ),
        (
            "/subject/reference",
            "a subject that is no patient",
            json!("Device/1"),
            Some("reference.target-type"),
        ),
        (
            "/effectiveDateTime",
            "no time",
            Value::Null,
            Some("profile.too-few"),
        ),
        ("/component/2", "a third component", third, None),
        (
            "/code/coding/1",
            "a second coding",
            json!({"system": "http://snomed.info/sct", "code": "75367002"}),
            None,
        ),
    ];
    for (pointer, what, value, expected) in cases {
        let mut spoilt = sound.clone();
        set(&mut spoilt, pointer, value);
        let found = errors(validator, spoilt.to_string().as_bytes());
        match expected {
            Some(id) => assert!(
                found.iter().any(|it| it.starts_with(id)),
                "{what}: {found:?}"
            ),
            None => assert!(found.is_empty(), "{what}: {found:?}"),
        }
    }
}

/// Puts a value at a JSON pointer; null removes what is there.
fn set(root: &mut Value, pointer: &str, value: Value) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match root.pointer_mut(parent).unwrap() {
        Value::Object(members) if value.is_null() => drop(members.remove(last)),
        Value::Object(members) => drop(members.insert(last.to_owned(), value)),
        Value::Array(items) => {
            let index: usize = last.parse().unwrap();
            if index == items.len() {
                items.push(value);
            } else {
                items[index] = value;
            }
        }
        _ => panic!("no such place: {pointer}"),
    }
}
