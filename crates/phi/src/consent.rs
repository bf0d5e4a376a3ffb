//! Consent: whether a patient's Consent resources, and the law that comes before them, allow an access.
//!
//! ```text
//! law overlays ─▶ break-glass ─▶ each Consent in force: base rule, exceptions, exceptions of exceptions
//!              ─▶ together: a refusal counts, unless a newer Consent takes the older one's place
//!              ─▶ none that says anything: what holds without consent ─▶ obligations ─▶ permit or deny
//! ```
//! Pure: the Consents were read by somebody else ([`Directive::read`]), the table is the bundle's
//! ([`ConsentTable`]), the time is given. What cannot be decided is a deny with a code; codes say nothing about
//! the patient. Not here: fetching, keeping and recording (the engine), and whose resource it is
//! (`chaperone-fhir`).
//!
//! Reading order: [`Question`] and [`Decision`]; [`decide`]; `weigh` (one Consent), `criteria` (one provision);
//! [`contact`] (how a patient wishes to be reached) and [`hours`] (when not).
//!
//! # Source
//! FHIR R4 Consent (<https://hl7.org/fhir/R4/consent.html>); 45 CFR 164.506, 164.508, 164.522; 42 CFR Part 2;
//! requirements R051, R062, R072.

use std::collections::BTreeSet;

use chaperone_core::Timestamp;
use serde_json::Value;

use crate::labels::{Labels, Restriction};

pub mod contact;
mod criteria;
mod directive;
pub mod hours;
mod period;
mod redact;
mod table;
mod weigh;

#[cfg(test)]
mod tests;

pub use directive::{CONSENTS_MAX, Directive, Home, Unclear};
pub use redact::leave_out;
pub use table::{ConsentTable, RULES, TableInvalid};

use table::{Effect, Execute};
use weigh::{Permission, Said};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read, by an agent or a person.
    Read,
    /// Add to or change the record.
    Write,
    /// Send something to the patient or to others.
    Send,
}

/// What it is to be done to.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// Something of this type; which, is not known yet. Refused only when no resource of the type could be
    /// permitted.
    Type(&'a str),
    /// This resource.
    Resource(&'a Value),
}

/// Who is to do it.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// An agent, by its id.
    Agent(&'a str),
    /// A person of the organisation.
    Person,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The purpose of use, a code of v3-ActReason.
    pub purpose: &'a str,
    /// What is to be done.
    pub action: Action,
    /// By whom.
    pub asker: Asker<'a>,
    /// To what.
    pub subject: Subject<'a>,
    /// Whether a person has broken the glass for this patient and stands behind this access.
    pub break_glass: bool,
    /// Whether a notice would reach whoever receives the data.
    pub can_notify: bool,
    /// Now.
    pub now: Timestamp,
}

/// What the Consents of one patient say, as far as they could be read.
#[derive(Debug, Clone, Default)]
pub struct Consents {
    /// Those in force.
    pub directives: Vec<Directive>,
    /// Why one could not be read, if one could not.
    pub unclear: Option<Unclear>,
}

impl Consents {
    /// Reads all Consents of a patient.
    pub fn read<'v>(consents: impl IntoIterator<Item = &'v Value>, home: Home<'_>) -> Self {
        let mut read = Self::default();
        for (position, consent) in consents.into_iter().enumerate() {
            if position >= CONSENTS_MAX {
                read.unclear = Some(Unclear::Limit);
                break;
            }
            match Directive::read(consent, home) {
                Ok(None) => {}
                Ok(Some(directive)) => read.directives.push(directive),
                Err(unclear) => {
                    read.unclear = Some(read.unclear.map_or(unclear, |it| it.min(unclear)))
                }
            }
        }
        read
    }
}

/// What a permission rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// What holds without consent.
    WithoutConsent,
    /// Consents, by their logical ids at the EHR.
    Consents(Vec<String>),
    /// A person broke the glass.
    BreakGlass,
}

/// What must be done with what is permitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obligations {
    /// Elements to leave out, `Type.element`; [`leave_out`] does it.
    pub leave_out: BTreeSet<String>,
    /// Texts to say to whoever receives it.
    pub notices: BTreeSet<String>,
}

impl Obligations {
    fn add(&mut self, other: Obligations) {
        self.leave_out.extend(other.leave_out);
        self.notices.extend(other.notices);
    }
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// A law that comes before every consent; the id of its entry.
    Law(String),
    /// A Consent refuses; its logical id.
    Refused(String),
    /// A Consent cannot be read.
    Unclear(Unclear),
    /// The purpose is none that is listed.
    PurposeUnknown,
    /// The purpose needs a consent that names it.
    PurposeNeedsConsent,
    /// A label needs a consent that names it.
    LabelNeedsConsent,
    /// The labels cannot be read.
    LabelsUnclear,
    /// The permission comes with an obligation that cannot be kept here.
    Obligation,
}

impl Denial {
    /// Stable code; says nothing about the patient beyond which kind of rule decided.
    pub fn code(&self) -> String {
        match self {
            Denial::Law(id) => format!("law-{id}"),
            Denial::Refused(_) => "consent-refuses".to_owned(),
            Denial::Unclear(unclear) => unclear.code(),
            Denial::PurposeUnknown => "purpose-unknown".to_owned(),
            Denial::PurposeNeedsConsent => "purpose-needs-consent".to_owned(),
            Denial::LabelNeedsConsent => "label-needs-consent".to_owned(),
            Denial::LabelsUnclear => "labels-unclear".to_owned(),
            Denial::Obligation => "obligation-cannot-be-kept".to_owned(),
        }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, with what it rests on and what must be done.
    Permit {
        /// What it rests on.
        basis: Basis,
        /// What must be done.
        obligations: Obligations,
    },
    /// Not allowed.
    Deny(Denial),
}

/// What must be named by a consent before it opens a resource.
#[derive(Debug, Clone, Default)]
struct Needed {
    restrictions: Vec<Restriction>,
    /// Labels that an overlay names.
    labels: BTreeSet<String>,
    obligations: Obligations,
}

/// Decides.
pub fn decide(table: &ConsentTable, consents: &Consents, question: &Question<'_>) -> Decision {
    match permitted(table, consents, question) {
        Ok((basis, obligations)) => Decision::Permit { basis, obligations },
        Err(denial) => Decision::Deny(denial),
    }
}

fn permitted(
    table: &ConsentTable,
    consents: &Consents,
    question: &Question<'_>,
) -> Result<(Basis, Obligations), Denial> {
    if !table.is_purpose(question.purpose) {
        return Err(Denial::PurposeUnknown);
    }
    let needed = under_law(table, question)?;
    if breaks_glass(question) {
        return kept(question, Basis::BreakGlass, needed.obligations);
    }
    if let Some(unclear) = consents.unclear {
        return Err(Denial::Unclear(unclear));
    }
    let mut permissions: Vec<(&Directive, Permission<'_>)> = Vec::new();
    let in_force = weigh::in_force(table, &consents.directives, question)?;
    for directive in &in_force {
        match weigh::weigh(table, directive, question)? {
            Said::Nothing => {}
            Said::Denies => return Err(Denial::Refused(directive.id.clone())),
            Said::Permits(permission) => permissions.push((directive, permission)),
        }
    }
    let is_open = table.permits_without_consent(question.purpose)
        || permissions.iter().any(|(_, it)| it.names_purpose);
    if !is_open {
        return Err(Denial::PurposeNeedsConsent);
    }
    let counts = |(directive, _): &&(&Directive, Permission<'_>)| {
        directive.is_verified || !table.verified.restricted_labels
    };
    let opens = |wanted: &dyn Fn(&Permission<'_>) -> bool| {
        permissions.iter().filter(counts).any(|(_, it)| wanted(it))
    };
    for restriction in &needed.restrictions {
        if !opens(&|it: &Permission<'_>| it.names_restriction(table, restriction)) {
            return Err(Denial::LabelNeedsConsent);
        }
    }
    for label in &needed.labels {
        if !opens(&|it: &Permission<'_>| it.names_label(table, label)) {
            return Err(Denial::LabelNeedsConsent);
        }
    }
    let mut obligations = needed.obligations;
    for (_, permission) in &permissions {
        obligations.add(permission.obligations(table)?);
    }
    let basis = if permissions.is_empty() {
        Basis::WithoutConsent
    } else {
        Basis::Consents(permissions.iter().map(|(it, _)| it.id.clone()).collect())
    };
    kept(question, basis, obligations)
}

/// Breaking the glass is a person's decision and reaches that person; no agent has it.
fn breaks_glass(question: &Question<'_>) -> bool {
    question.break_glass && matches!(question.asker, Asker::Person)
}

/// A permission holds only with what it obliges to.
fn kept(
    question: &Question<'_>,
    basis: Basis,
    obligations: Obligations,
) -> Result<(Basis, Obligations), Denial> {
    let can_leave_out = question.action == Action::Read;
    if (!obligations.notices.is_empty() && !question.can_notify)
        || (!obligations.leave_out.is_empty() && !can_leave_out)
    {
        return Err(Denial::Obligation);
    }
    Ok((basis, obligations))
}

/// The law that comes first: it denies, or says what a consent must name.
fn under_law(table: &ConsentTable, question: &Question<'_>) -> Result<Needed, Denial> {
    let mut needed = Needed::default();
    let labels = match question.subject {
        Subject::Type(_) => None,
        Subject::Resource(resource) => Some(Labels::of(resource)),
    };
    if let Some(labels) = &labels {
        needed.restrictions = labels.restrictions();
        if needed.restrictions.contains(&Restriction::Unclear) {
            return Err(Denial::LabelsUnclear);
        }
    }
    for overlay in &table.overlays {
        let is_for = |whole: &String| table.is_within(question.purpose, whole);
        if !overlay.purposes.is_empty() && !overlay.purposes.iter().any(is_for) {
            continue;
        }
        let carried: Vec<&String> = match &labels {
            // Which labels there will be is not known yet.
            None if !overlay.labels.is_empty() => continue,
            None => Vec::new(),
            Some(labels) => {
                let carries = |code: &&String| labels.carries(code);
                overlay.labels.iter().filter(carries).collect()
            }
        };
        if !overlay.labels.is_empty() && carried.is_empty() {
            continue;
        }
        let breaks_glass = breaks_glass(question);
        let passes = breaks_glass && overlay.break_glass;
        match overlay.effect {
            Effect::Deny if passes => {}
            Effect::Deny => return Err(Denial::Law(overlay.id.clone())),
            Effect::NeedsConsent => needed.labels.extend(carried.into_iter().cloned()),
        }
        if breaks_glass && !overlay.break_glass {
            return Err(Denial::Law(overlay.id.clone()));
        }
        let notice = overlay.notice.as_deref().and_then(|id| table.notice(id));
        needed.obligations.notices.extend(notice.map(str::to_owned));
    }
    Ok(needed)
}

/// What an obligation code of a provision asks; `None` when the label is no obligation.
fn obligation_of(table: &ConsentTable, code: &str) -> Option<Result<Obligations, Denial>> {
    let rule = table.obligations.iter().find(|rule| rule.code == code)?;
    Some(match rule.execute {
        Execute::Refuse => Err(Denial::Obligation),
        Execute::LeaveOut => Ok(Obligations {
            leave_out: rule.fields.iter().cloned().collect(),
            notices: BTreeSet::new(),
        }),
        Execute::Notice => match rule.notice.as_deref().and_then(|id| table.notice(id)) {
            None => Err(Denial::Obligation),
            Some(text) => Ok(Obligations {
                leave_out: BTreeSet::new(),
                notices: BTreeSet::from([text.to_owned()]),
            }),
        },
    })
}
