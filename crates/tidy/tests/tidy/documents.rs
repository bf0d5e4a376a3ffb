//! Rules on documents: links lead somewhere, named files and tests exist, and the table of
//! requirements is whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::none;
use crate::tree::{File, files, root, rust_files};

/// How many requirements there are: R001 to R167.
const REQUIREMENTS: usize = 167;

/// Beginnings of the paths of this repository, as documents name them in backticks.
const FOLDERS: [&str; 6] = [
    "crates/",
    "docs/",
    "scripts/",
    "governance/",
    "deploy/",
    ".ci/",
];

fn documents() -> Vec<File> {
    let mut documents = files("");
    documents.retain(|file| file.path.ends_with(".md"));
    documents
}

/// Targets of `[text](target)` outside code fences.
fn links(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    for (n, part) in text.split("```").enumerate() {
        if n % 2 == 0 {
            for piece in part.split("](").skip(1) {
                links.extend(piece.split(')').next());
            }
        }
    }
    links
}

/// What stands in backticks outside code fences.
fn quoted(text: &str) -> Vec<&str> {
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    prose
        .into_iter()
        .flat_map(|part| part.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn links_and_named_files_exist() {
    assert_eq!(links("[a](b.md) ```[c](d)``` [e](#f)"), ["b.md", "#f"]);
    assert_eq!(quoted("a `b` c `d`"), ["b", "d"]);
    let mut problems = Vec::new();
    for document in documents() {
        let path = root().join(&document.path);
        let folder = path.parent().unwrap();
        for link in links(&document.text) {
            let file = link.split('#').next().unwrap_or_default();
            let outside = ["http://", "https://", "mailto:"]
                .iter()
                .any(|s| link.starts_with(s));
            if !outside && !file.is_empty() && !folder.join(file).exists() {
                problems.push(format!("{}: `{link}` leads nowhere", document.path));
            }
        }
        for name in quoted(&document.text) {
            let is_path = FOLDERS.iter().any(|f| name.starts_with(f))
                && !name.contains(|c: char| c.is_whitespace() || "*<>{}…".contains(c));
            if is_path && !root().join(name).exists() {
                problems.push(format!("{}: there is no `{name}`", document.path));
            }
        }
    }
    none(&problems);
}

/// The names of all functions of the repository.
fn functions() -> BTreeSet<String> {
    rust_files()
        .iter()
        .flat_map(|file| {
            file.text
                .split("fn ")
                .skip(1)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|rest| Some(rest.split(['(', '<']).next()?.trim().to_owned()))
        .collect()
}

#[test]
fn vectors_of_the_matrix_name_tests_that_exist() {
    let path = "governance/policies/cases/vectors.json";
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    let functions = functions();
    let named: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split_once("\"tests\": "))
        .flat_map(|(_, tests)| tests.split('"'))
        .filter(|word| word.contains('_'))
        .collect();
    assert!(named.len() > 10, "{path} names no tests");
    let problems: Vec<String> = named
        .iter()
        .filter(|name| !functions.contains(**name))
        .map(|name| format!("{path}: there is no test `{name}`"))
        .collect();
    none(&problems);
}

#[test]
fn each_invariant_is_stated_once_and_names_tests_that_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let functions = functions();
    let mut problems = Vec::new();
    let mut stated = Vec::new();
    for line in text.lines() {
        if let Some((number, _)) = line
            .strip_prefix("**Invariant ")
            .and_then(|rest| rest.split_once('.'))
        {
            stated.push(number.to_owned());
        }
        let Some(tests) = line.strip_prefix("Tests: ") else {
            continue;
        };
        let named = quoted(tests);
        if named.is_empty() && !tests.contains("(pending)") {
            problems.push(format!(
                "after invariant {}: no test is named",
                stated.len()
            ));
        }
        problems.extend(
            named
                .iter()
                .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
                .filter(|name| !functions.contains(**name))
                .map(|name| format!("ARCHITECTURE.md: there is no test `{name}`")),
        );
    }
    let expected: Vec<String> = (1..=15).map(|n: u8| n.to_string()).collect();
    assert_eq!(stated, expected);
    assert_eq!(text.matches("\nTests: ").count(), 15);
    none(&problems);
}

/// Problems of the table of requirements.
fn requirement_problems(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| R")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let &[id, requirement, state, evidence] = cells.as_slice() else {
            problems.push(format!("not four cells: {line}"));
            continue;
        };
        *seen.entry(id.to_owned()).or_default() += 1;
        if requirement.is_empty() {
            problems.push(format!("{id} does not say what is required"));
        }
        match state {
            "absent" => {}
            "works" | "partial" if quoted(evidence).is_empty() => {
                problems.push(format!(
                    "{id} is {state} without naming a test or a command"
                ));
            }
            "works" | "partial" => {}
            _ => problems.push(format!("{id}: `{state}` is not works, partial or absent")),
        }
    }
    for n in 1..=REQUIREMENTS {
        let id = format!("R{n:03}");
        match seen.remove(&id) {
            Some(1) => {}
            Some(times) => problems.push(format!("{id} stands {times} times")),
            None => problems.push(format!("{id} is missing")),
        }
    }
    problems.extend(seen.keys().map(|id| format!("{id} is not a requirement")));
    problems
}

#[test]
fn every_requirement_has_one_row_an_honest_state_and_evidence() {
    let text = std::fs::read_to_string(root().join("docs/requirements.md")).unwrap();
    none(&requirement_problems(&text));
}

#[test]
fn a_missing_a_double_and_an_unproved_requirement_are_seen() {
    let row = |n: usize| format!("| R{n:03} | something | absent | |\n");
    let whole: String = (1..=REQUIREMENTS).map(row).collect();
    assert_eq!(requirement_problems(&whole), Vec::<String>::new());
    let without_last: String = (1..REQUIREMENTS).map(row).collect();
    assert_eq!(requirement_problems(&without_last), ["R167 is missing"]);
    assert_eq!(
        requirement_problems(&(whole.clone() + &row(3))),
        ["R003 stands 2 times"]
    );
    assert_eq!(
        requirement_problems(&(whole.clone() + &row(168))),
        ["R168 is not a requirement"]
    );
    let claimed = whole.replace(
        "| R007 | something | absent | |",
        "| R007 | something | works | yes |",
    );
    assert_eq!(
        requirement_problems(&claimed),
        ["R007 is works without naming a test or a command"]
    );
    let vague = whole.replace(
        "| R007 | something | absent | |",
        "| R007 | something | soon | |",
    );
    assert_eq!(
        requirement_problems(&vague),
        ["R007: `soon` is not works, partial or absent"]
    );
}
