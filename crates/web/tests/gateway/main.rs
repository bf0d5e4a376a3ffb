//! The agents' side as agents meet it: real engine, real store, the default bundle, an EHR in memory.
//!
//! Start at [`house`] for the set-up, and at [`negative`] for everything that must be refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

mod cds_services;
mod cohorts;
mod ehr_events;
mod house;
mod mcp;
mod negative;
mod portals;
mod quiet;
mod rest;
mod rude;
mod tokens;
mod wire;
