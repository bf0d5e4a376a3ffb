//! Checks files against the R4 definitions and prints the findings; a tool for looking at single cases.
//!
//! `cargo run -p chaperone-fhir --example check -- FILE…`
#![expect(clippy::print_stdout, reason = "an example prints")]

use chaperone_fhir::Definitions;
use chaperone_fhir::validate::{Limits, structure};

fn main() -> std::io::Result<()> {
    for file in std::env::args_os().skip(1) {
        let bytes = std::fs::read(&file)?;
        let outcome = structure(Definitions::r4(), &bytes, &Limits::default());
        println!(
            "{}: {}",
            file.display(),
            if outcome.is_ok() { "ok" } else { "errors" }
        );
        for finding in &outcome.findings {
            let (line, column) = finding.position.map_or((0, 0), |it| (it.line, it.column));
            println!(
                "  {:?} {} {} ({line}:{column}) {}",
                finding.severity, finding.id, finding.expression, finding.message
            );
        }
    }
    Ok(())
}
