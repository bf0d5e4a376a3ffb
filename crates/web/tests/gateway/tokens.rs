//! The token endpoint and the metadata that leads to it.

use serde_json::json;

use crate::house::*;

#[tokio::test]
async fn metadata_leads_from_a_refusal_to_a_token() {
    let house = House::new().await;
    let refused = house.send(mcp(None, "initialize", &json!({}))).await;
    let challenge = refused.header("www-authenticate").to_owned();
    let url = challenge.split('"').nth(1).unwrap();
    let path = url.strip_prefix(BASE).unwrap();
    assert_eq!(path, "/.well-known/oauth-protected-resource/mcp");
    let resource = house.send(bare("GET", None, path)).await;
    assert_eq!(resource.body["resource"], format!("{BASE}/mcp"));
    assert_eq!(resource.body["authorization_servers"], json!([BASE]));
    let server = house
        .send(bare("GET", None, "/.well-known/oauth-authorization-server"))
        .await;
    assert_eq!(server.body["issuer"], BASE);
    assert_eq!(server.body["token_endpoint"], format!("{BASE}/oauth/token"));
    let root = house
        .send(bare("GET", None, "/.well-known/oauth-protected-resource"))
        .await;
    assert_eq!(root.body["resource"], BASE);
}

#[tokio::test]
async fn a_token_is_for_five_minutes_and_carries_only_its_envelope() {
    let house = House::new().await;
    let grant = house.grant(SCHEDULER, "schedule-appointment", "a").await;
    let request = token_request(
        &house.assertion(SCHEDULER),
        "schedule-appointment",
        Some(&grant),
    );
    let answer = house.send(request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(answer.body["expires_in"], 300);
    assert_eq!(answer.body["scope"], "intent/schedule-appointment");
    let token = answer.body["access_token"].as_str().unwrap();
    let claims = token.split('.').nth(1).unwrap();
    use base64::Engine as _;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(claims)
        .unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    let mut names: Vec<&String> = claims.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["aud", "exp", "iss", "jti"]);
    assert!(claims["jti"].as_str().unwrap().starts_with("env_"));
}

#[tokio::test]
async fn malformed_token_requests_are_refused_in_the_shape_of_oauth() {
    let house = House::new().await;
    let assertion = house.assertion(SCHEDULER);
    let good = [
        ("grant_type", "client_credentials"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", assertion.as_str()),
        ("scope", "intent/find-slots"),
    ];
    let with = |extra: &[(&str, &str)]| {
        let mut fields = good.to_vec();
        fields.retain(|(name, _)| {
            !extra
                .iter()
                .any(|(other, value)| other == name && value.is_empty())
        });
        fields.extend(extra.iter().filter(|(_, value)| !value.is_empty()));
        form(&fields)
    };
    for (what, request, status, error) in [
        (
            "no grant type",
            with(&[("grant_type", "")]),
            400,
            "invalid_request",
        ),
        (
            "a parameter twice",
            with(&[("scope", "intent/find-slots")]),
            400,
            "invalid_request",
        ),
        (
            "another client",
            with(&[("client_id", SCRIBE)]),
            401,
            "invalid_client",
        ),
        (
            "another resource",
            with(&[("resource", "https://elsewhere.example")]),
            400,
            "invalid_target",
        ),
        (
            "details that are none",
            with(&[("authorization_details", "{")]),
            400,
            "invalid_authorization_details",
        ),
        (
            "JSON",
            json_post("/oauth/token", None, "{}"),
            415,
            "invalid_request",
        ),
        (
            "a token in the header",
            json_post("/oauth/token", Some("x"), "{}"),
            400,
            "invalid_request",
        ),
        (
            "GET",
            bare("GET", None, "/oauth/token"),
            405,
            "invalid_request",
        ),
        (
            "a sign-in",
            bare("GET", None, "/oauth/authorize"),
            400,
            "unsupported_response_type",
        ),
        ("no scope", with(&[("scope", "")]), 400, "invalid_scope"),
    ] {
        let answer = house.send(request).await;
        assert_eq!(
            (answer.status, &answer.body["error"]),
            (status, &json!(error)),
            "{what}"
        );
        assert!(answer.body["error_description"].is_string() && answer.body["next"].is_string());
        let recorded = house.recorded_refusal(answer.correlation()).await;
        assert_eq!(recorded.as_deref(), Some(answer.code()), "{what}");
    }
    let fine = with(&[
        ("client_id", SCHEDULER),
        ("resource", &format!("{BASE}/mcp")),
    ]);
    assert_eq!(house.send(fine).await.status, 200);
}
