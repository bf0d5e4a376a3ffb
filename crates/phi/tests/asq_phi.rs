//! The floor on labelled queries of others: of at least 99 % of the labelled values no word that tells something is
//! left at its place, and at most a tenth of the queries without identifiers is changed. The queries lie outside this repository;
//! without them, this says so.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

#[path = "../examples/asq/mod.rs"]
mod asq;

use std::path::Path;

use chaperone_phi::scrub::{Finding, Known, Lexicon, Scrubber, Settings, Slots};

use self::asq::Left;

#[test]
fn labelled_values_go_and_queries_without_any_stay() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/conformance/asq-phi/queries-dev.txt");
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!(
            "skipped: the labelled queries of ASQ-PHI are not at {}",
            file.display()
        );
        return;
    };
    let known = Known::default();
    let lexicon = Lexicon::embedded().unwrap();
    let scrubber = Scrubber::new(lexicon, &known, Settings::default());
    let (mut gone, mut whole, mut labels, mut changed, mut negatives) = (0, 0, 0, 0, 0);
    for query in asq::read(&text).unwrap() {
        let scrubbed = scrubber.scrub(&query.text, &mut Slots::new()).unwrap();
        labels += query.labels.len();
        for (_, value) in &query.labels {
            gone += usize::from(!scrubbed.text.contains(value.as_str()));
            let left = asq::left(lexicon, &query.text, value, &scrubbed.findings);
            whole += usize::from(left < Left::Words);
        }
        let is_negative = query.labels.is_empty();
        negatives += usize::from(is_negative);
        changed += usize::from(is_negative && scrubbed.text != query.text);
    }
    println!(
        "of {labels} labelled values {gone} are no longer present as a whole, and of {whole} no word that tells something is left; {changed} of {negatives} queries without identifiers changed"
    );
    assert!(labels > 100 && negatives > 10);
    assert!(whole * 100 >= labels * 99, "{whole} of {labels}");
    assert!(changed * 10 <= negatives, "{changed} of {negatives}");
}

#[test]
fn a_value_is_gone_when_none_of_its_words_is_left() {
    let known = Known::default();
    let lexicon = Lexicon::embedded().unwrap();
    let scrubber = Scrubber::new(lexicon, &known, Settings::default());
    let text = "seen by Dr. Mary Q Smith in New York";
    let found = scrubber.detect(text).unwrap();
    let left = |value: &str, findings: &[Finding]| asq::left(lexicon, text, value, findings);
    assert_eq!(left("Mary Q Smith", &found), Left::Nothing);
    assert_eq!(
        left("Dr. Mary Q Smith in New York", &found),
        Left::SmallWords
    );
    assert_eq!(left("seen by Dr. Mary", &found), Left::Words);
    // Half a name is not gone.
    let half = [Finding {
        start: 12,
        end: 18,
        ..found[0]
    }];
    assert_eq!(left("Mary Q Smith", &half), Left::Words);
}
