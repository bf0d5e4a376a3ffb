//! The whole validator over R4: any bytes give findings.
#![no_main]

use std::sync::LazyLock;

use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::{Request, Validator, ValidatorOptions};
use libfuzzer_sys::fuzz_target;

static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| Validator::new(Catalogue::r4(), ValidatorOptions::default()));

fuzz_target!(|input: &[u8]| {
    let _ = VALIDATOR.validate(input, &Request::default());
});
