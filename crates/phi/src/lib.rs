//! What protects patients' data inside Chaperone: sealing at rest, tokens instead of identifiers, and
//! views that let an agent see the fields of its intent and nothing else.
//!
//! Pure (invariant 1): keys, nonces, salts and tokens are drawn by the caller. Whose resource it is
//! (the compartment check) is `chaperone-fhir`'s business and comes before anything here.
//!
//! Reading order:
//! 1. [`seal`]: payloads encrypted under a patient's key, found by a salted digest.
//! 2. [`keyed`], [`tokens`]: what agents see instead of an identifier, and how it is found again.
//! 3. [`labels`]: how confidential a resource is, and which ones agents are refused.
//! 4. [`consent`]: whether the patient's consents and the law before them allow an access.
//! 5. [`view`]: the projection of a resource to the typed leaves of declared fields.
//! 6. [`scrub`]: free text without identifiers, and whole resources and attachments of it.
//! 7. [`deidentify`]: a Safe Harbor copy of a record.
//! 8. [`likeness`]: whether a proposal says what a text from outside said.

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

pub mod seal;

pub mod keyed;
pub mod tokens;

pub mod labels;

pub mod consent;

pub mod view;

pub mod likeness;
pub mod scrub;

pub mod deidentify;
