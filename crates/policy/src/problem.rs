//! What is wrong with a governance bundle, and where: the file, the line, the declaration.
//!
//! Loading collects every problem instead of stopping at the first, so that an author mends a bundle
//! in one round.

use std::fmt;

/// Most problems reported for one bundle; the rest would only repeat them.
pub const PROBLEMS_MAX: usize = 200;

/// One reason why a bundle does not load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadProblem {
    /// Path of the file inside the bundle.
    pub file: String,
    /// Line in it, from 1, when it is known.
    pub line: Option<u32>,
    /// The declaration, policy or case; empty when it is the file as a whole.
    pub place: String,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl fmt::Display for LoadProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.place.is_empty() {
            write!(f, ": {}", self.place)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Problems gathered so far.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<LoadProblem>,
}

impl Problems {
    /// Adds a problem without a line.
    pub(crate) fn add(&mut self, file: &str, place: &str, message: impl Into<String>) {
        self.add_at(file, None, place, message);
    }

    /// Adds a problem at a line.
    pub(crate) fn add_at(
        &mut self,
        file: &str,
        line: Option<u32>,
        place: &str,
        message: impl Into<String>,
    ) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(LoadProblem {
                file: file.to_owned(),
                line,
                place: place.to_owned(),
                message: message.into(),
            });
        }
    }

    /// Whether anything is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Everything found, by file and line.
    pub(crate) fn into_sorted(mut self) -> Vec<LoadProblem> {
        self.found
            .sort_by(|a, b| (&a.file, a.line, &a.place).cmp(&(&b.file, b.line, &b.place)));
        self.found
    }
}

/// The line of a byte offset, from 1.
pub(crate) fn line_at(text: &str, offset: usize) -> Option<u32> {
    let before = text.as_bytes().get(..offset)?;
    let newlines = before.iter().filter(|byte| **byte == b'\n').count();
    u32::try_from(newlines.saturating_add(1)).ok()
}

/// The line on which a text first stands.
pub(crate) fn line_of(text: &str, wanted: &str) -> Option<u32> {
    text.find(wanted).and_then(|offset| line_at(text, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_where_it_is() {
        let mut problems = Problems::default();
        problems.add_at("tools/a.toml", Some(3), "a", "the query has no `{patient}`");
        problems.add("bundle.toml", "", "missing");
        let text: Vec<String> = problems
            .into_sorted()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            text,
            [
                "bundle.toml: missing",
                "tools/a.toml:3: a: the query has no `{patient}`"
            ]
        );
    }

    #[test]
    fn lines_are_counted_from_one() {
        assert_eq!(line_of("one\ntwo\nthree", "three"), Some(3));
        assert_eq!(line_of("one", "one"), Some(1));
        assert_eq!(line_of("one", "absent"), None);
    }
}
