//! Tests of the engine as a whole: expressions and what they give.

use super::*;
use crate::json::{Document, JsonLimits};

mod bounds;
mod invariants;
mod language;
mod standard;
mod values;

pub(super) const PATIENT: &str = r##"{
  "resourceType": "Patient",
  "id": "p1",
  "contained": [{"resourceType": "Organization", "id": "o1", "name": "Clinic"}],
  "extension": [{"url": "http://example.org/a", "valueString": "x"}],
  "active": true,
  "name": [
    {"use": "official", "family": "Berg", "given": ["Ada", "Bo"], "_given": [null, {"id": "g2"}]},
    {"use": "nickname", "given": ["Addie"]}
  ],
  "telecom": [{"system": "phone", "value": "1", "rank": 2}, {"system": "email", "value": "a@b", "rank": 1}],
  "gender": "female",
  "birthDate": "1980-05-17",
  "_birthDate": {"extension": [{"url": "http://example.org/time", "valueDateTime": "1980-05-17T08:30:00+02:00"}]},
  "_deceasedDateTime": {"extension": [{"url": "http://example.org/absent", "valueCode": "unknown"}]},
  "multipleBirthInteger": 2,
  "managingOrganization": {"reference": "#o1"},
  "generalPractitioner": [{"reference": "Practitioner/9"}]
}"##;

pub(super) const OBSERVATION: &str = r#"{
  "resourceType": "Observation",
  "id": "ob1",
  "status": "final",
  "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}, {"system": "http://loinc.org", "code": "55284-4"}]},
  "subject": {"reference": "Patient/p1"},
  "effectivePeriod": {"start": "2024-02", "end": "2024-02-10T12:00:00Z"},
  "referenceRange": [{"low": {"value": 60, "unit": "mm[Hg]"}, "high": {"value": 0.09, "system": "http://unitsofmeasure.org", "code": "m[Hg]"}}],
  "component": [
    {"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
     "valueQuantity": {"value": 120.50, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}},
    {"code": {"coding": [{"system": "http://loinc.org", "code": "8462-4"}]},
     "valueQuantity": {"value": 80, "comparator": "<", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}}
  ]
}"#;

/// A Document over a text, for tests.
pub(super) fn document(text: &str) -> Document<'_> {
    Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap()
}

/// The outcome of an expression on a resource, as one line.
pub(super) fn outcome(resource: &str, text: &str) -> String {
    let expression = match Expression::parse(text) {
        Ok(expression) => expression,
        Err(error) => return format!("syntax: {error}"),
    };
    let document = document(resource);
    let definitions = Definitions::r4();
    let root = ElementItem::resource(definitions, document.root()).unwrap();
    let mut environment = Environment::of(definitions, root);
    environment.now = Moment::parse("2026-11-22T12:30:45.678+01:00", MomentKind::DateTime);
    let shown = match expression.evaluate(&environment, Item::Element(root)) {
        Ok(items) => items.iter().map(show).collect::<Vec<_>>().join(", "),
        Err(error) => return format!("error: {error}"),
    };
    format!("[{shown}]")
}

fn show(item: &Item<'_>) -> String {
    match item {
        Item::Boolean(value) => value.to_string(),
        Item::Integer(value) => value.to_string(),
        Item::Decimal(value) => {
            let text = value.to_string();
            if text.contains('.') {
                text
            } else {
                format!("{text}.")
            }
        }
        Item::String(value) => format!("'{value}'"),
        Item::Moment(value) => format!("@{value}"),
        Item::Quantity(value) => value.to_string(),
        Item::Type(value) => format!("{}.{}", value.namespace, value.name),
        Item::Element(element) => {
            let code = element.type_code(Definitions::r4());
            let text = element.value().map(|it| it.to_json().to_string());
            format!("{code} {}", text.as_deref().unwrap_or("without value"))
        }
    }
}

/// Checks lines of `expression => outcome`, with `;` comments left out.
pub(super) fn check(resource: &str, lines: &str) {
    let mut wrong = Vec::new();
    for line in lines.lines().map(str::trim).filter(|it| !it.is_empty()) {
        let (expression, expected) = line.rsplit_once(" => ").expect("`expression => outcome`");
        let own = outcome(resource, expression);
        let is_right = match expected {
            "error" => own.starts_with("error: "),
            "syntax" => own.starts_with("syntax: "),
            _ => own == expected,
        };
        if !is_right {
            wrong.push(format!(
                "{expression}\n   gives {own}\n   wanted {expected}"
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
