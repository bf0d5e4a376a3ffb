//! From text to declarations: which paths a bundle may hold, and parsing TOML with line numbers.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::{Declared, FILE_BYTES_MAX, MANIFEST_PATH, Manifest, SCHEMA_PATH};
use crate::problem::{Problems, line_at};

/// Folders of which every file of one extension is read.
const FOLDERS: [(&str, &str); 10] = [
    ("agents/", ".toml"),
    ("intents/", ".toml"),
    ("cohorts/", ".toml"),
    ("tools/", ".toml"),
    ("rules/", ".toml"),
    ("templates/", ".toml"),
    ("profiles/", ".toml"),
    ("profiles/", ".json"),
    ("policies/cases/", ".json"),
    ("policies/", ".cedar"),
];

/// Refuses files that nothing reads: a misplaced restriction must not be silently absent.
pub(super) fn check_path(path: &str, text: &str, problems: &mut Problems) {
    if text.len() > FILE_BYTES_MAX {
        problems.add(
            path,
            "",
            format!("a file holds at most {FILE_BYTES_MAX} bytes"),
        );
    }
    let known = path == MANIFEST_PATH
        || path == SCHEMA_PATH
        || path.ends_with(".md")
        || FOLDERS
            .iter()
            .any(|(folder, extension)| in_folder(path, folder, extension).is_some());
    if !known {
        problems.add(
            path,
            "",
            "no part of a bundle; files are bundle.toml, agents/*.toml, intents/*.toml, cohorts/*.toml, tools/*.toml, \
             rules/*.toml, templates/*.toml, profiles/*.toml, profiles/*.json, policies/schema.cedarschema, policies/*.cedar, policies/cases/*.json and *.md",
        );
    }
}

/// The file's stem when it lies directly in a folder and has the extension.
pub(crate) fn in_folder<'a>(path: &'a str, folder: &str, extension: &str) -> Option<&'a str> {
    path.strip_prefix(folder)
        .and_then(|rest| rest.strip_suffix(extension))
        .filter(|stem| !stem.is_empty() && !stem.contains('/'))
}

/// Files directly in a folder: path, stem and text.
pub(crate) fn files_in<'a>(
    files: &'a BTreeMap<String, String>,
    folder: &'a str,
    extension: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    files.iter().filter_map(move |(path, text)| {
        in_folder(path, folder, extension).map(|stem| (path.as_str(), stem, text.as_str()))
    })
}

pub(super) fn parse<T: DeserializeOwned>(
    path: &str,
    text: &str,
    problems: &mut Problems,
) -> Option<T> {
    match toml::from_str(text) {
        Ok(value) => Some(value),
        Err(error) => {
            let line = error.span().and_then(|span| line_at(text, span.start));
            problems.add_at(path, line, "", error.message());
            None
        }
    }
}

pub(super) fn manifest(
    files: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> Option<Manifest> {
    let Some(text) = files.get(MANIFEST_PATH) else {
        problems.add(
            MANIFEST_PATH,
            "",
            "missing: every bundle names itself, its owner and its review dates",
        );
        return None;
    };
    let manifest: Manifest = parse(MANIFEST_PATH, text, problems)?;
    for (key, day) in [
        ("reviewed", &manifest.reviewed),
        ("review_by", &manifest.review_by),
    ] {
        if !is_day(day) {
            problems.add(MANIFEST_PATH, key, "must be a day such as `2026-01-31`");
        }
    }
    if manifest.review_by <= manifest.reviewed {
        problems.add(MANIFEST_PATH, "review_by", "must be later than `reviewed`");
    }
    for (at, package) in manifest.packages.iter().enumerate() {
        let is_sum = package.sha256.len() == 64
            && package
                .sha256
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !is_sum {
            let say = format!(
                "`{}`: `sha256` must be the 64 hexadecimal digits that `chaperone packages list` prints",
                package.name
            );
            problems.add(MANIFEST_PATH, "packages", say);
        }
        if manifest
            .packages
            .iter()
            .take(at)
            .any(|earlier| earlier.name == package.name)
        {
            let say = format!(
                "`{}` is listed twice; one version is in force",
                package.name
            );
            problems.add(MANIFEST_PATH, "packages", say);
        }
    }
    Some(manifest)
}

pub(super) fn is_day(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| {
            if at == 4 || at == 7 {
                byte == b'-'
            } else {
                byte.is_ascii_digit()
            }
        })
}

pub(super) fn declarations(files: &BTreeMap<String, String>, problems: &mut Problems) -> Declared {
    let mut declared = Declared::default();
    for (path, stem, text) in files_in(files, "agents/", ".toml") {
        if let Some(agent) = parse::<chaperone_core::bundle::AgentDeclaration>(path, text, problems)
        {
            named_like(path, stem, agent.id.as_str(), problems);
            declared
                .agents
                .insert(agent.id.clone(), (path.to_owned(), agent));
        }
    }
    for (path, stem, text) in files_in(files, "intents/", ".toml") {
        if let Some(intent) =
            parse::<chaperone_core::bundle::IntentDeclaration>(path, text, problems)
        {
            named_like(path, stem, intent.id.as_str(), problems);
            declared
                .intents
                .insert(intent.id.clone(), (path.to_owned(), intent));
        }
    }
    for (path, stem, text) in files_in(files, "tools/", ".toml") {
        if let Some(tool) = parse::<chaperone_core::bundle::ToolDeclaration>(path, text, problems) {
            named_like(path, stem, tool.name.as_str(), problems);
            declared
                .tools
                .insert(tool.name.clone(), (path.to_owned(), tool));
        }
    }
    declared
}

pub(super) fn named_like(path: &str, stem: &str, id: &str, problems: &mut Problems) {
    if stem != id {
        problems.add(
            path,
            id,
            format!("the file must be called after what it declares: `{id}.toml`"),
        );
    }
}

/// Rule files are kept as text; here they only have to be TOML.
pub(super) fn rules(
    files: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> BTreeMap<String, String> {
    let mut rules = BTreeMap::new();
    for (path, stem, text) in files_in(files, "rules/", ".toml") {
        if parse::<toml::Table>(path, text, problems).is_some() {
            rules.insert(stem.to_owned(), text.to_owned());
        }
    }
    rules
}

/// Conformance resources of the bundle's own, by file name; here they only have to be JSON of the right kind.
pub(super) fn profiles(
    files: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> BTreeMap<String, String> {
    const KINDS: [&str; 3] = ["StructureDefinition", "ValueSet", "CodeSystem"];
    let mut profiles = BTreeMap::new();
    for (path, stem, text) in files_in(files, "profiles/", ".json") {
        let kind = serde_json::from_str::<serde_json::Value>(text).map(|resource| {
            resource
                .get("resourceType")
                .and_then(|it| it.as_str().map(str::to_owned))
        });
        match kind {
            Ok(Some(kind)) if KINDS.contains(&kind.as_str()) => {
                profiles.insert(stem.to_owned(), text.to_owned());
            }
            Ok(_) => problems.add(
                path,
                "resourceType",
                "must be StructureDefinition, ValueSet or CodeSystem",
            ),
            Err(error) => {
                let line = u32::try_from(error.line()).ok();
                problems.add_at(path, line, "", "is not JSON");
            }
        }
    }
    profiles
}
