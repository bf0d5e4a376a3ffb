//! The agents' side: MCP at `/mcp`, the same tools under `/v1`, `/openapi.json`, and tokens
//! (`crate::oauth`). Also where systems announce events of the EHR, which put patients before agents. What a
//! call may do is decided in the engine; here stands what HTTP is.
//!
//! Not the humans' side: the console shares no code path with this module.
//!
//! A request passes, in this order: [`pipeline`] (correlation id, peer's rate, a place to work in, a
//! time limit), `bearer` (origin, token, agent's rate), `body` (size, JSON without doubt), and then
//! [`mcp`], [`tools`] or [`grants`]. [`ehr_events`] and [`portals`] check a signature in place of a token
//! (`signed`), and [`cds_services`] a token that the EHR signed.
//! Whatever refuses it, [`refusal`] writes the answer, and the engine records it.

mod bearer;
mod body;
mod cds_services;
mod ehr_events;
mod grants;
pub(crate) mod limits;
mod mcp;
mod openapi;
pub(crate) mod pipeline;
mod portals;
pub(crate) mod refusal;
mod signed;
mod strict_json;
mod tools;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, get, post};
use chaperone_core::ids::CorrelationId;
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::{CallError, Engine};

pub use limits::{GatewayLimits, Rate};
pub use pipeline::CORRELATION_HEADER;

pub(crate) use body::{is_media_type, read as read_body};

use limits::Throttle;
use refusal::Shape;

/// Where agents find their endpoints, all under the public base URL.
#[derive(Debug, Clone)]
pub(crate) struct PublicUrls {
    /// The base URL: audience of tokens, issuer, and resource of `/v1`.
    pub(crate) base: String,
    /// `Origin` of the base URL.
    pub(crate) origin: String,
    /// Host name of the base URL, without port.
    pub(crate) host: String,
}

impl PublicUrls {
    /// From the audience of tokens. A base URL that does not parse has no origin that a request
    /// could have, and no host name.
    fn of(base: &str) -> Self {
        let parsed = url::Url::parse(base).ok();
        Self {
            base: base.trim_end_matches('/').to_owned(),
            origin: parsed
                .as_ref()
                .map(|url| url.origin().ascii_serialization())
                .unwrap_or_default(),
            host: parsed
                .as_ref()
                .and_then(|url| url.host_str())
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// Where the metadata of the resource at a path stands.
    ///
    /// # Source
    /// RFC 9728, section 3.1: the well-known path stands before the path of the resource.
    pub(crate) fn resource_metadata(&self, path: &str) -> String {
        let suffix = if path == "/mcp" { "/mcp" } else { "" };
        format!("{}/.well-known/oauth-protected-resource{suffix}", self.base)
    }
}

/// What the agents' endpoints work with. Cheap to clone; clones share their limits.
#[derive(Clone)]
pub struct GatewayState {
    pub(crate) engine: Arc<Engine>,
    pub(crate) throttle: Arc<Throttle>,
    pub(crate) urls: Arc<PublicUrls>,
}

impl GatewayState {
    /// The gateway in front of an engine.
    pub fn new(engine: Arc<Engine>, limits: GatewayLimits) -> Self {
        let urls = Arc::new(PublicUrls::of(&engine.config().audience));
        Self {
            engine,
            throttle: Arc::new(Throttle::new(limits)),
            urls,
        }
    }

    /// Records a refusal and writes it.
    pub(crate) async fn refuse(
        &self,
        at: &Asked,
        caller: Option<&Caller>,
        error: CallError,
    ) -> Response<Body> {
        let error = self.engine.refuse(caller, error, at.correlation).await;
        self.answer(at, &error)
    }

    /// Writes a refusal that is not recorded, or already is.
    pub(crate) fn answer(&self, at: &Asked, error: &CallError) -> Response<Body> {
        at.shape.answer(
            error,
            at.correlation,
            &self.urls.resource_metadata(&at.path),
        )
    }
}

/// What is known of a request before anything of it is believed.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) correlation: CorrelationId,
    pub(crate) shape: Shape,
    /// `/mcp`, or empty: all that answers depend on.
    path: String,
}

impl Asked {
    pub(crate) fn new(correlation: CorrelationId, path: &str) -> Self {
        Self {
            correlation,
            shape: Shape::of_path(path),
            path: if path == "/mcp" {
                path.to_owned()
            } else {
                String::new()
            },
        }
    }

    /// The same, answering to a JSON-RPC id.
    pub(crate) fn answering(mut self, id: serde_json::Value) -> Self {
        if let Shape::Rpc { id: known } = &mut self.shape {
            *known = id;
        }
        self
    }
}

/// The agents' endpoints, with everything that stands before them. Its fallback answers every address
/// that no other router of the server knows.
pub fn router(gateway: GatewayState) -> Router {
    let agents = Router::new()
        .merge(mcp::routes(&gateway))
        .route("/v1/tools", get(tools::list).fallback(wrong_method))
        .route("/v1/tools/{name}", post(tools::call).fallback(wrong_method))
        .route(
            "/v1/proposals/{id}",
            get(tools::proposal).fallback(wrong_method),
        )
        .route(
            "/v1/grants",
            get(grants::waiting)
                .post(grants::issue)
                .fallback(wrong_method),
        )
        .route("/v1", any(unknown_to_caller))
        .route("/v1/{*rest}", any(unknown_to_caller))
        .route_layer(from_fn_with_state(gateway.clone(), bearer::enter));

    let document = openapi::document(&gateway.engine);
    let open = Router::new()
        .route(
            "/openapi.json",
            get(move || std::future::ready(openapi::answer(&document))).fallback(wrong_method_open),
        )
        .route(
            "/ehr-events/{source}",
            post(ehr_events::receive).fallback(wrong_method_open),
        )
        .route(
            "/cds-services",
            get(cds_services::discover).fallback(wrong_method_open),
        )
        .route(
            "/cds-services/{id}",
            post(cds_services::call).fallback(wrong_method_open),
        )
        .route(
            "/portals/{portal}/proposals",
            post(portals::proposal).fallback(wrong_method_open),
        )
        .route(
            "/portals/{portal}/attestations",
            post(portals::attest).fallback(wrong_method_open),
        )
        .route(
            "/portals/{portal}/codes",
            post(portals::send_code).fallback(wrong_method_open),
        )
        .route(
            "/portals/{portal}/codes/confirm",
            post(portals::take_code).fallback(wrong_method_open),
        )
        .merge(crate::oauth::routes());

    Router::new()
        .merge(agents)
        .merge(open)
        .fallback(unknown)
        .layer(from_fn(pipeline::own_headers))
        .layer(from_fn_with_state(gateway.clone(), pipeline::run))
        .with_state(gateway)
}

/// A method that an address behind the bearer check does not know.
async fn wrong_method(
    State(gateway): State<GatewayState>,
    Entered { at, caller }: Entered,
) -> Response<Body> {
    gateway
        .refuse(&at, Some(&caller), refusal::method_not_allowed())
        .await
}

/// A method that an open address does not know.
pub(crate) async fn wrong_method_open(
    State(gateway): State<GatewayState>,
    at: Asked,
) -> Response<Body> {
    gateway.answer(&at, &refusal::method_not_allowed())
}

/// An address that no agent has.
async fn unknown_to_caller(
    State(gateway): State<GatewayState>,
    Entered { at, caller }: Entered,
) -> Response<Body> {
    gateway
        .refuse(&at, Some(&caller), refusal::unknown_route())
        .await
}

/// An address that nobody has. Not recorded: it names nothing of ours.
async fn unknown(State(gateway): State<GatewayState>, at: Asked) -> Response<Body> {
    gateway.answer(&at, &refusal::unknown_route())
}

/// An agent that the bearer check let in.
pub(crate) struct Entered {
    pub(crate) at: Asked,
    pub(crate) caller: Caller,
}

/// A layer is missing: a mistake in this crate, and never let through.
pub(crate) struct NotPrepared;

impl axum::response::IntoResponse for NotPrepared {
    fn into_response(self) -> axum::response::Response {
        tracing::error!("a handler was reached without its layers");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

impl<S: Sync> axum::extract::FromRequestParts<S> for Asked {
    type Rejection = NotPrepared;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _state: &S,
    ) -> Result<Self, NotPrepared> {
        parts.extensions.get::<Asked>().cloned().ok_or(NotPrepared)
    }
}

impl<S: Sync> axum::extract::FromRequestParts<S> for Entered {
    type Rejection = NotPrepared;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _state: &S,
    ) -> Result<Self, NotPrepared> {
        let at = parts
            .extensions
            .get::<Asked>()
            .cloned()
            .ok_or(NotPrepared)?;
        let caller = parts
            .extensions
            .get::<Caller>()
            .cloned()
            .ok_or(NotPrepared)?;
        Ok(Self { at, caller })
    }
}

/// What [`pipeline::run`] noted about a request.
pub(crate) fn asked(request: &Request) -> Result<Asked, NotPrepared> {
    request
        .extensions()
        .get::<Asked>()
        .cloned()
        .ok_or(NotPrepared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urls_follow_from_the_audience() {
        let urls = PublicUrls::of("https://care.example:8443/");
        assert_eq!(urls.base, "https://care.example:8443");
        assert_eq!(urls.origin, "https://care.example:8443");
        assert_eq!(urls.host, "care.example");
        assert_eq!(
            urls.resource_metadata("/mcp"),
            "https://care.example:8443/.well-known/oauth-protected-resource/mcp"
        );
        assert_eq!(
            urls.resource_metadata("/v1/tools"),
            "https://care.example:8443/.well-known/oauth-protected-resource"
        );
    }
}
