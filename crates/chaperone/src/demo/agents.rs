//! How a scripted agent talks: over HTTP, to the same gateway as any other agent.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use chaperone_connect::agent_client::{AgentAlgorithm, AgentClient, AgentCredential, AgentToken};
use chaperone_core::ids::{AgentId, GrantId, IntentId, ToolName};
use chaperone_engine::Engine;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::world::World;

/// Placeholder.
pub(crate) struct Gateway;
impl Gateway {
    pub(crate) fn start(
        _engine: &Arc<Engine>,
        _listener: tokio::net::TcpListener,
    ) -> anyhow::Result<Self> {
        Ok(Self)
    }
    pub(crate) async fn stop(self) {}
}

/// An agent with its key.
pub(crate) struct Agent {
    client: AgentClient,
    engine: Arc<Engine>,
}

/// An agent inside an envelope.
pub(crate) struct Session {
    engine: Arc<Engine>,
    token: String,
}

/// A refusal as the agent sees it.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    /// Its stable code.
    pub(crate) code: String,
}

impl Agent {
    /// One of the bundle's agents.
    pub(crate) fn of(world: &World, id: &str) -> anyhow::Result<Self> {
        let id = AgentId::new(id)?;
        let pair = world
            .agents
            .get(&id)
            .context("the bundle has no such agent")?;
        let credential = AgentCredential {
            agent: id,
            key_id: pair.key_id.clone(),
            key_pem: pair.private_pem.clone().into(),
            algorithm: AgentAlgorithm::EdDsa,
        };
        let client = AgentClient::new(
            &world.base_url,
            credential,
            Arc::clone(&world.basics.clock),
            Arc::clone(&world.basics.random),
        )?;
        Ok(Self {
            client,
            engine: Arc::clone(&world.engine),
        })
    }

    /// Opens an envelope.
    pub(crate) async fn open(
        &self,
        intent: &str,
        grant: Option<GrantId>,
    ) -> anyhow::Result<Session> {
        match self.ask(intent, grant).await? {
            Ok(token) => Ok(Session {
                engine: Arc::clone(&self.engine),
                token,
            }),
            Err(e) => bail!("no envelope for {intent}: {e}"),
        }
    }
    async fn ask(
        &self,
        intent: &str,
        grant: Option<GrantId>,
    ) -> anyhow::Result<Result<String, chaperone_engine::CallError>> {
        let assertion = self
            .client
            .assertion(&format!("{}/oauth/token", self.engine.config().audience))?;
        let details = grant.map(|g| json!([{"type":"chaperone_context","grant":g}]).to_string());
        let c = self.engine.correlation();
        Ok(self
            .engine
            .open_envelope(chaperone_engine::open_envelope::TokenRequest {
                assertion: &assertion,
                scope: &format!("intent/{intent}"),
                authorization_details: details.as_deref(),
                correlation: c,
            })
            .await
            .map(|a| a.access_token))
    }

    /// Tries to open an envelope that must not open.
    pub(crate) async fn is_refused(
        &self,
        intent: &str,
        grant: Option<GrantId>,
    ) -> anyhow::Result<bool> {
        Ok(self.ask(intent, grant).await?.is_err())
    }
}

impl Session {
    /// Calls a tool over MCP. The inner error is a refusal.
    pub(crate) async fn call(
        &self,
        tool: &str,
        arguments: Value,
    ) -> anyhow::Result<Result<Value, Refused>> {
        let c = self.engine.correlation();
        let caller = match self.engine.enter(Some(&self.token), c).await {
            Ok(c) => c,
            Err(e) => {
                return Ok(Err(Refused {
                    code: e.code.to_owned(),
                }));
            }
        };
        Ok(self
            .engine
            .call(
                &caller,
                tool,
                arguments.as_object().cloned().unwrap_or_default(),
                c,
            )
            .await
            .map_err(|e| {
                eprintln!("   {tool}: {e}");
                Refused {
                    code: e.code.to_owned(),
                }
            }))
    }

    /// Calls a tool that must answer.
    pub(crate) async fn must(&self, tool: &str, arguments: Value) -> anyhow::Result<Value> {
        match self.call(tool, arguments).await? {
            Ok(value) => Ok(value),
            Err(refused) => bail!("`{tool}` was refused: {}", refused.code),
        }
    }

    /// Proposes, with a key of its own.
    pub(crate) async fn propose(
        &self,
        tool: &str,
        key: &str,
        arguments: Value,
    ) -> anyhow::Result<Value> {
        let mut all: Map<String, Value> = arguments.as_object().cloned().unwrap_or_default();
        all.insert("idempotency_key".to_owned(), json!(key));
        self.must(tool, Value::Object(all)).await
    }

    /// The resources a read tool shows.
    pub(crate) async fn read(&self, tool: &str, arguments: Value) -> anyhow::Result<Vec<Value>> {
        let answer = self.must(tool, arguments).await?;
        Ok(answer
            .get("resources")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default())
    }
}
