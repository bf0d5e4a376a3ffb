//! Conformance to profiles: what StructureDefinitions demand beyond the structure of the base types.
//!
//! A profile's snapshot is compiled once into a tree of what it adds to its base ([`compile`]); the walk
//! then visits each resource with its base rules ([`base_walk`]: invariants, bindings, extensions,
//! references) and with every profile that it claims or that was asked for ([`node_walk`], [`slicing`]).
//! JSON shape, base cardinality and primitive formats are [`crate::validate`]'s, and not reported again.
//! Start at [`walk::Walk`].

pub(crate) mod base;
mod base_walk;
pub(crate) mod binding;
mod compile;
mod context;
mod discriminator;
mod extension;
pub(crate) mod invariant;
mod node_walk;
mod number;
mod pattern;
mod range;
mod reference;
pub(crate) mod report;
pub(crate) mod resolve;
mod slicing;
mod snapshot_tree;
pub(crate) mod store;
pub(crate) mod tree;
mod vital_signs;
pub(crate) mod walk;

/// Where the definitions of FHIR itself are.
pub(crate) const BASE_URL: &str = "http://hl7.org/fhir/StructureDefinition/";

#[cfg(test)]
mod tests;
