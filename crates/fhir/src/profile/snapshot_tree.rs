//! The flat list of a snapshot as a tree: which element is a child of which, and which is a slice of which.
//!
//! It goes by the order and the paths of the list, which all snapshots keep, and not by element ids.
//! Start at [`SnapshotTree::of`].
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/elementdefinition.html#path> and
//! <https://hl7.org/fhir/R4/profiling.html#slicing>.

use std::collections::HashMap;
use std::sync::Arc;

use crate::canonical::{ElementDefinition, StructureDefinition, TypeRef};

/// Most elements of one snapshot; the rest is not read.
const ELEMENTS_MAX: usize = 20_000;

/// A snapshot with its tree.
#[derive(Debug)]
pub(super) struct SnapshotTree {
    pub(super) definition: Arc<StructureDefinition>,
    links: Vec<Links>,
}

/// Children and slices of one element, as places in the snapshot.
#[derive(Debug, Default)]
struct Links {
    children: Vec<usize>,
    slices: Vec<usize>,
}

impl SnapshotTree {
    pub(super) fn of(definition: Arc<StructureDefinition>) -> Self {
        let elements = &definition.snapshot.element;
        let count = elements.len().min(ELEMENTS_MAX);
        let mut links: Vec<Links> = Vec::new();
        links.resize_with(count, Links::default);
        // The last element of each path, and the last of each path and slice name, with its parent.
        let mut last: HashMap<&str, usize> = HashMap::new();
        let mut named: HashMap<(&str, &str), (usize, usize)> = HashMap::new();
        for (at, element) in elements.iter().enumerate().take(count) {
            let path = element.path.as_str();
            let slice_name = element.slice_name.as_deref().unwrap_or_default();
            let parent = path
                .rsplit_once('.')
                .and_then(|(parent, _)| last.get(parent));
            if let Some(parent) = parent.copied() {
                let sliced = (!slice_name.is_empty())
                    .then(|| slice_name.rsplit_once('/').map_or("", |(outer, _)| outer))
                    .and_then(|outer| named.get(&(path, outer)).or_else(|| named.get(&(path, ""))))
                    .filter(|(_, its_parent)| *its_parent == parent)
                    .map(|(sliced, _)| *sliced);
                match sliced {
                    Some(sliced) => {
                        if let Some(links) = links.get_mut(sliced) {
                            links.slices.push(at);
                        }
                    }
                    None => {
                        if let Some(links) = links.get_mut(parent) {
                            links.children.push(at);
                        }
                    }
                }
                named.insert((path, slice_name), (at, parent));
            }
            last.insert(path, at);
        }
        Self { definition, links }
    }

    /// The element at a place; places come from this tree, the whole is place 0.
    pub(super) fn element(&self, at: usize) -> Option<&ElementDefinition> {
        self.definition.snapshot.element.get(at)
    }

    pub(super) fn children(&self, at: usize) -> &[usize] {
        self.links.get(at).map_or(&[], |it| &it.children)
    }

    pub(super) fn slices(&self, at: usize) -> &[usize] {
        self.links.get(at).map_or(&[], |it| &it.slices)
    }

    /// The child of that name, `name` or `name[x]`.
    pub(super) fn child(&self, at: usize, name: &str) -> Option<usize> {
        self.children(at).iter().copied().find(|child| {
            self.element(*child)
                .map(last_name)
                .is_some_and(|it| it.strip_suffix("[x]").unwrap_or(it) == name)
        })
    }

    /// The element that a content reference `#id` or `#path` names.
    pub(super) fn referenced(&self, reference: &str) -> Option<usize> {
        self.definition
            .snapshot
            .element
            .iter()
            .take(self.links.len())
            .position(|it| {
                it.id.as_deref() == Some(reference)
                    || it.slice_name.is_none() && it.path == reference
            })
    }
}

/// The last name of an element's path.
pub(super) fn last_name(element: &ElementDefinition) -> &str {
    element
        .path
        .rsplit_once('.')
        .map_or(element.path.as_str(), |(_, name)| name)
}

/// The value under `fixed`, `pattern`, `minValue` or `maxValue`.
pub(super) fn stated(element: &ElementDefinition, prefix: &str) -> Option<serde_json::Value> {
    serde_json::from_str(element.choice(prefix)?.1).ok()
}

/// The type's name as it is used in JSON: FHIRPath's system types stand for the primitive ones.
///
/// # Source
/// FHIR R4, <https://hl7.org/fhir/R4/extension-structuredefinition-fhir-type.html>.
pub(super) fn type_code(it: &TypeRef) -> &str {
    match it.code.strip_prefix("http://hl7.org/fhirpath/System.") {
        Some("String") => "string",
        Some("Boolean") => "boolean",
        Some("Integer") => "integer",
        Some("Decimal") => "decimal",
        Some("Date") => "date",
        Some("DateTime") => "dateTime",
        Some("Time") => "time",
        Some(other) => other,
        None => &it.code,
    }
}
