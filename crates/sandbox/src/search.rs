//! Search: from URL parameters to matching resources.
//!
//! Not SQL and not a planner: it narrows by id, identifier or patient when it can, then checks
//! every criterion (`criteria`) against the extracted index. No chaining, no includes. Start at
//! [`Query::parse`] and [`run`].
//!
//! # Source
//! FHIR R4, search, <https://hl7.org/fhir/R4/search.html>.

use std::cmp::Ordering;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::criteria::{By, Criterion, Target, criterion, target, terms_to_look_up};
use crate::definitions::ResourceType;
use crate::index::IndexValue;
use crate::outcome::Refusal;
use crate::storage::{Narrowing, Storage, Version};

/// Page size when the client names none.
const COUNT_DEFAULT: usize = 50;
/// The largest page; a larger `_count` is lowered to it, as the standard allows.
const COUNT_MAX: usize = 500;
/// The most name-value pairs in one search.
const PARAMETERS_MAX: usize = 50;
/// The most keys in one `_sort`.
const SORT_KEYS_MAX: usize = 10;
/// The parameter that carries the position in a `next` link; our own, not part of the standard.
const OFFSET: &str = "_offset";

/// What to do with parameters the server does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handling {
    /// Refuse with 400 (`Prefer: handling=strict`).
    Strict,
    /// Ignore (the default).
    Lenient,
}

/// A parsed search on one type.
#[derive(Debug)]
pub(crate) struct Query {
    kind: &'static ResourceType,
    criteria: Vec<Criterion>,
    sort: Vec<SortKey>,
    count: usize,
    offset: usize,
    /// The parameters in effect, for the links of the answer.
    applied: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ascending,
    Descending,
}

#[derive(Debug)]
struct SortKey {
    target: Target,
    direction: Direction,
}

impl Query {
    /// Reads the parameters of a search on `kind`.
    ///
    /// # Errors
    /// 400 for a value or modifier that cannot be understood, always; for an unknown parameter or
    /// an empty value only when `handling` is strict.
    pub(crate) fn parse(
        kind: &'static ResourceType,
        pairs: &[(String, String)],
        handling: Handling,
        base: &str,
    ) -> Result<Self, Refusal> {
        if pairs.len() > PARAMETERS_MAX {
            return Err(Refusal::invalid(format!(
                "a search takes at most {PARAMETERS_MAX} parameters"
            )));
        }
        let mut query = Self {
            kind,
            criteria: Vec::new(),
            sort: Vec::new(),
            count: COUNT_DEFAULT,
            offset: 0,
            applied: Vec::new(),
        };
        for (name, value) in pairs {
            if value.is_empty() {
                if handling == Handling::Strict {
                    return Err(Refusal::invalid("a search parameter has no value"));
                }
                continue;
            }
            if query.control(name, value, handling)? {
                continue;
            }
            match criterion(kind, name, value, base)? {
                Some(criterion) => {
                    query.criteria.push(criterion);
                    query.applied.push((name.clone(), value.clone()));
                }
                None if handling == Handling::Strict => {
                    return Err(Refusal::unsupported_parameter(format!(
                        "a search parameter is not known for {}; it knows: _id, _lastUpdated, {}",
                        kind.name,
                        kind.parameters
                            .iter()
                            .map(|parameter| parameter.name)
                            .collect::<Vec<_>>()
                            .join(", ")
                    )));
                }
                None => {}
            }
        }
        Ok(query)
    }

    /// Whether any criterion is in effect; a search without one returns the whole type.
    pub(crate) fn has_criteria(&self) -> bool {
        !self.criteria.is_empty()
    }

    /// Takes a parameter that steers the answer; false when it is not one of those.
    fn control(&mut self, name: &str, value: &str, handling: Handling) -> Result<bool, Refusal> {
        match name {
            "_count" => self.count = number(value, "_count")?.min(COUNT_MAX),
            OFFSET => {
                self.offset = number(value, OFFSET)?;
                return Ok(true);
            }
            "_sort" => {
                for key in value.split(',').take(SORT_KEYS_MAX) {
                    let (direction, name) = match key.strip_prefix('-') {
                        Some(name) => (Direction::Descending, name),
                        None => (Direction::Ascending, key),
                    };
                    match target(self.kind, name) {
                        Some((_, target)) => self.sort.push(SortKey { target, direction }),
                        None if handling == Handling::Strict => {
                            return Err(Refusal::unsupported_parameter(
                                "_sort names a parameter that is not known for this type",
                            ));
                        }
                        None => {}
                    }
                }
            }
            "_summary" if value == "count" => self.count = 0,
            "_summary" if value == "false" => {}
            "_total" if ["accurate", "estimate", "none"].contains(&value) => {}
            "_format" if ["json", "application/json", "application/fhir+json"].contains(&value) => {
            }
            "_format" => {
                return Err(Refusal::unsupported_parameter(
                    "only the JSON format is offered",
                ));
            }
            _ => return Ok(false),
        }
        self.applied.push((name.to_owned(), value.to_owned()));
        Ok(true)
    }

    fn matches(&self, version: &Version) -> bool {
        self.criteria
            .iter()
            .all(|criterion| criterion.matches(version))
    }

    fn compare(&self, left: &Version, right: &Version) -> Ordering {
        for key in &self.sort {
            let ordering = match key.target {
                Target::Id => directed(left.id.cmp(&right.id), key.direction),
                Target::LastUpdated => directed(left.at.cmp(&right.at), key.direction),
                Target::Parameter(position, _) => {
                    compare_values(position, key.direction, left, right)
                }
            };
            if ordering != Ordering::Equal {
                return ordering;
            }
        }
        left.id.cmp(&right.id)
    }

    fn url(&self, base: &str, offset: usize) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.applied);
        if offset > 0 {
            query.append_pair(OFFSET, &offset.to_string());
        }
        let query = query.finish();
        let separator = if query.is_empty() { "" } else { "?" };
        format!("{base}/{}{separator}{query}", self.kind.name)
    }
}

fn directed(ordering: Ordering, direction: Direction) -> Ordering {
    match direction {
        Direction::Ascending => ordering,
        Direction::Descending => ordering.reverse(),
    }
}

/// Compares by the least value (ascending) or the greatest (descending); resources without a
/// value come last either way.
fn compare_values(position: u8, direction: Direction, left: &Version, right: &Version) -> Ordering {
    match (
        sort_value(position, direction, left),
        sort_value(position, direction, right),
    ) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(left), Some(right)) => directed(left.cmp(&right), direction),
    }
}

fn sort_value(position: u8, direction: Direction, version: &Version) -> Option<SortValue<'_>> {
    let values = version
        .index
        .values(position)
        .map(|value| SortValue::of(value, direction));
    match direction {
        Direction::Ascending => values.min(),
        Direction::Descending => values.max(),
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SortValue<'a> {
    Instant(i64),
    Text(&'a str),
}

impl<'a> SortValue<'a> {
    fn of(value: &'a IndexValue, direction: Direction) -> Self {
        match value {
            IndexValue::Date(range) => Self::Instant(match direction {
                Direction::Ascending => range.low_ms,
                Direction::Descending => range.high_ms,
            }),
            IndexValue::Token { code, .. } => Self::Text(code.as_deref().unwrap_or("")),
            IndexValue::Code(text) | IndexValue::Reference(text) | IndexValue::Uri(text) => {
                Self::Text(text)
            }
            IndexValue::Text { folded, .. } => Self::Text(folded),
        }
    }
}

fn number(value: &str, name: &str) -> Result<usize, Refusal> {
    value
        .parse()
        .map_err(|_| Refusal::invalid(format!("{name} is not a whole number")))
}

/// Every match, sorted.
pub(crate) fn matching<'a>(storage: &'a Storage, query: &Query) -> Vec<&'a Arc<Version>> {
    let mut found: Vec<&Arc<Version>> = Vec::new();
    let narrowed = terms_to_look_up(&query.criteria);
    let narrowing = match &narrowed {
        None => Narrowing::All,
        Some((By::Id, terms)) => Narrowing::Ids(terms),
        Some((By::Identifier, terms)) => Narrowing::Identifiers(terms),
        Some((By::Patient, terms)) => Narrowing::Patients(terms),
    };
    storage.visit(query.kind, narrowing, |version| {
        if query.matches(version) {
            found.push(version);
        }
    });
    if !query.sort.is_empty() {
        found.sort_by(|left, right| query.compare(left, right));
    }
    found
}

#[derive(Serialize)]
struct SearchSet<'a> {
    #[serde(rename = "resourceType")]
    resource_type: &'static str,
    r#type: &'static str,
    total: usize,
    link: Vec<Link>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entry: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Link {
    relation: &'static str,
    url: String,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "fullUrl")]
    full_url: String,
    resource: &'a RawValue,
    search: Mode,
}

#[derive(Serialize)]
struct Mode {
    mode: &'static str,
}

/// Runs a search and writes the searchset Bundle.
pub(crate) fn run(storage: &Storage, query: &Query) -> serde_json::Result<Box<RawValue>> {
    let found = matching(storage, query);
    let base = storage.base();
    let mut link = vec![Link {
        relation: "self",
        url: query.url(base, query.offset),
    }];
    let next = query.offset.saturating_add(query.count);
    if query.count > 0 && next < found.len() {
        link.push(Link {
            relation: "next",
            url: query.url(base, next),
        });
    }
    let entry = found
        .iter()
        .skip(query.offset)
        .take(query.count)
        .filter_map(|version| {
            Some(Entry {
                full_url: format!("{base}/{}/{}", version.kind.name, version.id),
                resource: version.body.as_deref()?,
                search: Mode { mode: "match" },
            })
        })
        .collect();
    serde_json::value::to_raw_value(&SearchSet {
        resource_type: "Bundle",
        r#type: "searchset",
        total: found.len(),
        link,
        entry,
    })
}
