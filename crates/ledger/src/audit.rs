//! What the ledger's events mean to somebody outside: FHIR R4 AuditEvents, and one row for each time
//! somebody saw or changed something of a patient.
//!
//! It stands in this crate because it is a form in which the ledger leaves the house, as [`crate::export`]
//! is another: it maps stored events, needs nothing but `core`, and must be pure (invariant 1). Which codes
//! an event is told by is data (`rules/audit-events.toml` of the bundle); which logical id a token stands
//! for, where rows rest and where AuditEvents go are the engine's business.
//!
//! Reading order: [`access`] (what belongs together: an envelope and its reads, a proposal and its end),
//! [`codes`] (the table), [`case`](AuditCase) (which row of it an event takes), [`event`] (the AuditEvent), with its
//! `agents` and `entities`.
//!
//! # Source
//! FHIR R4 AuditEvent (<https://hl7.org/fhir/R4/auditevent.html>); IHE Basic Audit Log Patterns, BALP
//! (<https://profiles.ihe.net/ITI/BALP/>); 45 CFR 164.312(b); requirements R059 and R064.

pub mod access;
mod agents;
mod case;
pub mod codes;
mod entities;
pub mod event;

pub use case::AuditCase;
