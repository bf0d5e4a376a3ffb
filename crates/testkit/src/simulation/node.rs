//! Nodes of Chaperone in the world: they start, run the loops of a worker, crash, are stopped and start again.
//!
//! The loops are those of the binary (`crates/chaperone/src/workers.rs`) as far as they touch write-back:
//! delivery, undo runs, lists of patients, the ledger's integrator, and what follows an answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chaperone_core::digest::Digest;
use chaperone_core::ids::{ConnectionId, TenantId};
use chaperone_core::ports::{
    Anchor, AnchorFailed, DataKey, DestroyedKeys, KeyVault, KeyVaultFailed,
};
use chaperone_engine::deliver::UnderWay;
use chaperone_engine::{Engine, EngineConfig, Ports, StartFailed};

use super::bugs::Bug;
use super::cards::SimSupport;
use super::chance::NodeRandom;
use super::ehr_port::SimEhr;
use super::faults::Fault;
use super::server::ServerProfile;
use super::store_port::{Flavour, SimStore};
use super::undoing;
use super::world::{MILLI, Micros, NodeClock, Process, SECOND, Teller, World, wait};
use crate::keys::MemoryKeyVault;
use crate::outside::{PermitConsent, SilentNotifier};
use crate::time::lock;

/// How long the delivery loop waits when there is nothing to do.
const IDLE: Micros = 3 * SECOND;
/// How long it waits after a failure.
const AFTER_FAILURE: Micros = SECOND;
/// How often the integrator looks.
const INTEGRATE_EVERY: Micros = 5 * SECOND;
/// How often lists are gone on with.
const GO_ON_EVERY: Micros = 9 * SECOND;
/// How long what follows an answer is gathered.
const AFTERWORK_EVERY: Micros = 20 * MILLI;
/// How long whoever asked a node waits.
const CLIENT_PATIENCE: Micros = 30 * SECOND;

/// Which of two governance bundles a node goes by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rules {
    /// The one with which the play begins.
    #[default]
    First,
    /// The one that takes its place, and whose place the first may take again.
    Second,
}

impl Rules {
    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Rules::First => Rules::Second,
            Rules::Second => Rules::First,
        }
    }
}

/// The files of a bundle that takes another's place: by the bytes that its digest is taken over, not by what it says.
pub fn replacing(files: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut files = files.clone();
    if let Some(manifest) = files.get_mut("bundle.toml") {
        manifest
            .push_str("\n# The bundle that takes the place of the first one in the simulator.\n");
    }
    files
}

/// Makes an engine from settings and ports; what the two bundles are is the caller's.
pub type StartEngine = Arc<
    dyn Fn(
            Rules,
            EngineConfig,
            Ports,
        ) -> Pin<Box<dyn Future<Output = Result<Arc<Engine>, StartFailed>> + Send>>
        + Send
        + Sync,
>;

/// What all nodes of a seed have in common.
pub(crate) struct Cluster {
    pub(crate) world: Arc<World>,
    pub(crate) start: StartEngine,
    pub(crate) config: EngineConfig,
    pub(crate) keys: Arc<MemoryKeyVault>,
    pub(crate) flavour: Flavour,
    pub(crate) profile: ServerProfile,
    pub(crate) bug: Option<Bug>,
    engines: Mutex<Vec<Option<Arc<Engine>>>>,
}

impl Cluster {
    pub(crate) fn new(
        world: Arc<World>,
        start: StartEngine,
        config: EngineConfig,
        keys: Arc<MemoryKeyVault>,
        (flavour, profile): (Flavour, ServerProfile),
        bug: Option<Bug>,
    ) -> Self {
        Self {
            world,
            start,
            config,
            keys,
            flavour,
            profile,
            bug,
            engines: Mutex::default(),
        }
    }

    /// The tenant of the simulation.
    pub(crate) fn tenant(&self) -> &TenantId {
        &self.config.tenant
    }

    fn put(&self, node: usize, engine: Option<Arc<Engine>>) -> Option<Arc<Engine>> {
        let mut engines = lock(&self.engines);
        while engines.len() <= node {
            engines.push(None);
        }
        let place = engines.get_mut(node)?;
        std::mem::replace(place, engine)
    }

    /// The engine of a node that is up.
    pub(crate) fn engine(&self, node: usize) -> Option<Arc<Engine>> {
        lock(&self.engines).get(node).cloned().flatten()
    }

    /// The connection that a process has to the EHR.
    pub(crate) fn ehr(&self, process: Process, connection: ConnectionId) -> SimEhr {
        SimEhr {
            world: Arc::clone(&self.world),
            process,
            profile: self.profile,
            connection,
            bug: self.bug,
        }
    }

    fn ports(&self, process: Process, connection: ConnectionId) -> Ports {
        let world = &self.world;
        let random = world.with(|inner| NodeRandom::new(inner.chance.apart()));
        Ports {
            store: Arc::new(SimStore {
                world: Arc::clone(world),
                process,
                flavour: self.flavour,
                bug: self.bug,
            }),
            ehr: Arc::new(self.ehr(process, connection)),
            keys: Arc::new(SimKeys {
                world: Arc::clone(world),
                process,
                keys: Arc::clone(&self.keys),
            }),
            clock: Arc::new(NodeClock {
                world: Arc::clone(world),
                node: process.node,
            }),
            random: Arc::new(random),
            consent: Arc::new(PermitConsent),
            notifier: Arc::new(SilentNotifier::default()),
            anchor: Arc::new(SimAnchor {
                world: Arc::clone(world),
                process,
            }),
        }
    }

    /// Starts a node's next life; its loops begin once its engine has.
    pub(crate) fn boot(self: &Arc<Self>, node: usize, connection: &ConnectionId) {
        let process = self.world.with(|inner| {
            let state = inner.nodes.get_mut(node)?;
            state.life = state.life.saturating_add(1);
            state.is_up = true;
            let process = Process {
                node,
                life: state.life,
            };
            let now = inner.now;
            let rules = inner.state.truth.rules;
            inner
                .trace
                .say(now, format_args!("{process} starts by the rules {rules:?}"));
            Some((process, rules))
        });
        let Some((process, rules)) = process else {
            return;
        };
        let (cluster, connection) = (Arc::clone(self), connection.clone());
        self.world.spawn(process, async move {
            let engine = cluster.started((process, rules), &connection).await;
            cluster.put(node, Some(Arc::clone(&engine)));
            let world = &cluster.world;
            world.spawn(process, deliver(Arc::clone(world), Arc::clone(&engine)));
            world.spawn(process, integrate(Arc::clone(world), Arc::clone(&engine)));
            world.spawn(process, undo(Arc::clone(world), Arc::clone(&engine)));
            world.spawn(process, go_on(Arc::clone(world), Arc::clone(&engine)));
            world.spawn(process, afterwork(Arc::clone(world), engine));
        });
    }

    async fn started(
        &self,
        (process, rules): (Process, Rules),
        connection: &ConnectionId,
    ) -> Arc<Engine> {
        let config = EngineConfig {
            node: format!("node-{}", process.node),
            decision_support: Some(Arc::new(SimSupport {
                world: Arc::clone(&self.world),
                process,
                bug: self.bug,
            })),
            ..self.config.clone()
        };
        loop {
            let ports = self.ports(process, connection.clone());
            match (self.start)(rules, config.clone(), ports).await {
                Ok(engine) => {
                    let bundle = *engine.bundle().digest();
                    self.world
                        .with(|inner| inner.state.truth.goes_by.insert(process, bundle));
                    return engine;
                }
                Err(failed) => {
                    self.world.with(|inner| {
                        let now = inner.now;
                        inner
                            .trace
                            .say(now, format_args!("{process} does not start: {failed}"));
                    });
                    self.world.sleep(SECOND).await;
                }
            }
        }
    }

    /// A node dies.
    pub(crate) fn crash(&self, node: usize) {
        let engine = self.put(node, None);
        self.world.crash(node);
        drop(engine);
    }

    /// Asks a node something, as a client does: no answer when the node dies, or takes too long.
    pub(crate) async fn on<T, F>(
        &self,
        node: usize,
        ask: impl FnOnce(Arc<Engine>) -> F,
    ) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let engine = self.engine(node)?;
        let process = self.world.with(|inner| {
            let life = inner.nodes.get(node)?.life;
            Some(Process { node, life })
        })?;
        let (teller, answer) = wait();
        let told = Told(teller);
        let asked = ask(engine);
        self.world.spawn(process, async move {
            let told = told;
            let answer = asked.await;
            told.0.tell(Some(answer));
        });
        let patience = self.world.sleep(CLIENT_PATIENCE);
        tokio::select! {
            biased;
            answer = answer => answer,
            () = patience => None,
        }
    }
}

/// Says that there is no answer when it is dropped.
struct Told<T>(Teller<Option<T>>);

impl<T> Drop for Told<T> {
    fn drop(&mut self) {
        self.0.tell(None);
    }
}

async fn deliver(world: Arc<World>, engine: Arc<Engine>) {
    let mut changes = engine.changes();
    let mut under_way = UnderWay::default();
    loop {
        let pause = match engine.start_due("delivery", &mut under_way).await {
            Ok(_) => IDLE,
            Err(_) => AFTER_FAILURE,
        };
        let pause = world.sleep(pause);
        tokio::select! {
            biased;
            () = under_way.next() => {}
            _ = changes.changed() => {}
            () = pause => {}
        }
    }
}

async fn integrate(world: Arc<World>, engine: Arc<Engine>) {
    loop {
        let _ = engine.record_counted_refusals(false).await;
        let _ = engine.record_key_events(false).await;
        let _ = engine.integrate_ledger().await;
        world.sleep(INTEGRATE_EVERY).await;
    }
}

async fn undo(world: Arc<World>, engine: Arc<Engine>) {
    loop {
        world.sleep(undoing::ADVANCE_EVERY).await;
        let _ = engine.advance_undo_runs().await;
    }
}

/// Lists go on and exceptions end. In seeds without any, the store is not asked for them.
async fn go_on(world: Arc<World>, engine: Arc<Engine>) {
    loop {
        world.sleep(GO_ON_EVERY).await;
        let (has_lists, has_exceptions) = world.with(|inner| {
            let truth = &inner.state.truth;
            (truth.has_lists, truth.has_exceptions)
        });
        if has_lists {
            let _ = engine.advance_cohorts().await;
        }
        if has_exceptions {
            let _ = engine.end_exceptions().await;
        }
    }
}

async fn afterwork(world: Arc<World>, engine: Arc<Engine>) {
    let Some(mut queue) = engine.afterwork() else {
        return;
    };
    while engine.run_afterwork(&mut queue).await {
        world.sleep(AFTERWORK_EVERY).await;
    }
}

/// Keys that now and then do not answer.
struct SimKeys {
    world: Arc<World>,
    process: Process,
    keys: Arc<MemoryKeyVault>,
}

impl SimKeys {
    fn answers(&self) -> Result<(), KeyVaultFailed> {
        self.world.with(|inner| {
            if inner
                .faults
                .happens(Fault::KeysUnavailable, &mut inner.chance)
            {
                let now = inner.now;
                inner.trace.fault(now, Fault::KeysUnavailable, self.process);
                return Err(KeyVaultFailed::Unavailable("simulated".to_owned()));
            }
            Ok(())
        })
    }
}

#[async_trait]
impl KeyVault for SimKeys {
    async fn data_key(&self, tenant: &TenantId, name: &str) -> Result<DataKey, KeyVaultFailed> {
        self.answers()?;
        self.keys.data_key(tenant, name).await
    }

    async fn existing_key(&self, tenant: &TenantId, name: &str) -> Result<DataKey, KeyVaultFailed> {
        self.answers()?;
        self.keys.existing_key(tenant, name).await
    }

    async fn destroy(&self, tenant: &TenantId, name: &str) -> Result<(), KeyVaultFailed> {
        self.keys.destroy(tenant, name).await
    }

    async fn destroyed(&self, tenant: &TenantId) -> Result<DestroyedKeys, KeyVaultFailed> {
        self.answers()?;
        self.keys.destroyed(tenant).await
    }

    async fn destroy_again(&self, tenant: &TenantId, key: &Digest) -> Result<(), KeyVaultFailed> {
        self.keys.destroy_again(tenant, key).await
    }

    async fn signing_seed(&self, tenant: &TenantId) -> Result<DataKey, KeyVaultFailed> {
        self.answers()?;
        self.keys.signing_seed(tenant).await
    }
}

/// A place for checkpoints outside the database that now and then is full.
struct SimAnchor {
    world: Arc<World>,
    process: Process,
}

#[async_trait]
impl Anchor for SimAnchor {
    async fn anchor(&self, _tenant: &TenantId, size: u64, note: &str) -> Result<(), AnchorFailed> {
        self.world.with(|inner| {
            let now = inner.now;
            if inner.faults.happens(Fault::AnchorFails, &mut inner.chance) {
                inner.trace.fault(now, Fault::AnchorFails, self.process);
                return Err(AnchorFailed("simulated".to_owned()));
            }
            inner.state.truth.anchored.push((size, note.to_owned()));
            Ok(())
        })
    }

    async fn newest(&self, _tenant: &TenantId) -> Result<Option<String>, AnchorFailed> {
        Ok(self.world.with(|inner| {
            let newest = inner.state.truth.anchored.last();
            newest.map(|(_, note)| note.clone())
        }))
    }
}
