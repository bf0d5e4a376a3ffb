//! The store adapters: the port `chaperone_core::ports::Store` on SQLite and on PostgreSQL. All SQL of
//! Chaperone is in this crate, and no type of a database driver leaves it. What a commit means is
//! decided in one place for both ([`plan`]); how it is made durable is written natively for each.
//!
//! Reading order: [`open()`] chooses the backend by URL, [`diagnose()`] examines one without changing it;
//! then `plan` (decisions), `succession` (leases, checkpoints), `sweep` (expired records), `listing`,
//! `rows`, and the two adapters `sqlite` and `postgres`.

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

mod diagnose;
mod open;

mod listing;
mod migrations;
mod plan;
mod rows;
mod succession;
mod sweep;

mod postgres;
mod sqlite;

pub use diagnose::{Aspect, Diagnosis, Finding, Verdict, diagnose};
pub use open::{Backend, OpenFailed, Options, open};

/// Most rows of one listing, one claim or one look at the work.
pub const LISTED_MAX: u32 = 1_000;

/// Most events of one stream that are read.
pub use chaperone_core::ports::STREAM_EVENTS_MAX;

/// Most leaves of one read.
pub const LEAVES_MAX: u32 = 10_000;
