//! The default bundle of `governance/` loads, and proves what it says.

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

use chaperone_policy::Bundle;

#[test]
fn the_default_bundle_loads() {
    match Bundle::load(&folder::governance()) {
        Ok(bundle) => {
            let passed = bundle.cases_passed();
            assert!(
                passed.own > 100 && passed.own == passed.embedded,
                "{passed:?}"
            );
        }
        Err(problems) => {
            let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{}", text.join("\n"));
        }
    }
}
