//! `POST /ehr-events/{source}`: a system announces that something happened at the EHR.
//!
//! Here stands the form: one signature over every byte of the body (`signed`), a small body, and JSON that can be read
//! in one way only. Who a source is, and what an event may cause, is decided in `chaperone_engine::ehr_event`.
//! The answer says that the event was taken, and nothing of agent, grant or patient. Start at [`receive`].

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use chaperone_engine::CallError;
use chaperone_engine::ehr_event::{Authenticated, Notification};
use serde_json::json;

use super::limits::NOTIFICATION_BYTES_MAX;
use super::refusal::{self, json_response};
use super::{Asked, GatewayState, signed};

/// `POST /ehr-events/{source}`.
pub(super) async fn receive(
    State(gateway): State<GatewayState>,
    at: Asked,
    source: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let signed = match signed::read(source, request, NOTIFICATION_BYTES_MAX).await {
        Ok(signed) => signed,
        Err(error) => return gateway.refuse(&at, None, error).await,
    };
    let delivery = signed.delivery();
    match gateway
        .engine
        .authenticate_event(delivery, at.correlation)
        .await
    {
        Ok(from) => match take(&gateway, &at, &from, signed.body()).await {
            Ok(()) => json_response(StatusCode::ACCEPTED, &json!({ "state": "accepted" })),
            Err(error) => gateway.answer(&at, &error),
        },
        Err(error) => gateway.answer(&at, &error),
    }
}

async fn take(
    gateway: &GatewayState,
    at: &Asked,
    from: &Authenticated,
    bytes: &[u8],
) -> Result<(), CallError> {
    let read = match gateway.throttle.source(from.source()) {
        Ok(()) => parse(bytes),
        Err(wait) => Err(refusal::rate_limited(wait.retry_after_s)),
    };
    match read {
        Ok(notification) => {
            gateway
                .engine
                .take_event(from, notification, at.correlation)
                .await
        }
        Err(error) => Err(gateway
            .engine
            .refuse_event(from, error, at.correlation)
            .await),
    }
}

fn parse(bytes: &[u8]) -> Result<Notification, CallError> {
    signed::parse(bytes, CallError::event_malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn read(body: &str) -> Result<(), String> {
        parse(body.as_bytes())
            .map(|_| ())
            .map_err(|error| error.body("c").to_string())
    }

    #[test]
    fn a_notification_is_read_strictly_and_never_repeated() {
        let good = json!({
            "id": "CANARY-1", "type": "appointment-booked", "occurred": "2027-03-01T12:00:00+01:00",
            "resource": "Appointment/CANARY-2", "patient": "Patient/CANARY-3",
        });
        assert_eq!(read(&good.to_string()), Ok(()));
        let with = |key: &str, value: Value| {
            let mut changed = good.clone();
            changed[key] = value;
            changed.to_string()
        };
        let without = |key: &str| {
            let mut changed = good.clone();
            changed.as_object_mut().unwrap().remove(key);
            changed.to_string()
        };
        assert_eq!(read(&without("patient")), Ok(()));
        for (bad, code) in [
            (with("agent", json!("CANARY")), "invalid-argument"),
            (with("occurred", json!("2027-03-01")), "invalid-argument"),
            (with("occurred", json!(1_772_366_400)), "invalid-argument"),
            (with("type", json!("CANARY type")), "invalid-argument"),
            (
                with("resource", json!({ "reference": "CANARY" })),
                "invalid-argument",
            ),
            (without("id"), "invalid-argument"),
            (without("resource"), "invalid-argument"),
            (r#"{"id":"CANARY","id":"CANARY"}"#.to_owned(), "malformed"),
            ("{\"id\":\"CANARY\"".to_owned(), "malformed"),
            ("[\"CANARY\"]".to_owned(), "invalid-request"),
        ] {
            let said = read(&bad).unwrap_err();
            assert!(
                said.contains(code) && !said.contains("CANARY"),
                "{bad}: {said}"
            );
        }
    }
}
