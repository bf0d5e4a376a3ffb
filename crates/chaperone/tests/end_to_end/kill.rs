//! `kill -9` at random moments during delivery, for each database and each kind of server.
//!
//! What must hold afterwards: nothing acknowledged is lost; where the EHR honours conditions, everything
//! is delivered and nothing took effect twice; where it does not, every ambiguity waits for a human and
//! none was sent a second time; and the ledger verifies.
//!
//! `CHAPERONE_KILLS` says how often each server is killed (default 5), `CHAPERONE_KILL_SEED` repeats the
//! moments and faults of an earlier run as far as timing allows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chaperone_connect::agent_client::{AgentClient, AgentToken};
use chaperone_sandbox::{FaultKind, FaultRule, RunningSandbox, ServerProfile};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::time::Instant;

use crate::agents::{Dispatcher, SCHEDULER, TRIES_MAX, agent, call, enter, free_slots};
use crate::cluster;
use crate::ehr;
use crate::export::{kinds, last_export};
use crate::installation::{Installation, Settings, tail};
use crate::searched::{addresses_at, nothing_is_left};

/// Kills per test unless the environment says otherwise.
const KILLS: usize = 5;
/// Patients of one round; nobody but them is written to in it, so that one who waits for a human does not
/// hold up the next round.
const PATIENTS_PER_ROUND: usize = 5;
/// Proposals for one patient: the second waits for the first.
const PROPOSALS_PER_PATIENT: usize = 2;
/// One request to the EHR, in milliseconds: short, so that what a kill left is taken up soon.
const EXCHANGE_MS: u64 = 600;
/// How long after the chosen send the kill comes at most, in milliseconds.
const KILL_WITHIN_MS: u64 = 120;
/// Faults that are prepared for one round.
const FAULTS_PER_ROUND: usize = 24;
/// How long delivery may take to begin, and to end when nothing disturbs it any more.
const BEGUN_WITHIN: Duration = Duration::from_secs(60);
const SETTLED_WITHIN: Duration = Duration::from_secs(240);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_with_a_full_ehr_everything_takes_effect_once() {
    Run::set_up(Database::Sqlite, Kind::Full).await.play().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_with_a_full_ehr_everything_takes_effect_once() {
    Run::set_up(Database::Postgres, Kind::Full)
        .await
        .play()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_with_a_plain_ehr_no_ambiguity_is_sent_again() {
    Run::set_up(Database::Sqlite, Kind::Plain)
        .await
        .play()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_with_a_plain_ehr_no_ambiguity_is_sent_again() {
    Run::set_up(Database::Postgres, Kind::Plain)
        .await
        .play()
        .await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Database {
    Sqlite,
    Postgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Full,
    Plain,
}

/// One thing to be proposed.
#[derive(Debug, Clone)]
struct Ask {
    patient: usize,
    mrn: String,
    key: String,
    slot: String,
}

/// What an agent was told.
#[derive(Debug, Clone)]
struct Acknowledged {
    patient: usize,
    proposal: String,
}

/// What came of the asks for one patient before the server was gone.
struct Visit {
    acknowledged: Vec<Acknowledged>,
    unanswered: Vec<Ask>,
    token: Option<AgentToken>,
}

struct Run {
    database: Database,
    kind: Kind,
    seed: u64,
    random: StdRng,
    sandbox: RunningSandbox,
    installation: Installation,
    scheduler: AgentClient,
    slots: Vec<String>,
    asked: usize,
    acknowledged: Vec<Acknowledged>,
    /// Sends that the EHR received.
    sends: usize,
    /// The addresses that it saw.
    addresses: String,
}

impl Run {
    async fn set_up(database: Database, kind: Kind) -> Self {
        let seed = number_from_environment("CHAPERONE_KILL_SEED").unwrap_or_else(rand::random);
        let profile = match kind {
            Kind::Full => ServerProfile::Full,
            Kind::Plain => ServerProfile::Plain,
        };
        let sandbox = ehr::start(profile).await;
        let store = match database {
            Database::Sqlite => "sqlite:data/chaperone.db".to_owned(),
            Database::Postgres => tokio::task::spawn_blocking(cluster::fresh_url)
                .await
                .unwrap(),
        };
        let mut settings = Settings::new(&store, &sandbox.base_url, profile.name());
        settings.exchange_timeout_ms = EXCHANGE_MS;
        // Both ways of writing a Provenance: with its target, and after it.
        settings.transactions_are_atomic = database == Database::Sqlite;
        let installation = Installation::new(&settings);
        installation.prove_conformance();
        sandbox.handle.clear_requests();
        let scheduler = agent(&installation, SCHEDULER);
        Self {
            database,
            kind,
            seed,
            random: StdRng::seed_from_u64(seed),
            sandbox,
            installation,
            scheduler,
            slots: Vec::new(),
            asked: 0,
            acknowledged: Vec::new(),
            sends: 0,
            addresses: String::new(),
        }
    }

    async fn play(mut self) {
        let kills = number_from_environment("CHAPERONE_KILLS").unwrap_or(KILLS as u64) as usize;
        eprintln!(
            "{:?}, {:?}: {kills} kills, CHAPERONE_KILL_SEED={}",
            self.database, self.kind, self.seed
        );
        let mut server = self.installation.start().await;
        self.slots = free_slots(&self.scheduler).await;
        for round in 0..kills {
            self.inject_faults();
            let asks = self.asks(round);
            let proposing = self.propose(&asks).await;
            self.wait_for_a_send(&proposing).await;
            server.kill();
            let visits = proposing.finish().await;
            self.sends += self.sends_received();
            self.addresses.push_str(&addresses_at(&self.sandbox));
            self.sandbox.handle.clear_requests();
            server = self.installation.start().await;
            self.ask_again(visits).await;
        }
        self.sandbox.handle.clear_faults();
        let states = self.settled().await;
        self.sends += self.sends_received();
        self.addresses.push_str(&addresses_at(&self.sandbox));
        let export = last_export(&self.installation, server).await;
        self.judge(&states, &export.histories());
        let name = format!("kill, {:?}, {:?}", self.database, self.kind);
        nothing_is_left(&name, &self.installation, &self.addresses, &ehr::ADDED);
    }

    /// The proposals of one round, grouped by patient.
    fn asks(&mut self, round: usize) -> Vec<Vec<Ask>> {
        (0..PATIENTS_PER_ROUND)
            .map(|position| {
                let patient = round * PATIENTS_PER_ROUND + position;
                let mrn = ehr::add_patient(&self.sandbox, patient);
                (0..PROPOSALS_PER_PATIENT)
                    .map(|count| {
                        self.asked += 1;
                        Ask {
                            patient,
                            mrn: mrn.clone(),
                            key: format!("kill-{patient}-{count}"),
                            slot: self.slots[self.asked % self.slots.len()].clone(),
                        }
                    })
                    .collect()
            })
            .collect()
    }

    /// What goes wrong in one round. Most of it only takes its time, so that the kill finds work in
    /// progress before a send has arrived, after it took effect, and while it is read back.
    fn inject_faults(&mut self) {
        self.sandbox.handle.clear_faults();
        for _ in 0..FAULTS_PER_ROUND {
            let held = self.random.random_range(20..150);
            let late = FaultKind::Latency { ms: held };
            let lost = FaultKind::TimeoutBeforeCommit { hold_ms: held };
            let applied = FaultKind::TimeoutAfterCommit { hold_ms: held };
            let (method, kind) = match (self.random.random_range(0..20), self.kind) {
                (0..=10, _) => ("POST", late),
                (11..=14, _) => ("GET", late),
                (15, _) => ("POST", applied),
                (_, Kind::Plain) => ("POST", late),
                (16, Kind::Full) => ("POST", applied),
                (17, Kind::Full) => ("POST", lost),
                (18, Kind::Full) => ("POST", FaultKind::Status { code: 503 }),
                (_, Kind::Full) => ("POST", FaultKind::TooManyRequests { retry_after_s: 1 }),
            };
            let type_read = (method == "GET").then(|| "Appointment".to_owned());
            self.sandbox.handle.inject(FaultRule {
                method: Some(method.to_owned()),
                resource_type: type_read,
                parameter: None,
                kind,
                times: 1,
            });
        }
    }

    async fn propose(&self, asks: &[Vec<Ask>]) -> Proposing {
        let dispatcher = Arc::new(Dispatcher::sign_in(&self.installation).await);
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let tasks = asks
            .iter()
            .map(|of_patient| {
                let (scheduler, dispatcher) = (self.scheduler.clone(), Arc::clone(&dispatcher));
                let (asks, count) = (of_patient.clone(), Arc::clone(&acknowledged));
                tokio::spawn(
                    async move { visit(&scheduler, &dispatcher, None, asks, &count).await },
                )
            })
            .collect();
        Proposing {
            acknowledged,
            tasks,
        }
    }

    /// A random number of sends, and then a random moment.
    async fn wait_for_a_send(&mut self, proposing: &Proposing) {
        let wanted = self.random.random_range(1..=4);
        let then_ms = self.random.random_range(0..=KILL_WITHIN_MS);
        let deadline = Instant::now() + BEGUN_WITHIN;
        while proposing.acknowledged.load(Ordering::SeqCst) == 0 || self.sends_received() < wanted {
            assert!(
                Instant::now() < deadline,
                "no delivery began within {BEGUN_WITHIN:?}:\n{}",
                tail(&self.installation.log())
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tokio::time::sleep(Duration::from_millis(then_ms)).await;
    }

    /// What was not answered is asked again with the same keys; now it must be.
    async fn ask_again(&mut self, visits: Vec<Visit>) {
        let dispatcher = Dispatcher::sign_in(&self.installation).await;
        let uncounted = AtomicUsize::new(0);
        for first in visits {
            self.acknowledged.extend(first.acknowledged);
            if first.unanswered.is_empty() {
                continue;
            }
            let again = visit(
                &self.scheduler,
                &dispatcher,
                first.token,
                first.unanswered,
                &uncounted,
            )
            .await;
            assert!(
                again.unanswered.is_empty(),
                "the server is up and did not answer"
            );
            self.acknowledged.extend(again.acknowledged);
        }
    }

    /// Writes that the EHR received since they were last counted. A Provenance follows its target.
    fn sends_received(&self) -> usize {
        let requests = self.sandbox.handle.requests();
        let is_send = |method: &str, path: &str| {
            method != "GET" && !path.ends_with("/_search") && path != "/Provenance"
        };
        requests
            .iter()
            .filter(|request| is_send(&request.method, &request.path))
            .count()
    }

    /// The state of every acknowledged proposal, once nothing moves any more without a human.
    async fn settled(&self) -> BTreeMap<String, String> {
        let dispatcher = Dispatcher::sign_in(&self.installation).await;
        let mrn = ehr::add_patient(&self.sandbox, usize::from(u16::MAX));
        let token = enter(&self.scheduler, &dispatcher, &mrn).await.unwrap();
        let deadline = Instant::now() + SETTLED_WITHIN;
        let mut states: BTreeMap<String, String> = BTreeMap::new();
        loop {
            for asked in &self.acknowledged {
                if states
                    .get(&asked.proposal)
                    .is_some_and(|state| state == "delivered")
                {
                    continue;
                }
                let arguments = json!({ "proposal": asked.proposal });
                let answer = call(
                    &self.scheduler,
                    &token,
                    "check_proposal_status",
                    &arguments,
                    None,
                )
                .await
                .unwrap();
                assert_eq!(
                    answer.status, 200,
                    "an acknowledged proposal is lost: {}",
                    answer.body
                );
                let state = answer.body["state"].as_str().unwrap().to_owned();
                states.insert(asked.proposal.clone(), state);
            }
            let moving = self.moving(&states);
            if moving.is_empty() {
                return states;
            }
            assert!(
                Instant::now() < deadline,
                "not settled within {SETTLED_WITHIN:?}: {moving:?}\n{}",
                tail(&self.installation.log())
            );
            tokio::time::sleep(LOOK_EVERY * 20).await;
        }
    }

    /// What is neither at its end nor waits for a human, itself or behind another of its patient.
    fn moving(&self, states: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let held: BTreeSet<usize> = self
            .acknowledged
            .iter()
            .filter(|asked| self.kind == Kind::Plain && states[&asked.proposal] == "unknown")
            .map(|asked| asked.patient)
            .collect();
        self.acknowledged
            .iter()
            .filter(|asked| match states[&asked.proposal].as_str() {
                // What could not be looked at in time is never automatic: a human was asked before anything was sent.
                "delivered" | "awaiting_approval" => false,
                "unknown" | "ready" => !held.contains(&asked.patient),
                _ => true,
            })
            .map(|asked| (asked.proposal.clone(), states[&asked.proposal].clone()))
            .collect()
    }

    /// Holds the states, the EHR and the ledger against each other.
    fn judge(
        &self,
        states: &BTreeMap<String, String>,
        histories: &BTreeMap<String, Vec<serde_json::Value>>,
    ) {
        let copies = ehr::copies(&self.sandbox);
        let ids: BTreeSet<&String> = self.acknowledged.iter().map(|a| &a.proposal).collect();
        assert_eq!(ids.len(), self.asked, "every ask is a proposal of its own");
        let recorded: BTreeSet<&String> = histories.keys().collect();
        assert_eq!(ids, recorded, "the ledger has exactly what was asked");
        let mut starts = 0;
        let mut interrupted = 0;
        for (id, history) in histories {
            let happened = kinds(history);
            let story = format!("{id}: {happened:?}");
            let count = |what| happened.iter().filter(|kind| **kind == what).count();
            starts += count("delivery_started");
            interrupted += count("outcome_unknown");
            never_sends_blindly(&happened, self.kind == Kind::Full);
            let copies = copies.get(id).copied().unwrap_or(0);
            assert!(copies <= 1, "took effect {copies} times: {story}");
            match states[id].as_str() {
                "delivered" => {
                    assert_eq!((copies, count("delivered")), (1, 1), "{story}");
                    assert_eq!(happened.last(), Some(&"delivered"), "{story}");
                }
                "unknown" => assert_eq!(happened.last(), Some(&"human_needed"), "{story}"),
                "ready" | "awaiting_approval" => {
                    assert_eq!((copies, count("delivery_started")), (0, 0), "{story}");
                }
                other => panic!("ended as {other}: {story}"),
            }
        }
        assert!(
            copies.keys().all(|id| ids.contains(id)),
            "the EHR has something that nobody asked for"
        );
        assert!(
            self.sends <= starts,
            "{} sends of {starts} started",
            self.sends
        );
        assert!(interrupted > 0, "no kill and no fault hit a delivery");
        let in_state = |wanted: &str| states.values().filter(|state| *state == wanted).count();
        // Machines are busy now and then, and not most of the time.
        let by_itself = ids.len() - in_state("awaiting_approval");
        assert!(
            by_itself * 2 >= ids.len(),
            "only {by_itself} of {} were let through by themselves",
            ids.len()
        );
        eprintln!(
            "{:?}, {:?}: {} acknowledged, {} delivered, {} wait for a human, {} behind them, \
             {} asked about before, {starts} starts, {} sends, {interrupted} outcomes unknown at first, \
             {} effects, none twice",
            self.database,
            self.kind,
            ids.len(),
            in_state("delivered"),
            in_state("unknown"),
            in_state("ready"),
            in_state("awaiting_approval"),
            self.sends,
            copies.len(),
        );
    }
}

/// After a start comes no other start before it is known that the first had no effect; and a server that
/// cannot tell is never taken at its word.
pub(crate) fn never_sends_blindly(happened: &[&str], can_tell: bool) {
    let mut open = false;
    for what in happened {
        match *what {
            "delivery_started" => {
                assert!(!open, "sent again without knowing: {happened:?}");
                open = true;
            }
            "not_applied" => open = false,
            "found_not_applied" => {
                assert!(can_tell, "{happened:?}");
                open = false;
            }
            _ => {}
        }
    }
}

#[test]
fn a_retry_after_knowing_passes() {
    never_sends_blindly(
        &[
            "delivery_started",
            "outcome_unknown",
            "found_not_applied",
            "delivery_started",
            "delivered",
        ],
        true,
    );
}

#[test]
#[should_panic(expected = "sent again without knowing")]
fn a_retry_without_knowing_is_found() {
    never_sends_blindly(
        &["delivery_started", "outcome_unknown", "delivery_started"],
        true,
    );
}

/// Proposals on their way.
struct Proposing {
    acknowledged: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<Visit>>,
}

impl Proposing {
    async fn finish(self) -> Vec<Visit> {
        let mut visits = Vec::new();
        for task in self.tasks {
            visits.push(task.await.unwrap());
        }
        visits
    }
}

/// Proposes for one patient until the server is gone.
async fn visit(
    scheduler: &AgentClient,
    dispatcher: &Dispatcher,
    token: Option<AgentToken>,
    asks: Vec<Ask>,
    count: &AtomicUsize,
) -> Visit {
    let mut visit = Visit {
        acknowledged: Vec::new(),
        unanswered: asks,
        token,
    };
    if visit.token.is_none() {
        visit.token = enter(scheduler, dispatcher, &visit.unanswered[0].mrn).await;
    }
    let Some(token) = visit.token.clone() else {
        return visit;
    };
    while let Some(ask) = visit.unanswered.first() {
        let Some(proposal) = ask_once(scheduler, &token, ask).await else {
            return visit;
        };
        count.fetch_add(1, Ordering::SeqCst);
        visit.acknowledged.push(Acknowledged {
            patient: ask.patient,
            proposal,
        });
        visit.unanswered.remove(0);
    }
    visit
}

/// The proposal's id. `None` when the server is gone.
async fn ask_once(scheduler: &AgentClient, token: &AgentToken, ask: &Ask) -> Option<String> {
    let arguments = json!({ "slot": ask.slot });
    for _ in 0..TRIES_MAX {
        let key = Some(ask.key.as_str());
        let answer = call(scheduler, token, "book_appointment", &arguments, key)
            .await
            .ok()?;
        if answer.status == 200 {
            return Some(answer.body["proposal"].as_str().unwrap().to_owned());
        }
        assert_eq!(answer.body["code"], "ehr-unavailable", "{}", answer.body);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("no answer after {TRIES_MAX} tries");
}

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number")),
    )
}
