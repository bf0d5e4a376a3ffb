//! FHIR R4 for Chaperone: what a resource may look like, whose it is, and how to say it in words.
//!
//! This crate is pure: no clock, no randomness, no I/O; the same input gives the same output.
//! It decides nothing about policy, and it fetches no terminology: what its packages do not define is
//! reported as not checked.
//!
//! In reading order:
//!
//! 1. [`json`]: a strict JSON reader that keeps positions, key order and the text of numbers.
//! 2. [`package`]: reads FHIR NPM packages from bytes.
//! 3. [`definitions`]: StructureDefinitions compiled into tables; [`Definitions::r4`] is embedded.
//! 4. [`canonical`] and [`catalogue`]: profiles, value sets and code systems as data, found by URL.
//!    Those without a snapshot get one from [`snapshot`].
//! 5. [`terminology`]: which codes exist and which value sets hold them; units of measure.
//! 6. [`primitive`]: the formats of FHIR's primitive types.
//! 7. [`xhtml`]: the narrative that resources carry.
//! 8. [`finding`]: what a check reports.
//! 9. [`validate`]: the structural check of a resource against the definitions.
//! 10. [`bundle`]: what each type of Bundle demands of its entries.
//! 11. [`questionnaire`] and [`definition_rules`]: responses against their questionnaires, and what
//!     conformance resources must keep.
//! 12. [`validator`]: the whole validator; its profiles are in `profile`.
//! 13. [`references`]: which references a resource holds and whose compartment it is in.
//! 14. [`status`]: which status changes are allowed.
//! 15. [`plausibility`]: what is valid and still cannot be true, by rules that are data.
//! 16. [`words`]: resources and differences in the language of the reviewer.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason
    )
)]

pub mod bundle;
pub mod canonical;
pub mod catalogue;
pub mod definition_rules;
pub mod definitions;
pub mod fhirpath;
pub mod finding;
pub mod json;
pub mod package;
pub mod plausibility;
pub mod primitive;
mod profile;
pub mod questionnaire;
pub mod references;
pub mod snapshot;
pub mod status;
pub mod terminology;
pub mod validate;
pub mod validator;
pub mod words;
pub mod xhtml;

pub use definitions::Definitions;
pub use finding::{Finding, Position, RestsOn, Severity};
pub use validate::{Limits, StructureOutcome};
pub use validator::{Request, ValidationOutcome, Validator, ValidatorOptions};
