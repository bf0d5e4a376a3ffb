//! `POST /oauth/token`: a signed assertion and one intent in, a token for one envelope out.
//!
//! Here stands the form; what the assertion and the grant are worth is decided in
//! `chaperone_engine::open_envelope`. Start at [`open`].
//!
//! # Source
//! RFC 6749, sections 3.2 and 4.4; RFC 7521, section 4.2; RFC 7523, section 2.2; RFC 8707; RFC 9396.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chaperone_engine::CallError;
use chaperone_engine::open_envelope::TokenRequest;
use serde_json::{Value, json};

use super::ASSERTION_TYPE;
use crate::gateway::limits::{FORM_PARAMETERS_MAX, TOKEN_BODY_BYTES_MAX};
use crate::gateway::refusal::{self, json_response};
use crate::gateway::{Asked, GatewayState, read_body};

const FORM: &str = "application/x-www-form-urlencoded";

/// `POST /oauth/token`.
pub(super) async fn open(
    State(gateway): State<GatewayState>,
    at: Asked,
    request: Request,
) -> Response<Body> {
    let opened = match form(request)
        .await
        .and_then(|form| check(form, &gateway.urls.base))
    {
        Ok(form) => {
            let request = TokenRequest {
                assertion: &form.assertion,
                scope: &form.scope,
                authorization_details: form.authorization_details.as_deref(),
                correlation: at.correlation,
            };
            gateway.engine.open_envelope(request).await
        }
        Err(error) => Err(error),
    };
    match opened {
        Ok(token) => json_response(
            StatusCode::OK,
            &json!({
                "access_token": token.access_token,
                "token_type": "Bearer",
                "expires_in": token.expires_in,
                "scope": token.scope,
            }),
        ),
        Err(error) => gateway.refuse(&at, None, error).await,
    }
}

/// Any other method.
pub(super) async fn wrong_method(State(gateway): State<GatewayState>, at: Asked) -> Response<Body> {
    gateway
        .refuse(&at, None, refusal::method_not_allowed())
        .await
}

/// What a well-formed request holds.
#[derive(Debug, PartialEq, Eq)]
struct Form {
    assertion: String,
    scope: String,
    authorization_details: Option<String>,
}

type Parameters = BTreeMap<String, String>;

async fn form(request: Request) -> Result<Parameters, CallError> {
    let (parts, body) = request.into_parts();
    check_head(&parts.headers, parts.uri.query())?;
    let bytes = read_body(&parts.headers, body, TOKEN_BODY_BYTES_MAX).await?;
    parameters(&bytes)
}

fn check_head(headers: &HeaderMap, query: Option<&str>) -> Result<(), CallError> {
    if query.is_some() {
        return Err(refusal::unexpected_query());
    }
    if headers.contains_key(AUTHORIZATION) {
        return Err(refusal::invalid_request(
            "the client authenticates by an assertion and by nothing else",
            "leave the Authorization header out",
        ));
    }
    if !crate::gateway::is_media_type(headers, FORM) {
        return Err(refusal::unsupported_media_type(FORM));
    }
    Ok(())
}

/// RFC 6749, section 3.2: a parameter without a value counts as absent, none may come twice, unknown
/// ones are passed over.
fn parameters(bytes: &[u8]) -> Result<Parameters, CallError> {
    let mut parameters = Parameters::new();
    for (count, (name, value)) in url::form_urlencoded::parse(bytes).enumerate() {
        if count >= FORM_PARAMETERS_MAX {
            return Err(refusal::invalid_request(
                "the form has too many parameters",
                "send only the parameters of a token request",
            ));
        }
        if parameters
            .insert(name.into_owned(), value.into_owned())
            .is_some()
        {
            return Err(refusal::invalid_request(
                "a parameter of the form comes twice",
                "send each parameter once",
            ));
        }
    }
    parameters.retain(|_, value| !value.is_empty());
    Ok(parameters)
}

fn check(mut form: Parameters, base: &str) -> Result<Form, CallError> {
    let missing = |field: &'static str| {
        refusal::invalid_request("a parameter is missing", "send it, with a value").about(field)
    };
    match form.get("grant_type").map(String::as_str) {
        Some("client_credentials") => {}
        Some(_) => return Err(refusal::unsupported_grant_type().about("grant_type")),
        None => return Err(missing("grant_type")),
    }
    match form.get("client_assertion_type").map(String::as_str) {
        Some(ASSERTION_TYPE) => {}
        Some(_) => {
            let next = format!("use `{ASSERTION_TYPE}`");
            return Err(
                refusal::invalid_request("the type of assertion is not known", &next)
                    .about("client_assertion_type"),
            );
        }
        None => return Err(missing("client_assertion_type")),
    }
    // RFC 8707: the token is for this server, whichever of its resources is named.
    let is_ours = |resource: &String| {
        let resource = resource.trim_end_matches('/');
        resource == base || resource.strip_prefix(base) == Some("/mcp")
    };
    if !form.get("resource").is_none_or(is_ours) {
        return Err(refusal::invalid_target().about("resource"));
    }
    let assertion = form
        .remove("client_assertion")
        .ok_or_else(|| missing("client_assertion"))?;
    // RFC 6749, section 3.3: there is no default, so a request without a scope fails as one.
    let scope = form
        .remove("scope")
        .ok_or_else(|| CallError::intent_refused().about("scope"))?;
    if form
        .get("client_id")
        .is_some_and(|client| Some(client) != claimed_subject(&assertion).as_ref())
    {
        return Err(CallError::assertion_refused()
            .about("client_id")
            .saying("`client_id` is not the subject of the assertion"));
    }
    Ok(Form {
        assertion,
        scope,
        authorization_details: form.remove("authorization_details"),
    })
}

/// The subject as the assertion claims it, before anything of it is verified. RFC 7521, section 4.2: a
/// `client_id` beside it must name the same client.
fn claimed_subject(assertion: &str) -> Option<String> {
    let payload = assertion.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims.get("sub")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use axum::http::header::CONTENT_TYPE;

    const BASE: &str = "https://c.example";

    fn checked(form: &str) -> Result<Form, &'static str> {
        parameters(form.as_bytes())
            .and_then(|form| check(form, BASE))
            .map_err(|error| error.code)
    }

    fn good() -> String {
        let type_: String =
            url::form_urlencoded::byte_serialize(ASSERTION_TYPE.as_bytes()).collect();
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"agent"}"#);
        format!(
            "grant_type=client_credentials&client_assertion_type={type_}&client_assertion=h.{payload}.s&scope=intent%2Fx"
        )
    }

    #[test]
    fn a_well_formed_request_is_read() {
        let form = checked(&format!(
            "{}&authorization_details=%5B%5D&unknown=1",
            good()
        ))
        .unwrap();
        assert_eq!(form.scope, "intent/x");
        assert_eq!(form.authorization_details.as_deref(), Some("[]"));
        assert_eq!(checked(&good()).unwrap().authorization_details, None);
    }

    #[test]
    fn each_deviation_has_its_error() {
        for (extra, code) in [
            ("&scope=intent%2Fy", "invalid-request"),
            ("&unknown=1&unknown=1", "invalid-request"),
            ("&resource=https%3A%2F%2Fother.example", "invalid-target"),
            (
                "&resource=https%3A%2F%2Fc.example%2Fmcp-other",
                "invalid-target",
            ),
            ("&client_id=other", "invalid-client"),
        ] {
            assert_eq!(checked(&format!("{}{extra}", good())), Err(code), "{extra}");
        }
        for extra in [
            "&resource=https%3A%2F%2Fc.example%2Fmcp",
            "&resource=https%3A%2F%2Fc.example%2F",
            "&client_id=agent",
        ] {
            assert!(checked(&format!("{}{extra}", good())).is_ok(), "{extra}");
        }
        let without = |part: &str| checked(&good().replace(part, "x=1"));
        assert_eq!(without("scope=intent%2Fx"), Err("invalid-scope"));
        assert_eq!(
            without("grant_type=client_credentials"),
            Err("invalid-request")
        );
        let other = good().replace("client_credentials", "password");
        assert_eq!(checked(&other), Err("unsupported-grant-type"));
        let many = (0..=FORM_PARAMETERS_MAX)
            .map(|n| format!("p{n}=1&"))
            .collect::<String>();
        assert_eq!(checked(&many), Err("invalid-request"));
    }

    #[test]
    fn the_head_is_a_form_without_query_or_second_authentication() {
        let headers = |names: &[(axum::http::HeaderName, &'static str)]| {
            names
                .iter()
                .map(|(n, v)| (n.clone(), HeaderValue::from_static(v)))
                .collect::<HeaderMap>()
        };
        let form = headers(&[(CONTENT_TYPE, FORM)]);
        let code = |headers: &HeaderMap, query| check_head(headers, query).map_err(|e| e.code);
        assert_eq!(code(&form, None), Ok(()));
        assert_eq!(code(&form, Some("a=b")), Err("unexpected-query"));
        let json = headers(&[(CONTENT_TYPE, "application/json")]);
        assert_eq!(code(&json, None), Err("unsupported-media-type"));
        let basic = headers(&[(CONTENT_TYPE, FORM), (AUTHORIZATION, "Basic YTpi")]);
        assert_eq!(code(&basic, None), Err("invalid-request"));
    }
}
