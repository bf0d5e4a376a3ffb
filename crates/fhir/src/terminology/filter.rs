//! The filters of value sets, evaluated over a code system.
//!
//! Each filter selects rows of a [`System`]; a filter that cannot be evaluated says why, and its value
//! set is then not decidable.
//! Start at [`select`].

use std::collections::BTreeSet;

use super::system::{Concept, System};
use super::undecided::Undecided;
use crate::canonical::Filter;

/// Largest compiled regular expression, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Rows of a system, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows(Vec<u64>);

impl Rows {
    pub(super) fn contains(&self, row: u32) -> bool {
        self.0
            .get((row / 64) as usize)
            .is_some_and(|bits| bits >> (row % 64) & 1 == 1)
    }

    fn of(rows: impl IntoIterator<Item = u32>, count: usize) -> Self {
        let mut bits = vec![0_u64; count.div_ceil(64)];
        for row in rows {
            if let Some(word) = bits.get_mut((row / 64) as usize) {
                *word |= 1 << (row % 64);
            }
        }
        Self(bits)
    }

    fn and(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine &= theirs;
        }
    }
}

/// The rows that satisfy every filter.
///
/// # Errors
/// A filter cannot be evaluated.
///
/// # Source
/// FHIR R4 value set filter-operator, <https://hl7.org/fhir/R4/valueset-filter-operator.html>.
pub(super) fn select(system: &System, filters: &[Filter]) -> Result<Rows, Undecided> {
    let count = system.concepts().len();
    let mut rows: Option<Rows> = None;
    for filter in filters {
        let selected = one(system, filter).map_err(|why| Undecided::FilterUnsupported {
            system: system.url.to_string(),
            property: filter.property.clone(),
            op: filter.op.clone(),
            why,
        })?;
        let selected = Rows::of(selected, count);
        match &mut rows {
            Some(rows) => rows.and(&selected),
            None => rows = Some(selected),
        }
    }
    Ok(rows.unwrap_or_default())
}

fn one(system: &System, filter: &Filter) -> Result<BTreeSet<u32>, &'static str> {
    let is_code = matches!(filter.property.as_str(), "concept" | "code");
    match filter.op.as_str() {
        "is-a" => Ok(system.descendants(start(system, filter)?)),
        "descendent-of" | "descendant-of" => {
            let start = start(system, filter)?;
            let mut rows = system.descendants(start);
            rows.remove(&start);
            Ok(rows)
        }
        "is-not-a" => {
            let below = system.descendants(start(system, filter)?);
            Ok(all(system).filter(|row| !below.contains(row)).collect())
        }
        "generalizes" => Ok(system.ancestors(start(system, filter)?)),
        "=" => {
            known(system, filter, is_code)?;
            let wanted = filter.value.as_str();
            Ok(matching(system, filter, |values| values.contains(&wanted)))
        }
        "in" | "not-in" => {
            known(system, filter, is_code)?;
            let wanted: BTreeSet<&str> = filter.value.split(',').map(str::trim).collect();
            let is_in = filter.op == "in";
            Ok(matching(system, filter, |values| {
                values.iter().any(|it| wanted.contains(it)) == is_in
            }))
        }
        "regex" => {
            known(system, filter, is_code)?;
            let regex = regex::RegexBuilder::new(&format!("^(?:{})$", filter.value))
                .size_limit(REGEX_BYTES_MAX)
                .build()
                .map_err(|_| "the regular expression is not understood")?;
            Ok(matching(system, filter, |values| {
                values.iter().any(|it| regex.is_match(it))
            }))
        }
        "exists" => {
            known(system, filter, is_code)?;
            let wanted = match filter.value.as_str() {
                "true" => true,
                "false" => false,
                _ => return Err("`exists` takes `true` or `false`"),
            };
            Ok(matching(system, filter, |values| {
                values.is_empty() != wanted
            }))
        }
        _ => Err("the operator is unknown"),
    }
}

fn all(system: &System) -> impl Iterator<Item = u32> {
    (0..).zip(system.concepts()).map(|(row, _)| row)
}

/// The row that a filter on the hierarchy starts from.
fn start(system: &System, filter: &Filter) -> Result<u32, &'static str> {
    if !system.is_hierarchy {
        return Err("the hierarchy of the system does not mean `is-a`");
    }
    if !matches!(
        filter.property.as_str(),
        "concept" | "code" | "parent" | "subsumedBy"
    ) {
        return Err("the property is no hierarchy");
    }
    system
        .find(&filter.value)
        .map(|found| found.row)
        .ok_or("the system does not have the code that it names")
}

/// Refuses properties that the system does not have at all.
fn known(system: &System, filter: &Filter, is_code: bool) -> Result<(), &'static str> {
    let name = filter.property.as_str();
    let is_own = is_code || BUILT_IN.contains(&name);
    let is_stated = || {
        system
            .concepts()
            .iter()
            .any(|it| it.properties.iter().any(|(code, _)| **code == *name))
    };
    let is_declared = system.declared.iter().any(|it| **it == *name);
    if is_own || is_declared || is_stated() {
        Ok(())
    } else {
        Err("the system has no such property")
    }
}

/// Properties that every concept has.
const BUILT_IN: [&str; 6] = [
    "display",
    "parent",
    "child",
    "inactive",
    "notSelectable",
    "abstract",
];

fn matching(system: &System, filter: &Filter, test: impl Fn(&[&str]) -> bool) -> BTreeSet<u32> {
    (0..)
        .zip(system.concepts())
        .filter(|(_, concept)| test(&values(system, concept, &filter.property)))
        .map(|(row, _)| row)
        .collect()
}

/// The values of a property of a concept.
fn values<'s>(system: &'s System, concept: &'s Concept, property: &str) -> Vec<&'s str> {
    let codes = |rows: &'s [u32]| {
        rows.iter()
            .filter_map(|row| Some(&*system.concept(*row)?.code))
            .collect()
    };
    let flag = |value: bool| vec![if value { "true" } else { "false" }];
    match property {
        "concept" | "code" => vec![&concept.code],
        "display" => concept.display.iter().map(|it| &**it).collect(),
        "parent" => codes(&concept.parents),
        "child" => codes(&concept.children),
        "inactive" => flag(concept.inactive),
        "notSelectable" | "abstract" => flag(concept.is_abstract),
        _ => concept
            .properties
            .iter()
            .filter(|(code, _)| **code == *property)
            .map(|(_, value)| &**value)
            .collect(),
    }
}
