//! Who may import whom, read from the manifests. A boundary is a permission: what a crate cannot
//! reach, it cannot do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use toml::{Table, Value};

use crate::none;
use crate::tree::root;

/// The edges that exist between our own crates (architecture: layers 0 to 4). `*` is everything.
const EDGES: [(&str, &[&str]); 13] = [
    ("core", &[]),
    ("ledger", &["core"]),
    ("policy", &["core"]),
    ("fhir", &["core"]),
    ("store", &["core"]),
    ("connect", &["core"]),
    ("sandbox", &["core"]),
    ("phi", &["core", "fhir"]),
    ("engine", &["core", "ledger", "policy", "fhir", "phi"]),
    ("web", &["engine", "core"]),
    ("testkit", &["engine", "core"]),
    ("chaperone", &["*"]),
    ("tidy", &[]),
];

/// Libraries that one place alone may use, so that none of their types spreads.
const CONFINED: [(&str, &[&str]); 14] = [
    ("cedar-policy", &["policy"]),
    ("cedar-policy-symcc", &["policy"]),
    ("rusqlite", &["store"]),
    ("tokio-postgres", &["store"]),
    ("tokio-postgres-rustls", &["store"]),
    ("deadpool-postgres", &["store"]),
    ("reqwest", &["connect"]),
    ("lettre", &["connect"]),
    ("axum", &["web", "sandbox"]),
    ("rmcp", &["web"]),
    ("askama", &["web"]),
    ("clap", &["chaperone"]),
    // Typed errors in libraries; `fhir` has a generator program beside its library.
    ("anyhow", &["chaperone", "fhir"]),
    // One time type: jiff.
    ("chrono", &[]),
];

/// All that the domain core rests on: serialisation, patches of JSON, errors, a hash, a time type, async ports.
const CORE_RESTS_ON: [&str; 9] = [
    "async-trait",
    "hex",
    "jiff",
    "json-patch",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    "zeroize",
];

/// Fields that every manifest takes from the workspace.
const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];

fn names(manifest: &Table, section: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut add = |table: Option<&Value>| {
        if let Some(table) = table.and_then(Value::as_table) {
            names.extend(table.keys().cloned());
        }
    };
    add(manifest.get(section));
    for target in manifest
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(|targets| targets.values())
    {
        add(target.get(section));
    }
    names
}

/// The folder name of one of our own crates.
fn ours(dependency: &str) -> Option<&str> {
    match dependency {
        "chaperone" => Some("chaperone"),
        _ => dependency.strip_prefix("chaperone-"),
    }
}

fn problems(folder: &str, manifest: &Table) -> Vec<String> {
    let mut problems = Vec::new();
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == folder) else {
        return vec![format!(
            "crates/{folder} has no place in the layers; give it one in this test and in ARCHITECTURE.md"
        )];
    };
    let mut normal = names(manifest, "dependencies");
    normal.extend(names(manifest, "build-dependencies"));
    for dependency in &normal {
        if let Some(other) = ours(dependency)
            && !allowed.contains(&other)
            && !allowed.contains(&"*")
        {
            problems.push(format!("{folder} may not depend on {other}"));
        }
        if let Some((_, places)) = CONFINED.iter().find(|(name, _)| name == dependency)
            && !places.contains(&folder)
        {
            problems.push(format!("{folder} may not use {dependency}"));
        }
        if folder == "core" && !CORE_RESTS_ON.contains(&dependency.as_str()) {
            problems.push(format!("core may not rest on {dependency}"));
        }
    }
    if folder == "core" {
        problems.extend(
            names(manifest, "dev-dependencies")
                .iter()
                .filter(|dependency| ours(dependency).is_some())
                .map(|dependency| {
                    format!("core may not depend on {dependency}, not even in tests")
                }),
        );
    }
    for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
        for (name, value) in manifest
            .get(section)
            .and_then(Value::as_table)
            .into_iter()
            .flatten()
        {
            if value.get("workspace") != Some(&Value::Boolean(true)) {
                problems.push(format!(
                    "{folder}: {name} does not take its version from the workspace"
                ));
            }
        }
    }
    let inherits = |value: Option<&Value>| {
        value.and_then(|v| v.get("workspace")) == Some(&Value::Boolean(true))
    };
    if !inherits(manifest.get("lints")) {
        problems.push(format!(
            "{folder} does not take its lints from the workspace"
        ));
    }
    for field in INHERITED {
        if !inherits(manifest.get("package").and_then(|p| p.get(field))) {
            problems.push(format!("{folder} does not take {field} from the workspace"));
        }
    }
    problems
}

fn manifests() -> BTreeMap<String, Table> {
    fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("Cargo.toml").exists())
        .map(|path| {
            let folder = path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(path.join("Cargo.toml")).unwrap();
            (folder, text.parse::<Table>().unwrap())
        })
        .collect()
}

#[test]
fn crates_import_only_what_their_layer_allows() {
    let manifests = manifests();
    assert!(manifests.len() >= 10, "the manifests were not found");
    let problems: Vec<String> = manifests
        .iter()
        .flat_map(|(folder, manifest)| problems(folder, manifest))
        .collect();
    none(&problems);
}

#[test]
fn a_wrong_edge_a_spread_driver_and_a_private_version_are_seen() {
    let check = |folder: &str, text: &str| {
        let inherited: String = INHERITED
            .iter()
            .map(|field| format!("{field}.workspace = true\n"))
            .collect();
        let whole = format!("[package]\n{inherited}[lints]\nworkspace = true\n{text}");
        problems(folder, &whole.parse::<Table>().unwrap())
    };
    let good = "[dependencies]\nchaperone-core.workspace = true\n";
    assert_eq!(check("ledger", good), Vec::<String>::new());
    for (folder, text, expected) in [
        (
            "ledger",
            "[dependencies]\nchaperone-fhir.workspace = true\n",
            "ledger may not depend on fhir",
        ),
        (
            "web",
            "[target.'cfg(unix)'.dependencies]\nchaperone-store.workspace = true\n",
            "web may not depend on store",
        ),
        (
            "engine",
            "[dependencies]\nreqwest.workspace = true\n",
            "engine may not use reqwest",
        ),
        (
            "core",
            "[dependencies]\ntokio.workspace = true\n",
            "core may not rest on tokio",
        ),
        (
            "core",
            "[dev-dependencies]\nchaperone-testkit.workspace = true\n",
            "core may not depend on chaperone-testkit, not even in tests",
        ),
        (
            "store",
            "[dependencies]\nserde = \"1\"\n",
            "store: serde does not take its version from the workspace",
        ),
    ] {
        assert_eq!(check(folder, text), vec![expected.to_owned()]);
    }
    assert_eq!(check("misc", good).len(), 1);
    // In tests, a driver may stand beside what it drives.
    let in_tests = "[dev-dependencies]\nreqwest.workspace = true\n";
    assert_eq!(check("sandbox", in_tests), Vec::<String>::new());
}
