//! Bindings of elements to value sets, as profiles and base types state them.
//!
//! What is in a value set is decided by [`crate::terminology`]; here a value is brought into the form that
//! it takes, and its answers become findings.
//! Start at [`Walk::bound`].

use std::sync::{Arc, OnceLock};

use smallvec::SmallVec;

use super::report::Draft;
use super::walk::{Item, Walk};
use crate::canonical::{Binding, ElementDefinition};
use crate::finding::{Severity, id};
use crate::json::{Kind, Value};
use crate::terminology::ucum;
use crate::terminology::{BoundSet, Coded, Coding, Issue, Part, Place, Terminology};

/// Most codings of one concept that are looked at.
const CODINGS_MAX: usize = 1_000;

/// What a definition demands of the codes of an element.
#[derive(Debug)]
pub(crate) struct BindingRule {
    binding: Binding,
    /// Bindings that hold beside it.
    more: Vec<Binding>,
    /// The value sets, compiled at first use.
    sets: OnceLock<Arc<[BoundSet]>>,
}

impl BindingRule {
    /// The rule of an element's binding; `None` if it demands nothing that can be checked.
    pub(crate) fn of(element: &ElementDefinition) -> Option<Self> {
        let mut binding = element.binding.clone()?;
        if is_softer_than_stated(&element.path, &binding) {
            binding.strength = "extensible".to_owned();
        }
        let more: Vec<Binding> = binding
            .bounds
            .additional
            .iter()
            .filter(|it| !it.has_usage && !it.any)
            .filter_map(|it| {
                let strength = match it.purpose.as_str() {
                    "required" | "maximum" => "required",
                    "extensible" => "extensible",
                    _ => return None,
                };
                Some(Binding {
                    strength: strength.to_owned(),
                    value_set: Some(it.value_set.clone()),
                    ..Binding::default()
                })
            })
            .collect();
        let demands = binding.bounds.max_value_set.is_some()
            || matches!(
                binding.strength.as_str(),
                "required" | "extensible" | "preferred"
            ) && binding.value_set.is_some();
        (demands || !more.is_empty()).then(|| Self {
            binding,
            more,
            sets: OnceLock::new(),
        })
    }

    /// Whether the binding is required and nothing is demanded beside it.
    pub(crate) fn is_only_required(&self) -> bool {
        self.binding.strength == "required"
            && self.binding.bounds.max_value_set.is_none()
            && self.more.is_empty()
    }

    fn sets(&self, terminology: &Terminology) -> &[BoundSet] {
        self.sets.get_or_init(|| {
            std::iter::once(&self.binding)
                .chain(&self.more)
                .filter_map(|it| terminology.bind(it))
                .collect()
        })
    }
}

/// Bindings that R4 states more strictly than it means.
///
/// - The vital signs profiles bind the values of all components to units of vital signs, which HL7 has
///   corrected: components hold other things too (oxygen flow, codes).
/// - The formats of a CapabilityStatement are bound to media types, and may be `xml`, `json` and `ttl` too.
///
/// # Source
/// FHIR R4 vitalsigns profile (the correction is that of its later versions, where the binding is gone);
/// FHIR R4, definition of `CapabilityStatement.format`.
fn is_softer_than_stated(path: &str, binding: &Binding) -> bool {
    path == "CapabilityStatement.format"
        || path == "Observation.component.value[x]"
            && binding
                .value_set
                .as_deref()
                .is_some_and(|it| it.starts_with("http://hl7.org/fhir/ValueSet/ucum-vitals-common"))
}

impl<'d> Walk<'d> {
    /// Checks the codes of an item against a binding.
    pub(super) fn bound(
        &mut self,
        binding: &'_ BindingRule,
        item: Item<'d>,
        profile: Option<&str>,
    ) {
        let Some(value) = item.value else { return };
        let mut issues = std::mem::take(&mut self.issues);
        issues.clear();
        let terminology = self.basis.terminology;
        for set in binding.sets(terminology) {
            with_coded(value, item.type_code, |coded| {
                terminology.check(set, coded, &mut issues);
            });
        }
        for issue in issues.drain(..) {
            self.note(value, issue, profile);
        }
        self.issues = issues;
    }

    /// Whether the item holds a code of the value set; `None` if that cannot be decided.
    pub(super) fn is_bound(&mut self, binding: &BindingRule, item: Item<'d>) -> Option<bool> {
        let value = item.value?;
        let terminology = self.basis.terminology;
        let mut issues = Vec::new();
        for set in binding.sets(terminology) {
            with_coded(value, item.type_code, |coded| {
                terminology.check(set, coded, &mut issues);
            });
        }
        if issues
            .iter()
            .any(|it| matches!(it.id, id::BINDING_REQUIRED | id::BINDING_NO_CODE))
        {
            Some(false)
        } else if issues.iter().any(|it| it.id == id::BINDING_NOT_CHECKED) {
            None
        } else {
            Some(true)
        }
    }

    /// Checks a Coding in its own code system.
    pub(super) fn coding(&mut self, coding: Value<'d>) {
        let mut issues = std::mem::take(&mut self.issues);
        issues.clear();
        self.basis
            .terminology
            .inspect(&read(coding), 0, &self.newer, &mut issues);
        for issue in issues.drain(..) {
            self.note(coding, issue, None);
        }
        self.issues = issues;
    }

    /// Checks the unit of a quantity that says it is one of UCUM. An annotation with characters that UCUM does
    /// not allow there (`{urine specific gravity}`) takes no part in the meaning, so it is only pointed out.
    pub(super) fn unit(&mut self, quantity: Value<'d>) {
        if quantity.get("system").and_then(Value::as_str) != Some(ucum::SYSTEM) {
            return;
        }
        let Some(at) = quantity.get("code") else {
            return;
        };
        let ucum = self.basis.terminology.ucum();
        let Some(code) = at.as_str().filter(|it| ucum.unit(it).is_err()) else {
            return;
        };
        let is_unit = without_annotations(code).is_some_and(|bare| ucum.unit(&bare).is_ok());
        if !is_unit {
            self.coding(quantity);
            return;
        }
        let message =
            "the annotation in braces holds characters that UCUM does not allow, such as a blank";
        self.report.add(
            at,
            Draft::new(
                id::CODING_UNKNOWN_CODE,
                Severity::Warning,
                message.to_owned(),
            ),
        );
    }

    fn note(&mut self, value: Value<'d>, issue: Issue, profile: Option<&str>) {
        let at = match issue.place {
            Place::Whole => value,
            Place::Coding(index, part) => {
                let coding = value
                    .get("coding")
                    .and_then(|it| it.children().nth(index))
                    .unwrap_or(value);
                let name = match part {
                    Part::System => "system",
                    Part::Code => "code",
                    Part::Display => "display",
                };
                coding.get(name).unwrap_or(coding)
            }
        };
        let mut draft = Draft::new(issue.id, issue.severity, issue.message);
        if let Some(url) = profile {
            draft = draft.of_profile(url);
        }
        self.report.add(at, draft);
    }
}

/// The unit with the same annotation in each place of one; `None` where braces do not match, because what they
/// would leave out is then anybody's guess.
fn without_annotations(code: &str) -> Option<String> {
    let mut bare = String::with_capacity(code.len());
    let mut is_inside = false;
    for it in code.chars() {
        match (it, is_inside) {
            ('{', false) => {
                is_inside = true;
                bare.push_str("{x}");
            }
            ('}', true) => is_inside = false,
            ('{', true) | ('}', false) => return None,
            (_, true) => {}
            (other, false) => bare.push(other),
        }
    }
    (!is_inside).then_some(bare)
}

fn read(value: Value<'_>) -> Coding<'_> {
    let mut coding = Coding::default();
    for member in value.children() {
        match member.key() {
            Some("system") => coding.system = member.as_str(),
            Some("version") => coding.version = member.as_str(),
            Some("code") => coding.code = member.as_str(),
            Some("display") => coding.display = member.as_str(),
            _ => {}
        }
    }
    coding
}

/// Gives the value in the form that terminology takes; nothing for values that hold no codes.
fn with_coded(value: Value<'_>, type_code: &str, check: impl FnOnce(&Coded<'_>)) {
    match value.kind() {
        Kind::String => {
            if let Some(code) = value.as_str() {
                check(&Coded::Code(code));
            }
        }
        Kind::Object => match type_code {
            "Coding" => check(&Coded::Coding(read(value))),
            "CodeableConcept" => {
                let codings: SmallVec<[Coding<'_>; 4]> = value
                    .get("coding")
                    .into_iter()
                    .flat_map(Value::children)
                    .take(CODINGS_MAX)
                    .map(read)
                    .collect();
                check(&Coded::Concept { codings: &codings });
            }
            "CodeableReference" => {}
            _ if value.get("coding").is_some() => with_coded(value, "CodeableConcept", check),
            _ => check(&Coded::Quantity(read(value))),
        },
        _ => {}
    }
}
