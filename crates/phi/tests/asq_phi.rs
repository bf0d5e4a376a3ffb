//! The floor on labelled queries of others: at least 99 % of the labelled values gone, at most a tenth of the
//! queries without identifiers changed. The queries lie outside this repository; without them, this says so.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

use std::path::Path;

use chaperone_phi::scrub::{Known, Lexicon, Scrubber, Settings, Slots};

#[test]
fn labelled_values_go_and_queries_without_any_stay() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/conformance/asq-phi/queries-dev.txt");
    let Ok(text) = std::fs::read_to_string(file) else {
        println!("skipped: the labelled queries of ASQ-PHI are not here");
        return;
    };
    let known = Known::default();
    let scrubber = Scrubber::new(Lexicon::embedded().unwrap(), &known, Settings::default());
    let (mut gone, mut labels, mut changed, mut negatives) = (0, 0, 0, 0);
    for block in text.split("===QUERY===").skip(1) {
        let (query, tags) = block.split_once("===PHI_TAGS===").unwrap();
        let query = query.trim();
        let scrubbed = scrubber.scrub(query, &mut Slots::new()).unwrap().text;
        let values: Vec<String> = tags
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["value"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        labels += values.len();
        gone += values
            .iter()
            .filter(|value| !scrubbed.contains(value.as_str()))
            .count();
        negatives += usize::from(values.is_empty());
        changed += usize::from(values.is_empty() && scrubbed != query);
    }
    println!(
        "{gone} of {labels} labelled values gone; {changed} of {negatives} queries without identifiers changed"
    );
    assert!(labels > 100 && negatives > 10);
    assert!(gone * 100 >= labels * 99, "{gone} of {labels}");
    assert!(changed * 10 <= negatives, "{changed} of {negatives}");
}
