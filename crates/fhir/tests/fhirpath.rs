//! The official FHIRPath tests for R4, where they are at hand.
//!
//! `../shared/conformance/fhirpath/tests-fhir-r4.xml` is read when present; nothing of it is in the project.
//! The JSON inputs beside it are twins of XML files, partly with values of the wrong JSON kind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chaperone_fhir::Definitions;
use chaperone_fhir::fhirpath::{
    Collection, Decimal, ElementItem, Environment, Expression, Item, Moment, MomentKind,
};
use chaperone_fhir::json::{Document, JsonLimits};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Share of the tests that must pass, in percent.
const PASS_PERCENT_MIN: f64 = 99.0;

/// Tests that are known to miss, each with its reason.
const MISSES: [(&str, &str); 1] = [(
    "testFHIRPathIsFunction9",
    "asks for an extension that the JSON twin of the observation does not have",
)];

#[derive(Debug, Default)]
struct Case {
    name: String,
    input: Option<String>,
    is_predicate: bool,
    is_strict: bool,
    invalid: Option<String>,
    expression: String,
    outputs: Vec<(Option<String>, String)>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/fhirpath")
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    element.attributes().flatten().find_map(|it| {
        (it.key.as_ref() == name.as_bytes())
            .then(|| String::from_utf8_lossy(&it.value).into_owned())
    })
}

/// Reads the cases. The file closes a group twice, so end tags are not matched.
fn read(text: &str) -> Vec<Case> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = false;
    reader.config_mut().allow_unmatched_ends = true;
    let mut cases: Vec<Case> = Vec::new();
    // What the characters belong to.
    let mut within = String::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(element) | Event::Empty(element) => {
                within = String::from_utf8_lossy(element.name().as_ref()).into_owned();
                let strict = attribute(&element, "mode").as_deref() == Some("strict")
                    || attribute(&element, "checkOrderedFunctions").as_deref() == Some("true");
                match within.as_str() {
                    "test" => cases.push(Case {
                        name: attribute(&element, "name").unwrap_or_default(),
                        input: attribute(&element, "inputfile"),
                        is_predicate: attribute(&element, "predicate").as_deref() == Some("true"),
                        is_strict: strict,
                        ..Case::default()
                    }),
                    "expression" => {
                        if let Some(case) = cases.last_mut() {
                            case.invalid = attribute(&element, "invalid");
                            case.is_strict |= strict;
                        }
                    }
                    "output" => {
                        if let Some(case) = cases.last_mut() {
                            case.outputs
                                .push((attribute(&element, "type"), String::new()));
                        }
                    }
                    _ => {}
                }
            }
            Event::Text(characters) => {
                append(cases.last_mut(), &within, &characters.decode().unwrap());
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().unwrap();
                let character = match reference.resolve_char_ref().unwrap() {
                    Some(character) => character.to_string(),
                    None => quick_xml::escape::resolve_predefined_entity(&name)
                        .unwrap()
                        .to_owned(),
                };
                append(cases.last_mut(), &within, &character);
            }
            Event::End(_) => within.clear(),
            Event::Eof => return cases,
            _ => {}
        }
    }
}

fn append(case: Option<&mut Case>, within: &str, text: &str) {
    let Some(case) = case else { return };
    match within {
        "expression" => case.expression.push_str(text),
        "output" => {
            if let Some((_, output)) = case.outputs.last_mut() {
                output.push_str(text);
            }
        }
        _ => {}
    }
}

/// What a case gives: `Ok` if as expected, else words.
fn run(case: &Case, input: &Document<'_>) -> Result<(), String> {
    let definitions = Definitions::r4();
    let resource = ElementItem::resource(definitions, input.root()).ok_or("no resource")?;
    let mut environment = Environment::of(definitions, resource);
    environment.now = Moment::parse("2026-11-22T12:30:45.678+01:00", MomentKind::DateTime);
    let expression = match Expression::parse(&case.expression) {
        Ok(expression) => expression,
        Err(_) if case.invalid.is_some() => return Ok(()),
        Err(error) => return Err(format!("does not parse: {error}")),
    };
    let strict_error = case
        .is_strict
        .then(|| {
            let root = resource.type_code(definitions);
            expression.check(definitions, root).err()
        })
        .flatten();
    if let Some(error) = strict_error {
        return if case.invalid.is_some() {
            Ok(())
        } else {
            Err(format!("strict: {error}"))
        };
    }
    let result = expression.evaluate(&environment, Item::Element(resource));
    match (&case.invalid, result) {
        (Some(kind), Ok(items)) => Err(format!(
            "should be refused ({kind}), gave {}",
            show(&items, definitions)
        )),
        (Some(_), Err(_)) => Ok(()),
        (None, Err(error)) => Err(format!("fails: {error}")),
        (None, Ok(items)) => {
            let truth = expression.truth(&environment, Item::Element(resource));
            if items.len() < 2 && truth.is_err() {
                return Err("as a condition it fails".to_owned());
            }
            if case.is_predicate {
                let items = Collection::of([Item::Boolean(truth == Ok(Some(true)))]);
                return compare(case, &items, definitions);
            }
            compare(case, &items, definitions)
        }
    }
}

fn compare(case: &Case, items: &Collection<'_>, definitions: &Definitions) -> Result<(), String> {
    let wrong = || {
        Err(format!(
            "gave {}, expected {:?}",
            show(items, definitions),
            case.outputs
        ))
    };
    if items.len() != case.outputs.len() {
        return wrong();
    }
    for (item, (kind, wanted)) in items.iter().zip(&case.outputs) {
        let (own_kind, own) = rendered(item, definitions);
        let is_kind = kind
            .as_ref()
            .is_none_or(|kind| own_kind == *kind || own_kind.eq_ignore_ascii_case(kind));
        let is_value = match item {
            Item::Decimal(value) => wanted.parse::<Decimal>().is_ok_and(|it| {
                // Boundaries are written with their precision; typed numbers by value.
                it == *value && (kind.is_some() || it.scale() == value.scale())
            }),
            Item::Moment(_) => {
                let text = wanted.strip_prefix('@').unwrap_or(wanted);
                own == text.strip_prefix('T').unwrap_or(text)
            }
            _ => own == *wanted,
        };
        if !is_kind || !is_value {
            return wrong();
        }
    }
    Ok(())
}

fn rendered(item: &Item<'_>, definitions: &Definitions) -> (String, String) {
    let text = match item {
        Item::Boolean(value) => value.to_string(),
        Item::Integer(value) => value.to_string(),
        Item::Decimal(value) => value.to_string(),
        Item::String(value) => value.to_string(),
        Item::Moment(value) => value.to_string(),
        Item::Quantity(value) => value.to_string(),
        Item::Type(value) => value.name.clone(),
        Item::Element(element) => element
            .value()
            .map(|it| match it.as_str() {
                Some(text) => text.to_owned(),
                None => it.to_json().to_string(),
            })
            .unwrap_or_default(),
    };
    (item.type_name(definitions).to_owned(), text)
}

fn show(items: &Collection<'_>, definitions: &Definitions) -> String {
    let shown: Vec<_> = items
        .iter()
        .take(4)
        .map(|item| rendered(item, definitions))
        .collect();
    format!("{} items {shown:?}", items.len())
}

#[test]
fn the_official_tests_pass() {
    let folder = folder();
    let Ok(text) = std::fs::read_to_string(folder.join("tests-fhir-r4.xml")) else {
        println!("skipped: {} is not here", folder.display());
        return;
    };
    let cases = read(&text);
    let mut sources = BTreeMap::new();
    for case in &cases {
        let name = case.input.as_deref().unwrap_or("patient-example.xml");
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        sources.entry(name.to_owned()).or_insert_with(|| {
            std::fs::read(folder.join("input").join(format!("{stem}.json"))).unwrap_or_default()
        });
    }
    let inputs: BTreeMap<&str, Document<'_>> = sources
        .iter()
        .filter_map(|(name, bytes)| {
            let document = Document::parse(bytes, &JsonLimits::default()).ok()?;
            Some((name.as_str(), document))
        })
        .collect();
    let mut missed = Vec::new();
    for case in &cases {
        let name = case.input.as_deref().unwrap_or("patient-example.xml");
        let outcome = match inputs.get(name) {
            Some(input) => run(case, input),
            None => Err(format!("the input `{name}` is not here")),
        };
        if let Err(why) = outcome {
            missed.push((case, why));
        }
    }
    let passed = cases.len() - missed.len();
    let percent = 100.0 * passed as f64 / cases.len().max(1) as f64;
    println!(
        "FHIRPath: {passed} of {} pass ({percent:.2} %)",
        cases.len()
    );
    for (case, why) in &missed {
        let reason = MISSES
            .iter()
            .find(|(name, _)| *name == case.name)
            .map_or("NOT EXPLAINED", |(_, reason)| reason);
        println!(
            "- {} `{}`: {why} [{reason}]",
            case.name,
            case.expression.trim()
        );
    }
    assert!(!cases.is_empty(), "the file holds no tests");
    assert!(
        percent >= PASS_PERCENT_MIN,
        "{percent:.2} % pass, {PASS_PERCENT_MIN} % must"
    );
}
