//! Whether a provision matches a question: every criterion that it names must, and of each list one value.
//!
//! Four answers: yes, no, unknown (nobody can tell from what is there) and later (it depends on a resource that is
//! not known yet). What follows from the last two is decided in `super::weigh`.

use chaperone_fhir::references::ReferenceForm;
use serde_json::Value;

use super::directive::{Actor, Coding, Concept, Kind, Meaning, NamedData, Rule};
use super::period::Span;
use super::table::ConsentTable;
use super::{Asker, Question, Subject, obligation_of};
use crate::labels::{CONFIDENTIALITY_SYSTEM, Confidentiality, Labels};

/// Identifier system of agents, as Provenance and Consent name them.
const AGENT_SYSTEM: &str = "urn:chaperone:agent";
/// Deepest nesting in which references are looked for.
const DEPTH_MAX: usize = 50;
/// Types that are documents: a class may be the kind of document.
const DOCUMENTS: [&str; 4] = [
    "DocumentReference",
    "Composition",
    "Bundle",
    "DocumentManifest",
];

/// Whether a criterion matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    Unknown,
    Later,
}

impl Match {
    fn is(known: bool) -> Self {
        if known { Match::Yes } else { Match::No }
    }
}

/// All must match: one that does not decides, then one that is not known yet, then one nobody can tell.
fn all(criteria: impl IntoIterator<Item = Match>) -> Match {
    criteria
        .into_iter()
        .fold(Match::Yes, |so_far, next| match (so_far, next) {
            (Match::No, _) | (_, Match::No) => Match::No,
            (Match::Later, _) | (_, Match::Later) => Match::Later,
            (Match::Unknown, _) | (_, Match::Unknown) => Match::Unknown,
            (Match::Yes, Match::Yes) => Match::Yes,
        })
}

/// One must match; a criterion that names nothing always does.
fn any<T>(values: &[T], matches: impl Fn(&T) -> Match) -> Match {
    if values.is_empty() {
        return Match::Yes;
    }
    values
        .iter()
        .map(matches)
        .fold(Match::No, |so_far, next| match (so_far, next) {
            (Match::Yes, _) | (_, Match::Yes) => Match::Yes,
            (Match::Later, _) | (_, Match::Later) => Match::Later,
            (Match::Unknown, _) | (_, Match::Unknown) => Match::Unknown,
            (Match::No, Match::No) => Match::No,
        })
}

/// The question, with what is looked up in the resource more than once.
pub(super) struct Asked<'a> {
    table: &'a ConsentTable,
    question: &'a Question<'a>,
    resource: Option<&'a Value>,
    type_name: &'a str,
    labels: Labels,
}

impl<'a> Asked<'a> {
    pub(super) fn new(table: &'a ConsentTable, question: &'a Question<'a>) -> Self {
        let (resource, type_name, labels) = match question.subject {
            Subject::Type(name) => (None, name, Labels::default()),
            Subject::Resource(resource) => (
                Some(resource),
                resource
                    .get("resourceType")
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
                Labels::of(resource),
            ),
        };
        Self {
            table,
            question,
            resource,
            type_name,
            labels,
        }
    }

    /// Whether a rule matches, for what it says.
    pub(super) fn matches(&self, rule: &Rule, kind: Kind) -> Match {
        let period = rule
            .period
            .is_none_or(|period| period.holds(self.question.now));
        all([
            Match::is(period),
            any(&rule.actors, |actor| self.actor(actor, kind)),
            any(&rule.actions, |action| self.action(action, kind)),
            any(&rule.purposes, |purpose| self.purpose(purpose)),
            any(&rule.classes, |class| self.class(class)),
            self.labels(&rule.labels, kind),
            any(&rule.codes, |code| self.code(code)),
            rule.data_period
                .map_or(Match::Yes, |period| self.data_period(&period, kind)),
            any(&rule.data, |data| self.data(data)),
        ])
    }

    fn actor(&self, actor: &Actor, kind: Kind) -> Match {
        let matched = self.who(actor);
        let known_role = |coding: &Coding| self.table.actors.roles.contains(&coding.code);
        let has_role = actor.role.codings.iter().any(known_role);
        match (matched, kind) {
            // A refusal counts in whatever role; a permission only in one that is listed.
            (Match::Yes, Kind::Permit) if !has_role => Match::Unknown,
            (matched, _) => matched,
        }
    }

    fn who(&self, actor: &Actor) -> Match {
        let actors = &self.table.actors;
        let agent = match self.question.asker {
            Asker::Agent(id) => Some(id),
            Asker::Person => None,
        };
        if let Some(identifier) = &actor.who.identifier
            && let Some((AGENT_SYSTEM, id)) = identifier.split_once('|')
        {
            return Match::is(agent == Some(id));
        }
        let Some(own) = &actor.who.own else {
            return Match::Unknown;
        };
        let devices = agent.and_then(|id| actors.devices.get(id));
        if actors.organisation.contains(own) || devices.is_some_and(|all| all.contains(own)) {
            return Match::Yes;
        }
        let type_name = own.split('/').next().unwrap_or_default();
        match type_name {
            "Patient" | "RelatedPerson" => Match::No,
            "Organization" if !actors.organisation.is_empty() => Match::No,
            "Device" if agent.is_none() || devices.is_some() => Match::No,
            _ => Match::Unknown,
        }
    }

    fn action(&self, action: &Concept, kind: Kind) -> Match {
        let named = self.table.actions_of(self.question.action);
        let wanted = match kind {
            Kind::Permit => &named.permits,
            Kind::Deny => &named.refuses,
        };
        match action.codings.is_empty() {
            true => Match::Unknown,
            false => Match::is(action.codings.iter().any(|it| wanted.contains(&it.code))),
        }
    }

    fn purpose(&self, purpose: &Coding) -> Match {
        if self.table.is_within(self.question.purpose, &purpose.code) {
            Match::Yes
        } else if self.table.is_purpose(&purpose.code) {
            Match::No
        } else {
            Match::Unknown
        }
    }

    fn labels(&self, labels: &[Coding], kind: Kind) -> Match {
        let is_about_data = |label: &&Coding| obligation_of(self.table, &label.code).is_none();
        let criteria: Vec<&Coding> = labels.iter().filter(is_about_data).collect();
        any(&criteria, |label| match self.resource {
            None => Match::Later,
            Some(_) => self.label(label, kind),
        })
    }

    /// A confidentiality is a high-water mark: a permission reaches what is as confidential or less, a refusal
    /// what is as confidential or more. Every other label matches itself and what it includes.
    ///
    /// # Source
    /// FHIR R4, Consent.provision.securityLabel. It calls the mark "or lower" without telling permission from
    /// refusal; a refusal of the restricted that let the very restricted pass would be absurd.
    fn label(&self, label: &Coding, kind: Kind) -> Match {
        if label.system == CONFIDENTIALITY_SYSTEM {
            let Some(mark) = Confidentiality::parse(&label.code) else {
                return Match::Unknown;
            };
            let level = self.labels.confidentiality();
            return Match::is(match kind {
                Kind::Permit => level <= mark,
                Kind::Deny => level >= mark,
            });
        }
        let mut carried = self.labels.all().iter();
        Match::is(carried.any(|it| self.table.label_includes(&label.code, &it.code)))
    }

    fn class(&self, class: &Coding) -> Match {
        const TYPES: &str = "http://hl7.org/fhir/resource-types";
        let is_name = class.code.starts_with(|c: char| c.is_ascii_uppercase())
            && class.code.bytes().all(|b| b.is_ascii_alphabetic());
        if class.system == TYPES || (class.system.is_empty() && is_name) {
            return Match::is(class.code == self.type_name);
        }
        let Some(resource) = self.resource else {
            return Match::Later;
        };
        if class.code.contains("://") {
            let profiles = resource.pointer("/meta/profile").and_then(Value::as_array);
            let mut claimed = profiles.into_iter().flatten().filter_map(Value::as_str);
            return Match::is(
                claimed.any(|profile| profile.split('|').next().unwrap_or(profile) == class.code),
            );
        }
        if !DOCUMENTS.contains(&self.type_name) {
            return Match::No;
        }
        let codings = self.codings(resource);
        if codings.contains(class) {
            Match::Yes
        } else if codings.iter().any(|it| it.system == class.system) {
            Match::No
        } else {
            Match::Unknown
        }
    }

    fn code(&self, code: &Concept) -> Match {
        let Some(resource) = self.resource else {
            return Match::Later;
        };
        let carried = self.codings(resource);
        if code.codings.is_empty() || carried.is_empty() {
            return Match::Unknown;
        }
        let is_same = |wanted: &Coding| {
            carried.iter().any(|it| {
                it.code == wanted.code && (wanted.system.is_empty() || it.system == wanted.system)
            })
        };
        Match::is(code.codings.iter().any(is_same))
    }

    /// The codings that say what a resource is.
    fn codings(&self, resource: &Value) -> Vec<Coding> {
        let mut all = Vec::new();
        for element in &self.table.elements.codes {
            let value = match resource.get(element) {
                None => continue,
                Some(Value::Array(items)) => items.iter().collect(),
                Some(one) => vec![one],
            };
            for concept in value {
                // A Coding stands for itself, such as `Encounter.class`.
                let codings = match concept.get("coding").and_then(Value::as_array) {
                    Some(codings) => codings.iter().collect(),
                    None => vec![concept],
                };
                all.extend(codings.into_iter().filter_map(|coding| {
                    let text = |name: &str| coding.get(name).and_then(Value::as_str);
                    Some(Coding {
                        system: text("system").unwrap_or_default().to_owned(),
                        code: text("code")?.to_owned(),
                    })
                }));
            }
        }
        all
    }

    fn data_period(&self, period: &Span, kind: Kind) -> Match {
        let Some(resource) = self.resource else {
            return Match::Later;
        };
        let first = self.table.elements.dates.iter();
        let Some(value) = first.filter_map(|name| resource.get(name)).next() else {
            return Match::Unknown;
        };
        let span = match value {
            Value::String(text) => Span::of_date(text),
            other => Span::of_period(other),
        };
        match span {
            None => Match::Unknown,
            Some(span) => Match::is(match kind {
                Kind::Permit => period.covers(&span),
                Kind::Deny => period.meets(&span),
            }),
        }
    }

    fn data(&self, data: &NamedData) -> Match {
        let Some(resource) = self.resource else {
            return Match::Later;
        };
        let Some(wanted) = &data.what.own else {
            return Match::Unknown;
        };
        let id = resource.get("id").and_then(Value::as_str);
        let Some(id) = id else {
            return Match::Unknown;
        };
        if *wanted == format!("{}/{id}", self.type_name) {
            return Match::Yes;
        }
        match data.meaning {
            Meaning::Instance => Match::No,
            Meaning::Dependents | Meaning::AuthoredBy => {
                Match::is(refers_to(resource, wanted, DEPTH_MAX))
            }
            // What the named resource refers to does not stand in this one.
            Meaning::Related => Match::Unknown,
        }
    }
}

/// Whether a resource refers to `Type/id`, in whatever form; nested too deep counts as yes.
fn refers_to(value: &Value, wanted: &str, left: usize) -> bool {
    let Some(left) = left.checked_sub(1) else {
        return true;
    };
    match value {
        Value::Array(items) => items.iter().any(|item| refers_to(item, wanted, left)),
        Value::Object(members) => members.iter().any(|(name, value)| match value {
            Value::String(text) if name == "reference" => match ReferenceForm::parse(text) {
                ReferenceForm::Typed {
                    resource_type, id, ..
                } => wanted.split_once('/') == Some((resource_type, id)),
                _ => false,
            },
            other => refers_to(other, wanted, left),
        }),
        _ => false,
    }
}
