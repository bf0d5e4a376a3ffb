//! The tools over REST, and what stands around every answer.

use chaperone_web::gateway::{GatewayLimits, Rate};
use serde_json::json;

use crate::house::*;

#[tokio::test]
async fn a_proposal_is_made_once_and_asked_for_later() {
    let house = House::new().await;
    let token = house
        .token(SCHEDULER, "schedule-appointment", Some("a"))
        .await;
    let listed = house.send(get(&token, "/v1/tools")).await;
    let names: Vec<&str> = listed.body["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"create_task") && !names.contains(&"list_problems"),
        "{names:?}"
    );

    let task = json!({"summary": "call back", "pool": "nursing"});
    let ask = |key: &str, body: &serde_json::Value| {
        let mut request = rest(&token, "create_task", body);
        request
            .headers_mut()
            .insert("idempotency-key", key.parse().unwrap());
        request
    };
    let first = house.send(ask("k", &task)).await;
    assert_eq!(first.status, 200, "{:?}", first.body);
    let proposal = first.body["proposal"].as_str().unwrap().to_owned();
    let again = house.send(ask("k", &task)).await;
    assert_eq!(again.body["proposal"], proposal.as_str());
    let other = json!({"summary": "something else", "pool": "nursing"});
    let conflict = house.send(ask("k", &other)).await;
    assert_eq!(
        (conflict.status, conflict.code()),
        (409, "idempotency-conflict")
    );
    let keyless = house.send(rest(&token, "create_task", &task)).await;
    assert_eq!((keyless.status, keyless.code()), (422, "invalid-argument"));

    let later = house
        .token(SCHEDULER, "schedule-appointment", Some("b"))
        .await;
    let path = format!("/v1/proposals/{proposal}");
    let status = house.send(get(&later, &path)).await;
    assert_eq!(
        (status.status, &status.body["proposal"]),
        (200, &json!(proposal))
    );
    let stranger = house.token(SCRIBE, "draft-note", Some("a")).await;
    for (token, path) in [
        (&stranger, path.as_str()),
        (&later, "/v1/proposals/wb_00000000000000000000000000000000"),
        (&later, "/v1/proposals/nonsense"),
        (&later, "/v1/proposals/%ff"),
    ] {
        let answer = house.send(get(token, path)).await;
        assert_eq!((answer.status, answer.code()), (404, "not-found"), "{path}");
    }
}

#[tokio::test]
async fn a_dispatcher_puts_patients_before_the_agents_on_its_list_only() {
    let house = House::new().await;
    let token = house.token(DISPATCHER, "dispatch", None).await;
    let ask = |agent: &str, intent: &str, mrn: &str| {
        let body = json!({"agent": agent, "intent": intent,
            "patient": {"system": "urn:example:mrn", "value": mrn}});
        json_post("/v1/grants", Some(&token), body.to_string())
    };
    let issued = house
        .send(ask(SCHEDULER, "schedule-appointment", "CANARY-MRN-a"))
        .await;
    assert_eq!(issued.status, 201, "{:?}", issued.body);
    assert!(!issued.body.to_string().contains("CANARY"));
    let grant = issued.body["grant"].as_str().unwrap().parse().unwrap();
    let request = token_request(
        &house.assertion(SCHEDULER),
        "schedule-appointment",
        Some(&grant),
    );
    assert_eq!(house.send(request).await.status, 200);
    for (agent, intent, mrn, status, code) in [
        (SCRIBE, "chart-summary", "CANARY-MRN-a", 403, "denied"),
        (SCHEDULER, "find-slots", "CANARY-MRN-a", 403, "denied"),
        (
            SCHEDULER,
            "schedule-appointment",
            "CANARY-MRN-x",
            404,
            "not-found",
        ),
    ] {
        let answer = house.send(ask(agent, intent, mrn)).await;
        assert_eq!((answer.status, answer.code()), (status, code));
        assert!(house.recorded_refusal(answer.correlation()).await.is_some());
        assert!(!answer.body.to_string().contains("CANARY"));
    }
    // A dispatcher has no tools, and who is none cannot become one.
    let listed = house.send(get(&token, "/v1/tools")).await;
    assert_eq!(listed.body["tools"], json!([]));
    let request = token_request(&house.assertion(SCHEDULER), "dispatch", None);
    let answer = house.send(request).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid-scope"));
    let other = house.token(SCHEDULER, "find-slots", None).await;
    let body = json!({"agent": SCHEDULER, "intent": "schedule-appointment",
        "patient": {"system": "urn:example:mrn", "value": "CANARY-MRN-a"}});
    let answer = house
        .send(json_post("/v1/grants", Some(&other), body.to_string()))
        .await;
    assert_eq!((answer.status, answer.code()), (403, "denied"));
}

#[tokio::test]
async fn every_answer_has_our_own_correlation_id_and_a_body_in_our_shape() {
    let house = House::new().await;
    let mut inbound = bare("GET", None, "/nowhere");
    inbound
        .headers_mut()
        .insert("x-correlation-id", "req_theirs".parse().unwrap());
    for request in [
        inbound,
        bare("OPTIONS", None, "/openapi.json"),
        bare("POST", None, "/openapi.json"),
    ] {
        let answer = house.send(request).await;
        assert!(matches!(answer.status, 404 | 405), "{}", answer.status);
        assert!(answer.correlation().starts_with("req_") && answer.correlation() != "req_theirs");
        assert_eq!(answer.body["correlation"], answer.correlation());
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    let head = house.send(bare("HEAD", None, "/openapi.json")).await;
    assert_eq!((head.status, head.correlation().is_empty()), (200, false));
}

#[tokio::test]
async fn rates_are_limited_per_peer_and_per_agent() {
    let narrow = GatewayLimits {
        agent: Rate::new(1, 2),
        ..GatewayLimits::default()
    };
    let house = House::with_limits(narrow).await;
    let token = house.token(SCHEDULER, "find-slots", None).await;
    let other = house.token(SCRIBE, "chart-summary", Some("a")).await;
    for _ in 0..2 {
        assert_eq!(house.send(get(&token, "/v1/tools")).await.status, 200);
    }
    let refused = house.send(get(&token, "/v1/tools")).await;
    assert_eq!((refused.status, refused.code()), (429, "rate-limited"));
    assert!((1..=60).contains(&refused.header("retry-after").parse::<u32>().unwrap()));
    let recorded = house.recorded_refusal(refused.correlation()).await;
    assert_eq!(recorded.as_deref(), Some("rate-limited"));
    let again = house.send(get(&token, "/v1/tools")).await;
    assert_eq!(
        (
            again.status,
            house.recorded_refusal(again.correlation()).await
        ),
        (429, None)
    );
    assert_eq!(house.send(get(&other, "/v1/tools")).await.status, 200);

    let narrow = GatewayLimits {
        peer: Rate::new(1, 1),
        ..GatewayLimits::default()
    };
    let house = House::with_limits(narrow).await;
    assert_eq!(
        house.send(bare("GET", None, "/openapi.json")).await.status,
        200
    );
    let refused = house.send(bare("GET", None, "/openapi.json")).await;
    assert_eq!((refused.status, refused.code()), (429, "rate-limited"));
    assert!(!refused.header("retry-after").is_empty());
}

#[tokio::test]
async fn the_document_describes_every_tool_of_the_bundle() {
    let house = House::new().await;
    let document = house.send(bare("GET", None, "/openapi.json")).await.body;
    assert_eq!(document["openapi"], "3.1.0");
    for tool in house.engine.all_tools() {
        let operation = &document["paths"][format!("/v1/tools/{}", tool.name)]["post"];
        assert_eq!(operation["operationId"], tool.name.as_str());
    }
}
