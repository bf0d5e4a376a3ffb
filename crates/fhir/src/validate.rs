//! The structural check of a resource against compiled definitions.
//!
//! Types, cardinality, primitive formats, required bindings, references and extensions as far as the base
//! definitions decide them. Profiles, invariants, terminology and plausibility are later stages; the
//! outcome names them as not run, so that nobody takes silence for a pass.
//! Start at [`structure`].

mod contained;
mod datatype;
mod element;
mod markup;
mod path;
mod primitive_element;
mod reference;
mod report;
mod resources;
mod rules;

pub use markup::markup;
pub(crate) use path::{quotable, quotable_url};
pub(crate) use report::Report;
pub(crate) use resources::each_resource;

use std::fmt::Write;

use crate::definitions::Definitions;
use crate::finding::{Finding, Position, RestsOn, Severity, id};
use crate::json::{Document, JsonLimits, Locator, ParseErrorKind, Paths};
use crate::package::PackageId;

/// Bounds on a check.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bounds on the text.
    pub json: JsonLimits,
    /// Most findings reported for one text; then the check stops and says so.
    pub findings_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            json: JsonLimits::default(),
            findings_max: 500,
        }
    }
}

/// The visible stages of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// JSON, and structure against the definitions; later also profiles.
    SchemaAndProfile,
    /// Business rules.
    BusinessRules,
    /// Clinical plausibility.
    ClinicalPlausibility,
}

impl Stage {
    /// The stage's name in decision records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::SchemaAndProfile => "structure",
            Stage::BusinessRules => "business-rules",
            Stage::ClinicalPlausibility => "plausibility",
        }
    }
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// It ran to its end and found no error.
    Passed,
    /// It found errors.
    Failed,
    /// It did not run; nothing may be concluded.
    NotRun,
}

/// A stage and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StageOutcome {
    /// Which.
    pub stage: Stage,
    /// How it ended.
    pub state: StageState,
}

/// Name and version of the software that checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Validator {
    /// Name of the crate.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// The validator of this crate.
pub const VALIDATOR: Validator = Validator {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
};

/// How many findings there are of each severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FindingCounts {
    /// Checking had to stop.
    pub fatal: usize,
    /// The resource is not valid.
    pub error: usize,
    /// A human should look.
    pub warning: usize,
    /// Worth knowing.
    pub information: usize,
}

impl FindingCounts {
    /// Counts findings.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        let mut counts = Self::default();
        for finding in findings {
            match finding.severity {
                Severity::Fatal => counts.fatal += 1,
                Severity::Error => counts.error += 1,
                Severity::Warning => counts.warning += 1,
                Severity::Information => counts.information += 1,
            }
        }
        counts
    }
}

/// The outcome of a check: the findings, what they rest on, and the parsed text.
#[derive(Debug)]
pub struct StructureOutcome<'s> {
    /// The findings, in the order of the walk through the source. Repeated keys end the check.
    pub findings: Vec<Finding>,
    /// The stages, each with how it ended.
    pub stages: [StageOutcome; 3],
    /// Who checked.
    pub validator: Validator,
    /// Against which package.
    pub package: PackageId,
    /// The text as a tree; `None` if it could not be read.
    pub document: Option<Document<'s>>,
}

impl StructureOutcome<'_> {
    /// Whether no error was found. Warnings do not count.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.document.is_some()
            && !self
                .findings
                .iter()
                .any(|finding| finding.severity.is_error())
    }

    /// Findings per severity.
    #[must_use]
    pub fn counts(&self) -> FindingCounts {
        FindingCounts::of(&self.findings)
    }

    /// The resource type that the text states, whether or not it exists.
    #[must_use]
    pub fn resource_type(&self) -> Option<&str> {
        self.document.as_ref()?.root().get("resourceType")?.as_str()
    }
}

/// Checks one resource (which may be a Bundle) against the definitions.
///
/// The same bytes give the same findings in the same order.
#[must_use]
pub fn structure<'s>(
    definitions: &Definitions,
    bytes: &'s [u8],
    limits: &Limits,
) -> StructureOutcome<'s> {
    let (document, findings) = match Document::parse(bytes, &limits.json) {
        Ok(document) => {
            let findings = check(definitions, &document, limits);
            (Some(document), findings)
        }
        Err(error) => (None, vec![unreadable(&error)]),
    };
    let failed = findings.iter().any(|finding| finding.severity.is_error());
    StructureOutcome {
        stages: [
            StageOutcome {
                stage: Stage::SchemaAndProfile,
                state: if failed {
                    StageState::Failed
                } else {
                    StageState::Passed
                },
            },
            StageOutcome {
                stage: Stage::BusinessRules,
                state: StageState::NotRun,
            },
            StageOutcome {
                stage: Stage::ClinicalPlausibility,
                state: StageState::NotRun,
            },
        ],
        findings,
        validator: VALIDATOR,
        package: definitions.source().clone(),
        document,
    }
}

fn check(definitions: &Definitions, document: &Document<'_>, limits: &Limits) -> Vec<Finding> {
    let duplicates = duplicate_keys(document, limits.findings_max);
    if !duplicates.is_empty() {
        // A text that says two things cannot be judged further: readers disagree about which one counts.
        return duplicates;
    }
    let mut walk = element::Walk::new(definitions, document, limits.findings_max);
    walk.root();
    walk.finish()
}

fn duplicate_keys(document: &Document<'_>, findings_max: usize) -> Vec<Finding> {
    let mut locator = Locator::new(document);
    document
        .duplicate_keys()
        .take(findings_max.max(1))
        .map(|duplicate| {
            let (line, column) = locator.locate(duplicate.offset());
            Finding {
                id: id::JSON_DUPLICATE_KEY,
                severity: Severity::Error,
                expression: expression_of(document, duplicate),
                position: Some(Position { line, column }),
                message: format!(
                    "the key `{}` occurs more than once in the same object; keep one (nothing else was checked)",
                    path::quotable(duplicate.key().unwrap_or_default())
                ),
                rests_on: RestsOn::InputOnly,
                details: None,
            }
        })
        .collect()
}

/// The path of any value of a document, as findings state it.
pub(crate) fn expression_of(document: &Document<'_>, value: crate::json::Value<'_>) -> String {
    next_expression(document, &mut Paths::new(document), value)
}

/// The same for many values of one document, in the order of the source.
pub(crate) fn next_expression<'d>(
    document: &'d Document<'_>,
    paths: &mut Paths<'d>,
    value: crate::json::Value<'_>,
) -> String {
    let mut expression = document
        .root()
        .get("resourceType")
        .and_then(|it| it.as_str())
        .map(path::quotable)
        .unwrap_or_default();
    for step in paths.to(value) {
        match step.value.key() {
            Some(key) if expression.is_empty() => expression.push_str(&path::quotable(key)),
            Some(key) => {
                expression.push('.');
                expression.push_str(&path::quotable(key));
            }
            // Writing to a String cannot fail.
            None => drop(write!(expression, "[{}]", step.place)),
        }
    }
    expression
}

fn unreadable(error: &crate::json::ParseError) -> Finding {
    let (finding_id, message) = match error.kind {
        ParseErrorKind::TooLarge => (
            id::JSON_TOO_LARGE,
            "the text is larger than allowed; send less at once".to_owned(),
        ),
        ParseErrorKind::TooDeep => (
            id::JSON_TOO_DEEP,
            "the text is nested deeper than allowed".to_owned(),
        ),
        ParseErrorKind::TooManyValues => (
            id::JSON_TOO_MANY_VALUES,
            "the text holds more values than allowed; send less at once".to_owned(),
        ),
        ParseErrorKind::NotUtf8 => (id::JSON_NOT_UTF8, "the text is not UTF-8".to_owned()),
        ParseErrorKind::Syntax(what) => (id::JSON_SYNTAX, format!("the text is not JSON: {what}")),
    };
    Finding {
        id: finding_id,
        severity: Severity::Fatal,
        expression: String::new(),
        position: Some(Position {
            line: error.line,
            column: error.column,
        }),
        message,
        rests_on: RestsOn::InputOnly,
        details: None,
    }
}

#[cfg(test)]
mod tests;
