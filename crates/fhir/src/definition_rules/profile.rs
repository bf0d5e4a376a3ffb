//! Profiles: the elements that they constrain exist, and what they say agrees with their base.
//!
//! Start at [`differential`] and [`towards_base`].
//!
//! Rules: <https://hl7.org/fhir/R4/profiling.html>.

use std::sync::Arc;

use super::text;
use crate::catalogue::Catalogue;
use crate::definitions::Definitions;
use crate::finding::{Severity, id};
use crate::json::Value;
use crate::snapshot::Problem;
use crate::validate::{Report, quotable};

/// Most elements of a differential that are looked at.
const ELEMENTS_MAX: usize = 5_000;

/// The elements that a profile constrains exist in the type.
pub(super) fn differential(
    definitions: &Definitions,
    resource: Value<'_>,
    expression: &str,
    report: &mut Report<'_>,
) {
    let Some(type_name) = text(resource, "type") else {
        return;
    };
    let is_profile = text(resource, "derivation") == Some("constraint");
    // What is not among R4's types is not judged.
    if !is_profile || definitions.element_type(type_name, "id").is_none() {
        return;
    }
    let elements = resource
        .get("differential")
        .and_then(|it| it.get("element"))
        .into_iter()
        .flat_map(Value::children);
    for (index, element) in elements.take(ELEMENTS_MAX).enumerate() {
        let Some(path) = text(element, "path") else {
            continue;
        };
        let (root, below) = path.split_once('.').unwrap_or((path, ""));
        let exists =
            root == type_name && (below.is_empty() || is_path(definitions, type_name, below));
        if !exists {
            let message = format!("{type_name} has no element `{}`", quotable(path));
            let expression = format!("{expression}.differential.element[{index}].path");
            let at = element.get("path").unwrap_or(element);
            report.error(id::DEFINITION_PATH, at, expression, message);
        }
    }
}

/// What a profile says agrees with its base, where that is at hand: it narrows and does not contradict.
pub(super) fn towards_base(
    catalogue: &Arc<Catalogue>,
    resource: Value<'_>,
    expression: &str,
    report: &mut Report<'_>,
) {
    let (Some(url), Some(base)) = (text(resource, "url"), text(resource, "baseDefinition")) else {
        return;
    };
    if text(resource, "derivation") != Some("constraint")
        || catalogue.locate("StructureDefinition", base).is_none()
    {
        return;
    }
    let mut over = Catalogue::with_base(Arc::clone(catalogue));
    let json = resource.to_json().to_string();
    if over.add_resource(url, json.as_bytes()).is_err() {
        return;
    }
    let canonical = match text(resource, "version") {
        Some(version) => format!("{url}|{version}"),
        None => url.to_owned(),
    };
    let Ok(generated) = over.regenerate(&canonical) else {
        return;
    };
    let list = resource
        .get("differential")
        .and_then(|it| it.get("element"));
    for problem in generated.problems {
        let is_slice = problem
            .element
            .rsplit('.')
            .next()
            .is_some_and(|it| it.contains(':'));
        let severity = match &problem.problem {
            Problem::MinLowered { .. } if is_slice => continue,
            // The sliced element bounds its slices still.
            Problem::MaxRaised { .. } if is_slice => Severity::Warning,
            Problem::MinLowered { .. }
            | Problem::MaxRaised { .. }
            | Problem::TypeNotInBase(_)
            | Problem::ValueChanged { .. }
            | Problem::ValueOfOtherType(_) => Severity::Error,
            Problem::BindingWeakened { .. }
            | Problem::NotInBase
            | Problem::ContentNotLoaded(_)
            | Problem::NoSlicing => Severity::Warning,
        };
        let elements = list.into_iter().flat_map(Value::children);
        let found = elements
            .enumerate()
            .find(|(_, it)| text(*it, "id") == Some(&*problem.element));
        let (at, place) = match found {
            Some((index, at)) => (at, format!("{expression}.differential.element[{index}]")),
            None => (resource, format!("{expression}.differential")),
        };
        let message = format!("`{}`: {}", quotable(&problem.element), problem.problem);
        report.add(
            id::DEFINITION_CONTRADICTS_BASE,
            severity,
            at,
            place,
            message,
            None,
        );
    }
}

/// Whether the type has such an element, as far as the base definitions can tell.
fn is_path(definitions: &Definitions, type_name: &str, path: &str) -> bool {
    let ends = path
        .match_indices('.')
        .map(|(at, _)| at)
        .chain(std::iter::once(path.len()));
    for end in ends {
        let Some(info) = path
            .get(..end)
            .and_then(|it| definitions.element_type(type_name, it))
        else {
            return false;
        };
        // Below a choice, a primitive or a resource the base definitions say no more.
        let is_open = info.types.len() != 1
            || info
                .types
                .iter()
                .any(|it| it.is_primitive || it.code == "Resource");
        if is_open {
            return true;
        }
    }
    true
}
