//! What one Consent says to a question, and which of several count.
//!
//! The base rule is the root of the provisions; those inside it are exceptions, those inside them exceptions from
//! exceptions. The deepest rule that matches decides, and of two equally deep ones the refusal. Where nobody can
//! tell whether a rule matches, a refusal counts and a permission does not.
//!
//! Before a search nothing is known of the resources but their type. What depends on more is then taken for the
//! permission: a whole read is refused only when nothing that it could find would be permitted.

use std::collections::BTreeSet;

use super::criteria::{Asked, Match};
use super::directive::{Coding, Directive, Kind, Rule};
use super::table::ConsentTable;
use super::{Denial, Obligations, Question, Unclear, obligation_of};
use crate::labels::{CONFIDENTIALITY_SYSTEM, Confidentiality, Restriction};

/// What a Consent says.
#[derive(Debug)]
pub(super) enum Said<'d> {
    Nothing,
    Denies,
    Permits(Permission<'d>),
}

/// A permission, and what it names.
#[derive(Debug)]
pub(super) struct Permission<'d> {
    labels: &'d [Coding],
    pub(super) names_purpose: bool,
    pub(super) names_class: bool,
}

impl Permission<'_> {
    /// Whether it names what restricts a resource.
    pub(super) fn names_restriction(&self, table: &ConsentTable, what: &Restriction) -> bool {
        match what {
            Restriction::Unclear => false,
            Restriction::Sensitivity(code) => self.names_label(table, code),
            Restriction::Confidentiality(level) => self
                .labels
                .iter()
                .filter(|label| label.system == CONFIDENTIALITY_SYSTEM)
                .filter_map(|label| Confidentiality::parse(&label.code))
                .any(|named| named >= *level),
        }
    }

    pub(super) fn names_label(&self, table: &ConsentTable, code: &str) -> bool {
        self.labels
            .iter()
            .any(|label| table.label_includes(&label.code, code))
    }

    /// What it obliges to.
    pub(super) fn obligations(&self, table: &ConsentTable) -> Result<Obligations, Denial> {
        let mut all = Obligations::default();
        for label in self.labels {
            if let Some(obligation) = obligation_of(table, &label.code) {
                all.add(obligation?);
            }
        }
        Ok(all)
    }
}

/// The rule that decides, so far.
struct Verdict<'d> {
    depth: usize,
    kind: Kind,
    rule: &'d Rule,
}

impl<'d> Verdict<'d> {
    /// The deeper of two; of equally deep ones the refusal.
    fn or_deeper(self, other: Verdict<'d>) -> Verdict<'d> {
        let other_wins =
            other.depth > self.depth || (other.depth == self.depth && other.kind == Kind::Deny);
        if other_wins { other } else { self }
    }
}

/// The Consents that speak about the purpose now, without those whose place a newer one has taken.
///
/// # Errors
/// A Consent of an unlisted scope.
pub(super) fn in_force<'d>(
    table: &ConsentTable,
    directives: &'d [Directive],
    question: &Question<'_>,
) -> Result<Vec<&'d Directive>, Denial> {
    let mut candidates = Vec::new();
    for directive in directives {
        let reaches = table
            .scope_reaches(&directive.scope, question.purpose)
            .ok_or(Denial::Unclear(Unclear::Scope))?;
        let is_open = directive
            .root
            .period
            .is_none_or(|span| span.holds(question.now));
        if reaches && is_open && !is_contact_only(table, directive) {
            candidates.push(directive);
        }
    }
    Ok(without_replaced(table, &candidates))
}

/// Without those whose place a newer one of them has taken.
pub(super) fn without_replaced<'d>(
    table: &ConsentTable,
    candidates: &[&'d Directive],
) -> Vec<&'d Directive> {
    let is_replaced = |old: &Directive| candidates.iter().any(|new| replaces(table, new, old));
    let mut kept = candidates.to_vec();
    kept.retain(|old| !is_replaced(old));
    kept
}

/// Whether it is about channels to the patient and nothing else.
fn is_contact_only(table: &ConsentTable, directive: &Directive) -> bool {
    let contact = &table.contact;
    !directive.categories.is_empty()
        && directive
            .categories
            .iter()
            .all(|it| it.system == contact.category_system && it.code == contact.category)
}

/// Whether a newer Consent says itself that it takes an older one's place, for the same scope and grantee.
fn replaces(table: &ConsentTable, new: &Directive, old: &Directive) -> bool {
    let is_newer = match (new.date, old.date) {
        (Some(new), Some(old)) => new > old,
        _ => false,
    };
    let names_it = new.source.as_deref() == Some(&*format!("Consent/{}", old.id))
        || new
            .identifiers
            .iter()
            .any(|it| old.identifiers.contains(it));
    is_newer
        && names_it
        && new.scope == old.scope
        && grantees(new) == grantees(old)
        && (new.is_verified || !needs_verification(table, new))
}

fn grantees(directive: &Directive) -> BTreeSet<(Option<&str>, Option<&str>)> {
    let actors = directive.root.actors.iter().map(|actor| &actor.who);
    actors
        .chain(&directive.organisations)
        .map(|who| (who.own.as_deref(), who.identifier.as_deref()))
        .collect()
}

fn needs_verification(table: &ConsentTable, directive: &Directive) -> bool {
    table.verified.scopes.contains(&directive.scope)
}

/// Weighs one Consent.
///
/// # Errors
/// It has no rule that could be followed.
pub(super) fn weigh<'d>(
    table: &ConsentTable,
    directive: &'d Directive,
    question: &Question<'_>,
) -> Result<Said<'d>, Denial> {
    let asked = Asked::new(table, question);
    walk(table, directive, &|rule, kind| asked.matches(rule, kind))
}

/// Follows the rules of one Consent, whatever they are matched with.
///
/// # Errors
/// It has no rule that could be followed.
pub(super) fn walk<'d>(
    table: &ConsentTable,
    directive: &'d Directive,
    matches: &Matches<'_>,
) -> Result<Said<'d>, Denial> {
    let root = &directive.root;
    let base = root.kind.or(directive.policy);
    let found = match base {
        Some(kind) => verdict(matches, root, kind, 0),
        None => match matches(root, Kind::Deny) {
            Match::No => return Ok(Said::Nothing),
            _ => exceptions(matches, root, 0),
        },
    };
    let said = match (found, base) {
        (Some(found), _) => match found.kind {
            Kind::Deny => Said::Denies,
            Kind::Permit => Said::Permits(Permission {
                labels: &found.rule.labels,
                names_purpose: !found.rule.purposes.is_empty(),
                names_class: !found.rule.classes.is_empty(),
            }),
        },
        // Beside its rules, the policy it rests on still holds.
        (None, Some(_)) => match directive.policy {
            Some(Kind::Deny) => Said::Denies,
            Some(Kind::Permit) => Said::Permits(Permission {
                labels: &[],
                names_purpose: false,
                names_class: false,
            }),
            None => Said::Nothing,
        },
        (None, None) if is_acknowledgement(table, directive) => Said::Nothing,
        (None, None) if directive.scope == "patient-privacy" => {
            return Err(Denial::Unclear(Unclear::NoBaseRule));
        }
        (None, None) => Said::Nothing,
    };
    Ok(match said {
        Said::Permits(_) if needs_verification(table, directive) && !directive.is_verified => {
            Said::Nothing
        }
        said => said,
    })
}

/// Whether it only says that the patient was told something.
fn is_acknowledgement(table: &ConsentTable, directive: &Directive) -> bool {
    let is_listed = |category: &Coding| {
        table
            .acknowledgements
            .iter()
            .any(|it| it.system == category.system && it.code == category.code)
    };
    directive.root.exceptions.is_empty()
        && !directive.categories.is_empty()
        && directive.categories.iter().all(is_listed)
}

/// Whether a rule matches, for what it says.
pub(super) type Matches<'m> = dyn Fn(&Rule, Kind) -> Match + 'm;

fn verdict<'d>(
    matches: &Matches<'_>,
    rule: &'d Rule,
    kind: Kind,
    depth: usize,
) -> Option<Verdict<'d>> {
    let matched = matches(rule, kind);
    if matched == Match::No {
        return None;
    }
    let own = Verdict { depth, kind, rule };
    let found = match exceptions(matches, rule, depth) {
        None => own,
        Some(inner) => own.or_deeper(inner),
    };
    match (matched, kind, found.kind) {
        (Match::Yes | Match::No, _, _) => Some(found),
        // What may turn out either way is taken for the permission; see above.
        (Match::Later, _, Kind::Permit) => Some(found),
        (Match::Later, _, Kind::Deny) => None,
        (Match::Unknown, _, Kind::Deny) => Some(found),
        // A permission inside a refusal of which nobody can tell whether it holds.
        (Match::Unknown, Kind::Deny, Kind::Permit) => Some(Verdict {
            kind: Kind::Deny,
            ..found
        }),
        (Match::Unknown, Kind::Permit, Kind::Permit) => None,
    }
}

/// The deepest verdict among the exceptions from a rule. Reading has bounded how deep they go.
fn exceptions<'d>(matches: &Matches<'_>, rule: &'d Rule, depth: usize) -> Option<Verdict<'d>> {
    rule.exceptions
        .iter()
        .filter_map(|inner| verdict(matches, inner, inner.kind?, depth.saturating_add(1)))
        .reduce(Verdict::or_deeper)
}
