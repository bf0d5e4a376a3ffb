//! A Consent resource, read into something that cannot be misread: status, scope, base rule, exceptions.
//!
//! What stands in an active Consent and cannot be read makes it unclear, and an unclear Consent refuses: it is
//! never passed over as if it were not there. What it means for a question is `super::weigh`'s business.
//! Start at [`Directive::read`].

use chaperone_core::Timestamp;
use chaperone_fhir::references::ReferenceForm;
use serde_json::{Map, Value};

use super::period::Span;

/// Most Consents of one patient that are looked at; more are unclear.
pub const CONSENTS_MAX: usize = 100;
/// Deepest nesting of provisions.
const DEPTH_MAX: usize = 10;
/// Most provisions of one Consent.
const PROVISIONS_MAX: usize = 500;
/// Most values of one criterion.
const VALUES_MAX: usize = 200;
/// Longest text of a criterion that is compared, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Why an active Consent cannot be read. Says nothing about its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unclear {
    /// Not a Consent at all.
    #[error("not-a-consent")]
    NotAConsent,
    /// No status, or one that R4 does not have.
    #[error("status")]
    Status,
    /// Not plainly about this patient.
    #[error("patient")]
    Patient,
    /// A scope that the table does not list.
    #[error("scope")]
    Scope,
    /// An element that changes the meaning of others and is not understood.
    #[error("modifier")]
    Modifier,
    /// Neither `permit` nor `deny`.
    #[error("type")]
    Kind,
    /// A period that is none.
    #[error("period")]
    Period,
    /// A date that is none.
    #[error("date")]
    Date,
    /// A criterion of another form than R4's.
    #[error("criterion")]
    Criterion,
    /// Deeper, longer or more than is looked at.
    #[error("limit")]
    Limit,
    /// It has no base rule, and its policy is none that is known.
    #[error("no-base-rule")]
    NoBaseRule,
}

impl Unclear {
    /// The stable code.
    pub fn code(self) -> String {
        format!("consent-unclear-{self}")
    }
}

/// Whether a rule permits or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Permit,
    Deny,
}

/// A coding; the system is empty when none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Coding {
    pub(super) system: String,
    pub(super) code: String,
}

/// A concept: its codings. One of text alone has none, and nobody can tell what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Concept {
    pub(super) codings: Vec<Coding>,
}

/// Something that a reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// `Type/id` at this EHR; `None` where it leads elsewhere or cannot be followed.
    pub(super) own: Option<String>,
    /// `system|value` of an identifier.
    pub(super) identifier: Option<String>,
}

/// An actor of a provision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Actor {
    pub(super) role: Concept,
    pub(super) who: Named,
}

/// How data that a provision names stands for other data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Instance,
    Related,
    Dependents,
    AuthoredBy,
}

/// Data that a provision names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedData {
    pub(super) meaning: Meaning,
    pub(super) what: Named,
}

/// A provision. Empty criteria say nothing; the kind is absent in a base rule that leaves it to the policy.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    pub(super) kind: Option<Kind>,
    pub(super) period: Option<Span>,
    pub(super) actors: Vec<Actor>,
    pub(super) actions: Vec<Concept>,
    pub(super) labels: Vec<Coding>,
    pub(super) purposes: Vec<Coding>,
    pub(super) classes: Vec<Coding>,
    pub(super) codes: Vec<Concept>,
    pub(super) data_period: Option<Span>,
    pub(super) data: Vec<NamedData>,
    pub(super) exceptions: Vec<Rule>,
}

/// An active Consent.
#[derive(Debug, Clone)]
pub struct Directive {
    /// Logical id.
    pub(super) id: String,
    pub(super) scope: String,
    /// `system|code` of its categories.
    pub(super) categories: Vec<Coding>,
    pub(super) date: Option<Timestamp>,
    pub(super) identifiers: Vec<String>,
    pub(super) organisations: Vec<Named>,
    /// The Consent that it names as its source.
    pub(super) source: Option<String>,
    pub(super) is_verified: bool,
    /// What the policy rule says when the base rule does not: `OPTIN` refuses, `OPTOUT` permits.
    pub(super) policy: Option<Kind>,
    pub(super) root: Rule,
}

/// Whose Consents are read, and from where.
#[derive(Debug, Clone, Copy)]
pub struct Home<'a> {
    /// Logical id of the patient.
    pub patient: &'a str,
    /// Base URL of the EHR.
    pub base_url: &'a str,
}

impl Directive {
    /// Reads a Consent. `None` when it is not in force: any status but `active`.
    ///
    /// # Errors
    /// [`Unclear`]: it is in force, or may be, and cannot be read.
    pub fn read(consent: &Value, home: Home<'_>) -> Result<Option<Self>, Unclear> {
        let consent = consent.as_object().ok_or(Unclear::NotAConsent)?;
        if consent.get("resourceType").and_then(Value::as_str) != Some("Consent") {
            return Err(Unclear::NotAConsent);
        }
        match consent.get("status").and_then(Value::as_str) {
            Some("active") => {}
            Some("draft" | "proposed" | "rejected" | "inactive" | "entered-in-error") => {
                return Ok(None);
            }
            _ => return Err(Unclear::Status),
        }
        if consent.contains_key("modifierExtension") || consent.contains_key("implicitRules") {
            return Err(Unclear::Modifier);
        }
        let reader = Reader { home };
        let patient = consent.get("patient").ok_or(Unclear::Patient)?;
        let patient = reader.named(patient).map_err(|_| Unclear::Patient)?;
        if patient.own != Some(format!("Patient/{}", home.patient)) {
            return Err(Unclear::Patient);
        }
        let mut left = PROVISIONS_MAX;
        Ok(Some(Self {
            id: text(consent.get("id"))
                .map_err(|_| Unclear::NotAConsent)?
                .unwrap_or_default(),
            scope: scope(consent)?,
            categories: concepts(consent.get("category"))?
                .into_iter()
                .flat_map(|concept| concept.codings)
                .collect(),
            date: date(consent.get("dateTime"))?,
            identifiers: identifiers(consent)?,
            organisations: list(consent.get("organization"))?
                .iter()
                .map(|one| reader.named(one))
                .collect::<Result<_, _>>()?,
            source: match consent.get("sourceReference") {
                Some(source) => reader.named(source)?.own,
                None => None,
            },
            is_verified: is_verified(consent)?,
            policy: policy(consent)?,
            root: match consent.get("provision") {
                None => Rule::default(),
                Some(provision) => reader.rule(provision, 0, &mut left)?,
            },
        }))
    }

    /// Whether it has a category.
    pub(super) fn has_category(&self, system: &str, code: &str) -> bool {
        self.categories
            .iter()
            .any(|one| one.system == system && one.code == code)
    }
}

struct Reader<'a> {
    home: Home<'a>,
}

impl Reader<'_> {
    fn rule(&self, provision: &Value, depth: usize, left: &mut usize) -> Result<Rule, Unclear> {
        let provision = provision.as_object().ok_or(Unclear::Criterion)?;
        *left = left.checked_sub(1).ok_or(Unclear::Limit)?;
        if depth >= DEPTH_MAX {
            return Err(Unclear::Limit);
        }
        if provision.contains_key("modifierExtension") {
            return Err(Unclear::Modifier);
        }
        let kind = match provision.get("type") {
            None if provision.contains_key("_type") => return Err(Unclear::Kind),
            // An exception without a kind says nothing that could be followed.
            None if depth > 0 => return Err(Unclear::Kind),
            None => None,
            Some(Value::String(kind)) if kind == "permit" => Some(Kind::Permit),
            Some(Value::String(kind)) if kind == "deny" => Some(Kind::Deny),
            Some(_) => return Err(Unclear::Kind),
        };
        Ok(Rule {
            kind,
            period: span(provision.get("period"))?,
            actors: list(provision.get("actor"))?
                .iter()
                .map(|actor| self.actor(actor))
                .collect::<Result<_, _>>()?,
            actions: concepts(provision.get("action"))?,
            labels: codings(provision.get("securityLabel"))?,
            purposes: codings(provision.get("purpose"))?,
            classes: codings(provision.get("class"))?,
            codes: concepts(provision.get("code"))?,
            data_period: span(provision.get("dataPeriod"))?,
            data: list(provision.get("data"))?
                .iter()
                .map(|data| self.data(data))
                .collect::<Result<_, _>>()?,
            exceptions: list(provision.get("provision"))?
                .iter()
                .map(|inner| self.rule(inner, depth.saturating_add(1), left))
                .collect::<Result<_, _>>()?,
        })
    }

    fn actor(&self, actor: &Value) -> Result<Actor, Unclear> {
        let actor = actor.as_object().ok_or(Unclear::Criterion)?;
        if actor.contains_key("modifierExtension") {
            return Err(Unclear::Modifier);
        }
        let who = actor.get("reference").ok_or(Unclear::Criterion)?;
        Ok(Actor {
            role: concept(actor.get("role").ok_or(Unclear::Criterion)?)?,
            who: self.named(who)?,
        })
    }

    fn data(&self, data: &Value) -> Result<NamedData, Unclear> {
        let data = data.as_object().ok_or(Unclear::Criterion)?;
        if data.contains_key("modifierExtension") {
            return Err(Unclear::Modifier);
        }
        let meaning = match data.get("meaning").and_then(Value::as_str) {
            Some("instance") => Meaning::Instance,
            Some("related") => Meaning::Related,
            Some("dependents") => Meaning::Dependents,
            Some("authoredby") => Meaning::AuthoredBy,
            _ => return Err(Unclear::Criterion),
        };
        let what = data.get("reference").ok_or(Unclear::Criterion)?;
        Ok(NamedData {
            meaning,
            what: self.named(what)?,
        })
    }

    fn named(&self, reference: &Value) -> Result<Named, Unclear> {
        let reference = reference.as_object().ok_or(Unclear::Criterion)?;
        let own = text(reference.get("reference"))?.and_then(|text| self.own(&text));
        let identifier = match reference.get("identifier") {
            None => None,
            Some(identifier) => identifier_text(identifier)?,
        };
        Ok(Named { own, identifier })
    }

    fn own(&self, reference: &str) -> Option<String> {
        match ReferenceForm::parse(reference) {
            ReferenceForm::Typed {
                base,
                resource_type,
                id,
                ..
            } if base.is_none_or(|base| base == self.home.base_url.trim_end_matches('/')) => {
                Some(format!("{resource_type}/{id}"))
            }
            _ => None,
        }
    }
}

fn scope(consent: &Map<String, Value>) -> Result<String, Unclear> {
    let concept = concept(consent.get("scope").ok_or(Unclear::Scope)?)?;
    let mut codes = concept.codings.into_iter().map(|coding| coding.code);
    match (codes.next(), codes.next()) {
        (Some(code), None) => Ok(code),
        _ => Err(Unclear::Scope),
    }
}

/// `OPTIN` and `OPTOUT` of v3-ActCode; every other policy says nothing that can be followed.
fn policy(consent: &Map<String, Value>) -> Result<Option<Kind>, Unclear> {
    let Some(rule) = consent.get("policyRule") else {
        return Ok(None);
    };
    let is = |coding: &Coding, code: &str| {
        coding.code == code && coding.system.ends_with("/CodeSystem/v3-ActCode")
    };
    let codings = concept(rule)?.codings;
    let opts_in = codings.iter().any(|coding| is(coding, "OPTIN"));
    let opts_out = codings.iter().any(|coding| is(coding, "OPTOUT"));
    Ok(match (opts_in, opts_out) {
        (true, _) => Some(Kind::Deny),
        (false, true) => Some(Kind::Permit),
        (false, false) => None,
    })
}

fn is_verified(consent: &Map<String, Value>) -> Result<bool, Unclear> {
    let verifications = list(consent.get("verification"))?;
    let said: Vec<bool> = verifications
        .iter()
        .map(|one| one.get("verified").and_then(Value::as_bool))
        .collect::<Option<_>>()
        .ok_or(Unclear::Criterion)?;
    Ok(!said.is_empty() && said.into_iter().all(|verified| verified))
}

fn identifiers(consent: &Map<String, Value>) -> Result<Vec<String>, Unclear> {
    let mut found = Vec::new();
    for identifier in list(consent.get("identifier"))? {
        found.extend(identifier_text(identifier)?);
    }
    Ok(found)
}

fn identifier_text(identifier: &Value) -> Result<Option<String>, Unclear> {
    let identifier = identifier.as_object().ok_or(Unclear::Criterion)?;
    let system = text(identifier.get("system"))?;
    let value = text(identifier.get("value"))?;
    Ok(system
        .zip(value)
        .map(|(system, value)| format!("{system}|{value}")))
}

fn date(value: Option<&Value>) -> Result<Option<Timestamp>, Unclear> {
    match text(value).map_err(|_| Unclear::Date)? {
        None => Ok(None),
        Some(text) => Span::of_date(&text)
            .and_then(|span| span.from)
            .map(Some)
            .ok_or(Unclear::Date),
    }
}

fn span(value: Option<&Value>) -> Result<Option<Span>, Unclear> {
    match value {
        None => Ok(None),
        Some(value) => Span::of_period(value).map(Some).ok_or(Unclear::Period),
    }
}

fn list(value: Option<&Value>) -> Result<&[Value], Unclear> {
    match value {
        None => Ok(&[]),
        Some(Value::Array(items)) if items.len() <= VALUES_MAX => Ok(items),
        Some(Value::Array(_)) => Err(Unclear::Limit),
        Some(_) => Err(Unclear::Criterion),
    }
}

fn concepts(value: Option<&Value>) -> Result<Vec<Concept>, Unclear> {
    list(value)?.iter().map(concept).collect()
}

fn concept(value: &Value) -> Result<Concept, Unclear> {
    let concept = value.as_object().ok_or(Unclear::Criterion)?;
    Ok(Concept {
        codings: codings(concept.get("coding"))?,
    })
}

fn codings(value: Option<&Value>) -> Result<Vec<Coding>, Unclear> {
    list(value)?.iter().map(coding).collect()
}

fn coding(value: &Value) -> Result<Coding, Unclear> {
    let coding = value.as_object().ok_or(Unclear::Criterion)?;
    Ok(Coding {
        system: text(coding.get("system"))?.unwrap_or_default(),
        code: text(coding.get("code"))?
            .filter(|code| !code.is_empty())
            .ok_or(Unclear::Criterion)?,
    })
}

fn text(value: Option<&Value>) -> Result<Option<String>, Unclear> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) if text.len() <= TEXT_BYTES_MAX => Ok(Some(text.clone())),
        Some(Value::String(_)) => Err(Unclear::Limit),
        Some(_) => Err(Unclear::Criterion),
    }
}
