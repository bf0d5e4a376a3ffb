//! Tokens that clients sign about themselves: the assertions of agents, and the tokens with which an EHR asks for cards.
//! Who signed it, for whom, for how long; that a token counts once is recorded by whoever takes it.
//!
//! Not here: the tokens that we sign ourselves (`open_envelope`), and identities of people (`connect::launch`).
//!
//! # Source
//! RFC 7523; SMART App Launch 2.2, "Client Authentication: Asymmetric"; HL7 CDS Hooks 2.0, "Trusting CDS Clients":
//! both at most five minutes.

use chaperone_core::Timestamp;
use chaperone_core::ports::{Record, RecordChange};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::context::Engine;

/// Used tokens, for as long as they would count.
pub(crate) const USED: &str = "assertion";

/// Longest accepted token, in bytes.
const TOKEN_BYTES_MAX: usize = 4_096;
/// Longest accepted life, in seconds.
const LIFE_S_MAX: i64 = 300;
/// Longest `jti`, in bytes.
const JTI_BYTES_MAX: usize = 256;
/// Difference between clocks that is forgiven, in seconds.
pub(crate) const CLOCK_SKEW_S: i64 = 30;

/// What a client says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ClientClaims {
    pub(crate) iss: String,
    #[serde(default)]
    pub(crate) sub: Option<String>,
    pub(crate) jti: String,
    pub(crate) exp: i64,
    #[serde(default)]
    iat: Option<i64>,
}

/// What is wrong with a token. Says nothing of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenFault {
    /// Not a token, too large, by nobody who is registered, or not signed by them: one fault for all.
    NotTheirs,
    /// Signed in a way that is not taken.
    Algorithm,
    /// It does not name its key.
    NoKeyId,
    /// For somebody else.
    Audience,
    /// Its time is over.
    Expired,
    /// It would count for too long.
    TooLong,
    /// It is from the future.
    Future,
    /// Its id is missing or too long.
    Id,
}

/// The keys of whoever a token says that it is from; nothing where nobody is known by that name.
pub(crate) type KeysOf<'k> = &'k dyn Fn(&str) -> Option<&'k [Map<String, Value>]>;

/// Verifies a token against the keys that are registered for its issuer.
///
/// # Errors
/// [`TokenFault`].
pub(crate) fn verify(
    token: &str,
    algorithms: &[Algorithm],
    keys_of: KeysOf<'_>,
    audiences: &[String],
    now: Timestamp,
) -> Result<ClientClaims, TokenFault> {
    let refused = TokenFault::NotTheirs;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(refused);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| refused)?;
    if !algorithms.contains(&header.alg) {
        return Err(TokenFault::Algorithm);
    }
    let kid = header.kid.as_deref().ok_or(TokenFault::NoKeyId)?;
    let issuer = unverified_issuer(token).ok_or(refused)?;
    let jwk = keys_of(&issuer)
        .into_iter()
        .flatten()
        .find(|key| key.get("kid").and_then(Value::as_str) == Some(kid))
        .ok_or(refused)?;
    let jwk: jsonwebtoken::jwk::Jwk =
        serde_json::from_value(Value::Object(jwk.clone())).map_err(|_| refused)?;
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| refused)?;
    let mut validation = Validation::new(header.alg);
    // Times are checked below, against our own clock.
    validation.validate_exp = false;
    validation.required_spec_claims = ["iss", "aud", "exp"].map(str::to_owned).into();
    validation.set_audience(audiences);
    let claims = jsonwebtoken::decode::<ClientClaims>(token, &key, &validation)
        .map_err(|failed| match failed.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidAudience => TokenFault::Audience,
            _ => refused,
        })?
        .claims;
    // What was looked up by is what was signed.
    if claims.iss != issuer {
        return Err(refused);
    }
    let left = claims.exp.saturating_sub(now.as_second());
    if left < -CLOCK_SKEW_S {
        return Err(TokenFault::Expired);
    }
    if left > LIFE_S_MAX + CLOCK_SKEW_S {
        return Err(TokenFault::TooLong);
    }
    let latest = now.as_second().saturating_add(CLOCK_SKEW_S);
    if claims.iat.is_some_and(|iat| iat > latest) {
        return Err(TokenFault::Future);
    }
    if claims.jti.is_empty() || claims.jti.len() > JTI_BYTES_MAX {
        return Err(TokenFault::Id);
    }
    Ok(claims)
}

impl Engine {
    /// What makes a token count once: a record that can be created once. `None` where its end is no time.
    pub(crate) fn used_once(&self, claims: &ClientClaims, kind: &[&[u8]]) -> Option<RecordChange> {
        let parts: Vec<&[u8]> = kind
            .iter()
            .copied()
            .chain([claims.iss.as_bytes(), claims.jti.as_bytes()])
            .collect();
        let until = Timestamp::from_second(claims.exp.saturating_add(CLOCK_SKEW_S + 1)).ok()?;
        let used = self.tenant_digest(&parts);
        let record = Record::new(USED, used, serde_json::json!(true)).expiring(until);
        Some(RecordChange::Create(record))
    }
}

/// Whose keys to look for; believed only once one of them fits.
fn unverified_issuer(token: &str) -> Option<String> {
    use base64::Engine as _;
    let payload = token.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .ok()?;
    let claims: Value = serde_json::from_slice(&bytes).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}
