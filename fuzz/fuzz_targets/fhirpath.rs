//! FHIRPath: an expression and a resource, with a zero byte between.
#![no_main]

use chaperone_fhir::Definitions;
use chaperone_fhir::fhirpath::{ElementItem, Environment, Expression, Item};
use chaperone_fhir::json::{Document, JsonLimits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let Some(Ok(text)) = parts.next().map(std::str::from_utf8) else {
        return;
    };
    let Ok(expression) = Expression::parse(text) else {
        return;
    };
    let definitions = Definitions::r4();
    let _ = expression.check(definitions, "Patient");
    let resource = parts.next().unwrap_or(br#"{"resourceType":"Patient"}"#);
    let Ok(document) = Document::parse(resource, &JsonLimits::default()) else {
        return;
    };
    if let Some(element) = ElementItem::resource(definitions, document.root()) {
        let environment = Environment::of(definitions, element);
        let _ = expression.evaluate(&environment, Item::Element(element));
    }
});
