//! What systems sign with a secret of their own in place of a token: events of the EHR, and what portals attest.
//!
//! One signature over every byte of a small body, and JSON that can be read in one way only. Whose signature it is,
//! the engine says; nothing of the body is believed before. Start at [`read`].

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use axum::http::HeaderMap;
use axum::http::header::HeaderName;
use chaperone_engine::CallError;
use chaperone_engine::ehr_event::Delivery;
use serde::de::DeserializeOwned;

use super::{body, refusal, strict_json};

/// Seconds since 1970 at which the delivery was signed.
const TIMESTAMP_HEADER: HeaderName = HeaderName::from_static("x-chaperone-timestamp");
/// `v1=` and the HMAC-SHA-256 in hexadecimal.
const SIGNATURE_HEADER: HeaderName = HeaderName::from_static("x-chaperone-signature");

/// What came in, with who is said to have signed it.
pub(super) struct Signed {
    source: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Signed {
    /// As the engine checks it.
    pub(super) fn delivery(&self) -> Delivery<'_> {
        Delivery {
            source: &self.source,
            timestamp: only(&self.headers, &TIMESTAMP_HEADER),
            signature: only(&self.headers, &SIGNATURE_HEADER),
            body: &self.body,
        }
    }

    /// Every byte of the body.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}

/// Reads a request as bytes. A name that cannot be read is the name of no source.
pub(super) async fn read(
    source: Result<Path<String>, PathRejection>,
    request: Request,
    bytes_max: usize,
) -> Result<Signed, CallError> {
    let source = source.map_or_else(|_| String::new(), |Path(source)| source);
    let (parts, body) = request.into_parts();
    if parts.uri.query().is_some() {
        return Err(refusal::unexpected_query());
    }
    if !body::is_media_type(&parts.headers, "application/json") {
        return Err(refusal::unsupported_media_type("application/json"));
    }
    let body = body::read(&parts.headers, body, bytes_max).await?;
    Ok(Signed {
        source,
        headers: parts.headers,
        body,
    })
}

/// A header that was sent once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    if all.next().is_some() {
        return None;
    }
    first.to_str().ok()
}

/// Reads a body whose signature was right. The texts of the parser would repeat what was sent, which is about a
/// patient: none of them is used.
pub(super) fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    malformed: fn() -> CallError,
) -> Result<T, CallError> {
    let value = strict_json::parse(bytes).map_err(refusal::malformed)?;
    if !value.is_object() {
        return Err(refusal::not_an_object());
    }
    serde_json::from_value(value).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_comes_twice_counts_as_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(only(&headers, &SIGNATURE_HEADER), None);
        headers.append(SIGNATURE_HEADER, "v1=a".parse().unwrap());
        assert_eq!(only(&headers, &SIGNATURE_HEADER), Some("v1=a"));
        headers.append(SIGNATURE_HEADER, "v1=a".parse().unwrap());
        assert_eq!(only(&headers, &SIGNATURE_HEADER), None);
    }
}
