//! How fast codes are decided, how many bindings can be decided, and what files hold that is not right.
//!
//! `cargo run --release -p chaperone-fhir --example terminology -- [--package TGZ]… [FILE.json]…`
//! It is a tool for developers, not a part of the product.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::json::{Document, JsonLimits, Kind, Value};
use chaperone_fhir::package::Package;
use chaperone_fhir::terminology::{Coding, Terminology};

#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a tool that measures and prints"
)]
fn main() -> anyhow::Result<()> {
    let mut catalogue = Catalogue::with_base(Catalogue::r4());
    let mut files = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--package" {
            let path = arguments.next().unwrap_or_default();
            catalogue.add_package(&Package::read_definitions(&std::fs::read(path)?)?)?;
        } else {
            files.push(argument);
        }
    }
    let terminology = Terminology::new(Arc::new(catalogue));

    println!("lookups of one code, ns each");
    for (set, system, code) in [
        (
            "http://hl7.org/fhir/ValueSet/observation-status|4.0.1",
            "http://hl7.org/fhir/observation-status",
            "final",
        ),
        (
            "http://hl7.org/fhir/ValueSet/observation-vitalsignresult|4.0.1",
            "http://loinc.org",
            "8867-4",
        ),
        (
            "http://hl7.org/fhir/ValueSet/ucum-vitals-common|4.0.1",
            "http://unitsofmeasure.org",
            "mm[Hg]",
        ),
        (
            "http://hl7.org/fhir/ValueSet/ucum-units|4.0.1",
            "http://unitsofmeasure.org",
            "mL/min/{1.73_m2}",
        ),
        (
            "http://hl7.org/fhir/ValueSet/languages",
            "urn:ietf:bcp:47",
            "en-US",
        ),
        (
            "http://hl7.org/fhir/ValueSet/all-languages|4.0.1",
            "urn:ietf:bcp:47",
            "en-US",
        ),
        (
            "http://hl7.org/fhir/ValueSet/v3-ConfidentialityClassification",
            "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
            "N",
        ),
        (
            "http://hl7.org/fhir/ValueSet/condition-code",
            "http://snomed.info/sct",
            "38341003",
        ),
    ] {
        let compiled = terminology.set(set);
        let by_set = least_nanos(|| {
            black_box(compiled.decide(black_box(system), black_box(code)));
        });
        let by_url = least_nanos(|| {
            let set = terminology.set(black_box(set));
            black_box(set.decide(system, black_box(code)));
        });
        println!("{by_set:>6} {by_url:>6} (by URL)  {set}");
    }
    let compared = least_nanos(|| {
        let (left, right) = black_box((("98.6", "[degF]"), ("37.0", "Cel")));
        black_box(terminology.ucum().compare(left, right).is_ok());
    });
    println!("{compared:>6} compare two quantities");

    let start = Instant::now();
    let located: Vec<String> = terminology
        .catalogue()
        .resources("ValueSet")
        .map(|it| it.url.to_owned())
        .collect();
    let decidable = located
        .iter()
        .filter(|it| terminology.set(it).is_decidable())
        .count();
    println!(
        "{decidable} of {} value sets are decidable; all compiled in {:?}",
        located.len(),
        start.elapsed()
    );

    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for path in &files {
        let bytes = std::fs::read(path)?;
        let document = Document::parse(&bytes, &JsonLimits::default())?;
        inspect(&terminology, document.root(), &mut seen);
    }
    for (message, count) in seen {
        println!("{count:>6} {message}");
    }
    Ok(())
}

/// Nanoseconds of one call: the least of many rounds, so that other programs disturb little.
#[expect(clippy::disallowed_methods, reason = "a tool that measures")]
fn least_nanos(mut call: impl FnMut()) -> u128 {
    const ROUNDS: u32 = 200;
    const CALLS: u32 = 2_000;
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..CALLS {
                call();
            }
            start.elapsed().as_nanos() / u128::from(CALLS)
        })
        .min()
        .unwrap_or_default()
}

fn inspect(terminology: &Terminology, value: Value<'_>, seen: &mut BTreeMap<String, usize>) {
    if value.kind() == Kind::Object && value.get("system").is_some() && value.get("code").is_some()
    {
        let mut found = Vec::new();
        let text = |name| value.get(name).and_then(Value::as_str);
        let coding = Coding {
            system: text("system"),
            version: text("version"),
            code: text("code"),
            display: text("display"),
        };
        terminology.inspect(&coding, 0, &[], &mut found);
        for issue in found {
            *seen
                .entry(format!(
                    "{} {} {}",
                    issue.severity.code(),
                    issue.id,
                    issue.message
                ))
                .or_default() += 1;
        }
    }
    for child in value.children() {
        inspect(terminology, child, seen);
    }
}
