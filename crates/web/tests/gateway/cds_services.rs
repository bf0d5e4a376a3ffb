//! An EHR asks for a card: the form of question and answer, who is heard, and that nothing is opened to pages of other
//! sites. What a card says, and to whom, is with the engine's tests.

use axum::body::Body;
use axum::http::Request;
use chaperone_core::ports::Clock as _;
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};

use crate::house::*;

const HERE: &str = "/cds-services/waiting-proposals";

fn token(house: &House, changes: &Value) -> String {
    let now = house.clock.now().as_second();
    let mut claims = json!({
        "iss": EHR_ISSUER, "aud": format!("{BASE}{HERE}"), "iat": now, "exp": now + 300,
        "jti": format!("jti-{}", house.next()),
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let mut header = Header::new(Algorithm::ES384);
    header.kid = Some("k1".to_owned());
    jsonwebtoken::encode(&header, &claims, &CARD_KEY.0).unwrap()
}

fn question() -> Value {
    json!({
        "hook": "patient-view", "hookInstance": "8e9f1c1a-1f6e-4b6e-9d5f-2f1d2c3b4a59",
        "fhirServer": "http://ehr.test/fhir",
        "fhirAuthorization": { "access_token": "CANARY-TOKEN", "token_type": "Bearer" },
        "context": { "userId": "Practitioner/CANARY-1", "patientId": "a" },
        "prefetch": { "patient": { "resourceType": "Patient", "id": "a" } },
    })
}

fn ask(token: Option<&str>, body: &Value) -> Request<Body> {
    json_post(HERE, token, body.to_string())
}

#[tokio::test]
async fn the_service_is_described_and_answers_whoever_signs() {
    let house = House::new().await;
    let described = house.send(bare("GET", None, "/cds-services")).await;
    assert_eq!(described.status, 200);
    let service = &described.body["services"][0];
    assert_eq!(
        (&service["hook"], &service["id"]),
        (&json!("patient-view"), &json!("waiting-proposals"))
    );
    assert!(service.get("prefetch").is_none());

    let good = token(&house, &json!({}));
    let answer = house.send(ask(Some(&good), &question())).await;
    // Nobody is linked to this user: no card, as for anybody whom nothing waits for.
    assert_eq!(
        (answer.status, &answer.body),
        (200, &json!({ "cards": [] }))
    );
    let again = house.send(ask(Some(&good), &question())).await;
    assert_eq!((again.status, again.code()), (401, "invalid-client"));
    assert_eq!(
        house.recorded_refusal(again.correlation()).await.as_deref(),
        Some("invalid-client")
    );
}

#[tokio::test]
async fn a_question_that_is_not_signed_or_not_of_the_form_gets_no_answer() {
    let house = House::new().await;
    let agent = house.assertion(SCHEDULER);
    for token in [
        None,
        Some("x".to_owned()),
        // An agent's word is no EHR's, whatever it is signed with.
        Some(agent),
        Some(token(&house, &json!({ "iss": "https://ehr.evil" }))),
        Some(token(&house, &json!({ "aud": BASE }))),
    ] {
        let answer = house.send(ask(token.as_deref(), &question())).await;
        assert_eq!((answer.status, answer.code()), (401, "invalid-client"));
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        assert!(!answer.body.to_string().contains("CANARY"));
    }
    let with = |name: &str, value: Value| {
        let mut body = question();
        body[name] = value;
        body
    };
    for (body, status) in [
        (with("hook", json!("order-sign")), 422),
        (with("context", json!({ "patientId": "CANARY-2" })), 422),
        (with("fhirServer", json!("https://ehr.evil/CANARY-3")), 422),
        (json!(["CANARY-4"]), 400),
    ] {
        let token = token(&house, &json!({}));
        let answer = house.send(ask(Some(&token), &body)).await;
        assert_eq!(answer.status, status, "{body}");
        assert!(!answer.body.to_string().contains("CANARY"), "{body}");
    }
    for path in ["/cds-services/other", "/cds-services/%ff"] {
        let token = token(&house, &json!({}));
        let other = json_post(path, Some(&token), question().to_string());
        assert_eq!(house.send(other).await.status, 404, "{path}");
    }
    // Where nobody may ask, there is nothing at these addresses.
    let without = House::without_cards().await;
    let described = without.send(bare("GET", None, "/cds-services")).await;
    assert_eq!(described.status, 404);
    let token = token(&without, &json!({}));
    let answer = without.send(ask(Some(&token), &question())).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn no_page_of_another_site_is_let_in() {
    let house = House::new().await;
    let mut question = ask(Some(&token(&house, &json!({}))), &question());
    let mut described = bare("GET", None, "/cds-services");
    let mut preflight = bare("OPTIONS", None, HERE);
    for request in [&mut question, &mut described, &mut preflight] {
        let headers = request.headers_mut();
        headers.insert("origin", "https://ehr.test".parse().unwrap());
        headers.insert("access-control-request-method", "POST".parse().unwrap());
    }
    for (request, status) in [(question, 200), (described, 200), (preflight, 405)] {
        let answer = house.send(request).await;
        assert_eq!(answer.status, status);
        let mut names = answer.headers.keys();
        assert!(!names.any(|name| name.as_str().starts_with("access-control")));
    }
}
