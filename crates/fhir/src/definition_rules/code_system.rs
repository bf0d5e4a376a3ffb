//! Code systems: the properties of codes are of the types that the system states for them.
//!
//! Start at [`properties`].
//!
//! Rules: <https://hl7.org/fhir/R4/codesystem.html#properties>.

use std::collections::HashMap;

use super::text;
use crate::finding::id;
use crate::json::{Kind, Value};
use crate::validate::{Report, quotable};

/// Most codes of one system that are looked at.
const CONCEPTS_MAX: usize = 200_000;

fn list<'d>(of: Value<'d>, name: &str) -> impl Iterator<Item = Value<'d>> {
    of.get(name)
        .filter(|it| it.kind() == Kind::Array)
        .into_iter()
        .flat_map(Value::children)
}

/// Each property of a code has a value of the type that the system states for that property.
pub(super) fn properties(resource: Value<'_>, expression: &str, report: &mut Report<'_>) {
    let stated: HashMap<&str, &str> = list(resource, "property")
        .filter_map(|it| Some((text(it, "code")?, text(it, "type")?)))
        .collect();
    if stated.is_empty() {
        return;
    }
    let places = |of: Value<'_>, at: &str| -> Vec<String> {
        (0..list(of, "concept").count())
            .map(|index| format!("{at}.concept[{index}]"))
            .collect()
    };
    let mut open: Vec<(Value<'_>, String)> = list(resource, "concept")
        .zip(places(resource, expression))
        .collect();
    let mut looks = 0;
    while let Some((concept, at)) = open.pop() {
        looks += 1;
        if looks > CONCEPTS_MAX || report.is_full() {
            return;
        }
        for (index, property) in list(concept, "property").enumerate() {
            let Some((code, wanted)) =
                text(property, "code").and_then(|it| Some((it, *stated.get(it)?)))
            else {
                continue;
            };
            let value = property
                .children()
                .find_map(|it| Some((it, it.key()?.strip_prefix("value")?)));
            if let Some((value, own)) = value
                && !own.eq_ignore_ascii_case(wanted)
            {
                let message = format!(
                    "the system states that the property `{}` is of type {}",
                    quotable(code),
                    quotable(wanted)
                );
                let place = format!("{at}.property[{index}].value{}", quotable(own));
                report.error(id::DEFINITION_CODE_PROPERTY, value, place, message);
            }
        }
        let below = places(concept, &at);
        open.extend(list(concept, "concept").zip(below));
    }
}
