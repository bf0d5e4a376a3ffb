//! The domain core of Chaperone: what exists, what may happen to it, and what the outside must provide.
//!
//! Pure: no clock, no randomness, no I/O (invariant 1). Time and random bytes are parameters.
//!
//! Reading order:
//! 1. [`ids`], [`digest`]: names of things. [`phi`]: values about a patient.
//! 2. [`principal`]: who acts. [`mode`]: what is switched off.
//! 3. [`resource`], [`change`] with [`weight`], [`gate`], [`facts`]: what a change is, how material it is, how much
//!    human authority it needs, and what that conclusion may rest on. [`patch`]: how an update travels as a patch.
//! 4. [`bundle`]: agents, intents and tools as declared. [`envelope`]: one agent, one intent, one
//!    patient. [`cohort`]: a list of patients that people approve. [`request`]: what policy is asked.
//! 5. [`evidence`] and [`verification`]: values that prove a step was taken. [`signed_form`]: what is signed elsewhere.
//!    [`writeback`]: the state machine they drive. [`undo`]: how
//!    what it did is taken back. [`passkey`] and [`claim`]: what is recorded of people's keys and of who has what in hand.
//!    [`edit`]: a person's change of what was proposed. [`canary`]: what only looks like a proposal.
//!    [`launch`]: coming to the console from inside the EHR.
//!    [`cover`]: who takes what is handed to somebody who is away.
//! 6. [`egress`]: which bytes may leave, and where to. [`breaker`]: when a server is left alone.
//! 7. [`event`]: the one definition of everything that is recorded, [`key_event`] for keys, [`retention`] for what
//!    goes and what is held back.
//! 8. [`ports`]: contracts for store, EHR, keys and people.

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

pub mod digest;
pub mod ids;
pub mod phi;

pub mod mode;
pub mod principal;
pub mod protocol;

pub mod change;
pub mod content;
pub mod facts;
pub mod gate;
pub mod patch;
pub mod resource;
pub mod search;
pub mod weight;

pub mod bundle;
pub mod envelope;
pub mod request;

pub mod canary;
pub mod claim;
pub mod cohort;
pub mod cover;
pub mod decision_support;
pub mod edit;
pub mod evidence;
pub mod exception;
pub mod launch;
pub mod oversight;
pub mod passkey;
pub mod patient_mail;
pub mod signed_form;
pub mod together;
pub mod undo;
pub mod verification;
pub mod writeback;

pub mod conformance;
pub mod retention;

pub mod breaker;
pub mod egress;

pub mod event;
pub mod key_event;

pub mod ports;

/// The time type used everywhere; reading the clock is the shell's business.
pub use jiff::Timestamp;
