//! Compiles the FHIR R4 core package into the two files that the library embeds.
//!
//! `compile-definitions PACKAGE.tgz [FOLDER]`; without FOLDER the crate's own files are replaced.
//! It does no more than read, call [`chaperone_fhir::definitions::generate`] and
//! [`chaperone_fhir::catalogue::generate`], and write.

use std::path::{Path, PathBuf};

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let package = arguments
        .next()
        .context("usage: compile-definitions PACKAGE.tgz [FOLDER]")?;
    let folder = arguments.next().map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/definitions")),
        PathBuf::from,
    );
    anyhow::ensure!(
        arguments.next().is_none(),
        "usage: compile-definitions PACKAGE.tgz [FOLDER]"
    );
    let tgz =
        std::fs::read(&package).with_context(|| format!("cannot read {}", package.display()))?;
    write(
        &folder.join("r4-core.bin"),
        &chaperone_fhir::definitions::generate(&tgz)?,
    )?;
    write(
        &folder.join("r4-catalogue.bin"),
        &chaperone_fhir::catalogue::generate(&tgz)?,
    )?;
    write(
        &folder.join("r4-search-parameters.txt"),
        chaperone_fhir::definition_rules::generate(&tgz)?.as_bytes(),
    )
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
