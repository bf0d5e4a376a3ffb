//! Writes by an operation of the EHR's own: what is sent, and what its acknowledgement says.
//!
//! The operation takes a FHIR `Parameters` with the resource and a message id, and answers one with a reference to
//! what it filed. The message id is the write-back's own, the same in every attempt, so that a server which keeps
//! its side files a message once; that it does is its word, and nothing here relies on it.
//!
//! Not here: which operation it is (the connection's setting), or what a lost answer means (`reconcile`).
//!
//! | parameter | where | what |
//! |---|---|---|
//! | `message-id` | asked | `urn:chaperone:writeback|[id]` |
//! | `resource` | asked | the resource, byte for byte as it was approved |
//! | `outcome` | answered | `accepted`, or `duplicate` when the message id was filed before |
//! | `reference` | answered | `[type]/[id]` of what was filed |
//!
//! # Source
//! FHIR R4, Operations Framework and Parameters.

use chaperone_core::ports::WriteFailed;
use chaperone_core::resource::ResourceType;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::{Accepted, Stated};

/// The longest name of an operation, with its `$`.
const NAME_BYTES_MAX: usize = 64;
/// Most parameters of an acknowledgement that are looked at.
const PARAMETERS_MAX: usize = 32;

/// Whether a text names an operation of the whole system: `$`, then lower-case letters, digits and `-`.
pub(super) fn is_operation(text: &str) -> bool {
    text.strip_prefix('$').is_some_and(|name| {
        !name.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    resource_type: &'static str,
    parameter: (Named<'a>, Held<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Named<'a> {
    name: &'static str,
    value_string: &'a str,
}

#[derive(Serialize)]
struct Held<'a> {
    name: &'static str,
    resource: &'a RawValue,
}

/// The bytes of a call. The resource goes in byte for byte; `None` if it is not JSON.
pub(super) fn call(message_id: &str, resource: &str) -> Option<Vec<u8>> {
    let resource: &RawValue = serde_json::from_str(resource).ok()?;
    serde_json::to_vec(&Parameters {
        resource_type: "Parameters",
        parameter: (
            Named {
                name: "message-id",
                value_string: message_id,
            },
            Held {
                name: "resource",
                resource,
            },
        ),
    })
    .ok()
}

/// What an acknowledgement says was filed.
///
/// # Errors
/// `Unknown` unless it says that the message was accepted or filed before, and where.
pub(super) fn acknowledged(
    answer: &Value,
    resource: &ResourceType,
    known_id: Option<&str>,
) -> Result<Accepted, WriteFailed> {
    if answer.get("resourceType").and_then(Value::as_str) != Some("Parameters") {
        return Err(WriteFailed::Unknown);
    }
    let parameters = answer.get("parameter").and_then(Value::as_array);
    let text = |name: &str, pointer: &str| {
        parameters
            .into_iter()
            .flatten()
            .take(PARAMETERS_MAX)
            .find(|one| one.get("name").and_then(Value::as_str) == Some(name))
            .and_then(|one| one.pointer(pointer))
            .and_then(Value::as_str)
    };
    let existed = match text("outcome", "/valueCode") {
        Some("accepted") => false,
        Some("duplicate") => true,
        _ => return Err(WriteFailed::Unknown),
    };
    let stated = Stated {
        location: text("reference", "/valueReference/reference"),
        etag: None,
        body: None,
    };
    let filed = stated.accepted(resource, None, existed)?;
    // Told to change one thing and saying it filed another.
    if known_id.is_some_and(|id| id != filed.id) {
        return Err(WriteFailed::Unknown);
    }
    Ok(filed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_of_operations() {
        for good in ["$file-entry", "$book", "$x12-278"] {
            assert!(is_operation(good), "{good}");
        }
        for bad in ["", "$", "file-entry", "$File", "$a/b", "$a?b", "$..", "$ä"] {
            assert!(!is_operation(bad), "{bad}");
        }
        assert!(!is_operation(&format!("${}", "a".repeat(64))));
    }

    #[test]
    fn the_body_goes_in_byte_for_byte() {
        let body = "{ \"resourceType\":\"Task\",  \"n\": 1.50 }";
        let text = String::from_utf8(call("m-1", body).unwrap()).unwrap();
        assert!(text.contains(body), "{text}");
        assert_eq!(call("m-1", "{"), None);
    }

    #[test]
    fn only_a_full_acknowledgement_says_that_something_was_filed() {
        let task = ResourceType::new("Task").unwrap();
        let said = |outcome: &str, reference: &str| {
            json!({"resourceType": "Parameters", "parameter": [
                {"name": "outcome", "valueCode": outcome},
                {"name": "reference", "valueReference": {"reference": reference}},
            ]})
        };
        let id = |answer: &Value, known| acknowledged(answer, &task, known).map(|it| it.id);
        assert_eq!(id(&said("accepted", "Task/7"), None), Ok("7".to_owned()));
        assert_eq!(
            id(&said("duplicate", "Task/7"), Some("7")),
            Ok("7".to_owned())
        );
        for (answer, known) in [
            (said("queued", "Task/7"), None),
            (said("accepted", "Patient/7"), None),
            (said("accepted", "Task/"), None),
            (said("accepted", "Task/8"), Some("7")),
            (json!({"resourceType": "OperationOutcome"}), None),
            (json!({"resourceType": "Parameters"}), None),
        ] {
            assert_eq!(id(&answer, known), Err(WriteFailed::Unknown), "{answer}");
        }
    }
}
