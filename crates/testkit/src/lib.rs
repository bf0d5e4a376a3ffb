//! Fakes of the ports, driven by a seed: for tests and simulations, never for a running Chaperone.
//!
//! Nothing here sleeps, reads a real clock or opens a connection. Two runs with the same seed and the
//! same calls see the same times, the same random bytes and the same answers.
//!
//! Reading order: [`SeededClock`] and [`SeededRandom`], the small fakes of [`outside`], then
//! [`FakeEhr`], an EHR in memory whose writes can be made to fail in both ways: failed and lost, or
//! failed but applied, and [`FaultyStore`], which can refuse to record or hold a call. [`SoftKey`] is an authenticator,
//! [`FakeLaunchServer`] the EHR's authorization server.

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

mod ehr;
mod keys;
mod launch_server;
mod memory;
mod outside;
pub mod simulation;
mod soft_key;
mod store;
mod time;

pub use ehr::{FakeEhr, WriteFault, shown};
pub use keys::MemoryKeyVault;
pub use launch_server::{FakeLaunchServer, LetThrough};
pub use memory::MemoryStore;
pub use outside::{DenyConsent, KeptMail, MemoryAnchor, PermitConsent, SilentNotifier};
pub use soft_key::SoftKey;
pub use store::{FaultyStore, Hold};
pub use time::{SeededClock, SeededRandom};
