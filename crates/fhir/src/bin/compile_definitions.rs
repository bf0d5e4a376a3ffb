//! Compiles the FHIR R4 core package into the form that the library embeds.
//!
//! `compile-definitions PACKAGE.tgz [OUTPUT]`; without OUTPUT the crate's own file is replaced.
//! It does no more than read, call [`chaperone_fhir::definitions::generate`], and write.

use std::path::PathBuf;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let package = arguments
        .next()
        .context("usage: compile-definitions PACKAGE.tgz [OUTPUT]")?;
    let output = arguments.next().map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/definitions/r4-core.bin"
            ))
        },
        PathBuf::from,
    );
    anyhow::ensure!(
        arguments.next().is_none(),
        "usage: compile-definitions PACKAGE.tgz [OUTPUT]"
    );
    let tgz =
        std::fs::read(&package).with_context(|| format!("cannot read {}", package.display()))?;
    let compiled = chaperone_fhir::definitions::generate(&tgz)?;
    std::fs::write(&output, &compiled)
        .with_context(|| format!("cannot write {}", output.display()))?;
    Ok(())
}
