//! The engine: the imperative shell. One file per use case; each reads, asks the pure crates to
//! decide, and commits once.
//!
//! It never spawns and never sleeps: a worker, a handler or a simulator drives it. Everything outside
//! is reached through the ports of `chaperone_core::ports`.
//!
//! Reading order: [`context`] (what a use case works with), then the agent's side ([`open_envelope`],
//! [`call`], [`consent`], [`read`], [`propose`]), how patients come before agents ([`grant`], [`ehr_event`],
//! [`collect`], [`cohort`]), the humans' side ([`people`], [`decide`], [`approve`], [`edit`], [`views`],
//! [`switch_mode`], [`break_glass`], [`reveal`]), the workers' side ([`deliver`], [`expire`], [`ledger`]), and how
//! what went wrong is taken back ([`undo`]);
//! what all of it looks like from outside is [`audit`], where anything rests is [`inventory`], how long it stays is
//! [`retention`], what leaves is [`egress`], and where everything goes is [`dataflow`].

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

pub mod context;
pub mod errors;

mod afterwork;
mod bulk;
mod client_token;
mod confidential;
pub mod conformance;
mod key_use;
pub mod projection;
mod recent;
mod refusals;
mod tables;
mod tokens;
mod transition;
mod vault;

pub mod consent;

mod arguments;
pub mod call;
pub mod entities;
mod free_text;
mod merge;
mod observe;
pub mod open_envelope;
mod order;
mod outside_text;
pub mod propose;
pub mod read;
pub mod refill;
pub mod replay;
mod slots;

pub mod approve;
pub mod batch;
pub mod break_glass;
pub mod canary;
pub mod claim;
pub mod cohort;
pub mod collect;
pub mod cover;
pub mod decide;
pub mod decision_support;
pub mod edit;
pub mod ehr_event;
pub mod exception;
pub mod grant;
pub mod launch;
mod on_screen;
pub mod people;
pub mod portal;
pub mod reveal;
pub mod switch_mode;
pub mod verification;
pub mod views;

pub mod deliver;
pub mod expire;
pub mod ledger;
pub mod oversight;
pub mod undo;

pub mod audit;
pub mod dataflow;
pub mod egress;
pub mod inventory;
pub mod retention;

pub use context::{
    Engine, EngineConfig, Ports, PreparedBundle, StartFailed, check_bundle, validator_over,
};
pub use errors::{CallError, Retry};
pub use key_use::record_key_change;
