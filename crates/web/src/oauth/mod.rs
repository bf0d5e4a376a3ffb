//! The authorization server's side of the gateway: envelope tokens, and the metadata by which clients
//! find them.
//!
//! No user signs in here and no client registers here: agents are declared in the bundle. Start at
//! [`token`] for tokens and [`metadata`] for the well-known documents.

mod metadata;
mod token;

use axum::Router;
use axum::routing::{any, get, post};

use crate::gateway::{GatewayState, wrong_method_open};

/// # Source
/// RFC 7523, section 2.2.
pub(crate) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The open endpoints; the gateway puts its layers around them.
pub(crate) fn routes() -> Router<GatewayState> {
    Router::new()
        .route(
            "/oauth/token",
            post(token::open).fallback(token::wrong_method),
        )
        .route("/oauth/authorize", any(metadata::no_authorization))
        .route(
            "/.well-known/oauth-protected-resource",
            get(metadata::resource_root).fallback(wrong_method_open),
        )
        .route(
            "/.well-known/oauth-protected-resource/mcp",
            get(metadata::resource_mcp).fallback(wrong_method_open),
        )
        .route(
            "/.well-known/oauth-authorization-server",
            get(metadata::authorization_server).fallback(wrong_method_open),
        )
}
