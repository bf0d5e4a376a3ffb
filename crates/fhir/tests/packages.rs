//! Packages as they are published: what is in them, what they need, and how they lie over R4 core.
//!
//! The packages stand beside the repository where they are at hand; a test whose package is missing says
//! so and passes.

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

use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::package::{Available, Lock, Package, resolve};

fn package(file: &str) -> Option<Package> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/packages")
        .join(file);
    let Ok(tgz) = std::fs::read(&path) else {
        println!("skipped: {} is not at hand", path.display());
        return None;
    };
    Some(Package::read_definitions(&tgz).unwrap())
}

#[test]
fn us_core_lies_over_r4() {
    let Some(guide) = package("us_core_800.tgz") else {
        return;
    };
    let mut catalogue = Catalogue::with_base(Catalogue::r4());
    catalogue.add_package(&guide).unwrap();
    let names: Vec<_> = catalogue
        .packages()
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["hl7.fhir.r4.core", "hl7.fhir.us.core"]);
    let missing: Vec<_> = catalogue
        .missing_dependencies()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(
        missing,
        [
            "hl7.fhir.uv.extensions.r4",
            "hl7.fhir.uv.sdc",
            "hl7.fhir.uv.smart-app-launch",
            "hl7.terminology.r4",
            "us.cdc.phinvads",
            "us.nlm.vsac",
        ]
    );
    // Every definition can be used.
    for kind in ["StructureDefinition", "ValueSet", "CodeSystem"] {
        for it in catalogue
            .resources(kind)
            .filter(|it| it.package.is_some_and(|it| it.name == names[1]))
        {
            let is_there = match kind {
                "ValueSet" => catalogue.value_set(it.url).is_some(),
                "CodeSystem" => catalogue.code_system(it.url).is_some(),
                _ => catalogue
                    .structure(it.url)
                    .is_some_and(|it| !it.snapshot.element.is_empty()),
            };
            assert!(is_there, "{}", it.url);
        }
    }
    // Other conformance resources are found by URL too.
    let capabilities = "http://hl7.org/fhir/us/core/CapabilityStatement/us-core-server";
    assert!(
        catalogue
            .resource("CapabilityStatement", capabilities)
            .is_some()
    );
    assert!(catalogue.resource("Questionnaire", capabilities).is_none());
}

#[test]
fn a_store_of_several_versions_is_locked_and_ordered() {
    let files = ["us_core_800.tgz", "us_core_311.tgz", "us_core_610.tgz"];
    let Some(packages) = files
        .iter()
        .map(|it| package(it))
        .collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let mut lock = Lock::default();
    for it in &packages {
        lock.add(&it.id).unwrap();
    }
    let again = Lock::parse(&lock.to_text()).unwrap();
    assert!(packages.iter().all(|it| again.check(&it.id).is_ok()));
    let mut other = packages[0].id.clone();
    other.version = "6.1.0".to_owned();
    assert!(again.check(&other).is_err());

    let available: Vec<_> = packages
        .iter()
        .map(|it| Available {
            id: &it.id,
            dependencies: &it.dependencies,
        })
        .collect();
    let resolution = resolve(&available, &[0, 1], Catalogue::r4().packages());
    assert_eq!(resolution.order, [0, 1]);
    assert!(
        resolution
            .missing
            .iter()
            .all(|it| it.name != "hl7.fhir.r4.core")
    );

    let mut catalogue = Catalogue::with_base(Catalogue::r4());
    for at in [0, 1, 2] {
        catalogue.add_package(&packages[at]).unwrap();
    }
    let patient = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient";
    let version = |canonical: &str| {
        catalogue
            .structure(canonical)
            .unwrap()
            .version
            .clone()
            .unwrap()
    };
    assert_eq!(version(patient), "8.0.0");
    assert_eq!(version(&format!("{patient}|3.1.1")), "3.1.1");
    assert_eq!(version(&format!("{patient}|6")), "6.1.0");
}
