//! Measures the scrubber on labelled queries in the format of ASQ-PHI: how many labelled values are gone, how
//! many queries without identifiers are changed. Prints both halves of the file; `--show even` or `--show odd`
//! lists what was missed and changed in one of them.
//!
//! `cargo run --release -p chaperone-phi --example scrub_asq -- FILE [--show even|odd]`

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::collections::BTreeMap;
use std::error::Error;

use chaperone_phi::scrub::{Known, Lexicon, Scrubber, Settings, Slots};

struct Query {
    text: String,
    labels: Vec<(String, String)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let file = arguments
        .first()
        .ok_or("usage: scrub_asq FILE [--show even|odd]")?;
    let shown = arguments.get(2).map(String::as_str);
    let queries = read(&std::fs::read_to_string(file)?)?;
    let lexicon = Lexicon::embedded()?;
    let known = Known::default();
    let scrubber = Scrubber::new(lexicon, &known, Settings::default());
    for (name, parity) in [("even", 0), ("odd", 1)] {
        let (mut kept, mut total, mut changed, mut negatives) = (0, 0, 0, 0);
        let mut classes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for query in queries.iter().skip(parity).step_by(2) {
            let scrubbed = scrubber.scrub(&query.text, &mut Slots::new())?.text;
            let missed: Vec<&(String, String)> = query
                .labels
                .iter()
                .filter(|(_, value)| scrubbed.contains(value.as_str()))
                .collect();
            for (class, _) in &query.labels {
                classes.entry(class).or_default().1 += 1;
            }
            for (class, _) in &missed {
                classes.entry(class).or_default().0 += 1;
            }
            total += query.labels.len();
            kept += missed.len();
            let is_negative = query.labels.is_empty();
            negatives += usize::from(is_negative);
            let is_changed = is_negative && scrubbed != query.text;
            changed += usize::from(is_changed);
            if shown == Some(name) && (is_changed || !missed.is_empty()) {
                println!(
                    "{} {}\n    {scrubbed}\n    {missed:?}",
                    if is_changed { "CHANGED" } else { "MISSED" },
                    query.text
                );
            }
            if shown == Some("all-even") && parity == 0 {
                println!("{scrubbed}");
            }
        }
        println!(
            "{name}: {} of {total} labelled values gone ({:.2} %), {changed} of {negatives} queries without identifiers changed ({:.1} %)",
            total - kept,
            100.0 * (total - kept) as f64 / total.max(1) as f64,
            100.0 * changed as f64 / negatives.max(1) as f64
        );
        for (class, (missed, of)) in &classes {
            println!("    {class:<32} {:>4} of {of:>4}", of - missed);
        }
    }
    Ok(())
}

fn read(text: &str) -> Result<Vec<Query>, Box<dyn Error>> {
    let mut queries = Vec::new();
    for block in text.split("===QUERY===").skip(1) {
        let (query, tags) = block
            .split_once("===PHI_TAGS===")
            .ok_or("a query without its labels")?;
        let mut labels = Vec::new();
        for line in tags.lines().filter(|line| !line.trim().is_empty()) {
            let tag: serde_json::Value = serde_json::from_str(line)?;
            let part = |key: &str| {
                tag.get(key)
                    .and_then(|it| it.as_str())
                    .unwrap_or("")
                    .to_owned()
            };
            labels.push((part("identifier_type"), part("value")));
        }
        queries.push(Query {
            text: query.trim().to_owned(),
            labels,
        });
    }
    Ok(queries)
}
