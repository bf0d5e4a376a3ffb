//! How long opening the embedded catalogue and loading packages takes, and how much memory stays in use.
//!
//! `cargo run --release -p chaperone-fhir --example catalogue -- [PACKAGE.tgz]…`; prints figures, checks
//! nothing.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement at the command line"
)]

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::package::Package;

fn main() -> anyhow::Result<()> {
    let before = resident_kib();
    let start = Instant::now();
    let r4 = Catalogue::r4();
    println!("open the embedded catalogue: {:?}", start.elapsed());
    let start = Instant::now();
    let observation = r4.structure("http://hl7.org/fhir/StructureDefinition/Observation");
    println!("read Observation from it:    {:?}", start.elapsed());
    anyhow::ensure!(observation.is_some(), "no Observation");
    let mut catalogue = Catalogue::with_base(Arc::clone(&r4));
    for path in std::env::args_os().skip(1) {
        let tgz = std::fs::read(&path).with_context(|| format!("{}", path.display()))?;
        let start = Instant::now();
        let package = Package::read_definitions(&tgz)?;
        let unpacked = start.elapsed();
        catalogue.add_package(&package)?;
        drop((package, tgz));
        println!(
            "load {}: {:?} (unpacking {unpacked:?}), {} KiB more in use than at the start",
            path.display(),
            start.elapsed(),
            resident_kib().saturating_sub(before)
        );
    }
    let start = Instant::now();
    let mut count = 0;
    for it in catalogue.resources("StructureDefinition") {
        let canonical = match it.version {
            Some(version) => format!("{}|{version}", it.url),
            None => it.url.to_owned(),
        };
        count += usize::from(catalogue.structure(&canonical).is_some());
    }
    for kind in ["ValueSet", "CodeSystem"] {
        for it in catalogue.resources(kind) {
            let is_read = match kind {
                "ValueSet" => catalogue.value_set(it.url).is_some(),
                _ => catalogue.code_system(it.url).is_some(),
            };
            count += usize::from(is_read);
        }
    }
    println!(
        "read all {count} definitions: {:?}, {} KiB more in use than at the start",
        start.elapsed(),
        resident_kib().saturating_sub(before)
    );
    Ok(())
}

/// Memory in use, where the system tells.
fn resident_kib() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|it| {
            let line = it.lines().find(|it| it.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        })
        .unwrap_or_default()
}
