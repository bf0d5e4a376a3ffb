//! The mathematics of the tamper-evident ledger: tree hashes, signed checkpoints, proofs, exports,
//! and their verification with nothing but the file in hand.
//!
//! Pure (invariant 1): no clock, no randomness, and reading and writing only through what the caller
//! passes in. Where leaves and tree hashes rest is the store's business; when to sign, the engine's.
//!
//! Reading order:
//! 1. [`tree`]: one Merkle tree per tenant, hashed as RFC 6962 says; how it grows, and proofs.
//! 2. [`checkpoint`]: signed tree heads, as C2SP tlog-checkpoint says.
//! 3. [`export`]: the file that carries a whole ledger. [`verify`]: what such a file proves.
//! 4. [`receipt`]: the file that carries one write-back.
//! 5. [`audit`]: the events as FHIR AuditEvents, and who saw or changed something of a patient.

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

pub mod tree;

pub mod checkpoint;

pub mod export;
pub mod verify;

pub mod receipt;

pub mod audit;

#[cfg(test)]
mod sample;
