//! SMART Backend Services: how Chaperone proves itself to an EHR. One client for reading, another for
//! writing, each with a key of its own.
//!
//! Not our own token endpoint: that is the gateway's.
//!
//! # Source
//! SMART App Launch 2.2, "Backend Services" and "Client Authentication: Asymmetric"; RFC 7523.

use std::fmt;
use std::sync::Arc;

use chaperone_core::Timestamp;
use chaperone_core::ports::{Clock, Random};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use url::Url;
use zeroize::Zeroizing;

use crate::egress::{Broken, FormValue, HttpClient, Outgoing, class, exchange};
use crate::http::{Answer, BaseUrl, UrlRefused, acceptable_url};

/// How long a client assertion is good for, in seconds; SMART allows 300.
const ASSERTION_S: i64 = 240;

/// The longest time a token is kept, in seconds, whatever the server says.
const TOKEN_S_MAX: i64 = 3_600;

/// How long a token is kept when the server does not say, in seconds.
const TOKEN_S_UNSAID: i64 = 60;

/// How long before its end a token is no longer used, in seconds (a quarter of its life if shorter).
const TOKEN_MARGIN_S: i64 = 30;

/// Limit on the answers of the authorisation server, in bytes.
const ANSWER_BYTES_MAX: usize = 65_536;

/// Longest access token, in bytes.
const TOKEN_BYTES_MAX: usize = 16_384;

/// The signature of client assertions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SmartAlgorithm {
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// RSA PKCS#1 v1.5 with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
}

/// One registered client. Its `Debug` shows no key.
#[derive(Clone)]
pub struct SmartClientConfig {
    /// As registered at the EHR.
    pub client_id: String,
    /// `kid` of the key in the registered JWKS.
    pub key_id: String,
    /// The private key, PKCS#8 PEM.
    pub key_pem: Zeroizing<String>,
    /// The signature it makes.
    pub algorithm: SmartAlgorithm,
    /// The scopes to ask for, such as `system/Observation.rs`.
    pub scope: String,
    /// The token endpoint; when absent, taken from `.well-known/smart-configuration` below the base URL.
    pub token_url: Option<String>,
}

impl fmt::Debug for SmartClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmartClientConfig")
            .field("client_id", &self.client_id)
            .field("key_id", &self.key_id)
            .field("key_pem", &"[withheld]")
            .field("algorithm", &self.algorithm)
            .field("scope", &self.scope)
            .field("token_url", &self.token_url)
            .finish()
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SmartConfigInvalid {
    /// The key is not a PKCS#8 PEM private key of the algorithm's kind.
    #[error(
        "the key of client `{client_id}` is not a PKCS#8 PEM private key for {algorithm:?}; make one \
         with `openssl genpkey`"
    )]
    Key {
        /// Whose.
        client_id: String,
        /// What it should sign with.
        algorithm: SmartAlgorithm,
    },
    /// The token endpoint is not acceptable.
    #[error(transparent)]
    TokenUrl(#[from] UrlRefused),
}

/// Why no token could be had. Nothing was sent to the FHIR endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenFailed {
    /// The authorisation server refused the client.
    #[error("the authorisation server refused the client")]
    Refused,
    /// It did not answer usefully.
    #[error("the authorisation server is not available")]
    Unavailable,
    /// It asks to slow down.
    #[error("the authorisation server asks to slow down")]
    RateLimited {
        /// Its wish, in milliseconds.
        retry_after_ms: Option<i64>,
    },
}

/// Says to a token endpoint who asks: a token of our own, signed for one request (`private_key_jwt`).
pub(crate) struct ClientAssertion {
    client_id: String,
    header: Header,
    key: EncodingKey,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// What a form says that a client assertion is (RFC 7523, section 2.2).
pub(crate) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// One client with its token.
pub(crate) struct SmartClient {
    config: SmartClientConfig,
    assertion: ClientAssertion,
    base: BaseUrl,
    token_url: Option<Url>,
    http: HttpClient<class::Operational>,
    clock: Arc<dyn Clock>,
    // Held while a token is fetched, so that many callers cause one request.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    discovered: Option<Url>,
    token: Option<Held>,
}

struct Held {
    token: Zeroizing<String>,
    use_until: Timestamp,
}

#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
}

#[derive(Deserialize)]
struct Discovery {
    token_endpoint: String,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: String,
    expires_in: Option<i64>,
}

impl ClientAssertion {
    /// For a registered client, with the key of its `kid`.
    ///
    /// # Errors
    /// A key that is not of its algorithm's kind.
    pub(crate) fn new(
        client_id: &str,
        key_id: &str,
        key_pem: &str,
        signed_by: SmartAlgorithm,
        (clock, random): (Arc<dyn Clock>, Arc<dyn Random>),
    ) -> Result<Self, SmartConfigInvalid> {
        let pem = key_pem.as_bytes();
        let key = match signed_by {
            SmartAlgorithm::Es384 => EncodingKey::from_ec_pem(pem),
            SmartAlgorithm::Rs384 => EncodingKey::from_rsa_pem(pem),
        };
        let mut header = Header::new(algorithm(signed_by));
        header.kid = Some(key_id.to_owned());
        let key = key
            .ok()
            .filter(|key| jsonwebtoken::encode(&header, &(), key).is_ok());
        let Some(key) = key else {
            return Err(SmartConfigInvalid::Key {
                client_id: client_id.to_owned(),
                algorithm: signed_by,
            });
        };
        Ok(Self {
            client_id: client_id.to_owned(),
            header,
            key,
            clock,
            random,
        })
    }

    /// One for this token endpoint; none where it cannot be signed.
    pub(crate) fn sign(&self, token_url: &Url) -> Option<Zeroizing<String>> {
        let now = self.clock.now().as_second();
        let claims = Assertion {
            iss: &self.client_id,
            sub: &self.client_id,
            aud: token_url.as_str(),
            iat: now,
            exp: now.saturating_add(ASSERTION_S),
            jti: format!("{:032x}", u128::from_be_bytes(self.random.id())),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key)
            .ok()
            .map(Zeroizing::new)
    }
}

impl SmartClient {
    pub(crate) fn new(
        config: SmartClientConfig,
        base: BaseUrl,
        http: HttpClient<class::Operational>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, SmartConfigInvalid> {
        let assertion = ClientAssertion::new(
            &config.client_id,
            &config.key_id,
            &config.key_pem,
            config.algorithm,
            (Arc::clone(&clock), random),
        )?;
        let token_url = match &config.token_url {
            Some(text) => Some(acceptable_url("token_url", text)?),
            None => None,
        };
        Ok(Self {
            config,
            assertion,
            base,
            token_url,
            http,
            clock,
            state: Mutex::default(),
        })
    }

    /// The `Authorization` header, from the kept token or a new one.
    pub(crate) async fn authorization(&self) -> Result<HeaderValue, TokenFailed> {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        if let Some(held) = state.token.as_ref().filter(|held| now < held.use_until) {
            return bearer(&held.token);
        }
        state.token = None;
        let url = match (&self.token_url, &state.discovered) {
            (Some(url), _) | (None, Some(url)) => url.clone(),
            (None, None) => {
                let url = self.discover().await?;
                state.discovered = Some(url.clone());
                url
            }
        };
        let held = self.fetch(&url, now).await?;
        let header = bearer(&held.token);
        state.token = Some(held);
        header
    }

    /// Drops the token that was just refused, so that the next call fetches another. A token that was
    /// fetched meanwhile stays.
    pub(crate) async fn forget(&self, refused: &HeaderValue) {
        let mut state = self.state.lock().await;
        let same = state
            .token
            .as_ref()
            .and_then(|held| bearer(&held.token).ok())
            .is_some_and(|held| held == refused);
        if same {
            state.token = None;
        }
    }

    async fn discover(&self) -> Result<Url, TokenFailed> {
        let url = self
            .base
            .at(".well-known/smart-configuration")
            .ok_or(TokenFailed::Unavailable)?;
        let request = self.http.get(url).header(ACCEPT, "application/json");
        let answer = self.ask(request).await?;
        let found: Discovery = parsed(&answer)?;
        acceptable_url("token_endpoint", &found.token_endpoint)
            .map_err(|_| TokenFailed::Unavailable)
    }

    async fn fetch(&self, url: &Url, now: Timestamp) -> Result<Held, TokenFailed> {
        let assertion = self.assertion.sign(url).ok_or(TokenFailed::Refused)?;
        let form = [
            ("grant_type", FormValue::Fixed("client_credentials")),
            ("scope", FormValue::Plain(&self.config.scope)),
            ("client_assertion_type", FormValue::Fixed(ASSERTION_TYPE)),
            ("client_assertion", FormValue::Credential(&assertion)),
        ];
        let request = self
            .http
            .post(url.clone())
            .header(ACCEPT, "application/json")
            .form(&form);
        let answer = self.ask(request).await?;
        let granted: Granted = parsed(&answer)?;
        let token = Zeroizing::new(granted.access_token);
        let usable = granted.token_type.eq_ignore_ascii_case("bearer")
            && !token.is_empty()
            && token.len() <= TOKEN_BYTES_MAX;
        if !usable {
            return Err(TokenFailed::Unavailable);
        }
        let life_s = granted
            .expires_in
            .unwrap_or(TOKEN_S_UNSAID)
            .clamp(0, TOKEN_S_MAX);
        let margin_s = TOKEN_MARGIN_S.min(life_s / 4);
        Ok(Held {
            token,
            use_until: later(now, life_s - margin_s),
        })
    }

    async fn ask(&self, request: Outgoing<class::Operational>) -> Result<Answer, TokenFailed> {
        let answer = exchange(request, ANSWER_BYTES_MAX)
            .await
            .map_err(|broken| match broken {
                Broken::Refused(_) | Broken::NotSent | Broken::Interrupted => {
                    TokenFailed::Unavailable
                }
            })?;
        let status = answer.status;
        if status.is_success() {
            return Ok(answer);
        }
        tracing::warn!(
            client = %self.config.client_id,
            status = status.as_u16(),
            "the authorisation server gave no token"
        );
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS => TokenFailed::RateLimited {
                retry_after_ms: answer.retry_after_ms(self.clock.now()),
            },
            _ if status.is_client_error() => TokenFailed::Refused,
            _ => TokenFailed::Unavailable,
        })
    }
}

/// The signature as `jsonwebtoken` names it.
pub(crate) fn algorithm(algorithm: SmartAlgorithm) -> Algorithm {
    match algorithm {
        SmartAlgorithm::Es384 => Algorithm::ES384,
        SmartAlgorithm::Rs384 => Algorithm::RS384,
    }
}

fn bearer(token: &str) -> Result<HeaderValue, TokenFailed> {
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut value = HeaderValue::from_str(&text).map_err(|_| TokenFailed::Unavailable)?;
    value.set_sensitive(true);
    Ok(value)
}

fn parsed<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, TokenFailed> {
    let body = answer.body.as_ref().map_err(|_| TokenFailed::Unavailable)?;
    serde_json::from_slice(body).map_err(|_| TokenFailed::Unavailable)
}

fn later(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_key_and_no_token() {
        let config = SmartClientConfig {
            client_id: "chaperone-read".to_owned(),
            key_id: "k1".to_owned(),
            key_pem: Zeroizing::new("very secret".to_owned()),
            algorithm: SmartAlgorithm::Es384,
            scope: "system/Observation.rs".to_owned(),
            token_url: None,
        };
        assert!(!format!("{config:?}").contains("very secret"));
        assert!(!format!("{:?}", bearer("very-secret").unwrap()).contains("very-secret"));
    }
}
