//! Measures the scrubber on labelled queries in the format of ASQ-PHI: of how many labelled values no word is left
//! that tells something, of how many no word at all, how many are no longer present as a whole, and how many
//! queries without identifiers are changed. Prints both halves of the file, by type for the first measure;
//! `--show even` or `--show odd` lists what was left and changed in one of them.
//!
//! `cargo run --release -p chaperone-phi --example scrub_asq -- FILE [--show even|odd]`

#![expect(clippy::print_stdout, reason = "an example prints")]

mod asq;

use std::collections::BTreeMap;
use std::error::Error;

use chaperone_phi::scrub::{Known, Lexicon, Scrubber, Settings, Slots};

use self::asq::Left;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let file = arguments
        .first()
        .ok_or("usage: scrub_asq FILE [--show even|odd]")?;
    let shown = arguments.get(2).map(String::as_str);
    let queries = asq::read(&std::fs::read_to_string(file)?)?;
    let lexicon = Lexicon::embedded()?;
    let known = Known::default();
    let scrubber = Scrubber::new(lexicon, &known, Settings::default());
    for (name, parity) in [("even", 0), ("odd", 1)] {
        let (mut whole, mut any, mut kept, mut total, mut changed, mut negatives) =
            (0, 0, 0, 0, 0, 0);
        let mut classes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for query in queries.iter().skip(parity).step_by(2) {
            let scrubbed = scrubber.scrub(&query.text, &mut Slots::new())?;
            let mut missed: Vec<(&str, &str)> = Vec::new();
            for (class, value) in &query.labels {
                let left = asq::left(lexicon, &query.text, value, &scrubbed.findings);
                let of_class = classes.entry(class).or_default();
                of_class.1 += 1;
                whole += usize::from(scrubbed.text.contains(value.as_str()));
                any += usize::from(left != Left::Nothing);
                if left == Left::Words {
                    of_class.0 += 1;
                    missed.push((class, value));
                }
            }
            total += query.labels.len();
            kept += missed.len();
            let is_negative = query.labels.is_empty();
            negatives += usize::from(is_negative);
            let is_changed = is_negative && scrubbed.text != query.text;
            changed += usize::from(is_changed);
            if shown == Some(name) && (is_changed || !missed.is_empty()) {
                println!(
                    "{} {}\n    {}\n    {missed:?}",
                    if is_changed { "CHANGED" } else { "LEFT" },
                    query.text,
                    scrubbed.text
                );
            }
            if shown == Some("all-even") && parity == 0 {
                println!("{}", scrubbed.text);
            }
        }
        let share = |of: usize| 100.0 * (total - of) as f64 / total.max(1) as f64;
        println!(
            "{name}: of {total} labelled values, no word that tells something is left of {} ({:.2} %), no word at all of {} ({:.2} %), {} are no longer present as a whole ({:.2} %); {changed} of {negatives} queries without identifiers changed ({:.1} %)",
            total - kept,
            share(kept),
            total - any,
            share(any),
            total - whole,
            share(whole),
            100.0 * changed as f64 / negatives.max(1) as f64
        );
        for (class, (missed, of)) in &classes {
            println!("    {class:<32} {:>4} of {of:>4}", of - missed);
        }
    }
    Ok(())
}
