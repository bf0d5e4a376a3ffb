//! The sandbox over HTTP, as any client sees it.
//!
//! One binary for all files, since linking costs more than running. Start at `support`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests"
)]

mod backend_services;
mod failing;
mod loading;
mod patches;
mod searches;
mod support;
mod transactions;
mod vendor_and_staged;
mod writes;
