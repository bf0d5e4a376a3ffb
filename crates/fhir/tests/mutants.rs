//! Wrong variants of the US Core examples are rejected, where the examples and US Core are at hand.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        clippy::print_stdout,
        unreachable_pub,
        missing_docs,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason
    )
)]

#[path = "mutants/mod.rs"]
mod generator;

use std::path::Path;

/// Least share of mutants that must be rejected, in percent.
const REJECTED_PERCENT_MIN: f64 = 99.0;

#[test]
fn mutants_are_rejected() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = shared.join("conformance/us-core-examples");
    let package = shared.join("packages/us_core_800.tgz");
    if !folder.exists() || !package.exists() {
        println!("skipped: {} is not at hand", folder.display());
        return;
    }
    let tallies = generator::tally(&folder, &package, 1).unwrap();
    println!("{}", generator::report(&tallies, 10));
    assert!(generator::rejected_percent(&tallies) >= REJECTED_PERCENT_MIN);
}
