//! What a search needs to know about one resource, extracted once when it is written.
//!
//! Not a database index over many resources (that is `storage`); this is the row. Start at
//! [`Index::extract`].

use serde_json::{Map, Value};

use crate::dates::DateRange;
use crate::definitions::{Parameter, ParameterKind, ResourceType};

/// The most values taken from one resource for all its parameters; the rest is not searchable.
const VALUES_PER_RESOURCE_MAX: usize = 2_000;

/// One searchable value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum IndexValue {
    /// A plain code or a boolean, whose system is implied by its binding.
    Code(Box<str>),
    /// A coding, an identifier or a contact point.
    Token {
        system: Option<Box<str>>,
        code: Option<Box<str>>,
    },
    Date(DateRange),
    /// `Type/id` for a reference on this server, else the text as it stands.
    Reference(Box<str>),
    Text {
        exact: Box<str>,
        folded: Box<str>,
    },
    Uri(Box<str>),
}

/// The searchable values of one resource, ordered by the position of their parameter.
#[derive(Debug, Default)]
pub(crate) struct Index(Box<[(u8, IndexValue)]>);

impl Index {
    /// Collects the values of every parameter of `kind` from `resource`. References that start
    /// with `base` become relative.
    pub(crate) fn extract(kind: &ResourceType, resource: &Map<String, Value>, base: &str) -> Self {
        let mut values = Vec::new();
        for (position, parameter) in (0u8..).zip(kind.parameters) {
            for path in parameter.paths {
                let mut found = Vec::new();
                walk(resource, path, &mut found);
                for value in found {
                    collect(parameter, value, base, position, &mut values);
                }
            }
        }
        values.truncate(VALUES_PER_RESOURCE_MAX);
        Self(values.into_boxed_slice())
    }

    /// The values of the parameter at `position`.
    pub(crate) fn values(&self, position: u8) -> impl Iterator<Item = &IndexValue> {
        let start = self.0.partition_point(|(at, _)| *at < position);
        self.0
            .iter()
            .skip(start)
            .take_while(move |(at, _)| *at == position)
            .map(|(_, value)| value)
    }
}

/// `Type/id` when the reference is to this server (relative, versioned or absolute), else as is.
pub(crate) fn normal_reference<'a>(reference: &'a str, base: &str) -> &'a str {
    let relative = reference
        .strip_prefix(base)
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or(reference);
    relative
        .split_once("/_history/")
        .map_or(relative, |(head, _)| head)
}

/// Lower case without surrounding blanks: how strings are compared.
pub(crate) fn folded(text: &str) -> String {
    text.trim().to_lowercase()
}

/// Finds the values at a dotted path, walking through lists.
fn walk<'a>(object: &'a Map<String, Value>, path: &str, found: &mut Vec<&'a Value>) {
    let (head, rest) = path
        .split_once('.')
        .map_or((path, None), |(head, rest)| (head, Some(rest)));
    let Some(value) = object.get(head) else {
        return;
    };
    let mut visit = |item: &'a Value| match (rest, item) {
        (None, item) => found.push(item),
        (Some(rest), Value::Object(inner)) => walk(inner, rest, found),
        (Some(_), _) => {}
    };
    match value {
        Value::Array(items) => items.iter().for_each(visit),
        single => visit(single),
    }
}

fn collect(
    parameter: &Parameter,
    value: &Value,
    base: &str,
    position: u8,
    values: &mut Vec<(u8, IndexValue)>,
) {
    let mut push = |value| values.push((position, value));
    match parameter.kind {
        ParameterKind::Token => tokens(value, &mut push),
        ParameterKind::Date => {
            if let Some(range) = DateRange::of_element(value) {
                push(IndexValue::Date(range));
            }
        }
        ParameterKind::Reference | ParameterKind::PatientReference => {
            let reference = value
                .get("reference")
                .or(Some(value))
                .and_then(Value::as_str);
            if let Some(reference) = reference {
                let normal = normal_reference(reference, base);
                if parameter.kind == ParameterKind::Reference || normal.starts_with("Patient/") {
                    push(IndexValue::Reference(normal.into()));
                }
            }
        }
        ParameterKind::Text => texts(value, &mut push),
        ParameterKind::Uri => {
            if let Some(text) = value.as_str() {
                push(IndexValue::Uri(text.into()));
            }
        }
    }
}

fn tokens(value: &Value, push: &mut impl FnMut(IndexValue)) {
    let text = |object: &Map<String, Value>, name: &str| {
        object.get(name).and_then(Value::as_str).map(Box::from)
    };
    match value {
        Value::String(code) => push(IndexValue::Code(code.as_str().into())),
        Value::Bool(flag) => push(IndexValue::Code(flag.to_string().into())),
        Value::Object(object) => {
            if let Some(Value::Array(codings)) = object.get("coding") {
                for coding in codings.iter().filter_map(Value::as_object) {
                    push(IndexValue::Token {
                        system: text(coding, "system"),
                        code: text(coding, "code"),
                    });
                }
            } else if object.contains_key("value") || object.contains_key("code") {
                push(IndexValue::Token {
                    system: text(object, "system"),
                    code: text(object, "code").or_else(|| text(object, "value")),
                });
            }
        }
        _ => {}
    }
}

fn texts(value: &Value, push: &mut impl FnMut(IndexValue)) {
    let mut push_text = |text: &str| {
        push(IndexValue::Text {
            exact: text.into(),
            folded: folded(text).into(),
        });
    };
    match value {
        Value::String(text) => push_text(text),
        Value::Object(object) => {
            let parts = [
                "text",
                "family",
                "given",
                "prefix",
                "suffix",
                "line",
                "city",
                "district",
                "state",
                "postalCode",
                "country",
            ];
            for part in parts {
                match object.get(part) {
                    Some(Value::String(text)) => push_text(text),
                    Some(Value::Array(items)) => {
                        items
                            .iter()
                            .filter_map(Value::as_str)
                            .for_each(&mut push_text);
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::resource_type;
    use serde_json::json;

    fn index_of(resource: &Value) -> (Index, &'static ResourceType) {
        let kind = resource_type(resource["resourceType"].as_str().unwrap()).unwrap();
        let index = Index::extract(kind, resource.as_object().unwrap(), "http://here/fhir");
        (index, kind)
    }

    #[test]
    fn a_patient_reference_counts_only_when_it_names_a_patient() {
        let (index, kind) = index_of(&json!({
            "resourceType": "Appointment",
            "participant": [
                {"actor": {"reference": "http://here/fhir/Patient/p1/_history/2"}},
                {"actor": {"reference": "Practitioner/d1"}},
                {"actor": {"display": "a room"}},
            ],
        }));
        let patients: Vec<_> = index.values(kind.parameter("patient").unwrap().0).collect();
        assert_eq!(patients, [&IndexValue::Reference("Patient/p1".into())]);
        assert_eq!(index.values(kind.parameter("actor").unwrap().0).count(), 2);
    }

    #[test]
    fn tokens_come_from_codes_codings_and_identifiers() {
        let (index, kind) = index_of(&json!({
            "resourceType": "Observation",
            "status": "final",
            "identifier": [{"system": "urn:s", "value": "7"}],
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}], "text": "pulse"},
        }));
        let token = |name: &str| {
            index
                .values(kind.parameter(name).unwrap().0)
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(
            token("identifier"),
            [IndexValue::Token {
                system: Some("urn:s".into()),
                code: Some("7".into())
            }]
        );
        assert_eq!(token("status"), [IndexValue::Code("final".into())]);
        assert_eq!(token("code").len(), 1);
        assert!(token("category").is_empty());
    }
}
