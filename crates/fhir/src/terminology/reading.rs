//! Reads coded values where they stand in a resource, and puts findings in their places.
//!
//! Start at [`Terminology::check_value`].

use super::Terminology;
use super::binding::{BoundSet, Coded, Coding, Issue, Part, Place};
use super::set::Set;
use crate::json::{Kind, Value};

/// Most codings of one concept that are looked at.
const CODINGS_MAX: usize = 1000;

/// A finding about a coded value, and the JSON value that it is about.
#[derive(Clone, Debug)]
pub struct Placed<'d> {
    /// Where it belongs.
    pub at: Value<'d>,
    /// What it says.
    pub issue: Issue,
}

impl Terminology {
    /// Checks a value of a resource against its binding. `type_code` is the element's type: `code`,
    /// `Coding`, `CodeableConcept`, `Quantity` (and the types made of it), `string`, `uri`; a value of
    /// another type has no codes and is passed over.
    pub fn check_value<'d>(
        &self,
        bound: &BoundSet,
        type_code: &str,
        value: Value<'d>,
        found: &mut Vec<Placed<'d>>,
    ) {
        let mut issues = Vec::new();
        with_coded(type_code, value, |coded| {
            self.check(bound, coded, &mut issues);
        });
        let placed = issues.into_iter().map(|issue| Placed {
            at: place(value, issue.place),
            issue,
        });
        found.extend(placed);
    }

    /// Looks at a `Coding`, or the unit of a `Quantity`, in its own system: see [`Terminology::inspect`].
    pub fn inspect_value<'d>(
        &self,
        coding: Value<'d>,
        newer: &[&str],
        found: &mut Vec<Placed<'d>>,
    ) {
        let mut issues = Vec::new();
        self.inspect(&read(coding), 0, newer, &mut issues);
        let placed = issues.into_iter().map(|issue| Placed {
            at: place(coding, issue.place),
            issue,
        });
        found.extend(placed);
    }

    /// Whether a value set holds a value of a resource (of a concept: any of its codings); `None` if
    /// nothing loaded can say, or the value has no code.
    #[must_use]
    pub fn holds_value(&self, set: &Set, type_code: &str, value: Value<'_>) -> Option<bool> {
        let mut answer = None;
        with_coded(type_code, value, |coded| answer = self.is_held(set, coded));
        answer
    }

    /// Whether the first coding is the second one or above it; `None` if nothing loaded can say.
    #[must_use]
    pub fn subsumes_value(&self, above: Value<'_>, below: Value<'_>) -> Option<bool> {
        let (above, below) = (read(above), read(below));
        if above.system? != below.system? {
            return None;
        }
        self.subsumes(above.system?, above.code?, below.code?)
    }
}

/// Calls with the value as something coded, if it is.
fn with_coded(type_code: &str, value: Value<'_>, mut call: impl FnMut(&Coded<'_>)) {
    match (type_code, value.kind()) {
        ("Coding", Kind::Object) => call(&Coded::Coding(read(value))),
        ("CodeableConcept", Kind::Object) => {
            let mut codings = value.get("coding").into_iter().flat_map(Value::children);
            match (codings.next(), codings.next()) {
                (None, _) => call(&Coded::Concept { codings: &[] }),
                (Some(one), None) => call(&Coded::Concept {
                    codings: &[read(one)],
                }),
                (Some(one), Some(two)) => {
                    let all: Vec<Coding<'_>> = [one, two]
                        .into_iter()
                        .chain(codings)
                        .take(CODINGS_MAX)
                        .map(read)
                        .collect();
                    call(&Coded::Concept { codings: &all });
                }
            }
        }
        (
            "Quantity" | "Age" | "Count" | "Distance" | "Duration" | "SimpleQuantity"
            | "MoneyQuantity",
            Kind::Object,
        ) => call(&Coded::Quantity(read(value))),
        (_, Kind::String) => {
            if let Some(code) = value.as_str() {
                call(&Coded::Code(code));
            }
        }
        _ => {}
    }
}

fn read(value: Value<'_>) -> Coding<'_> {
    let mut coding = Coding::default();
    for member in value.children() {
        let text = member.as_str();
        match member.key() {
            Some("system") => coding.system = text,
            Some("version") => coding.version = text,
            Some("code") => coding.code = text,
            Some("display") => coding.display = text,
            _ => {}
        }
    }
    coding
}

/// The JSON value that a place means; the value itself where there is no such part.
fn place(value: Value<'_>, place: Place) -> Value<'_> {
    let Place::Coding(index, part) = place else {
        return value;
    };
    let coding = match value.get("coding") {
        Some(codings) => codings.children().nth(index),
        None => Some(value),
    };
    let name = match part {
        Part::System => "system",
        Part::Code => "code",
        Part::Display => "display",
    };
    coding.map(|it| it.get(name).unwrap_or(it)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::json::{Document, JsonLimits};
    use crate::terminology::tests::{animals, terminology, value_set};

    #[test]
    fn findings_point_at_the_part_that_is_wrong() {
        let terminology = terminology([
            animals(),
            value_set(
                "urn:dogs",
                json!({"include": [{"system": "urn:animals", "concept": [{"code": "dog"}]}]}),
            ),
        ]);
        let binding = crate::canonical::Binding {
            strength: "required".to_owned(),
            value_set: Some("urn:dogs".to_owned()),
            ..Default::default()
        };
        let bound = terminology.bind(&binding).unwrap();
        let check = |type_code: &str, text: &str, wanted: &[&str]| {
            let document = Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
            let mut found = Vec::new();
            terminology.check_value(&bound, type_code, document.root(), &mut found);
            let at: Vec<_> = found
                .iter()
                .map(|it| it.at.key().unwrap_or("itself"))
                .collect();
            assert_eq!(at, wanted, "{text}");
        };
        check("code", r#""dog""#, &[]);
        check("code", r#""bird""#, &["itself"]);
        check(
            "Coding",
            r#"{"system":"urn:animals","code":"bird"}"#,
            &["code"],
        );
        check(
            "Quantity",
            r#"{"value":1,"system":"urn:animals","code":"bird"}"#,
            &["code"],
        );
        check("CodeableConcept", r#"{"text":"x"}"#, &["itself"]);
        check(
            "CodeableConcept",
            r#"{"coding":[{"system":"urn:animals","code":"bird"}]}"#,
            &["code"],
        );
        check(
            "CodeableConcept",
            r#"{"coding":[{"code":"bird"},{"code":"dog"}]}"#,
            &["itself"],
        );
        check(
            "CodeableConcept",
            r#"{"coding":[{"code":"bird"},{"system":"urn:animals","code":"dog"}]}"#,
            &[],
        );
        check("HumanName", r#"{"text":"x"}"#, &[]);
    }

    #[test]
    fn values_answer_expressions() {
        let terminology = terminology([
            animals(),
            value_set(
                "urn:dogs",
                json!({"include": [{"system": "urn:animals", "filter": [{"property": "concept", "op": "is-a", "value": "dog"}]}, {"system": "urn:x"}]}),
            ),
        ]);
        let set = terminology.set("urn:dogs");
        let parse =
            |text: &'static str| Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
        let holds = |type_code: &str, text: &'static str| {
            terminology.holds_value(&set, type_code, parse(text).root())
        };
        assert_eq!(
            holds("Coding", r#"{"system":"urn:animals","code":"poodle"}"#),
            Some(true)
        );
        assert_eq!(
            holds("Coding", r#"{"system":"urn:animals","code":"bird"}"#),
            Some(false)
        );
        assert_eq!(holds("Coding", r#"{"system":"urn:x","code":"bird"}"#), None);
        assert_eq!(holds("CodeableConcept", "{}"), None);
        let dog = parse(r#"{"system":"urn:animals","code":"dog"}"#);
        let poodle = parse(r#"{"system":"urn:animals","code":"poodle"}"#);
        let other = parse(r#"{"system":"urn:x","code":"poodle"}"#);
        assert_eq!(
            terminology.subsumes_value(dog.root(), poodle.root()),
            Some(true)
        );
        assert_eq!(
            terminology.subsumes_value(poodle.root(), dog.root()),
            Some(false)
        );
        assert_eq!(terminology.subsumes_value(dog.root(), other.root()), None);
    }
}
