//! Checks of `intents/*.toml`: every scope narrow, every tool inside it, nothing declared in vain.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::bundle::{IntentDeclaration, PatientBinding, ToolAction, ToolDeclaration};
use chaperone_core::envelope::ENVELOPE_SECONDS_MAX;
use chaperone_core::resource::ResourceType;

use super::{Declared, scope, template, tools};
use crate::problem::{Problems, line_of};

/// Types that describe the organisation rather than a patient: all that a patient-free intent may
/// read, and all that a patient-bound tool may read without injecting the patient.
///
/// # Source
/// Types outside the patient compartment of FHIR R4 (CompartmentDefinition/patient), and `Schedule`,
/// which that compartment holds only for patients who are themselves scheduled.
pub const DEFINITIONAL: [&str; 10] = [
    "ActivityDefinition",
    "HealthcareService",
    "Location",
    "Organization",
    "PlanDefinition",
    "Practitioner",
    "PractitionerRole",
    "Questionnaire",
    "Schedule",
    "Slot",
];

pub(super) fn check(
    declared: &Declared,
    files: &BTreeMap<String, String>,
    problems: &mut Problems,
) {
    for (path, intent) in declared.intents.values() {
        let text = files.get(path).map_or("", String::as_str);
        Intent {
            declared,
            path,
            text,
            intent,
        }
        .check(problems);
    }
}

struct Intent<'a> {
    declared: &'a Declared,
    path: &'a str,
    text: &'a str,
    intent: &'a IntentDeclaration,
}

impl Intent<'_> {
    fn problem(&self, wanted: &str, message: String, problems: &mut Problems) {
        let line = line_of(self.text, wanted);
        problems.add_at(self.path, line, self.intent.id.as_str(), message);
    }

    fn check(&self, problems: &mut Problems) {
        let intent = self.intent;
        if intent.purpose.trim().is_empty() {
            self.problem("purpose", "`purpose` is empty".to_owned(), problems);
        }
        if !(1..=ENVELOPE_SECONDS_MAX).contains(&intent.ttl_s) {
            self.problem(
                "ttl_s",
                format!("`ttl_s` must be 1 to {ENVELOPE_SECONDS_MAX} seconds"),
                problems,
            );
        }
        if intent.tools.is_empty() {
            self.problem("tools", "lists no tool".to_owned(), problems);
        }
        let mut used_writes = BTreeSet::new();
        let mut used_views = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for name in &intent.tools {
            if !seen.insert(name) {
                self.problem(
                    name.as_str(),
                    format!("tool `{name}` is listed twice"),
                    problems,
                );
            }
            match self.declared.tools.get(name) {
                None => self.problem(
                    name.as_str(),
                    format!("tool `{name}` is not declared"),
                    problems,
                ),
                Some((_, tool)) => self.tool(tool, &mut used_writes, &mut used_views, problems),
            }
        }
        for write in &intent.writes {
            if let Err(why) = scope::check(write) {
                self.problem(write, format!("write scope `{write}`: {why}"), problems);
            } else if !used_writes.contains(write) {
                self.problem(
                    write,
                    format!("write scope `{write}` is needed by none of its tools; remove it"),
                    problems,
                );
            }
        }
        for (resource, fields) in &intent.view {
            if fields.is_empty() {
                self.problem(
                    resource.as_str(),
                    format!("the view of `{resource}` is empty; remove it"),
                    problems,
                );
            }
            if !used_views.contains(resource) {
                self.problem(
                    resource.as_str(),
                    format!(
                        "the view opens `{resource}`, which none of its tools reads; remove it"
                    ),
                    problems,
                );
            }
            for field in fields {
                if !tools::is_element_path(field) {
                    self.problem(field, format!("`{field}` is no element path"), problems);
                }
            }
        }
        self.text(problems);
    }

    /// Free text is opened path by path, for a patient whose names are known, and never in vain.
    fn text(&self, problems: &mut Problems) {
        let intent = self.intent;
        if intent.patient == PatientBinding::None && !intent.text.is_empty() {
            self.problem(
                "text",
                "is patient-free, so nobody knows whose names to take out of a text; remove `text`"
                    .to_owned(),
                problems,
            );
        }
        for (resource, paths) in &intent.text {
            if paths.is_empty() {
                self.problem(
                    resource.as_str(),
                    format!("the text of `{resource}` is empty; remove it"),
                    problems,
                );
            }
            let mut seen = BTreeSet::new();
            for path in paths {
                if !tools::is_element_path(path) {
                    self.problem(path, format!("`{path}` is no element path"), problems);
                }
                if !seen.insert(path) {
                    self.problem(path, format!("`{path}` is listed twice"), problems);
                }
                let is_shown = intent
                    .tools
                    .iter()
                    .filter_map(|name| self.declared.tools.get(name))
                    .filter_map(|(_, tool)| tool.read.as_ref())
                    .any(|read| {
                        tools::read_type(read).as_ref() == Some(resource)
                            && read.text.contains(path)
                    });
                if !is_shown {
                    self.problem(
                        path,
                        format!(
                            "the text `{path}` of `{resource}` is shown by none of its tools; remove it"
                        ),
                        problems,
                    );
                }
            }
        }
    }

    fn tool(
        &self,
        tool: &ToolDeclaration,
        used_writes: &mut BTreeSet<String>,
        used_views: &mut BTreeSet<ResourceType>,
        problems: &mut Problems,
    ) {
        let intent = self.intent;
        let name = tool.name.as_str();
        match tool.action() {
            Some(ToolAction::Read(read)) => {
                let Some(resource) = tools::read_type(read) else {
                    return;
                };
                used_views.insert(resource.clone());
                let definitional = DEFINITIONAL.contains(&resource.as_str());
                let injected = tools::injects_patient(read);
                if intent.patient == PatientBinding::None && (!definitional || injected) {
                    self.problem(
                        name,
                        format!(
                            "is patient-free, but tool `{name}` reads a patient's `{resource}`"
                        ),
                        problems,
                    );
                }
                let Some(view) = intent.view.get(&resource) else {
                    self.problem(
                        name,
                        format!("tool `{name}` reads `{resource}`, which the view does not open"),
                        problems,
                    );
                    return;
                };
                if fields_shown(view, &read.fields).is_empty() {
                    self.problem(
                        name,
                        format!("tool `{name}` and the view of `{resource}` share no field, so the tool would show nothing"),
                        problems,
                    );
                }
            }
            Some(ToolAction::Write(write)) => {
                if intent.patient == PatientBinding::None {
                    self.problem(
                        name,
                        format!("is patient-free, but tool `{name}` proposes a change"),
                        problems,
                    );
                }
                for status in template::statuses(write, &tool.inputs) {
                    let needed = scope::of(&write.resource, write.interaction, status.as_deref());
                    if !intent.writes.contains(&needed) {
                        self.problem(
                            name,
                            format!("tool `{name}` needs the write scope `{needed}`, which is not listed"),
                            problems,
                        );
                    }
                    used_writes.insert(needed);
                }
            }
            Some(ToolAction::Together(of)) => {
                if !of.iter().any(|one| intent.tools.contains(one)) {
                    self.problem(
                        name,
                        format!("tool `{name}` puts together calls of tools that are not listed"),
                        problems,
                    );
                }
            }
            Some(ToolAction::Status | ToolAction::Templates) | None => {}
        }
    }
}

/// What of a tool's fields an intent's view opens: a path opens everything below it, and of a field that reaches
/// wider than the view, only what the view names is shown.
pub fn fields_shown(view: &[String], fields: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    for field in fields {
        let opened: Vec<&String> = if view.iter().any(|open| covers(open, field)) {
            vec![field]
        } else {
            view.iter().filter(|open| covers(field, open)).collect()
        };
        for path in opened {
            if !shown.contains(path) {
                shown.push(path.clone());
            }
        }
    }
    shown
}

/// Whether opening one element path opens another.
fn covers(open: &str, field: &str) -> bool {
    field == open
        || field
            .strip_prefix(open)
            .is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_opens_what_is_below_its_paths_and_nothing_beside() {
        let paths =
            |paths: &[&str]| -> Vec<String> { paths.iter().map(|it| (*it).to_owned()).collect() };
        let view = paths(&["component", "code", "period.start"]);
        let fields = [
            "component.code",
            "component.valueQuantity",
            "componentOf",
            "code",
            "period",
            "status",
        ];
        assert_eq!(
            fields_shown(&view, &paths(&fields)),
            [
                "component.code",
                "component.valueQuantity",
                "code",
                "period.start"
            ]
        );
    }

    #[test]
    fn a_path_covers_itself_and_what_is_below() {
        assert!(covers("component", "component.code"));
        assert!(covers("code", "code"));
        assert!(!covers("code", "codeFilter"));
        assert!(!covers("component.code", "component"));
    }
}
