//! The operators' endpoints: `/healthz` (the process answers), `/readyz` (it can do its work) and
//! `/metrics` (Prometheus text).
//!
//! None of them carries anything of a patient, an agent or a call; all labels come from fixed
//! vocabularies. What is checked and how metrics are rendered is given by whoever composes the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

/// Longest time that all readiness checks together may take.
const READY_TIMEOUT: Duration = Duration::from_secs(3);

/// One thing that the server needs for its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyPart {
    /// What it is: `store`, `ehr`, `keys`.
    pub name: &'static str,
    /// Whether it works now.
    pub ready: bool,
}

/// Looks at everything the server needs. Must not wait for long and must not change anything.
pub trait Readiness: Send + Sync {
    /// The parts, in a fixed order.
    fn look(&self) -> BoxFuture<'_, Vec<ReadyPart>>;
}

/// Who may read the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetricsAudience {
    /// Peers on this machine only.
    #[default]
    Loopback,
    /// Everybody who reaches the listener: for one that only operators reach.
    Anyone,
}

/// What the operators' endpoints work with.
#[derive(Clone)]
pub struct OperatorsState {
    /// The readiness checks.
    pub readiness: Arc<dyn Readiness>,
    /// Renders the metrics as Prometheus text.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Who may read them.
    pub metrics_audience: MetricsAudience,
}

/// The operators' endpoints.
pub fn router(state: OperatorsState) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(state)
}

async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn readyz(State(state): State<OperatorsState>) -> (StatusCode, Json<Value>) {
    let looked = tokio::time::timeout(READY_TIMEOUT, state.readiness.look()).await;
    let parts = looked.unwrap_or_else(|_elapsed| {
        vec![ReadyPart {
            name: "checks",
            ready: false,
        }]
    });
    let ready = parts.iter().all(|part| part.ready);
    let named: Map<String, Value> = parts
        .iter()
        .map(|part| {
            (
                part.name.to_owned(),
                json!(if part.ready { "ok" } else { "failing" }),
            )
        })
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let word = if ready { "ready" } else { "not ready" };
    (status, Json(json!({ "status": word, "parts": named })))
}

/// To anybody else, the address does not exist.
async fn metrics(State(state): State<OperatorsState>, request: Request) -> Response<Body> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let is_local = peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback());
    if state.metrics_audience == MetricsAudience::Loopback && !is_local {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let mut response = Response::new(Body::from((state.metrics)()));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt as _;

    struct Fixed(Vec<ReadyPart>);

    impl Readiness for Fixed {
        fn look(&self) -> BoxFuture<'_, Vec<ReadyPart>> {
            Box::pin(std::future::ready(self.0.clone()))
        }
    }

    async fn status(path: &str, store: bool, peer: Option<&str>, audience: MetricsAudience) -> u16 {
        let state = OperatorsState {
            readiness: Arc::new(Fixed(vec![ReadyPart {
                name: "store",
                ready: store,
            }])),
            metrics: Arc::new(|| "a 1\n".to_owned()),
            metrics_audience: audience,
        };
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        if let Some(peer) = peer {
            let peer: SocketAddr = peer.parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        router(state)
            .oneshot(request)
            .await
            .unwrap()
            .status()
            .as_u16()
    }

    #[tokio::test]
    async fn health_is_the_process_and_readiness_is_its_parts() {
        let loopback = MetricsAudience::Loopback;
        assert_eq!(status("/healthz", false, None, loopback).await, 200);
        assert_eq!(status("/readyz", true, None, loopback).await, 200);
        assert_eq!(status("/readyz", false, None, loopback).await, 503);
    }

    #[tokio::test]
    async fn metrics_are_for_this_machine_unless_declared_otherwise() {
        let (loopback, anyone) = (MetricsAudience::Loopback, MetricsAudience::Anyone);
        assert_eq!(
            status("/metrics", true, Some("127.0.0.1:9"), loopback).await,
            200
        );
        assert_eq!(
            status("/metrics", true, Some("192.0.2.1:9"), loopback).await,
            404
        );
        assert_eq!(status("/metrics", true, None, loopback).await, 404);
        assert_eq!(
            status("/metrics", true, Some("192.0.2.1:9"), anyone).await,
            200
        );
    }
}
