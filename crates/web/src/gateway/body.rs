//! Reading a body: its media type, its size, and JSON that can be read in one way only.
//!
//! Start at [`read`] for bytes and [`read_object`] for JSON.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use bytes::Bytes;
use chaperone_engine::CallError;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Map, Value};

use super::limits::BODY_BYTES_MAX;
use super::{refusal, strict_json};

/// Reads a body of at most `bytes_max` bytes.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<Bytes, CallError> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|length| length > bytes_max as u64) {
        return Err(CallError::too_large());
    }
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(failed) if failed.is::<LengthLimitError>() => Err(CallError::too_large()),
        Err(_broken) => Err(refusal::invalid_request(
            "the body ended early",
            "send the request again",
        )),
    }
}

/// Whether the one content type of a request is this, whatever its parameters.
pub(crate) fn is_media_type(headers: &HeaderMap, wanted: &str) -> bool {
    let mut all = headers.get_all(CONTENT_TYPE).iter();
    let (Some(first), None) = (all.next(), all.next()) else {
        return false;
    };
    first.to_str().is_ok_and(|value| {
        let essence = value.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case(wanted)
    })
}

/// Reads a body that is one JSON object; also its bytes.
pub(crate) async fn read_object(
    headers: &HeaderMap,
    body: Body,
) -> Result<(Map<String, Value>, Bytes), CallError> {
    if !is_media_type(headers, "application/json") {
        return Err(refusal::unsupported_media_type("application/json"));
    }
    let bytes = read(headers, body, BODY_BYTES_MAX).await?;
    match strict_json::parse(&bytes).map_err(refusal::malformed)? {
        Value::Object(object) => Ok((object, bytes)),
        _ => Err(refusal::not_an_object()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn post(body: impl Into<Body>, content_type: &str) -> Request<Body> {
        Request::post("/")
            .header(CONTENT_TYPE, content_type)
            .body(body.into())
            .unwrap()
    }

    async fn code(request: Request<Body>) -> &'static str {
        let (parts, body) = request.into_parts();
        read_object(&parts.headers, body)
            .await
            .map_or_else(|error| error.code, |_| "ok")
    }

    #[tokio::test]
    async fn an_object_is_read_and_its_neighbours_are_not() {
        assert_eq!(code(post("{}", "application/json")).await, "ok");
        assert_eq!(
            code(post("{}", "application/json; charset=utf-8")).await,
            "ok"
        );
        assert_eq!(
            code(post("[]", "application/json")).await,
            "invalid-request"
        );
        assert_eq!(code(post("", "application/json")).await, "malformed");
        assert_eq!(
            code(post("{}", "text/plain")).await,
            "unsupported-media-type"
        );
    }

    #[tokio::test]
    async fn a_large_body_is_refused_announced_or_not() {
        let at_the_limit = format!("{{\"a\":\"{}\"}}", "x".repeat(BODY_BYTES_MAX - 8));
        assert_eq!(at_the_limit.len(), BODY_BYTES_MAX);
        assert_eq!(
            code(post(at_the_limit.clone(), "application/json")).await,
            "ok"
        );
        let over = format!("{at_the_limit} ");
        let chunks: Vec<Result<Bytes, std::io::Error>> = over
            .as_bytes()
            .chunks(1000)
            .map(|c| Ok(Bytes::copy_from_slice(c)))
            .collect();
        let streamed = Body::from_stream(futures::stream::iter(chunks));
        assert_eq!(
            code(post(streamed, "application/json")).await,
            "body-too-large"
        );
        let mut announced = post("", "application/json");
        let length = (BODY_BYTES_MAX + 1).to_string();
        announced
            .headers_mut()
            .insert(CONTENT_LENGTH, length.parse().unwrap());
        assert_eq!(code(announced).await, "body-too-large");
    }
}
