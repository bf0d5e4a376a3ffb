//! The structural check on resources that others wrote: it must refuse nothing that is right.
//!
//! The sample sets stand beside the repository where they are at hand; a test whose set is missing says
//! so and passes. What is wrong in them is listed here with the reason.

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

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use chaperone_fhir::validate::{Limits, StructureOutcome, structure};
use chaperone_fhir::{Definitions, Severity};

/// A folder of the shared material, if it is there.
fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared")
        .join(path);
    if path.exists() {
        Some(path)
    } else {
        println!("skipped: {} is not at hand", path.display());
        None
    }
}

fn check(bytes: &[u8]) -> StructureOutcome<'_> {
    structure(Definitions::r4(), bytes, &Limits::default())
}

fn errors(outcome: &StructureOutcome<'_>) -> Vec<String> {
    outcome
        .findings
        .iter()
        .filter(|it| it.severity >= Severity::Error)
        .map(|it| format!("{} {} {}", it.id, it.expression, it.message))
        .collect()
}

#[test]
fn us_core_examples_have_no_errors() {
    let Some(folder) = shared("conformance/us-core-examples") else {
        return;
    };
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let outcome = check(&bytes);
        assert!(
            outcome.is_ok(),
            "{}: {:#?}",
            path.display(),
            errors(&outcome)
        );
        count += 1;
    }
    assert!(count >= 100, "only {count} examples");
}

/// Errors in the expected outcome of a case, or `None` where there is no expectation.
fn expected_errors(folder: &Path, case: &serde_json::Value) -> Option<usize> {
    let java = case.get("java")?;
    let outcome = match java {
        serde_json::Value::String(name) => {
            let text = std::fs::read(folder.join("validator/outcomes").join(name)).ok()?;
            serde_json::from_slice(&text).ok()?
        }
        other => {
            if let Some(count) = other.get("errorCount") {
                return count.as_u64().map(|count| count as usize);
            }
            other.get("outcome")?.clone()
        }
    };
    let issues = outcome.get("issue").and_then(serde_json::Value::as_array);
    Some(
        issues
            .into_iter()
            .flatten()
            .filter(|it| it["severity"] == "error" || it["severity"] == "fatal")
            .count(),
    )
}

#[test]
fn validator_cases_that_are_right_have_no_errors() {
    let Some(folder) = shared("conformance/fhir-validator") else {
        return;
    };
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    let mut clean = 0;
    let mut caught = 0;
    let mut refused = Vec::new();
    for case in manifest["test-cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        // Asks for contained resources not to be checked, which this check does not offer.
        if case.get("validateContains").is_some() {
            continue;
        }
        let bytes = std::fs::read(
            folder
                .join("validator")
                .join(case["file"].as_str().unwrap()),
        )
        .unwrap();
        let outcome = check(&bytes);
        match expected_errors(&folder, case) {
            Some(0) => {
                clean += 1;
                if !outcome.is_ok() {
                    refused.push(format!("{name}: {:?}", errors(&outcome)));
                }
            }
            Some(_) => caught += usize::from(!outcome.is_ok()),
            None => {}
        }
    }
    println!(
        "{clean} cases without errors; of the others the structural check alone refuses {caught}"
    );
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn synthea_records() {
    let Some(archive) = shared("data/synthea-r4-40.tar.gz") else {
        return;
    };
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(
        std::fs::File::open(archive).unwrap(),
    ));
    let mut by_kind: BTreeMap<String, usize> = BTreeMap::new();
    let mut files = 0;
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files += 1;
        let outcome = check(&bytes);
        let document = outcome.document.as_ref().unwrap();
        let entries: Vec<_> = document
            .root()
            .get("entry")
            .unwrap()
            .children()
            .map(|it| {
                it.get("resource")
                    .and_then(|it| it.get("resourceType"))
                    .and_then(|it| it.as_str())
                    .unwrap_or("?")
            })
            .collect();
        for finding in outcome
            .findings
            .iter()
            .filter(|it| it.severity >= Severity::Error)
        {
            let rest = finding
                .expression
                .strip_prefix("Bundle.entry[")
                .unwrap_or(&finding.expression);
            let (index, path) = rest.split_once(']').unwrap();
            let type_name = entries[index.parse::<usize>().unwrap()];
            let path: String = path.chars().filter(|it| !it.is_ascii_digit()).collect();
            *by_kind
                .entry(format!(
                    "{} {type_name}{}",
                    finding.id,
                    path.replace(".resource", "")
                ))
                .or_default() += 1;
        }
    }
    assert_eq!(files, 40);
    println!("{by_kind:#?}");
    assert!(by_kind.is_empty());
}

/// Values of a JSON tree by pointer, in order.
fn pointers(value: &serde_json::Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        serde_json::Value::Object(members) => {
            for (key, member) in members {
                pointers(member, &format!("{at}/{key}"), out);
            }
        }
        serde_json::Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointers(item, &format!("{at}/{index}"), out);
            }
        }
        _ => {}
    }
}

/// Every way in which a right resource is bent here must be noticed.
#[test]
fn bent_examples_are_refused() {
    let Some(folder) = shared("conformance/us-core-examples") else {
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut bent = 0;
    for (turn, path) in files.iter().enumerate() {
        let right: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut places = Vec::new();
        pointers(&right, "", &mut places);
        for (index, place) in places.iter().enumerate().skip(turn % 3).step_by(3) {
            let mut wrong = right.clone();
            let target = wrong.pointer_mut(place).unwrap();
            match target {
                serde_json::Value::Object(members) if index % 2 == 0 => {
                    members.insert("unheardOf".to_owned(), true.into());
                }
                serde_json::Value::Object(_) | serde_json::Value::Array(_) => {
                    *target = "text".into()
                }
                _ if index % 3 == 0 => *target = serde_json::json!({"id": "x"}),
                _ if index % 3 == 1 => *target = serde_json::Value::Null,
                _ => *target = serde_json::json!([]),
            }
            let text = wrong.to_string();
            assert!(
                !check(text.as_bytes()).is_ok(),
                "{} at {place} was accepted",
                path.display()
            );
            bent += 1;
        }
    }
    assert!(bent > 1000, "only {bent} bent resources");
}

/// Broken text gives findings, never a panic.
#[test]
fn broken_text_never_panics() {
    let Some(folder) = shared("conformance/us-core-examples") else {
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for path in files.iter().step_by(10) {
        let right = std::fs::read(path).unwrap();
        for at in (0..right.len()).step_by(131) {
            assert!(!check(&right[..at]).is_ok());
            let mut wrong = right.clone();
            for change in [0xff, b'"', b'{', b']', 0] {
                wrong[at] = change;
                let _ = check(&wrong).findings;
            }
        }
    }
}
