//! In which order packages build on each other, and what they need that is not there.
//!
//! It loads nothing: it compares names and versions. Start at [`resolve`].

use std::collections::{BTreeMap, BTreeSet};

use super::{PackageId, version_satisfies};
use crate::catalogue::{MissingDependency, version_order};

/// What is known of a package before it is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Available<'p> {
    /// Name, version and checksum.
    pub id: &'p PackageId,
    /// Packages that it builds on: name to version.
    pub dependencies: &'p BTreeMap<String, String>,
}

/// The answer of [`resolve`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Positions in what was given, each once, what is built on first. Packages that were not wanted and
    /// that nothing wanted needs are left out.
    pub order: Vec<usize>,
    /// What is needed and not there; in the order of `order`.
    pub missing: Vec<MissingDependency>,
}

/// Puts the wanted packages and everything they need into an order in which each comes after what it
/// builds on. Of several versions that satisfy a dependency the newest is taken; circles are cut where
/// they close. `present` is what is loaded already, such as R4 core.
///
/// A dependency that is not there does not stop anything: what it would define is not checked, and
/// the outcome is to say so.
#[must_use]
pub fn resolve(available: &[Available<'_>], wanted: &[usize], present: &[PackageId]) -> Resolution {
    let mut resolution = Resolution::default();
    let mut seen = BTreeSet::new();
    // A stack of its own instead of recursion: the depth comes from the packages.
    let mut stack: Vec<Step> = wanted.iter().rev().map(|it| Step::Enter(*it)).collect();
    while let Some(step) = stack.pop() {
        match step {
            Step::Leave(at) => resolution.order.push(at),
            Step::Enter(at) => {
                let Some(package) = available.get(at) else {
                    continue;
                };
                if !seen.insert(at) {
                    continue;
                }
                stack.push(Step::Leave(at));
                for (name, version) in package.dependencies.iter().rev() {
                    if let Some(found) = newest(available, name, version) {
                        stack.push(Step::Enter(found));
                    }
                }
            }
        }
    }
    for at in &resolution.order {
        let Some(package) = available.get(*at) else {
            continue;
        };
        for (name, version) in package.dependencies {
            let loaded = || {
                let loaded = resolution.order.iter().filter_map(|it| available.get(*it));
                let loaded = loaded.map(|it| it.id).chain(present);
                loaded.filter(|it| it.name == *name)
            };
            if !loaded().any(|it| version_satisfies(&it.version, version)) {
                resolution.missing.push(MissingDependency {
                    needed_by: package.id.clone(),
                    name: name.clone(),
                    version: version.clone(),
                    loaded: loaded()
                        .map(|it| it.version.as_str())
                        .max_by(|a, b| version_order(Some(a), Some(b)))
                        .map(str::to_owned),
                });
            }
        }
    }
    resolution
}

enum Step {
    /// First what the package builds on.
    Enter(usize),
    /// Then the package itself.
    Leave(usize),
}

fn newest(available: &[Available<'_>], name: &str, version: &str) -> Option<usize> {
    available
        .iter()
        .enumerate()
        .filter(|(_, it)| it.id.name == name && version_satisfies(&it.id.version, version))
        .max_by(|(_, a), (_, b)| version_order(Some(&a.id.version), Some(&b.id.version)))
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name version: dependency version, …` a line.
    fn packages(text: &str) -> Vec<(PackageId, BTreeMap<String, String>)> {
        text.lines()
            .map(|line| {
                let (package, needs) = line.split_once(':').unwrap();
                let (name, version) = package.trim().split_once(' ').unwrap();
                let id = PackageId {
                    name: name.to_owned(),
                    version: version.to_owned(),
                    fhir_version: "4.0.1".to_owned(),
                    licence: String::new(),
                    sha256: String::new(),
                };
                let needs = needs
                    .split(',')
                    .filter_map(|it| it.trim().split_once(' '))
                    .map(|(name, version)| (name.to_owned(), version.to_owned()))
                    .collect();
                (id, needs)
            })
            .collect()
    }

    fn check(text: &str, wanted: &[usize], order: &[&str], missing: &[&str]) {
        let packages = packages(text);
        let available: Vec<_> = packages
            .iter()
            .map(|(id, dependencies)| Available { id, dependencies })
            .collect();
        let core = super::tests::packages("core 4.0.1:").remove(0).0;
        let found = resolve(&available, wanted, &[core]);
        let names: Vec<_> = found
            .order
            .iter()
            .map(|it| format!("{} {}", packages[*it].0.name, packages[*it].0.version))
            .collect();
        assert_eq!(names, order);
        let names: Vec<_> = found
            .missing
            .iter()
            .map(|it| {
                let loaded = it.loaded.as_deref().unwrap_or("-");
                format!("{} {} {} {loaded}", it.needed_by.name, it.name, it.version)
            })
            .collect();
        assert_eq!(names, missing);
    }

    #[test]
    fn what_is_built_on_comes_first() {
        check(
            "guide 1.0.0: core 4.0.1, terms 2.0.x, base 1.0.0\nbase 1.0.0: terms 2.0.x\nterms 2.0.3:\nterms 2.0.10:\nother 1.0.0:",
            &[0],
            &["terms 2.0.10", "base 1.0.0", "guide 1.0.0"],
            &[],
        );
    }

    #[test]
    fn what_is_missing_is_said_with_what_is_there_instead() {
        check(
            "guide 1.0.0: core 4.0.1, vsac 0.23.0, terms 6.4.0\nterms 5.0.0:",
            &[1, 0],
            &["terms 5.0.0", "guide 1.0.0"],
            &["guide terms 6.4.0 5.0.0", "guide vsac 0.23.0 -"],
        );
        check(
            "guide 1.0.0: core 5.0.0",
            &[0],
            &["guide 1.0.0"],
            &["guide core 5.0.0 4.0.1"],
        );
    }

    #[test]
    fn circles_and_positions_out_of_range_end() {
        check("a 1: b 1\nb 1: a 1", &[0, 7], &["b 1", "a 1"], &[]);
    }
}
