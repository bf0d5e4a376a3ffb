//! The well-known documents: where tokens for `/mcp` and `/v1` come from, and how.
//!
//! Intents are not listed: which ones an agent has is between the agent and its registration.
//!
//! # Source
//! RFC 9728 (protected resource metadata), RFC 8414 (authorization server metadata), RFC 9396,
//! section 10 (`authorization_details_types_supported`).

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::gateway::refusal::{self, json_response};
use crate::gateway::{Asked, GatewayState};

/// Metadata of the REST interface.
pub(super) async fn resource_root(State(gateway): State<GatewayState>) -> Response<Body> {
    json_response(StatusCode::OK, &resource(&gateway.urls.base, ""))
}

/// Metadata of the MCP endpoint.
pub(super) async fn resource_mcp(State(gateway): State<GatewayState>) -> Response<Body> {
    json_response(StatusCode::OK, &resource(&gateway.urls.base, "/mcp"))
}

fn resource(base: &str, path: &str) -> Value {
    json!({
        "resource": format!("{base}{path}"),
        "authorization_servers": [base],
        "bearer_methods_supported": ["header"],
        "authorization_details_types_supported": ["chaperone_context"],
        "resource_name": "Chaperone",
    })
}

/// Metadata of the token endpoint.
pub(super) async fn authorization_server(State(gateway): State<GatewayState>) -> Response<Body> {
    let base = &gateway.urls.base;
    json_response(
        StatusCode::OK,
        &json!({
            "issuer": base,
            // Optional here by RFC 8414, but clients in use, the official MCP client for Python among
            // them, accept no document without it. What stands there refuses and says what to use.
            "authorization_endpoint": format!("{base}/oauth/authorize"),
            "token_endpoint": format!("{base}/oauth/token"),
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["EdDSA", "ES384", "RS384"],
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "authorization_details_types_supported": ["chaperone_context"],
        }),
    )
}

/// `/oauth/authorize`: nobody signs in here.
pub(super) async fn no_authorization(
    State(gateway): State<GatewayState>,
    at: Asked,
) -> Response<Body> {
    gateway
        .refuse(&at, None, refusal::unsupported_response_type())
        .await
}
