//! Reading elements of resources: codings, quantities, lists, paths.
//!
//! Lenient on purpose: whether a resource has the right shape is the structural check's business; what does
//! not have it here is simply not found. Start at [`codings`] and [`quantity`].

use serde_json::Value;

use crate::json::{self, Document};

pub(super) const LOINC: &str = "http://loinc.org";
pub(super) const SNOMED: &str = "http://snomed.info/sct";
pub(super) const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
pub(super) const UCUM: &str = "http://unitsofmeasure.org";
pub(super) const ICD10_CM: &str = "http://hl7.org/fhir/sid/icd-10-cm";

/// Deepest nesting that is walked; readers refuse deeper text long before.
const DEPTH_MAX: usize = 100;

/// One Coding; what is not given is empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coding<'v> {
    pub(super) system: &'v str,
    pub(super) code: &'v str,
    pub(super) display: &'v str,
}

/// A Quantity with a number in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantity<'v> {
    pub(super) value: f64,
    /// The UCUM code, or empty.
    pub(super) code: &'v str,
    pub(super) unit: &'v str,
    pub(super) system: &'v str,
}

pub(super) fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str()
}

/// The text at a JSON pointer.
pub(super) fn text_at<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str()
}

pub(super) fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// One element or a list of it, with the path of each.
pub(super) fn each<'v>(value: &'v Value, key: &str) -> Vec<(String, &'v Value)> {
    match value.get(key) {
        Some(Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(index, item)| (format!("{key}[{index}]"), item))
            .collect(),
        Some(item) => vec![(key.to_owned(), item)],
        None => Vec::new(),
    }
}

pub(super) fn resource_type(resource: &Value) -> &str {
    text(resource, "resourceType").unwrap_or_default()
}

/// The codings of a CodeableConcept.
pub(super) fn codings(concept: &Value) -> impl Iterator<Item = Coding<'_>> {
    list(concept, "coding").iter().map(coding)
}

pub(super) fn coding(coding: &Value) -> Coding<'_> {
    Coding {
        system: text(coding, "system").unwrap_or_default(),
        code: text(coding, "code").unwrap_or_default(),
        display: text(coding, "display").unwrap_or_default(),
    }
}

/// The codings of a concept in an element of the resource.
pub(super) fn codings_of<'v>(resource: &'v Value, element: &str) -> Vec<Coding<'v>> {
    resource
        .get(element)
        .map(|concept| codings(concept).collect())
        .unwrap_or_default()
}

/// The code of one system in a concept.
pub(super) fn code_in<'v>(concept: &'v Value, system: &str) -> Option<&'v str> {
    codings(concept)
        .find(|coding| coding.system == system && !coding.code.is_empty())
        .map(|coding| coding.code)
}

/// The first code of a concept such as `verificationStatus`.
pub(super) fn state<'v>(resource: &'v Value, element: &str) -> Option<&'v str> {
    match resource.get(element)? {
        Value::String(code) => Some(code),
        concept => codings(concept).map(|it| it.code).find(|it| !it.is_empty()),
    }
}

/// Whether a list of concepts (such as `category`) has a code of any system.
pub(super) fn has_category(resource: &Value, code: &str) -> bool {
    match resource.get("category") {
        Some(Value::Array(items)) => items
            .iter()
            .any(|item| item.as_str() == Some(code) || codings(item).any(|it| it.code == code)),
        Some(concept) => codings(concept).any(|it| it.code == code),
        None => false,
    }
}

/// The words of a concept, in lower case: displays and its text.
pub(super) fn words(concept: &Value) -> Vec<String> {
    codings(concept)
        .map(|it| it.display)
        .chain(text(concept, "text"))
        .filter(|words| !words.is_empty())
        .map(str::to_lowercase)
        .collect()
}

pub(super) fn quantity(value: &Value) -> Option<Quantity<'_>> {
    Some(Quantity {
        value: value.get("value")?.as_f64()?,
        code: text(value, "code").unwrap_or_default(),
        unit: text(value, "unit").unwrap_or_default(),
        system: text(value, "system").unwrap_or_default(),
    })
}

/// Whether an observation holds the final number of a measurement. One that was ordered and not done, whose result is
/// said to be absent or is only words ("haemolysed"), measured nothing.
#[must_use]
pub fn has_final_result(observation: &Value) -> bool {
    let is_final = matches!(
        text(observation, "status"),
        Some("final" | "amended" | "corrected")
    );
    let is_number = observation
        .get("valueQuantity")
        .is_some_and(|it| quantity(it).is_some())
        || observation
            .get("valueInteger")
            .is_some_and(Value::is_number);
    is_final && is_number && observation.get("dataAbsentReason").is_none()
}

/// `Type/id` of a reference element, without base URL and version.
pub(super) fn reference_of(element: &Value) -> Option<String> {
    let text = text(element, "reference")?;
    match crate::references::ReferenceForm::parse(text) {
        crate::references::ReferenceForm::Typed {
            resource_type, id, ..
        } => Some(format!("{resource_type}/{id}")),
        _ => Some(text.to_owned()),
    }
}

/// `Type/id` of the reference in an element of the resource.
pub(super) fn reference(resource: &Value, element: &str) -> Option<String> {
    reference_of(resource.get(element)?)
}

/// Visits every value below an object with its path and name, in document order, down to a fixed depth.
pub(super) fn walk<'v>(value: &'v Value, visit: &mut dyn FnMut(&str, &str, &'v Value)) {
    descend(value, &mut String::new(), "", 0, visit);
}

fn descend<'v>(
    value: &'v Value,
    path: &mut String,
    key: &str,
    depth: usize,
    visit: &mut dyn FnMut(&str, &str, &'v Value),
) {
    if depth > DEPTH_MAX {
        return;
    }
    if depth > 0 {
        visit(path, key, value);
    }
    let length = path.len();
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                descend(member, path, name, depth + 1, visit);
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                descend(item, path, key, depth + 1, visit);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// The value at a path such as `Observation.component[1].valueQuantity`, or the nearest one above it.
pub(super) fn find<'d>(document: &'d Document<'d>, expression: &str) -> Option<json::Value<'d>> {
    let mut at = document.root();
    for step in expression.split('.').skip(1) {
        let (name, indices) = step.split_once('[').unwrap_or((step, ""));
        let Some(member) = at.get(name) else {
            return Some(at);
        };
        at = member;
        for index in indices.split('[').filter(|it| !it.is_empty()) {
            let index: usize = index.trim_end_matches(']').parse().ok()?;
            let Some(item) = at.children().nth(index) else {
                return Some(at);
            };
            at = item;
        }
    }
    Some(at)
}

/// A number as a clinician writes it: at most three decimals, none that say nothing.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}
