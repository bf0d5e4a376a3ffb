//! What an element says after a differential was laid over it.
//!
//! A differential may only narrow; what would widen is noted and left out. Start at [`merge`].
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/elementdefinition.html#interpretation> and
//! <https://hl7.org/fhir/R4/profiling.html#cardinality>.

use serde_json::Value as Json;

use super::Problem;
use super::walk::is_capitalised;
use crate::canonical::{Binding, Choice, ElementDefinition, Slicing, TypeRef};

/// Lays an element of the differential of the definition `url` over an element.
pub(super) fn merge(
    onto: &mut ElementDefinition,
    from: &ElementDefinition,
    url: &str,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    cardinality(onto, from, &mut problems);
    types(onto, from, &mut problems);
    if let Some(binding) = &from.binding {
        match &mut onto.binding {
            Some(base) => merge_binding(base, binding, &mut problems),
            base @ None => *base = Some(binding.clone()),
        }
    }
    if let Some(slicing) = &from.slicing {
        match &mut onto.slicing {
            Some(base) => merge_slicing(base, slicing),
            base @ None => *base = Some(slicing.clone()),
        }
    }
    values(onto, from, &mut problems);
    for (onto, from) in [
        (&mut onto.min_value, &from.min_value),
        (&mut onto.max_value, &from.max_value),
    ] {
        if from.is_some() {
            onto.clone_from(from);
        }
    }
    if from.max_length.is_some() {
        onto.max_length = from.max_length;
    }
    if from.content_reference.is_some() {
        onto.content_reference.clone_from(&from.content_reference);
    }
    if !from.representation.is_empty() {
        onto.representation.clone_from(&from.representation);
    }
    for constraint in &from.constraint {
        if onto.constraint.iter().all(|it| it.key != constraint.key) {
            let mut constraint = constraint.clone();
            constraint.source.get_or_insert_with(|| url.to_owned());
            onto.constraint.push(constraint);
        }
    }
    for condition in &from.condition {
        if !onto.condition.contains(condition) {
            onto.condition.push(condition.clone());
        }
    }
    for (onto, from) in [
        (&mut onto.must_support, from.must_support),
        (&mut onto.is_modifier, from.is_modifier),
        (&mut onto.is_summary, from.is_summary),
    ] {
        *onto = from.or(*onto);
    }
    problems
}

/// Fixed values and patterns: what the base fixes stays, and what it asks for is asked for still.
fn values(onto: &mut ElementDefinition, from: &ElementDefinition, problems: &mut Vec<Problem>) {
    for (derived, is_fixed) in [(&from.fixed, true), (&from.pattern, false)] {
        let Some(derived) = derived else { continue };
        if !is_of_types(derived, &onto.types) {
            problems.push(Problem::ValueOfOtherType(derived.type_name.clone()));
        }
        let contradicted = [(&onto.fixed, true), (&onto.pattern, false)]
            .into_iter()
            .find_map(|(base, base_is_fixed)| {
                let base = base.as_ref()?;
                let goes = agree(base, base_is_fixed, derived, is_fixed);
                (!goes).then(|| base.json.clone())
            });
        match contradicted {
            Some(base) => problems.push(Problem::ValueChanged {
                base,
                derived: derived.json.clone(),
            }),
            None if is_fixed => onto.fixed = Some(derived.clone()),
            None => onto.pattern = Some(derived.clone()),
        }
    }
}

/// Whether a value can be what both ask for.
fn agree(base: &Choice, base_is_fixed: bool, derived: &Choice, derived_is_fixed: bool) -> bool {
    let read = |it: &Choice| serde_json::from_str::<Json>(&it.json);
    let (Ok(base), Ok(derived)) = (read(base), read(derived)) else {
        return true;
    };
    match (base_is_fixed, derived_is_fixed) {
        (true, true) => base == derived,
        (true, false) => holds(&base, &derived),
        (false, true) => holds(&derived, &base),
        (false, false) => meets(&base, &derived),
    }
}

/// Whether a value holds everything that a pattern states. Recursion is as deep as the pattern, whose
/// nesting the reader of JSON has bounded.
fn holds(value: &Json, pattern: &Json) -> bool {
    match (value, pattern) {
        (Json::Object(value), Json::Object(pattern)) => pattern
            .iter()
            .all(|(name, it)| value.get(name).is_some_and(|own| holds(own, it))),
        (Json::Array(value), Json::Array(pattern)) => pattern
            .iter()
            .all(|it| value.iter().any(|own| holds(own, it))),
        _ => value == pattern,
    }
}

/// Whether one value can hold both patterns. Of lists that is always so, as they may hold more.
fn meets(one: &Json, two: &Json) -> bool {
    match (one, two) {
        (Json::Object(one), Json::Object(two)) => one
            .iter()
            .all(|(name, it)| two.get(name).is_none_or(|other| meets(it, other))),
        (Json::Array(_), Json::Array(_)) => true,
        _ => one == two,
    }
}

/// Whether a stated value is of one of the types; what is not stated, or FHIRPath's own, is not judged.
fn is_of_types(value: &Choice, types: &[TypeRef]) -> bool {
    let is_open = |it: &TypeRef| it.code == "*" || it.code.contains("://");
    types.is_empty()
        || types.iter().any(|it| {
            is_open(it)
                || is_capitalised(&value.type_name, &it.code)
                || (value.type_name == "Quantity"
                    && may_stand_for(
                        it,
                        &[TypeRef {
                            code: "Quantity".to_owned(),
                            ..TypeRef::default()
                        }],
                    ))
        })
}

fn cardinality(
    onto: &mut ElementDefinition,
    from: &ElementDefinition,
    problems: &mut Vec<Problem>,
) {
    if let Some(derived) = from.min {
        let base = onto.min.unwrap_or_default();
        if derived < base {
            problems.push(Problem::MinLowered { base, derived });
        } else {
            onto.min = Some(derived);
        }
    }
    if let Some(derived) = &from.max {
        if onto
            .max
            .as_deref()
            .is_some_and(|base| count(derived) > count(base))
        {
            problems.push(Problem::MaxRaised {
                base: onto.max.clone().unwrap_or_default(),
                derived: derived.clone(),
            });
        } else {
            onto.max = Some(derived.clone());
        }
    }
}

/// `*` is more than any number; what is no number is taken for `*`, as it bounds nothing.
fn count(max: &str) -> u64 {
    max.parse::<u32>().map_or(u64::MAX, u64::from)
}

fn types(onto: &mut ElementDefinition, from: &ElementDefinition, problems: &mut Vec<Problem>) {
    if from.types.is_empty() {
        return;
    }
    let mut narrowed = Vec::with_capacity(from.types.len());
    for derived in &from.types {
        let same = onto.types.iter().find(|it| it.code == derived.code);
        if same.is_none() && !onto.types.is_empty() && !may_stand_for(derived, &onto.types) {
            problems.push(Problem::TypeNotInBase(derived.code.clone()));
            continue;
        }
        let mut derived = derived.clone();
        if let Some(base) = same {
            inherit(&mut derived, base);
        }
        narrowed.push(derived);
    }
    if !narrowed.is_empty() {
        onto.types = narrowed;
    }
}

/// What a type does not say again still holds.
fn inherit(derived: &mut TypeRef, base: &TypeRef) {
    if derived.profile.is_empty() {
        derived.profile.clone_from(&base.profile);
        derived.profile_element.clone_from(&base.profile_element);
    }
    if derived.target_profile.is_empty() {
        derived.target_profile.clone_from(&base.target_profile);
    }
    if derived.aggregation.is_empty() {
        derived.aggregation.clone_from(&base.aggregation);
    }
    if derived.versioning.is_none() {
        derived.versioning.clone_from(&base.versioning);
    }
    if derived.fhir_type.0.is_none() {
        derived.fhir_type.clone_from(&base.fhir_type);
    }
}

/// Whether a type that is not listed narrows one that is: a resource where any may stand, a
/// specialisation of an abstract type, or the FHIR name of a FHIRPath system type.
fn may_stand_for(derived: &TypeRef, base: &[TypeRef]) -> bool {
    const SYSTEM: &str = "http://hl7.org/fhirpath/System.";
    base.iter().any(|it| match it.code.as_str() {
        "Resource" | "DomainResource" => derived
            .code
            .starts_with(|first: char| first.is_ascii_uppercase()),
        "Element" | "BackboneElement" | "*" => true,
        "Quantity" => matches!(
            derived.code.as_str(),
            "Age" | "Count" | "Distance" | "Duration" | "MoneyQuantity" | "SimpleQuantity"
        ),
        "uri" => matches!(derived.code.as_str(), "url" | "canonical" | "oid" | "uuid"),
        "string" => matches!(derived.code.as_str(), "code" | "id" | "markdown"),
        "integer" => matches!(derived.code.as_str(), "positiveInt" | "unsignedInt"),
        code if code.starts_with(SYSTEM) => derived
            .code
            .starts_with(|first: char| first.is_ascii_lowercase()),
        _ => derived.code.starts_with(SYSTEM),
    })
}

fn merge_binding(base: &mut Binding, derived: &Binding, problems: &mut Vec<Problem>) {
    if strength(&derived.strength) < strength(&base.strength) {
        problems.push(Problem::BindingWeakened {
            base: base.strength.clone(),
            derived: derived.strength.clone(),
        });
    } else {
        base.strength.clone_from(&derived.strength);
    }
    if derived.value_set.is_some() {
        base.value_set.clone_from(&derived.value_set);
    }
    let (base, derived) = (&mut base.bounds, &derived.bounds);
    if derived.max_value_set.is_some() {
        base.max_value_set.clone_from(&derived.max_value_set);
    }
    if derived.min_value_set.is_some() {
        base.min_value_set.clone_from(&derived.min_value_set);
    }
    for additional in &derived.additional {
        if !base.additional.contains(additional) {
            base.additional.push(additional.clone());
        }
    }
}

fn strength(strength: &str) -> u8 {
    match strength {
        "required" => 3,
        "extensible" => 2,
        "preferred" => 1,
        _ => 0,
    }
}

/// Discriminators add up, order once asked for stays, and what was closed stays closed.
fn merge_slicing(base: &mut Slicing, derived: &Slicing) {
    for discriminator in &derived.discriminator {
        if !base.discriminator.contains(discriminator) {
            base.discriminator.push(discriminator.clone());
        }
    }
    base.ordered |= derived.ordered;
    let openness = |rules: &str| match rules {
        "closed" => 0,
        "openAtEnd" => 1,
        _ => 2,
    };
    if openness(&derived.rules) < openness(&base.rules) {
        base.rules.clone_from(&derived.rules);
    }
}
