//! Outward adapters: everything through which Chaperone reaches the world beyond its own process and
//! database. HTTP and mail clients stand only here.
//!
//! Not here: what may be read or written, and when. That is decided before a port is called.
//!
//! Reading order:
//! 0. [`egress`]: the gate, through which everything below sends.
//! 1. [`ehr`]: FHIR endpoints with their delivery strategies; what a broken send means.
//! 2. [`smart`]: how Chaperone proves itself to an EHR. [`launch`]: its authorization server, for people who come from it.
//! 3. [`keys`]: data keys in files, with an escrow step at first run.
//! 4. [`anchor`]: signed checkpoints in a file outside the database.
//! 5. [`notify`], [`consent`]: telling people, asking for consent.
//! 6. [`clock`], [`random`]: the only sites that read time and randomness.
//! 7. [`agent_client`]: the other side of our own gateway, for demonstration, bench and tests.
//! 8. [`audit_file`], [`audit_fhir`]: AuditEvents into a folder, and to a FHIR server.
//! 9. [`tombstones`]: who was shredded, in a file outside the database.
//! 10. [`package_registry`]: conformance packages by name and version.
//!
//! TLS: the binary installs rustls's aws-lc-rs provider before it makes any of these.

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

pub mod egress;

pub mod ehr;
pub mod launch;
pub mod smart;

pub mod keys;

pub mod anchor;

pub mod audit_fhir;
pub mod audit_file;

pub mod tombstones;

pub mod consent;
pub mod decision_support;
pub mod notify;
pub mod patient_mail;

pub mod clock;
pub mod random;

pub mod agent_client;

pub mod package_registry;

mod http;
