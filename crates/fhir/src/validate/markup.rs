//! Text that looks like HTML outside narrative: harmless to FHIR, dangerous to a viewer that does not
//! escape it.
//!
//! Start at [`markup`].

use crate::finding::{Finding, Severity, id};
use crate::json::{Document, Kind};

use super::{Report, expression_of};

/// Finds strings that hold something like an HTML tag, in the whole document but its narratives.
///
/// # Source
/// FHIR R4, Security, "Narrative" and "injection": <https://hl7.org/fhir/R4/security.html>.
#[must_use]
pub fn markup(document: &Document<'_>, severity: Severity, findings_max: usize) -> Vec<Finding> {
    let mut report = Report::new(document, findings_max);
    let mut open = vec![document.root().children()];
    while let Some(children) = open.last_mut() {
        match children.next() {
            None => {
                open.pop();
            }
            Some(value) => match value.kind() {
                Kind::Object | Kind::Array => open.push(value.children()),
                Kind::String
                    if value.key() != Some("div") && value.as_str().is_some_and(has_tag) =>
                {
                    let message =
                        "the text looks as if it held HTML tags; write it as plain text".to_owned();
                    let expression = expression_of(document, value);
                    report.add(id::TEXT_MARKUP, severity, value, expression, message, None);
                }
                _ => {}
            },
        }
        if report.is_full() {
            break;
        }
    }
    report.finish()
}

/// Whether there is a `<` directly before a letter or `/`, and a `>` somewhere behind it.
fn has_tag(text: &str) -> bool {
    text.match_indices('<').any(|(at, _)| {
        let rest = text.get(at + 1..).unwrap_or_default();
        let is_open =
            rest.starts_with(|it: char| it.is_ascii_alphabetic() || it == '/' || it == '!');
        is_open && rest.contains('>')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::JsonLimits;

    #[test]
    fn tags_are_told_from_comparisons_and_narrative() {
        for (text, expected) in [
            (
                r#"{"resourceType":"Patient","name":[{"text":"<b>x</b>"}]}"#,
                vec!["Patient.name[0].text"],
            ),
            (
                r#"{"resourceType":"Patient","name":[{"text":"a <script src='x'>"}]}"#,
                vec!["Patient.name[0].text"],
            ),
            (
                r#"{"resourceType":"Patient","name":[{"text":"a < b and c > d"}]}"#,
                vec![],
            ),
            (
                r#"{"resourceType":"Patient","name":[{"text":"pH<7"}]}"#,
                vec![],
            ),
            (
                r#"{"resourceType":"Patient","text":{"div":"<div>x</div>"}}"#,
                vec![],
            ),
        ] {
            let document = Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
            let found: Vec<String> = markup(&document, Severity::Error, 10)
                .into_iter()
                .map(|it| it.expression)
                .collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
