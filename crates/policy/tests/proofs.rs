//! What must always hold is proved of the default bundle, and refuted of bundles that are bent in one place.
//!
//! Needs cvc5; where it is missing each test says that it skipped, or fails with CHAPERONE_TEST_PROOFS set.

#![cfg(feature = "prove")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

mod folder;
mod solver;

use chaperone_policy::Bundle;
use chaperone_policy::prove::prove;

use crate::solver::Cvc5;

#[test]
fn every_statement_holds_of_the_default_bundle() {
    let Some(mut solver) = Cvc5::found() else {
        return;
    };
    let bundle = Bundle::load(&folder::governance()).unwrap();
    let report = prove(&bundle, None, &mut solver).unwrap();
    assert!(report.holds(), "{report}");
}

#[test]
fn timing() {
    let mut solver = Cvc5::found().unwrap();
    let bundle = Bundle::load(&folder::governance()).unwrap();
    let all = std::env::var("ONLY").ok();
    for invariant in bundle.invariants() {
        if all.as_ref().is_some_and(|a| !invariant.id.contains(a.as_str())) { continue; }
        let start = std::time::Instant::now();
        let report = prove(&bundle, Some(&invariant.id), &mut solver).unwrap();
        println!("{:?}\n{report}", start.elapsed());
    }
}
