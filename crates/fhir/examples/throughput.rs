//! Measures parsing and structural checking on one core: resources per second over the files given.
//!
//! `cargo run --release -p chaperone-fhir --example throughput -- FILE…` (Bundles count their entries).
#![expect(clippy::print_stdout, reason = "an example prints")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::time::Instant;

use chaperone_fhir::Definitions;
use chaperone_fhir::validate::{Limits, structure};

/// How often the files are gone through.
const ROUNDS: usize = 5;

fn main() -> std::io::Result<()> {
    let start = Instant::now();
    let definitions = Definitions::r4();
    println!("definitions ready after {:?}", start.elapsed());
    let files: Vec<Vec<u8>> = std::env::args_os()
        .skip(1)
        .map(std::fs::read)
        .collect::<Result<_, _>>()?;
    let limits = Limits::default();
    let (mut resources, mut bytes, mut errors) = (0_usize, 0_usize, 0_usize);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for file in &files {
            let outcome = structure(definitions, file, &limits);
            let entries = outcome
                .document
                .as_ref()
                .and_then(|it| it.root().get("entry"))
                .map_or(0, |it| it.children().count());
            resources += entries.max(1);
            bytes += file.len();
            errors += usize::from(!outcome.is_ok());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{resources} resources, {errors} texts with errors, {:.0} resources/s, {:.0} MB/s",
        resources as f64 / seconds,
        bytes as f64 / seconds / 1e6
    );
    Ok(())
}
