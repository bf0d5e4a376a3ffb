//! The agent's side of the gateway, against a server that shows what it was sent.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason
    )
)]

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::body::Bytes;
use axum::extract::OriginalUri;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chaperone_connect::agent_client::{
    AgentAlgorithm, AgentClient, AgentClientFailed, AgentCredential, AgentToken, MCP_REVISION,
};
use chaperone_connect::clock::SystemClock;
use chaperone_connect::random::OsRandom;
use chaperone_core::ids::{AgentId, GrantId, IntentId, ToolName};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};
use zeroize::Zeroizing;

fn key() -> (String, Vec<u8>) {
    let pair = Ed25519KeyPair::generate().unwrap();
    let der = STANDARD.encode(pair.to_pkcs8v1().unwrap().as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
    (pem, pair.public_key().as_ref().to_vec())
}

fn client(base: &str, pem: &str) -> Result<AgentClient, AgentClientFailed> {
    // Fails only when another test of this process was faster, which is as good.
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let credential = AgentCredential {
        agent: AgentId::new("scheduler").unwrap(),
        key_id: "k1".to_owned(),
        key_pem: Zeroizing::new(pem.to_owned()),
        algorithm: AgentAlgorithm::EdDsa,
    };
    AgentClient::new(base, credential, Arc::new(SystemClock), Arc::new(OsRandom))
}

/// Answers a token request with its own form, and everything else with what arrived.
async fn gateway() -> String {
    let token = |body: Bytes| async move {
        let form: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
        let mut answer = json!({"access_token": "the-token", "token_type": "Bearer"});
        for (name, value) in form {
            answer[name] = json!(value);
        }
        Json(answer)
    };
    let mcp = |headers: HeaderMap, Json(message): Json<Value>| async move {
        if headers["authorization"] != "Bearer the-token" {
            return (
                StatusCode::UNAUTHORIZED,
                Json(json!({"error": "invalid_token"})),
            )
                .into_response();
        }
        let result = json!({
            "method": message["method"],
            "params": message["params"],
            "revision": headers["mcp-protocol-version"].to_str().unwrap(),
        });
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        if message["method"] == "tools/list" {
            let stream = format!("event: message\ndata: {answer}\n\n");
            return ([("content-type", "text/event-stream")], stream).into_response();
        }
        Json(answer).into_response()
    };
    let rest = |OriginalUri(uri): OriginalUri, headers: HeaderMap, Json(body): Json<Value>| async move {
        let key = headers.get("idempotency-key").map(|v| v.to_str().unwrap());
        let answer = json!({"path": uri.path(), "key": key, "arguments": body});
        (
            StatusCode::TOO_MANY_REQUESTS,
            [("retry-after", "3")],
            Json(answer),
        )
    };
    let router = Router::new()
        .route("/oauth/token", post(token))
        .route("/mcp", post(mcp))
        .fallback(post(rest));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test]
async fn a_token_request_is_signed_and_names_intent_and_grant() {
    let base = gateway().await;
    let (pem, public) = key();
    let client = client(&base, &pem).unwrap();
    let intent = IntentId::new("schedule-appointment").unwrap();
    let grant = GrantId::from_random([1; 16]);
    let answer = client.token(&intent, Some(&grant)).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.access_token().is_some());
    assert_eq!(answer.body["grant_type"], "client_credentials");
    assert_eq!(answer.body["scope"], "intent/schedule-appointment");
    let details: Value =
        serde_json::from_str(answer.body["authorization_details"].as_str().unwrap()).unwrap();
    assert_eq!(
        details,
        json!([{"type": "chaperone_context", "grant": grant.to_string()}])
    );

    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[format!("{base}/oauth/token")]);
    let decoded = decode::<Value>(
        answer.body["client_assertion"].as_str().unwrap(),
        &DecodingKey::from_ed_der(&public),
        &validation,
    )
    .unwrap();
    assert_eq!(decoded.header.kid.as_deref(), Some("k1"));
    assert_eq!(decoded.claims["iss"], "scheduler");
    assert_eq!(decoded.claims["sub"], "scheduler");

    let free = client.token(&intent, None).await.unwrap();
    assert_eq!(free.body.get("authorization_details"), None);
    assert_ne!(
        free.body["client_assertion"],
        answer.body["client_assertion"]
    );
}

#[tokio::test]
async fn tools_are_called_over_mcp_and_rest() {
    let base = gateway().await;
    let client = client(&base, &key().0).unwrap();
    let token = AgentToken::new("the-token");
    let tool = ToolName::new("book_appointment").unwrap();
    let arguments = json!({"slot": "res_1"});

    let opened = client.initialize(&token).await.unwrap();
    let params = &opened.result().unwrap()["params"];
    assert_eq!(params["protocolVersion"], MCP_REVISION);
    assert_eq!(opened.session(), None);
    let listed = client.tools_list(&token).await.unwrap();
    assert_eq!(listed.result().unwrap()["method"], "tools/list");
    let called = client.tools_call(&token, &tool, &arguments).await.unwrap();
    let result = called.result().unwrap();
    assert_eq!(result["params"]["name"], "book_appointment");
    assert_eq!(result["params"]["arguments"], arguments);
    assert_eq!(result["revision"], MCP_REVISION);

    let refused = client.tools_list(&AgentToken::new("other")).await.unwrap();
    assert_eq!((refused.status, refused.result()), (401, None));

    let rest = client
        .rest_call(&token, &tool, &arguments, Some("once"))
        .await
        .unwrap();
    assert_eq!((rest.status, rest.retry_after()), (429, Some("3")));
    assert_eq!(rest.body["path"], "/v1/tools/book_appointment");
    assert_eq!(rest.body["key"], "once");
    assert_eq!(rest.body["arguments"], arguments);
}

#[test]
fn keys_and_urls_are_checked_at_the_start() {
    let (pem, _) = key();
    assert!(matches!(
        client("http://gateway.example", &pem),
        Err(AgentClientFailed::Url(_))
    ));
    assert!(matches!(
        client("http://localhost:1", "nonsense"),
        Err(AgentClientFailed::Key)
    ));
    assert!(client("http://localhost:1", &pem).is_ok());
}
