//! The sandbox EHR: a small FHIR R4 server for demonstrations and tests, and the synthetic
//! patients that fill it.
//!
//! It is not an EHR and not a reference server: it knows the interactions and search parameters
//! that Chaperone's tools use, keeps everything in memory, listens on loopback only, and can be
//! told to fail in the ways real servers fail.
//!
//! Where to start: [`Sandbox::start`] runs one, [`SandboxHandle`] looks inside it and injects
//! faults, [`synthetic::patients`] makes patients.
//!
//! Reading order:
//!
//! 1. [`Sandbox`], [`SandboxConfig`], [`ServerProfile`]: what can be started.
//! 2. `definitions`, `dates`, `index`: which resource types and search parameters exist.
//! 3. `storage`, `criteria`, `search`, `operations`, `transaction`, `filing`, `signing`: what the server does.
//! 4. `interaction`, `server`, `connection`, `auth`, `capability`, `outcome`: how it is reached.
//! 5. `faults`, `requests`: how it is made to fail, and what it saw.
//! 6. `load`, `seed`, [`synthetic`]: what is in it.
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

mod auth;
mod capability;
mod config;
mod connection;
mod criteria;
mod dates;
mod definitions;
mod faults;
mod filing;
mod handle;
mod index;
mod interaction;
mod launch;
mod load;
mod operations;
mod outcome;
mod patching;
mod profile;
mod requests;
mod running;
mod search;
mod seed;
mod server;
mod signing;
mod storage;
pub mod synthetic;
mod transaction;

pub use auth::{Authentication, BackendClient, ClientsInvalid};
pub use config::{Clock, SandboxConfig};
pub use faults::{FaultKind, FaultRule};
pub use handle::SandboxHandle;
pub use launch::{IdentityFlaw, LaunchClient, OpenInEhr};
pub use load::{LoadError, LoadReport};
pub use profile::ServerProfile;
pub use requests::ReceivedRequest;
pub use running::{RunningSandbox, Sandbox, StartError};
pub use seed::SeedReport;
pub use storage::{Change, ChangeKind};
