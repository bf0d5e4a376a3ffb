//! A system announces an event of the EHR, and the agent it is for finds its grant. Beside it, everything that
//! must be refused, each with status, code and ledger entry.

use axum::body::Body;
use axum::http::Request;
use chaperone_core::event::Event;
use chaperone_core::ids::{AccountName, GrantId, IntentId, PersonId};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::ports::Clock as _;
use chaperone_core::principal::{Human, Role};
use chaperone_web::gateway::{GatewayLimits, Rate};
use serde_json::{Value, json};

use crate::house::*;

const HERE: &str = "/ehr-events/integration";

fn booked(house: &House, id: &str, patient: &str) -> Value {
    json!({
        "id": id, "type": "appointment-booked", "occurred": house.clock.now().to_string(),
        "resource": format!("Appointment/appt-{patient}"), "patient": format!("Patient/{patient}"),
    })
}

fn sent(house: &House, body: &str) -> Request<Body> {
    sent_at(house, HERE, EVENT_SECRET, 0, body)
}

async fn waiting(house: &House, agent: &str) -> Vec<Value> {
    let token = house.token(agent, "collect", None).await;
    let answer = house.send(get(&token, "/v1/grants")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert!(answer.body["poll_after"].is_u64());
    answer.body["grants"].as_array().unwrap().clone()
}

async fn issued(house: &House) -> usize {
    let is_grant = |event: &Event| matches!(event, Event::GrantIssued(_));
    let ledger = house.ledger().await;
    ledger.iter().filter(|r| is_grant(&r.event)).count()
}

#[tokio::test]
async fn an_event_opens_one_envelope_of_its_agent_for_its_intent_and_patient() {
    let house = House::new().await;
    let body = booked(&house, "CANARY-EVENT-1", "a").to_string();
    let answer = house.send(sent(&house, &body)).await;
    assert_eq!(
        (answer.status, &answer.body),
        (202, &json!({ "state": "accepted" }))
    );
    assert!(answer.correlation().starts_with("req_"));
    // Sent again, by its source's earlier secret even: the same answer, and no second grant.
    let again = sent_at(&house, HERE, EVENT_SECRET_BEFORE, 5, &body);
    let answer = house.send(again).await;
    assert_eq!(
        (answer.status, &answer.body),
        (202, &json!({ "state": "accepted" }))
    );
    assert_eq!(issued(&house).await, 1);

    // The agent finds it, as often as it looks; the nearest other agent finds nothing.
    assert!(waiting(&house, SCHEDULER).await.is_empty());
    let found = waiting(&house, INTAKE).await;
    assert_eq!(waiting(&house, INTAKE).await, found);
    let [found] = <[Value; 1]>::try_from(found).unwrap();
    assert_eq!(found["intent"], "intake");
    assert_eq!(found["event"], "appointment-booked");
    assert!(found["work_item"].as_str().unwrap().starts_with("res_"));
    assert!(!found.to_string().contains("CANARY") && !found.to_string().contains("appt-"));

    let grant: GrantId = found["grant"].as_str().unwrap().parse().unwrap();
    let open =
        |agent: &str, intent: &str| token_request(&house.assertion(agent), intent, Some(&grant));
    for (agent, intent) in [
        (SCHEDULER, "schedule-appointment"),
        (SCRIBE, "chart-summary"),
    ] {
        let answer = house.send(open(agent, intent)).await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, "invalid-grant"),
            "{agent}"
        );
    }
    let opened = house.send(open(INTAKE, "intake")).await;
    assert_eq!(opened.status, 200, "{:?}", opened.body);
    let token = opened.body["access_token"].as_str().unwrap();
    let read = house
        .send(rest(token, "list_appointments", &json!({})))
        .await;
    assert_eq!(read.status, 200, "{:?}", read.body);
    // The patient's own appointment, which is the one that the event named; the other patient's is not there.
    let shown: Vec<&Value> = read.body["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|resource| &resource["id"])
        .collect();
    assert_eq!(shown, [&found["work_item"]]);
    // Used, it is listed no more, and opens nothing more.
    assert!(waiting(&house, INTAKE).await.is_empty());
    let answer = house.send(open(INTAKE, "intake")).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid-grant"));

    let ledger = serde_json::to_string(&house.ledger().await).unwrap();
    for said in ["CANARY", "appt-", "Patient/a"] {
        assert!(!ledger.contains(said), "{said}");
    }
}

#[tokio::test]
async fn an_event_that_is_not_rightly_signed_and_well_formed_causes_nothing() {
    let house = House::new().await;
    let event = booked(&house, "CANARY-EVENT-1", "a");
    let body = event.to_string();
    let now = house.clock.now().as_second().to_string();
    let right = signature(EVENT_SECRET, &now, &body);
    let headers = |timestamp: &'static str, signature: &'static str, value: &str| {
        with_headers(HERE, &body, &[(timestamp, &now), (signature, value)])
    };
    const AT: &str = "x-chaperone-timestamp";
    const BY: &str = "x-chaperone-signature";
    let other_body = booked(&house, "CANARY-EVENT-1", "b").to_string();
    let mut with_agent = event.clone();
    with_agent["agent"] = json!("order-agent");
    let twice = body.replacen('{', "{\"id\":\"CANARY-0\",", 1);
    let mut unlisted = event.clone();
    unlisted["type"] = json!("canary-type");
    let mut claims_another = event.clone();
    claims_another["patient"] = json!("Patient/b");
    let mut elsewhere = sent(&house, &body);
    *elsewhere.uri_mut() = format!("{HERE}?patient=CANARY").parse().unwrap();
    let mut plain = sent(&house, &body);
    plain
        .headers_mut()
        .insert("content-type", "text/plain".parse().unwrap());
    let large = format!("{body}{}", " ".repeat(8 * 1024));
    let cases = [
        (
            "no signature",
            json_post(HERE, None, body.clone()),
            401,
            "signature-refused",
        ),
        (
            "no timestamp",
            with_headers(HERE, &body, &[(BY, &right)]),
            401,
            "signature-refused",
        ),
        (
            "forged",
            headers(AT, BY, &format!("v1={}", "0".repeat(64))),
            401,
            "signature-refused",
        ),
        (
            "cut short",
            headers(AT, BY, &right[..66]),
            401,
            "signature-refused",
        ),
        (
            "signed twice",
            with_headers(HERE, &body, &[(AT, &now), (BY, &right), (BY, &right)]),
            401,
            "signature-refused",
        ),
        (
            "over another body",
            with_headers(HERE, &other_body, &[(AT, &now), (BY, &right)]),
            401,
            "signature-refused",
        ),
        (
            "by an unknown secret",
            sent_at(&house, HERE, &[1; 32], 0, &body),
            401,
            "signature-refused",
        ),
        (
            "by another source",
            sent_at(&house, "/ehr-events/lab", EVENT_SECRET, 0, &body),
            401,
            "signature-refused",
        ),
        (
            "by nobody known",
            sent_at(&house, "/ehr-events/nobody", EVENT_SECRET, 0, &body),
            401,
            "signature-refused",
        ),
        (
            "by no name",
            sent_at(&house, "/ehr-events/%ff", EVENT_SECRET, 0, &body),
            401,
            "signature-refused",
        ),
        (
            "stale",
            sent_at(&house, HERE, EVENT_SECRET, -301, &body),
            401,
            "timestamp-refused",
        ),
        (
            "from the future",
            sent_at(&house, HERE, EVENT_SECRET, 301, &body),
            401,
            "timestamp-refused",
        ),
        ("too large", sent(&house, &large), 413, "body-too-large"),
        ("in text", plain, 415, "unsupported-media-type"),
        ("in the address", elsewhere, 400, "unexpected-query"),
        (
            "another key",
            sent(&house, &with_agent.to_string()),
            422,
            "invalid-argument",
        ),
        ("a key twice", sent(&house, &twice), 400, "malformed"),
        ("no object", sent(&house, "[]"), 400, "invalid-request"),
        ("no JSON", sent(&house, "CANARY"), 400, "malformed"),
        (
            "not listed",
            sent(&house, &unlisted.to_string()),
            422,
            "event-unlisted",
        ),
    ];
    for (what, request, status, code) in cases {
        let answer = house.send(request).await;
        assert_eq!(
            (answer.status, answer.code()),
            (status, code),
            "{what}: {:?}",
            answer.body
        );
        assert_eq!(answer.body["correlation"], answer.correlation());
        let recorded = house.recorded_refusal(answer.correlation()).await;
        assert_eq!(recorded.as_deref(), Some(code), "{what}: not in the ledger");
        let said = answer.body.to_string();
        assert!(!said.to_lowercase().contains("canary"), "{what}: {said}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(
            challenge.starts_with("Chaperone-Signature"),
            status == 401,
            "{what}"
        );
    }
    let answer = house.send(sent(&house, &claims_another.to_string())).await;
    assert_eq!((answer.status, answer.code()), (404, "event-unconfirmed"));
    assert_eq!(answer.header("retry-after"), "60");
    let recorded = house.recorded_refusal(answer.correlation()).await;
    assert_eq!(recorded.as_deref(), Some("other-patient"));
    for method in ["GET", "PUT", "DELETE"] {
        let answer = house.send(bare(method, None, HERE)).await;
        assert_eq!((answer.status, answer.code()), (405, "method-not-allowed"));
    }
    assert_eq!(issued(&house).await, 0);
    assert!(waiting(&house, INTAKE).await.is_empty());

    // None of them has used up the id, and the permitted neighbour of all of them is taken.
    assert_eq!(house.send(sent(&house, &body)).await.status, 202);
    let answer = house.send(sent(&house, &other_body)).await;
    assert_eq!((answer.status, answer.code()), (409, "event-conflict"));
    assert_eq!(issued(&house).await, 1);
}

#[tokio::test]
async fn grants_are_listed_for_their_agent_in_an_envelope_that_only_lists() {
    let house = House::new().await;
    house
        .send(sent(&house, &booked(&house, "1", "a").to_string()))
        .await;
    // Neither an envelope for work nor a dispatcher's lists grants, and one that lists does nothing else.
    let working = house.token(INTAKE, "intake", Some("b")).await;
    let dispatching = house.token(DISPATCHER, "dispatch", None).await;
    for token in [&working, &dispatching] {
        let answer = house.send(get(token, "/v1/grants")).await;
        assert_eq!((answer.status, answer.code()), (403, "denied"));
        let recorded = house.recorded_refusal(answer.correlation()).await;
        assert_eq!(recorded.as_deref(), Some("denied"));
    }
    let collecting = house.token(INTAKE, "collect", None).await;
    let listed = house.send(get(&collecting, "/v1/tools")).await;
    assert_eq!(listed.body["tools"], json!([]));
    let answer = house
        .send(rest(&collecting, "list_appointments", &json!({})))
        .await;
    assert_eq!((answer.status, answer.code()), (404, "unknown-tool"));
    let dispatch = json!({ "agent": SCHEDULER, "intent": "schedule-appointment",
        "patient": { "system": "urn:example:mrn", "value": "CANARY-MRN-a" } });
    let answer = house
        .send(json_post(
            "/v1/grants",
            Some(&collecting),
            dispatch.to_string(),
        ))
        .await;
    assert_eq!((answer.status, answer.code()), (403, "denied"));
    // Who opens no intents has nothing to collect; a grant opens no such envelope.
    let request = token_request(&house.assertion(DISPATCHER), "collect", None);
    let answer = house.send(request).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid-scope"));
    let grant = house.grant(INTAKE, "intake", "a").await;
    let request = token_request(&house.assertion(INTAKE), "collect", Some(&grant));
    let answer = house.send(request).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid-grant"));
    // What has expired waits no more.
    assert!(!waiting(&house, INTAKE).await.is_empty());
    house.clock.advance_s(14_400);
    assert!(waiting(&house, INTAKE).await.is_empty());
}

#[tokio::test]
async fn what_a_person_assigned_waits_and_what_a_dispatcher_made_or_nobody_could_use_does_not() {
    let house = House::new().await;
    let assigned = house.grant(SCHEDULER, "schedule-appointment", "a").await;
    let dispatch = json!({ "agent": SCHEDULER, "intent": "schedule-appointment",
        "patient": { "system": "urn:example:mrn", "value": "CANARY-MRN-b" } });
    let token = house.token(DISPATCHER, "dispatch", None).await;
    let request = json_post("/v1/grants", Some(&token), dispatch.to_string());
    let handed_over = house.send(request).await;
    assert_eq!(handed_over.status, 201, "{:?}", handed_over.body);
    let listed = async || {
        let waiting = waiting(&house, SCHEDULER).await;
        let grants = waiting.iter().map(|it| it["grant"].clone());
        grants.collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [json!(assigned.to_string())]);
    let operator = Human {
        account: AccountName::new("operator").unwrap(),
        person: PersonId::from_random([8; 16]),
        roles: vec![Role::ItAdmin],
    };
    let intent = |name: &str| ModeScope::Intent(IntentId::new(name).unwrap());
    let switch = async |name: &str, mode: Mode| {
        let switched = house
            .engine
            .switch_mode(&operator, intent(name), mode, "a drill");
        switched.await.unwrap();
    };
    switch("schedule-appointment", Mode::Halted).await;
    assert_eq!(listed().await, [] as [Value; 0]);
    switch("schedule-appointment", Mode::ReadOnly).await;
    switch("intake", Mode::Halted).await;
    assert_eq!(listed().await, [json!(assigned.to_string())]);
}

#[tokio::test]
async fn a_source_that_sends_too_often_is_told_to_wait() {
    let narrow = GatewayLimits {
        source: Rate::new(1, 2),
        ..GatewayLimits::default()
    };
    let house = House::with_limits(narrow).await;
    let body = booked(&house, "1", "a").to_string();
    for _ in 0..2 {
        assert_eq!(house.send(sent(&house, &body)).await.status, 202);
    }
    let refused = house.send(sent(&house, &body)).await;
    assert_eq!((refused.status, refused.code()), (429, "rate-limited"));
    assert!((1..=60).contains(&refused.header("retry-after").parse::<u32>().unwrap()));
    let recorded = house.recorded_refusal(refused.correlation()).await;
    assert_eq!(recorded.as_deref(), Some("rate-limited"));
    // Who is nobody known uses up nobody's share.
    let house = House::with_limits(narrow).await;
    for _ in 0..5 {
        let forged = sent_at(&house, HERE, &[1; 32], 0, &body);
        assert_eq!(house.send(forged).await.status, 401);
    }
    assert_eq!(house.send(sent(&house, &body)).await.status, 202);
}
