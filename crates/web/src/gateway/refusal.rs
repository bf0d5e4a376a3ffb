//! Refusals that the gateway finds itself, and how every refusal is written: as JSON for the tools,
//! as a JSON-RPC error for MCP, as an OAuth error at the token endpoint.
//!
//! The causes that lie behind the gateway are the engine's, in `chaperone_engine::errors`. No text
//! here repeats anything that was sent. Start at [`Shape`].

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use chaperone_core::ids::CorrelationId;
use chaperone_engine::{CallError, Retry};
use serde_json::{Value, json};

use super::strict_json::JsonRefused;

/// The code of a response, for the metrics: from the fixed table of causes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnsweredCode(pub(crate) &'static str);

/// How a refusal is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// `{code, message, field, retry, next, correlation}`.
    Plain,
    /// A JSON-RPC error whose `data` is the plain form; with the id of the request, once known.
    Rpc {
        /// `id` as sent, or null.
        id: Value,
    },
    /// `{error, error_description}` beside the plain form.
    OAuth,
}

impl Shape {
    /// The shape of a path.
    pub(crate) fn of_path(path: &str) -> Self {
        if path == "/mcp" {
            Shape::Rpc { id: Value::Null }
        } else if path.starts_with("/oauth/") {
            Shape::OAuth
        } else {
            Shape::Plain
        }
    }

    fn body(&self, error: &CallError, correlation: CorrelationId) -> Value {
        let mut plain = error.body(&correlation.to_string());
        match self {
            Shape::Plain => plain,
            Shape::Rpc { id } => json!({
                "jsonrpc": "2.0",
                "id": id,
                "error": { "code": rpc_code(error), "message": error.message, "data": plain },
            }),
            Shape::OAuth => {
                if let Some(object) = plain.as_object_mut() {
                    object.insert("error".to_owned(), json!(oauth_code(error)));
                    object.insert("error_description".to_owned(), json!(error.message));
                }
                plain
            }
        }
    }

    fn status(&self, error: &CallError) -> StatusCode {
        let status = match self {
            // RFC 6749, section 5.2: 400 unless the client could not be authenticated.
            Shape::OAuth if error.status == 403 => 400,
            _ => error.status,
        };
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The answer to a refused request. `resource_metadata` is where the metadata of this resource
    /// stands, for requests that lack a token.
    pub(crate) fn answer(
        &self,
        error: &CallError,
        correlation: CorrelationId,
        resource_metadata: &str,
    ) -> Response<Body> {
        let mut response = json_response(self.status(error), &self.body(error, correlation));
        response.extensions_mut().insert(AnsweredCode(error.code));
        let headers = response.headers_mut();
        if let Retry::After(seconds) = error.retry {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if error.status == 401 {
            let challenge = challenge(error, resource_metadata);
            if let Ok(value) = HeaderValue::from_str(&challenge) {
                headers.insert(WWW_AUTHENTICATE, value);
            }
        }
        response
    }
}

/// A JSON answer that nobody stores.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// # Source
/// RFC 6750, section 3 (no `error` when no token was sent); RFC 9728, section 5.1. RFC 9110, section 11.6.1:
/// an answer 401 names a scheme, also where a signature is asked for and no scheme is registered.
fn challenge(error: &CallError, resource_metadata: &str) -> String {
    let metadata = format!("resource_metadata=\"{resource_metadata}\"");
    match error.code {
        "signature-refused" | "timestamp-refused" => {
            "Chaperone-Signature version=\"v1\"".to_owned()
        }
        "invalid-token" | "expired-token" => {
            format!("Bearer error=\"invalid_token\", {metadata}")
        }
        _ => format!("Bearer {metadata}"),
    }
}

/// # Source
/// JSON-RPC 2.0, section 5.1: the predefined codes, and -32000 for the server's own.
fn rpc_code(error: &CallError) -> i32 {
    match error.code {
        "malformed" => -32_700,
        "invalid-request" => -32_600,
        "unknown-method" => -32_601,
        "undeclared-argument" | "invalid-argument" => -32_602,
        _ => -32_000,
    }
}

/// # Source
/// RFC 6749, section 5.2; RFC 8707, section 2 (`invalid_target`); RFC 9396, section 5
/// (`invalid_authorization_details`).
fn oauth_code(error: &CallError) -> &'static str {
    match (error.code, error.field.as_deref()) {
        ("invalid-client", _) => "invalid_client",
        ("invalid-scope", _) => "invalid_scope",
        ("invalid-grant", Some("authorization_details")) => "invalid_authorization_details",
        ("invalid-grant", _) => "invalid_grant",
        ("invalid-target", _) => "invalid_target",
        ("unsupported-grant-type", _) => "unsupported_grant_type",
        ("unsupported-response-type", _) => "unsupported_response_type",
        ("agent-refused", _) => "unauthorized_client",
        _ if error.status >= 500 || error.status == 429 => "temporarily_unavailable",
        _ => "invalid_request",
    }
}

fn own(code: &'static str, status: u16, retry: Retry, (message, next): (&str, &str)) -> CallError {
    CallError {
        code,
        message: message.to_owned(),
        field: None,
        retry,
        next: next.to_owned(),
        status,
        because: None,
        recorded: false,
    }
}

/// The body is not JSON that is accepted.
pub(crate) fn malformed(why: JsonRefused) -> CallError {
    let next = "send one JSON object without duplicate keys";
    own("malformed", 400, Retry::Changed, (&why.to_string(), next))
}

/// The body is JSON of the wrong kind, or the connection broke within it.
pub(crate) fn not_an_object() -> CallError {
    let texts = ("the body is not one JSON object", "send one JSON object");
    own("invalid-request", 400, Retry::Changed, texts)
}

/// A request that breaks the rules of its endpoint.
pub(crate) fn invalid_request(message: &str, next: &str) -> CallError {
    own("invalid-request", 400, Retry::Changed, (message, next))
}

/// A query string, where none is known.
pub(crate) fn unexpected_query() -> CallError {
    let texts = (
        "this address takes no query parameters",
        "send arguments in the body, and the token in the Authorization header",
    );
    own("unexpected-query", 400, Retry::Changed, texts)
}

/// Another media type than JSON.
pub(crate) fn unsupported_media_type(wanted: &str) -> CallError {
    let message = format!("the content type must be {wanted}");
    let next = "set the Content-Type header and encode the body accordingly";
    own(
        "unsupported-media-type",
        415,
        Retry::Changed,
        (&message, next),
    )
}

/// The client does not accept what there is.
pub(crate) fn not_acceptable() -> CallError {
    let texts = (
        "the Accept header must allow application/json and text/event-stream",
        "send `Accept: application/json, text/event-stream`",
    );
    own("not-acceptable", 406, Retry::Changed, texts)
}

/// A method that the address does not know.
pub(crate) fn method_not_allowed() -> CallError {
    let texts = (
        "this address does not take this method; nothing is ever deleted here",
        "use a method that the Allow header names",
    );
    own("method-not-allowed", 405, Retry::Never, texts)
}

/// A method of MCP that is not served.
pub(crate) fn unknown_method() -> CallError {
    let texts = (
        "this server has tools and nothing else",
        "use tools/list and tools/call",
    );
    own("unknown-method", 404, Retry::Never, texts)
}

/// Nothing stands at the address.
pub(crate) fn unknown_route() -> CallError {
    let texts = (
        "there is nothing at this address",
        "read /openapi.json, or use MCP at /mcp",
    );
    own("not-found", 404, Retry::Never, texts)
}

/// A page of another origin is behind the request.
pub(crate) fn origin_refused() -> CallError {
    let texts = (
        "requests from pages of another origin are not served",
        "call from a server, without an Origin header, at this server's own name",
    );
    own("origin-refused", 403, Retry::Never, texts)
}

/// Every place is taken.
pub(crate) fn busy() -> CallError {
    let texts = ("too many requests are in work", "wait as Retry-After says");
    own("busy", 503, Retry::After(1), texts)
}

/// The request took too long. It may have had its effect.
pub(crate) fn timed_out() -> CallError {
    let texts = (
        "the request took too long and was given up; a proposal may have been taken",
        "repeat a read; repeat a proposal with the same idempotency key",
    );
    own("timed-out", 504, Retry::After(5), texts)
}

/// Another grant type than client credentials.
pub(crate) fn unsupported_grant_type() -> CallError {
    let texts = (
        "the grant type is not supported",
        "use `grant_type=client_credentials`",
    );
    own("unsupported-grant-type", 400, Retry::Changed, texts)
}

/// An authorization request: nobody signs in at this server.
pub(crate) fn unsupported_response_type() -> CallError {
    let texts = (
        "nobody signs in here; agents use client credentials with a signed assertion",
        "ask /oauth/token with `grant_type=client_credentials`",
    );
    own("unsupported-response-type", 400, Retry::Never, texts)
}

/// A `resource` that is not this server.
pub(crate) fn invalid_target() -> CallError {
    let texts = (
        "the requested resource is not served here",
        "leave `resource` out, or name this server as its metadata does",
    );
    own("invalid-target", 400, Retry::Changed, texts)
}

/// Too many requests, and when to come again.
pub(crate) fn rate_limited(retry_after_s: u32) -> CallError {
    CallError {
        retry: Retry::After(retry_after_s),
        ..CallError::rate_limited()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn correlation() -> CorrelationId {
        CorrelationId::from_random([1; 16])
    }

    #[test]
    fn each_shape_carries_the_stable_code() {
        let error = CallError::too_large();
        let plain = Shape::Plain.body(&error, correlation());
        assert_eq!(plain["code"], "body-too-large");
        let rpc = Shape::Rpc { id: json!(7) }.body(&error, correlation());
        assert_eq!(rpc["error"]["data"], plain);
        assert_eq!(rpc["id"], 7);
        let oauth = Shape::OAuth.body(&error, correlation());
        assert_eq!(oauth["error"], "invalid_request");
        assert_eq!(oauth["code"], "body-too-large");
    }

    #[test]
    fn a_challenge_names_the_error_only_when_a_token_was_sent() {
        let answer = |error: CallError| {
            let response = Shape::Plain.answer(&error, correlation(), "https://c.test/m");
            let value = response.headers().get(WWW_AUTHENTICATE).cloned();
            value.map(|v| v.to_str().unwrap().to_owned())
        };
        let metadata = "resource_metadata=\"https://c.test/m\"";
        assert_eq!(
            answer(CallError::no_token()),
            Some(format!("Bearer {metadata}"))
        );
        assert_eq!(
            answer(CallError::expired_token()),
            Some(format!("Bearer error=\"invalid_token\", {metadata}"))
        );
        assert_eq!(answer(CallError::denied()), None);
    }

    #[test]
    fn waiting_is_said_in_the_header_too() {
        let response = Shape::Plain.answer(&rate_limited(7), correlation(), "");
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "7");
    }

    #[test]
    fn an_oauth_error_is_a_bad_request_unless_the_client_is_unknown() {
        let status = |error: CallError| Shape::OAuth.status(&error).as_u16();
        assert_eq!(status(CallError::assertion_refused()), 401);
        assert_eq!(status(CallError::agent_refused()), 400);
        assert_eq!(status(CallError::grant_refused()), 400);
        assert_eq!(status(CallError::ledger_unavailable()), 503);
    }
}
