//! Every row, prohibition, escalator and vector stands beside its nearest neighbour, and a bundle in which one
//! does not is refused by name.

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

use std::collections::{BTreeMap, BTreeSet};

use chaperone_policy::Bundle;
use chaperone_policy::pairs::{self, AFTER_THE_RULING, PAIRS_PATH, VECTORS_PATH};
use serde_json::{Value, json};

/// The pairs of the default bundle after a change, as problems: place and message.
fn problems(change: impl FnOnce(&mut Vec<Value>, &mut Vec<Value>)) -> Vec<String> {
    let mut files: BTreeMap<String, String> = folder::governance();
    let read = |path: &str| serde_json::from_str::<Vec<Value>>(&files[path]).unwrap();
    let (mut of_cases, mut vectors) = (read(PAIRS_PATH), read(VECTORS_PATH));
    change(&mut of_cases, &mut vectors);
    for (path, list) in [(PAIRS_PATH, of_cases), (VECTORS_PATH, vectors)] {
        files.insert(path.to_owned(), serde_json::to_string(&list).unwrap());
    }
    match Bundle::load(&files) {
        Ok(_) => Vec::new(),
        Err(problems) => problems
            .iter()
            .map(|it| format!("{}: {}", it.place, it.message))
            .collect(),
    }
}

fn pair_of<'v>(pairs: &'v mut [Value], policy: &str) -> &'v mut Value {
    pairs
        .iter_mut()
        .find(|pair| pair["shows"][0] == policy)
        .unwrap()
}

#[test]
fn nothing_of_the_matrix_is_without_its_nearest_neighbour() {
    let bundle = Bundle::load(&folder::governance()).unwrap();
    let rows: BTreeSet<&str> = bundle.pairs().iter().map(|it| it.row.as_str()).collect();
    for number in 1..=65 {
        assert!(rows.contains(number.to_string().as_str()), "row {number}");
    }
    assert!(rows.contains("34a"));
    let shown: BTreeSet<&str> = bundle.pairs().iter().map(|it| it.shows.as_str()).collect();
    for number in 1..=22 {
        assert!(
            shown.contains(format!("W-{number:02}").as_str()),
            "{number}"
        );
    }
    for policy in bundle.matrix().rows {
        assert!(shown.contains(policy.policy.as_str()), "{}", policy.policy);
    }
    assert!(AFTER_THE_RULING.iter().all(|id| shown.contains(id)));
    let insulin = bundle
        .pairs()
        .iter()
        .find(|it| it.shows == "medication-order-high-alert")
        .unwrap();
    assert_eq!(insulin.gate, "two_person(clinician, pharmacist)");
    assert_eq!(insulin.but, "observed.medication_controlled = true");
    assert_eq!(insulin.then, "deny: controlled-substance");
    let lines = bundle.pairs().len();
    assert_eq!(pairs::csv(bundle.pairs()).lines().count(), lines + 1);
    assert_eq!(pairs::markdown(bundle.pairs()).lines().count(), lines + 2);
}

#[test]
fn what_has_no_pair_or_one_that_shows_nothing_is_named() {
    let found = problems(|pairs, vectors| {
        // Gone: a row, an escalator, the default with W-21, a vector of a ruling, one of an approval.
        pairs.retain(|pair| {
            let first = pair["shows"][0].as_str().unwrap();
            !["task-request", "legal-hold", "default-deny", "W-17"].contains(&first)
        });
        vectors.retain(|vector| vector["vector"] != "W-19");
        // Without a neighbour of its own.
        let stale = vectors.iter_mut().find(|it| it["vector"] == "stale-basis");
        stale.unwrap()["neighbours"] = json!([]);
        // A prohibition that refuses its neighbour as well.
        let merge = pair_of(pairs, "patient-link");
        merge["but"] = json!({ "change.elements": ["link", "telecom"] });
        merge["gate"] = json!("deny");
        merge["class"] = json!("M5");
        merge["policies"] = json!(["patient-link"]);
        merge["denial"] = json!("merge-prohibited");
        // A neighbour that the matrix lets pass more lightly.
        let outside = pair_of(pairs, "communication-outside-care-team");
        outside["but"] = json!({ "observed.in_care_team": true });
        outside["gate"] = json!("auto");
        outside["class"] = json!("M0");
        outside["policies"] = json!(["communication-care-team"]);
        outside.as_object_mut().unwrap().remove("denial");
    });
    for expected in [
        "task-request: nothing shows this beside its nearest neighbour",
        "legal-hold: nothing shows this",
        "default-deny: nothing shows this",
        "W-21: nothing shows this",
        "W-17: nothing shows this",
        "W-19: nothing shows this",
        "stale-basis: names no test, or none of its nearest neighbour",
        "patient-link, row 6: a merge: the neighbour is refused by the same prohibition",
        "outside the care team: the neighbour meets a lighter gate",
    ] {
        assert!(
            found.iter().any(|it| it.contains(expected)),
            "{expected} is not in\n{}",
            found.join("\n")
        );
    }
}

#[test]
fn a_neighbour_that_is_ruled_otherwise_than_it_says_is_named() {
    let found = problems(|pairs, _| {
        pair_of(pairs, "medication-order")["gate"] = json!("approve_2f(clinician)");
    });
    let expected = "a dose change; but observed.medication_high_alert = true: expected gate \
                    approve_2f(clinician), got two_person(clinician, pharmacist)";
    assert!(
        found.iter().any(|it| it.contains(expected)),
        "{}",
        found.join("\n")
    );
    assert_eq!(found.len(), 1);
}
