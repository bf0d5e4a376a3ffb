//! `/openapi.json`: the REST interface, generated from the bundle in force.
//!
//! Not limited to an envelope: it tells what tools are declared, which is no secret, and nothing of
//! any patient. Start at [`document`].
//!
//! # Source
//! OpenAPI Specification 3.1.

mod portals;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use chaperone_engine::Engine;
use chaperone_engine::call::ToolDescription;
use chaperone_engine::ehr_event::{EVENT_ID_BYTES_MAX, REFERENCE_BYTES_MAX};
use serde_json::{Map, Value, json};

use super::refusal::json_response;

const SECURITY: &str = "envelope";
const SIGNATURE: &str = "event_signature";

/// The document of an engine's bundle.
pub(super) fn document(engine: &Engine) -> Value {
    describe(
        &engine.config().audience,
        engine.bundle().version(),
        &engine.all_tools(),
    )
}

pub(super) fn answer(document: &Value) -> Response<Body> {
    json_response(StatusCode::OK, document)
}

fn describe(base: &str, bundle_version: &str, tools: &[ToolDescription]) -> Value {
    let mut paths = Map::new();
    for tool in tools {
        paths.insert(
            format!("/v1/tools/{}", tool.name),
            json!({ "post": tool_operation(tool) }),
        );
    }
    paths.insert("/v1/tools".to_owned(), json!({ "get": list_operation() }));
    paths.insert(
        "/v1/proposals/{id}".to_owned(),
        json!({ "get": proposal_operation() }),
    );
    paths.insert(
        "/v1/grants".to_owned(),
        json!({ "get": waiting_operation(), "post": grant_operation() }),
    );
    paths.insert(
        "/ehr-events/{source}".to_owned(),
        json!({ "post": event_operation() }),
    );
    paths.insert(
        "/portals/{portal}/proposals".to_owned(),
        json!({ "post": portals::proposal_operation() }),
    );
    paths.insert(
        "/portals/{portal}/attestations".to_owned(),
        json!({ "post": portals::attestation_operation() }),
    );
    paths.insert(
        "/portals/{portal}/codes".to_owned(),
        json!({ "post": portals::code_operation() }),
    );
    paths.insert(
        "/portals/{portal}/codes/confirm".to_owned(),
        json!({ "post": portals::confirm_operation() }),
    );
    paths.insert(
        "/oauth/token".to_owned(),
        json!({ "post": token_operation() }),
    );
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Chaperone",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "Tools of the governance bundle {bundle_version}. A token opens the tools of one \
                 envelope; the others answer as if they did not exist."
            ),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": base }],
        "security": [{ SECURITY: [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { SECURITY: {
                "type": "oauth2",
                "description": "Client credentials with a signed assertion (RFC 7523), one intent as \
                    scope, and a context grant in authorization_details (RFC 9396).",
                "flows": { "clientCredentials": {
                    "tokenUrl": format!("{base}/oauth/token"),
                    "scopes": {},
                } },
            }, SIGNATURE: {
                "type": "apiKey",
                "in": "header",
                "name": "X-Chaperone-Signature",
                "description": "`v1=` and, in hexadecimal, the HMAC-SHA-256 of the timestamp header, a \
                    full stop and every byte of the body, under the secret of the source or portal.",
            } },
            "schemas": { "Error": error_schema(), "Proposal": proposal_schema(), "Read": read_schema() },
            "responses": { "Refused": {
                "description": "Refused; `code` is stable, `retry` and `next` say how to go on.",
                "headers": {
                    "x-correlation-id": { "schema": { "type": "string" } },
                    "Retry-After": { "schema": { "type": "integer" } },
                },
                "content": json_content(&reference("Error")),
            } },
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn json_content(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

fn answers(status: &str, description: &str, schema: &Value) -> Value {
    json!({
        status: {
            "description": description,
            "headers": { "x-correlation-id": { "schema": { "type": "string" } } },
            "content": json_content(schema),
        },
        "default": { "$ref": "#/components/responses/Refused" },
    })
}

fn tool_operation(tool: &ToolDescription) -> Value {
    let mut body = without_nulls(&tool.input_schema);
    let mut operation = json!({
        "operationId": tool.name,
        "description": tool.description,
        "tags": [if tool.read_only { "read" } else { "propose" }],
    });
    let Some(members) = operation.as_object_mut() else {
        return operation;
    };
    if tool.read_only {
        members.insert(
            "responses".to_owned(),
            answers("200", "What the view shows.", &reference("Read")),
        );
    } else {
        // The key may come in the header, so the body need not hold it.
        if let Some(required) = body.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| name != "idempotency_key");
        }
        members.insert("parameters".to_owned(), json!([{
            "name": "Idempotency-Key",
            "in": "header",
            "required": false,
            "description": "Stands for the argument `idempotency_key`; one of the two is required.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 128 },
        }]));
        members.insert(
            "responses".to_owned(),
            answers(
                "200",
                "The proposal, and where it stands.",
                &reference("Proposal"),
            ),
        );
    }
    members.insert(
        "requestBody".to_owned(),
        json!({ "required": true, "content": json_content(&body) }),
    );
    operation
}

fn list_operation() -> Value {
    let tool = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string" },
            "description": { "type": "string" },
            "input_schema": { "type": "object" },
            "read_only": { "type": "boolean" },
        },
        "required": ["name", "description", "input_schema", "read_only"],
    });
    let schema = json!({
        "type": "object",
        "properties": { "tools": { "type": "array", "items": tool } },
        "required": ["tools"],
    });
    json!({
        "operationId": "list_envelope_tools",
        "description": "The tools of the envelope, and no others.",
        "responses": answers("200", "The tools.", &schema),
    })
}

fn proposal_operation() -> Value {
    json!({
        "operationId": "get_proposal",
        "description": "Where one of the agent's own proposals stands; also under a later token whose \
            envelope has the status tool.",
        "parameters": [{
            "name": "id", "in": "path", "required": true,
            "schema": { "type": "string", "pattern": "^wb_[0-9a-f]{32}$" },
        }],
        "responses": answers("200", "The proposal.", &reference("Proposal")),
    })
}

fn grant_operation() -> Value {
    let body = json!({
        "type": "object",
        "properties": {
            "agent": { "type": "string" },
            "intent": { "type": "string" },
            "patient": {
                "type": "object",
                "properties": { "system": { "type": "string" }, "value": { "type": "string" } },
                "required": ["system", "value"],
                "additionalProperties": false,
            },
            "encounter": { "type": "string" },
        },
        "required": ["agent", "intent", "patient"],
        "additionalProperties": false,
    });
    let grant = json!({
        "type": "object",
        "properties": {
            "grant": { "type": "string" },
            "agent": { "type": "string" },
            "intent": { "type": "string" },
            "expires": { "type": "string", "format": "date-time" },
        },
        "required": ["grant", "agent", "intent", "expires"],
    });
    json!({
        "operationId": "issue_grant",
        "description": "For dispatchers on the allow-list: put a patient before another agent.",
        "requestBody": { "required": true, "content": json_content(&body) },
        "responses": answers("201", "A single-use context grant.", &grant),
    })
}

fn waiting_operation() -> Value {
    let grant = json!({
        "type": "object",
        "properties": {
            "grant": { "type": "string" },
            "intent": { "type": "string" },
            "event": { "type": ["string", "null"] },
            "work_item": { "type": ["string", "null"] },
            "expires": { "type": "string", "format": "date-time" },
        },
        "required": ["grant", "intent", "event", "work_item", "expires"],
    });
    let schema = json!({
        "type": "object",
        "properties": {
            "grants": { "type": "array", "items": grant },
            "poll_after": { "type": "integer" },
        },
        "required": ["grants", "poll_after"],
    });
    json!({
        "operationId": "list_waiting_grants",
        "description": "The grants that people and events of the EHR made for the agent that asks, oldest \
            first, until they are used or have expired. Needs a token with the scope `collect`.",
        "responses": answers("200", "What waits.", &schema),
    })
}

fn event_operation() -> Value {
    let body = json!({
        "type": "object",
        "properties": {
            "id": { "type": "string", "minLength": 1, "maxLength": EVENT_ID_BYTES_MAX },
            "type": { "type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$" },
            "occurred": { "type": "string", "format": "date-time" },
            "resource": {
                "type": "string",
                "maxLength": REFERENCE_BYTES_MAX,
                "description": "`Type/id` at the EHR; it is read there.",
            },
            "patient": {
                "type": "string",
                "maxLength": REFERENCE_BYTES_MAX,
                "description": "`Patient/id`; compared with what the EHR says, never used.",
            },
        },
        "required": ["id", "type", "occurred", "resource"],
        "additionalProperties": false,
    });
    let taken = json!({
        "type": "object",
        "properties": { "state": { "const": "accepted" } },
        "required": ["state"],
    });
    json!({
        "operationId": "announce_ehr_event",
        "description": "For systems that the configuration names: an event of the EHR, which may put a \
            patient before an agent. The same event sent again is accepted again and causes nothing more.",
        "security": [{ SIGNATURE: [] }],
        "parameters": [
            {
                "name": "source", "in": "path", "required": true,
                "schema": { "type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$" },
            },
            {
                "name": "X-Chaperone-Timestamp", "in": "header", "required": true,
                "description": "Seconds since 1970 at which this was signed.",
                "schema": { "type": "string", "pattern": "^[0-9]{1,12}$" },
            },
        ],
        "requestBody": { "required": true, "content": json_content(&body) },
        "responses": answers("202", "The event was taken, now or before.", &taken),
    })
}

fn token_operation() -> Value {
    let form = json!({
        "type": "object",
        "properties": {
            "grant_type": { "const": "client_credentials" },
            "client_assertion_type": { "const": crate::oauth::ASSERTION_TYPE },
            "client_assertion": { "type": "string" },
            "client_id": { "type": "string" },
            "scope": { "type": "string", "pattern": "^(intent/.+|dispatch|collect)$" },
            "authorization_details": {
                "type": "string",
                "description": "JSON: [{\"type\":\"chaperone_context\",\"grant\":\"grant_…\"}]",
            },
            "resource": { "type": "string" },
        },
        "required": ["grant_type", "client_assertion_type", "client_assertion", "scope"],
    });
    let token = json!({
        "type": "object",
        "properties": {
            "access_token": { "type": "string" },
            "token_type": { "const": "Bearer" },
            "expires_in": { "type": "integer" },
            "scope": { "type": "string" },
        },
        "required": ["access_token", "token_type", "expires_in", "scope"],
    });
    json!({
        "operationId": "open_envelope",
        "description": "Opens an envelope.",
        "security": [],
        "requestBody": { "required": true, "content": {
            "application/x-www-form-urlencoded": { "schema": form },
        } },
        "responses": answers("200", "A token for one envelope, for five minutes at most.", &token),
    })
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "code": { "type": "string" },
            "message": { "type": "string" },
            "field": { "type": ["string", "null"] },
            "retry": { "oneOf": [
                { "enum": ["never", "changed"] },
                { "type": "object", "properties": { "after_s": { "type": "integer" } }, "required": ["after_s"] },
            ] },
            "next": { "type": "string" },
            "correlation": { "type": "string" },
        },
        "required": ["code", "message", "retry", "next", "correlation"],
    })
}

fn proposal_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "proposal": { "type": "string" },
            "state": { "type": "string" },
            "gate": {
                "type": ["string", "null"],
                "enum": ["auto", "auto_verified", "approve", "deny", null],
                "description": "`approve` whenever people decide, however many of them and with whatever factor.",
            },
            "class": { "type": ["string", "null"] },
            "poll_after": { "type": ["integer", "null"] },
            "reason": { "type": "string", "enum": ["stale", "too-late", "rules-changed"] },
            "resume": { "type": "string" },
        },
        "required": ["proposal", "state", "resume"],
    })
}

fn read_schema() -> Value {
    json!({
        "type": "object",
        "description": "For the status tool, a proposal; for the others, what the view shows and what was withheld.",
    })
}

/// JSON Schema has no null keywords: what a declaration leaves open is left out.
fn without_nulls(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaperone_core::ids::ToolName;

    fn tool(name: &str, read_only: bool) -> ToolDescription {
        ToolDescription {
            name: ToolName::new(name).unwrap(),
            description: "d".to_owned(),
            input_schema: json!({
                "type": "object",
                "properties": { "text": { "type": "string", "maxLength": null } },
                "required": ["text", "idempotency_key"],
                "additionalProperties": false,
            }),
            read_only,
        }
    }

    #[test]
    fn every_tool_has_its_path_and_every_reference_a_target() {
        let document = describe(
            "https://c.example",
            "1",
            &[tool("a", true), tool("b", false)],
        );
        assert!(
            document
                .pointer("/paths/~1v1~1tools~1a/post/requestBody")
                .is_some()
        );
        assert!(
            document
                .pointer("/paths/~1v1~1tools~1a/post/parameters")
                .is_none()
        );
        let body = "/paths/~1v1~1tools~1b/post/requestBody/content/application~1json/schema";
        let schema = document.pointer(body).unwrap();
        assert_eq!(schema["required"], json!(["text"]));
        assert_eq!(schema["properties"]["text"], json!({ "type": "string" }));
        // What portals send is signed, and no token opens it.
        for path in ["proposals", "attestations", "codes", "codes~1confirm"] {
            let security = format!("/paths/~1portals~1{{portal}}~1{path}/post/security");
            assert_eq!(
                document.pointer(&security),
                Some(&json!([{ SIGNATURE: [] }]))
            );
        }
        let text = document.to_string();
        for (at, _) in text.match_indices("\"$ref\":\"#") {
            let target = text[at + 9..].split('"').next().unwrap();
            assert!(document.pointer(&target[0..]).is_some(), "{target}");
        }
    }
}
