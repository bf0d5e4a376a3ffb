//! What must always hold is proved of the default bundle, and refuted of bundles that are bent in one place.
//!
//! Needs cvc5; where it is missing each test says that it skipped, or fails with CHAPERONE_TEST_PROOFS set.

#![cfg(feature = "prove")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

mod folder;
mod solver;

use std::collections::BTreeMap;

use chaperone_policy::Bundle;
use chaperone_policy::prove;
use chaperone_policy::prove::report::{Outcome, Report, Shown};
use serde::Deserialize;
use serde_json::Value;

use crate::solver::Cvc5;

/// Policies are walked by recursion, in an unoptimised build with large frames.
const STACK_BYTES: usize = 64 << 20;

const INVARIANTS: &str = "policies/invariants.cedar";

/// Loads a bundle; it must.
#[track_caller]
fn loaded(files: &BTreeMap<String, String>) -> Bundle {
    Bundle::load(files).unwrap_or_else(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{}", problems.join("\n"))
    })
}

/// Proves one statement, or all.
#[track_caller]
fn proved(bundle: &Bundle, only: Option<&str>, solver: &mut Cvc5) -> Report {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || prove::prove(bundle, only, solver).unwrap())
            .unwrap()
            .join()
            .unwrap()
    })
}

/// The request, or the two, that refute the one statement of a report.
#[track_caller]
fn refuted(report: &Report) -> &[Shown] {
    match &report.proved[0].outcome {
        Outcome::Refuted { counterexample, .. } => counterexample,
        _ => panic!("not refuted: {report}"),
    }
}

#[test]
fn every_statement_holds_of_the_default_bundle() {
    let Some(mut solver) = Cvc5::found() else {
        return;
    };
    let bundle = Bundle::load(&folder::governance()).unwrap();
    let report = proved(&bundle, None, &mut solver);
    assert!(report.holds(), "{report}");
}

/// One way to bend a bundle: `planted/weaknesses.toml`.
#[derive(Deserialize)]
struct Weakness {
    name: String,
    file: String,
    from: String,
    to: String,
    #[serde(default)]
    cases: Option<String>,
    refutes: String,
    asks: String,
    ruling: String,
    #[serde(default)]
    denial: Option<String>,
    #[serde(default)]
    decided_by: Option<Vec<String>>,
}

#[test]
fn planted_weaknesses_pass_the_ordinary_check_and_are_refuted_by_requests_that_rule_as_shown() {
    #[derive(Deserialize)]
    struct Planted {
        weakness: Vec<Weakness>,
    }
    let Some(mut solver) = Cvc5::found() else {
        return;
    };
    let planted: Planted = toml::from_str(include_str!("planted/weaknesses.toml")).unwrap();
    assert!(planted.weakness.len() >= 5);
    for weakness in planted.weakness {
        let mut files = folder::governance();
        let text = files.get_mut(&weakness.file).unwrap();
        assert_eq!(text.matches(&weakness.from).count(), 1, "{}", weakness.name);
        *text = text.replacen(&weakness.from, &weakness.to, 1);
        if let Some(cases) = weakness.cases {
            files.insert("policies/cases/planted.json".to_owned(), cases);
        }
        // The ordinary check finds nothing.
        let bundle = loaded(&files);
        let report = proved(&bundle, Some(&weakness.refutes), &mut solver);
        assert!(!report.holds());
        let shown = refuted(&report);
        let first = &shown[0];
        let asks = first.policies_ask.as_str();
        assert!(
            asks == weakness.asks || asks.starts_with(&format!("{}(", weakness.asks)),
            "{report}"
        );
        let ruling = first.ruling.as_str();
        assert!(
            ruling == weakness.ruling || ruling.starts_with(&format!("{}(", weakness.ruling)),
            "{report}"
        );
        assert_eq!(first.denial, weakness.denial, "{report}");
        if let Some(expected) = &weakness.decided_by {
            let decided: Vec<&str> = first
                .decided_by
                .iter()
                .map(|said| said.policy.as_str())
                .collect();
            assert_eq!(decided, *expected, "{report}");
        }
        // What was found, as cases of the bundle, is ruled by the ordinary ruling as the report says.
        let cases: Vec<Value> = shown.iter().map(|shown| shown.case.clone()).collect();
        let kind = if shown[0].case.get("agent_intents").is_some() {
            "access"
        } else {
            "write"
        };
        files.insert(
            format!("policies/cases/{kind}-found.json"),
            serde_json::to_string(&cases).unwrap(),
        );
        loaded(&files);
    }
}

#[test]
fn a_statement_about_nothing_is_vacuous_and_none_holds_by_it() {
    let Some(mut solver) = Cvc5::found() else {
        return;
    };
    let mut files = folder::governance();
    files.get_mut(INVARIANTS).unwrap().push_str(
        r#"
        @id("about-nothing") @at_least("approve") @text("A graver draft.")
        forbid (principal, action == Action::"escalate", resource is Task)
        when { context.class == "M5" && resource.destination == "staged" && resource.interaction != "delete" };
        @id("call-about-nothing") @never("permitted") @text("No such call.")
        forbid (principal, action == Action::"access", resource)
        when { context.mode == "half-open" };"#,
    );
    let bundle = loaded(&files);
    for id in ["about-nothing", "call-about-nothing"] {
        let report = proved(&bundle, Some(id), &mut solver);
        assert!(!report.holds());
        assert!(
            matches!(report.proved[0].outcome, Outcome::Vacuous { .. }),
            "{report}"
        );
    }
}

#[test]
fn a_comparison_that_makes_no_difference_is_vacuous() {
    let Some(mut solver) = Cvc5::found() else {
        return;
    };
    let mut files = folder::governance();
    files.get_mut(INVARIANTS).unwrap().push_str(
        r#"
        @id("tainted-provenance") @no_weaker_than("untainted") @text("Taint and provenance.")
        forbid (principal, action == Action::"escalate", resource is Provenance) when { true };"#,
    );
    let report = proved(&loaded(&files), Some("tainted-provenance"), &mut solver);
    assert!(
        matches!(report.proved[0].outcome, Outcome::Vacuous { .. }),
        "{report}"
    );
}

#[test]
fn what_the_default_bundle_forbids_holds_for_a_bundle_that_states_nothing() {
    let Some(mut solver) = Cvc5::found() else {
        return;
    };
    let mut files = folder::governance();
    files.remove(INVARIANTS);
    let delete = files.get_mut("policies/matrix-safety.cedar").unwrap();
    *delete = delete.replacen(
        "when { resource.interaction == \"delete\" };",
        "when { resource.interaction == \"delete\" } unless { resource is Goal };",
        1,
    );
    let report = proved(&loaded(&files), Some("nothing-deleted"), &mut solver);
    refuted(&report);
    let promised = proved(&loaded(&files), Some("opting-out-never-waits"), &mut solver);
    assert!(
        promised.proved.is_empty(),
        "a promise of the default bundle binds it alone"
    );
}
