//! FHIR's definitions as data: what a profile, a value set or a code system says, without its prose.
//!
//! These are plain records; nothing here interprets them. `serde` reads them from the JSON of packages,
//! where prose is passed over, and in the compact form that [`crate::catalogue`] embeds; they are not
//! made for writing JSON.
//! Start at [`StructureDefinition`]; what is loaded and found by URL is in [`crate::catalogue`].

mod code_system;
mod element_json;
mod extensions;
mod structure_definition;
mod value_set;

pub use code_system::{
    CodeSystem, Coding, Concept, ConceptProperty, Content, Designation, Filter as FilterDefinition,
    PropertyDefinition,
};
pub use extensions::{AdditionalBinding, BestPractice, Bounds, FhirType, Imposed, ProfileElements};
pub use structure_definition::{
    Binding, Choice, Constraint, ConstraintSeverity, Context, Discriminator, Element, ElementBase,
    ElementDefinition, Slicing, StructureDefinition, TypeRef,
};
pub use value_set::{
    Compose, ConceptReference, ConceptSet, Expansion, ExpansionEntry, Filter, ValueSet,
};

/// A canonical URL, split from the version that may follow a `|`.
///
/// # Source
/// FHIR R4, References to canonical resources, <https://hl7.org/fhir/R4/references.html#canonical>.
#[must_use]
pub fn split_version(canonical: &str) -> (&str, Option<&str>) {
    match canonical.split_once('|') {
        Some((url, version)) => (url, Some(version)),
        None => (canonical, None),
    }
}
