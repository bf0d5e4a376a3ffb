//! How a scripted agent talks: over HTTP, to the same gateway as any other agent.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use chaperone_connect::agent_client::{AgentAlgorithm, AgentClient, AgentCredential, AgentToken};
use chaperone_core::ids::{AgentId, GrantId, IntentId, ToolName};
use chaperone_engine::Engine;
use chaperone_web::console::CookieSecurity;
use chaperone_web::serve::Bound;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::world::World;

/// Gateway and console on one listener.
pub(crate) struct Gateway {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Gateway {
    /// Serves on a loopback address that is held already.
    pub(crate) fn start(engine: &Arc<Engine>, bound: Bound, metrics: PrometheusHandle) -> Self {
        let app = crate::web::app(engine, CookieSecurity::Loopback, metrics);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            if bound.serve(app, shutdown).await.is_err() {
                tracing::error!("the gateway ended badly");
            }
        });
        Self { stop, task }
    }

    /// Stops taking requests and lets those in hand finish.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// An agent with its key.
pub(crate) struct Agent {
    client: AgentClient,
}

/// An agent inside an envelope.
pub(crate) struct Session {
    client: AgentClient,
    token: AgentToken,
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
        Ok(Self { client })
    }

    /// Opens an envelope.
    pub(crate) async fn open(
        &self,
        intent: &str,
        grant: Option<GrantId>,
    ) -> anyhow::Result<Session> {
        let answer = self
            .client
            .token(&IntentId::new(intent)?, grant.as_ref())
            .await?;
        let Some(token) = answer.access_token() else {
            bail!("no envelope for `{intent}`: {}", code_of(&answer.body));
        };
        Ok(Session {
            client: self.client.clone(),
            token,
        })
    }

    /// Tries to open an envelope that must not open.
    pub(crate) async fn is_refused(
        &self,
        intent: &str,
        grant: Option<GrantId>,
    ) -> anyhow::Result<bool> {
        let answer = self
            .client
            .token(&IntentId::new(intent)?, grant.as_ref())
            .await?;
        Ok(answer.access_token().is_none())
    }
}

impl Session {
    /// Calls a tool over MCP. The inner error is a refusal.
    pub(crate) async fn call(
        &self,
        tool: &str,
        arguments: Value,
    ) -> anyhow::Result<Result<Value, Refused>> {
        let answer = self
            .client
            .tools_call(&self.token, &ToolName::new(tool)?, &arguments)
            .await?;
        let Some(result) = answer.result() else {
            let body = answer
                .error()
                .and_then(|e| e.get("data"))
                .unwrap_or(&answer.body);
            return Ok(Err(Refused {
                code: code_of(body),
            }));
        };
        let content = result
            .get("structuredContent")
            .cloned()
            .unwrap_or(Value::Null);
        if result.get("isError").and_then(Value::as_bool) == Some(true) {
            return Ok(Err(Refused {
                code: code_of(&content),
            }));
        }
        Ok(Ok(content))
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

fn code_of(body: &Value) -> String {
    body.get("code")
        .or_else(|| body.get("error"))
        .and_then(Value::as_str)
        .unwrap_or("unexplained")
        .to_owned()
}
