//! The inventory of places against the code: a collection that the engine keeps and the inventory does not list
//! stops the build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chaperone_engine::inventory::{COLLECTIONS, Holds, Inventory, InventoryInvalid, artefacts};

use crate::bench::{BUNDLE, bundle};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// Names of constants that stand first in `Record::new(` or `RecordKey::new(`.
fn named_in(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for call in ["Record::new(", "RecordKey::new("] {
        for behind in text.split(call).skip(1) {
            let first: String = behind
                .trim_start()
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || *c == '_')
                .collect();
            if !first.is_empty() {
                names.insert(first);
            }
        }
    }
    names
}

fn constants(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let (_, behind) = line.split_once("const ")?;
            let (name, behind) = behind.split_once(": &str = \"")?;
            Some((name.to_owned(), behind.split_once('"')?.0.to_owned()))
        })
        .collect()
}

#[test]
fn every_collection_that_the_code_keeps_is_in_the_inventory() {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    let texts: Vec<String> = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let everywhere: BTreeMap<String, String> =
        texts.iter().flat_map(|text| constants(text)).collect();
    let mut kept = BTreeSet::new();
    for text in &texts {
        let here = constants(text);
        for name in named_in(text) {
            let collection = here.get(&name).or_else(|| everywhere.get(&name));
            kept.insert(
                collection
                    .unwrap_or_else(|| panic!("{name} is no constant"))
                    .clone(),
            );
        }
    }
    assert!(kept.len() > 15, "the sources were read: {kept:?}");
    let unlisted: Vec<&String> = kept
        .iter()
        .filter(|name| !COLLECTIONS.contains(&name.as_str()))
        .collect();
    assert!(unlisted.is_empty(), "add to the inventory: {unlisted:?}");
}

#[test]
fn an_inventory_with_a_row_missing_twice_or_for_nothing_is_refused() {
    let whole = Inventory::of(&BUNDLE).unwrap();
    assert_eq!(whole.places.len(), artefacts().len());
    assert!(whole.places.iter().any(|it| it.holds == Holds::Phi));
    assert!(
        whole
            .sights
            .iter()
            .any(|sight| sight.intent.as_str() == "schedule-appointment")
    );
    let with = |change: &dyn Fn(&str) -> String| {
        let mut files = chaperone_policy::embedded::files();
        let text = files.get_mut("rules/inventory.toml").unwrap();
        *text = change(text);
        Inventory::of(&bundle(&files))
    };
    let missing = with(&|text| text.replace("record/token_index", "record/other"));
    assert_eq!(
        missing,
        Err(InventoryInvalid::Rows("record/token_index".to_owned()))
    );
    let twice = with(&|text| text.replace("record/token_index", "record/token"));
    assert!(matches!(twice, Err(InventoryInvalid::Rows(_))));
    let row = "\n[[places]]\nartefact = \"elsewhere\"\nwhat = \"x\"\nholds = \"nothing\"\nstore = \"x\"\nkey = \"x\"\nreached_by = \"x\"\n";
    let stray = with(&|text| format!("{text}{row}"));
    assert_eq!(
        stray,
        Err(InventoryInvalid::Unknown("elsewhere".to_owned()))
    );
    let unknown = with(&|text| text.replacen("holds = \"phi\"", "holds = \"perhaps\"", 1));
    assert!(matches!(unknown, Err(InventoryInvalid::Unreadable(_))));
}
