//! The other side of our own gateway: an agent that signs an assertion, takes an envelope token, and calls
//! tools over MCP or REST. For demonstration, bench and tests.
//!
//! Not a general MCP client, and nothing that an operator's agents depend on: it reaches a gateway on this machine and
//! no other. It hides nothing: every
//! call returns the status and the body as they came.
//!
//! # Source
//! RFC 7523 (client assertions), RFC 9396 (`authorization_details`), MCP revision 2025-11-25 (streamable
//! HTTP).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chaperone_core::egress::Channel;
use chaperone_core::ids::{AgentId, GrantId, IntentId, ToolName};
use chaperone_core::ports::{Clock, Random};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER};
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

use crate::egress::{ClientOptions, FormValue, Gate, HttpClient, Outgoing, class, exchange};
use crate::http::{Answer, BaseUrl, UrlRefused};

/// The revision of MCP that is spoken.
pub const MCP_REVISION: &str = "2025-11-25";

/// How long a client assertion is good for, in seconds.
const ASSERTION_S: i64 = 120;

/// Limit on one answer, in bytes.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Limit on one exchange, in milliseconds.
const EXCHANGE_TIMEOUT_MS: u64 = 30_000;

/// Limit on making a connection, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 3_000;

const MCP_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The signature of an agent's assertions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentAlgorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA on P-384 with SHA-384.
    Es384,
}

/// Who the agent is. Its `Debug` shows no key.
#[derive(Clone)]
pub struct AgentCredential {
    /// As registered.
    pub agent: AgentId,
    /// `kid` in its registered JWKS.
    pub key_id: String,
    /// PKCS#8 PEM.
    pub key_pem: Zeroizing<String>,
    /// The signature it makes.
    pub algorithm: AgentAlgorithm,
}

impl fmt::Debug for AgentCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentCredential")
            .field("agent", &self.agent)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// Why a client could not be made or a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentClientFailed {
    /// The gateway's URL is not acceptable.
    #[error(transparent)]
    Url(#[from] UrlRefused),
    /// The key does not fit the algorithm.
    #[error("the agent's key is not a PKCS#8 PEM private key for its algorithm")]
    Key,
    /// The HTTP client could not be built.
    #[error("the HTTP client cannot be built: {0}")]
    Client(reqwest::Error),
    /// No answer came, or it broke off.
    #[error("the gateway did not answer")]
    NoAnswer,
}

/// What came back, as it came.
#[derive(Debug, Clone)]
pub struct AgentAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body: JSON, the last message of an event stream, or null when it is neither.
    pub body: Value,
}

impl AgentAnswer {
    /// `Retry-After` as the server wrote it.
    pub fn retry_after(&self) -> Option<&str> {
        self.headers.get(RETRY_AFTER)?.to_str().ok()
    }

    /// The access token of a successful token answer.
    pub fn access_token(&self) -> Option<AgentToken> {
        let token = self.body.get("access_token")?.as_str()?;
        (self.status == 200).then(|| AgentToken(Zeroizing::new(token.to_owned())))
    }

    /// `result` of a JSON-RPC answer.
    pub fn result(&self) -> Option<&Value> {
        self.body.get("result")
    }

    /// `error` of a JSON-RPC answer.
    pub fn error(&self) -> Option<&Value> {
        self.body.get("error")
    }
}

/// An envelope token. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct AgentToken(Zeroizing<String>);

impl AgentToken {
    /// A token from somewhere else, for tests of forged and foreign tokens.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }
}

impl fmt::Debug for AgentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentToken([withheld])")
    }
}

/// An agent in front of our gateway. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct AgentClient {
    base: BaseUrl,
    token_url: Url,
    mcp_url: Url,
    credential: AgentCredential,
    key: EncodingKey,
    http: HttpClient<class::Phi>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    next_id: Arc<AtomicU64>,
}

impl fmt::Debug for AgentClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentClient")
            .field("base", &self.base.as_str())
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}

impl AgentClient {
    /// Makes a client; calls nobody.
    ///
    /// # Errors
    /// [`AgentClientFailed`] unless the URL is https or loopback and the key fits.
    pub fn new(
        base_url: &str,
        credential: AgentCredential,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, AgentClientFailed> {
        let base = BaseUrl::parse("gateway", base_url)?;
        let not_a_url = UrlRefused::NotAUrl { what: "gateway" };
        let token_url = base.at("oauth/token").ok_or_else(|| not_a_url.clone())?;
        let mcp_url = base.at("mcp").ok_or(not_a_url)?;
        let pem = credential.key_pem.as_bytes();
        let key = match credential.algorithm {
            AgentAlgorithm::EdDsa => EncodingKey::from_ed_pem(pem),
            AgentAlgorithm::Es384 => EncodingKey::from_ec_pem(pem),
        }
        .map_err(|_| AgentClientFailed::Key)?;
        let options = ClientOptions {
            connect_timeout_ms: CONNECT_TIMEOUT_MS,
            exchange_timeout_ms: EXCHANGE_TIMEOUT_MS,
            keep_connections: true,
            encrypted: base.is_encrypted(),
            extra_root_pem: None,
        };
        // An agent is outside; what it sends is no egress of Chaperone's, and here it reaches this machine only.
        let http = Gate::to_this_machine(Arc::clone(&clock))
            .http(Channel::Gateway, &options)
            .map_err(AgentClientFailed::Client)?;
        let client = Self {
            base,
            token_url,
            mcp_url,
            credential,
            key,
            http,
            clock,
            random,
            next_id: Arc::new(AtomicU64::new(1)),
        };
        client.assertion(client.token_url.as_str())?;
        Ok(client)
    }

    /// A client assertion for an audience; a fresh one each time. Exposed so that tests can replay one.
    ///
    /// # Errors
    /// [`AgentClientFailed::Key`] when the key does not sign.
    pub fn assertion(&self, audience: &str) -> Result<String, AgentClientFailed> {
        let mut header = Header::new(match self.credential.algorithm {
            AgentAlgorithm::EdDsa => Algorithm::EdDSA,
            AgentAlgorithm::Es384 => Algorithm::ES384,
        });
        header.kid = Some(self.credential.key_id.clone());
        let now = self.clock.now().as_second();
        let claims = json!({
            "iss": self.credential.agent,
            "sub": self.credential.agent,
            "aud": audience,
            "iat": now,
            "exp": now.saturating_add(ASSERTION_S),
            "jti": format!("{:032x}", u128::from_be_bytes(self.random.id())),
        });
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| AgentClientFailed::Key)
    }

    /// Asks for an envelope token for an intent, with the grant of a patient's context where it has one.
    ///
    /// # Errors
    /// [`AgentClientFailed`] when no answer came. A refusal is an answer.
    pub async fn token(
        &self,
        intent: &IntentId,
        grant: Option<&GrantId>,
    ) -> Result<AgentAnswer, AgentClientFailed> {
        let assertion = self.assertion(self.token_url.as_str())?;
        self.token_with(&assertion, &format!("intent/{intent}"), grant)
            .await
    }

    /// As [`Self::token`], with an assertion and a scope of the caller's making.
    ///
    /// # Errors
    /// [`AgentClientFailed`] when no answer came.
    pub async fn token_with(
        &self,
        assertion: &str,
        scope: &str,
        grant: Option<&GrantId>,
    ) -> Result<AgentAnswer, AgentClientFailed> {
        let mut form = vec![
            ("grant_type", "client_credentials".to_owned()),
            ("client_id", self.credential.agent.to_string()),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned(),
            ),
            ("client_assertion", assertion.to_owned()),
            ("scope", scope.to_owned()),
        ];
        if let Some(grant) = grant {
            let details = json!([{"type": "chaperone_context", "grant": grant}]);
            form.push(("authorization_details", details.to_string()));
        }
        let form: Vec<(&str, FormValue<'_>)> = form
            .iter()
            .map(|(name, value)| (*name, FormValue::Plain(value)))
            .collect();
        let request = self.http.post(self.token_url.clone()).form(&form);
        self.send(request).await
    }

    /// MCP `initialize`, which a stateless server answers without a session.
    ///
    /// # Errors
    /// [`AgentClientFailed`] when no answer came.
    pub async fn initialize(&self, token: &AgentToken) -> Result<AgentAnswer, AgentClientFailed> {
        let params = json!({
            "protocolVersion": MCP_REVISION,
            "capabilities": {},
            "clientInfo": {"name": "chaperone-agent-client", "version": env!("CARGO_PKG_VERSION")},
        });
        self.mcp(token, "initialize", params).await
    }

    /// MCP `tools/list`.
    ///
    /// # Errors
    /// [`AgentClientFailed`] when no answer came.
    pub async fn tools_list(&self, token: &AgentToken) -> Result<AgentAnswer, AgentClientFailed> {
        self.mcp(token, "tools/list", json!({})).await
    }

    /// MCP `tools/call`.
    ///
    /// # Errors
    /// [`AgentClientFailed`] when no answer came.
    pub async fn tools_call(
        &self,
        token: &AgentToken,
        tool: &ToolName,
        arguments: &Value,
    ) -> Result<AgentAnswer, AgentClientFailed> {
        let params = json!({"name": tool, "arguments": arguments});
        self.mcp(token, "tools/call", params).await
    }

    /// Any MCP request.
    ///
    /// # Errors
    /// [`AgentClientFailed`] when no answer came.
    pub async fn mcp(
        &self,
        token: &AgentToken,
        method: &str,
        params: Value,
    ) -> Result<AgentAnswer, AgentClientFailed> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let request = self
            .http
            .post(self.mcp_url.clone())
            .header(AUTHORIZATION, authorization(token))
            .header(ACCEPT, "application/json, text/event-stream")
            .header(MCP_PROTOCOL_VERSION, MCP_REVISION)
            .json(&message);
        self.send(request).await
    }

    /// A tool over REST, `POST /v1/tools/{name}`, with an idempotency key where it proposes.
    ///
    /// # Errors
    /// [`AgentClientFailed`] when no answer came.
    pub async fn rest_call(
        &self,
        token: &AgentToken,
        tool: &ToolName,
        arguments: &Value,
        idempotency_key: Option<&str>,
    ) -> Result<AgentAnswer, AgentClientFailed> {
        let url = self
            .base
            .at(&format!("v1/tools/{tool}"))
            .ok_or(UrlRefused::NotAUrl { what: "gateway" })?;
        let mut request = self
            .http
            .post(url)
            .header(AUTHORIZATION, authorization(token))
            .json(arguments);
        if let Some(key) = idempotency_key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        self.send(request).await
    }

    async fn send(&self, request: Outgoing<class::Phi>) -> Result<AgentAnswer, AgentClientFailed> {
        let answer = exchange(request, BODY_BYTES_MAX)
            .await
            .map_err(|_| AgentClientFailed::NoAnswer)?;
        let body = answer
            .body
            .as_ref()
            .map_err(|_| AgentClientFailed::NoAnswer)?;
        let body = match answer.header(CONTENT_TYPE) {
            Some(kind) if kind.starts_with("text/event-stream") => last_message(body),
            _ => answer.json().unwrap_or(Value::Null),
        };
        let Answer {
            status, headers, ..
        } = answer;
        Ok(AgentAnswer {
            status: status.as_u16(),
            headers,
            body,
        })
    }
}

impl AgentAnswer {
    /// The session that a server opened, which a stateless one does not.
    pub fn session(&self) -> Option<&str> {
        self.headers.get(MCP_SESSION_ID)?.to_str().ok()
    }
}

fn authorization(token: &AgentToken) -> String {
    format!("Bearer {}", *token.0)
}

/// The last JSON-RPC answer in an event stream; notifications before it are passed over.
fn last_message(stream: &[u8]) -> Value {
    let text = String::from_utf8_lossy(stream).replace("\r\n", "\n");
    text.rsplit("\n\n")
        .filter_map(|event| {
            let data: Vec<&str> = event
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(str::trim_start)
                .collect();
            serde_json::from_str::<Value>(&data.join("\n")).ok()
        })
        .find(|message| message.get("id").is_some())
        .unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_found_in_an_event_stream() {
        let stream = b"event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n\
            id: 1\r\ndata: {\"jsonrpc\":\"2.0\",\r\ndata: \"id\":1,\"result\":{\"a\":1}}\r\n\r\n: end\n\n";
        assert_eq!(last_message(stream)["result"]["a"], 1);
        assert_eq!(last_message(b"data: nonsense\n\n"), Value::Null);
    }

    #[test]
    fn tokens_are_not_shown() {
        assert!(!format!("{:?}", AgentToken::new("secret")).contains("secret"));
    }
}
