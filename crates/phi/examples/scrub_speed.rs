//! How long one note takes, on one core: the middle and the slowest hundredth of many.
//!
//! `cargo run --release -p chaperone-phi --example scrub_speed -- [ROUNDS]`

#![expect(clippy::print_stdout, reason = "an example prints")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use chaperone_phi::scrub::{Known, Lexicon, Scrubber, Settings, Slots};
use serde_json::json;

/// Some three hundred characters each, with identifiers and without.
const NOTES: [&str; 4] = [
    "Robert Hodkiewicz (MRN AB-104577, DOB 04/12/1958) was seen at Athol Memorial Hospital on March 3rd, 2026 by Dr. Lilliana Brakus for follow-up \
     of type 2 diabetes and hypertension. He lives at 672 Pfannerstill Passage, Athol, MA 01331; phone (555) 359-6021. Continue metformin 500 mg \
     twice daily.",
    "58-year-old male with Parkinson's disease and Graves ophthalmopathy, Foley catheter in place, presents with dysuria for 3 days. T 38.1, BP \
     128/76, HR 92, SpO2 97 % on room air. Urine culture grew E. coli > 100,000 CFU/mL. Started nitrofurantoin 100 mg BID for 5 days. Follow up in \
     clinic if no better.",
    "SOAP: S: cough x 2 wks, no fever. O: lungs clear, HEENT normal, WBC 7.2, CRP 4. A: viral bronchitis, Centor score 1, Wells score 0. P: fluids, \
     honey, return if dyspnea. Discussed with wife Maria Gonzalez (cell 212.555.0187, m.gonzalez@mail.example) on 2026-02-11, next visit \
     2/25/2026 in our Dallas clinic.",
    "Discharge summary: admitted 1/5/26, discharged 1/9/26 from St. Mary's Medical Center in Springfield, IL 62701 after NSTEMI, PCI to LAD with \
     drug-eluting stent (serial number BX-88213-Q). Meds: aspirin 81 mg, ticagrelor 90 mg BID, atorvastatin 80 mg. Insurance HP-1234-5678, claim \
     no 88-19283-A. PCP: J. Smith, MD.",
];

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(5_000), |it| it.parse())?;
    let begun = Instant::now();
    let lexicon = Lexicon::embedded()?;
    println!(
        "lists read in {:.1} ms",
        begun.elapsed().as_secs_f64() * 1e3
    );
    let patient = json!({
        "resourceType": "Patient",
        "identifier": [{ "system": "urn:x", "value": "AB-104577" }],
        "name": [{ "family": "Hodkiewicz", "given": ["Robert"] }],
        "telecom": [{ "system": "phone", "value": "555-359-6021" }],
        "birthDate": "1958-04-12",
        "address": [{ "line": ["672 Pfannerstill Passage"], "city": "Athol", "state": "MA", "postalCode": "01331" }]
    });
    let known = Known::of_resources(lexicon, [&patient])?;
    let scrubber = Scrubber::new(lexicon, &known, Settings::default());
    let mut times: Vec<Duration> = Vec::with_capacity(rounds * NOTES.len());
    for _ in 0..rounds {
        for note in NOTES {
            let mut slots = Slots::new();
            let begun = Instant::now();
            black_box(scrubber.scrub(black_box(note), &mut slots)?);
            times.push(begun.elapsed());
        }
    }
    times.sort();
    let at = |share: f64| {
        let place = (times.len() as f64 * share) as usize;
        times
            .get(place.min(times.len() - 1))
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let characters: usize = NOTES.iter().map(|note| note.chars().count()).sum();
    println!(
        "{} notes of {} characters on average: p50 {:.3} ms, p99 {:.3} ms, most {:.3} ms",
        times.len(),
        characters / NOTES.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}
