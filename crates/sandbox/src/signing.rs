//! What the `staged` profile lets nobody do from outside: orders and notes are taken unsigned, and a person signs them
//! on the server's own screens.
//!
//! A signature makes a version of its own and a Provenance that names that version and who signed. There is no way to
//! sign over HTTP; [`crate::SandboxHandle::sign`] is the screen.
//!
//! # Source
//! FHIR R4, Provenance.signature; ASTM E1762 for the kind of signature.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::storage::Resource;

/// Type, element, value while unsigned, value once signed.
const SIGNED: [(&str, &str, &str, &str); 3] = [
    ("DocumentReference", "docStatus", "preliminary", "final"),
    ("MedicationRequest", "status", "draft", "active"),
    ("ServiceRequest", "status", "draft", "active"),
];

/// Whether resources of a type are signed here.
pub(crate) fn is_signed_here(resource_type: &str) -> bool {
    SIGNED.iter().any(|(kind, ..)| *kind == resource_type)
}

/// Whether a resource is one that may come in: of a type that nobody signs, or unsigned.
pub(crate) fn may_come_in(resource_type: &str, resource: &Resource) -> bool {
    SIGNED
        .iter()
        .filter(|(kind, ..)| *kind == resource_type)
        .all(|(_, element, unsigned, _)| {
            resource.get(*element).and_then(Value::as_str) == Some(*unsigned)
        })
}

/// The resource signed; nothing for one that does not wait for a signature.
pub(crate) fn signed(resource_type: &str, resource: &Value) -> Option<Value> {
    let (_, element, unsigned, signed) = SIGNED.iter().find(|(kind, ..)| *kind == resource_type)?;
    let mut next = resource.clone();
    let value = next.get_mut(*element)?;
    if value.as_str() != Some(*unsigned) {
        return None;
    }
    *value = Value::String((*signed).to_owned());
    Some(next)
}

/// The Provenance of a signature.
pub(crate) fn provenance(target: &str, signer: &str, id: &str, now: Timestamp) -> Value {
    let when = now.to_string();
    let who = json!({ "reference": signer });
    json!({
        "resourceType": "Provenance",
        "id": id,
        "target": [{ "reference": target }],
        "recorded": when,
        "agent": [{
            "type": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                "code": "legal",
            }] },
            "who": who,
        }],
        "signature": [{
            "type": [{
                "system": "urn:iso-astm:E1762-95:2013",
                "code": "1.2.840.10065.1.12.1.1",
            }],
            "when": when,
            "who": who,
        }],
    })
}
