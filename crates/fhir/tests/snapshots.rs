//! Snapshots made here against the snapshots that packages ship: they must state the same rules.
//!
//! The packages stand beside the repository where they are at hand; a test whose package is missing says
//! so and passes. What differs is listed in `snapshots/differences.toml` with the reason.

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

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use chaperone_fhir::canonical::{ElementDefinition, TypeRef};
use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::package::Package;

fn package(file: &str) -> Option<Package> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/packages")
        .join(file);
    let Ok(tgz) = std::fs::read(&path) else {
        println!("skipped: {} is not at hand", path.display());
        return None;
    };
    Some(Package::read(&tgz, |name| name.starts_with("StructureDefinition-")).unwrap())
}

/// Rules of an element, by the kind of rule.
fn rules(it: &ElementDefinition) -> BTreeMap<&'static str, String> {
    let types = |it: &TypeRef| {
        let sorted = |urls: &[String]| urls.iter().cloned().collect::<BTreeSet<_>>();
        format!(
            "{} {:?} {:?}",
            it.code,
            sorted(&it.profile),
            sorted(&it.target_profile)
        )
    };
    let constraints: BTreeSet<_> = it.constraint.iter().map(|it| it.key.as_str()).collect();
    BTreeMap::from([
        ("path", it.path.clone()),
        ("slice", format!("{:?}", it.slice_name)),
        ("min", format!("{:?}", it.min)),
        ("max", format!("{:?}", it.max)),
        (
            "types",
            format!("{:?}", it.types.iter().map(types).collect::<BTreeSet<_>>()),
        ),
        ("fixed", format!("{:?}", it.fixed)),
        ("pattern", format!("{:?}", it.pattern)),
        ("minValue", format!("{:?} {:?}", it.min_value, it.max_value)),
        (
            "binding",
            it.binding
                .as_ref()
                .map(|it| {
                    format!(
                        "{} {:?} {:?}",
                        it.strength, it.value_set, it.bounds.max_value_set
                    )
                })
                .unwrap_or_default(),
        ),
        ("constraint", format!("{constraints:?}")),
        ("slicing", format!("{:?}", it.slicing)),
        (
            "reference",
            format!("{:?}", it.content_reference.as_deref().map(target)),
        ),
    ])
}

/// What a content reference names, without the definition and slice names.
fn target(reference: &str) -> String {
    let id = reference.split_once('#').map_or(reference, |(_, id)| id);
    let names = id
        .split('.')
        .map(|it| it.split(':').next().unwrap_or_default());
    names.collect::<Vec<_>>().join(".")
}

/// One difference between a snapshot made here and the shipped one.
#[derive(Debug)]
struct Difference {
    version: String,
    definition: String,
    rule: &'static str,
    element: String,
    detail: String,
}

#[derive(serde::Deserialize)]
struct Table {
    difference: Vec<Expected>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    definition: String,
    rule: String,
    element: String,
    #[serde(default)]
    version: Option<String>,
    reason: String,
}

impl Expected {
    fn covers(&self, it: &Difference) -> bool {
        self.version
            .as_ref()
            .is_none_or(|version| *version == it.version)
            && is_like(&self.definition, &it.definition)
            && is_like(&self.rule, it.rule)
            && is_like(&self.element, &it.element)
    }
}

/// Whether a text is like a pattern in which `*` stands for any text.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            (0..=text.len())
                .filter(|at| text.is_char_boundary(*at))
                .any(|at| is_like(rest, &text[at..]))
        }),
    }
}

fn by_id(elements: &[ElementDefinition]) -> BTreeMap<&str, &ElementDefinition> {
    elements.iter().map(|it| (it.id_or_path(), it)).collect()
}

/// What differs: the rule, the element and both sides.
fn differences(catalogue: &Catalogue, canonical: &str) -> Vec<(&'static str, String, String)> {
    let shipped = catalogue.structure(canonical).unwrap();
    let made = match catalogue.regenerate(canonical) {
        Ok(made) => made,
        Err(error) => return vec![("error", String::new(), error.to_string())],
    };
    let mut out: Vec<_> = made
        .problems
        .iter()
        .map(|it| ("problem", it.element.clone(), it.problem.to_string()))
        .collect();
    let shipped = by_id(&shipped.snapshot.element);
    let made = by_id(&made.structure.snapshot.element);
    for id in shipped.keys().filter(|it| !made.contains_key(*it)) {
        out.push(("lacks", (*id).to_owned(), String::new()));
    }
    for (id, element) in &made {
        let Some(expected) = shipped.get(id) else {
            out.push(("more", (*id).to_owned(), String::new()));
            continue;
        };
        let (expected, found) = (rules(expected), rules(element));
        for (rule, expected) in &expected {
            if found[rule] != *expected {
                let detail = format!("{} / shipped {expected}", found[rule]);
                out.push((rule, (*id).to_owned(), detail));
            }
        }
    }
    out
}

/// Compares every definition of a package that ships both forms; says how many are the same.
fn compare(catalogue: &Catalogue, version: &str, all: &mut Vec<Difference>) {
    let (mut count, mut equal) = (0, 0);
    for it in catalogue.resources("StructureDefinition") {
        if it.package.is_none_or(|it| it.version != version) {
            continue;
        }
        let canonical = format!("{}|{}", it.url, it.version.unwrap_or_default());
        let shipped = catalogue.structure(&canonical).unwrap();
        if shipped.differential.element.is_empty() {
            continue;
        }
        let found = differences(catalogue, &canonical);
        count += 1;
        equal += usize::from(found.is_empty());
        let definition = it.url.rsplit('/').next().unwrap_or_default();
        all.extend(found.into_iter().map(|(rule, element, detail)| Difference {
            version: version.to_owned(),
            definition: definition.to_owned(),
            rule,
            element,
            detail,
        }));
    }
    println!("{version}: {equal} of {count} the same");
}

#[test]
fn snapshots_are_those_that_are_shipped() {
    let Some(core) = package("hl7.fhir.r4.core-4.0.1.tgz") else {
        return;
    };
    let mut r4 = Catalogue::new();
    r4.add_package(&core).unwrap();
    let r4 = Arc::new(r4);
    let mut all = Vec::new();
    compare(&r4, "4.0.1", &mut all);
    let mut versions = vec!["4.0.1"];
    for (file, version) in [
        ("us_core_311.tgz", "3.1.1"),
        ("us_core_610.tgz", "6.1.0"),
        ("us_core_800.tgz", "8.0.0"),
    ] {
        if let Some(guide) = package(file) {
            let mut over = Catalogue::with_base(Arc::clone(&r4));
            over.add_package(&guide).unwrap();
            compare(&over, version, &mut all);
            versions.push(version);
        }
    }
    let table: Table = toml::from_str(include_str!("snapshots/differences.toml")).unwrap();
    assert!(table.difference.iter().all(|it| !it.reason.is_empty()));
    let unexplained: Vec<_> = all
        .iter()
        .filter(|it| !table.difference.iter().any(|entry| entry.covers(it)))
        .map(|it| {
            format!(
                "{} {} {} {}: {}",
                it.version, it.definition, it.rule, it.element, it.detail
            )
        })
        .collect();
    assert!(
        unexplained.is_empty(),
        "not in the table:\n{}",
        unexplained.join("\n")
    );
    if versions.len() == 4 {
        let idle: Vec<_> = table
            .difference
            .iter()
            .filter(|entry| !all.iter().any(|it| entry.covers(it)))
            .collect();
        assert!(idle.is_empty(), "explains nothing: {idle:#?}");
    }
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// A differential with elements of a type in any order, sliced, narrowed and widened at random.
fn at_random(numbers: &mut Numbers, paths: &[String], profile: &str) -> serde_json::Value {
    let more = [
        "",
        "",
        ".extension",
        ".coding.system",
        ".item.item",
        ".nothing",
        ".value[x]",
    ];
    let elements: Vec<_> = (0..numbers.below(14))
        .map(|_| {
            let path = &paths[numbers.below(paths.len())];
            let path = format!("{path}{}", more[numbers.below(more.len())]).replace(
                "value[x]",
                ["value[x]", "valueQuantity", "valueCodeableConcept"][numbers.below(3)],
            );
            let mut element = serde_json::json!({"path": path});
            if numbers.below(3) == 0 {
                element["sliceName"] = ["a", "b", "a/c", "valueQuantity"][numbers.below(4)].into();
            }
            if numbers.below(3) == 0 {
                element["min"] = numbers.below(3).into();
            }
            if numbers.below(3) == 0 {
                element["max"] = ["0", "1", "2", "*", "x"][numbers.below(5)].into();
            }
            if numbers.below(6) == 0 {
                element["slicing"] = serde_json::json!({"rules": "closed"});
            }
            if numbers.below(6) == 0 {
                let types = ["Quantity", "CodeableConcept", "Reference", "Extension"];
                element["type"] = serde_json::json!([{
                    "code": types[numbers.below(4)], "profile": [profile]}]);
            }
            element
        })
        .collect();
    serde_json::json!({"element": elements})
}

#[test]
fn any_differential_gives_a_tree() {
    let r4 = Catalogue::r4();
    let mut numbers = Numbers(7);
    for type_name in [
        "Observation",
        "Patient",
        "Questionnaire",
        "Extension",
        "Bundle",
    ] {
        let base = format!("http://hl7.org/fhir/StructureDefinition/{type_name}");
        let of_type = r4.structure(&base).unwrap();
        let paths: Vec<_> = of_type
            .snapshot
            .element
            .iter()
            .map(|it| it.path.clone())
            .collect();
        for number in 0..120 {
            let mut catalogue = Catalogue::with_base(Arc::clone(&r4));
            let url = |at: usize| format!("http://example.org/{at}");
            for at in 0..2 {
                let text = serde_json::json!({
                    "resourceType": "StructureDefinition", "url": url(at), "name": "It",
                    "kind": "resource", "type": type_name, "derivation": "constraint",
                    "baseDefinition": if at == 0 { base.clone() } else { url(0) },
                    "differential": at_random(&mut numbers, &paths, &url(at)),
                });
                catalogue
                    .add_resource("it", text.to_string().as_bytes())
                    .unwrap();
            }
            let Ok(made) = catalogue.structure_or_reason(&url(1)) else {
                continue;
            };
            let ids: Vec<_> = made
                .snapshot
                .element
                .iter()
                .map(|it| it.id_or_path())
                .collect();
            let known: BTreeSet<_> = ids.iter().copied().collect();
            assert_eq!(
                known.len(),
                ids.len(),
                "{type_name} {number}: an id stands twice: {ids:?}"
            );
            for (at, id) in ids.iter().enumerate().skip(1) {
                let (parent, _) = id.rsplit_once('.').unwrap();
                let parent_at = ids.iter().position(|it| *it == parent);
                assert!(
                    parent_at.is_some_and(|it| it < at),
                    "{type_name} {number}: {id} has no parent"
                );
                // Everything between an element and its parent is below the parent.
                let between = &ids[parent_at.unwrap() + 1..at];
                assert!(
                    between
                        .iter()
                        .all(|it| it.starts_with(&format!("{parent}."))),
                    "{type_name} {number}: {id} is out of order"
                );
            }
        }
    }
}
