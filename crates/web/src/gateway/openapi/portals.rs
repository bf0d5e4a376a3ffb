//! What `/openapi.json` says of the addresses of portals.

use chaperone_engine::ehr_event::REFERENCE_BYTES_MAX;
use chaperone_engine::verification::ATTESTATION_ID_BYTES_MAX;
use serde_json::{Value, json};

use super::{SIGNATURE, answers, json_content};

const NAME: &str = "^[a-z0-9][a-z0-9._-]{0,63}$";
const WRITEBACK: &str = "^wb_[0-9a-f]{32}$";

/// What every portal sends: whom it deals with, about what.
fn of_whom(also: &Value, required: &[&str]) -> Value {
    let reference = |words: &str| {
        json!({
            "type": "string",
            "maxLength": REFERENCE_BYTES_MAX,
            "description": words,
        })
    };
    let mut properties = json!({
        "writeback": { "type": "string", "pattern": WRITEBACK },
        "patient": reference("`Patient/id` at the EHR, whom the portal deals with; compared, never used."),
        "proxy": reference(
            "`RelatedPerson/id` at the EHR, who acts in the patient's place. Left out where it is the patient.",
        ),
    });
    if let (Some(all), Some(more)) = (properties.as_object_mut(), also.as_object()) {
        all.extend(more.clone());
    }
    let mut all = vec!["writeback", "patient"];
    all.extend(required);
    json!({
        "type": "object",
        "properties": properties,
        "required": all,
        "additionalProperties": false,
    })
}

fn operation(id: &str, description: &str, body: &Value, responses: &Value) -> Value {
    json!({
        "operationId": id,
        "description": description,
        "security": [{ SIGNATURE: [] }],
        "parameters": [
            {
                "name": "portal", "in": "path", "required": true,
                "schema": { "type": "string", "pattern": NAME },
            },
            {
                "name": "X-Chaperone-Timestamp", "in": "header", "required": true,
                "description": "Seconds since 1970 at which this was signed.",
                "schema": { "type": "string", "pattern": "^[0-9]{1,12}$" },
            },
        ],
        "requestBody": { "required": true, "content": json_content(body) },
        "responses": responses,
    })
}

fn facts() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

pub(super) fn proposal_operation() -> Value {
    let shown = json!({
        "type": "object",
        "properties": {
            "writeback": { "type": "string" },
            "digest": { "type": "string", "description": "What an attestation must name." },
            "until": { "type": "string", "format": "date-time" },
            "needs": facts(),
            "interaction": { "type": "string" },
            "resource": { "type": "object", "description": "The FHIR resource as it would be sent." },
        },
        "required": ["writeback", "digest", "until", "needs", "interaction", "resource"],
    });
    operation(
        "show_proposal_to_patient",
        "For portals that the configuration names: what a patient, or whoever may act in their place, is to see \
            before they confirm it. Recorded as a look at the patient.",
        &of_whom(&json!({}), &[]),
        &answers("200", "The proposal that waits.", &shown),
    )
}

pub(super) fn attestation_operation() -> Value {
    let also = json!({
        "id": {
            "type": "string", "minLength": 1, "maxLength": ATTESTATION_ID_BYTES_MAX,
            "description": "The attestation, as the portal counts them; it counts once.",
        },
        "digest": { "type": "string", "description": "Of what the patient was shown." },
        "fact": { "type": "string", "description": "One of those that the proposal needs." },
        "method": { "enum": ["session", "step-up", "code", "signature", "lookup"] },
        "at": { "type": "string", "format": "date-time", "description": "When it was verified." },
    });
    operation(
        "attest_fact",
        "For portals that the configuration names: a fact that they verified with the patient, about one proposal \
            with exactly this content. It counts once.",
        &of_whom(&also, &["id", "digest", "fact", "method", "at"]),
        &answers(
            "200",
            "It counts. Where more is needed, the proposal stays held.",
            &taken(),
        ),
    )
}

/// What came of evidence.
fn taken() -> Value {
    json!({
        "type": "object",
        "properties": { "state": { "enum": ["verified", "held"] }, "needs": facts() },
        "required": ["state"],
    })
}

fn shown_digest() -> Value {
    json!({ "type": "string", "description": "Of what the patient was shown." })
}

pub(super) fn code_operation() -> Value {
    let sent = json!({
        "type": "object",
        "properties": {
            "state": { "enum": ["sent"] },
            "until": { "type": "string", "format": "date-time", "description": "Until when the code counts." },
            "left": { "type": "integer", "description": "How many more can be asked for." },
        },
        "required": ["state", "until", "left"],
    });
    operation(
        "send_code",
        "For portals that the configuration names: sends a one-time code to the e-mail address that a proposal adds. \
            Only the newest code counts.",
        &of_whom(&json!({ "digest": shown_digest() }), &["digest"]),
        &answers("200", "The mail server took the mail.", &sent),
    )
}

pub(super) fn confirm_operation() -> Value {
    let also = json!({
        "digest": shown_digest(),
        "code": { "type": "string", "maxLength": 16, "description": "What the patient entered." },
    });
    operation(
        "confirm_code",
        "For portals that the configuration names: the code that came back, about one proposal with exactly this \
            content. It counts once; wrong ones are counted.",
        &of_whom(&also, &["digest", "code"]),
        &answers(
            "200",
            "It counts. Where more is needed, the proposal stays held.",
            &taken(),
        ),
    )
}
