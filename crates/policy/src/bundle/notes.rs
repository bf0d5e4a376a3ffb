//! Checks of `templates/*.toml`: the note templates that a draft must follow, and the tools that name them.
//!
//! Not here: whether a note follows its template (the engine).

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::bundle::{InputType, NoteTemplate, ToolDeclaration};
use chaperone_core::ids::NoteTemplateId;

use super::{Declared, read};
use crate::problem::{Problems, line_of};

/// Most templates, and most sections of one.
const TEMPLATES_MAX: usize = 200;
const SECTIONS_MAX: usize = 40;
/// Longest note, and longest title, in characters.
const NOTE_CHARS_MAX: u32 = 50_000;
const TITLE_CHARS_MAX: usize = 80;

/// The templates of a bundle, checked.
pub(super) fn load(
    files: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> BTreeMap<NoteTemplateId, NoteTemplate> {
    let mut templates = BTreeMap::new();
    for (path, stem, text) in read::files_in(files, "templates/", ".toml") {
        let Some(template) = read::parse::<NoteTemplate>(path, text, problems) else {
            continue;
        };
        if template.id.as_str() != stem {
            let why = format!("the file must be called `{}.toml`", template.id);
            problems.add(path, template.id.as_str(), why);
        }
        for (wanted, why) in wrong(&template) {
            problems.add_at(path, line_of(text, wanted), template.id.as_str(), why);
        }
        templates.insert(template.id.clone(), template);
    }
    if templates.len() > TEMPLATES_MAX {
        let why = format!("a bundle holds at most {TEMPLATES_MAX} note templates");
        problems.add("templates", "", why);
    }
    templates
}

fn wrong(template: &NoteTemplate) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut require = |holds: bool, at: &'static str, why: &str| {
        if !holds {
            found.push((at, why.to_owned()));
        }
    };
    let is_title = |title: &str| {
        !title.is_empty()
            && title.trim() == title
            && title.chars().count() <= TITLE_CHARS_MAX
            && !title.starts_with('#')
            && !title.chars().any(char::is_control)
    };
    require(
        is_title(&template.title),
        "title",
        "`title` must be a short line",
    );
    require(
        !template.kinds.is_empty(),
        "kinds",
        "`kinds` names no LOINC type",
    );
    require(
        (1..=NOTE_CHARS_MAX).contains(&template.chars_max),
        "chars_max",
        "`chars_max` is out of range",
    );
    for said in [&template.source, &template.owner] {
        require(
            !said.trim().is_empty(),
            "owner",
            "`source` and `owner` must be given",
        );
    }
    require(
        read::is_day(&template.reviewed)
            && read::is_day(&template.review_by)
            && template.reviewed < template.review_by,
        "review_by",
        "`reviewed` and a later `review_by` must be days such as `2026-01-31`",
    );
    require(
        template.sections.len() <= SECTIONS_MAX,
        "sections",
        "has too many sections",
    );
    let mut titles = BTreeSet::new();
    for section in &template.sections {
        require(
            is_title(&section.title),
            "sections",
            "a section's title must be a short line",
        );
        require(
            titles.insert(section.title.as_str()),
            "sections",
            "two sections have the same title",
        );
        require(
            (1..=template.chars_max).contains(&section.chars_max),
            "sections",
            "a section's `chars_max` must be 1 to that of the note",
        );
    }
    found
}

/// Tools that draft notes: their inputs must be there, and the templates that they offer.
pub(super) fn check(
    declared: &Declared,
    templates: &BTreeMap<NoteTemplateId, NoteTemplate>,
    problems: &mut Problems,
) {
    for (path, tool) in declared.tools.values() {
        let Some(note) = tool.write.as_ref().and_then(|write| write.note.as_ref()) else {
            continue;
        };
        let mut problem = |why: String| problems.add(path, tool.name.as_str(), why);
        for (name, wanted) in [
            (&note.template, InputType::Code),
            (&note.kind, InputType::Code),
            (&note.text, InputType::String),
        ] {
            if !is_input(tool, name, wanted) {
                problem(format!(
                    "`write.note` names `{name}`, which is no input of that type, or may be left out"
                ));
            }
        }
        let offered = tool.inputs.get(&note.template);
        for id in offered
            .map(|input| input.one_of.as_slice())
            .unwrap_or_default()
        {
            if !templates.keys().any(|known| known.as_str() == id) {
                problem(format!("there is no `templates/{id}.toml`"));
            }
        }
    }
}

fn is_input(tool: &ToolDeclaration, name: &str, wanted: InputType) -> bool {
    tool.inputs.get(name).is_some_and(|input| {
        input.input_type == wanted && (input.required || input.default.is_some())
    })
}
