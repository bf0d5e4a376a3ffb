//! A drafted note against its template: the sections that the template names, each once and in its order, and no
//! others, within its sizes. A section begins with a line `## Title`.
//!
//! Only what the agent sent is looked at, so all of it is told to the agent. Whether the note is right is not known
//! here; a clinician reads it.

use chaperone_core::bundle::{NoteTemplate, WriteAction};
use chaperone_fhir::finding::{Finding, RestsOn, Severity};
use serde_json::Value;

use crate::call::Admitted;
use crate::context::Engine;
use crate::errors::CallError;

/// How a line begins that opens a section.
const HEADING: &str = "## ";
/// Most findings of one note.
const FINDINGS_MAX: usize = 20;
const FINDING: &str = "chaperone.note-template";

impl Engine {
    /// What of a drafted note does not follow its template; nothing where the tool drafts no note.
    pub(super) fn note_findings(
        &self,
        admitted: &Admitted<'_>,
        write: &WriteAction,
    ) -> Vec<Finding> {
        let Some(note) = &write.note else {
            return Vec::new();
        };
        let input = |name: &str| {
            let value = admitted.arguments.inputs.get(name);
            value.and_then(Value::as_str).unwrap_or_default()
        };
        let named = input(&note.template);
        let template = self
            .bundle
            .note_templates()
            .find(|template| template.id.as_str() == named);
        let problems = match template {
            Some(template) => problems(template, input(&note.kind), input(&note.text)),
            None => vec!["there is no such note template".to_owned()],
        };
        let finding = |message| Finding {
            id: FINDING,
            severity: Severity::Error,
            expression: format!("{}.content", write.resource),
            position: None,
            message,
            rests_on: RestsOn::InputOnly,
            details: None,
        };
        problems
            .into_iter()
            .take(FINDINGS_MAX)
            .map(finding)
            .collect()
    }

    /// The note templates of the bundle, as agents are told them.
    pub(crate) fn told_note_templates(&self) -> Result<Value, CallError> {
        let templates: Vec<Value> = self
            .bundle
            .note_templates()
            .map(|template| {
                serde_json::json!({
                    "id": template.id,
                    "title": template.title,
                    "kinds": template.kinds,
                    "chars_max": template.chars_max,
                    "sections": template.sections,
                })
            })
            .collect();
        Ok(serde_json::json!({
            "templates": templates,
            "how": "begin each section with a line `## Title`, in this order; leave out no required section and add none",
        }))
    }
}

fn problems(template: &NoteTemplate, kind: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if template.kinds.iter().all(|it| it.as_str() != kind) {
        found.push(format!(
            "template `{}` is not for this kind of note",
            template.id
        ));
    }
    let chars = |text: &str| u32::try_from(text.trim().chars().count()).unwrap_or(u32::MAX);
    if chars(text) > template.chars_max {
        found.push(format!(
            "the note is longer than {} characters",
            template.chars_max
        ));
    }
    let (before, sections) = sections_of(text);
    if !template.sections.is_empty() && !before.trim().is_empty() {
        found.push("text stands before the first section".to_owned());
    }
    let mut next = 0;
    for (title, body) in &sections {
        let place = template.sections.iter().position(|it| it.title == *title);
        let Some((place, section)) = place.and_then(|at| Some((at, template.sections.get(at)?)))
        else {
            // What an agent wrote is not repeated: it may be anything.
            found.push("a section stands there that the template does not have".to_owned());
            continue;
        };
        if place < next {
            found.push(format!(
                "section `{}` is doubled or out of order",
                section.title
            ));
        }
        next = place.saturating_add(1);
        if chars(body) > section.chars_max {
            found.push(format!(
                "section `{}` is longer than {} characters",
                section.title, section.chars_max
            ));
        }
    }
    for section in template.sections.iter().filter(|section| section.required) {
        let is_there = sections
            .iter()
            .any(|(title, body)| *title == section.title && !body.trim().is_empty());
        if !is_there {
            found.push(format!("section `{}` is missing or empty", section.title));
        }
    }
    found
}

/// What stands before the first heading, and each section with its title.
fn sections_of(text: &str) -> (String, Vec<(String, String)>) {
    let mut before = String::new();
    let mut sections: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix(HEADING) {
            sections.push((title.trim().to_owned(), String::new()));
            continue;
        }
        let into = match sections.last_mut() {
            Some((_, body)) => body,
            None => &mut before,
        };
        into.push_str(line);
        into.push('\n');
    }
    (before, sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(sections: &[(&str, bool)]) -> NoteTemplate {
        let sections: Vec<Value> = sections
            .iter()
            .map(|(title, required)| {
                serde_json::json!({ "title": title, "required": required, "chars_max": 20 })
            })
            .collect();
        serde_json::from_value(serde_json::json!({
            "id": "t", "title": "T", "kinds": ["11506-3"], "chars_max": 80, "sections": sections,
            "source": "s", "owner": "o", "reviewed": "2026-01-01", "review_by": "2027-01-01",
        }))
        .unwrap()
    }

    #[test]
    fn a_note_has_the_sections_of_its_template_and_no_others() {
        let soap = template(&[("Subjective", true), ("Objective", false), ("Plan", true)]);
        let plain = template(&[]);
        let good = "## Subjective\nTired.\n## Plan\nRest.";
        let long = format!("## Subjective\n{}\n## Plan\nRest.", "a".repeat(21));
        let longer = format!("## Subjective\nTired.\n## Plan\nRest.{}", " \nx".repeat(40));
        let cases: [(&NoteTemplate, &str, &str, &[&str]); 13] = [
            (&soap, "11506-3", good, &[]),
            (
                &soap,
                "11506-3",
                "\n## Subjective\nTired.\n## Objective\n\n## Plan\nRest.",
                &[],
            ),
            (&plain, "11506-3", "Seen today.\n# not a section", &[]),
            (&soap, "34117-2", good, &["not for this kind"]),
            (
                &soap,
                "11506-3",
                "## Subjective\nTired.",
                &["`Plan` is missing"],
            ),
            (
                &soap,
                "11506-3",
                "## Subjective\n\n## Plan\nRest.",
                &["`Subjective` is missing or empty"],
            ),
            (
                &soap,
                "11506-3",
                "Hello.\n## Subjective\nTired.\n## Plan\nRest.",
                &["before the first section"],
            ),
            (
                &soap,
                "11506-3",
                "## Subjective\nTired.\n## Plan\nRest.\n## Orders\nNone.",
                &["does not have"],
            ),
            (
                &soap,
                "11506-3",
                "## Plan\nRest.\n## Subjective\nTired.",
                &["out of order"],
            ),
            (
                &soap,
                "11506-3",
                "## Subjective\nTired.\n## Subjective\nTired.\n## Plan\nRest.",
                &["doubled"],
            ),
            (&soap, "11506-3", &long, &["longer than 20"]),
            (
                &soap,
                "11506-3",
                &longer,
                &["longer than 80", "longer than 20"],
            ),
            (
                &plain,
                "11506-3",
                "Seen.\n## Plan\nRest.",
                &["does not have"],
            ),
        ];
        for (template, kind, text, wanted) in cases {
            let found = problems(template, kind, text);
            assert_eq!(found.len(), wanted.len(), "{text}: {found:?}");
            for (found, wanted) in found.iter().zip(wanted) {
                assert!(found.contains(wanted), "{text}: {found}");
            }
        }
    }

    #[test]
    fn what_an_agent_wrote_is_not_repeated() {
        let soap = template(&[("Plan", true)]);
        let found = problems(&soap, "11506-3", "## Una Sample\nx\n## Plan\nRest.");
        assert_eq!(found.len(), 1);
        assert!(!found[0].contains("Una"));
    }
}
