//! Verdicts on the cases of the FHIR validator manifest, where it is at hand.
//!
//! A run counts if its expected outcome and all it needs are at hand and its errors do not all rest on the
//! content of code systems that are not loaded (see `manifest::Standing` for the exact criteria).

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

mod manifest;

use std::path::Path;

/// Least agreement, in percent of the runs that can be compared.
const AGREEMENT_PERCENT_MIN: f64 = 95.0;

#[test]
fn verdicts_agree_with_the_manifest() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = shared.join("conformance/fhir-validator");
    if !folder.exists() {
        println!("skipped: {} is not at hand", folder.display());
        return;
    }
    let manifest = manifest::Manifest::read(&folder, &shared.join("packages")).unwrap();
    let runs = manifest.run("");
    println!("{}", manifest::report(&runs, false));
    assert!(manifest::agreement(&runs) >= AGREEMENT_PERCENT_MIN);
    let rejected: Vec<&str> = runs
        .iter()
        .filter(|it| it.standing == manifest::Standing::FalseReject)
        .map(|it| it.case.as_str())
        .collect();
    assert!(rejected.is_empty(), "rejected without cause: {rejected:?}");
}
