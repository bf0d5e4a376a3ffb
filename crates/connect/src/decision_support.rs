//! CDS services behind one address, asked over the gate: one POST for each service, in a bounded time, with an answer
//! of bounded size. Nothing is tried twice: somebody is waiting, and who asks says what it means that nobody answered.
//!
//! What is sent holds health information, so the address must be one of a vendor who may have `phi`. What an answer
//! says, and what follows from it, is the engine's business.
//!
//! # Source
//! HL7 CDS Hooks 2.0: `POST [base]/cds-services/[id]`; 200 with cards, 412 where prefetch is missing.

use async_trait::async_trait;
use chaperone_core::decision_support::NotHeard;
use chaperone_core::egress::Channel;
use chaperone_core::ids::CdsServiceId;
use chaperone_core::ports::DecisionSupport;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION};
use serde_json::Value;

use crate::egress::{Broken, ClientOptions, Gate, HttpClient, class, exchange};
use crate::http::{BaseUrl, UrlRefused};

/// Making a connection, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 1_000;
/// One question and its answer, in milliseconds: a person waits for the page.
pub const EXCHANGE_TIMEOUT_MS: u64 = 3_000;
/// Largest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 256 << 10;

/// The services at one address.
pub struct CdsServices {
    base: BaseUrl,
    client: HttpClient<class::Phi>,
    token: Option<String>,
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
    /// The address is not acceptable.
    #[error(transparent)]
    Url(#[from] UrlRefused),
    /// On another machine, and nothing says who asks.
    #[error("CDS services on another machine need a token (`decision_support.token_file`)")]
    Open,
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
        token: Option<String>,
        gate: &Gate,
    ) -> Result<Self, CdsServicesInvalid> {
        let base = BaseUrl::parse("decision_support.base_url", base_url)?;
        if token.is_none() && !base.is_loopback() {
            return Err(CdsServicesInvalid::Open);
        }
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
            token,
        })
    }
}

#[async_trait]
impl DecisionSupport for CdsServices {
    async fn ask(&self, service: &CdsServiceId, request: &Value) -> Result<Value, NotHeard> {
        let path = format!("cds-services/{service}");
        let url = self.base.at(&path).ok_or(NotHeard::NotConnected)?;
        let mut draft = self
            .client
            .post(url)
            .header(ACCEPT, "application/json")
            .json(request);
        if let Some(token) = &self.token {
            draft = draft.header(AUTHORIZATION, format!("Bearer {token}"));
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
