//! What is measured: sandbox EHR, store, engine and gateway, put up as `serve` has them, and agents with
//! open envelopes in front.
//!
//! The sandbox has a thread of its own, so that it disturbs the gateway no more than it must; the gateway
//! runs on the runtime of the command.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chaperone_connect::agent_client::{AgentAlgorithm, AgentClient, AgentCredential, AgentToken};
use chaperone_connect::egress::Gate;
use chaperone_connect::ehr::{EhrAuth, EhrConfig, EhrLimits, FhirEndpoint, ProfileSource};
use chaperone_connect::keys::KeyPlace;
use chaperone_connect::notify::SilentNotifier;
use chaperone_core::ids::{AccountName, AgentId, ConnectionId, IntentId, PersonId, TenantId};
use chaperone_core::ports::{Environment, ServerKind};
use chaperone_core::principal::{Human, Role};
use chaperone_engine::grant::{GrantRequest, PatientRef};
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::{Engine, EngineConfig};
use chaperone_sandbox::{Sandbox, SandboxConfig, SandboxHandle, ServerProfile};
use chaperone_web::console::CookieSecurity;
use chaperone_web::gateway::{GatewayLimits, Rate};
use chaperone_web::serve::{Bound, Listen};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::upstream::{InProcess, Snapshot, Upstream};
use crate::compose::{self, Basics, Places};
use crate::keys::{self, AgentKeyPair};
use crate::workers::Workers;

/// Synthetic patients, one for each client.
const PATIENTS: usize = 64;
/// Seed of the synthetic patients: the same ones each time.
const SEED: u64 = 20_261_121;
/// Limits that no measurement reaches.
const LIMITS: GatewayLimits = GatewayLimits {
    peer: Rate::new(600_000_000, 10_000_000),
    agent: Rate::new(600_000_000, 10_000_000),
    source: Rate::new(600_000_000, 10_000_000),
    concurrent_max: 8_192,
    request_timeout_ms: 30_000,
};

/// Everything that is up.
pub(super) struct Bed {
    pub(super) engine: Arc<Engine>,
    pub(super) patients: Vec<String>,
    pub(super) in_process: InProcess,
    basics: Basics,
    agents: BTreeMap<AgentId, AgentKeyPair>,
    base_url: String,
    ehr: RunningEhr,
    web: (oneshot::Sender<()>, JoinHandle<()>),
    workers: Workers,
}

/// A bench proposes in a second what an agent may in an hour.
const BULK: (&str, &str) = ("rules/bulk.toml", include_str!("bulk.toml"));

/// An envelope that was opened for a measurement.
pub(super) struct Opened {
    /// A client without connections yet.
    pub(super) client: AgentClient,
    pub(super) token: AgentToken,
    /// The same envelope, entered.
    pub(super) caller: Caller,
}

impl Bed {
    /// Puts everything up. `name` is of the database.
    pub(super) async fn put_up(
        folder: &Path,
        name: &str,
        database: &str,
        metrics: PrometheusHandle,
    ) -> anyhow::Result<Self> {
        let basics = Basics::of_this_machine();
        let ehr = RunningEhr::start(&basics)?;
        let patients = ehr.patients();
        let (bundle, agents) = keys::bundle_with_agent_keys("bench", &[BULK])?;
        let tenant = TenantId::new("bench")?;
        let home = folder.join(name);
        std::fs::create_dir_all(&home)?;
        let (keys, _escrow) =
            compose::open_keys(&KeyPlace::at(&home.join("keys")), &tenant).await?;
        let bound = Bound::new(Listen::on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
        let base_url = format!("http://{}", bound.address());
        let gate = compose::gate(&bundle, &base_url, &basics)?;
        let endpoint = endpoint(&ehr.base_url, &gate, &basics).await?;
        let probed = self::endpoint(&ehr.base_url, &gate, &basics).await?;
        let (upstream, in_process) = Upstream::new(endpoint, ehr.snapshot());
        let engine = compose::engine(
            EngineConfig::new(tenant, base_url.clone()),
            bundle,
            &Places {
                database,
                anchors: &home.join("anchors"),
            },
            keys,
            upstream,
            Arc::new(SilentNotifier),
            &basics,
        )
        .await?;
        crate::commands::conformance::prove(&engine, &probed, &basics).await?;
        let workers = Workers::start(&engine).counting(&engine, gate);
        let app = crate::web::app_within(&engine, CookieSecurity::Loopback, metrics, LIMITS);
        let (stop, stopped) = oneshot::channel();
        let web = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            if bound.serve(app, shutdown).await.is_err() {
                tracing::error!("the gateway ended badly");
            }
        });
        Ok(Self {
            engine,
            patients,
            in_process,
            basics,
            agents,
            base_url,
            ehr,
            web: (stop, web),
            workers,
        })
    }

    /// Lets everything finish what it has in hand.
    pub(super) async fn take_down(self) {
        let _ = self.web.0.send(());
        let _ = self.web.1.await;
        self.workers.stop().await;
        self.ehr.stop();
    }

    /// Envelopes of an intent, each of another patient while there are enough of them.
    pub(super) async fn open(
        &self,
        agent: &str,
        intent: &str,
        count: usize,
    ) -> anyhow::Result<Vec<Opened>> {
        let mut opened = Vec::with_capacity(count);
        for patient in self.patients.iter().cycle().take(count) {
            opened.push(self.open_one(agent, intent, patient).await?);
        }
        Ok(opened)
    }

    async fn open_one(&self, agent: &str, intent: &str, patient: &str) -> anyhow::Result<Opened> {
        let intent = IntentId::new(intent)?;
        let request = GrantRequest {
            agent: AgentId::new(agent)?,
            intent: intent.clone(),
            patient: PatientRef::LogicalId(patient.to_owned()),
            encounter: None,
            presence: false,
        };
        let nurse = Human {
            account: AccountName::new("bench")?,
            person: PersonId::from_random([1; 16]),
            roles: vec![Role::Rn],
        };
        let grant = self.engine.issue_grant(&nurse, request).await?;
        let answer = self.client(agent)?.token(&intent, Some(&grant.id)).await?;
        let (Some(token), Some(text)) = (
            answer.access_token(),
            answer.body.get("access_token").and_then(Value::as_str),
        ) else {
            bail!("no envelope for `{intent}`: status {}", answer.status);
        };
        let caller = self
            .engine
            .enter(Some(text), self.engine.correlation())
            .await?;
        Ok(Opened {
            // A client's connections belong to the runtime that made them: the load makes its own.
            client: self.client(agent)?,
            token,
            caller,
        })
    }

    fn client(&self, agent: &str) -> anyhow::Result<AgentClient> {
        let id = AgentId::new(agent)?;
        let pair = self
            .agents
            .get(&id)
            .context("the bundle has no such agent")?;
        let credential = AgentCredential {
            agent: id,
            key_id: pair.key_id.clone(),
            key_pem: pair.private_pem.clone().into(),
            algorithm: AgentAlgorithm::EdDsa,
        };
        Ok(AgentClient::new(
            &self.base_url,
            credential,
            Arc::clone(&self.basics.clock),
            Arc::clone(&self.basics.random),
        )?)
    }

    /// A client of the EHR without Chaperone between.
    pub(super) async fn direct(&self) -> anyhow::Result<FhirEndpoint> {
        let gate = Gate::to_this_machine(Arc::clone(&self.basics.clock));
        endpoint(&self.ehr.base_url, &gate, &self.basics).await
    }
}

async fn endpoint(base_url: &str, gate: &Gate, basics: &Basics) -> anyhow::Result<FhirEndpoint> {
    let config = EhrConfig {
        connection: ConnectionId::new("sandbox")?,
        environment: Environment::Sandbox,
        base_url: base_url.to_owned(),
        auth: EhrAuth::Open,
        limits: EhrLimits::default(),
        profile: ProfileSource::Kind {
            kind: ServerKind::Full,
            types: Vec::new(),
            transactions_are_atomic: true,
            updates_as_patches: false,
        },
        settle_ms: 1_000,
        extra_root_pem: None,
    };
    compose::endpoint(config, gate, basics, false).await
}

/// The sandbox EHR in a thread of its own.
pub(super) struct RunningEhr {
    pub(super) base_url: String,
    handle: SandboxHandle,
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl RunningEhr {
    /// Starts it and fills it with synthetic patients.
    pub(super) fn start(basics: &Basics) -> anyhow::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let clock = Arc::clone(&basics.clock);
        let thread = std::thread::Builder::new()
            .name("bench-ehr".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let Ok(runtime) = runtime else { return };
                runtime.block_on(async {
                    let config =
                        SandboxConfig::new(ServerProfile::Full, Arc::new(move || clock.now()));
                    match Sandbox::start(config).await {
                        Ok(sandbox) => {
                            let up = (sandbox.base_url.clone(), sandbox.handle.clone());
                            if tell.send(Ok(up)).is_ok() {
                                let _ = stopped.await;
                            }
                            sandbox.stop().await;
                        }
                        Err(failed) => {
                            let _ = tell.send(Err(failed));
                        }
                    }
                });
            })?;
        let (base_url, handle) = told
            .recv()
            .context("the sandbox EHR's thread ended badly")??;
        let now = basics.clock.now();
        for bundle in chaperone_sandbox::synthetic::patients(SEED, PATIENTS, now) {
            handle.load_bundle(&bundle)?;
        }
        handle.seed_operational(now)?;
        Ok(Self {
            base_url,
            handle,
            stop,
            thread,
        })
    }

    /// Logical ids, in a fixed order.
    fn patients(&self) -> Vec<String> {
        let mut patients: Vec<String> = self
            .handle
            .resources("Patient")
            .iter()
            .filter_map(|patient| patient.get("id").and_then(Value::as_str).map(str::to_owned))
            .collect();
        patients.sort();
        patients
    }

    fn snapshot(&self) -> Snapshot {
        self.handle
            .all_resources()
            .into_iter()
            .filter_map(|resource| {
                let text = |name: &str| resource.get(name).and_then(Value::as_str);
                let key = (text("resourceType")?.to_owned(), text("id")?.to_owned());
                Some((key, resource))
            })
            .collect()
    }

    /// Stops it.
    pub(super) fn stop(self) {
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the sandbox EHR ended badly");
        }
    }
}

/// A URL of the same PostgreSQL with a schema of this run.
pub(super) fn with_own_schema(url: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    let run = u128::from_be_bytes(Basics::of_this_machine().random.id());
    format!("{url}{separator}schema=chaperone_bench_{run:032x}")
}
