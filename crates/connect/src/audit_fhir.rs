//! AuditEvents to a FHIR server: an audit repository that takes AuditEvents under the ids that Chaperone gives them.
//!
//! Each AuditEvent is a `PUT` under its own id, in a batch or alone, so that one that arrives twice is one: whatever
//! becomes of an answer, everything is simply sent again. A batch counts only when each of its entries was taken.
//! How far the stream has come, and when it is tried again, is the engine's and the worker's business.
//!
//! AuditEvents hold references to patients: they are PHI, and go only to a vendor who may have that.
//!
//! # Source
//! FHIR R4, "Update as Create" and "batch"; IHE ITI-20 (ATNA, RESTful feed) for what a repository is.

use std::sync::Arc;

use async_trait::async_trait;
use chaperone_core::egress::Channel;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{AuditLine, AuditSink, AuditSinkFailed, Clock, Random};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::egress::{Broken, ClientOptions, Gate, HttpClient, Outgoing, class, exchange};
use crate::http::{Answer, BaseUrl, UrlRefused};
use crate::smart::{SmartClient, SmartClientConfig, SmartConfigInvalid};

/// The media type of FHIR JSON.
const FHIR_JSON: &str = "application/fhir+json";
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// AuditEvents in one batch.
const BATCH_EVENTS_MAX: usize = 50;
/// Most bytes of AuditEvents in one batch; one that is larger goes alone.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Making a connection, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// One request and its answer, in milliseconds: less than the lease under which a node streams.
const EXCHANGE_TIMEOUT_MS: u64 = 20_000;
/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// How often a request is sent at most: once, and once more with a new token after a 401.
const SENDS_MAX: u32 = 2;

/// How AuditEvents are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditHandover {
    /// Many in a Bundle of type `batch`, posted to the base.
    #[default]
    Batch,
    /// One after the other, each under its own address.
    Single,
}

/// Where AuditEvents go.
#[derive(Debug, Clone)]
pub struct AuditRepositoryConfig {
    /// The FHIR base URL: https, or http on this machine.
    pub base_url: String,
    /// How Chaperone proves itself; absent only on this machine.
    pub auth: Option<SmartClientConfig>,
    /// How they are handed over.
    pub handover: AuditHandover,
    /// Further root certificates, PEM.
    pub extra_root_pem: Option<Vec<u8>>,
}

/// Why there is no such repository.
#[derive(Debug, thiserror::Error)]
pub enum AuditRepositoryInvalid {
    /// The address is not acceptable.
    #[error(transparent)]
    Url(#[from] UrlRefused),
    /// The credentials are not usable.
    #[error(transparent)]
    Auth(#[from] SmartConfigInvalid),
    /// Another machine without credentials.
    #[error("an audit repository on another machine needs credentials (`audit_stream.fhir.smart`)")]
    Open,
    /// The HTTP client cannot be built, for want of root certificates or a TLS provider.
    #[error("the HTTP client cannot be built")]
    Client(#[from] reqwest::Error),
}

/// An audit repository.
pub struct FhirAuditSink {
    base: BaseUrl,
    client: HttpClient<class::Phi>,
    auth: Option<SmartClient>,
    handover: AuditHandover,
}

impl std::fmt::Debug for FhirAuditSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FhirAuditSink")
            .field("base", &self.base.as_str())
            .field("handover", &self.handover)
            .finish_non_exhaustive()
    }
}

impl FhirAuditSink {
    /// Makes one; calls nobody.
    ///
    /// # Errors
    /// [`AuditRepositoryInvalid`] names what to mend.
    pub fn new(
        config: AuditRepositoryConfig,
        gate: &Gate,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, AuditRepositoryInvalid> {
        let base = BaseUrl::parse("audit_stream.fhir.base_url", &config.base_url)?;
        if config.auth.is_none() && !base.is_loopback() {
            return Err(AuditRepositoryInvalid::Open);
        }
        let options = ClientOptions {
            connect_timeout_ms: CONNECT_TIMEOUT_MS,
            exchange_timeout_ms: EXCHANGE_TIMEOUT_MS,
            // A connection that has just been closed costs a repetition, which is harmless here.
            keep_connections: true,
            encrypted: base.is_encrypted() || config.auth.is_some(),
            extra_root_pem: config.extra_root_pem.as_deref(),
        };
        let auth = match config.auth {
            None => None,
            Some(auth) => {
                let http = gate.http(Channel::Authorization, &options)?;
                Some(SmartClient::new(auth, base.clone(), http, clock, random)?)
            }
        };
        Ok(Self {
            client: gate
                .http(Channel::AuditStream, &options)?
                .below(Some(base.url().clone())),
            base,
            auth,
            handover: config.handover,
        })
    }

    /// The base URL, without trailing slash.
    pub fn base_url(&self) -> &str {
        self.base.as_str()
    }

    async fn batch(&self, events: &[AuditLine]) -> Result<(), AuditSinkFailed> {
        let url = self.base.at("").ok_or_else(|| failed("its address"))?;
        let body = batch_of(events);
        let answer = self
            .send(|| self.client.post(url.clone()).body(body.clone()))
            .await?;
        if answer.status != StatusCode::OK {
            return Err(status_of(answer.status));
        }
        let answered = answer
            .json()
            .ok_or_else(|| failed("an answer that cannot be read"))?;
        check_batch(&answered, events.len())
    }

    async fn single(&self, event: &AuditLine) -> Result<(), AuditSinkFailed> {
        let url = self.url_of(event)?;
        let answer = self
            .send(|| self.client.put(url.clone()).body(event.json.clone()))
            .await?;
        match answer.status {
            StatusCode::OK | StatusCode::CREATED => Ok(()),
            status => Err(status_of(status)),
        }
    }

    fn url_of(&self, event: &AuditLine) -> Result<Url, AuditSinkFailed> {
        let at = is_id(&event.id).then(|| self.base.at(&format!("AuditEvent/{}", event.id)));
        at.flatten().ok_or_else(|| failed("an id that is none"))
    }

    async fn send(
        &self,
        draft: impl Fn() -> Outgoing<class::Phi>,
    ) -> Result<Answer, AuditSinkFailed> {
        let mut sends = 0;
        loop {
            sends += 1;
            let mut request = draft()
                .header(ACCEPT, FHIR_JSON)
                .header(CONTENT_TYPE, FHIR_JSON)
                .header(PREFER, "return=minimal");
            let mut used = None;
            if let Some(auth) = &self.auth {
                let header = auth
                    .authorization()
                    .await
                    .map_err(|why| AuditSinkFailed(why.to_string()))?;
                request = request.header(AUTHORIZATION, header.clone());
                used = Some((auth, header));
            }
            let answer =
                exchange(request, ANSWER_BYTES_MAX)
                    .await
                    .map_err(|broken| match broken {
                        Broken::Refused(refusal) => AuditSinkFailed(refusal.to_string()),
                        Broken::NotSent => failed("no connection"),
                        Broken::Interrupted => failed("no answer"),
                    })?;
            match used {
                Some((auth, header)) if answer.status == StatusCode::UNAUTHORIZED => {
                    auth.forget(&header).await;
                    if sends >= SENDS_MAX {
                        return Ok(answer);
                    }
                }
                _ => return Ok(answer),
            }
        }
    }
}

#[async_trait]
impl AuditSink for FhirAuditSink {
    async fn take(&self, _tenant: &TenantId, events: &[AuditLine]) -> Result<(), AuditSinkFailed> {
        match self.handover {
            AuditHandover::Single => {
                for event in events {
                    self.single(event).await?;
                }
            }
            AuditHandover::Batch => {
                for together in batches(events) {
                    self.batch(together).await?;
                }
            }
        }
        Ok(())
    }
}

/// In order, as many together as a batch may hold.
fn batches(events: &[AuditLine]) -> Vec<&[AuditLine]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0_usize);
    for (at, event) in events.iter().enumerate() {
        let is_full = at.saturating_sub(start) >= BATCH_EVENTS_MAX
            || bytes.saturating_add(event.json.len()) > BATCH_BYTES_MAX;
        if is_full && at > start {
            batches.extend(events.get(start..at));
            (start, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(event.json.len());
    }
    batches.extend(events.get(start..).filter(|rest| !rest.is_empty()));
    batches
}

/// The Bundle. The AuditEvents stand in it as they were made.
fn batch_of(events: &[AuditLine]) -> String {
    let mut body = String::from("{\"resourceType\":\"Bundle\",\"type\":\"batch\",\"entry\":[");
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        body.push_str(&format!(
            "{{\"resource\":{},\"request\":{{\"method\":\"PUT\",\"url\":\"AuditEvent/{}\"}}}}",
            event.json, event.id
        ));
    }
    body.push_str("]}");
    body
}

/// Every entry was taken, or the batch was not.
fn check_batch(answered: &Value, sent: usize) -> Result<(), AuditSinkFailed> {
    let kind = answered.get("type").and_then(Value::as_str);
    let entries = answered.get("entry").and_then(Value::as_array);
    let entries = entries.filter(|entries| entries.len() == sent && kind == Some("batch-response"));
    let entries = entries.ok_or_else(|| failed("an answer to another batch"))?;
    for entry in entries {
        let status = entry.pointer("/response/status").and_then(Value::as_str);
        let taken = status.is_some_and(|it| it.starts_with("200") || it.starts_with("201"));
        if !taken {
            let code: String = status.unwrap_or("none").chars().take(3).collect();
            return Err(failed(&format!("an entry with status {code}")));
        }
    }
    Ok(())
}

/// Ours are; that no other stands in an address is checked where it is used.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && !text.contains("..")
}

fn status_of(status: StatusCode) -> AuditSinkFailed {
    failed(&format!("status {}", status.as_u16()))
}

fn failed(with: &str) -> AuditSinkFailed {
    AuditSinkFailed(format!("the audit repository answered with {with}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(id: &str, bytes: usize) -> AuditLine {
        AuditLine {
            id: id.to_owned(),
            json: "x".repeat(bytes),
        }
    }

    #[test]
    fn batches_hold_everything_in_order_within_their_bounds() {
        let many: Vec<AuditLine> = (0..120).map(|at| line(&at.to_string(), 10)).collect();
        let sizes = |events: &[AuditLine]| -> Vec<usize> {
            batches(events).iter().map(|it| it.len()).collect()
        };
        assert_eq!(sizes(&many), [50, 50, 20]);
        assert_eq!(batches(&many).concat(), many);
        assert_eq!(sizes(&[]), Vec::<usize>::new());
        let large = [
            line("a", BATCH_BYTES_MAX),
            line("b", 1),
            line("c", BATCH_BYTES_MAX + 1),
            line("d", BATCH_BYTES_MAX - 1),
        ];
        assert_eq!(sizes(&large), [1, 1, 1, 1]);
    }

    #[test]
    fn a_batch_counts_when_each_entry_was_taken() {
        let answer = |statuses: &[&str]| {
            let entries: Vec<Value> = statuses
                .iter()
                .map(|status| json!({"response": {"status": status}}))
                .collect();
            json!({"resourceType": "Bundle", "type": "batch-response", "entry": entries})
        };
        assert!(check_batch(&answer(&["201 Created", "200"]), 2).is_ok());
        for (bad, sent) in [
            (answer(&["201", "500"]), 2),
            (answer(&["201"]), 2),
            (answer(&["201", "202"]), 2),
            (
                json!({"type": "transaction-response", "entry": [{"response": {"status": "201"}}]}),
                1,
            ),
            (json!({"type": "batch-response", "entry": [{}]}), 1),
            (json!({}), 0),
        ] {
            assert!(check_batch(&bad, sent).is_err(), "{bad}");
        }
    }
}
