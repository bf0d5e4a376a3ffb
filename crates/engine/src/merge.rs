//! From a tool's template and checked arguments to a resource: fill, copy, merge into the base.

use std::collections::BTreeMap;

use base64::Engine as _;
use chaperone_core::Timestamp;
use chaperone_core::bundle::WriteAction;
use chaperone_core::ids::WritebackId;
use serde_json::{Map, Value, json};

use crate::tokens::TokenTarget;

/// System of the business identifier that ties a resource to its write-back.
pub(crate) const WRITEBACK_SYSTEM: &str = "urn:chaperone:writeback";
const OBSERVATION_VALUE: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";
/// "Artificial Intelligence asserted": says that AI wrote it, not whether a human reviewed it.
const AI_ASSERTED: &str = "AIAST";

/// The business identifier of what a write-back creates: its id, and for the second and every later one of several
/// the place among them, from 2.
pub(crate) fn business_identifier(id: WritebackId, at: usize) -> String {
    match at {
        0 => id.to_string(),
        at => format!("{id}.{}", at.saturating_add(1)),
    }
}

/// What a template may draw on.
pub(crate) struct Filling<'a> {
    pub(crate) inputs: &'a BTreeMap<String, Value>,
    pub(crate) targets: &'a BTreeMap<String, TokenTarget>,
    pub(crate) patient_id: Option<&'a str>,
    pub(crate) encounter: Option<&'a TokenTarget>,
    pub(crate) now: Timestamp,
}

/// A template that names something its tool does not have; the bundle check finds these, so this is
/// met only when an envelope lacks what the tool needs, such as an encounter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this envelope has no {0}, which the tool needs")]
pub(crate) struct NothingToFill(pub(crate) String);

/// Fills a template. Elements whose input is absent are left out, and so are containers that end up
/// empty because of it.
pub(crate) fn fill(
    template: &Map<String, Value>,
    filling: &Filling<'_>,
) -> Result<Map<String, Value>, NothingToFill> {
    let mut filled = Map::new();
    for (key, value) in template {
        if let Some(value) = fill_value(value, filling)? {
            filled.insert(key.clone(), value);
        }
    }
    Ok(filled)
}

fn fill_value(value: &Value, filling: &Filling<'_>) -> Result<Option<Value>, NothingToFill> {
    match value {
        Value::String(text) => match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            Some(placeholder) => fill_placeholder(placeholder, filling),
            None => Ok(Some(value.clone())),
        },
        Value::Array(items) => {
            let mut filled = Vec::with_capacity(items.len());
            for item in items {
                filled.extend(fill_value(item, filling)?);
            }
            Ok((!filled.is_empty() || items.is_empty()).then_some(Value::Array(filled)))
        }
        Value::Object(object) => {
            let filled = fill(object, filling)?;
            Ok((!filled.is_empty() || object.is_empty()).then_some(Value::Object(filled)))
        }
        other => Ok(Some(other.clone())),
    }
}

fn fill_placeholder(
    placeholder: &str,
    filling: &Filling<'_>,
) -> Result<Option<Value>, NothingToFill> {
    let (name, how) = placeholder.split_once('|').unwrap_or((placeholder, ""));
    match (name, how) {
        ("patient", "") => {
            let id = filling
                .patient_id
                .ok_or_else(|| NothingToFill("patient".to_owned()))?;
            Ok(Some(json!({ "reference": format!("Patient/{id}") })))
        }
        ("encounter", "") => Ok(filling.encounter.map(reference)),
        ("encounter", "required") => filling
            .encounter
            .map(|target| Some(reference(target)))
            .ok_or_else(|| NothingToFill("encounter".to_owned())),
        ("now", "") => Ok(Some(json!(instant(filling.now)))),
        (input, "reference") => Ok(filling.targets.get(input).map(reference)),
        (input, "base64") => Ok(filling
            .inputs
            .get(input)
            .and_then(Value::as_str)
            .map(|text| json!(base64::engine::general_purpose::STANDARD.encode(text.as_bytes())))),
        (input, _) => Ok(filling.inputs.get(input).cloned()),
    }
}

fn reference(target: &TokenTarget) -> Value {
    json!({ "reference": format!("{}/{}", target.resource, target.id) })
}

/// A FHIR instant in UTC with milliseconds.
pub(crate) fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Puts copied elements, the filled template, labels and the business identifier together.
pub(crate) fn compose(
    write: &WriteAction,
    base: Option<&Value>,
    copied: Option<&Value>,
    filled: Map<String, Value>,
    has_identifier: bool,
    identifier: &str,
) -> Value {
    let mut resource = base.and_then(Value::as_object).cloned().unwrap_or_default();
    // A narrative that no longer matches the coded content is worse than none.
    resource.remove("text");
    if let (Some(copy), Some(from)) = (&write.copy, copied) {
        for element in &copy.elements {
            if let Some(value) = from.get(element) {
                resource.insert(element.clone(), value.clone());
            }
        }
    }
    resource.insert("resourceType".to_owned(), json!(write.resource));
    let labels = security_of(&resource);
    let mut filled = filled;
    for element in &write.append {
        append_into(&mut resource, element, filled.remove(element));
    }
    merge_into(&mut resource, filled);
    label(&mut resource, labels);
    if has_identifier && base.is_none() {
        let ours = json!({ "system": WRITEBACK_SYSTEM, "value": identifier });
        match resource.get_mut("identifier") {
            Some(Value::Array(identifiers)) => identifiers.push(ours),
            _ => {
                resource.insert("identifier".to_owned(), json!([ours]));
            }
        }
    }
    if base.is_none() {
        resource.remove("id");
    }
    Value::Object(resource)
}

/// Objects merge; everything else replaces.
fn merge_into(base: &mut Map<String, Value>, change: Map<String, Value>) {
    for (key, value) in change {
        match (base.get_mut(&key), value) {
            (Some(Value::Object(known)), Value::Object(new)) => merge_into(known, new),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Puts the items of a list behind those that are there. Also one that is there already: whether it is would show in
/// what becomes of the proposal, and an agent is not to find out by trying what is on record.
fn append_into(resource: &mut Map<String, Value>, element: &str, items: Option<Value>) {
    let Some(Value::Array(items)) = items else {
        return;
    };
    match resource.get_mut(element) {
        Some(Value::Array(known)) => known.extend(items),
        _ => {
            resource.insert(element.to_owned(), Value::Array(items));
        }
    }
}

fn security_of(resource: &Map<String, Value>) -> Vec<Value> {
    resource
        .get("meta")
        .and_then(|meta| meta.get("security")?.as_array().cloned())
        .unwrap_or_default()
}

/// Marks the resource as asserted by AI, and drops what the server assigns. A label that the base had
/// stays: a template adds labels and takes none away.
fn label(resource: &mut Map<String, Value>, of_base: Vec<Value>) {
    let mut meta = resource
        .remove("meta")
        .and_then(|m| m.as_object().cloned())
        .unwrap_or_default();
    for assigned in ["versionId", "lastUpdated", "source"] {
        meta.remove(assigned);
    }
    let mut security = meta
        .remove("security")
        .and_then(|s| s.as_array().cloned())
        .unwrap_or_default();
    for known in of_base {
        if !security.contains(&known) {
            security.push(known);
        }
    }
    let is_ours = |label: &Value| {
        label.get("system").and_then(Value::as_str) == Some(OBSERVATION_VALUE)
            && label.get("code").and_then(Value::as_str) == Some(AI_ASSERTED)
    };
    if !security.iter().any(is_ours) {
        security.push(json!({ "system": OBSERVATION_VALUE, "code": AI_ASSERTED }));
    }
    meta.insert("security".to_owned(), Value::Array(security));
    resource.insert("meta".to_owned(), Value::Object(meta));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filling<'a>(
        inputs: &'a BTreeMap<String, Value>,
        targets: &'a BTreeMap<String, TokenTarget>,
    ) -> Filling<'a> {
        Filling {
            inputs,
            targets,
            patient_id: Some("p1"),
            encounter: None,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn absent_inputs_leave_no_empty_containers() {
        let inputs = BTreeMap::from([("title".to_owned(), json!("Visit note"))]);
        let targets = BTreeMap::new();
        let template = object(json!({
            "description": "{title}",
            "subject": "{patient}",
            "context": { "encounter": ["{encounter}"] },
            "note": [{ "text": "{remark}" }],
            "date": "{now}",
        }));
        assert_eq!(
            Value::Object(fill(&template, &filling(&inputs, &targets)).unwrap()),
            json!({
                "description": "Visit note",
                "subject": { "reference": "Patient/p1" },
                "date": "1970-01-01T00:00:00.000Z",
            })
        );
    }

    #[test]
    fn an_argument_that_looks_like_a_placeholder_stays_text() {
        let inputs = BTreeMap::from([("title".to_owned(), json!("{patient}"))]);
        let targets = BTreeMap::new();
        let template = object(json!({ "description": "{title}" }));
        assert_eq!(
            Value::Object(fill(&template, &filling(&inputs, &targets)).unwrap()),
            json!({ "description": "{patient}" })
        );
    }

    #[test]
    fn a_template_takes_no_label_away() {
        let restricted = json!({ "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R" });
        let reported = json!({ "system": OBSERVATION_VALUE, "code": "PATRPT" });
        let base = json!({ "resourceType": "Observation", "id": "o1", "meta": { "security": [restricted] } });
        let write: WriteAction = serde_json::from_value(json!({
            "resource": "Observation", "interaction": "update", "destination": "ehr",
            "target": "observation", "template": {},
        }))
        .unwrap();
        let filled = object(json!({ "meta": { "security": [reported] } }));
        let merged = compose(&write, Some(&base), None, filled, true, "wb_1");
        assert_eq!(
            merged["meta"]["security"],
            json!([reported, restricted, { "system": OBSERVATION_VALUE, "code": AI_ASSERTED }])
        );
    }

    #[test]
    fn what_is_appended_takes_nothing_away() {
        let home = json!({ "system": "phone", "value": "555-0100", "rank": 1 });
        let mail = json!({ "system": "email", "value": "new@example.org" });
        let write: WriteAction = serde_json::from_value(json!({
            "resource": "Patient", "interaction": "update", "destination": "ehr",
            "target": "{patient}", "append": ["telecom"], "template": {},
        }))
        .unwrap();
        let merged = |base: Value| {
            let filled = object(json!({ "telecom": [mail] }));
            compose(&write, Some(&base), None, filled, true, "wb_1")["telecom"].clone()
        };
        let patient = json!({ "resourceType": "Patient", "id": "p1" });
        assert_eq!(merged(patient.clone()), json!([mail]));
        let mut with = patient;
        with["telecom"] = json!([home]);
        assert_eq!(merged(with.clone()), json!([home, mail]));
        with["telecom"] = json!([mail, home]);
        assert_eq!(merged(with), json!([mail, home, mail]));
    }

    #[test]
    fn labels_stay_and_are_not_doubled() {
        let mut resource = object(json!({
            "meta": { "versionId": "3", "security": [{ "system": OBSERVATION_VALUE, "code": AI_ASSERTED }] }
        }));
        label(&mut resource, Vec::new());
        label(&mut resource, Vec::new());
        assert_eq!(
            resource["meta"],
            json!({ "security": [{ "system": OBSERVATION_VALUE, "code": AI_ASSERTED }] })
        );
    }
}
