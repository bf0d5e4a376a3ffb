//! Where the walk is, and what of the input may be quoted.
//!
//! The path is kept as a stack of borrowed names and becomes text only when something is found.
//! Start at [`Path`].

use std::fmt::Write;

/// Longest element name or code that is quoted from the input.
const QUOTED_CHARACTERS_MAX: usize = 64;
/// Longest canonical URL that is quoted from the input.
const QUOTED_URL_CHARACTERS_MAX: usize = 250;

/// One step: a member, and an index if it is in a list.
#[derive(Clone, Copy)]
struct Step<'d> {
    name: &'d str,
    index: Option<usize>,
}

/// The stack of steps from the resource to the current element.
pub(super) struct Path<'d> {
    steps: Vec<Step<'d>>,
}

impl<'d> Path<'d> {
    pub(super) fn new() -> Self {
        Self {
            steps: Vec::with_capacity(16),
        }
    }

    pub(super) fn push(&mut self, name: &'d str) {
        self.steps.push(Step { name, index: None });
    }

    pub(super) fn pop(&mut self) {
        self.steps.pop();
    }

    /// Sets or clears the index of the current step.
    pub(super) fn at(&mut self, index: Option<usize>) {
        if let Some(step) = self.steps.last_mut() {
            step.index = index;
        }
    }

    /// Whether the current element is an extension within an extension.
    pub(super) fn is_nested_extension(&self) -> bool {
        let mut last = self.steps.iter().rev().map(|step| step.name);
        let is_extension =
            |name: Option<&str>| matches!(name, Some("extension" | "modifierExtension"));
        is_extension(last.next()) && is_extension(last.next())
    }

    /// The path as text; `extra` is one more name below it.
    pub(super) fn render(&self, extra: Option<&str>) -> String {
        let mut text = String::with_capacity(self.steps.len() * 12);
        for step in &self.steps {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&quotable(step.name));
            if let Some(index) = step.index {
                // Writing to a String cannot fail.
                let _ = write!(text, "[{index}]");
            }
        }
        if let Some(extra) = extra {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&quotable(extra));
        }
        text
    }
}

/// The text itself if it is a short name or code, otherwise a placeholder.
///
/// Names and codes of the input go into messages; anything that could be text about a person does not.
pub(crate) fn quotable(text: &str) -> String {
    quotable_to(text, QUOTED_CHARACTERS_MAX)
}

/// The same for canonical URLs, which name definitions and may be longer.
pub(crate) fn quotable_url(text: &str) -> String {
    quotable_to(text, QUOTED_URL_CHARACTERS_MAX)
}

fn quotable_to(text: &str, characters_max: usize) -> String {
    let is_code = !text.is_empty()
        && text.len() <= characters_max
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/#|[]$".contains(&byte));
    if is_code {
        text.to_owned()
    } else {
        "…".to_owned()
    }
}
