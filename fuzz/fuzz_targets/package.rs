//! Packages: any bytes are a package that loads, or an error.
#![no_main]

use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::package::Package;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(package) = Package::read_definitions(input) {
        let _ = Catalogue::new().add_package(&package);
    }
});
