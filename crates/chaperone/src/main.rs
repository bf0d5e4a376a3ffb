//! The one binary: subcommands, configuration, composition. No rule lives here.
//!
//! Reading order: `cli` (what can be asked), `compose` (how the parts are put together), `workers`
//! (what runs in the background), then one file per subcommand in `commands` and `demo`.

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

mod bundle_files;
mod cli;
mod commands;
mod compose;
mod config;
mod demo;
mod keys;
mod package_store;
mod signals;
#[cfg(feature = "prove")]
mod solver;
mod telemetry;
mod web;
mod workers;

use std::process::ExitCode;

/// Requests make and drop many small JSON values on several threads; see docs/benchmarks.md for what the
/// system's own allocator costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The one provider of cryptography for TLS, before anything can ask for another.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("chaperone: the TLS provider could not be installed");
        return ExitCode::from(2);
    }
    cli::run()
}
