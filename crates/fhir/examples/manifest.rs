//! Runs the cases of a FHIR validator manifest and prints what does not agree.
//!
//! `cargo run -p chaperone-fhir --example manifest -- FOLDER PACKAGES [CASE]`, where FOLDER holds
//! `manifest.json` and PACKAGES holds `.tgz` files. With CASE (a part of its name) agreeing runs are shown too.
#![expect(clippy::print_stdout, reason = "an example prints")]
#![expect(
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "shared with the test of the same name"
)]

#[path = "../tests/manifest/mod.rs"]
mod manifest;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, packages, rest @ ..] = arguments.as_slice() else {
        println!("usage: manifest FOLDER PACKAGES [CASE]");
        return Ok(());
    };
    let manifest = manifest::Manifest::read(Path::new(folder), Path::new(packages))?;
    let filter = rest.first().map(String::as_str).unwrap_or_default();
    let runs = manifest.run(filter);
    println!("{}", manifest::report(&runs, !filter.is_empty()));
    Ok(())
}
