//! CDS services behind one address, asked over the gate: one POST for each service, in a bounded time, with an answer
//! of bounded size. Nothing is tried twice: somebody is waiting, and who asks says what it means that nobody answered.
//!
//! What is sent holds health information, so the address must be one of a vendor who may have `phi`. What an answer
//! says, and what follows from it, is the engine's business.
//!
//! # Source
//! HL7 CDS Hooks 2.0: `POST [base]/cds-services/[id]`; 200 with cards, 412 where prefetch is missing; "Trusting CDS
//! Clients" for the token, a JSON Web Token (RFC 7519) that is made for one request.

use std::sync::Arc;

use async_trait::async_trait;
use chaperone_core::decision_support::NotHeard;
use chaperone_core::egress::Channel;
use chaperone_core::ids::CdsServiceId;
use chaperone_core::ports::{Clock, DecisionSupport, Random};
use jsonwebtoken::{EncodingKey, Header};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

use crate::egress::{Broken, ClientOptions, Gate, HttpClient, class, exchange};
use crate::http::{BaseUrl, UrlRefused, acceptable_url};
use crate::smart::{SmartAlgorithm, algorithm};

/// Making a connection, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 1_000;
/// One question and its answer, in milliseconds: a person waits for the page.
pub const EXCHANGE_TIMEOUT_MS: u64 = 3_000;
/// Largest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 256 << 10;

/// How long a token is good for, in seconds; the specification allows 300.
const TOKEN_S: i64 = 240;

/// How Chaperone says to a service who asks.
pub enum CdsCredential {
    /// Not at all: on this machine only.
    None,
    /// The same bearer token each time.
    Bearer(Zeroizing<String>),
    /// A token signed for each request, as the specification asks for.
    Signed(CdsClientKey),
}

/// The key of a CDS client.
pub struct CdsClientKey {
    /// Who asks: the `iss` that the services know.
    pub issuer: String,
    /// `kid` of the key in the client's JWKS.
    pub key_id: String,
    /// The private key, PKCS#8 PEM.
    pub key_pem: Zeroizing<String>,
    /// The signature it makes.
    pub algorithm: SmartAlgorithm,
    /// Where the public key is found (`jku`), where services ask there.
    pub jwks_url: Option<String>,
}

enum Credential {
    None,
    Bearer(HeaderValue),
    Signed(Box<Signer>),
}

struct Signer {
    issuer: String,
    header: Header,
    key: EncodingKey,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// The services at one address.
pub struct CdsServices {
    base: BaseUrl,
    client: HttpClient<class::Phi>,
    credential: Credential,
}

impl std::fmt::Debug for CdsServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CdsServices")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// Why services cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CdsServicesInvalid {
    /// An address is not acceptable.
    #[error(transparent)]
    Url(#[from] UrlRefused),
    /// On another machine, and nothing says who asks.
    #[error(
        "CDS services on another machine need `decision_support.client` or `decision_support.token_file`"
    )]
    Open,
    /// The token is not what a header can hold.
    #[error("the token of `decision_support.token_file` is empty or holds what a header cannot")]
    Token,
    /// The key is not of its algorithm's kind.
    #[error("the key of `decision_support.client` is not a PKCS#8 PEM private key for {0:?}")]
    Key(SmartAlgorithm),
    /// The HTTP client cannot be built, for want of root certificates or a TLS provider.
    #[error("the HTTP client cannot be built")]
    Client(#[from] reqwest::Error),
}

impl CdsServices {
    /// Services at an address: https, or http on this machine. Calls nobody.
    ///
    /// # Errors
    /// [`CdsServicesInvalid`] names what to mend.
    pub fn new(
        base_url: &str,
        credential: CdsCredential,
        gate: &Gate,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, CdsServicesInvalid> {
        let base = BaseUrl::parse("decision_support.base_url", base_url)?;
        let credential = match credential {
            CdsCredential::None if base.is_loopback() => Credential::None,
            CdsCredential::None => return Err(CdsServicesInvalid::Open),
            CdsCredential::Bearer(token) if token.is_empty() => {
                return Err(CdsServicesInvalid::Token);
            }
            CdsCredential::Bearer(token) => {
                Credential::Bearer(bearer(&token).ok_or(CdsServicesInvalid::Token)?)
            }
            CdsCredential::Signed(key) => {
                Credential::Signed(Box::new(Signer::of(key, clock, random)?))
            }
        };
        let options = ClientOptions {
            connect_timeout_ms: CONNECT_TIMEOUT_MS,
            exchange_timeout_ms: EXCHANGE_TIMEOUT_MS,
            keep_connections: true,
            encrypted: base.is_encrypted(),
            extra_root_pem: None,
        };
        let client = gate
            .http(Channel::DecisionSupport, &options)?
            .below(Some(base.url().clone()));
        Ok(Self {
            base,
            client,
            credential,
        })
    }
}

impl Signer {
    fn of(
        client: CdsClientKey,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, CdsServicesInvalid> {
        let pem = client.key_pem.as_bytes();
        let key = match client.algorithm {
            SmartAlgorithm::Es384 => EncodingKey::from_ec_pem(pem),
            SmartAlgorithm::Rs384 => EncodingKey::from_rsa_pem(pem),
        };
        let key = key.map_err(|_| CdsServicesInvalid::Key(client.algorithm))?;
        let mut header = Header::new(algorithm(client.algorithm));
        header.kid = Some(client.key_id);
        if let Some(jwks_url) = &client.jwks_url {
            let url = acceptable_url("decision_support.client.jwks_url", jwks_url)?;
            header.jku = Some(url.to_string());
        }
        Ok(Self {
            issuer: client.issuer,
            header,
            key,
            clock,
            random,
        })
    }

    /// A token for one request to one service.
    fn token(&self, service: &Url) -> Option<HeaderValue> {
        let now = self.clock.now().as_second();
        let claims = json!({
            "iss": self.issuer,
            "aud": service.as_str(),
            "iat": now,
            "exp": now.saturating_add(TOKEN_S),
            "jti": format!("{:032x}", u128::from_be_bytes(self.random.id())),
        });
        let token = jsonwebtoken::encode(&self.header, &claims, &self.key);
        bearer(&Zeroizing::new(token.ok()?))
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[async_trait]
impl DecisionSupport for CdsServices {
    async fn ask(&self, service: &CdsServiceId, request: &Value) -> Result<Value, NotHeard> {
        let path = format!("cds-services/{service}");
        let service_url = self.base.at(&path).ok_or(NotHeard::NotConnected)?;
        let mut draft = self
            .client
            .post(service_url.clone())
            .header(ACCEPT, "application/json")
            .json(request);
        match &self.credential {
            Credential::None => {}
            Credential::Bearer(value) => draft = draft.header(AUTHORIZATION, value.clone()),
            Credential::Signed(signer) => {
                let token = signer.token(&service_url).ok_or(NotHeard::NotConnected)?;
                draft = draft.header(AUTHORIZATION, token);
            }
        }
        let answer = exchange(draft, ANSWER_BYTES_MAX)
            .await
            .map_err(|broken| match broken {
                Broken::Refused(refusal) => {
                    tracing::warn!(error = %refusal, "a CDS service may not be asked");
                    NotHeard::Refused
                }
                Broken::NotSent | Broken::Interrupted => NotHeard::NoAnswer,
            })?;
        match answer.status {
            StatusCode::OK => answer.json().ok_or(NotHeard::Unusable),
            StatusCode::PRECONDITION_FAILED => Err(NotHeard::NoPrefetch),
            _ => Err(NotHeard::Failed),
        }
    }
}
