//! Everything an agent must not get, each with status, code and ledger entry.

use axum::body::Body;
use axum::http::Request;
use chaperone_core::event::Event;
use chaperone_core::ids::{AccountName, AgentId, GrantId, IntentId, PersonId};
use chaperone_core::principal::{Human, Role};
use chaperone_engine::grant::{GrantFailed, GrantRequest, PatientRef};
use serde_json::{Value, json};

use crate::house::*;

/// Asks, and compares what was answered and recorded with what must be.
async fn check(
    house: &House,
    what: &str,
    request: Request<Body>,
    status: u16,
    code: &str,
) -> Answer {
    let answer = house.send(request).await;
    assert_eq!(
        (answer.status, answer.code()),
        (status, code),
        "{what}: {:?}",
        answer.body
    );
    let recorded = house.recorded_refusal(answer.correlation()).await;
    assert_eq!(recorded.as_deref(), Some(code), "{what}: not in the ledger");
    let said = answer.body.to_string();
    assert!(said.contains(answer.correlation()), "{what}: {said}");
    for canary in ["Canary", "CANARY", "slot-1", "appt-"] {
        assert!(!said.contains(canary), "{what}: {said}");
    }
    answer
}

#[tokio::test]
async fn who_does_not_prove_who_they_are_gets_nothing() {
    let house = House::new().await;
    let find = json!({"name": "find_slots", "arguments": window()});
    for (what, request) in [
        ("REST call", json_post("/v1/tools/find_slots", None, "{}")),
        ("REST list", bare("GET", None, "/v1/tools")),
        ("REST status", bare("GET", None, "/v1/proposals/wb_1")),
        ("grants", json_post("/v1/grants", None, "{}")),
        ("unknown address", bare("GET", None, "/v1/Patient/a")),
        ("initialize", mcp(None, "initialize", &json!({}))),
        ("tools/list", mcp(None, "tools/list", &json!({}))),
        ("tools/call", mcp(None, "tools/call", &find)),
        ("malformed MCP", mcp_raw(None, "{")),
    ] {
        let answer = check(&house, what, request, 401, "no-token").await;
        let challenge = answer.header("www-authenticate");
        assert!(
            challenge.starts_with("Bearer resource_metadata=\"https://"),
            "{challenge}"
        );
    }

    let token = house.token(SCHEDULER, "find-slots", None).await;
    let other_audience = foreign_token(&house, "https://elsewhere.example", &token);
    for (what, bad) in [
        ("nonsense", "nonsense".to_owned()),
        ("another audience", other_audience),
        ("an assertion", house.assertion(SCHEDULER)),
        ("changed", format!("{token}x")),
    ] {
        check(
            &house,
            what,
            rest(&bad, "find_slots", &window()),
            401,
            "invalid-token",
        )
        .await;
        check(
            &house,
            what,
            mcp(Some(&bad), "tools/list", &json!({})),
            401,
            "invalid-token",
        )
        .await;
    }
    assert_eq!(
        house
            .send(rest(&token, "find_slots", &window()))
            .await
            .status,
        200
    );
    house.clock.advance_s(301);
    let expired = rest(&token, "find_slots", &window());
    let answer = check(&house, "expired", expired, 401, "expired-token").await;
    assert!(
        answer
            .header("www-authenticate")
            .contains("error=\"invalid_token\"")
    );
    check(
        &house,
        "expired",
        mcp_call(&token, "find_slots", &window()),
        401,
        "expired-token",
    )
    .await;
}

/// The token with another audience, under the same signature key.
fn foreign_token(house: &House, audience: &str, token: &str) -> String {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = engine.decode(token.split('.').nth(1).unwrap()).unwrap();
    let mut claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["aud"] = json!(audience);
    let seed = chaperone_testkit::MemoryKeyVault::new(7);
    let key = futures::executor::block_on(chaperone_core::ports::KeyVault::data_key(
        &seed,
        house.engine.tenant(),
        "signing/access-token",
    ))
    .unwrap();
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    jsonwebtoken::encode(
        &header,
        &claims,
        &jsonwebtoken::EncodingKey::from_secret(key.as_slice()),
    )
    .unwrap()
}

#[tokio::test]
async fn no_assertion_but_the_agents_own_fresh_one_opens_an_envelope() {
    let house = House::new().await;
    let used = house.assertion(SCHEDULER);
    assert_eq!(
        house
            .send(token_request(&used, "find-slots", None))
            .await
            .status,
        200
    );
    let now = chaperone_core::ports::Clock::now(&*house.clock).as_second();
    for (what, assertion) in [
        ("replayed", used),
        ("unknown agent", house.assertion("nobody")),
        (
            "another agent's key",
            house.assertion_with(SCHEDULER, SCRIBE, &json!({})),
        ),
        (
            "another audience",
            house.assertion_with(
                SCHEDULER,
                SCHEDULER,
                &json!({"aud": "https://elsewhere.example"}),
            ),
        ),
        (
            "expired",
            house.assertion_with(SCHEDULER, SCHEDULER, &json!({"exp": now - 60})),
        ),
        (
            "too long",
            house.assertion_with(SCHEDULER, SCHEDULER, &json!({"exp": now + 3600})),
        ),
        (
            "for somebody else",
            house.assertion_with(SCHEDULER, SCHEDULER, &json!({"sub": SCRIBE})),
        ),
        ("nonsense", "a.b.c".to_owned()),
    ] {
        let request = token_request(&assertion, "find-slots", None);
        let answer = check(&house, what, request, 401, "invalid-client").await;
        assert_eq!(answer.body["error"], "invalid_client", "{what}");
    }
    for intent in [
        "chart-summary",
        "no-such-intent",
        "find-slots intent/schedule-appointment",
    ] {
        let request = token_request(&house.assertion(SCHEDULER), intent, None);
        let answer = check(&house, intent, request, 400, "invalid-scope").await;
        assert_eq!(answer.body["error"], "invalid_scope");
    }
}

#[tokio::test]
async fn a_grant_opens_one_envelope_of_one_agent_for_one_intent() {
    let house = House::new().await;
    let grant = house.grant(SCHEDULER, "schedule-appointment", "a").await;
    let forged = GrantId::from_random([3; 16]);
    let foreign = house.grant(SCRIBE, "chart-summary", "a").await;
    let ask = |grant: Option<GrantId>| {
        token_request(
            &house.assertion(SCHEDULER),
            "schedule-appointment",
            grant.as_ref(),
        )
    };
    check(&house, "forged", ask(Some(forged)), 400, "invalid-grant").await;
    check(
        &house,
        "another agent's",
        ask(Some(foreign)),
        400,
        "invalid-grant",
    )
    .await;
    check(&house, "none", ask(None), 400, "invalid-grant").await;
    let patient_free = token_request(&house.assertion(SCHEDULER), "find-slots", Some(&grant));
    check(
        &house,
        "for a patient-free intent",
        patient_free,
        400,
        "invalid-grant",
    )
    .await;
    let other_intent = token_request(&house.assertion(SCRIBE), "draft-note", Some(&foreign));
    check(
        &house,
        "another intent's",
        other_intent,
        400,
        "invalid-grant",
    )
    .await;
    assert_eq!(house.send(ask(Some(grant))).await.status, 200);
    check(&house, "reused", ask(Some(grant)), 400, "invalid-grant").await;
    let late = house.grant(SCHEDULER, "schedule-appointment", "a").await;
    house.clock.advance_s(3600);
    check(&house, "too late", ask(Some(late)), 400, "invalid-grant").await;
}

#[tokio::test]
async fn a_call_reaches_only_its_tools_its_arguments_and_its_patient() {
    let house = House::new().await;
    let token = house
        .token(SCHEDULER, "schedule-appointment", Some("a"))
        .await;
    let other = house
        .token(SCHEDULER, "schedule-appointment", Some("b"))
        .await;

    // Tools outside the envelope, tools that nobody has, types that nobody reads, and deletion.
    for tool in [
        "list_problems",
        "read_coverage",
        "delete_appointment",
        "Patient",
    ] {
        check(
            &house,
            tool,
            rest(&token, tool, &json!({})),
            404,
            "unknown-tool",
        )
        .await;
        let answer = check(
            &house,
            tool,
            mcp_call(&token, tool, &json!({})),
            200,
            "unknown-tool",
        )
        .await;
        assert_eq!(answer.body["result"]["isError"], true);
    }
    check(
        &house,
        "unlisted type",
        get(&token, "/v1/Coverage"),
        404,
        "not-found",
    )
    .await;
    for path in [
        "/v1/tools/cancel_appointment",
        "/v1/proposals/wb_1",
        "/v1/tools",
        "/v1/grants",
        "/mcp",
    ] {
        let answer = check(
            &house,
            path,
            bare("DELETE", Some(&token), path),
            405,
            "method-not-allowed",
        )
        .await;
        assert!(!answer.header("allow").is_empty() && !answer.header("allow").contains("DELETE"));
    }

    // Arguments that are not declared, and members that no message has.
    let mut with_patient = window();
    with_patient["patient"] = json!("CANARY-b");
    check(
        &house,
        "undeclared",
        rest(&token, "find_slots", &with_patient),
        422,
        "undeclared-argument",
    )
    .await;
    check(
        &house,
        "undeclared",
        mcp_call(&token, "find_slots", &with_patient),
        200,
        "undeclared-argument",
    )
    .await;
    let extra = json!({"name": "find_slots", "arguments": window(), "patient": "CANARY-b"});
    check(
        &house,
        "extra field",
        mcp(Some(&token), "tools/call", &extra),
        422,
        "undeclared-argument",
    )
    .await;
    let twice = r#"{"count": 1, "count": 2}"#;
    let request = json_post("/v1/tools/list_appointments", Some(&token), twice);
    check(&house, "duplicate key", request, 400, "malformed").await;
    let message = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}"#;
    check(
        &house,
        "duplicate key",
        mcp_raw(Some(&token), message),
        400,
        "malformed",
    )
    .await;
    check(
        &house,
        "query",
        get(&token, "/v1/tools?patient=b"),
        400,
        "unexpected-query",
    )
    .await;

    // Another patient's appointment, by a token that is good elsewhere.
    let listed = house
        .send(rest(&other, "list_appointments", &json!({})))
        .await;
    let foreign = resource_token(&listed.body);
    let cancel = json!({"appointment": foreign, "idempotency_key": "k1"});
    check(
        &house,
        "another patient",
        rest(&token, "cancel_appointment", &cancel),
        404,
        "not-found",
    )
    .await;
    check(
        &house,
        "another patient",
        mcp_call(&token, "cancel_appointment", &cancel),
        200,
        "not-found",
    )
    .await;
    assert_eq!(house.ehr.written(), Vec::new());

    // A page of another origin.
    let mut request = rest(&token, "find_slots", &window());
    request
        .headers_mut()
        .insert("origin", "https://evil.example".parse().unwrap());
    check(&house, "origin", request, 403, "origin-refused").await;
}

fn resource_token(body: &Value) -> String {
    let text = body.to_string();
    let at = text
        .find("res_")
        .unwrap_or_else(|| panic!("no token in {text}"));
    text[at..at + 36].to_owned()
}

#[tokio::test]
async fn what_is_too_large_is_not_read() {
    let house = House::new().await;
    let token = house.token(SCHEDULER, "find-slots", None).await;
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(256 * 1024));
    let request = json_post("/v1/tools/find_slots", Some(&token), large.clone());
    check(&house, "REST", request, 413, "body-too-large").await;
    check(
        &house,
        "MCP",
        mcp_raw(Some(&token), large.clone()),
        413,
        "body-too-large",
    )
    .await;
    let chunks = large
        .into_bytes()
        .chunks(4096)
        .map(|c| Ok::<_, std::io::Error>(c.to_vec()))
        .collect::<Vec<_>>();
    let streamed = Body::from_stream(futures::stream::iter(chunks));
    let request = json_post("/v1/tools/find_slots", Some(&token), streamed);
    check(&house, "streamed", request, 413, "body-too-large").await;
    let request = form(&[("scope", &"x".repeat(16 * 1024))]);
    check(&house, "token", request, 413, "body-too-large").await;
}

#[tokio::test]
async fn when_policy_fails_everything_is_denied() {
    let house = House::new().await;
    let token = house.token(SCRIBE, "chart-summary", Some("a")).await;
    check(
        &house,
        "policy",
        rest(&token, FAILING_TOOL, &json!({})),
        403,
        "denied",
    )
    .await;
    check(
        &house,
        "policy",
        mcp_call(&token, FAILING_TOOL, &json!({})),
        200,
        "denied",
    )
    .await;
    assert_eq!(
        house
            .send(rest(&token, "list_problems", &json!({})))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn when_the_ledger_cannot_persist_nothing_happens() {
    let house = House::new().await;
    let token = house
        .token(SCHEDULER, "schedule-appointment", Some("a"))
        .await;
    house.store.refuse_commits(true);
    let size = house.ledger().await.len();
    let book = json!({"summary": "call back", "pool": "nursing", "idempotency_key": "k"});
    for (what, request, status) in [
        ("read", rest(&token, "list_appointments", &json!({})), 503),
        (
            "read over MCP",
            mcp_call(&token, "list_appointments", &json!({})),
            200,
        ),
        ("proposal", rest(&token, "create_task", &book), 503),
        (
            "token",
            token_request(&house.assertion(SCHEDULER), "find-slots", None),
            503,
        ),
    ] {
        let answer = house.send(request).await;
        assert_eq!(
            (answer.status, answer.code()),
            (status, "ledger-unavailable"),
            "{what}"
        );
        assert!(!answer.body.to_string().contains("res_"), "{what}");
    }
    // Without a ledger, a refusal is still a refusal.
    assert_eq!(house.send(bare("GET", None, "/v1/tools")).await.status, 401);
    house.store.refuse_commits(false);
    assert_eq!(house.ledger().await.len(), size);
    assert_eq!(
        house
            .send(rest(&token, "list_appointments", &json!({})))
            .await
            .status,
        200
    );
    assert_eq!(
        house.send(rest(&token, "create_task", &book)).await.status,
        200
    );
}

#[tokio::test]
async fn an_agent_whose_agreements_have_expired_gets_nothing() {
    let house = House::new().await;
    let ask = |house: &House| token_request(&house.assertion(SCHEDULER), "find-slots", None);
    let token = house.token(SCHEDULER, "find-slots", None).await;
    assert_eq!(
        house
            .send(rest(&token, "find_slots", &window()))
            .await
            .status,
        200
    );
    let expires: chaperone_core::Timestamp = "2027-12-31T00:00:00Z".parse().unwrap();
    let left = expires.duration_since(chaperone_core::ports::Clock::now(&*house.clock));
    // To the second before it expires, and at that second.
    house.clock.advance_s(left.as_secs() - 1);
    let token = house.token(SCHEDULER, "find-slots", None).await;
    house.clock.advance_s(1);
    let answer = house.send(ask(&house)).await;
    assert_eq!(answer.code(), "agent-refused", "{:?}", answer.body);
    check(
        &house,
        "a token from before",
        rest(&token, "find_slots", &window()),
        403,
        "agent-refused",
    )
    .await;
}

#[tokio::test]
async fn grants_of_people_and_dispatchers_open_nothing_once_an_agreement_has_expired() {
    const INTENT: &str = "schedule-appointment";
    let house = House::new().await;
    let expires: chaperone_core::Timestamp = "2027-12-31T00:00:00Z".parse().unwrap();
    let left = expires.duration_since(chaperone_core::ports::Clock::now(&*house.clock));
    house.clock.advance_s(left.as_secs() - 60);
    let dispatching = house.token(DISPATCHER, "dispatch", None).await;
    let dispatch = || {
        let body = json!({"agent": SCHEDULER, "intent": INTENT,
            "patient": {"system": "urn:example:mrn", "value": "CANARY-MRN-a"}});
        json_post("/v1/grants", Some(&dispatching), body.to_string())
    };
    let open = |grant: &GrantId| token_request(&house.assertion(SCHEDULER), INTENT, Some(grant));
    let of_person = house.grant(SCHEDULER, INTENT, "a").await;
    let of_dispatcher: GrantId = house.send(dispatch()).await.body["grant"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    // Their neighbours, a minute earlier, open.
    let earlier = house.grant(SCHEDULER, INTENT, "a").await;
    let answer = house.send(open(&earlier)).await;
    let token = answer.body["access_token"].as_str().unwrap().to_owned();
    let read = || rest(&token, "get_patient_context", &json!({}));
    assert_eq!(house.send(read()).await.status, 200);

    house.clock.advance_s(60);
    let before = house.ledger().await.len();
    for grant in [&of_person, &of_dispatcher] {
        let answer = house.send(open(grant)).await;
        assert_eq!(answer.code(), "agent-refused", "{:?}", answer.body);
    }
    check(
        &house,
        "an envelope from before",
        read(),
        403,
        "agent-refused",
    )
    .await;
    // The dispatcher's own agreements hold, and it puts nobody before an agent whose do not.
    check(&house, "a new grant", dispatch(), 403, "agent-refused").await;
    let nurse = Human {
        account: AccountName::new("nurse").unwrap(),
        person: PersonId::from_random([9; 16]),
        roles: vec![Role::Rn],
    };
    let request = GrantRequest {
        agent: AgentId::new(SCHEDULER).unwrap(),
        intent: IntentId::new(INTENT).unwrap(),
        patient: PatientRef::LogicalId("a".to_owned()),
        encounter: None,
        presence: false,
    };
    let refused = house.engine.issue_grant(&nurse, request).await;
    assert!(matches!(refused, Err(GrantFailed::AgentRefused)));
    // Nothing but refusals was recorded.
    for recorded in house.ledger().await.split_off(before) {
        assert!(
            matches!(recorded.event, Event::CallRefused(_)),
            "{recorded:?}"
        );
    }
}
