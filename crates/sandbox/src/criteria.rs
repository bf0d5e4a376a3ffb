//! One search parameter: reading it from the URL and checking it against a resource's index.
//!
//! Which resources are looked at, and in what order they are answered, is in `search`. Start at
//! [`criterion`] and [`Criterion::matches`].
//!
//! # Source
//! FHIR R4, search parameter types, modifiers and prefixes, <https://hl7.org/fhir/R4/search.html>.

use crate::dates::{DateRange, Prefix};
use crate::definitions::{ParameterKind, ResourceType};
use crate::index::{IndexValue, folded, normal_reference};
use crate::outcome::Refusal;
use crate::storage::Version;

/// The most alternatives (commas) in one parameter.
const ALTERNATIVES_MAX: usize = 200;

/// What a criterion looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Id,
    LastUpdated,
    Parameter(u8, ParameterKind),
}

/// One parameter: satisfied when any alternative is (or none, when negated).
#[derive(Debug)]
pub(crate) struct Criterion {
    name: &'static str,
    target: Target,
    negated: bool,
    alternatives: Vec<Wanted>,
}

#[derive(Debug)]
enum Wanted {
    Id(String),
    Missing(bool),
    Token {
        system: System,
        code: Option<String>,
    },
    Date(Prefix, DateRange),
    Reference {
        kind: Option<String>,
        id: String,
    },
    ReferenceAsIs(String),
    TextStarts(String),
    TextContains(String),
    TextExact(String),
    Uri(String),
}

#[derive(Debug)]
enum System {
    Any,
    Absent,
    Is(String),
}

/// How the storage can narrow a search, the most selective first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Id,
    Identifier,
    Patient,
}

/// The terms of the most selective criterion that the storage can look up.
pub(crate) fn terms_to_look_up(criteria: &[Criterion]) -> Option<(By, Vec<&str>)> {
    criteria
        .iter()
        .filter(|criterion| !criterion.negated)
        .filter_map(|criterion| {
            let by = match criterion.name {
                "_id" => By::Id,
                "identifier" => By::Identifier,
                "patient" | "subject" => By::Patient,
                _ => return None,
            };
            let terms: Option<Vec<&str>> = criterion
                .alternatives
                .iter()
                .map(|wanted| match (by, wanted) {
                    (By::Id, Wanted::Id(id)) => Some(id.as_str()),
                    (By::Identifier, Wanted::Token { code, .. }) => code.as_deref(),
                    (By::Patient, Wanted::Reference { kind, id })
                        if kind.as_deref() == Some("Patient") =>
                    {
                        Some(id.as_str())
                    }
                    _ => None,
                })
                .collect();
            terms.map(|terms| (by, terms))
        })
        .min_by_key(|(by, _)| *by)
}

/// What a parameter name stands for on a type; `None` when it is unknown.
pub(crate) fn target(kind: &'static ResourceType, name: &str) -> Option<(&'static str, Target)> {
    match name {
        "_id" => Some(("_id", Target::Id)),
        "_lastUpdated" => Some(("_lastUpdated", Target::LastUpdated)),
        _ => kind
            .parameter(name)
            .map(|(at, parameter)| (parameter.name, Target::Parameter(at, parameter.kind))),
    }
}

/// Reads one `name[:modifier]=value`; `None` when the name is unknown.
pub(crate) fn criterion(
    kind: &'static ResourceType,
    name: &str,
    value: &str,
    base: &str,
) -> Result<Option<Criterion>, Refusal> {
    let (name, modifier) = name
        .split_once(':')
        .map_or((name, None), |(name, modifier)| (name, Some(modifier)));
    let Some((name, target)) = target(kind, name) else {
        return Ok(None);
    };
    let alternatives = split_escaped(value);
    if alternatives.len() > ALTERNATIVES_MAX {
        return Err(Refusal::invalid(format!(
            "a parameter takes at most {ALTERNATIVES_MAX} alternatives"
        )));
    }
    let negated =
        modifier == Some("not") && matches!(target, Target::Parameter(_, ParameterKind::Token));
    let modifier = if negated { None } else { modifier };
    let alternatives = alternatives
        .iter()
        .map(|text| wanted(name, target, modifier, text, base))
        .collect::<Result<_, _>>()?;
    Ok(Some(Criterion {
        name,
        target,
        negated,
        alternatives,
    }))
}

fn wanted(
    name: &str,
    target: Target,
    modifier: Option<&str>,
    text: &str,
    base: &str,
) -> Result<Wanted, Refusal> {
    let date = |text: &str| {
        let (prefix, rest) = Prefix::split(text);
        DateRange::parse(rest)
            .map(|range| Wanted::Date(prefix, range))
            .ok_or_else(|| Refusal::invalid(format!("the value of {name} is not a FHIR date")))
    };
    let kind = match target {
        Target::Id if modifier.is_none() => return Ok(Wanted::Id(text.to_owned())),
        Target::LastUpdated if modifier.is_none() => return date(text),
        Target::Id | Target::LastUpdated => return Err(bad_modifier(name)),
        Target::Parameter(_, kind) => kind,
    };
    match (modifier, kind) {
        (Some("missing"), _) => match text {
            "true" => Ok(Wanted::Missing(true)),
            "false" => Ok(Wanted::Missing(false)),
            _ => Err(Refusal::invalid(format!(
                "the value of {name}:missing is neither true nor false"
            ))),
        },
        (None, ParameterKind::Token) => Ok(match text.split_once('|') {
            None => Wanted::Token {
                system: System::Any,
                code: Some(text.to_owned()),
            },
            Some(("", code)) => Wanted::Token {
                system: System::Absent,
                code: some_text(code),
            },
            Some((system, code)) => Wanted::Token {
                system: System::Is(system.to_owned()),
                code: some_text(code),
            },
        }),
        (None, ParameterKind::Date) => date(text),
        (None, ParameterKind::Reference) => Ok(reference(text, None, base)),
        (None, ParameterKind::PatientReference) => Ok(reference(text, Some("Patient"), base)),
        (Some(of_type), ParameterKind::Reference | ParameterKind::PatientReference)
            if crate::definitions::resource_type(of_type).is_some() =>
        {
            Ok(reference(text, Some(of_type), base))
        }
        (None, ParameterKind::Text) => Ok(Wanted::TextStarts(folded(text))),
        (Some("contains"), ParameterKind::Text) => Ok(Wanted::TextContains(folded(text))),
        (Some("exact"), ParameterKind::Text) => Ok(Wanted::TextExact(text.to_owned())),
        (None, ParameterKind::Uri) => Ok(Wanted::Uri(text.to_owned())),
        (Some(_), _) => Err(bad_modifier(name)),
    }
}

fn bad_modifier(name: &str) -> Refusal {
    Refusal::unsupported_parameter(format!("the modifier on {name} is not offered"))
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn reference(text: &str, assumed: Option<&str>, base: &str) -> Wanted {
    let normal = normal_reference(text, base);
    match normal.split_once('/') {
        None if !normal.contains(':') => Wanted::Reference {
            kind: assumed.map(str::to_owned),
            id: normal.to_owned(),
        },
        Some((kind, id)) if !id.contains('/') => Wanted::Reference {
            kind: Some(kind.to_owned()),
            id: id.to_owned(),
        },
        _ => Wanted::ReferenceAsIs(normal.to_owned()),
    }
}

/// Splits at commas that are not escaped and resolves the escapes `\,` `\|` `\$` `\\`.
fn split_escaped(value: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => part.extend(characters.next()),
            ',' => parts.push(std::mem::take(&mut part)),
            other => part.push(other),
        }
    }
    parts.push(part);
    parts
}

impl Criterion {
    pub(crate) fn matches(&self, version: &Version) -> bool {
        self.negated
            != self
                .alternatives
                .iter()
                .any(|wanted| self.one(wanted, version))
    }

    fn one(&self, wanted: &Wanted, version: &Version) -> bool {
        match (self.target, wanted) {
            (Target::Id, Wanted::Id(id)) => *version.id == **id,
            (Target::LastUpdated, Wanted::Date(prefix, range)) => {
                let at = version.at.as_millisecond();
                let instant = DateRange {
                    low_ms: at,
                    high_ms: at.saturating_add(1),
                };
                prefix.holds(instant, *range)
            }
            (Target::Parameter(position, _), Wanted::Missing(missing)) => {
                version.index.values(position).next().is_none() == *missing
            }
            (Target::Parameter(position, _), wanted) => version
                .index
                .values(position)
                .any(|value| satisfied(wanted, value)),
            (Target::Id | Target::LastUpdated, _) => false,
        }
    }
}

fn satisfied(wanted: &Wanted, value: &IndexValue) -> bool {
    match (wanted, value) {
        (
            Wanted::Token { system, code },
            IndexValue::Token {
                system: has_system,
                code: has_code,
            },
        ) => {
            let system_agrees = match system {
                System::Any => true,
                System::Absent => has_system.is_none(),
                System::Is(system) => has_system.as_deref() == Some(system),
            };
            system_agrees
                && code
                    .as_deref()
                    .is_none_or(|code| has_code.as_deref() == Some(code))
        }
        // A plain code has the system of its binding, which is not written in the resource.
        (Wanted::Token { code, .. }, IndexValue::Code(has)) => code.as_deref() == Some(&**has),
        (Wanted::Date(prefix, range), IndexValue::Date(has)) => prefix.holds(*has, *range),
        (Wanted::Reference { kind, id }, IndexValue::Reference(has)) => {
            has.split_once('/').is_some_and(|(has_kind, has_id)| {
                has_id == id && kind.as_deref().is_none_or(|kind| has_kind == kind)
            })
        }
        (Wanted::ReferenceAsIs(text), IndexValue::Reference(has))
        | (Wanted::Uri(text), IndexValue::Uri(has)) => **has == **text,
        (Wanted::TextStarts(text), IndexValue::Text { folded, .. }) => {
            folded.starts_with(text.as_str())
        }
        (Wanted::TextContains(text), IndexValue::Text { folded, .. }) => {
            folded.contains(text.as_str())
        }
        (Wanted::TextExact(text), IndexValue::Text { exact, .. }) => **exact == **text,
        _ => false,
    }
}
