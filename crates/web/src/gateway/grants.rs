//! `POST /v1/grants`: a dispatcher on the allow-list puts a patient before another agent.
//! `GET /v1/grants`: which grants wait for the agent that asks.
//!
//! Neither learns who the patient is: a dispatcher names one by a business identifier it already holds, and
//! both are told grants. Whether they may is the engine's decision.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use chaperone_engine::CallError;
use chaperone_engine::grant::DispatchRequest;
use serde_json::{Map, Value, json};

use super::body::read_object;
use super::refusal::json_response;
use super::{Entered, GatewayState};

/// Longest system, value or encounter id, in bytes.
const TEXT_BYTES_MAX: usize = 256;

/// How soon an agent should look again, in seconds.
const POLL_AFTER_S: u32 = 10;

/// `POST /v1/grants`.
pub(super) async fn issue(
    State(gateway): State<GatewayState>,
    Entered { at, caller }: Entered,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let read = read_object(&parts.headers, body).await;
    let issued = match read.and_then(|(body, _)| parse(body)) {
        Ok(dispatch) => {
            gateway
                .engine
                .dispatch_grant(&caller, dispatch, at.correlation)
                .await
        }
        Err(error) => Err(error),
    };
    match issued {
        Ok(grant) => json_response(
            StatusCode::CREATED,
            &json!({
                "grant": grant.id,
                "agent": grant.agent,
                "intent": grant.intent,
                "expires": grant.expires.to_string(),
            }),
        ),
        Err(error) => gateway.refuse(&at, Some(&caller), error).await,
    }
}

/// `GET /v1/grants`.
pub(super) async fn waiting(
    State(gateway): State<GatewayState>,
    Entered { at, caller }: Entered,
) -> Response<Body> {
    let grants = match gateway.engine.waiting_grants(&caller, at.correlation).await {
        Ok(grants) => grants,
        Err(error) => return gateway.answer(&at, &error),
    };
    let grants: Vec<Value> = grants
        .into_iter()
        .map(|waiting| {
            json!({
                "grant": waiting.grant,
                "intent": waiting.intent,
                "event": waiting.event,
                "work_item": waiting.work_item,
                "expires": waiting.expires.to_string(),
            })
        })
        .collect();
    let body = json!({ "grants": grants, "poll_after": POLL_AFTER_S });
    json_response(StatusCode::OK, &body)
}

/// The texts of the parser would repeat what was sent, which is about a patient: none of them is used.
fn parse(body: Map<String, Value>) -> Result<DispatchRequest, CallError> {
    let wrong = || {
        CallError::invalid_argument().saying(
            "send `agent`, `intent`, `patient` with `system` and `value`, and at most `encounter`",
        )
    };
    let request: DispatchRequest =
        serde_json::from_value(Value::Object(body)).map_err(|_| wrong())?;
    let texts = [
        Some(&request.patient.system),
        Some(&request.patient.value),
        request.encounter.as_ref(),
    ];
    let is_plain = |text: &&String| {
        !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
    };
    if texts.iter().flatten().all(is_plain) {
        Ok(request)
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: Value) -> Result<(), String> {
        let Value::Object(body) = body else { panic!() };
        parse(body)
            .map(|_| ())
            .map_err(|error| error.body("c").to_string())
    }

    #[test]
    fn a_request_is_read_strictly_and_never_repeated() {
        let patient = json!({"system": "urn:example:mrn", "value": "CANARY-1"});
        let good = json!({"agent": "a", "intent": "i", "patient": patient});
        assert_eq!(parsed(good), Ok(()));
        for bad in [
            json!({"agent": "a", "intent": "i", "patient": patient, "patient_id": "CANARY-1"}),
            json!({"agent": "a", "intent": "i", "patient": "CANARY-1"}),
            json!({"agent": "a", "intent": "CANARY-1 ", "patient": patient}),
            json!({"agent": "a", "intent": "i", "patient": {"system": "", "value": "CANARY-1"}}),
            json!({"agent": "a", "intent": "i", "patient": {"system": "s", "value": "CANARY-1\n"}}),
        ] {
            let said = parsed(bad).unwrap_err();
            assert!(
                said.contains("invalid-argument") && !said.contains("CANARY"),
                "{said}"
            );
        }
    }
}
