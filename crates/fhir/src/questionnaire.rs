//! Questionnaires and the responses to them: is each answer where the form asks for it, of the right type,
//! and allowed; and is nothing missing that the form demands.
//!
//! Extraction, scoring and calculated expressions are not its business. What an expression would decide
//! (`enableWhenExpression`) counts as undecided, and nothing is demanded or forbidden on its account.
//! Start at [`check`]; [`Form`] is a Questionnaire ready to be checked against.
//!
//! Rules: <https://hl7.org/fhir/R4/questionnaire.html>, <https://hl7.org/fhir/R4/questionnaireresponse.html>.

mod answer;
mod compare;
mod enable;
mod form;
mod response;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

pub use form::Form;

use crate::catalogue::Catalogue;
use crate::definitions::Definitions;
use crate::finding::{Details, Finding, Severity, id};
use crate::json::{Document, Value};
use crate::terminology::{Membership, Terminology};
use crate::validate::{Report, each_resource};

/// Most forms that are kept ready.
const FORMS_MAX: usize = 512;

/// What checking answers needs from terminology.
pub trait Terms {
    /// Whether the value set holds the code; `None` if that cannot be decided. Without a system, any
    /// system of the value set will do.
    fn is_member(&self, value_set: &str, system: Option<&str>, code: &str) -> Option<bool>;

    /// Compares two UCUM quantities, each a number and a unit; `None` if they measure different things.
    fn compare(&self, left: (&str, &str), right: (&str, &str)) -> Option<Ordering>;
}

/// Decides nothing: every code set is unknown, and quantities compare only in the same unit.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTerms;

impl Terms for NoTerms {
    fn is_member(&self, _: &str, _: Option<&str>, _: &str) -> Option<bool> {
        None
    }

    fn compare(&self, left: (&str, &str), right: (&str, &str)) -> Option<Ordering> {
        (left.1 == right.1)
            .then(|| compare::numbers(left.0, right.0))
            .flatten()
    }
}

impl Terms for Terminology {
    fn is_member(&self, value_set: &str, system: Option<&str>, code: &str) -> Option<bool> {
        match self.member_of(value_set, system, code) {
            Membership::Member { .. } => Some(true),
            Membership::NotMember => Some(false),
            Membership::NotDecidable(_) => None,
        }
    }

    fn compare(&self, left: (&str, &str), right: (&str, &str)) -> Option<Ordering> {
        self.ucum().compare(left, right).ok()
    }
}

/// What a canonical URL of a questionnaire leads to.
#[derive(Clone, Debug)]
pub enum Found {
    /// The form.
    Form(Arc<Form>),
    /// A resource of another type.
    OtherType,
    /// Nothing at hand.
    Nothing,
}

/// The questionnaires of a catalogue, made ready once.
#[derive(Debug)]
pub struct Forms {
    catalogue: Arc<Catalogue>,
    ready: RwLock<BTreeMap<String, Arc<Form>>>,
}

impl Forms {
    /// The questionnaires of that catalogue.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>) -> Self {
        Self {
            catalogue,
            ready: RwLock::default(),
        }
    }

    /// The form of that canonical URL, with or without version.
    #[must_use]
    pub fn find(&self, canonical: &str) -> Found {
        let ready = self.ready.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(form) = ready.get(canonical) {
            return Found::Form(Arc::clone(form));
        }
        drop(ready);
        match self.catalogue.questionnaire(canonical) {
            Some(questionnaire) => {
                let form = Arc::new(Form::new(&questionnaire));
                let mut ready = self.ready.write().unwrap_or_else(PoisonError::into_inner);
                if ready.len() < FORMS_MAX {
                    ready.insert(canonical.to_owned(), Arc::clone(&form));
                }
                Found::Form(form)
            }
            None if self.catalogue.value_set(canonical).is_some()
                || self.catalogue.code_system(canonical).is_some()
                || self.catalogue.structure(canonical).is_some() =>
            {
                Found::OtherType
            }
            None => Found::Nothing,
        }
    }
}

/// Checks every QuestionnaireResponse of a document against its Questionnaire, and every Questionnaire in
/// itself.
#[must_use]
pub fn check(
    definitions: &Definitions,
    document: &Document<'_>,
    forms: &Forms,
    terms: &dyn Terms,
    findings_max: usize,
) -> Vec<Finding> {
    let mut report = Report::new(document, findings_max);
    each_resource(
        document,
        &["Questionnaire", "QuestionnaireResponse"],
        &mut |resource, expression| {
            if resource.get("resourceType").and_then(Value::as_str) == Some("Questionnaire") {
                form::check(resource, expression, &mut report);
            } else {
                one(definitions, resource, expression, forms, terms, &mut report);
            }
        },
    );
    report.finish()
}

/// Checks one QuestionnaireResponse.
fn one(
    definitions: &Definitions,
    resource: Value<'_>,
    expression: &str,
    forms: &Forms,
    terms: &dyn Terms,
    report: &mut Report<'_>,
) {
    let stated = resource.get("questionnaire");
    let Some((at, canonical)) = stated.and_then(|at| Some((at, at.as_str()?))) else {
        report.warning(
            id::QUESTIONNAIRE_UNKNOWN,
            stated.unwrap_or(resource),
            expression.to_owned(),
            "the response names no questionnaire, so its answers were not checked against one"
                .to_owned(),
        );
        return;
    };
    let at_questionnaire = format!("{expression}.questionnaire");
    let form = match canonical.strip_prefix('#') {
        Some(local) => contained(resource, local).map_or(Found::Nothing, |it| {
            Found::Form(Arc::new(Form::new(&it.to_json())))
        }),
        None => forms.find(canonical),
    };
    match form {
        Found::Form(form) => {
            let check = response::Check::new(definitions, &form, terms, resource, report);
            check.run(expression);
        }
        Found::OtherType => report.error(
            id::QUESTIONNAIRE_UNKNOWN,
            at,
            at_questionnaire,
            "this URL belongs to a resource that is no Questionnaire".to_owned(),
        ),
        Found::Nothing => report.warning(
            id::QUESTIONNAIRE_UNKNOWN,
            at,
            at_questionnaire,
            "the questionnaire is not at hand, so the answers were not checked against it"
                .to_owned(),
        ),
    }
}

/// The contained resource of that id.
fn contained<'d>(resource: Value<'d>, wanted: &str) -> Option<Value<'d>> {
    resource.get("contained")?.children().find(|it| {
        it.get("id").and_then(Value::as_str) == Some(wanted)
            && it.get("resourceType").and_then(Value::as_str) == Some("Questionnaire")
    })
}

/// Adds which questionnaire demands it to the findings from `first` on.
fn name_source(findings: &mut [Finding], url: Option<&str>) {
    for finding in findings {
        let details = finding.details.get_or_insert_with(Box::<Details>::default);
        details.profile = url.map(str::to_owned);
    }
}

/// The severity of what a finished response must have, and an unfinished one may still lack.
fn severity_by_status(resource: Value<'_>) -> Severity {
    match resource.get("status").and_then(Value::as_str) {
        Some("completed" | "amended") => Severity::Error,
        _ => Severity::Information,
    }
}

#[cfg(test)]
mod tests;
