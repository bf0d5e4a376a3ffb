//! When an `id_token` says who somebody is: signed by a key of the server that was asked, for this client, for this
//! launch, and not over.
//!
//! Pure. Algorithms are a list of ours and never the token's choice: neither `none` nor a shared secret is among them.

use chaperone_core::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

/// Largest token, in bytes.
const TOKEN_BYTES_MAX: usize = 16_384;
/// Most keys of a server.
const KEYS_MAX: usize = 64;
/// Difference between clocks that is forgiven, in seconds.
const CLOCK_SKEW_S: i64 = 60;
/// The signatures taken: RS256, which every OpenID provider has, and what SMART names beside it.
const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::ES256,
    Algorithm::ES384,
];

/// What a token must say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) now: Timestamp,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    #[serde(default)]
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nonce: String,
    #[serde(rename = "fhirUser")]
    fhir_user: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Who it is, as the EHR names them.
///
/// # Errors
/// What is wrong with the token, in words that hold nothing of it.
pub(super) fn verified_user(
    token: &str,
    keys: &JwkSet,
    expected: &Expected<'_>,
) -> Result<String, &'static str> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err("it is too large");
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| "it is no signed token")?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err("it is signed by an algorithm that is not taken");
    }
    let key = key_of(keys, header.kid.as_deref())?;
    let key = DecodingKey::from_jwk(key).map_err(|_| "its key cannot be used")?;
    let mut validation = Validation::new(header.alg);
    // Compared below: times with our own clock, names exactly.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
        .map_err(|_| "its signature does not fit, or it lacks what it must say")?
        .claims;
    check(&claims, expected)?;
    Ok(claims.fhir_user)
}

/// The key that the token names; where it names none, the only one there is.
fn key_of<'k>(keys: &'k JwkSet, kid: Option<&str>) -> Result<&'k Jwk, &'static str> {
    let mut usable = keys
        .keys
        .iter()
        .take(KEYS_MAX)
        .filter(|key| !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption)))
        .filter(|key| kid.is_none() || key.common.key_id.as_deref() == kid);
    match (usable.next(), usable.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err("it is signed by no key of the server"),
        (Some(_), Some(_)) => Err("it does not say by which key it is signed"),
    }
}

fn check(claims: &Claims, expected: &Expected<'_>) -> Result<(), &'static str> {
    if claims.iss != expected.issuer {
        return Err("it is from another issuer");
    }
    let is_ours = match &claims.aud {
        Audience::One(audience) => audience == expected.client_id,
        Audience::Many(audiences) => match audiences.as_slice() {
            [only] => only == expected.client_id,
            several => {
                several.iter().any(|one| one == expected.client_id)
                    && claims.azp.as_deref() == Some(expected.client_id)
            }
        },
    };
    let is_for_another = claims
        .azp
        .as_deref()
        .is_some_and(|party| party != expected.client_id);
    if !is_ours || is_for_another {
        return Err("it is meant for another client");
    }
    if claims.nonce != expected.nonce {
        return Err("it belongs to another launch");
    }
    let now = expected.now.as_second();
    if claims.exp.saturating_add(CLOCK_SKEW_S) <= now {
        return Err("it has expired");
    }
    if claims.iat > now.saturating_add(CLOCK_SKEW_S) {
        return Err("it is from the future");
    }
    if claims.sub.is_empty() || claims.fhir_user.is_empty() {
        return Err("it names nobody");
    }
    Ok(())
}
