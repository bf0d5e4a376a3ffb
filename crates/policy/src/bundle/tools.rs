//! Checks of `tools/*.toml`: a narrow contract, complete inputs, a query that injects the patient, a
//! template that can be filled in.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::bundle::{
    InputDeclaration, InputType, ReadAction, TARGET_PATIENT, ToolAction, ToolDeclaration,
    WriteAction,
};
use chaperone_core::change::Destination;
use chaperone_core::facts::FactKind;
use chaperone_core::ids::ToolName;
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::together::NEVER_TOGETHER;

use super::Declared;
use super::intents::DEFINITIONAL;
use super::template::{self, FIXED_PLACEHOLDERS, Filter, TemplateText};
use crate::facts::{self, PROTOCOL_IN_FORCE};
use crate::problem::{Problems, line_of};

/// Most inputs of a tool.
const INPUTS_MAX: usize = 24;
/// Longest text that an input may allow, in characters.
const LENGTH_MAX: u32 = 50_000;
/// Most values of a code input.
const CODES_MAX: usize = 200;

pub(super) fn check(
    declared: &Declared,
    files: &BTreeMap<String, String>,
    problems: &mut Problems,
) {
    for (path, tool) in declared.tools.values() {
        let text = files.get(path).map_or("", String::as_str);
        let mut used = BTreeSet::new();
        let mut check = Tool {
            path,
            text,
            tool,
            problems,
        };
        check.inputs();
        check.slots();
        match tool.action() {
            None => check.problem(
                "name",
                "must do exactly one thing: `read`, `write`, `together`, `status` or `templates`"
                    .to_owned(),
            ),
            Some(ToolAction::Read(read)) => check.read(read, &mut used),
            Some(ToolAction::Write(write)) => check.write(write, &mut used),
            Some(ToolAction::Together(tools)) => check.together(tools, declared),
            // The status tool reads its inputs itself.
            Some(ToolAction::Status) => used.extend(tool.inputs.keys().cloned()),
            Some(ToolAction::Templates) => {}
        }
        for unused in tool.inputs.keys().filter(|name| !used.contains(*name)) {
            check.problem(
                &format!("inputs.{unused}"),
                format!("input `{unused}` is used nowhere"),
            );
        }
    }
}

/// The type that a read tool searches.
pub(super) fn read_type(read: &ReadAction) -> Option<ResourceType> {
    let (resource, _) = read.query.split_once('?')?;
    ResourceType::new(resource).ok()
}

/// Whether the query is narrowed to the envelope's patient.
pub(super) fn injects_patient(read: &ReadAction) -> bool {
    let Some((resource, parameters)) = read.query.split_once('?') else {
        return false;
    };
    parameters.split('&').any(|parameter| match resource {
        "Patient" => parameter == "_id={patient}",
        _ => [
            "patient={patient}",
            "subject={patient}",
            "subject=Patient/{patient}",
        ]
        .contains(&parameter),
    })
}

/// Whether a text is a dotted path of element names.
pub(super) fn is_element_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 120
        && path.split('.').all(|name| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.bytes().all(|b| b.is_ascii_alphanumeric())
        })
}

struct Tool<'a, 'p> {
    path: &'a str,
    text: &'a str,
    tool: &'a ToolDeclaration,
    problems: &'p mut Problems,
}

impl Tool<'_, '_> {
    fn problem(&mut self, wanted: &str, message: String) {
        let line = line_of(self.text, wanted);
        self.problems
            .add_at(self.path, line, self.tool.name.as_str(), message);
    }

    fn inputs(&mut self) {
        let tool = self.tool;
        if tool.description.trim().is_empty() {
            self.problem(
                "description",
                "`description` is empty; agents choose tools by it".to_owned(),
            );
        }
        if tool.inputs.len() > INPUTS_MAX {
            self.problem("inputs", format!("has more than {INPUTS_MAX} inputs"));
        }
        for (name, input) in &tool.inputs {
            let place = format!("inputs.{name}");
            if !template::is_input_name(name) || FIXED_PLACEHOLDERS.contains(&name.as_str()) {
                self.problem(&place, format!("`{name}` cannot be the name of an input"));
            }
            for message in input_problems(name, input) {
                self.problem(&place, message);
            }
        }
    }

    /// Slots are resolved in text that is proposed, and nowhere else.
    fn slots(&mut self) {
        let tool = self.tool;
        let is_write = matches!(tool.action(), Some(ToolAction::Write(_)));
        for (name, input) in tool.inputs.iter().filter(|(_, input)| input.slots) {
            if !is_write || input.input_type != InputType::String {
                self.problem(
                    &format!("inputs.{name}"),
                    format!("input `{name}`: only a string of a write tool takes `slots`"),
                );
            }
        }
    }

    fn read(&mut self, read: &ReadAction, used: &mut BTreeSet<String>) {
        let Some(resource) = read_type(read) else {
            self.problem("query", "`query` must be `Type?name=value&...`".to_owned());
            return;
        };
        let parameters = read.query.split_once('?').map_or("", |(_, rest)| rest);
        for parameter in parameters.split('&') {
            let Some((name, value)) = parameter.split_once('=') else {
                self.problem(
                    "query",
                    format!("`{parameter}` in the query is not `name=value`"),
                );
                continue;
            };
            if name.is_empty()
                || name.contains(['{', '}'])
                || name.starts_with("_include")
                || name.starts_with("_revinclude")
                || name == "_has"
            {
                self.problem("query", format!("query parameter `{name}` is refused: no includes, no chains, no computed names"));
            }
            self.query_value(value, used);
        }
        if !DEFINITIONAL.contains(&resource.as_str()) && !injects_patient(read) {
            self.problem(
                "query",
                format!("`{resource}` belongs to patients, so the query must inject `{{patient}}`"),
            );
        }
        if read.fields.is_empty() {
            self.problem(
                "fields",
                "`fields` is empty, so the tool would show nothing".to_owned(),
            );
        }
        let mut seen = BTreeSet::new();
        for field in read.fields.iter().chain(&read.text) {
            if !is_element_path(field) {
                self.problem(field, format!("`{field}` is no element path"));
            }
            if !seen.insert(field) {
                self.problem(field, format!("`{field}` is listed twice"));
            }
        }
    }

    /// A query's value may hold placeholders among other text.
    fn query_value(&mut self, value: &str, used: &mut BTreeSet<String>) {
        let mut rest = value;
        while let Some((_, after)) = rest.split_once('{') {
            let Some((name, tail)) = after.split_once('}') else {
                self.problem("query", "a `{` in the query is not closed".to_owned());
                return;
            };
            rest = tail;
            if FIXED_PLACEHOLDERS.contains(&name) {
                continue;
            }
            match self.tool.inputs.get(name) {
                None => self.problem("query", format!("`{{{name}}}` in the query names no input")),
                Some(input) if input.input_type == InputType::String => self.problem(
                    "query",
                    format!("`{{{name}}}` is free text, which never enters a query"),
                ),
                Some(_) => {
                    used.insert(name.to_owned());
                }
            }
        }
        if rest.contains('}') {
            self.problem("query", "a `}` in the query was never opened".to_owned());
        }
    }

    fn write(&mut self, write: &WriteAction, used: &mut BTreeSet<String>) {
        match (write.interaction, &write.target) {
            (Interaction::Delete, _) => self.problem(
                "interaction",
                "a tool cannot delete; use a status change such as `entered-in-error`".to_owned(),
            ),
            (Interaction::Create, Some(_)) => {
                self.problem("target", "a create has no `target`".to_owned());
            }
            (Interaction::Update, None) => self.problem(
                "interaction",
                "an update needs `target`, the token input that names the resource".to_owned(),
            ),
            (Interaction::Update, Some(target)) if target == TARGET_PATIENT => {
                if write.resource.as_str() != "Patient" {
                    self.problem(
                        "target",
                        "only a `Patient` has the envelope's patient as its `target`".to_owned(),
                    );
                }
            }
            (Interaction::Update, Some(target)) => {
                used.insert(target.clone());
                self.token(target, Some(&write.resource));
            }
            (Interaction::Create, None) => {}
        }
        if let Some(copy) = &write.copy {
            used.insert(copy.from.clone());
            self.token(&copy.from, None);
            if copy.elements.is_empty() {
                self.problem("copy", "`copy` names no element".to_owned());
            }
            for element in &copy.elements {
                if !is_element_path(element) || element.contains('.') {
                    self.problem(element, format!("`{element}` is no top-level element"));
                }
                if write.template.contains_key(element) {
                    self.problem(
                        element,
                        format!("`{element}` is both copied and in the template"),
                    );
                }
            }
        }
        for element in &write.append {
            let is_list = matches!(
                write.template.get(element),
                Some(serde_json::Value::Array(_))
            );
            if write.interaction != Interaction::Update || !is_list {
                self.problem(
                    element,
                    format!("`{element}` is appended, so an update must have it as a list in its template"),
                );
            }
        }
        if let Some(note) = &write.note {
            used.extend([&note.template, &note.kind, &note.text].map(Clone::clone));
        }
        self.template(write, used);
        self.write_facts(write);
    }

    /// What goes together goes to the EHR as one transaction, when all of it was agreed to. A call for help, an opting
    /// out and a message go by rules of their own, a draft stays here, and a protocol covers a renewal by itself.
    fn together(&mut self, tools: &[ToolName], declared: &Declared) {
        let mut seen = BTreeSet::new();
        for name in tools {
            if !seen.insert(name) {
                self.problem(name.as_str(), format!("tool `{name}` is listed twice"));
            }
            let write = match declared.tools.get(name) {
                None => {
                    self.problem(name.as_str(), format!("tool `{name}` is not declared"));
                    continue;
                }
                Some((_, tool)) => &tool.write,
            };
            let why = match write {
                None => Some("it proposes no change"),
                Some(write) if write.destination != Destination::Ehr => {
                    Some("its draft stays here")
                }
                Some(write) if NEVER_TOGETHER.contains(&write.resource.as_str()) => {
                    Some("what it proposes must not wait for anything else, or be carried along")
                }
                Some(write) if write.observe.iter().any(|fact| fact == PROTOCOL_IN_FORCE) => {
                    Some("a protocol covers a renewal by itself")
                }
                Some(_) => None,
            };
            if let Some(why) = why {
                let message = format!("`{name}` cannot be proposed together with others: {why}");
                self.problem(name.as_str(), message);
            }
        }
    }

    fn template(&mut self, write: &WriteAction, used: &mut BTreeSet<String>) {
        if write.template.contains_key("resourceType") || write.template.contains_key("id") {
            self.problem(
                "template",
                "`resourceType` and `id` are Chaperone's to set".to_owned(),
            );
        }
        let Some(texts) = template::texts(&write.template) else {
            self.problem(
                "template",
                format!(
                    "is nested deeper than {} levels",
                    template::TEMPLATE_DEPTH_MAX
                ),
            );
            return;
        };
        for (path, text) in texts {
            match template::read_text(text) {
                TemplateText::Literal => {}
                TemplateText::Malformed => self.problem(
                    text,
                    format!(
                        "`{text}` at `{path}` is no placeholder; a placeholder is the whole string"
                    ),
                ),
                TemplateText::Placeholder(name, filter) => {
                    self.placeholder(name, filter, &path, used);
                }
            }
        }
        if template::statuses(write, &self.tool.inputs).is_empty() {
            let element = template::status_element(write.resource.as_str()).unwrap_or("status");
            self.problem(
                "template",
                format!("must set `{element}`, fixed or from a code input, so that the weight of the change is known"),
            );
        }
    }

    fn placeholder(&mut self, name: &str, filter: Filter, path: &str, used: &mut BTreeSet<String>) {
        if FIXED_PLACEHOLDERS.contains(&name) {
            if filter != Filter::Plain {
                self.problem(path, format!("`{{{name}}}` takes no filter"));
            }
            return;
        }
        used.insert(name.to_owned());
        let Some(input) = self.tool.inputs.get(name) else {
            self.problem(name, format!("`{{{name}}}` at `{path}` names no input"));
            return;
        };
        let fits = match filter {
            Filter::Reference => input.input_type == InputType::Token,
            Filter::Base64 => input.input_type == InputType::String,
            Filter::Plain => input.input_type != InputType::Token,
        };
        if !fits {
            self.problem(
                name,
                format!("`{name}` at `{path}`: a token becomes `{{{name}|reference}}`, text may be `{{{name}|base64}}`, all else is `{{{name}}}`"),
            );
        }
    }

    fn token(&mut self, name: &str, resource: Option<&ResourceType>) {
        let found = self.tool.inputs.get(name);
        let fits = found.is_some_and(|input| {
            input.input_type == InputType::Token
                && input.required
                && (resource.is_none() || input.resource.as_ref() == resource)
        });
        if !fits {
            let what = resource.map_or("a resource".to_owned(), |r| format!("`{r}`"));
            self.problem(
                name,
                format!("`{name}` must be a required token input that stands for {what}"),
            );
        }
    }

    fn write_facts(&mut self, write: &WriteAction) {
        let mut seen = BTreeSet::new();
        for name in &write.observe {
            let known = facts::lookup(name);
            if !known.is_some_and(|fact| fact.kinds.contains(&FactKind::Observed)) {
                self.problem(name, format!("`{name}` is no fact that Chaperone observes"));
            }
            if !seen.insert(name) {
                self.problem(name, format!("`{name}` is observed twice"));
            }
        }
        for (name, value) in &write.facts {
            let known = facts::lookup(name);
            if !known.is_some_and(|fact| fact.kinds.contains(&FactKind::Fixed)) {
                self.problem(name, format!("`{name}` is no fact that a tool may fix"));
            } else if !known.is_some_and(|fact| fact.fact_type.holds(value)) {
                self.problem(name, format!("`{name}` has the wrong type"));
            }
        }
    }
}

/// What is missing from an input, or does not belong to its type.
fn input_problems(name: &str, input: &InputDeclaration) -> Vec<String> {
    let mut found = Vec::new();
    let mut require = |holds: bool, message: &str| {
        if !holds {
            found.push(format!("input `{name}`: {message}"));
        }
    };
    let is = |kinds: &[InputType]| kinds.contains(&input.input_type);
    let is_number = is(&[InputType::Integer, InputType::Number]);
    require(
        is(&[InputType::String]) == input.max_length.is_some(),
        "`max_length` is required for a string, and only there",
    );
    require(
        input
            .max_length
            .is_none_or(|max| (1..=LENGTH_MAX).contains(&max)),
        "`max_length` is out of range",
    );
    require(
        is(&[InputType::Code]) != input.one_of.is_empty(),
        "`one_of` is required for a code, and only there",
    );
    require(input.one_of.len() <= CODES_MAX, "`one_of` is too long");
    require(
        is(&[InputType::Token]) == input.resource.is_some(),
        "`resource` is required for a token, and only there",
    );
    require(
        is_number == (input.minimum.is_some() && input.maximum.is_some())
            && (is_number || (input.minimum.is_none() && input.maximum.is_none())),
        "`minimum` and `maximum` are required for numbers, and only there",
    );
    require(
        !matches!((input.minimum, input.maximum), (Some(low), Some(high)) if low > high),
        "`minimum` is above `maximum`",
    );
    require(
        !(input.required && input.default.is_some()),
        "a required input has no `default`",
    );
    require(
        input
            .default
            .as_ref()
            .is_none_or(|value| default_fits(input, value)),
        "`default` is not a value that the input accepts",
    );
    found
}

fn default_fits(input: &InputDeclaration, value: &serde_json::Value) -> bool {
    let in_range = |number: f64| {
        input.minimum.is_none_or(|low| number >= low)
            && input.maximum.is_none_or(|high| number <= high)
    };
    match input.input_type {
        InputType::Boolean => value.is_boolean(),
        InputType::Integer => value.is_i64() && value.as_f64().is_some_and(in_range),
        InputType::Number => value.as_f64().is_some_and(in_range),
        InputType::Code => value
            .as_str()
            .is_some_and(|text| input.one_of.iter().any(|code| code == text)),
        InputType::String => value.as_str().is_some_and(|text| {
            input
                .max_length
                .is_some_and(|max| u32::try_from(text.chars().count()).is_ok_and(|n| n <= max))
        }),
        // A moment or a resource that is always the same is fixed by the template instead.
        InputType::Date | InputType::DateTime | InputType::Token => false,
    }
}
