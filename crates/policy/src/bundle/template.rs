//! Templates of write tools: which placeholders they use, and which status they lead to.
//!
//! Filling a template in is `engine`'s business; here it is checked that it can be filled in at all.

use std::collections::BTreeMap;

use chaperone_core::bundle::{InputDeclaration, WriteAction};
use serde_json::Value;

/// Deepest nesting of a template.
pub const TEMPLATE_DEPTH_MAX: usize = 12;

/// Placeholders that Chaperone fills in.
pub const FIXED_PLACEHOLDERS: [&str; 3] = ["patient", "encounter", "now"];

/// What is done to an input's value on its way into a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Nothing.
    Plain,
    /// A Reference is made from a token.
    Reference,
    /// Text is encoded.
    Base64,
}

/// One string of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateText<'a> {
    /// Sent as it stands.
    Literal,
    /// Replaced as a whole.
    Placeholder(&'a str, Filter),
    /// Has braces, and is no placeholder.
    Malformed,
}

/// Reads one string of a template.
pub fn read_text(text: &str) -> TemplateText<'_> {
    if !text.contains(['{', '}']) {
        return TemplateText::Literal;
    }
    let inner = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or("");
    let (name, filter) = match inner.split_once('|') {
        None => (inner, Some(Filter::Plain)),
        Some((name, "reference")) => (name, Some(Filter::Reference)),
        Some((name, "base64")) => (name, Some(Filter::Base64)),
        Some((name, _)) => (name, None),
    };
    match filter {
        Some(filter) if is_input_name(name) => TemplateText::Placeholder(name, filter),
        _ => TemplateText::Malformed,
    }
}

/// Whether a name can be the name of an input.
pub fn is_input_name(name: &str) -> bool {
    name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// All strings of a template, with the path to each; `None` when it is nested too deeply.
pub fn texts(template: &serde_json::Map<String, Value>) -> Option<Vec<(String, &str)>> {
    fn walk<'a>(
        value: &'a Value,
        path: &str,
        depth: usize,
        out: &mut Vec<(String, &'a str)>,
    ) -> Option<()> {
        if depth > TEMPLATE_DEPTH_MAX {
            return None;
        }
        match value {
            Value::String(text) => out.push((path.to_owned(), text)),
            Value::Array(items) => {
                for item in items {
                    walk(item, path, depth.saturating_add(1), out)?;
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    walk(
                        member,
                        &format!("{path}.{name}"),
                        depth.saturating_add(1),
                        out,
                    )?;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        Some(())
    }
    let mut out = Vec::new();
    for (name, value) in template {
        walk(value, name, 1, &mut out)?;
    }
    Some(out)
}

/// The element that carries the draft state of a type; `None` for types without a status.
///
/// # Source
/// FHIR R4: `DocumentReference.docStatus`, `Condition.verificationStatus`,
/// `AllergyIntolerance.verificationStatus`, `Goal.lifecycleStatus`; `status` elsewhere. `Patient` and
/// other records of people and places have none.
pub fn status_element(resource: &str) -> Option<&'static str> {
    match resource {
        "DocumentReference" => Some("docStatus"),
        "Condition" | "AllergyIntolerance" => Some("verificationStatus"),
        "Goal" => Some("lifecycleStatus"),
        "Patient" | "RelatedPerson" | "Person" | "Practitioner" | "PractitionerRole"
        | "Organization" | "Schedule" | "Provenance" | "AuditEvent" => None,
        _ => Some("status"),
    }
}

/// The statuses that a write tool can lead to: one `None` for a type without a status, nothing when
/// the template does not say.
pub fn statuses(
    write: &WriteAction,
    inputs: &BTreeMap<String, InputDeclaration>,
) -> Vec<Option<String>> {
    let Some(element) = status_element(write.resource.as_str()) else {
        return vec![None];
    };
    let code = write.template.get(element).and_then(|value| match value {
        Value::String(text) => Some(text.as_str()),
        concept => concept.pointer("/coding/0/code").and_then(Value::as_str),
    });
    match code.map(|text| (text, read_text(text))) {
        Some((text, TemplateText::Literal)) => vec![Some(text.to_owned())],
        Some((_, TemplateText::Placeholder(name, Filter::Plain))) => inputs
            .get(name)
            .map(|input| input.one_of.iter().cloned().map(Some).collect())
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_the_whole_string_or_none() {
        use TemplateText::{Literal, Malformed, Placeholder};
        assert_eq!(read_text("final"), Literal);
        assert_eq!(read_text("{dose}"), Placeholder("dose", Filter::Plain));
        assert_eq!(
            read_text("{slot|reference}"),
            Placeholder("slot", Filter::Reference)
        );
        assert_eq!(
            read_text("{text|base64}"),
            Placeholder("text", Filter::Base64)
        );
        for bad in [
            "{dose",
            "dose}",
            "x{dose}",
            "{dose}{unit}",
            "{}",
            "{a|b}",
            "{Dose}",
            "{a b}",
        ] {
            assert_eq!(read_text(bad), Malformed, "{bad}");
        }
    }
}
