//! Mutants that break what the base definitions demand.

use chaperone_fhir::Definitions;
use chaperone_fhir::definitions::BindingStrength;
use serde_json::{Value, json};

use super::{Makings, each_value, remove};

/// A code that no code system has.
pub const NO_CODE: &str = "no-such-code-x";

pub fn make(definitions: &Definitions, makings: &mut Makings<'_>) {
    let right = makings.right;
    each_value(right, "", "", "", &mut |pointer, type_name, path, value| {
        match value {
            Value::Object(members) => {
                makings.change("unknown element", pointer, "with unheardOf", |it| {
                    it["unheardOf"] = json!(true);
                });
                for name in members.keys() {
                    let below = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    let info = definitions.element_type(type_name, &below);
                    let is_required = info.is_some_and(|it| it.min >= 1);
                    if is_required && !name.starts_with('_') {
                        makings.change(
                            "required element",
                            pointer,
                            &format!("without {name}"),
                            |it| {
                                remove(it, name);
                            },
                        );
                    }
                }
            }
            Value::Array(_) => {
                makings.change("wrong JSON type", pointer, "as a string", |it| {
                    *it = json!("x")
                });
                makings.change("empty list", pointer, "emptied", |it| *it = json!([]));
            }
            _ => {}
        }
        if path.is_empty() {
            return;
        }
        let Some(info) = definitions.element_type(type_name, path) else {
            return;
        };
        let Some(of) = info.types.first() else { return };
        if value.is_array() {
            return;
        }
        if !info.max_many {
            makings.change("list for one value", pointer, "as a list", |it| {
                *it = json!([it.clone()]);
            });
        }
        makings.change("wrong JSON type", pointer, "of another kind", |it| {
            *it = match it {
                Value::String(_) => json!(17),
                Value::Number(_) | Value::Bool(_) => json!("seventeen"),
                _ => json!("x"),
            };
        });
        primitive(&of.code, pointer, value, makings);
        if let Some(binding) = &info.binding
            && binding.strength == BindingStrength::Required
            && binding.is_decidable
        {
            wrong_code(&of.code, "required binding", pointer, makings);
        }
        if of.code == "Reference" && !of.targets.is_empty() {
            let other = ["Basic", "Medication", "Observation", "Organization"]
                .into_iter()
                .find(|it| {
                    !of.targets
                        .iter()
                        .any(|target| target == it || target == "Resource")
                });
            if let Some(other) = other {
                wrong_target("reference target", other, pointer, value, makings);
            }
        }
    });
}

/// Puts a code that does not exist into a code, Coding or CodeableConcept.
pub fn wrong_code(type_code: &str, kind: &'static str, pointer: &str, makings: &mut Makings<'_>) {
    let change = |coding: &mut Value| {
        if coding.get("code").is_some() {
            coding["code"] = json!(NO_CODE);
            remove(coding, "display");
        }
    };
    makings.change(
        kind,
        pointer,
        "with a code that does not exist",
        |it| match type_code {
            "code" => *it = json!(NO_CODE),
            "Coding" => change(it),
            "CodeableConcept" => {
                for coding in it["coding"].as_array_mut().into_iter().flatten() {
                    change(coding);
                }
            }
            _ => {}
        },
    );
}

/// Lets a literal reference lead to another type.
pub fn wrong_target(
    kind: &'static str,
    other: &str,
    pointer: &str,
    value: &Value,
    makings: &mut Makings<'_>,
) {
    let is_literal = value["reference"].as_str().is_some_and(|it| {
        it.starts_with(|first: char| first.is_ascii_uppercase()) && it.split('/').count() == 2
    });
    if is_literal {
        makings.change(kind, pointer, &format!("to {other}"), |it| {
            it["reference"] = json!(format!("{other}/1"));
            remove(it, "type");
        });
    }
}

/// Values that the type's format forbids.
fn primitive(type_code: &str, pointer: &str, value: &Value, makings: &mut Makings<'_>) {
    let Some(text) = value.as_str() else {
        let out_of_range = match type_code {
            "positiveInt" => json!(0),
            "unsignedInt" => json!(-1),
            "integer" => json!(3_000_000_000_u64),
            _ => return,
        };
        makings.change("wrong format", pointer, "out of range", |it| {
            *it = out_of_range
        });
        return;
    };
    let wrong = match type_code {
        "date" | "dateTime" | "instant" => {
            if let (Some(year), true) = (text.get(..4), text.len() >= 10) {
                let rest = text.get(10..).unwrap_or_default();
                for day in ["-02-30", "-13-01", "-00-10", "-06-31"] {
                    makings.change("impossible date", pointer, day, |it| {
                        *it = json!(format!("{year}{day}{rest}"));
                    });
                }
                if let Some(hours) = rest.strip_prefix('T').and_then(|it| it.get(2..)) {
                    makings.change("impossible date", pointer, "at 25 hours", |it| {
                        *it = json!(format!("{}T25{hours}", &text[..10]));
                    });
                    makings.change("wrong format", pointer, "without timezone", |it| {
                        *it = json!(&text[..19]);
                    });
                }
            }
            "yesterday"
        }
        "time" => "25:00:00",
        "id" => "not_an_id",
        "code" => "two  spaces",
        "uri" | "url" => "with space",
        "canonical" => "not-absolute",
        "base64Binary" => "QQ=",
        "oid" => "urn:oid:3.1",
        "uuid" => "urn:uuid:1",
        "xhtml" => "<div xmlns=\"http://www.w3.org/1999/xhtml\"><script>x</script></div>",
        _ => "",
    };
    makings.change("wrong format", pointer, "of a wrong format", |it| {
        *it = json!(wrong)
    });
}
