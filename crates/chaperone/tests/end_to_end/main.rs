//! The binary from the outside: real processes, the sandbox EHR over HTTP, both databases.
//!
//! Not the place for rules of single crates: what is asserted here holds for the product as it is
//! installed and run. Start at [`kill`] (nothing is lost and nothing takes effect twice) and [`chaos`], then
//! [`faults`], [`canary`] (nothing of a patient gets out) and [`cli`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

mod agents;
mod console;
mod egress;
mod ehr;
mod events;
mod export;
mod installation;
mod launches;
mod mail;
mod needle;
mod people_at_cli;
mod postgres;
mod searched;
mod validate;
mod wire;

#[path = "../../../store/tests/support/cluster.rs"]
mod cluster;

mod audit;
mod canary;
mod chaos;
mod cli;
mod faults;
mod keys;
mod kill;
