//! Agents in front of the server, over HTTP with their own keys.

use std::sync::Arc;
use std::time::Duration;

use chaperone_connect::agent_client::{
    AgentAlgorithm, AgentAnswer, AgentClient, AgentClientFailed, AgentCredential, AgentToken,
};
use chaperone_connect::clock::SystemClock;
use chaperone_connect::random::OsRandom;
use chaperone_core::ids::{AgentId, GrantId, IntentId, ToolName};
use serde_json::{Value, json};

use crate::ehr::MRN;
use crate::installation::{Installation, http, install_cryptography};

pub(crate) const SCHEDULER: &str = "scheduler-agent";
const DISPATCHER: &str = "intake-dispatcher";
/// Most tries of one request against a server that is up, where the EHR is slow on purpose.
pub(crate) const TRIES_MAX: usize = 40;
/// The pause between them.
const TRY_EVERY: Duration = Duration::from_millis(10);
/// How long a dispatcher asks for its token while the server says to come back shortly.
const SIGNED_IN_WITHIN: Duration = Duration::from_secs(60);
/// The longest that a limited agent is told to wait is believed, in seconds.
const RETRY_AFTER_S_MAX: u64 = 10;

/// An agent of the bundle with its key.
pub(crate) fn agent(installation: &Installation, id: &str) -> AgentClient {
    agent_at(installation, id, &installation.base_url)
}

/// The same in front of another node.
pub(crate) fn agent_at(installation: &Installation, id: &str, base_url: &str) -> AgentClient {
    install_cryptography();
    let credential = AgentCredential {
        agent: AgentId::new(id).unwrap(),
        key_id: "key-1".to_owned(),
        key_pem: installation.agent_keys[id].clone().into(),
        algorithm: AgentAlgorithm::EdDsa,
    };
    AgentClient::new(
        base_url,
        credential,
        Arc::new(SystemClock),
        Arc::new(OsRandom),
    )
    .unwrap()
}

/// The dispatcher of the default bundle, which puts patients before the scheduler.
pub(crate) struct Dispatcher {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Dispatcher {
    /// Signs in.
    pub(crate) async fn sign_in(installation: &Installation) -> Self {
        let agent = agent(installation, DISPATCHER);
        let audience = format!("{}/oauth/token", installation.base_url);
        // Asked to come back shortly, a client does: a database under load answers late.
        let deadline = tokio::time::Instant::now() + SIGNED_IN_WITHIN;
        let answer = loop {
            let assertion = agent.assertion(&audience).unwrap();
            let answer = agent
                .token_with(&assertion, "dispatch", None)
                .await
                .unwrap();
            if answer.body["error"] != "temporarily_unavailable"
                || tokio::time::Instant::now() > deadline
            {
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        let token = answer.body["access_token"].as_str();
        Self {
            http: http(),
            url: format!("{}/v1/grants", installation.base_url),
            token: token
                .unwrap_or_else(|| panic!("no token: {}", answer.body))
                .to_owned(),
        }
    }

    /// Asks for a grant. `None` when the server is gone.
    pub(crate) async fn grant(&self, mrn: &str) -> Option<Result<GrantId, Value>> {
        let answer = self
            .http
            .post(&self.url)
            .bearer_auth(&self.token)
            .json(&json!({
                "agent": SCHEDULER,
                "intent": "schedule-appointment",
                "patient": { "system": MRN, "value": mrn },
            }))
            .send()
            .await
            .ok()?;
        let body: Value = answer.json().await.ok()?;
        Some(match body["grant"].as_str() {
            Some(grant) => Ok(grant.parse().unwrap()),
            None => Err(body),
        })
    }
}

/// Opens an envelope. `None` when the server is gone.
pub(crate) async fn open(
    agent: &AgentClient,
    intent: &str,
    grant: Option<&GrantId>,
) -> Option<Result<AgentToken, Value>> {
    let intent = IntentId::new(intent).unwrap();
    let answer = agent.token(&intent, grant).await.ok()?;
    Some(answer.access_token().ok_or(answer.body))
}

/// Opens an envelope for a patient. `None` when the server is gone.
pub(crate) async fn enter(
    scheduler: &AgentClient,
    dispatcher: &Dispatcher,
    mrn: &str,
) -> Option<AgentToken> {
    for _ in 0..TRIES_MAX {
        match dispatcher.grant(mrn).await? {
            Ok(grant) => {
                let opened = open(scheduler, "schedule-appointment", Some(&grant)).await?;
                return Some(opened.unwrap_or_else(|body| panic!("no envelope: {body}")));
            }
            // The EHR is slow on purpose.
            Err(body) if body["code"] == "ehr-unavailable" => tokio::time::sleep(TRY_EVERY).await,
            Err(body) => panic!("no grant: {body}"),
        }
    }
    panic!("no grant after {TRIES_MAX} tries");
}

/// Calls a tool over REST, as often as the rate limit asks for.
pub(crate) async fn call(
    agent: &AgentClient,
    token: &AgentToken,
    tool: &str,
    arguments: &Value,
    key: Option<&str>,
) -> Result<AgentAnswer, AgentClientFailed> {
    let tool = ToolName::new(tool).unwrap();
    loop {
        let answer = agent.rest_call(token, &tool, arguments, key).await?;
        if answer.status != 429 {
            return Ok(answer);
        }
        let wait_s = answer
            .retry_after()
            .and_then(|text| text.parse().ok())
            .unwrap_or(1);
        tokio::time::sleep(Duration::from_secs(wait_s.min(RETRY_AFTER_S_MAX))).await;
    }
}

/// Tokens of free slots.
pub(crate) async fn free_slots(agent: &AgentClient) -> Vec<String> {
    let token = open(agent, "find-slots", None).await.unwrap().unwrap();
    let now = jiff::Timestamp::now();
    let until = now + jiff::SignedDuration::from_hours(24 * 14);
    let second = |at: jiff::Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let arguments = json!({ "from": second(now), "until": second(until), "count": 50 });
    let answer = call(agent, &token, "find_slots", &arguments, None)
        .await
        .unwrap();
    let resources = answer.body["resources"]
        .as_array()
        .unwrap_or_else(|| panic!("no slots: {}", answer.body));
    let slots: Vec<String> = resources
        .iter()
        .filter_map(|slot| Some(slot["id"].as_str()?.to_owned()))
        .collect();
    assert!(!slots.is_empty(), "no slot is free");
    slots
}
