//! `/cds-services`: an EHR asks for a card when a patient is opened, and is told how many proposals wait.
//!
//! Here stands the form: discovery, one bearer token, a small body, and the card. Who asks, for whom, and whether there
//! is anything to say is decided in `chaperone_engine::launch::card`. No answer opens itself to pages of other sites: an
//! EHR asks from its server.
//!
//! # Source
//! HL7 CDS Hooks 2.0: "Discovery", "Calling a CDS Service" and `patient-view` 1.0.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use chaperone_core::phi::Phi;
use chaperone_engine::CallError;
use chaperone_engine::launch::card::{CARD_SERVICE, CardAsked, WaitingCard};
use serde_json::{Map, Value, json};

use super::bearer::bearer;
use super::body::read_object;
use super::refusal::{self, json_response};
use super::{Asked, GatewayState};

/// `GET /cds-services`.
pub(super) async fn discover(State(gateway): State<GatewayState>, at: Asked) -> Response<Body> {
    if !gateway.engine.offers_cards() {
        return gateway.answer(&at, &refusal::unknown_route());
    }
    json_response(
        StatusCode::OK,
        &json!({ "services": [{
            "hook": "patient-view",
            "id": CARD_SERVICE,
            "title": "Proposals that wait",
            "description": "How many proposals of AI agents about this patient wait for the person who opened the record.",
        }] }),
    )
}

/// `POST /cds-services/{id}`.
pub(super) async fn call(
    State(gateway): State<GatewayState>,
    at: Asked,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let is_ours = id.is_ok_and(|Path(id)| id == CARD_SERVICE);
    if !is_ours || !gateway.engine.offers_cards() {
        return gateway.answer(&at, &refusal::unknown_route());
    }
    match answer(&gateway, request).await {
        Ok(card) => json_response(StatusCode::OK, &card),
        Err(error) => gateway.refuse(&at, None, error).await,
    }
}

async fn answer(gateway: &GatewayState, request: Request) -> Result<Value, CallError> {
    let (parts, body) = request.into_parts();
    if parts.uri.query().is_some() {
        return Err(refusal::unexpected_query());
    }
    // Before the body is read: it is about a patient.
    let asker = gateway.engine.card_asker(bearer(&parts.headers)).await?;
    let (body, _) = read_object(&parts.headers, body).await?;
    let asked = parse(&body)?;
    let card = gateway.engine.waiting_card(asker, &asked).await?;
    let cards: Vec<Value> = card
        .iter()
        .map(|card| shown(card, &gateway.urls.base))
        .collect();
    Ok(json!({ "cards": cards }))
}

fn shown(card: &WaitingCard, base: &str) -> Value {
    let waits = match card.count {
        1 => "1 proposal waits for you about this patient".to_owned(),
        count => format!("{count} proposals wait for you about this patient"),
    };
    let mut link = json!({
        "label": "Open in Chaperone",
        "type": "smart",
        "url": format!("{base}/console/launch"),
    });
    if let (Some(link), Some(writeback)) = (link.as_object_mut(), card.writeback) {
        link.insert("appContext".to_owned(), json!(writeback));
    }
    json!({
        "summary": waits,
        "indicator": "info",
        "source": { "label": "Chaperone" },
        "links": [link],
    })
}

/// What else an EHR sends, such as access to itself (`fhirAuthorization`), is left where it is. No text of it is
/// repeated.
fn parse(body: &Map<String, Value>) -> Result<CardAsked, CallError> {
    let wrong = |field: &str| {
        CallError::invalid_argument()
            .about(field)
            .saying("send a `patient-view` request as CDS Hooks 2.0 has it")
    };
    if body.get("hook").and_then(Value::as_str) != Some("patient-view") {
        return Err(wrong("hook"));
    }
    let text = |name: &str| {
        let value = body.get("context").and_then(|context| context.get(name));
        value.and_then(Value::as_str).map(str::to_owned)
    };
    let server = match body.get("fhirServer") {
        None => None,
        Some(Value::String(server)) => Some(server.clone()),
        Some(_) => return Err(wrong("fhirServer")),
    };
    Ok(CardAsked {
        server,
        user: text("userId").ok_or_else(|| wrong("context.userId"))?,
        patient: Phi::new(text("patientId").ok_or_else(|| wrong("context.patientId"))?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_strictly_and_never_repeated() {
        let read = |body: Value| {
            let Value::Object(body) = body else { panic!() };
            parse(&body)
                .map(|_| ())
                .map_err(|error| error.body("c").to_string())
        };
        let context = json!({ "userId": "Practitioner/1", "patientId": "CANARY-1" });
        let good = json!({ "hook": "patient-view", "hookInstance": "x", "context": context });
        assert_eq!(read(good), Ok(()));
        for bad in [
            json!({ "hook": "order-sign", "context": context }),
            json!({ "context": context }),
            json!({ "hook": "patient-view", "context": { "patientId": "CANARY-1" } }),
            json!({ "hook": "patient-view", "context": { "userId": "CANARY-1" } }),
            json!({ "hook": "patient-view", "context": { "userId": 1, "patientId": "CANARY-1" } }),
            json!({ "hook": "patient-view", "context": context, "fhirServer": ["CANARY-1"] }),
        ] {
            let said = read(bad).unwrap_err();
            assert!(
                said.contains("invalid-argument") && !said.contains("CANARY"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_card_says_how_many_and_nothing_of_whom() {
        let id = "wb_01010101010101010101010101010101".parse().unwrap();
        let one = shown(
            &WaitingCard {
                count: 1,
                writeback: Some(id),
            },
            "https://c.example",
        );
        assert_eq!(one["links"][0]["appContext"], json!(id));
        let three = shown(
            &WaitingCard {
                count: 3,
                writeback: None,
            },
            "https://c.example",
        );
        assert_eq!(
            three,
            json!({
                "summary": "3 proposals wait for you about this patient",
                "indicator": "info",
                "source": { "label": "Chaperone" },
                "links": [{
                    "label": "Open in Chaperone", "type": "smart",
                    "url": "https://c.example/console/launch",
                }],
            })
        );
    }
}
