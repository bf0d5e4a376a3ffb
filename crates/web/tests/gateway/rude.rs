//! A use case that hangs or panics: what the agent is told, and that nobody else waits for it.

use std::sync::Arc;

use async_trait::async_trait;
use chaperone_core::ports::{ConsentDecision, ConsentHook, ConsentQuestion};
use chaperone_web::gateway::GatewayLimits;
use serde_json::json;
use tower::ServiceExt as _;

use crate::house::*;

/// Never answers.
struct Hanging;

#[async_trait]
impl ConsentHook for Hanging {
    async fn decide(&self, _question: ConsentQuestion) -> ConsentDecision {
        std::future::pending().await
    }
}

/// Breaks, with text that nobody may see.
struct Panicking;

#[async_trait]
impl ConsentHook for Panicking {
    async fn decide(&self, _question: ConsentQuestion) -> ConsentDecision {
        panic!("Canary")
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_without_its_text() {
    let house = House::with(GatewayLimits::default(), Arc::new(Panicking)).await;
    let token = house
        .token(SCHEDULER, "schedule-appointment", Some("a"))
        .await;
    let asked = house
        .send(rest(&token, "list_appointments", &json!({})))
        .await;
    assert_eq!((asked.status, asked.code()), (500, "internal"));
    let called = house
        .send(mcp_call(&token, "list_appointments", &json!({})))
        .await;
    assert_eq!((called.status, called.code()), (200, "internal"));
    for answer in [asked, called] {
        assert!(answer.correlation().starts_with("req_"));
        assert!(!answer.body.to_string().contains("Canary"));
    }
    assert_eq!(house.send(get(&token, "/v1/tools")).await.status, 200);
}

#[tokio::test]
async fn a_request_that_hangs_is_given_up() {
    let limits = GatewayLimits {
        request_timeout_ms: 20,
        ..GatewayLimits::default()
    };
    let house = House::with(limits, Arc::new(Hanging)).await;
    // Nothing else of this test may take the time that is allowed, so the way there is the engine's own.
    let token = patiently(&house).await;
    for request in [
        rest(&token, "list_appointments", &json!({})),
        mcp_call(&token, "list_appointments", &json!({})),
    ] {
        let answer = house.send(request).await;
        assert_eq!((answer.status, answer.code()), (504, "timed-out"));
        assert_eq!(answer.header("retry-after"), "5");
    }
}

async fn patiently(house: &House) -> String {
    let grant = house.grant(SCHEDULER, "schedule-appointment", "a").await;
    let details = json!([{"type": "chaperone_context", "grant": grant}]).to_string();
    let request = chaperone_engine::open_envelope::TokenRequest {
        assertion: &house.assertion(SCHEDULER),
        scope: "intent/schedule-appointment",
        authorization_details: Some(&details),
        correlation: house.engine.correlation(),
    };
    house
        .engine
        .open_envelope(request)
        .await
        .unwrap()
        .access_token
}

#[tokio::test]
async fn when_every_place_is_taken_others_are_turned_away_at_once() {
    let limits = GatewayLimits {
        concurrent_max: 1,
        ..GatewayLimits::default()
    };
    let house = House::with(limits, Arc::new(Hanging)).await;
    let token = house
        .token(SCHEDULER, "schedule-appointment", Some("a"))
        .await;
    let hanging = rest(&token, "list_appointments", &json!({}));
    let mut asking = Box::pin(house.router.clone().oneshot(hanging));
    assert!(futures::poll!(&mut asking).is_pending());
    let answer = house.send(get(&token, "/v1/tools")).await;
    assert_eq!((answer.status, answer.code()), (503, "busy"));
    assert_eq!(answer.header("retry-after"), "1");
}
