//! Makes wrong resources out of right ones: each mutant breaks one rule, and says which.
//!
//! A change that could leave the resource valid is not made. What the base definitions demand comes from
//! [`Definitions`], what profiles demand from the text of their package; no code of the validator decides
//! what is wrong.
//! Start at [`mutants`] and [`tally`].

mod base;
mod invariants;
mod profile;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::package::Package;
use chaperone_fhir::{Definitions, Request, Validator, ValidatorOptions};
use serde_json::Value;

/// A wrong resource.
#[derive(Clone, Debug)]
pub struct Mutant {
    pub kind: &'static str,
    /// What was broken, and where.
    pub what: String,
    pub resource: Value,
}

/// The mutants so far.
pub struct Makings<'r> {
    right: &'r Value,
    made: Vec<Mutant>,
}

impl Makings<'_> {
    /// Adds the right resource with a change at a JSON pointer; none if nothing changed.
    pub fn change(
        &mut self,
        kind: &'static str,
        pointer: &str,
        what: &str,
        change: impl FnOnce(&mut Value),
    ) {
        let mut resource = self.right.clone();
        let Some(target) = resource.pointer_mut(pointer) else {
            return;
        };
        change(target);
        if &resource != self.right {
            self.made.push(Mutant {
                kind,
                what: format!("{pointer} {what}"),
                resource,
            });
        }
    }
}

/// Removes a member and its `_` sibling.
pub fn remove(object: &mut Value, name: &str) {
    if let Value::Object(members) = object {
        members.remove(name);
        members.remove(&format!("_{name}"));
    }
}

/// Calls with every value of a resource: its JSON pointer, the resource type it is in, its path there, and
/// itself. Contained and entry resources begin anew.
pub fn each_value(
    value: &Value,
    pointer: &str,
    type_name: &str,
    path: &str,
    visit: &mut dyn FnMut(&str, &str, &str, &Value),
) {
    let (type_name, path) = match value.get("resourceType").and_then(Value::as_str) {
        Some(own) => (own, ""),
        None => (type_name, path),
    };
    visit(pointer, type_name, path, value);
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if name == "resourceType" || name.starts_with('_') {
                    continue;
                }
                let below = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                each_value(
                    member,
                    &format!("{pointer}/{name}"),
                    type_name,
                    &below,
                    visit,
                );
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                each_value(item, &format!("{pointer}/{index}"), type_name, path, visit);
            }
        }
        _ => {}
    }
}

/// The mutants of a resource: of each kind at most so many, evenly spread over those possible.
/// `profiles` are StructureDefinitions by URL.
pub fn mutants(
    definitions: &Definitions,
    profiles: &BTreeMap<String, Value>,
    right: &Value,
    of_a_kind_max: usize,
) -> Vec<Mutant> {
    let mut makings = Makings {
        right,
        made: Vec::new(),
    };
    base::make(definitions, &mut makings);
    invariants::make(&mut makings);
    let claimed = right["meta"]["profile"].as_array().into_iter().flatten();
    for url in claimed.filter_map(Value::as_str) {
        let url = url.split('|').next().unwrap_or(url);
        if let Some(profile) = profiles.get(url) {
            profile::make(definitions, profile, &mut makings);
        }
    }
    let mut by_kind: BTreeMap<&str, Vec<Mutant>> = BTreeMap::new();
    for mutant in makings.made {
        by_kind.entry(mutant.kind).or_default().push(mutant);
    }
    by_kind
        .into_values()
        .flat_map(|made| {
            let step = made.len().div_ceil(of_a_kind_max).max(1);
            made.into_iter().step_by(step)
        })
        .collect()
}

/// Under this kind stand resources that were not accepted unchanged.
pub const NOT_RIGHT: &str = "(not accepted unchanged)";

/// Drops the versions of the profiles that a resource claims, so that it is judged by those at hand.
fn claim_any_version(resource: &mut Value) {
    let claimed = resource.pointer_mut("/meta/profile");
    for url in claimed.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some((bare, _)) = url.as_str().and_then(|it| it.split_once('|')) {
            *url = bare.into();
        }
    }
}

/// How many mutants of a kind there were, and which were accepted.
#[derive(Debug, Default)]
pub struct Tally {
    pub made: usize,
    pub survivors: Vec<String>,
}

/// Makes and checks the mutants of every file of a folder against a package.
pub fn tally(
    folder: &Path,
    package: &Path,
    of_a_kind_max: usize,
) -> std::io::Result<BTreeMap<&'static str, Tally>> {
    let package = Package::read(&std::fs::read(package)?, |name| name.ends_with(".json"))
        .map_err(std::io::Error::other)?;
    let mut profiles = BTreeMap::new();
    for (name, text) in &package.files {
        if name.starts_with("StructureDefinition-") {
            let profile: Value = serde_json::from_slice(text)?;
            if let Some(url) = profile["url"].as_str() {
                profiles.insert(url.to_owned(), profile);
            }
        }
    }
    let mut catalogue = Catalogue::with_base(Catalogue::r4());
    catalogue
        .add_package(&package)
        .map_err(std::io::Error::other)?;
    let validator = Validator::new(Arc::new(catalogue), ValidatorOptions::default());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.sort();
    let mut tallies: BTreeMap<&'static str, Tally> = BTreeMap::new();
    for file in files {
        let mut right: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        claim_any_version(&mut right);
        let text = right.to_string();
        let accepted = validator.validate(text.as_bytes(), &Request::default());
        if !accepted.is_ok() {
            // It does not conform to this version of the package: nothing can be learnt from it.
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let tally = tallies.entry(NOT_RIGHT).or_default();
            let errors = accepted.findings.iter().filter(|it| it.severity.is_error());
            tally.survivors.extend(
                errors.map(|it| format!("{name} {} {} {}", it.id, it.expression, it.message)),
            );
            continue;
        }
        for mutant in mutants(Definitions::r4(), &profiles, &right, of_a_kind_max) {
            let text = mutant.resource.to_string();
            let is_ok = validator
                .validate(text.as_bytes(), &Request::default())
                .is_ok();
            let tally = tallies.entry(mutant.kind).or_default();
            tally.made += 1;
            if is_ok {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                tally.survivors.push(format!("{name} {}", mutant.what));
            }
        }
    }
    Ok(tallies)
}

/// Share of mutants that were rejected, in percent.
pub fn rejected_percent(tallies: &BTreeMap<&'static str, Tally>) -> f64 {
    let mutants = || tallies.iter().filter(|(kind, _)| **kind != NOT_RIGHT);
    let made: usize = mutants().map(|(_, it)| it.made).sum();
    let survived: usize = mutants().map(|(_, it)| it.survivors.len()).sum();
    100.0 * (made - survived) as f64 / made.max(1) as f64
}

/// A table by kind, and the survivors.
pub fn report(tallies: &BTreeMap<&'static str, Tally>, survivors_max: usize) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for (kind, tally) in tallies {
        let rejected = tally.made.saturating_sub(tally.survivors.len());
        let percent = 100.0 * rejected as f64 / tally.made.max(1) as f64;
        let _ = writeln!(
            text,
            "{kind:24} {rejected:5} of {:5}  {percent:5.1} %",
            tally.made
        );
        for survivor in tally.survivors.iter().take(survivors_max) {
            let _ = writeln!(text, "    accepted: {survivor}");
        }
    }
    let _ = writeln!(text, "rejected {:.2} %", rejected_percent(tallies));
    text
}
