//! Fixed and pattern values: a value of the document beside one of a definition.
//!
//! Start at [`is_fixed`] and [`holds_pattern`].
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.fixed_x_> and
//! `#ElementDefinition.pattern_x_`.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::number;
use crate::json::{Kind, Value};

/// Whether the value is exactly the fixed one: every member the same, none more, lists in order.
///
/// Recursion is bounded by the depth of the definition.
pub(crate) fn is_fixed(value: Value<'_>, fixed: &Json) -> bool {
    match fixed {
        Json::Object(members) => {
            value.kind() == Kind::Object
                && value.children().count() == members.len()
                && members.iter().all(|(name, expected)| {
                    value.get(name).is_some_and(|it| is_fixed(it, expected))
                })
        }
        Json::Array(items) => {
            value.kind() == Kind::Array
                && value.children().count() == items.len()
                && value
                    .children()
                    .zip(items)
                    .all(|(item, expected)| is_fixed(item, expected))
        }
        primitive => is_same_primitive(value, primitive),
    }
}

/// Whether the value holds everything that the pattern states; lists may hold more and in any order.
///
/// Recursion is bounded by the depth of the definition.
pub(crate) fn holds_pattern(value: Value<'_>, pattern: &Json) -> bool {
    match pattern {
        Json::Object(members) => members.iter().all(|(name, expected)| {
            value
                .get(name)
                .is_some_and(|it| holds_pattern(it, expected))
        }),
        Json::Array(items) => items.iter().all(|expected| {
            value
                .children()
                .any(|item| value.kind() == Kind::Array && holds_pattern(item, expected))
        }),
        primitive => is_same_primitive(value, primitive),
    }
}

fn is_same_primitive(value: Value<'_>, expected: &Json) -> bool {
    match expected {
        Json::String(text) => value.as_str() == Some(text),
        Json::Bool(expected) => value.as_bool() == Some(*expected),
        Json::Number(number) => value
            .as_number()
            .is_some_and(|it| number::compare(it, &number.to_string()) == Some(Ordering::Equal)),
        Json::Null => value.kind() == Kind::Null,
        Json::Array(_) | Json::Object(_) => false,
    }
}

/// A definition's value as a message shows it; definitions are public.
pub(crate) fn shown(expected: &Json) -> String {
    /// Longest text of a value in a message, in characters.
    const SHOWN_CHARACTERS_MAX: usize = 300;
    let text = match expected {
        Json::String(text) => format!("`{text}`"),
        other => other.to_string(),
    };
    if text.chars().count() <= SHOWN_CHARACTERS_MAX {
        return text;
    }
    let mut short: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Document, JsonLimits};
    use serde_json::json;

    fn with<T>(text: &str, check: impl FnOnce(Value<'_>) -> T) -> T {
        let document = Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
        check(document.root())
    }

    #[test]
    fn fixed_is_all_and_pattern_is_at_least() {
        let concept = json!({"coding": [{"system": "s", "code": "a"}]});
        let same = r#"{"coding":[{"code":"a","system":"s"}]}"#;
        let more = r#"{"text":"t","coding":[{"system":"s","code":"b"},{"system":"s","code":"a","display":"A"}]}"#;
        let other = r#"{"coding":[{"system":"s","code":"b"},{"system":"t","code":"a"}]}"#;
        assert!(with(same, |it| is_fixed(it, &concept)));
        assert!(!with(more, |it| is_fixed(it, &concept)));
        assert!(with(more, |it| holds_pattern(it, &concept)));
        assert!(!with(other, |it| holds_pattern(it, &concept)));
        assert!(with("1.0", |it| is_fixed(it, &json!(1))));
        assert!(!with("\"1\"", |it| is_fixed(it, &json!(1))));
        assert!(with("true", |it| holds_pattern(it, &json!(true))));
        assert!(!with("false", |it| holds_pattern(it, &json!(true))));
        assert!(!with("{\"a\":\"x\"}", |it| holds_pattern(
            it,
            &json!(["x"])
        )));
    }
}
