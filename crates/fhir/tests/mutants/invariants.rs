//! Mutants that break invariants of R4 and US Core: one way each, by hand.

use serde_json::{Value, json};

use super::{Makings, each_value, remove};

const KIND: &str = "invariant";

pub fn make(makings: &mut Makings<'_>) {
    let right = makings.right;
    each_value(right, "", "", "", &mut |pointer, type_name, path, value| {
        let Value::Object(members) = value else {
            return;
        };
        let has = |name: &str| members.contains_key(name);
        if path.is_empty() {
            resource(type_name, pointer, value, makings);
        }
        if has("start") && has("end") && members.keys().all(|it| it == "start" || it == "end") {
            makings.change(KIND, pointer, "per-1", |it| {
                it["start"] = json!("2020-01-02");
                it["end"] = json!("2020-01-01");
            });
        }
        if has("value") && has("code") && has("system") && value["value"].is_number() {
            makings.change(KIND, pointer, "qty-3", |it| remove(it, "system"));
        }
        if has("reference") && value["reference"].is_string() {
            makings.change(KIND, pointer, "ref-1", |it| {
                it["reference"] = json!("#nothing-here");
                remove(it, "type");
            });
        }
        if path.ends_with("telecom") && has("value") && has("system") {
            makings.change(KIND, pointer, "cpt-2", |it| remove(it, "system"));
        }
        if has("div") && has("status") && path == "text" {
            makings.change(KIND, pointer, "txt-2", |it| {
                it["div"] = json!("<div xmlns=\"http://www.w3.org/1999/xhtml\"> <p/> </div>");
            });
        }
        if has("url") && members.keys().any(|it| it.starts_with("value")) {
            makings.change(KIND, pointer, "ext-1", |it| {
                it["extension"] = json!([{"url": "x", "valueString": "x"}]);
            });
        }
        if has("data") && has("contentType") {
            makings.change(KIND, pointer, "att-1", |it| remove(it, "contentType"));
        }
        if path == "contained" {
            makings.change(KIND, pointer, "dom-2", |it| {
                it["contained"] =
                    json!([{"resourceType": "Basic", "id": "inner", "code": {"text": "x"}}]);
            });
            makings.change(KIND, pointer, "dom-4", |it| {
                it["meta"]["versionId"] = json!("1")
            });
        }
    });
}

/// Invariants of whole resources.
fn resource(type_name: &str, pointer: &str, value: &Value, makings: &mut Makings<'_>) {
    let members: Vec<&str> = value
        .as_object()
        .into_iter()
        .flat_map(|it| it.keys().map(String::as_str))
        .collect();
    let value_name = members
        .iter()
        .find(|it| it.starts_with("value") && value.get(**it).is_some())
        .map(|it| (*it).to_owned());
    let has_profile = |name: &str| {
        value["meta"]["profile"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|it| it.as_str().is_some_and(|it| it.contains(name)))
    };
    let has = |name: &str| value.get(name).is_some();
    makings.change(KIND, pointer, "dom-3", |it| {
        if it.get("contained").is_none() && type_name != "Bundle" && type_name != "Binary" {
            it["contained"] =
                json!([{"resourceType": "Basic", "id": "left-alone", "code": {"text": "x"}}]);
        }
    });
    match type_name {
        "Observation" => {
            if value_name.is_some() {
                makings.change(KIND, pointer, "obs-6", |it| {
                    it["dataAbsentReason"] = json!({"text": "x"});
                });
                makings.change(KIND, pointer, "obs-7", |it| {
                    let code = it["code"].clone();
                    it["component"] = json!([{"code": code, "valueString": "x"}]);
                });
            }
            let is_single = !has("component") && !has("hasMember") && !has("dataAbsentReason");
            if is_single && has_profile("vital-signs") | has_profile("us-core-body") {
                let name = value_name.clone().unwrap_or_default();
                makings.change(KIND, pointer, "vs-2", |it| remove(it, &name));
            }
            if has("component") {
                makings.change(
                    KIND,
                    &format!("{pointer}/component/0"),
                    "vs-3 or us-core-26",
                    |it| {
                        let Value::Object(members) = it else { return };
                        let is_bp = has_profile("blood-pressure") || has_profile("pulse-oximetry");
                        if is_bp {
                            members.retain(|name, _| name == "code");
                        }
                    },
                );
            }
            makings.change(
                KIND,
                &format!("{pointer}/referenceRange/0"),
                "obs-3",
                |it| {
                    *it = json!({"appliesTo": [{"text": "x"}]});
                },
            );
        }
        "Patient" => {
            makings.change(KIND, pointer, "pat-1", |it| {
                it["contact"] = json!([{"gender": "female"}]);
            });
            if has_profile("us-core-patient") {
                makings.change(KIND, &format!("{pointer}/name/0"), "us-core-6", |it| {
                    *it = json!({"use": "official"});
                });
            }
        }
        "Condition" => {
            makings.change(KIND, pointer, "con-5", |it| {
                if it.get("clinicalStatus").is_some() {
                    it["verificationStatus"] = json!({"coding": [{
                        "system": "http://terminology.hl7.org/CodeSystem/condition-ver-status",
                        "code": "entered-in-error"
                    }]});
                }
            });
            makings.change(KIND, pointer, "con-4", |it| {
                it["abatementDateTime"] = json!("2020-01-01");
                it["clinicalStatus"] = json!({"coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/condition-clinical",
                    "code": "active"
                }]});
            });
        }
        "AllergyIntolerance" => makings.change(KIND, pointer, "ait-1", |it| {
            remove(it, "clinicalStatus");
        }),
        "Procedure" if has_profile("us-core-procedure") => {
            makings.change(KIND, pointer, "us-core-7", |it| {
                it["status"] = json!("completed");
                for name in ["performedDateTime", "performedPeriod", "performedString"] {
                    remove(it, name);
                }
            });
        }
        "MedicationRequest" if has_profile("us-core-medicationrequest") => {
            makings.change(KIND, pointer, "us-core-21", |it| {
                it["intent"] = json!("order");
                remove(it, "requester");
            });
        }
        "RelatedPerson" if has_profile("us-core-relatedperson") => {
            makings.change(KIND, pointer, "us-core-14", |it| {
                remove(it, "name");
                remove(it, "relationship");
            });
        }
        "Organization" => makings.change(KIND, pointer, "org-1", |it| {
            remove(it, "name");
            remove(it, "identifier");
        }),
        "Questionnaire" => makings.change(KIND, pointer, "que-2", |it| {
            let first = it["item"][0].clone();
            if let (Some(list), true) = (it["item"].as_array_mut(), first.is_object()) {
                list.push(first);
            }
        }),
        "CarePlan" | "Encounter" => {}
        "Bundle" => makings.change(KIND, pointer, "bdl-7", |it| {
            let first = it["entry"][0].clone();
            if let (Some(list), true) = (it["entry"].as_array_mut(), first["fullUrl"].is_string()) {
                list.push(first);
            }
        }),
        _ => {}
    }
}
