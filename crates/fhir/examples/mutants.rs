//! Makes wrong variants of right resources and prints, by kind, how many the validator rejects.
//!
//! `cargo run --release -p chaperone-fhir --example mutants -- FOLDER PACKAGE [SURVIVORS]`, where FOLDER
//! holds resources in JSON that conform to the PACKAGE (a `.tgz`), and SURVIVORS is how many accepted ones to
//! list for each kind.
#![expect(clippy::print_stdout, reason = "an example prints")]
#![expect(
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "shared with the test of the same name"
)]

#[path = "../tests/mutants/mod.rs"]
mod generator;

use std::path::Path;

/// Most mutants of one kind from one resource.
const OF_A_KIND_MAX: usize = 6;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, package, rest @ ..] = arguments.as_slice() else {
        println!("usage: mutants FOLDER PACKAGE [SURVIVORS]");
        return Ok(());
    };
    let survivors_max = rest.first().and_then(|it| it.parse().ok()).unwrap_or(5);
    let tallies = generator::tally(Path::new(folder), Path::new(package), OF_A_KIND_MAX)?;
    println!("{}", generator::report(&tallies, survivors_max));
    Ok(())
}
