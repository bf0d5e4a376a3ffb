//! Around every request: only our own pages may submit forms, and nothing may be stored or embedded.

use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::refusal::Refusal;

/// No script but our file, no connection but to ourselves, no embedding.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Refuses what another site's page sends in a person's name, before it reaches a handler.
///
/// The synchroniser token of each form is the second line. Browsers that send neither header are
/// covered by that token and by the cookie's `SameSite=Strict`.
pub(super) async fn same_origin(request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    // HTTP/2 names the authority in the address instead of a header.
    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    if changes && !is_same_origin(request.headers(), authority) {
        return Refusal::Forbidden("This form did not come from Chaperone's own pages.")
            .into_response();
    }
    next.run(request).await
}

fn is_same_origin(headers: &HeaderMap, authority: Option<&str>) -> bool {
    let text = |name: HeaderName| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or("unreadable"))
    };
    let site = text(HeaderName::from_static("sec-fetch-site"));
    // Set by the browser and out of reach of pages, so it decides where it is there. `Origin` cannot:
    // our own pages forbid referrers, and browsers then send `null` with their forms.
    if let Some(site) = site {
        return site == "same-origin";
    }
    match text(ORIGIN) {
        None => true,
        Some(origin) => {
            let claimed = origin.split_once("://").map(|(_, authority)| authority);
            claimed.is_some() && claimed == text(HOST).or(authority)
        }
    }
}

/// Adds the headers that every answer carries.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), microphone=(), geolocation=()",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(pairs: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        is_same_origin(&headers, None)
    }

    #[test]
    fn only_our_own_pages_may_submit() {
        let host = ("host", "chaperone.test:8443");
        assert!(allowed(&[host]));
        assert!(allowed(&[host, ("origin", "https://chaperone.test:8443")]));
        assert!(allowed(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(allowed(&[
            host,
            ("sec-fetch-site", "same-origin"),
            ("origin", "null")
        ]));
        for bad in [
            ("origin", "https://chaperone.test"),
            ("origin", "https://evil.test"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
        ] {
            assert!(!allowed(&[host, bad]), "{bad:?}");
        }
    }
}
