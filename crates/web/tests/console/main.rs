//! The console over HTTP: who gets in, what a form must carry, what each role sees and may do, and a
//! proposal from the inbox to the queue. Beside each permitted thing the nearest forbidden one.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod answers;
mod batches;
mod bench;
mod canaries;
mod claims;
mod cohorts;
mod decision_support;
mod decisions;
mod edits;
mod emergency;
mod excepted;
mod exceptions;
mod launches;
mod oversight;
mod pages;
mod passkeys;
mod sessions;
mod together;
mod undo;
