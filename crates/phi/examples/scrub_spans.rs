//! Measures the scrubber on sentences with labelled spans in the format of presidio-research: of how many values of
//! each type no word is left that tells something. These are sentences of everyday life from many countries, not notes.
//!
//! `cargo run --release -p chaperone-phi --example scrub_spans -- FILE [TYPE]` (a type lists what was missed)

#![expect(clippy::print_stdout, reason = "an example prints")]

#[expect(
    dead_code,
    reason = "the reader of the queries is for the other example"
)]
mod asq;

use std::collections::BTreeMap;
use std::error::Error;

use chaperone_phi::scrub::{Known, Lexicon, Scrubber, Settings, Slots};
use serde_json::Value;

use self::asq::Left;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let file = arguments.first().ok_or("usage: scrub_spans FILE [TYPE]")?;
    let sentences: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let known = Known::default();
    let lexicon = Lexicon::embedded()?;
    let scrubber = Scrubber::new(lexicon, &known, Settings::default());
    let mut types: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let (mut untouched, mut without) = (0, 0);
    for sentence in &sentences {
        let text = |value: &Value, key: &str| {
            let text = value.get(key).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let full = text(sentence, "full_text");
        let scrubbed = scrubber.scrub(&full, &mut Slots::new())?;
        let spans = sentence.get("spans").and_then(Value::as_array);
        let spans = spans.map_or(&[] as &[Value], Vec::as_slice);
        without += usize::from(spans.is_empty());
        untouched += usize::from(spans.is_empty() && scrubbed.text == full);
        for span in spans {
            let (kind, value) = (text(span, "entity_type"), text(span, "entity_value"));
            let is_gone = asq::left(lexicon, &full, &value, &scrubbed.findings) < Left::Words;
            if !is_gone && arguments.get(1) == Some(&kind) {
                println!("{value}\n    {full}");
            }
            let tally = types.entry(kind).or_default();
            tally.0 += usize::from(is_gone);
            tally.1 += 1;
        }
    }
    for (kind, (gone, of)) in &types {
        println!("{kind:<24} {gone:>4} of {of:>4}");
    }
    println!("{untouched} of {without} sentences without labels unchanged");
    Ok(())
}
