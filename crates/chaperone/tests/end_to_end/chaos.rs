//! Rounds of what processes do to each other: the gateway killed, stopped for longer than its lease with a second
//! node taking over, the database killed and started again, an EHR that answers after nobody waits any more.
//!
//! After all rounds must hold: nothing acknowledged is lost; nothing took effect twice; where the EHR honours
//! conditions everything is delivered, where it does not every ambiguity waits for a human; the ledger verifies
//! without gaps. Each round measures how long it took until something new was delivered.
//!
//! `CHAPERONE_CHAOS_ROUNDS` says how many rounds (default: one of each kind for a full EHR), `CHAPERONE_CHAOS_SEED`
//! repeats the moments of an earlier run as far as timing allows, `CHAPERONE_CHAOS_WITHIN_MS` makes a slower return to
//! delivery a failure. `scripts/chaos --rounds 200` sets them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chaperone_connect::agent_client::{AgentClient, AgentToken};
use chaperone_sandbox::{FaultKind, FaultRule, RunningSandbox, ServerProfile};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::agents::{Dispatcher, SCHEDULER, agent, agent_at, call, enter, free_slots};
use crate::ehr;
use crate::export::{kinds, last_export};
use crate::installation::{Installation, Server, Settings, tail};
use crate::kill::never_sends_blindly;
use crate::postgres::OwnPostgres;

/// The writer's lease, in milliseconds; the shortest that is allowed.
const LEASE_MS: u64 = 2_000;
/// One request to the EHR, in milliseconds.
const EXCHANGE_MS: u64 = 800;
/// Patients of one round, and proposals for each.
const PATIENTS_PER_ROUND: usize = 3;
const PROPOSALS_PER_PATIENT: usize = 2;
/// How long after the chosen send the disturbance comes at most, in milliseconds.
const WITHIN_MS: u64 = 150;
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_ehr_has_everything_once_whatever_dies() {
    let rounds = number("CHAPERONE_CHAOS_ROUNDS").map_or(Disturbance::ALL.len(), half_up);
    Run::set_up(ServerProfile::Full).await.play(rounds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_ehr_has_nothing_twice_and_people_are_asked() {
    let rounds = number("CHAPERONE_CHAOS_ROUNDS").map_or(1, |rounds| rounds as usize / 2);
    Run::set_up(ServerProfile::Plain).await.play(rounds).await;
}

fn half_up(rounds: u64) -> usize {
    rounds.div_ceil(2) as usize
}

/// What happens in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Disturbance {
    /// SIGKILL to the gateway.
    Killed,
    /// SIGSTOP for longer than the lease; another node takes over.
    Stopped,
    /// The database is killed, or stopped without a checkpoint, and started again.
    DatabaseLost,
    /// The EHR carries out what it is sent, and answers after nobody waits any more.
    AnsweredLate,
}

impl Disturbance {
    const ALL: [Disturbance; 4] = [
        Disturbance::Killed,
        Disturbance::AnsweredLate,
        Disturbance::DatabaseLost,
        Disturbance::Stopped,
    ];
}

/// One thing to be proposed.
#[derive(Debug, Clone)]
struct Ask {
    key: String,
    slot: String,
}

/// A patient of a round: who enters for them is in before anything is disturbed.
struct Visit {
    patient: usize,
    token: AgentToken,
    unanswered: Vec<Ask>,
    acknowledged: Vec<String>,
}

/// How long it took to be back, by what had happened.
#[derive(Default)]
struct Recoveries(BTreeMap<Disturbance, Vec<Duration>>);

struct Run {
    profile: ServerProfile,
    seed: u64,
    random: StdRng,
    postgres: OwnPostgres,
    sandbox: RunningSandbox,
    installation: Installation,
    scheduler: AgentClient,
    slots: Vec<String>,
    patients: usize,
    asked: usize,
    /// Proposals with the patient of each.
    acknowledged: Vec<(usize, String)>,
    sends: usize,
    recoveries: Recoveries,
}

impl Run {
    async fn set_up(profile: ServerProfile) -> Self {
        let seed = number("CHAPERONE_CHAOS_SEED").unwrap_or_else(rand::random);
        let sandbox = ehr::start(profile).await;
        let postgres = tokio::task::spawn_blocking(OwnPostgres::start)
            .await
            .unwrap();
        let mut settings = Settings::new(&postgres.url, &sandbox.base_url, profile.name());
        settings.exchange_timeout_ms = EXCHANGE_MS;
        settings.lease_ms = LEASE_MS;
        settings.log_level = "info";
        let installation = Installation::new(&settings);
        installation.let_agents_write_much();
        installation.prove_conformance();
        sandbox.handle.clear_requests();
        let scheduler = agent(&installation, SCHEDULER);
        Self {
            profile,
            seed,
            random: StdRng::seed_from_u64(seed),
            postgres,
            sandbox,
            installation,
            scheduler,
            slots: Vec::new(),
            patients: 0,
            asked: 0,
            acknowledged: Vec::new(),
            sends: 0,
            recoveries: Recoveries::default(),
        }
    }

    async fn play(mut self, rounds: usize) {
        let name = self.profile.name();
        eprintln!(
            "chaos, {name} EHR: {rounds} rounds, CHAPERONE_CHAOS_SEED={}",
            self.seed
        );
        let mut server = self.installation.start().await;
        self.slots = free_slots(&self.scheduler).await;
        for round in 0..rounds {
            let what = Disturbance::ALL[round % Disturbance::ALL.len()];
            server = self.round(what, server).await;
        }
        self.sandbox.handle.clear_faults();
        let states = self.settled().await;
        self.sends += self.take_sends();
        let export = last_export(&self.installation, server).await;
        self.judge(rounds, &states, &export.histories());
    }

    async fn round(&mut self, what: Disturbance, server: Server) -> Server {
        let mut visits = self.visits(PATIENTS_PER_ROUND, PROPOSALS_PER_PATIENT).await;
        // What shows that it goes on: for patients of their own, whom nothing before can hold up.
        let mut probe = self.visits(1, 1).await.remove(0);
        if what == Disturbance::AnsweredLate {
            self.answer_late();
        }
        let second = match what {
            Disturbance::Stopped => Some(self.installation.start_second().await),
            _ => None,
        };
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = visits
            .drain(..)
            .map(|mut visit| {
                let (scheduler, count) = (self.scheduler.clone(), Arc::clone(&acknowledged));
                tokio::spawn(async move {
                    visit.ask(&scheduler, &count).await;
                    visit
                })
            })
            .collect();
        self.wait_for_a_send(&acknowledged).await;
        let back_at;
        let mut through = self.scheduler.clone();
        let server = match what {
            Disturbance::Killed => {
                server.kill();
                back_at = Instant::now();
                self.installation.start().await
            }
            Disturbance::Stopped => {
                server.pause();
                back_at = Instant::now();
                through = agent_at(
                    &self.installation,
                    SCHEDULER,
                    self.installation.second_url(),
                );
                server
            }
            Disturbance::DatabaseLost => {
                let how = ["kill", "immediate"][self.random.random_range(0..2)];
                self.postgres.control(how);
                tokio::time::sleep(Duration::from_millis(self.random.random_range(0..400))).await;
                self.postgres.control("start");
                back_at = Instant::now();
                server
            }
            Disturbance::AnsweredLate => {
                back_at = Instant::now();
                server
            }
        };
        self.finish_probe(&mut probe, &through).await;
        let took = back_at.elapsed();
        self.recoveries.0.entry(what).or_default().push(took);
        if let Some(second) = second {
            server.go_on();
            second.kill();
        }
        for task in tasks {
            visits.push(task.await.unwrap());
        }
        visits.push(probe);
        self.ask_again(visits).await;
        self.sends += self.take_sends();
        server
    }

    /// Patients with a way in for the agent, and what it will propose for each.
    async fn visits(&mut self, patients: usize, proposals: usize) -> Vec<Visit> {
        let dispatcher = Dispatcher::sign_in(&self.installation).await;
        let mut visits = Vec::new();
        for _ in 0..patients {
            let patient = self.patients;
            self.patients += 1;
            let mrn = ehr::add_patient(&self.sandbox, patient);
            let token = enter(&self.scheduler, &dispatcher, &mrn).await.unwrap();
            let unanswered = (0..proposals)
                .map(|count| {
                    self.asked += 1;
                    Ask {
                        key: format!("chaos-{patient}-{count}"),
                        slot: self.slots[self.asked % self.slots.len()].clone(),
                    }
                })
                .collect();
            visits.push(Visit {
                patient,
                token,
                unanswered,
                acknowledged: Vec::new(),
            });
        }
        visits
    }

    /// The next writes are carried out, and answered long after anybody waits.
    fn answer_late(&mut self) {
        for _ in 0..self.random.random_range(1..=3) {
            let ms = EXCHANGE_MS + self.random.random_range(200..900);
            let kind = match self.random.random_range(0..2) {
                0 => FaultKind::Latency { ms },
                _ => FaultKind::TimeoutAfterCommit { hold_ms: ms },
            };
            self.sandbox.handle.inject(FaultRule {
                method: Some("POST".to_owned()),
                resource_type: Some("Appointment".to_owned()),
                parameter: None,
                kind,
                times: 1,
            });
        }
    }

    /// A random number of sends, and then a random moment.
    async fn wait_for_a_send(&mut self, acknowledged: &AtomicUsize) {
        let wanted = self.random.random_range(1..=3);
        let then_ms = self.random.random_range(0..=WITHIN_MS);
        let deadline = Instant::now() + PATIENCE;
        while acknowledged.load(Ordering::SeqCst) == 0 || self.sends_received() < wanted {
            assert!(
                Instant::now() < deadline,
                "no delivery began:\n{}",
                tail(&self.installation.log())
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tokio::time::sleep(Duration::from_millis(then_ms)).await;
    }

    /// Until the probe is proposed and its effect, or the question to a human, is there.
    async fn finish_probe(&self, probe: &mut Visit, through: &AgentClient) {
        let deadline = Instant::now() + PATIENCE;
        let uncounted = AtomicUsize::new(0);
        loop {
            if probe.acknowledged.is_empty() {
                probe.ask(through, &uncounted).await;
            } else if let Some(state) =
                state_of(through, &probe.token, &probe.acknowledged[0]).await
            {
                let with_a_human = self.profile == ServerProfile::Plain && state == "unknown";
                if state == "delivered" || state == "awaiting_approval" || with_a_human {
                    return;
                }
            }
            assert!(
                Instant::now() < deadline,
                "nothing was delivered any more:\n{}",
                tail(&self.installation.log())
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What was not answered is asked again with the same keys; now it must be.
    async fn ask_again(&mut self, visits: Vec<Visit>) {
        let uncounted = AtomicUsize::new(0);
        let deadline = Instant::now() + PATIENCE;
        for mut visit in visits {
            while !visit.unanswered.is_empty() {
                visit.ask(&self.scheduler, &uncounted).await;
                assert!(
                    Instant::now() < deadline,
                    "the server is up and does not answer"
                );
                tokio::time::sleep(LOOK_EVERY).await;
            }
            let patient = visit.patient;
            let of_patient = visit.acknowledged.into_iter().map(|id| (patient, id));
            self.acknowledged.extend(of_patient);
        }
    }

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

    fn take_sends(&self) -> usize {
        let sends = self.sends_received();
        self.sandbox.handle.clear_requests();
        sends
    }

    /// The state of every acknowledged proposal, once nothing moves any more without a human.
    async fn settled(&mut self) -> BTreeMap<String, String> {
        let looker = self.visits(1, 0).await.remove(0);
        let deadline = Instant::now() + PATIENCE;
        let mut states: BTreeMap<String, String> = BTreeMap::new();
        loop {
            for (_, id) in &self.acknowledged {
                if states.get(id).is_some_and(|state| state == "delivered") {
                    continue;
                }
                let state = state_of(&self.scheduler, &looker.token, id).await;
                let state =
                    state.unwrap_or_else(|| panic!("an acknowledged proposal is lost: {id}"));
                states.insert(id.clone(), state);
            }
            let moving = self.moving(&states);
            if moving.is_empty() {
                return states;
            }
            assert!(
                Instant::now() < deadline,
                "not settled: {moving:?}\n{}",
                tail(&self.installation.log())
            );
            tokio::time::sleep(LOOK_EVERY * 10).await;
        }
    }

    /// What is neither at its end nor waits for a human, itself or behind another of its patient.
    fn moving(&self, states: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let is_plain = self.profile == ServerProfile::Plain;
        let held: BTreeSet<usize> = self
            .acknowledged
            .iter()
            .filter(|(_, id)| is_plain && states[id] == "unknown")
            .map(|(patient, _)| *patient)
            .collect();
        self.acknowledged
            .iter()
            .filter(|(patient, id)| match states[id].as_str() {
                // What could not be looked at in time is never automatic: a human was asked before anything was sent.
                "delivered" | "awaiting_approval" => false,
                "unknown" | "ready" => !held.contains(patient),
                _ => true,
            })
            .map(|(_, id)| (id.clone(), states[id].clone()))
            .collect()
    }

    /// Holds the states, the EHR and the ledger against each other, and says what was counted.
    fn judge(
        &self,
        rounds: usize,
        states: &BTreeMap<String, String>,
        histories: &BTreeMap<String, Vec<Value>>,
    ) {
        let copies = ehr::copies(&self.sandbox);
        let ids: BTreeSet<&String> = self.acknowledged.iter().map(|(_, id)| id).collect();
        assert_eq!(ids.len(), self.asked, "every ask is a proposal of its own");
        let recorded: BTreeSet<&String> = histories.keys().collect();
        assert_eq!(ids, recorded, "the ledger has exactly what was asked");
        let mut starts = 0;
        let mut ambiguous = 0;
        for (id, history) in histories {
            let happened = kinds(history);
            let story = format!("{id}: {happened:?}");
            let count = |what| happened.iter().filter(|kind| **kind == what).count();
            starts += count("delivery_started");
            ambiguous += count("outcome_unknown");
            never_sends_blindly(&happened, self.profile == ServerProfile::Full);
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
        let in_state = |wanted: &str| states.values().filter(|state| *state == wanted).count();
        eprintln!(
            "chaos, {} EHR: {rounds} rounds, {} acknowledged and none lost, {} delivered, {} with a human, {} behind \
             them, {} asked about before, {starts} starts, {} sends, {ambiguous} outcomes unknown at first, {} effects and none twice, ledger \
             verified without gaps",
            self.profile.name(),
            ids.len(),
            in_state("delivered"),
            in_state("unknown"),
            in_state("ready"),
            in_state("awaiting_approval"),
            self.sends,
            copies.len(),
        );
        for (what, took) in &self.recoveries.0 {
            let mut ms: Vec<u128> = took.iter().map(Duration::as_millis).collect();
            ms.sort_unstable();
            let (middle, most) = (ms[ms.len() / 2], ms[ms.len() - 1]);
            eprintln!(
                "chaos, {} EHR: {what:?}: {} rounds, next delivery after {middle} ms (median), {most} ms (most)",
                self.profile.name(),
                ms.len(),
            );
            // Only where somebody asks: how fast a machine is depends on what else it does.
            if let Some(within_ms) = number("CHAPERONE_CHAOS_WITHIN_MS") {
                assert!(
                    most <= u128::from(within_ms),
                    "{what:?}: {most} ms until the next delivery, and {within_ms} are allowed"
                );
            }
        }
    }
}

impl Visit {
    /// Proposes until all is answered or the server is gone, or cannot answer.
    async fn ask(&mut self, scheduler: &AgentClient, count: &AtomicUsize) {
        while let Some(ask) = self.unanswered.first() {
            let arguments = json!({ "slot": ask.slot });
            let key = Some(ask.key.as_str());
            let asked = call(scheduler, &self.token, "book_appointment", &arguments, key).await;
            let Ok(answer) = asked else { return };
            match answer.status {
                200 => {
                    let proposal = answer.body["proposal"].as_str().unwrap().to_owned();
                    count.fetch_add(1, Ordering::SeqCst);
                    self.acknowledged.push(proposal);
                    self.unanswered.remove(0);
                }
                // Database or EHR are away; what was not acknowledged may be asked again.
                500..=599 => return,
                status => panic!("{status}: {}", answer.body),
            }
        }
    }
}

/// The state of a proposal; nothing while the server cannot say.
async fn state_of(scheduler: &AgentClient, token: &AgentToken, id: &str) -> Option<String> {
    let arguments = json!({ "proposal": id });
    let answer = call(scheduler, token, "check_proposal_status", &arguments, None)
        .await
        .ok()?;
    match answer.status {
        200 => Some(answer.body["state"].as_str().unwrap().to_owned()),
        500..=599 => None,
        status => panic!("{status}: {}", answer.body),
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number")),
    )
}
