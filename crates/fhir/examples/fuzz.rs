//! A bounded mutation fuzzer, for where cargo-fuzz is not at hand: the same targets as `fuzz/`, from a seed,
//! so that a failure can be had again.
//!
//! `cargo run --release -p chaperone-fhir --example fuzz -- TARGET SECONDS SEED [FILE…]`
//!
//! TARGET is `parse`, `validate`, `fhirpath` or `package`; files are further inputs to begin with. It ends
//! with an error when a target panics or takes longer than [`SLOW`] for one input, and writes that input
//! beside it.
#![expect(clippy::print_stdout, reason = "an example prints")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::fhirpath::{Environment, Expression, Item};
use chaperone_fhir::json::{Document, JsonLimits};
use chaperone_fhir::package::Package;
use chaperone_fhir::{Definitions, Request, Validator, ValidatorOptions};

/// Longest time for one input.
const SLOW: Duration = Duration::from_secs(5);
/// Longest input, in bytes.
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Most inputs kept to mutate further.
const CORPUS_MAX: usize = 2_000;

const RESOURCES: [&str; 5] = [
    r##"{"resourceType":"Patient","id":"a","name":[{"family":"F","given":["G",null],"_given":[null,{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}]}]}],"birthDate":"2000-02-29","_birthDate":{"id":"b"},"contained":[{"resourceType":"Organization","id":"o","name":"N"}],"managingOrganization":{"reference":"#o"}}"##,
    r#"{"resourceType":"Observation","meta":{"profile":["http://hl7.org/fhir/StructureDefinition/bp"]},"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"85354-9"}]},"subject":{"reference":"Patient/a"},"effectiveDateTime":"2026-01-01T00:00:00Z","component":[{"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"valueQuantity":{"value":120.0,"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}}]}"#,
    r#"{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0","resource":{"resourceType":"Task","status":"draft","intent":"order"},"request":{"method":"POST","url":"Task"}}]}"#,
    r#"{"resourceType":"QuestionnaireResponse","status":"completed","questionnaire":"Questionnaire/q","item":[{"linkId":"1","answer":[{"valueString":"x","item":[{"linkId":"1.1"}]}]}]}"#,
    r#"{"resourceType":"Patient","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>x</p></div>"},"photo":[{"contentType":"image/png","data":"AAAA"}]}"#,
];
const EXPRESSIONS: [&str; 6] = [
    "name.where(use = 'official' and given.exists()).given.first() | name.given.skip(1)",
    "component.all(valueQuantity.value > 1.5 'mm[Hg]' implies code.coding.code.matches('^[0-9]+-[0-9]$'))",
    "birthDate + 3 months <= @2026-02-30T12:30:00.000+02:00 and (1 | 2 | 3).aggregate($this + $total, 0) > 5",
    "repeat(item).select(linkId & '-' & iif(answer.exists(), answer.value.toString(), {}))",
    "descendants().ofType(string).distinct().count() div 2 mod 7",
    "%resource.contained.where('#' + id in %resource.descendants().reference).trace('x').resolve()",
];
/// Pieces that are put in at random.
const PIECES: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "true",
    "-0",
    "1e999",
    "0.000000000000000000001",
    "99999999999999999999",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "é",
    "\"resourceType\":\"Bundle\"",
    "\"extension\":[{\"url\":\"x\"}]",
    "((((((((",
    ".repeat($this)",
    ".where(",
    "9999-12-31",
    "<!DOCTYPE",
];

/// What is fed with inputs.
type Target = Box<dyn Fn(&[u8])>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let target = arguments.next().ok_or("which target?")?;
    let seconds: u64 = arguments.next().ok_or("how many seconds?")?.parse()?;
    let seed: u64 = arguments.next().ok_or("which seed?")?.parse()?;
    let run: Target = match target.as_str() {
        "parse" => Box::new(|input| {
            let _ = Document::parse(input, &JsonLimits::default());
        }),
        "validate" => {
            let validator = Validator::new(Catalogue::r4(), ValidatorOptions::default());
            Box::new(move |input| {
                let _ = validator.validate(input, &Request::default());
            })
        }
        "fhirpath" => Box::new(evaluate),
        "package" => Box::new(|input| {
            if let Ok(package) = Package::read_definitions(input) {
                let _ = Catalogue::new().add_package(&package);
            }
        }),
        other => return Err(format!("`{other}` is no target").into()),
    };
    let mut corpus = beginning(&target);
    for file in arguments {
        corpus.push(std::fs::read(file)?);
    }
    let mut random = Random(seed | 1);
    let start = Instant::now();
    let (mut inputs, mut slowest) = (0_u64, Duration::ZERO);
    while start.elapsed() < Duration::from_secs(seconds) {
        let input = mutated(&corpus, &mut random);
        let began = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| run(&input)));
        let took = began.elapsed();
        inputs += 1;
        slowest = slowest.max(took);
        if ended.is_err() || took > SLOW {
            let file = format!("fuzz-{target}-{seed}-{inputs}.bin");
            std::fs::write(&file, &input)?;
            let what = if ended.is_err() {
                "panicked"
            } else {
                "took too long"
            };
            return Err(format!("{target} {what} after {took:?}; the input is in {file}").into());
        }
        // Without coverage, inputs are kept at random: mutations of mutations reach further.
        if random.below(64) == 0 {
            if corpus.len() < CORPUS_MAX {
                corpus.push(input);
            } else {
                let at = random.below(corpus.len());
                if let Some(place) = corpus.get_mut(at) {
                    *place = input;
                }
            }
        }
    }
    println!(
        "{target}: {inputs} inputs in {seconds} s from seed {seed}, the slowest took {slowest:?}; no panic"
    );
    Ok(())
}

/// One expression and one resource, with a zero byte between; an expression alone runs on a patient.
fn evaluate(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let resource = parts
        .next()
        .unwrap_or_else(|| RESOURCES.first().map_or(b"", |it| it.as_bytes()));
    let Ok(expression) = Expression::parse(&text) else {
        return;
    };
    let definitions = Definitions::r4();
    let _ = expression.check(definitions, "Patient");
    let Ok(document) = Document::parse(resource, &JsonLimits::default()) else {
        return;
    };
    let Some(element) =
        chaperone_fhir::fhirpath::ElementItem::resource(definitions, document.root())
    else {
        return;
    };
    let environment = Environment::of(definitions, element);
    let _ = expression.evaluate(&environment, Item::Element(element));
}

fn beginning(target: &str) -> Vec<Vec<u8>> {
    match target {
        "fhirpath" => EXPRESSIONS
            .iter()
            .flat_map(|expression| {
                RESOURCES.iter().map(move |resource| {
                    [expression.as_bytes(), &[0], resource.as_bytes()].concat()
                })
            })
            .collect(),
        "package" => vec![package()],
        _ => RESOURCES.iter().map(|it| it.as_bytes().to_vec()).collect(),
    }
}

/// A package of one manifest and one definition; not compressed, so that mutations reach what is inside.
fn package() -> Vec<u8> {
    let manifest = br#"{"name":"example.fuzz","version":"1.0.0","fhirVersions":["4.0.1"],"dependencies":{"hl7.fhir.r4.core":"4.0.1"}}"#;
    let definition = br#"{"resourceType":"StructureDefinition","url":"urn:x","name":"X","status":"active","kind":"resource","abstract":false,"type":"Patient","derivation":"constraint","differential":{"element":[{"path":"Patient"}]}}"#;
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let mut archive = tar::Builder::new(encoder);
    for (name, text) in [
        ("package/package.json", manifest.as_slice()),
        ("package/StructureDefinition-x.json", definition.as_slice()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        let _ = archive.append_data(&mut header, name, text);
    }
    archive
        .into_inner()
        .and_then(flate2::write::GzEncoder::finish)
        .unwrap_or_default()
}

/// One of the corpus after a few changes.
fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let pick = |random: &mut Random| corpus.get(random.below(corpus.len())).cloned();
    let mut input = pick(random).unwrap_or_default();
    for _ in 0..=random.below(6) {
        let at = random.below(input.len() + 1);
        let to = (at + random.below(32)).min(input.len());
        match random.below(8) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                input.drain(at..to);
            }
            2 => {
                let piece: Vec<u8> = input.get(at..to).unwrap_or_default().to_vec();
                let times = 1 + random.below(64);
                input.splice(at..at, piece.repeat(times));
            }
            3 => {
                let piece = PIECES.get(random.below(PIECES.len())).map_or("", |it| it);
                let times = if random.below(16) == 0 { 1_000 } else { 1 };
                input.splice(at..at, piece.repeat(times).into_bytes());
            }
            4 => input.truncate(at),
            5 => {
                let other = pick(random).unwrap_or_default();
                let from = random.below(other.len() + 1);
                let end = (from + random.below(256)).min(other.len());
                let piece = other.get(from..end).unwrap_or_default().to_vec();
                input.splice(at..to, piece);
            }
            6 => {
                let byte = u8::try_from(random.below(256)).unwrap_or_default();
                input.insert(at, byte);
            }
            _ => {
                // A number or word becomes another of the text's own.
                let from = random.below(input.len() + 1);
                let end = (from + random.below(16)).min(input.len());
                let piece = input.get(from..end).unwrap_or_default().to_vec();
                input.splice(at..to, piece);
            }
        }
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16;
        if end == 0 {
            return 0;
        }
        usize::try_from(drawn % end as u64).unwrap_or_default()
    }
}
