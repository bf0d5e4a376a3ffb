//! The simulator: one seed drives engine, store, EHR, clocks, agents and people through everything that can go
//! wrong between them, and a checker judges what became of it.
//!
//! Nothing here waits, draws randomness of its own, starts a thread or needs a runtime: a seed gives the same
//! history, byte for byte, on every machine. Not simulated: HTTP, SQL, signing in, codes of second factors, and
//! the EHR adapter itself (`docs/simulator.md`).
//!
//! Reading order: [`world`] (time and failure), [`store_port`] and [`ehr_port`] with [`ehr_as_one`] (the ports as a node
//! sees them), [`server`] (the EHR), [`signers`] (people on its screens), [`node`], [`agents`] with [`as_one`],
//! [`people`] with [`editing`], [`undoing`], [`claims`], [`together`], [`cards`], [`exceptions`] and [`cohorts`],
//! [`play`] (what happens), [`played`] (what the bundle holds for it), [`check`] (what must hold), [`bugs`] (what is
//! planted to see that it is found). Start at [`simulate`].

mod agents;
mod as_one;
mod bugs;
mod cards;
mod chance;
mod check;
mod claims;
mod cohorts;
mod coverage;
mod editing;
mod ehr_as_one;
mod ehr_port;
mod ehr_signature;
mod exceptions;
mod faults;
mod node;
mod people;
mod play;
mod played;
mod server;
mod signers;
mod state;
mod store_port;
mod together;
mod trace;
mod undoing;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use chaperone_core::conformance::Conformance;
use chaperone_core::digest::Digest;
use chaperone_core::ids::{ConnectionId, TenantId, WritebackId};
use chaperone_core::ports::Ehr as _;
use chaperone_engine::{Engine, EngineConfig};

pub use self::bugs::Bug;
pub use self::check::{Property, Violation};
pub use self::coverage::Coverage;
pub use self::faults::Fault;
pub use self::node::{Rules, StartEngine, replacing};
pub use self::played::played;
pub use self::server::ServerProfile;
pub use self::store_port::Flavour;

use self::chance::Chance;
use self::faults::Faults;
use self::node::Cluster;
use self::people::Directory;
use self::play::{Play, REST, TROUBLE};
use self::server::Server;
use self::state::{State, Truth};
use self::trace::Trace;
use self::world::{Micros, OUTSIDE, SECOND, World};
use crate::keys::MemoryKeyVault;
use crate::memory::Tables;

/// Most steps of one seed unless it is said otherwise; a seed that needs more has not come to rest.
pub const STEPS: u64 = 400_000;

/// What to simulate.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Most steps.
    pub steps: u64,
    /// A bug to plant.
    pub bug: Option<Bug>,
}

impl Options {
    /// One seed, nothing planted.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            steps: STEPS,
            bug: None,
        }
    }
}

/// What came of one seed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Which database it ran over, and which server.
    pub flavour: Flavour,
    /// The server.
    pub profile: ServerProfile,
    /// Nodes.
    pub nodes: usize,
    /// Steps taken.
    pub steps: u64,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// A hash of the whole trace: the same for the same seed.
    pub trace_hash: Digest,
    /// The last lines of the trace.
    pub trace: Vec<String>,
    /// What was reached.
    pub coverage: Coverage,
    /// What did not hold.
    pub violations: Vec<Violation>,
}

/// Plays one seed and judges it. `start` makes engines on the bundle to simulate.
pub fn simulate(start: &StartEngine, options: Options) -> Outcome {
    let mut chance = Chance::new(options.seed);
    let drawn = Drawn::of(&mut chance);
    let cluster = stage(start, options, &drawn, chance);
    let world = Arc::clone(&cluster.world);
    let play = Arc::new(Play {
        people: Directory::new(options.bug),
        nodes: drawn.nodes,
        connection: connection(),
        cluster: Arc::clone(&cluster),
    });
    world.with(play::furnish);
    world.with(|inner| signers::enrol(&cluster, inner));
    let befallen = Arc::clone(&play);
    world.fated(move |node, doom| play::befall(&befallen, node, doom));
    for node in 1..=drawn.nodes {
        cluster.boot(node, &play.connection);
    }
    world.spawn(OUTSIDE, show_conformance(Arc::clone(&play)));
    world.run(options.steps, |inner| {
        inner.state.truth.is_shown || inner.now > 60 * SECOND
    });
    world.with(|inner| inner.faults.begin());
    play::begin(&play);
    let trouble_ends = world.with(|inner| inner.now.saturating_add(TROUBLE));
    world.run(options.steps, |inner| inner.now >= trouble_ends);
    play::calm(&play);
    let is_at_rest = rest(&play, options.steps);
    let orders = open_orders(&play, options.steps);
    let outcome = world.with(|inner| {
        let violations = check::judge(
            cluster.tenant(),
            &inner.state,
            &orders,
            &inner.trace.faults,
            is_at_rest,
        );
        Outcome {
            seed: options.seed,
            flavour: drawn.flavour,
            profile: drawn.profile,
            nodes: drawn.nodes,
            steps: inner.steps,
            simulated_us: inner.now,
            trace_hash: inner.trace.hash(),
            trace: inner.trace.lines(),
            coverage: Coverage::of(cluster.tenant(), inner),
            violations,
        }
    });
    for node in 1..=drawn.nodes {
        cluster.crash(node);
    }
    world.end();
    outcome
}

/// What a seed decides at once.
struct Drawn {
    flavour: Flavour,
    profile: ServerProfile,
    /// Of an operation of the EHR's own: whether it files a message as often as it comes.
    forgets_messages: bool,
    nodes: usize,
    faults: Faults,
}

impl Drawn {
    fn of(chance: &mut Chance) -> Self {
        let flavour = match chance.below(3) {
            0 => Flavour::Sqlite,
            _ => Flavour::Postgres,
        };
        let profile = match chance.below(12) {
            0 => ServerProfile::ReadOnly,
            1..=3 => ServerProfile::Plain,
            4 | 5 => ServerProfile::Vendor,
            6 | 7 => ServerProfile::Staged,
            _ => ServerProfile::Full,
        };
        let nodes = match flavour {
            Flavour::Sqlite => 1,
            Flavour::Postgres => 2,
        };
        let mut faults = Faults::drawn(chance);
        let forgets_messages =
            profile == ServerProfile::Vendor && faults.happens(Fault::ForgetsMessages, chance);
        let twice_is_twice = matches!(profile, ServerProfile::Plain | ServerProfile::Staged);
        if twice_is_twice || forgets_messages {
            // A server without conditions applies what the network brings twice, twice: below P3 nobody
            // claims otherwise, and there is nothing to be checked.
            faults.forbid(Fault::WriteTwice);
            faults.forbid(Fault::WriteTwiceSecondCounts);
        }
        Self {
            flavour,
            profile,
            forgets_messages,
            nodes,
            faults,
        }
    }
}

fn stage(start: &StartEngine, options: Options, drawn: &Drawn, mut chance: Chance) -> Arc<Cluster> {
    let mut server = Server::new(drawn.profile);
    server.forgets_messages = drawn.forgets_messages;
    server.adds_elements = drawn.faults.happens(Fault::AddsElements, &mut chance);
    let mut truth = Truth::default();
    truth.humans.extend(Directory::humans());
    truth.in_training = Directory::in_training();
    let mut tables = Tables::default();
    tables.forgets = options.bug.map(Bug::forgets).unwrap_or_default();
    let state = State {
        tables,
        ehr: server,
        truth,
    };
    let config = settings(&mut chance);
    let mut trace = Trace::new(options.seed);
    let line = format_args!(
        "seed {}: {} node(s) on {}, an EHR that is {}",
        options.seed,
        drawn.nodes,
        drawn.flavour.as_str(),
        drawn.profile.as_str()
    );
    trace.say(0, line);
    if state.ehr.adds_elements {
        trace.fault(0, Fault::AddsElements, "the EHR");
    }
    if state.ehr.forgets_messages {
        trace.fault(0, Fault::ForgetsMessages, "the EHR");
    }
    let mut faults = drawn.faults.clone();
    faults.end();
    let world = World::new(chance, faults, drawn.nodes, state, trace);
    Arc::new(Cluster::new(
        world,
        Arc::clone(start),
        config,
        Arc::new(MemoryKeyVault::new(options.seed)),
        (drawn.flavour, drawn.profile),
        options.bug,
    ))
}

/// Settings with short times, so that everything that can run out does.
fn settings(chance: &mut Chance) -> EngineConfig {
    EngineConfig {
        approve_within_s: chance.between(60, 600).cast_signed(),
        approve_within_grave_s: chance.between(60, 300).cast_signed(),
        deliver_within_s: chance.between(60, 900).cast_signed(),
        deliver_within_grave_s: chance.between(60, 300).cast_signed(),
        signers: signers::known(),
        ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
    }
}

#[expect(clippy::expect_used, reason = "a fixed name that is well formed")]
fn tenant() -> TenantId {
    TenantId::new("clinic").expect("a slug")
}

#[expect(clippy::expect_used, reason = "a fixed name that is well formed")]
fn connection() -> ConnectionId {
    ConnectionId::new("simulated").expect("a slug")
}

/// Records that the EHR was shown to do what it says.
async fn show_conformance(play: Arc<Play>) {
    let world = Arc::clone(&play.cluster.world);
    loop {
        world.sleep(SECOND / 10).await;
        let profile = play.cluster.ehr(OUTSIDE, connection()).profile();
        let done = play
            .cluster
            .on(1, move |engine: Arc<Engine>| async move {
                let found = Conformance {
                    round_trip: true,
                    profile,
                    ..Conformance::default()
                };
                let report = engine.conformance_report(found, 30);
                engine.record_conformance(&report).await.is_ok()
            })
            .await;
        if done == Some(true) {
            world.with(|inner| inner.state.truth.is_shown = true);
            return;
        }
    }
}

/// Lets everything come to rest, and the ledger be signed.
fn rest(play: &Arc<Play>, steps: u64) -> bool {
    let world = &play.cluster.world;
    let ends = world.with(|inner| inner.now.saturating_add(REST));
    loop {
        let look_again = world.with(|inner| inner.now.saturating_add(20 * SECOND));
        if !world.run(steps, |inner| inner.now >= look_again) {
            return false;
        }
        if play::is_at_rest(play) {
            let ended = play::ledger_size(play);
            let signed = world.with(|inner| inner.now.saturating_add(20 * SECOND));
            if !world.run(steps, |inner| inner.now >= signed) {
                return false;
            }
            // Something may be recorded while we wait for the signature, such as what an undo run proposes again.
            if play::is_at_rest(play) && play::ledger_size(play) == ended {
                return true;
            }
        }
        if world.with(|inner| inner.now >= ends) {
            return false;
        }
    }
}

/// Tries to open one order.
const OPENS_MAX: usize = 3;
/// How long opening them may take: longer than a node is stopped by what was on its way when the trouble ended.
const OPENED_WITHIN: Micros = 300 * SECOND;

/// Opens the order of every write-back, as whoever checks a receipt does.
fn open_orders(play: &Arc<Play>, steps: u64) -> BTreeMap<WritebackId, Vec<u8>> {
    let world = Arc::clone(&play.cluster.world);
    let (teller, mut orders) = world::wait();
    let asked = Arc::clone(play);
    world.spawn(OUTSIDE, async move {
        let ids = play::writebacks(&asked);
        let mut opened = BTreeMap::new();
        for id in ids {
            // A fault that was under way when the trouble ended may still hit one of them.
            for _ in 0..OPENS_MAX {
                let order = asked
                    .cluster
                    .on(1, move |engine: Arc<Engine>| async move {
                        engine.order_bytes(id).await.ok()
                    })
                    .await;
                if let Some(order) = order.flatten() {
                    opened.insert(id, order);
                    break;
                }
            }
        }
        teller.tell(opened);
    });
    // It has to be there before anything is judged, whatever was used up before.
    let ends = world.with(|inner| inner.now.saturating_add(OPENED_WITHIN));
    world.run(steps.saturating_add(STEPS), |inner| {
        inner.now >= ends || orders.is_told()
    });
    orders.take().unwrap_or_default()
}
