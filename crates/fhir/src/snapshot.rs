//! Snapshots: what a profile says in full, made from its differential and the snapshot of its base.
//!
//! Each element of the differential is laid over the element of the base with the same id; where the base
//! does not spell out that far, its elements are taken from the type, from the type's profile or from the
//! element that a content reference names. What a differential may not do (widen, name what is not
//! there) is noted and left out, so that one mistake does not cost the whole profile.
//! It loads nothing: other definitions are asked for through [`Resolve`].
//! Start at [`generate`]; walking is in `snapshot/walk.rs`, the rules of merging in `snapshot/merge.rs`,
//! the list of elements in `snapshot/tree.rs`.
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/profiling.html#snapshot> and
//! <https://hl7.org/fhir/R4/elementdefinition.html>. R4 describes the result, not the steps; where
//! published snapshots follow a habit of their tools, it is noted at the place.

mod merge;
mod tree;
mod walk;

use std::sync::Arc;

use crate::canonical::{ElementDefinition, StructureDefinition};
use tree::Tree;
use walk::Walk;

/// Most elements of a snapshot.
pub(crate) const ELEMENTS_MAX: usize = 10_000;
/// Most elements of a differential.
const DIFFERENTIAL_MAX: usize = 4_000;
/// Most segments of an element id.
pub(crate) const SEGMENTS_MAX: usize = 32;
/// Longest chain of definitions that need each other's snapshot.
pub(crate) const CHAIN_MAX: usize = 24;

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It has neither a snapshot nor a differential.
    #[error("`{url}` has neither a snapshot nor a differential")]
    Empty {
        /// The definition.
        url: String,
    },
    /// What it is derived from is not loaded.
    #[error("`{url}` has no snapshot, and its base `{base}` is in no loaded package")]
    BaseNotLoaded {
        /// The definition.
        url: String,
        /// What it is derived from.
        base: String,
    },
    /// What it is derived from cannot be read.
    #[error("`{url}` has no snapshot, and its base `{base}` cannot be used: {reason}")]
    Base {
        /// The definition.
        url: String,
        /// What it is derived from.
        base: String,
        /// Why.
        reason: String,
    },
    /// It is derived from itself, directly or through others.
    #[error("`{url}` is derived from itself")]
    Circle {
        /// The definition.
        url: String,
    },
    /// A limit is exceeded.
    #[error("`{url}` is beyond a limit of this validator ({limit})")]
    Limit {
        /// The definition.
        url: String,
        /// Which limit.
        limit: &'static str,
    },
}

/// Something in a differential that it may not say. The rest of the profile holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotProblem {
    /// Id of the element in the differential.
    pub element: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What a differential may not say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The element is not in the base, nor in the types along its path.
    #[error("the base has no such element")]
    NotInBase,
    /// The path goes on below an element whose content is not known.
    #[error("the content of `{0}` is not loaded")]
    ContentNotLoaded(String),
    /// The least number of values is below the base's.
    #[error("`min` is {derived}, the base has {base}")]
    MinLowered {
        /// In the base.
        base: u32,
        /// In the differential.
        derived: u32,
    },
    /// The greatest number of values is above the base's.
    #[error("`max` is {derived}, the base has {base}")]
    MaxRaised {
        /// In the base.
        base: String,
        /// In the differential.
        derived: String,
    },
    /// A type that the base does not allow.
    #[error("type `{0}` is not among the base's types")]
    TypeNotInBase(String),
    /// A binding weaker than the base's.
    #[error("the binding is {derived}, the base's is {base}")]
    BindingWeakened {
        /// In the base.
        base: String,
        /// In the differential.
        derived: String,
    },
    /// A fixed value other than the base's, or a fixed value or pattern that the base's pattern excludes.
    #[error("the value {derived} contradicts the base's, {base}")]
    ValueChanged {
        /// In the base, as JSON.
        base: String,
        /// In the differential, as JSON.
        derived: String,
    },
    /// A fixed value or pattern of a type that the element cannot have.
    #[error("a value of type `{0}` is stated, which is not among the element's types")]
    ValueOfOtherType(String),
    /// A slice of an element for which nobody says what tells slices apart.
    #[error("the element has slices and no `slicing`")]
    NoSlicing,
}

/// A filled definition, and what was wrong with its differential.
#[derive(Clone, Debug)]
pub struct Generated {
    /// With its snapshot.
    pub structure: StructureDefinition,
    /// What was left out of it.
    pub problems: Vec<SnapshotProblem>,
}

/// Where other definitions come from, each with its snapshot.
pub(crate) trait Resolve {
    /// The definition of that canonical URL, with its snapshot.
    fn structure(&mut self, canonical: &str) -> Result<Arc<StructureDefinition>, ResolveError>;
}

/// Why another definition is not to be had.
#[derive(Clone, Debug)]
pub(crate) enum ResolveError {
    NotLoaded,
    Unusable(String),
    Circle,
    TooLong,
}

/// Fills the snapshot of a definition from its differential.
///
/// # Errors
/// There is nothing to fill it from, or a limit is exceeded.
pub(crate) fn generate(
    of: &StructureDefinition,
    resolve: &mut dyn Resolve,
) -> Result<Generated, SnapshotError> {
    let differential = &of.differential.element;
    let limit = |limit| SnapshotError::Limit {
        url: of.url.clone(),
        limit,
    };
    if differential.len() > DIFFERENTIAL_MAX {
        return Err(limit("elements of a differential"));
    }
    let is_constraint = match of.derivation.as_deref() {
        Some(derivation) => derivation != "specialization",
        None => of.base_definition.is_some(),
    };
    let base = base_elements(of, is_constraint, resolve)?;
    if base.is_empty() && differential.is_empty() {
        return Err(SnapshotError::Empty {
            url: of.url.clone(),
        });
    }
    let mut tree = Tree::new(base);
    tree.rename_root(root_name(of, is_constraint));
    let mut walk = Walk::new(tree, resolve, &of.url, is_constraint);
    for (element, id) in differential.iter().zip(tree::ids(differential)) {
        walk.apply(element, &id);
        if walk.tree.elements.len() > ELEMENTS_MAX {
            return Err(limit("elements of a snapshot"));
        }
    }
    let (elements, problems) = walk.finish();
    let mut structure = of.clone();
    structure.snapshot.element = elements;
    Ok(Generated {
        structure,
        problems,
    })
}

/// The elements of the base, or none for a root of the type hierarchy.
fn base_elements(
    of: &StructureDefinition,
    is_constraint: bool,
    resolve: &mut dyn Resolve,
) -> Result<Vec<ElementDefinition>, SnapshotError> {
    let Some(base) = &of.base_definition else {
        return Ok(Vec::new());
    };
    let url = of.url.clone();
    match resolve.structure(base) {
        Ok(found) => {
            if is_constraint {
                Ok(copied_from(&found))
            } else {
                Ok(found.snapshot.element.clone())
            }
        }
        // The root of R5's hierarchy, which tools put under logical models of R4 too, has no elements.
        Err(ResolveError::NotLoaded) if base == "http://hl7.org/fhir/StructureDefinition/Base" => {
            Ok(Vec::new())
        }
        Err(ResolveError::NotLoaded) => Err(SnapshotError::BaseNotLoaded {
            url,
            base: base.clone(),
        }),
        Err(ResolveError::Unusable(reason)) => Err(SnapshotError::Base {
            url,
            base: base.clone(),
            reason,
        }),
        Err(ResolveError::Circle) => Err(SnapshotError::Circle { url }),
        Err(ResolveError::TooLong) => Err(SnapshotError::Limit {
            url,
            limit: "chain of base definitions",
        }),
    }
}

/// The elements of a definition for use in another one. There `#Questionnaire.item` goes on meaning the
/// element of the type, not of the profile.
///
/// # Source
/// FHIR R5, <https://hl7.org/fhir/R5/elementdefinition-definitions.html#ElementDefinition.contentReference>;
/// R4 leaves it open, and tools write it so.
fn copied_from(definition: &StructureDefinition) -> Vec<ElementDefinition> {
    let mut elements = definition.snapshot.element.clone();
    if definition.derivation.as_deref() != Some("constraint") {
        for element in &mut elements {
            if let Some(reference) = &mut element.content_reference
                && reference.starts_with('#')
            {
                reference.insert_str(0, &definition.url);
            }
        }
    }
    elements
}

/// The name that all paths begin with.
fn root_name(of: &StructureDefinition, is_constraint: bool) -> &str {
    let of_type = of.type_name.rsplit('/').next().unwrap_or_default();
    let of_differential = of
        .differential
        .element
        .first()
        .and_then(|it| it.path.split('.').next())
        .filter(|it| !it.is_empty());
    match of_differential {
        Some(name) if !is_constraint || of_type.is_empty() => name,
        _ => of_type,
    }
}

#[cfg(test)]
mod tests;
