//! What a proposed change is: computed from base and result alone, never from what the agent calls it.

use std::collections::BTreeSet;

use chaperone_core::bundle::WriteAction;
use chaperone_core::change::{Audience, Change, Direction};
use chaperone_core::resource::{Code, Interaction, ResourceType};
use serde_json::Value;

use crate::errors::CallError;

/// What the change is, from base and result alone; never from what the agent calls it.
pub(crate) fn change_of(
    write: &WriteAction,
    base: Option<&Value>,
    resource: &Value,
) -> Result<Change, CallError> {
    let code = |value: Option<&Value>, pointer: &str| -> Option<Code> {
        value?
            .pointer(pointer)?
            .as_str()
            .and_then(|text| Code::new(text).ok())
    };
    let status = |value: Option<&Value>| match write.resource.as_str() {
        "DocumentReference" => match code(value, "/status") {
            Some(status) if status.as_str() != "current" => Some(status),
            _ => code(value, "/docStatus"),
        },
        "Condition" | "AllergyIntolerance" => code(value, "/verificationStatus/coding/0/code"),
        "Goal" => code(value, "/lifecycleStatus"),
        _ => code(value, "/status"),
    };
    if write.interaction == Interaction::Update && base.is_none() {
        return Err(CallError::invalid_proposal());
    }
    Ok(Change {
        resource: write.resource.clone(),
        interaction: write.interaction,
        destination: write.destination,
        from: status(base),
        to: status(Some(resource)),
        clinical_status: code(Some(resource), "/clinicalStatus/coding/0/code"),
        request_intent: code(Some(resource), "/intent"),
        categories: categories(resource),
        elements: changed_elements(base, resource),
        direction: direction(&write.resource, base, resource),
        audience: audience(resource),
        from_template: false,
    })
}

fn categories(resource: &Value) -> BTreeSet<Code> {
    let scopes = resource.get("scope").into_iter();
    let listed: Vec<&Value> = match resource.get("category") {
        Some(Value::Array(list)) => list.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    listed
        .into_iter()
        .chain(scopes)
        .filter_map(|concept| concept.get("coding")?.as_array())
        .flatten()
        .filter_map(|coding| Code::new(coding.get("code")?.as_str()?).ok())
        .collect()
}

fn changed_elements(base: Option<&Value>, resource: &Value) -> BTreeSet<String> {
    const OURS: [&str; 4] = ["resourceType", "id", "meta", "text"];
    let empty = serde_json::Map::new();
    let before = base.and_then(Value::as_object).unwrap_or(&empty);
    let after = resource.as_object().unwrap_or(&empty);
    before
        .keys()
        .chain(after.keys())
        .filter(|key| !OURS.contains(&key.as_str()) && before.get(*key) != after.get(*key))
        .cloned()
        .collect()
}

/// Whether a consent makes things more or less private. What cannot be told is neutral, which is the
/// heaviest: ending or changing a refusal that is in force may open what it closed.
fn direction(resource_type: &ResourceType, base: Option<&Value>, resource: &Value) -> Direction {
    if resource_type.as_str() != "Consent" {
        return Direction::Neutral;
    }
    let text = |pointer: &str| resource.pointer(pointer).and_then(Value::as_str);
    let denies = says(resource, "deny") || base.is_some_and(|base| says(base, "deny"));
    let refuses_already = base.is_some_and(|base| {
        base.pointer("/status") == Some(&"active".into()) && says(base, "deny")
    });
    match (text("/status"), text("/provision/type")) {
        (Some("inactive"), _) if !denies => Direction::MorePrivate,
        (Some("inactive"), _) => Direction::Neutral,
        (_, Some("deny")) if !refuses_already && !says(resource, "permit") => {
            Direction::MorePrivate
        }
        (_, Some("permit")) => Direction::LessPrivate,
        _ => Direction::Neutral,
    }
}

/// Whether a provision of a consent, or an exception from one, is of a type.
fn says(consent: &Value, kind: &str) -> bool {
    fn any(provision: &Value, kind: &str) -> bool {
        provision.get("type").and_then(Value::as_str) == Some(kind)
            || provision
                .get("provision")
                .and_then(Value::as_array)
                .is_some_and(|inner| inner.iter().any(|one| any(one, kind)))
    }
    consent.get("provision").is_some_and(|root| any(root, kind))
}

/// Whether a message may reach the patient or somebody outside: unless it goes to staff alone.
pub(crate) fn reaches_patient(message: &Value) -> bool {
    audience(message) != Some(Audience::CareTeam)
}

fn audience(resource: &Value) -> Option<Audience> {
    let recipients = resource.get("recipient")?.as_array()?;
    let is_staff = |recipient: &Value| {
        recipient
            .get("reference")
            .and_then(Value::as_str)
            .is_some_and(|reference| {
                [
                    "Practitioner/",
                    "PractitionerRole/",
                    "CareTeam/",
                    "Organization/",
                ]
                .iter()
                .any(|staff| reference.starts_with(staff))
            })
    };
    let only_staff = !recipients.is_empty() && recipients.iter().all(is_staff);
    Some(if only_staff {
        Audience::CareTeam
    } else {
        Audience::Patient
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn staff_only_messages_are_internal_and_mixed_ones_are_not() {
        let to = |references: &[&str]| {
            let list: Vec<Value> = references
                .iter()
                .map(|r| json!({ "reference": r }))
                .collect();
            audience(&json!({ "recipient": list }))
        };
        assert_eq!(to(&["Practitioner/1"]), Some(Audience::CareTeam));
        assert_eq!(
            to(&["Practitioner/1", "Patient/2"]),
            Some(Audience::Patient)
        );
        assert_eq!(to(&[]), Some(Audience::Patient));
    }

    #[test]
    fn ending_a_refusal_does_not_make_things_more_private() {
        let consent = |status: &str, kind: &str| json!({ "resourceType": "Consent", "status": status, "provision": { "type": kind } });
        let kind = ResourceType::new("Consent").unwrap();
        let to = |base: Option<&Value>, after: &Value| direction(&kind, base, after);
        let (sharing, refusing) = (consent("active", "permit"), consent("active", "deny"));
        assert_eq!(to(None, &refusing), Direction::MorePrivate);
        assert_eq!(to(Some(&sharing), &refusing), Direction::MorePrivate);
        assert_eq!(
            to(Some(&sharing), &consent("inactive", "permit")),
            Direction::MorePrivate
        );
        assert_eq!(to(Some(&refusing), &sharing), Direction::LessPrivate);
        assert_eq!(
            to(Some(&refusing), &consent("inactive", "deny")),
            Direction::Neutral
        );
        // Removing the refusal and ending the consent in one step is no way around.
        let bare = json!({ "resourceType": "Consent", "status": "inactive" });
        assert_eq!(to(Some(&refusing), &bare), Direction::Neutral);
        // Nor is narrowing the refusal, or an exception from it.
        let mut narrower = refusing.clone();
        narrower["provision"]["class"] = json!([{ "code": "Observation" }]);
        assert_eq!(to(Some(&refusing), &narrower), Direction::Neutral);
        let mut excepted = refusing.clone();
        excepted["provision"]["provision"] = json!([{ "type": "permit" }]);
        assert_eq!(to(None, &excepted), Direction::Neutral);
    }

    #[test]
    fn a_removed_element_counts_as_changed() {
        let base = json!({ "resourceType": "Patient", "telecom": [1], "name": [2] });
        let after = json!({ "resourceType": "Patient", "name": [2], "gender": "female" });
        let changed = changed_elements(Some(&base), &after);
        assert_eq!(changed, ["gender".to_owned(), "telecom".to_owned()].into());
    }
}
