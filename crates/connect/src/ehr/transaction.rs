//! Target and Provenance in one atomic transaction, and what its answer says.
//!
//! # Source
//! FHIR R4, RESTful API, "batch/transaction".

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chaperone_core::digest::Digest;
use chaperone_core::patch::JSON_PATCH;
use chaperone_core::ports::WriteFailed;
use chaperone_core::resource::ResourceType;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::{Accepted, Stated};

/// The request line of one entry.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EntryRequest<'a> {
    pub(super) method: &'static str,
    pub(super) url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) if_none_exist: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) if_match: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    full_url: &'a str,
    resource: &'a RawValue,
    request: EntryRequest<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Transaction<'a> {
    resource_type: &'static str,
    r#type: &'static str,
    entry: [Entry<'a>; 2],
}

/// A name for a resource inside one transaction, made from the order's digest: the same order always
/// gives the same bytes.
///
/// # Source
/// RFC 9562, UUID version 8.
pub(super) fn entry_name(digest: &Digest, part: u8) -> String {
    let derived = Digest::of_parts([digest.as_bytes().as_slice(), &[part]]);
    let hex = derived.to_string();
    let at = |range| hex.get(range).unwrap_or_default();
    format!(
        "urn:uuid:{}-{}-8{}-8{}-{}",
        at(0..8),
        at(8..12),
        at(13..16),
        at(17..20),
        at(20..32)
    )
}

/// The transaction's bytes. The target's body goes in byte for byte; `None` if a body is not JSON.
pub(super) fn transaction(
    target_url: &str,
    target_body: &str,
    target_request: EntryRequest<'_>,
    provenance_url: &str,
    provenance: &Value,
) -> Option<Vec<u8>> {
    let target: &RawValue = serde_json::from_str(target_body).ok()?;
    let provenance = serde_json::value::to_raw_value(provenance).ok()?;
    let bundle = Transaction {
        resource_type: "Bundle",
        r#type: "transaction",
        entry: [
            Entry {
                full_url: target_url,
                resource: target,
                request: target_request,
            },
            Entry {
                full_url: provenance_url,
                resource: &provenance,
                request: EntryRequest {
                    method: "POST",
                    url: "Provenance",
                    if_none_exist: None,
                    if_match: None,
                },
            },
        ],
    };
    serde_json::to_vec(&bundle).ok()
}

/// The resource of an entry that patches: the patch, byte for byte, as the content of a Binary.
///
/// # Source
/// FHIR R4, RESTful API, "patch": patches in batches and transactions.
pub(super) fn patch_binary(patch: &str) -> Value {
    json!({
        "resourceType": "Binary",
        "contentType": JSON_PATCH,
        "data": STANDARD.encode(patch),
    })
}

/// What the server made of the transaction's first entry.
///
/// # Errors
/// `Unknown` unless the answer is a `transaction-response` with two successful entries: a server that
/// reports success and failure together was not atomic.
pub(super) fn first_entry(
    answer: &Value,
    resource: &ResourceType,
    known_id: Option<&str>,
) -> Result<Accepted, WriteFailed> {
    let kind = answer.get("type").and_then(Value::as_str);
    let entries = answer.get("entry").and_then(Value::as_array);
    let (Some("transaction-response"), Some([target, provenance])) =
        (kind, entries.map(Vec::as_slice))
    else {
        return Err(WriteFailed::Unknown);
    };
    let (Some(status), Some(_)) = (success(target), success(provenance)) else {
        return Err(WriteFailed::Unknown);
    };
    let text = |name: &str| target.pointer(name).and_then(Value::as_str);
    let stated = Stated {
        location: text("/response/location"),
        etag: text("/response/etag"),
        body: target.get("resource"),
    };
    let existed = status == 200 && known_id.is_none();
    stated.accepted(resource, known_id, existed)
}

fn success(entry: &Value) -> Option<u16> {
    let status = entry.pointer("/response/status")?.as_str()?;
    let code: u16 = status.get(..3)?.parse().ok()?;
    matches!(code, 200 | 201).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_goes_in_byte_for_byte() {
        let body = r#"{"resourceType":"Task", "x":1.50}"#;
        let digest = Digest::of_bytes(b"order");
        let name = entry_name(&digest, 0);
        let request = EntryRequest {
            method: "POST",
            url: "Task",
            if_none_exist: Some("identifier=a|b"),
            if_match: None,
        };
        let bytes = transaction(&name, body, request, "urn:uuid:p", &json!({"a": 1})).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(body), "{text}");
        assert!(text.contains(r#""ifNoneExist":"identifier=a|b""#));
        assert!(!text.contains("ifMatch"));
    }

    #[test]
    fn names_are_uuids_and_differ() {
        let digest = Digest::of_bytes(b"order");
        let name = entry_name(&digest, 0);
        assert_eq!(name.len(), "urn:uuid:".len() + 36);
        assert_eq!(name.as_bytes()["urn:uuid:".len() + 14], b'8');
        assert_ne!(name, entry_name(&digest, 1));
        assert_eq!(name, entry_name(&digest, 0));
    }

    #[test]
    fn only_two_successes_are_a_success() {
        let task = ResourceType::new("Task").unwrap();
        let answer = |first: &str, second: &str| {
            json!({"resourceType": "Bundle", "type": "transaction-response", "entry": [
                {"response": {"status": first, "location": "Task/7/_history/1", "etag": "W/\"1\""}},
                {"response": {"status": second}}
            ]})
        };
        let made = first_entry(&answer("201 Created", "201"), &task, None).unwrap();
        assert_eq!((made.id.as_str(), made.existed), ("7", false));
        assert!(
            first_entry(&answer("200 OK", "201"), &task, None)
                .unwrap()
                .existed
        );
        assert!(first_entry(&answer("201", "400 Bad Request"), &task, None).is_err());
        assert!(first_entry(&answer("412", "201"), &task, None).is_err());
        let mut batch = answer("201", "201");
        batch["type"] = json!("batch-response");
        assert!(first_entry(&batch, &task, None).is_err());
    }
}
