//! Checks files against R4 and prints the findings; a tool for looking at single cases.
//!
//! `cargo run -p chaperone-fhir --example check -- [--with DEFINITION]… FILE…`, where a DEFINITION is a `.tgz`
//! package or a file with one conformance resource, and a FILE may hold one resource a line (`.ndjson`).
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;

use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::package::Package;
use chaperone_fhir::{Request, Validator, ValidatorOptions};

fn main() -> std::io::Result<()> {
    let mut catalogue = Catalogue::with_base(Catalogue::r4());
    let mut files = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument != "--with" {
            files.push(argument);
            continue;
        }
        let Some(name) = arguments.next() else { break };
        let bytes = std::fs::read(&name)?;
        let added = if name.ends_with(".tgz") {
            let package = Package::read(&bytes, |_| true).map_err(std::io::Error::other)?;
            catalogue.add_package(&package)
        } else {
            catalogue.add_resource(&name, &bytes)
        };
        added.map_err(std::io::Error::other)?;
    }
    let validator = Validator::new(Arc::new(catalogue), ValidatorOptions::default());
    for file in files {
        let bytes = std::fs::read(&file)?;
        if file.ends_with(".ndjson") {
            for (line, text) in (1..).zip(bytes.split(|it| *it == b'\n')) {
                if !text.is_empty() {
                    show(&validator, &format!("{file}:{line}"), text);
                }
            }
        } else {
            show(&validator, &file, &bytes);
        }
    }
    Ok(())
}

fn show(validator: &Validator, name: &str, text: &[u8]) {
    let outcome = validator.validate(text, &Request::default());
    println!("{name}: {}", if outcome.is_ok() { "ok" } else { "errors" });
    for finding in &outcome.findings {
        let (line, column) = finding.position.map_or((0, 0), |it| (it.line, it.column));
        println!(
            "  {} {} {} ({line}:{column}) {}",
            finding.severity.code(),
            finding.id,
            finding.expression,
            finding.message
        );
    }
}
