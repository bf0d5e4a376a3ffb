//! The check before every agent's request, whatever it asks for: where it comes from, whose token it
//! carries, and how often. Behind it, the request has a `Caller`.
//!
//! Not the token endpoint, which is `crate::oauth`. Start at [`enter`].

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, ORIGIN};
use axum::http::{HeaderMap, Response};
use axum::middleware::Next;
use axum::response::IntoResponse;

use super::{GatewayState, asked, refusal};

/// Lets a request in, or answers it.
pub(super) async fn enter(
    State(gateway): State<GatewayState>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let at = match asked(&request) {
        Ok(at) => at,
        Err(missing) => return missing.into_response(),
    };
    // A browser sends Origin; an agent has no page. See the transport chapter of the MCP revisions
    // 2025-11-25 and 2026-07-28, which demand the check against DNS rebinding.
    if request
        .headers()
        .get_all(ORIGIN)
        .iter()
        .any(|origin| origin.as_bytes() != gateway.urls.origin.as_bytes())
    {
        return gateway.refuse(&at, None, refusal::origin_refused()).await;
    }
    let entered = gateway
        .engine
        .enter(bearer(request.headers()), at.correlation)
        .await;
    let caller = match entered {
        Ok(caller) => caller,
        Err(error) => return gateway.answer(&at, &error),
    };
    let agent = &caller.envelope.agent;
    if let Err(wait) = gateway.throttle.agent(agent) {
        let error = refusal::rate_limited(wait.retry_after_s);
        return if gateway.throttle.records_refusal_of(agent) {
            gateway.refuse(&at, Some(&caller), error).await
        } else {
            gateway.answer(&at, &error)
        };
    }
    if request.uri().query().is_some() {
        return gateway
            .refuse(&at, Some(&caller), refusal::unexpected_query())
            .await;
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// The token of the request: `None` without one, and an empty one, which nothing accepts, when it
/// is not clear which is meant.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let first = all.next()?;
    if all.next().is_some() {
        return Some("");
    }
    let Some((scheme, token)) = first.to_str().ok().and_then(|value| value.split_once(' ')) else {
        return Some("");
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        Some(token.trim())
    } else {
        Some("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn token_of(values: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn one_bearer_token_counts_and_anything_else_is_none_or_unusable() {
        assert_eq!(token_of(&[]), None);
        assert_eq!(token_of(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(token_of(&["bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(token_of(&["Bearer a", "Bearer b"]).as_deref(), Some(""));
        assert_eq!(token_of(&["Basic YTpi"]).as_deref(), Some(""));
        assert_eq!(token_of(&["Bearer"]).as_deref(), Some(""));
    }
}
