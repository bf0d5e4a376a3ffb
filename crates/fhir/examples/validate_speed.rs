//! Measures full validation on one core: parsing, structure, profiles, invariants and bindings.
//!
//! `cargo run --release -p chaperone-fhir --example validate_speed -- [--package TGZ]… FILE…`
//! (entries of Bundles count as resources).
#![expect(clippy::print_stdout, reason = "an example prints")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::package::Package;
use chaperone_fhir::{Request, Validator, ValidatorOptions};

/// How long the files are gone through.
const DURATION: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut catalogue = Catalogue::with_base(Catalogue::r4());
    let mut files = Vec::new();
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--package" {
            let path = arguments.next().ok_or("--package needs a file")?;
            let package = Package::read(&std::fs::read(path)?, |name| name.ends_with(".json"))?;
            catalogue.add_package(&package)?;
        } else {
            files.push((argument.clone(), std::fs::read(argument)?));
        }
    }
    println!("catalogue ready after {:?}", start.elapsed());
    let start = Instant::now();
    let validator = Validator::new(Arc::new(catalogue), ValidatorOptions::default());
    let request = Request::default();
    let mut by_id: BTreeMap<(String, String), (usize, String)> = BTreeMap::new();
    for (name, bytes) in &files {
        for finding in validator.validate(bytes, &request).findings {
            let key = finding
                .details
                .as_ref()
                .and_then(|it| it.constraint.clone())
                .unwrap_or_default();
            let severity = finding.severity.code();
            let entry = by_id
                .entry((format!("{severity} {}", finding.id), key))
                .or_insert_with(|| {
                    let example = format!(
                        "{}: {} {}",
                        name.display(),
                        finding.expression,
                        finding.message
                    );
                    (0, example)
                });
            entry.0 += 1;
        }
    }
    println!("first round (compiles as it goes): {:?}", start.elapsed());
    for ((id, key), (count, example)) in &by_id {
        println!("{count:8} {id} {key}  e.g. {example}");
    }
    let (mut resources, mut bytes_read, mut rounds) = (0_usize, 0_usize, 0_usize);
    let start = Instant::now();
    while start.elapsed() < DURATION {
        for (_, bytes) in &files {
            let outcome = validator.validate(bytes, &request);
            let entries = outcome
                .document
                .as_ref()
                .and_then(|it| it.root().get("entry"))
                .map_or(0, |it| it.children().count());
            resources += entries.max(1);
            bytes_read += bytes.len();
        }
        rounds += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} files, {rounds} rounds: {:.0} resources/s, {:.0} MB/s",
        files.len(),
        resources as f64 / seconds,
        bytes_read as f64 / seconds / 1e6
    );
    Ok(())
}
