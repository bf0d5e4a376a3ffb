//! Invariants: FHIRPath conditions with a key.
//!
//! Each is compiled once and shared by all definitions that repeat it. One that cannot be evaluated is
//! reported as not checked; it is never taken for kept.
//! Start at [`Walk::invariant`].

use std::sync::{Arc, OnceLock};

use super::base_walk::Place;
use super::report::Draft;
use super::resolve::Resolver;
use super::walk::{Basis, Frame, Item, Walk, resource_type};
use crate::canonical::{Constraint, ConstraintSeverity};
use crate::fhirpath::{
    Conformance, ElementItem, Environment, EvaluationError, Expression, MemberOf, Resolve,
};
use crate::finding::{Severity, id};
use crate::json::Value;
use crate::terminology::Membership;

/// One invariant.
#[derive(Debug)]
pub(crate) struct Invariant {
    /// Its id, such as `ele-1`.
    pub(crate) key: Box<str>,
    pub(crate) severity: Severity,
    pub(crate) is_best_practice: bool,
    /// What it demands, in words.
    pub(crate) human: Box<str>,
    /// What it demands, in FHIRPath.
    pub(crate) expression: Box<str>,
    /// Canonical URL of the definition that states it.
    pub(crate) source: Box<str>,
    compiled: OnceLock<Result<Expression, String>>,
}

/// Invariants that the structural check and the check of Bundles keep by themselves, with their own
/// findings.
///
/// # Source
/// FHIR R4: Element (ele-1), Extension (ext-1), DomainResource (dom-2 to dom-5), Reference (ref-1),
/// Narrative (txt-1, txt-2), Bundle (bdl-1 to bdl-12).
const CHECKED_WITH_STRUCTURE: [(&str, &str); 9] = [
    ("ele-1", "/Element"),
    ("ext-1", "/Extension"),
    ("dom-2", "/DomainResource"),
    ("dom-3", "/DomainResource"),
    ("dom-4", "/DomainResource"),
    ("dom-5", "/DomainResource"),
    ("ref-1", "/Reference"),
    ("txt-1", "/Narrative"),
    ("txt-2", "/Narrative"),
];

/// Whether an invariant is one of those; definitions that leave out its source are judged by their own URL.
fn is_checked_with_structure(key: &str, source: &str) -> bool {
    crate::bundle::INVARIANTS.contains(&key)
        || CHECKED_WITH_STRUCTURE.iter().any(|(known, origin)| {
            key == *known && (source.starts_with(super::BASE_URL) || source.ends_with(origin))
        })
}

impl Invariant {
    /// The invariant of a constraint; `None` if it states no expression or is checked with the structure.
    pub(crate) fn of(constraint: &Constraint, source: &str) -> Option<Arc<Self>> {
        let expression = constraint.expression.as_deref()?;
        let key = constraint.key.as_str();
        let source = constraint.source.as_deref().unwrap_or(source);
        if is_checked_with_structure(key, source) {
            return None;
        }
        Some(Arc::new(Self {
            key: key.into(),
            severity: match constraint.severity {
                ConstraintSeverity::Error => Severity::Error,
                ConstraintSeverity::Warning => Severity::Warning,
            },
            is_best_practice: constraint.best_practice.0,
            human: constraint.human.as_str().into(),
            expression: expression.into(),
            source: source.into(),
            compiled: OnceLock::new(),
        }))
    }

    fn compiled(&self) -> Result<&Expression, &str> {
        self.compiled
            .get_or_init(|| Expression::invariant(&self.expression).map_err(|it| it.to_string()))
            .as_ref()
            .map_err(String::as_str)
    }
}

/// What expressions ask for beyond the resource, during one evaluation.
struct Surroundings<'a, 'd> {
    basis: &'a Basis<'d>,
    resolver: &'a Resolver<'d>,
    frame: &'a Frame<'d>,
    probes_nested: u32,
}

impl Resolve for Surroundings<'_, '_> {
    fn resolve(&self, reference: &str) -> Option<crate::fhirpath::Item<'_>> {
        let target = self.resolver.resolve(reference, self.frame)?;
        crate::fhirpath::Item::resource(self.basis.profiles.definitions, target.value)
    }
}

impl MemberOf for Surroundings<'_, '_> {
    fn member_of(&self, item: &crate::fhirpath::Item<'_>, value_set: &str) -> Option<bool> {
        let crate::fhirpath::Item::Element(element) = item else {
            return None;
        };
        let value = element.value()?;
        let decide = |system: Option<&str>, code: &str| match self
            .basis
            .terminology
            .member_of(value_set, system, code)
        {
            Membership::Member { .. } => Some(true),
            Membership::NotMember => Some(false),
            Membership::NotDecidable(_) => None,
        };
        let decide_coding = |coding: Value<'_>| {
            let text = |name: &str| coding.get(name).and_then(|it| it.as_str());
            match text("code") {
                Some(code) => decide(Some(text("system").unwrap_or_default()), code),
                None => Some(false),
            }
        };
        if let Some(code) = value.as_str() {
            return decide(None, code);
        }
        let Some(codings) = value.get("coding") else {
            return decide_coding(value);
        };
        let mut all_decided = true;
        for coding in codings.children() {
            match decide_coding(coding) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => all_decided = false,
            }
        }
        all_decided.then_some(false)
    }

    fn subsumes(
        &self,
        general: &crate::fhirpath::Item<'_>,
        specific: &crate::fhirpath::Item<'_>,
    ) -> Option<bool> {
        let part = |item: &crate::fhirpath::Item<'_>, name: &str| match item {
            crate::fhirpath::Item::Element(element) => {
                element.value()?.get(name)?.as_str().map(str::to_owned)
            }
            _ => None,
        };
        let system = part(general, "system")?;
        if part(specific, "system")? != system {
            return Some(false);
        }
        self.basis
            .terminology
            .subsumes(&system, &part(general, "code")?, &part(specific, "code")?)
    }
}

impl Conformance for Surroundings<'_, '_> {
    fn conforms_to(&self, item: &crate::fhirpath::Item<'_>, url: &str) -> Option<bool> {
        let crate::fhirpath::Item::Element(element) = item else {
            return None;
        };
        let value = element.value()?;
        let base = super::tree::ProfileLink::new(url);
        if let (Some(wanted), Some(own)) = (base.base_type(), resource_type(value))
            && self
                .basis
                .profiles
                .definitions
                .structure_named(wanted)
                .is_some()
        {
            return Some(super::walk::is_type_or_above(wanted, own));
        }
        let profile = self.basis.profiles.get(url)?;
        let mut walk = Walk::inside(self.basis, self.resolver.root(), self.probes_nested + 1);
        let item = Item::of(value, "");
        Some(walk.within(*self.frame, |walk| walk.conforms(&profile, item)))
    }
}

impl<'d> Walk<'d> {
    /// Evaluates an invariant on an item and reports a breach.
    pub(super) fn invariant(&mut self, invariant: &Invariant, item: Item<'d>) {
        let Some(at) = item.at() else { return };
        let Some(element) = self.element_item(item) else {
            return;
        };
        let outcome = match invariant.compiled() {
            Ok(expression) => self.evaluate(expression, element, &[]),
            Err(why) => Err(why.to_owned()),
        };
        self.conclude(invariant, at, outcome);
    }

    /// Evaluates an invariant on where an extension stands.
    pub(super) fn invariant_of_context(
        &mut self,
        invariant: &Invariant,
        container: Item<'d>,
        extension: Value<'d>,
    ) {
        let definitions = self.basis.profiles.definitions;
        let (Some(at), Some(element)) = (container.at(), self.element_item(container)) else {
            return;
        };
        let Some(own) = ElementItem::of_type(definitions, "Extension", Some(extension), None)
        else {
            return;
        };
        let values = [crate::fhirpath::Item::Element(own)];
        let variables = [("extension", values.as_slice())];
        let outcome = match invariant.compiled() {
            Ok(expression) => self.evaluate(expression, element, &variables),
            Err(why) => Err(why.to_owned()),
        };
        self.conclude(invariant, at, outcome);
    }

    fn conclude(&mut self, invariant: &Invariant, at: Value<'d>, outcome: Result<bool, String>) {
        let draft = match outcome {
            Ok(true) => return,
            Ok(false) => {
                let message = format!("{} ({})", invariant.human, invariant.key);
                Draft::new(id::INVARIANT, invariant.severity, message)
            }
            Err(why) => {
                let message = format!("invariant {} was not checked: {why}", invariant.key);
                Draft::new(id::INVARIANT_NOT_CHECKED, Severity::Information, message)
            }
        };
        self.report.add(
            at,
            draft
                .of_profile(&invariant.source)
                .of_constraint(&invariant.key)
                .of_best_practice(invariant.is_best_practice),
        );
    }

    /// Whether a FHIRPath context selects the container of an extension; what cannot be evaluated does not
    /// accuse.
    pub(super) fn is_selected(&mut self, expression: &str, container: &Place<'_, 'd>) -> bool {
        let Ok(expression) = Expression::parse(expression) else {
            return true;
        };
        let Some(resource) = self.frame_items.resource else {
            return true;
        };
        let surroundings = self.surroundings();
        let environment = environment(&surroundings, resource, self.frame_items.root, &[]);
        match expression.evaluate(&environment, crate::fhirpath::Item::Element(resource)) {
            Ok(selected) => selected.iter().any(|it| match it {
                crate::fhirpath::Item::Element(element) => [element.value(), element.sibling()]
                    .into_iter()
                    .flatten()
                    .any(|it| it.is_same(container.value)),
                crate::fhirpath::Item::Boolean(answer) => *answer,
                _ => false,
            }),
            Err(_) => true,
        }
    }

    fn evaluate<'a>(
        &'a self,
        expression: &'a Expression,
        element: ElementItem<'a>,
        variables: &'a [(&'a str, &'a [crate::fhirpath::Item<'a>])],
    ) -> Result<bool, String> {
        let resource = self
            .frame_items
            .resource
            .ok_or_else(|| "the resource has no known type".to_owned())?;
        let surroundings = self.surroundings();
        let environment = environment(&surroundings, resource, self.frame_items.root, variables);
        expression
            .is_true(&environment, crate::fhirpath::Item::Element(element))
            .map_err(|it: EvaluationError| it.to_string())
    }

    fn surroundings(&self) -> Surroundings<'_, 'd> {
        Surroundings {
            basis: &self.basis,
            resolver: &self.resolver,
            frame: &self.frame,
            probes_nested: self.probes_nested(),
        }
    }

    /// The item as expressions see it.
    fn element_item(&self, item: Item<'d>) -> Option<ElementItem<'d>> {
        let definitions = self.basis.profiles.definitions;
        if let Some(type_use) = item.type_use {
            return Some(ElementItem::of_use(
                definitions,
                type_use,
                item.value,
                item.beside,
            ));
        }
        if let Some(value) = item.value
            && resource_type(value).is_some()
        {
            return ElementItem::resource(definitions, value);
        }
        ElementItem::of_type(definitions, item.type_code, item.value, item.beside)
    }
}

fn environment<'a>(
    surroundings: &'a Surroundings<'a, '_>,
    resource: ElementItem<'a>,
    root: Option<ElementItem<'a>>,
    variables: &'a [(&'a str, &'a [crate::fhirpath::Item<'a>])],
) -> Environment<'a> {
    Environment {
        root_resource: root,
        resource: Some(resource),
        now: surroundings.basis.now,
        variables,
        resolver: Some(surroundings),
        terminology: Some(surroundings),
        conformance: Some(surroundings),
        ..Environment::new(surroundings.basis.profiles.definitions)
    }
}
