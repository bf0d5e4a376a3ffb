//! Measures R4's invariants on a typical Observation: `cargo run --release -p chaperone-fhir --example fhirpath_speed`.
//!
//! Each invariant runs on every element of its type, as in a validation. Prints nanoseconds for one resource.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

use std::hint::black_box;
use std::time::Instant;

use chaperone_fhir::Definitions;
use chaperone_fhir::fhirpath::{ElementItem, Environment, Expression, Item};
use chaperone_fhir::json::{Document, JsonLimits};

const OBSERVATION: &str = r#"{
  "resourceType": "Observation",
  "id": "blood-pressure",
  "meta": {"profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-blood-pressure"]},
  "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">Blood pressure</div>"},
  "status": "final",
  "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs", "display": "Vital Signs"}]}],
  "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9", "display": "Blood pressure panel"}], "text": "Blood pressure"},
  "subject": {"reference": "Patient/example", "display": "A patient"},
  "encounter": {"reference": "Encounter/example"},
  "effectiveDateTime": "2024-05-02T09:30:10+01:00",
  "issued": "2024-05-02T09:31:10+01:00",
  "performer": [{"reference": "Practitioner/example"}],
  "component": [
    {"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6", "display": "Systolic blood pressure"}]},
     "valueQuantity": {"value": 107, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}},
    {"code": {"coding": [{"system": "http://loinc.org", "code": "8462-4", "display": "Diastolic blood pressure"}]},
     "valueQuantity": {"value": 60, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}}
  ]
}"#;

/// Key, focus and expression.
const INVARIANTS: [(&str, &str, &str); 17] = [
    (
        "ele-1",
        "descendants()",
        "hasValue() or (children().count() > id.count())",
    ),
    ("dom-2", "$this", "contained.contained.empty()"),
    (
        "dom-3",
        "$this",
        "contained.where((('#'+id in (%resource.descendants().reference | %resource.descendants().as(canonical) | %resource.descendants().as(uri) | %resource.descendants().as(url))) or descendants().where(reference = '#').exists() or descendants().where(as(canonical) = '#').exists() or descendants().where(as(canonical) = '#').exists()).not()).trace('unmatched', id).empty()",
    ),
    (
        "dom-4",
        "$this",
        "contained.meta.versionId.empty() and contained.meta.lastUpdated.empty()",
    ),
    ("dom-5", "$this", "contained.meta.security.empty()"),
    ("dom-6", "$this", "text.`div`.exists()"),
    (
        "obs-6",
        "$this",
        "dataAbsentReason.empty() or value.empty()",
    ),
    (
        "obs-7",
        "$this",
        "value.empty() or component.code.where(coding.intersect(%resource.code.coding).exists()).empty()",
    ),
    (
        "vs-1",
        "effective",
        "($this as dateTime).toString().length() >= 8",
    ),
    (
        "vs-2",
        "$this",
        "(component.empty() and hasMember.empty()) implies (dataAbsentReason.exists() or value.exists())",
    ),
    (
        "vs-3",
        "component",
        "value.exists() or dataAbsentReason.exists()",
    ),
    (
        "us-core-1",
        "effective",
        "$this is DateTime implies $this.toString().length() >= 10",
    ),
    (
        "qty-3",
        "component.value",
        "code.empty() or system.exists()",
    ),
    (
        "ref-1",
        "subject | encounter | performer",
        "reference.startsWith('#').not() or (reference.substring(1).trace('url') in %rootResource.contained.id.trace('ids'))",
    ),
    (
        "per-1",
        "effective.ofType(Period)",
        "start.hasValue().not() or end.hasValue().not() or (start <= end)",
    ),
    (
        "us-core-3",
        "component",
        "value.ofType(Quantity).system.empty() or value.ofType(Quantity).system = 'http://unitsofmeasure.org'",
    ),
    (
        "sys",
        "code.coding",
        "system = 'http://loinc.org' and code.exists()",
    ),
];

const BATCHES: u32 = 200;
const ROUNDS: u32 = 100;

/// Nanoseconds of one round in the fastest batch, so that other work on the machine counts little.
fn fastest(mut round: impl FnMut()) -> u128 {
    let mut best = u128::MAX;
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            round();
        }
        best = best.min(start.elapsed().as_nanos() / u128::from(ROUNDS));
    }
    best
}

fn main() {
    let definitions = Definitions::r4();
    let document = Document::parse(OBSERVATION.as_bytes(), &JsonLimits::default()).unwrap();
    let root = ElementItem::resource(definitions, document.root()).unwrap();
    let environment = Environment::of(definitions, root);
    let parsing = fastest(|| {
        black_box(Document::parse(OBSERVATION.as_bytes(), &JsonLimits::default()).unwrap());
    });
    println!("{parsing:>9} ns  parsing the JSON, for comparison");
    let mut total = 0;
    for (key, focus, text) in INVARIANTS {
        let focus = Expression::parse(focus).unwrap();
        let items = focus.evaluate(&environment, Item::Element(root)).unwrap();
        let time = |expression: &Expression| {
            fastest(|| {
                for item in items.iter() {
                    assert_eq!(expression.holds(&environment, item.clone()), Ok(true));
                }
            })
        };
        let short = time(&Expression::invariant(text).unwrap());
        let general = time(&Expression::parse(text).unwrap());
        total += short;
        println!(
            "{short:>9} ns  {key} on {} ({general} ns by the evaluator alone)",
            items.len()
        );
    }
    println!(
        "{total:>9} ns  all on one Observation: {} Observations/s",
        1_000_000_000 / total.max(1)
    );
    let start = Instant::now();
    for (_, _, text) in INVARIANTS {
        black_box(Expression::invariant(text).unwrap());
    }
    println!("{:>9} ns  compiling all once", start.elapsed().as_nanos());
}
