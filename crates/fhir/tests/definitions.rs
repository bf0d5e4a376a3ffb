//! The embedded definitions are what the generator makes of the package, byte for byte.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        clippy::print_stdout,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason
    )
)]

use std::path::Path;

use chaperone_fhir::catalogue::{self, Catalogue};
use chaperone_fhir::definition_rules;
use chaperone_fhir::definitions::{DecodeError, Definitions, generate};

const EMBEDDED: &[u8] = include_bytes!("../definitions/r4-core.bin");
const EMBEDDED_SEARCH_PARAMETERS: &str = include_str!("../definitions/r4-search-parameters.txt");
const EMBEDDED_CATALOGUE: &[u8] = include_bytes!("../definitions/r4-catalogue.bin");

#[test]
fn regenerating_gives_the_same_bytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/packages/hl7.fhir.r4.core-4.0.1.tgz");
    let Ok(tgz) = std::fs::read(&path) else {
        println!("skipped: {} is not at hand", path.display());
        return;
    };
    let generated = generate(&tgz).unwrap();
    assert!(
        generated == EMBEDDED,
        "run `cargo run -p chaperone-fhir --bin compile-definitions -- PACKAGE.tgz` and commit the result"
    );
    assert!(
        definition_rules::generate(&tgz).unwrap() == EMBEDDED_SEARCH_PARAMETERS,
        "run `cargo run -p chaperone-fhir --bin compile-definitions -- PACKAGE.tgz` and commit the result"
    );
    assert!(
        catalogue::generate(&tgz).unwrap() == EMBEDDED_CATALOGUE,
        "run `cargo run -p chaperone-fhir --bin compile-definitions -- PACKAGE.tgz` and commit the result"
    );
}

#[test]
fn the_header_names_the_source() {
    let source = Definitions::r4().source();
    assert_eq!(source.name, "hl7.fhir.r4.core");
    assert_eq!(source.version, "4.0.1");
    assert_eq!(source.licence, "CC0-1.0");
    assert_eq!(source.sha256.len(), 64);
    assert_eq!(Catalogue::r4().packages(), std::slice::from_ref(source));
    assert_eq!(Definitions::r4().resource_types().count(), 146);
}

#[test]
fn damage_is_noticed() {
    assert_eq!(
        Definitions::decode(b"something else").unwrap_err(),
        DecodeError::Magic
    );
    let mut other_version = EMBEDDED.to_vec();
    other_version[8] = 99;
    assert_eq!(
        Definitions::decode(&other_version).unwrap_err(),
        DecodeError::Version(99)
    );
    assert_eq!(
        Definitions::decode(&EMBEDDED[..EMBEDDED.len() - 1]).unwrap_err(),
        DecodeError::Damaged
    );
    let mut longer = EMBEDDED.to_vec();
    longer.push(0);
    assert_eq!(
        Definitions::decode(&longer).unwrap_err(),
        DecodeError::Damaged
    );
    // A flipped byte anywhere gives an error or other definitions, never a panic.
    for at in (8..EMBEDDED.len()).step_by(EMBEDDED.len() / 40) {
        let mut flipped = EMBEDDED.to_vec();
        flipped[at] ^= 0xff;
        let _ = Definitions::decode(&flipped);
    }
}

#[test]
fn code_lists_are_expanded() {
    let definitions = Definitions::r4();
    let status = definitions
        .codes("http://hl7.org/fhir/ValueSet/observation-status|4.0.1")
        .unwrap();
    let codes: Vec<_> = status.iter().map(|(_, code)| *code).collect();
    assert!(codes.contains(&"preliminary") && codes.contains(&"entered-in-error"));
    assert!(!codes.contains(&"draft"));
    // A child in the hierarchy of its code system.
    let report = definitions
        .codes("http://hl7.org/fhir/ValueSet/diagnostic-report-status")
        .unwrap();
    assert!(report.iter().any(|(_, code)| *code == "preliminary"));
    assert!(
        definitions
            .codes("http://hl7.org/fhir/ValueSet/mimetypes")
            .is_none()
    );
    assert!(
        definitions
            .codes("http://hl7.org/fhir/ValueSet/ucum-units")
            .is_none()
    );
    assert!(
        definitions
            .codes("http://hl7.org/fhir/ValueSet/nothing")
            .is_none()
    );
}
