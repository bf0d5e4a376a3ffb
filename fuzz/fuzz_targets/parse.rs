//! The JSON reader: any bytes give a tree or an error.
#![no_main]

use chaperone_fhir::json::{Document, JsonLimits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = Document::parse(input, &JsonLimits::default());
});
