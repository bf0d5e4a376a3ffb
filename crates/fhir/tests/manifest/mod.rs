//! Runs the cases of a FHIR validator manifest (the format of the FHIR test-case repository) and compares
//! the verdicts. It judges nothing but error or no error: wording is each validator's own.
//!
//! A case is one or two runs: the input against the base definitions and what it claims in `meta.profile`,
//! and the same with the profile of the case. Each run has its own expected outcome.
//! Start at [`Manifest::read`], then [`Manifest::run`].

mod xml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chaperone_fhir::canonical::{CodeSystem, Content};
use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::package::Package;
use chaperone_fhir::terminology::Severities;
use chaperone_fhir::validator::ProfileOptions;
use chaperone_fhir::{Definitions, Finding, Request, Severity, Validator, ValidatorOptions};
use serde_json::Value;

/// When the cases are run, for those whose verdict rests on the time.
const NOW: &str = "2026-07-01T12:00:00Z";

/// Which run of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Base,
    Profile,
}

/// What the manifest expects of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    NoError,
    /// The messages of the expected errors.
    Error(Vec<String>),
    /// The expected outcome is not at hand.
    Unknown,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Agrees,
    /// We reject what is expected to pass.
    FalseReject,
    /// We pass what is expected to be rejected.
    FalseAccept,
    /// Every expected error rests on the content of a code system that is not loaded. In terms of the
    /// expected outcome: each issue of severity error or fatal names the terminology server that raised it
    /// (extension `operationoutcome-issue-server`) and speaks of a display or code of a code system for
    /// which nothing is loaded here.
    NeedsTerminology,
    /// A package or file that the run names is not at hand.
    NeedsPackage,
    /// There is no expected outcome.
    NoExpectation,
    /// The input is not JSON, or the case asks for a check to be left out that cannot be.
    OutOfScope,
}

/// One run and how it ended.
#[derive(Clone, Debug)]
pub struct Run {
    pub case: String,
    pub kind: Kind,
    pub standing: Standing,
    pub expected: Expected,
    /// Errors found, as `id expression message`.
    pub found: Vec<String>,
    /// Packages and files that are not at hand.
    pub missing: Vec<String>,
}

/// The manifest and where its files are.
pub struct Manifest {
    folder: PathBuf,
    cases: Vec<Value>,
    packages: BTreeMap<String, Package>,
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    let list = value.get(key).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|it| it.as_str().map(str::to_owned))
        .collect()
}

impl Manifest {
    /// Reads `manifest.json` of a folder; packages are looked for in `packages`.
    pub fn read(folder: &Path, packages: &Path) -> std::io::Result<Self> {
        let text = std::fs::read(folder.join("manifest.json"))?;
        let mut manifest: Value = serde_json::from_slice(&text)?;
        let cases = match manifest["test-cases"].take() {
            Value::Array(cases) => cases,
            _ => Vec::new(),
        };
        let mut at_hand = BTreeMap::new();
        for entry in std::fs::read_dir(packages).into_iter().flatten() {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "tgz") {
                let package = Package::read(&std::fs::read(&path)?, |name| name.ends_with(".json"))
                    .map_err(std::io::Error::other)?;
                let name = format!("{}#{}", package.id.name, package.id.version);
                at_hand.insert(name, package);
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            cases,
            packages: at_hand,
        })
    }

    /// Runs every case whose name contains `filter`, in the order of the manifest.
    pub fn run(&self, filter: &str) -> Vec<Run> {
        let mut runs = Vec::new();
        for case in &self.cases {
            let name = case["name"].as_str().unwrap_or_default();
            if !name.contains(filter) {
                continue;
            }
            runs.push(self.one(case, name, Kind::Base));
            if case.get("profile").is_some() {
                runs.push(self.one(case, name, Kind::Profile));
            }
        }
        runs
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join("validator").join(name)
    }

    /// The text of a file as JSON; XML is converted.
    fn text(&self, name: &str) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.file(name)).ok()?;
        if name.ends_with(".xml") {
            xml::to_json(Definitions::r4(), std::str::from_utf8(&bytes).ok()?)
        } else {
            Some(bytes)
        }
    }

    fn one(&self, case: &Value, name: &str, kind: Kind) -> Run {
        let part = match kind {
            Kind::Base => case,
            Kind::Profile => &case["profile"],
        };
        let mut missing = Vec::new();
        let mut catalogue = Catalogue::with_base(Catalogue::r4());
        let mut parts = vec![case];
        if kind == Kind::Profile {
            parts.push(part);
        }
        let mut profiles = Vec::new();
        for from in &parts {
            for package in texts(from, "packages") {
                match self.packages.get(&package) {
                    Some(package) => {
                        if catalogue.add_package(package).is_err() {
                            missing.push(format!("{} (unreadable)", package.id.name));
                        }
                    }
                    None => missing.push(package),
                }
            }
            let mut files = texts(from, "supporting");
            files.extend(texts(from, "supporting5"));
            files.extend(texts(from, "profiles"));
            for file in files {
                match self.text(&file) {
                    Some(text) => drop(catalogue.add_resource(&file, &text)),
                    None => missing.push(file),
                }
            }
        }
        if kind == Kind::Profile
            && let Some(source) = part["source"].as_str()
        {
            if source.contains("://") {
                profiles.push(source.to_owned());
            } else if let Some(text) = self.text(source) {
                let profile: Value = serde_json::from_slice(&text).unwrap_or_default();
                drop(catalogue.add_resource(source, &text));
                profiles.extend(profile["url"].as_str().map(str::to_owned));
            } else {
                missing.push(source.to_owned());
            }
        }
        let file = case["file"].as_str().unwrap_or_default();
        let (expected, needs_terminology) = self.expected(&part["java"], &catalogue);
        let mut run = Run {
            case: name.to_owned(),
            kind,
            standing: Standing::OutOfScope,
            expected,
            found: Vec::new(),
            missing,
        };
        // `validateContains` asks for contained resources not to be checked; no such switch is offered.
        if !file.ends_with(".json") || case.get("validateContains").is_some() {
            return run;
        }
        let Ok(input) = std::fs::read(self.file(file)) else {
            run.missing.push(file.to_owned());
            run.standing = Standing::NeedsPackage;
            return run;
        };
        let defaults = ProfileOptions::default();
        let example_extension = if case["examples"].as_bool() == Some(false) {
            Severity::Error
        } else {
            defaults.example_extension
        };
        // Its displays are errors unless the case says otherwise, or has them filtered.
        let wrong_display = if case["wrong-displays"] == "warning" || case.get("advisor").is_some()
        {
            Severity::Warning
        } else {
            Severity::Error
        };
        let options = ValidatorOptions {
            terminology: Severities {
                wrong_display,
                ..Severities::default()
            },
            profiles: ProfileOptions {
                example_extension,
                references_resolve: case["validateReference"] == "CHECK_EXISTS_AND_TYPE",
                ..defaults
            },
            markup: (case["security-checks"] == true).then_some(Severity::Error),
            ..ValidatorOptions::default()
        };
        if is_of_another_resource(&run.expected, &input) {
            run.expected = Expected::Unknown;
        }
        run.found = check(&input, catalogue, &profiles, options)
            .into_iter()
            .filter(|it| it.severity.is_error())
            .map(|it| format!("{} {} {}", it.id, it.expression, it.message))
            .collect();
        run.standing = match (&run.expected, run.found.is_empty()) {
            (Expected::Unknown, _) => Standing::NoExpectation,
            _ if !run.missing.is_empty() => Standing::NeedsPackage,
            (Expected::Error(_), _) if needs_terminology => Standing::NeedsTerminology,
            (Expected::NoError, true) | (Expected::Error(_), false) => Standing::Agrees,
            (Expected::NoError, false) => Standing::FalseReject,
            (Expected::Error(_), true) => Standing::FalseAccept,
        };
        run
    }

    /// What is expected, and whether every expected error needs a terminology server.
    fn expected(&self, outcome: &Value, catalogue: &Catalogue) -> (Expected, bool) {
        let read;
        let outcome = match outcome {
            Value::String(name) => {
                let path = self.file("outcomes").join(name);
                match std::fs::read(path)
                    .ok()
                    .and_then(|it| serde_json::from_slice::<Value>(&it).ok())
                {
                    Some(it) => {
                        read = it;
                        &read
                    }
                    None => return (Expected::Unknown, false),
                }
            }
            Value::Object(_) => outcome,
            _ => return (Expected::Unknown, false),
        };
        if let Some(count) = outcome["errorCount"].as_u64() {
            return if count == 0 {
                (Expected::NoError, false)
            } else {
                (Expected::Error(texts(outcome, "output")), false)
            };
        }
        let outcome = outcome.get("outcome").unwrap_or(outcome);
        let issues = outcome["issue"].as_array().into_iter().flatten();
        let errors: Vec<&Value> = issues
            .filter(|it| it["severity"] == "error" || it["severity"] == "fatal")
            .collect();
        if errors.is_empty() {
            return (Expected::NoError, false);
        }
        let needs_terminology = errors.iter().all(|it| rests_on_unloaded(it, catalogue));
        let messages = errors
            .iter()
            .map(|it| {
                let place = it["expression"][0].as_str().unwrap_or_default();
                let message = it["details"]["text"].as_str().unwrap_or_default();
                format!("{place} {message}")
            })
            .collect();
        (Expected::Error(messages), needs_terminology)
    }
}

/// Whether every expected error is about a resource type that the input is not of: the outcome then belongs
/// to another case.
fn is_of_another_resource(expected: &Expected, input: &[u8]) -> bool {
    let Expected::Error(messages) = expected else {
        return false;
    };
    let Ok(input) = serde_json::from_slice::<Value>(input) else {
        return false;
    };
    let own = input["resourceType"].as_str().unwrap_or_default();
    messages.iter().all(|it| {
        let named = it.split([' ', '.', '[']).next().unwrap_or_default();
        named != own && Definitions::r4().resource_types().any(|it| it == named)
    })
}

/// Whether an expected error came from a terminology server and is about a code system that is not loaded.
fn rests_on_unloaded(issue: &Value, catalogue: &Catalogue) -> bool {
    let extensions = issue["extension"].as_array().into_iter().flatten();
    let is_from_server = extensions.into_iter().any(|it| {
        it["url"]
            .as_str()
            .is_some_and(|url| url.ends_with("/operationoutcome-issue-server"))
    });
    let text = issue["details"]["text"].as_str().unwrap_or_default();
    let system = match text.split_once("in the CodeSystem '") {
        Some((_, rest)) => rest.split('\'').next(),
        None => text
            .split_once("' for ")
            .and_then(|(_, rest)| rest.split('#').next()),
    };
    is_from_server
        && system.is_some_and(|it| {
            let is_complete = |it: Arc<CodeSystem>| it.content == Content::Complete;
            it.contains("://") && !catalogue.code_system(it).is_some_and(is_complete)
        })
}

/// The findings on an input.
fn check(
    input: &[u8],
    catalogue: Catalogue,
    profiles: &[String],
    options: ValidatorOptions,
) -> Vec<Finding> {
    let profiles: Vec<&str> = profiles.iter().map(String::as_str).collect();
    let request = Request {
        profiles: &profiles,
        now: Some(NOW),
        ..Request::default()
    };
    Validator::new(Arc::new(catalogue), options)
        .validate(input, &request)
        .findings
}

/// How many runs stand where.
pub fn counts(runs: &[Run]) -> BTreeMap<Standing, usize> {
    let mut counts = BTreeMap::new();
    for run in runs {
        *counts.entry(run.standing).or_default() += 1;
    }
    counts
}

/// Agreement in percent over the runs that can be compared.
pub fn agreement(runs: &[Run]) -> f64 {
    let counts = counts(runs);
    let of = |standing| counts.get(&standing).copied().unwrap_or_default();
    let agrees = of(Standing::Agrees);
    let all = agrees + of(Standing::FalseReject) + of(Standing::FalseAccept);
    100.0 * agrees as f64 / all.max(1) as f64
}

/// A table of what is not plain agreement, and the totals.
pub fn report(runs: &[Run], with_all: bool) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let cut = |it: &String| it.chars().take(220).collect::<String>();
    for run in runs {
        if run.standing == Standing::Agrees && !with_all {
            continue;
        }
        let _ = writeln!(text, "{:?} {} ({:?})", run.standing, run.case, run.kind);
        for missing in &run.missing {
            let _ = writeln!(text, "    needs    {missing}");
        }
        match &run.expected {
            Expected::NoError => drop(writeln!(text, "    expected no error")),
            Expected::Unknown => drop(writeln!(text, "    expected is not at hand")),
            Expected::Error(messages) => {
                for message in messages.iter().take(6) {
                    let _ = writeln!(text, "    expected {}", cut(message));
                }
            }
        }
        for found in run.found.iter().take(6) {
            let _ = writeln!(text, "    found    {}", cut(found));
        }
    }
    for (standing, count) in counts(runs) {
        let _ = writeln!(text, "{count:4} {standing:?}");
    }
    let _ = writeln!(text, "agreement {:.1} %", agreement(runs));
    text
}
