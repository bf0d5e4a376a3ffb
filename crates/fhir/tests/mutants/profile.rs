//! Mutants that break what a profile demands, read from its snapshot.

use chaperone_fhir::Definitions;
use serde_json::{Value, json};

use super::base::{wrong_code, wrong_target};
use super::{Makings, remove};

/// Makes the mutants that the profile's elements call for. Elements below slices are left out: which value
/// belongs to a slice is for the validator to decide.
pub fn make(definitions: &Definitions, profile: &Value, makings: &mut Makings<'_>) {
    let type_name = profile["type"].as_str().unwrap_or_default();
    let elements = profile["snapshot"]["element"].as_array();
    for element in elements.into_iter().flatten() {
        let id = element["id"].as_str().unwrap_or_default();
        let Some(path) = id.strip_prefix(&format!("{type_name}.")) else {
            continue;
        };
        let min = element["min"].as_u64().unwrap_or(0);
        if let Some(name) = element["sliceName"].as_str() {
            // A slice that must be there, of a list at the top: without the list it is not.
            let list = path.split(':').next().unwrap_or_default();
            let is_whole = path == format!("{list}:{name}");
            if min >= 1 && is_whole && !list.contains(['.', '[']) {
                makings.change("required slice", "", &format!("without {list}"), |it| {
                    remove(it, list);
                });
            }
            if is_whole && list == "extension" && element["max"] == "1" {
                repeat_extension(element, makings);
            }
            continue;
        }
        if path.contains(':') {
            continue;
        }
        one(definitions, type_name, path, element, min, makings);
    }
}

/// An extension that may stand once, twice.
fn repeat_extension(element: &Value, makings: &mut Makings<'_>) {
    let url = element["type"][0]["profile"][0]
        .as_str()
        .unwrap_or_default();
    let own = makings.right["extension"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|it| it["url"] == url)
        .cloned();
    if let Some(own) = own {
        makings.change("too many", "/extension", "with one extension twice", |it| {
            if let Some(list) = it.as_array_mut() {
                list.push(own);
            }
        });
    }
}

/// The JSON pointers of all values at a path of names, and whether the last is in a list.
fn pointers(value: &Value, pointer: &str, names: &[&str]) -> Vec<String> {
    let Some((name, rest)) = names.split_first() else {
        return vec![pointer.to_owned()];
    };
    let Some(member) = value.get(name) else {
        return Vec::new();
    };
    let pointer = format!("{pointer}/{name}");
    match member {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, item)| pointers(item, &format!("{pointer}/{index}"), rest))
            .collect(),
        _ => pointers(member, &pointer, rest),
    }
}

fn one(
    definitions: &Definitions,
    type_name: &str,
    path: &str,
    element: &Value,
    min: u64,
    makings: &mut Makings<'_>,
) {
    let names: Vec<&str> = path.split('.').collect();
    let Some((last, before)) = names.split_last() else {
        return;
    };
    let types: Vec<&str> = element["type"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["code"].as_str())
        .collect();
    if let Some(choice) = last.strip_suffix("[x]") {
        choice_type(
            definitions,
            type_name,
            &names,
            choice,
            &types,
            element,
            min,
            makings,
        );
        return;
    }
    if names.iter().any(|it| it.contains("[x]")) {
        return;
    }
    let right = makings.right;
    for parent in pointers(right, "", before) {
        let Some(object) = right.pointer(&parent) else {
            continue;
        };
        let Some(own) = object.get(*last) else {
            continue;
        };
        if min >= 1 {
            makings.change(
                "required by profile",
                &parent,
                &format!("without {last}"),
                |it| {
                    remove(it, last);
                },
            );
        }
        if element["max"] == "1" && own.as_array().is_some_and(|it| it.len() == 1) {
            makings.change("too many", &format!("{parent}/{last}"), "twice", |it| {
                if let Some(list) = it.as_array_mut() {
                    list.push(list[0].clone());
                }
            });
        }
    }
    let is_bound = element["binding"]["strength"] == "required";
    let is_fixed = element.as_object().is_some_and(|it| {
        it.keys()
            .any(|key| key.starts_with("fixed") || key.starts_with("pattern"))
    });
    for pointer in pointers(right, "", &names) {
        let Some(own) = right.pointer(&pointer) else {
            continue;
        };
        let code = types.first().copied().unwrap_or_default();
        if is_bound {
            wrong_code(code, "binding by profile", &pointer, makings);
        }
        if is_fixed {
            wrong_code(code, "fixed or pattern", &pointer, makings);
        }
        if code == "Reference" {
            other_target(
                definitions,
                type_name,
                path,
                element,
                &pointer,
                own,
                makings,
            );
        }
    }
}

/// A reference to a type that the base allows and the profile does not.
fn other_target(
    definitions: &Definitions,
    type_name: &str,
    path: &str,
    element: &Value,
    pointer: &str,
    own: &Value,
    makings: &mut Makings<'_>,
) {
    let targets = element["type"][0]["targetProfile"].as_array();
    let allowed: Vec<&str> = targets
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    // Only targets whose type can be told from the URL decide which types are left.
    let is_base = |it: &&str| it.starts_with("http://hl7.org/fhir/StructureDefinition/");
    let named: Vec<String> = allowed
        .iter()
        .map(|it| {
            let last = it.rsplit('/').next().unwrap_or_default();
            if is_base(it) {
                return last.to_owned();
            }
            match last.strip_prefix("us-core-").unwrap_or(last) {
                "patient" => "Patient",
                "practitioner" => "Practitioner",
                "practitionerrole" => "PractitionerRole",
                "organization" => "Organization",
                "careteam" => "CareTeam",
                "encounter" => "Encounter",
                "relatedperson" => "RelatedPerson",
                "location" => "Location",
                "medication" => "Medication",
                "questionnaireresponse" => "QuestionnaireResponse",
                _ => "",
            }
            .to_owned()
        })
        .collect();
    if named.is_empty() || named.iter().any(|it| it.is_empty() || it == "Resource") {
        return;
    }
    let Some(info) = definitions.element_type(type_name, path) else {
        return;
    };
    let base = info.types.first().map(|it| it.targets.clone());
    let other = base
        .unwrap_or_default()
        .into_iter()
        .find(|it| !named.contains(it) && it != "Resource");
    if let Some(other) = other {
        wrong_target("target by profile", &other, pointer, own, makings);
    }
}

/// A choice with a type that the profile does not allow, or missing, or there although it must not be.
#[expect(clippy::too_many_arguments, reason = "one call, all of one element")]
fn choice_type(
    definitions: &Definitions,
    type_name: &str,
    names: &[&str],
    choice: &str,
    types: &[&str],
    element: &Value,
    min: u64,
    makings: &mut Makings<'_>,
) {
    if names.len() != 1 {
        return;
    }
    let Some(info) = definitions.element_type(type_name, choice) else {
        return;
    };
    let right = makings.right;
    let own = info
        .types
        .iter()
        .find(|it| right.get(&it.json_name).is_some());
    let samples = [
        ("boolean", json!(true)),
        ("integer", json!(1)),
        ("dateTime", json!("2020-01-01")),
        ("Period", json!({"start": "2020-01-01"})),
        ("Quantity", json!({"value": 1})),
        ("string", json!("x")),
    ];
    let other = info.types.iter().find_map(|it| {
        let sample = samples.iter().find(|(code, _)| *code == it.code)?;
        let is_wrong = element["max"] == "0" || !types.contains(&it.code.as_str());
        is_wrong.then(|| (it.json_name.clone(), sample.1.clone()))
    });
    if let Some((name, sample)) = other
        && (own.is_some() || element["max"] == "0")
    {
        makings.change("type by profile", "", &format!("with {name}"), |it| {
            if let Some(own) = own {
                remove(it, &own.json_name);
            }
            it[&name] = sample;
        });
    }
    if let (Some(own), true) = (own, min >= 1) {
        makings.change(
            "required by profile",
            "",
            &format!("without {}", own.json_name),
            |it| {
                remove(it, &own.json_name);
            },
        );
    }
}
