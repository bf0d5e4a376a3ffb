//! The FHIR endpoint against the sandbox EHR with its faults, and against servers that misbehave in ways
//! the sandbox does not.

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

mod backend_services;
mod conditional;
mod conformance;
mod decision_support;
mod hostile;
mod launch;
mod patching;
mod plain;
mod reading;
mod support;
mod together;
mod vendor_and_staged;
