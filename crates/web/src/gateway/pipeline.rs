//! What every request of the agents' side passes first: a correlation id of our own, the peer's rate,
//! a place to work in, a time limit, and what is measured and traced of it.
//!
//! Not authentication, which is `bearer`. Start at [`run`].
//!
//! A request runs to its end in a task of its own. Were it part of the connection, a peer could end
//! it by hanging up: after the access, before the record of it.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, Response};
use axum::middleware::Next;
use chaperone_engine::CallError;
use tracing::Instrument as _;
use tracing::field::Empty;

use super::refusal::{self, AnsweredCode};
use super::{Asked, GatewayState};

/// The header that carries our correlation id.
pub const CORRELATION_HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

/// Counter of requests: `route`, `method`, `status`, `code`.
const REQUESTS_TOTAL: &str = "chaperone_gateway_requests_total";
/// Histogram of their durations in seconds: `route`, `status`.
const REQUEST_SECONDS: &str = "chaperone_gateway_request_seconds";

/// The outermost layer.
pub(crate) async fn run(
    State(gateway): State<GatewayState>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let started = tokio::time::Instant::now();
    let correlation = gateway.engine.correlation();
    let at = Asked::new(correlation, request.uri().path());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let method = method_label(request.method());
    let span = tracing::info_span!(
        "agent_request",
        %correlation,
        method,
        route = %route,
        status = Empty,
        code = Empty,
    );
    request.extensions_mut().insert(at.clone());
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(peer)| peer.ip());

    let mut response = match gateway.throttle.peer(peer) {
        Ok(()) => to_its_end(&gateway, &at, request, next, &span).await,
        Err(wait) => gateway.answer(&at, &refusal::rate_limited(wait.retry_after_s)),
    };

    if let Ok(value) = HeaderValue::from_str(&correlation.to_string()) {
        response.headers_mut().insert(CORRELATION_HEADER, value);
    }
    let code = response
        .extensions()
        .get::<AnsweredCode>()
        .map_or("ok", |code| code.0);
    let status = response.status();
    span.record("status", status.as_u16());
    span.record("code", code);
    span.in_scope(|| tracing::info!("answered"));
    let status = status.as_str().to_owned();
    metrics::counter!(
        REQUESTS_TOTAL,
        "route" => route.clone(), "method" => method, "status" => status.clone(), "code" => code
    )
    .increment(1);
    metrics::histogram!(REQUEST_SECONDS, "route" => route, "status" => status)
        .record(started.elapsed().as_secs_f64());
    response
}

/// Runs the request in a task that a peer cannot end, within the time limit.
async fn to_its_end(
    gateway: &GatewayState,
    at: &Asked,
    request: Request,
    next: Next,
    span: &tracing::Span,
) -> Response<Body> {
    let Some(place) = gateway.throttle.place() else {
        return gateway.answer(at, &refusal::busy());
    };
    let timeout = gateway.throttle.request_timeout;
    let task = tokio::spawn(
        async move {
            let answered = tokio::time::timeout(timeout, next.run(request)).await;
            drop(place);
            answered
        }
        .instrument(span.clone()),
    );
    match task.await {
        Ok(Ok(response)) => response,
        Ok(Err(_elapsed)) => {
            span.in_scope(|| tracing::warn!("a request was given up after its time limit"));
            gateway.answer(at, &refusal::timed_out())
        }
        Err(ended) => {
            // The text of a panic may hold anything and is not repeated.
            span.in_scope(|| tracing::error!(panicked = ended.is_panic(), "a request ended early"));
            gateway.answer(at, &CallError::internal())
        }
    }
}

/// Headers that each answer of this side carries.
pub(crate) async fn own_headers(request: Request, next: Next) -> Response<Body> {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Labels come from fixed vocabularies: a peer can send any method.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
