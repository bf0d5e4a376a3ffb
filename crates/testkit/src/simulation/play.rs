//! The play of one seed: who does what when, what goes wrong meanwhile, and how it comes to rest.

use std::sync::Arc;

use chaperone_core::ids::ConnectionId;
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::writeback::StateName;
use chaperone_engine::Engine;
use serde_json::{Value, json};

use super::agents::{self, Errand, SPECIAL, Wish};
use super::bugs::Bug;
use super::cohorts;
use super::faults::Fault;
use super::node::Cluster;
use super::people::{self, Directory, PATIENTLY, rows};
use super::server::ServerProfile;
use super::state::Withdrawn;
use super::undoing;
use super::world::{Doom, Inner, Micros, OUTSIDE, SECOND, instant};

/// Patients of one seed.
const PATIENTS: u64 = 2;
/// How often somebody asks for a list of patients, in a thousand seeds.
const LISTS: u64 = 350;
/// How long things go wrong.
pub(crate) const TROUBLE: Micros = 240 * SECOND;
/// How long it may take until everything has come to rest after that.
pub(crate) const REST: Micros = 7_200 * SECOND;

/// What everybody in the play has in hand.
pub(crate) struct Play {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) people: Directory,
    pub(crate) nodes: usize,
    pub(crate) connection: ConnectionId,
}

impl Play {
    /// A node, by chance.
    pub(crate) fn some_node(&self) -> usize {
        let drawn = self
            .cluster
            .world
            .with(|inner| inner.chance.below(self.nodes as u64));
        usize::try_from(drawn).unwrap_or(0).saturating_add(1)
    }

    /// A person asks a node for something, and another time while it is open what came of it: there was no answer, or
    /// one that says no more. What was answered last.
    pub(crate) async fn ask_again<T, E, F>(
        &self,
        tries: u32,
        is_open: impl Fn(&E) -> bool,
        ask: impl Fn(Arc<Engine>) -> F,
    ) -> Option<Result<T, E>>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let mut last = None;
        for _ in 0..tries {
            let node = self.some_node();
            last = self.cluster.on(node, &ask).await;
            match &last {
                Some(Err(failed)) if !is_open(failed) => break,
                Some(Ok(_)) => break,
                _ => {}
            }
            let pause = self
                .cluster
                .world
                .with(|inner| inner.chance.skewed(SECOND, 10 * SECOND));
            self.cluster.world.sleep(pause).await;
        }
        last
    }
}

/// What is at the EHR when the play begins.
pub(crate) fn furnish(inner: &mut Inner) {
    let begins = instant(0, 0);
    let after = |hours: i64| {
        let at = begins.checked_add(jiff::SignedDuration::from_hours(hours));
        at.unwrap_or(begins).to_string()
    };
    for patient in 1..=PATIENTS {
        let id = format!("p{patient}");
        let subject = json!({ "reference": format!("Patient/{id}") });
        let mut put = |resource: Value| inner.state.ehr.put(0, resource);
        put(json!({
            "resourceType": "Patient", "id": id, "birthDate": "1950-02-03",
            "identifier": [{ "system": "urn:example:mrn", "value": format!("MRN-{id}") }],
        }));
        put(json!({
            "resourceType": "Encounter", "id": format!("e{patient}"), "status": "in-progress",
            "class": { "code": "AMB" }, "subject": subject,
        }));
        // One that is known, and one of which nobody knows anything: that takes two people.
        let drug = match patient {
            1 => json!({
                "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "314076",
                "display": "lisinopril 10 MG Oral Tablet",
            }),
            _ => {
                json!({ "system": "urn:example:drugs", "code": "x1", "display": "examplol 10 MG Oral Tablet" })
            }
        };
        put(json!({
            "resourceType": "MedicationRequest", "id": format!("rx{patient}"), "status": "active", "intent": "order",
            "subject": subject, "authoredOn": "2026-11-01",
            "medicationCodeableConcept": { "coding": [drug] },
            "dosageInstruction": [{
                "timing": { "repeat": { "frequency": 1, "period": 1, "periodUnit": "d" } },
                "doseAndRate": [{ "doseQuantity": {
                    "value": 10, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg",
                } }],
            }],
        }));
        for n in 1..=3 {
            put(json!({
                "resourceType": "Appointment", "id": format!("a{patient}{n}"), "status": "booked",
                "start": after(10 + n), "end": after(11 + n),
                "participant": [{ "actor": subject, "status": "accepted" }],
            }));
        }
    }
    // Those that patients may have by themselves, and those that no row of the matrix allows.
    for (n, service) in (1..=6).map(|n| (n, if n <= 4 { "124" } else { SPECIAL })) {
        let times = (after(200 + n), after(201 + n));
        inner.state.ehr.put(0, slot(n, service, &times));
    }
    cohorts::furnish(inner);
}

fn slot(n: i64, service: &str, (start, end): &(String, String)) -> Value {
    let status = "free";
    json!({
        "resourceType": "Slot", "id": format!("s{n}"), "status": status, "start": start, "end": end,
        "serviceType": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/service-type", "code": service,
        }] }],
    })
}

/// Sets everything going.
pub(crate) fn begin(play: &Arc<Play>) {
    let world = Arc::clone(&play.cluster.world);
    let errands = world.with(|inner| inner.chance.between(3, 7));
    let staged = play.cluster.profile == ServerProfile::Staged;
    for n in 0..errands {
        let (after, errand) = world.with(|inner| {
            let chance = &mut inner.chance;
            // Where orders are signed at the EHR, more of them are.
            let is_order = staged && chance.in_thousand(500);
            let errand = Errand {
                wish: if is_order {
                    Wish::Lab
                } else {
                    Wish::drawn(chance)
                },
                patient: format!("p{}", chance.between(1, PATIENTS)),
                key: format!("errand-{n}"),
                token: None,
            };
            (chance.skewed(SECOND, TROUBLE / 2), errand)
        });
        let (play, world) = (Arc::clone(play), Arc::clone(&world));
        Arc::clone(&world).spawn(OUTSIDE, async move {
            world.sleep(after).await;
            agents::run(play, errand).await;
        });
    }
    if world.with(|inner| inner.chance.in_thousand(LISTS)) {
        world.spawn(OUTSIDE, cohorts::play(Arc::clone(play)));
    }
    world.spawn(OUTSIDE, people::look_after(Arc::clone(play)));
    world.spawn(OUTSIDE, trouble(Arc::clone(play)));
}

/// What goes wrong with nodes, switches, consents and resources, every few seconds.
async fn trouble(play: Arc<Play>) {
    let world = Arc::clone(&play.cluster.world);
    loop {
        let pause = world.with(|inner| inner.chance.between(2 * SECOND, 25 * SECOND));
        world.sleep(pause).await;
        let node = play.some_node();
        let happens = |fault: Fault| {
            world.with(|inner| {
                let happens = inner.faults.happens(fault, &mut inner.chance);
                if happens {
                    let now = inner.now;
                    inner.trace.fault(now, fault, format_args!("node-{node}"));
                }
                happens
            })
        };
        if happens(Fault::Crash) {
            crash(&play, node);
        }
        if happens(Fault::Stop) {
            stop(&play, node);
        }
        for (fault, sign) in [(Fault::ClockForward, 1), (Fault::ClockBack, -1)] {
            if happens(fault) {
                world.with(|inner| jump(inner, node, sign));
            }
        }
        if happens(Fault::StorePartition) {
            world.with(|inner| {
                let until = inner
                    .now
                    .saturating_add(inner.chance.skewed(SECOND, 40 * SECOND));
                inner
                    .nodes
                    .iter_mut()
                    .skip(node)
                    .take(1)
                    .for_each(|it| it.no_store_until = until);
            });
        }
        if happens(Fault::EhrPartition) {
            world.with(|inner| {
                let until = inner
                    .now
                    .saturating_add(inner.chance.skewed(SECOND, 40 * SECOND));
                inner
                    .nodes
                    .iter_mut()
                    .skip(node)
                    .take(1)
                    .for_each(|it| it.no_ehr_until = until);
            });
        }
        if happens(Fault::ModeSwitched) {
            world.spawn(OUTSIDE, switch(Arc::clone(&play)));
        }
        if happens(Fault::UndoRun) {
            world.spawn(OUTSIDE, undoing::start(Arc::clone(&play)));
        }
        if happens(Fault::RulesChanged) {
            world.spawn(OUTSIDE, change_rules(Arc::clone(&play)));
        }
        if happens(Fault::ConsentWithdrawn) {
            world.spawn(OUTSIDE, withdraw(Arc::clone(&play)));
        }
        if happens(Fault::ForeignEdit) {
            world.with(edit);
        }
    }
}

/// Carries out what happens to a node in the middle of something.
pub(crate) fn befall(play: &Arc<Play>, node: usize, doom: Doom) {
    match doom {
        Doom::Crash => crash(play, node),
        Doom::Stop => stop(play, node),
    }
}

/// A node dies and comes back some time later.
fn crash(play: &Arc<Play>, node: usize) {
    let world = Arc::clone(&play.cluster.world);
    let is_up = world.with(|inner| inner.nodes.get(node).is_some_and(|it| it.is_up));
    if !is_up {
        return;
    }
    play.cluster.crash(node);
    let down = world.with(|inner| inner.chance.skewed(SECOND / 10, 30 * SECOND));
    let (play, world_) = (Arc::clone(play), Arc::clone(&world));
    world.spawn(OUTSIDE, async move {
        world_.sleep(down).await;
        play.cluster.boot(node, &play.connection);
    });
}

/// A node is stopped, often for longer than its lease and its claims.
fn stop(play: &Arc<Play>, node: usize) {
    play.cluster.world.with(|inner| {
        let span = match inner.chance.below(2) {
            0 => inner.chance.skewed(SECOND, 20 * SECOND),
            _ => inner.chance.between(16 * SECOND, 130 * SECOND),
        };
        let until = inner.now.saturating_add(span);
        if let Some(state) = inner.nodes.get_mut(node) {
            state.stopped_until = until;
        }
        let pause = until.saturating_sub(inner.now);
        // Something must happen then, so that it is noticed.
        inner.later(pause, |_| {});
    });
}

fn jump(inner: &mut Inner, node: usize, sign: i64) {
    let by = inner.chance.skewed(SECOND, 100 * SECOND).cast_signed();
    if sign < 0 {
        let at = inner.now;
        inner.state.truth.set_back.push((node, at));
    }
    if let Some(state) = inner.nodes.get_mut(node) {
        let off = state.clock_off.saturating_add(by.saturating_mul(sign));
        state.clock_off = off.clamp(-120_000_000, 120_000_000);
    }
}

/// A switch is moved, and back some time later.
async fn switch(play: Arc<Play>) {
    let world = Arc::clone(&play.cluster.world);
    let (mode, scope, held) = world.with(|inner| {
        let modes = [Mode::WritePaused, Mode::ReadOnly, Mode::Halted];
        let mode = *inner.chance.pick(&modes).unwrap_or(&Mode::Halted);
        let scope = match inner.chance.below(2) {
            0 => ModeScope::Tenant,
            _ => ModeScope::Ehr(play.connection.clone()),
        };
        (mode, scope, inner.chance.skewed(SECOND, 60 * SECOND))
    });
    move_switch(&play, scope.clone(), mode, 3).await;
    world.sleep(held).await;
    move_switch(&play, scope, Mode::Normal, 1_000).await;
}

/// Another governance bundle is put in place, and the nodes start anew with it, one after the other.
async fn change_rules(play: Arc<Play>) {
    let world = Arc::clone(&play.cluster.world);
    world.with(|inner| {
        let rules = inner.state.truth.rules.other();
        inner.state.truth.rules = rules;
        let now = inner.now;
        inner
            .trace
            .say(now, format_args!("the rules {rules:?} are put in place"));
    });
    for node in 1..=play.nodes {
        let pause = world.with(|inner| inner.chance.skewed(SECOND / 10, 30 * SECOND));
        world.sleep(pause).await;
        crash(&play, node);
    }
}

async fn move_switch(play: &Arc<Play>, scope: ModeScope, mode: Mode, tries: u32) {
    use chaperone_engine::switch_mode::SwitchFailed;
    for _ in 0..tries {
        let (node, by, scope) = (play.some_node(), play.people.operator(), scope.clone());
        let moved = play
            .cluster
            .on(node, move |engine| async move {
                engine.switch_mode(&by, scope, mode, "simulated").await
            })
            .await;
        if matches!(moved, Some(Ok(()) | Err(SwitchFailed::NoChange))) {
            return;
        }
        play.cluster.world.sleep(PATIENTLY).await;
    }
}

/// A patient withdraws consent at the EHR, for good or for a while.
async fn withdraw(play: Arc<Play>) {
    let world = Arc::clone(&play.cluster.world);
    let (patient, held) = world.with(|inner| {
        let patient = format!("p{}", inner.chance.between(1, PATIENTS));
        let now = inner.now;
        let consent = json!({
            "resourceType": "Consent", "id": format!("k-{patient}"), "status": "active",
            "scope": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy",
            }] },
            "category": [{ "coding": [{ "system": "http://loinc.org", "code": "59284-0" }] }],
            "patient": { "reference": format!("Patient/{patient}") },
            "dateTime": "2026-01-01",
            "policyRule": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT",
            }] },
            "provision": { "type": "deny" },
        });
        inner.state.ehr.put(now, consent);
        let is_new = !inner.state.truth.withdrawn.iter().any(|it| it.patient == patient && it.until.is_none());
        if is_new {
            inner.state.truth.withdrawn.push(Withdrawn {
                patient: patient.clone(),
                from: now,
                until: None,
            });
        }
        let held = inner.chance.in_thousand(600).then(|| inner.chance.skewed(SECOND, 60 * SECOND));
        (patient, held)
    });
    let Some(held) = held else { return };
    world.sleep(held).await;
    world.with(|inner| {
        let now = inner.now;
        inner.state.ehr.remove("Consent", &format!("k-{patient}"));
        let open = inner.state.truth.withdrawn.iter_mut();
        open.filter(|it| it.patient == patient && it.until.is_none())
            .for_each(|it| it.until = Some(now));
        inner
            .trace
            .say(now, format_args!("{patient} consents again"));
    });
}

/// Somebody else changes an appointment, or takes a slot.
fn edit(inner: &mut Inner) {
    let patient = inner.chance.between(1, PATIENTS);
    let n = inner.chance.between(1, 3);
    let (kind, id) = match inner.chance.below(3) {
        0 => ("Slot", format!("s{n}")),
        _ => ("Appointment", format!("a{patient}{n}")),
    };
    let now = inner.now;
    let Some(mut resource) = inner.state.ehr.now(kind, &id).cloned() else {
        return;
    };
    if let Some(members) = resource.as_object_mut() {
        match kind {
            "Slot" => members.insert("status".to_owned(), json!("busy")),
            _ => members.insert("comment".to_owned(), json!(format!("seen at {now}"))),
        };
    }
    inner.state.ehr.put(now, resource);
}

/// The trouble is over: clocks are set, nodes go on, and those that are down come back.
pub(crate) fn calm(play: &Arc<Play>) {
    play.cluster.world.with(|inner| {
        inner.faults.end();
        if play.cluster.bug == Some(Bug::LeafChanged) {
            inner.state.tables.spoil(play.cluster.tenant(), 1);
        }
        let now = inner.now;
        inner.trace.say(now, "the trouble is over");
        for node in &mut inner.nodes {
            node.clock_off = 0;
            node.stopped_until = 0;
            node.no_store_until = 0;
            node.no_ehr_until = 0;
        }
    });
}

/// How many entries the ledger has.
pub(crate) fn ledger_size(play: &Play) -> u64 {
    play.cluster
        .world
        .with(|inner| inner.state.tables.of(play.cluster.tenant()).size())
}

/// Every write-back.
pub(crate) fn writebacks(play: &Play) -> Vec<chaperone_core::ids::WritebackId> {
    play.cluster.world.with(|inner| {
        let listing = chaperone_core::ports::Listing {
            limit: 1_000,
            ..chaperone_core::ports::Listing::default()
        };
        let tenant = inner.state.tables.of(play.cluster.tenant());
        let rows = tenant.projections("writeback", &listing);
        rows.iter()
            .filter_map(|row| row.key.key.parse().ok())
            .collect()
    })
}

/// Whether everything that was taken in has ended.
pub(crate) fn is_at_rest(play: &Play) -> bool {
    let open = [
        StateName::Proposed,
        StateName::Validated,
        StateName::AwaitingVerification,
        StateName::AwaitingApproval,
        StateName::Ready,
        StateName::Delivering,
        StateName::AwaitingSignature,
        StateName::Unknown,
        StateName::DeadLetter,
        StateName::Quarantined,
    ];
    let names: Vec<&str> = open.iter().map(|it| it.as_str()).collect();
    rows(play, &names).is_empty() && cohorts::open_jobs(play).is_empty()
}
