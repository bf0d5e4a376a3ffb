//! Reads `plausibility.toml`: what each rule says, how grave it is, who answers for it and until when.
//!
//! Strict: every rule of this build must be there once, with exactly its cases and limits, a source, an
//! owner and a review date; unknown keys and words are refused. Start at [`Register::parse`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::Deserialize;

use super::report::Effect;
use super::rule::{self, Rule};

/// Schema version that this build reads.
const SCHEMA: u32 = 1;

/// Why a rule file does not load.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// Not TOML of the expected shape; the cause names line and key.
    #[error("`{file}` cannot be read")]
    Shape {
        /// Name of the file.
        file: &'static str,
        /// What the reader said.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Written for another version.
    #[error("`{file}` has schema {found}; this build reads {SCHEMA}")]
    Schema {
        /// Name of the file.
        file: &'static str,
        /// The version found.
        found: u32,
    },
    /// A file is not there.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// The status graphs do not load.
    #[error("`status-transitions.toml` cannot be used")]
    Transitions(#[source] crate::status::TransitionsError),
    /// A rule or row contradicts itself, another, or this build.
    #[error("`{file}`, `{entry}`: {what}")]
    Inconsistent {
        /// Name of the file.
        file: &'static str,
        /// Id of the rule or row.
        entry: String,
        /// What is wrong, and what would be right.
        what: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    version: String,
    rule: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    checks: String,
    source: String,
    owner: String,
    review_by: toml::value::Datetime,
    #[serde(default)]
    limits: BTreeMap<String, f64>,
    cases: BTreeMap<String, Case>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) severity: Effect,
    pub(super) words: String,
}

/// One rule as the data has it.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub(super) checks: String,
    pub(super) source: String,
    pub(super) owner: String,
    pub(super) review_by: Date,
    pub(super) limits: BTreeMap<String, f64>,
    pub(super) cases: BTreeMap<String, Case>,
}

/// All rules, by id.
#[derive(Clone, Debug)]
pub(super) struct Register {
    pub(super) version: String,
    pub(super) rules: BTreeMap<&'static str, Registered>,
}

/// Name of the register's file.
const FILE: &str = "plausibility.toml";

fn bad<T>(entry: &str, what: impl Into<String>) -> Result<T, RuleError> {
    inconsistent(FILE, entry, what)
}

/// A contradiction in a file, as an error.
pub(super) fn inconsistent<T>(
    file: &'static str,
    entry: &str,
    what: impl Into<String>,
) -> Result<T, RuleError> {
    Err(RuleError::Inconsistent {
        file,
        entry: entry.to_owned(),
        what: what.into(),
    })
}

/// Reads a TOML file of the shape.
pub(super) fn read<T: serde::de::DeserializeOwned>(
    file: &'static str,
    text: &str,
) -> Result<T, RuleError> {
    toml::from_str(text).map_err(|source| RuleError::Shape {
        file,
        source: Box::new(source),
    })
}

/// A TOML date as a calendar date.
pub(super) fn date(
    file: &'static str,
    entry: &str,
    found: &toml::value::Datetime,
) -> Result<Date, RuleError> {
    match found.to_string().parse() {
        Ok(date) => Ok(date),
        Err(_) => inconsistent(file, entry, "`review_by` must be a date"),
    }
}

impl Register {
    pub(super) fn parse(text: &str) -> Result<Self, RuleError> {
        let file: File = read(FILE, text)?;
        if file.schema != SCHEMA {
            return Err(RuleError::Schema {
                file: FILE,
                found: file.schema,
            });
        }
        let mut rules = BTreeMap::new();
        for entry in file.rule {
            let Some(known) = rule::by_id(&entry.id) else {
                return bad(&entry.id, "this build has no such rule");
            };
            let registered = registered(known, &entry)?;
            if rules.insert(known.id, registered).is_some() {
                return bad(known.id, "the rule is listed twice");
            }
        }
        match rule::ALL.iter().find(|rule| !rules.contains_key(rule.id)) {
            Some(missing) => bad(missing.id, "the rule is missing"),
            None => Ok(Self {
                version: file.version,
                rules,
            }),
        }
    }
}

fn registered(known: &'static Rule, entry: &Entry) -> Result<Registered, RuleError> {
    if [&entry.checks, &entry.source, &entry.owner]
        .iter()
        .any(|text| text.trim().is_empty())
    {
        return bad(
            known.id,
            "`checks`, `source` and `owner` must say something",
        );
    }
    let same = |found: BTreeSet<&str>, wanted: &[&'static str]| {
        found == wanted.iter().copied().collect::<BTreeSet<_>>()
    };
    if !same(
        entry.cases.keys().map(String::as_str).collect(),
        known.cases,
    ) {
        return bad(
            known.id,
            format!("its cases must be {}", known.cases.join(", ")),
        );
    }
    if !same(
        entry.limits.keys().map(String::as_str).collect(),
        known.limits,
    ) {
        return bad(
            known.id,
            format!("its limits must be {}", known.limits.join(", ")),
        );
    }
    if let Some((name, _)) = entry.limits.iter().find(|(_, value)| !value.is_finite()) {
        return bad(known.id, format!("limit `{name}` must be a finite number"));
    }
    for (name, case) in &entry.cases {
        if case.severity > known.effect_max {
            return bad(known.id, format!("case `{name}` may warn, and never block"));
        }
        if case.words.trim().is_empty() {
            return bad(known.id, format!("case `{name}` must say something"));
        }
        for word in blanks(&case.words) {
            let is_known = known.words.contains(&word) || known.limits.contains(&word);
            if !is_known {
                return bad(
                    known.id,
                    format!("case `{name}` has no word `{word}` to fill in"),
                );
            }
        }
    }
    Ok(Registered {
        checks: entry.checks.clone(),
        source: entry.source.clone(),
        owner: entry.owner.clone(),
        review_by: date(FILE, known.id, &entry.review_by)?,
        limits: entry.limits.clone(),
        cases: entry.cases.clone(),
    })
}

/// The names in braces of a sentence.
fn blanks(words: &str) -> impl Iterator<Item = &str> {
    words
        .split('{')
        .skip(1)
        .map(|rest| rest.split('}').next().unwrap_or_default())
}

/// A sentence with its blanks filled in.
pub(super) fn fill(words: &str, with: &[(&str, &str)], limits: &BTreeMap<String, f64>) -> String {
    let mut filled = words.to_owned();
    for (name, value) in with {
        filled = filled.replace(&format!("{{{name}}}"), value);
    }
    for (name, value) in limits {
        filled = filled.replace(&format!("{{{name}}}"), &super::element::number(*value));
    }
    // A blank may be empty, as the unit of a score.
    filled
        .replace("  ", " ")
        .replace(" ,", ",")
        .replace(" .", ".")
}
