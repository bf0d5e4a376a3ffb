//! The authorization server of the connected EHR, for people who come from inside it: where to send a browser, and who
//! somebody is once they are back.
//!
//! Addresses come from the configuration, or from `.well-known/smart-configuration` below the EHR's configured base;
//! each must be one that the gate lets pass, the browser's included. Nothing is kept between two launches: not the
//! server's keys, which it may change, and not its access tokens, which are not even read.
//!
//! Not here: that a launch belongs to one browser and counts once, and what follows from it (`engine::launch`).
//! Start at [`EhrLaunch::new`]; what makes an identity count is in [`identity`].
//!
//! # Source
//! SMART App Launch 2.2, "EHR Launch", "Client Authentication: Asymmetric" and "OpenID Connect"; OpenID Connect Core
//! 1.0, section 3.1.3.7; RFC 7636 (PKCE), RFC 9207 (`iss` of the answer).

mod identity;

use std::sync::Arc;

use async_trait::async_trait;
use chaperone_core::egress::{Channel, DataClass};
use chaperone_core::launch::{AuthorizationAsked, CodeGiven, LaunchContext, LaunchServerFailed};
use chaperone_core::phi::Phi;
use chaperone_core::ports::{Clock, LaunchServer, Random};
use jsonwebtoken::jwk::JwkSet;
use reqwest::StatusCode;
use reqwest::header::ACCEPT;
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use self::identity::Expected;
use crate::egress::{
    Broken, ClientOptions, FormValue, Gate, HttpClient, Outgoing, class, exchange,
};
use crate::http::{Answer, BaseUrl, UrlRefused, acceptable_url};
use crate::smart::{ASSERTION_TYPE, ClientAssertion, SmartAlgorithm, SmartConfigInvalid};

/// Making a connection, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 2_000;
/// One request and its answer, in milliseconds: somebody waits for the page.
const EXCHANGE_TIMEOUT_MS: u64 = 5_000;
/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 65_536;
/// What is asked for: who the person is, and what is open. No record of anybody.
const SCOPE: &str = "launch openid fhirUser";
/// Longest logical id (FHIR R4, `id`).
const ID_BYTES_MAX: usize = 64;
/// Longest text that an app's context is taken for.
const CONTEXT_BYTES_MAX: usize = 256;

/// One registered launch client. Its `Debug` shows no key.
#[derive(Clone)]
pub struct EhrLaunchConfig {
    /// The EHR's FHIR base URL, as connected: the one issuer of launches.
    pub base_url: String,
    /// As registered at the EHR.
    pub client_id: String,
    /// `kid` of the key in the registered JWKS.
    pub key_id: String,
    /// The private key, PKCS#8 PEM.
    pub key_pem: Zeroizing<String>,
    /// The signature it makes.
    pub algorithm: SmartAlgorithm,
    /// Where the server is, where that is not to be asked for.
    pub server: Option<ServerAddresses>,
    /// Further root certificates, PEM, for an EHR with a private certificate authority.
    pub extra_root_pem: Option<Vec<u8>>,
}

/// Where an authorization server is, and what it calls itself.
#[derive(Debug, Clone)]
pub struct ServerAddresses {
    /// `iss` of the identities it states.
    pub issuer: String,
    /// Where browsers are sent.
    pub authorize_url: String,
    /// Where codes are exchanged.
    pub token_url: String,
    /// Where its public keys are.
    pub jwks_url: String,
}

impl std::fmt::Debug for EhrLaunchConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EhrLaunchConfig")
            .field("base_url", &self.base_url)
            .field("client_id", &self.client_id)
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Why launches cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum EhrLaunchInvalid {
    /// An address is not acceptable.
    #[error(transparent)]
    Url(#[from] UrlRefused),
    /// The key is not acceptable.
    #[error(transparent)]
    Key(#[from] SmartConfigInvalid),
    /// The HTTP client cannot be built, for want of root certificates or a TLS provider.
    #[error("the HTTP client cannot be built")]
    Client(#[from] reqwest::Error),
}

/// The authorization server of one EHR.
pub struct EhrLaunch {
    base: BaseUrl,
    client_id: String,
    assertion: ClientAssertion,
    declared: Option<Server>,
    gate: Gate,
    http: HttpClient<class::Operational>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for EhrLaunch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EhrLaunch")
            .field("base", &self.base.as_str())
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// A server, with addresses that may be used.
#[derive(Debug, Clone)]
struct Server {
    issuer: String,
    authorize: Url,
    token: Url,
    jwks: Url,
    /// Whether it says with every answer who it is.
    names_itself: bool,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: String,
    token_endpoint: String,
    #[serde(default)]
    code_challenge_methods_supported: Vec<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// What a token endpoint answers. The access token is left where it is.
#[derive(Deserialize)]
struct Granted {
    id_token: String,
    #[serde(default)]
    patient: Option<String>,
    #[serde(default, rename = "appContext")]
    app_context: Option<String>,
}

impl EhrLaunch {
    /// Calls nobody.
    ///
    /// # Errors
    /// [`EhrLaunchInvalid`] names what to mend.
    pub fn new(
        config: EhrLaunchConfig,
        gate: &Gate,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, EhrLaunchInvalid> {
        let base = BaseUrl::parse("ehr.base_url", &config.base_url)?;
        let assertion = ClientAssertion::new(
            &config.client_id,
            &config.key_id,
            &config.key_pem,
            config.algorithm,
            (Arc::clone(&clock), random),
        )?;
        let declared = match &config.server {
            None => None,
            Some(server) => Some(Server {
                issuer: server.issuer.clone(),
                authorize: acceptable_url("ehr.launch.authorize_url", &server.authorize_url)?,
                token: acceptable_url("ehr.launch.token_url", &server.token_url)?,
                jwks: acceptable_url("ehr.launch.jwks_url", &server.jwks_url)?,
                names_itself: false,
            }),
        };
        let plain = |server: &Server| {
            [&server.token, &server.jwks]
                .iter()
                .all(|url| url.scheme() == "http")
        };
        let options = ClientOptions {
            connect_timeout_ms: CONNECT_TIMEOUT_MS,
            exchange_timeout_ms: EXCHANGE_TIMEOUT_MS,
            keep_connections: false,
            encrypted: base.is_encrypted() || !declared.as_ref().is_none_or(plain),
            extra_root_pem: config.extra_root_pem.as_deref(),
        };
        let http = gate.http(Channel::Authorization, &options)?;
        Ok(Self {
            base,
            client_id: config.client_id,
            assertion,
            declared,
            gate: gate.clone(),
            http,
            clock,
        })
    }

    /// Whether the server can be found and offers what a launch needs.
    ///
    /// # Errors
    /// [`LaunchServerFailed::NotAvailable`].
    pub async fn check(&self) -> Result<(), LaunchServerFailed> {
        let server = self.server().await?;
        self.keys(&server).await.map(|_keys| ())
    }

    async fn server(&self) -> Result<Server, LaunchServerFailed> {
        let failed = || LaunchServerFailed::NotAvailable;
        let server = match &self.declared {
            Some(server) => server.clone(),
            None => {
                let url = self.base.at(".well-known/smart-configuration");
                let request = self.http.get(url.ok_or_else(failed)?);
                let answer = self.ask(request).await?;
                let found: Discovery = parsed(&answer)?;
                let has_pkce = found
                    .code_challenge_methods_supported
                    .iter()
                    .any(|method| method == "S256");
                if !has_pkce {
                    tracing::warn!("the EHR's authorization server offers no PKCE by S256");
                    return Err(failed());
                }
                let url = |what, text: &str| acceptable_url(what, text).map_err(|_| failed());
                Server {
                    authorize: url("authorization_endpoint", &found.authorization_endpoint)?,
                    token: url("token_endpoint", &found.token_endpoint)?,
                    jwks: url("jwks_uri", &found.jwks_uri)?,
                    issuer: found.issuer,
                    names_itself: found.authorization_response_iss_parameter_supported,
                }
            }
        };
        // Codes come back through the browser: it is sent nowhere that we would not go ourselves.
        let may_go = self.gate.would_pass(
            Channel::Authorization,
            DataClass::Operational,
            server.authorize.as_str(),
        );
        if let Err(refusal) = may_go {
            tracing::warn!(error = %refusal, "nobody is sent to the EHR's authorization server");
            return Err(failed());
        }
        Ok(server)
    }

    async fn keys(&self, server: &Server) -> Result<JwkSet, LaunchServerFailed> {
        let answer = self.ask(self.http.get(server.jwks.clone())).await?;
        parsed(&answer)
    }

    async fn ask(
        &self,
        request: Outgoing<class::Operational>,
    ) -> Result<Answer, LaunchServerFailed> {
        let request = request.header(ACCEPT, "application/json");
        match exchange(request, ANSWER_BYTES_MAX).await {
            Ok(answer) if answer.status.is_success() => Ok(answer),
            Ok(answer) => {
                tracing::warn!(
                    client = %self.client_id,
                    status = answer.status.as_u16(),
                    "the EHR's authorization server refused"
                );
                Err(match answer.status {
                    StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => {
                        LaunchServerFailed::CodeRefused
                    }
                    _ => LaunchServerFailed::NotAvailable,
                })
            }
            Err(Broken::Refused(refusal)) => {
                tracing::warn!(error = %refusal, "the EHR's authorization server may not be asked");
                Err(LaunchServerFailed::NotAvailable)
            }
            Err(Broken::NotSent | Broken::Interrupted) => Err(LaunchServerFailed::NotAvailable),
        }
    }
}

#[async_trait]
impl LaunchServer for EhrLaunch {
    fn is_issuer(&self, issuer: &str) -> bool {
        issuer.strip_suffix('/').unwrap_or(issuer) == self.base.as_str()
    }

    async fn authorization_url(
        &self,
        asked: &AuthorizationAsked,
    ) -> Result<String, LaunchServerFailed> {
        let mut url = self.server().await?.authorize;
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &asked.redirect_uri)
            .append_pair("launch", &asked.launch)
            .append_pair("scope", SCOPE)
            .append_pair("state", &asked.state)
            .append_pair("nonce", &asked.nonce)
            .append_pair("aud", self.base.as_str())
            .append_pair("code_challenge", &asked.challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url.into())
    }

    async fn redeem(&self, given: &CodeGiven) -> Result<LaunchContext, LaunchServerFailed> {
        let server = self.server().await?;
        match &given.issuer {
            Some(issuer) if *issuer != server.issuer => {
                return Err(LaunchServerFailed::OtherIssuer);
            }
            None if server.names_itself => return Err(LaunchServerFailed::OtherIssuer),
            _ => {}
        }
        let assertion = self
            .assertion
            .sign(&server.token)
            .ok_or(LaunchServerFailed::NotAvailable)?;
        let form = [
            ("grant_type", FormValue::Fixed("authorization_code")),
            ("code", FormValue::Credential(&given.code)),
            ("redirect_uri", FormValue::Plain(&given.redirect_uri)),
            ("code_verifier", FormValue::Credential(&given.verifier)),
            ("client_assertion_type", FormValue::Fixed(ASSERTION_TYPE)),
            ("client_assertion", FormValue::Credential(&assertion)),
        ];
        let answer = self
            .ask(self.http.post(server.token.clone()).form(&form))
            .await?;
        let granted: Granted = parsed(&answer)?;
        let expected = Expected {
            issuer: &server.issuer,
            client_id: &self.client_id,
            nonce: &given.nonce,
            now: self.clock.now(),
        };
        let keys = self.keys(&server).await?;
        let user = identity::verified_user(&granted.id_token, &keys, &expected)
            .map_err(LaunchServerFailed::Identity)?;
        let patient = match granted.patient {
            None => None,
            Some(id) if is_logical_id(&id) => Some(Phi::new(id)),
            Some(_) => return Err(LaunchServerFailed::NotAvailable),
        };
        let app_context = granted
            .app_context
            .filter(|text| !text.is_empty() && text.len() <= CONTEXT_BYTES_MAX);
        Ok(LaunchContext {
            user,
            patient,
            app_context,
        })
    }
}

/// A logical id as FHIR R4 has them.
fn is_logical_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

fn parsed<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, LaunchServerFailed> {
    let body = answer
        .body
        .as_ref()
        .map_err(|_| LaunchServerFailed::NotAvailable)?;
    serde_json::from_slice(body).map_err(|_| LaunchServerFailed::NotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logical_id_is_no_path() {
        for good in ["123", "a-b.C", &"x".repeat(64)] {
            assert!(is_logical_id(good), "{good}");
        }
        for bad in ["", "Patient/1", "1?x=2", "a b", "é", &"x".repeat(65)] {
            assert!(!is_logical_id(bad), "{bad}");
        }
    }
}
