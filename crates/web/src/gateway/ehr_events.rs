//! `POST /ehr-events/{source}`: a system announces that something happened at the EHR.
//!
//! Here stands the form: one signature over every byte of the body, a small body, and JSON that can be read in
//! one way only. Who a source is, and what an event may cause, is decided in `chaperone_engine::ehr_event`.
//! The answer says that the event was taken, and nothing of agent, grant or patient. Start at [`receive`].

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, Response, StatusCode};
use chaperone_engine::CallError;
use chaperone_engine::ehr_event::{Authenticated, Delivery, Notification};
use serde_json::json;

use super::limits::NOTIFICATION_BYTES_MAX;
use super::refusal::{self, json_response};
use super::{Asked, GatewayState, body, strict_json};

/// Seconds since 1970 at which the delivery was signed.
pub(super) const TIMESTAMP_HEADER: HeaderName = HeaderName::from_static("x-chaperone-timestamp");
/// `v1=` and the HMAC-SHA-256 in hexadecimal.
pub(super) const SIGNATURE_HEADER: HeaderName = HeaderName::from_static("x-chaperone-signature");

/// `POST /ehr-events/{source}`.
pub(super) async fn receive(
    State(gateway): State<GatewayState>,
    at: Asked,
    source: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response<Body> {
    // A name that cannot be read is the name of no source.
    let source = source.map_or_else(|_| String::new(), |Path(source)| source);
    let (parts, body) = request.into_parts();
    let read = async {
        if parts.uri.query().is_some() {
            return Err(refusal::unexpected_query());
        }
        if !body::is_media_type(&parts.headers, "application/json") {
            return Err(refusal::unsupported_media_type("application/json"));
        }
        body::read(&parts.headers, body, NOTIFICATION_BYTES_MAX).await
    };
    let bytes = match read.await {
        Ok(bytes) => bytes,
        Err(error) => return gateway.refuse(&at, None, error).await,
    };
    let delivery = Delivery {
        source: &source,
        timestamp: only(&parts.headers, &TIMESTAMP_HEADER),
        signature: only(&parts.headers, &SIGNATURE_HEADER),
        body: &bytes,
    };
    match gateway
        .engine
        .authenticate_event(delivery, at.correlation)
        .await
    {
        Ok(from) => match take(&gateway, &at, &from, &bytes).await {
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

/// A header that was sent once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    if all.next().is_some() {
        return None;
    }
    first.to_str().ok()
}

/// The texts of the parser would repeat what was sent, which is about a patient: none of them is used.
fn parse(bytes: &[u8]) -> Result<Notification, CallError> {
    let value = strict_json::parse(bytes).map_err(refusal::malformed)?;
    if !value.is_object() {
        return Err(refusal::not_an_object());
    }
    serde_json::from_value(value).map_err(|_| CallError::event_malformed())
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

    #[test]
    fn a_header_that_comes_twice_counts_as_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(only(&headers, &SIGNATURE_HEADER), None);
        headers.append(SIGNATURE_HEADER, "v1=a".parse().unwrap());
        assert_eq!(only(&headers, &SIGNATURE_HEADER), Some("v1=a"));
        headers.append(SIGNATURE_HEADER, "v1=a".parse().unwrap());
        assert_eq!(only(&headers, &SIGNATURE_HEADER), None);
    }
}
